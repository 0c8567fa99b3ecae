"""The control API: every call, over TCP with a token and over a unix socket, and who is kept out."""

import json
import os
import stat
import time

import pytest

from control import Control, encoded
from support import free_port, wait_for
from wire import HYBI, VERSIONS, Client, Closed, Refused, Stream

ROUTES = """
[[route]]
path = "/chat"
handler = "chat"

[[route]]
path = "/other"
handler = "chat"
"""
TOKEN = "a-token-for-tests-0123456789"


@pytest.fixture
def over_tcp(workers, tmp_path):
    return start(workers, tmp_path, tcp=True)


@pytest.fixture(params=["tcp", "unix"])
def worker(request, workers, tmp_path):
    return start(workers, tmp_path, tcp=request.param == "tcp")


def start(workers, tmp_path, tcp, top="", routes=ROUTES):
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    address = ("127.0.0.1", free_port()) if tcp else str(tmp_path / "control.sock")
    table = f'listen = "127.0.0.1:{address[1]}"\ntoken_file = "{token}"' if tcp else f'listen = "unix:{address}"'
    worker = workers.serve(routes, top=top, control=table)
    worker.wait_until_listening(address)
    worker.control = Control(address, TOKEN if tcp else None)
    return worker


def opens(worker, version="rfc6455", path="/chat", **options):
    """A client and its id: the one that was not listed before."""
    before = set(worker.control.ids())
    client = Client(version, worker.address, path, **options)
    (client.id,) = wait_for(lambda: set(worker.control.ids()) - before, "the socket to be listed")
    return client


def error(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.body)
    if answer.body:
        assert json.loads(answer.body)["error"]
    return answer


# -- sending

@pytest.mark.parametrize("version", VERSIONS)
def test_a_text_is_sent_to_one(worker, version):
    client, other = opens(worker, version), opens(worker)
    for text in ("こんにちは 😀", "", "second"):
        assert worker.control.call("POST", f"/sockets/{client.id}", text).status == 202
        assert client.receive() == text
    other.send("own")
    assert other.receive() == "own"  # Nothing came before it.


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "application/x-www-form-urlencoded", "application/json", None])
def test_whatever_is_not_declared_binary_is_text(worker, content_type):
    client = opens(worker)
    headers = [("Content-Type", content_type)] if content_type else []
    assert worker.control.call("POST", f"/sockets/{client.id}", "a=1&b", headers).status == 202
    assert client.receive() == "a=1&b"


@pytest.mark.parametrize("version", VERSIONS)
def test_binary_is_sent_where_the_version_has_it(worker, version):
    client = opens(worker, version)
    answer = worker.control.call("POST", f"/sockets/{client.id}", b"\x00\xff", [("Content-Type", "application/octet-stream")])
    if version in HYBI:
        assert answer.status == 202
        assert client.receive() == b"\x00\xff"
    else:
        error(answer, 409)


def test_many_are_sent_to_and_each_is_accounted_for(worker):
    first, second, old = opens(worker), opens(worker), opens(worker, "hixie-76")
    gone = first.id[:-3] + ("AAA" if first.id[-3:] != "AAA" else "BBB")
    query = "&".join(f"id={i}" for i in (first.id, second.id, old.id, gone))
    said = worker.control.json("POST", f"/sockets?{query}", "to you")
    assert sorted(said["queued"]) == sorted([first.id, second.id, old.id])
    assert said["gone"] == [gone] and said["full"] == said["unsupported"] == []
    assert first.receive() == second.receive() == old.receive() == "to you"
    said = worker.control.json("POST", f"/sockets?{query}", b"\xff", headers=[("Content-Type", "application/octet-stream")])
    assert said["unsupported"] == [old.id] and sorted(said["queued"]) == sorted([first.id, second.id])


def test_a_broadcast_reaches_all_or_a_route_or_all_but_one(worker):
    here, there = [opens(worker, v) for v in VERSIONS], opens(worker, path="/other")
    assert worker.control.json("POST", "/broadcast", "all") == {"queued": 6, "full": 0, "unsupported": 0}
    assert [c.receive() for c in [*here, there]] == ["all"] * 6
    assert worker.control.json("POST", "/broadcast?route=/other", "there")["queued"] == 1
    assert there.receive() == "there"
    assert worker.control.json("POST", f"/broadcast?except={there.id}", "here")["queued"] == 5
    assert [c.receive() for c in here] == ["here"] * 5
    said = worker.control.json("POST", "/broadcast", b"\x01", headers=[("Content-Type", "application/octet-stream")])
    assert said == {"queued": 4, "full": 0, "unsupported": 2}
    assert there.receive() == b"\x01"


def test_groups_are_joined_spoken_to_and_left(worker):
    control, group = worker.control, encoded("部屋 1/2")
    anna, ben = opens(worker), opens(worker, "hixie-75")
    for client in (anna, ben):
        assert control.call("PUT", f"/groups/{group}/sockets/{client.id}").status == 204
    assert control.json("POST", f"/groups/{group}", "both")["queued"] == 2
    assert anna.receive() == ben.receive() == "both"
    assert set(control.ids(f"?group={group}")) == {anna.id, ben.id}
    assert control.json("POST", f"/groups/{group}?except={anna.id}", "ben")["queued"] == 1
    assert ben.receive() == "ben"
    assert control.call("DELETE", f"/groups/{group}/sockets/{ben.id}").status == 204
    assert control.json("POST", f"/groups/{group}", "anna")["queued"] == 1
    assert anna.receive() == "anna"
    anna.close()
    wait_for(lambda: control.json("POST", f"/groups/{group}", "x")["queued"] == 0, "the group to be empty")
    error(control.call("PUT", f"/groups/{group}/sockets/{anna.id}"), 404)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_socket_is_closed_with_a_code(worker, version):
    client = opens(worker, version)
    assert worker.control.call("DELETE", f"/sockets/{client.id}?code=4444&reason={encoded('さよなら now')}").status == 202
    closed = client.receive()
    assert isinstance(closed, Closed)
    if version in HYBI:
        assert (closed.code, closed.reason) == (4444, "さよなら now")
    error(wait_for(lambda: (a := worker.control.call("DELETE", f"/sockets/{client.id}")).status == 404 and a, "404"), 404)


@pytest.mark.parametrize("code", ["999", "1005", "1006", "1015", "5000", "x", "-1"])
def test_codes_that_may_not_be_sent_are_refused(worker, code):
    client = opens(worker)
    error(worker.control.call("DELETE", f"/sockets/{client.id}?code={code}"), 400)
    client.send("still here")
    assert client.receive() == "still here"


# -- asking

def test_a_socket_is_described(worker):
    client = opens(worker, "hybi-08", path="/chat/room?x=1", origin="http://www.example.org")
    client.send("one")
    client.receive()
    said = worker.control.json("GET", f"/sockets/{client.id}")
    assert said["id"] == client.id and said["version"] == "hybi-08" and said["origin"] == "http://www.example.org"
    assert said["route"] == "/chat" and "127.0.0.1" in said["peer"]
    assert {"groups", "meta", "since"} <= said.keys()


def test_the_list_has_pages_and_filters(worker):
    chat, other = [opens(worker) for _ in range(5)], opens(worker, path="/other")
    assert set(worker.control.ids("?route=/other")) == {other.id}
    found, after = [], ""
    while page := worker.control.ids(f"?route=/chat&limit=2{after}"):
        assert len(page) <= 2
        found += page
        after = f"&after={page[-1]}"
    assert len(found) == 5 and set(found) == {client.id for client in chat}


def test_a_page_ends_early_where_sockets_say_much_of_themselves(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=False, top="threads = 2")
    much = {"path": "/chat/" + "p" * 6000, "origin": "http://" + "o" * 6000}
    clients = [Client("rfc6455", worker.address, **much) for _ in range(250)]
    found, after, pages = [], "", 0
    while after is not None:
        answer = worker.control.call("GET", f"/sockets?limit=1000{after}")
        assert len(answer.body) < 1.1 * 1024 * 1024
        page, pages = json.loads(answer.body), pages + 1
        found += [socket["id"] for socket in page["sockets"]]
        after = page["next"] and f"&after={page['next']}"
    assert len(found) == len(set(found)) == len(clients) and pages == 3
    for client in clients:
        client.leave()


def test_ids_are_never_used_again_and_cannot_be_guessed(worker):
    ids = set()
    for _ in range(50):
        client = opens(worker)
        ids.add(client.id)
        client.close()
        wait_for(lambda: not worker.control.ids(), "the socket to be gone")
    assert len(ids) == 50
    assert all(len(i) <= 64 and set(i) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") for i in ids)
    # 128 random bits are 22 characters of base64.
    assert min(len(i) for i in ids) >= 22


@pytest.mark.parametrize("call", [
    ("POST", "/sockets/{}"), ("DELETE", "/sockets/{}"), ("GET", "/sockets/{}"), ("PUT", "/groups/g/sockets/{}"),
    ("DELETE", "/groups/g/sockets/{}")])
@pytest.mark.parametrize("name", ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "0", "%00", "..", "x" * 65, encoded("あ")])
def test_unknown_sockets_are_not_found(worker, call, name):
    error(worker.control.call(call[0], call[1].format(name), "x" if call[0] == "POST" else None),
          *([404] if len(name) == 30 else [400, 404]))  # 400 where it could not be an id.


def test_a_socket_that_left_is_unknown(worker):
    client = opens(worker)
    client.close()
    wait_for(lambda: worker.control.call("POST", f"/sockets/{client.id}", "x").status == 404, "404")


# -- health

def test_health_needs_no_token(over_tcp):
    stranger = Control(over_tcp.control.address)
    for path in ("/healthz", "/readyz"):
        assert stranger.call("GET", path).status == 200


def test_a_draining_worker_is_not_ready(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=True, top='drain = "3s"')
    silent = opens(worker)  # It never answers the close, so the drain takes its time.
    worker.child.terminate()
    wait_for(lambda: worker.control.call("GET", "/readyz").status == 503, "/readyz to say 503")
    assert worker.control.call("GET", "/healthz").status == 200
    assert worker.child.wait(10) == 0
    silent.leave()


# -- who is kept out

@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
                                           f"Basic {TOKEN}", TOKEN])
def test_without_the_token_nothing_is_told(over_tcp, authorization):
    stranger = Control(over_tcp.control.address)
    headers = [("Authorization", authorization)] if authorization is not None else []
    for method, path in (("GET", "/sockets"), ("POST", "/broadcast"), ("GET", "/metrics")):
        error(stranger.call(method, path, headers=headers), 401)


def test_two_tokens_are_none(over_tcp):
    stranger = Control(over_tcp.control.address)
    answer = stranger.call("GET", "/sockets", headers=[("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")])
    assert answer.status in (400, 401)


def test_guessing_is_slowed_down(over_tcp):
    stranger = Control(over_tcp.control.address, "wrong")
    statuses = [stranger.call("GET", "/sockets").status for _ in range(20)]
    assert statuses[0] == 401 and 429 in statuses and set(statuses) <= {401, 429}
    wait_for(lambda: over_tcp.control.call("GET", "/sockets").status == 200, "the right token to pass again")


def test_idle_strangers_do_not_lock_the_app_out(over_tcp):
    call = b"GET /sockets HTTP/1.1\r\nHost: c\r\n" + bearer(over_tcp) + b"\r\n"
    app = Stream(over_tcp.control.address)
    app.write(call)
    assert app.answer().status == 200
    strangers = []
    for number in range(300):
        stranger = Stream(over_tcp.control.address)
        if number % 2:
            stranger.write(b"GET /sockets HTTP/1.1\r\n")
        strangers.append(stranger)
        if number == 0:
            wait_for(lambda: over_tcp.control.call("GET", "/healthz").status == 200, "the first to be taken before the others")
    assert over_tcp.control.call("GET", "/sockets").status == 200
    assert strangers[0].rest() == b"", "the oldest has given way"
    app.write(call)
    assert app.answer().status == 200, "who has shown the token keeps its connection"
    for stream in [app, *strangers]:
        stream.close()


@pytest.mark.parametrize("field", [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "same-origin")])
def test_browsers_are_refused(worker, field):
    answer = error(worker.control.call("POST", "/broadcast", "x", [field]), 403)
    assert not [name for name, _ in answer.fields if name.startswith("access-control")]


def test_a_preflight_gets_no_permission(worker):
    answer = worker.control.call("OPTIONS", "/broadcast", headers=[("Origin", "http://evil.example"),
                                                                   ("Access-Control-Request-Method", "POST")])
    assert answer.status in (403, 405) and not [name for name, _ in answer.fields if name.startswith("access-control")]


def test_the_unix_socket_is_the_permission(workers, tmp_path):
    start(workers, tmp_path, tcp=False)
    mode = os.stat(tmp_path / "control.sock").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660


# -- requests that are not as they should be

@pytest.mark.parametrize("method, path, allowed", [
    ("PUT", "/sockets", {"GET", "POST"}), ("PATCH", "/sockets/AAAA", {"GET", "POST", "DELETE"}), ("GET", "/broadcast", {"POST"}),
    ("DELETE", "/groups/g", {"POST"}), ("POST", "/groups/g/sockets/AAAA", {"PUT", "DELETE"})])
def test_a_wrong_method_is_told_the_right_ones(worker, method, path, allowed):
    answer = error(worker.control.call(method, path), 405)
    assert allowed <= {m.strip() for m in answer.get("allow").split(",")}


@pytest.mark.parametrize("path", ["//", "/nothing", "/sockets/a/b", "/groups", "/groups//sockets/a"])
def test_unknown_paths_are_not_found(worker, path):
    error(worker.control.call("GET", path), 404, 405)


@pytest.mark.parametrize("text", [b"\xff", b"\xe3\x81", b"\xed\xa0\x80", b"\xc0\x80"])
def test_text_must_be_utf8(worker, text):
    client = opens(worker)
    error(worker.control.call("POST", f"/sockets/{client.id}", text), 400)
    error(worker.control.call("POST", "/broadcast", text), 400)


def test_compressed_bodies_are_refused(worker):
    client = opens(worker)
    error(worker.control.call("POST", f"/sockets/{client.id}", b"x", [("Content-Encoding", "gzip")]), 415)


def test_a_body_without_a_length_is_refused(worker):
    error(worker.control.raw(b"POST /broadcast HTTP/1.1\r\nHost: c\r\nConnection: close\r\n" + bearer(worker) + b"\r\n"), 411)


def test_a_chunked_body_is_a_body(worker):
    client = opens(worker)
    answer = worker.control.raw(f"POST /sockets/{client.id} HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n".encode()
                                + bearer(worker) + b"\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n")
    assert answer.status == 202
    assert client.receive() == "one two"


def test_a_misspelt_parameter_is_named(worker):
    answer = worker.control.call("POST", "/broadcast?expect=me", "x")
    error(answer, 400)
    assert json.loads(answer.body)["error"] == "an unknown parameter: expect"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_app_sends_while_it_is_asked_is_kept(workers, script, tmp_path, version):
    control = Control(f"{tmp_path}/control.sock")

    def speak(hook):
        assert control.call("POST", f"/sockets/{hook.socket}", "one").status == 202
        assert control.json("POST", f"/sockets?id={hook.socket}", "many")["queued"] == [hook.socket]
        assert control.call("PUT", f"/groups/red/sockets/{hook.socket}").status == 204
        error(control.call("GET", f"/sockets/{hook.socket}"), 404)
        assert control.json("POST", "/broadcast", "all")["queued"] == control.json("POST", "/groups/red", "red")["queued"] == 0
        return ("greeting", {"Ws-To": "self"}) if hook["ws-resource"] == "/in" else 403
    script.on("handshake", speak)
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"', control=f'listen = "unix:{tmp_path}/control.sock"')
    with pytest.raises(Refused):
        Client(version, worker.address, "/out")
    with Client(version, worker.address, "/in") as client:
        assert [client.receive() for _ in range(3)] == ["greeting", "one", "many"]
        assert control.json("POST", "/groups/red", "red")["queued"] == 1 and client.receive() == "red"


@pytest.mark.parametrize("lines", [
    b"Host: c\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"Host: c\r\nTransfer-Encoding: gzip, chunked\r\n",
    b"Host: c\r\nTransfer-Encoding: chunked, identity\r\n", b"Host: c\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
    b"Host: c\r\nContent-Length: +4\r\n", b"Host: c\r\nContent-Length: 4, 5\r\n", b"Host: c\r\nContent-Length: 0x4\r\n",
    b"Content-Length: 4\r\n", b"Host: c\r\nHost: d\r\nContent-Length: 4\r\n", b"Host: c\r\nContent-Length : 4\r\n"])
def test_smugglers_get_400(worker, lines):
    request = b"POST /broadcast HTTP/1.1\r\n" + lines + bearer(worker) + b"\r\n0\r\n\r\nGET /sockets HTTP/1.1\r\n\r\n"
    error(worker.control.raw(request), 400)


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=True, top='max_control_body = "1KiB"')
    error(worker.control.raw(b"POST /broadcast HTTP/1.1\r\nHost: c\r\nContent-Length: 1000000\r\n" + bearer(worker) + b"\r\n"), 413)
    assert worker.control.call("POST", "/broadcast", "x" * 1024).status == 200


def test_a_chunked_body_beyond_the_limit_is_refused_too(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=True, top='max_control_body = "1KiB"')
    error(worker.control.raw(b"POST /broadcast HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n" + bearer(worker)
                             + b"\r\n800\r\n" + b"x" * 0x800 + b"\r\n0\r\n\r\n"), 413)


def test_a_huge_head_is_refused(worker):
    error(worker.control.raw(b"GET /sockets HTTP/1.1\r\nHost: c\r\nX-Long: " + b"y" * 70_000 + b"\r\n\r\n"), 431)


def test_connections_are_kept_for_more_than_one_request(worker):
    client = opens(worker)
    stream = Stream(worker.control.address)
    for text in (b"one", b"two"):
        stream.write(f"POST /sockets/{client.id} HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n".encode() + bearer(worker)
                     + b"\r\n" + text)
        assert stream.answer().status == 202
    assert (client.receive(), client.receive()) == ("one", "two")
    stream.close()


def bearer(worker):
    return f"Authorization: Bearer {worker.control.token}\r\n".encode() if worker.control.token else b""


# -- backpressure

def test_a_socket_that_does_not_read_is_full(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=False)
    deaf, client = opens(worker), opens(worker)
    text = "x" * 500_000
    answer = wait_for(lambda: (a := worker.control.call("POST", f"/sockets/{deaf.id}", text)).status != 202 and a, "429", 20)
    error(answer, 429)
    said = worker.control.json("POST", f"/sockets?id={deaf.id}&id={client.id}", text)
    assert said["full"] == [deaf.id] and said["queued"] == [client.id]
    assert client.receive() == text
    # Nothing was lost or cut: what was queued arrives whole, and then there is room again.
    received = deaf.receive()
    assert received == text
    wait_for(lambda: deaf.receive() and worker.control.call("POST", f"/sockets/{deaf.id}", "room").status == 202, "room again")


def test_a_broadcast_drops_the_one_that_cannot_take_it(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=False)
    deaf, client = opens(worker), opens(worker)
    text = "x" * 500_000
    until = time.monotonic() + 20
    while not (said := worker.control.json("POST", "/broadcast", text))["full"]:
        assert client.receive() == text
        assert time.monotonic() < until
    assert said["queued"] == 1 and client.receive() == text
    wait_for(lambda: worker.control.ids() == [client.id], "the deaf one to be dropped")
    deaf.leave()
