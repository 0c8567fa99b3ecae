"""What the benchmarks have in common: a worker on one CPU, the load on the other, bytes of clients, tables. Knows no goal.

`WS_WORKER` names another binary than `target/release/ws-worker`. The load generator `wsload` and the peers are not part of this
repository: `WS_BENCH` names their folder, `../shared/bench` unless it is set; `WSBENCH` where they were built.
"""

import base64
import contextlib
import json
import os
import re
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from support import WORKER, free_port, listens, wait_for  # noqa: E402

OUTSIDE = Path(os.environ.get("WS_BENCH", ROOT.parent / "shared" / "bench"))
SCRATCH = Path(os.environ.get("WSBENCH", Path(tempfile.gettempdir()) / "wsbench"))
LOAD = SCRATCH / "wsload-target" / "release" / "wsload"
PEERS = SCRATCH / "peers-target" / "release"
# Where pictures and figures go, unless somebody says where they are kept.
INTO = Path(os.environ.get("WS_BENCH_INTO", ROOT / "tests" / "out" / "bench"))

# The worker's CPU, and that of everything that is not measured.
OURS, THEIRS = "0", "1"
CHAT = '[[route]]\npath = "/"\nhandler = "chat"\n'
ECHO = '[[route]]\npath = "/"\nhandler = "echo"\n'


def raise_descriptors():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


class Child:
    """A process on one CPU (or on several, or wherever it likes), that is always ended."""

    def __init__(self, command, cpu=None, log=None, **options):
        pinned = ["taskset", "-c", cpu] if cpu else []
        self.log = log or tempfile.TemporaryFile()
        self.child = subprocess.Popen([*pinned, *map(str, command)], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **options)

    @property
    def pid(self):
        """The process itself, not what it runs under: that may keep a signal to itself."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return int(children[0]) if children else self.child.pid

    def wait_until_listening(self, address, timeout=60):
        def ready():
            if self.child.poll() is not None:
                self.log.seek(0)
                raise RuntimeError(f"{self.child.args[-1]} ended with {self.child.returncode}: {self.log.read()[-400:]!r}")
            return listens(address)
        wait_for(ready, f"{self.child.args} to listen", timeout)

    def status(self, name):
        """A number of `/proc/PID/status`, in KiB where it has a unit."""
        return int(re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.M)[1])

    def memory(self):
        """Resident bytes."""
        return self.status("VmRSS") * 1024

    def cpu(self):
        """Seconds of CPU time so far, of all threads."""
        # schedstat counts nanoseconds, stat only hundredths of a second.
        return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in Path(f"/proc/{self.pid}/task").iterdir()) / 1e9

    def stop(self, how=signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self.pid, how)
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Worker(Child):
    """The worker as shipped, all limits and timers on. `routes` is the end of a configuration file, `top` its beginning; without
    routes it is the demo."""

    def __init__(self, routes=ECHO, *, top="", control=False, threads=1, cpu=OURS, prefix=(), unix=False, inherited=None, **options):
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.address, where = ("127.0.0.1", self.port), f"127.0.0.1:{self.port}"
        if unix:
            self.address = str(Path(self.folder.name) / "socket")
            where = f"unix:{self.address}"
        if inherited:
            self.address, where = inherited.getsockname(), f"fd:{inherited.fileno()}"
            self.port = self.address[1]
            options["pass_fds"] = [inherited.fileno()]
        self.control = Path(self.folder.name) / "control"
        table = f'[control]\nlisten = "unix:{self.control}"\n' if control else ""
        file = Path(self.folder.name) / "worker.toml"
        file.write_text(f'listen = ["{where}"]\nthreads = {threads}\ndrain = "0s"\n{top}\n{table}\n{routes or ""}')
        what = ["serve", "--config", file] if routes else ["demo", "--threads", threads, "--listen", where]
        super().__init__([*prefix, WORKER, *what], cpu, **options)
        self.wait_until_listening(self.address)
        if control:
            wait_for(self.control.exists, "the control API")

    def target(self):
        return f"unix:{self.address}" if isinstance(self.address, str) else f"127.0.0.1:{self.port}"

    def stop(self, how=signal.SIGTERM):
        super().stop(how)
        self.folder.cleanup()

    def call(self, method, path, body=b""):
        """One call of the control API; returns what JSON it answered, or nothing."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(60)
            caller.connect(str(self.control))
            caller.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        assert status < 300, answer
        return json.loads(body) if body.startswith((b"{", b"[")) else None

    def ids(self):
        """All sockets, page by page."""
        found, after = [], ""
        while True:
            page = self.call("GET", f"/sockets?limit=1000{after}")
            sockets = page["sockets"]
            found += [one["id"] if isinstance(one, dict) else one for one in sockets]
            if not sockets or not page.get("next"):
                return found
            after = f"&after={page['next']}"


def thread_of(socket_id):
    """The thread that holds a socket: the fourth byte of its id."""
    return base64.urlsafe_b64decode(socket_id)[3]


class App(Child):
    """The app of `app.rs`: every message goes back, after so many milliseconds."""

    program = None

    def __init__(self, delay=0, cpu=THEIRS):
        if not App.program:
            App.program = ROOT / "tests" / "out" / "bench" / "app"
            App.program.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["rustc", "-O", "--edition", "2024", "-o", App.program, HERE / "app.rs"], check=True)
        self.port = free_port()
        super().__init__([App.program, self.port, delay], cpu)
        self.wait_until_listening(("127.0.0.1", self.port))

    def route(self, path="/", concurrency=64):
        return f'[[route]]\npath = "{path}"\napp = "http://127.0.0.1:{self.port}/ws"\nconcurrency = {concurrency}\n'


def have_load():
    if not LOAD.exists() and OUTSIDE.joinpath("wsload").is_dir():
        subprocess.run(["cargo", "build", "--quiet", "--release", "--manifest-path", OUTSIDE / "wsload" / "Cargo.toml",
                        "--target-dir", SCRATCH / "wsload-target"], check=False)
    return LOAD.exists()


def load(what, target, cpu=THEIRS, timeout=120, **options):
    """Runs wsload; its figures, or nothing if it failed, which is told on stderr."""
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    pinned = ["taskset", "-c", cpu] if cpu else []
    try:
        done = subprocess.run([*pinned, LOAD, what, target, *words], stdout=subprocess.PIPE, text=True, timeout=timeout)
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, IndexError, ValueError, subprocess.TimeoutExpired) as error:
        found = {"error": str(error)}
    if "error" in found:
        say(f"wsload {what} {' '.join(words)}: {found['error'][:200]}")
        return {}
    return found


# -- clients, byte for byte: cheap enough to be the other side of a count

KEY = bytes([0x37, 0xFA, 0x21, 0x3D])
REQUESTS = {
    "rfc6455": "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
    "hixie-75": "GET {} HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nHost: x\r\nOrigin: http://x\r\n{}\r\n",
    "hixie-76": "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\nUpgrade: WebSocket\r\n"
                "Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://x\r\n{}\r\n^n:ds[4U",
}


def masked(payload):
    key = KEY * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key[:len(payload)], "big")
    return number.to_bytes(len(payload), "big")


def frame(payload, wire="rfc6455", first=0x81):
    """A message as a client sends it; `first` has opcode and flags."""
    if wire != "rfc6455":
        return b"\x00" + payload + b"\xff"
    return _head(len(payload), first, 0x80) + KEY + masked(payload)


def reply(payload, wire="rfc6455"):
    """The same as a server answers it, not compressed."""
    return b"\x00" + payload + b"\xff" if wire != "rfc6455" else _head(len(payload), 0x81, 0) + payload


def _head(length, first, mask):
    if length < 126:
        return bytes([first, mask | length])
    return bytes([first, mask | 126]) + struct.pack("!H", length) if length < 1 << 16 else bytes([first, mask | 127]) + struct.pack("!Q", length)


def connect(address, path="/", wire="rfc6455", headers="", timeout=60):
    """A socket after its handshake."""
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(timeout)
    client.connect(address)
    if not isinstance(address, str):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(REQUESTS[wire].format(path, headers).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(1)
        if not piece:
            raise RuntimeError(f"closed in the handshake: {answer!r}")
        answer += piece
    if b" 101 " not in answer:
        raise RuntimeError(f"refused: {answer!r}")
    if wire == "hixie-76":
        receive(client, 16)
    return client


def receive(client, count):
    """Waits for so many bytes and throws them away."""
    while count > 0:
        piece = client.recv(min(count, 1 << 20))
        if not piece:
            raise RuntimeError("closed by the worker")
        count -= len(piece)


def receive_frame(client):
    """One unmasked frame of RFC 6455: its first byte and its payload."""
    def exactly(count):
        data = b""
        while len(data) < count:
            piece = client.recv(count - len(data))
            if not piece:
                raise RuntimeError("closed by the worker")
            data += piece
        return data
    first, length = exactly(2)
    if length >= 126:
        length = int.from_bytes(exactly(2 if length == 126 else 8), "big")
    return first, exactly(length)


def text(size):
    return bytes(ord("a") + index % 26 for index in range(size))


# -- figures

def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def least(values):
    values = [value for value in values if value is not None]
    return min(values) if values else None


def number(value, digits=2):
    """For a table; nothing is a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 or digits == 0 else f"{value:.{digits}f}"


def table(heads, rows):
    """Markdown; the first column is words."""
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    print("\n".join(lines) + "\n", flush=True)


def keep(name, figures):
    """Writes figures as JSON, for who wants to draw or compare them."""
    INTO.mkdir(parents=True, exist_ok=True)
    INTO.joinpath(f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    return INTO / f"{name}.json"


def instructions(worker_options, work, few, many):
    """User instructions of one piece of `work(worker, count)`: two runs of different length, so that start and end cancel."""
    counts = []
    for count in (few, many):
        with tempfile.NamedTemporaryFile() as out:
            under = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}")
            with Worker(prefix=under, cpu=None, **worker_options) as worker:
                work(worker, count)
            counts.append(int(re.search(r"^(?:summary|totals): (\d+)", Path(out.name).read_text(), re.M)[1]))
    return (counts[1] - counts[0]) / (many - few)


def until(condition, what, timeout=60):
    return wait_for(condition, what, timeout)


def quick():
    return "--quick" in sys.argv


def pause(seconds):
    """Lets a load run; what is measured meanwhile is measured by somebody else."""
    time.sleep(seconds)
