//! Where this operator listens, remembered so that a restart comes back at the same place.
//!
//! Sidecars are told an address once, and the issuer's address is part of every token: both must outlive
//! the process. `addresses.json` also tells people and tools where to look.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::crypto;
use crate::files::{self, FileError};

/// How long a listener waits for an address that the process before it may still be leaving.
const TAKE_OVER: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);
/// Chosen below the ports that the kernel lends to outgoing connections (32768 and up): one of those
/// could sit on our port while we are away.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
const PORT_ATTEMPTS: usize = 64;
const FORGET: &str = " (or remove addresses.json to choose a new port)";

/// The content of `STATE/addresses.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// The control server.
    pub(crate) control: SocketAddr,
    /// The issuer identifier: `https://` and the address or another name of it, nothing after it.
    pub(crate) issuer: String,
    /// Probes, metrics and state for people.
    pub(crate) admin: SocketAddr,
    /// The trust domain that this state belongs to; it never changes.
    pub(crate) trust_domain: String,
}

/// Why an address cannot be used; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is there, but is not what the operator writes.
    #[error("{} is damaged: {detail}; remove it to choose new addresses (sidecars must then be told the new ones)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The address is in use or not ours.
    #[error("cannot listen on {address}: {source}; end the process that uses it, or give another address{hint}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The answer of the operating system.
        source: io::Error,
        /// What else would help.
        hint: &'static str,
    },
}

impl Addresses {
    /// Reads the addresses of the process before; `None` at the first start.
    pub(crate) fn load(state: &Path) -> Result<Option<Self>, AddressError> {
        let path = file(state);
        let Some(bytes) = files::read_optional(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| AddressError::Damaged { path, detail: error.to_string() })
    }

    /// Writes the addresses; call it once everything listens.
    pub(crate) fn save(&self, state: &Path) -> Result<(), AddressError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| AddressError::Damaged { path: file(state), detail: error.to_string() })?;
        text.push(b'\n');
        Ok(files::replace(&file(state), &text, files::PUBLIC)?)
    }

    /// The socket address inside the issuer identifier.
    pub(crate) fn issuer_address(&self) -> Option<SocketAddr> {
        self.issuer.strip_prefix("https://")?.parse().ok()
    }
}

/// The host of an issuer identifier.
pub(crate) fn host(issuer: &str) -> &str {
    let authority = issuer.strip_prefix("https://").unwrap_or(issuer);
    if let Some((host, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn file(state: &Path) -> PathBuf {
    state.join("addresses.json")
}

/// Listens on `asked`. Port 0 means: the port of `before` if its host is the same, else a free one.
/// A remembered port that someone else holds is an error, never silently another port.
pub(crate) async fn bind(asked: SocketAddr, before: Option<SocketAddr>) -> Result<TcpListener, AddressError> {
    if asked.port() != 0 {
        return take(asked, TAKE_OVER, "").await;
    }
    match before.filter(|before| before.ip() == asked.ip() && before.port() != 0) {
        Some(before) => take(before, TAKE_OVER, FORGET).await,
        None => free(asked.ip()).await,
    }
}

async fn take(address: SocketAddr, patience: Duration, hint: &'static str) -> Result<TcpListener, AddressError> {
    let attempts = patience.as_millis() / RETRY.as_millis();
    for _ in 0..attempts {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(RETRY).await,
            other => return other.map_err(|source| AddressError::Bind { address, source, hint }),
        }
    }
    let source = io::ErrorKind::AddrInUse.into();
    Err(AddressError::Bind { address, source, hint })
}

async fn free(host: IpAddr) -> Result<TcpListener, AddressError> {
    for _ in 0..PORT_ATTEMPTS {
        let address = SocketAddr::new(host, random_port());
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(AddressError::Bind { address, source, hint: "" }),
        }
    }
    take(SocketAddr::new(host, 0), TAKE_OVER, "").await
}

fn random_port() -> u16 {
    let [high, low] = crypto::random();
    PORTS.start + u16::from_be_bytes([high, low]) % (PORTS.end - PORTS.start)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn a_free_port_is_found_and_taken_again() {
        let first = bind(loopback(0), None).await.unwrap();
        let address = first.local_addr().unwrap();
        assert!(PORTS.contains(&address.port()));
        drop(first);
        let second = bind(loopback(0), Some(address)).await.unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_remembered_port_that_is_taken_is_an_error() {
        let other = bind(loopback(0), None).await.unwrap();
        let error = take(other.local_addr().unwrap(), RETRY, FORGET).await.unwrap_err();
        assert!(matches!(error, AddressError::Bind { .. }));
        assert!(error.to_string().contains("addresses.json"), "{error}");
    }

    #[test]
    fn is_remembered_and_damage_is_named() {
        let dir = TempDir::new();
        assert_eq!(Addresses::load(dir.path()).unwrap(), None);
        let addresses = Addresses {
            control: loopback(1),
            issuer: "https://127.0.0.1:2".into(),
            admin: loopback(3),
            trust_domain: "bank.example".into(),
        };
        addresses.save(dir.path()).unwrap();
        assert_eq!(Addresses::load(dir.path()).unwrap(), Some(addresses.clone()));
        assert_eq!(addresses.issuer_address(), Some(loopback(2)));
        let hosts = ["https://127.0.0.1:2", "https://[fd00::1]:8443", "https://a.example"].map(host);
        assert_eq!(hosts, ["127.0.0.1", "fd00::1", "a.example"]);

        std::fs::write(dir.path().join("addresses.json"), "{").unwrap();
        let error = Addresses::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("addresses.json") && error.contains("remove it"), "{error}");
    }
}
