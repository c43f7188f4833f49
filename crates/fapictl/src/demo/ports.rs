//! Free ports that stay free until they are used, also with other demos beside this one.
//!
//! Every port of ours is even, and the odd one after it is bound for as long as the demo lives: who cannot
//! bind the odd one leaves the even one alone. The range lies below the one from which the kernel takes
//! ports for outgoing connections, so that nothing slips in between our letting go and the sidecar's bind.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::crypto;
use crate::failure::{Failure, OrFail};

const FIRST: u16 = 20_000;
const PAIRS: u16 = 6_000;
const TRIES: u16 = 200;

/// A port that is ours until this is dropped, or one of somebody else.
pub(crate) struct Port {
    address: SocketAddr,
    /// The odd neighbour; never accepts.
    _claim: Option<TcpListener>,
    /// The port itself, until somebody else is to bind it.
    hold: Option<TcpListener>,
}

impl Port {
    /// Finds one.
    pub(crate) fn find() -> Result<Self, Failure> {
        for _ in 0..TRIES {
            let number = FIRST + (crypto::random_u16()? % PAIRS) * 2;
            if let (Ok(claim), Ok(hold)) = (bind(number + 1), bind(number)) {
                return Ok(Self { address: at(number), _claim: Some(claim), hold: Some(hold) });
            }
        }
        None.or_fail("no free port", "127.0.0.1", "end some programs that listen on ports 20000 to 32000")
    }

    /// One that another process has bound.
    pub(crate) fn of_another(address: SocketAddr) -> Self {
        Self { address, _claim: None, hold: None }
    }

    /// The address of the port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets another process bind it; the claim stays.
    pub(crate) fn hand_over(&mut self) {
        self.hold = None;
    }
}

fn at(number: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, number).into()
}

fn bind(number: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(at(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn a_port_that_was_handed_over_is_found_by_nobody_else() {
        let mut port = Port::find().unwrap();
        let number = port.address().port();
        assert!(bind(number).is_err());
        port.hand_over();
        assert!(bind(number + 1).is_err(), "the claim stays");
        assert!(bind(number).is_ok(), "the port can be used");
    }
}
