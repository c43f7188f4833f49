//! Who the pods of a cluster are, as their own sidecars say: asked through the API server, at the admin port that only the pod
//! itself reaches.

use std::process::ExitCode;

use futures_util::StreamExt as _;
use futures_util::stream;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use operator::inject;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::args::{IdentityArgs, Output};
use crate::cluster::{ANSWER, Cluster, Scope, Seen, Unseen, ask, key, list};
use crate::failure::Failure;
use crate::raw::{Ask, exchange};
use crate::table::table;

/// Pods that are asked at the same time.
const AT_ONCE: usize = 16;

/// Who a pod is.
#[derive(Debug, Serialize)]
struct Row {
    /// `namespace/name`.
    pod: String,
    #[serde(flatten)]
    told: Told,
}

/// What its sidecar says, or why it says nothing.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Told {
    #[serde(rename_all = "camelCase")]
    Identity {
        spiffe_id: String,
        pod_uid: String,
        /// The `x5t#S256` of its certificate, which is what a Revocation names.
        certificate: String,
        not_after: String,
        snapshot_version: String,
    },
    Nothing {
        unseen: String,
    },
}

/// The `/config` of a sidecar, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    snapshot_version: Option<String>,
    snapshot: Option<Snapshot>,
    certificate: Option<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    pod_uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    spiffe_id: String,
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
    not_after: i64,
}

/// Asks the sidecars, and prints what they say.
pub(super) async fn run(args: &IdentityArgs) -> Result<ExitCode, Failure> {
    let cluster = Cluster::connect(&args.connection).await?;
    cluster.version().await?;
    let of_context = Scope::Namespace(cluster.namespace.clone());
    let scope = Scope::of(args.namespace.as_deref(), args.all_namespaces, of_context);
    let pods = meshed(&cluster, &scope, args.pod.as_deref()).await?;
    let rows = stream::iter(&pods).map(|pod| row(&cluster, pod)).buffered(AT_ONCE);
    let rows: Vec<Row> = rows.collect().await;
    print!("{}", render(&rows, args.output));
    let all = rows.iter().all(|row| matches!(row.told, Told::Identity { .. }));
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The pods of a scope that have a sidecar, or the one of this name.
async fn meshed(cluster: &Cluster, scope: &Scope, name: Option<&str>) -> Result<Vec<Pod>, Failure> {
    let pods: Api<Pod> = match scope {
        Scope::All => Api::all(cluster.client()),
        Scope::Namespace(namespace) => Api::namespaced(cluster.client(), namespace),
    };
    let found: Seen<Vec<Pod>> = match name {
        Some(name) => ask(pods.get(name)).await.map(|pod| vec![pod]),
        None => list(&pods, &ListParams::default()).await,
    };
    let (place, remedy) = (name.unwrap_or("pods"), "see `kubectl get pods`; -n names the namespace");
    let found = found.map_err(|unseen| Failure::new(unseen.said(place), "the API server", remedy))?;
    let meshed: Vec<Pod> = found.into_iter().filter(|pod| pod.spec.as_ref().is_some_and(inject::has_sidecar)).collect();
    match name {
        Some(name) if meshed.is_empty() => {
            let remedy = "annotate it with fapi-mesh.dev/inject: enabled, and make it anew";
            Err(Failure::new("the pod has no sidecar", name, remedy))
        }
        _ => Ok(meshed),
    }
}

async fn row(cluster: &Cluster, pod: &Pod) -> Row {
    let told = config(cluster, pod).await.and_then(|config| read(&config));
    let told = told.unwrap_or_else(|unseen| Told::Nothing { unseen: unseen.said("its sidecar") });
    Row { pod: key(&pod.metadata), told }
}

async fn config(cluster: &Cluster, pod: &Pod) -> Seen<Vec<u8>> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &text(&pod.metadata.namespace));
    let port = control::pod::ADMIN_PORT;
    let mut forwarded = ask(pods.portforward(&text(&pod.metadata.name), &[port])).await?;
    let stream = forwarded.take_stream(port).ok_or_else(|| Unseen::Failed("no way to its port".to_owned()))?;
    answer(stream).await
}

/// What stands under `/config` at the other end.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Seen<Vec<u8>> {
    let request = Ask::new("GET", "localhost", "/config").bytes();
    match timeout(ANSWER, exchange(&mut stream, &request)).await {
        Ok(Ok(reply)) if reply.status == 200 => Ok(reply.body),
        Ok(Ok(reply)) => Err(Unseen::Failed(format!("it answers {} to /config", reply.status))),
        Ok(Err(error)) => Err(Unseen::Failed(error.to_string())),
        Err(_) => Err(Unseen::Failed(format!("no answer in {} seconds", ANSWER.as_secs()))),
    }
}

fn read(config: &[u8]) -> Seen<Told> {
    let config: Config = serde_json::from_slice(config)
        .map_err(|error| Unseen::Failed(format!("{error}; is it of the version of this fapictl?")))?;
    let missing = |what: &str| Unseen::Failed(format!("it has no {what} yet"));
    let certificate = config.certificate.ok_or_else(|| missing("certificate"))?;
    let snapshot = config.snapshot.ok_or_else(|| missing("snapshot"))?;
    Ok(Told::Identity {
        spiffe_id: certificate.spiffe_id,
        pod_uid: snapshot.pod_uid,
        certificate: certificate.thumbprint,
        not_after: Timestamp::from_second(certificate.not_after).unwrap_or_default().to_string(),
        snapshot_version: config.snapshot_version.unwrap_or_default(),
    })
}

fn render(rows: &[Row], output: Output) -> String {
    if let Output::Json = output {
        // Texts under texts: it can always be written.
        return format!("{}\n", serde_json::to_string_pretty(rows).unwrap_or_default());
    }
    let cells = rows.iter().map(|row| match &row.told {
        Told::Identity { spiffe_id, pod_uid, certificate, not_after, .. } => {
            [&row.pod, spiffe_id, pod_uid, certificate, not_after].map(String::clone)
        }
        Told::Nothing { unseen } => [row.pod.clone(), format!("not seen: {unseen}"), "".into(), "".into(), "".into()],
    });
    table(["POD", "SPIFFE ID", "UID", "X5T#S256", "ENDS"], &cells.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"snapshotVersion": "3f2a", "snapshot": {"podUid": "u-1", "ports": []},
        "certificate": {"spiffeId": "spiffe://bank.example/ns/bank/sa/shop", "x5t#S256": "abc", "notAfter": 1800000000}}"#;

    fn row(pod: &str, told: Seen<Told>) -> Row {
        let told = told.unwrap_or_else(|unseen| Told::Nothing { unseen: unseen.said("its sidecar") });
        Row { pod: pod.to_owned(), told }
    }

    #[test]
    fn what_sidecars_say_is_shown_and_what_they_do_not_say_too() {
        let starting = r#"{"snapshotVersion": null, "snapshot": null, "certificate": null}"#;
        let rows = [row("bank/shop-1", read(CONFIG.as_bytes())), row("bank/shop-2", read(starting.as_bytes()))];
        let text = render(&rows, Output::Text);
        let lines: Vec<&str> = text.lines().collect();
        let shop = "spiffe://bank.example/ns/bank/sa/shop";
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(cells, ["bank/shop-1", shop, "u-1", "abc", "2027-01-15T08:00:00Z"]);
        assert!(lines[2].ends_with("not seen: its sidecar: it has no certificate yet"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&render(&rows, Output::Json)).unwrap();
        assert_eq!((&json[0]["spiffeId"], &json[0]["snapshotVersion"]), (&shop.into(), &"3f2a".into()));
        assert_eq!(json[1]["unseen"], "its sidecar: it has no certificate yet");
    }

    #[tokio::test]
    async fn an_answer_is_taken_and_an_end_is_told() {
        let answered = |answer: &'static [u8]| async move {
            let (near, mut far) = tokio::io::duplex(1024);
            tokio::io::AsyncWriteExt::write_all(&mut far, answer).await.unwrap();
            let far = (!answer.is_empty()).then_some(far);
            let told = super::answer(near).await;
            drop(far);
            told
        };
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await, Ok(b"{}".to_vec()));
        let refused = answered(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(refused, Err(Unseen::Failed("it answers 403 to /config".to_owned())));
        assert!(answered(b"").await.is_err());
    }
}
