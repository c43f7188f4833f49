//! The shapes of strings, spelled once.

/// A DNS label (RFC 1123): namespaces, Services, ports.
pub(crate) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS name of labels: service accounts.
pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A SPIFFE trust domain that is also a DNS name.
pub(crate) const TRUST_DOMAIN: &str = SUBDOMAIN;
/// A scope token (RFC 6749 section 3.3).
pub(crate) const SCOPE: &str = r"^[!#-\[\]-~]+$";
/// Text of printable ASCII.
pub(crate) const PRINTABLE: &str = "^[ -~]+$";
/// A path in normal form: no empty, `.` or `..` segment, nothing encoded, no `;` and no `*`.
pub(crate) const PATH: &str = concat!(
    r"^/$|^(/(",
    r"[A-Za-z0-9_~!$&'()+,=:@-][A-Za-z0-9._~!$&'()+,=:@-]*",
    r"|\.[A-Za-z0-9_~!$&'()+,=:@-][A-Za-z0-9._~!$&'()+,=:@-]*",
    r"|\.\.[A-Za-z0-9._~!$&'()+,=:@-]+",
    r"))+/?$",
);
/// A duration (GEP-2257): `90s`, `12h`, `1h30m`.
pub(crate) const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// A time (RFC 3339) as Kubernetes writes it, such as `2026-12-31T23:59:59Z`.
pub(crate) const TIME: &str = concat!(
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?",
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
);
/// A SPIFFE ID of a workload.
pub(crate) const SPIFFE_ID: &str = "^spiffe://[a-z0-9._-]+/ns/[a-z0-9-]+/sa/[a-z0-9.-]+$";
/// The id of a key: visible ASCII without quote and backslash.
pub(crate) const KEY_ID: &str = r"^[!#-\[\]-~]+$";
/// base64url without padding (RFC 7515 section 2).
pub(crate) const BASE64URL: &str = "^[A-Za-z0-9_-]+$";
/// An https URL without query and fragment, of the characters that RFC 3986 allows.
pub(crate) const HTTPS_URL: &str = r"^https://[A-Za-z0-9][A-Za-z0-9._~:/@!$&'()*+,;=%\-]*$";
/// The origin of https URLs: a host, and a port if it is not 443.
pub(crate) const HTTPS_ORIGIN: &str = r"^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$";
/// A client identifier (RFC 6749 appendix A.1), without space.
pub(crate) const CLIENT_ID: &str = "^[!-~]+$";
/// PEM, from its first line on.
pub(crate) const PEM: &str = "^-----BEGIN CERTIFICATE-----";
/// A network in CIDR notation with a prefix of at least 8 bits.
pub(crate) const NETWORK: &str = concat!(
    r"^([0-9]{1,3}\.){3}[0-9]{1,3}/([89]|[12][0-9]|3[0-2])$",
    r"|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*/([89]|[1-9][0-9]|1[01][0-9]|12[0-8])$",
);
