//! What somebody has who may make tokens for pods and read Secrets: certificates of pods, and so whatever the mesh lets them
//! have, and the keys of the mesh itself.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::platform::{HOME, Platform};
use crate::{Running, program};

/// The audience of enrolment tokens.
const AUDIENCE: &str = "--audience=fapi-mesh.dev";

/// A certificate for the pod of a deployment; the folder that it is in.
///
/// # Panics
/// If the operator gives none.
pub fn enrol(platform: &Platform, scratch: &Path, control: &str, (namespace, app): (&str, &str)) -> String {
    let kubectl = platform.kubectl();
    let token = token_of_pod(platform, namespace, app, &platform.pod(namespace, app), &[AUDIENCE]);
    let bundle = kubectl.get(&["configmap", "fapi-mesh-trust-bundle", "-n", namespace]);
    let (state, out) = (scratch.join(format!("{app}-state")), scratch.join(app));
    fs::create_dir_all(state.join("tokens").join(namespace)).unwrap();
    fs::write(state.join("tokens").join(namespace).join(format!("{app}.jwt")), token).unwrap();
    fs::write(state.join("trust-bundle.pem"), bundle["data"]["root.pem"].as_str().unwrap()).unwrap();
    let addresses = json!({"control": control, "issuer": "https://unused", "trust_domain": "bank.example"});
    fs::write(state.join("addresses.json"), addresses.to_string()).unwrap();
    let output = Command::new(program("fapictl"))
        .args(["identity", "--workload", &format!("{namespace}/{app}"), "--state"])
        .arg(&state)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.display().to_string()
}

/// A token of a service account that is bound to a pod.
///
/// # Panics
/// If kubectl gives none.
pub fn token_of_pod(platform: &Platform, namespace: &str, account: &str, pod: &Value, more: &[&str]) -> String {
    let pod = pod["metadata"]["name"].as_str().unwrap();
    let bound = ["create", "token", account, "-n", namespace, "--bound-object-kind=Pod", "--bound-object-name", pod];
    platform.kubectl().run(&[&bound[..], more].concat()).trim().to_owned()
}

/// A folder as `fapictl attack` wants it: where the mesh is, a token for each pod of the bank, the keys of the mesh, and the logs
/// as they grow, for as long as what is returned lives.
///
/// # Panics
/// If something of it is not to be had.
pub fn fill(folder: &Path, platform: &Platform) -> Vec<Running> {
    let kubectl = platform.kubectl();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    };
    let service = kubectl.get(&["service", "fapi-operator", "-n", HOME]);
    let operator = service["spec"]["clusterIP"].as_str().unwrap();
    let addresses = json!({
        "control": format!("{operator}:15010"), "issuer": format!("https://fapi-operator.{HOME}.svc:15011"),
        "issuer_address": format!("{operator}:15011"), "trust_domain": "bank.example",
    });
    write("addresses.json", &addresses.to_string());
    let bundle = kubectl.get(&["configmap", "fapi-mesh-trust-bundle", "-n", "bank"]);
    write("trust-bundle.pem", bundle["data"]["root.pem"].as_str().unwrap());
    for (secret, document, name) in [
        ("fapi-mesh-ca", "issuing.pem", "pki/issuing.pem"),
        ("fapi-mesh-ca", "issuing.key", "pki/issuing.key"),
        ("fapi-mesh-issuer", "keys.json", "issuer/keys.json"),
    ] {
        let template = format!("-o=go-template={{{{index .data \"{document}\" | base64decode}}}}");
        write(name, &kubectl.run(&["get", "secret", secret, "-n", HOME, &template]));
    }
    let refused = kubectl.get(&["fapiclient", "intruder", "-n", "outside"]);
    write("status/FapiClient/outside/intruder.yaml", &refused.to_string());

    let mut logs = Vec::new();
    let mut follow = |namespace: &str, target: &str, container: &str, file: String| {
        fs::create_dir_all(folder.join("logs")).unwrap();
        let mut command = kubectl.endless();
        command.args(["logs", "--follow", "-n", namespace, target, "-c", container]);
        logs.push(Running::start(command.stdout(File::create(folder.join("logs").join(file)).unwrap())));
    };
    follow(HOME, "deployment/fapi-operator", "operator", "operator.log".to_owned());
    let workloads = [("bank", "shop"), ("bank", "payments"), ("bank", "ledger"), ("outside", "intruder")];
    let workloads = workloads.map(|(namespace, app)| {
        let (pod, name) = (platform.pod(namespace, app), format!("{app}-1"));
        write(&format!("tokens/{namespace}/{name}.jwt"), &token_of_pod(platform, namespace, app, &pod, &[AUDIENCE]));
        let target = super::kubectl::target(&pod);
        follow(namespace, &target, "fapi-sidecar", format!("{name}.log"));
        follow(namespace, &target, "app", format!("{name}.app.log"));
        let at = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap());
        json!({
            "name": name, "namespace": namespace, "service_account": app, "inbound": at, "app": at,
            "outbound": "127.0.0.1:15002", "admin": "127.0.0.1:15000", "log": folder.join(format!("logs/{name}.log")),
        })
    });
    write("demo.json", &json!({"workloads": workloads}).to_string());
    logs
}

/// Asks an operator for a certificate, as no sidecar does: by curl, with any token and any request (PKCS#10, DER). The head of the
/// answer, and its body.
///
/// # Panics
/// If curl cannot be run.
pub fn ask_to_enrol(mut curl: Command, folder: &Path, control: &str, token: &str, csr: &[u8]) -> (String, Vec<u8>) {
    // `EnrollRequest` of crates/control/proto: two fields with lengths, in a message of gRPC.
    let mut message = Vec::new();
    for (tag, bytes) in [(0x0a, token.as_bytes()), (0x12, csr)] {
        message.push(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(u8::try_from(length % 0x80).unwrap() | 0x80);
            length /= 0x80;
        }
        message.push(u8::try_from(length).unwrap());
        message.extend(bytes);
    }
    let mut request = vec![0];
    request.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    request.extend(message);
    let (body, head) = (folder.join("request"), folder.join("head"));
    fs::write(&body, request).unwrap();
    let url = format!("https://{control}/fapi_mesh.control.v1.Control/Enroll");
    curl.args([
        "-sk",
        "--http2",
        "--max-time",
        "10",
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        "-D",
    ]);
    curl.arg(&head).arg("--data-binary").arg(format!("@{}", body.display())).arg(url);
    let answer = curl.output().unwrap().stdout;
    (fs::read_to_string(head).unwrap_or_default(), answer)
}

/// curl with the certificate of an identity folder; what it says.
///
/// # Panics
/// If it cannot be run.
pub fn curl(identity: Option<&str>, args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sk", "--max-time", "10", "--http1.1"]).args(args);
    for (flag, file) in [("--cert", "chain.pem"), ("--key", "key.pem")] {
        command.args(identity.map(|folder| [flag.to_owned(), format!("{folder}/{file}")]).into_iter().flatten());
    }
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}
