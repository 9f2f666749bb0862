//! The way back, on the host's own slices.
//!
//! Every gradient is one chain of sums in the order of the rows: the same batch gives the same bits.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::held::Held;
use crate::host::attention::Attention;
use crate::host::engine::{
    Angles, DOWN, Engine, GATE_UP, HeadNorms, OUTPUT, QUERY_KEY_VALUE, layers_per_thread, score_scale,
};
use crate::host::kernels::{add, rms_norm};
use crate::host::layers::{Activations, Leave, Tokens, Workspace, turn};
use crate::host::linear;
use crate::host::matrix::{Into, Matrix, add_outer};
use crate::host::slopes;
use crate::learner::GradientSums;
use crate::outputs::PickScores;
use crate::packing::Batch;
use crate::threads::on_threads;
use crate::{Dtype, ModelConfig, ReadWeightsError};

/// Logits of one piece of the outputs: 16 MiB, and never less than one row.
const LOGITS: usize = 1 << 22;

/// An engine with its matrices packed for the way back, too.
#[derive(Debug)]
pub(crate) struct Trainer {
    engine: Arc<Engine>,
    activations: Activations,
    transposed: Arc<Transposed>,
    learnt: Learnt,
}

/// The matrices for the way back.
#[derive(Debug)]
pub(crate) struct Transposed {
    layers: Vec<Reverse>,
    head: Matrix,
}

/// A micro-batch on its way: what the way back needs.
#[derive(Debug)]
pub(crate) struct Going {
    batch: Batch,
    log_sums: Vec<f32>,
    workspace: Workspace,
}

/// Transposed matrices of a layer.
#[derive(Debug)]
struct Reverse {
    query_key_value: Matrix,
    output: Matrix,
    gate_up: Matrix,
    down: Matrix,
}

/// What is learnt, and where its gradients stand in the list.
#[derive(Debug)]
struct Learnt {
    /// Of everything but matrices of layers; none of it where adapters are learnt.
    rest: Option<Rest>,
    layers: Vec<LearntOfLayer>,
}

/// Places of what no adapter stands beside.
#[derive(Debug)]
struct Rest {
    embedding: usize,
    head: usize,
    norm: usize,
    layers: Vec<Norms>,
}

/// Places of a layer's norms.
#[derive(Clone, Copy, Debug)]
struct Norms {
    input: usize,
    /// Of queries and of keys.
    heads: Option<[usize; 2]>,
    feed: usize,
}

#[derive(Debug)]
struct LearntOfLayer {
    query_key_value: linear::Learnt<3>,
    output: linear::Learnt<1>,
    gate_up: linear::Learnt<2>,
    down: linear::Learnt<1>,
}

impl Transposed {
    /// Packs the matrices of `weights` in the memory of `spare` where there are such matrices of the same model.
    ///
    /// # Errors
    /// When weights that are in files cannot be read.
    pub(crate) fn new(
        config: &ModelConfig,
        weights: &Held,
        dtype: Dtype,
        threads: usize,
        spare: Option<Transposed>,
    ) -> Result<Transposed, ReadWeightsError> {
        let width = config.hidden_size;
        let layers = 0..config.num_hidden_layers;
        let (spare, spare_head) = spare.map(|spare| (spare.layers, spare.head)).unzip();
        let mut spare: Vec<Option<Reverse>> = spare.into_iter().flatten().map(Some).collect();
        spare.resize_with(layers.len(), || None);
        let spare = spare.into_iter().enumerate().collect();
        let layers = on_threads(spare, threads, layers_per_thread(config), |(layer, spare)| {
            let spare = spare.map(|spare: Reverse| [spare.query_key_value, spare.output, spare.gate_up, spare.down]);
            let mut spare = spare.into_iter().flatten();
            // In the order in which they were taken out.
            let mut matrix = |outputs: usize, parts: &[&str]| -> Result<Matrix, ReadWeightsError> {
                let values = parts.iter().map(|part| weights.values(&name(layer, part)));
                let values: Vec<Cow<'_, [f32]>> = values.collect::<Result<_, _>>()?;
                let values: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
                Ok(pack(spare.next(), dtype, outputs, &values))
            };
            Ok(Reverse {
                query_key_value: matrix(width, &QUERY_KEY_VALUE)?,
                output: matrix(config.query_width(), &OUTPUT)?,
                gate_up: matrix(width, &GATE_UP)?,
                down: matrix(config.intermediate_size, &DOWN)?,
            })
        });
        let layers = layers.into_iter().collect::<Result<_, ReadWeightsError>>()?;
        let head = weights.values(if config.tie_word_embeddings { EMBEDDING } else { HEAD })?;
        Ok(Transposed { layers, head: pack(spare_head, dtype, width, &[&head]) })
    }
}

impl Trainer {
    /// Learns all of `weights`, which `engine` and `transposed` were made of, or the adapter of `engine` alone.
    pub(crate) fn new(
        engine: Arc<Engine>,
        transposed: Arc<Transposed>,
        weights: &Held,
        adapter: Option<&Adapter>,
        activations: Activations,
    ) -> Trainer {
        let learnt = Learnt::new(&engine, weights, adapter);
        Trainer { engine, activations, transposed, learnt }
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// The matrices, whose memory the next ones may take.
    pub(crate) fn into_transposed(self) -> Arc<Transposed> {
        self.transposed
    }

    /// Scores of the batch's picks, and what the way back needs.
    pub(crate) fn forward(&self, batch: Batch, angles: &Angles, workspace: Workspace) -> (Going, PickScores) {
        let leave = match self.activations {
            Activations::Kept => Leave::Everything,
            Activations::Recomputed => Leave::Inputs,
        };
        forward(&self.engine, batch, angles, workspace, leave)
    }

    /// Adds the gradients of all that is learnt to `sums`; `coefficients` stand by pick.
    pub(crate) fn backward(
        &self,
        going: Going,
        coefficients: &[f32],
        angles: &Angles,
        sums: &mut GradientSums,
    ) -> Workspace {
        let Engine { config, norm, head, dtype, .. } = &*self.engine;
        let dtype = *dtype;
        let (width, epsilon, feed) = (config.hidden_size, config.rms_norm_eps as f32, config.intermediate_size);
        let (query_width, key_width) = (config.query_width(), config.key_value_width());
        let Going { batch, log_sums, mut workspace } = going;
        let tokens = Tokens { trie: &batch.trie, angles };
        let rows = batch.trie.tokens.len();
        let attention = Attention::new(config);
        let Workspace { inputs, layers: kept_layers, last, normed_last, logits, passing, back } = &mut workspace;
        let rest = self.learnt.rest.as_ref();
        // Where the gradients of norms go that nobody asks for.
        let mut unread = vec![0.0; width];

        back.last.resize(last.len(), 0.0);
        for piece in pieces(batch.outputs.rows.len(), config.vocab_size) {
            let states = piece.start * width..piece.end * width;
            logits.resize(piece.len() * config.vocab_size, 0.0);
            head.multiply(&normed_last[states.clone()], logits, Into::Replace, &mut passing.packed);
            batch.outputs.slopes(piece.clone(), logits, &log_sums[piece], coefficients);
            if let Some(rest) = rest {
                let d_head = &mut [sums[rest.head].as_mut_slice()];
                add_outer(dtype, logits, &normed_last[states.clone()], width, d_head, &mut passing.packed);
            }
            self.transposed.head.multiply(logits, &mut back.last[states], Into::Replace, &mut passing.packed);
        }
        // `normed_last` has served: it takes the slopes before the last norm.
        normed_last.fill(0.0);
        let d_norm = at(sums, rest.map(|rest| rest.norm), &mut unread);
        slopes::rms_norm(last, norm, epsilon, &back.last, normed_last, d_norm);
        back.residual.clear();
        back.residual.resize(rows * width, 0.0);
        for (&row, d_last) in batch.outputs.rows.iter().zip(normed_last.chunks_exact(width)) {
            back.residual[row * width..][..width].copy_from_slice(d_last);
        }

        let outputs = query_width + 2 * key_width;
        back.normed.resize(rows * width, 0.0);
        back.wide.resize(2 * rows * feed, 0.0);
        back.attended.resize(rows * query_width, 0.0);
        back.raw.resize(rows * outputs, 0.0);
        for (number, (reverse, learnt)) in self.transposed.layers.iter().zip(&self.learnt.layers).enumerate().rev() {
            let (layer, input) = (&self.engine.layers[number], &inputs[number]);
            let norms = rest.map(|rest| rest.layers[number]);
            let kept = match self.activations {
                Activations::Kept => &kept_layers[number],
                Activations::Recomputed => {
                    passing.residual.clear();
                    passing.residual.extend_from_slice(input);
                    passing.layer(&self.engine, number, tokens, &mut kept_layers[0]);
                    &kept_layers[0]
                }
            };
            passing.gated.resize(rows * feed, 0.0);
            passing.normed.resize(rows * width, 0.0);
            let packed = &mut passing.packed;

            learnt.down.back(&reverse.down, &back.residual, &mut passing.gated, packed);
            slopes::gate(&kept.wide, feed, &mut passing.gated, &mut back.wide);
            learnt.down.add(dtype, &layer.down, &back.residual, &passing.gated, sums, packed);
            rms_norm(&kept.middle, &layer.feed_norm, epsilon, &mut passing.normed);
            learnt.gate_up.add(dtype, &layer.gate_up, &back.wide, &passing.normed, sums, packed);
            learnt.gate_up.back(&reverse.gate_up, &back.wide, &mut back.normed, packed);
            let d_norm = at(sums, norms.map(|norms| norms.feed), &mut unread);
            slopes::rms_norm(&kept.middle, &layer.feed_norm, epsilon, &back.normed, &mut back.residual, d_norm);

            learnt.output.add(dtype, &layer.output, &back.residual, &kept.attended, sums, packed);
            learnt.output.back(&reverse.output, &back.residual, &mut back.attended, packed);
            turn(&self.engine, number, tokens, &kept.raw, &mut passing.turned);
            attention.backward(
                &batch.trie,
                &passing.turned,
                &kept.raw,
                &kept.attended,
                &kept.log_sums,
                &back.attended,
                &mut back.raw,
                &mut passing.attention,
            );
            let turned = Turned { raw: &kept.raw, config, scale: score_scale(config), epsilon };
            match &layer.head_norms {
                Some(head_norms) => {
                    let d_norms = turned.back_with_norms(head_norms, tokens, &mut back.raw);
                    for (place, d_norm) in norms.and_then(|norms| norms.heads).into_iter().flatten().zip(d_norms) {
                        add(&mut sums[place], &d_norm);
                    }
                }
                None => turned.back(tokens, &mut back.raw),
            }
            rms_norm(input, &layer.input_norm, epsilon, &mut passing.normed);
            learnt.query_key_value.add(dtype, &layer.query_key_value, &back.raw, &passing.normed, sums, packed);
            learnt.query_key_value.back(&reverse.query_key_value, &back.raw, &mut back.normed, packed);
            let d_norm = at(sums, norms.map(|norms| norms.input), &mut unread);
            slopes::rms_norm(input, &layer.input_norm, epsilon, &back.normed, &mut back.residual, d_norm);
        }
        if let Some(rest) = rest {
            let embedding = &mut sums[rest.embedding];
            for (&token, d) in batch.trie.tokens.iter().zip(back.residual.chunks_exact(width)) {
                add(&mut embedding[token as usize * width..][..width], d);
            }
        }
        workspace
    }
}

/// Queries and keys on the way back through norms and rotation.
struct Turned<'a> {
    /// `[rows, queries | keys | values]` as projected.
    raw: &'a [f32],
    config: &'a ModelConfig,
    scale: f32,
    epsilon: f32,
}

impl Turned<'_> {
    /// Makes slopes `d_raw` of what was turned those of what was projected.
    fn back(&self, tokens: Tokens<'_>, d_raw: &mut [f32]) {
        let (query_width, key_width) = (self.config.query_width(), self.config.key_value_width());
        let rows = d_raw.chunks_exact_mut(query_width + 2 * key_width);
        for (d_raw, position) in rows.zip(tokens.trie.positions()) {
            let (d_query, rest) = d_raw.split_at_mut(query_width);
            let angles = tokens.angles.at(position);
            slopes::rotate(self.scale, angles, d_query);
            slopes::rotate(1.0, angles, &mut rest[..key_width]);
        }
    }

    /// As [`back`](Self::back), and gives the gradients of the norms of queries and of keys.
    fn back_with_norms(&self, norms: &HeadNorms, tokens: Tokens<'_>, d_raw: &mut [f32]) -> [Vec<f32>; 2] {
        let (query_width, key_width) = (self.config.query_width(), self.config.key_value_width());
        let outputs = query_width + 2 * key_width;
        let [mut d_query_norm, mut d_key_norm] = [(); 2].map(|()| vec![0.0; self.config.head_dim]);
        let rows = self.raw.chunks_exact(outputs).zip(d_raw.chunks_exact_mut(outputs));
        for ((raw, d_raw), position) in rows.zip(tokens.trie.positions()) {
            let (query, key) = raw[..query_width + key_width].split_at(query_width);
            let (d_query, d_key) = d_raw[..query_width + key_width].split_at_mut(query_width);
            let angles = tokens.angles.at(position);
            slopes::norm_and_rotate(query, &norms.query, self.epsilon, angles, d_query, &mut d_query_norm);
            slopes::norm_and_rotate(key, &norms.key, self.epsilon, angles, d_key, &mut d_key_norm);
        }
        // The engine's norm of queries has the scale of the scores in it.
        for d in &mut d_query_norm {
            *d *= self.scale;
        }
        [d_query_norm, d_key_norm]
    }
}

impl Learnt {
    fn new(engine: &Engine, weights: &Held, adapter: Option<&Adapter>) -> Learnt {
        let Engine { config, dtype, .. } = engine;
        let layers = (0..config.num_hidden_layers).map(|layer| LearntOfLayer {
            query_key_value: linear::Learnt::new(*dtype, config, weights, adapter, layer, QUERY_KEY_VALUE),
            output: linear::Learnt::new(*dtype, config, weights, adapter, layer, OUTPUT),
            gate_up: linear::Learnt::new(*dtype, config, weights, adapter, layer, GATE_UP),
            down: linear::Learnt::new(*dtype, config, weights, adapter, layer, DOWN),
        });
        let rest = || Rest {
            embedding: weights.position(EMBEDDING),
            head: weights.position(if config.tie_word_embeddings { EMBEDDING } else { HEAD }),
            norm: weights.position("model.norm.weight"),
            layers: (0..config.num_hidden_layers)
                .map(|layer| {
                    let place = |part: &str| weights.position(&name(layer, part));
                    let heads = || ["self_attn.q_norm", "self_attn.k_norm"].map(place);
                    Norms {
                        input: place("input_layernorm"),
                        heads: config.has_head_norms().then(heads),
                        feed: place("post_attention_layernorm"),
                    }
                })
                .collect(),
        };
        Learnt { rest: adapter.is_none().then(rest), layers: layers.collect() }
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

/// The gradient at a place, or else one that is not read.
fn at<'a>(sums: &'a mut GradientSums, place: Option<usize>, unread: &'a mut [f32]) -> &'a mut [f32] {
    match place {
        Some(place) => &mut sums[place],
        None => unread,
    }
}

/// Scores of the batch's picks without a way back; the workspace is left in what comes out.
pub(super) fn forward(
    engine: &Engine,
    batch: Batch,
    angles: &Angles,
    mut workspace: Workspace,
    leave: Leave,
) -> (Going, PickScores) {
    let (width, vocabulary) = (engine.config.hidden_size, engine.config.vocab_size);
    workspace.forward(engine, Tokens { trie: &batch.trie, angles }, leave);
    workspace.gather(engine, &batch.outputs.rows);
    let (mut scores, mut log_sums) = (batch.outputs.unread(), vec![0.0; batch.outputs.rows.len()]);
    let Workspace { normed_last, logits, passing, .. } = &mut workspace;
    for piece in pieces(batch.outputs.rows.len(), vocabulary) {
        logits.resize(piece.len() * vocabulary, 0.0);
        let states = &normed_last[piece.start * width..piece.end * width];
        engine.head.multiply(states, logits, Into::Replace, &mut passing.packed);
        batch.outputs.read(piece.clone(), logits, &mut log_sums[piece], &mut scores);
    }
    (Going { batch, log_sums, workspace }, scores)
}

impl Going {
    /// The memory, where there is no way back.
    pub(crate) fn into_workspace(self) -> Workspace {
        self.workspace
    }
}

fn pack(spare: Option<Matrix>, dtype: Dtype, outputs: usize, parts: &[&[f32]]) -> Matrix {
    Matrix::in_place_of(spare, parts, |parts| Matrix::pack_transposed(dtype, outputs, parts))
}

/// Bytes of the logits that are there at the same time.
pub(crate) fn logits_bytes(config: &ModelConfig) -> u64 {
    4 * (piece_size(config.vocab_size) * config.vocab_size) as u64
}

fn piece_size(vocabulary: usize) -> usize {
    (LOGITS / vocabulary).clamp(1, 256)
}

/// Outputs whose logits are there at the same time.
fn pieces(outputs: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    let size = piece_size(vocabulary);
    (0..outputs).step_by(size).map(move |start| start..outputs.min(start + size))
}
