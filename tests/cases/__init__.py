"""The table of ops: one row each, run by test_ops.py against finite differences and against PyTorch.

A row's functions are written once and get the library as their first argument: `t` is tinyml or torch. A file for each
family of ops, named as in csrc/ops/.
"""

from cases import convolution, elementwise, loss, matmul, movement, normalization, pooling, recurrent, reduce, scalars
from cases._case import Case, Function, Shape

_FAMILIES = [elementwise, reduce, movement, matmul, loss, scalars, recurrent, convolution, pooling, normalization]
CASES = [case for family in _FAMILIES for case in family.CASES]

#: Ops whose test is elsewhere, because PyTorch has no counterpart to compare with or numbers are drawn.
ELSEWHERE = {
    "add_n": "test_value.py::test_sum_is_one_node",
    "dot": "test_value.py::test_dot_is_one_node",
    "dropout": "test_random.py::test_dropout",
    "moments": "test_normalization.py::test_moments",
    "function": "test_function.py::test_gradcheck",
}

__all__ = ["CASES", "ELSEWHERE", "Case", "Function", "Shape"]
