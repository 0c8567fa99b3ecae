"""`ws-worker ctl`: every command over TCP and a unix socket, what it prints, how it ends."""

import json
import os
import shutil
import socket
import subprocess

import pytest

from support import WORKER, command, free_port, wait_for
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
    # What concerns others in the file is nothing to it, nor is a token that --token-file names.
    missing = '\n[[route]]\npath = "/hooks"\napp = "http://no.such.host.invalid/ws"\nsecret_file = "credential:hook.secret"\n'
    worker.file.write_text(good + missing)
    assert "ready" in ctl(worker, "status")
    worker.file.write_text(good + "\n[[[")
    ctl(worker, "status", code=78)
    assert command("ctl", *where, "drain").stdout == "draining\n"
    assert worker.child.wait(20) == 0


def test_a_message_comes_from_stdin_as_it_is(worker):
    client = Client("rfc6455", worker.address, "/chat")
    name = wait_for(lambda: worker.control.ids(), "the socket")[0]
    where = [WORKER, "ctl", "--config", worker.file]
    for arguments, message, heard in [(["send", name], b"two\nlines\n", "two\nlines\n"), (["broadcast"], "絵文字 😀".encode(), "絵文字 😀"),
                                      (["send", "--binary", name], b"\xff\0", b"\xff\0"), (["send", name], b"", "")]:
        done = subprocess.run([*where, *arguments], input=message, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b"") and client.receive() == heard
    done = subprocess.run([*where, "send", name], input=b"\xff", capture_output=True, timeout=30)
    assert done.returncode == 1 and b"UTF-8" in done.stderr
    client.close()


def test_more_sockets_than_a_page_has_are_listed_once_each(worker):
    clients = [Client("rfc6455", worker.address, "/chat") for _ in range(1100)]
    listed = lambda *options: [socket["id"] for socket in json.loads(ctl(worker, "--json", "list", *options))["sockets"]]
    names = wait_for(lambda: len(found := listed()) == 1100 and found, "all sockets")
    assert len(set(names)) == 1100 and len(listed("--limit", "1050")) == 1050
    assert ctl(worker, "list").endswith("1100 sockets\n") and ctl(worker, "list", "--limit", "2").endswith("2 sockets, and more\n")
    with subprocess.Popen([WORKER, "ctl", "--config", worker.file, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()  # As `head` does.
        assert process.wait(30) == 0 and process.stderr.read() == b""
    for client in clients:
        client.stream.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_use_the_socket_is_told(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=False)
    for folder in [tmp_path, *tmp_path.parents[:3]]:
        os.chmod(folder, 0o755)
    copy = shutil.copy(WORKER, tmp_path / "ws-worker")
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run([*nobody, copy, "ctl", "--control", f"unix:{worker.control.address}", "status"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 4 and "may not be used" in done.stderr and "file mode" in done.stderr, done


def test_a_worker_that_hangs_is_given_up(worker):
    with worker.stopped():
        done = command("ctl", "--config", worker.file, "--timeout", "200ms", "status")
    assert done.returncode == 124 and "did not answer within" in done.stderr


def test_a_socket_at_which_nobody_accepts_is_given_up(tmp_path):
    """One more than fits into its queue would wait for ever."""
    path, waiting = str(tmp_path / "control.sock"), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(path)
        done = command("ctl", "--control", f"unix:{path}", "--timeout", "200ms", "status")
    for stream in waiting:
        stream.close()
    assert done.returncode == 124 and "did not answer within" in done.stderr


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
    assert command("ctl", "--control", where, "--timeout", "0s", "status").returncode == 2
    assert command("ctl", "--config", tmp_path / "none.toml", "status").returncode == 78
