//! Who stays connected to a port that everybody may call.

use std::net::IpAddr;

/// The open connections of a listener for probes and metrics, the oldest first. `H` is what ends one.
///
/// The newest is never the one to go: whoever asks is answered at once, and whoever only holds a connection was there before.
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
    /// oldest of all. What `is_over` takes no room.
    #[must_use]
    pub fn take_in(&mut self, from: IpAddr, connection: H, is_over: impl Fn(&H) -> bool) -> Option<H> {
        self.open.retain(|(_, connection)| !is_over(connection));
        let of_it = |(other, _): &(IpAddr, H)| *other == from;
        let goes = if self.open.iter().filter(|open| of_it(open)).count() >= self.most_from_one {
            self.open.iter().position(of_it)
        } else {
            (self.open.len() >= self.most).then_some(0)
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
    fn the_oldest_from_one_address_goes_and_else_the_oldest_of_all() {
        let mut open = OpenConnections::new(4, 2);
        let mut from = |last: u8, number: u32| open.take_in([127, 0, 0, last].into(), number, |number| *number == 3);
        assert_eq!([from(1, 1), from(2, 2), from(2, 3), from(2, 4)], [None; 4], "3 is over");
        assert_eq!(from(2, 5), Some(2));
        assert_eq!(from(3, 6), None);
        assert_eq!(from(4, 7), Some(1));
        assert_eq!(from(3, 8), Some(4));
    }
}
