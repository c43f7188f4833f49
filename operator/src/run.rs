//! Putting the operator together, in the order in which each part needs the one before.

mod error;
mod parts;
mod signals;
mod webhooks;

use std::fs::File;
use std::path::Path;

use fapi::TrustDomain;
use tokio::net::TcpListener;

use self::error::Failure;
pub use self::error::RunError;
use self::parts::Parts;
use self::signals::Signals;
use self::webhooks::Webhooks;
use crate::addresses::{self, Addresses};
use crate::args::{Args, SourceArg};
use crate::files::{self, FileError};
use crate::kubernetes;
use crate::source::{Cluster, Directory, Source};

/// The trust domain of a mesh that nobody has named.
const TRUST_DOMAIN: &str = "cluster.local";

/// Runs the operator until it is told to end.
///
/// # Errors
/// It cannot start, or one of its parts ended. The text says what to do.
pub async fn run(args: Args) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let mut running = tokio::select! {
        started = start(&args) => started?,
        // It may wait for an address that the process before it is leaving.
        () = signals.end() => return Ok(()),
    };
    let renew = running.parts.renewal();
    let outcome = tokio::select! {
        () = signals.end_or_renew(&renew) => Ok(()),
        failure = running.parts.ended() => Err(failure.into()),
    };
    running.parts.end().await;
    outcome
}

/// An operator that serves.
struct Running {
    parts: Parts,
    /// Held for as long as anything writes into the state folder.
    _lock: File,
}

async fn start(args: &Args) -> Result<Running, Failure> {
    files::private_folder(&args.state)?;
    let lock = lock(&args.state)?;
    let before = Addresses::load(&args.state)?;
    let source = open_source(args, before.as_ref()).await?;
    let listeners = Listeners::bind(args, before.as_ref()).await?;
    let addresses = listeners.addresses(source.trust_domain())?;
    let parts = Parts::start(args, source, listeners, &addresses)?;
    // Last: whoever finds the addresses finds an operator behind them.
    addresses.save(&args.state)?;
    tracing::info!(
        event = "listening",
        control = %addresses.control,
        issuer = addresses.issuer,
        admin = %addresses.admin,
        trust_domain = addresses.trust_domain
    );
    Ok(Running { parts, _lock: lock })
}

/// One operator for one state folder.
fn lock(state: &Path) -> Result<File, Failure> {
    let path = state.join("operator.lock");
    // Nothing stands in it, so nothing is lost by opening that of another operator.
    let file = File::create(&path).map_err(FileError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::InUse(state.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(FileError::io("lock", &path)(source).into()),
    }
}

/// Opens the source, with the trust domain that this state has always had, if it had one.
async fn open_source(args: &Args, before: Option<&Addresses>) -> Result<Source, Failure> {
    let parse = |text: &str| TrustDomain::parse(text).map_err(|_| Failure::State(text.to_owned()));
    let fixed = before.map(|before| parse(&before.trust_domain)).transpose()?;
    let otherwise = match (&args.trust_domain, &fixed) {
        (Some(asked), Some(fixed)) if asked != fixed => {
            return Err(Failure::TrustDomain { asked: asked.clone(), fixed: fixed.clone() });
        }
        (Some(asked), _) => asked.clone(),
        (None, Some(fixed)) => fixed.clone(),
        (None, None) => parse(TRUST_DOMAIN)?,
    };
    let source = match &args.source {
        SourceArg::Directory(folder) => {
            Source::Directory(Box::new(Directory::open(folder, &args.state, fixed, &otherwise)?))
        }
        SourceArg::Kubernetes => {
            let client = kubernetes::client().await?;
            Source::Cluster(Box::new(Cluster::open(client, fixed, &otherwise).await?))
        }
    };
    match &args.trust_domain {
        Some(asked) if asked != source.trust_domain() => {
            Err(Failure::TrustDomain { asked: asked.clone(), fixed: source.trust_domain().clone() })
        }
        _ => Ok(source),
    }
}

/// The bound sockets. Nothing is answered on them before everything is ready.
struct Listeners {
    control: TcpListener,
    issuer: TcpListener,
    admin: TcpListener,
    webhooks: Option<Webhooks>,
}

impl Listeners {
    async fn bind(args: &Args, before: Option<&Addresses>) -> Result<Self, Failure> {
        if args.issuer_listen.ip().is_unspecified() {
            return Err(Failure::Unspecified(args.issuer_listen));
        }
        let issuer = before.and_then(Addresses::issuer_address);
        Ok(Self {
            control: addresses::bind(args.control_listen, before.map(|before| before.control)).await?,
            issuer: addresses::bind(args.issuer_listen, issuer).await?,
            admin: addresses::bind(args.admin_listen, before.map(|before| before.admin)).await?,
            webhooks: Webhooks::bind(args).await?,
        })
    }

    fn addresses(&self, trust_domain: &TrustDomain) -> Result<Addresses, Failure> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(Failure::Socket);
        Ok(Addresses {
            control: address(&self.control)?,
            issuer: format!("https://{}", address(&self.issuer)?),
            admin: address(&self.admin)?,
            trust_domain: trust_domain.to_string(),
        })
    }
}

#[cfg(test)]
mod tests;
