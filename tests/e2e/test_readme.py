"""The pages keep their word: every command and snippet of the README is run as it stands there, the calls of the control
API's page too, and no link, test or module that a page names is missing."""

import os
import re
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import pages
import proxies
from support import CACHE, DEPLOY, OUT, ROOT, expect_free, free_port, running, wait_for
from wire import HYBI, VERSIONS, Client, Closed

README = ROOT / "README.md"
CONTROL = ROOT / "ws-worker" / "docs" / "control.md"
WORKER = ("127.0.0.1", 9000)
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("ws-*/*.md"), *ROOT.glob("ws-worker/docs/*.md"),
                                 ROOT / "deploy" / "README.md", ROOT / "tests" / "README.md"])


@contextmanager
def shell(script, folder=ROOT, **options):
    """Runs a page's commands as they stand there; those that stay are ended afterwards."""
    with running(["bash", "-ec", script], cwd=folder, env={"CARGO_NET_OFFLINE": "true"}, **options) as process:
        yield process


def wait_for_worker(process):
    # Cargo may build first, which is not what is tested here.
    process.wait_until_listening(WORKER, timeout=900)


@pytest.fixture(autouse=True)
def free_ports():
    for port in (8080, 9000):
        expect_free(port)


@pytest.fixture
def folder():
    """A folder inside the workspace, where cargo finds its way."""
    folder = OUT / "readme"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def chat(folder):
    """The README's chat, started by its two commands, and the folder it was started in."""
    (folder / "chat.php").write_text(pages.block(README, "A chat in three lines", "php"))
    with shell(pages.block(README, "A chat in three lines", "sh"), folder, name="chat") as process:
        process.wait_until_listening(("127.0.0.1", 8080))
        wait_for_worker(process)
        yield folder


def lines(text):
    """Commands of one line each."""
    return [line for line in text.splitlines() if line.strip()]


def run(line, folder, **env):
    done = subprocess.run(["bash", "-uc", line], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


# -- the README

def test_nothing_in_the_readme_is_left_untested():
    assert [(block.heading, block.language) for block in pages.blocks(README)] == [
        ("ws-worker", "text"), ("Two commands", "sh"), ("Two commands", "sh"), ("A chat in three lines", "php"),
        ("A chat in three lines", "sh"), ("A chat in three lines", "js"), ("Behind Apache", "apache"), ("Control API", "sh"),
        ("Embedding", "rust"), ("Embedding", "sh")]
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.timeout(900)  # It may have to be built.
def test_the_demo_is_one_command():
    with shell(pages.block(README, "Two commands", "sh"), name="demo") as process:
        wait_for_worker(process)
        with urllib.request.urlopen("http://127.0.0.1:9000/", timeout=10) as page:
            assert b"<h1>ws-worker</h1>" in page.read()
        for version in VERSIONS:
            with Client(version, WORKER, "/echo") as client:
                client.send("one command")
                assert client.receive() == "one command"


def test_all_tests_are_one_command():
    (command,) = lines(pages.block(README, "Two commands", "sh", 1))
    assert os.access(ROOT / command, os.X_OK)
    assert command in (ROOT / ".ci" / "run").read_text()
    run(f"bash -n {command}", ROOT)


def test_three_lines_of_php_are_a_chat(chat):
    clients = [Client(version, WORKER, "/room") for version in VERSIONS]
    clients[0].send("皆さん、こんにちは")
    assert [client.receive() for client in clients] == ["皆さん、こんにちは"] * 5
    clients[-1].send(bytes(range(256)))
    assert [client.receive() for client in clients if client.version in HYBI] == [bytes(range(256))] * 3


def test_the_page_says_hello(chat):
    script = "globalThis.WebSocket = require('ws');\n" + pages.block(README, "A chat in three lines", "js")
    with running(["node", "-e", script], env={"NODE_PATH": str(CACHE / "npm" / "node_modules")}) as page:
        page.wait_for_log("^hello$")


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_apache_lines_lead_to_the_worker(chat, version, tmp_path):
    snippet = pages.block(README, "Behind Apache", "apache")
    shipped = (DEPLOY / "apache" / "ws-worker.conf").read_text().splitlines()
    assert lines(snippet) == [line for line in shipped if line.strip() and not line.startswith("#")]
    include = tmp_path / "readme.conf"
    include.write_text(snippet)
    address = ("127.0.0.1", free_port())
    command, env = proxies.apache(tmp_path, address[1], include, ["proxy", "proxy_http", "headers"])
    with running(command, address, name="apache", env=env), Client(version, address, "/ws/room") as client:
        client.send("through Apache")
        assert client.receive() == "through Apache"


def test_the_control_calls_do_what_they_say(chat):
    client = Client("rfc6455", WORKER, "/room")
    worker = SimpleNamespace(calls=lines(pages.block(README, "Control API", "sh")), id="")

    def call():
        return run(worker.calls.pop(0), chat, ID=worker.id)
    listed = call()
    worker.id = re.search(r'"id":"([^"]+)"', listed).group(1)
    assert '"queued":1' in call() and client.receive() == "to everybody"
    assert call() == "{}" and client.receive() == "to one"
    assert call() == ""
    assert '"queued":1' in call() and client.receive() == "to a group"
    assert call() == "{}" and client.receive() == Closed(4000, "bye", True)
    assert worker.calls == []


@pytest.mark.timeout(900)  # It may have to be built.
def test_the_echo_is_the_example():
    snippet = pages.block(README, "Embedding", "rust")
    assert (ROOT / "ws-worker" / "examples" / "echo.rs").read_text().endswith("\n\n" + snippet)
    assert len(lines(snippet)) <= 15
    with shell(pages.block(README, "Embedding", "sh"), name="echo") as process:
        wait_for_worker(process)
        for version in VERSIONS:
            with Client(version, WORKER, "/") as client:
                client.send("embedded")
                assert client.receive() == "embedded"


# -- the control API's page

def test_every_call_of_the_control_page_is_answered_as_it_says(chat, workers):
    """Behind each call of the page stands the status that it is answered with."""
    calls = [line for block in pages.blocks(CONTROL) if block.language == "sh" for line in lines(block.text) if "curl" in line]
    clients = [Client("rfc6455", WORKER, "/room") for _ in range(2)]
    listed = wait_for(lambda: re.findall(r'"id":"([^"]+)"', run(
        "curl -s --unix-socket control.sock http://worker/sockets", chat)), "the list")
    assert len(listed) == 2 and len(calls) > 8
    (chat / "picture.png").write_bytes(bytes(range(256)))
    (chat / "control.token").write_text("a-token-for-tests-0123456789\n")
    workers.serve('[[route]]\npath = "/"\nhandler = "echo"',
                  control=f'listen = "127.0.0.1:9001"\ntoken_file = "{chat}/control.token"').wait_until_listening(("127.0.0.1", 9001))
    for line in calls:
        command, status = re.fullmatch(r"(curl .*?) +# (\d+).*", line).groups()
        # The page's files may lie elsewhere, and the page does not show the status line.
        command = command.replace("/run/ws-worker/", "").replace("/etc/ws-worker/", "").replace("curl ", "curl -s -i ", 1)
        answer = run(command, chat, ID=listed[0], OTHER=listed[1])
        assert answer.startswith(f"HTTP/1.1 {status} "), (line, answer)
    for client in clients:
        client.stream.close()


# -- the unit

def test_the_unit_starts_the_worker_and_waits_for_its_drain(workers, tmp_path):
    unit = (DEPLOY / "systemd" / "ws-worker.service").read_text()
    program, *arguments = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1).split()
    assert Path(program).name == "ws-worker"
    config = tmp_path / "ws-worker.toml"
    shipped = (DEPLOY / "ws-worker.toml").read_text()
    config.write_text(shipped.replace("/run/ws-worker", str(tmp_path)).replace("127.0.0.1:9000", f"127.0.0.1:{(port := free_port())}"))
    arguments[arguments.index("/etc/ws-worker/ws-worker.toml")] = config
    worker = workers.start(*arguments, address=("127.0.0.1", port))
    assert worker.terminate() == 0
    drain = int(re.search(r'^#drain = "(\d+)s"$', shipped, re.M).group(1))
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M).group(1)) > drain


# -- all pages

@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page):
    for link in pages.links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in pages.anchors(target), f"{link}: no such heading"


def test_the_ancestry_names_only_what_exists():
    page = ROOT / "ws-worker" / "docs" / "ancestry.md"
    named = re.findall(r"`([\w/-]+\.(?:py|rs))::(\w+)`", page.read_text())
    assert len(named) > 50
    sources = [*ROOT.glob("ws-*/src/**/*.rs"), *ROOT.glob("ws-*/tests/**/*.rs"), *ROOT.glob("tests/e2e/*.py")]
    for file, name in named:
        places = [source for source in sources if f"/{source.relative_to(ROOT)}".endswith("/" + file)]
        assert len(places) == 1, f"{file} names {len(places)} files"
        assert re.search(rf"\b(def|fn) {name}\b", places[0].read_text()), f"no {name} in {file}"


def test_the_tests_page_has_every_file():
    found = {path.name for path in (ROOT / "tests" / "e2e").glob("test_*.py")}
    named = re.findall(r"^\| `e2e/(test_\w+\.py)` \|", (ROOT / "tests" / "README.md").read_text(), re.M)
    assert sorted(named) == sorted(found)


def test_the_map_has_every_module():
    text = (ROOT / "ws-worker" / "ARCHITECTURE.md").read_text()
    for crate in ("ws-proto", "ws-worker"):
        source = ROOT / crate / "src"
        found = {str(path.relative_to(source)) for path in source.rglob("*.rs")}
        found -= {name for name in found if name == "lib.rs" or name.endswith("tests.rs") or "/tests/" in name}
        section = text.partition(f"### {crate}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        named = set(re.findall(r"^    \s*(?:\d )? *([\w/]+\.rs)\b", section, re.M))
        assert named == found, f"{crate}: not on the map {sorted(found - named)}, no such file {sorted(named - found)}"


# The one that the comment on floor 0 of ws-proto's lib.rs names.
LENT = {("input", "deflate")}


@pytest.mark.parametrize("crate", ["ws-proto", "ws-worker"])
def test_imports_go_down_the_floors_of_lib_rs(crate):
    source = ROOT / crate / "src"
    floors, floor = {}, None
    for line in (source / "lib.rs").read_text().splitlines():
        if found := re.match(r"// (?:Floor (\d)|Beside|And)", line):
            floor = int(found[1] or 5)
        elif found := re.match(r"(?:pub )?mod (\w+);", line):
            floors[found[1]] = floor
    assert set(floors.values()) >= {0, 1, 2, 3, 4}
    for file in source.rglob("*.rs"):
        module = file.relative_to(source).parts[0].removesuffix(".rs")
        if module not in floors or "test" in str(file.relative_to(source)):
            continue
        code = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", file.read_text())[0]
        for used in set(re.findall(r"\bcrate::(\w+)", code)) & set(floors):
            assert floors[used] <= floors[module] or (module, used) in LENT, f"{file.name} imports {used}, a floor above it"
