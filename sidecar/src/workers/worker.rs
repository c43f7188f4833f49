//! One worker: its runtime, what it owns, and its end.

use std::{
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::LocalSet,
    time::{interval, sleep, timeout},
};

use super::{Arrival, Doors, From, Load, Seat, accept};
use crate::{
    control_client::Lookups,
    inbound::{Inbound, TICK},
    local::Local,
    outbound::{Between, Outbound},
    state::Shared,
    stop::{Stop, StopSource},
};

/// How often a draining worker looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What every worker gets.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) between: Between,
    pub(crate) stop: Stop,
    /// How long calls in progress have to end after `stop`.
    pub(crate) drain: Duration,
    /// Dropped with the last worker.
    pub(crate) alive: mpsc::Sender<()>,
}

/// A worker before it runs.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) parts: Parts,
    pub(super) seats: Arc<[Seat]>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    /// Only the first worker has them.
    pub(super) doors: Option<Doors>,
}

/// The two sides of a running worker.
pub(super) struct Sides {
    pub(super) local: Rc<Local>,
    /// Ends what comes from peers.
    pub(super) stop: Stop,
    /// Ends what comes from the app.
    pub(super) outbound_stop: Stop,
    pub(super) seats: Arc<[Seat]>,
    /// Which of the seats is its own.
    pub(super) number: usize,
    pub(super) inbound: Rc<Inbound>,
    outbound: Rc<Outbound>,
}

impl Worker {
    /// Runs on this thread until it is stopped and drained.
    pub(super) fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, self.serve()));
        if let Err(error) = outcome {
            tracing::error!(%error, "a worker cannot work");
        }
    }

    async fn serve(self) -> io::Result<()> {
        let Self { number, parts, seats, mut arrivals, doors } = self;
        let Parts { shared, lookups, between, mut stop, drain, alive: _alive } = parts;
        let local = Local::new(shared);
        let (outbound_source, outbound_stop) = StopSource::new();
        let sides = Rc::new(Sides {
            inbound: Inbound::new(Rc::clone(&local)),
            outbound: Outbound::new(Rc::clone(&local), lookups, between),
            local: Rc::clone(&local),
            stop: stop.clone(),
            outbound_stop,
            seats,
            number,
        });
        if let Some(doors) = doors {
            accept::all(&sides, doors)?;
        }
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                _ = ticks.tick() => sides.inbound.tick(),
                Some(arrival) = arrivals.recv() => sides.take(arrival),
            }
        }
        // What is left after its time to drain is cut off.
        let _ = timeout(drain, sides.drained(&outbound_source)).await;
        local.log.flush();
        Ok(())
    }
}

impl Sides {
    fn take(self: &Rc<Self>, arrival: Arrival) {
        let Arrival { from, stream, load } = arrival;
        match TcpStream::from_std(stream) {
            Ok(stream) => self.carry(from, stream, load),
            Err(error) => tracing::warn!(%error, "a connection cannot be taken over"),
        }
    }

    /// Carries a connection to its end.
    pub(super) fn carry(self: &Rc<Self>, from: From, stream: TcpStream, load: Load) {
        let sides = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let _load = load;
            match from {
                From::App => Rc::clone(&sides.outbound).serve(stream, sides.outbound_stop.clone()).await,
                From::AppTo(address) => {
                    Rc::clone(&sides.outbound).serve_redirected(stream, address, sides.outbound_stop.clone()).await;
                }
                From::Peer { listen, address } => {
                    let Some(seat) = sides.seats.get(sides.number) else { return };
                    let Some(place) = sides.inbound.admit(address) else { return };
                    let permit = (seat.handshakes.acquire().await, place);
                    sides.inbound.carry(stream, (listen, address), permit).await;
                }
            }
        });
    }

    /// Lets calls in progress end: those of peers first, as the app may have to call others for them.
    async fn drained(&self, outbound: &StopSource) {
        self.inbound.close();
        while !self.inbound.is_empty() {
            sleep(LOOK_EVERY).await;
        }
        outbound.stop();
        let load = self.seats.get(self.number).map(|seat| &seat.load);
        while load.is_some_and(|load| load.load(Ordering::Relaxed) > 0) {
            sleep(LOOK_EVERY).await;
        }
    }
}
