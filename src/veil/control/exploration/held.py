"""What a density or a counter is given and only begins with: arrays that its state goes on with."""

from typing import Any


class Held:
    """A ``value`` known by its identity, as functions are: what holds arrays this way can be hashed, as ``jax.jit`` of
    a method asks, and they enter a compiled program through the state only."""

    def __init__(self, value: Any) -> None:
        self.value = value


def held(value: Any) -> Held:
    """Held, if it is not yet."""
    return value if isinstance(value, Held) else Held(value)
