"""A row of the table of counterparts: the same computation with tinyml and with PyTorch, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
#: Computes something with a library, tinyml or torch, and returns its numbers.
Run = Callable[[Any], list[Array]]

STEPS = 100


@dataclass(frozen=True)
class Row:
    """name: as in `nn.Linear`. counterpart: PyTorch's, where it is not torch. + name. note: what differs on purpose."""

    name: str
    runs: Sequence[Run]
    counterpart: str = ""
    note: str = ""

    def difference(self, ours: Any, theirs: Any) -> float:
        """The largest one over all numbers of all runs, relative to 1 or to a larger number."""
        worst = 0.0
        for run in self.runs:
            for a, b in zip(run(ours), run(theirs), strict=True):
                assert a.shape == b.shape, f"{self.name}: {a.shape} and {b.shape}"
                np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b), self.name)
                finite = np.isfinite(b)
                gap = np.abs(a - b)[finite] / np.maximum(1, np.abs(b[finite]))
                worst = max(worst, float(gap.max(initial=0.0)))
        return worst


def numbers(shape: tuple[int, ...], seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Generic float64 numbers, the same for both libraries."""
    return np.asarray(np.random.default_rng([seed, *shape]).uniform(low, high, shape))


def tensor(t: Any, array: Array) -> Any:
    """A leaf, which requires a gradient if it is of floats."""
    leaf = t.tensor(array)
    if array.dtype.kind == "f":
        leaf.requires_grad = True
    return leaf


def array(x: Any) -> Array:
    """The numbers of a tensor of either library; of a gradient that is not there, none."""
    return np.zeros(0) if x is None else np.asarray(x.detach().numpy())


def tensors_of(result: Any) -> list[Any]:
    """The tensors in nested tuples, in order."""
    return [x for part in result for x in tensors_of(part)] if isinstance(result, tuple | list) else [result]


def backward(results: list[Any], t: Any) -> None:
    """Sweeps from all results at once, each with a gradient that is not the same everywhere."""
    total: Any = 0
    for i, result in enumerate(results):
        if result.requires_grad:
            total = total + (result * t.tensor(numbers(tuple(result.shape), seed=77 + i))).sum()
    if len(results) and not isinstance(total, int):
        total.backward()


def layer(make: Callable[[Any], Any], *inputs: Array, train: bool = True, calls: int = 1, **kwargs: Any) -> Run:
    """Results of a module in float64, then the gradients of inputs and parameters, then its state.

    make(t) gives the module; its parameters are overwritten by the same numbers for both. kwargs go into its calls.
    """

    def run(t: Any) -> list[Array]:
        module = make(t).double().train(train)
        parameters = list(module.parameters())
        for i, parameter in enumerate(parameters):
            fill(t, parameter, numbers(tuple(parameter.shape), seed=i, low=-0.7, high=0.7))
        leaves = [tensor(t, x) for x in inputs]
        results = [x for _ in range(calls) for x in tensors_of(module(*leaves, **kwargs))]
        backward(results, t)
        state = [np.asarray(x) for x in module.state_dict().values()]
        gradients = [array(x.grad) for x in [*leaves, *parameters] if x.requires_grad]
        return [*map(array, results), *gradients, *state]

    return run


def function(call: Callable[..., Any], *inputs: Array) -> Run:
    """Results of call(t, *tensors) in float64, then the gradients of the inputs."""

    def run(t: Any) -> list[Array]:
        leaves = [tensor(t, x) for x in inputs]
        results = tensors_of(call(t, *leaves))
        backward(results, t)
        return [*map(array, results), *(array(x.grad) for x in leaves if x.requires_grad)]

    return run


def fill(t: Any, parameter: Any, values: Array) -> None:
    """Gives a parameter other numbers."""
    parameter.data = t.tensor(values)


def optimizer(make: Callable[[Any, list[Any]], Any], after: Callable[[Any, Any], Any] | None = None) -> Run:
    """Two parameters after 100 steps on a function that is not quadratic. after(t, optimizer) makes a scheduler."""

    def run(t: Any) -> list[Array]:
        parameters = [tensor(t, numbers((3, 4), 1)), tensor(t, numbers((5,), 2))]
        steps = make(t, parameters)
        schedule = after(t, steps) if after else None
        rates = []
        for step in range(STEPS):
            steps.zero_grad()
            a, b = parameters
            loss = ((a @ a.T - 0.3 * step / STEPS) ** 2).sum() + (b.exp() * b).sum() + (a[0, 0] * b).sum()
            loss.backward()
            steps.step()
            if schedule is not None:
                rates.append(steps.param_groups[0]["lr"])
                schedule.step()
        return [*map(array, parameters), np.array(rates)]

    return run
