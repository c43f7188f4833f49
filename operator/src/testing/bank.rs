//! A bank as a model: shop calls payments (which has rules), payments calls ledger (which takes only DPoP), and
//! web, in a namespace of its own, is named by nobody.

use std::net::SocketAddr;

use fapi::{Mode, SenderConstraint, WireCaller, WireRule};

use super::domain;
use crate::model::{
    ClientSpec, ClientTarget, Endpoint, EndpointState, Key, Model, Pod, PodPort, Policy, PolicySpec, PolicyTarget,
    Seniority, Service, ServicePort,
};
use crate::view::View;

/// The bank; change it before it is made a view.
pub(crate) fn bank() -> Model {
    let mut model = Model::default();
    for (namespace, name, account) in [
        ("bank", "shop-1", "shop"),
        ("bank", "payments-1", "payments"),
        ("bank", "ledger-1", "ledger"),
        ("web", "web-1", "web"),
    ] {
        let pod = pod(namespace, name, account);
        model.pods.insert(pod.uid.clone(), pod);
    }
    serve(&mut model, "payments", 41001);
    serve(&mut model, "ledger", 41003);
    let both = vec![SenderConstraint::Mtls, SenderConstraint::Dpop];
    let rules = vec![
        rule("POST", &["/transfers"], &["shop"], "transfers:write"),
        rule("GET", &["/accounts"], &["shop", "ledger"], "accounts:read"),
    ];
    govern(&mut model, "payments", both, rules);
    let mut anyone = rule("GET", &[], &[], "");
    (anyone.methods, anyone.scopes) = (Vec::new(), Vec::new());
    anyone.callers = vec![WireCaller { namespace: "bank".to_owned(), service_account: None }];
    govern(&mut model, "ledger", vec![SenderConstraint::Dpop], vec![anyone]);
    model
}

/// What a FapiClient says that takes tokens of the mesh's own issuer.
pub(crate) fn client_of(account: &str, targets: Vec<ClientTarget>) -> ClientSpec {
    ClientSpec {
        service_account: account.to_owned(),
        targets,
        external: None,
        authentication: Default::default(),
        jwks: None,
    }
}

/// What every server reads of a model.
pub(crate) fn view(model: Model) -> View {
    View::empty(domain()).next(1, model)
}

/// A meshed pod without ports; its uid tells its name.
pub(crate) fn pod(namespace: &str, name: &str, account: &str) -> Pod {
    Pod {
        uid: format!("uid-of-{namespace}-{name}"),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        ports: Vec::new(),
        labels: Default::default(),
        addresses: Vec::new(),
        meshed: true,
        hostname: None,
        opted_in: true,
        opted_out: false,
        node: None,
        terminating: false,
    }
}

/// Another pod in the place of one.
pub(crate) fn rename(model: &mut Model, from: &str, to: &str) {
    let old = model.pods.remove(&uid(from)).unwrap();
    let new = Pod { uid: uid(to), name: to.to_owned(), ..old };
    model.pods.insert(new.uid.clone(), new);
}

/// Moves the exact path of payments' first rule.
pub(crate) fn transfers_at(model: &mut Model, path: &str) {
    let policy = model.policies.get_mut(&Key::new("bank", "payments")).unwrap();
    policy.spec.as_mut().unwrap().rules[0].paths = vec![path.to_owned()];
}

/// Moves ledger's sidecar to another port.
pub(crate) fn move_ledger(model: &mut Model, port: u16) {
    model.endpoints.get_mut(&Key::new("bank", "ledger")).unwrap()[0].address = at(port);
}

fn uid(name: &str) -> String {
    format!("uid-of-bank-{name}")
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Puts the pod `<name>-1` behind the Service `name`.
fn serve(model: &mut Model, name: &str, port: u16) {
    let uid = uid(&format!("{name}-1"));
    let http = PodPort { name: "http".to_owned(), number: 80, listen: at(port), app: at(port + 1) };
    model.pods.get_mut(&uid).unwrap().ports.push(http);
    let key = Key::new("bank", name);
    let ports = vec![ServicePort { name: "http".to_owned(), number: 80 }];
    model.services.insert(key.clone(), service(&key, ports));
    let endpoint = Endpoint {
        service: key.clone(),
        service_port: "http".to_owned(),
        pod_uid: uid,
        pod_port: 80,
        address: at(port),
        state: EndpointState::Ready,
    };
    model.endpoints.entry(key, Vec::new).push(endpoint);
}

/// A Service that is known by name only.
pub(crate) fn service(key: &Key, ports: Vec<ServicePort>) -> Service {
    let (addresses, balancers, others) = (Vec::new(), Vec::new(), Vec::new());
    Service { key: key.clone(), ports, addresses, balancers, others, alias: false }
}

fn govern(model: &mut Model, service: &str, sender_constraints: Vec<SenderConstraint>, rules: Vec<WireRule>) {
    let key = Key::new("bank", service);
    let policy = Policy {
        seniority: Seniority { created: 0, key: key.clone() },
        generation: 1,
        targets: Some(vec![PolicyTarget::Service { service: service.to_owned() }]),
        spec: Some(PolicySpec {
            mode: Mode::Enforce,
            opaque: false,
            sender_constraints,
            takes_mesh: true,
            external: Vec::new(),
            origins: Vec::new(),
            rules,
            exempt: Vec::new(),
        }),
        fault: None,
    };
    model.policies.insert(key, policy);
}

/// A rule for service accounts of the bank.
fn rule(method: &str, paths: &[&str], callers: &[&str], scope: &str) -> WireRule {
    let caller =
        |account: &&str| WireCaller { namespace: "bank".to_owned(), service_account: Some((*account).to_owned()) };
    WireRule {
        methods: vec![method.to_owned()],
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        callers: callers.iter().map(caller).collect(),
        scopes: vec![scope.to_owned()],
        ..WireRule::default()
    }
}
