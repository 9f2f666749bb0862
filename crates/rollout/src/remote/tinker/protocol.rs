//! What goes over the wire of the Tinker API, version 0 of its JSON form: routes, bodies, answers.
//!
//! A *datum* is one trace: the model sees all tokens but the last, and the targets are all tokens but the
//! first, so the number at position `i` of every per-token list belongs to token `i + 1` of the trace.
//! [`Datum`] does that shift in one place. Only completion tokens ever get a number that is not zero.
//!
//! Sources: the routes and field names are those of SkyRL 0.3 (`skyrl/tinker/api.py`), which follows the
//! hosted service's client 0.19. Answers may hold more than is read here; what is read has to be there.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{SamplingParams, StopReason, TokenId, Trace};

/// One trace as the server learns from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Datum {
    model_input: ModelInput,
    loss_fn_inputs: LossInputs,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ModelInput {
    chunks: [Chunk; 1],
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Chunk {
    r#type: &'static str,
    tokens: Vec<TokenId>,
}

/// A missing list is not sent, since a server may refuse a name that its loss does not use.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct LossInputs {
    target_tokens: Numbers<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Numbers<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Numbers<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advantages: Option<Numbers<f32>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Numbers<T> {
    data: Vec<T>,
    dtype: &'static str,
    shape: [usize; 1],
}

/// How a datum is learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// `−Σ weight · log π`: only its log-probabilities are used here.
    CrossEntropy,
    /// `−Σ advantage · exp(log π − logprobs)`, whose gradient at `logprobs = log π` is that of
    /// `−Σ advantage · log π`.
    ImportanceSampling,
}

impl Loss {
    /// Its name on the wire.
    fn name(self) -> &'static str {
        match self {
            Loss::CrossEntropy => "cross_entropy",
            Loss::ImportanceSampling => "importance_sampling",
        }
    }
}

impl Datum {
    /// A trace to be scored.
    pub(super) fn scored(trace: &Trace) -> Datum {
        let tokens = tokens(trace);
        let weights = placed(trace, &vec![1.0; trace.completion.tokens.len()]);
        Datum::new(&tokens, Some(weights), None)
    }

    /// A trace to be learnt from: `current` and `advantages` are one number per completion token.
    pub(super) fn learnt(trace: &Trace, current: &[f32], advantages: &[f32]) -> Datum {
        Datum::new(&tokens(trace), None, Some((placed(trace, current), placed(trace, advantages))))
    }

    /// How many targets it has: the tokens of the trace less one.
    pub(super) fn targets(trace: &Trace) -> usize {
        trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len() - 1
    }

    fn new(tokens: &[TokenId], weights: Option<Vec<f32>>, learnt: Option<(Vec<f32>, Vec<f32>)>) -> Datum {
        let (logprobs, advantages) = learnt.unzip();
        Datum {
            model_input: input(&tokens[..tokens.len() - 1]),
            loss_fn_inputs: LossInputs {
                target_tokens: numbers(tokens[1..].to_vec(), "int64"),
                weights: weights.map(floats),
                logprobs: logprobs.map(floats),
                advantages: advantages.map(floats),
            },
        }
    }
}

/// The body of `forward` or, with a gradient, of `forward_backward`.
pub(super) fn pass(model: &str, loss: Loss, data: &[Datum], seq: u64) -> (&'static str, Value) {
    let input = json!({ "data": data, "loss_fn": loss.name() });
    match loss {
        Loss::CrossEntropy => ("forward", json!({ "model_id": model, "seq_id": seq, "forward_input": input })),
        Loss::ImportanceSampling => {
            ("forward_backward", json!({ "model_id": model, "seq_id": seq, "forward_backward_input": input }))
        }
    }
}

/// The body of `asample`: one completion of `prompt` by the weights at `path`, or by the base model.
pub(super) fn sample(from: Weights<'_>, prompt: &[TokenId], params: &SamplingParams, seed: u64) -> Value {
    let SamplingParams { temperature, top_k, top_p, max_tokens, stop, .. } = params;
    let mut body = json!({
        "num_samples": 1,
        "prompt": input(prompt),
        "sampling_params": {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": if *top_k == 0 { -1 } else { i64::from(*top_k) },
            "stop": stop,
            // Servers keep seeds in 32 bits with a sign.
            "seed": seed >> 33,
        },
    });
    let (key, name) = match from {
        Weights::Base(name) => ("base_model", name),
        Weights::Saved(path) => ("model_path", path),
    };
    body[key] = name.into();
    body
}

/// Which weights sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights<'a> {
    /// Those the server was started with, by the model's name.
    Base(&'a str),
    /// Those that were saved for sampling, by their path.
    Saved(&'a str),
}

/// One sampled sequence of an answer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sequence {
    /// What was sampled, an end token included.
    pub tokens: Vec<TokenId>,
    /// Log-probabilities of these.
    pub logprobs: Vec<f32>,
    stop_reason: String,
}

impl Sequence {
    /// The one sequence of an answer to [`sample`]; else what is wrong with it.
    pub(super) fn only(answer: Value) -> Result<Sequence, String> {
        #[derive(Deserialize)]
        struct Answer {
            sequences: Vec<Sequence>,
        }
        let Answer { sequences } = parse(answer)?;
        let [sequence] = <[Sequence; 1]>::try_from(sequences)
            .map_err(|sequences| format!("{} sequences came back, expected 1", sequences.len()))?;
        let (tokens, logprobs) = (sequence.tokens.len(), sequence.logprobs.len());
        if tokens != logprobs || tokens == 0 {
            return Err(format!("{tokens} tokens came back with {logprobs} log-probabilities"));
        }
        match sequence.logprobs.iter().position(|log| !log.is_finite() || *log > 1e-3) {
            Some(at) => Err(format!("the log-probability of token {at} is {}", sequence.logprobs[at])),
            None => Ok(sequence),
        }
    }

    /// Why it ended; else what is wrong with it. The tokens decide, since servers differ in their words: an end
    /// token ends a completion, and nothing else does but the limit.
    pub(super) fn check(&mut self, params: &SamplingParams, vocabulary: usize) -> Result<StopReason, String> {
        let (found, most) = (self.tokens.len(), params.max_tokens as usize);
        if let Some(token) = self.tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(format!("token {token} came back, but the vocabulary has {vocabulary} tokens"));
        }
        // Rounding may leave a certain token a little above zero.
        self.logprobs.iter_mut().for_each(|log| *log = log.min(0.0));
        let end = self.tokens.iter().position(|token| params.stop.contains(token));
        match end {
            Some(at) if at + 1 == found && found <= most => Ok(StopReason::EndOfText),
            Some(at) if at + 1 < found => {
                Err(format!("{found} tokens came back, though token {} ends a completion", at + 1))
            }
            None if found == most => Ok(StopReason::Length),
            _ => Err(format!(
                "{found} tokens came back that end with no end token (\"{}\"), expected {most}",
                self.stop_reason
            )),
        }
    }
}

/// Log-probabilities of the completion tokens of each of `traces`, from the answer to a [`pass`].
pub(super) fn completion_scores(answer: Value, traces: &[&Trace]) -> Result<Vec<Vec<f32>>, String> {
    #[derive(Deserialize)]
    struct Answer {
        loss_fn_outputs: Vec<Output>,
    }
    #[derive(Deserialize)]
    struct Output {
        logprobs: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        data: Vec<f32>,
    }
    let Answer { loss_fn_outputs: outputs } = parse(answer)?;
    if outputs.len() != traces.len() {
        return Err(format!("{} scored traces came back, expected {}", outputs.len(), traces.len()));
    }
    let scores = |(index, (output, trace)): (usize, (Output, &&Trace))| {
        let (given, targets) = (output.logprobs.data, Datum::targets(trace));
        if given.len() != targets {
            return Err(format!("trace {index} came back with {} log-probabilities, expected {targets}", given.len()));
        }
        let scores = given[targets - trace.completion.tokens.len()..].to_vec();
        match scores.iter().position(|log| !log.is_finite()) {
            Some(at) => Err(format!("trace {index}: the log-probability of completion token {at} is {}", scores[at])),
            None => Ok(scores),
        }
    };
    outputs.into_iter().zip(traces).enumerate().map(scores).collect()
}

/// Reads an answer; else says what it lacks.
pub(super) fn parse<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| format!("the answer cannot be read: {error}"))
}

fn tokens(trace: &Trace) -> Vec<TokenId> {
    [&trace.prompt[..], &trace.prefix, &trace.completion.tokens].concat()
}

/// `values` of the completion's tokens where these are targets, zeros before.
fn placed(trace: &Trace, values: &[f32]) -> Vec<f32> {
    let mut placed = vec![0.0; Datum::targets(trace) - values.len()];
    placed.extend_from_slice(values);
    placed
}

fn input(tokens: &[TokenId]) -> ModelInput {
    ModelInput { chunks: [Chunk { r#type: "encoded_text", tokens: tokens.to_vec() }] }
}

fn floats(data: Vec<f32>) -> Numbers<f32> {
    numbers(data, "float32")
}

fn numbers<T>(data: Vec<T>, dtype: &'static str) -> Numbers<T> {
    let shape = [data.len()];
    Numbers { data, dtype, shape }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::Sequence;
    use crate::SamplingParams;

    /// What is made of an answer, where at most three tokens were asked for, 9 ends a completion and 10 is no token.
    #[track_caller]
    fn check(answer: Value, expected: Expect) {
        let params = SamplingParams { stop: vec![9], ..SamplingParams::plain(3) };
        let kept = Sequence::only(answer).and_then(|mut sequence| {
            let stop = sequence.check(&params, 10)?;
            Ok(format!("{:?} {:?} {stop:?}", sequence.tokens, sequence.logprobs))
        });
        expected.assert_eq(&kept.unwrap_or_else(|reason| reason));
    }

    fn one(tokens: &[u32], logprobs: &[f64], stop_reason: &str) -> Value {
        json!({ "sequences": [{ "tokens": tokens, "logprobs": logprobs, "stop_reason": stop_reason }] })
    }

    #[test]
    fn a_sequence_ends_by_its_tokens() {
        check(one(&[1, 9], &[-0.5, 0.0005], "length"), expect!["[1, 9] [-0.5, 0.0] EndOfText"]);
        check(one(&[1, 2, 3], &[-0.5, -1.0, -2.0], "stop"), expect!["[1, 2, 3] [-0.5, -1.0, -2.0] Length"]);
        check(one(&[1, 2, 9], &[-0.5, -1.0, -2.0], "stop"), expect!["[1, 2, 9] [-0.5, -1.0, -2.0] EndOfText"]);
    }

    #[test]
    fn a_sequence_that_cannot_be_what_was_asked_for() {
        let none: &[u32] = &[];
        check(json!({ "sequences": [] }), expect!["0 sequences came back, expected 1"]);
        check(one(none, &[], "stop"), expect!["0 tokens came back with 0 log-probabilities"]);
        check(one(&[1, 2, 3], &[-1.0], "length"), expect!["3 tokens came back with 1 log-probabilities"]);
        check(one(&[1, 2, 3], &[-1.0, 0.01, -1.0], "length"), expect!["the log-probability of token 1 is 0.01"]);
        check(one(&[1, 10, 3], &[-1.0; 3], "length"), expect!["token 10 came back, but the vocabulary has 10 tokens"]);
        check(one(&[9, 1], &[-1.0; 2], "stop"), expect!["2 tokens came back, though token 1 ends a completion"]);
        check(
            one(&[1, 2], &[-1.0; 2], "stop"),
            expect![[r#"2 tokens came back that end with no end token ("stop"), expected 3"#]],
        );
        check(
            one(&[1, 2, 3, 9], &[-1.0; 4], "stop"),
            expect![[r#"4 tokens came back that end with no end token ("stop"), expected 3"#]],
        );
    }

    #[test]
    fn several_sequences_are_not_one() {
        let sequence = json!({ "tokens": [1, 9], "logprobs": [-1.0, -1.0], "stop_reason": "stop" });
        check(json!({ "sequences": [sequence, sequence] }), expect!["2 sequences came back, expected 1"]);
    }
}
