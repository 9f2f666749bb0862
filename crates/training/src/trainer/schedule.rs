//! The learning rate of a step.

use crate::recipe::Schedule;

/// A rate that rises linearly to `peak` in `warm_up` steps and then follows `schedule` up to `steps`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The highest rate.
    pub peak: f64,
    /// What follows the warm-up.
    pub schedule: Schedule,
    /// Steps of the warm-up.
    pub warm_up: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Rate {
    /// The rate of step `step`, from 0. The first step of a warm-up is not zero, the last of a cosine
    /// is not either: no step is wasted.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        match self.schedule {
            Schedule::Constant => self.peak,
            Schedule::Cosine => {
                let rest = self.steps.saturating_sub(self.warm_up).max(1) as f64;
                let done = ((step - self.warm_up) as f64 / rest).min(1.0);
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::Rate;
    use crate::recipe::Schedule;

    #[track_caller]
    fn check(schedule: Schedule, warm_up: u64, steps: u64, expected: Expect) {
        let rate = Rate { peak: 1.0, schedule, warm_up, steps };
        let rates: Vec<String> = (0..8).map(|step| format!("{:.3}", rate.at(step))).collect();
        expected.assert_eq(&rates.join(" "));
    }

    #[test]
    fn schedules() {
        check(Schedule::Constant, 0, 8, expect!["1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000"]);
        check(Schedule::Constant, 4, 8, expect!["0.250 0.500 0.750 1.000 1.000 1.000 1.000 1.000"]);
        check(Schedule::Cosine, 0, 8, expect!["1.000 0.962 0.854 0.691 0.500 0.309 0.146 0.038"]);
        check(Schedule::Cosine, 4, 8, expect!["0.250 0.500 0.750 1.000 1.000 0.854 0.500 0.146"]);
        // Beyond its end, and with a warm-up as long as the run.
        check(Schedule::Cosine, 0, 4, expect!["1.000 0.854 0.500 0.146 0.000 0.000 0.000 0.000"]);
        check(Schedule::Cosine, 4, 4, expect!["0.250 0.500 0.750 1.000 1.000 0.000 0.000 0.000"]);
    }
}
