#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConnection, HandshakeKind, NamedGroup, ServerConnection,
    client::danger::ServerCertVerifier,
    pki_types::ServerName,
    server::{Acceptor, ServerSessionMemoryCache, danger::ClientCertVerifier},
};

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
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&TrustDomain::parse("bank.example").unwrap(), &self.pem).unwrap()
    }

    fn identity(&self, id: &str) -> Identity {
        identity(&self.issuer, id, &[])
    }

    /// An identity by an authority between, whose certificate has these extensions.
    fn identity_below(&self, id: &str, extensions: Vec<CustomExtension>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.custom_extensions = extensions;
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        identity(&Issuer::new(params, key), id, &[certificate])
    }
}

fn identity(issuer: &Issuer<'_, KeyPair>, id: &str, above: &[CertificateDer<'static>]) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, issuer).unwrap().der().clone();
    let chain = [&[leaf], above].concat();
    Identity::new(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap()
}

/// Runs a whole handshake in memory; what ended it, on the side that ended it.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<ServerConnection, io::Error> {
    meet(&Arc::new(client), &Arc::new(server)).map(|(_, server)| server)
}

fn meet(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), io::Error> {
    let name = ServerName::try_from("mesh.invalid").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
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
            return Ok((client, server));
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
fn plain_text_is_told_from_a_handshake_that_fails() {
    let authority = Authority::new();
    let ended = |bytes: &[u8]| {
        let mut server = ServerConnection::new(Arc::new(server(&authority, ClientAuth::Required))).unwrap();
        server.read_tls(&mut &*bytes).unwrap();
        io::Error::new(io::ErrorKind::InvalidData, server.process_new_packets().unwrap_err())
    };
    assert!(is_plaintext(&ended(b"POST /transfers HTTP/1.1\r\nhost: payments.bank\r\n\r\n")));
    // A record of a handshake with nothing of one in it.
    assert!(!is_plaintext(&ended(&[22, 3, 1, 0, 4, 9, 9, 9, 9])));
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

/// All that are offered, the preferred one first.
const GROUPS: [NamedGroup; 4] =
    [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];

#[test]
fn keys_are_exchanged_by_a_post_quantum_hybrid_and_else_by_x25519_or_p_256() {
    let authority = Authority::new();
    let shop = authority.identity(SHOP);
    let outside = public_client_config(&Roots::from_pem(&authority.pem).unwrap(), None).unwrap();
    for config in [client(&authority, Some(&shop)), outside] {
        let mut wire = Vec::new();
        let name = ServerName::try_from("as.example").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut wire).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut wire.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        assert_eq!(accepted.client_hello().named_groups(), Some(GROUPS.as_slice()));
    }
    let exchanged = |client: ClientConfig, server: ServerConfig| {
        let (_, server) = meet(&Arc::new(client), &Arc::new(server)).unwrap();
        server.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name)
    };
    let members = exchanged(client(&authority, Some(&shop)), server(&authority, ClientAuth::Required));
    assert_eq!(members, Some(NamedGroup::X25519MLKEM768));
    for group in GROUPS {
        let mut only = CryptoProvider::clone(&provider());
        only.kx_groups.retain(|known| known.name() == group);
        let payments = vec![SpiffeId::parse(PAYMENTS).unwrap()];
        let client = ClientConfig::builder_with_provider(Arc::new(only))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerIdentityVerifier::new(&authority.bundle(), payments)))
            .with_no_client_auth();
        let public = public_server_config(&authority.identity(PAYMENTS), &[]).unwrap();
        for server in [server(&authority, ClientAuth::Optional), public] {
            assert_eq!(exchanged(client.clone(), server), Some(group), "a client that knows no other");
        }
    }
}

#[test]
fn n34_no_session_is_resumed() {
    let authority = Authority::new();
    let shop = authority.identity(SHOP);
    let client = client(&authority, Some(&shop));
    let mut eager = client.clone();
    eager.resumption = Resumption::in_memory_sessions(8);
    let server = server(&authority, ClientAuth::Required);
    let mut generous = server.clone();
    generous.session_storage = ServerSessionMemoryCache::new(8);
    generous.send_tls13_tickets = 2;
    let [client, eager] = [client, eager].map(Arc::new);
    let [server, generous] = [server, generous].map(Arc::new);
    let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
    for (client, server, tickets, again) in
        [(&eager, &server, 0, full), (&client, &generous, 2, full), (&eager, &generous, 2, resumed)]
    {
        for kind in [full, again] {
            let (client, server) = meet(client, server).unwrap();
            assert_eq!((client.handshake_kind(), server.handshake_kind()), (Some(kind), Some(kind)));
            assert_eq!(client.tls13_tickets_received(), tickets);
        }
    }
    assert_eq!((server.max_early_data_size, client.enable_early_data), (0, false));
}

/// URI name constraints (RFC 5280 section 4.2.1.10): `list` is 0xa0 for what is permitted, 0xa1 for what is excluded.
fn constraints(list: u8, host: &str) -> CustomExtension {
    let wrap = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let subtree = wrap(0x30, &wrap(0x86, host.as_bytes()));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], wrap(0x30, &wrap(list, &subtree)));
    extension.set_criticality(true);
    extension
}

#[test]
fn n36_name_constraints_on_uris_are_not_passed_over() {
    let authority = Authority::new();
    let expect = || vec![SpiffeId::parse(PAYMENTS).unwrap()];
    for (extensions, good) in [
        (vec![], true),
        (vec![constraints(0xa0, "other.example")], false),
        (vec![constraints(0xa1, "bank.example")], false),
    ] {
        let below = authority.identity_below(SHOP, extensions.clone());
        let met = handshake(client(&authority, Some(&below)), server(&authority, ClientAuth::Required));
        let refused = met.err().map(|error| rejection_of(&error));
        assert_eq!(refused, (!good).then_some(Some(Rejection::PeerCertificateUntrusted)), "a caller");

        let below = authority.identity_below(PAYMENTS, extensions);
        let config = server_config(&authority.bundle(), &below, ClientAuth::Optional, &[]).unwrap();
        let met = handshake(client_config(&authority.bundle(), None, expect(), &[]).unwrap(), config);
        let refused = met.err().map(|error| rejection_of(&error));
        assert_eq!(refused, (!good).then_some(Some(Rejection::PeerCertificateUntrusted)), "a server");
    }
}

#[test]
fn a_bundle_without_a_certificate_is_refused() {
    let domain = TrustDomain::parse("bank.example").unwrap();
    assert!(matches!(TrustBundle::from_pem(&domain, ""), Err(TlsError::Bundle(_))));
    assert!(matches!(TrustBundle::from_pem(&domain, "-----BEGIN CERTIFICATE-----\nAAAA\n"), Err(TlsError::Bundle(_))));
}

#[test]
fn the_root_of_a_peer_is_known_among_several() {
    let (old, new) = (Authority::new(), Authority::new());
    let domain = TrustDomain::parse("bank.example").unwrap();
    let both = TrustBundle::from_pem(&domain, &(old.pem.clone() + &new.pem)).unwrap();
    let now = UnixTime::from_secs(1_800_000_000);
    let root = |authority: &Authority| both.root_of(authority.identity_below(SHOP, vec![]).chain(), now).unwrap();
    for (authority, other) in [(&old, &new), (&new, &old)] {
        assert!(authority.bundle().holds(&root(authority)) && both.holds(&root(authority)));
        assert!(!other.bundle().holds(&root(authority)));
    }
    assert_eq!(both.root_of(Authority::new().identity(SHOP).chain(), now), None);
    assert_eq!(both.root_of(&[], now), None);
}

#[test]
fn no_flipped_bit_of_a_chain_is_ever_accepted() {
    let authority = Authority::new();
    let members = MemberVerifier::new(&authority.bundle(), ClientAuth::Required).unwrap();
    let servers = ServerIdentityVerifier::new(&authority.bundle(), vec![SpiffeId::parse(SHOP).unwrap()]);
    let (name, now) = (ServerName::try_from("mesh.invalid").unwrap(), rustls::pki_types::UnixTime::now());
    let verdicts = |chain: &[CertificateDer<'_>]| {
        let (leaf, above) = chain.split_first().unwrap();
        let as_client = members.verify_client_cert(leaf, above, now).is_ok();
        (as_client, servers.verify_server_cert(leaf, above, &name, &[], now).is_ok())
    };
    let shop = authority.identity_below(SHOP, vec![]);
    let chain: Vec<_> = shop.chain().iter().map(|certificate| certificate.to_vec()).collect();
    let mut asked = 0;
    for (at, bit) in (0..chain.len()).flat_map(|at| (0..chain[at].len() * 8).map(move |bit| (at, bit))) {
        let mut bad = chain.clone();
        bad[at][bit / 8] ^= 1 << (bit % 8);
        let bad: Vec<_> = bad.into_iter().map(CertificateDer::from).collect();
        assert_eq!(verdicts(&bad), (false, false), "bit {bit} of certificate {at}");
        asked += 1;
    }
    assert!(asked > 5_000, "{asked}");
    assert_eq!(verdicts(shop.chain()), (true, true));
}
