"""Tensor: an n-dimensional array with PyTorch's surface."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import numpy as np

from tinyml import _core, _index, _recording
from tinyml._core import apply1_with, fail
from tinyml._dtypes import (
    DTYPES,
    Array,
    DType,
    DTypeLike,
    as_dtype,
    as_supported,
    as_type,
    bool_,
    float32,
    float64,
    int64,
)
from tinyml._node import Arithmetic, Node, _array_ref, binary, method, unary
from tinyml.errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError

_RESHAPE, _PERMUTE, _EXPAND = _core.op("reshape"), _core.op("permute"), _core.op("expand")
_SLICE, _TAKE, _GATHER = _core.op("slice"), _core.op("take"), _core.op("gather")
_TO, _VAR = _core.op("to"), _core.op("var")
_SUM, _MEAN, _PROD = _core.op("sum"), _core.op("mean"), _core.op("prod")
_MAX, _MIN, _ARGMAX, _ARGMIN = (_core.op(name) for name in ("max", "min", "argmax", "argmin"))
_CUMSUM, _SOFTMAX = _core.op("cumsum"), _core.op("softmax")
_LOG_SOFTMAX, _LOGSUMEXP = _core.op("log_softmax"), _core.op("logsumexp")

Dims = int | Sequence[int] | None
_INTS = (int, np.integer)
_Bool: TypeAlias = bool  # within Tensor, bool and float are methods
_Float: TypeAlias = float


class ValuesAndIndices(NamedTuple):
    """What max(dim) and min(dim) return, as in PyTorch."""

    values: Tensor
    indices: Tensor


def _dims(dim: Dims) -> tuple[int, ...]:
    """The dimensions to reduce; none means all."""
    if dim is None:
        return ()
    return (dim,) if isinstance(dim, _INTS) else tuple(dim)


def _apply(op: int, inputs: Sequence[Node], attributes: Sequence[float] = ()) -> Tensor:
    """The result of an op with attributes."""
    return Tensor._wrap(_core.apply(op, [node._ref for node in inputs], attributes))


def _apply1(op: int, x: Node, *attributes: float) -> Tensor:
    """The result of an op with one input: a call without lists for the few attributes that most have."""
    n = len(attributes)
    if n == 1:
        ref = apply1_with(op, x._ref, 1, attributes[0], 0.0, 0.0)
    elif n == 2:
        ref = apply1_with(op, x._ref, 2, attributes[0], attributes[1], 0.0)
    elif n == 3:
        ref = apply1_with(op, x._ref, 3, *attributes)
    else:
        ref = _core.apply(op, (x._ref,), attributes)
    return Tensor._wrap(ref or fail())


def _extents(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape given as one sequence or as separate ints."""
    try:
        if len(shape) == 1 and not isinstance(shape[0], _INTS):
            shape = tuple(shape[0])
        return tuple(map(operator.index, shape))
    except TypeError:
        raise DTypeError(f"shape: got {shape}, expected ints, or one sequence of them") from None


class Tensor(Arithmetic):
    """An array of float32, float64, int64 or bool that remembers how it was made.

    https://docs.pytorch.org/docs/stable/tensors.html. Make one with tinyml.tensor. Differences to PyTorch: data is
    always contiguous, so reshape shares memory but transposes and slices are copies; `x += y` makes a new tensor; a
    graph lives as long as its tensors, so `retain_graph` is not needed; at most 16 dimensions.

    >>> import tinyml
    >>> x = tinyml.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([[2., 4.],
            [6., 8.]])
    """

    __slots__ = ("__weakref__",)  # which Value, made by the million, goes without
    __array_priority__ = 1000

    # -- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of every dimension."""
        return _core.shape(self._ref)

    @property
    def dtype(self) -> DType:
        """tinyml.float32, float64, int64 or bool."""
        return DTYPES[_core.dtype_of(self._ref)]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return _core.rank(self._ref)

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one dimension."""
        return self.shape if dim is None else self.shape[self._axis("size", dim)]

    def numel(self) -> int:
        """The number of elements."""
        return _core.size(self._ref)

    def __len__(self) -> int:
        if not self.ndim:
            raise DTypeError("len: a 0-d tensor has no length; use .item() for its number")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def _op(self) -> str:
        """The op that made this tensor; empty for a leaf."""
        return _core.op_of(self._ref)

    @property
    def _prev(self) -> tuple[Tensor, ...]:
        """The nodes this tensor was made from, seen as tensors."""
        return tuple(Tensor._wrap(ref) for ref in _core.inputs(self._ref))

    def __repr__(self) -> str:
        prefix = "tensor("
        text = np.array2string(self._array(), separator=", ", prefix=prefix, precision=4)
        notes = "" if self.dtype in (float32, int64, bool_) and self.numel() else f", dtype={self.dtype}"
        if not self.is_leaf:
            notes += f", op={self._op}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"{prefix}{text}{notes})"

    # -- numbers out

    def item(self) -> Any:
        """The number in a tensor of one element. Raises ArgumentError for any other."""
        if _core.size(self._ref) != 1:
            raise ArgumentError(f"item: got {self.numel()} elements, expected 1; use .tolist() or .numpy()")
        if _recording.active is not None:
            _recording.look(self._ref, "reading a tensor's number (.item(), float(), int(), bool())")
        code = _core.dtype_of(self._ref)
        if code == int64.code:
            return _core.item_int(self._ref)
        number = _core.item(self._ref)
        return bool(number) if code == bool_.code else number

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self._array().tolist()

    def _array(self) -> Array:
        """A NumPy view of the data, gradient or not."""
        if _recording.active is not None:
            _recording.look(self._ref, "reading a tensor's numbers (.numpy(), .tolist(), printing)")
        return np.asarray(_Memory(self))

    def numpy(self) -> Array:
        """A NumPy array over the same memory; it keeps the memory alive.

        Raises GraphError for a tensor that requires a gradient, as PyTorch does: detach() it first.
        """
        if self.requires_grad:
            raise GraphError(
                "numpy: this tensor requires a gradient, which NumPy would not follow; use .detach().numpy()"
            )
        return self._array()

    def __array__(self, dtype: Any = None, copy: _Bool | None = None) -> Array:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __float__(self) -> _Float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype not in (int64, bool_):
            raise DTypeError(f"index: got a {self.dtype} tensor, expected int64; convert with .long()")
        return int(self.item())

    def __bool__(self) -> _Bool:
        if self.numel() != 1:
            raise ArgumentError(
                f"bool: a tensor of {self.numel()} elements has no one truth; use .any(), .all() or compare sums"
            )
        return bool(self.item())

    # -- gradients

    @property
    def data(self) -> Tensor:
        """The tensor without its graph, over the same memory. Assigning copies into that memory and keeps the shape."""
        return self.detach()

    @data.setter
    def data(self, data: Any) -> None:
        source = _operand("data", data, self.dtype)  # bound to a name: its address alone would not keep it alive
        _core.assign(self._ref, source._ref)

    @property
    def grad(self) -> Tensor | None:
        """The gradient, over the memory that backward() adds to; None where there is none.

        Leaves have one after backward(), results after retain_grad(). Assignable: a tensor of the same shape, or None.
        """
        if not (_core.is_leaf(self._ref) or _core.retains_grad(self._ref)):
            return None
        ref = _core.grad(self._ref)
        if not ref and _recording.active is not None:
            _recording.look(self._ref, "finding no .grad")
        return Tensor._wrap(ref) if ref else None

    @grad.setter
    def grad(self, grad: Any) -> None:
        source = None if grad is None else _operand("grad", grad, self.dtype)
        _core.set_grad(self._ref, 0 if source is None else source._ref)

    def backward(self, gradient: Any = None, retain_graph: _Bool = False) -> None:
        """Adds the gradient of this tensor to `grad` of every leaf behind it.

        gradient: the factor for each element, of this tensor's shape; a tensor of one element needs none. retain_graph
        is accepted for PyTorch's sake: a graph stays until its tensors go. Raises GraphError when no leaf requires a
        gradient or a gradient is missing, ShapeError or DTypeError when it does not fit.
        https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html
        """
        if gradient is None:
            _core.backward(self._ref)
        else:
            start = _operand("backward", gradient, self.dtype)
            _core.backward(self._ref, start._ref)

    def retain_grad(self) -> None:
        """Keeps the gradient of a result readable after backward()."""
        _core.retain_grad(self._ref)

    def requires_grad_(self, requires_grad: _Bool = True) -> Tensor:
        """Switches the gradient on or off and returns the tensor."""
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """A leaf over the same memory (a copy where there are no dimensions), with no graph and no gradient."""
        return Tensor._wrap(_core.detach(self._ref))

    def clone(self) -> Tensor:
        """A copy, through which gradients flow."""
        return self.to(self.dtype, copy=True)

    # -- dtypes

    def to(self, dtype: DTypeLike, copy: _Bool = False) -> Tensor:
        """The tensor in another dtype; itself when nothing changes and no copy is asked for."""
        dtype = as_dtype(dtype)
        if dtype is self.dtype and not copy:
            return self
        return _apply1(_TO, self, dtype.code)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(float64)

    def long(self) -> Tensor:
        """As int64, rounded towards zero."""
        return self.to(int64)

    def bool(self) -> Tensor:
        """As bool: whether each element differs from 0."""
        return self.to(bool_)

    # -- operators beyond Arithmetic's

    __matmul__, __rmatmul__ = binary("matmul")
    __eq__ = binary("eq")[0]
    __ne__ = binary("ne")[0]
    __lt__, __gt__ = binary("lt")[0], binary("gt")[0]
    __le__, __ge__ = binary("le")[0], binary("ge")[0]
    __hash__ = object.__hash__  # by object, as PyTorch's, because == compares elements

    add = method("add", "Elementwise a + b.")
    sub = method("sub", "Elementwise a - b.")
    mul = method("mul", "Elementwise a * b.")
    div = method("div", "Elementwise a / b.")
    pow = method("pow", "Elementwise a ** b.")
    matmul = method("matmul", "The matrix product a @ b: vectors, matrices, and stacks of them that broadcast.")
    eq = method("eq", "Whether each pair is equal.")
    ne = method("ne", "Whether each pair differs.")
    lt = method("lt", "Whether a < b, for each pair.")
    le = method("le", "Whether a <= b, for each pair.")
    gt = method("gt", "Whether a > b, for each pair.")
    ge = method("ge", "Whether a >= b, for each pair.")
    neg = unary("neg", "Elementwise -x.")

    def __invert__(self) -> Tensor:
        if self.dtype is not bool_:
            raise DTypeError(f"~: got {self.dtype}, expected bool; compare first, as in ~(x > 0)")
        return cast(Tensor, self.eq(False))

    def __and__(self, other: Any) -> Tensor:
        return cast(Tensor, self.bool() * _operand("&", other, bool_).bool()).bool()

    def __or__(self, other: Any) -> Tensor:
        return cast(Tensor, self.bool() + _operand("|", other, bool_).bool()).bool()

    _UFUNCS: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = Tensor._UFUNCS.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            known = ", ".join(sorted(Tensor._UFUNCS))
            raise DTypeError(
                f"numpy.{ufunc.__name__}: tensors take {known} without options; for others use .detach().numpy()"
            )
        return function(*(_beside(ufunc.__name__, x, inputs) for x in inputs))

    # -- reductions

    def sum(self, dim: Dims = None, keepdim: _Bool = False) -> Tensor:
        """The sum over some dimensions, by default all."""
        return _apply1(_SUM, self, keepdim, *_dims(dim))

    def mean(self, dim: Dims = None, keepdim: _Bool = False) -> Tensor:
        """The mean over some dimensions, by default all; nan over nothing."""
        return _apply1(_MEAN, self, keepdim, *_dims(dim))

    def prod(self, dim: Dims = None, keepdim: _Bool = False) -> Tensor:
        """The product over some dimensions, by default all."""
        return _apply1(_PROD, self, keepdim, *_dims(dim))

    def var(self, dim: Dims = None, correction: _Float = 1, keepdim: _Bool = False) -> Tensor:
        """The variance over some dimensions, by default all: squared deviations over (count - correction)."""
        return _apply1(_VAR, self, correction, keepdim, *_dims(dim))

    def std(self, dim: Dims = None, correction: _Float = 1, keepdim: _Bool = False) -> Tensor:
        """The standard deviation: the square root of var."""
        return self.var(dim, correction, keepdim).sqrt()

    def amax(self, dim: Dims = None, keepdim: _Bool = False) -> Tensor:
        """The largest element over some dimensions; equal ones share the gradient."""
        return _apply1(_MAX, self, keepdim, *_dims(dim))

    def amin(self, dim: Dims = None, keepdim: _Bool = False) -> Tensor:
        """The smallest element over some dimensions; equal ones share the gradient."""
        return _apply1(_MIN, self, keepdim, *_dims(dim))

    def max(self, dim: Dims = None, keepdim: _Bool = False) -> Any:
        """The largest element of all or of several dimensions, as amax; for one dimension (values, indices).

        https://docs.pytorch.org/docs/stable/generated/torch.max.html
        """
        return self._extreme(_MAX, _ARGMAX, dim, keepdim)

    def min(self, dim: Dims = None, keepdim: _Bool = False) -> Any:
        """The smallest element of all or of several dimensions, as amin; for one dimension (values, indices)."""
        return self._extreme(_MIN, _ARGMIN, dim, keepdim)

    def _extreme(self, op: int, arg_op: int, dim: Dims, keepdim: _Bool) -> Any:
        if not isinstance(dim, _INTS):
            return _apply1(op, self, keepdim, *_dims(dim))
        indices = _apply1(arg_op, self, True, dim)
        values = self.gather(dim, indices) if self.ndim else self.clone()
        if not keepdim and self.ndim:
            values, indices = values.squeeze(dim), indices.squeeze(dim)
        return ValuesAndIndices(values, indices)

    def argmax(self, dim: int | None = None, keepdim: _Bool = False) -> Tensor:
        """The index of the largest element, the first among equals; int64, no gradient."""
        return _apply1(_ARGMAX, self, keepdim, *_dims(dim))

    def argmin(self, dim: int | None = None, keepdim: _Bool = False) -> Tensor:
        """The index of the smallest element, the first among equals; int64, no gradient."""
        return _apply1(_ARGMIN, self, keepdim, *_dims(dim))

    def any(self) -> Tensor:
        """Whether any element differs from 0."""
        return cast(Tensor, self.bool().sum() > 0)

    def all(self) -> Tensor:
        """Whether every element differs from 0."""
        return cast(Tensor, self.bool().sum() == self.numel())

    def cumsum(self, dim: int) -> Tensor:
        """The running sum along a dimension."""
        return _apply1(_CUMSUM, self, dim)

    def softmax(self, dim: int) -> Tensor:
        """exp(x) / sum(exp(x)) along a dimension."""
        return _apply1(_SOFTMAX, self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        """The logarithm of softmax, stable for large inputs."""
        return _apply1(_LOG_SOFTMAX, self, dim)

    def logsumexp(self, dim: Dims, keepdim: _Bool = False) -> Tensor:
        """log(sum(exp(x))) over some dimensions, stable for large inputs."""
        return _apply1(_LOGSUMEXP, self, keepdim, *_dims(dim))

    # -- shapes

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape, over the same memory; one extent may be -1."""
        return _apply1(_RESHAPE, self, *_extents(shape))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Merges the dimensions from start_dim to end_dim."""
        if not self.ndim:
            return self.reshape(1)
        start, end = self._axis("flatten", start_dim), self._axis("flatten", end_dim)
        if start > end:
            raise AxisError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        shape = self.shape
        merged = int(np.prod(shape[start : end + 1], dtype=np.int64))
        return self.reshape(*shape[:start], merged, *shape[end + 1 :])

    def permute(self, *dims: Any) -> Tensor:
        """The dimensions in another order (a copy)."""
        return _apply1(_PERMUTE, self, *_extents(dims))

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two dimensions exchanged (a copy)."""
        dims = list(range(self.ndim))
        i, j = self._axis("transpose", dim0), self._axis("transpose", dim1)
        dims[i], dims[j] = dims[j], dims[i]
        return self.permute(dims)

    def t(self) -> Tensor:
        """The transpose of a matrix; a vector or 0-d tensor as it is."""
        if self.ndim > 2:
            raise ShapeError(f"t: got shape {self.shape}, expected at most 2 dimensions; use transpose or permute")
        return self if self.ndim < 2 else self.permute(1, 0)

    @property
    def T(self) -> Tensor:
        """The dimensions in reverse order."""
        return self if self.ndim < 2 else self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged."""
        return self.transpose(-2, -1)

    def expand(self, *shape: Any) -> Tensor:
        """Repeats dimensions of extent 1 to a larger shape (a copy); -1 keeps an extent."""
        return _apply1(_EXPAND, self, *_extents(shape))

    def squeeze(self, dim: int | None = None) -> Tensor:
        """Without the dimensions of extent 1, or without that one if its extent is 1."""
        shape = self.shape
        if dim is None:
            return self.reshape([extent for extent in shape if extent != 1])
        axis = self._axis("squeeze", dim)
        return self.reshape(*shape[:axis], *shape[axis + 1 :]) if shape and shape[axis] == 1 else self

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new dimension of extent 1 at that place."""
        axis = self._axis("unsqueeze", dim, self.ndim + 1)
        return self.reshape(*self.shape[:axis], 1, *self.shape[axis:])

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces along a dimension: of equal size but for the last, or of the given sizes.

        https://docs.pytorch.org/docs/stable/generated/torch.split.html
        """
        axis = self._axis("split", dim)
        extent = self.shape[axis]
        if isinstance(split_size, int):
            if split_size < 1:
                raise ArgumentError(f"split: got size {split_size}, expected at least 1")
            starts = range(0, extent, split_size) if extent else range(1)
            sizes: Sequence[int] = [min(split_size, extent - start) for start in starts]
        else:
            sizes = split_size
            if sum(sizes) != extent or any(size < 0 for size in sizes):
                raise ShapeError(f"split: sizes {list(sizes)} must add up to {extent}, the extent of dimension {dim}")
        pieces, start = [], 0
        for size in sizes:
            pieces.append(self[(slice(None),) * axis + (slice(start, start + size),)])
            start += size
        return tuple(pieces)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most that many pieces of equal size along a dimension, the last perhaps smaller."""
        if chunks < 1:
            raise ArgumentError(f"chunk: got {chunks} chunks, expected at least 1")
        extent = self.shape[self._axis("chunk", dim)]
        return self.split(-(-extent // chunks) or 1, dim)

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """Picks along a dimension: result[i][j] = x[index[i][j]][j] for dim 0, and so on.

        https://docs.pytorch.org/docs/stable/generated/torch.gather.html
        """
        return _apply(_GATHER, (self, _operand("gather", index)), (dim,))

    def _axis(self, op: str, dim: int, rank: int | None = None) -> int:
        rank = rank or self.ndim or 1
        if not -rank <= dim < rank:
            raise AxisError(
                f"{op}: dimension {dim} is out of range for shape {self.shape}; expected {-rank} to {rank - 1}"
            )
        return dim % rank

    # -- indexing

    def __getitem__(self, index: Any) -> Tensor:
        """Elements by ints, slices, ..., None, integer arrays and bool masks, as in NumPy; always a copy."""
        if type(index) is int:
            return _apply1(_SLICE, self, index, 0, 1)
        if type(index) is slice and self.ndim:
            span = _index.span(index, _core.extent(self._ref, 0))
            return _apply1(_SLICE, self, span.start, span.step, len(span))
        what = _index.resolve(index, self.shape)
        if isinstance(what, _index.Advanced):
            return _apply(_TAKE, (self, Tensor._wrap(_array_ref(what.positions))), (what.covered,))
        piece = _apply1(_SLICE, self, *what.triples)
        return piece if what.shape is None else piece.reshape(what.shape)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes into the data in place. GraphError on a tensor that requires a gradient: write into its .data."""
        if self.requires_grad:
            raise GraphError(
                "index assignment: this tensor requires a gradient; write into .data, or build it with where or stack"
            )
        items = tuple(_as_array(item) for item in index) if isinstance(index, tuple) else _as_array(index)
        value = tensor(value) if isinstance(value, Node) else value
        source = _operand("index assignment", value, self.dtype)._array()
        try:
            self._array()[items] = source
        except IndexError as error:
            raise AxisError(f"index assignment: {error}") from None
        except ValueError as error:
            raise ShapeError(f"index assignment: {error}") from None


def _as_array(index: Any) -> Any:
    return index.numpy() if isinstance(index, Tensor) else index


Tensor._kind = Tensor
Node._array_kind = Tensor


class _Memory:
    """Lends a tensor's memory to NumPy, and keeps it alive as long as the array lives."""

    __slots__ = ("__array_interface__", "_tensor")

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor if not tensor.ndim else tensor.detach()  # not the graph
        self.__array_interface__ = {
            "version": 3,
            "shape": tensor.shape,
            "typestr": tensor.dtype.numpy.str,
            "data": (_core.address(self._tensor._ref), False),
        }


def _operand(op: str, x: Any, dtype: DType | None = None) -> Any:
    """A node as it is; anything else as a tensor, in `dtype` when its own cannot matter."""
    if isinstance(x, Node):
        return x
    return tensor(x, dtype=dtype if not isinstance(x, np.ndarray | np.generic) else None, _op=op)


def _beside(op: str, x: Any, others: Iterable[Any]) -> Any:
    """x as a node. Python numbers take the dtype of the first float node beside them, as they do in x + other."""
    if isinstance(x, Node):
        return x
    dtypes = (DTYPES[_core.dtype_of(other._ref)] for other in others if isinstance(other, Node))
    return _operand(op, x, next((dtype for dtype in dtypes if dtype.is_floating_point), None))


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False, *, _op: str = "tensor") -> Tensor:
    """A new tensor with a copy of `data`: a number, nested sequences, a NumPy array, a Tensor or a Value.

    dtype: by default float32 for Python floats, int64 for ints, bool for bools, and a NumPy array's own. Raises
    DTypeError for what is not numbers, ShapeError for ragged nesting.
    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html

    >>> tensor([[1, 2], [3, 4]]).dtype, tensor([0.5]).dtype
    (tinyml.int64, tinyml.float32)
    """
    if isinstance(data, Node):
        data = Tensor._wrap(_core.detach(data._ref))._array()
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"{_op}: rows of different lengths make no array ({error}); pad them") from None
    if array.dtype == object:
        raise DTypeError(
            f"{_op}: got {type(data).__name__} with elements that are not numbers; use tinyml.stack for nodes"
        )
    if array.dtype.kind not in "fiub":
        as_supported(array, _op)
    if dtype is not None:
        array = as_type(array, as_dtype(dtype), _op)
    elif array.dtype == np.float64 and not isinstance(data, np.ndarray | np.generic):
        array = array.astype(np.float32)
    result = Tensor._wrap(_array_ref(array))
    if requires_grad:
        result.requires_grad = True
    return result


Tensor._UFUNCS.update(
    add=lambda a, b: a + b,
    subtract=lambda a, b: a - b,
    multiply=lambda a, b: a * b,
    divide=lambda a, b: a / b,
    power=lambda a, b: a**b,
    matmul=lambda a, b: a @ b,
    maximum=lambda a, b: a.maximum(b),
    minimum=lambda a, b: a.minimum(b),
    equal=lambda a, b: a == b,
    not_equal=lambda a, b: a != b,
    less=lambda a, b: a < b,
    less_equal=lambda a, b: a <= b,
    greater=lambda a, b: a > b,
    greater_equal=lambda a, b: a >= b,
    negative=lambda a: -a,
    absolute=lambda a: a.abs(),
    exp=lambda a: a.exp(),
    log=lambda a: a.log(),
    sqrt=lambda a: a.sqrt(),
    square=lambda a: a * a,
    sin=lambda a: a.sin(),
    cos=lambda a: a.cos(),
    tanh=lambda a: a.tanh(),
)
