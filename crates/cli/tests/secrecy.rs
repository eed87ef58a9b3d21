//! The coordinator never holds an unmasked input, nor what would unmask one: after a round over real sockets its memory
//! and its disk are searched for one survivor's update and secrets.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{
    command,
    search::{BLOCK, RUN, SHORTEST, Search, recognisable},
    sordino_in,
};
use rustix::process::{Pid, Signal, kill_process};
use sordino_codec::{Dtype, FileLimits, Layout, RingBits, RingVector, TensorSpec, Tensors, pack};
use sordino_participant::{
    DevOptions, TrainOptions, join, train,
    training::{RoundInfo, TrainError, Trained, Trainer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Stdio},
    thread::JoinHandle,
};

const SITES: [&str; 4] = ["hospital-a", "hospital-b", "hospital-c", "hospital-d"];
/// The site whose update is looked for.
const MARKED: usize = 2;
/// Odd, so that the packed vector ends within a byte.
const VALUES: usize = 201;
const POLICY: &str = "\
[task]
name = \"searched\"
rounds = 1
[cohort]
min = 4
target = 4
max_dropout_fraction = 0.0
[privacy]
enabled = false
clip_norm = 4.0
[encoding]
max_weight = 10
[timing]
participant_timeout = 30.0
round_timeout = 60.0
step_timeout = 20.0
";

/// Adds a known update.
struct Adds {
    update: Vec<f32>,
    weight: u64,
}

impl Trainer for Adds {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainError> {
        let tensors = model.plus(&self.update).unwrap();
        Ok(Trained { tensors, num_examples: self.weight, metrics: BTreeMap::new() })
    }
}

/// Values that nothing else has.
fn update(site: usize) -> Vec<f32> {
    recognisable(site, VALUES)
}

fn model() -> Tensors {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    Tensors::new(layout, (0..u8::try_from(VALUES).unwrap()).map(|at| 1.0 + f32::from(at) / 512.0).collect()).unwrap()
}

/// A coordinator in a process of its own. All that it logs is kept.
struct Coordinator {
    child: Child,
    log: Option<JoinHandle<Vec<u8>>>,
    url: String,
}

impl Coordinator {
    fn start(home: &Path) -> Self {
        let mut serve = command(home, &["serve", "--config", "fed/sordino.toml", "--log", "json"]);
        serve.env("SORDINO_LOG", "trace").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = Vec::new();
        let url = reached_at(&mut stderr, &mut log);
        let rest = std::thread::spawn(move || {
            stderr.read_to_end(&mut log).unwrap();
            log
        });
        Self { child, log: Some(rest), url }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends it; what it logged.
    fn end(mut self) -> Vec<u8> {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success());
        log
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that says that connections are taken.
fn reached_at(stderr: &mut BufReader<ChildStderr>, log: &mut Vec<u8>) -> String {
    loop {
        let begin = log.len();
        let read = stderr.read_until(b'\n', log).unwrap();
        assert_ne!(read, 0, "the coordinator ended: {}", String::from_utf8_lossy(log));
        let line = String::from_utf8_lossy(&log[begin..]);
        if let Some((_, url)) = line.split_once("reached at ") {
            return url.trim().to_owned();
        }
    }
}

/// Four sites that have trained one round, and the coordinator that saw it, which still runs.
async fn one_round(home: &Path) -> (Coordinator, String) {
    let run = |arguments: &[&str]| {
        let ran = sordino_in(home, arguments);
        ran.ended(0);
        ran.stdout.trim().to_owned()
    };
    run(&["init", "fed", "--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"]);
    let coordinator = Coordinator::start(home);
    let admin = ["--as", "fed/admin", "--server", &coordinator.url];
    fs::write(home.join("policy.toml"), POLICY).unwrap();
    fs::write(home.join("first.safetensors"), model().to_safetensors()).unwrap();
    let create = ["task", "create", "--policy", "policy.toml", "--model", "first.safetensors"];
    let task = run(&[&create[..], &admin].concat());
    let mut sites = Vec::new();
    for (number, site) in SITES.into_iter().enumerate() {
        let invitation = run(&[&["invite", site], &admin[..]].concat()).parse().unwrap();
        let folder = home.join(site);
        join(&folder, &invitation, &site.parse().unwrap(), None).await.unwrap();
        let mut dev = None;
        if number == MARKED {
            let dump = home.join("dump");
            fs::create_dir(&dump).unwrap();
            fs::create_dir(folder.join("witness")).unwrap();
            dev = Some(DevOptions { dump: Some(dump), vanish: Vec::new(), attack: None });
        }
        let options = TrainOptions { folder, task: Some(task.parse().unwrap()), rounds: None, policy: None, dev };
        let trainer = Adds { update: update(number), weight: 3 + number as u64 };
        sites.push(tokio::spawn(train(options, Box::new(trainer), std::future::pending())));
    }
    for site in sites {
        assert_eq!(site.await.unwrap().unwrap().finished, 1);
    }
    (coordinator, task)
}

/// The marked site's update and secrets. Also the secrets alone.
fn forbidden(home: &Path, bits: RingBits) -> (Search, Vec<Vec<u8>>) {
    let mut search = Search::default();
    let (base, marked) = (model(), update(MARKED));
    search.add_runs("the update, f32", marked.iter().map(|value| value.to_le_bytes()));
    let local = base.plus(&marked).unwrap();
    search.add_runs("the local model, f32", local.values().iter().map(|value| value.to_le_bytes()));
    // What the subtraction gives is not to the last bit what was added.
    let difference = local.minus(&base).unwrap();
    search.add_runs("the update, f32", difference.iter().map(|value| value.to_le_bytes()));

    let dumped = fs::read(home.join(format!("dump/1.1.{}.i64", SITES[MARKED]))).unwrap();
    let integers: Vec<i64> = dumped.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect();
    assert_eq!(integers.len(), VALUES + 1, "the update and its weight");
    search.add_input(&integers, bits);

    let mut secrets = Vec::new();
    let mut names = BTreeMap::new();
    for step in ["AdvertiseKeys", "ShareKeys", "MaskedInput"] {
        let lines = fs::read_to_string(home.join(SITES[MARKED]).join("witness").join(step)).unwrap();
        for line in lines.lines() {
            let (secret, name) = line.split_once('\t').unwrap();
            let secret = hex::decode(secret).unwrap();
            search.add_secret(name, &secret);
            secrets.push(secret);
            *names.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    // Its own are there before and after it shares them, those of the channel in three parts; the others are for each of
    // its three neighbours, the key of a mask where it stands before the neighbour and makes the encapsulation itself.
    let expected = [
        ("channel pair secret", 3),
        ("channel secret", 6),
        ("held root share", 3),
        ("mask secret", 2),
        ("pair mask key", 1),
        ("pair secret", 3),
        ("root", 2),
    ];
    assert_eq!(names, expected.map(|(name, count)| (name.to_owned(), count)).into());
    (search, secrets)
}

/// A process that crashes writes its memory to disk where the system is set to do that. Ours does not: here the limit that
/// it inherits allows for it, and the same signal makes another program dump its core.
#[test]
fn a_crash_dumps_no_core() {
    use std::os::unix::process::ExitStatusExt as _;
    let home = tempfile::tempdir().unwrap();
    let init = ["init", "fed", "--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
    sordino_in(home.path(), &init).ended(0);
    let crashed = |mut child: Child| {
        kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
        child.wait().unwrap()
    };
    let unlimited = |program: &std::ffi::OsStr, arguments: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"]).arg(program).args(arguments);
        shell.current_dir(home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.spawn().unwrap()
    };
    let program = command(home.path(), &[]).get_program().to_owned();
    let mut serve = unlimited(&program, &["serve", "--config", "fed/sordino.toml"]);
    let url = reached_at(&mut BufReader::new(serve.stderr.take().unwrap()), &mut Vec::new());
    let invited = sordino_in(home.path(), &["invite", SITES[0], "--as", "fed/admin", "--server", &url]);
    fs::write(home.path().join("invitation"), &invited.stdout).unwrap();
    sordino_in(home.path(), &["join", "site", "--id", SITES[0], "--invitation", "invitation"]).ended(0);
    let status = crashed(serve);
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::QUIT.as_raw()), false), "the coordinator");
    // It asks for the task again and again, and has its keys by then.
    let mut train = unlimited(&program, &["train", "site", "--exec", "true"]);
    let begin = std::time::Instant::now();
    while !home.path().join("site/state/lock").exists() {
        assert!(train.try_wait().unwrap().is_none() && begin.elapsed().as_secs() < 60, "the site works in its folder");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let status = crashed(train);
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::QUIT.as_raw()), false), "the site");

    // The control: it says that it has begun, so that the signal does not meet the shell.
    let mut other = unlimited("sh".as_ref(), &["-c", "echo begun; while :; do :; done"]);
    other.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let limit = fs::read_to_string(format!("/proc/{}/limits", other.id())).unwrap();
    let unlimited = limit.lines().any(|line| line.starts_with("Max core file size") && line.contains("unlimited"));
    assert!(crashed(other).core_dumped() || !unlimited, "this system dumps cores where it is allowed to");
}

/// Neither memory nor disk nor log of the coordinator holds the update of a survivor in any form, or a secret of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_never_holds_an_unmasked_input() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (coordinator, task) = one_round(home).await;
    let listed = ["round", "list", &task, "--as", SITES[0], "--output", "json"];
    let rounds: serde_json::Value = serde_json::from_str(&sordino_in(home, &listed).stdout).unwrap();
    let release = &rounds[0]["release"];
    assert_eq!(release["survivors"], serde_json::json!(SITES), "{rounds}");
    let bits = RingBits::new(u8::try_from(release["ring_bits"].as_u64().unwrap()).unwrap()).unwrap();
    let released = release["model"].as_str().unwrap();
    sordino_in(home, &["model", "get", released, "next.safetensors", "--as", SITES[0]]).ended(0);
    let released =
        Tensors::from_safetensors(&fs::read(home.join("next.safetensors")).unwrap(), &FileLimits::default()).unwrap();

    let (mut search, secrets) = forbidden(home, bits);
    // What is there for certain, so that a search that finds nothing else has been seen to find.
    search.add_runs("control: the released model", released.values().iter().map(|value| value.to_le_bytes()));
    let settings = fs::read_to_string(home.join(SITES[0]).join("participant.toml")).unwrap();
    let registrar = settings.lines().find_map(|line| line.strip_prefix("registrar = ")).unwrap();
    search.add_secret("control: the registrar's public key", &hex::decode(registrar.trim_matches('"')).unwrap());
    search.add("control: the task", task.as_bytes());

    kill_process(coordinator.pid(), Signal::STOP).unwrap();
    let (in_memory, bytes_in_memory) = search.find_in_memory(coordinator.pid(), BLOCK);
    let (on_disk, bytes_on_disk) = search.find_in_folder(&home.join("fed"));
    kill_process(coordinator.pid(), Signal::CONT).unwrap();
    let sizes = format!("searched {bytes_in_memory} bytes of memory and {bytes_on_disk} of the disk");
    let names = |names: &[&str]| names.iter().map(|name| format!("control: {name}")).collect::<BTreeSet<_>>();
    assert!(in_memory.is_superset(&names(&["the registrar's public key"])), "{sizes}: {in_memory:?}");
    assert!(in_memory.iter().all(|name| name.starts_with("control: ")), "{sizes}: {in_memory:?}");
    assert_eq!(on_disk, names(&["the released model", "the task"]), "{sizes}");

    let log = coordinator.end();
    let logged = String::from_utf8_lossy(&log);
    assert!(logged.contains(&task) && logged.contains("DEBUG"), "the log was searched, and there was much of it");
    for secret in &secrets {
        let list = format!("{:?}", &secret[..8]);
        for form in [hex::encode(secret), list.trim_matches(['[', ']']).to_owned()] {
            assert!(!logged.contains(&form), "a secret is in the log");
        }
    }
    // As text, where there are enough digits not to be a duration.
    let texts: Vec<_> =
        update(MARKED).iter().map(|value| value.abs().to_string()).filter(|text| text.len() > 9).collect();
    assert!(texts.len() > VALUES / 2, "{texts:?}");
    assert!(!texts.iter().any(|text| logged.contains(text)), "a value of the update is in the log");
    let mut in_log = BTreeSet::new();
    search.find(&log, &mut in_log);
    assert_eq!(in_log, names(&["the task"]));
}

/// The search finds every form that it is told to look for, wherever it begins and across the blocks of a reader.
#[test]
fn the_search_finds_what_is_there() {
    let integers: Vec<i64> =
        update(0).iter().map(|value| i64::from(value.to_bits() & 0x0fff_ffff) - (1 << 27)).collect();
    let bits = RingBits::new(29).unwrap();
    let (mut search, update) = (Search::default(), update(1));
    search.add_input(&integers, bits);
    search.add_runs("the update, f32", update.iter().map(|value| value.to_le_bytes()));
    search.add_secret("root", &[7; 32]);
    let ring = RingVector::from_centered(&integers, bits).unwrap();
    let words = |from: usize| ring.iter_centered().skip(from).take(RUN);
    let mut forms: Vec<(&str, Vec<u8>)> = vec![
        ("the update, f32", update[90..94].iter().flat_map(|value| value.to_le_bytes()).collect()),
        ("the input, i64", words(50).flat_map(i64::to_le_bytes).collect()),
        ("the input, u64", (60..64).flat_map(|at| ring.get(at).unwrap().to_le_bytes()).collect()),
        ("the input, u32", (70..74).flat_map(|at| ring.get(at).unwrap().to_le_bytes()[..4].to_vec()).collect()),
        ("the input, i32", words(81).flat_map(|value| value.to_le_bytes()[..4].to_vec()).collect()),
        ("root", [&[64][..], &[7; 30], &[71]].concat()),
    ];
    for start in 0..8 {
        let packed = pack(&RingVector::from_centered(&integers[start + 16..], bits).unwrap());
        forms.push(("the input, packed", packed[..SHORTEST].to_vec()));
    }
    for (name, form) in forms {
        for offset in [0, 1, 1_003] {
            let buffer = [&vec![0xa5; offset][..], &form, &[0xa5; 40]].concat();
            let mut found = BTreeSet::new();
            search.find(&buffer, &mut found);
            // The same bytes can be two forms: a positive i32 is its u32.
            assert!(found.contains(name), "{name} at {offset}: {found:?}");
            found.clear();
            let mut short = buffer;
            short[offset + form.len() - 2] ^= 0x10;
            search.find(&short, &mut found);
            assert!(!found.contains(name), "{name} at {offset} is another value");
        }
    }
}

/// Memory is read without gaps: what lies across two blocks is found too, and what is not there is not.
#[test]
fn memory_is_searched_across_blocks() {
    // Letters that do not repeat, much longer than a page; a shell holds them as its argument.
    let letter = |at: u64| char::from(b'a' + u8::try_from(at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59).unwrap() % 26);
    let text: String = (1..=20_000).map(letter).collect();
    let mut search = Search::default();
    let pieces = || text.as_bytes().windows(24).step_by(8).enumerate();
    pieces().for_each(|(at, piece)| search.add(&at.to_string(), piece));
    search.add("not held", text[..24].to_uppercase().as_bytes());
    let mut shell = std::process::Command::new("sh");
    let mut child = shell.args(["-c", "read wait", &text]).stdin(Stdio::piped()).spawn().unwrap();
    let (found, read) = search.find_in_memory(Pid::from_child(&child), 4096);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(found, pieces().map(|(at, _)| at.to_string()).collect(), "in {read} bytes");
}
