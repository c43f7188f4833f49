//! A small world for tests: an issuer, a policy, a caller, and makers of tokens and proofs that can be bent.

use std::sync::{Arc, LazyLock, Once};

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use crate::{
    Admission, AdmissionKind, CertThumbprint, Context, Issuer, IssuerKeys, JwkThumbprint, KeySet, Mode, NonceMinter,
    Peer, Policy, PortPolicy, ProvenTokens, Refusal, Rejection, ReplaySet, Request, Revocations, SenderConstraint,
    SigningKey, SpiffeId, TokenHash, TrustDomain, UnixTime, Verdict, WireCaller, WirePolicy, WireResource, WireRule,
    decide,
};

pub(crate) const ISSUER: &str = "https://issuer.fapi-mesh";
pub(crate) const AUDIENCE: &str = "https://payments.bank";
pub(crate) const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";
pub(crate) const POD: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
pub(crate) const NOW: u64 = 1_800_000_000;

/// Keys are made once: they do not matter to what is tested.
pub(crate) static ISSUER_KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());
pub(crate) static PROOF_KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());
pub(crate) static OTHER_KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

/// jsonwebtoken, the other implementation, wants its crypto chosen once per process.
pub(crate) fn other_implementation() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks_json(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// The public JWK of a signing key with its key id.
pub(crate) fn published(key: &SigningKey, kid: &str) -> Value {
    let mut jwk = key.public_jwk();
    jwk["kid"] = kid.into();
    jwk
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub(crate) fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn account(namespace: &str, name: &str) -> WireCaller {
    WireCaller { namespace: namespace.to_owned(), service_account: Some(name.to_owned()) }
}

pub(crate) fn namespace(namespace: &str) -> WireCaller {
    WireCaller { namespace: namespace.to_owned(), service_account: None }
}

pub(crate) fn rule(
    methods: &[&str],
    paths: &[&str],
    prefixes: &[&str],
    callers: &[WireCaller],
    scopes: &[&str],
) -> WireRule {
    WireRule {
        methods: texts(methods),
        paths: texts(paths),
        path_prefixes: texts(prefixes),
        callers: callers.to_vec(),
        scopes: texts(scopes),
        ..WireRule::default()
    }
}

pub(crate) fn wire_policy() -> WirePolicy {
    let origins = texts(&[AUDIENCE, "https://api.bank.example"]);
    WirePolicy {
        name: "bank/payments".to_owned(),
        mode: Mode::Enforce,
        resources: vec![WireResource { audience: AUDIENCE.to_owned(), origins }],
        issuers: texts(&[ISSUER]),
        external: Vec::new(),
        sender_constraints: vec![SenderConstraint::Mtls, SenderConstraint::Dpop],
        rules: vec![
            rule(&["POST"], &["/transfers"], &[], &[account("bank", "shop")], &["transfers:write"]),
            rule(&["GET"], &[], &["/accounts"], &[namespace("bank")], &["accounts:read"]),
        ],
        exempt: Vec::new(),
    }
}

pub(crate) fn compiled(wire: &WirePolicy) -> PortPolicy {
    let domain = TrustDomain::parse("bank.example").unwrap();
    PortPolicy::Policy(Arc::new(Policy::compile(&domain, wire).unwrap()))
}

/// Everything around a request, ready to be bent.
pub(crate) struct World {
    pub(crate) wire: WirePolicy,
    pub(crate) policy: Option<PortPolicy>,
    pub(crate) keys: IssuerKeys,
    pub(crate) keys_fresh: bool,
    pub(crate) peer: Peer,
    pub(crate) nonces: NonceMinter,
    pub(crate) replay: ReplaySet,
    pub(crate) revocations: Revocations,
    pub(crate) generation: u64,
    pub(crate) now: UnixTime,
    pub(crate) proven: ProvenTokens,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut keys = IssuerKeys::new();
        keys.insert(Issuer::parse(ISSUER).unwrap(), key_set(&[published(&ISSUER_KEY, ISSUER_KEY.kid())]));
        let thumbprint = CertThumbprint::of_der(b"the certificate of shop");
        let now = UnixTime::from_secs(NOW);
        let peer = Peer {
            spiffe_id: id(SHOP),
            thumbprint,
            pod_uid: Some(POD.into()),
            issued: now.minus(60),
            not_after: now.plus(3600),
        };
        Self {
            wire: wire_policy(),
            policy: None,
            keys,
            keys_fresh: true,
            peer,
            nonces: NonceMinter::new([7; 32]),
            replay: ReplaySet::new(100_000, 100_000),
            revocations: Revocations::none(),
            generation: 1,
            now,
            proven: ProvenTokens::new(),
        }
    }

    pub(crate) fn audit() -> Self {
        let mut world = Self::new();
        world.wire.mode = Mode::Audit;
        world
    }

    /// A certificate-bound token for this caller with both scopes.
    pub(crate) fn token(&self) -> Jwt {
        let claims = json!({
            "iss": ISSUER, "sub": SHOP, "client_id": SHOP, "aud": AUDIENCE, "jti": "t-1", "iat": NOW, "exp": NOW + 300,
            "scope": "transfers:write accounts:read", "cnf": {"x5t#S256": self.peer.thumbprint.to_string()},
        });
        Jwt::new(json!({"typ": "at+jwt", "alg": "ES256", "kid": ISSUER_KEY.kid()}), claims)
    }

    /// The same, bound to the proof key instead.
    pub(crate) fn dpop_token(&self) -> Jwt {
        self.token().claim("cnf", json!({"jkt": PROOF_KEY.thumbprint().to_string()}))
    }

    /// A good proof for a transfer with this token.
    pub(crate) fn proof(&self, token: &str) -> Jwt {
        let claims = json!({
            "jti": "p-1", "htm": "POST", "htu": "https://payments.bank/transfers", "iat": self.now.as_secs(),
            "ath": TokenHash::of(token).ath(), "nonce": self.nonces.mint(self.now),
        });
        Jwt::new(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": PROOF_KEY.public_jwk()}), claims)
    }

    pub(crate) fn ask(&mut self, call: &Call) -> Verdict {
        let compiled = self.policy.clone().unwrap_or_else(|| compiled(&self.wire));
        let ctx = Context {
            policy: &compiled,
            keys: &self.keys,
            keys_fresh: self.keys_fresh,
            peer: &self.peer,
            nonces: &self.nonces,
            replay: &self.replay,
            revocations: &self.revocations,
            generation: self.generation,
            now: self.now,
        };
        let request =
            Request { method: &call.method, path: &call.path, query: call.query.as_deref(), headers: &call.headers };
        let verdict = decide(&ctx, &request, &mut self.proven);
        if let Verdict::Refuse(Refusal { policy, rejection, .. }) = &verdict {
            assert_eq!(policy.is_none(), *rejection == Rejection::PolicyMissing, "{rejection}: under no policy's name");
        }
        verdict
    }

    pub(crate) fn admission(&mut self, call: &Call) -> Admission {
        match self.ask(call) {
            Verdict::Admit(admission) => admission,
            other => panic!("not admitted: {other:?}"),
        }
    }

    pub(crate) fn refusal(&mut self, call: &Call) -> Refusal {
        match self.ask(call) {
            Verdict::Refuse(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// `None` if every check held, else the reason, whether enforced or observed.
    pub(crate) fn reason(&mut self, call: &Call) -> Option<Rejection> {
        match self.ask(call) {
            Verdict::Admit(admission) => match admission.kind() {
                AdmissionKind::Proven => None,
                AdmissionKind::Observed(rejection) => Some(rejection),
            },
            Verdict::Refuse(refusal) => Some(refusal.rejection),
            other => panic!("wants something of an issuer: {other:?}"),
        }
    }

    /// The reason for a transfer with this token, sent as `Bearer`.
    pub(crate) fn bearer_reason(&mut self, token: &str) -> Option<Rejection> {
        self.reason(&Call::bearer(token))
    }
}

/// A request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

impl Call {
    pub(crate) fn bare() -> Self {
        Self { method: Method::POST, path: "/transfers".to_owned(), query: None, headers: HeaderMap::new() }
    }

    pub(crate) fn bearer(token: &str) -> Self {
        Self::bare().header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn dpop(token: &str, proof: &str) -> Self {
        Self::bare().header("authorization", &format!("DPoP {token}")).header("dpop", proof)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn to(mut self, method: Method, path: &str) -> Self {
        self.method = method;
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }
}

/// A JWT before it is signed.
#[derive(Clone)]
pub(crate) struct Jwt {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
}

impl Jwt {
    fn new(header: Value, claims: Value) -> Self {
        let members = |value: Value| value.as_object().unwrap().clone();
        Self { header: members(header), claims: members(claims) }
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name).unwrap();
        self
    }

    pub(crate) fn head(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn headless(mut self, name: &str) -> Self {
        self.header.remove(name).unwrap();
        self
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> String {
        let (header, claims) = (Value::from(self.header.clone()), Value::from(self.claims.clone()));
        key.sign_compact(header.to_string().as_bytes(), claims.to_string().as_bytes()).unwrap()
    }

    /// Signed by the issuer.
    pub(crate) fn issued(&self) -> String {
        self.sign(&ISSUER_KEY)
    }

    /// Signed with the proof key.
    pub(crate) fn proven(&self) -> String {
        self.sign(&PROOF_KEY)
    }
}

/// The thumbprint of a key that nobody has.
pub(crate) fn stranger() -> JwkThumbprint {
    JwkThumbprint::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap()
}
