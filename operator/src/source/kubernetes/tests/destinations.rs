//! What names and addresses of a cluster stand for.

use control::DestinationKind;

use super::super::watched::Watched;
use super::world::{READY, World, bare, pod, service, slice};
use crate::cluster_domain::ClusterDomain;
use crate::testing::domain;
use crate::view::View;

const CLIENT: &str = "kind: FapiClient\nmetadata: {name: shop, namespace: bank}\nspec: {serviceAccountName: shop, targets: [{serviceName: NAME}]}\n";

fn bank() -> World {
    let headless = service("queue", "payments", "None");
    let all = [
        pod("shop-1", "shop", "10.0.0.5"),
        pod("payments-1", "payments", "10.0.0.7"),
        pod("payments-2", "payments", "10.0.0.8"),
        bare("old-1", "old", "10.0.0.9"),
        service("payments", "payments", "10.96.0.7"),
        service("old", "old", "10.96.0.9"),
        slice("payments", "payments-1", "10.0.0.7", READY),
        slice("payments", "payments-2", "10.0.0.8", "ready: false, serving: true, terminating: true"),
        headless,
        "kind: Service\nmetadata: {name: alias, namespace: bank}\nspec: {type: ExternalName, externalName: x.example, ports: [{port: 80}]}\n".to_owned(),
    ];
    World::of(&all.join("---\n"))
}

/// In short: the Service and who is ready, the addresses outside, or nothing.
fn of(world: &mut World, authority: &str) -> String {
    match world.view().destination("uid-of-shop-1", authority).kind {
        DestinationKind::Unknown => "unknown".to_owned(),
        DestinationKind::Refused => "refused".to_owned(),
        DestinationKind::Ambiguous { services } => format!("ambiguous {}", services.join(" ")),
        DestinationKind::Unmeshed { addresses } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("outside {}", addresses.join(" "))
        }
        DestinationKind::Meshed(meshed) => {
            let ready = meshed.endpoints.iter().filter(|endpoint| endpoint.ready);
            let ready: Vec<String> = ready.map(|endpoint| endpoint.address.to_string()).collect();
            format!("{} {}", meshed.service, ready.join(" ")).trim_end().to_owned()
        }
    }
}

#[test]
fn a_service_is_one_by_every_name_and_by_its_address() {
    let mut world = bank();
    for authority in
        ["payments", "payments.bank.svc", "payments.bank.svc.cluster.local.:80", "10.96.0.7:80", "10.96.0.7"]
    {
        assert_eq!(of(&mut world, authority), "payments.bank 10.0.0.7:8080", "{authority}");
    }
    for authority in ["payments:8080", "10.96.0.7:8080", "nobody.bank", "payments.web"] {
        assert_eq!(of(&mut world, authority), "unknown", "{authority}");
    }
}

#[test]
fn a_cluster_may_have_another_domain_than_most() {
    let mut world = bank();
    let view = View::empty(domain()).under(ClusterDomain::parse("prod.bank.example").unwrap()).next(1, world.model());
    let kind = |authority: &str| view.destination("uid-of-shop-1", authority).kind;
    let payments = kind("payments");
    assert!(matches!(payments, DestinationKind::Meshed(_)), "{payments:?}");
    for authority in
        ["payments.bank.svc.prod.bank.example", "payments.bank.svc.Prod.Bank.Example.:80", "payments.bank.svc"]
    {
        assert_eq!(kind(authority), payments, "{authority}");
    }
    for authority in
        ["payments.bank.svc.cluster.local", "payments.bank.svc.bank.example", "payments.bank.prod.bank.example"]
    {
        assert_eq!(kind(authority), DestinationKind::Unknown, "{authority}");
    }
    // Those that come after it are of the same cluster.
    let next = view.next(2, world.model());
    assert_eq!(next.destination("uid-of-shop-1", "payments.bank.svc.prod.bank.example").kind, payments);
}

#[test]
fn pods_that_end_are_called_only_where_nobody_is_ready() {
    let mut world = bank();
    world.put(&slice("payments", "payments-1", "10.0.0.7", "ready: false, serving: false"));
    assert_eq!(of(&mut world, "payments"), "payments.bank 10.0.0.8:8080");
    world.put(&slice("payments", "payments-2", "10.0.0.8", "ready: false, serving: false, terminating: true"));
    assert_eq!(of(&mut world, "payments"), "payments.bank");
}

#[test]
fn a_pods_own_address_is_the_one_service_that_it_can_mean() {
    let mut world = bank();
    // Both stand before the same port of it.
    assert_eq!(of(&mut world, "10.0.0.7:8080"), "ambiguous payments.bank queue.bank");
    world.put(&CLIENT.replace("NAME", "payments"));
    assert_eq!(of(&mut world, "10.0.0.7:8080"), "payments.bank 10.0.0.7:8080");
    world.put(&CLIENT.replace("NAME", "queue"));
    assert_eq!(of(&mut world, "10.0.0.7:8080"), "queue.bank");
    assert_eq!(of(&mut world, "10.0.0.7:9"), "unknown", "a port that no Service names is never called in plaintext");
    assert_eq!(of(&mut world, "10.0.0.5:8080"), "unknown", "nor a pod behind none");
}

#[test]
fn a_headless_service_is_dialled_at_the_port_of_its_pods() {
    let mut world = bank();
    world.put(&slice("queue", "payments-1", "10.0.0.7", READY));
    assert_eq!(of(&mut world, "queue:8080"), "queue.bank 10.0.0.7:8080");
    assert_eq!(of(&mut world, "queue:80"), "queue.bank 10.0.0.7:8080");
    assert_eq!(of(&mut world, "queue:81"), "unknown");
}

#[test]
fn what_is_outside_is_said_to_be() {
    let mut world = bank();
    assert_eq!(of(&mut world, "old"), "outside 10.96.0.9:80");
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
    assert_eq!(of(&mut world, "192.0.2.1:443"), "outside 192.0.2.1:443");
    assert_eq!(of(&mut world, "[2001:db8::1]:443"), "outside [2001:db8::1]:443");
    assert_eq!(of(&mut world, "alias"), "outside ");
    for authority in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080", "0.0.0.0:80", "www.example.com"] {
        assert_eq!(of(&mut world, authority), "unknown", "{authority}");
    }
}

#[test]
fn a_mesh_may_refuse_what_is_outside_and_changes_nothing_else_by_that() {
    let mesh = |word: &str| {
        let spec = format!("spec: {{unmeshedDestinations: {word}}}\n");
        format!("apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiMesh\nmetadata: {{name: default}}\n{spec}")
    };
    let mut world = bank();
    world.put(&mesh("Refuse"));
    for authority in ["old", "10.0.0.9:8080", "192.0.2.1:443", "[2001:db8::1]:443", "alias"] {
        assert_eq!(of(&mut world, authority), "refused", "{authority}");
    }
    for authority in ["127.0.0.1:8080", "www.example.com", "nobody.bank", "10.0.0.5:8080"] {
        assert_eq!(of(&mut world, authority), "unknown", "{authority}");
    }
    assert_eq!(of(&mut world, "payments"), "payments.bank 10.0.0.7:8080");
    // What nobody can read changes nothing.
    world.put(&mesh("Perhaps"));
    assert_eq!(of(&mut world, "old"), "refused");
    world.put(&mesh("Allow"));
    assert_eq!(of(&mut world, "old"), "outside 10.96.0.9:80");
    world.put(&mesh("Refuse"));
    world.remove(Watched::Mesh, "", "default");
    assert_eq!(of(&mut world, "old"), "outside 10.96.0.9:80", "without a FapiMesh there are the defaults");
}

#[test]
fn what_a_client_names_or_what_asked_for_a_sidecar_is_never_outside() {
    let mut world = bank();
    world.put(&CLIENT.replace("NAME", "old"));
    assert_eq!(of(&mut world, "old"), "old.bank");
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "unknown");
    let mut world = bank();
    world.put(
        &bare("old-1", "old", "10.0.0.9")
            .replace("labels: {", "annotations: {fapi-mesh.dev/inject: enabled}, labels: {"),
    );
    assert_eq!(of(&mut world, "old"), "old.bank");
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "old.bank");
    // Nor what is older than the word of its namespace, for as long as that stands.
    let mut world = bank();
    for (word, service, address) in [
        ("enabled", "old.bank", "old.bank"),
        ("disabled", "outside 10.96.0.9:80", "outside 10.0.0.9:8080"),
        ("enabled", "old.bank", "old.bank"),
    ] {
        world.put(&namespace(word));
        assert_eq!((&*of(&mut world, "old"), &*of(&mut world, "10.0.0.9:8080")), (service, address), "{word}");
    }
    world.remove(Watched::Namespace, "", "bank");
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
}

fn namespace(word: &str) -> String {
    format!("kind: Namespace\nmetadata: {{name: bank, labels: {{fapi-mesh.dev/inject: {word}}}}}\n")
}

#[test]
fn a_pod_that_runs_says_no_to_a_sidecar_only_where_it_may() {
    let allowing = |namespace: &str| {
        let allowed = format!("{{podAnnotations: [{{allow: [OptOut], namespaces: [{namespace}]}}]}}");
        format!("apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiMesh\nmetadata: {{name: default}}\nspec: {allowed}\n")
    };
    for word in
        ["labels: {fapi-mesh.dev/inject: disabled, ", "annotations: {fapi-mesh.dev/inject: disabled}, labels: {"]
    {
        let mut world = bank();
        world.put(&namespace("enabled"));
        world.put(&bare("old-1", "old", "10.0.0.9").replace("labels: {", word));
        assert_eq!(of(&mut world, "10.0.0.9:8080"), "old.bank", "nobody said that it may");
        world.put(&allowing("web"));
        assert_eq!(of(&mut world, "10.0.0.9:8080"), "old.bank", "others may");
        world.put(&allowing("bank"));
        assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
        world.remove(Watched::Mesh, "", "default");
        assert_eq!(of(&mut world, "10.0.0.9:8080"), "old.bank", "and may no longer");
        world.put(&namespace("disabled"));
        assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080", "nobody asked");
    }
}

#[test]
fn where_nothing_is_injected_no_label_puts_pods_out_of_reach() {
    let mut world = bank();
    world.put(&bare("dns", "dns", "10.0.0.53").replace("namespace: bank", "namespace: kube-system"));
    world.put("kind: Namespace\nmetadata: {name: kube-system, labels: {fapi-mesh.dev/inject: enabled}}\n");
    assert_eq!(of(&mut world, "10.0.0.53:53"), "outside 10.0.0.53:53");
}

#[test]
fn an_address_of_two_is_unknown() {
    let mut world = bank();
    world.put(&bare("other", "other", "10.0.0.7"));
    assert_eq!(of(&mut world, "10.0.0.7:8080"), "unknown");
}

#[test]
fn a_slice_cannot_put_a_pod_of_the_mesh_outside() {
    let mut world = bank();
    world.put("kind: Service\nmetadata: {name: trick, namespace: web}\nspec: {clusterIPs: [10.96.0.66], ports: [{name: web, port: 80}]}\n");
    let slice = "kind: EndpointSlice\nmetadata: {name: t, namespace: web, labels: {kubernetes.io/service-name: trick}}\nports: [{name: web, port: 8080}]\nendpoints: [{addresses: [ADDRESS]}]\n";
    world.put(&slice.replace("ADDRESS", "10.0.0.7"));
    assert_eq!(of(&mut world, "trick.web"), "trick.web");
    world.put(&slice.replace("ADDRESS", "192.0.2.7"));
    assert_eq!(of(&mut world, "trick.web"), "outside 10.96.0.66:80");
}

#[test]
fn an_address_of_load_balancers_is_told_apart_by_port() {
    let mut world = bank();
    let at = |service: String, port: u16, address: &str| {
        let balanced = format!("status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}\n");
        service.replace("port: 80", &format!("port: {port}")) + &balanced
    };
    // A node, as k3s says it, or an address that MetalLB lets two Services share.
    world.put(&at(service("payments", "payments", "10.96.0.7"), 80, "192.0.2.10"));
    world.put(&at(service("old", "old", "10.96.0.9"), 81, "192.0.2.10"));
    assert_eq!(of(&mut world, "192.0.2.10:80"), "payments.bank 10.0.0.7:8080");
    assert_eq!(of(&mut world, "192.0.2.10:81"), "outside 10.96.0.9:81");
    assert_eq!(of(&mut world, "192.0.2.10:10250"), "outside 192.0.2.10:10250", "the machine's own");
    assert_eq!(of(&mut world, "old:81"), "outside 10.96.0.9:81");
    world.put(&at(service("third", "old", "10.96.0.10"), 80, "192.0.2.10"));
    assert_eq!(of(&mut world, "192.0.2.10:80"), "unknown", "two at one port");
    // Who says that a pod or a Service of the mesh is its load balancer changes nothing about it.
    world.put(&at(service("third", "old", "10.96.0.10"), 80, "10.96.0.7"));
    assert_eq!(of(&mut world, "10.96.0.7:80"), "payments.bank 10.0.0.7:8080");
    world.put(&at(service("third", "old", "10.96.0.10"), 8080, "10.0.0.7"));
    world.put(&CLIENT.replace("NAME", "payments"));
    assert_eq!(of(&mut world, "10.0.0.7:8080"), "payments.bank 10.0.0.7:8080");
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_outside() {
    let mut world = bank();
    // Ports that are no list, as of a Kubernetes that is newer than we are.
    let strange = |yaml: &str| {
        let yaml =
            yaml.replace("containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]", "containers: {}");
        yaml.replace("ports: [{name: web, port: 80, targetPort: http}]", "ports: {}")
    };
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
    assert_eq!(of(&mut world, "10.96.0.9:80"), "outside 10.96.0.9:80");
    world.put(&strange(&bare("old-1", "old", "10.0.0.9")));
    for authority in ["10.0.0.9:8080", "old.bank", "10.96.0.9:80"] {
        let found = of(&mut world, authority);
        assert!(["unknown", "old.bank"].contains(&&*found), "{authority}: {found}");
    }
    world.put(&strange(&service("old", "old", "10.96.0.9")));
    assert_eq!(of(&mut world, "10.96.0.9:80"), "unknown");
    assert_eq!(of(&mut world, "payments"), "payments.bank 10.0.0.7:8080", "its neighbours are what they are");
    // Its machine's addresses are not its own.
    let on_host = strange(&bare("old-1", "old", "10.0.0.9")).replace("nodeName:", "hostNetwork: true\n  nodeName:");
    world.put(&on_host);
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
    // One that has ended has none.
    world.put(&strange(&bare("old-1", "old", "10.0.0.9")).replace("Running", "Failed"));
    assert_eq!(of(&mut world, "10.0.0.9:8080"), "outside 10.0.0.9:8080");
}

/// A StatefulSet `vault` of two pods behind the usual pair of Services, of which neither is named by a FapiClient.
fn vault() -> World {
    let replica = |pod: String| pod.replace("spec:\n", "spec:\n  hostname: HOST\n  subdomain: vault\n");
    let all = [
        pod("shop-1", "shop", "10.0.0.5"),
        replica(pod("vault-0", "vault", "10.0.0.20")).replace("HOST", "vault-0"),
        replica(pod("vault-1", "vault", "10.0.0.21")).replace("HOST", "vault-1"),
        service("vault", "vault", "None"),
        service("vault-active", "vault", "10.96.0.20"),
        slice("vault", "vault-0", "10.0.0.20", READY),
        slice("vault", "vault-1", "10.0.0.21", READY),
        slice("vault-active", "vault-0", "10.0.0.20", READY),
    ];
    World::of(&all.join("---\n"))
}

#[test]
fn the_name_of_a_pod_below_a_service_is_that_pod_alone() {
    let mut world = vault();
    for authority in [
        "vault-0.vault:8080",
        "VAULT-0.vault.bank:8080",
        "vault-0.vault.bank.svc:8080",
        "vault-0.vault.bank.svc.cluster.local.:8080",
    ] {
        assert_eq!(of(&mut world, authority), "vault.bank 10.0.0.20:8080", "{authority}");
    }
    assert_eq!(of(&mut world, "vault-1.vault:8080"), "vault.bank 10.0.0.21:8080");
    assert_eq!(of(&mut world, "10.0.0.20:8080"), "ambiguous vault.bank vault-active.bank");
    for authority in [
        "vault-2.vault:8080",
        "vault-0.vault-active:8080",
        "vault-0.vault.web:8080",
        "vault-0.vault.bank.svc.example.com:8080",
        // The name stands for the pod's own address, where nobody knows the Service's number.
        "vault-0.vault:80",
        "vault-0.vault:81",
    ] {
        assert_eq!(of(&mut world, authority), "unknown", "{authority}");
    }
    world.put(&slice("vault", "vault-0", "10.0.0.20", "ready: false, serving: false"));
    assert_eq!(of(&mut world, "vault-0.vault:8080"), "vault.bank", "never another pod");
    // Without a sidecar it is called as its address is.
    let bare = bare("vault-1", "vault", "10.0.0.21");
    world.put(&bare.replace("spec:\n", "spec:\n  hostname: vault-1\n  subdomain: vault\n"));
    assert_eq!(of(&mut world, "vault-1.vault:9"), "outside 10.0.0.21:9");
    world.put(&CLIENT.replace("NAME", "vault"));
    assert_eq!(of(&mut world, "vault-1.vault:8080"), "unknown", "a FapiClient names the Service");
}

#[test]
fn a_pod_of_the_own_namespace_comes_before_a_service_of_another() {
    let mut world = vault();
    let other = service("vault-0", "other", "10.96.0.99").replace("namespace: bank", "namespace: vault");
    let elsewhere = bare("other-1", "other", "10.0.0.99").replace("namespace: bank", "namespace: vault");
    world.put(&[other, elsewhere].join("---\n"));
    assert_eq!(of(&mut world, "vault-0.vault:8080"), "vault.bank 10.0.0.20:8080");
    assert_eq!(of(&mut world, "vault-0.vault:80"), "unknown", "also at a port that it does not have");
    assert_eq!(of(&mut world, "vault-0.vault.svc"), "outside 10.96.0.99:80");
    world.remove(Watched::Pod, "bank", "vault-0");
    assert_eq!(of(&mut world, "vault-0.vault"), "outside 10.96.0.99:80");
    world.put(&CLIENT.replace("NAME", "vault"));
    assert_eq!(of(&mut world, "vault-0.vault"), "unknown", "a pod that will be back");
}

#[test]
fn an_endpoint_has_all_addresses_of_its_pod() {
    let mut world = bank();
    world
        .put(&pod("payments-1", "payments", "10.0.0.7").replace("{ip: 10.0.0.7}", "{ip: 10.0.0.7}, {ip: \"fd00::7\"}"));
    let DestinationKind::Meshed(meshed) = world.view().destination("uid-of-shop-1", "payments").kind else { panic!() };
    let endpoint = meshed.endpoints.iter().find(|endpoint| endpoint.ready).unwrap();
    assert_eq!(endpoint.address, "10.0.0.7:8080".parse().unwrap());
    assert_eq!(endpoint.others, ["[fd00::7]:8080".parse().unwrap()]);
}
