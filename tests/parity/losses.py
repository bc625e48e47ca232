"""Losses, as modules, with all options."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from parity._row import Array, Row, Run, function, numbers

REDUCTIONS = ("mean", "sum", "none")
A, B = numbers((6, 5), 1, -3, 3), numbers((6, 5), 2, -3, 3)
LOGITS = np.concatenate([numbers((6, 5), 3), numbers((2, 5), 4, -1000, 1000)])
LABELS = np.array([0, 4, 2, 3, 1, 1, 2, 0])
MAPS, MAP_LABELS = numbers((2, 5, 3, 4), 5), np.random.default_rng(6).integers(0, 5, (2, 3, 4))
CLASS_WEIGHT, ELEMENT_WEIGHT = numbers((5,), 7, 0.1, 2), numbers((8, 5), 8, 0.1, 2)
PROBABILITIES, TARGETS = numbers((8, 5), 9, 0.01, 0.99), numbers((8, 5), 10, 0, 1)
EDGES, EDGE_TARGETS = np.array([0.0, 1, 0, 1, 1e-200, 0.5]), np.array([0.0, 1, 1, 0, 1, 0])
LOG_PROBABILITIES = np.log(PROBABILITIES)


def distributions(scores: Array, axis: int) -> Array:
    """Numbers that add up to 1 along an axis."""
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def loss(name: str, *inputs: Array, weights: dict[str, Array] | None = None, **options: Any) -> Run:
    """The loss of that name, with an option for each reduction that is not given."""

    def call(t: Any, *leaves: Any) -> Any:
        given = options | {key: t.tensor(array) for key, array in (weights or {}).items()}
        reductions = [{}] if "reduction" in options else [{"reduction": each} for each in REDUCTIONS]
        make = getattr(t.nn, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of KLDivLoss("mean")
            return tuple(make(**given, **reduction)(*leaves) for reduction in reductions)

    return function(call, *inputs)


def hinge(t: Any, x: Any, y: Any) -> Any:
    if t.__name__ == "tinyml":
        return tuple(t.nn.HingeLoss(reduction)(x, y) for reduction in REDUCTIONS)
    terms = t.nn.functional.relu(1 - x * y)
    return terms.mean(), terms.sum(), terms


ROWS = [
    Row("nn.MSELoss", [loss("MSELoss", A, B)], note="Unequal shapes raise ShapeError."),
    Row("nn.L1Loss", [loss("L1Loss", A, B)], note="Unequal shapes raise ShapeError."),
    Row(
        "nn.HuberLoss",
        [loss("HuberLoss", A, B), loss("HuberLoss", A, B, delta=0.4)],
        note="Unequal shapes raise ShapeError.",
    ),
    Row(
        "nn.SmoothL1Loss",
        [loss("SmoothL1Loss", A, B), loss("SmoothL1Loss", A, B, beta=0.4), loss("SmoothL1Loss", A, B, beta=0)],
        note="Unequal shapes raise ShapeError.",
    ),
    Row(
        "nn.HingeLoss",
        [function(hinge, A, np.sign(B))],
        counterpart="relu(1 - target * input)",
        note="PyTorch has none by this name.",
    ),
    Row(
        "nn.BCELoss",
        [
            loss("BCELoss", PROBABILITIES, TARGETS),
            loss("BCELoss", PROBABILITIES, TARGETS, weights={"weight": ELEMENT_WEIGHT}),
            loss("BCELoss", PROBABILITIES, TARGETS, weights={"weight": CLASS_WEIGHT}),
            function(lambda t, p: t.nn.BCELoss(reduction="sum")(p, t.tensor(EDGE_TARGETS)), EDGES),
        ],
        note="Targets outside 0 to 1 raise ArgumentError.",
    ),
    Row(
        "nn.BCEWithLogitsLoss",
        [
            loss("BCEWithLogitsLoss", LOGITS, TARGETS),
            loss("BCEWithLogitsLoss", LOGITS, np.round(TARGETS), weights={"weight": ELEMENT_WEIGHT}),
            loss("BCEWithLogitsLoss", LOGITS, TARGETS, weights={"pos_weight": CLASS_WEIGHT}),
            loss("BCEWithLogitsLoss", LOGITS, TARGETS, weights={"weight": ELEMENT_WEIGHT, "pos_weight": CLASS_WEIGHT}),
        ],
        note="Targets outside 0 to 1 raise ArgumentError.",
    ),
    Row(
        "nn.CrossEntropyLoss",
        [
            loss("CrossEntropyLoss", LOGITS, LABELS),
            loss("CrossEntropyLoss", LOGITS[0], LABELS[0]),
            loss("CrossEntropyLoss", MAPS, MAP_LABELS, ignore_index=2),
            loss("CrossEntropyLoss", LOGITS, LABELS, ignore_index=1, label_smoothing=0.2),
            loss("CrossEntropyLoss", LOGITS, LABELS, weights={"weight": CLASS_WEIGHT}),
            loss("CrossEntropyLoss", LOGITS[0], LABELS[0], weights={"weight": CLASS_WEIGHT}),
            loss("CrossEntropyLoss", MAPS, MAP_LABELS, weights={"weight": CLASS_WEIGHT}, ignore_index=2),
            loss(
                "CrossEntropyLoss",
                MAPS,
                MAP_LABELS,
                weights={"weight": CLASS_WEIGHT},
                ignore_index=2,
                label_smoothing=0.3,
            ),
            loss("CrossEntropyLoss", LOGITS, TARGETS),
            loss("CrossEntropyLoss", LOGITS, distributions(ELEMENT_WEIGHT, 1), label_smoothing=0.1),
            loss("CrossEntropyLoss", LOGITS[0], TARGETS[0], weights={"weight": CLASS_WEIGHT}),
            loss(
                "CrossEntropyLoss",
                MAPS,
                distributions(2 * MAPS, 1),
                weights={"weight": CLASS_WEIGHT},
                label_smoothing=0.1,
            ),
        ],
        note="Negative probabilities raise ArgumentError.",
    ),
    Row(
        "nn.NLLLoss",
        [
            loss("NLLLoss", LOGITS, LABELS),
            loss("NLLLoss", MAPS, MAP_LABELS, ignore_index=0),
            loss("NLLLoss", MAPS, MAP_LABELS, ignore_index=0, weights={"weight": CLASS_WEIGHT}),
        ],
    ),
    Row(
        "nn.KLDivLoss",
        [
            loss("KLDivLoss", LOG_PROBABILITIES, TARGETS),
            loss("KLDivLoss", LOG_PROBABILITIES, TARGETS, reduction="batchmean"),
            loss("KLDivLoss", LOG_PROBABILITIES, A[[0, 1, 2, 3, 4, 5, 0, 1]], log_target=True),
            loss("KLDivLoss", A, B, reduction="batchmean", log_target=True),
            function(lambda t, x: t.nn.KLDivLoss(reduction="sum")(x, t.tensor(EDGE_TARGETS)), -np.ones(6)),
        ],
        note="Unequal shapes raise ShapeError, negative probabilities ArgumentError.",
    ),
]
