//! A round of two groups, proven by the real prover and signed under a real root, is found whole; with any one part of it
//! changed it is not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::api::{ReleaseNoise, RoundState};
use crate::evidence::{EvidenceError, NoiseEvidence};
use crate::{Policy, RoundTerms};
use curve25519_dalek::scalar::Scalar;
use getrandom::{SysRng, rand_core::UnwrapErr};
use rcgen::KeyPair;
use sordino_codec::{Dtype, Layout, TensorSpec};
use sordino_identity::{Authority, KeyType, Principal, PrincipalKey, SerialNumber, Validity, encode_chain, make_csr};
use sordino_proofs::{Committed, Generators, ProveError};
use sordino_secagg::SignedCommitments;
use std::sync::LazyLock;

const POLICY: &str = "\
[task]
name = \"sums\"
rounds = 2
[cohort]
min = 3
target = 6
max_dropout_fraction = 0.0
max_corrupt_fraction = 0.0
[privacy]
enabled = false
clip_norm = 2.0
[encoding]
max_weight = 10
[[encoding.metrics]]
name = \"loss\"
max = 9.0
resolution = 0.01
[robustness]
proof = \"transparent\"
";
const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const VALUES: usize = 20;
const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn checked(text: &str) -> CheckedPolicy {
    Policy::from_toml(text).and_then(Policy::check).unwrap()
}

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Root and intermediate of a federation.
struct Authorities {
    root: Authority,
    intermediate: Authority,
}

impl Authorities {
    fn new(federation: &FederationId) -> Self {
        let validity = Validity::starting(NOW, 100 * HOUR).unwrap();
        let (key, serial) = (|| KeyPair::generate().unwrap(), || SerialNumber::random(&mut rng()));
        let root = Authority::root(federation, key(), validity, serial()).unwrap();
        let intermediate = root.intermediate(key(), validity, serial()).unwrap();
        Self { root, intermediate }
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::from_der(self.root.federation().clone(), [self.root.certificate().clone()]).unwrap()
    }

    /// A key, and a chain for it that is valid for an hour.
    fn member(&self, id: &str, role: Role, key_type: KeyType) -> (PrincipalKey, Vec<u8>) {
        let key = PrincipalKey::generate(key_type, &mut rng());
        let id: PrincipalId = id.parse().unwrap();
        let csr = make_csr(&key, &id);
        let principal = Principal { federation: self.root.federation().clone(), role, id };
        let validity = Validity::starting(NOW, HOUR).unwrap();
        let issued = self.intermediate.issue_client(&csr, &principal, validity, SerialNumber::random(&mut rng()));
        (key, encode_chain(&issued.unwrap().chain()))
    }
}

/// What is published of a round, as its files.
#[derive(Clone)]
struct Example {
    policy: String,
    stated_policy: Digest,
    federation: FederationId,
    round: Round,
    model_len: usize,
    sum: Vec<u8>,
    /// Sum and evidence.
    groups: Vec<(Vec<u8>, Vec<u8>)>,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    state_before: Option<Vec<u8>>,
    state_after: Option<Vec<u8>>,
    trust: Trust,
    /// What [`Example::resign`] signs with.
    keys: BTreeMap<String, std::sync::Arc<PrincipalKey>>,
}

fn site(number: usize) -> String {
    format!("site-{number:04}")
}

/// What a participant signs of its commitments.
fn signed(context: &Context, mut of: SignedCommitments, key: &PrincipalKey) -> SignedCommitments {
    let label = b"sordino/secagg/v3/shares signature";
    let mut statement = u32::try_from(label.len()).unwrap().to_le_bytes().to_vec();
    statement.extend_from_slice(label);
    statement.extend(3_u16.to_le_bytes());
    statement.extend(context.digest().as_bytes());
    statement.extend(of.index.to_le_bytes());
    statement.extend(of.self_seed_commitment);
    statement.extend(Digest::of(&of.commitments).0);
    statement.extend(of.holders.to_le_bytes());
    statement.extend(of.root);
    of.signature = key.sign(&statement);
    of
}

fn bytes_of(integers: &[i64]) -> Vec<u8> {
    integers.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn model(value: f32) -> Tensors {
    let spec = TensorSpec::new("w", vec![VALUES], Dtype::F32).unwrap();
    Tensors::new(Layout::new(vec![spec], VALUES).unwrap(), vec![value; VALUES]).unwrap()
}

impl Example {
    /// Six participants in two groups.
    fn new(federation: &str, policy: &str) -> Self {
        let federation: FederationId = federation.parse().unwrap();
        let (authorities, checked) = (Authorities::new(&federation), checked(policy));
        let terms = checked.terms(3);
        let proof = checked.round_proof(VALUES, &terms).unwrap().unwrap();
        let encoding = checked.encoding(VALUES, &terms).unwrap();
        let before = model(0.5).to_safetensors();
        let id: RoundId = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.2".parse().unwrap();
        let nonces = [Digest([1; 32]), Digest([2; 32])];
        let (generators, mut keys) = (Generators::of(&proof.claim), BTreeMap::new());
        let (mut groups, mut total) = (Vec::new(), vec![0_i64; encoding.integers()]);
        let mut files = Vec::new();
        for (number, nonce) in nonces.into_iter().enumerate() {
            let assignment = Assignment {
                round: id.clone(),
                attempt: 2,
                nonce,
                model: Digest::of(&before),
                policy_digest: checked.digest(),
                time_left: 0,
                cohort: 3,
                noise_multiplier: None,
            };
            let context = checked.context(&federation, &assignment, (&encoding, Some(&proof)));
            let (mut inputs, mut sum) = (Vec::new(), vec![0_i64; encoding.integers()]);
            let mut blindings = vec![Scalar::ZERO; proof.claim.rows()];
            let members: Vec<_> = (0..3).map(|at| site(2 * at + number)).collect();
            for (index, name) in (0..).zip(&members) {
                let update = [0.1 * f32::from(u8::try_from(index).unwrap()); VALUES];
                let vector = encoding.encode(&update, index + 1, &[1.25], &mut rng()).unwrap().vector;
                let integers: Vec<i64> = vector.iter_centered().take(encoding.integers()).collect();
                let committed = Committed::new(&proof.claim, &generators, &integers, &mut rng(), ONE).unwrap();
                let key_type = if index == 1 { KeyType::P256 } else { KeyType::Ed25519 };
                let (key, certificates) = authorities.member(name, Role::Client, key_type);
                let unsigned = SignedCommitments {
                    id: ParticipantId::new(name).unwrap(),
                    certificates,
                    index,
                    self_seed_commitment: [7; 32],
                    commitments: committed.commitments().to_bytes(),
                    holders: 2,
                    root: [8; 32],
                    signature: [0; 64],
                };
                let signed = signed(&context, unsigned, &key);
                keys.insert(name.clone(), std::sync::Arc::new(key));
                blindings.iter_mut().zip(committed.blindings()).for_each(|(sum, blinding)| *sum += blinding);
                sum.iter_mut().zip(&integers).for_each(|(sum, value)| *sum += value);
                let proven = committed.prove(&RoundProof::context(&context, &signed.id), &mut rng(), ONE);
                inputs.push(InputEvidence { signed, proof: proven.unwrap().to_bytes() });
            }
            total.iter_mut().zip(&sum).for_each(|(total, value)| *total += value);
            let (sum, evidence) = (bytes_of(&sum), SumEvidence { inputs, noise: None, blindings }.to_bytes());
            groups.push(ReleaseGroup {
                group: u32::try_from(number).unwrap(),
                nonce,
                survivors: members.iter().map(|name| name.parse().unwrap()).collect(),
                sum: Digest::of(&sum),
                evidence: Digest::of(&evidence),
            });
            files.push((sum, evidence));
        }
        let names: Vec<PrincipalId> = (0..6).map(|number| site(number).parse().unwrap()).collect();
        let proof = ReleaseProof {
            attempt: 2,
            claim: Digest(*proof.claim.digest()),
            effective_bound: proof.effective_bound,
            noise: None,
            cohort: 3,
            noise_multiplier: None,
            groups,
            failed: Vec::new(),
        };
        let mut example = Self {
            policy: policy.to_owned(),
            stated_policy: checked.digest(),
            federation,
            round: Round {
                id,
                state: RoundState::Complete,
                attempt: 2,
                model: Digest::of(&before),
                started_at: u64::try_from(NOW.as_millis()).unwrap(),
                ended_at: Some(u64::try_from((NOW + HOUR).as_millis()).unwrap() + 9_000),
                failure: None,
                checks: Vec::new(),
                release: Some(release(names, encoding.bits().get(), Some(proof))),
            },
            model_len: VALUES,
            sum: bytes_of(&total),
            groups: files,
            before: Some(before),
            after: None,
            state_before: None,
            state_after: None,
            trust: Trust { roots: authorities.anchors(), during: NOW..=NOW },
            keys,
        };
        example.trust.during = Trust::time_of(&example.round);
        example.settle(&encoding, &terms);
        example
    }

    /// Puts into the Release what follows from the sum.
    fn settle(&mut self, encoding: &Encoding, terms: &RoundTerms) {
        let (words, _) = self.sum.as_chunks::<8>();
        let integers: Vec<i64> = words.iter().map(|word| i64::from_le_bytes(*word)).collect();
        let sums = Sums {
            model: integers[..VALUES].to_vec(),
            weight: integers[VALUES].unsigned_abs(),
            metrics: integers[VALUES + 1..].to_vec(),
            contributors: 6,
        };
        let privacy = checked(&self.policy).round_privacy(VALUES, terms).unwrap();
        let divisor = RoundPrivacy::divisor(privacy.as_ref(), NonZeroU32::new(6).unwrap());
        let aggregate = encoding.aggregate(&sums, divisor);
        let policy = checked(&self.policy);
        let state = self.state(&policy);
        let (next, after) = policy.next_model(state.as_ref(), &model(0.5), &aggregate).unwrap();
        let after = after.to_safetensors();
        self.state_after = next.as_ref().map(State::to_bytes);
        let states = state.zip(next).map(|(before, after)| ReleaseOptimizer {
            before: Digest::of(&before.to_bytes()),
            after: Digest::of(&after.to_bytes()),
        });
        let sum = Digest::of(&self.sum);
        let release = self.release();
        release.sum = sum;
        release.model = Digest::of(&after);
        release.optimizer = states;
        release.weight = aggregate.weight_sum;
        release.convergence = policy.convergence(None, &aggregate);
        release.metrics = BTreeMap::from([("loss".to_owned(), aggregate.metrics[0])]);
        self.after = Some(after);
    }

    /// What the optimiser remembered before the round.
    fn state(&self, policy: &CheckedPolicy) -> Option<State> {
        let optimizer = policy.optimizer();
        let stored = self.state_before.as_ref();
        let read = |bytes: &Vec<u8>| State::from_bytes(bytes, VALUES, optimizer.has_second_moment()).unwrap();
        stored.map(read).or_else(|| optimizer.initial(VALUES))
    }

    fn release(&mut self) -> &mut Release {
        self.round.release.as_mut().unwrap()
    }

    fn proof(&mut self) -> &mut ReleaseProof {
        self.release().proof.as_mut().unwrap()
    }

    /// Evidence that was changed, and a Release that names what it is now: digests alone are no defence.
    fn evidence(&mut self, group: usize, change: impl FnOnce(&mut SumEvidence)) {
        let mut evidence = SumEvidence::from_bytes(&self.groups[group].1).unwrap();
        change(&mut evidence);
        self.put_evidence(group, evidence.to_bytes());
    }

    fn put_evidence(&mut self, group: usize, bytes: Vec<u8>) {
        self.proof().groups[group].evidence = Digest::of(&bytes);
        self.groups[group].1 = bytes;
    }

    /// One value of a group's sum and of the whole, by so much; and a Release that names what they are now.
    fn move_sum(&mut self, group: usize, at: usize, by: i64) {
        let add = |bytes: &mut [u8]| {
            let word = &mut bytes.as_chunks_mut::<8>().0[at];
            *word = (i64::from_le_bytes(*word) + by).to_le_bytes();
        };
        add(&mut self.sum);
        add(&mut self.groups[group].0);
        let digest = Digest::of(&self.groups[group].0);
        self.proof().groups[group].sum = digest;
        let policy = checked(&self.policy);
        let terms = policy.terms(3);
        self.settle(&policy.encoding(VALUES, &terms).unwrap(), &terms);
    }

    fn audit(&self) -> Result<Audited, AuditError> {
        let policy = checked(&self.policy);
        let manifest = Manifest::new((&policy, self.stated_policy), &self.federation, &self.round, self.model_len)?;
        let files = |(sum, evidence): &'_ (Vec<u8>, Vec<u8>)| (sum.clone(), evidence.clone());
        let groups: Vec<_> = self.groups.iter().map(files).collect();
        let groups: Vec<_> = groups.iter().map(|(sum, evidence)| GroupFiles { sum, evidence }).collect();
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        for (group, files) in manifest.groups().iter().zip(&groups) {
            assert!(files.evidence.len() <= manifest.evidence_len_max(group), "honest evidence is fetched whole");
        }
        let (state_before, state_after) = (self.state_before.as_deref(), self.state_after.as_deref());
        let files = Files { sum: &self.sum, groups: &groups, before, after, state_before, state_after };
        manifest.verify(&files, &self.trust, ONE)
    }
}

fn release(survivors: Vec<PrincipalId>, ring_bits: u8, proof: Option<ReleaseProof>) -> Release {
    Release {
        model: Digest([0; 32]),
        sum: Digest([0; 32]),
        ring_bits,
        cohort: survivors.clone(),
        survivors,
        dropouts: BTreeMap::new(),
        silent_survivors: BTreeMap::new(),
        weight: 0,
        metrics: BTreeMap::new(),
        input_bytes: 1,
        step_millis: Vec::new(),
        privacy: None,
        refused: BTreeMap::new(),
        proof,
        optimizer: None,
        convergence: None,
    }
}

/// Proving takes a while, and every test changes a copy.
static HONEST: LazyLock<Example> = LazyLock::new(|| Example::new("example.org", POLICY));

fn changed(change: impl FnOnce(&mut Example)) -> Result<Audited, AuditError> {
    let mut example = HONEST.clone();
    change(&mut example);
    example.audit()
}

/// Asserts that a round changed in this way is refused for this reason.
macro_rules! refused {
    ($change:expr, $error:pat $(if $guard:expr)?) => {
        match changed($change) {
            Err($error) $(if $guard)? => {}
            other => panic!("{}: {other:?}", stringify!($change)),
        }
    };
}

/// Evidence of the first group, changed in this way, is refused for this reason.
macro_rules! evidence_refused {
    ($change:expr, $error:pat $(if $guard:expr)?) => {
        refused!(|example| example.evidence(0, $change), AuditError::Evidence { group: 0, source: $error } $(if $guard)?)
    };
}

#[test]
fn an_honest_round_is_found_whole() {
    let audited = HONEST.audit().unwrap();
    let bounds = audited.bounds.as_ref().unwrap();
    assert_eq!((audited.survivors.len(), audited.weight, audited.model_recomputed), (6, 2 * (1 + 2 + 3), true));
    assert!((audited.metrics["loss"] - 6.0 * 1.25).abs() < 0.1);
    assert!((1.0..1.1).contains(&bounds.effective_bound), "{}", bounds.effective_bound);
    for (number, group) in bounds.groups.iter().enumerate() {
        let names: Vec<_> = group.inputs.iter().map(|input| input.id.clone()).collect();
        assert_eq!(names, (0..3).map(|at| site(2 * at + number)).collect::<Vec<_>>());
    }
    let evidence = SumEvidence::from_bytes(&HONEST.groups[1].1).unwrap();
    let commitments = Digest::of(&evidence.inputs[0].signed.commitments);
    let (group, found) = audited.input_of(&evidence.inputs[0].signed.id).unwrap();
    assert_eq!((group.group, found), (1, commitments));
    assert_eq!(audited.input_of(&ParticipantId::new("site-9999").unwrap()), None);
    // What is not there is not needed, and not said to be found.
    let without = changed(|example| (example.before, example.after) = (None, None)).unwrap();
    assert_eq!(Audited { model_recomputed: true, ..without }, audited);
}

/// The policy has no part that follows from another: each of these binds it.
#[test]
fn another_policy_federation_round_or_attempt_is_refused() {
    let with = |old: &str, new: &str| POLICY.replace(old, new);
    refused!(|example| example.policy = with("clip_norm = 2.0", "clip_norm = 2.5"), AuditError::Policy { .. });
    let other = |text: String| {
        move |example: &mut Example| {
            example.stated_policy = checked(&text).digest();
            example.policy = text;
        }
    };
    // A name changes nothing that a Release could say: the signatures do.
    let source = changed(other(with("sums", "other sums"))).unwrap_err();
    assert!(matches!(source, AuditError::Evidence { source: EvidenceError::Signature { .. }, .. }), "{source:?}");
    let got = changed(other(with("clip_norm = 2.0", "clip_norm = 2.01"))).unwrap_err();
    assert!(matches!(&got, AuditError::Stated { what, .. } if what == "a claim of"), "{got:?}");
    let got = changed(other(with("transparent", "none"))).unwrap_err();
    assert!(matches!(got, AuditError::Proof { asked: false }), "{got:?}");
    let got = changed(other(with("target = 6", "target = 5"))).unwrap_err();
    assert!(matches!(got, AuditError::Stated { .. } | AuditError::Evidence { .. }), "{got:?}");
    evidence_of_the_first(|example| example.round.id.number = 1);
    evidence_of_the_first(|example| (example.round.attempt, example.proof().attempt) = (1, 1));
    evidence_of_the_first(|example| example.proof().groups[0].nonce = Digest([3; 32]));
    refused!(|example| example.round.attempt = 3, AuditError::Stated { what, .. } if what == "attempt");
    refused!(|example| example.proof().attempt = 1, AuditError::Stated { what, .. } if what == "attempt");
    refused!(|example| example.round.release = None, AuditError::NoRelease { .. });
    // Another federation's names are in no certificate of this root.
    refused!(
        |example| example.federation = "example.com".parse().unwrap(),
        AuditError::Evidence { source: EvidenceError::Signature { .. }, .. }
    );
}

/// Nothing that its participants signed fits a round changed in this way.
fn evidence_of_the_first(change: impl FnOnce(&mut Example)) {
    let got = changed(change).unwrap_err();
    assert!(matches!(got, AuditError::Evidence { group: 0, source: EvidenceError::Signature { .. } }), "{got:?}");
}

#[test]
fn what_the_release_says_follows_from_policy_and_sum() {
    refused!(|example| example.release().ring_bits += 1, AuditError::Stated { what, .. } if what.contains("bits"));
    refused!(|example| example.release().weight += 1, AuditError::Stated { what, .. } if what.contains("weight"));
    refused!(
        |example| *example.release().metrics.get_mut("loss").unwrap() += 0.01,
        AuditError::Stated { what, .. } if what == "metrics"
    );
    refused!(|example| example.release().metrics.clear(), AuditError::Stated { what, .. } if what == "metrics");
    refused!(|example| example.proof().claim = Digest([0; 32]), AuditError::Stated { what, .. } if what == "a claim of");
    refused!(
        |example| example.proof().effective_bound *= 1.0 + 1e-8,
        AuditError::Stated { what, .. } if what.contains("effective bound")
    );
    let noise = ReleaseNoise { effective_bound: 1.0, shows: String::new() };
    refused!(
        |example| example.proof().noise = Some(noise),
        AuditError::Stated { what, .. } if what.contains("noise")
    );
    evidence_refused!(
        |evidence| evidence.noise = Some(NoiseEvidence { commitments: Vec::new(), proof: Vec::new() }),
        EvidenceError::Noise { expected: false }
    );
    refused!(|example| example.proof().noise_multiplier = Some(1.0), AuditError::Terms(_));
    refused!(|example| example.proof().cohort = 2, AuditError::Terms(_));
    // Groups of four: six were invited.
    refused!(|example| example.proof().cohort = 4, AuditError::Names("its groups are larger than its cohort"));
    refused!(|example| example.release().proof = None, AuditError::Proof { asked: true } | AuditError::Stated { .. });
    refused!(|example| example.model_len += 1, AuditError::Stated { .. } | AuditError::Length { .. });
}

/// A sum is divided by the number of those who were invited, and who proved an input for a group of three signed that.
#[test]
fn a_sum_is_divided_by_those_who_were_invited() {
    refused!(
        |example| {
            example.release().cohort.extend([6, 7].map(|number| site(number).parse::<PrincipalId>().unwrap()));
            example.proof().cohort = 4;
        },
        AuditError::Evidence { source: EvidenceError::Signature { .. }, .. }
    );
    refused!(
        |example| {
            let moved = example.proof().groups[1].survivors.pop().unwrap();
            example.proof().groups[0].survivors.push(moved);
        },
        AuditError::Names("more inputs are in a group's sum than participants were invited")
    );
}

#[test]
fn lists_of_names_that_contradict_each_other_are_refused() {
    let id = |number: usize| site(number).parse::<PrincipalId>().unwrap();
    refused!(|example| example.release().survivors.swap(0, 1), AuditError::Names("its survivors are not ascending"));
    refused!(|example| example.release().cohort.swap(0, 1), AuditError::Names("its cohort is not ascending"));
    refused!(
        |example| drop(example.release().survivors.pop()),
        AuditError::Names("the survivors of its groups together are not its survivors")
    );
    refused!(|example| drop(example.release().cohort.pop()), AuditError::Names("a survivor was not invited"));
    refused!(
        |example| drop(example.release().dropouts.insert(id(1), "MaskedInput".into())),
        AuditError::Names("a survivor is a dropout")
    );
    // In an attempt before this one.
    changed(|example| drop(example.release().refused.insert(id(1), "bad".into()))).unwrap();
    refused!(
        |example| drop(example.release().silent_survivors.insert(id(9), "Unmasking".into())),
        AuditError::Names("who fell silent with its input in the sum is no survivor")
    );
    // One that survived in two groups would be counted twice.
    refused!(
        |example| example.proof().groups[1].survivors[0] = id(0),
        AuditError::Names("the survivors of its groups together are not its survivors")
    );
    refused!(
        |example| example.proof().groups[1].group = 0,
        AuditError::Names("groups are not in their order, or one of them is there twice")
    );
    let failed = |example: &mut Example| {
        let failed = crate::api::FailedGroup { group: 7, survivors: vec![id(3)], reason: "no".into() };
        example.proof().failed.push(failed);
    };
    refused!(failed, AuditError::Names("a survivor is in a group that was dropped"));
    let fewer = |example: &mut Example| {
        example.release().survivors.retain(|survivor| *survivor != id(0));
        example.proof().groups[0].survivors.remove(0);
    };
    refused!(fewer, AuditError::Names("fewer inputs are in a group's sum than the policy lets open"));
    // Another than the one whose evidence it is.
    let another = |example: &mut Example| {
        example.release().cohort = vec![id(0), id(1), id(2), id(3), id(4), id(5), id(6)];
        example.release().survivors = vec![id(0), id(1), id(2), id(3), id(5), id(6)];
        example.proof().groups[0].survivors = vec![id(0), id(2), id(6)];
    };
    refused!(another, AuditError::Evidence { group: 0, source: EvidenceError::Survivors });
}

/// A file of an example.
type Bytes = fn(&mut Example) -> &mut Vec<u8>;

/// Every byte of every file counts, whatever it holds.
#[test]
fn files_with_other_digests_are_refused() {
    let flips: [(File, Bytes); 5] = [
        (File::Sum, |example| &mut example.sum),
        (File::GroupSum(1), |example| &mut example.groups[1].0),
        (File::Evidence(0), |example| &mut example.groups[0].1),
        (File::ModelBefore, |example| example.before.as_mut().unwrap()),
        (File::ModelAfter, |example| example.after.as_mut().unwrap()),
    ];
    for (file, bytes) in flips {
        let len = bytes(&mut HONEST.clone()).len();
        for at in [0, len / 2, len - 1] {
            let got = changed(|example| bytes(example)[at] ^= 1).unwrap_err();
            assert!(matches!(got, AuditError::Digest { file: found, .. } if found == file), "{file} {at}: {got:?}");
        }
    }
    refused!(|example| example.groups.swap(0, 1), AuditError::Digest { file: File::GroupSum(0), .. });
    refused!(|example| drop(example.groups.pop()), AuditError::GroupCount { expected: 2, found: 1 });
    refused!(|example| example.release().sum = Digest([0; 32]), AuditError::Digest { file: File::Sum, .. });
    refused!(
        |example| example.proof().groups[1].evidence = Digest([0; 32]),
        AuditError::Digest { file: File::Evidence(1), .. }
    );
    let short = |example: &mut Example| {
        example.sum.pop();
        example.release().sum = Digest::of(&HONEST.sum[..HONEST.sum.len() - 1]);
    };
    refused!(short, AuditError::Length { file: File::Sum, .. });
}

/// Files that were changed together with the digests that name them.
#[test]
fn sums_that_do_not_open_the_commitments_are_refused() {
    for at in 0..VALUES + 2 {
        let got = changed(|example| example.move_sum(0, at, 1)).unwrap_err();
        assert!(matches!(got, AuditError::Evidence { group: 0, source: EvidenceError::Sum(_) }), "{at}: {got:?}");
    }
    // What one group has more, the other has less: the total is as it was.
    let shifted = |example: &mut Example| {
        example.move_sum(0, 3, 1);
        example.move_sum(1, 3, -1);
    };
    refused!(shifted, AuditError::Evidence { group: 0, source: EvidenceError::Sum(_) });
    // Groups are what they were, and the whole is another.
    let whole = |example: &mut Example| {
        let groups = example.groups.clone();
        let stated = example.proof().groups.clone();
        example.move_sum(0, 5, 1);
        example.groups = groups;
        example.proof().groups = stated;
    };
    refused!(whole, AuditError::Total { at: 5 });
    let negative = |example: &mut Example| example.move_sum(0, VALUES, -1_000_000);
    refused!(negative, AuditError::Evidence { group: 0, source: EvidenceError::Sum(_) });
}

#[test]
fn a_model_that_was_not_moved_by_the_sum_is_refused() {
    let other = |example: &mut Example| {
        let file = model(0.25).to_safetensors();
        example.release().model = Digest::of(&file);
        example.after = Some(file);
    };
    refused!(other, AuditError::NextModel { .. });
    // Without the model before, nothing shows it: and nothing says that it was looked at.
    let audited = changed(|example| {
        other(example);
        example.before = None;
    });
    assert!(!audited.unwrap().model_recomputed);
    evidence_of_the_first(|example| {
        let file = model(0.25).to_safetensors();
        example.round.model = Digest::of(&file);
        example.before = Some(file);
        example.release().model = Digest::of(&model(0.0).to_safetensors());
    });
    let garbage = |example: &mut Example| {
        example.before = Some(b"no model".to_vec());
        example.round.model = Digest::of(b"no model");
    };
    assert!(changed(garbage).is_err());
}

#[test]
fn evidence_that_was_changed_is_refused_whatever_the_release_says() {
    evidence_refused!(|evidence| evidence.blindings[0] += Scalar::ONE, EvidenceError::Sum(_));
    evidence_refused!(|evidence| evidence.blindings.truncate(1), EvidenceError::Sum(_));
    evidence_refused!(|evidence| evidence.inputs.swap(0, 1), EvidenceError::Survivors);
    evidence_refused!(|evidence| drop(evidence.inputs.pop()), EvidenceError::Survivors);
    evidence_refused!(|evidence| evidence.inputs.push(evidence.inputs[0].clone()), EvidenceError::Survivors);
    evidence_refused!(
        |evidence| evidence.inputs[0].signed.commitments = evidence.inputs[1].signed.commitments.clone(),
        EvidenceError::Signature { .. }
    );
    evidence_refused!(|evidence| evidence.inputs[2].signed.index += 1, EvidenceError::Signature { .. });
    evidence_refused!(|evidence| evidence.inputs[2].signed.holders += 1, EvidenceError::Signature { .. });
    evidence_refused!(|evidence| evidence.inputs[2].signed.root[0] ^= 1, EvidenceError::Signature { .. });
    evidence_refused!(|evidence| evidence.inputs[1].signed.signature[5] ^= 1, EvidenceError::Signature { .. });
    evidence_refused!(
        |evidence| evidence.inputs[0].signed.certificates = evidence.inputs[1].signed.certificates.clone(),
        EvidenceError::Certificate { .. }
    );
    evidence_refused!(
        |evidence| evidence.inputs[0].proof = evidence.inputs[1].proof.clone(),
        EvidenceError::Proof { .. }
    );
    evidence_refused!(|evidence| evidence.inputs[0].proof.truncate(9), EvidenceError::Malformed { .. });
    refused!(
        |example| {
            let other = example.groups[1].1.clone();
            example.put_evidence(0, other);
        },
        AuditError::Evidence { group: 0, source: EvidenceError::Survivors }
    );
}

/// A participant that commits anew and signs that is believed only with a proof of it, and then the sum is not its.
#[test]
fn commitments_that_were_replaced_and_signed_again_are_refused() {
    let policy = checked(POLICY);
    let terms = policy.terms(3);
    let proof = policy.round_proof(VALUES, &terms).unwrap().unwrap();
    let manifest = Manifest::new((&policy, policy.digest()), &HONEST.federation, &HONEST.round, VALUES).unwrap();
    let proven = manifest.proven.as_ref().unwrap();
    let context = manifest.context(proven, &manifest.groups()[0]);
    let generators = Generators::of(&proof.claim);
    let mut integers = vec![1_i64; VALUES + 2];
    integers[VALUES] = 1;
    let again = |evidence: &mut SumEvidence, proven_too: bool| -> Result<(), ProveError> {
        let committed = Committed::new(&proof.claim, &generators, &integers, &mut rng(), ONE)?;
        let InputEvidence { signed: of, proof: proven } = &mut evidence.inputs[0];
        of.commitments = committed.commitments().to_bytes();
        let key = &HONEST.keys[of.id.as_str()];
        *of = signed(&context, of.clone(), key);
        if proven_too {
            *proven = committed.prove(&RoundProof::context(&context, &of.id), &mut rng(), ONE)?.to_bytes();
        }
        Ok(())
    };
    evidence_refused!(|evidence| again(evidence, false).unwrap(), EvidenceError::Proof { .. });
    evidence_refused!(|evidence| again(evidence, true).unwrap(), EvidenceError::Sum(_));
}

/// No beginning of evidence is evidence, and none panics or is taken for less.
#[test]
fn evidence_that_was_cut_is_unreadable_at_every_length() {
    let bytes = &HONEST.groups[0].1;
    let near_ends = |len: &usize| *len < 4_000 || *len + 4_000 > bytes.len() || len.is_multiple_of(61);
    for len in (0..bytes.len()).filter(near_ends) {
        let got = SumEvidence::from_bytes(&bytes[..len]);
        assert!(matches!(got, Err(EvidenceError::Unreadable(_))), "{len}: {got:?}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(SumEvidence::from_bytes(&longer), Err(EvidenceError::Unreadable("it is too long"))));
    assert_eq!(SumEvidence::from_bytes(bytes).unwrap().to_bytes(), *bytes);
    refused!(
        |example| example.put_evidence(0, bytes[..bytes.len() / 2].to_vec()),
        AuditError::Evidence { group: 0, source: EvidenceError::Unreadable(_) }
    );
    // Lengths that are not there ask for no memory.
    let mut lying = bytes.clone();
    let label = lying.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    lying[label..label + 8].copy_from_slice(&[255; 8]);
    assert!(matches!(SumEvidence::from_bytes(&lying), Err(EvidenceError::Unreadable(_))));
}

/// Bytes of evidence here and there, with a Release that names them as they are: each is bound by something.
#[test]
fn every_byte_of_evidence_is_bound() {
    let len = HONEST.groups[0].1.len();
    for at in (0..len).step_by(len / 150) {
        let got = changed(|example| {
            let mut bytes = example.groups[0].1.clone();
            bytes[at] ^= 1;
            example.put_evidence(0, bytes);
        });
        assert!(matches!(got, Err(AuditError::Evidence { group: 0, .. })), "byte {at}: {got:?}");
    }
}

#[test]
fn certificates_are_those_of_the_roots_time_and_names() {
    let certificate = |got: Result<Audited, AuditError>| match got {
        Err(AuditError::Evidence { source: EvidenceError::Certificate { why, .. }, .. }) => why,
        other => panic!("{other:?}"),
    };
    let twin = Authorities::new(&"example.org".parse().unwrap());
    let why = certificate(changed(|example| example.trust.roots = twin.anchors()));
    assert!(why.contains("authority") || why.contains("signature"), "{why}");
    let later = NOW + 2 * HOUR;
    let why = certificate(changed(|example| example.trust.during = later..=later + HOUR));
    assert!(why.contains("ended"), "{why}");
    // It was over when the certificates had ended by a few seconds: they held in it.
    assert!(HONEST.trust.during.end() > &(NOW + HOUR));
    // The root's own certificate for the same name in another role, or for another name.
    let authorities = Authorities::new(&"example.org".parse().unwrap());
    let trust = Trust { roots: authorities.anchors(), during: NOW..=NOW };
    let id = ParticipantId::new("site-0001").unwrap();
    let (key, chain) = authorities.member("site-0001", Role::Client, KeyType::Ed25519);
    assert_eq!(trust.key_of(&id, &chain).unwrap().to_bytes(), key.public_key().to_bytes());
    for (name, role) in [("site-0001", Role::Admin), ("site-0002", Role::Client)] {
        let (_, chain) = authorities.member(name, role, KeyType::Ed25519);
        assert!(trust.key_of(&id, &chain).unwrap_err().contains("it is that of"), "{name}");
    }
    assert!(trust.key_of(&id, &[]).is_err());
}

/// Without proofs there is the arithmetic, and nothing is said of bounds.
#[test]
fn a_round_without_proofs_is_checked_as_far_as_it_goes() {
    let text = POLICY.replace("transparent", "none");
    let policy = checked(&text);
    let (terms, mut example) = (policy.terms(6), HONEST.clone());
    let encoding = policy.encoding(VALUES, &terms).unwrap();
    (example.stated_policy, example.policy) = (policy.digest(), text);
    example.groups.clear();
    example.release().proof = None;
    example.release().ring_bits = encoding.bits().get();
    let audited = example.audit().unwrap();
    assert_eq!((audited.bounds.is_none(), audited.model_recomputed, audited.weight), (true, true, 12));
    let refused = |change: &dyn Fn(&mut Example)| {
        let mut example = example.clone();
        change(&mut example);
        example.audit().unwrap_err()
    };
    assert!(matches!(refused(&|example| example.sum[0] ^= 1), AuditError::Digest { file: File::Sum, .. }));
    assert!(matches!(refused(&|example| example.release().model = Digest([1; 32])), AuditError::NextModel { .. }));
    assert!(matches!(refused(&|example| example.release().weight = 1), AuditError::Stated { .. }));
    let group = |example: &mut Example| example.groups = HONEST.groups.clone();
    assert!(matches!(refused(&group), AuditError::GroupCount { expected: 0, found: 2 }));
    let alone = |example: &mut Example| {
        example.release().survivors.truncate(2);
    };
    let few = AuditError::Names("fewer inputs are in its sum than the policy lets open").to_string();
    assert_eq!(refused(&alone).to_string(), few);
    let negative = |example: &mut Example| {
        example.sum[8 * VALUES..8 * VALUES + 8].copy_from_slice(&(-3_i64).to_le_bytes());
        example.release().sum = Digest::of(&example.sum.clone());
    };
    assert!(matches!(refused(&negative), AuditError::Weight { found: -3 }));
}

/// The same round under a strategy that remembers.
static ADAM: LazyLock<Example> =
    LazyLock::new(|| Example::new("example.org", &POLICY.replace("rounds = 2", "rounds = 2\nstrategy = \"FedAdam\"")));

/// A round that begins with a state which was moved before.
fn later() -> Example {
    let mut example = ADAM.clone();
    let policy = checked(&example.policy);
    let optimizer = policy.optimizer();
    let (moved, _) = optimizer.step(optimizer.initial(VALUES).as_ref(), &model(0.25), &[0.125; VALUES]).unwrap();
    example.state_before = moved.map(|state| state.to_bytes());
    let terms = policy.terms(3);
    example.settle(&policy.encoding(VALUES, &terms).unwrap(), &terms);
    example
}

#[test]
fn the_next_model_is_computed_through_the_optimiser() {
    let audited = ADAM.audit().unwrap();
    let states = audited.optimizer.unwrap();
    assert!(audited.model_recomputed && states.before != states.after);
    // The first state follows from the policy, and needs no file.
    let policy = checked(&ADAM.policy);
    assert_eq!(states.before, Digest::of(&policy.optimizer().initial(VALUES).unwrap().to_bytes()));
    let later = later();
    let audited = later.audit().unwrap();
    assert!(audited.model_recomputed && audited.optimizer.unwrap().before != states.before);
    assert_ne!(audited.model_after, ADAM.audit().unwrap().model_after, "what is remembered counts");
    let manifest = |example: &Example| {
        let followed = (&policy, example.stated_policy);
        Manifest::new(followed, &example.federation, &example.round, VALUES).unwrap().state_before()
    };
    assert_eq!(manifest(&ADAM), None);
    let (digest, limit) = manifest(&later).unwrap();
    assert_eq!(digest, Digest::of(later.state_before.as_ref().unwrap()));
    assert!(later.state_before.as_ref().unwrap().len() <= limit);
    // What is not there is not needed, and not said to be found.
    let without = Example { state_before: None, state_after: None, ..later };
    assert!(!without.audit().unwrap().model_recomputed);
}

#[test]
fn another_state_is_refused() {
    let refused = |change: &dyn Fn(&mut Example)| {
        let mut example = later();
        change(&mut example);
        example.audit().unwrap_err()
    };
    let other = || checked(&ADAM.policy).optimizer().initial(VALUES).unwrap().to_bytes();
    let error = refused(&|example| example.state_before = Some(other()));
    assert!(matches!(error, AuditError::Digest { file: File::StateBefore, .. }), "{error}");
    let error = refused(&|example| example.state_after = Some(other()));
    assert!(matches!(error, AuditError::Digest { file: File::StateAfter, .. }), "{error}");
    // A Release that names the other files: digests alone are no defence.
    let error = refused(&|example| {
        example.state_before = Some(other());
        example.release().optimizer.as_mut().unwrap().before = Digest::of(&other());
    });
    assert!(matches!(error, AuditError::NextModel { .. }), "{error}");
    let error = refused(&|example| {
        example.state_after = Some(other());
        example.release().optimizer.as_mut().unwrap().after = Digest::of(&other());
    });
    assert!(matches!(error, AuditError::NextState { .. }), "{error}");
    let error = refused(&|example| {
        example.state_before = Some(b"no state".to_vec());
        example.release().optimizer.as_mut().unwrap().before = Digest::of(b"no state");
    });
    assert!(matches!(error, AuditError::State(_)), "{error}");
    let error = refused(&|example| example.release().optimizer = None);
    assert!(matches!(error, AuditError::Optimizer { asked: true }), "{error}");
    let error = refused(&|example| example.round.id.number = 1);
    assert!(matches!(error, AuditError::FirstState { .. }), "{error}");
    let states = ADAM.clone().release().optimizer;
    refused!(|example| example.release().optimizer = states, AuditError::Optimizer { asked: false });
}

#[test]
fn how_the_watched_metric_stands_follows_from_the_sum() {
    let watching = POLICY.replace("rounds = 2", "rounds = 9") + "[convergence]\nmetric = \"loss\"\npatience = 2\n";
    let watching = Example::new("example.org", &watching);
    let stands = watching.audit().unwrap().convergence.unwrap();
    assert_eq!((stands.best, stands.stale), (stands.value, 0));
    let with = |stands: Option<ReleaseConvergence>| {
        let mut example = watching.clone();
        example.release().convergence = stands;
        example.audit()
    };
    let stale = ReleaseConvergence { stale: 1, ..stands };
    assert_eq!(with(Some(stale)).unwrap().convergence, Some(stale), "this is the second round");
    for wrong in [
        None,
        Some(ReleaseConvergence { value: stands.value + 1.0, ..stands }),
        Some(ReleaseConvergence { best: stands.value - 1.0, ..stands }),
        Some(ReleaseConvergence { best: stands.value + 1.0, ..stale }),
        Some(ReleaseConvergence { stale: 2, ..stands }),
    ] {
        let error = with(wrong).unwrap_err();
        assert!(matches!(error, AuditError::Convergence { .. }), "{wrong:?}: {error}");
    }
    refused!(|example| example.release().convergence = Some(stands), AuditError::Convergence { found: None, .. });
}
