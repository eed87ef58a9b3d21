//! One round, from the end of the one before to its own: kills when their moment has come, and no patience beyond the
//! deadlines.

use crate::{
    failure::{Failure, causes},
    federation::{Federation, Observed, ROUND_TIMEOUT, Task},
    invariants::Violation,
    storm::{Kill, Moment, Victim},
};
use sordino_faultproxy::Tally;
use sordino_wire::{
    Code, RoundId,
    api::{Round, RoundState},
};
use std::time::{Duration, Instant};

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Complete or failed.
    pub(crate) round: Round,
    pub(crate) seconds: f64,
    pub(crate) coordinator_kills: u32,
    pub(crate) site_kills: u32,
    /// What the proxy did meanwhile.
    pub(crate) tally: Tally,
    /// Why attempts were given up, in order.
    pub(crate) abandoned: Vec<String>,
}

/// How a round ended for whoever watches.
pub(crate) enum Ended {
    Round(Box<Watched>),
    /// It did not end in time; the run is over.
    Stuck(Violation),
}

/// A kill that waits for its moment.
struct Armed {
    kill: Kill,
    due: Option<Instant>,
    done: bool,
}

/// Where a round stands, and since when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No attempt is open.
    Gathering,
    /// This one is.
    Attempt(u32),
}

/// Sees a round through.
///
/// - `tell`: told of every kill.
pub(crate) async fn round(
    federation: &mut Federation,
    task: &Task,
    number: u64,
    kills: Vec<Kill>,
    tell: &mut impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let id = RoundId { task: task.id.clone(), number };
    let path = format!("/v1/rounds/{id}");
    let (began, before) = (Instant::now(), federation.proxy.tally());
    let mut armed: Vec<Armed> = kills.into_iter().map(|kill| Armed { kill, due: None, done: false }).collect();
    let (mut phase, mut since, mut begun) = (Phase::Gathering, began, None);
    let (mut coordinator_kills, mut site_kills, mut abandoned) = (0, 0, Vec::new());
    let mut asked = None::<Instant>;
    let mut unanswered = String::from("never asked");
    loop {
        let observed = federation.look()?;
        let tally = federation.proxy.tally().since(&before);
        let carried = tally.bytes_up + tally.bytes_down;
        for armed in armed.iter_mut().filter(|armed| armed.due.is_none()) {
            let come = match armed.kill.when {
                Moment::Begun => begun.is_some(),
                Moment::Closed(step) => observed.contains(&Observed::Closed(id.clone(), step)),
                Moment::Carried(bytes) => carried >= bytes,
            };
            armed.due = come.then(|| Instant::now() + armed.kill.delay);
        }
        abandoned.extend(observed.into_iter().filter_map(|observed| match observed {
            Observed::Abandoned(reason) => Some(reason),
            Observed::Closed(..) => None,
        }));
        if federation.up_since().is_some() && asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            asked = Some(Instant::now());
            let standing = match tokio::time::timeout(ASK_MAX, federation.admin.get::<Round>(&path)).await {
                Ok(Ok(round)) => Some(round),
                Ok(Err(error)) if error.code() == Some(Code::NotFound) => None,
                Ok(Err(error)) => {
                    unanswered = causes(&error);
                    continue;
                }
                Err(_) => {
                    unanswered = format!("no answer within {ASK_MAX:?}");
                    continue;
                }
            };
            unanswered.clear();
            let now = match standing {
                Some(round) if matches!(round.state, RoundState::Complete | RoundState::Failed) => {
                    let seconds = began.elapsed().as_secs_f64();
                    let tally = federation.proxy.tally().since(&before);
                    let watched = Watched { round, seconds, coordinator_kills, site_kills, tally, abandoned };
                    return Ok(Ended::Round(Box::new(watched)));
                }
                Some(round) if round.state != RoundState::Waiting => Phase::Attempt(round.attempt),
                _ => Phase::Gathering,
            };
            if now != phase {
                (phase, since) = (now, Instant::now());
            }
            if phase != Phase::Gathering {
                begun.get_or_insert_with(Instant::now);
            }
        }
        for armed in armed.iter_mut().filter(|armed| !armed.done) {
            if armed.due.is_some_and(|due| due <= Instant::now()) {
                armed.done = true;
                if federation.kill(&armed.kill).await? {
                    tell(&format!("killed the {}", armed.kill))?;
                    match armed.kill.victim {
                        Victim::Coordinator => coordinator_kills += 1,
                        Victim::Site(_) => site_kills += 1,
                    }
                }
            }
        }
        // While the coordinator is away nothing can go on; how long that is, is ours.
        let late = federation.up_since().and_then(|up| {
            let started = federation.last_start().unwrap_or(up);
            overdue(phase, since, up, started, Instant::now())
        });
        if let Some(late) = late {
            let late = if unanswered.is_empty() { late } else { format!("{late}; asked last: {unanswered}") };
            return Ok(Ended::Stuck(Violation(format!("round {id} is stuck: {late}"))));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Whether a phase has lasted longer than it may.
///
/// A coordinator that starts gives every deadline anew, since nobody could reach it; a site that starts has to be found
/// before a cohort is there.
///
/// - `up`: since when the coordinator has been there.
/// - `started`: when the last process was started.
fn overdue(phase: Phase, since: Instant, up: Instant, started: Instant, now: Instant) -> Option<String> {
    let (what, since, limit) = match phase {
        Phase::Gathering => ("no attempt was open".to_owned(), since.max(up).max(started), GATHER_MAX),
        Phase::Attempt(attempt) => (format!("attempt {attempt} was open"), since.max(up), ROUND_TIMEOUT + SLACK),
    };
    let lasted = now.saturating_duration_since(since);
    (lasted > limit).then(|| format!("{what} for {:.1} s, {} s is the limit", lasted.as_secs_f64(), limit.as_secs()))
}

/// Above an attempt's own time: the store, the registrar, the machine's load.
pub(crate) const SLACK: Duration = Duration::from_secs(10);
/// For a cohort to be there: the policy's `gather` (2 s), and for a site whose last try failed its longest pause (10 s) and
/// a connection that is never answered (10 s), twice, before one succeeds.
pub(crate) const GATHER_MAX: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(10);
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASK_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_its_time_and_a_start_gives_it_anew() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let gathering = |up, started, now| overdue(Phase::Gathering, began, at(up), at(started), at(now)).is_some();
        assert!(!gathering(0, 0, 45) && gathering(0, 0, 46));
        assert!(!gathering(40, 0, 85) && gathering(40, 0, 86), "the coordinator came back");
        assert!(!gathering(0, 40, 85) && gathering(0, 40, 86), "a site came back");
        let attempt = |up, started, now| overdue(Phase::Attempt(2), began, at(up), at(started), at(now));
        assert_eq!(attempt(0, 0, 40), None);
        assert_eq!(attempt(0, 30, 41).as_deref(), Some("attempt 2 was open for 41.0 s, 40 s is the limit"));
        assert!(attempt(20, 20, 60).is_none() && attempt(20, 20, 61).is_some());
    }
}
