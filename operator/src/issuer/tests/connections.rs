//! Connections, and what a request has to look like.

use super::*;

#[tokio::test]
async fn requests_of_another_form_are_refused() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let body = form(&good(&shop, PAYMENTS));
    let request = post("", &body);
    let json = request.replace("application/x-www-form-urlencoded", "application/json");
    let charset = request.replace("urlencoded", "urlencoded; charset=UTF-8");
    let large = post("", &format!("{body}&x={}", "x".repeat(20_000)));
    let code = "invalid_request".to_owned();
    for (request, status) in [
        (json, 415),
        (request.replace("Content-Type", "X-Type"), 415),
        (request.replace("Content-Type", "Content-Type: application/json\r\nContent-Type"), 415),
        (request.replace("Host", "X-Host"), 400),
        (request.replace("Host", "Host: other\r\nHost"), 400),
        (request.replace("Host: x", "Host: x y"), 400),
        (request.replace("Host: x", "Host: shop@x"), 400),
        (large, 413),
        (request.replace("/token ", "/token?scope=x "), 400),
        (post("", &format!("{body}&grant_type=client_credentials")), 400),
        (post("", &format!("{body}&x=%zz")), 400),
        (post("", &form(&good(&shop, PAYMENTS)[1..])), 400),
        (get("/token"), 405),
    ] {
        assert_eq!(error(&mesh.http(Some(&shop), &request).await), (status, code.clone()), "{request}");
    }
    assert_eq!(mesh.http(Some(&shop), &charset).await.status, 200);
    let many = format!("X: {}\r\n", "x".repeat(8_000)).repeat(5);
    assert_eq!(error(&mesh.http(Some(&shop), &post(&many, &body)).await), (431, code.clone()));
    assert_eq!(mesh.http(Some(&shop), &get("/token")).await.header("allow"), Some("POST"));
    assert_eq!(mesh.http(Some(&shop), &get("/other")).await.status, 404);
    for path in ["/jwks", "/other"] {
        assert_eq!(mesh.http(Some(&shop), &get(path).replace("Host", "X-Host")).await.status, 400);
    }
    assert_eq!(mesh.http(Some(&shop), &get("/jwks").replace("GET", "DELETE")).await.status, 405);

    for grant in ["password", "refresh_token", "authorization_code", "CLIENT_CREDENTIALS"] {
        let mut parameters = good(&shop, PAYMENTS);
        parameters[0] = ("grant_type", grant);
        let reply = ask(&mesh, &shop, &parameters).await;
        assert_eq!(error(&reply), (400, "unsupported_grant_type".into()), "{grant}");
    }
    mesh.end().await;
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let stream = mesh.connect(mesh.issuer, Some(&shop.identity), &[b"h2"]).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("https://{}/token", mesh.issuer))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(http_body_util::Full::<bytes::Bytes>::from(form(&good(&shop, PAYMENTS))))
        .unwrap();
    let answer = tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    // `:authority` and `Host` are one name (RFC 9113 section 8.3.1).
    for (host, status) in [(mesh.issuer.to_string(), 200), ("other".to_owned(), 400)] {
        let request = http::Request::get(format!("https://{}/jwks", mesh.issuer)).header("host", host);
        let request = request.body(http_body_util::Full::default()).unwrap();
        let answer = tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), status);
    }
    drop((answer, sender));
    mesh.end().await;
    driver.abort();
}

#[tokio::test]
async fn strangers_do_not_get_past_the_handshake() {
    let (mesh, other) = (Mesh::start().await, Mesh::start().await);
    let stranger = other.member("shop-1");
    // TLS 1.3: the client learns of the refusal when it reads.
    let refused = async {
        let mut stream = mesh.connect(mesh.issuer, Some(&stranger.identity), &[b"http/1.1"]).await?;
        stream.write_all(get("/jwks").as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    assert!(tokio::time::timeout(SOON, refused).await.unwrap().is_err());
    mesh.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_the_server_with_tls_1_3_only() {
    let mesh = Mesh::start().await;
    let address = mesh.issuer.to_string();
    let dial = |version: &str, ip: &str| {
        let arguments = ["s_client", "-brief", "-connect", &address, version, "-verify_return_error"];
        let arguments = [&arguments[..], &["-CAfile", "trust-bundle.pem", "-verify_ip", ip]].concat();
        tokio::task::block_in_place(|| openssl(mesh.dir.path(), &arguments).is_some())
    };
    assert!(dial("-tls1_3", "127.0.0.1"));
    assert!(!dial("-tls1_3", "127.0.0.2"), "the certificate names the host");
    assert!(!dial("-tls1_2", "127.0.0.1"));
    mesh.end().await;
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_dropped() {
    let mesh = Mesh::start().await;
    let mut silent = tokio::net::TcpStream::connect(mesh.issuer).await.unwrap();
    let read = tokio::time::timeout(SOON, silent.read(&mut [0])).await.expect("handshakes have a deadline");
    assert_eq!(read.unwrap_or(0), 0);
    mesh.end().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_idle_connections() {
    let mesh = Mesh::start().await;
    let mut idle = mesh.connect(mesh.issuer, None, &[b"http/1.1"]).await.unwrap();
    mesh.end().await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, idle.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}
