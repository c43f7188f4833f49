use http::{HeaderValue, Request, Uri, header};

/// Where requests to an authorization server go: an https URL without credentials, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As it was named; also `htu` of proofs.
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    authority: HeaderValue,
    path: Uri,
}

impl Endpoint {
    /// `None` for anything else.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        if uri.scheme_str() != Some("https") {
            return None;
        }
        Some(Self {
            url: url.to_owned(),
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            authority: HeaderValue::from_str(authority.as_str()).ok()?,
            path: Uri::from(uri.path_and_query()?.clone()),
        })
    }

    /// `host:port`.
    pub(crate) fn target(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A request to it, still without method.
    pub(crate) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(header::HOST, self.authority.clone());
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_credentials_is_asked() {
        for url in
            ["http://as.example/jwks", "https://u:p@as.example/jwks", "/jwks", "as.example", "file:///etc/passwd", ""]
        {
            assert_eq!(Endpoint::parse(url), None, "{url}");
        }
        let endpoint = Endpoint::parse("https://as.example:8443/jwks?v=1").unwrap();
        assert_eq!(endpoint.target(), "as.example:8443");
        let request = endpoint.request(());
        assert_eq!(request.uri(), "/jwks?v=1");
        assert_eq!(request.headers()["host"], "as.example:8443");
        assert_eq!(Endpoint::parse("https://[::1]/").unwrap().target(), "[::1]:443");
    }
}
