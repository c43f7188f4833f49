//! The folder of one cluster, and all that has to go when the cluster goes.
//!
//! What was started is written down before it is used, so that whoever finds the folder can take the cluster down: the
//! process that made it, the next test after a crash, or `make cluster-down`. Processes are known by their id and the time of
//! their start, so that a stranger that got the same id later is left alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::network::command_in;
use super::remains;
use crate::process::signal;

/// Where the folders of all clusters of this machine are. Short, as sockets in it have paths of at most 107 bytes.
fn parent() -> PathBuf {
    std::env::temp_dir().join("fapi-cluster")
}

/// The turn to take down what belongs to nobody: two that did the same at once would take what a third has made meanwhile. Nothing
/// abandoned goes while a test holds it. It ends with this value.
///
/// # Panics
/// If the lock cannot be made.
pub fn turn() -> File {
    fs::create_dir_all(parent()).unwrap();
    let file = File::create(parent().join("lock")).unwrap();
    file.lock().unwrap();
    file
}

/// A process of a cluster.
struct Process {
    name: String,
    id: u32,
    started: u64,
}

/// The folder of a cluster.
pub(super) struct Folder {
    path: PathBuf,
    owner: Option<u32>,
    /// The network namespaces, each with a pair of interfaces of the same name. That of the first node is the first.
    networks: Vec<String>,
    processes: Vec<Process>,
    /// Of those that this very process started: they are waited for, or they stay in the table as zombies.
    children: Vec<Child>,
}

impl Folder {
    /// Makes the folder of a test's cluster, after removing what crashed tests left.
    ///
    /// # Panics
    /// If it cannot be made.
    pub(super) fn of_this_process(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::make(&format!("{name}-{}-{count}", std::process::id()), Some(std::process::id()))
    }

    /// Makes the folder of a cluster that outlives this process.
    ///
    /// # Panics
    /// If there is one of this name, or it cannot be made.
    pub(super) fn of_nobody(name: &str) -> Self {
        remove_abandoned();
        Self::make(name, None)
    }

    fn make(name: &str, owner: Option<u32>) -> Self {
        let path = parent().join(name);
        fs::create_dir_all(parent()).unwrap();
        // Fails if it is there: whoever made it has its own cluster in it.
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let folder = Self { path, owner, networks: Vec::new(), processes: Vec::new(), children: Vec::new() };
        folder.save();
        folder
    }

    /// Opens the folder of a cluster that is there.
    pub(super) fn open(name: &str) -> Option<Self> {
        Self::read(parent().join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the cluster.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// One more network namespace.
    pub(super) fn add_network(&mut self, name: &str) {
        self.networks.push(name.to_owned());
        self.save();
    }

    /// The control group of everything that runs in pods.
    fn control_group(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The control group of the pods of a node.
    pub(super) fn control_group_of(&self, node: &str) -> String {
        format!("{}/{node}", self.control_group())
    }

    /// A command that runs where the API server is: in the network of the first node, if there is one.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        self.networks.first().map_or_else(|| Command::new(program.as_ref()), |name| command_in(name, program.as_ref()))
    }

    /// Starts a process, of a node as `NODE/NAME`, whose output goes to `NAME.log`. It is in a process group of its own, so that
    /// Ctrl-C ends the test alone: what that leaves is taken down in order by the next test, or by `make cluster-down`.
    ///
    /// # Panics
    /// If it does not start.
    pub(super) fn start(&mut self, name: &str, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        let log = File::options().create(true).append(true).open(self.file(&format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = child.id();
        self.processes.push(Process { name: name.to_owned(), id, started: started(id).unwrap_or_default() });
        self.children.push(child);
        self.save();
    }

    /// Ends a process, asking first; it is then no part of the cluster any more.
    pub(super) fn stop(&mut self, name: &str) {
        self.give_up(name, true);
    }

    /// As [`stop`](Self::stop), without asking.
    pub(super) fn kill(&mut self, name: &str) {
        self.give_up(name, false);
    }

    fn give_up(&mut self, name: &str, asking: bool) {
        let Some(at) = self.processes.iter().position(|process| process.name == name) else { return };
        let process = self.processes.remove(at);
        self.end(&process, asking);
        self.save();
    }

    /// The end of a process's log, if the process has ended.
    pub(super) fn ended(&mut self, name: &str) -> Option<String> {
        let process = self.processes.iter().find(|process| process.name == name)?;
        let child = self.children.iter_mut().find(|child| child.id() == process.id);
        let alive = match child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_none()),
            None => is_alive(process),
        };
        if alive {
            return None;
        }
        let log = fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        Some(lines[lines.len().saturating_sub(5)..].join("\n"))
    }

    /// Takes everything down, whatever state it is in. The files stay.
    pub(super) fn take_down(&mut self) {
        // The newest first: who watches ends before what is watched, and the API server before etcd, which it waits for.
        while let Some(process) = self.processes.pop() {
            // A kubelet or containerd that ends in order leaves its containers as they are; so do they when killed.
            self.end(&process, process.name == "kube-apiserver" || process.name == "etcd");
            if let Some(node) = process.name.strip_suffix("/kubelet") {
                remains::end_control_group(&self.control_group_of(node));
            }
        }
        remains::remove(&self.path, &self.control_group(), &std::mem::take(&mut self.networks));
        self.save();
    }

    /// Removes the files too.
    pub(super) fn remove(mut self) {
        self.take_down();
        let _ = fs::remove_dir_all(&self.path);
    }

    fn end(&mut self, process: &Process, asking: bool) {
        let mut child = self.children.iter_mut().find(|child| child.id() == process.id);
        let mut alive = || match &mut child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_none()),
            None => is_alive(process),
        };
        for (how, seconds) in [(Signal::TERM, if asking { 5 } else { 0 }), (Signal::KILL, 5)] {
            if seconds > 0 && alive() {
                signal(process.id, how);
                remains::within(seconds, || !alive());
            }
        }
    }

    fn save(&self) {
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|process| json!({"name": process.name, "id": process.id, "started": process.started}))
            .collect();
        let owner = self.owner.map(|id| json!({"id": id, "started": started(id)}));
        let state = json!({"owner": owner, "networks": self.networks, "processes": processes});
        let _ = fs::write(self.file("state.json"), state.to_string());
    }

    fn read(path: PathBuf) -> Option<Self> {
        let state: Value = serde_json::from_str(&fs::read_to_string(path.join("state.json")).ok()?).ok()?;
        let owner = process(&state["owner"]);
        let processes = state["processes"].as_array()?.iter().filter_map(process).collect();
        let networks =
            state["networks"].as_array()?.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        Some(Self { path, owner: owner.map(|owner| owner.id), networks, processes, children: Vec::new() })
    }
}

/// Takes down every cluster whose test is gone, and leaves its files.
pub fn remove_abandoned() {
    let _turn = turn();
    for entry in fs::read_dir(parent()).into_iter().flatten().flatten() {
        let Some(mut folder) = Folder::read(entry.path()) else { continue };
        let state = fs::read_to_string(folder.file("state.json")).unwrap_or_default();
        let owner = serde_json::from_str(&state).ok().and_then(|state: Value| process(&state["owner"]));
        let running = !folder.networks.is_empty() || !folder.processes.is_empty();
        if running && owner.is_some_and(|owner| !is_alive(&owner)) {
            eprintln!("taking down what a test left; its files stay in {}", folder.path.display());
            folder.take_down();
        }
    }
}

fn process(value: &Value) -> Option<Process> {
    Some(Process {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        id: value["id"].as_u64()?.try_into().ok()?,
        started: value["started"].as_u64()?,
    })
}

fn is_alive(process: &Process) -> bool {
    started(process.id) == Some(process.started)
}

/// When a living process started, in ticks since the machine did.
fn started(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state is the first field after it, the start is the twentieth.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    if *fields.first()? == "Z" { None } else { fields.get(19)?.parse().ok() }
}
