//! Who stays connected to a port that everybody may call.

use std::cmp::Reverse;
use std::net::IpAddr;

/// The open connections of a listener that everybody may call, the oldest first. `H` is what ends one.
///
/// The newest is never the one to go: whoever asks is answered at once, and whoever only holds a connection was there before.
/// Whoever has the most pays for whoever comes, so many connections of a few take none from those who have one.
#[derive(Debug)]
pub struct OpenConnections<H> {
    most: usize,
    most_from_one: usize,
    open: Vec<(IpAddr, H)>,
}

impl<H> OpenConnections<H> {
    /// Room for so many, and for so many from one address.
    pub const fn new(most: usize, most_from_one: usize) -> Self {
        Self { most, most_from_one, open: Vec::new() }
    }

    /// Takes in a connection from there, and gives back the one that must end for it: the oldest from that address, else the
    /// oldest from the address that has the most. What `is_over` takes no room.
    #[must_use]
    pub fn take_in(&mut self, from: IpAddr, connection: H, is_over: impl Fn(&H) -> bool) -> Option<H> {
        self.take_in_sparing(from, connection, is_over, |_| false)
    }

    /// The same, where one that `is_busy` goes only if all others are, too.
    #[must_use]
    pub fn take_in_sparing(
        &mut self,
        from: IpAddr,
        connection: H,
        is_over: impl Fn(&H) -> bool,
        is_busy: impl Fn(&H) -> bool,
    ) -> Option<H> {
        self.open.retain(|(_, connection)| !is_over(connection));
        let from_there = |there: IpAddr| self.open.iter().filter(|(other, _)| *other == there).count();
        let too_many = from_there(from) >= self.most_from_one;
        let goes = if too_many || self.open.len() >= self.most {
            let may_go = self.open.iter().enumerate().filter(|(_, (other, _))| !too_many || *other == from);
            let rank = |(at, (other, connection)): &(usize, &(IpAddr, H))| {
                (is_busy(connection), Reverse(from_there(*other)), *at)
            };
            may_go.min_by_key(rank).map(|(at, _)| at)
        } else {
            None
        };
        let gone = goes.map(|at| self.open.remove(at).1);
        self.open.push((from, connection));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_from_one_address_goes_and_else_the_oldest_of_whoever_has_the_most() {
        let mut open = OpenConnections::new(4, 2);
        let mut from = |last: u8, number: u32| open.take_in([127, 0, 0, last].into(), number, |number| *number == 3);
        assert_eq!([from(1, 1), from(2, 2), from(2, 3), from(2, 4)], [None; 4], "3 is over");
        assert_eq!(from(2, 5), Some(2));
        assert_eq!(from(3, 6), None);
        assert_eq!(from(4, 7), Some(4), "2 has two");
        assert_eq!(from(3, 8), Some(1), "each has one");
    }

    #[test]
    fn the_busy_ones_go_last() {
        let mut open = OpenConnections::new(3, 2);
        let mut from = |last: u8, number: u32| {
            open.take_in_sparing([127, 0, 0, last].into(), number, |_| false, |number| *number < 3)
        };
        assert_eq!([from(1, 1), from(1, 2), from(2, 3)], [None; 3]);
        assert_eq!(from(1, 4), Some(1), "both from there are busy");
        assert_eq!(from(3, 5), Some(4), "2 was there before, and is busy");
        assert_eq!(from(4, 6), Some(3));
    }
}
