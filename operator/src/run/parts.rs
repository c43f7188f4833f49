//! Everything that runs, and how it ends.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fapi::UnixTime;
use kube::Client;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::Listeners;
use super::error::Failure;
use super::home::Home;
use super::webhooks::{Seen, Webhooks};
use crate::accept::Tls;
use crate::acks::Acks;
use crate::addresses::{self, Addresses};
use crate::admin::{self, Shown};
use crate::args::Args;
use crate::audits::Audits;
use crate::behind::Behind;
use crate::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::control_server::{self, Deps};
use crate::enroll::{ClusterTokens, DirectoryTokens, Enroller, TokenFiles, TokenReview};
use crate::events::{self, Events};
use crate::issuer::{self, Kept, MeshAuthorizationServer, Rotation};
use crate::kubernetes::{Candidate, Changes, Leadership, SecretWatch, TrustBundles, secret};
use crate::pki::{Authority, Serving, identity_of};
use crate::publish::{Counter, Publisher};
use crate::replicas::Follower;
use crate::revocations::Revocations;
use crate::rotation::Rotator;
use crate::source::{Desired, Source};
use crate::status::{Place, Reporter, StatusFolder, StatusObjects};
use crate::view::View;
use crate::webhook::Meter;

/// Servers drain for five seconds; what has not ended by then is dropped.
const END: Duration = Duration::from_secs(6);

/// The running parts.
pub(super) struct Parts {
    /// Sidecars whose certificates were not issued after this second are asked to renew them.
    renew: watch::Sender<UnixTime>,
    clock: Clock,
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
}

/// Whose word is taken for who a pod is.
enum Tokens {
    /// Our own, given out as files of this state folder.
    Directory(Arc<DirectoryTokens>, PathBuf),
    /// The API server's.
    Cluster(Arc<ClusterTokens>, Box<Replica>),
}

/// How an operator of a cluster gets on with others.
struct Replica {
    client: Client,
    candidate: Candidate,
    /// The authority's keys.
    authority: SecretWatch,
    /// Keys and used assertions.
    issuer: SecretWatch,
    revocations: SecretWatch,
}

/// What several parts read.
struct Shared {
    clock: Clock,
    authority: Arc<Authority>,
    kept: Kept,
    tokens: Tokens,
    behind: Behind,
    acks: Arc<Acks>,
    audits: Arc<Audits>,
    rotator: Rotator,
    view: watch::Receiver<Arc<View>>,
    desired: watch::Receiver<Arc<Desired>>,
    revocations: Arc<Revocations>,
    serving: Serving,
    names: control::MeshIssuer,
    operator: fapi::SpiffeId,
    events: Events,
    meter: Meter,
}

impl Parts {
    /// Starts everything. The first view and all revocations are in force, and the first workload tokens are written, before anyone is served.
    pub(super) fn start(
        args: &Args,
        home: &Home,
        source: Source,
        listeners: Listeners,
        addresses: &Addresses,
    ) -> Result<Self, Failure> {
        let (clock, counter) = (Clock::system(), home.counter()?);
        // Before the order, whose file tells later starts that there was this one.
        let first_start = counter.as_ref().is_some_and(Counter::is_first_start);
        let revocations = Arc::new(Revocations::open(home.revocations(), first_start, clock.clone())?);
        revocations.revoke(source.desired().to_revoke())?;
        let domain = args.cluster_domain.clone().unwrap_or_default();
        let nothing = View::empty(source.trust_domain().clone()).under(domain);
        let mut publisher = Publisher::new(nothing, counter, source.behind());
        let desired = watch::Sender::new(Arc::new(source.desired().clone()));
        let read = (publisher.subscribe(), desired.subscribe(), revocations);
        let mut shared = Shared::new(args, (home, &source), addresses, clock, read)?;
        publisher.publish(source.desired())?;
        let renew = watch::Sender::new(UnixTime::default());
        let mut parts =
            Self { renew, clock: shared.clock.clone(), shutdown: watch::Sender::new(false), tasks: JoinSet::new() };
        if let Some(client) = source.client().or(listeners.webhooks.as_ref().map(Webhooks::client)) {
            shared.events = parts.start_events(client, &shared.desired);
        }
        parts.start_source(source, publisher, desired);
        parts.start_servers(&shared, listeners)?;
        parts.start_keepers(shared);
        Ok(parts)
    }

    /// A way to have every sidecar renew its certificate.
    pub(super) fn renewal(&self) -> impl Fn() + use<> {
        let (renew, clock) = (self.renew.clone(), self.clock.clone());
        move || {
            renew.send_replace(clock.now());
        }
    }

    /// Returns when a part has ended that should not have.
    pub(super) async fn ended(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(Ok((part, outcome))) => {
                Failure::Ended { part, detail: outcome.err().unwrap_or_else(|| "it did not say why".to_owned()) }
            }
            Some(Err(error)) => Failure::Ended { part: "a part of the operator", detail: why(&error) },
            None => Failure::Ended { part: "the operator", detail: "nothing runs".to_owned() },
        }
    }

    /// Ends everything: what is in progress finishes, within limits.
    pub(super) async fn end(mut self) {
        self.shutdown.send_replace(true);
        let drained = timeout(END, async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok((part, Err(error))) = ended {
                    tracing::warn!(part, error, "ended badly");
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some parts did not end in time and are dropped");
        }
    }

    /// Tells what happens in the cluster that it happens to.
    fn start_events(&mut self, client: Client, desired: &watch::Receiver<Arc<Desired>>) -> Events {
        let (events, scribe) = Events::open(client, self.clock.clone());
        let documents = events::watch_documents(events.clone(), desired.clone(), self.shutdown());
        self.spawn("writing Events", scribe.run(self.shutdown()));
        self.spawn("watching documents", documents);
        events
    }

    fn start_source(&mut self, source: Source, publisher: Publisher, desired: watch::Sender<Arc<Desired>>) {
        let publishing = publisher.run(desired.subscribe(), self.shutdown.subscribe());
        self.spawn("publishing", publishing);
        self.spawn("watching the source", source.run(desired, self.shutdown.subscribe()));
    }

    fn start_servers(&mut self, shared: &Shared, listeners: Listeners) -> Result<(), Failure> {
        let Shared { clock, authority, kept, acks, view, desired, revocations, names, behind, .. } = shared;
        let tls = |alpn| Tls::new(shared.serving.identity(), authority.roots(), alpn);
        let client_keys = Arc::new(ClientKeys::default());
        let server = MeshAuthorizationServer::new(
            names.clone(),
            kept.clone(),
            client_keys.clone(),
            view.clone(),
            revocations.clone(),
            clock.clone(),
        );
        let deps = Deps {
            enroller: Arc::new(shared.enroller()),
            view: view.clone(),
            revocations: revocations.clone(),
            acks: acks.clone(),
            audits: shared.audits.clone(),
            client_keys,
            keys: kept.keys.published(),
            delivered: kept.keys.delivered(),
            issuer: names.clone(),
            roots: authority.roots(),
            behind: behind.clone(),
            renew: self.renew.subscribe(),
            operator: shared.operator.clone(),
            leadership: shared.leadership(),
            clock: clock.clone(),
        };
        if let Tokens::Cluster(_, replica) = &shared.tokens {
            let (books, holder, identity) = (deps.books(), replica.candidate.holder(), shared.serving.identity());
            let (roots, operator) = (authority.roots(), shared.operator.clone());
            let follower = Follower { books, holder, roots, identity, operator };
            self.spawn("reporting to the holder of the Lease", follower.run(self.shutdown()));
        }
        let (shutdown, issuer) = (self.shutdown.subscribe(), tls(issuer::ALPN));
        let issuing = issuer::serve(listeners.issuer, issuer, Arc::new(server), shutdown.clone());
        self.spawn_fallible("the issuer", issuing);
        let controlling = control_server::serve(listeners.control, tls(control_server::ALPN), deps, shutdown.clone());
        self.spawn_fallible("the control server", controlling);
        let shown = Shown {
            view: view.clone(),
            desired: desired.clone(),
            revocations: revocations.clone(),
            acks: acks.clone(),
            anchors: shared.rotator.anchors(),
            clock: clock.clone(),
            events: shared.events.clone(),
            meter: shared.meter.clone(),
        };
        self.spawn("the admin server", admin::serve(listeners.admin, shown, shutdown));
        if let Some(webhooks) = listeners.webhooks {
            let seen = Seen { clock, events: shared.events.clone(), meter: shared.meter.clone() };
            webhooks.start(self, authority.trust_domain(), desired.clone(), shared.leadership(), seen)?;
        }
        Ok(())
    }

    fn start_keepers(&mut self, shared: Shared) {
        let leadership = shared.leadership();
        let Shared {
            authority, clock, kept, tokens, acks, view, desired, revocations, serving, names, rotator, ..
        } = shared;
        let anchors = rotator.anchors();
        let shutdown = self.shutdown();
        let (mut keys_changed, mut revoked, mut rotated) = (Changes::none(), Changes::none(), Changes::none());
        let place = match tokens {
            Tokens::Directory(tokens, state) => {
                let mut token_files = TokenFiles::new(tokens, &state, clock.clone());
                token_files.step(&view.borrow());
                self.spawn("writing workload tokens", token_files.run(view.clone(), shutdown.clone()));
                Place::Folder(StatusFolder::new(&state))
            }
            Tokens::Cluster(_, replica) => {
                let Replica { client, candidate, authority: keys, issuer, revocations } = *replica;
                (keys_changed, revoked, rotated) = (issuer.changes(), revocations.changes(), keys.changes());
                self.spawn("watching the authority's Secret", keys.run(shutdown.clone()));
                self.spawn("the election", candidate.run(shutdown.clone()));
                self.spawn("watching the issuer's Secret", issuer.run(shutdown.clone()));
                self.spawn("watching the Secret of revocations", revocations.run(shutdown.clone()));
                let bundles = TrustBundles::new(client.clone(), authority.roots(), leadership.clone());
                self.spawn("writing trust bundles", bundles.run(desired.clone(), shutdown.clone()));
                Place::Objects(StatusObjects::new(client, leadership.clone()))
            }
        };
        let rotating_root = rotator.run((view.clone(), desired.clone()), leadership.clone(), rotated, shutdown.clone());
        self.spawn("rotating the root", rotating_root);
        let reporter = Reporter::new(place, &names, (acks, shared.audits, revocations.subscribe(), anchors), clock);
        let revoking = revocations.follow(desired.clone(), revoked, shutdown.clone());
        let reporting = reporter.run(view, desired, shutdown.clone());
        let rotating = kept.keys.run(leadership, keys_changed, shutdown.clone());
        self.spawn("the status reporter", reporting);
        self.spawn("revoking", revoking);
        self.spawn("renewing the operator's certificate", serving.run(shutdown));
        self.spawn("rotating the issuer's keys", rotating);
    }

    #[cfg(test)]
    pub(super) fn lose_a_part(&mut self) {
        self.spawn("a test", std::future::ready(()));
    }

    /// Told when everything ends.
    pub(super) fn shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }

    pub(super) fn spawn(&mut self, part: &'static str, running: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            running.await;
            (part, Ok(()))
        });
    }

    pub(super) fn spawn_fallible<E: std::fmt::Display + 'static>(
        &mut self,
        part: &'static str,
        running: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (part, running.await.map_err(|error| error.to_string())) });
    }
}

impl Shared {
    fn new(
        args: &Args,
        (home, source): (&Home, &Source),
        addresses: &Addresses,
        clock: Clock,
        (view, desired, revocations): (watch::Receiver<Arc<View>>, watch::Receiver<Arc<Desired>>, Arc<Revocations>),
    ) -> Result<Self, Failure> {
        let (shelf, bundle) = home.authority();
        let authority = Arc::new(Authority::open(shelf, bundle, source.trust_domain(), clock.now())?);
        let operator = identity_of(&authority, &args.operator_namespace)
            .map_err(|source| Failure::Namespace { namespace: args.operator_namespace.clone(), source })?;
        let host = addresses::host(&addresses.issuer);
        let serving = Serving::start(authority.clone(), operator.clone(), host, clock.clone())?;
        let kept = Kept::open(home.issuer(), Rotation::every(args.key_rotation), &clock)?;
        let tokens = match (source, home.folder()) {
            (Source::Directory(_), Some(state)) => {
                let tokens = DirectoryTokens::open(state, clock.clone())?;
                Tokens::Directory(Arc::new(tokens), state.to_owned())
            }
            (Source::Directory(_), None) => return Err(Failure::NoState),
            (Source::Cluster(cluster), _) => {
                let (client, namespace) = (cluster.client(), &args.operator_namespace);
                let watch = |secret| SecretWatch::new(client.clone(), namespace, secret);
                let replica = Replica {
                    candidate: Candidate::new(client.clone(), namespace, for_replicas(args, addresses)),
                    authority: watch(secret::AUTHORITY),
                    issuer: watch(secret::ISSUER),
                    revocations: watch(secret::REVOCATIONS),
                    client: client.clone(),
                };
                Tokens::Cluster(Arc::new(ClusterTokens::new(client)), Box::new(replica))
            }
        };
        let names = issuer::names(&addresses.issuer);
        let (acks, audits) = (Arc::<Acks>::default(), Arc::<Audits>::default());
        let revoked = revocations.subscribe();
        let rotator = Rotator::new(authority.clone(), home.rotations(), acks.clone(), revoked, clock.clone());
        let behind = source.behind();
        let (events, meter) = (Events::none(), Meter::default());
        Ok(Self {
            clock,
            authority,
            kept,
            tokens,
            behind,
            acks,
            audits,
            rotator,
            view,
            desired,
            revocations,
            serving,
            names,
            operator,
            events,
            meter,
        })
    }

    /// Whether this operator is the one that writes.
    fn leadership(&self) -> Leadership {
        match &self.tokens {
            Tokens::Directory(..) => Leadership::alone(),
            Tokens::Cluster(_, replica) => replica.candidate.leadership(),
        }
    }

    fn enroller(&self) -> Enroller {
        let (authority, revocations) = (self.authority.clone(), self.revocations.clone());
        let tokens: Arc<dyn TokenReview> = match &self.tokens {
            Tokens::Directory(tokens, _) => tokens.clone(),
            Tokens::Cluster(tokens, ..) => tokens.clone(),
        };
        let (view, clock, operator) = (self.view.clone(), self.clock.clone(), self.operator.clone());
        Enroller::new(authority, tokens, view, revocations, clock, operator).telling(self.events.clone())
    }
}

/// Where other replicas find the control server of this one.
fn for_replicas(args: &Args, addresses: &Addresses) -> Option<SocketAddr> {
    let ip = args.pod_ip.unwrap_or(addresses.control.ip());
    if ip.is_unspecified() {
        tracing::warn!(event = "replica", "other replicas cannot report to this one: give its address with --pod-ip");
        return None;
    }
    Some(SocketAddr::new(ip, addresses.control.port()))
}

/// A panic is already in the log, with its place.
fn why(error: &JoinError) -> String {
    if error.is_panic() { "it panicked".to_owned() } else { "it was dropped".to_owned() }
}
