//! Resource indicators (RFC 8707): which audiences a token gets.

use super::*;

/// Asks with a proof, as ledger demands it.
async fn ask_with_proof(mesh: &Mesh, member: &Member, resources: &[&str], scope: &str) -> Reply {
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(mesh, member, &signer, PAYMENTS).await;
    let mut parameters = good(member, "");
    parameters.extend(resources.iter().map(|resource| ("resource", *resource)));
    parameters.push(("scope", scope));
    let headers = proof(mesh, &signer, "POST", Some(&nonce), "second");
    mesh.http(Some(member), &post(&headers, &form(&parameters))).await
}

#[tokio::test]
async fn several_resources_give_what_each_of_them_gives() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let both = ask_with_proof(&mesh, &shop, &[PAYMENTS, LEDGER], "").await;
    assert_eq!(both.status, 200, "{both:?}");
    let told = claims(both.json()["access_token"].as_str().unwrap());
    assert_eq!(told["aud"], json!([PAYMENTS, LEDGER]));
    assert!(told.get("scope").is_none(), "ledger gives none of the scopes of payments");

    let more = ask_with_proof(&mesh, &shop, &[PAYMENTS, LEDGER], "accounts:read").await;
    assert_eq!(error(&more), (400, "invalid_scope".into()));
    mesh.end().await;
}

#[tokio::test]
async fn one_resource_given_twice_is_one() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let twice = ask_with_proof(&mesh, &shop, &[PAYMENTS, PAYMENTS], "accounts:read").await;
    assert_eq!(claims(twice.json()["access_token"].as_str().unwrap())["aud"], PAYMENTS);
    mesh.end().await;
}

#[tokio::test]
async fn one_bad_resource_spoils_the_request() {
    let mesh = Mesh::start().await;
    let (shop, payments) = (mesh.member("shop-1"), mesh.member("payments-1"));
    let many: Vec<String> = (0..9).map(|number| format!("https://s{number}.bank")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for resources in [
        &[PAYMENTS, "https://nobody.bank"][..],
        &["https://nobody.bank", PAYMENTS],
        &[PAYMENTS, "https://payments.bank/"],
        &[PAYMENTS, "https://payments.bank#here"],
        &[PAYMENTS, "payments"],
        &many,
    ] {
        let reply = ask_with_proof(&mesh, &shop, resources, "").await;
        assert_eq!(error(&reply), (400, "invalid_target".into()), "{resources:?}");
    }
    let mut parameters = good(&payments, LEDGER);
    parameters.push(("resource", PAYMENTS));
    let signer = ProofSigner::generate().unwrap();
    let nonce = nonce(&mesh, &payments, &signer, LEDGER).await;
    let headers = proof(&mesh, &signer, "POST", Some(&nonce), "second");
    let reply = mesh.http(Some(&payments), &post(&headers, &form(&parameters))).await;
    assert_eq!(error(&reply), (400, "invalid_target".into()), "one of them does not name the client");
    mesh.end().await;
}
