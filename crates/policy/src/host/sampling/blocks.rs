//! Keys and values in blocks of 64 positions that sequences share.
//!
//! Block `b` of a sequence holds its positions `64 b .. 64 b + 64` for all layers and heads, so blocks
//! stand at absolute positions: a sequence's attention goes over the same cuts whether it computed a
//! block itself or shares it, and gets the same bits. The count of an [`Arc`] is the count of a block's
//! users. A block is written to only while it has one user; a shared one is full or is copied first.
//! The memory of a block without users is used again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ModelConfig;
use crate::host::kernels::vector_pad;

/// Positions of one block.
pub(crate) const BLOCK: usize = 64;

/// Values of a vector register's cache line: blocks begin at one, or every load would touch two.
const LINE: usize = 64;

/// Where one thread's blocks come from.
#[derive(Debug)]
pub(crate) struct Pool {
    heads: Heads,
    /// Blocks that may be in use; a lone sequence may go over it.
    limit: usize,
    live: AtomicUsize,
    store: Arc<Store>,
}

/// The memory of one policy's blocks.
///
/// What no block uses stays here from call to call: memory fresh from the system costs as much to clear
/// as a tenth of the sampling that fills it.
#[derive(Debug, Default)]
pub(crate) struct Store {
    state: Mutex<Stored>,
}

/// Keys and values of [`BLOCK`] positions, `[layer, head, keys | values]`.
///
/// Keys are `[dimension, position]` and values `[position, dimension]`, the latter filled up to whole
/// vectors: both products of attention then run along vectors.
#[derive(Debug)]
pub(crate) struct Block {
    memory: Vec<f32>,
    /// Values before the first whole cache line.
    skip: usize,
    pool: Arc<Pool>,
}

/// The blocks of one sequence, from position 0 on.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    blocks: Vec<Arc<Block>>,
}

#[derive(Debug, Default)]
struct Stored {
    spare: Vec<Vec<f32>>,
    /// Blocks in use, of all pools together, and the most that were.
    live: usize,
    peak: usize,
}

/// What a block is laid out by.
#[derive(Clone, Copy, Debug)]
struct Heads {
    count: usize,
    per_layer: usize,
    dim: usize,
    padded: usize,
}

impl Pool {
    /// A pool of at most `bytes`, but of one block at least.
    pub(crate) fn new(config: &ModelConfig, bytes: u64, store: Arc<Store>) -> Arc<Pool> {
        let heads = Heads::new(config);
        let limit = usize::try_from(bytes / heads.bytes()).unwrap_or(usize::MAX).max(1);
        Arc::new(Pool { heads, limit, live: AtomicUsize::new(0), store })
    }

    /// Blocks that may still be taken.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.live.load(Ordering::Relaxed))
    }

    /// A block, even where there is no room. What is in it is not defined.
    fn take(self: &Arc<Self>) -> Block {
        self.live.fetch_add(1, Ordering::Relaxed);
        let mut stored = self.store.lock();
        stored.live += 1;
        stored.peak = stored.peak.max(stored.live);
        let memory = stored.spare.pop();
        drop(stored);
        let spare = LINE / size_of::<f32>() - 1;
        let memory = memory.unwrap_or_else(|| vec![0.0; self.heads.count * self.heads.size() + spare]);
        let skip = memory.as_ptr().align_offset(LINE).min(spare);
        Block { memory, skip, pool: self.clone() }
    }
}

impl Store {
    /// Begins a call: forgets the peak, and gives back what is more than `bytes`.
    pub(crate) fn begin(&self, config: &ModelConfig, bytes: u64) {
        let mut stored = self.lock();
        stored.peak = stored.live;
        let most = usize::try_from(bytes / Heads::new(config).bytes()).unwrap_or(usize::MAX);
        stored.spare.truncate(most);
    }

    /// Bytes of the blocks that were in use at the most since the call began.
    pub(crate) fn peak_bytes(&self, config: &ModelConfig) -> u64 {
        self.lock().peak as u64 * Heads::new(config).bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heads {
    fn new(config: &ModelConfig) -> Heads {
        let per_layer = config.num_key_value_heads;
        Heads {
            count: config.num_hidden_layers * per_layer,
            per_layer,
            dim: config.head_dim,
            padded: vector_pad(config.head_dim),
        }
    }

    /// Values of one head of one layer.
    fn size(&self) -> usize {
        BLOCK * (self.dim + self.padded)
    }

    fn bytes(&self) -> u64 {
        (self.count * self.size() * size_of::<f32>()) as u64
    }
}

impl Block {
    /// Keys `[dimension, position]` and values `[position, padded dimension]` of one head.
    pub(crate) fn head(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let heads = &self.pool.heads;
        let start = self.skip + (layer * heads.per_layer + head) * heads.size();
        self.memory[start..start + heads.size()].split_at(heads.dim * BLOCK)
    }

    /// Writes one position of one layer, `key` and `value`: `[head, dimension]`.
    fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let Heads { per_layer, dim, padded, .. } = self.pool.heads;
        let size = self.pool.heads.size();
        let heads = self.memory[self.skip + layer * per_layer * size..].chunks_exact_mut(size);
        for ((key, value), head) in key.chunks_exact(dim).zip(value.chunks_exact(dim)).zip(heads) {
            let (keys, values) = head.split_at_mut(dim * BLOCK);
            for (column, &key) in keys.chunks_exact_mut(BLOCK).zip(key) {
                column[position] = key;
            }
            values[position * padded..][..dim].copy_from_slice(value);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.live.fetch_sub(1, Ordering::Relaxed);
        let mut stored = self.pool.store.lock();
        stored.live -= 1;
        stored.spare.push(std::mem::take(&mut self.memory));
    }
}

impl Chain {
    /// A sequence that begins with this one's first `length` positions: full blocks are shared, a
    /// partly filled one is copied.
    pub(crate) fn fork(&self, length: usize, pool: &Arc<Pool>) -> Chain {
        let mut blocks = self.blocks[..length / BLOCK].to_vec();
        if !length.is_multiple_of(BLOCK) {
            let from = &self.blocks[length / BLOCK];
            let mut copy = pool.take();
            let skip = copy.skip;
            let size = pool.heads.count * pool.heads.size();
            copy.memory[skip..skip + size].copy_from_slice(&from.memory[from.skip..from.skip + size]);
            blocks.push(Arc::new(copy));
        }
        Chain { blocks }
    }

    /// Blocks that are wanting for `length` positions.
    pub(crate) fn missing(&self, length: usize) -> usize {
        length.div_ceil(BLOCK).saturating_sub(self.blocks.len())
    }

    /// Takes what is wanting.
    pub(crate) fn grow(&mut self, length: usize, pool: &Arc<Pool>) {
        for _ in 0..self.missing(length) {
            self.blocks.push(Arc::new(pool.take()));
        }
    }

    /// The block of positions `64 level ..`.
    pub(crate) fn block(&self, level: usize) -> &Block {
        &self.blocks[level]
    }

    /// Writes one position of one layer, `key` and `value`: `[head, dimension]`.
    pub(crate) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let block = Arc::get_mut(&mut self.blocks[position / BLOCK]);
        let block = block.expect("a sequence writes only after its start, to blocks of its own");
        block.write(layer, position % BLOCK, key, value);
    }
}
