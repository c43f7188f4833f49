//! `fapictl token`: asks the mesh issuer for an access token, with the certificate of an identity folder
//! (RFC 6749 section 4.4, RFC 8705 section 2, RFC 8707). The demo also has tokens exchanged (RFC 8693).

use std::net::SocketAddr;

use serde_json::Value;

use crate::args::TokenArgs;
use crate::failure::{Failure, OrFail};
use crate::files::{self, Mode};
use crate::identity::{Identity, Operator};
use crate::jose::{self, Key};
use crate::proof;
use crate::raw::{Ask, Line, Reply, Tls, connect};

const METADATA: &str = "/.well-known/oauth-authorization-server";

/// What to ask for.
pub(crate) struct Wish<'a> {
    pub(crate) audience: &'a str,
    pub(crate) scope: Option<&'a str>,
    /// The key to bind the token to, instead of the certificate.
    pub(crate) dpop: Option<&'a Key>,
    /// The token to get it in exchange for.
    pub(crate) subject: Option<&'a str>,
}

/// An issuer, as found at its URL.
pub(crate) struct Issuer {
    /// Where it listens.
    address: SocketAddr,
    host: String,
    /// The identifier that stands in its tokens.
    url: String,
}

/// Prints a token; with `--dpop` keeps the proof key beside the certificate.
pub(crate) async fn run(args: &TokenArgs) -> Result<(), Failure> {
    let identity = Identity::load(&args.identity)?;
    let issuer = Issuer::parse(&args.issuer)?;
    let tls = Tls::verified(identity.towards_operator(&args.operator_namespace, b"http/1.1")?);
    let dpop = if args.dpop { Some(Key::generate()?) } else { None };
    let wish = Wish { audience: &args.audience, scope: args.scope.as_deref(), dpop: dpop.as_ref(), subject: None };
    let reply = issuer.ask(&tls, identity.spiffe_id.as_str(), &wish).await?;
    let answer = reply.json();
    let Some(token) = answer["access_token"].as_str() else {
        return Err(refused(&reply, &args.issuer));
    };
    check_binding(token, &identity, dpop.as_ref(), &args.issuer)?;
    if let Some(key) = &dpop {
        files::write(&args.identity.join(proof::KEY_FILE), key.pem().as_bytes(), Mode::Secret)?;
    }
    println!("{token}");
    Ok(())
}

/// A token that is bound to something else, or to nothing, is not what was asked for (RFC 9449 section 5).
fn check_binding(token: &str, identity: &Identity, dpop: Option<&Key>, issuer: &str) -> Result<(), Failure> {
    let (_, claims) = jose::read(token);
    let bound = match dpop {
        Some(key) => claims["cnf"]["jkt"] == key.thumbprint(),
        None => claims["cnf"]["x5t#S256"] == identity.thumbprint(),
    };
    bound.then_some(()).or_fail("the token is not bound to us", issuer, "do not use this issuer")
}

fn refused(reply: &Reply, issuer: &str) -> Failure {
    let answer = reply.json();
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let remedy = match answer["error"].as_str() {
        Some("invalid_target") => "let the service's FapiPolicy name this caller, or name a service that exists",
        Some("invalid_scope") => "ask for scopes that the service's FapiPolicy gives this caller",
        Some("invalid_client") => "enrol again: `fapictl identity`",
        _ => "see the operator's log",
    };
    Failure::new(
        format!("the issuer refused ({}): {} {}", reply.status, text("error"), text("error_description")),
        issuer,
        remedy,
    )
}

impl Issuer {
    /// Takes the URL apart; the mesh issuer is always an address and a port.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("https://").unwrap_or_default();
        let address = host.parse();
        let address = address.or_fail("not the URL of a mesh issuer", url, "take `issuer` from demo.json")?;
        Ok(Self { address, host: host.to_owned(), url: url.to_owned() })
    }

    /// The issuer of an operator.
    pub(crate) fn of(operator: &Operator) -> Result<Self, Failure> {
        let Some(address) = operator.issuer_address else { return Self::parse(&operator.issuer) };
        let url = operator.issuer.trim_end_matches('/').to_owned();
        Ok(Self { address, host: url.trim_start_matches("https://").to_owned(), url })
    }

    /// Asks for a token, once more if the issuer wants its nonce in the proof (RFC 9449 section 8).
    /// Any answer is an answer: what it means is the caller's business.
    pub(crate) async fn ask(&self, tls: &Tls, client_id: &str, wish: &Wish<'_>) -> Result<Reply, Failure> {
        let mut line = self.connect(tls).await?;
        let endpoint = self.token_endpoint(&mut line).await?;
        let reply = self.post(&mut line, &endpoint, client_id, wish, None).await?;
        if reply.json()["error"] != "use_dpop_nonce" {
            return Ok(reply);
        }
        let nonce = reply.header("dpop-nonce").map(ToOwned::to_owned);
        self.post(&mut line, &endpoint, client_id, wish, nonce.as_deref()).await
    }

    /// The key set that it publishes (RFC 7517).
    pub(crate) async fn keys(&self, tls: &Tls) -> Result<Value, Failure> {
        let mut line = self.connect(tls).await?;
        let uri = self.metadata(&mut line, "jwks_uri").await?;
        Ok(self.get(&mut line, &uri).await?.json())
    }

    async fn connect(&self, tls: &Tls) -> Result<Line, Failure> {
        let remedy = "check that the operator runs and that the certificate is still valid";
        let line = connect(self.address, tls).await.or_fail("no connection", &self.url, remedy)?;
        line.map_err(|refused| refused.error).or_fail("the TLS handshake failed", &self.url, remedy)
    }

    async fn token_endpoint(&self, line: &mut Line) -> Result<String, Failure> {
        self.metadata(line, "token_endpoint").await
    }

    /// One URL out of its metadata (RFC 8414); it must lead back to the issuer itself.
    async fn metadata(&self, line: &mut Line, name: &str) -> Result<String, Failure> {
        let metadata = self.get(line, &format!("{}{METADATA}", self.url)).await?.json();
        let found = metadata[name].as_str().filter(|url| url.starts_with(&self.url) && metadata["issuer"] == self.url);
        found.map(ToOwned::to_owned).or_fail(
            "its metadata names another issuer, or none",
            &self.url,
            "take `issuer` from demo.json",
        )
    }

    async fn get(&self, line: &mut Line, url: &str) -> Result<Reply, Failure> {
        self.send(line, &Ask::new("GET", &self.host, self.path(url))).await
    }

    async fn post(
        &self,
        line: &mut Line,
        endpoint: &str,
        client_id: &str,
        wish: &Wish<'_>,
        nonce: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut ask = Ask::new("POST", &self.host, self.path(endpoint))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(client_id, wish));
        if let Some(key) = wish.dpop {
            let claims = proof::claims("POST", endpoint, None, nonce)?;
            ask = ask.header("dpop", proof::sign(key, &claims)?);
        }
        self.send(line, &ask).await
    }

    async fn send(&self, line: &mut Line, ask: &Ask) -> Result<Reply, Failure> {
        let reply = line.ask(ask).await;
        reply.map_err(|refused| refused.error).or_fail("no answer", &self.url, "see the operator's log")
    }

    fn path<'a>(&self, url: &'a str) -> &'a str {
        url.strip_prefix(&self.url).unwrap_or(url)
    }
}

fn form(client_id: &str, wish: &Wish<'_>) -> String {
    let grant_type = wish.subject.map_or("client_credentials", |_| "urn:ietf:params:oauth:grant-type:token-exchange");
    let mut fields = vec![("grant_type", grant_type), ("client_id", client_id), ("resource", wish.audience)];
    if let Some(subject) = wish.subject {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        fields.extend([("subject_token", subject), ("subject_token_type", kind)]);
    }
    fields.extend(wish.scope.map(|scope| ("scope", scope)));
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    fields.join("&")
}

fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().fold(String::new(), |text, byte| match plain(byte) {
        true => text + &char::from(byte).to_string(),
        false => format!("{text}%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn the_form_escapes_what_would_break_it() {
        let wish = Wish { audience: "https://ledger.bank", scope: Some("a b&c"), dpop: None, subject: None };
        let form = form("spiffe://d/ns/a/sa/b", &wish);
        assert_eq!(
            form,
            "grant_type=client_credentials&client_id=spiffe%3A%2F%2Fd%2Fns%2Fa%2Fsa%2Fb\
             &resource=https%3A%2F%2Fledger.bank&scope=a%20b%26c"
        );
    }

    #[test]
    fn an_issuer_is_an_https_address() {
        assert!(Issuer::parse("https://127.0.0.1:4000/").is_ok());
        for wrong in ["http://127.0.0.1:4000", "127.0.0.1:4000", "https://issuer.example"] {
            assert!(Issuer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
