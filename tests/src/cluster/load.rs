//! Calls that go on while something happens to the cluster.
//!
//! They are made where the pod of the calling app is, in its network, so they need neither the API server nor kubectl.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::bank::{passed, try_call};
use crate::signal;

/// Between two calls of one thread: what is tested needs the processors too.
const PAUSE: Duration = Duration::from_millis(25);

/// Calls of shop, one after the other on several threads, until they are stopped.
pub struct Load {
    told: Arc<Told>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
}

#[derive(Default)]
struct Told {
    stop: AtomicBool,
    calls: AtomicUsize,
    /// How long the longest took, in milliseconds.
    slowest: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Begins to call by the app in a pod of shop.
    ///
    /// # Panics
    /// If the pod does not run on this machine.
    pub fn by(pod: &Value, threads: usize) -> Self {
        let (told, began) = (Arc::new(Told::default()), Instant::now());
        let threads = (0..threads).map(|_| {
            let (told, network) = (told.clone(), network_of(pod));
            std::thread::spawn(move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                told.call_until_stopped(began);
            })
        });
        Self { threads: threads.collect(), told, began }
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> usize {
        self.told.calls.load(Ordering::Relaxed)
    }

    /// Ends it, and says how many calls were made.
    ///
    /// # Panics
    /// If one of them failed, with when and how, or if there was none.
    pub fn all_passed(mut self, meanwhile: &str) {
        self.end();
        let calls = self.calls();
        let failures = self.told.failures.lock().unwrap();
        let shown: Vec<&String> = failures.iter().take(8).collect();
        let seconds = self.began.elapsed().as_secs();
        assert!(
            failures.is_empty(),
            "{meanwhile}: {} of {calls} calls failed in {seconds} s: {shown:#?}",
            failures.len()
        );
        assert!(calls > 0, "{meanwhile}: no call was made");
        let slowest = self.told.slowest.load(Ordering::Relaxed);
        eprintln!("{meanwhile}: {calls} calls in {seconds} s, none failed, the slowest took {slowest} ms");
    }

    fn end(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
    }
}

impl Told {
    #[expect(clippy::disallowed_methods, reason = "a pause between calls, nothing is awaited")]
    fn call_until_stopped(&self, began: Instant) {
        let app = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        while !self.stop.load(Ordering::Relaxed) {
            let at = began.elapsed();
            let failure = match try_call(app, None) {
                Ok(said) if passed(&said) => None,
                Ok(said) => Some(said.to_string()),
                Err(error) => Some(error.to_string()),
            };
            let took = (began.elapsed() - at).as_millis();
            self.slowest.fetch_max(took.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            self.calls.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = failure {
                let line = format!(
                    "at {:.1} s, after {:.1} s: {failure}",
                    at.as_secs_f64(),
                    (began.elapsed() - at).as_secs_f64()
                );
                self.failures.lock().unwrap().push(line);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Ends a program of a pod at once; it learns nothing of it.
///
/// # Panics
/// If it does not run on this machine.
pub fn kill_in(pod: &Value, program: &str) {
    let is_it = |id: &u32| {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split('\0').next() == Some(program)
    };
    let id = processes_of(pod).find(is_it);
    signal(id.unwrap_or_else(|| panic!("no {program} runs in {}", pod["metadata"]["name"])), Signal::KILL);
}

/// A command that runs where a pod is, in its network: for its neighbours it is the pod's.
///
/// # Panics
/// If the pod does not run on this machine.
pub fn command_in(pod: &Value, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", process_of(pod))).arg("--").arg(program);
    command
}

/// The network of a pod that runs on this machine.
fn network_of(pod: &Value) -> File {
    File::open(format!("/proc/{}/ns/net", process_of(pod))).unwrap()
}

fn process_of(pod: &Value) -> u32 {
    processes_of(pod).next().unwrap_or_else(|| panic!("nothing of {} runs here", pod["metadata"]["name"]))
}

/// The processes of a pod that run on this machine.
fn processes_of(pod: &Value) -> impl Iterator<Item = u32> {
    let group = format!("pod{}", pod["metadata"]["uid"].as_str().unwrap());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(move |id| fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|text| text.contains(&group)))
}
