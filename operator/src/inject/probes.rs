//! Probes and hooks of the app: the kubelet asks the sidecar, which asks the app and tells the status alone.
//!
//! A probe of another host than the pod is none of the sidecar's business; commands run inside the app's container. The path of a
//! hook has a part that nobody guesses, as everybody may ask at the health port.

use std::collections::BTreeMap;

use control::pod::HEALTH_PORT;
use control::pod::probes::{
    self, GrpcProbe, HookSecret, HttpProbe, LONGEST, Probe, ProbeHeader, ProbeKind, Probes, Scheme, TcpProbe,
};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::{
    self as api, Container, ContainerPort, GRPCAction, HTTPGetAction, HTTPHeader, LifecycleHandler, Pod,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Refusal;

/// What Kubernetes gives a pod to end, if it asks for nothing else.
const GRACE: i64 = 30;

/// Sends every probe to the sidecar. Returns what the sidecar has to perform; `known` is what it was told before, for the
/// probes that were sent to it already. Hooks get the secret that the pod has, else `fresh`.
pub(super) fn rewrite(pod: &mut Pod, known: &Probes, fresh: HookSecret, refusals: &mut Vec<Refusal>) -> Probes {
    let secret = known.keys().find_map(|path| probes::Place::at(path)?.secret).unwrap_or(fresh);
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(GRACE);
    let mut probes = Probes::new();
    visit(pod, |place, ports, mut site| {
        let probe = match site.rewritten(&place) {
            Some(path) => Ok(known.get(path).cloned()),
            None => site.read(&place, ports, place.default_timeout(grace)),
        };
        match probe {
            Ok(None) => {}
            Ok(Some(probe)) => {
                let path = place.kind.path(place.container, &secret);
                site.write(&Probe::Http(on_health_port(&path)));
                probes.insert(path, probe);
            }
            Err(refusal) => refusals.push(refusal),
        }
    });
    probes
}

/// Puts the probes back as they were.
pub(super) fn restore(pod: &mut Pod, probes: &Probes) {
    visit(pod, |place, _, mut site| {
        if let Some(probe) = site.rewritten(&place).and_then(|path| probes.get(path)) {
            site.write(probe);
        }
    });
}

/// Where a probe stands.
struct Place<'a> {
    container: &'a str,
    kind: ProbeKind,
    /// For people.
    field: &'static str,
}

impl Place<'_> {
    /// Seconds for the app, where its author says none.
    fn default_timeout(&self, grace: i64) -> u32 {
        match self.kind {
            // The kubelet waits for ever; nothing of ours does.
            ProbeKind::PostStart => LONGEST,
            ProbeKind::PreStop => u32::try_from(grace).unwrap_or(1).clamp(1, LONGEST),
            _ => 1,
        }
    }

    fn unsendable(&self, header: &str) -> Refusal {
        let (container, probe) = (self.container.to_owned(), self.field);
        Refusal::ProbeHeader { container, probe, header: header.to_owned() }
    }

    fn unspoken(&self, protocol: &str) -> Refusal {
        let (container, probe) = (self.container.to_owned(), self.field);
        Refusal::ProbeProtocol { container, probe, protocol: protocol.to_owned() }
    }
}

/// A probe or hook that can be read and written.
enum Site<'a> {
    Probe(&'a mut api::Probe),
    Hook(&'a mut LifecycleHandler),
}

fn visit(pod: &mut Pod, mut each: impl FnMut(Place<'_>, &[ContainerPort], Site<'_>)) {
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let Container { name, ports, liveness_probe, readiness_probe, startup_probe, lifecycle, .. } = container;
        let ports = ports.as_deref().unwrap_or_default();
        let probes = [
            (ProbeKind::Liveness, "livenessProbe", liveness_probe),
            (ProbeKind::Readiness, "readinessProbe", readiness_probe),
            (ProbeKind::Startup, "startupProbe", startup_probe),
        ];
        for (kind, field, probe) in probes {
            if let Some(probe) = probe {
                each(Place { container: name, kind, field }, ports, Site::Probe(probe));
            }
        }
        let Some(lifecycle) = lifecycle else { continue };
        let hooks = [
            (ProbeKind::PostStart, "lifecycle.postStart", &mut lifecycle.post_start),
            (ProbeKind::PreStop, "lifecycle.preStop", &mut lifecycle.pre_stop),
        ];
        for (kind, field, hook) in hooks {
            if let Some(hook) = hook {
                each(Place { container: name, kind, field }, ports, Site::Hook(hook));
            }
        }
    }
}

impl Site<'_> {
    fn http(&self) -> Option<&HTTPGetAction> {
        match self {
            Self::Probe(probe) => probe.http_get.as_ref(),
            Self::Hook(hook) => hook.http_get.as_ref(),
        }
    }

    /// The path that an injection wrote here, be it an earlier one whose hooks had no secret.
    fn rewritten(&self, place: &Place<'_>) -> Option<&str> {
        let action = self.http().filter(|action| action.port == IntOrString::Int(i32::from(HEALTH_PORT)))?;
        let path = action.path.as_deref()?;
        let names = probes::Place::at(path)?;
        ((names.container, names.kind) == (place.container, place.kind)).then_some(path)
    }

    /// What is asked of the app; `None` if nothing is that the sidecar could ask.
    fn read(&self, place: &Place<'_>, ports: &[ContainerPort], default: u32) -> Result<Option<Probe>, Refusal> {
        let is_here = |host: &Option<String>| host.as_ref().is_none_or(String::is_empty);
        let port = |port: &IntOrString| resolve(place, ports, port);
        let (tcp, grpc, timeout) = match self {
            Self::Probe(probe) => {
                let given = probe.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok());
                (probe.tcp_socket.as_ref(), probe.grpc.as_ref(), given.filter(|seconds| *seconds > 0))
            }
            // Kubernetes performs no other hook over the network.
            Self::Hook(_) => (None, None, None),
        };
        let timeout = timeout.unwrap_or(default);
        if let Some(action) = self.http().filter(|action| is_here(&action.host)) {
            return Ok(Some(Probe::Http(http(place, action, port(&action.port)?, timeout)?)));
        }
        if let Some(action) = tcp.filter(|action| is_here(&action.host)) {
            return Ok(Some(Probe::Tcp(TcpProbe { port: port(&action.port)?, timeout })));
        }
        if let Some(action) = grpc {
            if let Some(mode) = action.mode.as_ref().filter(|mode| *mode != "Plaintext") {
                return Err(place.unspoken(mode));
            }
            let service = action.service.clone().unwrap_or_default();
            return Ok(Some(Probe::Grpc(GrpcProbe { port: port(&IntOrString::Int(action.port))?, service, timeout })));
        }
        Ok(None)
    }

    fn write(&mut self, probe: &Probe) {
        let port = |port: u16| IntOrString::Int(i32::from(port));
        let (http, tcp, grpc) = match probe {
            Probe::Http(probe) => (Some(action(probe)), None, None),
            Probe::Tcp(probe) => (None, Some(TCPSocketAction { port: port(probe.port), host: None }), None),
            Probe::Grpc(probe) => {
                // The API server writes the empty name itself.
                let service = Some(probe.service.clone());
                (None, None, Some(GRPCAction { port: i32::from(probe.port), service, mode: None }))
            }
        };
        match self {
            Self::Probe(site) => (site.http_get, site.tcp_socket, site.grpc) = (http, tcp, grpc),
            Self::Hook(site) => (site.http_get, site.tcp_socket) = (http, tcp),
        }
    }
}

fn http(place: &Place<'_>, action: &HTTPGetAction, port: u16, timeout: u32) -> Result<HttpProbe, Refusal> {
    if let Some(protocol) = &action.protocol {
        return Err(place.unspoken(protocol));
    }
    // As it is given: the sidecar makes of it what a kubelet would.
    let path = action.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    let scheme = if action.scheme.as_deref() == Some("HTTPS") { Scheme::Https } else { Scheme::Http };
    let headers = action.http_headers.iter().flatten();
    let header = |header: &HTTPHeader| match (HeaderName::try_from(&header.name), HeaderValue::try_from(&header.value))
    {
        (Ok(_), Ok(_)) => Ok(ProbeHeader { name: header.name.clone(), value: header.value.clone() }),
        _ => Err(place.unsendable(&header.name)),
    };
    Ok(HttpProbe { port, path, scheme, headers: headers.map(header).collect::<Result<_, _>>()?, timeout })
}

/// Every field that the API server would fill in is there, so that it changes nothing.
fn action(probe: &HttpProbe) -> HTTPGetAction {
    let header = |header: &ProbeHeader| HTTPHeader { name: header.name.clone(), value: header.value.clone() };
    let headers: Vec<_> = probe.headers.iter().map(header).collect();
    HTTPGetAction {
        host: None,
        http_headers: Some(headers).filter(|headers| !headers.is_empty()),
        path: Some(probe.path.clone()),
        port: IntOrString::Int(i32::from(probe.port)),
        protocol: None,
        scheme: Some(if probe.scheme == Scheme::Https { "HTTPS" } else { "HTTP" }.to_owned()),
    }
}

fn on_health_port(path: &str) -> HttpProbe {
    HttpProbe { port: HEALTH_PORT, path: path.to_owned(), scheme: Scheme::Http, headers: Vec::new(), timeout: 1 }
}

/// A port by number, or by its name in the same container.
fn resolve(place: &Place<'_>, ports: &[ContainerPort], port: &IntOrString) -> Result<u16, Refusal> {
    let named: BTreeMap<_, _> =
        ports.iter().filter_map(|port| Some((port.name.as_deref()?, port.container_port))).collect();
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => named.get(name.as_str()).copied(),
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        let port = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name.clone(),
        };
        Refusal::ProbePort { container: place.container.to_owned(), probe: place.field, port }
    })
}
