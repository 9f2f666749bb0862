//! Where a text states its program: the last block between code fences.
//!
//! In a text with `</think>` only what follows the last one counts, and an unclosed `<think>` states
//! nothing. A fence is a line that begins with three or more backticks; the block ends at the next line of
//! nothing but as many backticks or more. A last block that is never closed was cut off: no earlier one
//! stands in for it.

/// What a text says of its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found<'a> {
    /// The lines between the fences.
    Stated(&'a str),
    /// No block, or an empty one.
    Nothing,
    /// The last block is never closed.
    Unclosed,
}

/// The last fenced block.
pub(crate) fn find(text: &str) -> Found<'_> {
    let text = match text.rfind("</think>") {
        Some(end) => &text[end + "</think>".len()..],
        None if text.contains("<think>") => return Found::Nothing,
        None => text,
    };
    let (mut found, mut open, mut at) = (Found::Nothing, None, 0);
    for line in text.split_inclusive('\n') {
        let begins = at;
        at += line.len();
        let ticks = fence(line);
        match open {
            None if ticks >= 3 => open = Some((at, ticks)),
            Some((inside, opened)) if ticks >= opened && line.trim().len() == ticks => {
                let program = &text[inside..begins];
                found = if program.trim().is_empty() { Found::Nothing } else { Found::Stated(program) };
                open = None;
            }
            _ => {}
        }
    }
    if open.is_some() { Found::Unclosed } else { found }
}

/// Where the first fence stands, for [`answer_begins`](crate::answer_begins).
pub(crate) fn code_begins(text: &str) -> Option<usize> {
    [text.find("```"), text.find("</think>")].into_iter().flatten().min()
}

/// Backticks that a line begins with, white space aside.
fn fence(line: &str) -> usize {
    let line = line.trim_start();
    line.len() - line.trim_start_matches('`').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Found<'_>) {
        assert_eq!(find(text), expected, "{text:?}");
    }

    #[test]
    fn the_last_closed_block_counts() {
        use Found::{Nothing, Stated, Unclosed};
        check("So:\n```python\nprint(1)\n```\nDone.", Stated("print(1)\n"));
        check("```\na\n```\nor\n```\nb\nc\n```", Stated("b\nc\n"));
        check("````\n```\na\n```\n````", Stated("```\na\n```\n"));
        check("  ```sh\r\n  echo `a`\r\n  ```\r\n", Stated("  echo `a`\r\n"));
        check("```\na\n```\n```\nb", Unclosed);
        check("```\na\n```b\n", Unclosed);
        check("``` print(1) ```", Unclosed);
        check("```\n \n```", Nothing);
        check("print(1)", Nothing);
        check("", Nothing);
        check("<think>\n```\na\n```\n</think>\n```\nb\n```", Stated("b\n"));
        check("<think>\n```\na\n```\n</think>\nno", Nothing);
        check("<think>\n```\na\n```\n", Nothing);
        assert_eq!(code_begins("é ```\na\n```\n```"), Some(3));
        assert_eq!(code_begins("no"), None);
    }
}
