"""Buffers, containers, and states that go back and forth between PyTorch and here."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn
from tinyml.errors import ArgumentError, AxisError, DTypeError, ShapeError


class Counter(nn.Module):
    """Calls so far, and the sum of all that was seen, scaled."""

    def __init__(self) -> None:
        self.register_buffer("seen", tinyml.zeros(2))
        self.scale = nn.Parameter([2.0])
        self.register_buffer("calls", tinyml.tensor(0))
        self.register_buffer("mask", tinyml.tensor([1.0, 0.0]), persistent=False)
        self.register_buffer("unset", None)
        self.constant = tinyml.ones(2)  # neither parameter nor buffer

    def forward(self, x: tinyml.Tensor) -> tinyml.Tensor:
        with tinyml.no_grad():
            self.seen.data = self.seen + x
            self.calls.data = self.calls + 1
        return self.seen * self.mask * self.scale


# -- Buffers


def test_buffers_are_state_but_no_parameters() -> None:
    net = nn.Sequential(Counter(), nn.Tanh(), Counter())
    assert [name for name, _ in net.named_parameters()] == ["0.scale", "2.scale"]
    names = [f"{i}.{name}" for i in (0, 2) for name in ("seen", "calls", "mask")]
    assert [name for name, _ in net.named_buffers()] == names
    assert [id(b) for b in net[0].buffers()] == [id(b) for b in (net[0].seen, net[0].calls, net[0].mask)]
    state = [f"{i}.{name}" for i in (0, 2) for name in ("scale", "seen", "calls")]
    assert list(net.state_dict()) == state


def test_buffers_are_saved_and_loaded() -> None:
    a, b = Counter(), Counter()
    a(tinyml.tensor([1.0, 2.0]))
    saved = a.state_dict()
    a(tinyml.tensor([1.0, 2.0]))
    assert (saved["seen"].tolist(), saved["calls"].item(), saved["calls"].dtype) == ([1, 2], 1, np.int64)  # a copy
    memory = b.seen.numpy()
    b.load_state_dict(saved)
    assert (memory.tolist(), b.calls.item()) == ([1, 2], 1)
    with pytest.raises(ShapeError, match=r"load_state_dict: calls has shape \(1,\), expected \(\)"):
        b.load_state_dict(saved | {"calls": np.zeros(1), "seen": np.full(2, 9)})
    assert b.seen.tolist() == [1, 2]
    with pytest.raises(ArgumentError, match=r"missing \['calls', 'seen'\], unexpected \['mask'\]"):
        b.load_state_dict({"scale": np.zeros(1), "mask": np.zeros(2)})


def test_conversion_takes_buffers_of_floats_along() -> None:
    net = Counter()
    shared = nn.Sequential(net, Counter())
    shared[1].seen = net.seen
    shared.double()
    assert [buffer.dtype.name for buffer in shared.buffers()] == ["float64", "int64", "float64", "int64", "float64"]
    assert shared[1].seen is net.seen
    assert net.constant.dtype is tinyml.float32
    assert not any(buffer.requires_grad for buffer in shared.buffers())
    assert net(tinyml.ones(2, dtype="float64")).dtype is tinyml.float64
    assert net.float().seen.dtype is tinyml.float32


def test_a_buffer_may_be_set_later_or_replaced() -> None:
    net = Counter()
    net.unset = tinyml.ones(1)
    net.seen = tinyml.zeros(3)
    assert [name for name, _ in net.named_buffers()] == ["seen", "calls", "mask", "unset"]
    assert net.state_dict()["seen"].shape == (3,)
    net.register_buffer("mask", tinyml.zeros(2))  # persistent from now on
    assert list(net.state_dict()) == ["scale", "seen", "calls", "mask", "unset"]
    del net.seen
    assert [name for name, _ in net.named_buffers()] == ["calls", "mask", "unset"]


def test_changes_of_buffers_are_replayed() -> None:
    eager, net = Counter(), Counter()
    step = tinyml.compile(net)
    for i in range(4):
        x = tinyml.tensor([0.1 * i, 1.0])
        assert step(x).tolist() == eager(x).tolist()
    assert len(step.programs) == 1
    assert (net.seen.tolist(), net.calls.item()) == (eager.seen.tolist(), 4)
    net.seen = tinyml.zeros(2)  # another tensor: recorded anew
    assert step(tinyml.ones(2)).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("register", "error", "message"),
    [
        (lambda m: m.register_buffer("scale", tinyml.zeros(1)), ArgumentError, "Counter has an attribute 'scale'"),
        (lambda m: m.register_buffer("a.b", tinyml.zeros(1)), ArgumentError, "'a.b', expected a word without dots"),
        (lambda m: m.register_buffer("", tinyml.zeros(1)), ArgumentError, "name ''"),
        (lambda m: m.register_buffer("x", [1.0]), DTypeError, "got list for 'x', expected a Tensor or None"),
        (lambda m: m.register_parameter("seen", nn.Parameter([1.0])), ArgumentError, "an attribute 'seen'"),
        (lambda m: m.register_parameter("x", tinyml.zeros(1)), DTypeError, "got Tensor for 'x', expected an nn.Param"),
        (lambda m: m.add_module("forward", nn.Tanh()), ArgumentError, "an attribute 'forward' already"),
        (lambda m: m.add_module("x", "tanh"), DTypeError, "got str for 'x', expected a Module"),
    ],
)
def test_what_cannot_be_registered(register: Any, error: type[Exception], message: str) -> None:
    net = Counter()
    before = list(vars(net))
    with pytest.raises(error, match=message):
        register(net)
    assert list(vars(net)) == before


def test_registering_is_assigning() -> None:
    net = nn.Module()
    net.register_parameter("weight", nn.Parameter([1.0]))
    net.register_parameter("value", Value(2.0))
    net.register_parameter("bias", None)
    net.register_module("0", nn.Linear(1, 1))
    net.add_module("0", nn.Linear(2, 1, bias=False))
    assert list(net.state_dict()) == ["weight", "value", "0.weight"]
    net.register_parameter("bias", nn.Parameter([0.0]))  # None kept its place
    assert list(net.state_dict()) == ["weight", "value", "bias", "0.weight"]


# -- The whole module


def test_apply_goes_from_the_inside_out() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Tanh()))
    met: list[nn.Module] = []
    assert net.apply(met.append) is net
    assert met == [net[0], net[1][0], net[1], net]


def test_num_parameters() -> None:
    assert nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Counter()).num_parameters() == 17
    assert nn.MLP(2, [16, 16, 1]).num_parameters() == 337
    assert nn.MLP(2, [16, 16, 1]).layers[0].neurons[3].num_parameters() == 3
    assert nn.Identity().num_parameters() == 0


def test_zero_grad_of_a_part() -> None:
    net = nn.MLP(2, [3, 1])
    net([1.0, 2.0]).backward()
    net.layers[0].zero_grad()
    assert {p.grad for p in net.layers[0].parameters()} == {0}
    assert net.layers[1].neurons[0].b.grad == 1


def test_zero_grad_to_zeros() -> None:
    net = nn.Linear(2, 1)
    net.zero_grad(set_to_none=False)
    assert net.weight.grad is None
    net(tinyml.tensor([np.nan, 1.0])).backward()
    net.zero_grad(set_to_none=False)
    assert (net.weight.grad.tolist(), net.bias.grad.tolist()) == ([[0, 0]], [0])
    net.zero_grad()
    assert net.weight.grad is None


def test_modules_are_listed_once() -> None:
    shared = nn.Linear(1, 1)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]
    assert [name for name, _ in net.named_modules(remove_duplicate=False)] == ["", "0", "1", "2"]
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


# -- States from and for PyTorch


def everything(t: Any) -> Any:
    """Shared and nested modules and lists, buffers and parameters, in an order that is not alphabetical."""

    class Net(t.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.z = t.nn.Linear(2, 3)
            self.register_buffer("steps", t.tensor(3))
            self.scale = t.nn.Parameter(t.ones(2))
            self.register_buffer("hidden", t.zeros(2), persistent=False)
            self.blocks = t.nn.ModuleList([t.nn.Sequential(t.nn.Linear(3, 3), t.nn.BatchNorm1d(3)) for _ in range(2)])
            self.heads = t.nn.ModuleDict({"b": t.nn.Linear(3, 1, bias=False), "a": t.nn.BatchNorm2d(4, affine=False)})
            self.tied = t.nn.Linear(2, 3)
            self.tied.weight = self.z.weight
            self.again = self.z
            self.norm = t.nn.LayerNorm((3, 2))
            self.named = t.nn.Sequential(OrderedDict([("first", t.nn.GroupNorm(2, 4)), ("second", t.nn.Tanh())]))
            self.plain = t.nn.BatchNorm1d(2, track_running_stats=False)

    return Net()


def test_states_are_interchangeable_with_torch(torch: Any) -> None:
    ours, theirs = everything(tinyml), everything(torch)
    expected = theirs.state_dict()
    state = ours.state_dict()
    assert list(state) == list(expected)
    assert [a.shape for a in state.values()] == [tuple(b.shape) for b in expected.values()]
    assert [str(a.dtype) for a in state.values()] == [str(b.dtype).removeprefix("torch.") for b in expected.values()]
    rng = np.random.default_rng(0)
    numbers = {name: np.asarray(rng.uniform(0, 9, a.shape)).astype(a.dtype) for name, a in state.items()}
    for tied in ("tied.weight", "again.weight", "again.bias"):
        numbers[tied] = numbers[tied.replace("tied", "z").replace("again", "z")]
    theirs.load_state_dict({name: torch.tensor(array) for name, array in numbers.items()})
    ours.load_state_dict(theirs.state_dict())
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, numbers[name])
    fresh = everything(torch)
    fresh.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in ours.state_dict().items()})
    for name, tensor in fresh.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), numbers[name])


def test_names_agree_with_torch(torch: Any) -> None:
    ours, theirs = everything(tinyml), everything(torch)
    for listed in ("named_parameters", "named_buffers", "named_modules"):
        assert [name for name, _ in getattr(ours, listed)()] == [name for name, _ in getattr(theirs, listed)()]


def test_states_go_through_safetensors(tmp_path: Any) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    ours, other = everything(tinyml), everything(tinyml)
    ours.steps.data = 7
    numpy_files.save_file(ours.state_dict(), str(tmp_path / "net.safetensors"))
    other.load_state_dict(numpy_files.load_file(str(tmp_path / "net.safetensors")))
    assert other.steps.item() == 7
    assert other.z.weight.tolist() == ours.z.weight.tolist()


# -- Containers


def linears(t: Any, n: int) -> list[Any]:
    return [t.nn.Linear(i + 1, i + 2) for i in range(n)]


def sizes(container: Any) -> list[tuple[str, int]]:
    return [(name, module.in_features) for name, module in container.named_children()]


EDITS = {
    "append": lambda t, c: c.append(t.nn.Linear(9, 9)),
    "extend": lambda t, c: c.extend(linears(t, 2)),
    "insert": lambda t, c: c.insert(1, t.nn.Linear(9, 9)),
    "insert at the end": lambda t, c: c.insert(4, t.nn.Linear(9, 9)),
    "replace": lambda t, c: c.__setitem__(-1, t.nn.Linear(9, 9)),
    "delete": lambda t, c: c.__delitem__(1),
    "delete some": lambda t, c: c.__delitem__(slice(0, 3, 2)),
    "pop": lambda t, c: c.pop(0),
    "slice": lambda t, c: c[1:3],
    "slice backwards": lambda t, c: c[::-1],
    "empty": lambda t, c: c[4:],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
def test_lists_of_modules_agree_with_torch(torch: Any, kind: str, edit: str) -> None:
    both = []
    for t in (tinyml, torch):
        modules = linears(t, 4)
        container = t.nn.Sequential(*modules) if kind == "Sequential" else t.nn.ModuleList(modules)
        result = EDITS[edit](t, container)
        seen = sizes(result) if result is not container and isinstance(result, type(container)) else None
        both.append((sizes(container), seen, len(container), [module.in_features for module in container]))
    assert both[0] == both[1]


def test_what_lists_of_modules_give() -> None:
    modules = linears(tinyml, 3)
    layers = nn.ModuleList(modules)
    assert [layers[0], layers[-1]] == [modules[0], modules[2]]
    assert layers[1:][0] is modules[1]
    assert layers.pop() is modules[2]
    assert list(layers) == modules[:2]
    assert layers.append(modules[2]) is layers
    for index in (3, -4):
        with pytest.raises(AxisError, match=f"ModuleList: index {index} is out of range for 3 modules"):
            layers[index]
    with pytest.raises(DTypeError, match="got str for '3', expected a Module"):
        layers.append("tanh")  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=r"ModuleList\.forward"):
        layers(1)
    assert repr(nn.ModuleList([nn.Tanh()])) == "ModuleList(\n  (0): Tanh()\n)"


def test_sequential_by_names() -> None:
    hidden = nn.Linear(2, 3)
    net = nn.Sequential(OrderedDict(hidden=hidden, squash=nn.Tanh()))
    assert net.hidden is hidden
    assert list(net[:1].state_dict()) == ["hidden.weight", "hidden.bias"]
    assert net(tinyml.ones(1, 2)).tolist() == hidden(tinyml.ones(1, 2)).tanh().tolist()


def test_replacing_a_module_of_a_list_records_anew() -> None:
    net = nn.Sequential(nn.Tanh(), nn.Tanh())
    step = tinyml.compile(net)
    x = tinyml.tensor([0.5])
    step(x)
    net[1] = nn.ReLU()
    assert step(x).tolist() == x.tanh().tolist()
    net.append(nn.Sigmoid())
    assert step(x).tolist() == x.tanh().sigmoid().tolist()
    del net[0]
    assert step(x).tolist() == x.sigmoid().tolist()


def test_module_dict() -> None:
    a, b = nn.Linear(1, 2), nn.Linear(2, 1)
    heads = nn.ModuleDict({"b": b, "a": a})
    assert (list(heads), list(heads.keys()), len(heads)) == (["b", "a"], ["b", "a"], 2)
    assert list(heads.items()) == [("b", b), ("a", a)]
    assert list(heads.values()) == [b, a]
    assert "a" in heads
    assert "c" not in heads
    assert "training" not in heads
    assert heads["a"] is a
    assert list(heads.state_dict()) == ["b.weight", "b.bias", "a.weight", "a.bias"]
    heads["c"] = nn.Tanh()
    heads.update([("a", b), ("d", a)])
    assert list(heads) == ["b", "a", "c", "d"]
    assert heads.pop("b") is b
    del heads["c"]
    assert list(heads) == ["a", "d"]
    for missing in ("b", "training"):
        with pytest.raises(ArgumentError, match=f"ModuleDict: got '{missing}', expected one of: a, d"):
            heads[missing]
    for taken in ("keys", "a.b"):
        with pytest.raises(ArgumentError, match="add_module"):
            heads[taken] = a
    heads.clear()
    assert len(heads) == 0
    assert len(nn.ModuleDict()) == 0


def test_identity_and_unflatten(torch: Any) -> None:
    x = tinyml.ones(2, 6)
    assert nn.Identity(3, anything=1)(x) is x
    for dim, extents in [(1, (2, 3)), (-1, (3, -1)), (0, (1, 2))]:
        ours, theirs = nn.Unflatten(dim, extents), torch.nn.Unflatten(dim, extents)
        assert ours(x).shape == tuple(theirs(torch.ones(2, 6)).shape)
        assert repr(ours) == repr(theirs)
    with pytest.raises(AxisError, match="Unflatten: dimension 2"):
        nn.Unflatten(2, (1, 2))(x)
    with pytest.raises(ShapeError):
        nn.Unflatten(1, (2, 2))(x)
    with pytest.raises(DTypeError, match="Unflatten: got unflattened_size 6"):
        nn.Unflatten(1, 6)  # type: ignore[arg-type]
