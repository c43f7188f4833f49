#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use control::{PortPolicyDoc, Snapshot};

use super::*;
use crate::model::Key;
use crate::testing::bank::view;
use crate::testing::foreign::{API, add, issuer, payments, with_external};
use crate::view::View;

const MESH: &str = "https://issuer.fapi-mesh";

fn snapshot_of(view: &View, pod: &str, issuer: &str) -> (Snapshot, Vec<&'static str>) {
    let issuer = control::MeshIssuer { issuer: issuer.to_owned(), token_endpoint: format!("{issuer}/token") };
    let made = view.snapshot(&format!("uid-of-bank-{pod}"), &issuer).unwrap();
    (serde_json::from_slice(&made.document).unwrap(), made.required_features.clone())
}

fn governed(snapshot: &Snapshot) -> &fapi::WirePolicy {
    match &snapshot.ports[0].policy {
        PortPolicyDoc::Policy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_carries_the_issuers_of_its_ports_and_demands_that_they_are_understood() {
    let view = view(with_external());
    let (snapshot, features) = snapshot_of(&view, "payments-1", MESH);
    use control::features::{EXTERNAL_ISSUERS, REVOCATIONS, RULES};
    assert_eq!(features, [RULES, REVOCATIONS, EXTERNAL_ISSUERS]);
    assert_eq!(snapshot.external_issuers, [issuer("bank-as", 0, "https://login.bank.example").spec.unwrap().server]);
    let [external] = governed(&snapshot).external.as_slice() else { panic!("one external issuer") };
    assert_eq!((external.name.as_str(), external.issuer.as_str()), ("bank-as", "https://login.bank.example"));
    assert_eq!(external.resources[0].audience, API);
    assert_eq!(external.resources[0].origins, ["https://payments.bank"], "proofs are for the service itself");
    assert_eq!(external.scopes.as_deref(), Some(["transfers:write".to_owned()].as_slice()));
    assert_eq!((external.clients[0].client_id.as_str(), external.max_token_age), ("shop-7", 900));
    let (ledger, features) = snapshot_of(&view, "ledger-1", MESH);
    assert_eq!((features, ledger.external_issuers), (vec![RULES, REVOCATIONS], vec![]), "an old sidecar will do");
}

#[test]
fn an_issuer_that_may_not_be_used_admits_nothing_and_the_rest_holds() {
    let mut stranger = with_external();
    stranger.issuers.get_mut("bank-as").unwrap().spec.as_mut().unwrap().allow.clear();
    let mut audience = with_external();
    payments(&mut audience).external[0].audiences = vec![API.to_owned(), "https://other".to_owned()];
    let mut missing = with_external();
    missing.issuers.clear();
    let mut never_good = with_external();
    never_good.issuers.get_mut("bank-as").unwrap().spec = None;
    let mut younger = with_external();
    younger.issuers.get_mut("bank-as").unwrap().seniority.created = 2;
    add(&mut younger, "other-as", 1, "https://login.bank.example");
    for (model, why) in [
        (stranger, reason::REF_NOT_PERMITTED),
        (audience, reason::REF_NOT_PERMITTED),
        (missing, reason::ISSUER_NOT_FOUND),
        (never_good, reason::ISSUER_NOT_FOUND),
        (younger, reason::ISSUER_NOT_FOUND),
    ] {
        let wanted = model.policies[&Key::new("bank", "payments")].spec.as_ref().unwrap().external[0].clone();
        assert_eq!(Issuers(&model.issuers).resolve("bank", &wanted).unwrap_err().0, why);
        let (snapshot, _) = snapshot_of(&view(model), "payments-1", MESH);
        assert_eq!((governed(&snapshot).external.len(), snapshot.external_issuers.len()), (0, 0));
        assert_eq!(governed(&snapshot).issuers, [MESH]);
    }
}

#[test]
fn without_any_issuer_that_may_be_used_the_port_is_closed() {
    let mut model = with_external();
    payments(&mut model).takes_mesh = false;
    let (snapshot, _) = snapshot_of(&view(model.clone()), "payments-1", MESH);
    assert_eq!((governed(&snapshot).issuers.len(), governed(&snapshot).external.len()), (0, 1));
    let granting = view(model.clone()).index().policies_of(&Key::new("bank", "payments")).len();
    assert_eq!(granting, 0, "the mesh's own issuer gives no token that nobody would take");
    model.issuers.clear();
    let (snapshot, _) = snapshot_of(&view(model), "payments-1", MESH);
    assert!(matches!(&snapshot.ports[0].policy, PortPolicyDoc::Invalid { name } if name == "bank/payments"));
}

#[test]
fn nobody_outside_is_the_mesh_s_own_issuer() {
    let mut model = with_external();
    add(&mut model, "bank-as", 0, MESH);
    let (snapshot, _) = snapshot_of(&view(model.clone()), "payments-1", MESH);
    assert_eq!((governed(&snapshot).external.len(), snapshot.external_issuers.len()), (0, 0));
    payments(&mut model).takes_mesh = false;
    let (snapshot, _) = snapshot_of(&view(model), "payments-1", MESH);
    assert!(matches!(snapshot.ports[0].policy, PortPolicyDoc::Invalid { .. }));
}

#[test]
fn a_sidecar_asks_about_opaque_tokens_as_the_client_that_its_workload_is() {
    let mut model = with_external();
    let spec = model.issuers.get_mut("bank-as").unwrap().spec.as_mut().unwrap();
    spec.opaque = true;
    let caller = |account: Option<&str>| WireCaller {
        namespace: "bank".to_owned(),
        service_account: account.map(str::to_owned),
    };
    let client = |id: &str, account| fapi::WireMapping { client_id: id.to_owned(), callers: vec![caller(account)] };
    spec.clients.extend([client("everyone", None), client("the-payments", Some("payments"))]);
    use control::features::{EXTERNAL_ISSUERS, INTROSPECTION, REVOCATIONS, RULES};
    let (snapshot, features) = snapshot_of(&view(model.clone()), "payments-1", MESH);
    assert_eq!(features, [RULES, REVOCATIONS, EXTERNAL_ISSUERS, INTROSPECTION]);
    assert!(governed(&snapshot).external[0].opaque);
    assert_eq!(snapshot.external_issuers[0].introspect_as.as_deref(), Some("the-payments"));
    let clients = &mut model.issuers.get_mut("bank-as").unwrap().spec.as_mut().unwrap().clients;
    clients.retain(|client| client.client_id != "the-payments");
    let (snapshot, _) = snapshot_of(&view(model.clone()), "payments-1", MESH);
    assert_eq!(snapshot.external_issuers[0].introspect_as.as_deref(), Some("everyone"));
    model.issuers.get_mut("bank-as").unwrap().spec.as_mut().unwrap().clients.truncate(1);
    let (snapshot, _) = snapshot_of(&view(model), "payments-1", MESH);
    assert_eq!(snapshot.external_issuers[0].introspect_as, None, "it is no client there, so it asks nobody");
}

#[test]
fn of_two_issuers_of_opaque_tokens_the_first_counts() {
    let mut model = with_external();
    add(&mut model, "other-as", 1, "https://other.example");
    let second = IssuerRef { name: "other-as".to_owned(), audiences: vec![API.to_owned()] };
    payments(&mut model).external.push(second);
    for issuer in model.issuers.values_mut() {
        issuer.spec.as_mut().unwrap().opaque = true;
    }
    let (snapshot, _) = snapshot_of(&view(model.clone()), "payments-1", MESH);
    let names: Vec<_> = governed(&snapshot).external.iter().map(|external| external.name.as_str()).collect();
    assert_eq!(names, ["bank-as"]);
    let wanted = payments(&mut model).external.clone();
    let refused: Vec<_> = Issuers(&model.issuers).resolve_all("bank", &wanted).filter_map(Result::err).collect();
    assert_eq!(refused[0].0, reason::REF_NOT_PERMITTED);
}

#[test]
fn listed_origins_count_beside_the_derived_one_for_every_issuer() {
    let mut model = with_external();
    payments(&mut model).origins = vec!["https://api.bank.example:8443".to_owned(), "https://payments.bank".to_owned()];
    let (snapshot, _) = snapshot_of(&view(model), "payments-1", MESH);
    let both = ["https://payments.bank", "https://api.bank.example:8443"];
    assert_eq!(governed(&snapshot).resources[0].origins, both);
    assert_eq!(governed(&snapshot).external[0].resources[0].origins, both);
    assert_eq!(governed(&snapshot).resources[0].audience, "https://payments.bank", "the audience is what it was");
}
