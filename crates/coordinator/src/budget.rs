//! Privacy budgets: charged before anybody is asked for anything, settled when an attempt is over, shown at `/v1/budget`.
//!
//! The rules are [`sordino_dp::ledger`]'s and their files [`sordino_store::ledger`]'s. Here stands what an attempt's end
//! means for its charge: a Release commits it; an attempt that ended before Unmasking was opened gives it back, because no
//! participant reveals shares of it any more; in all other cases it stays spent.

use crate::{
    access::{Caller, Routes},
    answer::{ApiError, PageParams, Params, chain, json},
    app::App,
};
use aws_lc_rs::digest;
use axum::{extract::State, response::Response};
use http::StatusCode;
use sordino_dp::ledger::{
    Ask, Decision, Evidence, Finding, Granted, Invalid, LedgerError, LedgerKey, Name, Refusal, ReservationId, Scope,
    Status, Terms, Warning,
};
use sordino_dp::{Accountant, Budget, DpError, Events, calibrate};
use sordino_identity::{Permission, Role};
use sordino_secagg::ParticipantId;
use sordino_store::{LedgerStoreError, StoreError, TaskRow, attempt_state};
use sordino_wire::api::{BudgetEntry, BudgetStanding, BudgetState, Budgets, Page, WorstParticipant};
use sordino_wire::policy::{PolicyError, Privacy, PrivacyUnit, Schedule};
use sordino_wire::{CheckedPolicy, Code, Policy, RoundPrivacy, RoundTerms};
use std::{collections::BTreeSet, sync::Arc};
use zeroize::Zeroizing;

/// Why a round's charge is not settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// The ledger's files.
    #[error(transparent)]
    Ledger(#[from] LedgerStoreError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy has no such round.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The accountant.
    #[error(transparent)]
    Accounting(#[from] DpError),
    /// A name that no ledger takes.
    #[error(transparent)]
    Name(#[from] Invalid),
    /// The work was cut off.
    #[error("the work on a privacy budget was cut off")]
    Cut,
}

/// `GET /v1/budget`, `GET /v1/budget/history`.
pub(crate) fn routes() -> Routes {
    Routes::new().get("/v1/budget", Permission::ReadBudget, show).get(
        "/v1/budget/history",
        Permission::ReadLedger,
        history,
    )
}

/// Reads 64 hexadecimal digits.
pub(crate) fn key(text: &str) -> Option<LedgerKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *bytes).ok()?;
    LedgerKey::new(&bytes).ok()
}

/// The budget that a policy charges.
pub(crate) fn scope(privacy: &Privacy) -> Result<Scope, Invalid> {
    Ok(Scope {
        population: Name::new(privacy.population.as_str())?,
        unit: Name::new(privacy.unit.as_str())?,
        data_version: Name::new(privacy.data_version.as_str())?,
    })
}

/// Gives a new task's budget its terms, where it has none yet. Tasks over the same population share it, with the same terms;
/// who may not open budgets may create tasks under those that are there.
pub(crate) async fn open(app: &App, policy: &CheckedPolicy, caller: &Caller) -> Result<(), ApiError> {
    let privacy = &policy.policy().privacy;
    if !privacy.enabled {
        return Ok(());
    }
    if let Err(error) = delta_fits(app, policy).await? {
        return Err(ApiError::new(Code::PolicyRefused, error.to_string()));
    }
    let refused = |error: Invalid| ApiError::new(Code::PolicyRefused, error.to_string());
    let scope = scope(privacy).map_err(refused)?;
    let known = app.ledger.spending(&scope).await?.is_some();
    if !known && !caller.principal.role.may(Permission::OpenBudget) {
        let detail = format!(
            "there is no privacy budget {scope} yet, and only an admin may open one: use the population and data version of \
             an existing budget (sordino budget show), or have an admin create the first task of it"
        );
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let terms = Terms::new(privacy.total_epsilon, privacy.delta, None).map_err(refused)?;
    match app.ledger.open_scope(scope.clone(), terms, app.now()).await {
        Err(LedgerStoreError::Refused(why)) => {
            let spending = app.ledger.spending(&scope).await?;
            let told = spending.map_or_else(String::new, |spending| {
                format!(
                    " (privacy.total_epsilon = {}, privacy.delta = {})",
                    spending.terms.epsilon(),
                    spending.terms.delta()
                )
            });
            let detail = format!("{why}{told}; tasks over the same data share one budget and its terms");
            Err(ApiError::new(Code::PolicyRefused, detail))
        }
        other => Ok(other?),
    }
}

/// Whether the delta of a policy that protects participants is at most 1 over the number of those who are enrolled: a larger
/// one would allow one of them to be shown whole. A policy alone is only held against its cohort; how many there are to draw
/// it from, the coordinator knows. Records are counted at their sites, which hold their own delta against them.
pub(crate) async fn delta_fits(app: &App, policy: &CheckedPolicy) -> Result<Result<(), PolicyError>, StoreError> {
    let privacy = &policy.policy().privacy;
    if !privacy.enabled || privacy.unit != PrivacyUnit::Participant {
        return Ok(Ok(()));
    }
    let population = app.store.principals_in_role(Role::Client.as_str()).await?;
    if privacy.delta * population as f64 <= 1.0 {
        return Ok(Ok(()));
    }
    Ok(Err(PolicyError::DeltaAbovePopulation { delta: privacy.delta, population, unit: "enrolled participants" }))
}

/// The noise multiplier of the next round, where there is noise: the policy's, or what its schedule makes of what is left.
pub(crate) async fn multiplier(
    app: &App,
    policy: &CheckedPolicy,
    model_len: usize,
    round: u64,
) -> Result<Option<f64>, BudgetError> {
    let privacy = &policy.policy().privacy;
    let cohort = policy.policy().cohort.target;
    let planned = policy.terms(cohort).noise_multiplier;
    if !privacy.enabled {
        return Ok(None);
    }
    if privacy.schedule == Schedule::Fixed {
        return Ok(Some(planned));
    }
    let charges = app.ledger.charges(&scope(privacy)?).await?;
    let (policy, left) = (policy.clone(), policy.policy().task.rounds.saturating_sub(round).saturating_add(1));
    let work = move || -> Result<f64, BudgetError> {
        let privacy = &policy.policy().privacy;
        let mut before = Accountant::new(privacy.delta)?;
        for (_, bytes) in charges {
            for event in Events::from_bytes(&bytes)?.iter() {
                before.add(event)?;
            }
        }
        let budget = Budget::new(privacy.total_epsilon * (1.0 - PLAN_SLACK), privacy.delta)?;
        // Beyond it the search would end before it has looked at less.
        let most = policy.largest_multiplier(model_len)?;
        let found = calibrate::multiplier_after(&before, budget, |noise_multiplier| {
            let noise_multiplier = noise_multiplier.min(most);
            let round = policy.round_privacy(model_len, &RoundTerms { cohort, noise_multiplier });
            let round = round.ok().flatten().ok_or(DpError::NoTheorem("the policy has no round with this noise"))?;
            round.events().times(left)
        });
        // Where nothing fits, the ledger says so, with numbers.
        let needed = found.map_or(planned, |found| (found.sigma * MULTIPLIER_GRID).ceil() / MULTIPLIER_GRID);
        Ok(needed.clamp(planned, MULTIPLIER_MAX))
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| BudgetError::Cut)?.map(Some)
}

/// Whether the next round of a planned cohort can be paid for: asked before anybody is waited for.
pub(crate) async fn affords(
    app: &App,
    policy: &CheckedPolicy,
    model_len: usize,
    noise_multiplier: Option<f64>,
) -> Result<Result<(), Refusal>, BudgetError> {
    let Some(noise_multiplier) = noise_multiplier else { return Ok(Ok(())) };
    let terms = RoundTerms { cohort: policy.policy().cohort.target, noise_multiplier };
    let Some(round) = policy.round_privacy(model_len, &terms)? else { return Ok(Ok(())) };
    let scope = scope(&policy.policy().privacy)?;
    Ok(app.ledger.preview(&scope, round.events().clone()).await?.map(|_| ()))
}

/// Whether there is a charge for an attempt already. There is none for one that has not begun, unless the database was
/// restored from before it.
pub(crate) async fn is_charged(
    app: &App,
    task: &TaskRow,
    policy: &CheckedPolicy,
    at: (u64, u32),
) -> Result<bool, BudgetError> {
    Ok(policy.policy().privacy.enabled && app.ledger.status(&reservation(&task.id, at)?).await?.is_some())
}

/// Charges an attempt, durably, once. Nobody may be told of the attempt before this has granted it.
pub(crate) async fn reserve(
    app: &App,
    task: &TaskRow,
    policy: &CheckedPolicy,
    at: (u64, u32),
    (privacy, cohort): (&RoundPrivacy, &BTreeSet<ParticipantId>),
) -> Result<Decision, BudgetError> {
    let participants = cohort.iter().map(|id| Name::new(id.as_str())).collect::<Result<_, _>>()?;
    let scope = scope(&policy.policy().privacy)?;
    let ask =
        Ask { id: reservation(&task.id, at)?, scope: scope.clone(), event: privacy.events().clone(), participants };
    let decision = app.ledger.reserve(ask, app.now()).await?;
    if let Ok(granted) = &decision {
        warn(task, granted);
    }
    tell(app, &scope).await?;
    Ok(decision)
}

/// What the end of an attempt means for its charge. For any attempt, at any time, any number of times.
pub(crate) async fn settle(app: &App, task: &str, at: (u64, u32)) -> Result<(), BudgetError> {
    let id = reservation(task, at)?;
    if app.ledger.status(&id).await? != Some(Status::Open) {
        return Ok(());
    }
    let (round, number) = at;
    // Without its record nobody can say what became of it.
    let Some(attempt) = app.store.attempt(task, round, number).await? else { return Ok(()) };
    match attempt.state.as_str() {
        attempt_state::COMPLETE => {
            let row = app.store.round(task, round).await?;
            let Some(release) = row.and_then(|row| row.release_json) else { return Ok(()) };
            app.ledger.commit(id, sha256(&[release.as_bytes()]), app.now()).await?;
        }
        attempt_state::ABANDONED if !attempt.reveals => {
            // What the attempt was told, as long as it is there, and how it ended.
            let events = app.store.events(task, round, number).await?;
            let mut record = format!("{id}\n{:?}\n{:?}\n", attempt.reason, attempt.ended_at).into_bytes();
            for event in events {
                record.extend_from_slice(&event.kind.to_be_bytes());
                record.extend_from_slice(&event.body);
            }
            let evidence = Evidence { finding: Finding::NeverUnmasked, digest: sha256(&[&record]) };
            app.ledger.abort(id, evidence, app.now()).await?;
            let task = app.store.task(task).await?;
            if let Some(scope) = task.as_ref().map(scope_of).transpose()?.flatten() {
                tell(app, &scope).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The same, where nothing depends on it being done now: it is tried again when the service starts.
pub(crate) async fn settle_or_warn(app: &App, task: &str, at: (u64, u32)) {
    if let Err(error) = settle(app, task, at).await {
        let error = chain(&error);
        tracing::warn!(
            task,
            round = at.0,
            attempt = at.1,
            error,
            "a privacy charge is not settled yet and stays spent"
        );
    }
}

/// Settles what a coordinator that was killed has left open.
pub(crate) async fn reconcile(app: &App) -> Result<(), BudgetError> {
    for (id, _) in app.ledger.open_reservations().await? {
        settle(app, id.task.as_str(), (id.round, id.attempt)).await?;
    }
    for scope in app.ledger.scopes().await? {
        tell(app, &scope).await?;
    }
    Ok(())
}

/// Sets the gauges of every active task of a budget to what is spent of it now: they share it.
async fn tell(app: &App, scope: &Scope) -> Result<(), BudgetError> {
    let Some(spending) = app.ledger.spending(scope).await? else { return Ok(()) };
    for task in app.store.active_tasks().await? {
        if scope_of(&task)?.as_ref() == Some(scope) {
            let labels = [("task", task.id), ("name", task.name)];
            metrics::gauge!("sordino_dp_epsilon_spent", &labels).set(spending.spent);
            metrics::gauge!("sordino_dp_epsilon_total", &labels).set(spending.terms.epsilon());
        }
    }
    Ok(())
}

/// Epsilon of one round by itself, at the budget's delta.
pub(crate) fn alone(events: &Events, delta: f64) -> Result<f64, DpError> {
    Ok(Accountant::new(delta)?.with_all(events)?.epsilon)
}

fn reservation(task: &str, (round, attempt): (u64, u32)) -> Result<ReservationId, Invalid> {
    Ok(ReservationId { task: Name::new(task)?, round, attempt })
}

/// The budget that a task is charged to; none where it has privacy switched off.
fn scope_of(task: &TaskRow) -> Result<Option<Scope>, Invalid> {
    let policy = serde_json::from_str::<Policy>(&task.policy_json).ok();
    policy.filter(|policy| policy.privacy.enabled).map(|policy| scope(&policy.privacy)).transpose()
}

/// A line in the log at each new warning.
fn warn(task: &TaskRow, granted: &Granted) {
    let (spent, total, delta) = (granted.spent, granted.total, granted.delta);
    match granted.warning {
        Some(Warning::Percent95) => {
            tracing::error!(task = %task.id, spent, total, delta, "95 % of the privacy budget is spent");
        }
        Some(Warning::Percent80) => {
            tracing::warn!(task = %task.id, spent, total, delta, "80 % of the privacy budget is spent");
        }
        None => {}
    }
}

/// All budgets; to a participant those that it was charged in, with its own account and nobody else's.
async fn show(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, ApiError> {
    let own = match caller.principal.role {
        Role::Client => Some(Name::new(caller.principal.id.to_string()).map_err(ApiError::internal)?),
        Role::Coordinator | Role::Admin | Role::Auditor => None,
    };
    let mut budgets = Vec::new();
    for scope in app.ledger.scopes().await? {
        let Some(spending) = app.ledger.spending(&scope).await? else { continue };
        let worst = match &own {
            None => app.ledger.worst_participant(&scope).await?,
            Some(me) => match app.ledger.spent_by(&scope, me).await? {
                Some(spent) if spent > 0.0 => Some((me.clone(), spent)),
                _ => continue,
            },
        };
        let worst_participant = worst
            .map(|(name, epsilon)| {
                let id = name.as_str().parse().map_err(ApiError::internal)?;
                Ok::<_, ApiError>(WorstParticipant { id, epsilon, by_own_word: false })
            })
            .transpose()?;
        let state = match (spending.exhausted, spending.warning) {
            (true, _) => BudgetState::Exhausted,
            (false, Some(Warning::Percent95)) => BudgetState::Warning95,
            (false, Some(Warning::Percent80)) => BudgetState::Warning80,
            (false, None) => BudgetState::Ok,
        };
        budgets.push(BudgetStanding {
            population: scope.population.to_string(),
            unit: scope.unit.to_string(),
            data_version: scope.data_version.to_string(),
            total_epsilon: spending.terms.epsilon(),
            delta: spending.terms.delta(),
            spent: spending.spent,
            remaining: spending.remaining,
            state,
            committed: spending.committed,
            open: spending.open as u64,
            worst_participant,
        });
    }
    Ok(json(StatusCode::OK, &Budgets { budgets }))
}

/// Entries of the ledger in order.
async fn history(State(app): State<Arc<App>>, Params(page): Params<PageParams>) -> Result<Response, ApiError> {
    let from = match page.cursor() {
        None => 0,
        Some(cursor) => cursor
            .parse::<u64>()
            .ok()
            .and_then(|last| last.checked_add(1))
            .ok_or_else(|| ApiError::new(Code::Malformed, "cursor: take it from `next`"))?,
    };
    let entries = app.ledger.entries(from, page.fetch()? as usize).await?;
    let Page { items, next } = page.page(entries, |entry| entry.number.to_string(), BudgetEntry::from);
    Ok(json(StatusCode::OK, &Page { items, next }))
}

impl From<LedgerStoreError> for ApiError {
    fn from(error: LedgerStoreError) -> Self {
        match error {
            LedgerStoreError::Full { .. } => {
                Self::new(Code::StorageFull, "the disk of the privacy ledger is full; nothing was changed, retry later")
                    .because(error)
            }
            LedgerStoreError::Closed => Self::new(Code::Unavailable, "the coordinator is stopping; try again"),
            LedgerStoreError::Refused(why) => Self::new(Code::Conflict, refusal(&why)),
            other => Self::internal(other),
        }
    }
}

fn refusal(why: &LedgerError) -> String {
    chain(why)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Relative: what sums of discrete Gaussians cost above the plan is far less.
const PLAN_SLACK: f64 = 1e-6;
/// Multipliers are decimal numbers with four digits behind the point, so that JSON carries them exactly.
const MULTIPLIER_GRID: f64 = 1e4;
const MULTIPLIER_MAX: f64 = 10_000.0;
