//! One direction of one connection.

use crate::plan::{Ending, Event, Fault, Schedule};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A connection that ended otherwise than by both sides having said all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severed {
    /// As the plan says.
    Cut(Ending),
    /// One of the peers is gone: the other one has to see it.
    Broken,
}

/// What a pump tells while it works.
pub(crate) trait Observer {
    /// A fault was injected.
    fn injected(&self, event: Event);
    /// So many bytes were passed on.
    fn carried(&self, bytes: usize);
    /// Waits for this long.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Carries bytes until the sender has no more, faults included.
///
/// # Errors
/// [`Severed`]: both directions have to end.
pub(crate) async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut schedule: Schedule,
    observer: &impl Observer,
) -> Result<(), Severed> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    loop {
        let got = from.read(&mut buffer).await.map_err(|_| Severed::Broken)?;
        if got == 0 {
            return to.shutdown().await.map_err(|_| Severed::Broken);
        }
        pause(observer, schedule.latency()).await;
        let mut rest = &mut buffer[..got];
        loop {
            let event = schedule.peek().filter(|event| event.at < at + rest.len() as u64);
            // The distance is below the length of the rest.
            let before = event.map_or(rest.len(), |event| usize::try_from(event.at.saturating_sub(at)).unwrap_or(0));
            to.write_all(&rest[..before]).await.map_err(|_| Severed::Broken)?;
            observer.carried(before);
            at += before as u64;
            rest = &mut rest[before..];
            pause(observer, schedule.pace(before)).await;
            let Some(event) = event else { break };
            schedule.pop();
            observer.injected(event);
            match event.fault {
                Fault::Cut(ending) => return Err(Severed::Cut(ending)),
                Fault::Flip(bit) => rest[0] ^= 1 << (bit & 7),
                Fault::Stall(time) => pause(observer, time).await,
                // Those befall connections, before there is a stream.
                Fault::Refuse | Fault::BlackHole(_) => {}
            }
        }
    }
}

async fn pause(observer: &impl Observer, time: Duration) {
    if !time.is_zero() {
        observer.pause(time).await;
    }
}

/// Bytes in flight in one direction.
const BUFFER_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        faults::Faults,
        plan::{Fate, Plan, Script},
    };
    use std::{num::NonZeroU32, sync::Mutex};

    /// Notes pauses instead of waiting.
    #[derive(Default)]
    struct Notes {
        pauses: Mutex<Vec<Duration>>,
        events: Mutex<Vec<Event>>,
        carried: Mutex<usize>,
    }

    impl Observer for Notes {
        fn injected(&self, event: Event) {
            self.events.lock().unwrap().push(event);
        }

        fn carried(&self, bytes: usize) {
            *self.carried.lock().unwrap() += bytes;
        }

        async fn pause(&self, time: Duration) {
            self.pauses.lock().unwrap().push(time);
        }
    }

    fn up(plan: &Plan) -> Schedule {
        let Fate::Forward { up, .. } = plan.connection(0) else { panic!("the connection is refused") };
        *up
    }

    async fn carry(plan: &Plan, bytes: &[u8]) -> (Result<(), Severed>, Vec<u8>, Notes) {
        let (notes, mut out) = (Notes::default(), Vec::new());
        let ended = pump(bytes, &mut out, up(plan), &notes).await;
        (ended, out, notes)
    }

    fn script(events: &[(u64, Fault)]) -> Plan {
        let up = events.iter().map(|&(at, fault)| Event { at, fault }).collect();
        Plan::scripted([(0, Script { up, down: Vec::new() })])
    }

    fn sample(len: u32) -> Vec<u8> {
        (0..len).map(|at| at.to_le_bytes()[at as usize % 3]).collect()
    }

    #[tokio::test]
    async fn a_calm_network_changes_nothing() {
        let bytes = sample(100_000);
        let (ended, out, notes) = carry(&Plan::calm(), &bytes).await;
        assert_eq!((ended, out == bytes, *notes.carried.lock().unwrap()), (Ok(()), true, bytes.len()));
        assert!(notes.pauses.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn faults_strike_at_their_byte() {
        let (bytes, stall) = (sample(50_000), Duration::from_secs(2));
        let faults = [
            (0, Fault::Flip(7)),
            (20_000, Fault::Flip(0)),
            (20_000, Fault::Stall(stall)),
            (30_000, Fault::Cut(Ending::Reset)),
            (40_000, Fault::Flip(1)),
        ];
        let (ended, out, notes) = carry(&script(&faults), &bytes).await;
        let mut want = bytes[..30_000].to_vec();
        want[0] ^= 0x80;
        want[20_000] ^= 1;
        assert_eq!((ended, out == want), (Err(Severed::Cut(Ending::Reset)), true));
        assert_eq!(*notes.pauses.lock().unwrap(), [stall]);
        let events = notes.events.lock().unwrap();
        assert_eq!(events.iter().map(|event| event.at).collect::<Vec<_>>(), [0, 20_000, 20_000, 30_000]);
    }

    #[tokio::test]
    async fn throttling_takes_the_time_that_the_bytes_take() {
        let faults = Faults { bytes_per_second: NonZeroU32::new(10_000), ..Faults::calm() };
        let (ended, out, notes) = carry(&Plan::drawn(1, faults).unwrap(), &sample(25_000)).await;
        assert_eq!((ended, out.len()), (Ok(()), 25_000));
        let took: Duration = notes.pauses.lock().unwrap().iter().sum();
        assert!((took.as_secs_f64() - 2.5).abs() < 1e-6, "{took:?}");
    }

    #[tokio::test]
    async fn each_read_is_held_for_a_while() {
        let max = Duration::from_millis(10);
        let faults = Faults { latency_max: max, ..Faults::calm() };
        let (_, _, notes) = carry(&Plan::drawn(1, faults).unwrap(), &sample(100_000)).await;
        let pauses = notes.pauses.lock().unwrap();
        assert_eq!(pauses.len(), 100_000_usize.div_ceil(BUFFER_BYTES));
        assert!(pauses.iter().all(|pause| *pause <= max) && pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
