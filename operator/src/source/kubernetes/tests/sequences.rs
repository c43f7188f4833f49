//! Whatever happens in a cluster, and however it is told, ends in what a look at the cluster would give.

use std::collections::BTreeMap;

use control::Order;
use kube::core::DynamicObject;
use serde_json::Value as Json;

use super::super::facts;
use super::super::objects::{Change, News, Objects};
use super::super::watched::Watched;
use super::world::{bare, pod, service, slice, watched};
use crate::model::Model;
use crate::source::Desired;
use crate::testing::{Dice, domain};
use crate::view::View;

/// A cluster as it is, and what its watches have yet to tell.
struct Cluster {
    dice: Dice,
    version: u64,
    objects: BTreeMap<(Watched, String, String), Json>,
    untold: BTreeMap<Watched, Vec<News>>,
    told: Vec<News>,
}

/// Objects that could stand in a small cluster: some before the same pods, some broken, some of one name and another shape,
/// some in another namespace.
fn any_object(dice: &mut Dice) -> String {
    let object = any_object_of_bank(dice);
    match dice.below(4) {
        0 => object
            .replace("namespace: bank", "namespace: web")
            .replace("Namespace, name: bank", "Namespace, name: web")
            .replace("uid-of-", "uid-of-web-"),
        _ => object,
    }
}

fn any_object_of_bank(dice: &mut Dice) -> String {
    let name = dice.pick(&["a", "b", "c"]);
    let app = dice.pick(&["a", "b"]);
    let address = dice.pick(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let conditions = dice.pick(&["ready: true", "ready: false", "ready: false, serving: true, terminating: true"]);
    match dice.below(12) {
        0 | 1 => pod(name, app, address),
        2 => bare(name, app, address),
        3 => pod(name, app, address).replace("containerPort: 8080", "containerPort: 9090"),
        4 => pod(name, app, address).replace("Running", dice.pick(&["Failed", "Pending"])),
        5 => service(name, app, &address.replace("10.0", "10.96")),
        6 => service(name, app, "None").replace("  selector: {app:", "  x: {app:"),
        7 => slice(name, dice.pick(&["a", "b", "c"]), address, conditions),
        8 => {
            let (name, asks) = (dice.pick(&["a", "bank", "web"]), dice.pick(&["enabled", "disabled"]));
            format!("kind: Namespace\nmetadata: {{name: {name}, labels: {{fapi-mesh.dev/inject: {asks}}}}}\n")
        }
        9 => format!(
            "kind: FapiClient\nmetadata: {{name: {name}, namespace: bank}}\nspec: {{serviceAccountName: {name}, \
             targets: [{{serviceName: {app}}}]}}\n"
        ),
        10 => {
            let allowed = dice.pick(&["bank", "web"]);
            format!(
                "kind: FapiIssuer\nmetadata: {{name: as}}\nspec: {{issuer: \"https://as.example\", allow: [{{namespace: \
                 {allowed}, audiences: [\"https://api.example\"]}}], clients: [{{clientId: {name}, callers: \
                 [{{namespace: bank}}]}}]}}\n"
            )
        }
        _ => {
            let target = dice.pick(&["{name: a}", "{name: b, sectionName: web}", "{kind: Namespace, name: bank}", "7"]);
            // Audiences stand for one Service.
            let outside = target.starts_with("{name") && dice.below(2) == 0;
            let issuers = if outside {
                ", issuers: [{name: mesh}, {name: as, audiences: [\"https://api.example\"]}]"
            } else {
                ""
            };
            format!(
                "kind: FapiPolicy\nmetadata: {{name: {name}, namespace: bank, creationTimestamp: \
                 \"2026-01-0{}T00:00:00Z\"}}\nspec: {{targetRefs: [{target}]{issuers}}}\n",
                1 + dice.below(9)
            )
        }
    }
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self { dice, version: 1, objects: BTreeMap::new(), untold: BTreeMap::new(), told: Vec::new() }
    }

    fn happen(&mut self, watched: Watched, change: Change) {
        self.version += 1;
        self.untold.entry(watched).or_default().push(News { watched, change, version: self.version });
    }

    /// Something is created, changed or deleted.
    fn step(&mut self) {
        if self.dice.below(4) == 0 && !self.objects.is_empty() {
            let at = self.dice.below(self.objects.len());
            let id = self.objects.keys().nth(at).unwrap().clone();
            return self.delete(&id);
        }
        let mut object: Json = serde_saphyr::from_str(&any_object(&mut self.dice)).unwrap();
        let metadata = &object["metadata"];
        let name = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let id = (watched(&object), name("namespace"), name("name"));
        // An object keeps its uid for as long as it is there.
        let uid = match self.objects.get(&id) {
            _ if id.0 == Watched::Pod => metadata["uid"].clone(),
            Some(before) => before["metadata"]["uid"].clone(),
            None => format!("uid-{}", self.version).into(),
        };
        object["metadata"]["uid"] = uid;
        object["metadata"]["generation"] = self.version.into();
        self.objects.insert(id.clone(), object.clone());
        let (key, fact) = read(id.0, object);
        self.happen(id.0, Change::Put(key, fact));
    }

    fn delete(&mut self, id: &(Watched, String, String)) {
        let object = self.objects.remove(id).unwrap();
        self.happen(id.0, Change::Gone(read(id.0, object).0));
    }

    /// What a list of one kind is now.
    fn list(&self, kind: Watched) -> News {
        let of_kind = self.objects.iter().filter(|(id, _)| id.0 == kind);
        let all = of_kind.map(|(_, object)| read(kind, object.clone())).collect();
        News { watched: kind, change: Change::Listed(all), version: self.version }
    }

    /// One watch tells what is next, or again what it told before, or has to begin anew. Sometimes the model is asked for then.
    fn tell(&mut self, objects: &mut Objects) -> Option<Model> {
        let kind = self.dice.pick(&Watched::ALL);
        let news = match self.dice.below(12) {
            0 => {
                self.untold.remove(&kind);
                self.list(kind)
            }
            1 | 2 if !self.told.is_empty() => self.dice.pick(&self.told),
            _ => match self.untold.get_mut(&kind).filter(|untold| !untold.is_empty()) {
                Some(untold) => untold.remove(0),
                None => return None,
            },
        };
        if !matches!(news.change, Change::Listed(_)) {
            self.told.push(news.clone());
        }
        objects.take(news);
        (self.dice.below(5) == 0).then(|| objects.desired().model)
    }
}

fn read(watched: Watched, object: Json) -> (crate::model::Key, facts::Fact) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    (facts::key(&object), facts::read(watched, object))
}

/// A look at the whole cluster.
fn from_scratch(cluster: &Cluster) -> Model {
    let mut objects = Objects::new(domain());
    objects.fix(domain());
    for kind in Watched::ALL {
        assert!(!objects.synced());
        objects.take(cluster.list(kind));
    }
    assert!(objects.synced());
    objects.desired().model
}

fn documents(view: &View) -> Vec<String> {
    let issuer = crate::issuer::names("https://issuer.example");
    let document =
        |uid: &str| view.snapshot(uid, &issuer).map(|snapshot| snapshot.document.clone()).unwrap_or_default();
    view.pods().map(|pod| format!("{} {}", pod.uid, String::from_utf8(document(&pod.uid)).unwrap())).collect()
}

/// What a view tells: to every sidecar, of its own pod and of every Service, and to the statuses.
fn told(view: &View) -> Vec<String> {
    let mut told = documents(view);
    for pod in view.pods() {
        let services = view.index().model().services.keys();
        told.extend(services.map(|key| {
            let authority = format!("{}.{}", key.name, key.namespace);
            format!("{:?}", view.destination(&pod.uid, &authority))
        }));
    }
    for policy in view.index().model().policies.values() {
        let targets = policy.targets.iter().flatten();
        told.extend(
            targets.map(|target| format!("{:?}", view.index().attached(&policy.seniority.key.namespace, target))),
        );
    }
    told
}

#[test]
fn any_sequence_of_news_ends_in_what_a_look_at_the_cluster_gives() {
    let mut pods = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed);
        let mut objects = Objects::new(domain());
        objects.fix(domain());
        for kind in Watched::ALL {
            objects.take(cluster.list(kind));
        }
        let mut view = View::empty(domain());
        for _ in 0..80 {
            cluster.step();
            for _ in 0..cluster.dice.below(3) {
                if let Some(model) = cluster.tell(&mut objects) {
                    // What is made for one view lives on in later ones.
                    view = view.next(view.order().number + 1, model);
                    documents(&view);
                }
            }
        }
        // Only what is broken depends on the past: the last good version of it.
        let broken = |object: &Json| object["spec"]["targetRefs"][0].is_u64();
        let broken: Vec<_> =
            cluster.objects.iter().filter(|(_, object)| broken(object)).map(|(id, _)| id.clone()).collect();
        broken.iter().for_each(|id| cluster.delete(id));
        while cluster.untold.values().any(|untold| !untold.is_empty()) {
            cluster.tell(&mut objects);
        }
        let (desired, seen) = (objects.desired(), from_scratch(&cluster));
        assert_eq!(desired.model, seen, "seed {seed}");
        assert!(desired.problems.is_empty(), "seed {seed}: {:?}", desired.problems);
        pods += seen.endpoints.values().flatten().count();
        let view = view.next(view.order().number + 1, desired.model);
        assert_eq!(told(&view), told(&View::empty(domain()).next(1, seen)), "seed {seed}");
    }
    assert!(pods > 100, "the clusters were empty: {pods}");
}

#[test]
fn no_order_is_behind_an_earlier_one_and_it_grows_with_all_that_happens() {
    let mut cluster = Cluster::new(7);
    let mut objects = Objects::new(domain());
    for kind in Watched::ALL {
        objects.take(cluster.list(kind));
    }
    let order = |desired: &Desired| Order { number: 0, versions: desired.versions.clone() };
    let mut before = objects.desired();
    assert_eq!(before.versions.len(), Watched::ALL.len() - 1, "revocations have an epoch of their own");
    for _ in 0..300 {
        cluster.step();
        cluster.tell(&mut objects);
        let now = objects.desired();
        assert!(!order(&now).is_behind(&order(&before)));
        assert!(now.model == before.model || order(&before).is_behind(&order(&now)), "another model of the same order");
        before = now;
    }
    // Whoever looks at the same cluster later, after a restart, has no less.
    for kind in Watched::ALL {
        objects.take(cluster.list(kind));
    }
    assert!(!order(&objects.desired()).is_behind(&order(&before)));
}

/// Two operators of one cluster, whose watches are not equally fast.
#[test]
fn whoever_has_not_heard_of_a_policy_is_behind_however_much_it_knows_of_pods() {
    let cluster = Cluster::new(11);
    let mut operators = [Objects::new(domain()), Objects::new(domain())];
    for kind in Watched::ALL {
        let listed = cluster.list(kind);
        operators.iter_mut().for_each(|operator| _ = operator.take(listed.clone()));
    }
    let put = |watched, version| News { watched, change: Change::Nothing, version };
    let [first, second] = &mut operators;
    let (policy, pods) = (cluster.version + 5, cluster.version + 400);
    first.take(put(Watched::Policy, policy));
    for watched in [Watched::Pod, Watched::Service, Watched::EndpointSlice] {
        second.take(put(watched, pods));
    }
    let order = |objects: &mut Objects| {
        let versions = objects.desired().versions;
        Order { number: versions.iter().sum(), versions }
    };
    let (first, mut seen) = (order(first), order(second));
    assert!(seen.number > first.number && seen.is_behind(&first));
    second.take(put(Watched::Policy, policy));
    seen = order(second);
    assert!(!seen.is_behind(&first));
}
