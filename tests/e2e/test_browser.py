"""The demo page in a real browser: two tabs that chat, an echo, binary, what the page says about itself, and leaving."""

import re

import pytest

from support import wait_for
from webdriver import chromium
from wire import Client


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(browser, demo):
    """The demo page, open and connected."""
    browser.open("http://%s:%d/" % demo.address)
    browser.wait_for_text("#state", "open")
    yield browser
    browser.open("about:blank")


def test_the_page_says_what_it_speaks(page):
    assert page.wait_for_text("#version", "rfc6455")
    assert float(re.search(r"[\d.]+", page.wait_for_text("#ping", lambda text: re.search(r"\d", text))).group()) < 1000


def test_two_tabs_chat(page, demo, out):
    first = page.window()
    second = page.new_window()
    page.open("http://%s:%d/" % demo.address)
    page.wait_for_text("#state", "open")
    page.type("#text", "こんにちは、世界")
    page.click("#send")
    page.wait_for_text("#log", "こんにちは、世界")
    page.turn_to(first)
    page.wait_for_text("#log", "こんにちは、世界")
    # WebDriver types what a keyboard can; an emoji is set as a paste would.
    page.run("document.querySelector('#text').value = arguments[0]", "返事です 😀👋🏽")
    page.click("#send")
    page.wait_for_text("#log", "返事です 😀👋🏽")
    page.screenshot(out / "demo.png")
    page.turn_to(second)
    page.wait_for_text("#log", "返事です 😀👋🏽")
    page.close_window()
    page.turn_to(first)


def test_old_and_new_clients_chat_with_the_page(page, demo):
    old = Client("hixie-76", demo.address, "/chat")
    old.send("2010年より")
    page.wait_for_text("#log", "2010年より")
    page.type("#text", "今日から")
    page.click("#send")
    assert old.receive() == "2010年より"
    assert "今日から" in old.receive()
    old.close()


def test_the_echo_comes_back(page):
    page.type("#echo-text", "やまびこ")
    page.click("#echo-send")
    page.wait_for_text("#echo-out", "やまびこ")


def test_binary_comes_back(page):
    before = page.text("#binary-out")
    page.click("#binary-send")
    assert page.wait_for_text("#binary-out", lambda text: text != before)


def test_what_a_person_says_is_text_and_not_markup(page):
    page.run("window.harmed = false; document.querySelector('#text').value = arguments[0]",
             "<img src=x onerror='window.harmed = true'><b>bold</b>")
    page.click("#send")
    page.wait_for_text("#log", "<b>bold</b>")
    assert page.run("return window.harmed") is False


def test_a_page_that_is_left_is_gone_at_once(page, demo):
    before = demo.descriptors()
    page.new_window()
    idle = demo.descriptors()
    page.open("http://%s:%d/" % demo.address)
    page.wait_for_text("#state", "open")
    assert demo.descriptors() > idle
    page.open("about:blank")
    wait_for(lambda: demo.descriptors() <= before, "the worker to see the page leave", 2)
    page.close_window()
    page.turn_to(page.call("GET", "/window/handles")[0])


def test_the_page_reports_a_worker_that_went(browser, workers):
    worker = workers.demo("--drain", "1s")
    browser.open("http://%s:%d/" % worker.address)
    browser.wait_for_text("#state", "open")
    assert worker.terminate() == 0
    browser.wait_for_text("#state", lambda state: state != "open")
