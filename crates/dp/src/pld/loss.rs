//! Dominating pairs: the law of the privacy loss `L = ln(dP/dQ)` under P, in one direction.

use std::f64::consts::PI;

use crate::error::DpError;
use crate::event::{Event, Mechanism, Sampling};
use crate::numeric::{ln_normal_tail, normal_tail};
use crate::rdp::integer::{at_integer, ln_skellam};

/// One direction of a pair: masses at points, and at most one part with a density.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    /// Loss and mass, under P.
    pub(crate) atoms: Vec<(f64, f64)>,
    pub(crate) density: Option<Density>,
    /// Distance between atoms where they lie on a lattice, else 0.
    pub(crate) spacing: f64,
    /// Mass of points that are not listed, at most; to be counted as an infinite loss.
    pub(crate) unlisted: f64,
}

/// The part with a density, over a variable `z` in which the loss rises.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Density {
    /// P: the mixture, Q: `N(0, sigma^2)`. `q = 1` is the mechanism without sampling, whose directions are alike.
    Remove { q: f64, sigma: f64 },
    /// P: `N(0, sigma^2)`, Q: the mixture; `z` is the noise with its sign turned.
    Add { q: f64, sigma: f64 },
    /// Between the atoms of Laplace noise: `z` in (0, 1) is the distance from the far end.
    Laplace { scale: f64 },
}

impl Density {
    /// The loss at `z`.
    pub(crate) fn loss(self, z: f64) -> f64 {
        match self {
            Self::Remove { q, sigma } => mixture_loss(q, sigma, z),
            Self::Add { q, sigma } => -mixture_loss(q, sigma, -z),
            Self::Laplace { scale } => (2.0 * z - 1.0) / scale,
        }
    }

    /// Where the loss is `l`; an infinity where it is nowhere so small, or so large.
    pub(crate) fn inverse(self, l: f64) -> f64 {
        match self {
            Self::Remove { q, sigma } => mixture_inverse(q, sigma, l),
            Self::Add { q, sigma } => -mixture_inverse(q, sigma, -l),
            Self::Laplace { scale } => 0.5 * (1.0 + l * scale),
        }
    }

    /// The density of `z` under P.
    pub(crate) fn at(self, z: f64) -> f64 {
        match self {
            Self::Remove { q, sigma } => {
                let (far, near) = (z / sigma, (z - 1.0) / sigma);
                let one = if q < 1.0 { (1.0 - q) * (-0.5 * far * far).exp() } else { 0.0 };
                (one + q * (-0.5 * near * near).exp()) / (sigma * (2.0 * PI).sqrt())
            }
            Self::Add { sigma, .. } => (-0.5 * (z / sigma).powi(2)).exp() / (sigma * (2.0 * PI).sqrt()),
            Self::Laplace { scale } => ((z - 1.0) / scale).exp() / (2.0 * scale),
        }
    }

    /// An interval that leaves out at most `e^ln_mass` at either end, and the masses left out below and above.
    pub(crate) fn interval(self, ln_mass: f64) -> Interval {
        let reach = (-2.0 * ln_mass).max(1.0).sqrt();
        match self {
            Self::Remove { q, sigma } => {
                let (low, high) = (-reach * sigma, 1.0 + reach * sigma);
                let low = if q == 1.0 { 1.0 + low } else { low };
                let centre = if q == 1.0 { 1.0 } else { 0.0 };
                let above = (1.0 - q) * normal_tail(high / sigma) + q * normal_tail(reach);
                Interval { low, high, below: normal_tail(reach), above, centre }
            }
            Self::Add { sigma, .. } => {
                let tail = ln_normal_tail(reach).exp();
                Interval { low: -reach * sigma, high: reach * sigma, below: tail, above: tail, centre: 0.0 }
            }
            Self::Laplace { .. } => Interval { low: 0.0, high: 1.0, below: 0.0, above: 0.0, centre: 0.5 },
        }
    }

    /// The width over which the loss does not bend much.
    pub(crate) fn scale(self) -> f64 {
        match self {
            Self::Remove { q: 1.0, sigma } => sigma,
            Self::Remove { sigma, .. } | Self::Add { sigma, .. } => sigma.min(sigma * sigma),
            Self::Laplace { scale } => scale.min(1.0),
        }
    }

    /// The width of a panel between `low` and `high` on which a rule of 8 points is exact: the logarithm of the density
    /// changes by at most 2.4 over it.
    pub(crate) fn panel(self, low: f64, high: f64) -> f64 {
        let steepest = match self {
            Self::Remove { sigma, .. } | Self::Add { sigma, .. } => (low.abs().max(high.abs()) + 1.0) / (sigma * sigma),
            Self::Laplace { scale } => 1.0 / scale,
        };
        (0.5 * self.scale()).min(2.4 / steepest)
    }
}

impl Loss {
    /// No loss is larger; infinity if any can be.
    pub(crate) fn most(&self) -> f64 {
        let of_density = match self.density {
            None => f64::NEG_INFINITY,
            Some(Density::Laplace { scale }) => 1.0 / scale,
            Some(Density::Remove { .. } | Density::Add { q: 1.0, .. }) => f64::INFINITY,
            // That no unit was drawn is at most this much likelier.
            Some(Density::Add { q, .. }) => -(-q).ln_1p(),
        };
        let listed = if self.unlisted > 0.0 { f64::INFINITY } else { f64::NEG_INFINITY };
        self.atoms.iter().map(|atom| atom.0).fold(of_density.max(listed), f64::max)
    }
}

/// Where almost all of a density lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Mass below, at most.
    pub(crate) below: f64,
    /// Mass above, at most.
    pub(crate) above: f64,
    /// In the bulk.
    pub(crate) centre: f64,
}

/// `ln(1 - q + q e^t)` with `t = (2z - 1) / (2 sigma^2)`.
fn mixture_loss(q: f64, sigma: f64, z: f64) -> f64 {
    let t = (z - 0.5) / (sigma * sigma);
    if q == 1.0 {
        t
    } else if t > 600.0 {
        q.ln() + t
    } else {
        (q * t.exp_m1()).ln_1p()
    }
}

fn mixture_inverse(q: f64, sigma: f64, l: f64) -> f64 {
    if q == 1.0 {
        return l * sigma * sigma + 0.5;
    }
    // e^t = 1 + (e^l - 1) / q
    let t = if l > 600.0 { l - q.ln() } else { (l.exp_m1() / q).max(-1.0).ln_1p() };
    t * sigma * sigma + 0.5
}

/// The directions of an event's dominating pair that have to be composed: one, if they are alike.
///
/// Gaussian with or without Poisson sampling, Laplace, pure and scalar integer noise have one; for the rest only bounds
/// on Renyi divergences are known here.
pub(crate) fn directions(event: &Event) -> Result<Vec<Loss>, DpError> {
    let no = |why| Err(DpError::NoLossDistribution(why));
    let density = |density| Loss { atoms: Vec::new(), density: Some(density), spacing: 0.0, unlisted: 0.0 };
    match (event.sampling(), event.effective_mechanism()) {
        (Sampling::FixedWor { sample, population }, _) if sample < population => {
            no("samples of fixed size are bounded by Renyi orders only")
        }
        (_, Mechanism::Gaussian { sigma }) if sigma < SIGMA_MIN => no("sigma is below 0.05"),
        (Sampling::Poisson { q }, Mechanism::Gaussian { sigma }) if q < 1.0 => {
            Ok(vec![density(Density::Remove { q, sigma }), density(Density::Add { q, sigma })])
        }
        (Sampling::Poisson { q }, _) if q < 1.0 => no("Poisson samples are composed for Gaussian noise only"),
        (_, Mechanism::Gaussian { sigma }) => Ok(vec![density(Density::Remove { q: 1.0, sigma })]),
        (_, Mechanism::Laplace { scale }) => Ok(vec![laplace(scale)]),
        (_, Mechanism::Pure { epsilon }) => Ok(vec![randomised_response(epsilon)]),
        (_, Mechanism::DiscreteGaussian { sigma2, l2, dim: 1 })
            if l2.fract() == 0.0 && sigma2 <= ATOMS_VARIANCE_MAX =>
        {
            Ok(vec![discrete_gaussian(sigma2, l2)])
        }
        (_, Mechanism::Skellam { mu, l1, l2 })
            if l1 == l2 && l2.fract() == 0.0 && mu <= ATOMS_VARIANCE_MAX && l2 <= SHIFT_MAX =>
        {
            // Norms that are equal leave one coordinate that moves.
            Ok(vec![skellam(mu, l2)?])
        }
        _ => no("integer noise on vectors is bounded by Renyi orders only"),
    }
}

/// `P: Lap(0)`, `Q: Lap(1)`: half of the mass of P, and its share of what lies beyond Q's centre, sit at the ends.
fn laplace(scale: f64) -> Loss {
    let epsilon = 1.0 / scale;
    let atoms = vec![(-epsilon, 0.5 * (-epsilon).exp()), (epsilon, 0.5)];
    Loss { atoms, density: Some(Density::Laplace { scale }), spacing: 0.0, unlisted: 0.0 }
}

/// Dominates every `epsilon`-DP mechanism (Kairouz, Oh, Viswanath 2015).
fn randomised_response(epsilon: f64) -> Loss {
    let low = 1.0 / (1.0 + epsilon.exp());
    let atoms = vec![(-epsilon, low), (epsilon, 1.0 / (1.0 + (-epsilon).exp()))];
    Loss { atoms, density: None, spacing: 2.0 * epsilon, unlisted: 0.0 }
}

/// Loss of k: `((k - s)^2 - k^2) / (2 sigma2)`.
fn discrete_gaussian(sigma2: f64, shift: f64) -> Loss {
    let far = (ATOMS_REACH * sigma2.sqrt()).ceil().max(40.0);
    let (mut total, mut atoms) = (0.0, Vec::new());
    let mut k = -far;
    while k <= far {
        let mass = (-0.5 * k * k / sigma2).exp();
        total += mass;
        atoms.push((shift * (shift - 2.0 * k) / (2.0 * sigma2), mass));
        k += 1.0;
    }
    atoms.iter_mut().for_each(|atom| atom.1 /= total);
    atoms.reverse();
    Loss { atoms, density: None, spacing: shift / sigma2, unlisted: f64::MIN_POSITIVE }
}

/// Loss of k: `ln p(k) - ln p(k - s)`, with `p(k) = e^-mu I_|k|(mu)`.
fn skellam(mu: f64, shift: f64) -> Result<Loss, DpError> {
    let far = (ATOMS_REACH * mu.sqrt()).ceil() + 60.0;
    let ln_p = ln_skellam(mu, far + shift);
    let at = |k: f64| at_integer(&ln_p, k);
    let mut atoms = Vec::new();
    let mut k = far;
    while k >= -far {
        // A loss that a shift against the drift makes larger the farther out: masses fall much faster.
        let mass = at(k).exp();
        if mass > 0.0 {
            atoms.push((at(k) - at(k - shift), mass));
        }
        k -= 1.0;
    }
    if atoms.is_empty() {
        return Err(DpError::NotConverging { method: "Skellam masses", why: "all underflow" });
    }
    // Ratios of neighbours only fall: a geometric series from the last.
    Ok(Loss { atoms, density: None, spacing: 0.0, unlisted: 4.0 * at(far).exp() + f64::MIN_POSITIVE })
}

/// Below this the panels of the quadrature become too many.
const SIGMA_MIN: f64 = 0.05;
/// Largest variance of integer noise that is composed by its masses.
const ATOMS_VARIANCE_MAX: f64 = 1e6;
const SHIFT_MAX: f64 = 1e6;
/// Standard deviations of integer noise; what is left out is below `e^-700`.
const ATOMS_REACH: f64 = 38.0;
