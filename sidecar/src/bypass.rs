//! Whether the app can be reached past its sidecar. Without rules in the kernel nothing forces its callers here, so the app must
//! listen on loopback alone; this looks whether it does.

use std::{
    collections::HashSet,
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::interval;

use crate::state::Shared;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// `TCP_LISTEN`, as the kernel's tables have it.
const LISTEN: &str = "0A";

/// Whether the app can be reached past its sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Bypass {
    /// It cannot.
    #[default]
    Closed,
    /// Nobody has been able to look.
    Unknown,
    /// Through these sockets, ordered.
    Open(Vec<SocketAddr>),
}

/// Looks at the listening sockets of the pod, now and then on and on.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let found = look().unwrap_or_else(|error| {
            tracing::error!(%error, "the sockets of the pod cannot be listed, so nobody knows whether the app is guarded");
            Bypass::Unknown
        });
        if shared.set_bypass(found.clone())
            && let Bypass::Open(sockets) = found
        {
            tracing::error!(
                ?sockets,
                "InboundBypass: callers reach the app past the sidecar; let it listen on 127.0.0.1"
            );
        }
    }
}

fn look() -> io::Result<Bypass> {
    let own = own_sockets()?;
    let v4 = fs::read_to_string("/proc/net/tcp")?;
    let v6 = match fs::read_to_string("/proc/net/tcp6") {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let mut open: Vec<SocketAddr> = [v4, v6]
        .iter()
        .flat_map(|table| listening(table))
        .filter(|socket| is_open(socket, &own))
        .map(|socket| socket.address)
        .collect();
    open.sort_unstable();
    open.dedup();
    Ok(if open.is_empty() { Bypass::Closed } else { Bypass::Open(open) })
}

/// A listening socket of the network namespace.
#[derive(Debug, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

fn is_open(socket: &Listening, own: &HashSet<u64>) -> bool {
    !socket.address.ip().is_loopback() && !own.contains(&socket.inode)
}

/// The sockets of this process, by inode: no other process can have one of them by chance.
fn own_sockets() -> io::Result<HashSet<u64>> {
    let links = fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Ok(links.filter_map(inode).collect())
}

/// The listening sockets in a table of the kernel (proc(5), `/proc/net/tcp`).
fn listening(table: &str) -> impl Iterator<Item = Listening> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        if state != LISTEN {
            return None;
        }
        let inode = fields.nth(5)?.parse().ok()?;
        Some(Listening { address: address(local)?, inode })
    })
}

/// Words of four bytes in the order of this machine, then the port as a number; all hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0\n   \
        1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0\n   \
        2: 0200630A:1F92 0100630A:D431 01 00000000:00000000 00:00000000 00000000     0        0 103 1 0 20 4 30 10 -1\n";
    const V6: &str = "  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n   \
        0: 00000000000000000000000001000000:1F93 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
        00000000     0        0 104 1 0 100 0 0 10 0\n   \
        1: 0000000000000000FFFF00000100007F:1F94 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
        00000000     0        0 105 1 0 100 0 0 10 0\n   \
        2: 00000000000000000000000000000000:1F95 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
        00000000     0        0 106 1 0 100 0 0 10 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn what_listens_beyond_loopback_is_open_unless_it_is_our_own() {
        let found = |own: &[u64]| -> Vec<String> {
            let own = own.iter().copied().collect();
            let all = listening(V4).chain(listening(V6));
            all.filter(|socket| is_open(socket, &own)).map(|socket| socket.address.to_string()).collect()
        };
        assert_eq!(found(&[]), ["0.0.0.0:8080", "[::]:8085"]);
        assert_eq!(found(&[101, 102]), ["[::]:8085"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_tables_of_this_machine_are_read() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let found = listening(&table).find(|socket| socket.address == address).unwrap();
        assert!(own_sockets().unwrap().contains(&found.inode));
        assert!(is_open(&found, &HashSet::new()));
        if let Bypass::Open(sockets) = look().unwrap() {
            assert!(!sockets.contains(&address), "our own");
        }
    }
}
