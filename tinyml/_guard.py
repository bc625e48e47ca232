"""What fit does about a loss that is nan: it goes back to before that step, and looks for the op that made it.

Steps are not looked at one by one while they run. Every now and then a snapshot is taken of all that they change, and
which batches follow is noted. As steps give the same bits again, they lead from there to the failing one, which is then
run once more, op by op.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyml import _core, _random, _recording
from tinyml._anomaly import detect_anomaly
from tinyml._dtypes import Array
from tinyml.data._batches import Batches
from tinyml.errors import AnomalyError
from tinyml.nn import Module
from tinyml.optim import Optimizer
from tinyml.tensor import Tensor
from tinyml.value import Value

Batch: TypeAlias = Sequence[Tensor]

_SECONDS = 0.2  # between snapshots, or
_TIMES = 50  # as many times what one takes, if that is more
_MOST_STEPS = 10_000
_MOST_BYTES = 1 << 26  # of batches that are kept because there are no arrays to gather them from again


class _Snapshot:
    """Parameters, buffers, the optimizer's state and the generators' as they are."""

    def __init__(self, modules: Sequence[Module], optimizer: Optimizer) -> None:
        nodes: list[Any] = [node for module in modules for node in (*module.parameters(), *module.buffers())]
        nodes += [node for group in optimizer.param_groups for node in group["params"]]
        nodes += [state for states in optimizer._state.values() for state in states.values()]
        self._optimizer = optimizer
        self._data = [(node, _copy(node._ref)) for node in {id(node): node for node in nodes}.values()]
        self._c_generator = _copy(_random.c_generator())
        self._generator = _random._generator
        self._drawn: Any = self._generator.bit_generator.state if self._generator is not None else None
        self._state = {node: dict(states) for node, states in optimizer._state.items()}
        self._groups = _hyperparameters(optimizer)

    def restore(self) -> None:
        """Brings it all back, in place."""
        for node, copy in self._data:
            _core.assign(node._ref, copy._ref)
        _core.assign(_random.c_generator(), self._c_generator._ref)
        if self._generator is not None:
            self._generator.bit_generator.state = self._drawn
        if any(states.keys() != self._state.get(node, {}).keys() for node, states in self._optimizer._state.items()):
            self._optimizer._take({node: dict(states) for node, states in self._state.items()})
        _set_hyperparameters(self._optimizer, self._groups)


class _Rows(NamedTuple):
    """Steps over the batches first to end - 1 of an epoch."""

    batches: Batches
    order: Array | None
    first: int
    end: int


class _Change(NamedTuple):
    """Hyperparameters from there on."""

    groups: list[dict[str, Any]]


class Guard:
    """Keeps what is needed to find the op that made a nan."""

    def __init__(self, step: Callable[..., Any], modules: Sequence[Module], optimizer: Optimizer) -> None:
        self._step = step
        self._modules = modules
        self._optimizer = optimizer
        self._snapshot: _Snapshot | None = None
        self._log: list[Batch | _Rows | _Change] = []  # what has been done since
        self._due = 0.0
        self._bytes = 0
        self._changes = -1
        self._latest: Batch | None = None

    def begin(self) -> None:
        """To be called before steps: takes a snapshot where one is due."""
        now = time.perf_counter()
        if now >= self._due or len(self._log) >= _MOST_STEPS or self._bytes > _MOST_BYTES:
            self._snapshot = _Snapshot(self._modules, self._optimizer)
            self._log.clear()
            self._bytes = 0
            self._due = now + max(_SECONDS, _TIMES * (time.perf_counter() - now))
        elif self._changes != _recording.changes:
            self._log.append(_Change(_hyperparameters(self._optimizer)))
        self._changes = _recording.changes

    def batch(self, batch: Batch) -> None:
        """A step over this batch follows; instead of `begin`."""
        self.begin()
        self._log.append(batch)
        if batch is not self._latest:
            self._latest = batch
            self._bytes += sum(x.numel() * x.dtype.numpy.itemsize for x in batch if isinstance(x, Tensor))

    def rows(self, batches: Batches, order: Array | None, first: int, end: int) -> None:
        """These steps have been made since `begin`."""
        self._log.append(_Rows(batches, order, first, end))

    def _batches(self) -> Iterator[Batch]:
        """The batches of all steps since the snapshot, each with the hyperparameters of its time."""
        for entry in self._log:
            if isinstance(entry, _Rows):
                yield from (entry.batches.batch(entry.order, i) for i in range(entry.first, entry.end))
            elif isinstance(entry, _Change):
                _set_hyperparameters(self._optimizer, entry.groups)
            else:
                yield entry

    def _steps(self) -> int:
        rows = [entry for entry in self._log if isinstance(entry, _Rows)]
        changes = sum(isinstance(entry, _Change) for entry in self._log)
        return sum(each.end - each.first for each in rows) + len(self._log) - len(rows) - changes

    def explain(self, run: Callable[..., Any], losses: Sequence[float], after: int) -> tuple[str, Exception | None]:
        """Goes back to before the step that made nan; says what made it, with the exception that told.

        run: a step as it has been made. losses: of all steps before the one whose loss is nan. after: how many steps
        have been made after that one.
        """
        good = self._steps() - 1 - after
        try:
            again, batch = self._redo(run, good)
            held = self._held(batch)
            if not held:
                cause, step = self._watch(batch), ""
            elif good and not any(map(_holds_nan, batch)):
                cause, step = self._watch(self._redo(run, good - 1)[1]), "in the step before "
            else:
                cause = None
        except Exception as error:
            return "and the steps before it failed when made again, so that the op is not known", error
        if cause is not None:
            return f"first made {step}by {cause}", cause
        if held:
            return f"no op made it: {held} held nan before the step", None
        if again != list(losses[len(losses) - good :]):
            return "the steps before it did not give the same losses again, so that the op is not known", None
        return "made again, the step did not give nan, so that the op is not known", None

    def _redo(self, run: Callable[..., Any], n: int) -> tuple[list[float], Batch]:
        """Makes the first n steps since the snapshot once more; their losses, and the batch of the next one."""
        assert self._snapshot is not None
        self._snapshot.restore()
        batches = self._batches()
        return [_loss(run(*batch)) for batch in islice(batches, n)], next(batches)

    def _watch(self, batch: Batch) -> AnomalyError | None:
        """What detect_anomaly() finds in a step, which changes nothing."""
        before = _Snapshot(self._modules, self._optimizer)
        try:
            with detect_anomaly():
                self._step(*batch)
        except AnomalyError as error:
            return error
        finally:
            before.restore()
        return None

    def _held(self, batch: Batch) -> str:
        """What holds nan before a step; empty for nothing."""
        held = [f"part {i} of the batch" for i, x in enumerate(batch) if _holds_nan(x)]
        for module in self._modules:
            held += [f"parameter {name}" for name, x in module.named_parameters() if _holds_nan(x)]
            held += [f"buffer {name}" for name, x in module.named_buffers() if _holds_nan(x)]
        return ", ".join(held[:8])


def _loss(result: Any) -> float:
    return float(result[0] if isinstance(result, tuple) else result)


def _holds_nan(x: Any) -> bool:
    if isinstance(x, Value):
        return math.isnan(x.data)
    return isinstance(x, Tensor) and bool(np.isnan(x._array()).any())


def _copy(ref: int) -> Tensor:
    return Tensor._wrap(_core.copy(ref))


def _hyperparameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """A copy of every group."""
    return [dict(group) for group in optimizer.param_groups]


def _set_hyperparameters(optimizer: Optimizer, groups: Sequence[dict[str, Any]]) -> None:
    """Changes what differs."""
    for group, wanted in zip(optimizer.param_groups, groups, strict=True):
        for name, value in wanted.items():
            if group.get(name) is not value:
                group[name] = value
