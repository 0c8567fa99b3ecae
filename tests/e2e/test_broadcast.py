"""A broadcast to many sockets is told in several turns of the loop: who hears what, and in which order, while it is under way."""

import resource
import threading

import pytest

from test_control import start
from wire import Client

SOCKETS = 1000
ROUTES = """
[[route]]
path = "/echo"
handler = "echo"
"""
NEWS = "n" * 65536


@pytest.fixture
def worker(workers, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * SOCKETS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield start(workers, tmp_path, tcp=True, top="threads = 1\n", routes=ROUTES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def audience(worker):
    clients = [Client("rfc6455", worker.address, "/echo") for _ in range(SOCKETS)]
    yield clients
    for client in clients:
        client.leave()


def broadcast(worker):
    """Begins a broadcast; returns what waits for its count."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(worker.control.json("POST", "/broadcast?route=/echo", NEWS)))
    thread.start()

    def counted():
        thread.join(30)
        return answers[0]
    return counted


def all_ids(worker):
    ids = page = worker.control.ids()
    while page:
        page = worker.control.ids(f"?after={page[-1]}")
        ids = ids + page
    return set(ids)


def test_what_a_socket_is_told_directly_does_not_overtake_a_broadcast_that_has_begun(worker, audience):
    for _ in range(5):
        counted = broadcast(worker)
        assert audience[0].receive() == NEWS
        # It has begun, and these are the last that it reaches.
        for client in audience[-20:]:
            client.send("mine")
        for client in audience[-20:]:
            assert [client.receive(), client.receive()] == [NEWS, "mine"]
        assert all(client.receive() == NEWS for client in audience[1:-20])
        assert counted() == {"queued": SOCKETS, "full": 0, "unsupported": 0}


def test_who_comes_while_a_broadcast_is_under_way_does_not_hear_it_in_the_place_of_who_left(worker, audience):
    counted = broadcast(worker)
    assert audience[0].receive() == NEWS
    for client in audience[-100:]:
        client.abort()
    newcomers = [Client("rfc6455", worker.address, "/echo") for _ in range(100)]
    for client in newcomers:
        client.send("mine")
        assert client.receive() == "mine"
    assert all(client.receive() == NEWS for client in audience[1:-100])
    assert SOCKETS - 100 <= counted()["queued"] <= SOCKETS
    for client in newcomers:
        client.send("again")
        assert client.receive() == "again"
        client.leave()
    del audience[-100:]


def test_commands_wait_for_the_broadcast_before_them_and_a_drain_ends_it_first(worker, audience):
    before = all_ids(worker)
    last = Client("rfc6455", worker.address, "/echo")
    (name,) = all_ids(worker) - before
    counted = broadcast(worker)
    assert audience[0].receive() == NEWS
    assert worker.control.call("POST", f"/sockets/{name}", "behind it").status == 202
    assert [last.receive(), last.receive()] == [NEWS, "behind it"]
    assert counted()["queued"] == SOCKETS + 1
    broadcast(worker)
    assert [audience[0].receive(), audience[1].receive()] == [NEWS, NEWS]
    worker.child.terminate()
    assert last.receive() == NEWS
    assert all(client.receive() == NEWS for client in audience[-20:])
