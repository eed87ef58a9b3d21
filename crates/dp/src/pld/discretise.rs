//! A loss on a grid, by connecting the dots (Doroshenko et al. 2022, arXiv:2207.04380).
//!
//! Delta of a composition is `E[(1 - e^(eps - L_1 - ... - L_T))_+]`: a convex function of each `x = e^-L` when the others
//! are fixed. Mass at `L` between two dots is split among them such that mass and mean of `x` stay: a spread, under which
//! the mean of a convex function cannot fall. So delta on the grid is never below the truth, whatever the dots are; they
//! need not be neighbours on the grid, and are farther apart where the mass is thin. Both shares are integrals of
//! positive functions, by quadrature: nothing is a difference of two distribution functions.

use super::loss::{Density, Loss};

/// The grid: losses `origin + k step` for integers k.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dots {
    pub(crate) origin: f64,
    pub(crate) step: f64,
    /// Largest distance of dots, in losses.
    pub(crate) width_max: f64,
    /// Logarithm of the mass that may be counted as an infinite loss.
    pub(crate) ln_mass: f64,
}

/// A loss that only takes values on the grid, or is infinite.
#[derive(Debug, Clone)]
pub(crate) struct Gridded {
    /// Places, not sorted, and masses, raised by their error bound.
    pub(crate) masses: Vec<(i64, f64)>,
    /// Mass of an infinite loss.
    pub(crate) infinite: f64,
}

impl Dots {
    fn at(&self, place: i64) -> f64 {
        self.origin + place as f64 * self.step
    }

    fn place(&self, loss: f64) -> f64 {
        (loss - self.origin) / self.step
    }

    /// Puts a loss onto the grid; `None` if that takes more dots than are sensible.
    pub(crate) fn connect(&self, loss: &Loss) -> Option<Gridded> {
        let mut gridded = Gridded { masses: Vec::new(), infinite: loss.unlisted };
        for &(value, mass) in &loss.atoms {
            self.split_atom(value, mass, &mut gridded)?;
        }
        if let Some(density) = loss.density {
            self.split_density(density, &mut gridded)?;
        }
        gridded.masses.iter_mut().for_each(|mass| mass.1 *= 1.0 + MASS_ERROR);
        Some(gridded)
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked against PLACES_MAX")]
    fn split_atom(&self, value: f64, mass: f64, gridded: &mut Gridded) -> Option<()> {
        let place = self.place(value);
        if place.is_nan() || place.abs() > PLACES_MAX {
            return None;
        }
        let nearest = place.round();
        // On a dot, up to rounding, which the raised masses cover.
        if (place - nearest).abs() < 1e-9 && (place - nearest).abs() * self.step < 1e-14 {
            gridded.masses.push((nearest as i64, mass));
            return Some(());
        }
        let below = place.floor() as i64;
        let (low, high) = (self.at(below), self.at(below + 1));
        let upper = ((low - value).exp_m1() / (low - high).exp_m1()).clamp(0.0, 1.0);
        let lower = ((high - value).exp_m1() / (high - low).exp_m1()).clamp(0.0, 1.0);
        gridded.masses.extend([(below, mass * lower), (below + 1, mass * upper)]);
        Some(())
    }

    fn split_density(&self, density: Density, gridded: &mut Gridded) -> Option<()> {
        let interval = density.interval(self.ln_mass);
        let dots = self.dots(density, interval.low, interval.high, interval.centre)?;
        gridded.infinite += interval.above;
        // What lies below the interval is rounded up: the second dot is above its end.
        gridded.masses.push((dots[1], interval.below));
        let mut from = interval.low;
        let mut upper_before = 0.0;
        for pair in dots.windows(2) {
            let (low, high) = (self.at(pair[0]), self.at(pair[1]));
            let to = density.inverse(high).clamp(from, interval.high);
            let (lower, upper) = shares(density, (low, high), (from, to));
            gridded.masses.push((pair[0], upper_before + lower));
            upper_before = upper;
            from = to;
        }
        gridded.masses.push((*dots.last()?, upper_before));
        Some(())
    }

    /// Rising places from the dot below `low` to one above `high`.
    #[expect(clippy::cast_possible_truncation, reason = "checked against PLACES_MAX")]
    fn dots(&self, density: Density, low: f64, high: f64, centre: f64) -> Option<Vec<i64>> {
        let [first, last, centre] = [low, high, centre].map(|z| self.place(density.loss(z)));
        if !(first.abs() < PLACES_MAX && last.abs() < PLACES_MAX && centre.abs() < PLACES_MAX) {
            return None;
        }
        let (first, last, centre) = (first.floor() as i64, last.ceil() as i64, centre.round() as i64);
        let widest =
            (self.width_max / self.step).max((last - first) as f64 / DOTS_WANTED).clamp(1.0, PLACES_MAX) as i64;
        let width = |place: i64| ((place - centre).abs() / GROWTH).clamp(1, widest);
        let mut dots = Vec::new();
        let mut place = centre;
        while place > first {
            place -= width(place);
            dots.push(place);
            if dots.len() > DOTS_MAX {
                return None;
            }
        }
        dots.reverse();
        dots.push(centre);
        let mut place = centre;
        while place < last {
            place += width(place);
            dots.push(place);
            if dots.len() > DOTS_MAX {
                return None;
            }
        }
        if dots.len() == 1 {
            dots.push(centre + 1);
        }
        Some(dots)
    }
}

/// Masses for the lower and the upper dot of what lies between `z.0` and `z.1`: integrals of the density times
/// `(e^(high - L) - 1) / (e^(high - low) - 1)` and `(1 - e^(low - L)) / (1 - e^(low - high))`.
fn shares(density: Density, (low, high): (f64, f64), z: (f64, f64)) -> (f64, f64) {
    let length = z.1 - z.0;
    if length <= 0.0 {
        return (0.0, 0.0);
    }
    let widest = density.panel(z.0, z.1);
    let panels = (length / widest).ceil().max(1.0);
    let half = 0.5 * length / panels;
    // Errors fall like the power of the width that is twice the number of points.
    let rule: &[(f64, f64)] = if 2.0 * half < 0.06 * widest { &GAUSS_LEGENDRE_4 } else { &GAUSS_LEGENDRE_8 };
    let (mut lower, mut upper) = (0.0, 0.0);
    let mut panel = 0.0;
    while panel < panels {
        let middle = z.0 + (2.0 * panel + 1.0) * half;
        for &(node, weight) in rule {
            for at in [middle - half * node, middle + half * node] {
                let (mass, loss) = (weight * half * density.at(at), density.loss(at));
                lower += mass * (high - loss).exp_m1();
                upper -= mass * (low - loss).exp_m1();
            }
        }
        panel += 1.0;
    }
    ((lower / (high - low).exp_m1()).max(0.0), (upper / -(low - high).exp_m1()).max(0.0))
}

/// Relative error of a mass: of the exponentials of up to `-700` in it, and of the quadrature, which is far smaller.
const MASS_ERROR: f64 = 3e-13;
/// Dots are no farther apart than their distance from the bulk over this, in places of the grid.
const GROWTH: i64 = 64;
/// Places stay exact in doubles.
const PLACES_MAX: f64 = 1e15;
/// Dots of one loss, where they are as far apart as they may be.
const DOTS_WANTED: f64 = 12_000.0;
/// Dots of one loss, at most.
const DOTS_MAX: usize = 1 << 18;
/// Positive nodes and weights of the rule with 4 points.
const GAUSS_LEGENDRE_4: [(f64, f64); 2] =
    [(0.339_981_043_584_856_26, 0.652_145_154_862_546_1), (0.861_136_311_594_052_6, 0.347_854_845_137_453_85)];
/// The same for 8 points.
const GAUSS_LEGENDRE_8: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

#[cfg(test)]
mod tests {
    use super::super::directions;
    use super::*;
    use crate::event::{Event, Mechanism, Relation, Sampling, Unit};

    /// Mass, and the mean of `e^-L`, which is the mass under Q: both are 1 before and after, whatever the dots.
    #[test]
    fn connecting_dots_moves_neither_mass_nor_mean() {
        let poisson = |q| Sampling::Poisson { q };
        for (sampling, mechanism) in [
            (Sampling::None, Mechanism::Gaussian { sigma: 0.3 }),
            (Sampling::None, Mechanism::Gaussian { sigma: 20.0 }),
            (poisson(0.3), Mechanism::Gaussian { sigma: 0.5 }),
            (poisson(1e-6), Mechanism::Gaussian { sigma: 0.7 }),
            (poisson(0.99), Mechanism::Gaussian { sigma: 5.0 }),
            (Sampling::None, Mechanism::Laplace { scale: 0.2 }),
            (Sampling::None, Mechanism::Laplace { scale: 50.0 }),
            (Sampling::None, Mechanism::Pure { epsilon: 1.5 }),
            (Sampling::None, Mechanism::DiscreteGaussian { sigma2: 6.25, l2: 3.0, dim: 1 }),
            (Sampling::None, Mechanism::Skellam { mu: 4.0, l1: 1.0, l2: 1.0 }),
        ] {
            let event = Event::new(Unit::Record, Relation::ZeroOut, sampling, mechanism, 1).expect("in range");
            for loss in directions(&event).expect("it has a distribution") {
                for step in [1e-4, 0.013, 0.7] {
                    let dots = Dots { origin: 0.1 * step, step, width_max: 5.0 * step, ln_mass: -300.0 };
                    let gridded = dots.connect(&loss).expect("not too fine");
                    let mass: f64 = gridded.masses.iter().map(|point| point.1).sum();
                    let under_q: f64 = gridded.masses.iter().map(|&(place, mass)| mass * (-dots.at(place)).exp()).sum();
                    let what = format!("{sampling:?} {mechanism:?} step {step}: {mass} {under_q}");
                    assert!(gridded.masses.iter().all(|point| point.1 >= 0.0), "{what}");
                    // Raised by the bound on the error, so never below.
                    assert!(mass + gridded.infinite >= 1.0 && mass <= 1.0 + 2e-12, "{what}");
                    assert!((under_q - 1.0).abs() < 2e-12, "{what}");
                }
            }
        }
    }

    /// Delta of one step on the grid is never below the exact one, and near it for fine dots.
    #[test]
    fn the_grid_is_pessimistic() {
        let mechanism = Mechanism::Gaussian { sigma: 0.8 };
        let event = Event::new(Unit::Record, Relation::ZeroOut, Sampling::Poisson { q: 0.2 }, mechanism, 1);
        let loss = &directions(&event.expect("in range")).expect("it has a distribution")[0];
        for (step, above) in [(1e-3, 1.0001), (0.05, 1.05), (1.0, 10.0)] {
            let dots = Dots { origin: 0.0, step, width_max: step, ln_mass: -60.0 };
            let gridded = dots.connect(loss).expect("not too fine");
            for epsilon in [0.0, 0.03, 0.5, 1.77, 4.0] {
                let exact = crate::inversion::one_step_delta(0.2, 0.8, epsilon);
                let of = |&(place, mass): &(i64, f64)| mass * -(epsilon - dots.at(place)).min(0.0).exp_m1();
                let delta = gridded.infinite + gridded.masses.iter().map(of).sum::<f64>();
                assert!(delta >= exact && delta <= exact * above, "{step} {epsilon}: {delta} {exact}");
            }
        }
    }
}
