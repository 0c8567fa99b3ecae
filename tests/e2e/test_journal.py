"""What survives SIGKILL: the journal, between one life of the worker and the next. The disk runs full by a limit on the size of
files, which can be raised again."""

import random
import resource
import signal
import struct

import pytest

from checker import Crowd, Unruly, check
from support import command, free_port, wait_for
from wire import Client, Refused


@pytest.fixture
def journal(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "journal"


@pytest.fixture
def serve(workers, journal):
    def serve(url, route="", top="", **options):
        lines = f'[[route]]\npath = "/ws"\napp = "{url}"\n{route}'
        return workers.serve(lines, top=f'journal = "{journal}"\n{top}', **options)
    return serve


def opens(worker, path="/ws", version="rfc6455", **options):
    return Client(version, worker.address, path, **options)


def kill(worker):
    worker.child.kill()
    worker.child.wait()


def records(data):
    """Where each record begins."""
    at, found = 24, []
    while at + 8 < len(data):
        found.append(at)
        at += 8 + struct.unpack_from("<I", data, at)[0]
    return found


def wait_settled(journal, count):
    """What a test kills must have had the time to say so often that nothing is owed any more."""
    def settled():
        data = journal.read_bytes()
        return sum(data[at + 8] == 5 for at in records(data)) == count
    wait_for(settled, f"{count} × settled")


def meta(hook):
    return "", {"Ws-Set-Meta-User": "maki"}


# -- what was open

def test_the_journal_tells_of_sockets_that_a_crash_took(serve, script, journal):
    script.on("handshake", meta)
    worker = serve(script.url)
    lost = [opens(worker, headers=[("Cookie", "session=1")]) for _ in range(3)]
    opens(worker).close()
    script.wait("closed")
    wait_settled(journal, 1)
    kill(worker)
    assert journal.stat().st_mode & 0o777 == 0o600
    serve(script.url)
    closed = script.wait("closed", 4)
    assert {hook.socket for hook in closed} == {hook.socket for hook in script.of("handshake")}
    for hook in closed[1:]:
        assert hook.key == f"{hook.socket}/closed" and hook["ws-attempt"] is None
        assert (hook["ws-close-code"], hook["ws-clean"], hook["ws-closed-by"]) == ("1006", "0", "worker")
        assert hook["ws-close-reason"] == "worker%20lost" and hook["ws-undelivered"] is None
        assert hook["ws-meta-user"] == "maki" and hook["cookie"] == "session=1"
    before, after = closed[0], closed[1]
    for name in ("ws-version", "ws-resource", "ws-location", "ws-origin", "ws-worker"):
        assert after[name] == before[name]
    assert after["ws-boot"] != before["ws-boot"]
    for client in lost:
        client.leave()


def test_it_tells_of_each_once(serve, script, journal):
    worker = serve(script.url)
    clients = [opens(worker) for _ in range(3)]
    for _ in range(3):
        kill(worker)
        worker = serve(script.url)
        script.wait("closed", 3)
        # Whoever comes in now comes behind all that was owed.
        opens(worker).close()
        script.wait("closed", 4)
        wait_settled(journal, 4)
        assert len(script.of("closed")) == 4
        script.hooks.clear()
        clients = [opens(worker) for _ in range(3)]
    assert clients


def test_an_app_of_2010_finds_its_success_path(workers, script, journal):
    lines = f'[[route]]\npath = "/"\napp = "http://127.0.0.1:{script.port}"\ndialect = "typhoonae"'
    top = f'journal = "{journal}"'
    for event in ("handshake", "closed"):
        script.answers[event] = lambda hook: None
    worker = workers.serve(lines, top=top)
    client = opens(worker, "/chat/bWFraQ==?x=1")
    kill(worker)
    workers.serve(lines, top=top)
    handshake, closed = wait_for(lambda: len(script.hooks) == 2 and script.hooks, "closed")
    assert closed.path == handshake.path.replace("/handshake/", "/closed/") and closed.path.endswith("/closed/chat/bWFraQ==?x=1")
    assert closed["x-typhoonae-websocket"] == handshake["x-typhoonae-websocket"] == closed.socket
    assert f'name="from"\r\n\r\n{closed.socket}' in closed.text
    client.leave()


# -- what was owed already

def test_an_end_that_the_app_has_not_heard_of_is_told_in_its_own_words(serve, scripts, journal):
    port = free_port()
    app = scripts(port=port)
    worker = serve(app.url)
    first, second = opens(worker), opens(worker)
    app.stop()
    first.close(4001, "see you")
    second.leave()
    wait_for(lambda: b"see you" in journal.read_bytes(), "the end in the journal")
    kill(worker)
    worker = serve(app.url)  # And again, with the app still away.
    kill(worker)
    again = scripts(port=port)
    serve(app.url)
    closed = {hook.socket: hook for hook in again.wait("closed", 2)}
    ours, gone = (closed[hook.socket] for hook in app.of("handshake"))
    assert (ours["ws-close-code"], ours["ws-close-reason"], ours["ws-clean"], ours["ws-closed-by"]) == ("4001", "see%20you", "1", "client")
    assert ours["ws-undelivered"] == "0" and int(ours["ws-attempt"]) > 1
    assert gone["ws-close-code"] == "1006" and gone["ws-clean"] == "0"


def test_a_closed_that_was_tried_is_tried_with_a_higher_attempt(serve, script):
    script.on("closed", 503)
    worker = serve(script.url)
    opens(worker).close()
    for life in range(3):
        script.wait("closed", 3 * (life + 1))
        kill(worker)
        worker = serve(script.url)
    script.on("closed", None)
    wait_for(lambda: script.of("closed")[-1].key and script.of("closed"), "closed")
    closed = script.of("closed")
    attempts = [int(hook["ws-attempt"] or 1) for hook in closed]
    assert attempts == sorted(set(attempts)) and len({hook.key for hook in closed}) == 1
    assert len({(hook["ws-close-code"], hook["ws-undelivered"], hook.body) for hook in closed}) == 1


def test_a_drain_leaves_to_the_next_life_what_its_app_did_not_take(serve, scripts):
    port = free_port()
    app = scripts(port=port)
    worker = serve(app.url, top='drain = "1s"')
    client = opens(worker)
    app.stop()
    assert worker.terminate() == 0
    assert "stay in the journal" in worker.log
    again = scripts(port=port)
    serve(app.url)
    (closed,) = again.wait("closed")
    assert closed["ws-close-code"] == "1012" and closed.socket == app.of("handshake")[0].socket
    client.leave()


# -- under load

def counts(app, kills):
    """Every socket that the app accepted has its closed, each attempt has a number of its own, and they rise."""
    accepted = {hook.socket for hook in app.of("handshake") if hook.status == 200}
    attempts = {}
    for hook in app.of("closed"):
        attempts.setdefault(hook.socket, []).append(int(hook["ws-attempt"] or 1))
    assert set(attempts) >= accepted
    assert not [numbers for numbers in attempts.values() if numbers != sorted(set(numbers))]
    return len(accepted)


def test_twenty_kills_under_load(serve, workers):
    app = Unruly(seed=1)
    chance, talkers, lives = random.Random(1), [], 20
    try:
        for life in range(lives):
            worker = serve(app.url, top="threads = 2")
            crowd = Crowd(worker.address, 20, count=100_000, endings=["stay"], seed=life, first=20 * life)
            talkers += crowd.talkers
            # At a random moment: while some shake hands, or long after.
            told = chance.choice([1, 5, 10, 15, 20, 100, 300])
            wait_for(lambda: sum(h["ws-boot"] == app.hooks[-1]["ws-boot"] for h in app.seen()[-400:]) >= told, f"{told} hooks", 30)
            kill(worker)
            crowd.end()
        serve(app.url)
        check(app, talkers, kills=lives)
        assert counts(app, lives) >= 100
    finally:
        app.stop()


def test_kills_while_the_app_misbehaves(serve):
    app = Unruly(seed=2)
    talkers, lives = [], 5
    try:
        for life in range(lives):
            worker = serve(app.url, 'hook_timeout = "5s"')
            crowd = Crowd(worker.address, 20, count=30, endings=["close", "fin", "rst"], seed=life, first=20 * life)
            talkers += crowd.talkers
            before = len(app.seen())
            app.behave("503", "500 then right", "cut after the first byte", "hangs up", share=0.5)
            wait_for(lambda: len(app.seen()) > before + 150, "hooks", 60)
            kill(worker)
            crowd.end()
        app.behave()
        serve(app.url, 'hook_timeout = "5s"')
        check(app, talkers, kills=lives, hook_timeout=5)
        counts(app, lives)
    finally:
        app.stop()


def test_the_file_does_not_grow_without_bound(serve, script, journal):
    worker = serve(script.url)
    stays = opens(worker)
    for _ in range(300):
        opens(worker).leave()
    script.wait("closed", 300, timeout=60)
    assert journal.stat().st_size < 80 * 1024
    kill(worker)
    serve(script.url)
    first = script.of("handshake")[0].socket
    wait_for(lambda: any(hook.socket == first for hook in script.of("closed")), "the closed of who stayed")
    stays.leave()


# -- the file

def five_lost(serve, script):
    worker = serve(script.url)
    clients = [opens(worker) for _ in range(5)]
    kill(worker)
    return [hook.socket for hook in script.of("handshake")], clients


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage"])
def test_a_damaged_journal_costs_what_is_behind_the_damage(serve, script, journal, damage):
    sockets, _clients = five_lost(serve, script)
    data = journal.read_bytes()
    fourth = records(data)[3]
    assert len(records(data)) == 5
    if damage == "cut":
        journal.write_bytes(data[:fourth + 100])
    elif damage == "flipped":
        journal.write_bytes(data[:fourth + 100] + bytes([data[fourth + 100] ^ 4]) + data[fourth + 101:])
    else:
        journal.write_bytes(data + b"\0" * 5000)
    worker = serve(script.url)
    told = sockets if damage == "garbage" else sockets[:3]
    assert {hook.socket for hook in script.wait("closed", len(told))} == set(told)
    worker.wait_for_log("the journal is damaged")
    opens(worker).close()  # And it goes on.
    script.wait("closed", len(told) + 1)
    assert len(script.of("closed")) == len(told) + 1


def test_another_programs_file_is_not_touched(serve, workers, script, journal):
    journal.write_text("a diary\n")
    worker = workers.start("serve", "--config", workers.config(
        f'journal = "{journal}"\n[[route]]\npath = "/ws"\napp = "{script.url}"\n'))
    assert worker.child.wait(10) == 78
    worker.wait_for_log("is no journal")
    assert journal.read_text() == "a diary\n"


def test_two_workers_do_not_share_a_journal(serve, workers, script, journal):
    first = serve(script.url)
    second = workers.start("serve", "--config", workers.config(
        f'listen = "127.0.0.1:{free_port()}"\njournal = "{journal}"\n[[route]]\npath = "/ws"\napp = "{script.url}"\n'))
    assert second.child.wait(10) == 69
    second.wait_for_log("another worker has it")
    opens(first).close()
    script.wait("closed")


def test_a_folder_that_is_not_there_is_shown_where_it_is_written(workers, tmp_path):
    path = workers.config('journal = "/no/such/folder/journal"\n[[route]]\npath = "/"\nhandler = "echo"\n')
    for verb in ("check", "serve"):
        ended = command(verb, "--config", path)
        assert ended.returncode == 78
        assert f"{path}:1:11: `journal`: there is no folder /no/such/folder" in ended.stderr


# -- the disk

def limit(worker, size):
    """The disk is full when a file has so many bytes."""
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def deaf_to_the_limit():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_disk_refuses_handshakes_until_there_is_room(serve, script, journal):
    script.on("message", lambda hook: (hook.body, {"Ws-To": "self", "Ws-Set-Meta-Last": hook.text}))
    worker = serve(script.url, preexec=deaf_to_the_limit)
    stays, leaves = opens(worker), opens(worker)
    limit(worker, journal.stat().st_size + 10)
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            opens(worker)
        assert refused.value.status == 503 and int(refused.value.answer.get("Retry-After")) > 0
    # Who is in does not notice, and nothing that is due is held back.
    stays.send("meanwhile")
    assert stays.receive() == "meanwhile"
    leaves.close()
    script.wait("closed")
    assert len(script.of("handshake")) == 2
    worker.wait_for_log("the journal cannot be written")
    assert worker.log.count("the journal cannot be written") == 1
    limit(worker, resource.RLIM_INFINITY)
    worker.wait_for_log("the journal can be written again")
    late = opens(worker)
    kill(worker)
    serve(script.url)
    closed = script.wait("closed", 3)
    first, _, third = script.of("handshake")
    assert {hook.socket for hook in closed[1:]} == {first.socket, third.socket}
    # What could not be written then was written later.
    assert next(hook for hook in closed if hook.socket == first.socket)["ws-meta-last"] == "meanwhile"
    late.leave()


def test_with_a_best_effort_a_full_disk_refuses_nobody(serve, script, journal):
    worker = serve(script.url, top='journal_mode = "best-effort"', preexec=deaf_to_the_limit)
    kept = opens(worker)
    limit(worker, journal.stat().st_size + 10)
    unkept = opens(worker)
    opens(worker).close()
    script.wait("closed")
    limit(worker, resource.RLIM_INFINITY)
    kill(worker)
    worker = serve(script.url)
    script.wait("closed", 2)
    opens(worker).close()
    closed = script.wait("closed", 3)
    first, second, third, _ = script.of("handshake")
    assert [hook.socket for hook in closed[:2]] == [third.socket, first.socket] and second.socket not in [h.socket for h in script.of("closed")]
    kept.leave(), unkept.leave()
