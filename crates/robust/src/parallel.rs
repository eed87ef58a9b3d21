//! Work over several threads, with the same bits for any number of them.
//!
//! Threads share nothing that changes and end with the call. What is summed over columns is summed in pieces of a fixed size,
//! which are added in their order; what is per column does not depend on how columns are dealt out.

use std::num::NonZeroUsize;
use std::ops::Range;

/// Results of work on each of `0..len`, in order: as many at once as there are threads.
pub(crate) fn map<T: Send>(threads: NonZeroUsize, len: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads.get() == 1 || len < 2 {
        return (0..len).map(work).collect();
    }
    let step = len.div_ceil(threads.get());
    let ranges: Vec<Range<usize>> = (0..len).step_by(step).map(|start| start..(start + step).min(len)).collect();
    let (work, mut ranges) = (&work, ranges.into_iter());
    let first = ranges.next().unwrap_or(0..0);
    #[allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "they end with the call, and any number of them gives the same bits"
    )]
    std::thread::scope(|scope| {
        let started: Vec<_> = ranges
            .map(|range| {
                let again = range.clone();
                // Where the system gives no more threads, the work is done here.
                let thread =
                    std::thread::Builder::new().spawn_scoped(scope, move || range.map(work).collect::<Vec<_>>()).ok();
                (thread, again)
            })
            .collect();
        let mut results: Vec<T> = first.map(work).collect();
        for (thread, range) in started {
            match thread {
                Some(thread) => {
                    results.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                }
                None => results.extend(range.map(work)),
            }
        }
        results
    })
}

/// Folds results of work on each of `0..len` in their order, holding at most one per thread at a time.
pub(crate) fn fold<T: Send>(
    threads: NonZeroUsize,
    len: usize,
    work: impl Fn(usize) -> T + Sync,
    mut fold: impl FnMut(T),
) {
    for start in (0..len).step_by(threads.get()) {
        let wave = threads.get().min(len - start);
        map(threads, wave, |at| work(start + at)).into_iter().for_each(&mut fold);
    }
}

/// Fills one value per column in blocks of `block` columns; each call is told the first column of its block.
pub(crate) fn columns(
    threads: NonZeroUsize,
    out: &mut [f64],
    block: usize,
    work: impl Fn(&mut dyn Iterator<Item = (usize, &mut [f64])>) + Sync,
) {
    let blocks = out.len().div_ceil(block);
    let share = blocks.div_ceil(threads.get()).max(1) * block;
    let parts: Vec<_> = out.chunks_mut(share).enumerate().map(|(at, part)| std::sync::Mutex::new((at, part))).collect();
    map(threads, parts.len(), |at| {
        // Each part is somebody's alone.
        let mut part = parts[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let first = part.0 * share;
        let mut blocks = part.1.chunks_mut(block).enumerate().map(|(at, part)| (first + at * block, part));
        work(&mut blocks);
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
                let mut folded = Vec::new();
                fold(threads, len, |at| at, |at| folded.push(at));
                assert_eq!(folded, (0..len).collect::<Vec<_>>());
                let mut filled = vec![0.0; len];
                columns(threads, &mut filled, 3, |blocks| {
                    for (first, part) in blocks {
                        assert!(part.len() <= 3 && first % 3 == 0);
                        part.iter_mut().enumerate().for_each(|(at, entry)| *entry = (first + at) as f64);
                    }
                });
                assert_eq!(filled, (0..len).map(|at| at as f64).collect::<Vec<_>>());
            }
        }
    }
}
