//! What an earlier build has said and read on the control stream, byte for byte. `vectors/6e41249.json` was recorded by the code of
//! that commit, the first that knew revocations, and stays as it is.
//!
//! Neither side ever says to the other more than what is used: as long as nobody uses what is newer, an older sidecar, which refuses
//! fields of documents that it does not know, reads what it has always read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use control::destination::{Meshed, Reader};
use control::pb::{self, operator_message::Kind as FromOperator, sidecar_message::Kind as FromSidecar};
use control::{
    Destination, DestinationKind, EndpointDoc, MeshIssuer, Port, PortPolicyDoc, Snapshot, TokenDoc, WorkloadName,
    features,
};
use fapi::{Mode, SenderConstraint, WireActors, WireCaller, WireDetail, WirePolicy, WireResource, WireRule};
use prost::Message;

/// Field 1000, bytes: of a version to come.
const UNKNOWN: [u8; 6] = [0xc2, 0x3e, 0x03, b'n', b'e', b'w'];
const VERSION: &str = "3f2a90c1";
const ISSUER: &str = "https://issuer.bank.example";

/// The messages that were recorded, by their names.
fn recorded() -> BTreeMap<String, Vec<u8>> {
    let hex: BTreeMap<String, String> = serde_json::from_str(include_str!("vectors/6e41249.json")).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.into_iter().map(|(name, hex)| (name, hex.as_bytes().chunks(2).map(byte).collect())).collect()
}

/// That a message means today what it meant, is written as it was, and may grow.
fn same<M: Message + Default + PartialEq + Debug>(recorded: &mut BTreeMap<String, Vec<u8>>, name: &str, meant: &M) {
    let bytes = recorded.remove(name).unwrap_or_else(|| panic!("no {name} was recorded"));
    assert_eq!(&M::decode(&*bytes).unwrap(), meant, "{name} is read as it was meant");
    assert_eq!(meant.encode_to_vec(), bytes, "an earlier build reads {name}");
    let grown = [&bytes[..], &UNKNOWN].concat();
    assert_eq!(&M::decode(&*grown).unwrap(), meant, "{name} with a field of tomorrow");
}

fn from_sidecar(kind: FromSidecar) -> pb::SidecarMessage {
    pb::SidecarMessage { kind: Some(kind) }
}

fn from_operator(kind: FromOperator) -> pb::OperatorMessage {
    pb::OperatorMessage { kind: Some(kind) }
}

#[test]
fn an_earlier_build_and_this_one_understand_each_other() {
    let mut recorded = recorded();
    let all = &mut recorded;
    let chain_der = vec![vec![0x30, 1, 1], vec![0x30, 1, 2]];
    let trust_bundle_pem = "the roots".to_owned();
    same(all, "enroll_request", &pb::EnrollRequest { token: "e30.e30.c2ln".into(), csr_der: vec![0x30, 3, 2, 1, 5] });
    same(all, "enroll_response", &pb::EnrollResponse { chain_der, not_after: 1_790_000_000, trust_bundle_pem });

    let features = vec!["rules/1".to_owned(), "revocations/1".to_owned()];
    let hello = pb::Hello {
        version: "0.1.0".into(),
        features: features.clone(),
        applied_order: 7,
        revocation_epoch: 3,
        // It had none.
        assertion_key: Vec::new(),
        applied_versions: Vec::new(),
    };
    same(all, "hello", &from_sidecar(FromSidecar::Hello(hello)));
    for (name, nack_reason) in [("ack", ""), ("nack", "it demands tcp/1")] {
        let ack = pb::Ack { version: VERSION.into(), nack_reason: nack_reason.into() };
        same(all, name, &from_sidecar(FromSidecar::Ack(ack)));
    }
    same(all, "lookup", &from_sidecar(FromSidecar::Lookup(pb::Lookup { authority: "payments.bank:80".into() })));

    let snapshot = pb::Snapshot {
        version: VERSION.into(),
        order: 8,
        required_features: features,
        document: serde_json::to_vec(&snapshot()).unwrap(),
        revocation_epoch: 3,
        versions: Vec::new(),
    };
    assert_eq!(serde_json::from_slice::<Snapshot>(&snapshot.document).unwrap(), self::snapshot());
    same(all, "snapshot", &from_operator(FromOperator::Snapshot(snapshot)));
    let bundle = pb::TrustBundle { digest: "9c1d".into(), pem: "the roots".into() };
    same(all, "trust_bundle", &from_operator(FromOperator::TrustBundle(bundle)));
    let jwks = br#"{"keys":[]}"#.to_vec();
    let keys = pb::KeySet { issuer: ISSUER.into(), digest: "77aa".into(), jwks };
    same(all, "key_set", &from_operator(FromOperator::KeySet(keys)));
    let revocations = pb::Revocations { digest: "5e5e".into(), epoch: 3, document: b"[]".to_vec().into() };
    same(all, "revocations", &from_operator(FromOperator::Revocations(revocations)));
    same(all, "renew", &from_operator(FromOperator::Renew(pb::Renew {})));
    for (name, kind) in [
        ("meshed", DestinationKind::Meshed(Box::new(meshed()))),
        ("unmeshed", DestinationKind::Unmeshed { addresses: vec!["10.9.0.1:5432".parse().unwrap()] }),
        ("unknown", DestinationKind::Unknown),
    ] {
        let authority = "ledger.bank:80".to_owned();
        let destination = Destination { authority: authority.clone(), kind };
        let document = serde_json::to_vec(&destination).unwrap();
        assert_eq!(serde_json::from_slice::<Destination>(&document).unwrap(), destination);
        same(all, name, &from_operator(FromOperator::Destination(pb::Destination { authority, document })));
    }
    assert!(recorded.is_empty(), "nothing was recorded in vain: {recorded:?}");
}

/// What an earlier sidecar would pass over is demanded by name, so it refuses the snapshot and its last good one stays in force.
#[test]
fn what_an_earlier_sidecar_cannot_enforce_is_demanded_of_it() {
    assert!(features::required(&snapshot()).contains(&features::MAX_TOKEN_AGE));
    let mut newer = snapshot();
    newer.token_exchange = true;
    assert!(features::required(&newer).contains(&features::TOKEN_EXCHANGE));
    // What operators demanded then, every later sidecar enforces.
    for then in ["rules/1", "revocations/1"] {
        assert_eq!(features::missing(&[then.to_owned()]), None);
    }
    // A message of tomorrow is one that says nothing.
    let tomorrow = [&UNKNOWN[..]].concat();
    assert_eq!(pb::SidecarMessage::decode(&*tomorrow).unwrap().kind, None);
    assert_eq!(pb::OperatorMessage::decode(&*tomorrow).unwrap().kind, None);
}

/// A sidecar keeps the last answer that it can read, so it is told nothing that it cannot.
#[test]
fn an_earlier_sidecar_is_answered_in_its_own_words() {
    let earlier = Reader::with(&["rules/1".to_owned(), "revocations/1".to_owned()]);
    let today: Vec<String> = features::SUPPORTED.iter().map(|&feature| feature.to_owned()).collect();
    let mut dual = meshed();
    dual.endpoints[0].others.push("[fd00::8]:8080".parse().unwrap());
    let meshed = |meshed: Meshed| DestinationKind::Meshed(Box::new(meshed));
    for (kind, then) in [
        (DestinationKind::Refused, DestinationKind::Unknown),
        (DestinationKind::Ambiguous { services: vec!["a.bank".into(), "b.bank".into()] }, DestinationKind::Unknown),
        (meshed(dual), meshed(self::meshed())),
        (DestinationKind::Unknown, DestinationKind::Unknown),
    ] {
        let answer = Destination { authority: "ledger.bank:80".into(), kind };
        assert_eq!(Reader::with(&today).worded(answer.clone()), answer);
        assert_eq!(earlier.worded(answer).kind, then);
    }
}

fn snapshot() -> Snapshot {
    let caller = |namespace: &str, account: Option<&str>| WireCaller {
        namespace: namespace.into(),
        service_account: account.map(str::to_owned),
    };
    let detail =
        WireDetail { kind: "payment_initiation".into(), actions: vec!["initiate".into()], ..WireDetail::default() };
    let policy = WirePolicy {
        name: "bank/payments".into(),
        mode: Mode::Enforce,
        resources: vec![WireResource {
            audience: "https://payments.bank".into(),
            origins: vec!["https://payments.bank".into()],
        }],
        issuers: vec![ISSUER.into()],
        external: Vec::new(),
        sender_constraints: vec![SenderConstraint::Mtls, SenderConstraint::Dpop],
        rules: vec![WireRule {
            methods: vec!["POST".into()],
            paths: vec!["/transfers".into()],
            path_prefixes: vec!["/accounts".into()],
            callers: vec![caller("bank", Some("shop")), caller("web", None)],
            clients: Vec::new(),
            scopes: vec!["transfers:write".into()],
            authorization_details: vec![detail],
            max_token_age: Some(60),
            actors: Some(WireActors { min: 0, max: 2 }),
        }],
        exempt: Vec::new(),
    };
    let port = |name: &str, port, policy| Port {
        name: name.into(),
        port,
        listen: "10.1.0.7:8080".parse().unwrap(),
        app: "127.0.0.1:8080".parse().unwrap(),
        policy,
    };
    Snapshot {
        trust_domain: "bank.example".into(),
        spiffe_id: "spiffe://bank.example/ns/bank/sa/payments".into(),
        pod_uid: "6f1c".into(),
        workload: WorkloadName { namespace: "bank".into(), name: "payments-1".into() },
        mesh_issuer: MeshIssuer { issuer: ISSUER.into(), token_endpoint: format!("{ISSUER}/token") },
        external_issuers: Vec::new(),
        token_exchange: false,
        ports: vec![
            port("http", 80, PortPolicyDoc::Policy(policy)),
            port("admin", 81, PortPolicyDoc::Invalid { name: "bank/admin".into() }),
        ],
    }
}

fn meshed() -> Meshed {
    Meshed {
        service: "ledger.bank".into(),
        audience: "https://ledger.bank".into(),
        endpoints: vec![EndpointDoc {
            address: "10.1.0.8:8080".parse().unwrap(),
            others: Vec::new(),
            spiffe_id: "spiffe://bank.example/ns/bank/sa/ledger".into(),
            ready: true,
        }],
        token: Some(TokenDoc {
            scopes: vec!["entries:write".into()],
            authorization_details: None,
            sender_constraint: SenderConstraint::Dpop,
            grant_type: control::GrantType::default(),
            source: control::TokenSource::default(),
            authentication: control::ClientAuthentication::default(),
        }),
        opaque: false,
    }
}
