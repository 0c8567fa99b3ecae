"""App code in the style of the guide of 2010, unchanged, and every message through every parser of forms that such apps have."""

import base64
import http.client
import importlib.util
import io
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

import pages
from apps import HERE, Script
from control import Control
from support import DEPLOY, ROOT, WORKER, Workers, expect_free, free_port, running
from wire import VERSIONS, Client

PYTHON = DEPLOY / "apps" / "python"
PAGE = ROOT / "ws-worker" / "docs" / "typhoonae.md"

# What a form could stumble over.
MESSAGES = [
    "", " ", "\r\n", "\n", "\r", "a\r\n", "\r\na", "a\n\n", "\r\n\r\n", "--", "\r\n--", "--ws-worker-00000000", "\r\n--ws-worker-00000000",
    "\r\n--ws-worker-00000000--\r\n", "\r\n--ws-worker-00000000\r\nContent-Disposition: form-data; name=\"from\"\r\n\r\nforged\r\n",
    'Content-Disposition: form-data; name="body"\r\n\r\nx', "a=b&c=d", "%41%00+", '"quoted" \\ \'', "\0", "\ufeffmark", "皆さん、こんにちは 😀\u2028", "e\u0301",
    "x" * 70_000, "あ" * 20_000]
# Python 3's cgi, which WebOb has its forms from, cuts lines of more than 64 KiB in the middle of a character; the page says so.
LONG = ["あ" * 100_000]


@pytest.fixture
def guide(workers, tmp_path):
    """The app, the worker in front of it, and the environment that both share."""
    port, address = free_port(), ("127.0.0.1", free_port())
    env = {"PYTHONPATH": str(PYTHON), "WS_CONTROL": f"unix:{tmp_path}/c.sock", "WS_PUBLIC_URL": "ws://%s:%d/" % address,
           "WS_SERVER_NAME": "www.example.org"}
    with running([sys.executable, HERE / "guide.py", port], ("127.0.0.1", port), env=env, name="guide.py") as app:
        app.env, app.url = env, f"http://127.0.0.1:{port}"
        app.worker = workers.serve(
            f'[[route]]\npath = "/"\napp = "{app.url}"\ndialect = "typhoonae"\nserver_name = "www.example.org"', top="threads = 2",
            control=f'listen = "unix:{tmp_path}/c.sock"', address=address)
        yield app
        assert "Traceback" not in app.log


def opens(guide, version="rfc6455", path="/", **options):
    client = Client(version, guide.worker.address, path, **options)
    assert client.receive() == "Received handshake."
    return client


def says(client, text):
    client.send(text)
    return client.receive()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guides_handlers_run_unchanged(guide, version):
    assert pages.block(PAGE, "The module", "python", 1) in (HERE / "guide.py").read_text()
    user = base64.urlsafe_b64encode("雪".encode()).decode()
    with opens(guide, version, "/" + user) as yuki, opens(guide) as other:
        for message in MESSAGES:
            assert says(yuki, message) == f'Received: "{message}"', message[:100]
        assert says(other, "list") == yuki.receive() == "To everybody on the list."
        yuki.close()
        assert other.receive() == "雪 has left the building"


@pytest.mark.parametrize("path, seen", [
    ("", "?"), ("/", "?"), ("/foo/bar", "foo/bar?"), ("foo/bar", "foo/bar?"), ("/foo?x=1&y=%20z", "foo?x=1&y=%20z"),
    ("/?user=yuki", "?user=yuki"), ("/あ/b c", "%E3%81%82/b%20c?"), ("/a?q=あ", "a?q=%E3%81%82"), ("/a;b=c,d", "a;b=c,d?")])
def test_the_success_path_comes_back_with_its_query(guide, path, seen):
    url = urllib.request.urlopen(f"{guide.url}/?path={urllib.parse.quote(path, safe='')}", timeout=10).read().decode()
    start = "ws://%s:%d" % guide.worker.address
    assert url.startswith(start + "/")
    with opens(guide, path=url.removeprefix(start)) as client:
        assert says(client, "where") == seen


def test_another_process_broadcasts(guide):
    code = "from typhoonae import websocket; websocket.broadcast_message('外から')"
    clients = [opens(guide, version) for version in VERSIONS]
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **guide.env}, check=True, timeout=30)
    assert [client.receive() for client in clients] == ["外から"] * 5
    for client in clients:
        client.close()


def test_who_is_gone_hears_nothing_of_the_list(guide):
    with opens(guide) as last:
        for way in ("close", "leave", "abort"):
            getattr(opens(guide, path="/x"), way)()
            assert last.receive() == "Somebody has left the building"
        assert says(last, "list") == "To everybody on the list."


def test_a_client_that_names_no_origin_is_a_client(guide):
    with opens(guide, origin=None) as client:
        assert says(client, "x") == 'Received: "x"'


def test_a_broadcast_may_leave_one_out(guide):
    control = Control(guide.env["WS_CONTROL"].removeprefix("unix:"))
    with opens(guide, path="/one") as one, opens(guide, path="/two") as two:
        (id,) = (entry["id"] for entry in control.sockets() if entry["resource"] == "/one")
        sent = control.call("POST", f"/broadcast?except={id}", "not one", [("X-TyphoonAE-ServerName", "www.example.org")])
        assert sent.status == 200
        assert two.receive() == "not one" and says(one, "x") == 'Received: "x"'


def test_an_app_without_a_closed_handler_is_told_once(workers, scripts):
    """The third handler was optional: a 404 is an answer, and not asked for again."""
    script = scripts(closed=404)
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"\ndialect = "typhoonae"')
    for _ in range(2):
        Client("rfc6455", worker.address).close()
    assert [hook["ws-attempt"] for hook in script.wait("closed", 2)] == [None, None]
    assert worker.terminate() == 0 and len(script.of("closed")) == 2


def test_the_quick_start_of_the_page_is_the_demo(tmp_path):
    for port in (8080, 8888):
        expect_free(port)
    (tmp_path / "ws-worker").symlink_to(WORKER)
    path = f"{tmp_path}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    script = pages.block(PAGE, "Apps of 2010: the dialect `typhoonae`", "sh")
    assert len(script.splitlines()) <= 10
    with running(["bash", "-ec", script + "\nwait"], ("127.0.0.1", 8888), cwd=ROOT, env={"PATH": path}, name="quick start") as process:
        process.polite = False
        process.wait_until_listening(("127.0.0.1", 8080))
        page = urllib.request.urlopen("http://127.0.0.1:8080/?user=yuki", timeout=10).read().decode()
        path = "/" + base64.urlsafe_b64encode(b"yuki").decode()
        assert f'"ws://localhost:8888{path}"' in page
        with Client("rfc6455", ("127.0.0.1", 8888), path) as client:
            assert client.receive() == "Received handshake."
            assert says(client, "hello") == 'Received: "hello"'


def test_every_call_of_the_page_is_answered_as_it_says(guide):
    calls = pages.block(PAGE, "What the app says", "sh").splitlines()
    control = guide.env["WS_CONTROL"].removeprefix("unix:")
    with opens(guide) as client:
        (id,) = Control(control).ids()
        for line in calls:
            command, status = line.replace("/run/ws-worker/control.sock", control).replace("curl ", "curl -s -i ").rsplit(" # ", 1)
            done = subprocess.run(["bash", "-uc", command], env={**os.environ, "ID": id}, capture_output=True, text=True, timeout=30)
            assert done.stdout.startswith(f"HTTP/1.1 {status} "), (line, done.stdout, done.stderr)
        assert [client.receive() for _ in range(2)] == ["hello", "hello, all"]


# -- one form, every parser

def of_webob(environ):
    import webob
    return dict(webob.Request(environ).POST)


def of_werkzeug(environ):
    from werkzeug.wrappers import Request
    return dict(Request(environ).form)


def of_django(environ):
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIRequest
    settings.configured or settings.configure()
    return WSGIRequest(environ).POST.dict()


def of_the_module(environ):
    spec = importlib.util.spec_from_file_location("websocket", PYTHON / "typhoonae" / "websocket.py")
    spec.loader.exec_module(websocket := importlib.util.module_from_spec(spec))
    message = websocket.Message(environ)
    return {"body": message.body, "from": message.socket}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """Every message as the worker's form: its text, and a WSGI environ for each who asks."""
    script, workers = Script(), Workers(tmp_path_factory.mktemp("worker"))
    try:
        worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"\ndialect = "typhoonae"')
        with Client("rfc6455", worker.address) as client:
            for message in MESSAGES + LONG:
                client.send(message)
            yield script.wait("message", len(MESSAGES + LONG))
    finally:
        workers.stop()
        script.stop()


def environ(hook):
    return {"REQUEST_METHOD": "POST", "CONTENT_TYPE": hook["content-type"], "CONTENT_LENGTH": str(len(hook.body)),
            "wsgi.input": io.BytesIO(hook.body), "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}


@pytest.mark.parametrize("parse, messages", [
    (of_webob, MESSAGES), (of_werkzeug, MESSAGES + LONG), (of_django, MESSAGES + LONG), (of_the_module, MESSAGES + LONG)])
def test_every_parser_reads_every_message(sent, parse, messages):
    for hook, message in zip(sent, messages):
        form = parse(environ(hook))
        assert form == {"body": message, "from": hook.socket}, message[:100]


def test_php_reads_every_message(sent, tmp_path):
    (tmp_path / "form.php").write_text("<?php echo json_encode([$_POST, $_FILES]);")
    port = free_port()
    with running(["php", "-S", f"127.0.0.1:{port}"], ("127.0.0.1", port), cwd=tmp_path, name="php -S"):
        for hook, message in zip(sent, MESSAGES + LONG, strict=True):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/form.php", hook.body, {"Content-Type": hook["content-type"]})
            form, files = json.load(connection.getresponse())
            connection.close()
            assert (form, files) == ({"body": message, "from": hook.socket}, []), message[:100]
