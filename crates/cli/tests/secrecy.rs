//! The coordinator never holds an unmasked input, nor what would unmask one: after a round over real sockets its memory
//! and its disk are searched for one survivor's update and secrets.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{command, sordino_in};
use rustix::process::{Pid, Signal, kill_process};
use sordino_codec::{Dtype, FileLimits, Layout, RingBits, RingVector, TensorSpec, Tensors, pack};
use sordino_participant::{
    DevOptions, TrainOptions, join, train,
    training::{RoundInfo, TrainError, Trained, Trainer},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::FileExt as _,
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

/// Values that nothing else has: between 0.05 and 0.25, no two alike for each site, below the clip norm together.
fn update(site: usize) -> Vec<f32> {
    let golden = 0.618_034 + f32::from(u8::try_from(site).unwrap()) / 97.0;
    let value = |at: u16| {
        let size = 0.05 + (f32::from(at) * golden).fract() / 5.0;
        if at % 3 == 1 { -size } else { size }
    };
    (0..u16::try_from(VALUES).unwrap()).map(value).collect()
}

fn model() -> Tensors {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    Tensors::new(layout, (0..u8::try_from(VALUES).unwrap()).map(|at| 1.0 + f32::from(at) / 512.0).collect()).unwrap()
}

/// What is looked for: byte strings of at least [`SHORTEST`] bytes, each under the name of what it would betray.
#[derive(Default)]
struct Search {
    needles: Vec<(String, Vec<u8>)>,
    by_start: HashMap<[u8; KEY], Vec<usize>>,
    /// Whether any of them begins with these three bytes: rules out almost every place at the cost of one look.
    begins: Vec<bool>,
    /// Whether any begins with two zeros.
    zeros_begin: bool,
}

const SHORTEST: usize = 16;
const KEY: usize = 8;
/// Consecutive values of a vector that are no coincidence.
const RUN: usize = 4;

impl Search {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= SHORTEST, "{name}: {} bytes could be found anywhere", bytes.len());
        self.begins.resize(1 << 24, false);
        self.begins[bytes[0] as usize | (bytes[1] as usize) << 8 | (bytes[2] as usize) << 16] = true;
        self.zeros_begin |= bytes.starts_with(&[0, 0]);
        self.by_start.entry(bytes[..KEY].try_into().unwrap()).or_default().push(self.needles.len());
        self.needles.push((name.to_owned(), bytes.to_vec()));
    }

    /// Every run of consecutive values, each value as these bytes.
    fn add_runs<const N: usize>(&mut self, name: &str, values: impl Iterator<Item = [u8; N]>) {
        let values: Vec<_> = values.collect();
        values.windows(RUN).for_each(|run| self.add(name, run.as_flattened()));
    }

    /// A 32-byte secret. X25519 may change its first and last byte before use, so these are left out.
    fn add_secret(&mut self, name: &str, secret: &[u8]) {
        assert_eq!(secret.len(), 32, "{name}");
        self.add(name, &secret[1..31]);
    }

    /// An encoded input in all forms that this program has for one.
    fn add_input(&mut self, integers: &[i64], bits: RingBits) {
        let ring = RingVector::from_centered(integers, bits).unwrap();
        let elements: Vec<u64> = (0..ring.len()).map(|at| ring.get(at).unwrap()).collect();
        self.add_runs("the input, i64", integers.iter().map(|value| value.to_le_bytes()));
        self.add_runs("the input, u64", elements.iter().map(|value| value.to_le_bytes()));
        if bits.is_narrow() {
            let narrow = |value: u64| u32::try_from(value).unwrap().to_le_bytes();
            self.add_runs("the input, u32", elements.iter().map(|value| narrow(*value)));
            let signed = |value: i64| i32::try_from(value).unwrap().to_le_bytes();
            self.add_runs("the input, i32", integers.iter().map(|value| signed(*value)));
        }
        // From each of eight places on: wherever a buffer begins, the bits stand as in one of them.
        for start in 0..8 {
            let packed = pack(&RingVector::from_centered(&integers[start..], bits).unwrap());
            packed.windows(SHORTEST).for_each(|window| self.add("the input, packed", window));
        }
    }

    fn longest(&self) -> usize {
        self.needles.iter().map(|(_, bytes)| bytes.len()).max().unwrap()
    }

    /// Names of what is in these bytes.
    fn find(&self, bytes: &[u8], found: &mut BTreeSet<String>) {
        // Most pages of a process are zeros, and no needle begins with two of them: these are passed over in one look.
        let mut page = 0;
        while page < bytes.len() {
            let end = bytes.len().min(page + PAGE);
            let first = if !self.zeros_begin && bytes[page..end] == ZEROS[..end - page] { end - 1 } else { page };
            self.find_from(bytes, first..end, found);
            page = end;
        }
    }

    /// Needles that begin at these places.
    fn find_from(&self, bytes: &[u8], places: std::ops::Range<usize>, found: &mut BTreeSet<String>) {
        // Written plainly: this runs over hundreds of megabytes, in a build without optimisation.
        let (begins, mut at) = (self.begins.as_slice(), places.start);
        while at < places.end && at + KEY <= bytes.len() {
            if begins[bytes[at] as usize | (bytes[at + 1] as usize) << 8 | (bytes[at + 2] as usize) << 16] {
                let start = bytes[at..].first_chunk::<KEY>();
                for &needle in start.and_then(|start| self.by_start.get(start)).into_iter().flatten() {
                    let (name, needle) = &self.needles[needle];
                    if bytes[at..].starts_with(needle) {
                        found.insert(name.clone());
                    }
                }
            }
            at += 1;
        }
    }

    /// Names of what is in a process's memory, and the bytes that were read. The process has to be stopped.
    fn find_in_memory(&self, pid: Pid, block: usize) -> (BTreeSet<String>, u64) {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        let maps = fs::read_to_string(format!("{folder}/maps")).unwrap();
        let memory = File::open(format!("{folder}/mem")).unwrap();
        let (mut found, mut read) = (BTreeSet::new(), 0);
        for map in maps.lines() {
            let mut fields = map.split_ascii_whitespace();
            let (range, permissions, path) = (fields.next().unwrap(), fields.next().unwrap(), fields.nth(3));
            // The kernel's own pages cannot be read this way, and hold nothing of the process.
            let kernels = path.is_some_and(|path| path.starts_with("[v"));
            if !permissions.starts_with('r') || kernels {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            let mut window = Vec::new();
            while at < end {
                let len = usize::try_from(end - at).unwrap().min(block);
                // A block begins with the end of the one before: nothing is missed between two.
                let kept = window.len().min(self.longest() - 1);
                window.drain(..window.len() - kept);
                window.resize(kept + len, 0);
                if memory.read_exact_at(&mut window[kept..], at).is_ok() {
                    read += len as u64;
                    self.find(&window, &mut found);
                } else {
                    // Only a mapped file can be shorter than its mapping.
                    assert!(path.is_some_and(|path| path.starts_with('/')), "cannot read {map}");
                    window.clear();
                }
                at += len as u64;
            }
        }
        (found, read)
    }

    /// Names of what is in the files of a folder, and the bytes that were read.
    fn find_in_folder(&self, folder: &Path) -> (BTreeSet<String>, u64) {
        let (mut found, mut read) = (BTreeSet::new(), 0);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let (below, bytes) = self.find_in_folder(&path);
                found.extend(below);
                read += bytes;
            } else {
                let bytes = fs::read(&path).unwrap();
                self.find(&bytes, &mut found);
                read += bytes.len() as u64;
            }
        }
        (found, read)
    }
}

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

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
        join(&folder, &invitation, &site.parse().unwrap()).await.unwrap();
        let mut dev = None;
        if number == MARKED {
            let dump = home.join("dump");
            fs::create_dir(&dump).unwrap();
            fs::create_dir(folder.join("witness")).unwrap();
            dev = Some(DevOptions { dump: Some(dump), vanish: Vec::new() });
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
    let mut serve = unlimited(command(home.path(), &[]).get_program(), &["serve", "--config", "fed/sordino.toml"]);
    reached_at(&mut BufReader::new(serve.stderr.take().unwrap()), &mut Vec::new());
    let status = crashed(serve);
    assert_eq!(status.signal(), Some(Signal::QUIT.as_raw()));
    assert!(!status.core_dumped());

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
