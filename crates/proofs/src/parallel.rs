//! Work over several threads, with the same bits for any number of them.
//!
//! Threads share nothing that changes and end with the call.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Splits `0..len` into at most `threads` ranges, works on each, and returns the results in their order.
pub(crate) fn ranges<T: Send>(threads: NonZeroUsize, len: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let step = len.div_ceil(threads.get()).max(1);
    let mut ranges = (0..len).step_by(step).map(|start| start..(start + step).min(len));
    let Some(first) = ranges.next() else { return Vec::new() };
    let rest: Vec<_> = ranges.collect();
    if rest.is_empty() {
        return vec![work(first)];
    }
    let work = &work;
    #[allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "they end with the call, and any number of them gives the same bits"
    )]
    std::thread::scope(|scope| {
        let started: Vec<_> = rest
            .into_iter()
            .map(|range| {
                let again = range.clone();
                // Where the system gives no more threads, the work is done here.
                (std::thread::Builder::new().spawn_scoped(scope, move || work(range)).ok(), again)
            })
            .collect();
        let mut results = vec![work(first)];
        for (thread, range) in started {
            results.push(match thread {
                Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                None => work(range),
            });
        }
        results
    })
}

/// Results of work on each index, in order.
pub(crate) fn map<T: Send>(threads: NonZeroUsize, len: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let parts = ranges(threads, len, |range| range.map(&work).collect::<Vec<_>>());
    let mut all = Vec::with_capacity(len);
    for part in parts {
        all.extend(part);
    }
    all
}

/// Fills a slice in place, so that no other memory ever holds what is in it: in runs of whole units, each of which is told
/// the number of its first.
pub(crate) fn fill<T: Send>(threads: NonZeroUsize, out: &mut [T], unit: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    debug_assert!(out.len().is_multiple_of(unit), "whole units");
    let step = (out.len() / unit).div_ceil(threads.get()).max(1);
    let parts: Vec<_> = out.chunks_mut(step * unit).map(Mutex::new).collect();
    ranges(threads, parts.len(), |range| {
        for at in range {
            // Each part is somebody's alone.
            let mut part = parts[at].lock().unwrap_or_else(PoisonError::into_inner);
            work(at * step, &mut part);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_gives_the_same() {
        for threads in 1..9 {
            let threads = NonZeroUsize::new(threads).expect("from 1");
            for len in [0, 1, 2, 7, 8, 9, 100] {
                assert_eq!(map(threads, len, |at| at * at), (0..len).map(|at| at * at).collect::<Vec<_>>());
                let mut filled = vec![0; 3 * len];
                fill(threads, &mut filled, 3, |first, part| {
                    part.iter_mut().enumerate().for_each(|(at, entry)| *entry = 3 * first + at);
                });
                assert_eq!(filled, (0..3 * len).collect::<Vec<_>>());
                let covered: Vec<_> = ranges(threads, len, |range| range).into_iter().flatten().collect();
                assert_eq!(covered, (0..len).collect::<Vec<_>>());
            }
        }
    }
}
