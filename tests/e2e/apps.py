"""Apps for the worker's hooks: `Room`, a real one in Flask or Node, and `Script`, whose every answer a test decides."""

import json
import random
import socket
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support import free_port, running, wait_for
from wire import DEADLINE

HERE = Path(__file__).parent / "apps"


class Room:
    """What a test wants to know of a running room app."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}/ws"

    def seen(self, run):
        """The hooks of this run, in the order of their arrival."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/seen?run={run}", timeout=10) as answer:
            return [Hook(hook["headers"], hook["body"].encode("latin-1")) for hook in json.load(answer)]

    def closed(self, run):
        """The closed hook of this run's only socket, when it comes."""
        return wait_for(lambda: next((h for h in self.seen(run) if h.event == "closed"), None), "the closed hook")


@contextmanager
def room(language, port=None):
    port = port or free_port()
    command = {"flask": [sys.executable, HERE / "room.py"], "node": ["node", HERE / "room.js"]}[language]
    with running([*command, port], ("127.0.0.1", port), name=f"room ({language})"):
        yield Room(port)


class Hook:
    """One request of the worker to an app; field names in lower case."""

    def __init__(self, headers, body, path="/ws", method="POST"):
        self.headers, self.body, self.path, self.method = headers, body, path, method
        self.at = time.monotonic()
        # When the app was about to answer; and the status, once the answer has left whole: None for ever if it was none.
        self.answered_at = self.status = None

    @property
    def event(self):
        return self.headers.get("ws-event")

    @property
    def text(self):
        return self.body.decode()

    @property
    def socket(self):
        return self.headers.get("ws-socket")

    @property
    def key(self):
        return self.headers.get("idempotency-key")

    def __getitem__(self, name):
        return self.headers.get(name.lower())


class Raw(bytes):
    """Bytes to write in place of an answer, and the status that they amount to; None where they are no whole answer. With `keeps`
    the connection goes on after them, with `one_by_one` each byte is a write of its own."""

    def __new__(cls, data, status=None, keeps=False, one_by_one=False):
        raw = super().__new__(cls, data)
        raw.status, raw.keeps, raw.one_by_one = status, keeps, one_by_one
        return raw

    def write(self, connection):
        if not self.one_by_one:
            return connection.sendall(self)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in self:
            connection.sendall(bytes([byte]))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, handler):
        if isinstance(address, str):
            self.address_family = socket.AF_UNIX
        super().__init__(address, handler)

    def server_bind(self):
        if self.address_family == socket.AF_UNIX:
            Path(self.server_address).unlink(missing_ok=True)
            self.socket.bind(self.server_address)
        else:
            super().server_bind()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # That the worker hung up, or `stop` did, is no news.
            super().handle_error(request, client_address)


class Script:
    """An app inside the test. `on(event, function)` decides answers: the function takes the hook and returns None
    (200 and no body), a status, (body, headers), (body, headers, status), or bytes to write in place of an answer.
    Before the function returns, the hook is already in `hooks`. Where hooks wait for the app already, `answers` says from the
    first on what `on` would say too late."""

    def __init__(self, port=None, path=None, tls=None, **answers):
        self.hooks = []
        self.answers = {}
        for event, answer in answers.items():
            self.on(event, answer)
        self.lock = threading.Lock()
        self.connections = []
        self.severed = set()
        # With `tls`, an `ssl.SSLContext`: whether the end of a connection is said inside it, as it should be; and what was agreed.
        self.says_goodbye = True
        self.agreed = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # Head and body in one write, so that no delayed ACK slows a test down.

            def setup(self):
                if tls:
                    self.request = tls.wrap_socket(self.request, server_side=True)
                    script.agreed.append((self.request.version(), self.request.selected_alpn_protocol(), self.request.session_reused))
                super().setup()
                script.connections.append(self.connection)

            def finish(self):
                super().finish()
                if tls:
                    try:
                        if script.says_goodbye:
                            self.connection.unwrap()
                    except (OSError, ValueError):
                        pass  # It ended otherwise.
                    self.connection.close()  # The server would close what was wrapped, which has no descriptor any more.

            def do_POST(self):
                script.serve(self)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                pass

        self.handler = Handler
        if path:
            self.address, self.url = path, f"http+unix://{path}:/ws"
            self.listen()
        else:
            self.address = ("127.0.0.1", port or 0)
            self.listen()
            self.address = self.server.server_address
            self.port = self.address[1]
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/ws"

    def listen(self):
        """Begins, or begins again after `stop`, at the same address."""
        self.server = Server(self.address, self.handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def on(self, event, answer):
        self.answers[event] = answer if callable(answer) else lambda _hook: answer
        return self

    def serve(self, request):
        length = request.headers.get("content-length")
        body = request.rfile.read(int(length)) if length else b""
        hook = Hook({k.lower(): v for k, v in request.headers.items()}, body, request.path, request.command)
        with self.lock:
            # Whoever is killed or cut off reads nothing more, but a thread of this process still could.
            if request.connection in self.severed:
                request.close_connection = True
                return
            self.hooks.append(hook)
        answer = self.answers.get(hook.event, lambda _hook: None)(hook)
        hook.answered_at = time.monotonic()
        if isinstance(answer, bytes):
            raw = answer if isinstance(answer, Raw) else Raw(answer)
            request.close_connection = not raw.keeps
            raw.write(request.connection)
            self.has_left(request, hook, raw.status)
            return
        text, headers, status = "", {}, 200
        if isinstance(answer, int):
            status = answer
        elif answer is not None:
            text, headers, status = (*answer, 200)[:3]
        data = text if isinstance(text, bytes) else text.encode()
        request.send_response(status)
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                request.send_header(name, one)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
        self.has_left(request, hook, status)

    def has_left(self, request, hook, status):
        """Notes what the worker can have heard: nothing, if it hung up before."""
        request.wfile.flush()
        hook.status = status

    def of(self, event):
        with self.lock:
            return [hook for hook in self.hooks if hook.event == event]

    def wait(self, event, count=1, timeout=DEADLINE):
        """The first `count` hooks of this event, when they are there."""
        return wait_for(lambda: len(found := self.of(event)) >= count and found, f"{count} × {event}", timeout)[:count]

    def stop(self):
        """Ends as a killed app does: kept-alive connections too."""
        self.server.shutdown()
        self.server.server_close()
        self.cut()

    def cut(self, share=1.0, chance=random):
        """Breaks this share of all connections, idle or not, at this moment."""
        with self.lock:
            chosen = [one for one in self.connections if chance.random() < share]
            self.severed.update(chosen)
        for connection in chosen:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It ended long ago.
