//! The command line. Every flag can also be given in the environment, as `FAPI_` and its name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use fapi::TrustDomain;

use crate::cluster_domain::ClusterDomain;
use crate::names;

/// The control plane of fapi-mesh: certificates, tokens and policies for the sidecars.
#[derive(Clone, Debug, Parser)]
#[command(name = "fapi-operator", version)]
pub struct Args {
    /// Where the desired state comes from: a folder of YAML documents, which is watched, or the cluster that the operator runs
    /// in (outside of one, that of KUBECONFIG).
    #[arg(long, env = "FAPI_SOURCE", value_name = "directory:DIR|kubernetes", value_parser = source)]
    pub source: SourceArg,
    /// The state folder of a source that is a folder: keys, certificates, tokens, status. Made if it is not there, and closed
    /// to others.
    #[arg(long, env = "FAPI_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The trust domain of a mesh whose FapiMesh names none [default: cluster.local]. It is settled at the first start.
    #[arg(long, env = "FAPI_TRUST_DOMAIN", value_name = "NAME", value_parser = trust_domain)]
    pub trust_domain: Option<TrustDomain>,
    /// The domain of the cluster's DNS: apps may call svc.ns.svc.DOMAIN [default: cluster.local].
    #[arg(long, env = "FAPI_CLUSTER_DOMAIN", value_name = "NAME", value_parser = ClusterDomain::parse)]
    pub cluster_domain: Option<ClusterDomain>,
    /// The namespace in the operator's own identity.
    #[arg(long, env = "FAPI_OPERATOR_NAMESPACE", value_name = "NAME", default_value = names::NAMESPACE)]
    pub operator_namespace: String,
    /// Where sidecars connect. Port 0: a free one, kept for later starts.
    #[arg(long, env = "FAPI_CONTROL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub control_listen: SocketAddr,
    /// The address of this operator's pod, at which other replicas reach its control server [default: that of
    /// --control-listen].
    #[arg(long, env = "FAPI_POD_IP", value_name = "IP")]
    pub pod_ip: Option<IpAddr>,
    /// Where tokens are asked for. Port 0: a free one, kept for later starts.
    #[arg(long, env = "FAPI_ISSUER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub issuer_listen: SocketAddr,
    /// The URL of the issuer, if callers reach it by another name than its address: https, a host, a port; nothing after it.
    #[arg(long, env = "FAPI_ISSUER_URL", value_name = "URL", value_parser = issuer_url)]
    pub issuer_url: Option<String>,
    /// Probes and metrics. Port 0: a free one, kept for later starts.
    #[arg(long, env = "FAPI_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
    /// How often the issuer begins to sign with a new key, such as 12h or 1h30m.
    #[arg(long, env = "FAPI_KEY_ROTATION", value_name = "DURATION", default_value = "24h", value_parser = rotation)]
    pub key_rotation: Duration,
    /// Where API servers ask whether pods and objects pass [default: nowhere]. The cluster is that of KUBECONFIG, or the one that
    /// the operator runs in.
    #[arg(long, env = "FAPI_WEBHOOK_LISTEN", value_name = "ADDRESS", requires_all = ["sidecar_image", "sidecar_control"])]
    pub webhook_listen: Option<SocketAddr>,
    /// The Service by which API servers reach the webhooks, and the name of the webhook configurations.
    #[arg(long, env = "FAPI_SERVICE_NAME", value_name = "NAME", default_value = names::OPERATOR)]
    pub service_name: String,
    /// The image of the sidecars that pods get.
    #[arg(long, env = "FAPI_SIDECAR_IMAGE", value_name = "IMAGE")]
    pub sidecar_image: Option<String>,
    /// When that image is pulled: Always, IfNotPresent or Never.
    #[arg(long, env = "FAPI_SIDECAR_PULL_POLICY", value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub sidecar_pull_policy: String,
    /// The control server as those sidecars reach it.
    #[arg(long, env = "FAPI_SIDECAR_CONTROL", value_name = "HOST:PORT")]
    pub sidecar_control: Option<String>,
    /// Delete what operators have made in the cluster (keys, records, the roots in every namespace) and end. No way leads back
    /// but a backup.
    #[arg(long, env = "FAPI_FORGET")]
    pub forget: bool,
    /// End at once: with an error that names pods of the cluster which have a sidecar, or in peace if there are none.
    #[arg(long, env = "FAPI_CHECK_UNUSED", conflicts_with = "forget")]
    pub check_unused: bool,
}

/// Where the desired state comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// This folder.
    Directory(PathBuf),
    /// A cluster.
    Kubernetes,
}

/// Half of it, a new key is known before it signs: time for a sidecar that has lost its stream to come back.
const SHORTEST_ROTATION: Duration = Duration::from_secs(600);
const LONGEST_ROTATION: Duration = Duration::from_secs(90 * 24 * 3600);

fn source(text: &str) -> Result<SourceArg, String> {
    if text == "kubernetes" {
        return Ok(SourceArg::Kubernetes);
    }
    let folder = text.strip_prefix("directory:").filter(|folder| !folder.is_empty());
    folder
        .map(|folder| SourceArg::Directory(folder.into()))
        .ok_or_else(|| "write kubernetes, or directory: and the path of a folder, such as directory:mesh".to_owned())
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(text).map_err(|error| error.to_string())
}

fn issuer_url(text: &str) -> Result<String, String> {
    let is_origin = |url: &http::Uri| {
        url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()) && url.query().is_none()
    };
    let url = text.parse().ok().filter(is_origin);
    let origin = url.and_then(|url| Some(format!("https://{}", url.authority()?)));
    // As it stands in every token, byte by byte.
    origin.filter(|origin| origin == text && !text.contains('@')).ok_or_else(|| {
        "write https:// and a host, with a port or without, such as https://issuer.example:8443".to_owned()
    })
}

fn rotation(text: &str) -> Result<Duration, String> {
    let read = crds::duration::parse(text).filter(|read| (SHORTEST_ROTATION..=LONGEST_ROTATION).contains(read));
    read.ok_or_else(|| "write a duration from 10m to 2160h, such as 12h or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_source_has_a_kind_and_a_place() {
        assert_eq!(source("directory:a/b"), Ok(SourceArg::Directory(PathBuf::from("a/b"))));
        assert_eq!(source("kubernetes"), Ok(SourceArg::Kubernetes));
        for text in ["a/b", "directory:", "kubernetes:", ""] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_issuer_has_a_url_of_nothing_but_an_origin() {
        for text in ["https://issuer.example", "https://fapi-operator.fapi-mesh.svc:8443", "https://[fd00::1]:8443"] {
            assert_eq!(issuer_url(text).as_deref(), Ok(text));
        }
        for text in ["http://a", "https://a/", "https://a/b", "https://a?b", "https://a@b", "https://", "a:8443"] {
            assert!(issuer_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rotation_has_bounds() {
        assert_eq!(rotation("1h30m"), Ok(Duration::from_secs(5400)));
        for text in ["9m59s", "2161h", "h", "12"] {
            assert!(rotation(text).is_err(), "{text}");
        }
    }

    /// What the chart lets pass, the operator takes: it would end at every start.
    #[test]
    fn a_rotation_that_the_chart_takes_is_one() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../charts/fapi-mesh/values.schema.json")).unwrap();
        let pattern = regex::Regex::new(schema["properties"]["keyRotation"]["pattern"].as_str().unwrap()).unwrap();
        for unit in ["h", "m", "s", "ms", "h0m", "h59m", "h60m", "h5m", "h1s", ""] {
            for number in (0..3_000).chain((3_000..100_000).step_by(97)).chain([129_600, 7_776_000]) {
                let text = format!("{number}{unit}");
                assert!(!pattern.is_match(&text) || rotation(&text).is_ok(), "{text}");
            }
        }
        for text in ["10m", "90m", "1h", "24h", "1h30m", "2159h59m", "2160h", "600s", "86400s"] {
            assert!(pattern.is_match(text) && rotation(text).is_ok(), "{text}");
        }
    }
}
