//! Which walls can be built here: found by building them once.
//!
//! What is allowed depends on the kernel, its settings, the container and the user, and no file says it
//! all. So a process is sent behind all walls, where it does nothing; at each failure the wall that
//! failed is left out, until one gets through.

use std::sync::OnceLock;

use crate::program::job::Sandbox;
use crate::program::sandbox::child::Step;
use crate::program::sandbox::landlock::Rules;
use crate::program::sandbox::workplace::{Workplace, euid, outside};
use crate::program::sandbox::{SandboxError, seccomp};
use crate::program::walls::{Wall, Walls};

/// Those of `walls` that can be built.
pub(crate) fn reachable(walls: Walls) -> Walls {
    static ALL: OnceLock<Walls> = OnceLock::new();
    walls.and(*ALL.get_or_init(probe))
}

fn probe() -> Walls {
    let mut walls = Walls::ALL;
    if euid() != 0 || outside().is_none() {
        walls = walls.without(Wall::Identity);
    }
    if Rules::new(&[], &[]).is_err() {
        walls = walls.without(Wall::Landlock);
    }
    if seccomp::filter(walls).is_none() {
        walls = walls.without(Wall::Seccomp);
    }
    loop {
        let attempt = Workplace::new("", "", &Sandbox::default(), walls).and_then(|place| place.attempt());
        let left = match attempt {
            Ok(()) => return walls,
            Err(error) => without_cause(walls, &error),
        };
        if left == walls {
            // Even limits cannot be had; what a job meets then is the error itself, as `Infra`.
            return Walls::NONE;
        }
        walls = left;
    }
}

/// The set without the wall that an attempt failed at; the same set where no wall is at fault.
fn without_cause(walls: Walls, error: &SandboxError) -> Walls {
    match error {
        SandboxError::Enter { step, .. } => match step {
            Step::Map => walls.minus(Walls::NAMESPACES),
            Step::Mount | Step::Scratch => walls.without(Wall::Files),
            Step::Identity => walls.without(Wall::Identity),
            Step::Landlock => walls.without(Wall::Landlock),
            Step::Seccomp => walls.without(Wall::Seccomp),
            Step::Session | Step::Descriptors | Step::Limits | Step::Privileges | Step::Start => walls,
        },
        // `clone` itself: the kernel or the container forbids namespaces.
        _ => walls.minus(Walls::NAMESPACES),
    }
}
