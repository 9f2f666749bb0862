//! Sampling on other machines: a fleet of inference servers as one [`Sampler`](crate::Sampler).
//!
//! Read in this order: `http` (a call with bounds, deadlines and errors that name endpoint and cause; whoever else
//! talks to a server uses it, too), `protocol` (what engines are asked and answer) with `vllm` and `sglang`,
//! `answer` (what of it may be kept), `server` (is it the right one) with `hand_over`
//! (new weights), `adapters` (only an adapter of them) and `logprobs` (of which distribution), `route` and `limit`
//! (where a request goes, and how many at a time), `endpoint`, `job`, `call` and `patience` (what is known of each), `dispatch` (the
//! traffic of one call), `fleet`. `folders` keeps the weights that servers read.
//!
//! Invariants, whatever servers and network do: every request is answered exactly once or the call fails and says
//! which server did what; a completion that is kept has one finite log-probability per token of the distribution
//! that it was drawn from, by the weights that the run expects; a group's requests meet one server's prefix cache
//! while that server is there; no API key is printed or kept.
//!
//! `docs/fleet.md` is the user's side of it.

mod adapters;
mod answer;
mod call;
mod dispatch;
mod endpoint;
mod fleet;
mod folders;
mod hand_over;
pub mod http;
mod job;
mod limit;
mod logprobs;
mod patience;
mod protocol;
mod route;
mod server;
mod sglang;
pub mod tinker;
mod vllm;

pub use adapters::{AdapterNames, Given};
pub use answer::Refusal;
pub use endpoint::Counts;
pub use fleet::{EndpointReport, Fleet, FleetError, FleetSettings};
pub use folders::{FolderError, WeightFolders};
pub use logprobs::LogprobKind;
pub use protocol::Engine;
pub use server::{Expected, Probe, ServerError, Verified};
