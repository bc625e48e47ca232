"""Bad input: the exception, what it says, and that nothing has changed."""

import gc
import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import tinyml
from tinyml import Value, errors, nn, optim
from tinyml.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    GraphError,
    OutOfMemoryError,
    ShapeError,
    TinymlError,
)
from tinyml.nn import functional as F

BUILTINS = {
    "ArgumentError": ValueError,
    "ShapeError": ValueError,
    "DTypeError": TypeError,
    "AxisError": IndexError,
    "OutOfMemoryError": MemoryError,
    "GraphError": RuntimeError,
    "AnomalyError": RuntimeError,
    "DataError": ValueError,
    "MissingError": ImportError,
}


def test_every_exception_is_also_a_builtin():
    classes = dict(inspect.getmembers(errors, inspect.isclass))
    assert set(classes) == {*BUILTINS, "TinymlError", "FrozenWarning"}
    for name, builtin in BUILTINS.items():
        assert issubclass(classes[name], TinymlError)
        assert issubclass(classes[name], builtin)


class World:
    """What the calls below work on; snapshot() tells whether they have changed any of it."""

    def __init__(self):
        self.x = tinyml.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
        self.y = tinyml.tensor(np.arange(8.0).reshape(2, 4), requires_grad=True)
        self.v = tinyml.tensor([1.0, 2.0], requires_grad=True)  # float32
        self.i = tinyml.tensor([0, 1])
        self.m = tinyml.tensor([True, False])
        self.s = tinyml.tensor(2.0, requires_grad=True)
        self.a = Value(2.0)
        self.z = self.x * 2
        self.linear = nn.Linear(3, 2)
        self.sgd = optim.SGD([self.v], lr=0.1)
        (self.z.sum() + self.v.sum() * self.a).backward()

    def snapshot(self):
        nodes = [self.x, self.y, self.v, self.i, self.m, self.s, self.z, *self.linear.parameters()]
        grad = lambda x: None if x.grad is None else x.grad.tolist()  # noqa: E731
        state = [(x.tolist(), grad(x), x.requires_grad, x.shape, x.dtype) for x in nodes]
        group = {k: v for k, v in self.sgd.param_groups[0].items() if k != "params"}
        return state, self.a.data, self.a.grad, group, tinyml.get_num_threads()


def set_(target, name, value):
    return lambda w: setattr(getattr(w, target), name, value)


# Each row: the exception, what the message must say (a regular expression), the call.
BAD = [
    # shapes
    (ShapeError, r"add: .*\(2, 3\).*\(2, 4\)", lambda w: w.x + w.y),
    (ShapeError, r"mul: .*\(2, 3\).*\(2,?\)", lambda w: w.x * w.v),
    (ShapeError, r"pow: .*\(2,?\).*\(2, 3\)", lambda w: np.arange(2.0) ** w.x),
    (ShapeError, r"lt: .*\(2, 3\).*\(2,?\)", lambda w: w.x < w.v),
    (ShapeError, r"where: .*\(2, 3\).*\(2, 4\)", lambda w: tinyml.where(w.x > 0, w.x, w.y)),
    (ShapeError, r"matmul: .*\(2, 3\).*\(2, 4\)", lambda w: w.x @ w.y),
    (ShapeError, r"matmul: .*", lambda w: w.s @ w.x),
    (ShapeError, r"matmul: .*", lambda w: w.x @ 2),
    (ShapeError, r"linear: .*\(2, 4\).*\(2, 3\)", lambda w: w.linear(w.y)),
    (ShapeError, r"linear: .*", lambda w: F.linear(w.x, w.x, w.x)),
    (ShapeError, r"linear: .*", lambda w: F.linear(w.x, w.v)),
    (ShapeError, r"reshape: .*\(4,?\).*\(2, 3\).*6", lambda w: w.x.reshape(4)),
    (ShapeError, r"reshape: .*-1", lambda w: w.x.reshape(-1, -1)),
    (ShapeError, r"reshape: .*-1", lambda w: w.x.reshape(4, -1)),
    (ShapeError, r"reshape: .*-2", lambda w: w.x.reshape(-2, 3)),
    (ShapeError, r"reshape: ", lambda w: tinyml.zeros(0).reshape(0, -1)),
    (ShapeError, r"reshape: .*17", lambda w: w.x.reshape([1] * 15 + [2, 3])),
    (ShapeError, r"expand: .*\(2, 3\)", lambda w: w.x.expand(4, 3)),
    (ShapeError, r"expand: ", lambda w: w.x.expand(3)),
    (ShapeError, r"cat: |concat: ", lambda w: tinyml.cat([w.x, w.y])),
    (ShapeError, r"cat: |concat: ", lambda w: tinyml.cat([w.x, w.v])),
    (AxisError, r"concat: .*0-d", lambda w: tinyml.cat([w.s, w.s])),
    (ShapeError, r"stack: .*\(2, 3\).*\(2, 4\)|stack: .*\(2, 4\).*\(2, 3\)", lambda w: tinyml.stack([w.x, w.y])),
    (ShapeError, r"t: .*\(1, 2, 3\)", lambda w: w.x.reshape(1, 2, 3).t()),
    (ShapeError, r"split: .*3", lambda w: w.x.split([1, 1], dim=1)),
    (ShapeError, r"gather: ", lambda w: w.x.gather(0, w.i)),
    (ShapeError, r"mse_loss: .*\(2, 3\).*\(2, 4\)", lambda w: F.mse_loss(w.x, w.y)),
    (ShapeError, r"cross_entropy: ", lambda w: F.cross_entropy(w.x, [0, 1, 2])),
    (ShapeError, r"cross_entropy: ", lambda w: F.cross_entropy(w.s, [0])),
    (ShapeError, r"nll_loss: ", lambda w: F.nll_loss(w.x, [[0, 1]])),
    (ShapeError, r"got .*2 inputs", lambda w: nn.Neuron(3)([1.0, 2.0])),
    (ShapeError, r"add_n: .*\(2,?\) and \(2, 3\)", lambda w: tinyml.sum([w.a, w.v, w.x])),
    (ShapeError, r"zeros: .*-1.*at least 0", lambda w: tinyml.zeros(-1)),
    (ShapeError, r"ones: .*-1.*at least 0", lambda w: tinyml.ones(2, -1)),
    (ShapeError, r"full: .*-1.*at least 0", lambda w: tinyml.full((-1,), 1)),
    (ShapeError, r"randn: .*-3.*at least 0", lambda w: tinyml.randn(-3)),
    (ShapeError, r"tensor: 17 dimensions, expected at most 16", lambda w: tinyml.zeros([1] * 17)),
    (ShapeError, r"xavier_uniform_: .*\(2,\)", lambda w: nn.init.xavier_uniform_(w.v)),
    # ragged lists
    (ShapeError, r"tensor: rows of different lengths.*pad", lambda w: tinyml.tensor([[1.0], [1.0, 2.0]])),
    (ShapeError, r"data: rows of different", set_("v", "data", [[1.0], [1.0, 2.0]])),
    # dtypes and types
    (DTypeError, r"tensor: .*U3.*expected numbers", lambda w: tinyml.tensor("abc")),
    (DTypeError, r"tensor: .*U1", lambda w: tinyml.tensor(["a", "b"], dtype="float32")),
    (DTypeError, r"tensor: .*complex128", lambda w: tinyml.tensor([1j])),
    (DTypeError, r"tensor: .*complex64", lambda w: tinyml.from_numpy(np.zeros(2, np.complex64))),
    (DTypeError, r"tensor: got object", lambda w: tinyml.tensor(object())),
    (DTypeError, r"tensor: got NoneType", lambda w: tinyml.tensor(None)),
    (DTypeError, r"tensor: got dict", lambda w: tinyml.tensor({})),
    (DTypeError, r"tensor: got list.*stack", lambda w: tinyml.tensor([Value(1.0), None])),
    (DTypeError, r"tensor: .*datetime64", lambda w: tinyml.tensor(np.zeros(2, "M8[s]"))),
    (DTypeError, r"tensor: .*uint64", lambda w: tinyml.tensor(np.array([2**64 - 1], np.uint64))),
    (DTypeError, r"dtype: got 'float16', expected one of tinyml\.float32", lambda w: w.x.to("float16")),
    (DTypeError, r"dtype: got 'abc'", lambda w: tinyml.zeros(2, dtype="abc")),
    (DTypeError, r"dtype: got 3", lambda w: tinyml.zeros(2, dtype=3)),
    (DTypeError, r"shape: got \(1\.5,\), expected ints", lambda w: tinyml.zeros(1.5)),
    (DTypeError, r"shape: got \('a', 2\), expected ints", lambda w: w.x.reshape("a", 2)),
    (DTypeError, r"maximum: got str, expected", lambda w: w.x.maximum("a")),
    (DTypeError, r"matmul: got str|unsupported", lambda w: w.x.matmul("a")),
    (DTypeError, r"exp: .*U1", lambda w: tinyml.exp("a")),
    (DTypeError, r"exp: got NoneType", lambda w: tinyml.exp(None)),
    (DTypeError, r"~: got tinyml\.float64, expected bool", lambda w: ~w.x),
    (DTypeError, r"cross_entropy: .*float", lambda w: F.cross_entropy(w.x, [0.5, 1.0])),
    (DTypeError, r"nll_loss: .*float", lambda w: F.nll_loss(w.x, w.v)),
    (DTypeError, r"one_hot: .*float", lambda w: F.one_hot([0.5])),
    (DTypeError, r"take: .*float32.*int64", lambda w: F.embedding(w.v, w.x)),
    (DTypeError, r"gather: .*float32.*int64", lambda w: w.v.gather(0, tinyml.ones(2))),
    (DTypeError, r"index: .*float", lambda w: w.x[0.5]),
    (DTypeError, r"len: ", lambda w: len(w.s)),
    (DTypeError, r"requires_grad: got int64", set_("i", "requires_grad", True)),
    (DTypeError, r"requires_grad: got bool", lambda w: tinyml.ones(2, dtype="bool", requires_grad=True)),
    (DTypeError, r"Value: got str", lambda w: Value("1")),
    (DTypeError, r"sum: |tensor: ", lambda w: tinyml.sum([w.a, "a"])),
    (DTypeError, r"SGD: .*int64", lambda w: optim.SGD([w.i])),
    (DTypeError, r"Adam: .*list", lambda w: optim.Adam([[1.0]])),
    (DTypeError, r"SGD: .*Tensor.*list", lambda w: optim.SGD(w.v)),
    (DTypeError, r"requires_grad: got int64", lambda w: nn.Parameter([1, 2])),
    # axes
    (AxisError, r"sum: axis 2 is out of range .*-2 to 1", lambda w: w.x.sum(2)),
    (AxisError, r"mean: axis -3 is out of range .*-2 to 1", lambda w: w.x.mean(-3)),
    (AxisError, r"max: .*2.*\(2, 3\)|argmax: .*2", lambda w: w.x.max(2)),
    (AxisError, r"argmin: .*5", lambda w: w.x.argmin(5)),
    (AxisError, r"softmax: .*2", lambda w: w.x.softmax(2)),
    (AxisError, r"logsumexp: .*2", lambda w: w.x.logsumexp(2)),
    (AxisError, r"cumsum: .*2", lambda w: w.x.cumsum(2)),
    (AxisError, r"var: .*2", lambda w: w.x.var((0, 2))),
    (AxisError, r"stack: .*3", lambda w: tinyml.stack([w.x, w.x], 3)),
    (AxisError, r"cat: .*2|concat: .*2", lambda w: tinyml.cat([w.x, w.x], 2)),
    (AxisError, r"permute: .*2", lambda w: w.x.permute(0, 2)),
    (AxisError, r"transpose: .*2", lambda w: w.x.transpose(0, 2)),
    (AxisError, r"transpose: ", lambda w: w.v.mT),
    (AxisError, r"flatten: .*2", lambda w: w.x.flatten(0, 2)),
    (AxisError, r"flatten: .*after", lambda w: w.x.flatten(1, 0)),
    (AxisError, r"squeeze: .*2", lambda w: w.x.squeeze(2)),
    (AxisError, r"unsqueeze: .*3", lambda w: w.x.unsqueeze(3)),
    (AxisError, r"split: .*2", lambda w: w.x.split(1, 2)),
    (AxisError, r"gather: .*2", lambda w: w.x.gather(2, tinyml.zeros(2, 3, dtype="int64"))),
    (ArgumentError, r"sum: .*twice", lambda w: w.x.sum((0, -2))),
    ((ArgumentError, ShapeError), r"permute: ", lambda w: w.x.permute(0, 0)),
    ((ArgumentError, ShapeError), r"permute: ", lambda w: w.x.permute(0)),
    # indices and labels out of range
    (AxisError, r"index: 2 is out of range for dimension 0 of shape", lambda w: w.x[2]),
    (AxisError, r"index: -4 is out of range for dimension 1 of shape", lambda w: w.x[0, -4]),
    (AxisError, r"index: got 3 indices for 2 dimensions", lambda w: w.x[0, 0, 0]),
    (AxisError, r"index: got 1 indices for 0 dimensions", lambda w: w.s[0]),
    (AxisError, r"index: ", lambda w: w.x[[0, 2]]),
    (AxisError, r"gather: .*3", lambda w: w.x.gather(1, tinyml.tensor([[0], [3]]))),
    (AxisError, r"gather: .*-1", lambda w: w.x.gather(1, tinyml.tensor([[0], [-1]]))),
    (AxisError, r"take: .*2", lambda w: F.embedding([0, 2], w.x)),
    (AxisError, r"cross_entropy: .*3", lambda w: F.cross_entropy(w.x, [0, 3])),
    (AxisError, r"cross_entropy: .*-1", lambda w: F.cross_entropy(w.x, [0, -1])),
    (AxisError, r"nll_loss: .*3", lambda w: F.nll_loss(w.x, [0, 3])),
    ((AxisError, ArgumentError), r"one_hot: .*2", lambda w: F.one_hot([0, 2], 2)),
    ((AxisError, ArgumentError), r"one_hot: .*-1", lambda w: F.one_hot([0, -1])),
    # nothing to work on
    (ArgumentError, r"max: no elements", lambda w: tinyml.zeros(0).amax()),
    (ArgumentError, r"min: no elements", lambda w: tinyml.zeros(2, 0).amin(1)),
    (ArgumentError, r"argmax: no elements", lambda w: tinyml.zeros(0).argmax()),
    (ArgumentError, r"stack: got no tensors", lambda w: tinyml.stack([])),
    (ArgumentError, r"cat: got no tensors", lambda w: tinyml.cat([])),
    (ArgumentError, r"item: got 0 elements", lambda w: tinyml.zeros(0).item()),
    ((ArgumentError, ShapeError), r"one_hot: ", lambda w: F.one_hot(tinyml.zeros(0, dtype="int64"))),
    # backward
    (GraphError, r"backward: .*\(2, 3\).*one element.*sum", lambda w: w.z.backward()),
    (GraphError, r"backward: .*\(0,?\)", lambda w: tinyml.zeros(0, requires_grad=True).backward()),
    (GraphError, r"backward: .*requires_grad=True", lambda w: w.x.detach().sum().backward()),
    (GraphError, r"backward: .*int64", lambda w: w.i.sum().backward()),
    (ShapeError, r"backward: .*\(2,?\).*\(2, 3\)", lambda w: w.z.backward([1.0, 2.0])),
    (ShapeError, r"backward: .*\(\).*\(2, 3\)", lambda w: w.z.backward(1.0)),
    (DTypeError, r"backward: .*float32.*float64", lambda w: w.z.backward(tinyml.ones(2, 3))),
    (DTypeError, r"backward: ", lambda w: w.z.backward("a")),
    (GraphError, r"retain_grad: ", lambda w: w.i.retain_grad()),
    (GraphError, r"requires_grad: .*mul", set_("z", "requires_grad", False)),
    (GraphError, r"numpy: .*detach", lambda w: w.x.numpy()),
    # assignments
    (ShapeError, r"data: .*\(3,?\).*\(2,?\)", set_("v", "data", [1.0, 2.0, 3.0])),
    (ShapeError, r"data: .*\(\).*\(2,?\)", set_("v", "data", 1.0)),
    (DTypeError, r"data: .*float64.*float32", set_("v", "data", np.zeros(2))),
    (DTypeError, r"data: ", set_("v", "data", "ab")),
    (DTypeError, r"data: ", set_("v", "data", None)),
    (ShapeError, r"grad: .*\(3,?\).*\(2,?\)", set_("v", "grad", [1.0, 2.0, 3.0])),
    (DTypeError, r"grad: .*float64.*float32", set_("v", "grad", np.zeros(2))),
    (DTypeError, r"grad: .*int64.*float32", set_("v", "grad", tinyml.tensor([1, 2]))),
    (DTypeError, r"data: got list", set_("a", "data", [1.0])),
    (DTypeError, r"grad: got NoneType", set_("a", "grad", None)),
    (GraphError, r"index assignment: ", lambda w: w.x.__setitem__(0, 1.0)),
    (AxisError, r"index assignment: ", lambda w: w.i.__setitem__(5, 1)),
    (ShapeError, r"index assignment: ", lambda w: w.i.__setitem__(slice(None), [1, 2, 3])),
    (DTypeError, r"index assignment: ", lambda w: w.i.__setitem__(0, None)),
    # settings
    (ArgumentError, r"cross_entropy: got reduction 'avg', expected 'none', 'mean' or 'sum'",
     lambda w: F.cross_entropy(w.x, [0, 1], reduction="avg")),
    (ArgumentError, r"cross_entropy: got label_smoothing 2, expected 0 to 1",
     lambda w: F.cross_entropy(w.x, [0, 1], label_smoothing=2)),
    (ArgumentError, r"dropout: got p = 1\.5", lambda w: F.dropout(w.x, 1.5)),
    (ArgumentError, r"Dropout: got p = -1", lambda w: nn.Dropout(-1)),
    (ArgumentError, r"clamp: got neither", lambda w: w.x.clamp()),
    (ArgumentError, r"linspace: got -1 steps", lambda w: tinyml.linspace(0, 1, -1)),
    (ArgumentError, r"arange: step is 0", lambda w: tinyml.arange(0, 1, 0)),
    (ArgumentError, r"randint: got low 3 and high 3", lambda w: tinyml.randint(3, 3, (2,))),
    (ArgumentError, r"split: got size 0", lambda w: w.x.split(0)),
    (ArgumentError, r"chunk: got 0 chunks", lambda w: w.x.chunk(0)),
    (ArgumentError, r"Linear: got -1 in", lambda w: nn.Linear(-1, 2)),
    (ArgumentError, r"Neuron: got -1 inputs", lambda w: nn.Neuron(-1)),
    (ArgumentError, r"Neuron: got activation 'gelu', expected one of", lambda w: nn.Neuron(1, activation="gelu")),
    (ArgumentError, r"calculate_gain: got 'gelu', expected one of", lambda w: nn.init.calculate_gain("gelu")),
    (ArgumentError, r"kaiming_normal_: got mode 'x'", lambda w: nn.init.kaiming_normal_(w.x, mode="x")),
    (ArgumentError, r"set_num_threads: got 0, expected 1 or more", lambda w: tinyml.set_num_threads(0)),
    (ArgumentError, r"set_num_threads: got -3", lambda w: tinyml.set_num_threads(-3)),
    (ArgumentError, r"there is no op named 'abc'", lambda w: tinyml._core.op("abc")),
    (ArgumentError, r"gradcheck: no input requires", lambda w: tinyml.gradcheck(lambda x: x, w.i)),
    (ArgumentError, r"gradcheck: .*float32", lambda w: tinyml.gradcheck(lambda x: x, w.v)),
    (ArgumentError, r"gradcheck: .*leaves", lambda w: tinyml.gradcheck(lambda x: x, w.z)),
    # optimizers
    (ArgumentError, r"SGD: lr is -1, expected 0 or more", lambda w: optim.SGD([w.v], lr=-1)),
    (ArgumentError, r"SGD: momentum is -1", lambda w: optim.SGD([w.v], momentum=-1)),
    (ArgumentError, r"SGD: nesterov.*momentum", lambda w: optim.SGD([w.v], nesterov=True)),
    (ArgumentError, r"SGD: lr is nan", lambda w: optim.SGD([w.v], lr=float("nan"))),
    (ArgumentError, r"Adam: betas is \(0\.9, 1\)", lambda w: optim.Adam([w.v], betas=(0.9, 1))),
    (ArgumentError, r"Adam: eps is -1", lambda w: optim.Adam([w.v], eps=-1)),
    (ArgumentError, r"AdamW: weight_decay is -1", lambda w: optim.AdamW([w.v], weight_decay=-1)),
    (ArgumentError, r"Adam: got no parameters", lambda w: optim.Adam([])),
    (ArgumentError, r"Adam: .*twice", lambda w: optim.Adam([w.v, w.v])),
    (ArgumentError, r"Adam: .*result of mul", lambda w: optim.Adam([w.z])),
    (ArgumentError, r"SGD: .*twice", lambda w: w.sgd.add_param_group({"params": [w.v]})),
    (ArgumentError, r"SGD: lr is -1", lambda w: w.sgd.add_param_group({"params": [w.a], "lr": -1})),
    (DTypeError, r"SGD: got a int as parameter group", lambda w: w.sgd.add_param_group(3)),
    (ArgumentError, r"clip_grad_norm_: .*-1", lambda w: nn.utils.clip_grad_norm_([w.v], -1)),
    (ArgumentError, r"clip_grad_norm_: .*0", lambda w: nn.utils.clip_grad_norm_([w.v], 1, norm_type=0)),
    (ArgumentError, r"clip_grad_value_: .*-1", lambda w: nn.utils.clip_grad_value_([w.v], -1)),
    (DTypeError, r"clip_grad_norm_: got a int", lambda w: nn.utils.clip_grad_norm_([1], 1)),
    # more than there is memory for
    (OutOfMemoryError, r"out of memory: .* 4398046511104 bytes", lambda w: tinyml.zeros(2**40)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(2**40)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.full((2**40,), 1)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.zeros(2**31, 2**31, 2**31)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(2**62, 4)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.zeros(2**62)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(1).expand(2**40)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(1).expand(2**40, 2**40)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(2**21, 1) + tinyml.ones(2**21)),
    (OutOfMemoryError, r"out of memory: ", lambda w: F.one_hot([0], 2**42)),
    (OutOfMemoryError, r"out of memory: ", lambda w: tinyml.ones(2**21, 1) @ tinyml.ones(1, 2**21)),
    (OutOfMemoryError, r"out of memory: ", lambda w: w.x[:, tinyml.zeros(1, dtype="int64").expand(2**20)]
     .reshape(-1, 1) * tinyml.ones(2**21)),
    (ShapeError, r"zeros: .*9223372036854775808.*expected extents", lambda w: tinyml.zeros(2**63)),
    (ShapeError, r"reshape: ", lambda w: w.x.reshape(2**64)),
]  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize(("error", "message", "call"), BAD, ids=[f"{i}-{b[1][:20]}" for i, b in enumerate(BAD)])
def test_bad_input(world, error, message, call):
    before, live = world.snapshot(), tinyml.live_nodes()
    with pytest.raises(TinymlError) as caught:
        call(world)
    assert isinstance(caught.value, error)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not str(caught.value).endswith(".")
    del caught
    if tinyml.live_nodes() > live:  # the traceback may be part of a cycle
        gc.collect()
    assert tinyml.live_nodes() <= live
    assert world.snapshot() == before


def test_a_failure_of_one_thread_is_not_seen_by_another():
    import threading

    barrier, seen = threading.Barrier(2), []

    def fail(shape, text):
        for _ in range(200):
            barrier.wait()
            try:
                tinyml.ones(2, 3) + tinyml.ones(shape)
            except ShapeError as error:
                seen.append(text in str(error))

    threads = [threading.Thread(target=fail, args=(n, f"({n}")) for n in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 400


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", "import numpy as np\nimport tinyml\n" + code],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_unknown_instruction_set_is_refused_at_import():
    result = python("", TINYML_ISA="sse9")
    assert result.returncode == 1
    assert re.search(
        r"ArgumentError: TINYML_ISA is 'sse9', but this processor runs .*base; set one of these or unset it",
        result.stderr,
    )


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("1", 1), ("9999", 256)])
def test_number_of_threads_from_the_environment(text, threads):
    result = python("print(tinyml.get_num_threads())", TINYML_NUM_THREADS=text)
    assert (result.stdout, result.stderr) == (f"{threads}\n", "")


@pytest.mark.parametrize("text", ["", "0", "-2", "two", "3x", "1e3"])
def test_garbage_for_the_number_of_threads_is_ignored(text):
    """As OpenMP does: the number of processors then."""
    result = python("print(tinyml.get_num_threads())", TINYML_NUM_THREADS=text)
    expected = python("print(tinyml.get_num_threads())", TINYML_NUM_THREADS="")
    assert (result.stdout, result.stderr) == (expected.stdout, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_nothing_is_lost_where_memory_ends():
    """Every allocation of a training step fails in turn; each time the next try, with memory, is right."""
    result = python(
        """
import gc, resource
from tinyml import errors, nn
tinyml.set_num_threads(1)
def step(net, x, y):
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    return loss.item()
net = nn.Sequential(nn.Linear(1000, 500), nn.Tanh(), nn.Linear(500, 10))
x, y = tinyml.randn(2000, 1000), tinyml.randint(0, 10, (2000,))
def gradients():
    return [p.grad.numpy().copy() for p in net.parameters()]
loss = step(net, x, y)
expected = gradients()
net.zero_grad()
failures, nodes = 0, tinyml.live_nodes()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
for room in range(0, 40):
    tinyml.empty_cache()
    gc.collect()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room * 500_000, hard))
    try:
        step(net, x, y)
    except errors.OutOfMemoryError as error:
        failures += 1
        assert "out of memory: " in str(error)
    except MemoryError:
        pass # Python's own
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    net.zero_grad()
    assert tinyml.live_nodes() == nodes, (room, tinyml.live_nodes(), nodes)
    assert step(net, x, y) == loss
    for a, b in zip(gradients(), expected): np.testing.assert_array_equal(a, b)
    net.zero_grad()
print(failures)
""",
        MALLOC_MMAP_THRESHOLD_="65536",
    )  # glibc: what is freed leaves the address space
    assert result.stderr == ""
    assert 3 <= int(result.stdout) < 40
