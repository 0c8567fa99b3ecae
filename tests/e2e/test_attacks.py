"""What hostile and broken peers do, and that the worker, and everybody else on it, hardly notices."""

import os
import resource
import select
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest

from support import wait_for
from wire import (BINARY, CLOSE, CONTINUATION, HYBI, PING, PONG, TEXT, VERSIONS, Client, Closed, Refused, Stream, exchange,
                  frame, handshake, hixie_key)

MIB = 1 << 20


@contextmanager
def unharmed(worker, memory=64 * MIB):
    """Whatever happens inside: the process lives, a bystander's echo never takes a second, a new client gets a clean one
    within three, descriptors and memory come back, and no CPU burns afterwards."""
    before_descriptors, before_memory = worker.descriptors(), worker.memory()
    slowest, over, faults = [0.0], threading.Event(), []

    def bystand():
        try:
            with Client("rfc6455", worker.address, "/echo", timeout=10) as client:
                while not over.is_set():
                    start = time.monotonic()
                    client.send("bystander")
                    assert client.receive() == "bystander"
                    slowest[0] = max(slowest[0], time.monotonic() - start)
                    over.wait(0.005)
        except Exception as fault:
            faults.append(fault)
    bystander = threading.Thread(target=bystand)
    bystander.start()
    try:
        yield
    finally:
        over.set()
        bystander.join()
    assert worker.lives(), worker.log
    assert not faults, f"the bystander lost its connection: {faults}"
    assert slowest[0] < 1, f"the bystander waited {slowest[0]:.2f} s"
    with Client("rfc6455", worker.address, "/echo", timeout=3) as client:
        client.send("clean")
        assert client.receive() == "clean"
        client.close()
    wait_for(lambda: worker.descriptors() <= before_descriptors, "the descriptors to come back")
    wait_for(lambda: worker.memory() <= before_memory + memory, f"memory to be back from {worker.memory()}")
    idles(worker)


def idles(worker):
    """Some half second must cost next to nothing; tried for a while, since what is owed may still be paid."""
    def quiet():
        start = worker.cpu()
        time.sleep(0.5)  # The measured span itself.
        return worker.cpu() - start < 0.1
    wait_for(quiet, "the CPU to be left alone")


def refused(worker, request, *statuses):
    answer = exchange(worker.address, request)
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.get("connection").lower() == "close"
    return answer


# -- heads

@pytest.mark.parametrize("request_", [
    handshake(without=["host"]), handshake(lines=["Host: second"]), handshake(lines=["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
    handshake(lines=["Sec-WebSocket-Version: 13"]), handshake(path="/echo\0"), handshake(lines=["X: a\0b"]),
    handshake(lines=[b"X: a\rb"]), handshake(lines=[b"X: a\nY: b"]), handshake(lines=["X: a", " folded"]),
    handshake(lines=["X : a"]), handshake(lines=[": a"]), handshake(lines=["no colon"]), handshake(lines=["Content-Length: 5"]),
    handshake(lines=["Transfer-Encoding: chunked"]), handshake(lines=["Content-Length: 0", "Transfer-Encoding: chunked"]),
    handshake(lines=["Content-Length: 0", "Content-Length: 7"]), handshake(lines=["Content-Length: -0"]),
    handshake().replace(b"\r\n", b"\n"), handshake(without=["sec-websocket-key"], lines=["Sec-WebSocket-Key: short"]),
    handshake(without=["sec-websocket-key"], lines=["Sec-WebSocket-Key: " + "A" * 23 + "!"]),
    handshake(start="GET  /echo HTTP/1.1"), handshake(start="GET /echo"), handshake(start="\x16\x03\x01\x02"),
    handshake(start="GET /echo HTTP/1.1 "), handshake(start="GET echo HTTP/1.1"),
])
def test_a_malformed_handshake_gets_one_400(demo, request_):
    refused(demo, request_, 400)


@pytest.mark.parametrize("start, statuses", [
    ("GET /echo HTTP/1.0", {400, 426, 505}), ("GET /echo HTTP/2.0", {400, 505}), ("GET /echo HTTP/0.9", {400, 505}),
    ("POST /echo HTTP/1.1", {400, 405, 426}), ("CONNECT /echo HTTP/1.1", {400, 405, 426}), ("get /echo HTTP/1.1", {400, 405, 426}),
    ("PRI * HTTP/2.0", {400, 505})])
def test_only_get_over_http_1_1_opens_a_websocket(demo, start, statuses):
    refused(demo, handshake(start=start), *statuses)


def test_http_1_0_is_told_what_nginx_lacks(demo):
    assert b"proxy_http_version 1.1" in refused(demo, handshake(start="GET /echo HTTP/1.0"), 400, 426, 505).body


@pytest.mark.parametrize("version", ["0", "6", "9", "14", "99", "", "x", "13, 8", "0013", "+13"])
def test_other_versions_are_told_ours(demo, version):
    answer = refused(demo, handshake(without=["sec-websocket-version"], lines=[f"Sec-WebSocket-Version: {version}"]), 426, 400)
    if version in ("0", "6", "9", "14", "99"):
        assert answer.status == 426
        assert {v.strip() for v in ",".join(answer.all("sec-websocket-version")).split(",")} == {"13", "8", "7"}


def test_a_key_without_a_version_is_not_an_old_client(demo):
    refused(demo, handshake(without=["sec-websocket-version"]), 426)


def hixie(*keys, lines=(), start="GET /echo HTTP/1.1"):
    names = ["Sec-WebSocket-Key1", "Sec-WebSocket-Key2"]
    fields = ["Host: x", "Upgrade: WebSocket", "Connection: Upgrade", "Origin: http://x",
              *(f"{name}: {key}" for name, key in zip(names, keys) if key is not None), *lines]
    return "\r\n".join([start, *fields]).encode("latin-1") + b"\r\n\r\n" + b"12345678"


@pytest.mark.parametrize("key", [
    "1234567890", "1\t2", "1\xa02", " ", "ab cd", "", "1 0x" + "0" * 400, "8589934592 /x /", "4294967296 x", "51539607552            x",
    "7 x x", "4207805756 1 2 3 4 5 6 7 8 9"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_bad_hixie_76_key_is_refused_and_kills_nobody(demo, key, place):
    keys = [hixie_key()[0], hixie_key()[0]]
    keys[place] = key
    refused(demo, hixie(*keys), 400)


@pytest.mark.parametrize("keys", [(hixie_key()[0], None), (None, hixie_key()[0])])
def test_half_a_challenge_is_not_hixie_75(demo, keys):
    refused(demo, hixie(*keys), 400)


def test_a_doubled_hixie_76_key_is_refused(demo):
    refused(demo, hixie(hixie_key()[0], hixie_key()[0], lines=["Sec-WebSocket-Key1: 1 2"]), 400)


@pytest.mark.parametrize("length", ["0", "7", "9", "16"])
def test_hixie_76_may_declare_eight_bytes_and_nothing_else(demo, length):
    refused(demo, hixie(hixie_key()[0], hixie_key()[0], lines=[f"Content-Length: {length}"]), 400)
    with Client("hixie-76", demo.address, "/echo", headers=[("Content-Length", "8")]) as client:
        client.send("x")
        assert client.receive() == "x"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sequence", ["\rX: y", "\nX: y", "\0", "\x7f", "\x01"])
@pytest.mark.parametrize("place", ["origin", "protocol", "host"])
def test_nothing_a_client_says_splits_the_answer(demo, version, sequence, place):
    what = {"origin": {"origin": f"http://x{sequence}"}, "protocol": {"protocols": [f"a{sequence}"]},
            "host": {"host": f"x{sequence}"}}[place]
    with pytest.raises(Refused) as answer:
        Client(version, demo.address, "/echo", **what)
    assert answer.value.status == 400 and answer.value.answer.get("x") is None


def test_escapes_in_the_url_stay_escapes(demo):
    for version in ("hixie-75", "hixie-76"):
        with Client(version, demo.address, "/echo?%0d%0aX:%20y") as client:  # It compares the Location.
            assert client.answer.get("x") is None


@pytest.mark.parametrize("size", [17_000, 100_000, 1_000_000])
def test_a_huge_head_is_431(demo, size):
    with unharmed(demo):
        stream = Stream(demo.address)
        try:
            stream.write(handshake(lines=["X-Long: " + "y" * size]))
        except OSError:
            pass  # It need not read all of it.
        assert stream.answer().status == 431
        stream.close()


def test_too_many_fields_are_431(demo):
    refused(demo, handshake(lines=[f"X-{n}: y" for n in range(101)]), 431)
    assert exchange_open(demo, handshake(lines=[f"X-{n}: y" for n in range(90)])) == 101


def exchange_open(worker, request):
    stream = Stream(worker.address)
    stream.write(request)
    status = stream.answer().status
    stream.close()
    return status


def test_a_head_without_end_costs_little(demo):
    with unharmed(demo, memory=16 * MIB):
        streams = [Stream(demo.address) for _ in range(50)]
        for stream in streams:
            try:
                stream.write(b"GET /echo HTTP/1.1\r\nX: ")
                for _ in range(64):
                    stream.write(b"y" * 16384)
            except OSError:
                pass
        for stream in streams:
            stream.close()


def test_slow_heads_end_by_the_deadline_however_many_bytes_drip(workers):
    worker = workers.demo("--handshake-timeout", "1s")
    with unharmed(worker):
        start = time.monotonic()
        silent, dripping = Stream(worker.address), Stream(worker.address)
        over = threading.Event()

        def drip():
            try:
                for byte in handshake(lines=["X: " + "y" * 10_000]):
                    dripping.write(bytes([byte]))
                    if over.wait(0.02):
                        return
            except OSError:
                pass
        thread = threading.Thread(target=drip)
        thread.start()
        assert dripping.answer().status == 408
        assert 0.8 < time.monotonic() - start < 3
        over.set()
        thread.join()
        silent.rest()  # A peer that said nothing may get a 408 or just the end.
        assert time.monotonic() - start < 3
        for stream in (silent, dripping):
            stream.close()


def test_missing_key_bytes_end_by_the_deadline(workers):
    worker = workers.demo("--handshake-timeout", "500ms")
    with unharmed(worker):
        stream = Stream(worker.address)
        stream.write(hixie(hixie_key()[0], hixie_key()[0])[:-3])
        assert stream.answer().status == 101  # The head goes out at once: proxies wait for it.
        assert stream.rest() == b""
        stream.close()


def test_half_open_handshakes_are_counted_and_bounded(workers):
    worker = workers.demo("--max-handshakes", "20", "--handshake-timeout", "30s")
    streams = [Stream(worker.address) for _ in range(100)]
    for stream in streams:
        stream.write(b"GET /echo HTTP/1.1\r\n")
    # Of the hundred at most twenty wait; the others were turned away, with an answer or without.
    def turned_away():
        count = 0
        for stream in streams:
            stream.socket.setblocking(False)
            try:
                stream.socket.recv(1, socket.MSG_PEEK)
                count += 1
            except BlockingIOError:
                pass
            except OSError:
                count += 1
        return count >= 80
    wait_for(turned_away, "80 to be turned away")
    for stream in streams:
        stream.close()
    wait_for(lambda: opens_cleanly(worker), "a place to be free again")


def opens_cleanly(worker):
    try:
        with Client("rfc6455", worker.address, "/echo", timeout=3) as client:
            client.send("x")
            return client.receive() == "x"
    except (OSError, EOFError, Refused):
        return False


@pytest.mark.parametrize("second", [handshake(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", frame(TEXT, b"x"), b"\0x\xff", b"\r\n" * 500])
@pytest.mark.parametrize("first", [
    handshake(without=["sec-websocket-version"], lines=["Sec-WebSocket-Version: 99"]), handshake(path="/nothing"),
    handshake(lines=["Content-Length: 3"]), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_nothing_behind_an_answered_request_is_ever_parsed(demo, first, second):
    # `exchange` reads to the end of the stream and wants exactly one answer.
    assert exchange(demo.address, first + second).status != 101


def test_a_refusal_ends_with_fin_and_not_with_rst(demo):
    """Bytes that nobody reads turn a close into an RST, which can take the answer with it."""
    for _ in range(20):
        stream = Stream(demo.address)
        stream.write(handshake(path="/nothing") + b"12345678" * 1000)
        assert stream.answer().status == 404
        assert not stream.is_reset()
        stream.close()


# -- frames

def wrong(code, *frames):
    return code, b"".join(frames)


BAD_FRAMES = {
    "unmasked": wrong(1002, frame(TEXT, b"x", masked=False)),
    "first reserved bit": wrong(1002, frame(TEXT, b"x", rsv=4)),
    "second reserved bit": wrong(1002, frame(TEXT, b"x", rsv=2)),
    "third reserved bit": wrong(1002, frame(TEXT, b"x", rsv=1)),
    "unknown data opcode": wrong(1002, frame(3, b"x")),
    "unknown control opcode": wrong(1002, frame(11)),
    "ping in fragments": wrong(1002, frame(PING, b"x", fin=False)),
    "ping of 126 bytes": wrong(1002, frame(PING, b"x" * 126)),
    "continuation of nothing": wrong(1002, frame(CONTINUATION, b"x")),
    "text inside a message": wrong(1002, frame(TEXT, b"x", fin=False), frame(TEXT, b"y")),
    "bad utf-8": wrong(1007, frame(TEXT, b"\xff")),
    "overlong utf-8": wrong(1007, frame(TEXT, b"\xc0\x80")),
    "surrogate": wrong(1007, frame(TEXT, b"\xed\xa0\x80")),
    "utf-8 cut short": wrong(1007, frame(TEXT, b"\xe3\x81")),
    "bad utf-8 in a later fragment": wrong(1007, frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"\xff", fin=False)),
    "length not in its shortest form": wrong(1002, b"\x81\xfe\x00\x01" + b"\0\0\0\0" + b"x"),
    "length with the top bit": wrong({1002, 1009}, b"\x82\xff\xff" + b"\xff" * 7 + b"\0\0\0\0"),
    "an enormous length": wrong(1009, b"\x82\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0"),
    "a length just over the limit": wrong(1009, frame(BINARY, b"", length=MIB + 1)),
    "close of one byte": wrong(1002, frame(CLOSE, b"\x03")),
    "close code 1005": wrong(1002, frame(CLOSE, struct.pack("!H", 1005))),
    "close code 1006": wrong(1002, frame(CLOSE, struct.pack("!H", 1006))),
    "close code 0": wrong(1002, frame(CLOSE, struct.pack("!H", 0))),
    "close code 2999": wrong(1002, frame(CLOSE, struct.pack("!H", 2999))),
    "close code 5000": wrong(1002, frame(CLOSE, struct.pack("!H", 5000))),
    "close reason not utf-8": wrong({1002, 1007}, frame(CLOSE, struct.pack("!H", 1000) + b"\xff")),
}


@pytest.mark.parametrize("fault", BAD_FRAMES)
@pytest.mark.parametrize("version", HYBI)
def test_a_broken_frame_fails_the_connection_with_its_code(demo, version, fault):
    code, data = BAD_FRAMES[fault]
    with Client(version, demo.address, "/echo") as client:
        client.raw(data)
        client.closing_sent = True
        closed = client.receive()
        assert isinstance(closed, Closed) and closed.frame, closed
        if version == "rfc6455":
            assert closed.code in (code if isinstance(code, set) else {code})
        else:
            # 1007 came with hybi-08; what is too big is 1004 up to hybi-11.
            assert closed.code in {1002, 1004, 1007, 1009}
        assert client.ended()


@pytest.mark.parametrize("version", ["hixie-75", "hixie-76"])
@pytest.mark.parametrize("data", [b"\x80" + b"\xff" * 20 + b"\x01", b"\x80" + b"\xff" * 100_000, b"\0" + b"x" * (2 * MIB)])
def test_lengths_and_texts_without_end_are_bounded(demo, version, data):
    with unharmed(demo):
        with Client(version, demo.address, "/echo") as client:
            try:
                client.raw(data)
            except OSError:
                pass
            assert isinstance(client.receive(), Closed)


def test_skipped_frames_are_not_for_free_for_ever(workers):
    worker = workers.demo("--max-message", "64KiB")
    with unharmed(worker, memory=16 * MIB):
        with Client("hixie-75", worker.address, "/echo") as client:
            try:
                for _ in range(200):
                    client.raw(b"\x80\x83\xff\x7f" + b"y" * 65535)
            except OSError:
                pass  # It may have had enough.


def test_an_announced_length_costs_nothing_until_it_comes(demo):
    with unharmed(demo, memory=16 * MIB):
        clients = [Client("rfc6455", demo.address, "/echo") for _ in range(100)]
        for client in clients:
            client.raw(frame(BINARY, b"just a little", length=MIB))
        with Client("rfc6455", demo.address, "/echo") as other:
            other.send("x")
            assert other.receive() == "x"
        assert demo.memory() < 64 * MIB
        for client in clients:
            client.leave()


def test_tiny_and_empty_fragments_are_bounded(demo):
    for piece in (b"", b"x"):
        with unharmed(demo, memory=16 * MIB):
            with Client("rfc6455", demo.address, "/echo") as client:
                client.raw(frame(TEXT, b"x", fin=False))
                try:
                    for _ in range(20):
                        client.raw(frame(CONTINUATION, piece, fin=False) * 1000)
                except OSError:
                    pass
                client.closing_sent = True
                closed = client.receive()
                assert isinstance(closed, Closed) and closed.code in (None, 1002, 1008, 1009)


@pytest.mark.parametrize("version", HYBI)
def test_a_flood_of_pings_to_a_client_that_does_not_read_stays_small(demo, version):
    with unharmed(demo, memory=16 * MIB):
        client = Client(version, demo.address, "/echo")
        client.stream.socket.settimeout(0.5)
        flood = frame(PING, b"p" * 125) * 1000
        try:
            for _ in range(300):
                client.raw(flood)
        except OSError:
            pass  # Nobody reads any more: just so.
        assert demo.memory() < 64 * MIB
        client.leave()


def test_a_flood_of_messages_to_a_client_that_does_not_read_stays_small(demo):
    with unharmed(demo, memory=16 * MIB):
        clients = [Client(VERSIONS[n % 5], demo.address, "/echo") for n in range(5)]
        for client in clients:
            client.stream.socket.settimeout(0.5)
            data = b"\0" + b"x" * 100_000 + b"\xff" if client.is_hixie else frame(TEXT, b"x" * 100_000)
            try:
                for _ in range(300):
                    client.raw(data)
            except OSError:
                pass
        assert demo.memory() < 64 * MIB
        for client in clients:
            client.leave()


def test_a_slow_reader_gets_every_message_once_it_reads(demo):
    client = Client("rfc6455", demo.address, "/echo", timeout=30)
    texts = [f"{n}:" + "x" * 50_000 for n in range(200)]
    writer = threading.Thread(target=lambda: [client.send(text) for text in texts])
    writer.start()
    time.sleep(0.5)  # It does not read for a while, on purpose.
    assert [client.receive() for _ in texts] == texts
    writer.join()
    client.close()


@pytest.mark.parametrize("version", HYBI)
def test_pongs_that_nobody_asked_for_are_ignored(demo, version):
    with Client(version, demo.address, "/echo") as client:
        client.raw(frame(PONG, b"surprise") * 1000 + frame(TEXT, b"x"))
        assert client.receive() == "x"


@pytest.mark.parametrize("version", HYBI)
def test_nothing_counts_after_the_close_frame(demo, version):
    with Client(version, demo.address, "/echo") as client:
        close = frame(CLOSE, struct.pack("!H", 1000))
        client.raw(close + frame(TEXT, b"too late") + close + frame(PING))
        client.closing_sent = True
        assert client.receive().code == 1000
        assert client.ended()


def test_a_close_without_an_end_of_tcp_is_given_up(workers):
    worker = workers.demo("--close-timeout", "300ms", "--idle-timeout", "100ms")
    before = worker.descriptors()
    clients = [Client(version, worker.address, "/echo") for version in VERSIONS for _ in range(4)]
    # They read nothing, answer nothing and close nothing.
    wait_for(lambda: worker.descriptors() <= before, "the descriptors to come back")
    for client in clients:
        client.leave()


# -- descriptors

def test_running_out_of_descriptors_is_survived(workers):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    worker = workers.demo(preexec=limit)
    clients = []
    try:
        for _ in range(200):
            sock = socket.create_connection(worker.address)
            sock.settimeout(0.2)
            clients.append(sock)
        for sock in clients:
            try:
                sock.sendall(handshake())
            except OSError:
                pass
        idles(worker)
        assert worker.lives()
    finally:
        for sock in clients:
            sock.close()
    wait_for(lambda: opens_cleanly(worker), "the worker to accept again")


def test_connections_beyond_the_limit_are_turned_away(workers):
    worker = workers.demo("--max-connections", "10")
    clients = [Client("rfc6455", worker.address, "/echo") for _ in range(10)]
    assert not opens_cleanly(worker)
    clients.pop().close()
    wait_for(lambda: opens_cleanly(worker), "a place to be free again")
    clients[0].send("still here")
    assert clients[0].receive() == "still here"


def test_the_number_of_threads_does_not_follow_the_number_of_clients(demo):
    clients = [Client(VERSIONS[n % 5], demo.address, "/echo") for n in range(100)]
    # One loop a core, the one that waits for the end, the one that hears signals, and the one that writes the log.
    assert len(os.listdir(f"/proc/{demo.pid}/task")) <= os.cpu_count() + 3
    for client in clients:
        client.leave()


def test_peers_that_come_and_break_off_leave_nothing(demo):
    with unharmed(demo):
        for n in range(300):
            stream = Stream(demo.address)
            stream.write(handshake()[: n % 150 or None])
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", n % 2, 0))
            stream.close()


def test_an_answer_that_a_reset_peer_did_not_take_reaches_nobody_else(demo):
    request = handshake()
    with unharmed(demo):  # Its bystander reads strictly: a byte of somebody else's answer is a broken frame.
        for _ in range(2000):
            with socket.create_connection(demo.address) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(request)


def test_whole_handshakes_that_wait_for_a_deaf_app_are_bounded_at_once(workers):
    with socket.socket() as app:
        app.bind(("127.0.0.1", 0))
        app.listen(64)  # It takes connections and reads nothing.
        url = "http://127.0.0.1:%d/" % app.getsockname()[1]
        worker = workers.serve(f'[[route]]\npath = "/"\napp = "{url}"', "max_handshakes = 20\nhandshake_timeout = \"60s\"")
        streams = [Stream(worker.address) for _ in range(100)]
        for stream in streams:
            stream.write(handshake())
        def answered():
            return select.select([stream.socket for stream in streams], [], [], 0)[0]
        wait_for(lambda: len(answered()) >= 80, "80 to be turned away")
        early = answered()
        assert len(early) == 80  # Which of them is up to the threads.
        for stream in streams:
            if stream.socket in early:
                answer = stream.answer()
                assert answer.status == 503 and 1 <= int(answer.get("retry-after")) <= 5
            stream.close()


def test_half_closed_peers_burn_no_cpu(demo):
    clients = [Client(version, demo.address, "/echo") for version in VERSIONS]
    for client in clients:
        client.stream.socket.shutdown(socket.SHUT_WR)
    idles(demo)
    for client in clients:
        client.leave()
