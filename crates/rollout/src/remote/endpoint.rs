//! What is known of one endpoint while a fleet works: whether it is there, what it was given, what it did.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limit::{Limit, Load};
use super::route::hash_address;
use super::server::{Server, Verified};

/// One endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) server: Arc<Server>,
    pub(super) hash: u64,
    pub(super) state: State,
    /// As it was found when it was last checked.
    pub(super) verified: Option<Verified>,
    pub(super) limit: Limit,
    /// Calls on their way.
    pub(super) in_flight: usize,
    /// Jobs that wait for a place here.
    pub(super) queue: VecDeque<usize>,
    /// Nothing is sent before.
    pub(super) paused: Option<Instant>,
    /// Failures since the last answer.
    pub(super) failures: u32,
    /// Answers "full" since the last other one.
    pub(super) full: u32,
    /// Moving average of an answer's time, in seconds.
    pub(super) latency: f64,
    pub(super) counts: Counts,
}

/// Whether an endpoint is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Up,
    /// Not asked before `until`, then checked.
    Down {
        until: Instant,
        times: u32,
        cause: String,
        is_passing: bool,
    },
    /// Being checked.
    Checking {
        times: u32,
    },
}

/// What an endpoint did since its counts were last taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were sent.
    pub requests: u64,
    /// Completions that were kept.
    pub completions: u64,
    /// Tokens in those.
    pub tokens: u64,
    /// Of the requests, those that doubled one that another endpoint was slow with.
    pub hedges: u64,
    /// Completions that came when they were not needed any more: another endpoint had been faster.
    pub late: u64,
    /// Times that it was given up for a while.
    pub downs: u64,
    /// Requests without a usable answer, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Completions that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Waits between tries: this long, doubled each time, up to 10 seconds.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(10);
/// As many failures one after another, and the endpoint is given up for a while.
const PATIENCE: u32 = 4;

/// How long to wait before the try after `times` failures. `salt` spreads those that failed together over the second
/// half of the wait.
pub(super) fn back_off(times: u32, salt: u64) -> Duration {
    let whole = BACK_OFF.saturating_mul(1 << times.min(16)).min(LONGEST);
    let share = (salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
    whole.mul_f64(0.5 + 0.5 * share)
}

impl Endpoint {
    pub(super) fn new(server: Server, in_flight: usize) -> Endpoint {
        Endpoint {
            hash: hash_address(server.address.as_str()),
            server: Arc::new(server),
            state: Endpoint::unchecked(),
            verified: None,
            limit: Limit::new(in_flight),
            in_flight: 0,
            queue: VecDeque::new(),
            paused: None,
            failures: 0,
            full: 0,
            latency: 0.0,
            counts: Counts::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Requests that it may be given now.
    pub(super) fn room(&self, now: Instant) -> usize {
        let is_open = self.is_up() && self.paused.is_none_or(|until| until <= now);
        if is_open { self.limit.requests().saturating_sub(self.in_flight) } else { 0 }
    }

    /// Puts a job into the queue by its number: what is asked again comes before what was never asked, or whoever
    /// writes completions in the order of their requests would have to keep all later ones until then.
    pub(super) fn queue_in_order(&mut self, job: usize) {
        in_order(&mut self.queue, job);
    }

    /// An answer came after `elapsed`, its longest completion of `tokens` tokens.
    pub(super) fn answered(&mut self, elapsed: Duration, tokens: usize) {
        let seconds = elapsed.as_secs_f64();
        self.limit.answered(seconds, tokens);
        self.latency = if self.latency == 0.0 { seconds } else { self.latency + 0.1 * (seconds - self.latency) };
        (self.failures, self.full, self.paused) = (0, 0, None);
    }

    /// The server said that it is full, and to wait for `asked`. Where it has said so often, it gets less at a time
    /// and nothing for a while, and there is nothing more to do; otherwise only the job that it refused has to wait,
    /// for as long as is returned.
    pub(super) fn refused(&mut self, asked: Option<Duration>, salt: u64) -> Option<Duration> {
        let load = self.limit.refused();
        let wait = asked.map_or(back_off(self.full, salt), |asked| asked.min(Duration::from_secs(60)));
        // Once it was full, it is until it answers.
        if load == Load::Passing && self.full == 0 {
            return Some(wait);
        }
        self.full += 1;
        self.paused = Some(Instant::now() + wait);
        None
    }

    /// A call failed; says whether the endpoint has failed so often that it is to be given up.
    pub(super) fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures >= PATIENCE
    }

    /// Given up until it was checked again.
    pub(super) fn goes_down(&mut self, cause: String, is_passing: bool) {
        let times = match self.state {
            State::Up => 0,
            State::Down { times, .. } | State::Checking { times } => times + 1,
        };
        if self.is_up() {
            self.counts.downs += 1;
        }
        // The first check comes soon: most trouble is a restart or one bad moment.
        let until = Instant::now() + back_off(times + 1, self.hash);
        self.state = State::Down { until, times, cause, is_passing };
        self.failures = 0;
    }

    /// It has to be checked before it is asked.
    pub(super) fn is_unchecked(&mut self) {
        self.state = Endpoint::unchecked();
    }

    fn unchecked() -> State {
        State::Down { until: Instant::now(), times: 0, cause: "not checked yet".to_owned(), is_passing: true }
    }

    pub(super) fn comes_up(&mut self, verified: Verified) {
        self.verified = Some(verified);
        self.state = State::Up;
        (self.failures, self.full, self.paused) = (0, 0, None);
    }
}

fn in_order(queue: &mut VecDeque<usize>, job: usize) {
    // Nearly all come in their order. What was taken over from elsewhere may stand before earlier ones.
    let place = queue.iter().rposition(|&other| other < job).map_or(0, |before| before + 1);
    queue.insert(place, job);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::in_order;

    #[test]
    fn what_is_asked_again_comes_before_what_was_never_asked() {
        let mut queue: VecDeque<usize> = VecDeque::new();
        for job in [3, 4, 7, 8, 1, 5] {
            in_order(&mut queue, job);
        }
        assert_eq!(queue, [1, 3, 4, 5, 7, 8]);
    }
}
