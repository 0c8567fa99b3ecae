"""The apps of deploy/apps, run as their own words say: one chat five times, and the rooms, in a browser too."""

import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

import pages
from support import DEPLOY, WORKER, expect_free, free_port, running
from webdriver import chromium
from wire import VERSIONS, Client, Closed, Refused

APPS = DEPLOY / "apps"
README = DEPLOY / "README.md"


@pytest.fixture
def path(tmp_path):
    """A search path on which `ws-worker`, `flask` and `python3` are those under test."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ws-worker").symlink_to(WORKER)
    return {"PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


# -- the chats that people start from

CHATS = ["flask/chat.py", "django/chat.py", "node/chat.js", "php/chat.php", "ruby/config.ru"]


def first_words(app):
    """The worker's flag and the app's command, from the app's own first comment."""
    return re.search(r"`ws-worker serve --app (\S+)`:\s+(.+)$", app.read_text(), re.M).groups()


@pytest.mark.parametrize("app", CHATS)
def test_a_chat_works_as_its_first_words_say(workers, path, app):
    app = APPS / app
    url, command = (text.strip('"').replace("8080", str(port)) for port in [free_port()] for text in first_words(app))
    port = urllib.parse.urlsplit(url).port
    with running(["bash", "-c", f"exec env {command}"], ("127.0.0.1", port), cwd=app.parent, env=path, name=str(app.relative_to(APPS))):
        address = ("127.0.0.1", free_port())
        workers.start("serve", "--listen", "%s:%d" % address, "--app", url, address=address)
        clients = [Client(version, address, "/room") for version in VERSIONS]
        clients[0].send("皆さん、こんにちは")
        assert [client.receive() for client in clients] == ["皆さん、こんにちは"] * 5
        clients[2].send(b"\x00\xff")
        assert [client.receive() for client in clients[2:]] == [b"\x00\xff"] * 3
        for client in clients:
            client.close()


def test_every_app_is_named_in_the_page_and_tested():
    page = README.read_text()
    found = {str(file.relative_to(APPS)) for file in APPS.glob("*/*") if file.name in ("config.ru", "rooms.py") or "chat" in file.stem}
    assert found == {*CHATS, "rooms/rooms.py"}
    assert all(f"(apps/{app})" in page for app in found)


def test_without_its_exemption_djangos_protection_refuses_hooks(workers, path, tmp_path):
    source = (APPS / "django" / "chat.py").read_text()
    (tmp_path / "chat.py").write_text(source.replace("@csrf_exempt\n", ""))
    assert "@csrf_exempt\n" in source
    port = free_port()
    with running(["python3", "chat.py", "runserver", str(port)], ("127.0.0.1", port), cwd=tmp_path, env=path):
        worker = workers.serve(f'[[route]]\npath = "/"\napp = "http://127.0.0.1:{port}/ws"')
        with pytest.raises(Refused) as refused:
            Client("rfc6455", worker.address)
        assert refused.value.status == 403 and b"CSRF" in refused.value.answer.body


# -- the rooms

class Rooms:
    """The rooms as the page on them starts them, in a copy of their folder."""

    page, worker = "http://localhost:8080", ("127.0.0.1", 9000)

    def __init__(self, folder, env):
        self.folder, self.env = folder, env
        go, *start = pages.block(README, "Rooms", "sh").splitlines()
        assert go == "cd deploy/apps/rooms"
        self.script = "\n".join(start)

    @contextmanager
    def run(self):
        with running(["bash", "-ec", self.script + "\nwait"], self.worker, cwd=self.folder, env=self.env, name="rooms") as process:
            process.polite = False  # Killed all at once: the worker would drain, and call the next test's app.
            process.wait_until_listening(("127.0.0.1", 8080))
            yield process

    def cookie(self, user):
        """Logs in, and returns the session's cookie."""
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None
        data = urllib.parse.urlencode({"user": user}).encode()
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(Stay).open(f"{self.page}/login", data, timeout=10)
        assert answer.value.code == 302
        return answer.value.headers["Set-Cookie"].partition(";")[0]

    def enter(self, user, room, version="rfc6455", origin=page):
        return Client(version, self.worker, f"/rooms/{room}", origin=origin, headers=[("Cookie", self.cookie(user))])

    def news(self):
        (command,) = pages.block(README, "Rooms", "sh", 1).splitlines()
        with running(["bash", "-c", command], cwd=self.folder, env=self.env, name="news.py") as process:
            assert process.child.wait(10) == 0, process.log
            process.reader.join(5)
            return process.log


@pytest.fixture
def rooms(tmp_path, path):
    for port in (8080, 9000):
        expect_free(port)
    folder = tmp_path / "rooms"
    shutil.copytree(APPS / "rooms", folder, ignore=shutil.ignore_patterns("hook.secret", "rooms.db*", "control.sock", "__pycache__"))
    rooms = Rooms(folder, path)
    with rooms.run() as process:
        rooms.process = process
        yield rooms
        assert "Traceback" not in process.log and "panicked" not in process.log


def hears(client):
    text = client.receive()
    assert isinstance(text, str), text
    return json.loads(text)


def sees(client, users):
    """Reads on until the newest list is this one; lists may overtake each other, their numbers tell."""
    newest = {"number": 0, "users": None}
    while newest["users"] != users:
        newest = max(newest, hears(client), key=lambda it: it.get("number", 0))


def test_only_who_is_logged_in_comes_in_and_only_from_our_page(rooms):
    for headers, origin, status in [([], rooms.page, 401), ([("Cookie", "session=forged")], rooms.page, 401),
                                    ([("Cookie", rooms.cookie("Anna"))], "http://elsewhere.example", 403)]:
        with pytest.raises(Refused) as refused:
            Client("rfc6455", rooms.worker, "/rooms/red", origin=origin, headers=headers)
        assert refused.value.status == status
    with pytest.raises(Refused) as refused:
        rooms.enter("Anna", "green")
    assert refused.value.status == 404


def test_nobody_else_calls_the_hook(rooms):
    for headers in [{}, {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}, {"webhook-signature": "v1,ü"}]:
        request = urllib.request.Request(f"{rooms.page}/hook/red", b"", {"Ws-Event": "closed", "Ws-Socket": "x", "Ws-Boot": "x", **headers})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403


def test_groups_are_rooms_and_closed_tells_who_is_gone(rooms):
    anna, yuki = rooms.enter("Anna", "red"), rooms.enter("雪", "red", "hixie-76")
    ben = rooms.enter("Ben", "blue", "hixie-75")
    sees(anna, ["Anna", "雪"])
    sees(yuki, ["Anna", "雪"])
    sees(ben, ["Ben"])
    anna.send("<b>こんにちは</b>")
    said = {"kind": "said", "user": "Anna", "text": "<b>こんにちは</b>"}
    assert hears(anna) == hears(yuki) == said
    second = rooms.enter("雪", "red")  # Another tab of the same person.
    sees(anna, ["Anna", "雪"])
    yuki.abort()
    sees(anna, ["Anna", "雪"])
    second.close()
    sees(anna, ["Anna"])
    ben.send("still here")
    assert hears(ben) == {"kind": "said", "user": "Ben", "text": "still here"}
    anna.close()
    ben.close()


def test_news_come_from_outside(rooms):
    anna, ben = rooms.enter("Anna", "red"), rooms.enter("Ben", "blue")
    sees(anna, ["Anna"])
    sees(ben, ["Ben"])
    assert rooms.news() == "1 in red will read it"
    assert hears(anna) == {"kind": "news", "text": "Ten minutes are over"}
    ben.send("nothing came")
    assert hears(ben)["text"] == "nothing came"
    anna.close()
    ben.close()


def test_who_logs_out_is_shown_the_door_in_all_tabs(rooms):
    cookie = rooms.cookie("Anna")
    tabs = [Client("rfc6455", rooms.worker, f"/rooms/{room}", origin=rooms.page, headers=[("Cookie", cookie)]) for room in ("red", "blue")]
    for tab in tabs:
        sees(tab, ["Anna"])
    urllib.request.urlopen(urllib.request.Request(f"{rooms.page}/logout", b"", {"Cookie": cookie}), timeout=10).close()
    assert [tab.receive() for tab in tabs] == [Closed(4001, "logged out", True)] * 2


def test_after_a_crash_nobody_is_left_in_the_list(rooms):
    anna = rooms.enter("Anna", "red")
    sees(anna, ["Anna"])
    rooms.process.stop()  # Nobody hears of a closed.
    with rooms.run():
        ben = rooms.enter("Ben", "red")
        sees(ben, ["Ben"])
        ben.close()


def test_the_rooms_in_a_browser(rooms, tmp_path, out):
    with chromium(tmp_path / "profile") as browser:
        browser.open(rooms.page)
        browser.type("input[name=user]", "雪")
        browser.click("button")
        browser.wait_for_text("#state", "in red")
        browser.wait_for_text("#present", "雪")
        anna = rooms.enter("Anna", "red")
        browser.wait_for_text("#present", "Anna")
        browser.type("#say", "皆さん、こんにちは <b>!</b>")
        browser.click("#form button")
        browser.wait_for_text("#log", "雪: 皆さん、こんにちは <b>!</b>")
        anna.send("今日は、雪さん")
        browser.wait_for_text("#log", "Anna: 今日は、雪さん")
        assert rooms.news() == "2 in red will read it"
        browser.wait_for_text("#log", "Ten minutes are over")
        browser.screenshot(out / "rooms.png")
        anna.close()
        browser.wait_for_text("#present", lambda text: "Anna" not in text)
        browser.click("#room-blue")
        browser.wait_for_text("#state", "in blue")
        browser.wait_for_text("#present", "雪")
        # The session ends in another tab; this one notices at once.
        first = browser.window()
        browser.new_window()
        browser.open(rooms.page)
        browser.wait_for_text("#state", "in red")
        browser.click("#logout")
        browser.turn_to(first)
        browser.wait_for_text("#state", "logged out")
