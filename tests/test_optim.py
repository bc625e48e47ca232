"""Optimizers beside what test_nn.py compares with PyTorch, and schedulers: states, recorded steps, errors."""

import copy
import json

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn, optim
from tinyml.errors import ArgumentError, DTypeError
from tinyml.optim import lr_scheduler
from tinyml.train import fit


def leaf(*numbers):
    return tinyml.tensor(numbers, dtype="float64", requires_grad=True)


def sgd(lr=1.0, **options):
    return optim.SGD([Value(1.0)], lr=lr, **options)


def rates(scheduler, n, group=0):
    """The rate at the beginning and after each of n steps."""
    seen = [scheduler.optimizer.param_groups[group]["lr"]]
    for _ in range(n):
        scheduler.step()
        seen.append(scheduler.optimizer.param_groups[group]["lr"])
        assert scheduler.get_last_lr()[group] == seen[-1]
    return seen


# -- optimizers

STATES = {
    "SGD": {},
    "Adam": {"exp_avg": 0.1 * 4, "exp_avg_sq": 0.001 * 16},
    "RMSprop": {"square_avg": 0.01 * 16},
    "Adagrad": {"sum": 16.0},
}


@pytest.mark.parametrize("name", STATES)
def test_states_after_a_step(name):
    x = leaf(2.0)
    optimizer = getattr(optim, name)([x])
    (x * x).sum().backward()
    optimizer.step()
    state = {key: each.item() for key, each in optimizer.state.get(x, {}).items()}
    assert state == pytest.approx({"step": 1.0, **STATES[name]} if STATES[name] else {})


def test_names_of_states_are_pytorchs(torch):
    for name, options in [
        ("SGD", {"momentum": 0.9}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {}),
        ("RMSprop", {"centered": True, "momentum": 0.5}),
        ("Adagrad", {}),
    ]:
        states = []
        for t in (tinyml, torch):
            x = t.ones(2, requires_grad=True)
            optimizer = getattr(t.optim, name)([x], lr=0.1, **options)
            x.sum().backward()
            optimizer.step()
            states.append(set(optimizer.state_dict()["state"][0]) - {"step"})
        assert states[0] == states[1]


def test_adagrad_starts_where_it_is_told():
    a, b = leaf(1.0, 2.0), leaf(1.0)
    optimizer = optim.Adagrad([{"params": [a]}, {"params": [b], "initial_accumulator_value": 3.0}],
                              initial_accumulator_value=0.5)  # fmt: skip
    (a.sum() * 2).backward()
    optimizer.step()
    assert optimizer.state[a]["sum"].tolist() == [4.5, 4.5]
    assert optimizer.state[b]["sum"].tolist() == [3.0], "no step without a gradient"
    assert optimizer.state[b]["step"].item() == 0
    a.grad = None
    b.sum().backward()
    optimizer.step()
    assert optimizer.state[b]["sum"].tolist() == [4.0]
    resumed = optim.Adagrad([{"params": [a]}, {"params": [b]}], initial_accumulator_value=7.0)
    resumed.load_state_dict(optimizer.state_dict())
    b.grad = None
    b.sum().backward()
    resumed.step()
    assert resumed.state[b]["sum"].tolist() == [5.0]


def test_options_may_change_between_steps(torch):
    """A momentum switched on later starts from zero, which PyTorch has to be told; the other states go on."""

    def play(t):
        x = t.tensor([1.0, -2.0], dtype=t.float64, requires_grad=True)
        optimizer = t.optim.RMSprop([x], lr=0.01, eps=1e-3)
        for i in range(12):
            optimizer.zero_grad()
            (x**2 - x.sin()).sum().backward()
            optimizer.step()
            if i == 5:
                optimizer.param_groups[0]["momentum"] = 0.9
                if t is torch:
                    optimizer.state[x]["momentum_buffer"] = t.zeros(2, dtype=t.float64)
        return x.tolist()

    assert play(tinyml) == pytest.approx(play(torch), rel=1e-12)


def test_amsgrad_keeps_the_largest():
    x = leaf(1.0)
    optimizer = optim.Adam([x], amsgrad=True)
    seen = []
    for g in (1.0, 100.0, 0.0, 0.0):
        x.grad = [g]
        optimizer.step()
        seen.append([optimizer.state[x][name].item() for name in ("exp_avg_sq", "max_exp_avg_sq")])
    assert seen[1][0] == seen[1][1] == seen[3][1]
    assert seen[3][0] < seen[3][1]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.2),
        lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_parameters_are_updated_as_short_ones(make, dtype):
    """More elements than one task has: threads, and the same numbers."""
    numbers = np.random.default_rng(0).normal(size=300_001).astype(dtype)
    whole = tinyml.tensor(numbers, requires_grad=True)
    parts = [tinyml.tensor(numbers[i : i + 100_000], requires_grad=True) for i in range(0, 300_001, 100_000)]
    optimizers = make([whole]), make(parts)
    for _ in range(3):
        for parameters, optimizer in zip(([whole], parts), optimizers, strict=True):
            optimizer.zero_grad()
            sum((p * p * p).sum() for p in parameters).backward()
            optimizer.step()
    np.testing.assert_array_equal(whole.detach().numpy(), np.concatenate([p.detach().numpy() for p in parts]))


def test_a_step_is_one_call_for_a_group(monkeypatch):
    calls, update = [], tinyml._core.update
    monkeypatch.setattr(tinyml._core, "update", lambda *args: (calls.append(1), update(*args)))
    values = [Value(float(i)) for i in range(20)]
    for make in (optim.RMSprop, optim.Adagrad, optim.Adam, optim.SGD):
        optimizer = make([{"params": values[:15]}, {"params": values[15:]}], lr=0.1)
        tinyml.sum([v * v for v in values]).backward()
        calls.clear()
        optimizer.step()
        assert len(calls) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.RMSprop(p, lr=-1), "RMSprop: lr is -1, expected 0 or more"),
        (lambda p: optim.RMSprop(p, alpha=-0.1), "RMSprop: alpha is -0.1"),
        (lambda p: optim.RMSprop(p, eps=-1), "RMSprop: eps is -1"),
        (lambda p: optim.RMSprop(p, momentum=-1), "RMSprop: momentum is -1"),
        (lambda p: optim.RMSprop(p, weight_decay=float("nan")), "RMSprop: weight_decay is nan"),
        (lambda p: optim.Adagrad(p, lr=-1), "Adagrad: lr is -1"),
        (lambda p: optim.Adagrad(p, lr_decay=-1), "Adagrad: lr_decay is -1"),
        (lambda p: optim.Adagrad(p, eps=-1), "Adagrad: eps is -1"),
        (lambda p: optim.Adagrad(p, weight_decay=-1), "Adagrad: weight_decay is -1"),
        (lambda p: optim.Adagrad(p, initial_accumulator_value=-1), "Adagrad: initial_accumulator_value is -1"),
    ],
)
def test_optimizers_refuse(make, message):
    with pytest.raises(ArgumentError, match=message):
        make([Value(1.0)])


# -- schedulers

#: name: what makes a scheduler, and the rates it gives from 1.0 on.
SCHEDULES = {
    "step": (lambda o: lr_scheduler.StepLR(o, 2, 0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]),
    "multistep": (lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 3], 0.5), [1, 0.5, 0.5, 0.125, 0.125, 0.125]),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
    "constant": (lambda o: lr_scheduler.ConstantLR(o, 0.25, 2), [0.25, 0.25, 1, 1, 1, 1]),
    "linear": (lambda o: lr_scheduler.LinearLR(o, 0.2, 1.0, 4), [0.2, 0.4, 0.6, 0.8, 1, 1]),
    "linear down": (lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 4), [1, 0.75, 0.5, 0.25, 0, 0]),
    "cosine": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 4, 0.2),
        [0.2 + 0.4 * (1 + np.cos(np.pi * e / 4)) for e in range(12)],
    ),
    "lambda": (lambda o: lr_scheduler.LambdaLR(o, lambda e: 1 / (1 + e)), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
    "one cycle": (
        lambda o: lr_scheduler.OneCycleLR(
            o, 2.0, 7, pct_start=3 / 7, anneal_strategy="linear", cycle_momentum=False, div_factor=4, final_div_factor=5
        ),
        [0.5, 1.25, 2, 1.525, 1.05, 0.575, 0.1, 0.1],
    ),
    "one cycle that starts at its top": (
        lambda o: lr_scheduler.OneCycleLR(o, 2.0, 10, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False),
        [2 - (2 - 2 / 25e4) * e / 9 for e in range(10)],
    ),
    "warm-up": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.5, total_iters=2), lr_scheduler.ExponentialLR(o, 0.5)], [2]
        ),
        [0.5, 0.75, 1, 0.5, 0.25, 0.125],
    ),
    "nested": (
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.ConstantLR(o, 0.5, 9),
                lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1, 0.5), lr_scheduler.ConstantLR(o, 0.1, 1)], [2]),
            ],
            [1],
        ),
        [0.5, 1, 0.5, 0.1, 1, 1],
    ),
}


@pytest.mark.parametrize(("make", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_by_hand(make, expected):
    optimizer = sgd(lr=1.0)
    scheduler = make(optimizer)
    seen = rates(scheduler, len(expected) - 1)
    assert seen == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert scheduler.last_epoch == len(expected) - 1
    assert all(type(rate) is float for rate in seen)
    assert optimizer.param_groups[0]["initial_lr"] == scheduler.base_lrs[0]


def test_one_cycle_of_momenta():
    for name, make in [("momentum", lambda v: optim.SGD([v], momentum=0.5)), ("betas", lambda v: optim.Adam([v]))]:
        optimizer = make(Value(1.0))
        scheduler = lr_scheduler.OneCycleLR(
            optimizer, 1.0, 9, pct_start=3 / 9, anneal_strategy="linear", three_phase=True
        )
        seen = []
        for _ in range(9):
            momentum = optimizer.param_groups[0][name]
            seen.append(momentum[0] if name == "betas" else momentum)
            scheduler.step()
        assert seen == pytest.approx([0.95, 0.9, 0.85, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95])
    assert optimizer.param_groups[0]["betas"][1] == 0.999


def test_groups_have_their_own_rates():
    optimizer = optim.SGD([{"params": [Value(1.0)]}, {"params": [Value(2.0)], "lr": 4.0}], lr=1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5, 2.0]
    scheduler = lr_scheduler.LambdaLR(optimizer, [lambda _: 1.0, lambda epoch: 1.0 + epoch])
    scheduler.step()
    assert scheduler.get_last_lr() == [1.0, 8.0]
    cycle = lr_scheduler.OneCycleLR(optimizer, [1.0, 3.0], 10, cycle_momentum=False)
    assert cycle.get_last_lr() == pytest.approx([1 / 25, 3 / 25])


def test_schedulers_may_work_together():
    optimizer = sgd()
    halves, thirds = lr_scheduler.ExponentialLR(optimizer, 1 / 2), lr_scheduler.StepLR(optimizer, 2, 1 / 3)
    for scheduler in (halves, thirds) * 4:
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 16 / 9)
    optimizer.param_groups[0]["lr"] = 1.0  # by hand: what follows goes on from here
    assert rates(halves, 1) == [1.0, 0.5]


@pytest.mark.parametrize("name", SCHEDULES)
def test_scheduler_state_round_trip(name):
    """Two steps, states into new objects, the other steps: as if nothing had happened."""
    make, expected = SCHEDULES[name]
    optimizer = sgd()
    scheduler = make(optimizer)
    rates(scheduler, 2)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    optimizer = sgd()
    resumed = make(optimizer)
    optimizer.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert resumed.last_epoch == 2
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert rates(resumed, len(expected) - 3) == pytest.approx(expected[2:], rel=1e-12, abs=1e-12)
    assert json.loads(json.dumps(saved[1]))["last_epoch"] == 2, "plain containers"


@pytest.mark.parametrize("name", ["step", "multistep", "exponential", "constant", "linear", "cosine", "lambda"])
def test_last_epoch_resumes(name):
    make, expected = SCHEDULES[name]
    optimizer = sgd()
    rates(make(optimizer), 2)
    saved = optimizer.state_dict()
    optimizer = sgd()
    optimizer.load_state_dict(saved)
    classes = {
        "step": lambda: lr_scheduler.StepLR(optimizer, 2, 0.5, last_epoch=1),
        "multistep": lambda: lr_scheduler.MultiStepLR(optimizer, [1, 3, 3], 0.5, last_epoch=1),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, 0.5, last_epoch=1),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 0.25, 2, last_epoch=1),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 0.2, 1.0, 4, last_epoch=1),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, 4, 0.2, last_epoch=1),
        "lambda": lambda: lr_scheduler.LambdaLR(optimizer, lambda e: 1 / (1 + e), last_epoch=1),
    }
    resumed = classes[name]()
    assert (resumed.last_epoch, resumed.base_lrs) == (2, [1.0])
    assert rates(resumed, len(expected) - 3) == pytest.approx(expected[2:], rel=1e-12, abs=1e-12)


def test_a_scheduler_of_ones_own():
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [lr / 2**self.last_epoch for lr in self.base_lrs]

    assert rates(Halving(sgd()), 3) == [1.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (DTypeError, "StepLR: got a list, expected an optimizer", lambda o, s: s.StepLR([], 1)),
        (ArgumentError, "StepLR: step_size is 0, expected at least 1", lambda o, s: s.StepLR(o, 0)),
        (ArgumentError, "StepLR: gamma is -1, expected 0 or more", lambda o, s: s.StepLR(o, 1, -1)),
        (ArgumentError, "MultiStepLR: gamma is -1", lambda o, s: s.MultiStepLR(o, [1], -1)),
        (ArgumentError, "ExponentialLR: gamma is -1", lambda o, s: s.ExponentialLR(o, -1)),
        (ArgumentError, "ConstantLR: factor is 0, expected a number above 0", lambda o, s: s.ConstantLR(o, 0)),
        (ArgumentError, "ConstantLR: total_iters is 0", lambda o, s: s.ConstantLR(o, 0.5, 0)),
        (ArgumentError, "LinearLR: start_factor is 0", lambda o, s: s.LinearLR(o, 0)),
        (ArgumentError, "LinearLR: end_factor is 1.5", lambda o, s: s.LinearLR(o, 0.5, 1.5)),
        (ArgumentError, "LinearLR: total_iters is 0", lambda o, s: s.LinearLR(o, 0.5, total_iters=0)),
        (ArgumentError, "CosineAnnealingLR: T_max is 0", lambda o, s: s.CosineAnnealingLR(o, 0)),
        (ArgumentError, "CosineAnnealingLR: eta_min is -1", lambda o, s: s.CosineAnnealingLR(o, 5, -1)),
        (ArgumentError, "LambdaLR: lr_lambda is .*a list of 1", lambda o, s: s.LambdaLR(o, [abs, abs])),
        (ArgumentError, "OneCycleLR: got neither total_steps", lambda o, s: s.OneCycleLR(o, 1.0, epochs=3)),
        (ArgumentError, "OneCycleLR: total_steps is 0", lambda o, s: s.OneCycleLR(o, 1.0, 0)),
        (ArgumentError, "OneCycleLR: pct_start is 1.5", lambda o, s: s.OneCycleLR(o, 1.0, 10, pct_start=1.5)),
        (ArgumentError, "anneal_strategy is up, expected 'cos'",
         lambda o, s: s.OneCycleLR(o, 1.0, 10, anneal_strategy="up")),
        (ArgumentError, "OneCycleLR: div_factor is 0", lambda o, s: s.OneCycleLR(o, 1.0, 10, div_factor=0)),
        (ArgumentError, r"max_lr is \[1, 2\], expected one, or a list of 1", lambda o, s: s.OneCycleLR(o, [1, 2], 10)),
        (ArgumentError, "Adagrad has neither momentum nor betas; pass cycle_momentum=False",
         lambda o, s: s.OneCycleLR(optim.Adagrad([Value(1.0)]), 1.0, 10)),
        (ArgumentError, "got 1 schedulers and 1 milestones", lambda o, s: s.SequentialLR(o, [s.StepLR(o, 1)], [1])),
        (ArgumentError, "got 0 schedulers", lambda o, s: s.SequentialLR(o, [], [])),
        (DTypeError, "scheduler 0 is a SGD", lambda o, s: s.SequentialLR(o, [o], [])),
        (ArgumentError, "scheduler 0 has another optimizer", lambda o, s: s.SequentialLR(o, [s.StepLR(sgd(), 1)], [])),
        (ArgumentError, "got last_epoch 3, and a parameter group without 'initial_lr'",
         lambda o, s: s.StepLR(o, 1, last_epoch=3)),
    ],
)  # fmt: skip
def test_schedulers_refuse(error, message, make):
    with pytest.raises(error, match=message):
        make(sgd(), lr_scheduler)


def test_refusals_of_a_step_and_a_state():
    optimizer = sgd()
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1.0, 3)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ArgumentError, match="OneCycleLR: got step 4, expected at most total_steps 3"):
        scheduler.step()
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    before = scheduler.state_dict()
    with pytest.raises(ArgumentError, match=r"StepLR: got a state of .*T_max.*, expected .*gamma"):
        scheduler.load_state_dict(lr_scheduler.CosineAnnealingLR(optimizer, 5).state_dict())
    assert scheduler.state_dict() == before
    optimizer.add_param_group({"params": [Value(2.0)]})
    with pytest.raises(ArgumentError, match="the optimizer has 2 parameter groups, expected 1; make the scheduler"):
        scheduler.step()


# -- schedulers and recorded steps


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("scalars", [False, True])
def test_a_recorded_step_follows_its_scheduler(name, scalars):
    """The bits of eager steps, from one recording."""

    def train(wrap):
        tinyml.manual_seed(0)
        net = nn.MLP(2, [3, 1], "tanh") if scalars else nn.Linear(2, 1)
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        scheduler = SCHEDULES[name][0](optimizer)

        @wrap
        def step(a, b):
            y = net([a, b]) if scalars else net(tinyml.stack([a, b]))
            loss = (y - 1.0) ** 2
            loss = loss if scalars else loss.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        make = Value if scalars else tinyml.tensor
        losses = []
        for i in range(5):
            losses.append(float(step(make(0.3 * i), make(1.0 - i))))
            scheduler.step()
        return losses, {key: array.tolist() for key, array in net.state_dict().items()}, step

    *expected, _ = train(lambda step: step)
    *compiled, step = train(lambda step: tinyml.compile(step, strict=True))
    assert compiled == expected
    assert len(step.programs) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_fit_steps_a_scheduler_after_each_epoch(compiled):
    x = tinyml.tensor(np.arange(12.0, dtype=np.float32).reshape(6, 2) / 12)
    y = x.sum(1, keepdim=True).detach()

    def train(by_hand):
        tinyml.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        loader = tinyml.data.DataLoader(tinyml.data.TensorDataset(x, y), 2)
        seen = []
        if by_hand:
            for _ in range(4):
                for a, b in loader:
                    optimizer.zero_grad()
                    nn.MSELoss()(model(a), b).backward()
                    optimizer.step()
                scheduler.step()
                seen += scheduler.get_last_lr()
        else:
            fit(model, loader, nn.MSELoss(), optimizer, epochs=4, progress=False, compiled=compiled,
                scheduler=scheduler, callback=lambda _: seen.extend(scheduler.get_last_lr()))  # fmt: skip
        return seen, model.weight.tolist()

    seen, weights = train(by_hand=True)
    assert seen == [0.25, 0.125, 0.0625, 0.03125]
    assert train(by_hand=False) == (seen, weights)
