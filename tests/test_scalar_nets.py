"""Neuron, Layer and MLP over Values: activations by name, seeds, inputs of every kind, and graphs to look at."""

import gc

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn
from tinyml.errors import ArgumentError, DTypeError, ShapeError

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
}


def weights(module):
    return [p.data for p in module.parameters()]


def nodes_of(y):
    """The nodes of a graph."""
    found, todo = [], [y]
    while todo:
        node = todo.pop()
        if node not in found:
            found.append(node)
            todo += node._prev
    return found


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_neuron_by_hand(activation, expand, sign):
    neuron = nn.Neuron(3, activation=activation, seed=1, expand=expand)
    neuron.b.data = 0.3 * sign
    w, x = [each.data for each in neuron.w], [0.5 * sign, -1.5, 0.25]
    x[1] = sign * (2.0 if w[1] > 0 else -2.0)  # large enough to decide on the side of the kink
    total = sum(a * b for a, b in zip(w, x, strict=True)) + neuron.b.data
    assert total * sign > 0
    inputs = [Value(each) for each in x]
    y = neuron(inputs)
    f = ACTIVATIONS[activation]
    assert y.data == pytest.approx(f(total), rel=1e-14)
    y.backward()
    slope = (f(total + 1e-6) - f(total - 1e-6)) / 2e-6
    assert neuron.b.grad == pytest.approx(slope, rel=1e-7, abs=1e-12)
    assert [each.grad for each in neuron.w] == pytest.approx([slope * each for each in x], rel=1e-7, abs=1e-12)
    assert [each.grad for each in inputs] == pytest.approx([slope * each for each in w], rel=1e-7, abs=1e-12)


def test_names_of_activations():
    assert nn.Neuron(1).activation == "relu"
    for name in (None, "none", "linear"):
        assert nn.Neuron(1, activation=name).activation == "linear"
        assert (
            repr(nn.MLP(1, [1, 1], "tanh", output=name))
            == "MLP of [Layer of [TanhNeuron(1)], Layer of [LinearNeuron(1)]]"
        )
    assert repr(nn.MLP(2, [2, 1])) == "MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]"
    assert repr(nn.Layer(1, 1, activation="leaky_relu")) == "Layer of [LeakyReLUNeuron(1)]"
    assert repr(nn.Layer(1, 1, False)) == "Layer of [LinearNeuron(1)]"
    every = "linear, relu, tanh, sigmoid, leaky_relu, none"
    for make in (
        lambda: nn.Neuron(1, activation="gelu"),
        lambda: nn.Layer(1, 1, activation="gelu"),
        lambda: nn.MLP(1, [1, 1], activation="gelu"),
        lambda: nn.MLP(1, [1, 1], output="gelu"),
    ):
        with pytest.raises(ArgumentError, match=f"got activation 'gelu', expected one of {every}"):
            make()


MAKERS = {
    "neuron": lambda **options: nn.Neuron(3, **options),
    "layer": lambda **options: nn.Layer(3, 4, **options),
    "mlp": lambda **options: nn.MLP(3, [4, 2], **options),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_seeds(make):
    first = weights(make(seed=7))
    tinyml.manual_seed(1)
    expected = tinyml.rand(1).item()
    tinyml.manual_seed(1)
    assert weights(make(seed=7)) == first
    assert tinyml.rand(1).item() == expected, "a seed leaves the global generator alone"
    assert weights(make(seed=8)) != first
    tinyml.manual_seed(1)
    free = weights(make())
    assert weights(make()) != free
    tinyml.manual_seed(1)
    assert weights(make()) == free
    generator = np.random.default_rng(7)
    assert weights(make(seed=generator)) == first
    assert weights(make(seed=generator)) != first, "it draws on"
    drawn = [w for w in first if w]
    assert len(set(drawn)) == len(drawn), "no two weights share their number"
    assert all(-1 <= w < 1 for w in drawn)


def test_parameters_come_as_weights_then_bias():
    net = nn.MLP(2, [3, 1], seed=0)
    neurons = [neuron for layer in net.layers for neuron in layer.neurons]
    nodes = [node for neuron in neurons for node in (*neuron.w, neuron.b)]
    assert len(nodes) == 13
    assert all(a is b for a, b in zip(net.parameters(), nodes, strict=True))
    assert net.layers[0].neurons[0].parameters()[-1] is net.layers[0].neurons[0].b
    assert sum(p.data == 0 for p in nodes) == 4, "the biases start at 0"


@pytest.mark.parametrize("part", ["net", "layer", "neuron"])
def test_zero_grad_of_a_part(part):
    net = nn.MLP(2, [3, 1], activation="tanh", seed=0)
    net([1.0, 2.0]).backward()
    assert all(p.grad for p in net.parameters())
    module = {"net": net, "layer": net.layers[0], "neuron": net.layers[0].neurons[1]}[part]
    module.zero_grad()
    cleared = module.parameters()
    assert all((p.grad == 0) == (p in cleared) for p in net.parameters())


@pytest.mark.parametrize("expand", [False, True])
def test_inputs_of_every_kind(expand):
    net = nn.MLP(2, [3, 1], activation="leaky_relu", seed=4)
    expected = net([1.0, -2.0]).data
    rows = np.array([[1, -2], [3, 4]])
    for x in (
        (1, -2),
        [Value(1.0), -2],
        rows[0],
        rows.astype(np.float32)[0],
        rows.astype(np.float64).T[:, 0],
        [np.int64(1), np.float32(-2)],
        [True, Value(-2.0)],
        tinyml.tensor([1.0, -2.0]),
        tinyml.tensor([1.0, -2.0], dtype="float64"),
    ):
        assert float(net(x, expand=expand)) == pytest.approx(expected, rel=1e-12)
    one = nn.MLP(1, [2, 1], seed=4)
    expected = one([0.5]).data
    for x in (0.5, Value(0.5), np.float64(0.5), tinyml.tensor(0.5)):
        assert float(one(x, expand=expand)) == pytest.approx(expected, rel=1e-12)
    lanes = net([tinyml.tensor([1.0, 0.0]), tinyml.tensor([-2.0, 0.0])], expand=expand)
    assert lanes.shape == (2,)
    assert lanes[0].item() == pytest.approx(net([1.0, -2.0]).data, rel=1e-6)


def test_gradients_reach_the_inputs():
    net, x = nn.MLP(2, [3, 1], activation="tanh", seed=4), tinyml.tensor([1.0, -2.0], requires_grad=True)
    net(x).backward()
    values = [Value(1.0), Value(-2.0)]
    net(values).backward()
    assert x.grad.tolist() == pytest.approx([v.grad for v in values], rel=1e-6)


def test_outputs():
    assert type(nn.Layer(2, 1)([1.0, 2.0])) is Value
    assert [type(y) for y in nn.Layer(2, 3)([1.0, 2.0])] == [Value] * 3
    assert type(nn.MLP(2, [4, 1])([1.0, 2.0])) is Value
    assert [type(y) for y in nn.MLP(2, [4, 2], expand=True)([1.0, 2.0])] == [Value] * 2
    assert nn.Layer(2, 0)([1.0, 2.0]) == []


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("expand", [False, True])
def test_other_counts_of_inputs(make, expand):
    module = make(expand=expand)
    for x in ([], [1.0], [1.0] * 4, 1.0, np.ones(2), tinyml.ones(4)):
        count = len(x) if np.ndim(x) else 1
        with pytest.raises(ShapeError, match=f"got 3 weights and {count} inputs"):
            module(x)


def test_errors():
    for error, message, make in [
        (ArgumentError, "Neuron: got -1 inputs", lambda: nn.Neuron(-1)),
        (ArgumentError, "Neuron: got -1 inputs", lambda: nn.MLP(-1, [1])),
        (ArgumentError, "Layer: got -2 outputs", lambda: nn.Layer(1, -2)),
        (ArgumentError, "Layer: got -2 outputs", lambda: nn.MLP(1, [-2, 1])),
        (ArgumentError, "MLP: got no sizes", lambda: nn.MLP(1, [])),
        (DTypeError, r"MLP: got 3 as sizes, expected a list of them, such as \[4, 3\]", lambda: nn.MLP(1, 3)),
        (DTypeError, "dot: element 1 is str", lambda: nn.Neuron(2)([1.0, "2"])),
        (DTypeError, "dot: element 1 is str", lambda: nn.Layer(2, 2, expand=True)([1.0, "2"])),
        (DTypeError, "dot: element 0 is ndarray", lambda: nn.Neuron(2)(np.ones((2, 2)))),
    ]:
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("how", ["constructor", "call"])
def test_expanded_networks_agree(activation, how):
    plain = nn.MLP(3, [4, 3, 2], activation, "tanh", seed=2)
    net = nn.MLP(3, [4, 3, 2], activation, "tanh", seed=2, expand=how == "constructor")
    x, results = [0.5, -1.0, 2.0], []
    for module, options in ((plain, {}), (net, {"expand": True} if how == "call" else {})):
        a, b = module(x, **options)
        (a * 2 + b).backward()
        results.append([a.data, b.data, *(p.grad for p in module.parameters())])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-13, atol=1e-15)


def test_nodes_of_a_neuron():
    neuron, x = nn.Neuron(3, activation="tanh"), [Value(1.0), Value(2.0), Value(3.0)]
    gc.collect()
    before = tinyml.live_nodes()
    y = neuron(x)
    assert tinyml.live_nodes() == before + 1, "one node, in one call"
    looked_at = nodes_of(neuron(x, expand=True))
    ops = sorted(node._op for node in looked_at if node._op)
    assert ops == ["*"] * 3 + ["+"] * 3 + ["tanh"]
    assert {*x, *neuron.parameters()} < set(looked_at)
    assert y.data == pytest.approx(looked_at[0].data, rel=1e-14)


def test_a_number_is_one_node_of_an_expanded_layer():
    a, b = nn.Layer(1, 2, expand=True)([3.0])
    shared = [node for node in nodes_of(a) if node in nodes_of(b)]
    assert [node.data for node in shared] == [3.0]


@pytest.mark.parametrize("activation", ["leaky_relu", "sigmoid"])
@pytest.mark.parametrize("expand", [False, True])
def test_compiled_steps_have_the_same_bits(activation, expand):
    def train(wrap):
        net = nn.MLP(2, [5, 1], activation, seed=3, expand=expand)
        optimizer = tinyml.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(a, b):
            loss = (net([a, b]) - 1.0) ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        losses = [float(step(Value(0.1 * i), Value(1.0 - i))) for i in range(6)]
        return losses, weights(net)

    assert train(lambda step: step) == train(tinyml.compile)
