//! How much noise, or how many rounds, a target allows: always on the safe side, always checked forward.

use crate::compose::{Accountant, Budget};
use crate::error::{DpError, count_in_range, in_range};
use crate::event::{COUNT_MAX, Event, Mechanism, Relation, SCALE_MAX, SCALE_MIN, Sampling, Unit};
use crate::events::Events;
use crate::numeric::round_up;
use crate::pld;
use crate::rdp::Orders;

/// Rounds that are to share a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Whose presence is hidden.
    pub unit: Unit,
    /// Which data sets are neighbours.
    pub relation: Relation,
    /// How units come into a round.
    pub sampling: Sampling,
    /// Rounds, at least 1.
    pub rounds: u64,
}

impl Plan {
    /// All rounds with Gaussian noise of multiplier `sigma`.
    ///
    /// # Errors
    /// As [`Event::new`].
    pub fn event(&self, sigma: f64) -> Result<Event, DpError> {
        Event::new(self.unit, self.relation, self.sampling, Mechanism::Gaussian { sigma }, self.rounds)
    }

    /// The standard deviation of noise on a sum of vectors clipped to `clip_norm` that is `sigma` times its sensitivity,
    /// rounded up.
    ///
    /// # Errors
    /// [`DpError::OutOfRange`] for a multiplier or a clip norm that is not accepted.
    pub fn noise_std(&self, sigma: f64, clip_norm: f64) -> Result<f64, DpError> {
        in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
        in_range("clip norm", clip_norm, SCALE_MIN, SCALE_MAX)?;
        Ok(round_up(sigma * self.relation.sensitivity(clip_norm)))
    }

    /// The largest clip norm for which noise of standard deviation `noise_std` is `sigma` times the sum's sensitivity,
    /// rounded down.
    ///
    /// # Errors
    /// As [`Plan::noise_std`].
    pub fn clip_norm(&self, sigma: f64, noise_std: f64) -> Result<f64, DpError> {
        in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
        let clip_norm = noise_std / round_up(sigma * self.relation.sensitivity(1.0));
        in_range("clip norm", clip_norm, SCALE_MIN, SCALE_MAX)
    }
}

/// A noise multiplier and what it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrated {
    /// Noise standard deviation over sensitivity.
    pub sigma: f64,
    /// Epsilon of the plan with it: at most the target.
    pub epsilon: f64,
    /// The best Renyi order is an end of the list: another accountant may need much less noise.
    pub at_the_end: bool,
}

/// The least noise multiplier with which a plan fits a budget by Renyi orders.
///
/// # Errors
/// [`DpError::Unreachable`] if no accepted multiplier does; otherwise as [`Event::new`].
pub fn sigma(plan: &Plan, budget: Budget, orders: &Orders) -> Result<Calibrated, DpError> {
    sigma_after(&Accountant::with_orders(budget.delta(), orders.clone())?, plan, budget)
}

/// The least noise multiplier with which a plan fits into what an accountant leaves of a budget, by its orders. For noise
/// that follows the remaining budget: what is spent is public, so the multiplier is.
///
/// # Errors
/// [`DpError::OutOfRange`] if the accountant's delta is not the budget's; [`DpError::Unreachable`] if no accepted
/// multiplier fits; otherwise as [`Accountant::with`].
pub fn sigma_after(before: &Accountant, plan: &Plan, budget: Budget) -> Result<Calibrated, DpError> {
    in_range("delta of the accountant", before.delta(), budget.delta(), budget.delta())?;
    least_sigma(budget, RDP_TOLERANCE, |sigma| {
        let spent = before.with(&plan.event(sigma)?)?;
        Ok((spent.epsilon, spent.at_the_end))
    })
}

/// The least noise multiplier with which whole rounds fit into what an accountant leaves of a budget, by its orders.
///
/// - `events`: all that is still to be released with a multiplier, such as the update of every round that is left, with
///   the metrics beside it, whose noise may be another. Its cost must fall as the multiplier grows.
///
/// # Errors
/// As [`sigma_after`]; in particular [`DpError::Unreachable`] where what does not depend on the multiplier is too much by
/// itself.
pub fn multiplier_after(
    before: &Accountant,
    budget: Budget,
    events: impl Fn(f64) -> Result<Events, DpError>,
) -> Result<Calibrated, DpError> {
    in_range("delta of the accountant", before.delta(), budget.delta(), budget.delta())?;
    least_sigma(budget, RDP_TOLERANCE, |sigma| {
        let spent = before.with_all(&events(sigma)?)?;
        Ok((spent.epsilon, spent.at_the_end))
    })
}

/// The least noise multiplier with which a plan fits a budget by privacy loss distributions: less noise than [`sigma()`],
/// at some 100 ms.
///
/// # Errors
/// As [`sigma()`], and [`DpError::NoLossDistribution`] where only Renyi orders are known.
pub fn sigma_tight(plan: &Plan, budget: Budget) -> Result<Calibrated, DpError> {
    least_sigma(budget, TIGHT_TOLERANCE, |sigma| {
        Ok((pld::epsilon(&[plan.event(sigma)?], budget.delta())?.epsilon, false))
    })
}

/// The largest number of equal rounds that fits a budget by Renyi orders, after what an accountant has seen already; 0 if
/// not even one does.
///
/// # Errors
/// [`DpError::OutOfRange`] if the accountant's delta is not the budget's; otherwise as [`Accountant::with`].
pub fn rounds(before: &Accountant, round: &Events, budget: Budget) -> Result<u64, DpError> {
    in_range("delta of the accountant", before.delta(), budget.delta(), budget.delta())?;
    let releases = round.iter().map(Event::count).fold(0, u64::saturating_add);
    let fits = |rounds: u64| -> Result<bool, DpError> {
        let count = releases.saturating_mul(rounds);
        count_in_range("releases together", before.releases().saturating_add(count), 1, COUNT_MAX)?;
        Ok(budget.allows(&before.with_all(&round.times(rounds)?)?))
    };
    let most = (COUNT_MAX - before.releases()) / releases;
    let (mut low, mut high) = (0, 1);
    while high <= most && fits(high)? {
        (low, high) = (high, high * 2);
    }
    high = high.min(most + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// The least sigma whose cost is at most the target, to a relative `tolerance`, from above.
///
/// Cost falls with noise. A bracket is found by doubling, then narrowed by false position on logarithms (Illinois), which
/// takes about eight evaluations; each end of the bracket is an evaluated one, so the result is checked by being found.
fn least_sigma(
    budget: Budget,
    tolerance: f64,
    cost: impl Fn(f64) -> Result<(f64, bool), DpError>,
) -> Result<Calibrated, DpError> {
    let target = budget.epsilon();
    let probe = |ln_sigma: f64| -> Result<Probe, DpError> {
        let sigma = ln_sigma.exp().clamp(SCALE_MIN, SCALE_MAX);
        let (epsilon, at_the_end) = cost(sigma)?;
        // A cost of 0 has no logarithm; it is far below any target.
        Ok(Probe {
            ln_sigma: sigma.ln(),
            sigma,
            epsilon,
            at_the_end,
            gap: epsilon.max(target * 1e-3).min(1e9).ln() - target.ln(),
        })
    };
    let mut low = probe(0.0)?;
    let mut high = low;
    let mut stride = 0.7;
    while high.epsilon > target {
        if high.sigma >= SCALE_MAX {
            let (least, most) = (SCALE_MIN, SCALE_MAX);
            return Err(DpError::Unreachable { what: "sigma", least, most, epsilon: target, delta: budget.delta() });
        }
        low = high;
        high = probe(high.ln_sigma + stride)?;
        stride *= 1.6;
    }
    stride = 0.7;
    while low.epsilon <= target {
        if low.sigma <= SCALE_MIN {
            return Ok(low.result());
        }
        high = low;
        low = probe(low.ln_sigma - stride)?;
        stride *= 1.6;
    }
    let mut last_side = 0;
    for round in 0..SEARCH_MAX {
        if high.ln_sigma - low.ln_sigma <= tolerance {
            break;
        }
        let width = high.ln_sigma - low.ln_sigma;
        let share = if round % 8 == 7 { 0.5 } else { low.gap / (low.gap - high.gap) };
        // Aims a little above the root, so that the upper end moves too.
        let aim = low.ln_sigma + (share * width).clamp(0.02 * width, 0.98 * width).max(0.0) + 0.2 * tolerance;
        let next = probe(aim.clamp(low.ln_sigma + 0.1 * tolerance, high.ln_sigma - 0.1 * tolerance))?;
        if next.epsilon <= target {
            high = next;
            if last_side == 1 {
                low.gap *= 0.5;
            }
            last_side = 1;
        } else {
            low = next;
            if last_side == -1 {
                high.gap *= 0.5;
            }
            last_side = -1;
        }
    }
    Ok(high.result())
}

/// One evaluation.
#[derive(Debug, Clone, Copy)]
struct Probe {
    ln_sigma: f64,
    sigma: f64,
    epsilon: f64,
    at_the_end: bool,
    /// Logarithm of cost over target; halved by the search now and then.
    gap: f64,
}

impl Probe {
    fn result(self) -> Calibrated {
        Calibrated { sigma: self.sigma, epsilon: self.epsilon, at_the_end: self.at_the_end }
    }
}

/// Relative width at which a search by Renyi orders ends.
const RDP_TOLERANCE: f64 = 1e-8;
/// The same for the privacy loss distribution, whose own pessimism is larger.
const TIGHT_TOLERANCE: f64 = 2e-5;
/// More than any search takes: one in eight rounds halves the bracket.
const SEARCH_MAX: u32 = 400;
