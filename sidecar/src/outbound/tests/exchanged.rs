//! Calls that are handed on: the token is exchanged for that of a call in progress, or the call is refused.

use std::time::Duration;

use fapi::{SenderConstraint::Mtls, TokenHash, UnixTime};
use http::HeaderValue;

use crate::{
    contexts::{Contexts, Handle, Subject},
    outbound::Between,
    testing::{
        app::{Answer, TestRequest, get},
        local,
        mesh::{Mesh, by_exchange, meshed},
        peer::TestPeer,
        side::caller,
    },
};

/// A mesh whose ledger is called by exchange.
async fn start() -> (Mesh, std::rc::Rc<TestPeer>) {
    let mesh = Mesh::start(Between::H1).await;
    let ledger = mesh.peer("ledger", Mtls).await;
    mesh.operator.set_destination("ledger.bank", by_exchange(meshed("ledger", Mtls, &[&ledger])));
    (mesh, ledger)
}

/// A call of `account` to shop, which has begun.
async fn call(mesh: &Mesh, account: &str) -> Handle {
    let (_, token) = caller(mesh, account, "https://shop.bank").await;
    begin(mesh, &token, mesh.shared.clock.now().plus(60))
}

fn begin(mesh: &Mesh, token: &str, expires: UnixTime) -> Handle {
    let subject = Subject { token: token.into(), hash: TokenHash::of(token), expires };
    mesh.shared.contexts.begin(subject).unwrap()
}

fn handing_on(handle: Handle) -> TestRequest {
    with(&[handle.header()])
}

fn with(contexts: &[HeaderValue]) -> TestRequest {
    let mut request = get("http://ledger.bank/a");
    for context in contexts {
        request.headers_mut().append("x-fapi-context", context.clone());
    }
    request
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

#[tokio::test]
async fn calls_with_one_token_share_one_exchange() {
    local(async {
        let (mesh, ledger) = start().await;
        let (_, token) = caller(&mesh, "web", "https://shop.bank").await;
        let end = mesh.shared.clock.now().plus(60);
        let before = mesh.issuer.issued.get();
        let handles = [begin(&mesh, &token, end), begin(&mesh, &token, end)];
        let mut running = tokio::task::JoinSet::new();
        for at in 0..50 {
            running.spawn_local(mesh.app.call(handing_on(handles[at % 2])));
        }
        while let Some(answer) = running.join_next().await {
            assert_eq!(answer.unwrap().status, 200);
        }
        assert_eq!(mesh.issuer.issued.get() - before, 1);
        let form = mesh.issuer.forms.borrow().last().unwrap().clone();
        assert!(form.contains(&format!("subject_token={token}&")), "{form}");
        let (_, headers) = ledger.last.borrow_mut().take().unwrap();
        assert!(!headers.contains_key("x-fapi-context"));

        mesh.shared.contexts.end(handles[0]);
        assert_eq!(refusal(&mesh.app.call(handing_on(handles[0])).await), (503, "token_unavailable".to_owned()));
        assert_eq!(mesh.app.call(handing_on(handles[1])).await.status, 200, "the other call goes on");
        let other = call(&mesh, "payments").await;
        let before = mesh.issuer.issued.get();
        assert_eq!(mesh.app.call(handing_on(other)).await.status, 200);
        assert_eq!(mesh.issuer.issued.get() - before, 1, "another token is exchanged by itself");
        assert!(ledger.refused.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_call_that_hands_nothing_on_is_refused_and_the_issuer_is_not_asked() {
    local(async {
        let (mesh, ledger) = start().await;
        let (living, ended) = (call(&mesh, "web").await, call(&mesh, "web").await);
        mesh.shared.contexts.end(ended);
        let expired = begin(&mesh, "t", mesh.shared.clock.now());
        let elsewhere = Contexts::new();
        let subject = Subject { token: "t".into(), hash: TokenHash::of("t"), expires: UnixTime::from_secs(u64::MAX) };
        let elsewhere = elsewhere.begin(subject).unwrap();
        let upper = HeaderValue::from_str(&living.header().to_str().unwrap().to_uppercase()).unwrap();
        let (malformed, gone) = ((400, "request_malformed".to_owned()), (503, "token_unavailable".to_owned()));
        for (contexts, outcome) in [
            (vec![], &malformed),
            (vec![living.header(), living.header()], &malformed),
            (vec![living.header(), ended.header()], &malformed),
            (vec![upper], &malformed),
            (vec![HeaderValue::from_static("")], &malformed),
            (vec![ended.header()], &gone),
            (vec![expired.header()], &gone),
            (vec![elsewhere.header()], &gone),
        ] {
            let answer = mesh.app.call(with(&contexts)).await;
            assert_eq!(refusal(&answer), *outcome, "{contexts:?}");
            assert!(answer.text.contains("x-fapi-context"), "it says what to do: {}", answer.text);
        }
        let mut underscored = get("http://ledger.bank/a");
        underscored.headers_mut().insert("x_fapi_context", living.header());
        assert_eq!(refusal(&mesh.app.call(underscored).await), malformed);
        assert!(mesh.issuer.forms.borrow().is_empty());
        assert_eq!(ledger.served.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn other_destinations_never_see_the_handle() {
    local(async {
        let (mesh, _) = start().await;
        let payments = mesh.serve("payments", Mtls).await;
        let mut request = get("http://payments.bank/a");
        request.headers_mut().insert("x-fapi-context", call(&mesh, "web").await.header());
        assert_eq!(mesh.app.call(request).await.status, 200);
        let (_, headers) = payments.last.borrow_mut().take().unwrap();
        assert!(!headers.contains_key("x-fapi-context"));
        assert!(mesh.issuer.forms.borrow()[0].starts_with("grant_type=client_credentials&"));
    })
    .await;
}

#[tokio::test]
async fn what_the_issuer_refuses_is_not_tried_on_and_on() {
    local(async {
        let (mesh, ledger) = start().await;
        for (error, outcome) in
            [("invalid_target", (403, "not_granted")), ("invalid_request", (503, "token_unavailable"))]
        {
            let handle = call(&mesh, "web").await;
            mesh.issuer.refuse.replace(Some(error));
            let asked = mesh.issuer.forms.borrow().len();
            for _ in 0..3 {
                let (status, reason) = refusal(&mesh.app.call(handing_on(handle)).await);
                assert_eq!((status, reason.as_str()), outcome);
            }
            assert_eq!(mesh.issuer.forms.borrow().len() - asked, 1, "once in a while");
            mesh.issuer.refuse.replace(None);
            let mut answers = 0;
            while mesh.app.call(handing_on(handle)).await.status != 200 {
                answers += 1;
                assert!(answers < 1000, "it is tried again");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(ledger.refused.borrow().is_empty());
    })
    .await;
}
