"""Calls under jit: outside it, every loop over steps compiles anew at each call, and every operation on its own."""

from collections.abc import Callable
from typing import Any

import equinox as eqx


@eqx.filter_jit
def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, compiled once for each function, structure and shape.

    A method of a module is the same function as that method of another module with the same structure.
    """
    return function(*arguments)
