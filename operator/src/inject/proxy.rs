//! Explicit proxy: the app's HTTP library is told by the environment to call through the sidecar.

use control::pod::PROXY_PORT;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::Refusal;

/// Libraries read one spelling or the other.
const PROXY: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// What the app asks of itself needs no sidecar.
const LOOPBACK: &str = "localhost,127.0.0.1,::1";

fn address() -> String {
    format!("http://127.0.0.1:{PROXY_PORT}")
}

/// Has every container of the app call through the sidecar. A list of exceptions that is there stays.
pub(super) fn set(pod: &mut Pod, refusals: &mut Vec<Refusal>) {
    for container in containers(pod) {
        let variables = container.env.get_or_insert_default();
        for name in PROXY {
            match variables.iter().find(|variable| variable.name == name) {
                None => variables.push(variable(name, &address())),
                Some(found) if *found == variable(name, &address()) => {}
                Some(_) => refusals
                    .push(Refusal::ProxyVariable { container: container.name.clone(), variable: name.to_owned() }),
            }
        }
        if !variables.iter().any(|variable| NO_PROXY.contains(&variable.name.as_str())) {
            variables.extend(NO_PROXY.map(|name| variable(name, LOOPBACK)));
        }
    }
}

/// Takes out what [`set`] put in.
pub(super) fn remove(pod: &mut Pod) {
    let address = address();
    let proxy = PROXY.map(|name| variable(name, &address));
    let exceptions = NO_PROXY.map(|name| variable(name, LOOPBACK));
    for container in containers(pod) {
        let Some(variables) = &mut container.env else { continue };
        if proxy.iter().all(|variable| variables.contains(variable)) {
            variables.retain(|variable| !proxy.contains(variable) && !exceptions.contains(variable));
            container.env = container.env.take().filter(|variables| !variables.is_empty());
        }
    }
}

fn containers(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    pod.spec.iter_mut().flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(&mut spec.containers))
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}
