//! A progress bar for anything that takes longer than two seconds.
//!
//! It stays hidden for the first two seconds, so that quick work leaves no flicker, and it is gone
//! once it is finished: what was done is the command's to say.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Output, count, duration, number};

/// Work that ends sooner shows no bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bar with rate and remaining time, on stderr; silent where [`Output`] draws none.
pub struct Progress {
    output: Output,
    bar: ProgressBar,
    visibility: Visibility,
}

#[derive(PartialEq)]
enum Visibility {
    Waiting,
    Shown,
}

impl Progress {
    /// Begins to count `total` things (none: how many there will be is unknown). `unit` is their
    /// plural: `traces`, `steps`.
    pub fn start(output: &Output, label: &str, total: Option<u64>, unit: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(style(total, unit));
        bar.set_prefix(label.to_owned());
        Progress { output: output.clone(), bar, visibility: Visibility::Waiting }
    }

    /// `n` of the things are done; `message` is one short remark on how it goes, possibly empty.
    pub fn set(&mut self, n: u64, message: &str) {
        if self.visibility == Visibility::Waiting && self.bar.elapsed() >= PATIENCE {
            self.output.bars.add(self.bar.clone());
            // Steps can be slow: the clock goes on between them.
            self.bar.enable_steady_tick(Duration::from_secs(1));
            self.visibility = Visibility::Shown;
        }
        self.bar.set_message(message.to_owned());
        self.bar.set_position(n);
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.bar.elapsed()
    }

    /// Takes the bar away; dropping it does the same.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.output.bars.remove(&self.bar);
    }
}

fn style(total: Option<u64>, unit: &'static str) -> ProgressStyle {
    let template = match total {
        Some(_) => "{prefix}  {bar:16}  {done}  {rate}  {left}  {wide_msg}",
        None => "{prefix}  {spinner}  {done}  {rate}  {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .expect("the template is a constant")
        .progress_chars("━━─")
        .with_key("done", move |state: &ProgressState, line: &mut dyn Write| {
            // Writing to the line's own buffer cannot fail.
            write!(line, "{}", done(state.pos(), total, unit)).ok();
        })
        .with_key("rate", move |state: &ProgressState, line: &mut dyn Write| {
            write!(line, "{}", rate(state.per_sec(), unit)).ok();
        })
        .with_key("left", |state: &ProgressState, line: &mut dyn Write| {
            write!(line, "{}", left(state.pos(), state.eta())).ok();
        })
}

fn done(n: u64, total: Option<u64>, unit: &str) -> String {
    match total {
        Some(total) => format!("{}/{} {unit}", count(n), count(total)),
        None => format!("{} {unit}", count(n)),
    }
}

fn rate(per_second: f64, unit: &str) -> String {
    format!("{} {unit}/s", number::short(per_second))
}

fn left(n: u64, remaining: Duration) -> String {
    if n == 0 { "time left unknown".to_owned() } else { format!("{} left", duration(remaining)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(n: u64, total: Option<u64>, per_second: f64, remaining: u64, expected: Expect) {
        let done = super::done(n, total, "traces");
        let rate = super::rate(per_second, "traces");
        let left = super::left(n, Duration::from_secs(remaining));
        expected.assert_eq(&format!("{done} | {rate} | {left}"));
    }

    #[test]
    fn the_parts_of_a_line() {
        check(0, Some(128_000), 0.0, 0, expect!["0/128,000 traces | 0 traces/s | time left unknown"]);
        check(1_500, Some(128_000), 412.33, 307, expect!["1,500/128,000 traces | 412 traces/s | 5 min 07 s left"]);
        check(3, None, 0.0421, 0, expect!["3 traces | 0.042 traces/s | 0 ms left"]);
    }

    #[test]
    fn every_template_is_valid() {
        super::style(Some(3), "steps");
        super::style(None, "steps");
    }
}
