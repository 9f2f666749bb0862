//! What every objective has to keep: degenerate groups, nothing, absurd numbers.

use std::fmt::Write as _;

use expect_test::expect;

use toehold_rollout::SuccessCount;

use super::given::{GivenView, Origin};
use super::{Modifiers, Objective, ObjectiveKind, TraceView, Weigh};
use crate::recipe::Method;

/// Every objective at its defaults, and the named variants that are settings of one of them.
fn all() -> Vec<(String, Objective)> {
    let variants = [
        ("grpo", "deviation = \"none\""),
        ("reinforce-plus-plus", "baseline = \"group\""),
        ("w-reinforce", "success = 1.0\nfailure = 0.0"),
        ("w-reinforce", "success = 0.0\nfailure = 1.0"),
        ("weighted-grpo", "statistics = \"batch\""),
        ("asymmetric-prompt-weighting", "weighting = \"sqrt\""),
        ("asymmetric-prompt-weighting", "weighting = \"uniform\""),
        ("noisy-verifier", "correction = \"backward\"\nfalse_negative = 0.2\nfalse_positive = 0.1"),
        ("erpo", "deviation = \"none\""),
        ("importance-weighted", "ratio = \"trace\"\nacceptance = \"unbiased\""),
    ];
    let defaults = Objective::KINDS.iter().map(|&kind| match kind {
        "noisy-verifier" => (kind, "false_negative = 0.2"),
        kind => (kind, ""),
    });
    let read = |(kind, settings): (&str, &str)| {
        let name = format!("{kind} {}", settings.replace('\n', ", "));
        (name.trim_end().to_owned(), Objective::read(kind, settings.parse().unwrap()).unwrap())
    };
    defaults.chain(variants).map(read).collect()
}

/// The advantages of the first and the last of a group, alone in its batch. Zeros are dots.
#[test]
fn degenerate_groups() {
    let groups: [&[f64]; 5] = [&[1.0], &[0.0], &[1.0; 4], &[0.0; 4], &[1.0, 0.0, 0.0, 0.0]];
    let mut table = "one success | one failure | all pass | all fail | one of four\n".to_owned();
    for (name, objective) in all() {
        let cells: Vec<String> = groups
            .iter()
            .map(|rewards| {
                let mut found = objective.advantages(rewards);
                assert_eq!(found.len(), rewards.len());
                objective.normalise_batch(&mut found, &vec![3; rewards.len()]);
                let shown = |a: f64| if a == 0.0 { ".".to_owned() } else { format!("{a:.4}") };
                match found[..] {
                    [only] => shown(only),
                    [first, .., last] => format!("{} {}", shown(first), shown(last)),
                    [] => String::new(),
                }
            })
            .collect();
        writeln!(table, "{} | {name}", cells.join(" | ")).unwrap();
    }
    expect![[r#"
        one success | one failure | all pass | all fail | one of four
        1.0000 | . | 1.0000 1.0000 | . . | 1.0000 . | imitation
        . | . | . . | . . | 0.7500 -0.2500 | reinforce
        . | . | . . | . . | 1.5000 -0.5000 | grpo
        . | . | . . | . . | 1.0000 -0.3333 | rloo
        . | . | . . | . . | 1.6583 -0.5528 | reinforce-plus-plus
        . | . | . . | . . | 1.5000 -0.5000 | gspo
        . | . | . . | . . | 1.5000 -0.5000 | gmpo
        . | . | . . | . . | 1.5000 -0.5000 | cispo
        0.1000 | -1.0000 | 0.1000 0.1000 | -1.0000 -1.0000 | 0.1000 -1.0000 | w-reinforce
        0.1000 | -0.1000 | 0.1000 0.1000 | -0.1000 -0.1000 | 1.5000 -0.5000 | rl-zvp
        0.7071 | . | 0.4472 0.4472 | . . | 1.5000 -0.5000 | erpo
        . | . | . . | . . | 1.5000 -0.5000 | weighted-grpo
        . | . | . . | . . | 2.0000 -0.3333 | care
        . | -1.0000 | . . | -1.0000 -1.0000 | 3.0000 -1.0000 | asymmetric-prompt-weighting
        0.2000 | -0.8000 | 0.2000 0.2000 | -0.8000 -0.8000 | 0.2000 -0.8000 | noisy-verifier false_negative = 0.2
        . | . | . . | . . | 0.7500 -0.2500 | importance-weighted
        . | . | . . | . . | 0.7500 -0.2500 | luffy
        . | . | . . | . . | 1.5000 -0.5000 | rlep
        . | . | . . | . . | 1.5000 -0.5000 | prefix-rft
        . | . | . . | . . | 1.5000 -0.5000 | uft
        . | . | . . | . . | 0.7500 -0.2500 | grpo deviation = "none"
        . | . | . . | . . | 1.6583 -0.5528 | reinforce-plus-plus baseline = "group"
        1.0000 | . | 1.0000 1.0000 | . . | 1.0000 . | w-reinforce success = 1.0, failure = 0.0
        . | -1.0000 | . . | -1.0000 -1.0000 | . -1.0000 | w-reinforce success = 0.0, failure = 1.0
        . | . | . . | . . | 1.5000 -0.5000 | weighted-grpo statistics = "batch"
        . | -1.0000 | . . | -1.0000 -1.0000 | 3.4641 -1.1547 | asymmetric-prompt-weighting weighting = "sqrt"
        1.0000 | -1.0000 | 1.0000 1.0000 | -1.0000 -1.0000 | 4.0000 -1.3333 | asymmetric-prompt-weighting weighting = "uniform"
        1.2857 | -0.1429 | 1.2857 1.2857 | -0.1429 -0.1429 | 1.2857 -0.1429 | noisy-verifier correction = "backward", false_negative = 0.2, false_positive = 0.1
        0.5000 | . | 0.2000 0.2000 | . . | 0.7500 -0.2500 | erpo deviation = "none"
        . | . | . . | . . | 0.7500 -0.2500 | importance-weighted ratio = "trace", acceptance = "unbiased"
    "#]].assert_eq(&table);
}

#[test]
fn nothing_gives_nothing_and_no_number_is_lost() {
    for (name, objective) in all() {
        let weigh = &objective;
        assert!(weigh.advantages(&[]).is_empty(), "{name}");
        weigh.normalise_batch(&mut [], &[]);
        // A batch without completion tokens.
        let mut empty = weigh.advantages(&[1.0, 0.0]);
        weigh.normalise_batch(&mut empty, &[0, 0]);
        assert!(empty.iter().all(|advantage| advantage.is_finite()), "{name}");
        let coefficients = |advantage: f64, current: &[f32], behavior: &[f32]| {
            let (rewards, entropy) = (&[1.0, 0.0], Some(&[0.5, 1.0][..]));
            weigh.coefficients_of(&TraceView { advantage, rewards, current, behavior, entropy })
        };
        assert!(coefficients(1.0, &[], &[]).is_empty(), "{name}");
        for advantage in [-1.0, 0.0, 1.0] {
            // What the policy holds for impossible and the sampler for sure, and the reverse.
            for (current, behavior) in [([-1e30, -1.0], [-0.1, -1.0]), ([-0.1, -1.0], [-1e30, -1.0])] {
                let found = coefficients(advantage, &current, &behavior);
                assert_eq!(found.len(), 2, "{name}");
                assert!(found.iter().all(|coefficient| coefficient.is_finite()), "{name}: {found:?}");
                assert!(advantage != 0.0 || found.iter().all(|&coefficient| coefficient == 0.0), "{name}");
            }
        }
    }
}

/// On a trace just sampled the ratio is 1 and no clip acts: each coefficient is `−A`.
#[test]
fn a_fresh_trace_counts_its_advantage() {
    let scores = [-0.5, -2.0, -0.25];
    for (name, objective) in all() {
        let view =
            TraceView { advantage: 0.75, rewards: &[1.0, 0.0], current: &scores, behavior: &scores, entropy: None };
        assert_eq!(objective.coefficients_of(&view), [-0.75; 3], "{name}");
    }
}

/// The advantages of a group and of two collected successes that join it, where they do.
#[test]
fn given_tokens_in_degenerate_groups() {
    let mut table = String::new();
    for (name, objective) in all() {
        let Some(given) = objective.given() else { continue };
        let shown = |advantages: &[f64]| advantages.iter().map(|a| format!("{a:.3}")).collect::<Vec<_>>().join(" ");
        for rewards in [&[1.0; 3][..], &[0.0; 3], &[1.0, 0.0, 0.0], &[0.0], &[]] {
            let joined = given.wanted(rewards).min(2);
            let (own, stored) = given.joint_advantages(rewards, joined);
            assert_eq!((own.len(), stored.len()), (rewards.len(), joined), "{name}");
            assert_eq!(given.joint_advantages(rewards, 0).0, objective.advantages(rewards), "{name}");
            let prefix = given.prefix_advantage(rewards, &[0.0]).map_or("none".to_owned(), |a| format!("{a:.3}"));
            writeln!(table, "{name}: {rewards:?} -> {} | {} | prefix {prefix}", shown(&own), shown(&stored)).unwrap();
        }
    }
    expect![[r#"
        importance-weighted: [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 |  | prefix none
        importance-weighted: [0.0, 0.0, 0.0] -> 0.000 0.000 0.000 | 1.000 | prefix none
        importance-weighted: [1.0, 0.0, 0.0] -> 0.667 -0.333 -0.333 |  | prefix none
        importance-weighted: [0.0] -> 0.000 | 1.000 | prefix none
        importance-weighted: [] ->  | 1.000 | prefix none
        luffy: [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 | 0.000 | prefix none
        luffy: [0.0, 0.0, 0.0] -> -0.250 -0.250 -0.250 | 0.750 | prefix none
        luffy: [1.0, 0.0, 0.0] -> 0.500 -0.500 -0.500 | 0.500 | prefix none
        luffy: [0.0] -> -0.500 | 0.500 | prefix none
        luffy: [] ->  | 0.000 | prefix none
        rlep: [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 | 0.000 0.000 | prefix none
        rlep: [0.0, 0.0, 0.0] -> -0.730 -0.730 -0.730 | 1.095 1.095 | prefix none
        rlep: [1.0, 0.0, 0.0] -> 0.730 -1.095 -1.095 | 0.730 0.730 | prefix none
        rlep: [0.0] -> -1.155 | 0.577 0.577 | prefix none
        rlep: [] ->  | 0.000 0.000 | prefix none
        prefix-rft: [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 |  | prefix 1.000
        prefix-rft: [0.0, 0.0, 0.0] -> 0.000 0.000 0.000 |  | prefix none
        prefix-rft: [1.0, 0.0, 0.0] -> 1.155 -0.577 -0.577 |  | prefix 0.333
        prefix-rft: [0.0] -> 0.000 |  | prefix none
        prefix-rft: [] ->  |  | prefix none
        uft: [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 |  | prefix 0.001
        uft: [0.0, 0.0, 0.0] -> 0.000 0.000 0.000 |  | prefix 0.001
        uft: [1.0, 0.0, 0.0] -> 1.155 -0.577 -0.577 |  | prefix 0.001
        uft: [0.0] -> 0.000 |  | prefix 0.001
        uft: [] ->  |  | prefix 0.001
        importance-weighted ratio = "trace", acceptance = "unbiased": [1.0, 1.0, 1.0] -> 0.000 0.000 0.000 |  | prefix none
        importance-weighted ratio = "trace", acceptance = "unbiased": [0.0, 0.0, 0.0] -> 0.000 0.000 0.000 | 1.000 | prefix none
        importance-weighted ratio = "trace", acceptance = "unbiased": [1.0, 0.0, 0.0] -> 0.667 -0.333 -0.333 |  | prefix none
        importance-weighted ratio = "trace", acceptance = "unbiased": [0.0] -> 0.000 | 1.000 | prefix none
        importance-weighted ratio = "trace", acceptance = "unbiased": [] ->  | 1.000 | prefix none
    "#]].assert_eq(&table);
}

#[test]
fn given_tokens_give_one_finite_coefficient_each() {
    for (name, objective) in all() {
        let Some(given) = objective.given() else { continue };
        for campaign in [SuccessCount::default(), SuccessCount { successes: 3, attempts: 3 }] {
            for (current, behavior) in [(&[-1e30f32, -0.1][..], &[-0.1f32, -1e30][..]), (&[], &[])] {
                for origin in [Origin::Stored { behavior, campaign }, Origin::Prefix] {
                    for (advantage, entropy) in
                        [(1.0, None), (-1.0, Some(&[0.5, f32::NAN][..current.len()])), (0.0, None)]
                    {
                        let view = GivenView { origin, advantage, current, entropy };
                        let found = given.given_coefficients(&view);
                        assert_eq!(found.len(), current.len(), "{name}");
                        assert!(found.iter().all(|coefficient| coefficient.is_finite()), "{name}: {found:?}");
                        assert!(advantage != 0.0 || found.iter().all(|&coefficient| coefficient == 0.0), "{name}");
                    }
                }
            }
        }
    }
}

/// A modifier's table and a method's setting lie in the same table of a recipe.
#[test]
fn no_setting_has_a_modifiers_name() {
    for (name, settings) in ObjectiveKind::SETTINGS {
        assert!(Modifiers::TABLES.iter().all(|table| !settings.contains(table)), "{name}: {settings:?}");
    }
}
