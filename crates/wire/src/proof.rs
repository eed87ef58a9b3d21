//! What the proof of an input shows: bounds that follow from the policy, the same for every participant of a round.
//!
//! A proof speaks of the integers that are masked: after rounding, and with the participant's share of the noise where
//! there is one. An honest input is always within (up to a chance below 2^-59 where it carries noise); what a dishonest
//! one may do with the room that rounding and noise leave is the [effective bound](RoundProof::effective_bound).

use crate::Digest;
use crate::policy::{CheckedPolicy, PolicyError, Proof};
use crate::privacy::{RoundPrivacy, RoundTerms};
use sordino_codec::Encoding;
use sordino_proofs::{
    BlindingLimbs, Claim, ClaimError, ClaimSpec, Commitments, Generators, Interval, NormBound, Segment, Setting,
};
use sordino_secagg::{Context, ParticipantId, ProofTerms};

/// What every input of a round proves.
#[derive(Debug, Clone)]
pub struct RoundProof {
    /// The bounds.
    pub claim: Claim,
    /// How the blindings of its commitments travel in the masked vector.
    pub limbs: BlindingLimbs,
    /// The norm that an input of full weight is proven to be within, in clip norms: what an attacker may send.
    pub effective_bound: f64,
    /// What the coordinator proves of its noise, where it adds it.
    pub noise: Option<NoiseBound>,
    /// See [`Self::terms`].
    terms: Digest,
}

/// What is proven of the noise that the coordinator adds to a sum: its size. Neither that it was drawn from the distribution
/// that the policy names, nor that it is independent of the sum.
#[derive(Debug, Clone)]
pub struct NoiseBound {
    /// The bounds of the noise on one group's sum, laid out as an input's: the weight gets none.
    pub claim: Claim,
    /// The norm that it is within, in clip norms.
    pub clip_norms: f64,
}

impl RoundProof {
    /// Ring elements that the blindings take behind the metrics.
    #[must_use]
    pub fn blinding_elements(&self) -> usize {
        self.claim.rows() * self.limbs.per_scalar()
    }

    /// What an attempt binds of it: beside the claim also the invited, by whom a sum may be divided, and the noise, which may be
    /// as large as its own claim says. Participants sign it with their commitments, so that neither is anything else in a
    /// Release.
    ///
    /// # Panics
    /// Never: the longest claim takes less than a megabyte.
    #[must_use]
    pub fn terms(&self) -> ProofTerms {
        let len = |bytes: usize| u32::try_from(bytes).expect("the longest claim takes less than a megabyte");
        ProofTerms {
            claim: self.terms.0,
            commitments_len: len(Commitments::byte_len(&self.claim)),
            proof_len: len(sordino_proofs::Proof::byte_len(&self.claim)),
        }
    }

    /// Where a participant's proof belongs. The attempt's own context binds the model, the ring and the nonce.
    #[must_use]
    pub fn context<'a>(context: &'a Context, participant: &'a ParticipantId) -> sordino_proofs::Context<'a> {
        Self::context_of(context, participant.as_str().as_bytes())
    }

    /// Where the coordinator's proof of its noise belongs.
    #[must_use]
    pub fn noise_context(context: &Context) -> sordino_proofs::Context<'_> {
        Self::context_of(context, COORDINATOR)
    }

    fn context_of<'a>(context: &'a Context, prover: &'a [u8]) -> sordino_proofs::Context<'a> {
        sordino_proofs::Context {
            federation: &context.federation,
            task: &context.task,
            round: context.round,
            attempt: context.attempt,
            participant: prover,
            policy: context.policy,
            session: *context.digest().as_bytes(),
        }
    }

    /// The generators of all that is proven.
    #[must_use]
    pub fn generators(&self) -> Generators {
        Generators::of_all([&self.claim].into_iter().chain(self.noise.iter().map(|noise| &noise.claim)))
    }
}

impl CheckedPolicy {
    /// What every input proves for a model of `model_len` values in a round of these terms; none where the policy asks for
    /// no proof.
    ///
    /// # Errors
    /// [`PolicyError`]: the bounds cannot be proven, or rounding and the share of noise in an input leave room for more than
    /// `privacy.max_effective_bound`.
    pub fn round_proof(&self, model_len: usize, terms: &RoundTerms) -> Result<Option<RoundProof>, PolicyError> {
        let policy = self.policy();
        if policy.robustness.proof != Proof::Transparent {
            return Ok(None);
        }
        let encoding = self.plain_encoding(model_len, terms)?;
        let (share, central) = match self.round_privacy(model_len, terms)? {
            Some(RoundPrivacy::Participant(round)) => (round.share_sigmas(), round.central_sigmas()),
            Some(RoundPrivacy::Record(_)) | None => (None, None),
        };
        let (model_sigma, metric_sigmas) = share.unwrap_or_default();
        let claim = claim(&encoding, model_sigma, &metric_sigmas)?;
        let bound_at = |claim: &Claim, weight: f64| effective_bound(claim, &encoding, weight);
        let effective_bound = bound_at(&claim, f64::from(encoding.spec().max_weight));
        let max = policy.privacy.max_effective_bound;
        if effective_bound > max {
            let ways_out = if model_sigma > 0.0 { WAYS_OUT_OF_NOISE } else { "raise encoding.precision_bits" };
            return Err(PolicyError::EffectiveBound { model_len, effective_bound, max, ways_out });
        }
        let limbs = BlindingLimbs::new(encoding.bits().get().into(), encoding.spec().cohort_max as usize);
        // A ring that holds the sum of a cohort's inputs has more elements than the cohort has participants.
        let limbs = limbs.ok_or(PolicyError::OutOfRange {
            key: "cohort.target",
            value: encoding.spec().cohort_max.to_string(),
            range: "below the number of elements of the ring",
        })?;
        let noise = central.map(|(model_sigma, metric_sigmas)| {
            let claim = noise_claim(&encoding, model_sigma, &metric_sigmas)?;
            Ok::<_, ClaimError>(NoiseBound { clip_norms: bound_at(&claim, 1.0), claim })
        });
        let noise = noise.transpose().map_err(PolicyError::NoiseClaim)?;
        let terms = digest_of_terms(&claim, terms, noise.as_ref());
        Ok(Some(RoundProof { claim, limbs, effective_bound, noise, terms }))
    }
}

/// A label; the inputs' claim; the invited, 4 bytes; the noise multiplier, 8 bytes; none, or 1 and the noise's claim.
fn digest_of_terms(claim: &Claim, terms: &RoundTerms, noise: Option<&NoiseBound>) -> Digest {
    let &RoundTerms { cohort, noise_multiplier } = terms;
    let mut bytes = TERMS_LABEL.to_vec();
    bytes.extend_from_slice(claim.digest());
    bytes.extend_from_slice(&cohort.to_be_bytes());
    bytes.extend_from_slice(&noise_multiplier.to_bits().to_be_bytes());
    match noise {
        None => bytes.push(0),
        Some(noise) => {
            bytes.push(1);
            bytes.extend_from_slice(noise.claim.digest());
        }
    }
    Digest::of(&bytes)
}

/// Of too much room for a share of the noise.
const WAYS_OUT_OF_NOISE: &str = "each input has a share of the noise: let the coordinator add it (privacy.noise = \
    \"coordinator\"), protect records (privacy.unit = \"record\")";
const TERMS_LABEL: &[u8] = b"sordino/round-terms/v1\n";

/// The bounds of inputs of this encoding that carry noise of these standard deviations, in grid steps.
fn claim(encoding: &Encoding, model_sigma: f64, metric_sigmas: &[f64]) -> Result<Claim, ClaimError> {
    let spec = encoding.spec();
    let metrics = spec.metrics.iter().zip(encoding.metric_bounds()).enumerate();
    let values = metrics.map(|(k, (metric, &bound))| {
        let reach = integer((DEVIATIONS * metric_sigmas.get(k).copied().unwrap_or(0.0)).ceil());
        let (low, high) = (integer((metric.min / metric.resolution).floor()), i64::try_from(bound).unwrap_or(i64::MAX));
        Interval { low: low.saturating_sub(reach), high: high.saturating_add(reach) }
    });
    let values: Vec<_> = values.collect();
    let with = |bound| {
        Claim::new(ClaimSpec {
            segments: vec![Segment { len: spec.model_len, bound }],
            weight: Some(Interval { low: 1, high: spec.max_weight.into() }),
            values: values.clone(),
            entries: None,
            centre: None,
            setting: Setting::Fast,
        })
    };
    if spec.max_weight == 1 {
        let exact = encoding.norm_bound(1).squared();
        let noised = if model_sigma > 0.0 { with_noise(exact, spec.model_len, model_sigma) } else { exact };
        return with(NormBound::constant(u64::try_from(noised).unwrap_or(u64::MAX)));
    }
    // As finely as the bound can be said: with most binary places.
    let finest = (1..=SCALE_BITS_MAX).rev().find_map(|scale_bits| with(weighted(encoding, scale_bits)).ok());
    finest.map_or_else(|| with(weighted(encoding, 0)), Ok)
}

/// The bounds of noise of these standard deviations, in grid steps, by itself.
fn noise_claim(encoding: &Encoding, model_sigma: f64, metric_sigmas: &[f64]) -> Result<Claim, ClaimError> {
    let len = encoding.spec().model_len;
    let squared = u64::try_from(with_noise(0, len, model_sigma)).unwrap_or(u64::MAX);
    let within = |sigma: &f64| {
        let reach = integer((DEVIATIONS * sigma).ceil());
        Interval { low: -reach, high: reach }
    };
    Claim::new(ClaimSpec {
        segments: vec![Segment { len, bound: NormBound::constant(squared) }],
        weight: Some(Interval::only(0)),
        values: metric_sigmas.iter().map(within).collect(),
        entries: None,
        centre: None,
        setting: Setting::Fast,
    })
}

/// [`Encoding::norm_bound`] as a polynomial in the weight, each coefficient rounded up.
fn weighted(encoding: &Encoding, scale_bits: u32) -> NormBound {
    let spec = encoding.spec();
    #[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
    let d = spec.model_len as f64;
    let per_weight = spec.clip_norm / encoding.step();
    let scaled = |value: f64| {
        let scaled = (value * (1.0 + ROUNDING_SLACK) * f64::from(scale_bits).exp2()).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
        let scaled = scaled as u64;
        scaled
    };
    NormBound {
        scale_bits,
        per_square: scaled(per_weight * per_weight),
        per_weight: scaled(per_weight),
        constant: scaled(d / 4.0 + d.sqrt() / 2.0),
    }
}

/// A bound on the square of the norm of `x + e`, `|x|^2` at most `squared` and `e` noise of `len` values with standard
/// deviation `sigma`, that fails with a chance below `2 e^-TAIL`.
///
/// - `<x, e>` is sub-Gaussian with parameter `sigma |x|`: above `sigma |x| sqrt(2t)` with chance at most `e^-t`.
/// - `|e|^2` is above `sigma^2 (len + 2 sqrt(len t) + 2t)` with chance at most `e^-t` (Laurent and Massart 2000, lemma 1): they
///   use the moment generating function of the square of a Gaussian, and that of a discrete Gaussian is not larger, since
///   `sum_k exp(-2 pi^2 sigma^2 k^2)` falls with sigma (Poisson summation).
fn with_noise(squared: u128, len: usize, sigma: f64) -> u128 {
    #[expect(clippy::cast_precision_loss, reason = "rounding is covered by the slack")]
    let (squared, d) = (squared as f64, len as f64);
    let cross = 2.0 * squared.sqrt() * sigma * (2.0 * TAIL).sqrt();
    let noise = sigma * sigma * (d + 2.0 * (d * TAIL).sqrt() + 2.0 * TAIL);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
    let bound = ((squared + cross + noise) * (1.0 + ROUNDING_SLACK)).ceil() as u128;
    bound
}

/// What a claim bounds at this weight, over an update of clip norm at that weight.
fn effective_bound(claim: &Claim, encoding: &Encoding, weight: f64) -> f64 {
    let spec = encoding.spec();
    let NormBound { scale_bits, per_square, per_weight, constant } = claim.segments()[0].bound;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let scaled = (per_square as f64 * weight + per_weight as f64) * weight + constant as f64;
    (scaled / f64::from(scale_bits).exp2()).sqrt() * encoding.step() / (spec.clip_norm * weight)
}

fn integer(value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturating")]
    let integer = value as i64;
    integer
}

/// Who proves the size of the coordinator's noise: no participant's id has a slash.
const COORDINATOR: &[u8] = b"sordino/coordinator";
/// Natural logarithm of one over the chance of each of two bounds on noise: 2^-60.
const TAIL: f64 = 41.6;
/// Standard deviations of noise on a metric: a discrete Gaussian is beyond with a chance below 2^-103.
const DEVIATIONS: f64 = 12.0;
/// Relative: more than f64 rounding can take away in a few operations.
const ROUNDING_SLACK: f64 = 1e-14;
/// Binary places of a bound, at most: what a claim for the shortest model takes.
const SCALE_BITS_MAX: u32 = 43;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use sordino_dp::noise::NoiseRng;
    use sordino_proofs::Committed;
    use std::num::NonZeroUsize;

    const OPEN: &str = "[task]\nname = \"a\"\nrounds = 1\n[robustness]\nproof = \"transparent\"\n";

    fn checked(text: &str) -> CheckedPolicy {
        Policy::from_toml(text).and_then(Policy::check).expect("a policy")
    }

    fn weighted_policy(clip_norm: f64, max_weight: u32, precision_bits: u32) -> CheckedPolicy {
        checked(&format!(
            "{OPEN}[privacy]\nenabled = false\nclip_norm = {clip_norm:?}\n[encoding]\nmax_weight = {max_weight}\n\
             precision_bits = {precision_bits}\n"
        ))
    }

    /// What an attempt binds is another thing for each number of invited, multiplier, and bound of the noise.
    #[test]
    fn the_invited_and_the_noise_are_bound() {
        let policy = checked(&format!(
            "{OPEN}[privacy]\nunit = \"participant\"\nnoise = \"coordinator\"\nnoise_multiplier = 1.1\ntotal_epsilon = 1000.0\n"
        ));
        let claim = |cohort: u32, noise_multiplier: f64| {
            let terms = RoundTerms { cohort, noise_multiplier };
            policy.round_proof(100, &terms).expect("bounds").expect("a proof").terms().claim
        };
        let claims = [claim(10, 1.1), claim(9, 1.1), claim(10, 1.2)];
        assert!(claims[0] != claims[1] && claims[1] != claims[2] && claims[0] != claims[2], "{claims:?}");
        let proof = policy.round_proof(100, &policy.terms(10)).expect("bounds").expect("a proof");
        let without = digest_of_terms(&proof.claim, &policy.terms(10), None);
        assert_ne!(without, digest_of_terms(&proof.claim, &policy.terms(10), proof.noise.as_ref()));
    }

    /// Rounding alone can leave too much room, where the grid is coarse and the model long.
    #[test]
    fn a_coarse_grid_is_refused_as_well() {
        let policy = weighted_policy(1.0, 1, 4);
        let refused = policy.round_proof(1_000_000, &policy.terms(10)).expect_err("32 clip norms");
        assert!(matches!(refused, PolicyError::EffectiveBound { .. }), "{refused}");
        assert!(refused.to_string().contains("encoding.precision_bits"), "{refused}");
    }

    /// What the encoder lets through at a weight, the claim lets through: never less, and hardly more.
    #[test]
    fn the_claim_is_the_encoders_bound_at_every_weight() {
        for (clip_norm, max_weight, precision_bits) in [(1.0, 1000, 16), (0.7, 1000, 16), (3.3, 37, 20), (1e-3, 2, 8)] {
            let policy = weighted_policy(clip_norm, max_weight, precision_bits);
            for model_len in [1, 650, 100_000] {
                let terms = policy.terms(10);
                let proof = policy.round_proof(model_len, &terms).expect("bounds").expect("a proof");
                let encoding = policy.encoding(model_len, &terms).expect("an encoding");
                let bound = proof.claim.segments()[0].bound;
                for weight in 1..=max_weight {
                    let w = u128::from(weight);
                    let scaled = w * w * u128::from(bound.per_square) + w * u128::from(bound.per_weight);
                    let allowed = (scaled + u128::from(bound.constant)) >> bound.scale_bits;
                    let exact = encoding.norm_bound(weight).squared();
                    assert!(allowed >= exact, "{clip_norm} {max_weight} {model_len} {weight}: {allowed} {exact}");
                    assert!(allowed <= exact + 2 + exact / 1000, "{model_len} {weight}: {allowed} {exact}");
                }
            }
        }
    }

    #[test]
    fn blindings_have_room_behind_the_metrics() {
        let policy = weighted_policy(1.0, 1000, 16);
        let terms = policy.terms(10);
        let proof = policy.round_proof(1000, &terms).expect("bounds").expect("a proof");
        let encoding = policy.encoding(1000, &terms).expect("an encoding");
        assert_eq!(encoding.integers(), proof.claim.len());
        assert_eq!(encoding.len(), encoding.integers() + proof.claim.rows() * proof.limbs.per_scalar());
        let none = checked("[task]\nname = \"a\"\nrounds = 1\n");
        assert!(none.round_proof(1000, &none.terms(10)).expect("no bounds").is_none());
    }

    /// `sqrt(C^2 + s^2 d + tail)`: what the design's table says, for shares of the noise of 100 participants at z = 1.1.
    #[test]
    fn a_share_of_noise_loosens_the_bound_and_too_much_is_refused() {
        let text = |max: f64| {
            format!(
                "{OPEN}[privacy]\nunit = \"participant\"\nnoise = \"participants\"\nmax_effective_bound = {max:?}\n\
                 noise_multiplier = 1.1\ntotal_epsilon = 1000.0\n[cohort]\nmin = 100\ntarget = 100\nmax_dropout_fraction = 0.0\n\
                 max_corrupt_fraction = 0.0\n"
            )
        };
        let wide = checked(&text(1e9));
        for (model_len, expected) in [(650, 4.6), (2_410, 8.0)] {
            let terms = wide.terms(100);
            let proof = wide.round_proof(model_len, &terms).expect("bounds").expect("a proof");
            // The tail for a failure below 2^-60 comes on top of the design's figure.
            assert!((expected * 0.6..expected * 1.3).contains(&proof.effective_bound), "{}", proof.effective_bound);
        }
        let tight = checked(&text(3.0));
        let refused = tight.round_proof(2_410, &tight.terms(100)).expect_err("too loose");
        assert!(refused.to_string().contains("x clip norm"), "{refused}");
        assert!(matches!(refused, PolicyError::EffectiveBound { model_len: 2_410, .. }));
    }

    /// The coordinator's noise is within its own claim, whose rows are those of the inputs' claim; that is about z sqrt(d) clip
    /// norms long. Inputs have no room for it, and noise beyond what a proof hides is refused with what to change.
    #[test]
    fn noise_of_the_coordinator_has_bounds_of_its_own() {
        let text = |noise_multiplier: f64, precision_bits: u32| {
            format!(
                "{OPEN}[privacy]\nunit = \"participant\"\nnoise_multiplier = {noise_multiplier:?}\ntotal_epsilon = 1000.0\n\
                 [encoding]\nprecision_bits = {precision_bits}\n[[encoding.metrics]]\nname = \"loss\"\nmax = 9.0\n"
            )
        };
        let (policy, model_len, one) = (checked(&text(1.1, 16)), 2_410, NonZeroUsize::MIN);
        let terms = policy.terms(10);
        let proof = policy.round_proof(model_len, &terms).expect("bounds").expect("a proof");
        assert!(proof.effective_bound < 1.01, "{}", proof.effective_bound);
        let bound = proof.noise.as_ref().expect("the coordinator adds the noise");
        let expected = 1.1 * 2_410f64.sqrt();
        assert!((expected..expected * 1.2).contains(&bound.clip_norms), "{} {expected}", bound.clip_norms);
        assert_eq!((bound.claim.rows(), bound.claim.len()), (proof.claim.rows(), proof.claim.len()));

        let Some(RoundPrivacy::Participant(round)) = policy.round_privacy(model_len, &terms).expect("privacy") else {
            unreachable!("the policy says so")
        };
        let (generators, mut rng) = (proof.generators(), getrandom::rand_core::UnwrapErr(getrandom::SysRng));
        let encoding = policy.encoding(model_len, &terms).expect("an encoding");
        for _ in 0..20 {
            let mut noise = encoding.zero_sums();
            round.add_central(&mut noise, &mut NoiseRng::from_os(getrandom::fill).expect("entropy")).expect("noise");
            let integers: Vec<i64> = noise.integers().collect();
            assert!(Committed::new(&bound.claim, &generators, &integers, &mut rng, one).is_ok());
            assert!(
                Committed::new(&proof.claim, &generators, &integers, &mut rng, one).is_err(),
                "an input is smaller"
            );
        }
        let longer =
            checked(&text(1.1, 20)).round_proof(1 << 20, &terms).expect_err("the noise is longer than proofs hide");
        assert!(matches!(longer, PolicyError::NoiseClaim(_)) && longer.to_string().contains("fewer bits"), "{longer}");
    }

    /// An honest input of full norm with its share of noise is within the claim, and can be committed to.
    #[test]
    fn an_honest_noised_input_is_within() {
        let text = format!(
            "{OPEN}[privacy]\nunit = \"participant\"\nnoise = \"participants\"\nmax_effective_bound = 100.0\n\
             noise_multiplier = 5.0\n[[encoding.metrics]]\nname = \"loss\"\nmax = 9.0\n"
        );
        let policy = checked(&text);
        let terms = policy.terms(10);
        let (encoding, one) = (policy.encoding(50, &terms).expect("an encoding"), NonZeroUsize::MIN);
        let proof = policy.round_proof(50, &terms).expect("bounds").expect("a proof");
        let Some(RoundPrivacy::Participant(round)) = policy.round_privacy(50, &terms).expect("privacy") else {
            unreachable!("the policy says so")
        };
        let generators = Generators::of(&proof.claim);
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        for _ in 0..20 {
            let mut input = encoding.encode(&[1.0; 50], 1, &[9.0], &mut rng).expect("an input").vector;
            round.add_share(&mut input, &mut NoiseRng::from_os(getrandom::fill).expect("entropy")).expect("noise");
            let integers: Vec<i64> = input.iter_centered().take(encoding.integers()).collect();
            assert!(Committed::new(&proof.claim, &generators, &integers, &mut rng, one).is_ok());
        }
    }
}
