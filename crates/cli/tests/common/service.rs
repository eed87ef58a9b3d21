//! Processes that are killed and started again, and a federation of them.

use super::{command, sordino_in};
use rustix::process::Pid;
use sordino_identity::Invitation;
use sordino_participant::{Client, Credentials};
use sordino_wire::{
    TaskId,
    api::{Round, RoundState},
};
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A process of the binary that keeps running. It does not outlive its test.
pub(crate) struct Service {
    home: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    /// What it says on standard error, all starts one after the other.
    pub(crate) log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts it in `home`; the file `crash.NAME` there says where it kills or stops itself.
    pub(crate) fn start(home: &Path, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = home.join(format!("{name}.log"));
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let mut environment: Vec<(String, OsString)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        environment.push(("SORDINO_CRASH_AT".to_owned(), home.join(format!("crash.{name}")).into()));
        let child = spawn(home, &arguments, &environment, &log);
        Self { home: home.to_owned(), arguments, environment, log, child }
    }

    /// What later starts find in their environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Starts it again, on what it has on disk.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.home, &self.arguments, &self.environment, &self.log);
    }

    /// Whether it has stopped.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with('T'))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    pub(crate) fn logged(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(home: &Path, arguments: &[OsString], environment: &[(String, OsString)], log: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log).expect("the test's own folder");
    let mut process = command(home, &[]);
    process.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    process.spawn().expect("the binary was built")
}

/// A coordinator with its port, and an administrator.
pub(crate) struct Federation {
    pub(crate) home: PathBuf,
    pub(crate) coordinator: Service,
    /// Asks once: who asks again is the test.
    pub(crate) admin: Client,
    pub(crate) url: String,
}

impl Federation {
    /// `init` and `serve` in `home`.
    pub(crate) async fn found(home: &Path, environment: &[(&str, &str)]) -> Self {
        let init = ["init", "fed", "--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
        sordino_in(home, &init).ended(0);
        let serve = ["serve", "--config", "fed/sordino.toml", "--log", "json", "--ready-file", "ready"];
        let mut coordinator = Service::start(home, "coordinator", &serve, environment);
        let address = until("the coordinator is ready", async || {
            assert!(coordinator.ended().is_none(), "the coordinator ended: {}", coordinator.logged());
            fs::read_to_string(home.join("ready")).ok()
        })
        .await;
        // From now on the same port, as a service manager would have it.
        let address = address.trim().to_owned();
        coordinator.set("SORDINO__SERVER__LISTEN", &address);
        let url = format!("https://localhost:{}", address.rsplit(':').next().unwrap_or_default());
        let parsed = url.parse().expect("a URL");
        let credentials =
            Credentials::load(&home.join("fed/admin"), Some(&parsed)).expect("the administrator's folder");
        let admin = Client::new(&credentials).expect("a client").with_budget(Duration::ZERO);
        Self { home: home.to_owned(), coordinator, admin, url }
    }

    /// Runs a command as the administrator; what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let ran = sordino_in(&self.home, &[arguments, &["--as", "fed/admin", "--server", &self.url]].concat());
        ran.ended(0);
        ran.stdout.trim().to_owned()
    }

    /// Lets a site join; its folder, with one in it where it writes its secrets down.
    pub(crate) async fn join(&self, site: &str) -> PathBuf {
        let invitation: Invitation = self.run(&["invite", site]).parse().expect("an invitation");
        let folder = self.home.join(site);
        let name = site.parse().expect("a name");
        sordino_participant::join(&folder, &invitation, &name, None).await.expect("it is invited");
        fs::create_dir(folder.join("witness")).expect("the site's folder is new");
        folder
    }

    /// Makes a task of a policy and a first model.
    pub(crate) fn create_task(&self, policy: &str, model: &[u8]) -> TaskId {
        fs::write(self.home.join("policy.toml"), policy).expect("the test's own folder");
        fs::write(self.home.join("first.safetensors"), model).expect("the test's own folder");
        let create = ["task", "create", "--policy", "policy.toml", "--model", "first.safetensors"];
        self.run(&create).parse().expect("the task's id")
    }

    /// A round, if the coordinator can be asked and has it.
    pub(crate) async fn round(&self, task: &TaskId, number: u64) -> Option<Round> {
        self.admin.get(&format!("/v1/rounds/{task}.{number}")).await.ok()
    }

    /// A round once it is over.
    pub(crate) async fn ended_round(&self, task: &TaskId, number: u64) -> Round {
        until(&format!("round {number} is over"), async || {
            let round = self.round(task, number).await?;
            matches!(round.state, RoundState::Complete | RoundState::Failed).then_some(round)
        })
        .await
    }
}

/// Looks until there is something, at most [`LIMIT`].
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "in vain since {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Above what the policies of these tests allow an attempt.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
