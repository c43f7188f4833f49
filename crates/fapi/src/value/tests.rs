use super::*;

#[test]
fn spiffe_ids_have_one_shape() {
    let id = SpiffeId::parse("spiffe://bank.example/ns/bank/sa/shop.web").unwrap();
    assert_eq!((id.trust_domain(), id.namespace(), id.service_account()), ("bank.example", "bank", "shop.web"));
    assert_eq!(id.to_string(), "spiffe://bank.example/ns/bank/sa/shop.web");
    let domain = TrustDomain::parse("bank.example").unwrap();
    assert_eq!(SpiffeId::new(&domain, "bank", "shop.web").as_ref(), Ok(&id));
    assert_eq!(format!("{id:?}"), "SpiffeId(spiffe://bank.example/ns/bank/sa/shop.web)");
    for bad in [
        "",
        "spiffe://bank.example",
        "spiffe://bank.example/",
        "spiffe://bank.example/ns/bank",
        "spiffe://bank.example/ns/bank/sa/",
        "spiffe://bank.example/ns//sa/shop",
        "spiffe:///ns/bank/sa/shop",
        "SPIFFE://bank.example/ns/bank/sa/shop",
        "spiffe://Bank.example/ns/bank/sa/shop",
        "spiffe://bank.example:443/ns/bank/sa/shop",
        "spiffe://user@bank.example/ns/bank/sa/shop",
        "spiffe://bank.example/ns/bank/sa/shop/",
        "spiffe://bank.example/ns/bank/sa/shop/x",
        "spiffe://bank.example/ns/bank/sa/shop?x",
        "spiffe://bank.example/ns/bank/sa/sh%6fp",
        "spiffe://bank.example/ns/bank/sa/..",
        "spiffe://bank.example/x/ns/bank/sa/shop",
        "https://bank.example/ns/bank/sa/shop",
        " spiffe://bank.example/ns/bank/sa/shop",
    ] {
        assert!(SpiffeId::parse(bad).is_err(), "{bad}");
    }
    assert!(SpiffeId::new(&domain, "bank/sa/x", "shop").is_err());
    assert!(SpiffeId::new(&domain, "bank", "shop/x").is_err());
    assert!(SpiffeId::new(&domain, &"x".repeat(64), "shop").is_err());
    assert!(TrustDomain::parse(&"x".repeat(256)).is_err() && TrustDomain::parse("a b").is_err());
}

#[test]
fn spiffe_ids_are_equal_and_ordered_as_texts() {
    let of = |account: &str| SpiffeId::parse(&format!("spiffe://bank.example/ns/bank/sa/{account}")).unwrap();
    let (shop, web) = (of("shop"), of("web"));
    assert!(shop == of("shop") && shop != web && shop < web);
    let hash = |id: &SpiffeId| {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
    };
    assert_eq!(hash(&shop), hash(&of("shop")));
    assert_ne!(hash(&shop), hash(&web));
}

#[test]
fn sender_constraints_are_shown_as_they_are_written() {
    for constraint in [SenderConstraint::Mtls, SenderConstraint::Dpop] {
        assert_eq!(serde_json::to_value(constraint).unwrap(), constraint.to_string());
    }
}

#[test]
fn longest_names_fit() {
    let domain = TrustDomain::parse(&"d".repeat(255)).unwrap();
    let account = ["a"; 127].join(".");
    let id = SpiffeId::new(&domain, &"n".repeat(63), &account).unwrap();
    assert_eq!(
        (id.trust_domain(), id.namespace().len(), id.service_account()),
        (domain.as_str(), 63, account.as_str())
    );
    assert_eq!(SpiffeId::parse(id.as_str()), Ok(id));
}

#[test]
fn scopes_are_a_set() {
    let scopes = ScopeSet::parse("write read write").unwrap();
    assert_eq!(scopes.to_string(), "read write");
    assert_eq!(scopes.iter().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(ScopeSet::from_list(["write", "read"]), Ok(scopes.clone()));
    let of = |text: &str| ScopeSet::parse(text).unwrap();
    assert!(of("a b c d").is_superset(&of("b d")) && of("a").is_superset(&of("")) && of("").is_superset(&of("")));
    assert!(!of("a c").is_superset(&of("b")) && !of("a b").is_superset(&of("a b c")) && !of("").is_superset(&of("a")));
    assert_eq!(of("a b c").intersection(&of("b c d")), of("b c"));
    assert_eq!((of("a c").union(&of("b a")), of("a b c").difference(&of("b"))), (of("a b c"), of("a c")));
    assert!(of("").is_empty() && !scopes.is_empty());
    for bad in [" ", "a  b", " a", "a ", "a\tb", "a\"b", "a\\b", "\u{e9}", &"x".repeat(257), &["x"; 129].join(" ")] {
        assert!(ScopeSet::parse(bad).is_err(), "{bad}");
    }
    assert!(ScopeSet::parse(&"x".repeat(256)).is_ok() && ScopeSet::parse(&["x"; 128].join(" ")).is_ok());
}

#[test]
fn issuers_and_audiences_are_https_urls() {
    let of_length = |length: usize| format!("https://{}", "a/".repeat(256)).split_at(length).0.to_owned();
    assert!(Issuer::parse(&of_length(512)).is_ok() && Issuer::parse(&of_length(513)).is_err());
    for good in ["https://issuer.example", "https://127.0.0.1:8443/realms/bank", "https://[::1]:1/"] {
        assert_eq!(Issuer::parse(good).unwrap().as_str(), good);
        assert_eq!(Audience::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "mesh",
        "http://issuer.example",
        "HTTPS://issuer.example",
        "https://",
        "https:///x",
        "https://a b",
        "https://a/#x",
        "https://a/\u{e9}",
        "https://u@a/",
        "https://a:x/",
        "https://a:65536",
        "https://[::1",
        "https://[x]",
    ] {
        assert!(Issuer::parse(bad).is_err(), "{bad}");
        assert!(Audience::parse(bad).is_err(), "{bad}");
    }
    assert!(Issuer::parse("https://a/?x=1").is_err() && Audience::parse("https://a/?x=1").is_ok());
    assert!(Issuer::parse(&format!("https://a/{}", "x".repeat(512))).is_err());
    assert_eq!(Audience::for_service("payments", "bank").unwrap().as_str(), "https://payments.bank");
    for (service, namespace) in
        [("a.b", "bank"), ("a/b", "bank"), ("", "bank"), ("a", ""), ("A", "bank"), ("-a", "bank")]
    {
        assert!(Audience::for_service(service, namespace).is_err());
    }
}

#[test]
fn origins_are_in_normal_form() {
    for (text, normal) in [
        ("https://payments.bank", "https://payments.bank"),
        ("https://payments.bank/", "https://payments.bank"),
        ("HTTPS://Payments.Bank:443", "https://payments.bank"),
        ("https://payments.bank:08443", "https://payments.bank:8443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://[::1]", "https://[::1]"),
    ] {
        assert_eq!(Origin::parse(text).unwrap().as_str(), normal);
    }
    for bad in [
        "",
        "payments.bank",
        "http://payments.bank",
        "https://payments.bank/x",
        "https://payments.bank?x",
        "https://payments.bank#x",
        "https://a@b",
        "https://a:b:1",
        "https://a:-1",
        "https://a:+1",
        "https://a\u{e9}",
        "https://::1",
    ] {
        assert!(Origin::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn thumbprints_have_one_spelling() {
    let thumbprint = CertThumbprint::of_der(b"abc");
    let text = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
    assert_eq!(thumbprint.to_string(), text);
    assert_eq!(CertThumbprint::parse(text), Ok(thumbprint));
    assert_ne!(CertThumbprint::of_der(b"abd"), thumbprint);
    // The last character carries two bits that must be zero.
    for bad in [
        &text[1..],
        &format!("{text}="),
        &format!("{}1", &text[..42]),
        &format!("{}+", &text[..42]),
        "",
        &"a".repeat(64),
    ] {
        assert!(CertThumbprint::parse(bad).is_err() && JwkThumbprint::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_token_hash_shows_little() {
    // RFC 9449 section 7.1 has this token and its hash.
    let hash = TokenHash::of("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
    assert_eq!(hash.ath(), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    assert_eq!(hash.to_string(), "fUHyO2r2Z3DZ53Es");
    assert_eq!(format!("{hash:?}"), "TokenHash(fUHyO2r2Z3DZ53Es)");
    assert!(hash.is_ath("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo") && !hash.is_ath("fUHyO2r2Z3DZ53Es"));
}

#[test]
fn times_do_not_overflow() {
    let end = UnixTime::from_secs(u64::MAX);
    assert_eq!((end.plus(1), UnixTime::from_secs(3).minus(5).as_secs()), (end, 0));
}
