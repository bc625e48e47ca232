"""Training loops: fit and evaluate, with progress, a history, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np

import tinyml
from tinyml import _core
from tinyml._dtypes import Array
from tinyml._guard import Guard
from tinyml._interrupt import CtrlC
from tinyml.data import DataLoader
from tinyml.data._batches import Batches
from tinyml.errors import AnomalyError, ArgumentError, DTypeError, FrozenWarning, ShapeError
from tinyml.nn import Module
from tinyml.nn._mode import mode
from tinyml.optim import Optimizer as RecordableOptimizer
from tinyml.optim.lr_scheduler import LRScheduler
from tinyml.program import Compiled, Rows
from tinyml.tensor import Tensor

if TYPE_CHECKING:
    from tqdm import tqdm

#: Batches, each a tuple (input, target), or (input, ..., input, target) for several inputs.
Loader: TypeAlias = Iterable[Sequence[Tensor]]
#: A module, or any function of a batch's inputs.
Model: TypeAlias = Callable[..., Any]
#: loss(outputs, targets): a tensor of one element, the mean over the batch.
Loss: TypeAlias = Callable[[Any, Tensor], Tensor]
#: metric(outputs, targets): a number or a tensor of one element, the mean over the batch.
Metric: TypeAlias = Callable[[Any, Tensor], Any]


class Optimizer(Protocol):
    """What fit needs of an optimizer; those of tinyml.optim have it."""

    def zero_grad(self) -> object:
        """Clears the gradients."""

    def step(self) -> object:
        """Updates the parameters by their gradients."""


class Evaluation(NamedTuple):
    """Means over all samples; nan for what was not asked for."""

    loss: float
    metric: float


class Epoch(NamedTuple):
    """One epoch of a History. What was not asked for is nan.

    `loss` and `metric` are means over the epoch's samples, each taken before its step.
    """

    loss: float
    metric: float = math.nan
    validation_loss: float = math.nan
    validation_metric: float = math.nan
    seconds: float = math.nan
    samples_per_second: float = math.nan


class History:
    """What happened in a fit: an Epoch per completed epoch, by index or in a loop, and every loss.

    losses: the loss of every step, those of an interrupted epoch too.
    interrupted: whether Ctrl-C ended the training.

    >>> history = History()
    >>> history.epochs.append(Epoch(loss=0.25, seconds=2.0, samples_per_second=30_000.0))
    >>> history[-1].loss
    0.25
    >>> history
    History: 1 epoch, 0 steps
    epoch    loss  seconds  samples/s
        1  0.2500     2.00     30,000
    """

    def __init__(self, metric: str = "metric", unit: str = "samples") -> None:
        self.epochs: list[Epoch] = []
        self.losses: list[float] = []
        self.interrupted = False
        means = ("loss", metric, "validation loss", f"validation {metric}")
        self._titles = (*means, "seconds", f"{unit}/s")

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, index: int) -> Epoch:
        return self.epochs[index]

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def _shown(self, epoch: Epoch) -> str:
        means = zip(self._titles, epoch[:4], strict=False)
        shown = [f"{title} {mean:.4f}" for title, mean in means if not math.isnan(mean)]
        return ", ".join([*shown, f"{epoch.samples_per_second:,.0f} {self._titles[-1]}"])

    def __repr__(self) -> str:
        lines = [f"History: {_counted(len(self), 'epoch')}, {_counted(len(self.losses), 'step')}"]
        if self.interrupted:
            lines[0] += ", interrupted"
        formats = (*[".4f"] * 4, ".2f", ",.0f")
        columns = [["epoch", *(str(i + 1) for i in range(len(self)))]]
        for i, title in enumerate(self._titles):
            numbers = [epoch[i] for epoch in self]
            if not all(map(math.isnan, numbers)):
                columns.append([title, *(format(number, formats[i]) for number in numbers)])
        widths = [max(map(len, column)) for column in columns]
        rows = zip(*columns, strict=True) if self.epochs else []
        return "\n".join([*lines, *("  ".join(map(str.rjust, row, widths)) for row in rows)])


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


class _Totals:
    """Sums over samples, of which the means are wanted; nan stays nan."""

    def __init__(self) -> None:
        self.samples = 0
        self._loss = self._metric = 0.0

    def add(self, count: int, loss: float, metric: float) -> None:
        """Counts a batch of `count` samples by its means."""
        self.samples += count
        self._loss += loss * count
        self._metric += metric * count

    def add_many(self, counts: Array, losses: Array, metrics: Array | None) -> None:
        """Counts several batches."""
        self.samples += int(counts.sum())
        self._loss += float(counts @ losses)
        self._metric += math.nan if metrics is None else float(counts @ metrics)

    @property
    def doubtful(self) -> bool:
        """Whether a loss may have been nan."""
        return math.isnan(self._loss)

    def means(self, op: str) -> Evaluation:
        """The means; ArgumentError when there was nothing."""
        if not self.samples:
            raise ArgumentError(
                f"{op}: the loader gave no samples, expected at least one; mind that drop_last "
                "drops a dataset smaller than batch_size, and that a generator is used up after "
                "one epoch"
            )
        return Evaluation(self._loss / self.samples, self._metric / self.samples)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of samples whose largest logit stands at their label, as a 0-d float32 tensor.

    logits: (..., classes), labels: int64 of shape (...). Raises ShapeError when they do not fit.

    >>> accuracy(tinyml.tensor([[0.1, 0.9], [0.8, 0.2]]), tinyml.tensor([1, 1]))
    tensor(0.5)
    """
    if labels.shape != logits.shape[:-1]:
        raise ShapeError(
            f"accuracy: got logits of shape {logits.shape} and labels of shape {labels.shape}, "
            f"expected labels of shape {logits.shape[:-1]}, one class number for each row"
        )
    hits: Tensor = logits.argmax(-1) == labels
    return hits.float().mean()


def evaluate(model: Model, loader: Loader, loss_fn: Loss | None = None, metric: Metric | None = accuracy) -> Evaluation:
    """The mean loss and metric of a model over all samples, as (loss, metric).

    The model runs in eval mode and without gradients; its mode is restored. What is None comes back
    as nan. Raises ArgumentError when the loader gives no samples, DTypeError when a batch is not a
    tuple of inputs and a target.

    >>> batch = tinyml.tensor([[2.0, 1.0], [0.0, 3.0]]), tinyml.tensor([0, 1])
    >>> evaluate(lambda x: x, [batch]).metric
    1.0
    """
    totals = _Totals()
    with mode(model, training=False), tinyml.no_grad():
        for batch in loader:
            count = _samples("evaluate", batch)
            inputs, targets = batch[:-1], batch[-1]
            outputs = model(*inputs)
            loss = math.nan if loss_fn is None else float(loss_fn(outputs, targets))
            totals.add(count, loss, math.nan if metric is None else float(metric(outputs, targets)))
    return totals.means("evaluate")


def fit(
    model: Model,
    train_loader: Loader,
    loss_fn: Loss,
    optimizer: Optimizer,
    *,
    epochs: int = 1,
    validation: Loader | None = None,
    metric: Metric | None = None,
    progress: bool = True,
    unit: str = "samples",
    callback: Callable[[History], object] | None = None,
    scheduler: LRScheduler | None = None,
    before_step: Callable[[], object] | None = None,
    compiled: bool = True,
    detect_nan: bool = True,
) -> History:
    """Trains a model: for every batch of every epoch the loss, its gradients and an optimizer step.

    The step is recorded at its first batch and replayed from then on (tinyml.compile), with the same numbers bit for
    bit; a DataLoader over a TensorDataset is gathered in C. compiled=False runs Python in every step instead: for a
    model, loss or metric whose Python does something else from step to step. Where that can be seen, or the optimizer
    is not one of tinyml.optim, steps are not compiled anyhow.

    train_loader: a DataLoader, or a list of batches such as [(x, y)]. validation: another one, on
    which the model is evaluated after each epoch. metric: for example `accuracy`, shown beside the
    loss. progress: on stderr a bar per epoch, or one for all epochs of a single batch, with the
    means so far and `unit`/s. callback: called with the history after each epoch; a true result
    ends the training. scheduler: stepped after each epoch, before the callback. before_step: called in every step
    between backward() and the optimizer's step, to clip gradients; it is recorded with the step.

    Ctrl-C ends the training after the step it falls into and returns the history so far, with
    `interrupted` set; a second one does not wait for the step. The model is in training mode during
    the steps only, and its mode is restored whatever happens.

    A loss that is nan (not one that is infinite) ends the training with AnomalyError, which says in which epoch and
    batch, and has the history so far as `history`. Where the model is an nn.Module and the optimizer one of
    tinyml.optim, it also names the op that first made a nan and its line, and parameters, buffers and the optimizer's
    state are what they were before the step that did. For this, fit keeps a copy of them, a moment old, and makes the
    steps since then once more; what else a step changes in Python is not brought back. detect_nan=False goes on.

    Raises ArgumentError for a negative number of epochs or a loader that gives no samples,
    DTypeError when a batch is not a tuple of inputs and a target.

    >>> from tinyml import nn, optim
    >>> x, y = tinyml.data.xor()
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> history = fit(model, [(x, y)], nn.MSELoss(), optimizer, epochs=50, progress=False)
    >>> history[-1].loss < history[0].loss
    True
    """
    if epochs < 0:
        raise ArgumentError(f"fit: got {epochs} epochs, expected 0 or more")
    history = History(getattr(metric, "__name__", "metric"), unit)

    def step(*batch: Tensor) -> Any:
        # A function of its own, so that a step's graph is gone before the next one is built.
        inputs, targets = batch[:-1], batch[-1]
        outputs = model(*inputs)
        loss = loss_fn(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        if before_step is not None:
            before_step()
        optimizer.step()
        return loss if metric is None else (loss, metric(outputs.detach(), targets))

    guard = None
    if detect_nan and isinstance(model, Module) and _recordable(optimizer):
        modules = [each for each in (model, loss_fn, metric) if isinstance(each, Module)]
        guard = Guard(step, modules, optimizer)  # type: ignore[arg-type]
    compiled = compiled and _recordable(optimizer) and not _core.anomaly_mode()
    steps = _Steps(step, train_loader, compiled, detect_nan, guard)
    with CtrlC() as ctrl_c, _Bars(progress, epochs, train_loader) as bars:
        try:
            for number in range(1, epochs + 1):
                bar = bars.start(number)
                with mode(model, training=True):
                    epoch = _train(steps, ctrl_c, history, bar)
                history.epochs.append(epoch)
                if validation is not None:
                    held_out = evaluate(model, _watched(validation, ctrl_c), loss_fn, metric)
                    epoch = epoch._replace(validation_loss=held_out.loss, validation_metric=held_out.metric)
                    history.epochs[-1] = epoch
                bars.end(history._shown(epoch))
                if scheduler is not None:
                    scheduler.step()
                stop = callback is not None and callback(history)
                ctrl_c.check()
                if stop:
                    break
        except KeyboardInterrupt:
            history.interrupted = True
    return history


def _watched(loader: Loader, ctrl_c: CtrlC) -> Iterator[Sequence[Tensor]]:
    """The loader's batches, until Ctrl-C."""
    for batch in loader:
        yield batch
        ctrl_c.check()


def _recordable(optimizer: Optimizer) -> bool:
    """Whether all that a step of the optimizer does is recorded: one with a step of its own may count in Python."""
    return isinstance(optimizer, RecordableOptimizer) and type(optimizer).step is RecordableOptimizer.step


class _Steps:
    """Runs the steps of epochs: in C over the arrays of a loader, or batch by batch, recorded or not."""

    def __init__(
        self, step: Callable[..., Any], loader: Loader, compiled: bool, detect_nan: bool, guard: Guard | None
    ) -> None:
        self.detect_nan = detect_nan
        self._guard = guard
        self._step = step
        self._loader = loader
        self._frozen: list[str] = []
        self._compiled: Compiled | None = None
        self._batches: Batches | None = None
        if compiled:
            self._compiled = Compiled(step, report=self._note)
            if type(loader) is DataLoader:
                self._batches = loader.batches()

    def _note(self, file: str, line: int, _: str) -> None:
        self._frozen.append(f"{file}, line {line}")

    def epoch(self) -> Generator[tuple[Array, Array, Array | None], None, None]:
        """The samples, losses and metrics of the steps of an epoch, a few steps or one at a time."""
        batches, order, done = self._batches, None, 0
        if batches is None:
            yield from map(self._single, self._loader)
            return
        order = batches.order()
        counts, rows = batches.counts, Rows(len(batches))
        if self._compiled is not None:
            if self._guard:
                self._guard.begin()
            for reached in self._compiled.epoch(batches, order, rows):
                if self._guard:
                    self._guard.rows(batches, order, done, reached)
                losses, *metrics = [output[done:reached] for output in rows.outputs]
                yield counts[done:reached], losses, metrics[0] if metrics else None
                done = reached
                if self._give_up():
                    break
                if self._guard:
                    self._guard.begin()
        for i in range(done, len(batches)):
            yield self._single(batches.batch(order, i))

    def _single(self, batch: Sequence[Tensor]) -> tuple[Array, Array, Array | None]:
        """One step."""
        count = _samples("fit", batch)
        if self._guard:
            self._guard.batch(batch)
        result = (self._compiled or self._step)(*batch)
        self._give_up()
        loss, metric = result if isinstance(result, tuple) else (result, None)
        metrics = None if metric is None else np.array([float(metric)])
        return np.array([count]), np.array([loss.item()]), metrics

    def stop(self, history: History, batch: int, after: int) -> NoReturn:
        """Raises AnomalyError because of that batch of the epoch, whose loss is the last; `after`: steps since then."""
        text, cause = "run its step within tinyml.detect_anomaly() to see which op makes it", None
        if self._guard:
            text, cause = self._guard.explain(self._compiled or self._step, history.losses[:-1], after)
        error = AnomalyError(f"fit: the loss is nan in epoch {len(history) + 1}, batch {batch}: {text}")
        error.history = history
        raise error from cause

    def _give_up(self) -> bool:
        """Whether recording is not for this step, as it would freeze something; what has been done so far is right."""
        if self._frozen and self._compiled is not None:
            self._compiled = None
            warnings.warn(
                f"fit: the step reads numbers of tensors ({self._frozen[0]}), so it is not compiled; a metric may "
                "return a 0-d tensor instead; compiled=False silences this",
                FrozenWarning,
                stacklevel=5,
            )
        return self._compiled is None


def _train(steps: _Steps, ctrl_c: CtrlC, history: History, bar: tqdm[Any] | None) -> Epoch:
    """An epoch of steps."""
    totals = _Totals()
    start = time.perf_counter()

    def so_far() -> Epoch:
        loss, metric = totals.means("fit")
        seconds = max(time.perf_counter() - start, 1e-9)
        return Epoch(loss, metric, seconds=seconds, samples_per_second=totals.samples / seconds)

    epoch, done = steps.epoch(), 0
    for counts, losses, metrics in epoch:
        history.losses += losses.tolist()
        totals.add_many(counts, losses, metrics)
        if steps.detect_nan and totals.doubtful and np.isnan(losses).any():
            epoch.close()  # it may hold on to a program
            after = len(losses) - 1 - int(np.isnan(losses).argmax())
            del history.losses[len(history.losses) - after :]
            steps.stop(history, done + len(losses) - after, after)
        done += len(losses)
        if bar is not None and bar.update(len(losses)):  # it has just been drawn: a new text for the next time
            bar.set_postfix_str(history._shown(so_far()), refresh=False)
        ctrl_c.check()
    return so_far()


def _samples(op: str, batch: Sequence[Tensor]) -> int:
    """The number of samples of a batch, which is a tuple of inputs and a target."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        parts = _counted(len(batch), "part") if isinstance(batch, tuple | list) else ""
        raise DTypeError(
            f"{op}: got a batch of {parts or type(batch).__name__}, expected a tuple "
            "(input, target); for one pair of tensors give [(x, y)]"
        )
    shape = batch[-1].shape
    return shape[0] if shape else 1


class _Bars:
    """A progress bar per epoch, or one for all epochs when an epoch is a single step; or none."""

    def __init__(self, shown: bool, epochs: int, loader: Loader) -> None:
        self._shown = shown
        self._epochs = epochs
        self._steps = len(loader) if isinstance(loader, Sized) else None
        self._single = self._steps == 1
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, number: int) -> tqdm[Any] | None:
        """The bar for an epoch, which counts its steps."""
        if self._shown and not (self._single and self._bar is not None):
            from tqdm import tqdm  # not at the top: its import costs as much as all of tinyml's

            self._bar = tqdm(
                desc="epochs" if self._single else f"epoch {number}/{self._epochs}",
                total=self._epochs if self._single else self._steps,
                bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            )
        return self._bar

    def end(self, text: str) -> None:
        """Shows how the epoch went; its bar is left, so that a callback can print below it."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            if not self._single:
                self._bar.close()
