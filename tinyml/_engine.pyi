"""The compiled binding; _core.py gives it types."""

from typing import Any

ffi: Any
lib: Any
