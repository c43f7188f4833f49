//! Accepting, on the first worker.

use std::{io, net::SocketAddr, rc::Rc, sync::atomic::Ordering, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{Arrival, Doors, From, Load, Redirected, worker::Sides};
use crate::{
    interception::canonical,
    log::Listener,
    state::{NewListener, OwnCall},
};

/// After a failure to accept, such as too many open files, others may end first.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts from the doors of a pod now, and from every port of every snapshot as it comes.
pub(super) fn all(sides: &Rc<Sides>, doors: Doors) -> io::Result<()> {
    let Doors { mut new_listeners, mut own_calls, proxy, redirected } = doors;
    from_app(sides, proxy, |_, _| Some(From::App))?;
    if let Some(redirected) = redirected {
        from_redirect(sides, redirected)?;
    }
    let (sides, again) = (Rc::clone(sides), Rc::clone(sides));
    tokio::task::spawn_local(async move {
        while let Some(OwnCall { listen, stream }) = own_calls.recv().await {
            let Ok(address) = stream.peer_addr() else { continue };
            hand_over(&again, From::Peer { listen, address }, stream).await;
        }
    });
    tokio::task::spawn_local(async move {
        while let Some(new) = new_listeners.recv().await {
            open(&sides, new);
        }
    });
    Ok(())
}

fn from_app(
    sides: &Rc<Sides>,
    listener: std::net::TcpListener,
    from: impl Fn(&TcpStream, SocketAddr) -> Option<From> + 'static,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    sides.local.log.listening(Listener::Outbound, listener.local_addr()?);
    // An app that finishes what it has begun may have to call for it, so this door closes last.
    let mut end = sides.outbound_stop.clone();
    tokio::task::spawn_local(accept(Rc::clone(sides), listener, async move { end.stopped().await }, from));
    Ok(())
}

fn from_redirect(sides: &Rc<Sides>, redirected: Redirected) -> io::Result<()> {
    let Redirected { inbound, outbound, original } = redirected;
    let original = Rc::new(original);
    for listener in outbound {
        let original = Rc::clone(&original);
        // Whoever dials this port itself wants nothing that could be given.
        from_app(sides, listener, move |stream, _| original.of(stream).map(From::AppTo))?;
    }
    for listener in inbound {
        let listener = TcpListener::from_std(listener)?;
        sides.local.log.listening(Listener::Inbound, listener.local_addr()?);
        let (mut end, original, inbound) = (sides.stop.clone(), Rc::clone(&original), Rc::clone(&sides.inbound));
        let from = move |stream: &TcpStream, address| {
            let address = canonical(address);
            let listen = original.of(stream);
            if listen.is_none() {
                inbound.refuse_direct(address);
            }
            listen.map(|listen| From::Peer { listen, address })
        };
        tokio::task::spawn_local(accept(Rc::clone(sides), listener, async move { end.stopped().await }, from));
    }
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
            let peer = move |_: &TcpStream, address| Some(From::Peer { listen, address });
            tokio::task::spawn_local(accept(Rc::clone(sides), listener, end, peer));
        }
        Err(error) => tracing::error!(%listen, %error, "cannot accept calls on a port"),
    }
}

async fn accept<E: Future<Output = ()>>(
    sides: Rc<Sides>,
    listener: TcpListener,
    end: E,
    from: impl Fn(&TcpStream, SocketAddr) -> Option<From>,
) {
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                // Dropped, a connection is closed.
                if let Some(from) = from(&stream, address) {
                    hand_over(&sides, from, stream).await;
                }
            }
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
    let load = seat.load.load(Ordering::Relaxed);
    if !from.fits(load) {
        tracing::warn!("a connection is closed at once: there are {load} on every worker already");
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
