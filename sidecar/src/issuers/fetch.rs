//! Metadata (RFC 8414, OpenID Connect Discovery) and key sets, by HTTPS, bounded in size and time. No redirect is followed,
//! and nothing that a token says decides where to look.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use control::{
    ExternalIssuer,
    tls::{Roots, TlsError},
};
use fapi::{Issuer, JwksError};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::time::timeout;

use crate::control_client::dial::{self, DialError};

const ANSWER_BYTES: usize = 64 * 1024;

/// Why there are no keys. The text is for the log: it holds nothing that the server wrote freely.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
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
    #[error("{url} is no metadata with issuer and jwks_uri (RFC 8414 section 2)")]
    Metadata { url: String },
    #[error("{url} names another issuer; the FapiIssuer's must be the same text (RFC 8414 section 3.3)")]
    IssuerMismatch { url: String },
    #[error(transparent)]
    Jwks(#[from] JwksError),
    #[error("its key set has no key that can be used (P-256, Ed25519, or RSA of 2048 bits and more, for signatures)")]
    NoKey,
}

/// Where the keys of one issuer are.
pub(super) struct Server {
    issuer: Issuer,
    document: ExternalIssuer,
    roots_file: PathBuf,
}

/// The part of the metadata that is used.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Server {
    pub(super) fn new(issuer: Issuer, document: ExternalIssuer, roots_file: PathBuf) -> Self {
        Self { issuer, document, roots_file }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The key set as the server serves it now.
    pub(super) async fn fetch(&self, within: Duration) -> Result<Bytes, KeysError> {
        timeout(within, self.fetch_slowly()).await.unwrap_or(Err(KeysError::TooSlow(within)))
    }

    async fn fetch_slowly(&self) -> Result<Bytes, KeysError> {
        let config = Arc::new(control::tls::public_client_config(&self.roots().await?)?);
        match &self.document.jwks_uri {
            Some(uri) => get(uri, &config).await,
            None => get(&self.discover(&config).await?, &config).await,
        }
    }

    async fn roots(&self) -> Result<Roots, KeysError> {
        let pem = match &self.document.ca_bundle {
            Some(pem) => pem.clone(),
            None => {
                let failed = |source| KeysError::RootsFile { path: self.roots_file.clone(), source };
                tokio::fs::read_to_string(&self.roots_file).await.map_err(failed)?
            }
        };
        Ok(Roots::from_pem(&pem)?)
    }

    /// `jwks_uri` of the metadata, at the place of RFC 8414 or else that of OpenID Connect.
    async fn discover(&self, config: &Arc<ClientConfig>) -> Result<String, KeysError> {
        let [first, second] = well_known(self.issuer.as_str());
        match self.metadata(&first, config).await {
            Ok(jwks_uri) => Ok(jwks_uri),
            // Nobody will answer at the second place either.
            Err(error @ KeysError::Dial(_)) => Err(error),
            Err(_) => self.metadata(&second, config).await,
        }
    }

    async fn metadata(&self, url: &str, config: &Arc<ClientConfig>) -> Result<String, KeysError> {
        let body = get(url, config).await?;
        let unread = |_| KeysError::Metadata { url: url.to_owned() };
        let metadata: Metadata = serde_json::from_slice(&body).map_err(unread)?;
        if metadata.issuer != self.issuer.as_str() {
            return Err(KeysError::IssuerMismatch { url: url.to_owned() });
        }
        Ok(metadata.jwks_uri)
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
async fn get(url: &str, config: &Arc<ClientConfig>) -> Result<Bytes, KeysError> {
    let (host, port, request) = request(url).ok_or_else(|| KeysError::Url(url.to_owned()))?;
    let stream = dial::by_dns_name(&host, port, Arc::clone(config)).await?;
    let broken = |source| KeysError::Http { url: url.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(KeysError::Status { url: url.to_owned(), status: response.status() });
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok(body.map_err(|_| KeysError::Body { url: url.to_owned() })?.to_bytes())
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        // What broke the connection shows at the answer, unless that is there already.
        _ = &mut connection => answer.await,
    }
}

/// Host, port and request of an https URL without credentials.
fn request(url: &str) -> Option<(String, u16, Request<Empty<Bytes>>)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or(443));
    let mut request = Request::new(Empty::new());
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, application/jwk-set+json"));
    *request.uri_mut() = Uri::from(uri.path_and_query()?.clone());
    Some((host, port, request))
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
    fn only_https_without_credentials_is_asked() {
        for url in
            ["http://as.example/jwks", "https://u:p@as.example/jwks", "/jwks", "as.example", "file:///etc/passwd", ""]
        {
            assert!(request(url).is_none(), "{url}");
        }
        let (host, port, request) = request("https://as.example:8443/jwks?v=1").unwrap_or_default();
        assert_eq!((host.as_str(), port, request.uri().to_string().as_str()), ("as.example", 8443, "/jwks?v=1"));
    }
}
