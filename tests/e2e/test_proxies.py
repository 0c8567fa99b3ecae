"""Every proxy with its file from deploy/ as it ships × every version × what people do.

The worker runs with deploy/proxies.toml as it ships, too, and three more routes behind it: the app that the file names
is the one in Flask, the second route is its twin in Node.
"""

import os
import re
import tempfile
import uuid
from pathlib import Path

import pytest

import apps
import proxies
from support import DEPLOY, Workers, expect_free, wait_for
from wire import HYBI, NUMBER, VERSIONS, Client, Closed, Refused, Stream, frame, handshake

MORE_ROUTES = """
[[route]]
path = "/ws/node"
app = "http://127.0.0.1:8081/ws"

[[route]]
path = "/ws/strict"
handler = "echo"
allowed_origins = ["http://example.org"]

[[route]]
path = "/ws/modern"
handler = "echo"
versions = [13]
"""


@pytest.fixture(scope="module")
def flask():
    expect_free(8080)
    with apps.room("flask", 8080) as room:
        yield room


@pytest.fixture(scope="module")
def node():
    expect_free(8081)
    with apps.room("node", 8081) as room:
        yield room


@pytest.fixture(scope="module")
def sockets():
    """What stands for /run/ws-worker: a folder that the proxies' own users may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def worker(flask, node, sockets, tmp_path_factory):
    expect_free(9000)
    expect_free(9002)
    workers = Workers(tmp_path_factory.mktemp("worker"))
    # The two lines for unix sockets, as a person would take their `#` away.
    shipped = re.sub(r'^    # (.*"unix:.*)$', r"    \1", (DEPLOY / "proxies.toml").read_text(), flags=re.M)
    path = workers.config(shipped.replace("/run/ws-worker", str(sockets)) + MORE_ROUTES)
    yield workers.start("serve", "--config", path, address=("127.0.0.1", 9000))
    workers.stop()


@pytest.fixture(scope="module", params=proxies.FRONTS, ids=lambda which: which.name)
def front(request, worker, sockets, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.name)
    with proxies.front(request.param, folder, sockets) as started:
        yield started


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(params=["flask", "node"])
def app(request):
    """A real app and the route that leads to it."""
    room = request.getfixturevalue(request.param)
    room.path = {"flask": "/ws/app", "node": "/ws/node"}[request.param]
    return room


def only_where(condition):
    """Says for which fronts and versions a test makes sense; it does not exist for the others."""
    def mark(test):
        test.only_where = condition
        return test
    return mark


def carries(item):
    """conftest.py asks this: a front that does not carry a version has no test with it, but for the one below."""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    if "front" not in values:
        return True
    front, version = values["front"], values.get("version", "rfc6455")
    if front.variant and values.get("app") == "node":
        return False
    return version in front.tried and getattr(item.function, "only_where", lambda *_: True)(front, version)


@pytest.mark.parametrize("old", ["hixie-75", "hixie-76"])
def test_haproxy_in_http_mode_refuses_the_old_versions_itself(worker, tmp_path, old):
    """So deploy/README.md says; should HAProxy learn better, the page and `proxies.FRONTS` want a change."""
    with proxies.front(proxies.named("haproxy"), tmp_path) as front, pytest.raises(Refused) as refused:
        Client(old, front.address, "/ws/echo")
    assert refused.value.status == 400


@pytest.fixture
def run():
    return uuid.uuid4().hex


# An address of the loopback that is no trusted proxy's.
STRANGER = "127.0.0.2"


def opens(front, version, path="/ws/echo", **options):
    return Client(version, front.address, path, strict=front.strict(version), **{**front.options(), **options})


def raw(front, **options):
    return Stream(front.address, tls=front.options().get("tls"), **options)


def refusal(front, version, path, **options):
    with pytest.raises(Refused) as refused:
        opens(front, version, path, **options)
    return refused.value.answer


def test_echo(front, version):
    with opens(front, version) as client:
        for text in ["", "hello", "こんにちは 😀", "x" * 70_000]:
            client.send(text)
            assert client.receive() == text
        client.close()


@pytest.mark.parametrize("version", HYBI)
def test_binary_and_ping(front, version):
    with opens(front, version) as client:
        client.send(bytes(range(256)) * 300)
        assert client.receive() == bytes(range(256)) * 300
        client.ping(b"are you there?")
        assert client.pong() == b"are you there?"


@pytest.mark.parametrize("version", ["hixie-76"])
@pytest.mark.parametrize("key3", ["together", "late", "pieces"])
def test_hixie_76_opens_however_its_eight_bytes_travel(front, version, key3):
    with opens(front, version, key3=key3) as client:
        client.send("open")
        assert client.receive() == "open"


# httpd's tunnel keeps such bytes until more come and Caddy drops them; the worker can do nothing about it, and browsers wait.
@only_where(lambda front, version: version not in front.impatient)
def test_a_message_behind_the_handshake_arrives(front, version):
    early = b"\0early\xff" if version.startswith("hixie") else frame(1, b"early")
    with opens(front, version, early=early) as client:
        assert client.receive() == "early"


def test_origin_and_location_are_the_clients_own(front, version):
    # The client compares them for the hixie versions, as the browsers did.
    with opens(front, version, "/ws/echo/%E6%9D%B1%20x?room=%E9%83%A8%E5%B1%8B&x=1", host="www.example.org",
               origin="http://www.example.org") as client:
        client.send("x")
        assert client.receive() == "x"


def test_many_messages_both_ways(front, version):
    with opens(front, version) as client:
        texts = [f"{n} " + "y" * (n % 200) for n in range(300)]
        for text in texts:
            client.send(text)
        assert [client.receive() for _ in texts] == texts


def test_the_client_closes(front, version):
    with opens(front, version) as client:
        closed = client.close(1000, "bye")
        assert closed.code == (1000 if version in HYBI else None)


def test_the_app_hears_how_the_client_left(front, version, app, run):
    client = opens(front, version, f"{app.path}?run={run}")
    client.send("echo here")
    assert client.receive() == "here"
    if version in HYBI:
        client.close(4001, "lunch")
    else:
        client.leave()
    closed = app.closed(run)
    assert closed["ws-closed-by"] == "client"
    if version in HYBI:
        assert (closed["ws-close-code"], closed["ws-close-reason"], closed["ws-clean"]) == ("4001", "lunch", "1")


def test_the_app_hears_at_once_that_a_client_was_killed(front, version, app, run):
    client = opens(front, version, f"{app.path}?run={run}")
    client.leave()
    closed = app.closed(run)
    assert closed["ws-closed-by"] == "client" and closed["ws-undelivered"] == "0"


def test_the_app_closes(front, version, app, run):
    with opens(front, version, f"{app.path}?run={run}") as client:
        client.send("close 4000 enough")
        assert client.receive() == "bye"
        closed = client.receive()
        assert isinstance(closed, Closed) and closed.code == (4000 if version in HYBI else None)
    hook = app.closed(run)
    assert hook["ws-closed-by"] == "app" and hook["ws-close-code"] == "4000"


def test_hooks_say_who_asks_for_what(front, version, app, run):
    path = f"{app.path}/deeper?run={run}&greet"
    with opens(front, version, path, host="www.example.org", origin="http://page.example.org",
               headers=[("Cookie", "user=maki; theme=dark"), ("User-Agent", "e2e")]) as client:
        assert client.receive() == "Received handshake."
        for text in ("echo 一", "echo two"):
            client.send(text)
            assert client.receive() == text[5:]
        client.close()
    app.closed(run)
    hooks = app.seen(run)
    assert [hook.event for hook in hooks] == ["handshake", "message", "message", "closed"]
    assert len({hook.socket for hook in hooks}) == 1 and len({hook.key for hook in hooks}) == 4
    assert [hook.text for hook in hooks[1:3]] == ["echo 一", "echo two"]
    for hook in hooks:
        assert hook["ws-resource"] == path
        assert hook["ws-location"] == f"{front.scheme}://www.example.org{path}"
        assert hook["ws-origin"] == "http://page.example.org"
        assert hook["ws-version"] == version
        assert "127.0.0.1" in hook["ws-peer"]
        assert hook["cookie"] == "user=maki; theme=dark" and hook["user-agent"] == "e2e"
    assert "ws-meta-user" not in hooks[0].headers and hooks[1]["ws-meta-user"] == "maki"


def test_the_app_chooses_a_subprotocol(front, version, app, run):
    offered = ["chat"] if version.startswith("hixie") else ["superchat", "chat"]
    with opens(front, version, f"{app.path}?run={run}", protocols=offered) as client:
        assert client.protocol == "chat"
        client.send("show Ws-Protocol")
        assert client.receive() == "chat"
    assert [p.strip() for p in app.seen(run)[0]["ws-protocols"].split(",")] == offered


def test_the_apps_fields_stand_on_the_101(front, version, app, run):
    with opens(front, version, f"{app.path}?run={run}") as client:
        assert client.answer.get("set-cookie") == "visits=1; Path=/"
        assert client.answer.get("x-app") == "room"


def test_the_app_refuses(front, version, app, run):
    answer = refusal(front, version, f"{app.path}?run={run}&members")
    assert answer.status == 401 and answer.body == b"who are you?"
    assert answer.get("www-authenticate") == 'Cookie realm="room"' and answer.get("set-cookie") == "from=room"
    assert [hook.event for hook in app.seen(run)] == ["handshake"]
    with opens(front, version, f"{app.path}?run={run}&members", headers=[("Cookie", "user=ken")]) as client:
        client.send("show Ws-Meta-User")
        assert client.receive() == "ken"


def test_a_wrong_origin_is_forbidden(front, version):
    assert refusal(front, version, "/ws/strict", origin="http://evil.example").status == 403
    opens(front, version, "/ws/strict", origin="http://example.org").close()


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_a_version_that_is_off_is_told_which_are_on(front, version):
    answer = refusal(front, version, "/ws/modern")
    assert answer.status == 426
    assert answer.get("sec-websocket-version") == "13"
    opens(front, "rfc6455", "/ws/modern").close()


def test_an_unknown_version_is_told_which_are_known(front):
    lines = handshake("/ws/echo", without=["sec-websocket-version"], lines=["Sec-WebSocket-Version: 99"])
    stream = raw(front)
    stream.write(lines)
    answer = stream.answer()
    assert answer.status == 426
    offered = ",".join(answer.all("sec-websocket-version"))
    assert {v.strip() for v in offered.split(",")} == set(NUMBER.values())
    stream.close()


def test_an_unknown_path_is_not_found(front, version):
    assert refusal(front, version, "/ws/nothing/here").status == 404


LIES = {
    "one of each": [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Host", "evil.example"), ("X-Real-IP", "6.6.6.6"),
                    ("Forwarded", "for=6.6.6.6;host=evil.example"), ("Ws-Peer", "6.6.6.6"), ("Ws-Meta-User", "admin"),
                    ("Idempotency-Key", "mine"), ("Proxy", "http://evil.example"), ("Webhook-Id", "mine"),
                    ("X-TyphoonAE-WebSocket", "1")],
    # As if proxies that are trusted had written them.
    "repeated": [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "127.0.0.1"), ("X-FORWARDED-FOR", "6.6.6.6, 127.0.0.1"),
                 ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "evil.example, evil.example")],
    "standard": [("Forwarded", "for=6.6.6.6"), ("Forwarded", "for=6.6.6.6;host=evil.example, for=127.0.0.1"),
                 ("Forwarded", 'for="6.6.6.6')],
}


@pytest.mark.parametrize("lies", LIES.values(), ids=[name.replace(" ", "-") for name in LIES])
def test_nobody_lies_about_where_he_comes_from(front, version, app, run, lies):
    wrong = "http" if front.tls else "https"
    lies = [*lies, ("X-Forwarded-Proto", wrong), ("x-forwarded-proto", f"{wrong}, {wrong}"), ("Forwarded", f"proto={wrong}")]
    with opens(front, version, f"{app.path}?run={run}", headers=lies, source=STRANGER) as client:
        client.send("echo x")
        assert client.receive() == "x"
    for hook in app.seen(run):
        assert STRANGER in hook["ws-peer"] and "6.6.6.6" not in hook["ws-peer"]
        assert hook["ws-location"].startswith(f"{front.scheme}://") and "evil" not in hook["ws-location"]
        assert not {"ws-meta-user", "proxy", "webhook-id", "x-typhoonae-websocket"} & hook.headers.keys()
        assert not [name for name, value in hook.headers.items() if "6.6.6.6" in value]
        assert hook.key.startswith(hook.socket)


# -- the PROXY protocol, spoken by whom it was not meant for

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V1_HEAD = b"PROXY TCP4 6.6.6.6 127.0.0.1 1234 80\r\n"
V2_HEAD = V2 + b"\x21\x11\x00\x0c" + bytes([6, 6, 6, 6, 127, 0, 0, 1, 4, 210, 0, 80])


@pytest.mark.parametrize("head", [V1_HEAD, V2_HEAD], ids=["v1", "v2"])
def test_a_client_cannot_write_the_proxy_protocols_head_itself(front, flask, run, head):
    """Behind any proxy, and on a listener that does not expect it, it is a request that makes no sense. Nobody believes it."""
    stream = raw(front, source=STRANGER)
    stream.write(head + handshake(f"/ws/app?run={run}"))
    said = stream.rest()
    assert said == b"" or re.match(rb"HTTP/1\.[01] 400 ", said), said
    stream.close()
    assert flask.seen(run) == []


PROXIED = {
    "no head": (b"", None),
    "v1": (V1_HEAD, "tcp:6.6.6.6:1234"),
    "v2": (V2_HEAD, "tcp:6.6.6.6:1234"),
    "v1 of a health check": (b"PROXY UNKNOWN\r\n", "tcp:127.0.0.1"),
    "v2 of a health check": (V2 + b"\x20\x00\x00\x00", "tcp:127.0.0.1"),
    "v1 twice": (V1_HEAD + V1_HEAD, None),
    "v2 behind v1": (V1_HEAD + V2_HEAD, None),
    "v1 without an address": (b"PROXY TCP4 evil.example 127.0.0.1 1234 80\r\n", None),
    "v1 with a port too high": (b"PROXY TCP4 6.6.6.6 127.0.0.1 99999 80\r\n", None),
    "v1 that does not end": (b"PROXY TCP4 " + b"6" * 200, None),
    "v2 of another version": (V2 + b"\x11\x11\x00\x0c" + bytes(12), None),
    "v2 too short for its addresses": (V2 + b"\x21\x11\x00\x04" + bytes(4), None),
    "v2 too long": (V2 + b"\x21\x11\xff\xff", None),
}


@pytest.mark.parametrize("case", PROXIED)
def test_where_the_proxy_protocol_is_expected_its_head_comes_first_and_once(worker, flask, run, case):
    head, peer = PROXIED[case]
    stream = Stream(("127.0.0.1", 9002))
    stream.write(head + handshake(f"/ws/app?run={run}", lines=["X-Forwarded-For: 7.7.7.7", "Forwarded: for=7.7.7.7"]))
    if peer:
        assert stream.answer().status == 101
        (hook, *_) = flask.seen(run)
        assert hook["ws-peer"].startswith(peer)
    else:
        said = stream.rest()
        assert said == b"" or said.startswith(b"HTTP/1.1 400 "), said
        assert flask.seen(run) == []
    stream.close()


def test_nothing_reaches_the_worker_behind_a_refused_handshake(front, app, run):
    """A second request behind a refused one may be answered by the proxy or as a request of its own, but what a tunnel
    left open would carry must never be taken for a handshake with fields of the client's making."""
    forged = handshake(f"{app.path}?run={run}", lines=["X-Forwarded-For: 6.6.6.6"])
    stream = raw(front, source=STRANGER)
    stream.write(handshake("/ws/echo", without=["sec-websocket-version"], lines=["Sec-WebSocket-Version: 99"]) + forged)
    assert stream.answer().status == 426
    if not front.http:
        assert stream.rest() == b""
        assert app.seen(run) == []
    stream.close()
    assert all("6.6.6.6" not in hook["ws-peer"] for hook in app.seen(run))


def test_the_worker_leaves_nothing_behind(front, version, worker):
    opens(front, version).close()
    before = worker.descriptors()
    for _ in range(20):
        with opens(front, version) as client:
            client.send("x")
            client.receive()
    wait_for(lambda: worker.descriptors() <= before + 2, "the descriptors to come back")


def test_a_bare_nginx_is_told_what_it_lacks(worker, tmp_path):
    """Without proxy_http_version nginx speaks HTTP/1.0; the refusal names the line."""
    port = proxies.free_port()
    command, env = proxies.nginx(tmp_path, f"""http {{
      server {{
        listen 127.0.0.1:{port};
        location / {{
          proxy_pass http://127.0.0.1:9000;
          proxy_set_header Upgrade $http_upgrade;
          proxy_set_header Connection upgrade;
        }}
      }}
    }}""")
    with proxies.running(command, ("127.0.0.1", port), name="bare nginx", env=env):
        with pytest.raises(Refused) as refused:
            Client("rfc6455", ("127.0.0.1", port), "/ws/echo")
    assert re.search(rb"proxy_http_version", refused.value.answer.body)
