//! What a run's Releases hide, and the policy and model that go with it.

use super::{CLIP_NORM, HIDDEN};
use crate::budget::up;
use sordino_participant::training::{Architecture, Dataset, Hyperparameters};
use sordino_wire::{api::ReleasePrivacy, policy::PrivacyUnit};

/// Whose presence is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Protection {
    /// Each record at each site, by DP-SGD there.
    Record,
    /// Each site's whole contribution, by noise that the sites share.
    Participant,
    /// Nobody: the sums are exact.
    None,
}

impl Protection {
    /// Rounds, where nobody says how many.
    pub(super) fn rounds(self) -> u64 {
        match self {
            Self::Record => 40,
            Self::Participant | Self::None => 20,
        }
    }

    /// Noise is spread over all values of a model: with noise a small one learns more.
    pub(super) fn architecture(self, data: &Dataset) -> Architecture {
        let (features, classes) = (data.columns(), data.classes());
        match self {
            Self::Record | Self::Participant => Architecture::Softmax { features, classes },
            Self::None => Architecture::Mlp { features, hidden: HIDDEN, classes },
        }
    }

    /// How the sites train, on `rows` rows of them all, of `participants` sites.
    pub(super) fn training(self, rows: usize, participants: u32) -> Hyperparameters {
        match self {
            // Under DP-SGD the batch size is the public number that a batch's sum is divided by: about as many as are drawn.
            Self::Record => {
                let drawn = rows as f64 * SAMPLING_RATE / f64::from(participants);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a file has below 2^32 rows"
                )]
                let batch_size = drawn.round() as u32;
                Hyperparameters { local_epochs: 1, batch_size: batch_size.max(1), learning_rate: 0.055, momentum: 0.0 }
            }
            Self::Participant => Hyperparameters { local_epochs: 5, batch_size: 8, learning_rate: 0.5, momentum: 0.0 },
            Self::None => Hyperparameters::demo(),
        }
    }

    /// The policy's section.
    pub(super) fn section(self) -> String {
        match self {
            Self::Record => format!(
                "\
unit = \"record\"
total_epsilon = {TOTAL_EPSILON:?}
target_epsilon = {TARGET_EPSILON:?}
clip_norm = 3.0
example_clip = 2.0
sampling_rate = {SAMPLING_RATE:?}
steps = 40
metric_noise_multiplier = 30.0
"
            ),
            Self::Participant => format!(
                "\
unit = \"participant\"
noise = \"participants\"
total_epsilon = {TOTAL_EPSILON:?}
target_epsilon = {TARGET_EPSILON:?}
clip_norm = 1.0
metric_noise_multiplier = 30.0
"
            ),
            Self::None => format!("enabled = false\nclip_norm = {CLIP_NORM:?}\n"),
        }
    }

    /// Why this unit and no other, in one sentence.
    pub(super) fn why(self, participants: u32) -> String {
        match self {
            Self::Record => format!(
                "noise that hides one record among a site's many costs the model little; noise that hides a whole site among \
                 {participants} would drown every update (--dp participant --participants 100 shows where that works)"
            ),
            Self::Participant => {
                "a whole site is hidden, whatever records it has; that takes noise as long as an update, which many sites \
                 carry and few do not"
                    .into()
            }
            Self::None => {
                "privacy.enabled = false: the coordinator sees only sums, but the sums carry no noise, and with few sites a \
                 sum says much about one"
                    .into()
            }
        }
    }
}

/// What a data protection officer needs to know of the last Release, in one sentence.
pub(super) fn sentence(privacy: &ReleasePrivacy, rounds: usize) -> String {
    let ReleasePrivacy { unit, relation, epsilon, delta, accountant, sampling, holds_against, .. } = privacy;
    let neighbours = match unit {
        PrivacyUnit::Record => "adding or removing one record at any one site, if a person's records lie at one site",
        PrivacyUnit::Participant => relation,
    };
    format!(
        "after {rounds} rounds, (epsilon, delta) = ({}, {delta:e}) for {neighbours}, under {accountant}; sampling: {sampling}; \
         against {holds_against}",
        up(*epsilon)
    )
}

/// Everything that is released, and whatever else comes to the same people.
const TOTAL_EPSILON: f64 = 10.0;
/// The rounds of a run. What is left pays for an attempt that has to be made again.
const TARGET_EPSILON: f64 = 9.5;
/// Of a site's records, in each step.
const SAMPLING_RATE: f64 = 0.3;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_numbers_and_what_they_are_about() {
        let of = |unit: &str| -> ReleasePrivacy {
            serde_json::from_value(serde_json::json!({
                "unit": unit, "relation": "RELATION", "sampling": "SAMPLING", "holds_against": "OTHERS", "budget": "b",
                "epsilon": 9.49991, "epsilon_of_round": 1.0, "delta": 1e-5, "total_epsilon": 10.0, "noise_multiplier": 6.0,
                "accountant": "ACCOUNTANT", "planned": { "participants": 10, "min_survivors": 8, "max_corrupt": 2 },
                "survivors": 9, "software": "s",
            }))
            .unwrap()
        };
        // Epsilon is rounded up.
        assert_eq!(
            sentence(&of("record"), 40),
            "after 40 rounds, (epsilon, delta) = (9.5000, 1e-5) for adding or removing one record at any one site, if a \
             person's records lie at one site, under ACCOUNTANT; sampling: SAMPLING; against OTHERS"
        );
        assert!(sentence(&of("participant"), 20).contains(" for RELATION, under ACCOUNTANT;"));
    }

    #[test]
    fn batches_are_about_what_is_drawn() {
        let size = |rows, sites| Protection::Record.training(rows, sites).batch_size;
        assert_eq!((size(1438, 10), size(455, 10), size(3, 200)), (43, 14, 1));
    }
}
