//! What goes wrong where. A plan is drawn from a seed, or written down by a test that wants one fault at one place.

use crate::faults::{Faults, InvalidFaults};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    num::NonZeroU32,
    time::Duration,
};

/// What happens to the connections of a proxy, by their number in the order of their arrival, counted from 0.
#[derive(Debug, Clone)]
pub struct Plan(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Drawn { seed: u64, faults: Faults },
    Scripted(BTreeMap<u64, Script>),
}

/// What happens to one connection, written down. Nothing else happens to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// On the way to the upstream, in the order of their bytes.
    pub up: Vec<Event>,
    /// On the way back, in the order of their bytes.
    pub down: Vec<Event>,
}

/// A fault and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Bytes of the stream that are carried before it.
    pub at: u64,
    /// What happens there.
    pub fault: Fault,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed as soon as it is accepted.
    Refuse,
    /// The connection is accepted, nothing is ever carried, and it is closed after this time.
    BlackHole(Duration),
    /// The connection ends in front of this byte, in both directions.
    Cut(Ending),
    /// This bit of the byte, 0 to 7, is flipped.
    Flip(u8),
    /// Nothing is carried in this direction for this time.
    Stall(Duration),
}

/// How a cut looks to the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The stream ends, as if its sender had no more to say.
    Fin,
    /// The connection is reset.
    Reset,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the upstream.
    Up,
    /// Back from it.
    Down,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Fate {
    Refuse,
    BlackHole(Duration),
    Forward { up: Box<Schedule>, down: Box<Schedule> },
}

/// The faults of one direction of one connection, one after the other, and how fast it is.
#[derive(Debug)]
pub(crate) struct Schedule {
    pending: VecDeque<Event>,
    source: Option<Source>,
    latency: Option<(ChaCha20Rng, Duration)>,
    pace: Option<NonZeroU32>,
}

/// Draws faults window by window.
#[derive(Debug)]
struct Source {
    rng: ChaCha20Rng,
    faults: Faults,
    /// Where the next window begins.
    at: u64,
}

impl Plan {
    /// Faults drawn from a seed.
    ///
    /// # Errors
    /// [`InvalidFaults`] names the field.
    pub fn drawn(seed: u64, faults: Faults) -> Result<Self, InvalidFaults> {
        faults.check()?;
        Ok(Self(Kind::Drawn { seed, faults }))
    }

    /// These faults and no others; a connection that is not named is carried as it is.
    #[must_use]
    pub fn scripted(scripts: impl IntoIterator<Item = (u64, Script)>) -> Self {
        Self(Kind::Scripted(scripts.into_iter().collect()))
    }

    /// Carries everything as it is.
    #[must_use]
    pub fn calm() -> Self {
        Self::scripted([])
    }

    pub(crate) fn connection(&self, number: u64) -> Fate {
        match &self.0 {
            Kind::Drawn { seed, faults } => drawn(*seed, faults, number),
            Kind::Scripted(scripts) => scripted(scripts.get(&number).cloned().unwrap_or_default()),
        }
    }
}

fn drawn(seed: u64, faults: &Faults, number: u64) -> Fate {
    let stream = |which: u64| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(number.wrapping_mul(STREAMS).wrapping_add(which));
        rng
    };
    let draw = share(&mut stream(0));
    if draw < faults.refused {
        return Fate::Refuse;
    }
    if draw < faults.refused + faults.black_holed {
        return Fate::BlackHole(faults.black_hole_for);
    }
    let schedule = |which| {
        let quiet = faults.cut == 0.0 && faults.corrupted == 0.0 && faults.stalled == 0.0;
        Box::new(Schedule {
            pending: VecDeque::new(),
            source: (!quiet).then(|| Source { rng: stream(which), faults: faults.clone(), at: 0 }),
            latency: (!faults.latency_max.is_zero()).then(|| (stream(which + 1), faults.latency_max)),
            pace: faults.bytes_per_second,
        })
    };
    Fate::Forward { up: schedule(1), down: schedule(3) }
}

fn scripted(script: Script) -> Fate {
    for event in script.up.iter().chain(&script.down) {
        match event.fault {
            Fault::Refuse => return Fate::Refuse,
            Fault::BlackHole(time) => return Fate::BlackHole(time),
            Fault::Cut(_) | Fault::Flip(_) | Fault::Stall(_) => {}
        }
    }
    let schedule =
        |events: Vec<Event>| Box::new(Schedule { pending: events.into(), source: None, latency: None, pace: None });
    Fate::Forward { up: schedule(script.up), down: schedule(script.down) }
}

impl Schedule {
    /// The next fault, if there will be one.
    pub(crate) fn peek(&mut self) -> Option<Event> {
        while self.pending.is_empty() {
            self.pending = self.source.as_mut()?.window().into();
        }
        self.pending.front().copied()
    }

    /// Goes on to the one behind it.
    pub(crate) fn pop(&mut self) {
        self.pending.pop_front();
    }

    /// How long what was just read is held.
    pub(crate) fn latency(&mut self) -> Duration {
        self.latency.as_mut().map_or(Duration::ZERO, |(rng, max)| max.mul_f64(share(rng)))
    }

    /// How long these bytes take.
    pub(crate) fn pace(&self, bytes: usize) -> Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.pace.map_or(Duration::ZERO, |pace| Duration::from_secs_f64(f64::from(bytes) / f64::from(pace.get())))
    }
}

impl Source {
    /// The faults of the next window, in the order of their bytes.
    fn window(&mut self) -> Vec<Event> {
        let Self { rng, faults, at } = self;
        let mut events = Vec::new();
        for (wanted, fault) in [
            (faults.cut, Fault::Cut(if rng.next_u32() & 1 == 0 { Ending::Fin } else { Ending::Reset })),
            (faults.corrupted, Fault::Flip((rng.next_u32() & 7) as u8)),
            (faults.stalled, Fault::Stall(faults.stall_for)),
        ] {
            // Both are drawn in any case: one share does not move the faults of another.
            let (draw, byte) = (share(rng), rng.next_u32() % faults.window_bytes);
            if draw < wanted {
                events.push(Event { at: *at + u64::from(byte), fault });
            }
        }
        events.sort_by_key(|event| event.at);
        *at += u64::from(faults.window_bytes);
        events
    }
}

/// Uniform in [0, 1), in steps of 2^-32.
fn share(rng: &mut ChaCha20Rng) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("refused"),
            Self::BlackHole(time) => write!(f, "black hole for {time:?}"),
            Self::Cut(Ending::Fin) => f.write_str("cut by FIN"),
            Self::Cut(Ending::Reset) => f.write_str("cut by reset"),
            Self::Flip(bit) => write!(f, "bit {bit} flipped"),
            Self::Stall(time) => write!(f, "stalled for {time:?}"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// Streams of the generator for each connection: its fate, then faults and latencies of both directions.
const STREAMS: u64 = 8;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn events(fate: Fate, bytes: u64) -> (Vec<Event>, Vec<Event>) {
        let Fate::Forward { mut up, mut down } = fate else { panic!("{fate:?}") };
        let all = |schedule: &mut Schedule| {
            let next = || {
                let event = schedule.peek().filter(|event| event.at < bytes);
                schedule.pop();
                event
            };
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        (all(&mut up), all(&mut down))
    }

    #[test]
    fn a_seed_says_what_happens_at_which_byte() {
        let faults = Faults { refused: 0.0, black_holed: 0.0, ..Faults::storm() };
        let plan = |seed| Plan::drawn(seed, faults.clone()).unwrap();
        let once = events(plan(7).connection(3), 10_000_000);
        assert_eq!(once, events(plan(7).connection(3), 10_000_000));
        assert_ne!(once, events(plan(8).connection(3), 10_000_000));
        assert_ne!(once, events(plan(7).connection(4), 10_000_000));
        assert_ne!(once.0, once.1, "the directions differ");
        assert!(once.0.is_sorted_by_key(|event| event.at));
    }

    /// Shares of 10,000 windows: within five standard deviations.
    #[test]
    fn shares_are_kept() {
        let faults = Faults { cut: 0.1, corrupted: 0.02, stalled: 0.5, window_bytes: 64, ..Faults::calm() };
        let (up, _) = events(Plan::drawn(1, faults).unwrap().connection(0), 640_000);
        let count = |which: fn(&Fault) -> bool| up.iter().filter(|event| which(&event.fault)).count();
        assert!((850..1_150).contains(&count(|fault| matches!(fault, Fault::Cut(_)))));
        assert!((130..270).contains(&count(|fault| matches!(fault, Fault::Flip(_)))));
        assert!((4_750..5_250).contains(&count(|fault| matches!(fault, Fault::Stall(_)))));
        let resets = count(|fault| matches!(fault, Fault::Cut(Ending::Reset)));
        assert!((400..600).contains(&resets), "{resets}");
        let faults = Faults { refused: 0.3, black_holed: 0.2, ..Faults::calm() };
        let plan = Plan::drawn(1, faults).unwrap();
        let fates: Vec<_> = (0..10_000).map(|number| plan.connection(number)).collect();
        let refused = fates.iter().filter(|fate| matches!(fate, Fate::Refuse)).count();
        let black_holed = fates.iter().filter(|fate| matches!(fate, Fate::BlackHole(_))).count();
        assert!((2_770..3_230).contains(&refused) && (1_800..2_200).contains(&black_holed));
    }

    #[test]
    fn another_share_does_not_move_the_cuts() {
        let cuts = |stalled| {
            let faults = Faults { cut: 0.1, stalled, ..Faults::calm() };
            let (up, _) = events(Plan::drawn(5, faults).unwrap().connection(0), 10_000_000);
            up.into_iter().filter(|event| matches!(event.fault, Fault::Cut(_))).collect::<Vec<_>>()
        };
        assert_eq!(cuts(0.0), cuts(0.4));
    }

    #[test]
    fn a_script_is_followed_and_nothing_else_happens() {
        let event = Event { at: 5, fault: Fault::Cut(Ending::Fin) };
        let plan = Plan::scripted([(2, Script { up: vec![event], down: Vec::new() })]);
        assert_eq!(events(plan.connection(2), u64::MAX), (vec![event], Vec::new()));
        assert_eq!(events(plan.connection(0), u64::MAX), (Vec::new(), Vec::new()));
        let refuse = Script { up: vec![Event { at: 0, fault: Fault::Refuse }], down: Vec::new() };
        assert!(matches!(Plan::scripted([(0, refuse)]).connection(0), Fate::Refuse));
    }
}
