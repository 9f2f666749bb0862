//! How long a call of the sampler goes on without any answer.
//!
//! Patience is used up while there is nothing to wait for: no request on its way or about to be sent, no server that
//! reads weights. A request may take longer than that, it has a deadline of its own. Checks of servers that are away
//! do use it up, or servers that take a connection and then say nothing would be asked for ever; but one that is on
//! its way when patience ends is heard, and none is begun afterwards.
//!
//! It is counted in ticks, which come late on a busy machine and not at all on one that sleeps, so neither uses it up.

use std::time::Duration;

/// What there is to wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WaitsFor {
    /// Answers, or the end of a pause or of a load that was asked for.
    Work,
    /// Nothing but checks of servers that are away.
    Checks,
    /// Nothing.
    Nothing,
}

/// Patience of one call.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    tick: Duration,
    most: Duration,
    /// Ticks since the last answer in which there was no work to wait for.
    quiet: u32,
}

impl Patience {
    /// For `most`, counted in steps of `tick`.
    pub(super) fn new(most: Duration, tick: Duration) -> Patience {
        Patience { tick, most, quiet: 0 }
    }

    /// An answer came, or a server is back.
    pub(super) fn heard(&mut self) {
        self.quiet = 0;
    }

    /// A tick went by; whether it is time to give up.
    pub(super) fn tick(&mut self, waits_for: WaitsFor) -> bool {
        if waits_for == WaitsFor::Work {
            return false;
        }
        self.quiet = self.quiet.saturating_add(1);
        waits_for == WaitsFor::Nothing && self.is_over()
    }

    /// Whether nothing new is to be tried.
    pub(super) fn is_over(&self) -> bool {
        self.waited() > self.most
    }

    /// How much was used up.
    pub(super) fn waited(&self) -> Duration {
        self.tick.saturating_mul(self.quiet)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::{Patience, WaitsFor};

    /// Three ticks of patience; `w` is a tick that waits for work, `c` for checks, `.` for nothing, `!` an answer.
    #[track_caller]
    fn check(happens: &str, expected: Expect) {
        let tick = Duration::from_millis(20);
        let mut patience = Patience::new(3 * tick, tick);
        let mut seen = String::new();
        for what in happens.chars() {
            let is_end = match what {
                'w' => patience.tick(WaitsFor::Work),
                'c' => patience.tick(WaitsFor::Checks),
                '.' => patience.tick(WaitsFor::Nothing),
                _ => {
                    patience.heard();
                    false
                }
            };
            seen.push(match (is_end, patience.is_over()) {
                (true, _) => 'E',
                (false, true) => 'o',
                (false, false) => '-',
            });
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn patience_does_not_run_while_a_request_is_on_its_way() {
        check("....", expect!["---E"]);
        check("wwwwwwww", expect!["--------"]);
        // A request that takes long and then fails leaves all of it.
        check("wwwwwwww...", expect!["-----------"]);
        check("..ww..", expect!["-----E"]);
        check("...!...", expect!["-------"]);
    }

    #[test]
    fn a_check_that_is_on_its_way_when_patience_ends_is_heard() {
        check("..ccccc", expect!["---oooo"]);
        check("..ccccc.", expect!["---ooooE"]);
        check("..ccccc!.", expect!["---oooo--"]);
    }
}
