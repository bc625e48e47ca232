"""Normalisation beyond the tables: accuracy, running statistics, recorded steps, training, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import _core, nn, optim
from tinyml.errors import ArgumentError, ShapeError
from tinyml.nn import functional as F
from tinyml.train import evaluate, fit

Array = np.ndarray


def batches(count: int, *shape: int, seed: int = 0) -> list[tinyml.Tensor]:
    rng = np.random.default_rng(seed)
    return [tinyml.tensor(rng.normal(i, 1 + i, shape).astype(np.float32)) for i in range(count)]


def moments(x: Array) -> Array:
    tensor = tinyml.tensor(x)
    return tinyml.Tensor._wrap(_core.apply(_core.op("moments"), [tensor._ref], ())).numpy()


# -- Accuracy

SHAPES = [(50, 3), (1000, 70), (7, 5, 11), (40, 3, 9, 9), (3000, 2, 4), (2, 3, 70_000), (1, 2, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_moments(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(0).normal(1000, 2, shape).astype(dtype)
    axes = (0, *range(2, len(shape)))
    mean, variance, rest = moments(x)
    exact = x.astype(np.float64)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=tolerance / 10)
    np.testing.assert_allclose(variance, exact.var(axes), rtol=tolerance)
    np.testing.assert_allclose(mean.astype(np.float64) + rest, exact.mean(axes), rtol=0, atol=3 * tolerance)


def test_moments_of_nothing_and_of_constants() -> None:
    assert np.isnan(moments(np.zeros((0, 3)))).all()
    assert moments(np.zeros((4, 0))).shape == (3, 0)
    for shape in SHAPES:
        assert moments(np.full(shape, 0.1, np.float32))[1].tolist() == [0] * shape[1]


NORMS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "layer": (lambda x: F.layer_norm(x, x.shape[-1:]), (30, 257)),
    "long layer": (lambda x: F.layer_norm(x, x.shape[-1:]), (2, 300_000)),
    "group": (lambda x: F.group_norm(x, 2), (5, 4, 9, 9)),
    "batch": (lambda x: F.batch_norm(x, None, None, training=True), (700, 6)),
    "batch of images": (lambda x: F.batch_norm(x, None, None, training=True), (70, 3, 28, 28)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_large_mean_costs_nothing(name: str) -> None:
    """The same numbers in float32 and float64: means of 1e4, deviations of 1, gradients too."""
    function, shape = NORMS[name]
    rng = np.random.default_rng(1)
    numbers = (1e4 + rng.normal(size=shape)).astype(np.float32)
    upstream = rng.normal(size=shape).astype(np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        x = tinyml.tensor(numbers.astype(dtype), requires_grad=True)
        y = function(x)
        y.backward(tinyml.tensor(upstream.astype(dtype)))
        assert x.grad is not None
        results.append((y.detach().numpy(), x.grad.numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


LARGE: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = {
    "layer": (lambda t, x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b), (9000, 7), (7,)),
    "wide layer": (lambda t, x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b), (5, 40_000), (40_000,)),
    "rms": (lambda t, x, w, b: t.nn.functional.rms_norm(x, w.shape, w) * b, (700, 130), (130,)),
    "group": (lambda t, x, w, b: t.nn.functional.group_norm(x, 3, w, b), (60, 12, 20, 20), (12,)),
    "group of columns": (lambda t, x, w, b: t.nn.functional.group_norm(x, 5, w, b), (2000, 30), (30,)),
    "batch": (
        lambda t, x, w, b: t.nn.functional.batch_norm(x, None, None, w, b, training=True),
        (60_000, 3),
        (3,),
    ),
    "batch of images": (
        lambda t, x, w, b: t.nn.functional.batch_norm(x, None, None, w, b, training=True),
        (100, 5, 30, 30),
        (5,),
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_agree_with_torch_on_any_number_of_threads(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    function, shape, parameters = LARGE[name]
    rng = np.random.default_rng(2)
    arrays = [rng.normal(1, 2, s) for s in (shape, parameters, parameters)]
    upstream = rng.normal(size=shape)

    def numbers(t: Any) -> list[Array]:
        leaves = [t.tensor(array, requires_grad=True) for array in arrays]
        y = function(t, *leaves)
        y.backward(t.tensor(upstream))
        return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    before = tinyml.get_num_threads()
    try:
        tinyml.set_num_threads(1)
        ours = numbers(tinyml)
        tinyml.set_num_threads(3)
        for a, b in zip(ours, numbers(tinyml), strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        tinyml.set_num_threads(before)
    for a, b in zip(ours, numbers(torch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * np.abs(b).max())


# -- Gradients

EACH: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (3, 4)),
    "rms_norm": (lambda x, w, b: F.rms_norm(x, (4,), w) + b, (3, 4)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (3, 4)),
    "group_norm of images": (lambda x, w, b: F.group_norm(x, 2, w, b), (3, 4, 2, 3)),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (3, 4)),
    "batch_norm of images": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (3, 4, 6, 6)),
    "batch_norm in eval": (lambda x, w, b: F.batch_norm(x, tinyml.zeros(4), tinyml.ones(4), w, b), (3, 4)),
}


def gradients(name: str, x: Array, upstream: Array, wanted: str = "xwb") -> dict[str, Any]:
    function, _ = EACH[name]
    leaves = {"x": x, "w": np.arange(1.0, 5), "b": np.arange(4.0)}
    tensors = {key: tinyml.tensor(array, requires_grad=key in wanted) for key, array in leaves.items()}
    function(*tensors.values()).backward(tinyml.tensor(upstream))
    return {key: tensor.grad for key, tensor in tensors.items()}


@pytest.mark.parametrize("name", EACH)
def test_only_the_gradients_that_are_wanted(name: str) -> None:
    rng = np.random.default_rng(3)
    x, upstream = rng.normal(size=(2, *EACH[name][1]))
    every = gradients(name, x, upstream)
    for wanted in ("x", "w", "b", "wb", "xb"):
        some = gradients(name, x, upstream, wanted)
        for key, gradient in some.items():
            assert gradient.tolist() == every[key].tolist() if key in wanted else gradient is None


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_flows_from_a_zero_gradient(name: str, bad: float) -> None:
    """One sample is undefined; a batch that is undefined with it is masked as a whole, channel by channel."""
    rng = np.random.default_rng(4)
    x, upstream = rng.normal(size=(2, *EACH[name][1]))
    whole = name.startswith("batch_norm") and "eval" not in name
    clean = gradients(name, x, upstream * 0 if whole else np.where(np.arange(3) == 1, 0, upstream.T).T)
    x[1, ...] = bad
    upstream[...] = 0 if whole else np.where(np.arange(3) == 1, 0, upstream.T).T
    for key, gradient in gradients(name, x, upstream).items():
        np.testing.assert_allclose(gradient.numpy(), clean[key].numpy(), rtol=1e-12, err_msg=key)


def test_a_tensor_that_is_its_own_weight_and_bias() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found = []
    for t in (tinyml, torch):
        x = t.tensor(np.array([1.0, 5.0, -2.0]), requires_grad=True)
        f = t.nn.functional
        y = f.layer_norm(x, (3,), x, x) + f.group_norm(f.rms_norm(x, (3,), x).reshape(1, 3), 1, x, x)
        (y * f.batch_norm(t.stack([x, x * x]), None, None, x, x, training=True)).sum().backward()
        assert x.grad is not None
        found.append(x.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_integers_become_floats() -> None:
    x = tinyml.tensor([[1, 3], [2, 8]])
    assert F.layer_norm(x, (2,), eps=0).tolist() == [[-1, 1], [-1, 1]]
    assert F.rms_norm(x, (2,)).dtype is tinyml.float32
    assert nn.BatchNorm1d(2, momentum=None)(x).dtype is tinyml.float32


# -- Running statistics


def test_running_statistics() -> None:
    norm, exact = nn.BatchNorm1d(2, momentum=0.25), nn.BatchNorm1d(2, momentum=None)
    memory = norm.running_mean
    mean, var = np.zeros(2), np.ones(2)
    seen = [np.random.default_rng(i).normal(i, 2, (6, 2)).astype(np.float32) for i in range(4)]
    for x in seen:
        norm(tinyml.tensor(x)), exact(tinyml.tensor(x))
        mean += 0.25 * (x.mean(0) - mean)
        var += 0.25 * (x.var(0, ddof=1) - var)
    assert norm.running_mean is memory
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-5)
    np.testing.assert_allclose(exact.running_mean.numpy(), np.mean([x.mean(0) for x in seen], 0), rtol=1e-5)
    np.testing.assert_allclose(exact.running_var.numpy(), np.mean([x.var(0, ddof=1) for x in seen], 0), rtol=1e-5)
    assert norm.num_batches_tracked.item() == exact.num_batches_tracked.item() == 4
    before = norm.state_dict()
    x = tinyml.tensor(seen[0])
    y = norm.eval()(x)
    expected = (seen[0] - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert y[:1].tolist() == norm(x[:1]).tolist()  # one sample will do
    for name, array in norm.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    norm.reset_parameters()
    assert [buffer.tolist() for buffer in norm.buffers()] == [[0, 0], [1, 1], 0]


def test_an_empty_batch_leaves_the_running_statistics_alone() -> None:
    norm = nn.BatchNorm2d(3)
    assert norm(tinyml.zeros(0, 3, 2, 2)).shape == (0, 3, 2, 2)
    assert [buffer.tolist() for buffer in norm.buffers()] == [[0, 0, 0], [1, 1, 1], 1]


def test_no_graph_is_behind_the_running_statistics() -> None:
    norm, x = nn.BatchNorm1d(2), tinyml.ones(3, 2, requires_grad=True)
    for _ in range(2):
        norm(x * 2).sum().backward()
    assert not any(buffer.requires_grad for buffer in norm.buffers())


def test_a_module_in_float64() -> None:
    norm = nn.BatchNorm1d(2, momentum=None).double()
    norm(tinyml.tensor(np.array([[1.0, 2.0], [4.0, 7.0]])))
    assert [b.dtype.name for b in norm.buffers()] == ["float64", "float64", "int64"]
    assert norm.running_mean.tolist() == [2.5, 4.5]
    narrow = nn.BatchNorm1d(1)
    assert narrow(tinyml.tensor(np.array([[1.0], [3.0]]))).dtype is tinyml.float64  # as Linear gives
    assert narrow.running_mean.dtype is tinyml.float32


# -- Recorded


def network() -> nn.Module:
    tinyml.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 8, bias=False),
        nn.BatchNorm1d(8, momentum=None, affine=False), nn.RMSNorm(8), nn.GroupNorm(2, 8), nn.Linear(8, 3),
    )  # fmt: skip


def states(model: nn.Module) -> list[bytes]:
    return [array.tobytes() for array in model.state_dict().values()]


def test_replays_move_running_statistics_as_eager_steps_do() -> None:
    found = []
    for wrap in (lambda f: f, tinyml.compile):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        target = tinyml.tensor([0, 2, 1, 1, 0])
        seen: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is frozen
            for x in batches(5, 5, 6):
                seen += [step(x, target).item(), *states(model)]
        assert model[1].num_batches_tracked.item() == model[5].num_batches_tracked.item() == 5
        found.append(seen)
        if wrap is tinyml.compile:
            assert len(step.programs) == 1
    assert found[0] == found[1]


def test_modes_are_programs_of_their_own() -> None:
    model, twin = network(), network()
    forward = tinyml.compile(lambda x: model(x))
    for i, x in enumerate(batches(6, 5, 6)):
        for each in (model, twin):
            each.train(i % 3 != 2)
        assert forward(x).tolist() == twin(x).tolist()
        assert states(model) == states(twin)
    assert len(forward.programs) == 2


# -- Training


def pairs(n: int) -> Iterator[tuple[Array, int]]:
    rng = np.random.default_rng(5)
    for _ in range(n):
        label = int(rng.integers(0, 3))
        yield (rng.normal(size=6) * 30 + 100 * (np.arange(6) % 3 == label)).astype(np.float32), label


def test_fit_with_batch_norm() -> None:
    """Inputs far from 0 and 1, which a network without normalisation does not learn at this rate; replay or not."""
    samples = list(pairs(300))
    data = tinyml.data.TensorDataset(np.stack([x for x, _ in samples]), np.array([y for _, y in samples]))
    found = []
    for compiled in (True, False):
        model = nn.Sequential(nn.BatchNorm1d(6), network())
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        loader = tinyml.data.DataLoader(data, batch_size=50, shuffle=True, seed=1)
        fit(model, loader, F.cross_entropy, optimizer, epochs=10, progress=False, compiled=compiled)
        result = evaluate(model, loader, F.cross_entropy)
        assert result.metric > 0.9
        assert model[0].num_batches_tracked.item() == 60
        found.append((result, states(model)))
    assert found[0] == found[1]


# -- Errors

ONES = tinyml.ones(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.BatchNorm1d(4)(ONES[:1]), ShapeError, r"\(1, 4\), expected more than 1 value per channel when tr"),
        (lambda: nn.BatchNorm2d(4)(tinyml.ones(1, 4, 1, 1)), ShapeError, "more than 1 value per channel"),
        (lambda: nn.BatchNorm1d(3)(ONES), ShapeError, r"BatchNorm1d: got input of shape \(2, 4\), expected 3 channels"),
        (lambda: nn.BatchNorm1d(4)(ONES[0]), ShapeError, r"input of shape \(4,\), expected \(N, C\) or \(N, C, L\)"),
        (lambda: nn.BatchNorm1d(4)(ONES.reshape(1, 4, 2, 1)), ShapeError, r"BatchNorm1d: got input of shape \(1, 4,"),
        (lambda: nn.BatchNorm2d(4)(ONES), ShapeError, r"BatchNorm2d: got input .* expected \(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(-1), ArgumentError, "BatchNorm1d: got -1 features"),
        (lambda: nn.GroupNorm(3, 4), ArgumentError, "GroupNorm: got 3 groups for 4 channels, expected a divisor"),
        (lambda: nn.GroupNorm(0, 4), ArgumentError, "GroupNorm: got 0 groups"),
        (lambda: nn.GroupNorm(1, 3)(ONES), ShapeError, r"GroupNorm: got input of shape \(2, 4\), expected 3 channels"),
        (lambda: F.group_norm(ONES, 3), ArgumentError, r"group_norm: got 3 groups for the 4 channels of input"),
        (lambda: F.group_norm(ONES[0], 1), ShapeError, r"group_norm: got input of shape \(4,\), expected \(N, C\)"),
        (lambda: F.group_norm(ONES, 2, tinyml.ones(2)), ShapeError, r"group_norm: got a weight of shape \(2,\), exp"),
        (lambda: F.group_norm(ONES, 2, bias=tinyml.ones(2)), ShapeError, r"group_norm: got a weight of shape \(2,\)"),
        (lambda: nn.LayerNorm(3)(ONES), ShapeError, r"layer_norm: got input of shape \(2, 4\), .*shape \(3,\)"),
        (lambda: nn.LayerNorm((2, 2, 4))(ONES), ShapeError, r"layer_norm: got input of shape \(2, 4\)"),
        (lambda: nn.LayerNorm(()), ArgumentError, r"LayerNorm: got normalized_shape \(\), expected one extent"),
        (lambda: nn.RMSNorm((2, -1)), ArgumentError, "RMSNorm: got normalized_shape"),
        (lambda: nn.RMSNorm(2)(ONES), ShapeError, "rms_norm: got input of shape"),
        (lambda: F.layer_norm(ONES, ()), ShapeError, "layer_norm: got input"),
        (lambda: F.layer_norm(ONES, 4, tinyml.ones(3)), ShapeError, r"got a weight of shape \(3,\), expected \(4,\)"),
        (lambda: F.layer_norm(ONES, 4, ONES[0], ONES), ShapeError, r"got a bias of shape \(2, 4\), expected \(4,\)"),
        (lambda: F.layer_norm(ONES, 4, eps=-1), ArgumentError, "layer_norm: got eps = -1, expected 0 or more"),
        (lambda: F.batch_norm(ONES, None, None), ArgumentError, "batch_norm: got no running statistics"),
        (lambda: F.batch_norm(ONES, ONES[0], None), ArgumentError, "batch_norm: got one of running_mean and running_v"),
        (lambda: F.batch_norm(ONES, tinyml.ones(3), tinyml.ones(3)), ShapeError, r"moments of shape \(2, 3\), .* 4 ch"),
        (lambda: F.batch_norm(ONES, None, None, tinyml.ones(1), training=True), ShapeError, r"weight of shape \(1,\)"),
        (lambda: F.batch_norm(ONES[0], None, None, training=True), ShapeError, r"expected \(N, C\) or \(N, C, "),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_batch_of_one_changes_nothing() -> None:
    norm = nn.BatchNorm1d(4)
    before = states(norm)
    with pytest.raises(ShapeError):
        norm(ONES[:1])
    assert states(norm) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.nn.BatchNorm1d(3, momentum=None),
        lambda t: t.nn.BatchNorm2d(3, 1e-3, affine=False),
        lambda t: t.nn.GroupNorm(1, 3, bias=False),
        lambda t: t.nn.LayerNorm((2, 3), bias=False),
        lambda t: t.nn.LayerNorm(3, elementwise_affine=False),
        lambda t: t.nn.RMSNorm(3),
    ],
)
def test_repr_and_start_agree_with_torch(make: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = make(tinyml), make(torch)
    assert repr(ours) == repr(theirs)
    for (name, a), (other, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == other
        np.testing.assert_array_equal(a, b.numpy())
