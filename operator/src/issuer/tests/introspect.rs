//! Introspection (RFC 7662) and its signed form (RFC 9701).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::revoke::{about, token};
use super::*;

async fn introspect(mesh: &Mesh, member: Option<&Member>, accept: &str, parameters: &[(&str, &str)]) -> Reply {
    let accept = format!("Accept: {accept}\r\n");
    mesh.http(member, &post_to("/introspect", &accept, &form(parameters))).await
}

/// What a member is told about a token.
pub(super) async fn introspected(mesh: &Mesh, member: &Member, token: &str) -> Value {
    let reply = introspect(mesh, Some(member), "application/json", &about(member, token)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
    reply.json()
}

#[tokio::test]
async fn n38_a_token_is_told_to_its_audience_and_its_client_alone() {
    let mesh = Mesh::start().await;
    let [shop, payments, ledger, web] = ["shop-1", "payments-1", "ledger-1", "web-1"].map(|name| mesh.member(name));
    let token = token(&mesh, &shop, PAYMENTS).await;
    let mut wanted = claims(&token);
    (wanted["active"], wanted["token_type"]) = (true.into(), "Bearer".into());
    assert_eq!(introspected(&mesh, &payments, &token).await, wanted);
    assert_eq!(introspected(&mesh, &shop, &token).await, wanted);
    for other in [&ledger, &web] {
        assert_eq!(introspected(&mesh, other, &token).await, json!({"active": false}));
    }
    mesh.end().await;
}

#[tokio::test]
async fn a_token_bound_by_proof_says_so() {
    let mesh = Mesh::start().await;
    let (payments, ledger) = (mesh.member("payments-1"), mesh.member("ledger-1"));
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(&mesh, &payments, &signer, LEDGER).await;
    let headers = proof(&mesh, &signer, "POST", Some(&nonce), "second");
    let reply = mesh.http(Some(&payments), &post(&headers, &form(&good(&payments, LEDGER)))).await;
    let told = introspected(&mesh, &ledger, reply.json()["access_token"].as_str().unwrap()).await;
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("DPoP")));
    assert_eq!(told["cnf"], json!({"jkt": signer.thumbprint().to_string()}));
    mesh.end().await;
}

#[tokio::test]
async fn nothing_is_told_about_what_has_ended_or_is_not_ours() {
    let (mesh, foreign) = (Mesh::start().await, Mesh::start().await);
    let shop = mesh.member_for("shop-1", Duration::from_secs(600));
    let payments = mesh.member("payments-1");
    let theirs = token(&foreign, &foreign.member("shop-1"), PAYMENTS).await;
    let ours = token(&mesh, &shop, PAYMENTS).await;
    let changed = format!("{}A", &ours[..ours.len() - 1]);
    let changed = if changed == ours { format!("{}B", &ours[..ours.len() - 1]) } else { changed };
    for token in ["nonsense", &theirs, &changed] {
        assert_eq!(introspected(&mesh, &payments, token).await, json!({"active": false}), "{token}");
    }
    mesh.clock.advance(Duration::from_secs(599));
    assert_eq!(introspected(&mesh, &payments, &ours).await["active"], true);
    mesh.clock.advance(Duration::from_secs(1));
    assert_eq!(introspected(&mesh, &payments, &ours).await, json!({"active": false}));
    mesh.end().await;
    foreign.end().await;
}

/// The header and the claims of a signed answer, whose signature is by a published key.
fn read(mesh: &Mesh, jwt: &str) -> (Value, Value) {
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let jwks: Value = serde_json::from_slice(&mesh.keys.published().borrow().jwks).unwrap();
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let coordinate = |name: &str| decode(key[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    assert!(crate::crypto::verify_es256(&point, signed.as_bytes(), &decode(signature)));
    (header, serde_json::from_slice(&decode(payload)).unwrap())
}

#[tokio::test]
async fn a_signed_answer_is_for_the_one_who_asked_and_no_token() {
    let mesh = Mesh::start().await;
    let [shop, payments, web] = ["shop-1", "payments-1", "web-1"].map(|name| mesh.member(name));
    let token = token(&mesh, &shop, PAYMENTS).await;
    let media_type = "application/token-introspection+jwt";
    for (member, active) in [(&payments, true), (&web, false)] {
        let reply = introspect(&mesh, Some(member), media_type, &about(member, &token)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let (header, told) = read(&mesh, &reply.body);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("token-introspection+jwt"), &json!("ES256")));
        let plain = introspected(&mesh, member, &token).await;
        assert_eq!(plain["active"], active);
        assert_eq!(
            told,
            json!({
                "iss": format!("https://{}", mesh.issuer), "aud": member.peer.spiffe_id.as_str(),
                "iat": mesh.clock.now().as_secs(), "token_introspection": plain,
            })
        );
        assert!(!admitted(&mesh, &shop, &reply.body));
        assert_eq!(introspected(&mesh, &payments, &reply.body).await, json!({"active": false}));
    }
    mesh.end().await;
}

#[tokio::test]
async fn whoever_is_not_authenticated_learns_nothing() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let [shop, payments, web] = ["shop-1", "payments-1", "web-1"].map(|name| mesh.member(name));
    let token = token(&mesh, &shop, PAYMENTS).await;
    for accept in ["application/json", "application/token-introspection+jwt"] {
        let none = introspect(&mesh, None, accept, &about(&payments, &token)).await;
        assert_eq!(error(&none), (400, "invalid_client".into()));
        let other = introspect(&mesh, Some(&web), accept, &about(&payments, &token)).await;
        assert_eq!(error(&other), (400, "invalid_client".into()));
    }
    introspected(&mesh, &web, &token).await;
    introspected(&mesh, &payments, &token).await;
    mesh.end().await;
    let told: Vec<_> = log
        .of("introspection")
        .iter()
        .map(|line| ["outcome", "reason"].map(|name| line[name].as_str().unwrap().to_owned()))
        .collect();
    let refused = [["refused", "certificate_missing"], ["refused", "client_id_mismatch"]];
    assert_eq!(
        told,
        [refused[0], refused[1], refused[0], refused[1], ["inactive", "token_of_another"], ["active", ""]]
    );
    assert!(!log.text().contains(token.rsplit('.').next().unwrap()));
}
