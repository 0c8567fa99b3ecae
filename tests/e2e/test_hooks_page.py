"""The page on hooks keeps its word: its apps, its checks of signatures and its curl lines are run as they stand there."""

import base64
import hmac
import http.client
import json
import re
import subprocess
import sys
import time

import flask
import pytest

import pages
from support import ROOT, expect_free, free_port, running
from wire import HYBI, VERSIONS, Client, Closed, Refused

HOOKS = ROOT / "ws-worker" / "docs" / "hooks.md"


def test_nothing_on_the_page_is_left_untested():
    # What stands in a worker's file is for the tests of what it is about.
    assert [(block.heading, block.language) for block in pages.blocks(HOOKS) if block.language != "toml"] == [
        ("The sequence", "text"), ("An event", "http"), ("An event", "http"), ("What it may answer", "php"),
        ("What it may answer", "python"), ("Who may call the app", "python"), ("Who may call the app", "php"),
        ("Who may call the app", "js"), ("By hand", "sh")]


def test_every_header_is_on_the_page(workers, scripts, tmp_path):
    """Whatever a hook carries, the page has a row for it."""
    secret = tmp_path / "secret"
    secret.write_text("x" * 32)
    named = {name.lower() for row in pages.prose(HOOKS).splitlines() if row.startswith("| `")
             for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    named |= {"host", "content-type", "content-length"}  # Of HTTP itself.
    script = scripts().on("handshake", lambda hook: ("", {"Ws-Protocol": "a", "Ws-Set-Meta-x": "1"}))
    script.on("message", lambda hook: 204 if hook["ws-attempt"] else 503)
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"\nsecret_file = "{secret}"\nstarted = true')
    script.wait("started")
    with Client("rfc6455", worker.address, protocols=["a", "b"], headers=[("Cookie", "a=b"), ("traceparent", "x")]) as client:
        client.send("twice")
        script.wait("message", 2)
        client.close(4000, "bye")
    script.wait("closed")
    seen = {name for hook in script.hooks for name in hook.headers}
    assert seen - named == {"ws-meta-x"}
    assert {"ws-attempt", "ws-protocol", "ws-protocols", "ws-close-reason", "webhook-signature", "traceparent"} < seen


# -- the apps

def php(folder):
    port = free_port()
    return port, running(["php", "-S", f"127.0.0.1:{port}"], ("127.0.0.1", port), cwd=folder, name="php -S")


def test_every_header_of_an_answer_does_what_the_php_of_the_page_says(workers, tmp_path):
    (tmp_path / "ws.php").write_text(source := pages.block(HOOKS, "What it may answer", "php"))
    for name in re.findall(r"^\| `(Ws-[\w-]+?)(?:-<name>)?:", pages.prose(HOOKS), re.M):
        assert f"header('{name}" in source, name
    port, app = php(tmp_path)
    with app as process:
        worker = workers.serve(f'[[route]]\npath = "/"\napp = "http://127.0.0.1:{port}/ws.php"')
        with pytest.raises(Refused) as refused:
            Client("rfc6455", worker.address, origin="http://elsewhere.example")
        assert (refused.value.status, refused.value.answer.body) == (403, b"not from there")
        one = Client("rfc6455", worker.address, protocols=["chat.v2", "chat.v1"])
        two = Client("hixie-76", worker.address)
        assert one.answer.get("sec-websocket-protocol") == "chat.v1" and one.answer.get("set-cookie") == "seen=1"
        assert one.receive() == two.receive() == "welcome"
        for word, heard_by in [("me", [one]), ("all", [one, two]), ("red", [one, two]), ("others", [two])]:
            one.send(f"{word} {word}!")
            assert [client.receive() for client in heard_by] == [f"{word}!"] * len(heard_by)
        one.send("leave")
        one.send("red only two")
        assert two.receive() == "only two"
        one.send("join")
        one.send("red both")
        assert one.receive() == two.receive() == "both"
        for text, expected in [("who", "nobody"), ("name 雪", None), ("who", "%E9%9B%AA"), ("forget", None), ("who", ""),
                               ("bytes \0", b"\0"), ("bye now", "now")]:
            one.send(text)
            if expected is not None:
                assert one.receive() == expected, text
        assert one.receive() == Closed(4000, "as you wish", True)
        two.close()
        assert "Warning" not in process.log and "Notice" not in process.log


def test_every_call_by_hand_is_answered_as_it_says(tmp_path):
    expect_free(8080)
    (tmp_path / "ws.php").write_text(pages.block(HOOKS, "What it may answer", "php"))
    (tmp_path / "picture.png").write_bytes(bytes(range(256)))
    calls = pages.block(HOOKS, "By hand", "sh").splitlines()
    with running(["php", "-S", "127.0.0.1:8080"], ("127.0.0.1", 8080), cwd=tmp_path, name="php -S"):
        answers = []
        for line in calls:
            command, status = re.fullmatch(r"(curl .*?) +# (\d+)", line).groups()
            done = subprocess.run(["bash", "-uc", command], cwd=tmp_path, capture_output=True, text=True, errors="replace",
                                  timeout=30)
            assert done.returncode == 0 and re.match(rf"HTTP/1.1 {status} ", done.stdout), (line, done.stdout, done.stderr)
            answers.append(done.stdout.replace("\r", ""))
    for event in ("handshake", "message", "closed", "started"):
        assert any(f"Ws-Event: {event}'" in line for line in calls)
    assert "Ws-Protocol: chat.v1\n" in answers[2] and "Ws-To: all\n" in answers[3] and answers[4].endswith("\n\nyuki")


def test_the_flask_app_of_the_page_remembers_names(workers, tmp_path):
    head = "from flask import Flask, request, session\n\napp = Flask(__name__)\napp.secret_key = 'tests'\n\n\n"
    (tmp_path / "names.py").write_text(head + pages.block(HOOKS, "What it may answer", "python"))
    named = flask.Flask("names")
    named.secret_key = "tests"
    cookie = named.session_interface.get_signing_serializer(named).dumps({"user": "yuki"})
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "names", "run", "--port", str(port)]
    with running(command, ("127.0.0.1", port), cwd=tmp_path, name="names"):
        worker = workers.serve(f'[[route]]\npath = "/"\napp = "http://127.0.0.1:{port}/ws"')
        with pytest.raises(Refused) as refused:
            Client("rfc6455", worker.address, "/")
        assert (refused.value.status, refused.value.answer.body) == (401, b"Please log in.")
        yuki, other = (Client("rfc6455", worker.address, "/", headers=[("Cookie", f"session={cookie}")]) for _ in range(2))
        for name in ("Yuki", "雪 100%", "a\r\nWs-To: all\r\n\r\nb"):
            yuki.send(f"/name {name}")
            yuki.send("hello")
            assert yuki.receive() == other.receive() == f"{name}: hello"
        yuki.close()
        assert other.receive() == f"{name} has left the building"


# -- signatures

SECRET = bytes(range(7, 39))

# Around what the page shows: an app that takes a hook if the check says so, and says back what it was sent.
CHECKS = {
    "python": ("check.py", lambda port: [sys.executable, "check.py", port], """
import base64, hmac, time
from flask import Flask, request
app = Flask(__name__)
%s
@app.post("/check.php")
def hook():
    if not is_from_the_worker(request.headers, request.get_data(), bytes.fromhex("%s")):
        return "", 403
    return request.get_data(), {"Ws-To": "self", "Content-Type": request.content_type or "text/plain"}
import sys
app.run("127.0.0.1", int(sys.argv[1]))
"""),
    "php": ("check.php", lambda port: ["php", "-S", f"127.0.0.1:{port}"], """<?php
%s
$body = file_get_contents('php://input');
if (!is_from_the_worker($body, hex2bin('%s'))) { http_response_code(403); exit; }
header('Ws-To: self');
header('Content-Type: ' . ($_SERVER['CONTENT_TYPE'] ?? 'text/plain'));
echo $body;
"""),
    "js": ("check.js", lambda port: ["node", "check.js", port], """
const crypto = require("node:crypto");
%s
require("node:http").createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  if (!isFromTheWorker(request.headers, body, Buffer.from("%s", "hex"))) { response.writeHead(403); response.end(); return; }
  response.writeHead(200, { "Ws-To": "self", "Content-Type": request.headers["content-type"] || "text/plain" });
  response.end(body);
}).listen(process.argv[2], "127.0.0.1");
"""),
}


def signed(hook, secret=SECRET, at=None):
    """The headers of a hook, signed once more by the test's own reading of the standard."""
    at = at or hook["webhook-timestamp"]
    mac = hmac.new(secret, f'{hook["webhook-id"]}.{at}.'.encode() + hook.body, "sha256").digest()
    return {"webhook-id": hook["webhook-id"], "webhook-timestamp": at, "webhook-signature": "v1," + base64.b64encode(mac).decode()}


@pytest.mark.parametrize("language", CHECKS)
def test_the_checks_of_the_page_tell_true_from_forged(workers, script, tmp_path, language):
    shown = pages.block(HOOKS, "Who may call the app", language)
    assert len(shown.splitlines()) <= 5
    name, command, around = CHECKS[language]
    (tmp_path / name).write_text(around % (shown, SECRET.hex()))
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    other.write_text("a-key-of-before-0123456789")
    port = free_port()
    with running(command(str(port)), ("127.0.0.1", port), cwd=tmp_path, name=name) as process:
        url = f"http://127.0.0.1:{port}/check.php"

        def serve(app, secrets):
            return workers.serve(f'[[route]]\npath = "/"\napp = "{app}"\nsecret_file = {json.dumps([str(file) for file in secrets])}')
        # Real hooks: with the one secret, and while it replaces another, from both sides.
        for secrets in ([ours], [ours, other], [other, ours]):
            worker = serve(url, secrets)
            for version in VERSIONS:
                with Client(version, worker.address) as client:
                    assert client.receive() == ""  # The handshake's own body.
                    for message in ["hello", "", "こんにちは 😀", "x" * 100_000, *([bytes(range(256))] if version in HYBI else [])]:
                        client.send(message)
                        assert client.receive() == message
        with pytest.raises(Refused) as refused:
            Client("rfc6455", serve(url, [other]).address)
        assert refused.value.status == 403

        # The same hooks, tampered with.
        with Client("rfc6455", serve(script.url, [other, ours]).address) as client:
            client.send("héllo")
            (hook,) = script.wait("message")
        true = {name: hook[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        old, new = str(int(time.time()) - 3600), str(int(time.time()) + 3600)
        first, second = true["webhook-signature"].split()

        def status(headers, body=hook.body):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/check.php", body, headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status
        assert status(true) == status(signed(hook)) == 200
        assert status(true | {"webhook-signature": second}) == 200
        for forged in [
                {}, {**true, "webhook-signature": ""}, true | {"webhook-signature": first}, true | {"webhook-signature": second[:-1]},
                true | {"webhook-signature": second[3:]}, true | {"webhook-signature": "v2" + second[2:]},
                true | {"webhook-signature": second.swapcase()}, true | {"webhook-signature": "é" * 47}, true | {"webhook-id": "x/1"},
                true | {"webhook-timestamp": old}, true | {"webhook-timestamp": ""}, true | {"webhook-timestamp": "soon"},
                signed(hook, b"a wrong secret of 24 bytes"), signed(hook, b""), signed(hook, at=old), signed(hook, at=new)]:
            assert status(forged) == 403, forged
        for name in true:
            assert status({key: value for key, value in true.items() if key != name}) == 403, name
        for body in (hook.body + b"!", hook.body[:-1], b"", hook.body.replace(b"h", b"H")):
            assert status(true, body) == 403, body
        assert status(true) == 200
        assert "Traceback" not in process.log and "Warning" not in process.log
