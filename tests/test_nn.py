"""Modules, losses, initialisers, optimizers and clipping, against PyTorch with the same weights, and on their own."""

import gc
import math

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn, optim
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


# -- Networks against PyTorch

ACTIVATIONS = {
    "relu": lambda t: t.nn.ReLU(),
    "leaky_relu": lambda t: t.nn.LeakyReLU(0.2),
    "tanh": lambda t: t.nn.Tanh(),
    "sigmoid": lambda t: t.nn.Sigmoid(),
    "softmax": lambda t: t.nn.Softmax(dim=-1),
}
LOSSES = {
    "mse": lambda t: t.nn.MSELoss(),
    "mse sum": lambda t: t.nn.MSELoss(reduction="sum"),
    "cross entropy": lambda t: t.nn.CrossEntropyLoss(),
    "smoothed": lambda t: t.nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1, reduction="sum"),
    "nll": lambda t: lambda x, y: t.nn.functional.nll_loss(t.nn.functional.log_softmax(x, dim=1), y),
}


def mlp(t, sizes, activation, dtype):
    layers = [t.nn.Flatten()]
    for i in range(len(sizes) - 1):
        bias = i % 3 < 2
        layers.append(t.nn.Linear(sizes[i], sizes[i + 1], bias=bias, dtype=getattr(t, dtype)))
        if i < len(sizes) - 2:
            layers.append(ACTIVATIONS[activation](t))
    return t.nn.Sequential(*layers)


def copy_weights(torch, ours, theirs):
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})


def close(ours, theirs, dtype):
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(initial=0), 1e-3))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_agrees_with_torch(torch, activation, loss, dtype):
    """Losses, gradients and weights over several steps of nets of random sizes."""
    seed = 7 * list(ACTIVATIONS).index(activation) + list(LOSSES).index(loss)
    rng = np.random.default_rng(seed)
    tinyml.manual_seed(seed)
    sizes = [12, *rng.integers(1, 40, rng.integers(1, 4)).tolist(), 5]
    ours, theirs = (mlp(t, sizes, activation, dtype) for t in (tinyml, torch))
    copy_weights(torch, ours, theirs)
    steps = [(optim.SGD(ours.parameters(), lr=0.05), LOSSES[loss](tinyml)),
             (torch.optim.SGD(theirs.parameters(), lr=0.05), LOSSES[loss](torch))]  # fmt: skip
    for _ in range(5):
        n = int(rng.integers(1, 20))
        x = rng.normal(size=(n, 3, 4)).astype(dtype)
        y = rng.normal(size=(n, 5)).astype(dtype) if "mse" in loss else rng.integers(0, 5, n)
        losses = []
        for t, net, (optimizer, criterion) in zip((tinyml, torch), (ours, theirs), steps, strict=True):
            optimizer.zero_grad()
            losses.append(criterion(net(t.tensor(x)), t.tensor(y)) * 0.1)
            losses[-1].backward()
            optimizer.step()
        close(*losses, dtype)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, dtype)
            close(p, q, dtype)


OPTIMIZERS = {
    "sgd": lambda o, p: o.SGD(p, lr=0.02),
    "sgd decay": lambda o, p: o.SGD(p, lr=0.02, weight_decay=0.1, maximize=True),
    "momentum": lambda o, p: o.SGD(p, lr=0.01, momentum=0.9),
    "dampening": lambda o, p: o.SGD(p, lr=0.01, momentum=0.8, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda o, p: o.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda o, p: o.Adam(p, lr=0.01),
    "adam decay": lambda o, p: o.Adam(p, 0.01, (0.8, 0.99), eps=1e-6, weight_decay=0.1, maximize=True),
    "adamw": lambda o, p: o.AdamW(p, lr=0.01),
    "adamw decay": lambda o, p: o.AdamW(p, lr=0.01, weight_decay=0.3),
    "amsgrad": lambda o, p: o.Adam(p, lr=0.05, betas=(0.8, 0.9), amsgrad=True),
    "adamw amsgrad": lambda o, p: o.AdamW(p, 0.05, weight_decay=0.2, amsgrad=True, maximize=True),
    "rmsprop": lambda o, p: o.RMSprop(p),
    "rmsprop momentum": lambda o, p: o.RMSprop(p, 0.002, 0.9, weight_decay=0.1, momentum=0.8, maximize=True),
    "rmsprop centered": lambda o, p: o.RMSprop(p, 0.002, eps=1e-3, centered=True),
    "rmsprop centered momentum": lambda o, p: o.RMSprop(p, 0.002, 0.9, 1e-3, momentum=0.5, centered=True),
    "adagrad": lambda o, p: o.Adagrad(p, lr=0.1),
    "adagrad decay": lambda o, p: o.Adagrad(p, 0.1, 0.01, 0.1, initial_accumulator_value=0.3, maximize=True),
    "groups": lambda o, p: o.Adam([{"params": p[:1], "lr": 0.001}, {"params": p[1:]}], lr=0.02),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_agree_with_torch(torch, name, dtype):
    """100 steps; the second parameter has no gradient in the first 30, a third never."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(dtype) for shape in [(5, 7), (40,), (2,), ()]]
    ours = [tinyml.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    optimizers = OPTIMIZERS[name](optim, ours), OPTIMIZERS[name](torch.optim, theirs)
    target = rng.normal(size=(40,)).astype(dtype)
    for step in range(100):
        for t, p, optimizer in zip((tinyml, torch), (ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss = ((p[0] - 0.5).tanh() ** 2).sum() * p[3]
            if step >= 30:
                loss = loss + ((p[1] - t.tensor(target)) ** 2).mean()
            loss.backward()
            optimizer.step()
        if step in (0, 1, 30, 31, 99):
            for a, b in zip(ours, theirs, strict=True):
                a, b = a.detach().numpy(), b.detach().numpy()
                np.testing.assert_allclose(a, b, rtol=100 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    np.testing.assert_array_equal(ours[2].detach().numpy(), start[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_and_tensors_are_optimized_alike(name):
    if name == "groups":
        pytest.skip("about several tensors")
    value, tensor = Value(1.5), tinyml.tensor([1.5], dtype="float64", requires_grad=True)
    for x in (value, tensor):
        optimizer = OPTIMIZERS[name](optim, [x])
        for _ in range(10):
            optimizer.zero_grad()
            ((x - 0.3) ** 2 + x.sin()).backward()
            optimizer.step()
    assert value.data != 1.5
    assert value.data == pytest.approx(tensor.item(), rel=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_round_trip(name):
    """Half the steps, state into a new optimizer, the other half: as if nothing had happened."""

    def steps(n, x, optimizer):
        for _ in range(n):
            optimizer.zero_grad()
            (x[0] ** 2 + (x[1] * 3).sin().sum()).backward()
            optimizer.step()

    def leaves(a, b):
        return [tinyml.tensor(z, dtype="float64", requires_grad=True) for z in (a, b)]

    whole = leaves(2.0, [1.0, 2.0])
    steps(10, whole, OPTIMIZERS[name](optim, whole))
    first = leaves(2.0, [1.0, 2.0])
    optimizer = OPTIMIZERS[name](optim, first)
    steps(5, first, optimizer)
    second = leaves(first[0].item(), first[1].tolist())
    resumed = OPTIMIZERS[name](optim, second)
    resumed.load_state_dict(optimizer.state_dict())
    steps(5, second, resumed)
    assert [x.tolist() for x in second] == [x.tolist() for x in whole]


def test_optimizer_state_that_does_not_fit_changes_nothing():
    x, y = (tinyml.ones(2, requires_grad=True) for _ in range(2))
    a, b = optim.Adam([x]), optim.Adam([x, y])
    x.sum().backward()
    a.step()
    before = str(a.state_dict())
    other = a.state_dict()
    other["state"][0]["exp_avg"] = np.zeros(3)
    negative = a.state_dict()
    negative["param_groups"][0]["lr"] = -1
    for bad, error in [(b.state_dict(), ArgumentError), (other, ShapeError), (negative, ArgumentError)]:
        with pytest.raises(error):
            a.load_state_dict(bad)
        assert str(a.state_dict()) == before


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_clip_grad_norm_agrees_with_torch(torch, max_norm, norm_type, dtype):
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in [(3, 4), (), (700,)]]
    ours, theirs = ([t.tensor(a, requires_grad=True) for a in arrays] for t in (tinyml, torch))
    for t, parameters in ((tinyml, ours), (torch, theirs)):
        sum((p * p.detach()).sum() for p in parameters).backward()
        parameters.append(t.ones(2, requires_grad=True))
    a = nn.utils.clip_grad_norm_(ours, max_norm, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert a.item() == pytest.approx(b.item(), rel=TOLERANCE[dtype])
    for p, q in zip(ours[:3], theirs[:3], strict=True):
        close(p.grad, q.grad, dtype)
    assert ours[3].grad is None


def test_clip_grad():
    v, t = Value(3.0), tinyml.tensor([4.0, math.nan], requires_grad=True)
    (v * 3 + (t * 2).sum()).backward()
    nn.utils.clip_grad_value_([v, t], 2.5)
    assert (v.grad, t.grad.tolist()) == (2.5, [2, 2])
    t.grad = [math.inf, 1.0]
    with pytest.raises(GraphError, match="clip_grad_norm_"):
        nn.utils.clip_grad_norm_([v, t], 1.0, error_if_nonfinite=True)
    assert t.grad.tolist() == [math.inf, 1]
    assert nn.utils.clip_grad_norm_([tinyml.ones(2)], 1.0).item() == 0
    w = Value(0.0)
    w.grad = 4.0
    assert nn.utils.clip_grad_norm_(w, 2.0).item() == 4
    assert w.grad == pytest.approx(2, rel=1e-6)


# -- Module


class Net(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter([2.0])
        self.body = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1, bias=False))
        self.heads = [nn.Linear(1, 1), nn.Tanh()]
        self.shift = Value(0.5)
        self.extras = (Value(1.0), "text", nn.Parameter([1.0, 2.0]))
        self.tied = self.body[0].weight
        self.note = "not a module"

    def forward(self, x):
        return self.heads[1](self.heads[0](self.body(x))) * self.scale + self.shift


NAMES = [
    "scale", "shift", "extras.0", "extras.2", "tied",
    "body.0.bias", "body.2.weight", "heads.0.weight", "heads.0.bias",
]  # fmt: skip


def test_named_parameters():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert len(net.parameters()) == len(NAMES)
    assert net.parameters()[4] is net.body[0].weight
    assert [name for name, _ in net.named_children()] == ["body", "heads.0", "heads.1"]
    assert [name for name, _ in net.named_modules()] == [
        "", "body", "body.0", "body.1", "body.2", "heads.0", "heads.1"
    ]  # fmt: skip
    assert len(list(net.modules())) == 7
    assert next(net.children()) is net.body
    plain = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    assert [name for name, _ in plain.named_parameters()] == ["0.weight", "0.bias", "2.weight"]


def test_train_and_eval():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    x = tinyml.ones(4, 2)
    assert net(x).tolist() == net(x).tolist()
    assert net.train() is net
    assert all(module.training for module in net.modules())
    drop = nn.Dropout(0.5)
    assert set(drop(tinyml.ones(1000)).tolist()) == {0.0, 2.0}
    assert drop.eval()(x) is x


def test_zero_grad_and_requires_grad():
    net = Net().eval()
    net(tinyml.ones(1, 2)).sum().backward()
    assert net.scale.grad is not None
    assert net.shift.grad == 1
    net.zero_grad()
    assert net.scale.grad is None
    assert net.shift.grad == 0
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())
    assert not net(tinyml.ones(1, 2)).requires_grad


def test_state_dict_round_trip():
    a, b = Net(), Net()
    state = a.state_dict()
    assert list(state) == [*NAMES[:5], "body.0.weight", *NAMES[5:]]  # what is shared, under both names
    assert all(type(array) is np.ndarray for array in state.values())
    memory = b.scale.detach().numpy()
    a.scale.data = [7.0]
    a.shift.data = 7.0
    assert state["scale"].tolist() == [2]  # a copy
    b.load_state_dict(a.state_dict())
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert float(p.data) == float(q.data) if isinstance(p, Value) else p.tolist() == q.tolist()
    assert memory.tolist() == [7]
    as_tensors = {name: tinyml.tensor(array) for name, array in state.items()}
    b.load_state_dict(as_tensors)
    assert b.scale.tolist() == [2]
    assert b.scale.requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": None}, ArgumentError, r"missing \['scale'\], unexpected \[\]"),
        ({"more": np.zeros(1)}, ArgumentError, r"missing \[\], unexpected \['more'\]"),
        ({"heads.0.bias": np.zeros(2)}, ShapeError, r"heads\.0\.bias has shape \(2,\), expected \(1,\)"),
        ({"shift": np.zeros(1)}, ShapeError, r"shift has shape \(1,\), expected \(\)"),
        ({"heads.0.bias": np.array(["a"])}, DTypeError, r"heads\.0\.bias is <U1, expected numbers"),
        ({"heads.0.bias": np.array([1j])}, DTypeError, r"heads\.0\.bias is complex128"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, error, message):
    net, other = Net(), Net()
    for p in other.parameters():
        p.data = 9.0 if isinstance(p, Value) else np.full(p.shape, 9, np.float32)
    state = {name: array for name, array in (other.state_dict() | change).items() if array is not None}
    before = {name: array.tolist() for name, array in net.state_dict().items()}
    with pytest.raises(error, match="load_state_dict: .*" + message):
        net.load_state_dict(state)
    assert {name: array.tolist() for name, array in net.state_dict().items()} == before


def test_conversion_of_a_module():
    net = Net()
    net.requires_grad_(False)
    assert net.double() is net
    assert {p.dtype.name for p in net.parameters() if not isinstance(p, Value)} == {"float64"}
    assert not any(p.requires_grad for p in net.parameters())
    assert net.tied is net.body[0].weight  # what was one is still one
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert net(tinyml.ones(1, 2, dtype="float64")).dtype is tinyml.float64
    assert net.float().scale.dtype is tinyml.float32


def test_repr():
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Softmax(1)), nn.Flatten())) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Softmax(dim=1)\n"
        "  )\n"
        "  (2): Flatten(start_dim=1, end_dim=-1)\n"
        ")"
    )
    assert repr(nn.LeakyReLU(0.1)) == "LeakyReLU(negative_slope=0.1)"
    assert repr(nn.Dropout()) == "Dropout(p=0.5)"
    assert repr(nn.Sequential()) == "Sequential()"


def test_repr_agrees_with_torch(torch):
    def net(t):
        return t.nn.Sequential(t.nn.Linear(2, 3), t.nn.Tanh(), t.nn.Sequential(t.nn.Sigmoid(), t.nn.Flatten()))

    assert repr(net(tinyml)) == repr(net(torch))


def test_sequential():
    a, b = nn.Linear(2, 3), nn.ReLU()
    net = nn.Sequential(a, b)
    assert len(net) == 2
    assert list(net) == [a, b]
    assert net[0] is a
    assert net[-1] is b
    assert nn.Sequential()(5) == 5


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match=r"Module\.forward"):
        nn.Module()(1)


def test_a_parameter_shares_the_memory_of_its_tensor():
    t = tinyml.zeros(2)
    p = nn.Parameter(t)
    t[0] = 3.0
    assert p.tolist() == [3, 0]
    assert p.requires_grad
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    assert type(p * 2) is tinyml.Tensor


# -- Initialisers


def drawn(initialise, *shape):
    tinyml.manual_seed(0)
    x = tinyml.zeros(shape, requires_grad=True)
    assert initialise(x) is x
    return x.detach().numpy().astype(np.float64)


SHAPE = (300, 200)
BOUNDS = {
    "uniform": (lambda x: nn.init.uniform_(x, -2, 2), 2.0),
    "xavier": (nn.init.xavier_uniform_, math.sqrt(6 / 500)),
    "xavier gain": (lambda x: nn.init.xavier_uniform_(x, 2.0), 2 * math.sqrt(6 / 500)),
    "kaiming": (nn.init.kaiming_uniform_, math.sqrt(6 / 200)),
    "kaiming fan_out": (lambda x: nn.init.kaiming_uniform_(x, mode="fan_out"), math.sqrt(6 / 300)),
    "kaiming slope": (lambda x: nn.init.kaiming_uniform_(x, a=math.sqrt(5)), math.sqrt(1 / 200)),
    "kaiming tanh": (lambda x: nn.init.kaiming_uniform_(x, nonlinearity="tanh"), 5 / 3 * math.sqrt(3 / 200)),
}
DEVIATIONS = {
    "normal": (lambda x: nn.init.normal_(x, 0, 3), 3.0),
    "xavier": (nn.init.xavier_normal_, math.sqrt(2 / 500)),
    "kaiming": (lambda x: nn.init.kaiming_normal_(x, nonlinearity="relu"), math.sqrt(2 / 200)),
    "kaiming fan_out": (lambda x: nn.init.kaiming_normal_(x, mode="fan_out"), math.sqrt(2 / 300)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_uniform_initialisers(name):
    initialise, bound = BOUNDS[name]
    x = drawn(initialise, *SHAPE)
    assert 0.999 * bound < np.abs(x).max() <= bound * (1 + 1e-6)
    assert abs(x.mean()) < 0.02 * bound
    assert x.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_normal_initialisers(name):
    initialise, deviation = DEVIATIONS[name]
    x = drawn(initialise, *SHAPE)
    assert x.std() == pytest.approx(deviation, rel=0.01)
    assert abs(x.mean()) < 0.02 * deviation
    assert (np.abs(x) < deviation).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
def test_constant_initialisers(shape):
    assert (drawn(nn.init.ones_, *shape) == 1).all()
    assert (drawn(lambda x: nn.init.constant_(x, 2.5), *shape) == 2.5).all()
    assert (drawn(lambda x: nn.init.zeros_(nn.init.ones_(x)), *shape) == 0).all()


def test_initialisers_keep_the_memory_and_the_dtype():
    x = tinyml.zeros(3, dtype="float64")
    memory = x.numpy()
    nn.init.uniform_(x, 1, 2)
    assert (memory >= 1).all()
    assert x.dtype is tinyml.float64


def test_linear_starts_within_its_bounds():
    tinyml.manual_seed(0)
    layer = nn.Linear(100, 2000)
    for p in layer.parameters():
        assert 0.099 < p.detach().abs().amax().item() <= 0.1
        assert p.detach().double().std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)
    assert layer.weight.shape == (2000, 100)
    empty = nn.Linear(0, 2)
    assert empty(tinyml.zeros(3, 0)).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(3, 4), lambda: nn.MLP(3, [4, 1]), lambda: nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))],
)
def test_seeds_are_reproducible(make):
    def numbers():
        return {name: array.tolist() for name, array in make().state_dict().items()}

    tinyml.manual_seed(5)
    first = numbers()
    assert numbers() != first
    tinyml.manual_seed(5)
    assert numbers() == first


# -- Networks of Values


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_mlp_of_values_agrees_with_linear(activation, output):
    """The same weights in both, gradients of weights and inputs."""
    tinyml.manual_seed(1)
    sizes = [3, 5, 4, 2]
    scalars = nn.MLP(sizes[0], sizes[1:], activation=activation, output=output)
    layers = [nn.Linear(sizes[i], sizes[i + 1], dtype="float64") for i in range(3)]
    for layer, values in zip(layers, scalars.layers, strict=True):
        for neuron in values.neurons:
            neuron.b.data = tinyml._random.generator().normal()
        layer.weight.data = np.array([[w.data for w in neuron.w] for neuron in values.neurons])
        layer.bias.data = np.array([neuron.b.data for neuron in values.neurons])
    apply = lambda name, x: x if name == "linear" else getattr(x, name)()  # noqa: E731
    numbers = [0.3, -1.2, 2.0]
    xs, x = [Value(n) for n in numbers], tinyml.tensor(numbers, dtype="float64", requires_grad=True)
    ys, y = scalars(xs), x
    for i, layer in enumerate(layers):
        y = apply(output if i == 2 else activation, layer(y))
    assert [v.data for v in ys] == pytest.approx(y.tolist(), rel=1e-12)
    (ys[0] * 2 - ys[1] ** 2).backward()
    (y[0] * 2 - y[1] ** 2).backward()
    assert [v.grad for v in xs] == pytest.approx(x.grad.tolist(), rel=1e-10, abs=1e-14)
    for layer, values in zip(layers, scalars.layers, strict=True):
        weights = [[w.grad for w in neuron.w] for neuron in values.neurons]
        np.testing.assert_allclose(weights, layer.weight.grad.numpy(), rtol=1e-10, atol=1e-14)
        biases = [neuron.b.grad for neuron in values.neurons]
        np.testing.assert_allclose(biases, layer.bias.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("nin", "nouts", "count"), [(2, [4, 1], 17), (3, [4, 4, 1], 41), (2, [16, 16, 1], 337)])
def test_parameters_of_mlp(nin, nouts, count):
    net = nn.MLP(nin, nouts)
    assert len(net.parameters()) == count
    assert all(-1 <= p.data < 1 for p in net.parameters())
    assert len([p for p in net.parameters() if p.data == 0]) == sum(nouts)
    assert next(net.named_parameters())[0] == "layers.0.neurons.0.w.0"


def test_what_mlp_gives_and_takes():
    assert type(nn.MLP(2, [3, 1])([1.0, Value(2.0)])) is Value
    assert [type(y) for y in nn.MLP(2, [3, 2])([1, 2])] == [Value, Value]
    assert type(nn.MLP(1, [1, 1])([np.float64(1.0)])) is Value
    assert type(nn.MLP(2, [1, 3, 1])(np.array([1.0, 2.0]))) is Value
    for bad in ([1.0], [1.0] * 3, []):
        with pytest.raises(ShapeError, match=f"{len(bad)} inputs"):
            nn.MLP(2, [3, 1])(bad)


def test_nodes_of_an_mlp():
    net, x = nn.MLP(2, [4, 1]), [Value(1.0), Value(2.0)]
    gc.collect()
    before = tinyml.live_nodes()
    y = net(x)
    assert tinyml.live_nodes() - before == 5  # one per neuron
    y.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_repr_of_networks_of_values():
    assert repr(nn.MLP(2, [2, 1])) == "MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]"
    assert repr(nn.Neuron(3, nonlin=False)) == "LinearNeuron(3)"
    assert repr(nn.Layer(1, 2, activation="sigmoid")) == "Layer of [SigmoidNeuron(1), SigmoidNeuron(1)]"


def test_xor_is_learnt_by_values():
    tinyml.manual_seed(3)
    net = nn.MLP(2, [4, 1], activation="tanh")
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    samples = [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((1, 1), 0)]
    for _ in range(300):
        loss = tinyml.sum([(net(x) - y) ** 2 for x, y in samples])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.data < 1e-2
