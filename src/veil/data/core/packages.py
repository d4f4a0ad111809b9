"""Packages that only some data need, imported when those are read."""

from importlib import import_module
from typing import Any


def needed(words: str, extra: str, *modules: str) -> Any:
    """The package of ``modules``, all of them imported; ``words`` say who needs it."""
    try:
        for module in modules:
            import_module(module)
        return import_module(modules[0].partition(".")[0])
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{words}; install it with: pip install 'veil[{extra}]'") from error
