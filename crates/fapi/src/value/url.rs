use std::{fmt, sync::Arc};

use super::{InvalidValue, spiffe::is_label};

/// The identifier of an authorization server (RFC 8414 section 2), an `https` URL compared byte by byte. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Reads an issuer identifier.
    ///
    /// # Errors
    /// Not `https`, no host, longer than 512 bytes, a query, a fragment or a character outside RFC 3986.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        check_url("issuer", text)?;
        if text.contains('?') {
            return Err(InvalidValue::new("issuer", "a query is not allowed"));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identifier of a resource (RFC 8707), an absolute `https` URL compared byte by byte. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience(Arc<str>);

impl Audience {
    /// Reads a resource identifier.
    ///
    /// # Errors
    /// Not `https`, no host, longer than 512 bytes, a fragment or a character outside RFC 3986.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        check_url("audience", text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The audience of a Service: `https://<service>.<namespace>`.
    ///
    /// # Errors
    /// Names that are no DNS labels.
    pub fn for_service(service: &str, namespace: &str) -> Result<Self, InvalidValue> {
        if !is_label(service) || !is_label(namespace) {
            return Err(InvalidValue::new("audience", "service and namespace are DNS labels (RFC 1123)"));
        }
        Ok(Self(Arc::from(format!("https://{service}.{namespace}"))))
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `https://host[:port]`, in normal form (RFC 3986 section 6.2): lower case, without the default port. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(Arc<str>);

impl Origin {
    /// Reads an origin; one slash at the end is allowed.
    ///
    /// # Errors
    /// Not `https`, no host, user information, a path, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let (origin, rest) = split_origin(text)?;
        match rest {
            "" | "/" => Ok(origin),
            _ => Err(InvalidValue::new("origin", "want https://host[:port] and nothing behind it")),
        }
    }

    /// The origin in normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
shown!(Issuer, Audience, Origin);

/// Splits an absolute URL into its origin, in normal form, and what follows.
pub(crate) fn split_origin(text: &str) -> Result<(Origin, &str), InvalidValue> {
    let scheme = InvalidValue::new("URL", "want https://host[:port]...");
    let (head, rest) = text.split_at_checked(HTTPS.len()).ok_or(scheme)?;
    if !head.eq_ignore_ascii_case(HTTPS) {
        return Err(scheme);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (host, port) = split_port(authority)?;
    check_host(host)?;
    let mut origin = format!("{HTTPS}{}", host.to_ascii_lowercase());
    if let Some(port) = port.filter(|port| *port != 443) {
        origin.push_str(&format!(":{port}"));
    }
    Ok((Origin(Arc::from(origin)), rest))
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), InvalidValue> {
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside of `[...]` belongs to the address.
        Some((_, port)) if port.contains(']') => return Ok((authority, None)),
        Some(split) => split,
        None => return Ok((authority, None)),
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number) if digits => Ok((host, Some(number))),
        _ => Err(InvalidValue::new("URL", "the port is no number up to 65535")),
    }
}

fn check_host(host: &str) -> Result<(), InvalidValue> {
    let good = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            (1..=253).contains(&host.len()) && host.bytes().all(good)
        }
    };
    good.then_some(()).ok_or(InvalidValue::new("URL", "the host is no DNS name or address"))
}

fn check_url(what: &'static str, text: &str) -> Result<(), InvalidValue> {
    if text.len() > 512 {
        return Err(InvalidValue::new(what, "longer than 512 bytes"));
    }
    if !text.starts_with(HTTPS) {
        return Err(InvalidValue::new(what, "want an absolute https URL"));
    }
    let (_, rest) = split_origin(text).map_err(|error| InvalidValue::new(what, error.problem))?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    if !rest.bytes().all(good) {
        return Err(InvalidValue::new(what, "a fragment or a character outside RFC 3986"));
    }
    Ok(())
}

const HTTPS: &str = "https://";
