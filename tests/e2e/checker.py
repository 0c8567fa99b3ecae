"""Whether delivery was what ws-worker/docs/hooks.md promises: an app that misbehaves on command, clients, a log on both sides, and `check`,
which reads the two logs and proves each rule. Knows nothing of the worker but what reaches an app and a client.

    app = Unruly(seed=1)
    crowd = Crowd(worker.address, 50)      # 50 clients of all versions, each in a thread
    app.behave("503")                      # … as long as the test likes
    app.behave()                           # well again
    check(app, crowd.end())                # waits until nothing is owed, then AssertionError with all that is wrong
"""

import random
import re
import threading
import time

from apps import Raw, Script
from support import wait_for
from wire import HYBI, VERSIONS, Client, Closed, Refused, frame

# Two clocks look at one answer: when this little is left of `hook_timeout`, nobody can say whether it came in time.
BLUR = 0.5
# No handshake is waited for longer (`handshake_timeout`), however late the app comes to read it.
HANDSHAKE_TIMEOUT = 10
# Stands for an answer that was understood and is too large. The next would be no better, so it is one of a kind.
TOO_MUCH = 999


def of_old(body, headers=()):
    lines = "".join(f"{name}: {value}\r\n" for name, value in dict(headers).items())
    return Raw(f"HTTP/1.0 200 OK\r\n{lines}\r\n".encode() + body, 200)  # Its end is the end of the connection.


# What an app may do instead of answering, by name; each takes the app and the hook. Those that say nothing say so when told to.
MISBEHAVIOURS = {
    "silent": lambda app, hook: app.hold(),
    "503": lambda app, hook: ("", {}, 503),
    "503 later": lambda app, hook: ("", {"Retry-After": "1"}, 503),
    "429": lambda app, hook: ("", {}, 429),
    "500 then right": lambda app, hook: ("", {}, 500) if app.attempts(hook) == 1 else app.right(hook),
    "slow": lambda app, hook: (time.sleep(app.random.uniform(0, 0.1)), app.right(hook))[1],
    "hangs up": lambda app, hook: Raw(b""),
    "cut after the first byte": lambda app, hook: Raw(b"H"),
    "cut in the body": lambda app, hook: Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    "garbage": lambda app, hook: Raw(app.random.randbytes(3000) + b"\r\n\r\n"),
    "HTTP/1.0": lambda app, hook: of_old(*app.right(hook) or (b"",)),
    "301": lambda app, hook: ("", {"Location": "http://127.0.0.1:1/elsewhere"}, 301),
    "101": lambda app, hook: Raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 101),
    "5 MB head": lambda app, hook: app.too_much(hook),
    "404": lambda app, hook: ("", {}, 404),
}
# After these a message is tried again, so that nothing is lost however long they last within `give_up`.
PASSING = ["silent", "503", "503 later", "429", "500 then right", "slow", "hangs up", "cut after the first byte", "cut in the body",
           "garbage", "HTTP/1.0"]
# These end a socket.
FINAL = ["301", "101", "5 MB head", "404"]


class Unruly(Script):
    """An app that echoes, and misbehaves on command: `behave("503", share=0.3)` does so for that share of the messages and
    closed hooks, `behave("503", events=["handshake"])` for handshakes, `behave()` stops it. `stop` and `listen` are a restart."""

    def __init__(self, seed=0, **options):
        self.random = random.Random(seed)
        self.mood = ([], 1, ())
        self.fickle = 0
        self.held = threading.Event()
        super().__init__(**options)
        for event in ("started", "handshake", "message", "closed"):
            self.on(event, self.decide)

    def behave(self, *names, share=1, events=("message", "closed")):
        self.mood = ([MISBEHAVIOURS[name] for name in names], share, events)
        held, self.held = self.held, threading.Event()
        held.set()  # Who was kept waiting for the last mood is let go.

    def decide(self, hook):
        names, share, events = self.mood
        if names and hook.event in events and self.random.random() < share:
            return self.random.choice(names)(self, hook)
        return self.right(hook)

    def right(self, hook):
        return (hook.body, {"Ws-To": "self", "Content-Type": hook["content-type"]}) if hook.event == "message" else None

    def hold(self):
        self.held.wait(60)
        return Raw(b"")

    def too_much(self, hook):
        hook.status = TOO_MUCH  # The worker will not hear it out.
        return Raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5_000_000 + b"\r\n\r\n", TOO_MUCH)

    def attempts(self, hook):
        with self.lock:
            return sum(other.key == hook.key for other in self.hooks)

    def has_left(self, request, hook, status):
        super().has_left(request, hook, status)
        # As Node does after five seconds, at a moment that suits nobody: without `Connection: close`.
        if self.random.random() < self.fickle:
            request.close_connection = True

    def seen(self):
        with self.lock:
            return list(self.hooks)


class Logged(Client):
    """Writes down what it hears, on whichever way it is read."""

    def __init__(self, heard, *arguments, **options):
        self.heard = heard
        super().__init__(*arguments, **options)

    def receive(self, timeout=None):
        message = super().receive(timeout)
        if not isinstance(message, Closed):
            self.heard.append(message)
        return message


class Talker(threading.Thread):
    """One client, in a thread: says `count` messages in bursts, waits for the echo of each burst if it is `patient`, and leaves.

    ending    "close" in the words of its version, "fin" without a word, "rst" with its messages perhaps unread,
              "stay" until the server ends it
    `began`   when it called, by the clock of the apps' logs
    `status`  101, what the handshake was refused with, or None if there was no answer
    `polite`  whether it ended the socket itself and in order: then all it said was there to be read
    """

    def __init__(self, address, number, version, *, count=20, ending="close", patient=True, seed=0, path="/ws", patience=60, size=300):
        super().__init__(daemon=True)
        self.address, self.number, self.version, self.count = address, number, version, count
        self.ending, self.patient, self.path, self.patience, self.size = ending, patient, path, patience, size
        self.random = random.Random(f"{seed}/{number}")
        self.sent, self.heard = [], []
        self.began = self.status = self.closed = self.fault = None
        self.polite = False
        self.stopped = threading.Event()

    def run(self):
        self.began = time.monotonic()
        try:
            with Logged(self.heard, self.version, self.address, f"{self.path}?c={self.number}", timeout=self.patience) as client:
                self.status = 101
                self.talk(client)
        except Refused as refused:
            self.status = refused.status
        except (ConnectionError, EOFError):
            pass  # The worker is gone, or never was there.
        except BaseException as fault:  # What a client must never see: a broken frame, a missing echo.
            self.fault = f"{type(fault).__name__}: {fault}"

    def words(self):
        text = f"{self.number}.{len(self.sent)} " + "あ" * self.random.randint(0, self.size // 3)
        return text.encode() if self.version in HYBI and self.random.random() < 0.3 else text

    def talk(self, client):
        try:
            while len(self.sent) < self.count and not self.stopped.is_set():
                for _ in range(min(self.random.randint(1, 5), self.count - len(self.sent))):
                    self.sent.append(self.words())
                    client.send(self.sent[-1])
                while self.patient and len(self.heard) < len(self.sent):
                    if isinstance(client.receive(), Closed):
                        self.closed = client.closed
                        return
            if self.ending == "rst":
                return client.abort()
            if self.ending == "close":
                self.closed = client.close()
            elif self.ending == "fin":
                client.stream.socket.shutdown(1)
        except ConnectionError:
            pass  # It was ended from the other side; why is still to be read.
        else:
            self.polite = self.ending in ("close", "fin")
        while self.closed is None:
            if isinstance(client.receive(), Closed):
                self.closed = client.closed


class Crowd:
    """Clients of all versions in turn, of all habits at random."""

    def __init__(self, address, people, *, endings=("close", "close", "fin", "rst"), patient=None, seed=0, first=0, versions=VERSIONS,
                 **options):
        chance = random.Random(seed)
        self.talkers = [
            Talker(address, number, versions[number % len(versions)], ending=chance.choice(endings), seed=seed,
                   patient=chance.random() < 0.5 if patient is None else patient, **options)
            for number in range(first, first + people)]
        for talker in self.talkers:
            talker.start()

    def wait_open(self, timeout=30):
        """All have their answer."""
        wait_for(lambda: all(t.status or not t.is_alive() for t in self.talkers), "every handshake's answer", timeout)
        return self

    def stop(self):
        """Nobody begins another burst."""
        for talker in self.talkers:
            talker.stopped.set()

    def end(self, timeout=60):
        """Waits until everybody has left."""
        until = time.monotonic() + timeout
        for talker in self.talkers:
            talker.join(max(0, until - time.monotonic()))
            assert not talker.is_alive(), f"client {talker.number} ({talker.version}, {talker.ending}) does not come to an end"
        return self.talkers


def data(message):
    return message.encode() if isinstance(message, str) else message


def taken(hook):
    return hook.status is not None and 200 <= hook.status < 300


def refused(hook):
    return hook.status is not None and 400 <= hook.status < 500 and hook.status not in (408, 425, 429)


def senseless(hook):
    return hook.status is not None and (hook.status < 200 or 300 <= hook.status < 400 or hook.status > 599)


class Socket:
    """One socket as the app's log has it."""

    def __init__(self, name, hooks, hook_timeout, talkers):
        self.name, self.hooks, self.hook_timeout = name, hooks, hook_timeout
        self.of = {event: [h for h in hooks if h.event == event] for event in ("handshake", "message", "closed")}
        self.number = int(re.search(r"[?&]c=(\d+)", hooks[0]["ws-resource"]).group(1))
        self.talker = talkers[self.number]

    def is_sure(self, hook):
        """Whether the worker must have heard what the app answered, and nothing else."""
        talker = self.talker
        if hook.event == "handshake" and hook.status is not None and talker.began is not None:
            heard = 101 if taken(hook) else hook.status
            if talker.status == heard != 503:
                return True
            # An app that is late may read it when it was given up already, and answer in no time and in vain.
            return hook.answered_at - talker.began < min(self.hook_timeout, HANDSHAKE_TIMEOUT) - BLUR
        return hook.status is not None and hook.answered_at - hook.at < self.hook_timeout - BLUR


def is_owed(socket):
    """Whether the app may have accepted this socket and has not taken its closed."""
    opening = socket.of["handshake"]
    if opening and not all(taken(h) or h.status is None or h.status == TOO_MUCH or not socket.is_sure(h) for h in opening):
        return False
    return not any(taken(h) or refused(h) or senseless(h) for h in socket.of["closed"])


def sockets_of(hooks, hook_timeout, talkers):
    talkers = {talker.number: talker for talker in talkers}
    by_name = {}
    for hook in hooks:
        if hook.socket:
            by_name.setdefault(hook.socket, []).append(hook)
    return [Socket(name, of_one, hook_timeout, talkers) for name, of_one in by_name.items()]


def check(app, talkers, *, hook_timeout=30, concurrency=32, kills=0, drained=False, timeout=60):
    """Waits until no closed is owed, then holds the logs against what is promised; fails with everything that is wrong.

    kills      how often the worker was killed: so often a number of attempts may begin again, and a closed that was taken may come
               again
    drained    the worker ended in order and gave up what it could not tell in time: a closed may be missing
    """
    def quiet():
        now = app.seen()
        return not any(is_owed(s) for s in sockets_of(now, hook_timeout, talkers)) and now == app.seen()
    if not drained:
        try:
            wait_for(quiet, "every closed hook", timeout)
        except AssertionError:
            pass  # Each is named below.
    hooks = app.seen()
    wrong = violations(hooks, talkers, hook_timeout=hook_timeout, concurrency=concurrency, kills=kills, drained=drained)
    assert not wrong, f"{len(wrong)} violations:\n" + "\n".join(wrong[:40])


def violations(hooks, talkers, *, hook_timeout=30, concurrency=32, kills=0, drained=False):
    """All that is wrong, one line each."""
    wrong = []
    sockets = sockets_of(hooks, hook_timeout, talkers)
    for socket in sockets:
        def say(text, hook=None):
            wrong.append(f"{text} · socket {socket.name} of client {socket.number} ({socket.talker.version})"
                         + (f", {hook.key}, attempt {hook['ws-attempt']}" if hook else ""))
        talker = socket.talker
        attempts(socket, kills, say)
        handshake(socket, talker, kills, say)
        order(socket, talker, say)
        one_in_flight(socket, kills, say)
        ending(socket, talker, kills, drained, say)
        hearing(socket, talker, say)
    for talker in talkers:
        if talker.fault:
            wrong.append(f"client {talker.number} ({talker.version}): {talker.fault}")
        named = [s for s in sockets if s.number == talker.number]
        if talker.status == 101 and not any(taken(h) for s in named for h in s.of["handshake"]):
            wrong.append(f"client {talker.number} ({talker.version}) is in, and no app said yes")
    # More at once than the app wants; whom it keeps waiting beyond the timeout it has no longer.
    moments = []
    for hook in hooks:
        if hook.status and hook.answered_at - hook.at < hook_timeout - BLUR:
            moments += [(hook.at, 1), (hook.answered_at, -1)]
    busy = most = 0
    for _, change in sorted(moments, key=lambda moment: (moment[0], moment[1])):
        busy += change
        most = max(most, busy)
    if most > concurrency:
        wrong.append(f"{most} hooks at once, not {concurrency}")
    return wrong


def attempts(socket, kills, say):
    """[2.3.3] A repetition has the same key and body and a higher attempt; nothing that was answered is repeated."""
    last, resets = {}, 0
    for hook in socket.hooks:
        attempt = int(hook["ws-attempt"] or 1)
        if before := last.get(hook.key):
            again = int(before["ws-attempt"] or 1)
            if attempt <= again or before["ws-boot"] != hook["ws-boot"]:
                resets += 1
                if resets > kills:
                    say(f"attempt {attempt} after {again}", hook)
            elif before.body != hook.body:
                say("the same key with another body", hook)
            elif (taken(before) or refused(before) or senseless(before)) and socket.is_sure(before) and before.answered_at < hook.at:
                say(f"repeated though answered {before.status}", hook)
        last[hook.key] = hook


def handshake(socket, talker, kills, say):
    """[2.3.6] Once, first, and what the client heard is what the app said."""
    opening = socket.of["handshake"]
    if not opening:
        # It broke on its way: the app may have seen it, for all the worker knows.
        if socket.of["message"]:
            say("messages without a handshake")
        elif talker.status == 101:
            say("open, and the app was never asked")
        return
    if len(opening) > 1:
        say(f"{len(opening)} handshakes")
    # One that the worker did not wait for may be read after its closed.
    if socket.hooks[0] is not opening[0] and socket.is_sure(opening[0]):
        say("something came before the handshake")
    if opening[0].key != f"{socket.name}/handshake":
        say("a wrong key", opening[0])
    if talker.status == 101 and not taken(opening[0]):
        say(f"in, though the app said {opening[0].status}")
    if taken(opening[0]) and socket.is_sure(opening[0]) and talker.status not in (101, None) and not kills:
        say(f"refused with {talker.status}, though the app said yes in time")
    if not taken(opening[0]) and socket.of["message"]:
        say("messages of a socket that was not let in")


def order(socket, talker, say):
    """[2.3.1, 2.3.2] What the app saw is a prefix of what was sent, and each was answered before the next was told."""
    next_seq, current = 1, None
    for hook in socket.of["message"]:
        name, _, seq = hook.key.partition("/")
        if name != socket.name or not seq.isdecimal():
            say("a wrong key", hook)
            continue
        seq = int(seq)
        if current and seq == next_seq - 1:
            pass  # Another attempt.
        elif seq != next_seq:
            say(f"message {seq} where {next_seq} belongs: " + ("a gap" if seq > next_seq else "out of order"), hook)
            next_seq = seq + 1
        else:
            if current and not taken(current) and socket.is_sure(current):
                say(f"message {seq}, though {seq - 1} was answered {current.status}", hook)
            next_seq += 1
        if seq > len(talker.sent):
            say(f"message {seq} of {len(talker.sent)} that were sent", hook)
        elif hook.body != data(talker.sent[seq - 1]):
            say(f"message {seq} is not what was sent: {hook.body[:40]!r}", hook)
        elif (hook["content-type"] == "application/octet-stream") != isinstance(talker.sent[seq - 1], bytes):
            say(f"message {seq} came as {hook['content-type']}", hook)
        current = hook


def one_in_flight(socket, kills, say):
    """[2.3.1] At most one hook a socket, as far as the app answers in time."""
    for before, hook in zip(socket.hooks, socket.hooks[1:]):
        if before.key == hook.key or kills:
            continue
        # What was never answered was cut off at a moment that only the worker knows.
        if socket.is_sure(before) and hook.at < before.answered_at:
            say(f"told while {before.key} was in flight", hook)


def ending(socket, talker, kills, drained, say):
    """[2.3.2, 2.3.7] Closed exactly once, last, for whom the app may have let in, and it counts what was lost."""
    closed, messages, opening = socket.of["closed"], socket.of["message"], socket.of["handshake"]
    if opening and socket.is_sure(opening[0]) and not taken(opening[0]) and opening[0].status != TOO_MUCH:
        if closed:
            say(f"closed, though its handshake was answered {opening[0].status}")
        return
    if not closed:
        if not drained:
            say("no closed")
        return
    if {hook.key for hook in closed} != {f"{socket.name}/closed"}:
        say("a wrong key", closed[0])
    after = socket.hooks[socket.hooks.index(closed[0]):]
    if not kills and any(hook.event != "closed" and socket.is_sure(hook) for hook in after):
        say("something came after closed")
    if len({(h["ws-close-code"], h["ws-close-reason"], h["ws-undelivered"], h["ws-closed-by"]) for h in closed}) > 1 + kills:
        say("closed says one thing and then another")
    if not drained and is_owed(socket):
        say("closed was given up")
    end = closed[-1]
    if not opening and (end["ws-close-code"], end["ws-clean"]) != ("1006", "0"):
        say("closed for a socket that the app never saw", end)
    if end["ws-undelivered"] is None:
        # Whoever was open when the worker was killed, or had left with messages still queued.
        if not kills:
            say("closed does not say what was lost", end)
        return
    lost = int(end["ws-undelivered"])
    answers = {hook.key: hook for hook in messages}  # The last attempt at each.
    answered = sum(taken(hook) or refused(hook) for hook in answers.values())
    last = messages[-1] if messages else None
    # Of the last attempt alone it may be unknown whether its answer was heard.
    doubt = 1 if last and not (last.status is not None and socket.is_sure(last)) else 0
    low = answered - (doubt if last and taken(last) else 0)
    counts = range(low + lost, low + lost + doubt + 1)
    if talker.polite and talker.status == 101 and len(talker.sent) not in counts:
        say(f"{len(talker.sent)} sent, {answered} answered, {lost} undelivered")
    if low + lost > len(talker.sent):
        say(f"more than was sent: {len(talker.sent)} sent, {answered} answered, {lost} undelivered")
    if end["ws-closed-by"] == "worker" and lost and end["ws-close-code"] not in ("1011", "1013", "1012", "1006"):
        say(f"{lost} lost, and the code is {end['ws-close-code']}")
    if last and refused(last) and socket.is_sure(last) and not talker.polite and talker.ending == "stay" \
            and end["ws-close-code"] != "1008":
        say(f"refused, and the code is {end['ws-close-code']}")


def hearing(socket, talker, say):
    """[2.3.8] What a client hears is a prefix of what the app said to it: never a hole. All of it, if nothing went wrong."""
    told = []
    for hook in socket.of["message"]:
        seq = int(hook.key.partition("/")[2])
        if taken(hook) and seq > len(told):
            told.append(hook.body)
    heard = [data(message) for message in talker.heard]
    if heard != told[:len(heard)]:
        place = next((n for n, (a, b) in enumerate(zip(heard, told)) if a != b), len(told))
        say(f"heard something else at {place + 1} of {len(heard)}; the app said {len(told)}")
    if talker.polite and talker.patient and len(heard) < len(talker.sent):
        say(f"waited for {len(talker.sent)}, heard {len(heard)}")
