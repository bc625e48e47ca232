"""Prints docs/pytorch.md: what has a counterpart in PyTorch, and the largest difference between the two."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

import tinyml
from parity import SECTIONS

print("""# Counterparts in PyTorch

Each line is the same computation in float64 with both libraries, from the same numbers: values, gradients of inputs
and parameters, and states; optimizers and schedulers over 100 steps. The difference is the largest found, relative to
1 or to a larger number. `python tests/parity > docs/pytorch.md` writes this page; the tests fail when a line is
missing, or when a difference passes 1e-10.""")
for heading, families in SECTIONS.items():
    print(f"\n## {heading}\n\n| tinyml | PyTorch | largest difference | |\n|---|---|---|---|")
    for row in sorted((row for family in families for row in family.ROWS), key=lambda row: row.name.lower()):
        difference = row.difference(tinyml, torch)
        shown = f"{difference:.0e}" if difference else "0"
        print(f"| `{row.name}` | `{row.counterpart or 'torch.' + row.name}` | {shown} | {row.note} |")
