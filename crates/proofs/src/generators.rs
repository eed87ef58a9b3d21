//! The generators of every commitment, from a domain string: nobody knows a relation between two of them.

use curve25519_dalek::ristretto::{RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::MultiscalarMul;
use sha2::{Digest, Sha512};
use tari_bulletproofs_plus::PedersenGens;
use tari_bulletproofs_plus::generators::pedersen_gens::ExtensionDegree;
use tari_bulletproofs_plus::range_parameters::RangeParameters;

use crate::claim::Claim;

/// `G_0 .. G_(L-1)` for the entries of a row, `H` for what blinds it, `U` for single values, and those of the range proof.
///
/// Each is the ristretto255 one-way map (RFC 9496, section 4.3.4) of SHA-512 over the domain, its letter and its index.
/// They depend on nothing else: a longer list begins with the shorter one. Making them takes about 12 microseconds each;
/// a round's claim needs them once.
pub struct Generators {
    entries: Vec<RistrettoPoint>,
    blinding: RistrettoPoint,
    blinding_table: RistrettoBasepointTable,
    value: RistrettoPoint,
    range: RangeParameters<RistrettoPoint>,
}

const DOMAIN: &[u8] = b"sordino/proofs/v1/generator";

/// The range proof's bits: a slack is in `[0, 2^64)`.
const RANGE_BITS: usize = 64;

impl Generators {
    /// Those that statements and proofs of this claim need.
    #[must_use]
    pub fn of(claim: &Claim) -> Self {
        Self::of_all([claim])
    }

    /// Those that statements and proofs of each of these claims need.
    #[must_use]
    pub fn of_all<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Self {
        let needs = claims.into_iter().map(needs);
        let (len, bounds) = needs.fold((0, 1), |most, need| (most.0.max(need.0), most.1.max(need.1)));
        let (blinding, value) = (generator(b'H', 0), generator(b'U', 0));
        let pedersen = PedersenGens {
            h_base: value,
            h_base_compressed: value.compress(),
            g_base_vec: vec![blinding],
            g_base_compressed_vec: vec![blinding.compress()],
            extension_degree: ExtensionDegree::DefaultPedersen,
        };
        let range = RangeParameters::init(RANGE_BITS, bounds, pedersen)
            .expect("64 bits and a power of two of at most SEGMENTS_MAX bounds are what the range proof takes");
        Self {
            entries: (0u32..).take(len).map(|at| generator(b'G', at)).collect(),
            blinding,
            blinding_table: RistrettoBasepointTable::create(&blinding),
            value,
            range,
        }
    }

    /// Those of a smaller claim would leave columns unbound: nothing goes on with them.
    pub(crate) fn check(&self, claim: &Claim) {
        let (len, bounds) = needs(claim);
        let enough = self.entries.len() >= len && self.range.max_aggregation_factor() >= bounds;
        assert!(enough, "generators were made for a smaller claim: use Generators::of with this one");
    }

    /// `G`, one for each entry of a row.
    pub(crate) fn entries(&self) -> &[RistrettoPoint] {
        &self.entries
    }

    /// `H`.
    pub(crate) fn blinding(&self) -> &RistrettoPoint {
        &self.blinding
    }

    /// `U`.
    pub(crate) fn value(&self) -> &RistrettoPoint {
        &self.value
    }

    pub(crate) fn range(&self) -> &RangeParameters<RistrettoPoint> {
        &self.range
    }

    /// `blinding * H`, in constant time.
    pub(crate) fn blind(&self, blinding: &Scalar) -> RistrettoPoint {
        blinding * &self.blinding_table
    }

    /// `value * U + blinding * H`, in constant time.
    pub(crate) fn commit(&self, value: &Scalar, blinding: &Scalar) -> RistrettoPoint {
        value * self.value + self.blind(blinding)
    }

    /// `<row, G> + blinding * H`, in constant time.
    pub(crate) fn commit_row(&self, row: &[Scalar], blinding: &Scalar) -> RistrettoPoint {
        RistrettoPoint::multiscalar_mul(row, &self.entries[..row.len()]) + self.blind(blinding)
    }
}

impl std::fmt::Debug for Generators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generators").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Entries of a row, and bounds of one range proof.
fn needs(claim: &Claim) -> (usize, usize) {
    let len = claim.layout().row_len.max(claim.range_layout().row_len);
    (len, claim.segments().len().next_power_of_two())
}

fn generator(letter: u8, index: u32) -> RistrettoPoint {
    let mut hash = Sha512::new();
    hash.update(DOMAIN);
    hash.update([letter]);
    hash.update(index.to_le_bytes());
    RistrettoPoint::from_uniform_bytes(&hash.finalize().into())
}
