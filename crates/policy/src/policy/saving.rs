//! A learner's whole state on disk, and back to the same bits.

use std::path::Path;
use std::sync::Arc;

use toehold_rollout::LearnError;

use super::{Adapted, Policy};
use crate::NamedTensor;
use crate::adapter::Adapter;
use crate::checkpoint::{self, Format, Note, Piece, ReadWeightsError, WriteWeightsError};
use crate::held::Held;
use crate::optimizer::OptimizerState;

impl Policy {
    /// See [`Learner::save`](toehold_rollout::Learner::save) of the policy.
    pub(super) fn save_state(&self, dir: &Path) -> Result<(), LearnError> {
        let error = |error: WriteWeightsError| checkpoint_error(dir, &error);
        match &self.adapted {
            Some(adapted) => {
                checkpoint::write_files_beside(dir, &self.layout).map_err(error)?;
                adapted.adapter.save(dir, self.origin.as_deref()).map_err(error)?;
            }
            None => self.save_folder(dir).map_err(error)?,
        }
        let learnt = match &self.adapted {
            Some(adapted) => &adapted.adapter.weights,
            None => self.weights.read().map_err(|error| checkpoint_error(dir, &error))?,
        };
        let piece = |kind: &str, tensor: &'_ NamedTensor| format!("{kind}.{}", tensor.name);
        let mut pieces = Vec::new();
        let fresh;
        let optimizer = match self.optimizer.is_empty() {
            true => {
                fresh = OptimizerState::of_counts(&self.learnt_counts());
                &fresh
            }
            false => &self.optimizer,
        };
        for (kind, lists) in state_names().into_iter().zip(state_lists(optimizer)) {
            for (tensor, values) in learnt.tensors.iter().zip(lists) {
                let (name, shape) = (piece(kind, tensor), &tensor.shape[..]);
                pieces.push(Piece::Numbers { name, format: Format::F32, shape, values });
            }
        }
        if self.adapted.is_none() && !self.layout.is_exact() {
            for tensor in &learnt.tensors {
                let (name, shape, values) = (piece(MASTERS, tensor), &tensor.shape[..], &tensor.values[..]);
                pieces.push(Piece::Numbers { name, format: Format::F32, shape, values });
            }
        }
        // In the order of the names, as they have always been.
        pieces.sort_by(|a, b| a.name().cmp(b.name()));
        checkpoint::write_file(&dir.join(OPTIMIZER), pieces, Note::Steps(optimizer.steps)).map_err(error)
    }

    /// See [`Learner::restore`](toehold_rollout::Learner::restore) of the policy.
    pub(super) fn restore_state(&mut self, dir: &Path) -> Result<(), LearnError> {
        let error = |error: ReadWeightsError| checkpoint_error(dir, &error);
        let path = dir.join(OPTIMIZER);
        let mut kinds = state_names().to_vec();
        let mut read = match self.adapter() {
            Some(adapter) => {
                let read = Adapter::read(dir, &self.config).map_err(|error| checkpoint_error(dir, &error))?;
                if read.lora() != adapter.lora() {
                    let reason = format!("its adapter is {:?}, expected {:?}", read.lora(), adapter.lora());
                    return Err(LearnError::Checkpoint { dir: dir.into(), reason });
                }
                read.weights
            }
            None => {
                let weights = checkpoint::read_folder(dir, &self.config).map_err(error)?;
                if checkpoint::has_tensors(&path, &format!("{MASTERS}.")).map_err(error)? {
                    kinds.push(MASTERS);
                }
                weights
            }
        };
        let tensors = &read.tensors;
        let named = kinds.into_iter().flat_map(|kind| {
            tensors.iter().map(move |tensor| (format!("{kind}.{}", tensor.name), tensor.shape.clone()))
        });
        let (lists, steps) = checkpoint::read_exactly(&path, named.collect()).map_err(error)?;
        let mut lists = lists.into_iter();
        let [first, second, mean, square] =
            state_names().map(|_| lists.by_ref().take(read.tensors.len()).collect::<Vec<_>>());
        for (tensor, values) in read.tensors.iter_mut().zip(lists) {
            tensor.values = values;
        }
        let (config, layout, options) = (self.config.clone(), self.layout.clone(), self.options.clone());
        let restored = match &self.adapted {
            Some(Adapted { adapter, base }) => {
                let adapter = adapter.with_weights(read);
                let made = (Arc::new(base.engine.with_adapter(&adapter)), adapter.version(&base.version));
                let adapted = Some(Adapted { adapter, base: base.clone() });
                Policy::assemble(config, layout, self.weights.clone(), options, adapted, made)
            }
            None => Policy::of_weights(config, layout, Arc::new(Held::list(read)), options).map_err(error)?,
        };
        *self = Policy { origin: self.origin.take(), ..restored };
        self.optimizer = OptimizerState { steps, first, second, mean, square };
        Ok(())
    }
}

/// The optimizer's file, and what the weights in f32 are called in it.
const OPTIMIZER: &str = "optimizer.safetensors";
const MASTERS: &str = "weights";

/// Names of the optimizer's four lists in its file.
fn state_names() -> [&'static str; 4] {
    ["first", "second", "mean", "square"]
}

fn state_lists(state: &OptimizerState) -> [&Vec<Vec<f32>>; 4] {
    [&state.first, &state.second, &state.mean, &state.square]
}

fn checkpoint_error(dir: &Path, error: &dyn std::error::Error) -> LearnError {
    LearnError::Checkpoint { dir: dir.into(), reason: error.to_string() }
}
