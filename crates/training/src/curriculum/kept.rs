//! States as a curriculum keeps them: its own fields beside the name of the material that they are of.
//!
//! A state that counts into lists of starts means nothing over other lists, so it is refused there.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use toehold_rollout::Start;

use super::RestoreError;

/// Names these starts in this order: 16 hexadecimal digits of a hash of their ids.
pub(super) fn name<'a>(starts: impl IntoIterator<Item = &'a Start>) -> String {
    let mut hasher = blake3::Hasher::new();
    starts.into_iter().for_each(|start| {
        hasher.update(start.id.as_str().as_bytes());
    });
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A state that belongs to `material`.
pub(super) fn keep(material: String, state: &impl Serialize) -> Value {
    json!({ "material": material, "state": state })
}

/// Reads what [`keep`] wrote for the same material.
pub(super) fn kept<T: DeserializeOwned>(value: &Value, material: &str) -> Result<T, RestoreError> {
    let found = value["material"].as_str().unwrap_or("none");
    if found != material {
        return Err(RestoreError { reason: format!("its starts are {found}, expected {material}") });
    }
    T::deserialize(&value["state"]).map_err(|error| RestoreError { reason: error.to_string() })
}

/// Keeps a real number by its bits: as text it would come back a little different.
pub(super) mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}
