//! Every rule: reference and text in, verdict out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use expect_test::{Expect, expect};
use toehold_verifier::{Outcome, Verifier, answer_begins};

/// One line a text: its verdict, and what was extracted where that is not plain from the text.
#[track_caller]
fn check(verifier: Verifier, reference: &str, texts: &[&str], expected: Expect) {
    let mut lines = String::new();
    for text in texts {
        let verdict = verifier.verify(reference, text);
        let extracted = verdict.extracted.map_or("-".to_owned(), |extracted| format!("{extracted:?}"));
        writeln!(lines, "{:<10} {extracted:<16} {text:?}", verdict.outcome.to_string()).unwrap();
    }
    expected.assert_eq(&lines);
}

#[test]
fn answers_are_found() {
    let texts = [
        r"so \boxed{12}",
        r"first \boxed{3}, then \boxed{12}.",
        r"\boxed{\frac{24}{2}}",
        r"\boxed {12}",
        r"\fbox{12}",
        r"\boxed{\boxed{12}}",
        r"\boxed{12",
        r"\boxed{3} and \boxed{12",
        r"\boxed{}",
        r"\boxed 12",
        "answer 12",
        "The answer is 12.",
        "The answer is: **12**",
        "**Answer:** $12$",
        "ANSWER = 12",
        "Answer:\n\n12\nas was to be shown",
        "the answer is 3. No: the answer is 12",
        "answers 12",
        "unanswered: 12",
        "the answer is",
        "#### 12",
        "12",
        "",
        "the answer is 3 <think> answer 12 </think> so it is",
        "<think> answer 3 </think> answer 12",
        "<think> answer 12",
        "answer isosceles",
        "answer 12 apples",
        "answer é12",
    ];
    check(
        Verifier::Answer,
        "12",
        &texts,
        expect![[r#####"
        correct    "12"             "so \\boxed{12}"
        correct    "12"             "first \\boxed{3}, then \\boxed{12}."
        correct    "\\frac{24}{2}"  "\\boxed{\\frac{24}{2}}"
        correct    "12"             "\\boxed {12}"
        correct    "12"             "\\fbox{12}"
        correct    "12"             "\\boxed{\\boxed{12}}"
        unreadable -                "\\boxed{12"
        unreadable -                "\\boxed{3} and \\boxed{12"
        no_answer  -                "\\boxed{}"
        no_answer  -                "\\boxed 12"
        correct    "12"             "answer 12"
        correct    "12"             "The answer is 12."
        correct    "12"             "The answer is: **12**"
        correct    "$12$"           "**Answer:** $12$"
        correct    "12"             "ANSWER = 12"
        correct    "12"             "Answer:\n\n12\nas was to be shown"
        correct    "12"             "the answer is 3. No: the answer is 12"
        no_answer  -                "answers 12"
        no_answer  -                "unanswered: 12"
        no_answer  -                "the answer is"
        correct    "12"             "#### 12"
        no_answer  -                "12"
        no_answer  -                ""
        no_answer  -                "the answer is 3 <think> answer 12 </think> so it is"
        correct    "12"             "<think> answer 3 </think> answer 12"
        no_answer  -                "<think> answer 12"
        wrong      "isosceles"      "answer isosceles"
        wrong      "12 apples"      "answer 12 apples"
        wrong      "é12"            "answer é12"
    "#####]],
    );
}

#[test]
fn numbers_are_compared_exactly() {
    let texts = [
        "answer 1234.5",
        "answer 1,234.5",
        "answer 1{,}234.50",
        "answer +1234.500",
        "answer 2469/2",
        r"answer \frac{2469}{2}",
        r"answer $\dfrac{4938}{4}$",
        r"answer \(1234.5\)",
        "answer -1234.5",
        "answer \u{2212}1234.5",
        "answer 12,34.5",
        "answer 1234.50000000000000001",
        "answer 1234.500000000000000000000000000000000000000000000000000",
        "answer 1234,5",
        "answer 1.2345e3",
        "answer 123450%",
        "answer 1234.5.",
    ];
    check(
        Verifier::Answer,
        "1234.5",
        &texts,
        expect![[r#"
        correct    "1234.5"         "answer 1234.5"
        correct    "1,234.5"        "answer 1,234.5"
        correct    "1{,}234.50"     "answer 1{,}234.50"
        correct    "+1234.500"      "answer +1234.500"
        correct    "2469/2"         "answer 2469/2"
        correct    "\\frac{2469}{2}" "answer \\frac{2469}{2}"
        correct    "$\\dfrac{4938}{4}$" "answer $\\dfrac{4938}{4}$"
        correct    "\\(1234.5\\)"   "answer \\(1234.5\\)"
        wrong      "-1234.5"        "answer -1234.5"
        wrong      "−1234.5"        "answer −1234.5"
        wrong      "12,34.5"        "answer 12,34.5"
        wrong      "1234.50000000000000001" "answer 1234.50000000000000001"
        correct    "1234.500000000000000000000000000000000000000000000000000" "answer 1234.500000000000000000000000000000000000000000000000000"
        wrong      "1234,5"         "answer 1234,5"
        wrong      "1.2345e3"       "answer 1.2345e3"
        wrong      "123450%"        "answer 123450%"
        correct    "1234.5"         "answer 1234.5."
    "#]],
    );
    check(
        Verifier::Answer,
        r"\frac{3}{4}",
        &[
            "answer 3/4",
            "answer 6 / 8",
            "answer .75",
            r"answer \frac34",
            r"answer \tfrac{-3}{-4}",
            "answer 3/4/1",
            "answer 3/0",
            "answer -3/-4",
            "answer 0.7500001",
            r"answer \frac{3}{4}x",
        ],
        expect![[r#"
            correct    "3/4"            "answer 3/4"
            correct    "6 / 8"          "answer 6 / 8"
            correct    ".75"            "answer .75"
            correct    "\\frac34"       "answer \\frac34"
            correct    "\\tfrac{-3}{-4}" "answer \\tfrac{-3}{-4}"
            wrong      "3/4/1"          "answer 3/4/1"
            wrong      "3/0"            "answer 3/0"
            correct    "-3/-4"          "answer -3/-4"
            wrong      "0.7500001"      "answer 0.7500001"
            wrong      "\\frac{3}{4}x"  "answer \\frac{3}{4}x"
        "#]],
    );
    check(
        Verifier::Answer,
        "1/3",
        &["answer 0.333333333333333333333333", "answer 2/6", r"\boxed{-\frac{-1}{3}}"],
        expect![[r#"
            wrong      "0.333333333333333333333333" "answer 0.333333333333333333333333"
            correct    "2/6"            "answer 2/6"
            correct    "-\\frac{-1}{3}" "\\boxed{-\\frac{-1}{3}}"
        "#]],
    );
    check(
        Verifier::Answer,
        "0",
        &["answer 0.0", "answer -0", "answer 0/5", "answer 0/0", "answer .", "answer -"],
        expect![[r#"
            correct    "0.0"            "answer 0.0"
            correct    "-0"             "answer -0"
            correct    "0/5"            "answer 0/5"
            wrong      "0/0"            "answer 0/0"
            no_answer  -                "answer ."
            wrong      "-"              "answer -"
        "#]],
    );
}

#[test]
fn other_answers_are_compared_as_text() {
    check(
        Verifier::Answer,
        r"\left(\dfrac{1}{2}, x\right)",
        &[
            r"\boxed{(\frac{1}{2},x)}",
            r"\boxed{$( \tfrac{1}{2}, X )$.}",
            r"\boxed{(1/2,x)}",
            r"\boxed{\text{(\frac{1}{2},x)}}",
        ],
        expect![[r#"
            correct    "(\\frac{1}{2},x)" "\\boxed{(\\frac{1}{2},x)}"
            correct    "$( \\tfrac{1}{2}, X )$." "\\boxed{$( \\tfrac{1}{2}, X )$.}"
            wrong      "(1/2,x)"        "\\boxed{(1/2,x)}"
            correct    "\\text{(\\frac{1}{2},x)}" "\\boxed{\\text{(\\frac{1}{2},x)}}"
        "#]],
    );
    check(
        Verifier::Answer,
        r"\text{Yes}",
        &[
            "answer: yes",
            "The answer is Yes.",
            r"\boxed{\text{yes}}",
            "answer: no",
            "answer: yes and no",
            "answer `yes`",
        ],
        expect![[r#"
            correct    "yes"            "answer: yes"
            correct    "Yes"            "The answer is Yes."
            correct    "\\text{yes}"    "\\boxed{\\text{yes}}"
            wrong      "no"             "answer: no"
            wrong      "yes and no"     "answer: yes and no"
            correct    "yes"            "answer `yes`"
        "#]],
    );
    check(
        Verifier::Answer,
        "1234567890123456789012345678901234567890",
        &["answer 1234567890123456789012345678901234567890", "answer 1234567890123456789012345678901234567891"],
        expect![[r#"
            correct    "1234567890123456789012345678901234567890" "answer 1234567890123456789012345678901234567890"
            wrong      "1234567890123456789012345678901234567891" "answer 1234567890123456789012345678901234567891"
        "#]],
    );
}

#[test]
fn exact_takes_the_whole_text() {
    check(
        Verifier::Exact,
        "a b  c",
        &["a b c", " a\nb c\n", "a b c d", "A b c", "ab c", " ", "answer a b c"],
        expect![[r#"
            correct    "a b c"          "a b c"
            correct    "a\nb c"         " a\nb c\n"
            wrong      "a b c d"        "a b c d"
            wrong      "A b c"          "A b c"
            wrong      "ab c"           "ab c"
            no_answer  -                " "
            wrong      "answer a b c"   "answer a b c"
        "#]],
    );
}

#[test]
fn a_number_may_have_words_around_it() {
    check(
        Verifier::Number,
        "1,200",
        &[
            "#### 1200",
            "The answer is 1200 dollars.",
            "The answer is $1,200.00.",
            "the answer is about (1200)",
            "the answer is 1200 or 1300",
            "the answer is 1200 = 1,200",
            "the answer is 1200 at 12:30",
            "the answer is many",
            "the answer is 1300 dollars",
            "1200",
            r"\boxed{-1200}",
            r"\boxed{1200\text{ km}}",
        ],
        expect![[r#####"
            correct    "1200"           "#### 1200"
            correct    "1200 dollars"   "The answer is 1200 dollars."
            correct    "$1,200.00"      "The answer is $1,200.00."
            correct    "about (1200)"   "the answer is about (1200)"
            unreadable "1200 or 1300"   "the answer is 1200 or 1300"
            correct    "1200 = 1,200"   "the answer is 1200 = 1,200"
            unreadable "1200 at 12:30"  "the answer is 1200 at 12:30"
            unreadable "many"           "the answer is many"
            wrong      "1300 dollars"   "the answer is 1300 dollars"
            no_answer  -                "1200"
            wrong      "-1200"          "\\boxed{-1200}"
            unreadable "1200\\text{ km}" "\\boxed{1200\\text{ km}}"
        "#####]],
    );
}

#[test]
fn every_part_of_a_chain_counts() {
    check(
        Verifier::Chain,
        "3 0 12",
        &[
            "slow a1 1 4 A 3 fast B 0 fast C 12 answer A 3 B 0 C 12",
            "answer A 3 B 0 C 12",
            " answer\nA 3 B 0  C 12 ",
            "answer A 3 B 0 C 11",
            "answer A 3 B 0",
            "answer A 3 B 0 C 12 D 1",
            "answer A 3 C 12 B 0",
            "answer A 3 B 0 C",
            "answer A 03 B 0 C 12",
            "answer A 3 B 0 C +12",
            "answer a 3 b 0 c 12",
            "answer A 3 B 0 C 12 answer A 3 B 0 C 12",
            "answer A 1 B 0 C 12 answer A 3 B 0 C 12",
            "answer A 3 <unk> B 0 C 12",
            "answer A 99999999999999999999 B 0 C 12",
            "answer",
            "A 3 B 0 C 12",
            "",
        ],
        expect![[r#"
            correct    "A 3 B 0 C 12"   "slow a1 1 4 A 3 fast B 0 fast C 12 answer A 3 B 0 C 12"
            correct    "A 3 B 0 C 12"   "answer A 3 B 0 C 12"
            correct    "A 3 B 0  C 12"  " answer\nA 3 B 0  C 12 "
            wrong      "A 3 B 0 C 11"   "answer A 3 B 0 C 11"
            wrong      "A 3 B 0"        "answer A 3 B 0"
            wrong      "A 3 B 0 C 12 D 1" "answer A 3 B 0 C 12 D 1"
            unreadable "A 3 C 12 B 0"   "answer A 3 C 12 B 0"
            unreadable "A 3 B 0 C"      "answer A 3 B 0 C"
            unreadable "A 03 B 0 C 12"  "answer A 03 B 0 C 12"
            unreadable "A 3 B 0 C +12"  "answer A 3 B 0 C +12"
            unreadable "a 3 b 0 c 12"   "answer a 3 b 0 c 12"
            unreadable "A 3 B 0 C 12 answer A 3 B 0 C 12" "answer A 3 B 0 C 12 answer A 3 B 0 C 12"
            unreadable "A 1 B 0 C 12 answer A 3 B 0 C 12" "answer A 1 B 0 C 12 answer A 3 B 0 C 12"
            unreadable "A 3 <unk> B 0 C 12" "answer A 3 <unk> B 0 C 12"
            unreadable "A 99999999999999999999 B 0 C 12" "answer A 99999999999999999999 B 0 C 12"
            no_answer  -                "answer"
            no_answer  -                "A 3 B 0 C 12"
            no_answer  -                ""
        "#]],
    );
}

#[test]
fn countdown_is_calculated_exactly() {
    check(
        Verifier::Countdown,
        "24 from 3 5 8 8",
        &[
            "try 3 * 8 = 24 left 5 8 24 answer 3 * 8",
            "answer 3*8",
            "answer ( 8 - 5 ) * 8",
            "answer 3 + 5 + 8 + 8",
            "answer 8 \u{d7} 3",
            "answer 8 / ( 3 - 8 / 3 )",
            "answer 8 * 5 - 8 * 3 + 8",
            "answer 8 / ( 5 - 5 )",
            "answer 8 / ( 8 - 8 ) answer",
            "answer 24",
            "answer 3 * 8 * 1",
            "answer 3 * 8 = 24",
            "answer 3 8",
            "answer 3 * ( 8",
            "answer 3 * 8 )",
            "answer * 8",
            "answer 3 *",
            "answer -3 * 8",
            "answer ( )",
            "answer 3 * x",
            "answer 3 ** 8",
            "answer 5 * 5 answer 3 * 8",
            "answer 1234567890",
            "answer",
            "3 * 8",
        ],
        expect![[r#"
            correct    "3 * 8"          "try 3 * 8 = 24 left 5 8 24 answer 3 * 8"
            correct    "3*8"            "answer 3*8"
            correct    "( 8 - 5 ) * 8"  "answer ( 8 - 5 ) * 8"
            correct    "3 + 5 + 8 + 8"  "answer 3 + 5 + 8 + 8"
            correct    "8 × 3"          "answer 8 × 3"
            wrong      "8 / ( 3 - 8 / 3 )" "answer 8 / ( 3 - 8 / 3 )"
            wrong      "8 * 5 - 8 * 3 + 8" "answer 8 * 5 - 8 * 3 + 8"
            wrong      "8 / ( 5 - 5 )"  "answer 8 / ( 5 - 5 )"
            unreadable "8 / ( 8 - 8 ) answer" "answer 8 / ( 8 - 8 ) answer"
            wrong      "24"             "answer 24"
            wrong      "3 * 8 * 1"      "answer 3 * 8 * 1"
            unreadable "3 * 8 = 24"     "answer 3 * 8 = 24"
            unreadable "3 8"            "answer 3 8"
            unreadable "3 * ( 8"        "answer 3 * ( 8"
            unreadable "3 * 8 )"        "answer 3 * 8 )"
            unreadable "* 8"            "answer * 8"
            unreadable "3 *"            "answer 3 *"
            unreadable "-3 * 8"         "answer -3 * 8"
            unreadable "( )"            "answer ( )"
            unreadable "3 * x"          "answer 3 * x"
            unreadable "3 ** 8"         "answer 3 ** 8"
            unreadable "5 * 5 answer 3 * 8" "answer 5 * 5 answer 3 * 8"
            unreadable "1234567890"     "answer 1234567890"
            no_answer  -                "answer"
            no_answer  -                "3 * 8"
        "#]],
    );
    // Exact where floating point is not: 8 / (3 - 8 / 3) = 24.
    check(
        Verifier::Countdown,
        "24 from 3 3 8 8",
        &["answer 8 / ( 3 - 8 / 3 )", "answer 8 / 3 - 8 / 3", "answer 8 - 3 - 3 - 8"],
        expect![[r#"
            correct    "8 / ( 3 - 8 / 3 )" "answer 8 / ( 3 - 8 / 3 )"
            wrong      "8 / 3 - 8 / 3"  "answer 8 / 3 - 8 / 3"
            wrong      "8 - 3 - 3 - 8"  "answer 8 - 3 - 3 - 8"
        "#]],
    );
    check(
        Verifier::Countdown,
        "1 from 999999999 999999999 999999999 999999999 999999999 999999999",
        &[
            "answer 999999999 * 999999999 * 999999999 * 999999999 * 999999999 * 999999999",
            "answer 999999999 / 999999999",
        ],
        expect![[r#"
            unreadable "999999999 * 999999999 * 999999999 * 999999999 * 999999999 * 999999999" "answer 999999999 * 999999999 * 999999999 * 999999999 * 999999999 * 999999999"
            correct    "999999999 / 999999999" "answer 999999999 / 999999999"
        "#]],
    );
}

#[test]
fn unreadable_references_are_refused() {
    let cases = [
        (Verifier::Answer, " "),
        (Verifier::Answer, "x"),
        (Verifier::Exact, ""),
        (Verifier::Number, "3/4"),
        (Verifier::Number, "x"),
        (Verifier::Number, "1/0"),
        (Verifier::Number, "1234567890123456789012345678901234567890"),
        (Verifier::Chain, "3 0 2"),
        (Verifier::Chain, "3 x"),
        (Verifier::Chain, "A 3 B 0"),
        (Verifier::Chain, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27"),
        (Verifier::Countdown, "24 from 3 5 8 8"),
        (Verifier::Countdown, "24"),
        (Verifier::Countdown, "24 from"),
        (Verifier::Countdown, "24 of 3 8"),
        (Verifier::Countdown, "-24 from 3 8"),
        (Verifier::Tolerance, "9.81 +- 1%"),
        (Verifier::Tolerance, "9.81"),
        (Verifier::Pattern, "(a|b)+"),
        (Verifier::Pattern, "(a"),
        (Verifier::PatternText, r"(a)\1"),
        (Verifier::Program, r#"[{"stdin": "1\n", "stdout": "2\n"}]"#),
        (Verifier::Program, "[]"),
        (Verifier::Program, "print(1)"),
        (Verifier::Command, "whatever"),
        (Verifier::Command, " "),
        (Verifier::Countdown, "1 from 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ];
    let mut lines = String::new();
    for (verifier, reference) in cases {
        let said = match verifier.check_reference(reference) {
            Ok(()) => "readable".to_owned(),
            Err(error) => {
                assert_eq!(verifier.verify(reference, "answer 3").outcome, Outcome::Unreadable);
                error.to_string()
            }
        };
        writeln!(lines, "{verifier}: {said}").unwrap();
    }
    expect![[r#"
        answer: the reference answer is empty
        answer: readable
        exact: the reference answer is empty
        number: readable
        number: the `number` verifier cannot read the reference answer `x`: it is not a number of at most 36 digits
        number: the `number` verifier cannot read the reference answer `1/0`: it is not a number of at most 36 digits
        number: the `number` verifier cannot read the reference answer `1234567890123456789012345678901234567890`: it is not a number of at most 36 digits
        chain: readable
        chain: the `chain` verifier cannot read the reference answer `3 x`: expected whole numbers such as `3 0 2`
        chain: the `chain` verifier cannot read the reference answer `A 3 B 0`: expected whole numbers such as `3 0 2`
        chain: the `chain` verifier cannot read the reference answer `1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 …`: it has more than 26 values
        countdown: readable
        countdown: the `countdown` verifier cannot read the reference answer `24`: expected `TARGET from NUMBER …`, such as `24 from 3 5 8 8`
        countdown: the `countdown` verifier cannot read the reference answer `24 from`: expected `TARGET from NUMBER …`, such as `24 from 3 5 8 8`
        countdown: the `countdown` verifier cannot read the reference answer `24 of 3 8`: expected `TARGET from NUMBER …`, such as `24 from 3 5 8 8`
        countdown: the `countdown` verifier cannot read the reference answer `-24 from 3 8`: expected `TARGET from NUMBER …`, such as `24 from 3 5 8 8`
        tolerance: readable
        tolerance: the `tolerance` verifier cannot read the reference answer `9.81`: expected `NUMBER +- TOLERANCE`, such as `9.81 +- 0.01` or `9.81 +- 1%`
        pattern: readable
        pattern: the `pattern` verifier cannot read the reference answer `(a`: unclosed group
        pattern_text: the `pattern_text` verifier cannot read the reference answer `(a)\1`: backreferences are not supported
        program: readable
        program: the `program` verifier cannot read the reference answer `[]`: it has 0 tests, expected at least 1
        program: the `program` verifier cannot read the reference answer `print(1)`: it is not JSON, expected a list of tests
        command: readable
        command: the reference answer is empty
        countdown: the `countdown` verifier cannot read the reference answer `1 from 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1`: it gives more than 16 numbers
    "#]].assert_eq(&lines);
}

/// The text with `|` where the answer begins.
#[track_caller]
fn check_begins(verifier: Verifier, texts: &[&str], expected: Expect) {
    let mut lines = String::new();
    for text in texts {
        match answer_begins(verifier, text) {
            Some(begins) => writeln!(lines, "{}|{}", &text[..begins], &text[begins..]).unwrap(),
            None => writeln!(lines, "{text}").unwrap(),
        }
    }
    expected.assert_eq(&lines);
}

#[test]
fn the_place_where_an_answer_begins() {
    check_begins(
        Verifier::Answer,
        &[
            r"2 + 2 is \boxed{3}, no, \boxed{4}",
            r"<think> it is 4 </think> \boxed{4}",
            "To answer this, add. The answer is 4. So the answer: 4",
            "To answer this, add. It is 4",
            r"To answer this, add. \boxed{4}",
            "2 + 2 answer 4",
            "2 + 2 answer yes",
            "the answer to it, answer yes",
            "sum #### 4 answer 4",
            "\u{e9}\u{e9} Answer: 4",
            "nothing",
            "",
        ],
        expect![[r#"
            2 + 2 is |\boxed{3}, no, \boxed{4}
            <think> it is 4 |</think> \boxed{4}
            To answer this, add. The |answer is 4. So the answer: 4
            To |answer this, add. It is 4
            To answer this, add. |\boxed{4}
            2 + 2 |answer 4
            2 + 2 |answer yes
            the answer to it, |answer yes
            sum |#### 4 answer 4
            éé |Answer: 4
            nothing

        "#]],
    );
    check_begins(
        Verifier::Chain,
        &["fast A 3 answer A 3", "fast A 3 answer A 3 answer", "fast A 3"],
        expect![[r#"
        fast A 3 |answer A 3
        fast A 3 |answer A 3 answer
        fast A 3
    "#]],
    );
    check_begins(
        Verifier::Countdown,
        &["try 3 * 8 = 24 left 24 answer 3 * 8"],
        expect![[r#"
        try 3 * 8 = 24 left 24 |answer 3 * 8
    "#]],
    );
    check_begins(
        Verifier::Program,
        &["So:\n```sh\necho 4\n```", "<think>it</think>\n```", "echo 4"],
        expect![[r#"
        So:
        |```sh
        echo 4
        ```
        <think>it|</think>
        ```
        echo 4
    "#]],
    );
    check_begins(
        Verifier::Exact,
        &["answer 4"],
        expect![[r#"
        answer 4
    "#]],
    );
}

#[test]
fn names_read_back() {
    for verifier in Verifier::ALL {
        assert_eq!(verifier.as_str().parse(), Ok(verifier));
        assert_eq!(serde_json::to_string(&verifier).unwrap(), format!("{:?}", verifier.as_str()));
    }
    for outcome in Outcome::ALL {
        assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("{:?}", outcome.as_str()));
        assert_eq!(outcome.is_correct(), outcome == Outcome::Correct);
    }
    expect!["unknown verifier `maths`, expected one of answer, exact, number, chain, countdown, math, math_boxed, tolerance, pattern, pattern_text, program, command"]
        .assert_eq(&"maths".parse::<Verifier>().unwrap_err().to_string());
}
