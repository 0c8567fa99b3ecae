"""The log: one line at the end of every connection, whatever clients call themselves; who it is written for; what is never in it."""

import json
import re
import subprocess
import sys

import pytest

from support import WORKER, free_port, listens, wait_for
from test_control import start
from wire import VERSIONS, Client, Refused

ROUTES = '[[route]]\npath = "/echo"\nhandler = "echo"\n'
HOSTILE = "http://\"evil\"\\x1b[31m'; DROP TABLE logs; -- " + "a" * 8000
SECRETS = {"Cookie": "session=s3cr3t-cookie", "Authorization": "Bearer s3cr3t-token"}


def ends(worker, count=1):
    """The lines about connections that ended, as soon as there are so many."""
    def found():
        lines = [json.loads(line) for line in list(worker.lines) if line.startswith("{")]
        lines = [line for line in lines if line["message"] == "closed"]
        return lines if len(lines) >= count else None
    return wait_for(found, f"{count} ends in the log")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_is_one_line_with_all_that_is_needed(workers, version):
    worker = workers.serve(ROUTES)
    client = Client(version, worker.address, "/echo/room?token=s3cr3t", origin="http://example.org")
    client.send("hello")
    assert client.receive() == "hello"
    client.close(4001, "enough") if client.version not in ("hixie-75", "hixie-76") else client.close()
    (line,) = ends(worker)
    assert line["level"] == "INFO" and len(line["id"]) == 32 and line["request"] == line["id"]
    expected = {"route": "/echo", "path": "/echo/room?...", "version": version, "origin": "http://example.org", "by": "client",
                "messages_in": 1, "bytes_in": 5, "messages_out": 1, "bytes_out": 5}
    assert {name: line[name] for name in expected} == expected
    assert line["peer"].startswith("tcp:127.0.0.1:") and 0 <= line["seconds"] < 60
    if client.version not in ("hixie-75", "hixie-76"):
        assert (line["code"], line["reason"], line["clean"]) == (4001, "enough", True)
    assert "s3cr3t" not in worker.log


def test_hostile_strings_stay_in_their_line(workers):
    worker = workers.serve(ROUTES)
    reason = 'line\nbreak \x1b[31mred\x1b[0m "quoted" \\ {"message":"forged"} ' + "\u202egnp"
    client = Client("rfc6455", worker.address, "/echo/%1b[31m'\"<b>", origin=HOSTILE)
    client.close(4000, reason)
    (line,) = ends(worker)
    assert line["reason"].startswith(r"line\x0abreak \x1b[31mred\x1b[0m") and r"\xe2\x80\xae" in line["reason"]
    assert len(line["origin"]) < 260 and line["origin"].endswith("...")
    assert "\x1b" not in worker.log and sum("forged" in text for text in worker.lines) == 1


def test_text_keeps_hostile_strings_in_their_line(workers, tmp_path):
    config = workers.config(f'listen = ["127.0.0.1:{(port := free_port())}"]\n{ROUTES}')
    worker = workers.start("serve", "--config", config, "--log-format", "text", address=("127.0.0.1", port))
    client = Client("rfc6455", worker.address, "/echo", origin='http://a" code=1000 by="app')
    client.close(4000, "a\nb\x1b[31m\" clean=true")
    worker.wait_for_log("closed id=")
    (line,) = [line for line in worker.lines if " closed " in line]
    assert "\x1b" not in line and line.count(" code=4000 ") == 1 and " code=1000 " not in re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)


def test_no_secret_reaches_the_log_at_any_level(workers, script):
    port = free_port()
    worker = workers.start("serve", "--app", script.url + "?key=s3cr3t-key", "--listen", f"127.0.0.1:{port}", "--log-level", "trace",
                           address=("127.0.0.1", port))
    client = Client("rfc6455", worker.address, "/room?token=s3cr3t-query", headers=SECRETS.items())
    client.send("s3cr3t-message")
    script.wait("message")
    client.close()
    script.wait("closed")
    script.on("handshake", 403)
    with pytest.raises(Refused):
        Client("rfc6455", worker.address, "/room?token=s3cr3t-query", headers=SECRETS.items())
    ends(worker)
    assert "s3cr3t" not in worker.log


def test_the_proxys_request_id_is_in_hooks_and_in_the_log(workers, script):
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"\n')
    client = Client("rfc6455", worker.address, "/room", headers=[("X-Request-Id", "from-the-proxy-1")])
    client.close()
    other = Client("rfc6455", worker.address, "/room")
    other.close()
    given, made = sorted(ends(worker, 2), key=lambda line: line["request"] == line["id"])
    assert given["request"] == "from-the-proxy-1" and made["request"] == made["id"]
    closed = {hook.socket: hook["X-Request-Id"] for hook in script.wait("closed", 2)}
    assert closed == {given["id"]: "from-the-proxy-1", made["id"]: made["id"]}
    handshakes = {hook["X-Request-Id"] for hook in script.wait("handshake", 2)}
    assert handshakes == set(closed.values())


@pytest.mark.parametrize("answer, code, by", [
    (200, 1000, "client"),
    (403, 1008, "app"),  # A refusal is the app's word,
    (301, 1011, "worker"),  # and nonsense is what the worker makes of it.
    (503, 1013, "worker"),
    (("", {"Ws-Close": "4000 enough"}), 4000, "app"),
])
def test_who_ended_it_is_the_same_everywhere(workers, script, tmp_path, answer, code, by):
    worker = start(workers, tmp_path, tcp=False, routes=f'[[route]]\npath = "/"\napp = "{script.url}"\ngive_up = "100ms"\n')
    script.on("message", answer)
    client = Client("rfc6455", worker.address, "/room")
    client.send("hello")
    script.wait("message")
    if answer == 200:
        client.close(1000)
    else:
        assert client.receive().code == code
        client.stream.close()
    (hook,) = script.wait("closed")
    (line,) = ends(worker)
    (last,) = worker.control.json("GET", "/status")["last"]
    counted = f'ws_worker_connections_closed_total{{by="{by}",code="{code if code < 3000 else "4000-4999"}"}} 1'
    assert (hook["Ws-Close-Code"], hook["Ws-Closed-By"]) == (str(code), by)
    assert (line["code"], line["by"]) == (last["code"], last["by"]) == (code, by)
    assert counted in worker.control.call("GET", "/metrics").body.decode()


def test_many_ends_at_once_do_not_drown_the_log(workers):
    worker = workers.serve(ROUTES, top='drain = "1s"')
    clients = [Client("rfc6455", worker.address, "/echo") for _ in range(300)]
    for client in clients:
        client.abort()
    def counted():
        lines = [json.loads(line) for line in list(worker.lines)]
        said = sum(line["message"] == "closed" for line in lines)
        more = sum(line["count"] for line in lines if line["message"].startswith("closed: so many more"))
        return (said, more) if said + more == 300 else None
    said, more = wait_for(counted, "300 ends, said or counted")
    assert 100 <= said < 300 and more > 0


def test_the_level_debug_says_every_end(workers):
    config = workers.config(f'listen = ["127.0.0.1:{(port := free_port())}"]\n{ROUTES}')
    worker = workers.start("serve", "--config", config, address=("127.0.0.1", port), env={"WS_WORKER_LOG": "info,ws_worker::closed=debug"})
    clients = [Client("rfc6455", worker.address, "/echo") for _ in range(300)]
    for client in clients:
        client.abort()
    assert len(ends(worker, 300)) == 300


def test_ends_can_be_switched_off(workers):
    config = workers.config(f'listen = ["127.0.0.1:{(port := free_port())}"]\n{ROUTES}')
    worker = workers.start("serve", "--config", config, address=("127.0.0.1", port), env={"WS_WORKER_LOG": "info,ws_worker::closed=off"})
    Client("rfc6455", worker.address, "/echo").close()
    assert worker.terminate() == 0
    assert '"closed"' not in worker.log


JOURNAL = """
import os, socket, subprocess, sys
os.makedirs("/run/systemd/journal", exist_ok=True)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
stderr, theirs = socket.socketpair()
known = os.fstat(theirs.fileno())
environment = {**os.environ, "JOURNAL_STREAM": f"{known.st_dev}:{known.st_ino}"}
worker = subprocess.Popen(sys.argv[1:], stderr=theirs, env=environment)
theirs.close()
journal.settimeout(20)
while True:
    entry = journal.recv(1 << 18)
    if entry:
        sys.stdout.buffer.write(len(entry).to_bytes(4, "big") + entry)
        sys.stdout.flush()
"""


def fields(entry):
    """An entry of the journal's native protocol: NAME=value lines, or NAME, length and value where a value has line feeds."""
    found = {}
    while entry:
        name, entry = re.match(rb"([A-Z0-9_]+)([=\n].*)", entry, re.S).groups()
        if entry[:1] == b"=":
            value, _, entry = entry[1:].partition(b"\n")
        else:
            length = int.from_bytes(entry[1:9], "little")
            value, entry = entry[9:9 + length], entry[10 + length:]
        found[name.decode()] = value.decode()
    return found


def test_the_journal_gets_fields(tmp_path, workers):
    port = free_port()
    config = workers.config(f'listen = ["127.0.0.1:{port}"]\n{ROUTES}')
    journal = tmp_path / "journal.py"
    journal.write_text(JOURNAL)
    own = "mount -t tmpfs tmpfs /run && exec \"$@\""
    command = ["unshare", "--mount", "--kill-child", "--fork", "bash", "-c", own, "-", sys.executable, journal, WORKER, "serve", "--config", config]
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)
    try:
        def entry():
            length = child.stdout.read(4)
            assert len(length) == 4, "the journal got nothing"
            return fields(child.stdout.read(int.from_bytes(length, "big")))
        while "listening on" not in (first := entry())["MESSAGE"]:
            pass
        assert first["PRIORITY"] == "5" or first["PRIORITY"] == "6"
        assert first["SYSLOG_IDENTIFIER"] == "ws-worker"
        client = Client("rfc6455", ("127.0.0.1", port), "/echo")
        client.close(4000, "a\nWS_FORGED=1")
        while (last := entry())["MESSAGE"] != "closed":
            pass
        assert (last["WS_ROUTE"], last["WS_CODE"], last["WS_BY"], last["WS_VERSION"]) == ("/echo", "4000", "client", "rfc6455")
        assert last["WS_REASON"] == r"a\x0aWS_FORGED=1" and "WS_FORGED" not in last
    finally:
        child.kill()
        child.wait()


def test_who_does_not_read_the_log_holds_up_nobody(tmp_path):
    """What a pipe has no room for waits in the worker and is then lost; sockets and signals do not wait for it."""
    port = free_port()
    with subprocess.Popen([WORKER, "demo", "--threads", "1", "--listen", f"127.0.0.1:{port}", "--log-level", "debug"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            address = ("127.0.0.1", port)
            wait_for(lambda: listens(address), "the worker")
            bystander = Client("rfc6455", address, "/echo")
            path = "/echo/" + "a" * 180
            for _ in range(500):  # Some 400 bytes each, and a pipe holds 64 KiB.
                Client("rfc6455", address, path).close()
            bystander.send("still here")
            assert bystander.receive() == "still here"
            process.terminate()
            assert bystander.receive().code == 1012
            assert process.wait(20) == 0
            assert process.stderr.read().count(b'"closed"') > 100
        finally:
            process.kill()


def test_a_log_that_is_read_late_says_how_much_is_lost():
    port = free_port()
    with subprocess.Popen([WORKER, "demo", "--threads", "1", "--listen", f"127.0.0.1:{port}", "--log-level", "debug"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            address = ("127.0.0.1", port)
            wait_for(lambda: listens(address), "the worker")
            path = "/echo/" + "a" * 180
            for _ in range(4000):
                Client("rfc6455", address, path).close()
            lines = iter(process.stderr.readline, b"")
            lost = next(json.loads(line)["lost"] for line in lines if b'"lost"' in line)
            assert 0 < lost < 4000
        finally:
            process.kill()
