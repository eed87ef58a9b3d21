//! How bad a network is.

use std::{num::NonZeroU32, time::Duration};

/// What goes wrong, and how often. Shares are parts of 1.
///
/// A stream is looked at in windows of `window_bytes`, in each direction; for each window it is drawn anew whether a fault
/// happens in it, and at which of its bytes. "10 % loss" is `cut: 0.1`: TCP mends lost packets, so what a program sees of
/// loss is a connection that ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Share of connections that are closed as soon as they are accepted.
    pub refused: f64,
    /// Share of connections that are accepted and never forwarded; closed after `black_hole_for`.
    pub black_holed: f64,
    /// How long such a connection is held.
    pub black_hole_for: Duration,
    /// Bytes of a window.
    pub window_bytes: u32,
    /// Share of windows in which the connection is cut, one half by FIN and one half by reset.
    pub cut: f64,
    /// Share of windows in which one bit is flipped.
    pub corrupted: f64,
    /// Share of windows in which nothing is carried for a while.
    pub stalled: f64,
    /// How long a stall lasts.
    pub stall_for: Duration,
    /// Longest time that what was read is held before it is passed on; each time is drawn between 0 and this.
    pub latency_max: Duration,
    /// Bytes a second in each direction of each connection; none: as fast as it goes.
    pub bytes_per_second: Option<NonZeroU32>,
}

/// Why faults cannot be injected as they are written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFaults {
    /// A share.
    #[error("{name} is {value}; a share is 0, or between {SHARE_MIN} and 1")]
    Share {
        /// The field.
        name: &'static str,
        /// What it holds.
        value: f64,
    },
    /// Both shares of connections.
    #[error("refused and black_holed are {0} together; they are shares of the same connections and 1 at most")]
    Connections(f64),
    /// The window.
    #[error("window_bytes is {0}; it is between {WINDOW_BYTES_MIN} and {WINDOW_BYTES_MAX}")]
    Window(u32),
    /// A time.
    #[error("{name} is {value:?}; {PAUSE_MAX:?} at most, so that a test ends")]
    Pause {
        /// The field.
        name: &'static str,
        /// What it holds.
        value: Duration,
    },
}

impl Faults {
    /// A network that does what it should.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            refused: 0.0,
            black_holed: 0.0,
            black_hole_for: Duration::from_secs(20),
            window_bytes: 16 * 1024,
            cut: 0.0,
            corrupted: 0.0,
            stalled: 0.0,
            stall_for: Duration::from_secs(2),
            latency_max: Duration::ZERO,
            bytes_per_second: None,
        }
    }

    /// Everything at once: one window in ten is cut, stalls take two seconds.
    #[must_use]
    pub const fn storm() -> Self {
        Self {
            refused: 0.05,
            black_holed: 0.01,
            cut: 0.1,
            corrupted: 0.02,
            stalled: 0.03,
            latency_max: Duration::from_millis(8),
            bytes_per_second: NonZeroU32::new(2_000_000),
            ..Self::calm()
        }
    }

    /// Refuses what could not be drawn, or would hold a test up for ever.
    pub(crate) fn check(&self) -> Result<(), InvalidFaults> {
        for (name, value) in [
            ("refused", self.refused),
            ("black_holed", self.black_holed),
            ("cut", self.cut),
            ("corrupted", self.corrupted),
            ("stalled", self.stalled),
        ] {
            // Not a number is neither.
            if !(value == 0.0 || (SHARE_MIN..=1.0).contains(&value)) {
                return Err(InvalidFaults::Share { name, value });
            }
        }
        if self.refused + self.black_holed > 1.0 {
            return Err(InvalidFaults::Connections(self.refused + self.black_holed));
        }
        if !(WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&self.window_bytes) {
            return Err(InvalidFaults::Window(self.window_bytes));
        }
        for (name, value) in
            [("black_hole_for", self.black_hole_for), ("stall_for", self.stall_for), ("latency_max", self.latency_max)]
        {
            if value > PAUSE_MAX {
                return Err(InvalidFaults::Pause { name, value });
            }
        }
        Ok(())
    }
}

/// Smallest share but 0: the next fault is found after a bounded number of draws.
const SHARE_MIN: f64 = 0.0001;
const WINDOW_BYTES_MIN: u32 = 64;
const WINDOW_BYTES_MAX: u32 = 64 * 1024 * 1024;
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_valid() {
        for faults in [Faults::calm(), Faults::storm()] {
            assert_eq!(faults.check(), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_injected_is_named() {
        for (faults, want) in [
            (Faults { cut: 1.5, ..Faults::calm() }, "cut is 1.5"),
            (Faults { cut: -0.1, ..Faults::calm() }, "cut is -0.1"),
            (Faults { stalled: f64::NAN, ..Faults::calm() }, "stalled is NaN"),
            (Faults { corrupted: 1e-9, ..Faults::calm() }, "corrupted is 0.000000001"),
            (Faults { refused: 0.6, black_holed: 0.6, ..Faults::calm() }, "1.2 together"),
            (Faults { window_bytes: 0, ..Faults::calm() }, "window_bytes is 0"),
            (Faults { stall_for: Duration::from_secs(601), ..Faults::calm() }, "stall_for is 601s"),
        ] {
            let refused = faults.check().expect_err(want).to_string();
            assert!(refused.contains(want), "{refused}");
        }
    }
}
