//! What a run has shown, as a table for people and as JSON.

use super::{
    attack::{self, AttackReport, Shown},
    coordinator::Killed,
    protection::{self, Protection},
    verify::Verified,
};
use crate::{
    budget::up,
    failure::{DemoError, Failure},
    output::table,
};
use serde::Serialize;
use sordino_participant::training::Evaluation;
use sordino_wire::api::{Release, ReleasePrivacy, Round};
use std::{collections::BTreeMap, path::PathBuf};

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) participants: u32,
    pub(super) rounds: Vec<RoundReport>,
    pub(super) killed: Option<Killed>,
    pub(super) seconds: f64,
    pub(super) centralised_accuracy: f64,
    pub(super) model: PathBuf,
    /// Of the last Release; none where nothing is hidden.
    pub(super) privacy: Option<ReleasePrivacy>,
    #[serde(skip)]
    pub(super) protection: Protection,
    pub(super) proof: &'static str,
    /// Where every input was proven: to what norm, in clip norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) effective_bound: Option<f64>,
    /// Whether the coordinator was to be killed.
    #[serde(skip)]
    pub(super) kill: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attack: Option<AttackReport>,
}

/// One round of it.
#[derive(Debug, Serialize)]
pub(super) struct RoundReport {
    round: u64,
    attempt: u32,
    cohort: usize,
    survivors: usize,
    /// How many fell silent, by the first step they missed.
    dropouts: BTreeMap<String, usize>,
    /// Bytes of one participant's input.
    input_bytes: u64,
    step_millis: Vec<(String, u64)>,
    /// Mean loss of the model after the round, on the held-out rows.
    loss: f64,
    /// On the same rows.
    accuracy: f64,
    /// Of everything that was released so far; none where nothing is hidden.
    epsilon: Option<f64>,
    /// Values that were compared with the plain sum, all equal.
    verified_values: usize,
    /// Of those who cheat, where somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<Shown>,
}

impl RoundReport {
    pub(super) fn new(
        round: &Round,
        release: &Release,
        evaluation: &Evaluation,
        (verified, shown): (Verified, Option<Shown>),
    ) -> Self {
        let mut dropouts = BTreeMap::new();
        let silent = release.dropouts.iter().filter(|(id, _)| !release.refused.contains_key(*id));
        for (_, step) in silent.chain(&release.silent_survivors) {
            *dropouts.entry(step.clone()).or_default() += 1;
        }
        Self {
            round: round.id.number,
            attempt: round.attempt,
            cohort: release.cohort.len(),
            survivors: release.survivors.len(),
            dropouts,
            input_bytes: release.input_bytes,
            step_millis: release.step_millis.clone(),
            loss: evaluation.loss(),
            accuracy: evaluation.accuracy(),
            epsilon: release.privacy.as_ref().map(|privacy| privacy.epsilon),
            verified_values: verified.values,
            shown,
        }
    }

    /// What it has shown of those who cheat, with its number.
    pub(super) fn shown(&self) -> Option<(u64, &Shown)> {
        self.shown.as_ref().map(|shown| (self.round, shown))
    }

    pub(super) fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// For the progress bar.
    pub(super) fn in_short(&self) -> String {
        format!(
            "loss {:.3}  accuracy {:.3}  {} of {} in the sum",
            self.loss, self.accuracy, self.survivors, self.cohort
        )
    }

    fn seconds(&self, step: &str) -> String {
        let millis = self.step_millis.iter().find(|(name, _)| name == step).map(|(_, millis)| *millis);
        millis.map_or_else(|| "-".into(), |millis| format!("{}.{:02}", millis / 1_000, millis % 1_000 / 10))
    }

    fn row(&self) -> [String; 13] {
        let dropouts: Vec<_> = self.dropouts.iter().map(|(step, count)| format!("{count} {step}")).collect();
        [
            self.round.to_string(),
            format!("{}/{}", self.survivors, self.cohort),
            if dropouts.is_empty() { "-".into() } else { dropouts.join(", ") },
            self.input_bytes.to_string(),
            self.seconds("AdvertiseKeys"),
            self.seconds("ShareKeys"),
            self.seconds("MaskedInput"),
            self.seconds("ConsistencyCheck"),
            self.seconds("Unmasking"),
            format!("{:.3}", self.loss),
            format!("{:.3}", self.accuracy),
            self.epsilon.map_or_else(|| "-".into(), up),
            format!("exact ({})", self.verified_values),
        ]
    }
}

impl Report {
    pub(super) fn accuracy(&self) -> f64 {
        self.rounds.last().map_or(0.0, RoundReport::accuracy)
    }

    pub(super) fn text(&self) -> String {
        let header = [
            "round",
            "in sum",
            "vanished before",
            "bytes up",
            "train+keys s",
            "shares s",
            "input s",
            "check s",
            "unmask s",
            "loss",
            "accuracy",
            "epsilon",
            "sum",
        ];
        let mut out = table(header, self.rounds.iter().map(RoundReport::row));
        let rounds = self.rounds.len();
        let mut line = |text: &str| out.extend([text, "\n"]);
        line("");
        if self.attack.is_some() {
            attack::lines(self.rounds.iter().filter_map(RoundReport::shown)).iter().for_each(|text| line(text));
            line("");
        }
        line(&format!(
            "sums verified       {rounds} of {rounds}: each Release equals the plain sum of its survivors' inputs, bit for bit"
        ));
        if let Some(Killed { round, away_millis, .. }) = &self.killed {
            line(&format!(
                "coordinator killed  in round {round} with SIGKILL, away for {away_millis} ms; {}",
                if self.resumed() { "it finished the same attempt" } else { "the round took a new attempt" }
            ));
        }
        line(&format!(
            "accuracy            {:.4} on the held-out rows; {:.4} when one machine has all rows, without privacy",
            self.accuracy(),
            self.centralised_accuracy
        ));
        line(&format!(
            "time                {:.1} s for {rounds} rounds of {} participants",
            self.seconds, self.participants
        ));
        line(&format!("model               {}", self.model.display()));
        match self.effective_bound {
            None => line("not enforced yet    proof = \"none\": the norm of an input is what its site says it is"),
            Some(bound) => line(&format!(
                "proven              every input in a sum is within {bound:.1} x clip norm, and every sum is that of these inputs"
            )),
        }
        line(&format!("why                 {}", self.protection.why(self.participants)));
        if let Some(privacy) = &self.privacy {
            line("");
            line(&protection::sentence(privacy, rounds));
        }
        if let Some(attack) = &self.attack {
            line("");
            line(&attack.sentence());
        }
        out
    }

    fn resumed(&self) -> bool {
        let Some(Killed { round, attempt, .. }) = &self.killed else { return false };
        self.rounds.iter().any(|row| row.round == *round && row.attempt == *attempt)
    }

    /// Whether the run has shown what it is for.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if let Some(attack) = &self.attack {
            attack.verdict()?;
        }
        match &self.killed {
            None if !self.kill => Ok(()),
            Some(killed) if !self.resumed() => Err(DemoError::NotResumed { round: killed.round }.into()),
            None => Err(DemoError::NotKilled.into()),
            Some(_) => Ok(()),
        }
    }
}
