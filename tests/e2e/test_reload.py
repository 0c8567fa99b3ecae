"""SIGHUP under open sockets: what changes, what stays, what is said; and that no socket notices."""

import base64
import hashlib
import hmac
import json
import re
import signal
import threading

import pytest

from apps import Script
from control import Control
from support import free_port, wait_for
from wire import HYBI, VERSIONS, Client, Closed, Refused

ECHO = '[[route]]\npath = "/echo"\nhandler = "echo"\n'


class Reloading:
    """A worker with a file that the test rewrites."""

    def __init__(self, workers, folder, routes, top="", control="", arguments=(), **options):
        self.address = ("127.0.0.1", free_port())
        self.path = folder / "reload.toml"
        self.write(routes, top, control)
        self.worker = workers.start("serve", "--config", self.path, *arguments, address=self.address, **options)
        self.done = 0

    def write(self, routes, top="", control="", listen=None):
        listen = listen or "%s:%d" % self.address
        self.path.write_text(f'listen = "{listen}"\n{top}\n{control}\n{routes}\n')

    def reload(self, said=r'"message":"reloaded"'):
        """Sends SIGHUP and waits until the log says, once more, what came of it."""
        self.worker.child.send_signal(signal.SIGHUP)
        return self.wait(said)

    def wait(self, said):
        def line():
            lines = self.worker.lines[self.done:]
            return next(((number, line) for number, line in enumerate(lines) if re.search(said, line)), None)
        number, line = wait_for(line, f"{said!r} in the log")
        self.done += number + 1
        return line

    def change(self, *arguments, **options):
        self.write(*arguments, **options)
        return self.reload()

    def open(self, path="/echo", version="rfc6455", **options):
        return Client(version, self.address, path, **options)


def echoes(client, text="こんにちは"):
    client.send(text)
    return client.receive() == text


def hooks(url, path="/app", more=""):
    return f'[[route]]\npath = "{path}"\napp = "{url}"\n{more}\n'


@pytest.fixture
def start(workers, tmp_path):
    return lambda routes=ECHO, **options: Reloading(workers, tmp_path, routes, **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_open_socket_does_not_notice_a_reload(start, script, version):
    script.on("message", lambda hook: (hook.body, {"Ws-To": "self"}))
    routes = ECHO + hooks(script.url)
    worker = start(routes)
    clients = [worker.open("/echo", version), worker.open("/app", version)]
    for number in range(3):
        worker.change(routes, top=f'max_message = "{number + 1}MiB"')
        assert all(echoes(client, str(number)) for client in clients)
    assert [hook["Ws-Event"] for hook in script.hooks] == ["handshake"] + ["message"] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_is_half_there_is_finished_under_the_limit_it_began_with(start, version):
    worker = start()
    client = worker.open("/echo", version)
    text = "x" * 5000
    client.raw(b"\x00" + text[:2000].encode() if client.is_hixie else b"\x01\xfe" + (2000).to_bytes(2) + bytes(4) + text[:2000].encode())
    worker.change(ECHO, top='max_message = "1KiB"\nmax_fragments = 1')
    client.raw(text[2000:].encode() + b"\xff" if client.is_hixie else b"\x80\xfe" + (3000).to_bytes(2) + bytes(4) + text[2000:].encode())
    assert client.receive() == text
    newcomer = worker.open("/echo", version)
    newcomer.send(text)
    closed = newcomer.receive()
    assert isinstance(closed, Closed) and (version not in HYBI or closed.reason == "message too big"), closed


def test_routes_come_at_once(start):
    worker = start()
    with pytest.raises(Refused) as refused:
        worker.open("/chat")
    assert refused.value.status == 404
    line = worker.change(ECHO + '[[route]]\npath = "/chat"\nhandler = "chat"\n')
    assert '"added":"/chat"' in line
    one, two = worker.open("/chat"), worker.open("/chat")
    one.send("to both")
    assert one.receive() == two.receive() == "to both"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_on_a_route_that_is_gone_is_sent_away_and_the_app_hears_it(start, script, version):
    worker = start(ECHO + hooks(script.url), top='drain = "1s"')
    gone, stays = worker.open("/app", version), worker.open("/echo", version)
    line = worker.change(ECHO, top='drain = "1s"')
    assert '"removed":"/app"' in line
    closed = gone.receive()
    assert isinstance(closed, Closed) and (version not in HYBI or (closed.code, closed.reason) == (1001, "route removed"))
    if version == "hixie-76":
        gone.raw(b"\xff\x00")
    gone.stream.close()
    (hook,) = script.wait("closed")
    assert (hook["Ws-Close-Code"], hook["Ws-Closed-By"]) == ("1001", "worker")
    with pytest.raises(Refused) as refused:
        worker.open("/app", version)
    assert refused.value.status == 404
    assert echoes(stays)


def test_a_broadcast_to_a_route_that_is_gone_finds_none_once_nobody_is_left(start, tmp_path):
    control = Control(str(tmp_path / "control.sock"))
    options = {"top": 'drain = "1s"', "control": f'[control]\nlisten = "unix:{control.address}"'}
    worker = start(ECHO + '[[route]]\npath = "/news"\nhandler = "chat"\n', **options)
    client = worker.open("/news")
    send = lambda: control.call("POST", "/broadcast?route=/news", "news")
    assert json.loads(send().body)["queued"] == 1 and client.receive() == "news"
    worker.change(ECHO, **options)
    while not isinstance(client.receive(), Closed):
        pass
    client.stream.close()
    wait_for(lambda: send().status == 404, "the route to be unknown")


def test_many_are_sent_away_over_time_and_a_route_that_comes_back_keeps_the_rest(start):
    both = ECHO + '[[route]]\npath = "/chat"\nhandler = "chat"\n'
    worker = start(both, top='drain = "60s"')
    clients = [worker.open("/chat") for _ in range(20)]
    worker.change(ECHO, top='drain = "60s"')
    line = worker.change(both, top='drain = "60s"')
    assert '"added":"/chat"' in line
    newcomer = worker.open("/chat")
    newcomer.send("who is left?")
    answers = [client.receive() for client in clients]
    assert answers.count("who is left?") >= 15, answers
    assert all(answer in ("who is left?", Closed(1001, "route removed", True)) for answer in answers)


def test_what_an_app_that_is_gone_does_not_hear_is_counted_at_the_end_of_the_drain(start, script):
    script.on("closed", 503)
    worker = start(ECHO + hooks(script.url), top='drain = "500ms"')
    client = worker.open("/app")
    worker.change(ECHO, top='drain = "500ms"')
    assert client.receive() == Closed(1001, "route removed", True)
    worker.wait("hooks were still owed to the app of a route that is gone")


def test_a_handler_in_the_place_of_an_app_sends_the_apps_sockets_away(start, script):
    worker = start(hooks(script.url), top='drain = "1s"')
    client = worker.open("/app")
    worker.change('[[route]]\npath = "/app"\nhandler = "echo"\n', top='drain = "1s"')
    assert client.receive() == Closed(1001, "route removed", True)
    client.stream.close()
    script.wait("closed")
    assert echoes(worker.open("/app"))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_open_socket_follows_its_app_to_another_place(start, scripts, version):
    old, new = scripts(), scripts()
    for script in (old, new):
        script.on("message", lambda hook: (hook.body, {"Ws-To": "self"}))
    worker = start(hooks(old.url))
    client = worker.open("/app", version)
    assert echoes(client, "one")
    worker.change(hooks(new.url))
    old.stop()
    assert echoes(client, "two")
    (hook,) = new.of("message")
    assert hook.socket == old.of("handshake")[0].socket and hook.key.endswith("/2")
    client.close()
    new.wait("closed")


def test_an_attempt_ends_where_it_began_and_is_repeated_where_the_app_is_now(start, scripts):
    old, new, answer = scripts(), scripts(), threading.Event()
    old.on("message", lambda hook: answer.wait(10) and 503)
    new.on("message", lambda hook: (hook.body, {"Ws-To": "self"}))
    worker = start(hooks(old.url))
    client = worker.open("/app")
    client.send("which of you?")
    old.wait("message")
    worker.change(hooks(new.url))
    assert new.hooks == []
    answer.set()
    assert client.receive() == "which of you?"
    (first,), (second,) = old.of("message"), new.of("message")
    assert second.key == first.key and second["Ws-Attempt"] == "2"


def test_who_waits_for_a_permit_waits_for_the_new_apps(start, scripts):
    old, new, answer = scripts(), scripts(), threading.Event()
    old.on("message", lambda hook: answer.wait(10) and None)
    new.on("message", lambda hook: (hook.body, {"Ws-To": "self"}))
    worker = start(hooks(old.url, more="concurrency = 1"), top="threads = 2")
    clients = [worker.open("/app") for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(str(number))
    old.wait("message")
    worker.change(hooks(new.url, more="concurrency = 1"), top="threads = 2")
    answers = [client.receive() for number, client in enumerate(clients) if str(number) != old.of("message")[0].text]
    assert sorted(answers) == sorted({"0", "1", "2", "3"} - {old.of("message")[0].text})
    answer.set()


def test_more_concurrency_starts_what_waits(start, script):
    answer = threading.Event()
    script.on("message", lambda hook: answer.wait(10) and None)
    worker = start(hooks(script.url, more="concurrency = 1"), top="threads = 2")
    clients = [worker.open("/app") for _ in range(3)]
    for client in clients:
        client.send("x")
    script.wait("message")
    worker.change(hooks(script.url, more="concurrency = 3"), top="threads = 2")
    script.wait("message", 3)
    answer.set()


def signed(hook, secret):
    words = f"{hook['webhook-id']}.{hook['webhook-timestamp']}.".encode() + hook.body
    want = "v1," + base64.b64encode(hmac.new(secret, words, hashlib.sha256).digest()).decode()
    return want in (hook["webhook-signature"] or "").split(" ")


def test_secrets_rotate_without_a_gap_under_an_open_socket(start, script, tmp_path):
    keys = {name: name.encode() * 8 for name in ("old1", "new2")}
    for name, key in keys.items():
        (tmp_path / name).write_bytes(key)

    def secrets(*names):
        return "secret_file = [%s]" % ", ".join(f'"{tmp_path / name}"' for name in names)
    worker = start(hooks(script.url, more=secrets("old1")))
    client = worker.open("/app")
    for number, names in enumerate([["old1"], ["new2", "old1"], ["new2"]], 1):
        if number > 1:
            worker.change(hooks(script.url, more=secrets(*names)))
        client.send(str(number))
        hook = script.wait("message", number)[-1]
        assert [signed(hook, keys[name]) for name in keys] == [name in names for name in keys]
    # The file's name stays, what it holds does not.
    (tmp_path / "new2").write_bytes(b"another!" * 4)
    worker.reload()
    client.send("again")
    assert signed(script.wait("message", 4)[-1], b"another!" * 4)


def test_without_a_file_secrets_are_read_again(workers, script, tmp_path):
    secret, address = tmp_path / "secret", ("127.0.0.1", free_port())
    secret.write_bytes(b"old1" * 8)
    worker = workers.start("serve", "--app", script.url, "--listen", "%s:%d" % address, "--secret-file", secret, address=address)
    client = Client("rfc6455", address, "/")
    secret.write_bytes(b"new2" * 8)
    worker.child.send_signal(signal.SIGHUP)
    worker.wait_for_log('"message":"reloaded"')
    client.send("signed")
    (hook,) = script.wait("message")
    assert signed(hook, b"new2" * 8) and signed(script.of("handshake")[0], b"old1" * 8)


def test_the_control_api_wants_its_new_token(start, tmp_path):
    token, port = tmp_path / "token", free_port()
    token.write_text("a-token-of-the-old-days")
    table = f'[control]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n'
    worker = start(control=table)
    client = worker.open()
    old = Control(("127.0.0.1", port), "a-token-of-the-old-days")
    assert len(old.ids()) == 1
    token.write_text("a-token-of-today")
    worker.reload()
    assert old.call("GET", "/sockets").status == 401
    assert Control(("127.0.0.1", port), "a-token-of-today").json("POST", "/broadcast", "hi")["queued"] == 1
    assert client.receive() == "hi"


def test_origins_and_versions_are_asked_of_who_comes_and_not_of_who_is_there(start):
    worker = start()
    client = worker.open(version="hixie-76", origin="http://example.org")
    worker.change(ECHO + 'allowed_origins = ["https://www.example.org"]\nversions = [13]\n')
    assert echoes(client)
    with pytest.raises(Refused) as refused:
        worker.open(origin="http://example.org")
    assert refused.value.status == 403
    with pytest.raises(Refused) as refused:
        worker.open(version="hixie-76", origin="https://www.example.org")
    assert refused.value.status == 426
    assert echoes(worker.open(origin="https://www.example.org"))


def test_limits_that_are_looked_up_hold_for_open_sockets(start):
    worker = start()
    client = worker.open()
    worker.change(ECHO + 'heartbeat_text = { receive = "Heartbeat", answer = "yes" }\n')
    client.send("Heartbeat")
    assert client.receive() == "yes"


def test_a_stall_that_is_shorter_now_ends_who_stalls_already(start, tmp_path):
    control = f'[control]\nlisten = "unix:{tmp_path}/control.sock"\n'
    worker = start(top='stall_timeout = "1h"\nmax_output = "64MiB"', control=control)
    client = worker.open()
    api = Control(f"{tmp_path}/control.sock")
    wait_for(lambda: api.json("POST", "/broadcast", "x" * 1_000_000) and api.sockets()[0]["queue"] > 0, "a socket that stalls")
    worker.change(ECHO, top='stall_timeout = "100ms"\nmax_output = "64MiB"', control=control)
    wait_for(lambda: api.sockets() == [], "its end")
    client.abort()


def test_bounds_of_the_process_hold_for_who_comes(start):
    worker = start()
    clients = [worker.open() for _ in range(3)]
    worker.change(ECHO, top="max_connections = 2")
    assert all(echoes(client) for client in clients)
    with pytest.raises(Refused) as refused:
        worker.open()
    assert refused.value.status == 503
    worker.change(ECHO)
    assert echoes(worker.open())


def refused(worker):
    """What is logged at the level debug alone."""
    with pytest.raises(Refused):
        worker.open("/nowhere")


def test_the_log_level_changes(start):
    worker = start()
    refused(worker)
    worker.change(ECHO, top='log_level = "debug"')
    refused(worker)
    worker.wait('"level":"DEBUG".*"message":"handshake refused"')
    # At this level nobody hears that it is reloaded, but that something needs a start.
    worker.write(ECHO, top='log_level = "warn"\nthreads = 7')
    worker.reload("threads: changed in the file")
    refused(worker)
    worker.write("nonsense")
    worker.reload("nothing was reloaded")
    assert "DEBUG" not in "".join(worker.worker.lines[worker.done - 1:])


def test_a_flag_wins_over_the_file_after_a_reload_too(start):
    worker = start(arguments=["--max-message", "4KiB", "--log-level", "info"])
    worker.change(ECHO, top='max_message = "1MiB"\nlog_level = "debug"')
    client = worker.open()
    client.send("x" * 5000)
    assert client.receive().code == 1009
    refused(worker)
    assert "DEBUG" not in worker.worker.log


@pytest.mark.parametrize("top, control, listen, key", [
    ("threads = 3", "", None, "threads"), ("", "", "127.0.0.1:1", "listen"),
    ("", '[control]\nlisten = "unix:/tmp/no.sock"', None, "control.listen")])
def test_what_needs_a_start_is_named_and_left_as_it_was(start, top, control, listen, key):
    worker = start(top="threads = 1" if key != "threads" else "threads = 2")
    client = worker.open()
    top = top or "threads = 1"
    worker.write(ECHO + '[[route]]\npath = "/new"\nhandler = "echo"\n', top, control, listen)
    worker.worker.child.send_signal(signal.SIGHUP)
    worker.wait(rf'"WARN".*"message":"{key}: changed in the file, left as it was')
    worker.wait('"message":"reloaded"')
    assert echoes(client) and echoes(worker.open("/new"))  # Everything else has changed.


BAD = [
    ("heartbeet = 1", r":2:1: unknown key `heartbeet`", "heartbeat"),
    ('heartbeat = "25"', r":2:13: `heartbeat`: ", "25s"),
    ('[[route]]\npath = "/two"\napp = "http://127.0.0.1:1/"\nsecret_file = "/no/such/file"', r":\d+:15: /no/such/file cannot be read", "No such file"),
    ("[[route", r":\d+:\d+: ", "route"),
]


@pytest.mark.parametrize("wrong, where, right", BAD)
def test_a_bad_file_changes_nothing_and_is_told_with_its_place(start, wrong, where, right):
    worker = start()
    client = worker.open()
    worker.write('[[route]]\npath = "/new"\nhandler = "echo"\n', wrong)
    line = worker.reload("nothing was reloaded")
    assert re.search(re.escape(str(worker.path)) + where, line) and right in line, line
    assert echoes(client) and echoes(worker.open())
    with pytest.raises(Refused):
        worker.open("/new")


def test_a_file_that_is_gone_changes_nothing(start):
    worker = start()
    client = worker.open()
    worker.path.unlink()
    assert str(worker.path) in worker.reload("nothing was reloaded")
    assert echoes(client) and echoes(worker.open())


def test_many_signals_at_once_end_in_the_last_file(start):
    worker = start(top="threads = 2")
    client = worker.open()
    for number in range(20):
        worker.write(ECHO + f'[[route]]\npath = "/{number}"\nhandler = "echo"\n', "threads = 2")
        worker.worker.child.send_signal(signal.SIGHUP)
    wait_for(lambda: re.search('"added":"/19"', worker.worker.log), "the last file")
    assert echoes(client) and echoes(worker.open("/19"))


def test_a_reload_while_it_drains_changes_nothing_and_does_not_hold_up_the_end(start, script):
    release = threading.Event()
    script.on("closed", lambda hook: release.wait(10) and None)
    worker = start(hooks(script.url), top='drain = "30s"')
    client = worker.open("/app")
    worker.worker.child.send_signal(signal.SIGTERM)
    assert client.receive().code == 1012
    worker.write(ECHO)
    line = worker.reload("nothing was reloaded")
    assert "the worker stops" in line and '"level":"INFO"' in line
    release.set()
    assert worker.worker.child.wait(10) == 0


def test_sigterm_right_behind_sighup_ends_it_as_told(start):
    for _ in range(5):
        worker = start(top='drain = "2s"\nthreads = 2')
        client = worker.open()
        worker.worker.child.send_signal(signal.SIGHUP)
        worker.worker.child.send_signal(signal.SIGTERM)
        assert client.receive().code == 1012
        client.stream.close()
        assert worker.worker.child.wait(10) == 0


def test_nothing_is_lost_while_it_reloads_again_and_again_under_load(start, scripts):
    apps = [scripts(), scripts()]
    for app in apps:
        app.on("message", lambda hook: (hook.body, {"Ws-To": "self"}))
    routes = lambda number: ECHO + hooks(apps[number % 2].url, more=f"concurrency = {1 + number % 3}")
    worker = start(routes(0), top="threads = 2")
    failures, stop = [], threading.Event()

    def talk(version, path):
        try:
            client, number = worker.open(path, version), 0
            while not stop.is_set() or number < 20:
                number += 1
                assert echoes(client, f"{path} {number}")
            client.close()
        except BaseException as error:
            failures.append((version, path, repr(error)))
    talkers = [threading.Thread(target=talk, args=(version, path)) for version in VERSIONS for path in ("/echo", "/app")]
    for talker in talkers:
        talker.start()
    for number in range(1, 12):
        worker.change(routes(number), top="threads = 2")
    stop.set()
    for talker in talkers:
        talker.join(30)
    assert failures == []
    wait_for(lambda: sum(len(app.of("closed")) for app in apps) == 5, "five closed hooks")
    keys = [hook.key for app in apps for hook in app.of("message")]
    assert len(keys) == len(set(keys))
