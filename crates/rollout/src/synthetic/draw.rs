//! Random draws whose values are fixed by this file and ChaCha8, not by a library's release.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of a seed: the key is the seed's eight bytes, little end first, then zeros.
pub fn generator(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Uniform over `0..bound`, which must not be empty.
///
/// The high half of a 96-bit product: its bias is below 2^-32 for every bound used here.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let product = u128::from(rng.next_u64()) * u128::from(bound);
    u32::try_from(product >> 64).expect("the high half of u64 × u32 is below the u32")
}

/// Uniform over `low..=high`, for `low <= high < u32::MAX`.
pub(super) fn between(rng: &mut ChaCha8Rng, (low, high): (u32, u32)) -> u32 {
    low + below(rng, high - low + 1)
}

/// True with this probability; never for 0, always for 1.
pub(super) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    ((rng.next_u64() >> 11) as f64 * UNIT) < probability
}
