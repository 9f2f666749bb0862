//! What each kernel computes, as a textbook would write it: plain loops in `f64`, one formula a function.
//!
//! The kernels are tested against these, and these against finite differences. Functions whose names end
//! in `back` are the way back: from the slopes of a loss by what came out (`d_y`) to its slopes by what
//! went in.

use crate::AdamW;

/// Widths of grouped-query attention: `groups` heads of keys and values, each read by `per_group` heads of
/// queries, all of `dim` numbers.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads of keys and values.
    pub groups: usize,
    /// Heads of queries that read the same keys.
    pub per_group: usize,
    /// Numbers of a head.
    pub dim: usize,
}

/// Queries `[rows, heads, dim]`, keys and values `[rows, groups, dim]`, or the slopes of these.
#[derive(Clone, Debug)]
pub struct QueriesKeysValues {
    /// What asks, already scaled.
    pub queries: Vec<f64>,
    /// What is asked.
    pub keys: Vec<f64>,
    /// What is told.
    pub values: Vec<f64>,
}

/// What AdamW remembers of one list of weights.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `m ← β₁ m + (1 − β₁) g`
    pub first: Vec<f64>,
    /// `v ← β₂ v + (1 − β₂) g²`
    pub second: Vec<f64>,
}

/// `y = x · weight / √(mean(x²) + ε)` for every row of `x`.
pub fn rms_norm(x: &[f64], weight: &[f64], epsilon: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks_exact(weight.len()) {
        let root = root_mean_square(row, epsilon);
        y.extend(row.iter().zip(weight).map(|(x, weight)| x * weight / root));
    }
    y
}

/// With `r = √(mean(x²) + ε)`: `d_x = d_y · weight / r − x · Σ(d_y · weight · x) / (n r³)` and
/// `d_weight = Σ_rows d_y · x / r`; gives both.
pub fn rms_norm_back(x: &[f64], weight: &[f64], epsilon: f64, d_y: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let width = weight.len();
    let (mut d_x, mut d_weight) = (Vec::new(), vec![0.0; width]);
    for (x, d_y) in x.chunks_exact(width).zip(d_y.chunks_exact(width)) {
        let root = root_mean_square(x, epsilon);
        let along: f64 = (0..width).map(|i| d_y[i] * weight[i] * x[i]).sum();
        for i in 0..width {
            d_x.push(d_y[i] * weight[i] / root - x[i] * along / (width as f64 * root.powi(3)));
            d_weight[i] += d_y[i] * x[i] / root;
        }
    }
    (d_x, d_weight)
}

/// Turns each head's pairs `(xᵢ, xᵢ₊ₕ)`, h half of a head, by the angles of `cos` and `sin`.
pub fn rotate(x: &[f64], cos: &[f64], sin: &[f64]) -> Vec<f64> {
    let half = cos.len();
    let mut y = x.to_vec();
    for head in y.chunks_exact_mut(2 * half) {
        for i in 0..half {
            let (a, b) = (head[i], head[half + i]);
            head[i] = a * cos[i] - b * sin[i];
            head[half + i] = b * cos[i] + a * sin[i];
        }
    }
    y
}

/// [`rms_norm`] of each head, then [`rotate`].
pub fn norm_and_rotate(x: &[f64], weight: &[f64], epsilon: f64, cos: &[f64], sin: &[f64]) -> Vec<f64> {
    rotate(&rms_norm(x, weight, epsilon), cos, sin)
}

/// Slopes by `x` and by `weight`: turned back, a rotation's transpose being the opposite rotation, then
/// [`rms_norm_back`].
pub fn norm_and_rotate_back(
    x: &[f64],
    weight: &[f64],
    epsilon: f64,
    (cos, sin): (&[f64], &[f64]),
    d_y: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let opposite: Vec<f64> = sin.iter().map(|sin| -sin).collect();
    rms_norm_back(x, weight, epsilon, &rotate(d_y, cos, &opposite))
}

/// `y = silu(gate) · up` for rows `x: [gate | up]`, each half `width` long; `silu(g) = g / (1 + e⁻ᵍ)`.
pub fn gate(x: &[f64], width: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks_exact(2 * width) {
        y.extend((0..width).map(|i| row[i] * sigmoid(row[i]) * row[width + i]));
    }
    y
}

/// Slopes by `x`, laid out as it; `silu′(g) = σ(g) (1 + g (1 − σ(g)))`.
pub fn gate_back(x: &[f64], width: usize, d_y: &[f64]) -> Vec<f64> {
    let mut d_x = Vec::new();
    for (row, d_y) in x.chunks_exact(2 * width).zip(d_y.chunks_exact(width)) {
        let (gate, up) = row.split_at(width);
        let slope = |g: f64| sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)));
        d_x.extend((0..width).map(|i| d_y[i] * up[i] * slope(gate[i])));
        d_x.extend((0..width).map(|i| d_y[i] * gate[i] * sigmoid(gate[i])));
    }
    d_x
}

/// `ln Σ eˣ`, with the largest taken out so that nothing overflows.
pub fn log_sum(x: &[f64]) -> f64 {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// `p = exp(x − log_sum(x))`
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let log_sum = log_sum(x);
    x.iter().map(|x| (x - log_sum).exp()).collect()
}

/// `−Σ p ln p` of the softmax of `logits`, in nats.
pub fn entropy(logits: &[f64]) -> f64 {
    let log_sum = log_sum(logits);
    logits.iter().map(|x| (x - log_sum).exp() * (log_sum - x)).sum()
}

/// `Σ coefficient · ln p(token)` over the picks `(token, coefficient)` of one row of logits.
pub fn selected(logits: &[f64], picks: &[(usize, f64)]) -> f64 {
    picks.iter().map(|&(token, coefficient)| coefficient * (logits[token] - log_sum(logits))).sum()
}

/// Slopes of [`selected`] by the logits: `Σ coefficient · (one-hot − p)`.
pub fn selected_back(logits: &[f64], picks: &[(usize, f64)]) -> Vec<f64> {
    let mut d = vec![0.0; logits.len()];
    for &(token, coefficient) in picks {
        d[token] += coefficient;
        for (d, p) in d.iter_mut().zip(softmax(logits)) {
            *d -= coefficient * p;
        }
    }
    d
}

/// `out = Σ p value` with `p = softmax(query · key)` over the rows `seen` by each row, head by head: `out:
/// [rows, heads, dim]`, and the logarithm of each softmax's sum, `[heads, rows]`.
pub fn attention(heads: Heads, seen: &[Vec<usize>], given: &QueriesKeysValues) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut log_sums) = (vec![0.0; given.queries.len()], Vec::new());
    for head in 0..heads.count() {
        for (row, seen) in seen.iter().enumerate() {
            let scores = heads.scores(head, row, seen, given);
            log_sums.push(log_sum(&scores));
            for (&other, p) in seen.iter().zip(softmax(&scores)) {
                for d in 0..heads.dim {
                    out[heads.query(head, row) + d] += p * given.values[heads.key(head, other) + d];
                }
            }
        }
    }
    (out, log_sums)
}

/// Slopes by queries, keys and values: `d_value = Σ p d_out`, and with `d_p = d_out · value` and
/// `d_score = p (d_p − Σ p d_p)`, `d_query = Σ d_score key` and `d_key = Σ d_score query`.
pub fn attention_back(
    heads: Heads,
    seen: &[Vec<usize>],
    given: &QueriesKeysValues,
    d_out: &[f64],
) -> QueriesKeysValues {
    let mut slopes = QueriesKeysValues {
        queries: vec![0.0; given.queries.len()],
        keys: vec![0.0; given.keys.len()],
        values: vec![0.0; given.values.len()],
    };
    for head in 0..heads.count() {
        for (row, seen) in seen.iter().enumerate() {
            let query = heads.query(head, row);
            let weights = softmax(&heads.scores(head, row, seen, given));
            let d_weight = |&other: &usize| dot(&d_out[query..][..heads.dim], &given.values[heads.key(head, other)..]);
            let d_weights: Vec<f64> = seen.iter().map(d_weight).collect();
            let along = dot(&weights, &d_weights);
            for ((&other, p), d_p) in seen.iter().zip(&weights).zip(&d_weights) {
                let (key, d_score) = (heads.key(head, other), p * (d_p - along));
                for d in 0..heads.dim {
                    slopes.values[key + d] += p * d_out[query + d];
                    slopes.queries[query + d] += d_score * given.keys[key + d];
                    slopes.keys[key + d] += d_score * given.queries[query + d];
                }
            }
        }
    }
    slopes
}

/// `gradient · min(1, clip / |gradient|)`, the length over all lists together.
pub fn clipped(gradient: &[Vec<f64>], clip: f64) -> Vec<Vec<f64>> {
    let length = gradient.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let scale = if length > clip { clip / length } else { 1.0 };
    gradient.iter().map(|list| list.iter().map(|g| g * scale).collect()).collect()
}

/// Step `number` (from 1 on) of AdamW on one list: `w ← w − rate · (m̂ / (√v̂ + ε) + decay · w)`, where the
/// hats divide by `1 − βⁿ`. `gradient` is what is left after clipping.
pub fn adamw(
    weights: &mut [f64],
    moments: &mut Moments,
    gradient: &[f64],
    number: i32,
    rate: f64,
    decay: f64,
    settings: &AdamW,
) {
    let AdamW { beta1, beta2, epsilon, .. } = *settings;
    for (i, g) in gradient.iter().enumerate() {
        moments.first[i] = beta1 * moments.first[i] + (1.0 - beta1) * g;
        moments.second[i] = beta2 * moments.second[i] + (1.0 - beta2) * g * g;
        let first = moments.first[i] / (1.0 - beta1.powi(number));
        let second = moments.second[i] / (1.0 - beta2.powi(number));
        weights[i] -= rate * (first / (second.sqrt() + epsilon) + decay * weights[i]);
    }
}

impl Heads {
    /// Heads of queries.
    pub fn count(self) -> usize {
        self.groups * self.per_group
    }

    /// Where a row's query of one head begins.
    fn query(self, head: usize, row: usize) -> usize {
        (row * self.count() + head) * self.dim
    }

    /// Where the key and the value begin that a head of queries reads in a row.
    fn key(self, head: usize, row: usize) -> usize {
        (row * self.groups + head / self.per_group) * self.dim
    }

    fn scores(self, head: usize, row: usize, seen: &[usize], given: &QueriesKeysValues) -> Vec<f64> {
        let query = &given.queries[self.query(head, row)..][..self.dim];
        seen.iter().map(|&other| dot(query, &given.keys[self.key(head, other)..])).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn root_mean_square(x: &[f64], epsilon: f64) -> f64 {
    (dot(x, x) / x.len() as f64 + epsilon).sqrt()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
