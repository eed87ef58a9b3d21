//! A coordinator that runs one attempt by the true core, over TLS, and lies in transit.
//!
//! Each site comes to a port of its own, so the liar knows who asks. A site that has answered is a site that has answered,
//! whether the core took the message or not: nobody is waited for whom a lie has put off.

use super::super::{
    common::{TestFederation, model},
    site::Site,
    stage::{PATIENT, VALUES, policy},
};
use super::{assigned, listen, ok, refusal};
use axum::{Router, body::Bytes, extract::State};
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey as _};
use http::{Method, StatusCode, Uri};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use sordino_participant::Summary;
use sordino_secagg::{
    CertificateKey, ParticipantId, Step,
    coordinator::{Coordinator, Outgoing, Setup, Timing},
};
use sordino_wire::{
    Code,
    api::{Task, TokenAnswer, UploadStatus},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

/// An attempt of some sites with a liar.
pub(super) struct Fake {
    pub(super) registrar: SigningKey,
    /// The task, as it is told to each of the sites.
    tasks: Vec<(Task, Vec<u8>)>,
    pub(super) ids: Vec<ParticipantId>,
    keys: BTreeMap<ParticipantId, CertificateKey>,
    stage: Mutex<Scene>,
    lie: Lie,
}

/// What a site is told in a step instead of the truth, if anything; by its place among the sites.
pub(super) type Lie = Box<dyn Fn(&Fake, &Scene, usize, Step, Option<&[u8]>) -> Option<Vec<u8>> + Send + Sync>;

/// How far the attempt is.
pub(super) struct Scene {
    /// `None` once it has given up.
    core: Option<Coordinator>,
    /// Whoever came was told of the attempt.
    assigned: BTreeSet<usize>,
    /// Everything that the sites said.
    pub(super) said: BTreeMap<(usize, Step), Vec<u8>>,
    /// Masked inputs, as far as they came.
    pub(super) inputs: BTreeMap<usize, Vec<u8>>,
}

struct Seat {
    fake: Arc<Fake>,
    place: usize,
}

impl Fake {
    /// Tells some sites of a task of its own, over a model of its own.
    ///
    /// - `other_model`: who is given another one.
    pub(super) async fn new(
        federation: &TestFederation,
        sites: &[Site],
        number: u8,
        other_model: Option<usize>,
        lie: Lie,
    ) -> Arc<Self> {
        let file = |value: f32| model(&[value; VALUES]);
        let (told, other) = (file(f32::from(number)), file(f32::from(number) + 0.5));
        let task = federation.create_task(&policy(PATIENT), federation.upload(&told).await).await;
        let other_task = Task { model: federation.upload(&other).await, ..task.clone() };
        let tasks = (0..sites.len()).map(|place| match other_model {
            Some(victim) if victim == place => (other_task.clone(), other.clone()),
            _ => (task.clone(), told.clone()),
        });
        let mut cohort = BTreeMap::new();
        for site in sites {
            let row = federation.app.store.principal(site.id.as_str()).await.unwrap().unwrap();
            cohort.insert(participant(site), CertificateKey::from_bytes(&row.verifying_key).unwrap());
        }
        let checked = task.policy.clone().check().unwrap();
        let assignment = assigned(&task, 1);
        let encoding = checked.encoding(VALUES, &checked.terms(assignment.cohort)).unwrap();
        let context = checked.context(&"test.example".parse().unwrap(), &assignment, (&encoding, None));
        let hour = 3_600_000;
        let timing = Timing { advertise: hour, step: hour, grace: hour, attempt: hour };
        let keys = cohort.clone();
        let core = Coordinator::new(Setup { context, cohort, quorum: u32::MAX, timing }, 0);
        let registrar = PrivateKeyDer::from_pem_file(federation.places.registrar.join("registrar.key")).unwrap();
        let scene =
            Scene { core: Some(core), assigned: BTreeSet::new(), said: BTreeMap::new(), inputs: BTreeMap::new() };
        let fake = Arc::new(Self {
            registrar: SigningKey::from_pkcs8_der(registrar.secret_der()).unwrap(),
            tasks: tasks.collect(),
            ids: sites.iter().map(participant).collect(),
            keys,
            stage: Mutex::new(scene),
            lie,
        });
        for (place, site) in sites.iter().enumerate() {
            let seat = Arc::new(Seat { fake: fake.clone(), place });
            site.moved_to(&listen(federation, Router::new().fallback(serve).with_state(seat)).await);
        }
        fake
    }

    /// All sites take part, until these have done with it; the others, who wait for an end that never comes, are sent home.
    pub(super) async fn play(&self, sites: &[Site], victims: &[usize]) -> Vec<Summary> {
        let task = &self.tasks[0].0.id;
        let mut running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(task, None))).collect();
        let mut ended = Vec::new();
        for &victim in victims {
            let summary = tokio::time::timeout(Duration::from_secs(30), &mut running[victim]).await;
            let said = self.scene().said.keys().copied().collect::<Vec<_>>();
            let summary = summary.unwrap_or_else(|_| unreachable!("site {victim} has not done with it: {said:?}"));
            ended.push(summary.unwrap().unwrap());
        }
        for other in running.into_iter().filter(|other| !other.is_finished()) {
            other.abort();
            // Their folders are locked until they are gone.
            let _ = other.await;
        }
        ended
    }

    /// What was said and done.
    pub(super) fn scene(&self) -> std::sync::MutexGuard<'_, Scene> {
        self.stage.lock().unwrap()
    }

    fn answer(&self, place: usize, method: &Method, uri: &Uri, body: &[u8]) -> (StatusCode, Vec<u8>) {
        let (task, file) = &self.tasks[place];
        let path = uri.path();
        let scene = &mut *self.stage.lock().unwrap();
        if !path.starts_with("/v1/models/") && !path.contains(&task.id.to_string()) {
            // Of the attempt before, which nobody ended.
            return refusal(Code::NotFound);
        }
        if path.ends_with("/checkin") {
            let is_new = scene.assigned.insert(place);
            return if is_new { ok(&assigned(task, 1)) } else { refusal(Code::Conflict) };
        }
        if path.starts_with("/v1/tasks/") {
            return ok(task);
        }
        if path.starts_with("/v1/models/") {
            return (StatusCode::OK, file.clone());
        }
        if path.ends_with("/input") {
            let expected = scene.core.as_ref().map_or(0, Coordinator::input_len);
            let input = scene.inputs.entry(place).or_default();
            input.extend_from_slice(body);
            return ok(&UploadStatus { received: input.len() as u64, expected });
        }
        let Some(step) = path.rsplit_once("/messages/").and_then(|(_, name)| Step::from_name(name)) else {
            return refusal(Code::NotFound);
        };
        if method == Method::POST {
            self.hear(scene, place, step, body);
            return (StatusCode::CREATED, Vec::new());
        }
        let truth = scene.truth(step, &self.ids[place]);
        match (self.lie)(self, scene, place, step, truth.as_deref()).or(truth) {
            Some(bytes) => (StatusCode::OK, bytes),
            None => (StatusCode::NO_CONTENT, Vec::new()),
        }
    }

    /// Tells the core, whatever it makes of it, and goes on when all have answered or nobody else will.
    fn hear(&self, scene: &mut Scene, place: usize, step: Step, bytes: &[u8]) {
        if scene.said.insert((place, step), bytes.to_vec()).is_some() {
            return;
        }
        let Some(mut core) = scene.core.take() else { return };
        let id = &self.ids[place];
        // What a victim of a lie says may be of no use to the core.
        let _ = if step == Step::MaskedInput {
            let mut hasher = core.hasher();
            hasher.update(&scene.inputs[&place]);
            core.input(id, bytes, &hasher.finish(), 0)
        } else {
            core.message(step, id, bytes, 0)
        };
        let answered = scene.said.keys().filter(|(_, other)| *other == step).count();
        if core.step() == Some(step) && answered == self.ids.len() {
            // An honest core gives up where lies leave too few: the liar does not.
            let Ok(closed) = core.close(0) else { return };
            core = closed;
        }
        if let Some(roster) = core.roster_to_sign() {
            let statement = roster.statement(|id| self.keys.get(id).copied()).unwrap();
            let signature = ed25519_dalek::Signer::sign(&self.registrar, &statement).to_bytes();
            core = core.roster_signed(signature, 0);
        }
        if let Some(survivors) = core.survivors_to_sign() {
            let signature = ed25519_dalek::Signer::sign(&self.registrar, &survivors.statement()).to_bytes();
            core = core.survivors_signed(signature, 0);
        }
        scene.core = Some(core);
    }
}

impl Scene {
    /// What the core has for somebody.
    pub(super) fn truth(&self, step: Step, of: &ParticipantId) -> Option<Vec<u8>> {
        match self.core.as_ref()?.outgoing(step, of) {
            Outgoing::Message(bytes) => Some(bytes),
            Outgoing::Wait | Outgoing::Excluded => None,
        }
    }

    /// Everybody's advertisement that was made for this context, in the order of the roster.
    pub(super) fn advertisements(&self) -> Vec<&Vec<u8>> {
        self.said.iter().filter(|((_, step), _)| *step == Step::AdvertiseKeys).map(|(_, bytes)| bytes).collect()
    }

    /// Whether this site has said anything that helps to open its input.
    pub(super) fn has_revealed(&self, place: usize) -> bool {
        self.said.contains_key(&(place, Step::Unmasking))
    }
}

fn participant(site: &Site) -> ParticipantId {
    ParticipantId::new(site.id.as_str()).unwrap()
}

async fn serve(State(seat): State<Arc<Seat>>, method: Method, uri: Uri, body: Bytes) -> (StatusCode, Vec<u8>) {
    if uri.path() == "/v1/token" {
        return ok(&TokenAnswer { access_token: "any".into(), token_type: "Bearer".into(), expires_in: 600 });
    }
    let answer = seat.fake.answer(seat.place, &method, &uri, &body);
    if answer.0 == StatusCode::NO_CONTENT {
        // Sites ask again at once: a coordinator keeps them for a while.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    answer
}
