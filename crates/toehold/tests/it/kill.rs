//! A run that is killed again and again ends as one that never was: the same rows, the same events,
//! the same weights to the byte.

use std::thread::sleep;
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::place::{Place, assert_kept_the_same};

const KILLS: u32 = 20;

/// Kills `command` at random moments until it was killed [`KILLS`] times, beginning anew in a fresh
/// place whenever it comes to its end before that; what it left must then be `expected`.
fn check(before: &[&str], command: &str, seed: u64) {
    let never_killed = Place::with_chains();
    for earlier in before {
        never_killed.toehold(earlier).succeeded();
    }
    let begun = Instant::now();
    never_killed.toehold(command).succeeded();
    let whole = begun.elapsed();
    let expected = never_killed.kept("runs/r");

    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    while kills < KILLS {
        let place = Place::with_chains();
        for earlier in before {
            place.toehold(earlier).succeeded();
        }
        loop {
            let mut child = place.command(command).arg("--quiet").stdout(std::process::Stdio::null()).spawn().unwrap();
            if kills == KILLS {
                assert!(child.wait().unwrap().success());
                break;
            }
            sleep(whole.mul_f64(rng.random_range(0.02..0.8)));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "after {kills} kills: {status}");
                break;
            }
            // SIGKILL on Unix: nothing can be tidied up.
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert_kept_the_same(&expected, &place.kept("runs/r"), &format!("{command} killed {kills} times"));
    }
}

#[test]
fn sampling() {
    check(
        &[],
        "sample recipe.toml --set problems.count=48 --set collect.in_flight=16 --set collect.max_attempts=300",
        1,
    );
}

#[test]
fn training() {
    check(&["sample recipe.toml"], "train recipe.toml", 2);
}

#[test]
fn training_with_sparse_checkpoints_after_imitation() {
    let set = "--set train.checkpoint_every=5 --set sft.epochs=2 --set sft.batch=4 --set evaluate.every=3";
    let sample = format!("sample recipe.toml {set}");
    check(&[&sample], &format!("train recipe.toml {set}"), 3);
}
