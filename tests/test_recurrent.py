"""Recurrent layers, cells and Embedding: names, states, errors, order in time, replays, threads."""

import gc
import warnings

import numpy as np
import pytest
from tools import same

import tinyml
from tinyml import nn, optim
from tinyml.errors import ArgumentError, AxisError, ShapeError
from tinyml.nn import functional as F

LAYERS = ["RNN", "GRU", "LSTM"]
OPTIONS = [{}, {"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}]


def states_of(result):
    return result if isinstance(result, tuple) else (result,)


def gradients(module):
    return [None if p.grad is None else p.grad.numpy().copy() for p in module.parameters()]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_states_and_reprs_are_interchangeable_with_torch(torch, name, options):
    ours, theirs = (getattr(t.nn, name)(3, 4, **options) for t in (tinyml, torch))
    state = ours.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert list(state) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype("float32")
    output, expected = ours(tinyml.tensor(x))[0], theirs(torch.tensor(x))[0]
    np.testing.assert_allclose(output.detach().numpy(), expected.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_cells_are_interchangeable_with_torch(torch, name):
    more = {"nonlinearity": "relu"} if name == "RNN" else {}
    ours, theirs = (getattr(t.nn, name + "Cell")(3, 4, bias=False, **more) for t in (tinyml, torch))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_a_cell_steps_as_its_layer(name):
    layer, cell = getattr(nn, name)(3, 4), getattr(nn, name + "Cell")(3, 4)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = tinyml.randn(6, 2, 3)
    output, last = layer(x)
    state = None
    for t in range(6):
        state = cell(x[t], state)
        np.testing.assert_allclose(output[t].tolist(), states_of(state)[0].tolist(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(states_of(state), states_of(last), strict=True):
        np.testing.assert_allclose(ours.tolist(), theirs[0].tolist(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_may_be_cut(name):
    """The states after one part, given to the next, are the sequence's own."""
    layer = getattr(nn, name)(3, 4, num_layers=2, dtype="float64")
    x = tinyml.randn(7, 2, 3, dtype="float64")
    output, last = layer(x)
    first, middle = layer(x[:3])
    second, end = layer(x[3:], middle)
    np.testing.assert_allclose(tinyml.cat([first, second]).tolist(), output.tolist(), rtol=1e-12)
    for ours, theirs in zip(states_of(end), states_of(last), strict=True):
        np.testing.assert_allclose(ours.tolist(), theirs.tolist(), rtol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_the_future_does_not_change_the_past(name):
    layer = getattr(nn, name)(3, 4, num_layers=2)
    x = tinyml.randn(6, 2, 3)
    before = layer(x)[0].detach().numpy().copy()
    x[4:] = 7.0
    after = layer(x)[0].detach().numpy()
    np.testing.assert_array_equal(after[:4], before[:4])
    assert (after[4:] != before[4:]).any()


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_all_states(name):
    """Last states alone, of every layer and direction: those of all parameters and of the first states."""
    layer = getattr(nn, name)(2, 3, num_layers=2, bidirectional=True, dtype="float64")
    starts = [tinyml.randn(4, 2, 3, dtype="float64", requires_grad=True) for _ in layer._states]
    x = tinyml.randn(4, 2, 2, dtype="float64", requires_grad=True)

    def last(x, *starts):
        states = states_of(layer(x, tuple(starts) if len(starts) > 1 else starts[0])[1])
        return tinyml.stack([(i + 1) * state for i, state in enumerate(states)])

    assert tinyml.gradcheck(last, [x, *starts])
    last(x, *starts).sum().backward()
    assert all(gradient is not None and (gradient != 0).any() for gradient in gradients(layer))


def test_a_nan_that_is_not_used_stays_where_it_is():
    """A padded row of nan, whose outputs get no gradient, leaves those of the inputs alone."""
    layer = nn.LSTM(3, 4)
    numbers = np.ones((5, 2, 3), "float32")
    numbers[3:, 1] = np.nan
    x = tinyml.tensor(numbers, requires_grad=True)
    layer(x)[0][:3].sum().backward()
    assert np.isfinite(x.grad.numpy()[:3]).all()
    assert (x.grad.numpy()[3:] == 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch(name):
    layer = getattr(nn, name)(3, 4)
    output, last = layer(tinyml.zeros(5, 0, 3))
    assert output.shape == (5, 0, 4)
    assert all(state.shape == (1, 0, 4) for state in states_of(last))
    output.sum().backward()
    assert all((gradient == 0).all() for gradient in gradients(layer))


@pytest.mark.parametrize("name", LAYERS)
def test_no_gradients_of_inputs_or_weights(name):
    """What does not require a gradient gets none, and what does gets the same as before."""
    layer = getattr(nn, name)(3, 4)
    x = tinyml.randn(5, 2, 3, requires_grad=True)
    layer(x)[0].sum().backward()
    expected = x.grad.numpy().copy()
    layer.zero_grad()
    layer.requires_grad_(False)
    x.grad = None
    layer(x)[0].sum().backward()
    same([x.grad.numpy()], [expected])
    assert gradients(layer) == [None] * 4
    layer.weight_hh_l0.requires_grad = True  # alone: neither the gates nor the first states want one
    layer(x.detach())[0].sum().backward()
    assert [gradient is not None for gradient in gradients(layer)] == [False, True, False, False]


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_stands_between_layers(name):
    layer = getattr(nn, name)(3, 4, num_layers=2, dropout=0.5)
    x = tinyml.randn(5, 2, 3)
    assert (layer(x)[0] != layer(x)[0]).sum().item() > 0
    layer.eval()
    same([layer(x)[0].detach().numpy()], [layer(x)[0].detach().numpy()])
    with pytest.warns(UserWarning, match="between layers"):
        getattr(nn, name)(3, 4, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(nn, name)(3, 4, num_layers=2, dropout=0.5)


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_replays_give_the_same_bits(one_thread, name, options):
    def play(wrap):
        tinyml.manual_seed(3)
        table, layer = nn.Embedding(6, 3, padding_idx=0), getattr(nn, name)(3, 4, dropout=0.0, **options)
        optimizer = optim.Adam([*table.parameters(), *layer.parameters()], lr=0.05)

        def step(tokens):
            output, last = layer(table(tokens))
            loss = (output**2).sum() + sum(state.sum() for state in states_of(last))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        draw = np.random.default_rng(0)
        losses = [step(tinyml.tensor(draw.integers(0, 6, (5, 4)))).item() for _ in range(4)]
        return [np.array(losses), *[p.detach().numpy().copy() for p in [*table.parameters(), *layer.parameters()]]]

    same(play(tinyml.compile), play(lambda f: f))
    gc.collect()


@pytest.mark.parametrize("batch", [3, 100])
@pytest.mark.parametrize("name", LAYERS)
def test_any_number_of_threads_gives_the_same_bits(one_thread, name, batch):
    def play(threads):
        tinyml.set_num_threads(threads)
        tinyml.manual_seed(0)
        layer = getattr(nn, name)(20, 40, num_layers=2)
        x = tinyml.randn(30, batch, 20, requires_grad=True)
        output, last = layer(x)
        (output.sum() + sum(state.sum() for state in states_of(last))).backward()
        return [output.detach().numpy().copy(), x.grad.numpy().copy(), *gradients(layer)]

    expected = play(1)
    same(play(2), expected)
    same(play(5), expected)


LSTM = nn.LSTM(3, 4)
ERRORS = [
    (ShapeError, r"LSTM: .*\(5, 2, 7\).*\(L, N, H_in\).*3", lambda: LSTM(tinyml.zeros(5, 2, 7))),
    (ShapeError, r"LSTM: .*\(3,\)", lambda: LSTM(tinyml.zeros(3))),
    (ShapeError, "sequence of length zero", lambda: LSTM(tinyml.zeros(0, 2, 3))),
    (ShapeError, "sequence of length zero", lambda: nn.GRU(3, 4, batch_first=True)(tinyml.zeros(2, 0, 3))),
    (ArgumentError, r"LSTM: .*\(h_0, c_0\)", lambda: LSTM(tinyml.zeros(5, 2, 3), tinyml.zeros(1, 2, 4))),
    (
        ShapeError,
        r"LSTM: got c_0 .*\(1, 3, 4\).*\(1, 2, 4\)",
        lambda: LSTM(tinyml.zeros(5, 2, 3), (tinyml.zeros(1, 2, 4), tinyml.zeros(1, 3, 4))),
    ),
    (ShapeError, r"GRU: got h_0 .*\(16,\).*\(1, 2, 4\)", lambda: nn.GRU(3, 4)(tinyml.zeros(5, 2, 3), LSTM.bias_ih_l0)),
    (ShapeError, r"RNNCell: .*\(5, 2, 3\)", lambda: nn.RNNCell(3, 4)(tinyml.zeros(5, 2, 3))),
    (ShapeError, r"GRUCell: got h_0", lambda: nn.GRUCell(3, 4)(tinyml.zeros(2, 3), tinyml.zeros(3, 4))),
    (ArgumentError, "RNN: .*'sigmoid'.*'tanh' or 'relu'", lambda: nn.RNN(3, 4, nonlinearity="sigmoid")),
    (ArgumentError, "RNNCell: .*'gelu'", lambda: nn.RNNCell(3, 4, nonlinearity="gelu")),
    (ArgumentError, "LSTM: .*hidden size 0", lambda: nn.LSTM(3, 0)),
    (ArgumentError, "GRU: got 0 layers", lambda: nn.GRU(3, 4, 0)),
    (ArgumentError, "LSTM: got dropout = 1.5", lambda: nn.LSTM(3, 4, 2, dropout=1.5)),
    (ArgumentError, "Embedding: .*padding_idx 5", lambda: nn.Embedding(5, 2, padding_idx=5)),
    (ArgumentError, "Embedding: .*-1 rows", lambda: nn.Embedding(-1, 2)),
    (ArgumentError, "embedding: .*padding_idx -4", lambda: F.embedding([0], tinyml.zeros(3, 2), -4)),
    (ShapeError, r"embedding: .*\(3,\)", lambda: F.embedding([0], tinyml.zeros(3))),
    (AxisError, "take: got index 5", lambda: nn.Embedding(5, 2)([5])),
]


@pytest.mark.parametrize(("error", "message", "call"), ERRORS, ids=[row[1] for row in ERRORS])
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()


RAW_ERRORS = [
    ("lstm", [(0, 2, 16), (16, 4), (2, 4), (2, 4)], "lstm: got a sequence of length zero"),
    ("lstm", [(3, 2, 12), (12, 4), (2, 4), (2, 4)], r"lstm: got x \(3, 2, 12\) and w \(12, 4\)"),
    ("lstm", [(3, 2, 16), (16, 4), (2, 4), (3, 4)], r"lstm: got c0 of shape \(3, 4\), expected \(2, 4\)"),
    ("gru", [(3, 2, 12), (12, 4), (2, 5)], r"gru: got h0"),
    ("gru", [(3, 2, 12), (12, 4), (2, 4), (11,)], r"gru: got bias \(11,\), expected \(12,\)"),
]


@pytest.mark.parametrize(("op", "shapes", "message"), RAW_ERRORS, ids=[row[2] for row in RAW_ERRORS])
def test_errors_of_ops(op, shapes, message):
    tensors = [tinyml.zeros(shape) for shape in shapes]
    with pytest.raises(ShapeError, match=message):
        tinyml._core.apply(tinyml._core.op(op), [x._ref for x in tensors], [0.0])


def test_the_padding_of_an_embedding():
    tinyml.manual_seed(0)
    table = nn.Embedding(4, 3, padding_idx=-4)
    assert table.padding_idx == 0
    assert table.weight[0].tolist() == [0, 0, 0]
    assert (table.weight[1:] != 0).sum().item() == 9
    for _ in range(2):
        table([[0, 1], [0, 2]]).sum().backward()
    assert table.weight.grad.tolist() == [[0] * 3, [2] * 3, [2] * 3, [0] * 3]


def test_an_embedding_starts_normal():
    tinyml.manual_seed(0)
    weight = nn.Embedding(1000, 20).weight
    assert abs(weight.mean().item()) < 0.02
    assert abs(weight.std().item() - 1) < 0.02


@pytest.mark.parametrize("name", LAYERS)
def test_weights_start_within_their_bound(name):
    layer = getattr(nn, name)(3, 64)
    for parameter in layer.parameters():
        assert 0.11 < parameter.abs().amax().item() <= 1 / 8
