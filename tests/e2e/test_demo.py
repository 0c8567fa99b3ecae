"""`ws-worker demo` without anything in front: the five versions, message for message."""

import resource
import struct
import threading
import time

import pytest

from support import wait_for
from wire import (BINARY, CLOSE, CONTINUATION, HYBI, PING, TEXT, VERSIONS, Client, Closed, Refused, Stream, exchange, frame,
                  handshake)

TEXTS = ["", "a", "こんにちは、世界 😀", "x" * 125, "x" * 126, "あ" * 42 + "x", "x" * 65535, "x" * 65536, "あ" * 300_000,
         "nul \0 inside", "a line\r\n\r\nand another"]


def echo(worker, version="rfc6455", **options):
    return Client(version, worker.address, "/echo", **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_hears_what_it_says(demo, version):
    with echo(demo, version) as client:
        for text in TEXTS:
            client.send(text)
            assert client.receive() == text
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_come_back_in_order(demo, version):
    with echo(demo, version) as client:
        texts = [f"message {n}" for n in range(500)]
        for text in texts:
            client.send(text)
        assert [client.receive() for _ in texts] == texts


@pytest.mark.parametrize("version", HYBI)
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
def test_binary_comes_back_byte_for_byte(demo, version, size):
    data = bytes(range(256)) * (size // 256 + 1)
    with echo(demo, version) as client:
        client.send(data[:size])
        assert client.receive() == data[:size]


@pytest.mark.parametrize("version", HYBI)
def test_fragments_make_one_message_and_a_ping_between_them_is_answered(demo, version):
    with echo(demo, version) as client:
        word = "語".encode()
        client.raw(frame(TEXT, b"one " + word[:1], fin=False) + frame(PING, b"still there?")
                   + frame(CONTINUATION, word[1:], fin=False) + frame(CONTINUATION, b"", fin=True))
        assert client.pong() == b"still there?"
        assert client.receive() == "one 語"


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_may_come_one_at_a_time(demo, version):
    with echo(demo, version) as client:
        whole = b"\0drip\xff" if client.is_hixie else frame(TEXT, b"drip")
        for byte in whole:
            client.raw(bytes([byte]))
        assert client.receive() == "drip"


@pytest.mark.parametrize("key3", ["together", "late", "pieces"])
def test_hixie_76_takes_its_eight_bytes_whenever_they_come(demo, key3):
    with echo(demo, "hixie-76", key3=key3, early=b"\0early\xff") as client:
        assert client.receive() == "early"
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_right_behind_the_handshake_is_not_lost(demo, version):
    early = b"\0early\xff" if version.startswith("hixie") else frame(TEXT, b"early")
    with echo(demo, version, early=early) as client:
        assert client.receive() == "early"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("origin", [None, "null", "file://", "http://Example.ORG:8080", "https://example.org", "name:80"])
def test_the_origin_is_given_back_as_it_came(demo, version, origin):
    with echo(demo, version, origin=origin) as client:  # The client checks Origin and Location of the hixie versions.
        client.send("x")
        assert client.receive() == "x"


@pytest.mark.parametrize("version", ["hixie-75", "hixie-76"])
@pytest.mark.parametrize("path", ["/echo?q=a%20b&c=%E3%81%82", "/echo/deeper/../x", "/echo?", "/echo/%2e%2e?a?b"])
def test_the_location_is_the_url_that_was_asked_for(demo, version, path):
    try:
        Client(version, demo.address, path, host="www.example.org").close()
    except Refused as refused:
        assert ".." in path and refused.status in (400, 404)


@pytest.mark.parametrize("sender", VERSIONS)
def test_the_chat_reaches_every_version(demo, sender):
    clients = {version: Client(version, demo.address, "/chat") for version in VERSIONS}
    clients[sender].send("皆さん 👋")
    assert {v: c.receive() for v, c in clients.items()} == {v: "皆さん 👋" for v in VERSIONS}
    for client in clients.values():
        client.close()


def test_binary_chat_skips_the_versions_without_it(demo):
    clients = {version: Client(version, demo.address, "/chat") for version in VERSIONS}
    clients["rfc6455"].send(b"\x00\xff")
    clients["hybi-07"].send("and text")
    for version, client in clients.items():
        if version in HYBI:
            # Messages of two senders: nothing is promised about their order.
            assert {client.receive(), client.receive()} == {b"\x00\xff", "and text"}
        else:
            assert client.receive() == "and text"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_closing_handshake_begun_by_the_client(demo, version):
    with echo(demo, version) as client:
        closed = client.close(1000, "done")
        assert closed.frame == (version != "hixie-75")
        assert closed.code == (1000 if version in HYBI else None)


@pytest.mark.parametrize("version", HYBI)
def test_a_close_without_a_code_is_answered(demo, version):
    with echo(demo, version) as client:
        client.raw(frame(CLOSE))
        client.closing_sent = True
        assert client.receive().code in (None, 1000)
        assert client.ended()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_sees_the_end_of_tcp_within_a_second(demo, version):
    with echo(demo, version) as client:
        client.stream.timeout = 1
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_sent_before_the_close_is_still_answered(demo, version):
    with echo(demo, version) as client:
        closing = {"hixie-75": b"", "hixie-76": b"\xff\x00"}.get(version, frame(CLOSE, struct.pack("!H", 1000)))
        message = b"\0last words\xff" if client.is_hixie else frame(TEXT, b"last words")
        client.raw(message + closing)
        client.closing_sent = True
        if version == "hixie-75":
            client.stream.socket.shutdown(1)
        assert client.receive() == "last words"
        assert isinstance(client.receive(), Closed)


def test_hixie_75_takes_ff_00_for_an_empty_length_frame(demo):
    with echo(demo, "hixie-75") as client:
        client.raw(b"\xff\x00\0still open\xff")
        assert client.receive() == "still open"


@pytest.mark.parametrize("version", ["hixie-75", "hixie-76"])
@pytest.mark.parametrize("skipped", [b"\x80\x00", b"\x80\x03\xff\x00\xff", b"\x80\x80\x80\x02ab", b"\x80\x81\x00" + b"y" * 128,
                                     b"\x01not text\xff", b"\x7f\xff"])
def test_frames_that_are_not_text_are_discarded(demo, version, skipped):
    with echo(demo, version) as client:
        client.raw(skipped + b"\0kept\xff")
        assert client.receive() == "kept"


def test_the_page_names_what_scripts_look_for(demo):
    answer = exchange(demo.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status == 200 and answer.get("content-type").lower().replace(" ", "") == "text/html;charset=utf-8"
    page = answer.body.decode()
    for name in "log text send echo-text echo-send echo-out binary-send binary-out version ping state".split():
        assert f'id="{name}"' in page or f"id={name}" in page, name


def test_other_paths_are_not_found(demo):
    for request in (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /echoes HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert exchange(demo.address, request).status == 404
    with pytest.raises(Refused) as refused:
        Client("rfc6455", demo.address, "/echoes")
    assert refused.value.status == 404


def test_an_upgrade_is_asked_for_where_none_was_offered(demo):
    answer = exchange(demo.address, b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status in (400, 426)


@pytest.mark.parametrize("path", ["/", "/deeper/"])
def test_a_route_may_be_the_root(workers, path):
    worker = workers.serve('[[route]]\npath = "/"\nhandler = "echo"')
    with Client("rfc6455", worker.address, path) as client:
        client.send("root")
        assert client.receive() == "root"


def test_a_unix_socket_is_listened_on(workers, tmp_path):
    address = str(tmp_path / "ws.sock")
    workers.start("demo", "--listen", f"unix:{address}", ready=address)
    for version in VERSIONS:
        with Client(version, address, "/echo") as client:
            client.send(version)
            assert client.receive() == version


# -- time

@pytest.mark.parametrize("version", HYBI)
def test_silence_is_pinged_and_an_answer_keeps_the_socket(workers, version):
    worker = workers.demo("--heartbeat", "50ms", "--pong-timeout", "2s")
    with echo(worker, version) as client:
        for _ in range(3):
            kind, payload = client.event()
            assert kind == "ping"
            client.raw(frame(10, payload))
        client.send("alive")
        assert client.receive() == "alive"


@pytest.mark.parametrize("version", HYBI)
def test_a_ping_that_nobody_answers_ends_the_socket(workers, version):
    worker = workers.demo("--heartbeat", "50ms", "--pong-timeout", "100ms")
    with echo(worker, version) as client:
        assert client.event()[0] == "ping"
        client.stream.rest()  # Perhaps a close frame; then the end.


@pytest.mark.parametrize("version", HYBI)
def test_an_answer_that_came_while_the_worker_was_stopped_is_not_late(workers, version):
    worker = workers.demo("--heartbeat", "200ms", "--pong-timeout", "700ms")
    with echo(worker, version) as client:
        kind, payload = client.event()
        assert kind == "ping"
        with worker.stopped():
            client.raw(frame(10, payload))
            time.sleep(1)  # The pause itself: longer than a pong may take.
        client.send("alive")
        assert client.receive() == "alive"


def test_a_crowd_that_spoke_while_the_worker_was_stopped_is_heard_to_the_last(workers):
    """The kernel tells of so many only in several turns; deadlines come in the first."""
    crowd = 1300
    few, many = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (many, many))
    streams = []
    try:
        worker = workers.demo("--threads", "1", "--handshake-timeout", "3s", "--max-handshakes", str(crowd))
        before = worker.descriptors()
        streams += [Stream(worker.address) for _ in range(crowd)]
        wait_for(lambda: worker.descriptors() >= before + crowd, "all to be accepted")
        with worker.stopped():
            for stream in streams:
                stream.write(handshake())
            time.sleep(3)  # The pause itself: longer than a handshake may take.
        assert {stream.answer().status for stream in streams} == {101}
    finally:
        for stream in streams:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, many))


@pytest.mark.parametrize("version", ["hixie-75", "hixie-76"])
def test_the_versions_without_ping_are_left_in_peace(workers, version):
    worker = workers.demo("--heartbeat", "30ms", "--pong-timeout", "30ms")
    with echo(worker, version) as client, echo(worker) as clock:
        for _ in range(5):
            assert clock.event()[0] == "ping"
            clock.raw(frame(10))
        client.send("nothing came before this")
        assert client.receive() == "nothing came before this"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_socket_without_messages_is_closed_when_idle(workers, version):
    worker = workers.demo("--idle-timeout", "200ms")
    with echo(worker, version) as client:
        closed = client.receive()
        assert isinstance(closed, Closed)
        assert closed.code == (1001 if version in HYBI else None)


def test_an_unfinished_closing_handshake_is_given_up(workers):
    worker = workers.demo("--idle-timeout", "100ms", "--close-timeout", "200ms")
    client = echo(worker)
    while client.event()[0] != "closed":
        pass
    # The answer to the close frame went out in `event`; a client that never answers is the next one.
    silent = echo(worker)
    first, length = silent.stream.exactly(2)
    assert first == 0x88
    silent.stream.exactly(length)
    assert silent.ended()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_heartbeat_text_is_swallowed_and_answered(workers, version):
    worker = workers.serve('[[route]]\npath = "/echo"\nhandler = "echo"\n'
                           'heartbeat_text = { receive = "Heartbeat", answer = "beat" }')
    with echo(worker, version) as client:
        client.send("Heartbeat")
        assert client.receive() == "beat"
        client.send("Heartbeats")
        assert client.receive() == "Heartbeats"


def test_sigterm_says_goodbye_to_all_and_exits_with_0(workers):
    worker = workers.demo("--drain", "2s")
    clients = [echo(worker, version) for version in VERSIONS for _ in range(3)]
    found = []
    threads = [threading.Thread(target=lambda c=c: found.append((c.version, c.receive()))) for c in clients]
    for thread in threads:
        thread.start()
    assert worker.terminate() == 0
    for thread in threads:
        thread.join()
    for version, closed in found:
        want = 1012 if version == "rfc6455" else 1001 if version in HYBI else None
        assert isinstance(closed, Closed) and closed.code == want, (version, closed)


# -- limits

@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_does_not(workers, version):
    worker = workers.demo("--max-message", "1KiB")
    with echo(worker, version) as client:
        client.send("x" * 1024)
        assert client.receive() == "x" * 1024
        client.send("x" * 1025)
        closed = client.receive()
        assert isinstance(closed, Closed)
        # 7 and 8 know the fault as 1004. [hybi-07, 7.4.1]
        assert closed.code in ({1009} if version == "rfc6455" else {1004, 1009} if version in HYBI else {None})


@pytest.mark.parametrize("version", HYBI)
def test_the_limit_counts_all_fragments(workers, version):
    worker = workers.demo("--max-message", "1KiB")
    with echo(worker, version) as client:
        client.raw(frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 424))
        assert client.receive() == b"x" * 1024
        client.raw(frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 425))
        assert isinstance(client.receive(), Closed)


def test_only_the_versions_that_are_on_are_spoken(workers):
    worker = workers.serve('[[route]]\npath = "/echo"\nhandler = "echo"', top="versions = [7, 8, 13]")
    for version in ("hixie-75", "hixie-76"):
        with pytest.raises(Refused) as refused:
            echo(worker, version)
        assert refused.value.status == 426
        offered = ",".join(refused.value.answer.all("sec-websocket-version"))
        assert {v.strip() for v in offered.split(",")} == {"13", "8", "7"}
    echo(worker, "hybi-07").close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("origin, allowed", [
    ("https://www.example.org", True), ("https://sub.example.net", True), ("https://a.b.example.net", True),
    ("https://WWW.EXAMPLE.ORG", True), ("https://www.example.org:443", True),
    ("http://www.example.org", False), ("https://www.example.org:8443", False), ("https://www.example.org.evil.test", False),
    ("https://evilexample.net", False), ("https://example.net", False), ("null", False), (None, False),
    ("https://www.example.org.", False)])
def test_origins_are_compared_exactly(workers, version, origin, allowed):
    worker = workers.serve('[[route]]\npath = "/echo"\nhandler = "echo"\n'
                           'allowed_origins = ["https://www.example.org", "https://*.example.net"]')
    if allowed:
        echo(worker, version, origin=origin).close()
    else:
        with pytest.raises(Refused) as refused:
            echo(worker, version, origin=origin)
        assert refused.value.status == 403


def test_the_worker_gives_its_descriptors_back(demo):
    before = demo.descriptors()
    clients = [echo(demo, VERSIONS[n % 5]) for n in range(100)]
    assert demo.descriptors() >= before + 100
    for client in clients:
        client.leave()
    wait_for(lambda: demo.descriptors() <= before, "the descriptors to come back")
