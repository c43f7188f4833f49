//! Calls of the bank that `examples/kubernetes` has in a cluster.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Who calls payments.
pub const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";
/// Who calls ledger.
pub const PAYMENTS: &str = "spiffe://bank.example/ns/bank/sa/payments";

/// Has an app call the service that it calls, with or without a token that it should not have.
///
/// # Panics
/// If the app does not answer; whom it calls may.
pub fn call(app: SocketAddr, authorization: Option<&str>) -> Value {
    try_call(app, authorization).unwrap_or_else(|error| panic!("the app does not answer: {error}"))
}

/// As [`call`].
///
/// # Errors
/// If the app does not answer in time, or with something else.
pub fn try_call(app: SocketAddr, authorization: Option<&str>) -> io::Result<Value> {
    let header = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    ask(app, &format!("GET /call/http1 HTTP/1.1\r\nhost: app\r\n{header}connection: close\r\n\r\n"))
}

/// What an app says at a path.
///
/// # Errors
/// If the app does not answer in time, or with something else than JSON.
pub fn said_at(app: SocketAddr, path: &str) -> io::Result<Value> {
    ask(app, &format!("GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n"))
}

/// The answer; a forwarded port is slow to say that a connection has ended, so that is not waited for.
fn ask(address: SocketAddr, request: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let (mut stream, mut length) = (BufReader::new(stream), None);
    for line in stream.by_ref().lines() {
        let line = line?.to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Whether a call went through both hops, each app saw who called it, and none saw a token.
pub fn passed(said: &Value) -> bool {
    let (payments, ledger) = (&said["answer"], &said["answer"]["next"]);
    let told = |hop: &Value, app: &str, caller: &str| hop["app"] == app && hop["told"]["caller"] == caller;
    let met = said["status"] == 200 && told(payments, "payments", SHOP) && told(ledger, "ledger", PAYMENTS);
    met && !said.to_string().to_lowercase().contains("authorization")
}

/// Whether a call of an app passes now, as [`passed`] says; one that does not answer makes none.
pub fn passes(app: SocketAddr) -> bool {
    try_call(app, None).is_ok_and(|said| passed(&said))
}

/// What an app says of a call that ends with this status now; nothing of another, and nothing if it does not answer.
pub fn ends_with(app: SocketAddr, status: u16) -> Option<Value> {
    try_call(app, None).ok().filter(|said| said["status"] == status)
}

/// Whether a call of an app, which answers, is refused now.
pub fn is_refused(app: SocketAddr) -> bool {
    try_call(app, None).is_ok_and(|said| said["status"].as_u64().is_some_and(|status| status >= 400))
}

/// As [`passed`], for one that must.
///
/// # Panics
/// If it did not.
pub fn check_passed(said: &Value) {
    assert!(passed(said), "{said}");
}

/// A pod with the app of the demo, which calls `http://SERVICE`.
pub fn caller(name: &str, namespace: &str, service: &str, annotations: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "app", "image": "fapi-mesh.dev/fapictl:0.1.0",
            "args": ["app", format!("--name={name}"), "--listen=0.0.0.0:8080", format!("--calls=http://{service}")],
            // A forwarded port ends with the first connection that the app does not take.
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        }]},
    })
    .to_string()
}
