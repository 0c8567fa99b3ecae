"""A machine with a real systemd: process 1 of namespaces of its own, on a copy of this system that nobody keeps. Needs root, and a
kernel that allows namespaces, overlays and control groups; `reason_not_to_boot` says what is missing. Knows no worker."""

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

from support import Process, wait_for

BOOT = Path(__file__).parent / "boot"
SYSTEMD = Path("/usr/lib/systemd/systemd")


@functools.cache
def reason_not_to_boot():
    """What keeps a systemd from being booted here, or nothing."""
    if not SYSTEMD.exists():
        return f"{SYSTEMD} is not there"
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    with tempfile.TemporaryDirectory() as folder:
        attempt = subprocess.Popen([BOOT, "--try", folder], stderr=subprocess.PIPE, text=True)
        said = attempt.communicate(timeout=60)[1]
    if attempt.returncode == 0:
        forget(attempt.pid)
    return said.strip() if attempt.returncode else None


FORGET = """
mount -t cgroup2 cgroup2 "$1"
[ ! -e "$1/ws-worker-test-$2" ] || find "$1/ws-worker-test-$2" -depth -type d -exec rmdir {} + 2>/dev/null
"""


def forget(pid):
    """Removes the control groups of a machine that is gone, as soon as its last process is."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", FORGET, "-", folder, str(pid)]
        wait_for(lambda: subprocess.run(command, timeout=60).returncode == 0, "the machine's control groups to be empty")


class Machine(Process):
    polite = False  # SIGTERM means something else to process 1.

    def __init__(self, folder):
        """Boots; what is in the folder is in /run/brought inside."""
        self.folder = folder
        super().__init__([BOOT, folder], name="machine")
        try:
            wait_for(lambda: (folder / "ready").exists() or not self.lives(), "the namespaces")
            assert self.lives(), f"no machine: {self.log}"
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
            self.first = wait_for(lambda: children.read_text().split(), "process 1")[0]
            boots = lambda: self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")
            wait_for(boots, "systemd to boot", 60)
        except BaseException:
            self.stop()
            raise

    def run(self, *command, check=True, input=None, timeout=60):
        """Runs a command inside; returns what it printed, stderr included."""
        inside = ["nsenter", "--target", self.first, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd", "--"]
        done = subprocess.run([*inside, *map(str, command)], text=True, input=input, stdin=None if input else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path, text):
        self.run("tee", path, input=text)

    def show(self, unit):
        """What systemd knows of a unit."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).splitlines() if "=" in line)

    def journal(self, unit, *match):
        """The journal's entries of a unit."""
        lines = self.run("journalctl", "--unit", unit, "--output", "json", "--all", "--no-pager", *match)
        return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]

    def stop(self):
        if getattr(self, "first", None) and self.lives():
            print(self.run("journalctl", "--no-pager", "--lines", "60", check=False))
        super().stop()
        forget(self.pid)
