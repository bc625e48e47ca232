"""tinyml: a small C-accelerated autograd engine; scalars (Value) and arrays (Tensor) are the same node in one graph."""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from tinyml import data, errors, func, nn, optim, train
from tinyml._anomaly import detect_anomaly
from tinyml._config import get_num_threads, set_num_threads, show_config
from tinyml._core import empty_cache, live_nodes
from tinyml._creation import (
    arange,
    cat,
    concat,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    stack,
    zeros,
    zeros_like,
)
from tinyml._dtypes import DType, float32, float64, int64
from tinyml._dtypes import bool_ as bool
from tinyml._function import Function, FunctionContext
from tinyml._gradcheck import GradcheckError, gradcheck
from tinyml._node import enable_grad, is_grad_enabled, no_grad
from tinyml._random import manual_seed
from tinyml.functions import (
    abs,
    clamp,
    cos,
    dot,
    erf,
    exp,
    log,
    matmul,
    maximum,
    minimum,
    relu,
    sigmoid,
    sin,
    sqrt,
    sum,
    tanh,
    where,
)
from tinyml.program import compile
from tinyml.tensor import Tensor, tensor
from tinyml.value import Value

if _TYPE_CHECKING:
    from tinyml import viz

__version__ = "0.1.0"

__all__ = [
    "DType",
    "Function",
    "FunctionContext",
    "GradcheckError",
    "Tensor",
    "Value",
    "__version__",
    "abs",
    "arange",
    "bool",
    "cat",
    "clamp",
    "compile",
    "concat",
    "cos",
    "data",
    "detect_anomaly",
    "dot",
    "empty_cache",
    "enable_grad",
    "erf",
    "errors",
    "exp",
    "eye",
    "float32",
    "float64",
    "from_numpy",
    "full",
    "full_like",
    "func",
    "get_num_threads",
    "gradcheck",
    "int64",
    "is_grad_enabled",
    "linspace",
    "live_nodes",
    "log",
    "manual_seed",
    "matmul",
    "maximum",
    "minimum",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "rand",
    "randint",
    "randn",
    "randperm",
    "relu",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sin",
    "sqrt",
    "stack",
    "sum",
    "tanh",
    "tensor",
    "train",
    "viz",
    "where",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str) -> _Any:
    """Imports viz when it is first used: training does not need it."""
    if name == "viz":
        from importlib import import_module

        return import_module("tinyml.viz")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
