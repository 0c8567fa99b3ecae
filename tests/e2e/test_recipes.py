"""The files in deploy/ put where their first lines say, by the very commands that stand there, into copies of Debian's own
/etc/apache2, /etc/nginx, /etc/lighttpd and /etc/caddy; and the page about them, whose cells are tried."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import proxies
from support import DEPLOY, expect_free, free_port, running
from wire import NUMBER, VERSIONS, Client, Refused

PAGE = DEPLOY / "README.md"
VERSION_OF = {"75": "hixie-75", "76": "hixie-76", **{number: version for version, number in NUMBER.items()}}


@pytest.fixture
def worker(workers):
    expect_free(9000)
    expect_free(9002)
    return workers.start("serve", "--config", DEPLOY / "proxies.toml", address=("127.0.0.1", 9000))


@pytest.fixture
def etc(tmp_path):
    """A copy of a package's configuration, every path in it and in the commands led there."""
    def copy(name):
        shutil.copytree(f"/etc/{name}", tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("private"))
        for link in filter(Path.is_symlink, (tmp_path / name).rglob("*")):
            if (target := os.readlink(link)).startswith(f"/etc/{name}"):
                link.unlink()
                link.symlink_to(target.replace(f"/etc/{name}", str(tmp_path / name)))
        for file in (tmp_path / name).rglob("*"):
            if file.is_file() and not file.is_symlink() and file.suffix in ("", ".conf", ".load"):
                text = file.read_text(errors="surrogateescape")
                file.write_text(text.replace(f"/etc/{name}", str(tmp_path / name)), errors="surrogateescape")
        return tmp_path / name
    return copy


def install(recipe, etc, **env):
    """Runs the commands of a file's first lines as they stand there, up to what only a running system has."""
    head = re.match(r"(#.*\n)+", (DEPLOY / recipe).read_text())[0]
    commands = [line[4:] for line in head.splitlines() if line.startswith("#   ")]
    script = "\n".join(line for line in commands if re.match("cp|a2en|ln|lighty|haproxy", line))
    script = re.sub(r" && (nginx -t && )?systemctl \w+ \w+", "", script).replace(f"/etc/{etc.name}", str(etc))
    assert script, f"no commands in {recipe}"
    path = os.pathsep.join([str(etc.parent / "bin"), proxies.SBIN])
    done = subprocess.run(["bash", "-euc", script], cwd=(DEPLOY / recipe).parent, env={**os.environ, "PATH": path, **env},
                          capture_output=True, text=True)
    assert done.returncode == 0, (script, done.stdout, done.stderr)


def expect_echo(address, *versions, tls=False):
    for version in versions:
        options = {"scheme": "wss", "tls": proxies.trust()} if tls else {}
        with Client(version, address, "/ws/echo", **options) as client:
            client.send("installed")
            assert client.receive() == "installed"


APACHE = {"ws-worker": VERSIONS[1:], "ws-worker-every-version": VERSIONS, "ws-worker-tunnel": ["hixie-75", *VERSIONS[2:]]}


@pytest.mark.parametrize("recipe", [*APACHE, "ws-worker-tls"])
def test_debians_apache(worker, etc, tmp_path, recipe):
    conf, secure, port = etc("apache2"), recipe.endswith("tls"), free_port()
    install(f"apache/{recipe}.conf", conf, APACHE_CONFDIR=str(conf))
    if secure:
        site = conf / "sites-available" / f"{recipe}.conf"
        cert, key, _ = proxies.certificate()
        text = site.read_text().replace("*:443", f"*:{port}")
        site.write_text(text.replace("/etc/ssl/certs/ssl-cert-snakeoil.pem", str(cert)).replace(
            "/etc/ssl/private/ssl-cert-snakeoil.key", str(key)))
        (conf / "ports.conf").write_text(f"Listen 127.0.0.1:{port}\n")
    else:
        (conf / "ports.conf").write_text(f"Listen 127.0.0.1:{port}\n")
        site = conf / "sites-available" / "000-default.conf"
        site.write_text(site.read_text().replace("*:80", f"*:{port}"))
    env = {"APACHE_RUN_USER": "www-data", "APACHE_RUN_GROUP": "www-data", "APACHE_PID_FILE": f"{tmp_path}/pid",
           "APACHE_RUN_DIR": str(tmp_path), "APACHE_LOCK_DIR": str(tmp_path), "APACHE_LOG_DIR": str(tmp_path)}
    command = [proxies.program("apache2"), "-DFOREGROUND", "-d", conf, "-f", conf / "apache2.conf"]
    with running(command, ("127.0.0.1", port), name=recipe, env=env):
        expect_echo(("127.0.0.1", port), *APACHE.get(recipe, VERSIONS[1:]), tls=secure)


@pytest.mark.parametrize("recipe", ["ws-worker", "ws-worker-stream", "ws-worker-tls"])
def test_debians_nginx(worker, etc, tmp_path, recipe):
    conf, port = etc("nginx"), free_port()
    install(f"nginx/{recipe}.conf", conf)
    main, default = conf / "nginx.conf", conf / "sites-available" / "default"
    text = default.read_text().replace("listen [::]:80", "#").replace("listen 80", f"listen 127.0.0.1:{port}")
    if recipe == "ws-worker":
        text = text.replace("server_name _;", "server_name _;\n" + includes(recipe), 1)
    default.write_text(text)
    text = re.sub(r"/var/log/nginx|/run(?=/nginx.pid)", str(tmp_path), main.read_text())
    if recipe == "ws-worker-stream":
        text, port = text + includes(recipe), 8075
    main.write_text("daemon off;\n" + text)
    if recipe == "ws-worker-tls":
        site, port = conf / "sites-available" / f"{recipe}.conf", free_port()
        cert, key, _ = proxies.certificate()
        site.write_text(site.read_text().replace("listen 443", f"listen 127.0.0.1:{port}").replace(
            "/etc/ssl/certs/ssl-cert-snakeoil.pem", str(cert)).replace("/etc/ssl/private/ssl-cert-snakeoil.key", str(key)))
    with running([proxies.program("nginx"), "-e", "stderr", "-c", main], ("127.0.0.1", port), name=recipe):
        versions = VERSIONS if recipe == "ws-worker-stream" else VERSIONS[1:]
        expect_echo(("127.0.0.1", port), *versions, tls=recipe.endswith("tls"))


def includes(recipe):
    """The line that the file's head says to write somewhere."""
    text = (DEPLOY / "nginx" / f"{recipe}.conf").read_text()
    return re.search(r"^# and .*:  (.*)$", text, re.M)[1] + "\n"


def test_debians_lighttpd(worker, etc, tmp_path):
    conf, port = etc("lighttpd"), free_port()
    tools = tmp_path / "bin"
    tools.mkdir()
    script = Path(proxies.program("lighty-enable-mod")).read_text()
    (tools / "lighty-enable-mod").write_text(script.replace("/etc/lighttpd", str(conf)))
    (tools / "lighty-enable-mod").chmod(0o755)
    install("lighttpd/60-ws-worker.conf", conf)
    main = conf / "lighttpd.conf"
    text = re.sub(r"/var/(log|cache)/lighttpd(/uploads)?|/run(?=/lighttpd)", str(tmp_path), main.read_text())
    text = re.sub(r"^server\.(username|groupname) .*$", "", text, flags=re.M)
    text = text.replace('include_shell "/usr/share/lighttpd/use-ipv6.pl', '# "').replace("/var/www/html", str(tmp_path))
    main.write_text(re.sub(r"^(server.port +=) 80", rf'\1 {port}\nserver.bind = "127.0.0.1"', text, flags=re.M))
    with running([proxies.program("lighttpd"), "-D", "-f", main], ("127.0.0.1", port), name="lighttpd"):
        expect_echo(("127.0.0.1", port), *VERSIONS[1:])


def test_debians_caddy(worker, etc, tmp_path):
    conf, port = etc("caddy"), free_port()
    install("caddy/ws-worker.caddy", conf)
    main = conf / "Caddyfile"
    line = re.search(r"^# and .*:  (.*)$", (DEPLOY / "caddy" / "ws-worker.caddy").read_text(), re.M)[1]
    text = main.read_text().replace("file_server\n", f"file_server\n\t{line}\n", 1)
    main.write_text(f"{{\n\tadmin off\n}}\n{text}".replace("\n:80 {", f"\n:{port} {{\n\tbind 127.0.0.1"))
    command = [proxies.program("caddy"), "run", "--config", main]
    with running(command, ("127.0.0.1", port), name="caddy", env={"HOME": str(tmp_path)}):
        expect_echo(("127.0.0.1", port), *VERSIONS[2:])


@pytest.mark.parametrize("recipe", ["ws-worker", "ws-worker-every-version", "ws-worker-tcp"])
def test_haproxy_takes_the_file_as_its_head_says(recipe, tmp_path):
    (tmp_path / "haproxy").mkdir()
    install(f"haproxy/{recipe}.cfg", tmp_path / "haproxy")


# -- the page's table

def rows():
    """Its rows: what the first cell says, the file, the versions, the line shown, the pitfall."""
    table = PAGE.read_text().partition("| your proxy |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_the_table_has_every_file_and_no_more():
    named = [re.search(r"\]\((.*?)\)", row[1])[1] for row in rows()]
    shipped = [str(path.relative_to(DEPLOY)) for folder in ("apache", "nginx", "haproxy", "lighttpd", "caddy")
               for path in (DEPLOY / folder).iterdir()]
    assert sorted(named) == sorted(shipped)
    assert {front.file for front in proxies.FRONTS if front.file} == set(named)


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.search(r"\]\((.*?)\)", row[1])[1])
def test_a_row_carries_what_it_says_and_shows_lines_of_its_file(row):
    _, file, carries, shown, _ = row
    file = re.search(r"\]\((.*?)\)", file)[1]
    # test_proxies.py tries what passes, and below is tried what does not.
    said = VERSIONS if carries == "all" else [VERSION_OF[number] for number in carries.split(", ")]
    assert all(list(front.versions) == said for front in proxies.FRONTS if front.file == file)
    text = (DEPLOY / file).read_text()
    quoted = re.findall(r"`(.*?)`", shown)
    assert quoted and all(line in text for line in quoted), shown


MISSING = [(front, version) for front in proxies.FRONTS for version in VERSIONS
           if not front.variant and version not in front.versions]


@pytest.mark.parametrize("front,version", MISSING, ids=lambda value: getattr(value, "name", value))
def test_what_the_table_does_not_promise_does_not_work(worker, tmp_path, front, version):
    """Should a proxy learn it, the page wants a change."""
    with proxies.front(front, tmp_path) as started:
        with pytest.raises((Refused, AssertionError, TimeoutError)):
            Client(version, started.address, "/ws/echo", timeout=1)


# -- what the page and the files warn of

def test_lighttpds_mod_wstunnel_is_another_thing(worker, tmp_path):
    """It speaks WebSocket itself; the worker gets what a message holds and takes it for a broken request."""
    port, main = free_port(), tmp_path / "lighttpd.conf"
    main.write_text(f'server.document-root = "{tmp_path}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
                    'server.modules += ( "mod_wstunnel" )\n'
                    'wstunnel.server = ( "/ws/" => ( ( "host" => "127.0.0.1", "port" => 9000 ) ) )\n')
    with running([proxies.program("lighttpd"), "-D", "-f", main], ("127.0.0.1", port), name="lighttpd"):
        with Client("rfc6455", ("127.0.0.1", port), "/ws/echo") as client:
            client.send("hello\r\n\r\n")
            assert "HTTP/1.1 400" in client.receive()


def test_a_rewrite_to_http_loses_the_upgrade(worker, tmp_path):
    """So ws-worker-rewrite.conf says of the other way to write it."""
    file, port = tmp_path / "rewrite.conf", free_port()
    file.write_text("RewriteEngine On\nRewriteRule ^/ws/ http://127.0.0.1:9000%{REQUEST_URI} [P,L]\n")
    command, env = proxies.apache(tmp_path, port, file, proxies.APACHE_MODULES)
    with running(command, ("127.0.0.1", port), name="apache", env=env):
        with pytest.raises(Refused) as refused:
            Client("rfc6455", ("127.0.0.1", port), "/ws/echo")
    assert refused.value.status == 426


def test_a_proxy_block_ahead_of_the_line_makes_httpd_forget_its_parameters(worker, tmp_path):
    file, port = tmp_path / "block.conf", free_port()
    shipped = (DEPLOY / "apache" / "ws-worker.conf").read_text()
    file.write_text('<Proxy "http://127.0.0.1:9000/ws/">\n  ProxySet timeout=5\n</Proxy>\n' + shipped)
    command, env = proxies.apache(tmp_path, port, file, proxies.APACHE_MODULES)
    with running(command, ("127.0.0.1", port), name="apache", env=env):
        with pytest.raises(Refused) as refused:
            Client("rfc6455", ("127.0.0.1", port), "/ws/echo")
    assert refused.value.status in (426, 502)
