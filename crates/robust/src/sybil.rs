//! An alarm for Sybils: clients whose histories point the same way (FoolsGold, Fung et al. 2020).
//!
//! Not an aggregator, on purpose: it punishes honest clients for agreeing, and is beaten by anything but Sybils (13.8 % accuracy
//! under one attack where the mean has 94 % without). As an alarm it says who to look at.

use crate::Gram;

/// FoolsGold's weight of each client, of the Gram matrix of sums of its updates over past rounds: near 0 for those that have a
/// twin, 1 for those that have none. Clients without a history have no twin.
#[must_use]
pub fn similarity_weights(histories: &Gram) -> Vec<f64> {
    let n = histories.len();
    let moved = |i: usize| histories.norms()[i] > 0.0;
    let cosine = |i: usize, j: usize| if moved(i) && moved(j) { histories.cosine(i, j) } else { 0.0 };
    let others = |i: usize| (0..n).filter(move |&j| j != i);
    let closest: Vec<f64> = (0..n).map(|i| others(i).map(|j| cosine(i, j)).fold(f64::NEG_INFINITY, f64::max)).collect();
    let mut weights: Vec<f64> = (0..n)
        .map(|i| {
            let pardoned = others(i).map(|j| {
                let cosine = cosine(i, j);
                if 0.0 < closest[i] && closest[i] < closest[j] { cosine * closest[i] / closest[j] } else { cosine }
            });
            let most = pardoned.fold(f64::NEG_INFINITY, f64::max);
            let weight = (1.0 - most).clamp(0.0, 1.0);
            // Equal directions have cosine 1 up to rounding; the difference is nobody's merit.
            if weight <= histories.resolution() { 0.0 } else { weight }
        })
        .collect();
    let largest = weights.iter().fold(0.0, |largest: f64, weight| largest.max(*weight));
    if largest > 0.0 {
        weights.iter_mut().for_each(|weight| {
            let scaled = (*weight / largest).min(0.99);
            *weight = ((scaled / (1.0 - scaled) + 1e-5).ln() + 0.5).clamp(0.0, 1.0);
        });
    }
    weights
}
