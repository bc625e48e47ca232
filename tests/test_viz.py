"""Pictures: text that fits the terminal, graphs in DOT, summaries, matplotlib's figures, and errors without it."""

import builtins
import io
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tinyml
from tinyml import Value, _recording, nn, viz
from tinyml.errors import ArgumentError, DTypeError, MissingError, ShapeError
from tinyml.train import Epoch, History

WIDTHS = [20, 21, 33, 40, 79, 80, 120, 200]


@pytest.fixture
def terminal(monkeypatch):
    def set_width(columns):
        monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((columns, 24)))

    set_width(200)
    return set_width


def drawn(text):
    """The characters of the curve: right of the axis."""
    return "".join(line[re.search("[|+│┤]", line).end() :] for line in text.split("\n") if re.search("[|┤│]", line))


# -- Text curves

HISTORIES = {
    "falling": [math.exp(-i / 300) + 1e-3 for i in range(2000)],
    "two": [3.0, -1.0],
    "constant": [0.25] * 100,
    "single": [2.5],
    "nan": [1.0, math.nan, 2.0, math.inf, math.nan, -1e300, 3.0],
    "huge": [1e308, -1e308, 1e308],
    "tiny": [5e-324, 1e-310, 0.0],
    "tenths": [0.1] * 1000,
    "close": [1.0, 1.0 + 1e-15, 1.0],
    "empty": [],
    "all nan": [math.nan] * 3,
}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", HISTORIES)
def test_a_curve_is_never_wider_than_the_terminal(terminal, name, columns):
    terminal(columns)
    for log in (False, True):
        for ascii in (False, True):
            for width in (None, 200):
                text = viz.text_curve(HISTORIES[name], width, log=log, ascii=ascii)
                assert max(map(len, text.split("\n"))) <= columns
                assert text.isascii() or not ascii


def test_a_curve_is_80_wide_by_default_and_as_wide_as_asked_for(terminal):
    losses = HISTORIES["falling"]
    for width in (20, 37, 80, 133, 200):
        assert max(map(len, viz.text_curve(losses, width).split("\n"))) == width
    assert viz.text_curve(losses) == viz.text_curve(losses, 80)


@pytest.mark.parametrize("ascii", [False, True])
def test_a_curve_starts_at_the_top_left_and_ends_at_the_bottom_right(terminal, ascii):
    lines = viz.text_curve([8.0, 4.0, 2.0, 1.0], 60, 9, ascii=ascii).split("\n")
    assert (lines[0], len(lines)) == ("loss", 14)
    assert lines[1].startswith("8.00 ")
    assert lines[9].startswith("1.00 ")
    assert lines[1][6] != " "
    assert len(lines[9]) == 60
    assert lines[11].split() == ["1", "4"]
    assert "4 steps; last 1.00; lowest 1.00 at step 4; highest 8.00 at step 1" in " ".join(lines[12:])


def test_a_logarithmic_curve_of_powers_is_a_straight_line(terminal):
    rows = viz.text_curve([10.0**-i for i in range(20)], 79, 10, log=True, ascii=True).split("\n")[1:11]
    firsts = [next(i for i, c in enumerate(row[9:]) if c != " ") for row in rows]
    assert max(np.diff(firsts)) - min(np.diff(firsts)) <= 2
    assert viz.text_curve([1.0], log=True).startswith("loss, log scale\n")


def test_long_histories_are_means(terminal):
    text = viz.text_curve([0.0, 1.0] * 5000, 40, 5, ascii=True)
    assert "a point is the mean of 312" in text.replace("\n", " ")
    spread = [float(x) for x in re.findall(r"^ *([0-9.]+) \+", text, re.MULTILINE)]
    assert all(0.49 < x < 0.51 for x in spread)


@pytest.mark.parametrize("ascii", [False, True])
def test_a_constant_history_is_a_line_in_the_middle_with_one_label(terminal, ascii):
    for losses, log in (([0.1] * 20, False), ([0.1] * 5000, False), ([0.1] * 5000, True)):
        lines = viz.text_curve(losses, 50, 7, log=log, ascii=ascii).split("\n")
        assert [line.split()[0] for line in lines if line.startswith("0.1")] == ["0.100"]
        assert len(set(lines[4][7:])) == 1
        assert not any(line[7:].strip() for line in lines[1:4] + lines[5:8])


@pytest.mark.parametrize(("ascii", "dot"), [(False, "•"), (True, "*")])
def test_a_single_number_is_a_dot(terminal, ascii, dot):
    text = viz.text_curve([2.5], ascii=ascii)
    assert drawn(text).strip() == dot
    assert text.endswith("1 step; last 2.50")


def test_what_is_not_finite_leaves_a_gap_and_is_counted(terminal):
    text = viz.text_curve([1.0, 1.0, math.nan, 1.0, math.inf, -math.inf, 2.0, 2.0], 60, 5, ascii=True)
    line = next(line for line in text.split("\n") if line.startswith("1.00"))
    assert re.fullmatch(r"1.00 \+\.+ +\* +", line + " ")
    assert "8 steps, of which 1 nan, 2 infinite; last 2.00" in text
    assert viz.text_curve([math.nan] * 3) == "loss: nothing to draw, 3 steps, of which 3 nan"
    assert viz.text_curve([]) == "loss: nothing to draw, 0 steps"
    assert "3 steps, of which 2 not positive" in viz.text_curve([0.0, -1.0, 2.0], log=True)


def test_curves_of_whatever_holds_numbers(terminal):
    numbers = [3.0, 1.0, 2.0]
    expected = viz.text_curve(numbers)
    history = History()
    history.losses = numbers
    for same in (tuple(numbers), np.array(numbers), tinyml.tensor(numbers), map(Value, numbers), history):
        assert viz.text_curve(same) == expected
    history = History()
    history.epochs = [Epoch(loss=x) for x in numbers]
    assert viz.text_curve(history) == expected.replace("step", "epoch")
    text = viz.text_curve(numbers, label="accuracy", unit="epoch", span=(0, 1000))
    assert text.startswith("accuracy\n")
    assert "lowest 1.00 at epoch 500" in text
    assert text.split("\n")[-2].split() == ["0", "1,000"]


def test_curves_refuse(terminal):
    for arguments, error, message in [
        (([1.0], 19), ArgumentError, "got width 19, expected at least 20"),
        (([1.0], 80, 1), ArgumentError, "got height 1, expected at least 2"),
        (("abc",), DTypeError, "got str, expected a History"),
        ((1.0,), DTypeError, "got float"),
        ((["x"],), DTypeError, "not a number"),
        ((np.zeros((2, 3)),), ShapeError, r"got shape \(2, 3\), expected one dimension"),
    ]:
        with pytest.raises(error, match=message):
            viz.text_curve(*arguments)


def test_other_than_ascii_only_where_stdout_takes_it(terminal, monkeypatch):
    for encoding, is_ascii in [("utf-8", False), ("UTF8", False), ("ascii", True), ("cp1252", True)]:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert viz.text_curve([1.0, 2.0]).isascii() == is_ascii
    monkeypatch.setattr(sys, "stdout", None)
    assert viz.text_curve([1.0, 2.0]).isascii()


# -- Decision boundaries

POINTS = [[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_boundary_fits_the_terminal(terminal, columns):
    terminal(columns)
    for ascii in (False, True):
        text = viz.text_boundary(lambda x: x[:, 0], POINTS, [0, 1, 0, 1], width=200, ascii=ascii)
        assert max(map(len, text.split("\n"))) <= columns


@pytest.mark.parametrize(
    "scores",
    [
        lambda x: x[:, 0],
        lambda x: x[:, :1],
        lambda x: tinyml.stack([-x[:, 0], x[:, 0]], 1),
        lambda x: x.numpy()[:, 0],
        lambda x: [Value(row[0]) for row in x.tolist()],
        lambda x: [[-row[0], row[0]] for row in x.tolist()],
    ],
)
@pytest.mark.parametrize("wrong", [[], [1], [0, 3]])
def test_regions_and_samples(terminal, scores, wrong):
    labels = [i % 2 if i not in wrong else 1 - i % 2 for i in range(4)]
    text = viz.text_boundary(scores, tinyml.tensor(POINTS), labels, width=48, height=12, ascii=True)
    cells = [line.split("|")[-1].split("+")[-1].ljust(40) for line in text.split("\n")[:12]]
    half = len(max(cells, key=len)) // 2
    assert set("".join(cell[: half - 1] for cell in cells)) <= set(" oOX")
    assert set("".join(cell[half + 1 :] for cell in cells)) <= set(".xOX ")
    assert sum(c.isupper() for cell in cells for c in cell) == len(wrong)
    assert sum(c.isalpha() for cell in cells for c in cell) == 4
    assert f"{len(wrong)} of 4" in text


def test_labels_of_minus_one_and_one(terminal):
    text = viz.text_boundary(lambda x: x[:, 0], POINTS, [[-1.0], [1.0], [-1.0], [1.0]])
    assert "o -1 (blank); x 1" in text
    assert "capitals: 0 of 4" in text
    shifted = viz.text_boundary(lambda x: x[:, 0] + 5, POINTS, [0, 1, 0, 1], threshold=5.0)
    assert "capitals: 0 of 4" in shifted


@pytest.mark.parametrize("outputs", [1, 3])
def test_networks_of_values(terminal, outputs):
    tinyml.manual_seed(0)
    network = nn.MLP(2, [4, outputs])

    def one_by_one(x):
        results = [network(row) for row in x.tolist()]
        return results if outputs == 1 else [list(result) for result in results]

    targets = [0, 1, 0, 1]
    inputs = tinyml.tensor(POINTS, dtype="float64")
    assert viz.text_boundary(network, inputs, targets) == viz.text_boundary(one_by_one, inputs, targets)


def test_a_boundary_is_asked_in_eval_mode_without_gradients(terminal):
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append((self.training, tinyml.is_grad_enabled(), x.shape[1]))
            return x.sum(1)

    net = Net()
    viz.text_boundary(net, POINTS, [0, 1, 0, 1])
    assert set(seen) == {(False, False, 2)}
    assert net.training


def test_boundaries_refuse(terminal):
    def classify(x):
        return x

    for model, inputs, targets, error, message in [
        (classify, [[1.0]], [1], ShapeError, r"got inputs of shape \(1, 1\), expected \(n, 2\)"),
        (classify, POINTS, [1], ShapeError, r"got targets of shape \(1,\), expected \(4,\)"),
        (classify, np.zeros((0, 2)), [], ArgumentError, "got no inputs"),
        (classify, [[math.nan, 0.0]], [1], ArgumentError, "not finite"),
        (classify, POINTS, [0, 1, 2, 0], ArgumentError, "got target 2, expected classes 0 to 1"),
        (lambda x: x.sum(), POINTS, [0, 1, 0, 1], ShapeError, r"got scores of shape \(\)"),
        (
            lambda x: tinyml.zeros(len(x), 11),
            POINTS,
            [0, 1, 0, 1],
            ArgumentError,
            "got 11 classes, expected at most 10",
        ),
    ]:
        with pytest.raises(error, match=message):
            viz.text_boundary(model, inputs, targets)
    with pytest.raises(ArgumentError, match="got height 1"):
        viz.text_boundary(classify, POINTS, [0, 1, 0, 1], height=1)


# -- Digits


def test_digits_as_text(terminal):
    image = np.zeros((28, 28))
    image[4:20, 10:12] = 255
    full = viz.text_digit(image, ascii=True).split("\n")
    assert len(full) == 28
    assert full[4] == " " * 20 + "@@@@"
    assert full[3] == ""
    small = viz.text_digit(image, width=40, ascii=True).split("\n")
    assert len(small) == 14
    assert small[2] == " " * 10 + "@@"
    for same in (image.reshape(784), image[None], tinyml.tensor(image), (image / 255).tolist()):
        assert viz.text_digit(same, ascii=True).split("\n") == full
    assert "█" in viz.text_digit(image, ascii=False)
    assert not viz.text_digit(np.ones((3, 3)), ascii=True).strip()
    assert viz.text_digit([[math.nan, 1.0], [0.0, math.inf]], ascii=True).split("\n") == ["  @@", "  @@"]
    for wrong in (np.zeros(785), np.zeros((2, 28, 28)), np.zeros((0, 3)), np.zeros((3, 81)), 1.0):
        with pytest.raises(ShapeError, match="text_digit: got an image"):
            viz.text_digit(wrong)


# -- Graphs

QUOTED = r'"(?:[^"\\]|\\.)*"'
ATTRIBUTES = rf"\[\w+=(?:{QUOTED}|[\w.]+)(?:, \w+=(?:{QUOTED}|[\w.#]+))*\]"
STATEMENT = re.compile(
    rf"(?P<node>\w+) {ATTRIBUTES}|(?P<a>\w+) -> (?P<b>\w+)(?: {ATTRIBUTES})?|rankdir=\w+|label={QUOTED}"
    rf"|subgraph cluster_\w+ {{|}}"
)


def parse(text):
    """Nodes with their labels, and edges, of DOT as it is written here; fails on anything else."""
    lines = text.split("\n")
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    nodes, edges, depth = {}, [], 1
    for line in lines[1:]:
        match = STATEMENT.fullmatch(line.strip())
        assert match, line
        depth += line.endswith("{") - (line.strip() == "}")
        if match["node"] not in (None, "graph", "node", "edge"):
            label = re.search(rf"label=({QUOTED})", line)[1]
            nodes[match["node"]] = label[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
        if match["a"]:
            edges.append((match["a"], match["b"]))
    assert depth == 0
    assert {end for edge in edges for end in edge} <= set(nodes)
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)
    return nodes, edges


def expression():
    a, b = Value(2.0), Value(-3.0)
    c = (a * b + b**2).relu() + a * a
    c.backward()
    return a, b, c


def test_dot_of_values():
    a, b, c = expression()
    nodes, edges = parse(viz.dot(c, names={"a": a, "b": b}))
    labels = sorted(nodes.values())
    assert labels == sorted(
        [
            "add\ndata 7\ngrad 1",
            "relu\ndata 3\ngrad 1",
            "add\ndata 3\ngrad 1",
            "mul\ndata -6\ngrad 1",
            "pow\ndata 9\ngrad 1",
            "constant\ndata 2",
            "mul\ndata 4\ngrad 1",
            "a\ndata 2\ngrad 1",
            "b\ndata -3\ngrad -4",
        ]
    )
    named = sorted((nodes[x].split("\n")[0], nodes[y].split("\n")[0]) for x, y in edges)
    assert named.count(("a", "mul")) == 3  # twice into a * a
    assert named.count(("b", "pow")) == 1
    assert len(edges) == 11


def test_dot_of_tensors_shows_shape_and_dtype_and_few_data():
    x = tinyml.ones(64, 3, requires_grad=True)
    y = (x * 2).sum()
    y.backward()
    labels = parse(viz.dot(y, names={"x": x}))[0].values()
    assert "x\n(64, 3) float32\ngrad norm 27.713" in labels
    assert "mul\n(64, 3) float32" in labels
    assert any(label.startswith("sum\nfloat32\ndata 384") for label in labels)
    assert (
        "leaf\n(2,) float64\ndata [1, 2]"
        in parse(viz.dot(tinyml.tensor([1.0, 2.0], dtype="float64", requires_grad=True)))[0].values()
    )


def test_parameters_have_their_dotted_names():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    labels = parse(viz.dot(model(tinyml.ones(1, 2)), names=model))[0].values()
    assert {label.split("\n")[0] for label in labels} == {*dict(model.named_parameters()), "linear", "relu", "constant"}
    network = nn.MLP(2, [2, 1])
    labels = parse(viz.dot(network([1.0, 2.0]), names=network))[0].values()
    assert set(dict(network.named_parameters())) <= {label.split("\n")[0] for label in labels}


def test_any_name_is_escaped():
    for name in ('"', "\\", 'a"];b [x="', "back\\nslash", "two\nlines", "end\\", "<b>&amp;</b>", "ñ λ 数", "\r"):
        a = Value(1.0)
        labels = parse(viz.dot(a * 2.0, names={name: a}))[0].values()
        if "\\n" not in name:
            assert f"{name}\ndata 1".replace("\r", "") in labels


def test_large_graphs_are_capped():
    total = Value(0.0)
    for _ in range(50_000):
        total = total * 0.5 + 1.0
    nodes, edges = parse(viz.dot(total, max_nodes=20))
    assert len(nodes) == 21
    assert nodes["more"] == "... and 199,981 more nodes"
    assert sum(a == "more" for a, _ in edges) >= 1
    assert len(parse(viz.dot(total))[0]) == 301
    nodes, edges = parse(viz.dot(total, max_nodes=1))
    assert (len(nodes), edges) == (2, [("more", "n1")])
    assert "more" not in parse(viz.dot(Value(1.0) * 2.0, max_nodes=3))[0]
    with pytest.raises(ArgumentError, match="max_nodes 0"):
        viz.dot(total, max_nodes=0)
    with pytest.raises(DTypeError, match="got float"):
        viz.dot(1.0)
    with pytest.raises(DTypeError, match="names in a list"):
        viz.dot(total, names=[total])
    with pytest.raises(DTypeError, match="a int named 'x'"):
        viz.dot(total, names={"x": 1})


class Block(nn.Module):
    def __init__(self):
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def residual():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Block(), nn.Linear(4, 1))


def firsts(text):
    nodes, edges = parse(text)
    names = {node: label.split("\n")[0] for node, label in nodes.items()}
    return sorted(names.values()), sorted((names[a], names[b]) for a, b in edges)


def test_modules_collapse():
    model = residual()
    graph = viz.trace(model, tinyml.ones(2, 3))
    nodes, edges = firsts(viz.dot(graph))
    assert nodes == sorted(["input", "0: Linear", "1: Tanh", "2.a: Linear", "relu", "2.b: Linear", "add", "3: Linear"])
    assert ("1: Tanh", "add") in edges
    assert ("2.b: Linear", "add") in edges
    assert len(edges) == 8

    nodes, edges = firsts(viz.dot(graph, collapse=1))
    assert nodes == sorted(["input", "0: Linear", "1: Tanh", "2: Block", "3: Linear"])
    assert len(edges) == 4
    assert firsts(viz.dot(graph, collapse=0)) == (["Sequential", "input"], [("input", "Sequential")])

    nodes, _ = firsts(viz.dot(graph, collapse=False))
    assert nodes == sorted([*dict(model.named_parameters()), "input", *["linear"] * 4, "tanh", "relu", "add"])
    frames = re.findall(r'^ +label="(.*)"$', viz.dot(graph, collapse=False), re.MULTILINE)
    assert sorted(frames) == sorted(
        ["Sequential", "0: Linear", "1: Tanh", "2: Block", "2.a: Linear", "2.b: Linear", "3: Linear"]
    )
    box = next(label for label in parse(viz.dot(graph))[0].values() if label.startswith("3: Linear"))
    assert box == "3: Linear\nin_features=4, out_features=1, bias=True\ngives (2, 1)\n5 parameters"


def test_a_traced_loss_shows_gradients_after_backward():
    model = residual()
    targets = tinyml.zeros(2, 1)
    x = tinyml.ones(2, 3)
    graph = viz.trace(lambda x: nn.functional.mse_loss(model(x), targets), x, model=model)
    assert "grad" not in viz.dot(graph).replace("_grad", "")
    graph.result.backward()
    labels = parse(viz.dot(graph, collapse=False))[0].values()
    assert any(label.startswith("0.weight\n(4, 3) float32\ngrad norm") for label in labels)
    assert any(label.startswith("input\n(2, 3) float32\ngrad norm") for label in labels)
    assert x.grad is None
    assert not x.requires_grad


def test_tracing_leaves_the_model_as_it_was():
    model = residual()
    before = [dict(vars(module)) for module in model.modules()]
    changes = _recording.changes
    viz.trace(model, tinyml.ones(1, 3))
    with pytest.raises(ShapeError):
        viz.trace(model, tinyml.ones(1, 4))
    assert all(a == b for a, b in zip(before, [dict(vars(module)) for module in model.modules()], strict=True))
    assert _recording.changes == changes  # so that nothing is recorded again
    with pytest.raises(DTypeError, match="trace: got float from the function"):
        viz.trace(lambda: 1.0)


def test_a_module_that_is_called_twice_and_one_of_values():
    class Twice(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return self.inner(self.inner(x))

    nodes, edges = firsts(viz.dot(viz.trace(Twice(), tinyml.ones(1, 3))))
    assert nodes == ["inner: Linear", "inner: Linear", "input"]
    assert ("inner: Linear", "inner: Linear") in edges
    nodes, _ = firsts(viz.dot(viz.trace(nn.MLP(2, [3, 1]), [Value(1.0), Value(2.0)])))
    assert nodes == ["MLP", "input", "input"]


def test_draw(tmp_path):
    pytest.importorskip("graphviz", reason="the package graphviz is not installed")
    if not shutil.which("dot"):
        pytest.skip("the program dot of Graphviz is not installed")
    _, _, c = expression()
    picture = viz.draw(c)
    assert picture.format == "svg"
    assert "<svg" in picture._repr_svg_()
    assert "svg picture" in repr(picture)
    png = viz.draw(c, tmp_path / "graph.png", max_nodes=3)
    assert png._repr_svg_() is None
    assert png._repr_png_() == (tmp_path / "graph.png").read_bytes()
    assert png.data[:4] == b"\x89PNG"
    viz.draw(c, tmp_path / "graph")
    assert b"<svg" in (tmp_path / "graph").read_bytes()
    assert "<svg" in viz.trace(residual(), tinyml.ones(1, 3))._repr_svg_()
    with pytest.raises(ArgumentError, match="such as svg"):
        viz.draw(c, format="nonsense")


@pytest.fixture
def without(monkeypatch):
    """Makes the import of a package fail."""

    def hide(package):
        original = builtins.__import__

        def fake(name, *arguments, **kwargs):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}")
            return original(name, *arguments, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fake)

    return hide


def test_draw_says_what_is_missing(without, monkeypatch):
    _, _, c = expression()
    graph = viz.trace(residual(), tinyml.ones(1, 3))
    if "graphviz" in sys.modules or shutil.which("dot"):
        pytest.importorskip("graphviz", reason="the package graphviz is not installed")
        with monkeypatch.context() as context:
            context.setenv("PATH", "")
            with pytest.raises(MissingError, match=r"the program `dot` .* install Graphviz"):
                viz.draw(c)
            assert graph._repr_svg_() is None
    without("graphviz")
    with pytest.raises(MissingError, match=r"pip install 'tinyml-engine\[graph\]'"):
        viz.draw(c)
    assert graph._repr_svg_() is None
    assert issubclass(MissingError, ImportError)


# -- Graphs as text


def test_print_graph(capsys):
    a, b, c = expression()
    c.print_graph(names={"a": a, "b": b})
    printed = capsys.readouterr().out
    assert printed == (
        "node              data  grad\n"
        "#1 = add(#2, #7)     7     1\n"
        "#2 = relu(#3)        3     1\n"
        "#3 = add(#4, #5)     3     1\n"
        "#4 = mul(#8, #6)    -6     1\n"
        "#5 = pow(#6, 2)      9     1\n"
        "#6 = b              -3    -4\n"
        "#7 = mul(#8, #8)     4     1\n"
        "#8 = a               2     1\n"
    )
    file = io.StringIO()
    assert c.print_graph(names={"a": a, "b": b}, file=file) is None
    assert file.getvalue() == printed
    tinyml.ones(3).print_graph()
    assert capsys.readouterr().out == "node           shape  dtype    data\n#1 = constant  (3,)   float32  [1, 1, 1]\n"


def test_each_node_stands_once_and_after_all_made_from_it():
    model = residual()
    x = tinyml.ones(2, 3, requires_grad=True)
    lines = viz.text_graph(model(x).sum(), names={**dict(model.named_parameters()), "x": x}).split("\n")[1:]
    numbers = [int(re.match(r"#(\d+) =", line)[1]) for line in lines]
    assert numbers == list(range(1, len(lines) + 1))
    for number, line in zip(numbers, lines, strict=True):
        assert all(int(each) > number for each in re.findall(r"#(\d+)[,)]", line))
    assert sum("= 2.a.weight" in line for line in lines) == 1
    assert sum("(4, 4)" in line for line in lines) == 2


def test_deep_and_wide_graphs_as_text():
    total = Value(0.0)
    for _ in range(50_000):
        total = total * 0.5 + 1.0
    lines = viz.text_graph(total, max_nodes=4).split("\n")
    assert len(lines) == 6
    assert lines[1].startswith("#1 = add(#2, 1) ")
    assert lines[4].startswith("#4 = mul(..., 0.5)")
    assert lines[5] == "... and 99,997 more nodes"
    text = viz.text_graph(nn.Neuron(50)([1.0] * 50), max_nodes=3)
    assert "... 101 in all)" in text
    assert max(map(len, text.split("\n"))) < 100
    with pytest.raises(ArgumentError, match="max_nodes 0"):
        total.print_graph(max_nodes=0)
    with pytest.raises(DTypeError, match="got float"):
        viz.text_graph(1.0)


# -- Summaries


def test_summary():
    class Shared(nn.Module):
        def __init__(self):
            self.blocks = [nn.Linear(4, 4), nn.ReLU()]
            self.again = self.blocks[0]
            self.frozen = nn.Linear(4, 2).requires_grad_(False)
            self.unused = nn.Linear(9, 9)

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.frozen(self.again(x))

    model = Shared()
    summary = model.summary((7, 4))
    rows = {row.name: row for row in summary.rows}
    assert (summary.parameters, summary.trainable) == (20 + 10 + 90, 20 + 90)
    assert sum(row.parameters for row in summary.rows) == summary.parameters
    assert rows[""].output == [(7, 2)]
    assert (rows["blocks.0"].output, rows["blocks.0"].calls, rows["blocks.0"].parameters) == ([(7, 4)], 2, 20)
    assert rows["again"].parameters == 0
    assert (rows["unused"].output, rows["unused"].parameters) == ([], 90)
    lines = repr(summary).split("\n")
    assert lines[0].split() == ["layer", "output", "parameters"]
    assert lines[-1] == "120 parameters, 110 trainable, 480 bytes"
    assert any(line.split() == ["blocks.0:", "Linear", "(7,", "4)", "x", "2", "20"] for line in lines)


def test_summary_runs_in_eval_mode_on_what_is_given():
    seen = []

    class Net(nn.Module):
        def forward(self, x, y):
            seen.append((self.training, tinyml.is_grad_enabled(), x.shape, y.shape, x.dtype.name, y.tolist()))
            return x, {"y": y}

    net = Net()
    summary = net.summary((2, 3), tinyml.ones(1), dtype="int64")
    assert seen == [(False, False, (2, 3), (1,), "int64", [1.0])]
    assert net.training
    assert summary.rows[0].output == [(2, 3), (1,)]
    for wrong in (5, "x", (2.5,)):
        with pytest.raises(DTypeError, match="expected a shape with the batch in it"):
            net.summary(wrong)
    with pytest.raises(ShapeError):
        nn.Linear(3, 2).summary((1, 4))


def test_summary_of_values_and_of_nothing():
    assert "337 parameters" in repr(nn.MLP(2, [16, 16, 1]).summary((2, 100)))
    summary = nn.MLP(2, [3, 1]).summary((2,))
    assert [(row.kind, row.parameters) for row in summary.rows] == [("MLP", 0), ("Layer", 9), ("Layer", 4)]
    assert repr(nn.ReLU().summary((1,))).endswith("0 parameters, 0 trainable, 0 bytes")


# -- Pictures by matplotlib


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def history(epochs=3, steps=900):
    result = History("accuracy")
    result.losses = [math.exp(-i / 300) + 0.01 for i in range(steps)]
    result.epochs = [Epoch(0.5 / (i + 1), 0.9, 0.4 / (i + 1), 0.95) for i in range(epochs)]
    return result


def test_plot_history(matplotlib, tmp_path):
    figure = viz.plot_history(history(), tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes()[:4] == b"\x89PNG"
    left, right = figure.axes
    assert left.get_yscale() == "log"
    assert left.get_ylabel() == "loss (mean of 4 steps)"
    smooth = left.lines[1].get_ydata()
    np.testing.assert_allclose(smooth[0], np.mean(history().losses[:4]))
    assert right.get_ylabel() == "accuracy in %"
    np.testing.assert_allclose(right.lines[1].get_ydata(), [95, 95, 95])
    assert len(np.unique(pixels(figure).reshape(-1, 3), axis=0)) > 10
    (only,) = viz.plot_history([1.0, math.nan, -1.0]).axes
    assert only.get_yscale() == "linear"
    for single in ([2.0], [3.0] * 1000, history(1, 1)):
        assert pixels(viz.plot_history(single)).std() > 1
    with pytest.raises(ArgumentError, match="none of them finite"):
        viz.plot_history([math.nan])


def test_plot_boundary(matplotlib, tmp_path):
    figure = viz.plot_boundary(lambda x: x[:, 0], POINTS, [0, 1, 1, 1], tmp_path / "boundary.png")
    assert (tmp_path / "boundary.png").exists()
    (axes,) = figure.axes
    decided = axes.images[0].get_array()
    assert (decided[:, :100] == 0).all()
    assert (decided[:, 100:] == 1).all()
    assert axes.get_legend().get_title().get_text() == "1 of 4 wrong"
    image = pixels(figure)
    assert np.abs(image[:, :200].mean((0, 1)) - image[:, -200:].mean((0, 1))).max() > 10


def test_plot_digits(matplotlib, tmp_path):
    images = np.zeros((13, 784))
    images[:, 300:400] = 1
    figure = viz.plot_digits(images, [f"seen as {i}" for i in range(13)], tmp_path / "digits.png", columns=5)
    assert (tmp_path / "digits.png").exists()
    assert len(figure.axes) == 15
    assert [len(axes.images) for axes in figure.axes] == [1] * 13 + [0, 0]
    assert figure.axes[12].get_title() == "seen as 12"
    assert pixels(figure).min() == 0
    assert len(viz.plot_digits(tinyml.zeros(3, 1, 8, 8)).axes) == 3
    assert len(viz.plot_digits([]).axes) == 1
    with pytest.raises(ArgumentError, match="got 2 titles for 13 images"):
        viz.plot_digits(images, ["a", "b"])
    with pytest.raises(ShapeError, match="got an image of shape"):
        viz.plot_digits(np.zeros((2, 3, 8, 8)))


def test_plots_say_what_is_missing(without):
    without("matplotlib")
    for plot in (
        lambda: viz.plot_history([1.0]),
        lambda: viz.plot_boundary(lambda x: x[:, 0], POINTS, [0, 1, 0, 1]),
        lambda: viz.plot_digits(np.zeros((1, 4, 4))),
    ):
        with pytest.raises(MissingError, match=r"pip install 'tinyml-engine\[plot\]'"):
            plot()


def test_importing_tinyml_imports_no_extra():
    command = (
        "import sys, tinyml; print('tinyml.viz' in sys.modules); tinyml.viz.text_curve([1.0]); "
        "print({'matplotlib', 'graphviz'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "set()"]
