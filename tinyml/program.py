"""compile: run a function once while the engine records its steps, and replay them without Python from then on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import is_
from types import MethodType
from typing import Any, NamedTuple, overload

import numpy as np

from tinyml import _core, _recording
from tinyml._core import fail, program_call1
from tinyml._dtypes import DTYPES, Array, float64, int64
from tinyml._interrupt import CtrlC
from tinyml._listing import listing, title
from tinyml._names import Names
from tinyml._node import Node, _array_ref, is_grad_enabled
from tinyml._progress import Progress
from tinyml._recording import Recorder
from tinyml._tree import LEAF, Form, build, builder, flatten
from tinyml.data._batches import Batches
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinyml.tensor import Tensor
from tinyml.value import Value

#: The passes that rewrite a recording, in their order (csrc/passes.h).
PASSES = ("dead", "common", "descend", "tape", "blocks", "share")
_MISS, _NODE = object(), object()
_NO_NUMBERS = _core.NULL
_new = object.__new__
_LARGE = 2**53  # integers from there on are not all doubles, as which numbers go to C
_SECONDS = 0.05  # in C between looks at Ctrl-C and the progress bar


class StepTime(NamedTuple):
    """A step as `profile` lists it; seconds: the fastest of several replays."""

    step: str
    shape: tuple[int, ...]
    seconds: float


class Program:
    """One recording: steps for arguments of one kind. Printing it shows them."""

    def __init__(
        self, ref: int, results: Sequence[Node], recorder: Recorder, names: Names, pinned: Sequence[tuple[int, Any]]
    ) -> None:
        self._ref = ref
        self._kinds = [node._kind for node in results]
        self.shapes = [_core.shape(node._ref) for node in results]
        self.dtypes = [DTYPES[_core.dtype_of(node._ref)] for node in results]
        modules = list({id(module): module for module in (*recorder.modules.values(), *names.modules)}.values())
        self._modules = [(module, list(_attributes(module))) for module in modules]
        self._lists = [(each, list(each)) for module in modules for each in _node_lists(module)]
        self._updates = recorder.updates
        self._groups = [(optimizer, list(optimizer.param_groups)) for optimizer, *_ in recorder.updates]
        self._names = names
        self._pinned = pinned
        self._seen = -1

    def __del__(self, _free: Callable[[int], None] = _core.program_free) -> None:
        _free(self._ref)

    @property
    def bytes(self) -> int:
        """The memory of all arrays that the steps make."""
        return _core.program_bytes(self._ref)

    def __len__(self) -> int:
        return len(_core.program_view(self._ref))

    def __repr__(self) -> str:
        return f"Program: {listing(_core.program_view(self._ref), self.bytes)}"

    def _current(self, leaves: Sequence[Any]) -> bool:
        """Whether the function would still take these steps, as far as can be seen. Takes over hyperparameters."""
        for place, number in self._pinned:
            if leaves[place] != number:
                return False
        for now, then in self._lists:
            if len(now) != len(then) or not all(map(is_, now, then)):
                return False
        if not self._names.unchanged():
            return False
        return self._seen == _recording.changes or self._still_stands()

    def _still_stands(self) -> bool:
        seen = _recording.changes
        for module, then in self._modules:
            now = list(_attributes(module))
            if len(now) != len(then) or not all(map(_same, now, then)):
                return False
        for optimizer, groups in self._groups:
            if len(groups) != len(optimizer.param_groups) or not all(map(is_, groups, optimizer.param_groups)):
                return False
        for i, (optimizer, group, rule, params, states) in enumerate(self._updates):
            if group["params"] is not params:
                return False
            if not all(map(is_, states, optimizer._states(params, rule))):
                return False
            optimizer._check(group)
            rule_now, hyper = optimizer._update(group)
            if rule_now is not rule:
                return False
            _core.program_set_hyper(self._ref, i, [float(number) for number in hyper])
        self._seen = seen
        return True

    def _replay(self, refs: Sequence[int], numbers: Any) -> list[Any] | None:
        """The results of one replay; None when the arguments do not fit."""
        kinds = self._kinds
        out = _core.new_refs(len(kinds))
        status = _core.program_call(self._ref, refs, numbers, out)
        if status:
            return None if status > 0 else _core.fail()
        results = []
        for kind, ref in zip(kinds, out, strict=False):
            result = _new(kind)
            result._ref = ref
            results.append(result)
        return results


def _attributes(module: Any) -> Iterator[Any]:
    """What the steps of a module depend on: names and values of all attributes, those of modules within it too."""
    for each in module.modules():
        yield each
        yield each.training  # an attribute of the class until it changes
        for name, value in vars(each).items():
            if name == "training":
                continue
            yield name
            if isinstance(value, list | tuple):
                yield from value
            else:
                yield value


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, str | int | float) and a == b)


def _node_lists(module: Any) -> Iterator[list[Any]]:
    """The lists of parameters within a module: nobody counts their changes."""
    for each in module.modules():
        for value in vars(each).values():
            if isinstance(value, list) and any(
                isinstance(element, Node) or _recording.is_module(element) for element in value
            ):
                yield value


class _Call:
    """The arguments of a call, taken apart. `key` is what a recording depends on, but for numbers that it looked at."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.leaves, self.form = flatten((args, kwargs))
        self.inputs: list[int] = []  # places of leaves that become inputs
        self.statics: list[Any] = []  # the other leaves
        key: list[Any] = [is_grad_enabled()]
        for place, leaf in enumerate(self.leaves):
            if isinstance(leaf, np.generic):
                leaf = self.leaves[place] = leaf.item()
            if type(leaf) is int and abs(leaf) >= _LARGE:
                leaf = np.array(leaf, np.int64)
            if isinstance(leaf, np.ndarray):
                leaf = self.leaves[place] = Tensor._wrap(_array_ref(leaf))
            kind: Any
            if isinstance(leaf, Node):
                ref = leaf._ref
                kind = (leaf._kind, _core.dtype_of(ref), _core.shape(ref), _core.requires_grad(ref))
            elif type(leaf) in (float, int):
                kind = type(leaf)
            else:
                self.statics.append(leaf)
                key.append(_Static(leaf))
                continue
            self.inputs.append(place)
            key.append(kind)
        self.key = (self.form, key)

    def refs(self) -> list[int]:
        """The inputs' nodes, 0 for numbers."""
        return [leaf._ref if isinstance(leaf, Node) else 0 for leaf in map(self.leaves.__getitem__, self.inputs)]

    def numbers(self) -> list[float]:
        """The inputs' numbers, 0 for nodes."""
        leaves = map(self.leaves.__getitem__, self.inputs)
        return [0.0 if isinstance(leaf, Node) else float(leaf) for leaf in leaves]


class _Static:
    """An argument that is no input: a recording is for this very object, or one that equals it."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static):
            return NotImplemented
        a, b = self.leaf, other.leaf
        return a is b or (type(a) is type(b) and isinstance(a, str | bytes | bool) and a == b)

    __hash__ = None  # type: ignore[assignment]


class _Recording:
    """A program with what a call needs to find and use it."""

    def __init__(self, call: _Call, program: Program, form: Form, statics: Sequence[Any]) -> None:
        build_results = _results_builder(form, statics)
        self.key = call.key
        self.program = program
        self.build = build_results
        self._single = program._kinds[0] if form is LEAF and len(program._kinds) == 1 else None
        flat = call.form == (tuple, None, ((tuple, None, (LEAF,) * len(call.leaves)), (dict, (), ())))
        every = len(call.inputs) == len(call.leaves)
        #: The types of the arguments, where each is an input: then a call need not take them apart.
        self._types = tuple(map(type, call.leaves)) if flat and every else None
        self._nodes_only = all(isinstance(leaf, Node) for leaf in call.leaves)

    def replay(self, args: tuple[Any, ...]) -> Any:
        """What the function returns for plain arguments; _MISS when they are of another kind, or a recording is due."""
        program = self.program
        if self._types != tuple(map(type, args)):
            return _MISS
        if not program._current(args):
            return _MISS
        if self._nodes_only:
            refs = [arg._ref for arg in args]
            numbers = _NO_NUMBERS
        else:
            refs = [arg._ref if isinstance(arg, Node) else 0 for arg in args]
            numbers = [0.0 if isinstance(arg, Node) else arg for arg in args]
        kind = self._single
        if kind is None:
            results = program._replay(refs, numbers)
            return _MISS if results is None else self.build(results)
        ref = program_call1(program._ref, refs, numbers)
        if ref <= 1:
            return _MISS if ref else fail()
        result = _new(kind)
        result._ref = ref
        return result


class Compiled:
    """A function that is recorded when it is called, and replayed when it is called again. Made by `compile`.

    interrupted: whether Ctrl-C ended the last `repeat` or `over` early.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        strict: bool = False,
        passes: Iterable[str] = PASSES,
        max_programs: int = 16,
        report: Callable[[str, int, str], object] = _recording.warn,
    ) -> None:
        passes = set(passes)
        if not passes <= set(PASSES):
            raise ArgumentError(f"compile: got passes {sorted(passes)}, expected some of {', '.join(PASSES)}")
        if max_programs < 1:
            raise ArgumentError(f"compile: got max_programs {max_programs}, expected 1 or more")
        functools.update_wrapper(self, function)
        self.interrupted = False
        self._function = function
        self._strict = strict
        self._passes = sum(1 << PASSES.index(name) for name in passes)
        self._max_programs = max_programs
        self._report = report
        self._reported: set[tuple[str, int, str]] = set()
        self._recordings: list[_Recording] = []  # the latest used last
        self._latest: _Recording | None = None

    @property
    def programs(self) -> list[Program]:
        """The recordings, the one used last at the end. Each is for other shapes, dtypes, modes or static arguments."""
        return [recording.program for recording in self._recordings]

    @property
    def program(self) -> Program | None:
        """The recording used last; None before the first call."""
        return self._latest.program if self._latest else None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's results, by a replay where there is a recording for such arguments."""
        recording = self._latest
        if recording is not None and not kwargs and _recording.active is None:
            result = recording.replay(args)
            if result is not _MISS:
                return result
        if _recording.active is not None and _recording.active.here:
            return self._function(*args, **kwargs)  # part of the recording under way
        if _core.anomaly_mode():
            return self._watched(_Call(args, kwargs))
        recording, results = self._call(_Call(args, kwargs))
        return recording.build(results)

    def _call(self, call: _Call) -> tuple[_Recording, list[Any]]:
        """Replays the recording for a call, or makes it."""
        if _recording.active is not None and _recording.active.here:
            raise GraphError(
                "compile: repeat, over and profile cannot be part of a recording; call the function in a loop"
            )
        if _core.anomaly_mode():
            raise GraphError(
                "compile: repeat, over and profile run no Python that detect_anomaly() could name; within it, call the "
                "function in a loop"
            )
        for recording in reversed(self._recordings):
            if recording.key == call.key and recording.program._current(call.leaves):
                results = recording.program._replay(call.refs(), call.numbers())
                if results is not None:
                    self._use(recording)
                    return recording, results
                self._recordings = self._without(recording)  # a parameter is gone
                break
        return self._record(call)

    def _watched(self, call: _Call) -> Any:
        """What a recording would return, without one: within detect_anomaly(), which looks at single ops."""
        leaves = list(call.leaves)
        for place in call.inputs:
            leaves[place] = _argument(leaves[place])
        args, kwargs = build(call.form, iter(leaves))
        results, form = flatten(self._function(*args, **kwargs))
        copies = [leaf._kind._wrap(_core.copy(leaf._ref)) if isinstance(leaf, Node) else leaf for leaf in results]
        return build(form, iter(copies))

    def _without(self, recording: _Recording) -> list[_Recording]:
        return [each for each in self._recordings if each is not recording]

    def _use(self, recording: _Recording) -> None:
        recordings = [*self._without(recording), recording]  # a new list: another thread may be looking at the old one
        self._recordings = recordings[-self._max_programs :]
        self._latest = recording
        if len(recordings) > self._max_programs:
            self._note(
                *self._place(),
                f"compile: more than {self._max_programs} programs, so the one unused for longest is dropped; pad "
                "arguments to a few shapes, keep lists that grow out of the function's reach (self.losses, say), or "
                "raise max_programs",
            )

    def _place(self) -> tuple[str, int]:
        """Where the function begins."""
        code = getattr(self._function, "__code__", None)
        return (code.co_filename, code.co_firstlineno) if code else ("<unknown>", 0)

    def _note(self, file: str, line: int, message: str) -> None:
        """Reports once for each place and matter."""
        matter = file, line, message.split(";")[-1]
        if matter not in self._reported:
            self._reported.add(matter)
            self._report(file, line, message)

    def _record(self, call: _Call) -> tuple[_Recording, list[Any]]:
        """Runs the function on inputs that stand for the arguments, while C records."""
        arguments = [_argument(call.leaves[place]) for place in call.inputs]
        numbers = {i for i, place in enumerate(call.inputs) if not isinstance(call.leaves[place], Node)}
        with Recorder(self._strict, numbers, self._note) as recorder:
            ref = _core.record_start()
            try:
                inputs = [each._kind._wrap(_core.record_input(each._ref)) for each in arguments]
                leaves = list(call.leaves)
                for i, place in enumerate(call.inputs):
                    leaves[place] = inputs[i]
                args, kwargs = build(call.form, iter(leaves))
                del leaves
                tree = self._function(*args, **kwargs)
                del args, kwargs
                results, form = flatten(tree)
                del tree
                nodes = [leaf for leaf in results if isinstance(leaf, Node)]
                _core.record_stop([node._ref for node in nodes])
                copies = [node._kind._wrap(_core.copy(node._ref)) for node in nodes]
            except BaseException:
                _core.program_free(ref)
                raise
            pinned = [(place, call.leaves[place]) for place in map(call.inputs.__getitem__, sorted(recorder.pinned))]
            program = Program(
                ref, copies, recorder, Names(self._function, call.statics, self), pinned
            )  # which frees ref
        statics = [_NODE if isinstance(leaf, Node) else leaf for leaf in results]
        del results, nodes, inputs
        self._look_for_escaped(ref)
        _core.program_rewrite(ref, self._passes)
        recording = _Recording(call, program, form, statics)
        self._use(recording)
        return recording, copies

    def _look_for_escaped(self, ref: int) -> None:
        escaped = _core.program_escaped(ref)
        if escaped:
            message = (
                f"compile: {escaped} result{'s' * (escaped != 1)} of the recording outlive{'s' * (escaped == 1)} the "
                "call without being returned, and replays will not make new ones; return what is wanted outside"
            )
            if self._strict:
                raise GraphError(message)
            self._note(*self._place(), message)

    # -- many steps in one call

    def repeat(self, n: int, *args: Any, progress: bool = True) -> Any:
        """n steps with the same arguments in one call of C: what a loop of n calls would do, bit for bit.

        Returns the results of all steps in the function's own structure, stacked: tensors of shape (n, ...). Ctrl-C
        ends it after a step; then there are fewer, and `interrupted` is set. progress: a bar on stderr when it takes
        longer than a second. Raises what a call raises, and ArgumentError unless n >= 1.

        >>> import tinyml
        >>> x = tinyml.Value(8.0)
        >>> optimizer = tinyml.optim.SGD([x], lr=0.25)
        >>> @tinyml.compile
        ... def step():
        ...     loss = x * x
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> step.repeat(3)
        tensor([64., 16.,  4.], dtype=tinyml.float64)
        """
        if n < 1:
            raise ArgumentError(f"repeat: got n = {n}, expected 1 or more")
        call, rows = _Call(args, {}), Rows(n)
        with CtrlC() as ctrl_c, Progress(n, "steps", progress) as bar:
            rows.put(*self._call(call))
            for done in self._replays(call, rows, n - 1):
                bar.reach(done)
                if ctrl_c.pressed:
                    break
        self.interrupted = ctrl_c.pressed
        return rows.stacked()

    def over(
        self,
        *arrays: Any,
        batch_size: int = 1,
        epochs: int = 1,
        shuffle: bool = False,
        seed: int | None = None,
        drop_last: bool = False,
        progress: bool = True,
    ) -> Any:
        """Epochs of steps over the rows of arrays, each batch gathered in C: a DataLoader and the loop over it in one.

        arrays: one for each argument of the function, Tensors or NumPy arrays of one length. The other options are
        DataLoader's; the same seed gives the same batches. Returns the results of all steps, stacked as by `repeat`,
        which also says what Ctrl-C does. The last batch of an epoch may be smaller; it has a program of its own.
        Raises what a call raises, ArgumentError for sizes below 1, ShapeError for arrays of different lengths, or where
        a smaller batch gives results of another shape.

        >>> import tinyml
        >>> step = tinyml.compile(lambda x, y: (x * y).sum())
        >>> step.over(tinyml.arange(6.0), tinyml.ones(6), batch_size=2)
        tensor([1., 5., 9.])
        """
        generator = None if seed is None else np.random.default_rng(seed)
        batches = Batches(
            [_rows_of(i, array) for i, array in enumerate(arrays)], batch_size, shuffle, drop_last, generator
        )
        if epochs < 1:
            raise ArgumentError(f"over: got {epochs} epochs, expected 1 or more")
        rows = Rows(epochs * len(batches))
        with CtrlC() as ctrl_c, Progress(rows.room, "steps", progress) as bar:
            for _ in range(epochs):
                for done in self.epoch(batches, batches.order(), rows):
                    bar.reach(done)
                    if ctrl_c.pressed:
                        break
                if ctrl_c.pressed:
                    break
        self.interrupted = ctrl_c.pressed
        return rows.stacked()

    def epoch(self, batches: Batches, order: Array | None, rows: Rows) -> Iterator[int]:
        """For training loops: the steps of an epoch in that order, a few at a time; yields how many rows are done."""
        left = batches.full
        if left:
            call = _Call(batches.batch(order, 0), {})
            if rows.recording is None:
                rows.put(*self._call(call))
                yield rows.done
                left -= 1
            yield from self._replays(call, rows, left, batches, order)
        if batches.rest:
            rows.put(*self._call(_Call(batches.batch(order, batches.full), {})))
            yield rows.done

    def _replays(
        self, call: _Call, rows: Rows, n: int, batches: Batches | None = None, order: Array | None = None
    ) -> Iterator[int]:
        """n replays of the recording of `rows` with these arguments, or the last n full batches of an epoch."""
        if n <= 0 or rows.recording is None:
            return
        program = rows.recording.program
        if not program._current(call.leaves) or not _core.program_enter(program._ref, call.refs(), call.numbers()):
            raise GraphError("compile: something that the steps depend on, as a parameter, was replaced meanwhile")
        sources = batches.arrays if batches else None
        skipped = batches.full - n if batches else 0  # full batches of the epoch that are done already
        before, end = rows.done, rows.done + n
        try:
            while rows.done < end:
                at = rows.done - before + skipped
                outputs = [output[rows.done :] for output in rows.outputs]
                rows.done += _core.program_over(program._ref, at, end - rows.done, _SECONDS, outputs, sources, order)
                yield rows.done
        finally:
            _core.program_leave(program._ref)

    def profile(self, *args: Any, replays: int = 10) -> list[StepTime]:
        """The time of each step of the program for these arguments: the fastest of so many replays, in order.

        The replays do what they always do: parameters are updated. Raises what a call raises.

        >>> import tinyml
        >>> step = tinyml.compile(lambda x: (x @ x).tanh())
        >>> [time.step for time in step.profile(tinyml.ones(2, 2))]
        ['forward matmul', 'forward tanh']
        """
        call = _Call(args, {})
        recording, _ = self._call(call)
        program = recording.program
        if not _core.program_enter(program._ref, call.refs(), call.numbers()):
            raise GraphError("profile: the arguments fit no program")
        try:
            seconds = _core.program_profile(program._ref, replays)
        finally:
            _core.program_leave(program._ref)
        views = _core.program_view(program._ref)
        shapes = [_core.shape(view.ref) if view.ref else () for view in views]
        return [StepTime(title(v), shape, s) for v, shape, s in zip(views, shapes, seconds, strict=True)]


class Rows:
    """The results of many steps, a row each."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.done = 0
        self.outputs: list[Array] = []
        self.recording: _Recording | None = None

    def put(self, recording: _Recording, results: Sequence[Any]) -> None:
        """The results of a single step."""
        program = recording.program
        if self.recording is None:
            self.recording = recording
            self.outputs = [
                np.empty((self.room, *shape), dtype.numpy)
                for shape, dtype in zip(program.shapes, program.dtypes, strict=True)
            ]
        if [output.shape[1:] for output in self.outputs] != program.shapes:
            raise ShapeError(
                f"over: the last batch, which is smaller, gives results of shape {program.shapes}, the others "
                f"{[output.shape[1:] for output in self.outputs]}; reduce them, or pass drop_last=True"
            )
        for output, result in zip(self.outputs, results, strict=True):
            output[self.done] = result.numpy() if isinstance(result, Tensor) else result.data
        self.done += 1

    def stacked(self) -> Any:
        """The rows so far in the structure of the function's results."""
        if self.recording is None:
            return None
        return self.recording.build([Tensor._wrap(_array_ref(output[: self.done])) for output in self.outputs])


def _rows_of(place: int, data: Any) -> Array:
    array = data.detach().numpy() if isinstance(data, Tensor) else np.asarray(data)
    if not array.ndim:
        raise ShapeError(f"over: array {place} has no dimensions, expected rows")
    return array


def _argument(leaf: Any) -> Node:
    """A node for an argument that becomes an input. A number is a constant: no gradient flows to it."""
    if isinstance(leaf, Node):
        if _core.requires_grad(leaf._ref) and not leaf.is_leaf:
            raise GraphError(
                "compile: an argument is a result with a graph behind it, into which replays could not send gradients; "
                "pass x.detach(), or compute it within the compiled function"
            )
        return leaf
    if isinstance(leaf, int):
        return Tensor._wrap(_core.leaf(int64.code, (), np.array(leaf, np.int64), False))
    return Value._wrap(_core.leaf(float64.code, (), np.array(leaf, np.float64), False))


def _results_builder(form: Form, statics: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
    """Puts the nodes of a replay into the structure that the function returned: `statics`, with _NODE for nodes."""
    if all(static is _NODE for static in statics):
        return builder(form)

    def put(nodes: Sequence[Any]) -> Any:
        rest = iter(nodes)
        return build(form, iter([next(rest) if static is _NODE else static for static in statics]))

    return put


@overload
def compile(
    function: Callable[..., Any], *, strict: bool = ..., passes: Iterable[str] = ..., max_programs: int = ...
) -> Compiled: ...


@overload
def compile(
    function: None = None, *, strict: bool = ..., passes: Iterable[str] = ..., max_programs: int = ...
) -> Callable[[Callable[..., Any]], Compiled]: ...


def compile(
    function: Callable[..., Any] | None = None,
    *,
    strict: bool = False,
    passes: Iterable[str] = PASSES,
    max_programs: int = 16,
) -> Any:
    """A function that runs once and is replayed from then on: its first call records every step the engine takes, and
    later calls with such arguments repeat the steps in one call of C.

    Recorded are ops, backward(), zero_grad, clipping, optimizer steps and dropout; replays give bit for bit what the
    function would. Arguments may be Tensors, Values, NumPy arrays and numbers, nested in tuples, lists and dicts;
    others, such as strings, bools and modules, are part of the program, as is what the function names: its closure,
    globals and their attributes, short lists and dicts with their elements. Where any of it is another object, or
    arguments have other shapes, dtypes or structures, or modules another mode, another program is recorded, up to
    max_programs; hyperparameters may change freely. Results are fresh tensors without a graph: call backward() within.

    A float arrives as a Value without a gradient, an int as a 0-d int64 tensor, and they promote as such: beside int64
    or 0-d float32 tensors a float gives float64, where the plain function would give float32. A NumPy array that is
    not an argument is a constant, even if it is changed in place.

    Python does not run in a replay. What it would read from a recorded node while recording (float(), .item(), .data,
    printing, an `if`) is frozen: that warns with FrozenWarning once for each place, or with strict=True raises
    GraphError. passes: which of PASSES rewrite the program; for benchmarks and tests.

    Raises GraphError for an argument with a graph behind it, and what the function raises.

    >>> import tinyml
    >>> w = tinyml.Value(1.0)
    >>> optimizer = tinyml.optim.SGD([w], lr=0.25)
    >>> @tinyml.compile
    ... def step(x, y):
    ...     loss = (w * x - y) ** 2
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(1.0, 3.0).data for _ in range(4)]
    [4.0, 1.0, 0.25, 0.0625]
    """
    if function is None:
        return functools.partial(compile, strict=strict, passes=passes, max_programs=max_programs)
    if not callable(function):
        raise DTypeError(f"compile: got {type(function).__name__}, expected a function")
    return Compiled(function, strict, passes, max_programs)
