//! What the vector files say. `UPDATE=1` writes them: ECDSA signatures are new each time, so they are kept as bytes.

mod cnf;
mod key;
mod opinion;
mod proof;
mod replay;
mod request;
mod token;

use serde_json::{Map, Value, json};

use crate::{
    mint::{self, AUDIENCE, ISSUER, Jwt, Key, NOW, SHOP},
    peers,
    run::{Asked, Case, Connected, Expected, Step, VectorFile},
};

/// Every file with its name.
pub(crate) fn all() -> Vec<(&'static str, VectorFile)> {
    [request::files(), cnf::files(), token::files(), key::files(), proof::files(), replay::files(), opinion::files()]
        .concat()
}

fn file(name: &'static str, about: &str, cases: Vec<Case>) -> (&'static str, VectorFile) {
    (name, VectorFile { about: about.to_owned(), world: world(), cases })
}

/// payments, called by shop.
fn world() -> Map<String, Value> {
    let world = json!({
        "trustDomain": "bank.example",
        "policy": policy(),
        "issuers": {ISSUER: {"keys": [Key::Issuer.published("mesh-1")]}},
        "keysFresh": true,
        "peer": peer(SHOP),
        "nonceSecret": "07".repeat(32),
        "replayCapacity": 100_000,
        "clock": NOW,
    });
    world.as_object().unwrap().clone()
}

fn policy() -> Value {
    json!({
        "name": "bank/payments",
        "mode": "Enforce",
        "resources": [{"audience": AUDIENCE, "origins": [AUDIENCE, "https://api.bank.example"]}],
        "issuers": [ISSUER],
        "senderConstraints": ["MTLS", "DPoP"],
        "rules": [
            {"methods": ["POST"], "paths": ["/transfers"], "scopes": ["transfers:write"],
                "callers": [{"namespace": "bank", "serviceAccount": "shop"}]},
            {"methods": ["GET"], "pathPrefixes": ["/accounts"], "scopes": ["accounts:read"],
                "callers": [{"namespace": "bank"}]},
        ],
    })
}

fn peer(spiffe_id: &str) -> Value {
    json!({"spiffeId": spiffe_id, "thumbprint": mint::certificate_of(spiffe_id), "notAfter": CERTIFICATES_END})
}

impl Case {
    fn new(name: impl Into<String>, request: Asked, expect: Expected) -> Self {
        let last = Step { clock: None, revoked: Vec::new(), request, expect, connected: None };
        Self { name: name.into(), world: Map::new(), before: Vec::new(), last }
    }

    /// In a world that is different in this.
    fn world(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.world.insert(member.to_owned(), value.into());
        self
    }

    fn at(mut self, clock: u64) -> Self {
        self.last.clock = Some(clock);
        self
    }

    /// While this is revoked.
    fn revoked(mut self, revocation: Value) -> Self {
        self.last.revoked.push(serde_json::from_value(revocation).unwrap());
        self
    }

    /// Where a sidecar does something else.
    fn connected(mut self, connected: Connected) -> Self {
        self.last.connected = Some(connected);
        self
    }

    /// After another request.
    fn after(mut self, clock: u64, request: Asked, expect: Expected) -> Self {
        self.before.push(Step { clock: Some(clock), revoked: Vec::new(), request, expect, connected: None });
        self
    }
}

impl Asked {
    fn bare() -> Self {
        Self { method: "POST".to_owned(), path: "/transfers".to_owned(), query: None, headers: Vec::new() }
    }

    fn bearer(token: &str) -> Self {
        Self::bare().header("authorization", &format!("Bearer {token}"))
    }

    fn dpop(token: &str, proof: &str) -> Self {
        Self::bare().header("authorization", &format!("DPoP {token}")).header("dpop", proof)
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }
}

/// A transfer with this token, sent as `Bearer`.
fn bearer(token: &Jwt) -> Asked {
    Asked::bearer(&token.sign())
}

/// A transfer with a good DPoP-bound token and its proof, bent.
fn bent(bend: impl FnOnce(Jwt) -> Jwt) -> Asked {
    bent_text(|proof| bend(proof).sign())
}

fn bent_text(bend: impl FnOnce(Jwt) -> String) -> Asked {
    let token = mint::dpop_token().sign();
    Asked::dpop(&token, &bend(mint::proof(&token)))
}

fn admitted() -> Expected {
    Expected::Admitted
}

fn refused(reason: &str, status: u16, challenge: Option<&str>) -> Expected {
    let (reason, www_authenticate) = (reason.to_owned(), challenge.map(str::to_owned));
    Expected::Refused { reason, status, www_authenticate, nonce: false }
}

/// No credentials that are understood: both schemes, no error.
fn no_credentials() -> Expected {
    refused("token_missing", 401, Some(r#"Bearer realm="fapi-mesh", DPoP algs="ES256 PS256 EdDSA""#))
}

fn bad_request() -> Expected {
    let both = r#"Bearer error="invalid_request", DPoP error="invalid_request", algs="ES256 PS256 EdDSA""#;
    refused("request_malformed", 400, Some(both))
}

/// `invalid_token` in answer to `Bearer`.
fn bad_token(reason: &str) -> Expected {
    refused(reason, 401, Some(r#"Bearer error="invalid_token""#))
}

/// `invalid_token` in answer to `DPoP`.
fn bad_bound_token(reason: &str) -> Expected {
    refused(reason, 401, Some(r#"DPoP error="invalid_token", algs="ES256 PS256 EdDSA""#))
}

fn bad_proof(reason: &str) -> Expected {
    refused(reason, 401, Some(r#"DPoP error="invalid_dpop_proof", algs="ES256 PS256 EdDSA""#))
}

fn wants_nonce(reason: &str) -> Expected {
    let challenge = r#"DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA""#.to_owned();
    Expected::Refused { reason: reason.to_owned(), status: 401, www_authenticate: Some(challenge), nonce: true }
}

/// 2126.
const CERTIFICATES_END: u64 = 4_922_899_200;
