"""How results print: in a few words, arrays by shape."""

from typing import Any

import numpy as np


def short(value: Any) -> str:
    """A value in one word: arrays by type and shape, numbers to six digits.

    >>> short(np.zeros((272, 2), np.float32)), short(1 / 3), short("exact")
    ('float32[272, 2]', '0.333333', "'exact'")
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {short(leaf)}" for name, leaf in value.items()) + "}"
    return f"{float(value):.6g}" if isinstance(value, float | np.floating | np.ndarray) else repr(value)


class Shown:
    """Prints as its class with its fields in short, without those that are None."""

    def __repr__(self) -> str:
        fields = [f"{name}={short(value)}" for name, value in vars(self).items() if value is not None]
        return f"{type(self).__name__}({', '.join(fields)})"
