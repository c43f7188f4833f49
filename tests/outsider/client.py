"""TLS and HTTP/1.1 of somebody who has never seen the mesh's code: `ssl` and `http.client` of Python."""

import http.client
import socket
import ssl


class Refused(Exception):
    """The server ended the connection without an answer; `peer` is our address on it."""

    def __init__(self, peer, error):
        super().__init__(str(error))
        self.peer = peer


class Answer:
    def __init__(self, response, peer):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.peer = peer


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def context(certificate=None, trust=None):
    """A client that shows `certificate` (paths of chain and key); without `trust` it talks to anybody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    # The names in this mesh are URIs; who needs them compares them itself.
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if trust else ssl.CERT_NONE
    if trust:
        made.load_verify_locations(trust)
    if certificate:
        made.load_cert_chain(*certificate)
    return made


def connect(where, tls):
    """An open TLS connection."""
    plain = socket.create_connection(address(where), timeout=10)
    peer = "%s:%d" % plain.getsockname()
    try:
        return tls.wrap_socket(plain)
    except (ssl.SSLError, OSError) as error:
        raise Refused(peer, error) from error


def ask(sock, method, target, host, headers=(), body=b""):
    """One request over an open connection. `headers` is a list, so that a name can come twice."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    peer = "%s:%d" % sock.getsockname()
    try:
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        return Answer(response, peer)
    except (ssl.SSLError, OSError, http.client.HTTPException) as error:
        raise Refused(peer, error) from error


def once(where, tls, *request, **more):
    """One request over a connection of its own."""
    with connect(where, tls) as sock:
        return ask(sock, *request, **more)
