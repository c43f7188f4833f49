//! Mistakes that other implementations made, N1 to N50 of the project's list, as far as only an issuer can make them and
//! no other file here is about them.

use control::tls::Identity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
