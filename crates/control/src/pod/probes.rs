//! The probes of a meshed pod: the injector sends the kubelet to the sidecar's health port, and tells the sidecar what to ask
//! of the app in its place.
//!
//! The kubelet then needs no way past the sidecar, so none has to be left open for whoever has its address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The environment variable of the sidecar that holds a [`Probes`] as JSON.
pub const PROBES_ENV: &str = "FAPI_PROBES";

/// What to ask of the app, by the path that the kubelet gets on [`super::HEALTH_PORT`].
pub type Probes = BTreeMap<String, Probe>;

/// Where a kind of probe stands in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

impl ProbeKind {
    /// The path on the health port for this probe of a container.
    pub fn path(self, container: &str) -> String {
        let kind = match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
            Self::PostStart => "poststart",
            Self::PreStop => "prestop",
        };
        format!("/probes/{container}/{kind}")
    }
}

/// One question to the app, as the pod's author wrote it; ports are numbers of the pod, named ones resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// `httpGet`: good is a status from 200 to 399.
    Http(HttpProbe),
    /// `tcpSocket`: good is a connection.
    Tcp(TcpProbe),
    /// `grpc`: good is SERVING, by the gRPC health protocol.
    Grpc(GrpcProbe),
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Plain or over TLS.
    #[serde(default)]
    pub scheme: Scheme,
    /// Headers to send; a name may stand more than once, and `Host` replaces the usual one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ProbeHeader>,
    /// Seconds that the app has to answer.
    #[serde(default = "one_second")]
    pub timeout: u32,
}

/// How an HTTP probe is spoken. As for the kubelet, the app's certificate is not verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// A header of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A connection that is opened and closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    /// The port.
    pub port: u16,
    /// Seconds that the app has to accept.
    #[serde(default = "one_second")]
    pub timeout: u32,
}

/// A call of `grpc.health.v1.Health/Check`, without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcProbe {
    /// The port.
    pub port: u16,
    /// The service that is asked about; empty for the server as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Seconds that the app has to answer.
    #[serde(default = "one_second")]
    pub timeout: u32,
}

/// What Kubernetes gives a probe that says nothing.
const fn one_second() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_one_form() {
        let json = serde_json::json!({
            "/probes/app/liveness": {"http": {"port": 8080, "path": "/healthz?full", "scheme": "HTTPS",
                "headers": [{"name": "Host", "value": "app.example"}], "timeout": 3}},
            "/probes/app/readiness": {"tcp": {"port": 8080, "timeout": 1}},
            "/probes/app/startup": {"grpc": {"port": 9090, "service": "ledger", "timeout": 1}},
        });
        let read: Probes = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
        assert!(read.contains_key(&ProbeKind::Readiness.path("app")));
    }

    #[test]
    fn what_is_left_out_is_what_kubernetes_takes_it_for() {
        let read: Probe = serde_json::from_str(r#"{"http": {"port": 80, "path": "/"}}"#).unwrap();
        let Probe::Http(http) = read else { panic!("{read:?}") };
        assert_eq!((http.scheme, http.timeout, http.headers.len()), (Scheme::Http, 1, 0));
        let read: Probe = serde_json::from_str(r#"{"grpc": {"port": 80}}"#).unwrap();
        assert!(matches!(read, Probe::Grpc(grpc) if grpc.service.is_empty()));
        assert!(serde_json::from_str::<Probe>(r#"{"exec": {"command": ["x"]}}"#).is_err());
    }
}
