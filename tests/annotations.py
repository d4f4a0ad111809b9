"""The type checker of the strict session (see conftest.py): beartype, which needs help with `Self`."""

import threading
from typing import Any, ForwardRef, Self, Union, get_args, get_origin

import beartype


def check(function):
    """Check every call of `function` against its annotations.

    beartype refuses `Self` in a method that it meets apart from its class, as it does here; there it is checked as
    the class that defines the method. Generators are decorated at each call: not in other threads, as beartype catches
    warnings meanwhile, which loses those of all threads.
    """
    if threading.current_thread() is not threading.main_thread():
        return function
    owner = function.__qualname__.rpartition(".")[0]
    inside = owner and "<locals>" not in owner
    this = ForwardRef(f"{function.__module__}.{owner}") if inside else Any
    hints = function.__annotations__
    function.__annotations__ = {name: without_self(hint, this) for name, hint in hints.items()}
    return beartype.beartype(function)


def without_self(hint, this):
    if hint is Self:
        return this
    arguments = get_args(hint)
    if all(argument == changed for argument, changed in ((a, without_self(a, this)) for a in arguments)):
        return hint
    arguments = tuple(without_self(argument, this) for argument in arguments)
    origin = get_origin(hint)
    return Union[arguments] if origin in (Union, type(int | str)) else origin[arguments]  # noqa: UP007
