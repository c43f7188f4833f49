//! Hooks: the app does something, so nobody runs one who does not know its path.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};

use super::*;

/// The health port of a pod with this hook.
async fn pod(hook: HttpProbe) -> (App, StopSource) {
    pod_with(PRE_STOP, Probe::Http(hook)).await
}

#[tokio::test]
async fn nobody_runs_a_hook_who_does_not_know_its_path() {
    local(async {
        let (address, seen) = http_app(None).await;
        let (pod, _source) = pod(http(address.port(), "/200")).await;
        let nothing = pod.call(get("/nothing")).await;
        for path in [
            "/probes/app/prestop",
            "/probes/app/prestop/",
            "/probes/app/prestop/0123456789abcdef0123456789abcdee",
            "/probes/app/prestop/0123456789ABCDEF0123456789ABCDEF",
            "/probes/app/prestop/0123456789abcdef0123456789abcdef/",
            "/probes/app/poststart/0123456789abcdef0123456789abcdef",
        ] {
            let answer = pod.call(get(path)).await;
            assert_eq!((answer.status.as_u16(), &answer.text), (404, &nothing.text), "{path}");
        }
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            let mut other = get(PRE_STOP);
            *other.method_mut() = method.clone();
            assert_eq!(pod.call(other).await.status, 405, "{method}");
        }
        assert_eq!(seen.borrow().len(), 0);
        assert_eq!(pod.call(get(PRE_STOP)).await.status, 200);
        assert!(seen.borrow()[0].1["user-agent"].to_str().unwrap().starts_with("kube-lifecycle/"));
    })
    .await;
}

#[tokio::test]
async fn a_hook_is_good_when_the_app_has_answered_and_fails_as_it_fails_for_a_kubelet() {
    local(async {
        let (address, _seen) = http_app(None).await;
        let (answering, _source) = pod(http(address.port(), "/500")).await;
        assert_eq!(answering.call(get(PRE_STOP)).await.text, "ok\n");
        let (silent, _source) = pod(http(forms::app(b"\r\n\r\n", vec![], forms::Closes).await, "/")).await;
        let mut kubelet = silent.connect().await;
        kubelet.write_all(format!("GET {PRE_STOP} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        kubelet.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"", "any answer would be a good one");
    })
    .await;
}

#[tokio::test]
async fn a_hook_ends_with_the_content_of_its_answer_however_long_that_takes() {
    // Without the patience of other tests, which is less.
    let local = tokio::task::LocalSet::new();
    let test = local.run_until(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (has_begun, may_end) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (begun, end) = (Rc::clone(&has_begun), Rc::clone(&may_end));
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n...\r\n").await.unwrap();
            begun.notify_one();
            end.notified().await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        });
        let (pod, _source) = pod(HttpProbe { timeout: 900, ..http(port, "/drain") }).await;
        let hook = tokio::task::spawn_local(pod.call(get(PRE_STOP)));
        has_begun.notified().await;
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(899)).await;
        tokio::time::resume();
        assert_eq!(pod.call(get("/nothing")).await.status, 404);
        assert!(!hook.is_finished());
        may_end.notify_one();
        assert_eq!(hook.await.unwrap().text, "ok\n");
    });
    test.await;
}
