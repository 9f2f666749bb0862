//! From traces and coefficients to gradients.
//!
//! Traces are laid over each other in tries, so that what they share is computed once, and cut into
//! micro-batches under a budget of rows. A micro-batch goes forward once; the scores of its completion
//! tokens are shown to the objective, and the coefficients that come back go the way back.
//!
//! Micro-batches are computed on several threads at once, but planned and added up in one order that
//! does not depend on their number: the same inputs give the same bits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use serde::{Deserialize, Serialize};
use toehold_rollout::{LearnError, TokenScores, Trace};

use crate::host::{self, Angles, Engine, Going, Trainer, Workspace};
use crate::model::{self, Decoder};
use crate::outputs::PickScores;
use crate::packing::{Batch, Packing, Plan};

/// Which implementation learns. Their gradients differ by rounding only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implementation {
    /// Loops over the host's own slices: several times faster.
    #[default]
    Host,
    /// The graph of tensors, differentiated by the tensor library: the reference, and with the feature
    /// `vulkan` the way to a GPU. It shares nothing between traces.
    Graph,
}

/// Gradients of one parameter each, in the order of the weights.
pub(crate) type GradientSums = Vec<Vec<f32>>;

/// A model that is ready to learn, by either implementation.
#[derive(Debug)]
pub(crate) enum Model {
    Host(Box<Trainer>),
    Graph(Box<Decoder>),
}

/// Memory that is kept from call to call, so that no fresh page is touched for a temporary.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    workspaces: Vec<Workspace>,
    gradients: Vec<GradientSums>,
}

/// Adds the gradient of `Σ coefficient · log π` to `sums`; on an error `sums` may hold a part of it.
pub(crate) fn accumulate(
    model: &Model,
    traces: &[&Trace],
    coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    packing: Packing,
    memory: &mut Memory,
    sums: &mut GradientSums,
) -> Result<(), LearnError> {
    let plan = Plan::new(traces, packing);
    let angles = model.angles(plan.longest());
    let threads = packing.threads.clamp(1, plan.batches.len().max(1));
    std::thread::scope(|scope| {
        let (report, reports) = mpsc::channel();
        let mut orders = Vec::new();
        for worker in 0..threads {
            let (order, given) = mpsc::channel();
            orders.push(order);
            let workspace = memory.workspaces.pop().unwrap_or_default();
            let (plan, angles, report) = (&plan, &angles, report.clone());
            scope.spawn(move || {
                let workspace = work(model, plan, angles, workspace, worker, &given, &report);
                let _ = report.send((worker, Report::Left(Box::new(workspace))));
            });
        }
        drop(report);
        let result = direct(&plan, &orders, &reports, coefficients, memory, sums);
        // Without orders the workers leave, and hand back their memory.
        drop(orders);
        for (_, left) in reports {
            if let Report::Left(workspace) = left {
                memory.workspaces.push(*workspace);
            }
        }
        result
    })
}

/// Scores of traces that were checked to fit the model; in their order.
pub(crate) fn score(engine: &Engine, traces: &[&Trace], packing: Packing, memory: &mut Memory) -> Vec<TokenScores> {
    let plan = Plan::new(traces, packing);
    let angles = Angles::new(engine.config(), plan.longest());
    let next = AtomicUsize::new(0);
    let scores = Mutex::new(vec![TokenScores::default(); traces.len()]);
    let workspaces = Mutex::new(&mut memory.workspaces);
    std::thread::scope(|scope| {
        for _ in 0..packing.threads.clamp(1, plan.batches.len().max(1)) {
            scope.spawn(|| {
                let lock = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
                let mut workspace = lock().pop().unwrap_or_default();
                while let Some(members) = plan.batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found;
                    (found, workspace) = host::score(engine, plan.batch(members), &angles, workspace);
                    let mut scores = scores.lock().unwrap_or_else(PoisonError::into_inner);
                    for (&member, found) in members.iter().zip(plan.by_trace(members, &found)) {
                        scores[member] = found;
                    }
                }
                lock().push(workspace);
            });
        }
    });
    scores.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What a worker is told.
enum Order {
    /// Take this micro-batch forward; the gradient, all zeros, is for its way back.
    Forward(usize, GradientSums),
    /// Take it back; none where there is nothing to learn.
    Backward(Option<Vec<f32>>),
}

/// What a worker tells.
enum Report {
    Ready,
    Scores(usize, PickScores),
    /// A micro-batch's gradient, or an unused one.
    Gradient(usize, GradientSums, Learnt),
    /// The worker is leaving.
    Left(Box<Workspace>),
    /// The worker has panicked; the scope passes that on.
    Lost,
}

/// Tells the director when its worker panics: the others would wait for it forever.
struct Alarm<'a>(usize, &'a mpsc::Sender<(usize, Report)>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.1.send((self.0, Report::Lost));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Learnt {
    Something,
    Nothing,
}

/// One worker: takes micro-batches forward and back until there are no more orders.
fn work(
    model: &Model,
    plan: &Plan<'_>,
    angles: &Angles,
    mut workspace: Workspace,
    worker: usize,
    orders: &mpsc::Receiver<Order>,
    report: &mpsc::Sender<(usize, Report)>,
) -> Workspace {
    let _alarm = Alarm(worker, report);
    // A channel that is closed means that the director has given up: there is nobody to tell.
    let _ = report.send((worker, Report::Ready));
    while let Ok(Order::Forward(number, mut gradient)) = orders.recv() {
        let (going, scores) = model.forward(plan.batch(&plan.batches[number]), angles, workspace);
        let _ = report.send((worker, Report::Scores(number, scores)));
        let learnt = match orders.recv() {
            Ok(Order::Backward(Some(coefficients))) => {
                workspace = model.backward(going, &coefficients, angles, &mut gradient);
                Learnt::Something
            }
            _ => {
                workspace = going.into_workspace();
                Learnt::Nothing
            }
        };
        let _ = report.send((worker, Report::Gradient(number, gradient, learnt)));
        let _ = report.send((worker, Report::Ready));
    }
    workspace
}

/// Hands out the micro-batches, asks for coefficients, and adds the gradients in the order of the plan.
fn direct(
    plan: &Plan<'_>,
    orders: &[mpsc::Sender<Order>],
    reports: &mpsc::Receiver<(usize, Report)>,
    coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    memory: &mut Memory,
    sums: &mut GradientSums,
) -> Result<(), LearnError> {
    let (mut next, mut added, mut idle) = (0, 0, Vec::new());
    let mut finished: Vec<Option<(GradientSums, Learnt)>> = plan.batches.iter().map(|_| None).collect();
    while added < plan.batches.len() {
        let Ok((worker, report)) = reports.recv() else { return Ok(()) };
        match report {
            Report::Lost => return Ok(()),
            Report::Ready => idle.push(worker),
            Report::Left(workspace) => memory.workspaces.push(*workspace),
            Report::Scores(number, scores) => {
                let given = ask(plan, number, &scores, coefficients)?;
                let _ = orders[worker].send(Order::Backward(given));
            }
            Report::Gradient(number, gradient, learnt) => finished[number] = Some((gradient, learnt)),
        }
        while let Some((mut gradient, learnt)) = finished.get_mut(added).and_then(Option::take) {
            if learnt == Learnt::Something {
                for (sum, gradient) in sums.iter_mut().zip(&mut gradient) {
                    for (sum, value) in sum.iter_mut().zip(gradient) {
                        *sum += *value;
                        *value = 0.0;
                    }
                }
            }
            memory.gradients.push(gradient);
            added += 1;
        }
        // Nobody runs far ahead of the slowest: every micro-batch on its way holds a gradient.
        while next < plan.batches.len() && next < added + 2 * orders.len() {
            let Some(worker) = idle.pop() else { break };
            let zeros = || sums.iter().map(|sum| vec![0.0; sum.len()]).collect();
            let gradient = memory.gradients.pop().unwrap_or_else(zeros);
            let _ = orders[worker].send(Order::Forward(next, gradient));
            next += 1;
        }
    }
    Ok(())
}

/// The coefficients of a micro-batch by pick; none where all are zero.
fn ask(
    plan: &Plan<'_>,
    number: usize,
    scores: &PickScores,
    coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
) -> Result<Option<Vec<f32>>, LearnError> {
    let members = &plan.batches[number];
    let mut given = Vec::with_capacity(scores.current.len());
    for (&index, scores) in members.iter().zip(plan.by_trace(members, scores)) {
        let asked = coefficients(index, &scores);
        if asked.len() != scores.current.len() {
            let (tokens, coefficients) = (scores.current.len(), asked.len());
            return Err(LearnError::CoefficientCount { index, tokens, coefficients });
        }
        given.extend(asked);
    }
    Ok(given.iter().any(|&coefficient| coefficient != 0.0).then_some(given))
}

/// Held from a graph's first operation to the end of its way back. burn 0.22 keeps all graphs of a process
/// in one place, and a way back on one thread can lose a gradient on another (tracel-ai/burn 5573) or wait
/// for it forever.
static ALONE: Mutex<()> = Mutex::new(());

/// A micro-batch between its way forward and its way back.
enum OnItsWay {
    Host(Box<Going>),
    Graph(Box<OnGraph>),
}

struct OnGraph {
    batch: Batch,
    going: model::Going,
    values: Vec<f32>,
    log_sums: Vec<f32>,
    workspace: Workspace,
    alone: MutexGuard<'static, ()>,
}

impl OnItsWay {
    fn into_workspace(self) -> Workspace {
        match self {
            OnItsWay::Host(going) => going.into_workspace(),
            OnItsWay::Graph(going) => going.workspace,
        }
    }
}

impl Model {
    fn angles(&self, positions: usize) -> Angles {
        match self {
            Model::Host(trainer) => Angles::new(trainer.config(), positions),
            Model::Graph(decoder) => Angles::new(decoder.config(), positions),
        }
    }

    fn forward(&self, batch: Batch, angles: &Angles, workspace: Workspace) -> (OnItsWay, PickScores) {
        match self {
            Model::Host(trainer) => {
                let (going, scores) = trainer.forward(batch, angles, workspace);
                (OnItsWay::Host(Box::new(going)), scores)
            }
            Model::Graph(decoder) => {
                let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
                let going = decoder.forward(&batch);
                let values: Vec<f32> = going.logits.to_data().try_into_vec().expect("the graph is computed in f32");
                let (mut scores, mut log_sums) = (batch.outputs.unread(), vec![0.0; batch.outputs.rows.len()]);
                batch.outputs.read(0..log_sums.len(), &values, &mut log_sums, &mut scores);
                let going = OnGraph { batch, going, values, log_sums, workspace, alone };
                (OnItsWay::Graph(Box::new(going)), scores)
            }
        }
    }

    fn backward(&self, going: OnItsWay, coefficients: &[f32], angles: &Angles, sums: &mut GradientSums) -> Workspace {
        match (going, self) {
            (OnItsWay::Host(going), Model::Host(trainer)) => trainer.backward(*going, coefficients, angles, sums),
            (OnItsWay::Graph(going), Model::Graph(decoder)) => {
                let OnGraph { batch, going, mut values, log_sums, workspace, alone } = *going;
                batch.outputs.slopes(0..log_sums.len(), &mut values, &log_sums, coefficients);
                for (sum, gradient) in sums.iter_mut().zip(decoder.backward(going, values)) {
                    sum.copy_from_slice(&gradient);
                }
                drop(alone);
                workspace
            }
            _ => unreachable!("a micro-batch goes back the way it came"),
        }
    }
}
