//! What sidecars report beside acknowledgements.

use super::*;

#[tokio::test]
async fn the_key_that_a_sidecar_reports_is_published_and_signs_for_its_client() {
    let mesh = Mesh::start().await;
    mesh.change(|model| {
        let mut spec = client_of("shop", Vec::new());
        spec.authentication = control::ClientAuthentication::PrivateKeyJwt;
        let seniority = Seniority { created: 0, key: Key::new("bank", "shop") };
        model.clients.insert(seniority.key.clone(), Client { seniority, generation: 1, spec: Some(spec), fault: None });
    });
    let key = fapi::SigningKey::generate().unwrap();
    let mut jwk = key.public_jwk();
    jwk["kid"] = key.kid().into();
    let jwks =
        |account: &str| format!("GET /clients/bank/{account}/jwks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(mesh.http(None, &jwks("shop")).await.body, r#"{"keys":[]}"#);
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("shop-1")).await.unwrap();
    let assertion_key = jwk.to_string().into_bytes();
    sidecar.say(sidecar_message::Kind::Hello(pb::Hello { assertion_key, ..pb::Hello::default() })).await;
    assert!(matches!(sidecar.next().await, Got::Bundle(_)), "it was read");
    let reply = mesh.http(None, &jwks("shop")).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&reply.body).unwrap(), serde_json::json!({ "keys": [jwk] }));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=10"));
    for other in ["ledger", "nobody", "", "a/b"] {
        assert_eq!(mesh.http(None, &jwks(other)).await.status, 404, "{other}");
    }

    // At the mesh's own issuer it counts at once, for its own client alone.
    for (client, expected) in [("shop", 200), ("ledger", 400)] {
        let (id, issuer) = (id(client).to_string(), format!("https://{}", mesh.issuer));
        let assertion = fapi::sign_assertion(&key, &id, &issuer, client, mesh.clock.now()).unwrap();
        let form = format!(
            "grant_type=client_credentials&resource=https%3A%2F%2Fpayments.bank&client_assertion_type={}&client_assertion={assertion}",
            fapi::CLIENT_ASSERTION_TYPE.replace(':', "%3A")
        );
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let reply = mesh.http(Some(&mesh.member(&format!("{client}-1"))), &request).await;
        assert_eq!(reply.status, expected, "{}", reply.body);
    }
}

#[tokio::test]
async fn a_pod_tells_what_it_counted_of_policies_that_govern_it_for_as_long_as_it_is_connected() {
    let mesh = Mesh::start().await;
    let (sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    let uid = mesh.pod("payments-1").uid;
    let known = || {
        let all = mesh.audits.all();
        assert!(all.keys().all(|known| *known == uid), "the pod is that of the certificate: {all:?}");
        let counts = |(policy, counted): (&String, &Arc<Counted>)| (policy.clone(), counted.callers()[0].count);
        all.get(&uid).into_iter().flatten().map(counts).collect::<Vec<_>>()
    };
    let say = async |policy: &str, lines: &[(&str, &str, u64)]| {
        sidecar.say(sidecar_message::Kind::WouldRefuse(told(policy, mesh.clock.now(), lines))).await;
    };
    // One after the other, so what is not taken has been read when the last is.
    for (policy, caller) in
        [("bank/ledger", "web/checkout"), ("bank/none", "other"), ("", "other"), ("bank/payments", "no\nname")]
    {
        say(policy, &[("token_missing", caller, 1)]).await;
    }
    say("bank/payments", &[("token_missing", "web/checkout", 3)]).await;
    until(|| known() == [("bank/payments".to_owned(), 3)]).await;
    say("bank/payments", &[("token_missing", "web/checkout", 4)]).await;
    until(|| known() == [("bank/payments".to_owned(), 4)]).await;
    say("bank/payments", &[]).await;
    until(|| known().is_empty()).await;
    say("bank/payments", &[("token_missing", "web/checkout", 5)]).await;
    until(|| !known().is_empty()).await;
    drop(sidecar);
    until(|| known().is_empty()).await;
    mesh.end().await;
}
