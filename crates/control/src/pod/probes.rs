//! The probes of a meshed pod: the injector sends the kubelet to the sidecar's health port, and tells the sidecar what to ask
//! of the app in its place.
//!
//! The kubelet then needs no way past the sidecar, so none has to be left open for whoever has its address.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The environment variable of the sidecar that holds a [`Probes`] as JSON.
pub const PROBES_ENV: &str = "FAPI_PROBES";

/// What to ask of the app, by the path that the kubelet gets on [`super::HEALTH_PORT`].
pub type Probes = BTreeMap<String, Probe>;

/// Seconds that an app has to answer at most, whatever a probe or hook says.
pub const LONGEST: u32 = 3600;

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
    const ALL: [Self; 5] = [Self::Liveness, Self::Readiness, Self::Startup, Self::PostStart, Self::PreStop];

    /// Its name in paths and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
            Self::PostStart => "poststart",
            Self::PreStop => "prestop",
        }
    }

    /// Whether it is a hook: the app does something, where a probe only asks how it is.
    pub const fn is_hook(self) -> bool {
        matches!(self, Self::PostStart | Self::PreStop)
    }

    /// The path on the health port for this probe of a container. That of a hook ends in the secret of its pod.
    pub fn path(self, container: &str, secret: &HookSecret) -> String {
        let path = format!("/probes/{container}/{}", self.name());
        if self.is_hook() { format!("{path}/{}", secret.0) } else { path }
    }
}

/// The part of a hook's path that nobody guesses: the health port is open to everybody who reaches the pod, and a hook may drain
/// or stop the app. Known to whoever may read the pod.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret(String);

impl HookSecret {
    /// Made of randomness.
    pub fn new(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)))
    }

    /// Reads one again: 32 hexadecimal digits, the letters small.
    fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret")
    }
}

/// Whose probe a path of the health port stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The container.
    pub container: &'a str,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// What its path ends in. A hook's without it is not to be performed for anybody.
    pub secret: Option<HookSecret>,
}

impl<'a> Place<'a> {
    /// Reads a path; `None` if it is no probe's.
    pub fn at(path: &'a str) -> Option<Self> {
        let (container, rest) = path.strip_prefix("/probes/")?.split_once('/')?;
        let (kind, secret) = rest.split_once('/').map_or((rest, None), |(kind, secret)| (kind, Some(secret)));
        let kind = ProbeKind::ALL.into_iter().find(|known| known.name() == kind)?;
        if container.is_empty() || (secret.is_some() && !kind.is_hook()) {
            return None;
        }
        Some(Self { container, kind, secret: secret.and_then(HookSecret::parse) })
    }
}

/// One question to the app, as the pod's author wrote it; ports are numbers of the pod, named ones resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// `httpGet`: good is a status from 200 to 399, and for a hook any answer.
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
    /// Path and query as the pod's author wrote them; whoever asks encodes what has to be.
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
        assert!(read.contains_key(&ProbeKind::Readiness.path("app", &HookSecret::new([0; 16]))));
    }

    #[test]
    fn a_path_is_read_as_it_was_written() {
        let secret = HookSecret::new([0x0a; 16]);
        for kind in ProbeKind::ALL {
            let path = kind.path("app", &secret);
            let expected = Place { container: "app", kind, secret: kind.is_hook().then(|| secret.clone()) };
            assert_eq!(Place::at(&path), Some(expected), "{path}");
        }
        assert_eq!(ProbeKind::PreStop.path("app", &secret), "/probes/app/prestop/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a");
    }

    #[test]
    fn what_could_be_guessed_is_no_secret() {
        let long = "0a".repeat(17);
        for text in
            ["", "/0a", "/0A0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0g", &format!("/{long}")]
        {
            let path = format!("/probes/app/prestop{text}");
            assert_eq!(Place::at(&path).map(|place| place.secret), Some(None), "{path}");
        }
        for path in ["/probes/app/liveness/x", "/probes//liveness", "/probes/app", "/probes/app/exec", "/readyz", ""] {
            assert_eq!(Place::at(path), None, "{path}");
        }
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
