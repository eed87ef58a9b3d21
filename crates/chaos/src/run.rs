//! The whole run: federation, storm, rounds, and what is left to check when they are over.

use crate::{
    Chaos,
    failure::{Failure, file},
    federation::{Federation, ROUND_BYTES_PER_SITE, Task, cohort_min, site_id},
    invariants::{
        Violation, a_failure_has_a_reason, the_model_follows_the_last_release, the_sum_is_that_of_its_inputs,
        the_survivors_are_enough_of_the_cohort, what_has_ended_stays_as_it_was,
    },
    process::Program,
    report::{Report, Row, note, result},
    storm,
    watch::{self, Ended, Watched},
};
use sordino_wire::{
    Digest,
    api::{Round, RoundState, TaskState},
};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Runs, prints the table, and says whether everything held.
pub(crate) async fn run(chaos: Chaos) -> Result<bool, Failure> {
    let seed = match chaos.seed {
        Some(seed) => seed,
        None => {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(Failure::Seed)?;
            u32::from_le_bytes(bytes).into()
        }
    };
    let (folder, temporary) = folder(chaos.keep.as_deref())?;
    note(&format!("seed {seed}; logs and faults in {}", folder.display()));
    let done = storm_of(&chaos, &folder, seed).await;
    let held = match &done {
        Ok(report) => {
            result(&report.text());
            report.violations.is_empty()
        }
        Err(_) => false,
    };
    if let Some(temporary) = temporary.filter(|_| !held) {
        // Whoever looks for the reason needs the logs.
        let kept = temporary.keep();
        note(&format!("the storm of seed {seed} left its logs in {}", kept.display()));
    }
    done.map(|_| held)
}

async fn storm_of(chaos: &Chaos, folder: &Path, seed: u64) -> Result<Report, Failure> {
    let started = Instant::now();
    let path = fs::canonicalize(&chaos.program).map_err(file(&chaos.program))?;
    let program = Program { path, folder: folder.to_owned() };
    let mut federation = Federation::found(program, chaos.participants, seed).await?;
    federation.raise_storm()?;
    let mut faults = FaultLog::create(folder, started)?;
    let mut report = Report {
        participants: chaos.participants,
        seed,
        rows: Vec::new(),
        seconds: 0.0,
        tally: federation.proxy.tally(),
        violations: Vec::new(),
    };
    loop {
        let left = chaos.rounds - report.rows.len() as u64;
        if left == 0 || !one_task(&mut federation, left, &mut report, &mut faults).await? {
            break;
        }
    }
    federation.stop().await?;
    report.tally = federation.proxy.tally();
    report.violations.append(&mut federation.violations);
    // A storm in which hardly anything succeeds shows nothing.
    if report.violations.is_empty() && report.complete() * 2 < report.rows.len() {
        let (complete, all) = (report.complete(), report.rows.len());
        report
            .violations
            .push(Violation(format!("{complete} of {all} rounds are complete; half of them are asked for")));
    }
    // Nor does one that did not take place: a kill waits for a line in a log, and a line can be worded anew.
    let kills = |of: fn(&crate::watch::Watched) -> u32| report.rows.iter().map(|row| of(&row.watched)).sum::<u32>();
    let none = [
        ("kill of the coordinator", kills(|watched| watched.coordinator_kills) == 0),
        ("kill of a site", kills(|watched| watched.site_kills) == 0),
        ("fault of the network", report.tally.faults() == 0),
    ];
    let missing: Vec<_> = none.iter().filter(|(_, missing)| *missing && report.rows.len() >= 4).collect();
    for (what, _) in missing {
        report.violations.push(Violation(format!("there was not one {what}: the storm did not take place")));
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Sees a task through until it has no more rounds: they are done, or too many in a row have failed. False: the run is
/// over, somebody is stuck or gone. Other violations are noted, and the storm goes on.
async fn one_task(
    federation: &mut Federation,
    rounds: u64,
    report: &mut Report,
    faults: &mut FaultLog,
) -> Result<bool, Failure> {
    let task = federation.begin_task(rounds).await?;
    let mut model = patiently(async || federation.admin.get::<Standing>(&task_path(&task)).await).await?.model;
    let mut ended: Vec<Round> = Vec::new();
    for number in 1..=rounds {
        if let Some(early) = federation.sites.iter().find(|site| site.has_ended()) {
            federation.violations.push(Violation(format!("{} has ended before its task", early.name)));
            return Ok(false);
        }
        let round = report.rows.len() as u64 + 1;
        let bytes = u64::from(report.participants) * ROUND_BYTES_PER_SITE;
        let kills = storm::kills(report.seed, round, report.participants, bytes);
        faults.round = round;
        let watched = match watch::round(federation, &task, number, kills, &mut |line| faults.write(line)).await? {
            Ended::Round(watched) => *watched,
            Ended::Stuck(violation) => {
                federation.violations.push(violation);
                faults.injections(federation)?;
                return Ok(false);
            }
        };
        faults.injections(federation)?;
        ended.push(watched.round.clone());
        let row = check(federation, &task, round, watched, &mut model).await?;
        note(&row.in_short());
        report.rows.push(row);
        let standing = patiently(async || federation.admin.get::<Standing>(&task_path(&task)).await).await?;
        if standing.state != TaskState::Active {
            break;
        }
    }
    if !everybody_goes_home(federation).await? {
        return Ok(false);
    }
    for before in &ended {
        let path = format!("/v1/rounds/{}", before.id);
        let now = patiently(async || federation.admin.get::<Round>(&path).await).await?;
        federation.violations.extend(what_has_ended_stays_as_it_was(before, &now).err());
    }
    Ok(true)
}

/// What must hold of a round that is over. `model` is that of the last Release, and becomes that of this one.
async fn check(
    federation: &mut Federation,
    task: &Task,
    number: u64,
    watched: Watched,
    model: &mut Digest,
) -> Result<Row, Failure> {
    let round = &watched.round;
    let mut found = Vec::new();
    found.extend(the_model_follows_the_last_release(round, *model).err());
    let exact = match (&round.release, round.state) {
        (Some(release), RoundState::Complete) => {
            *model = release.model;
            let path = format!("/v1/rounds/{}/sum", round.id);
            let sum = patiently(async || federation.admin.get_bytes(&path, SUM_MAX).await).await?;
            let min = cohort_min(u32::try_from(federation.sites.len()).unwrap_or(u32::MAX));
            found.extend(the_survivors_are_enough_of_the_cohort(round, release, min).err());
            let exact = the_sum_is_that_of_its_inputs(round, release, &task.inputs, &sum);
            exact.map_err(|violation| found.push(violation)).ok()
        }
        (None, RoundState::Complete) => {
            found.push(Violation(format!("round {} is complete and has no Release", round.id)));
            None
        }
        _ => {
            found.extend(a_failure_has_a_reason(round).err());
            None
        }
    };
    federation.violations.append(&mut found);
    Ok(Row { round: number, watched, exact })
}

/// A task that is over is told to every site, through the storm: each ends by itself.
async fn everybody_goes_home(federation: &mut Federation) -> Result<bool, Failure> {
    let began = Instant::now();
    loop {
        federation.look()?;
        let there: Vec<String> =
            (0u32..).zip(&federation.sites).filter(|(_, site)| !site.has_ended()).map(|(at, _)| site_id(at)).collect();
        if there.is_empty() {
            return Ok(true);
        }
        if began.elapsed() > watch::GATHER_MAX {
            let seconds = watch::GATHER_MAX.as_secs();
            let stuck = format!("{} did not notice within {seconds} s that the task is over", there.join(", "));
            federation.violations.push(Violation(stuck));
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks until there is an answer: the coordinator may have been killed a moment ago.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, sordino_participant::ClientError>) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.code().is_some() || began.elapsed() > ANSWER_WITHIN => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn task_path(task: &Task) -> String {
    format!("/v1/tasks/{}", task.id)
}

/// The folder of the run; a temporary one goes when everything held.
fn folder(keep: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    match keep {
        Some(path) if path.exists() => Err(Failure::KeepExists { path: path.to_owned() }),
        Some(path) => {
            fs::create_dir_all(path).map_err(file(path))?;
            Ok((fs::canonicalize(path).map_err(file(path))?, None))
        }
        None => {
            let temporary = tempfile::Builder::new().prefix("sordino-chaos-").tempdir();
            let temporary = temporary.map_err(file(std::env::temp_dir()))?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// What is looked at of a task.
#[derive(serde::Deserialize)]
struct Standing {
    state: TaskState,
    model: Digest,
}

/// Every kill and every fault of the network, with its round and time.
struct FaultLog {
    path: PathBuf,
    file: File,
    started: Instant,
    round: u64,
}

impl FaultLog {
    fn create(folder: &Path, started: Instant) -> Result<Self, Failure> {
        let path = folder.join("faults.log");
        let created = File::create(&path).map_err(file(&path))?;
        Ok(Self { path, file: created, started, round: 0 })
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        let at = self.started.elapsed().as_secs_f64();
        writeln!(self.file, "{at:9.3} s  round {}  {line}", self.round).map_err(file(&self.path))
    }

    /// Those of the proxy, once a round.
    fn injections(&mut self, federation: &Federation) -> Result<(), Failure> {
        federation.proxy.take_injections().iter().try_for_each(|injection| self.write(&injection.to_string()))
    }
}

/// Bytes of a sum, at most.
const SUM_MAX: usize = 64 * 1024 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
