mod assertion;
mod connections;
mod exchange;
mod grants;
mod introspect;
mod known;
mod limits;
mod resources;
mod revoke;

use std::sync::Arc;
use std::time::Duration;

use control::PortPolicyDoc;
use fapi::{
    Context, Issuer, IssuerKeys, KeySet, NonceMinter, Policy, PortPolicy, ProofClaims, ProofSigner, ProvenTokens,
    ReplaySet, Request, Revocation, Revoked, Verdict, decide,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::bank::rename;
use crate::testing::mesh::{Member, Mesh, Reply, SOON, exchange};
use crate::testing::{capture_log, domain, openssl};

const PAYMENTS: &str = "https://payments.bank";
const LEDGER: &str = "https://ledger.bank";

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The parameters of a good request.
fn good<'a>(member: &'a Member, resource: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("grant_type", "client_credentials"), ("client_id", member.peer.spiffe_id.as_str()), ("resource", resource)]
}

fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

fn post(headers: &str, body: &str) -> String {
    post_to("/token", headers, body)
}

fn post_to(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

async fn ask(mesh: &Mesh, member: &Member, parameters: &[(&str, &str)]) -> Reply {
    mesh.http(Some(member), &post("", &form(parameters))).await
}

/// The error code of a refusal, which must look as RFC 6749 section 5.2 says.
fn error(reply: &Reply) -> (u16, String) {
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    assert_eq!(reply.header("pragma"), Some("no-cache"), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    let body = reply.json();
    let text = body["error_description"].as_str().unwrap();
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'), "{text}");
    (reply.status, body["error"].as_str().unwrap().to_owned())
}

fn detail(kind: &str, actions: &[&str]) -> fapi::WireDetail {
    let actions = actions.iter().map(|&action| action.to_owned()).collect();
    fapi::WireDetail { kind: kind.to_owned(), actions, ..Default::default() }
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A proof for the token endpoint, and its signer.
fn proof(mesh: &Mesh, signer: &ProofSigner, htm: &str, nonce: Option<&str>, jti: &str) -> String {
    let htu = format!("https://{}/token", mesh.issuer);
    let claims = ProofClaims { htm, htu: &htu, ath: None, nonce, jti, now: mesh.clock.now() };
    format!("DPoP: {}\r\n", signer.proof(&claims).unwrap())
}

async fn nonce(mesh: &Mesh, member: &Member, signer: &ProofSigner, resource: &str) -> String {
    let headers = proof(mesh, signer, "POST", None, "first");
    let reply = mesh.http(Some(member), &post(&headers, &form(&good(member, resource)))).await;
    assert_eq!(error(&reply), (400, "use_dpop_nonce".into()));
    reply.header("dpop-nonce").unwrap().to_owned()
}

#[tokio::test]
async fn everyone_may_read_metadata_and_keys() {
    let mesh = Mesh::start().await;
    let reply = mesh.http(None, &get("/.well-known/oauth-authorization-server")).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let metadata = reply.json();
    let issuer = format!("https://{}", mesh.issuer);
    assert_eq!(metadata["issuer"], issuer);
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials", exchange]));
    let algs = json!(["ES256", "PS256", "EdDSA", "Ed25519"]);
    for (endpoint, path) in [("token", "/token"), ("revocation", "/revoke"), ("introspection", "/introspect")] {
        let url = format!("{issuer}{path}");
        assert_eq!(metadata[format!("{endpoint}_endpoint")], url);
        assert_eq!(metadata["mtls_endpoint_aliases"][format!("{endpoint}_endpoint")], url);
        let methods = &metadata[format!("{endpoint}_endpoint_auth_methods_supported")];
        assert_eq!(*methods, json!(["tls_client_auth", "private_key_jwt"]));
        assert_eq!(metadata[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")], algs);
    }
    assert_eq!(metadata["dpop_signing_alg_values_supported"], algs);
    assert_eq!(metadata["introspection_signing_alg_values_supported"], json!(["ES256"]));
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    let jwks = metadata["jwks_uri"].as_str().unwrap().strip_prefix(&issuer).unwrap();
    let reply = mesh.http(None, &get(jwks)).await;
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    let keys = reply.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"], "public members only");
    }
    mesh.end().await;
}

#[tokio::test]
async fn a_certificate_bound_token_admits_its_holder() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(body["scope"], "accounts:read transfers:write");
    assert!(body.get("refresh_token").is_none());
    let token = body["access_token"].as_str().unwrap();
    let claims = claims(token);
    let now = mesh.clock.now().as_secs();
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(jti.len(), 22, "128 bits");
    let id = shop.peer.spiffe_id.as_str();
    assert_eq!(
        claims,
        json!({
            "iss": format!("https://{}", mesh.issuer), "sub": id, "client_id": id, "aud": PAYMENTS,
            "iat": now, "exp": now + 3600, "jti": jti, "scope": "accounts:read transfers:write",
            "cnf": {"x5t#S256": shop.peer.thumbprint.to_string()},
        })
    );
    assert!(admitted(&mesh, &shop, token));
    assert!(!admitted(&mesh, &mesh.member("shop-1"), token), "another certificate of the same pod");
    mesh.end().await;
}

/// Whether payments' sidecar would let the holder of a token in.
fn admitted(mesh: &Mesh, member: &Member, token: &str) -> bool {
    admits(mesh, "payments-1", member, token)
}

/// Whether the sidecar of a pod would let the holder of a token in.
fn admits(mesh: &Mesh, pod: &str, member: &Member, token: &str) -> bool {
    let mut keys = IssuerKeys::new();
    let issuer = format!("https://{}", mesh.issuer);
    let jwks = KeySet::from_jwks_json(&mesh.keys.published().borrow().jwks).unwrap();
    keys.insert(Issuer::parse(&issuer).unwrap(), jwks);
    let snapshot = mesh.view.borrow().snapshot(&mesh.pod(pod).uid, &super::names(&issuer)).unwrap();
    let snapshot: control::Snapshot = serde_json::from_slice(&snapshot.document).unwrap();
    let PortPolicyDoc::Policy(policy) = &snapshot.ports[0].policy else { panic!("it has a policy") };
    let policy = Arc::new(Policy::compile(&domain(), policy).unwrap());
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let context = Context {
        policy: &PortPolicy::Policy(policy),
        keys: &keys,
        peer: &member.peer,
        nonces: &NonceMinter::new([7; 32]),
        replay: &ReplaySet::new(16, 16),
        revocations: &mesh.revocations.in_force().set,
        keys_fresh: true,
        generation: 1,
        now: mesh.clock.now(),
    };
    let request = Request { method: &http::Method::POST, path: "/transfers", query: None, headers: &headers };
    matches!(decide(&context, &request, &mut ProvenTokens::new()), Verdict::Admit(_))
}

#[tokio::test]
async fn a_proof_binds_the_token_to_its_key() {
    let mesh = Mesh::start().await;
    let payments = mesh.member("payments-1");
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(&mesh, &payments, &signer, LEDGER).await;
    let headers = proof(&mesh, &signer, "POST", Some(&nonce), "second");
    let request = post(&headers, &form(&good(&payments, LEDGER)));
    let reply = mesh.http(Some(&payments), &request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["token_type"], "DPoP");
    assert!(body.get("scope").is_none(), "the rule has no scopes");
    let claims = claims(body["access_token"].as_str().unwrap());
    assert_eq!(claims["cnf"], json!({"jkt": signer.thumbprint().to_string()}));
    assert!(reply.header("dpop-nonce").is_some(), "a fresh one on success too");

    let again = mesh.http(Some(&payments), &request).await;
    assert_eq!(error(&again), (400, "invalid_dpop_proof".into()), "a proof counts once");
    mesh.end().await;
}

#[tokio::test]
async fn bad_proofs_are_told_as_such() {
    let mesh = Mesh::start().await;
    let payments = mesh.member("payments-1");
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(&mesh, &payments, &signer, LEDGER).await;
    let good_proof = |jti: &str| proof(&mesh, &signer, "POST", Some(&nonce), jti);
    for (headers, code) in [
        (proof(&mesh, &signer, "GET", Some(&nonce), "a"), "invalid_dpop_proof"),
        ("DPoP: nonsense\r\n".to_owned(), "invalid_dpop_proof"),
        (good_proof("b") + &good_proof("c"), "invalid_dpop_proof"),
        (proof(&mesh, &signer, "POST", Some("of-somebody-else"), "d"), "use_dpop_nonce"),
        (good_proof("e").to_lowercase().replace("dpop: ", "DPoP: "), "invalid_dpop_proof"),
    ] {
        let reply = mesh.http(Some(&payments), &post(&headers, &form(&good(&payments, LEDGER)))).await;
        assert_eq!(error(&reply), (400, code.into()), "{headers}");
        assert!(reply.header("dpop-nonce").is_some());
    }
    mesh.end().await;
}

#[tokio::test]
async fn the_certificate_is_the_client() {
    let mesh = Mesh::start().await;
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let body = form(&good(&shop, PAYMENTS));
    let none = mesh.http(None, &post("", &body)).await;
    assert_eq!(error(&none), (400, "invalid_client".into()), "no certificate");
    let other = mesh.http(Some(&payments), &post("", &body)).await;
    assert_eq!(error(&other), (400, "invalid_client".into()), "the certificate of another");
    let unnamed = ask(&mesh, &shop, &good(&shop, PAYMENTS)[..1]).await;
    assert_eq!(error(&unnamed), (400, "invalid_client".into()), "no client_id");

    for extra in ["client_secret", "client_assertion", "client_assertion_type"] {
        let mut parameters = good(&shop, PAYMENTS);
        parameters.push((extra, "x"));
        assert_eq!(error(&ask(&mesh, &shop, &parameters).await), (400, "invalid_client".into()), "{extra}");
    }
    let reply = mesh.http(Some(&shop), &post("Authorization: Basic c2hvcDpzZWNyZXQ=\r\n", &body)).await;
    assert_eq!(error(&reply), (401, "invalid_client".into()));
    assert_eq!(reply.header("www-authenticate"), Some("Basic"));
    mesh.end().await;
}

#[tokio::test]
async fn a_certificate_is_worth_nothing_without_its_pod() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    mesh.change(|model| rename(model, "shop-1", "shop-2"));
    let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
    assert_eq!(error(&reply), (400, "invalid_client".into()));
    mesh.end().await;
}

#[tokio::test]
async fn nothing_is_granted_before_the_state_is_known() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    mesh.view.send_replace(crate::view::View::empty(domain()).into());
    let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
    assert_eq!(error(&reply), (503, "temporarily_unavailable".into()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    mesh.end().await;
}

#[tokio::test]
async fn no_token_outlives_its_certificate() {
    let mesh = Mesh::start().await;
    let shop = mesh.member_for("shop-1", Duration::from_secs(600));
    let body = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await.json();
    assert_eq!(body["expires_in"], 600);
    assert_eq!(claims(body["access_token"].as_str().unwrap())["exp"], shop.peer.not_after.as_secs());
    // The timer of a connection follows the machine's clock, so this one outlives its certificate.
    let mut open = mesh.connect(mesh.issuer, Some(&shop.identity), &[b"http/1.1"]).await.unwrap();
    open.write_all(b"HEAD /jwks HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(open.read_u8().await.unwrap());
    }
    mesh.clock.advance(Duration::from_secs(600));
    let reply = exchange(open, &post("", &form(&good(&shop, PAYMENTS)))).await;
    assert_eq!(error(&reply), (400, "invalid_client".into()));
    mesh.end().await;
}

#[tokio::test]
async fn every_decision_is_logged_and_no_secret_is() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let (payments, web) = (mesh.member("payments-1"), mesh.member("web-1"));
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(&mesh, &payments, &signer, LEDGER).await;
    let headers = proof(&mesh, &signer, "POST", Some(&nonce), "second");
    let body = mesh.http(Some(&payments), &post(&headers, &form(&good(&payments, LEDGER)))).await.json();
    ask(&mesh, &web, &good(&web, LEDGER)).await;
    mesh.http(None, &post("", "client_id=liar")).await;
    mesh.end().await;

    let told: Vec<_> = log
        .of("token")
        .into_iter()
        .map(|line| ["outcome", "reason", "client_id", "audience"].map(|name| line[name].as_str().unwrap().to_owned()))
        .collect();
    let (payments, web) = (payments.peer.spiffe_id.as_str(), web.peer.spiffe_id.as_str());
    assert_eq!(
        told,
        [
            ["refused", "proof_nonce_required", payments, LEDGER],
            ["issued", "", payments, LEDGER],
            ["refused", "caller_not_allowed", web, LEDGER],
            ["refused", "certificate_missing", "", ""],
        ]
    );
    let text = log.text();
    let token = body["access_token"].as_str().unwrap();
    let secrets = token.split('.').chain(headers.trim_end().split(['.', ' ']).skip(1)).chain([nonce.as_str(), "liar"]);
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn what_is_revoked_gets_no_token() {
    let issuer = |mesh: &Mesh| Issuer::parse(&format!("https://{}", mesh.issuer)).unwrap();
    let of: [fn(&Mesh, &Member, Issuer) -> Revoked; 4] = [
        |_, shop, _| Revoked::Certificate(shop.peer.thumbprint),
        |mesh, _, _| Revoked::Pod(mesh.pod("shop-1").uid.into()),
        |_, shop, _| Revoked::SpiffeId(shop.peer.spiffe_id.clone()),
        |_, shop, issuer| Revoked::Client { issuer, id: shop.peer.spiffe_id.as_str().into() },
    ];
    for revoked in of {
        let mesh = Mesh::start().await;
        let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
        let held = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await.json()["access_token"].as_str().unwrap().to_owned();
        assert!(admitted(&mesh, &shop, &held));
        let revoked = revoked(&mesh, &shop, issuer(&mesh));
        let entry = Revocation::new(revoked.clone(), None, mesh.clock.now().plus(3600)).unwrap();
        mesh.revocations.revoke([entry]).unwrap();
        let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
        assert_eq!(error(&reply), (400, "invalid_client".into()), "{revoked:?}");
        assert!(!admitted(&mesh, &shop, &held), "and what it holds counts no more");
        // Others are served: they get as far as a nonce.
        assert!(!nonce(&mesh, &payments, &ProofSigner::generate().unwrap(), LEDGER).await.is_empty());
        mesh.end().await;
    }
}
