//! How often a problem's answer is guessed: success where the answer is asked for at once.
//!
//! ```text
//! guess rate = successes / attempts        of completions after problem and opening
//! opening      the words that a statement of the answer begins with: there is no room for work before them
//! ```
//!
//! A policy that can guess an answer is rewarded for work that it did not do, or did wrong, and learns to leave it
//! out: arXiv 2605.28388 reports a problem whose checker took a bare answer and whose completions fell from
//! 510.7 to 45.7 tokens. That problems with a high rate be left out of training (above 0.2 for whole numbers) is a
//! proposal of the project; the paper publishes no such number.
//!
//! The opening is the one that the problem's verifier reads an answer after ([`opening`]). How many tokens may
//! follow is the plan's `params.max_tokens`: few, since a policy may work after the opening, too.
//!
//! Zero cases: an empty opening is the plain problem, for a verifier that takes the whole text; what has no short
//! answer (`program`, `command`) has no opening and is not measured; without attempts nothing is guessable.
//!
//! What it does not say: a guess may be luck (an answer among few, as on multiple choice), or knowledge of the
//! problem (which was seen before, or learnt by heart in training), or work in one glance. All three earn a
//! reward without a trace, which is what is asked here.

use toehold_rollout::collect::Judge;
use toehold_rollout::{Origin, Sampler, Start, SuccessCount, TokenId};
use toehold_verifier::Verifier;

use super::count::{CountError, CountPlan, ProblemCount, count_successes};

/// The words that the answer of a problem with this verifier begins with; none where no short answer is read.
///
/// ```
/// use toehold_training::evaluation::guessing::opening;
/// use toehold_verifier::Verifier;
/// assert_eq!(opening(Verifier::MathBoxed), Some("The answer is \\boxed{"));
/// assert_eq!(opening(Verifier::Chain), Some("answer"));
/// assert_eq!(opening(Verifier::Program), None);
/// ```
pub fn opening(verifier: Verifier) -> Option<&'static str> {
    match verifier {
        // A box, which leaves no room for talk, and which all of them read.
        Verifier::Answer
        | Verifier::Number
        | Verifier::Tolerance
        | Verifier::Pattern
        | Verifier::Math
        | Verifier::MathBoxed => Some("The answer is \\boxed{"),
        Verifier::Chain | Verifier::Countdown => Some("answer"),
        Verifier::Exact | Verifier::PatternText => Some(""),
        Verifier::Program | Verifier::Command => None,
    }
}

/// The start from which nothing is left but to state an answer: `start`, whose own prefix is left out, with
/// `opening` given.
pub fn after_opening(start: &Start, opening: &[TokenId]) -> Start {
    let (problem, prompt) = (start.problem.clone(), start.prompt.clone());
    match opening {
        [] => Start::plain(problem, prompt),
        given => {
            let origin = Origin { trace: None, source_tokens: given.len() as u32 };
            Start::prefixed(problem, prompt, given.to_vec(), origin)
        }
    }
}

/// Samples guesses at each problem: from each start after its opening, in their order.
///
/// # Errors
/// The sampler's trouble.
pub fn guess_counts(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    asked: &[(Start, Vec<TokenId>)],
    plan: &CountPlan,
) -> Result<Vec<ProblemCount>, CountError> {
    let starts: Vec<Start> = asked.iter().map(|(start, opening)| after_opening(start, opening)).collect();
    count_successes(sampler, judge, &starts, plan)
}

/// Whether more than `share` of the guesses are right. It is the rate itself that is compared, not an end of its
/// interval: to leave out a problem too many costs less than to learn from one that is guessed.
///
/// ```
/// use toehold_rollout::SuccessCount;
/// use toehold_training::evaluation::guessing::is_guessable;
/// let count = |successes, attempts| SuccessCount { successes, attempts };
/// assert!(is_guessable(count(3, 10), 0.2) && !is_guessable(count(2, 10), 0.2));
/// assert!(!is_guessable(count(0, 0), 0.0));
/// ```
pub fn is_guessable(count: SuccessCount, share: f64) -> bool {
    count.rate().is_some_and(|rate| rate > share)
}

#[cfg(test)]
mod tests {
    use toehold_rollout::collect::Judge;
    use toehold_rollout::{Completion, Learner as _, ProblemId, SamplingParams, Start, SuccessCount};
    use toehold_verifier::{Outcome, Verdict};

    use super::{CountPlan, after_opening, guess_counts, is_guessable};
    use crate::tabular::TabularPolicy;

    /// Works, opens an answer, states 0 to 3; each token by its name.
    const WORK: u32 = 4;
    const OPEN: u32 = 5;

    /// Right is the answer 1 after the opening.
    struct One;

    impl Judge for One {
        fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
            let all: Vec<u32> = start.prefix.iter().chain(&completion.tokens).copied().collect();
            let stated = all.iter().position(|&token| token == OPEN).and_then(|open| all.get(open + 1));
            let outcome = match stated {
                None => Outcome::NoAnswer,
                Some(1) => Outcome::Correct,
                Some(_) => Outcome::Wrong,
            };
            Verdict::without_answer(outcome)
        }
    }

    /// A policy that states 1 after work, and otherwise guesses among four for the first problem and none of them
    /// right for the second.
    #[test]
    fn work_is_told_from_guesses() {
        let mut policy = TabularPolicy::uniform(8, 3, 1e9);
        let set = |policy: &mut TabularPolicy, after: &[u32], logits: [f64; 8]| {
            policy.logits_mut(after).copy_from_slice(&logits);
        };
        let only = |token: u32| std::array::from_fn(|at| if at as u32 == token { 40.0 } else { 0.0 });
        for problem in [6, 7] {
            set(&mut policy, &[problem], only(WORK));
            set(&mut policy, &[problem, WORK], only(OPEN));
            set(&mut policy, &[problem, WORK, OPEN], only(1));
        }
        set(&mut policy, &[6, OPEN], [40.0, 40.0, 40.0, 40.0, 0.0, 0.0, 0.0, 0.0]);
        set(&mut policy, &[7, OPEN], only(3));
        policy.publish().unwrap();
        let plan = |tokens| CountPlan { samples: 200, params: SamplingParams::plain(tokens), seed: 4, in_flight: 16 };
        let starts: Vec<Start> = [6, 7].map(|at| Start::plain(ProblemId::from(format!("p{at}")), vec![at])).into();
        let mut found = |opening: &[u32], tokens: u32| -> [SuccessCount; 2] {
            let asked: Vec<_> = starts.iter().map(|start| (start.clone(), opening.to_vec())).collect();
            let counts = guess_counts(&mut policy, &One, &asked, &plan(tokens)).unwrap();
            assert_eq!(counts.iter().map(|one| one.problem.as_str()).collect::<Vec<_>>(), ["p6", "p7"]);
            [counts[0].count, counts[1].count]
        };
        let of_200 = |successes| SuccessCount { successes, attempts: 200 };
        // With room for the work, and without.
        assert_eq!(found(&[], 3), [of_200(200); 2]);
        assert_eq!(found(&[], 1), [of_200(0); 2]);
        // One in four is luck; more room after a guess changes nothing of it.
        let [lucky, never] = found(&[OPEN], 1);
        assert!((30..70).contains(&lucky.successes) && is_guessable(lucky, 0.1), "{lucky}");
        assert!(!is_guessable(lucky, 0.5) && never == of_200(0) && !is_guessable(never, 0.0), "{never}");
        assert_eq!(found(&[OPEN], 3), [lucky, never]);
    }

    #[test]
    fn the_opening_takes_the_place_of_a_prefix() {
        let start = Start::plain(ProblemId::from("p"), vec![1, 2]);
        assert_eq!(after_opening(&start, &[]), start);
        let given = after_opening(&start, &[7, 8]);
        assert_eq!((given.prompt.as_slice(), given.prefix.as_slice()), (&[1, 2][..], &[7, 8][..]));
        assert!(!given.is_plain());
        assert_eq!(after_opening(&given, &[9]).prefix, [9]);
    }
}
