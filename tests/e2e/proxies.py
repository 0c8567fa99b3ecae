"""The proxies, each with its file from deploy/ included as it ships. Around it stands only what any installation has:
a port, a log, modules. Knows what each mode can carry, so that tests ask for no more and for no less."""

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import DEPLOY, free_port, running
from wire import HYBI, VERSIONS

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])


@dataclass(frozen=True)
class Front:
    """A way to the worker. `strict` says whether the answer to hixie-75 arrives byte for byte."""

    name: str
    versions: tuple = tuple(VERSIONS)
    strict: bool = True
    # Reads HTTP, so it forwards who the client is and may answer a refusal's connection itself.
    http: bool = True
    address: tuple = ()


FRONTS = [
    Front("direct", http=False),
    Front("apache", strict=False),
    Front("apache-wstunnel"),
    Front("nginx", strict=False),
    Front("nginx-stream", http=False),
    Front("haproxy", versions=tuple(HYBI)),
    Front("haproxy-every-version"),
]


def program(*names):
    """A proxy that is missing fails its tests; it does not skip them."""
    found = next(filter(None, (shutil.which(name, path=SBIN) for name in names)), None)
    assert found, f"{names[0]} is not installed; tests/run installs it"
    return found


@contextmanager
def front(which, folder):
    """Starts the proxy and yields the front with the address to speak to."""
    folder = Path(folder)
    address = ("127.0.0.1", free_port())
    if which.name == "direct":
        yield Front(**{**vars(which), "address": ("127.0.0.1", 9000)})
        return
    if which.name == "nginx-stream":
        address = ("127.0.0.1", 8075)
    command, env = COMMANDS[which.name](folder, address[1])
    with running(command, address, name=which.name, env=env):
        yield Front(**{**vars(which), "address": address})


def apache(folder, port, include, modules):
    places = [Path(p) for p in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules")]
    place = next(filter(Path.is_dir, places), places[0])
    lines = [f"LoadModule {name}_module {place}/mod_{name}.so" for name in ("mpm_event", "authz_core", *modules)]
    if os.geteuid() == 0:
        lines += ["User www-data", "Group www-data"]
    lines += [
        f"ServerRoot {folder}", "ServerName localhost", f"DefaultRuntimeDir {folder}", f"PidFile {folder}/httpd.pid",
        "ErrorLog /dev/stderr", "LogLevel warn", f"Listen 127.0.0.1:{port}",
        f"<VirtualHost 127.0.0.1:{port}>", f"  Include {include}", "</VirtualHost>",
    ]
    main = folder / "httpd.conf"
    main.write_text("\n".join(lines) + "\n")
    return [program("apache2", "httpd"), "-DFOREGROUND", "-f", main], {}


def nginx(folder, inside):
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    temporary = "".join(f"  {what}_temp_path {folder}/{what};\n"
                        for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = folder / "nginx.conf"
    main.write_text(
        (f"load_module {module};\n" if "stream {" in inside else "") +
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{ }}\n" +
        inside.replace("http {", "http {\n  access_log off;\n" + temporary))
    return [program("nginx"), "-e", "stderr", "-p", folder, "-c", main], {}


def haproxy(port, file):
    return [program("haproxy"), "-db", "-f", DEPLOY / "haproxy" / file], {"WS_WORKER_BIND": f"127.0.0.1:{port}"}


COMMANDS = {
    "apache": lambda folder, port: apache(
        folder, port, DEPLOY / "apache" / "ws-worker.conf", ["proxy", "proxy_http", "headers"]),
    "apache-wstunnel": lambda folder, port: apache(
        folder, port, DEPLOY / "apache" / "ws-worker-wstunnel.conf", ["proxy", "proxy_http", "proxy_wstunnel", "headers"]),
    "nginx": lambda folder, port: nginx(
        folder, f"http {{\n  server {{\n    listen 127.0.0.1:{port};\n    include {DEPLOY}/nginx/ws-worker.conf;\n  }}\n}}\n"),
    "nginx-stream": lambda folder, port: nginx(
        folder, f"stream {{\n  include {DEPLOY}/nginx/ws-worker-stream.conf;\n}}\n"),
    "haproxy": lambda folder, port: haproxy(port, "ws-worker.cfg"),
    "haproxy-every-version": lambda folder, port: haproxy(port, "ws-worker-every-version.cfg"),
}
