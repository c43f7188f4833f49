//! `private_key_jwt` (RFC 7523, FAPI 2.0 SP 5.3.2.1), by a client that a FapiClient gives keys.

use fapi::{Revocation, Revoked, SigningKey};

use super::*;
use crate::model::{Client, ClientSpec, Key, Seniority};
use crate::testing::bank::{client_of, pod};
use crate::testing::id;

const TYPE: &str = fapi::CLIENT_ASSERTION_TYPE;

/// A client of the bank with a key of its own.
pub(super) struct Signer {
    id: String,
    key: SigningKey,
}

impl Signer {
    /// Registers keys for service accounts; the rest of the bank is as it was.
    pub(super) fn register<const N: usize>(mesh: &Mesh, accounts: [&str; N]) -> [Self; N] {
        let signers = accounts.map(|name| Self { id: id(name).to_string(), key: SigningKey::generate().unwrap() });
        mesh.change(|model| {
            for (name, signer) in accounts.iter().zip(&signers) {
                let mut jwk = signer.key.public_jwk();
                jwk["kid"] = signer.key.kid().into();
                let key = Key::new("bank", name);
                let jwks = Some(json!({ "keys": [jwk] }).to_string());
                let spec = ClientSpec { jwks, ..client_of(name, Vec::new()) };
                let seniority = Seniority { created: 0, key: key.clone() };
                model.clients.insert(key, Client { seniority, generation: 1, spec: Some(spec), fault: None });
            }
        });
        signers
    }

    fn claims(&self, mesh: &Mesh, jti: &str) -> Value {
        let now = mesh.clock.now().as_secs();
        let issuer = format!("https://{}", mesh.issuer);
        json!({"iss": self.id, "sub": self.id, "aud": issuer, "exp": now + 60, "iat": now, "jti": jti})
    }

    pub(super) fn assertion(&self, mesh: &Mesh, jti: &str) -> String {
        self.key.sign_jwt("client-authentication+jwt", &self.claims(mesh, jti)).unwrap()
    }
}

/// The parameters of a good request with an assertion.
pub(super) fn asserted(assertion: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "client_credentials"),
        ("resource", PAYMENTS),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion),
    ]
}

async fn send(mesh: &Mesh, member: Option<&Member>, headers: &str, parameters: &[(&str, &str)]) -> Reply {
    mesh.http(member, &post(headers, &form(parameters))).await
}

#[tokio::test]
async fn an_assertion_beside_a_certificate_gives_a_certificate_bound_token() {
    let mesh = Mesh::start().await;
    let [shop] = Signer::register(&mesh, ["shop"]);
    let member = mesh.member("shop-1");
    let reply = send(&mesh, Some(&member), "", &asserted(&shop.assertion(&mesh, "a"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["sub"], shop.id);
    assert_eq!(claims(token)["cnf"], json!({"x5t#S256": member.peer.thumbprint.to_string()}));
    assert!(admitted(&mesh, &member, token));

    let mut named = asserted("");
    named.push(("client_id", &shop.id));
    let assertion = shop.assertion(&mesh, "b");
    named[3].1 = &assertion;
    assert_eq!(send(&mesh, Some(&member), "", &named).await.status, 200, "client_id beside it is the same");
    mesh.end().await;
}

#[tokio::test]
async fn without_a_certificate_the_token_is_bound_by_proof_or_not_given() {
    let mesh = Mesh::start().await;
    let [shop] = Signer::register(&mesh, ["shop"]);
    let assertion = shop.assertion(&mesh, "a");
    let unbound = send(&mesh, None, "", &asserted(&assertion)).await;
    assert_eq!(error(&unbound), (400, "invalid_request".into()), "no holder of key");

    let signer = ProofSigner::generate().unwrap();
    let first = send(&mesh, None, &proof(&mesh, &signer, "POST", None, "1"), &asserted(&assertion)).await;
    assert_eq!(error(&first), (400, "use_dpop_nonce".into()));
    let nonce = first.header("dpop-nonce").unwrap().to_owned();
    let good = send(&mesh, None, &proof(&mesh, &signer, "POST", Some(&nonce), "2"), &asserted(&assertion)).await;
    assert_eq!(good.status, 200, "what failed before did not spend the assertion: {good:?}");
    let body = good.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("DPoP"), &json!(3600)));
    let told = claims(body["access_token"].as_str().unwrap());
    assert_eq!((&told["client_id"], &told["cnf"]), (&json!(shop.id), &json!({"jkt": signer.thumbprint().to_string()})));
    mesh.end().await;
}

#[tokio::test]
async fn an_assertion_counts_once_also_after_a_restart() {
    let mesh = Mesh::start().await;
    let [shop, ledger] = Signer::register(&mesh, ["shop", "ledger"]);
    let (member, other) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    let assertion = shop.assertion(&mesh, "a");
    assert_eq!(send(&mesh, Some(&member), "", &asserted(&assertion)).await.status, 200);
    let replay = send(&mesh, Some(&member), "", &asserted(&assertion)).await;
    assert_eq!(error(&replay), (400, "invalid_client".into()));
    assert!(replay.body.contains("jti was used before"), "{}", replay.body);
    let same_id = ledger.assertion(&mesh, "a");
    assert_eq!(send(&mesh, Some(&other), "", &asserted(&same_id)).await.status, 200, "the id of another client");

    let mesh = mesh.restart().await;
    let replay = send(&mesh, Some(&member), "", &asserted(&assertion)).await;
    assert_eq!(error(&replay), (400, "invalid_client".into()));
    assert!(replay.body.contains("jti was used before"), "{}", replay.body);
    let next = shop.assertion(&mesh, "b");
    assert_eq!(send(&mesh, Some(&member), "", &asserted(&next)).await.status, 200);
    mesh.clock.advance(Duration::from_secs(65));
    let late = send(&mesh, Some(&member), "", &asserted(&assertion)).await;
    assert!(late.body.contains("expired"), "what is forgotten is too old: {}", late.body);
    mesh.end().await;
}

#[tokio::test]
async fn what_cannot_be_remembered_is_not_accepted() {
    let mesh = Mesh::start().await;
    let [shop] = Signer::register(&mesh, ["shop"]);
    let member = mesh.member("shop-1");
    let (here, away) = (mesh.dir.path().join("issuer"), mesh.dir.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let assertion = shop.assertion(&mesh, "a");
    let reply = send(&mesh, Some(&member), "", &asserted(&assertion)).await;
    assert_eq!(error(&reply), (503, "temporarily_unavailable".into()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    mesh.end().await;
}

#[tokio::test]
async fn bad_assertions_are_refused_and_logged_by_reason() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let [shop, ledger] = Signer::register(&mesh, ["shop", "ledger"]);
    let member = mesh.member("shop-1");
    let issuer = format!("https://{}", mesh.issuer);
    let now = mesh.clock.now().as_secs();
    let sign = |typ: &str, name: &str, value: Value| {
        let mut claims = shop.claims(&mesh, "a");
        claims[name] = value;
        shop.key.sign_jwt(typ, &claims).unwrap()
    };
    let header = json!({"alg": "RS256", "kid": shop.key.kid()}).to_string();
    let rs256 = shop.key.sign_compact(header.as_bytes(), shop.claims(&mesh, "a").to_string().as_bytes()).unwrap();
    let by_another = ledger.key.sign_jwt("JWT", &shop.claims(&mesh, "a")).unwrap();
    let stranger = Signer { id: id("payments").to_string(), key: SigningKey::generate().unwrap() };
    let foreign =
        Signer { id: "spiffe://evil.example/ns/bank/sa/shop".to_owned(), key: SigningKey::generate().unwrap() };
    let cases = [
        (sign("JWT", "aud", json!([issuer])), "assertion_audience"),
        (sign("JWT", "aud", json!(format!("{issuer}/token"))), "assertion_audience"),
        (sign("JWT", "exp", json!(now - 300)), "assertion_expired"),
        (sign("JWT", "exp", json!(now + 311)), "assertion_too_long"),
        (sign("JWT", "iat", json!(now + 61)), "assertion_not_yet_valid"),
        (sign("JWT", "sub", Value::Null), "assertion_malformed"),
        (sign("JWT", "iss", json!(ledger.id)), "assertion_subject"),
        (sign("at+jwt", "x", json!(1)), "assertion_typ"),
        (rs256, "assertion_alg"),
        (by_another, "assertion_key_not_found"),
        (stranger.assertion(&mesh, "a"), "client_unknown"),
        (foreign.assertion(&mesh, "a"), "client_unknown"),
        (ledger.assertion(&mesh, "a"), "client_id_mismatch"),
        ("nonsense".to_owned(), "assertion_malformed"),
    ];
    for (assertion, reason) in &cases {
        let reply = send(&mesh, Some(&member), "", &asserted(assertion)).await;
        assert_eq!(error(&reply), (400, "invalid_client".into()), "{reason}");
    }
    mesh.end().await;
    let told: Vec<_> = log.of("token").iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, cases.iter().map(|(_, reason)| *reason).collect::<Vec<_>>());
    let signature = cases[0].0.rsplit('.').next().unwrap();
    assert!(!log.text().contains(signature), "no assertion is logged");
}

#[tokio::test]
async fn n29_an_assertion_is_for_the_issuer_as_one_text_at_every_endpoint() {
    let mesh = Mesh::start().await;
    let [shop] = Signer::register(&mesh, ["shop"]);
    let member = mesh.member("shop-1");
    let issuer = format!("https://{}", mesh.issuer);
    let held = revoke::token(&mesh, &member, PAYMENTS).await;
    let audiences = [
        json!(format!("{issuer}/token")),
        json!(format!("{issuer}/introspect")),
        json!(format!("{issuer}/")),
        json!([issuer]),
        json!([issuer, "https://other.example"]),
        json!("https://other.example"),
        Value::Null,
        json!(issuer),
    ];
    for (at, audience) in audiences.iter().enumerate() {
        for path in ["/introspect", "/token", "/revoke"] {
            let mut claims = shop.claims(&mesh, &format!("{at}{path}"));
            claims["aud"] = audience.clone();
            let assertion = shop.key.sign_jwt("JWT", &claims).unwrap();
            let mut parameters = asserted(&assertion);
            parameters.push(("token", &held));
            let reply = mesh.http(Some(&member), &post_to(path, "", &form(&parameters))).await;
            if *audience == json!(issuer) {
                assert_eq!(reply.status, 200, "{path}: {reply:?}");
            } else {
                assert_eq!(error(&reply), (400, "invalid_client".into()), "{path}: {audience}");
            }
        }
    }
    mesh.end().await;
}

#[tokio::test]
async fn a_request_has_one_way_to_authenticate_and_all_of_it() {
    let mesh = Mesh::start().await;
    let [shop, ledger] = Signer::register(&mesh, ["shop", "ledger"]);
    let member = mesh.member("shop-1");
    let assertion = shop.assertion(&mesh, "a");
    let with = |name: &'static str, value: &'static str| {
        let mut parameters = asserted(&assertion);
        parameters.retain(|(known, _)| *known != name);
        parameters.push((name, value));
        form(&parameters)
    };
    let mut other_id = asserted(&assertion);
    other_id.push(("client_id", &ledger.id));
    for body in [
        with("client_assertion_type", ""),
        with("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"),
        with("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"),
        with("client_assertion", ""),
        with("client_secret", "x"),
        form(&other_id),
    ] {
        let reply = mesh.http(Some(&member), &post("", &body)).await;
        assert_eq!(error(&reply), (400, "invalid_client".into()), "{body}");
    }
    let reply = send(&mesh, Some(&member), "Authorization: Basic c2hvcDpzZWNyZXQ=\r\n", &asserted(&assertion)).await;
    assert_eq!(error(&reply), (401, "invalid_client".into()));

    mesh.change(|_| ());
    let reply = send(&mesh, Some(&member), "", &asserted(&assertion)).await;
    assert_eq!(error(&reply), (400, "invalid_client".into()), "the FapiClient is gone, and its keys with it");
    mesh.end().await;
}

#[tokio::test]
async fn the_key_of_a_revoked_pod_is_nobody_s() {
    let mesh = Mesh::start().await;
    mesh.change(|model| {
        let second = pod("bank", "shop-2", "shop");
        model.pods.insert(second.uid.clone(), second);
        let seniority = Seniority { created: 0, key: Key::new("bank", "shop") };
        let authentication = control::ClientAuthentication::PrivateKeyJwt;
        let spec = Some(ClientSpec { authentication, ..client_of("shop", Vec::new()) });
        model.clients.insert(seniority.key.clone(), Client { seniority, generation: 1, spec, fault: None });
    });
    let [stolen, good] = ["shop-1", "shop-2"].map(|name| {
        let signer = Signer { id: id("shop").to_string(), key: SigningKey::generate().unwrap() };
        let mut jwk = signer.key.public_jwk();
        jwk["kid"] = signer.key.kid().into();
        let view = mesh.view.borrow().clone();
        mesh.client_keys().report(&view, &mesh.pod(name), jwk.to_string().as_bytes(), mesh.clock.now()).unwrap();
        signer
    });
    // Whoever has taken the key of a pod comes without a certificate, with a proof key of his own.
    let proof_key = ProofSigner::generate().unwrap();
    let asks = async |signer: &Signer, nonce: Option<&str>, jti: &str| {
        let assertion = signer.assertion(&mesh, jti);
        send(&mesh, None, &proof(&mesh, &proof_key, "POST", nonce, jti), &asserted(&assertion)).await
    };
    let nonce = asks(&stolen, None, "first").await.header("dpop-nonce").unwrap().to_owned();
    let nonce = Some(nonce.as_str());
    let published = async || {
        let keys = mesh.http(None, &get("/clients/bank/shop/jwks")).await.json();
        let kids = keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
        kids.collect::<std::collections::BTreeSet<_>>()
    };
    let kids = |signers: &[&Signer]| signers.iter().map(|signer| signer.key.kid().to_owned()).collect();
    assert_eq!(asks(&stolen, nonce, "a").await.status, 200);
    assert_eq!(published().await, kids(&[&stolen, &good]));

    let pod = Revoked::Pod(mesh.pod("shop-1").uid.as_str().into());
    let ends = mesh.clock.now().plus(3600);
    mesh.revocations.revoke([Revocation::new(pod, None, ends).unwrap()]).unwrap();
    let refused = asks(&stolen, nonce, "b").await;
    assert_eq!(error(&refused), (400, "invalid_client".into()), "{refused:?}");
    assert_eq!(asks(&good, nonce, "c").await.status, 200, "the other pod of the client goes on");
    assert_eq!(published().await, kids(&[&good]));
    mesh.end().await;
}
