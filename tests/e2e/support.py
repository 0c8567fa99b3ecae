"""Processes for tests: started, waited for, their output kept, always ended. Knows the worker's command line."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from wire import DEADLINE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OUT = ROOT / "tests" / "out"
CACHE = ROOT / "tests" / ".cache"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORKER = os.environ.get("WS_WORKER", str(TARGET / "release" / "ws-worker"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what="the condition", timeout=DEADLINE):
    """Returns the condition's first true value; fails at the deadline."""
    until = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {timeout} s in vain for {what}"
        time.sleep(0.01)
    return value


def listens(address):
    """Seen from outside where that is possible: a probe would be a connection that some test counts."""
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            return probe.connect_ex(address) == 0
    host, port = address
    ours = "%08X" % int.from_bytes(socket.inet_aton(socket.gethostbyname(host)), sys.byteorder)
    any_host = "0" * 8
    hosts = {ours, any_host, 3 * any_host + any_host, 2 * any_host + "FFFF0000" + ours}
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return any(local in {f"{host}:{port:04X}" for host in hosts} and state == "0A" for _, local, _, state, *_ in lines)


def expect_free(port):
    """The shipped files name fixed ports; say it plainly where another program holds one."""
    assert not listens(("127.0.0.1", port)), (
        f"port {port}, which the files in deploy/ name, is taken by another program; "
        "stop it, or run where network namespaces are allowed")


def passed(command, sockets):
    """The command, with sockets as its descriptors from 3 on, and LISTEN_PID its own: what systemd does between fork and exec."""
    numbers = [held.fileno() for held in sockets]
    assert min(numbers) >= 3 + len(numbers), "a socket is in the way; see `high`"
    moves = " ".join(f"{place}<&{number} {number}<&-" for place, number in enumerate(numbers, 3))
    return ["bash", "-c", f'exec {moves}; export LISTEN_PID=$$; exec "$@"', "-", *command]


class Process:
    """A child in a session of its own, so that whatever it forks ends with it."""

    def __init__(self, command, *, name=None, cwd=None, env=None, preexec=None, sockets=()):
        self.name = name or Path(command[0]).name
        if sockets:
            command = passed(command, sockets)
        self.lines = []
        self.child = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, preexec_fn=preexec,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            pass_fds=[held.fileno() for held in sockets])
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    @property
    def pid(self):
        return self.child.pid

    @property
    def log(self):
        return "\n".join(self.lines)

    def lives(self):
        return self.child.poll() is None

    def wait_until_listening(self, address, timeout=DEADLINE):
        def ready():
            assert self.lives(), f"{self.name} ended with {self.child.returncode} instead of listening:\n{self.log}"
            return listens(address)
        wait_for(ready, f"{self.name} to listen on {address}", timeout)

    def wait_for_log(self, pattern, timeout=DEADLINE):
        found = lambda: next(filter(None, (re.search(pattern, line) for line in list(self.lines))), None)
        return wait_for(found, f"{pattern!r} in the log of {self.name}", timeout)

    def terminate(self, timeout=DEADLINE):
        """Asks the process to end and returns its exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout)

    def stop(self):
        """Ends the process, whatever it does, and shows its output where a test failed."""
        try:
            os.killpg(self.pid, signal.SIGTERM if self.polite else signal.SIGKILL)
            self.child.wait(5)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()
        self.reader.join(2)
        print(f"--- output of {self.name} ---\n{self.log}")

    polite = True


class Worker(Process):
    polite = False  # A drain takes its time; the tests that look at it call `terminate`.

    def __init__(self, arguments, *, address=None, ready=None, **options):
        super().__init__([WORKER, *arguments], name="ws-worker", **options)
        self.address = address
        self.control = None
        try:
            if ready or address:
                self.wait_until_listening(ready or address)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super().stop()
        assert "panicked" not in self.log, f"the worker panicked:\n{self.log}"

    @contextmanager
    def stopped(self):
        """Inside, no thread of it runs: a machine that is moved, a debugger, `kill -STOP`."""
        self.child.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        is_stopped = lambda task: (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
        try:
            wait_for(lambda: all(map(is_stopped, tasks.iterdir())), "all threads to stop")
            yield
        finally:
            self.child.send_signal(signal.SIGCONT)

    # -- what the process costs, from /proc

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self):
        """Resident bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def cpu(self):
        """Seconds of CPU time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Workers:
    """Starts workers for one test and ends them after it."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, *arguments, **options):
        worker = Worker(arguments, **options)
        self.started.append(worker)
        return worker

    def demo(self, *flags, **options):
        address = ("127.0.0.1", free_port())
        return self.start("demo", "--listen", "%s:%d" % address, *flags, address=address, **options)

    def serve(self, routes, top="", control=None, address=None, **options):
        """`routes` is the end of a configuration file, `top` its beginning; `control` the lines of its table."""
        address = address or ("127.0.0.1", free_port())
        listen = f"unix:{address}" if isinstance(address, str) else "%s:%d" % address
        table = f"[control]\n{control}\n" if control else ""
        path = self.config(f'listen = ["{listen}"]\n{top}\n{table}\n{routes}\n')
        return self.start("serve", "--config", path, address=address, **options)

    def config(self, text):
        path = self.folder / f"worker-{len(list(self.folder.glob('worker-*')))}.toml"
        path.write_text(text)
        return path

    def stop(self):
        for worker in self.started:
            worker.stop()


def command(*arguments, timeout=DEADLINE):
    """Runs the worker to its end; for what prints and exits."""
    return subprocess.run([WORKER, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


@contextmanager
def running(command, address=None, **options):
    process = Process(command, **options)
    try:
        if address:
            process.wait_until_listening(address)
        yield process
    finally:
        process.stop()
