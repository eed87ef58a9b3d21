//! `[convergence]`: a task ends before its last round once a metric that it releases gets no better.
//!
//! What is watched stands in Releases, so it costs no privacy, and anybody can compute from them when a task has to end.

use super::{Policy, PolicyError};
use crate::CheckedPolicy;
use crate::api::ReleaseConvergence;
use serde::{Deserialize, Serialize};
use sordino_codec::Aggregate;

/// When a task has converged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Convergence {
    /// Which of `encoding.metrics` is watched: a sum that is the lower the better the model is. It is divided by the sum of the
    /// weights, since not everybody is in every round.
    pub metric: String,
    /// Releases without an improvement that end the task.
    pub patience: u32,
    /// What the metric has to fall by to have improved, at least.
    pub min_delta: f64,
}

impl Default for Convergence {
    fn default() -> Self {
        Self { metric: "loss_sum".to_owned(), patience: 10, min_delta: 1e-4 }
    }
}

impl Convergence {
    /// How the metric stands with this value.
    fn after(&self, before: Option<&ReleaseConvergence>, value: f64) -> ReleaseConvergence {
        match before {
            Some(&ReleaseConvergence { best, stale, .. }) if !self.improves(best, value) => {
                ReleaseConvergence { value, best, stale: stale.saturating_add(1) }
            }
            _ => ReleaseConvergence { value, best: value, stale: 0 },
        }
    }

    fn improves(&self, best: f64, value: f64) -> bool {
        value < best - self.min_delta
    }

    /// Whether a Release of this round can say so of a metric with this value. Which of the Releases before it was the best
    /// one shows from those.
    fn admits(&self, stated: &ReleaseConvergence, value: f64, round: u64) -> bool {
        let ReleaseConvergence { best, stale, .. } = *stated;
        let follows = if stale == 0 { best == value } else { !self.improves(best, value) };
        stated.value == value && follows && u64::from(stale) < round
    }
}

impl Policy {
    pub(super) fn check_convergence(&self) -> Result<(), PolicyError> {
        let Some(Convergence { metric, patience, min_delta }) = &self.convergence else { return Ok(()) };
        let metrics = || self.encoding.metrics.iter().map(|metric| &*metric.name);
        if !metrics().any(|name| name == metric) {
            let released = match &*metrics().collect::<Vec<_>>() {
                [] => "no metric".to_owned(),
                names => names.join(", "),
            };
            return Err(PolicyError::NothingToWatch { metric: metric.clone(), released });
        }
        let out_of_range = |key, value, range| Err(PolicyError::OutOfRange { key, value, range });
        // The first Release is what the others are compared with, and after the last one the task ends anyway.
        if *patience == 0 || u64::from(*patience) + 1 >= self.task.rounds {
            let range = "at least 1 and below task.rounds - 1: else no round is left that the task could end before";
            return out_of_range("convergence.patience", patience.to_string(), range);
        }
        if !(0.0..=MIN_DELTA_MAX).contains(min_delta) {
            return out_of_range("convergence.min_delta", min_delta.to_string(), "at least 0 and at most 1e9");
        }
        Ok(())
    }
}

impl CheckedPolicy {
    /// How the metric that the policy watches stands after a Release; none where it watches none.
    ///
    /// - `before`: how it stood after the task's Release before, if there is one.
    #[must_use]
    pub fn convergence(
        &self,
        before: Option<&ReleaseConvergence>,
        aggregate: &Aggregate,
    ) -> Option<ReleaseConvergence> {
        let (convergence, value) = self.watched(aggregate)?;
        Some(convergence.after(before, value))
    }

    /// Whether a Release of this round can say this of the metric that the policy watches.
    pub(crate) fn admits_convergence(
        &self,
        stated: Option<&ReleaseConvergence>,
        aggregate: &Aggregate,
        round: u64,
    ) -> bool {
        match (stated, self.watched(aggregate)) {
            (Some(stated), Some((convergence, value))) => convergence.admits(stated, value, round),
            (stated, watched) => stated.is_none() && watched.is_none(),
        }
    }

    /// Why the task ends, if it has converged.
    #[must_use]
    pub fn converged(&self, stands: &ReleaseConvergence) -> Option<String> {
        let Convergence { metric, patience, min_delta } = self.policy().convergence.as_ref()?;
        let ReleaseConvergence { value, best, stale } = stands;
        (stale >= patience).then(|| {
            format!(
                "converged: in {stale} Releases {metric} over the weights has not fallen by {min_delta} below {best}, and is \
                 {value} in the last one (convergence.patience, convergence.min_delta)"
            )
        })
    }

    /// What is watched, and its value. A sum without weight, which no honest site has part in, is taken for one of weight 1.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quotient for people and a threshold: the same rounding everywhere"
    )]
    fn watched(&self, aggregate: &Aggregate) -> Option<(&Convergence, f64)> {
        let Policy { convergence, encoding, .. } = self.policy();
        let convergence = convergence.as_ref()?;
        let mut values = encoding.metrics.iter().zip(&aggregate.metrics);
        let (_, sum) = values.find(|(metric, _)| metric.name == convergence.metric)?;
        Some((convergence, sum / aggregate.weight_sum.max(1) as f64))
    }
}

const MIN_DELTA_MAX: f64 = 1e9;

#[cfg(test)]
#[expect(clippy::panic, reason = "a failed match is a failed test")]
mod tests {
    use super::*;

    fn checked(section: &str) -> Result<CheckedPolicy, PolicyError> {
        let text = format!(
            "[task]\nname = \"a\"\nrounds = 20\n[[encoding.metrics]]\nname = \"correct\"\nmax = 9.0\n\
             [[encoding.metrics]]\nname = \"loss_sum\"\nmax = 9.0\n{section}"
        );
        Policy::from_toml(&text)?.check()
    }

    fn aggregate(loss_sum: f64, weight_sum: u64) -> Aggregate {
        Aggregate { mean: vec![0.0], weight_sum, metrics: vec![3.0, loss_sum], contributors: 4 }
    }

    #[test]
    fn nothing_is_watched_unless_asked_for() {
        let policy = checked("").expect("a policy");
        assert_eq!(policy.convergence(None, &aggregate(1.0, 1)), None);
        assert!(!serde_json::to_string(policy.policy()).expect("JSON").contains("convergence"), "the digest of before");
        let watching = checked("[convergence]\n").expect("a policy");
        assert_eq!(watching.policy().convergence, Some(Convergence::default()));
        let Convergence { metric, patience, min_delta } = Convergence::default();
        assert_eq!((metric.as_str(), patience, min_delta), ("loss_sum", 10, 1e-4));
    }

    /// The pooled loss counts, whoever is there; an improvement by less than the threshold is none, but adds up.
    #[test]
    fn a_task_has_converged_after_releases_without_improvement() {
        let policy = checked("[convergence]\npatience = 3\nmin_delta = 0.25\n").expect("a policy");
        let mut stands = None;
        for (loss_sum, weight, best, stale) in [
            (8.0, 4, 2.0, 0),
            (18.0, 9, 2.0, 1),
            (3.5, 2, 2.0, 2),
            (1.625, 1, 1.625, 0),
            (1.5, 1, 1.625, 1),
            (99.0, 1, 1.625, 2),
        ] {
            stands = policy.convergence(stands.as_ref(), &aggregate(loss_sum, weight));
            let stands = stands.as_ref().expect("something is watched");
            assert_eq!((stands.best, stands.stale), (best, stale), "{loss_sum} over {weight}");
            assert_eq!(policy.converged(stands), None);
        }
        let stands = policy.convergence(stands.as_ref(), &aggregate(1.375, 1)).expect("something is watched");
        let reason = policy.converged(&stands).expect("three in a row");
        assert!(reason.starts_with("converged: in 3 Releases loss_sum over the weights"), "{reason}");
        assert!(reason.contains("0.25 below 1.625, and is 1.375"), "{reason}");
    }

    #[test]
    fn a_sum_without_weight_is_compared_like_others() {
        let policy = checked("[convergence]\n").expect("a policy");
        let stands = policy.convergence(None, &aggregate(-2.0, 0)).expect("something is watched");
        assert_eq!((stands.value, stands.stale), (-2.0, 0));
    }

    #[test]
    fn a_release_says_what_follows_from_it() {
        let policy = checked("[convergence]\nmin_delta = 0.5\n").expect("a policy");
        let admits = |value, best, stale, round| {
            let stated = ReleaseConvergence { value, best, stale };
            policy.admits_convergence(Some(&stated), &aggregate(4.0, 2), round)
        };
        assert!(admits(2.0, 2.0, 0, 1) && admits(2.0, 2.0, 0, 7) && admits(2.0, 2.5, 6, 7) && admits(2.0, 1.0, 1, 2));
        assert!(!admits(2.5, 2.5, 0, 1), "another value");
        assert!(!admits(2.0, 1.5, 0, 2), "the best one is this one");
        assert!(!admits(2.0, 2.75, 1, 2), "that is an improvement");
        assert!(!admits(2.0, 2.0, 2, 2), "there were not so many Releases");
        assert!(!admits(2.0, f64::NAN, 0, 2));
        assert!(!policy.admits_convergence(None, &aggregate(4.0, 2), 1));
        let stated = ReleaseConvergence { value: 2.0, best: 2.0, stale: 0 };
        assert!(!checked("").expect("a policy").admits_convergence(Some(&stated), &aggregate(4.0, 2), 1));
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let error = checked("[convergence]\nmetric = \"loss\"\n").expect_err("no such metric").to_string();
        let told = "convergence.metric = \"loss\" is in no Release of this policy, which releases: correct, loss_sum; name one of \
                    these, add it to encoding.metrics, or leave [convergence] out";
        assert_eq!(error, told);
        let none = Policy::from_toml("[task]\nname = \"a\"\nrounds = 20\n[convergence]\n").and_then(Policy::check);
        assert!(none.expect_err("no metric").to_string().contains("which releases: no metric;"));
        for section in [
            "patience = 0",
            "patience = 19",
            "patience = 4294967295",
            "min_delta = -1e-4",
            "min_delta = nan",
            "min_delta = inf",
        ] {
            match checked(&format!("[convergence]\n{section}\n")) {
                Err(PolicyError::OutOfRange { key, .. }) => {
                    assert!(section.starts_with(key.trim_start_matches("convergence.")), "{key}");
                }
                other => panic!("{section}: {other:?}"),
            }
        }
        assert!(checked("[convergence]\npatience = 18\nmin_delta = 0.0\n").is_ok());
    }
}
