"""The proxies, each with its file from deploy/ as it ships. Around it stands only what any installation has: a port, a
log, modules. What a file offers as a comment (`# On a unix socket: …`, `# With TLS: …`) is put in place of the line above
it, as a person would. Knows what each mode can carry, so that tests ask for no more and for no less."""

import os
import re
import shutil
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from support import DEPLOY, OUT, free_port, running
from wire import HYBI, VERSIONS

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])
UNIX = "On a unix socket"
ALL, HTTP, TODAY = tuple(VERSIONS), tuple(VERSIONS[1:]), tuple(HYBI)


@dataclass(frozen=True)
class Front:
    """A way to the worker."""

    name: str
    # Below deploy/.
    file: str = ""
    # What passes strictly, down to the byte where browsers compared bytes.
    versions: tuple = ALL
    # hixie-75 passes as well, but not byte for byte.
    loose: bool = False
    # Reads HTTP, so it forwards who the client is and may answer a refusal's connection itself.
    http: bool = True
    unix: bool = False
    tls: bool = False
    # For these versions a message behind the head, before the answer, waits until more comes, or is lost.
    impatient: tuple = ()
    # What the running one has.
    address: tuple = ()
    process: Any = None
    folder: Any = None

    @property
    def variant(self):
        """The same file with another line in it; not everything needs to be tried again."""
        return self.unix or self.tls

    @property
    def tried(self):
        """The versions of the matrix, hixie-75 as a client without the old browsers' eyes."""
        passing = (*(["hixie-75"] if self.loose else []), *self.versions)
        return tuple(v for v in passing if not (self.variant and v in ("hybi-07", "hybi-08")))

    @property
    def scheme(self):
        return "wss" if self.tls else "ws"

    def strict(self, version):
        return version in self.versions

    def options(self):
        """What a client needs to come this way."""
        return {"scheme": self.scheme, "tls": trust()} if self.tls else {}


APACHE, NGINX, HAPROXY = "apache/ws-worker", "nginx/ws-worker", "haproxy/ws-worker"
LIGHTTPD, CADDY = "lighttpd/60-ws-worker.conf", "caddy/ws-worker.caddy"
FRONTS = [
    Front("direct", http=False),
    Front("apache", f"{APACHE}.conf", HTTP, loose=True),
    Front("apache-unix", f"{APACHE}.conf", HTTP, loose=True, unix=True),
    Front("apache-every-version", f"{APACHE}-every-version.conf", impatient=("hixie-75",)),
    Front("apache-every-version-unix", f"{APACHE}-every-version.conf", impatient=("hixie-75",), unix=True),
    Front("apache-tunnel", f"{APACHE}-tunnel.conf", ("hixie-75", *HYBI), impatient=ALL),
    Front("apache-tunnel-unix", f"{APACHE}-tunnel.conf", ("hixie-75", *HYBI), impatient=ALL, unix=True),
    Front("apache-rewrite", f"{APACHE}-rewrite.conf", HTTP, loose=True),
    Front("apache-rewrite-unix", f"{APACHE}-rewrite.conf", HTTP, loose=True, unix=True),
    Front("apache-tls", f"{APACHE}-tls.conf", HTTP, loose=True, tls=True),
    Front("nginx", f"{NGINX}.conf", HTTP, loose=True),
    Front("nginx-unix", f"{NGINX}.conf", HTTP, loose=True, unix=True),
    Front("nginx-stream", f"{NGINX}-stream.conf", http=False),
    Front("nginx-stream-unix", f"{NGINX}-stream.conf", http=False, unix=True),
    Front("nginx-tls", f"{NGINX}-tls.conf", HTTP, loose=True, tls=True),
    Front("haproxy", f"{HAPROXY}.cfg", TODAY),
    Front("haproxy-unix", f"{HAPROXY}.cfg", TODAY, unix=True),
    Front("haproxy-tls", f"{HAPROXY}.cfg", TODAY, tls=True),
    Front("haproxy-every-version", f"{HAPROXY}-every-version.cfg"),
    Front("haproxy-every-version-unix", f"{HAPROXY}-every-version.cfg", unix=True),
    Front("haproxy-every-version-tls", f"{HAPROXY}-every-version.cfg", tls=True),
    Front("haproxy-tcp", f"{HAPROXY}-tcp.cfg", http=False),
    Front("haproxy-tcp-unix", f"{HAPROXY}-tcp.cfg", http=False, unix=True),
    Front("haproxy-tcp-tls", f"{HAPROXY}-tcp.cfg", http=False, tls=True),
    Front("lighttpd", LIGHTTPD, HTTP, loose=True),
    Front("lighttpd-unix", LIGHTTPD, HTTP, loose=True, unix=True),
    Front("lighttpd-tls", LIGHTTPD, HTTP, loose=True, tls=True),
    Front("caddy", CADDY, TODAY, impatient=ALL),
    Front("caddy-unix", CADDY, TODAY, impatient=ALL, unix=True),
    Front("caddy-tls", CADDY, TODAY, impatient=ALL, tls=True),
]


def named(name):
    return next(front for front in FRONTS if front.name == name)


def program(*names):
    """A proxy that is missing fails its tests; it does not skip them."""
    found = next(filter(None, (shutil.which(name, path=SBIN) for name in names)), None)
    assert found, f"{names[0]} is not installed; tests/run installs it"
    return found


@cache
def certificate():
    """A certificate of our own for the loopback, its key, and both in one file."""
    OUT.mkdir(exist_ok=True)
    cert, key, both = OUT / "tls.crt", OUT / "tls.key", OUT / "tls.pem"
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    both.write_text(cert.read_text() + key.read_text())
    return cert, key, both


@cache
def trust():
    return ssl.create_default_context(cafile=certificate()[0])


def choose(text, label):
    """The text with each line that a comment offers under `label` in place of the line above it."""
    lines = []
    for line in text.splitlines():
        if offer := re.match(rf"(\s*)# {label}[^:]*: (.*)", line):
            last = max(n for n, before in enumerate(lines) if before.strip() and not before.lstrip().startswith("#"))
            lines[last] = offer[1] + offer[2]
        lines.append(line)
    assert lines != text.splitlines(), f"nothing is offered under {label!r}"
    return "\n".join(lines) + "\n"


def recipe(which, folder, sockets, change=lambda text: text):
    """The shipped file's path, or that of a copy where it has to name other paths than the real ones."""
    text = shipped = (DEPLOY / which.file).read_text()
    if which.unix:
        text = choose(text, UNIX).replace("/run/ws-worker", str(sockets))
    if which.tls and which.file.endswith(".cfg"):
        text = choose(text, "With TLS")
    cert, key, both = certificate() if which.tls else ("", "", "")
    for there, here in [("/etc/haproxy/ws-worker.pem", both), ("/etc/ssl/certs/ssl-cert-snakeoil.pem", cert),
                        ("/etc/ssl/private/ssl-cert-snakeoil.key", key), ("conf-available/", f"{DEPLOY}/apache/"),
                        ("snippets/", f"{DEPLOY}/nginx/")]:
        text = "\n".join(line if line.lstrip().startswith("#") else line.replace(there, str(here))
                         for line in text.splitlines()) + "\n"
    text = change(text)
    if text == shipped:
        return DEPLOY / which.file
    copy = Path(folder) / Path(which.file).name
    copy.write_text(text)
    return copy


@contextmanager
def front(which, folder, sockets=None, **options):
    """Starts the proxy and yields the front with the address to speak to. `sockets` is the folder that stands for
    /run/ws-worker; `change` may rewrite the file, `around` adds lines to what stands around it."""
    folder = Path(folder)
    address = ("127.0.0.1", 9000) if which.name == "direct" else ("127.0.0.1", free_port())
    if which.name == "direct":
        yield replace(which, address=address)
        return
    if which.file == f"{NGINX}-stream.conf":
        address = ("127.0.0.1", 8075)
    command, env = command_for(which, folder, address[1], sockets, **options)
    with running(command, address, name=which.name, env=env) as process:
        process.polite = False  # Some wait for open sockets.
        yield replace(which, address=address, process=process, folder=folder)


def command_for(which, folder, port, sockets, change=lambda text: text, around=""):
    kind = which.file.partition("/")[0]
    if which.file.endswith("-tls.conf"):
        site_port = lambda text: change(text).replace(":443", f":{port}").replace("listen 443", f"listen 127.0.0.1:{port}")
        file = recipe(which, folder, sockets, site_port)
        return apache(folder, port, file, APACHE_MODULES, around, site=True) if kind == "apache" else nginx(
            folder, f"http {{\n  include {file};\n  {around}\n}}\n")
    file = recipe(which, folder, sockets, change)
    if kind == "apache":
        wanted = re.search(r"a2enmod ([a-z_ ]+)", file.read_text())[1].split()
        return apache(folder, port, file, wanted, around)
    if kind == "nginx":
        if "stream" in which.name:
            return nginx(folder, f"stream {{\n  {around}\n  include {file};\n}}\n")
        return nginx(folder, f"http {{\n  server {{\n    listen 127.0.0.1:{port};\n    {around}\n    include {file};\n  }}\n}}\n")
    if kind == "haproxy":
        return [program("haproxy"), "-W", "-db", "-f", file], {"WS_WORKER_BIND": f"127.0.0.1:{port}"}
    return (lighttpd if kind == "lighttpd" else caddy)(folder, port, file, which.tls, around)


APACHE_MODULES = ["proxy", "proxy_http", "proxy_wstunnel", "headers", "ssl", "http2", "rewrite", "mime", "env"]


def apache(folder, port, include, modules, around="", site=False):
    places = [Path(p) for p in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules")]
    place = next(filter(Path.is_dir, places), places[0])
    lines = [f"LoadModule {name}_module {place}/mod_{name}.so" for name in ("mpm_event", "authz_core", "reqtimeout", *modules)]
    if os.geteuid() == 0:
        lines += ["User www-data", "Group www-data"]
    lines += ["TypesConfig /dev/null"] if "mime" in modules else []
    lines += [
        f"ServerRoot {folder}", "ServerName localhost", f"DefaultRuntimeDir {folder}", f"PidFile {folder}/httpd.pid",
        "ErrorLog /dev/stderr", "LogLevel warn", f"Listen 127.0.0.1:{port}", around,
    ]
    lines += [f"Include {include}"] if site else [f"<VirtualHost 127.0.0.1:{port}>", f"  Include {include}", "</VirtualHost>"]
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
        ("user www-data;\n" if os.geteuid() == 0 else "") +
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{ }}\n" +
        inside.replace("http {", "http {\n  access_log off;\n" + temporary))
    return [program("nginx"), "-e", "stderr", "-p", folder, "-c", main], {}


def lighttpd(folder, port, file, tls, around):
    main = folder / "lighttpd.conf"
    secure = f'server.modules += ( "mod_openssl" )\nssl.engine = "enable"\nssl.pemfile = "{certificate()[2]}"\n' if tls else ""
    main.write_text(f'server.document-root = "{folder}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
                    'server.feature-flags = ("server.graceful-shutdown-timeout" => 5)\n'  # As in Debian's lighttpd.conf.
                    f'{secure}{around}\ninclude "{file}"\n')
    return [program("lighttpd"), "-D", "-f", main], {}


def caddy(folder, port, file, tls, around):
    admin = free_port()
    main = folder / "Caddyfile"
    secure = "tls {} {}".format(*certificate()[:2]) if tls else ""
    main.write_text(f"{{\n  admin localhost:{admin}\n  auto_https disable_redirects\n}}\n"
                    f"{'https' if tls else 'http'}://:{port} {{\n  bind 127.0.0.1\n  {secure}\n  {around}\n  import {file}\n}}\n")
    return [program("caddy"), "run", "--config", main, "--adapter", "caddyfile"], {"HOME": str(folder)}
