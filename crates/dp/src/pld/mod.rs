//! Privacy loss distributions: the cost of many releases within a hair of the truth, and never below it.
//!
//! Each loss is put onto a grid pessimistically, by connecting the dots (see `discretise`), then composed by a fast Fourier
//! transform (Koskela et al. 2020, arXiv:1906.03049; Gopi et al. 2021, arXiv:2106.02848). Before the transform the masses
//! are tilted, `p e^(cL)` with c at the saddle point, after it the tilt is taken off again: so it is the far tail that
//! keeps its relative accuracy, at any delta. The grid is as fine as the answer needs; a rough one tells where to look.
//! Everything that is left out is bounded and added to delta: mass of infinite losses; mass beyond the window (Chernoff);
//! what the circle wraps around (which only adds); the rounding of the transform and of the powers (see `fft`). Adding and
//! removing a unit are composed apart; the larger figure counts.

mod discretise;
mod fft;
mod loss;
mod saddle;
mod spectrum;
mod tail;

pub(crate) use loss::{Loss, directions};

use saddle::{Saddle, Sketch};
use tail::{LEN_MAX, Tail};

use crate::error::{DpError, check_delta, count_in_range, in_range};
use crate::event::{COUNT_MAX, Event, Mechanism, Sampling};
use crate::inversion;
use crate::numeric::round_up;

/// A figure from a privacy loss distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tight {
    /// In nats; never below the truth.
    pub epsilon: f64,
    /// A probability; never below the truth.
    pub delta: f64,
}

/// The least epsilon of a composition at `delta`, up to about 0.02 %.
///
/// # Errors
/// [`DpError::NoLossDistribution`] if one of the events has none here; [`DpError::NotConverging`] if the parameters are
/// too extreme for the bounds: use Renyi orders; [`DpError::OutOfRange`] for a delta outside of (0, 1).
pub fn epsilon(events: &[Event], delta: f64) -> Result<Tight, DpError> {
    check_delta(delta)?;
    let mut epsilon = 0.0_f64;
    if let Some((q, sigma)) = one_gaussian(events) {
        return Ok(Tight { epsilon: round_up(inversion::one_step_epsilon(q, sigma, delta)), delta });
    }
    let directions = composed_directions(events)?;
    let mut searches = directions.iter().map(|losses| Search::new(losses, delta)).collect::<Result<Vec<_>, _>>()?;
    for search in &mut searches {
        // Where this fails, a finer grid may do.
        let _found_or_not = search.look(&ROUGH);
    }
    // A rough figure is not below the truth either: the direction that costs less may need no finer one.
    searches.sort_by(|one, other| other.least.total_cmp(&one.least));
    for search in &mut searches {
        if search.least > epsilon {
            search.look(&FINE)?;
            epsilon = epsilon.max(search.least);
        }
    }
    Ok(Tight { epsilon: round_up(epsilon), delta })
}

/// The least delta of a composition at `epsilon`, up to about 0.1 %.
///
/// # Errors
/// As [`epsilon()`].
pub fn delta(events: &[Event], epsilon: f64) -> Result<Tight, DpError> {
    in_range("epsilon", epsilon, 0.0, f64::MAX)?;
    let mut delta = 0.0_f64;
    if let Some((q, sigma)) = one_gaussian(events) {
        return Ok(Tight { epsilon, delta: round_up(inversion::one_step_delta(q, sigma, epsilon)).min(1.0) });
    }
    for losses in composed_directions(events)? {
        delta = delta.max(delta_of(&losses, epsilon)?);
    }
    Ok(Tight { epsilon, delta })
}

/// Rate and multiplier of a single Gaussian release, which needs no composition.
fn one_gaussian(events: &[Event]) -> Option<(f64, f64)> {
    let [event] = events else { return None };
    match (event.sampling(), event.effective_mechanism(), event.count()) {
        (Sampling::None, Mechanism::Gaussian { sigma }, 1) => Some((1.0, sigma)),
        (Sampling::Poisson { q }, Mechanism::Gaussian { sigma }, 1) => Some((q, sigma)),
        _ => None,
    }
}

/// Losses with their counts, for each direction that has to be composed.
pub(crate) fn composed_directions(events: &[Event]) -> Result<Vec<Vec<(Loss, f64)>>, DpError> {
    count_in_range("kinds of events", events.len() as u64, 1, KINDS_MAX)?;
    let releases = events.iter().fold(0u64, |sum, event| sum.saturating_add(event.count()));
    count_in_range("releases together", releases, 1, COUNT_MAX)?;
    if releases > RELEASES_MAX {
        return Err(DpError::NotConverging { method: METHOD, why: "so many releases drown in rounding" });
    }
    let promise = |event: &Event| (event.unit(), event.relation());
    if events.iter().any(|event| promise(event) != promise(&events[0])) {
        return Err(DpError::NoTheorem("events with different units or relations do not compose to one promise"));
    }
    let pairs = events.iter().map(directions).collect::<Result<Vec<_>, _>>()?;
    let needed = pairs.iter().map(Vec::len).max().unwrap_or(1);
    let of = |direction: usize| {
        let chosen = pairs.iter().map(|pair| pair[direction.min(pair.len() - 1)].clone());
        chosen.zip(events).map(|(loss, event)| (loss, event.count() as f64)).collect()
    };
    Ok((0..needed).map(of).collect())
}

/// The search for the epsilon of one direction.
struct Search<'a> {
    losses: &'a [(Loss, f64)],
    sketch: Sketch,
    delta: f64,
    /// Logarithm of the mass of one step that may count as an infinite loss.
    ln_mass: f64,
    /// Where to look next.
    saddle: Saddle,
    /// Of `-ln(delta)` over epsilon, there.
    slope: f64,
    /// The least figure so far; none is below the truth.
    least: f64,
}

/// How fine a grid is.
struct Fineness {
    /// Slack of epsilon, in units of the goal.
    slack: f64,
    len_max: usize,
}

impl<'a> Search<'a> {
    fn new(losses: &'a [(Loss, f64)], delta: f64) -> Result<Self, DpError> {
        let ln_mass = ln_infinite(losses, delta.ln());
        let sketch = Sketch::new(losses, ln_mass)?;
        let saddle = sketch.for_delta(delta.ln());
        // Above the largest loss, delta is 0.
        let least = losses.iter().map(|(loss, count)| loss.most() * count).sum();
        Ok(Self { losses, sketch, delta, ln_mass, saddle, slope: saddle.c, least })
    }

    /// Looks at tails until one was made for about what is found there.
    ///
    /// The saddle point tells where to look; where large losses decide, it is off, and what was found tells better.
    fn look(&mut self, grid: &Fineness) -> Result<(), DpError> {
        for _ in 0..ATTEMPTS {
            let goal = EPSILON_GOAL * self.saddle.epsilon + EPSILON_FLOOR;
            let mut saddle = self.saddle;
            saddle.c = saddle.c.min(1.0 / goal);
            let slope = self.slope.min(1.0 / goal);
            let slack = (slope * goal * grid.slack).clamp(1e-7, 0.3);
            let tail = Tail::new(self.losses, &self.sketch, saddle, self.ln_mass, slope, slack, grid.len_max)?;
            let found = tail.epsilon(self.delta).ok_or(BELOW_ERROR)?;
            if found.valid {
                self.least = self.least.min(found.epsilon);
            }
            // Good enough if the tilt was made for about this epsilon and the grid for about this slope.
            let near = (found.epsilon - saddle.epsilon).abs() * saddle.c.max(found.slope.min(4.0 * saddle.c)) < 3.0;
            let settled = found.valid && near && (found.slope < 1.5 * slope || tail.len() >= grid.len_max);
            self.saddle = Saddle { ln_delta: self.delta.ln(), ..self.sketch.for_epsilon(found.epsilon) };
            self.slope = if found.valid { found.slope.max(self.saddle.c) } else { self.saddle.c.max(slope) };
            if settled {
                break;
            }
        }
        if self.least.is_finite() { Ok(()) } else { Err(BELOW_ERROR) }
    }
}

/// One direction.
fn delta_of(losses: &[(Loss, f64)], epsilon: f64) -> Result<f64, DpError> {
    // A first look tells how small delta is, and so which mass may be left out.
    let rough = Sketch::new(losses, -700.0)?.for_epsilon(epsilon);
    let ln_mass = ln_infinite(losses, rough.ln_delta.min(0.0));
    let sketch = Sketch::new(losses, ln_mass)?;
    let saddle = sketch.for_epsilon(epsilon);
    let tail = Tail::new(losses, &sketch, saddle, ln_mass, saddle.c, DELTA_GOAL, LEN_MAX)?;
    Ok(round_up(tail.delta(epsilon)).min(1.0))
}

/// Logarithm of the mass of one step that may count as an infinite loss.
fn ln_infinite(losses: &[(Loss, f64)], ln_delta: f64) -> f64 {
    let steps: f64 = losses.iter().map(|loss| loss.1).sum();
    ln_delta - steps.ln() - MARGIN - 1.0
}

/// To know where to look closely.
const ROUGH: Fineness = Fineness { slack: 64.0, len_max: 1 << 15 };
/// For the figure.
const FINE: Fineness = Fineness { slack: 1.0, len_max: LEN_MAX };
const METHOD: &str = "privacy loss distribution";
const BELOW_ERROR: DpError =
    DpError::NotConverging { method: METHOD, why: "delta is below the error bound of the composition" };
const TOO_FINE: DpError = DpError::NotConverging { method: METHOD, why: "the grid would be too fine or too long" };
/// Relative slack of epsilon that the grid may use.
const EPSILON_GOAL: f64 = 1.5e-4;
/// Absolute slack of epsilon that the grid may use.
const EPSILON_FLOOR: f64 = 3e-6;
/// Relative slack of delta that the grid may use.
const DELTA_GOAL: f64 = 4e-4;
/// What wraps around is at most `e^-10` of delta.
const MARGIN: f64 = 10.0;
/// Looks at a tail before the best is taken.
const ATTEMPTS: u32 = 5;
/// Rounding grows with the number of releases; above this it is no longer far below what matters.
const RELEASES_MAX: u64 = 4_000_000_000;
/// Different events in one composition.
const KINDS_MAX: u64 = 256;
