//! One attempt, from the advertised keys to the revealed shares. Each state is durable before its message is sent.

use crate::client::{Client, ClientError};
use crate::join::since_epoch;
use crate::state::{StateError, StateFolder};
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_identity::{IdentityKey, Role, TrustAnchors, decode_chain};
use sordino_secagg::participant::{Refusal, Stored, Trust};
use sordino_secagg::{ParticipantId, Signer, Step};
use sordino_wire::Code;
use sordino_wire::api::{Assignment, UploadStatus};
use std::time::Duration;
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
    #[error("the work on a step was cut off")]
    Cut,
    /// Asked for by a test: the site falls silent.
    #[error("vanishing before {0}, as asked")]
    Vanish(Step),
}

/// Whom this site believes: certificates that lead to its root, and the registrar's key it was invited with.
#[derive(Clone)]
pub(crate) struct SiteTrust {
    pub(crate) anchors: TrustAnchors,
    pub(crate) registrar: VerifyingKey,
}

impl Trust for SiteTrust {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<VerifyingKey, String> {
        let chain = decode_chain(certificates).ok_or("its certificate chain cannot be read")?;
        let verified = self.anchors.verify_client(&chain, since_epoch()).map_err(|error| error.to_string())?;
        let principal = verified.principal();
        if principal.role != Role::Client || principal.id.as_str() != id.as_str() {
            return Err(format!("its certificate is that of {} {}", principal.role, principal.id));
        }
        verified.verifying_key().copied().ok_or_else(|| "its certificate's key is not Ed25519".to_owned())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

/// Signs with the site's certificate key.
pub(crate) struct SiteSigner<'a>(pub(crate) &'a IdentityKey);

impl Signer for SiteSigner<'_> {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// One attempt that this site takes part in.
pub(crate) struct Session<'a> {
    pub(crate) client: &'a Client,
    pub(crate) identity: &'a IdentityKey,
    pub(crate) trust: &'a SiteTrust,
    pub(crate) state: &'a StateFolder,
    pub(crate) assignment: &'a Assignment,
    /// How long the attempt may last: the policy's round timeout.
    pub(crate) lasts: Duration,
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
                Ok(()) => {}
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
            let (trust, key) = (self.trust.clone(), IdentityKey::from_pkcs8_pem(&self.identity.to_pkcs8_pem()));
            let key = key.map_err(|_| SessionError::Cut)?;
            let answered = tokio::task::spawn_blocking(move || answer(current, &opening, &trust, &SiteSigner(&key)));
            match answered.await.map_err(|_| SessionError::Cut)? {
                Err(refusal) => return Ok(Ending::Refused(refused(&refusal))),
                Ok((stored, upload)) => {
                    if let Some(upload) = upload {
                        self.state.save_upload(&upload)?;
                    }
                    self.state.save(self.assignment, &stored.to_bytes())?;
                    #[cfg(feature = "test-util")]
                    self.state.witness(&stored)?;
                    tracing::debug!(round = %self.assignment.round, step = stored.step().name(), "answered");
                    current = stored;
                }
            }
        }
    }

    /// Sends the message of a state. That it may have been sent before changes nothing.
    async fn send(&self, current: &Stored) -> Result<(), SessionError> {
        let step = current.step();
        if step == Step::MaskedInput {
            self.upload().await?;
        }
        Ok(self.client.post_bytes(&self.message_path(step), current.message()).await?)
    }

    async fn upload(&self) -> Result<(), SessionError> {
        let packed = self.state.upload()?;
        let path = format!("{}/input", self.attempt_path());
        let status: UploadStatus = match self.client.get(&path).await {
            // It was accepted before a restart of ours.
            Err(error) if error.code() == Some(Code::AlreadySubmitted) => return Ok(()),
            other => other?,
        };
        let received = usize::try_from(status.received).unwrap_or(usize::MAX).min(packed.len());
        Ok(self.client.put_chunks(&format!("{path}?"), &packed, received).await?)
    }

    async fn fetch(&self, step: Step, give_up: Instant) -> Result<Option<Vec<u8>>, SessionError> {
        let path = format!("{}?wait={POLL_SECONDS}", self.message_path(step));
        while Instant::now() < give_up {
            if let Some(bytes) = self.client.poll_bytes(&path, MESSAGE_MAX).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn attempt_path(&self) -> String {
        format!("/v1/rounds/{}/attempts/{}", self.assignment.round, self.assignment.attempt)
    }

    fn message_path(&self, step: Step) -> String {
        format!("{}/messages/{step}", self.attempt_path())
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
            let (state, upload) = state.mask_input(opening, signer)?;
            (Stored::AwaitingSurvivors(state), Some(upload.packed))
        }
        Stored::AwaitingSurvivors(state) => (Stored::AwaitingSignatures(state.sign_survivors(opening, signer)?), None),
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
        _ => Err(error),
    }
}

fn refused(refusal: &Refusal) -> String {
    let causes = std::iter::successors(Some(refusal as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Seconds of a long poll; the coordinator cuts it to its own limit.
const POLL_SECONDS: u64 = 25;
/// Bytes of a step's opening message: a roster of the largest size, with the most neighbours.
const MESSAGE_MAX: usize = 80 * 1024 * 1024;
