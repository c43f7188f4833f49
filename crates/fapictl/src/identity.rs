//! `fapictl identity`: who the pods of a cluster are; or it enrols as a workload of a mesh on this machine, the way its sidecar
//! does, and keeps what it gets in a folder for curl and for the other commands.

mod enroll;
mod pods;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use control::identity::peer_from_leaf;
use control::tls::TrustBundle;
use fapi::{SpiffeId, TrustDomain};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;

use crate::args::{Enrolment, IdentityArgs};
use crate::crypto;
use crate::failure::{Failure, OrFail};
use crate::files::{self, Mode};
use crate::jose::{Key, base64};

const CERT: &str = "cert.pem";
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";
const BUNDLE: &str = "ca.pem";
const NOT_ENROLLED: &str = "make the folder with `fapictl identity` first";

/// A certificate of the mesh with its key, and the roots to verify others with.
pub(crate) struct Identity {
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Key,
    pub(crate) bundle: String,
    pub(crate) spiffe_id: SpiffeId,
}

/// Where an operator is and what to trust: what its state folder tells.
pub(crate) struct Operator {
    state: PathBuf,
    pub(crate) control: SocketAddr,
    pub(crate) issuer: String,
    /// Where the issuer listens, if its URL is no address.
    pub(crate) issuer_address: Option<SocketAddr>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) bundle: String,
}

/// `addresses.json`, as far as it matters here.
#[derive(Deserialize)]
struct Addresses {
    control: SocketAddr,
    issuer: String,
    #[serde(default)]
    issuer_address: Option<SocketAddr>,
    trust_domain: String,
}

/// Shows who pods are, or enrols and writes the folder.
pub(crate) async fn run(args: &IdentityArgs) -> Result<ExitCode, Failure> {
    let Some(Enrolment { state, workload: (namespace, name), out }) = &args.enrolment else {
        return pods::run(args).await;
    };
    let operator = Operator::read(state)?;
    let identity = operator.enroll(namespace, name, &args.connection.operator_namespace).await?;
    identity.save(out)?;
    println!("{} is in {}", identity.spiffe_id.as_str(), out.display());
    Ok(ExitCode::SUCCESS)
}

// === Operator ===

impl Operator {
    /// Reads the state folder of an operator that runs.
    pub(crate) fn read(state: &Path) -> Result<Self, Failure> {
        let remedy = "give the --state folder of an operator that runs (the demo's --state)";
        let path = state.join("addresses.json");
        let addresses: Addresses =
            serde_json::from_str(&files::read(&path, remedy)?).or_fail("cannot understand", path.display(), remedy)?;
        Ok(Self {
            state: state.to_owned(),
            control: addresses.control,
            issuer: addresses.issuer,
            issuer_address: addresses.issuer_address,
            trust_domain: TrustDomain::parse(&addresses.trust_domain).or_fail(
                "not a trust domain",
                path.display(),
                remedy,
            )?,
            bundle: files::read(&state.join("trust-bundle.pem"), remedy)?,
        })
    }

    /// A certificate for the workload, over a connection to an operator that has proven who it is.
    pub(crate) async fn enroll(&self, namespace: &str, name: &str, at: &str) -> Result<Identity, Failure> {
        let path = self.token_file(namespace, name);
        let remedy = "check the name: the operator keeps a token for every Workload document it has";
        let token = files::read(&path, remedy)?;
        let config = enroll::verified(&self.bundle, &self.trust_domain, at)?;
        let key = Key::generate()?;
        let answer = enroll::enroll(self.control, config, token.trim(), &key).await?;
        Identity::new(answer.chain, key, answer.bundle, "the answer of the operator")
    }

    /// Where the operator keeps the enrolment token of a workload.
    pub(crate) fn token_file(&self, namespace: &str, name: &str) -> PathBuf {
        self.state.join("tokens").join(namespace).join(format!("{name}.jwt"))
    }
}

// === Identity ===

impl Identity {
    fn new(chain: Vec<CertificateDer<'static>>, key: Key, bundle: String, place: &str) -> Result<Self, Failure> {
        let leaf = chain.first().or_fail("there is no certificate", place, NOT_ENROLLED)?;
        let peer = peer_from_leaf(leaf).or_fail("not a certificate of the mesh", place, NOT_ENROLLED)?;
        Ok(Self { spiffe_id: peer.spiffe_id, chain, key, bundle })
    }

    /// Reads a folder that [`Identity::save`] wrote.
    pub(crate) fn load(folder: &Path) -> Result<Self, Failure> {
        let place = folder.display().to_string();
        let read = |name: &str| files::read(&folder.join(name), NOT_ENROLLED);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(CHAIN)?.as_bytes()).collect();
        let chain = chain.or_fail("cannot understand chain.pem", &place, NOT_ENROLLED)?;
        Self::new(chain, Key::from_pem(&read(KEY)?, &place)?, read(BUNDLE)?, &place)
    }

    /// Writes `cert.pem`, `chain.pem`, `ca.pem`, and `key.pem` for the owner alone.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Failure> {
        files::private_folder(folder)?;
        let pem: Vec<String> = self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        let leaf = pem.first().map(String::as_str).unwrap_or_default();
        files::write(&folder.join(CERT), leaf.as_bytes(), Mode::Public)?;
        files::write(&folder.join(CHAIN), pem.concat().as_bytes(), Mode::Public)?;
        files::write(&folder.join(BUNDLE), self.bundle.as_bytes(), Mode::Public)?;
        files::write(&folder.join(KEY), self.key.pem().as_bytes(), Mode::Secret)
    }

    /// What certificate-bound tokens name (RFC 8705 section 3.1).
    pub(crate) fn thumbprint(&self) -> String {
        let leaf = self.chain.first().map(|leaf| crypto::sha256(leaf));
        base64(&leaf.unwrap_or_default())
    }

    /// The same for a TLS connection.
    pub(crate) fn for_tls(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec()));
        (self.chain.clone(), key)
    }

    /// A TLS client that shows this identity and calls only an operator of the same trust domain.
    pub(crate) fn towards_operator(&self, at: &str, alpn: &[u8]) -> Result<rustls::ClientConfig, Failure> {
        let trust_domain = trust_domain_of(&self.spiffe_id)?;
        let bundle = TrustBundle::from_pem(&trust_domain, &self.bundle);
        let bundle = bundle.or_fail("no trust", BUNDLE, NOT_ENROLLED)?;
        let (chain, key) = self.for_tls();
        let identity = control::tls::Identity::new(chain, key);
        let identity = identity.or_fail("the key does not fit the certificate", KEY, NOT_ENROLLED)?;
        let expect = vec![enroll::operator_id(&trust_domain, at)?];
        control::tls::client_config(&bundle, Some(&identity), expect, &[alpn]).or_fail("no TLS", "rustls", NOT_ENROLLED)
    }
}

fn trust_domain_of(id: &SpiffeId) -> Result<TrustDomain, Failure> {
    TrustDomain::parse(id.trust_domain()).or_fail("not a trust domain", id.as_str(), NOT_ENROLLED)
}

/// PEM, as RFC 7468 writes it.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests;
