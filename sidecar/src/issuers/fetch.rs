//! Metadata (RFC 8414, OpenID Connect Discovery) and key sets, by HTTPS, bounded in size and time. No redirect is followed,
//! and nothing that a token says decides where to look.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use control::{
    ExternalIssuer,
    tls::{Identity, Roots, TlsError},
};
use fapi::{Issuer, JwksError};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use crate::{
    control_client::dial::{self, DialError},
    local::answer_over,
};

const ANSWER_BYTES: usize = 64 * 1024;

/// Why a server gave nothing that can be used. The text is for the log: it holds nothing that the server wrote freely.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("it did not answer within {0:?}")]
    TooSlow(Duration),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the roots of the system, {}, cannot be read: {source}; give the FapiIssuer a caBundle, or the sidecar --roots-file", path.display())]
    RootsFile { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} is no https URL without credentials")]
    Url(String),
    #[error("{url} answered {status}; only 200 will do, and redirects are not followed")]
    Status { url: String, status: StatusCode },
    #[error("the answer of {url} broke off, or is longer than 64 KiB")]
    Body { url: String },
    #[error("{url} does not speak HTTP: {source}")]
    Http { url: String, source: hyper::Error },
    #[error("{url} is no metadata with an issuer (RFC 8414 section 2)")]
    Metadata { url: String },
    #[error("its metadata has no {0} (RFC 8414 section 2)")]
    NoEndpoint(&'static str),
    #[error("{url} names another issuer; the FapiIssuer's must be the same text (RFC 8414 section 3.3)")]
    IssuerMismatch { url: String },
    #[error(transparent)]
    Jwks(#[from] JwksError),
    #[error("its key set has no key that can be used (P-256, Ed25519, or RSA of 2048 bits and more, for signatures)")]
    NoKey,
}

/// One server: its name, and who vouches for it.
pub(crate) struct Server {
    issuer: Issuer,
    document: ExternalIssuer,
    roots_file: PathBuf,
}

/// The part of the metadata that is used.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
    #[serde(flatten)]
    endpoints: Endpoints,
    /// For clients that show a certificate (RFC 8705 section 5).
    #[serde(default)]
    mtls_endpoint_aliases: Endpoints,
}

#[derive(Debug, Default, Deserialize)]
struct Endpoints {
    token_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
}

impl Metadata {
    /// The token endpoint for us, who always have a certificate.
    pub(crate) fn token_endpoint(&self) -> Result<Endpoint, ServerError> {
        self.endpoint("token_endpoint", |endpoints| endpoints.token_endpoint.as_deref())
    }

    /// The introspection endpoint, in the same way.
    pub(crate) fn introspection_endpoint(&self) -> Result<Endpoint, ServerError> {
        self.endpoint("introspection_endpoint", |endpoints| endpoints.introspection_endpoint.as_deref())
    }

    fn endpoint(&self, name: &'static str, of: fn(&Endpoints) -> Option<&str>) -> Result<Endpoint, ServerError> {
        let url = of(&self.mtls_endpoint_aliases).or_else(|| of(&self.endpoints));
        let url = url.ok_or(ServerError::NoEndpoint(name))?;
        Endpoint::parse(url).ok_or_else(|| ServerError::Url(url.to_owned()))
    }
}

impl Server {
    pub(crate) fn new(issuer: Issuer, document: ExternalIssuer, roots_file: PathBuf) -> Self {
        Self { issuer, document, roots_file }
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The key set as the server serves it now.
    pub(super) async fn fetch(&self, within: Duration) -> Result<Bytes, ServerError> {
        timeout(within, self.fetch_slowly()).await.unwrap_or(Err(ServerError::TooSlow(within)))
    }

    async fn fetch_slowly(&self) -> Result<Bytes, ServerError> {
        let config = self.tls(None).await?;
        let uri = match &self.document.jwks_uri {
            Some(uri) => uri.clone(),
            None => self.discover(&config).await?.jwks_uri.ok_or(ServerError::NoEndpoint("jwks_uri"))?,
        };
        get(&uri, &config).await
    }

    /// Where everything is.
    pub(crate) async fn metadata(&self, within: Duration) -> Result<Metadata, ServerError> {
        let discovered = async { self.discover(&self.tls(None).await?).await };
        timeout(within, discovered).await.unwrap_or(Err(ServerError::TooSlow(within)))
    }

    /// For connections to it; `identity` is shown if it asks for a certificate.
    pub(crate) async fn tls(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, ServerError> {
        Ok(Arc::new(control::tls::public_client_config(&self.roots().await?, identity)?))
    }

    async fn roots(&self) -> Result<Roots, ServerError> {
        let pem = match &self.document.ca_bundle {
            Some(pem) => pem.clone(),
            None => {
                let failed = |source| ServerError::RootsFile { path: self.roots_file.clone(), source };
                tokio::fs::read_to_string(&self.roots_file).await.map_err(failed)?
            }
        };
        Ok(Roots::from_pem(&pem)?)
    }

    /// The metadata, at the place of RFC 8414 or else that of OpenID Connect.
    async fn discover(&self, config: &Arc<ClientConfig>) -> Result<Metadata, ServerError> {
        let [first, second] = well_known(self.issuer.as_str());
        match self.metadata_at(&first, config).await {
            Ok(metadata) => Ok(metadata),
            // Nobody will answer at the second place either.
            Err(error @ ServerError::Dial(_)) => Err(error),
            Err(_) => self.metadata_at(&second, config).await,
        }
    }

    async fn metadata_at(&self, url: &str, config: &Arc<ClientConfig>) -> Result<Metadata, ServerError> {
        let body = get(url, config).await?;
        let unread = |_| ServerError::Metadata { url: url.to_owned() };
        let metadata: Metadata = serde_json::from_slice(&body).map_err(unread)?;
        if metadata.issuer != self.issuer.as_str() {
            return Err(ServerError::IssuerMismatch { url: url.to_owned() });
        }
        Ok(metadata)
    }
}

/// Where metadata is: RFC 8414 section 3.1 puts its part before the path of the issuer, OpenID Connect Discovery 4 after it.
fn well_known(issuer: &str) -> [String; 2] {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let path = base.match_indices('/').nth(2).map_or(base.len(), |(at, _)| at);
    let (host, path) = base.split_at(path);
    [format!("{host}/.well-known/oauth-authorization-server{path}"), format!("{base}/.well-known/openid-configuration")]
}

/// The body of a good answer.
async fn get(url: &str, config: &Arc<ClientConfig>) -> Result<Bytes, ServerError> {
    let endpoint = Endpoint::parse(url).ok_or_else(|| ServerError::Url(url.to_owned()))?;
    let mut request = endpoint.request(Empty::<Bytes>::new());
    request
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static("application/json, application/jwk-set+json"));
    let stream = dial::by_dns_name(&endpoint.host, endpoint.port, Arc::clone(config)).await?;
    let broken = |source| ServerError::Http { url: url.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(ServerError::Status { url: url.to_owned(), status: response.status() });
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok(body.map_err(|_| ServerError::Body { url: url.to_owned() })?.to_bytes())
    };
    answer_over(connection, answer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_where_the_standards_say() {
        for (issuer, expected) in [
            (
                "https://as.example",
                [
                    "https://as.example/.well-known/oauth-authorization-server",
                    "https://as.example/.well-known/openid-configuration",
                ],
            ),
            (
                "https://as.example:8443/realms/bank/",
                [
                    "https://as.example:8443/.well-known/oauth-authorization-server/realms/bank",
                    "https://as.example:8443/realms/bank/.well-known/openid-configuration",
                ],
            ),
        ] {
            assert_eq!(well_known(issuer), expected);
        }
    }

    #[test]
    fn a_client_with_a_certificate_goes_where_certificates_are_asked_for() {
        let read = |more: &str| {
            serde_json::from_str::<Metadata>(&format!(
                r#"{{"issuer":"https://as","token_endpoint":"https://as/t"{more}}}"#
            ))
            .unwrap()
        };
        assert_eq!(read("").token_endpoint().unwrap().url, "https://as/t");
        assert!(matches!(read("").introspection_endpoint(), Err(ServerError::NoEndpoint("introspection_endpoint"))));
        let alias = read(
            r#","introspection_endpoint":"https://as/i","mtls_endpoint_aliases":{"token_endpoint":"https://m/t"}"#,
        );
        assert_eq!(alias.token_endpoint().unwrap().url, "https://m/t");
        assert_eq!(alias.introspection_endpoint().unwrap().url, "https://as/i", "each by itself");
        let plain = read(r#","mtls_endpoint_aliases":{"token_endpoint":"http://m/t"}"#);
        assert!(matches!(plain.token_endpoint(), Err(ServerError::Url(_))));
    }
}
