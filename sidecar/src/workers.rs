//! The threads that carry calls, and how connections find their way to them.
//!
//! Each worker is a runtime of its own on a thread of its own. The first one accepts; a connection goes to whichever
//! carries least, and stays there. Only a bounded number of handshakes is in progress on a worker: further connections
//! wait in the backlog of the socket.

mod accept;
mod worker;

pub(crate) use worker::Parts;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{Semaphore, mpsc};
use worker::Worker;

use crate::{
    inbound::HANDSHAKES,
    interception::OriginalDestination,
    state::{NewListener, OwnCall},
};

/// Connections on one worker, from peers and from the app.
const MAX_CONNECTIONS: usize = 8192;
/// What peers leave of them to the app, whose calls must not depend on who calls it.
const OF_APP: usize = MAX_CONNECTIONS / 8;
/// Connections on their way to another thread.
const QUEUE: usize = 128;

/// A connection that has not been looked at, for the worker that will carry it.
struct Arrival {
    from: From,
    stream: std::net::TcpStream,
    load: Load,
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy)]
enum From {
    /// The other end, and the port that it wants.
    Peer { listen: SocketAddr, address: SocketAddr },
    /// To the HTTP proxy.
    App,
    /// Redirected; it was meant to go there.
    AppTo(SocketAddr),
}

impl From {
    /// Whether a worker with this load takes one more.
    fn fits(self, load: usize) -> bool {
        let most = match self {
            Self::Peer { .. } => MAX_CONNECTIONS - OF_APP,
            Self::App | Self::AppTo(_) => MAX_CONNECTIONS,
        };
        load < most
    }
}

/// One connection in the load of a worker, until it is dropped.
#[derive(Debug)]
struct Load(Arc<AtomicUsize>);

impl Load {
    fn enter(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A worker as the accepting one sees it.
struct Seat {
    load: Arc<AtomicUsize>,
    handshakes: Arc<Semaphore>,
    arrivals: mpsc::Sender<Arrival>,
}

/// What comes in: sockets that only the first worker accepts from.
pub(crate) struct Doors {
    pub(crate) new_listeners: mpsc::Receiver<NewListener>,
    /// What the app calls of its own pod.
    pub(crate) own_calls: mpsc::Receiver<OwnCall>,
    /// The app's HTTP proxy.
    pub(crate) proxy: TcpListener,
    pub(crate) redirected: Option<Redirected>,
}

/// Where redirected connections come in.
pub(crate) struct Redirected {
    /// Those of peers.
    pub(crate) inbound: Vec<TcpListener>,
    /// Those of the app.
    pub(crate) outbound: Vec<TcpListener>,
    /// Tells where they were meant to go.
    pub(crate) original: Box<dyn OriginalDestination + Send>,
}

/// Starts `count` workers. Each ends by itself after [`Parts::stop`], its calls ended or its time to drain over; the last
/// drops [`Parts::alive`].
///
/// # Errors
/// The operating system gives no thread.
pub(crate) fn start(parts: &Parts, doors: Doors, count: u16) -> io::Result<()> {
    let (seats, receivers): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| seat()).unzip();
    let seats: Arc<[Seat]> = seats.into();
    let mut doors = Some(doors);
    for (number, arrivals) in receivers.into_iter().enumerate() {
        let worker = Worker { number, parts: parts.clone(), seats: Arc::clone(&seats), arrivals, doors: doors.take() };
        let builder = std::thread::Builder::new().name(format!("worker-{number}"));
        builder.spawn(move || worker.run())?;
    }
    Ok(())
}

fn seat() -> (Seat, mpsc::Receiver<Arrival>) {
    let (arrivals, receiver) = mpsc::channel(QUEUE);
    (Seat { load: Arc::default(), handshakes: Arc::new(Semaphore::new(HANDSHAKES)), arrivals }, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_leave_room_for_the_app() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = From::Peer { listen: address, address };
        let first = (0..=MAX_CONNECTIONS).find(|load| !peer.fits(*load)).unwrap_or_default();
        assert!(first > 0 && [From::App, From::AppTo(address)].iter().all(|app| app.fits(first + OF_APP / 2)));
        assert!(!From::App.fits(MAX_CONNECTIONS));
    }
}
