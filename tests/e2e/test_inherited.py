"""Listening sockets that somebody else has opened: systemd's by name, spawn-fcgi's descriptor 0, the worker's own, and all of
them; and what that is good for, a new binary that refuses nobody."""

import fcntl
import signal
import socket
import threading

import pytest

from support import DEADLINE, WORKER, Process, free_port, running, wait_for
from wire import VERSIONS, Client, Closed, Refused

ECHO = '[[route]]\npath = "/echo"\nhandler = "echo"\n'


def high(opened):
    """The socket again, under a number that is in nobody's way."""
    number = fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD, 100)
    opened.close()
    return socket.socket(fileno=number)


@pytest.fixture
def sockets(tmp_path):
    """Opens listening sockets that close with the test."""
    held = []

    def open_one(path=None):
        if path:
            one = socket.socket(socket.AF_UNIX)
            one.bind(str(path))
        else:
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        one.listen(512)
        held.append(high(one))
        return held[-1]
    yield open_one
    for one in held:
        one.close()


@pytest.fixture
def serve(workers, tmp_path):
    def start(listen, passed=(), names=None, ready=None, top="", **env):
        path = workers.config(f"listen = {listen}\n{top}\n{ECHO}")
        if passed:
            env = {"LISTEN_FDS": str(len(passed)), **({"LISTEN_FDNAMES": names} if names is not None else {}), **env}
        return workers.start("serve", "--config", path, ready=ready, env=env, sockets=passed)
    return start


def echoes(address, version="rfc6455", text="hello"):
    with Client(version, address, "/echo") as client:
        client.send(text)
        return client.receive() == text


@pytest.mark.parametrize("version", VERSIONS)
def test_names_are_matched_to_listeners(serve, sockets, version):
    plain, proxied = sockets(), sockets()
    serve('[{ addr = "systemd:proxied", proxy_protocol = true }, "systemd:plain"]', [plain, proxied], "plain:proxied",
          top="threads = 2")
    assert echoes(plain.getsockname(), version)
    with pytest.raises((Refused, EOFError, ConnectionError)):
        echoes(proxied.getsockname(), version)  # Without the head that this listener, and no other, requires.


def test_all_sockets_of_a_name_are_taken(serve, sockets, tmp_path):
    tcp, unix = sockets(), sockets(tmp_path / "ws.sock")
    serve('"systemd:ws"', [tcp, unix], "ws:ws")
    assert echoes(tcp.getsockname()) and echoes(unix.getsockname())


def test_own_and_passed_sockets_mix(serve, sockets, tmp_path):
    passed, own = sockets(), ("127.0.0.1", free_port())
    serve(f'["systemd:ws", "{own[0]}:{own[1]}", "unix:{tmp_path}/own.sock"]', [passed], "ws", ready=own)
    assert echoes(passed.getsockname()) and echoes(own) and echoes(str(tmp_path / "own.sock"))


def test_numbers_work_for_what_has_no_names(serve, sockets):
    one, two = sockets(), sockets()
    serve('["fd:4", "fd:3"]', [one, two])
    assert echoes(one.getsockname()) and echoes(two.getsockname())


@pytest.mark.parametrize("listen, count, names, said", [
    ('"systemd:web"', 1, "ws", ["systemd:web", 'systemd passed "ws"']),
    ('["systemd:a", "systemd:b"]', 1, "a", ["systemd:b", 'systemd passed "a"']),
    ('"systemd:a"', 2, "a:b", ["nothing listens on", '"systemd:b"']),
    ('"127.0.0.1:0"', 1, "a", ["nothing listens on", '"systemd:a"']),
    ('["systemd:a", "fd:3"]', 1, "a", ["descriptor 3 is named twice"]),
    ('"systemd:a"', 2, "a", ["2 sockets were passed", "1 names"]),
    ('"fd:99"', 1, "a", ["descriptor 99", "Bad file descriptor"]),
])
def test_sockets_that_do_not_fit_are_named_and_stop_the_start(serve, sockets, listen, count, names, said):
    worker = serve(listen, [sockets() for _ in range(count)], names)
    assert worker.child.wait(DEADLINE) == 78
    worker.reader.join(DEADLINE)
    assert all(words in worker.log for words in said), worker.log


def test_without_systemd_its_names_stand_for_nothing(serve):
    worker = serve('"systemd:ws"')
    assert worker.child.wait(DEADLINE) == 78
    worker.reader.join(DEADLINE)
    assert "LISTEN_PID" in worker.log


def test_what_is_no_listening_socket_is_told(serve):
    pipe, other = socket.socketpair()
    worker = serve('"systemd:ws"', [high(pipe)], "ws")
    assert worker.child.wait(DEADLINE) == 78
    worker.reader.join(DEADLINE)
    assert "no listening socket" in worker.log
    other.close()


def test_systemd_itself_passes_them(workers):
    address = ("127.0.0.1", free_port())
    path = workers.config(f'listen = "systemd:ws"\n{ECHO}')
    command = ["systemd-socket-activate", "--listen=%s:%d" % address, "--fdname=ws", WORKER, "serve", "--config", path]
    with running(command, name="systemd-socket-activate") as process:
        process.wait_for_log("Listening on")
        assert echoes(address)  # The first connection starts it, and is served.
        assert process.terminate() == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_spawn_fcgi_passes_descriptor_0(workers, tmp_path, kind):
    address = ("127.0.0.1", free_port()) if kind == "tcp" else str(tmp_path / "ws.sock")
    own = ("127.0.0.1", free_port())
    path = workers.config('listen = ["fd:0", "%s:%d"]\ndrain = "20s"\n' % own + ECHO)
    where = ["-a", address[0], "-p", str(address[1])] if kind == "tcp" else ["-s", address]
    with running(["spawn-fcgi", "-n", *where, "--", WORKER, "serve", "--config", path], own, name="spawn-fcgi") as process:
        assert all(echoes(address, version) for version in VERSIONS)
        client = Client("rfc6455", address, "/echo")
        process.child.send_signal(signal.SIGTERM)
        # While it drains nobody waits at a door that will never open.
        assert client.event()[0] == "closed"
        def is_refused():
            with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as probe:
                return probe.connect_ex(address) != 0
        wait_for(is_refused, "the door to close")
        client.stream.close()
        assert process.child.wait(DEADLINE) == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_an_upgrade_refuses_nobody(serve, sockets, tmp_path, threads):
    listening = sockets()
    address = listening.getsockname()
    top = f'threads = {threads}\ndrain = "4s"\n'
    old = serve('"systemd:ws"', [listening], "ws", top=top)
    assert echoes(address)
    stop, failures, opened = threading.Event(), [], []

    def come_and_go(version):
        """Connects again and again; stays until it is sent away or has said enough."""
        while not stop.is_set():
            try:
                client = Client(version, address, "/echo")
                opened.append(version)
                for number in range(5):
                    try:
                        client.send(str(number))
                    except (BrokenPipeError, ConnectionResetError):
                        break  # To who has just said goodbye.
                    answer = client.receive()
                    if isinstance(answer, Closed):
                        break
                    assert answer == str(number)
                client.stream.close()
            except BaseException as error:
                failures.append((version, repr(error)))

    stayers = [Client(version, address, "/echo") for version in VERSIONS * 4]
    goers = [threading.Thread(target=come_and_go, args=(version,)) for version in VERSIONS]
    for goer in goers:
        goer.start()
    new = serve('"systemd:ws"', [listening], "ws", top=top)
    new.wait_for_log("listening on")
    old.child.send_signal(signal.SIGTERM)
    for client in stayers:
        closed = client.receive()
        assert isinstance(closed, Closed)
        if not client.is_hixie:
            assert closed.code in (1001, 1012), closed
        client.stream.close()
    assert old.child.wait(DEADLINE) == 0
    before = len(opened)
    wait_for(lambda: len(opened) > before + 20, "clients of the new one")
    stop.set()
    for goer in goers:
        goer.join(DEADLINE)
    assert failures == []
