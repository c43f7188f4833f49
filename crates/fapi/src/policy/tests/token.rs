//! What a rule asks of the token beyond scopes: details, age, actors.

use super::*;

fn detail(kind: &str, actions: &[&str]) -> WireDetail {
    WireDetail { kind: kind.to_owned(), actions: texts(actions), ..WireDetail::default() }
}

fn for_shop(bend: impl FnOnce(&mut WireRule)) -> WireRule {
    let mut wire = rule(&[], &[], &[], &[account("bank", "shop")], &[]);
    bend(&mut wire);
    wire
}

fn details(json: &str) -> AuthorizationDetails {
    AuthorizationDetails::parse(json).unwrap()
}

/// The verdict about a token of this age and chain.
fn judged<'p>(policy: &'p Policy, age: u64, actors: u8, has: &AuthorizationDetails) -> Result<Matched, Unmatched<'p>> {
    let (who, scopes) = (caller("bank", "shop"), ScopeSet::empty());
    policy.judge(
        "/",
        &Method::GET,
        &Credentials { caller: &who, client: None, actors, scopes: &scopes, details: has, age },
    )
}

#[test]
fn the_oldest_token_that_any_rule_takes_passes_in_any_order() {
    let mut rules = vec![
        for_shop(|rule| rule.max_token_age = Some(60)),
        for_shop(|rule| rule.max_token_age = Some(5)),
        for_shop(|rule| rule.max_token_age = Some(300)),
        for_shop(|rule| rule.scopes = texts(&["missing"])),
    ];
    let none = AuthorizationDetails::default();
    for _ in 0..rules.len() {
        let policy = with_rules(rules.clone());
        assert_eq!(judged(&policy, 0, 0, &none), Ok(Matched { max_age: Some(300) }));
        assert_eq!(judged(&policy, 300, 0, &none), Ok(Matched { max_age: Some(300) }));
        assert_eq!(judged(&policy, 301, 0, &none), Err(Unmatched::Age(300)));
        rules.rotate_left(1);
    }
    rules.push(for_shop(|_| ()));
    for _ in 0..rules.len() {
        assert_eq!(judged(&with_rules(rules.clone()), 99_999, 0, &none), Ok(Matched { max_age: None }));
        rules.rotate_left(1);
    }
}

#[test]
fn the_chain_and_the_details_come_before_the_age() {
    let policy = with_rules(vec![for_shop(|rule| {
        rule.authorization_details = vec![detail("t", &["a"])];
        rule.max_token_age = Some(60);
        rule.actors = Some(WireActors { min: 1, max: 2 });
    })]);
    let (none, good) = (AuthorizationDetails::default(), details(r#"[{"type":"t","actions":["b","a"]}]"#));
    for (actors, outcome) in [
        (0, Err(Unmatched::Caller)),
        (1, Ok(Matched { max_age: Some(60) })),
        (2, Ok(Matched { max_age: Some(60) })),
        (3, Err(Unmatched::Caller)),
    ] {
        assert_eq!(judged(&policy, 60, actors, &good), outcome, "{actors}");
    }
    assert_eq!(judged(&policy, 61, 1, &none), Err(Unmatched::Authorization(&ScopeSet::empty())));
    assert_eq!(judged(&policy, 61, 1, &good), Err(Unmatched::Age(60)));
}

#[test]
fn the_issuer_grants_details_and_age_of_the_rules_that_name_the_chain() {
    let policy = with_rules(vec![
        for_shop(|rule| {
            rule.authorization_details = vec![detail("t", &["a"])];
            rule.max_token_age = Some(60);
        }),
        for_shop(|rule| {
            rule.authorization_details = vec![detail("t", &["a"]), detail("u", &[])];
            rule.max_token_age = Some(90);
            rule.actors = Some(WireActors { min: 1, max: 4 });
        }),
    ]);
    let shop = caller("bank", "shop");
    let own = policy.grant(&shop, None).unwrap();
    assert_eq!((own.details, own.max_token_age), (details(r#"[{"type":"t","actions":["a"]}]"#), Some(60)));
    let chain = policy.grant_chain(&shop, 1, None).unwrap();
    let both = details(r#"[{"type":"t","actions":["a"]},{"type":"u"}]"#);
    assert_eq!((chain.details, chain.max_token_age), (both, Some(60)), "the strictest, so that every rule takes it");
    let policy = with_rules(vec![
        for_shop(|rule| rule.max_token_age = Some(60)),
        for_shop(|rule| rule.actors = Some(WireActors { min: 0, max: 0 })),
    ]);
    assert_eq!(policy.grant(&shop, None).unwrap().max_token_age, Some(60), "a rule without a bound takes it as well");
    let policy = with_rules(vec![
        for_shop(|rule| (rule.max_token_age, rule.actors) = (Some(60), Some(WireActors { min: 0, max: 0 }))),
        for_shop(|_| ()),
    ]);
    assert_eq!(policy.grant_chain(&shop, 1, None).unwrap().max_token_age, None, "a rule for others bounds nothing");
    let policy = with_rules(vec![for_shop(|rule| rule.actors = Some(WireActors { min: 1, max: 8 }))]);
    assert_eq!(policy.grant(&shop, None), Err(GrantRefusal::CallerNotAllowed));
}

#[test]
fn a_client_of_another_issuer_is_given_what_counts_of_it_to_the_workloads_that_it_may_call_from() {
    let external = WireExternal {
        name: "bank-as".to_owned(),
        issuer: "https://login.bank.example".to_owned(),
        resources: wire_policy().resources,
        typ: TokenTyp::AccessToken,
        opaque: false,
        client_id_claim: ClientIdClaim::ClientId,
        max_token_age: 900,
        scopes: Some(texts(&["a", "c"])),
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![account("bank", "shop")] }],
    };
    let client = WireClient { issuer: "bank-as".to_owned(), client_id: "shop-7".to_owned(), caller: None };
    let policy = |rules: Vec<WireRule>| {
        Policy::compile(&domain(), &WirePolicy { external: vec![external.clone()], rules, ..wire_policy() }).unwrap()
    };
    let by_client = || WireRule { clients: vec![client.clone()], ..rule(&[], &[], &[], &[], &["a", "b"]) };
    let shop = caller("bank", "shop");
    let scopes_of = |policy: &Policy, who: &SpiffeId, issuer: &str, id: &str| {
        policy.grant_client(who, issuer, id).map(|grant| grant.scopes)
    };
    for rules in [vec![by_client()], vec![for_shop(|rule| rule.scopes = texts(&["a", "b"]))]] {
        let policy = policy(rules);
        assert_eq!(scopes_of(&policy, &shop, "bank-as", "shop-7"), Some(scopes("a")));
        assert_eq!(scopes_of(&policy, &shop, "bank-as", "shop-8"), None);
        assert_eq!(scopes_of(&policy, &shop, "other-as", "shop-7"), None);
        assert_eq!(scopes_of(&policy, &caller("bank", "other"), "bank-as", "shop-7"), None);
    }
}

#[test]
fn bounds_are_checked_and_old_documents_still_read() {
    let text = r#"{"callers":[{"namespace":"bank"}]}"#;
    let old: WireRule = serde_json::from_str(text).unwrap();
    assert!(old.authorization_details.is_empty() && old.max_token_age.is_none() && old.actors.is_none());
    let written = serde_json::to_string(&old).unwrap();
    assert!(!written.contains("Details") && !written.contains("Age") && !written.contains("actors"), "{written}");
    let new = for_shop(|rule| {
        rule.authorization_details = vec![detail("t", &["a"])];
        rule.max_token_age = Some(60);
        rule.actors = Some(WireActors { min: 1, max: 2 });
    });
    let written = serde_json::to_string(&new).unwrap();
    assert!(
        written.ends_with(
            r#""authorizationDetails":[{"type":"t","actions":["a"]}],"maxTokenAge":60,"actors":{"min":1,"max":2}}"#
        ),
        "{written}"
    );
    assert_eq!(serde_json::from_str::<WireRule>(&written).unwrap(), new);
    let half: WireActors = serde_json::from_str(r#"{"min":2}"#).unwrap();
    assert_eq!(half, WireActors { min: 2, max: 8 });
    for unknown in [r#"{"min":0,"most":8}"#, r#"{"min":-1}"#, r#"{"max":300}"#] {
        assert!(serde_json::from_str::<WireActors>(unknown).is_err(), "{unknown}");
    }
    assert!(serde_json::from_str::<WireDetail>(r#"{"type":"t","amount":1}"#).is_err());
}

#[test]
fn what_is_out_of_bounds_is_reported() {
    let problems = |bend: fn(&mut WireRule)| {
        let wire = WirePolicy { rules: vec![for_shop(bend)], ..wire_policy() };
        let found = Policy::compile(&domain(), &wire).err().unwrap_or_default();
        found.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(problems(|rule| rule.max_token_age = Some(5)), none);
    assert_eq!(problems(|rule| rule.max_token_age = Some(3600)), none);
    assert_eq!(problems(|rule| rule.max_token_age = Some(4)), ["rules[0].maxTokenAge"]);
    assert_eq!(problems(|rule| rule.max_token_age = Some(3601)), ["rules[0].maxTokenAge"]);
    assert_eq!(problems(|rule| rule.actors = Some(WireActors { min: 8, max: 8 })), none);
    assert_eq!(problems(|rule| rule.actors = Some(WireActors { min: 2, max: 1 })), ["rules[0].actors"]);
    assert_eq!(problems(|rule| rule.actors = Some(WireActors { min: 0, max: 9 })), ["rules[0].actors"]);
    assert_eq!(problems(|rule| rule.authorization_details = vec![detail("t", &[]); 16]), none);
    assert_eq!(
        problems(|rule| rule.authorization_details = vec![detail("t", &[]); 17]),
        ["rules[0].authorizationDetails"]
    );
    let bad: fn(&mut WireRule) = |rule| {
        rule.authorization_details = vec![detail("t", &["a"]), detail("", &[]), detail("t", &[""])];
    };
    assert_eq!(problems(bad), ["rules[0].authorizationDetails[1]", "rules[0].authorizationDetails[2]"]);
}
