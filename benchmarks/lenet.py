"""How fast are convolutions? LeNet-5 on images like MNIST's, ReLU, SGD, batch 64: a step.

    28 x 28 > conv 6 of 5 x 5, padding 2 > ReLU > maxima of 2 x 2    6 x 14 x 14
            > conv 16 of 5 x 5           > ReLU > maxima of 2 x 2    16 x 5 x 5
            > linear 120 > ReLU > linear 84 > ReLU > linear 10 > cross entropy

145 MFLOP: outputs, gradients of weights, and gradients of inputs for all layers but the first, which needs none (160
with it). All compute in float32, on the same batch from the same weights; their losses are compared before the clock
starts. The channels-last PyTorch has images and weights in the layout that its convolutions like best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import Row, Run, main, seconds_of, show, times_as_long
from _training import Array, Steps, Training, jax_jit, looped, repeated, torch_compiled, torch_eager, training_step

import tinyml
from tinyml import nn, tensor
from tinyml.nn import functional as F

LR, BATCH = 0.01, 64
_draw = np.random.default_rng(0)
X = (_draw.random((BATCH, 1, 28, 28)) * (_draw.random((BATCH, 1, 28, 28)) < 0.2)).astype(np.float32)
Y = _draw.integers(0, 10, BATCH)
SHAPES = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))
# Multiplications of an image in each layer; a convolution's weights are used at every position.
POSITIONS = (28 * 28, 10 * 10, 1, 1, 1)
PRODUCTS = [n * int(np.prod(shape)) for n, shape in zip(POSITIONS, SHAPES, strict=True)]
FLOPS = 2 * BATCH * (3 * sum(PRODUCTS) - PRODUCTS[0])


def weights() -> list[Array]:
    """The weights (outputs, inputs, ...) and biases of the layers in turn."""
    draw = np.random.default_rng(1)
    found: list[Array] = []
    for shape in SHAPES:
        found.append((draw.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))
        found.append(np.zeros(shape[0], np.float32))
    return found


WEIGHTS = weights()


def lenet(nn: Any) -> Any:
    """The network, with the names that tinyml and PyTorch share."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def tinyml_step() -> Callable[[Any, Any], Any]:
    """PyTorch's way to write it."""
    model = lenet(nn)
    return training_step(lambda x, y: F.cross_entropy(model(x), y), LR, model.parameters(), WEIGHTS)


def in_torch(torch: Any, layout: Any) -> Steps:
    """The usual loop."""
    model = lenet(torch.nn).to(memory_format=layout)
    x, y = torch.from_numpy(X).to(memory_format=layout), torch.from_numpy(Y)
    return torch_eager(torch, lambda model: torch.nn.functional.cross_entropy(model(x), y), LR, model, WEIGHTS)


def loss_in_torch(torch: Any) -> Callable[..., Any]:
    """The loss as a function of the parameters."""
    functional = torch.nn.functional

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, w1, b1, padding=2)), 2)
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, w2, b2)), 2).flatten(1)
        x = functional.relu(functional.linear(functional.relu(functional.linear(x, w3, b3)), w4, b4))
        return functional.cross_entropy(functional.linear(x, w5, b5), y)

    return loss_of


def loss_in_jax(jax: Any) -> Callable[..., Any]:
    """The same for JAX."""

    def layer(x: Any, w: Any, b: Any, padding: int) -> Any:
        x = jax.lax.conv_general_dilated(x, w, (1, 1), [(padding, padding)] * 2) + b[:, None, None]
        windows = ((1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return jax.lax.reduce_window(jax.nn.relu(x), -np.inf, jax.lax.max, *windows)

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        x = layer(layer(x, w1, b1, 2), w2, b2, 0).reshape(len(x), -1)
        logits = jax.nn.relu(jax.nn.relu(x @ w3.T + b3) @ w4.T + b4) @ w5.T + b5
        picked = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -picked.mean()

    return loss_of


def measure(run: Run) -> None:
    """Prints the table."""
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header(f"LeNet-5, 28 x 28, batch {BATCH}: a step of {FLOPS / 1e6:.0f} MFLOP")
    x, y = tensor(X), tensor(Y)
    training = Training(run)
    training.enter("tinyml, compiled", looped(tinyml.compile(tinyml_step()), x, y))
    training.enter("tinyml, repeat", repeated(tinyml_step(), x, y))
    training.enter("tinyml", looped(tinyml_step(), x, y))
    if torch:
        torch.set_num_threads(run.threads)
        training.enter("PyTorch", in_torch(torch, torch.contiguous_format))
        training.enter("PyTorch, channels last", in_torch(torch, torch.channels_last))
        arguments = (torch.from_numpy(X), torch.from_numpy(Y))
        training.enter_torch_compile(torch_compiled(torch, loss_in_torch(torch), LR, WEIGHTS, *arguments))
    if jax:
        batch = (jax.numpy.asarray(X), jax.numpy.asarray(Y.astype(np.int32)))
        training.enter("JAX jit", jax_jit(jax, loss_in_jax(jax), LR, WEIGHTS, *batch))
    rows = run.compare("a step", training.contestants, seconds=30, block=0.05)

    def speed(row: Row) -> str:
        return f"{FLOPS / row.median / 1e9:.0f} GFLOP/s"

    show(rows, note=speed)
    ahead = times_as_long(rows, "PyTorch, channels last", "tinyml, compiled")
    run.target("times as fast as PyTorch with channels last, compiled", ahead, 1, at_most=False)
    seconds = seconds_of(rows, "tinyml, compiled")
    run.target("milliseconds of a step, compiled", seconds and 1e3 * seconds, 1.2 if run.threads > 1 else 2)


if __name__ == "__main__":
    main(measure, threads=(1, 2))
