//! A whole federation as separate processes: from `init` to two Releases, and what is refused on the way.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod common;

use common::{Ran, command, ran, sordino_in};
use getrandom::{SysRng, rand_core::UnwrapErr};
use rustix::process::{Pid, Signal, kill_process};
use sordino_identity::{KeyType, PrincipalKey};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SITES: [&str; 3] = ["hospital-a", "hospital-b", "hospital-c"];
const POLICY: &str = "\
[task]
name = \"two classes\"
rounds = 2

[cohort]
min = 3
target = 3
max_dropout_fraction = 0.0
max_corrupt_fraction = 0.0

[privacy]
enabled = false

[timing]
participant_timeout = 30.0
round_timeout = 60.0
step_timeout = 20.0

[[encoding.metrics]]
name = \"correct\"
max = 1000.0
";

/// A process that does not outlive its test.
struct Running {
    arguments: String,
    child: Option<Child>,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = command(folder, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { arguments: arguments.join(" "), child: Some(command.spawn().unwrap()) }
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    fn end(mut self) -> Ran {
        let begin = Instant::now();
        while self.is_running() {
            assert!(begin.elapsed() < LIMIT, "sordino {} still runs", self.arguments);
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        ran(&[&self.arguments], output)
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

/// A coordinator with its port.
fn serve(folder: &Path) -> (Running, String) {
    let ready = folder.join("ready");
    let _ = fs::remove_file(&ready);
    let arguments = ["serve", "--config", "fed/sordino.toml", "--ready-file", "ready", "--log", "json"];
    let mut server = Running::start(folder, &arguments);
    let begin = Instant::now();
    while !ready.exists() {
        if !server.is_running() {
            let ended = server.end();
            panic!("the coordinator ended: {}", ended.stderr);
        }
        assert!(begin.elapsed() < LIMIT, "the coordinator is not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    let address = fs::read_to_string(&ready).unwrap();
    let port = address.trim().rsplit(':').next().unwrap().to_owned();
    (server, format!("https://localhost:{port}"))
}

/// Two clouds of points, other ones for each site.
fn rows(site: usize) -> String {
    let mut text = String::from("split,label,x,y\n");
    for row in 0..30 {
        let label = row % 2;
        let (sign, shift) = (f64::from(label * 2 - 1), (row * 7 + i32::try_from(site).unwrap() * 3) % 10);
        writeln!(text, "train,{label},{:.2},{:.2}", sign + f64::from(shift) / 20.0, f64::from(shift) / 10.0).unwrap();
    }
    text
}

fn json(ran: &Ran) -> serde_json::Value {
    ran.ended(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A key that an organisation has already, made by OpenSSL where there is one.
fn bring_a_p256_key(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir(folder).unwrap();
    let path = folder.join("client.key");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(&path)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|made| made.success()) {
        let key = PrincipalKey::generate(KeyType::P256, &mut UnwrapErr(SysRng));
        fs::write(&path, key.to_pkcs8_pem().as_bytes()).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Of the three sites, one has an Ed25519 key, one makes a P-256 key, and one brings its own.
#[test]
fn three_sites_train_two_rounds() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let run = |arguments: &[&str]| sordino_in(home, arguments);
    let options = ["--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
    run(&[&["init", "fed"], &options[..]].concat()).ended(0);
    let (server, url) = serve(home);
    let admin = ["--as", "fed/admin", "--server", &url];

    bring_a_p256_key(&home.join(SITES[2]));
    for (number, site) in SITES.into_iter().enumerate() {
        let invited = run(&[&["invite", site], &admin[..]].concat());
        invited.ended(0);
        assert_eq!(invited.stdout.lines().count(), 1, "one line, to be redirected into a file");
        fs::write(home.join("invitation"), &invited.stdout).unwrap();
        let join = ["join", site, "--id", site, "--invitation", "invitation"];
        match number {
            0 => run(&join).ended(0),
            1 => run(&[&join[..], &["--key-type", "p256"]].concat()).ended(0),
            _ => {
                let other = run(&[&join[..], &["--key-type", "ed25519"]].concat());
                other.ended(1);
                assert!(other.stderr.contains("holds a key of the type p256, not ed25519"), "{}", other.stderr);
                run(&join).ended(0);
            }
        }
        fs::write(home.join(format!("{site}.csv")), rows(number)).unwrap();
    }
    let again = run(&["join", "elsewhere", "--id", SITES[2], "--invitation", "invitation"]);
    again.ended(3);
    assert!(again.stderr.contains("hint: ask an administrator for a new invitation"), "{}", again.stderr);
    assert!(again.stderr.contains("already used, at 20") && !again.stderr.contains("1970"), "{}", again.stderr);
    // The folder of a refused attempt is as good as a new one.
    let key = fs::read(home.join("elsewhere/client.key")).unwrap();
    let invited = run(&[&["invite", "hospital-spare"], &admin[..]].concat());
    fs::write(home.join("invitation"), &invited.stdout).unwrap();
    run(&["join", "elsewhere", "--id", "hospital-spare", "--invitation", "invitation"]).ended(0);
    assert_eq!(fs::read(home.join("elsewhere/client.key")).unwrap(), key);
    let forbidden = run(&["invite", "--as", SITES[0], "hospital-d"]);
    forbidden.ended(3);
    assert!(forbidden.stderr.contains("forbidden"), "{}", forbidden.stderr);

    run(&["model", "init", "--architecture", "softmax-2-2", "first.safetensors"]).ended(0);
    fs::write(home.join("policy.toml"), POLICY).unwrap();
    let create = ["task", "create", "--policy", "policy.toml", "--model", "first.safetensors"];
    let created = run(&[&create[..], &admin[..]].concat());
    created.ended(0);
    let task = created.stdout.trim();

    let train = |site| {
        let data = format!("{site}.csv");
        Running::start(home, &["train", site, "--data", &data, "--seed", "1", "--output", "json"])
    };
    let trained = SITES.map(train).map(Running::end);
    for done in &trained {
        assert_eq!(json(done)["finished"], 2, "{}", done.stderr);
    }

    let rounds = json(&run(&["round", "list", task, "--as", SITES[0], "--output", "json"]));
    let rounds = rounds.as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert_eq!(round["state"], "complete", "{round}");
        assert_eq!(round["release"]["survivors"].as_array().unwrap().len(), 3);
        assert_eq!(round["release"]["weight"], 90, "30 rows at each of 3 sites");
    }
    let shown = run(&["round", "show", &format!("{task}.2"), "--as", SITES[1]]);
    shown.ended(0);
    assert!(shown.stdout.contains("complete") && shown.stdout.contains(SITES[2]), "{}", shown.stdout);
    let tasks = json(&run(&[&["task", "list", "--output", "json"], &admin[..]].concat()));
    assert_eq!(tasks[0]["state"], "complete");
    run(&[&["task", "show", task], &admin[..]].concat()).ended(0);
    let people = json(&run(&[&["participant", "list", "--output", "json"], &admin[..]].concat()));
    assert_eq!(people.as_array().unwrap().len(), 6);

    let digest = tasks[0]["model"].as_str().unwrap();
    let models = json(&run(&["model", "list", "--as", SITES[0], "--output", "json"]));
    let models = models.as_array().unwrap();
    assert_eq!(models.len(), 3, "the first one and one of each round");
    let last = models.iter().find(|model| model["digest"] == digest).unwrap();
    assert_eq!(last["task"], task);
    let listed = run(&[&["model", "list"], &admin[..]].concat());
    listed.ended(0);
    assert!(listed.stdout.contains(digest), "{}", listed.stdout);
    let fetched = run(&["model", "get", digest, "model.safetensors", "--as", SITES[0]]);
    fetched.ended(0);
    assert_eq!(fetched.stdout.trim(), digest);
    assert_ne!(fs::read(home.join("model.safetensors")).unwrap(), fs::read(home.join("first.safetensors")).unwrap());

    server.signal(Signal::TERM);
    server.end().ended(0);
    let gone = run(&["task", "list", "--as", SITES[0]]);
    gone.ended(4);
    assert!(gone.stderr.contains("cannot be reached") && gone.stderr.contains("hint: "), "{}", gone.stderr);
}

#[test]
fn a_busy_port_and_an_interrupted_site() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let options = ["--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
    sordino_in(home, &[&["init", "fed"], &options[..]].concat()).ended(0);
    let (server, url) = serve(home);

    let port = url.rsplit(':').next().unwrap();
    let busy = ["init", "other", "--federation", "test.example", "--name", "localhost", "--listen"];
    sordino_in(home, &[&busy[..], &[&format!("127.0.0.1:{port}")]].concat()).ended(0);
    let refused = sordino_in(home, &["serve", "--config", "other/sordino.toml"]);
    refused.ended(1);
    assert!(refused.stderr.contains("address in use"), "{}", refused.stderr);

    let invited = sordino_in(home, &["invite", SITES[0], "--as", "fed/admin", "--server", &url]);
    fs::write(home.join("invitation"), &invited.stdout).unwrap();
    sordino_in(home, &["join", "site", "--id", SITES[0], "--invitation", "invitation"]).ended(0);
    fs::write(home.join("rows.csv"), rows(0)).unwrap();
    sordino_in(home, &["model", "init", "--architecture", "softmax-2-2", "first.safetensors"]).ended(0);
    fs::write(home.join("policy.toml"), POLICY).unwrap();
    let create = ["task", "create", "--policy", "policy.toml", "--model", "first.safetensors", "--as", "fed/admin"];
    sordino_in(home, &[&create[..], &["--server", &url]].concat()).ended(0);
    // Alone it waits for the others, until a person has enough of it.
    let mut site = Running::start(home, &["train", "site", "--data", "rows.csv"]);
    let list = ["participant", "list", "--output", "json", "--as", "fed/admin", "--server", &url];
    let begin = Instant::now();
    while !sordino_in(home, &list).stdout.contains("last_seen") {
        assert!(site.is_running() && begin.elapsed() < LIMIT, "the site does not check in");
    }
    site.signal(Signal::INT);
    let ended = site.end();
    ended.ended(130);
    assert!(ended.stderr.ends_with("error: interrupted\n"), "{}", ended.stderr);

    server.signal(Signal::INT);
    server.end().ended(0);
}

const LIMIT: Duration = Duration::from_secs(120);
