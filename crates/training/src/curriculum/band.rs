//! Choosing problems by how often they succeed.
//!
//! A band speaks of the attempts that were made: more of them can move a problem. After rejection
//! sampling until the first success, a problem's count is one success in the attempts it took.

use std::collections::BTreeMap;

use toehold_rollout::{Band, ProblemId, SuccessCount};

/// The problems of `counts` in `band`, in their order; all of them without a band. A problem without
/// attempts is in no band.
pub fn in_band(counts: &BTreeMap<ProblemId, SuccessCount>, band: Option<Band>) -> Vec<ProblemId> {
    let is_in = |count: &SuccessCount| band.is_none_or(|band| count.band() == Some(band));
    counts.iter().filter(|(_, count)| is_in(count)).map(|(problem, _)| problem.clone()).collect()
}

/// How many problems are in each band, from the hardest on; those without attempts are left out.
pub fn histogram(counts: &BTreeMap<ProblemId, SuccessCount>) -> [(Band, usize); 5] {
    Band::ALL.map(|band| (band, in_band(counts, Some(band)).len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use toehold_rollout::{Band, ProblemId, SuccessCount};

    use super::{histogram, in_band};

    #[test]
    fn problems_are_chosen_by_band() {
        let count =
            |id: &str, successes, attempts| (ProblemId::from(id.to_owned()), SuccessCount { successes, attempts });
        let counts = BTreeMap::from([count("a", 0, 9), count("b", 1, 9), count("c", 0, 0), count("d", 1, 1)]);
        let ids = |band| in_band(&counts, band).iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(Some(Band::Hard)), ["b"]);
        assert_eq!(ids(Some(Band::Medium)), [""; 0]);
        assert_eq!(ids(None), ["a", "b", "c", "d"]);
        assert_eq!(histogram(&counts).map(|(_, problems)| problems), [1, 1, 0, 0, 1]);
    }
}
