//! Random streams that are named, not passed along.
//!
//! A stream is the hash of what it is for (a seed, a purpose, a step), so the numbers of step 300
//! are the same whether the run came there in one go or was killed twice. The draws are spelt out
//! here because a library's are allowed to change between its versions, and a seed must not.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seed that belongs to `purpose` and `numbers` alone.
pub fn seed_for(seed: u64, purpose: &str, numbers: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// The random stream of `purpose` and `numbers`.
pub fn stream(seed: u64, purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed_for(seed, purpose, numbers))
}

/// A number in `0..bound`, each equally likely; 0 when `bound` is 0.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    if bound == 0 {
        return 0;
    }
    // Draws past the last whole multiple of the bound would favour small numbers.
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}

/// A number in `[0, 1)`, a multiple of 2⁻⁵³.
pub fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Puts `items` in a random order (Fisher and Yates).
pub fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(rng, last as u64 + 1) as usize;
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::{below, shuffle, stream, unit};

    #[test]
    fn streams_are_fixed_by_their_name() {
        let draw = |purpose, step| below(&mut stream(7, purpose, &[step]), 1_000_000);
        assert_eq!(draw("cut", 1), draw("cut", 1));
        assert_ne!(draw("cut", 1), draw("cut", 2));
        assert_ne!(draw("cut", 1), draw("epoch", 1));
        // Pinned: a release that changes it changes every run in the world.
        assert_eq!(draw("cut", 1), 640_307);
    }

    #[test]
    fn draws_stay_in_range_and_reach_every_value() {
        let mut rng = stream(0, "test", &[]);
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[below(&mut rng, 5) as usize] += 1;
            let u = unit(&mut rng);
            assert!((0.0..1.0).contains(&u));
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
        assert_eq!(below(&mut rng, 0), 0);
    }

    #[test]
    fn shuffling_keeps_the_items() {
        let mut items: Vec<u32> = (0..50).collect();
        shuffle(&mut stream(3, "test", &[]), &mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
