//! Pods of every shape, the same for the same seed.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value as Json, json};

/// A small generator of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.roll(list.len() as u64)).unwrap()]
    }
}

pub(super) fn pod(seed: u64) -> Pod {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut metadata = json!({"name": "p", "namespace": "bank"});
    if dice.one_in(2) {
        metadata["annotations"] =
            json!({"fapi-mesh.dev/interception": dice.pick(&["proxy", "redirect"]), "other/x": "1"});
    }
    if dice.one_in(3) {
        metadata["annotations"]["fapi-mesh.dev/memory-request"] = json!(dice.pick(&["16Mi", "1Gi", "0.5G"]));
    }
    let mut spec = json!({});
    spec["containers"] = (0..=dice.roll(3)).map(|at| container(&mut dice, format!("c{at}"), true)).collect();
    if dice.one_in(2) {
        spec["initContainers"] = (0..=dice.roll(2))
            .map(|at| {
                let stays = dice.one_in(2);
                let mut container = container(&mut dice, format!("i{at}"), stays);
                if stays {
                    container["restartPolicy"] = json!("Always");
                }
                container
            })
            .collect();
    }
    if dice.one_in(3) {
        spec["volumes"] = json!([{"name": "data", "emptyDir": {}}, {"name": "more", "configMap": {"name": "m"}}]);
    }
    if dice.one_in(4) {
        spec["terminationGracePeriodSeconds"] = json!(dice.roll(7200));
    }
    if dice.one_in(4) {
        spec["securityContext"] = json!({"runAsUser": dice.pick(&[1000, 15100]), "fsGroup": 2000});
    }
    for flag in ["hostNetwork", "hostPID", "shareProcessNamespace"] {
        if dice.one_in(20) {
            spec[flag] = json!(dice.one_in(2));
        }
    }
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn container(dice: &mut Dice, name: String, probed: bool) -> Json {
    let mut container = json!({"name": name, "image": "app"});
    if dice.one_in(2) {
        container["ports"] = json!([{"name": "http", "containerPort": 8080}, {"containerPort": 9090}]);
    }
    if dice.one_in(3) {
        container["env"] =
            json!([{"name": "A", "value": "1"}, {"name": dice.pick(&["NO_PROXY", "B", "HTTP_PROXY"]), "value": "x"}]);
    }
    if dice.one_in(8) {
        let capability = dice.pick(&["NET_BIND_SERVICE", "NET_RAW", "SYS_PTRACE"]);
        container["securityContext"] = json!({"capabilities": {"add": [capability]}, "privileged": dice.one_in(5)});
    }
    if probed {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if dice.one_in(2) {
                container[probe] = self::probe(dice);
            }
        }
        if dice.one_in(3) {
            container["lifecycle"] = json!({"preStop": hook(dice)});
        }
        if dice.one_in(4) {
            container["lifecycle"]["postStart"] = hook(dice);
        }
    }
    container
}

fn probe(dice: &mut Dice) -> Json {
    let mut probe = match dice.roll(4) {
        0 => json!({"httpGet": http(dice)}),
        1 => json!({"tcpSocket": {"port": dice.pick(&[8080, 9090])}}),
        2 => json!({"grpc": {"port": 9090, "service": dice.pick(&["", "ledger"])}}),
        _ => json!({"exec": {"command": ["true"]}}),
    };
    let mut settings = Map::new();
    for setting in ["timeoutSeconds", "periodSeconds", "failureThreshold"] {
        if dice.one_in(2) {
            settings.insert(setting.to_owned(), json!(dice.roll(10)));
        }
    }
    probe.as_object_mut().unwrap().extend(settings);
    probe
}

fn hook(dice: &mut Dice) -> Json {
    match dice.roll(3) {
        0 => json!({"httpGet": http(dice)}),
        1 => json!({"sleep": {"seconds": 1}}),
        _ => json!({"exec": {"command": ["true"]}}),
    }
}

fn http(dice: &mut Dice) -> Json {
    let mut action = json!({"port": dice.pick(&[json!(8080), json!(9090), json!("http"), json!("gone")])});
    if dice.one_in(2) {
        action["path"] = json!(dice.pick(&["/", "/healthz?x=1", "", "he alth"]));
    }
    if dice.one_in(3) {
        action["scheme"] = json!(dice.pick(&["HTTP", "HTTPS"]));
    }
    if dice.one_in(4) {
        action["httpHeaders"] = json!([{"name": "Host", "value": "a"}, {"name": "X", "value": "b"}]);
    }
    if dice.one_in(12) {
        action["host"] = json!("outside.example");
    }
    action
}
