"""A real browser. The demo page: two tabs that chat, an echo, binary, what the page says about itself, and leaving. And the page and
the script of deploy/browser through Apache with TLS: leaving and coming back, restarts, a line that is dead."""

import json
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

import proxies
from support import DEPLOY, expect_free, wait_for
from webdriver import chromium
from wire import Client


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(browser, demo):
    """The demo page, open and connected."""
    browser.open("http://%s:%d/" % demo.address)
    browser.wait_for_text("#state", "open")
    yield browser
    browser.open("about:blank")


def test_the_page_says_what_it_speaks(page):
    assert page.wait_for_text("#version", "rfc6455")
    assert float(re.search(r"[\d.]+", page.wait_for_text("#ping", lambda text: re.search(r"\d", text))).group()) < 1000


def test_two_tabs_chat(page, demo, out):
    first = page.window()
    second = page.new_window()
    page.open("http://%s:%d/" % demo.address)
    page.wait_for_text("#state", "open")
    page.type("#text", "こんにちは、世界")
    page.click("#send")
    page.wait_for_text("#log", "こんにちは、世界")
    page.turn_to(first)
    page.wait_for_text("#log", "こんにちは、世界")
    # WebDriver types what a keyboard can; an emoji is set as a paste would.
    page.run("document.querySelector('#text').value = arguments[0]", "返事です 😀👋🏽")
    page.click("#send")
    page.wait_for_text("#log", "返事です 😀👋🏽")
    page.screenshot(out / "demo.png")
    page.turn_to(second)
    page.wait_for_text("#log", "返事です 😀👋🏽")
    page.close_window()
    page.turn_to(first)


def test_old_and_new_clients_chat_with_the_page(page, demo):
    old = Client("hixie-76", demo.address, "/chat")
    old.send("2010年より")
    page.wait_for_text("#log", "2010年より")
    page.type("#text", "今日から")
    page.click("#send")
    assert old.receive() == "2010年より"
    assert "今日から" in old.receive()
    old.close()


def test_the_echo_comes_back(page):
    page.type("#echo-text", "やまびこ")
    page.click("#echo-send")
    page.wait_for_text("#echo-out", "やまびこ")


def test_binary_comes_back(page):
    before = page.text("#binary-out")
    page.click("#binary-send")
    assert page.wait_for_text("#binary-out", lambda text: text != before)


def test_what_a_person_says_is_text_and_not_markup(page):
    page.run("window.harmed = false; document.querySelector('#text').value = arguments[0]",
             "<img src=x onerror='window.harmed = true'><b>bold</b>")
    page.click("#send")
    page.wait_for_text("#log", "<b>bold</b>")
    assert page.run("return window.harmed") is False


def test_a_page_that_is_left_is_gone_at_once(page, demo):
    # Told by the log, not by counting descriptors: the browser may open a connection in advance and leave it idle.
    closed = lambda: [line for line in list(demo.lines) if json.loads(line)["message"] == "closed"]
    page.new_window()
    page.open("http://%s:%d/" % demo.address)
    page.wait_for_text("#state", "open")
    assert closed() == []
    page.open("about:blank")
    gone = wait_for(lambda: len(closed()) >= 3 and closed(), "the worker to see the page leave")
    assert {json.loads(line)["route"] for line in gone} == {"/chat", "/echo", "/version"}
    page.close_window()
    page.turn_to(page.call("GET", "/window/handles")[0])


def test_the_page_reports_a_worker_that_went(browser, workers):
    worker = workers.demo("--drain", "1s")
    browser.open("http://%s:%d/" % worker.address)
    browser.wait_for_text("#state", "open")
    assert worker.terminate() == 0
    browser.wait_for_text("#state", lambda state: state != "open")


# -- deploy/browser, through Apache with TLS and HTTP/2

ROUTES = """
trusted_proxies = ["127.0.0.1"]
heartbeat_text = { receive = "Heartbeat", answer = "Heartbeat" }

[[route]]
path = "/ws/chat"
app = "%s"
"""


@pytest.fixture
def site():
    """The folder that Apache publishes: the shipped page and script, and an empty page to go to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for file in (DEPLOY / "browser").iterdir():
            shutil.copy(file, folder)
        (Path(folder) / "elsewhere.html").write_text("<!doctype html><title>elsewhere</title><p>elsewhere")
        yield Path(folder)


@pytest.fixture
def script(scripts):
    """An app that gives everybody what one says."""
    return scripts().on("message", lambda hook: (hook.body, {"Ws-To": "all"}))


@pytest.fixture
def start(workers, script):
    expect_free(9000)
    return lambda: workers.serve(ROUTES % script.url, address=("127.0.0.1", 9000))


@pytest.fixture
def apache(start, site, tmp_path):
    start()
    mime = 'AddType "text/html;charset=utf-8" .html\nAddType text/javascript .js\n'
    change = lambda text: text.replace("/var/www/html", str(site)) + (
        f'<Directory {site}>\n  Require all granted\n</Directory>\n'
        f'LogFormat "%H %m %U %>s" ways\nCustomLog {tmp_path}/access.log ways\n')
    with proxies.front(proxies.named("apache-tls"), tmp_path, change=change, around=mime) as front:
        yield front


@pytest.fixture
def home(apache):
    return "https://127.0.0.1:%d/" % apache.address[1]


@pytest.fixture
def chat(browser, home):
    """The shipped page, open and connected."""
    browser.open(home + "chat.html")
    browser.wait_for_text("#state", "接続しました")
    yield browser
    browser.open("about:blank")


def say(browser, text):
    browser.run("document.querySelector('#text').value = arguments[0]", text)
    browser.click("button")


def test_two_windows_chat_through_apache_with_tls(chat, home, script, apache):
    """Text goes as it is: what the app gets is the UTF-8 of what was typed, and no percent sign is in it."""
    first, second = chat.window(), chat.new_window()
    chat.open(home + "chat.html")
    chat.wait_for_text("#state", "接続しました")
    said = ["こんにちは、世界", "絵文字も 😀👋🏽🏳️‍🌈", "100% & <b>ok</b> あ"]
    for number, text in enumerate(said):
        chat.turn_to([first, second][number % 2])
        say(chat, text)
        for window in (first, second):
            chat.turn_to(window)
            chat.wait_for_text("#log", text)
    assert [hook.body for hook in script.wait("message", 3)] == [text.encode() for text in said]
    assert all(hook["ws-version"] == "rfc6455" and hook["ws-location"] == home.replace("https", "wss") + "ws/chat"
               for hook in script.of("handshake"))
    # The page came by HTTP/2, and the sockets inside of that connection (RFC 8441). A line is written when they end.
    assert chat.run("return performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    chat.close_window()
    chat.turn_to(first)
    chat.open("about:blank")
    log = Path(apache.folder) / "access.log"
    wait_for(lambda: [line for line in log.read_text().splitlines() if "/ws/chat" in line] == ["HTTP/2.0 GET /ws/chat 101"] * 2,
             f"two sockets inside HTTP/2 in the log, which says {log.read_text()!r}")


def test_the_picture_of_two_windows(chat, home, keep):
    first, second = chat.window(), chat.new_window()
    chat.open(home + "chat.html")
    windows = [first, second]
    for window in windows:
        chat.turn_to(window)
        chat.size(460, 420)
        chat.theme("light")
        chat.wait_for_text("#state", "接続しました")
    for number, text in enumerate(["こんにちは、世界", "絵文字も 😀👋🏽🏳️‍🌈", "それぞれ別の窓から", "Apache, TLS, HTTP/2"]):
        chat.turn_to(windows[number % 2])
        say(chat, text)
        for window in windows:
            chat.turn_to(window)
            chat.wait_for_text("#log", text)
    pictures = []
    for window in windows:
        chat.turn_to(window)
        pictures.append(chat.png())
    keep(DEPLOY / "browser" / "chat.png", *pictures)
    chat.close_window()
    chat.turn_to(first)
    chat.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})


def test_plain_websocket_needs_no_script(chat, home, script):
    assert chat.run("""
        window.heard = [];
        window.plain = new WebSocket(arguments[0]);
        plain.onopen = () => plain.send("そのまま 😀");
        plain.onmessage = (event) => heard.push(event.data);
        return typeof plain.send""", home.replace("https", "wss") + "ws/chat") == "function"
    wait_for(lambda: chat.run("return heard") == ["そのまま 😀"], "the echo")
    assert script.wait("message")[0].text == "そのまま 😀"


def test_the_script_has_all_that_websocket_has(chat):
    assert chat.run("""
        const names = (object) => Object.getOwnPropertyNames(object).filter((name) => !["arguments", "caller"].includes(name));
        const missing = names(WebSocket.prototype).filter((name) => !(name in LastingWebSocket.prototype));
        return missing.concat(names(WebSocket).filter((name) => !(name in LastingWebSocket)))""") == []
    assert chat.run("""
        const value = (name) => [socket[name], LastingWebSocket[name], WebSocket[name]];
        return [value("CONNECTING"), value("OPEN"), value("CLOSING"), value("CLOSED"), socket.readyState, socket.binaryType,
                socket.bufferedAmount, socket.protocol, typeof socket.onopen, socket.onerror, socket instanceof EventTarget]""") == [
        [0] * 3, [1] * 3, [2] * 3, [3] * 3, 1, "blob", 0, "", "function", None, True]
    assert chat.run("""
        const error = (act) => { try { act(); return ""; } catch (error) { return error.name; } };
        const opening = new LastingWebSocket("/ws/chat");
        const errors = [error(() => opening.send("x")), error(() => opening.close(1)), error(() => new LastingWebSocket("ftp://x")),
                        error(() => new LastingWebSocket("/", ["a", "a"]))];
        window.ends = [];
        opening.addEventListener("close", (event) => ends.push([event.code, opening.readyState]));
        opening.close();
        return [...errors, opening.readyState]""") == ["InvalidStateError", "InvalidAccessError", "SyntaxError", "SyntaxError", 2]
    wait_for(lambda: chat.run("return ends") == [[1006, 3]], "the end of what never opened")


def test_leaving_the_page_closes_at_once(chat, script):
    chat.open("about:blank")
    (hook,) = script.wait("closed")
    assert (hook["ws-closed-by"], hook["ws-clean"]) == ("client", "1")


def test_the_back_button_opens_again_what_leaving_closed(chat, home, script):
    chat.run("window.stayed = 'yes'; addEventListener('pageshow', (event) => { window.kept = event.persisted; })")
    chat.open(home + "elsewhere.html")
    script.wait("closed")
    chat.call("POST", "/back")
    wait_for(lambda: chat.run("return window.stayed"), "the page of before, from the back/forward cache")
    assert chat.run("return window.kept") is True
    script.wait("handshake", 2)
    chat.wait_for_text("#state", "接続しました")
    say(chat, "ただいま")
    chat.wait_for_text("#log", "ただいま")


def test_a_restarted_worker_is_found_again_with_growing_pauses_of_random_length(chat, workers, start, script):
    chat.run("""
        window.tries = [];
        const Native = WebSocket;
        window.WebSocket = class extends Native {
          constructor(...all) { super(...all); tries.push(performance.now()); this.addEventListener("close", () => tries.push(performance.now())); }
        };
        WebSocket.prototype.send = Native.prototype.send;""")
    (worker,) = workers.started
    worker.child.kill()
    worker.child.wait()  # Its port is free for the next one.
    chat.wait_for_text("#state", "再接続します")
    assert chat.run("return socket.readyState") == 0
    wait_for(lambda: chat.run("return tries.length") >= 6, "three tries")
    start()
    chat.wait_for_text("#state", "接続しました")
    tries = chat.run("return tries")
    # From the end of one try to the beginning of the next; the first pause began before we looked.
    pauses = [began - ended for ended, began in zip(tries[1::2], tries[2::2])]
    for number, pause in enumerate(pauses, 1):
        longest = 500 * 2 ** number
        assert longest / 2 - 5 <= pause < longest + 500, pauses
    say(chat, "まだここに")
    chat.wait_for_text("#log", "まだここに")
    assert script.wait("handshake", 2)


def test_a_dead_line_is_noticed_and_the_answer_to_the_heartbeat_is_not_seen(chat, apache, script):
    chat.run("""
        window.told = [];
        window.line = new LastingWebSocket("/ws/chat", [], { heartbeat: "Heartbeat", every: 200, patience: 1000 });
        line.onopen = () => told.push("open");
        line.onmessage = (event) => told.push(event.data);
        line.onclose = (event) => told.push(event.reason);""")
    wait_for(lambda: chat.run("return told") == ["open"], "the line to open")
    chat.run("window.sent = 0; const send = WebSocket.prototype.send; WebSocket.prototype.send = function (data) { sent += 1; send.call(this, data); }")
    wait_for(lambda: chat.run("return sent") >= 5, "some heartbeats")
    assert chat.run("return told") == ["open"] and script.of("message") == []
    os.killpg(apache.process.pid, signal.SIGSTOP)  # No FIN, no RST, no byte.
    try:
        wait_for(lambda: "no heartbeat" in chat.run("return told"), "the page to notice", 5)
    finally:
        os.killpg(apache.process.pid, signal.SIGCONT)
    wait_for(lambda: chat.run("return told.at(-1)") == "open", "the line to open again")
    chat.run("line.send('生きている')")
    wait_for(lambda: chat.run("return told.at(-1)") == "生きている", "its echo")


def test_the_apps_own_close_is_final(chat, script):
    script.on("message", lambda hook: ("", {"Ws-Close": "4000 enough"}))
    chat.run("window.ended = []; socket.addEventListener('close', (event) => ended.push([event.code, event.reason, socket.readyState]))")
    say(chat, "x")
    wait_for(lambda: chat.run("return ended") == [[4000, "enough", 3]], "the end")
    assert chat.run("socket.send('into the void'); return socket.readyState") == 3
