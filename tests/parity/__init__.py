"""The table of counterparts in PyTorch, run by test_parity.py; `python tests/parity` prints it as docs/pytorch.md."""

from parity import (
    activations,
    attention,
    convolution,
    functions,
    initialisers,
    linear,
    losses,
    normalization,
    optimizers,
    recurrent,
)
from parity._row import Row

#: In the order of the document: a heading, and the families under it.
SECTIONS = {
    "Layers": [linear, convolution, normalization, recurrent, attention],
    "Activations": [activations],
    "Losses": [losses],
    "Optimizers and schedulers": [optimizers],
    "Functions": [functions],
    "Initialisers": [initialisers],
}
ROWS: list[Row] = [row for families in SECTIONS.values() for family in families for row in family.ROWS]

__all__ = ["ROWS", "SECTIONS", "Row"]
