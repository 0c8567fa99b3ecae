"""A raw WebSocket client for the five versions, written from the specifications and not from the worker's code.

It checks every answer strictly, down to the byte where old browsers did, and can misbehave on request. It knows
nothing of the worker, its hooks or the proxies in front: only bytes on a socket.
"""

import base64
import hashlib
import os
import random
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

VERSIONS = ["hixie-75", "hixie-76", "hybi-07", "hybi-08", "rfc6455"]
HYBI = ["hybi-07", "hybi-08", "rfc6455"]
NUMBER = {"hybi-07": "7", "hybi-08": "8", "rfc6455": "13"}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What a test waits for at most, unless the wait itself is the subject.
DEADLINE = float(os.environ.get("WS_TEST_DEADLINE", "10"))

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Refused(Exception):
    """The server answered the handshake by something else than 101."""

    def __init__(self, answer):
        super().__init__(f"{answer.status} {answer.reason}: {answer.body[:200]!r}")
        self.answer = answer
        self.status = answer.status


@dataclass
class Answer:
    """An HTTP answer's head as it came; the body is filled in by whoever reads it."""

    raw: bytes
    status: int = 0
    reason: str = ""
    fields: list = field(default_factory=list)
    body: bytes = b""

    def __post_init__(self):
        lines = self.raw.decode("latin-1").split("\r\n")
        http, status, self.reason = (lines[0] + "  ").split(" ", 2)
        assert http in ("HTTP/1.1", "HTTP/1.0"), f"not a status line: {lines[0]!r}"
        self.status, self.reason = int(status), self.reason.strip()
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            assert colon and name == name.strip(), f"not a field: {line!r}"
            self.fields.append((name.lower(), value.strip()))

    def all(self, name):
        return [value for key, value in self.fields if key == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} came more than once: {values}"
        return values[0] if values else None


@dataclass
class Closed:
    """The server's closing frame, or the end of the stream without one (`code` and `frame` are then empty)."""

    code: int | None = None
    reason: str = ""
    frame: bool = False


class Stream:
    """A socket that is read up to a condition, within a deadline, and never further."""

    def __init__(self, address, timeout=DEADLINE, source=None, tls=None):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address[0])
        self.timeout = timeout
        self.buffer = b""
        self.ended = False

    def write(self, data):
        self.socket.sendall(data)

    def fill(self, until):
        """Reads once more; False at the end of the stream, which an RST counts as."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more came within the deadline; so far {self.buffer[:300]!r}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self.buffer += data
        self.ended = self.ended or not data
        return bool(data)

    def exactly(self, count, timeout=None):
        until = time.monotonic() + (timeout or self.timeout)
        while len(self.buffer) < count:
            if not self.fill(until):
                raise EOFError(f"the stream ended after {self.buffer[:300]!r}")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def through(self, mark, timeout=None):
        until = time.monotonic() + (timeout or self.timeout)
        while mark not in self.buffer:
            if not self.fill(until):
                raise EOFError(f"the stream ended after {self.buffer[:300]!r}")
        taken, _, self.buffer = self.buffer.partition(mark)
        return taken + mark

    def rest(self, timeout=None):
        """Everything up to the end of the stream, which must come."""
        until = time.monotonic() + (timeout or self.timeout)
        while self.fill(until):
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def answer(self, timeout=None):
        """One whole HTTP answer that is not a 101: head and body."""
        answer = Answer(self.through(b"\r\n\r\n", timeout)[:-4])
        if answer.status != 101:
            length = answer.get("content-length")
            if length is not None:
                answer.body = self.exactly(int(length), timeout)
            elif answer.get("transfer-encoding") == "chunked":
                answer.body = self.chunks(timeout)
            elif answer.status not in (204, 304):
                answer.body = self.rest(timeout)
        return answer

    def chunks(self, timeout=None):
        body = b""
        while size := int(self.through(b"\r\n", timeout), 16):
            body += self.exactly(size, timeout)
            self.exactly(2, timeout)
        self.through(b"\r\n", timeout)
        return body

    def finish(self):
        """Says that no more comes. TLS says it for both directions, so what the peer still has to say is not heard."""
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket = self.socket.unwrap()
            except (OSError, ssl.SSLError):
                pass  # The peer ended first.
        else:
            self.socket.shutdown(socket.SHUT_WR)

    def is_reset(self):
        """Whether the peer broke the connection off instead of ending it."""
        try:
            while self.socket.recv(65536):
                pass
            return False
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()


def mask(data, key):
    if not data:
        return b""
    keys = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(data), "big")


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, length=None):
    """One frame of 7, 8 and 13 as a client sends it. `length` announces something else than what follows."""
    length = len(payload) if length is None else length
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


def hixie_key(random=random):
    """A key of hixie-76 as the draft's client makes it, and the number it stands for. [hixie-76, 4.1 steps 16 to 22]"""
    spaces = random.randint(1, 12)
    number = random.randint(0, 4294967295 // spaces)
    text = list(str(number * spaces))
    noise = [chr(c) for c in [*range(0x21, 0x30), *range(0x3A, 0x7F)]]
    for _ in range(random.randint(1, 12)):
        text.insert(random.randint(0, len(text)), random.choice(noise))
    for _ in range(spaces):
        text.insert(random.randint(1, len(text) - 1), " ")
    return "".join(text), number


class Client:
    """One WebSocket. The constructor performs the opening handshake and checks the answer in full.

    strict    hixie-75: the first three lines are compared byte for byte, as the browsers of 2010 do
    key3      hixie-76: "together" with the head in one write, "late" after the 101's head, or in "pieces"
    early     bytes written right behind the handshake, before any answer
    """

    def __init__(self, version, address, path="/", *, host=None, origin="http://example.org", protocols=(),
                 headers=(), strict=True, key3="together", early=b"", scheme="ws", timeout=DEADLINE,
                 source=None, tls=None):
        self.version, self.path, self.origin = version, path, origin
        self.protocols, self.strict, self.scheme = list(protocols), strict, scheme
        self.host = host or ("localhost" if isinstance(address, str) else f"{address[0]}:{address[1]}")
        self.stream = Stream(address, timeout, source, tls)
        self.challenge = None
        self.closing_sent = False
        self.parts = b""
        self.closed = None
        try:
            self.answer = self.open(list(headers), key3, early)
        except BaseException:
            self.stream.close()
            raise
        self.protocol = self.answer.get(self.name("Protocol"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    @property
    def is_hixie(self):
        return self.version.startswith("hixie")

    def name(self, what):
        return f"WebSocket-{what}" if self.version == "hixie-75" else f"Sec-WebSocket-{what}"

    # -- the opening handshake

    def request(self, headers):
        old = self.is_hixie
        lines = [f"GET {self.path} HTTP/1.1", f"Upgrade: {'WebSocket' if old else 'websocket'}",
                 "Connection: Upgrade", f"Host: {self.host}"]
        if self.origin is not None:
            # hybi-07 and -08 renamed the field, RFC 6455 took the old name again.
            lines.append(f"{'Sec-WebSocket-Origin' if self.version in ('hybi-07', 'hybi-08') else 'Origin'}: {self.origin}")
        if self.version == "hixie-76":
            (key1, number1), (key2, number2), self.key3 = hixie_key(), hixie_key(), os.urandom(8)
            self.challenge = hashlib.md5(struct.pack("!II", number1, number2) + self.key3).digest()
            lines += [f"Sec-WebSocket-Key1: {key1}", f"Sec-WebSocket-Key2: {key2}"]
        elif not old:
            self.key = base64.b64encode(os.urandom(16))
            lines += [f"Sec-WebSocket-Key: {self.key.decode()}", f"Sec-WebSocket-Version: {NUMBER[self.version]}"]
        if self.protocols:
            lines.append(f"{self.name('Protocol')}: {', '.join(self.protocols)}")
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def open(self, headers, key3, early):
        head = self.request(headers)
        if self.version != "hixie-76":
            self.stream.write(head + early)
        elif key3 == "together":
            self.stream.write(head + self.key3 + early)
        else:
            self.stream.write(head)
        answer = self.stream.answer()
        if answer.status != 101:
            raise Refused(answer)
        if self.version == "hixie-76" and key3 != "together":
            pieces = [self.key3 + early] if key3 == "late" else [self.key3[:1], self.key3[1:5], self.key3[5:] + early]
            for piece in pieces:
                self.stream.write(piece)
        self.check(answer)
        return answer

    def check(self, answer):
        """What a browser of this version demands of the answer."""
        assert (answer.get("upgrade") or "").lower() == "websocket"
        assert "upgrade" in [token.strip().lower() for token in (answer.get("connection") or "").split(",")]
        assert answer.get("content-length") is None and answer.get("transfer-encoding") is None
        chosen = answer.get(self.name("Protocol"))
        assert chosen is None or chosen in self.protocols, f"{chosen!r} was not offered"
        if self.is_hixie:
            assert answer.get(self.name("Origin")) == self.origin
            assert answer.get(self.name("Location")) == f"{self.scheme}://{self.host}{self.path}"
        if self.version == "hixie-75" and self.strict:
            first = (b"HTTP/1.1 101 Web Socket Protocol Handshake\r\n"
                     b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n")
            assert (answer.raw + b"\r\n").startswith(first), answer.raw
        if self.version == "hixie-76":
            assert self.stream.exactly(16) == self.challenge, "the challenge was answered wrongly"
        if not self.is_hixie:
            want = base64.b64encode(hashlib.sha1(self.key + GUID).digest()).decode()
            assert answer.get("sec-websocket-accept") == want

    # -- messages

    def send(self, message):
        if isinstance(message, str):
            payload = message.encode()
            self.raw(b"\x00" + payload + b"\xff" if self.is_hixie else frame(TEXT, payload))
        else:
            assert not self.is_hixie, "75 and 76 have no binary messages"
            self.raw(frame(BINARY, message))

    def raw(self, data):
        self.stream.write(data)

    def ping(self, payload=b""):
        self.raw(frame(PING, payload))

    def receive(self, timeout=None):
        """The next message as str or bytes, or a `Closed`. Pings are answered on the way, pongs skipped."""
        while self.closed is None:
            kind, payload = self.event(timeout)
            if kind == "ping":
                self.raw(frame(PONG, payload))
            elif kind == "text":
                return payload.decode()
            elif kind == "binary":
                return payload
        return self.closed

    def pong(self, timeout=None):
        """The payload of the next pong; nothing else may come before it but pings."""
        while (event := self.event(timeout))[0] == "ping":
            self.raw(frame(PONG, event[1]))
        assert event[0] == "pong", event
        return event[1]

    def event(self, timeout=None):
        try:
            return self.hixie_event(timeout) if self.is_hixie else self.hybi_event(timeout)
        except EOFError:
            assert self.stream.buffer == b"", f"the stream ended inside a frame: {self.stream.buffer[:100]!r}"
            self.closed = Closed()
            return "closed", b""

    def hixie_event(self, timeout):
        first = self.stream.exactly(1, timeout)
        if first == b"\x00":
            return "text", self.stream.through(b"\xff", timeout)[:-1]
        assert first == b"\xff" and self.version == "hixie-76", f"no frame starts with {first!r}"
        assert self.stream.exactly(1, timeout) == b"\x00"
        self.closed = Closed(frame=True)
        return "closed", b""

    def hybi_event(self, timeout):
        while True:
            head = self.stream.exactly(2, timeout)
            fin, opcode, length = head[0] >> 7, head[0] & 15, head[1] & 127
            assert head[0] & 0x70 == 0, "a reserved bit is set though no extension was agreed on"
            assert head[1] & 0x80 == 0, "a server must not mask"
            if length == 126:
                (length,) = struct.unpack("!H", self.stream.exactly(2, timeout))
                assert length >= 126, "the length is not in its shortest form"
            elif length == 127:
                (length,) = struct.unpack("!Q", self.stream.exactly(8, timeout))
                assert length >= 65536, "the length is not in its shortest form"
            payload = self.stream.exactly(length, timeout)
            if opcode == CLOSE:
                return self.close_event(payload)
            if opcode in (PING, PONG):
                assert fin and length < 126
                return ("ping" if opcode == PING else "pong"), payload
            if opcode != CONTINUATION:
                assert opcode in (TEXT, BINARY)
                self.kind = "text" if opcode == TEXT else "binary"
                self.parts = b""
            self.parts += payload
            if fin:
                return self.kind, self.parts

    def close_event(self, payload):
        assert len(payload) != 1
        code = struct.unpack("!H", payload[:2])[0] if payload else None
        self.closed = Closed(code, payload[2:].decode(), True)
        if not self.closing_sent:
            self.closing_sent = True
            try:
                self.raw(frame(CLOSE, payload[:2]))
            except OSError:
                pass  # The server need not wait for this.
        return "closed", b""

    # -- the closing handshake

    def close(self, code=1000, reason=""):
        """Starts the closing handshake, reads on to its end, and says what the server answered.

        [RFC 6455, 7.1.1] lets the server close TCP first; hixie-75 has only TCP to close.
        """
        if self.version == "hixie-75":
            self.stream.finish()
        else:
            self.closing_sent = True
            data = struct.pack("!H", code) + reason.encode() if code else b""
            self.raw(b"\xff\x00" if self.is_hixie else frame(CLOSE, data))
        while not isinstance(closed := self.receive(), Closed):
            pass
        if self.version == "hixie-76":
            self.stream.finish()  # Who began closes.
        assert self.ended(), "the server left TCP open after the closing handshake"
        self.stream.close()
        return closed

    def ended(self, timeout=None):
        """Whether the stream ends, and without another byte."""
        return self.stream.rest(timeout) == b""

    def abort(self):
        """Drops TCP with an RST."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()

    def leave(self):
        """Drops TCP with a FIN and no word, as a browser that is killed."""
        self.stream.close()


def exchange(address, request, timeout=DEADLINE):
    """Sends raw bytes and returns the one answer; checks that the connection then ends without another byte."""
    stream = Stream(address, timeout)
    try:
        stream.write(request)
        answer = stream.answer(timeout)
        if answer.status != 101:
            more = stream.buffer + stream.rest(timeout)
            assert more == b"", f"something came behind the answer: {more[:300]!r}"
        return answer
    finally:
        stream.close()


def handshake(path="/echo", *, lines=(), without=(), start=None, host="localhost"):
    """A correct RFC 6455 handshake as bytes, with lines added or fields (lower case) left out."""
    fields = [f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    fields = [f for f in fields if f.split(":")[0].lower() not in without]
    head = [(start or f"GET {path} HTTP/1.1").encode(), *[f.encode() for f in fields]]
    head += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join(head) + b"\r\n\r\n"
