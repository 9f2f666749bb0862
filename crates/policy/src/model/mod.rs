//! The decoder as a graph of tensors: what learning differentiates, and the reference for the host
//! engine.
//!
//! Every parameter is a matrix leaf of the graph, the norms' weights as one row, so that all are kept
//! in one list in the order of [`Weights`](crate::Weights).

mod attention;
mod decoder;
mod feed_forward;
mod norm;
mod rotary;

pub(crate) use decoder::Decoder;
