//! Steady calls: shop's programs call payments, and payments calls ledger, on many connections, while something
//! else happens. A single failed call fails the step.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::demo::report::Outcome;
use crate::failure::{Failure, OrFail};
use crate::raw::{Ask, exchange};
use crate::wait::until;

/// As many programs call at once.
pub(super) const CONNECTIONS: usize = 16;
/// What a program does between two calls.
const PAUSE: Duration = Duration::from_millis(20);
/// A call that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(15);

/// Calls that go on until they are stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Calls>>,
}

/// How many calls there were, and how the first that failed went.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) all: usize,
    failed: usize,
    first: Option<String>,
}

impl Load {
    /// Begins to call `http://payments.bank/transfers` through the proxy at `outbound`, once that passes: the sidecar
    /// may still remember a refusal of the chapter before.
    pub(super) async fn start(outbound: SocketAddr) -> Result<Self, Failure> {
        let ask = ask();
        let passes = until(LIMIT, async || once(outbound, &mut None, &ask).await.ok()).await;
        passes.or_fail("calls of shop do not pass", outbound, "read the log of its sidecar")?;
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..CONNECTIONS).map(|_| tokio::spawn(call(outbound, stop.clone()))).collect();
        Ok(Self { stop, callers })
    }

    /// Ends it, and adds up.
    pub(super) async fn stop(self) -> Result<Calls, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = Calls::default();
        for caller in self.callers {
            let one = caller.await.or_fail("a caller was lost", "the demo", "run it again")?;
            calls.all += one.all;
            calls.failed += one.failed;
            calls.first = calls.first.or(one.first);
        }
        Ok(calls)
    }
}

impl Calls {
    /// 200 if every call passed and there were enough of them to mean something.
    pub(super) fn outcome(&self) -> Outcome {
        match &self.first {
            Some(first) => {
                Outcome::default().because(format!("{} of {} calls failed, first: {first}", self.failed, self.all))
            }
            None if self.all < 4 * CONNECTIONS => Outcome::default().because(format!("only {} calls", self.all)),
            None => Outcome::status(200),
        }
    }
}

fn ask() -> Vec<u8> {
    Ask::new("POST", "payments.bank", "http://payments.bank/transfers").body(r#"{"amount":1}"#).bytes()
}

async fn call(outbound: SocketAddr, stop: Arc<AtomicBool>) -> Calls {
    let ask = ask();
    let mut stream = None;
    let mut calls = Calls::default();
    while !stop.load(Ordering::Relaxed) {
        calls.all += 1;
        let answer = timeout(LIMIT, once(outbound, &mut stream, &ask)).await;
        let failure = match answer {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(failure) = failure {
            stream = None;
            calls.failed += 1;
            calls.first.get_or_insert(failure);
        }
        sleep(PAUSE).await;
    }
    calls
}

/// One call, on the connection that is there. It is opened anew only when the last answer said that it ends.
async fn once(outbound: SocketAddr, stream: &mut Option<TcpStream>, ask: &[u8]) -> Result<(), String> {
    let mut open = match stream.take() {
        Some(open) => open,
        None => TcpStream::connect(outbound).await.map_err(|error| error.to_string())?,
    };
    let reply = exchange(&mut open, ask).await.map_err(|error| error.to_string())?;
    if reply.header("connection") != Some("close") {
        *stream = Some(open);
    }
    match reply.status {
        200 => Ok(()),
        status => Err(format!("{status} {}", String::from_utf8_lossy(&reply.body))),
    }
}
