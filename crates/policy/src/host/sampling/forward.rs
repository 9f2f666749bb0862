//! One pass of the decoder over rows: each row is one token of one sequence, with its place in that
//! sequence's blocks.
//!
//! Prefilling is a pass with many rows of a few sequences, decoding one with one row of each of many;
//! both may be in one pass. What a row gets depends on its own sequence alone, see
//! [`crate::host::kernels`] and [`super::cascade`].

use crate::host::engine::{Angles, Engine, score_scale};
use crate::host::kernels::{gate, rms_norm};
use crate::host::matrix::{Into, PackedRows};
use crate::host::sampling::blocks::Chain;
use crate::host::sampling::cascade::{Attend, Run, Seen, runs};

/// Rows of one pass while prefilling.
pub(crate) const PREFILL_ROWS: usize = 256;

/// One token to compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) token: u32,
    /// Which of the chains given is its sequence's.
    pub(crate) chain: usize,
    /// From 0; the chain holds all positions before it, or earlier rows of this pass do, and has a
    /// block for it.
    pub(crate) position: usize,
}

/// Memory of a pass, reused from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    packed: PackedRows,
    residual: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    gated: Vec<f32>,
    attended: Vec<f32>,
    seen: Seen,
    runs: Vec<Run>,
    /// Final states of the picked rows of the last pass, normalised: `[picks, hidden]`.
    pub(crate) hidden: Vec<f32>,
}

impl Engine {
    /// Computes `rows`, leaves their keys and values in `chains` and the final states of `picks` in
    /// `scratch.hidden`. Rows of one sequence follow each other in the order of their positions; picks
    /// ascend.
    pub(crate) fn forward(
        &self,
        rows: &[Row],
        picks: &[usize],
        chains: &mut [&mut Chain],
        angles: &Angles,
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        let (width, epsilon) = (config.hidden_size, config.rms_norm_eps as f32);
        let (query_width, scale) = (config.query_width(), score_scale(config));
        let Scratch { packed, residual, normed, wide, gated, attended, seen, runs: levels, hidden } = scratch;
        residual.clear();
        for row in rows {
            self.embed(row.token, residual);
        }
        let picked: Vec<Row> = picks.iter().map(|&pick| rows[pick]).collect();
        let mut rows = rows;
        runs(rows, chains, levels);
        for (number, layer) in self.layers.iter().enumerate() {
            let normed_rows = space(normed, rows.len() * width);
            rms_norm(residual, &layer.input_norm, epsilon, normed_rows);
            let outputs = layer.query_key_value.outputs();
            let mut projected = space(wide, rows.len() * outputs);
            layer.query_key_value.multiply(normed_rows, projected, Into::Replace, packed);
            for (row, wide) in rows.iter().zip(projected.chunks_exact_mut(outputs)) {
                let (query, rest) = wide.split_at_mut(query_width);
                let (key, value) = rest.split_at_mut(config.key_value_width());
                layer.turn(query, key, epsilon, scale, angles.at(row.position));
                chains[row.chain].write(number, row.position, key, value);
            }
            if number + 1 == self.layers.len() && picks.len() < rows.len() {
                // Of the other rows nothing but keys and values is wanted.
                keep(residual, width, picks);
                residual.truncate(picks.len() * width);
                keep(projected, outputs, picks);
                projected = &mut projected[..picks.len() * outputs];
                rows = &picked;
                runs(rows, chains, levels);
            }
            let out = space(attended, rows.len() * query_width);
            let (queries, stride) = (&*projected, outputs);
            Attend { config, layer: number, rows, chains, runs: levels, queries, stride, seen, out }.run();
            layer.output.multiply(&attended[..rows.len() * query_width], residual, Into::Add, packed);
            let normed_rows = space(normed, rows.len() * width);
            rms_norm(residual, &layer.feed_norm, epsilon, normed_rows);
            let both = space(wide, rows.len() * layer.gate_up.outputs());
            layer.gate_up.multiply(normed_rows, both, Into::Replace, packed);
            let gated = space(gated, rows.len() * config.intermediate_size);
            gate(both, config.intermediate_size, gated);
            layer.down.multiply(gated, residual, Into::Add, packed);
        }
        hidden.resize(rows.len() * width, 0.0);
        rms_norm(residual, &self.norm, epsilon, hidden);
    }

    /// Logits of the rows picked in the last pass: `[picks, vocabulary]`.
    pub(crate) fn logits_of_last(&self, scratch: &mut Scratch, logits: &mut Vec<f32>) {
        let Scratch { hidden, packed, .. } = scratch;
        let rows = hidden.len() / self.config.hidden_size;
        logits.resize(rows * self.config.vocab_size, 0.0);
        self.head.multiply(hidden, logits, Into::Replace, packed);
    }
}

/// The first `count` values of a buffer that only ever grows: what is in them is not defined.
fn space(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    &mut buffer[..count]
}

/// Moves the picked rows of `values: [rows, width]` to its beginning.
fn keep(values: &mut [f32], width: usize, picks: &[usize]) {
    for (to, &pick) in picks.iter().enumerate() {
        values.copy_within(pick * width..(pick + 1) * width, to * width);
    }
}
