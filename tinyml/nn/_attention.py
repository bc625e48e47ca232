"""MultiheadAttention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tinyml._creation import zeros
from tinyml._dtypes import DTypeLike, bool_, float32
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.nn import functional as F
from tinyml.nn import init
from tinyml.nn._linear import Linear
from tinyml.nn._module import Module, Parameter
from tinyml.nn.functional._attention import attend, hiding
from tinyml.tensor import Tensor


class MultiheadAttention(Module):
    """Attention by several heads, each in a space of embed_dim / num_heads dimensions.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html, without add_bias_kv,
    add_zero_attn, kdim and vdim. in_proj_weight (3 embed_dim, embed_dim) starts as Xavier's, biases at 0.

    >>> import tinyml
    >>> x = tinyml.randn(5, 2, 8)
    >>> output, weights = MultiheadAttention(8, 4)(x, x, x)
    >>> output.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: got {embed_dim} dimensions and {num_heads} heads, expected a multiple of these"
            )
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"MultiheadAttention: got dropout = {dropout}, expected a probability from 0 to 1")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.in_proj_weight = Parameter(zeros(3 * embed_dim, embed_dim, dtype=dtype))
        self.in_proj_bias = Parameter(zeros(3 * embed_dim, dtype=dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws in_proj_weight afresh, and sets biases to 0."""
        init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights or None): query (L, N, E), key and value (S, N, E); with batch_first (N, L, E), (N, S, E);
        or all without N; output shaped like query, weights (N, L, S) or, not averaged over heads, (N, heads, L, S).

        Masks are bool, True where NOT to look, or numbers to add to scores: key_padding_mask (N, S), attn_mask (L, S)
        or (N heads, L, S). is_causal only says that attn_mask is causal. As in PyTorch, a query that may look nowhere
        gets nan with need_weights, and else attends to nothing. Without need_weights less is computed.
        """
        if is_causal and attn_mask is None:
            raise ArgumentError(
                "MultiheadAttention: got is_causal without attn_mask; it says what the mask is, so pass the mask too"
            )
        self._check(query, key, value)
        batched = query.ndim == 3
        if not batched:
            query, key, value = _each(lambda x: x.unsqueeze(1), (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif self.batch_first:
            query, key, value = _each(lambda x: x.transpose(0, 1), (query, key, value))
        (targets, batch, _), sources = query.shape, key.shape[0]
        q, k, v = self._heads(query, key, value)
        bias = self._bias(key_padding_mask, attn_mask, (batch, targets, sources))
        p = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            heads, weights = attend(q, k, v, bias, p, 1 / math.sqrt(q.shape[-1]))
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            heads = F.scaled_dot_product_attention(q, k, v, bias, p)
        output = self.out_proj(heads.permute(2, 0, 1, 3).reshape(targets, batch, self.embed_dim))
        if not batched:
            return output.squeeze(1), None if weights is None else weights.squeeze(0)
        return output.transpose(0, 1) if self.batch_first else output, weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        shapes = query.shape, key.shape, value.shape
        batch_dim = 0 if self.batch_first else 1
        fits = query.ndim in (2, 3) and key.ndim == query.ndim and key.shape == value.shape
        if fits and query.ndim == 3:
            fits = query.shape[batch_dim] == key.shape[batch_dim]
        if not fits or query.shape[-1] != self.embed_dim or key.shape[-1] != self.embed_dim:
            layout = "(N, L, E) and twice (N, S, E)" if self.batch_first else "(L, N, E) and twice (S, N, E)"
            raise ShapeError(
                f"MultiheadAttention: got query {shapes[0]}, key {shapes[1]} and value {shapes[2]}, expected {layout}, "
                f"or all without N, with E = {self.embed_dim}"
            )

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Query, key and value projected, each (N, heads, length, E / heads); what is the same is projected at once."""
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        parts = [(query, 0, 3)] if query is key is value else [(query, 0, 1), (key, 1, 2), (value, 2, 3)]
        if key is value and query is not key:
            parts[1:] = [(key, 1, 3)]
        found: list[Tensor] = []
        for x, start, end in parts:
            rows = slice(start * width, end * width)
            whole = end - start == 3
            projected = F.linear(x, weight if whole else weight[rows], bias if bias is None or whole else bias[rows])
            split = (*x.shape[:2], end - start, self.num_heads, width // self.num_heads)
            found += projected.reshape(split).permute(2, 1, 3, 0, 4)
        return found

    def _bias(self, padding: Tensor | None, mask: Tensor | None, shape: tuple[int, int, int]) -> Tensor | None:
        """What is added to the scores (N, heads, L, S)."""
        batch, targets, sources = shape
        biases = []
        if mask is not None:
            together, apart = (targets, sources), (batch * self.num_heads, targets, sources)
            if mask.shape not in (together, apart):
                raise ShapeError(
                    f"MultiheadAttention: got attn_mask of shape {mask.shape}, expected {together} or {apart}"
                )
            mask = _additive("attn_mask", mask)
            biases.append(mask if mask.ndim == 2 else mask.reshape(batch, self.num_heads, targets, sources))
        if padding is not None:
            if padding.shape != (batch, sources):
                raise ShapeError(
                    f"MultiheadAttention: got key_padding_mask of shape {padding.shape}, expected {(batch, sources)}"
                )
            biases.append(_additive("key_padding_mask", padding).reshape(batch, 1, 1, sources))
        return biases[0] if len(biases) == 1 else biases[0] + biases[1] if biases else None


def _additive(name: str, mask: Tensor) -> Tensor:
    if mask.dtype is bool_:
        return hiding(mask)
    if not mask.dtype.is_floating_point:
        raise DTypeError(f"MultiheadAttention: {name} is {mask.dtype}, expected bool or floats")
    return mask


def _each(change: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """All of them changed; what is the same tensor stays the same."""
    changed: dict[Tensor, Tensor] = {}
    for x in tensors:
        if x not in changed:
            changed[x] = change(x)
    return [changed[x] for x in tensors]
