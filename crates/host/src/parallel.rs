//! The same done to many instances at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads are worth having for work that waits for nothing.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Does the same to each item, on so many threads that take turns.
pub(crate) fn in_parallel<T: Sync, R: Send + Sync>(
    items: &[T],
    threads: usize,
    action: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 || items.len() < 2 {
        return items.iter().map(action).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        let turn = || next.fetch_add(1, Ordering::Relaxed);
        for index in std::iter::repeat_with(turn).take_while(|index| *index < items.len()) {
            let _ = done[index].set(action(&items[index])); // nobody else has this turn
        }
    };
    // A panic of a thread is that of the scope: past it all are done.
    std::thread::scope(|scope| (0..threads.min(items.len())).for_each(|_| drop(scope.spawn(work))));
    done.into_iter().filter_map(OnceLock::into_inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_done_in_their_order_however_many_threads_there_are() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 2, 7, 2000] {
            assert_eq!(
                in_parallel(&items, threads, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
    }
}
