//! What the log says about probes: what is asked and why it failed, and nothing that only the app should see.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::io::AsyncWriteExt as _;
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};

use super::*;
use crate::testing::until;

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn here() -> (Self, DefaultGuard) {
        // With one subscriber alone, a place in the code that a thread without any comes to first is taken for one that nobody hears.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let log = Self::default();
        let kept = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || kept.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines about probes.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("this probe")).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_probe_that_fails_is_told_with_what_was_asked_and_why() {
    local(async {
        let (log, _guard) = Log::here();
        let (address, _seen) = http_app(None).await;
        let headers = vec![ProbeHeader { name: "Authorization".to_owned(), value: "Bearer x-hidden".to_owned() }];
        let (pod, _source) = pod(Probe::Http(HttpProbe { headers, ..http(address.port(), "/503?x-hidden") })).await;
        for _ in 0..3 {
            assert_eq!(status(pod).await, 503);
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let asked = format!("asked=\"http://{address}/503\"");
        for part in ["WARN", "container=\"app\"", "probe=\"liveness\"", &asked, "status 503 Service Unavailable"] {
            assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
        }
        assert!(!lines[0].contains("hidden"), "{}", lines[0]);
    })
    .await;
}

#[tokio::test]
async fn the_path_of_a_hook_is_not_told() {
    local(async {
        let (log, _guard) = Log::here();
        let gone = forms::app(b"\r\n\r\n", vec![], forms::Closes).await;
        let (pod, _source) = pod_with(PRE_STOP, Probe::Http(http(gone, "/drain"))).await;
        let mut kubelet = pod.connect().await;
        kubelet.write_all(format!("GET {PRE_STOP} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        until("it is told", || !log.lines().is_empty()).await;
        let line = log.lines().remove(0);
        assert!(line.contains("probe=\"prestop\"") && line.contains("/drain"), "{line}");
        assert!(!line.contains("0123456789abcdef"), "{line}");
    })
    .await;
}

#[tokio::test]
async fn a_kubelet_that_is_gone_when_the_time_is_over_leaves_a_line() {
    local(async {
        let (log, _guard) = Log::here();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pod, _source) = pod(Probe::Http(http(listener.local_addr().unwrap().port(), "/"))).await;
        let mut kubelet = pod.connect().await;
        kubelet.write_all(format!("GET {LIVENESS} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let _asked = listener.accept().await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(u64::from(PATIENCE) - 1)).await;
        tokio::time::resume();
        drop(kubelet);
        until("it is told", || !log.lines().is_empty()).await;
        assert!(log.lines()[0].contains("no answer in time"), "{:?}", log.lines());
    })
    .await;
}

#[tokio::test]
async fn an_app_with_an_older_tls_is_told() {
    local(async {
        let (log, _guard) = Log::here();
        // The alert protocol_version of TLS 1.2.
        let old = forms::app(b"", vec![0x15, 3, 3, 0, 2, 2, 70], forms::Closes).await;
        let (pod, _source) = pod(Probe::Http(HttpProbe { scheme: Scheme::Https, ..http(old, "/") })).await;
        assert_eq!(status(pod).await, 503);
        let lines = log.lines();
        assert!(lines[0].contains("no TLS 1.3") && lines[0].contains("ProtocolVersion"), "{lines:?}");
    })
    .await;
}
