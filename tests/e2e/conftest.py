"""What tests take for granted: fresh workers and apps, ended after each test whatever happened."""

import pytest

import apps
from support import OUT, Workers


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
def out():
    """Where pictures and the like are left for people to look at."""
    OUT.mkdir(exist_ok=True)
    return OUT
