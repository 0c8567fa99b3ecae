"""Runs Autobahn|Testsuite in both directions and condenses its reports to one table. Knows nothing of WebSocket."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WSTEST = ROOT / "tests" / ".cache" / "autobahn" / "venv" / "bin" / "wstest"
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
WORKER = os.environ.get("WS_WORKER", str(RELEASE / "ws-worker"))
CLIENT = RELEASE / "examples" / "autobahn"
TABLE = ROOT / "ws-proto" / "CONFORMANCE.md"
FLAGS = ["--max-message", "16MiB", "--max-fragments", "65536"]

SECTIONS = {
    1: "Framing", 2: "Pings and pongs", 3: "Reserved bits", 4: "Opcodes", 5: "Fragmentation", 6: "UTF-8", 7: "Closing",
    9: "Limits and performance", 10: "Automatic fragmentation", 12: "Compression: payloads", 13: "Compression: parameters"}
COMPRESSION = ["12.*", "13.*"]
GOOD = ("OK", "INFORMATIONAL")
# No case takes so long; one that is slower than most is named in the end.
LIMIT = 3600
SLOW = 10.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, port, log):
    """A process that listens on `port`, ended afterwards whatever happened."""
    with open(log, "wb") as output:
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert child.poll() is None and time.monotonic() < until, f"{command[0]} does not listen: {log}"
            time.sleep(0.05)
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def wstest(mode, out, **spec):
    """Returns the command for a fresh specification."""
    assert WSTEST.exists(), "Autobahn|Testsuite is not installed: tests/autobahn/install says why"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "spec.json").write_text(json.dumps({"outdir": str(out), "exclude-agent-cases": {}, **spec}))
    return [WSTEST, "-m", mode, "-u", "0", "-s", out / "spec.json"]


def results(out):
    """Returns what became of each case: id → its entry in Autobahn's index."""
    index = json.loads((out / "index.json").read_text())
    (cases,) = index.values()
    wanted = int(re.search(r"will run (\d+) test cases", (out / "fuzzer.log").read_text()).group(1))
    assert len(cases) == wanted, f"{len(cases)} of {wanted} cases left a result: {out}"
    return dict(sorted(cases.items(), key=lambda item: [int(number) for number in item[0].split(".")]))


def against_server(out, cases, exclude=(), limit=LIMIT):
    """Autobahn is the client; the worker's demo echoes."""
    port = free_port()
    fuzzer = wstest("fuzzingclient", out, cases=cases, **{"exclude-cases": list(exclude)},
                    servers=[{"agent": "ws-worker", "url": f"ws://127.0.0.1:{port}/echo"}])
    demo = [WORKER, "demo", "--listen", f"127.0.0.1:{port}", *FLAGS]
    with running(demo, port, out / "worker.log"), open(out / "fuzzer.log", "wb") as log:
        subprocess.run([str(part) for part in fuzzer], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit, check=True)
    return results(out)


def against_client(out, cases, exclude=(), limit=LIMIT):
    """Autobahn is the server; ws-worker/examples/autobahn.rs echoes."""
    port = free_port()
    fuzzer = wstest("fuzzingserver", out, cases=cases, **{"exclude-cases": list(exclude)}, url=f"ws://127.0.0.1:{port}")
    with running(fuzzer, port, out / "fuzzer.log"), open(out / "client.log", "wb") as log:
        subprocess.run([str(CLIENT), f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit, check=True)
    return results(out)


def faults(cases):
    """Lists the cases that are not as they should be, closing included."""
    return [f"{case}: {entry['behavior']}, closing {entry['behaviorClose']}"
            for case, entry in cases.items() if entry["behavior"] not in GOOD or entry["behaviorClose"] not in GOOD]


def words(cases):
    """Counts cases by behaviour; closing is told apart only where it is not good."""
    counts = {}
    for entry in cases:
        word = entry["behavior"]
        if word in GOOD and entry["behaviorClose"] not in GOOD:
            word = f"{word}, closing {entry['behaviorClose']}"
        counts[word] = counts.get(word, 0) + 1
    order = sorted(counts, key=lambda word: (word not in GOOD, word != "OK", word))
    return ", ".join(f"{counts[word]} {word}" for word in order)


def table(server, client):
    """Condenses both directions to markdown: sections × behaviour."""
    lines = ["| section | cases | server role | client role |", "|---|---:|---|---|"]
    of = lambda cases, section: [entry for case, entry in cases.items() if int(case.split(".")[0]) == section]
    for section, name in SECTIONS.items():
        if of(server, section) or of(client, section):
            lines.append(f"| {section}. {name} | {len(of(server, section))} | {words(of(server, section))} | {words(of(client, section))} |")
    lines.append(f"| all | {len(server)} | {words(server.values())} | {words(client.values())} |")
    return "\n".join(lines) + "\n"


def page(server, client):
    version = next(line.split("==")[1] for line in (Path(__file__).parent / "requirements.txt").read_text().splitlines()
                   if line.startswith("autobahntestsuite=="))
    return f"""# Conformance

What Autobahn|Testsuite {version} says of both roles, all cases. The server is `ws-worker demo {' '.join(FLAGS)}`, path
`/echo`; the client is `ws-worker/examples/autobahn.rs`. Each case counts by the worse of two verdicts: what was sent back, and how
the connection was closed. `INFORMATIONAL` cases have no right answer; `NON-STRICT`, there is none, would be one that is right late.

{table(server, client)}
This page is written by the run that it tells of:

    tests/autobahn/run

It needs Python 2.7 (found on the path or in pyenv) and leaves the bytes of every case in `tests/out/autobahn`.
`tests/autobahn/run --quick`, without the compression cases, is part of `tests/run`.
"""


def main(arguments):
    quick, everything = arguments == ["--quick"], arguments in ([], ["--all"])
    if any(argument.startswith("-") for argument in arguments) and not quick and not everything:
        sys.exit("usage: tests/autobahn/run [--all | --quick | CASE …]")
    cases = ["*"] if quick or everything else arguments
    exclude = COMPRESSION if quick else []
    out = ROOT / "tests" / "out" / "autobahn"
    server = against_server(out / "server", cases, exclude)
    client = against_client(out / "client", cases, exclude)
    print(table(server, client))
    for name, found in ("server", server), ("client", client):
        seconds = {case: entry["duration"] / 1000 for case, entry in found.items()}
        for case in sorted(seconds, key=seconds.get, reverse=True)[:5]:
            if seconds[case] > SLOW:
                print(f"slow: {name} {case} took {seconds[case]:.1f} s")
    wrong = [f"{name} {fault}" for name, found in (("server", server), ("client", client)) for fault in faults(found)]
    if everything:
        TABLE.write_text(page(server, client))
    if wrong:
        sys.exit("\n".join(["not as they should be:", *wrong]))


if __name__ == "__main__":
    main(sys.argv[1:])
