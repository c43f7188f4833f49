use serde_json::{Map, Value};

use super::{Claims, MAX_TOKEN_BYTES, signed::is_access_token};
use crate::{
    jwks::KeySet,
    jws::Compact,
    policy::Grant,
    value::{SigningAlg, UnixTime},
};

/// An access token that an issuer knows again as its own, whatever its age: for revocation (RFC 7009) and introspection
/// (RFC 7662). It admits nobody.
#[derive(Debug)]
pub struct IssuedToken {
    claims: Claims,
    all: Map<String, Value>,
}

impl IssuedToken {
    /// Reads a token that `issuer` has signed with one of `keys`; `None` for everything else.
    #[must_use]
    pub fn verify(text: &str, issuer: &str, keys: &KeySet) -> Option<Self> {
        let jws = Compact::parse(text, MAX_TOKEN_BYTES).ok()?;
        let header = jws.header().ok()?;
        let header = header.view();
        if !header.text("typ").ok()?.is_some_and(|typ| is_access_token(typ, None)) {
            return None;
        }
        let alg = SigningAlg::from_jose(header.text("alg").ok()??)?;
        let candidates = keys.candidates(header.text("kid").ok()?, alg);
        if !candidates.iter().any(|key| jws.is_signed_by(key)) {
            return None;
        }
        let claims = Claims::parse(jws.payload(), None).ok()?;
        let is_ours = *claims.issuer == *issuer;
        is_ours.then(|| Self { claims, all: jws.payload().to_map() })
    }

    pub(crate) const fn read(&self) -> &Claims {
        &self.claims
    }

    /// Its `jti`.
    #[must_use]
    pub fn id(&self) -> &str {
        // Our own tokens cannot be read without one.
        self.claims.token_id.as_deref().unwrap_or_default()
    }

    /// The client that it was issued to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.claims.client_id
    }

    /// On whose behalf its holder calls: the `sub`, whoever has handed the call on (RFC 8693 section 4.1).
    #[must_use]
    pub fn subject(&self) -> &str {
        self.claims.behind.last().map_or(&*self.claims.actor, |subject| &**subject)
    }

    /// How many have handed the call on: the length of its chain of `act` claims.
    #[must_use]
    pub const fn actors(&self) -> u8 {
        self.claims.actors
    }

    /// What it allows; no token that is exchanged for it may allow more.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant { scopes: self.claims.scopes.clone(), details: self.claims.details.clone(), max_token_age: None }
    }

    /// Whether it is bound to its sender, in ways that are all understood.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        let cnf = &self.claims.confirmation;
        (cnf.certificate.is_some() || cnf.proof_key.is_some()) && !cnf.unknown
    }

    /// Whom it is for.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.claims.audiences.iter().map(|audience| &**audience)
    }

    /// The second at which it was issued.
    #[must_use]
    pub const fn issued(&self) -> UnixTime {
        self.claims.issued
    }

    /// The second at which it ends; verifiers may take it a little longer.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.claims.expires
    }

    /// Whether it is bound to a proof key (RFC 9449 section 6.1), and so sent under the scheme `DPoP`.
    #[must_use]
    pub const fn has_proof_key(&self) -> bool {
        self.claims.confirmation.proof_key.is_some()
    }

    /// Everything that it says.
    #[must_use]
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        SigningKey,
        testing::{ISSUER, ISSUER_KEY, NOW, OTHER_KEY, SHOP, key_set, published},
    };

    fn claims() -> Value {
        let cnf = json!({"jkt": OTHER_KEY.thumbprint().to_string()});
        json!({"iss": ISSUER, "sub": SHOP, "client_id": SHOP, "aud": ["https://a.b", "https://c.d"], "iat": NOW,
            "exp": NOW + 60, "jti": "id", "scope": "a", "cnf": cnf})
    }

    fn known(key: &SigningKey, typ: &str, claims: &Value) -> Option<IssuedToken> {
        let keys = key_set(&[published(&ISSUER_KEY, ISSUER_KEY.kid())]);
        IssuedToken::verify(&key.sign_jwt(typ, claims).unwrap(), ISSUER, &keys)
    }

    #[test]
    fn an_issuer_knows_its_own_tokens() {
        let token = known(&ISSUER_KEY, "at+jwt", &claims()).unwrap();
        assert_eq!((token.id(), token.client_id()), ("id", SHOP));
        assert_eq!((token.issued().as_secs(), token.expires().as_secs()), (NOW, NOW + 60));
        assert_eq!(token.audiences().collect::<Vec<_>>(), ["https://a.b", "https://c.d"]);
        assert!(token.has_proof_key());
        let mut by_certificate = claims();
        by_certificate["cnf"] = json!({"x5t#S256": "955WEa_3vF5KeiVztgxBS462GolunNTQAls2ajYOtD0"});
        assert!(!known(&ISSUER_KEY, "at+jwt", &by_certificate).unwrap().has_proof_key());
        assert_eq!(Value::Object(token.claims().clone()), claims());
    }

    #[test]
    fn it_says_who_stands_behind_it_and_what_may_be_handed_on() {
        let own = known(&ISSUER_KEY, "at+jwt", &claims()).unwrap();
        assert_eq!((own.subject(), own.actors(), own.is_bound()), (SHOP, 0, true));
        assert_eq!(own.grant().scopes.to_string(), "a");
        let mut handed_on = claims();
        handed_on["act"] = json!({"sub": "b", "act": {"sub": "a"}});
        handed_on["authorization_details"] = json!([{"type": "payment"}]);
        let handed_on = known(&ISSUER_KEY, "at+jwt", &handed_on).unwrap();
        assert_eq!((handed_on.subject(), handed_on.actors()), (SHOP, 2));
        assert_eq!(serde_json::to_value(&handed_on.grant().details).unwrap(), json!([{"type": "payment"}]));
        for (cnf, bound) in [
            (json!({"x5t#S256": "A".repeat(43)}), true),
            (json!({"jkt": OTHER_KEY.thumbprint().to_string(), "kid": "x"}), false),
            (json!({}), false),
        ] {
            let mut claims = claims();
            claims["cnf"] = cnf;
            assert_eq!(known(&ISSUER_KEY, "at+jwt", &claims).unwrap().is_bound(), bound);
        }
    }

    #[test]
    fn it_knows_no_others() {
        assert!(known(&OTHER_KEY, "at+jwt", &claims()).is_none());
        for typ in ["JWT", "dpop+jwt", "token-introspection+jwt"] {
            assert!(known(&ISSUER_KEY, typ, &claims()).is_none(), "{typ}");
        }
        for (name, value) in [("iss", json!("https://other.example")), ("jti", json!("")), ("exp", json!("soon"))] {
            let mut claims = claims();
            claims[name] = value;
            assert!(known(&ISSUER_KEY, "at+jwt", &claims).is_none(), "{name}");
        }
        let keys = key_set(&[published(&ISSUER_KEY, ISSUER_KEY.kid())]);
        for text in ["", "x", "a.b.c"] {
            assert!(IssuedToken::verify(text, ISSUER, &keys).is_none(), "{text}");
        }
    }
}
