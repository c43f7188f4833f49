//! Accepting, on the first worker.

use std::{io, net::SocketAddr, rc::Rc, sync::atomic::Ordering, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{Arrival, Doors, From, Load, MAX_CONNECTIONS, worker::Sides};
use crate::{log::Listener, state::NewListener};

/// After a failure to accept, such as too many open files, others may end first.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts from the app's door now, and from every port of every snapshot as it comes.
pub(super) fn all(sides: &Rc<Sides>, doors: Doors) -> io::Result<()> {
    let Doors { mut new_listeners, outbound } = doors;
    let outbound = TcpListener::from_std(outbound)?;
    sides.local.log.listening(Listener::Outbound, outbound.local_addr()?);
    // An app that finishes what it has begun may have to call for it, so this door closes last.
    let mut end = sides.outbound_stop.clone();
    tokio::task::spawn_local(accept(Rc::clone(sides), outbound, async move { end.stopped().await }, |_| From::App));
    let sides = Rc::clone(sides);
    tokio::task::spawn_local(async move {
        while let Some(new) = new_listeners.recv().await {
            open(&sides, new);
        }
    });
    Ok(())
}

fn open(sides: &Rc<Sides>, new: NewListener) {
    let NewListener { listen, socket, mut closed } = new;
    let mut stop = sides.stop.clone();
    let end = async move {
        tokio::select! {
            () = stop.stopped() => {}
            () = closed.stopped() => {}
        }
    };
    match TcpListener::from_std(socket) {
        Ok(listener) => {
            sides.local.log.listening(Listener::Inbound, listen);
            let peer = move |address| From::Peer { listen, address };
            tokio::task::spawn_local(accept(Rc::clone(sides), listener, end, peer));
        }
        Err(error) => tracing::error!(%listen, %error, "cannot accept calls on a port"),
    }
}

async fn accept<E: Future<Output = ()>>(
    sides: Rc<Sides>,
    listener: TcpListener,
    end: E,
    from: impl Fn(SocketAddr) -> From,
) {
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => hand_over(&sides, from(address), stream).await,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; check the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Gives a connection to the worker that carries least.
async fn hand_over(sides: &Rc<Sides>, from: From, stream: TcpStream) {
    let by_load = sides.seats.iter().enumerate().min_by_key(|(_, seat)| seat.load.load(Ordering::Relaxed));
    let Some((number, seat)) = by_load else { return };
    if seat.load.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
        tracing::warn!("a connection is closed at once: there are {MAX_CONNECTIONS} on every worker already");
        return;
    }
    if let From::Peer { .. } = from {
        // Only for room, not for the handshake: what comes next waits in the backlog meanwhile.
        drop(seat.handshakes.acquire().await);
    }
    let load = Load::enter(&seat.load);
    if number == sides.number {
        sides.carry(from, stream, load);
    } else if let Ok(stream) = stream.into_std() {
        // Its thread is gone only at the end of the process.
        let _ = seat.arrivals.send(Arrival { from, stream, load }).await;
    }
}
