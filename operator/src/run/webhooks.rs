//! Starting the webhooks, if there are any.

use std::sync::Arc;

use fapi::TrustDomain;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::error::Failure;
use super::home::Home;
use super::parts::Parts;
use crate::accept::Tls;
use crate::addresses;
use crate::args::Args;
use crate::clock::Clock;
use crate::events::Events;
use crate::inject::{Allowed, Image, Settings};
use crate::kubernetes::{self, Leadership};
use crate::shelf::Shelf;
use crate::source::Desired;
use crate::webhook::{self, ALPN, Authority, Certificate, Cluster, Meter, Service, Webhook};

/// Who looks on.
pub(super) struct Seen<'a> {
    pub(super) clock: &'a Clock,
    pub(super) events: Events,
    pub(super) meter: Meter,
}

/// What the webhooks need: a bound socket, and the cluster that will ask.
pub(super) struct Webhooks {
    listener: TcpListener,
    client: Client,
    service: Service,
    image: Image,
    control: String,
    authority: Shelf,
}

impl Webhooks {
    /// Binds the socket; `None` if no webhooks are wanted.
    pub(super) async fn bind(args: &Args, home: &Home) -> Result<Option<Self>, Failure> {
        let (Some(address), Some(image), Some(control)) =
            (args.webhook_listen, &args.sidecar_image, &args.sidecar_control)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            listener: addresses::bind(address, None).await?,
            client: kubernetes::client().await?,
            service: Service { name: args.service_name.clone(), namespace: args.operator_namespace.clone() },
            image: Image { name: image.clone(), pull_policy: args.sidecar_pull_policy.clone() },
            control: control.clone(),
            authority: home.webhook(),
        }))
    }

    /// A client of the cluster that asks.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Serves them, and has the cluster ask.
    pub(super) fn start(
        self,
        parts: &mut Parts,
        trust_domain: &TrustDomain,
        desired: watch::Receiver<Arc<Desired>>,
        leadership: Leadership,
        Seen { clock, events, meter }: Seen<'_>,
    ) -> Result<(), Failure> {
        let Self { listener, client, service, image, control, authority: shelf } = self;
        let authority = watch::Sender::new(Arc::new(Authority::open(&shelf, clock.now())?));
        let certificate = Certificate::start(authority.subscribe(), &service, clock.clone(), meter.clone())?;
        let settings = Settings {
            image,
            control,
            trust_domain: trust_domain.clone(),
            operator_namespace: service.namespace.clone(),
            allowed: Allowed::default(),
        };
        let webhook = Webhook::new(settings, desired, Box::new(Cluster::new(client.clone())));
        let webhook = Arc::new(webhook.seen_by(events, meter));
        let tls = Tls::public(certificate.identity(), ALPN);
        let serving = webhook::serve(listener, tls, webhook, clock.clone(), parts.shutdown());
        parts.spawn_fallible("the webhooks", serving);
        parts.spawn("renewing the certificate of the webhooks", certificate.run(parts.shutdown()));
        let registering = webhook::register(client, service, authority.subscribe(), leadership, parts.shutdown());
        parts.spawn("telling the API server of the webhooks", registering);
        let now = clock.clone();
        let keeping = webhook::keep(authority, move || Authority::open(&shelf, now.now()), parts.shutdown());
        parts.spawn("keeping the authority of the webhooks", keeping);
        Ok(())
    }
}
