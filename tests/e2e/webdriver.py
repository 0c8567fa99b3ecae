"""As much of W3C WebDriver as the browser test needs, over chromedriver and the standard library."""

import base64
import json
import shutil
import urllib.error
import urllib.request
from contextlib import contextmanager

from support import free_port, running, wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
         "--window-size=1000,900", "--lang=ja"]


@contextmanager
def chromium(profile):
    """Starts a headless Chromium with a new profile and yields its `Browser`."""
    driver = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert driver and browser, "chromium and chromium-driver are not installed; tests/run installs them"
    port = free_port()
    with running([driver, f"--port={port}"], ("127.0.0.1", port), name="chromedriver"):
        opened = Browser(f"http://127.0.0.1:{port}", browser, profile)
        try:
            yield opened
        finally:
            opened.call("DELETE", "")


class Browser:
    def __init__(self, driver, browser, profile):
        self.session = driver
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "acceptInsecureCerts": True, "goog:chromeOptions": options}}}
        self.session = f"{driver}/session/{self.call('POST', '/session', wanted)['sessionId']}"

    def call(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def new_window(self):
        """Opens one more tab, turns to it, and returns its name."""
        name = self.call("POST", "/window/new", {"type": "tab"})["handle"]
        self.turn_to(name)
        return name

    def window(self):
        return self.call("GET", "/window")

    def turn_to(self, window):
        self.call("POST", "/window", {"handle": window})

    def close_window(self):
        self.call("DELETE", "/window")

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, css):
        return self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def text(self, css):
        """What is written there, visible or not; a field's value."""
        return self.run("const e = document.querySelector(arguments[0]); return e && (e.value || e.textContent)", css)

    def click(self, css):
        self.call("POST", f"/element/{self.element(css)}/click")

    def type(self, css, text):
        element = self.element(css)
        self.call("POST", f"/element/{element}/clear")
        self.call("POST", f"/element/{element}/value", {"text": text})

    def wait_for_text(self, css, found):
        """Waits until `found`, a text or a condition on it, is there."""
        condition = found if callable(found) else lambda text: found in text
        wait_for(lambda: condition(self.text(css) or ""), f"{found!r} in {css}, which says {self.text(css)!r}")
        return self.text(css)

    def screenshot(self, path, css=None):
        """A picture of the window, or of one element."""
        path.write_bytes(self.png(css))

    def png(self, css=None):
        of = f"/element/{self.element(css)}" if css else ""
        return base64.b64decode(self.call("GET", f"{of}/screenshot"))

    def size(self, width, height):
        """Makes the window show a page of this size."""
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}})

    def theme(self, name):
        """`light` or `dark`, as the person would have chosen."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})
