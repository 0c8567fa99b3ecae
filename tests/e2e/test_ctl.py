"""`ws-worker ctl`: every command over TCP and a unix socket, what it prints, how it ends."""

import json

import pytest

from support import command, free_port, wait_for
from test_control import TOKEN, start
from wire import Client


@pytest.fixture(params=["tcp", "unix"])
def worker(request, workers, tmp_path):
    worker = start(workers, tmp_path, tcp=request.param == "tcp")
    (worker.file,) = tmp_path.glob("worker-*.toml")
    return worker


def ctl(worker, *arguments, code=0):
    done = command("ctl", "--config", worker.file, *arguments)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stderr if code else done.stdout


def test_sockets_are_listed_reached_and_closed(worker):
    client = Client("rfc6455", worker.address, "/chat")
    listed = json.loads(wait_for(lambda: (out := ctl(worker, "--json", "list")) and '"id"' in out and out, "the socket"))
    (name,) = [socket["id"] for socket in listed["sockets"]]
    assert name in ctl(worker, "list", "--route", "/chat") and name not in ctl(worker, "list", "--route", "/other")
    assert ctl(worker, "send", name, "to one") == "queued\n" and client.receive() == "to one"
    assert ctl(worker, "broadcast", "to all") == "queued for 1\n" and client.receive() == "to all"
    assert ctl(worker, "broadcast", "--except", name, "to others") == "queued for 0\n"
    assert json.loads(ctl(worker, "broadcast", "--json", "--binary", "x"))["queued"] == 1 and client.receive() == b"x"
    assert ctl(worker, "close", name, "--code", "4000", "--reason", "bye & so on") == "closing\n"
    closed = client.receive()
    assert (closed.code, closed.reason) == (4000, "bye & so on")
    assert "no such socket" in ctl(worker, "send", name, "too late", code=1)


def test_status_is_for_people_or_machines(worker):
    with Client("hixie-76", worker.address, "/chat"):
        text = wait_for(lambda: (out := ctl(worker, "status")) and "sockets     1 of" in out and out, "one socket")
        assert "is ready" in text and "/chat" in text
        found = json.loads(ctl(worker, "status", "--json"))
        assert found["state"] == "ready" and found["routes"][0]["sockets"]["hixie-76"] == 1


def test_reload_and_drain(worker):
    text = worker.file.read_text()
    worker.file.write_text(text + '\n[[route]]\npath = "/more"\nhandler = "echo"\n')
    assert ctl(worker, "reload") == "reloaded\nadded: /more\n"
    good = worker.file.read_text()
    address = worker.control.address
    where = ["--control", f"unix:{address}" if isinstance(address, str) else "%s:%d" % address]
    if not isinstance(address, str):
        token = worker.file.parent / "shown"
        token.write_text(TOKEN)
        where += ["--token-file", token]
    worker.file.write_text(good + "\nnonsense = 1\n")
    done = command("ctl", *where, "reload")
    assert done.returncode == 1 and "nonsense" in done.stderr
    assert ctl(worker, "status", code=78)
    assert command("ctl", *where, "drain").stdout == "draining\n"
    assert worker.child.wait(20) == 0


def test_nobody_there_and_a_wrong_token_are_told(workers, tmp_path):
    done = command("ctl", "--control", f"127.0.0.1:{free_port()}", "status")
    assert done.returncode == 3 and "does the worker run" in done.stderr
    done = command("ctl", "--control", f"unix:{tmp_path}/nothing.sock", "status")
    assert done.returncode == 3 and "does the worker run" in done.stderr
    worker = start(workers, tmp_path, tcp=True)
    where = "%s:%d" % worker.control.address
    done = command("ctl", "--control", where, "status")
    assert done.returncode == 4 and "--token-file" in done.stderr
    wrong = tmp_path / "wrong"
    wrong.write_text("not the token")
    done = command("ctl", "--control", where, "--token-file", wrong, "status")
    assert done.returncode == 4 and "does not take this token" in done.stderr and "not the token" not in done.stderr
    assert command("ctl", "--control", "nonsense", "status").returncode == 2
    assert command("ctl", "--config", tmp_path / "none.toml", "status").returncode == 78
