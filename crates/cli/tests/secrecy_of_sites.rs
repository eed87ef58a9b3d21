//! No secret of an attempt is on a disk or in a log in the clear: a site runs as a process of its own, logs all that it can,
//! and stops itself whenever it has stored a state. Then its folder, the coordinator's, and what both have logged are
//! searched for its update and every secret of the attempt. One site of the cohort drops out, so that a root is
//! reconstructed.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{
    search::{BLOCK, Search, recognisable},
    service::{Federation, Service, until},
};
use rustix::process::{Signal, kill_process};
use sordino_codec::{Dtype, Layout, RingBits, TensorSpec, Tensors};
use sordino_participant::{
    DevOptions, TrainOptions, train,
    training::{RoundInfo, TrainError, Trained, Trainer},
};
use sordino_secagg::Step;
use sordino_wire::api::{Release, RoundState};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const SITES: [&str; 4] = ["hospital-a", "hospital-b", "hospital-c", "hospital-d"];
/// Runs as a process; its secrets are looked for.
const MARKED: usize = 2;
/// Falls silent before it sends its input.
const DROPOUT: usize = 1;
const VALUES: usize = 201;
const POLICY: &str = "\
[task]
name = \"searched\"
rounds = 1
[cohort]
min = 3
target = 4
max_dropout_fraction = 0.25
max_corrupt_fraction = 0.0
[privacy]
enabled = false
clip_norm = 4.0
[encoding]
max_weight = 10
[timing]
participant_timeout = 30.0
round_timeout = 60.0
step_timeout = 20.0
step_grace = 3.0
";
/// Secrets of which a site has one for each neighbour.
const SHARED: [&str; 3] = [HELD, "pair mask key", "pair secret"];
const HELD: &str = "held root share";
/// Hands out a model that was prepared; it knows nothing else.
const TRAINING: &str = "\
cp \"$0/local.safetensors\" \"$SORDINO_UPDATE_OUT\"
echo '{\"num_examples\": 5}' > \"$SORDINO_METRICS_OUT\"";

struct Adds(usize);

impl Trainer for Adds {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainError> {
        let tensors = model.plus(&recognisable(self.0, VALUES)).unwrap();
        Ok(Trained { tensors, num_examples: 3 + self.0 as u64, metrics: BTreeMap::new() })
    }
}

fn model() -> Tensors {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    Tensors::new(layout, (0..u8::try_from(VALUES).unwrap()).map(|at| 1.0 + f32::from(at) / 512.0).collect()).unwrap()
}

/// Copies a folder as it is at this moment, but for what the test itself has put there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() && name != "witness" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The folders of the marked site and of the coordinator, as they were when the site had just stored a state.
struct Snapshot {
    name: &'static str,
    site: PathBuf,
    coordinator: PathBuf,
}

impl Snapshot {
    fn take(home: &Path, name: &'static str) -> Self {
        let folder = |whose: &str| home.join(format!("snapshot.{name}.{whose}"));
        let (site, coordinator) = (folder("site"), folder("coordinator"));
        copy(&home.join(SITES[MARKED]), &site);
        copy(&home.join("fed"), &coordinator);
        Self { name, site, coordinator }
    }
}

/// A round in which the marked site stops at every state; the snapshots of each and of the end, and the Release.
async fn one_round(home: &Path, federation: &Federation) -> (Vec<Snapshot>, Release, String) {
    let task = federation.create_task(POLICY, &model().to_safetensors());
    let local = model().plus(&recognisable(MARKED, VALUES)).unwrap();
    fs::write(home.join("local.safetensors"), local.to_safetensors()).unwrap();
    let scratch = home.join("scratch");
    fs::create_dir(&scratch).unwrap();
    fs::create_dir(home.join("inputs")).unwrap();
    let mut marked = None;
    let mut inside = Vec::new();
    for (number, site) in SITES.into_iter().enumerate() {
        let folder = federation.join(site).await;
        if number == MARKED {
            fs::write(home.join(format!("crash.{site}")), "stop AdvertiseKeys:stored").unwrap();
            let train =
                ["train", site, "--task", task.as_str(), "--log", "json", "--insecure-dev", "--dev-dump", "inputs"];
            let exec = ["--exec", "sh", "-c", TRAINING, home.to_str().unwrap()];
            let environment = [("SORDINO_LOG", "trace"), ("TMPDIR", scratch.to_str().unwrap())];
            marked = Some(Service::start(home, site, &[&train[..], &exec].concat(), &environment));
            continue;
        }
        let vanish = if number == DROPOUT { vec![(1, Step::MaskedInput)] } else { Vec::new() };
        let dev = Some(DevOptions { dump: None, vanish, attack: None });
        let options = TrainOptions { folder, task: Some(task.clone()), rounds: None, policy: None, dev };
        inside.push(tokio::spawn(train(options, Box::new(Adds(number)), std::future::pending())));
    }
    let mut marked = marked.unwrap();
    let mut snapshots = Vec::new();
    for step in Step::ALL {
        until(&format!("stopped at {step}"), async || marked.is_stopped().then_some(())).await;
        snapshots.push(Snapshot::take(home, step.name()));
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "what a trainer left is gone");
        if let Some(next) = step.next() {
            fs::write(home.join(format!("crash.{}", SITES[MARKED])), format!("stop {next}:stored")).unwrap();
        }
        kill_process(marked.pid(), Signal::CONT).unwrap();
    }
    let round = federation.ended_round(&task, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
    let status = until("the task is over", async || marked.ended()).await;
    assert!(status.success(), "{}", marked.logged());
    snapshots.push(Snapshot::take(home, "the end"));
    (snapshots, round.release.unwrap(), task.to_string())
}

/// Lines of a file in which a site has written its secrets down.
fn witness(home: &Path, site: usize, name: &str) -> Vec<String> {
    let text = fs::read_to_string(home.join(SITES[site]).join("witness").join(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Secrets of a site in an attempt, with their names.
fn secrets(home: &Path, site: usize, steps: &[&str]) -> Vec<(String, Vec<u8>)> {
    let lines = steps.iter().flat_map(|step| witness(home, site, step));
    let named = |line: String| {
        let (secret, name) = line.split_once('\t').unwrap();
        (name.to_owned(), hex::decode(secret).unwrap())
    };
    let mut secrets: Vec<_> = lines.map(named).collect();
    // One for each neighbour: told apart, since that of the dropout is revealed.
    for shared in SHARED {
        let each = secrets.iter_mut().filter(|(name, _)| name == shared);
        each.enumerate().for_each(|(at, (name, _))| *name = format!("{shared} {at}"));
    }
    // The self-mask seed stands behind root and channel secret in the state that first has it.
    if steps.contains(&"ShareKeys") {
        let state = witness(home, site, "ShareKeys.state");
        let state = hex::decode(&state[0]).unwrap();
        let of = |name: &str| {
            let of_name = secrets.iter().filter(|(of, _)| of == name);
            of_name.map(|(_, secret)| secret.clone()).collect::<Vec<_>>()
        };
        let known = [&of("root")[..1], &of("channel secret")[..3]].concat().concat();
        let at = state.windows(known.len()).position(|window| window == known).unwrap() + known.len();
        secrets.push(("self-mask seed".to_owned(), state[at..at + 32].to_vec()));
    }
    secrets
}

/// What must be nowhere: the update and the input of the marked site, its secrets and the dropout's, its identity.
fn forbidden(home: &Path, bits: RingBits) -> Search {
    let mut search = Search::default();
    let update = recognisable(MARKED, VALUES);
    let local = model().plus(&update).unwrap();
    let difference = local.minus(&model()).unwrap();
    for (name, values) in
        [("the update", &update[..]), ("the local model", local.values()), ("the update", &difference)]
    {
        search.add_runs(name, values.iter().map(|value| value.to_le_bytes()));
        search.add_value_texts(name, values);
    }
    let dumped = fs::read(home.join(format!("inputs/1.1.{}.i64", SITES[MARKED]))).unwrap();
    let integers: Vec<i64> = dumped.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect();
    assert_eq!(integers.len(), VALUES + 1, "the update and its weight");
    search.add_input(&integers, bits);
    search.add_value_texts("the input", &integers);

    let own = secrets(home, MARKED, &["AdvertiseKeys", "ShareKeys", "MaskedInput"]);
    let dropped = secrets(home, DROPOUT, &["AdvertiseKeys", "ShareKeys"]);
    let dropped = dropped.into_iter().map(|(name, secret)| (format!("the dropout's {name}"), secret));
    let key = fs::read_to_string(home.join(SITES[MARKED]).join("client.key")).unwrap();
    let key: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
    // PKCS #8 (RFC 8410): the seed is an octet string in an octet string.
    let at = key.windows(4).position(|window| window == [4, 34, 4, 32]).unwrap() + 4;
    let identity = ("the certificate's key".to_owned(), key[at..at + 32].to_vec());
    let mut names = BTreeSet::new();
    for (name, secret) in own.into_iter().chain(dropped).chain([identity]) {
        search.add_secret(&name, &secret);
        search.add_texts(&name, &secret[1..31]);
        names.insert(name.trim_end_matches(|end: char| end == ' ' || end.is_ascii_digit()).to_owned());
    }
    let of_a_site = [
        "channel pair secret",
        "channel secret",
        "mask secret",
        "pair mask key",
        "pair secret",
        "root",
        "self-mask seed",
    ];
    let mut expected: BTreeSet<String> = of_a_site.iter().map(|name| (*name).to_owned()).collect();
    expected.extend(of_a_site.iter().map(|name| format!("the dropout's {name}")));
    expected.extend([HELD, "the certificate's key"].map(str::to_owned));
    assert_eq!(names, expected);
    search
}

/// Beside the secrets the states themselves, which only the site has: of any 31 bytes of one in the clear, a piece is found.
/// All but the attempt's digest, which is public, and by which a site counts what it has revealed.
fn states(home: &Path, search: &mut Search) {
    let sent = witness(home, MARKED, "sent");
    let attempt = hex::decode(sent[0].split(' ').next().unwrap()).unwrap();
    for step in Step::ALL {
        for state in witness(home, MARKED, &format!("{}.state", step.name())) {
            let mut state = hex::decode(state).unwrap();
            while let Some(at) = state.windows(attempt.len()).position(|window| window == attempt) {
                state[at..at + attempt.len()].fill(0);
            }
            let pieces = state.chunks_exact(16).filter(|piece| piece.iter().collect::<BTreeSet<_>>().len() > 8);
            pieces.for_each(|piece| search.add(&format!("the state of {step}"), piece));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_writes_no_secret_down() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[("SORDINO_LOG", "trace")]).await;
    let (snapshots, release, task) = one_round(home, &federation).await;
    let survivors: Vec<_> = release.survivors.iter().map(ToString::to_string).collect();
    assert_eq!(survivors, ["hospital-a", "hospital-c", "hospital-d"]);
    assert_eq!(release.dropouts.values().collect::<Vec<_>>(), ["MaskedInput"], "its root was reconstructed");

    let mut search = forbidden(home, RingBits::new(release.ring_bits).unwrap());
    search.add("control: the task", task.as_bytes());
    let control = BTreeSet::from(["control: the task".to_owned()]);
    // It takes off the masks of the one that dropped out, and the self masks of those that did not.
    kill_process(federation.coordinator.pid(), Signal::STOP).unwrap();
    let (mut in_memory, bytes) = search.find_in_memory(federation.coordinator.pid(), BLOCK);
    kill_process(federation.coordinator.pid(), Signal::CONT).unwrap();
    assert!(in_memory.remove("control: the task"), "{bytes} bytes: {in_memory:?}");
    in_memory.retain(|name| !name.starts_with("the dropout's ") && name != "self-mask seed");
    for shared in SHARED {
        assert!(in_memory.iter().filter(|name| name.starts_with(shared)).count() <= 1, "{in_memory:?}");
        in_memory.retain(|name| !name.starts_with(shared));
    }
    assert_eq!(in_memory, BTreeSet::new(), "in {bytes} bytes of the coordinator's memory");
    // What the coordinator is sent stands in its journal: states have parts that are public.
    for Snapshot { name, coordinator, .. } in &snapshots {
        let (found, bytes) = search.find_in_folder(coordinator);
        let (held, found): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|name| name.starts_with(HELD));
        assert_eq!(found, control, "on the coordinator's disk at {name}, {bytes} bytes");
        // The share of the dropout's root is what the site reveals at the end. The two others stay with it.
        assert!(held.len() <= usize::from(*name == "the end"), "on the coordinator's disk at {name}: {held:?}");
    }
    // Once the round is released, that one is wiped from the coordinator's disk as well.
    until("the revealed share is wiped", async || {
        let (found, _) = search.find_in_folder(&home.join("fed"));
        found.iter().all(|name| !name.starts_with(HELD)).then_some(())
    })
    .await;
    states(home, &mut search);
    for Snapshot { name, site, .. } in &snapshots {
        // Its key is its own to keep, and is readable by its owner alone.
        fs::remove_file(site.join("client.key")).unwrap();
        let files: Vec<_> = fs::read_dir(site.join("state")).unwrap().map(|file| file.unwrap().file_name()).collect();
        let is_there = |file: &str| files.iter().any(|name| name == file);
        let (sealed, upload) = (is_there("attempt.sealed"), is_there("upload.bin"));
        let masked = ["MaskedInput", "ConsistencyCheck", "Unmasking"].contains(name);
        assert_eq!((sealed, upload), (*name != "the end", masked), "{name}: {files:?}");
        let (found, bytes) = search.find_in_folder(site);
        let expected = if *name == "the end" { control.clone() } else { BTreeSet::new() };
        assert!(
            found.is_subset(&control) && found.is_superset(&expected),
            "at the site at {name}, {bytes} bytes: {found:?}"
        );
    }
    let logs = ["coordinator", SITES[MARKED]].map(|name| fs::read(home.join(format!("{name}.log"))).unwrap());
    for log in &logs {
        let text = String::from_utf8_lossy(log);
        assert!(text.matches("\"level\":\"DEBUG\"").count() > 20, "it was told to log all that it can: {text}");
        let mut found = BTreeSet::new();
        search.find(log, &mut found);
        assert_eq!(found, control, "in a log of {} bytes", log.len());
        // Neither header nor payload of a token: Base64 of `{"`.
        assert!(!text.contains("eyJ"), "a token is in the log");
    }

    // The control: the same search finds each of them in each of these places, had it been written there.
    let names: BTreeSet<_> = search.samples().keys().map(|name| (*name).to_owned()).collect();
    let planted: Vec<u8> = search.samples().values().flat_map(|needle| [needle, &b"\n"[..]].concat()).collect();
    let Snapshot { site, coordinator, .. } = snapshots.last().unwrap();
    fs::write(site.join("state/planted"), &planted).unwrap();
    fs::write(coordinator.join("data/planted"), &planted).unwrap();
    for folder in [site, coordinator] {
        assert_eq!(search.find_in_folder(folder).0, names, "{}", folder.display());
    }
    for log in logs {
        let mut found = BTreeSet::new();
        search.find(&[log, planted.clone()].concat(), &mut found);
        assert_eq!(found, names);
    }
    let (found, _) = search.find_in_folder(&home.join(SITES[MARKED]).join("witness"));
    assert!(found.contains("root") && found.contains("self-mask seed"), "as text too: {found:?}");
}
