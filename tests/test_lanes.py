"""Lanes: what is written for one sample, called with Tensors (B,) in the place of its numbers."""

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, Value, nn
from tinyml.errors import DTypeError, ShapeError

ACTIVATIONS = ["linear", "relu", "tanh", "sigmoid", "leaky_relu"]
RNG = np.random.default_rng(0)


def lanes(shape, dtype="float64", requires_grad=True):
    return tinyml.tensor(RNG.uniform(-1, 1, shape).astype(dtype), requires_grad=requires_grad)


def by_hand(weights, inputs, bias, activation):
    total = bias
    for w, x in zip(weights, inputs, strict=True):
        total = total + w * x
    return total if activation == "linear" else getattr(total, activation)()


def moons():
    """100 points of two half circles, and their labels 1 and -1."""
    t = np.linspace(0, np.pi, 50)
    points = np.concatenate([np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1)])
    return points + RNG.normal(0, 0.1, points.shape), np.repeat([1.0, -1.0], 50)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_a_network_over_all_samples_at_once(activation):
    points, labels = moons()
    model = nn.MLP(2, [16, 16, 1], activation=activation)
    parameters = model.parameters()

    def loss(x, y):
        """micrograd's: hinge loss and weight decay."""
        return (1 + -y * model(x)).relu(), 1e-4 * sum(p * p for p in parameters)

    samples = [loss(list(map(Value, point)), float(label)) for point, label in zip(points, labels, strict=True)]
    total = sum(hinge for hinge, _ in samples) * (1 / len(samples)) + samples[0][1]
    total.backward()
    gradients = [p.grad for p in parameters]
    model.zero_grad()

    hinge, decay = loss([tinyml.tensor(column.copy()) for column in points.T], tinyml.tensor(labels))
    assert (type(hinge), hinge.shape, type(decay)) == (Tensor, (100,), Value)
    at_once = hinge.mean() + decay
    at_once.backward()
    np.testing.assert_allclose(hinge.detach().numpy(), [h.data for h, _ in samples], rtol=1e-12, atol=1e-14)
    assert at_once.item() == pytest.approx(total.data, rel=1e-12)
    np.testing.assert_allclose([p.grad for p in parameters], gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kinds", ["ww xx b", "wW xx b", "ww xX b", "wW xX b", "wW Xx B", "WW XX B", "ww xx B"])
@pytest.mark.parametrize("size", [1, 3, 600])
def test_dot(activation, kinds, size):
    """Capitals are lanes, the others Values."""
    weights, inputs, bias = ([lanes(size) if kind.isupper() else Value(RNG.uniform()) for kind in group]
                             for group in kinds.split())  # fmt: skip
    result = tinyml.dot(weights, inputs, bias[0], activation)
    expected = by_hand(weights, inputs, bias[0], activation)
    assert type(result) is type(expected)
    leaves = [*weights, *inputs, *bias]
    gradients = []
    for y in (result, expected):
        for x in leaves:
            x.grad = None if isinstance(x, Tensor) else 0.0
        (y * tinyml.tensor(np.linspace(-1, 1, size))).sum().backward()
        gradients.append([np.asarray(x.grad) for x in leaves])
    np.testing.assert_allclose(tinyml.tensor(result).numpy(), tinyml.tensor(expected).numpy(), rtol=1e-12, atol=1e-15)
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    if size == 3 and "relu" not in activation:
        assert tinyml.gradcheck(lambda *x: tinyml.dot(x[:2], x[2:4], x[4], activation), leaves)


@pytest.mark.parametrize("size", [0, 1, 3, 2000])
def test_sum(size):
    a, b, v = lanes(size), lanes(size), Value(0.5)
    result = tinyml.sum([a, v, b, a, 2])
    assert (type(result), result.shape, result._op) == (Tensor, (size,), "add_n")
    np.testing.assert_allclose(result.detach().numpy(), (a + v + b + a + 2).detach().numpy(), rtol=1e-12, atol=1e-15)
    (result * tinyml.tensor(np.arange(size) + 1.0)).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * (np.arange(size) + 1.0))
    np.testing.assert_allclose(b.grad.numpy(), np.arange(size) + 1.0)
    assert v.grad == size * (size + 1) / 2
    if size == 3:
        assert tinyml.gradcheck(lambda *x: tinyml.sum(list(x)), [a, b, v])
    assert type(tinyml.sum((v, 1.0))) is Value


def test_the_same_node_in_several_places():
    x, v = lanes(4), Value(0.7)
    assert tinyml.gradcheck(lambda x, v: tinyml.dot([x, v, v], [x, x, v], x, "tanh"), [x, v])
    assert tinyml.gradcheck(lambda x, v: tinyml.sum([x, v, x, v * x]), [x, v])


def test_gradients_add_up_over_sweeps():
    x, v = lanes(700), Value(0.7)
    y = tinyml.dot([v], [x], v, "tanh").sum()
    y.backward()
    once = (v.grad, x.grad.numpy().copy())
    y.backward()
    assert v.grad == pytest.approx(2 * once[0], rel=1e-13)
    np.testing.assert_allclose(x.grad.numpy(), 2 * once[1], rtol=1e-13)


def test_no_lanes_at_all():
    """A batch of nothing: results are empty, and the gradients of what is shared are 0."""
    v, b = Value(0.7), Value(0.1)
    y = tinyml.dot([v], [lanes(0)], b, "tanh")
    assert y.shape == (0,)
    y.sum().backward()
    assert (v.grad, b.grad) == (0, 0)
    assert tinyml._core.requires_grad(y._ref)


def test_nothing_flows_from_a_zero_gradient():
    v = Value(2.0)
    y = tinyml.dot([v], [tinyml.tensor([1.0, float("inf")], dtype="float64")])
    (y * tinyml.tensor([1.0, 0.0], dtype="float64"))[0].backward()
    assert v.grad == 1


def test_dtypes():
    v, x32, x64 = Value(0.1), lanes(3, "float32"), lanes(3)
    assert tinyml.dot([v], [x32], v).dtype is tinyml.float32
    assert tinyml.dot([v, v], [x32, x64]).dtype is tinyml.float64
    assert tinyml.dot([v], [tinyml.arange(3)]).dtype is tinyml.float64
    assert tinyml.sum([v, x32]).dtype is tinyml.float32
    y = tinyml.dot([v], [x32], v, "tanh")
    np.testing.assert_allclose(y.detach().numpy(), np.tanh(0.1 * x32.detach().numpy() + 0.1), rtol=1e-6)
    y.sum().backward()
    assert x32.grad.dtype is tinyml.float32


def test_other_shapes_that_all_lanes_have():
    x, y, v = lanes((2, 3)), lanes((2, 3)), Value(0.5)
    result = tinyml.dot([v, x], [x, y], v, "sigmoid")
    np.testing.assert_allclose(result.detach().numpy(), (0.5 * x + x * y + 0.5).sigmoid().detach().numpy(), rtol=1e-12)


def test_errors():
    v, a, b = Value(1.0), tinyml.ones(2), tinyml.ones(3)
    for call, op in [
        (lambda: tinyml.dot([v, v], [a, b]), "dot"),
        (lambda: tinyml.dot([a], [v], b), "dot"),
        (lambda: nn.Layer(2, 4)([a, b]), "dot"),
        (lambda: tinyml.sum([v, a, b]), "add_n"),
    ]:
        live = tinyml.live_nodes()
        with pytest.raises(
            ShapeError, match=rf"{op}: got shapes \((2|3),\) and \((2|3),\), expected .* one shape; .*@"
        ):
            call()
        assert tinyml.live_nodes() <= live
    with pytest.raises(ShapeError, match="dot: got 2 weights and 3 inputs"):
        nn.MLP(2, [3, 1])([a, a, a])
    with pytest.raises(DTypeError, match="sum: element 1 is str"):
        tinyml.sum([a, "b"])


# -- layers keep references to their weights between calls


def test_a_weight_may_be_replaced():
    model = nn.MLP(2, [3, 1], activation="tanh")
    x = [0.5, -0.25]

    def check():
        hidden = [by_hand(n.w, x, n.b, n.activation) for n in model.layers[0].neurons]
        last = model.layers[1].neurons[0]
        expected = by_hand(last.w, hidden, last.b, last.activation)
        result = model(x)
        assert float(result) == pytest.approx(float(expected), rel=1e-12)
        assert float(nn.MLP.forward(model, [tinyml.tensor([number]) for number in x])) == pytest.approx(
            float(expected), rel=1e-5
        )

    check()
    model.layers[0].neurons[1].w[0] = Value(5.0)
    check()
    model.layers[0].neurons[1].w[0] = tinyml.tensor(5.0, dtype="float64", requires_grad=True)
    model(x).backward()
    assert model.layers[0].neurons[1].w[0].grad is not None
    model.layers[0].neurons[2].b = Value(-3.0)
    check()
    model.layers[1].neurons[0].w = [Value(1.0), Value(2.0), Value(3.0)]
    check()
    model.layers[0].neurons[0].w[1] = 0.25  # a number: a constant
    check()
    model.layers[0].neurons[0] = nn.Neuron(2, activation="relu")  # a layer of several activations
    check()
    model.layers[1] = nn.Layer(3, 1)
    model.layers[1].neurons[0].activation = "sigmoid"
    check()


def test_a_weight_that_is_lanes():
    layer = nn.Layer(2, 3)
    layer.neurons[1].w[0] = lanes(4)
    assert [type(y) for y in layer([1.0, 2.0])] == [Value, Tensor, Value]


def test_a_layer_of_ones_own_within_a_network():
    class Doubling(nn.Layer):
        def forward(self, x):
            return [y * 2 for y in x]

    model = nn.MLP(2, [2, 2, 1])
    plain = nn.MLP(2, [2, 1])
    model.layers[1] = Doubling(2, 2)
    plain.layers = [model.layers[0], model.layers[2]]
    first = [y * 2 for y in model.layers[0]([1.0, 2.0])]
    assert float(model([1.0, 2.0])) == pytest.approx(float(model.layers[2](first)), rel=1e-12)


def test_one_neuron_within():
    model = nn.MLP(1, [1, 1], activation="tanh")
    assert type(model(Value(0.5))) is Value
    assert model([lanes(5)]).shape == (5,)
    model.layers[0].neurons[0].w[0] = 0.5
    assert type(model([2.0])) is Value


def test_a_tensor_gives_its_rows_as_inputs():
    model = nn.MLP(2, [3, 1])
    x = lanes((2, 7))
    assert model(x).shape == (7,)
    np.testing.assert_allclose(model(x).detach().numpy(), model([x[0], x[1]]).detach().numpy())
    assert nn.Neuron(2)(x).shape == (7,)


def test_nodes_are_released():
    model, x = nn.MLP(2, [16, 1]), [Value(1.0), Value(2.0)]
    model(x)
    live = tinyml.live_nodes()
    for _ in range(5):
        model(x)
        model([lanes(3), 0.5])
        with pytest.raises(ShapeError):
            model([lanes(3), lanes(4)])
        with pytest.raises(ShapeError):
            model([1.0])
    assert tinyml.live_nodes() == live
