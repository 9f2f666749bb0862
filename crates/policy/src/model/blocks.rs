//! Causal attention in blocks, outside the graph, and the way back through it.
//!
//! A graph that holds attention as tensor operations keeps every matrix of scores for its way back, `length²`
//! numbers a head. Here queries meet keys block by block; what a row has summed up is merged with each further
//! block by the largest score seen (`o = Σ e^{s−m} v`, rescaled when `m` grows), and on the way back a block's
//! scores are computed anew from the logarithm of each row's sum. So beside queries, keys, values and what
//! came out no more than one block of scores is ever there: memory is linear in the length.
//!
//! `d_value = pᵀ d_out`, `d_score = p (d_out valueᵀ − Σ d_out · out)`, `d_query = d_score key`,
//! `d_key = d_scoreᵀ query`.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

/// Positions of one block. At most so many, and a graph is as large as without blocks: small models lose
/// nothing.
pub(super) const BLOCK: usize = 256;

/// What the way back needs; no tensor of it belongs to a graph.
#[derive(Clone, Debug)]
pub(super) struct Attended {
    /// `[batch, heads, length, dim]`, scaled.
    queries: Tensor<4>,
    /// `[batch, groups, length, dim]`, as the values.
    keys: Tensor<4>,
    values: Tensor<4>,
    /// `[batch, heads, length, dim]`
    pub(super) out: Tensor<4>,
    /// The logarithm of each row's sum of exponentials: `[batch, heads, length, 1]`.
    log_sums: Tensor<4>,
    block: usize,
}

impl Attended {
    /// What each position reads of itself and those before it, in blocks of so many positions.
    pub(super) fn new(queries: Tensor<4>, keys: Tensor<4>, values: Tensor<4>, block: usize) -> Attended {
        let [batch, heads, length, dim] = queries.dims();
        let groups = keys.dims()[1];
        let (mut outs, mut log_sums) = (Vec::new(), Vec::new());
        for rows in spans(length, block) {
            let query = grouped(&queries, &rows, groups);
            let shape = [batch, groups, query.dims()[2], 1];
            let mut largest = Tensor::full(shape, LEAST, &query.device());
            let mut total = Tensor::zeros(shape, &query.device());
            let mut sum = query.zeros_like();
            for columns in spans(rows.end, block) {
                let scores = scores(&query, &keys, &rows, &columns);
                let larger = largest.clone().max_pair(scores.clone().max_dim(3));
                let stays = (largest - larger.clone()).exp();
                let weights = (scores - larger.clone()).exp();
                total = total * stays.clone() + weights.clone().sum_dim(3);
                sum = sum * stays + weights.matmul(part(&values, &columns));
                largest = larger;
            }
            outs.push((sum / total.clone()).reshape([batch, heads, rows.len(), dim]));
            log_sums.push((largest + total.log()).reshape([batch, heads, rows.len(), 1]));
        }
        let (out, log_sums) = (Tensor::cat(outs, 2), Tensor::cat(log_sums, 2));
        Attended { queries, keys, values, out, log_sums, block }
    }

    /// Slopes by queries, keys and values of those by what came out.
    pub(super) fn back(&self, d_out: Tensor<4>) -> [Tensor<4>; 3] {
        let Attended { queries, keys, values, out, log_sums, block } = self;
        let [batch, heads, length, dim] = queries.dims();
        let groups = keys.dims()[1];
        let along = (d_out.clone() * out.clone()).sum_dim(3);
        let blocks: Vec<Range<usize>> = spans(length, *block).collect();
        let mut d_queries: Vec<Tensor<4>> =
            blocks.iter().map(|rows| grouped(queries, rows, groups).zeros_like()).collect();
        let (mut d_keys, mut d_values) = (Vec::new(), Vec::new());
        for (number, columns) in blocks.iter().enumerate() {
            let (key, value) = (part(keys, columns), part(values, columns));
            let (mut d_key, mut d_value) = (key.zeros_like(), value.zeros_like());
            for (rows, d_query) in blocks.iter().zip(&mut d_queries).skip(number) {
                let [query, d_out, log_sum, along] =
                    [queries, &d_out, log_sums, &along].map(|values| grouped(values, rows, groups));
                let weights = (scores(&query, keys, rows, columns) - log_sum).exp();
                d_value = d_value + weights.clone().swap_dims(2, 3).matmul(d_out.clone());
                let d_scores = weights * (d_out.matmul(value.clone().swap_dims(2, 3)) - along);
                d_key = d_key + d_scores.clone().swap_dims(2, 3).matmul(query);
                *d_query = d_query.clone() + d_scores.matmul(key.clone());
            }
            d_keys.push(d_key);
            d_values.push(d_value);
        }
        let rows = d_queries.into_iter().zip(&blocks);
        let d_queries = rows.map(|(d, rows)| d.reshape([batch, heads, rows.len(), dim])).collect();
        [d_queries, d_keys, d_values].map(|blocks| Tensor::cat(blocks, 2))
    }
}

/// Far below any score: its exponential is exactly 0 beside a real one.
const LEAST: f32 = -1e30;

/// Blocks of positions.
fn spans(length: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(block).map(move |start| start..length.min(start + block))
}

/// Some positions of `values: [batch, groups, length, width]`.
fn part(values: &Tensor<4>, positions: &Range<usize>) -> Tensor<4> {
    values.clone().narrow(2, positions.start, positions.len())
}

/// Some positions of `values: [batch, heads, length, width]`, the heads of a group under each other, so that
/// no key or value is repeated: `[batch, groups, heads per group · positions, width]`.
fn grouped(values: &Tensor<4>, positions: &Range<usize>, groups: usize) -> Tensor<4> {
    let [batch, heads, _, width] = values.dims();
    part(values, positions).reshape([batch, groups, heads / groups * positions.len(), width])
}

/// Scores of grouped rows and some keys; where a row may not look they are far below any other.
fn scores(query: &Tensor<4>, keys: &Tensor<4>, rows: &Range<usize>, columns: &Range<usize>) -> Tensor<4> {
    let scores = query.clone().matmul(part(keys, columns).swap_dims(2, 3));
    if columns.end <= rows.start {
        return scores;
    }
    let [_, _, height, width] = scores.dims();
    let mut mask = vec![0.0; height * width];
    for (row, mask) in mask.chunks_exact_mut(width).enumerate() {
        let position = rows.start + row % rows.len();
        let seen = (position + 1).saturating_sub(columns.start).min(width);
        mask[seen..].fill(LEAST);
    }
    let mask = Tensor::from_data(TensorData::new(mask, [1, 1, height, width]), &scores.device());
    scores + mask
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::host::reference::{self, Heads, QueriesKeysValues};

    /// Numbers between −1 and 1 that look random.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// `[length, heads, dim]` to `[1, heads, length, dim]`.
    fn tensor(values: &[f32], length: usize, heads: usize, dim: usize) -> Tensor<4> {
        let data = TensorData::new(values.to_vec(), [1, length, heads, dim]);
        Tensor::<4>::from_data(data, &Device::flex()).swap_dims(1, 2)
    }

    #[track_caller]
    fn compare(what: &str, found: Tensor<4>, expected: &[f64]) {
        let found: Vec<f32> = found.swap_dims(1, 2).into_data().try_into_vec().unwrap();
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{what}: {found}, expected {expected}");
        }
    }

    /// Blocks of every size give what the formula gives, also where the last one is not full.
    #[test]
    fn attention_in_blocks_is_attention() {
        for (length, groups, per_group, dim, block) in
            [(1, 1, 1, 2, 4), (7, 2, 1, 4, 3), (12, 1, 3, 6, 4), (13, 2, 2, 8, 5), (13, 2, 2, 8, 1), (13, 2, 2, 8, 64)]
        {
            let heads = Heads { groups, per_group, dim };
            let counts = [heads.count(), groups, groups, heads.count()];
            let given: Vec<Vec<f32>> =
                (0..4).map(|i| numbers(length * counts[i] * dim, 7 * i as u32 + length as u32)).collect();
            let wide = |i: usize| given[i].iter().map(|&value| 3.0 * f64::from(value)).collect::<Vec<f64>>();
            let narrow = |i: usize| tensor(&given[i], length, counts[i], dim) * 3.0;
            let all = QueriesKeysValues { queries: wide(0), keys: wide(1), values: wide(2) };
            let seen: Vec<Vec<usize>> = (0..length).map(|row| (0..=row).collect()).collect();
            let attended = Attended::new(narrow(0), narrow(1), narrow(2), block);
            let what = format!("{length} positions in blocks of {block}");
            compare(&what, attended.out.clone(), &reference::attention(heads, &seen, &all).0);
            let expected = reference::attention_back(heads, &seen, &all, &wide(3));
            let [d_queries, d_keys, d_values] = attended.back(narrow(3));
            compare(&what, d_queries, &expected.queries);
            compare(&what, d_keys, &expected.keys);
            compare(&what, d_values, &expected.values);
        }
    }
}
