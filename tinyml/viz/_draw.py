"""draw: graphs as pictures, by Graphviz."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tinyml._node import Node
from tinyml.errors import ArgumentError, MissingError
from tinyml.viz._dot import dot
from tinyml.viz._trace import Graph


class Picture:
    """A picture in some format, as bytes in `data`; notebooks show SVG and PNG."""

    def __init__(self, data: bytes, format: str) -> None:
        self.data = data
        self.format = format

    def __repr__(self) -> str:
        return f"<{self.format} picture of {len(self.data):,} bytes>"

    def _repr_svg_(self) -> str | None:
        return self.data.decode() if self.format == "svg" else None

    def _repr_png_(self) -> bytes | None:
        return self.data if self.format == "png" else None


def draw(
    root: Node | Graph, path: str | os.PathLike[str] | None = None, format: str | None = None, **options: Any
) -> Picture:
    """The graph behind a node, or one that `trace` gave, drawn by Graphviz, and written to a file if a path is given.

    format: one that Graphviz knows; by default as the path's suffix says, or "svg". options: as for `dot`.

    Raises MissingError (an ImportError) without the Python package `graphviz` or the program `dot`, ArgumentError for
    an unknown format.
    """
    source = dot(root, **options)
    format = format or (Path(path).suffix[1:].lower() if path is not None else "") or "svg"
    try:
        import graphviz  # type: ignore[import-untyped]
    except ImportError:
        raise MissingError(
            "draw: the Python package graphviz is not installed; pip install 'tinyml-engine[graph]', or take the text "
            "that viz.dot gives to any Graphviz viewer"
        ) from None
    try:
        data = graphviz.Source(source).pipe(format=format)
    except graphviz.ExecutableNotFound:
        raise MissingError(
            "draw: the program `dot` of Graphviz is not on the PATH; install Graphviz (apt install graphviz, "
            "brew install graphviz, https://graphviz.org/download), or take the text that viz.dot gives to any "
            "Graphviz viewer"
        ) from None
    except ValueError as error:
        raise ArgumentError(f"draw: {error}; expected one that Graphviz knows, such as svg, png or pdf") from None
    if path is not None:
        Path(path).write_bytes(data)
    return Picture(data, format)


def svg_or_none(graph: Graph) -> str | None:
    """For notebooks, which go on to the repr when there is none."""
    try:
        return draw(graph)._repr_svg_()
    except MissingError:
        return None
