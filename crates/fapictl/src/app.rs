//! The program that the demo puts behind each sidecar. It knows plain HTTP/1.1 and h2c, and the proxy if
//! its environment names one; of certificates, tokens and the mesh it knows nothing.
//!
//! | path | answer |
//! |---|---|
//! | `/transfers` | what it was told, and, when it calls another service, that one's answer; it passes on `x-fapi-context` |
//! | `/bank.Payments/Transfer` | a gRPC-like echo: the message back, then trailers |
//! | `/ws` | a WebSocket echo; its first message says what it was told |
//! | `/call/{http1,http2,grpc,websocket}` | calls the other service that way and says how it went; `http1` passes on `authorization` |
//! | anything else | what it was told |
//!
//! "What it was told" is the identity that stands in the headers, and every header or trailer that could
//! pass for one. A line on stdout says the same for each call.

mod call;
mod serve;
mod socket;
mod told;

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::args::AppArgs;
use crate::failure::{Failure, OrFail};

/// What one app is.
pub(crate) struct App {
    name: String,
    caller: Option<call::Caller>,
}

/// Serves until the process ends.
pub(crate) async fn run(args: AppArgs) -> Result<(), Failure> {
    let proxy = args.http_proxy.as_deref();
    let caller = args.calls.as_deref().map(|service| call::Caller::new(service, proxy)).transpose()?;
    let listener = TcpListener::bind(args.listen).await.or_fail(
        "cannot listen",
        args.listen,
        "end the program that uses this port",
    )?;
    println!(r#"{{"event":"listening","app":"{}","address":"{}"}}"#, args.name, args.listen);
    let app = Arc::new(App { name: args.name, caller });
    loop {
        // An accept that fails (no file descriptors) is that connection's problem alone.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve::connection(app.clone(), TokioIo::new(stream), TokioExecutor::new()));
    }
}

#[cfg(test)]
mod tests;
