//! Runs beside each other.

use crate::federation::Error;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Results of `work` for `0..count`, in this order, on [`THREADS`] threads; fewer where a thread was cut off.
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> Result<T, Error> + Sync) -> Vec<Result<T, Error>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let result = work(at);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A small machine has two cores.
const THREADS: usize = 2;
