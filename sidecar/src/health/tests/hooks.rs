//! Hooks: the app does something, so nobody runs one who does not know its path.

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
    })
    .await;
}
