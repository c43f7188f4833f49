//! The certificates of a cluster: one authority for servers and clients, as the API server is told.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

/// The authority. Its files are in the folder `pki` of a cluster.
pub(super) struct Authority<'a> {
    folder: &'a Path,
    issuer: Issuer<'static, KeyPair>,
}

impl<'a> Authority<'a> {
    /// Makes one, and the key that signs the tokens of service accounts.
    ///
    /// # Panics
    /// If its files cannot be written.
    pub(super) fn make(folder: &'a Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = named("fapi-cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap();
        fs::create_dir_all(folder.join("pki")).unwrap();
        write(folder, "pki/ca.crt", &certificate.pem());
        // The controller manager signs by it.
        write(folder, "pki/ca.key", &key.serialize_pem());
        let accounts = KeyPair::generate().unwrap();
        write(folder, "pki/accounts.key", &accounts.serialize_pem());
        write(folder, "pki/accounts.pub", &accounts.public_key_pem());
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server, and also for a client of the same name, since a kubelet is both.
    ///
    /// # Panics
    /// If its files cannot be written.
    pub(super) fn certify(&self, file: &str, name: &str, group: Option<&str>, addresses: &[IpAddr], names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let mut params = named(name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = addresses.iter().map(|address| SanType::IpAddress(*address)).collect();
        let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names.extend(names);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write(self.folder, &format!("pki/{file}.crt"), &certificate.pem());
        write(self.folder, &format!("pki/{file}.key"), &key.serialize_pem());
    }

    /// A kubeconfig for a user of this name and group: `FILE.kubeconfig`.
    ///
    /// # Panics
    /// If its files cannot be written.
    pub(super) fn kubeconfig(&self, file: &str, name: &str, group: Option<&str>, server: &str) {
        self.certify(file, name, group, &[], &[]);
        let at = |file: String| self.folder.join("pki").join(file);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fapi-mesh", "cluster": {
                "server": server, "certificate-authority": at("ca.crt".to_owned()),
            }}],
            "users": [{"name": file, "user": {
                "client-certificate": at(format!("{file}.crt")), "client-key": at(format!("{file}.key")),
            }}],
            "contexts": [{"name": "fapi-mesh", "context": {"cluster": "fapi-mesh", "user": file}}],
            "current-context": "fapi-mesh",
        });
        write(self.folder, &format!("{file}.kubeconfig"), &config.to_string());
    }
}

fn named(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}

fn write(folder: &Path, file: &str, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(file);
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
