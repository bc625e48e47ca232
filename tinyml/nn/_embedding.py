"""Embedding, a table of vectors."""

from __future__ import annotations

from typing import Any

from tinyml._creation import zeros
from tinyml._dtypes import DTypeLike, float32
from tinyml.errors import ArgumentError
from tinyml.nn import functional as F
from tinyml.nn import init
from tinyml.nn._module import Module, Parameter
from tinyml.tensor import Tensor


class Embedding(Module):
    """Looks up rows of weight (num_embeddings, embedding_dim), which starts normal.

    Row padding_idx, counted from the end when negative, starts as zeros and gets no gradient.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html, without max_norm, scale_grad_by_freq and
    sparse.

    >>> Embedding(10, 3)([[1, 2], [0, 1]]).shape
    (2, 2, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: DTypeLike = float32
    ) -> None:
        if num_embeddings < 0 or embedding_dim < 0:
            raise ArgumentError(
                f"Embedding: got {num_embeddings} rows of {embedding_dim} numbers, expected at least 0 of each"
            )
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(f"Embedding: got padding_idx {padding_idx} for {num_embeddings} rows")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(zeros(num_embeddings, embedding_dim, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight afresh, but for the padding's row of zeros."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0.0

    def forward(self, input: Any) -> Tensor:
        """int64 of any shape (*); result (*, embedding_dim). Raises AxisError for a row outside the table."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
