//! Grouped-query attention over a trie, and the way back through it.
//!
//! A token looks at its ancestors and itself. As the rows below a node follow it, a block of a node's
//! keys meets everything that may look at it in one product: a shared part is read once for all
//! sequences below it. What a row has summed so far is merged with each further block by the largest
//! score seen (`o = Σ e^{s−m} v`, rescaled when `m` grows), so no row of scores is ever stored whole:
//! memory is linear in the number of tokens. On the way back the scores of a block are computed anew.
//!
//! A row's blocks begin where nodes do, so its rounding depends on how the trie was cut; the order of the
//! sums is otherwise fixed.

use crate::ModelConfig;
use crate::host::kernels::{add, merge_softmax, vector_pad};
use crate::host::matrix::Into;
use crate::host::slopes;
use crate::host::tile::{Left, Right, Sizes, product};
use crate::trie::Trie;

/// Keys of one block, and rows that meet it at a time: a block of scores stays in the nearest cache.
const KEYS: usize = 64;
const ROWS: usize = 64;

/// Widths of the heads.
#[derive(Debug)]
pub struct Attention {
    dim: usize,
    /// `dim` with zeros up to whole vectors.
    padded: usize,
    groups: usize,
    per_group: usize,
}

/// Memory of one call, reused.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Block,
    values: Block,
    queries: Vec<f32>,
    d_outs: Vec<f32>,
    /// `[row, padded]`: the sums of one head.
    sums: Vec<f32>,
    /// By row: the largest score so far and the sum of the weights.
    largest: Vec<f32>,
    total: Vec<f32>,
    /// By row: `Σ d_out · out`.
    along: Vec<f32>,
    scores: Vec<f32>,
    d_scores: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

/// One head's numbers of a block of tokens, both ways round, filled up with zeros.
#[derive(Debug, Default)]
struct Block {
    /// `[token, padded]`
    rows: Vec<f32>,
    /// `[dimension, KEYS]`
    columns: Vec<f32>,
}

/// A block of keys and where it stands.
#[derive(Clone, Copy)]
struct Span {
    /// Rows of the keys.
    start: usize,
    end: usize,
    /// The end of the rows that may look at all of them.
    below: usize,
}

impl Attention {
    /// Attention of the shape of `config`.
    pub fn new(config: &ModelConfig) -> Attention {
        Attention {
            dim: config.head_dim,
            padded: vector_pad(config.head_dim),
            groups: config.num_key_value_heads,
            per_group: config.heads_per_group(),
        }
    }

    /// `turned: [rows, queries | keys]`, `raw: [rows, queries | keys | values]`, `out: [rows, queries]`;
    /// `log_sums: [heads, rows]` gets the logarithm of each softmax's sum.
    pub fn forward(
        &self,
        trie: &Trie,
        turned: &[f32],
        raw: &[f32],
        out: &mut [f32],
        log_sums: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (query_width, turned_width, raw_width) = self.widths();
        let (rows, padded) = (trie.tokens.len(), self.padded);
        let Scratch { keys, values, sums, largest, total, scores, .. } = scratch;
        scores.resize(ROWS * KEYS, 0.0);
        for head in 0..self.groups * self.per_group {
            let group = head / self.per_group;
            refill(sums, rows * padded, 0.0);
            refill(largest, rows, f32::NEG_INFINITY);
            refill(total, rows, 0.0);
            for span in spans(trie) {
                keys.read(
                    &turned[span.start * turned_width..],
                    turned_width,
                    query_width + group * self.dim,
                    span,
                    self,
                );
                values.read(&raw[span.start * raw_width..], raw_width, turned_width + group * self.dim, span, self);
                for (from, to) in span.tiles() {
                    let queries = Left::Rows(&turned[from * turned_width + head * self.dim..], turned_width);
                    let sizes = Sizes { rows: to - from, inner: self.dim, columns: span.columns() };
                    product(queries, keys.columns(), sizes, scores, KEYS, Into::Replace);
                    merge_softmax(
                        &mut scores[..(to - from) * KEYS],
                        KEYS,
                        |row| span.seen(from + row),
                        &mut largest[from..to],
                        &mut total[from..to],
                        &mut sums[from * padded..to * padded],
                    );
                    let sizes = Sizes { rows: to - from, inner: span.len(), columns: padded };
                    product(
                        Left::Rows(scores, KEYS),
                        values.rows(padded),
                        sizes,
                        &mut sums[from * padded..],
                        padded,
                        Into::Add,
                    );
                }
            }
            let sums = sums.chunks_exact(padded).zip(largest.iter().zip(total.iter()));
            let outs = out.chunks_exact_mut(query_width).zip(&mut log_sums[head * rows..][..rows]);
            for ((sums, (&largest, &total)), (out, log_sum)) in sums.zip(outs) {
                let scale = 1.0 / total;
                for (out, &sum) in out[head * self.dim..][..self.dim].iter_mut().zip(sums) {
                    *out = sum * scale;
                }
                *log_sum = largest + total.ln();
            }
        }
    }

    /// Slopes of queries, keys (both as turned) and values, `d_raw: [rows, queries | keys | values]`, of
    /// what `forward` took and gave.
    #[expect(clippy::too_many_arguments, reason = "what went in and came out on the way forward, and the slopes")]
    pub fn backward(
        &self,
        trie: &Trie,
        turned: &[f32],
        raw: &[f32],
        out: &[f32],
        log_sums: &[f32],
        d_out: &[f32],
        d_raw: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (query_width, turned_width, raw_width) = self.widths();
        let (rows, padded) = (trie.tokens.len(), self.padded);
        let Scratch { keys, values, queries, d_outs, sums, along, scores, d_scores, d_keys, d_values, .. } = scratch;
        scores.resize(ROWS * KEYS, 0.0);
        d_scores.resize(ROWS * KEYS, 0.0);
        for row in d_raw.chunks_exact_mut(raw_width) {
            row[query_width..].fill(0.0);
        }
        for head in 0..self.groups * self.per_group {
            let group = head / self.per_group;
            let (key_at, value_at) = (query_width + group * self.dim, turned_width + group * self.dim);
            let log_sums = &log_sums[head * rows..][..rows];
            pad(turned, turned_width, head * self.dim, self, queries);
            pad(d_out, query_width, head * self.dim, self, d_outs);
            refill(sums, rows * padded, 0.0);
            slopes::along(&out[head * self.dim..], query_width, d_outs, padded, along);
            for span in spans(trie) {
                keys.read(&turned[span.start * turned_width..], turned_width, key_at, span, self);
                values.read(&raw[span.start * raw_width..], raw_width, value_at, span, self);
                refill(d_keys, KEYS * padded, 0.0);
                refill(d_values, KEYS * padded, 0.0);
                for (from, to) in span.tiles() {
                    let tile = from * padded..to * padded;
                    let sizes = Sizes { rows: to - from, inner: self.dim, columns: span.columns() };
                    product(
                        Left::Rows(&queries[tile.clone()], padded),
                        keys.columns(),
                        sizes,
                        scores,
                        KEYS,
                        Into::Replace,
                    );
                    product(
                        Left::Rows(&d_outs[tile.clone()], padded),
                        values.columns(),
                        sizes,
                        d_scores,
                        KEYS,
                        Into::Replace,
                    );
                    let count = (to - from) * KEYS;
                    slopes::tree_softmax(
                        &mut scores[..count],
                        &mut d_scores[..count],
                        KEYS,
                        |row| span.seen(from + row),
                        &log_sums[from..to],
                        &along[from..to],
                    );
                    let right = |values| Right { values, stride: padded };
                    let sizes = Sizes { rows: to - from, inner: span.len(), columns: padded };
                    product(
                        Left::Rows(d_scores, KEYS),
                        keys.rows(padded),
                        sizes,
                        &mut sums[tile.clone()],
                        padded,
                        Into::Add,
                    );
                    let sizes = Sizes { rows: span.len(), inner: to - from, columns: padded };
                    product(
                        Left::Columns(d_scores, KEYS),
                        right(&queries[tile.clone()]),
                        sizes,
                        d_keys,
                        padded,
                        Into::Add,
                    );
                    product(Left::Columns(scores, KEYS), right(&d_outs[tile]), sizes, d_values, padded, Into::Add);
                }
                let d_rows = d_raw[span.start * raw_width..span.end * raw_width].chunks_exact_mut(raw_width);
                let slopes = d_keys.chunks_exact(padded).zip(d_values.chunks_exact(padded));
                for (row, (d_key, d_value)) in d_rows.zip(slopes) {
                    add(&mut row[key_at..key_at + self.dim], d_key);
                    add(&mut row[value_at..value_at + self.dim], d_value);
                }
            }
            for (row, sums) in d_raw.chunks_exact_mut(raw_width).zip(sums.chunks_exact(padded)) {
                row[head * self.dim..][..self.dim].copy_from_slice(&sums[..self.dim]);
            }
        }
    }

    /// Widths of all queries, of queries and keys, and of all three.
    fn widths(&self) -> (usize, usize, usize) {
        let (query, key) = (self.groups * self.per_group * self.dim, self.groups * self.dim);
        (query, query + key, query + 2 * key)
    }
}

/// Blocks of keys, ancestors before descendants.
fn spans(trie: &Trie) -> impl Iterator<Item = Span> {
    trie.nodes.iter().flat_map(|node| {
        let starts = node.rows.clone().step_by(KEYS);
        starts.map(|start| Span { start, end: node.rows.end.min(start + KEYS), below: node.below })
    })
}

impl Span {
    fn len(self) -> usize {
        self.end - self.start
    }

    /// Columns of a product with these keys.
    fn columns(self) -> usize {
        vector_pad(self.len())
    }

    /// Rows that may look at one of the keys, in pieces.
    fn tiles(self) -> impl Iterator<Item = (usize, usize)> {
        (self.start..self.below).step_by(ROWS).map(move |from| (from, self.below.min(from + ROWS)))
    }

    /// How many of the keys a row may look at.
    fn seen(self, row: usize) -> usize {
        (row + 1 - self.start).min(self.len())
    }
}

impl Block {
    /// Takes one head out of rows of `width`, from column `at` on.
    fn read(&mut self, from: &[f32], width: usize, at: usize, span: Span, attention: &Attention) {
        refill(&mut self.rows, KEYS * attention.padded, 0.0);
        refill(&mut self.columns, attention.dim * KEYS, 0.0);
        for (i, row) in from.chunks(width).take(span.len()).enumerate() {
            let head = &row[at..at + attention.dim];
            self.rows[i * attention.padded..][..attention.dim].copy_from_slice(head);
            for (column, &value) in self.columns.chunks_exact_mut(KEYS).zip(head) {
                column[i] = value;
            }
        }
    }

    fn rows(&self, padded: usize) -> Right<'_> {
        Right { values: &self.rows, stride: padded }
    }

    fn columns(&self) -> Right<'_> {
        Right { values: &self.columns, stride: KEYS }
    }
}

/// One head's numbers of all rows, filled up with zeros.
fn pad(from: &[f32], width: usize, at: usize, attention: &Attention, into: &mut Vec<f32>) {
    into.clear();
    for row in from.chunks_exact(width) {
        into.extend_from_slice(&row[at..at + attention.dim]);
        into.resize(into.len() + attention.padded - attention.dim, 0.0);
    }
}

fn refill(values: &mut Vec<f32>, count: usize, value: f32) {
    values.clear();
    values.resize(count, value);
}
