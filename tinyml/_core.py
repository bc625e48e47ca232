"""The border to C: the only module that touches ffi and lib. Nodes and ops are plain int addresses here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

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

# In the order of tm_error_kind in csrc/error.h.
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
    raise _EXCEPTIONS[lib.tm_last_error()](ffi.string(lib.tm_error_message()).decode())


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


def apply_rows(op: int, inputs: Sequence[int], rows: int, attributes: Sequence[float] = ()) -> list[int]:
    """Applies an op to each of `rows` equal runs of the inputs."""
    results = ffi.new("tm_ref[]", rows)
    check_status(lib.tm_apply_rows(op, inputs, rows, len(inputs) // rows, attributes, len(attributes), results))
    return list(results)


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
    gradient: int = lib.tm_grad(ref)
    return gradient


def set_grad(ref: int, gradient: int) -> None:
    """Copies a gradient into a node; 0 clears it."""
    check_status(lib.tm_set_grad(ref, gradient))


def refs(nodes: Sequence[int]) -> Any:
    """A C array of references, for calls over many nodes; the caller keeps the nodes alive."""
    return ffi.new("tm_ref[]", nodes)


def zero_grad(nodes: Any) -> None:
    """Clears the gradients of an array of references."""
    lib.tm_zero_grad(nodes, len(nodes))


def update_rule(name: str) -> int:
    """The address of an optimizer's update rule."""
    return check(lib.tm_find_update(name.encode()))


def update(rule: int, parameters: Any, state: Any, hyper: Sequence[float]) -> None:
    """One optimizer step over arrays of references."""
    check_status(lib.tm_update(rule, parameters, len(parameters), state, hyper))


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float) -> float:
    """Scales gradients to a joint norm; the norm before."""
    norm: float = lib.tm_clip_grad_norm(parameters, len(parameters), max_norm, norm_type)
    if norm < 0:
        fail()
    return norm


def clip_grad_value(parameters: Any, clip_value: float) -> None:
    """Clamps gradients elementwise."""
    check_status(lib.tm_clip_grad_value(parameters, len(parameters), clip_value))


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
