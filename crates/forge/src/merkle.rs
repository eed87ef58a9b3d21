//! Merkle trees as RFC 9162, section 2.1, writes them down: recursively, from above.

use crate::Hash;
use sha2::{Digest as _, Sha256};

/// `SHA-256(0x00 || item)`.
#[must_use]
pub fn leaf(item: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(item).finalize().into()
}

/// The tree hash over leaf hashes (section 2.1.1).
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            Sha256::new().chain_update([1]).chain_update(root(left)).chain_update(root(right)).finalize().into()
        }
    }
}

/// The path from the leaf at `index`, from below (section 2.1.3.1); empty for an index outside of the list.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut below, sibling) = if index < at { (path(left, index), right) } else { (path(right, index - at), left) };
    below.push(root(sibling));
    below
}

/// The largest power of two below the length, which is at least 2.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves and roots of the Certificate Transparency reference tests (certificate-transparency-go, `merkle`).
    #[test]
    fn roots_agree_with_certificate_transparency() {
        let items: [&[u8]; 5] = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        ];
        let leaves = items.map(leaf);
        for (len, expected) in (1..).zip(roots) {
            assert_eq!(hex::encode(root(&leaves[..len])), expected, "{len} leaves");
        }
    }

    /// From below, each path leads to the root, left or right by the bits of the index.
    #[test]
    fn paths_lead_to_the_root() {
        let leaves: Vec<Hash> = (0..8u8).map(|item| leaf(&[item])).collect();
        let node = |left: Hash, right: Hash| -> Hash {
            Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
        };
        for (index, start) in leaves.iter().enumerate() {
            let path = path(&leaves, index);
            let climb = path.iter().enumerate().fold(*start, |hash, (height, sibling)| {
                if index >> height & 1 == 0 { node(hash, *sibling) } else { node(*sibling, hash) }
            });
            assert_eq!((path.len(), climb), (3, root(&leaves)), "leaf {index}");
        }
        assert!(path(&leaves, 8).is_empty() && path(&leaves[..1], 0).is_empty());
    }
}
