use super::super::watched::Watched;
use super::world::{READY, World, bare, pod, service, slice};
use crate::index::Governor;
use crate::model::{EndpointState, Key, Policy, PolicyTarget};
use crate::testing::capture_log;

fn payments() -> Key {
    Key::new("bank", "payments")
}

/// Where each port of a pod listens, and where its app does.
fn ports(world: &mut World, name: &str) -> Vec<(String, u16, String, String)> {
    let model = world.model();
    let pod = model.pods.values().find(|pod| pod.name == name).unwrap();
    let port =
        |port: &crate::model::PodPort| (port.name.clone(), port.number, port.listen.to_string(), port.app.to_string());
    pod.ports.iter().map(port).collect()
}

fn states(world: &mut World) -> Vec<(String, EndpointState)> {
    let endpoints = world.model().endpoints.remove(&payments()).unwrap_or_default();
    endpoints.into_iter().map(|endpoint| (endpoint.pod_uid, endpoint.state)).collect()
}

fn policy(spec: &str) -> String {
    format!("kind: FapiPolicy\nmetadata: {{name: p, namespace: bank, generation: 4}}\nspec: {spec}\n")
}

fn the_policy(world: &mut World) -> Policy {
    world.model().policies.remove(&Key::new("bank", "p")).unwrap()
}

#[test]
fn a_pod_is_guarded_at_its_own_ports_whatever_number_callers_dial() {
    let mut world = World::of(
        &[pod("payments-1", "payments", "10.0.0.7"), "---\n".into(), service("payments", "payments", "10.96.0.7")]
            .concat(),
    );
    let expected = ("http".to_owned(), 8080, "10.0.0.7:8080".to_owned(), "10.0.0.7:8080".to_owned());
    assert_eq!(ports(&mut world, "payments-1"), [expected]);
    let model = world.model();
    assert_eq!(model.services[&payments()].ports[0].number, 80);
    let [endpoint] = model.endpoints[&payments()].as_slice() else { panic!("{:?}", model.endpoints) };
    assert_eq!((endpoint.service_port.as_str(), endpoint.pod_port), ("web", 8080));
    assert_eq!(endpoint.address.to_string(), "10.0.0.7:8080");
}

#[test]
fn ports_of_one_name_have_a_policy_each() {
    // Two containers that were written by people who do not know each other.
    let pod = pod("payments-1", "payments", "10.0.0.7")
        .replace("}]}]\nstatus", "}]}, {name: exporter, ports: [{name: http, containerPort: 9187}]}]\nstatus");
    let metrics = service("metrics", "payments", "10.96.0.8").replace("targetPort: http", "targetPort: 9187");
    let policy = |name: &str, created: &str| {
        policy(&format!("{{targetRefs: [{{name: {name}}}]}}"))
            .replace("name: p,", &format!("name: {name}, creationTimestamp: \"{created}\","))
    };
    let all = [
        pod,
        service("payments", "payments", "10.96.0.7"),
        metrics,
        policy("payments", "2026-02-01T00:00:00Z"),
        policy("metrics", "2026-01-01T00:00:00Z"),
    ];
    let view = World::of(&all.join("---\n")).view();
    let pod = view.pod("uid-of-payments-1").unwrap();
    let governs = |number: u16| {
        let mut plans = view.index().plans_of(pod);
        plans.find(|(port, _)| port.number == number).unwrap().1.governor.clone()
    };
    assert_eq!(governs(8080), Governor::Policy(Key::new("bank", "payments")), "though that of the metrics is older");
    assert_eq!(governs(9187), Governor::Policy(Key::new("bank", "metrics")));
    let behind = |name: &str| -> Vec<_> {
        let service = Key::new("bank", name);
        let endpoints = view.index().endpoints_of(&service);
        endpoints
            .map(|(endpoint, _)| (endpoint.address.port(), view.index().plan_of(endpoint).unwrap().governor.clone()))
            .collect()
    };
    assert_eq!(behind("payments"), [(8080, governs(8080))]);
    assert_eq!(behind("metrics"), [(9187, governs(9187))]);
}

#[test]
fn a_named_port_is_the_one_that_kubernetes_takes() {
    let containers = "initContainers: [{name: fapi-sidecar, restartPolicy: Always}, {name: log, restartPolicy: Always, ports: [{name: web, \
                 containerPort: 1000}]}]\n  containers: [{name: app, ports: [{name: http, containerPort: 9000}, {name: too, \
                 containerPort: 9000}]}, {name: b, ports: [{name: http, containerPort: 8000}, {name: web, containerPort: 8001}]}]";
    let pod = pod("payments-1", "payments", "10.0.0.7");
    let (before, after) = (pod.find("initContainers").unwrap(), pod.find("\nstatus").unwrap());
    let pod = format!("{}{containers}{}", &pod[..before], &pod[after..]);
    for (name, number) in [("http", 9000), ("too", 9000), ("web", 8001)] {
        let service =
            service("payments", "payments", "10.96.0.7").replace("targetPort: http", &format!("targetPort: {name}"));
        let model = World::of(&[pod.clone(), service].join("---\n")).model();
        let numbers: Vec<u16> = model.endpoints[&payments()].iter().map(|endpoint| endpoint.pod_port).collect();
        assert_eq!(numbers, [number], "{name}");
    }
    let named: Vec<_> = ports(&mut World::of(&pod), "payments-1").into_iter().map(|port| (port.0, port.1)).collect();
    assert_eq!(
        named,
        [("web".to_owned(), 1000), ("http".to_owned(), 8000), ("web".to_owned(), 8001), ("http".to_owned(), 9000)]
    );
}

#[test]
fn in_proxy_mode_the_app_is_on_loopback() {
    let redirected = pod("payments-1", "payments", "10.0.0.7");
    let proxied = redirected.replace(
        "{name: fapi-sidecar,",
        "{name: fapi-sidecar, env: [{name: FAPI_LOG, value: info}, {name: FAPI_INTERCEPTION, value: proxy}],",
    );
    // An annotation can be changed while a pod runs, and its sidecar not by that.
    let annotated = |pod: &str, mode: &str| {
        pod.replace("labels:", &format!("annotations: {{fapi-mesh.dev/interception: {mode}}}, labels:"))
    };
    for (pod, app) in [
        (annotated(&proxied, "redirect"), "127.0.0.1:8080"),
        (proxied, "127.0.0.1:8080"),
        (annotated(&redirected, "proxy"), "10.0.0.7:8080"),
        (redirected, "10.0.0.7:8080"),
    ] {
        let expected = ("http".to_owned(), 8080, "10.0.0.7:8080".to_owned(), app.to_owned());
        assert_eq!(ports(&mut World::of(&pod), "payments-1"), [expected], "{pod}");
    }
}

#[test]
fn ports_that_only_a_service_names_are_guarded_too_and_the_sidecars_own_are_not() {
    let service = service("payments", "payments", "10.96.0.7").replace(
        "[{name: web, port: 80, targetPort: http}]",
        "[{name: web, port: 9000}, {name: named, port: 1, targetPort: none}, {name: own, port: 2, targetPort: 15020}, \
         {name: udp, port: 53, protocol: UDP}]",
    );
    let mut world = World::of(&[pod("payments-1", "payments", "10.0.0.7"), "---\n".into(), service].concat());
    let numbers: Vec<u16> = ports(&mut world, "payments-1").iter().map(|port| port.1).collect();
    assert_eq!(numbers, [8080, 9000]);
    let names: Vec<String> = world.model().services[&payments()].ports.iter().map(|port| port.name.clone()).collect();
    assert_eq!(names, ["named", "web"]);
}

#[test]
fn a_pod_with_two_addresses_is_one_endpoint_with_its_ports_at_both() {
    let pod = pod("payments-1", "payments", "10.0.0.7").replace("{ip: 10.0.0.7}", "{ip: 10.0.0.7}, {ip: \"fd00::7\"}");
    let six = slice("payments", "payments-1", "fd00::7", READY).replace("name: payments-payments-1", "name: six");
    let all =
        [pod, service("payments", "payments", "10.96.0.7"), slice("payments", "payments-1", "10.0.0.7", READY), six];
    let mut world = World::of(&all.join("---\n"));
    assert_eq!(states(&mut world), [("uid-of-payments-1".to_owned(), EndpointState::Ready)]);
    let listens: Vec<String> = ports(&mut world, "payments-1").into_iter().map(|port| port.2).collect();
    assert_eq!(listens, ["10.0.0.7:8080", "[fd00::7]:8080"]);
    let snapshot = world.view();
    let snapshot =
        crate::compile::snapshot(snapshot.index(), "uid-of-payments-1", &crate::issuer::names("https://i")).unwrap();
    assert_eq!(snapshot.ports.len(), 2);
}

#[test]
fn slices_say_who_takes_connections() {
    let all = [pod("payments-1", "payments", "10.0.0.7"), service("payments", "payments", "10.96.0.7")];
    let mut world = World::of(&all.join("---\n"));
    let mut becomes = |conditions: Option<&str>, state| {
        match conditions {
            Some(conditions) => world.put(&slice("payments", "payments-1", "10.0.0.7", conditions)),
            None => world.remove(Watched::EndpointSlice, "bank", "payments-payments-1"),
        }
        assert_eq!(states(&mut world), [("uid-of-payments-1".to_owned(), state)], "{conditions:?}");
    };
    becomes(Some(READY), EndpointState::Ready);
    becomes(Some("ready: false, serving: true, terminating: true"), EndpointState::Draining);
    becomes(Some("ready: false, serving: false, terminating: true"), EndpointState::Unready);
    becomes(Some("ready: false, serving: false"), EndpointState::Unready);
    becomes(Some(""), EndpointState::Ready);
    becomes(None, EndpointState::Unready);
}

#[test]
fn a_service_without_selector_has_the_pods_of_its_slices_and_others() {
    let service = service("payments", "x", "10.96.0.7").replace("  selector: {app: x}\n", "");
    let forged =
        slice("payments", "payments-1", "10.0.0.99", READY).replace("name: payments-payments-1", "name: forged");
    let stranger = "kind: EndpointSlice
metadata: {name: x, namespace: bank, labels: {kubernetes.io/service-name: payments}}
ports: [{name: web, port: 5432}]
endpoints: [{addresses: [192.0.2.1]}]
";
    let all = [
        pod("payments-1", "payments", "10.0.0.7"),
        pod("payments-2", "payments", "10.0.0.8"),
        service,
        slice("payments", "payments-1", "10.0.0.7", READY),
        forged,
        stranger.to_owned(),
    ];
    let mut world = World::of(&all.join("---\n"));
    assert_eq!(states(&mut world), [("uid-of-payments-1".to_owned(), EndpointState::Ready)]);
    let others = world.model().services[&payments()].others.clone();
    assert_eq!(others, [("web".to_owned(), "192.0.2.1:5432".parse().unwrap())]);
}

#[test]
fn pods_that_have_ended_are_gone_and_those_without_a_sidecar_are_there() {
    let ended = pod("job", "job", "10.0.0.9").replace("Running", "Succeeded");
    let asked = bare("late", "late", "10.0.0.10").replace("labels: {", "labels: {fapi-mesh.dev/inject: enabled, ");
    let host = bare("host", "host", "192.0.2.9").replace("nodeName:", "hostNetwork: true\n  nodeName:");
    let all = [ended, asked, host, bare("old", "old", "10.0.0.11")];
    let model = World::of(&all.join("---\n")).model();
    let pods: Vec<_> =
        model.pods.values().map(|pod| (pod.name.as_str(), pod.meshed, pod.opted_in, pod.addresses.len())).collect();
    assert_eq!(pods, [("host", false, false, 0), ("late", false, true, 1), ("old", false, false, 1)]);
}

#[test]
fn a_broken_version_leaves_the_good_one_in_force_and_says_what_is_wrong() {
    let mut world = World::of(&policy("{targetRefs: [{name: payments}]}"));
    assert_eq!((the_policy(&mut world).generation, the_policy(&mut world).fault), (4, None));
    let (log, _guard) = capture_log();
    world.put(
        &policy("{targetRefs: [{name: payments}], rules: [{paths: [\"a\"]}]}")
            .replace("generation: 4", "generation: 5"),
    );
    let broken = the_policy(&mut world);
    assert!(broken.spec.is_some(), "the last good version");
    assert_eq!(broken.generation, 5, "the status speaks of the version that is not in force");
    let fault = broken.fault.unwrap();
    assert!(fault.starts_with("FapiPolicy bank/p: spec.rules[0].paths[0]: "), "{fault}");
    assert_eq!(log.of("problem").len(), 1);
    assert_eq!(world.objects.desired().problems.len(), 1);
    world.put(&policy("{targetRefs: [{name: ledger}]}").replace("generation: 4", "generation: 6"));
    assert_eq!(the_policy(&mut world).fault, None);
    assert!(world.objects.desired().problems.is_empty());
}

#[test]
fn one_that_never_was_good_closes_what_it_targets_and_wedges_nothing() {
    let mut world = World::of(&policy("{targetRefs: [{name: payments}], rules: []}"));
    let closed = the_policy(&mut world);
    let target = PolicyTarget::Service { service: "payments".to_owned() };
    assert_eq!((closed.spec, closed.targets), (None, Some(vec![target])));
    world.put(&policy("{targetRefs: 7}").replace("generation: 4", "generation: 5"));
    assert_eq!(the_policy(&mut world).targets, None, "unreadable: the whole namespace");
    // A pod that cannot be read gets nothing, and its neighbours are what they are.
    let (log, _guard) = capture_log();
    world.put(
        &[
            pod("payments-1", "payments", "10.0.0.7"),
            "kind: Pod\nmetadata: {name: x, namespace: bank}\nspec: 7\n".to_owned(),
        ]
        .join("---\n"),
    );
    let meshed: Vec<String> =
        world.model().pods.values().filter(|pod| pod.meshed).map(|pod| pod.name.clone()).collect();
    assert_eq!(meshed, ["payments-1"]);
    assert_eq!(log.of("unreadable").len(), 1);
}

#[test]
fn an_object_made_anew_has_no_past() {
    let client = |account: &str, uid: &str| {
        format!(
            "kind: FapiClient\nmetadata: {{name: c, namespace: bank, uid: {uid}}}\nspec: {{serviceAccountName: {account}, targets: [{{serviceName: payments}}]}}\n"
        )
    };
    let mut world = World::of(&client("shop", "a"));
    let mut account = |yaml: &str| {
        world.put(yaml);
        let client = world.model().clients.remove(&Key::new("bank", "c")).unwrap();
        (client.spec.unwrap().service_account, client.fault.is_some())
    };
    assert_eq!(account(&client("web", "a")), ("shop".to_owned(), true), "immutable");
    assert_eq!(account(&client("web", "b")), ("web".to_owned(), false));
}

#[test]
fn the_older_of_two_wins_by_age() {
    let at = |name: &str, time: &str| {
        policy("{targetRefs: [{name: payments}]}")
            .replace("name: p,", &format!("name: {name}, creationTimestamp: \"{time}\","))
    };
    let mut world = World::of(&[at("a", "2026-02-01T00:00:00Z"), at("z", "2026-01-01T00:00:00Z")].join("---\n"));
    let view = world.view();
    let attached = view.index().attached("bank", &PolicyTarget::Service { service: "payments".to_owned() });
    assert_eq!(&*attached[0].key.name, "z");
}

#[test]
fn namespaces_with_pods_that_ask_get_what_sidecars_need() {
    let mut world = World::of(
        &[
            pod("shop-1", "shop", "10.0.0.5"),
            bare("old", "old", "10.0.0.6").replace("namespace: bank", "namespace: old"),
        ]
        .join("---\n"),
    );
    world.put("kind: Namespace\nmetadata: {name: next, labels: {fapi-mesh.dev/inject: enabled}}\n---\nkind: Namespace\nmetadata: {name: other}\n");
    let names = |world: &mut World| -> Vec<String> {
        world.objects.desired().opted_in.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&mut world), ["bank", "next"]);
    // No pod starts any more where everything is being deleted, but what it asked for still counts for those that run.
    let ends = "deletionTimestamp: \"2026-01-01T00:00:00Z\"";
    world.put(&format!("kind: Namespace\nmetadata: {{name: bank, {ends}}}\n---\nkind: Namespace\nmetadata: {{name: next, {ends}, labels: {{fapi-mesh.dev/inject: enabled}}}}\n"));
    assert_eq!(names(&mut world), Vec::<String>::new());
    assert!(world.objects.desired().model.pods.values().any(|pod| pod.namespace == "bank" && pod.meshed));
    world.remove(Watched::Namespace, "", "bank");
    assert_eq!(names(&mut world), ["bank"], "its pods alone say so");
}

#[test]
fn revocations_are_read_and_are_no_part_of_snapshots() {
    let mut world = World::new();
    let before = world.objects.desired();
    world.put(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {name: stolen}\n\
         spec: {podUid: uid-1, expires: \"2126-01-01T00:00:00Z\"}\n---\n\
         apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {name: wrong}\n\
         spec: {podUid: uid-1, expires: \"2126-02-31T00:00:00Z\"}\n",
    );
    let after = world.objects.desired();
    assert_eq!((after.to_revoke().len(), after.revocations.len()), (1, 2));
    assert!(after.revocations.values().any(|object| object.spec.is_none() && object.fault.is_some()));
    // An earlier version of the operator does not know the kind, and its snapshots must not look older for that.
    assert_eq!((&after.versions, &after.model), (&before.versions, &before.model));
    world.remove(Watched::Revocation, "", "stolen");
    assert_eq!(world.objects.desired().to_revoke(), []);
}
