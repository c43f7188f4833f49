//! Mistakes that other implementations made, N1 to N50 of the project's list, as far as only an issuer can make them and
//! no other file here is about them.

use control::tls::Identity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::revoke::token;
use super::*;

/// A certificate with the name of a member, by an authority that is not the mesh's; and that authority's own.
fn same_name(member: &Member) -> (CertificateDer<'static>, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let (key, ca) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let above = params.self_signed(&ca).unwrap().der().clone();
    let above_key = rcgen::Issuer::new(params, ca);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(member.peer.spiffe_id.as_str().try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = params.signed_by(&key, &above_key).unwrap().der().clone();
    (leaf, above, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

#[tokio::test]
async fn n37_the_same_name_by_another_authority_is_nobody() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let (leaf, above, key) = same_name(&shop);
    let ours = shop.identity.chain()[1].clone();
    for chain in [vec![leaf.clone()], vec![leaf.clone(), above], vec![leaf, ours]] {
        let identity = Identity::new(chain, key.clone_key()).unwrap();
        // TLS 1.3: the client learns of the refusal when it reads.
        let refused = async {
            let mut stream = mesh.connect(mesh.issuer, Some(&identity), &[b"http/1.1"]).await?;
            stream.write_all(post("", &form(&good(&shop, PAYMENTS))).as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        assert!(tokio::time::timeout(SOON, refused).await.unwrap().is_err());
    }
    assert_eq!(ask(&mesh, &shop, &good(&shop, PAYMENTS)).await.status, 200, "the mesh's own is somebody");
    mesh.end().await;
}

#[tokio::test]
async fn n39_a_token_is_not_turned_into_one_for_another_audience() {
    let mesh = Mesh::start().await;
    let (shop, web) = (mesh.member("shop-1"), mesh.member("web-1"));
    let held = token(&mesh, &shop, PAYMENTS).await;
    let subject = [("subject_token", held.as_str()), ("subject_token_type", ACCESS_TOKEN)];
    for (member, audience) in [(&web, PAYMENTS), (&web, LEDGER), (&shop, LEDGER)] {
        let mut parameters = good(member, audience);
        parameters[0].1 = TOKEN_EXCHANGE;
        parameters.extend(subject);
        let reply = ask(&mesh, member, &parameters).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.json().get("access_token").is_none(), "{reply:?}");
    }
    // Beside another grant it gives nothing either.
    let mut parameters = good(&web, PAYMENTS);
    parameters.extend(subject);
    assert_eq!(error(&ask(&mesh, &web, &parameters).await), (400, "invalid_target".into()));
    mesh.end().await;
}

#[tokio::test]
async fn n42_nothing_is_pushed_and_no_reference_to_it_counts() {
    let mesh = Mesh::start().await;
    let shop = mesh.member("shop-1");
    let metadata = mesh.http(None, &get("/.well-known/oauth-authorization-server")).await.json();
    for endpoint in ["pushed_authorization_request_endpoint", "authorization_endpoint"] {
        assert!(metadata.get(endpoint).is_none(), "{endpoint}");
    }
    for path in ["/par", "/authorize"] {
        assert_eq!(mesh.http(Some(&shop), &post_to(path, "", &form(&good(&shop, PAYMENTS)))).await.status, 404);
    }
    let reference = ("request_uri", "urn:ietf:params:oauth:request_uri:of-another");
    let unnamed = [("grant_type", "client_credentials"), ("resource", PAYMENTS), reference];
    assert_eq!(error(&ask(&mesh, &shop, &unnamed).await), (400, "invalid_client".into()));
    let mut parameters = good(&shop, PAYMENTS);
    parameters.extend([reference, ("scope", "accounts:read")]);
    assert_eq!(ask(&mesh, &shop, &parameters).await.json()["scope"], "accounts:read", "it adds nothing");
    mesh.end().await;
}

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
