"""How long does an LSTM take? 28 inputs, 128 hidden, 28 steps, batch 64: the rows of a digit, one after the other.

First forward and backward alone, with gradients of the inputs and all parameters: 860 MFLOP, nearly all in matrix
products. Then a step of training: the last output through a linear layer, cross entropy, SGD. All compute in float32,
from the same weights on the same batch; gradients and losses are compared before the clock starts. PyTorch runs
nn.LSTM, and once a loop over nn.LSTMCell; JAX a scan under jit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import Contestant, Row, Run, main, show, times_as_long
from _training import Array, Steps, Training, jax_jit, looped, repeated, torch_eager, training_step

import tinyml
from tinyml import nn, tensor
from tinyml.nn import functional as F

STEPS, BATCH, INPUTS, HIDDEN, CLASSES, LR = 28, 64, 28, 128, 10, 0.1
FLOPS = 3 * 2 * STEPS * BATCH * 4 * HIDDEN * (INPUTS + HIDDEN)
_draw = np.random.default_rng(0)
X = _draw.random((STEPS, BATCH, INPUTS), np.float32)
Y = _draw.integers(0, CLASSES, BATCH)
DY = _draw.standard_normal((STEPS, BATCH, HIDDEN), np.float32)


def weights() -> list[Array]:
    """weight_ih, weight_hh, bias_ih and bias_hh of the LSTM, weight and bias of the linear layer."""
    shapes = [(4 * HIDDEN, INPUTS), (4 * HIDDEN, HIDDEN), (4 * HIDDEN,), (4 * HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    bound = 1 / np.sqrt(HIDDEN)
    return [_draw.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes]


WEIGHTS = weights()
#: Gradients of the inputs and of the LSTM's parameters.
Sweep = Callable[[], list[Any]]


def loaded(layer: Any, wrap: Callable[[Array], Any]) -> Any:
    """The layer with the first of the weights."""
    for parameter, weight in zip(list(layer.parameters()), WEIGHTS, strict=False):
        parameter.data = wrap(weight)
    return layer


def tinyml_sweep() -> Sweep:
    """As with PyTorch."""
    layer, x, dy = loaded(nn.LSTM(INPUTS, HIDDEN), tensor), tensor(X, requires_grad=True), tensor(DY)
    leaves = [x, *layer.parameters()]

    def sweep() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        layer(x)[0].backward(dy)
        return [leaf.grad for leaf in leaves]

    return sweep


def torch_sweep(torch: Any, layer: Any) -> Sweep:
    """The layer forward and backward."""
    x, dy = torch.from_numpy(X).requires_grad_(), torch.from_numpy(DY)
    leaves = [x, *layer.parameters()]

    def sweep() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        layer(x)[0].backward(dy)
        return [leaf.grad for leaf in leaves]

    return sweep


def cells_of(torch: Any) -> Any:
    """nn.LSTMCell in a loop, with the surface of nn.LSTM."""

    class Cells(torch.nn.LSTMCell):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            state, outputs = None, []
            for row in x:
                state = super().forward(row, state)
                outputs.append(state[0])
            return torch.stack(outputs), state

    return Cells(INPUTS, HIDDEN)


def outputs_in_jax(jax: Any) -> Callable[..., Any]:
    """All outputs as a function of the weights and the inputs, which are projected at once."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def outputs(weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, x: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ weight_hh.T, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], HIDDEN), x.dtype)
        return jax.lax.scan(step, (zeros, zeros), x @ weight_ih.T + (bias_ih + bias_hh))[1]

    return outputs


def jax_sweep(jax: Any) -> Sweep:
    """The gradient of what a sweep from DY would add up."""
    outputs = outputs_in_jax(jax)
    x, dy, *parameters = (jax.numpy.asarray(array) for array in [X, DY, *WEIGHTS[:4]])
    gradient = jax.jit(jax.grad(lambda x, *ps: (outputs(*ps, x) * dy).sum(), argnums=range(5)))
    return lambda: list(jax.block_until_ready(gradient(x, *parameters)))


def sweeps(run: Run, torch: Any, jax: Any) -> None:
    """Forward and backward."""
    entries: dict[str, Sweep] = {"tinyml": tinyml_sweep()}
    if torch:
        wrap = torch.from_numpy
        entries["PyTorch nn.LSTM"] = torch_sweep(torch, loaded(torch.nn.LSTM(INPUTS, HIDDEN), wrap))
        entries["PyTorch LSTMCell"] = torch_sweep(torch, loaded(cells_of(torch), wrap))
    if jax:
        entries["JAX scan"] = jax_sweep(jax)
    expected = [np.asarray(gradient) for gradient in entries["tinyml"]()]
    for name, sweep in entries.items():
        for gradient, other in zip(sweep(), expected, strict=True):
            assert np.allclose(gradient, other, rtol=1e-3, atol=1e-4 * np.abs(other).max()), name
    contestants = [Contestant.calling(name, sweep) for name, sweep in entries.items()]
    rows = run.compare("forward and backward", contestants, seconds=30, block=0.1)
    show(rows, note=lambda row: f"{FLOPS / row.median / 1e9:.0f} GFLOP/s")
    targets(run, rows, "tinyml", "PyTorch nn.LSTM", "JAX scan")


def tinyml_step() -> Callable[[Any, Any], Any]:
    """PyTorch's way to write it."""
    layer, head = nn.LSTM(INPUTS, HIDDEN), nn.Linear(HIDDEN, CLASSES)
    parameters = [*layer.parameters(), *head.parameters()]
    return training_step(lambda x, y: F.cross_entropy(head(layer(x)[0][-1]), y), LR, parameters, WEIGHTS)


def torch_steps(torch: Any) -> Steps:
    """The usual loop."""
    layer, head = torch.nn.LSTM(INPUTS, HIDDEN), torch.nn.Linear(HIDDEN, CLASSES)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)

    def loss_of(_: Any) -> Any:
        return torch.nn.functional.cross_entropy(head(layer(x)[0][-1]), y)

    return torch_eager(torch, loss_of, LR, torch.nn.ModuleList([layer, head]), WEIGHTS)


def loss_in_jax(jax: Any) -> Callable[..., Any]:
    """The loss as a function of the parameters."""
    outputs = outputs_in_jax(jax)

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        logits = outputs(*parameters[:4], x)[-1] @ parameters[4].T + parameters[5]
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

    return loss_of


def training(run: Run, torch: Any, jax: Any) -> None:
    """A step of training."""
    x, y = tensor(X), tensor(Y)
    entries = Training(run)
    entries.enter("tinyml, compiled", looped(tinyml.compile(tinyml_step()), x, y))
    entries.enter("tinyml, repeat", repeated(tinyml_step(), x, y))
    entries.enter("tinyml", looped(tinyml_step(), x, y))
    if torch:
        entries.enter("PyTorch nn.LSTM", torch_steps(torch))
    if jax:
        batch = (jax.numpy.asarray(X), jax.numpy.asarray(Y.astype(np.int32)))
        entries.enter("JAX scan", jax_jit(jax, loss_in_jax(jax), LR, WEIGHTS, *batch))
    rows = run.compare("a step of training", entries.contestants, seconds=30, block=0.1)
    show(rows)
    targets(run, rows, "tinyml, compiled", "PyTorch nn.LSTM", "JAX scan")


def targets(run: Run, rows: list[Row], ours: str, *others: str) -> None:
    """No peer is faster."""
    for other in others:
        run.target(f"times as fast as {other}, {ours}", times_as_long(rows, other, ours), 1, at_most=False)


def measure(run: Run) -> None:
    """Prints both tables."""
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header(f"LSTM {INPUTS} to {HIDDEN}, {STEPS} steps, batch {BATCH}")
    if torch:
        torch.set_num_threads(run.threads)
    sweeps(run, torch, jax)
    training(run, torch, jax)


if __name__ == "__main__":
    main(measure, threads=(1, 2))
