//! Chapter 2, below HTTP: who does not belong to the mesh is not heard at all.

use std::sync::Arc;
use std::time::Duration;

use fapi::Rejection;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Story;
use crate::demo::config::TRUST_DOMAIN;
use crate::demo::logs::Log;
use crate::demo::process::{Plan, Process, args};
use crate::demo::report::Outcome;
use crate::failure::{Failure, OrFail};
use crate::raw::Tls;
use crate::{crypto, files};

type Presented = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A sidecar that looks for its operator calls within this time.
const CALL: Duration = Duration::from_secs(5);
const MISTAKE: &str = "this is a mistake in the demo";

impl Story<'_> {
    pub(super) async fn handshakes(&mut self) -> Result<(), Failure> {
        self.report.progress("attacking the handshake");
        let shop = self.shop.identity.spiffe_id.as_str().to_owned();
        let elsewhere = shop.replace(TRUST_DOMAIN, "other.example");
        let shots = [
            ("2 no client certificate", None, Rejection::PeerCertificateMissing),
            ("2 a certificate of another CA", Some(another_ca(&shop)?), Rejection::PeerCertificateUntrusted),
            (
                "2 the right CA, another trust domain",
                Some(self.signed_by_the_mesh(&elsewhere)?),
                Rejection::TrustDomainNotAllowed,
            ),
        ];
        let target = self.target("payments")?;
        for (step, presented, rejection) in shots {
            let tls = Tls::new(presented, b"http/1.1").or_fail("no TLS", step, MISTAKE)?;
            let shot = target.shoot(&tls, target.ask("GET", "/balance")).await?;
            self.shot(step, Outcome::refused(rejection), &shot);
        }
        Ok(())
    }

    pub(super) async fn impostor(&mut self) -> Result<(), Failure> {
        let expect = Outcome::default().because(Rejection::PeerIdentityMismatch.id());
        let observed = self.posing_as_operator().await?;
        self.report.add("2 a pod's certificate posing as the operator", expect, observed);
        Ok(())
    }

    /// With the mesh's own CA key, out of the operator's state: no attacker has it, and still it does not help.
    fn signed_by_the_mesh(&self, id: &str) -> Result<Presented, Failure> {
        let pki = self.mesh.folder().join("pki");
        let read = |name: &str| files::read(&pki.join(name), MISTAKE);
        let certificate = read("issuing.pem")?;
        let key = KeyPair::from_pem(&read("issuing.key")?).or_fail("no CA key", pki.display(), MISTAKE)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).or_fail("no CA", pki.display(), MISTAKE)?;
        let (leaf, key) = leaf(id, &issuer)?;
        let authority: Result<Vec<_>, _> =
            rustls::pki_types::pem::PemObject::pem_slice_iter(certificate.as_bytes()).collect();
        let authority: Vec<CertificateDer<'static>> = authority.or_fail("no CA", pki.display(), MISTAKE)?;
        Ok(([vec![leaf], authority].concat(), key))
    }

    /// A server with shop's certificate where the operator should be, and a sidecar that is told to enrol there.
    async fn posing_as_operator(&self) -> Result<Outcome, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.or_fail("cannot listen", "127.0.0.1", MISTAKE)?;
        let address = listener.local_addr().or_fail("no address", "127.0.0.1", MISTAKE)?.to_string();
        let (chain, key) = self.shop.identity.for_tls();
        let mut config = ServerConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .or_fail("no TLS", "the impostor", MISTAKE)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let logs = self.mesh.folder().join("logs");
        let (log, errors) = (logs.join("deceived.log"), logs.join("deceived.err"));
        let operator = self.mesh.operator()?;
        let deceived = Process::start(Plan {
            name: "the deceived sidecar".to_owned(),
            program: self.mesh.programs().sidecar(),
            args: args([
                &"--control",
                &address,
                &"--trust-domain",
                &TRUST_DOMAIN,
                &"--trust-bundle",
                &self.mesh.folder().join("trust-bundle.pem"),
                &"--token-file",
                &operator.token_file("bank", "shop-1"),
            ]),
            env: Vec::new(),
            log: &log,
            errors: &errors,
        })?;
        let heard = timeout(CALL, heard(&listener, Arc::new(config))).await.unwrap_or(Heard::Nobody);
        let reason = Rejection::PeerIdentityMismatch.id();
        let said = Log::new(errors).start().find(|line| line.to_string().contains(reason)).await;
        deceived.kill().await;
        Ok(Outcome::default().because(match (heard, said) {
            (Heard::Refusal, Some(_)) => reason,
            (Heard::Refusal, None) => "nothing was logged",
            (Heard::Secrets, _) => "the sidecar spoke to an impostor",
            (Heard::Nobody, _) => "the sidecar called nobody",
        }))
    }
}

/// What an impostor heard of a sidecar.
enum Heard {
    Nobody,
    /// The handshake ended before a single byte of HTTP.
    Refusal,
    Secrets,
}

async fn heard(listener: &TcpListener, config: Arc<ServerConfig>) -> Heard {
    let Ok((stream, _)) = listener.accept().await else {
        return Heard::Nobody;
    };
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else {
        return Heard::Refusal;
    };
    match stream.read(&mut [0; 64]).await {
        Ok(1..) => Heard::Secrets,
        _ => Heard::Refusal,
    }
}

/// A whole PKI of somebody else, with the right names in it.
fn another_ca(id: &str) -> Result<Presented, Failure> {
    let key = KeyPair::generate().or_fail("no key", "rcgen", MISTAKE)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&key).or_fail("no CA", "rcgen", MISTAKE)?.der().clone();
    let (leaf, key) = leaf(id, &Issuer::new(params, key))?;
    Ok((vec![leaf, authority], key))
}

/// A leaf that is right in everything but what the step is about.
fn leaf(id: &str, issuer: &Issuer<'_, KeyPair>) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Failure> {
    let key = KeyPair::generate().or_fail("no key", "rcgen", MISTAKE)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().or_fail("no URI", id, MISTAKE)?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, issuer).or_fail("no certificate", id, MISTAKE)?.der().clone();
    Ok((leaf, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}
