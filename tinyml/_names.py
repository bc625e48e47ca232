"""What a function reaches by name: variables of its closure and its module, and attributes of the objects among them.

A recording is for what they were at the time. Where one of them names something else now, or a list of nodes has other
elements, the function has to be recorded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter, itemgetter
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from tinyml._node import Node
from tinyml._recording import is_module

_contents = attrgetter("cell_contents")
_FEW = 64  # elements: a longer list of anything but nodes is data
_CONSTANT = (ModuleType, BuiltinFunctionType, type)


class Names:
    """Everything that a function names, and the functions that it names in turn. modules: nn.Modules among that.

    Objects are told apart by identity, all in a few calls: this runs before every replay.
    """

    def __init__(self, function: Any, arguments: Iterable[Any], compiled: Any) -> None:
        self.modules: list[Any] = []
        self._cells: list[Any] = []
        self._spaces: list[tuple[dict[str, Any], Callable[[Any], Any]]] = []
        self._collections: list[Any] = []
        self._kept: list[Any] = []  # so that no address is used again
        self._seen = {id(compiled)}  # which may be named too, and must not keep itself alive
        self._mentioned: set[str] = set()  # in the code of any of the functions
        self._owners: list[Any] = []  # objects whose attributes these may be
        self._take(function)
        for argument in arguments:
            self._take(argument)
        for owner in self._owners:  # which may become more on the way
            self._own(owner)
        watched: list[tuple[Callable[[Any], Iterable[Any]], Any]] = []
        watched += [(partial(map, _contents), self._cells)] if self._cells else []
        watched += [(getter, space) for space, getter in self._spaces]
        watched += [(dict.values if isinstance(each, dict) else iter, each) for each in self._collections]
        self._watched = [(look, where, tuple(map(id, look(where)))) for look, where in watched]

    def unchanged(self) -> bool:
        """Whether all is as it was."""
        try:
            for look, where, then in self._watched:
                if tuple(map(id, look(where))) != then:
                    return False
        except (ValueError, KeyError):  # a name is gone
            return False
        return True

    def _take(self, value: Any) -> None:
        """Takes in what a name stands for."""
        if id(value) in self._seen or isinstance(value, _CONSTANT):
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if is_module(value):
            self.modules.append(value)
        elif isinstance(value, partial):
            for each in (value.func, *value.args, *value.keywords.values()):
                self._take(each)
        elif isinstance(value, MethodType):
            self._take(value.__self__)
            self._take(value.__func__)
        elif isinstance(value, FunctionType):
            self._follow(value)
        elif isinstance(value, list | tuple | dict):
            elements = list(value.values() if isinstance(value, dict) else value)
            if len(elements) <= _FEW or any(
                isinstance(each, Node | list | dict) or is_module(each) for each in elements
            ):
                if not isinstance(value, tuple):
                    self._collections.append(value)
                for each in elements:
                    self._take(each)
        elif not type(value).__module__.startswith("tinyml.") and hasattr(value, "__dict__"):
            self._owners.append(value)
        self._take(getattr(value, "__wrapped__", None))  # as a compiled function has

    def _follow(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                self._take(cell.cell_contents)
            except ValueError:  # still empty
                continue
            self._cells.append(cell)
        if not (function.__module__ or "").startswith("tinyml."):
            names = set(_names_in(function.__code__))
            self._mentioned |= names
            self._space(function.__globals__, names)

    def _space(self, space: dict[str, Any], names: set[str]) -> None:
        watched = sorted(name for name in names if name in space and not isinstance(space[name], _CONSTANT))
        for name in watched:
            self._take(space[name])
        if watched:
            self._spaces.append((space, itemgetter(*watched, watched[0])))  # two at least, which makes it a tuple

    def _own(self, owner: Any) -> None:
        known: set[str] = set()
        while known != self._mentioned:  # methods mention others
            known = set(self._mentioned)
            for name in ("__call__", *known):
                self._take(getattr(type(owner), name, None))
        self._space(vars(owner), known)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names_in(each)
