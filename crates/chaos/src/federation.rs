//! A federation made by the binary's own commands, its sites behind the proxy, the administrator beside it.

use crate::{
    failure::{Failure, file},
    invariants::{Violation, nobody_logged_an_error},
    process::{Process, Program},
    storm::{self, Kill, Victim},
};
use sordino_faultproxy::{Plan, Proxy};
use sordino_participant::{Client, Credentials};
use sordino_secagg::Step;
use sordino_wire::{RoundId, TaskId};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// All processes, and what was seen of them.
pub(crate) struct Federation {
    program: Program,
    seed: u64,
    participants: u32,
    pub(crate) proxy: Proxy,
    coordinator: Process,
    ready: PathBuf,
    /// Since when the coordinator has taken connections, if it does.
    ready_at: Option<Instant>,
    pub(crate) sites: Vec<Process>,
    /// Asks the coordinator directly: what watches is not behind what fails.
    pub(crate) admin: Client,
    address: String,
    tasks: u32,
    pub(crate) violations: Vec<Violation>,
}

/// A task under way.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    /// Counted from 1.
    pub(crate) number: u32,
    /// Where the sites write down what they encode.
    pub(crate) inputs: PathBuf,
}

/// What the coordinator's log told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    /// A step of this round was closed.
    Closed(RoundId, Step),
    /// An attempt was given up, for this reason.
    Abandoned(String),
}

impl Federation {
    /// Makes the federation, starts its coordinator and lets every site join, while the network is still calm.
    pub(crate) async fn found(program: Program, participants: u32, seed: u64) -> Result<Self, Failure> {
        let proxy = Proxy::start(Plan::calm()).await.map_err(Failure::Proxy)?;
        program
            .run(&[
                "init",
                HOME,
                "--federation",
                "chaos.sordino.example",
                "--name",
                "localhost",
                "--listen",
                "127.0.0.1:0",
            ])
            .await?;
        for folder in ["logs", "sites"] {
            let path = program.folder.join(folder);
            fs::create_dir(&path).map_err(file(path))?;
        }
        let ready = program.folder.join("coordinator.ready");
        let arguments = ["serve", "--config", CONFIG, "--log", "json", "--ready-file", "coordinator.ready"];
        let environment = vec![
            // Where sites are told to go.
            ("SORDINO__SERVER__URL", format!("https://localhost:{}", proxy.port())),
            // Inputs of more than one chunk.
            ("SORDINO__LIMITS__CHUNK_BYTES", CHUNK_BYTES.to_string()),
            // Steps are told when they close.
            ("SORDINO_LOG", "info,sordino_coordinator=debug".to_owned()),
        ];
        let log = program.folder.join("logs/coordinator.log");
        let arguments = arguments.iter().map(Into::into).collect();
        let mut coordinator = Process::start(&program, "the coordinator", arguments, environment, &log)?;
        let address = first_ready(&mut coordinator, &ready).await?;
        proxy.forward_to(
            address.parse().map_err(|_| Failure::Printed { arguments: "serve".into(), stdout: address.clone() })?,
        );
        // From now on the same port, as a service manager would have it.
        coordinator.set("SORDINO__SERVER__LISTEN", address.clone());
        let port = address.rsplit(':').next().unwrap_or_default();
        let url = format!("https://localhost:{port}");
        let parsed = url.parse().map_err(|_| Failure::Printed { arguments: "serve".into(), stdout: url.clone() })?;
        let credentials = Credentials::load(&program.folder.join(ADMIN), Some(&parsed))?;
        // Not answered means not known: the next look asks again.
        let admin = Client::new(&credentials)?.with_budget(Duration::ZERO);
        let federation = Self {
            program,
            seed,
            participants,
            proxy,
            coordinator,
            ready,
            ready_at: Some(Instant::now()),
            sites: Vec::new(),
            admin,
            address: url,
            tasks: 0,
            violations: Vec::new(),
        };
        federation.join().await?;
        Ok(federation)
    }

    async fn join(&self) -> Result<(), Failure> {
        for number in 0..self.participants {
            let id = site_id(number);
            let invited = self.program.run(&["invite", &id, "--as", ADMIN, "--server", &self.address]).await?;
            self.write("invitation", &invited)?;
            self.program.run(&["join", &site_folder(number), "--id", &id, "--invitation", "invitation"]).await?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.program.folder.join(name);
        fs::write(&path, text).map_err(file(path))
    }

    /// Makes a task of so many rounds, and starts every site on it.
    pub(crate) async fn begin_task(&mut self, rounds: u64) -> Result<Task, Failure> {
        self.tasks += 1;
        let number = self.tasks;
        let model = format!("first-{number}.safetensors");
        self.write("policy.toml", &policy(self.participants, rounds))?;
        let seed = self.seed.to_string();
        self.program.run(&["model", "init", "--architecture", ARCHITECTURE, "--seed", &seed, &model]).await?;
        let create =
            ["task", "create", "--as", ADMIN, "--server", &self.address, "--policy", "policy.toml", "--model", &model];
        let printed = self.program.run(&create).await?;
        let id = printed.trim().parse();
        let id: TaskId =
            id.map_err(|_| Failure::Printed { arguments: "task create".into(), stdout: printed.clone() })?;
        let inputs = self.program.folder.join(format!("inputs-{number}"));
        fs::create_dir(&inputs).map_err(file(&inputs))?;
        let task = Task { id, number, inputs };
        self.sites.clear();
        for site in 0..self.participants {
            let process = self.start_site(site, &task)?;
            self.sites.push(process);
        }
        Ok(task)
    }

    fn start_site(&self, number: u32, task: &Task) -> Result<Process, Failure> {
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(number.into()).to_string();
        let split = format!("{number}/{}/0.5/{}", self.participants, self.seed);
        let mut arguments: Vec<OsString> = Vec::new();
        arguments.extend(["train", &site_folder(number), "--task", task.id.as_str(), "--seed", &seed].map(Into::into));
        arguments.extend(["--log", "json", "--insecure-dev", "--dev-split", &split, "--dev-dump"].map(Into::into));
        arguments.push(task.inputs.clone().into());
        let id = site_id(number);
        let log = self.program.folder.join(format!("logs/{id}.{}.log", task.number));
        Process::start(&self.program, &id, arguments, Vec::new(), &log)
    }

    /// From now on the network is bad; what is connected stays as it is until it connects again.
    pub(crate) fn raise_storm(&self) -> Result<(), Failure> {
        self.proxy.follow(Plan::drawn(self.seed, storm::faults())?);
        Ok(())
    }

    /// Since when the coordinator has been there, if it is.
    pub(crate) fn up_since(&self) -> Option<Instant> {
        self.ready_at.filter(|_| self.coordinator.is_running())
    }

    /// When the last process was started.
    pub(crate) fn last_start(&self) -> Option<Instant> {
        self.sites.iter().map(|site| site.started).chain(self.up_since()).max()
    }

    /// Kills, if there is somebody to kill.
    pub(crate) async fn kill(&mut self, kill: &Kill) -> Result<bool, Failure> {
        match kill.victim {
            Victim::Coordinator => {
                let killed = self.coordinator.kill(kill.away).await?;
                if killed {
                    self.ready_at = None;
                    // The next start says anew when it is ready.
                    match fs::remove_file(&self.ready) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(file(&self.ready)(error));
                        }
                        _ => {}
                    }
                }
                Ok(killed)
            }
            Victim::Site(number) => match self.sites.get_mut(number as usize) {
                Some(site) => site.kill(kill.away).await,
                None => Ok(false),
            },
        }
    }

    /// Starts what is to be started again, and reads what was logged. What must not be is noted as a violation.
    pub(crate) fn look(&mut self) -> Result<Vec<Observed>, Failure> {
        let mut observed = Vec::new();
        for process in std::iter::once(&mut self.coordinator).chain(&mut self.sites) {
            if let Some(status) = process.look()?.filter(|status| !status.success()) {
                let log = process.log().display();
                self.violations.push(Violation(format!("{} ended of itself ({status}); see {log}", process.name)));
            }
            for entry in process.entries()? {
                self.violations.extend(nobody_logged_an_error(&process.name, &entry).err());
                observed.extend(observe(&entry));
            }
        }
        if self.ready_at.is_none() && self.coordinator.is_running() {
            if self.ready.exists() {
                self.ready_at = Some(Instant::now());
            } else if self.coordinator.started.elapsed() > READY_WITHIN {
                return Err(not_ready(&self.coordinator));
            }
        }
        Ok(observed)
    }

    /// Ends everybody.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        for process in std::iter::once(&mut self.coordinator).chain(&mut self.sites) {
            process.stop().await?;
        }
        Ok(())
    }
}

/// Waits for the first start, and returns the address.
async fn first_ready(coordinator: &mut Process, ready: &Path) -> Result<String, Failure> {
    loop {
        match fs::read_to_string(ready) {
            Ok(address) => return Ok(address.trim().to_owned()),
            Err(_) if coordinator.look()?.is_none() && coordinator.started.elapsed() < READY_WITHIN => {}
            Err(_) => return Err(not_ready(coordinator)),
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

fn not_ready(coordinator: &Process) -> Failure {
    Failure::NotReady { seconds: READY_WITHIN.as_secs(), log: coordinator.log().to_owned() }
}

fn observe(entry: &crate::journal::Entry) -> Option<Observed> {
    match entry.text("message")? {
        "step closed" => {
            let step = Step::from_name(entry.text("step")?)?;
            Some(Observed::Closed(entry.text("round")?.parse().ok()?, step))
        }
        "attempt abandoned" => Some(Observed::Abandoned(entry.text("reason")?.to_owned())),
        _ => None,
    }
}

pub(crate) fn site_id(number: u32) -> String {
    format!("site-{number:04}")
}

fn site_folder(number: u32) -> String {
    format!("sites/{}", site_id(number))
}

/// Inputs of a sum, at least.
pub(crate) fn cohort_min(participants: u32) -> u32 {
    (participants * 5).div_ceil(8)
}

fn policy(participants: u32, rounds: u64) -> String {
    let (min, round_timeout) = (cohort_min(participants), ROUND_TIMEOUT.as_secs_f64());
    format!(
        r#"[task]
name = "chaos"
rounds = {rounds}

[cohort]
min = {min}
target = {participants}
max_dropout_fraction = 0.3
max_corrupt_fraction = 0.1

[privacy]
enabled = false
clip_norm = 5.0

[robustness]
proof = "none"

[encoding]
max_weight = 2000
metrics = [{{ name = "correct", max = 2000.0, resolution = 1.0 }}]

[timing]
gather = 2.0
participant_timeout = 15.0
round_timeout = {round_timeout:?}
step_timeout = 8.0
step_grace = 1.0

[training]
local_epochs = 1
batch_size = 16
learning_rate = 0.1
"#
    )
}

/// For a whole attempt, by the policy.
pub(crate) const ROUND_TIMEOUT: Duration = Duration::from_secs(30);
/// What a site carries for a round without trouble: the model down, its input up, the messages.
pub(crate) const ROUND_BYTES_PER_SITE: u64 = 300_000;
/// About 38,000 values: an input has two chunks, each of which spans several windows of faults.
const ARCHITECTURE: &str = "mlp-64-512-10";
const CHUNK_BYTES: u32 = 64 * 1024;
const HOME: &str = "federation";
const CONFIG: &str = "federation/sordino.toml";
const ADMIN: &str = "federation/admin";
const READY_WITHIN: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
