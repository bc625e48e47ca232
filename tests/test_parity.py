"""Layers, losses and optimizers against PyTorch's, and the page that says how far they are apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from parity import ROWS, SECTIONS, Row

import tinyml
from tinyml import nn, optim

#: What has no counterpart in PyTorch, or nothing to compute that could differ.
APART = {
    "nn.Module", "nn.Parameter", "nn.Sequential", "nn.ModuleList", "nn.ModuleDict", "nn.Identity", "nn.Flatten",
    "nn.Unflatten", "nn.Neuron", "nn.Layer", "nn.MLP", "nn.HingeLoss", "nn.Dropout", "optim.Optimizer",
}  # fmt: skip

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


def test_everything_is_compared() -> None:
    """Every public layer, optimizer and scheduler has a row, and every name in the list above is one of theirs."""
    modules = {f"nn.{name}" for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    schedulers = getattr(optim, "lr_scheduler", None)
    public = modules | {f"optim.{name}" for name in optim.__all__ if isinstance(getattr(optim, name), type)}
    public |= {f"optim.lr_scheduler.{name}" for name in getattr(schedulers, "__all__", ())}
    assert public >= APART
    assert sorted(public - APART - {row.name for row in ROWS}) == []
