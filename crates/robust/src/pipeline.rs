//! A policy's way from updates to one vector: detector, stages, rule, and what ends a round instead.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::detector::{Detector, Flag};
use crate::numbers::floor;
use crate::rule::{Given, Rule};
use crate::{BadWeights, Bound, Element, Gram, Mixed, Seed, Stage, Updates, Weights};

/// Detector, then stages, then a rule.
///
/// The default is `combined` -> NNM -> trimmed mean, against a fifth of attackers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pipeline {
    /// Who stands out is left out of the round.
    pub detector: Option<Detector>,
    /// In this order.
    pub stages: Vec<Stage>,
    /// What combines the rows.
    pub rule: Rule,
    /// The share of clients that may be attackers; `f` is this of those that arrived, rounded down.
    pub max_byzantine_fraction: f64,
    /// More flagged than this share ends the round: a detector that flags so many may be judging by the attackers' centre.
    pub max_flag_fraction: f64,
    /// Fewer left than this end the round.
    pub min_clients: usize,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            detector: Some(Detector::default()),
            stages: vec![Stage::Nnm {}],
            rule: Rule::FedTrimmedAvg {},
            max_byzantine_fraction: 0.2,
            max_flag_fraction: 1.0 / 3.0,
            min_clients: 3,
        }
    }
}

/// What a round gives beside the updates.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// For stages that draw lots. See [`Seed::derive`].
    pub seed: Seed,
    /// What clients count, where [`Pipeline::weighs`]; else all count alike.
    pub weights: Option<&'a Weights>,
    /// FLTrust's update of the server's own, `[dimension]`.
    pub root: Option<&'a [f64]>,
    /// Where centred clipping begins, `[dimension]`: the last round's aggregate; without it, the origin.
    pub start: Option<&'a [f64]>,
    /// How many threads work; the result does not depend on it.
    pub threads: NonZeroUsize,
}

impl Default for Round<'_> {
    fn default() -> Self {
        Self { seed: Seed::default(), weights: None, root: None, start: None, threads: NonZeroUsize::MIN }
    }
}

/// One round's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The aggregate, `[dimension]`.
    pub vector: Vec<f64>,
    /// Who was left out, why, and by how much.
    pub flags: Vec<Flag>,
    /// Indices of those that were not, rising.
    pub kept: Vec<usize>,
    /// Attackers that were reckoned with.
    pub f: usize,
    /// What each of those kept counts in the vector, `[kept]`, where the rule is a weighted sum.
    pub coefficients: Option<Vec<f64>>,
    /// Cosine of each client to the group's direction, `[clients]`, where the detector measures it; for evidence over rounds.
    pub cosines: Option<Vec<f64>>,
    /// Where lots came from.
    pub seed: Seed,
}

/// Why a round ended without a vector. The model stays as it is; nothing weaker is ever computed instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Abort {
    /// Somebody has to look: a third of the clients attack, or honest ones differ more than the detector thinks possible.
    #[error("{} of {clients} clients were flagged, at most {most} may be", flagged.len())]
    TooManyFlagged {
        /// Rising.
        flagged: Vec<usize>,
        /// Why.
        flags: Vec<Flag>,
        /// How many may be.
        most: usize,
        /// How many arrived.
        clients: usize,
    },
    /// Retry with more clients.
    #[error("{left} clients are left, {least} are needed")]
    TooFewClients {
        /// Not flagged.
        left: usize,
        /// The policy's least.
        least: usize,
        /// Who was.
        flags: Vec<Flag>,
    },
    /// So few are left that the rule would not withstand the attackers there may be among them.
    #[error("what is left does not meet the policy")]
    Bound {
        /// What does not hold.
        #[source]
        why: Bound,
        /// Who was flagged.
        flags: Vec<Flag>,
    },
    /// The weights are not of these clients, or nobody that is left counts.
    #[error("weights are not usable")]
    Weights(#[from] BadWeights),
    /// No row has anything in common with the server's own update.
    #[error("the server's own update trusts nobody")]
    NobodyTrusted,
}

impl Abort {
    /// Who was flagged before it ended.
    #[must_use]
    pub fn flags(&self) -> &[Flag] {
        match self {
            Self::TooManyFlagged { flags, .. } | Self::TooFewClients { flags, .. } | Self::Bound { flags, .. } => flags,
            Self::Weights(_) | Self::NobodyTrusted => &[],
        }
    }
}

impl Pipeline {
    /// The attackers among `n` clients that it reckons with.
    #[must_use]
    pub fn byzantine(&self, n: usize) -> usize {
        floor(self.max_byzantine_fraction * n as f64)
    }

    /// Whether weights of clients mean anything to it: only where each row still is one client's.
    #[must_use]
    pub fn weighs(&self) -> bool {
        self.rule.weighs() && self.stages.iter().all(|stage| matches!(stage, Stage::NormClip { .. }))
    }

    /// Whether it holds for `n` clients; asked when a policy is made, for the fewest that a round may have. Every larger number
    /// need not hold too: `f` rises in steps. [`Self::check_from`] asks for a whole range.
    ///
    /// # Errors
    /// [`Bound`], with what does not hold.
    pub fn check(&self, n: usize) -> Result<(), Bound> {
        fraction("max_byzantine_fraction", self.max_byzantine_fraction, 0.5)?;
        fraction("max_flag_fraction", self.max_flag_fraction, 1.0)?;
        if n < self.min_clients {
            let condition = format!("n >= min_clients = {}", self.min_clients);
            return Err(Bound::byzantine("the policy", &condition, n, self.byzantine(n)));
        }
        if let Some(detector) = &self.detector {
            detector.check()?;
        }
        self.holds(n, self.byzantine(n))
    }

    /// Whether it holds for every number of clients from `least` to `most`.
    ///
    /// # Errors
    /// [`Bound`], for the fewest clients for which it does not.
    pub fn check_from(&self, least: usize, most: usize) -> Result<(), Bound> {
        (least..=most).try_for_each(|n| self.check(n))
    }

    /// The conditions of stages and rule for `n` rows of which `f` may be attackers'.
    fn holds(&self, mut n: usize, f: usize) -> Result<(), Bound> {
        for stage in &self.stages {
            stage.needs(n, f)?;
            n = stage.rows(n);
        }
        self.rule.needs(n, f)
    }

    /// Runs a round: who stands out is left out, stages and rule combine the others.
    ///
    /// `f` stays what it was among all that arrived: a flagged client may have been honest, so that leaving it out says nothing
    /// about the others. What is left has to meet the bounds with that `f`.
    ///
    /// # Errors
    /// [`Abort`].
    pub fn run<T: Element>(&self, updates: &Updates<'_, T>, round: &Round<'_>) -> Result<Outcome, Abort> {
        let clients = updates.len();
        let f = self.byzantine(clients);
        let bound = |flags: &[Flag]| {
            let flags = flags.to_vec();
            move |why| Abort::Bound { why, flags }
        };
        self.check(clients).map_err(bound(&[]))?;
        if let Some(weights) = round.weights
            && weights.as_slice().len() != clients
        {
            return Err(BadWeights::Mismatch { got: weights.as_slice().len(), want: clients }.into());
        }
        let measures = self.rule.measures()
            || self.detector.is_some_and(|detector| detector.measures())
            || self.stages.iter().any(Stage::measures)
            // A clip or a trust behind a mean of rows needs their norms.
            || self.stages.len() > 1
            || (self.rule == Rule::FLTrust {} && !self.stages.is_empty());
        let gram = measures.then(|| Gram::of(updates, round.start, round.threads)).transpose().map_err(bound(&[]))?;

        let findings = match &self.detector {
            Some(detector) => detector.run(updates.norms(), gram.as_ref()).map_err(bound(&[]))?,
            None => crate::detector::Findings::default(),
        };
        let flagged = findings.clients();
        let flags = findings.flags;
        let most = floor(self.max_flag_fraction * clients as f64);
        if flagged.len() > most {
            return Err(Abort::TooManyFlagged { flagged, flags, most, clients });
        }
        let kept: Vec<usize> = (0..clients).filter(|client| flagged.binary_search(client).is_err()).collect();
        let too_few = |flags| Abort::TooFewClients { left: kept.len(), least: self.min_clients, flags };
        if kept.len() < self.min_clients {
            return Err(too_few(flags));
        }
        self.holds(kept.len(), f).map_err(bound(&flags))?;

        let Some(left) = updates.only(&kept) else { return Err(too_few(flags)) };
        let gram = gram.map(|gram| if kept.len() < clients { gram.only(&kept) } else { gram });
        let weights = match round.weights {
            Some(weights) if self.weighs() => Some(weights.only(&kept)?),
            _ => None,
        };
        let given =
            Given { f, weights: weights.as_ref(), root: round.root, start: round.start, threads: round.threads };
        let combined = self.combine(&left, gram, given, &round.seed).map_err(bound(&flags))?;
        if self.rule == (Rule::FLTrust {})
            && combined.coefficients.iter().flatten().all(|coefficient| *coefficient == 0.0)
        {
            return Err(Abort::NobodyTrusted);
        }
        let (vector, coefficients) = (combined.vector, combined.coefficients);
        Ok(Outcome { vector, flags, kept, f, coefficients, cosines: findings.cosines, seed: round.seed })
    }

    /// Stages and rule on those that are left.
    fn combine<T: Element>(
        &self,
        left: &Updates<'_, T>,
        mut gram: Option<Gram>,
        given: Given<'_>,
        seed: &Seed,
    ) -> Result<crate::rule::Combined, Bound> {
        let mut rows = Mixed::from(left);
        let mut norms = left.norms().to_vec();
        for stage in &self.stages {
            let layer = stage.layer(&norms, gram.as_ref(), given.f, seed)?;
            gram = gram.map(|gram| gram.through(&layer));
            if let Some(gram) = &gram {
                norms = gram.norms().to_vec();
            }
            rows.then(layer);
        }
        self.rule.apply(&rows, gram.as_ref(), &norms, given)
    }
}

fn fraction(what: &str, value: f64, below: f64) -> Result<(), Bound> {
    if (0.0..below).contains(&value) {
        Ok(())
    } else {
        Err(Bound::parameter(what, value, &format!("from 0 and below {below}")))
    }
}
