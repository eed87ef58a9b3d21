//! From Renyi curves to (epsilon, delta), and back to delta.
//!
//! Canonne, Kamath, Steinke 2020 (arXiv:2004.00010, Prop. 12), which is Balle et al. 2020 (arXiv:1905.09982, Theorem 21).
//! The older `r - ln(delta) / (alpha - 1)` is looser everywhere and is not here.

use crate::error::{DpError, check_delta, in_range};
use crate::rdp::Orders;

/// An epsilon and the order that it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Converted {
    /// In nats, rounded up.
    pub epsilon: f64,
    /// The order that gave the least.
    pub order: f64,
    /// The least lies at an end of the list: more orders might give less. The figure is valid, if not tight.
    pub at_the_end: bool,
}

/// A delta and the order that it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvertedDelta {
    /// A probability, rounded up.
    pub delta: f64,
    /// The order that gave the least.
    pub order: f64,
}

/// What a conversion at one delta needs of each order, made once.
#[derive(Debug, Clone)]
pub struct Conversion {
    orders: Orders,
    delta: f64,
    /// Divergences below this are paid for by delta alone, at any order: the total variation is at most `sqrt(1 - e^-r)`
    /// (Bretagnolle, Huber).
    free: f64,
    /// `ln(1 - 1/a) - ln(delta a) / (a - 1)`, raised by its rounding error; infinity for orders that are skipped.
    offsets: Vec<f64>,
}

impl Conversion {
    /// # Errors
    /// [`DpError::OutOfRange`] for a delta outside of (0, 1).
    pub fn new(orders: Orders, delta: f64) -> Result<Self, DpError> {
        check_delta(delta)?;
        let offsets = orders.as_slice().iter().map(|&alpha| offset(alpha, delta)).collect();
        let free = -(-delta * delta).ln_1p() * (1.0 - crate::numeric::SLACK);
        Ok(Self { orders, delta, free, offsets })
    }

    /// The orders.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The delta.
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// The least epsilon over all orders, for divergences `rdp`, one for each order, in nats; infinity if none of them says
    /// anything.
    pub fn epsilon(&self, rdp: impl Iterator<Item = f64>) -> Converted {
        let orders = self.orders.as_slice();
        let (mut least, mut at_least) = (f64::INFINITY, 0);
        for (at, (divergence, offset)) in rdp.zip(&self.offsets).enumerate() {
            // An order that is skipped, or that says nothing.
            if offset.is_infinite() || divergence.is_nan() {
                continue;
            }
            let epsilon = if divergence < self.free { 0.0 } else { divergence + offset };
            if epsilon.max(0.0) < least {
                (least, at_least) = (epsilon.max(0.0), at);
            }
        }
        let epsilon = crate::numeric::round_up(least);
        Converted { epsilon, order: orders[at_least], at_the_end: at_least == 0 || at_least + 1 == orders.len() }
    }
}

/// The least epsilon of a curve: `min over a of r + ln(1 - 1/a) - ln(delta a) / (a - 1)`, orders below 1.01 skipped.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad delta or a divergence that is negative or NaN; [`DpError::BadOrders`] if there are
/// not as many divergences as orders.
pub fn epsilon_from_rdp(orders: &Orders, rdp: &[f64], delta: f64) -> Result<Converted, DpError> {
    check_curve(orders, rdp)?;
    Ok(Conversion::new(orders.clone(), delta)?.epsilon(rdp.iter().copied()))
}

/// The least delta of a curve at `epsilon`: over orders, of `exp((a-1)(r - eps + ln(1-1/a)) - ln a)` and of
/// `sqrt(1 - e^-r)`, at most 1.
///
/// # Errors
/// As [`epsilon_from_rdp`].
pub fn delta_from_rdp(orders: &Orders, rdp: &[f64], epsilon: f64) -> Result<ConvertedDelta, DpError> {
    check_curve(orders, rdp)?;
    in_range("epsilon", epsilon, 0.0, f64::MAX)?;
    let mut least = ConvertedDelta { delta: 1.0, order: orders.as_slice()[0] };
    for (&order, &divergence) in orders.as_slice().iter().zip(rdp) {
        if order < ORDER_USED_MIN {
            continue;
        }
        let ln_delta = (order - 1.0) * (divergence - epsilon + (-1.0 / order).ln_1p()) - order.ln();
        let total_variation = (-(-divergence).exp_m1()).sqrt();
        // The exponent may be large: its own rounding is what counts.
        let delta = (ln_delta + ln_delta.abs() * ROUNDING).exp().min(total_variation);
        if delta < least.delta {
            least = ConvertedDelta { delta, order };
        }
    }
    least.delta = crate::numeric::round_up(least.delta).min(1.0);
    Ok(least)
}

fn check_curve(orders: &Orders, rdp: &[f64]) -> Result<(), DpError> {
    if orders.as_slice().len() != rdp.len() {
        return Err(DpError::BadOrders { at: rdp.len(), order: f64::NAN });
    }
    rdp.iter().try_for_each(|&divergence| in_range("divergence", divergence, 0.0, f64::INFINITY).map(drop))
}

fn offset(alpha: f64, delta: f64) -> f64 {
    if alpha < ORDER_USED_MIN {
        return f64::INFINITY;
    }
    let (first, second) = ((-1.0 / alpha).ln_1p(), (delta.ln() + alpha.ln()) / (alpha - 1.0));
    first - second + (first.abs() + second.abs()) * ROUNDING
}

/// Orders nearer to 1 give nothing but rounding errors.
const ORDER_USED_MIN: f64 = 1.01;
/// Relative rounding error of a sum of few terms.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
