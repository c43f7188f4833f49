//! Sockets of the inbound ports: bound on the control thread, where failing can still refuse a snapshot; accepted from
//! on a worker.

use std::{
    collections::{HashMap, HashSet},
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    interception::Interception,
    stop::{Stop, StopSource},
};

/// A socket to accept from until `closed`.
#[derive(Debug)]
pub(crate) struct NewListener {
    /// The address as the snapshot names it: the key of the port.
    pub(crate) listen: SocketAddr,
    /// Listening and non-blocking.
    pub(crate) socket: TcpListener,
    /// Comes when a snapshot no longer has the port.
    pub(crate) closed: Stop,
}

/// Sockets that may wait for a worker to accept from them: more than one snapshot has.
const QUEUE: usize = 512;

/// The bound ports.
#[derive(Debug)]
pub(super) struct Listeners {
    interception: Interception,
    open: Mutex<HashMap<SocketAddr, StopSource>>,
    new: Sender<NewListener>,
}

/// Sockets of a snapshot that is about to be in force.
#[derive(Debug)]
pub(super) struct Bound {
    wanted: HashSet<SocketAddr>,
    fresh: Vec<(SocketAddr, TcpListener)>,
}

impl Listeners {
    pub(super) fn new(interception: Interception) -> (Self, Receiver<NewListener>) {
        let (new, receiver) = channel(QUEUE);
        (Self { interception, open: Mutex::default(), new }, receiver)
    }

    /// Binds what is not bound yet. Dropping the result unbinds again.
    pub(super) fn bind(&self, wanted: impl Iterator<Item = SocketAddr>) -> Result<Bound, String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // What is redirected comes by one door, which is open before any snapshot.
        let wanted = if self.interception == Interception::Redirect { HashSet::new() } else { wanted.collect() };
        let mut bound = Bound { wanted, fresh: Vec::new() };
        let mut problems = Vec::new();
        for &listen in bound.wanted.iter().filter(|listen| !open.contains_key(listen)) {
            match listen_on(listen) {
                Ok(socket) => bound.fresh.push((listen, socket)),
                Err(error) => {
                    problems.push(format!("cannot listen on {listen}: {error}; free the address or change it"));
                }
            }
        }
        // Only the control thread sends, so the room that is seen here is there when it is needed.
        if self.new.capacity() < bound.fresh.len() {
            problems
                .push("the workers have not taken the listeners of earlier snapshots yet; send it again".to_owned());
        }
        if problems.is_empty() { Ok(bound) } else { Err(problems.join("; ")) }
    }

    /// Hands fresh sockets to the workers and closes those no longer wanted.
    pub(super) fn publish(&self, bound: Bound) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping its source closes a listener.
        open.retain(|listen, _| bound.wanted.contains(listen));
        for (listen, socket) in bound.fresh {
            let (source, closed) = StopSource::new();
            open.insert(listen, source);
            // Room was checked: it fails only when the workers are gone, at the end of the process.
            let _ = self.new.try_send(NewListener { listen, socket, closed });
        }
    }
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
