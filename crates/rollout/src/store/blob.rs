//! Token ids and log-probabilities as bytes: 4 each, little-endian, nothing around them.

use crate::TokenId;

/// Token ids as little-endian `u32`.
pub(super) fn from_tokens(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

/// The inverse of [`from_tokens`]; none if the length is no multiple of 4.
pub(super) fn to_tokens(bytes: &[u8]) -> Option<Vec<TokenId>> {
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|word| TokenId::from_le_bytes(*word)).collect())
}

/// Log-probabilities as little-endian `f32`, to the bit.
pub(super) fn from_floats(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

/// The inverse of [`from_floats`]; none if the length is no multiple of 4.
pub(super) fn to_floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}
