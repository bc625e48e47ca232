"""Every op: gradients against finite differences, values and gradients against PyTorch, on every instruction set."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, ELSEWHERE, Case, Function, Shape

import tinyml
from tinyml import _core
from tinyml.nn import functional as F

RUNS = [
    pytest.param(
        case,
        function,
        shapes,
        id=f"{case.name or case.op}-{case.functions.index(function)}-{shapes}",
    )
    for case in CASES
    for function, shapes in case.runs()
]


def leaves(case: Case, shapes: tuple[Shape, ...], dtype: str = "float64") -> list[tinyml.Tensor]:
    tensors = [tinyml.tensor(array) for array in case.arrays(shapes, dtype)]
    for x in tensors:
        if x.dtype.is_floating_point and case.differentiable:
            x.requires_grad = True
    return tensors


def upstream(result: Any) -> np.ndarray:
    """A gradient for the result that is not the same everywhere, with some zeros."""
    rng = np.random.default_rng(7)
    gradient = rng.standard_normal(result.shape)
    return np.where(rng.random(result.shape) < 0.2, 0, gradient)


def test_the_table_is_complete() -> None:
    """Ops in C, rows here, and ops that Python asks for are the same set."""
    asked = {
        name
        for path in Path(tinyml.__file__).parent.rglob("*.py")
        for name in _core.op_names()
        if f'"{name}"' in path.read_text()
    }
    assert {case.op for case in CASES} | set(ELSEWHERE) == set(_core.op_names())
    assert asked == set(_core.op_names())


@pytest.mark.parametrize(("case", "function", "shapes"), RUNS)
def test_gradient_agrees_with_differences(case: Case, function: Function, shapes: tuple[Shape, ...]) -> None:
    tensors = leaves(case, shapes)
    if not case.differentiable:
        assert not function(tinyml, *tensors).requires_grad
    elif case.op == "to":
        pytest.skip("float32 within: differences are too coarse; compared with PyTorch")
    else:
        if sum(x.numel() for x in tensors) > 300:
            pytest.skip("large: compared with PyTorch, not element by element")
        assert tinyml.gradcheck(lambda *inputs: function(tinyml, *inputs), tensors)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("case", "function", "shapes"), RUNS)
def test_agrees_with_torch(case: Case, function: Function, shapes: tuple[Shape, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = leaves(case, shapes, dtype)
    theirs = [torch.tensor(array) for array in case.arrays(shapes, dtype)]
    for a, b in zip(ours, theirs, strict=True):
        b.requires_grad = a.requires_grad
    tolerance = 1e-10 if dtype == "float64" else 1e-5 * case.tolerance
    tolerance = 1e-6 if case.op == "to" else tolerance
    result, expected = function(tinyml, *ours), function(torch, *theirs)
    assert result.shape == tuple(expected.shape)
    assert result.dtype.name == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_allclose(result.detach().numpy(), expected.detach().numpy(), tolerance, tolerance)
    if not case.differentiable:
        return
    for _ in range(2):  # the second time gradients add up
        gradient = upstream(result).astype(result.dtype.numpy)
        result.backward(tinyml.tensor(gradient))
        expected.backward(torch.tensor(gradient), retain_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        if a.requires_grad and b.grad is not None:
            assert a.grad is not None
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), tolerance, 10 * tolerance)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512", "neon"])
def test_every_instruction_set(isa: str) -> None:
    """The whole table, and what kernels are made of, in a process that is told which instruction set to use."""
    if os.environ.get("TINYML_ISA"):
        pytest.skip("already within such a process")
    environment = os.environ | {"TINYML_ISA": isa}
    probe = subprocess.run(
        [sys.executable, "-c", "import tinyml"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        assert "this processor runs" in probe.stderr
        pytest.skip(f"this {platform.machine()} processor has no {isa}")
    files = [Path(__file__).with_name(name) for name in ("test_ops.py", "test_matmul.py", "test_vmath.py")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, files)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]


ZERO_COTANGENT = {
    "sqrt at 0": lambda x: x.sqrt(),
    "log at 0": lambda x: x.log(),
    "pow at 0": lambda x: x**0.5,
    "pow of negative": lambda x: x**-1,
    "div by 0": lambda x: 1 / x,
    "prod": lambda x: x.prod().reshape(1).expand(2),
}


@pytest.mark.parametrize("name", ZERO_COTANGENT)
def test_nothing_flows_from_a_zero_gradient(name: str) -> None:
    """0 times an infinite derivative is 0: the branch that was not taken does not poison the other."""
    x = tinyml.zeros(2, dtype="float64", requires_grad=True)
    y = tinyml.where(tinyml.tensor([False, False]), ZERO_COTANGENT[name](x), x * 3)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]


SUBGRADIENTS = {
    "relu": (lambda x: x.relu(), 0.0, 0.0),
    "abs": (lambda x: x.abs(), 0.0, 0.0),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), 0.0, 0.1),
    "clamp low": (lambda x: x.clamp(-1, 1), -1.0, 1.0),
    "clamp high": (lambda x: x.clamp(-1, 1), 1.0, 1.0),
    "maximum": (lambda x: x.maximum(2.0), 2.0, 0.5),
    "minimum": (lambda x: x.minimum(2.0), 2.0, 0.5),
    "amax": (lambda x: tinyml.stack([x, x * 1, x * 1]).amax(), 1.0, 1.0),
    "pow 0": (lambda x: x**0, 0.0, 0.0),
    "sqrt": (lambda x: x.sqrt(), 0.0, np.inf),
}


@pytest.mark.parametrize("name", SUBGRADIENTS)
def test_subgradients(name: str) -> None:
    """What the derivative is where there is none."""
    function, at, expected = SUBGRADIENTS[name]
    x = tinyml.tensor(at, dtype="float64", requires_grad=True)
    function(x).backward()
    assert x.grad is not None
    assert x.grad.item() == expected


def test_special_numbers_pass_through() -> None:
    x = tinyml.tensor([np.nan, np.inf, -np.inf, -0.0], dtype="float64")
    assert np.isnan(x.relu().tolist()[0])
    assert x.relu().tolist()[1:] == [np.inf, 0, 0]
    assert np.isnan(x.maximum(1.0).tolist()[0])
    assert np.isnan(tinyml.tensor(1.0).maximum(x).tolist()[0])
    assert np.isnan(x.clamp(0, 1).tolist()[0])
    assert x.exp().tolist()[1:] == [np.inf, 0, 1]
    assert x.tanh().tolist()[1:3] == [1, -1]
    assert np.isnan(x.amax().item())


def test_integers() -> None:
    i = tinyml.tensor([3, -4, 5])
    assert (i + 1).dtype is tinyml.int64
    assert (i * i - i).tolist() == [6, 20, 20]
    assert (i + 0.5).dtype is tinyml.float32
    assert (i / 2).tolist() == [1.5, -2, 2.5]
    assert i.sum().item() == 4
    assert i.abs().amax().item() == 5
    assert (i > 0).sum().item() == 2
    assert i.float().mean().item() == pytest.approx(4 / 3)
    assert i.maximum(0).tolist() == [3, 0, 5]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (("float32", (2,)), ("float64", ()), "float32"),
        (("float32", ()), ("float64", ()), "float64"),
        (("float32", (2,)), ("float64", (2,)), "float64"),
        (("int64", (2,)), ("float64", ()), "float64"),
        (("int64", (2,)), ("float32", (2,)), "float32"),
        (("bool", (2,)), ("int64", ()), "int64"),
        (("bool", (2,)), ("bool", (2,)), "int64"),
    ],
)
def test_promotion(a: Any, b: Any, expected: str) -> None:
    """As PyTorch's, but for sums of bools, which count here."""
    x, y = (tinyml.ones(shape, dtype=dtype) for dtype, shape in (a, b))
    assert (x + y).dtype.name == (y + x).dtype.name == expected
