//! Many comparisons on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Comparison, Form, Gold, Options, compare};

/// Comparisons that a thread takes at a time.
const CHUNK: usize = 64;

/// One comparison of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// What is compared with.
    pub gold: &'a Gold,
    /// What is judged.
    pub prediction: &'a str,
    /// How it is given.
    pub form: Form,
}

/// Compares every pair, in the order given, on as many threads as the machine has cores.
///
/// The result depends on the pairs alone, not on the number of threads.
pub fn verify_batch(pairs: &[Pair<'_>], options: &Options) -> Vec<Comparison> {
    let one = |pair: &Pair<'_>| compare(pair.gold, pair.prediction, pair.form, options);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(pairs.len().div_ceil(CHUNK));
    if threads < 2 {
        return pairs.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let begin = next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(chunk) = pairs.get(begin..pairs.len().min(begin + CHUNK)).filter(|chunk| !chunk.is_empty()) else {
                return done;
            };
            done.push((begin, chunk.iter().map(one).collect::<Vec<_>>()));
        }
    };
    let mut chunks: Vec<(usize, Vec<Comparison>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut chunks = work();
        for other in others {
            match other.join() {
                Ok(done) => chunks.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        chunks
    });
    chunks.sort_unstable_by_key(|&(begin, _)| begin);
    chunks.into_iter().flat_map(|(_, done)| done).collect()
}
