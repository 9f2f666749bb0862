//! Which strategies a policy speaks of: keywords counted in prefixes and completions.
//!
//! PrefixRL (arXiv 2601.18795, §4.2 and figure 5) names a strategy by a keyword, such as a theorem's name,
//! and follows how often it is spoken of (i) in the prefixes that are given, (ii) in completions after
//! them, and (iii) at the beginning of completions of the plain problem. If (ii) and (iii) move
//! together while (i) stays, what was learnt behind prefixes carried back, and is not copied from them.
//!
//! A keyword is found whatever its case and however the space in it is broken, and only where it does
//! not go on as a word: `add` is not in `address`. A strategy counts once per text, by any of its
//! keywords; occurrences are counted, too, and two that overlap are one.
//!
//! Zero cases: an empty keyword, or one of spaces only, is never found; a strategy without keywords is
//! never spoken of; an empty text speaks of nothing and counts as a text. Of texts without tokens there is no
//! count per token.
//!
//! How sure: the paper does not print its heuristic or how long "the beginning" is; both are ours.

use serde::{Deserialize, Serialize};

/// A strategy and the keywords that give it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// What it is called.
    pub name: String,
    /// Words or phrases, any of which counts.
    pub keywords: Vec<String>,
}

/// A judged trace as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken<'a> {
    /// The prefix that was given; none for a plain problem.
    pub prefix: Option<&'a str>,
    /// What the policy wrote.
    pub completion: &'a str,
    /// Tokens of the prefix.
    pub prefix_tokens: u64,
    /// Tokens of the completion.
    pub completion_tokens: u64,
    /// Whether the verdict was that it is correct.
    pub is_correct: bool,
}

/// How many texts speak of a strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// Texts in which a keyword is.
    pub mentioning: u64,
    /// All texts.
    pub texts: u64,
    /// How often the keywords are there, over all texts.
    pub occurrences: u64,
    /// Tokens of all texts; of one that was read in part, in proportion to its characters.
    pub tokens: u64,
}

/// The completions of one kind of start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByOutcome {
    /// Those that are correct.
    pub correct: Mentions,
    /// The others.
    pub wrong: Mentions,
}

/// What was counted of one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyCount {
    /// The strategy's name.
    pub name: String,
    /// (i) The prefixes that were given, once for each trace.
    pub prefixes: Mentions,
    /// (ii) Completions after a prefix.
    pub prefixed: ByOutcome,
    /// (iii) Completions of plain problems.
    pub plain: ByOutcome,
}

impl Mentions {
    /// Adds a text of so many tokens with so many occurrences.
    pub fn add(&mut self, occurrences: u64, tokens: u64) {
        self.mentioning += u64::from(occurrences > 0);
        self.texts += 1;
        self.occurrences += occurrences;
        self.tokens += tokens;
    }

    /// Occurrences per 1,000 tokens; none without tokens.
    pub fn per_thousand(&self) -> Option<f64> {
        (self.tokens > 0).then(|| 1000.0 * self.occurrences as f64 / self.tokens as f64)
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Mentions) {
        self.mentioning += other.mentioning;
        self.texts += other.texts;
        self.occurrences += other.occurrences;
        self.tokens += other.tokens;
    }
}

impl StrategyCount {
    /// Adds what was counted of the same strategy elsewhere.
    pub fn merge(&mut self, other: &StrategyCount) {
        self.prefixes.merge(other.prefixes);
        self.prefixed.merge(other.prefixed);
        self.plain.merge(other.plain);
    }
}

impl ByOutcome {
    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: ByOutcome) {
        self.correct.merge(other.correct);
        self.wrong.merge(other.wrong);
    }

    /// Correct and wrong together.
    pub fn all(&self) -> Mentions {
        let mut all = self.correct;
        all.merge(self.wrong);
        all
    }
}

/// Counts every strategy in every trace; in the order of `strategies`. Of plain completions only the
/// first `beginning` characters are read (none: all of them), which are what the paper looks at, because
/// prefixes never reach them.
///
/// ```
/// use toehold_training::evaluation::keywords::{Spoken, Strategy, count_keywords};
/// let parity = Strategy { name: "parity".into(), keywords: vec!["parity".into(), "even or odd".into()] };
/// let plain = Spoken {
///     prefix: None,
///     completion: "Is it even or\nodd? By Parity, 4.",
///     prefix_tokens: 0,
///     completion_tokens: 8,
///     is_correct: true,
/// };
/// let prefix = Some("Look at the parity.");
/// let traces = [plain, Spoken { prefix, completion: "It is 3.", is_correct: false, ..plain }];
/// let counts = count_keywords(&[parity], traces, None);
/// // One plain completion, which is correct, speaks of it twice.
/// let plain = counts[0].plain.correct;
/// assert_eq!((plain.mentioning, plain.texts, plain.occurrences), (1, 1, 2));
/// assert_eq!(plain.per_thousand(), Some(250.0));
/// // The other's prefix does, and its completion does not.
/// assert_eq!((counts[0].prefixes.mentioning, counts[0].prefixed.all().mentioning), (1, 0));
/// ```
pub fn count_keywords<'a>(
    strategies: &[Strategy],
    traces: impl IntoIterator<Item = Spoken<'a>>,
    beginning: Option<usize>,
) -> Vec<StrategyCount> {
    let sought: Vec<Vec<String>> =
        strategies.iter().map(|strategy| strategy.keywords.iter().map(|k| plain_form(k)).collect()).collect();
    let empty = |strategy: &Strategy| StrategyCount {
        name: strategy.name.clone(),
        prefixes: Mentions::default(),
        prefixed: ByOutcome::default(),
        plain: ByOutcome::default(),
    };
    let mut counts: Vec<StrategyCount> = strategies.iter().map(empty).collect();
    for Spoken { prefix, completion, prefix_tokens, completion_tokens, is_correct } in traces {
        let read = match (prefix, beginning) {
            (None, Some(characters)) => upto(completion, characters),
            _ => completion,
        };
        // Of what was read, whether in full or not.
        let tokens = (completion_tokens * read.len() as u64).div_ceil(completion.len().max(1) as u64);
        let (prefix, read) = (prefix.map(plain_form), plain_form(read));
        for (count, keywords) in counts.iter_mut().zip(&sought) {
            if let Some(prefix) = &prefix {
                count.prefixes.add(occurrences(prefix, keywords), prefix_tokens);
            }
            let kind = if prefix.is_some() { &mut count.prefixed } else { &mut count.plain };
            let outcome = if is_correct { &mut kind.correct } else { &mut kind.wrong };
            outcome.add(occurrences(&read, keywords), tokens);
        }
    }
    counts
}

/// The first `characters` of a text, without a word that they cut in two.
fn upto(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    let (read, rest) = text.split_at(end);
    let is_cut = joins(read.chars().next_back(), rest.chars().next());
    if is_cut { read.trim_end_matches(char::is_alphanumeric) } else { read }
}

/// Lower case, with one space wherever there is space, and none at the ends.
fn plain_form(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// Places at which one of the keywords is, from left to right; the longest where several begin.
fn occurrences(text: &str, keywords: &[String]) -> u64 {
    let (mut found, mut at, mut before) = (0, 0, None);
    while let Some(next) = text[at..].chars().next() {
        let is_here = |keyword: &&String| {
            let rest = text[at..].strip_prefix(keyword.as_str());
            let goes_on = |rest: &str| joins(keyword.chars().next_back(), rest.chars().next());
            !keyword.is_empty() && !joins(before, keyword.chars().next()) && rest.is_some_and(|rest| !goes_on(rest))
        };
        let longest = keywords.iter().filter(is_here).max_by_key(|keyword| keyword.len());
        found += u64::from(longest.is_some());
        let step = longest.map_or(next.len_utf8(), String::len);
        before = text[at..at + step].chars().next_back();
        at += step;
    }
    found
}

/// Whether two neighbouring characters belong to one word.
fn joins(left: Option<char>, right: Option<char>) -> bool {
    let is_of_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    is_of_word(left) && is_of_word(right)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Mentions, Spoken, Strategy, count_keywords};

    fn strategy(keywords: &[&str]) -> Strategy {
        Strategy { name: "s".to_owned(), keywords: keywords.iter().map(|&keyword| keyword.to_owned()).collect() }
    }

    /// A text whose words are its tokens.
    fn spoken<'a>(prefix: Option<&'a str>, completion: &'a str, is_correct: bool) -> Spoken<'a> {
        let prefix_tokens = prefix.map_or(0, words);
        Spoken { prefix, completion, prefix_tokens, completion_tokens: words(completion), is_correct }
    }

    fn words(text: &str) -> u64 {
        text.split_whitespace().count() as u64
    }

    #[track_caller]
    fn check(keywords: &[&str], text: &str, occurrences: u64) {
        let counts = count_keywords(&[strategy(keywords)], [spoken(None, text, true)], None);
        let tokens = words(text);
        let expected = Mentions { mentioning: u64::from(occurrences > 0), texts: 1, occurrences, tokens };
        assert_eq!(counts[0].plain.correct, expected, "{keywords:?} in {text:?}");
    }

    #[test]
    fn where_a_keyword_is() {
        check(&["add"], "Add 3, then add 4.", 2);
        check(&["add"], "address, padded, addadd", 0);
        check(&["add"], "add", 1);
        check(&["add"], "(add)add-add", 3);
        check(&["Dirichlet theorem"], "by the\tDIRICHLET\n  Theorem", 1);
        check(&["erdős–gallai"], "The Erdős–Gallai theorem; ERDŐS–GALLAI again", 2);
        check(&["x^2"], "x^2 + x^22 + 3x^2", 1);
        check(&["=>"], "a=>b => c", 2);
        check(&["2"], "12 2 21 2.", 2);
    }

    #[test]
    fn overlapping_keywords_are_one_place() {
        check(&["mod", "mod p"], "mod p, mod q", 2);
        check(&["a b", "b a"], "a b a b a", 2);
        check(&["aa"], "aaaa", 0);
    }

    #[test]
    fn zero_cases() {
        check(&[], "anything", 0);
        check(&["", "  "], "anything at all", 0);
        check(&["word"], "", 0);
        assert_eq!(count_keywords(&[], [], None), []);
    }

    #[track_caller]
    fn counts(beginning: Option<usize>, expected: Expect) {
        let traces = [
            (None, "careful then quick", true),
            (None, "quick quick", false),
            (None, "", false),
            (Some("be careful"), "careful careful", true),
            (Some("be careful"), "quick", false),
            (Some(""), "quick, careful", false),
        ];
        let traces = traces.map(|(prefix, completion, is_correct)| spoken(prefix, completion, is_correct));
        let strategies = ["careful", "quick"].map(|name| Strategy { name: name.to_owned(), ..strategy(&[name]) });
        let show = |m: Mentions| format!("{}/{} ({} of {})", m.mentioning, m.texts, m.occurrences, m.tokens);
        let lines = count_keywords(&strategies, traces, beginning).into_iter().map(|count| {
            let all = [count.prefixes, count.prefixed.correct, count.prefixed.wrong, count.prefixed.all()];
            let plain = [count.plain.correct, count.plain.wrong, count.plain.all()];
            format!("{}: {}\n", count.name, all.into_iter().chain(plain).map(show).collect::<Vec<_>>().join(" "))
        });
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn plain_and_prefixed_correct_and_wrong_are_apart() {
        counts(
            None,
            expect![[r#"
                careful: 2/3 (2 of 4) 1/1 (2 of 2) 1/2 (1 of 3) 2/3 (3 of 5) 1/1 (1 of 3) 0/2 (0 of 2) 1/3 (1 of 5)
                quick: 0/3 (0 of 4) 0/1 (0 of 2) 2/2 (2 of 3) 2/3 (2 of 5) 1/1 (1 of 3) 1/2 (2 of 2) 2/3 (3 of 5)
            "#]],
        );
    }

    #[test]
    fn only_plain_completions_are_read_in_part() {
        counts(
            Some(8),
            expect![[r#"
                careful: 2/3 (2 of 4) 1/1 (2 of 2) 1/2 (1 of 3) 2/3 (3 of 5) 1/1 (1 of 2) 0/2 (0 of 2) 1/3 (1 of 4)
                quick: 0/3 (0 of 4) 0/1 (0 of 2) 2/2 (2 of 3) 2/3 (2 of 5) 0/1 (0 of 2) 1/2 (1 of 2) 1/3 (1 of 4)
            "#]],
        );
        // In characters, not bytes.
        let trace = spoken(None, "őőő add", true);
        let found =
            |beginning| count_keywords(&[strategy(&["add"])], [trace], Some(beginning))[0].plain.correct.mentioning;
        assert_eq!([0, 6, 7, 99].map(found), [0, 0, 1, 1]);
        // What is left of a word that was cut is not read: it could be another word.
        let trace = spoken(None, "not adding", true);
        let found = count_keywords(&[strategy(&["add"])], [trace], Some(7))[0].plain.correct;
        assert_eq!(found, Mentions { mentioning: 0, texts: 1, occurrences: 0, tokens: 1 });
        assert_eq!(Mentions::default().per_thousand(), None);
    }
}
