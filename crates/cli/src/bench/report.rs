//! The figures of one run, as JSON and as tables.

use super::{cohort::Outcome, machine::Machine, peer::Peer, scenario::Scenario};
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
    /// A participant's masking, all that it does in the step: bytes of keystream, beside the machine's in registers only.
    pub(crate) masking: Speed,
    /// The coordinator's adding in a cohort, where the sum has left the caches: bytes of the vector in memory, beside a
    /// copy of large buffers.
    pub(crate) adding: Speed,
    /// The same work over and over, bytes per second: beside a copy of as many bytes over and over.
    pub(crate) adding_again: f64,
    pub(crate) rows: Vec<Row>,
    /// The other implementation, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Peer>,
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
    /// Bytes of all messages of a participant, its input included.
    pub(crate) bytes_up: usize,
    /// Those over what they may be: 1.01 packed vectors and 4 kB for each neighbour.
    pub(crate) bytes_up_of_limit: f64,
    pub(crate) share_keys_cpu_ms: f64,
    pub(crate) share_keys_wall_ms: f64,
    pub(crate) mask_cpu_ms: f64,
    pub(crate) mask_wall_ms: f64,
    pub(crate) check_cpu_ms: f64,
    pub(crate) add_cpu_ms: f64,
    pub(crate) unmask_cpu_ms: f64,
    pub(crate) unmask_wall_ms: f64,
}

impl Speed {
    pub(crate) fn new(bytes: usize, time: Duration, best: f64) -> Self {
        let bytes_per_second = bytes as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE);
        Self { bytes_per_second, fraction: bytes_per_second / best }
    }
}

impl Row {
    pub(crate) fn new(cohort: &'static str, scenario: &Scenario, outcome: &Outcome) -> Self {
        let (share_keys, mask_input) = (outcome.share_keys(), outcome.mask_input());
        Self {
            cohort,
            n: scenario.participants,
            k: outcome.topology.k,
            t: outcome.topology.t,
            model_len: scenario.model_len,
            dropouts: scenario.dropouts,
            ring_bits: outcome.bits.get(),
            bytes_per_value: outcome.bytes_per_value(),
            bytes_up: outcome.bytes_up,
            bytes_up_of_limit: outcome.bytes_up as f64 / outcome.bytes_up_limit(),
            share_keys_cpu_ms: share_keys.cpu_millis(),
            share_keys_wall_ms: share_keys.wall_millis(),
            mask_cpu_ms: mask_input.cpu_millis(),
            mask_wall_ms: mask_input.wall_millis(),
            check_cpu_ms: outcome.check_input.cpu_millis(),
            add_cpu_ms: outcome.add.cpu_millis(),
            unmask_cpu_ms: outcome.unmask.cpu_millis(),
            unmask_wall_ms: outcome.unmask.wall_millis(),
        }
    }
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let giga = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    let percent = |fraction: f64| format!("{:.0} %", fraction * 100.0);
    let Report { machine, masking, adding, .. } = report;
    let of_registers = |speed: f64| {
        let best = machine.registers_bytes_per_second;
        best.map(|best| format!("{} of the registers", percent(speed / best))).unwrap_or_default()
    };
    let speeds = table(
        ["ONE THREAD", "SPEED", "WHICH IS"],
        [
            [
                format!("AES-256-CTR by {}, in registers only", machine.instructions),
                machine.registers_bytes_per_second.map(giga).unwrap_or_default(),
                String::new(),
            ],
            [
                "kernel: 22 keystreams, expanded and added, in cache".into(),
                giga(machine.kernel_bytes_per_second),
                of_registers(machine.kernel_bytes_per_second),
            ],
            [
                "AES-256-CTR by aws-lc, in cache".into(),
                giga(machine.keystream_bytes_per_second),
                of_registers(machine.keystream_bytes_per_second),
            ],
            ["copy, large buffers".into(), giga(machine.copy_large_bytes_per_second), String::new()],
            ["copy, as many bytes as the vector".into(), giga(report.copy_same_bytes_per_second), String::new()],
            [
                "participant masks, k = 21".into(),
                giga(masking.bytes_per_second),
                of_registers(masking.bytes_per_second),
            ],
            [
                "an input is added, over and over".into(),
                giga(report.adding_again),
                format!(
                    "{} of a copy of as many bytes",
                    percent(report.adding_again / report.copy_same_bytes_per_second)
                ),
            ],
            [
                "coordinator adds an input, in a cohort".into(),
                giga(adding.bytes_per_second),
                format!("{} of a copy of large buffers", percent(adding.fraction)),
            ],
        ],
    );
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
            format!("{} kB", row.bytes_up.div_ceil(1000)),
            percent(row.bytes_up_of_limit),
        ]
    };
    let header = [
        "N",
        "K",
        "T",
        "D",
        "DROP",
        "SHARE-KEYS",
        "MASK",
        "CHECK",
        "ADD",
        "UNMASK (WALL)",
        "BITS",
        "BYTES/VALUE",
        "UP",
        "OF LIMIT",
    ];
    let cohorts = table(header, report.rows.iter().map(row));
    let mut out = format!(
        "{}\n\n{speeds}\nCPU milliseconds of one thread; every sum that was opened is right\n{cohorts}",
        machine.cpu
    );
    if let Some(peer) = &report.peer {
        out += "\n";
        out += &beside(peer);
    }
    if report.quick {
        out += "\n--quick: sizes are too small to say much about speed\n";
    }
    out
}

fn beside(peer: &Peer) -> String {
    let (figures, comparisons) = match peer {
        Peer::Skipped { skipped } => return format!("the peer is skipped: {skipped}\n"),
        Peer::Measured { figures, comparisons } => (figures, comparisons),
    };
    let rows = comparisons.iter().map(|comparison| {
        let value = |value: f64| format!("{} {}", ms(value), comparison.unit);
        [
            comparison.what.clone(),
            value(comparison.peer),
            value(comparison.ours),
            format!("{:.1}", comparison.times),
            comparison.at_least.map(|least| format!("{least:.0}")).unwrap_or_default(),
        ]
    });
    let header = format!(
        "flwr {}, numpy {}, Python {}: best of several, CPU time of one core",
        figures.flwr, figures.numpy, figures.python
    );
    format!("{header}\n{}", table(["BESIDE THE PEER", "PEER", "OURS", "TIMES LESS", "AT LEAST"], rows))
}

/// Milliseconds, or anything else, to three digits or so.
pub(crate) fn ms(millis: f64) -> String {
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.1}") }
}
