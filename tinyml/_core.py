"""The border to C: the only module that touches ffi and lib. Nodes and ops are plain int addresses here."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from tinyml._engine import ffi, lib
from tinyml.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    GraphError,
    OutOfMemoryError,
    ShapeError,
    TinymlError,
)

if TYPE_CHECKING:
    from tinyml._dtypes import Array

# In the order of tm_error_kind in csrc/error.h, up to the exceptions that Python has put aside.
_EXCEPTIONS: tuple[type[TinymlError], ...] = (
    ArgumentError,
    ShapeError,
    DTypeError,
    AxisError,
    OutOfMemoryError,
    GraphError,
)


def fail() -> NoReturn:
    """Raises the failure that C has just reported on this thread."""
    kind = lib.tm_last_error()
    error: BaseException | None = _aside.error if kind == len(_EXCEPTIONS) else None
    if error is None:
        raise _EXCEPTIONS[min(kind, len(_EXCEPTIONS) - 1)](ffi.string(lib.tm_error_message()).decode())
    _aside.error = None
    try:
        raise error
    finally:
        del error  # or the exception would hold itself, through its traceback


class _Aside(threading.local):
    """The exception of a call from C to Python, while C makes its way back."""

    error: BaseException | None = None


_aside = _Aside()


class Event(IntEnum):
    """What C calls Python for, as in csrc/callback.h, where the meaning of `number` stands."""

    FORWARD = 0
    BACKWARD = 1
    LET_GO = 2
    MADE = 3
    ANOMALY = 4
    ANOMALY_BACKWARD = 5


#: handler(number, node), by event; the modules that they belong to put them here.
handlers: dict[int, Callable[[int, int], object]] = {}


def _put_aside(_: Any, error: BaseException, traceback: Any) -> int:
    _aside.error = error.with_traceback(traceback)
    return -1


@ffi.def_extern(error=-1, onerror=_put_aside)  # type: ignore[untyped-decorator]
def tm_python(event: int, number: int, node: int) -> int:
    """Calls the handler of an event; its exception is put aside for `fail`."""
    handlers[event](number, node)
    return 0


lib.tm_set_callback(lib.tm_python)
atexit.register(lib.tm_set_callback, ffi.NULL)  # from then on nothing shall run any more


def check(ref: int) -> int:
    """The reference, or the exception when it is the null of a failed call."""
    if not ref:
        fail()
    return ref


def check_status(status: int) -> None:
    """Raises when a call that answers 0 or -1 failed."""
    if status:
        fail()


check_status(lib.tm_select_isa(os.environ.get("TINYML_ISA", "").encode()))

# Bound once, for the operators: looking these up costs as much as calling them.
Ref: TypeAlias = int
apply1: Callable[[int, Ref], Ref] = lib.tm_apply1
apply2: Callable[[int, Ref, Ref], Ref] = lib.tm_apply2
apply3: Callable[[int, Ref, Ref, Ref], Ref] = lib.tm_apply3
apply1_with: Callable[[int, Ref, int, float, float, float], Ref] = lib.tm_apply1_with
apply_number: Callable[[int, Ref, float, int, bool], Ref] = lib.tm_apply_number
release: Callable[[Ref], None] = lib.tm_release
value: Callable[[float], Ref] = lib.tm_value
item: Callable[[Ref], float] = lib.tm_item
item_int: Callable[[Ref], int] = lib.tm_item_int
grad_item: Callable[[Ref], float] = lib.tm_grad_item
set_item: Callable[[Ref, float], int] = lib.tm_set_item
set_grad_item: Callable[[Ref, float], int] = lib.tm_set_grad_item
dtype_of: Callable[[Ref], int] = lib.tm_dtype_of
rank: Callable[[Ref], int] = lib.tm_rank
size: Callable[[Ref], int] = lib.tm_size
extent: Callable[[Ref, int], int] = lib.tm_extent
address: Callable[[Ref], int] = lib.tm_address
requires_grad: Callable[[Ref], int] = lib.tm_requires_grad
is_leaf: Callable[[Ref], int] = lib.tm_is_leaf
retains_grad: Callable[[Ref], int] = lib.tm_retains_grad
set_grad_enabled: Callable[[bool], int] = lib.tm_set_grad_enabled
grad_enabled: Callable[[], int] = lib.tm_grad_enabled
num_threads: Callable[[], int] = lib.tm_num_threads


def live_nodes() -> int:
    """How many nodes are alive in this process: those with Python objects, and those that they were made from."""
    live: int = lib.tm_live_nodes()
    return live


def empty_cache() -> None:
    """Gives memory that the calling thread keeps for reuse back to the system."""
    lib.tm_empty_cache()


def op(name: str) -> int:
    """The address of the op of that name in the chosen table."""
    return check(lib.tm_find_op(name.encode()))


def op_names() -> list[str]:
    """All ops of the C table."""
    names: list[str] = []
    while (name := lib.tm_op_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def apply(op: int, inputs: Sequence[int], attributes: Sequence[float] = ()) -> int:
    """Applies an op to any number of nodes."""
    ref: int = lib.tm_apply(op, inputs, len(inputs), attributes, len(attributes))
    return ref or fail()


def apply_layers(
    op: int,
    inputs: Sequence[int],
    own: Sequence[Any],
    n_own: Sequence[int],
    rows: Sequence[int],
    attributes: Sequence[float],
) -> tuple[list[int], int]:
    """Applies an op in layers, see csrc/tinyml.h; own: what refs() makes. The last results, their largest rank."""
    results = ffi.new("tm_ref[]", rows[-1])
    n = len(rows)
    rank: int = lib.tm_apply_layers(
        op, inputs, len(inputs), n, own, n_own, rows, attributes, len(attributes) // n, results
    )
    if rank < 0:
        fail()
    return list(results), rank


def leaf(dtype: int, shape: Sequence[int], data: Any, requires_grad: bool) -> int:
    """A leaf with a copy of a C-contiguous buffer's bytes; None gives zeros."""
    source = ffi.NULL if data is None else ffi.from_buffer(data)
    return check(lib.tm_leaf(dtype, len(shape), shape, source, requires_grad))


def detach(ref: int) -> int:
    """A leaf over the same data."""
    return check(lib.tm_detach(ref))


def backward(root: int, gradient: int = 0) -> None:
    """Sweeps the graph behind root."""
    if lib.tm_backward(root, gradient):
        fail()


def shape(ref: int) -> tuple[int, ...]:
    """The extents of a node."""
    rank = lib.tm_rank(ref)
    if not rank:
        return ()
    extents = ffi.new("int64_t[]", rank)
    lib.tm_copy_shape(ref, extents)
    return tuple(extents)


def op_of(ref: int) -> str:
    """The name of the op that made a node; empty for a leaf."""
    name: bytes = ffi.string(lib.tm_op_of(ref))
    return name.decode()


def inputs(ref: int) -> list[int]:
    """New references to the inputs of a node."""
    return [lib.tm_input(ref, i) for i in range(lib.tm_input_count(ref))]


def borrowed_inputs(ref: int) -> list[int]:
    """The inputs of a node, for looking at: no new references, so they hold as long as the node keeps its graph."""
    borrowed = inputs(ref)
    for each in borrowed:
        release(each)
    return borrowed


def set_requires_grad(ref: int, requires_grad: bool) -> None:
    """Switches a leaf's gradient on or off."""
    check_status(lib.tm_set_requires_grad(ref, requires_grad))


def retain_grad(ref: int) -> None:
    """Keeps a result's gradient after the sweep."""
    check_status(lib.tm_retain_grad(ref))


def assign(ref: int, source: int) -> None:
    """Copies data into a node of the same shape and dtype."""
    check_status(lib.tm_assign(ref, source))


def grad(ref: int) -> int:
    """A leaf over the node's gradient, or 0."""
    gradient = ffi.new("tm_ref *")
    check_status(lib.tm_grad(ref, gradient))
    return int(gradient[0])


def set_grad(ref: int, gradient: int) -> None:
    """Copies a gradient into a node; 0 clears it."""
    check_status(lib.tm_set_grad(ref, gradient))


def refs(nodes: Sequence[int]) -> Any:
    """A C array of references, for calls over many nodes; the caller keeps the nodes alive."""
    return ffi.new("tm_ref[]", nodes)


def zero_grad(nodes: Any) -> None:
    """Clears the gradients of an array of references."""
    check_status(lib.tm_zero_grad(nodes, len(nodes)))


def update_rule(name: str) -> int:
    """The address of an optimizer's update rule."""
    return check(lib.tm_find_update(name.encode()))


def update(rule: int, parameters: Any, state: Any, hyper: Sequence[float]) -> None:
    """One optimizer step over arrays of references."""
    check_status(lib.tm_update(rule, parameters, len(parameters), state, hyper))


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float) -> int:
    """Scales gradients to a joint norm; the norm before, as a 0-d node."""
    return check(lib.tm_clip_grad_norm(parameters, len(parameters), max_norm, norm_type))


def clip_grad_value(parameters: Any, clip_value: float) -> None:
    """Clamps gradients elementwise."""
    check_status(lib.tm_clip_grad_value(parameters, len(parameters), clip_value))


def allocations() -> int:
    """How many blocks and buffers the calling thread has taken from its pool so far."""
    count: int = lib.tm_allocations()
    return count


def copy(ref: int) -> int:
    """A leaf with a copy of a node's data."""
    return check(lib.tm_copy(ref))


# -- custom ops, and looking for nan

function_number: Callable[[Ref], int] = lib.tm_function_number
set_anomaly: Callable[[int], int] = lib.tm_set_anomaly
anomaly_mode: Callable[[], int] = lib.tm_anomaly_mode


def store(ref: int, array: Array) -> None:
    """Overwrites a node's data with a contiguous array of its shape and dtype."""
    ffi.memmove(ffi.cast("void *", lib.tm_address(ref)), ffi.from_buffer(array), array.nbytes)


def function_flow(node: int, i: int, gradient: Any) -> None:
    """In the backward of a custom op: a gradient for input i, a contiguous array of its shape and dtype."""
    check_status(lib.tm_function_flow(node, i, ffi.from_buffer(gradient)))


# -- recording and replay

record_switch_to: Callable[[Ref], Ref] = lib.tm_record_switch_to

is_recorded: Callable[[Ref], int] = lib.tm_is_recorded
program_call: Callable[[Ref, Any, Any, Any], int] = lib.tm_program_call
program_call1: Callable[[Ref, Any, Any], Ref] = lib.tm_program_call1
program_leave: Callable[[Ref], None] = lib.tm_program_leave
program_free: Callable[[Ref], None] = lib.tm_program_free
NULL: Any = ffi.NULL


def record_start() -> int:
    """A program that records what this thread does from here on."""
    return check(lib.tm_record_start())


def record_input(argument: int) -> int:
    """The input of the program being recorded that stands for an argument."""
    return check(lib.tm_record_input(argument))


def record_stop(results: Sequence[int]) -> None:
    """Ends the recording."""
    check_status(lib.tm_record_stop(results, len(results)))


def program_escaped(program: int) -> int:
    """How many results of the recording Python still holds."""
    escaped: int = lib.tm_program_escaped(program)
    if escaped < 0:
        fail()
    return escaped


def program_rewrite(program: int, passes: int) -> None:
    """Applies passes, by their bits."""
    check_status(lib.tm_program_rewrite(program, passes))


def program_set_hyper(program: int, update: int, hyper: Sequence[float]) -> None:
    """Hyperparameters for the i-th update of the program."""
    lib.tm_program_set_hyper(program, update, hyper)


def new_refs(n: int) -> Any:
    """Room for n references."""
    return ffi.new("tm_ref[]", n)


def program_enter(program: int, arguments: Sequence[int], numbers: Any) -> bool:
    """Binds arguments for many replays; False when they do not fit."""
    status: int = lib.tm_program_enter(program, arguments, numbers)
    if status < 0:
        fail()
    return status == 0


def program_over(
    program: int,
    first: int,
    n: int,
    seconds: float,
    outputs: Sequence[Array],
    sources: Sequence[Array | None] | None = None,
    order: Array | None = None,
) -> int:
    """Up to n replays in about so many seconds; how many have been done. See csrc/tinyml.h."""
    rows = [ffi.cast("void *", output.ctypes.data) for output in outputs]
    arrays: Any = ffi.NULL
    if sources is not None:
        arrays = [ffi.NULL if a is None else ffi.cast("void *", a.ctypes.data) for a in sources]
    indices: Any = ffi.NULL if order is None else ffi.cast("int64_t *", order.ctypes.data)
    done: int = lib.tm_program_over(program, first, n, seconds, rows, arrays, indices)
    if done < 0:
        fail()
    return done


class StepView(NamedTuple):
    """A step as it is printed. ref: the node it is about, or 0; nodes: how many, where it is about several."""

    kind: str
    rule: str
    ref: int
    nodes: int
    inside: list[StepView]


def program_view(program: int) -> list[StepView]:
    """The steps of a program; the references are the program's own."""

    def view(step: int, inside: int) -> StepView:
        count = lib.tm_program_inside(program, step) if inside < 0 else 0
        return StepView(
            ffi.string(lib.tm_step_kind_name(program, step, inside)).decode(),
            ffi.string(lib.tm_step_rule_name(program, step, inside)).decode(),
            lib.tm_step_node(program, step, inside),
            lib.tm_step_nodes(program, step, inside),
            [view(step, i) for i in range(count)],
        )

    return [view(step, -1) for step in range(lib.tm_program_steps(program))]


def program_bytes(program: int) -> int:
    """The bytes of the arrays that a program's nodes have."""
    size: int = lib.tm_program_bytes(program)
    if size < 0:
        fail()
    return size


def program_profile(program: int, replays: int) -> list[float]:
    """The seconds of each step, the fastest of so many replays."""
    seconds = ffi.new("double[]", max(1, lib.tm_program_steps(program)))
    check_status(lib.tm_program_profile(program, replays, seconds))
    return list(seconds)


def set_num_threads(n: int) -> None:
    """How many threads large kernels use."""
    check_status(lib.tm_set_threads(n))


def config() -> dict[str, str | int]:
    """What the engine was built with and uses."""
    return {
        "instruction set": ffi.string(lib.tm_isa()).decode(),
        "threads": lib.tm_num_threads(),
        "compiler": ffi.string(lib.tm_compiler()).decode(),
    }
