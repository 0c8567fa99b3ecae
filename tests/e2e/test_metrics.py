"""`/metrics`: what it counts, that Prometheus can read it, and that the page about it tells the truth."""

import re
import subprocess

import pytest

from control import Control
from metrics import scrape
from support import ROOT, wait_for
from test_control import TOKEN, start
from wire import HYBI, PONG, VERSIONS, Client, Refused, frame

ROUTES = """
[[route]]
path = "/echo"
handler = "echo"

[[route]]
path = "/chat"
handler = "chat"
max_output = "64KiB"
"""


@pytest.fixture
def worker(workers, tmp_path):
    return start(workers, tmp_path, tcp=False, routes=ROUTES, top='heartbeat = "50ms"')


@pytest.fixture
def app(workers, tmp_path, script):
    """A worker with the app `script`, and what its metrics call it."""
    worker = start(workers, tmp_path, tcp=True, routes=f'[[route]]\npath = "/"\napp = "{script.url}"\n')
    worker.app = script.url
    return worker


def wait(worker, condition):
    """The first scrape of which the condition holds."""
    def look():
        found = scrape(worker.control)
        return found if condition(found) else None
    return wait_for(look, "the metrics")


def test_sockets_are_counted_by_version_and_route(worker):
    clients = [Client(version, worker.address, "/echo") for version in VERSIONS]
    other = Client("rfc6455", worker.address, "/chat")
    found = wait(worker, lambda m: sum(m.get("ws_worker_connections", route="/echo", version=v) for v in VERSIONS) == 5)
    for version in VERSIONS:
        assert found.get("ws_worker_connections", route="/echo", version=version) == 1
        assert found.get("ws_worker_handshakes_accepted_total", route="/echo", version=version) == 1
    assert found.get("ws_worker_connections", route="/chat", version="rfc6455") == 1
    assert found.get("ws_worker_sockets") == 6
    for client in clients:
        client.close(4001, "bye") if client.version in HYBI else client.close()
    found = wait(worker, lambda m: m.get("ws_worker_sockets") == 1)
    for version in VERSIONS:
        assert found.get("ws_worker_connections", route="/echo", version=version) == 0
        assert found.get("ws_worker_handshakes_accepted_total", route="/echo", version=version) == 1
    assert found.get("ws_worker_connections_closed_total", by="client", code="4000-4999") == 3
    other.close()


def test_messages_and_their_bytes_are_counted(worker):
    with Client("rfc6455", worker.address, "/echo") as client, Client("hixie-76", worker.address, "/chat") as hixie:
        for message in ("hello", "x" * 100_000, b"binary"):
            client.send(message)
            assert client.receive() == message
        hixie.send("チャット")
        hixie.receive()
        found = scrape(worker.control)
        for way in ("received", "sent"):
            assert found.get(f"ws_worker_messages_{way}_total", route="/echo") == 3
            assert found.get(f"ws_worker_message_{way}_bytes_total", route="/echo") == 5 + 100_000 + 6
            assert found.get(f"ws_worker_messages_{way}_total", route="/chat") == 1
            assert found.get(f"ws_worker_message_{way}_bytes_total", route="/chat") == 12


def test_a_broadcast_counts_once_a_client(worker):
    with Client("rfc6455", worker.address, "/echo") as one, Client("hixie-75", worker.address, "/echo") as other:
        wait(worker, lambda m: m.get("ws_worker_sockets") == 2)
        worker.control.call("POST", "/broadcast?route=/echo", "four")
        assert [one.receive(), other.receive()] == ["four", "four"]
        found = scrape(worker.control)
        assert found.get("ws_worker_messages_sent_total", route="/echo") == 2
        assert found.get("ws_worker_message_sent_bytes_total", route="/echo") == 8


def test_pongs_are_timed(worker):
    with Client("rfc6455", worker.address, "/echo") as client:
        kind, payload = client.event()
        assert kind == "ping"
        client.raw(frame(PONG, payload))
        wait(worker, lambda m: m.get("ws_worker_ping_round_trip_seconds_count") == 1)


def test_refusals_are_counted_by_reason(worker):
    for path in ("/nowhere", "/neither"):
        with pytest.raises(Refused):
            Client("rfc6455", worker.address, path)
    assert wait(worker, lambda m: m.get("ws_worker_handshakes_refused_total", reason="not-found") == 2)


def test_slow_clients_are_counted(worker):
    with Client("rfc6455", worker.address, "/chat"):
        def dropped(metrics):
            worker.control.call("POST", "/broadcast?route=/chat", "x" * 60_000)
            return metrics.get("ws_worker_clients_dropped_total", reason="output-full") == 1
        found = wait(worker, dropped)
        assert found.get("ws_worker_connections_closed_total", by="worker", code="1013") == 1


def test_hooks_are_counted_and_timed(app, script):
    answers = iter([503, 200])
    script.on("message", lambda _hook: next(answers, 200))
    client = Client("rfc6455", app.address, "/room")
    client.send("again, please")
    script.wait("message", 2)
    client.close()
    script.wait("closed")
    found = wait(app, lambda m: m.get("ws_worker_hook_attempts_total", app=app.app, event="closed", result="taken") == 1)
    of = lambda event, result: found.get("ws_worker_hook_attempts_total", app=app.app, event=event, result=result)
    assert (of("handshake", "taken"), of("message", "again"), of("message", "taken")) == (1, 1, 1)
    assert found.get("ws_worker_hook_retries_total", app=app.app) == 1
    assert found.get("ws_worker_hook_duration_seconds_count", app=app.app) == 4
    assert found.get("ws_worker_hooks_in_flight", app=app.app) == 0
    assert found.get("ws_worker_hook_queue_messages", app=app.app) == 0


def test_what_waits_for_an_app_is_shown(app, script):
    script.on("message", 503)
    with Client("rfc6455", app.address, "/room") as client:
        for text in ("one", "two", "three"):
            client.send(text)
        found = wait(app, lambda m: m.get("ws_worker_hook_queue_messages", app=app.app) == 3)
        assert found.get("ws_worker_hook_queue_bytes", app=app.app) == 11


def test_prometheus_finds_nothing_to_complain_about(worker, app):
    for one in (worker, app):
        text = one.control.call("GET", "/metrics").body
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_process_is_there(worker):
    found = scrape(worker.control)
    assert 1 << 20 < found.get("process_resident_memory_bytes") < 1 << 30
    assert 5 < found.get("process_open_fds") <= found.get("process_max_fds")
    assert found.get("process_open_fds") == pytest.approx(worker.descriptors(), abs=2)
    assert found.get("process_cpu_seconds_total") > 0


def test_the_token_is_wanted(workers, tmp_path):
    worker = start(workers, tmp_path, tcp=True)
    assert Control(worker.control.address).call("GET", "/metrics").status == 401
    assert Control(worker.control.address, TOKEN).call("GET", "/metrics").status == 200
    assert worker.control.call("POST", "/metrics").status == 405


def test_the_page_tells_the_labels(worker, app):
    page = (ROOT / "ws-worker" / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", page, re.M)
    assert len(rows) > 30
    client = Client("rfc6455", worker.address, "/echo")
    client.close()
    wait(worker, lambda m: m.labels("ws_worker_connections_closed_total"))
    scrapes = [scrape(one.control) for one in (worker, app)]
    for name, kind, labels in rows:
        found = set().union(*(one.labels(name) for one in scrapes))
        assert found == set(re.findall(r"`(\w+)`", labels)), name
    assert {name for name, _, _ in rows} == set(scrapes[0].families)
