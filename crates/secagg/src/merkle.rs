//! Merkle trees as in RFC 9162, section 2.1: one hash for a list, short proofs for its items.

use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Hashes in the inclusion proof of one item of a list of at most `len`, at most.
#[must_use]
pub const fn path_max(len: usize) -> usize {
    len.next_power_of_two().trailing_zeros() as usize
}

/// The hash of one item of the list; RFC 9162: `SHA-256(0x00 || item)`.
#[must_use]
pub fn leaf(item: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(item).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over leaf hashes in their order; of the empty list, the hash of nothing.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    Tree::new(leaves.to_vec()).root()
}

/// A tree with all of its nodes: 64 bytes per leaf, and each proof costs no hashing.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first. A node without a sibling rises as it is, which gives the tree that RFC 9162 splits from above.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Over leaf hashes in their order.
    #[must_use]
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let (pairs, single) = below.as_chunks::<2>();
            let nodes = pairs.iter().map(|[left, right]| node(left, right));
            let level = nodes.chain(single.first().copied()).collect();
            levels.push(level);
        }
        Self { levels }
    }

    /// The root; of the empty list, the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// Hashes with which the leaf at `index` leads to the root, from below (RFC 9162, section 2.1.3.1); `None` outside of
    /// the list.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        let leaves = self.levels.first()?;
        if index >= leaves.len() {
            return None;
        }
        let siblings = self.levels.iter().enumerate().map(|(height, level)| level.get((index >> height) ^ 1));
        Some(siblings.flatten().copied().collect())
    }
}

/// The root that a leaf at `index` of `len` leads to with its path (RFC 9162, section 2.1.3.2); `None` for a path of
/// another length than such a leaf has, or an index outside of the list.
#[must_use]
pub fn root_of_path(leaf: &Hash, index: usize, len: usize, path: &[Hash]) -> Option<Hash> {
    if index >= len {
        return None;
    }
    let mut path = path.iter();
    let (mut at, mut last, mut hash) = (index, len - 1, *leaf);
    while last > 0 {
        if at % 2 == 1 {
            hash = node(path.next()?, &hash);
        } else if at < last {
            hash = node(&hash, path.next()?);
        }
        at /= 2;
        last /= 2;
    }
    path.next().is_none().then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves and roots of the Certificate Transparency reference tests (certificate-transparency-go, `merkle`).
    #[test]
    fn roots_agree_with_certificate_transparency() {
        let items: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves = items.map(leaf);
        for (len, expected) in (1..).zip(roots) {
            assert_eq!(hex::encode(root(&leaves[..len])), expected, "{len} leaves");
        }
    }

    /// Every leaf of every small tree leads to its root, and no other leaf, place, length or path does.
    #[test]
    fn paths_lead_to_the_root_and_nothing_else_does() {
        for len in 1..70usize {
            let leaves: Vec<Hash> = (0..len).map(|at| leaf(&at.to_le_bytes())).collect();
            let tree = Tree::new(leaves.clone());
            assert_eq!(tree.root(), from_above(&leaves), "{len} leaves");
            assert_eq!(tree.path(len), None);
            for (at, hash) in leaves.iter().enumerate() {
                let path = tree.path(at).expect("in the list");
                assert!(path.len() <= path_max(len));
                let leads =
                    |hash: &Hash, at, len, path: &[Hash]| root_of_path(hash, at, len, path) == Some(tree.root());
                assert!(leads(hash, at, len, &path));
                assert!(!leads(&leaf(b"another"), at, len, &path));
                for other in (0..len + 2).filter(|other| *other != at) {
                    assert!(!leads(hash, other, len, &path), "{at} of {len} is not at {other}");
                }
                assert!(!leads(hash, at, len, &[&path[..], &[[0; 32]]].concat()));
                for cut in 0..path.len() {
                    assert!(!leads(hash, at, len, &path[..cut]));
                    let mut changed = path.clone();
                    changed[cut][31] ^= 1;
                    assert!(!leads(hash, at, len, &changed));
                }
            }
        }
    }

    /// RFC 9162, section 2.1.1, as it stands there: split at the largest power of two below the length.
    fn from_above(leaves: &[Hash]) -> Hash {
        match leaves {
            [only] => *only,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&from_above(left), &from_above(right))
            }
        }
    }
}
