"""Matrix products against a plain sum of products, at every size where the kernel changes its way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinyml
from tinyml.nn import functional as F

#: Around the register tiles (4 to 16 rows; 4 to 48 columns), the panels and the blocks of csrc/gemm.h.
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49]
THIN = [(100, 16, 2), (100, 1, 16), (300, 2, 50), (40, 3, 700), (6, 600, 300), (1, 300, 600), (1000, 10, 300)]
LARGE = [(64, 128, 784), (128, 784, 64), (1, 128, 784), (128, 784, 1), (257, 65, 300), (65, 513, 257), (70, 1100, 20)]
SIZES = [*itertools.product([1, 2, 5, 8, 9, 13, 16, 33], EDGES, [1, 3, 8, 17]), *THIN, *LARGE]


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The reference: in float64, a sum of outer products."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return sum((a[:, i : i + 1] * b[i : i + 1] for i in range(a.shape[1])), np.zeros((a.shape[0], b.shape[1])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_edge_size(dtype: str) -> None:
    """x w^T forward, dy w and dy^T x backward: the three products of training, with both ways to transpose."""
    rng = np.random.default_rng(0)
    for m, n, k in SIZES:
        x, w, dy = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (n, k), (m, n)))
        bias = rng.standard_normal(n).astype(dtype)
        tx, tw = tinyml.tensor(x, requires_grad=True), tinyml.tensor(w, requires_grad=True)
        y = F.linear(tx, tw, tinyml.tensor(bias))
        for _ in range(2):
            y.backward(tinyml.tensor(dy))
        tolerance = (1e-13 if dtype == "float64" else 1e-6) * max(m, n, k)
        assert tx.grad is not None
        assert tw.grad is not None
        np.testing.assert_allclose(y.detach().numpy(), product(x, w.T) + bias, tolerance, tolerance, str((m, n, k)))
        np.testing.assert_allclose(tx.grad.numpy(), 2 * product(dy, w), tolerance, 2 * tolerance, str((m, n, k)))
        np.testing.assert_allclose(tw.grad.numpy(), 2 * product(dy.T, x), tolerance, 2 * tolerance, str((m, n, k)))
        plain = tinyml.tensor(x) @ tinyml.tensor(np.ascontiguousarray(w.T))
        np.testing.assert_allclose(plain.numpy(), product(x, w.T), tolerance, tolerance, str((m, n, k)))


@pytest.mark.parametrize("size", [(300, 700, 500), (1, 2000, 1500), (5, 900, 700), (3, 1, 1000000), (4096, 128, 10)])
def test_the_result_does_not_depend_on_threads(size: tuple[int, int, int]) -> None:
    m, k, n = size
    rng = np.random.default_rng(1)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    before = tinyml.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5):
            tinyml.set_num_threads(threads)
            assert tinyml.get_num_threads() == threads
            tx, tw = tinyml.tensor(x, requires_grad=True), tinyml.tensor(w, requires_grad=True)
            y = F.linear(tx, tw)
            y.backward(tinyml.tensor(dy))
            assert tx.grad is not None
            assert tw.grad is not None
            results.append([y.detach().numpy(), tx.grad.numpy(), tw.grad.numpy()])
    finally:
        tinyml.set_num_threads(before)
    for result in results[1:]:
        assert all(np.array_equal(*pair) for pair in zip(result, results[0], strict=True))


def test_special_numbers() -> None:
    """0 * inf is nan in a product, as everywhere else."""
    a = tinyml.tensor([[0.0, 1.0], [np.inf, 1.0]])
    assert np.isnan((a @ tinyml.tensor([[np.inf], [1.0]])).numpy()[0, 0])
    assert (a @ tinyml.tensor([[1.0], [1.0]])).tolist() == [[1], [np.inf]]
