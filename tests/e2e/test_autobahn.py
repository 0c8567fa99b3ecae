"""Autobahn|Testsuite in both directions, without the cases for compression, which take long: `tests/autobahn/run` is the whole of it."""

import sys

import pytest

from support import OUT, ROOT

sys.path.insert(0, str(ROOT / "tests" / "autobahn"))
import suite  # noqa: E402


@pytest.mark.timeout(600)
@pytest.mark.parametrize("role, run", [("server", suite.against_server), ("client", suite.against_client)])
def test_every_case_is_ok_and_so_is_its_closing(role, run):
    assert suite.WSTEST.exists(), "Autobahn|Testsuite is not installed, it needs Python 2.7: see what tests/autobahn/install says"
    cases = run(OUT / "autobahn" / f"{role}-quick", ["*"], suite.COMPRESSION, limit=500)
    assert len(cases) == 301
    assert suite.faults(cases) == []
