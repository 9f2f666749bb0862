//! Summary tables: a head, a rule, rows; numbers to the right.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// Lays out `rows` under `headers`; a row may be shorter than the head. Columns in which every cell
/// is a number (or empty) are aligned to the right. Control characters print as `�`, so that data
/// cannot move the cursor. No line ends in spaces, and the text not in a line feed.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(headers.iter().map(|cell| plain(cell)));
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for index in 0..headers.len() {
        let cells = || rows.iter().filter_map(|row| row.get(index)).filter(|cell| !cell.is_empty());
        let Some(column) = table.column_mut(index) else { continue };
        column.set_padding((if index == 0 { 0 } else { 2 }, 0));
        if cells().next().is_some() && cells().all(|cell| is_number(cell)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.trim_fmt();
    let width = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let rule = "─".repeat(width);
    match text.split_once('\n') {
        Some((head, body)) => format!("{head}\n{rule}\n{body}"),
        None => format!("{text}\n{rule}"),
    }
}

fn plain(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether a cell reads as a number, possibly with a unit or an interval after it.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    cell == "–" || digits.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::table;

    #[track_caller]
    fn check(headers: &[&str], rows: &[&[&str]], expected: Expect) {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        expected.assert_eq(&table(headers, &rows));
    }

    #[test]
    fn tables() {
        check(
            &["arm", "compute", "held out"],
            &[&["plain", "3.2 TFLOP", "2.1 % [1.0, 4.2]"], &["prefix", "12.0 TFLOP", "23.4 % [19.9, 27.1]"]],
            expect![[r#"
                arm        compute             held out
                ───────────────────────────────────────
                plain    3.2 TFLOP     2.1 % [1.0, 4.2]
                prefix  12.0 TFLOP  23.4 % [19.9, 27.1]"#]],
        );
        check(
            &["band", "problems"],
            &[],
            expect![[r#"
            band  problems
            ──────────────"#]],
        );
        check(
            &["a", "b"],
            &[&["x"], &["y", "1"]],
            expect![[r#"
            a  b
            ────
            x
            y  1"#]],
        );
        check(
            &["text"],
            &[&["bell\u{7} and \u{1b}[2J and\nline"]],
            expect![[r#"
            text
            ───────────────────────
            bell� and �[2J and�line"#]],
        );
    }
}
