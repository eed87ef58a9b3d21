//! What a world writes down of itself: the log, and the counts.

use super::{Report, World};
use crate::coordinator::Outcome;
use crate::invariants::Violation;
use sha2::{Digest as _, Sha256};
use sordino_secagg::coordinator::Abort;
use sordino_secagg::{Step, Topology};
use std::fmt::Display;

impl World {
    pub(super) fn report(mut self, violations: Vec<Violation>) -> Report {
        self.count_outcomes();
        self.count_sums();
        violations.iter().for_each(|violation| self.log.push(format!("VIOLATION {violation}")));
        let mut hasher = Sha256::new();
        for line in &self.log {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        Report {
            outcome: self.coordinator.outcome().cloned(),
            plan: self.plan,
            violations,
            tally: self.tally,
            log: self.log,
            digest: hasher.finalize().into(),
        }
    }

    pub(super) fn note(&mut self, line: impl Display) {
        self.log.push(format!("{:>7} {line}", self.now));
    }

    fn count_outcomes(&mut self) {
        for (number, outcome) in self.coordinator.outcomes() {
            let answered = self.coordinator.answered(number);
            let everybody = self.participants.len();
            let roster = answered.get(&Step::AdvertiseKeys).map_or(0, |who| who.len());
            let mut before = everybody;
            for step in Step::ALL {
                let now = answered.get(&step).map_or(0, |who| who.len());
                let silent = before.saturating_sub(now) as u64;
                if silent > 0 {
                    *self.tally.silent.entry(step).or_default() += silent;
                }
                before = now;
            }
            let n = u32::try_from(roster).unwrap_or(0);
            let topology = Topology::derive(n, &self.plan.faults);
            self.tally.sparse += u64::from(topology.is_ok_and(|topology| topology.k + 1 < n));
            match outcome {
                Outcome::Released { survivors, .. } => {
                    self.tally.completed += 1;
                    self.tally.released_with_dropouts += u64::from(survivors.len() < roster);
                }
                Outcome::Aborted(abort) => *self.tally.aborted.entry(reason(abort)).or_default() += 1,
                Outcome::Mismatched { .. } => *self.tally.aborted.entry("not what was proven").or_default() += 1,
            }
        }
    }

    fn count_sums(&mut self) {
        let Some(proofs) = &self.history.proofs else { return };
        for check in &self.history.checks {
            self.tally.sums_checked += 1;
            let proven = check.survivors.iter().filter_map(|id| proofs.good(id, check.attempt));
            let mismatches = proven.filter(|made| made.cheat.is_some()).count() as u64;
            let of = if check.opens { &mut self.tally.mismatches_cancelled } else { &mut self.tally.mismatches_caught };
            *of += mismatches;
        }
    }
}

fn reason(abort: &Abort) -> &'static str {
    match abort {
        Abort::TooFew { step, .. } => match step {
            Step::AdvertiseKeys => "too few in AdvertiseKeys",
            Step::ShareKeys => "too few in ShareKeys",
            Step::MaskedInput => "too few in MaskedInput",
            Step::ConsistencyCheck => "too few in ConsistencyCheck",
            Step::Unmasking => "too few in Unmasking",
        },
        Abort::NoTopology(_) => "no topology",
        Abort::TooFewShares { .. } => "too few shares",
        Abort::BadDealers { .. } => "bad dealers",
        Abort::Disputed { .. } => "disputed",
        Abort::TimedOut { .. } => "timed out",
        Abort::SumMismatch => "sum mismatch",
        _ => "another reason",
    }
}
