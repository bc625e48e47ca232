"""Losses. Reductions: "mean" and "sum" over all terms, "none" for the terms themselves."""

from __future__ import annotations

from typing import Any

from tinyml import _core
from tinyml._node import Node
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, _apply, _apply1, _beside, _operand

_CROSS_ENTROPY, _NLL_LOSS, _MSE_LOSS = (_core.op(name) for name in ("cross_entropy", "nll_loss", "mse_loss"))
_HUBER, _KL_DIV, _BCE, _BCE_WITH_LOGITS = (_core.op(name) for name in ("huber", "kl_div", "bce", "bce_with_logits"))
_PROBABILITIES = _core.op("probabilities")
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
# Who has its probabilities checked, by the rows of csrc/ops/loss.h.
_BCE_INPUT, _BCE_TARGET, _LOGITS_TARGET, _CLASS_TARGET, _KL_TARGET = range(5)


def _reduction(op: str, reduction: str) -> int:
    try:
        return _REDUCTIONS[reduction]
    except KeyError:
        raise ArgumentError(f"{op}: got reduction {reduction!r}, expected 'none', 'mean' or 'sum'") from None


def _reduced(terms: Tensor, code: int) -> Tensor:
    return terms.mean() if code == 1 else terms.sum() if code else terms


def _target(op: str, target: Any, input: Node) -> Any:
    """The target as a node of the input's shape."""
    target = _beside(op, target, [input])
    got, expected = _core.shape(target._ref), _core.shape(input._ref)
    if got != expected:
        raise ShapeError(
            f"{op}: got input {expected} and target {got}, expected equal shapes: a loss that broadcasts is nearly "
            "always a mistake; reshape one"
        )
    return target


def _weighted(op: str, terms: Tensor, weight: Any) -> Tensor:
    """Terms times a weight that broadcasts to their shape."""
    if weight is None:
        return terms
    result: Tensor = terms * _beside(op, weight, [terms])
    if result.shape != terms.shape:
        got = _operand(op, weight).shape
        raise ShapeError(f"{op}: got weight {got}, expected one that broadcasts to {terms.shape}")
    return result


def _class_weight(op: str, weight: Any, input: Node) -> Any:
    """A weight for each class, to which no gradient flows."""
    weight = _beside(op, weight, [input])
    return weight.detach() if weight.requires_grad else weight


def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of logits (N, C), (C,) or (N, C, d1, ...) against labels or class probabilities.

    target: int64 labels (N,), () or (N, d1, ...), with loss -log softmax(logits)[label], or floats of the input's
    shape, with loss -sum(target * log softmax(logits)) over the classes. label_smoothing: the part of each target that
    is spread evenly over the classes. weight (C,): a factor for each class, to which no gradient flows.

    Labels equal to ignore_index do not count. "mean" divides by the sum of the weights of the labels that count, which
    is nan for none; with class probabilities by the number of rows.

    Raises AxisError for a label outside 0 to C - 1, ArgumentError for a negative probability (PyTorch takes it) and
    unless 0 <= label_smoothing <= 1. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    >>> import tinyml
    >>> round(cross_entropy(tinyml.zeros(4, 10), [3, 1, 4, 1]).item(), 4)
    2.3026
    >>> round(cross_entropy(tinyml.tensor([2.0, 0.0]), [0.5, 0.5]).item(), 4)
    1.1269
    """
    op = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{op}: got label_smoothing {label_smoothing}, expected 0 to 1")
    code = _reduction(op, reduction)
    input, labels = _operand(op, input), _operand(op, target)
    if labels.dtype.is_floating_point and input.ndim and labels.shape == input.shape:
        return _soft_cross_entropy(input, _beside(op, target, [input]), weight, code, label_smoothing)
    if weight is None:
        return _apply(_CROSS_ENTROPY, (input, labels), (code, ignore_index, label_smoothing))
    inputs = (input.log_softmax(_class_dim(input)), labels, _class_weight(op, weight, input))
    return _apply(_NLL_LOSS, inputs, (code, ignore_index, label_smoothing))


def _class_dim(input: Tensor) -> int:
    return 1 if input.ndim > 1 else 0


def _soft_cross_entropy(input: Tensor, target: Tensor, weight: Any, code: int, label_smoothing: float) -> Tensor:
    dim = _class_dim(input)
    classes = input.shape[dim]
    target = _apply1(_PROBABILITIES, target, _CLASS_TARGET)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    terms: Tensor = target * input.log_softmax(dim)
    if weight is not None:
        weight = _class_weight("cross_entropy", weight, input)
        if weight.shape != (classes,):
            raise ShapeError(f"cross_entropy: got weight {weight.shape}, expected ({classes},), one for each class")
        terms = terms * weight.reshape(classes, *[1] * (input.ndim - 1 - dim))
    return -_reduced(terms.sum(dim), code)


def nll_loss(
    input: Tensor, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """The loss of log-probabilities against int64 labels: -weight[label] * input[label].

    Shapes, weight, "mean" and errors as for cross_entropy.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html

    >>> import tinyml
    >>> nll_loss(tinyml.tensor([[-0.5, -1.0], [-2.0, -0.25]]), [0, 1], weight=[1.0, 3.0]).item()
    0.3125
    """
    code = _reduction("nll_loss", reduction)
    input = _operand("nll_loss", input)
    inputs = [input, _operand("nll_loss", target)]
    if weight is not None:
        inputs.append(_class_weight("nll_loss", weight, input))
    return _apply(_NLL_LOSS, inputs, (code, ignore_index, 0.0))


def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """The squared differences of two tensors of one shape.

    PyTorch broadcasts unequal shapes with a warning; here they raise ShapeError, as in the losses below.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    >>> import tinyml
    >>> mse_loss(tinyml.tensor([1.0, 2.0]), tinyml.tensor([1.0, 4.0])).item()
    2.0
    """
    attributes = (_reduction("mse_loss", reduction),)
    return _apply(_MSE_LOSS, (input, _beside("mse_loss", target, [input])), attributes)


def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """The magnitudes of the differences of two tensors of one shape; the derivative at 0 is 0.

    >>> import tinyml
    >>> l1_loss(tinyml.tensor([1.0, 2.0]), [1.0, 4.0]).item()
    1.0
    """
    code = _reduction("l1_loss", reduction)
    return _reduced((input - _target("l1_loss", target, input)).abs(), code)


def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared difference d up to delta, and delta * (|d| - delta / 2), which goes on straight, beyond.

    Raises ArgumentError unless delta > 0. https://en.wikipedia.org/wiki/Huber_loss

    >>> import tinyml
    >>> huber_loss(tinyml.tensor([1.0, 2.0, 9.0]), [1.5, 2.0, 4.0], reduction="none")
    tensor([0.125, 0.   , 4.5  ])
    """
    if not delta > 0:
        raise ArgumentError(f"huber_loss: got delta {delta}, expected more than 0; l1_loss has no round part")
    code = _reduction("huber_loss", reduction)
    return _reduced(_apply1(_HUBER, input - _target("huber_loss", target, input), delta), code)


def smooth_l1_loss(input: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """huber_loss(delta=beta) / beta: slope 1 outside. beta=0 is l1_loss; raises ArgumentError for a negative one.

    >>> import tinyml
    >>> smooth_l1_loss(tinyml.tensor([1.0, 9.0]), [1.5, 4.0], reduction="none", beta=0.5)
    tensor([0.25, 4.75])
    """
    if not beta >= 0:
        raise ArgumentError(f"smooth_l1_loss: got beta {beta}, expected at least 0")
    code = _reduction("smooth_l1_loss", reduction)
    difference = input - _target("smooth_l1_loss", target, input)
    return _reduced(_apply1(_HUBER, difference, beta) / beta if beta else difference.abs(), code)


def hinge_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - target * score): the max-margin loss of scores against labels -1 and +1, both of one shape.

    PyTorch has none by this name; scikit-learn's hinge_loss is the "mean". A Value as score gives a Value, so a loss
    over many is `tinyml.sum([hinge_loss(model(x), y) for x, y in zip(xs, ys)]) / n`. The derivative at the margin is 0.

    >>> import tinyml
    >>> hinge_loss(tinyml.tensor([0.5, 2.0, -1.0]), [1, 1, 1], reduction="none")
    tensor([0.5, 0. , 2. ])
    >>> hinge_loss(tinyml.Value(0.25), -1)
    Value(data=1.25, grad=0.0)
    """
    code = _reduction("hinge_loss", reduction)
    if not isinstance(input, Tensor):
        return (1 - input * target).relu()
    return _reduced((1 - input * _target("hinge_loss", target, input)).relu(), code)


def binary_cross_entropy(input: Tensor, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) of probabilities p against targets t of their shape, times a weight.

    Logarithms are cut off at -100, as in PyTorch. Raises ArgumentError for numbers outside 0 to 1, in targets too, of
    which PyTorch takes any. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html

    >>> import tinyml
    >>> binary_cross_entropy(tinyml.tensor([0.5, 1.0, 0.0]), [1.0, 1.0, 1.0], reduction="none")
    tensor([  0.6931,   0.    , 100.    ])
    """
    op = "binary_cross_entropy"
    code = _reduction(op, reduction)
    target = _target(op, target, input)
    inputs = _apply1(_PROBABILITIES, input, _BCE_INPUT), _apply1(_PROBABILITIES, target, _BCE_TARGET)
    return _reduced(_weighted(op, _apply(_BCE, inputs), weight), code)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """binary_cross_entropy of sigmoid(input), in one step that is exact for large inputs.

    pos_weight, which broadcasts as weight does, multiplies the part of positive targets. Raises ArgumentError for
    targets outside 0 to 1, of which PyTorch takes any.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html

    >>> import tinyml
    >>> binary_cross_entropy_with_logits(tinyml.tensor([0.0, 1000.0, -1000.0]), [1.0, 1.0, 1.0], reduction="none")
    tensor([6.9315e-01, 0.0000e+00, 1.0000e+03])
    """
    op = "binary_cross_entropy_with_logits"
    code = _reduction(op, reduction)
    target = _apply1(_PROBABILITIES, _target(op, target, input), _LOGITS_TARGET)
    terms = _apply(_BCE_WITH_LOGITS, (input, target))
    if pos_weight is not None:
        terms = terms - _weighted(op, target * input.logsigmoid(), _beside(op, pos_weight, [input]) - 1)
    return _reduced(_weighted(op, terms, weight), code)


def kl_div(input: Tensor, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - input), of log-probabilities against probabilities (or their logarithms: log_target).

    reduction="batchmean", the sum divided by the extent of dimension 0, is the divergence's definition; "mean" divides
    by the number of elements, as in PyTorch. Shapes are equal (PyTorch broadcasts). Raises ArgumentError for a negative
    probability. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html

    >>> import tinyml
    >>> p, q = tinyml.tensor([[0.5, 0.5]]), tinyml.tensor([[0.25, 0.75]])
    >>> round(kl_div(q.log(), p, reduction="batchmean").item(), 4)
    0.1438
    """
    if reduction not in ("batchmean", *_REDUCTIONS):
        raise ArgumentError(f"kl_div: got reduction {reduction!r}, expected 'none', 'mean', 'batchmean' or 'sum'")
    target = _target("kl_div", target, input)
    if log_target:
        terms: Tensor = target.exp() * (target - input)
    else:
        terms = _apply(_KL_DIV, (input, _apply1(_PROBABILITIES, target, _KL_TARGET)))
    if reduction == "batchmean":
        result: Tensor = terms.sum() / max(1, input.shape[0] if input.ndim else 1)
        return result
    return _reduced(terms, _REDUCTIONS[reduction])
