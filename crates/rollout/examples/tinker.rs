//! A model's short life on a real server of the Tinker API, as `tests/tinker.rs` replays it:
//!
//! ```text
//! cargo run --release -p toehold-rollout --example tinker -- http://127.0.0.1:8000 BASE_MODEL
//! ```
//!
//! `interop/skyrl/record.py` between the two writes down what is said.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)] // An example stops where it fails.

#[path = "../tests/tinker/exchange.rs"]
mod exchange;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, base_model] = &arguments[..] else { return Err("expected ADDRESS BASE_MODEL".into()) };
    let dir = tempfile::tempdir()?;
    print!("{}", exchange::live(address, base_model, dir.path())?);
    Ok(())
}
