//! Putting the process together: the control thread, the workers, the log, and their end.
//!
//! The thread that calls [`run`] becomes the control thread: control stream, certificates, tokens, admin. Workers are
//! threads of their own, and one more writes the log. They share `Shared` and wait for nothing of each other.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use control::pod::{HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::LocalSet,
    time::timeout,
};

use crate::{
    admin::Admin,
    args::{Args, ArgsError},
    bypass,
    control_client::ControlPlane,
    health::Health,
    interception::{Interception, Tracked, everywhere, inside},
    local::Local,
    log::Listener,
    small_http,
    state::{Ends, Shared},
    stop::StopSource,
    workers::{self, Doors, Parts, Redirected},
};

/// Workers end by themselves within their time to drain; nobody waits longer than this beyond it.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Why the sidecar cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A flag does not hold what it should.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// A listener of its own cannot be bound.
    #[error("{flag} {address}: cannot listen: {source}; free the address or choose another")]
    Listen {
        /// Which one.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A port of a pod that belongs to the sidecar is taken.
    #[error("port {port} of the pod: cannot listen: {source}; it is the sidecar's, let the app use another")]
    Port {
        /// Which one.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The operating system has no thread, no signal or no timer left.
    #[error("cannot start: {0}; raise the limits of processes and open files")]
    System(#[from] io::Error),
    /// The random generator of the system failed.
    #[error("the system gives no random numbers; nothing safe can be done without them")]
    Random,
    /// A thread that carries calls is gone.
    #[error("a worker ended by itself; this is a defect, please report it with what was logged before")]
    WorkerEnded,
}

/// Runs the sidecar until SIGTERM or SIGINT, and then until calls in progress have ended.
///
/// # Errors
/// See [`RunError`].
pub fn run(args: &Args) -> Result<(), RunError> {
    let trust_domain = args.trust_domain()?;
    let settings = args.settings(&trust_domain)?;
    let questions = args.questions()?;
    let (shared, Ends { new_listeners, own_calls, log_writer }) =
        Shared::new(trust_domain, args.interception).map_err(|_| RunError::Random)?;
    let log = log_writer.start(Arc::clone(&shared), io::stdout())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = ControlPlane::new(Arc::clone(&shared), settings);
    let outcome = LocalSet::new().block_on(&runtime, async {
        let signals = Signals::listen()?;
        let interception = args.interception;
        let proxy = bind("--outbound-listen", args.outbound_listen.unwrap_or(interception.proxy_address()))?;
        let admin = bind("--admin-listen", args.admin_listen.unwrap_or(interception.admin_address()))?;
        let admin = TcpListener::from_std(admin)?;
        let health = if interception == Interception::None { Vec::new() } else { on(HEALTH_PORT, everywhere)? };
        let redirected = (interception == Interception::Redirect).then(redirected).transpose()?;
        let (source, stop) = StopSource::new();
        let (alive, workers_end) = mpsc::channel(1);
        let parts = Parts {
            shared: Arc::clone(&shared),
            lookups: control.lookups(),
            between: args.between,
            stop: stop.clone(),
            drain: args.drain(),
            alive,
        };
        workers::start(&parts, Doors { new_listeners, own_calls, proxy, redirected }, args.workers)?;
        drop(parts);
        let local = Local::new(Arc::clone(&shared));
        local.log.listening(Listener::Admin, admin.local_addr()?);
        if interception == Interception::Proxy {
            tokio::task::spawn_local(bypass::watch(Arc::clone(&shared)));
        }
        let answers = Health { shared: Arc::clone(&shared), stop: stop.clone(), questions, interception };
        let answers = Rc::new(answers);
        for listener in health {
            let listener = TcpListener::from_std(listener)?;
            local.log.listening(Listener::Health, listener.local_addr()?);
            tokio::task::spawn_local(small_http::serve(listener, Rc::clone(&answers)));
        }
        let answers = Rc::new(Admin { shared: Arc::clone(&shared), stop });
        let outcome = tokio::select! {
            outcome = until_end(signals, source, workers_end, args.drain() + END_WITHIN) => outcome,
            () = control.run() => Ok(()),
            () = small_http::serve(admin, answers) => Ok(()),
        };
        local.log.flush();
        outcome
    });
    shared.log.close();
    // It writes what is queued; if nobody reads our output, that may never end, and nobody is interested.
    drop(shared);
    let _ = log.join();
    outcome
}

/// Waits for a signal, tells the workers to stop, and waits for them.
async fn until_end(
    mut signals: Signals,
    source: StopSource,
    mut workers_end: mpsc::Receiver<()>,
    longest: Duration,
) -> Result<(), RunError> {
    tokio::select! {
        () = signals.received() => {}
        _ = workers_end.recv() => return Err(RunError::WorkerEnded),
    }
    tracing::info!("ending: calls in progress are finished, new ones are not taken");
    source.stop();
    tokio::select! {
        _ = timeout(longest, workers_end.recv()) => {}
        // Whoever asks twice does not want to wait.
        () = signals.received() => {}
    }
    Ok(())
}

/// Where redirected connections come in.
fn redirected() -> Result<Redirected, RunError> {
    let (inbound, outbound) = (on(INBOUND_PORT, everywhere)?, on(OUTBOUND_PORT, inside)?);
    Ok(Redirected { inbound, outbound, original: Box::new(Tracked) })
}

/// Listens on a port of the pod that belongs to the sidecar.
fn on(
    port: u16,
    listen: fn(u16) -> io::Result<Vec<std::net::TcpListener>>,
) -> Result<Vec<std::net::TcpListener>, RunError> {
    listen(port).map_err(|source| RunError::Port { port, source })
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, RunError> {
    let bound = std::net::TcpListener::bind(address);
    let listener = bound.map_err(|source| RunError::Listen { flag, address, source })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
