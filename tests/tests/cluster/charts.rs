//! The charts, as Helm installs them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

use e2e::cluster::{ApiServer, Kubectl, helm, roles};
use e2e::{repository, wait_for};
use serde_json::{Value, json};

/// Name and version of every definition of ours.
fn definitions(kubectl: &Kubectl) -> Vec<String> {
    let list = kubectl.get(&["crd"])["items"].as_array().unwrap().clone();
    let one = |crd: &Value| format!("{} {}", crd["metadata"]["name"], crd["metadata"]["generation"]);
    list.iter().map(one).filter(|name| name.contains(".fapi-mesh.dev")).collect()
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn the_definitions_are_installed_left_alone_and_kept() {
    let server = ApiServer::start("charts");
    let kubectl = server.kubectl();
    let chart = repository().join("charts/fapi-mesh-crds").display().to_string();
    let run = |args: &[&str]| helm(kubectl, args).unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")));

    run(&["lint", "--strict", &chart]);
    assert_eq!(run(&["template", "crds", &chart]), run(&["template", "crds", &chart]));
    let refused = helm(kubectl, &["template", "crds", &chart, "--set", "enabled=false"]).unwrap_err();
    assert!(refused.contains("enabled"), "{refused}");

    run(&["install", "crds", &chart]);
    let installed = definitions(kubectl);
    assert_eq!(installed.len(), 5, "{installed:?}");
    run(&["upgrade", "crds", &chart]);
    assert_eq!(definitions(kubectl), installed);

    // With the definitions every object of theirs would go.
    run(&["uninstall", "crds"]);
    assert_eq!(definitions(kubectl), installed);
}

/// What `helm template` gives, document by document; those of hooks apart.
fn rendered(kubectl: &Kubectl, chart: &str, more: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let args = [&["template", "fapi-mesh", chart, "-n", "fapi-mesh"], more].concat();
    let run = || helm(kubectl, &args).unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")));
    let text = run();
    assert_eq!(run(), text, "it is the same whenever it is rendered");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert!(!json!(documents).to_string().contains("caBundle"), "the operator writes it");
    let documents = documents.into_iter().filter(|document| !document.is_null());
    documents.partition(|document| document["metadata"]["annotations"]["helm.sh/hook"].is_null())
}

/// Each right by itself: group, resource, name, verb.
fn rights(role: &Value) -> BTreeSet<[String; 4]> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().map_or_else(
            || vec!["*".to_owned()],
            |all| all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        )
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in list(&rule["resources"]) {
            for name in list(&rule["resourceNames"]) {
                for verb in list(&rule["verbs"]) {
                    rights.insert([list(&rule["apiGroups"])[0].clone(), resource.clone(), name.clone(), verb]);
                }
            }
        }
    }
    rights
}

/// What the operator may make by name, uninstalling may delete, and nothing else.
fn the_end_has_the_rights_of_the_end(documents: &[Value], hooks: &[Value]) {
    let named = |role: &Value| -> BTreeSet<[String; 2]> {
        let named = rights(role)
            .into_iter()
            .filter(|[group, _, name, _]| name != "*" && group != "admissionregistration.k8s.io");
        named.map(|[_, resource, name, _]| [resource, name]).collect()
    };
    let verbs = |role: &Value| -> BTreeSet<String> { rights(role).into_iter().map(|[.., verb]| verb).collect() };
    for (kind, allowed) in [("ClusterRole", &["delete", "list"] as &[&str]), ("Role", &["delete"])] {
        let (lives, ends) = (of_kind(documents, kind), of_hook(hooks, kind, "fapi-mesh-uninstall"));
        assert_eq!(named(ends), named(lives), "{kind}");
        assert_eq!(verbs(ends), allowed.iter().map(|verb| (*verb).to_owned()).collect(), "{kind}");
    }
    let looks = rights(of_hook(hooks, "ClusterRole", "fapi-mesh-unused"));
    assert_eq!(looks, BTreeSet::from([["", "pods", "*", "list"].map(str::to_owned)]));
    assert!(!hooks.iter().any(|hook| hook["kind"] == "Role" && hook["metadata"]["name"] == "fapi-mesh-unused"));
}

fn of_hook<'a>(hooks: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let wanted = |hook: &&Value| hook["kind"] == kind && hook["metadata"]["name"] == name;
    hooks.iter().find(wanted).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Both can be done without, one without the other.
fn the_end_is_as_it_is_wanted(kubectl: &Kubectl, chart: &str) {
    for (force, keep, expected) in [
        ("false", "false", &["post-delete", "pre-delete"] as &[&str]),
        ("true", "false", &["post-delete"]),
        ("false", "true", &["pre-delete"]),
        ("true", "true", &[]),
    ] {
        let set = format!("uninstall.force={force},uninstall.keepState={keep}");
        let (_, hooks) = rendered(kubectl, chart, &["--set", &set]);
        let when = |hook: &Value| hook["metadata"]["annotations"]["helm.sh/hook"].as_str().unwrap().to_owned();
        let jobs = hooks.iter().filter(|hook| hook["kind"] == "Job");
        let ends: BTreeSet<String> = jobs.map(when).collect();
        assert_eq!(ends.iter().collect::<Vec<_>>(), expected, "{set}");
    }
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn the_operator_is_applied_once_and_is_what_its_code_says() {
    let server = ApiServer::start("charts-mesh");
    let kubectl = server.kubectl();
    let chart = repository().join("charts/fapi-mesh").display().to_string();
    kubectl.run(&["create", "namespace", "fapi-mesh"]);
    kubectl.run(&["label", "namespace", "fapi-mesh", "pod-security.kubernetes.io/enforce=restricted"]);
    values_that_mean_nothing_are_refused(kubectl, &chart);
    the_webhooks_are_open_to_whom_they_should_be(kubectl, &chart);
    the_end_is_as_it_is_wanted(kubectl, &chart);
    let high = format!("{chart}/values-ha.yaml");
    for more in [&[] as &[&str], &["-f", &high]] {
        helm(kubectl, &[&["lint", "--strict", &chart], more].concat()).unwrap();
        let (documents, hooks) = rendered(kubectl, &chart, more);
        let all = json!({"apiVersion": "v1", "kind": "List", "items": documents}).to_string();
        kubectl.apply(&all).unwrap();
        let versions = || {
            let each = "jsonpath={range .items[*]}{.kind} {.metadata.resourceVersion}{\"\\n\"}{end}";
            kubectl.with_input(&["get", "-o", each, "-f", "-"], &all).unwrap()
        };
        let first = versions();
        assert_eq!(first.lines().count(), documents.len(), "{first}");
        kubectl.apply(&all).unwrap();
        assert_eq!(versions(), first, "what is applied again changes nothing");

        // A Deployment is taken whatever its pods are, so one of them is tried.
        let mut pods = vec![of_kind(&documents, "Deployment")];
        pods.extend(["fapi-mesh-uninstall", "fapi-mesh-unused"].map(|name| of_hook(&hooks, "Job", name)));
        for pod in pods {
            let mut pod = pod["spec"]["template"].clone();
            (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
            pod["metadata"]["name"] = "operator".into();
            // Those of hooks come with the hooks.
            pod["spec"]["serviceAccountName"] = "fapi-operator".into();
            let args = ["create", "-n", "fapi-mesh", "--dry-run=server", "-f", "-"];
            kubectl.with_input(&args, &pod.to_string()).unwrap();
        }

        for (kind, golden) in
            [("MutatingWebhookConfiguration", "mutating"), ("ValidatingWebhookConfiguration", "validating")]
        {
            let file = repository().join("operator/tests/golden/webhook").join(golden).with_extension("yaml");
            let code: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            assert_eq!(of_kind(&documents, kind)["webhooks"], code["webhooks"], "{kind}");
        }
        for role in &roles()[..2] {
            let kind = role["kind"].as_str().unwrap();
            assert_eq!(rights(of_kind(&documents, kind)), rights(role), "{kind}");
        }
        the_end_has_the_rights_of_the_end(&documents, &hooks);
    }
}

/// To everybody, unless somebody is named.
fn the_webhooks_are_open_to_whom_they_should_be(kubectl: &Kubectl, chart: &str) {
    let named = "networkPolicy.webhookPeers[0].ipBlock.cidr=10.0.0.0/28";
    for (more, from) in
        [(&[] as &[&str], Value::Null), (&["--set", named], json!([{"ipBlock": {"cidr": "10.0.0.0/28"}}]))]
    {
        let (documents, _) = rendered(kubectl, chart, more);
        let policy = of_kind(&documents, "NetworkPolicy");
        let rules = policy["spec"]["ingress"].as_array().unwrap();
        let of_webhooks = |rule: &&Value| rule["ports"].as_array().unwrap().iter().any(|at| at["port"] == "webhooks");
        let rules: Vec<&Value> = rules.iter().filter(of_webhooks).collect();
        assert_eq!(rules.iter().map(|rule| &rule["from"]).collect::<Vec<_>>(), [&from]);
        kubectl.with_input(&["apply", "--dry-run=server", "-f", "-"], &policy.to_string()).unwrap();
    }
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn where_the_chart_forbids_audit_no_policy_may_begin_with_it() {
    let server = ApiServer::start("charts-audit");
    let kubectl = server.kubectl();
    let chart = repository().join("charts/fapi-mesh").display().to_string();
    let no_audit = |more: &[&str]| admission_policy(kubectl, more, "no-audit.fapi-mesh.dev");
    assert_eq!(no_audit(&[]), [Value::Null; 0], "it is offered, not given");
    helm(kubectl, &["install", "crds", &format!("{chart}-crds")]).unwrap();
    let policy = |name: &str, namespace: &str, mode: &str| {
        let metadata = json!({"name": name, "namespace": namespace});
        let spec = json!({"targetRefs": [{"kind": "Namespace", "name": namespace}], "mode": mode});
        json!({"apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiPolicy", "metadata": metadata, "spec": spec})
            .to_string()
    };
    for namespace in ["bank", "web"] {
        kubectl.run(&["create", "namespace", namespace]);
        let old = policy("old", namespace, "Audit");
        wait_for("the API server to serve our kinds", 30, || kubectl.apply(&old).ok());
    }
    kubectl.run(&["label", "namespace", "bank", "stage=production"]);
    let set = "policies.forbidAudit=true,policies.forbidAuditIn.matchLabels.stage=production";
    let rules = no_audit(&["--set", set]);
    assert_eq!(rules.len(), 2, "{rules:?}");
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": rules}).to_string()).unwrap();

    let attempt = |policy: &str| kubectl.with_input(&["create", "--dry-run=server", "-f", "-"], policy);
    let refused = wait_for("a refusal", 30, || {
        attempt(&policy("new", "bank", "Audit"))
            .err()
            .filter(|error| error.contains("namespace bank may not have that"))
    });
    assert!(refused.contains("write Enforce"), "{refused}");
    attempt(&policy("new", "bank", "Enforce")).unwrap();
    attempt(&policy("new", "web", "Audit")).unwrap();
    // What was there stays as it is, and can go.
    kubectl.run(&["label", "fapipolicy", "old", "-n", "bank", "team=a"]);
    let scope = json!({"spec": {"senderConstraints": ["DPoP"]}}).to_string();
    let patch = ["patch", "fapipolicy", "old", "-n", "bank", "--type=merge", "--patch-file=/dev/stdin"];
    let refused = kubectl.with_input(&patch, &scope).unwrap_err();
    assert!(refused.contains("may not have that"), "{refused}");
    kubectl.apply(&policy("old", "bank", "Enforce")).unwrap();
    assert!(kubectl.apply(&policy("old", "bank", "Audit")).is_err(), "nor does it come back");
    kubectl.run(&["delete", "fapipolicy", "old", "-n", "bank"]);
}

/// A ValidatingAdmissionPolicy of the chart, with its binding.
fn admission_policy(kubectl: &Kubectl, more: &[&str], name: &str) -> Vec<Value> {
    let chart = repository().join("charts/fapi-mesh").display().to_string();
    let (documents, _) = rendered(kubectl, &chart, more);
    let is_of_it = |document: &Value| {
        let kind = document["kind"].as_str().unwrap();
        kind.starts_with("ValidatingAdmissionPolicy") && document["metadata"]["name"] == name
    };
    documents.into_iter().filter(is_of_it).collect()
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn the_images_of_our_containers_stay_in_a_pod_that_runs() {
    let server = ApiServer::start("charts-images");
    let kubectl = server.kubectl();
    let rules = admission_policy(kubectl, &[], "images.fapi-mesh.dev");
    assert_eq!(rules.len(), 2, "{rules:?}");
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": rules}).to_string()).unwrap();
    kubectl.run(&["create", "namespace", "bank"]);
    kubectl.run(&["create", "serviceaccount", "default", "-n", "bank"]);
    let container = |name: &str| json!({"name": name, "image": "first"});
    let mut sidecar = container("fapi-sidecar");
    sidecar["restartPolicy"] = "Always".into();
    let ours = [container("fapi-redirect"), sidecar, container("setup")];
    for (name, init) in [("meshed", json!(ours)), ("plain", json!([container("setup")])), ("bare", json!([]))] {
        let spec = json!({"initContainers": init, "containers": [container("app")]});
        let metadata = json!({"name": name, "namespace": "bank"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        kubectl.apply(&pod.to_string()).unwrap();
    }
    let set = |pod: &str, image: &str| kubectl.attempt(&["set", "image", "-n", "bank", &format!("pod/{pod}"), image]);
    for container in ["fapi-sidecar", "fapi-redirect"] {
        let mut tried = 0;
        let refused = wait_for("a refusal", 30, || {
            tried += 1;
            let set = set("meshed", &format!("{container}=evil-{tried}"));
            set.err().filter(|error| error.contains("stay what injection made them"))
        });
        assert!(refused.contains("delete the pod"), "{refused}");
    }
    // Everything else can be changed as ever.
    for (pod, image) in
        [("meshed", "app=next"), ("meshed", "setup=next"), ("plain", "setup=next"), ("bare", "app=next")]
    {
        set(pod, image).unwrap();
    }
    kubectl.run(&["label", "pod", "meshed", "-n", "bank", "a=b"]);
}

fn values_that_mean_nothing_are_refused(kubectl: &Kubectl, chart: &str) {
    for wrong in [
        "image.tga=1",
        "image.pullPolicy=Sometimes",
        "replicas=0",
        "trustDomain=Bank.Example",
        "clusterDomain=Cluster.Local",
        "policies.forbidAudit=maybe",
        "policies.forbidAuditIn.labels=x",
        "keyRotation=1d",
        "keyRotation=1s",
        "logLevel=trace",
        "listen=127.0.0.1",
        "networkPolicy=true",
        "networkPolicy.apiServerPorts={0}",
        "networkPolicy.webhookPeers={10.0.0.0/28}",
        "sidecar.repository=x",
        "test.namespace=Default",
        "uninstall.force=maybe",
        "unknown=1",
    ] {
        let name = wrong.split(['=', '.']).next().unwrap();
        let refused = helm(kubectl, &["template", "fapi-mesh", chart, "--set", wrong]).unwrap_err();
        assert!(refused.contains(name), "{wrong}: {refused}");
    }
}
