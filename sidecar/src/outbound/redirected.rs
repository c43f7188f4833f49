//! What the app sent somewhere and the kernel brought here: where it was meant to go decides what becomes of it.
//!
//! What the operator says is not in the mesh passes as it is, whatever protocol it speaks, unless the mesh refuses it. To the mesh only plain HTTP goes,
//! as only HTTP can carry a token; everything else is refused, and so is what does not show in time what it is. A port that
//! is declared to take no HTTP gets whatever comes, over mutual TLS: its side decides by the certificate.

use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fapi::Rejection;
use http::{
    Method, Request, Uri,
    header::HOST,
    uri::{Authority, Scheme},
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Outbound, balance,
    call::Told,
    connect,
    failure::Failure,
    peer::Peer,
    target::{Target, View},
};
use crate::{
    control_client::{DestinationCell, destination::Resolved, dial},
    detect::{Begins, peeked},
    stop::Stop,
    tunnel,
};

/// An app that speaks HTTP has sent its first line by then.
const FIRST_LINE_WITHIN: Duration = Duration::from_secs(10);
/// Both sides of what is not in the mesh may be silent for this long: pools of databases are.
const SILENT_FOR: Duration = Duration::from_secs(2 * 3600);

/// How a connection of the app came here.
#[derive(Clone)]
pub(super) enum Via {
    /// To the HTTP proxy: each request names its destination.
    Proxy,
    /// Redirected: all of its requests go to one place.
    Redirected(Rc<Redirected>),
}

/// A redirected connection that speaks HTTP.
pub(super) struct Redirected {
    /// Where it was meant to go.
    address: SocketAddr,
    /// The target of its last request; nearly always that of the next one.
    last: RefCell<Option<Rc<Target>>>,
}

/// The address that the app dialled for a target.
pub(super) struct Dialled {
    pub(super) address: SocketAddr,
    /// What the `Host` of its requests stands for, once the address alone does not tell.
    by_name: OnceCell<Arc<DestinationCell>>,
}

impl Via {
    /// Where a request was to go, for people.
    pub(super) fn destination<'a>(&self, uri: &'a Uri) -> Option<Cow<'a, str>> {
        match self {
            Self::Proxy => uri.authority().map(|authority| authority.as_str().into()),
            Self::Redirected(redirected) => Some(redirected.address.to_string().into()),
        }
    }
}

impl Outbound {
    /// Serves a connection of the app that was meant to go to `address`, until it ends.
    pub(crate) async fn serve_redirected(self: Rc<Self>, stream: TcpStream, address: SocketAddr, stop: Stop) {
        let shared = self.local.shared.clone();
        let _open = shared.metrics.outbound_connections.enter();
        // Without it small answers wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        let cell = match self.destination_at(address).await {
            Ok(cell) => cell,
            Err(rejection) => return self.refuse(rejection.into(), address),
        };
        if is_unmeshed(cell.get().as_deref()) {
            return self.pass(stream, address, &cell).await;
        }
        if is_opaque(cell.get().as_deref()) {
            return match self.pass_to_peer(stream, &cell).await {
                Ok(()) => {}
                Err(failure) => self.refuse(failure, address),
            };
        }
        let via = Via::Redirected(Rc::new(Redirected { address, last: RefCell::default() }));
        match timeout(FIRST_LINE_WITHIN, peeked(&stream)).await {
            Ok(Some(Begins::Http1)) => self.serve_http1(stream, via, stop).await,
            Ok(Some(Begins::Http2)) => self.serve_http2(stream, via, stop).await,
            // It was closed before it said anything.
            Ok(None) => {}
            Ok(Some(Begins::Other | Begins::Unsure)) | Err(_) => {
                let refused = matches!(cell.get().as_deref(), Some(Resolved::Refused));
                let why = if refused { Rejection::DestinationUnmeshed } else { Rejection::OpaqueNotAllowed };
                self.refuse(why.into(), address);
            }
        }
    }

    /// The place of the operator's answer about an address, with an answer in it.
    async fn destination_at(&self, address: SocketAddr) -> Result<Arc<DestinationCell>, Rejection> {
        let cell = self.lookups.cell(&address.to_string())?;
        if cell.get().is_none() {
            let answered = cell.wait().await;
            let attempts = &self.local.shared.metrics.lookups;
            if answered.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
            answered?;
        }
        Ok(cell)
    }

    /// Joins the app with what is not in the mesh, for as long as it is not.
    async fn pass(&self, stream: TcpStream, address: SocketAddr, cell: &DestinationCell) {
        self.local.shared.metrics.unmeshed.add(1);
        match dial::tcp(address).await {
            Ok(there) => tokio::select! {
                () = tunnel::join_within(SILENT_FOR, stream, there) => {}
                () = cell.until(|resolved| !is_unmeshed(resolved)) => {
                    tracing::warn!(%address, "a destination is not called in plaintext any more: the connection to it is closed");
                }
            },
            Err(error) => tracing::debug!(%error, "no connection to what is not in the mesh"),
        }
    }

    /// Joins the app with a pod of the mesh that takes no HTTP, over mutual TLS, for as long as it takes none.
    async fn pass_to_peer(&self, stream: TcpStream, cell: &DestinationCell) -> Result<(), Failure> {
        let own = self.own()?;
        let mut peers: Vec<Rc<Peer>> = match cell.get().as_deref() {
            Some(Resolved::Meshed(meshed)) => {
                meshed.endpoints.iter().map(|at| self.peer(at.address, Some(&at.spiffe_id))).collect()
            }
            _ => Vec::new(),
        };
        let shared = &self.local.shared;
        loop {
            let Some(peer) = balance::pick(&peers, self.random(), None).cloned() else {
                return Err(Failure::Rejected(Rejection::DestinationUnknown));
            };
            match connect::opaque(shared, &peer, &own).await {
                Ok(there) => {
                    peer.load.begin();
                    let joined = tunnel::join_within(SILENT_FOR, stream, there.stream);
                    tokio::select! {
                        () = connect::until_end(shared, &there.life, joined) => {}
                        () = cell.until(|resolved| !is_opaque(resolved)) => {}
                    }
                    peer.load.end();
                    return Ok(());
                }
                Err(Failure::Unreachable) if peers.len() > 1 => peers.retain(|other| !Rc::ptr_eq(other, &peer)),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Tells of a connection that is closed without a word.
    fn refuse(&self, failure: Failure, address: SocketAddr) {
        let told = Told { destination: Some(&address.to_string()), ..Told::default() };
        self.record(&failure, &told);
    }

    /// The target of a request: the address that its connection was meant for.
    pub(super) fn target_of<T>(&self, redirected: &Redirected, request: &Request<T>) -> Result<Rc<Target>, Failure> {
        if let Some(last) = redirected.last.borrow().as_ref().filter(|last| is_for(request, last)) {
            last.used();
            return Ok(Rc::clone(last));
        }
        let authority = authority(request)?;
        let target = self.target_at(redirected.address, &authority)?;
        *redirected.last.borrow_mut() = Some(Rc::clone(&target));
        Ok(target)
    }

    fn target_at(&self, address: SocketAddr, authority: &Authority) -> Result<Rc<Target>, Failure> {
        // A space is in no authority, so this is no key of the proxy.
        let key = format!("{address} {authority}").into_boxed_str();
        if let Some(target) = self.targets.borrow().get(&key) {
            target.used();
            return Ok(Rc::clone(target));
        }
        self.new_target(key, authority, Some(Dialled { address, by_name: OnceCell::new() }))
    }

    /// Waits until everything that decides about a target has been answered.
    pub(super) async fn answered(&self, target: &Target) -> Result<(), Rejection> {
        target.cell.wait().await?;
        let Some(dialled) = &target.dialled else { return Ok(()) };
        if !matches!(target.cell.get().as_deref(), Some(Resolved::Unknown | Resolved::Ambiguous)) {
            return Ok(());
        }
        let by_name = match dialled.by_name.get() {
            Some(cell) => cell,
            None => {
                let cell = self.lookups.cell(&target.authority.as_str().to_ascii_lowercase())?;
                dialled.by_name.get_or_init(|| cell)
            }
        };
        by_name.wait().await
    }

    /// The newest answer for a target that was dialled by its address. Where that stands for several Services, or the operator
    /// does not know it, the name in `Host` counts, if the address is one of those that it stands for.
    pub(super) fn dialled_view(
        &self,
        target: &Target,
        dialled: &Dialled,
        by_address: &Arc<Resolved>,
    ) -> Option<Rc<View>> {
        let named;
        let (resolved, is_named) = match &**by_address {
            Resolved::Unknown | Resolved::Ambiguous => {
                named = dialled.by_name.get()?.get();
                (named.as_ref()?, true)
            }
            Resolved::Meshed(_) | Resolved::Unmeshed(_) | Resolved::Refused => (by_address, false),
        };
        if let Some(view) = target.view.borrow().as_ref().filter(|view| Arc::ptr_eq(&view.resolved, resolved)) {
            return Some(view.clone());
        }
        let peers = match &**resolved {
            Resolved::Meshed(meshed) => {
                let here = meshed.endpoints.iter().filter(|found| !is_named || found.is_at(dialled.address));
                here.map(|endpoint| self.peer(endpoint.address, Some(&endpoint.spiffe_id))).collect()
            }
            Resolved::Unmeshed(_) if !is_named => vec![self.peer(dialled.address, None)],
            Resolved::Unmeshed(_) | Resolved::Refused | Resolved::Unknown | Resolved::Ambiguous => Vec::new(),
        };
        let view = Rc::new(View { resolved: resolved.clone(), peers });
        *target.view.borrow_mut() = Some(view.clone());
        Some(view)
    }
}

fn is_opaque(resolved: Option<&Resolved>) -> bool {
    matches!(resolved, Some(Resolved::Meshed(meshed)) if meshed.opaque)
}

pub(super) fn is_unmeshed(resolved: Option<&Resolved>) -> bool {
    matches!(resolved, Some(Resolved::Unmeshed(_)))
}

/// Whether a request plainly says the same as the one before it.
fn is_for<T>(request: &Request<T>, target: &Target) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let same = hosts.next() == Some(&target.host) && hosts.next().is_none();
    same && request.uri().authority().is_none() && request.method() != Method::CONNECT
}

/// The authority of a request that was sent to its server itself (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn authority<T>(request: &Request<T>) -> Result<Cow<'_, Authority>, Failure> {
    const WANTED: Failure = Failure::Misused("send one Host header, with the name that is called");
    if request.method() == Method::CONNECT {
        return Err(Failure::Misused("CONNECT hides the request: call http:// URLs, the sidecar adds TLS itself"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    match (request.uri().authority(), host, another) {
        (_, _, Some(_)) | (None, None, None) => Err(WANTED),
        (Some(_), _, None) if request.uri().scheme().is_some_and(|scheme| *scheme == Scheme::HTTPS) => {
            Err(Failure::Misused("call http:// URLs, the sidecar adds TLS itself"))
        }
        (Some(authority), Some(host), None) if !authority.as_str().eq_ignore_ascii_case(&text(host)) => Err(WANTED),
        (Some(authority), _, None) => Ok(Cow::Borrowed(authority)),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).map(Cow::Owned).map_err(|_| WANTED),
    }
}

fn text(host: &http::HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(host.as_bytes())
}
