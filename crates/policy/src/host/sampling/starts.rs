//! The starts of a call, laid over each other: who computes which part, and who takes which request.
//!
//! A node of the trie is claimed by the first thread that needs it, computed once, kept while a node or
//! a request below it waits for it, and dropped then. A thread waits only when all it has claimed hangs
//! on nodes that others have claimed; the highest of the claimed nodes can always be computed, so some
//! thread always goes on.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use toehold_rollout::{SampleRequest, TokenId};

use crate::Sharing;
use crate::host::sampling::blocks::{BLOCK, Chain};
use crate::trie::Trie;

/// All starts of one call.
#[derive(Debug)]
pub(super) struct Starts {
    trie: Trie,
    /// Whether a start ends at a node.
    ends: Vec<bool>,
    /// Requests in the order of the trie.
    order: Vec<usize>,
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
}

/// A computed node.
#[derive(Debug)]
pub(super) struct Start {
    /// Keys and values of all positions down to its end.
    pub(super) chain: Chain,
    /// Logits of the token after it, where a start ends.
    pub(super) logits: Vec<f32>,
}

/// What a thread is to do next.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Requests, as places in the order of the trie.
    pub(super) ranks: Vec<usize>,
    /// Nodes that this thread has to compute, parents before children.
    pub(super) nodes: Vec<usize>,
}

/// A node that can be computed, and its parent's start.
pub(super) type Ready = (usize, Option<Arc<Start>>);

/// The sampling was cancelled, or it failed in another thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cancelled;

#[derive(Debug)]
struct State {
    nodes: Vec<Progress>,
    /// By node: its children that are not computed and its requests that are not started.
    waiting: Vec<usize>,
    /// By thread: ranks that nobody has taken.
    left: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
enum Progress {
    Untouched,
    Claimed,
    Done(Arc<Start>),
    /// Nobody needs it any more.
    Dropped,
}

impl Starts {
    pub(super) fn new(requests: &[SampleRequest], sharing: Sharing, threads: usize) -> Starts {
        let starts: Vec<Vec<TokenId>> =
            requests.iter().map(|request| [&request.prompt[..], &request.prefix[..]].concat()).collect();
        let starts: Vec<&[TokenId]> = starts.iter().map(Vec::as_slice).collect();
        let trie = Trie::new(&starts, sharing);
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&index| (trie.ends[index], index));
        let (mut waiting, mut ends) = (vec![0; trie.nodes.len()], vec![false; trie.nodes.len()]);
        for &end in &trie.ends {
            waiting[end] += 1;
            ends[end] = true;
        }
        for node in &trie.nodes {
            if let Some(parent) = node.parent {
                waiting[parent] += 1;
            }
        }
        let mut starts = Starts {
            state: Mutex::new(State { nodes: vec![Progress::Untouched; trie.nodes.len()], waiting, left: Vec::new() }),
            trie,
            ends,
            order,
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
        };
        let cuts: Vec<usize> =
            (0..=threads).map(|thread| starts.boundary(thread * requests.len() / threads, requests.len())).collect();
        let left = cuts.windows(2).map(|cut| cut[0]..cut[1]).collect();
        starts.state.get_mut().unwrap_or_else(PoisonError::into_inner).left = left;
        starts
    }

    /// The request at a place in the order of the trie.
    pub(super) fn request(&self, rank: usize) -> usize {
        self.order[rank]
    }

    /// The tokens of a node, and the place of the first of them.
    pub(super) fn tokens(&self, node: usize) -> (&[TokenId], usize) {
        let node = &self.trie.nodes[node];
        (&self.trie.tokens[node.rows.clone()], node.position)
    }

    /// Whether the logits after a node are wanted.
    pub(super) fn is_end(&self, node: usize) -> bool {
        self.ends[node]
    }

    /// Takes the next requests for a thread: at most `places`, and no more than `room` blocks are
    /// enough for; but one in any case where `lone`. Claims the nodes of their starts.
    pub(super) fn take(&self, thread: usize, places: usize, mut room: usize, lone: bool) -> Taken {
        let mut state = self.lock();
        let mut taken = Taken::default();
        while taken.ranks.len() < places {
            if state.left[thread].is_empty() {
                self.steal(&mut state, thread);
            }
            let rank = state.left[thread].start;
            if state.left[thread].is_empty() {
                break;
            }
            let mut path = self.trie.path(self.trie.ends[self.order[rank]]);
            path.retain(|&node| matches!(state.nodes[node], Progress::Untouched));
            // One more for what the sequence writes itself.
            let needed = path.iter().map(|&node| self.blocks(node)).sum::<usize>() + 1;
            if needed > room && !(lone && taken.ranks.is_empty()) {
                break;
            }
            room = room.saturating_sub(needed);
            state.left[thread].start += 1;
            for &node in &path {
                state.nodes[node] = Progress::Claimed;
            }
            taken.nodes.extend(path);
            taken.ranks.push(rank);
        }
        taken
    }

    /// Moves those of `claimed` out of it that can be computed, each with its parent. Waits for one
    /// where `wait` says so and there is none.
    pub(super) fn ready(&self, claimed: &mut Vec<usize>, wait: bool) -> Result<Vec<Ready>, Cancelled> {
        let mut state = self.lock();
        loop {
            self.check()?;
            let mut ready = Vec::new();
            claimed.retain(|&node| match self.trie.nodes[node].parent.map(|parent| &state.nodes[parent]) {
                None => {
                    ready.push((node, None));
                    false
                }
                Some(Progress::Done(parent)) => {
                    ready.push((node, Some(parent.clone())));
                    false
                }
                Some(_) => true,
            });
            if !(ready.is_empty() && wait) {
                return Ok(ready);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands in a computed node.
    pub(super) fn publish(&self, node: usize, start: Start) {
        let mut state = self.lock();
        state.nodes[node] = Progress::Done(Arc::new(start));
        if let Some(parent) = self.trie.nodes[node].parent {
            state.release(parent);
        }
        self.changed.notify_all();
    }

    /// The computed start of a request that was taken; waits where another thread computes it. May be
    /// called once for each.
    pub(super) fn of(&self, rank: usize) -> Result<Arc<Start>, Cancelled> {
        let node = self.trie.ends[self.order[rank]];
        let mut state = self.lock();
        loop {
            self.check()?;
            if let Progress::Done(start) = &state.nodes[node] {
                let start = start.clone();
                state.release(node);
                return Ok(start);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A start that was computed, if it is still there.
    pub(super) fn kept(&self, rank: usize) -> Option<Arc<Start>> {
        match &self.lock().nodes[self.trie.ends[self.order[rank]]] {
            Progress::Done(start) => Some(start.clone()),
            _ => None,
        }
    }

    /// Ends the call early.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Under the lock, so that no thread is between looking and waiting.
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// Whether the call goes on.
    pub(super) fn check(&self) -> Result<(), Cancelled> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }

    /// Gives a thread without requests half of what the one with the most has left.
    fn steal(&self, state: &mut State, thread: usize) {
        let Some(from) = (0..state.left.len()).max_by_key(|&other| state.left[other].len()) else { return };
        let Range { start, end } = state.left[from];
        let middle = self.boundary(start + (end - start) / 2, end);
        // One group alone is shared out, too: better that than an idle thread.
        let middle = if middle == end { start + (end - start) / 2 } else { middle };
        state.left[from].end = middle;
        state.left[thread] = middle..end;
    }

    /// The first place from `rank` on where another start begins; `end` if there is none before it.
    fn boundary(&self, rank: usize, end: usize) -> usize {
        let node = |rank: usize| self.trie.ends[self.order[rank]];
        (rank..end).find(|&rank| rank == 0 || node(rank) != node(rank - 1)).unwrap_or(end)
    }

    /// Blocks that computing a node takes.
    fn blocks(&self, node: usize) -> usize {
        let node = &self.trie.nodes[node];
        (node.position + node.rows.len()).div_ceil(BLOCK) - node.position / BLOCK
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One that waited for a node does so no longer.
    fn release(&mut self, node: usize) {
        self.waiting[node] -= 1;
        if self.waiting[node] == 0 {
            self.nodes[node] = Progress::Dropped;
        }
    }
}
