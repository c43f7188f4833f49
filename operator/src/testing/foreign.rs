//! A bank that also deals with an authorization server outside the mesh.

use std::collections::BTreeMap;

use control::ExternalIssuer;
use fapi::{WireCaller, WireMapping};

use super::bank::bank;
use crate::model::{Allowed, Issuer, IssuerRef, IssuerSpec, Key, Model, PolicySpec, Seniority};

/// The audience under which payments takes its tokens.
pub(crate) const API: &str = "https://api.bank.example";

/// A FapiIssuer that lets `bank` take and ask for tokens for the API, and knows `shop` as `shop-7`.
pub(crate) fn issuer(name: &str, created: u64, url: &str) -> Issuer {
    let shop = WireCaller { namespace: "bank".to_owned(), service_account: Some("shop".to_owned()) };
    let server = ExternalIssuer { issuer: url.to_owned(), jwks_uri: None, ca_bundle: None, introspect_as: None };
    let allowed = Allowed { audiences: vec![API.to_owned()], scopes: vec!["transfers:write".to_owned()] };
    let spec = IssuerSpec {
        server,
        allow: BTreeMap::from([("bank".to_owned(), allowed)]),
        opaque: false,
        typ: fapi::TokenTyp::Jwt,
        client_id_claim: fapi::ClientIdClaim::Azp,
        max_token_age: 900,
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![shop] }],
    };
    let seniority = Seniority { created, key: Key::new("", name) };
    Issuer { seniority, generation: 1, spec: Some(spec), fault: None }
}

pub(crate) fn add(model: &mut Model, name: &str, created: u64, url: &str) {
    model.issuers.insert(name.to_owned(), issuer(name, created, url));
}

/// What the policy of payments says.
pub(crate) fn payments(model: &mut Model) -> &mut PolicySpec {
    model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap()
}

/// The bank, whose payments take tokens of `bank-as` too.
pub(crate) fn with_external() -> Model {
    let mut model = bank();
    add(&mut model, "bank-as", 0, "https://login.bank.example");
    payments(&mut model).external = vec![IssuerRef { name: "bank-as".to_owned(), audiences: vec![API.to_owned()] }];
    model
}
