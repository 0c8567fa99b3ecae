"""A broadcast to many sockets is told in several turns of the loop: who hears what, and in which order, while it is under way."""

import resource
import select
import threading

import pytest

from control import Control
from test_control import start
from test_reload import Reloading
from wire import Client, Closed

SOCKETS = 1000
ROUTES = """
[[route]]
path = "/echo"
handler = "echo"
"""
GONE = """
[[route]]
path = "/gone"
handler = "echo"
"""
NEWS = "n" * 65536


@pytest.fixture
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * SOCKETS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def worker(workers, tmp_path, descriptors):
    return start(workers, tmp_path, tcp=True, top="threads = 1\n", routes=ROUTES)


@pytest.fixture
def audience(worker):
    clients = [Client("rfc6455", worker.address, "/echo") for _ in range(SOCKETS)]
    yield clients
    for client in clients:
        client.leave()


def broadcast(worker, to="?route=/echo"):
    """Begins a broadcast; returns what waits for its count."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(worker.control.json("POST", f"/broadcast{to}", NEWS)))
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


def silent(clients):
    """Those to whom nothing was said that they have not received."""
    poll = select.poll()
    for client in clients:
        poll.register(client.stream.socket, select.POLLIN)
    spoken = {number for number, _ in poll.poll(0)}
    return [client for client in clients if not client.stream.buffer and client.stream.socket.fileno() not in spoken]


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


def test_who_is_sent_away_while_a_broadcast_is_under_way_hears_it_first(workers, tmp_path, descriptors):
    control = Control(str(tmp_path / "control.sock"))
    options = {"top": 'threads = 1\ndrain = "10s"', "control": f'[control]\nlisten = "unix:{control.address}"'}
    worker = Reloading(workers, tmp_path, ROUTES + GONE, **options)
    worker.control = control
    stays, leave = worker.open("/echo"), [worker.open("/gone") for _ in range(SOCKETS)]
    everybody = list(leave)
    worker.change(ROUTES, **options)
    for _ in range(5):
        counted = broadcast(worker, to="")
        assert stays.receive() == NEWS
        # It has begun, and these, who were not sent away before, are still to hear it.
        owed = silent(leave)
        assert all(client.receive() == NEWS for client in owed)
        others = [client for client in set(leave) - set(owed) if client.receive() == NEWS]
        assert counted() == {"queued": 1 + len(owed) + len(others), "full": 0, "unsupported": 0}
        leave = owed + others
    assert len(leave) < SOCKETS, "nobody was sent away meanwhile"
    assert all(client.receive() == Closed(1001, "route removed", True) for client in leave)
    for client in [stays, *everybody]:
        client.stream.close()
