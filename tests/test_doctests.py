"""The examples in docstrings and in the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import tinyml

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = ["tinyml", *(module.name for module in pkgutil.walk_packages(tinyml.__path__, "tinyml."))]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("tinyml._build", "tinyml._engine")])
def test_docstrings(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert failed == 0


def test_readme() -> None:
    readme = Path(__file__).parent.parent / "README.md"
    if not readme.exists():
        pytest.skip("the README is not beside the tests")
    failed, tried = doctest.testfile(str(readme), module_relative=False, optionflags=OPTIONS)
    assert tried > 10
    assert failed == 0
