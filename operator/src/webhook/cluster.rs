//! The cluster whose pods are injected: it is told of the webhooks, and knows the labels of its namespaces.

use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::authority::{Authority, Shared};
use super::configuration::{Service, with_authority};
use super::{Labels, Namespaces};
use crate::kubernetes::Leadership;
use crate::names::VALIDATORS;
use crate::pki::PkiError;

/// Who owns the fields that the operator writes.
const MANAGER: &str = "fapi-mesh.dev/webhook";
/// The API server waits five seconds for the whole review.
const LOOK: Duration = Duration::from_secs(2);
const WRITE: Duration = Duration::from_secs(10);
/// How often somebody else's change is looked for; a failure is tried again sooner.
const EVERY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);
/// How long one serves before API servers are asked to depend on it: only then do the nodes of all of them know the way.
const KNOWN: Duration = Duration::from_secs(10);

/// The namespaces of a cluster, asked for one by one: a pod is made far less often than it calls.
pub(crate) struct Cluster {
    namespaces: Api<Namespace>,
}

impl Cluster {
    /// The namespaces that this client sees.
    pub(crate) fn new(client: Client) -> Self {
        Self { namespaces: Api::all(client) }
    }
}

impl Namespaces for Cluster {
    fn labels<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Labels> + Send + 'a>> {
        Box::pin(async move {
            match timeout(LOOK, self.namespaces.get_metadata(name)).await {
                Ok(Ok(namespace)) => Some(namespace.metadata.labels.unwrap_or_default()),
                Ok(Err(error)) => {
                    tracing::warn!(event = "injection", namespace = name, %error, "cannot read a namespace");
                    None
                }
                Err(_) => {
                    tracing::warn!(event = "injection", namespace = name, "the API server is too slow");
                    None
                }
            }
        })
    }
}

/// Has the API server trust the authority and ask the webhooks, and sees to it that this stays so, until `shutdown` says true.
/// Reads once a minute, writes only what is not so, and only as the leader.
pub(crate) async fn register(
    client: Client,
    service: Service,
    mut authority: watch::Receiver<Shared>,
    mut leadership: Leadership,
    mut shutdown: watch::Receiver<bool>,
) {
    let (mut told, known) = (None, Instant::now() + KNOWN);
    loop {
        if !leadership.holds() {
            tokio::select! {
                () = leadership.changed() => continue,
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
        let bundle = authority.borrow_and_update().bundle();
        let left = known.saturating_duration_since(Instant::now());
        let outcome = timeout(WRITE, write(&client, &service, &bundle, left.is_zero())).await;
        let problem = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the API server is too slow".to_owned()),
        };
        if let Some(problem) = problem.as_ref().filter(|problem| told.as_ref() != Some(*problem)) {
            tracing::warn!(
                event = "webhook",
                error = problem,
                "the webhook configurations are not in order; trying again"
            );
        }
        let wait = match &problem {
            None if left.is_zero() => EVERY,
            None => left,
            Some(_) => AGAIN,
        };
        told = problem;
        tokio::select! {
            () = sleep(wait) => {}
            changed = authority.changed() => if changed.is_err() { return },
            _ = shutdown.wait_for(|end| *end) => return,
        }
    }
}

/// Writes what is not so. Whether objects are asked about is never taken back.
async fn write(client: &Client, service: &Service, bundle: &str, is_known: bool) -> Result<(), kube::Error> {
    let injecting = get::<MutatingWebhookConfiguration>(client, service).await?;
    let checking = get::<ValidatingWebhookConfiguration>(client, service).await?;
    let [objects, _] = VALIDATORS;
    let mut entries = checking["webhooks"].as_array().into_iter().flatten();
    let asked = entries.any(|entry| entry["name"] == objects && entry["rules"].is_array());
    let [inject, check] = with_authority(service, bundle, is_known || asked);
    put::<MutatingWebhookConfiguration>(client, service, &injecting, &inject).await?;
    put::<ValidatingWebhookConfiguration>(client, service, &checking, &check).await
}

async fn get<K>(client: &Client, service: &Service) -> Result<Json, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let found = Api::<K>::all(client.clone()).get(&service.name).await?;
    serde_json::to_value(found).map_err(kube::Error::SerdeError)
}

/// Writes our part of a configuration, if it is not there.
async fn put<K>(client: &Client, service: &Service, found: &Json, part: &Json) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    if contains(&found["webhooks"], &part["webhooks"]) {
        return Ok(());
    }
    let apply = PatchParams::apply(MANAGER).force();
    Api::<K>::all(client.clone()).patch(&service.name, &apply, &Patch::Apply(part)).await?;
    tracing::info!(event = "webhook", kind = %K::kind(&()), name = service.name, "told the API server whom to trust");
    Ok(())
}

/// Whether everything that is wanted is there; elements of lists are found by their names.
pub(super) fn contains(found: &Json, wanted: &Json) -> bool {
    match (found, wanted) {
        (Json::Object(found), Json::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| contains(found, wanted)))
        }
        (Json::Array(found), Json::Array(wanted)) => wanted
            .iter()
            .all(|wanted| found.iter().any(|found| found["name"] == wanted["name"] && contains(found, wanted))),
        _ => found == wanted,
    }
}

/// Keeps the authority current, until `shutdown` says true: `open` gives it, made anew when it is due or gone.
pub(crate) async fn keep(
    authority: watch::Sender<Shared>,
    open: impl Fn() -> Result<Authority, PkiError> + Clone + Send + 'static,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = shutdown.wait_for(|end| *end) => return,
        }
        // Reading it waits for a disk or an API server.
        let opened = tokio::task::spawn_blocking(open.clone()).await;
        match opened.map_err(|error| error.to_string()).and_then(|opened| opened.map_err(|error| error.to_string())) {
            Ok(opened) => {
                authority.send_if_modified(|current| {
                    let renewed = current.bundle() != opened.bundle();
                    if renewed {
                        *current = opened.into();
                    }
                    renewed
                });
            }
            Err(error) => tracing::error!(event = "pki", error, "cannot open the authority of the webhook"),
        }
    }
}
