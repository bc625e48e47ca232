"""Convolutions and pooling."""

from __future__ import annotations

from parity._row import Row, layer, numbers

IMAGES, PLAIN, SIGNAL = numbers((2, 4, 7, 9)), numbers((4, 7, 9)), numbers((2, 4, 11))

ROWS = [
    Row(
        "nn.Conv1d",
        [
            layer(lambda t: t.nn.Conv1d(4, 6, 3), SIGNAL),
            layer(lambda t: t.nn.Conv1d(4, 6, 3, 2, 1, bias=False), SIGNAL),
            layer(lambda t: t.nn.Conv1d(4, 6, 3, padding="same", dilation=2, groups=2), SIGNAL),
            layer(lambda t: t.nn.Conv1d(4, 8, (5,), groups=4), numbers((4, 11))),
        ],
        note="padding_mode is zeros",
    ),
    Row(
        "nn.Conv2d",
        [
            layer(lambda t: t.nn.Conv2d(4, 6, 3), IMAGES),
            layer(lambda t: t.nn.Conv2d(4, 6, (3, 2), (1, 3), (2, 1), bias=False), IMAGES),
            layer(lambda t: t.nn.Conv2d(4, 6, 3, padding="same", dilation=(2, 1), groups=2), IMAGES),
            layer(lambda t: t.nn.Conv2d(4, 6, 3, padding="valid"), PLAIN),
            layer(lambda t: t.nn.Conv2d(4, 4, 3, padding=1, groups=4), IMAGES),
            layer(lambda t: t.nn.Conv2d(4, 5, 1), IMAGES),
        ],
        note="padding_mode is zeros",
    ),
    Row(
        "nn.MaxPool1d",
        [
            layer(lambda t: t.nn.MaxPool1d(2), SIGNAL),
            layer(lambda t: t.nn.MaxPool1d(3, 2, 1, 2, ceil_mode=True), SIGNAL),
        ],
        note="no return_indices",
    ),
    Row(
        "nn.MaxPool2d",
        [
            layer(lambda t: t.nn.MaxPool2d(2), IMAGES),
            layer(lambda t: t.nn.MaxPool2d(3, 2, 1), PLAIN),
            layer(lambda t: t.nn.MaxPool2d((2, 3), (1, 2), (1, 0), (2, 1), ceil_mode=True), IMAGES),
        ],
        note="no return_indices",
    ),
    Row(
        "nn.AvgPool1d",
        [
            layer(lambda t: t.nn.AvgPool1d(2), SIGNAL),
            layer(lambda t: t.nn.AvgPool1d(3, 2, 1, True, False), SIGNAL),
        ],
    ),
    Row(
        "nn.AvgPool2d",
        [
            layer(lambda t: t.nn.AvgPool2d(2), IMAGES),
            layer(lambda t: t.nn.AvgPool2d(3, 2, 1, ceil_mode=True), PLAIN),
            layer(lambda t: t.nn.AvgPool2d((2, 3), (1, 2), 1, count_include_pad=False), IMAGES),
            layer(lambda t: t.nn.AvgPool2d(3, divisor_override=2), IMAGES),
        ],
    ),
    Row(
        "nn.AdaptiveAvgPool2d",
        [
            layer(lambda t: t.nn.AdaptiveAvgPool2d(1), IMAGES),
            layer(lambda t: t.nn.AdaptiveAvgPool2d((3, None)), PLAIN),
            layer(lambda t: t.nn.AdaptiveAvgPool2d((4, 10)), IMAGES),
        ],
    ),
]
