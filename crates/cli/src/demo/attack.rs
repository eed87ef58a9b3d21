//! Sites that cheat in a run: who they are, and what the Releases show of them.

use super::{scene::Room, site_id};
use crate::failure::{DemoError, Failure};
use serde::Serialize;
use sordino_identity::PrincipalId;
use sordino_participant::attack::Attack;
use sordino_wire::api::{GroupCheck, Release, Round, Task};
use std::collections::{BTreeMap, BTreeSet};

/// What every input has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Proof {
    /// Nothing: the norm of an input is what its site says it is.
    None,
    /// That it is within the clip norm.
    Transparent,
}

impl Proof {
    /// As a policy has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Transparent => "transparent",
        }
    }
}

/// Who cheats in every round of a run, and how.
#[derive(Debug, Clone)]
pub(super) struct Attackers {
    attack: Attack,
    proof: Proof,
    participants: u32,
    numbers: BTreeSet<u32>,
}

impl Attackers {
    /// The fifth of the sites that has the most rows, and with them the most weight in a sum.
    ///
    /// Of those who send another input than they have committed to one or two: they spoil a group's sum each, and groups are
    /// made of no fewer sites than can hide them all. With one group more than that, every round has a Release.
    ///
    /// - `rows`: of each site, by its number.
    ///
    /// # Errors
    /// [`DemoError`]: there is nothing to attack, or there are too few sites.
    pub(super) fn choose(attack: Attack, proof: Proof, rows: &[usize]) -> Result<Self, DemoError> {
        if proof == Proof::None && attack.is_on_proofs() {
            return Err(DemoError::NothingToAttack { attack });
        }
        let participants = u32::try_from(rows.len()).map_err(|_| DemoError::Cut)?;
        let (count, fewest) = match in_groups(attack, proof) {
            true if participants >= GROUPED_TWO => (2, GROUPED_ONE),
            true => (1, GROUPED_ONE),
            false => (participants / FIFTH, FIFTH),
        };
        if participants < fewest {
            return Err(DemoError::TooFewSites { attack, participants, fewest });
        }
        let mut sites: Vec<(&usize, u32)> = rows.iter().zip(0..).collect();
        sites.sort_unstable_by(|one, other| other.cmp(one));
        let numbers = sites.into_iter().take(count as usize).map(|(_, number)| number).collect();
        Ok(Self { attack, proof, participants, numbers })
    }

    /// Sites of a run, where nobody says how many.
    pub(super) fn participants(attack: Attack, proof: Proof) -> u32 {
        if in_groups(attack, proof) { GROUPED_TWO } else { super::PARTICIPANTS }
    }

    pub(super) fn attack(&self) -> Attack {
        self.attack
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap_or(u32::MAX)
    }

    /// What a site does, if it is one of them.
    pub(super) fn of_site(&self, number: u32) -> Option<Attack> {
        self.numbers.contains(&number).then_some(self.attack)
    }

    fn ids(&self) -> Result<BTreeSet<PrincipalId>, Failure> {
        self.numbers.iter().map(|number| site_id(*number)).collect()
    }

    /// Room for a round without them.
    pub(super) fn room(&self) -> Room {
        let cheats = self.count();
        // Nobody vanishes: whoever is late is slow.
        let patient = Room {
            min: self.participants,
            max_dropout_fraction: 0.0,
            max_corrupt_fraction: 0.0,
            gather: 10.0,
            step_timeout: 20.0,
            step_grace: 5.0,
        };
        if in_groups(self.attack, self.proof) {
            // Of these so many as cheat may be corrupt. Whoever was found guilty is not waited for.
            let min = if cheats > 1 { GROUPED_TWO / 3 } else { GROUPED_ONE / 2 };
            return Room { min, max_dropout_fraction: 0.0, max_corrupt_fraction: 0.3, gather: 2.0, ..patient };
        }
        Room {
            min: self.participants - cheats,
            max_dropout_fraction: f64::from(cheats) / f64::from(self.participants),
            max_corrupt_fraction: 0.2,
            ..patient
        }
    }
}

/// Whether those who cheat are found by groups only.
fn in_groups(attack: Attack, proof: Proof) -> bool {
    attack == Attack::Mismatch && proof == Proof::Transparent
}

/// What a round has shown of those who cheat.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// Whose inputs were refused because of their proofs, and why.
    refused: BTreeMap<PrincipalId, String>,
    /// Groups whose sums were not those of what their members had proven.
    failed_checks: Vec<GroupCheck>,
    /// Who was found guilty until then.
    left_out: BTreeSet<PrincipalId>,
    /// Attackers whose inputs are in the Release.
    attackers_in_sum: BTreeSet<PrincipalId>,
}

impl Shown {
    pub(super) fn new(attackers: &Attackers, round: &Round, release: &Release, task: &Task) -> Result<Self, Failure> {
        let survivors: BTreeSet<_> = release.survivors.iter().cloned().collect();
        Ok(Self {
            refused: release.refused.clone(),
            failed_checks: round.checks.iter().filter(|check| !check.passed).cloned().collect(),
            left_out: task.left_out.keys().cloned().collect(),
            attackers_in_sum: attackers.ids()?.intersection(&survivors).cloned().collect(),
        })
    }

    /// In words. `known`: who had been found guilty before the round.
    fn text(&self, known: &BTreeSet<PrincipalId>) -> String {
        let mut parts = Vec::new();
        let mut by_reason: BTreeMap<&str, Vec<&PrincipalId>> = BTreeMap::new();
        for (id, why) in &self.refused {
            by_reason.entry(why).or_default().push(id);
        }
        parts.extend(by_reason.into_iter().map(|(why, ids)| format!("refused {}: {why}", words(ids))));
        let dropped = self.failed_checks.iter().map(|GroupCheck { attempt, group, survivors, .. }| {
            format!("attempt {attempt} group {group} ({} suspects)", survivors.len())
        });
        let dropped: Vec<_> = dropped.collect();
        if !dropped.is_empty() {
            parts.push(format!("failed its check and was dropped: {}", dropped.join(", ")));
        }
        let found: Vec<_> = self.left_out.difference(known).collect();
        if !found.is_empty() {
            parts.push(format!("found guilty and left out from now on: {}", words(found)));
        }
        if !self.attackers_in_sum.is_empty() {
            parts.push(format!("nobody could tell: the inputs of {} are in the sum", words(&self.attackers_in_sum)));
        }
        if parts.is_empty() { "every check passed".into() } else { parts.join("; ") }
    }
}

/// What became of an attack in a whole run.
#[derive(Debug, Serialize)]
pub(super) struct AttackReport {
    attack: String,
    /// Who cheated in every round that they were in.
    attackers: BTreeSet<PrincipalId>,
    participants: u32,
    rounds: u64,
    /// Rounds in which each of them was refused by name.
    named_rounds: u64,
    /// Rounds with an attacker's input in the Release.
    spoiled_rounds: u64,
    /// Groups that were dropped, of all rounds.
    failed_groups: u64,
    /// The round in which the last of them was found guilty.
    isolated_in: Option<u64>,
    /// Of the last model.
    accuracy: f64,
    /// Of the same rounds with everybody honest; none where privacy makes that another matter.
    accuracy_without_attack: Option<f64>,
    #[serde(skip)]
    proven: bool,
    #[serde(skip)]
    in_groups: bool,
}

impl AttackReport {
    /// - `shown`: round after round, with the round's number.
    pub(super) fn new(
        attackers: &Attackers,
        shown: &[(u64, &Shown)],
        (accuracy, accuracy_without_attack): (f64, Option<f64>),
    ) -> Result<Self, Failure> {
        let ids = attackers.ids()?;
        let count = |of: &dyn Fn(&Shown) -> usize| shown.iter().map(|(_, shown)| of(shown) as u64).sum();
        Ok(Self {
            attack: attackers.attack.to_string(),
            participants: attackers.participants,
            rounds: count(&|_| 1),
            named_rounds: count(&|shown| usize::from(ids.iter().all(|id| shown.refused.contains_key(id)))),
            spoiled_rounds: count(&|shown| usize::from(!shown.attackers_in_sum.is_empty())),
            failed_groups: count(&|shown| shown.failed_checks.len()),
            isolated_in: shown.iter().find(|(_, shown)| ids.is_subset(&shown.left_out)).map(|(round, _)| *round),
            attackers: ids,
            accuracy,
            accuracy_without_attack,
            proven: attackers.proof == Proof::Transparent,
            in_groups: in_groups(attackers.attack, attackers.proof),
        })
    }

    /// What happened, in one line.
    pub(super) fn sentence(&self) -> String {
        let Self { attack, attackers, participants, rounds, named_rounds, .. } = self;
        let cheats = attackers.len();
        let outcome = if self.in_groups {
            let found = match self.isolated_in {
                Some(round) => format!("{} found guilty and left out by round {round}", words(attackers)),
                None => format!("not all of them found guilty in {rounds} rounds"),
            };
            let (spoiled, failed) = (self.spoiled_rounds, self.failed_groups);
            format!(
                "; in the sums of {spoiled} of {rounds} rounds; {failed} groups failed their check and were dropped; {found}"
            )
        } else {
            format!(" in every round; named in {named_rounds} of {rounds} rounds")
        };
        let honest = self.accuracy_without_attack.map(|honest| format!(", {honest:.2} without the attack"));
        format!(
            "{cheats} of {participants} sites attacked ({attack}){outcome}; accuracy {:.2}{}",
            self.accuracy,
            honest.unwrap_or_default()
        )
    }

    /// Whether the run has shown what it is for: proofs keep every attacker out of every sum, and name who is refused.
    pub(super) fn verdict(&self) -> Result<(), DemoError> {
        let unnamed = if self.in_groups { 0 } else { self.rounds - self.named_rounds };
        match (self.proven, self.spoiled_rounds, unnamed) {
            (false, ..) | (true, 0, 0) => Ok(()),
            (true, 0, rounds) => Err(DemoError::NotNamed { rounds }),
            (true, rounds, _) => Err(DemoError::AttackerInSum { rounds }),
        }
    }
}

/// A line for each round.
pub(super) fn lines<'a>(shown: impl Iterator<Item = (u64, &'a Shown)>) -> Vec<String> {
    let nobody = BTreeSet::new();
    let mut known = &nobody;
    let line = |(round, shown): (u64, &'a Shown)| {
        let line = format!("{:<20}{}", format!("round {round}"), shown.text(known));
        known = &shown.left_out;
        line
    };
    shown.map(line).collect()
}

fn words<'a>(ids: impl IntoIterator<Item = &'a PrincipalId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One of so many sites cheats.
const FIFTH: u32 = 5;
/// Fewest sites that make two groups beside one attacker: of three.
const GROUPED_ONE: u32 = 6;
/// Fewest sites that make three groups beside two attackers: of four.
const GROUPED_TWO: u32 = 12;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    const ROWS: [usize; 12] = [5, 90, 5, 5, 5, 80, 5, 5, 5, 5, 5, 5];

    fn ids(numbers: &[u32]) -> BTreeSet<PrincipalId> {
        numbers.iter().map(|number| site_id(*number).unwrap()).collect()
    }

    /// A round in which these were refused, found guilty until then, and in the sum.
    fn shown(refused: &[u32], left_out: &[u32], in_sum: &[u32]) -> Shown {
        let refused = ids(refused).into_iter().map(|id| (id, "it is not proven".to_owned())).collect();
        Shown { refused, failed_checks: Vec::new(), left_out: ids(left_out), attackers_in_sum: ids(in_sum) }
    }

    fn report(attack: Attack, proof: Proof, rounds: &[Shown]) -> AttackReport {
        let attackers = Attackers::choose(attack, proof, &ROWS).unwrap();
        let rounds: Vec<_> = (1..).zip(rounds).collect();
        AttackReport::new(&attackers, &rounds, (0.9312, Some(0.9581))).unwrap()
    }

    #[test]
    fn the_sites_with_the_most_rows_attack() {
        for proof in [Proof::None, Proof::Transparent] {
            let attackers = Attackers::choose(Attack::Scale10, proof, &ROWS).unwrap();
            assert_eq!(attackers.ids().unwrap(), ids(&[1, 5]));
            assert_eq!((attackers.of_site(1), attackers.of_site(0)), (Some(Attack::Scale10), None));
        }
        let one = Attackers::choose(Attack::Mismatch, Proof::Transparent, &ROWS[..11]).unwrap();
        assert_eq!(one.ids().unwrap(), ids(&[1]));
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        for attack in [Attack::Garbled, Attack::Replayed] {
            let refused = Attackers::choose(attack, Proof::None, &ROWS).unwrap_err();
            assert!(matches!(refused, DemoError::NothingToAttack { .. }), "{refused}");
        }
        for (attack, fewest) in [(Attack::Scale10, 5), (Attack::Mismatch, 6)] {
            Attackers::choose(attack, Proof::Transparent, &ROWS[..fewest]).unwrap();
            let refused = Attackers::choose(attack, Proof::Transparent, &ROWS[..fewest - 1]).unwrap_err();
            assert!(matches!(refused, DemoError::TooFewSites { .. }), "{refused}");
        }
    }

    /// Named is a round in which both were; kept out are they where neither is in a sum.
    #[test]
    fn a_run_says_what_happened() {
        let named = || shown(&[1, 5], &[], &[]);
        let report_of = |rounds: &[Shown]| report(Attack::Scale10, Proof::Transparent, rounds);
        let good = report_of(&[named(), named()]);
        assert_eq!(
            good.sentence(),
            "2 of 12 sites attacked (scale10) in every round; named in 2 of 2 rounds; accuracy 0.93, 0.96 without the attack"
        );
        good.verdict().unwrap();
        let half = report_of(&[named(), shown(&[1], &[], &[])]);
        assert!(half.sentence().contains("named in 1 of 2 rounds"));
        assert!(matches!(half.verdict(), Err(DemoError::NotNamed { rounds: 1 })));
        let spoiled = report_of(&[named(), shown(&[1], &[], &[5])]);
        assert!(matches!(spoiled.verdict(), Err(DemoError::AttackerInSum { rounds: 1 })));
        // Without proofs that is what has to be seen.
        let spoiled = report(Attack::Scale10, Proof::None, &[shown(&[], &[], &[1, 5])]);
        assert!(spoiled.sentence().contains("named in 0 of 1 rounds"));
        spoiled.verdict().unwrap();
    }

    #[test]
    fn who_is_isolated_is_said() {
        let report_of = |rounds: &[Shown]| report(Attack::Mismatch, Proof::Transparent, rounds);
        let rounds = [shown(&[], &[], &[]), shown(&[], &[1], &[]), shown(&[], &[1, 5], &[]), shown(&[], &[1, 5], &[])];
        let isolated = report_of(&rounds);
        isolated.verdict().unwrap();
        assert_eq!(
            isolated.sentence(),
            "2 of 12 sites attacked (mismatch); in the sums of 0 of 4 rounds; 0 groups failed their check and were dropped; \
             site-0001, site-0005 found guilty and left out by round 3; accuracy 0.93, 0.96 without the attack"
        );
        let not = report_of(&rounds[..2]);
        assert!(not.sentence().contains("not all of them found guilty in 2 rounds"), "{}", not.sentence());
        let lines = lines((1..).zip(&rounds));
        assert_eq!(
            lines,
            [
                "round 1             every check passed",
                "round 2             found guilty and left out from now on: site-0001",
                "round 3             found guilty and left out from now on: site-0005",
                "round 4             every check passed",
            ]
        );
    }

    #[test]
    fn a_round_is_told_in_a_line() {
        let text = |shown: &Shown| shown.text(&BTreeSet::new());
        assert_eq!(text(&shown(&[5, 1], &[], &[])), "refused site-0001, site-0005: it is not proven");
        assert_eq!(text(&shown(&[], &[], &[1])), "nobody could tell: the inputs of site-0001 are in the sum");
        let check = |attempt, group, members: &[u32]| GroupCheck {
            attempt,
            group,
            passed: false,
            survivors: ids(members).into_iter().collect(),
        };
        let failed_checks = vec![check(1, 0, &[1, 2, 3, 4]), check(2, 1, &[1, 2])];
        assert_eq!(
            text(&Shown { failed_checks, ..shown(&[], &[], &[]) }),
            "failed its check and was dropped: attempt 1 group 0 (4 suspects), attempt 2 group 1 (2 suspects)"
        );
    }
}
