//! Training that comes to nothing, and a coordinator that lies: a site says what is wrong, and takes no part.

mod fake;
mod overlap;
mod told;

use super::{
    POLICY,
    common::{TestFederation, model, with_metadata},
    join, round,
    site::Site,
    stage::{PATIENT, Stage, VALUES, policy},
    task,
};
use axum::{Router, extract::State};
use http::{StatusCode, Uri};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sordino_codec::Tensors;
use sordino_participant::{
    ClientError, Summary, TrainError,
    training::{ExecTrainer, ModelError, RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::{
    Code, Digest, Policy, Problem, RoundId,
    api::{Assignment, Task, TokenAnswer},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Gives back the model with one value replaced, and this metric.
struct Replaces(Option<f32>, Option<f64>);

impl Trainer for Replaces {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        let (layout, mut values) = model.clone().into_parts();
        values[3] = self.0.unwrap_or(values[3]);
        let metrics = self.1.map(|value| ("loss_sum".to_owned(), value)).into_iter().collect();
        let tensors = Tensors::new(layout, values).map_err(ModelError::from)?;
        Ok(Trained { tensors, num_examples: 1, metrics })
    }
}

/// A program that gives back this file, whatever is in it.
fn program_writing(folder: &Path, update: &[u8]) -> Box<dyn Trainer> {
    let file = folder.join(Digest::of(update).to_string());
    fs::write(&file, update).unwrap();
    let script = "cp \"$1\" \"$SORDINO_UPDATE_OUT\" && \
                  printf '{\"num_examples\": 1, \"metrics\": {\"loss_sum\": 1}}' > \"$SORDINO_METRICS_OUT\"";
    let arguments = ["-c".into(), script.into(), "sh".into(), file.into_os_string()].into();
    Box::new(ExecTrainer::new("/bin/sh", arguments, Duration::from_secs(30)).with_scratch(folder))
}

fn chain(error: &TrainError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Each failure names the value, nothing of it is sent, and the third in a row is the last.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_update_fails_by_name() {
    let federation = TestFederation::start().await;
    let (task, file) = offered(&federation).await;
    let folder = tempfile::tempdir().unwrap();
    let program = |update: &[u8]| program_writing(folder.path(), update);
    let mut lying = file.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let failures: [(Box<dyn Trainer>, &[&str]); 8] = [
        (Box::new(Replaces(Some(f32::NAN), Some(1.0))), &["value 3 of tensor `weight` is NaN"]),
        (Box::new(Replaces(Some(f32::NEG_INFINITY), Some(1.0))), &["value 3 of tensor `weight` is -inf"]),
        (Box::new(Replaces(None, Some(f64::NAN))), &["loss_sum", "NaN"]),
        (Box::new(Replaces(None, None)), &["no metric \"loss_sum\""]),
        (program(&model(&[f32::NAN; VALUES])), &["value 0 of tensor `weight` is NaN"]),
        (program(&lying), &["header"]),
        (program(&file[..100]), &["bytes"]),
        (program(&model(&[0.5; VALUES - 1])), &["weight", "[40]"]),
    ];
    let mut running = Vec::new();
    for (number, (trainer, says)) in (0..).zip(failures) {
        let site = Site::join(&federation, number).await;
        // A fourth attempt is offered, and not taken.
        let attempts = (1..=4).map(|attempt| ok(&assigned(&task, attempt)));
        let said = [(check_in(&task), attempts.collect()), task_is(&task), model_is(&task, &file)];
        let liar = liar(&federation, said.into()).await;
        site.moved_to(&liar.url);
        let id = task.id.clone();
        running.push(async move {
            let error = site.train_by(trainer, &id, None).await.expect_err(says[0]);
            let text = chain(&error);
            assert!(says.iter().all(|part| text.contains(part)), "{says:?}: {text}");
            assert_eq!(liar.heard("/checkin"), 3, "{text}");
            assert_eq!(liar.heard("/messages/"), 0, "{text}");
        });
    }
    futures(running).await;
}

/// Fails at first, and trains well afterwards.
struct FailsOnce(bool);

impl Trainer for FailsOnce {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainingError> {
        let value = if std::mem::replace(&mut self.0, true) { 0.25 } else { f32::NAN };
        Replaces(Some(value), Some(1.0)).train(model, round)
    }
}

/// The round goes on without a site whose training diverged, and the next one with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_diverged_is_a_dropout_of_that_round() {
    let mut stage = Stage::open(&policy(0.2).replace("rounds = 1", "rounds = 2"), VALUES, 5).await;
    let site = Site::join(&stage.federation, 5).await;
    let id = site.id.clone();
    let summary = site.train_by(Box::new(FailsOnce(false)), &stage.task, None).await.unwrap();
    assert_eq!(summary, Summary { finished: 1, failed: 1, ..Summary::default() });
    stage.sites.push(site);
    stage.complete(&[]).await;
    let release = round(&stage.federation, &stage.task, 1).await.release.unwrap();
    assert_eq!(release.dropouts.into_iter().collect::<Vec<_>>(), [(id, "AdvertiseKeys".to_owned())]);
}

/// Counts how often it was asked to train.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicU32>);

impl Trainer for Counts {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let metrics = BTreeMap::from([("loss_sum".to_owned(), 0.0)]);
        Ok(Trained { tensors: model.clone(), num_examples: 1, metrics })
    }
}

/// Trains at a coordinator; how it failed. Nothing was trained on.
async fn untrained(site: &Site, task: &Task, why: &str) -> TrainError {
    let counts = Counts::default();
    let error = site.train_by(Box::new(counts.clone()), &task.id, None).await.expect_err(why);
    assert_eq!(counts.0.load(Ordering::Relaxed), 0, "{why}");
    error
}

/// An answer of a lying coordinator.
pub type Answer = (StatusCode, Vec<u8>);
/// What it answers, by path: one after the other, the last one again and again. To all else: that it is not there.
pub type Said = BTreeMap<String, Vec<Answer>>;

pub fn ok(body: &impl serde::Serialize) -> Answer {
    (StatusCode::OK, serde_json::to_vec(body).unwrap())
}

pub fn refusal(code: Code) -> Answer {
    (StatusCode::from_u16(code.status()).unwrap(), serde_json::to_vec(&Problem::new(code, "a lie")).unwrap())
}

pub fn check_in(task: &Task) -> String {
    format!("/v1/tasks/{}/checkin", task.id)
}

fn task_is(task: &Task) -> (String, Vec<Answer>) {
    (format!("/v1/tasks/{}", task.id), vec![ok(task)])
}

fn model_is(task: &Task, file: &[u8]) -> (String, Vec<Answer>) {
    (format!("/v1/models/{}", task.model), vec![(StatusCode::OK, file.to_vec())])
}

/// The first message of an attempt of the task's round is answered like this.
fn keys_are(task: &Task, attempt: u32, answer: Answer) -> (String, Vec<Answer>) {
    let path = format!("/v1/rounds/{}.{}/attempts/{attempt}/messages/AdvertiseKeys", task.id, task.round);
    (path, vec![answer])
}

/// A task to lie about, and its model: nobody runs its rounds.
async fn offered(federation: &TestFederation) -> (Task, Vec<u8>) {
    let file = model(&[0.5; VALUES]);
    let policy = policy(PATIENT).replace("rounds = 1", "rounds = 2");
    (federation.create_task(&policy, federation.upload(&file).await).await, file)
}

/// An assignment that goes with what is said of the task.
pub fn assigned(task: &Task, attempt: u32) -> Assignment {
    Assignment {
        round: RoundId { task: task.id.clone(), number: task.round },
        attempt,
        nonce: Digest([9; 32]),
        model: task.model,
        policy_digest: task.policy_digest,
        time_left: 20_000,
        cohort: task.policy.cohort.min,
        noise_multiplier: None,
    }
}

/// The same task under another policy.
fn under(task: &Task, change: impl FnOnce(&mut Policy)) -> Task {
    let mut task = task.clone();
    change(&mut task.policy);
    task.policy_digest = task.policy.clone().check().unwrap().digest();
    task
}

/// A coordinator with the true one's certificate that says these things.
pub struct Liar {
    pub url: String,
    spoken: Arc<Spoken>,
}

struct Spoken {
    said: Mutex<Said>,
    heard: Mutex<Vec<String>>,
}

impl Liar {
    /// How many requests had this in their path.
    pub fn heard(&self, part: &str) -> usize {
        self.spoken.heard.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

async fn say(State(liar): State<Arc<Spoken>>, uri: Uri) -> Answer {
    liar.heard.lock().unwrap().push(uri.path().to_owned());
    match liar.said.lock().unwrap().get_mut(uri.path()) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        None => refusal(Code::NotFound),
    }
}

pub async fn liar(federation: &TestFederation, mut said: Said) -> Arc<Liar> {
    let token = TokenAnswer { access_token: "any".into(), token_type: "Bearer".into(), expires_in: 600 };
    said.insert("/v1/token".to_owned(), vec![ok(&token)]);
    let spoken = Arc::new(Spoken { said: said.into(), heard: Mutex::default() });
    let url = listen(federation, Router::new().fallback(say).with_state(spoken.clone())).await;
    Arc::new(Liar { url, spoken })
}

/// Serves this with the true coordinator's certificate; the address.
async fn listen(federation: &TestFederation, router: Router) -> String {
    let keys = federation.folder.path().join("keys");
    let chain = CertificateDer::pem_file_iter(keys.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(keys.join("server.key")).unwrap();
    let provider = Arc::new(sordino_coordinator::tls::provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                // A client that hangs up is an error here and nowhere else.
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(stream, TowerToHyperService::new(router)).await;
            });
        }
    });
    url
}

/// A coordinator that was set back, or lies about policy, model or round, is not believed before anything is trained.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_does_not_train_on_a_lie() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 6).await;
    stage.complete(&[]).await;
    let federation = &stage.federation;
    let file = model(&[0.5; VALUES]);
    let mut done = task(federation, &stage.task).await;
    (done.round, done.model) = (1, Digest::of(&file));
    let truth = assigned(&done, 1);
    let tells = |assignment: &Assignment, task: &Task, file: &[u8]| {
        let model = (format!("/v1/models/{}", assignment.model), vec![(StatusCode::OK, file.to_vec())]);
        let about = (format!("/v1/tasks/{}", assignment.round.task), vec![ok(task)]);
        Said::from([(check_in(&done), vec![ok(assignment)]), about, model])
    };

    // The very round that this site has taken part in, once more, with a nonce of its own.
    let veteran = &stage.sites[0];
    veteran.moved_to(&liar(federation, tells(&truth, &done, &file)).await.url);
    let replayed = untrained(veteran, &done, "a replay").await;
    assert!(matches!(replayed, TrainError::OtherPolicy), "{replayed}");

    let lying_size = {
        let mut file = file.clone();
        let at = file.windows(4).position(|four| four == b"[41]").unwrap();
        file[at + 1..at + 3].copy_from_slice(b"99");
        file
    };
    let second_file = with_metadata(&file);
    let elsewhere = "01a20189-0000-7000-8000-000000000000".parse().unwrap();
    let (other_model, second_digest) = (Digest::of(&lying_size), Digest::of(&second_file));
    type Lie = (&'static str, Assignment, Task, Vec<u8>, fn(&TrainError) -> bool);
    let lies: [Lie; 7] = [
        (
            "the round of another task",
            Assignment { round: RoundId { task: elsewhere, number: 1 }, ..truth.clone() },
            done.clone(),
            file.clone(),
            |error| matches!(error, TrainError::OtherPolicy),
        ),
        (
            "another round than the task's",
            Assignment { round: RoundId { number: 2, ..truth.round.clone() }, ..truth.clone() },
            done.clone(),
            file.clone(),
            |error| matches!(error, TrainError::OtherPolicy),
        ),
        (
            "another policy than the one that is bound",
            Assignment { policy_digest: Digest([1; 32]), ..truth.clone() },
            done.clone(),
            file.clone(),
            |error| matches!(error, TrainError::OtherPolicy),
        ),
        (
            "another model than the task's",
            Assignment { model: other_model, ..truth.clone() },
            done.clone(),
            lying_size.clone(),
            |error| matches!(error, TrainError::OtherPolicy),
        ),
        ("another file than the digest's", truth.clone(), done.clone(), model(&[0.25; VALUES]), |error| {
            matches!(error, TrainError::Client(ClientError::WrongDigest { .. }))
        }),
        (
            "another file of the same model, which would be counted as another model",
            Assignment { model: second_digest, ..truth.clone() },
            Task { model: second_digest, ..done.clone() },
            second_file,
            |error| chain(error).contains("is not in canonical form: its header has metadata"),
        ),
        (
            "a file that lies about its size",
            Assignment { model: other_model, ..truth.clone() },
            Task { model: other_model, ..done.clone() },
            lying_size,
            |error| matches!(error, TrainError::Model { .. }),
        ),
    ];
    for (number, (name, assignment, said, file, expected)) in (6..).zip(lies) {
        let fresh = Site::join(federation, number).await;
        fresh.moved_to(&liar(federation, tells(&assignment, &said, &file)).await.url);
        let error = untrained(&fresh, &done, name).await;
        assert!(expected(&error), "{name}: {}", chain(&error));
    }
}

/// The policy that a site has taken part under stays, until its operator names another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changed_is_refused() {
    let federation = TestFederation::start().await;
    let (first, file) = offered(&federation).await;
    let changed = under(&first, |policy| policy.privacy.clip_norm *= 2.0);
    let (was, is) = (first.policy_digest, changed.policy_digest);
    let site = Site::join(&federation, 0).await;
    // Each attempt is over as soon as it has begun.
    let said = |check_ins: &[Answer], tasks: &[Answer]| {
        let over = |attempt| keys_are(&first, attempt, refusal(Code::StaleRound));
        let (check_in, task) = (check_in(&first), format!("/v1/tasks/{}", first.id));
        Said::from([
            (check_in, check_ins.to_vec()),
            (task, tasks.to_vec()),
            model_is(&first, &file),
            over(1),
            over(2),
            over(3),
        ])
    };
    let train = async |policy, said| {
        let counts = Counts::default();
        site.moved_to(&liar(&federation, said).await.url);
        let ended = site.train_under(policy, Box::new(counts.clone()), &first.id, None).await;
        (ended, counts.0.load(Ordering::Relaxed))
    };
    let unchanged = || said(&[ok(&assigned(&first, 1))], &[ok(&first)]);
    let (ended, trained) = train(Some(is), unchanged()).await;
    assert!(matches!(ended, Err(TrainError::NotTheNamedPolicy { named, found }) if (named, found) == (is, was)));
    assert_eq!(trained, 0);

    let both = [ok(&assigned(&first, 1)), ok(&assigned(&changed, 2))];
    let (ended, trained) = train(None, said(&both, &[ok(&first), ok(&changed)])).await;
    let error = ended.expect_err("it changed");
    assert!(matches!(error, TrainError::PolicyChanged { first, now } if (first, now) == (was, is)), "{error}");
    assert!(error.to_string().contains(&format!("--policy {is}")), "{error}");
    assert_eq!(trained, 1, "under the first one");

    // The same after a restart, until it is named; from then on it is the one that counts.
    let now = || said(&[ok(&assigned(&changed, 2)), refusal(Code::Conflict)], &[ok(&changed)]);
    let (ended, trained) = train(None, now()).await;
    assert!(matches!(ended, Err(TrainError::PolicyChanged { .. })), "{ended:?}");
    assert_eq!(trained, 0);
    let (ended, trained) = train(Some(is), now()).await;
    assert_eq!((ended.unwrap().left_out, trained), (1, 1));
    let back = said(&[ok(&assigned(&first, 3))], &[ok(&first)]);
    let (ended, trained) = train(None, back).await;
    assert!(matches!(ended, Err(TrainError::PolicyChanged { first, now }) if (first, now) == (is, was)), "{ended:?}");
    assert_eq!(trained, 0);
}

/// Where the site's settings ask for larger sums than the policy does.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_too_weak_is_refused() {
    let federation = TestFederation::start().await;
    let (task, file) = offered(&federation).await;
    let site = Site::join(&federation, 0).await;
    site.set("min_cohort", "5");
    let said = [(check_in(&task), vec![ok(&assigned(&task, 1))]), task_is(&task), model_is(&task, &file)];
    site.moved_to(&liar(&federation, said.into()).await.url);
    let error = untrained(&site, &task, "4 are too few").await;
    assert!(matches!(error, TrainError::WeakPolicy { min: 4, floor: 5 }), "{error}");
}

/// A round that ended between the assignment and the questions that follow it is not taken part in; the next one is.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_moved_on_is_no_failure() {
    let federation = TestFederation::start().await;
    let (first, file) = offered(&federation).await;
    let second = Task { round: 2, ..first.clone() };
    let (check_in, task) = (check_in(&first), format!("/v1/tasks/{}", first.id));
    let check_ins = [ok(&assigned(&first, 1)), ok(&assigned(&second, 1)), refusal(Code::Conflict)];
    let over = keys_are(&second, 1, refusal(Code::StaleRound));
    let moved = Said::from([
        (check_in.clone(), check_ins.to_vec()),
        (task.clone(), vec![ok(&second)]),
        model_is(&first, &file),
        over.clone(),
    ]);
    let gone = vec![refusal(Code::NotFound), (StatusCode::OK, file.clone())];
    let collected = Said::from([
        (check_in, check_ins.to_vec()),
        (task, vec![ok(&first), ok(&second)]),
        (format!("/v1/models/{}", first.model), gone),
        over,
    ]);
    for (number, said) in [(0, moved), (1, collected)] {
        let site = Site::join(&federation, number).await;
        site.moved_to(&liar(&federation, said).await.url);
        let counts = Counts::default();
        let summary = site.train_by(Box::new(counts.clone()), &first.id, None).await.unwrap();
        assert_eq!(summary, Summary { left_out: 2, ..Summary::default() });
        assert_eq!(counts.0.load(Ordering::Relaxed), 1, "in the second round");
    }
}

/// What stands in the way of a stored attempt would do so at every start: it is given up, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_attempt_that_cannot_go_on_is_given_up() {
    let federation = TestFederation::start().await;
    let (task, file) = offered(&federation).await;
    let other = under(&task, |policy| policy.privacy.clip_norm *= 2.0);
    let ended = || (check_in(&task), vec![refusal(Code::Conflict)]);
    let stale = keys_are(&task, 1, refusal(Code::StaleRound));
    let (left_out, refused) =
        (Summary { left_out: 1, ..Summary::default() }, Summary { refused: 1, ..Summary::default() });
    let ways = [
        ("the task is gone", Said::from([ended()]), &left_out),
        ("its round is over, and its model gone", Said::from([ended(), task_is(&task), stale]), &left_out),
        ("its policy is another one", Said::from([ended(), task_is(&other)]), &refused),
    ];
    for (number, (name, said, expected)) in (0..).zip(ways) {
        let site = Site::join(&federation, number).await;
        let first = Said::from([
            (check_in(&task), vec![ok(&assigned(&task, 1))]),
            task_is(&task),
            model_is(&task, &file),
            keys_are(&task, 1, refusal(Code::Internal)),
        ]);
        site.moved_to(&liar(&federation, first).await.url);
        let error = site.train(&task.id, None).await.expect_err("the coordinator fails");
        assert!(matches!(&error, TrainError::Client(error) if error.code() == Some(Code::Internal)), "{error}");
        let again = liar(&federation, said).await;
        site.moved_to(&again.url);
        let counts = Counts::default();
        let summary = site.train_by(Box::new(counts.clone()), &task.id, None).await;
        assert_eq!(summary.as_ref().ok(), Some(expected), "{name}: {summary:?}");
        assert_eq!((counts.0.load(Ordering::Relaxed), again.heard("/v1/models/")), (0, 0), "{name}");
    }
}

/// The coordinator's disk has changed a model: no site trains on it, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_damaged_on_disk_is_not_trained_on() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let file = model(&[0.5; VALUES]);
    let digest = federation.upload(&file).await;
    let created = federation.create_task(POLICY, digest).await;
    let blob = find(&federation.app.config.server.data.join("blobs"), &file).unwrap();
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&blob, &damaged).unwrap();
    let sites = join(&federation, 6).await;
    let all = async |expected: fn(&ClientError) -> bool| {
        let failed: Vec<_> = sites.iter().map(|site| untrained(site, &created, "a damaged model")).collect();
        for error in futures(failed).await {
            assert!(matches!(&error, TrainError::Client(error) if expected(error)), "{}", chain(&error));
        }
    };
    all(|error| matches!(error, ClientError::WrongDigest { .. })).await;
    // Cut short, and gone.
    fs::write(&blob, &file[..file.len() - 1]).unwrap();
    all(|error| matches!(error, ClientError::WrongDigest { .. })).await;
    fs::remove_file(&blob).unwrap();
    all(|error| error.code() == Some(Code::Internal)).await;
    assert_eq!(federation.stranger().get("/readyz").send().await.unwrap().status(), StatusCode::OK);
    rounds.abort();
}

/// All of them at once: a cohort begins when all of it is there.
async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        let mut at = 0;
        while at < running.len() {
            match running[at].as_mut().poll(context) {
                std::task::Poll::Ready(value) => {
                    done.push(value);
                    drop(running.swap_remove(at));
                }
                std::task::Poll::Pending => at += 1,
            }
        }
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

/// The file below a folder with this content.
fn find(folder: &Path, content: &[u8]) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() { find(&path, content) } else { (fs::read(&path).unwrap() == content).then_some(path) }
    })
}
