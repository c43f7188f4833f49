//! The floor: what a pair of proxies costs at the very least with hyper and rustls, one current-thread runtime each.
//! No identity, no token, no check, no log, no limit, no deadline: a yardstick, clearly not the product.

use std::{
    cell::RefCell,
    error::Error,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use http_body_util::Full;
use hyper::{
    Request, Response, Uri,
    body::{Body, Incoming},
    client::conn::{http1, http2},
    rt::Executor,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "A bare pair of proxies, to measure against")]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Answers every request with a few bytes.
    App { listen: SocketAddr },
    /// Plain HTTP in, mutual TLS out.
    Outbound { listen: SocketAddr, peer: SocketAddr, pems: PathBuf, between: Between },
    /// Mutual TLS in, plain HTTP out.
    Inbound {
        listen: SocketAddr,
        app: SocketAddr,
        pems: PathBuf,
        between: Between,
        /// The app speaks HTTP/2.
        #[arg(long)]
        h2_app: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Between {
    H1,
    H2,
}

#[derive(Clone)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// One upstream: idle HTTP/1.1 connections, or one HTTP/2 connection.
struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    h2: bool,
    idle: RefCell<Vec<http1::SendRequest<Incoming>>>,
    shared: RefCell<Option<http2::SendRequest<Incoming>>>,
}

impl Upstream {
    async fn send(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
        if self.h2 {
            let shared = self.shared.borrow().clone();
            let mut sender = match shared {
                Some(sender) => sender,
                None => self.connect_h2().await?,
            };
            *request.version_mut() = hyper::Version::HTTP_2;
            let authority = self.address.to_string();
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = Uri::builder().scheme("http").authority(authority).path_and_query(path).build()?;
            request.headers_mut().remove(hyper::header::HOST);
            return Ok(sender.send_request(request).await?);
        }
        let idle = {
            let mut idle = self.idle.borrow_mut();
            idle.iter().position(http1::SendRequest::is_ready).map(|at| idle.swap_remove(at))
        };
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.connect_h1().await?,
        };
        *request.version_mut() = hyper::Version::HTTP_11;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() = path.parse()?;
        if !request.headers().contains_key(hyper::header::HOST) {
            request.headers_mut().insert(hyper::header::HOST, "floor".parse()?);
        }
        let response = sender.send_request(request).await?;
        self.idle.borrow_mut().push(sender);
        Ok(response)
    }

    async fn connect_h1(&self) -> Result<http1::SendRequest<Incoming>, Failure> {
        let (sender, tcp) = (self.address, TcpStream::connect(self.address).await?);
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => h1_over(tls.connect(ServerName::from(sender.ip()), tcp).await?).await,
            None => h1_over(tcp).await,
        }
    }

    async fn connect_h2(&self) -> Result<http2::SendRequest<Incoming>, Failure> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let sender = match &self.tls {
            Some(tls) => h2_over(tls.connect(ServerName::from(self.address.ip()), tcp).await?).await?,
            None => h2_over(tcp).await?,
        };
        Ok(self.shared.borrow_mut().get_or_insert(sender).clone())
    }
}

async fn h1_over<T>(io: T) -> Result<http1::SendRequest<Incoming>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn h2_over<T>(io: T) -> Result<http2::SendRequest<Incoming>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http2::handshake(Local, TokioIo::new(io)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn serve<T, S, F, B>(io: T, h2: bool, service: S)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Result<Response<B>, Failure>> + 'static,
    B: Body + 'static,
    B::Error: Into<Failure>,
{
    let service = service_fn(service);
    if h2 {
        drop(hyper::server::conn::http2::Builder::new(Local).serve_connection(TokioIo::new(io), service).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await);
    }
}

/// Whether a plain connection begins with the HTTP/2 preface.
async fn is_h2(tcp: &TcpStream) -> bool {
    let mut first = [0; 3];
    matches!(tcp.peek(&mut first).await, Ok(3)) && &first == b"PRI"
}

fn credentials(
    pems: &Path,
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pems.join("root.pem"))?)?;
    let chain = vec![CertificateDer::from_pem_file(pems.join("leaf.pem"))?];
    Ok((Arc::new(roots), chain, PrivateKeyDer::from_pem_file(pems.join("leaf.key"))?))
}

fn connector(pems: &Path) -> Result<TlsConnector, Failure> {
    let (roots, chain, key) = credentials(pems)?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

fn acceptor(pems: &Path) -> Result<TlsAcceptor, Failure> {
    let (roots, chain, key) = credentials(pems)?;
    let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(WebPkiClientVerifier::builder(roots).build()?)
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

async fn run(role: Role) -> Result<(), Failure> {
    let (listen, upstream, acceptor, tls_h2) = match role {
        Role::App { listen } => (listen, None, None, false),
        Role::Outbound { listen, peer, pems, between } => {
            (listen, Some((peer, Some(connector(&pems)?), between == Between::H2)), None, false)
        }
        Role::Inbound { listen, app, pems, between, h2_app } => {
            (listen, Some((app, None, h2_app)), Some(acceptor(&pems)?), between == Between::H2)
        }
    };
    let upstream = upstream.map(|(address, tls, h2)| {
        Rc::new(Upstream { address, tls, h2, idle: RefCell::default(), shared: RefCell::default() })
    });
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        tokio::task::spawn_local(async move {
            match (acceptor, upstream) {
                (Some(tls), Some(upstream)) => {
                    let Ok(tls) = tls.accept(tcp).await else { return };
                    serve(tls, tls_h2, move |request| forward(upstream.clone(), request)).await;
                }
                (None, Some(upstream)) => {
                    let h2 = is_h2(&tcp).await;
                    serve(tcp, h2, move |request| forward(upstream.clone(), request)).await;
                }
                (_, None) => {
                    let h2 = is_h2(&tcp).await;
                    serve(tcp, h2, answer).await;
                }
            }
        });
    }
}

async fn forward(upstream: Rc<Upstream>, request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
    upstream.send(request).await
}

async fn answer(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    Ok(Response::new(Full::new(Bytes::from_static(b"{\"balance\":100,\"currency\":\"EUR\"}"))))
}

fn main() -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "a crypto provider is installed already")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(Args::parse().role))
}
