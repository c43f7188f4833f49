//! One workload of the mesh: its app, its sidecar, their ports and logs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::config::{Place, TRUST_DOMAIN};
use super::super::logs::Log;
use super::super::ports::Port;
use super::super::process::{Plan, Process, args};
use crate::failure::Failure;
use crate::identity::Operator;
use crate::raw::{Ask, Reply, exchange};

/// A plain request to a process on this machine.
const LIMIT: Duration = Duration::from_secs(15);

/// One workload.
pub(crate) struct Member {
    pub(crate) namespace: String,
    /// Its service account, and the service that it is behind.
    pub(crate) account: String,
    /// Its one instance.
    pub(crate) name: String,
    calls: Option<String>,
    inbound: Port,
    outbound: Port,
    app: Port,
    admin: Port,
    /// The decisions of its sidecar.
    pub(crate) log: Log,
    /// What its app was told.
    pub(crate) app_log: Log,
    processes: Vec<Process>,
}

impl Member {
    /// Finds ports; starts nothing.
    pub(crate) fn plan(folder: &Path, namespace: &str, account: &str, calls: Option<&str>) -> Result<Self, Failure> {
        let name = format!("{account}-1");
        Ok(Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            calls: calls.map(ToOwned::to_owned),
            inbound: Port::find()?,
            outbound: Port::find()?,
            app: Port::find()?,
            admin: Port::find()?,
            log: Log::new(folder.join(format!("logs/{name}.log"))),
            app_log: Log::new(folder.join(format!("logs/{name}.app.log"))),
            name,
            processes: Vec::new(),
        })
    }

    /// One that somebody else has started, from its entry in `demo.json`.
    pub(crate) fn of_another(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry[name].as_str().map(ToOwned::to_owned);
        let port = |name: &str| Some(Port::of_another(text(name)?.parse().ok()?));
        let log = Path::new(entry["log"].as_str()?);
        Some(Self {
            namespace: text("namespace")?,
            account: text("service_account")?,
            name: text("name")?,
            calls: None,
            inbound: port("inbound")?,
            outbound: port("outbound")?,
            app: port("app")?,
            admin: port("admin")?,
            log: Log::new(log.to_owned()),
            app_log: Log::new(log.with_extension("app.log")),
            processes: Vec::new(),
        })
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { name: &self.name, inbound: self.inbound.address(), app: self.app.address() }
    }

    /// Starts the plain program; all it knows of the mesh is a proxy.
    pub(crate) fn start_app(&mut self, program: &Path) -> Result<(), Failure> {
        self.app.hand_over();
        let mut list = args([&"app", &"--name", &self.account, &"--listen", &self.app.address().to_string()]);
        if let Some(calls) = &self.calls {
            list.extend(args([&"--calls", calls]));
        }
        self.processes.push(Process::start(Plan {
            name: format!("the app of {}", self.name),
            program,
            args: list,
            env: vec![("http_proxy", format!("http://{}", self.outbound.address()))],
            log: self.app_log.path(),
            errors: &self.app_log.path().with_extension("err"),
        })?);
        Ok(())
    }

    /// Starts the sidecar.
    pub(crate) fn start_sidecar(&mut self, program: &Path, state: &Path, operator: &Operator) -> Result<(), Failure> {
        for port in [&mut self.inbound, &mut self.outbound, &mut self.admin] {
            port.hand_over();
        }
        let token = operator.token_file(&self.namespace, &self.name);
        self.processes.push(Process::start(Plan {
            name: format!("the sidecar of {}", self.name),
            program,
            args: args([
                &"--control",
                &operator.control.to_string(),
                &"--trust-domain",
                &TRUST_DOMAIN,
                &"--trust-bundle",
                &state.join("trust-bundle.pem"),
                &"--token-file",
                &token,
                &"--outbound-listen",
                &self.outbound.address().to_string(),
                &"--admin-listen",
                &self.admin.address().to_string(),
            ]),
            env: Vec::new(),
            log: self.log.path(),
            errors: &self.log.path().with_extension("err"),
        })?);
        Ok(())
    }

    pub(crate) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.processes.iter_mut()
    }

    pub(crate) fn take_processes(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.processes)
    }

    /// Where its sidecar takes calls from the mesh.
    pub(crate) fn inbound(&self) -> SocketAddr {
        self.inbound.address()
    }

    /// The proxy that its app uses.
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.outbound.address()
    }

    /// `payments.bank`.
    pub(crate) fn host(&self) -> String {
        format!("{}.{}", self.account, self.namespace)
    }

    /// `https://payments.bank`: audience of its tokens and origin of its URLs.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.host())
    }

    pub(crate) fn spiffe_id(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", self.namespace, self.account)
    }

    /// Its sidecar has a certificate and a policy, and its app answers.
    pub(crate) async fn is_ready(&self) -> bool {
        let ready = plain(self.admin.address(), &Ask::new("GET", "admin", "/readyz")).await;
        ready.is_ok_and(|reply| reply.status == 200) && TcpStream::connect(self.app.address()).await.is_ok()
    }

    /// Asks its app directly, as a user of the shop would.
    pub(crate) async fn ask_app(&self, path: &str) -> std::io::Result<Reply> {
        plain(self.app.address(), &Ask::new("GET", &self.host(), path)).await
    }

    /// Calls a URL through its proxy, as its app would, for the call that `context` stands for.
    pub(crate) async fn call_for(&self, url: &str, context: &str) -> std::io::Result<Reply> {
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        plain(self.outbound(), &Ask::new("POST", host, url).header("x-fapi-context", context)).await
    }

    /// The entry in `demo.json`.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "name": self.name,
            "namespace": self.namespace,
            "service_account": self.account,
            "spiffe_id": self.spiffe_id(),
            "service": self.origin(),
            "inbound": self.inbound(),
            "outbound": self.outbound(),
            "app": self.app.address(),
            "admin": self.admin.address(),
            "log": self.log.path(),
        })
    }
}

/// One plain HTTP/1.1 request on a connection of its own.
pub(crate) async fn plain(address: SocketAddr, ask: &Ask) -> std::io::Result<Reply> {
    timeout(LIMIT, async {
        let mut stream = TcpStream::connect(address).await?;
        exchange(&mut stream, &ask.bytes()).await
    })
    .await?
}
