"""Nested tuples, lists and dicts as a flat list of leaves and a form that puts leaves back into place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

#: The form of a leaf; a container's is (its type, its keys or None, the forms within). Forms can be compared.
LEAF = "leaf"
Form = Any


def flatten(tree: Any) -> tuple[list[Any], Form]:
    """The leaves of a tree, in order, and its form."""
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Form:
    kind = type(tree)
    if isinstance(tree, dict):
        return kind, tuple(tree), tuple([_take_apart(child, leaves) for child in tree.values()])
    if isinstance(tree, tuple | list):
        return kind, None, tuple([_take_apart(child, leaves) for child in tree])
    leaves.append(tree)
    return LEAF


def build(form: Form, leaves: Iterator[Any]) -> Any:
    """A tree of that form; takes as many leaves as there are in it."""
    if form is LEAF:
        return next(leaves)
    kind, keys, children = form
    built = [build(child, leaves) for child in children]
    if keys is not None:
        return dict(zip(keys, built, strict=True))
    if hasattr(kind, "_fields"):  # a NamedTuple
        return kind(*built)
    return list(built) if issubclass(kind, list) else tuple(built)


def builder(form: Form) -> Callable[[Sequence[Any]], Any]:
    """`build` for lists of leaves, for calls by the million: which leaf goes where is settled beforehand."""
    return _getter(form, 0)[0]


def _getter(form: Form, first: int) -> tuple[Callable[[Sequence[Any]], Any], int]:
    """What builds a tree from a list in which its leaves start at `first`, and where they end."""
    if form is LEAF:
        return itemgetter(first), first + 1
    kind, keys, children = form
    if kind is tuple and len(children) > 1 and all(child is LEAF for child in children):
        return itemgetter(*range(first, first + len(children))), first + len(children)
    getters, at = [], first
    for child in children:
        getter, at = _getter(child, at)
        getters.append(getter)
    if keys is not None:
        return lambda leaves: {key: get(leaves) for key, get in zip(keys, getters, strict=True)}, at
    if hasattr(kind, "_fields"):  # a NamedTuple
        return lambda leaves: kind(*[get(leaves) for get in getters]), at
    sequence = list if issubclass(kind, list) else tuple
    return lambda leaves: sequence([get(leaves) for get in getters]), at
