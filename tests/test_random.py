"""Random numbers: repeatable, well spread, and different at every draw."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import nn
from tinyml.errors import ArgumentError
from tinyml.nn import functional as F


def draws() -> list[object]:
    return [
        tinyml.rand(3).tolist(),
        tinyml.randn(2, 2).tolist(),
        tinyml.randint(0, 100, (5,)).tolist(),
        tinyml.randperm(10).tolist(),
        F.dropout(tinyml.ones(100), 0.5).tolist(),
        nn.Linear(3, 2).weight.tolist(),
        nn.MLP(2, [3]).parameters()[0].data,
    ]


def test_manual_seed_fixes_everything() -> None:
    tinyml.manual_seed(3)
    first = draws()
    between = draws()
    tinyml.manual_seed(3)
    assert draws() == first
    for before, after in zip(first, between, strict=True):
        assert before != after


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout(p: float, dtype: str) -> None:
    tinyml.manual_seed(0)
    x = tinyml.full((100_003,), 3.0, dtype=dtype).requires_grad_()
    y = F.dropout(x, p)
    kept = y.detach().numpy() != 0
    assert kept.mean() == pytest.approx(1 - p, abs=0.01)
    if p < 1:
        np.testing.assert_allclose(y.detach().numpy()[kept], 3 / (1 - p), rtol=1e-6)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy() != 0, kept)
    if p < 1:
        np.testing.assert_allclose(x.grad.numpy()[kept], 1 / (1 - p), rtol=1e-6)


def test_dropout_only_in_training() -> None:
    x = tinyml.ones(1000)
    layer = nn.Dropout(0.5)
    assert (layer(x) == 0).any()
    layer.eval()
    assert layer(x) is x
    with pytest.raises(ArgumentError, match="probability from 0 to 1"):
        F.dropout(x, 1.5)


def test_masks_are_independent() -> None:
    """Neighbours, and the masks of two calls, are dropped independently of each other."""
    tinyml.manual_seed(1)
    a, b = ((F.dropout(tinyml.ones(200_000), 0.5).numpy() != 0) for _ in range(2))
    assert np.mean(a == b) == pytest.approx(0.5, abs=0.01)
    assert np.mean(a[1:] == a[:-1]) == pytest.approx(0.5, abs=0.01)
    assert np.mean(a[4:] == a[:-4]) == pytest.approx(0.5, abs=0.01)


def test_rand_and_randn_have_their_moments() -> None:
    tinyml.manual_seed(2)
    uniform, normal = tinyml.rand(100_000), tinyml.randn(100_000)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert 0 <= uniform.amin().item() <= uniform.amax().item() < 1
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.var().item() == pytest.approx(1, abs=0.02)
