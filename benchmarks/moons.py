"""What does a step of the moons network cost? 2-16-16-1, ReLU, 100 samples, hinge and L2 loss, SGD.

The demo of https://github.com/karpathy/micrograd, with one learning rate and no labels drawn anew. First over arrays:
tensors of 100 rows, and lanes, where the network of scalars is called once with Tensors of shape (100,) as its two
inputs. Then as micrograd does it, one sample after the other, a node per neuron in tinyml and several in micrograd,
whose garbage only Python's cyclic collector frees: it is measured with the collector and without. Values and micrograd
compute in float64, the others in float32. All start from the same weights, and their losses are compared before the
clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from _harness import Run, main, seconds_of, show, times_as_long
from _training import (
    Array,
    Steps,
    Training,
    jax_fori_loop,
    jax_jit,
    looped,
    repeated,
    torch_compiled,
    torch_eager,
)

import tinyml
from tinyml import Value, nn, optim, tensor

LR, ALPHA, SAMPLES, SIZES = 0.1, 1e-4, 100, (2, 16, 16, 1)


def moons() -> tuple[Array, Array]:
    """Two interleaved half circles with noise, and the labels -1 and 1 as a column."""
    draw = np.random.default_rng(0)
    angle = draw.uniform(0, np.pi, SAMPLES)
    second = np.arange(SAMPLES) % 2
    x = np.where(second, 1 - np.cos(angle), np.cos(angle))
    y = np.where(second, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + draw.normal(0, 0.1, (SAMPLES, 2))
    return points.astype(np.float32), (2 * second - 1).astype(np.float32)[:, None]


def weights() -> list[Array]:
    """The weights (outputs, inputs) and biases of the layers in turn."""
    draw = np.random.default_rng(1)
    found: list[Array] = []
    for inputs, outputs in pairwise(SIZES):
        found.append((draw.uniform(-1, 1, (outputs, inputs)) / np.sqrt(inputs)).astype(np.float32))
        found.append(draw.uniform(-0.1, 0.1, outputs).astype(np.float32))
    return found


X, Y = moons()
WEIGHTS = weights()


# -- over arrays ---------------------------------------------------------------------------------


def tensors_step() -> Callable[[], Any]:
    """PyTorch's way to write it."""
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    parameters = list(model.parameters())
    for parameter, weight in zip(parameters, WEIGHTS, strict=True):
        parameter.data = weight
    optimizer = optim.SGD(parameters, lr=LR)
    x, y = tensor(X), tensor(Y)

    def step() -> Any:
        loss = (1 - y * model(x)).relu().mean() + ALPHA * sum((p * p).sum() for p in parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def scalars() -> tuple[nn.MLP, Any]:
    """The network of Values and its optimizer."""
    model = nn.MLP(2, SIZES[1:])
    for layer, w, b in zip(model.layers, WEIGHTS[::2], WEIGHTS[1::2], strict=True):
        for i, neuron in enumerate(layer.neurons):
            neuron.w = [Value(float(x)) for x in w[i]]
            neuron.b = Value(float(b[i]))
    return model, optim.SGD(model.parameters(), lr=LR)


def lanes_step() -> Callable[[], Any]:
    """The network of scalars, with a sample in each lane of its inputs."""
    model, optimizer = scalars()
    parameters = model.parameters()
    inputs, y = [tensor(X[:, 0].copy()), tensor(X[:, 1].copy())], tensor(Y[:, 0].copy())

    def step() -> Any:
        loss = (1 - y * model(inputs)).relu().mean() + ALPHA * tinyml.sum([p * p for p in parameters])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def in_arrays(relu: Callable[[Any], Any], x: Any, y: Any) -> Callable[[Any], Any]:
    """The loss as a function of the parameters, for JAX and torch.compile."""

    def loss_of(parameters: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        score = relu(relu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
        return relu(1 - y * score).mean() + ALPHA * sum((p * p).sum() for p in parameters)

    return loss_of


def in_torch(torch: Any) -> Steps:
    """The usual loop."""
    relu, linear = torch.nn.ReLU, torch.nn.Linear
    model = torch.nn.Sequential(linear(2, 16), relu(), linear(16, 16), relu(), linear(16, 1))
    x, y = torch.from_numpy(X), torch.from_numpy(Y)

    def loss_of(model: Any) -> Any:
        return (1 - y * model(x)).relu().mean() + ALPHA * sum((p * p).sum() for p in model.parameters())

    return torch_eager(torch, loss_of, LR, model, WEIGHTS)


# -- sample by sample ----------------------------------------------------------------------------


def values_step() -> Callable[[], Any]:
    """micrograd's way to write it."""
    model, optimizer = scalars()
    parameters = model.parameters()
    xs, ys = X.tolist(), Y[:, 0].tolist()

    def step() -> Any:
        losses = [(1 - y * model(x)).relu() for x, y in zip(xs, ys, strict=True)]
        loss = tinyml.sum(losses) * (1 / SAMPLES) + ALPHA * tinyml.sum([p * p for p in parameters])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def in_micrograd(module: Any) -> Steps:
    """The demo, without what changes from step to step."""
    model = module.MLP(2, list(SIZES[1:]))
    for layer, w, b in zip(model.layers, WEIGHTS[::2], WEIGHTS[1::2], strict=True):
        for i, neuron in enumerate(layer.neurons):
            for weight, x in zip(neuron.w, w[i], strict=True):
                weight.data = float(x)
            neuron.b.data = float(b[i])
    xs, ys = X.tolist(), Y[:, 0].tolist()

    def step() -> Any:
        inputs = [list(map(module.Value, x)) for x in xs]
        losses = [(1 + -y * model(x)).relu() for x, y in zip(inputs, ys, strict=True)]
        loss = sum(losses) * (1 / SAMPLES) + ALPHA * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= LR * p.grad
        return loss.data

    return looped(step)


# -- the tables ----------------------------------------------------------------------------------


def measure(run: Run) -> None:
    """Prints both tables."""
    micrograd = run.peer("micrograd.nn", "micrograd")
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header("Moons, 2-16-16-1, 100 samples: a step")
    arrays = Training(run)
    arrays.enter("tinyml, Tensors compiled", looped(tinyml.compile(tensors_step())))
    arrays.enter("tinyml, Tensors repeat", repeated(tensors_step()))
    arrays.enter("tinyml, Tensors", looped(tensors_step()))
    arrays.enter("tinyml, lanes compiled", looped(tinyml.compile(lanes_step())))
    arrays.enter("tinyml, lanes repeat", repeated(lanes_step()))
    arrays.enter("tinyml, lanes", looped(lanes_step()))
    if torch:
        torch.set_num_threads(run.threads)
        arrays.enter("PyTorch", in_torch(torch))
        loss_of = in_arrays(torch.relu, torch.from_numpy(X), torch.from_numpy(Y))
        arrays.enter_torch_compile(torch_compiled(torch, loss_of, LR, WEIGHTS))
    if jax:
        loss_of = in_arrays(jax.nn.relu, X, Y)
        arrays.enter("JAX jit", jax_jit(jax, loss_of, LR, WEIGHTS))
        arrays.enter("JAX fori_loop", jax_fori_loop(jax, loss_of, LR, WEIGHTS))
    rows = run.compare("over arrays", arrays.contestants, seconds=20)
    show(rows)
    for name, peer, bound in (
        ("Tensors compiled", "JAX jit", 2),
        ("Tensors repeat", "JAX fori_loop", 1),
    ):
        faster = times_as_long(rows, peer, f"tinyml, {name}")
        run.target(f"{name}, times as fast as {peer}", faster, bound, at_most=False)

    samples = Training(run, like=arrays)
    samples.enter("tinyml, Values", looped(values_step()))
    samples.enter("tinyml, Values compiled", looped(tinyml.compile(values_step())))
    samples.enter("tinyml, Values repeat", repeated(values_step()))
    if micrograd:
        samples.enter("micrograd, no gc", in_micrograd(micrograd), collector=False)
        if run.quick:
            run.skip("micrograd", "with its collector a step takes seconds")
        else:
            samples.enter("micrograd", in_micrograd(micrograd))
    rows = run.compare("sample by sample", samples.contestants, seconds=40, block=0.01)
    show(rows)
    for peer, bound in (("micrograd, no gc", 30), ("micrograd", 200)):
        faster = times_as_long(rows, peer, "tinyml, Values")
        run.target(f"Values, times as fast as {peer}", faster, bound, at_most=False)
    seconds = seconds_of(rows, "tinyml, Values repeat")
    run.target("ms a step over Values, replayed", seconds and seconds * 1e3, 0.17)


if __name__ == "__main__":
    main(measure)
