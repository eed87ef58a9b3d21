//! A participant in another language, written from `docs/protocol.md`, takes part in real rounds: it joins with an
//! invitation, speaks TLS 1.3 to a real coordinator, and its masks cancel against those of the others.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;
#[path = "../src/demo/plain_sum.rs"]
mod plain_sum;

use common::{command, ran, sordino_in};
use plain_sum::check_sum;
use serde_json::Value;
use sordino_participant::{Client, Credentials};
use sordino_wire::{
    Digest,
    api::{AttemptId, Round, RoundState},
};
use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SITES: [&str; 4] = ["hospital-a", "hospital-b", "hospital-c", "hospital-d"];
/// In the middle of the roster: it encapsulates to some of its neighbours, and others to it.
const PYTHON: &str = SITES[1];
/// A neighbour with a P-256 key.
const P256: &str = SITES[2];
/// What the policies have in common. Of four with three neighbours each, one may fall silent.
const POLICY: &str = "\
[cohort]
min = 3
target = 4
max_dropout_fraction = 0.25
max_corrupt_fraction = 0.0

[privacy]
enabled = false
clip_norm = 8.0

[timing]
participant_timeout = 30.0
round_timeout = 60.0
step_timeout = 10.0
step_grace = 4.0

[[encoding.metrics]]
name = \"correct\"
max = 1000.0
";
/// Both kinds of keys, in a ring of at most 32 bits. In its last round the participant falls silent.
const HYBRID: &str = "[task]\nname = \"hybrid keys\"\nrounds = 3\n";
/// X25519 alone, the other cipher, and a ring above 32 bits.
const PLAIN: &str = "\
[masking]
pq = false
prg = \"aes-128-ctr\"

[encoding]
precision_bits = 30
max_weight = 100

[task]
name = \"keys of one kind\"
rounds = 1
";
const WEIGHT: u64 = 17;
const CORRECT: u64 = 11;

/// The interpreter, with what the scripts need; `None`: this test is skipped. Whoever names one wants no skipping.
#[expect(clippy::print_stderr, reason = "a check that did not take place says so")]
fn interpreter() -> Option<OsString> {
    let named = env::var_os("SORDINO_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", "import cryptography, numpy"]).output();
    if found.is_ok_and(|found| found.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "SORDINO_PYTHON names an interpreter without `cryptography` and `numpy`");
    eprintln!("skipped: needs python3 with vectors/secagg/requirements.txt; SORDINO_PYTHON names another interpreter");
    None
}

/// A process that does not outlive its test.
struct Running {
    name: String,
    child: Option<Child>,
}

impl Running {
    fn start(name: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { name: name.to_owned(), child: Some(command.spawn().unwrap()) }
    }

    /// What it printed as JSON, once it has ended well.
    fn json(mut self) -> Value {
        let begin = Instant::now();
        while self.child.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LIMIT, "{} still runs", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        let ran = ran(&[&self.name], self.child.take().unwrap().wait_with_output().unwrap());
        ran.ended(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Federation<'a> {
    home: &'a Path,
    url: String,
    python: OsString,
    /// Lives as long as the test.
    _coordinator: Running,
}

impl<'a> Federation<'a> {
    /// A federation whose sites have joined: one of them in Python.
    fn new(home: &'a Path, python: OsString) -> Self {
        let init = ["init", "fed", "--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
        sordino_in(home, &init).ended(0);
        let serve = ["serve", "--config", "fed/sordino.toml", "--ready-file", "ready"];
        let coordinator = Running::start("serve", &mut command(home, &serve));
        let (begin, ready) = (Instant::now(), home.join("ready"));
        while !ready.exists() {
            assert!(begin.elapsed() < LIMIT, "the coordinator is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = fs::read_to_string(ready).unwrap();
        let url = format!("https://localhost:{}", address.trim().rsplit(':').next().unwrap());
        let federation = Self { home, url, python, _coordinator: coordinator };
        for (number, site) in SITES.into_iter().enumerate() {
            fs::write(home.join("invitation"), federation.admin(&["invite", site])).unwrap();
            if site == PYTHON {
                let joined = federation.script(&["join", site, site, "invitation"]).output().unwrap();
                ran(&["participant.py join"], joined).ended(0);
            } else {
                let kind = if site == P256 { "p256" } else { "ed25519" };
                let join = ["join", site, "--id", site, "--invitation", "invitation", "--key-type", kind];
                sordino_in(home, &join).ended(0);
                fs::write(home.join(format!("{site}.csv")), rows(number)).unwrap();
            }
        }
        fs::create_dir(home.join("inputs")).unwrap();
        sordino_in(home, &["model", "init", "--architecture", "mlp-2-16-2", "first.safetensors"]).ended(0);
        federation
    }

    fn admin(&self, arguments: &[&str]) -> String {
        let ran = sordino_in(self.home, &[arguments, &["--as", "fed/admin", "--server", &self.url]].concat());
        ran.ended(0);
        ran.stdout
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/secagg/participant.py");
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(script).args(arguments).current_dir(self.home);
        command
    }

    /// Runs a task to its end; returns its id and what the Python participant says of it.
    fn run(&self, policy: &str, vanish: &[&str]) -> (String, Value) {
        fs::write(self.home.join("policy.toml"), policy).unwrap();
        let create = ["task", "create", "--policy", "policy.toml", "--model", "first.safetensors"];
        let task = self.admin(&create).trim().to_owned();
        let (weight, correct) = (WEIGHT.to_string(), format!("correct={CORRECT}"));
        let arguments = ["train", PYTHON, &task, "inputs", &weight, &correct];
        let python = Running::start(PYTHON, &mut self.script(&[&arguments[..], vanish].concat()));
        let others = SITES.into_iter().filter(|site| *site != PYTHON);
        let others: Vec<_> = others
            .map(|site| {
                let data = format!("{site}.csv");
                let train = ["train", site, "--task", &task, "--data", &data, "--seed", "1", "--output", "json"];
                let dump = ["--insecure-dev", "--dev-dump", "inputs"];
                Running::start(site, &mut command(self.home, &[&train[..], &dump].concat()))
            })
            .collect();
        let said = python.json();
        for other in others {
            assert_eq!(other.json()["refused"], 0);
        }
        (task, said)
    }

    /// A round that is complete, and its survivors, once its sum has been compared with what they encoded.
    async fn checked(&self, task: &str, number: u64) -> (Round, Vec<String>) {
        let credentials = Credentials::load(&self.home.join("fed/admin"), Some(&self.url.parse().unwrap())).unwrap();
        let client = Client::new(&credentials).unwrap();
        let round: Round = client.get(&format!("/v1/rounds/{task}.{number}")).await.unwrap();
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let release = round.release.as_ref().unwrap();
        let sum = client.get_bytes(&format!("/v1/rounds/{}/sum", round.id), SUM_MAX).await.unwrap();
        assert_eq!(Digest::of(&sum), release.sum);
        let attempt = AttemptId { round: round.id.clone(), attempt: round.attempt };
        let values = check_sum(&self.inputs(), &attempt, &release.survivors, &sum).unwrap();
        assert_eq!(values, MODEL_LEN + 2, "the model, the weight and a metric");
        let survivors = release.survivors.iter().map(ToString::to_string).collect();
        (round, survivors)
    }

    fn inputs(&self) -> PathBuf {
        self.home.join("inputs")
    }

    /// What the Python participant put into an attempt.
    fn python_input(&self, round: &Round) -> Vec<i64> {
        let file = format!("{}.{}.{PYTHON}.i64", round.id.number, round.attempt);
        let bytes = fs::read(self.inputs().join(file)).unwrap();
        bytes.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect()
    }
}

/// Two clouds of points, other ones for each site.
fn rows(site: usize) -> String {
    let mut text = String::from("split,label,x,y\n");
    for row in 0..ROWS {
        let (label, shift) = (row % 2, f64::from((row * 7 + u32::try_from(site).unwrap() * 3) % 10));
        let sign = if label == 1 { 1.0 } else { -1.0 };
        writeln!(text, "train,{label},{:.2},{:.2}", sign + shift / 20.0, shift / 10.0).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_in_another_language_takes_part() {
    let Some(python) = interpreter() else { return };
    let home = tempfile::tempdir().unwrap();
    let federation = Federation::new(home.path(), python);

    let (task, said) = federation.run(&format!("{HYBRID}{POLICY}"), &["--vanish", "3:MaskedInput"]);
    let expected = r#"{"finished": [1, 2], "left_out": [], "refused": [], "vanished": [3]}"#;
    assert_eq!(said, serde_json::from_str::<Value>(expected).unwrap());
    for number in [1, 2] {
        let (round, survivors) = federation.checked(&task, number).await;
        assert_eq!(survivors, SITES, "{round:?}");
        let release = round.release.as_ref().unwrap();
        assert!(release.ring_bits <= 32 && release.silent_survivors.is_empty(), "{release:?}");
        assert_eq!(release.weight, 3 * u64::from(ROWS) + WEIGHT);
        let input = federation.python_input(&round);
        assert_eq!(input[MODEL_LEN..], [WEIGHT, CORRECT].map(u64::cast_signed));
        assert!(input[..MODEL_LEN].iter().any(|value| *value != 0), "an update of zeros shows nothing");
    }
    // It dealt its shares and fell silent: the others revealed its root, and its masks were computed from that.
    // Had they not been, the round would have needed another attempt, without it.
    let (round, survivors) = federation.checked(&task, 3).await;
    assert_eq!((round.attempt, survivors), (1, [SITES[0], SITES[2], SITES[3]].map(String::from).to_vec()));
    let dropouts = &round.release.as_ref().unwrap().dropouts;
    assert_eq!(dropouts[&PYTHON.parse().unwrap()], "MaskedInput");

    let (task, said) = federation.run(&format!("{PLAIN}{POLICY}"), &[]);
    assert_eq!(said["finished"], serde_json::json!([1]), "{said}");
    let (round, survivors) = federation.checked(&task, 1).await;
    assert_eq!(survivors, SITES);
    assert!(round.release.unwrap().ring_bits > 32);
}

/// Rows of each site that trains.
const ROWS: u32 = 30;
/// Values of mlp-2-16-2: two layers with their biases.
const MODEL_LEN: usize = 2 * 16 + 16 + 16 * 2 + 2;
const SUM_MAX: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);
