//! The issuer's HTTP side: routes, bounds, deadlines, and how answers look.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fapi::SpiffeId;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;

use super::MeshAuthorizationServer;
use super::error::TokenError;
use super::exchange::ACCESS_TOKEN;
use super::form::Form;
use super::introspect::{self, Told};
use super::revoke;
use super::token::{self, Facts, Issued};
use crate::accept::{Connection, drive};
use crate::caller::Caller;
use crate::client_keys::Standing;

/// The token endpoint.
pub(super) const TOKEN: &str = "/token";
/// RFC 7009.
pub(super) const REVOKE: &str = "/revoke";
/// RFC 7662.
pub(super) const INTROSPECT: &str = "/introspect";
/// The public keys.
pub(super) const JWKS: &str = "/jwks";
/// RFC 8414 section 3, for an issuer identifier without a path.
pub(super) const METADATA: &str = "/.well-known/oauth-authorization-server";

/// `/clients/<namespace>/<service account>/jwks`: the keys with which the sidecars of a client sign, for authorization servers
/// outside the mesh.
const CLIENTS: &str = "/clients/";
/// Seconds; short, as a pod that has just started signs with a key of its own.
const CLIENT_KEYS_FOR: u32 = 10;

/// A token request has about 300 bytes, with an assertion 1,000; a token to look at has at most 8 KiB.
const MAX_BODY: usize = 16 * 1024;
const MAX_HEADERS: u32 = 32 * 1024;
/// From the first byte of a request to its answer.
const REQUEST: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);
const STREAMS: u32 = 64;
/// A client without a sidecar asks for one token after the other. What all strangers send at one time must fit into memory.
const STREAMS_OF_A_STRANGER: u32 = 4;

type Answer = Response<Full<Bytes>>;

/// Serves one connection to its end.
pub(super) async fn connection(server: Arc<MeshAuthorizationServer>, connection: Connection) {
    let (stream, caller, ending) = connection.split();
    let streams = if caller.is_some() { STREAMS } else { STREAMS_OF_A_STRANGER };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (server, caller) = (server.clone(), caller.clone());
        async move { Ok::<_, Infallible>(answer(&server, caller.as_deref(), request).await) }
    });
    let io = TokioIo::new(stream);
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .max_concurrent_streams(streams)
            .max_header_list_size(MAX_HEADERS);
        drive(builder.serve_connection(io, service), ending, http2::Connection::graceful_shutdown).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(REQUEST).max_buf_size(MAX_HEADERS as usize);
        drive(builder.serve_connection(io, service), ending, http1::Connection::graceful_shutdown).await;
    }
}

async fn answer(server: &MeshAuthorizationServer, caller: Option<&Caller>, request: Request<Incoming>) -> Answer {
    if !names_one_host(&request) {
        return refused_answer(&TokenError::Malformed);
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        TOKEN => token(server, caller, request).await,
        REVOKE => revoke(server, caller, request).await,
        INTROSPECT => introspect(server, caller, request).await,
        METADATA if read => document("public, max-age=300".to_owned(), server.metadata.clone()),
        JWKS if read => {
            let jwks = server.kept.keys.published().borrow().jwks.clone();
            document(format!("public, max-age={}", server.kept.keys.max_age().as_secs()), jwks.into())
        }
        path if path.starts_with(CLIENTS) && read => match client_jwks(server, path) {
            Some(jwks) => document(format!("public, max-age={CLIENT_KEYS_FOR}"), jwks.into()),
            None => empty(StatusCode::NOT_FOUND),
        },
        METADATA | JWKS => {
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn client_jwks(server: &MeshAuthorizationServer, path: &str) -> Option<String> {
    let (namespace, account) = path.strip_prefix(CLIENTS)?.strip_suffix("/jwks")?.split_once('/')?;
    let (view, revocations) = (server.view.borrow().clone(), server.revocations.in_force());
    let client = SpiffeId::new(view.trust_domain(), namespace, account).ok()?;
    let standing = Standing { view: &view, revoked: &revocations.set, now: server.clock.now() };
    server.client_keys.published(standing, &client)
}

async fn token(server: &MeshAuthorizationServer, caller: Option<&Caller>, request: Request<Incoming>) -> Answer {
    let proof = token::has_proof(request.headers());
    let mut facts = Facts::of(caller);
    let outcome = match read(request).await {
        Ok((headers, form)) => token::decide(server, caller, &headers, &form, &mut facts).await,
        Err(error) => Err(error),
    };
    token::log(&facts, &outcome);
    // RFC 9449 section 8.2: a new nonce on any answer replaces the one before.
    let nonce = (proof && facts.client.is_some()).then(|| server.nonces.mint(server.clock.now()));
    let mut answer = match &outcome {
        Ok(issued) => issued_answer(issued),
        Err(error) => refused_answer(error),
    };
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
        answer.headers_mut().insert("dpop-nonce", nonce);
    }
    answer
}

async fn revoke(server: &MeshAuthorizationServer, caller: Option<&Caller>, request: Request<Incoming>) -> Answer {
    let mut facts = Facts::of(caller);
    let outcome = match read(request).await {
        Ok((headers, form)) => revoke::decide(server, caller, &headers, &form, &mut facts).await,
        Err(error) => Err(error),
    };
    revoke::log(&facts, &outcome);
    match &outcome {
        Ok(()) => unkept(empty(StatusCode::OK)),
        Err(error) => refused_answer(error),
    }
}

async fn introspect(server: &MeshAuthorizationServer, caller: Option<&Caller>, request: Request<Incoming>) -> Answer {
    let signed = introspect::wants_signed(request.headers());
    let mut facts = Facts::of(caller);
    let decided = match read(request).await {
        Ok((headers, form)) => introspect::decide(server, caller, &headers, &form, &mut facts).await,
        Err(error) => Err(error),
    };
    // What cannot be signed is not told, and so not logged as told.
    let outcome = decided.and_then(|told| Ok((told_answer(server, &told, signed)?, told)));
    introspect::log(&facts, outcome.as_ref().map(|(_, told)| told));
    outcome.map_or_else(|error| refused_answer(&error), |(answer, _)| answer)
}

/// RFC 7662 section 2.2, or RFC 9701 section 5.
fn told_answer(server: &MeshAuthorizationServer, told: &Told, signed: bool) -> Result<Answer, TokenError> {
    if !signed {
        return Ok(private(StatusCode::OK, &told.body()));
    }
    let mut answer = Response::new(Full::new(told.signed(server)?.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(introspect::SIGNED));
    Ok(unkept(answer))
}

/// The headers and the parameters of a request.
async fn read(request: Request<Incoming>) -> Result<(HeaderMap, Form), TokenError> {
    if request.method() != Method::POST {
        return Err(TokenError::Method);
    }
    if header_size(request.headers()) > MAX_HEADERS as usize {
        return Err(TokenError::HeadersTooLarge);
    }
    if request.uri().query().is_some() {
        return Err(TokenError::Query);
    }
    if !is_form(request.headers()) {
        return Err(TokenError::ContentType);
    }
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(REQUEST, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| TokenError::TooSlow)?
        .map_err(|error| if error.is::<LengthLimitError>() { TokenError::TooLarge } else { TokenError::Malformed })?;
    Ok((parts.headers, Form::parse(&body.to_bytes())?))
}

/// A request of HTTP/1.1 has one `Host` (RFC 9112 section 3.2). In HTTP/2 `:authority` stands for it, and both together say the same
/// (RFC 9113 section 8.3.1).
fn names_one_host(request: &Request<Incoming>) -> bool {
    let authority = request.uri().authority().map(Authority::as_str);
    let mut hosts = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let (host, one) = (hosts.next(), hosts.next().is_none());
    let valid = host.is_none_or(|host| host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok()));
    let named = match request.version() {
        Version::HTTP_2 => match (authority, host) {
            (Some(authority), Some(host)) => host.eq_ignore_ascii_case(authority.as_bytes()),
            (authority, host) => authority.is_some() || host.is_some(),
        },
        version => host.is_some() || version == Version::HTTP_10,
    };
    one && valid && named
}

/// As HTTP/2 counts it (RFC 9113 section 6.5.2). For HTTP/1.1 the library's bound is on its buffer, which may grow beyond.
fn header_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// A form and nothing else, with or without parameters of the media type.
fn is_form(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return false };
    let media_type = value.to_str().ok().and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// RFC 6749 section 5.1, RFC 8693 section 2.2.1, RFC 9396 section 7.
fn issued_answer(issued: &Issued) -> Answer {
    let mut body = json!({
        "access_token": issued.token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    });
    if let (true, Some(members)) = (issued.exchanged, body.as_object_mut()) {
        members.insert("issued_token_type".to_owned(), ACCESS_TOKEN.into());
    }
    if let (false, Some(members)) = (issued.scopes.is_empty(), body.as_object_mut()) {
        members.insert("scope".to_owned(), issued.scopes.to_string().into());
    }
    if let (false, Some(members)) = (issued.details.is_empty(), body.as_object_mut()) {
        members.insert("authorization_details".to_owned(), json!(issued.details));
    }
    private(StatusCode::OK, &body)
}

/// RFC 6749 section 5.2.
fn refused_answer(error: &TokenError) -> Answer {
    let wire = error.wire();
    let mut answer = private(wire.status, &json!({"error": wire.code, "error_description": error.to_string()}));
    let headers = answer.headers_mut();
    match error {
        TokenError::Method => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        TokenError::OtherAuthentication { scheme: Some(scheme) } => {
            if let Ok(scheme) = HeaderValue::from_str(scheme) {
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
        }
        // The rest of the body is not worth reading.
        TokenError::TooLarge | TokenError::TooSlow => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// An answer for one client's eyes.
fn private(status: StatusCode, body: &serde_json::Value) -> Answer {
    unkept(json_answer(status, body.to_string().into(), HeaderValue::from_static("no-store")))
}

/// An answer that nobody keeps (RFC 6749 section 5.1).
fn unkept(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

/// A document that anyone may read and keep for a while.
fn document(cache: String, body: Bytes) -> Answer {
    let cache = HeaderValue::try_from(cache).unwrap_or(HeaderValue::from_static("no-store"));
    json_answer(StatusCode::OK, body, cache)
}

fn json_answer(status: StatusCode, body: Bytes, cache: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(header::CACHE_CONTROL, cache);
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
