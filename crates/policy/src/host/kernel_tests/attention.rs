//! Attention over tries.

use toehold_rollout::TokenId;

use super::*;
use crate::host::attention::{Attention, Scratch};
use crate::host::reference::{self, Heads, QueriesKeysValues};
use crate::trie::{Sharing, Trie};
use crate::{Biases, Family, ModelConfig, RopeScaling};

/// Of the largest number of each list.
const BOUND: f64 = 5e-6;

/// Queries and keys after the turn, values behind what is not read, and slopes of what comes out.
struct Given {
    turned: Vec<f32>,
    raw: Vec<f32>,
    d_out: Vec<f32>,
}

#[track_caller]
fn check(heads: Heads, sequences: &[Vec<TokenId>], sharing: Sharing) {
    let views: Vec<&[TokenId]> = sequences.iter().map(Vec::as_slice).collect();
    let trie = Trie::new(&views, sharing);
    let rows = trie.tokens.len();
    let given = Given::draw(heads, rows);
    let found = on_every_machine(|| attend(heads, &trie, &given));
    let what = format!("{heads:?}, {rows} rows, {} nodes, {sharing:?}", trie.nodes.len());

    // By sequence and not by node, as the trie would have it: two ways to say who sees whom.
    let mut seen = vec![Vec::new(); rows];
    for sequence in 0..sequences.len() {
        let path = trie.rows(sequence);
        for (place, &row) in path.iter().enumerate() {
            seen[row] = path[..=place].to_vec();
        }
    }
    let (exact, d_out) = (given.exact(heads), wide(&given.d_out));
    let (out, log_sums) = reference::attention(heads, &seen, &exact);
    let slopes = reference::attention_back(heads, &seen, &exact, &d_out);
    if exact.queries.len() <= 24 {
        let loss = |given: &QueriesKeysValues| dot(&reference::attention(heads, &seen, given).0, &d_out);
        let by = |part: fn(&mut QueriesKeysValues) -> &mut Vec<f64>| {
            differences(part(&mut exact.clone()), |values| {
                let mut moved = exact.clone();
                *part(&mut moved) = values.to_vec();
                loss(&moved)
            })
        };
        near(&format!("{what}: queries by differences"), &slopes.queries, &by(|given| &mut given.queries), 1e-7);
        near(&format!("{what}: keys by differences"), &slopes.keys, &by(|given| &mut given.keys), 1e-7);
        near(&format!("{what}: values by differences"), &slopes.values, &by(|given| &mut given.values), 1e-7);
    }
    // With one key there is nothing to choose: slopes of queries and keys are roundings of 0.
    near(&format!("{what}: out"), &wide(&found[0]), &out, BOUND);
    near(&format!("{what}: log-sums"), &wide(&found[1]), &log_sums, BOUND);
    let found = split(heads, &found[2]);
    near(&format!("{what}: queries"), &found.queries, &slopes.queries, BOUND);
    near(&format!("{what}: keys"), &found.keys, &slopes.keys, BOUND);
    near(&format!("{what}: values"), &found.values, &slopes.values, BOUND);
}

/// Out, log-sums and slopes, with memory in which another shape has left NaN.
fn attend(heads: Heads, trie: &Trie, given: &Given) -> Vec<Vec<f32>> {
    let mut scratch = Scratch::default();
    let other = Heads { groups: heads.groups + 1, per_group: 1, dim: heads.dim + 21 };
    let tokens: Vec<TokenId> = (0..150).collect();
    let nothing = Given {
        turned: poison(150 * widths(other).1),
        raw: poison(150 * widths(other).2),
        d_out: poison(150 * widths(other).0),
    };
    run(other, &Trie::new(&[&tokens], Sharing::Shared), &nothing, &mut scratch);
    let first = run(heads, trie, given, &mut scratch);
    let again = run(heads, trie, given, &mut scratch);
    for (again, first) in again.iter().zip(&first) {
        same_bits("a second time", again, first);
    }
    first
}

fn run(heads: Heads, trie: &Trie, given: &Given, scratch: &mut Scratch) -> Vec<Vec<f32>> {
    let Given { turned, raw, d_out } = given;
    let attention = Attention::new(&config(heads));
    let rows = trie.tokens.len();
    let (mut out, mut log_sums) = (poison(d_out.len()), poison(rows * heads.count()));
    attention.forward(trie, turned, raw, &mut out, &mut log_sums, scratch);
    let mut d_raw = poison(raw.len());
    attention.backward(trie, turned, raw, &out, &log_sums, d_out, &mut d_raw, scratch);
    vec![out, log_sums, d_raw]
}

impl Given {
    fn draw(heads: Heads, rows: usize) -> Given {
        let mut draws = Draws((rows * 1000 + heads.count() * 100 + heads.dim) as u64);
        let (query, turned, raw) = widths(heads);
        let mut values = draws.numbers(rows * raw, 1.0);
        for row in values.chunks_exact_mut(raw) {
            // Queries and keys are read after the turn only.
            row[..turned].fill(f32::NAN);
        }
        // Scores of about 2 either way, some near 5: neither flat nor sure.
        let size = 2.5 / (heads.dim as f32).powf(0.25);
        let turned = draws.numbers(rows * turned, size);
        Given { turned, raw: values, d_out: draws.numbers(rows * query, 1.0) }
    }

    fn exact(&self, heads: Heads) -> QueriesKeysValues {
        let (_, turned, raw) = widths(heads);
        let mut all = Vec::new();
        for (row, values) in self.turned.chunks_exact(turned).zip(self.raw.chunks_exact(raw)) {
            all.extend_from_slice(row);
            all.extend_from_slice(&values[turned..]);
        }
        split(heads, &all)
    }

    /// Some of the rows.
    fn rows(&self, heads: Heads, rows: std::ops::Range<usize>) -> Given {
        let take = |values: &[f32], width: usize| values[rows.start * width..rows.end * width].to_vec();
        let (query, turned, raw) = widths(heads);
        Given { turned: take(&self.turned, turned), raw: take(&self.raw, raw), d_out: take(&self.d_out, query) }
    }
}

/// Rows of queries, keys and values, each on its own.
fn split(heads: Heads, all: &[f32]) -> QueriesKeysValues {
    let (query, turned, raw) = widths(heads);
    let part = |from: usize, to: usize| all.chunks_exact(raw).flat_map(|row| wide(&row[from..to])).collect();
    QueriesKeysValues { queries: part(0, query), keys: part(query, turned), values: part(turned, raw) }
}

/// Widths of all queries, of queries and keys, and of all three.
fn widths(heads: Heads) -> (usize, usize, usize) {
    let (query, key) = (heads.count() * heads.dim, heads.groups * heads.dim);
    (query, query + key, query + 2 * key)
}

fn config(heads: Heads) -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        vocab_size: 8,
        hidden_size: 8,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: heads.count(),
        num_key_value_heads: heads.groups,
        head_dim: heads.dim,
        max_position_embeddings: 8192,
        rope_theta: 1e4,
        rope_scaling: RopeScaling::Default,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        biases: Biases::default(),
        initializer_range: 0.02,
        eos_token_id: Vec::new(),
        bos_token_id: None,
        pad_token_id: None,
    }
}

/// A sequence of so many tokens, other ones for another `name`.
fn tokens(count: usize, name: TokenId) -> Vec<TokenId> {
    (0..count as TokenId).map(|place| 10_000 * name + place).collect()
}

/// `parts` one behind the other.
fn joined(parts: &[(usize, TokenId)]) -> Vec<TokenId> {
    parts.iter().flat_map(|&(count, name)| tokens(count, name)).collect()
}

fn shapes() -> Vec<Vec<Vec<TokenId>>> {
    vec![
        vec![tokens(1, 1)],
        vec![tokens(2, 1)],
        vec![tokens(64, 1)],
        vec![tokens(65, 1)],
        vec![tokens(200, 1)],
        // A group below a node of one token, with branches of one token, and one that ends at the node.
        vec![joined(&[(1, 1), (1, 2)]), joined(&[(1, 1), (1, 3)]), tokens(1, 1)],
        // A node longer than a block of keys, below it branches longer than one.
        vec![joined(&[(70, 1), (66, 2)]), joined(&[(70, 1), (3, 3)]), joined(&[(70, 1), (130, 4)])],
        // Nested cuts of one trace.
        vec![tokens(150, 1), tokens(100, 1), joined(&[(100, 1), (9, 2)]), joined(&[(31, 1), (40, 3)]), tokens(5, 1)],
        // A forest of everything.
        vec![
            tokens(3, 5),
            joined(&[(40, 1), (30, 2), (10, 3)]),
            joined(&[(40, 1), (30, 2), (1, 4)]),
            joined(&[(40, 1), (7, 6)]),
            tokens(1, 7),
            joined(&[(64, 8), (64, 9)]),
            joined(&[(64, 8), (1, 10)]),
        ],
    ]
}

#[test]
fn attention_equals_its_reference_there_and_back() {
    for (groups, per_group, dim) in [(1, 1, 2), (1, 1, 1), (2, 1, 3), (1, 3, 16), (2, 2, 20), (1, 2, 32), (1, 1, 70)] {
        for sequences in shapes() {
            check(Heads { groups, per_group, dim }, &sequences, Sharing::Shared);
        }
    }
}

#[test]
fn attention_of_drawn_tries_equals_its_reference() {
    let mut draws = Draws(8);
    for round in 0..24 {
        let heads = Heads { groups: draws.size(3), per_group: draws.size(3), dim: draws.size(40) };
        let mut sequences = vec![tokens(draws.size(150), 1)];
        for name in 2..2 + draws.size(6) as TokenId {
            // Each is a cut of an earlier one, an empty one too, with other tokens behind it.
            let earlier = &sequences[draws.size(sequences.len()) - 1];
            let cut = draws.size(earlier.len() + 1) - 1;
            let sequence = [&earlier[..cut], &tokens(draws.size(90), name)].concat();
            sequences.push(sequence);
        }
        let sharing = if round % 4 == 0 { Sharing::Separate } else { Sharing::Shared };
        check(heads, &sequences, sharing);
    }
}

#[test]
fn a_sequence_gives_the_same_bits_alone_and_in_a_forest() {
    let heads = Heads { groups: 2, per_group: 2, dim: 20 };
    let sequences = [tokens(70, 1), tokens(1, 2), tokens(129, 3), tokens(33, 4)];
    let trie = |sequences: &[Vec<TokenId>]| {
        Trie::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>(), Sharing::Separate)
    };
    let forest = trie(&sequences);
    let rows = forest.tokens.len();
    let given = Given::draw(heads, rows);
    let all = attend(heads, &forest, &given);
    for (sequence, tokens) in sequences.iter().enumerate() {
        let own = &forest.nodes[forest.ends[sequence]].rows;
        let alone = attend(heads, &trie(std::slice::from_ref(tokens)), &given.rows(heads, own.clone()));
        let (query, _, raw) = widths(heads);
        same_bits("out", &alone[0], &all[0][own.start * query..own.end * query]);
        same_bits("slopes", &alone[2], &all[2][own.start * raw..own.end * raw]);
        for head in 0..heads.count() {
            let log_sums = &all[1][head * rows..][own.clone()];
            same_bits("log-sums", &alone[1][head * own.len()..][..own.len()], log_sums);
        }
    }
}
