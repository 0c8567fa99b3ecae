"""The status page in a real browser: what it shows, what hostile clients cannot make of it, who may see it, light and dark."""

import json

import pytest

from control import Control
from support import ROOT, wait_for
from test_control import TOKEN, start
from webdriver import chromium
from wire import VERSIONS, Client, Refused

ROUTES = """
[[route]]
path = "/echo"
handler = "echo"
"""
HOSTILE = "/echo/<script>window.harmed=1</script><img/src=x/onerror=window.harmed=1>\"'&{{body}}"
ORIGIN = "http://<b>bold</b>\" onload='window.harmed=1' " + "x" * 8000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def worker(workers, tmp_path, script):
    worker = start(workers, tmp_path, tcp=True, routes=f'{ROUTES}\n[[route]]\npath = "/app"\napp = "{script.url}"\n')
    worker.page = "http://anybody:%s@%s:%d/" % (TOKEN, *worker.control.address)
    return worker


def test_the_page_shows_sockets_hooks_and_closes(browser, worker, script, out):
    clients = [Client(version, worker.address, "/echo") for version in VERSIONS]
    for client in clients:
        client.send("hello")
        client.receive()
    app = Client("rfc6455", worker.address, "/app/room?token=s3cr3t")
    app.send("to the app")
    script.wait("message")
    for code, reason in ((1000, "done"), (4001, "kicked")):
        Client("rfc6455", worker.address, "/echo/room").close(code, reason)
    Client("hybi-07", worker.address, "/echo").abort()
    with pytest.raises(Refused):
        Client("rfc6455", worker.address, "/nowhere")
    hostile = Client("rfc6455", worker.address, HOSTILE, origin=ORIGIN)
    hostile.close(4000, "<i>italic</i>")
    wait_for(lambda: len(worker.control.json("GET", "/status")["last"]) == 4, "four ends")
    browser.call("POST", "/window/rect", {"width": 1100, "height": 1250})
    browser.open(worker.page)
    browser.wait_for_text("#state", "ready")
    for version in VERSIONS:
        assert version in browser.text("#routes")
    assert "/app" in browser.text("#routes") and script.url in browser.text("#apps")
    last = browser.text("#last")
    for said in ("done", "kicked", "4001", "<i>italic</i>", "<script>window.harmed=1</script>", "/echo/room"):
        assert said in last, said
    assert "s3cr3t" not in browser.text("body") and "not-found" in browser.text("#refused")
    # What clients said is text: nothing of it became an element, and nothing ran.
    assert browser.run("return [document.querySelectorAll('script, img, i').length, window.harmed]") == [0, None]
    assert browser.run("return document.querySelectorAll('#last b').length") == 0
    # The style is allowed by its digest, or everything would be bare.
    assert browser.run("return getComputedStyle(document.querySelector('.cards')).display") == "grid"
    paper = set()
    for name in ("light", "dark"):
        browser.theme(name)
        paper.add(browser.run("return getComputedStyle(document.body).backgroundColor"))
        browser.screenshot(out / f"status-hostile-{name}.png")
    assert len(paper) == 2
    # No sideways scrolling of the page itself, however long an origin is.
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    app.close()


PICTURED = """
[[route]]
path = "/chat"
app = "%s"

[[route]]
path = "/news"
handler = "chat"
"""


def test_the_picture_of_the_page(browser, workers, tmp_path, script, keep):
    worker = start(workers, tmp_path, tcp=True, routes=PICTURED % script.url, top='worker = "web1"\nheartbeat = "50ms"')
    clients = [Client(version, worker.address, f"/{route}/{room}", origin="https://www.example.org")
               for version, route, room in [*((version, "news", "today") for version in VERSIONS), ("rfc6455", "chat", "red"),
                                            ("rfc6455", "chat", "blue"), ("hybi-08", "chat", "red"), ("rfc6455", "chat", "red")]]
    for client in clients:
        client.send("こんにちは")
    script.wait("message", 4)
    leavers = [("rfc6455", "/chat/red", 1001, ""), ("hybi-07", "/news/today", 1000, "done"), ("rfc6455", "/chat/blue", 4000, "kicked: flood"),
               ("rfc6455", "/news/today", 1001, "")]
    for number, (version, path, code, reason) in enumerate(leavers, 1):
        Client(version, worker.address, path, origin="https://www.example.org").close(code, reason)
        wait_for(lambda: len(worker.control.json("GET", "/status")["last"]) == number, "an end")
    Client("rfc6455", worker.address, "/chat/red", origin="https://www.example.org").abort()
    with pytest.raises(Refused):
        Client("rfc6455", worker.address, "/wp-login.php")
    wait_for(lambda: len(worker.control.json("GET", "/status")["last"]) == 5, "five ends")
    browser.size(1120, 1230)
    browser.open("http://anybody:%s@%s:%d/" % (TOKEN, *worker.control.address))
    browser.wait_for_text("#state", "ready")
    for name in ("light", "dark"):
        browser.theme(name)
        keep(ROOT / "ws-worker" / "docs" / "images" / f"status-{name}.png", browser.png())


def test_the_page_needs_no_script_and_loads_nothing(worker):
    answer = Control(worker.control.address, TOKEN).call("GET", "/")
    assert answer.status == 200 and answer.get("content-type") == "text/html; charset=utf-8"
    policy = answer.get("content-security-policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    body = answer.body.decode()
    assert "<script" not in body and "src=" not in body and "http-equiv=\"refresh\"" in body


def test_the_page_wants_the_token_and_nobody_else_may_send_one_there(worker):
    nobody = Control(worker.control.address)
    answer = nobody.call("GET", "/")
    assert answer.status == 401 and answer.get("www-authenticate").startswith("Basic ")
    with_token = lambda path, *fields: worker.control.call("GET", path, headers=fields).status
    assert with_token("/", ("Sec-Fetch-Site", "none")) == 200
    assert with_token("/", ("Sec-Fetch-Site", "cross-site")) == 403
    assert with_token("/", ("Sec-Fetch-Site", "none"), ("Origin", "null")) == 403
    assert with_token("/sockets", ("Sec-Fetch-Site", "none")) == 403
    # A browser remembers the password and would show it everywhere: only the page takes it.
    basic = ("Authorization", "Basic YTphLXRva2VuLWZvci10ZXN0cy0wMTIzNDU2Nzg5")
    assert nobody.call("GET", "/", headers=[basic]).status == 200
    assert nobody.call("GET", "/sockets", headers=[basic]).status == 401
    assert nobody.call("POST", "/drain", headers=[basic]).status == 401


def test_a_name_that_somebody_else_owns_is_no_way_to_a_worker_without_a_token(workers, tmp_path):
    """DNS rebinding: a page's own name comes to mean this machine, and what it asks for is of the same origin, so without Origin."""
    worker = start(workers, tmp_path, tcp=False)
    ask = lambda path, host, *fields: worker.control.call("GET", path, host=host, headers=fields).status
    browser = ("Accept-Language", "en")
    for path in ("/", "/sockets", "/status", "/metrics"):
        assert ask(path, "evil.example:9001", browser) == 403
        assert ask(path, "localhost:9001", browser) == 200
        assert ask(path, "worker.internal") == 200  # A program calls it as it likes.


def test_status_is_json(worker):
    with Client("hybi-08", worker.address, "/echo?token=s3cr3t") as client:
        client.send("x")
        client.receive()
        found = worker.control.json("GET", "/status")
        assert found["state"] == "ready" and found["sockets"]["now"] == 1
        (route,) = [route for route in found["routes"] if route["path"] == "/echo"]
        assert route["sockets"]["hybi-08"] == 1 and route["messages"]["received"] == 1
        assert "s3cr3t" not in json.dumps(found)


def test_drain_is_a_call(worker):
    client = Client("rfc6455", worker.address, "/echo")
    assert worker.control.call("POST", "/drain").status == 202
    assert client.receive().code == 1012
    assert worker.child.wait(20) == 0


def test_reload_is_a_call(worker, tmp_path):
    assert worker.control.json("POST", "/reload") == {"added": [], "removed": [], "at_next_start": [], "warnings": []}
    (config,) = tmp_path.glob("worker-*.toml")
    text = config.read_text()
    config.write_text(text + '\n[[route]]\npath = "/more"\nhandler = "echo"\n')
    assert worker.control.json("POST", "/reload")["added"] == ["/more"]
    Client("rfc6455", worker.address, "/more").close()
    config.write_text(text + "\nnonsense\n")
    answer = worker.control.call("POST", "/reload")
    assert answer.status == 409 and "nonsense" in json.loads(answer.body)["error"]
