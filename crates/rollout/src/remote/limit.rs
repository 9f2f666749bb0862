//! How many requests an endpoint is given at a time, found from how long its tokens take.
//!
//! A continuous-batching server gives every sequence fewer tokens per second the more it has, while all together
//! get more; once it is full, more requests only wait. So the limit grows while a token takes less than
//! [`STRETCH`] times as long as at its best, and shrinks by a tenth above that; it is halved when the server says
//! that it is full, and says so to more than [`NOTABLE`] of the recent requests: a server that has more than it can
//! hold refuses one after another, so a single refusal among many answers says nothing of the limit. Growth is by one per answer until the first shrinking, then by one per limit's worth of
//! answers (TCP's slow start and congestion avoidance, with latency instead of loss; the numbers are proposals of
//! ours). The best is measured anew whenever the limit is down at 1: lengths and prompts change, and one request at
//! a time is as good as it gets.

/// A token may take this many times as long as at its best.
const STRETCH: f64 = 4.0;
/// Weight of the newest answer in the moving average.
const NEWEST: f64 = 0.1;
/// A server is full when more than this share of its recent answers are refusals.
const NOTABLE: f64 = 0.1;
/// Weight of the newest answer in that share: three refusals one after another are notable, two are not.
const NEWEST_REFUSAL: f64 = 0.04;

/// The limit of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    now: f64,
    most: f64,
    best: Option<f64>,
    average: f64,
    /// Moving share of refusals among the answers.
    refusals: f64,
    phase: Phase,
    /// Answers before it may shrink again: those on their way were sent under the old limit.
    settling: f64,
}

/// What a refusal says of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// Nothing: there are few refusals among its answers.
    Passing,
    /// It has more than it can hold.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Start,
    Steady,
}

impl Limit {
    /// Begins at 8 requests, or at `most` where that is fewer.
    pub(super) fn new(most: usize) -> Limit {
        let most = most.max(1) as f64;
        Limit { now: most.min(8.0), most, best: None, average: 0.0, refusals: 0.0, phase: Phase::Start, settling: 0.0 }
    }

    /// Requests that may be on their way, at least 1.
    pub(super) fn requests(&self) -> usize {
        (self.now as usize).max(1)
    }

    /// An answer took `seconds` for its `tokens` tokens (the longest completion's).
    pub(super) fn answered(&mut self, seconds: f64, tokens: usize) {
        let latency = seconds.max(1e-6) / tokens.max(1) as f64;
        self.average = if self.best.is_none() { latency } else { self.average + NEWEST * (latency - self.average) };
        let is_alone = self.requests() == 1;
        let best = if is_alone { self.average } else { self.best.map_or(latency, |best| best.min(latency)) };
        self.best = Some(best);
        self.refusals -= NEWEST_REFUSAL * self.refusals;
        self.settling = (self.settling - 1.0).max(0.0);
        if self.average <= STRETCH * best {
            let step = if self.phase == Phase::Start { 1.0 } else { 1.0 / self.now };
            self.now = (self.now + step).min(self.most);
        } else if self.settling == 0.0 {
            self.shrink(0.9);
        }
    }

    /// The server said that it is full; whether it is.
    pub(super) fn refused(&mut self) -> Load {
        self.refusals += NEWEST_REFUSAL * (1.0 - self.refusals);
        let load = if self.refusals > NOTABLE { Load::Full } else { Load::Passing };
        if load == Load::Full && self.settling == 0.0 {
            self.shrink(0.5);
        } else {
            // Refusals do not bring answers, so they count down, too.
            self.settling = (self.settling - 1.0).max(0.0);
        }
        load
    }

    fn shrink(&mut self, factor: f64) {
        self.now = (self.now * factor).max(1.0);
        self.phase = Phase::Steady;
        self.settling = self.now;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Limit, Load};

    /// A server whose tokens take 1 ms up to `capacity` requests, and wait in line above that.
    #[track_caller]
    fn check(most: usize, capacity: f64, refuses_above: Option<usize>, expected: Expect) {
        let mut limit = Limit::new(most);
        let mut seen = Vec::new();
        for answer in 0..4000 {
            if refuses_above.is_some_and(|above| limit.requests() > above) {
                limit.refused();
            } else {
                let waiting = (limit.requests() as f64 / capacity).max(1.0);
                limit.answered(0.064 * waiting, 64);
            }
            if [0, 20, 100, 500, 1000, 2000, 3999].contains(&answer) {
                seen.push(limit.requests());
            }
        }
        expected.assert_eq(&format!("{seen:?}"));
    }

    /// A server that is never slow and refuses every `one_in`-th request, however many it has.
    #[track_caller]
    fn check_chance(one_in: usize, expected: Expect) {
        let mut limit = Limit::new(64);
        let mut full = 0;
        for answer in 1..=4000 {
            match answer % one_in {
                0 => full += usize::from(limit.refused() == Load::Full),
                _ => limit.answered(0.064, 64),
            }
        }
        expected.assert_eq(&format!("{} requests, {full} times full", limit.requests()));
    }

    #[test]
    fn refusals_by_chance_are_not_a_full_server() {
        check_chance(250, expect!["64 requests, 0 times full"]);
        check_chance(20, expect!["64 requests, 0 times full"]);
        check_chance(5, expect!["1 requests, 797 times full"]);
        check_chance(1, expect!["1 requests, 3998 times full"]);
    }

    #[test]
    fn a_limit_finds_its_place() {
        // Never slow: all that is allowed.
        check(256, 1e9, None, expect!["[9, 29, 109, 256, 256, 256, 256]"]);
        // Slow above 16 requests: a few times that, where its line is full and not long.
        check(256, 16.0, None, expect!["[9, 29, 65, 58, 60, 63, 63]"]);
        // Full above 20.
        check(256, 1e9, Some(20), expect!["[9, 10, 16, 20, 19, 19, 18]"]);
        // One at a time.
        check(1, 1e9, None, expect!["[1, 1, 1, 1, 1, 1, 1]"]);
    }
}
