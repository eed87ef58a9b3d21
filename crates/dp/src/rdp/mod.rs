//! Renyi differential privacy: the divergence of a release at each order.
//!
//! The cost of a release is a curve over orders alpha > 1, in nats; curves of releases add up (Mironov 2017,
//! arXiv:1702.07476). Everything here is exact or an upper bound, at every real order.

mod amplified;
mod closed;
pub(crate) mod integer;
mod orders;
mod sampled_gaussian;

pub use amplified::{poisson_amplified, wor_gaussian};
pub use closed::{discrete_gaussian_sum, discrete_gaussian_tau, gaussian, laplace, pure, skellam};
pub use integer::{discrete_gaussian_exact, skellam_exact};
pub use orders::{Orders, default_orders};
pub use sampled_gaussian::sampled_gaussian;

use crate::error::{DpError, in_range};
use crate::event::{Event, Mechanism, Sampling};
use crate::numeric::round_up;

/// The divergences of one release of the event's kind, at each of `orders`, rounded up. The event's count is not in it.
///
/// An order at which evaluation would cost more than it can bring holds infinity, which no conversion picks.
pub fn curve(event: &Event, orders: &Orders) -> Vec<f64> {
    let mut values = match (event.sampling(), event.effective_mechanism()) {
        (Sampling::Poisson { q }, Mechanism::Gaussian { sigma }) if q < 1.0 => {
            sampled_gaussian::curve(q, sigma, orders.as_slice())
        }
        (Sampling::Poisson { q }, mechanism) if q < 1.0 => {
            amplified::poisson_curve(q, |alpha| plain(mechanism, alpha), orders.as_slice())
        }
        (Sampling::FixedWor { sample, population }, Mechanism::Gaussian { sigma }) if sample < population => {
            amplified::wor_curve(sample, population, sigma, orders.as_slice())
        }
        (_, mechanism) => orders.as_slice().iter().map(|&alpha| plain(mechanism, alpha)).collect(),
    };
    values.iter_mut().for_each(|value| *value = round_up(*value));
    values
}

/// The divergence of all the releases of an event at one order, rounded up.
///
/// # Errors
/// [`DpError::OutOfRange`] for an order that is not a finite number above 1.
pub fn divergence(event: &Event, alpha: f64) -> Result<f64, DpError> {
    let orders = Orders::new(vec![check_order(alpha)?])?;
    Ok(round_up(curve(event, &orders)[0] * event.count() as f64))
}

/// Without sampling.
fn plain(mechanism: Mechanism, alpha: f64) -> f64 {
    match mechanism {
        Mechanism::Gaussian { sigma } => closed::gaussian_at(sigma, alpha),
        Mechanism::Laplace { scale } => closed::laplace_at(scale, alpha),
        Mechanism::Pure { epsilon } => closed::pure_at(epsilon, alpha),
        Mechanism::DiscreteGaussian { sigma2, l2, .. } => alpha * l2 * l2 / (2.0 * sigma2),
        Mechanism::DiscreteGaussianSum { parties, sigma2, l1, l2, dim } => {
            closed::discrete_gaussian_sum_at(parties, sigma2, l1, l2, dim, alpha)
        }
        Mechanism::Skellam { mu, l1, l2 } => closed::skellam_at(mu, l1, l2, alpha),
    }
}

fn check_order(alpha: f64) -> Result<f64, DpError> {
    in_range("order", alpha, ORDER_MIN, ORDER_MAX)
}

/// Just above 1: nearer, the quotient by `alpha - 1` has no digits left.
pub(crate) const ORDER_MIN: f64 = 1.0 + 1e-9;
/// Far beyond any order that a conversion picks.
pub(crate) const ORDER_MAX: f64 = 1e9;
