"""Optimizer: parameter groups, their state, and steps of one C call per group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tinyml import _core, _recording
from tinyml._dtypes import DTYPES, DType, float64
from tinyml._node import Node, enable_grad
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Tensor, tensor

Parameters: TypeAlias = Iterable[Node] | Iterable[dict[str, Any]]
L = TypeVar("L")


class UpdateRule:
    """A rule of csrc/ops/update.h, with names for its states; the first state is the step
    counter."""

    def __init__(self, name: str, *states: str) -> None:
        self.ref = _core.update_rule(name)
        self.states = states


class _Group(dict[str, Any]):
    """A parameter group that counts its changes, because recorded programs hold its hyperparameters."""

    def __setitem__(self, key: str, value: Any) -> None:
        _recording.changed("changing a parameter group")
        super().__setitem__(key, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        _recording.changed("changing a parameter group")
        super().update(*args, **kwargs)

    def __delitem__(self, key: str) -> None:
        _recording.changed("changing a parameter group")
        super().__delitem__(key)

    # dict's other methods would go past these
    def __ior__(self, other: Any) -> _Group:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        _recording.changed("changing a parameter group")
        return super().pop(key, *default)


class _Groups(list[Any]):
    """The groups of an optimizer. Counts changes too, and makes a _Group of what is put in."""


def _counting(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def called(self: _Groups, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        for i, group in enumerate(self):
            if not isinstance(group, _Group):
                list.__setitem__(self, i, _Group(group))
        _recording.changed("changing the parameter groups")
        return result

    return called


_MUTATORS = [
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "append",
    "extend",
    "insert",
    "pop",
    "remove",
    "clear",
    "reverse",
]
for _name in _MUTATORS:
    setattr(_Groups, _name, _counting(_name))


class _Binding:
    """The references that C needs of one group; valid as long as the group has this very tuple of
    parameters."""

    def __init__(self, parameters: tuple[Node, ...]) -> None:
        self.parameters = parameters
        self.refs = _core.refs([node._ref for node in parameters])
        self.states: dict[UpdateRule, tuple[Any, list[Tensor]]] = {}


def _filled(dtype: DType, shape: tuple[int, ...], number: float = 0.0) -> Tensor:
    numbers = np.full(shape, number, dtype.numpy) if number else None
    return Tensor._wrap(_core.leaf(dtype.code, shape, numbers, False))


def _layout(node: Node, state: str) -> tuple[DType, tuple[int, ...]]:
    """The dtype and shape of a parameter's state of that name."""
    if state == "step":
        return float64, ()
    return DTYPES[_core.dtype_of(node._ref)], _core.shape(node._ref)


class Optimizer(ABC):
    """Base of all optimizers. https://docs.pytorch.org/docs/stable/optim.html

    `params` is an iterable of Tensors and Values, which may be mixed, or of dicts: parameter groups
    with hyperparameters of their own beside 'params'. A subclass gives the defaults, checks a
    group's hyperparameters in `_check`, and in `_update` names the C rule and the numbers it takes.

    `param_groups` may be edited between steps. A group's 'params' is a tuple: assign another
    sequence to change it. A parameter without a gradient is left alone by a step, its state and
    step count included.

    Raises DTypeError (a TypeError) for what is no floating-point Tensor or Value, ArgumentError (a
    ValueError) for results of ops, duplicates, an empty list, and hyperparameters out of range.
    """

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = _Groups()
        self._state: dict[Node, dict[str, Tensor]] = {}
        self._bindings: dict[int, _Binding] = {}
        if isinstance(params, Node | dict):
            raise DTypeError(
                f"{self._name}: params is one {type(params).__name__}, expected an iterable; put it into a list"
            )
        groups: list[Any] = list(params)
        if not groups:
            raise ArgumentError(
                f"{self._name}: got no parameters; a generator such as model.parameters() is used up after one pass"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "param_groups" and not isinstance(value, _Groups):
            value = _Groups(map(_Group, value))
            _recording.changed("changing the parameter groups")
        object.__setattr__(self, name, value)

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def state(self) -> Mapping[Node, Mapping[str, Tensor]]:
        """For every parameter of a group that has made a step, its state tensors by name.

        To look at; load_state_dict changes it.
        """
        return MappingProxyType(self._state)

    @abstractmethod
    def _check(self, group: dict[str, Any]) -> None:
        """Raises ArgumentError when a hyperparameter of the group is out of range."""

    @abstractmethod
    def _update(self, group: dict[str, Any]) -> tuple[UpdateRule, Sequence[float]]:
        """The rule for the group's step and its hyperparameters, in the order of
        csrc/ops/update.h."""

    def _initial(self, group: dict[str, Any], state: str) -> float:
        """What the group's states of that name start at."""
        return 0.0

    def _require(self, condition: bool, group: dict[str, Any], name: str, expected: str) -> None:
        if not condition:
            raise ArgumentError(f"{self._name}: {name} is {group[name]}, expected {expected}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters, with hyperparameters of their own where the dict has them. Raises as the
        constructor does.

        >>> import tinyml
        >>> w, b = tinyml.zeros(3, requires_grad=True), tinyml.Value(0.0)
        >>> optimizer = tinyml.optim.SGD([w], lr=0.1)
        >>> optimizer.add_param_group({"params": [b], "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise DTypeError(
                f"{self._name}: got a {type(param_group).__name__} as parameter group, "
                "expected a dict with the key 'params'"
            )
        group = {**self.defaults, **param_group}
        group["params"] = self._parameters(group["params"])
        self._check(group)
        seen: set[int] = set()
        for node in (node for each in (*self.param_groups, group) for node in each["params"]):
            if node._ref in seen:
                raise ArgumentError(
                    f"{self._name}: a parameter appears twice, and each step would move it twice; "
                    "list shared parameters once"
                )
            seen.add(node._ref)
        self.param_groups.append(group)

    def _parameters(self, params: Any) -> tuple[Node, ...]:
        if isinstance(params, set | frozenset):
            raise DTypeError(f"{self._name}: params is a set, which has no order; use a list")
        nodes = (params,) if isinstance(params, Node) else tuple(params)
        for i, node in enumerate(nodes):
            if not isinstance(node, Node):
                raise DTypeError(
                    f"{self._name}: parameter {i} is a {type(node).__name__}, expected a Tensor or "
                    "Value; pass model.parameters(), or use tinyml.tensor(..., requires_grad=True)"
                )
            dtype = DTYPES[_core.dtype_of(node._ref)]
            if not dtype.is_floating_point:
                raise DTypeError(
                    f"{self._name}: parameter {i} is {dtype}, expected a float dtype; convert it with .float()"
                )
            if not _core.is_leaf(node._ref):
                raise ArgumentError(
                    f"{self._name}: parameter {i} is a result of {_core.op_of(node._ref)}, "
                    "expected a leaf; optimize what it was made from, or detach() it"
                )
        return nodes

    def _bind(self, group: dict[str, Any]) -> _Binding:
        """The group's references; made anew when its parameters have been assigned."""
        binding = self._bindings.get(id(group["params"]))
        if binding is None:
            parameters = self._parameters(group["params"])
            if parameters is not group["params"]:
                dict.__setitem__(group, "params", parameters)  # the same: no change by the function being recorded
                _recording.changed()
            binding = _Binding(parameters)
            current = {id(each["params"]) for each in self.param_groups}
            self._bindings = {k: v for k, v in self._bindings.items() if k in current}
            self._bindings[id(binding.parameters)] = binding
        return binding

    def _state_refs(self, group: dict[str, Any], binding: _Binding, rule: UpdateRule) -> Any:
        """The states that a rule needs, all of the first state first; makes those that do not exist yet."""
        if rule not in binding.states:
            tensors = []
            for name in rule.states:
                for node in binding.parameters:
                    states = self._state.setdefault(node, {})
                    if name not in states:
                        states[name] = _filled(*_layout(node, name), self._initial(group, name))
                    tensors.append(states[name])
            binding.states[rule] = _core.refs([each._ref for each in tensors]), tensors
        return binding.states[rule][0]

    def _states(self, parameters: Iterable[Node], rule: UpdateRule) -> list[Tensor | None]:
        """The states as they are, in the same order."""
        return [self._state.get(node, {}).get(name) for name in rule.states for node in parameters]

    def step(self, closure: Callable[[], L] | None = None) -> L | None:
        """One step: moves every parameter that has a gradient.

        closure: if given, it is called first, with gradients switched on, and its result (the loss)
        is returned.

        >>> import tinyml
        >>> x = tinyml.Value(3.0)
        >>> optimizer = tinyml.optim.SGD([x], lr=0.25)
        >>> (x * x).backward()
        >>> optimizer.step()
        >>> x.data
        1.5
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            rule, hyper = self._update(group)
            binding = self._bind(group)
            _core.update(rule.ref, binding.refs, self._state_refs(group, binding, rule), hyper)
            if _recording.active is not None:
                _recording.updated(self, group, rule, binding.states[rule][1])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of all parameters; with set_to_none=False those there are become
        zeros instead.

        >>> import tinyml
        >>> x = tinyml.ones(2, requires_grad=True)
        >>> optimizer = tinyml.optim.SGD([x])
        >>> x.sum().backward()
        >>> optimizer.zero_grad()
        >>> x.grad is None
        True
        """
        for group in self.param_groups:
            binding = self._bind(group)
            if set_to_none:
                _core.zero_grad(binding.refs)
                continue
            for node in binding.parameters:
                ref = _core.grad(node._ref)
                if not ref and _recording.active is not None:
                    _recording.look(node._ref, "finding no gradient to set to zero")
                if ref:
                    gradient = Tensor._wrap(ref)
                    zeros = _filled(gradient.dtype, gradient.shape)
                    _core.set_grad(node._ref, zeros._ref)

    def state_dict(self) -> dict[str, Any]:
        """Everything a step depends on but parameters and gradients, as plain containers and copied
        NumPy arrays.

        {'state': {i: {name: array}}, 'param_groups': [{..., 'params': [i, ...]}]}, where i counts
        the parameters of all groups.
        https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.state_dict.html

        >>> import tinyml
        >>> x = tinyml.ones(2, requires_grad=True)
        >>> optimizer = tinyml.optim.SGD([x], lr=0.5, momentum=0.9)
        >>> x.sum().backward()
        >>> optimizer.step()
        >>> optimizer.state_dict()["state"]
        {0: {'step': array(1.), 'momentum_buffer': array([1., 1.], dtype=float32)}}
        """
        nodes = [node for group in self.param_groups for node in group["params"]]
        state = {
            i: {name: each.numpy().copy() for name, each in self._state[node].items()}
            for i, node in enumerate(nodes)
            if node in self._state
        }
        groups, start = [], 0
        for group in self.param_groups:
            n = len(group["params"])
            groups.append({**group, "params": list(range(start, start + n))})
            start += n
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave; its arrays may have become lists.

        The optimizer must have as many groups, with as many parameters each, in the same order.
        Raises ArgumentError or ShapeError when something does not fit; then nothing has changed.

        >>> import tinyml
        >>> x = tinyml.ones(2, requires_grad=True)
        >>> saved = tinyml.optim.Adam([x], lr=0.5).state_dict()
        >>> optimizer = tinyml.optim.Adam([x])
        >>> optimizer.load_state_dict(saved)
        >>> optimizer.param_groups[0]["lr"]
        0.5
        """
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in state_dict["param_groups"]]
        if saved_sizes != sizes:
            raise ArgumentError(
                f"load_state_dict: got groups of {saved_sizes} parameters, expected {sizes}; "
                "make the optimizer with the groups it was saved with"
            )
        groups = [
            {**group, **saved, "params": group["params"]}
            for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        for group in groups:
            self._check(group)
        nodes = {
            i: node
            for group, saved in zip(groups, state_dict["param_groups"], strict=True)
            for i, node in zip(saved["params"], group["params"], strict=True)
        }
        state: dict[Node, dict[str, Tensor]] = {}
        for i, saved_states in state_dict["state"].items():
            if int(i) not in nodes:
                raise ArgumentError(f"load_state_dict: there is a state for parameter {i}, which is in no group")
            node = nodes[int(i)]
            state[node] = {name: _loaded(node, name, data) for name, data in saved_states.items()}
        self._take(state)
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update(group)

    def _take(self, state: dict[Node, dict[str, Tensor]]) -> None:
        """Replaces the state. What exists is overwritten in place, because recorded programs hold
        on to it."""
        for node, loaded in state.items():
            for name, mine in self._state.get(node, {}).items():
                if name in loaded:
                    _core.assign(mine._ref, loaded[name]._ref)
                    loaded[name] = mine
        self._state = state
        self._bindings.clear()
        _recording.changed()

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _loaded(node: Node, name: str, data: Any) -> Tensor:
    """A saved state as a tensor of the dtype it must have."""
    dtype, shape = _layout(node, name)
    state = tensor(data, dtype=dtype)
    if state.shape != shape:
        raise ShapeError(
            f"load_state_dict: {name} has shape {state.shape}, expected {shape}; "
            "the parameters must come in the order they were saved in"
        )
    return state
