//! A fixed list gone through in epochs, each in an order of its own.
//!
//! The order of epoch `e` is a function of seed, name and `e`, so the number of items taken so far is
//! the whole state.

use crate::random;

/// Goes through `0..length` for ever, reshuffled at each round.
#[derive(Clone, Debug, PartialEq)]
pub struct Cycle {
    name: &'static str,
    seed: u64,
    taken: u64,
    order: Vec<u32>,
}

impl Cycle {
    /// A cycle over `length` items that begins at its beginning.
    pub fn new(name: &'static str, seed: u64, length: usize) -> Cycle {
        let mut cycle = Cycle { name, seed, taken: 0, order: (0..length as u32).collect() };
        cycle.seek(0);
        cycle
    }

    /// The next item; none where there is none.
    pub fn take(&mut self) -> Option<usize> {
        let length = self.order.len() as u64;
        if length == 0 {
            return None;
        }
        let item = self.order[(self.taken % length) as usize];
        self.taken += 1;
        if self.taken.is_multiple_of(length) {
            self.reorder();
        }
        Some(item as usize)
    }

    /// How many items were taken since the beginning.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Rounds begun before the next item, from 0.
    pub fn epoch(&self) -> u64 {
        self.taken / (self.order.len() as u64).max(1)
    }

    /// Goes on as if `taken` items had been taken.
    pub fn seek(&mut self, taken: u64) {
        self.taken = taken;
        self.reorder();
    }

    /// Brings the items into the order of the current round.
    fn reorder(&mut self) {
        let epoch = self.epoch();
        self.order.sort_unstable();
        random::shuffle(&mut random::stream(self.seed, self.name, &[epoch]), &mut self.order);
    }
}

/// Whether start number `at` of a run, from 0, is one of this share of the starts: those up to any number
/// are the share of them, rounded down.
pub(super) fn is_among(share: f64, at: u64) -> bool {
    let before = |count: u64| (count as f64 * share).floor();
    before(at + 1) > before(at)
}

#[cfg(test)]
mod tests {
    use super::Cycle;

    #[test]
    fn each_round_has_every_item_once_in_another_order() {
        let mut cycle = Cycle::new("test", 1, 20);
        let rounds: Vec<Vec<usize>> = (0..3).map(|_| (0..20).map(|_| cycle.take().unwrap()).collect()).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        }
        assert_ne!(rounds[0], rounds[1]);
        assert_ne!(rounds[1], rounds[2]);
    }

    #[test]
    fn seeking_is_as_good_as_taking() {
        let mut taken = Cycle::new("test", 1, 7);
        for count in 0..30 {
            let mut sought = Cycle::new("test", 1, 7);
            sought.seek(count);
            assert_eq!(sought, taken, "after {count}");
            taken.take();
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(Cycle::new("test", 1, 0).take(), None);
    }
}
