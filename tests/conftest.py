"""What the tests share. Every process that one starts imports the tinyml that the tests import, no source tree."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tinyml


@pytest.fixture(scope="session", autouse=True)
def _one_tinyml() -> Iterator[None]:
    before = os.getcwd()
    os.environ["PYTHONPATH"] = str(Path(tinyml.__file__).parent.parent)
    os.chdir(Path(__file__).parent)
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch, for what is compared with it."""
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for large kernels; the other ones afterwards."""
    before = tinyml.get_num_threads()
    tinyml.set_num_threads(1)
    yield
    tinyml.set_num_threads(before)
