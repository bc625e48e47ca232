"""How long does an epoch of MNIST take? 784-128-10, ReLU, cross entropy, SGD at 0.1, by batch size.

Every contestant loops over batches in memory as its users write it, from the same weights, in
float32; the losses of the first steps are compared before the clock starts. "compiled" is tinyml's
recorded step, called for each batch of a DataLoader; "over" and JAX's scan run the epoch in one
call. The floor: at batch 1 C written by hand; for larger batches the five matrix products of a step
alone, as tinyml computes them, on a batch that stays in the cache. The digits come from
examples/data/mnist, or are drawn at random where that folder is missing. From batch 32 up the time
is that of a whole epoch; at batch 1 that of 3,000 steps, scaled to the 60,000 of an epoch.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Contestant, Run, compile_c, main, pointer, show, times_as_long

import tinyml
from tinyml import nn, optim
from tinyml.data import DataLoader, TensorDataset
from tinyml.nn import functional as F

LR, EPOCH, CHECKED = 0.1, 60_000, 5
FOLDER = Path(__file__).resolve().parent.parent / "examples" / "data" / "mnist"
Array = np.ndarray[Any, Any]


class Task:
    """The digits of a few steps, or of an epoch, and the weights to start from."""

    def __init__(self, images: Array, labels: Array, batch: int) -> None:
        self.images, self.labels, self.batch = images, labels, batch
        self.starts = range(0, len(images), batch)
        draw = np.random.default_rng(0)
        self.weights = tuple(
            draw.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(inputs))
            for shape, inputs in (((128, 784), 784), (128, 784), ((10, 128), 128), (10, 128))
        )


class Trainer:
    """One library's way: `epoch` trains on the task and returns the losses; `reset` starts anew."""

    def __init__(self, reset: Callable[[], object], epoch: Callable[[], Any]) -> None:
        self.reset, self.epoch = reset, epoch


def digits() -> tuple[Array, Array, str]:
    """60,000 images in [0, 1], their labels, and where they come from."""
    try:
        pixels = gzip.decompress((FOLDER / "train-images-idx3-ubyte.gz").read_bytes())[16:]
        classes = gzip.decompress((FOLDER / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    except FileNotFoundError:
        draw = np.random.default_rng(0)
        images = draw.random((EPOCH, 784), np.float32) * (draw.random((EPOCH, 784)) < 0.2)
        return images.astype(np.float32), draw.integers(0, 10, EPOCH), "random, no MNIST found"
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 784).astype(np.float32) / np.float32(255)
    return images, np.frombuffer(classes, np.uint8).astype(np.int64), "MNIST"


def tinyml_step(task: Task) -> tuple[Callable[[Any, Any], Any], Callable[[], object]]:
    """PyTorch's way to write a step, and what starts anew."""
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optim.SGD(model.parameters(), lr=LR)

    def reset() -> None:
        for parameter, weight in zip(model.parameters(), task.weights, strict=True):
            parameter.data = weight

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, reset


def in_tinyml(task: Task) -> Trainer:
    """The usual loop."""
    step, reset = tinyml_step(task)
    images, labels = tinyml.tensor(task.images), tinyml.tensor(task.labels)

    def epoch() -> Any:
        return [step(images[i : i + task.batch], labels[i : i + task.batch]).detach() for i in task.starts]

    return Trainer(reset, epoch)


def in_tinyml_compiled(task: Task) -> Trainer:
    """The recorded step in the usual loop."""
    step, reset = tinyml_step(task)
    compiled = tinyml.compile(step)
    loader = DataLoader(TensorDataset(task.images, task.labels), batch_size=task.batch)
    return Trainer(reset, lambda: [compiled(x, y) for x, y in loader])


def in_tinyml_over(task: Task) -> Trainer:
    """The recorded step for all batches, in one call."""
    step, reset = tinyml_step(task)
    compiled = tinyml.compile(step)
    return Trainer(reset, lambda: compiled.over(task.images, task.labels, batch_size=task.batch))


def products(task: Task) -> Trainer:
    """As many products of each kind as an epoch needs: both layers' outputs, the gradients of both weights and of the
    hidden layer."""
    w1, w2 = (tinyml.tensor(w, requires_grad=True) for w in task.weights[::2])
    x = tinyml.tensor(task.images[: task.batch])
    cotangent = tinyml.ones(task.batch, 10)

    @tinyml.compile
    def step(x: Any, cotangent: Any) -> Any:
        w1.grad = w2.grad = None
        out = F.linear(F.linear(x, w1), w2)
        out.backward(cotangent)
        return out

    return Trainer(lambda: None, lambda: step.repeat(len(task.starts), x, cotangent))


def in_torch(torch: Any, task: Task) -> Trainer:
    """The usual loop."""
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    images, labels = torch.from_numpy(task.images), torch.from_numpy(task.labels)

    def reset() -> None:
        with torch.no_grad():
            for parameter, weight in zip(model.parameters(), task.weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))

    def epoch() -> Any:
        losses = []
        for i in task.starts:
            logits = model(images[i : i + task.batch])
            loss = torch.nn.functional.cross_entropy(logits, labels[i : i + task.batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    return Trainer(reset, epoch)


def in_torch_compiled(torch: Any, task: Task) -> Trainer:
    """Forward, gradients and update of a batch in one compiled graph."""
    functional = torch.nn.functional

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2 = parameters
        hidden = functional.relu(functional.linear(x, w1, b1))
        return functional.cross_entropy(functional.linear(hidden, w2, b2), y)

    @torch.compile(fullgraph=True)  # type: ignore[untyped-decorator]
    def step(parameters: Any, x: Any, y: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(loss_of)(parameters, x, y)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=LR)
        return loss

    parameters = tuple(torch.empty(w.shape) for w in task.weights)
    images, labels = torch.from_numpy(task.images), torch.from_numpy(task.labels)

    def reset() -> None:
        for parameter, weight in zip(parameters, task.weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))

    def epoch() -> Any:
        with torch.no_grad():
            return [step(parameters, images[i : i + task.batch], labels[i : i + task.batch]) for i in task.starts]

    return Trainer(reset, epoch)


def jax_step(jax: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """One step as a pure function."""

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2 = parameters
        logits = jax.nn.relu(x @ w1.T + b1) @ w2.T + b2
        picked = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -picked.mean()

    def step(parameters: Any, x: Any, y: Any) -> tuple[Any, Any]:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        return tuple(p - LR * g for p, g in zip(parameters, gradients, strict=True)), loss

    return step


def in_jax_jit(jax: Any, task: Task) -> Trainer:
    """One jitted call per batch."""
    step = jax.jit(jax_step(jax), donate_argnums=0)
    images, labels = task.images, task.labels.astype(np.int32)
    parameters: Any = None

    def reset() -> None:
        nonlocal parameters
        parameters = tuple(jax.numpy.array(w) for w in task.weights)

    def epoch() -> Any:
        nonlocal parameters
        losses = []
        for i in task.starts:
            x, y = images[i : i + task.batch], labels[i : i + task.batch]
            parameters, loss = step(parameters, x, y)
            losses.append(loss)
        jax.block_until_ready(parameters)
        return losses

    return Trainer(reset, epoch)


def in_jax_scan(jax: Any, task: Task) -> Trainer:
    """All batches of the same size in one call of lax.scan, then the rest."""
    step = jax_step(jax)
    whole = len(task.images) // task.batch * task.batch
    labels = task.labels.astype(np.int32)
    images = jax.numpy.asarray(task.images[:whole].reshape(-1, task.batch, 784))
    classes = jax.numpy.asarray(labels[:whole].reshape(-1, task.batch))
    rest = (jax.numpy.asarray(task.images[whole:]), jax.numpy.asarray(labels[whole:]))
    parameters: Any = None

    @jax.jit  # type: ignore[untyped-decorator]
    def scan(parameters: Any, images: Any, classes: Any, x: Any, y: Any) -> Any:
        body = lambda carry, batch: step(carry, *batch)  # noqa: E731
        parameters, losses = jax.lax.scan(body, parameters, (images, classes))
        if len(x):
            parameters, _ = step(parameters, x, y)
        return parameters, losses

    def reset() -> None:
        nonlocal parameters
        parameters = tuple(jax.numpy.array(w) for w in task.weights)

    def epoch() -> Any:
        nonlocal parameters
        parameters, losses = jax.block_until_ready(scan(parameters, images, classes, *rest))
        return losses

    return Trainer(reset, epoch)


def in_numpy(task: Task) -> Trainer:
    """The derivatives written out."""
    w1, b1, w2, b2 = (w.copy() for w in task.weights)
    weights = (w1, b1, w2, b2)

    def reset() -> None:
        for weight, start in zip(weights, task.weights, strict=True):
            weight[:] = start

    def epoch() -> Any:
        losses = []
        for i in task.starts:
            x, y = task.images[i : i + task.batch], task.labels[i : i + task.batch]
            rows = np.arange(len(x))
            hidden = np.maximum(x @ w1.T + b1, 0)
            logits = hidden @ w2.T + b2
            logits -= logits.max(axis=1, keepdims=True)
            exp = np.exp(logits)
            total = exp.sum(axis=1, keepdims=True)
            losses.append((np.log(total[:, 0]) - logits[rows, y]).mean())
            d_logits = exp / total
            d_logits[rows, y] -= 1
            d_logits *= np.float32(1 / len(x))
            d_hidden = d_logits @ w2
            d_hidden *= hidden > 0
            w2[:] -= LR * (d_logits.T @ hidden)
            b2[:] -= LR * d_logits.sum(axis=0)
            w1[:] -= LR * (d_hidden.T @ x)
            b1[:] -= LR * d_hidden.sum(axis=0)
        return losses

    return Trainer(reset, epoch)


C = """
#include <math.h>
#include <stdint.h>
enum { IN = 784, HIDDEN = 128, OUT = 10 };
typedef float vector __attribute__((vector_size(64), aligned(4)));

static float inner(const float *a, const float *b)
{
    vector sum0 = {0}, sum1 = {0};
    int i = 0;
    for (; i + 32 <= IN; i += 32) {
        sum0 += *(const vector *)(a + i) * *(const vector *)(b + i);
        sum1 += *(const vector *)(a + i + 16) * *(const vector *)(b + i + 16);
    }
    for (; i < IN; i += 16)
        sum0 += *(const vector *)(a + i) * *(const vector *)(b + i);
    sum0 += sum1;
    float total = 0;
    for (int k = 0; k < 16; k++)
        total += sum0[k];
    return total;
}

/* Steps of batch 1; the outer product of the weight gradient goes straight into the weights. */
void mnist_steps(int64_t n, float *w1, float *b1, float *w2, float *b2, float *x, int64_t *y,
                 float lr, float *losses)
{
    for (int64_t s = 0; s < n; s++, x += IN) {
        float h[HIDDEN], dh[HIDDEN] = {0}, p[OUT], top = -INFINITY, total = 0;
        for (int j = 0; j < HIDDEN; j++) {
            h[j] = inner(w1 + j * IN, x) + b1[j];
            h[j] = h[j] > 0 ? h[j] : 0;
        }
        for (int k = 0; k < OUT; k++) {
            p[k] = b2[k];
            for (int j = 0; j < HIDDEN; j++)
                p[k] += w2[k * HIDDEN + j] * h[j];
            top = fmaxf(top, p[k]);
        }
        for (int k = 0; k < OUT; k++)
            total += expf(p[k] - top);
        losses[s] = logf(total) + top - p[y[s]];
        for (int k = 0; k < OUT; k++) {
            const float d = expf(p[k] - top) / total - (k == y[s]);
            for (int j = 0; j < HIDDEN; j++) {
                dh[j] += d * w2[k * HIDDEN + j];
                w2[k * HIDDEN + j] -= lr * d * h[j];
            }
            b2[k] -= lr * d;
        }
        for (int j = 0; j < HIDDEN; j++) {
            const float d = h[j] > 0 ? lr * dh[j] : 0;
            for (int i = 0; i < IN; i++)
                w1[j * IN + i] -= d * x[i];
            b1[j] -= d;
        }
    }
}
"""


def in_c(task: Task) -> Trainer | None:
    """The derivatives written out in C for batch 1, where plain loops are the floor."""
    arguments = "int64_t, float *, float *, float *, float *, float *, int64_t *, float, float *"
    library = compile_c(f"void mnist_steps({arguments});", C)
    if library is None:
        return None
    weights = tuple(w.copy() for w in task.weights)
    losses = np.zeros(len(task.images), np.float32)

    def reset() -> None:
        for weight, start in zip(weights, task.weights, strict=True):
            weight[:] = start

    def epoch() -> Any:
        arrays = [pointer(a) for a in (*weights, task.images, task.labels)]
        library.mnist_steps(len(losses), *arrays, LR, pointer(losses))
        return losses

    return Trainer(reset, epoch)


def trainers(run: Run, torch: Any, jax: Any, task: Task) -> Iterator[tuple[str, Trainer]]:
    """All ways to train, with their names."""
    yield "tinyml, over", in_tinyml_over(task)
    yield "tinyml, compiled", in_tinyml_compiled(task)
    yield "tinyml", in_tinyml(task)
    yield "NumPy by hand", in_numpy(task)
    if torch:
        yield "PyTorch", in_torch(torch, task)
        if not run.quick:
            yield "torch.compile", in_torch_compiled(torch, task)
    if jax:
        yield "JAX jit", in_jax_jit(jax, task)
        yield "JAX scan", in_jax_scan(jax, task)
    if task.batch == 1 and (floor := in_c(task)):
        yield "C by hand", floor


def losses_of(trainer: Trainer) -> Array:
    """The losses of the first steps."""
    trainer.reset()
    return np.array([float(loss) for loss in list(trainer.epoch())[:CHECKED]])


def measure(run: Run) -> None:
    """Prints a table per batch size."""
    torch, jax = run.peer("torch"), run.peer("jax")
    images, labels, origin = digits()
    run.setting["digits"] = origin
    run.header("MNIST, 784-128-10: an epoch")
    if torch:
        torch.set_num_threads(run.threads)
        if run.quick:
            run.skip("torch.compile", "compiling takes long")
    for batch in (1, 64) if run.quick else (1, 32, 64, 128, 1024):
        size = (200 if batch == 1 else 4_096) if run.quick else 3_000 if batch == 1 else EPOCH
        task = Task(images[:size], labels[:size], batch)
        expected = losses_of(in_numpy(task))
        contestants = []
        for name, trainer in trainers(run, torch, jax, task):
            try:
                losses = losses_of(trainer)
            except Exception as error:
                if name != "torch.compile":  # a missing C++ compiler has many faces
                    raise
                run.skip(name, f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            assert np.allclose(losses, expected, rtol=1e-4, atol=1e-4), (name, losses, expected)
            contestants.append(Contestant.calling(name, trainer.epoch, before=trainer.reset))
        if batch > 1:
            contestants.append(Contestant.calling("products alone", products(task).epoch))
        title = f"batch {batch}" + (f" ({size} samples, scaled to {EPOCH})" if size < EPOCH else "")
        rows = run.compare(f"batch {batch}", contestants, seconds=20, unit=size / EPOCH)
        show(rows, title)
        floor = "C by hand" if batch == 1 else "products alone"
        for other, bound in (("JAX scan", 1), (floor, 1.15)):
            behind = times_as_long(rows, "tinyml, over", other)
            run.target(f"over at batch {batch}, in times of {other}", behind, bound)


if __name__ == "__main__":
    main(measure, threads=(1, 2))
