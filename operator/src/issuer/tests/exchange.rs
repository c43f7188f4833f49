//! Token exchange (RFC 8693): how a call is handed on, and what must not be.

use fapi::{Revoked, SenderConstraint};

use super::revoke::token;
use super::*;
use crate::issuer::exchange::{ACCESS_TOKEN, TOKEN_EXCHANGE};
use crate::model::{Key, Model};

/// The parameters of a good exchange.
fn exchanging<'a>(member: &'a Member, subject: &'a str, resource: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut parameters = good(member, resource);
    parameters[0].1 = TOKEN_EXCHANGE;
    parameters.extend([("subject_token", subject), ("subject_token_type", ACCESS_TOKEN)]);
    parameters
}

async fn exchange(mesh: &Mesh, member: &Member, subject: &str, resource: &str) -> Reply {
    ask(mesh, member, &exchanging(member, subject, resource)).await
}

/// The token that comes of an exchange.
async fn exchanged(mesh: &Mesh, member: &Member, subject: &str, resource: &str) -> String {
    let reply = exchange(mesh, member, subject, resource).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

/// A bank whose ledger takes calls that were handed on, and those alone, in either binding.
fn handing_on(model: &mut Model) {
    let policy = model.policies.get_mut(&Key::new("bank", "ledger")).unwrap();
    let spec = policy.spec.as_mut().unwrap();
    spec.sender_constraints = vec![SenderConstraint::Mtls, SenderConstraint::Dpop];
    spec.rules[0].actors = Some(fapi::WireActors { min: 1, max: 8 });
    let scopes = ["transfers:write", "entries:write"].map(str::to_owned).to_vec();
    spec.rules.push(fapi::WireRule { paths: vec!["/entries".to_owned()], scopes, ..spec.rules[0].clone() });
}

#[tokio::test]
async fn a_call_is_handed_on_with_all_who_did() {
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let [shop, payments, ledger] = ["shop-1", "payments-1", "ledger-1"].map(|name| mesh.member(name));
    let own = ask(&mesh, &payments, &good(&payments, LEDGER)).await;
    assert_eq!(error(&own), (400, "invalid_target".into()), "the rule takes no call of its own");

    let subject = token(&mesh, &shop, PAYMENTS).await;
    let reply = exchange(&mesh, &payments, &subject, LEDGER).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["issued_token_type"]), (&json!("Bearer"), &json!(ACCESS_TOKEN)));
    assert_eq!(body["scope"], "transfers:write", "what both the rule and the subject token have");
    assert!(body.get("refresh_token").is_none());
    let first = body["access_token"].as_str().unwrap();
    let told = claims(first);
    let (iat, jti) = (&told["iat"], &told["jti"]);
    let [shop_id, payments_id, ledger_id] = [&shop, &payments, &ledger].map(|member| member.peer.spiffe_id.as_str());
    assert_eq!(
        told,
        json!({
            "iss": format!("https://{}", mesh.issuer), "sub": shop_id, "act": {"sub": payments_id},
            "client_id": payments_id, "aud": LEDGER, "iat": iat, "exp": claims(&subject)["exp"], "jti": jti,
            "scope": "transfers:write", "cnf": {"x5t#S256": payments.peer.thumbprint.to_string()},
        })
    );
    assert!(admits(&mesh, "ledger-1", &payments, first));
    assert!(!admits(&mesh, "ledger-1", &shop, first), "the subject does not hold it");
    assert!(!admits(&mesh, "ledger-1", &ledger, first));
    assert!(!admits(&mesh, "payments-1", &payments, first));

    let second = claims(&exchanged(&mesh, &ledger, first, PAYMENTS).await);
    assert_eq!((&second["sub"], &second["client_id"]), (&json!(shop_id), &json!(ledger_id)));
    assert_eq!(second["act"], json!({"sub": ledger_id, "act": {"sub": payments_id}}));
    assert!(second.get("scope").is_none(), "no scope comes back that was lost on the way");
    mesh.end().await;
}

#[tokio::test]
async fn an_exchanged_token_may_be_bound_by_proof() {
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let subject = token(&mesh, &shop, PAYMENTS).await;
    let signer = ProofSigner::generate().unwrap();
    let body = form(&exchanging(&payments, &subject, LEDGER));
    let first = mesh.http(Some(&payments), &post(&proof(&mesh, &signer, "POST", None, "1"), &body)).await;
    assert_eq!(error(&first), (400, "use_dpop_nonce".into()));
    let nonce = first.header("dpop-nonce").unwrap();
    let reply = mesh.http(Some(&payments), &post(&proof(&mesh, &signer, "POST", Some(nonce), "2"), &body)).await;
    let body = reply.json();
    assert_eq!(body["token_type"], "DPoP", "{body}");
    let told = claims(body["access_token"].as_str().unwrap());
    assert_eq!(told["cnf"], json!({"jkt": signer.thumbprint().to_string()}));
    mesh.end().await;
}

#[tokio::test]
async fn a_chain_names_four_actors_at_most() {
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let [shop, payments, ledger] = ["shop-1", "payments-1", "ledger-1"].map(|name| mesh.member(name));
    let mut handed_on = token(&mesh, &shop, PAYMENTS).await;
    for _ in 0..2 {
        handed_on = exchanged(&mesh, &payments, &handed_on, LEDGER).await;
        handed_on = exchanged(&mesh, &ledger, &handed_on, PAYMENTS).await;
    }
    let fifth = exchange(&mesh, &payments, &handed_on, LEDGER).await;
    assert_eq!(error(&fifth), (400, "invalid_request".into()));
    assert!(fifth.body.contains("4 parties"), "{}", fifth.body);
    mesh.end().await;
}

#[tokio::test]
async fn it_lives_no_longer_than_what_it_was_exchanged_for() {
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let (shop, payments) = (mesh.member_for("shop-1", Duration::from_secs(600)), mesh.member("payments-1"));
    let subject = token(&mesh, &shop, PAYMENTS).await;
    mesh.clock.advance(Duration::from_secs(250));
    let body = exchange(&mesh, &payments, &subject, LEDGER).await.json();
    assert_eq!(body["expires_in"], 350);
    mesh.clock.advance(Duration::from_secs(350));
    let late = exchange(&mesh, &payments, &subject, LEDGER).await;
    assert_eq!(error(&late), (400, "invalid_request".into()));
    mesh.end().await;
}

#[tokio::test]
async fn n39_nothing_is_added_on_the_way() {
    let mesh = Mesh::start().await;
    let all = vec![detail("payment", &["initiate", "cancel"])];
    mesh.change(|model| {
        handing_on(model);
        for (service, details) in [("ledger", &all), ("payments", &vec![detail("payment", &["cancel"])])] {
            let policy = model.policies.get_mut(&Key::new("bank", service)).unwrap();
            policy.spec.as_mut().unwrap().rules[0].authorization_details = details.clone();
        }
    });
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let subject = token(&mesh, &shop, PAYMENTS).await;
    let cancel = json!([{"type": "payment", "actions": ["cancel"]}]);
    let more = json!([{"type": "payment", "actions": ["cancel", "initiate"]}]).to_string();
    for (name, value, outcome) in [
        ("scope", "transfers:write", Ok(())),
        ("scope", "entries:write", Err("invalid_scope")),
        ("scope", "accounts:read", Err("invalid_scope")),
        ("authorization_details", &cancel.to_string(), Ok(())),
        ("authorization_details", &more, Err("invalid_authorization_details")),
    ] {
        let mut parameters = exchanging(&payments, &subject, LEDGER);
        parameters.push((name, value));
        let reply = ask(&mesh, &payments, &parameters).await;
        match outcome {
            Ok(()) => {
                let body = reply.json();
                assert_eq!((&body["scope"], &body["authorization_details"]), (&json!("transfers:write"), &cancel));
            }
            Err(code) => assert_eq!(error(&reply), (400, code.into()), "{value}"),
        }
    }
    let nobody = exchange(&mesh, &payments, &subject, "https://nobody.bank").await;
    assert_eq!(error(&nobody), (400, "invalid_target".into()));
    mesh.end().await;
}

/// Why an exchange is refused: the error code and the reason in the log.
async fn refusals(subjects: &[(&str, &str, &str)], mesh: Mesh, payments: &Member, log: &crate::testing::Log) {
    for (subject, code, reason) in subjects {
        let reply = exchange(&mesh, payments, subject, LEDGER).await;
        assert_eq!(error(&reply), (400, (*code).into()), "{reason}");
    }
    mesh.end().await;
    let told: Vec<_> = log.of("token").into_iter().filter(|line| line["outcome"] == "refused").collect();
    let reasons: Vec<_> = told.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, subjects.iter().map(|(_, _, reason)| *reason).collect::<Vec<_>>());
    let named = |line: &Value| !line["subject_token"].as_str().unwrap().is_empty();
    assert!(told.iter().all(named), "by its hash");
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    assert!(subjects.iter().all(|(subject, ..)| !log.text().contains(&signature(subject))), "never whole");
}

#[tokio::test]
async fn only_what_was_sent_to_the_client_itself_is_exchanged() {
    let (log, _guard) = capture_log();
    let (mesh, foreign) = (Mesh::start().await, Mesh::start().await);
    let theirs = token(&foreign, &foreign.member("shop-1"), PAYMENTS).await;
    foreign.end().await;
    mesh.change(|model| {
        handing_on(model);
        model.policies.get_mut(&Key::new("bank", "ledger")).unwrap().spec.as_mut().unwrap().rules[0].actors = None;
    });
    let [shop, payments] = ["shop-1", "payments-1"].map(|name| mesh.member(name));
    let ours = token(&mesh, &shop, PAYMENTS).await;
    let elsewhere = token(&mesh, &shop, LEDGER).await;
    let own = token(&mesh, &payments, LEDGER).await;
    let (head, _) = ours.rsplit_once('.').unwrap();
    let changed = format!("{head}.{}", "A".repeat(86));
    let cases = [
        ("nonsense", "invalid_request", "subject_token_unknown"),
        (&*theirs, "invalid_request", "subject_token_unknown"),
        (&*changed, "invalid_request", "subject_token_unknown"),
        (&*elsewhere, "invalid_request", "subject_token_audience"),
        (&*own, "invalid_request", "subject_token_audience"),
    ];
    refusals(&cases, mesh, &payments, &log).await;
}

#[tokio::test]
async fn whoever_is_never_called_has_nothing_to_hand_on() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let own = token(&mesh, &shop, PAYMENTS).await;
    let reply = exchange(&mesh, &shop, &own, PAYMENTS).await;
    assert_eq!(error(&reply), (400, "unauthorized_client".into()));
    mesh.end().await;
}

#[tokio::test]
async fn a_revocation_reaches_everybody_on_the_way() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let [shop, payments, ledger] = ["shop-1", "payments-1", "ledger-1"].map(|name| mesh.member(name));
    let plain = token(&mesh, &shop, PAYMENTS).await;
    let handed_on = exchanged(&mesh, &ledger, &exchanged(&mesh, &payments, &plain, LEDGER).await, PAYMENTS).await;
    let issuer = Issuer::parse(&format!("https://{}", mesh.issuer)).unwrap();
    let id = claims(&plain)["jti"].as_str().unwrap().into();
    let now = mesh.clock.now();
    let revoke = |revoked, before| {
        mesh.revocations.revoke([Revocation::new(revoked, before, now.plus(7200)).unwrap()]).unwrap();
    };
    assert!(admits(&mesh, "ledger-1", &payments, &exchanged(&mesh, &payments, &handed_on, LEDGER).await));
    revoke(Revoked::Token { issuer: issuer.clone(), id }, None);
    let later = exchanged(&mesh, &payments, &handed_on, LEDGER).await;
    assert!(admits(&mesh, "ledger-1", &payments, &later), "a token of its own, with its own end");
    // What is issued to it from now on counts again, so that nothing but the chain is in the way.
    revoke(Revoked::Client { issuer, id: ledger.peer.spiffe_id.as_str().into() }, Some(now.plus(1)));
    assert!(!admits(&mesh, "ledger-1", &payments, &later), "one of its actors is revoked");
    mesh.clock.advance(Duration::from_secs(1));
    let fresh = token(&mesh, &shop, PAYMENTS).await;
    assert_eq!(exchange(&mesh, &payments, &fresh, LEDGER).await.status, 200);
    revoke(Revoked::SpiffeId(shop.peer.spiffe_id.clone()), None);
    let revoked = ("invalid_request", "subject_token_revoked");
    let cases = [&plain, &handed_on, &fresh].map(|subject| (&**subject, revoked.0, revoked.1));
    refusals(&cases, mesh, &payments, &log).await;
}

#[tokio::test]
async fn a_request_says_exactly_what_is_exchanged_for_what() {
    let mesh = Mesh::start().await;
    mesh.change(handing_on);
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let subject = token(&mesh, &shop, PAYMENTS).await;
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let with = |name: &'static str, value: &str| {
        let mut parameters = exchanging(&payments, &subject, LEDGER);
        parameters.retain(|(known, _)| *known != name);
        parameters.push((name, value));
        form(&parameters)
    };
    for (body, outcome) in [
        (with("requested_token_type", ACCESS_TOKEN), Ok(())),
        (with("requested_token_type", jwt), Err("invalid_request")),
        (with("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), Err("invalid_request")),
        (with("subject_token_type", jwt), Err("invalid_request")),
        (with("subject_token_type", ""), Err("invalid_request")),
        (with("subject_token", ""), Err("invalid_request")),
        (with("actor_token", &subject), Err("invalid_request")),
        (with("actor_token_type", ACCESS_TOKEN), Err("invalid_request")),
        (with("audience", LEDGER), Err("invalid_target")),
        (with("resource", ""), Err("invalid_target")),
        (with("client_id", shop.peer.spiffe_id.as_str()), Err("invalid_client")),
    ] {
        let reply = mesh.http(Some(&payments), &post("", &body)).await;
        match outcome {
            Ok(()) => assert_eq!(reply.status, 200, "{body}"),
            Err(code) => assert_eq!(error(&reply), (400, code.into()), "{body}"),
        }
    }
    mesh.end().await;
}
