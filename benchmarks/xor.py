"""What does an epoch of the smallest network cost? XOR with 2-4-1 tanh neurons.

An epoch is one step on all four samples: outputs, mean squared error, gradients, SGD. There is so
little arithmetic in it (0.4 us in C) that everything else is overhead. Values and micrograd work
neuron by neuron in float64, C too; the others on arrays of four rows in float32. All start from
the same weights, and their losses are compared before the clock starts. First every epoch is a call
from Python, or several; then all epochs run in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import Contestant, Run, compile_c, main, pointer, seconds_of, show, times_as_long
from _training import (
    Steps,
    Training,
    jax_fori_loop,
    jax_jit,
    jax_scan,
    looped,
    repeated,
    torch_compiled,
    torch_eager,
)

import tinyml
from tinyml import Value, nn, optim, tensor
from tinyml.nn import functional as F

LR = 0.1
X = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
Y = np.array([[-1], [1], [1], [-1]], np.float32)
_draw = np.random.default_rng(1)
W1, B1 = _draw.uniform(-1, 1, (4, 2)).astype(np.float32), np.zeros(4, np.float32)
W2, B2 = _draw.uniform(-1, 1, (1, 4)).astype(np.float32), np.zeros(1, np.float32)
WEIGHTS = (W1, B1, W2, B2)
EPOCHS = 2_000  # in one call


def values_step() -> Callable[[], Any]:
    """micrograd's way to write it, with one node per neuron."""
    model = nn.MLP(2, [4, 1], activation="tanh", output="tanh")
    for layer, w, b in zip(model.layers, (W1, W2), (B1, B2), strict=True):
        for i, neuron in enumerate(layer.neurons):
            neuron.w = [Value(float(x)) for x in w[i]]
            neuron.b = Value(float(b[i]))
    xs, ys = X.tolist(), Y[:, 0].tolist()
    optimizer = optim.SGD(model.parameters(), lr=LR)

    def step() -> Any:
        loss = sum((model(x) - y) ** 2 for x, y in zip(xs, ys, strict=True)) / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def tensors_step() -> Callable[[], Any]:
    """PyTorch's way to write it."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh())
    for parameter, weight in zip(model.parameters(), WEIGHTS, strict=True):
        parameter.data = weight
    optimizer = optim.SGD(model.parameters(), lr=LR)
    x, y = tensor(X), tensor(Y)

    def step() -> Any:
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def micrograd_values(engine: Any) -> Steps:
    """micrograd without its Neuron, which knows no tanh: its author adds one as here."""

    def tanh(x: Any) -> Any:
        t = math.tanh(x.data)
        out = engine.Value(t, (x,), "tanh")

        def backward() -> None:
            x.grad += (1 - t * t) * out.grad

        out._backward = backward
        return out

    layers = [
        [([engine.Value(x) for x in row], engine.Value(c)) for row, c in zip(w, b, strict=True)]
        for w, b in ((W1.tolist(), B1.tolist()), (W2.tolist(), B2.tolist()))
    ]
    parameters = [p for layer in layers for w, b in layer for p in (*w, b)]
    xs, ys = X.tolist(), Y[:, 0].tolist()

    def model(x: list[Any]) -> Any:
        for layer in layers:
            x = [tanh(sum((a * c for a, c in zip(w, x, strict=True)), b)) for w, b in layer]
        return x[0]

    def epochs(n: int) -> Any:
        for _ in range(n):
            loss = sum((model(x) - y) ** 2 for x, y in zip(xs, ys, strict=True)) / 4
            for p in parameters:
                p.grad = 0.0
            loss.backward()
            for p in parameters:
                p.data -= LR * p.grad
        return loss.data

    return epochs


def numpy_by_hand() -> Steps:
    """The derivatives written out."""
    w1, b1, w2, b2 = (w.copy() for w in WEIGHTS)

    def epochs(n: int) -> Any:
        for _ in range(n):
            hidden = np.tanh(X @ w1.T + b1)
            out = np.tanh(hidden @ w2.T + b2)
            error = out - Y
            d_out = (1 - out * out) * error * np.float32(0.5)
            d_hidden = (1 - hidden * hidden) * (d_out @ w2)
            w2[:] -= LR * (d_out.T @ hidden)
            b2[:] -= LR * d_out.sum(axis=0)
            w1[:] -= LR * (d_hidden.T @ X)
            b1[:] -= LR * d_hidden.sum(axis=0)
        return (error * error).mean()

    return epochs


def in_arrays(numpy: Any, x: Any, y: Any) -> Callable[[Any], Any]:
    """The loss as a function of the parameters, with JAX's NumPy or torch."""

    def loss_of(parameters: Any) -> Any:
        w1, b1, w2, b2 = parameters
        out = numpy.tanh(numpy.tanh(x @ w1.T + b1) @ w2.T + b2)
        return ((out - y) ** 2).mean()

    return loss_of


def in_torch(torch: Any) -> Steps:
    """The usual loop."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1), torch.nn.Tanh())
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    return torch_eager(torch, lambda model: torch.nn.functional.mse_loss(model(x), y), LR, model, WEIGHTS)


C = """
#include <math.h>
/* w: W1 (4 x 2), b1, W2 (1 x 4), b2 in a row. Returns the last epoch's loss. */
double xor_epochs(long n, double *w, double *x, double *y, double lr)
{
    double loss = 0;
    for (long epoch = 0; epoch < n; epoch++) {
        double g[17] = {0};
        loss = 0;
        for (int s = 0; s < 4; s++) {
            const double x0 = x[2 * s], x1 = x[2 * s + 1];
            double h[4], out = w[16];
            for (int j = 0; j < 4; j++)
                out += w[12 + j] * (h[j] = tanh(w[2 * j] * x0 + w[2 * j + 1] * x1 + w[8 + j]));
            out = tanh(out);
            const double error = out - y[s], d = 0.5 * error * (1 - out * out);
            loss += 0.25 * error * error;
            g[16] += d;
            for (int j = 0; j < 4; j++) {
                const double dh = d * w[12 + j] * (1 - h[j] * h[j]);
                g[12 + j] += d * h[j];
                g[2 * j] += dh * x0;
                g[2 * j + 1] += dh * x1;
                g[8 + j] += dh;
            }
        }
        for (int i = 0; i < 17; i++)
            w[i] -= lr * g[i];
    }
    return loss;
}
"""


def c_by_hand() -> Steps | None:
    """The derivatives written out in C, any number of epochs in one call: the floor."""
    library = compile_c("double xor_epochs(long, double *, double *, double *, double);", C)
    if library is None:
        return None
    w = np.concatenate([w.ravel() for w in WEIGHTS]).astype(float)
    x, y = X.astype(float), Y.astype(float)
    return lambda n: library.xor_epochs(n, pointer(w), pointer(x), pointer(y), LR)


def rounds(epochs: Steps) -> Steps:
    """Calls of EPOCHS each."""

    def run(n: int) -> Any:
        for _ in range(n):
            loss = epochs(EPOCHS)
        return loss

    return run


def measure(run: Run) -> None:
    """Prints the table."""
    engine = run.peer("micrograd.engine", "micrograd")
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header("XOR, 2-4-1 tanh, four samples: an epoch")
    calls = Training(run)
    calls.enter("tinyml, Tensors", looped(tensors_step()))
    calls.enter("tinyml, Tensors compiled", looped(tinyml.compile(tensors_step())))
    calls.enter("tinyml, Values", looped(values_step()))
    calls.enter("tinyml, Values compiled", looped(tinyml.compile(values_step())))
    if engine:
        calls.enter("micrograd", micrograd_values(engine))
        calls.enter("micrograd, no gc", micrograd_values(engine), collector=False)
    calls.enter("NumPy by hand", numpy_by_hand())
    if torch:
        torch.set_num_threads(run.threads)
        calls.enter("PyTorch", in_torch(torch))
        loss_of = in_arrays(torch, torch.from_numpy(X), torch.from_numpy(Y))
        calls.enter_torch_compile(torch_compiled(torch, loss_of, LR, WEIGHTS))
    if jax:
        loss_of = in_arrays(jax.numpy, X, Y)
        calls.enter("JAX jit", jax_jit(jax, loss_of, LR, WEIGHTS))
    show(run.compare("an epoch, called from Python", calls.contestants, seconds=20))

    loops = Training(run, like=calls)
    loops.enter("tinyml, Tensors repeat", repeated(tensors_step()))
    loops.enter("tinyml, Values repeat", repeated(values_step()))
    if jax:
        loops.enter("JAX fori_loop", jax_fori_loop(jax, loss_of, LR, WEIGHTS))
        loops.enter("JAX scan", jax_scan(jax, loss_of, LR, WEIGHTS))
    if floor := c_by_hand():
        loops.enter("C by hand", floor)
    # In rounds of many epochs, or the call would count.
    many = [Contestant(each.name, rounds(each.run)) for each in loops.contestants]
    rows = run.compare("an epoch, all in one call", many, seconds=10, unit=EPOCHS)
    show(rows)
    seconds = seconds_of(rows, "tinyml, Values repeat")
    run.target("us an epoch over Values within repeat", seconds and seconds * 1e6, 1)
    for loop in ("JAX fori_loop", "JAX scan"):
        ahead = times_as_long(rows, loop, "tinyml, Values repeat")
        run.target(f"times as fast as {loop}, Values", ahead, 1, at_most=False)
    behind = times_as_long(rows, "tinyml, Tensors repeat", "C by hand")
    run.target("times the C by hand, Tensors", behind, 1.5)


if __name__ == "__main__":
    main(measure)
