"""Attention."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tinyml._dtypes import Array, bool_
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.functions import where
from tinyml.nn.functional._activation import softmax
from tinyml.nn.functional._dropout import dropout
from tinyml.tensor import Tensor, tensor

_HIDDEN = -math.inf  # added to a score, it leaves a weight of 0


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout_p: float, scale: float
) -> tuple[Tensor, Tensor]:
    """(softmax(scale query key^T + bias) value, the weights)."""
    scores = (query * scale) @ key.mT
    weights = dropout(softmax(scores if bias is None else scores + bias, -1), dropout_p)
    return weights @ value, weights


def hiding(mask: Tensor) -> Tensor:
    """What is added to scores: 0, or -inf where a bool mask is True."""
    return where(mask, _HIDDEN, 0.0)


@lru_cache(maxsize=16)
def _future(queries: int, keys: int) -> Array:
    return np.triu(np.full((queries, keys), _HIDDEN, np.float32), 1)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query key^T scale) value: query (..., L, E), key (..., S, E), value (..., S, V); result (..., L, V).

    attn_mask, broadcast to (..., L, S): True where a query may look, or numbers to add to the scores. is_causal: query
    i sees keys 0 to i. scale: by default 1 / sqrt(E). dropout_p always applies: pass 0 unless training. A query that
    may look nowhere gets 0, as in PyTorch. There is no enable_gqa. Raises ArgumentError for a mask beside is_causal,
    ShapeError for shapes that do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html

    >>> import tinyml
    >>> x = tinyml.randn(2, 4, 7, 8)
    >>> scaled_dot_product_attention(x, x, x, is_causal=True).shape
    (2, 4, 7, 8)
    """
    name = "scaled_dot_product_attention"
    shapes = query.shape, key.shape, value.shape
    if min(map(len, shapes)) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{name}: got query {shapes[0]}, key {shapes[1]} and value {shapes[2]}, expected (..., L, E), (..., S, E) "
            "and (..., S, V)"
        )
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0
    if attn_mask is None:
        bias = tensor(_future(query.shape[-2], key.shape[-2])) if is_causal else None
        return attend(query, key, value, bias, dropout_p, scale)[0]
    if is_causal:
        raise ArgumentError(f"{name}: got attn_mask and is_causal; expected one, so put the causal mask into attn_mask")
    if attn_mask.dtype is not bool_ and not attn_mask.dtype.is_floating_point:
        raise DTypeError(f"{name}: attn_mask is {attn_mask.dtype}, expected bool or floats")
    looks = attn_mask if attn_mask.dtype is bool_ else attn_mask > _HIDDEN
    somewhere = looks.amax(-1, keepdim=True) > 0
    # Softmax has no answer for a row that is hidden wholly: it goes unmasked, and its result is then dropped.
    bias = where(looks, 0.0 if attn_mask.dtype is bool_ else attn_mask, where(somewhere, _HIDDEN, 0.0))
    return where(somewhere, attend(query, key, value, bias, dropout_p, scale)[0], 0.0)
