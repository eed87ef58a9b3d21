//! What anybody can check of a published round, from what is published alone: that its Release is what its policy makes of
//! its sum, and, where inputs carry proofs, that this is the sum of inputs within their bounds.
//!
//! A [`Manifest`] is a Release that hangs together with its policy; [`Manifest::verify`] takes the files that it names.
//! Participants check what they took part in, and an auditor what lies in a folder, by the same code. Nothing of what the
//! coordinator says is believed: numbers are computed again, files are compared with their digests, and who committed to
//! what is said by signatures that lead to a root certificate of the checker's own.

mod error;

pub use error::{AuditError, File};

use crate::api::{Assignment, Release, ReleaseConvergence, ReleaseGroup, ReleaseOptimizer, ReleaseProof, Round};
use crate::evidence::{Claimed, InputEvidence, SumEvidence};
use crate::{CheckedPolicy, Digest, RoundId, RoundPrivacy, RoundProof};
use serde::Serialize;
use sordino_codec::{Aggregate, Divisor, Encoding, FileLimits, Sums, Tensors};
use sordino_identity::{FederationId, PrincipalId, Role, TrustAnchors, decode_chain};
use sordino_secagg::{CERTIFICATES_MAX, CertificateKey, Context, ParticipantId};
use sordino_strategy::{ServerOptimizer, State};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    time::Duration,
};

/// A Release that fits its policy, as far as that shows without its files. Only [`Manifest::new`] makes one.
pub struct Manifest {
    policy: CheckedPolicy,
    federation: FederationId,
    round: Round,
    release: Release,
    encoding: Encoding,
    divisor: Divisor,
    proven: Option<Proven>,
    /// What the strategy remembers, where it does.
    remembered: Option<Remembered>,
}

/// What is said of what the optimiser remembers.
struct Remembered {
    stated: ReleaseOptimizer,
    /// The first state of all, if the round is said to begin with it.
    first: Option<State>,
}

/// What is said of inputs that carry proofs.
struct Proven {
    /// What every input proves, by the policy.
    proof: RoundProof,
    stated: ReleaseProof,
    /// Those whose inputs are in each group's sum, ascending.
    survivors: Vec<Vec<ParticipantId>>,
}

/// The files of a Release.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The sum.
    pub sum: &'a [u8],
    /// Those of its groups, in the order of the Release.
    pub groups: &'a [GroupFiles<'a>],
    /// The model that the round began with, where it is there.
    pub before: Option<&'a [u8]>,
    /// The model that came of it, where it is there.
    pub after: Option<&'a [u8]>,
    /// What the optimiser remembered before the round, where it is there; [`Manifest::state_before`] says whether it is asked
    /// for.
    pub state_before: Option<&'a [u8]>,
    /// What it remembered after it, where it is there.
    pub state_after: Option<&'a [u8]>,
}

/// The files of one group.
#[derive(Clone, Copy)]
pub struct GroupFiles<'a> {
    /// Its sum.
    pub sum: &'a [u8],
    /// What shows that this is the sum of inputs within their bounds.
    pub evidence: &'a [u8],
}

/// Whose signatures are believed: those of certificates that lead to these roots.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The federation's roots.
    pub roots: TrustAnchors,
    /// When the round was, since the Unix epoch: each certificate has to have held at a moment of it.
    pub during: RangeInclusive<Duration>,
}

/// What was found to hold of a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audited {
    /// The round.
    pub round: RoundId,
    /// The federation that its messages bind.
    pub federation: FederationId,
    /// The policy that it follows from.
    pub policy: Digest,
    /// The model that it began with.
    pub model_before: Digest,
    /// The model that came of it.
    pub model_after: Digest,
    /// Whether that was computed again, from the model before, what the optimiser remembered, and the sum. Without one of
    /// these it is not.
    pub model_recomputed: bool,
    /// What the optimiser remembered before and after, where it remembers anything. That the state before is the one that the
    /// task's Release before this one ended with shows from that Release, and from nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<ReleaseOptimizer>,
    /// How the metric stands that the policy watches. That the best value is that of the last Release that was an improvement
    /// shows from those before, and from nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convergence: Option<ReleaseConvergence>,
    /// The sum.
    pub sum: Digest,
    /// Sum of the weights.
    pub weight: u64,
    /// Sums of the metrics.
    pub metrics: BTreeMap<String, f64>,
    /// Those whose inputs are said to be in the sum.
    pub survivors: Vec<PrincipalId>,
    /// What is shown of each input; none where the policy asks for no proof: then nothing shows whose inputs are in the sum,
    /// or how large they are.
    pub bounds: Option<Bounds>,
}

/// What is shown of each input in a sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bounds {
    /// L2 norm that an honest update is clipped to.
    pub clip_norm: f64,
    /// The norm that every input is proven to be within, in clip norms.
    pub effective_bound: f64,
    /// The norm that the noise in each group's sum is proven to be within, in clip norms; none where the coordinator adds
    /// none. That this was drawn as noise, or does not shift the model, is not shown.
    pub noise_bound: Option<f64>,
    /// The bounds as a digest.
    pub claim: Digest,
    /// The groups whose sums make the sum.
    pub groups: Vec<AuditedGroup>,
    /// Groups whose sums were dropped, by the coordinator's word.
    pub dropped: usize,
}

/// One group whose sum is that of inputs that were proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditedGroup {
    /// Its number.
    pub group: u32,
    /// Its nonce.
    pub nonce: Digest,
    /// Its sum.
    pub sum: Digest,
    /// Its evidence.
    pub evidence: Digest,
    /// Whose inputs it is the sum of, ascending; each with a proof that was verified.
    pub inputs: Vec<AuditedInput>,
}

/// One input that is in a sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditedInput {
    /// Whose.
    pub id: String,
    /// SHA-256 of the commitments that it signed.
    pub commitments: Digest,
}

impl Manifest {
    /// Checks what shows without files: that the policy is the one that is said, that cohort, noise, claim and bound follow
    /// from it, and that nobody's input is in two groups.
    ///
    /// - `policy`: with the digest that the round is said to follow.
    /// - `model_len`: values of the round's model.
    ///
    /// # Errors
    /// [`AuditError`] says what does not fit.
    pub fn new(
        (policy, stated): (&CheckedPolicy, Digest),
        federation: &FederationId,
        round: &Round,
        model_len: usize,
    ) -> Result<Self, AuditError> {
        let found = policy.digest();
        if found != stated {
            return Err(AuditError::Policy { stated, found });
        }
        let release = round.release.clone().ok_or_else(|| AuditError::NoRelease { round: round.id.clone() })?;
        check_names(&release)?;
        let noise_of_release = release.privacy.as_ref().map(|privacy| privacy.noise_multiplier);
        let invited = u32::try_from(release.cohort.len()).unwrap_or(u32::MAX);
        let (group_size, noise_multiplier, groups) = match &release.proof {
            Some(proof) => (proof.cohort, proof.noise_multiplier, proof.groups.len()),
            None => (invited, noise_of_release, 1),
        };
        if noise_of_release.is_some() && noise_of_release != noise_multiplier {
            return Err(differ_in("noise of multiplier", noise_of_release, noise_multiplier));
        }
        let terms = policy.assigned_terms(group_size, noise_multiplier)?;
        let encoding = policy.encoding(model_len, &terms)?;
        let privacy = policy.round_privacy(model_len, &terms)?;
        same("a ring of bits", &release.ring_bits, &encoding.bits().get())?;
        let summed = u32::try_from(groups).ok().and_then(|groups| groups.checked_mul(group_size));
        let summed = summed.and_then(NonZeroU32::new).ok_or(AuditError::Names("no group was invited"))?;
        if summed.get() > invited {
            return Err(AuditError::Names("its groups are larger than its cohort"));
        }
        let divisor = RoundPrivacy::divisor(privacy.as_ref(), summed);
        let proven = match (policy.round_proof(model_len, &terms)?, &release.proof) {
            (Some(proof), Some(stated)) => Some(Proven::new(proof, stated, round, &release)?),
            (None, None) => None,
            (asked, _) => return Err(AuditError::Proof { asked: asked.is_some() }),
        };
        let remembered = Remembered::new(policy.optimizer(), round, &release, model_len)?;
        let (policy, federation, round) = (policy.clone(), federation.clone(), round.clone());
        let manifest = Self { policy, federation, round, release, encoding, divisor, proven, remembered };
        manifest.check_survivor_counts()?;
        Ok(manifest)
    }

    /// The groups whose files [`Manifest::verify`] asks for, in their order; none where inputs carry no proof.
    #[must_use]
    pub fn groups(&self) -> &[ReleaseGroup] {
        self.proven.as_ref().map_or(&[], |proven| &proven.stated.groups)
    }

    /// The file that [`Manifest::verify`] needs of what the optimiser remembered before the round, and its bytes at most; none
    /// where nothing is remembered, or the round begins with the first state, which follows from the policy.
    #[must_use]
    pub fn state_before(&self) -> Option<(Digest, usize)> {
        let remembered = self.remembered.as_ref().filter(|remembered| remembered.first.is_none())?;
        Some((remembered.stated.before, State::file_len_max(self.encoding.spec().model_len)))
    }

    /// Bytes of the sum, and of a group's.
    #[must_use]
    pub fn sum_len(&self) -> usize {
        self.encoding.integers() * INTEGER_LEN
    }

    /// Bytes of a group's evidence, at most: nothing longer is worth fetching.
    #[must_use]
    pub fn evidence_len_max(&self, group: &ReleaseGroup) -> usize {
        let Some(Proven { proof, .. }) = &self.proven else { return 0 };
        let terms = proof.terms();
        // Every length that stands in front of something, twice over.
        let of_input = CERTIFICATES_MAX + 512 + terms.commitments_len as usize + terms.proof_len as usize;
        let blindings = proof.claim.rows() * BLINDING_LEN;
        (group.survivors.len() + BESIDE_INPUTS) * (of_input + blindings)
    }

    /// Checks the files, and with them the rest of the Release.
    ///
    /// It takes about as long as the coordinator took to verify the proofs.
    ///
    /// # Errors
    /// [`AuditError`] says what does not fit, and where.
    pub fn verify(&self, files: &Files<'_>, trust: &Trust, threads: NonZeroUsize) -> Result<Audited, AuditError> {
        let release = &self.release;
        let sum = self.integers(File::Sum, files.sum, release.sum)?;
        let bounds = match &self.proven {
            Some(proven) => Some(self.verify_groups(proven, files.groups, &sum, trust, threads)?),
            None if files.groups.is_empty() => None,
            None => return Err(AuditError::GroupCount { expected: 0, found: files.groups.len() }),
        };
        let sums = self.sums(sum)?;
        let aggregate = self.encoding.aggregate(&sums, self.divisor);
        same("a weight of", &release.weight, &aggregate.weight_sum)?;
        let names = self.policy.policy().encoding.metrics.iter().map(|metric| metric.name.clone());
        let metrics: BTreeMap<_, _> = names.zip(aggregate.metrics.iter().copied()).collect();
        if release.metrics != metrics {
            return Err(differ("metrics", &format!("{:?}", release.metrics), &format!("{metrics:?}")));
        }
        let stated = release.convergence.as_ref();
        if !self.policy.admits_convergence(stated, &aggregate, self.round.id.number) {
            let found = self.policy.convergence(None, &aggregate).map(|stands| stands.value);
            return Err(AuditError::Convergence { stated: release.convergence, found });
        }
        let model_recomputed = self.verify_step(files, &aggregate)?;
        if let Some(after) = files.after {
            is_named(File::ModelAfter, after, release.model)?;
        }
        if let (Some(remembered), Some(after)) = (&self.remembered, files.state_after) {
            is_named(File::StateAfter, after, remembered.stated.after)?;
        }
        Ok(Audited {
            round: self.round.id.clone(),
            federation: self.federation.clone(),
            policy: self.policy.digest(),
            model_before: self.round.model,
            model_after: release.model,
            model_recomputed,
            optimizer: release.optimizer,
            convergence: release.convergence,
            sum: release.sum,
            weight: release.weight,
            metrics,
            survivors: release.survivors.clone(),
            bounds,
        })
    }

    /// Computes the next model again, and what the optimiser remembers next; false where a file for that is not there.
    fn verify_step(&self, files: &Files<'_>, aggregate: &Aggregate) -> Result<bool, AuditError> {
        let release = &self.release;
        if let (Some(remembered), Some(state)) = (&self.remembered, files.state_before) {
            is_named(File::StateBefore, state, remembered.stated.before)?;
        }
        let Some(before) = files.before else { return Ok(false) };
        is_named(File::ModelBefore, before, self.round.model)?;
        let before = Tensors::from_safetensors(before, &FileLimits::default())?;
        let (model_len, second) = (self.encoding.spec().model_len, self.policy.optimizer().has_second_moment());
        let state = match (&self.remembered, files.state_before) {
            (None, _) => None,
            (Some(Remembered { first: Some(first), .. }), _) => Some(first.clone()),
            (Some(_), Some(state)) => Some(State::from_bytes(state, model_len, second)?),
            (Some(_), None) => return Ok(false),
        };
        let (state, next) = self.policy.next_model(state.as_ref(), &before, aggregate)?;
        let found = Digest::of(&next.to_safetensors());
        if found != release.model {
            return Err(AuditError::NextModel { stated: release.model, found });
        }
        if let (Some(remembered), Some(state)) = (&self.remembered, state) {
            let (stated, found) = (remembered.stated.after, Digest::of(&state.to_bytes()));
            if found != stated {
                return Err(AuditError::NextState { stated, found });
            }
        }
        Ok(true)
    }

    /// No sum opens with fewer inputs than the policy asks for.
    fn check_survivor_counts(&self) -> Result<(), AuditError> {
        let few = |count: usize, least: u32| (count as u64) < u64::from(least);
        let Some(proven) = &self.proven else {
            return if few(self.release.survivors.len(), self.policy.policy().cohort.min) {
                Err(AuditError::Names("fewer inputs are in its sum than the policy lets open"))
            } else {
                Ok(())
            };
        };
        for (group, survivors) in proven.stated.groups.iter().zip(&proven.survivors) {
            if few(survivors.len(), self.context(proven, group).min_survivors) {
                return Err(AuditError::Names("fewer inputs are in a group's sum than the policy lets open"));
            }
            // What the sum is divided by is the number of those who were invited.
            if survivors.len() as u64 > u64::from(proven.stated.cohort) {
                return Err(AuditError::Names("more inputs are in a group's sum than participants were invited"));
            }
        }
        Ok(())
    }

    /// What the attempt of a group was about, as its participants signed it.
    fn context(&self, proven: &Proven, group: &ReleaseGroup) -> Context {
        let ReleaseProof { attempt, cohort, noise_multiplier, .. } = proven.stated;
        let assignment = Assignment {
            round: self.round.id.clone(),
            attempt,
            nonce: group.nonce,
            model: self.round.model,
            policy_digest: self.policy.digest(),
            time_left: 0,
            cohort,
            noise_multiplier,
        };
        self.policy.context(&self.federation, &assignment, (&self.encoding, Some(&proven.proof)))
    }

    /// Checks each group's sum by its evidence, and that they add up to the whole.
    fn verify_groups(
        &self,
        proven: &Proven,
        files: &[GroupFiles<'_>],
        sum: &[i64],
        trust: &Trust,
        threads: NonZeroUsize,
    ) -> Result<Bounds, AuditError> {
        let Proven { proof, stated, survivors } = proven;
        if files.len() != stated.groups.len() {
            return Err(AuditError::GroupCount { expected: stated.groups.len(), found: files.len() });
        }
        let generators = proof.generators();
        let mut total = vec![0_i64; sum.len()];
        let mut groups = Vec::with_capacity(files.len());
        for ((group, files), survivors) in stated.groups.iter().zip(files).zip(survivors) {
            let number = group.group;
            let integers = self.integers(File::GroupSum(number), files.sum, group.sum)?;
            is_named(File::Evidence(number), files.evidence, group.evidence)?;
            let failed = |source| AuditError::Evidence { group: number, source };
            let evidence = SumEvidence::from_bytes(files.evidence).map_err(failed)?;
            let context = self.context(proven, group);
            let claimed = Claimed { context: &context, proof, survivors, integers: &integers };
            evidence.verify(&claimed, &generators, |id, chain| trust.key_of(id, chain), threads).map_err(failed)?;
            for (at, (total, value)) in total.iter_mut().zip(&integers).enumerate() {
                *total = total.checked_add(*value).ok_or(AuditError::Total { at })?;
            }
            let input = |input: &InputEvidence| AuditedInput {
                id: input.signed.id.to_string(),
                commitments: Digest::of(&input.signed.commitments),
            };
            groups.push(AuditedGroup {
                group: number,
                nonce: group.nonce,
                sum: group.sum,
                evidence: group.evidence,
                inputs: evidence.inputs.iter().map(input).collect(),
            });
        }
        if let Some(at) = total.iter().zip(sum).position(|(total, value)| total != value) {
            return Err(AuditError::Total { at });
        }
        Ok(Bounds {
            clip_norm: self.policy.policy().clip_norm(),
            effective_bound: proof.effective_bound,
            noise_bound: proof.noise.as_ref().map(|noise| noise.clip_norms),
            claim: stated.claim,
            groups,
            dropped: stated.failed.len(),
        })
    }

    /// A sum as integers, if the file is the one that the Release names.
    fn integers(&self, file: File, bytes: &[u8], stated: Digest) -> Result<Vec<i64>, AuditError> {
        is_named(file, bytes, stated)?;
        let (expected, found) = (self.sum_len(), bytes.len());
        if found != expected {
            return Err(AuditError::Length { file, expected, found });
        }
        let (words, _) = bytes.as_chunks::<INTEGER_LEN>();
        Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
    }

    /// Integers in the order of the encoding, taken apart.
    fn sums(&self, mut model: Vec<i64>) -> Result<Sums, AuditError> {
        let contributors = u32::try_from(self.release.survivors.len()).unwrap_or(u32::MAX);
        let mut tail = model.split_off(self.encoding.spec().model_len);
        let metrics = tail.split_off(1);
        let weight = u64::try_from(tail[0]).map_err(|_| AuditError::Weight { found: tail[0] })?;
        Ok(Sums { model, weight, metrics, contributors })
    }
}

impl Remembered {
    /// What a Release states of what the optimiser remembers, if that fits the policy and the round.
    fn new(
        optimizer: ServerOptimizer,
        round: &Round,
        release: &Release,
        model_len: usize,
    ) -> Result<Option<Self>, AuditError> {
        let stated = match (release.optimizer, optimizer.is_stateful()) {
            (Some(stated), true) => stated,
            (None, false) => return Ok(None),
            (_, asked) => return Err(AuditError::Optimizer { asked }),
        };
        let first = optimizer.initial(model_len);
        let found = first.as_ref().map(|state| Digest::of(&state.to_bytes()));
        let first = first.filter(|_| found == Some(stated.before));
        // Nothing was released before it that could have moved the state.
        if let (1, None, Some(found)) = (round.id.number, &first, found) {
            return Err(AuditError::FirstState { stated: stated.before, found });
        }
        Ok(Some(Self { stated, first }))
    }
}

impl Proven {
    /// What a Release states of proofs, if it follows from the policy.
    fn new(proof: RoundProof, stated: &ReleaseProof, round: &Round, release: &Release) -> Result<Self, AuditError> {
        same("attempt", &stated.attempt, &round.attempt)?;
        same("a claim of", &stated.claim, &Digest(*proof.claim.digest()))?;
        same_number("an effective bound of", Some(stated.effective_bound), Some(proof.effective_bound))?;
        let (said, found) = (stated.noise.as_ref(), proof.noise.as_ref());
        let found = found.map(|noise| noise.clip_norms);
        same_number("a bound on the coordinator's noise of", said.map(|noise| noise.effective_bound), found)?;
        if !stated.groups.is_sorted_by(|a, b| a.group < b.group) {
            return Err(AuditError::Names("groups are not in their order, or one of them is there twice"));
        }
        let mut all: Vec<_> = stated.groups.iter().flat_map(|group| &group.survivors).collect();
        all.sort_unstable();
        if !all.iter().copied().eq(&release.survivors) {
            return Err(AuditError::Names("the survivors of its groups together are not its survivors"));
        }
        let failed = stated.failed.iter().flat_map(|group| &group.survivors);
        if failed.clone().any(|id| release.survivors.binary_search(id).is_ok()) {
            return Err(AuditError::Names("a survivor is in a group that was dropped"));
        }
        let survivors = stated.groups.iter().map(|group| {
            ascending(&group.survivors, "a group's survivors are not ascending")?;
            let name = |id: &PrincipalId| ParticipantId::new(id.as_str());
            let names = group.survivors.iter().map(name).collect::<Result<Vec<_>, _>>();
            names.map_err(|_| AuditError::Names("a survivor's name is none of a participant"))
        });
        let survivors = survivors.collect::<Result<_, _>>()?;
        Ok(Self { proof, stated: stated.clone(), survivors })
    }
}

impl Trust {
    /// The key in a certificate chain, if that leads to a root and names the participant.
    ///
    /// # Errors
    /// Why it is not believed, in a sentence for people.
    pub fn key_of(&self, id: &ParticipantId, chain: &[u8]) -> Result<CertificateKey, String> {
        let chain = decode_chain(chain).ok_or("it cannot be read")?;
        let verified = self.roots.verify_client_during(&chain, &self.during).map_err(|error| error.to_string())?;
        let principal = verified.principal();
        if principal.role != Role::Client || principal.id.as_str() != id.as_str() {
            return Err(format!("it is that of {} {}", principal.role, principal.id));
        }
        let key = verified.public_key().and_then(|key| CertificateKey::from_bytes(&key.to_bytes()).ok());
        key.ok_or_else(|| "its key is neither Ed25519 nor P-256".to_owned())
    }

    /// When a round was, by the word of its coordinator.
    #[must_use]
    pub fn time_of(round: &Round) -> RangeInclusive<Duration> {
        let began = Duration::from_millis(round.started_at);
        began..=round.ended_at.map_or(began, Duration::from_millis)
    }
}

impl Audited {
    /// What was shown of this participant's input: its group, and the commitments in it. None if it is in no sum, or if
    /// inputs carry no proof.
    #[must_use]
    pub fn input_of(&self, id: &ParticipantId) -> Option<(&AuditedGroup, Digest)> {
        let groups = self.bounds.as_ref().map_or(&[][..], |bounds| &bounds.groups);
        let of_group = |group: &AuditedGroup| {
            let input = group.inputs.iter().find(|input| input.id == id.as_str())?;
            Some(input.commitments)
        };
        groups.iter().find_map(|group| of_group(group).map(|commitments| (group, commitments)))
    }
}

/// Values of the model that a sum of so many bytes is over.
#[must_use]
pub fn model_len(policy: &CheckedPolicy, sum_bytes: usize) -> usize {
    (sum_bytes / INTEGER_LEN).saturating_sub(1 + policy.policy().encoding.metrics.len())
}

/// Whether the lists of a Release can all be right.
fn check_names(release: &Release) -> Result<(), AuditError> {
    let Release { cohort, survivors, dropouts, silent_survivors, .. } = release;
    ascending(cohort, "its cohort is not ascending")?;
    ascending(survivors, "its survivors are not ascending")?;
    let survived = |id: &PrincipalId| survivors.binary_search(id).is_ok();
    if !survivors.iter().all(|id| cohort.binary_search(id).is_ok()) {
        return Err(AuditError::Names("a survivor was not invited"));
    }
    if dropouts.keys().any(survived) {
        return Err(AuditError::Names("a survivor is a dropout"));
    }
    if !silent_survivors.keys().all(survived) {
        return Err(AuditError::Names("who fell silent with its input in the sum is no survivor"));
    }
    Ok(())
}

fn ascending(ids: &[PrincipalId], otherwise: &'static str) -> Result<(), AuditError> {
    if ids.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(AuditError::Names(otherwise)) }
}

fn is_named(file: File, bytes: &[u8], stated: Digest) -> Result<(), AuditError> {
    let found = Digest::of(bytes);
    if found == stated { Ok(()) } else { Err(AuditError::Digest { file, stated, found }) }
}

fn same<T: PartialEq + ToString>(what: &str, stated: &T, found: &T) -> Result<(), AuditError> {
    if stated == found { Ok(()) } else { Err(differ(what, &stated.to_string(), &found.to_string())) }
}

fn differ(what: &str, stated: &str, found: &str) -> AuditError {
    AuditError::Stated { what: what.to_owned(), stated: stated.to_owned(), found: found.to_owned() }
}

/// Figures for people: one may have been rounded elsewhere as its reader does not.
fn same_number(what: &str, stated: Option<f64>, found: Option<f64>) -> Result<(), AuditError> {
    let same = match (stated, found) {
        (Some(stated), Some(found)) => (stated - found).abs() <= ROUNDING * found,
        (stated, found) => stated.is_none() && found.is_none(),
    };
    if same { Ok(()) } else { Err(differ_in(what, stated, found)) }
}

fn differ_in(what: &str, stated: Option<f64>, found: Option<f64>) -> AuditError {
    let text = |number: Option<f64>| number.map_or_else(|| "none".to_owned(), |value| value.to_string());
    differ(what, &text(stated), &text(found))
}

/// Bytes of an integer of a sum.
const INTEGER_LEN: usize = 8;
/// Bytes of a scalar.
const BLINDING_LEN: usize = 32;
/// Relative: more than machines differ by in a few operations.
const ROUNDING: f64 = 1e-9;
/// What stands in evidence beside its inputs takes no more than so many of them.
const BESIDE_INPUTS: usize = 4;

#[cfg(test)]
mod tests;
