//! Attention of many rows over blocks: each block is read once for all rows that share it.
//!
//! A row goes through its blocks in the order of their positions and keeps the largest score so far, the
//! sum of its weights and the weighted sum of values; a further block is merged into these as parts of
//! one softmax are, by their log-sum-exp. **What a row gets from a block depends on that row alone**: a
//! score is one chain of fused multiply-adds over the dimensions, an output one over the positions, and
//! what is not visible counts as an exact zero. So neither neighbours nor sharing change a bit.

#![expect(
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    reason = "sums that are copied as a whole, or whose address an iterator takes, are kept in memory, not in registers"
)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::ModelConfig;
use crate::host::kernels::{arch, exp, vector_pad};
use crate::host::sampling::blocks::{BLOCK, Chain};
use crate::host::sampling::forward::Row;

/// Scores that are summed side by side.
const LANES: usize = 16;

/// Rows of one pass that have the same block at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    level: usize,
    rows: Range<usize>,
}

/// What the rows have seen so far; kept to reuse its memory.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By row and head: the largest score, and the sum of all weights relative to it.
    softmax: Vec<(f32, f32)>,
    /// `[row, head, padded dimension]`.
    sums: Vec<f32>,
}

/// One layer's attention.
pub(super) struct Attend<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) layer: usize,
    pub(super) rows: &'a [Row],
    pub(super) chains: &'a [&'a mut Chain],
    pub(super) runs: &'a [Run],
    /// `[rows, queries | ...]`, each row `stride` wide.
    pub(super) queries: &'a [f32],
    pub(super) stride: usize,
    pub(super) seen: &'a mut Seen,
    /// `[rows, queries]`.
    pub(super) out: &'a mut [f32],
}

/// The runs of a pass, by level: the rows that share a block must follow each other.
pub(super) fn runs(rows: &[Row], chains: &[&mut Chain], runs: &mut Vec<Run>) {
    runs.clear();
    let levels = rows.iter().map(|row| row.position / BLOCK + 1).max().unwrap_or(0);
    for level in 0..levels {
        let block = |row: &Row| {
            let reaches = row.position >= level * BLOCK;
            reaches.then(|| std::ptr::from_ref(chains[row.chain].block(level)))
        };
        let mut start = 0;
        for rows in rows.chunk_by(|a, b| block(a) == block(b)) {
            if block(&rows[0]).is_some() {
                runs.push(Run { level, rows: start..start + rows.len() });
            }
            start += rows.len();
        }
    }
}

impl Attend<'_> {
    pub(super) fn run(self) {
        arch().dispatch(self);
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (heads, dim) = (self.config.num_attention_heads, self.config.head_dim);
        let padded = vector_pad(dim);
        self.seen.softmax.clear();
        self.seen.softmax.resize(self.rows.len() * heads, (f32::NEG_INFINITY, 0.0));
        self.seen.sums.clear();
        self.seen.sums.resize(self.rows.len() * heads * padded, 0.0);
        for run in self.runs {
            for group in 0..self.config.num_key_value_heads {
                self.block(simd, run, group);
            }
        }
        let sums = self.seen.sums.chunks_exact(padded).zip(&self.seen.softmax);
        for (out, (sums, &(_, sum))) in self.out.chunks_exact_mut(dim).zip(sums) {
            let scale = 1.0 / sum;
            for (out, &value) in out.iter_mut().zip(sums) {
                *out = value * scale;
            }
        }
    }
}

impl Attend<'_> {
    /// One block's keys and values of one group of heads, for all rows of a run.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, run: &Run, group: usize) {
        let count = run.rows.len() * self.config.heads_per_group();
        let mut item = 0;
        if S::REGISTER_COUNT >= 32 {
            while count - item >= 8 {
                self.tile::<S, 8, 2>(simd, run, group, item);
                item += 8;
            }
        }
        while count - item >= 4 {
            self.tile::<S, 4, 2>(simd, run, group, item);
            item += 4;
        }
        if count - item >= 2 {
            self.tile::<S, 2, 4>(simd, run, group, item);
            item += 2;
        }
        if count > item {
            self.tile::<S, 1, 4>(simd, run, group, item);
        }
    }

    /// `M` heads of one or several rows; `N` is how many vectors of scores are formed at once.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, run: &Run, group: usize, first: usize) {
        let (heads, dim, per_group) =
            (self.config.num_attention_heads, self.config.head_dim, self.config.heads_per_group());
        let padded = vector_pad(dim);
        let block = self.chains[self.rows[run.rows.start].chain].block(run.level);
        let (keys, values) = block.head(self.layer, group);
        let mut queries: [&[f32]; M] = [&[]; M];
        let (mut places, mut visible) = ([0; M], [0; M]);
        let (mut row, mut member) = (run.rows.start + first / per_group, first % per_group);
        for m in 0..M {
            let head = group * per_group + member;
            queries[m] = &self.queries[row * self.stride + head * dim..][..dim];
            places[m] = row * heads + head;
            visible[m] = (self.rows[row].position + 1 - run.level * BLOCK).min(BLOCK);
            member += 1;
            if member == per_group {
                (row, member) = (row + 1, 0);
            }
        }
        // Rows of one run are in the order of their positions where they differ in them.
        let most = visible[M - 1].max(visible[0]);
        let mut scores = [[0.0; BLOCK]; M];
        let mut from = 0;
        while from < most {
            let sums = product::<S, M, N>(simd, &queries, keys, BLOCK, from);
            for m in 0..M {
                let (out, _) = S::as_mut_simd_f32s(&mut scores[m][from..from + N * S::F32_LANES]);
                for n in 0..N {
                    out[n] = sums[m][n];
                }
            }
            from += N * S::F32_LANES;
        }
        let width = most.next_multiple_of(LANES);
        let mut scales = [0.0; M];
        for m in 0..M {
            scales[m] = weigh(&mut scores[m][..width], visible[m], &mut self.seen.softmax[places[m]]);
        }
        let mut weights: [&[f32]; M] = [&[]; M];
        for m in 0..M {
            weights[m] = &scores[m][..most];
        }
        let mut from = 0;
        while padded - from >= 2 * S::F32_LANES {
            self.add::<S, M, 2>(simd, &weights, values, from, &places, &scales);
            from += 2 * S::F32_LANES;
        }
        while padded > from {
            self.add::<S, M, 1>(simd, &weights, values, from, &places, &scales);
            from += S::F32_LANES;
        }
    }

    /// Merges the weighted sum of a block's values into what was seen before.
    #[inline(always)]
    fn add<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        weights: &[&[f32]; M],
        values: &[f32],
        from: usize,
        places: &[usize; M],
        scales: &[f32; M],
    ) {
        let padded = vector_pad(self.config.head_dim);
        let sums = product::<S, M, N>(simd, weights, values, padded, from);
        for m in 0..M {
            let out = &mut self.seen.sums[places[m] * padded + from..][..N * S::F32_LANES];
            let (out, _) = S::as_mut_simd_f32s(out);
            let scale = simd.splat_f32s(scales[m]);
            for n in 0..N {
                out[n] = simd.mul_add_f32s(out[n], scale, sums[m][n]);
            }
        }
    }
}

/// `Σ a[m][i] · b[i · stride + from ..]`, one chain in the order of `i` for each output; the rows of `a`
/// are equally long.
#[inline(always)]
fn product<S: Simd, const M: usize, const N: usize>(
    simd: S,
    a: &[&[f32]; M],
    b: &[f32],
    stride: usize,
    from: usize,
) -> [[S::f32s; N]; M] {
    let count = a[0].len();
    let mut rows = *a;
    for row in &mut rows {
        *row = &row[..count];
    }
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    let mut b = b.chunks_exact(stride);
    for i in 0..count {
        let Some(b) = b.next() else { break };
        let (b, _) = S::as_simd_f32s(&b[from..from + N * S::F32_LANES]);
        for m in 0..M {
            let a = simd.splat_f32s(rows[m][i]);
            for n in 0..N {
                sums[m][n] = simd.mul_add_f32s(a, b[n], sums[m][n]);
            }
        }
    }
    sums
}

/// Turns scores into weights relative to the largest score so far, brings the sum of weights up to
/// date, and returns what earlier sums must be multiplied by. Scores from `visible` on get no weight.
#[inline(always)]
fn weigh(scores: &mut [f32], visible: usize, (largest, sum): &mut (f32, f32)) -> f32 {
    scores[visible..].fill(f32::NEG_INFINITY);
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    let mut maxima = [*largest; LANES];
    for chunk in chunks.iter() {
        for lane in 0..LANES {
            maxima[lane] = if chunk[lane] > maxima[lane] { chunk[lane] } else { maxima[lane] };
        }
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            let other = maxima[lane + half];
            maxima[lane] = if other > maxima[lane] { other } else { maxima[lane] };
        }
    }
    let max = maxima[0];
    for chunk in chunks.iter_mut() {
        for score in chunk {
            *score = exp(*score - max);
        }
    }
    scores[visible..].fill(0.0);
    let (chunks, _) = scores.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    let scale = exp(*largest - max);
    *sum = sum.mul_add(scale, sums[0]);
    *largest = max;
    scale
}
