//! How much a client is given.

use super::*;

#[tokio::test]
async fn the_target_decides_about_the_binding() {
    let mesh = Mesh::start().await;
    let payments = mesh.member("payments-1");
    let reply = ask(&mesh, &payments, &good(&payments, LEDGER)).await;
    assert_eq!(error(&reply), (400, "invalid_request".into()), "ledger takes only DPoP");
    assert!(reply.body.contains("DPoP proof"), "{}", reply.body);
    mesh.end().await;
}

#[tokio::test]
async fn scopes_are_within_the_grant() {
    let mesh = Mesh::start().await;
    let (shop, ledger) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    for (member, scope, outcome) in [
        (&shop, "transfers:write", Ok("transfers:write")),
        (&shop, "transfers:write accounts:read", Ok("accounts:read transfers:write")),
        (&shop, "", Ok("accounts:read transfers:write")),
        (&ledger, "", Ok("accounts:read")),
        (&ledger, "transfers:write", Err("invalid_scope")),
        (&ledger, "accounts:read transfers:write", Err("invalid_scope")),
        (&shop, "everything", Err("invalid_scope")),
        (&shop, "a  b", Err("invalid_scope")),
        (&shop, "\"", Err("invalid_scope")),
    ] {
        let mut parameters = good(member, PAYMENTS);
        parameters.push(("scope", scope));
        let reply = ask(&mesh, member, &parameters).await;
        match outcome {
            Ok(granted) => assert_eq!(reply.json()["scope"], granted, "{scope}"),
            Err(code) => assert_eq!(error(&reply), (400, code.into()), "{scope}"),
        }
    }
    mesh.end().await;
}

/// A bank whose rule for transfers asks more of a token.
fn demand(mesh: &Mesh, bend: impl Fn(&mut fapi::WireRule)) {
    mesh.change(|model| {
        let policy = model.policies.get_mut(&crate::model::Key::new("bank", "payments")).unwrap();
        bend(&mut policy.spec.as_mut().unwrap().rules[0]);
    });
}

#[tokio::test]
async fn authorization_details_are_within_the_grant() {
    let mesh = Mesh::start().await;
    demand(&mesh, |rule| rule.authorization_details = vec![detail("payment", &["initiate", "cancel"])]);
    let (shop, ledger) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    let all = json!([{"type": "payment", "actions": ["initiate", "cancel"]}]);
    let one = json!([{"type": "payment", "actions": ["cancel"]}]);
    let more = json!([{"type": "payment", "actions": ["cancel", "read"]}]);
    for (member, asked, outcome) in [
        (&shop, String::new(), Ok(Some(&all))),
        (&shop, all.to_string(), Ok(Some(&all))),
        (&shop, one.to_string(), Ok(Some(&one))),
        (&shop, more.to_string(), Err("invalid_authorization_details")),
        (&shop, json!([{"type": "payment", "amount": 1}]).to_string(), Err("invalid_authorization_details")),
        (&shop, "[]".to_owned(), Err("invalid_authorization_details")),
        (&shop, "payment".to_owned(), Err("invalid_authorization_details")),
        (&ledger, String::new(), Ok(None)),
        (&ledger, one.to_string(), Err("invalid_authorization_details")),
    ] {
        let mut parameters = good(member, PAYMENTS);
        parameters.push(("authorization_details", &asked));
        let reply = ask(&mesh, member, &parameters).await;
        match outcome {
            Ok(granted) => {
                let body = reply.json();
                assert_eq!(body.get("authorization_details"), granted, "{asked}");
                let token = body["access_token"].as_str().unwrap();
                assert_eq!(claims(token).get("authorization_details"), granted, "{asked}");
                assert_eq!(admitted(&mesh, member, token), granted == Some(&all), "{asked}");
            }
            Err(code) => assert_eq!(error(&reply), (400, code.into()), "{asked}"),
        }
    }
    mesh.end().await;
}

#[tokio::test]
async fn a_token_lives_no_longer_than_the_rules_take_it() {
    let mesh = Mesh::start().await;
    demand(&mesh, |rule| rule.max_token_age = Some(60));
    let (shop, ledger) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    let body = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await.json();
    assert_eq!(body["expires_in"], 60);
    let token = body["access_token"].as_str().unwrap();
    let claims = claims(token);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    assert!(admitted(&mesh, &shop, token));
    let body = ask(&mesh, &ledger, &good(&ledger, PAYMENTS)).await.json();
    assert_eq!(body["expires_in"], 3600, "the rule does not name it");
    mesh.end().await;
}

#[tokio::test]
async fn a_token_that_no_sidecar_would_take_is_not_given() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let long = "x".repeat(256);
    demand(&mesh, |rule| rule.authorization_details = (0..16).map(|n| detail(&n.to_string(), &[&*long; 2])).collect());
    let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
    assert_eq!(error(&reply), (400, "invalid_request".into()));
    let mut parameters = good(&shop, PAYMENTS);
    let some = json!([{"type": "1", "actions": [long]}]).to_string();
    parameters.push(("authorization_details", &some));
    assert_eq!(ask(&mesh, &shop, &parameters).await.status, 200, "asking for less helps");
    mesh.end().await;
}

#[tokio::test]
async fn whom_the_target_does_not_name_gets_nothing() {
    let mesh = Mesh::start().await;
    let (web, payments) = (mesh.member("web-1"), mesh.member("payments-1"));
    for (member, resource) in [
        (&web, PAYMENTS),
        (&web, LEDGER),
        (&payments, PAYMENTS),
        (&web, "https://nobody.bank"),
        (&web, "https://payments.bank/"),
        (&web, "HTTPS://payments.bank"),
        (&web, "http://payments.bank"),
        (&web, "payments"),
    ] {
        let reply = ask(&mesh, member, &good(member, resource)).await;
        assert_eq!(error(&reply), (400, "invalid_target".into()), "{resource}");
    }
    let none = ask(&mesh, &web, &good(&web, "")).await;
    assert_eq!(error(&none), (400, "invalid_target".into()), "no resource");
    mesh.end().await;
}
