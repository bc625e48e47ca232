"""Convolutions and pooling: what is refused and how, shapes, ties and nans, threads, replays, and that LeNet learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, nn, optim
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.nn import functional as F

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = tinyml.get_num_threads()
    yield
    tinyml.set_num_threads(before)


def ones(*shape: int) -> Tensor:
    return tinyml.ones(*shape)


def numbers(*shape: int, dtype: str = "float32") -> Tensor:
    return tinyml.tensor(RNG.standard_normal(shape).astype(dtype), requires_grad=True)


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "conv2d input rank": (
        lambda: F.conv2d(ones(5, 5), ones(4, 2, 3, 3)),
        ShapeError,
        r"conv2d: got input \(5, 5\) and weight \(4, 2, 3, 3\), expected \(N, C, H, W\) or \(C, H, W\)",
    ),
    "conv2d weight rank": (lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3)), ShapeError, r"conv2d: .*weight \(4, 2, 3\)"),
    "conv1d input rank": (lambda: F.conv1d(ones(5), ones(4, 2, 3)), ShapeError, r"conv1d: .*\(N, C, L\) or \(C, L\)"),
    "channels": (
        lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 2, 3, 3)),
        ShapeError,
        "conv2d: got input .* of 3 channels, expected 2: weight .* takes 2 in each of 1 groups",
    ),
    "groups of inputs": (
        lambda: F.conv2d(ones(1, 4, 5, 5), ones(4, 4, 3, 3), groups=2),
        ShapeError,
        "of 4 channels, expected 8",
    ),
    "groups of outputs": (
        lambda: F.conv2d(ones(1, 4, 5, 5), ones(3, 2, 3, 3), groups=2),
        ShapeError,
        "3 output channels, expected a multiple of the 2 groups",
    ),
    "no groups": (lambda: F.conv2d(ones(1, 2, 5, 5), ones(3, 2, 3, 3), groups=0), ArgumentError, "groups 0, expected"),
    "bias": (
        lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), ones(3)),
        ShapeError,
        r"conv2d: got bias \(3,\), expected \(4,\)",
    ),
    "kernel": (
        lambda: F.conv2d(ones(2, 2, 3), ones(4, 2, 3, 3), dilation=2, padding=(1, 0)),
        ShapeError,
        r"conv2d: got a kernel that spans 5 x 5 for input \(2, 2, 3\), which has 4 x 3 with its padding",
    ),
    "kernel of nothing": (lambda: F.conv1d(ones(2, 3), ones(4, 2, 0)), ShapeError, "conv1d: .*at least 1 x 1"),
    "stride": (lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), stride=(1, 0)), ArgumentError, "stride 0, expected 1"),
    "padding": (lambda: F.conv1d(ones(2, 5), ones(4, 2, 3), padding=-1), ArgumentError, "padding -1, expected 0"),
    "dilation": (lambda: F.conv1d(ones(2, 5), ones(4, 2, 3), dilation=0), ArgumentError, "dilation 0, expected 1"),
    "three strides": (
        lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), stride=(1, 2, 3)),
        ArgumentError,
        r"conv2d: got stride \(1, 2, 3\), expected an int or 2 of them",
    ),
    "a float": (
        lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), stride=1.5),  # type: ignore[arg-type]
        DTypeError,
        "conv2d: got stride 1.5, expected an int",
    ),
    "padding word": (
        lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), padding="full"),
        ArgumentError,
        "got padding 'full', expected 'same', 'valid' or ints",
    ),
    "same with stride": (
        lambda: F.conv2d(ones(2, 5, 5), ones(4, 2, 3, 3), padding="same", stride=2),
        ArgumentError,
        "padding 'same' and stride .* expected a stride of 1",
    ),
    "layer's groups": (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError, "Conv2d: got 3 in_channels, .* 2 groups"),
    "layer's padding_mode": (
        lambda: nn.Conv1d(3, 4, 3, padding_mode="reflect"),
        ArgumentError,
        "Conv1d: got padding_mode 'reflect', expected 'zeros'",
    ),
    "layer's kernel": (lambda: nn.Conv2d(3, 4, 0), ArgumentError, r"kernel_size \(0, 0\), expected at least 1"),
    "layer's kernel rank": (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ArgumentError, "Conv2d: got kernel_size .* 2 of them"),
    "layer's padding": (lambda: nn.Conv2d(3, 4, 3, padding=-1), ArgumentError, "Conv2d: got padding .* at least 0"),
    "layer's channels": (lambda: nn.Conv2d(-3, 4, 3), ArgumentError, "Conv2d: got in_channels .* at least 0"),
    "max_pool2d rank": (lambda: F.max_pool2d(ones(4, 4), 2), ShapeError, r"max_pool2d: got shape \(4, 4\), expected"),
    "max_pool1d rank": (lambda: F.max_pool1d(ones(4), 2), ShapeError, r"max_pool1d: .*\(N, C, L\) or \(C, L\)"),
    "pool kernel": (lambda: F.max_pool2d(ones(1, 4, 4), 5), ShapeError, r"max_pool2d: got a kernel that spans 5 x 5"),
    "pool stride": (lambda: F.avg_pool2d(ones(1, 4, 4), 2, 0), ArgumentError, "avg_pool2d: got stride 0, expected 1"),
    "pool padding": (
        lambda: F.max_pool2d(ones(1, 4, 4), 2, padding=2),
        ArgumentError,
        "max_pool2d: got padding 2 for a kernel of 2, expected 0 to half",
    ),
    "pool dilation": (lambda: F.max_pool1d(ones(1, 4), 2, dilation=0), ArgumentError, "dilation 0, expected 1"),
    "indices": (lambda: F.max_pool2d(ones(1, 4, 4), 2, return_indices=True), ArgumentError, "return_indices=True"),
    "divisor": (lambda: F.avg_pool2d(ones(1, 4, 4), 2, divisor_override=0), ArgumentError, "divisor_override 0"),
    "pool of nothing": (lambda: F.avg_pool2d(ones(1, 0, 4), 2), ShapeError, r"avg_pool2d: got shape \(1, 0, 4\)"),
    "adaptive of nothing": (lambda: F.adaptive_avg_pool2d(ones(1, 0, 4), 2), ShapeError, "expected no 0"),
    "adaptive size": (lambda: F.adaptive_avg_pool2d(ones(1, 4, 4), -1), ArgumentError, "got output size -1, expected"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_settings_are_shown() -> None:
    shown = repr(nn.Conv2d(4, 8, 3, 2, (1, 0), (1, 2), 2, bias=False))
    assert shown == (
        "Conv2d(4, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 0), dilation=(1, 2), groups=2, bias=False)"
    )
    assert repr(nn.Conv1d(1, 2, 3, padding="same")) == "Conv1d(1, 2, kernel_size=(3,), stride=(1,), padding=same)"
    assert repr(nn.AvgPool2d(2, 1)) == "AvgPool2d(kernel_size=2, stride=1, padding=0)"


def test_initial_weights() -> None:
    tinyml.manual_seed(0)
    layer = nn.Conv2d(8, 200, 5, groups=2)
    bound = 1 / np.sqrt(4 * 25)
    for parameter in layer.parameters():
        values = parameter.detach().numpy()
        assert 0.8 * bound < np.abs(values).max() <= bound
    assert nn.Conv2d(4, 8, 3, dtype="float64").weight.dtype is tinyml.float64


def test_unbatched_is_a_batch_of_one() -> None:
    image, signal = numbers(4, 6, 6), numbers(4, 9)
    layers: list[tuple[Callable[[Tensor], Any], Tensor]] = [
        (nn.Conv2d(4, 3, 3, padding=1), image),
        (nn.MaxPool2d(2), image),
        (nn.AvgPool2d(3, 1, 1), image),
        (nn.AdaptiveAvgPool2d(2), image),
        (nn.Conv1d(4, 3, 3), signal),
        (nn.MaxPool1d(2), signal),
        (nn.AvgPool1d(2), signal),
    ]
    for layer, x in layers:
        assert layer(x).tolist() == layer(x.unsqueeze(0))[0].tolist()


def test_output_of_no_size() -> None:
    x = numbers(2, 3, 4, 4)
    y = F.adaptive_avg_pool2d(x, (0, 2))
    assert y.shape == (2, 3, 0, 2)
    y.sum().backward()
    assert x.grad is not None
    assert not x.grad.numpy().any()


def test_ties_go_to_the_first_maximum() -> None:
    for options in ({}, {"stride": 1}):
        x = tinyml.tensor([[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]], requires_grad=True)
        F.max_pool2d(x, 2, **options).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [[[1, 1, 0] if options else [1, 0, 0], [0, 0, 0]]]


def test_nan_is_a_maximum() -> None:
    for kernel, padding in ((2, 0), (3, 1)):
        x = tinyml.tensor([[[1.0, np.nan], [3.0, np.nan]]])
        assert np.isnan(F.max_pool2d(x, kernel, padding=padding).numpy()).all()
    lowest = tinyml.full((1, 2, 2), -np.inf, dtype="float64")
    lowest.requires_grad = True
    y = F.max_pool2d(lowest, 2)
    y.sum().backward()
    assert y.tolist() == [[[-np.inf]]]
    assert lowest.grad is not None
    assert lowest.grad.tolist() == [[[1, 0], [0, 0]]]


def test_no_tap_inside() -> None:
    """A dilated window may step over all there is: then nothing flows back."""
    x = tinyml.ones(1, 1, 1, requires_grad=True)
    y = F.max_pool2d(x, 2, padding=2, dilation=4, stride=4)
    assert y.tolist() == [[[-np.inf]]]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[0]]]


def test_integers_are_lifted() -> None:
    x = tinyml.arange(8).reshape(1, 2, 4)
    assert F.max_pool2d(x, 2).tolist() == [[[5.0, 7.0]]]
    assert F.conv1d(x, tinyml.ones(1, 2, 1)).tolist() == [[[4.0, 6.0, 8.0, 10.0]]]


LARGE: dict[str, Callable[[], tuple[Callable[..., Any], list[Tensor]]]] = {
    "conv2d": lambda: (
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
        [numbers(21, 5, 20, 21), numbers(18, 5, 3, 3), numbers(18)],
    ),
    "one image": lambda: (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        [numbers(1, 16, 64, 64), numbers(32, 16, 3, 3), numbers(32)],
    ),
    "groups": lambda: (
        lambda x, w, b: F.conv2d(x, w, b, groups=4, dilation=2),
        [numbers(20, 8, 24, 24), numbers(8, 2, 3, 3), numbers(8)],
    ),
    "conv1d": lambda: (lambda x, w: F.conv1d(x, w), [numbers(64, 8, 200), numbers(9, 8, 5)]),
    "max_pool2d": lambda: (lambda x: F.max_pool2d(x, 2), [numbers(64, 6, 28, 28)]),
    "max_pool2d, overlapping": lambda: (lambda x: F.max_pool2d(x, 3, 2, 1), [numbers(64, 6, 28, 28)]),
    "avg_pool2d": lambda: (lambda x: F.avg_pool2d(x, 2), [numbers(64, 6, 28, 28)]),
    "adaptive_avg_pool2d": lambda: (lambda x: F.adaptive_avg_pool2d(x, 1), [numbers(64, 6, 28, 28)]),
}


@pytest.mark.parametrize("name", LARGE)
def test_same_bits_on_any_number_of_threads(name: str) -> None:
    function, inputs = LARGE[name]()
    seen = []
    for threads in (1, 2, 3):
        tinyml.set_num_threads(threads)
        for x in inputs:
            x.grad = None
        y = function(*inputs)
        for _ in range(2):  # the second sweep adds
            (y * y).sum().backward()
        gradients = [x.grad for x in inputs]
        seen.append([x.detach().numpy().tobytes() for x in [y, *gradients] if x is not None])
        assert len(seen[-1]) == 1 + len(inputs)
    assert seen[0] == seen[1] == seen[2]


def test_many_images_make_the_same_gradient() -> None:
    """Weights' gradients that are made in parts add up to those of the images one by one."""
    x, w, b = numbers(50, 3, 9, 9, dtype="float64"), numbers(4, 3, 3, 3, dtype="float64"), numbers(4, dtype="float64")
    (F.conv2d(x, w, b) ** 2).sum().backward()
    whole = [np.array(p.grad.numpy()) for p in (w, b) if p.grad is not None]
    w.grad = b.grad = None
    for image in x.detach():
        (F.conv2d(image, w, b) ** 2).sum().backward()
    for p, expected in zip((w, b), whole, strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), expected, 1e-12, 1e-12)


def lenet(seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A training step of a small LeNet."""
    tinyml.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(8 * 2 * 2, 10),
    )  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_lenet_learns_alike_eager_and_compiled() -> None:
    x = tinyml.tensor(RNG.standard_normal((24, 1, 12, 12)).astype("float32"))
    y = tinyml.tensor(RNG.integers(0, 10, 24))
    eager, compiled = lenet(3), tinyml.compile(lenet(3))
    losses = [eager(x, y).item() for _ in range(40)]
    assert [compiled(x, y).item() for _ in range(40)] == losses
    assert losses[0] > 2
    assert losses[-1] < 0.1


@pytest.mark.parametrize("value", [2**31, 2**60, 2**70])
def test_enormous_settings(value: int) -> None:
    """They are refused before anything is worked out with them."""
    image, kernel = ones(1, 3, 3), ones(1, 1, 3, 3)
    for options in ({"padding": value}, {"stride": value}, {"dilation": value}, {"groups": value}):
        with pytest.raises(ArgumentError, match="expected"):
            F.conv2d(image, kernel, **options)
    for call in (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d):
        with pytest.raises(ArgumentError, match="expected"):
            call(image, value)
