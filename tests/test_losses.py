"""Losses and penalties: stable far out, right in corners, eager as compiled, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn
from tinyml.errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError
from tinyml.nn import functional as F
from tinyml.nn.utils import l1_penalty, l2_penalty

inf, nan = np.inf, np.nan
FLOATS = ["float32", "float64"]


def leaf(data: Any, dtype: str = "float64") -> tinyml.Tensor:
    return tinyml.tensor(np.array(data, dtype), requires_grad=True)


def gradient(x: Any) -> list[Any]:
    assert x.grad is not None
    return list(x.grad.tolist())


# -- far out


@pytest.mark.parametrize("dtype", FLOATS)
def test_logits_of_a_thousand(dtype: str) -> None:
    x, target = leaf([1000, -1000, 1000, -1000, 0], dtype), [1.0, 1.0, 0.0, 0.0, 0.5]
    terms = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    terms.sum().backward()
    assert terms.tolist()[:4] == [0, 1000, 1000, 0]
    assert terms.tolist()[4] == pytest.approx(np.log(2))
    assert gradient(x) == [0, -1, 1, 0, 0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_losses_keep_their_digits(dtype: str) -> None:
    """Of logits that are right by far."""
    x = leaf([30, -30, 60, -60], dtype)
    terms = F.binary_cross_entropy_with_logits(x, [1.0, 0.0, 1.0, 0.0], reduction="none")
    expected = np.log1p(np.exp([-30.0, -30, -60, -60]))
    np.testing.assert_allclose(terms.detach().numpy(), expected, 8 * np.finfo(dtype).eps)
    weighted = F.binary_cross_entropy_with_logits(x, [1.0, 0.0, 1.0, 0.0], reduction="none", pos_weight=3)
    np.testing.assert_allclose(weighted.detach().numpy(), expected * [3, 1, 3, 1], 16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]])
def test_scores_of_a_thousand(dtype: str, smoothing: float, weight: Any) -> None:
    """All ways to cross entropy, against what softmax is there: 1 for the largest."""
    scores, labels = [[1000, -1000, 0], [-1000, 1000, 0], [0, 0, 1000]], [0, 0, 1]
    w = np.array(weight or [1, 1, 1])
    target = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    logp = np.array(scores) - 1000
    expected = -(w * target * logp).sum(1)
    slopes = (w * target).sum(1, keepdims=True) * (logp == 0) - w * target
    for given in (tinyml.tensor(labels), tinyml.tensor(np.eye(3)[labels].astype(dtype))):
        x = leaf(scores, dtype)
        options = {"weight": None if weight is None else tinyml.tensor(weight, dtype=dtype)}
        terms = F.cross_entropy(x, given, reduction="none", label_smoothing=smoothing, **options)
        terms.sum().backward()
        if given.dtype is tinyml.int64 and weight:  # PyTorch weighs a label's part by the label's own weight
            own = w[labels] * (1 - smoothing)
            expected = -own * logp[range(3), labels] - smoothing / 3 * (w * logp).sum(1)
        np.testing.assert_allclose(terms.detach().numpy(), expected, 1e-6)
        np.testing.assert_allclose(gradient(x), slopes, 1e-6, 1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_differences_of_a_thousand(dtype: str) -> None:
    zero = [0.0, 0.0, 0.0]
    for loss, values, slopes in [
        (F.l1_loss, [1000, 1000, 0], [1, -1, 0]),
        (lambda x, y, reduction: F.huber_loss(x, y, reduction, 2.0), [1998, 1998, 0], [2, -2, 0]),
        (lambda x, y, reduction: F.smooth_l1_loss(x, y, reduction, 2.0), [999, 999, 0], [1, -1, 0]),
        (F.mse_loss, [1e6, 1e6, 0], [2000, -2000, 0]),
    ]:
        x = leaf([1000, -1000, 0], dtype)
        terms = loss(x, zero, reduction="none")
        terms.sum().backward()
        assert terms.tolist() == values
        assert gradient(x) == slopes


def test_where_probabilities_are_0_and_1() -> None:
    """Logarithms are cut off at -100, slopes at 1e12, as in PyTorch."""
    p = leaf([0, 1, 0, 1])
    terms = F.binary_cross_entropy(p, [0.0, 1.0, 1.0, 0.0], reduction="none")
    terms.sum().backward()
    assert terms.tolist() == [0, 0, 100, 100]
    assert gradient(p) == pytest.approx([0, 0, -1e12, 1e12])
    q = leaf([-inf, -1, -1])
    terms = F.kl_div(q, [0.0, 0.0, 1.0], reduction="none")
    assert terms.tolist() == [0, 0, 1]  # 0 log 0 is 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_shows_in_the_loss(dtype: str) -> None:
    x = leaf([nan] * 3, dtype)
    half = [0.5, 0.5, 0.5]
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.hinge_loss, F.kl_div):
        assert np.isnan(loss(x, half, reduction="sum").item())
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.cross_entropy):
        assert np.isnan(loss(x, half).item())
        assert np.isnan(loss(leaf(half, dtype), [nan] * 3).item())


# -- corners


def test_labels_that_do_not_count() -> None:
    x = leaf(np.arange(12.0).reshape(4, 3))
    for weight in (None, [1.0, 2.0, 3.0]):
        for smoothing in (0.0, 0.5):
            options = {"weight": weight, "label_smoothing": smoothing}
            assert np.isnan(F.cross_entropy(x, [-100] * 4, **options).item())
            assert F.cross_entropy(x, [-100] * 4, reduction="sum", **options).item() == 0
            two = F.cross_entropy(x, [1, -100, -100, 2], reduction="sum", **options)
            assert two.item() == pytest.approx(F.cross_entropy(x[[0, 3]], [1, 2], reduction="sum", **options).item())
            x.grad = None
            two.backward()
            assert gradient(x)[1:3] == [[0] * 3] * 2
            assert gradient(x)[0] != [0] * 3


def test_a_weight_of_nothing() -> None:
    """Not even of an infinite loss."""
    x = leaf([[0.0, -inf]])
    loss = F.nll_loss(x, [1], weight=[1.0, 0.0], reduction="sum")
    loss.backward()
    assert loss.item() == 0
    assert gradient(x) == [[0, 0]]


def test_no_gradient_flows_to_class_weights() -> None:
    w, x = leaf([1.0, 2.0]), leaf([[1.0, 2.0]])
    for target in ([1], [[0.5, 0.5]]):
        F.cross_entropy(x, target, weight=w * 1).backward()
    F.nll_loss(x, [0], weight=w).backward()
    assert w.grad is None


def test_gradients_of_targets() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = np.array([[0.1, 0.7, 0.2]]), np.array([[0.3, 0.3, 0.4]])
    for name in ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "l1_loss"):
        ours, theirs = leaf(y), torch.tensor(y, requires_grad=True)
        getattr(F, name)(tinyml.tensor(x), ours, reduction="sum").backward()
        getattr(torch.nn.functional, name)(torch.tensor(x), theirs, reduction="sum").backward()
        np.testing.assert_allclose(gradient(ours), theirs.grad.numpy(), 1e-12)


def test_nothing_at_all() -> None:
    empty = tinyml.zeros(0)
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.hinge_loss, F.binary_cross_entropy, F.kl_div):
        assert loss(empty, empty, reduction="sum").item() == 0
        assert np.isnan(loss(empty, empty).item())
    assert F.kl_div(tinyml.zeros(0, 3), tinyml.zeros(0, 3), reduction="batchmean").item() == 0


def test_labels_as_integers() -> None:
    """Targets of 0 and 1 and labels of -1 and +1 come as ints, too."""
    x = leaf([0.5, -0.5], "float32")
    bits, signs = tinyml.tensor([1, 0]), tinyml.tensor([1, -1])
    assert F.binary_cross_entropy_with_logits(x, bits).item() == pytest.approx(np.log1p(np.exp(-0.5)))
    assert F.binary_cross_entropy(x.sigmoid(), bits.bool()).item() == pytest.approx(np.log1p(np.exp(-0.5)))
    assert F.hinge_loss(x, signs).item() == 0.5
    assert F.hinge_loss(x, [1, -1]).dtype is tinyml.float32


def test_python_floats_are_as_exact_as_the_input() -> None:
    x = leaf([1.0, 2.0])
    assert F.l1_loss(x, [1.1, 2.0], reduction="sum").item() == 1.1 - 1.0
    assert F.cross_entropy(x * 0, [0.1, 0.2]).item() == pytest.approx(0.3 * np.log(2), rel=1e-15)


def test_hinge_loss_of_values() -> None:
    scores, labels = [Value(0.5), Value(-0.5), Value(2.0)], [1, 1, -1.0]
    terms = [F.hinge_loss(score, label) for score, label in zip(scores, labels, strict=True)]
    loss = tinyml.sum(terms) / 3
    loss.backward()
    assert isinstance(loss, Value)
    assert loss.data == pytest.approx(5 / 3)
    assert [x.grad for x in scores] == pytest.approx([-1 / 3, -1 / 3, 1 / 3])
    assert F.hinge_loss(Value(0.25), Value(1.0), reduction="none").data == 0.75


def test_weights_are_state() -> None:
    loss = nn.CrossEntropyLoss(weight=[1.0, 3.0])
    assert loss.state_dict()["weight"].tolist() == [1, 3]
    assert loss.parameters() == []
    assert loss.double()(tinyml.zeros(1, 2, dtype="float64"), [1]).dtype is tinyml.float64
    assert nn.BCEWithLogitsLoss(pos_weight=tinyml.ones(3)).state_dict().keys() == {"pos_weight"}
    assert nn.NLLLoss().state_dict() == {}


# -- compiled


def steps(dtype: str) -> dict[str, tuple[Callable[..., Any], Any, Any]]:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((6, 5)).astype(dtype), rng.standard_normal((6, 5)).astype(dtype)
    p, w, labels = (1 / (1 + np.exp(-y))).astype(dtype), tinyml.tensor(p5 := abs(y[0])), rng.integers(0, 5, 6)
    return {
        "mse": (nn.MSELoss(), x, y),
        "l1": (nn.L1Loss("sum"), x, y),
        "huber": (nn.HuberLoss(delta=0.5), x, y),
        "smooth l1": (nn.SmoothL1Loss("none", beta=0.5), x, y),
        "hinge": (nn.HingeLoss(), x, np.sign(y)),
        "bce": (lambda x, y: F.binary_cross_entropy(x.sigmoid(), y, weight=w), x, p),
        "bce with logits": (nn.BCEWithLogitsLoss(weight=w, pos_weight=w), x, p),
        "labels": (nn.CrossEntropyLoss(label_smoothing=0.1), x, labels),
        "weighted labels": (nn.CrossEntropyLoss(weight=p5, label_smoothing=0.1, ignore_index=2), x, labels),
        "class probabilities": (nn.CrossEntropyLoss(weight=w, label_smoothing=0.1), x, p),
        "nll": (lambda x, y: F.nll_loss(x.log_softmax(1), y, weight=w), x, labels),
        "kl": (nn.KLDivLoss("batchmean"), x, p),
        "kl of logarithms": (nn.KLDivLoss("batchmean", log_target=True), x, y),
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", steps("float32"))
def test_compiled_as_eager(name: str, dtype: str) -> None:
    loss, x_start, y_start = steps(dtype)[name]

    def step(x: Any, y: Any) -> Any:
        value = loss(x, y)
        value.sum().backward()
        return value

    program = tinyml.compile(step)
    for i in range(3):
        order = np.random.default_rng(i).permutation(6)
        left = []
        for function in (step, program):
            x = leaf(x_start[order], dtype)
            value = function(x, tinyml.tensor(y_start[order[::-1]]))
            left.append((value.detach().numpy(), gradient(x)))
        np.testing.assert_array_equal(left[0][0], left[1][0])
        np.testing.assert_array_equal(left[0][1], left[1][1])


def test_replays_check_values_too() -> None:
    x = leaf(np.zeros((2, 3)), "float32")
    weight = tinyml.ones(3)
    for loss, good, bad, error in [
        (lambda x, y: F.cross_entropy(x, y), [[0.0, 1, 0]] * 2, [[0.0, 1, -1]] * 2, ArgumentError),
        (lambda x, y: F.binary_cross_entropy(x.sigmoid(), y), [[0.0, 1, 0]] * 2, [[0.0, 1, -1]] * 2, ArgumentError),
        (lambda x, y: F.kl_div(x, y, reduction="sum"), [[0.0, 1, 0]] * 2, [[0.0, 1, -1]] * 2, ArgumentError),
        (lambda x, y: F.cross_entropy(x, y, weight), [0, 2], [0, 3], AxisError),
    ]:
        program = tinyml.compile(loss)
        before = program(x, tinyml.tensor(good)).item()
        with pytest.raises(error, match="position"):
            program(x, tinyml.tensor(bad))
        assert program(x, tinyml.tensor(good)).item() == before


def test_losses_of_labels_alone_stay_one_node() -> None:
    x = leaf(np.zeros((2, 3)))
    assert F.cross_entropy(x, [0, 1], label_smoothing=0.1)._op == "cross_entropy"
    assert F.cross_entropy(x, [0, 1])._prev[0].shape == x.shape


# -- penalties


def test_penalties_of_tensors() -> None:
    layer = nn.Linear(3, 2, dtype="float64")
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for penalty, expected, slope in [
        (l1_penalty, abs(w).sum() + abs(b).sum(), np.sign),
        (l2_penalty, (w * w).sum() + (b * b).sum(), lambda x: 2 * x),
    ]:
        layer.zero_grad()
        total = penalty(layer.parameters())
        total.backward()
        assert isinstance(total, tinyml.Tensor)
        assert (total.shape, total.dtype) == ((), tinyml.float64)
        assert total.item() == pytest.approx(expected)
        np.testing.assert_allclose(gradient(layer.weight), slope(w))
        np.testing.assert_allclose(gradient(layer.bias), slope(b))
        assert penalty(iter(layer.parameters())).item() == total.item()


def test_penalties_of_values() -> None:
    values = [Value(3.0), Value(-4.0), Value(0.0)]
    l1, l2 = l1_penalty(values), l2_penalty(values)
    assert isinstance(l1, Value)
    assert isinstance(l2, Value)
    assert (l1.data, l2.data) == (7, 25)
    assert l2._prev == set(values)  # one node
    (l1 + 10 * l2).backward()
    assert [x.grad for x in values] == [61, -81, 0]
    assert l2_penalty(Value(-2.0)).data == 4
    assert l1_penalty(Value(-2.0)).data == 2


def test_penalties_of_mixtures() -> None:
    value, tensor = Value(-3.0), leaf([1.0, -2.0], "float32")
    for penalty, expected in [(l1_penalty, 6), (l2_penalty, 14)]:
        total = penalty([value, tensor])
        total.backward()
        assert isinstance(total, tinyml.Tensor)
        assert total.item() == expected
    assert value.grad == -7
    assert gradient(tensor) == [3, -5]


def test_a_penalty_is_weight_decay() -> None:
    ends = []
    for decay in (0.0, 0.2):
        x = leaf([1.0, -2.0])
        sgd = tinyml.optim.SGD([x], lr=0.1, weight_decay=decay)
        for _ in range(3):
            sgd.zero_grad()
            loss = (x - 3).abs().sum()
            (loss if decay else loss + 0.1 * l2_penalty([x])).backward()
            sgd.step()
        ends.append(x.tolist())
    np.testing.assert_allclose(ends[0], ends[1])


def test_penalties_compiled() -> None:
    def make() -> tuple[Callable[[], Any], list[Any]]:
        parameters = [Value(0.5), Value(-1.5), leaf([[1.0, -2.0]]), leaf([3.0])]
        sgd = tinyml.optim.SGD(parameters, lr=0.1)

        def step() -> Any:
            sgd.zero_grad()
            total = l1_penalty(parameters) + 0.1 * l2_penalty(parameters)
            total.backward()
            sgd.step()
            return total

        return step, parameters

    eager, ours = make()
    step, theirs = make()
    program = tinyml.compile(step)
    assert [eager().item() for _ in range(4)] == [program().item() for _ in range(4)]
    for a, b in zip(ours, theirs, strict=True):
        assert a.data == b.data if isinstance(a, Value) else a.tolist() == b.tolist()


# -- refused

X, Y = tinyml.zeros(2, 3), tinyml.full((2, 3), 0.5)
LOSSES = (
    "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "hinge_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div",
)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_unequal_shapes(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"^{name}: got input \(2, 3\) and target \(3,\), expected equal shapes"):
        getattr(F, name)(X, tinyml.zeros(3))
    with pytest.raises(ShapeError, match=rf"^{name}: "):
        getattr(F, name)(X, 1.0)


@pytest.mark.parametrize("name", [*LOSSES, "cross_entropy", "nll_loss"])
def test_unknown_reductions(name: str) -> None:
    target = [0, 1] if name in ("cross_entropy", "nll_loss") else Y
    with pytest.raises(ArgumentError, match=rf"^{name}: got reduction 'average', expected 'none', 'mean'"):
        getattr(F, name)(X, target, reduction="average")


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ArgumentError, r"^binary_cross_entropy: got probability -0.5 at position 0 of input, expected 0 to 1; .*sigm",
         lambda: F.binary_cross_entropy(X - 0.5, Y)),
        (ArgumentError, r"^binary_cross_entropy: got probability 1.5 at position 0 of input",
         lambda: F.binary_cross_entropy(X + 1.5, Y)),
        (ArgumentError, r"^binary_cross_entropy: got probability inf", lambda: F.binary_cross_entropy(X + inf, Y)),
        (ArgumentError, r"^binary_cross_entropy: got probability -1 at position 1 of target.*hinge_loss",
         lambda: F.binary_cross_entropy(Y, [[1.0, -1, 1], [1, 1, 1]])),
        (ArgumentError, r"^binary_cross_entropy_with_logits: got probability -1 at position 5 of target",
         lambda: F.binary_cross_entropy_with_logits(X, [[1.0, 0, 1], [1, 1, -1]])),
        (ArgumentError, r"^cross_entropy: got probability -0.25 at position 0 of target, expected at least 0; .*softm",
         lambda: F.cross_entropy(X, Y - 0.75)),
        (ArgumentError, r"^kl_div: got probability -1 at position 0 of target.*log_target",
         lambda: F.kl_div(X, Y - 1.5)),
        (ArgumentError, r"^kl_div: got reduction 'all', expected .*'batchmean'", lambda: F.kl_div(X, Y, "all")),
        (ArgumentError, r"^huber_loss: got delta 0, expected more than 0", lambda: F.huber_loss(X, Y, delta=0)),
        (ArgumentError, r"^huber_loss: got delta nan", lambda: F.huber_loss(X, Y, delta=nan)),
        (ArgumentError, r"^smooth_l1_loss: got beta -1, expected at least 0", lambda: F.smooth_l1_loss(X, Y, beta=-1)),
        (ShapeError, r"^binary_cross_entropy: got weight \(4, 1, 3\), expected one that broadcasts to \(2, 3\)",
         lambda: F.binary_cross_entropy(Y, Y, weight=tinyml.ones(4, 1, 3))),
        (ShapeError, r"mul: ", lambda: F.binary_cross_entropy_with_logits(X, Y, pos_weight=tinyml.ones(4))),
        (ShapeError, r"^nll_loss: got weight \(2,?\), expected \(3,\), a number for each class",
         lambda: F.nll_loss(X, [0, 1], weight=[1.0, 1])),
        (ShapeError, r"^nll_loss: got weight \(1, 3\)", lambda: F.cross_entropy(X, [0, 1], weight=[[1.0, 1, 1]])),
        (ShapeError, r"^nll_loss: got weight \(\)", lambda: F.cross_entropy(X, [0, 1], -100)),
        (ShapeError, r"^cross_entropy: got weight \(2,\), expected \(3,\)",
         lambda: F.cross_entropy(X, Y, weight=[1.0, 1])),
        (DTypeError, r"^nll_loss: got float64 weights for float32 scores",
         lambda: F.nll_loss(X, [0, 1], weight=tinyml.ones(3, dtype="float64"))),
        (DTypeError, r"^cross_entropy: labels are float32", lambda: F.cross_entropy(X, [0.5, 1.0])),
        (AxisError, r"label 3 at position 1 is outside the 3 classes", lambda: F.cross_entropy(X, [0, 3])),
        (AxisError, r"label 3 at position 1 is outside the 3 classes",
         lambda: F.cross_entropy(X, [0, 3], weight=[1.0, 1, 1])),
        (AxisError, r"label -1 at position 0 is outside the 3 classes",
         lambda: F.nll_loss(X, [-1, 3], weight=[1.0, 1, 1])),
        (ArgumentError, r"^cross_entropy: got label_smoothing 1.5", lambda: F.cross_entropy(X, Y, label_smoothing=1.5)),
        (ArgumentError, r"^l1_penalty: got no parameters; pass model.parameters\(\)", lambda: l1_penalty([])),
        (ArgumentError, r"^l2_penalty: got no parameters", lambda: l2_penalty(iter(()))),
        (DTypeError, r"^l2_penalty: got a float, expected Tensors or Values", lambda: l2_penalty([1.0])),
    ],
)  # fmt: skip
def test_refused(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message):
        call()


def test_nothing_to_go_back_to() -> None:
    with pytest.raises(GraphError, match="requires_grad"):
        F.l1_loss(X, Y).backward()
