"""What becomes of hooks when an app is slow, down, wrong or hostile. The app is a `Script`: each test decides its answers."""

import base64
import hashlib
import hmac
import threading
import time

import pytest

from support import free_port, wait_for
from wire import DEADLINE, HYBI, TEXT, VERSIONS, Client, Closed, Refused, exchange, frame, handshake

CODES_OF_OLD = {1008: 1002, 1011: 1001, 1012: 1001, 1013: 1001}


def code_on_the_wire(version, code):
    """7 and 8 do not know the codes that came with RFC 6455; 75 and 76 know none."""
    return code if version == "rfc6455" else CODES_OF_OLD.get(code, code) if version in HYBI else None


def serve(workers, url, route="", top="", path="/ws", **options):
    return workers.serve(f'[[route]]\npath = "{path}"\napp = "{url}"\n{route}', top=top, **options)


def opens(worker, version="rfc6455", path="/ws", **options):
    return Client(version, worker.address, path, **options)


def echo(hook):
    return hook.body, {"Ws-To": "self"}


def in_turn(*answers):
    """Gives one answer after the other, and the last one for ever."""
    left = list(answers)
    def answer(hook):
        one = left.pop(0) if len(left) > 1 else left[0]
        return one(hook) if callable(one) else one
    return answer


# -- order

@pytest.mark.parametrize("version", VERSIONS)
def test_one_hook_a_socket_is_in_flight(workers, script, version):
    busy, most = [0], [0]
    lock = threading.Lock()

    def slow(hook):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.01)  # The app's own slowness.
        with lock:
            busy[0] -= 1
        return echo(hook)
    script.on("message", slow)
    with opens(serve(workers, script.url), version) as client:
        for n in range(30):
            client.send(str(n))
        assert [client.receive() for n in range(30)] == [str(n) for n in range(30)]
    assert most == [1]


def test_other_sockets_do_not_wait_for_a_slow_one(workers, script):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(10) and None if hook.text == "slow" else echo(hook))
    worker = serve(workers, script.url)
    with opens(worker) as slow, opens(worker) as quick:
        slow.send("slow")
        script.wait("message")
        quick.send("quick")
        assert quick.receive() == "quick"
        gate.set()


def test_no_more_hooks_than_the_app_wants_are_in_flight(workers, script):
    busy, most, lock = [0], [0], threading.Lock()

    def slow(hook):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.02)
        with lock:
            busy[0] -= 1
        return echo(hook)
    script.on("message", slow)
    worker = serve(workers, script.url, "concurrency = 2", "threads = 2")
    clients = [opens(worker) for _ in range(12)]
    for client in clients:
        client.send("x")
    assert [client.receive() for client in clients] == ["x"] * 12
    assert most == [2]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_before_the_clients_end_are_delivered_and_then_closed(workers, script, version):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(10) and None)
    client = opens(serve(workers, script.url), version)
    for n in range(5):
        client.send(str(n))
    script.wait("message")
    client.leave()
    gate.set()
    (closed,) = script.wait("closed")
    assert [hook.event for hook in script.hooks] == ["handshake"] + ["message"] * 5 + ["closed"]
    assert [hook.text for hook in script.of("message")] == list("01234")
    assert closed["ws-undelivered"] == "0"


# -- retries

@pytest.mark.parametrize("status", [500, 502, 503, 429, 408, 425])
def test_an_app_in_trouble_is_asked_again_with_the_same_key(workers, script, status):
    script.on("message", in_turn(status, status, echo))
    with opens(serve(workers, script.url)) as client:
        client.send("一 once")
        client.send("two")
        assert (client.receive(), client.receive()) == ("一 once", "two")
    first, second, third, other = script.of("message")
    assert first.key == second.key == third.key == f"{first.socket}/1" and other.key == f"{first.socket}/2"
    assert first.body == second.body == third.body == "一 once".encode()
    assert [hook["ws-attempt"] for hook in (first, second, third, other)] == [None, "2", "3", None]


def test_retry_after_is_honoured(workers, script):
    script.on("message", in_turn(("", {"Retry-After": "1"}, 503), echo))
    with opens(serve(workers, script.url)) as client:
        client.send("x")
        assert client.receive() == "x"
    first, second = script.of("message")
    assert second.at - first.at >= 0.9


DATES = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]


@pytest.mark.parametrize("form", DATES)
def test_retry_after_may_be_a_date_in_any_form_of_http(workers, script, form):
    def later(hook):
        return "", {"Retry-After": time.strftime(form, time.gmtime(time.time() + 2))}, 503
    script.on("message", in_turn(later, echo))
    with opens(serve(workers, script.url)) as client:
        client.send("x")
        assert client.receive() == "x"
    first, second = script.of("message")
    assert second.at - first.at >= 0.9  # A date has whole seconds.


def test_an_app_that_comes_back_gets_what_waited(workers, scripts):
    port = free_port()
    app = scripts(port=port).on("message", echo)
    worker = serve(workers, app.url)
    with opens(worker) as client:
        client.send("before")
        assert client.receive() == "before"
        app.stop()
        client.send("meanwhile")
        client.send("and more")
        again = scripts(port=port, message=echo)
        assert (client.receive(), client.receive()) == ("meanwhile", "and more")
        assert [hook.text for hook in again.of("message")] == ["meanwhile", "and more"]


def test_an_answer_that_never_comes_is_asked_for_again(workers, script):
    gate = threading.Event()
    script.on("message", in_turn(lambda hook: gate.wait(10) and b"", echo))
    with opens(serve(workers, script.url, 'hook_timeout = "300ms"')) as client:
        client.send("x")
        assert client.receive() == "x"
    gate.set()
    assert [hook["ws-attempt"] for hook in script.of("message")] == [None, "2"]


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"nonsense\r\n\r\n"])
def test_an_answer_that_breaks_off_is_asked_for_again(workers, script, broken):
    script.on("message", in_turn(broken, echo))
    with opens(serve(workers, script.url)) as client:
        client.send("x")
        assert client.receive() == "x"


def test_unsent_hooks_alone_are_repeated_where_the_operator_says_so(workers, script):
    script.on("message", b"")
    with opens(serve(workers, script.url, 'retry = "unsent"\ngive_up = "1s"')) as client:
        client.send("x")
        assert isinstance(client.receive(), Closed)
    script.wait("closed")
    assert len(script.of("message")) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_an_app_that_stays_away_is_given_up(workers, script, version):
    script.on("message", 503)
    with opens(serve(workers, script.url, 'give_up = "1s"'), version) as client:
        client.send("x")
        client.send("y")
        closed = client.receive()
        assert isinstance(closed, Closed) and closed.code == code_on_the_wire(version, 1013)
    (hook,) = script.wait("closed")
    assert (hook["ws-close-code"], hook["ws-closed-by"], hook["ws-undelivered"]) == ("1013", "worker", "2")


@pytest.mark.parametrize("status", [400, 403, 404, 410, 413, 422])
def test_a_message_that_is_refused_is_not_repeated(workers, script, status):
    script.on("message", status)
    with opens(serve(workers, script.url)) as client:
        client.send("x")
        assert client.receive().code == 1008
    (hook,) = script.wait("closed")
    assert (hook["ws-close-code"], hook["ws-undelivered"]) == ("1008", "0")
    assert len(script.of("message")) == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_of_a_message_is_never_followed(workers, scripts, version, status):
    elsewhere = scripts()
    app = scripts().on("message", ("", {"Location": elsewhere.url}, status))
    with opens(serve(workers, app.url), version) as client:
        client.send("secret")
        closed = client.receive()
        assert isinstance(closed, Closed) and closed.code == code_on_the_wire(version, 1011)
    (hook,) = app.wait("closed")
    assert hook["ws-close-code"] == "1011"
    assert len(app.of("message")) == 1 and elsewhere.hooks == []


def test_closed_is_repeated_until_it_is_heard(workers, script):
    script.on("closed", in_turn(503, b"", 503, None))
    opens(serve(workers, script.url)).close()
    hooks = script.wait("closed", 4)
    assert len({hook.key for hook in hooks}) == 1
    assert [hook["ws-attempt"] for hook in hooks] == [None, "2", "3", "4"]


# -- the handshake

@pytest.mark.parametrize("answer, status", [
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502),
    (b"HTTP/1.1 102 Processing\r\n\r\n", 502),
    (("", {}, 404), 404), (("away", {"Retry-After": "7"}, 503), 503), (("", {"Location": "/x"}, 302), 302),
    (("no", {"Connection": "close", "X-Why": "because", "Sec-WebSocket-Accept": "x", "Upgrade": "h2c"}, 403), 403)])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_app_says_instead_of_yes_is_what_the_client_hears(workers, script, version, answer, status):
    script.on("handshake", answer)
    with pytest.raises(Refused) as refused:
        opens(serve(workers, script.url), version)
    got = refused.value.answer
    assert got.status == status and got.get("connection").lower() == "close"
    assert got.get("sec-websocket-accept") is None and got.get("upgrade") != "h2c"
    if not isinstance(answer, bytes):
        for name, value in answer[1].items():
            if name in ("Retry-After", "Location", "X-Why"):
                assert got.get(name) == value
        assert got.body == answer[0].encode()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_app_that_is_silent_or_away_means_503(workers, script, version):
    gate = threading.Event()
    script.on("handshake", lambda hook: gate.wait(10) and None)
    for url in (script.url, f"http://127.0.0.1:{free_port()}/ws"):
        with pytest.raises(Refused) as refused:
            opens(serve(workers, url, top='handshake_timeout = "500ms"'), version)
        assert refused.value.status in (502, 503) if url != script.url else refused.value.status == 503
        if refused.value.status == 503:
            assert int(refused.value.answer.get("retry-after")) >= 0
    gate.set()


def test_a_handshake_that_may_have_been_accepted_gets_its_closed(workers, script):
    gate = threading.Event()
    script.on("handshake", lambda hook: gate.wait(10) and None)
    with pytest.raises(Refused):
        opens(serve(workers, script.url, top='handshake_timeout = "500ms"'))
    gate.set()
    (hook,) = script.wait("closed")
    assert hook["ws-close-code"] == "1006"
    assert len(script.of("handshake")) == 1  # Never repeated once a byte was written.


def test_a_handshake_that_was_refused_has_no_closed(workers, script):
    script.on("handshake", in_turn(403, None))
    worker = serve(workers, script.url)
    with pytest.raises(Refused):
        opens(worker)
    opens(worker).close()
    (hook,) = script.wait("closed")
    assert hook.socket == script.of("handshake")[1].socket


def test_a_subprotocol_that_was_not_offered_is_the_apps_fault(workers, script):
    script.on("handshake", ("", {"Ws-Protocol": "invented"}))
    with pytest.raises(Refused) as refused:
        opens(serve(workers, script.url), protocols=["chat"])
    assert refused.value.status == 500 and b"chose" in refused.value.answer.body


def test_a_greeting_that_cannot_be_sent_is_the_apps_fault(workers, script):
    script.on("handshake", in_turn((b"\xff", {"Ws-To": "self"}), (b"zipped", {"Ws-To": "self", "Content-Encoding": "gzip"})))
    worker = serve(workers, script.url)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            opens(worker)
        assert refused.value.status == 500 and b"makes no sense" in refused.value.answer.body
    script.wait("closed", 2)


def test_headers_of_a_handshake_of_the_apps_own_are_left_out(workers, script):
    """As apps of 2010 wrote them, who made the whole answer."""
    mine = {"WebSocket-Origin": "http://a", "WebSocket-Location": "ws://a/", "Sec-WebSocket-Accept": "x", "X-Mine": "1"}
    script.on("handshake", ("", mine))
    with opens(serve(workers, script.url)) as client:
        assert client.answer.get("x-mine") == "1"
        assert client.answer.get("websocket-location") is None
        client.close()


# -- an app that fails

def knocks(worker, version="rfc6455"):
    """The answer to a handshake that is not let in, and how long it took."""
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        opens(worker, version)
    return refused.value.answer, time.monotonic() - began


def fails_ten_times(worker, status=500):
    for _ in range(10):
        assert knocks(worker)[0].status == status


def test_an_app_that_failed_ten_times_is_spared_new_handshakes(workers, script):
    script.on("handshake", ("the app's own words", {}, 500))
    worker = serve(workers, script.url, top="threads = 2")
    fails_ten_times(worker)
    script.hooks.clear()
    began = time.monotonic()
    for version in VERSIONS:
        answer, took = knocks(worker, version)
        assert answer.status == 503 and 1 <= int(answer.get("retry-after")) <= 5 and took < 0.5
    # But for a probe, if this machine took a second for that.
    assert len(script.hooks) <= time.monotonic() - began
    worker.wait_for_log("failed ten times in a row")
    script.on("handshake", None)
    client = wait_for(lambda: lets_in(worker), "the way in", 10)
    client.close()
    worker.wait_for_log("answers again")
    for _ in range(20):
        opens(worker).close()
    assert worker.log.count("ten times in a row") == worker.log.count("answers again") == 1


def lets_in(worker):
    try:
        return opens(worker)
    except Refused as refused:
        assert refused.status == 503
        return None


def test_one_probe_at_a_time_goes_to_an_app_that_hangs(workers, script):
    gate, busy, most, lock = threading.Event(), [0], [0], threading.Lock()

    def hangs(hook):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        gate.wait(0.5)
        with lock:
            busy[0] -= 1
        return 500
    script.on("handshake", 500)
    worker = serve(workers, script.url, top="threads = 2")
    fails_ten_times(worker)
    script.on("handshake", hangs)
    until, threads = time.monotonic() + 4, []

    def insists():
        while time.monotonic() < until:
            assert knocks(worker)[0].status in (500, 503)
    for _ in range(8):
        threads.append(threading.Thread(target=insists))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert most == [1]
    # After a second, and two seconds after that.
    assert 10 + 1 <= len(script.hooks) <= 10 + 3


def test_open_sockets_of_an_app_that_failed_keep_their_order_and_let_others_in(workers, script):
    worker = serve(workers, script.url)
    with opens(worker) as client:
        script.on("handshake", 500).on("message", in_turn(*[503] * 3, echo))
        fails_ten_times(worker)
        script.on("handshake", None)
        for n in range(5):
            client.send(str(n))
        assert [client.receive() for n in range(5)] == list("01234")
        opens(worker).close()  # At once: an answer was heard.


def test_refusals_are_answers_however_many(workers, script):
    script.on("handshake", 429)
    worker = serve(workers, script.url)
    fails_ten_times(worker, 429)
    fails_ten_times(worker, 429)
    assert len(script.hooks) == 20


# -- the start

def test_a_start_is_told_once_an_app_and_again_until_it_is_heard(workers, scripts):
    first, second, third = scripts(started=in_turn(503, b"", None)), scripts(), scripts()
    routes = "".join(
        f'[[route]]\npath = "/{n}"\napp = "{app.url}"\nstarted = {str(asks).lower()}\n'
        for n, (app, asks) in enumerate([(first, True), (first, True), (second, True), (third, False)]))
    worker = workers.serve(routes, top="threads = 2")
    hooks = first.wait("started", 3)
    boot = hooks[0]["ws-boot"]
    assert [hook["ws-attempt"] for hook in hooks] == [None, "2", "3"]
    assert {hook.key for hook in hooks} == {f"{boot}/started"} and hooks[0].socket is None and hooks[0].body == b""
    second.wait("started")
    opens(worker, path="/3").close()
    third.wait("closed")
    assert (len(first.of("started")), len(second.of("started")), third.of("started")) == (3, 1, [])
    worker.terminate()
    workers.serve(routes)
    assert second.wait("started", 2)[1]["ws-boot"] != boot


def test_broken_handshakes_never_reach_the_app(workers, script):
    worker = serve(workers, script.url)
    for broken in (handshake("/ws", without=["host"]), handshake("/ws", without=["sec-websocket-key"]),
                   handshake("/ws", without=["upgrade"]), handshake("/ws", lines=["Content-Length: 5"]),
                   handshake("/ws", start="POST /ws HTTP/1.1"), handshake("/ws", start="GET /ws HTTP/1.0")):
        assert 400 <= exchange(worker.address, broken).status < 500
    assert script.hooks == []


def test_several_cookies_are_set(workers, script):
    script.on("handshake", ("", {"Set-Cookie": ["a=1", "b=2; HttpOnly"], "Keep-Alive": "timeout=5",
                                 "Sec-WebSocket-Extensions": "invented"}))
    with opens(serve(workers, script.url)) as client:
        assert client.answer.all("set-cookie") == ["a=1", "b=2; HttpOnly"]
        assert client.answer.get("sec-websocket-extensions") is None and client.answer.get("keep-alive") is None


# -- what else a hook says

def test_the_path_and_the_event_may_stand_in_the_url(workers, script):
    url = f"http://127.0.0.1:{script.port}/hooks/{{event}}/{{path}}"
    with opens(serve(workers, url), path="/ws/deep/%E3%81%82?q=1&r=%20") as client:
        client.send("x")
        script.wait("message")
        client.close()
    script.wait("closed")
    assert [hook.path for hook in script.hooks] == [
        f"/hooks/{event}/deep/%E3%81%82?q=1&r=%20" for event in ("handshake", "message", "closed")]


@pytest.mark.parametrize("path", ["/ws/../admin", "/ws/%2e%2e/admin", "/ws/a/../../admin", "/ws/..%2fadmin"])
def test_the_path_never_climbs(workers, script, path):
    worker = serve(workers, f"http://127.0.0.1:{script.port}/hooks/{{path}}")
    with pytest.raises(Refused) as refused:
        opens(worker, path=path)
    assert refused.value.status in (400, 404) and script.hooks == []


def test_a_secret_signs_every_hook(workers, script, tmp_path):
    secret = b"a secret of at least 24 bytes!"
    file = tmp_path / "secret"
    file.write_text("whsec_" + base64.b64encode(secret).decode() + "\n")
    with opens(serve(workers, script.url, f'secret_file = "{file}"')) as client:
        client.send("signed あ")
        client.close()
    script.wait("closed")
    for hook in script.hooks:
        signed = b"%s.%s." % (hook["webhook-id"].encode(), hook["webhook-timestamp"].encode()) + hook.body
        want = "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
        assert want in hook["webhook-signature"].split(" ")
        assert abs(int(hook["webhook-timestamp"]) - time.time()) < 60


def test_only_the_fields_on_the_list_are_forwarded(workers, script):
    worker = serve(workers, script.url, 'forward_headers = ["Cookie", "X-Tenant"]')
    with opens(worker, headers=[("Cookie", "a=1"), ("X-Tenant", "t"), ("X-Other", "o"), ("User-Agent", "u")]):
        pass
    (hook,) = script.wait("handshake")
    assert (hook["cookie"], hook["x-tenant"], hook["x-other"], hook["user-agent"]) == ("a=1", "t", None, None)


def test_an_app_may_live_on_a_unix_socket(workers, scripts, tmp_path):
    app = scripts(path=str(tmp_path / "app.sock")).on("message", echo)
    with opens(serve(workers, app.url)) as client:
        client.send("over unix")
        assert client.receive() == "over unix"


@pytest.mark.parametrize("answer", [
    b"HTTP/1.0 200 OK\r\nWs-To: self\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nWs-To: self\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nws-to:self\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nuntil\r\n8\r\n the end\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nWs-To: self\r\nContent-Length: 13\r\n\r\nuntil the end"])
def test_answers_of_every_shape_are_understood(workers, script, answer):
    script.on("message", answer)
    with opens(serve(workers, script.url)) as client:
        for _ in range(2):
            client.send("x")
            assert client.receive() == "until the end"


def test_the_app_is_told_of_a_start(workers, script):
    worker = serve(workers, script.url, "started = true")
    (hook,) = script.wait("started")
    assert hook.socket is None and hook.key == f"{hook['ws-boot']}/started"
    opens(worker).close()
    script.wait("closed")
    assert {hook["ws-boot"] for hook in script.hooks} == {hook["ws-boot"]}


# -- the queue

def test_a_full_queue_stops_reading_and_loses_nothing(workers, script):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(30) and None)
    worker = serve(workers, script.url, top="queue_messages = 4")
    with opens(worker, timeout=30) as client:
        sent = 2000
        writer = threading.Thread(target=lambda: [client.send(f"{n:04}" + "x" * 1000) for n in range(sent)])
        writer.start()
        script.wait("message")
        gate.set()
        writer.join()
        hooks = script.wait("message", sent, timeout=3 * DEADLINE)
    assert [int(hook.text[:4]) for hook in hooks] == list(range(sent))


def test_a_client_behind_a_full_queue_is_not_called_silent(workers, script):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(30) and echo(hook))
    worker = serve(workers, script.url, top='queue_messages = 1\nheartbeat = "50ms"\npong_timeout = "100ms"')
    with opens(worker) as client:
        for n in range(20):
            client.send(str(n))
        for _ in range(10):  # Half a second of pings, whose pongs nobody reads.
            assert client.event()[0] == "ping"
            client.raw(b"\x8a\x80\0\0\0\0")
        gate.set()
        assert [client.receive() for n in range(20)] == [str(n) for n in range(20)]


def test_an_app_that_hangs_leaves_room_for_others(workers, script):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(60) and None)
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{script.url}"\n[[route]]\npath = "/echo"\nhandler = "echo"\n',
                           top='memory = "16MiB"')
    clients = [opens(worker) for _ in range(30)]
    for client in clients:
        left = frame(TEXT, b"x" * 10_000) * 1000
        client.stream.socket.setblocking(False)
        try:
            while left:
                left = left[client.stream.socket.send(left):]
        except BlockingIOError:
            pass  # It is not read any more.
    with opens(worker, path="/echo", timeout=3) as bystander:
        bystander.send("x")
        assert bystander.receive() == "x"
    gate.set()
    for client in clients:
        client.leave()


def test_what_waits_for_an_app_that_hangs_does_not_keep_others_out(workers, script):
    gate = threading.Event()
    script.on("message", lambda hook: gate.wait(60) and None)
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{script.url}"\nconcurrency = 2\n[[route]]\npath = "/echo"\nhandler = "echo"\n',
                           top='memory = "16MiB"\nthreads = 1')
    clients = [opens(worker, timeout=60) for _ in range(13)]
    for client in clients:
        client.send(b"x" * 2**20)

    def comes_in():
        try:
            with opens(worker, path="/echo") as bystander:
                bystander.send("x")
                return bystander.receive() == "x"
        except Refused as refused:
            assert refused.status == 503
            return False
    wait_for(lambda: not comes_in(), "three quarters of the memory to be used")
    wait_for(comes_in, "room for others", 20)  # give_up is a minute.
    wait_for(lambda: not any(comes_in() is False for _ in range(5)), "room that stays", 20)
    gate.set()
    for client in clients[:]:
        client.leave()
    closed = script.wait("closed", len(clients), 60)
    lost = [hook for hook in closed if hook["ws-undelivered"] == "1"]
    assert lost and {(hook["ws-close-code"], hook["ws-closed-by"]) for hook in lost} == {("1013", "worker")}
    # What did not give way was delivered: nothing is lost in silence.
    heard = {hook.socket for hook in script.of("message")}
    assert heard | {hook.socket for hook in lost} == {hook.socket for hook in closed}


def test_an_app_that_answers_too_much_is_cut(workers, script):
    script.on("message", lambda hook: ("x" * 3_000_000, {"Ws-To": "self"}))
    with opens(serve(workers, script.url, 'give_up = "1s"')) as client:
        client.send("x")
        assert isinstance(client.receive(), Closed)


# -- the end of the worker

def test_a_drain_flushes_the_closed_hooks(workers, script):
    worker = serve(workers, script.url, top='drain = "2s"')
    clients = [opens(worker) for _ in range(10)]
    assert worker.terminate() == 0
    assert len(script.of("closed")) == 10
    assert {hook["ws-close-code"] for hook in script.of("closed")} == {"1012"}
    assert {hook["ws-closed-by"] for hook in script.of("closed")} == {"worker"}
    for client in clients:
        client.leave()
