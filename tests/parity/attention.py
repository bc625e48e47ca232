"""MultiheadAttention."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity._row import Row, Run, layer, numbers

X, MEMORY, OTHER = numbers((5, 2, 8), 1), numbers((6, 2, 8), 2), numbers((6, 2, 8), 3)
CAUSAL = np.triu(np.ones((5, 5), bool), 1)
PADDED = np.array([[False] * 4 + [True], [False] * 3 + [True] * 2])


class Masked:
    """A module whose masks are arrays, and whose query may also be its key and its value."""

    def __init__(self, t: Any, module: Any, **options: Any) -> None:
        self.module = module
        self.options = {k: t.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def double(self) -> Masked:
        self.module.double()
        return self

    def train(self, mode: bool) -> Masked:
        self.module.train(mode)
        return self

    def __call__(self, *inputs: Any) -> Any:
        output, weights = self.module(*inputs[:3], *[inputs[-1]] * (3 - len(inputs)), **self.options)
        return output if weights is None else (output, weights)


def heads(*inputs: np.ndarray, settings: dict[str, Any] | None = None, **options: Any) -> Run:
    return layer(lambda t: Masked(t, t.nn.MultiheadAttention(8, 4, **(settings or {})), **options), *inputs)


ROWS = [
    Row(
        "nn.MultiheadAttention",
        [
            heads(X, MEMORY, OTHER),
            heads(X),
            heads(X, MEMORY),
            heads(X, need_weights=False),
            heads(X, average_attn_weights=False),
            heads(X[:, 0], MEMORY[:, 0]),
            heads(X, settings={"bias": False}),
            heads(X, settings={"batch_first": True}),
            heads(X, settings={"dropout": 1.0}),
            heads(X, attn_mask=CAUSAL),
            heads(X, attn_mask=CAUSAL, is_causal=True, need_weights=False),
            heads(X, attn_mask=np.where(CAUSAL, -np.inf, numbers((5, 5), 4))),
            heads(X, attn_mask=np.broadcast_to(CAUSAL, (8, 5, 5)).copy(), key_padding_mask=PADDED),
            heads(X, attn_mask=CAUSAL, key_padding_mask=PADDED, need_weights=False),
            heads(X[:, 0], key_padding_mask=PADDED[0]),
        ],
        note="no kdim, vdim, add_bias_kv, add_zero_attn",
    ),
]
