//! What the author of a pod asks for, by labels and annotations.

use control::pod::SIDECAR_ID;
use k8s_openapi::api::core::v1::Pod;

use super::{INJECT, Interception, Loosening, Namespace, Refusal, STATUS, Settings, Skip, quantity};

/// An annotation that authors of pods may write.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Its key.
    pub key: &'static str,
    /// What it may be.
    pub values: &'static str,
}

const PREFIX: &str = "fapi-mesh.dev/";
/// How calls come to the sidecar; `redirect` where it is not there.
pub const INTERCEPTION: &str = "fapi-mesh.dev/interception";
const LOG_LEVEL: &str = "fapi-mesh.dev/log-level";
const CPU_REQUEST: &str = "fapi-mesh.dev/cpu-request";
const CPU_LIMIT: &str = "fapi-mesh.dev/cpu-limit";
const MEMORY_REQUEST: &str = "fapi-mesh.dev/memory-request";
const MEMORY_LIMIT: &str = "fapi-mesh.dev/memory-limit";
/// What comes to the pod past the sidecar.
pub const SKIP_INBOUND: &str = "fapi-mesh.dev/skip-inbound-ports";
/// What leaves the pod past the sidecar.
pub const SKIP_OUTBOUND: &str = "fapi-mesh.dev/skip-outbound-ports";

/// User and group of the sidecar.
pub const UID: &str = "fapi-mesh.dev/uid";

const CPU: &str = "processor time, such as 100m or 2";
const MEMORY: &str = "memory, such as 64Mi";
const IDS: &str = "a number from 1 to 2147483647";
const PORTS: &str = "udp/PORT or sctp/PORT, several with commas; TCP always goes to the sidecar";

/// All of them.
pub const ANNOTATIONS: [Annotation; 10] = [
    Annotation { key: INJECT, values: "enabled or disabled" },
    Annotation { key: INTERCEPTION, values: "redirect or proxy" },
    Annotation { key: LOG_LEVEL, values: "error, warn, info, debug or trace" },
    Annotation { key: CPU_REQUEST, values: CPU },
    Annotation { key: CPU_LIMIT, values: CPU },
    Annotation { key: MEMORY_REQUEST, values: MEMORY },
    Annotation { key: MEMORY_LIMIT, values: MEMORY },
    Annotation { key: SKIP_INBOUND, values: PORTS },
    Annotation { key: SKIP_OUTBOUND, values: PORTS },
    Annotation { key: UID, values: IDS },
];

/// What is asked of the sidecar of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) interception: Interception,
    pub(super) log_level: Option<String>,
    pub(super) cpu_request: Option<String>,
    pub(super) cpu_limit: Option<String>,
    pub(super) memory_request: Option<String>,
    pub(super) memory_limit: Option<String>,
    pub(super) skip_inbound: Option<String>,
    pub(super) skip_outbound: Option<String>,
    /// User and group of the sidecar.
    pub(super) id: u32,
}

/// What is said about a sidecar: by the namespace, and by label and annotation of the pod.
fn words<'a>(pod: &'a Pod, namespace: &'a Namespace) -> [Option<&'a str>; 3] {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT));
    [namespace.labels.get(INJECT), label, annotation(pod, INJECT)].map(|word| word.map(String::as_str))
}

/// Whether a pod is to have a sidecar. One that says no to it, allowed or not, is not.
pub(super) fn asks(pod: &Pod, namespace: &Namespace) -> bool {
    let words = words(pod, namespace);
    words.contains(&Some("enabled")) && !words.iter().skip(1).any(|word| *word == Some("disabled"))
}

/// Whether a sidecar is wanted: `None` if so.
pub(super) fn wish(pod: &Pod, settings: &Settings, namespace: &Namespace) -> Result<Option<Skip>, Refusal> {
    let words = words(pod, namespace);
    let [_, of_pod @ ..] = words;
    if !words.contains(&Some("enabled")) {
        return Ok(Some(Skip::NotRequested));
    }
    if let Some(value) = of_pod.into_iter().flatten().find(|word| !["enabled", "disabled"].contains(word)) {
        return Err(invalid(INJECT, value, "enabled or disabled"));
    }
    match of_pod.contains(&Some("disabled")) {
        true if settings.allowed.allows(Loosening::OptOut, &namespace.name) => Ok(Some(Skip::OptedOut)),
        true => Err(not_allowed(INJECT, Loosening::OptOut, namespace)),
        false => Ok(None),
    }
}

/// Reads the settings of a pod that wants a sidecar. What cannot be read is refused, so its default here is never used.
pub(super) fn read(pod: &Pod, settings: &Settings, namespace: &Namespace, refusals: &mut Vec<Refusal>) -> Asked {
    let mut reader = Reader { pod, refusals };
    let asked = Asked {
        interception: match reader
            .one_of(INTERCEPTION, "redirect or proxy", |value| ["redirect", "proxy"].contains(&value))
        {
            Some(mode) if mode == "proxy" => Interception::Proxy,
            _ => Interception::Redirect,
        },
        log_level: reader.one_of(LOG_LEVEL, "error, warn, info, debug or trace", |value| {
            ["error", "warn", "info", "debug", "trace"].contains(&value)
        }),
        cpu_request: reader.amount(CPU_REQUEST, CPU),
        cpu_limit: reader.amount(CPU_LIMIT, CPU),
        memory_request: reader.amount(MEMORY_REQUEST, MEMORY),
        memory_limit: reader.amount(MEMORY_LIMIT, MEMORY),
        skip_inbound: reader.one_of(SKIP_INBOUND, PORTS, are_ports),
        skip_outbound: reader.one_of(SKIP_OUTBOUND, PORTS, are_ports),
        id: reader.one_of(UID, IDS, |value| id(value).is_some()).and_then(|value| id(&value)).unwrap_or(SIDECAR_ID),
    };
    refusals.extend(above(CPU_REQUEST, asked.cpu_request.as_deref(), asked.cpu_limit.as_deref()));
    refusals.extend(above(MEMORY_REQUEST, asked.memory_request.as_deref(), asked.memory_limit.as_deref()));
    let loosening =
        [(SKIP_INBOUND, Loosening::SkipPorts), (SKIP_OUTBOUND, Loosening::SkipPorts), (UID, Loosening::Uid)];
    for (key, loosening) in loosening.into_iter().filter(|(key, _)| annotation(pod, key).is_some()) {
        if !settings.allowed.allows(loosening, &namespace.name) {
            refusals.push(not_allowed(key, loosening, namespace));
        }
    }
    asked
}

/// Keys that begin as ours do and mean nothing: probably misspelt.
pub(super) fn warnings(pod: &Pod) -> Vec<String> {
    let keys = pod.metadata.annotations.iter().flatten().map(|(key, _)| key.as_str());
    let ours = keys.filter(|key| key.starts_with(PREFIX) && *key != STATUS);
    let unknown = ours.filter(|key| ANNOTATIONS.iter().all(|annotation| annotation.key != *key));
    unknown
        .map(|key| {
            let nearest = ANNOTATIONS.iter().min_by_key(|annotation| distance(annotation.key, key));
            let nearest = nearest.map_or(INJECT, |annotation| annotation.key);
            format!("annotation {key} means nothing to the mesh; did you mean {nearest}?")
        })
        .collect()
}

struct Reader<'a> {
    pod: &'a Pod,
    refusals: &'a mut Vec<Refusal>,
}

impl Reader<'_> {
    fn one_of(&mut self, key: &'static str, wanted: &str, good: impl Fn(&str) -> bool) -> Option<String> {
        let value = annotation(self.pod, key)?;
        if good(value) {
            return Some(value.clone());
        }
        self.refusals.push(invalid(key, value, wanted));
        None
    }

    fn amount(&mut self, key: &'static str, wanted: &str) -> Option<String> {
        self.one_of(key, wanted, |value| quantity::thousandths(value).is_some())
    }
}

/// A request that is greater than its limit: no container can be made so.
fn above(key: &'static str, request: Option<&str>, limit: Option<&str>) -> Option<Refusal> {
    let (request, limit) = (request?, limit?);
    let above = quantity::thousandths(request)? > quantity::thousandths(limit)?;
    above.then(|| invalid(key, request, &format!("at most the limit, {limit}")))
}

fn are_ports(list: &str) -> bool {
    let is_port = |text: &str| {
        let port = text.strip_prefix("udp/").or_else(|| text.strip_prefix("sctp/"));
        port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0)
    };
    list.split(',').all(is_port)
}

/// What Kubernetes takes for a user or a group, but root.
fn id(text: &str) -> Option<u32> {
    // `parse` alone would take `+1` and `01`.
    let id = text.parse().ok().filter(|id: &u32| id.to_string() == text)?;
    (1..=i32::MAX.unsigned_abs()).contains(&id).then_some(id)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a String> {
    pod.metadata.annotations.as_ref()?.get(key)
}

fn invalid(key: &'static str, value: &str, wanted: &str) -> Refusal {
    Refusal::AnnotationInvalid { key, value: value.to_owned(), wanted: wanted.to_owned() }
}

fn not_allowed(key: &'static str, loosening: Loosening, namespace: &Namespace) -> Refusal {
    Refusal::AnnotationNotAllowed { key, loosening, namespace: namespace.name.clone() }
}

/// How many letters have to be changed, added or removed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for ((j, right), (above, diagonal)) in b.bytes().enumerate().zip(row.iter().skip(1).zip(&row)) {
            let before = next.get(j).copied().unwrap_or_default();
            next.push((before + 1).min(above + 1).min(diagonal + usize::from(left != right)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
