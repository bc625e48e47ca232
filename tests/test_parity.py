"""Layers, losses and optimizers against PyTorch's, and the page that says how far they are apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from parity import ROWS, SECTIONS, Row

import tinyml

PAGE = Path(__file__).parent.parent / "docs" / "pytorch.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_agrees_with_torch(row: Row) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert row.difference(tinyml, torch) <= 1e-10


def test_the_page_has_every_row() -> None:
    if not PAGE.exists():
        pytest.skip("the documents are not beside the tests")
    text = PAGE.read_text()
    assert re.findall(r"^## (.*)", text, re.M) == list(SECTIONS)
    assert sorted(re.findall(r"^\| `([\w.]+)`", text, re.M)) == sorted(row.name for row in ROWS)
