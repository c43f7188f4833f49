//! Asking the app once whether it speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3).

use std::{cell::Cell, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{App, Failure};
use crate::clock::monotonic;

/// The preface of a client and its empty SETTINGS frame: no request, so nothing happens in the app.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A server's first frame is SETTINGS, of this type, on stream 0.
const SETTINGS: u8 = 4;
const FRAME_HEAD: usize = 9;
/// An HTTP/1.1 app that waits for more is told apart by silence.
const SETTINGS_WITHIN: Duration = Duration::from_millis(500);
/// An app that spoke HTTP/1.1 may have been replaced by one that speaks HTTP/2.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// ... and a gRPC call can be served in no other way.
const ASK_AGAIN_FOR_GRPC: Duration = Duration::from_secs(5);

/// What is known of the app.
#[derive(Default)]
pub(super) struct Speaks {
    http2: Cell<Option<(bool, Instant)>>,
    /// Held by whoever asks.
    asking: Mutex<()>,
}

impl Speaks {
    pub(super) fn forget(&self) {
        self.http2.set(None);
    }

    fn known(&self, grpc: bool) -> Option<bool> {
        let (http2, asked) = self.http2.get()?;
        let ask_again = if grpc { ASK_AGAIN_FOR_GRPC } else { ASK_AGAIN };
        (http2 || asked + ask_again > monotonic()).then_some(http2)
    }
}

impl App {
    /// Whether the app speaks HTTP/2. Asks it if that is not known.
    pub(super) async fn speaks_http2(&self, grpc: bool) -> Result<bool, Failure> {
        if let Some(known) = self.speaks.known(grpc) {
            return Ok(known);
        }
        Box::pin(self.ask_once(grpc)).await
    }

    async fn ask_once(&self, grpc: bool) -> Result<bool, Failure> {
        let _asking = self.speaks.asking.lock().await;
        if let Some(learnt_meanwhile) = self.speaks.known(grpc) {
            return Ok(learnt_meanwhile);
        }
        let stream = self.connect().await?;
        let http2 = timeout(SETTINGS_WITHIN, ask(stream)).await.unwrap_or(false);
        self.speaks.http2.set(Some((http2, monotonic())));
        tracing::debug!(app = %self.address, http2, "asked the app whether it speaks HTTP/2");
        Ok(http2)
    }
}

async fn ask(mut stream: TcpStream) -> bool {
    let mut head = [0; FRAME_HEAD];
    if stream.write_all(PREFACE).await.is_err() || stream.read_exact(&mut head).await.is_err() {
        return false;
    }
    let [_, _, _, kind, flags, stream_id @ ..] = head;
    kind == SETTINGS && flags == 0 && stream_id == [0; 4]
}
