"""What an app is told and what its answers do: with a real app in Flask and one in Node."""

import urllib.parse
import uuid
from pathlib import Path

import pytest

import apps
from control import Control
from support import free_port, wait_for
from wire import HYBI, VERSIONS, Client, Closed, Refused

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture(scope="module", params=["flask", "node"])
def room(request):
    with apps.room(request.param) as started:
        yield started


@pytest.fixture
def worker(workers, room):
    return workers.serve(f'[[route]]\npath = "/ws"\napp = "{room.url}"')


@pytest.fixture
def run():
    return uuid.uuid4().hex


def opens(worker, run, version="rfc6455", query="", **options):
    return Client(version, worker.address, f"/ws?run={run}{query}", **options)


def says(client, text):
    """What the app answers to this text."""
    client.send(text)
    return client.receive()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_greeting_in_the_handshakes_answer_is_heard_first(worker, run, version):
    with opens(worker, run, version, "&greet") as client:
        assert client.receive() == "Received handshake."
        assert says(client, "echo next") == "next"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_app_may_refuse_by_cookie(worker, room, run, version):
    with pytest.raises(Refused) as refused:
        opens(worker, run, version, "&members", headers=[("Cookie", "theme=dark")])
    answer = refused.value.answer
    assert (answer.status, answer.body) == (401, b"who are you?")
    assert answer.get("www-authenticate") == 'Cookie realm="room"'
    assert answer.get("connection").lower() == "close"
    with opens(worker, run, version, "&members", headers=[("Cookie", "theme=dark; user=yuki")]) as client:
        assert says(client, "show Ws-Meta-User") == "yuki"
        assert says(client, "show Cookie") == "theme=dark; user=yuki"
        client.close()
    room.closed(run)
    assert [hook.event for hook in room.seen(run)] == ["handshake", "handshake", "message", "message", "closed"]


def test_a_redirection_is_the_clients_to_follow(worker, run):
    with pytest.raises(Refused) as refused:
        opens(worker, run, query="&moved")
    assert refused.value.status == 302
    assert refused.value.answer.get("location") == "http://elsewhere.example/"


def test_the_101_carries_the_apps_fields(worker, run):
    with opens(worker, run) as client:
        assert client.answer.get("set-cookie") == "visits=1; Path=/"
        assert client.answer.get("x-app") == "room"
        # What speaks to the worker stays with it. (The client refuses a Content-Length on a 101.)
        assert not [name for name, _ in client.answer.fields if name.startswith("ws-")]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_keep_their_order(worker, room, run, version):
    with opens(worker, run, version) as client:
        texts = [f"echo {n}" for n in range(200)]
        for text in texts:
            client.send(text)
        assert [client.receive() for _ in texts] == [text[5:] for text in texts]
    hooks = [hook for hook in room.seen(run) if hook.event == "message"]
    assert [hook.text for hook in hooks] == texts
    assert [hook.key for hook in hooks] == [f"{hooks[0].socket}/{seq}" for seq in range(1, 201)]


def test_self_all_and_everyone_else(worker, run):
    anna, ben, kei = (opens(worker, run, version) for version in ("rfc6455", "hixie-76", "hixie-75"))
    assert says(anna, "echo only me") == "only me"
    assert says(anna, "all everyone") == "everyone"
    assert ben.receive() == kei.receive() == "everyone"
    ben.send("others not me")
    assert anna.receive() == kei.receive() == "not me"
    assert says(ben, "echo after it") == "after it"


def test_groups_are_joined_left_and_spoken_to(worker, run):
    anna, ben, kei = (opens(worker, run) for _ in range(3))
    assert says(anna, "join red,blue") == says(ben, "join blue") == "joined"
    kei.send("to red hello red")
    assert anna.receive() == "hello red"
    kei.send("to blue hello blue")
    assert anna.receive() == ben.receive() == "hello blue"
    assert says(anna, "leave blue") == "left"
    kei.send("to blue,red hello all")  # One copy each, in however many of the groups they are.
    assert anna.receive() == ben.receive() == "hello all"
    for client in (anna, ben, kei):
        assert says(client, "echo last") == "last"


@pytest.mark.parametrize("to, heard", [("red", 1), ("red, self", 1), ("all, red", 1), ("red, blue", 1), ("green", 0)])
def test_who_joins_by_the_handshakes_answer_hears_what_it_says_to_the_group(workers, script, to, heard):
    script.on("handshake", ("somebody came", {"Ws-Join": "red, blue", "Ws-To": to}))
    script.on("message", ("next", {"Ws-To": "self"}))
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"', top="threads = 2")
    with Client("rfc6455", worker.address) as first:
        first.send("x")
        assert [first.receive() for _ in range(heard + 1)] == ["somebody came"] * heard + ["next"]
        with Client("rfc6455", worker.address) as second:
            second.send("x")
            assert [second.receive() for _ in range(heard + 1)] == ["somebody came"] * heard + ["next"]
            assert not heard or first.receive() == "somebody came"


def test_a_group_is_the_workers_and_not_the_routes(workers, scripts):
    red, blue = (scripts(handshake=("", {"Ws-Join": "both"}), message=lambda hook: (hook.body, {"Ws-To": "both"})) for _ in range(2))
    worker = workers.serve(f'[[route]]\npath = "/red"\napp = "{red.url}"\n[[route]]\npath = "/blue"\napp = "{blue.url}"')
    with Client("rfc6455", worker.address, "/red") as one, Client("rfc6455", worker.address, "/blue") as two:
        one.send("from red")
        assert one.receive() == two.receive() == "from red"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_app_closes_after_its_last_words(worker, room, run, version):
    with opens(worker, run, version) as client:
        assert says(client, "close 4321 closing time") == "bye"
        closed = client.receive()
        assert isinstance(closed, Closed)
        if version in HYBI:
            assert (closed.code, closed.reason) == (4321, "closing time")
    hook = room.closed(run)
    assert (hook["ws-closed-by"], hook["ws-close-code"]) == ("app", "4321")


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "going"), (4999, "さようなら"), (None, "")])
def test_the_app_hears_code_and_reason(worker, room, run, code, reason):
    opens(worker, run).close(code, reason)
    hook = room.closed(run)
    assert hook["ws-closed-by"] == "client" and hook["ws-clean"] == "1" and hook["ws-undelivered"] == "0"
    assert hook["ws-close-code"] in ([str(code)] if code else [None, "1005"])
    assert urllib.parse.unquote(hook["ws-close-reason"] or "") == reason
    assert hook.body == b"" and hook.key == f"{hook.socket}/closed"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", ["leave", "abort"])
def test_the_app_hears_of_a_client_that_vanished(worker, room, run, version, way):
    client = opens(worker, run, version)
    assert says(client, "echo x") == "x"
    getattr(client, way)()
    hook = room.closed(run)
    assert hook["ws-closed-by"] == "client"
    if version in HYBI:
        assert (hook["ws-close-code"], hook["ws-clean"]) == ("1006", "0")


@pytest.mark.parametrize("version", HYBI)
def test_binary_goes_through_the_app_byte_for_byte(worker, room, run, version):
    data = bytes(range(256)) * 100
    with opens(worker, run, version) as client:
        assert says(client, data) == data
    (hook,) = [hook for hook in room.seen(run) if hook.event == "message"]
    assert hook["content-type"] == "application/octet-stream" and hook.body == data


@pytest.mark.parametrize("version", VERSIONS)
def test_text_is_utf8_once(worker, room, run, version):
    with opens(worker, run, version) as client:
        assert says(client, "echo あ😀é") == "あ😀é"
    (hook,) = [hook for hook in room.seen(run) if hook.event == "message"]
    assert hook["content-type"] == "text/plain; charset=utf-8" and hook.body == "echo あ😀é".encode()


def test_meta_is_kept_changed_and_removed(worker, room, run):
    with opens(worker, run) as client:
        for value in ("first", "second"):
            assert says(client, f"meta Colour {value}") == "stored"
            assert says(client, "show Ws-Meta-Colour") == value
        assert says(client, "meta Colour ") == "stored"
        assert says(client, "show Ws-Meta-Colour") == "-"
        assert says(client, "meta Size 3") == "stored"
        client.close()
    assert room.closed(run)["ws-meta-size"] == "3"


def test_meta_of_a_socket_without_groups_is_told_to_who_asks(workers, room, run, tmp_path):
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{room.url}"', control=f'listen = "unix:{tmp_path}/control.sock"')
    with opens(worker, run) as client:
        assert says(client, "meta Colour red") == "stored"
        said = Control(str(tmp_path / "control.sock"), None).json("GET", f"/sockets/{says(client, 'show Ws-Socket')}")
        assert (said["groups"], said["meta"]) == ([], {"colour": "red"})


def test_a_body_without_an_address_goes_nowhere(worker, run):
    with opens(worker, run) as client:
        client.send("mute")
        assert says(client, "echo heard") == "heard"


def test_a_refusal_is_told_in_the_log_with_its_event(workers, script):
    script.on("message", 413)
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"')
    with Client("rfc6455", worker.address) as client:
        client.send("x")
        line = worker.wait_for_log("the app refuses").string
        assert '"event":"message"' in line and '"detail":"413"' in line


def test_a_misspelt_header_is_told_in_the_log(workers, script):
    script.on("message", ("x", {"Ws-Too": "all"}))
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"')
    with Client("rfc6455", worker.address) as client:
        client.send("x")
        line = worker.wait_for_log("an answer's header has no meaning").string
        assert "Ws-Too" in line and '"event":"message"' in line and script.of("message")[0].socket in line


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_message_ends_the_socket(worker, room, run, version):
    with opens(worker, run, version) as client:
        client.send("status 404")
        closed = client.receive()
        assert isinstance(closed, Closed)
        # 1008 came with RFC 6455; 7 and 8 are told 1002.
        assert closed.code == {"rfc6455": 1008, "hybi-07": 1002, "hybi-08": 1002}.get(version)
    hook = room.closed(run)
    # A refusal is an answer: nothing is undelivered.
    assert (hook["ws-close-code"], hook["ws-undelivered"]) == ("1008", "0") and hook["ws-closed-by"] != "client"
    assert len([h for h in room.seen(run) if h.event == "message"]) == 1


def test_every_hook_names_the_worker_its_boot_and_the_socket(worker, room, run):
    with opens(worker, run) as first, opens(worker, run) as second:
        assert says(first, "echo 1") == "1" and says(second, "echo 2") == "2"
    wait_for(lambda: len([h for h in room.seen(run) if h.event == "closed"]) == 2, "both closed hooks")
    hooks = room.seen(run)
    assert len({hook["ws-boot"] for hook in hooks}) == 1 and all(hook["ws-worker"] for hook in hooks)
    sockets = {hook.socket for hook in hooks}
    assert len(sockets) == 2 and all(len(s) <= 64 and s.replace("-", "").replace("_", "").isalnum() for s in sockets)
    assert len({socket[0] for socket in sockets}) == 1  # The mark of the boot comes first.
    assert all("ws-attempt" not in hook.headers for hook in hooks)


def test_an_app_that_knows_nothing_of_the_worker_is_heard_where_the_route_says_so(workers, script):
    says = {"hush": ("", {}), "by name": ("by name", {"Ws-To": "self"}), "to nobody": ("never heard", {"Ws-To": ""})}
    script.on("handshake", ("<b>Warning</b>", {}))
    script.on("message", lambda hook: says.get(hook.text, (hook.text.upper(), {})))
    routes = "".join(f'[[route]]\npath = "/{path}"\napp = "{script.url}"\n{to}\n'
                     for path, to in (("self", ""), ("all", 'answer_to = ["all"]'), ("nobody", "answer_to = []")))
    worker = workers.serve(routes, top='answer_to = "self"')
    with (Client("rfc6455", worker.address, "/self") as anna, Client("hixie-75", worker.address, "/all") as ben,
          Client("hixie-76", worker.address, "/all") as kei, Client("hybi-08", worker.address, "/nobody") as lee):
        for text in ("hush", "hello", "to nobody", "by name", "last"):
            anna.send(text)
        assert [anna.receive() for _ in range(3)] == ["HELLO", "by name", "LAST"]
        ben.send("everybody")
        assert ben.receive() == kei.receive() == "EVERYBODY"
        lee.send("goes nowhere")
        lee.send("by name")
        assert lee.receive() == "by name"


def test_the_gateway_of_the_benchmark_answers_with_what_the_app_said(workers, script):
    script.on("message", lambda hook: (hook.body, {}))
    address = ("127.0.0.1", free_port())
    worker = workers.start("serve", "--config", BENCH / "gateway.toml", "--threads", "1", "--listen", "%s:%d" % address,
                           "--app", script.url, address=address)
    with Client("rfc6455", worker.address) as client:
        client.send("echo")
        assert client.receive() == "echo"
