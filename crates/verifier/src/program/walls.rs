//! The sandbox's walls by name, and how much they amount to.
//!
//! A wall is asked for, and reached or not: a container may forbid namespaces, a kernel may lack
//! Landlock. What was reached is part of every result, and a job names the least that it accepts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that stands between a program and the machine. Limits of time, memory, output, files and
/// processes are not in this list: they always hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wall {
    /// A user id of its own, without supplementary groups. Reached by root alone: another user has no
    /// second id to give.
    Identity,
    /// A user and a process-id namespace: no other process is visible, and all end with the first.
    Processes,
    /// A network namespace without any device that is up.
    Network,
    /// A mount namespace and a root of its own: the runtime read-only, a bounded scratch folder in
    /// memory, and nothing else.
    Files,
    /// Namespaces of System V IPC, POSIX queues and the host name.
    Ipc,
    /// Landlock: only the runtime may be read, only scratch written; no TCP, and from ABI 6 no signal to
    /// and no abstract socket of the outside.
    Landlock,
    /// A list of allowed system calls; all others do not exist.
    Seccomp,
}

impl Wall {
    /// Every wall, in the order of documentation.
    pub const ALL: [Wall; 7] =
        [Wall::Identity, Wall::Processes, Wall::Network, Wall::Files, Wall::Ipc, Wall::Landlock, Wall::Seccomp];

    /// The name that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Wall::Identity => "identity",
            Wall::Processes => "processes",
            Wall::Network => "network",
            Wall::Files => "files",
            Wall::Ipc => "ipc",
            Wall::Landlock => "landlock",
            Wall::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of walls; written as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Wall>", into = "Vec<Wall>")]
pub struct Walls(u8);

impl Walls {
    /// Every wall.
    pub const ALL: Walls = Walls(0b111_1111);
    /// No wall: only the limits hold.
    pub const NONE: Walls = Walls(0);
    /// The walls that are made of namespaces.
    pub(crate) const NAMESPACES: Walls = Walls(0b001_1110);

    /// Whether a wall is in the set.
    pub const fn contains(self, wall: Wall) -> bool {
        self.0 & (1 << wall as u8) != 0
    }

    /// The set and one more.
    #[must_use]
    pub const fn with(self, wall: Wall) -> Walls {
        Walls(self.0 | 1 << wall as u8)
    }

    /// The set but one.
    #[must_use]
    pub const fn without(self, wall: Wall) -> Walls {
        Walls(self.0 & !(1 << wall as u8))
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Walls) -> Walls {
        Walls(self.0 & other.0)
    }

    /// What is in the first and not in the second.
    #[must_use]
    pub const fn minus(self, other: Walls) -> Walls {
        Walls(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The walls of the set, in the order of documentation.
    pub fn iter(self) -> impl Iterator<Item = Wall> {
        Wall::ALL.into_iter().filter(move |&wall| self.contains(wall))
    }

    /// What they amount to.
    pub fn level(self) -> Level {
        let namespaces = self.and(Walls::NAMESPACES) == Walls::NAMESPACES;
        if !self.contains(Wall::Seccomp) {
            Level::Limits
        } else if namespaces {
            Level::Isolated
        } else if self.contains(Wall::Landlock) || self.contains(Wall::Files) {
            Level::Restricted
        } else {
            Level::Limits
        }
    }
}

impl From<Vec<Wall>> for Walls {
    fn from(walls: Vec<Wall>) -> Walls {
        walls.into_iter().fold(Walls::NONE, Walls::with)
    }
}

impl From<Walls> for Vec<Wall> {
    fn from(walls: Walls) -> Vec<Wall> {
        walls.iter().collect()
    }
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (place, wall) in self.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{wall}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walls({self})")
    }
}

/// What a set of walls amounts to, from the weakest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Limits only: a program of good will cannot do harm by accident. Not for what a model wrote.
    Limits,
    /// Seccomp, and Landlock or a root of its own: no network, no foreign file, no signal to another
    /// process. The kernel's whole interface for files is still in reach.
    Restricted,
    /// All of that and every namespace: the program sees a machine of its own.
    Isolated,
}

impl Level {
    /// The name that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Limits => "limits",
            Level::Restricted => "restricted",
            Level::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(walls: &[Wall], expected: Expect) {
        let set = Walls::from(walls.to_vec());
        assert_eq!(Vec::from(set).len(), walls.len());
        expected.assert_eq(&format!("{} = {set}", set.level()));
    }

    #[test]
    fn levels() {
        use Wall::{Files, Identity, Ipc, Landlock, Network, Processes, Seccomp};
        check(&Wall::ALL, expect!["isolated = identity, processes, network, files, ipc, landlock, seccomp"]);
        check(
            &[Processes, Network, Files, Ipc, Seccomp],
            expect!["isolated = processes, network, files, ipc, seccomp"],
        );
        check(&[Network, Files, Ipc, Seccomp], expect!["restricted = network, files, ipc, seccomp"]);
        check(&[Landlock, Seccomp], expect!["restricted = landlock, seccomp"]);
        check(&[Seccomp, Processes, Network], expect!["limits = processes, network, seccomp"]);
        check(
            &[Identity, Processes, Network, Files, Ipc, Landlock],
            expect!["limits = identity, processes, network, files, ipc, landlock"],
        );
        check(&[], expect!["limits = none"]);
    }
}
