"""Attention: causality, masks, errors, names, replays, threads."""

import numpy as np
import pytest
from tools import same

import tinyml
from tinyml import nn, optim
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.nn import functional as F


def causal_mask(n):
    """As nn.MultiheadAttention takes it: True where not to look."""
    return tinyml.tensor(np.triu(np.ones((n, n), bool), 1))


def test_the_future_does_not_change_the_past():
    x = tinyml.randn(2, 6, 4)
    before = F.scaled_dot_product_attention(x, x, x, is_causal=True).numpy().copy()
    x[:, 4:] = 7.0
    after = F.scaled_dot_product_attention(x, x, x, is_causal=True).numpy()
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    assert (after[:, 4:] != before[:, 4:]).any()


@pytest.mark.parametrize("need_weights", [False, True])
def test_the_future_does_not_change_the_past_of_several_heads(need_weights):
    attention, x = nn.MultiheadAttention(8, 2), tinyml.randn(6, 3, 8)

    def outputs():
        result, weights = attention(x, x, x, attn_mask=causal_mask(6), need_weights=need_weights, is_causal=True)
        assert (weights is None) == (not need_weights)
        assert weights is None or (np.triu(weights.detach().numpy(), 1) == 0).all()
        return result.detach().numpy().copy()

    before = outputs()
    x[4:] = 7.0
    np.testing.assert_array_equal(outputs()[:4], before[:4])


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_who_may_look_nowhere_gets_zeros(kind):
    """And no gradient flows from there, nor a nan."""
    seen = np.array([[True, False], [False, False]])
    mask = seen if kind == "bool" else np.where(seen, 0.5, -np.inf)
    x = tinyml.randn(3, 2, 4, dtype="float64", requires_grad=True)
    result = F.scaled_dot_product_attention(x, x, x, tinyml.tensor(mask))
    np.testing.assert_allclose(result.tolist(), np.stack([x.tolist()[0:3]])[0] * [[[1.0], [0.0]]])
    result.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to([[1.0], [0.0]], (3, 2, 4)))


def test_masks_with_gradients():
    """Through numbers that are added to scores, and along broadcast dimensions."""
    q, k, v = (tinyml.randn(2, 3, n, 4, dtype="float64", requires_grad=True) for n in (3, 2, 2))
    mask = tinyml.randn(3, 1, 2, dtype="float64", requires_grad=True)
    assert tinyml.gradcheck(F.scaled_dot_product_attention, [q, k, v, mask])


def test_large_scores_are_stable():
    x = tinyml.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])
    np.testing.assert_allclose(F.scaled_dot_product_attention(x, x, x).tolist(), x.tolist())


def test_dropout_follows_the_mode_of_the_module():
    attention, x = nn.MultiheadAttention(8, 2, dropout=0.5), tinyml.randn(6, 3, 8)
    assert (attention(x, x, x)[0] != attention(x, x, x)[0]).sum().item() > 0
    attention.eval()
    same([attention(x, x, x)[0].detach().numpy()], [attention(x, x, x)[0].detach().numpy()])


@pytest.mark.parametrize("bias", [True, False])
def test_states_are_interchangeable_with_torch(torch, bias):
    ours, theirs = (t.nn.MultiheadAttention(8, 4, bias=bias) for t in (tinyml, torch))
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 2, 8)).astype("float32")
    for given, expected in zip(ours(*[tinyml.tensor(x)] * 3), theirs(*[torch.tensor(x)] * 3), strict=True):
        np.testing.assert_allclose(given.detach().numpy(), expected.detach().numpy(), atol=1e-6)


def test_what_is_the_same_is_projected_once():
    """The same numbers in tensors of their own give the same result."""
    attention, x, y = nn.MultiheadAttention(8, 2), tinyml.randn(6, 3, 8), tinyml.randn(4, 3, 8)
    for one, other in [((x, x, x), (x, x * 1, x * 1)), ((x, y, y), (x, y, y * 1))]:
        np.testing.assert_allclose(attention(*one)[0].tolist(), attention(*other)[0].tolist(), rtol=1e-5, atol=1e-6)


def test_initial_weights():
    tinyml.manual_seed(0)
    attention = nn.MultiheadAttention(64, 4)
    bound = np.sqrt(6 / (4 * 64))
    assert bound * 0.98 < attention.in_proj_weight.abs().amax().item() <= bound
    assert attention.in_proj_bias.abs().amax().item() == attention.out_proj.bias.abs().amax().item() == 0
    assert 0.98 / 8 < attention.out_proj.weight.abs().amax().item() <= 1 / 8


class Block(nn.Module):
    """What a small transformer is made of."""

    def __init__(self, need_weights):
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1)
        self.out = nn.Linear(8, 5)
        self.need_weights = need_weights

    def forward(self, x, mask, padding):
        mixed, weights = self.attention(x, x, x, padding, self.need_weights, mask)
        loss = (self.out(x + mixed) ** 2).mean()
        return loss if weights is None else loss + (weights**2).sum()


@pytest.mark.parametrize("need_weights", [False, True])
def test_replays_give_the_same_bits(one_thread, need_weights):
    def play(wrap):
        tinyml.manual_seed(3)
        block = Block(need_weights)
        optimizer = optim.SGD(block.parameters(), lr=0.1)

        def step(x, padding):
            loss = block(x, causal_mask(5), padding)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        draw = np.random.default_rng(0)
        losses = []
        for _ in range(4):
            padding = draw.random((3, 5)) < 0.3
            padding[:, 0] = False
            losses.append(step(tinyml.tensor(draw.standard_normal((5, 3, 8))), tinyml.tensor(padding)).item())
        return [np.array(losses), *[p.detach().numpy().copy() for p in block.parameters()]]

    same(play(tinyml.compile), play(lambda f: f))


def test_any_number_of_threads_gives_the_same_bits(one_thread):
    def play(threads):
        tinyml.set_num_threads(threads)
        tinyml.manual_seed(0)
        attention, x = nn.MultiheadAttention(64, 4), tinyml.randn(70, 20, 64, requires_grad=True)
        output, _ = attention(x, x, x, need_weights=False)
        output.sum().backward()
        return [output.detach().numpy().copy(), x.grad.numpy().copy()]

    expected = play(1)
    same(play(2), expected)
    same(play(5), expected)


X = tinyml.zeros(5, 2, 8)
HEADS = nn.MultiheadAttention(8, 2)
ERRORS = [
    (
        ShapeError,
        r"attention: .*\(5, 2, 8\).*\(3, 4\)",
        lambda: F.scaled_dot_product_attention(X, X, tinyml.zeros(3, 4)),
    ),
    (ShapeError, r"attention: .*\(8,\)", lambda: F.scaled_dot_product_attention(X, X, tinyml.zeros(8))),
    (
        ArgumentError,
        "attn_mask and is_causal",
        lambda: F.scaled_dot_product_attention(X, X, X, tinyml.zeros(2, 2), is_causal=True),
    ),
    (DTypeError, "attn_mask is tinyml.int64", lambda: F.scaled_dot_product_attention(X, X, X, tinyml.tensor([1, 0]))),
    (ArgumentError, "got p = 2", lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=2)),
    (ArgumentError, "is_causal without attn_mask", lambda: HEADS(X, X, X, is_causal=True)),
    (ShapeError, r"Attention: .*\(5, 2, 8\).*\(6, 2, 8\)", lambda: HEADS(X, X, tinyml.zeros(6, 2, 8))),
    (ShapeError, r"Attention: .*\(5, 3, 8\)", lambda: HEADS(X, *[tinyml.zeros(5, 3, 8)] * 2)),
    (ShapeError, r"with E = 8", lambda: HEADS(*[tinyml.zeros(5, 2, 9)] * 3)),
    (ShapeError, r"attn_mask of shape \(5, 6\)", lambda: HEADS(X, X, X, attn_mask=tinyml.zeros(5, 6))),
    (ShapeError, r"key_padding_mask of shape \(5, 2\)", lambda: HEADS(X, X, X, tinyml.zeros(5, 2))),
    (DTypeError, "key_padding_mask is tinyml.int64", lambda: HEADS(X, X, X, tinyml.zeros(2, 5, dtype="int64"))),
    (ArgumentError, "9 dimensions and 2 heads", lambda: nn.MultiheadAttention(9, 2)),
    (ArgumentError, "dropout = -1", lambda: nn.MultiheadAttention(8, 2, dropout=-1)),
]


@pytest.mark.parametrize(("error", "message", "call"), ERRORS, ids=[row[1] for row in ERRORS])
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
