"""Hooks straight to php-fpm, the real one of Debian, and to apps that speak FastCGI badly."""

import json
import os
import pwd
import shutil
import signal
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest

from apps import HERE
from support import DEPLOY, free_port, running, wait_for
from wire import VERSIONS, Client, Closed, Refused

ROOM = HERE / "php" / "room.php"


@contextmanager
def php_fpm(folder, children=2, address=None):
    """A php-fpm of our own; yields its process with the URL's beginning."""
    program = next(filter(None, map(shutil.which, ["php-fpm", *(f"/usr/sbin/php-fpm8.{n}" for n in range(9, -1, -1))])), None)
    assert program, "php-fpm is not installed; tests/run installs it"
    address = address or str(folder / "fpm.sock")
    listen, user = address if isinstance(address, str) else "%s:%d" % address, pwd.getpwuid(os.geteuid()).pw_name
    (folder / "fpm.conf").write_text(
        f"[global]\nerror_log = /dev/stderr\n[www]\nuser = {user}\nlisten = {listen}\npm = static\n"
        f"pm.max_children = {children}\nphp_admin_flag[display_errors] = off\n")
    with running([program, "-n", "-F", "-R", "-y", folder / "fpm.conf"], address, name="php-fpm") as process:
        process.url = f"fcgi+unix://{address}:" if isinstance(address, str) else f"fcgi://{listen}"
        yield process


@pytest.fixture
def fpm(tmp_path):
    with php_fpm(tmp_path) as process:
        yield process


def serve(workers, app, route="", **options):
    return workers.serve(f'[[route]]\npath = "/"\napp = "{app}"\n{route}', **options)


def opens(worker, version="rfc6455", path="/", **options):
    return Client(version, worker.address, path, **options)


def says(client, text):
    client.send(text)
    return client.receive()


def test_the_shipped_chat_works_under_php_fpm(workers, fpm):
    worker = serve(workers, f"{fpm.url}{DEPLOY}/apps/php/chat.php")
    clients = [opens(worker, version) for version in VERSIONS]
    clients[0].send("皆さん、こんにちは")
    assert [client.receive() for client in clients] == ["皆さん、こんにちは"] * 5
    clients[2].send(b"\x00\xff")
    assert [client.receive() for client in clients[2:]] == [b"\x00\xff"] * 3
    for client in clients:
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_over_tcp(workers, tmp_path, version):
    log = tmp_path / "events"
    with php_fpm(tmp_path, address=("127.0.0.1", free_port())) as fpm:
        worker = serve(workers, f"{fpm.url}{ROOM}")
        with opens(worker, version, f"/?log={log}") as client:
            assert client.answer.get("set-cookie").startswith("visits=1") and client.answer.get("status") is None
            for n in range(50):
                assert says(client, f"echo {n}") == f"echo {n}"
        wait_for(lambda: log.exists() and log.read_text() == "handshake\nclosed\n", "the closed hook")


def test_php_finds_what_it_expects(workers, fpm):
    worker = serve(workers, f"{fpm.url}{ROOM}", 'server_name = "www.example.org"')
    with opens(worker, path="/room?a=1&b=%20", headers=[("Cookie", "user=yuki"), ("Proxy", "http://evil/")]) as client:
        for name, expected in [
                ("SCRIPT_FILENAME", str(ROOM)), ("SCRIPT_NAME", "/room.php"), ("PHP_SELF", "/room.php"),
                ("DOCUMENT_ROOT", str(ROOM.parent)), ("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/room.php?a=1&b=%20"),
                ("QUERY_STRING", "a=1&b=%20"), ("CONTENT_TYPE", "text/plain; charset=utf-8"),
                ("HTTP_CONTENT_TYPE", "text/plain; charset=utf-8"), ("CONTENT_LENGTH", "19"), ("REMOTE_ADDR", "127.0.0.1"),
                ("SERVER_PROTOCOL", "HTTP/1.1"), ("GATEWAY_INTERFACE", "CGI/1.1"), ("SERVER_NAME", "www.example.org"),
                ("SERVER_PORT", "80"), ("HTTP_COOKIE", "user=yuki"), ("HTTP_WS_EVENT", "message"),
                ("HTTP_WS_RESOURCE", "/room?a=1&b=%20")]:
            if name != "CONTENT_LENGTH":
                assert says(client, f"show {name}") == expected, name
        assert says(client, "show CONTENT_LENGTH") == "19"
        assert "HTTP_PROXY" not in says(client, "all").split("\n")


def test_path_info_follows_the_script(workers, fpm):
    worker = serve(workers, f"{fpm.url}{ROOM}/on/{{event}}/{{path}}")
    with opens(worker, path="/deep/%E3%81%82?q=1") as client:
        assert says(client, "show PATH_INFO") == "/on/message/deep/あ"
        assert says(client, "show SCRIPT_NAME") == "/room.php"
        assert says(client, "show REQUEST_URI") == "/room.php/on/message/deep/%E3%81%82?q=1"


def test_forms_of_2010_are_php_post(workers, fpm, tmp_path):
    log, long = tmp_path / "events", "あ" * 50_000
    worker = serve(workers, f"{fpm.url}{HERE}/php/form.php", 'dialect = "typhoonae"')
    with opens(worker, path=f"/foo?log={log}") as client:
        client.send('say "あ"')
        client.send(long)
        client.close()
    lines = lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    wait_for(lambda: len(lines()) == 4, "the closed hook")
    at = "/_ah/websocket"
    assert lines() == [[f"{at}/handshake/foo", "", True], [f"{at}/message/foo", 'say "あ"', True],
                       [f"{at}/message/foo", long, True], [f"{at}/closed/foo", "", True]]


@pytest.mark.parametrize("size", [65_527, 65_528, 65_536, 900_000])
def test_large_bodies_go_both_ways(workers, fpm, size):
    worker = serve(workers, f"{fpm.url}{ROOM}")
    with opens(worker) as client:
        text = "x" * size
        assert says(client, text) == text
        assert says(client, f"big {size}") == "y" * size


def test_a_script_refuses_and_redirects(workers, fpm):
    worker = serve(workers, f"{fpm.url}{ROOM}")
    with pytest.raises(Refused) as refused:
        opens(worker, path="/?refuse")
    answer = refused.value.answer
    assert (answer.status, answer.body, answer.get("x-why"), answer.get("status")) == (403, b"not you", "because", None)
    with pytest.raises(Refused) as refused:
        opens(worker, path="/?away")
    assert refused.value.status == 302 and refused.value.answer.get("location") == "http://elsewhere.example/"
    with opens(worker) as client:
        client.send("status 410")
        assert client.receive().code == 1008


def test_a_script_that_is_not_there_is_a_404(workers, fpm, tmp_path):
    with pytest.raises(Refused) as refused:
        opens(serve(workers, f"{fpm.url}{tmp_path}/nothing.php"))
    assert refused.value.status == 404


def test_what_php_writes_to_its_errors_is_logged_once_and_escaped(workers, fpm):
    worker = serve(workers, f"{fpm.url}{ROOM}")
    with opens(worker) as client:
        for _ in range(5):
            assert says(client, "warn") == "warned"
    line = worker.wait_for_log(r".*standard error.*").string
    assert "forged line" in line and "\x1b" not in line and len(line) < 1000
    assert len([line for line in worker.lines if "standard error" in line]) == 1


def test_a_script_that_fails_is_asked_again_and_given_up(workers, fpm):
    worker = serve(workers, f"{fpm.url}{ROOM}", 'give_up = "500ms"')
    with opens(worker) as client:
        client.send("fatal")  # With display_errors off PHP says 500.
        assert client.receive().code == 1013
    with opens(worker) as client:
        client.send("die")
        assert client.receive().code == 1013
    with opens(worker) as client:
        assert says(client, "echo alive") == "echo alive"


def test_one_child_serves_many_sockets_in_turn(workers, tmp_path):
    with php_fpm(tmp_path, children=1) as fpm:
        worker = serve(workers, f"{fpm.url}{ROOM}")
        clients = [opens(worker) for _ in range(12)]
        for client in clients:
            client.send("sleep 20")
        assert [client.receive() for client in clients] == ["slept"] * 12


def test_children_are_not_pinned_unless_the_operator_says_so(workers, tmp_path):
    with php_fpm(tmp_path, children=1) as fpm:
        first, second = (serve(workers, f"{fpm.url}{ROOM}") for _ in range(2))
        with opens(first) as one, opens(second) as two:
            for _ in range(10):
                assert says(one, "echo 1") == "echo 1" and says(two, "echo 2") == "echo 2"
    with php_fpm(tmp_path, children=4) as fpm:
        worker = serve(workers, f"{fpm.url}{ROOM}", "keep = true")
        with opens(worker) as client:
            assert len({says(client, "pid") for _ in range(20)}) == 1
            assert says(client, "x" * 200_000) == "x" * 200_000


def test_php_fpm_may_restart(workers, tmp_path):
    for keep in ("true", "false"):
        with php_fpm(tmp_path) as fpm:
            worker = serve(workers, f"{fpm.url}{ROOM}", f"keep = {keep}")
            client = opens(worker)
            assert says(client, "echo before") == "echo before"
        client.send("echo meanwhile")
        with pytest.raises(Refused) as refused:
            opens(worker)
        assert refused.value.status == 503
        with php_fpm(tmp_path):
            assert client.receive() == "echo meanwhile"
            assert says(client, "echo after") == "echo after"
            client.close()


def test_a_reload_of_php_fpm_loses_nothing(workers, tmp_path):
    with php_fpm(tmp_path, children=3) as fpm:
        worker = serve(workers, f"{fpm.url}{ROOM}", "keep = true")
        with opens(worker) as client:
            for n in range(300):
                client.send(f"echo {n}")
                if n == 100:
                    os.kill(fpm.pid, signal.SIGUSR2)
            assert [client.receive() for n in range(300)] == [f"echo {n}" for n in range(300)]


# -- files as endpoints

@pytest.fixture
def docroot(tmp_path):
    root = tmp_path / "www"
    (root / "foo").mkdir(parents=True)
    (root / ".hidden").mkdir()
    shutil.copy(ROOM, root / "foo" / "bar_wsh.php")
    shutil.copy(ROOM, root / ".hidden" / "bar_wsh.php")
    shutil.copy(ROOM, root / "plain.php")
    shutil.copy(ROOM, tmp_path / "out_wsh.php")
    (root / "leak_wsh.php").symlink_to(tmp_path / "out_wsh.php")
    (root / "up").symlink_to(tmp_path)
    return root


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_is_an_endpoint(workers, fpm, docroot, version):
    worker = serve(workers, fpm.url, f'docroot = "{docroot}"')
    with opens(worker, version, "/foo/bar?x=1") as client:
        assert says(client, "show SCRIPT_FILENAME") == f"{docroot}/foo/bar_wsh.php"
        assert says(client, "show SCRIPT_NAME") == "/foo/bar_wsh.php"
        assert says(client, "show DOCUMENT_ROOT") == str(docroot)
        assert says(client, "show QUERY_STRING") == "x=1"
        assert says(client, "show HTTP_WS_RESOURCE") == "/foo/bar?x=1"


@pytest.mark.parametrize("path", [
    "/", "/foo", "/foo/", "/foo/bar/", "/foo//bar", "/foo/bar_wsh.php", "/plain", "/plain.php", "/.hidden/bar", "/leak",
    "/up/out", "/../out", "/foo/../../out", "/%2e%2e/out", "/..%2fout", "/foo%2fbar", "/foo%5cbar", "/foo/bar%00", "/nothing"])
def test_nothing_else_is(workers, fpm, docroot, path):
    worker = serve(workers, fpm.url, f'docroot = "{docroot}"')
    with pytest.raises(Refused) as refused:
        opens(worker, path=path)
    assert refused.value.status in (400, 404)
    if path in ("/foo", "/nothing", "/leak", "/plain", "/.hidden/bar"):
        assert refused.value.status == 404 and b"File not found" not in refused.value.answer.body


def test_a_dropped_file_opens_and_a_removed_one_closes_an_endpoint(workers, fpm, docroot):
    worker = serve(workers, fpm.url, f'docroot = "{docroot}"\ndocroot_suffix = ".ws.php"')

    def status():
        try:
            opens(worker, path="/new").close()
            return 101
        except Refused as refused:
            return refused.status
    assert status() == 404
    shutil.copy(ROOM, docroot / "new.ws.php")
    wait_for(lambda: status() == 101, "the new endpoint")
    (docroot / "new.ws.php").unlink()
    wait_for(lambda: status() == 404, "its end")


# -- apps that speak FastCGI badly

def record(kind, content=b"", padding=0):
    return struct.pack(">BBHHBB", 1, kind, 1, len(content), padding, 0) + content + b"\0" * padding


def end(status=0):
    return record(3, struct.pack(">IB3x", 0, status))


YES = record(6, b"\r\n") + record(6) + end()
OK = record(6, b"Ws-To: self\r\n\r\nhi", 5) + record(6) + end()


class Scripted:
    """Reads whole requests and answers each by the next of its answers; the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "fcgi://127.0.0.1:%d/srv/x.php" % self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                while True:
                    header = stream.read(8)
                    if len(header) < 8:
                        break
                    _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", header)
                    stream.read(length + padding)
                    if kind == 5 and length == 0:
                        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                        self.requests += 1
                        if answer is None:
                            time.sleep(2)
                        else:
                            stream.write(answer)
                            stream.flush()
                        break


@pytest.mark.parametrize("status", [1, 2])
def test_an_overloaded_app_is_asked_again_even_where_nothing_may_be_repeated(workers, status):
    app = Scripted(end(status), YES, end(status), end(status), OK)
    worker = serve(workers, app.url, 'retry = "unsent"')
    with opens(worker) as client:
        assert says(client, "x") == "hi"
    wait_for(lambda: app.requests >= 6, "the closed hook")


def test_an_app_that_stays_overloaded_means_503(workers):
    app = Scripted(end(2))
    worker = serve(workers, app.url)
    with pytest.raises(Refused) as refused:
        opens(worker)
    assert refused.value.status == 503 and refused.value.answer.get("retry-after")


def test_an_app_that_is_no_responder_is_the_operators_mistake(workers):
    app = Scripted(YES, end(3))
    worker = serve(workers, app.url)
    with opens(worker) as client:
        client.send("x")
        assert client.receive().code == 1011
    worker.wait_for_log("no FastCGI responder")
    with pytest.raises(Refused) as refused:
        opens(worker)
    assert refused.value.status == 502


@pytest.mark.parametrize("broken", [
    b"", b"\x01", record(6, b"Ws-To: self\r\n\r\nhi"), b"HTTP/1.1 200 OK\r\n\r\n", record(6, b"no head") + end(),
    record(6, b"A: b\r\nContent-Length: 9\r\n\r\nx") + end(), b"\x02" + OK[1:], record(11, b"\0" * 8) + OK])
def test_an_answer_that_makes_no_sense_is_asked_for_again(workers, broken):
    app = Scripted(YES, broken, OK)
    with opens(serve(workers, app.url)) as client:
        assert says(client, "x") == "hi"
    assert app.requests >= 3


def test_an_answer_that_never_comes_has_a_deadline(workers):
    app = Scripted(YES, None, OK)
    with opens(serve(workers, app.url, 'hook_timeout = "300ms"')) as client:
        assert says(client, "x") == "hi"


def test_an_answer_that_is_too_large_ends_the_socket(workers):
    app = Scripted(YES, record(6, b"Ws-To: self\r\n\r\n") + record(6, b"x" * 60_000) * 20 + end())
    with opens(serve(workers, app.url)) as client:
        client.send("x")
        assert isinstance(client.receive(), Closed)
