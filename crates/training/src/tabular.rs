//! A softmax table: the smallest policy that samples, scores and learns.
//!
//! The state is the last few tokens of prompt, prefix and completion, and each state has a row of
//! logits that begins at zero. Everything about it can be worked out by hand or by enumeration, so
//! the trainer, the objectives and the theory are tested on it against exact expectations.
//!
//! Invariants: sums are in double precision and in the order of the traces, so that splitting a batch
//! changes nothing; the optimizer is plain gradient descent, without momentum; a row that was never
//! moved is no row, so equal behaviour means equal weights and an equal version.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use toehold_rollout::{
    Completion, LearnError, Learner, PolicyVersion, SampleError, SampleRequest, Sampler, SamplingParams, ScoreError,
    Scorer, StepStats, StopReason, TokenId, TokenScores, Trace,
};

use crate::random;

type Table = BTreeMap<Vec<TokenId>, Vec<f64>>;

/// A table of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct TabularPolicy {
    vocabulary: usize,
    context: usize,
    clip: f64,
    never: Vec<TokenId>,
    table: Table,
    gradient: Table,
    published: Table,
    version: PolicyVersion,
}

impl TabularPolicy {
    /// The uniform policy over `vocabulary` tokens whose state is the last `context` tokens
    /// (`usize::MAX` for all). The gradient's norm is scaled down to `clip`.
    pub fn uniform(vocabulary: usize, context: usize, clip: f64) -> TabularPolicy {
        let (table, gradient, published) = (Table::new(), Table::new(), Table::new());
        let version = version_of(&table);
        let never = Vec::new();
        TabularPolicy { vocabulary: vocabulary.max(1), context, clip, never, table, gradient, published, version }
    }

    /// Gives these tokens the chance 0 in every state: such as those that stand for prompts.
    pub fn never(&mut self, tokens: impl IntoIterator<Item = TokenId>) {
        self.never.extend(tokens);
    }

    /// The logits of the state after `tokens`, to be changed by hand; published with the next step.
    pub fn logits_mut(&mut self, tokens: &[TokenId]) -> &mut [f64] {
        let state = state_of(tokens, self.context);
        self.table.entry(state.to_vec()).or_insert_with(|| vec![0.0; self.vocabulary])
    }

    /// The chance of each token after `tokens`, under the current weights at temperature 1.
    pub fn chances(&self, tokens: &[TokenId]) -> Vec<f64> {
        log_softmax(&self.row(&self.table, tokens)).iter().map(|logp| logp.exp()).collect()
    }

    /// The accumulated gradient of the state after `tokens`; none where there is none.
    pub fn gradient(&self, tokens: &[TokenId]) -> Option<&[f64]> {
        self.gradient.get(state_of(tokens, self.context)).map(Vec::as_slice)
    }

    fn row(&self, table: &Table, tokens: &[TokenId]) -> Vec<f64> {
        let known = table.get(state_of(tokens, self.context));
        let mut row = known.cloned().unwrap_or_else(|| vec![0.0; self.vocabulary]);
        self.never.iter().for_each(|&token| row[token as usize] = f64::NEG_INFINITY);
        row
    }

    fn complete(&self, request: &SampleRequest) -> Completion {
        let params = &request.params;
        let mut rng = random::stream(request.seed, "tabular", &[]);
        let mut tokens: Vec<TokenId> = request.prompt.iter().chain(request.prefix.iter()).copied().collect();
        let mut completion = Completion { stop: StopReason::Length, ..Completion::default() };
        let switch = params.thought_switch.as_ref();
        let mut age = switch.map_or(0, |switch| switch.age(&request.prefix));
        while completion.tokens.len() < params.max_tokens as usize {
            let mut row = self.row(&self.published, &tokens);
            if let Some(switch) = switch {
                switch.penalised(age).iter().for_each(|&token| row[token as usize] -= f64::from(switch.penalty));
            }
            let logp = filtered(&row, params);
            let token = draw(&logp, random::unit(&mut rng));
            tokens.push(token);
            completion.tokens.push(token);
            completion.behavior.push(logp[token as usize] as f32);
            if params.stop.contains(&token) {
                completion.stop = StopReason::EndOfText;
                break;
            }
            if params.stop_below.is_some_and(|stop| stop.is_due(&completion.behavior)) {
                completion.stop = StopReason::Confidence;
                break;
            }
            age = switch.map_or(0, |switch| switch.next_age(age, token));
        }
        completion
    }

    fn scores(&self, trace: &Trace) -> TokenScores {
        let (mut current, mut entropy) = (Vec::new(), Vec::new());
        for (tokens, token) in steps(trace) {
            let logp = log_softmax(&self.row(&self.table, &tokens));
            current.push(logp[token as usize] as f32);
            let possible = logp.iter().filter(|logp| logp.is_finite());
            entropy.push(-possible.map(|logp| logp * logp.exp()).sum::<f64>() as f32);
        }
        TokenScores { current, entropy: Some(entropy) }
    }

    fn check(&self, index: usize, trace: &Trace) -> Result<(), ScoreError> {
        let tokens = trace.prompt.iter().chain(&trace.prefix).chain(&trace.completion.tokens);
        match tokens.into_iter().find(|&&token| token as usize >= self.vocabulary) {
            None => Ok(()),
            Some(token) => {
                let reason = format!("token {token} is outside the vocabulary of {}", self.vocabulary);
                Err(ScoreError::BadTrace { index, reason })
            }
        }
    }
}

impl Sampler for TabularPolicy {
    fn version(&self) -> PolicyVersion {
        self.version.clone()
    }

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        for (index, request) in requests.iter().enumerate() {
            let vocabulary = self.vocabulary;
            let switches = request.params.thought_switch.as_ref().map_or(&[][..], |switch| &switch.tokens);
            let mut tokens = request.prompt.iter().chain(request.prefix.iter()).chain(switches);
            if let Some(&token) = tokens.find(|&&token| token as usize >= vocabulary) {
                return Err(SampleError::UnknownToken { index, token, vocabulary });
            }
            let temperature = request.params.temperature;
            if !(temperature.is_finite() && temperature >= 0.0) {
                let reason = format!("the temperature is {temperature}, expected at least 0");
                return Err(SampleError::BadRequest { index, reason });
            }
            request.params.check_local().map_err(|reason| SampleError::BadRequest { index, reason })?;
        }
        for (index, request) in requests.iter().enumerate() {
            if done(index, self.complete(request)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Scorer for TabularPolicy {
    fn score(&mut self, traces: &[&Trace]) -> Result<Vec<TokenScores>, ScoreError> {
        let score = |(index, trace): (usize, &&Trace)| self.check(index, trace).map(|()| self.scores(trace));
        traces.iter().enumerate().map(score).collect()
    }
}

impl Learner for TabularPolicy {
    fn accumulate(
        &mut self,
        traces: &[&Trace],
        coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    ) -> Result<(), LearnError> {
        for (index, trace) in traces.iter().enumerate() {
            self.check(index, trace)?;
            let given = coefficients(index, &self.scores(trace));
            let tokens = trace.completion.tokens.len();
            if given.len() != tokens {
                return Err(LearnError::CoefficientCount { index, tokens, coefficients: given.len() });
            }
            for ((tokens, token), coefficient) in steps(trace).zip(given) {
                let chances = self.chances(&tokens);
                let state = state_of(&tokens, self.context).to_vec();
                let row = self.gradient.entry(state).or_insert_with(|| vec![0.0; chances.len()]);
                for (at, chance) in chances.iter().enumerate() {
                    let is_token = f64::from(u8::from(at == token as usize));
                    row[at] += f64::from(coefficient) * (is_token - chance);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, rate: f64) -> Result<StepStats, LearnError> {
        let gradient = std::mem::take(&mut self.gradient);
        let norm = gradient.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(LearnError::NotFinite { norm });
        }
        let clipped = norm > self.clip;
        let scale = if clipped { rate * self.clip / norm } else { rate };
        for (state, gradient) in gradient {
            let row = self.table.entry(state).or_insert_with(|| vec![0.0; self.vocabulary]);
            row.iter_mut().zip(gradient).for_each(|(logit, gradient)| *logit -= scale * gradient);
        }
        Ok(StepStats { gradient_norm: norm, clipped, moments: None })
    }

    fn publish(&mut self) -> Result<PolicyVersion, LearnError> {
        self.table.retain(|_, row| row.iter().any(|&logit| logit != 0.0));
        self.published = self.table.clone();
        self.version = version_of(&self.published);
        Ok(self.version.clone())
    }

    fn save(&self, dir: &Path) -> Result<(), LearnError> {
        // Bits, not decimals: what is read back has to be what was written.
        let rows: Vec<(&Vec<TokenId>, Vec<u64>)> =
            self.table.iter().map(|(state, row)| (state, row.iter().map(|logit| logit.to_bits()).collect())).collect();
        let text = serde_json::to_string(&rows).map_err(|error| broken(dir, &error))?;
        std::fs::write(dir.join(TABLE_FILE), text).map_err(|error| broken(dir, &error))
    }

    fn restore(&mut self, dir: &Path) -> Result<(), LearnError> {
        let text = std::fs::read_to_string(dir.join(TABLE_FILE)).map_err(|error| broken(dir, &error))?;
        let rows: Vec<(Vec<TokenId>, Vec<u64>)> = serde_json::from_str(&text).map_err(|error| broken(dir, &error))?;
        if let Some((_, row)) = rows.iter().find(|(_, row)| row.len() != self.vocabulary) {
            let reason = format!("a row has {} logits, expected {}", row.len(), self.vocabulary);
            return Err(LearnError::Checkpoint { dir: dir.to_owned(), reason });
        }
        let logits = |row: Vec<u64>| row.into_iter().map(f64::from_bits).collect();
        self.table = rows.into_iter().map(|(state, row)| (state, logits(row))).collect();
        self.gradient.clear();
        Ok(())
    }

    /// A nominal number that does not grow with the table, so that FLOPs of two runs compare.
    fn parameter_count(&self) -> u64 {
        (self.vocabulary * self.vocabulary) as u64
    }
}

const TABLE_FILE: &str = "table.json";

fn broken(dir: &Path, error: &dyn std::error::Error) -> LearnError {
    LearnError::Checkpoint { dir: dir.to_owned(), reason: format!("{TABLE_FILE}: {error}") }
}

fn state_of(tokens: &[TokenId], context: usize) -> &[TokenId] {
    &tokens[tokens.len().saturating_sub(context)..]
}

/// Each completion token with all tokens before it.
fn steps(trace: &Trace) -> impl Iterator<Item = (Vec<TokenId>, TokenId)> + '_ {
    let mut before: Vec<TokenId> = trace.prompt.iter().chain(&trace.prefix).copied().collect();
    trace.completion.tokens.iter().map(move |&token| {
        let known = before.clone();
        before.push(token);
        (known, token)
    })
}

fn version_of(table: &Table) -> PolicyVersion {
    let mut hasher = blake3::Hasher::new();
    for (state, row) in table {
        hasher.update(&(state.len() as u64).to_le_bytes());
        for token in state {
            hasher.update(&token.to_le_bytes());
        }
        for logit in row {
            hasher.update(&logit.to_bits().to_le_bytes());
        }
    }
    PolicyVersion { weights: hasher.finalize().to_hex()[..16].to_owned() }
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits.iter().map(|logit| logit - largest - sum.ln()).collect()
}

/// The log-probabilities that a token is really drawn from: after temperature, top-k and top-p.
fn filtered(logits: &[f64], params: &SamplingParams) -> Vec<f64> {
    // At temperature 1 nothing is divided, so that a fresh trace scores to the same bits.
    let mut logits = logits.to_vec();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let mut kept = if params.top_k == 0 { order.len() } else { (params.top_k as usize).min(order.len()) };
    if params.temperature == 0.0 {
        kept = 1;
    } else if params.temperature != 1.0 {
        logits.iter_mut().for_each(|logit| *logit /= f64::from(params.temperature));
    }
    order[kept..].iter().for_each(|&at| logits[at] = f64::NEG_INFINITY);
    if params.top_p < 1.0 {
        let logp = log_softmax(&logits);
        let mut mass = 0.0;
        for &at in &order {
            if mass >= f64::from(params.top_p) {
                logits[at] = f64::NEG_INFINITY;
            }
            mass += logp[at].exp();
        }
    }
    log_softmax(&logits)
}

/// The token at `at` of the cumulative distribution; the last possible one where rounding runs past.
fn draw(logp: &[f64], at: f64) -> TokenId {
    let (mut mass, mut last) = (0.0, 0);
    for (token, logp) in logp.iter().enumerate().filter(|(_, logp)| logp.is_finite()) {
        mass += logp.exp();
        last = token;
        if at < mass {
            break;
        }
    }
    last as TokenId
}
