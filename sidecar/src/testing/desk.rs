//! What an authorization server outside the mesh does with forms: gives tokens, tells of tokens, or misbehaves.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fapi::{ClientAssertion, KeySet, NonceMinter, Peer, ReplaySet, SigningKey, UnixTime, check_token_endpoint_proof};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{clock::Clock, random};

/// How a form is answered.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// As it should be.
    Good,
    /// This status, with this header and body.
    Text(u16, Option<(&'static str, &'static str)>, String),
    /// A good answer, but for these members; `null` removes.
    But(Value),
    /// Nothing, for ever.
    Silence,
}

/// A form that came, and who brought it.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    pub(crate) url: String,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) peer: Option<Peer>,
    /// Its `DPoP` proof.
    pub(crate) proof: Option<String>,
}

pub(crate) struct Desk {
    pub(crate) says: RefCell<Says>,
    /// Every form so far.
    pub(crate) brought: RefCell<Vec<Brought>>,
    /// The keys of `shop-7`, for assertions.
    pub(crate) client_keys: RefCell<Option<Arc<KeySet>>>,
    /// The `aud` of answers about tokens, if they are signed.
    pub(crate) signs_for: RefCell<Option<&'static str>>,
    /// What the server knows of tokens that only it can read.
    known: RefCell<HashMap<String, Value>>,
    /// The thumbprints of the keys that proofs were made with.
    pub(crate) proof_keys: RefCell<Vec<String>>,
    nonces: NonceMinter,
    replay: ReplaySet,
    pub(crate) clock: Clock,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            says: RefCell::new(Says::Good),
            brought: RefCell::default(),
            client_keys: RefCell::default(),
            signs_for: RefCell::default(),
            known: RefCell::default(),
            proof_keys: RefCell::default(),
            nonces: NonceMinter::new(random::bytes().unwrap()),
            replay: ReplaySet::new(1000, 1000),
            clock: Clock::default(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.brought.borrow().len()
    }

    /// A token of client `shop-7` that says nothing, bound to the certificate of `peer`.
    pub(crate) fn opaque(&self, issuer: &str, peer: &Peer, audience: &str) -> String {
        let (token, now) = (URL_SAFE_NO_PAD.encode(random::bytes::<16>().unwrap()), self.clock.now().as_secs());
        let says = json!({
            "active": true, "iss": issuer, "azp": "shop-7", "aud": audience, "iat": now, "exp": now + 300,
            "cnf": {"x5t#S256": peer.thumbprint.to_string()},
        });
        self.known.borrow_mut().insert(token.clone(), says);
        token
    }

    pub(crate) fn last(&self) -> Brought {
        self.brought.borrow().last().unwrap().clone()
    }

    /// Answers a form for the server `issuer`, at `url`.
    pub(crate) async fn answer(
        &self,
        (issuer, url): (&str, &str),
        key: &SigningKey,
        peer: Option<Peer>,
        headers: &HeaderMap,
        form: &str,
    ) -> Response<Full<Bytes>> {
        let fields: HashMap<_, _> = form.split('&').map(field).collect();
        let proof = headers.get("dpop").map(|proof| proof.to_str().unwrap().to_owned());
        self.brought.borrow_mut().push(Brought {
            url: url.to_owned(),
            fields: fields.clone(),
            peer: peer.clone(),
            proof,
        });
        let says = self.says.borrow().clone();
        let changes = match says {
            Says::Good => json!({}),
            Says::But(changes) => changes,
            Says::Text(status, header, body) => {
                let mut response = text(status, body);
                if let Some((name, value)) = header {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                return response;
            }
            Says::Silence => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                return text(200, String::new());
            }
        };
        let now = self.clock.now();
        if let Some(token) = fields.get("token") {
            let says = self.known.borrow().get(token).cloned().unwrap_or_else(|| json!({ "active": false }));
            return self.introspected(issuer, key, &says);
        }
        let mut response = match self.token(issuer, url, key, peer.as_ref(), headers, &fields, now) {
            Ok(mut answer) => {
                for (name, value) in changes.as_object().unwrap() {
                    answer[name] = value.clone();
                }
                answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                text(200, answer.to_string())
            }
            Err(error) => text(400, json!({ "error": error }).to_string()),
        };
        response.headers_mut().insert("dpop-nonce", self.nonces.mint(now).parse().unwrap());
        response
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a request says")]
    fn token(
        &self,
        issuer: &str,
        url: &str,
        key: &SigningKey,
        peer: Option<&Peer>,
        headers: &HeaderMap,
        fields: &HashMap<String, String>,
        now: UnixTime,
    ) -> Result<Value, &'static str> {
        let peer = peer.ok_or("invalid_client")?;
        self.authenticate(issuer, fields, now)?;
        let cnf = if headers.contains_key("dpop") {
            let (post, id) = (Method::POST, &peer.spiffe_id);
            let checked = check_token_endpoint_proof(headers, &post, url, &self.nonces, &self.replay, id, now);
            let wrong =
                |r: fapi::Rejection| if r.id().contains("nonce") { "use_dpop_nonce" } else { "invalid_dpop_proof" };
            let jkt = checked.map_err(wrong)?.to_string();
            self.proof_keys.borrow_mut().push(jkt.clone());
            json!({ "jkt": jkt })
        } else {
            json!({ "x5t#S256": peer.thumbprint.to_string() })
        };
        let token_type = if headers.contains_key("dpop") { "DPoP" } else { "Bearer" };
        let claims = json!({
            "iss": issuer, "sub": "user", "azp": fields["client_id"], "aud": fields["resource"], "iat": now.as_secs(),
            "exp": now.as_secs() + 300, "jti": self.count().to_string(), "cnf": cnf,
            "scope": fields.get("scope").map_or("", String::as_str),
        });
        let token = key.sign_jwt("at+jwt", &claims).unwrap();
        Ok(json!({ "access_token": token, "token_type": token_type, "expires_in": 300 }))
    }

    /// RFC 7662, or RFC 9701.
    fn introspected(&self, issuer: &str, key: &SigningKey, says: &Value) -> Response<Full<Bytes>> {
        let Some(audience) = *self.signs_for.borrow() else {
            return text(200, says.to_string());
        };
        let iat = self.clock.now().as_secs();
        let claims = json!({ "iss": issuer, "aud": audience, "iat": iat, "token_introspection": says });
        let typ = "token-introspection+jwt";
        let mut response = text(200, key.sign_jwt(typ, &claims).unwrap());
        response.headers_mut().insert("content-type", format!("application/{typ}").parse().unwrap());
        response
    }

    /// By assertion, if the client has keys.
    fn authenticate(&self, issuer: &str, fields: &HashMap<String, String>, now: UnixTime) -> Result<(), &'static str> {
        let keys = self.client_keys.borrow();
        let Some(keys) = &*keys else { return Ok(()) };
        let assertion = fields.get("client_assertion").ok_or("invalid_client")?;
        let assertion = ClientAssertion::parse(assertion).map_err(|_| "invalid_client")?;
        let keys = [Arc::clone(keys)];
        let good = assertion.verify(issuer, &keys, now).is_ok() && assertion.client() == fields["client_id"];
        if good { Ok(()) } else { Err("invalid_client") }
    }
}

fn field(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap();
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    (name.to_owned(), String::from_utf8(bytes).unwrap())
}

pub(crate) fn text(status: u16, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
