//! A participant that speaks the HTTP interface by hand, so that it can say what no honest one would.

use super::common::{TestClient, TestFederation};
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use reqwest::{Method, Response, StatusCode};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sordino_codec::{Encoding, RingVector};
use sordino_coordinator::bulk::{CONTENT_DIGEST, digest_value};
use sordino_identity::{IdentityKey, TrustAnchors};
use sordino_secagg::{
    CertificateKey, ParticipantId, Signer, Step,
    participant::{AwaitingRoster, Identity, Stored, Trust},
};
use sordino_wire::{
    Digest, TaskId,
    api::{Assignment, AttemptId, CheckIn, Task, UploadStatus},
};
use std::{fs, time::SystemTime};

/// A participant with its certificate, in nobody's folder.
pub struct Raw {
    pub client: TestClient,
    pub key: Key,
    /// Its certificates, each behind its length.
    pub chain: Vec<u8>,
    trust: OwnTrust,
}

/// Its part in one attempt.
pub struct Part<'a> {
    raw: &'a Raw,
    pub assignment: Assignment,
    /// What it encoded.
    pub integers: Vec<i64>,
    /// The state whose message is to be sent next.
    pub state: Option<Stored>,
    /// The masked input, once it is made.
    pub packed: Vec<u8>,
    /// Bits of the last byte of the packed vector that are used; 0 for all.
    pub tail: usize,
}

/// Signs as a certificate's key does.
pub struct Key(pub IdentityKey);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

struct OwnTrust {
    anchors: TrustAnchors,
    registrar: VerifyingKey,
}

impl Trust for OwnTrust {
    fn participant(&self, _: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let mut chain = Vec::new();
        let mut rest = certificates;
        while let Some((len, more)) = rest.split_first_chunk::<4>() {
            let (certificate, more) = more.split_at(u32::from_le_bytes(*len) as usize);
            chain.push(CertificateDer::from(certificate.to_vec()));
            rest = more;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let verified = self.anchors.verify_client(&chain, now).map_err(|error| error.to_string())?;
        CertificateKey::from_bytes(&verified.public_key().unwrap().to_bytes()).map_err(|error| error.to_string())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

impl Raw {
    pub async fn join(federation: &TestFederation, id: &str) -> Self {
        let client = federation.participant(id).await;
        let mut chain = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(client.chain_pem.as_bytes()) {
            let certificate = certificate.unwrap();
            chain.extend_from_slice(&u32::try_from(certificate.len()).unwrap().to_le_bytes());
            chain.extend_from_slice(&certificate);
        }
        let root = fs::read_to_string(federation.root_pem()).unwrap();
        let anchors = TrustAnchors::from_pem(federation.app.federation().clone(), &root).unwrap();
        let key = Key(IdentityKey::from_pkcs8_pem(&client.key_pem).unwrap());
        Self { client, key, chain, trust: OwnTrust { anchors, registrar: federation.app.registrar_key } }
    }

    /// The same participant, at the coordinator that this client reaches.
    pub fn at(self, client: TestClient) -> Self {
        Self { client, ..self }
    }

    /// Checks in until it is invited to an attempt after `after`.
    pub async fn invited(&self, task: &TaskId, after: Option<AttemptId>) -> Assignment {
        loop {
            let path = format!("/v1/tasks/{task}/checkin?wait=20");
            let answer = self
                .client
                .post(&path)
                .json(&CheckIn { after: after.clone(), epsilon_spent: None })
                .send()
                .await
                .unwrap();
            match answer.status() {
                StatusCode::OK => return answer.json().await.unwrap(),
                StatusCode::NO_CONTENT => {}
                _ => assert!(answer.status().is_success(), "{}", answer.text().await.unwrap()),
            }
        }
    }

    /// Is invited, and has its first message ready: an update of `shift` hundredths for every value.
    pub async fn begin(&self, task: &TaskId, after: Option<AttemptId>, shift: u8) -> Part<'_> {
        let encode = |encoding: &Encoding| {
            let update = vec![f32::from(shift) / 100.0; encoding.spec().model_len];
            let mut rng = UnwrapErr(SysRng);
            encoding.encode(&update, u32::from(shift) + 1, &[f64::from(shift)], &mut rng).unwrap().vector
        };
        self.begin_with(task, after, encode).await
    }

    /// The same with any integers.
    pub async fn begin_with(
        &self,
        task: &TaskId,
        after: Option<AttemptId>,
        encode: impl FnOnce(&Encoding) -> RingVector,
    ) -> Part<'_> {
        let assignment = self.invited(task, after).await;
        let task: Task = self.client.get(&format!("/v1/tasks/{task}")).send().await.unwrap().json().await.unwrap();
        let policy = task.policy.check().unwrap();
        let encoding =
            policy.encoding(usize::try_from(task.model_len).unwrap(), &policy.terms(assignment.cohort)).unwrap();
        let context = policy.context(self.trust.anchors.federation(), &assignment, (&encoding, None));
        let mut rng = UnwrapErr(SysRng);
        let input = encode(&encoding);
        let integers = input.iter_centered().collect();
        let tail = input.len() * usize::from(input.bits().get()) % 8;
        let id = ParticipantId::new(self.client.id.as_str()).unwrap();
        let identity = Identity { id: &id, certificates: &self.chain };
        let state = AwaitingRoster::advertise(context, identity, input, &self.key, &mut rng).unwrap();
        let state = Some(Stored::AwaitingRoster(state));
        Part { raw: self, assignment, integers, state, packed: Vec::new(), tail }
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.client.post(path).header("content-type", "application/octet-stream");
        request.body(body).send().await.unwrap()
    }
}

impl Part<'_> {
    pub fn attempt(&self) -> AttemptId {
        AttemptId { round: self.assignment.round.clone(), attempt: self.assignment.attempt }
    }

    /// A path of the attempt.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/rounds/{}/attempts/{}/{rest}", self.assignment.round, self.assignment.attempt)
    }

    /// The message that is to be sent next, and its step.
    pub fn message(&self) -> (Step, Vec<u8>) {
        let state = self.state.as_ref().unwrap();
        (state.step(), state.message().to_vec())
    }

    /// Sends bytes for a step.
    pub async fn post(&self, step: Step, bytes: &[u8]) -> Response {
        self.raw.post(&self.path(&format!("messages/{step}")), bytes.to_vec()).await
    }

    /// Sends the message that is due; it counts.
    pub async fn send(&self) {
        let (step, message) = self.message();
        let answer = self.post(step, &message).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{step}: {}", answer.text().await.unwrap());
    }

    /// What opens a step, when it does.
    pub async fn fetch(&self, step: Step) -> Response {
        loop {
            let path = self.path(&format!("messages/{step}?wait=20"));
            let answer = self.raw.client.get(&path).send().await.unwrap();
            if answer.status() != StatusCode::NO_CONTENT {
                return answer;
            }
        }
    }

    /// Waits for the next step, and has its message ready.
    pub async fn next(&mut self) {
        let step = self.message().0.next().unwrap();
        let answer = self.fetch(step).await;
        assert_eq!(answer.status(), StatusCode::OK, "{step}: {}", answer.text().await.unwrap());
        let opening = answer.bytes().await.unwrap();
        let (trust, key, mut rng) = (&self.raw.trust, &self.raw.key, UnwrapErr(SysRng));
        let next = match self.state.take().unwrap() {
            Stored::AwaitingRoster(state) => {
                Stored::AwaitingShares(state.share_keys(&opening, trust, key, &mut rng).unwrap())
            }
            Stored::AwaitingShares(state) => {
                let (state, upload) = state.mask_input(&opening, key).unwrap();
                self.packed = upload.bytes;
                Stored::AwaitingSurvivors(state)
            }
            Stored::AwaitingSurvivors(state) => {
                Stored::AwaitingSignatures(state.sign_survivors(&opening, trust, key).unwrap())
            }
            Stored::AwaitingSignatures(state) => Stored::Finished(state.reveal(&opening, key).unwrap()),
            Stored::Finished(state) => Stored::Finished(state),
        };
        self.state = Some(next);
    }

    /// Goes on until the message of this step is due.
    pub async fn until(&mut self, step: Step) {
        while self.message().0 < step {
            self.deliver().await;
            self.next().await;
        }
    }

    /// Sends what is due, with the input where it is one.
    pub async fn deliver(&self) {
        if self.message().0 == Step::MaskedInput {
            let received = usize::try_from(self.uploaded().await.received).unwrap();
            if received < self.packed.len() {
                assert_eq!(self.put(received, &self.packed[received..]).await.status(), StatusCode::OK);
            }
        }
        self.send().await;
    }

    /// Answers every step that is left.
    pub async fn finish(&mut self) {
        self.until(Step::Unmasking).await;
        self.deliver().await;
    }

    /// Sends a piece of the input.
    pub async fn put(&self, offset: usize, chunk: &[u8]) -> Response {
        self.put_as(offset, chunk, Digest::of(chunk)).await
    }

    /// Sends a piece of the input under this digest.
    pub async fn put_as(&self, offset: usize, chunk: &[u8], digest: Digest) -> Response {
        let request = self.raw.client.request(Method::PUT, &self.path(&format!("input?offset={offset}")));
        let request = request.header("content-type", "application/octet-stream");
        request.header(CONTENT_DIGEST, digest_value(digest)).body(chunk.to_vec()).send().await.unwrap()
    }

    pub async fn status(&self) -> Response {
        self.raw.client.get(&self.path("input")).send().await.unwrap()
    }

    /// How far the upload got.
    pub async fn uploaded(&self) -> UploadStatus {
        let answer = self.status().await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// The header of the masked input for other bytes, signed by this participant.
    pub fn header_of(&self, packed: &[u8]) -> Vec<u8> {
        let (step, mut header) = self.message();
        assert_eq!(step, Step::MaskedInput);
        header[DIGEST].copy_from_slice(&Digest::of(packed).0);
        self.raw.signed(header)
    }
    /// The header of the masked input that is due, with a complaint about this dealer.
    pub fn complaining(&self, dealer: u32) -> Vec<u8> {
        let (step, header) = self.message();
        assert_eq!((step, &header[COMPLAINTS]), (Step::MaskedInput, &[0; 4][..]));
        let complaint = [1_u32.to_le_bytes(), dealer.to_le_bytes()].concat();
        self.raw.signed([&header[..COMPLAINTS.start], &complaint, &[0; 64]].concat())
    }

    /// Its own place in the roster, as the header of its masked input has it.
    pub fn place(&self) -> u32 {
        let (step, header) = self.message();
        assert_eq!(step, Step::MaskedInput);
        u32::from_le_bytes(header[PLACE].try_into().unwrap())
    }
}

impl Raw {
    /// A part's advertisement with another certificate chain.
    pub fn advertising(&self, part: &Part<'_>, chain: &[u8]) -> Vec<u8> {
        let (step, message) = part.message();
        assert_eq!(step, Step::AdvertiseKeys);
        let head = message.len() - 64 - self.chain.len();
        let len = u32::try_from(chain.len()).unwrap().to_le_bytes();
        self.signed([&message[..head - 4], &len, chain, &[0; 64]].concat())
    }

    /// A message whose last bytes are a signature, signed anew.
    pub fn signed(&self, mut message: Vec<u8>) -> Vec<u8> {
        let end = message.len() - 64;
        let signature = self.key.sign(&[MESSAGE_SIGNATURE, &message[..end]].concat());
        message[end..].copy_from_slice(&signature);
        message
    }
}

/// `docs/protocol.md`: what precedes a message where it is signed.
const MESSAGE_SIGNATURE: &[u8] = b"sordino/secagg/v3/message signature";
/// Where the digest stands in a MaskedInput: after version, type, context, index, dealers and length.
const DIGEST: std::ops::Range<usize> = 80..112;
/// How many complaints follow the digest.
const COMPLAINTS: std::ops::Range<usize> = 112..116;
/// After version, type and context.
const PLACE: std::ops::Range<usize> = 36..40;
