//! A whole mesh: an operator, and for each workload an app and a sidecar. All of it real processes.

mod member;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) use member::{Member, plain};

use super::config::{Config, Place, TRUST_DOMAIN};
use super::logs::Log;
use super::ports::Port;
use super::process::{Plan, Process, args};
use super::report::Report;
use crate::failure::{Failure, OrFail};
use crate::files::{self, Mode};
use crate::identity::Operator;
use crate::wait::until;

/// The variables of a mesh, for a shell.
pub(crate) const SHELL: &str = "env.sh";
/// What its operator says, in its folder.
const OPERATOR_LOG: &str = "logs/operator.log";
/// From the first process to a mesh that serves.
const START: Duration = Duration::from_secs(30);
/// How long a process may take to end in peace.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who is in the mesh of `examples/bank`: namespace, service account, and whom its app calls.
const WORKLOADS: [(&str, &str, Option<&str>); 4] = [
    ("bank", "shop", Some("http://payments.bank")),
    ("bank", "payments", Some("http://ledger.bank")),
    ("bank", "ledger", None),
    ("outside", "intruder", Some("http://ledger.bank")),
];

/// Where the programs are.
pub(crate) struct Programs {
    operator: PathBuf,
    sidecar: PathBuf,
    myself: PathBuf,
}

/// A running mesh. Dropping it kills every process of it.
pub(crate) struct Mesh {
    folder: PathBuf,
    programs: Programs,
    pub(crate) config: Config,
    operator: Option<Process>,
    pub(crate) operator_log: Log,
    control: Port,
    issuer: Port,
    admin: Port,
    pub(crate) members: Vec<Member>,
    /// Of a mesh that we have started.
    _lock: Option<File>,
}

impl Programs {
    /// Looks for them in `folder`, or beside this program.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, Failure> {
        let remedy = "build them (`make demo` does), or say where they are with --bin-dir";
        let myself = std::env::current_exe().or_fail("cannot find myself", "fapictl", remedy)?;
        let beside = myself.parent().map(Path::to_owned).unwrap_or_default();
        let folder = folder.map_or(beside, Path::to_owned);
        let found = |name: &str| {
            let path = folder.join(name);
            path.is_file().then_some(path).or_fail(&format!("there is no {name}"), folder.display(), remedy)
        };
        Ok(Self { operator: found("fapi-operator")?, sidecar: found("fapi-sidecar")?, myself })
    }

    pub(crate) fn sidecar(&self) -> &Path {
        &self.sidecar
    }
}

impl Mesh {
    /// Starts everything in `folder` and waits until it serves.
    pub(crate) async fn start(
        folder: PathBuf,
        lock: File,
        programs: Programs,
        report: &Report,
    ) -> Result<Self, Failure> {
        let members =
            WORKLOADS.iter().map(|(namespace, account, calls)| Member::plan(&folder, namespace, account, *calls));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let places: Vec<Place<'_>> = members.iter().map(Member::place).collect();
        files::private_folder(&folder.join("logs"))?;
        let mut mesh = Self {
            config: Config::create(folder.join("config"), &places)?,
            operator: None,
            operator_log: Log::new(folder.join(OPERATOR_LOG)),
            control: Port::find()?,
            issuer: Port::find()?,
            admin: Port::find()?,
            members,
            programs,
            folder,
            _lock: Some(lock),
        };
        report.progress("starting the operator");
        mesh.start_operator()?;
        for member in &mut mesh.members {
            member.start_app(&mesh.programs.myself)?;
        }
        mesh.wait_for("the operator to serve", async |mesh: &mut Self| mesh.operator().is_ok()).await?;
        report.progress("starting four sidecars");
        let operator = mesh.operator()?;
        for member in &mut mesh.members {
            member.start_sidecar(&mesh.programs.sidecar, &mesh.folder, &operator)?;
        }
        report.progress("waiting for certificates and policies");
        mesh.wait_ready().await?;
        Ok(mesh)
    }

    /// A mesh that somebody else has started, as its folder describes it. Nothing of it is ours to start or to end.
    pub(crate) fn of_another(folder: PathBuf, programs: Programs) -> Result<Self, Failure> {
        let remedy = "give the --state folder of `fapictl demo --keep`, or one that looks like it";
        let path = folder.join(super::DESCRIPTION);
        let description: Value = serde_json::from_str(&files::read(&path, remedy)?).unwrap_or_default();
        let entries = description["workloads"].as_array().into_iter().flatten();
        let members: Option<Vec<_>> = entries.map(Member::of_another).collect();
        let members = members.filter(|members| !members.is_empty()).or_fail("no workloads", path.display(), remedy)?;
        let control = Operator::read(&folder)?.control;
        let port = || Port::of_another(control);
        Ok(Self {
            config: Config::of_another(folder.join("config")),
            operator: None,
            operator_log: Log::new(folder.join(OPERATOR_LOG)),
            control: port(),
            issuer: port(),
            admin: port(),
            members,
            programs,
            folder,
            _lock: None,
        })
    }

    /// Every sidecar has a certificate and an accepted snapshot.
    async fn wait_ready(&mut self) -> Result<(), Failure> {
        self.wait_for("every sidecar to be ready", async |mesh: &mut Self| {
            let mut ready = true;
            for member in &mesh.members {
                ready = ready && member.is_ready().await;
            }
            ready
        })
        .await
    }

    /// What the operator's state folder tells; fails while it is still starting.
    pub(crate) fn operator(&self) -> Result<Operator, Failure> {
        let operator = Operator::read(&self.folder)?;
        for member in &self.members {
            let token = operator.token_file(&member.namespace, &member.name);
            files::read(&token, "wait until the operator has written it")?;
        }
        Ok(operator)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The member with this service account.
    pub(crate) fn member(&self, account: &str) -> Result<&Member, Failure> {
        let found = self.members.iter().find(|member| member.account == account);
        found.or_fail("there is no such workload", account, "this is a mistake in the demo")
    }

    /// Starts the operator, on the same ports and state each time.
    pub(crate) fn start_operator(&mut self) -> Result<(), Failure> {
        for port in [&mut self.control, &mut self.issuer, &mut self.admin] {
            port.hand_over();
        }
        let source = format!("directory:{}", self.config.folder().display());
        let address = |port: &Port| port.address().to_string();
        let (control, issuer, admin) = (address(&self.control), address(&self.issuer), address(&self.admin));
        self.operator = Some(Process::start(Plan {
            name: "the operator".to_owned(),
            program: &self.programs.operator,
            args: args([
                &"--source",
                &source,
                &"--state",
                &self.folder,
                &"--control-listen",
                &control,
                &"--issuer-listen",
                &issuer,
                &"--admin-listen",
                &admin,
            ]),
            env: Vec::new(),
            log: &self.folder.join("logs/operator.out"),
            errors: self.operator_log.path(),
        })?);
        Ok(())
    }

    /// The operator ends at once, as in a crash.
    pub(crate) async fn kill_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill().await;
        }
    }

    /// The operator ends in order.
    pub(crate) async fn stop_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.stop(PATIENCE).await;
        }
    }

    /// Waits until an operator that was started again serves.
    pub(crate) async fn operator_is_back(&mut self) -> Result<(), Failure> {
        let control = self.control.address();
        let issuer = self.issuer.address();
        self.wait_for("the operator to come back", async |_: &mut Self| {
            TcpStream::connect(control).await.is_ok() && TcpStream::connect(issuer).await.is_ok()
        })
        .await
    }

    /// Removes the list of problems, so that what stands there next is new.
    pub(crate) fn forget_problems(&self) {
        // Not there is as good.
        let _ = std::fs::remove_file(self.folder.join("status/problems.yaml"));
    }

    /// Asks for new certificates everywhere.
    pub(crate) fn renew_certificates(&self) -> Result<(), Failure> {
        let operator = self.operator.as_ref().or_fail("the operator does not run", "the demo", "start it first")?;
        operator.signal(Signal::HUP)
    }

    /// Waits for `condition`; fails early when a process has ended by itself.
    async fn wait_for(&mut self, what: &str, mut condition: impl AsyncFnMut(&mut Self) -> bool) -> Result<(), Failure> {
        let place = self.folder.join("logs").display().to_string();
        let found = until(START, async || {
            if let Err(failure) = self.check() {
                return Some(Err(failure));
            }
            condition(self).await.then_some(Ok(()))
        });
        match found.await {
            Some(outcome) => outcome,
            None => Err(Failure::new(format!("waited {START:?} for {what}"), place, "read the logs there")),
        }
    }

    /// Fails if any process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let members = self.members.iter_mut().flat_map(Member::processes);
        self.operator.iter_mut().chain(members).try_for_each(Process::check)
    }

    /// Ends everything in order: callers first, the operator last.
    pub(crate) async fn stop(mut self) {
        let processes: Vec<Process> = self.members.iter_mut().flat_map(Member::take_processes).collect();
        let stopping: Vec<_> =
            processes.into_iter().map(|process| tokio::task::spawn(process.stop(PATIENCE))).collect();
        for task in stopping {
            // A process that could not be asked was killed.
            let _ = task.await;
        }
        self.stop_operator().await;
    }

    /// Writes `demo.json`, for people and programs that want to play with the mesh, and the same for a shell.
    pub(crate) fn describe(&self) -> Result<(), Failure> {
        let issuer = self.operator()?.issuer;
        let description = json!({
            "trust_domain": TRUST_DOMAIN,
            "trust_bundle": self.folder.join("trust-bundle.pem"),
            "issuer": issuer,
            "workloads": self.members.iter().map(Member::describe).collect::<Vec<_>>(),
        });
        files::write(&self.folder.join(SHELL), self.variables(&issuer).as_bytes(), Mode::Public)?;
        // Last: who sees it finds everything else.
        files::write(&self.folder.join(super::DESCRIPTION), format!("{description:#}\n").as_bytes(), Mode::Public)
    }

    /// `. DIR/env.sh` lets a shell say `$ISSUER`, and `$PAYMENTS` for where the sidecar of payments listens.
    fn variables(&self, issuer: &str) -> String {
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let mut text = format!("MESH={}\nISSUER={issuer}\n", quoted(&self.folder));
        for member in &self.members {
            text.push_str(&format!("{}={}\n", member.account.to_uppercase(), member.inbound()));
        }
        let programs = self.programs.myself.parent().map(quoted).unwrap_or_default();
        text + &format!("PATH={programs}:$PATH\n")
    }
}
