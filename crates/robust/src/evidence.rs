//! What single rounds cannot show: who points the other way again and again.
//!
//! One round's cosine hardly tells an inverted client from a peculiar honest one. Over five rounds it does, where data are not
//! too uneven (Dirichlet 0.5: 90 to 100 % of attackers found, no honest client); at 0.1 it does not. The signal fades as training
//! converges, so that a quarantine lasts until somebody ends it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detector::NORMAL;
use crate::numbers::{mad, median};

/// Standing of all clients that have taken part, by id.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    clients: BTreeMap<String, Standing>,
}

/// One client's record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Exponentially weighted mean of its cosines, 0.7 old and 0.3 new; none before the first.
    pub ewma: Option<f64>,
    /// Whether it was flagged, in its last rounds; the newest last, at most [`WINDOW`].
    pub recent: Vec<bool>,
    /// Rounds it took part in.
    pub rounds: u64,
    /// Rounds in which it was flagged.
    pub flagged: u64,
    /// Why it is kept out, if it is.
    pub quarantine: Option<Quarantine>,
}

/// Why somebody is kept out of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Quarantine {
    /// Its mean cosine is negative and far below the others'.
    Direction {
        /// What it was.
        ewma: f64,
        /// What it was compared with.
        threshold: f64,
    },
    /// Flagged too often.
    Flags {
        /// Of its last [`WINDOW`] rounds.
        rounds: usize,
    },
    /// Somebody decided so.
    Operator,
}

/// What a round showed of one client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'a> {
    /// Who.
    pub client: &'a str,
    /// Its cosine, if it was measured.
    pub cosine: Option<f64>,
    /// Whether any test flagged it.
    pub flagged: bool,
}

impl Evidence {
    /// Takes in one round, and returns who is quarantined from now on and was not before, by rising id.
    ///
    /// Only clients of this round are judged, against one another; fewer than three cosines are not judged by direction. Rounds
    /// that were aborted count as well: what was seen was seen.
    pub fn observe<'a>(&mut self, round: impl IntoIterator<Item = Observation<'a>>) -> Vec<(String, Quarantine)> {
        let mut here = Vec::new();
        for Observation { client, cosine, flagged } in round {
            let standing = self.clients.entry(client.to_owned()).or_default();
            if let Some(cosine) = cosine.filter(|cosine| cosine.is_finite()) {
                standing.ewma = Some(standing.ewma.map_or(cosine, |ewma| KEEP * ewma + (1.0 - KEEP) * cosine));
            }
            standing.recent.push(flagged);
            let surplus = standing.recent.len().saturating_sub(WINDOW);
            standing.recent.drain(..surplus);
            standing.rounds += 1;
            standing.flagged += u64::from(flagged);
            here.push(client);
        }
        here.sort_unstable();
        here.dedup();
        let means: Vec<f64> = here.iter().filter_map(|client| self.clients.get(*client)?.ewma).collect();
        let middle = median(&means);
        let threshold = middle - MULTIPLIER * (NORMAL * mad(&means, middle)).max(FLOOR);
        let judged = means.len() >= 3;
        let mut new = Vec::new();
        for client in here {
            let Some(standing) = self.clients.get_mut(client).filter(|standing| standing.quarantine.is_none()) else {
                continue;
            };
            let rounds = standing.recent.iter().filter(|flagged| **flagged).count();
            let why = match standing.ewma {
                Some(ewma) if judged && ewma < 0.0 && ewma < threshold => Quarantine::Direction { ewma, threshold },
                _ if rounds >= FLAGS_MAX => Quarantine::Flags { rounds },
                _ => continue,
            };
            standing.quarantine = Some(why);
            new.push((client.to_owned(), why));
        }
        new
    }

    /// Keeps somebody out by decision.
    pub fn quarantine(&mut self, client: &str) {
        self.clients.entry(client.to_owned()).or_default().quarantine = Some(Quarantine::Operator);
    }

    /// Lets somebody in again, with a clean record; says whether it was kept out.
    pub fn release(&mut self, client: &str) -> bool {
        let Some(standing) = self.clients.get_mut(client) else { return false };
        let was = standing.quarantine.take().is_some();
        if was {
            standing.ewma = None;
            standing.recent.clear();
        }
        was
    }

    /// Whether somebody is kept out.
    #[must_use]
    pub fn is_quarantined(&self, client: &str) -> bool {
        self.standing(client).is_some_and(|standing| standing.quarantine.is_some())
    }

    /// One client's record.
    #[must_use]
    pub fn standing(&self, client: &str) -> Option<&Standing> {
        self.clients.get(client)
    }

    /// All records, by rising id.
    pub fn standings(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.clients.iter().map(|(client, standing)| (client.as_str(), standing))
    }
}

/// How much of the old mean a round keeps.
const KEEP: f64 = 0.7;
const MULTIPLIER: f64 = 3.0;
/// The least deviation of means.
const FLOOR: f64 = 0.05;
/// Rounds that are remembered for flags.
pub const WINDOW: usize = 5;
/// Flags within the window that quarantine; a rule of thumb.
pub const FLAGS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn round<'a>(cosines: &[(&'a str, f64, bool)]) -> Vec<Observation<'a>> {
        let one = |&(client, cosine, flagged)| Observation { client, cosine: Some(cosine), flagged };
        cosines.iter().map(one).collect()
    }

    #[test]
    fn who_points_the_other_way_is_quarantined_and_stays_so() {
        let mut evidence = Evidence::default();
        let honest = [("a", 0.5, false), ("b", 0.45, false), ("c", 0.55, false), ("d", 0.5, false)];
        let with = |cosine| round(&[&honest[..], &[("x", cosine, false)]].concat());
        // One bad round after a good one is not enough: 0.7 * 0.4 - 0.3 * 0.4 > 0.
        assert!(evidence.observe(with(0.4)).is_empty());
        assert!(evidence.observe(with(-0.4)).is_empty());
        let found = evidence.observe(with(-0.9));
        assert!(matches!(&found[..], [(client, Quarantine::Direction { ewma, .. })] if client == "x" && *ewma < 0.0));
        // The signal fades, the quarantine does not.
        assert!(evidence.observe(with(0.9)).is_empty());
        assert!(evidence.is_quarantined("x") && !evidence.is_quarantined("a"));
        let kept = serde_json::to_string(&evidence).expect("it is data");
        assert_eq!(serde_json::from_str::<Evidence>(&kept).expect("it was written"), evidence);
        assert!(evidence.release("x") && !evidence.release("x") && !evidence.is_quarantined("x"));
    }

    #[test]
    fn three_flags_in_five_rounds_quarantine() {
        let mut evidence = Evidence::default();
        let mut flag = |flagged| evidence.observe([Observation { client: "x", cosine: None, flagged }]);
        for flagged in [true, true, false, false, false, true] {
            assert!(flag(flagged).is_empty(), "the first two are forgotten by the sixth");
        }
        assert!(flag(true).is_empty());
        assert_eq!(flag(true), [("x".to_owned(), Quarantine::Flags { rounds: 3 })]);
    }

    #[test]
    fn two_clients_do_not_judge_each_other() {
        let mut evidence = Evidence::default();
        assert!(evidence.observe(round(&[("a", 0.9, false), ("b", -0.9, false)])).is_empty());
    }
}
