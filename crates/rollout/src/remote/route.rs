//! Which endpoint a start belongs to: rendezvous hashing, so that the requests of a start meet the same prefix
//! cache, call after call, and the loss of an endpoint moves only the starts that were on it.
//!
//! A start's endpoint is the one with the largest `hash(start, endpoint)`. Nothing is kept and nothing is agreed
//! on; two controllers with the same list choose the same.

use crate::TokenId;

/// A hash of the tokens that a start's requests have in common.
pub(super) fn hash_tokens(parts: &[&[TokenId]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for token in parts.iter().flat_map(|part| part.iter()) {
        hasher.update(&token.to_le_bytes());
    }
    first_bytes(&hasher)
}

/// A hash of an endpoint's address.
pub(super) fn hash_address(address: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(address.as_bytes());
    first_bytes(&hasher)
}

/// Of the endpoints with these hashes the one that `start` belongs to, among those that `is_there` admits.
pub(super) fn place(start: u64, endpoints: &[u64], is_there: impl Fn(usize) -> bool) -> Option<usize> {
    (0..endpoints.len()).filter(|&at| is_there(at)).max_by_key(|&at| mixed(start ^ endpoints[at]))
}

fn first_bytes(hasher: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): every input bit changes half of the output's.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::{hash_address, hash_tokens, place};

    #[test]
    fn starts_are_spread_and_only_the_lost_ones_move() {
        let endpoints: Vec<u64> = (0..8).map(|at| hash_address(&format!("http://10.0.0.{at}:8000"))).collect();
        let starts: Vec<u64> = (0..8000u32).map(|start| hash_tokens(&[&[start, 7], &[1]])).collect();
        let before: Vec<usize> = starts.iter().map(|&start| place(start, &endpoints, |_| true).unwrap()).collect();
        for at in 0..8 {
            let share = before.iter().filter(|&&placed| placed == at).count();
            assert!((850..1150).contains(&share), "endpoint {at} has {share} of 8000 starts");
        }
        for (&start, &before) in starts.iter().zip(&before) {
            let after = place(start, &endpoints, |at| at != 3).unwrap();
            assert!(after != 3 && (before == 3 || after == before));
        }
        assert_eq!(place(1, &endpoints, |_| false), None);
        assert_ne!(hash_tokens(&[&[1, 2]]), hash_tokens(&[&[2, 1]]));
    }
}
