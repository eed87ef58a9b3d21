//! One attempt, from the advertised keys to the revealed shares. Each state is durable before its message is sent.

use crate::budget::{Charge, SiteBudget};
use crate::client::{Client, ClientError, UPLOADS_MAX};
use crate::join::since_epoch;
use crate::run::TrainError;
use crate::state::{StateError, StateFolder};
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_identity::{PrincipalKey, Role, VerifiedChains};
use sordino_secagg::participant::{Refusal, Reveal, Stored, Trust};
use sordino_secagg::{CertificateKey, ContextDigest, ParticipantId, Signer, Step};
use sordino_store::crash_point;
use sordino_wire::Code;
use sordino_wire::api::Assignment;
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How an attempt ended for this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every step was answered.
    Finished,
    /// The attempt went on, or ended, without us: too late, or it was abandoned.
    LeftOut(String),
    /// The coordinator was not believed; the evidence is in the text.
    Refused(String),
}

/// Why an attempt cannot go on now; it can after a restart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    State(#[from] StateError),
    /// The site's privacy budget, or its ledger: nothing was sent.
    #[error(transparent)]
    Budget(Box<TrainError>),
    #[error("the work on a step was cut off")]
    Cut,
    /// Asked for by a test: the site falls silent.
    #[error("vanishing before {0}, as asked")]
    Vanish(Step),
}

/// Whom this site believes: certificates that lead to its root, and the registrar's key it was invited with.
#[derive(Clone)]
pub(crate) struct SiteTrust {
    /// Shared with the steps' threads, and remembered from round to round: neighbours come again.
    pub(crate) chains: Arc<VerifiedChains>,
    pub(crate) registrar: VerifyingKey,
}

impl Trust for SiteTrust {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let verified = self.chains.verify_client(certificates, since_epoch()).map_err(|error| error.to_string())?;
        let principal = verified.principal();
        if principal.role != Role::Client || principal.id.as_str() != id.as_str() {
            return Err(format!("its certificate is that of {} {}", principal.role, principal.id));
        }
        let key = verified.public_key().and_then(|key| CertificateKey::from_bytes(&key.to_bytes()).ok());
        key.ok_or_else(|| "its certificate's key is neither Ed25519 nor P-256".to_owned())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

/// Signs with the site's certificate key.
pub(crate) struct SiteSigner<'a>(pub(crate) &'a PrincipalKey);

impl Signer for SiteSigner<'_> {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// One attempt that this site takes part in.
pub(crate) struct Session<'a> {
    pub(crate) client: &'a Client,
    pub(crate) identity: &'a Arc<PrincipalKey>,
    pub(crate) trust: &'a SiteTrust,
    pub(crate) state: &'a StateFolder,
    pub(crate) assignment: &'a Assignment,
    /// Values in the attempt's model.
    pub(crate) model_len: usize,
    /// How long the attempt may last: the policy's round timeout.
    pub(crate) lasts: Duration,
    pub(crate) budget: &'a Arc<SiteBudget>,
    /// What is paid before the masked input leaves; none where the task has privacy switched off.
    pub(crate) charge: Option<Charge>,
    /// A step before whose message the site falls silent; a test asks for that.
    pub(crate) vanish: Option<Step>,
}

impl Session<'_> {
    /// Goes on from a stored state until the attempt ends for this site.
    pub(crate) async fn run(&self, mut current: Stored) -> Result<Ending, SessionError> {
        let give_up = Instant::now() + self.lasts;
        loop {
            let step = current.step();
            if self.vanish == Some(step) {
                return Err(SessionError::Vanish(step));
            }
            match self.send(&current).await {
                Ok(()) => {
                    crash_point!("{step}:sent");
                }
                // The step is over. If it closed with our message in it, sent before a restart, the next one opens for us.
                Err(SessionError::Client(error)) if error.code() == Some(Code::WrongStep) => {}
                Err(error) => return left_out(step, error),
            }
            let Some(next) = step.next() else { return Ok(Ending::Finished) };
            let opening = match self.fetch(next, give_up).await {
                Ok(Some(opening)) => opening,
                Ok(None) => return Ok(Ending::LeftOut(format!("{next} did not begin in time"))),
                Err(error) => return left_out(next, error),
            };
            let (trust, key) = (self.trust.clone(), self.identity.clone());
            let answered = tokio::task::spawn_blocking(move || answer(current, &opening, &trust, &SiteSigner(&key)));
            match answered.await.map_err(|_| SessionError::Cut)? {
                Err(refusal) => return Ok(Ending::Refused(causes(&refusal))),
                Ok((stored, upload)) => {
                    crash_point!("{next}:made");
                    if let Some(upload) = upload {
                        // Once it is stored it may be sent, after a restart too: paid for before.
                        self.pay().await?;
                        crash_point!("{next}:paid");
                        self.state.save_upload(&upload)?;
                        crash_point!("{next}:upload-stored");
                    }
                    if let Stored::Finished(_) = &stored {
                        self.state.expose(self.reveal(*stored.attempt()))?;
                        crash_point!("{next}:exposed");
                    }
                    self.state.save(self.assignment, self.model_len, &stored.to_bytes())?;
                    #[cfg(feature = "test-util")]
                    self.state.witness(&stored)?;
                    crash_point!("{next}:stored");
                    tracing::debug!(round = %self.assignment.round, step = stored.step().name(), "answered");
                    current = stored;
                }
            }
        }
    }

    /// Sends the message of a state. That it may have been sent before changes nothing.
    async fn send(&self, current: &Stored) -> Result<(), SessionError> {
        let step = current.step();
        #[cfg(feature = "test-util")]
        self.state.witness_sent(current)?;
        if step == Step::MaskedInput {
            let packed = self.state.upload()?;
            return Ok(deliver_input(self.client, &self.attempt_path(), &packed, current.message()).await?);
        }
        Ok(self.client.post_bytes(&self.message_path(step), current.message()).await?)
    }

    /// Pays for the attempt, once. Where it costs nothing, this site must have nothing to protect.
    async fn pay(&self) -> Result<(), SessionError> {
        let (budget, charge, task) = (self.budget.clone(), self.charge.clone(), self.assignment.round.task.clone());
        let work = move || match &charge {
            Some(charge) => budget.pay(charge),
            None => budget.allows_unprotected(&task),
        };
        let paid = tokio::task::spawn_blocking(work).await.map_err(|_| SessionError::Cut)?;
        paid.map_err(|error| SessionError::Budget(Box::new(error)))
    }

    async fn fetch(&self, step: Step, give_up: Instant) -> Result<Option<Vec<u8>>, SessionError> {
        let path = self.message_path(step);
        while Instant::now() < give_up {
            if let Some(bytes) = self.client.poll_bytes(&path, POLL, MESSAGE_MAX).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// This attempt, as it is counted.
    fn reveal(&self, attempt: ContextDigest) -> Reveal<'_> {
        let Assignment { round, model, .. } = self.assignment;
        Reveal { task: round.task.as_str(), round: round.number, model: &model.0, attempt }
    }

    fn attempt_path(&self) -> String {
        format!("/v1/rounds/{}/attempts/{}", self.assignment.round, self.assignment.attempt)
    }

    fn message_path(&self, step: Step) -> String {
        format!("{}/messages/{step}", self.attempt_path())
    }
}

/// Uploads an input and sends the message that stands for it, again where the coordinator does not hold that input then.
async fn deliver_input(client: &Client, attempt: &str, packed: &[u8], message: &[u8]) -> Result<(), ClientError> {
    let input = format!("{attempt}/input");
    let mut uploads = 0;
    loop {
        match client.put_chunks(&format!("{input}?"), &input, packed).await {
            // It was accepted before a restart of ours.
            Err(error) if error.code() == Some(Code::AlreadySubmitted) => {}
            other => other?,
        }
        crash_point!("MaskedInput:uploaded");
        uploads += 1;
        match client.post_bytes(&format!("{attempt}/messages/{}", Step::MaskedInput), message).await {
            // It has lost bytes of the input since it counted them, or has thrown them away.
            Err(error) if not_the_input(&error) && uploads < UPLOADS_MAX => {
                tracing::warn!(error = %error, uploads, "the input is uploaded again");
            }
            other => return other,
        }
    }
}

/// Computes the answer to a step's opening message; for MaskedInput with the upload that goes before it.
fn answer(
    current: Stored,
    opening: &[u8],
    trust: &SiteTrust,
    signer: &SiteSigner<'_>,
) -> Result<(Stored, Option<Vec<u8>>), Refusal> {
    Ok(match current {
        Stored::AwaitingRoster(state) => {
            let mut rng = UnwrapErr(SysRng);
            (Stored::AwaitingShares(state.share_keys(opening, trust, signer, &mut rng)?), None)
        }
        Stored::AwaitingShares(state) => {
            let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let (state, upload) = state.mask_input_on(threads, opening, signer)?;
            (Stored::AwaitingSurvivors(state), Some(upload.bytes))
        }
        Stored::AwaitingSurvivors(state) => {
            (Stored::AwaitingSignatures(state.sign_survivors(opening, trust, signer)?), None)
        }
        Stored::AwaitingSignatures(state) => (Stored::Finished(state.reveal(opening, signer)?), None),
        Stored::Finished(state) => (Stored::Finished(state), None),
    })
}

/// Whether an error means that the attempt goes on without us.
fn left_out(step: Step, error: SessionError) -> Result<Ending, SessionError> {
    let SessionError::Client(ClientError::Refused(problem)) = &error else { return Err(error) };
    match problem.code {
        // Our input is in, and the others' shares were enough.
        Code::StaleRound if step == Step::Unmasking => Ok(Ending::Finished),
        Code::StaleRound | Code::Rejected | Code::AlreadySubmitted | Code::NotFound => {
            Ok(Ending::LeftOut(problem.detail.clone()))
        }
        // An input that was uploaded as often as is sensible.
        Code::DigestMismatch | Code::Conflict | Code::OffsetMismatch if step == Step::MaskedInput => {
            Ok(Ending::LeftOut(problem.detail.clone()))
        }
        _ => Err(error),
    }
}

/// Whether the coordinator says that it does not hold the input that our message stands for.
fn not_the_input(error: &ClientError) -> bool {
    matches!(error.code(), Some(Code::DigestMismatch | Code::Conflict))
}

/// An error with its causes, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How long a poll asks to wait; the coordinator cuts it to its own limit.
const POLL: Duration = Duration::from_secs(25);
/// Bytes of a step's opening message: a roster of the largest size, with the most neighbours.
const MESSAGE_MAX: usize = 80 * 1024 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::client::tests::{Reply, Spool, serve};
    use std::sync::{Mutex, PoisonError};

    /// Answers commits with these refusals, then takes what is there; each refusal throws the upload away.
    async fn delivered(refusals: Vec<Code>) -> (Result<(), ClientError>, Vec<u8>, usize) {
        let packed: Vec<u8> = (0..2_500_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        let shared = Arc::new(Mutex::new((Spool::new(packed.len()), 0)));
        let (seen, mut refusals) = (shared.clone(), refusals.into_iter());
        let client = serve(move |request| {
            let mut shared = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match request.path() {
                "/attempt/input" => shared.0.answer(request),
                "/attempt/messages/MaskedInput" => {
                    shared.1 += 1;
                    let Some(code) = refusals.next() else { return Reply::status(201) };
                    shared.0.bytes.clear();
                    Reply::problem(code)
                }
                _ => Reply::status(404),
            }
        })
        .await;
        let ended = deliver_input(&client, "/attempt", &packed, b"message").await;
        let shared = shared.lock().unwrap();
        assert!(shared.0.bytes.is_empty() || shared.0.bytes == packed);
        (ended, shared.0.bytes.clone(), shared.1)
    }

    #[tokio::test]
    async fn an_input_that_the_coordinator_lost_is_uploaded_again() {
        for code in [Code::Conflict, Code::DigestMismatch] {
            let (ended, bytes, commits) = delivered(vec![code, code]).await;
            ended.unwrap();
            assert_eq!((bytes.len(), commits), (2_500_000, 3), "{code:?}");
        }
    }

    #[tokio::test]
    async fn an_input_that_is_lost_each_time_costs_the_attempt() {
        let (ended, _, commits) = delivered(vec![Code::DigestMismatch; 99]).await;
        let error = ended.unwrap_err();
        assert_eq!((error.code(), commits), (Some(Code::DigestMismatch), UPLOADS_MAX as usize));
        assert!(matches!(left_out(Step::MaskedInput, error.into()), Ok(Ending::LeftOut(_))));
    }
}
