"""How close to the processor's peak is a wide network? 784-1024-1024-10, ReLU, cross entropy, SGD, batch 128: a step.

Nearly all of the time should go into eight matrix products, 1.2 GFLOP in all, so every contestant's line ends with
GFLOP/s and its share of the peak: multiply-adds in registers, measured before and after. All compute in float32, on
the same batch from the same weights; their losses are compared before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from _harness import Row, Run, main, seconds_of, show, times_as_long
from _peak import peak
from _training import Array, Steps, Training, jax_jit, looped, repeated, torch_compiled, torch_eager, training_step

import tinyml
from tinyml import nn, tensor
from tinyml.nn import functional as F

LR, BATCH, SIZES = 0.01, 128, (784, 1024, 1024, 10)
_draw = np.random.default_rng(0)
X = (_draw.random((BATCH, SIZES[0])) * (_draw.random((BATCH, SIZES[0])) < 0.2)).astype(np.float32)
Y = _draw.integers(0, SIZES[-1], BATCH)
# Outputs, the weights' gradients, and the inputs' gradients but for the first layer.
PRODUCTS = 3 * sum(a * b for a, b in pairwise(SIZES)) - SIZES[0] * SIZES[1]
FLOPS = 2 * BATCH * PRODUCTS


def weights() -> list[Array]:
    """The weights (outputs, inputs) and biases of the layers in turn."""
    draw = np.random.default_rng(1)
    found: list[Array] = []
    for inputs, outputs in pairwise(SIZES):
        found.append((draw.uniform(-1, 1, (outputs, inputs)) / np.sqrt(inputs)).astype(np.float32))
        found.append(np.zeros(outputs, np.float32))
    return found


WEIGHTS = weights()


def tinyml_step() -> Callable[[Any, Any], Any]:
    """PyTorch's way to write it."""
    a, b, c, d = SIZES
    model = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))
    return training_step(lambda x, y: F.cross_entropy(model(x), y), LR, model.parameters(), WEIGHTS)


def in_torch(torch: Any) -> Steps:
    """The usual loop."""
    a, b, c, d = SIZES
    relu, linear = torch.nn.ReLU, torch.nn.Linear
    model = torch.nn.Sequential(linear(a, b), relu(), linear(b, c), relu(), linear(c, d))
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    return torch_eager(torch, lambda model: torch.nn.functional.cross_entropy(model(x), y), LR, model, WEIGHTS)


def loss_in_torch(torch: Any) -> Callable[..., Any]:
    """The loss as a function of the parameters."""
    functional = torch.nn.functional

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = functional.relu(functional.linear(functional.relu(functional.linear(x, w1, b1)), w2, b2))
        return functional.cross_entropy(functional.linear(hidden, w3, b3), y)

    return loss_of


def loss_in_jax(jax: Any) -> Callable[..., Any]:
    """The same for JAX."""
    relu = jax.nn.relu

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        logits = relu(relu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
        picked = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -picked.mean()

    return loss_of


def measure(run: Run) -> None:
    """Prints the table."""
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header("784-1024-1024-10, batch 128: a step")
    top = peak("float32", run.threads)
    x, y = tensor(X), tensor(Y)
    training = Training(run)
    training.enter("tinyml, compiled", looped(tinyml.compile(tinyml_step()), x, y))
    training.enter("tinyml, repeat", repeated(tinyml_step(), x, y))
    training.enter("tinyml", looped(tinyml_step(), x, y))
    if torch:
        torch.set_num_threads(run.threads)
        training.enter("PyTorch", in_torch(torch))
        arguments = (torch.from_numpy(X), torch.from_numpy(Y))
        training.enter_torch_compile(torch_compiled(torch, loss_in_torch(torch), LR, WEIGHTS, *arguments))
    if jax:
        batch = (jax.numpy.asarray(X), jax.numpy.asarray(Y.astype(np.int32)))
        training.enter("JAX jit", jax_jit(jax, loss_in_jax(jax), LR, WEIGHTS, *batch))
    # Blocks of many steps: within a call of `repeat`, only the steps after the first do without gradients.
    rows = run.compare("a step", training.contestants, seconds=30, block=0.1)
    top = top and max(top, peak("float32", run.threads) or 0)
    print(f"\nFMA peak {f'{top / 1e9:.0f} GFLOP/s' if top else 'unknown'}")

    def speed(row: Row) -> str:
        share = f", {FLOPS / row.median / top:.0%} of peak" if top else ""
        return f"{FLOPS / row.median / 1e9:.0f} GFLOP/s{share}"

    show(rows, note=speed)
    ahead = times_as_long(rows, "JAX jit", "tinyml, compiled")
    run.target("times as fast as JAX jit, compiled", ahead, 1, at_most=False)
    seconds = seconds_of(rows, "tinyml, repeat")
    run.target("share of the FMA peak, repeat", seconds and top and FLOPS / seconds / top, 0.75, at_most=False)


if __name__ == "__main__":
    main(measure, threads=(1, 2))
