//! The command line. Every flag can also be given in the environment, as `FAPI_` and its name.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use control::pod::probes::{Place, Probes};
use fapi::{SpiffeId, TokenHash, TrustDomain};

pub use crate::health::InvalidProbe;
use crate::{
    health::{Question, Questions},
    identity::Settings,
    interception::Interception,
    outbound::Between,
};

/// The sidecar of fapi-mesh: mutual TLS, bound tokens and their checks for one workload.
#[derive(Debug, Parser)]
#[command(
    name = "fapi-sidecar",
    version,
    after_help = "`fapi-sidecar redirect` sets the rules that bring the calls of a pod to its sidecar, `fapi-sidecar ready` asks \
                  whether the sidecar of a pod serves; see their --help."
)]
pub struct Args {
    /// The operator's control server, host:port.
    #[arg(long, env = "FAPI_CONTROL", value_name = "HOST:PORT")]
    pub control: String,
    /// The trust domain of the mesh.
    #[arg(long, env = "FAPI_TRUST_DOMAIN")]
    pub trust_domain: String,
    /// The namespace that the operator runs in; part of the identity that it must show.
    #[arg(long, env = "FAPI_OPERATOR_NAMESPACE", default_value = "fapi-mesh")]
    pub operator_namespace: String,
    /// The roots of the mesh, PEM; read at each first contact with the operator.
    #[arg(long, env = "FAPI_TRUST_BUNDLE", value_name = "FILE")]
    pub trust_bundle: PathBuf,
    /// The workload's token for enrolment; read at each enrolment.
    #[arg(long, env = "FAPI_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// The roots of the system, PEM, for issuers outside the mesh whose FapiIssuer brings none; read at each fetch of keys.
    #[arg(long, env = "FAPI_ROOTS_FILE", value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub roots_file: PathBuf,
    /// How calls come to the sidecar.
    #[arg(long, env = "FAPI_INTERCEPTION", value_enum, default_value = "none")]
    pub interception: Interception,
    /// Where the app's calls come in, as an HTTP proxy [default: 127.0.0.1:0, in a pod 127.0.0.1:15002]
    #[arg(long, env = "FAPI_OUTBOUND_LISTEN", value_name = "ADDRESS")]
    pub outbound_listen: Option<SocketAddr>,
    /// Probes, metrics and the applied configuration [default: 127.0.0.1:0, in a pod 127.0.0.1:15000]
    #[arg(long, env = "FAPI_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// The app's probes, which the sidecar performs for the kubelet: JSON, from path to probe.
    #[arg(long, env = "FAPI_PROBES", value_name = "JSON")]
    pub probes: Option<String>,
    /// Threads that carry calls: one per core that the process may use.
    #[arg(long, env = "FAPI_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// What is spoken between two sidecars, where both would do.
    #[arg(long, env = "FAPI_BETWEEN", value_enum, default_value = "h2")]
    pub between: Between,
    /// Seconds that calls in progress have to finish after SIGTERM.
    #[arg(long, env = "FAPI_DRAIN_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_seconds: u64,
}

/// A flag that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// Not a trust domain.
    #[error("--trust-domain {given}: {problem}; give the trust domain of the mesh, such as bank.example")]
    TrustDomain {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: fapi::InvalidValue,
    },
    /// Not the probes of a pod.
    #[error("--probes: {0}; they are written by the injector, so use an injector of the sidecar's version")]
    Probes(#[from] serde_json::Error),
    /// A probe that cannot be asked.
    #[error("--probes: {probe}: {problem}; correct the probe in the pod")]
    Probe {
        /// Which one.
        probe: String,
        /// What is wrong with it.
        problem: InvalidProbe,
    },
    /// Not the name of a namespace.
    #[error("--operator-namespace {given}: {problem}; give the namespace that the operator runs in")]
    OperatorNamespace {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: fapi::InvalidValue,
    },
}

impl Args {
    /// The trust domain.
    ///
    /// # Errors
    /// The flag is not one.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, ArgsError> {
        let given = self.trust_domain.clone();
        TrustDomain::parse(&given).map_err(|problem| ArgsError::TrustDomain { given, problem })
    }

    /// What first contact with the operator needs.
    ///
    /// # Errors
    /// The operator's identity cannot be made of the flags.
    pub(crate) fn settings(&self, trust_domain: &TrustDomain) -> Result<Settings, ArgsError> {
        let operator = SpiffeId::new(trust_domain, &self.operator_namespace, control::OPERATOR_SERVICE_ACCOUNT);
        let given = self.operator_namespace.clone();
        let operator = operator.map_err(|problem| ArgsError::OperatorNamespace { given, problem })?;
        Ok(Settings {
            control: self.control.clone(),
            operator,
            trust_bundle: self.trust_bundle.clone(),
            token: self.token_file.clone(),
            roots: self.roots_file.clone(),
        })
    }

    /// What to ask of the app.
    ///
    /// # Errors
    /// The flag holds no probes, or one that cannot be asked.
    pub(crate) fn questions(&self) -> Result<Questions, ArgsError> {
        let probes: Probes = serde_json::from_str(self.probes.as_deref().unwrap_or("{}"))?;
        let question = |(path, probe): (&String, _)| match Question::new(path, probe) {
            Ok(question) => Ok((TokenHash::of(path), question)),
            Err(problem) => {
                let known =
                    Place::at(path).map(|place| format!("{} of container {}", place.kind.name(), place.container));
                Err(ArgsError::Probe { probe: known.unwrap_or_else(|| path.clone()), problem })
            }
        };
        probes.iter().map(question).collect()
    }

    /// How long calls in progress have to finish.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
