"""Under a real systemd that is process 1: the package installed, the unit and the socket as shipped, the sandbox, reload, crash,
hang, a wrong file, the journal, credentials, and an upgrade that refuses nobody. Skipped where none can be booted, and it says why."""

import re
import resource
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from control import Control
from machine import Machine, reason_not_to_boot
from support import ROOT, expect_free, free_port, wait_for
from test_package import build
from wire import VERSIONS, Client, Closed

CONFIG = "/etc/ws-worker/ws-worker.toml"
ADDRESS = ("127.0.0.1", 9000)
CONTROL = '[control]\nlisten = "unix:/run/ws-worker/control.sock"\n'
ECHO = '[[route]]\npath = "/echo"\nhandler = "echo"\n'
DROP_INS = "/etc/systemd/system/ws-worker.service.d"


def install(machine, *options):
    package = Path(build(machine.folder, *options))
    machine.run("dpkg", "--install", "--force-confold", "--force-depends", "--force-unsafe-io", f"/run/brought/{package.name}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if reason := reason_not_to_boot():
        pytest.skip(f"no systemd can be booted here: {reason}")
    expect_free(ADDRESS[1])
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        install(machine)
        yield machine
    finally:
        machine.stop()


class Service:
    """The unit, put back to what is shipped after each test."""

    name = "ws-worker.service"

    def __init__(self, machine):
        self.machine = machine

    def write(self, routes=ECHO, listen='"%s:%d"' % ADDRESS, top="", control=CONTROL):
        self.machine.write(CONFIG, f"listen = {listen}\n{top}\n{control}\n{routes}\n")

    def drop_in(self, text):
        self.machine.run("mkdir", "-p", DROP_INS)
        self.machine.write(f"{DROP_INS}/test.conf", f"[Service]\n{text}\n")
        self.machine.run("systemctl", "daemon-reload")

    def ctl(self, *words, **options):
        """systemctl."""
        return self.machine.run("systemctl", *words, **options)

    def start(self, *options, **written):
        self.write(**written)
        self.ctl("start", "ws-worker")

    def show(self):
        return self.machine.show(self.name)

    @property
    def pid(self):
        """The worker's process, as the machine counts."""
        return int(self.show()["MainPID"])

    def kill(self, number):
        self.machine.run("kill", f"-{int(number)}", self.pid)

    def becomes(self, **expected):
        """Waits until systemd says so."""
        def there():
            shown = self.show()
            return shown if {name: shown[name] for name in expected} == expected else None
        return wait_for(there, f"{expected}, instead of {({name: self.show()[name] for name in expected})}", 60)

    def reset(self):
        self.ctl("stop", "ws-worker.socket", "ws-worker.service", check=False)
        self.machine.run("rm", "-rf", DROP_INS)
        self.ctl("daemon-reload")
        self.ctl("reset-failed", "ws-worker.service", check=False)


@pytest.fixture
def service(machine):
    service = Service(machine)
    yield service
    service.reset()


def echoes(version="rfc6455", address=ADDRESS):
    with Client(version, address, "/echo") as client:
        client.send("hello")
        return client.receive() == "hello"


def test_an_installation_starts_and_enables_nothing(machine):
    for unit in ("ws-worker.service", "ws-worker.socket"):
        assert machine.run("systemctl", "is-active", unit, check=False).strip() == "inactive"
        assert machine.run("systemctl", "is-enabled", unit, check=False).strip() == "disabled"


def test_a_start_is_over_when_clients_are_served(service):
    service.start()
    assert all(echoes(version) for version in VERSIONS)  # At once.
    shown = service.show()
    assert shown["StatusText"].startswith("serving") and shown["SubState"] == "running"
    assert (shown["User"], shown["NotifyAccess"]) == ("ws-worker", "main")


def test_the_sandbox_takes_what_it_promises_and_leaves_what_is_needed(service):
    service.start(top='journal = "/var/lib/ws-worker/journal"')
    assert echoes()
    run, pid = service.machine.run, service.pid
    status = dict(line.split(":\t", 1) for line in run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    user = run("id", "-u", "ws-worker").strip()
    assert status["Uid"].split() == [user] * 4 and int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    limits = re.search(r"Max open files\s+(\d+)\s+(\d+)", run("cat", f"/proc/{pid}/limits"))
    # systemd takes what it may where it may not have LimitNOFILE=; the worker takes all of it.
    most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 0) or 1 << 20
    assert limits[1] == limits[2] and int(limits[1]) >= min(1 << 20, most)
    assert run("stat", "-c", "%U %a", "/run/ws-worker/control.sock").split() == ["ws-worker", "660"]
    assert run("stat", "-c", "%U %a", "/var/lib/ws-worker/journal").split() == ["ws-worker", "600"]
    inside = ["nsenter", "--target", pid, "--mount", "--"]
    for folder in ("/usr", "/etc", "/var"):
        assert "Read-only" in run(*inside, "touch", f"{folder}/harm", check=False)
    # What the system tells about the process is seen by it: a number that is missing would be 0.
    said = run("ws-worker", "ctl", "--json", "status")
    assert re.search(r'"resident_bytes":[1-9]', said) and re.search(r'"open_fds":[1-9]', said)


def test_a_reload_changes_routes_and_no_socket(service):
    service.start()
    with Client("rfc6455", ADDRESS, "/echo") as client:
        service.write(routes=ECHO + ECHO.replace("/echo", "/more"))
        service.ctl("reload", "ws-worker")
        wait_for(lambda: "/more" in service.machine.run("ws-worker", "ctl", "status"), "the new route")
        Client("rfc6455", ADDRESS, "/more").close()
        client.send("still here")
        assert client.receive() == "still here"


def test_a_reload_of_a_bad_file_fails_says_where_and_changes_nothing(service):
    service.start()
    pid = service.pid
    service.write(top="nonsense = 1")
    assert "failed" in service.ctl("reload", "ws-worker", check=False)
    said = [entry["MESSAGE"] for entry in service.machine.journal(service.name)]
    assert any(f"{CONFIG}:2:" in line and "nonsense" in line for line in said), said
    assert service.show()["SubState"] == "running" and service.pid == pid and echoes()


def test_who_is_killed_comes_back(service):
    service.start()
    before = service.pid
    service.kill(signal.SIGKILL)
    shown = service.becomes(NRestarts="1", SubState="running")
    assert int(shown["MainPID"]) != before and echoes()


def test_who_hangs_is_ended_by_the_watchdog_and_comes_back(service):
    service.drop_in("WatchdogSec=2")
    service.start()
    service.kill(signal.SIGSTOP)
    service.becomes(NRestarts="1", SubState="running")
    said = " ".join(entry["MESSAGE"] for entry in service.machine.journal(service.name))
    assert "Watchdog timeout (limit 2s)!" in said and "'watchdog'" in said and echoes()


def test_who_only_waits_is_left_alone_by_the_watchdog(service):
    service.drop_in("WatchdogSec=1")
    service.start()
    with Client("hixie-76", ADDRESS, "/echo") as client:
        time.sleep(3)  # Three times as long as a worker that hangs would live.
        client.send("alive")
        assert client.receive() == "alive"
    assert service.show()["NRestarts"] == "0"


def test_a_wrong_file_is_not_tried_again(service):
    service.write(top="nonsense = 1")
    service.ctl("start", "ws-worker", check=False)
    shown = service.becomes(ActiveState="failed", SubState="failed")
    assert (shown["ExecMainStatus"], shown["NRestarts"]) == ("78", "0")


def test_an_address_that_is_taken_is_tried_again(service):
    service.write()
    with socket.create_server(ADDRESS):
        service.ctl("start", "--no-block", "ws-worker")
        shown = wait_for(lambda: (shown := service.show())["NRestarts"] != "0" and shown, "another try")
        assert shown["ActiveState"] == "activating"
    service.becomes(SubState="running")
    assert echoes()


def test_a_drain_may_take_longer_than_the_unit_says(service):
    service.drop_in("TimeoutStopSec=1")
    service.start(top='drain = "4s"')
    client = Client("rfc6455", ADDRESS, "/echo")  # Does not answer the close, and is waited for.
    began = time.monotonic()
    service.ctl("stop", "ws-worker")
    assert time.monotonic() - began > 1.5, "nobody was waited for, so nothing is shown"
    said = [entry["MESSAGE"] for entry in service.machine.journal(service.name)][-6:]
    assert "ws-worker.service: Deactivated successfully." in said and not re.search("timed out|Killing", " ".join(said)), said
    client.stream.close()


def test_the_journal_has_the_fields_of_a_connection(service):
    service.start()
    client = Client("hybi-08", ADDRESS, "/echo/room?token=s3cr3t", origin="http://example.org")
    client.close(4000, "bye\nWS_FORGED=1")
    entries = lambda: service.machine.journal(service.name, "WS_ROUTE=/echo", "WS_CODE=4000")
    (entry,) = wait_for(entries, "the line in the journal")
    expected = {"MESSAGE": "closed", "PRIORITY": "5", "SYSLOG_IDENTIFIER": "ws-worker", "_SYSTEMD_UNIT": service.name,
                "WS_ROUTE": "/echo", "WS_PATH": "/echo/room?...", "WS_VERSION": "hybi-08", "WS_ORIGIN": "http://example.org",
                "WS_CODE": "4000", "WS_BY": "client", "WS_CLEAN": "true"}
    assert {name: entry.get(name) for name in expected} == expected
    assert "WS_FORGED" not in entry and entry["WS_REASON"] == r"bye\x0aWS_FORGED=1"
    assert service.machine.journal(service.name, f"WS_ID={entry['WS_ID']}") == [entry]


def test_a_secret_that_only_root_can_read(service):
    port = free_port()
    service.machine.write("/etc/ws-worker/control.token", "only-root-can-read-it")
    service.machine.run("chmod", "600", "/etc/ws-worker/control.token")
    given = ["--wait", "--pipe", "--quiet", "-p", "User=ws-worker", "-p", "LoadCredential=control.token:/etc/ws-worker/control.token"]
    told = service.machine.run("systemd-run", *given, "sh", "-c", "cat $CREDENTIALS_DIRECTORY/control.token", check=False)
    if told != "only-root-can-read-it":
        pytest.skip(f"this systemd cannot give a credential to any service here: {told.strip()}")
    service.drop_in("LoadCredential=control.token:/etc/ws-worker/control.token")
    service.start(control=f'[control]\nlisten = "127.0.0.1:{port}"\ntoken_file = "credential:control.token"\n')
    assert Control(("127.0.0.1", port), "only-root-can-read-it").ids() == []
    assert Control(("127.0.0.1", port), "something-else").call("GET", "/sockets").status == 401


def test_without_tcp_there_is_no_network(service):
    source = service.machine.run("find", "/usr/share/doc/ws-worker", "-name", "unix-sockets-only.conf").split()
    service.drop_in(service.machine.run("cat", source[0]).partition("[Service]")[2])
    service.start(listen='"unix:/run/ws-worker/ws.sock"')
    url = "ws+unix:/run/ws-worker/ws.sock:/echo"
    assert service.machine.run("ws-worker", "connect", "--quiet", "--count", "1", url, input="hello\n") == "hello\n"
    seen = service.machine.run("nsenter", "--target", service.pid, "--net", "cat", "/proc/net/dev")
    assert [line.split(":")[0].strip() for line in seen.splitlines()[2:]] == ["lo"]


# -- sockets that systemd opens

@pytest.fixture
def activated(service):
    service.write(listen='"systemd:ws"', top='drain = "4s"')
    service.ctl("start", "ws-worker.socket")
    return service


def test_the_first_client_starts_it(activated):
    assert activated.show()["ActiveState"] == "inactive"
    assert echoes()
    assert activated.show()["ActiveState"] == "active"
    run = activated.machine.run
    assert run("stat", "-c", "%U:%G %a", "/run/ws-worker.sock").strip() == "root:www-data 660"
    url = "ws+unix:/run/ws-worker.sock:/echo"
    assert run("ws-worker", "connect", "--quiet", "--count", "1", url, input="hello\n") == "hello\n"


def test_an_upgrade_of_the_package_refuses_nobody(activated):
    assert echoes()
    before = activated.pid
    stop, failures, opened = threading.Event(), [], []

    def come_and_go(version):
        while not stop.is_set():
            try:
                with Client(version, ADDRESS, "/echo") as client:
                    opened.append(version)
                    try:
                        client.send("hello")
                    except (BrokenPipeError, ConnectionResetError):
                        continue  # To who has just said goodbye.
                    answer = client.receive()
                    assert answer == "hello" or isinstance(answer, Closed), answer
            except BaseException as error:
                failures.append((version, repr(error)))

    goers = [threading.Thread(target=come_and_go, args=(version,)) for version in VERSIONS]
    for goer in goers:
        goer.start()
    try:
        install(activated.machine, "--deb-version", "9.0.0")
        assert activated.becomes(SubState="running")["MainPID"] != str(before)
        count = len(opened)
        wait_for(lambda: len(opened) > count + 20, "clients of the new one", 60)
    finally:
        stop.set()
        for goer in goers:
            goer.join(60)
    assert failures == []
    assert set(opened) == set(VERSIONS)


# -- the pages, as an operator reads them

def test_the_commands_of_the_pages_run(service):
    """Each line of `operations.md` and of the journal's chapter in `logs.md`, in this order, by a shell on the machine."""
    lines = [line.partition(" # ")[0].strip() for page in ("operations.md", "logs.md")
             for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "ws-worker" / "docs" / page).read_text(), re.M | re.S)
             for line in block.splitlines()]
    assert len(lines) >= 5 and "systemctl reload ws-worker" in lines
    service.start()
    shell = lambda line: service.machine.run("sh", "-c", f"cd /root && {line}")
    shell("cp /usr/bin/ws-worker .")
    try:
        for line in lines:
            if line.startswith("systemctl enable"):  # The chapter on sockets that systemd opens.
                service.ctl("stop", "ws-worker")
                service.write(listen='"systemd:ws"')
            shell(line)
            if line.startswith("systemctl enable"):
                assert echoes()
        assert echoes() and service.show()["ActiveState"] == "active"
    finally:
        service.ctl("disable", "ws-worker.socket", check=False)
