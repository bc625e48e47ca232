"""Functions that no module stands for."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity._row import Row, Run, function, numbers

Q, K, V = numbers((2, 4, 5, 3), 1), numbers((2, 4, 6, 3), 2), numbers((2, 4, 6, 7), 3)
SEEN = np.random.default_rng(0).random((5, 6)) < 0.6
SEEN[1] = False  # a query that may look nowhere
BIAS = np.where(SEEN, numbers((2, 1, 5, 6), 4), -np.inf)


def attention(*inputs: np.ndarray, mask: np.ndarray | None = None, **options: Any) -> Run:
    def call(t: Any, query: Any, key: Any, value: Any, *bias: Any) -> Any:
        attn_mask = bias[0] if bias else None if mask is None else t.tensor(mask)
        return t.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask, **options)

    return function(call, *inputs)


ROWS = [
    Row(
        "nn.functional.scaled_dot_product_attention",
        [
            attention(Q, K, V),
            attention(Q, Q, Q, is_causal=True),
            attention(Q, K, V, is_causal=True, scale=0.3),
            attention(Q[0, 0], K[0, 0], V[0, 0]),
            attention(Q, K, V, mask=SEEN),
            attention(Q, K, V, mask=np.broadcast_to(SEEN, (2, 1, 5, 6)).copy()),
            attention(Q, K, V, mask=BIAS),
            attention(Q, K, V, numbers((4, 5, 6), 5)),
            attention(Q, K, V, dropout_p=1.0),
        ],
        note="no enable_gqa",
    ),
]
