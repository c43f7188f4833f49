//! The clusters that other tests stand on: they work, and nothing of them stays.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod left;

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::cluster::load::command_in;
use e2e::cluster::{ApiServer, Cluster, Kubectl, NODES, Part};
use e2e::{Scratch, living, repository, wait_for};
use serde_json::{Value, json};

/// What a DNS answers about the address of a name, as bytes.
fn resolve(server: IpAddr, name: &str) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // A header with one question, the name label by label, then type A and class IN (RFC 1035 section 4.1).
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len().try_into().unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send_to(&query, (server, 53)).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    Some(answer[..length].to_vec())
}

fn pod(name: &str) -> String {
    pod_on(NODES[0], name)
}

fn pod_on(node: &str, name: &str) -> String {
    let container = json!({"name": "pause", "image": "fapi-mesh.dev/pause:test", "imagePullPolicy": "Never"});
    let spec = json!({"nodeSelector": {"kubernetes.io/hostname": node}, "containers": [container]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn wait_ready(kubectl: &Kubectl, name: &str) {
    kubectl.run(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("pod/{name}")]);
}

/// Everything that the machine still knows about a cluster of these network namespaces.
fn traces(folder: &Path, networks: &[String]) -> Vec<String> {
    let mut found: Vec<String> = living(folder).into_iter().map(|(_, line)| line).collect();
    let name = folder.file_name().unwrap().to_str().unwrap();
    for file in ["/proc/self/mounts", "/proc/self/cgroup"] {
        let text = fs::read_to_string(file).unwrap();
        found.extend(text.lines().filter(|line| line.contains(name)).map(str::to_owned));
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        if hierarchy.path().join(name).exists() || hierarchy.file_name() == name {
            found.push(hierarchy.path().display().to_string());
        }
    }
    for network in networks {
        let places = ["/run/netns", "/sys/class/net"].map(|place| Path::new(place).join(network));
        found.extend(places.iter().filter(|place| place.exists()).map(|place| place.display().to_string()));
        let results = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
        let names = results.map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with(&format!("{network}-"))));
    }
    found
}

/// Drops a cluster, and looks for what stays.
fn leaves_nothing(cluster: Cluster) {
    let (folder, networks) = (cluster.folder().to_path_buf(), cluster.networks());
    assert!(!traces(&folder, &networks).is_empty(), "what is looked for must be what is there");
    drop(cluster);
    assert_eq!(traces(&folder, &networks), Vec::<String>::new());
    assert!(!folder.exists());
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_cluster_runs_pods_and_services_and_leaves_nothing() {
    let cluster = Cluster::start("whole");
    let kubectl = cluster.kubectl();
    kubectl.apply(&pod("first")).unwrap();
    wait_ready(kubectl, "first");

    let service = kubectl.get(&["service", "kubernetes"]);
    let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let IpAddr::V4(address) = address else { panic!("{address} is not of version 4") };
    wait_for("the DNS to know the API server, by way of a Service and a pod", 30, || {
        let answer = resolve(cluster.dns(), "kubernetes.default.svc.cluster.local")?;
        answer.ends_with(&address.octets()).then_some(())
    });

    let version = kubectl.get(&["nodes"])["items"][0]["status"]["nodeInfo"]["kubeletVersion"].clone();
    assert!(version.as_str().unwrap().starts_with("v1.37."), "{version}");
    let logs = kubectl.run(&["logs", "-n", "kube-system", "deployment/coredns"]);
    assert!(logs.contains("CoreDNS-1."), "{logs}");

    let dns = kubectl.get(&["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"])["items"][0]["metadata"].clone();
    let text = |field: &str| dns[field].as_str().unwrap();
    let log = format!("{}/logs/kube-system_{}_{}/coredns/0.log", NODES[0], text("name"), text("uid"));
    kubectl.run(&["delete", "pod", text("name"), "-n", "kube-system", "--grace-period=1"]);
    let log = fs::read_to_string(cluster.folder().join(log)).unwrap();
    assert!(log.contains("CoreDNS-1."), "the log outlives its pod: {log}");

    leaves_nothing(cluster);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn two_nodes_reach_each_other_until_one_dies_and_leave_nothing() {
    let mut cluster = Cluster::start_two_nodes("pair");
    let kubectl = cluster.kubectl().clone();
    let pods = NODES.map(|node| {
        let name = format!("on-{node}");
        kubectl.apply(&pod_on(node, &name)).unwrap();
        wait_ready(&kubectl, &name);
        kubectl.get(&["pod", &name])
    });
    let ask = |from: &Value, url: &str| {
        let mut curl = command_in(from, "curl");
        let output = curl.args(["-sk", "--max-time", "3", "-w", " %{http_code}", url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // From the second node: a Service that is a process of the first, a pod of the first. The other way: the second node.
    let service = kubectl.get(&["service", "kubernetes"]);
    let url = format!("https://{}/readyz", service["spec"]["clusterIP"].as_str().unwrap());
    wait_for("a Service", 30, || (ask(&pods[1], &url) == "ok 200").then_some(()));
    let dns = kubectl.get(&["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"])["items"][0].clone();
    assert_eq!(dns["spec"]["nodeName"], NODES[0], "{dns}");
    let url = format!("http://{}:8181/ready", dns["status"]["podIP"].as_str().unwrap());
    wait_for("a pod", 30, || (ask(&pods[1], &url) == "OK 200").then_some(()));
    let node = kubectl.get(&["node", NODES[1]])["status"]["addresses"][0]["address"].clone();
    let kubelet = format!("https://{}:10250/healthz", node.as_str().unwrap());
    wait_for("a node", 30, || (ask(&pods[0], &kubelet) == "Unauthorized 401").then_some(()));
    kubectl.run(&["logs", &format!("on-{}", NODES[1])]);

    cluster.kill_second_node();
    assert_eq!(ask(&pods[0], &kubelet), " 000");
    kubectl.run(&["wait", "--for=condition=Ready=Unknown", "--timeout=40s", "node", NODES[1]]);
    let containers = |pod: &Value| pod["status"]["containerStatuses"].clone();
    let first = kubectl.get(&["pod", &format!("on-{}", NODES[0])]);
    assert_eq!(containers(&first), containers(&pods[0]), "the first lives on");
    leaves_nothing(cluster);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_outlive_what_runs_them() {
    let mut cluster = Cluster::start("parts");
    let kubectl = cluster.kubectl().clone();
    kubectl.apply(&pod("first")).unwrap();
    wait_ready(&kubectl, "first");
    let before = kubectl.get(&["pod", "first"])["status"]["containerStatuses"].clone();
    // Those that make pods come after what they ask: by themselves they may ask again after a minute only.
    use Part::{ApiServer, Containerd, ControllerManager, Etcd, Kubelet, Scheduler};
    for part in [ApiServer, Etcd, Containerd, Kubelet, ControllerManager, Scheduler] {
        cluster.stop_part(part);
        cluster.start_part(part);
    }
    // One that comes after it all shows that it all works.
    wait_for("the API server to take a pod", 60, || kubectl.apply(&pod("second")).ok());
    wait_ready(&kubectl, "second");
    assert_eq!(kubectl.get(&["pod", "first"])["status"]["containerStatuses"], before);
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn an_api_server_forgets_nothing_when_it_starts_again() {
    let mut server = ApiServer::start("again");
    server.kubectl().run(&["create", "namespace", "bank"]);
    server.restart();
    assert_eq!(server.kubectl().get(&["namespace", "bank"])["metadata"]["name"], "bank");
}

#[test]
#[ignore = "needs root: make test-cluster"]
fn what_is_missing_is_named_before_anything_is_built() {
    // As root is in a container that is not privileged.
    let mut able = Command::new("setpriv");
    let output = able.args(["--bounding-set=-sys_admin", env!("CARGO_BIN_EXE_cluster"), "able"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the right to make network namespaces"), "{said}");
    assert!(said.to_lowercase().contains("not permitted"), "the kernel's own word: {said}");

    // As in a clone without its history, or without git.
    let mut make = Command::new("make");
    let output = make.current_dir(repository()).args(["-s", "before-able", "BEFORE_COMMIT="]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("git fetch --unshallow"), "{said}");
}

#[test]
#[ignore = "needs the programs of a cluster: make test-cluster"]
fn an_image_is_the_same_bytes_each_time_and_never_lacks_libraries() {
    let scratch = Scratch::new("images");
    let pack = |archive: &str, program: &Path| {
        let archive = scratch.path().join(archive);
        let output = Command::new(repository().join("images/pack"))
            .args(["fapi-mesh.dev/pause:test".as_ref(), archive.as_os_str(), program.as_os_str()])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(fs::read(archive).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    };
    let pause = e2e::cluster::program("pause");
    let image = pack("first.tar", &pause).unwrap();
    assert_eq!(pack("second.tar", &pause), Ok(image));

    // This very test is not static.
    let said = pack("third.tar", &std::env::current_exe().unwrap()).unwrap_err();
    assert!(said.contains("is not static"), "{said}");
    let said = pack("fourth.tar", &repository().join("images/pack")).unwrap_err();
    assert!(said.contains("is no program of Linux"), "{said}");
}
