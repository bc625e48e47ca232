"""fit and evaluate: what they compute, report and leave behind, however they end."""

import gc
import math
import os
import signal
import threading

import numpy as np
import pytest

import tinyml
from tinyml import nn, optim
from tinyml.data import DataLoader, TensorDataset, xor
from tinyml.errors import AnomalyError, ArgumentError, DTypeError, ShapeError
from tinyml.train import Epoch, Evaluation, History, accuracy, evaluate, fit


class Line(nn.Module):
    """y = w x, which notes in which mode and with how many samples it was called."""

    def __init__(self, w=0.0):
        super().__init__()
        self.weight = nn.Parameter(tinyml.tensor([w]))
        self.calls = []

    def forward(self, x):
        self.calls.append((self.training, len(x), tinyml.is_grad_enabled()))
        return x * self.weight


class Descent:
    """Gradient descent by hand, with a note of every call."""

    def __init__(self, model, lr=0.1):
        self.model, self.lr, self.calls = model, lr, []

    def zero_grad(self):
        self.calls.append("zero_grad")
        self.model.weight.grad = None

    def step(self):
        self.calls.append("step")
        weight = self.model.weight
        weight.data = weight.detach() - weight.grad * self.lr


def squares(outputs, targets):
    return ((outputs - targets) * (outputs - targets)).mean()


def doubles(n=10):
    x = np.linspace(-1, 1, n, dtype=np.float32)
    return TensorDataset(x, 2 * x)


def train(model=None, **options):
    model = model or Line()
    options = {"epochs": 3, "progress": False, **options}
    loader = options.pop("loader", DataLoader(doubles(), 4))
    loss_fn = options.pop("loss_fn", squares)
    return fit(model, loader, loss_fn, Descent(model), **options)


# -- what fit computes


def test_fit_does_what_the_loop_by_hand_does():
    x, y = doubles().arrays
    w, losses, means = 0.0, [], []
    for _ in range(3):
        total = 0.0
        for at in range(0, 10, 4):
            xs, ys = x[at : at + 4].astype(float), y[at : at + 4].astype(float)
            losses.append(np.mean((w * xs - ys) ** 2))
            total += losses[-1] * len(xs)
            w -= 0.1 * np.mean(2 * (w * xs - ys) * xs)
        means.append(total / 10)
    model = Line()
    history = train(model)
    assert model.weight.item() == pytest.approx(w, rel=1e-5)
    assert history.losses == pytest.approx(losses, rel=1e-5)
    assert [epoch.loss for epoch in history] == pytest.approx(means, rel=1e-5)
    assert not history.interrupted


def test_gradients_are_cleared_before_each_step():
    model = Line()
    optimizer = Descent(model)
    fit(model, DataLoader(doubles(), 5), squares, optimizer, epochs=2, progress=False)
    assert optimizer.calls == ["zero_grad", "step"] * 4


def test_fit_solves_xor():
    optim = pytest.importorskip("tinyml.optim")
    tinyml.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    history = fit(model, [xor()], nn.MSELoss(), optimizer, epochs=800, progress=False)
    assert history[-1].loss < 0.02
    assert len(history) == len(history.losses) == 800
    assert model(xor()[0]).detach().numpy().round().tolist() == [[0], [1], [1], [0]]


@pytest.mark.parametrize("compiled", [True, False])
def test_before_step_comes_between_the_gradients_and_the_step(compiled):
    model = nn.Linear(1, 1, bias=False)
    model.weight.data = [[0.0]]  # far from 2, so that every gradient is clipped
    optimizer = optim.SGD(model.parameters(), lr=0.5)

    def clip():
        nn.utils.clip_grad_value_(model.parameters(), 0.125)

    x, y = doubles().arrays
    loader = DataLoader(TensorDataset(x[:, None], y[:, None]), 5)
    fit(model, loader, squares, optimizer, epochs=3, progress=False, before_step=clip, compiled=compiled)
    assert model.weight.item() == 3 * 2 * 0.5 * 0.125


def test_models_of_several_inputs():
    batch = tuple(tinyml.tensor(row) for row in ([1.0, 2.0], [3.0, 4.0], [7.0, 10.0]))
    result = evaluate(lambda a, b: a + 2 * b, [batch], squares, None)
    assert result.loss == 0.0


def test_zero_epochs():
    history = train(epochs=0)
    assert (len(history), history.losses, history.interrupted) == (0, [], False)


# -- evaluate and accuracy


def test_accuracy():
    logits = tinyml.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 1.0], [0.0, 0.0, 5.0]])
    assert accuracy(logits, tinyml.tensor([1, 0, 1])).item() == pytest.approx(2 / 3)
    assert accuracy(logits, tinyml.tensor([1, 0, 2])).item() == 1.0
    assert accuracy(logits, tinyml.tensor([0, 1, 0])).shape == ()


@pytest.mark.parametrize("shape", [(3, 1), (2,), (3, 3), ()])
def test_accuracy_refuses_labels_that_would_broadcast(shape):
    logits, labels = tinyml.zeros(3, 3), tinyml.zeros(shape, dtype=tinyml.int64)
    with pytest.raises(ShapeError, match=r"accuracy: .*\(3, 3\).*expected labels of shape \(3,\)"):
        accuracy(logits, labels)


def test_evaluate_weighs_by_samples():
    # Batches of 4, 4 and 2: the mean of their means would be another number.
    model, x = Line(1.0), doubles().arrays[0].astype(float)
    result = evaluate(model, DataLoader(doubles(), 4), squares, metric=lambda _, y: len(y))
    assert result.loss == pytest.approx(np.mean(x**2), rel=1e-6)
    assert result.metric == pytest.approx((4 * 4 + 4 * 4 + 2 * 2) / 10)
    assert model.calls == [(False, 4, False), (False, 4, False), (False, 2, False)]


def test_evaluate_gives_nan_for_what_is_not_asked_for():
    loader = DataLoader(doubles(), 4)
    loss, metric = evaluate(Line(), loader, squares, None)
    assert loss > 0
    assert math.isnan(metric)
    assert math.isnan(evaluate(Line(), loader, metric=lambda *_: 1).loss)


def test_evaluate_accuracy_by_default():
    labelled = [(tinyml.tensor([[1.0, 0.0], [0.0, 1.0]]), tinyml.tensor([0, 0]))]
    assert evaluate(lambda x: x, labelled).metric == 0.5


def test_evaluate_takes_metrics_that_give_tensors():
    result = evaluate(Line(), DataLoader(doubles(), 4), metric=lambda _, y: (y * 0 + 2).mean())
    assert result == pytest.approx((math.nan, 2.0), nan_ok=True)


# -- modes


def test_modes_during_training_and_validation_and_callback():
    model, modes = Line(), []
    model.eval()
    train(
        model,
        epochs=2,
        validation=DataLoader(doubles(3), 3),
        callback=lambda _: modes.append(model.training),
    )
    steps = [(True, 4, True), (True, 4, True), (True, 2, True), (False, 3, False)]
    assert model.calls == steps * 2
    assert modes == [False, False]
    assert not model.training


def test_each_module_gets_its_own_mode_back():
    frozen, active = nn.ReLU(), Line()
    frozen.eval()
    model = nn.Sequential(active, frozen)
    loader = DataLoader(doubles(), 4)
    evaluate(model, loader, squares, None)
    assert (model.training, active.training, frozen.training) == (True, True, False)
    fit(model, loader, squares, Descent(active), progress=False)
    assert (model.training, active.training, frozen.training) == (True, True, False)


def test_modes_survive_failure():
    def fail(*_):
        raise RuntimeError("no")

    for was in (True, False):
        model = Line()
        model.train(was)
        with pytest.raises(RuntimeError, match="no"):
            train(model, loss_fn=fail)
        with pytest.raises(RuntimeError, match="no"):
            evaluate(model, DataLoader(doubles()), fail)
        assert model.training is was
        assert tinyml.is_grad_enabled()


# -- the history


def test_history_records_each_epoch():
    def size(outputs, targets):
        assert not outputs.requires_grad
        return float(len(targets))

    history = train(metric=size, validation=DataLoader(doubles(6), 3))
    assert len(history) == len(list(history)) == 3
    assert len(history.losses) == 9
    for epoch in history:
        assert isinstance(epoch, Epoch)
        assert epoch.metric == pytest.approx(3.6)
        assert epoch.validation_metric == 3.0
        assert epoch.seconds > 0
        assert epoch.samples_per_second == pytest.approx(10 / epoch.seconds)
    assert history[0].loss > history[-1].loss
    assert history[0].validation_loss > history[2].validation_loss > 0
    with pytest.raises(IndexError):
        history[3]


def test_validation_follows_the_epoch_it_stands_beside():
    seen = []
    model = Line()
    loader = DataLoader(doubles(6), 3)
    history = train(
        model,
        validation=loader,
        callback=lambda _: seen.append(evaluate(model, loader, squares, None).loss),
    )
    assert seen == [epoch.validation_loss for epoch in history]


def test_what_was_not_asked_for_is_nan():
    epoch = train()[0]
    assert all(map(math.isnan, (epoch.metric, epoch.validation_loss, epoch.validation_metric)))


def test_history_repr():
    history = train(metric=accuracy_of_signs, validation=DataLoader(doubles(), 5), unit="img")
    lines = repr(history).splitlines()
    assert lines[0] == "History: 3 epochs, 9 steps"
    titles = "epoch  loss  accuracy_of_signs  validation loss  validation accuracy_of_signs"
    assert lines[1].split() == f"{titles} seconds img/s".split()
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
    assert f"{history[1].loss:.4f}" in lines[3]
    assert len({len(line) for line in lines[1:]}) == 1
    assert "validation" not in repr(train())
    assert repr(History()) == "History: 0 epochs, 0 steps"


def accuracy_of_signs(outputs, targets):
    return ((outputs > 0) == (targets > 0)).float().mean()


def test_callback_sees_the_history_and_can_stop():
    seen = []

    def callback(history):
        seen.append(len(history))
        return len(history) == 2

    history = train(epochs=5, callback=callback)
    assert seen == [1, 2]
    assert len(history) == 2
    assert not history.interrupted


# -- progress


def test_progress_bar(capsys):
    history = train(epochs=2, progress=True, unit="img", validation=DataLoader(doubles(), 5))
    shown = capsys.readouterr().err
    for number, epoch in enumerate(history, 1):
        assert f"epoch {number}/2" in shown
        assert f"loss {epoch.loss:.4f}, validation loss {epoch.validation_loss:.4f}" in shown
        assert f"{epoch.samples_per_second:,.0f} img/s" in shown
    assert "3/3" in shown
    assert "nan" not in shown


def test_progress_of_loaders_without_length(capsys):
    class Endless:
        def __iter__(self):
            return iter(DataLoader(doubles(), 4))

    assert len(train(loader=Endless(), progress=True)) == 3
    assert "3/?" in capsys.readouterr().err


def test_a_callback_prints_below_the_bar(capsys):
    shown = []
    train(progress=True, callback=lambda _: shown.append(capsys.readouterr().err))
    assert [text[-1] for text in shown] == ["\n"] * 3


def test_one_bar_for_all_epochs_of_full_batches(capsys):
    history = train(loader=DataLoader(doubles(), 10), epochs=50, progress=True)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "50/50" in shown
    assert f"loss {history[-1].loss:.4f}" in shown


def test_no_progress_no_output(capsys):
    train(progress=False)
    assert capsys.readouterr() == ("", "")


# -- Ctrl-C


def interrupting(after):
    """A loss that raises KeyboardInterrupt in the call after so many."""
    calls = []

    def loss_fn(outputs, targets):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return squares(outputs, targets)

    return loss_fn


@pytest.mark.parametrize(("after", "epochs", "steps"), [(0, 0, 0), (2, 0, 2), (3, 1, 3), (7, 2, 7)])
@pytest.mark.parametrize("was", [True, False])
def test_interrupted_in_the_loss(after, epochs, steps, was):
    model = Line()
    model.train(was)
    history = train(model, loss_fn=interrupting(after))
    assert history.interrupted
    assert (len(history), len(history.losses)) == (epochs, steps)
    assert model.training is was
    assert tinyml.is_grad_enabled()
    assert "interrupted" in repr(history)
    assert not train(model).interrupted, "the model trains on"


def test_interrupted_during_validation():
    def loss_fn(outputs, targets):
        if not outputs.requires_grad:
            raise KeyboardInterrupt
        return squares(outputs, targets)

    model = Line()
    history = train(model, loss_fn=loss_fn, validation=DataLoader(doubles()))
    assert history.interrupted
    assert len(history) == 1, "the epoch was complete"
    assert math.isnan(history[0].validation_loss)
    assert model.training
    assert tinyml.is_grad_enabled()


def test_interrupted_in_the_callback():
    def callback(_):
        raise KeyboardInterrupt

    history = train(callback=callback)
    assert (history.interrupted, len(history)) == (True, 1)


@pytest.fixture
def default_handler():
    """Python's own reaction to Ctrl-C, checked to be in place again afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_waits_for_the_step():
    model = Line()

    def loss_fn(outputs, targets):
        if len(model.calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return squares(outputs, targets)

    history = train(model, loss_fn=loss_fn)
    assert history.interrupted
    assert (len(history), len(history.losses)) == (1, 5), "the fifth step is complete"


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_where_python_ignores_exceptions():
    class Noisy:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def loss_fn(outputs, targets):
        Noisy()
        return squares(outputs, targets)

    history = train(loss_fn=loss_fn)
    assert (history.interrupted, len(history.losses)) == (True, 1)


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_during_validation_and_callback():
    def signalling(*_):
        signal.raise_signal(signal.SIGINT)
        return 1.0

    history = train(callback=signalling)
    assert (history.interrupted, len(history)) == (True, 1)
    model = Line()
    only_validation = lambda *_: 0.0 if model.training else signalling()  # noqa: E731
    history = train(model, metric=only_validation, validation=DataLoader(doubles()))
    assert (history.interrupted, len(history)) == (True, 1)
    assert len(model.calls) == 3 + 1


@pytest.mark.usefixtures("default_handler")
def test_a_second_ctrl_c_does_not_wait():
    def loss_fn(outputs, targets):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    history = train(loss_fn=loss_fn)
    assert (history.interrupted, history.losses) == (True, [])


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_from_outside_at_any_moment():
    for delay in (0.0, 0.003, 0.011, 0.023):
        model = Line()
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))

        def loss_fn(outputs, targets, timer=timer):
            if timer.ident is None:
                timer.start()
            return squares(outputs, targets)

        history = train(model, loss_fn=loss_fn, epochs=10**9, validation=DataLoader(doubles(), 5))
        timer.join()
        assert history.interrupted
        assert len(history.losses) >= len(history) * 3
        assert model.training
        assert tinyml.is_grad_enabled()


def test_foreign_signal_handlers_stay():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        history = train(callback=lambda _: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(pressed), history.interrupted, len(history)) == (3, False, 3)


def test_fit_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(train()))
    thread.start()
    thread.join()
    assert len(results[0]) == 3


# -- refusals


def test_refuses_negative_epochs():
    with pytest.raises(ArgumentError, match="got -1 epochs"):
        train(epochs=-1)


def test_refuses_empty_loaders():
    empty = DataLoader(doubles(3), 4, drop_last=True)
    model = Line()
    with pytest.raises(ArgumentError, match=r"fit: the loader gave no samples.*drop_last"):
        train(model, loader=empty)
    with pytest.raises(ArgumentError, match="evaluate: the loader gave no samples"):
        train(model, validation=[])
    with pytest.raises(ArgumentError, match="evaluate: the loader gave no samples"):
        evaluate(model, empty)
    assert model.training


def test_names_a_used_up_generator():
    once = (batch for batch in DataLoader(doubles(), 4))
    with pytest.raises(ArgumentError, match="generator is used up"):
        train(loader=once)


@pytest.mark.parametrize(
    ("loader", "got"),
    [
        (tinyml.ones(4, 2), "Tensor"),
        (DataLoader(TensorDataset(np.ones(4))), "1 part"),
        (xor(), "Tensor"),
        ([{"x": 1}], "dict"),
    ],
)
def test_refuses_batches_that_are_no_pairs(loader, got):
    message = rf"got a batch of {got}, expected a tuple .*give \[\(x, y\)\]"
    with pytest.raises(DTypeError, match=f"fit: {message}"):
        train(loader=loader)
    with pytest.raises(DTypeError, match=f"evaluate: {message}"):
        evaluate(Line(), loader)


def test_evaluation_unpacks():
    assert Evaluation(0.5, 0.25) == (0.5, 0.25)


# -- a loss that is nan


class Root(nn.Module):
    """A linear layer and a root of what it gives, which is nan where that is negative, and a buffer that counts."""

    def __init__(self, dropout=0.0):
        self.linear = nn.Linear(1, 1)
        self.linear.weight.data = [[0.5]]
        self.linear.bias.data = [0.0]
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("calls", tinyml.tensor(0.0))

    def forward(self, x):
        self.calls.data = self.calls + 1
        return self.dropout(self.linear(x)).sqrt()


def positive(n=40, bad=()):
    """Rows of which some have a negative x."""
    x = np.linspace(1, 2, n, dtype=np.float32).reshape(n, 1)
    x[list(bad)] *= -1
    return TensorDataset(x, np.sqrt(np.abs(x)))


def states(model, optimizer):
    state = optimizer.state_dict()
    return (
        {name: array.tolist() for name, array in model.state_dict().items()},
        {i: {name: array.tolist() for name, array in each.items()} for i, each in state["state"].items()},
        state["param_groups"],
    )


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("arrays", [True, False])
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("bad", [0, 1, 7, 9])
def test_a_nan_loss_stops_before_its_step(compiled, arrays, optimizer, bad):
    """With dropout, whose masks must be the same again, and steps before that count."""

    def start():
        tinyml.manual_seed(7)
        model = Root(dropout=0.3)
        loader = DataLoader(positive(bad=range(4 * bad, 4 * bad + 4)), 4)
        return model, optimizer(model.parameters(), lr=0.01), loader if arrays else list(loader)

    model, descent, loader = start()
    with pytest.raises(AnomalyError) as caught:
        fit(model, loader, nn.MSELoss(), descent, epochs=2, progress=False, compiled=compiled)
    text = str(caught.value)
    batch = bad + 1
    assert text.startswith(f"fit: the loss is nan in epoch 1, batch {batch}: first made by sqrt: made nan")
    assert "in forward: return self.dropout(self.linear(x)).sqrt()" in text
    history = caught.value.history
    assert (len(history), len(history.losses)) == (0, batch)
    assert [math.isnan(loss) for loss in history.losses] == [False] * (batch - 1) + [True]
    # The twin never meets the bad batch.
    twin, ascent, loader = start()
    good = list(loader)[: batch - 1]
    losses = fit(twin, good, nn.MSELoss(), ascent, progress=False).losses if good else []
    assert losses == history.losses[:-1]
    assert states(model, descent) == states(twin, ascent)


def test_a_nan_in_a_later_epoch_with_a_shuffled_loader():
    """Weights that grow until the root is of something negative; the rates change on the way."""

    def start():
        tinyml.manual_seed(1)
        model = Root()
        return model, optim.SGD(model.parameters(), lr=0.01, momentum=0.5), DataLoader(positive(), 4, shuffle=True)

    def schedule(optimizer):
        def callback(history):
            optimizer.param_groups[0]["lr"] *= 1000 if len(history) == 3 else 1.1

        return callback

    model, optimizer, loader = start()
    with pytest.raises(AnomalyError, match=r"epoch (\d+), batch (\d+): first made by sqrt") as caught:
        fit(model, loader, nn.MSELoss(), optimizer, epochs=500, progress=False, callback=schedule(optimizer))
    history = caught.value.history
    assert len(history) >= 3
    assert f"epoch {len(history) + 1}, batch {len(history.losses) - 10 * len(history)}:" in str(caught.value)
    # Without the guard the same steps are made, and go on; up to there they are the same.
    twin, ascent, loader = start()
    steps = len(history.losses) - 1

    def step(x, y):
        loss = nn.MSELoss()(twin(x), y)
        ascent.zero_grad()
        loss.backward()
        ascent.step()
        return loss.item()

    losses, epoch = [], History()
    while len(losses) < steps:
        losses += [step(x, y) for _, (x, y) in zip(range(steps - len(losses)), loader, strict=False)]
        epoch.epochs.append(Epoch(0.0))
        if len(losses) < steps:
            schedule(ascent)(epoch)
    assert losses == history.losses[:-1]
    assert states(model, optimizer) == states(twin, ascent)


def test_a_nan_that_only_backward_makes():
    """The loss is fine, the update is not: the next step begins with nan in a parameter."""

    class Steep(tinyml.Function):
        @staticmethod
        def forward(ctx, x, last):
            ctx.slope = math.nan if abs(x[0] - last) < 1e-3 else 1.0
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.slope, None

    model = Root()
    dataset = positive()
    options = {"progress": False, "compiled": False}
    for i in (0, 3):
        before = model.state_dict()
        last = dataset.arrays[0][4 * i].item() * 0.5

        def loss_fn(y, _, last=last):
            return Steep.apply(y * y, last).mean()

        with pytest.raises(
            AnomalyError, match=rf"batch {i + 2}: first made in the step before by Steep \(a Function\)"
        ) as e:
            fit(model, DataLoader(dataset, 4), loss_fn, optim.SGD(model.parameters(), 0.0), **options)
        assert len(e.value.history.losses) == i + 2
        del before["calls"]
        assert {name: model.state_dict()[name] for name in before} == before


def test_nan_in_the_data():
    dataset = positive()
    dataset.arrays[1][9] = math.nan
    model = Root()
    with pytest.raises(AnomalyError, match=r"epoch 1, batch 3: no op made it: part 1 of the batch held nan before"):
        fit(model, DataLoader(dataset, 4), nn.MSELoss(), optim.SGD(model.parameters()), progress=False)


def test_a_nan_that_does_not_come_again():
    model, numbers = Root(), iter([1.0, math.nan])
    loss_fn = lambda y, _: y.mean() * next(numbers, 1.0)  # noqa: E731
    options = {"progress": False, "compiled": False}
    optimizer = optim.SGD(model.parameters(), 0.0)
    with pytest.raises(AnomalyError, match=r"batch 2: made again, the step did not give nan"):
        fit(model, DataLoader(positive(), 4), loss_fn, optimizer, **options)
    numbers = iter([1.0, math.nan, 2.0])
    with pytest.raises(AnomalyError, match=r"batch 2: the steps before it did not give the same losses again"):
        fit(model, DataLoader(positive(), 4), loss_fn, optimizer, **options)


def test_an_error_while_looking_is_the_cause():
    model, calls = Root(), []

    def loss_fn(y, _):
        calls.append(y)
        if len(calls) > 2:
            raise KeyError("another")
        return y.mean() * (math.nan if len(calls) == 2 else 1.0)

    with pytest.raises(AnomalyError, match=r"batch 2") as caught:
        fit(model, DataLoader(positive(), 4), loss_fn, optim.SGD(model.parameters()), progress=False, compiled=False)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_nan_without_a_module_or_with_a_foreign_optimizer():
    model = Root()
    loader = DataLoader(positive(bad=[9]), 4)
    message = r"fit: the loss is nan in epoch 1, batch 3: run its step within tinyml.detect_anomaly\(\)"
    with pytest.raises(AnomalyError, match=message) as caught:
        fit(lambda x: model(x), loader, nn.MSELoss(), optim.SGD(model.parameters(), 0.1), progress=False)
    assert len(caught.value.history.losses) == 3
    line = Line(-1.0)
    with pytest.raises(AnomalyError, match=message.replace("3", "1")):
        fit(line, loader, lambda y, t: (y.sqrt() - t).mean(), Descent(line), progress=False)


def test_no_stop_for_infinity_or_on_request():
    model = Root()
    loader = DataLoader(positive(bad=[9]), 4)
    optimizer = optim.SGD(model.parameters(), 0.1)
    history = fit(
        model,
        loader,
        lambda y, _: y.detach().mean() * math.inf + y.mean() * 0,
        optimizer,
        progress=False,
        detect_nan=False,
    )
    assert len(history) == 1
    assert math.isinf(history.losses[0])
    line = Line(2.0)
    history = fit(line, [xor()], lambda y, _: y.mean() * 0 - math.inf, Descent(line), progress=False)
    assert history.losses == [-math.inf]
    infinities = iter([math.inf, -math.inf] * 4)
    history = fit(line, [xor()] * 4, lambda y, _: y.mean() * 0 + next(infinities), Descent(line), progress=False)
    assert len(history.losses) == 4


def test_fit_within_detect_anomaly():
    model = Root()
    with tinyml.detect_anomaly(), pytest.raises(AnomalyError, match=r"^sqrt: "):
        fit(model, DataLoader(positive(bad=[9]), 4), nn.MSELoss(), optim.SGD(model.parameters(), 0.1), progress=False)


def test_guarding_leaks_nothing():
    def run():
        model = Root()
        with pytest.raises(AnomalyError):
            fit(model, DataLoader(positive(bad=[9]), 4), nn.MSELoss(), optim.Adam(model.parameters()), progress=False)

    run()
    gc.collect()
    before = tinyml.live_nodes()
    for _ in range(5):
        run()
    gc.collect()
    assert tinyml.live_nodes() == before
