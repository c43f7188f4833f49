//! Revocation (RFC 7009).

use super::introspect::introspected;
use super::*;
use crate::revocations::given_up::tests;

async fn revoke(mesh: &Mesh, member: Option<&Member>, parameters: &[(&str, &str)]) -> Reply {
    mesh.http(member, &post_to("/revoke", "", &form(parameters))).await
}

/// What a member sends about a token.
pub(super) fn about<'a>(member: &'a Member, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("client_id", member.peer.spiffe_id.as_str()), ("token", token)]
}

/// A token of the member for a service.
pub(super) async fn token(mesh: &Mesh, member: &Member, resource: &str) -> String {
    ask(mesh, member, &good(member, resource)).await.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_revoked_token_stays_revoked_also_after_a_restart() {
    let mesh = Mesh::start().await;
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let (first, second) = (token(&mesh, &shop, PAYMENTS).await, token(&mesh, &shop, PAYMENTS).await);
    assert_eq!(introspected(&mesh, &payments, &first).await["active"], true);
    let mut parameters = about(&shop, &first);
    parameters.push(("token_type_hint", "refresh_token"));
    let reply = revoke(&mesh, Some(&shop), &parameters).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!(revoke(&mesh, Some(&shop), &parameters).await.status, 200, "once more changes nothing");
    assert_eq!(introspected(&mesh, &payments, &first).await, json!({"active": false}));
    assert_eq!(introspected(&mesh, &payments, &second).await["active"], true);

    let mesh = mesh.restart().await;
    assert_eq!(introspected(&mesh, &payments, &first).await, json!({"active": false}));
    assert_eq!(introspected(&mesh, &payments, &second).await["active"], true);
    mesh.end().await;
}

#[tokio::test]
async fn who_gives_up_many_tokens_gives_up_all_of_before_and_keeps_what_comes_after() {
    let mesh = Mesh::start().await;
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let (given_up, kept) = (token(&mesh, &shop, PAYMENTS).await, token(&mesh, &shop, PAYMENTS).await);
    for number in 0..128 {
        let one = tests::given_up(&shop.peer.spiffe_id, &number.to_string(), mesh.clock.now());
        mesh.revocations.give_up(one).unwrap();
    }
    let entries = || mesh.revocations.in_force().set.len();
    assert_eq!(entries(), 128);
    // No answer but a refusal while the token counts.
    let reply = revoke(&mesh, Some(&shop), &about(&shop, &given_up)).await;
    assert_eq!((error(&reply).0, reply.header("retry-after")), (429, Some("1")));
    assert_eq!(introspected(&mesh, &payments, &given_up).await["active"], true);

    mesh.clock.advance(Duration::from_secs(1));
    for (token, entries_then) in [(&given_up, 1), (&kept, 1), (&given_up, 1)] {
        let reply = revoke(&mesh, Some(&shop), &about(&shop, token)).await;
        assert_eq!((reply.status, entries()), (200, entries_then));
        for before in [&given_up, &kept] {
            assert_eq!(introspected(&mesh, &payments, before).await, json!({"active": false}));
        }
    }
    let (issuer, before, now) = (format!("https://{}", mesh.issuer), mesh.clock.now().minus(1), mesh.clock.now());
    let hit = |member: &Member| {
        mesh.revocations.in_force().set.hit_client(&issuer, member.peer.spiffe_id.as_str(), before, now)
    };
    assert!(hit(&shop) && !hit(&payments), "no other client");
    let after = token(&mesh, &shop, PAYMENTS).await;
    assert_eq!(introspected(&mesh, &payments, &after).await["active"], true);
    let epoch = mesh.revocations.in_force().epoch;
    let mesh = mesh.restart().await;
    assert_eq!(mesh.revocations.in_force().epoch, epoch);
    assert_eq!(introspected(&mesh, &payments, &given_up).await, json!({"active": false}));
    mesh.end().await;
}

#[tokio::test]
async fn only_its_client_revokes_a_token() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let token = token(&mesh, &shop, PAYMENTS).await;
    let other = revoke(&mesh, Some(&payments), &about(&payments, &token)).await;
    assert_eq!(error(&other), (400, "invalid_grant".into()));
    let claimed = revoke(&mesh, Some(&payments), &about(&shop, &token)).await;
    assert_eq!(error(&claimed), (400, "invalid_client".into()));
    assert_eq!(error(&revoke(&mesh, None, &about(&shop, &token)).await), (400, "invalid_client".into()));
    assert_eq!(introspected(&mesh, &payments, &token).await["active"], true);
    assert_eq!(revoke(&mesh, Some(&shop), &about(&shop, &token)).await.status, 200);
    mesh.end().await;
    let told: Vec<_> = log
        .of("revocation")
        .iter()
        .map(|line| ["outcome", "reason"].map(|name| line[name].as_str().unwrap().to_owned()))
        .collect();
    let refused = |reason| ["refused", reason];
    let wanted =
        [refused("token_of_another"), refused("client_id_mismatch"), refused("certificate_missing"), ["done", ""]];
    assert_eq!(told, wanted);
    assert!(!log.text().contains(token.rsplit('.').next().unwrap()));
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_as_good_as_revoked() {
    let (mesh, foreign) = (Mesh::start().await, Mesh::start().await);
    let shop = mesh.member_for("shop-1", Duration::from_secs(7200));
    let theirs = token(&foreign, &foreign.member("shop-1"), PAYMENTS).await;
    let ended = token(&mesh, &shop, PAYMENTS).await;
    mesh.clock.advance(Duration::from_secs(3610));
    for token in ["nonsense", &theirs, &ended] {
        let reply = revoke(&mesh, Some(&shop), &about(&shop, token)).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{token}");
    }
    mesh.end().await;
    foreign.end().await;
}

#[tokio::test]
async fn requests_of_another_form_are_refused() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let body = form(&about(&shop, "x"));
    let large = format!("{body}&x={}", "x".repeat(20_000));
    for path in ["/revoke", "/introspect"] {
        let request = post_to(path, "", &body);
        for (request, status) in [
            (post_to(path, "", &form(&about(&shop, ""))), 400),
            (post_to(path, "", &format!("{body}&token=y")), 400),
            (request.replace(&format!("{path} "), &format!("{path}?token=x ")), 400),
            (request.replace("x-www-form-urlencoded", "json"), 415),
            (post_to(path, "", &large), 413),
            (get(path), 405),
        ] {
            let reply = mesh.http(Some(&shop), &request).await;
            assert_eq!(error(&reply), (status, "invalid_request".into()), "{request}");
        }
    }
    mesh.end().await;
}
