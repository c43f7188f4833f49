//! Calls with tokens of an authorization server outside the mesh, good and bad.

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control::{ClientAuthentication, DestinationKind, ExternalToken, GrantType, TokenDoc, TokenSource};
use fapi::{
    KeySet, Mode,
    SenderConstraint::{self, Dpop, Mtls},
    WireCaller, WireExternal, WireMapping, WireResource,
};
use serde_json::json;

use crate::{
    outbound::Between,
    testing::{
        authority::workload,
        desk::Says,
        keys::KeyServer,
        local,
        mesh::{Mesh, meshed_at, token},
        side::{Side, Speaks},
        until,
    },
};

const API: &str = "https://api.bank.example";

/// The caller's sidecar, an authorization server outside, and payments, which takes its tokens.
struct World {
    mesh: Mesh,
    server: Rc<KeyServer>,
    side: Rc<Side>,
}

impl World {
    async fn start(constraint: SenderConstraint) -> Self {
        let mesh = Mesh::start(Between::H1).await;
        let server = KeyServer::start_for(Some(&mesh.authority)).await;
        let side = Side::start(&mesh, "payments", constraint, Speaks::Http1).await;
        let shop = WireCaller { namespace: "bank".to_owned(), service_account: Some("shop".to_owned()) };
        let origins = vec!["https://payments.bank".to_owned()];
        let external = WireExternal {
            name: "bank-as".to_owned(),
            issuer: server.url(),
            resources: vec![WireResource { audience: API.to_owned(), origins }],
            typ: Default::default(),
            opaque: false,
            client_id_claim: fapi::ClientIdClaim::Azp,
            max_token_age: 900,
            scopes: None,
            clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![shop] }],
        };
        side.apply_with("shop", Mode::Enforce, vec![external]);
        let mut jwk = server.key.borrow().public_jwk();
        jwk["kid"] = server.key.borrow().kid().into();
        let keys = KeySet::from_jwks_json(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        side.shared.install_keys(server.issuer(), keys);
        Self { mesh, server, side }
    }

    /// Calls to `authority` go to payments with a token that is described so.
    fn wants(&self, authority: &str, token: TokenDoc) {
        let constraint = token.sender_constraint;
        let kind = meshed_at("payments", &workload("payments"), constraint, &[self.side.address]);
        let DestinationKind::Meshed(mut meshed) = kind else { panic!("a service of the mesh") };
        meshed.token = Some(token);
        self.mesh.operator.set_destination(authority, DestinationKind::Meshed(meshed));
    }

    /// A token of the server outside.
    fn outside(&self, constraint: SenderConstraint) -> TokenDoc {
        let external = ExternalToken {
            server: self.server.document(),
            client_id: "shop-7".to_owned(),
            audience: API.to_owned(),
            opaque: false,
        };
        TokenDoc { source: TokenSource::External(external), ..token(constraint) }
    }

    async fn call(&self, authority: &str) -> (u16, String) {
        let answer = self.mesh.app.get(&format!("http://{authority}/a")).await;
        let error = if answer.status == 200 { String::new() } else { answer.error() };
        (answer.status.as_u16(), error)
    }

    /// The keys of the caller, as its operator publishes them.
    fn publish_keys(&self) {
        let key = &self.mesh.shared.assertion_key;
        let mut jwk = key.public_jwk();
        jwk["kid"] = key.kid().into();
        let keys = KeySet::from_jwks_json(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        *self.server.desk.client_keys.borrow_mut() = Some(keys.into());
    }
}

#[tokio::test]
async fn a_call_carries_a_token_of_the_issuer_that_the_client_names() {
    for constraint in [Mtls, Dpop] {
        local(async {
            let world = World::start(constraint).await;
            world.server.aliases.set(true);
            let wanted = TokenDoc { scopes: vec!["transfers:write".to_owned()], ..world.outside(constraint) };
            world.wants("payments.bank", wanted);
            assert_eq!(world.call("payments.bank").await, (200, String::new()));
            let (_, headers) = world.side.app.only();
            assert_eq!(headers["x-fapi-client-id"], "shop-7");
            let brought = world.server.desk.last();
            let field = |name: &str| brought.fields.get(name).map(String::as_str);
            assert_eq!((field("client_id"), field("resource")), (Some("shop-7"), Some(API)));
            assert_eq!((field("scope"), field("client_assertion")), (Some("transfers:write"), None));
            assert_eq!(brought.peer.as_ref().unwrap().spiffe_id, workload("shop"), "tls_client_auth");
            assert_eq!(brought.url, format!("{}/mtls/token", world.server.url()), "where its alias is");
            assert_eq!(brought.proof.is_some(), constraint == Dpop);
            // The first proof had no nonce of the server yet.
            assert_eq!(world.server.desk.count(), if constraint == Dpop { 2 } else { 1 });
            assert_eq!(world.mesh.issuer.issued.get(), 0, "the mesh's own issuer has nothing to do with it");
            assert_eq!(world.call("payments.bank").await.0, 200);
            assert_eq!(world.server.desk.count(), if constraint == Dpop { 2 } else { 1 }, "the token is kept");
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_signs_assertions_with_a_key_that_never_leaves_the_sidecar() {
    for constraint in [Mtls, Dpop] {
        local(async {
            let world = World::start(constraint).await;
            world.publish_keys();
            let signs = TokenDoc { authentication: ClientAuthentication::PrivateKeyJwt, ..world.outside(constraint) };
            world.wants("payments.bank", signs);
            assert_eq!(world.call("payments.bank").await, (200, String::new()));
            let brought = world.server.desk.brought.borrow();
            let mut assertions: Vec<_> = brought.iter().map(|form| &form.fields["client_assertion"]).collect();
            assert_eq!(assertions.len(), if constraint == Dpop { 2 } else { 1 });
            assertions.dedup();
            assert_eq!(assertions.len(), brought.len(), "each request has its own");
        })
        .await;
    }
}

#[tokio::test]
async fn a_proof_for_a_token_is_for_the_endpoint_and_of_no_token() {
    local(async {
        let world = World::start(Dpop).await;
        world.wants("payments.bank", world.outside(Dpop));
        assert_eq!(world.call("payments.bank").await, (200, String::new()));
        let proofs: Vec<_> =
            world.server.desk.brought.borrow().iter().map(|form| form.proof.clone().unwrap()).collect();
        let payload = |proof: &String| {
            let json = URL_SAFE_NO_PAD.decode(proof.split('.').nth(1).unwrap()).unwrap();
            serde_json::from_slice::<serde_json::Map<_, _>>(&json).unwrap()
        };
        let [first, second] = <[_; 2]>::try_from(proofs.iter().map(payload).collect::<Vec<_>>()).unwrap();
        for (mut proof, nonce) in [(first, false), (second, true)] {
            assert_eq!(proof.remove("htm"), Some("POST".into()));
            assert_eq!(proof.remove("htu"), Some(format!("{}/token", world.server.url()).into()));
            assert_eq!(proof.remove("nonce").is_some(), nonce, "the server has asked for it");
            assert_eq!(proof.keys().collect::<Vec<_>>(), ["iat", "jti"], "no ath: there is no token yet");
        }
    })
    .await;
}

#[tokio::test]
async fn each_issuer_sees_another_proof_key() {
    local(async {
        let world = World::start(Dpop).await;
        let other = KeyServer::start_for(Some(&world.mesh.authority)).await;
        world.wants("payments.bank", world.outside(Dpop));
        let TokenSource::External(external) = world.outside(Dpop).source else { panic!("outside") };
        let source = TokenSource::External(ExternalToken { server: other.document(), ..external });
        world.wants("other.bank", TokenDoc { source, ..token(Dpop) });
        world.wants("mesh.bank", token(Dpop));
        for authority in ["payments.bank", "other.bank", "mesh.bank"] {
            world.call(authority).await;
        }
        let jkt = |server: &KeyServer| server.desk.proof_keys.borrow().last().cloned().unwrap();
        let keys = [jkt(&world.server), jkt(&other), world.mesh.issuer.proof_keys.borrow().last().cloned().unwrap()];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
    })
    .await;
}

#[tokio::test]
async fn every_failure_of_the_issuer_ends_in_a_clear_answer_and_nothing_of_it_is_kept() {
    let says = |status: u16, body: &str| Says::Text(status, None, body.to_owned());
    let unavailable = (503, "token_unavailable");
    let cases = vec![
        (says(200, ""), unavailable),
        (says(200, "{\"access_token\":"), unavailable),
        (says(200, "<html><body>log in</body></html>"), unavailable),
        (says(200, &"x".repeat(70_000)), unavailable),
        (Says::But(json!({"token_type": "N_A"})), unavailable),
        (Says::But(json!({"token_type": "DPoP"})), unavailable),
        (Says::But(json!({"access_token": "an.opaque"})), unavailable),
        (Says::But(json!({"access_token": "a\r\nx: y"})), unavailable),
        (Says::But(json!({"expires_in": 0})), unavailable),
        (Says::But(json!({"scope": "accounts:read"})), (403, "not_granted")),
        (Says::Text(302, Some(("location", "https://elsewhere.example/token")), String::new()), unavailable),
        (Says::Text(307, Some(("location", "/realms/bank/elsewhere")), String::new()), unavailable),
        (says(500, "{}"), unavailable),
        (says(502, "<html>"), unavailable),
        (says(400, "{\"error\":\"made_up\"}"), unavailable),
        (says(400, "{\"error\":\"use_dpop_nonce\"}"), unavailable),
        (says(401, "{\"error\":\"invalid_client\"}"), unavailable),
        (says(400, "{\"error\":\"invalid_target\"}"), (403, "not_granted")),
        (says(400, "{\"error\":\"invalid_scope\"}"), (403, "not_granted")),
        (Says::Silence, unavailable),
    ];
    local(async {
        let world = World::start(Mtls).await;
        for (number, (says, (status, error))) in cases.into_iter().enumerate() {
            let authority = format!("case-{number}.bank");
            *world.server.desk.says.borrow_mut() = says.clone();
            let scopes = vec![format!("case:{number}")];
            world.wants(&authority, TokenDoc { scopes, ..world.outside(Mtls) });
            assert_eq!(world.call(&authority).await, (status, error.to_owned()), "{says:?}");
            *world.server.desk.says.borrow_mut() = Says::Good;
            let mut recovered = false;
            for _ in 0..200 {
                recovered = world.call(&authority).await.0 == 200;
                if recovered {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert!(recovered, "after {says:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_whom_it_should_be_gets_no_request() {
    local(async {
        let world = World::start(Mtls).await;
        *world.server.names.borrow_mut() = Some("https://other.example".to_owned());
        world.wants("payments.bank", world.outside(Mtls));
        assert_eq!(world.call("payments.bank").await, (503, "token_unavailable".to_owned()));
        *world.server.names.borrow_mut() = None;
        let other = KeyServer::start().await;
        let mut wanted = TokenDoc { scopes: vec!["b".to_owned()], ..world.outside(Mtls) };
        if let TokenSource::External(external) = &mut wanted.source {
            external.server.ca_bundle = other.document().ca_bundle;
        }
        world.wants("untrusted.bank", wanted);
        assert_eq!(world.call("untrusted.bank").await, (503, "token_unavailable".to_owned()));
        assert_eq!(world.server.desk.count(), 0);
        // Nor is anything asked that the platform has not allowed.
        world.wants("denied.bank", TokenDoc { source: TokenSource::Denied, ..token(Mtls) });
        assert_eq!(world.call("denied.bank").await, (403, "not_granted".to_owned()));
        // Nor does it see the token of a call that is handed on.
        world.wants("exchanged.bank", TokenDoc { grant_type: GrantType::TokenExchange, ..world.outside(Mtls) });
        assert_eq!(world.call("exchanged.bank").await, (403, "not_granted".to_owned()));
        assert_eq!(world.server.desk.count(), 0);
        assert_eq!((world.side.app.count(), world.mesh.issuer.issued.get()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_wants_to_be_left_alone_is_left_alone() {
    local(async {
        let world = World::start(Mtls).await;
        let busy = Says::Text(429, Some(("retry-after", "2")), "{\"error\":\"slow_down\"}".to_owned());
        *world.server.desk.says.borrow_mut() = busy;
        let begun = crate::clock::monotonic();
        for number in 0..4 {
            let authority = format!("p{number}.bank");
            world.wants(&authority, TokenDoc { scopes: vec![number.to_string()], ..world.outside(Mtls) });
            assert_eq!(world.call(&authority).await, (503, "token_unavailable".to_owned()));
        }
        assert_eq!(world.server.desk.count(), 1, "not for another token either");
        *world.server.desk.says.borrow_mut() = Says::Good;
        until("it is asked again", || world.server.desk.count() > 1).await;
        assert!(begun.elapsed() >= std::time::Duration::from_secs(2));
        // The mesh's own issuer is treated no worse.
        *world.mesh.issuer.refuse.borrow_mut() = Some("slow_down");
        for number in 0..4 {
            let authority = format!("m{number}.bank");
            world.wants(&authority, TokenDoc { scopes: vec![number.to_string()], ..token(Mtls) });
            assert_eq!(world.call(&authority).await, (503, "token_unavailable".to_owned()));
        }
        assert_eq!(world.mesh.issuer.forms.borrow().len(), 1);
        *world.mesh.issuer.refuse.borrow_mut() = None;
        until("it is asked again", || world.mesh.issuer.issued.get() > 0).await;
    })
    .await;
}

#[tokio::test]
async fn metadata_is_looked_up_again_when_an_endpoint_is_gone() {
    local(async {
        let world = World::start(Mtls).await;
        *world.server.desk.says.borrow_mut() = Says::Text(404, None, String::new());
        world.wants("payments.bank", world.outside(Mtls));
        assert_eq!(world.call("payments.bank").await.0, 503);
        *world.server.desk.says.borrow_mut() = Says::Good;
        world.server.aliases.set(true);
        until("it is asked at its new place", || world.server.desk.last().url.contains("/mtls/")).await;
    })
    .await;
}
