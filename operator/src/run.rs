//! Putting the operator together, in the order in which each part needs the one before.

mod error;
mod home;
mod parts;
mod signals;
mod uninstall;
mod webhooks;

use fapi::TrustDomain;
use tokio::net::TcpListener;

use self::error::Failure;
pub use self::error::RunError;
use self::home::Home;
use self::parts::Parts;
use self::signals::Signals;
use self::webhooks::Webhooks;
use crate::addresses::{self, Addresses};
use crate::args::{Args, SourceArg};
use crate::kubernetes;
use crate::source::{Cluster, Directory, Source};

/// The trust domain of a mesh that nobody has named.
const TRUST_DOMAIN: &str = "cluster.local";

/// Runs the operator until it is told to end.
///
/// # Errors
/// It cannot start, or one of its parts ended. The text says what to do.
pub async fn run(args: Args) -> Result<(), RunError> {
    if args.check_unused {
        return Ok(uninstall::check_unused(&args).await?);
    }
    if args.forget {
        return Ok(uninstall::forget(&args).await?);
    }
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
    /// Its lock is held for as long as anything is written there.
    _home: Home,
}

async fn start(args: &Args) -> Result<Running, Failure> {
    let home = Home::open(args).await?;
    let before = home.addresses()?;
    let source = open_source(args, &home, before.as_ref()).await?;
    home.settle(source.trust_domain())?;
    let listeners = Listeners::bind(args, &home, before.as_ref()).await?;
    let addresses = listeners.addresses(args, source.trust_domain())?;
    let parts = Parts::start(args, &home, source, listeners, &addresses)?;
    // Last: whoever finds the addresses finds an operator behind them.
    home.save(&addresses)?;
    tracing::info!(
        event = "listening",
        control = %addresses.control,
        issuer = addresses.issuer,
        admin = %addresses.admin,
        trust_domain = addresses.trust_domain
    );
    Ok(Running { parts, _home: home })
}

/// Opens the source, with the trust domain that this state has always had, if it had one.
async fn open_source(args: &Args, home: &Home, before: Option<&Addresses>) -> Result<Source, Failure> {
    let fixed = home.trust_domain(before)?;
    let otherwise = match (&args.trust_domain, &fixed) {
        (Some(asked), Some(fixed)) if asked != fixed => {
            return Err(Failure::TrustDomain { asked: asked.clone(), fixed: fixed.clone() });
        }
        (Some(asked), _) => asked.clone(),
        (None, Some(fixed)) => fixed.clone(),
        (None, None) => TrustDomain::parse(TRUST_DOMAIN).map_err(|_| Failure::State(TRUST_DOMAIN.to_owned()))?,
    };
    let source = match (&args.source, home.folder()) {
        (SourceArg::Directory(folder), Some(state)) => {
            Source::Directory(Box::new(Directory::open(folder, state, fixed, &otherwise)?))
        }
        (SourceArg::Directory(_), None) => return Err(Failure::NoState),
        (SourceArg::Kubernetes, _) => {
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
    async fn bind(args: &Args, home: &Home, before: Option<&Addresses>) -> Result<Self, Failure> {
        if args.issuer_url.is_none() && args.issuer_listen.ip().is_unspecified() {
            return Err(Failure::Unspecified(args.issuer_listen));
        }
        let issuer = before.and_then(Addresses::issuer_address);
        Ok(Self {
            control: addresses::bind(args.control_listen, before.map(|before| before.control)).await?,
            issuer: addresses::bind(args.issuer_listen, issuer).await?,
            admin: addresses::bind(args.admin_listen, before.map(|before| before.admin)).await?,
            webhooks: Webhooks::bind(args, home).await?,
        })
    }

    fn addresses(&self, args: &Args, trust_domain: &TrustDomain) -> Result<Addresses, Failure> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(Failure::Socket);
        let own = format!("https://{}", address(&self.issuer)?);
        Ok(Addresses {
            control: address(&self.control)?,
            issuer: args.issuer_url.clone().unwrap_or(own),
            admin: address(&self.admin)?,
            trust_domain: trust_domain.to_string(),
        })
    }
}

#[cfg(test)]
mod tests;
