//! The enrolment call: TLS to an operator that must prove its identity, then one gRPC request.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use control::pb::EnrollRequest;
use control::pb::control_client::ControlClient;
use control::tls::TrustBundle;
use fapi::{SpiffeId, TrustDomain};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;

use crate::failure::{Failure, OrFail, with_sources};
use crate::jose::Key;

/// Connecting, proving and signing together.
const LIMIT: Duration = Duration::from_secs(10);

/// What the operator answers.
pub(super) struct Enrolled {
    /// Leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) bundle: String,
}

/// The identity that an operator proves before anything is told to it.
pub(super) fn operator_id(trust_domain: &TrustDomain, namespace: &str) -> Result<SpiffeId, Failure> {
    SpiffeId::new(trust_domain, namespace, control::OPERATOR_SERVICE_ACCOUNT).or_fail(
        "not a namespace",
        namespace,
        "give --operator-namespace as the operator was given it",
    )
}

/// A TLS client for the operator in `namespace`, before we have a certificate of our own.
pub(super) fn verified(bundle: &str, trust_domain: &TrustDomain, namespace: &str) -> Result<ClientConfig, Failure> {
    let remedy = "let the operator write its trust bundle anew: start it once";
    let bundle = TrustBundle::from_pem(trust_domain, bundle).or_fail("no trust", "trust-bundle.pem", remedy)?;
    let expect = vec![operator_id(trust_domain, namespace)?];
    control::tls::client_config(&bundle, None, expect, &[b"h2"]).or_fail("no TLS", "rustls", remedy)
}

/// Sends the token and a certificate request for `key`.
pub(super) async fn enroll(
    control: SocketAddr,
    config: ClientConfig,
    token: &str,
    key: &Key,
) -> Result<Enrolled, Failure> {
    let work = async {
        let connector = Connector { address: control, config: Arc::new(config) };
        let channel = Endpoint::from_static("http://operator.invalid")
            .connect_with_connector(connector)
            .await
            .map_err(|error| said(&error))?;
        let request = EnrollRequest { token: token.to_owned(), csr_der: key.csr()? };
        let answer = ControlClient::new(channel).enroll(request).await;
        let answer = answer.map_err(|status| said(&status))?.into_inner();
        Ok::<_, Failure>(Enrolled {
            chain: answer.chain_der.into_iter().map(CertificateDer::from).collect(),
            bundle: answer.trust_bundle_pem,
        })
    };
    timeout(LIMIT, work).await.or_fail("no answer", control, "check that the operator runs")?.map_err(|failure| {
        Failure::new(
            format!("the operator gave no certificate: {failure}"),
            control,
            "check that it runs, and that the token file is the current one",
        )
    })
}

fn said(error: &dyn std::error::Error) -> Failure {
    Failure::new(with_sources(error), "the control connection", "see below")
}

/// Opens the one connection of an enrolment.
struct Connector {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, config) = (self.address, self.config.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::IpAddress(address.ip().into());
            TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
        })
    }
}
