//! What a run has shown: a table for people.

use crate::{federation::cohort_min, invariants::Violation, watch::Watched};
use comfy_table::{Table, presets};
use sordino_faultproxy::Tally;
use sordino_wire::api::RoundState;
use std::io::{self, Write as _};

/// A whole run.
pub(crate) struct Report {
    pub(crate) participants: u32,
    pub(crate) seed: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<Violation>,
}

/// One round of it.
pub(crate) struct Row {
    /// Counted from 1 over the whole run.
    pub(crate) round: u64,
    pub(crate) watched: Watched,
    /// Values that were compared, all equal; none where there is no sum.
    pub(crate) exact: Option<usize>,
}

impl Report {
    pub(crate) fn complete(&self) -> usize {
        self.rows.iter().filter(|row| row.watched.round.state == RoundState::Complete).count()
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(HEADER).add_rows(self.rows.iter().map(Row::cells));
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        let mut out: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let sum = |count: fn(&Watched) -> u32| self.rows.iter().map(|row| count(&row.watched)).sum::<u32>();
        let exact = self.rows.iter().filter(|row| row.exact.is_some()).count();
        let failed = self.rows.len() - self.complete();
        let Tally { connections, refused, black_holed, unreachable, cut, flipped, stalled, bytes_up, bytes_down } =
            self.tally;
        let lines = [
            (
                "seed",
                format!(
                    "{}, {} sites, sums of {} at least",
                    self.seed,
                    self.participants,
                    cohort_min(self.participants)
                ),
            ),
            (
                "rounds",
                format!(
                    "{} complete, {exact} of their sums exact, bit for bit; {failed} failed, each with its reason",
                    self.complete()
                ),
            ),
            ("attempts", self.rows.iter().map(|row| row.watched.round.attempt).sum::<u32>().to_string()),
            (
                "killed",
                format!(
                    "{} times the coordinator, {} times a site",
                    sum(|row| row.coordinator_kills),
                    sum(|row| row.site_kills)
                ),
            ),
            (
                "connections",
                format!(
                    "{connections}: {refused} refused, {black_holed} never forwarded, {unreachable} found no coordinator"
                ),
            ),
            (
                "streams",
                format!("{cut} cuts, {flipped} bits flipped, {stalled} stalls; {bytes_up} bytes up, {bytes_down} down"),
            ),
            ("time", format!("{:.1} s", self.seconds)),
        ];
        out.push('\n');
        for (name, value) in lines {
            out.push_str(&format!("{name:<12} {value}\n"));
        }
        for violation in self.violations.iter().take(VIOLATIONS_SHOWN) {
            out.push_str(&format!("VIOLATED     {violation}\n"));
        }
        if let Some(more) = self.violations.len().checked_sub(VIOLATIONS_SHOWN).filter(|more| *more > 0) {
            out.push_str(&format!("VIOLATED     {more} times more\n"));
        }
        out
    }
}

impl Row {
    fn cells(&self) -> [String; 13] {
        let Watched { round, seconds, coordinator_kills, site_kills, tally, abandoned } = &self.watched;
        let survivors = round.release.as_ref();
        let survivors = survivors.map(|release| format!("{}/{}", release.survivors.len(), release.cohort.len()));
        let outcome = match (round.state, self.exact) {
            (RoundState::Complete, Some(values)) => format!("exact ({values})"),
            (RoundState::Complete, None) => "NOT EXACT".to_owned(),
            _ => "failed".to_owned(),
        };
        let reason = round.failure.clone().or_else(|| abandoned.last().cloned());
        [
            self.round.to_string(),
            round.attempt.to_string(),
            survivors.unwrap_or_else(|| "-".to_owned()),
            coordinator_kills.to_string(),
            site_kills.to_string(),
            tally.connections.to_string(),
            tally.cut.to_string(),
            tally.flipped.to_string(),
            tally.stalled.to_string(),
            (tally.refused + tally.black_holed).to_string(),
            format!("{seconds:.1}"),
            outcome,
            reason.unwrap_or_else(|| "-".to_owned()),
        ]
    }

    /// For whoever waits.
    pub(crate) fn in_short(&self) -> String {
        let [round, attempts, survivors, coordinator, sites, _, cuts, flips, stalls, _, seconds, outcome, reason] =
            self.cells();
        format!(
            "round {round}: {outcome}, {survivors} in the sum, {attempts} attempts, {seconds} s; killed {coordinator} + \
             {sites}, {cuts} cuts, {flips} flips, {stalls} stalls; {reason}"
        )
    }
}

/// A line for people, on standard error.
pub(crate) fn note(line: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The result, on standard output.
pub(crate) fn result(text: &str) {
    // The exit code says it too.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// One defect can show itself in every round.
const VIOLATIONS_SHOWN: usize = 40;
const HEADER: [&str; 13] = [
    "round",
    "attempts",
    "in sum",
    "coord. killed",
    "sites killed",
    "conn.",
    "cuts",
    "flips",
    "stalls",
    "refused",
    "s",
    "sum",
    "last reason",
];
