"""`deploy/prometheus`: the alerts by promtool, each name and label of alerts and board against what a running worker exports, and a
scrape by the shipped lines with a real Prometheus."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from metrics import scrape
from support import DEPLOY, free_port, running, wait_for
from test_control import TOKEN, start
from wire import Client

FOLDER = DEPLOY / "prometheus"
RULES, TESTS, BOARD, SCRAPE = (FOLDER / name for name in ("ws-worker.rules.yml", "ws-worker.test.yml", "ws-worker.board.json", "scrape.yml"))
# What Grafana puts into a query.
VARIABLES = {"$__rate_interval": "5m", "$job": "ws-worker", "$instance": ".*"}
ROUTES = '[[route]]\npath = "/echo"\nhandler = "echo"\n[[route]]\npath = "/app"\napp = "%s"\n'


def promtool(*arguments, cwd=None):
    done = subprocess.run(["promtool", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, timeout=60)
    return done.returncode, done.stdout


def board_queries():
    """Every query of the board, as Prometheus gets it."""
    panels = json.loads(BOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(queries) > 30
    for name, value in VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def alert_queries():
    """The alerts' expressions, written in one line or as a block."""
    text = RULES.read_text()
    blocks = re.findall(r"^( +)expr: (.*\n(?:\1 +.*\n)*)", text, re.M)
    assert len(blocks) == text.count("- alert:")
    return [" ".join(block.removeprefix("|").split()) for _, block in blocks]


@pytest.fixture
def worker(workers, tmp_path, script):
    worker = start(workers, tmp_path, tcp=True, routes=ROUTES % script.url)
    with Client("rfc6455", worker.address, "/app") as client:
        client.send("hello")
        script.wait("message")
    wait_for(lambda: scrape(worker.control).labels("ws_worker_connections_closed_total"), "the end in the metrics")
    return worker


def test_each_alert_fires_when_it_should_and_not_else():
    status, said = promtool("test", "rules", TESTS.name, cwd=FOLDER)
    assert status == 0 and "SUCCESS" in said, said
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert sorted(re.findall(r"alertname: (\w+)", TESTS.read_text())) == sorted(alerts) and len(alerts) == len(set(alerts))


def test_a_test_of_an_alert_can_fail(tmp_path):
    for file in (RULES, TESTS):
        shutil.copy(file, tmp_path)
    rules = tmp_path / RULES.name
    rules.write_text(rules.read_text().replace("> 0.8 * ws_worker_sockets_limit", "> 0.95 * ws_worker_sockets_limit"))
    status, said = promtool("test", "rules", TESTS.name, cwd=tmp_path)
    assert status != 0 and "WsWorkerNearlyFull" in said


def test_the_alerts_have_words_for_whoever_is_woken():
    text = RULES.read_text()
    assert text.count("- alert:") == text.count("summary:") == text.count("what_to_do:") == len(re.findall(r"labels: { severity: (?:page|ticket) }", text))
    assert promtool("check", "rules", RULES)[0] == 0


def test_every_query_of_the_board_is_one(tmp_path):
    rules = [{"record": f"board:query:{number}", "expr": query} for number, query in enumerate(board_queries())]
    file = tmp_path / "board.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML.
    status, said = promtool("check", "rules", file)
    assert status == 0 and f"{len(rules)} rules found" in said, said


def test_every_name_and_label_is_one_that_a_worker_exports(worker):
    found = scrape(worker.control)
    names = found.names()
    given = {"job", "instance", "le"}  # Prometheus' own, and those of histograms.
    for query in [*alert_queries(), *board_queries()]:
        bare = re.sub(r'"[^"]*"', '""', query)
        used = re.findall(r"\b((?:ws_worker|process)_\w+)(?:\{([^}]*)\})?", bare)
        assert used or bare.startswith("up{"), query
        for name, matchers in used:
            assert name in names, f"{name} in {query}"
            labels = found.labels(re.sub(r"_bucket$", "", name))
            assert set(re.findall(r"(\w+)!?=", matchers)) <= labels | given, query
        labels = set().union(*(found.labels(re.sub(r"_bucket$", "", name)) for name, _ in used))
        for grouped in re.findall(r"\bby \(([^)]*)\)", bare):
            assert set(re.findall(r"\w+", grouped)) <= labels | given, query


def test_every_value_of_a_label_is_one_that_a_worker_knows(worker):
    found = scrape(worker.control)
    known = {}
    for _, labels in found.samples:
        for name, value in labels:
            known.setdefault(name, set()).add(value)
    known["code"] |= {"1006"}  # Of ends only those that happened are there.
    for query in [*alert_queries(), *board_queries()]:
        for name, values in re.findall(r'\b(reason|result|code|event)!?=~?"([^"]*)"', query):
            assert set(values.split("|")) <= known[name], query


def test_a_prometheus_scrapes_by_the_shipped_lines(worker, tmp_path):
    token = tmp_path / "shown"
    token.write_text(TOKEN)
    text = SCRAPE.read_text()
    for shipped, here in [("127.0.0.1:9001", "%s:%d" % worker.control.address), ("/etc/prometheus/ws-worker.token", str(token)),
                          ("/etc/prometheus/rules/ws-worker.rules.yml", str(RULES)), ("scrape_interval: 15s", "scrape_interval: 1s")]:
        assert shipped in text
        text = text.replace(shipped, here)
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    assert promtool("check", "config", config)[0] == 0
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, ("127.0.0.1", port), name="prometheus"):
        def ask(query):
            status, said = promtool("query", "instant", f"http://127.0.0.1:{port}", query)
            return said.strip() if status == 0 else ""
        wait_for(lambda: "=> 1 @" in ask('up{job="ws-worker"}'), "a scrape")
        assert ask('ws_worker_messages_received_total{job="ws-worker", route="/app"}').split(" => ")[1].startswith("1 @")
        rules = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/api/v1/rules"], capture_output=True, timeout=30).stdout
        (group,) = json.loads(rules)["data"]["groups"]
        assert len(group["rules"]) == RULES.read_text().count("- alert:")


def test_the_pages_tell_of_all_files():
    page = (DEPLOY / "README.md").read_text()
    assert {f"prometheus/{file.name}" for file in FOLDER.iterdir()} <= set(re.findall(r"\((prometheus/[^)#]*)\)", page))
    assert "deploy/prometheus" in (Path(DEPLOY).parent / "ws-worker" / "docs" / "operations.md").read_text()
