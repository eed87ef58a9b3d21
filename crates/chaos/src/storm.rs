//! Who is killed when: for each round, drawn from the seed before the round begins.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sordino_faultproxy::Faults;
use sordino_secagg::Step;
use std::{fmt, time::Duration};

/// SIGKILL, and a new start on the same folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) victim: Victim,
    pub(crate) when: Moment,
    /// After the moment was observed.
    pub(crate) delay: Duration,
    /// How long the process stays away.
    pub(crate) away: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Coordinator,
    /// By its number.
    Site(u32),
}

/// What a kill waits for. One that does not happen in its round leaves the victim alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// An attempt of the round has begun.
    Begun,
    /// This step was closed, as the coordinator's log says.
    Closed(Step),
    /// So many bytes were carried since the round began.
    Carried(u64),
}

/// The kills of a round.
///
/// - `round`: counted from 1 over the whole run.
/// - `bytes`: about what a round carries in all.
pub(crate) fn kills(seed: u64, round: u64, participants: u32, bytes: u64) -> Vec<Kill> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(round);
    let mut victims = Vec::new();
    for percent in COORDINATOR_KILLS_PERCENT {
        if below(&mut rng, 100) < percent {
            victims.push(Victim::Coordinator);
        }
    }
    // One in four sites at most, and not the same one twice.
    let sites = below(&mut rng, u64::from(participants / 4) + 1);
    let mut there: Vec<u32> = (0..participants).collect();
    for _ in 0..sites {
        let at = usize::try_from(below(&mut rng, there.len() as u64)).unwrap_or(0);
        victims.push(Victim::Site(there.swap_remove(at)));
    }
    victims.into_iter().map(|victim| kill(&mut rng, victim, bytes)).collect()
}

fn kill(rng: &mut ChaCha20Rng, victim: Victim, bytes: u64) -> Kill {
    let when = match below(rng, 4) {
        0 => Moment::Begun,
        1 => Moment::Carried(below(rng, bytes)),
        _ => {
            // After the last step there is only the opening, in which everybody can be killed as well.
            let at = usize::try_from(below(rng, Step::ALL.len() as u64)).unwrap_or(0);
            Moment::Closed(Step::ALL[at])
        }
    };
    let delay = Duration::from_millis(match when {
        Moment::Begun => below(rng, AFTER_BEGIN_MILLIS),
        // Half of them at once.
        Moment::Closed(_) | Moment::Carried(_) => below(rng, 2) * below(rng, AFTER_EVENT_MILLIS),
    });
    Kill { victim, when, delay, away: Duration::from_millis(below(rng, AWAY_MILLIS)) }
}

/// What befalls the connections of the sites.
pub(crate) fn faults() -> Faults {
    Faults { stall_for: STALL, ..Faults::storm() }
}

/// Uniform below `bound`, up to a bias that no storm shows.
fn below(rng: &mut ChaCha20Rng, bound: u64) -> u64 {
    rng.next_u64() % bound.max(1)
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { victim, when, delay, away } = self;
        match victim {
            Victim::Coordinator => f.write_str("coordinator")?,
            Victim::Site(number) => write!(f, "site {number}")?,
        }
        match when {
            Moment::Begun => f.write_str(" after the attempt began")?,
            Moment::Closed(step) => write!(f, " after {step} closed")?,
            Moment::Carried(bytes) => write!(f, " after {bytes} bytes")?,
        }
        write!(f, " and {} ms, away for {} ms", delay.as_millis(), away.as_millis())
    }
}

/// Chances that the coordinator is killed once, and once more.
const COORDINATOR_KILLS_PERCENT: [u64; 2] = [60, 15];
/// Longer than a round without trouble takes: training, then the steps.
const AFTER_BEGIN_MILLIS: u64 = 600;
const AFTER_EVENT_MILLIS: u64 = 150;
const AWAY_MILLIS: u64 = 1_500;
const STALL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_says_who_and_when() {
        let all = |seed| (1..=200).map(|round| kills(seed, round, 8, 1_000_000)).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn everybody_is_killed_after_every_event_and_the_round_can_still_go_on() {
        let rounds: Vec<_> = (1..=400).map(|round| kills(1, round, 8, 1_000_000)).collect();
        let mut events = BTreeSet::new();
        for kill in rounds.iter().flatten() {
            let step = match kill.when {
                Moment::Closed(step) => Some(step),
                Moment::Begun | Moment::Carried(_) => None,
            };
            events.insert((kill.victim == Victim::Coordinator, step));
            assert!(kill.away < Duration::from_millis(AWAY_MILLIS));
        }
        assert_eq!(events.len(), 2 * (Step::ALL.len() + 1));
        for kills in rounds {
            let sites: Vec<_> = kills.iter().filter(|kill| kill.victim != Victim::Coordinator).collect();
            assert!(sites.len() <= 2, "{sites:?}");
            assert!(sites.len() < 2 || sites[0].victim != sites[1].victim, "{sites:?}");
        }
    }
}
