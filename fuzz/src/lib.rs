//! The world in which the fuzz targets ask: an issuer, a policy for `POST /transfers`, a caller; keys that never change.
//!
//! Each target bends one input and signs the rest well, so that what is bent is what decides. A target asserts more than
//! that nothing panics: what is admitted must pass a second check that is written anew and knows no exceptions.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fapi::{
    CertThumbprint, Context, Issuer, IssuerKeys, JwkThumbprint, KeySet, NonceMinter, Peer, Policy, PortPolicy,
    ProvenTokens, ReplaySet, Request, Revocations, SigningKey, SpiffeId, TokenHash, TrustDomain, UnixTime, Verdict,
    decide,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

pub const NOW: u64 = 1_800_000_000;
pub const ISSUER: &str = "https://issuer.fapi-mesh";
pub const AUDIENCE: &str = "https://payments.bank";
pub const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";
pub const URL: &str = "https://payments.bank/transfers";

/// The one world of a fuzzing process.
pub static WORLD: LazyLock<World> = LazyLock::new(World::new);

pub struct World {
    pub policy: PortPolicy,
    pub keys: IssuerKeys,
    pub peer: Peer,
    pub nonces: NonceMinter,
    pub issuer: SigningKey,
    pub holder: SigningKey,
}

impl World {
    fn new() -> Self {
        let issuer = key(0x11);
        let mut keys = IssuerKeys::new();
        keys.insert(Issuer::parse(ISSUER).unwrap(), key_set(&[published(&issuer)]));
        let thumbprint = CertThumbprint::of_der(b"the certificate of shop");
        let spiffe_id = SpiffeId::parse(SHOP).unwrap();
        let not_after = UnixTime::from_secs(NOW + 3600);
        Self {
            policy: any_path_policy(),
            keys,
            peer: Peer { spiffe_id, thumbprint, pod_uid: None, issued: UnixTime::from_secs(NOW - 60), not_after },
            nonces: NonceMinter::new([7; 32]),
            issuer,
            holder: key(0x22),
        }
    }

    /// The claims of a good token with this confirmation.
    pub fn claims(&self, cnf: Value) -> Value {
        json!({
            "iss": ISSUER, "sub": SHOP, "client_id": SHOP, "aud": AUDIENCE, "jti": "t-1", "iat": NOW, "exp": NOW + 300,
            "scope": "transfers:write", "cnf": cnf,
        })
    }

    pub fn certificate_bound(&self) -> Value {
        self.claims(json!({"x5t#S256": self.peer.thumbprint.to_string()}))
    }

    /// Signed by the issuer, whatever header and claims are.
    pub fn issued(&self, header: &[u8], claims: &[u8]) -> String {
        self.issuer.sign_compact(header, claims).unwrap()
    }

    pub fn token_header(&self) -> String {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.issuer.kid()}).to_string()
    }

    /// A good token that is bound to the holder's key.
    pub fn bound_token(&self) -> String {
        let claims = self.claims(json!({"jkt": thumbprint(&self.holder).to_string()}));
        self.issued(self.token_header().as_bytes(), claims.to_string().as_bytes())
    }

    /// The claims of a good proof for this token.
    pub fn proof_claims(&self, token: &str) -> Map<String, Value> {
        let nonce = self.nonces.mint(UnixTime::from_secs(NOW));
        let ath = TokenHash::of(token).ath();
        let claims = json!({"jti": "p-1", "htm": "POST", "htu": URL, "iat": NOW, "nonce": nonce, "ath": ath});
        claims.as_object().unwrap().clone()
    }

    pub fn proof_header(&self) -> Map<String, Value> {
        let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": self.holder.public_jwk()});
        header.as_object().unwrap().clone()
    }

    /// Whether a request passes. It is decided twice, on a connection that has proven nothing and on one that may have
    /// proven this token; both must agree.
    pub fn admits(&self, path: &str, query: Option<&str>, headers: &[(&str, &[u8])]) -> bool {
        self.admits_with(&self.keys, path, query, headers)
    }

    pub fn admits_with(&self, keys: &IssuerKeys, path: &str, query: Option<&str>, headers: &[(&str, &[u8])]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // What no HTTP library would take is never asked about.
            let Ok(value) = HeaderValue::from_bytes(value) else { return false };
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let request = Request { method: &Method::POST, path, query, headers: &map };
        let mut proven = ProvenTokens::new();
        let mut told = [(); 2].map(|()| {
            let replay = ReplaySet::new(16, 16);
            let ctx = Context {
                policy: &self.policy,
                keys,
                keys_fresh: true,
                peer: &self.peer,
                nonces: &self.nonces,
                replay: &replay,
                revocations: &Revocations::none(),
                generation: 1,
                now: UnixTime::from_secs(NOW),
            };
            let verdict = decide(&ctx, &request, &mut proven);
            if let Verdict::Admit(_) = verdict {
                let again = decide(&ctx, &request, &mut proven);
                let has_proof = headers.iter().any(|(name, _)| *name == "dpop");
                assert!(!has_proof || !matches!(again, Verdict::Admit(_)) || sent_as_bearer(headers), "replayed");
            }
            format!("{verdict:?}")
        });
        assert_eq!(told[0], told[1], "a proven token is judged otherwise");
        std::mem::take(&mut told[0]).starts_with("Admit")
    }

    pub fn admits_bearer(&self, token: &str) -> bool {
        self.admits("/transfers", None, &[("authorization", format!("Bearer {token}").as_bytes())])
    }

    pub fn admits_proof(&self, path: &str, token: &str, proof: &str) -> bool {
        let authorization = format!("DPoP {token}");
        self.admits(path, None, &[("authorization", authorization.as_bytes()), ("dpop", proof.as_bytes())])
    }
}

fn sent_as_bearer(headers: &[(&str, &[u8])]) -> bool {
    headers.iter().any(|(_, value)| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")))
}

/// A key pair whose private half is this byte, 32 times: PKCS#8 around RFC 5915 without the public half.
pub fn key(byte: u8) -> SigningKey {
    let mut der = vec![
        0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
    ];
    der.extend([byte; 32]);
    SigningKey::from_pkcs8_der(&der).unwrap()
}

pub fn published(key: &SigningKey) -> Value {
    let mut jwk = key.public_jwk();
    jwk["kid"] = key.kid().into();
    jwk
}

pub fn key_set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks_json(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

pub fn thumbprint(key: &SigningKey) -> JwkThumbprint {
    JwkThumbprint::parse(key.kid()).unwrap()
}

/// Admits the caller to every path, so that proofs can be about any.
fn any_path_policy() -> PortPolicy {
    let wire = json!({
        "name": "bank/payments", "mode": "Enforce", "resources": [{"audience": AUDIENCE, "origins": [AUDIENCE]}],
        "issuers": [ISSUER], "senderConstraints": ["MTLS", "DPoP"],
        "rules": [{"scopes": ["transfers:write"], "callers": [{"namespace": "bank", "serviceAccount": "shop"}]}],
    });
    let domain = TrustDomain::parse("bank.example").unwrap();
    PortPolicy::Policy(Arc::new(Policy::compile(&domain, &serde_json::from_value(wire).unwrap()).unwrap()))
}

/// An object whose members are all different, else nothing.
pub fn object(data: &[u8]) -> Option<Map<String, Value>> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut members, mut names) = (Map::new(), BTreeSet::new());
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                if !names.insert(name.clone()) {
                    return Err(serde::de::Error::custom("twice"));
                }
                members.insert(name, value);
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(data);
    let members = serde::Deserializer::deserialize_map(&mut reader, Members).ok()?;
    reader.end().ok()?;
    Some(members)
}

/// The URL without query and fragment in normal form, by small steps and with no exceptions: `https`, a plain host, a path.
pub fn plain_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.to_ascii_lowercase();
    let host = host.trim_end_matches(":443").trim_end_matches(':');
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let value = u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
            bytes.push(value);
        } else {
            bytes.extend(format!("%{value:02X}").bytes());
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let all: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').skip(1).collect();
    for (at, segment) in all.iter().enumerate() {
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    segments.pop();
                }
                if at + 1 == all.len() {
                    segments.push(b"");
                }
            }
            other => segments.push(other),
        }
    }
    let path = String::from_utf8(segments.join(&b'/')).ok()?;
    Some(format!("{}://{host}/{path}", scheme.to_ascii_lowercase()))
}

pub fn base64url(data: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(data)
}
