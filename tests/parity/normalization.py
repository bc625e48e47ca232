"""Normalising layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity._row import Array, Row, Run, layer, numbers


def trained(make: Callable[[Any], Any], *batches: Array) -> Run:
    """In evaluation, on the last batch, after training on the others."""

    def ready(t: Any) -> Any:
        module = make(t).double()
        for batch in batches[:-1]:
            module(t.tensor(batch))
        return module

    return layer(ready, batches[-1], train=False)


IMAGES = numbers((4, 3, 5, 6)), numbers((2, 3, 5, 6), 1) + 3, numbers((3, 3, 2, 2), 2)
ROWS_OF_3 = numbers((5, 3)), numbers((4, 3), 1) * 3, numbers((6, 3), 2) - 1

ROWS = [
    Row(
        "nn.BatchNorm1d",
        [
            layer(lambda t: t.nn.BatchNorm1d(3), ROWS_OF_3[0], calls=3),
            layer(lambda t: t.nn.BatchNorm1d(3, eps=0.1, momentum=0.7), numbers((5, 3, 4)), calls=2),
            layer(lambda t: t.nn.BatchNorm1d(40), numbers((2, 40, 50))),
            layer(lambda t: t.nn.BatchNorm1d(3, affine=False), ROWS_OF_3[1]),
            layer(lambda t: t.nn.BatchNorm1d(3, bias=False), ROWS_OF_3[1]),
            layer(lambda t: t.nn.BatchNorm1d(3, track_running_stats=False), ROWS_OF_3[1], train=False),
            trained(lambda t: t.nn.BatchNorm1d(3), *ROWS_OF_3),
            trained(lambda t: t.nn.BatchNorm1d(3, momentum=None), *ROWS_OF_3),
            trained(lambda t: t.nn.BatchNorm1d(3, affine=False, momentum=1.0), *ROWS_OF_3),
        ],
    ),
    Row(
        "nn.BatchNorm2d",
        [
            layer(lambda t: t.nn.BatchNorm2d(3), IMAGES[0], calls=3),
            layer(lambda t: t.nn.BatchNorm2d(3, eps=0.1, momentum=0.7), IMAGES[2]),
            layer(lambda t: t.nn.BatchNorm2d(3, affine=False, track_running_stats=False), IMAGES[1]),
            trained(lambda t: t.nn.BatchNorm2d(3), *IMAGES),
            trained(lambda t: t.nn.BatchNorm2d(3, momentum=None, bias=False), *IMAGES),
        ],
    ),
    Row(
        "nn.LayerNorm",
        [
            layer(lambda t: t.nn.LayerNorm(6), numbers((5, 6))),
            layer(lambda t: t.nn.LayerNorm((4, 6), eps=0.1), numbers((2, 3, 4, 6))),
            layer(lambda t: t.nn.LayerNorm([6], bias=False), numbers((6,))),
            layer(lambda t: t.nn.LayerNorm(6, elementwise_affine=False), numbers((5, 6))),
        ],
    ),
    Row(
        "nn.RMSNorm",
        [
            layer(lambda t: t.nn.RMSNorm(6), numbers((5, 6))),
            layer(lambda t: t.nn.RMSNorm((4, 6), eps=0.1), numbers((2, 3, 4, 6))),
            layer(lambda t: t.nn.RMSNorm(6, elementwise_affine=False), numbers((5, 6))),
        ],
    ),
    Row(
        "nn.GroupNorm",
        [
            layer(lambda t: t.nn.GroupNorm(2, 6), numbers((5, 6))),
            layer(lambda t: t.nn.GroupNorm(3, 6, eps=0.1), numbers((2, 6, 4, 5))),
            layer(lambda t: t.nn.GroupNorm(6, 6, bias=False), numbers((2, 6, 40))),
            layer(lambda t: t.nn.GroupNorm(1, 6, affine=False), numbers((2, 6, 4))),
        ],
    ),
]
