//! Requests and answers of `/v1`.

use crate::policy::PrivacyUnit;
use crate::{Digest, RoundId, TaskId};
use serde::{Deserialize, Serialize};
use sordino_identity::{PrincipalId, Role};
use std::collections::BTreeMap;

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = u64;

/// A page of a listing; `next` goes into the `cursor` parameter of the following request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In the order of the listing.
    pub items: Vec<T>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Items on a page where the request does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// Items on a page at most.
pub const PAGE_MAX: u32 = 500;

/// `POST /v1/enroll`: a join token for a certificate. No client certificate is needed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The secret of the invitation, used up by this.
    pub token: String,
    /// PEM; only the public key is taken from it.
    pub csr: String,
    /// Who joins; must be the principal that the token admits.
    pub principal: PrincipalId,
}

/// The certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollAnswer {
    /// PEM, leaf first, then the intermediate.
    pub certificate_chain: String,
    /// End of the certificate's life.
    pub not_after: Millis,
}

/// `POST /v1/token`: an access token bound to the client certificate of the connection.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// Goes into `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`; it is worthless without the certificate's key.
    pub token_type: String,
    /// Seconds.
    pub expires_in: u64,
}

/// `POST /v1/join-tokens`: who may join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Who is admitted.
    pub principal: PrincipalId,
    /// What it may do afterwards.
    #[serde(default = "client")]
    pub role: Role,
    /// Seconds until the token expires.
    #[serde(default = "a_day")]
    pub expires_in: u64,
}

fn client() -> Role {
    Role::Client
}

fn a_day() -> u64 {
    86_400
}

/// An invitation, shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinTokenAnswer {
    /// One line for `sordino join`; it holds the secret.
    pub invitation: String,
    /// When the token stops working.
    pub expires_at: Millis,
}

/// `POST /v1/tasks`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// TOML, as a person wrote it.
    pub policy: String,
    /// The first model, uploaded before with `PUT /v1/models/{digest}`.
    pub model: Digest,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its policy, whole.
    pub policy: crate::Policy,
    /// What the messages of every round bind.
    pub policy_digest: Digest,
    /// Where it stands.
    pub state: TaskState,
    /// Values in the model.
    pub model_len: u64,
    /// The newest model.
    pub model: Digest,
    /// The round that is under way, or the next one; counted from 1.
    pub round: u64,
    /// Why it was halted or has ended before its last round, or what keeps its next round from beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Participants that are in no more cohorts of it, and why. Listings of tasks do not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<PrincipalId, String>,
    /// When it was made.
    pub created_at: Millis,
}

/// `GET /v1/models`: a model file that the coordinator keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// SHA-256 of the file, its name.
    pub digest: Digest,
    /// The task whose round made it; absent where it was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Length of the file.
    pub bytes: u64,
    /// When it came here first.
    pub created_at: Millis,
}

/// States of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Rounds are run.
    Active,
    /// All rounds are done, or it has converged: the reason says so.
    Complete,
    /// Too many rounds failed one after another, or no site helps to open another sum over its model; an operator looks.
    Halted,
}

/// Public states of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// For enough participants.
    Waiting,
    /// Keys, shares and inputs.
    Collecting,
    /// Inputs are in; the sum is being opened.
    Aggregating,
    /// A Release exists.
    Complete,
    /// No Release will come of it.
    Failed,
}

/// A round as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its id.
    pub id: RoundId,
    /// Where it stands.
    pub state: RoundState,
    /// The newest attempt, counted from 1; 0 before the first.
    pub attempt: u32,
    /// The model that its participants were given.
    pub model: Digest,
    /// When it began.
    pub started_at: Millis,
    /// When it was complete or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Millis>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How the checks of its sums came out, where inputs carry proofs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<GroupCheck>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// The manifest of a Release: all that is published of a round beside the sum and the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The model after the round.
    pub model: Digest,
    /// The sum as integers: each value centred, little-endian i64, `model_len + 1 + metrics` of them.
    pub sum: Digest,
    /// Bits of the ring the sum was taken in.
    pub ring_bits: u8,
    /// Everybody who was asked, in the order of their ids.
    pub cohort: Vec<PrincipalId>,
    /// Those whose inputs are in the sum, in the order of their ids.
    pub survivors: Vec<PrincipalId>,
    /// The first step that each of the others missed.
    pub dropouts: BTreeMap<PrincipalId, String>,
    /// Survivors that fell silent after their input was in, with the first step they missed.
    pub silent_survivors: BTreeMap<PrincipalId, String>,
    /// Sum of the weights (training examples, capped by the policy).
    pub weight: u64,
    /// Sums of the metrics over the survivors, by name.
    pub metrics: BTreeMap<String, f64>,
    /// Bytes that each survivor sent up for its input.
    pub input_bytes: u64,
    /// Milliseconds by step, in the order of the steps.
    pub step_millis: Vec<(String, u64)>,
    /// What was promised and spent; absent where privacy is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<ReleasePrivacy>,
    /// Whose inputs were refused because of their proofs, in any attempt of the round, and why. In the attempt they count
    /// as dropouts, and in those that follow they are only where the others are too few.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<PrincipalId, String>,
    /// What shows that the sum is that of inputs within their bounds; absent where the policy asks for no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ReleaseProof>,
    /// What the strategy remembers between rounds; absent where it remembers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<ReleaseOptimizer>,
    /// How the metric stands that the policy watches; absent where it watches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convergence: Option<ReleaseConvergence>,
}

/// How the metric stands that the policy watches: what ends a task that has converged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReleaseConvergence {
    /// The metric's sum over the sum of the weights.
    pub value: f64,
    /// The value of the last Release that was an improvement; the first one is.
    pub best: f64,
    /// Releases since that one.
    pub stale: u32,
}

/// What the optimiser remembers, as files: `GET /v1/rounds/{round}/optimizer/{before|after}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOptimizer {
    /// What the round's step began with: what the task's last Release ended with, or the first state of all.
    pub before: Digest,
    /// What it ended with.
    pub after: Digest,
}

/// What was proven of every input in a Release, and where the evidence is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseProof {
    /// The attempt that came to these sums.
    pub attempt: u32,
    /// What every input is proven to be, as a digest; the bounds follow from the policy.
    pub claim: Digest,
    /// The norm that every input is proven to be within, in clip norms.
    pub effective_bound: f64,
    /// What is proven of the coordinator's noise, where it added any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<ReleaseNoise>,
    /// Participants that were invited into each group.
    pub cohort: u32,
    /// Noise of the attempt, where there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
    /// The groups whose sums make the Release.
    pub groups: Vec<ReleaseGroup>,
    /// Groups whose sums are in no Release, because their members' commitments did not open to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedGroup>,
}

/// What is proven of the noise that the coordinator has added to the sum of each group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseNoise {
    /// The norm that it is within, in clip norms.
    pub effective_bound: f64,
    /// What that shows and what it does not, in words.
    pub shows: String,
}

/// One group whose sum was found to be that of the inputs that were proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseGroup {
    /// Its number, from 0.
    pub group: u32,
    /// Drawn for this group; 64 hexadecimal digits.
    pub nonce: Digest,
    /// Those whose inputs are in its sum, in the order of their ids.
    pub survivors: Vec<PrincipalId>,
    /// Its sum as integers, as that of the Release.
    pub sum: Digest,
    /// Commitments, proofs and what opens their sum.
    pub evidence: Digest,
}

/// One group that was dropped: at least one of its members sent another input than it had committed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedGroup {
    /// Its number, from 0.
    pub group: u32,
    /// Those whose inputs were in its sum, in the order of their ids.
    pub survivors: Vec<PrincipalId>,
    /// What the check said.
    pub reason: String,
}

/// Whether the sum of a group was that of the inputs that its members had proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCheck {
    /// The attempt.
    pub attempt: u32,
    /// The group's number, from 0.
    pub group: u32,
    /// Whether it was.
    pub passed: bool,
    /// Those whose inputs were in the sum.
    pub survivors: Vec<PrincipalId>,
}

/// What a Release promises about privacy, and what that has cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleasePrivacy {
    /// Whose presence is hidden.
    pub unit: PrivacyUnit,
    /// Which data sets are neighbours, in words.
    pub relation: String,
    /// What is assumed about sampling, in words.
    pub sampling: String,
    /// Against whom it holds, in words.
    pub holds_against: String,
    /// Which budget was charged: population, unit and data version.
    pub budget: String,
    /// Epsilon of everything charged to that budget when this round was, this round included; rounded up.
    pub epsilon: f64,
    /// Epsilon of this round by itself.
    pub epsilon_of_round: f64,
    /// Of everything together.
    pub delta: f64,
    /// The budget's total.
    pub total_epsilon: f64,
    /// Noise standard deviation over sensitivity.
    pub noise_multiplier: f64,
    /// Standard deviation of the noise on each model value of the sum, in the units of an update; absent under the unit
    /// `record`, whose noise is in what sites have trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_noise_std: Option<f64>,
    /// How epsilon was computed.
    pub accountant: String,
    /// Participants that were invited, fewest whose sum opens, and how many of those may tell others their noise.
    pub planned: PlannedCohort,
    /// Inputs in the sum.
    pub survivors: u32,
    /// The member of the cohort that has spent most, as the coordinator's ledger or its own word says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_participant: Option<WorstParticipant>,
    /// The program that computed it, with its version.
    pub software: String,
}

/// For whom the noise of a round was sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCohort {
    /// Invited.
    pub participants: u32,
    /// Fewest whose sum opens.
    pub min_survivors: u32,
    /// Survivors that may know their own noise.
    pub max_corrupt: u32,
}

/// The participant that has spent most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstParticipant {
    /// Who.
    pub id: PrincipalId,
    /// Its epsilon, at the budget's delta.
    pub epsilon: f64,
    /// Whether its own ledger says so, rather than the coordinator's.
    pub by_own_word: bool,
}

/// `GET /v1/budget`: every budget, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    /// All of them; for a participant those it has been charged in.
    pub budgets: Vec<BudgetStanding>,
}

/// A budget as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetStanding {
    /// Whose data.
    pub population: String,
    /// Whose presence is hidden.
    pub unit: String,
    /// Which state of the data.
    pub data_version: String,
    /// What all releases together may come to.
    pub total_epsilon: f64,
    /// Of all of them together.
    pub delta: f64,
    /// Epsilon of everything reserved and released, rounded up.
    pub spent: f64,
    /// What is left, rounded down.
    pub remaining: f64,
    /// `ok`, `warning_80`, `warning_95` or `exhausted`.
    pub state: BudgetState,
    /// Charges whose release was made.
    pub committed: u64,
    /// Charges that are open: attempts under way, and those of which nothing is known.
    pub open: u64,
    /// The participant that has spent most. For a participant: itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_participant: Option<WorstParticipant>,
}

/// How far a budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetState {
    /// Less than 80 %.
    Ok,
    /// 80 % or more.
    #[serde(rename = "warning_80")]
    Warning80,
    /// 95 % or more.
    #[serde(rename = "warning_95")]
    Warning95,
    /// The last round that was asked for did not fit.
    Exhausted,
}

/// `GET /v1/budget/history`: entries of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetEntry {
    /// Its number, from 0 without gaps.
    pub number: u64,
    /// When it was written.
    pub at: Millis,
    /// `opened`, `reserved`, `committed`, `aborted`, `warning`, `exhausted` or `reset`.
    pub what: String,
    /// Which budget, where the entry names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Which charge: task, round, attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<String>,
    /// Epsilon of everything in the budget, after it or as asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// More of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// `POST /v1/tasks/{task}/checkin?wait=SECONDS`: a participant is there and asks for work (long poll).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    /// The newest attempt that this participant has done with, or given up: only later ones are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AttemptId>,
    /// What this participant's own ledger says it has spent of its records' privacy, by its word: it follows from public
    /// numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_spent: Option<f64>,
}

/// One attempt of a round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    /// The round.
    pub round: RoundId,
    /// Counted from 1.
    pub attempt: u32,
}

/// The answer to a check-in: what to take part in. 204 instead: nothing yet, check in again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The round to take part in.
    pub round: RoundId,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// Drawn for this attempt; 64 hexadecimal digits.
    pub nonce: Digest,
    /// The model to train.
    pub model: Digest,
    /// The policy that the attempt binds.
    pub policy_digest: Digest,
    /// Milliseconds left to train and to answer the first step.
    pub time_left: u64,
    /// Participants that are invited.
    pub cohort: u32,
    /// Noise of this round, where there is any: at least what the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
}

/// How far an upload got: `GET /v1/rounds/{round}/attempts/{attempt}/input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStatus {
    /// Bytes that are durable; the next chunk starts here.
    pub received: u64,
    /// Bytes of the whole.
    pub expected: u64,
}

/// A participant as the operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Its id.
    pub id: PrincipalId,
    /// What it may do.
    pub role: Role,
    /// When it enrolled.
    pub enrolled_at: Millis,
    /// End of its certificate's life.
    pub not_after: Millis,
    /// When it was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Millis>,
}
