//! How often a text states an answer.
//!
//! ```text
//! statements = boxes (\boxed, \fbox)      else  "####"      else  the word "answer"
//! ```
//!
//! A text that goes on stating answers, one after the other or the same again and again, has found out that the
//! last one counts, or cannot end: arXiv 2605.28388 names the repetition of answers among what is learnt from
//! problems that are too hard, and publishes no formula. That more than 3 are too many is a proposal of the
//! project. Runs of tokens ([`ngrams`](crate::ngrams)) see only repetition that is word for word.
//!
//! The marks are those by which verifiers find an answer, in their order: a text with boxes is not counted by
//! its words, which talk of answers.
//!
//! Zero cases: a text without a mark states none. After a thought (`</think>`) only what follows it counts, and
//! a thought that is never closed states nothing; a judge marks one whose beginning stands in the prompt.
//!
//! Departures: a program is no answer of this kind; verifiers that take the whole text see one answer in it,
//! whatever is counted here.

use toehold_verifier::after_thought;

/// How many answers a text states.
///
/// ```
/// use toehold_training::detector::answers::statements;
/// assert_eq!(statements(r"So the answer is \boxed{4}. \boxed{4} \fbox{5}"), 3);
/// assert_eq!(statements("slow a1 1 3 answer A 3 B 0 answer A 3 B 1"), 2);
/// // Weighing answers is thinking.
/// assert_eq!(statements(r"<think>\boxed{1} or \boxed{2}?</think>\boxed{2}"), 1);
/// assert_eq!(statements("<think>the answer is"), 0);
/// assert_eq!(statements("unanswered"), 0);
/// ```
pub fn statements(text: &str) -> usize {
    let Some(text) = after_thought(text) else { return 0 };
    let boxes = text.matches(r"\boxed").count() + text.matches(r"\fbox").count();
    [boxes, text.matches("####").count(), words(text)].into_iter().find(|&count| count > 0).unwrap_or(0)
}

/// The whole words "answer", in any case.
fn words(text: &str) -> usize {
    let word = |word: &&str| word.eq_ignore_ascii_case("answer");
    text.split(|character: char| !character.is_alphanumeric()).filter(word).count()
}
