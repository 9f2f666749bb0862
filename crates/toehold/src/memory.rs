//! Whether a training can fit into the machine's memory at all.

/// What a training takes whatever is lowered, in words and bytes, and how it would be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// What is changed in the recipe.
    pub set: &'static str,
    /// Weights, optimizer and gradients then, in bytes.
    pub bytes: u64,
}

/// Why a training is refused that takes `least` bytes at the least on a machine of `machine` bytes, with the first
/// of `ways` that fits; none where it may fit.
pub fn refusal(least: u64, machine: u64, ways: &[Way]) -> Option<String> {
    if least <= machine {
        return None;
    }
    let bytes = crate::terminal::bytes;
    let hint = match ways.iter().find(|way| way.bytes <= machine) {
        Some(Way { set, bytes: needed }) => format!("{set} takes {}", bytes(*needed)),
        None => "no setting makes it fit here; take a smaller model or a larger machine".to_owned(),
    };
    Some(format!(
        "weights, optimizer and gradients take {}, and this machine has {} of memory\nhint: {hint}",
        bytes(least),
        bytes(machine)
    ))
}

/// Memory that the system could still give, where it says so.
pub fn available() -> Option<u64> {
    told("MemAvailable:")
}

/// All memory of the machine, where the system says so.
pub fn of_machine() -> Option<u64> {
    told("MemTotal:")
}

fn told(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Way, refusal};

    #[track_caller]
    fn check(least: u64, machine: u64, expected: Expect) {
        let ways = [
            Way { set: "--set policy.dtype=bf16", bytes: 80 << 30 },
            Way { set: "--set policy.lora.rank=16", bytes: 9 << 30 },
        ];
        expected.assert_eq(&refusal(least << 30, machine << 30, &ways).unwrap_or_default());
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_would() {
        check(8, 8, expect![""]);
        check(
            100,
            90,
            expect![[r#"
            weights, optimizer and gradients take 100.0 GiB, and this machine has 90.0 GiB of memory
            hint: --set policy.dtype=bf16 takes 80.0 GiB"#]],
        );
        check(
            100,
            10,
            expect![[r#"
            weights, optimizer and gradients take 100.0 GiB, and this machine has 10.0 GiB of memory
            hint: --set policy.lora.rank=16 takes 9.0 GiB"#]],
        );
        check(
            100,
            8,
            expect![[r#"
            weights, optimizer and gradients take 100.0 GiB, and this machine has 8.0 GiB of memory
            hint: no setting makes it fit here; take a smaller model or a larger machine"#]],
        );
    }
}
