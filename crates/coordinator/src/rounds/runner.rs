//! The rounds of one task, one after another.

use super::{
    Current, TaskRounds,
    attempt::{Attempt, Ended, Plan, Stopped},
    cohort::Gathering,
    group::{Aborted, Shown},
    release,
    release::{GroupSum, Published},
    standing::{Standing, conclude},
    suspicion::{Check, GroupBounds, Suspicion},
};
use crate::{
    app::App,
    budget::{self, BudgetError},
    bulk,
    health::GROUP_CHECKS,
};
use sordino_dp::ledger::{self, Granted, Refusal};
use sordino_secagg::{ParticipantId, coordinator::Abort};
use sordino_store::{
    AttemptStart, Findings, NewRefusal, RoundRow, StoreError, TaskRow, Then, attempt_state, crash_point, round_state,
    task_state,
};
use sordino_wire::{
    CheckedPolicy, Digest, Policy, RoundId,
    api::{Assignment, Release},
    policy::SUMS_PER_MODEL_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Runs the rounds of a task until it is complete, halted, or the service stops.
pub(super) async fn run_task(app: &Arc<App>, rounds: &TaskRounds) {
    let mut silent = BTreeSet::new();
    loop {
        match next(app, rounds, &mut silent).await {
            Ok(Next::GoOn) => {}
            Ok(Next::TaskEnded) | Err(Failed::Parked) => return,
            Err(Failed::Retry(error)) => {
                let error = crate::answer::chain(&*error);
                tracing::error!(task = %rounds.id, error, "the round waits: the coordinator cannot go on with it");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = app.lifecycle.stopping() => return,
                }
            }
        }
    }
}

enum Next {
    GoOn,
    TaskEnded,
}

enum Failed {
    Parked,
    /// The store, the disk or the registrar failed; nothing is lost, and the same is tried again.
    Retry(Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Retry(error.into())
    }
}

impl From<BudgetError> for Failed {
    fn from(error: BudgetError) -> Self {
        Self::Retry(error.into())
    }
}

fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failed {
    Failed::Retry(error.into())
}

/// Goes on with the attempt that is open, or opens the next one, and sees it through.
///
/// - `silent`: those who did not answer in the last attempt of the round.
async fn next(app: &Arc<App>, rounds: &TaskRounds, silent: &mut BTreeSet<ParticipantId>) -> Result<Next, Failed> {
    let Some(task) = app.store.task(rounds.id.as_str()).await?.filter(|row| row.state == task_state::ACTIVE) else {
        return Ok(Next::TaskEnded);
    };
    let policy: Policy = serde_json::from_str(&task.policy_json).map_err(retry)?;
    let policy = policy.check().map_err(retry)?;
    let model_len = usize::try_from(task.model_len).map_err(retry)?;
    let number = task.next_round;
    let round = app.store.round(&task.id, number).await?;
    let last = round.as_ref().map_or(0, |row| row.attempt);

    let open = match &round {
        Some(row) if row.state != round_state::WAITING && !row.is_ended() => {
            app.store.attempt(&task.id, number, last).await?.filter(|row| row.state == attempt_state::OPEN)
        }
        _ => None,
    };
    if open.is_none() {
        rounds.current.send_replace(Current::Between);
    }
    let (attempt, cohort_json) = if let Some(row) = open {
        tracing::info!(task = %rounds.id, round = number, attempt = last, "going on with an attempt");
        (last, row.cohort_json)
    } else {
        if let Some(reason) = spent(app, &task).await? {
            return halt(app, &task, &reason).await;
        }
        if budget::is_charged(app, &task, &policy, (number, last + 1)).await? {
            return halt(app, &task, FORGOTTEN).await;
        }
        // Before anybody is waited for, and told nothing: whoever is there would train in vain.
        let multiplier = budget::multiplier(app, &policy, model_len, number).await?;
        if let Err(refusal) = budget::affords(app, &policy, model_len, multiplier).await? {
            return halt(app, &task, &unaffordable(&refusal)).await;
        }
        if last == 0 {
            silent.clear();
        }
        let standing = Standing::load(&app.store, (&task.id, number), silent.clone()).await?;
        let cohort = gather(app, rounds, &policy, &standing).await?;
        // Others may have enrolled since the task was made.
        if let Err(error) = budget::delta_fits(app, &policy).await? {
            let reason = format!(
                "{error}: participants have enrolled since the task was made; none was asked for anything, and the model \
                 stays as it is"
            );
            return halt(app, &task, &reason).await;
        }
        let groups = groups(app, &task, &policy, cohort).await?;
        let cohort_json = admit(app, &groups, multiplier).await?;
        let start = AttemptStart {
            task: task.id.clone(),
            round: number,
            attempt: last + 1,
            model: task.model,
            cohort_json: cohort_json.clone(),
        };
        crash_point!("attempt:gathered");
        app.store.begin_attempt(start, app.now_millis()).await?;
        crash_point!("attempt:stored");
        (last + 1, cohort_json)
    };

    let assignment = Assignment {
        round: RoundId { task: rounds.id.clone(), number },
        attempt,
        nonce: Digest([0; 32]),
        model: Digest(task.model),
        policy_digest: policy.digest(),
        time_left: 0,
        cohort: 0,
        noise_multiplier: None,
    };
    let plan = Plan { assignment, policy: policy.clone(), model_len };
    let attempt = match Attempt::restore(app, plan, &cohort_json).await {
        Ok(attempt) => Arc::new(attempt),
        Err(stopped) => {
            let nobody = BTreeMap::new();
            return give_up(app, (&task, &policy), (number, attempt), (stopped, nobody), silent).await;
        }
    };
    // Charged before anybody is told of it; again after a restart, which is the same charge.
    let granted = match &attempt.privacy() {
        None => None,
        Some(privacy) => {
            let at = (number, attempt.id().attempt);
            match budget::reserve(app, &task, &policy, at, (privacy, attempt.cohort())).await? {
                Ok(Granted { standing: ledger::Standing::Committed(_), .. }) => {
                    return forgotten(app, &task, at).await;
                }
                Ok(granted) => Some(granted),
                Err(refusal) => return unpaid(app, &task, at, &refusal).await,
            }
        }
    };
    crash_point!("attempt:charged");
    rounds.current.send_replace(Current::Open(attempt.clone()));
    let ended = match attempt.run(app).await {
        Ok(ended) => complete(app, rounds, (&task, &policy), &attempt, (ended, granted)).await,
        Err(stopped) => {
            let at = (number, attempt.id().attempt);
            give_up(app, (&task, &policy), at, (stopped, attempt.refused().await), silent).await
        }
    };
    if ended.is_ok() {
        // The store says that it is over: whoever asks is told so.
        attempt.end().await;
        rounds.current.send_replace(Current::Between);
    } else {
        // It goes on, here after a pause or after a restart: whoever asks is told to come back.
        attempt.suspend().await;
    }
    ended
}

/// Waits for a cohort. Who of those that are there takes part is drawn by chance: names decide nothing.
async fn gather(
    app: &App,
    rounds: &TaskRounds,
    policy: &CheckedPolicy,
    standing: &Standing,
) -> Result<BTreeSet<ParticipantId>, Failed> {
    let cohort = &policy.policy().cohort;
    let patience = Duration::from_secs_f64(policy.policy().timing.gather);
    let mut draw = [0; 32];
    getrandom::fill(&mut draw).map_err(retry)?;
    let draw = |id: &ParticipantId| bulk::sha256(&[&draw[..], id.as_str().as_bytes()].concat());
    loop {
        let arrived = rounds.arrived.notified();
        let now = app.rounds.uptime();
        let size = (cohort.min, cohort.target);
        let gathering = rounds.waiting().gather(size, patience, standing, draw, now);
        let (until, hindrance) = match gathering {
            Gathering::Begin(cohort) => {
                rounds.hindered(None);
                return Ok(cohort);
            }
            Gathering::Wait(until) => (until, None),
            Gathering::Hindered { there, usable, until } => {
                let min = cohort.min;
                let why = format!(
                    "{there} participants are there, of whom one cohort can hold no more than {usable}, and {min} are \
                     needed: the others are left out, or in dispute over shares with one of these"
                );
                (until, Some(why))
            }
        };
        rounds.hindered(hindrance);
        let until = until.map_or(IDLE, |until| until.saturating_sub(now));
        tokio::select! {
            () = arrived => {}
            () = tokio::time::sleep(until) => {}
            () = app.lifecycle.stopping() => return Err(Failed::Parked),
        }
    }
}

/// Who of a cohort is summed with whom: all with all, unless the sum of an attempt before was not that of what its members
/// had proven. Whoever is in no group waits for the next attempt.
async fn groups(
    app: &App,
    task: &TaskRow,
    policy: &CheckedPolicy,
    cohort: BTreeSet<ParticipantId>,
) -> Result<Vec<BTreeSet<ParticipantId>>, Failed> {
    let suspicion = Suspicion::load(&app.store, &task.id, policy.faults().corrupt).await?;
    if !suspicion.is_open() {
        return Ok(vec![cohort]);
    }
    let mut draw = [0; 32];
    getrandom::fill(&mut draw).map_err(retry)?;
    let mut present: Vec<_> = cohort.iter().cloned().collect();
    present.sort_by_cached_key(|id| bulk::sha256(&[&draw[..], id.as_str().as_bytes()].concat()));
    let min = policy.policy().cohort.min;
    // Large enough to stand the dropouts that the policy allows for, where two such groups can be made.
    let tolerant = (min..).find(|size| policy.quorum(*size) >= min).unwrap_or(min);
    let size_min = if present.len() >= 2 * tolerant as usize { tolerant } else { min } as usize;
    let groups = suspicion.draw(present, GroupBounds { size_min, groups_max: GROUPS_MAX });
    let sizes: Vec<_> = groups.iter().map(BTreeSet::len).collect();
    tracing::info!(task = %task.id, ?sizes, "groups are drawn to find out who sends other inputs than were proven");
    Ok(if groups.is_empty() { vec![cohort] } else { groups })
}

/// The certificate keys of a cohort, as they are stored with its attempt.
async fn admit(app: &App, groups: &[BTreeSet<ParticipantId>], multiplier: Option<f64>) -> Result<String, Failed> {
    let mut members = BTreeMap::new();
    for id in groups.iter().flatten() {
        let row = app.store.principal(id.as_str()).await?;
        let row = row.ok_or_else(|| retry(format!("{id} checked in and is not a principal")))?;
        members.insert(id.clone(), row.verifying_key);
    }
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(retry)?;
    Attempt::cohort_json(Digest(nonce), &members, groups, multiplier).map_err(retry)
}

async fn complete(
    app: &App,
    rounds: &TaskRounds,
    (task, policy): (&TaskRow, &CheckedPolicy),
    attempt: &Attempt,
    (ended, granted): (Ended, Option<Granted>),
) -> Result<Next, Failed> {
    let id = attempt.id();
    let (round, number) = (id.round.number, id.attempt);
    let before = last_release(app, task, round).await?;
    let model = (Digest(task.model), app.model_limits(), before.as_ref());
    let last_round = round >= policy.policy().task.rounds;
    let refused = attempt.refused().await;
    let mut findings = found(task, policy, ended.shown(), &refused);
    let spent = rounds.most_spent(attempt.cohort().iter());
    let charged = match (&granted, attempt.privacy()) {
        (Some(granted), Some(privacy)) => Some(release::Charged::new(app, policy, (granted, privacy), spent).await?),
        _ => None,
    };
    let refused = refused_in_the_round(app, task, round, refused).await?;
    let published = release::publish(&app.store, policy, model, attempt, (ended, charged), (refused, last_round)).await;
    let (release, outcome) = match published {
        Ok(Published { release, outcome, checks }) => {
            conclude_checks(app, (task, policy), (round, number), (checks, &mut findings)).await?;
            (release, outcome)
        }
        Err(release::ReleaseError::NoSum { reason, checks }) => {
            conclude_checks(app, (task, policy), (round, number), (checks, &mut findings)).await?;
            let reason = format!("no group's sum is that of what its members proved: {reason}");
            return abandon(app, task, (round, number), (&reason, findings)).await;
        }
        Err(release::ReleaseError::Store(error)) => return Err(error.into()),
        // Nothing is released without its noise; it may be there next time.
        Err(error @ (release::ReleaseError::Entropy(_) | release::ReleaseError::Cut)) => return Err(retry(error)),
        Err(error) => {
            let reason = crate::answer::chain(&error);
            return fail(app, task, (round, number), (&reason, findings)).await;
        }
    };
    let then = outcome.then.clone();
    crash_point!("release:made");
    app.store.complete_round(&task.id, round, number, (outcome, findings), app.now_millis()).await?;
    crash_point!("release:stored");
    budget::settle_or_warn(app, &task.id, (round, number)).await;
    crash_point!("release:committed");
    metrics::counter!("sordino_rounds_total", "outcome" => "complete").increment(1);
    for step in release.dropouts.values().chain(release.silent_survivors.values()) {
        metrics::counter!("sordino_dropouts_total", "step" => step.clone()).increment(1);
    }
    let survivors = release.survivors.len();
    tracing::info!(round = %id.round, attempt = number, survivors, model = %release.model, "round complete");
    clean(app, &task.id, round, number).await;
    crash_point!("release:cleaned");
    Ok(match then {
        Then::GoesOn => Next::GoOn,
        Then::Complete { early } => {
            if early.is_some() {
                metrics::counter!("sordino_tasks_converged_total").increment(1);
            }
            tracing::info!(task = %task.id, round, reason = early, "task complete");
            Next::TaskEnded
        }
    })
}

/// The task's Release before this round, if there is one: what the next one goes on from.
async fn last_release(app: &App, task: &TaskRow, round: u64) -> Result<Option<Release>, Failed> {
    let row = app.store.last_release(&task.id, round).await?;
    let release = row.and_then(|row| row.release_json).map(|json| serde_json::from_str(&json).map_err(retry));
    release.transpose()
}

/// Whose inputs were refused in a round, and why: in this attempt, and in those before.
async fn refused_in_the_round(
    app: &App,
    task: &TaskRow,
    round: u64,
    mut refused: BTreeMap<ParticipantId, String>,
) -> Result<BTreeMap<ParticipantId, String>, StoreError> {
    for row in app.store.refusals(&task.id, round).await? {
        refused.entry(super::standing::named(&row.id)?).or_insert(row.reason);
    }
    Ok(refused)
}

/// What the store is to keep of an attempt that ends: who accused whom, and whom it shows to be corrupt.
fn found<'a>(
    task: &TaskRow,
    policy: &CheckedPolicy,
    groups: impl Iterator<Item = (&'a Shown, Option<&'a Abort>)>,
    refused: &BTreeMap<ParticipantId, String>,
) -> Findings {
    let refusal = |(id, reason): (&ParticipantId, &String)| NewRefusal { id: id.to_string(), reason: reason.clone() };
    let mut findings = Findings { refusals: refused.iter().map(refusal).collect(), ..Findings::default() };
    for (shown, abort) in groups {
        let Findings { disputes, culprits, .. } = conclude(&shown.disputes, abort, policy.faults().corrupt);
        findings.disputes.extend(disputes);
        findings.culprits.extend(culprits);
    }
    metrics::counter!("sordino_disputes_total").increment(findings.disputes.len() as u64);
    for culprit in &findings.culprits {
        tracing::warn!(task = %task.id, participant = culprit.id, reason = culprit.reason, "left out from now on");
    }
    findings
}

/// Adds what the checks of an attempt's sums have shown: groups that failed, and whom they prove to be corrupt together with
/// those of before.
async fn conclude_checks(
    app: &App,
    (task, policy): (&TaskRow, &CheckedPolicy),
    at: (u64, u32),
    (checks, findings): (Vec<GroupSum>, &mut Findings),
) -> Result<(), Failed> {
    if checks.is_empty() {
        return Ok(());
    }
    let (passed, failed): (Vec<_>, Vec<_>) = checks.iter().partition(|check| check.passed);
    metrics::counter!(GROUP_CHECKS, "outcome" => "passed").increment(passed.len() as u64);
    metrics::counter!(GROUP_CHECKS, "outcome" => "failed").increment(failed.len() as u64);
    let checks = checks.into_iter().map(|GroupSum { group, passed, members }| Check { at, group, passed, members });
    let before = findings.culprits.len();
    let mut suspicion = Suspicion::load(&app.store, &task.id, policy.faults().corrupt).await?;
    suspicion.conclude(checks.collect(), findings)?;
    for culprit in &findings.culprits[before..] {
        tracing::warn!(task = %task.id, participant = culprit.id, reason = culprit.reason, "left out from now on");
    }
    Ok(())
}

/// Ends an attempt that gave no sum, and the round with it when it was the last one it gets.
async fn give_up(
    app: &App,
    (task, policy): (&TaskRow, &CheckedPolicy),
    at: (u64, u32),
    (stopped, refused): (Stopped, BTreeMap<ParticipantId, String>),
    silent: &mut BTreeSet<ParticipantId>,
) -> Result<Next, Failed> {
    let nothing = Findings::default;
    match stopped {
        Stopped::Parked => Err(Failed::Parked),
        Stopped::Store(error @ (StoreError::Corrupt { .. } | StoreError::NotFound { .. })) => {
            // What was stored of the attempt is damaged or gone: it cannot end with its sum.
            abandon(app, task, at, (&crate::answer::chain(&error), nothing())).await
        }
        Stopped::Store(error) => Err(error.into()),
        Stopped::Journal(error) => Err(retry(error)),
        Stopped::Registrar(super::RegistrarError::Store(error)) => Err(retry(error)),
        // It would say the same again.
        Stopped::Registrar(error) => abandon(app, task, at, (&error.to_string(), nothing())).await,
        Stopped::Aborted(groups) => {
            let shown = groups.iter().map(|Aborted { shown, abort, .. }| (shown, Some(abort)));
            let findings = found(task, policy, shown, &refused);
            *silent = groups.iter().flat_map(|group| group.shown.silent.iter().cloned()).collect();
            let reasons: Vec<_> = groups.iter().map(|group| crate::answer::chain(&group.abort)).collect();
            abandon(app, task, at, (&reasons.join("; "), findings)).await
        }
    }
}

async fn abandon(
    app: &App,
    task: &TaskRow,
    (round, attempt): (u64, u32),
    (reason, findings): (&str, Findings),
) -> Result<Next, Failed> {
    metrics::counter!("sordino_attempts_abandoned_total").increment(1);
    tracing::warn!(task = %task.id, round, attempt, reason, "attempt abandoned");
    let fruitful = fruitful(app, task, (round, attempt), &findings).await?.min(FRUITFUL_MAX);
    let fruitless = attempt.saturating_sub(fruitful);
    if fruitless >= ATTEMPTS_MAX || spent(app, task).await?.is_some() {
        return fail(app, task, (round, attempt), (reason, findings)).await;
    }
    app.store.end_attempt(&task.id, round, attempt, (reason, findings), app.now_millis()).await?;
    crash_point!("abandoned:stored");
    budget::settle_or_warn(app, &task.id, (round, attempt)).await;
    clean(app, &task.id, round, attempt).await;
    Ok(Next::GoOn)
}

/// Attempts of a round, this one included, that have shown something new of its participants. They are not held against
/// the round: each takes a corrupt participant out, or away from one more of those it can disturb.
async fn fruitful(
    app: &App,
    task: &TaskRow,
    (round, attempt): (u64, u32),
    findings: &Findings,
) -> Result<u32, StoreError> {
    let disputes = app.store.disputes(&task.id).await?.into_iter().map(|row| (row.round, row.attempt));
    let culprits = app.store.culprits(&task.id).await?.into_iter().map(|row| (row.round, row.attempt));
    let mut attempts: BTreeSet<_> = disputes.chain(culprits).filter(|(of, _)| *of == round).collect();
    let failed = app.store.checks(&task.id).await?.into_iter().filter(|row| !row.passed);
    attempts.extend(failed.filter(|row| row.round == round).map(|row| (row.round, row.attempt)));
    // A cohort holds nobody who was found guilty, and no two that were in dispute: what it shows is new.
    let known = app.store.refusals(&task.id, round).await?;
    let known: BTreeSet<_> = known.iter().map(|row| (row.attempt, &*row.id)).collect();
    // Whoever was refused before says nothing new.
    let mut seen = BTreeSet::new();
    attempts.extend(known.into_iter().filter(|(_, id)| seen.insert(*id)).map(|(attempt, _)| (round, attempt)));
    let Findings { disputes, culprits, checks, refusals } = findings;
    let spoiled = checks.iter().any(|check| !check.passed);
    let refused = refusals.iter().any(|refusal| !seen.contains(&*refusal.id));
    if !disputes.is_empty() || !culprits.is_empty() || spoiled || refused {
        attempts.insert((round, attempt));
    }
    Ok(u32::try_from(attempts.len()).unwrap_or(u32::MAX))
}

async fn fail(
    app: &App,
    task: &TaskRow,
    (round, attempt): (u64, u32),
    (reason, findings): (&str, Findings),
) -> Result<Next, Failed> {
    let spent = spent(app, task).await?;
    let halt = spent.is_some() || failed_in_a_row(app, task, round).await? + 1 >= FAILURES_MAX;
    let reason = spent.map_or_else(|| reason.to_owned(), |spent| format!("{reason}; {spent}"));
    app.store.fail_round(&task.id, round, (&reason, findings), halt, app.now_millis()).await?;
    budget::settle_or_warn(app, &task.id, (round, attempt)).await;
    metrics::counter!("sordino_rounds_total", "outcome" => "failed").increment(1);
    tracing::error!(task = %task.id, round, reason, halt, "round failed; the model stays as it was");
    clean(app, &task.id, round, attempt).await;
    Ok(if halt { Next::TaskEnded } else { Next::GoOn })
}

/// Why there can be no further sum over the task's model, once sites have revealed shares in as many attempts over it as
/// they do: they would refuse, and every attempt would wait for them in vain.
async fn spent(app: &App, task: &TaskRow) -> Result<Option<String>, StoreError> {
    let revealed = app.store.reveals(&task.id, &task.model).await?;
    let model = Digest(task.model);
    Ok((revealed >= SUMS_PER_MODEL_MAX).then(|| {
        format!(
            "shares may have been revealed in {revealed} attempts over model {model}, and sites help to open no more than \
             {SUMS_PER_MODEL_MAX} sums over one model (max_sums_per_model in participant.toml): find out why attempts \
             fail that late, have the sites' owners raise that number if they agree, and make a new task from this model"
        )
    }))
}

/// Ends an attempt that nobody was told of, because its charge was refused.
async fn unpaid(app: &App, task: &TaskRow, (round, attempt): (u64, u32), refusal: &Refusal) -> Result<Next, Failed> {
    let reason = unaffordable(refusal);
    if matches!(refusal, Refusal::Aborted(_) | Refusal::Conflict(_)) {
        // Its charge was given back, or was another one: the next attempt gets its own.
        return abandon(app, task, (round, attempt), (&reason, Findings::default())).await;
    }
    app.store.fail_round(&task.id, round, (&reason, Findings::default()), true, app.now_millis()).await?;
    tracing::error!(task = %task.id, round, reason, "task halted");
    clean(app, &task.id, round, attempt).await;
    Ok(Next::TaskEnded)
}

/// Ends an attempt whose charge has paid for a Release that the database does not know: a second one would be free.
async fn forgotten(app: &App, task: &TaskRow, (round, attempt): (u64, u32)) -> Result<Next, Failed> {
    app.store.fail_round(&task.id, round, (FORGOTTEN, Findings::default()), true, app.now_millis()).await?;
    tracing::error!(task = %task.id, round, attempt, reason = FORGOTTEN, "task halted");
    clean(app, &task.id, round, attempt).await;
    Ok(Next::TaskEnded)
}

/// Why a task ends whose database was restored from before a charge.
const FORGOTTEN: &str = "the privacy ledger holds a charge for this attempt that the database knows nothing of: the database is \
     older than the ledger, and what that attempt released cannot be known here. The charge stays spent, no participant was \
     asked for anything; restore the database that belongs to the ledger, or make a new task";

/// Why a task ends whose next round is not paid for.
fn unaffordable(refusal: &Refusal) -> String {
    format!(
        "{}: no participant was asked for anything, and the model stays as it is; a larger total_epsilon would be a promise \
         broken, so go on with new data under a new privacy.data_version, or with this model as it is",
        crate::answer::chain(refusal)
    )
}

/// Ends a task between two rounds: the last one was complete, and its model is the one before.
async fn halt(app: &App, task: &TaskRow, reason: &str) -> Result<Next, Failed> {
    app.store.halt_task(&task.id, reason, app.now_millis()).await?;
    tracing::error!(task = %task.id, reason, "task halted");
    Ok(Next::TaskEnded)
}

/// Rounds right before this one that failed.
async fn failed_in_a_row(app: &App, task: &TaskRow, round: u64) -> Result<usize, StoreError> {
    let before = round.saturating_sub(1);
    let first = before.saturating_sub(FAILURES_MAX as u64);
    let rows: Vec<RoundRow> =
        app.store.rounds(&task.id, first, u32::try_from(before - first).unwrap_or(1).max(1)).await?;
    Ok(rows.iter().rev().filter(|row| row.number < round).take_while(|row| row.state == round_state::FAILED).count())
}

/// Drops what an attempt that is over has left: revealed shares and masked inputs are of no more use to anybody.
async fn clean(app: &App, task: &str, round: u64, attempt: u32) {
    if let Err(error) = app.store.forget_events(task, round, attempt).await {
        tracing::warn!(%error, task, round, attempt, "the journal of an ended attempt could not be deleted");
    }
    if let Err(error) = app.store.spool().remove_attempt(task, round, attempt).await {
        tracing::warn!(%error, task, round, attempt, "the inputs of an ended attempt could not be deleted");
    }
}

/// Groups of an attempt, at most: each costs its members some of the others among whom they hide.
const GROUPS_MAX: usize = 8;
/// Attempts that a round gets beside those that show who spoils them, because they do.
const FRUITFUL_MAX: u32 = 20;
/// Attempts that a round gets, beside those.
const ATTEMPTS_MAX: u32 = 5;
/// Failed rounds in a row after which a task halts and an operator looks.
const FAILURES_MAX: usize = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for somebody to check in before looking again all the same.
const IDLE: Duration = Duration::from_secs(60);
