"""What the benchmarks that train share: steps in a loop or in one call, and a check that all learn alike.

A step of tinyml is a function that changes its parameters and returns the loss. JAX and torch.compile get the loss as a
function of a tuple of parameters, and plain descent around it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from _harness import Contestant, Run

import tinyml
from tinyml.program import Compiled

Array = np.ndarray[Any, Any]
# Runs n steps and returns the last one's loss, or something that float() turns into it.
Steps = Callable[[int], Any]
Loss = Callable[..., Any]

CHECKED = 5


class Training:
    """Contestants that train the same: the first losses of each must be those of the first to enter."""

    def __init__(self, run: Run, like: Training | None = None) -> None:
        self.run = run
        self.contestants: list[Contestant] = []
        self.losses: list[float] | None = like.losses if like else None

    def enter(self, name: str, steps: Steps, collector: bool = True) -> None:
        """Checks the losses of a contestant."""
        losses = [float(steps(1)) for _ in range(CHECKED)]
        if self.losses is None:
            self.losses = losses
        assert np.allclose(losses, self.losses, rtol=1e-4), (name, losses, self.losses)
        self.contestants.append(Contestant(name, steps, collector=collector))

    def enter_torch_compile(self, steps: Steps) -> None:
        """The same where there may be no C++ compiler; and not for a quick look, for it compiles long."""
        if self.run.quick:
            self.run.skip("torch.compile", "compiling takes long")
            return
        try:
            self.enter("torch.compile", steps)
        except AssertionError:
            raise
        except Exception as error:  # a missing compiler has many faces
            self.run.skip("torch.compile", f"{type(error).__name__}: {error}".splitlines()[0])


def training_step(loss_of: Loss, lr: float, parameters: Sequence[Any], weights: Sequence[Array]) -> Callable[..., Any]:
    """A step of tinyml, in PyTorch's way to write it; loss_of takes its arguments."""
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.data = weight
    optimizer = tinyml.optim.SGD(parameters, lr=lr)

    def step(*arguments: Any) -> Any:
        loss = loss_of(*arguments)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def looped(step: Callable[..., Any], *arguments: Any) -> Steps:
    """A call from Python for each step."""

    def steps(n: int) -> Any:
        for _ in repeat(None, n):
            loss = step(*arguments)
        return loss

    return steps


def repeated(step: Callable[..., Any], *arguments: Any) -> Steps:
    """The recorded step, all in one call."""
    compiled: Compiled = tinyml.compile(step)
    return lambda n: compiled.repeat(n, *arguments)[-1]


def descent(value_and_grad: Callable[..., Any], lr: float) -> Callable[..., Any]:
    """A step as a pure function: (parameters, arguments) to (parameters, loss)."""

    def step(parameters: Any, *arguments: Any) -> tuple[Any, Any]:
        loss, gradients = value_and_grad(parameters, *arguments)
        return tuple(p - lr * g for p, g in zip(parameters, gradients, strict=True)), loss

    return step


def jax_jit(jax: Any, loss_of: Loss, lr: float, weights: Sequence[Array], *arguments: Any) -> Steps:
    """One jitted call per step, which may overwrite the parameters."""
    step = jax.jit(descent(jax.value_and_grad(loss_of), lr), donate_argnums=0)
    parameters = tuple(jax.numpy.array(w) for w in weights)

    def steps(n: int) -> Any:
        nonlocal parameters
        for _ in repeat(None, n):
            parameters, loss = step(parameters, *arguments)
        return loss.block_until_ready()

    return steps


def jax_fori_loop(jax: Any, loss_of: Loss, lr: float, weights: Sequence[Array], *arguments: Any) -> Steps:
    """All steps in one call."""
    step = descent(jax.value_and_grad(loss_of), lr)

    @jax.jit  # type: ignore[untyped-decorator]
    def loop(n: Any, parameters: Any, *arguments: Any) -> Any:
        start = (parameters, jax.numpy.float32(0))
        return jax.lax.fori_loop(0, n, lambda _, state: step(state[0], *arguments), start)

    parameters = tuple(jax.numpy.array(w) for w in weights)

    def steps(n: int) -> Any:
        nonlocal parameters
        parameters, loss = loop(n, parameters, *arguments)
        return loss.block_until_ready()

    return steps


def jax_scan(jax: Any, loss_of: Loss, lr: float, weights: Sequence[Array], *arguments: Any) -> Steps:
    """All steps in one call that keeps their losses; compiled anew for every n, while warming up."""
    step = descent(jax.value_and_grad(loss_of), lr)

    @functools.partial(jax.jit, static_argnums=0)
    def loop(n: int, parameters: Any, *arguments: Any) -> Any:
        return jax.lax.scan(lambda state, _: step(state, *arguments), parameters, length=n)

    parameters = tuple(jax.numpy.array(w) for w in weights)

    def steps(n: int) -> Any:
        nonlocal parameters
        parameters, losses = loop(n, parameters, *arguments)
        return losses.block_until_ready()[-1]

    return steps


def torch_eager(torch: Any, loss_of: Loss, lr: float, modules: Any, weights: Sequence[Array]) -> Steps:
    """The usual loop; loss_of takes the model."""
    with torch.no_grad():
        for parameter, weight in zip(modules.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    optimizer = torch.optim.SGD(modules.parameters(), lr=lr)

    def step() -> Any:
        loss = loss_of(modules)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return looped(step)


def torch_compiled(torch: Any, loss_of: Loss, lr: float, weights: Sequence[Array], *arguments: Any) -> Steps:
    """Forward, gradients and update in one compiled graph."""

    @torch.compile(fullgraph=True)  # type: ignore[untyped-decorator]
    def step(parameters: Any, *arguments: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(loss_of)(parameters, *arguments)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=lr)
        return loss

    parameters = tuple(torch.from_numpy(w.copy()) for w in weights)

    def steps(n: int) -> Any:
        with torch.no_grad():
            for _ in repeat(None, n):
                loss = step(parameters, *arguments)
        return loss

    return steps
