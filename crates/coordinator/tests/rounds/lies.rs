//! Training that comes to nothing, and a coordinator that lies: a site says what is wrong, and takes no part.

use super::{
    POLICY,
    common::{TestFederation, model},
    join,
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
    ClientError, TrainError,
    training::{ExecTrainer, ModelError, RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::{
    Code, Digest, RoundId,
    api::{Assignment, Task, TokenAnswer},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
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

/// Each failure names the value; nothing of it was sent, so the site can still take part in the same round.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_update_fails_by_name_and_costs_nothing() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let site = Site::join(&stage.federation, 5).await;
    let folder = tempfile::tempdir().unwrap();
    let program = |update: &[u8]| program_writing(folder.path(), update);
    let mut lying = model(&[0.5; VALUES]);
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let failures: [(Box<dyn Trainer>, &[&str]); 8] = [
        (Box::new(Replaces(Some(f32::NAN), Some(1.0))), &["value 3 of tensor `weight` is NaN"]),
        (Box::new(Replaces(Some(f32::NEG_INFINITY), Some(1.0))), &["value 3 of tensor `weight` is -inf"]),
        (Box::new(Replaces(None, Some(f64::NAN))), &["loss_sum", "NaN"]),
        (Box::new(Replaces(None, None)), &["no metric \"loss_sum\""]),
        (program(&model(&[f32::NAN; VALUES])), &["value 0 of tensor `weight` is NaN"]),
        (program(&lying), &["header"]),
        (program(&model(&[0.5; VALUES])[..100]), &["bytes"]),
        (program(&model(&[0.5; VALUES - 1])), &["weight", "[40]"]),
    ];
    for (trainer, says) in failures {
        let error = site.train_by(trainer, &stage.task, None).await.expect_err(says[0]);
        let text = chain(&error);
        assert!(says.iter().all(|part| text.contains(part)), "{says:?}: {text}");
    }
    let last = site.train(&stage.task, None).await.unwrap();
    assert_eq!((last.finished, last.left_out, last.refused), (1, 0, 0));
    stage.sites.push(site);
    stage.complete(&[]).await;
}

/// The round goes on without a site whose training diverged.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_diverged_is_a_dropout() {
    let mut stage = Stage::open(&policy(0.2), VALUES, 5).await;
    let site = Site::join(&stage.federation, 5).await;
    let failed = site.train_by(Box::new(Replaces(Some(f32::NAN), Some(1.0))), &stage.task, None).await;
    assert!(matches!(failed, Err(TrainError::Training { .. })), "{failed:?}");
    let release = stage.complete(&[]).await.release.unwrap();
    assert_eq!(release.dropouts.into_iter().collect::<Vec<_>>(), [(site.id, "AdvertiseKeys".to_owned())]);
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

/// What a lying coordinator answers, by path.
type Said = BTreeMap<String, Vec<u8>>;

async fn say(State(said): State<Arc<Said>>, uri: Uri) -> (StatusCode, Vec<u8>) {
    match said.get(uri.path()) {
        Some(body) => (StatusCode::OK, body.clone()),
        None => (StatusCode::NOT_FOUND, Vec::new()),
    }
}

/// A coordinator with the true one's certificate that says these things. Its address.
async fn liar(federation: &TestFederation, task: &Task, assignment: &Assignment, model: &[u8]) -> String {
    let token = TokenAnswer { access_token: "any".into(), token_type: "Bearer".into(), expires_in: 600 };
    let said = Arc::new(BTreeMap::from([
        ("/v1/token".to_owned(), serde_json::to_vec(&token).unwrap()),
        (format!("/v1/tasks/{}/checkin", task.id), serde_json::to_vec(assignment).unwrap()),
        (format!("/v1/tasks/{}", assignment.round.task), serde_json::to_vec(task).unwrap()),
        (format!("/v1/models/{}", assignment.model), model.to_vec()),
    ]));
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
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(say).with_state(said);
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
    format!("https://localhost:{port}")
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
    let truth = Assignment {
        round: RoundId { task: stage.task.clone(), number: 1 },
        attempt: 1,
        nonce: Digest([9; 32]),
        model: done.model,
        policy_digest: done.policy_digest,
        time_left: 20_000,
    };

    // The very round that this site has taken part in, once more, with a nonce of its own.
    let veteran = &stage.sites[0];
    veteran.moved_to(&liar(federation, &done, &truth, &file).await);
    let replayed = untrained(veteran, &done, "a replay").await;
    assert!(matches!(replayed, TrainError::OtherPolicy), "{replayed}");

    let fresh = Site::join(federation, 6).await;
    let lying_size = {
        let mut file = file.clone();
        let at = file.windows(4).position(|four| four == b"[41]").unwrap();
        file[at + 1..at + 3].copy_from_slice(b"99");
        file
    };
    let elsewhere = "01a20189-0000-7000-8000-000000000000".parse().unwrap();
    let other_model = Digest::of(&lying_size);
    type Lie = (&'static str, Assignment, Task, Vec<u8>, fn(&TrainError) -> bool);
    let lies: [Lie; 6] = [
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
            "a file that lies about its size",
            Assignment { model: other_model, ..truth.clone() },
            Task { model: other_model, ..done.clone() },
            lying_size,
            |error| matches!(error, TrainError::Model { .. }),
        ),
    ];
    for (name, assignment, said, file, expected) in lies {
        fresh.moved_to(&liar(federation, &said, &assignment, &file).await);
        let error = untrained(&fresh, &done, name).await;
        assert!(expected(&error), "{name}: {}", chain(&error));
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
