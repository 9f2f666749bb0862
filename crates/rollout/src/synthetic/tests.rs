//! Settings and a seed in, text and counts out. All counts are of fixed seeds.

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::{Expect, expect};
use toehold_verifier::{Outcome, answer_begins};

use super::*;
use crate::{PromptTemplate, TokenizerFile};

const RIGHT: Chain =
    Chain { modulus: 4, operands: 2, steps: (1, 8), careful: 1.0, noise: 0.0, methods: Methods::Two, repair: 0.0 };
const CLEVER: Countdown = Countdown { numbers: (2, 5), largest: 9, limit: 99, insight: 1.0, noise: 0.0, tries: 1 };

/// Three problems, each with the solution that comes with it and one by the noisy solver.
#[track_caller]
fn check(family: &Family, expected: Expect) {
    let mut rng = generator(1);
    let mut text = String::new();
    for problem in family.problems(7, 3).unwrap() {
        let noisy = family.solution(&problem, &mut rng).unwrap();
        let outcome = problem.verifier.verify(&problem.answer, &noisy).outcome;
        let solution = problem.solution.as_deref().unwrap();
        writeln!(text, "{}: {} | {}\n  {solution}\n  {noisy}: {outcome}", problem.id, problem.problem, problem.answer)
            .unwrap();
    }
    expected.assert_eq(&text);
}

#[test]
fn problems_and_solutions_read_like_this() {
    let chain = Chain { steps: (2, 4), careful: 0.5, noise: 0.3, ..Chain::default() };
    check(
        &Family::Chain(chain.clone()),
        expect![[r#"
        chain-7-00001: from 1 a1 0 a2 1 b1 1 b2 1 c1 1 c2 0 d1 2 d2 3 | 2 0 1 2
          slow a1 0 1 a2 1 2 A 2 slow b1 1 3 b2 1 0 B 0 slow c1 1 1 c2 0 1 C 1 slow d1 2 3 d2 3 2 D 2 answer A 2 B 0 C 1 D 2
          slow a1 0 1 a2 1 3 A 3 fast B 3 slow c1 1 0 c2 0 0 C 0 fast D 1 answer A 3 B 3 C 0 D 1: wrong
        chain-7-00002: from 2 a1 1 a2 0 b1 3 b2 2 c1 1 c2 0 | 3 0 1
          slow a1 1 3 a2 0 3 A 3 slow b1 3 2 b2 2 0 B 0 slow c1 1 1 c2 0 1 C 1 answer A 3 B 0 C 1
          slow a1 1 3 a2 0 3 A 3 slow b1 3 2 b2 2 0 B 0 fast C 0 answer A 3 B 0 C 0: wrong
        chain-7-00003: from 2 a1 1 a2 0 b1 0 b2 0 | 3 3
          slow a1 1 3 a2 0 3 A 3 slow b1 0 3 b2 0 3 B 3 answer A 3 B 3
          fast A 3 slow b1 0 3 b2 0 3 B 3 answer A 3 B 3: correct
    "#]],
    );
    check(
        &Family::Chain(Chain { methods: Methods::One, operands: 1, ..chain }),
        expect![[r#"
        chain-7-00001: from 1 a1 0 b1 1 c1 1 d1 1 | 1 2 3 0
          slow a1 0 1 A 1 slow b1 1 2 B 2 slow c1 1 3 C 3 slow d1 1 0 D 0 answer A 1 B 2 C 3 D 0
          slow a1 0 1 A 1 slow b1 1 3 B 3 slow c1 1 0 C 0 slow d1 1 1 D 1 answer A 1 B 3 C 0 D 1: wrong
        chain-7-00002: from 0 a1 2 b1 3 c1 2 | 2 1 3
          slow a1 2 2 A 2 slow b1 3 1 B 1 slow c1 2 3 C 3 answer A 2 B 1 C 3
          slow a1 2 2 A 2 slow b1 3 1 B 1 slow c1 2 3 C 3 answer A 2 B 1 C 3: correct
        chain-7-00003: from 1 a1 0 b1 3 c1 2 | 1 0 2
          slow a1 0 1 A 1 slow b1 3 0 B 0 slow c1 2 2 C 2 answer A 1 B 0 C 2
          slow a1 0 1 A 1 slow b1 3 0 B 0 slow c1 2 1 C 1 answer A 1 B 0 C 1: wrong
    "#]],
    );
    check(
        &Family::Chain(Chain { methods: Methods::One, noise: 0.6, repair: 0.9, steps: (2, 2), ..Chain::default() }),
        expect![[r#"
            chain-7-00001: from 1 a1 0 a2 1 b1 1 b2 1 | 2 0
              slow a1 0 1 a2 1 2 A 2 slow b1 1 3 b2 1 0 B 0 answer A 2 B 0
              slow a1 0 1 a2 1 1 A 1 again slow a1 0 1 a2 1 2 A 2 slow b1 1 3 b2 1 0 B 0 answer A 2 B 0: correct
            chain-7-00002: from 0 a1 2 a2 3 b1 2 b2 2 | 1 1
              slow a1 2 2 a2 3 1 A 1 slow b1 2 3 b2 2 1 B 1 answer A 1 B 1
              slow a1 2 2 a2 3 2 A 2 again slow a1 2 2 a2 3 1 A 1 slow b1 2 3 b2 2 1 B 1 answer A 1 B 1: correct
            chain-7-00003: from 0 a1 3 a2 2 b1 1 b2 0 | 1 2
              slow a1 3 3 a2 2 1 A 1 slow b1 1 2 b2 0 2 B 2 answer A 1 B 2
              slow a1 3 3 a2 2 1 A 1 slow b1 1 2 b2 0 2 B 2 answer A 1 B 2: correct
        "#]],
    );
    check(
        &Family::Countdown(Countdown::default()),
        expect![[r#"
        countdown-7-00001: reach 11 from 5 1 3 4 | 11 from 5 1 3 4
          try 5 + 4 = 9 left 1 3 9 3 - 1 = 2 left 9 2 9 + 2 = 11 left 11 answer ( 5 + 4 ) + ( 3 - 1 )
          try 5 - 3 = 2 left 1 4 2 4 / 2 = 2 left 1 2 2 - 1 = 1 left 1 try 3 * 4 = 12 left 5 1 12 12 - 5 = 7 left 1 7 7 - 1 = 6 left 6 answer ( ( 3 * 4 ) - 5 ) - 1: wrong
        countdown-7-00002: reach 66 from 9 6 6 4 | 66 from 9 6 6 4
          try 6 - 4 = 2 left 9 6 2 9 + 2 = 11 left 6 11 6 * 11 = 66 left 66 answer 6 * ( 9 + ( 6 - 4 ) )
          try 6 / 6 = 1 left 9 4 1 9 + 4 = 7 left 1 7 1 + 7 = 8 left 8 try 6 - 4 = 2 left 9 6 2 9 * 2 = 81 left 6 81 6 + 81 = 87 left 87 answer 6 + ( 9 * ( 6 - 4 ) ): wrong
        countdown-7-00003: reach 18 from 1 2 7 3 | 18 from 1 2 7 3
          try 2 * 7 = 14 left 1 3 14 1 + 3 = 4 left 14 4 14 + 4 = 18 left 18 answer ( 2 * 7 ) + ( 1 + 3 )
          try 7 + 3 = 10 left 1 2 10 10 - 2 = 8 left 1 8 1 + 8 = 9 left 9 try 3 - 1 = 2 left 2 7 2 2 + 2 = 4 left 7 4 7 * 4 = 28 left 28 answer 7 * ( 2 + ( 3 - 1 ) ): wrong
    "#]],
    );
}

/// Noisy solutions by outcome: `attempts` for each of `count` problems.
#[track_caller]
fn check_outcomes(family: &Family, count: usize, attempts: usize, expected: Expect) {
    let mut rng = generator(2);
    let mut outcomes: BTreeMap<Outcome, u32> = BTreeMap::new();
    for problem in family.problems(3, count).unwrap() {
        for _ in 0..attempts {
            let solution = family.solution(&problem, &mut rng).unwrap();
            let begins = answer_begins(problem.verifier, &solution).unwrap();
            assert!(begins > 0 && solution[begins..].starts_with("answer "), "{solution}");
            *outcomes.entry(problem.verifier.verify(&problem.answer, &solution).outcome).or_default() += 1;
        }
    }
    expected.assert_eq(&format!("{outcomes:?}"));
}

#[test]
fn solutions_without_noise_are_right() {
    check_outcomes(&Family::Chain(RIGHT), 500, 2, expect!["{Correct: 1000}"]);
    check_outcomes(
        &Family::Chain(Chain { modulus: 10, operands: 3, steps: (12, 12), ..RIGHT }),
        200,
        1,
        expect!["{Correct: 200}"],
    );
    check_outcomes(
        &Family::Chain(Chain { careful: 0.0, methods: Methods::One, ..RIGHT }),
        200,
        1,
        expect!["{Correct: 200}"],
    );
    check_outcomes(&Family::Countdown(CLEVER), 300, 2, expect!["{Correct: 600}"]);
    for family in [Family::Chain(Chain::default()), Family::Countdown(Countdown::default())] {
        for problem in family.problems(9, 300).unwrap() {
            let verdict = problem.verifier.verify(&problem.answer, problem.solution.as_deref().unwrap());
            assert_eq!(verdict.outcome, Outcome::Correct, "{problem:?}");
        }
    }
}

/// The count lies within three standard deviations of what `success_chance` predicts, as the
/// expectation shows beside it.
#[track_caller]
fn check_chance(chain: Chain, expected: Expect) {
    let steps = chain.steps.0;
    assert_eq!(chain.steps.1, steps, "the chance is for one number of steps");
    let chance = chain.success_chance(steps);
    let family = Family::Chain(chain);
    let mut rng = generator(4);
    let problems = family.problems(5, 400).unwrap();
    let mut correct = 0_u32;
    for problem in problems.iter().cycle().take(40_000) {
        let solution = family.solution(problem, &mut rng).unwrap();
        correct += u32::from(problem.verifier.verify(&problem.answer, &solution).outcome.is_correct());
    }
    let mean = 40_000.0 * chance;
    let deviation = (mean * (1.0 - chance)).sqrt();
    assert!((f64::from(correct) - mean).abs() < 3.0 * deviation, "{correct}, predicted {mean} ± {deviation}");
    expected.assert_eq(&format!("{correct} of 40000, predicted {mean:.1} ± {deviation:.1}"));
}

#[test]
fn noisy_chains_are_right_as_often_as_predicted() {
    let chain = Chain { steps: (4, 4), ..RIGHT };
    check_chance(
        Chain { careful: 0.5, noise: 0.02, ..chain.clone() },
        expect!["5942 of 40000, predicted 5815.8 ± 70.5"],
    );
    check_chance(Chain { careful: 0.1, noise: 0.0, ..chain.clone() }, expect!["458 of 40000, predicted 446.3 ± 21.0"]);
    // Blind guesses alone: chance success is modulus^-steps.
    check_chance(Chain { careful: 0.0, ..chain.clone() }, expect!["160 of 40000, predicted 156.2 ± 12.5"]);
    check_chance(Chain { noise: 1.0, ..chain.clone() }, expect!["152 of 40000, predicted 156.2 ± 12.5"]);
    check_chance(
        Chain { methods: Methods::One, careful: 0.0, noise: 0.3, ..chain.clone() },
        expect!["14380 of 40000, predicted 14430.0 ± 96.0"],
    );
    check_chance(
        Chain { methods: Methods::One, noise: 0.5, repair: 0.6, ..chain },
        expect!["16974 of 40000, predicted 16918.9 ± 98.8"],
    );
    check_chance(Chain::default(), expect!["31 of 40000, predicted 42.0 ± 6.5"]);
}

#[test]
fn countdown_by_solver() {
    let one = Countdown { numbers: (4, 4), tries: 1, ..CLEVER };
    // Random legal steps, never an error: what chance alone reaches.
    check_outcomes(
        &Family::Countdown(Countdown { insight: 0.0, ..one.clone() }),
        500,
        20,
        expect!["{Correct: 1013, Wrong: 8987}"],
    );
    let wide = Countdown { numbers: (5, 5), largest: 99, limit: 200, insight: 0.0, tries: 1, noise: 0.0 };
    check_outcomes(&Family::Countdown(wide), 500, 20, expect!["{Correct: 750, Wrong: 9250}"]);
    check_outcomes(
        &Family::Countdown(Countdown { insight: 0.5, ..one.clone() }),
        500,
        20,
        expect!["{Correct: 3791, Wrong: 6209}"],
    );
    check_outcomes(
        &Family::Countdown(Countdown { noise: 0.3, ..one }),
        500,
        20,
        expect!["{Correct: 5832, Wrong: 4168}"],
    );
    check_outcomes(&Family::Countdown(Countdown::default()), 500, 20, expect!["{Correct: 3523, Wrong: 6477}"]);
}

#[test]
fn problems_are_distinct_and_follow_from_the_seed() {
    for family in [Family::Chain(RIGHT), Family::Countdown(CLEVER)] {
        let many = family.problems(11, 2_000).unwrap();
        let statements: HashSet<&str> = many.iter().map(|problem| problem.problem.as_str()).collect();
        assert_eq!(statements.len(), 2_000);
        assert_eq!(family.problems(11, 100).unwrap(), many[..100], "more begin with the fewer");
        assert_ne!(family.problems(12, 100).unwrap(), many[..100]);
        let others = family.problems_except(11, 500, &many).unwrap();
        assert!(others.iter().all(|problem| !statements.contains(problem.problem.as_str())));
        crate::ProblemSet::from_problems(many).unwrap();
        assert_eq!(family.problems(11, 0), Ok(vec![]));
    }
}

#[test]
fn words_make_a_tokenizer_that_loses_nothing() {
    let families = [
        Family::Chain(Chain { careful: 0.5, noise: 0.2, ..RIGHT }),
        Family::Countdown(Countdown { insight: 0.5, noise: 0.2, tries: 3, ..CLEVER }),
    ];
    let mut rng = generator(6);
    for family in families {
        let words = family.vocabulary();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json(&words)).unwrap();
        let file = TokenizerFile::open(folder.path()).unwrap();
        assert_eq!(file.vocabulary_size(), words.len() + 2, "no word twice");
        assert!(file.vocabulary_size() < 256);
        assert_eq!(file.end_tokens(), [0]);
        for problem in family.problems(8, 200).unwrap() {
            let prompt = file.encode(&PromptTemplate::default().render(&problem.problem)).unwrap();
            assert_eq!(file.decode(&prompt), problem.problem);
            let solution = family.solution(&problem, &mut rng).unwrap();
            let mut tokens = file.encode(&solution).unwrap();
            assert!(!tokens.contains(&1), "unknown word in {solution}");
            assert_eq!(tokens.len(), solution.split(' ').count(), "one token a word");
            tokens.push(0);
            assert_eq!(file.decode(&tokens), solution);
        }
    }
}

#[test]
fn vocabularies_are_small_and_listed() {
    let show = |family: Family| family.vocabulary().join(" ");
    expect!["from slow fast answer 0 1 2 3 A a1 a2 B b1 b2 C c1 c2"]
        .assert_eq(&show(Family::Chain(Chain { steps: (1, 3), ..Chain::default() })));
    expect!["reach from try left answer = ( ) + - * / 1 2 3 4 5 6 7 8 9 10 11 12"]
        .assert_eq(&show(Family::Countdown(Countdown { limit: 12, ..Countdown::default() })));
    let largest = Family::Countdown(Countdown { limit: 200, ..Countdown::default() });
    assert!(largest.vocabulary().len() + 2 < 256);
}

#[track_caller]
fn check_error(result: Result<impl std::fmt::Debug, SyntheticError>, expected: Expect) {
    expected.assert_eq(&result.unwrap_err().to_string());
}

#[test]
fn what_cannot_be_made_is_refused() {
    let chain = |chain: Chain| Family::Chain(chain).problems(0, 10);
    check_error(chain(Chain { modulus: 1, ..RIGHT }), expect!["modulus is 1, expected 2 to 100"]);
    check_error(chain(Chain { operands: 8, ..RIGHT }), expect!["operands is 8, expected 1 to 7"]);
    check_error(
        chain(Chain { steps: (0, 3), ..RIGHT }),
        expect!["steps is (0, 3), expected (fewest, most) within 1 to 26"],
    );
    check_error(
        chain(Chain { steps: (4, 3), ..RIGHT }),
        expect!["steps is (4, 3), expected (fewest, most) within 1 to 26"],
    );
    check_error(
        chain(Chain { steps: (4, 27), ..RIGHT }),
        expect!["steps is (4, 27), expected (fewest, most) within 1 to 26"],
    );
    check_error(chain(Chain { careful: f64::NAN, ..RIGHT }), expect!["careful is NaN, expected a share from 0 to 1"]);
    check_error(chain(Chain { noise: 1.5, ..RIGHT }), expect!["noise is 1.5, expected a chance from 0 to 1"]);
    check_error(
        chain(Chain { modulus: 100, operands: 7, steps: (26, 26), ..RIGHT }),
        expect!["the vocabulary is 314, expected fewer than 256 words: lower modulus, operands or steps"],
    );
    check_error(
        chain(Chain { modulus: 2, operands: 1, steps: (1, 1), ..RIGHT }),
        expect![[r#"
        found 4 distinct problems, expected 10
        hint: more steps, more numbers or a larger range make more problems"#]],
    );
    let countdown = |countdown: Countdown| Family::Countdown(countdown).problems(0, 10);
    check_error(
        countdown(Countdown { numbers: (1, 4), ..CLEVER }),
        expect!["numbers is (1, 4), expected (fewest, most) within 2 to 5"],
    );
    check_error(
        countdown(Countdown { numbers: (4, 6), ..CLEVER }),
        expect!["numbers is (4, 6), expected (fewest, most) within 2 to 5"],
    );
    check_error(countdown(Countdown { limit: 201, ..CLEVER }), expect!["limit is 201, expected 4 to 200"]);
    check_error(countdown(Countdown { largest: 100, ..CLEVER }), expect!["largest is 100, expected 2 to `limit`"]);
    check_error(countdown(Countdown { tries: 0, ..CLEVER }), expect!["tries is 0, expected 1 to 9"]);
    check_error(
        countdown(Countdown { numbers: (2, 2), largest: 2, limit: 4, ..CLEVER }),
        expect![[r#"
        found 5 distinct problems, expected 10
        hint: more steps, more numbers or a larger range make more problems"#]],
    );
}

#[test]
fn foreign_problems_are_refused() {
    let problem = |statement: &str| Problem {
        id: "x".into(),
        problem: statement.into(),
        answer: "0".into(),
        verifier: toehold_verifier::Verifier::Chain,
        solution: None,
        cue: None,
    };
    let mut rng = generator(0);
    let mut text = String::new();
    let mut refuse = |family: &Family, statements: &[&str]| {
        for statement in statements {
            let error = family.solution(&problem(statement), &mut rng).unwrap_err();
            writeln!(text, "{statement:?}: {error}").unwrap();
        }
    };
    refuse(
        &Family::Chain(RIGHT),
        &[
            "",
            "from",
            "from 1",
            "from 4 a1 1 a2 2",
            "from 1 a1 1",
            "from 1 a1 1 a2 2 b1 3",
            "from 1 b1 1 b2 2",
            "reach 24 from 3 8",
        ],
    );
    refuse(
        &Family::Countdown(CLEVER),
        &[
            "",
            "reach 24",
            "reach 24 from 3",
            "reach 24 from 3 x",
            "reach 24 from 1 2 3 4 5 6",
            "reach 240 from 3 80",
            "from 1 a1 1",
        ],
    );
    expect![[r#"
        "": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "from": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "from 1": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "from 4 a1 1 a2 2": problem `x` is not of the family chain: it has the value 4, expected less than 4
        "from 1 a1 1": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "from 1 a1 1 a2 2 b1 3": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "from 1 b1 1 b2 2": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "reach 24 from 3 8": problem `x` is not of the family chain: expected `from START a1 OPERAND …` with 2 operands a step
        "": problem `x` is not of the family countdown: expected `reach TARGET from NUMBER NUMBER …`
        "reach 24": problem `x` is not of the family countdown: expected `reach TARGET from NUMBER NUMBER …`
        "reach 24 from 3": problem `x` is not of the family countdown: it has 1 numbers, expected 2 to 5
        "reach 24 from 3 x": problem `x` is not of the family countdown: expected `reach TARGET from NUMBER NUMBER …`
        "reach 24 from 1 2 3 4 5 6": problem `x` is not of the family countdown: it has 6 numbers, expected 2 to 5
        "reach 240 from 3 80": problem `x` is not of the family countdown: it has the number 240, expected 1 to 99
        "from 1 a1 1": problem `x` is not of the family countdown: expected `reach TARGET from NUMBER NUMBER …`
    "#]].assert_eq(&text);
}

#[test]
fn settings_are_read_and_written() {
    let family: Family = serde_json::from_str(r#"{"family": "chain", "steps": [1, 8], "methods": "one"}"#).unwrap();
    assert_eq!(family, Family::Chain(Chain { steps: (1, 8), methods: Methods::One, ..Chain::default() }));
    let written = serde_json::to_string(&Family::Countdown(Countdown::default())).unwrap();
    expect![[r#"{"family":"countdown","numbers":[4,4],"largest":9,"limit":99,"insight":0.3,"noise":0.1,"tries":2}"#]]
        .assert_eq(&written);
    let unknown = serde_json::from_str::<Family>(r#"{"family": "chain", "careless": 1}"#).unwrap_err();
    assert!(unknown.to_string().contains("careless"), "{unknown}");
}

/// A cue is a word that the family knows, and none where there is nothing to tell but a part of the answer.
#[test]
fn a_cue_is_the_operation_to_start_with() {
    let cue = |family: Family| {
        let problem = family.problems(3, 1).unwrap().remove(0);
        let cue = family.cue(&problem).unwrap();
        assert!(cue.as_ref().is_none_or(|cue| family.vocabulary().contains(cue)));
        assert_eq!(problem.cue, None, "problems of a seed stay what they were");
        cue
    };
    let one = Chain { methods: Methods::One, ..Chain::default() };
    let all = [Family::Chain(Chain::default()), Family::Chain(one), Family::Countdown(Countdown::default())];
    expect![[r#"[Some("slow"), None, None]"#]].assert_eq(&format!("{:?}", all.map(cue)));
    let stranger = Family::Countdown(Countdown::default()).problems(3, 1).unwrap().remove(0);
    assert!(Family::Chain(Chain::default()).cue(&stranger).is_err());
}
