"""Pictures: curves, decision boundaries, digits and graphs, as text, DOT or with matplotlib."""

from tinyml._graph import text_graph
from tinyml.viz._boundary import text_boundary
from tinyml.viz._curve import text_curve
from tinyml.viz._digit import text_digit
from tinyml.viz._dot import dot
from tinyml.viz._draw import Picture, draw
from tinyml.viz._plot import plot_boundary, plot_digits, plot_history
from tinyml.viz._trace import Graph, trace

__all__ = [
    "Graph",
    "Picture",
    "dot",
    "draw",
    "plot_boundary",
    "plot_digits",
    "plot_history",
    "text_boundary",
    "text_curve",
    "text_digit",
    "text_graph",
    "trace",
]
