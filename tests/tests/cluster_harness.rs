//! The clusters that other tests stand on: they work, and nothing of them stays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::cluster::{ApiServer, Cluster, Kubectl, Part};
use e2e::{Running, living, wait_for};
use serde_json::json;

/// Where a helper of a test writes the folder of its API server.
const ABANDONED: &str = "FAPI_CLUSTER_ABANDONED";

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
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "pause", "image": "fapi-mesh.dev/pause:test", "imagePullPolicy": "Never"},
    ]}})
    .to_string()
}

fn wait_ready(kubectl: &Kubectl, name: &str) {
    kubectl.run(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("pod/{name}")]);
}

/// Everything that the machine still knows about a cluster.
fn traces(folder: &Path) -> Vec<String> {
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
    found
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

    let folder = cluster.folder().to_path_buf();
    assert!(!traces(&folder).is_empty(), "what is looked for must be what is there");
    drop(cluster);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_outlive_what_runs_them() {
    let mut cluster = Cluster::start("parts");
    let kubectl = cluster.kubectl().clone();
    kubectl.apply(&pod("first")).unwrap();
    wait_ready(&kubectl, "first");
    let before = kubectl.get(&["pod", "first"])["status"]["containerStatuses"].clone();
    for part in [Part::ApiServer, Part::Etcd, Part::Containerd, Part::Kubelet] {
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

/// Not a test by itself: the process that the next one kills.
#[test]
#[ignore = "needs an API server: make test-cluster"]
fn is_killed_while_it_has_an_api_server() {
    let Some(file) = std::env::var_os(ABANDONED) else { return };
    let server = ApiServer::start("abandoned");
    let folder = server.kubectl().kubeconfig().parent().unwrap().to_str().unwrap().to_owned();
    fs::write(&file, folder).unwrap();
    wait_for("being killed", 120, || None::<()>);
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn what_a_killed_test_left_goes_when_the_next_one_starts() {
    let scratch = e2e::Scratch::new("abandoned");
    let file = scratch.path().join("folder");
    let mut helper = Running::start(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "is_killed_while_it_has_an_api_server"])
            .env(ABANDONED, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let folder = wait_for("an API server to be abandoned", 150, || {
        assert!(helper.ended().is_none(), "the helper has ended by itself");
        fs::read_to_string(&file).ok().filter(|folder| !folder.is_empty())
    });
    helper.kill();
    let folder = Path::new(&folder);
    assert_eq!(living(folder).len(), 2, "etcd and the API server live on");
    drop(ApiServer::start("next"));
    assert_eq!(living(folder), []);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "needs the programs of a cluster: make test-cluster"]
fn an_image_is_the_same_bytes_each_time_and_never_lacks_libraries() {
    let scratch = e2e::Scratch::new("images");
    let pack = |archive: &str, program: &Path| {
        let archive = scratch.path().join(archive);
        let output = Command::new(e2e::repository().join("images/pack"))
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
}
