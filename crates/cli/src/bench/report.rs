//! The figures of one run, as JSON and as tables.

use super::{
    cohort::{Outcome, Scenario},
    machine::Machine,
};
use crate::output::table;
use serde::Serialize;
use std::time::Duration;

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether sizes were too small to say much about speed.
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    /// Bytes per second of a copy of as many bytes as the vector has in memory.
    pub(crate) copy_same_bytes_per_second: f64,
    /// A participant's masking: bytes of keystream, beside the machine's keystream.
    pub(crate) masking: Speed,
    /// The coordinator's adding: bytes of the vector in memory, beside a copy of as many.
    pub(crate) adding: Speed,
    /// The same speed over that of a copy of large buffers.
    pub(crate) adding_of_large_copy: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) marks: Vec<Mark>,
}

/// A speed beside what the machine can do at best.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) bytes_per_second: f64,
    pub(crate) fraction: f64,
}

/// One cohort. Times are milliseconds; those of participants and of single inputs are medians.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) cohort: &'static str,
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) t: u32,
    pub(crate) model_len: usize,
    pub(crate) dropouts: u32,
    pub(crate) ring_bits: u8,
    pub(crate) bytes_per_value: f64,
    pub(crate) share_keys_cpu_ms: f64,
    pub(crate) share_keys_wall_ms: f64,
    pub(crate) mask_cpu_ms: f64,
    pub(crate) mask_wall_ms: f64,
    pub(crate) check_cpu_ms: f64,
    pub(crate) add_cpu_ms: f64,
    pub(crate) unmask_cpu_ms: f64,
    pub(crate) unmask_wall_ms: f64,
}

/// A figure of another implementation, and ours.
#[derive(Debug, Serialize)]
pub(crate) struct Mark {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) mark: f64,
    pub(crate) ours: f64,
    /// Ours over the mark: below 1 is better.
    pub(crate) ratio: f64,
}

impl Speed {
    pub(crate) fn new(bytes: usize, time: Duration, best: f64) -> Self {
        let bytes_per_second = bytes as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE);
        Self { bytes_per_second, fraction: bytes_per_second / best }
    }
}

impl Row {
    pub(crate) fn new(cohort: &'static str, scenario: &Scenario, outcome: &Outcome) -> Self {
        let wall = |cost: &super::machine::Cost| cost.wall.as_secs_f64() * 1e3;
        Self {
            cohort,
            n: scenario.participants,
            k: outcome.topology.k,
            t: outcome.topology.t,
            model_len: scenario.model_len,
            dropouts: scenario.dropouts,
            ring_bits: outcome.bits.get(),
            bytes_per_value: outcome.bytes_per_value(),
            share_keys_cpu_ms: outcome.share_keys.cpu_millis(),
            share_keys_wall_ms: wall(&outcome.share_keys),
            mask_cpu_ms: outcome.mask_input.cpu_millis(),
            mask_wall_ms: wall(&outcome.mask_input),
            check_cpu_ms: outcome.check_input.cpu_millis(),
            add_cpu_ms: outcome.add.cpu_millis(),
            unmask_cpu_ms: outcome.unmask.cpu_millis(),
            unmask_wall_ms: wall(&outcome.unmask),
        }
    }

    pub(crate) fn is(&self, cohort: &str, model_len: usize, dropouts: u32) -> bool {
        self.cohort == cohort && self.model_len == model_len && self.dropouts == dropouts
    }
}

impl Mark {
    pub(crate) fn new(what: &str, unit: &'static str, mark: f64, ours: f64) -> Self {
        Self { what: what.to_owned(), unit, mark, ours, ratio: ours / mark }
    }
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let giga = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    let percent = |fraction: f64| format!("{:.0} %", fraction * 100.0);
    let Report { machine, masking, adding, .. } = report;
    let speeds = table(
        ["ONE THREAD", "SPEED", "WHICH IS"],
        [
            ["AES-256-CTR keystream, in cache".into(), giga(machine.keystream_bytes_per_second), String::new()],
            ["copy, large buffers".into(), giga(machine.copy_large_bytes_per_second), String::new()],
            ["copy, as many bytes as the vector".into(), giga(report.copy_same_bytes_per_second), String::new()],
            [
                "participant masks, k = 21".into(),
                giga(masking.bytes_per_second),
                format!("{} of the keystream", percent(masking.fraction)),
            ],
            [
                "coordinator adds an input".into(),
                giga(adding.bytes_per_second),
                format!(
                    "{} of a copy of as many bytes, {} of a large one",
                    percent(adding.fraction),
                    percent(report.adding_of_large_copy)
                ),
            ],
        ],
    );
    let ms = |millis: f64| if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.1}") };
    let row = |row: &Row| {
        [
            row.n.to_string(),
            row.k.to_string(),
            row.t.to_string(),
            row.model_len.to_string(),
            row.dropouts.to_string(),
            ms(row.share_keys_cpu_ms),
            ms(row.mask_cpu_ms),
            ms(row.check_cpu_ms),
            ms(row.add_cpu_ms),
            format!("{} ({})", ms(row.unmask_cpu_ms), ms(row.unmask_wall_ms)),
            row.ring_bits.to_string(),
            format!("{:.2}", row.bytes_per_value),
        ]
    };
    let header =
        ["N", "K", "T", "D", "DROP", "SHARE-KEYS", "MASK", "CHECK", "ADD", "UNMASK (WALL)", "BITS", "BYTES/VALUE"];
    let cohorts = table(header, report.rows.iter().map(row));
    let mut out = format!(
        "{}\n\n{speeds}\nCPU milliseconds of one thread; every sum that was opened is right\n{cohorts}",
        machine.cpu
    );
    if !report.marks.is_empty() {
        let row = |mark: &Mark| {
            let value = |value: f64| format!("{} {}", ms(value), mark.unit);
            [mark.what.clone(), value(mark.mark), value(mark.ours), format!("{:.3}", mark.ratio)]
        };
        out += "\n";
        out += &table(["MARK TO BEAT", "MARK", "OURS", "RATIO"], report.marks.iter().map(row));
    }
    if report.quick {
        out += "\n--quick: sizes are too small to say much about speed\n";
    }
    out
}
