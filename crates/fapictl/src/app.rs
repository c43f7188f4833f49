//! The program that the demo puts behind each sidecar. It knows plain HTTP/1.1 and h2c, and the proxy if
//! its environment names one; of certificates, tokens and the mesh it knows nothing.
//!
//! | path | answer |
//! |---|---|
//! | `/transfers` | what it was told, and, when it calls another service, that one's answer; it passes on `x-fapi-context` |
//! | `/bank.Payments/Transfer` | a gRPC-like echo: the message back, then trailers |
//! | `/grpc.health.v1.Health/Check` | serving, as the gRPC health protocol says it |
//! | `/ws` | a WebSocket echo; its first message says what it was told |
//! | `/call/{http1,http2,grpc,websocket}` | calls the other service that way and says how it went; `http1` passes on `authorization` |
//! | `/deaf` | from then on nobody can connect any more, though it lives: what probes are for |
//! | anything else | what it was told |
//!
//! "What it was told" is the identity that stands in the headers, and every header or trailer that could
//! pass for one. A line on stdout says the same for each call.

mod call;
mod serve;
mod socket;
mod told;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use http::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::args::AppArgs;
use crate::failure::{Failure, OrFail};

/// What one app is.
pub(crate) struct App {
    name: String,
    caller: Option<call::Caller>,
    /// Told when it is to take no more connections.
    deaf: Notify,
}

/// Serves until the process ends, or calls once.
pub(crate) async fn run(args: AppArgs) -> Result<ExitCode, Failure> {
    let proxy = args.http_proxy.as_deref();
    let caller = args.calls.as_deref().map(|service| call::Caller::new(service, proxy)).transpose()?;
    match (args.listen, args.once, caller) {
        (Some(listen), None, caller) => serve(args.name, listen, caller).await,
        (None, Some(how), Some(caller)) => Ok(once(&caller, &how).await),
        _ => Err(Failure::new("it is to do nothing", "app", "say --listen, or --once and --calls")),
    }
}

/// What a job does: its outcome is that of its one call.
async fn once(caller: &call::Caller, how: &str) -> ExitCode {
    let said = caller.play(how, &HeaderMap::new()).await;
    println!("{said}");
    if said["status"] == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve(name: String, listen: SocketAddr, caller: Option<call::Caller>) -> Result<ExitCode, Failure> {
    let listener =
        TcpListener::bind(listen).await.or_fail("cannot listen", listen, "end the program that uses this port")?;
    println!(r#"{{"event":"listening","app":"{name}","address":"{listen}"}}"#);
    let app = Arc::new(App { name, caller, deaf: Notify::new() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.deaf.notified() => break,
        };
        // An accept that fails (no file descriptors) is that connection's problem alone.
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve::connection(app.clone(), TokioIo::new(stream), TokioExecutor::new()));
    }
    drop(listener);
    std::future::pending().await
}

#[cfg(test)]
mod tests;
