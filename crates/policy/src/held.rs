//! Where a policy's weights are: in a list in memory, or still in the files that they were read from.
//!
//! Weights that nobody changes (those under an adapter, those that are only sampled from or scored with) are
//! needed as numbers only while they are packed. In [`Storage::Files`] they are read tensor by tensor when that
//! happens, so that their packed copies are the only ones in memory: with `dtype = "bf16"` a checkpoint in bf16 is
//! held in the bits it has on disk. The first step of a learner that changes them reads them into a list.
//!
//! A file that is not as it was when it was opened is refused. It is read and not mapped: what another program
//! does to a mapped file is undefined behaviour here, and a file that is cut off would kill the process.

use std::borrow::Cow;
use std::sync::OnceLock;

use toehold_rollout::PolicyVersion;

use crate::ModelConfig;
use crate::checkpoint::{ReadWeightsError, StoredWeights};
use crate::weights::{Hash, Weights};

/// Where weights stay that were read from a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory as f32: nothing is read again.
    #[default]
    Memory,
    /// In their files, until a learner changes them: half to two thirds of the memory. They are read again for
    /// the first way back of a learner, for its first step, and for saving.
    Files,
}

/// All tensors of a model, wherever they are.
#[derive(Debug)]
pub(crate) struct Held {
    /// Names and shapes, sorted by name.
    tensors: Vec<(String, Vec<usize>)>,
    list: OnceLock<Weights>,
    files: Option<StoredWeights>,
}

impl Held {
    /// Weights in memory.
    pub(crate) fn list(weights: Weights) -> Held {
        let tensors = weights.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
        Held { tensors, list: OnceLock::from(weights), files: None }
    }

    /// Weights in files.
    pub(crate) fn files(config: &ModelConfig, files: StoredWeights) -> Held {
        Held { tensors: Weights::expected(config), list: OnceLock::new(), files: Some(files) }
    }

    /// Numbers of each tensor, in the order of the names.
    pub(crate) fn counts(&self) -> impl Iterator<Item = usize> {
        self.tensors.iter().map(|(_, shape)| shape.iter().product())
    }

    /// Where one tensor stands among all.
    pub(crate) fn position(&self, name: &str) -> usize {
        self.find(name).expect("every list of weights has exactly the model's names")
    }

    /// As [`position`](Self::position), of a tensor that not every model has.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.tensors.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()
    }

    /// The numbers of one tensor, which is there.
    ///
    /// # Errors
    /// When its file cannot be read any more.
    pub(crate) fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, ReadWeightsError> {
        match (self.list.get(), &self.files) {
            (None, Some(files)) => files.read(name).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(self.read()?.values(name))),
        }
    }

    /// All of them, in memory from now on.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub(crate) fn read(&self) -> Result<&Weights, ReadWeightsError> {
        match self.list.get() {
            Some(list) => Ok(list),
            None => {
                let read = self.to_list()?;
                Ok(self.list.get_or_init(|| read))
            }
        }
    }

    /// A list of them of one's own.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub(crate) fn to_list(&self) -> Result<Weights, ReadWeightsError> {
        match (self.list.get(), &self.files) {
            (Some(list), _) => Ok(list.clone()),
            (None, Some(files)) => files.read_all(),
            (None, None) => unreachable!("weights are in memory or in files"),
        }
    }

    /// The list, where it is in memory and nobody else has it.
    pub(crate) fn list_mut(&mut self) -> Option<&mut Weights> {
        self.list.get_mut()
    }

    /// The name of these weights; see [`Weights::version`].
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub(crate) fn version(&self) -> Result<PolicyVersion, ReadWeightsError> {
        let mut hash = Hash::default();
        for (name, shape) in &self.tensors {
            hash.add(name, shape, &self.values(name)?);
        }
        Ok(hash.version())
    }
}
