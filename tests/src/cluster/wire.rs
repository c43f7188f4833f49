//! The wire between two nodes, as somebody sees it who taps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Cluster;

/// `ETH_P_IP` in the order of the network.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// TCP in an IP header (RFC 9293 section 3.1).
const TCP: u8 = 6;

/// From whom to whom.
type Ends = (SocketAddr, SocketAddr);
/// The bytes of segments, by where each begins in what the sender has sent.
type Segments = BTreeMap<Ends, BTreeMap<u32, Vec<u8>>>;

/// Keeps what TCP carries from pods of one node to another node, in both directions, until it is asked for that.
pub struct Tap {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Segments>>,
}

impl Tap {
    /// Begins to listen on each node to what comes from pods of the other.
    ///
    /// # Panics
    /// If the kernel does not let it, or there is one node only.
    pub fn between_nodes(of: &Cluster) -> Self {
        let [first, second] = of.nodes() else { panic!("there is no second node") };
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [[first, second], [second, first]].map(|[here, there]| {
            let (stop, there) = (stop.clone(), there.network().pod_prefix());
            let namespace = File::open(format!("/run/netns/{}", here.network().name())).unwrap();
            // A socket belongs to the namespace that it was made in, so only that is done on a thread that goes there.
            let socket = std::thread::spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let protocol = Protocol::from_raw(IPV4.try_into().unwrap());
                let family = AddressFamily::PACKET;
                socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol)).unwrap()
            });
            let socket = socket.join().unwrap();
            // It gets everything of the node, and the thread that reads it may have to wait.
            set_socket_recv_buffer_size_force(&socket, 32 << 20).unwrap();
            set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(50))).unwrap();
            std::thread::spawn(move || keep(&socket, there, &stop))
        });
        Self { stop, threads: threads.into() }
    }

    /// Ends it; what was sent, from whom to whom.
    ///
    /// # Panics
    /// If listening failed.
    pub fn heard(self) -> BTreeMap<Ends, Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.threads.into_iter().flat_map(|thread| thread.join().unwrap());
        all.map(|(ends, segments)| (ends, joined(segments))).collect()
    }
}

/// The types of the records, if these bytes are records of TLS and nothing else (RFC 8446 section 5.1).
pub fn tls_records(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut types = Vec::new();
    while let [kind @ 20..=23, 3, 1 | 3, high, low, rest @ ..] = bytes {
        types.push(*kind);
        // The last one may still be on its way.
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    bytes.is_empty().then_some(types)
}

/// What was sent, without what was sent again, and up to a hole if the tap has missed something.
fn joined(segments: BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let (mut all, mut next) = (Vec::new(), None);
    for (at, bytes) in segments {
        let Some(known) = next.unwrap_or(at).checked_sub(at) else { break };
        let new = bytes.get(usize::try_from(known).unwrap()..).unwrap_or_default();
        all.extend_from_slice(new);
        next = Some(next.unwrap_or(at) + u32::try_from(new.len()).unwrap());
    }
    all
}

/// Only what comes in is heard. From such an address it can have come only by the wire.
fn keep(socket: &OwnedFd, from: [u8; 3], stop: &AtomicBool) -> Segments {
    let (mut heard, mut packet) = (Segments::new(), vec![0; 128 * 1024]);
    while !stop.load(Ordering::Relaxed) {
        match recv(socket, &mut packet[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                if let Some((ends, at, bytes)) = segment(&packet[..length])
                    && matches!(ends.0, SocketAddr::V4(sender) if sender.ip().octets().starts_with(&from))
                {
                    let known = heard.entry(ends).or_default().entry(at).or_default();
                    if known.len() < bytes.len() {
                        *known = bytes.to_vec();
                    }
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
    heard
}

/// What a packet carries of TCP, if it does.
fn segment(packet: &[u8]) -> Option<(Ends, u32, &[u8])> {
    let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    // One that is longer than its header can say is as long as it is.
    let packet = packet.get(..length).filter(|_| length > 0).unwrap_or(packet);
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let (from, to) = (address(12)?, address(16)?);
    if *packet.get(9)? != TCP {
        return None;
    }
    let tcp = packet.get(usize::from(packet[0] & 0xf) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let at = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let bytes = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    (!bytes.is_empty()).then_some((((from, port(0)?).into(), (to, port(2)?).into()), at, bytes))
}
