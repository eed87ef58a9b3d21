//! Entries of a privacy ledger, the coordinator's or a site's own, as people read them.

use crate::api::BudgetEntry;
use sordino_dp::ledger::{Entry, Finding, Record, Warning};

impl From<Entry> for BudgetEntry {
    fn from(Entry { number, at, record, .. }: Entry) -> Self {
        let (what, budget, charge, epsilon, detail) = match record {
            Record::Opened { scope, terms } => {
                let detail = format!("epsilon {} at delta {:e}", terms.epsilon(), terms.delta());
                ("opened", Some(scope), None, None, detail)
            }
            Record::Reserved { id, scope, participants, epsilon, .. } => {
                // A site charges itself, and names nobody.
                let count = participants.len();
                let detail = if count == 0 { String::new() } else { format!("{count} participants") };
                ("reserved", Some(scope), Some(id), Some(epsilon), detail)
            }
            Record::Committed { id, release } => {
                ("committed", None, Some(id), None, format!("release {}", hex::encode(release)))
            }
            Record::Aborted { id, evidence } => {
                let finding = match evidence.finding {
                    Finding::NothingSent => "nothing sent",
                    Finding::NothingReceived => "nothing received",
                    Finding::NeverUnmasked => "never unmasked",
                };
                ("aborted", None, Some(id), None, format!("{finding}; evidence {}", hex::encode(evidence.digest)))
            }
            Record::Warning { scope, level, epsilon } => {
                let detail = match level {
                    Warning::Percent80 => "80 % is spent",
                    Warning::Percent95 => "95 % is spent",
                };
                ("warning", Some(scope), None, Some(epsilon), detail.to_owned())
            }
            Record::Exhausted { scope, id, spent, asked } => {
                let detail = format!("refused: {spent:.4} are spent, {asked:.4} would be; nothing was charged");
                ("exhausted", Some(scope), Some(id), Some(asked), detail)
            }
            Record::Reset { scope, terms, authorisation } => {
                let (epsilon, delta) = (terms.epsilon(), terms.delta());
                let detail =
                    format!("epsilon {epsilon} at delta {delta:e}, by {}: {}", authorisation.by, authorisation.reason);
                ("reset", Some(scope), None, None, detail)
            }
            _ => ("unknown", None, None, None, String::new()),
        };
        Self {
            number,
            at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            what: what.to_owned(),
            budget: budget.map(|scope| scope.to_string()),
            charge: charge.map(|id| id.to_string()),
            epsilon,
            detail,
        }
    }
}
