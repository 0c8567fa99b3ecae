"""The service of 2010, as its apps know it: the shipped module and demo app, and what goes over the wire."""

import base64
import importlib
import re
import sys

import pytest

from apps import Script
from control import Control
from support import DEPLOY, free_port, running, wait_for
from wire import VERSIONS, Client, Refused

PYTHON = DEPLOY / "apps" / "python"
TOKEN = "a-token-for-tests-0123456789"


@pytest.fixture
def token(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


@pytest.fixture(params=["unix", "tcp"])
def control(request, tmp_path, token):
    """Where the control API will listen: its lines in the file, and what the app's environment says of it."""
    if request.param == "unix":
        return f'listen = "unix:{tmp_path}/control.sock"', {"WS_CONTROL": f"unix:{tmp_path}/control.sock"}
    port = free_port()
    return (f'listen = "127.0.0.1:{port}"\ntoken_file = "{token}"',
            {"WS_CONTROL": f"http://127.0.0.1:{port}", "WS_TOKEN_FILE": str(token)})


def start(workers, url, control, more="", **options):
    return workers.serve(f'[[route]]\npath = "/"\napp = "{url}"\ndialect = "typhoonae"\n{more}', control=control, **options)


def path_of(user):
    return "/" + base64.urlsafe_b64encode(user.encode()).decode()


# -- the demo app

@pytest.fixture
def demo_app(control):
    port = free_port()
    with running([sys.executable, PYTHON / "demo.py", port], ("127.0.0.1", port), env=control[1], name="demo.py") as app:
        app.url = f"http://127.0.0.1:{port}"
        yield app


@pytest.mark.parametrize("version", VERSIONS)
def test_the_demo_of_the_guide_works(workers, demo_app, control, version):
    worker = start(workers, demo_app.url, control[0])
    yuki = Client(version, worker.address, path_of("雪"))
    assert yuki.receive() == "Received handshake."
    yuki.send("こんにちは\r\n--ws-worker-00000000--")
    assert yuki.receive() == 'Received: "こんにちは\r\n--ws-worker-00000000--"'
    anna = Client("rfc6455", worker.address, path_of("Anna"))
    assert anna.receive() == "Received handshake."
    anna.close()
    assert yuki.receive() == "Anna has left the building"
    yuki.leave()
    assert demo_app.lives() and "Traceback" not in demo_app.log


def test_the_demos_page_names_the_socket(demo_app):
    from urllib.request import urlopen
    page = urlopen(f"{demo_app.url}/?user=Anna").read().decode()
    assert f"ws://localhost:8888{path_of('Anna')}" in page


def test_sockets_of_many_clients_hear_who_leaves(workers, demo_app, control):
    worker = start(workers, demo_app.url, control[0], 'server_name = "www.example.org"', top="threads = 2")
    clients = [Client(version, worker.address, path_of(version)) for version in VERSIONS]
    assert [client.receive() for client in clients] == ["Received handshake."] * 5
    clients[0].leave()
    assert [client.receive() for client in clients[1:]] == ["hixie-75 has left the building"] * 4


# -- over the wire

class Forms(Script):
    """An app that takes the forms apart by Flask's parser."""

    def serve(self, request):
        from werkzeug.formparser import parse_form_data
        length = int(request.headers["content-length"])
        environ = {"wsgi.input": request.rfile, "CONTENT_LENGTH": str(length), "REQUEST_METHOD": "POST",
                   "CONTENT_TYPE": request.headers["content-type"]}
        _, form, files = parse_form_data(environ)
        assert not files
        hook = {"path": request.path, "form": dict(form), "headers": {k.lower(): v for k, v in request.headers.items()}}
        with self.lock:
            self.hooks.append(hook)
        request.send_response(200)
        request.send_header("Content-Length", "4")
        request.end_headers()
        request.wfile.write(b"news")  # Goes nowhere.


@pytest.fixture
def forms():
    app = Forms()
    app.url = app.url.removesuffix("/ws")
    yield app
    app.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_event_has_its_url_and_a_form(workers, forms, tmp_path, version):
    worker = start(workers, forms.url, f'listen = "unix:{tmp_path}/c.sock"', 'server_name = "www.example.org"')
    with Client(version, worker.address, "/foo/%E3%81%82?x=1&y=%20", origin="http://example.org") as client:
        client.send("あ😀")
        wait_for(lambda: len(forms.hooks) >= 2, "the message")
        client.close()
    wait_for(lambda: len(forms.hooks) == 3, "the closed hook")
    assert [hook["path"] for hook in forms.hooks] == [
        f"/_ah/websocket/{event}/foo/%E3%81%82?x=1&y=%20" for event in ("handshake", "message", "closed")]
    assert [hook["form"]["body"] for hook in forms.hooks] == ["", "あ😀", ""]
    (id,) = {hook["form"]["from"] for hook in forms.hooks}
    for hook in forms.hooks:
        assert hook["headers"]["x-typhoonae-websocket"] == id and re.fullmatch(r"[\w-]{32}", id)
        assert hook["headers"]["websocket-origin"] == "http://example.org"
        assert hook["headers"]["x-typhoonae-servername"] == "www.example.org"


def test_only_a_2xx_accepts(workers, scripts, tmp_path):
    app = scripts().on("handshake", ("no", {}, 403))
    with pytest.raises(Refused) as refused:
        Client("rfc6455", start(workers, app.url, "").address)
    assert (refused.value.status, refused.value.answer.body) == (403, b"no")
    assert app.hooks[0].path == "/ws/_ah/websocket/handshake/"


def test_the_calls_of_old_answer_honestly(workers, forms, tmp_path):
    routes = f'''server_name = "www.example.org"
[[route]]
path = "/other"
app = "{forms.url}"
dialect = "typhoonae"
server_name = "b.example"'''
    worker = start(workers, forms.url, f'listen = "unix:{tmp_path}/c.sock"', routes)
    worker.wait_until_listening(f"{tmp_path}/c.sock")
    control = Control(f"{tmp_path}/c.sock")
    with Client("rfc6455", worker.address, "/a") as one, Client("hixie-75", worker.address, "/other") as other:
        wait_for(lambda: len(control.ids()) == 2, "both sockets")
        (id,) = (entry["id"] for entry in control.sockets() if entry["route"] == "/")

        def call(path, name, value, body="x", headers=()):
            return control.call("POST", path, body, [(name, value), *headers])
        assert call("/message", "X-TyphoonAE-WebSocket", id, "あ").status == 200 and one.receive() == "あ"
        both = [("X-TyphoonAE-ServerName", "www.example.org"), ("Content-Type", "text/plain; charset=utf-8")]  # As the old library did.
        assert call("/message", "X-TyphoonAE-WebSocket", id, "い", both).status == 200 and one.receive() == "い"
        assert call("/message", "x-typhoonae-websocket", id[::-1]).status == 404
        assert call("/message", "X-TyphoonAE-WebSocket", "").status == 400
        assert call("/message", "X-Other", "x").status == 400
        assert call("/message", "X-TyphoonAE-WebSocket", id, b"\xff").status == 400
        assert control.call("GET", "/message").status == 405
        name = "X-TyphoonAE-ServerName"
        assert call("/broadcast", name, "b.example:8888", "to b").status == 200 and other.receive() == "to b"
        assert call("/broadcast", name, "WWW.example.org", "to www").status == 200 and one.receive() == "to www"
        assert call("/broadcast", name, "c.example").status == 404
        assert call("/broadcast", name, "").status == 400
        assert control.call("POST", "/broadcast", "all").status == 200
        assert one.receive() == other.receive() == "all"


def test_the_calls_of_old_want_the_token_too(workers, forms, token):
    port = free_port()
    worker = start(workers, forms.url, f'listen = "127.0.0.1:{port}"\ntoken_file = "{token}"')
    worker.wait_until_listening(("127.0.0.1", port))
    stranger = Control(("127.0.0.1", port))
    for path in ("/message", "/broadcast"):
        assert stranger.call("POST", path, "x", [("X-TyphoonAE-WebSocket", "a" * 32)]).status == 401


# -- the module alone

@pytest.fixture
def websocket(monkeypatch):
    monkeypatch.syspath_prepend(str(PYTHON))
    for name in ("WS_PUBLIC_URL", "SERVER_NAME", "WS_CONTROL", "WS_TOKEN_FILE", "WS_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield importlib.import_module("typhoonae.websocket")
    for name in [name for name in sys.modules if name.startswith("typhoonae")]:
        del sys.modules[name]


@pytest.mark.parametrize("path, expected", [
    ("", ""), ("/", ""), ("/foo", "foo"), ("foo", "foo"), ("/foo/bar", "foo/bar"), ("/foo?a=b&c=%20", "foo?a=b&c=%20"),
    ("/あ b", "%E3%81%82%20b"), ("/a#b", "a%23b"), ("/a\r\nb", "a%0D%0Ab"), ("/a..b", "a..b")])
def test_urls_are_made_as_before(websocket, monkeypatch, path, expected):
    assert websocket.create_websocket_url(path) == f"ws://localhost:8888/{expected}"
    monkeypatch.setenv("SERVER_NAME", "app.example")
    assert websocket.create_websocket_url(path) == f"ws://app.example:8888/{expected}"
    monkeypatch.setenv("WS_PUBLIC_URL", "wss://www.example.org/ws")
    assert websocket.create_websocket_url(path) == f"wss://www.example.org/ws/{expected}"
    assert websocket.create_websocket_url() == "wss://www.example.org/ws/"


def test_what_cannot_be_meant_is_refused(websocket):
    for path in ("/..", "/a/../b", "/%2e%2e/b", "./a", None, 7):
        with pytest.raises(websocket.BadArgumentError):
            websocket.create_websocket_url(path)
    for sockets in ([], "", None, 7, [7], [""], ["a\r\nX: y"], {"a": 1}):
        with pytest.raises(websocket.BadArgumentError):
            websocket.send_message(sockets, "x")
    for body in (None, 7, ["x"], "\ud800"):
        with pytest.raises(websocket.BadArgumentError):
            websocket.broadcast_message(body)
    for post in ({}, {"body": "x"}, {"from": []}):
        with pytest.raises(websocket.BadArgumentError):
            websocket.Message(post)
    message = websocket.Message({"from": "id", "body": ["text"]})
    assert (message.socket, message.body) == ("id", "text")


def test_the_module_says_whom_it_did_not_reach(workers, forms, websocket, monkeypatch, control):
    for name, value in control[1].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(websocket.Error):
        websocket.broadcast_message("nobody listens")
    worker = start(workers, forms.url, control[0], 'server_name = "www.example.org"')
    with Client("rfc6455", worker.address) as new, Client("hixie-76", worker.address) as old:
        one, two = (wait_for(lambda: len(forms.hooks) >= 2 and forms.hooks, "handshakes")[n]["form"]["from"] for n in (0, 1))
        assert websocket.send_message([one, "gone", two], "あ") == ["gone"]
        assert new.receive() == old.receive() == "あ"
        assert websocket.send_message(one, b"\x00\xff") == [] and new.receive() == b"\x00\xff"
        assert websocket.send_message([two], b"\x00\xff") == [two]
        monkeypatch.setenv("WS_SERVER_NAME", "www.example.org")
        websocket.broadcast_message("all")
        assert new.receive() == old.receive() == "all"
        monkeypatch.setenv("WS_SERVER_NAME", "elsewhere.example")
        with pytest.raises(websocket.Error):
            websocket.broadcast_message("nobody")
