"""detect_anomaly: which op made a nan, and on which line of Python."""

import gc
import itertools
import math
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import tinyml
from tinyml import Value, _anomaly, nn
from tinyml.errors import AnomalyError, GraphError, TinymlError

HERE = Path(__file__).name


def leaf(*numbers, dtype="float32"):
    return tinyml.tensor(list(numbers), dtype=dtype, requires_grad=True)


def where(text):
    """A pattern for that line of this file, as messages give it."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = (i + 1 for i, line in enumerate(lines) if line.strip() == text)
    return re.escape(f"{HERE}, line {number}, in ") + r"\S+: " + re.escape(text)


# -- forward


def test_forward_names_op_shapes_and_line():
    x = leaf(4.0, -1.0)
    with tinyml.detect_anomaly():
        y = x * 2
        with pytest.raises(AnomalyError) as caught:
            y = (y - 0).log() * 3  # one of several ops of a line
    text = str(caught.value)
    assert text.startswith("log: made nan in a result float32 (2,), of inputs without: float32 (2,); at ")
    assert re.search(where("y = (y - 0).log() * 3  # one of several ops of a line"), text)
    assert isinstance(caught.value, TinymlError | RuntimeError)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_every_place_and_dtype(dtype, size):
    numbers = np.ones(size, dtype)
    numbers[-1] = -1
    for x in (tinyml.tensor(numbers), tinyml.tensor(numbers[-1])):
        with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^sqrt: "):
            x.sqrt()


def test_values_and_two_operands():
    a, b = Value(0.0), Value(0.0)
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^div: .*float64 \(\), float64 \(\); at "):
        a / b
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^log: "):
        Value(-1.0).log()
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^sub: "):
        Value(math.inf) - math.inf


def test_many_nodes_in_one_call():
    neuron = nn.Neuron(2, activation="linear")
    with tinyml.detect_anomaly():
        neuron([1.0, 2.0])
        with pytest.raises(AnomalyError, match=rf"^dot: .*{HERE}"):
            neuron([math.inf, -math.inf]) if neuron.w[0].data * neuron.w[1].data > 0 else neuron([math.inf, math.inf])


def test_nan_that_comes_from_outside_is_not_made():
    x = leaf(math.nan, 1.0)
    with tinyml.detect_anomaly():
        y = (x * 2).log().sum()
        with pytest.raises(AnomalyError, match=r"^log: its backward made nan .*, but of data with nan; "):
            y.backward()  # the gradient of the sum has none
    assert math.isnan(y.item())


def test_nan_that_is_not_looked_at_is_none():
    x = leaf(-1.0, 4.0)
    y = x.detach().log()  # before: nan is in y[0]
    with tinyml.detect_anomaly():
        assert tinyml.where(x > 0, y, 0.0).tolist() == [0.0, pytest.approx(math.log(4))]


def test_infinity_only_on_request():
    x = leaf(0.0, 1.0)
    with tinyml.detect_anomaly():
        (x / 0.5).log()
        (1 / (x + 0)).sum().backward()
    with tinyml.detect_anomaly(inf=True), pytest.raises(AnomalyError, match=r"^log: made inf in"):
        x.log()
    with tinyml.detect_anomaly(inf=True), pytest.raises(AnomalyError, match=r"^div: made nan and inf in"):
        tinyml.tensor([0.0, 1.0]) / tinyml.tensor([0.0, 0.0])
    with tinyml.detect_anomaly(inf=True), pytest.raises(AnomalyError, match=r"^mul: made nan in"):
        leaf(math.inf) * 0.0  # the infinity was there, the nan was not


def test_integers_and_empty_arrays():
    with tinyml.detect_anomaly(inf=True):
        assert (tinyml.tensor([1, 2]) + 1).tolist() == [2, 3]
        assert tinyml.zeros(0).log().numel() == 0
        tinyml.zeros(0, requires_grad=True).log().sum().backward()


# -- backward


def made_elsewhere(x):
    return x.pow(0.5)  # its slope at 0 is infinite


def test_backward_names_op_shapes_and_the_line_of_the_forward():
    x, w = leaf(0.0, 4.0, 9.0), leaf(1.0, 1.0, 0.5)
    with tinyml.detect_anomaly():
        loss = (made_elsewhere(x) * w).sum() * 2
        slope = x * (1 / 3)
        (slope * slope).sum().backward()
        with pytest.raises(AnomalyError) as caught:
            (loss * math.inf - loss.detach() * 0).backward(tinyml.tensor(1.0))
    text = str(caught.value)
    # inf * (1, 1, 0.5) flows to the roots, inf * (0, 2, 3) to w: 0 * inf
    assert text.startswith(
        "mul: its backward made nan in a gradient of its inputs, float32 (3,), float32 (3,), of one without, "
        "float32 (3,); the node was made at "
    )
    assert re.search(where("loss = (made_elsewhere(x) * w).sum() * 2"), text)


def test_backward_in_a_function_of_the_caller():
    x = leaf(2.0)

    class Bad(tinyml.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return dy * math.nan

    def model(x):
        return Bad.apply(x)  # here

    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^Bad \(a Function\): its backward made nan") as e:
        (model(x) * 2).sum().backward()
    assert re.search(where("return Bad.apply(x)  # here"), str(e.value))
    assert x.grad is None  # as it was
    x.grad = tinyml.tensor([3.0])
    y = model(x) * 2 + x
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"a line unknown, before detect_anomaly\(\) began"):
        y.sum().backward()
    assert x.grad.tolist() == [3.0]
    y.sum().backward()
    assert math.isnan(x.grad.item())


def test_forward_of_a_function():
    class Root(tinyml.Function):
        @staticmethod
        def forward(ctx, x):
            with np.errstate(invalid="ignore"):
                return np.sqrt(x)

    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^Root \(a Function\): made nan"):
        Root.apply(leaf(-1.0))


def test_gradients_that_were_nan_before():
    x = leaf(1.0, 2.0)
    x.grad = tinyml.tensor([math.nan, 0.0])
    with tinyml.detect_anomaly():
        (x * x).sum().backward()
        (x * x).sum().backward(tinyml.tensor(math.nan))
    assert math.isnan(x.grad.tolist()[0])


def test_lines_are_those_of_the_latest_node_at_an_address():
    x = leaf(-1.0)
    with tinyml.detect_anomaly():
        for _ in range(100):
            y = x * 2
            del y
        y = x * 0
        with pytest.raises(AnomalyError) as caught:
            (y + 1).sum().backward(tinyml.tensor(math.inf))
        assert re.search(where("y = x * 0"), str(caught.value))
        if "TINYML_SANITIZED" not in os.environ:  # that build has no pool, which uses addresses again
            assert len(_anomaly._lines) < 10
    assert not _anomaly._lines


def test_lines_stay_while_somebody_is_within():
    x = leaf(1.0)
    with tinyml.detect_anomaly():
        y = x * 0  # outer
        with tinyml.detect_anomaly(inf=True):
            pass
        thread = threading.Thread(target=tinyml.detect_anomaly()(lambda: x * 2))
        thread.start()
        thread.join()
        with pytest.raises(AnomalyError, match=where("y = x * 0  # outer")):
            y.sum().backward(tinyml.tensor(math.inf))


# -- the mode


def test_the_mode_ends_and_nests():
    x = leaf(-1.0)
    with tinyml.detect_anomaly(inf=True):
        with tinyml.detect_anomaly():
            leaf(0.0).log()
        with pytest.raises(AnomalyError):
            leaf(0.0).log()
    assert math.isnan(x.log().item())
    with pytest.raises(KeyError), tinyml.detect_anomaly():
        raise KeyError
    assert math.isnan(x.log().item())


def test_as_a_decorator_and_in_one_thread_only():
    x, results = leaf(-1.0), []

    @tinyml.detect_anomaly()
    def watched():
        thread = threading.Thread(target=lambda: results.append(x.log().item()))
        thread.start()
        thread.join()
        return x.log()

    for _ in range(2):
        with pytest.raises(AnomalyError):
            watched()
    assert [math.isnan(result) for result in results] == [True, True]


def test_nothing_else_changes():
    def run():
        tinyml.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        loss = nn.CrossEntropyLoss()(model(tinyml.randn(5, 4)), tinyml.tensor([0, 1, 2, 0, 1]))
        loss.backward()
        return loss.item(), [p.grad.tolist() for p in model.parameters()]

    plain = run()
    gc.collect()
    before = tinyml.live_nodes()
    with tinyml.detect_anomaly(inf=True):
        assert run() == plain
        with pytest.raises(AnomalyError):
            leaf(-1.0).log()
    assert tinyml.live_nodes() == before


def test_no_grad():
    with tinyml.detect_anomaly(), tinyml.no_grad(), pytest.raises(AnomalyError, match=r"^log: "):
        leaf(-1.0).log()


# -- compiled functions


def test_compiled_functions_run_their_python():
    calls, w = itertools.count(1), leaf(2.0)

    @tinyml.compile
    def step(x, k):
        assert (type(x), type(k)) == (tinyml.Tensor, Value)  # as when recorded
        next(calls)
        loss = ((w * x).log() * k).sum()
        loss.backward()
        return {"loss": loss, "name": "step"}

    x = tinyml.ones(3, requires_grad=True)
    expected = step(x, 2.0)["loss"].item(), x.grad.tolist(), w.grad.tolist()
    programs = step.programs
    for _ in range(2):
        x.grad = w.grad = None
        with tinyml.detect_anomaly():
            result = step(x, 2.0)
        assert result["name"] == "step"
        assert result["loss"].is_leaf
        assert (result["loss"].item(), x.grad.tolist(), w.grad.tolist()) == expected
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=where("loss = ((w * x).log() * k).sum()")):
        step(tinyml.full((3,), -1.0), 2.0)
    assert step.programs == programs
    step(x, 2.0)
    assert next(calls) == 5  # that was a replay


def test_many_steps_at_once_are_refused():
    step = tinyml.compile(lambda x: x.log())
    for run in (
        lambda: step.repeat(2, tinyml.ones(1), progress=False),
        lambda: step.over(tinyml.ones(2), progress=False),
        lambda: step.profile(tinyml.ones(1)),
    ):
        with tinyml.detect_anomaly(), pytest.raises(GraphError, match=r"repeat, over and profile.*loop"):
            run()
    assert step.repeat(2, tinyml.ones(1), progress=False).shape == (2, 1)


def test_entering_it_while_recording_is_refused():
    @tinyml.compile
    def step(x):
        with tinyml.detect_anomaly():
            return x.log()

    with pytest.raises(GraphError, match=r"detect_anomaly: .*around the call"):
        step(tinyml.ones(1))
    assert math.isnan(leaf(-1.0).log().item())
