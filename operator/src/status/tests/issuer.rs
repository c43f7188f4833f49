//! Of FapiIssuers.

use super::*;

#[test]
fn a_policy_tells_of_issuers_that_it_may_not_use_and_an_issuer_of_its_conflicts() {
    let mut model = bank();
    let server = |url: &str| control::ExternalIssuer {
        issuer: url.to_owned(),
        jwks_uri: None,
        ca_bundle: None,
        introspect_as: None,
    };
    let issuer = |name: &str, url: &str| {
        let spec = IssuerSpec {
            server: server(url),
            allow: Default::default(),
            opaque: false,
            typ: Default::default(),
            client_id_claim: Default::default(),
            max_token_age: 900,
            clients: Vec::new(),
        };
        let seniority = Seniority { created: 0, key: Key::new("", name) };
        (name.to_owned(), Issuer { seniority, generation: 2, spec: Some(spec), fault: None })
    };
    let own = crate::issuer::names("https://127.0.0.1:1").issuer;
    model.issuers.extend([issuer("a", "https://as"), issuer("b", "https://as"), issuer("c", &own)]);
    let (name, broken) = issuer("d", "https://d");
    model.issuers.insert(name, Issuer { spec: None, generation: 0, fault: Some("d.yaml:1".to_owned()), ..broken });
    let external = vec![IssuerRef { name: "a".to_owned(), audiences: vec!["https://api".to_owned()] }];
    model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap().external = external;
    let (mut bench, view) = (Bench::new(), view(model));
    bench.all_run(&view);
    bench.report(&view, NOW);
    let status = bench.policy("payments");
    assert_eq!(said(&status.ancestors[0].conditions, "ResolvedRefs"), ("False", "RefNotPermitted"));
    assert_eq!(said(&status.ancestors[0].conditions, "Programmed"), ("True", "Programmed"), "the rest of it holds");
    assert_eq!(said(&status.conditions, "Ready"), ("False", "RefNotPermitted"));
    for (name, expected) in [
        ("a", ("True", "Ready")),
        ("b", ("False", "Conflicted")),
        ("c", ("False", "Conflicted")),
        ("d", ("False", "Invalid")),
    ] {
        let Status::Issuer(status) = &bench.last[&ObjectId::new(Kind::FapiIssuer, None, name).unwrap()] else {
            panic!("{name} has another status")
        };
        assert_eq!(said(&status.conditions, "Ready"), expected, "{name}");
    }
}
