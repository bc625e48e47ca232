"""Modules that hold or arrange others: Sequential, ModuleList, ModuleDict, Identity, Flatten, Unflatten."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, TypeVar, overload

from tinyml.errors import ArgumentError, AxisError, DTypeError
from tinyml.nn._module import Module
from tinyml.tensor import Tensor

L = TypeVar("L", bound="_Modules")


def _held(container: Module) -> dict[str, Module]:
    """The modules that are attributes, by name."""
    return {name: attribute for name, attribute in vars(container).items() if isinstance(attribute, Module)}


def _numbered(modules: Iterable[Module]) -> dict[str, Module]:
    return {str(i): module for i, module in enumerate(modules)}


class _Modules(Module):
    """What Sequential and ModuleList share: modules under the names "0", "1" and so on, in a list's manner."""

    def _put(self, modules: Mapping[str, Module]) -> None:
        """Makes these the modules."""
        for name in _held(self):
            delattr(self, name)
        for name, module in modules.items():
            self.add_module(name, module)

    def _name(self, index: int) -> str:
        names = list(_held(self))
        try:
            return names[index]
        except IndexError:
            raise AxisError(f"{type(self).__name__}: index {index} is out of range for {len(names)} modules") from None

    def __len__(self) -> int:
        return len(_held(self))

    def __iter__(self) -> Iterator[Module]:
        return iter(_held(self).values())

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self: L, index: slice) -> L: ...

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return vars(self)[self._name(index)]
        chosen = type(self)()
        chosen._put(self._sliced(index))
        return chosen

    def _sliced(self, index: slice) -> dict[str, Module]:
        """The modules of a slice, under the names that they have in it."""
        return dict(list(_held(self).items())[index])

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(_held(self))[index] if isinstance(index, slice) else [self._name(index)]
        self._put(_numbered(module for name, module in _held(self).items() if name not in names))

    def append(self: L, module: Module) -> L:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: L, modules: Iterable[Module]) -> L:
        """Adds modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: L, index: int, module: Module) -> L:
        """Adds a module before the one of that index."""
        modules = list(self)
        modules.insert(index, module)
        self._put(_numbered(modules))
        return self

    def pop(self, index: int = -1) -> Module:
        """Takes a module out."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Modules):
    """Modules one after the other, each fed with the result of the one before.

    Given one dict instead, its keys are their names. https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html

    >>> from tinyml import nn
    >>> net = Sequential(nn.Linear(2, 4), nn.Tanh())
    >>> net
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): Tanh()
    )
    >>> len(net[:1]), list(Sequential({"hidden": nn.Linear(2, 4)}).state_dict())
    (1, ['hidden.weight', 'hidden.bias'])
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._put(modules[0])
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        """What the first module takes; what the last one gives."""
        for module in self.children():
            input = module(input)
        return input


class ModuleList(_Modules):
    """A list of modules that are found in it, with no forward of its own.

    A plain list as an attribute will do as well, under the same names; this one can be printed and extended.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html

    >>> from tinyml import nn
    >>> layers = ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers.append(nn.Tanh())), len(layers[1:]), layers[-1]
    (4, 3, Tanh())
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def _sliced(self, index: slice) -> dict[str, Module]:
        return _numbered(list(self)[index])


class ModuleDict(Module):
    """Modules by name, as a dict holds them, with no forward of its own.

    Names are attributes, so they have no dots and are none of the class's own, as "keys".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleDict.html

    >>> from tinyml import nn
    >>> heads = ModuleDict({"mean": nn.Linear(2, 1), "scale": nn.Linear(2, 1)})
    >>> list(heads), "mean" in heads, heads["scale"]
    (['mean', 'scale'], True, Linear(in_features=2, out_features=1, bias=True))
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds modules, in place of those that have the same names."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        modules = _held(self)
        if name not in modules:
            raise ArgumentError(f"ModuleDict: got {name!r}, expected one of: {', '.join(modules)}")
        return modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in _held(self)

    def __len__(self) -> int:
        return len(_held(self))

    def __iter__(self) -> Iterator[str]:
        return iter(_held(self))

    def keys(self) -> KeysView[str]:
        """The names."""
        return _held(self).keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return _held(self).values()

    def items(self) -> ItemsView[str, Module]:
        """Pairs of name and module."""
        return _held(self).items()

    def pop(self, name: str) -> Module:
        """Takes a module out."""
        module = self[name]
        delattr(self, name)
        return module

    def clear(self) -> None:
        """Takes all modules out."""
        for name in _held(self):
            delattr(self, name)


class Identity(Module):
    """Gives what it gets; whatever it is made with is ignored.

    >>> Identity(54, unused=0.1)("this")
    'this'
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        """Anything."""
        return input


class Flatten(Module):
    """Merges the dimensions from start_dim to end_dim; by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Any shape that has these dimensions."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits the dimension `dim` into several, of which one may be -1.

    >>> import tinyml
    >>> Unflatten(1, (2, -1))(tinyml.zeros(5, 6)).shape
    (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        if isinstance(unflattened_size, int) or not all(isinstance(extent, int) for extent in unflattened_size):
            raise DTypeError(f"Unflatten: got unflattened_size {unflattened_size!r}, expected a sequence of ints")
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """Any shape that has this dimension."""
        shape = input.shape
        before = input._axis("Unflatten", self.dim)
        return input.reshape(*shape[:before], *self.unflattened_size, *shape[before + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
