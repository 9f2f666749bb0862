//! Causal grouped-query attention over whole sequences, and the way back through it.
//!
//! The weights of one head's attention are computed anew on the way back rather than kept: that is one
//! product more, and memory stays linear in the length but for one head of one sequence.

use crate::ModelConfig;
use crate::host::kernels::{combine, combine_column, softmax, vector_pad};
use crate::host::slopes;

/// Widths of the heads.
pub(super) struct Attention {
    dim: usize,
    /// `dim` with zeros up to whole vectors.
    padded: usize,
    groups: usize,
    per_group: usize,
}

/// Keys and values of one head of one sequence.
#[derive(Default)]
struct Side {
    length: usize,
    /// `[position, dimension]`, filled up with zeros.
    rows: Vec<f32>,
    /// `[dimension, position]`, filled up with zeros.
    columns: Vec<f32>,
}

impl Attention {
    pub(super) fn new(config: &ModelConfig) -> Attention {
        Attention {
            dim: config.head_dim,
            padded: vector_pad(config.head_dim),
            groups: config.num_key_value_heads,
            per_group: config.heads_per_group(),
        }
    }

    /// `turned: [rows, queries | keys]`, `raw: [rows, queries | keys | values]`, `out: [rows, queries]`;
    /// the rows of each sequence follow each other.
    pub(super) fn forward(&self, lengths: &[usize], turned: &[f32], raw: &[f32], out: &mut [f32]) {
        let (query_width, turned_width, raw_width) = self.widths();
        let (mut keys, mut values) = (Side::default(), Side::default());
        let mut summed = vec![0.0; self.padded];
        let mut start = 0;
        for &length in lengths {
            let turned = &turned[start * turned_width..][..length * turned_width];
            let raw = &raw[start * raw_width..][..length * raw_width];
            let out = &mut out[start * query_width..][..length * query_width];
            let mut weights = vec![0.0; vector_pad(length)];
            for group in 0..self.groups {
                keys.read(turned, turned_width, query_width + group * self.dim, self);
                values.read(raw, raw_width, turned_width + group * self.dim, self);
                for head in group * self.per_group..(group + 1) * self.per_group {
                    for i in 0..length {
                        let query = &turned[i * turned_width + head * self.dim..][..self.dim];
                        let weights = &mut weights[..vector_pad(i + 1)];
                        combine(query, &keys.columns, vector_pad(length), weights);
                        softmax(weights, i + 1);
                        combine(&weights[..i + 1], &values.rows, self.padded, &mut summed);
                        out[i * query_width + head * self.dim..][..self.dim].copy_from_slice(&summed[..self.dim]);
                    }
                }
            }
            start += length;
        }
    }

    /// Slopes of queries, keys (both as turned) and values, `d_raw: [rows, queries | keys | values]`.
    pub(super) fn backward(&self, lengths: &[usize], turned: &[f32], raw: &[f32], d_out: &[f32], d_raw: &mut [f32]) {
        let (query_width, turned_width, raw_width) = self.widths();
        let [mut queries, mut keys, mut values, mut d_outs] = [(); 4].map(|()| Side::default());
        let mut summed = vec![0.0; self.padded];
        let mut start = 0;
        for &length in lengths {
            let turned = &turned[start * turned_width..][..length * turned_width];
            let raw = &raw[start * raw_width..][..length * raw_width];
            let d_out = &d_out[start * query_width..][..length * query_width];
            let d_raw = &mut d_raw[start * raw_width..][..length * raw_width];
            let stride = vector_pad(length);
            let mut weights = vec![0.0; length * stride];
            let mut d_scores = vec![0.0; length * stride];
            for group in 0..self.groups {
                let (key_at, value_at) = (query_width + group * self.dim, turned_width + group * self.dim);
                keys.read(turned, turned_width, key_at, self);
                values.read(raw, raw_width, value_at, self);
                for row in d_raw.chunks_exact_mut(raw_width) {
                    row[key_at..key_at + self.dim].fill(0.0);
                    row[value_at..value_at + self.dim].fill(0.0);
                }
                for head in group * self.per_group..(group + 1) * self.per_group {
                    queries.read(turned, turned_width, head * self.dim, self);
                    d_outs.read(d_out, query_width, head * self.dim, self);
                    for i in 0..length {
                        let width = vector_pad(i + 1);
                        let weights = &mut weights[i * stride..][..width];
                        let d_scores = &mut d_scores[i * stride..][..width];
                        combine(queries.row(i, self), &keys.columns, stride, weights);
                        softmax(weights, i + 1);
                        combine(d_outs.row(i, self), &values.columns, stride, d_scores);
                        slopes::softmax(weights, d_scores);
                        combine(&d_scores[..i + 1], &keys.rows, self.padded, &mut summed);
                        d_raw[i * raw_width + head * self.dim..][..self.dim].copy_from_slice(&summed[..self.dim]);
                    }
                    for j in 0..length {
                        let from = j * stride + j;
                        let row = &mut d_raw[j * raw_width..][..raw_width];
                        let later = j * self.padded;
                        let column = |matrix, side: &Side, summed: &mut [f32]| {
                            combine_column(matrix, stride, &side.rows[later..], self.padded, summed);
                        };
                        column(&d_scores[from..], &queries, &mut summed);
                        add(&mut row[key_at..key_at + self.dim], &summed);
                        column(&weights[from..], &d_outs, &mut summed);
                        add(&mut row[value_at..value_at + self.dim], &summed);
                    }
                }
            }
            start += length;
        }
    }

    /// Widths of all queries, of queries and keys, and of all three.
    fn widths(&self) -> (usize, usize, usize) {
        let (query, key) = (self.groups * self.per_group * self.dim, self.groups * self.dim);
        (query, query + key, query + 2 * key)
    }
}

impl Side {
    /// Takes one head out of rows of `width`, from column `at` on.
    fn read(&mut self, from: &[f32], width: usize, at: usize, attention: &Attention) {
        self.length = from.len() / width;
        let stride = vector_pad(self.length);
        for (values, count) in
            [(&mut self.rows, self.length * attention.padded), (&mut self.columns, attention.dim * stride)]
        {
            values.clear();
            values.resize(count, 0.0);
        }
        for (i, row) in from.chunks_exact(width).enumerate() {
            let head = &row[at..at + attention.dim];
            self.rows[i * attention.padded..][..attention.dim].copy_from_slice(head);
            for (d, &value) in head.iter().enumerate() {
                self.columns[d * stride + i] = value;
            }
        }
    }

    fn row(&self, i: usize, attention: &Attention) -> &[f32] {
        &self.rows[i * attention.padded..][..attention.dim]
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
