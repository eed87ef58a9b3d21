//! `sordino budget`

use crate::{
    failure::Failure,
    output::{Output, date, table},
    policy,
    remote::{Remote, all},
};
use sordino_dp::ledger::{Invalid, Name};
use sordino_dp::{Accountant, Budget as Total, calibrate};
use sordino_participant::{SiteAccount, SiteStanding, reset_site_budget, site_history, site_standing};
use sordino_wire::api::{BudgetEntry, BudgetStanding, BudgetState, Budgets};
use sordino_wire::policy::PrivacyUnit;
use std::path::PathBuf;

/// See what privacy was spent, and plan what will be.
#[derive(clap::Subcommand)]
pub(crate) enum Budget {
    Show(Show),
    Plan(Plan),
    History(History),
    Reset(Reset),
}

/// Show every budget of a federation; as a participant, one's own account in each; with --site, what a site's own ledger
/// has counted.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sordino budget show --as fed/admin --server https://localhost:8443
  sordino budget show --site site-a

A budget belongs to a population, a unit and a data version, whatever tasks use it. --site reads the ledger in a site's
folder, which is locked while `sordino train` runs in it.")]
pub(crate) struct Show {
    /// A site's folder: its own ledger instead of the coordinator's.
    #[arg(long, value_name = "DIR", conflicts_with = "folder", required_unless_present = "folder")]
    site: Option<PathBuf>,
    #[command(flatten)]
    remote: Option<Remote>,
}

/// Show how epsilon grows with the rounds of a policy, and how many rounds its budget covers.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino budget plan policy.toml --model-len 2410

Nothing is asked of a coordinator: what other tasks have spent of the same budget is not in it.")]
pub(crate) struct Plan {
    /// The policy, TOML.
    file: PathBuf,
    /// Values in the model.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    model_len: u64,
}

/// Show the ledger of a federation, entry by entry; with --site, a site's own.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sordino budget history --as fed/auditor --server https://localhost:8443
  sordino budget history --site site-a")]
pub(crate) struct History {
    /// A site's folder: its own ledger instead of the coordinator's.
    #[arg(long, value_name = "DIR", conflicts_with = "folder", required_unless_present = "folder")]
    site: Option<PathBuf>,
    #[command(flatten)]
    remote: Option<Remote>,
}

/// Let the limits in a site's participant.toml hold from now on, after max_epsilon or delta were changed in it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino budget reset --site site-a --reason \"the board allows epsilon 12, 2026-11-30\"

Nothing that was spent is forgotten: a limit below it means that no further round is paid for. \
A fresh start is what a new data_version in participant.toml is for: new records of new people, \
never new rows of the same. Who ordered it and why stays in the ledger (sordino budget history \
--site DIR), which must not be in use by `sordino train`.")]
pub(crate) struct Reset {
    /// The site's folder.
    #[arg(long, value_name = "DIR")]
    site: PathBuf,
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT", value_parser = name)]
    reason: Name,
    /// By whose order; the user that runs this if left out.
    #[arg(long, value_name = "NAME", value_parser = name)]
    by: Option<Name>,
}

fn name(text: &str) -> Result<Name, Invalid> {
    Name::new(text)
}

/// Who runs this: what the environment calls them, and the number that the system knows them by.
fn user() -> Name {
    let named =
        ["USER", "LOGNAME"].into_iter().find_map(|key| std::env::var(key).ok().and_then(|name| Name::new(name).ok()));
    let number = format!("uid {}", rustix::process::getuid().as_raw());
    let both = named.and_then(|name| Name::new(format!("{name} ({number})")).ok());
    both.unwrap_or_else(|| Name::new(number).expect("a short name of plain characters"))
}

#[derive(serde::Serialize)]
struct Planned {
    unit: &'static str,
    noise_multiplier: f64,
    delta: f64,
    total_epsilon: f64,
    rounds: u64,
    /// Rounds that the budget covers, if nothing else is charged to it.
    rounds_covered: u64,
    epsilon_of_all_rounds: f64,
    /// Rounds and what they cost together.
    curve: Vec<(u64, f64)>,
    advice: Vec<String>,
}

impl Budget {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Show(Show { site: Some(folder), .. }) => {
                output.result(&site_standing(&folder).map_err(Box::new)?, site)
            }
            Self::Show(Show { remote: Some(remote), .. }) => {
                let budgets: Budgets = remote.client()?.get("/v1/budget").await?;
                output.result(&budgets, |budgets| {
                    let header =
                        ["BUDGET", "EPSILON", "OF", "LEFT", "DELTA", "STATE", "RELEASES", "OPEN", "MOST SPENT BY"];
                    table(header, budgets.budgets.iter().map(row))
                })
            }
            // clap asks for one of the two.
            Self::Show(_) => Ok(()),
            Self::Plan(plan) => plan.run(output),
            Self::History(History { site: Some(folder), .. }) => {
                output.result(&site_history(&folder).map_err(Box::new)?, |entries| history(entries))
            }
            Self::History(History { remote: Some(remote), .. }) => {
                let entries: Vec<BudgetEntry> = all(&remote.client()?, "/v1/budget/history").await?;
                output.result(&entries, |entries| history(entries))
            }
            Self::History(_) => Ok(()),
            Self::Reset(Reset { site: folder, reason, by }) => {
                let by = by.unwrap_or_else(user);
                output.result(&reset_site_budget(&folder, by, reason).map_err(Box::new)?, site)
            }
        }
    }
}

fn row(budget: &BudgetStanding) -> [String; 9] {
    let worst = budget.worst_participant.as_ref();
    [
        format!("{}/{}/{}", budget.population, budget.unit, budget.data_version),
        up(budget.spent),
        budget.total_epsilon.to_string(),
        down(budget.remaining),
        format!("{:e}", budget.delta),
        state(budget.state).to_owned(),
        budget.committed.to_string(),
        budget.open.to_string(),
        worst.map_or_else(|| "-".into(), |worst| format!("{} ({})", worst.id, up(worst.epsilon))),
    ]
}

fn state(state: BudgetState) -> &'static str {
    match state {
        BudgetState::Ok => "ok",
        BudgetState::Warning80 => "80 % spent",
        BudgetState::Warning95 => "95 % spent",
        BudgetState::Exhausted => "exhausted",
    }
}

fn history(entries: &[BudgetEntry]) -> String {
    let header = ["ENTRY", "AT", "WHAT", "BUDGET", "CHARGE", "EPSILON", "DETAIL"];
    table(header, entries.iter().map(entry))
}

fn entry(entry: &BudgetEntry) -> [String; 7] {
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".into());
    [
        entry.number.to_string(),
        date(entry.at),
        entry.what.clone(),
        or_dash(entry.budget.as_ref()),
        or_dash(entry.charge.as_ref()),
        entry.epsilon.map_or_else(|| "-".into(), up),
        entry.detail.clone(),
    ]
}

fn site(standing: &SiteStanding) -> String {
    let SiteStanding { data_version, total, delta, record, participant } = standing;
    let row = |unit: PrivacyUnit, account: &SiteAccount| {
        let [spent, charges] = [up(account.spent), account.charges.to_string()];
        [unit.as_str().to_owned(), data_version.clone(), spent, total.to_string(), format!("{delta:e}"), charges]
    };
    let rows = [row(PrivacyUnit::Record, record), row(PrivacyUnit::Participant, participant)];
    table(["UNIT", "DATA VERSION", "EPSILON", "OF", "DELTA", "CHARGES"], rows)
}

impl Plan {
    fn run(self, output: Output) -> Result<(), Failure> {
        let (_, policy) = policy::load(&self.file)?;
        let refused = |source| Failure::Policy { path: self.file.clone(), source };
        let model_len = usize::try_from(self.model_len).unwrap_or(usize::MAX);
        let (privacy, rounds) = (policy.policy().privacy.clone(), policy.policy().task.rounds);
        let terms = policy.terms(policy.policy().cohort.target);
        let round = policy.round_privacy(model_len, &terms).map_err(refused)?;
        let Some(round) = round else { return Err(Failure::NoPrivacy { path: self.file }) };
        let accounted = |error: sordino_dp::DpError| refused(error.into());
        let empty = Accountant::new(privacy.delta).map_err(accounted)?;
        let cost = |rounds: u64| -> Result<f64, Failure> {
            let events = round.events().times(rounds).map_err(accounted)?;
            Ok(empty.with_all(&events).map_err(accounted)?.epsilon)
        };
        let total = Total::new(privacy.total_epsilon, privacy.delta).map_err(accounted)?;
        let rounds_covered = calibrate::rounds(&empty, round.events(), total).map_err(accounted)?;
        let marks = (1..=CHART_ROWS).map(|mark| (rounds * mark).div_ceil(CHART_ROWS)).filter(|mark| *mark > 0);
        let mut curve = Vec::new();
        for mark in marks {
            if curve.last().is_none_or(|(last, _)| *last < mark) {
                curve.push((mark, cost(mark)?));
            }
        }
        let outlook = policy.outlook(model_len).map_err(refused)?;
        let planned = Planned {
            unit: privacy.unit.as_str(),
            noise_multiplier: terms.noise_multiplier,
            delta: privacy.delta,
            total_epsilon: privacy.total_epsilon,
            rounds,
            rounds_covered,
            epsilon_of_all_rounds: cost(rounds)?,
            curve,
            advice: outlook.map(|outlook| outlook.advice).unwrap_or_default(),
        };
        output.result(&planned, chart)
    }
}

/// Epsilon against rounds, a line each; `|` is the budget.
fn chart(plan: &Planned) -> String {
    let Planned { unit, noise_multiplier, delta, total_epsilon, rounds, rounds_covered, .. } = plan;
    let most = plan.curve.iter().map(|(_, epsilon)| *epsilon).filter(|epsilon| epsilon.is_finite());
    let most = most.fold(*total_epsilon, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the width of a terminal")]
    let column = |epsilon: f64| ((epsilon / most).min(1.0) * CHART_WIDTH).round() as usize;
    let mut out = format!(
        "unit {unit}, noise multiplier {noise_multiplier}, delta {delta:e}\n\nrounds    epsilon  0 {:>width$}\n",
        format!("{most:.2}"),
        width = column(most)
    );
    for (mark, epsilon) in &plan.curve {
        let mut bar: Vec<char> = vec![' '; column(most) + 1];
        bar[..column(*epsilon)].fill('#');
        bar[column(*total_epsilon)] = '|';
        let bar: String = bar.into_iter().collect();
        out.push_str(&format!("{mark:>6} {:>10}  {}\n", up(*epsilon), bar.trim_end()));
    }
    let verdict = if rounds_covered >= rounds {
        format!("all {rounds} rounds fit: they come to epsilon {} of {total_epsilon}", up(plan.epsilon_of_all_rounds))
    } else {
        format!("the budget of epsilon {total_epsilon} covers {rounds_covered} of {rounds} rounds; then the task halts")
    };
    out.push_str(&format!("\n{verdict}\n"));
    plan.advice.iter().for_each(|advice| out.push_str(&format!("advice: {advice}\n")));
    out
}

/// Four digits behind the point, never less than it is.
pub(crate) fn up(epsilon: f64) -> String {
    format!("{:.4}", (epsilon * 1e4).ceil() / 1e4)
}

/// The same, never more.
fn down(epsilon: f64) -> String {
    format!("{:.4}", (epsilon * 1e4).floor() / 1e4)
}

const CHART_ROWS: u64 = 16;
const CHART_WIDTH: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_on_the_safe_side() {
        assert_eq!((up(1.000_01), down(1.000_09)), ("1.0001".to_owned(), "1.0000".to_owned()));
        assert_eq!(up(0.0), "0.0000");
    }
}
