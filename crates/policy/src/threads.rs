//! Work that is cut up beforehand, on several threads.

/// Runs `task` on every item, neighbours on the same thread and at least `share` of them to a thread; in the
/// order of the items.
pub(crate) fn on_threads<I: Send, O: Send>(
    items: Vec<I>,
    threads: usize,
    share: usize,
    task: impl Fn(I) -> O + Sync,
) -> Vec<O> {
    let share = items.len().div_ceil(threads.max(1)).max(share);
    if items.len() <= share {
        return items.into_iter().map(task).collect();
    }
    let mut items = items.into_iter();
    let mut shares: Vec<Vec<I>> = Vec::new();
    while items.len() > 0 {
        shares.push(items.by_ref().take(share).collect());
    }
    let task = &task;
    std::thread::scope(|scope| {
        let run = |share: Vec<I>| scope.spawn(move || share.into_iter().map(task).collect::<Vec<O>>());
        let handles: Vec<_> = shares.into_iter().map(run).collect();
        let joined = handles.into_iter().map(|handle| handle.join());
        joined.flat_map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
