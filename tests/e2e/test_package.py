"""The Debian package: built by cargo deb, read by lintian, installed, upgraded, removed and purged in a folder of its own."""

import os
import re
import subprocess

import pytest

from support import ROOT

CONFIG = "etc/ws-worker/ws-worker.toml"
UNIT = "usr/lib/systemd/system/ws-worker.service"


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def build(folder, *arguments):
    """A package of the binary under test, without building that again."""
    made = run("cargo", "deb", "-p", "ws-worker", "--no-build", "-o", folder, *arguments, cwd=ROOT).split()
    (package,) = [path for path in made if path.endswith(".deb")]
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return build(tmp_path_factory.mktemp("package"))


class Debian:
    """A folder that dpkg takes for a system; scripts run outside of it and are told where it is."""

    def __init__(self, root):
        self.root = root
        for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"):
            (root / folder).mkdir(parents=True)
        for file in ("var/lib/dpkg/status", "etc/passwd", "etc/group"):
            (root / file).touch()

    def dpkg(self, *arguments):
        return run("dpkg", f"--root={self.root}", "--force-not-root", "--force-depends", "--force-script-chrootless",
                   "--force-confold", *arguments)

    def status(self):
        done = subprocess.run(["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-f", "${Status}", "-W", "ws-worker"],
                              capture_output=True, text=True)
        return done.stdout

    def files(self, below="."):
        return {str(path.relative_to(self.root)) for path in (self.root / below).rglob("*") if not path.is_dir()}


@pytest.fixture
def debian(tmp_path):
    return Debian(tmp_path / "root")


def test_lintian_finds_no_errors(package):
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error", package], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_an_operator_looks_for_is_there(debian, package):
    debian.dpkg("-i", package)
    assert debian.status() == "install ok installed"
    files = debian.files()
    for file in [
            "usr/bin/ws-worker", CONFIG, UNIT, UNIT.replace(".service", ".socket"),
            "usr/share/man/man8/ws-worker.8.gz", "usr/share/man/man5/ws-worker.toml.5.gz",
            "usr/share/bash-completion/completions/ws-worker", "usr/share/zsh/vendor-completions/_ws-worker",
            "usr/share/fish/vendor_completions.d/ws-worker.fish", "etc/apache2/conf-available/ws-worker.conf",
            "etc/nginx/snippets/ws-worker.conf", "usr/share/doc/ws-worker/hooks.md", "usr/share/doc/ws-worker/copyright",
            "usr/share/doc/ws-worker/examples/prometheus/ws-worker.rules.yml",
            "usr/share/doc/ws-worker/examples/systemd/unix-sockets-only.conf"]:
        assert file in files, f"{file} is not among {sorted(files)}"
    examples = {file for file in files if file.startswith("usr/share/doc/ws-worker/examples/")}
    assert {"php", "python", "flask", "node"} <= {file.split("/")[6] for file in examples if "/apps/" in file}
    assert "ws-worker:" in (debian.root / "etc/passwd").read_text(), "the user that the unit names"


def test_nothing_is_switched_on_by_an_installation(debian, package):
    debian.dpkg("-i", package)
    links = [path for path in debian.root.rglob("*") if path.is_symlink()]
    assert not [path for path in links if ".wants" in str(path) or "enabled" in str(path)], links


def test_the_file_runs_as_shipped_and_the_unit_starts_what_is_installed(debian, package):
    debian.dpkg("-i", package)
    said = run(debian.root / "usr/bin/ws-worker", "check", "--config", debian.root / CONFIG)
    assert ": ok" in said
    start = re.search(r"^ExecStart=(\S+) serve --config (\S+)$", (debian.root / UNIT).read_text(), re.M)
    assert (debian.root / start[1].lstrip("/")).exists() and (debian.root / start[2].lstrip("/")).exists()


def test_an_upgrade_keeps_what_the_operator_wrote(debian, package, tmp_path):
    debian.dpkg("-i", package)
    config = debian.root / CONFIG
    config.write_text(config.read_text() + "\n# mine\n")
    debian.dpkg("-i", build(tmp_path, "--deb-version", "9.0.0"))
    assert debian.status() == "install ok installed"
    assert config.read_text().endswith("# mine\n")


def test_a_purge_leaves_nothing_behind(debian, package):
    debian.dpkg("-i", package)
    debian.dpkg("-r", "ws-worker")
    assert (debian.root / CONFIG).exists(), "a removal keeps the configuration"
    debian.dpkg("-P", "ws-worker")
    left = {file for file in debian.files() if "ws-worker" in file and not file.startswith("var/lib/dpkg")}
    assert left == set()


def test_the_pages_are_pages(package, debian):
    debian.dpkg("-i", package)
    for page in ("man8/ws-worker.8.gz", "man5/ws-worker.toml.5.gz"):
        path = debian.root / "usr/share/man" / page
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(path)], capture_output=True, text=True,
                              env={**os.environ, "MANPAGER": "cat", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert "ws-worker" in done.stdout


def test_the_completions_complete(debian, package):
    debian.dpkg("-i", package)
    script = debian.root / "usr/share/bash-completion/completions/ws-worker"
    function = re.search(r"complete -F (\S+)", script.read_text())[1]
    said = run("bash", "-c", f"source {script}; COMP_WORDS=(ws-worker serve --heart); COMP_CWORD=2; {function} ws-worker --heart serve; "
               "printf '%s\\n' \"${COMPREPLY[@]}\"")
    assert "--heartbeat" in said.split()
