//! What a run is, once its options are put together, and the policy that goes with it.

use super::{
    attack::{Attackers, Proof},
    faults::Faults,
    protection::Protection,
};
use crate::{
    dev::Split,
    failure::{DemoError, Failure},
};
use sordino_participant::training::{Dataset, Hyperparameters};

/// A run.
pub(super) struct Scene {
    pub(super) participants: u32,
    pub(super) rounds: u64,
    pub(super) seed: u64,
    pub(super) protection: Protection,
    pub(super) proof: Proof,
    /// Without them everybody is honest, and some vanish.
    pub(super) attackers: Option<Attackers>,
}

/// Who may be missing in a sum, and how long the others are waited for.
pub(super) struct Room {
    /// Participants of the smallest sum.
    pub(super) min: u32,
    pub(super) max_dropout_fraction: f64,
    pub(super) max_corrupt_fraction: f64,
    /// Seconds until a round begins with fewer than all.
    pub(super) gather: f64,
    /// Seconds.
    pub(super) step_timeout: f64,
    /// Seconds for the last ones, once enough have answered.
    pub(super) step_grace: f64,
}

impl Scene {
    /// What goes wrong beside attacks: nothing in a run that shows one.
    pub(super) fn faults(&self) -> Faults {
        match self.attackers {
            None => Faults::plan(self.participants, self.rounds, self.seed),
            Some(_) => Faults::none(),
        }
    }

    /// From which a site draws the order of its rows.
    pub(super) fn seed_of(&self, number: u32) -> u64 {
        self.seed.wrapping_mul(1_000).wrapping_add(u64::from(number))
    }

    /// Which part of the rows is a site's, as `--dev-split` has it.
    pub(super) fn split(&self, number: u32) -> String {
        format!("{number}/{}/0.5/{}", self.participants, self.seed)
    }

    /// The rows of each site.
    pub(super) fn deal(&self, rows: &Dataset) -> Result<Vec<Dataset>, Failure> {
        let part = |number| {
            let split: Split = self.split(number).parse().map_err(|_| DemoError::Cut)?;
            split.part_of(rows)
        };
        (0..self.participants).map(part).collect()
    }

    fn room(&self) -> Room {
        let n = self.participants;
        self.attackers.as_ref().map_or_else(
            || Room {
                min: n - Faults::each_round_of(n),
                max_dropout_fraction: 0.2,
                max_corrupt_fraction: 0.2,
                gather: 5.0,
                step_timeout: 2.0,
                // All prove at the same time, on as many cores as this machine has.
                step_grace: if self.proof == Proof::None { 0.3 } else { 1.0 },
            },
            Attackers::room,
        )
    }

    /// The policy, as a person would write it.
    ///
    /// - `rows`: training rows of all sites.
    pub(super) fn policy(&self, rows: usize) -> String {
        let n = self.participants;
        let Room { min, max_dropout_fraction, max_corrupt_fraction, gather, step_timeout, step_grace } = self.room();
        let Hyperparameters { local_epochs, batch_size, learning_rate, momentum } = self.protection.training(rows, n);
        // One site may hold almost all rows; a fresh model's loss is about ln(classes) for each.
        let (loss_max, correct_max) = (rows * 4, rows);
        let resolution = |max: usize| (f64::from(u32::try_from(max).unwrap_or(u32::MAX)) / 65_536.0).max(1e-3);
        let (loss_resolution, correct_resolution) = (resolution(loss_max), resolution(correct_max).max(1.0));
        format!(
            r#"[task]
name = "demo"
rounds = {rounds}

[cohort]
min = {min}
target = {n}
max_dropout_fraction = {max_dropout_fraction:?}
max_corrupt_fraction = {max_corrupt_fraction:?}

[privacy]
{privacy}
[robustness]
proof = "{proof}"

[encoding]
max_weight = {max_weight}
metrics = [
  {{ name = "loss_sum", max = {loss_max}.0, resolution = {loss_resolution:?}, record_max = 4.0 }},
  {{ name = "correct", max = {correct_max}.0, resolution = {correct_resolution:?} }},
]

[timing]
gather = {gather:?}
participant_timeout = 60.0
round_timeout = 60.0
step_timeout = {step_timeout:?}
step_grace = {step_grace:?}

[training]
local_epochs = {local_epochs}
batch_size = {batch_size}
learning_rate = {learning_rate:?}
momentum = {momentum:?}
"#,
            rounds = self.rounds,
            privacy = self.protection.section(),
            proof = self.proof.name(),
            max_weight = rows.clamp(1, 1_000_000),
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use sordino_participant::attack::Attack;
    use sordino_secagg::Topology;
    use sordino_wire::{CheckedPolicy, Policy};

    fn checked(scene: &Scene) -> CheckedPolicy {
        Policy::from_toml(&scene.policy(1438)).and_then(Policy::check).unwrap()
    }

    fn quiet(participants: u32, protection: Protection, proof: Proof) -> Scene {
        Scene { participants, rounds: 20, seed: 1, protection, proof, attackers: None }
    }

    /// Every attack, in federations of any size that it can be shown in: the graph stands the policy's faults in the whole
    /// cohort and in the smallest one, also without the attackers, and as many may be corrupt as are where that decides who is
    /// found.
    #[test]
    fn policies_leave_room_for_what_they_show() {
        for participants in [5, 6, 10, 11, 12, 20, 37, 100, 200] {
            for (_, attack) in Attack::ALL {
                for proof in [Proof::None, Proof::Transparent] {
                    let rows: Vec<_> = (0..participants).map(|number| number as usize % 7).collect();
                    let Ok(attackers) = Attackers::choose(attack, proof, &rows) else {
                        let alone = attack == Attack::Mismatch && participants < 6;
                        assert!(alone || (proof == Proof::None && attack.is_on_proofs()), "{attack} {participants}");
                        continue;
                    };
                    let cheats = attackers.count();
                    let scene = Scene { attackers: Some(attackers), ..quiet(participants, Protection::None, proof) };
                    let policy = checked(&scene);
                    let min = policy.policy().cohort.min;
                    assert!(min <= participants - cheats && min >= 3, "{attack} {participants}: {min}");
                    for size in [min, participants - cheats, participants] {
                        Topology::derive(size, &policy.faults()).unwrap();
                    }
                    if attack == Attack::Mismatch && proof == Proof::Transparent {
                        assert_eq!(policy.faults().corrupt, cheats);
                        // One group more than they can spoil.
                        assert!(participants >= min * (cheats + 1), "{participants}: {cheats} of groups of {min}");
                    } else {
                        assert_eq!((cheats, policy.quorum(participants)), (participants / 5, min), "{attack}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_an_attack_the_policy_is_that_of_before() {
        let cohort = &checked(&quiet(10, Protection::Record, Proof::None)).policy().cohort.clone();
        assert_eq!(
            (cohort.min, cohort.target, cohort.max_dropout_fraction, cohort.max_corrupt_fraction),
            (8, 10, 0.2, 0.2)
        );
        assert!(quiet(10, Protection::None, Proof::None).policy(1438).contains("max_weight = 1438\n"));
        checked(&quiet(10, Protection::Record, Proof::Transparent));
    }
}
