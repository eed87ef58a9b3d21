//! Lists of orders.

use std::sync::Arc;

use super::{ORDER_MAX, ORDER_MIN};
use crate::error::DpError;

/// A list of orders, each above the one before it; cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders(Arc<[f64]>);

impl Orders {
    /// Checks and takes a list.
    ///
    /// # Errors
    /// [`DpError::BadOrders`] unless there is at least one, all lie in (1, 10^9] and rise.
    pub fn new(orders: Vec<f64>) -> Result<Self, DpError> {
        if orders.is_empty() {
            return Err(DpError::BadOrders { at: 0, order: f64::NAN });
        }
        let mut before = 1.0;
        for (at, &order) in orders.iter().enumerate() {
            if !(ORDER_MIN..=ORDER_MAX).contains(&order) || order <= before {
                return Err(DpError::BadOrders { at, order });
            }
            before = order;
        }
        Ok(Self(orders.into()))
    }

    /// The orders, rising.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

impl Default for Orders {
    fn default() -> Self {
        default_orders()
    }
}

/// The list that accountants of other packages use (1.1 to 10.9 by tenths, 11 to 63, powers of two to 1024), made denser
/// above 64 and longer: with 1024 as the last order, no noise reaches an epsilon below `ln(1 / (1024 delta)) / 1023`.
pub fn default_orders() -> Orders {
    let tenths = (11..110).map(|tenth| f64::from(tenth) / 10.0);
    let units = (11..64).map(f64::from);
    let above = ABOVE_64.iter().map(|&order| f64::from(order));
    Orders(tenths.chain(units).chain(above).collect())
}

const ABOVE_64: &[u32] = &[
    64, 72, 80, 88, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048, 3072, 4096,
    6144, 8192, 16_384, 32_768, 65_536, 131_072, 262_144,
];
