"""What stands in deploy/ beside the proxies' files: the unit for supervisord, and the rules that keep the public away from hooks."""

import http.client
import os
import re
import signal
import sys
from pathlib import Path

import pytest

import pages
import proxies
from support import DEPLOY, WORKER, free_port, listens, running, wait_for
from wire import Client, Closed

README = DEPLOY / "README.md"


def test_supervisord_starts_the_worker_again_and_waits_for_its_drain(workers, tmp_path):
    port = free_port()
    shipped = (DEPLOY / "supervisor" / "ws-worker.conf").read_text()
    config = workers.config(f'listen = "127.0.0.1:{port}"\ndrain = "2s"\n[[route]]\npath = "/"\nhandler = "echo"')
    for there, here in [("/usr/bin/ws-worker", WORKER), ("/etc/ws-worker/ws-worker.toml", str(config)),
                        ("/var/log/ws-worker.log", f"{tmp_path}/log"), ("user=ws-worker\n", "")]:
        assert there in shipped
        shipped = shipped.replace(there, here)
    (tmp_path / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={tmp_path}/pid\n" + shipped)
    program = Path(sys.executable).parent / "supervisord"
    with running([program, "-c", tmp_path / "supervisord.conf"], ("127.0.0.1", port), name="supervisord") as process:
        (pid,) = process.wait_for_log(r"spawned: 'ws-worker' with pid (\d+)").groups()
        os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: len(re.findall("spawned: 'ws-worker'", process.log)) == 2, "the second life")
        process.wait_until_listening(("127.0.0.1", port))
        client = Client("rfc6455", ("127.0.0.1", port))
        process.child.send_signal(signal.SIGTERM)
        closed = client.receive()
        assert isinstance(closed, Closed) and closed.code == 1012
        client.stream.close()
        process.child.wait(15)
        assert not listens(("127.0.0.1", port)) and "killing" not in process.log
    drain = int(re.search(r'^#drain = "(\d+)s"$', (DEPLOY / "ws-worker.toml").read_text(), re.M).group(1))
    assert int(re.search(r"^stopwaitsecs=(\d+)$", shipped, re.M).group(1)) > drain


# -- nobody else calls the app's hook

def apache(folder, port, rule, app):
    (folder / "rule.conf").write_text(f'{rule}\nProxyPass "/" "http://127.0.0.1:{app}/"\n')
    return proxies.apache(folder, port, folder / "rule.conf", ["proxy", "proxy_http"])[0]


def nginx(folder, port, rule, app):
    inside = f"location / {{ proxy_pass http://127.0.0.1:{app}; }}\nlocation ~ ks {{ proxy_pass http://127.0.0.1:{app}; }}"
    return proxies.nginx(folder, f"http {{\n  server {{\n    listen 127.0.0.1:{port};\n    {inside}\n    {rule}\n  }}\n}}\n")[0]


def haproxy(folder, port, rule, app):
    (folder / "haproxy.cfg").write_text(
        f"defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n{rule}\n  default_backend b\nbackend b\n  server s 127.0.0.1:{app}\n")
    return [proxies.program("haproxy"), "-db", "-f", folder / "haproxy.cfg"]


@pytest.mark.parametrize("proxy, language", [(apache, "apache"), (nginx, "nginx"), (haproxy, "haproxy")])
def test_the_rule_of_the_page_keeps_the_public_from_hooks(script, tmp_path, proxy, language):
    port, rule = free_port(), pages.block(README, "Hooks are not for the public", language)

    def status(path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", path, b"", {"Ws-Event": "message"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status
    with running(proxy(tmp_path, port, rule, script.port), ("127.0.0.1", port), name=language):
        for path in ["/hooks", "/hooks/", "/hooks/red", "/hooks?x=1", "/hooks/../hooks/red", "/%68ooks/red", "//hooks/red", "/a/../hooks",
                     "/./hooks"]:
            assert status(path) in (400, 403), path
        assert script.hooks == []
        assert status("/") == status("/page?hooks") == 200 and len(script.hooks) == 2
