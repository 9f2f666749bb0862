//! `toehold theory`: the table of a few small horizons, the same as JSON and as a page, and what it refuses.

use expect_test::{Expect, expect};

use crate::place::Place;

/// Horizon 12 is beyond the cap for some runs of on-policy NPG, and 40 for all of them.
const SMALL: &str = "theory --horizons 12,4,8,40,6 --seeds 15 --cap 4000";

#[track_caller]
fn check(arguments: &str, expected: Expect) {
    expected.assert_eq(&Place::new().toehold(arguments).to_string());
}

#[test]
fn a_person_gets_a_table() {
    check(
        SMALL,
        expect![[r#"
            status 0
            stdout:
            Completions until the expected reward is 0.5, on hidden strings over 2 actions: medians and quartiles over seeds.
            Seeds 15, completions per update 8, step size 2, mixing 0.5.

            horizon  on-policy NPG  quartiles                               at least  PrefixRL-NPG      quartiles  at most  a trace by luck
            ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
                  4             16  16 – 32                                        3            24        24 – 32    8.7e9               16
                  6             48  40 – 88                                       15            48        32 – 56   6.2e10               64
                  8            272  160 – 592                                     63            80        64 – 88   2.5e11              256
                 12          2,456  480 – not within 4,000 (10 of 15 runs)     1,023           144      136 – 176   1.8e12            4,096
                 40              –  not within 4,000                          2.7e11         1,464  1,424 – 1,656   7.1e14           1.1e12

            on-policy NPG: exponential, ×1.90 per unit of horizon (R² 0.992), rather than horizon^4.67 (R² 0.973); horizons 4 to 12
            PrefixRL-NPG: polynomial, horizon^1.78 (R² 0.998), rather than ×1.11 per unit of horizon (R² 0.943); horizons 4 to 40
            bounds: "at least" is above "at most" from horizon 54 on, whatever is measured
            not counted: finding the stored trace, which by luck takes as many tries as the last column says
        "#]],
    );
}

#[test]
fn a_program_gets_the_same() {
    let ran = Place::new().toehold(&format!("{SMALL} --json")).succeeded();
    let events: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = |event: &serde_json::Value| match event["event"].as_str() {
        Some("horizon") => {
            let median = |method: &str| event[method]["median"].clone();
            let reached = event["on_policy"]["reached"].clone();
            format!("{} {} ({reached}) {}", event["horizon"], median("on_policy"), median("prefix_rl"))
        }
        name => format!("{name:?} {} {}", event["on_policy"]["shape"], event["prefix_rl"]["shape"]),
    };
    expect![[r#"
        4 16 (15) 24
        6 48 (15) 48
        8 272 (15) 80
        12 2456 (10) 144
        40 null (0) 1464
        Some("growth") "exponential" "polynomial""#]]
    .assert_eq(&events.iter().map(shown).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_page_that_needs_nothing_else() {
    let place = Place::new();
    let ran = place.toehold(&format!("{SMALL} --out theory.html")).succeeded();
    assert!(ran.stderr.ends_with("drawn: theory.html\n"), "{ran}");
    let page = place.read("theory.html");
    assert_eq!(page.matches("<svg").count(), 2);
    for outside in ["http:", "https:", "<script", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for cell in ["not within 4,000", "on-policy NPG", "a trace by luck"] {
        assert!(page.contains(cell), "{cell}");
    }
}

#[test]
fn what_makes_no_sense() {
    check(
        "theory --horizons 3,0",
        expect![[r#"
        status 1
        error: the horizon is 0, expected 1 to 1,000
    "#]],
    );
    check(
        "theory --alphabet 1",
        expect![[r#"
        status 1
        error: the alphabet is 1, expected 2 to 1,000
    "#]],
    );
    check(
        "theory --target 1",
        expect![[r#"
        status 1
        error: the target is 1, expected above 0 and below 1
    "#]],
    );
    check(
        "theory --cap 0",
        expect![[r#"
        status 1
        error: the cap is 0, expected at least 1
    "#]],
    );
    check(
        "theory --horizons 3 --seeds 1 --out none/theory.html",
        expect![[r#"
            status 1
            error: cannot write none/theory.html: No such file or directory (os error 2)
            stdout:
            Completions until the expected reward is 0.5, on hidden strings over 2 actions: medians and quartiles over seeds.
            Seeds 1, completions per update 8, step size 2, mixing 0.5.

            horizon  on-policy NPG  quartiles  at least  PrefixRL-NPG  quartiles  at most  a trace by luck
            ──────────────────────────────────────────────────────────────────────────────────────────────
                  3              8      8 – 8         1            16    16 – 16    2.2e9                8

            on-policy NPG: too few horizons with a median to say how it grows (at least 3)
            PrefixRL-NPG: too few horizons with a median to say how it grows (at least 3)
            bounds: "at least" is above "at most" from horizon 54 on, whatever is measured
            not counted: finding the stored trace, which by luck takes as many tries as the last column says
        "#]],
    );
    assert_eq!(Place::new().toehold("theory --horizons 3,x").status, 2);
}
