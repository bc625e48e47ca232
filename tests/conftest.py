"""Every process that a test starts imports the tinyml that the tests import, not a source tree it may be started in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyml


@pytest.fixture(scope="session", autouse=True)
def _one_tinyml() -> Iterator[None]:
    before = os.getcwd()
    os.environ["PYTHONPATH"] = str(Path(tinyml.__file__).parent.parent)
    os.chdir(Path(__file__).parent)
    yield
    os.chdir(before)
