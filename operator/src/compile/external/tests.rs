#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use control::{ClientAuthentication, DestinationKind, TokenDoc, TokenSource};
use crds::client::TargetStatus;
use crds::conditions::reason;
use fapi::SenderConstraint;

use super::*;
use crate::model::{Client, Model, Seniority};
use crate::testing::bank::{bank, client_of, view};
use crate::testing::foreign::{API, payments, with_external};

/// Adds a FapiClient with which `shop` calls payments as `client` of bank-as.
fn ask(model: &mut Model, client: &str, change: impl FnOnce(&mut ClientTarget)) {
    let mut target = ClientTarget {
        service: Key::new("bank", "payments"),
        scopes: Vec::new(),
        details: None,
        sender_constraint: None,
        grant_type: Default::default(),
    };
    change(&mut target);
    let mut spec = client_of("shop", vec![target]);
    spec.external = Some(ExternalClient { issuer: "bank-as".to_owned(), client_id: client.to_owned() });
    spec.authentication = ClientAuthentication::PrivateKeyJwt;
    let seniority = Seniority { created: 0, key: Key::new("bank", "shop") };
    model.clients.insert(seniority.key.clone(), Client { seniority, generation: 1, spec: Some(spec), fault: None });
}

/// What the sidecar of shop is told, and what the status of its FapiClient says.
fn outcome(model: Model) -> (TokenDoc, TargetStatus) {
    let view = view(model);
    let status = crate::status::client_of(&view, &Key::new("bank", "shop"));
    match view.destination("uid-of-bank-shop-1", "payments").kind {
        DestinationKind::Meshed(meshed) => (meshed.token.unwrap(), status.targets[0].clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_asks_for_what_both_sides_and_the_platform_take() {
    let mut model = with_external();
    ask(&mut model, "shop-7", |_| {});
    let (token, status) = outcome(model);
    let TokenSource::External(external) = &token.source else { panic!("{token:?}") };
    assert_eq!((external.client_id.as_str(), external.audience.as_str()), ("shop-7", API));
    assert_eq!(external.server.issuer, "https://login.bank.example");
    assert_eq!(token.scopes, ["transfers:write"], "by name, of the rules' those that count");
    assert_eq!(token.authentication, ClientAuthentication::PrivateKeyJwt);
    assert_eq!((status.reason.as_str(), status.audience.as_str()), (reason::GRANTED, API));
    assert_eq!(status.scopes, ["transfers:write"]);
}

#[test]
fn whoever_may_not_ask_is_told_why_and_its_calls_do_not_go_out() {
    let mut not_taken = with_external();
    payments(&mut not_taken).external.clear();
    let mut not_allowed = with_external();
    not_allowed.issuers.get_mut("bank-as").unwrap().spec.as_mut().unwrap().allow.clear();
    let mut nowhere = bank();
    nowhere.issuers.clear();
    let mut not_named = with_external();
    payments(&mut not_named).rules.iter_mut().for_each(|rule| {
        rule.callers.iter_mut().for_each(|caller| caller.service_account = Some("ledger".to_owned()));
    });
    let nothing = |_: &mut ClientTarget| {};
    let scopes = |target: &mut ClientTarget| target.scopes = vec!["accounts:read".to_owned()];
    let dpop = |target: &mut ClientTarget| target.sender_constraint = Some(SenderConstraint::Dpop);
    let mut by_certificate = with_external();
    payments(&mut by_certificate).sender_constraints = vec![SenderConstraint::Mtls];
    type Change = fn(&mut ClientTarget);
    let cases: [(Model, &str, Change, &str); 7] = [
        (not_taken, "shop-7", nothing, reason::ISSUER_NOT_ACCEPTED),
        (not_allowed, "shop-7", nothing, reason::ISSUER_NOT_ACCEPTED),
        (nowhere, "shop-7", nothing, reason::ISSUER_NOT_ACCEPTED),
        (with_external(), "another", nothing, reason::CALLER_NOT_ALLOWED),
        (not_named, "shop-7", nothing, reason::CALLER_NOT_ALLOWED),
        (with_external(), "shop-7", scopes, reason::SCOPE_NOT_ALLOWED),
        (by_certificate, "shop-7", dpop, reason::SENDER_CONSTRAINT_MISMATCH),
    ];
    for (mut model, client, change, why) in cases {
        ask(&mut model, client, change);
        let (token, status) = outcome(model);
        assert_eq!((&token.source, status.reason.as_str()), (&TokenSource::Denied, why), "{status:?}");
        assert!(status.message.is_some());
    }
}

#[test]
fn a_rule_that_names_the_client_is_enough() {
    let mut model = with_external();
    let rule = &mut payments(&mut model).rules[0];
    let from = rule.callers.remove(0);
    rule.clients =
        vec![fapi::WireClient { issuer: "bank-as".to_owned(), client_id: "shop-7".to_owned(), caller: Some(from) }];
    rule.callers.push(fapi::WireCaller { namespace: "bank".to_owned(), service_account: Some("ledger".to_owned()) });
    ask(&mut model, "shop-7", |_| {});
    assert_eq!(outcome(model).1.scopes, ["transfers:write"]);
}
