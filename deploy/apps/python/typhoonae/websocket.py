"""The WebSocket service of TyphoonAE for apps behind ws-worker: `dialect = "typhoonae"`. Python 3, no other library.

    from typhoonae import websocket

    websocket.create_websocket_url('/foo/bar')          # for the page
    message = websocket.Message(post)                   # in a handler: message.socket, message.body
    websocket.send_message([message.socket], 'hello')
    websocket.broadcast_message('hello, all')

The environment says where things are:

    WS_CONTROL      the worker's control API: unix:/run/ws-worker/control.sock (default) or http://127.0.0.1:9001
    WS_TOKEN_FILE   the file with its token, if it wants one
    WS_PUBLIC_URL   what browsers connect to: wss://www.example.org/ (default: ws://SERVER_NAME:8888/)
    WS_SERVER_NAME  the route's server_name, the scope of a broadcast (default: every socket of the worker)
"""

import http.client
import os
import re
import socket
import threading
from urllib.parse import quote, urlsplit

TIMEOUT = 10  # seconds
MAX_FORM = 64 * 1024 * 1024  # bytes


class Error(Exception):
    """The service cannot do it: not reachable, wrong token, over its limits."""


class BadArgumentError(Error):
    """The caller's mistake: no sockets, no text, a path that climbs."""


class Message:
    """What a handler was sent: `socket`, the id to answer to, and `body`, text or (if it was binary) bytes.

    Takes what a framework calls POST, a mapping with the fields `from` and `body`, or a WSGI environ.
    """

    def __init__(self, post):
        if "wsgi.input" in post:
            post = read_form(post)
        try:
            self.socket, self.body = (_single(post[name]) for name in ("from", "body"))
        except (KeyError, IndexError):
            raise BadArgumentError("this is no form with the fields 'from' and 'body'") from None


def create_websocket_url(success_path=""):
    """Returns the URL that a page connects to. The path, and a query if it has one, come back with every event."""
    if not isinstance(success_path, str):
        raise BadArgumentError("a path is a string")
    path, mark, query = success_path.lstrip("/").partition("?")
    path = quote(path, safe="/%:@!$&'()*+,;=~")
    if any(segment.lower().replace("%2e", ".") in (".", "..") for segment in path.split("/")):
        raise BadArgumentError("a path does not climb")
    base = os.environ.get("WS_PUBLIC_URL") or f"ws://{os.environ.get('SERVER_NAME') or 'localhost'}:8888/"
    return f"{base.rstrip('/')}/{path}{mark}{quote(query, safe='/?%:@!$&()*+,;=~')}"


def send_message(sockets, body):
    """Sends text (or bytes: binary) to these sockets; a single id will do. Returns the ids that it did not reach."""
    ids = [sockets] if isinstance(sockets, str) else sockets
    if not isinstance(ids, (list, tuple, set, frozenset)) or not ids:
        raise BadArgumentError("sockets are a list of ids")
    if not all(isinstance(id, str) and id and re.fullmatch(r"[\w-]{1,64}", id, re.ASCII) for id in ids):
        raise BadArgumentError("an id is a string, as a message's .socket")
    # 404: gone; 409: its version has no binary; 429: it does not read what it is sent.
    return [id for id in ids if _post("/message", body, {"X-TyphoonAE-WebSocket": id}, (404, 409, 429)) != 200]


def broadcast_message(body):
    """Sends text (or bytes: binary) to every open socket of the app."""
    name = os.environ.get("WS_SERVER_NAME")
    _post("/broadcast", body, {"X-TyphoonAE-ServerName": name} if name else {})


def read_form(environ):
    """Reads a hook's form: `{'body': …, 'from': …}`."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = -1
    boundary = re.search(r'boundary="?([^";]+)', environ.get("CONTENT_TYPE", ""))
    if not boundary or not 0 <= length <= MAX_FORM:
        raise BadArgumentError("this is no hook's form")
    form = b"\r\n" + environ["wsgi.input"].read(length)
    fields = {}
    for part in form.split(b"\r\n--" + boundary[1].encode("latin-1"))[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        if name:
            binary = b"application/octet-stream" in head
            fields[name[1].decode()] = content if binary else content.decode("utf-8")
    return fields


def _single(value):
    return value[0] if isinstance(value, (list, tuple)) else value


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


_kept = threading.local()  # One connection a thread.


def _connection(address, anew):
    if anew or getattr(_kept, "address", None) != address:
        if getattr(_kept, "connection", None):
            _kept.connection.close()
        if address.startswith("unix:"):
            _kept.connection = _UnixConnection(address[5:])
        else:
            url = urlsplit(address)
            if url.scheme != "http" or not url.hostname:
                raise Error(f"WS_CONTROL is neither unix:/path nor http://host:port: {address}")
            _kept.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT)
        _kept.address = address
    return _kept.connection


def _post(path, body, headers, others=()):
    """Asks the worker, and returns the status if it is 200 or one of these others."""
    if not isinstance(body, (str, bytes)):
        raise BadArgumentError("a body is text or bytes")
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/octet-stream"
    try:
        data = body.encode("utf-8") if isinstance(body, str) else body
    except UnicodeEncodeError:
        raise BadArgumentError("a lone surrogate is no text") from None
    headers = {**headers, "Content-Type": kind}
    if os.environ.get("WS_TOKEN_FILE"):
        with open(os.environ["WS_TOKEN_FILE"], encoding="ascii") as file:
            headers["Authorization"] = "Bearer " + file.read().strip()
    address = os.environ.get("WS_CONTROL") or "unix:/run/ws-worker/control.sock"
    for attempt in (1, 2):
        connection = _connection(address, anew=attempt == 2)
        fresh = connection.sock is None
        try:
            connection.request("POST", path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
            break
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            # A kept connection that the worker closed meanwhile: it did not read the request.
            is_stale = isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError))
            if fresh or attempt == 2 or not is_stale:
                raise Error(f"no answer from the worker at {address}: {error}") from error
    if answer.status == 400:
        raise BadArgumentError(text.decode("utf-8", "replace"))
    if answer.status != 200 and answer.status not in others:
        raise Error(f"the worker says {answer.status}: {text.decode('utf-8', 'replace')}")
    return answer.status
