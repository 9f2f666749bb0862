//! Plain reinforcement learning: every problem without a prefix.
//!
//! The problems are gone through in epochs, each shuffled anew. This is the baseline that the other
//! curricula are compared with; on a problem that always fails, or always succeeds, its groups are
//! silent and their sampling is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use toehold_rollout::Start;

use super::{BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, named};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the plain curriculum: there are none.
    Plain from PlainWritten {}
}

impl Plain {
    pub(super) const TRACES: Traces = Traces::None;

    pub(super) fn checked(self) -> Result<Plain, RecipeError> {
        Ok(self)
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: 1.0 });
        }
        let cycle = Cycle::new("plain starts", seed, material.plain.len());
        Ok(Box::new(PlainCurriculum { starts: material.plain.into_iter().map(Arc::new).collect(), cycle }))
    }
}

/// The plain curriculum at work.
struct PlainCurriculum {
    starts: Vec<Arc<Start>>,
    cycle: Cycle,
}

impl Curriculum for PlainCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        let mut selections = Vec::with_capacity(count);
        while selections.len() < count {
            let why = format!("epoch {}", self.cycle.epoch());
            let Some(at) = self.cycle.take() else { break };
            selections.push(Selection::new(self.starts[at].clone(), why));
        }
        selections
    }

    fn observe(&mut self, _selection: &Selection, _outcome: GroupOutcome) -> Fate {
        Fate::Learnt
    }

    fn state(&self) -> Value {
        json!({ "starts": self.starts.len(), "taken": self.cycle.taken() })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let taken = super::restored(state, "starts", self.starts.len(), "taken")?;
        self.cycle.seek(taken);
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        named([("epoch", self.cycle.epoch() as f64)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ids, plain_starts};
    use super::{Material, Plain};

    #[test]
    fn a_state_goes_on_exactly() {
        let material = || Material { plain: plain_starts(5), ..Material::default() };
        let build = || Plain {}.build(material(), 3).unwrap();
        let mut whole = build();
        let all = ids(&whole.next(23));
        for at in 0..23 {
            let mut before = build();
            before.next(at);
            let mut after = build();
            after.restore(&before.state()).unwrap();
            assert_eq!(ids(&after.next(23 - at)), all[at..], "after {at}");
        }
    }

    #[test]
    fn a_state_of_other_material_is_refused() {
        let build = |count| Plain {}.build(Material { plain: plain_starts(count), ..Material::default() }, 3).unwrap();
        let error = build(4).restore(&build(5).state()).unwrap_err();
        assert_eq!(error.to_string(), "the curriculum's state does not fit: `starts` is 5, expected 4");
    }

    #[test]
    fn no_problem_is_an_error() {
        assert!(Plain {}.build(Material::default(), 0).is_err());
    }
}
