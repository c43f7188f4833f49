"""One unary gRPC call over HTTP/2, by hand: just enough of RFC 9113 for a short request and a short answer."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK = END_STREAM = 1
END_HEADERS = 4


class NoAnswer(Exception):
    """The server ended the call without a message."""


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hpack_text(text):
    """RFC 7541 section 5.2, without Huffman coding; lengths of one byte are enough here."""
    data = text.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


def hpack(headers):
    """Every header as a literal that is never indexed (RFC 7541 section 6.2.3)."""
    return b"".join(b"\x10" + hpack_text(name) + hpack_text(value) for name, value in headers)


def exactly(sock, length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise NoAnswer("the connection ended")
        data += more
    return data


def read_frame(sock):
    head = exactly(sock, 9)
    length = int.from_bytes(head[:3], "big")
    return head[3], head[4], int.from_bytes(head[5:], "big"), exactly(sock, length)


def unary(sock, path, message):
    """Sends one message, returns the one that comes back. Response headers are not even decoded: either there is
    a message or there is not."""
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "operator.invalid"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    body = b"\0" + struct.pack(">I", len(message)) + message
    sock.sendall(
        PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, hpack(headers))
        + frame(DATA, END_STREAM, 1, body)
    )
    answer = b""
    while True:
        kind, flags, stream, payload = read_frame(sock)
        if kind == SETTINGS and not flags & ACK:
            sock.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == DATA and stream == 1:
            answer += payload
        elif kind in (RST_STREAM, GOAWAY):
            raise NoAnswer("the server reset the call")
        if kind in (DATA, HEADERS) and stream == 1 and flags & END_STREAM:
            break
    if len(answer) < 5 or answer[0] != 0:
        raise NoAnswer("the server refused the call")
    return answer[5:]
