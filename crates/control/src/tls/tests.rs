#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

use super::*;

const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";
const PAYMENTS: &str = "spiffe://bank.example/ns/bank/sa/payments";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&TrustDomain::parse("bank.example").unwrap(), &self.pem).unwrap()
    }

    fn identity(&self, id: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap()
    }
}

/// Runs a whole handshake in memory; what ended it, on the side that ended it.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<ServerConnection, io::Error> {
    let name = ServerName::try_from("mesh.invalid").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let wrap = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire)?;
        server.read_tls(&mut wire.as_slice())?;
        server.process_new_packets().map_err(wrap)?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire)?;
        client.read_tls(&mut wire.as_slice())?;
        client.process_new_packets().map_err(wrap)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(server);
        }
    }
    panic!("the handshake does not end");
}

fn client(authority: &Authority, identity: Option<&Identity>) -> ClientConfig {
    client_config(&authority.bundle(), identity, vec![SpiffeId::parse(PAYMENTS).unwrap()], &[b"h2"]).unwrap()
}

fn server(authority: &Authority, auth: ClientAuth) -> ServerConfig {
    server_config(&authority.bundle(), &authority.identity(PAYMENTS), auth, &[b"h2", b"http/1.1"]).unwrap()
}

#[test]
fn members_of_the_mesh_meet() {
    let authority = Authority::new();
    let shop = authority.identity(SHOP);
    let mut connection = handshake(client(&authority, Some(&shop)), server(&authority, ClientAuth::Required)).unwrap();
    assert_eq!(connection.peer_certificates().unwrap()[0], *shop.leaf().unwrap());
    assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    connection.writer().write_all(b"x").unwrap();
    assert!(connection.reader().read(&mut [0]).is_err(), "nothing was sent");
}

#[test]
fn a_caller_without_certificate() {
    let authority = Authority::new();
    let error = handshake(client(&authority, None), server(&authority, ClientAuth::Required)).unwrap_err();
    assert_eq!(rejection_of(&error), Some(Rejection::PeerCertificateMissing));
    let connection = handshake(client(&authority, None), server(&authority, ClientAuth::Optional)).unwrap();
    assert!(connection.peer_certificates().is_none());
}

#[test]
fn strangers_are_refused() {
    let authority = Authority::new();
    let stranger = Authority::new().identity(SHOP);
    let elsewhere = authority.identity("spiffe://evil.example/ns/bank/sa/shop");
    let cases = [(stranger, Rejection::PeerCertificateUntrusted), (elsewhere, Rejection::TrustDomainNotAllowed)];
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        for (identity, expected) in &cases {
            let error = handshake(client(&authority, Some(identity)), server(&authority, auth)).unwrap_err();
            assert_eq!(rejection_of(&error), Some(*expected));
        }
    }
}

#[test]
fn a_server_must_be_the_one_called() {
    let authority = Authority::new();
    let impostor = server_config(&authority.bundle(), &authority.identity(SHOP), ClientAuth::Optional, &[]).unwrap();
    let config = client_config(&authority.bundle(), None, vec![SpiffeId::parse(PAYMENTS).unwrap()], &[]).unwrap();
    let error = handshake(config, impostor).unwrap_err();
    assert_eq!(rejection_of(&error), Some(Rejection::PeerIdentityMismatch));
    let foreign = Authority::new();
    let error = handshake(client(&authority, None), server(&foreign, ClientAuth::Optional)).unwrap_err();
    assert_eq!(rejection_of(&error), Some(Rejection::PeerCertificateUntrusted));
}

#[test]
fn a_bundle_without_a_certificate_is_refused() {
    let domain = TrustDomain::parse("bank.example").unwrap();
    assert!(matches!(TrustBundle::from_pem(&domain, ""), Err(TlsError::Bundle(_))));
    assert!(matches!(TrustBundle::from_pem(&domain, "-----BEGIN CERTIFICATE-----\nAAAA\n"), Err(TlsError::Bundle(_))));
}
