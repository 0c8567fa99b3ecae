"""Under a service manager: what it is told and when, in words of sd_notify(3) on a socket of the test's own; the shipped units."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from control import Control
from support import DEPLOY, command, free_port, wait_for
from wire import DEADLINE, Client, Closed

UNITS = DEPLOY / "systemd"
ECHO = '[[route]]\npath = "/echo"\nhandler = "echo"\n'


class Manager:
    """The ear of a service manager."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name[0] == "@" else name)
        self.name = name

    def hear(self, timeout=DEADLINE):
        """The next datagram as a dict; the time it came under "at"."""
        self.socket.settimeout(timeout)
        lines = self.socket.recv(65536).decode().splitlines()
        return {**dict(line.split("=", 1) for line in lines), "at": time.monotonic()}

    def hear_until(self, key, timeout=DEADLINE):
        """All up to the first that has the key."""
        heard = [self.hear(timeout)]
        while key not in heard[-1]:
            heard.append(self.hear(timeout))
        return heard


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@ws-worker-test-{os.getpid()}-{tmp_path.name}")
    yield manager
    manager.socket.close()


class Service:
    def __init__(self, workers, folder, manager, routes=ECHO, top="", env=None):
        self.address = ("127.0.0.1", free_port())
        self.path = folder / "service.toml"
        self.write(routes, top)
        env = {"NOTIFY_SOCKET": manager.name if isinstance(manager, Manager) else manager, **(env or {})}
        self.worker = workers.start("serve", "--config", self.path, env=env)

    def write(self, routes=ECHO, top=""):
        self.path.write_text('listen = "%s:%d"\n' % self.address + f"{top}\n{routes}\n")

    def signal(self, number):
        self.worker.child.send_signal(number)


@pytest.fixture
def start(workers, tmp_path):
    return lambda manager, **options: Service(workers, tmp_path, manager, **options)


def test_ready_is_said_when_clients_are_served(start, manager):
    service = start(manager, top="threads = 2")
    heard = manager.hear()
    assert heard["READY"] == "1" and heard["STATUS"].startswith("serving, 0 sockets")
    with Client("rfc6455", service.address, "/echo") as client:  # At once: nothing is waited for.
        client.send("ready")
        assert client.receive() == "ready"


def test_a_worker_that_cannot_start_never_says_that_it_is_ready(start, manager):
    service = start(manager, routes="nonsense")
    assert service.worker.child.wait(DEADLINE) == 78
    with pytest.raises(TimeoutError):
        manager.hear(0.1)


def test_a_reload_is_told_whether_it_works_or_not(start, manager):
    service = start(manager)
    manager.hear_until("READY")
    for text, fails in [(ECHO, False), ("nonsense", True), (ECHO, False)]:
        service.write(text)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        service.signal(signal.SIGHUP)
        first, *_, last = manager.hear_until("READY")
        assert first["RELOADING"] == "1" and before <= int(first["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert ("the last reload failed" in last["STATUS"]) == fails


def test_the_end_is_told_and_how_long_it_takes(start, manager):
    service = start(manager, top='drain = "40s"')
    manager.hear_until("READY")
    client = Client("rfc6455", service.address, "/echo")
    service.signal(signal.SIGTERM)
    heard = manager.hear_until("STOPPING")[-1]
    assert int(heard["EXTEND_TIMEOUT_USEC"]) >= 40_000_000 and "draining" in heard["STATUS"]
    assert client.receive() == Closed(1012, "restart", True)
    client.stream.close()
    assert service.worker.child.wait(DEADLINE) == 0


def test_the_watchdog_is_fed_though_nothing_happens(start, manager):
    start(manager, top="threads = 2", env={"WATCHDOG_USEC": "2000000"})
    manager.hear_until("READY")
    fed = [manager.hear_until("WATCHDOG")[-1]["at"] for _ in range(4)]
    assert fed[-1] - fed[0] >= 0.9  # No more than four times in two seconds.


class Tracer:
    """Stops one thread of a process and lets it run again, as nothing but ptrace(2) can."""

    SEIZE, INTERRUPT, DETACH, ALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        self.libc, self.thread = ctypes.CDLL(None, use_errno=True), thread

    def call(self, request):
        result = self.libc.ptrace(ctypes.c_long(request), ctypes.c_long(self.thread), ctypes.c_void_p(), ctypes.c_void_p())
        assert result == 0, os.strerror(ctypes.get_errno())

    def __enter__(self):
        self.call(self.SEIZE)
        self.call(self.INTERRUPT)
        os.waitpid(self.thread, self.ALL)

    def __exit__(self, *_):
        self.call(self.DETACH)


def test_a_thread_that_hangs_starves_the_watchdog_though_the_others_turn(start, tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    service = start(manager, top="threads = 2", env={"WATCHDOG_USEC": "2000000"})
    manager.hear_until("WATCHDOG")
    tasks = Path(f"/proc/{service.worker.pid}/task")
    hangs = next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == "loop-1")
    with Tracer(hangs):
        service.worker.wait_for_log("a loop does not turn: the watchdog is not fed")
        manager.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                manager.socket.recv(65536)  # What was said before.
        # Two periods: a manager would have ended it by now.
        with pytest.raises(TimeoutError):
            manager.hear(4)
    manager.hear_until("WATCHDOG")


def test_a_manager_that_cannot_be_reached_is_no_reason_not_to_serve(start, tmp_path):
    for name in (str(tmp_path / "nobody"), "@nobody", "vsock:2:1"):
        service = start(name)
        service.worker.wait_until_listening(service.address)
        service.worker.wait_for_log("service manager")


def test_usr1_is_a_line_in_the_log(start):
    service = start("")
    service.worker.wait_until_listening(service.address)
    client = Client("hixie-76", service.address, "/echo")
    client.send("counted")
    assert client.receive() == "counted"

    def line():
        service.signal(signal.SIGUSR1)
        lines = [line for line in service.worker.lines if '"message":"status"' in line]
        return next((line for line in lines if '"messages_in":1' in line), None)
    text = wait_for(line, "a status with one message")
    assert '"state":"serving"' in text and '"open":1' in text and '"messages_out":1' in text


def test_secrets_come_as_credentials(start, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "control.token").write_text("only-root-can-read-it")
    port = free_port()
    table = f'[control]\nlisten = "127.0.0.1:{port}"\ntoken_file = "credential:control.token"\n'
    service = start("", top=table, env={"CREDENTIALS_DIRECTORY": str(folder)})
    service.worker.wait_until_listening(service.address)
    assert Control(("127.0.0.1", port), "only-root-can-read-it").ids() == []
    assert Control(("127.0.0.1", port), "something-else-entirely").call("GET", "/sockets").status == 401
    done = command("check", "--config", service.path)
    assert done.returncode == 78 and "LoadCredential=control.token:" in done.stderr and ":4:14: " in done.stderr


# -- the units, as shipped

@pytest.fixture
def root(tmp_path):
    """A system with nothing but the shipped units and what Debian's systemd brings."""
    root = tmp_path / "root"
    units = root / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in UNITS.glob("ws-worker.*"):
        shutil.copy(unit, units)
    for program in ("usr/bin/ws-worker", "bin/kill"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", root / program)
    shipped = root / "usr" / "lib" / "systemd" / "system"
    shipped.mkdir(parents=True)
    for unit in [*Path("/usr/lib/systemd/system").glob("*.target"), *Path("/usr/lib/systemd/system").glob("*.slice")]:
        shutil.copy(unit, shipped)
    return root


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def drop_in(root, name):
    folder = root / "etc" / "systemd" / "system" / "ws-worker.service.d"
    folder.mkdir(exist_ok=True)
    shutil.copy(UNITS / name, folder)


def exposure(root, threshold):
    status, text = analyze("security", "--offline=true", f"--root={root}", f"--threshold={threshold}", "--no-pager", "ws-worker.service")
    assert status == 0, text
    return float(re.search(r"Overall exposure level for ws-worker.service: ([\d.]+)", text).group(1))


def test_the_units_are_right(root):
    status, text = analyze("verify", f"--root={root}", "--man=no", "ws-worker.service", "ws-worker.socket")
    assert (status, text.strip()) == (0, "")


def test_the_sandbox_is_tight(root):
    assert exposure(root, 12) <= 1.2


def test_without_tcp_it_is_tighter(root):
    drop_in(root, "unix-sockets-only.conf")
    assert exposure(root, 5) < 0.5
    status, text = analyze("verify", f"--root={root}", "--man=no", "ws-worker.service")
    assert (status, text.strip()) == (0, "")


def settings(name):
    return re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.M)


def test_what_the_unit_says_is_what_the_worker_does(tmp_path):
    unit = settings("ws-worker.service")
    value = dict(unit)
    assert value["Type"] == "notify" and int(value["WatchdogSec"]) > 0
    assert "78" in value["RestartPreventExitStatus"].split()
    first, second = [line for key, line in unit if key == "ExecReload"]
    assert second == "/bin/kill -HUP $MAINPID"
    program, *arguments = first.split()
    bad = tmp_path / "bad.toml"
    bad.write_text("nonsense")
    done = command(*[bad if argument == "/etc/ws-worker/ws-worker.toml" else argument for argument in arguments])
    assert done.returncode == 78, "a reload of a bad file would be asked for"
    (later,) = [line for key, line in settings("notify-reload.conf") if key == "ExecReload" and line]
    assert later == first
