//! How calls come to the sidecar, and where it listens for them.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use control::pod::{ADMIN_PORT, PROXY_PORT};
use tokio::net::TcpStream;

/// How calls come to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Interception {
    /// No pod: a listener for each port of the snapshot, and an HTTP proxy for the app.
    None,
    /// A pod with the rules of `fapi-sidecar redirect`: every TCP connection comes here by itself.
    Redirect,
    /// A pod without such rules: a listener for each port, before an app that listens on loopback, and an HTTP proxy.
    Proxy,
}

impl Interception {
    /// Where the HTTP proxy listens if no flag says so.
    pub(crate) fn proxy_address(self) -> SocketAddr {
        self.on_loopback(PROXY_PORT)
    }

    /// Where the admin server listens if no flag says so.
    pub(crate) fn admin_address(self) -> SocketAddr {
        self.on_loopback(ADMIN_PORT)
    }

    /// Outside of pods several sidecars share a machine, so the system chooses.
    fn on_loopback(self, in_pod: u16) -> SocketAddr {
        let port = if self == Self::None { 0 } else { in_pod };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// Where a connection was meant to go before it was redirected.
pub(crate) trait OriginalDestination {
    /// `None` for a connection that was made to this very port.
    fn of(&self, stream: &TcpStream) -> Option<SocketAddr>;
}

/// What the kernel's connection tracking knows.
pub(crate) struct Tracked;

impl OriginalDestination for Tracked {
    #[cfg(target_os = "linux")]
    fn of(&self, stream: &TcpStream) -> Option<SocketAddr> {
        use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
        let local = canonical(stream.local_addr().ok()?);
        let original = match local {
            SocketAddr::V4(_) => ip_original_dst(stream).map(SocketAddr::V4),
            SocketAddr::V6(_) => ipv6_original_dst(stream).map(|v6| canonical(SocketAddr::V6(v6))),
        };
        original.ok().filter(|original| *original != local)
    }

    /// Nothing redirects elsewhere.
    #[cfg(not(target_os = "linux"))]
    fn of(&self, _stream: &TcpStream) -> Option<SocketAddr> {
        None
    }
}

/// An address without what only one socket knows of it: an IPv4 address is one, whatever the socket's family.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Listens on this port of every address of the pod, of both families where there are both.
pub(crate) fn everywhere(port: u16) -> io::Result<Vec<TcpListener>> {
    both(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// Listens on this port of the loopback addresses.
pub(crate) fn inside(port: u16) -> io::Result<Vec<TcpListener>> {
    both(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// One of IPv6 may take the calls of IPv4 too, and there may be no IPv6.
fn both(v6: SocketAddr, v4: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let mut listeners = match TcpListener::bind(v6) {
        Ok(listener) => vec![listener],
        Err(error) if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => Vec::new(),
        Err(error) if error.raw_os_error() == Some(NO_SUCH_FAMILY) => Vec::new(),
        Err(error) => return Err(error),
    };
    match TcpListener::bind(v4) {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse && v6.ip().is_unspecified() && !listeners.is_empty() => {}
        Err(error) => return Err(error),
    }
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    Ok(listeners)
}

/// `EAFNOSUPPORT`: a kernel without IPv6.
const NO_SUCH_FAMILY: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_listened_on_and_an_occupied_port_is_an_error() {
        let listeners = inside(0).unwrap();
        assert!(listeners.iter().any(|listener| listener.local_addr().unwrap().is_ipv4()));
        let taken = everywhere(0).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        assert_eq!(everywhere(port).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[tokio::test]
    async fn what_was_not_redirected_has_no_original_destination() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(Tracked.of(&listener.accept().await.unwrap().0), None);
    }
}
