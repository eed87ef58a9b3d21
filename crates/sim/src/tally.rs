//! What happened, counted: so that a run that tests nothing shows.

use crate::plan::Moment;
use sordino_secagg::Step;
use std::collections::BTreeMap;
use std::fmt;

/// Counts over one world or many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Worlds.
    pub worlds: u64,
    /// Worlds that ended with a release.
    pub completed: u64,
    /// Attempts that ended without one, by reason.
    pub aborted: BTreeMap<&'static str, u64>,
    /// Attempts whose graph is not complete.
    pub sparse: u64,
    /// Releases that lack somebody who was in the roster.
    pub released_with_dropouts: u64,
    /// Participants by the step in which they were silent, over all attempts that ended.
    pub silent: BTreeMap<Step, u64>,
    /// Crashes of participants, by step and moment.
    pub participant_crashes: BTreeMap<(Step, Moment), u64>,
    /// Participants that left for good.
    pub departures: u64,
    /// Participants that came back.
    pub returns: u64,
    /// Crashes of the coordinator, by the step that was open.
    pub coordinator_crashes: BTreeMap<&'static str, u64>,
    /// Messages that got lost.
    pub lost: u64,
    /// Messages that arrived again.
    pub repeated: u64,
    /// Messages to the coordinator that were changed.
    pub changed_up: u64,
    /// Messages to participants that were changed.
    pub changed_down: u64,
    /// Messages that the coordinator did not take, by reason.
    pub rejections: BTreeMap<String, u64>,
    /// Messages that participants did not believe, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Lies that participants were told, as often as they looked at one.
    pub lies: u64,
    /// Lies that were refused; the others do no harm.
    pub lies_refused: u64,
    /// Inputs with a proof that participants stored.
    pub proofs_made: u64,
    /// Inputs that were accepted with their proof.
    pub proofs_verified: u64,
    /// Inputs that were refused for their proof, by what was wrong with it.
    pub proofs_refused: BTreeMap<&'static str, u64>,
    /// Sums that were compared with what their survivors committed to.
    pub sums_checked: u64,
    /// Survivors that had masked another input than they committed to, in sums that were not released for it.
    pub mismatches_caught: u64,
    /// Such survivors in sums that were right all the same: what they did cancels.
    pub mismatches_cancelled: u64,
    /// Events.
    pub events: u64,
}

impl Tally {
    /// Adds what another world counted.
    pub fn add(&mut self, other: &Self) {
        fn merge<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            from.iter().for_each(|(key, count)| *into.entry(key.clone()).or_default() += count);
        }
        self.worlds += other.worlds;
        self.completed += other.completed;
        merge(&mut self.aborted, &other.aborted);
        self.sparse += other.sparse;
        self.released_with_dropouts += other.released_with_dropouts;
        merge(&mut self.silent, &other.silent);
        merge(&mut self.participant_crashes, &other.participant_crashes);
        self.departures += other.departures;
        self.returns += other.returns;
        merge(&mut self.coordinator_crashes, &other.coordinator_crashes);
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.changed_up += other.changed_up;
        self.changed_down += other.changed_down;
        merge(&mut self.rejections, &other.rejections);
        merge(&mut self.refusals, &other.refusals);
        self.lies += other.lies;
        self.lies_refused += other.lies_refused;
        self.proofs_made += other.proofs_made;
        self.proofs_verified += other.proofs_verified;
        merge(&mut self.proofs_refused, &other.proofs_refused);
        self.sums_checked += other.sums_checked;
        self.mismatches_caught += other.mismatches_caught;
        self.mismatches_cancelled += other.mismatches_cancelled;
        self.events += other.events;
    }
}

/// The name of a variant, out of its `Debug` text: the fields would make every value a reason of its own.
pub(crate) fn variant(value: &impl fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "worlds                {}, {} events", self.worlds, self.events)?;
        writeln!(out, "completed             {}", self.completed)?;
        writeln!(out, "  with dropouts       {}", self.released_with_dropouts)?;
        writeln!(out, "attempts aborted      {:?}", self.aborted)?;
        writeln!(out, "sparse graphs         {}", self.sparse)?;
        writeln!(out, "silent, by step       {:?}", self.silent)?;
        writeln!(out, "participant crashes   {:?}", self.participant_crashes)?;
        writeln!(out, "left, came back       {}, {}", self.departures, self.returns)?;
        writeln!(out, "coordinator crashes   {:?}", self.coordinator_crashes)?;
        writeln!(out, "messages lost         {}", self.lost)?;
        writeln!(out, "         repeated     {}", self.repeated)?;
        writeln!(out, "         changed      {} up, {} down", self.changed_up, self.changed_down)?;
        writeln!(out, "rejections            {:?}", self.rejections)?;
        writeln!(out, "refusals              {:?}", self.refusals)?;
        writeln!(out, "proofs                {} made, {} verified", self.proofs_made, self.proofs_verified)?;
        writeln!(out, "       refused        {:?}", self.proofs_refused)?;
        let (caught, cancelled) = (self.mismatches_caught, self.mismatches_cancelled);
        write!(out, "sums compared         {}, mismatches {caught} caught, {cancelled} cancelled", self.sums_checked)
    }
}
