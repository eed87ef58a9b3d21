//! Least squares: a line through measured points.

use serde::Serialize;

/// `y = a + b x`, and how far it is off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// Root of the mean square of what is left, in the unit of y.
    pub(crate) residual: f64,
}

impl Line {
    /// The best line through the points; `None` through fewer than 3, or where all have one x.
    pub(crate) fn through(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        if points.len() < 3 || spread == 0.0 {
            return None;
        }
        let b = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let a = y - b * x;
        let squares: f64 = points.iter().map(|point| (point.1 - a - b * point.0).powi(2)).sum();
        Some(Self { a, b, residual: (squares / n).sqrt() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_what_is_off_is_told() {
        let line = Line::through(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]).unwrap();
        assert!((line.a - 3.0).abs() < 1e-12 && (line.b - 2.0).abs() < 1e-12 && line.residual < 1e-12);
        // Off by 1, -2 and 1 from 1 + x.
        let line = Line::through(&[(0.0, 2.0), (1.0, 0.0), (2.0, 4.0)]).unwrap();
        assert!((line.a - 1.0).abs() < 1e-12 && (line.b - 1.0).abs() < 1e-12);
        assert!((line.residual - 2f64.sqrt()).abs() < 1e-12);
        for points in [&[(1.0, 1.0), (2.0, 2.0)][..], &[(1.0, 1.0); 3]] {
            assert_eq!(Line::through(points), None);
        }
    }
}
