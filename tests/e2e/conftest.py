"""What tests take for granted: fresh workers and apps, ended after each test whatever happened."""

import pytest

import apps
from pictures import Picture
from support import OUT, Workers


def pytest_addoption(parser):
    parser.addoption("--pictures", action="store_true", help="put the pictures of the pages into deploy/ and ws-worker/docs")


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if getattr(item.module, "carries", lambda _item: True)(item)]


@pytest.fixture
def workers(tmp_path):
    """Starts workers: `workers.demo(flags…)`, `workers.serve(routes, top)`."""
    started = Workers(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def demo(workers):
    return workers.demo()


@pytest.fixture
def scripts():
    """Starts apps whose every answer the test decides."""
    started = []

    def start(**options):
        started.append(apps.Script(**options))
        return started[-1]
    yield start
    for script in started:
        script.stop()


@pytest.fixture
def script(scripts):
    return scripts()


@pytest.fixture(scope="session")
def keep(out, request):
    """Keeps screenshots: in tests/out; with --pictures also side by side, below 100 KB, where a page shows them."""
    def keep_them(path, *screenshots):
        for number, screenshot in enumerate(screenshots):
            (out / f"{path.stem}-{number}.png").write_bytes(screenshot)
        if request.config.getoption("--pictures"):
            data = Picture.side_by_side([Picture.read(screenshot) for screenshot in screenshots]).png()
            assert len(data) < 100_000, f"{path} has {len(data)} bytes"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        assert path.exists(), f"a page shows {path}; tests/run e2e --pictures -k picture makes it"
    return keep_them


@pytest.fixture(scope="session")
def out():
    """Where pictures and the like are left for people to look at."""
    OUT.mkdir(exist_ok=True)
    return OUT
