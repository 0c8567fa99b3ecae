"""`ws-worker connect`: a client of the five versions for scripts, against the demo and against servers that misbehave."""

import os
import pty
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import WORKER, command
from wire import DEADLINE, HYBI, VERSIONS

TEXTS = ["hello", "", "こんにちは、世界 😀", "  spaces  ", "x" * 70_000]


def url(worker, path="/echo"):
    return "ws://%s:%d%s" % (*worker.address, path)


def connect(*arguments, say="", timeout=DEADLINE):
    """Runs it to its end with these lines on stdin."""
    say = say if isinstance(say, bytes) else say.encode()
    done = subprocess.run([WORKER, "connect", *map(str, arguments)], input=say, capture_output=True, timeout=timeout)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert "panicked" not in done.stderr
    return done


class Server:
    """Listens once, answers what it is told after the request's head, and keeps or ends the stream."""

    def __init__(self, answer=b"", keep=True, reset=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.heard = b""
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.serve, args=(answer, keep, reset), daemon=True)
        self.thread.start()

    def serve(self, answer, keep, reset):
        connection, _ = self.listener.accept()
        connection.settimeout(DEADLINE)
        while b"\r\n\r\n" not in self.heard:
            self.heard += connection.recv(65536)
        connection.sendall(answer(self.heard) if callable(answer) else answer)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif keep:
            self.done.wait(DEADLINE)
        connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        self.listener.close()


def accepted(frames=b""):
    """Answers RFC 6455's handshake as it should be, and appends frames."""
    import base64
    import hashlib

    def answer(request):
        key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                + accept + b"\r\n\r\n" + frames)
    return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_what_stdin_says_comes_back_and_its_end_closes(demo, version):
    done = connect("--wire", version, url(demo), say="\n".join(TEXTS) + "\n")
    assert (done.returncode, done.stdout) == (0, "\n".join(TEXTS) + "\n"), done.stderr
    assert done.stderr.splitlines()[0] == f"ws-worker: open: {version}"
    assert done.stderr.splitlines()[1].startswith("ws-worker: closed")


@pytest.mark.parametrize("version", VERSIONS)
def test_ten_thousand_lines_from_a_file(demo, version, tmp_path):
    lines = "".join(f"line {n}\n" for n in range(10_000))
    (tmp_path / "lines").write_text(lines)
    with open(tmp_path / "lines") as stdin, open(tmp_path / "out", "w") as stdout:
        done = subprocess.run([WORKER, "connect", "-q", "--wire", version, "--count", "10000", url(demo)],
                              stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=DEADLINE * 2)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_text() == lines


@pytest.mark.parametrize("version", VERSIONS)
def test_count_waits_for_messages_though_stdin_has_ended(demo, version):
    others = connect("--wire", version, "--count", "1", "--quiet", url(demo, "/version"), say="x\n")
    assert (others.returncode, others.stderr) == (0, "") and others.stdout


@pytest.mark.parametrize("version", HYBI)
def test_binary_goes_out_and_is_marked_coming_in(demo, version):
    for flags, printed in [([], "hex:00ff10\nhex:\n"), (["--print", "base64"], "base64:AP8Q\nbase64:\n")]:
        done = connect("--wire", version, "--binary", *flags, url(demo), say=b"\x00\xff\x10\n\n")
        assert (done.returncode, done.stdout) == (0, printed), done.stderr


@pytest.mark.parametrize("version", HYBI)
def test_a_ping_tells_how_long_the_way_is(demo, version):
    done = connect("--wire", version, "--ping", url(demo))
    assert done.returncode == 0 and "ws-worker: pong after " in done.stderr, done.stderr
    done = connect("--wire", version, "--ping=50ms", "--stay", "--timeout", "1s", url(demo))
    assert done.returncode == 124 and 5 < done.stderr.count("pong after") < 25, done.stderr


def test_compression_is_offered_if_wanted(demo):
    done = connect("-v", "--deflate", url(demo), say="あ" * 1000 + "\n")
    assert (done.returncode, done.stdout) == (0, "あ" * 1000 + "\n")
    assert "> Sec-WebSocket-Extensions: permessage-deflate" in done.stderr
    assert "< Sec-WebSocket-Extensions: permessage-deflate" in done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_through_a_unix_socket(workers, tmp_path, version):
    path = str(tmp_path / "ws.sock")
    workers.start("demo", "--listen", f"unix:{path}", address=path)
    done = connect("--wire", version, f"ws+unix:{path}:/echo?a=b", say="hello\n")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_the_handshake_is_shown_and_holds_what_was_asked_for(demo):
    done = connect("-v", "--origin", "http://example.org", "--protocol", "a", "--protocol", "b", "--header", "X-Test: 1 2",
                   url(demo))
    for line in ["> GET /echo HTTP/1.1", "> Origin: http://example.org", "> Sec-WebSocket-Protocol: a, b", "> X-Test: 1 2",
                 "< HTTP/1.1 101 Switching Protocols"]:
        assert line in done.stderr.splitlines(), done.stderr
    done = connect("-v", "--wire", "hixie76", url(demo))
    assert "> Origin: http://%s:%d" % demo.address in done.stderr and "< hex:" in done.stderr


def test_a_refusal_is_told_with_its_status_and_body(workers):
    demo = workers.demo("--allowed-origins", "http://example.org", "--versions", "13")
    done = connect("--origin", "http://evil.example", url(demo))
    assert done.returncode == 1 and "refused: HTTP/1.1 403 Forbidden" in done.stderr, done.stderr
    done = connect("--wire", "hybi08", url(demo))
    assert done.returncode == 1 and " 426 " in done.stderr
    with Server(b"HTTP/1.1 401 Who?\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsay i\r\n2\r\nt\n\r\n0\r\n\r\n") as server:
        done = connect(url(server))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "ws-worker: refused: HTTP/1.1 401 Who?\nsay it\n")


def test_wrong_usage_is_told_before_anything_is_opened():
    for arguments, expected in [
            (["wss://127.0.0.1/"], "no TLS"), (["http://127.0.0.1/"], "write ws://"), ([], "<URL>"),
            (["--wire", "hixie75", "--binary", "ws://127.0.0.1:1/"], "no binary messages"),
            (["--timeout", "5", "ws://127.0.0.1:1/"], '"5s"'), (["--close-code", "1006", "ws://127.0.0.1:1/"], "--close-code")]:
        done = connect(*arguments)
        assert done.returncode == 2 and expected in done.stderr, done.stderr


def test_no_server_and_a_lost_one(demo):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        done = connect("ws://127.0.0.1:%d/" % probe.getsockname()[1])
    assert done.returncode == 3 and "cannot connect to 127.0.0.1" in done.stderr
    assert connect("ws+unix:/nonexistent/ws.sock").returncode == 3
    assert connect("ws://name.invalid/").returncode == 3
    for options in {"keep": False}, {"reset": True}:
        with Server(accepted(b"\x81\x02hi"), **options) as server:
            done = connect("--stay", url(server))
        assert done.returncode == 3, done.stderr
        with Server(b"HTTP/1.1 1", **options) as server:
            assert connect(url(server)).returncode == 3
    with Server(accepted(b"\x81\x02hi\x88\x00"), keep=False) as server:
        done = connect("--count", "2", url(server))
    assert (done.returncode, done.stdout) == (3, "hi\n") and "after 1 of 2 messages" in done.stderr


def test_a_server_that_breaks_the_protocol():
    for answer in (accepted(b"\x83\x00"), accepted(b"\x81\x01\xff"), b"HTTP/1.1 101 Fine\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"\0\0",
                   lambda request: accepted()(request.replace(b"Key: ", b"Key: x"))):
        with Server(answer, keep=False) as server:
            done = connect("--stay", url(server))
        assert done.returncode == 4, done.stderr


def test_the_servers_code_is_told(demo):
    for payload, code in [(b"\x03\xe8", 0), (b"", 0), (b"\x03\xe9gone", 0), (b"\x0f\xa0no", 5)]:
        with Server(accepted(b"\x88" + bytes([len(payload)]) + payload), keep=False) as server:
            done = connect("--stay", url(server))
        assert done.returncode == code and "closed by the server" in done.stderr, done.stderr
    assert connect("--stay", url(demo), say=b"x" * 2_000_000 + b"\n").returncode == 5  # 1009


def test_every_wait_has_a_deadline():
    for arguments, answer, expected in [
            (["--handshake-timeout", "300ms"], b"", 124),
            (["--handshake-timeout", "300ms"], b"HTTP/1.1 500 Slow\r\n\r\n", 1),
            (["--timeout", "300ms"], b"", 124),
            (["--timeout", "300ms", "--stay"], accepted(), 124),
            (["--close-timeout", "300ms"], accepted(), 124),
            (["--count", "1", "--close-timeout", "300ms"], accepted(b"\x81\x00"), 0)]:
        with Server(answer) as server:
            start = time.monotonic()
            done = connect(*arguments, url(server))
            assert done.returncode == expected, (arguments, done.stderr)
            assert 0.25 < time.monotonic() - start < 3


def test_stdout_that_nobody_reads_holds_up_no_deadline(demo):
    with subprocess.Popen([WORKER, "connect", "--timeout", "1s", "--count", "1000", "--max-message", "1MiB", url(demo)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        start = time.monotonic()
        threading.Thread(target=lambda: [child.stdin.write(b"x" * 100_000 + b"\n") for _ in range(100)], daemon=True).start()
        assert child.wait(DEADLINE) == 124
        assert time.monotonic() - start < 8
        child.stdout.read()


def test_a_reader_that_has_gone_ends_it(demo):
    done = subprocess.run(f"yes | '{WORKER}' connect -q {url(demo)} | head -n 2", shell=True, capture_output=True, timeout=DEADLINE)
    assert done.stdout == b"y\ny\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_in_order(demo, number):
    with subprocess.Popen([WORKER, "connect", url(demo)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as child:
        child.stdin.write(b"hello\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"hello\n"
        child.send_signal(number)
        assert child.wait(DEADLINE) == 128 + number


def test_at_a_terminal(demo):
    ours, theirs = pty.openpty()
    with subprocess.Popen([WORKER, "connect", url(demo)], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        os.close(theirs)
        os.write(ours, b"hello\n")
        assert child.stdout.readline() == b"hello\n"
        os.write(ours, b"\x04")
        assert child.wait(DEADLINE) == 0
    os.close(ours)


def test_the_help_tells_the_exit_codes():
    text = command("connect", "--help").stdout
    for line in ["0    closed cleanly", "1    refused", "2    wrong usage", "3    no connection", "4    the server broke", "124  "]:
        assert line in text
