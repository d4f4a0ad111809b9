"""Common slips at the making of a model, answered with the right call."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from veil.data.core.columns import suggestion

Made = TypeVar("Made", bound=Callable[..., Any])
# what other libraries call it: one of these it is here, where a model takes it
ELSEWHERE = {
    "n_components": ("components", "latent", "states"),
    "n_clusters": ("components",),
    "n_states": ("states", "components"),
    "k": ("components", "states", "latent"),
    "covariance_type": ("experts", "noise"),
    "latent_dim": ("latent",),
    "z_dim": ("latent",),
}


def names(maker: Any, called: str, given: dict[str, Any]) -> None:
    """Raise TypeError, with the nearest name, for an argument that a class or function does not take.

    >>> names(lambda latent: None, "PPCA", {"n_components": 2})
    Traceback (most recent call last):
    TypeError: PPCA: there is no argument 'n_components'; say latent: PPCA(latent=2)
    """
    taken = _taken(maker)
    for name, value in given.items():
        if taken is None or name in taken:
            continue
        meant = next((word for word in ELSEWHERE.get(name.lower(), ()) if word in taken), None)
        example = f": {called}({meant}={value!r})" if isinstance(value, int) else ""
        advice = f"say {meant}{example}" if meant else suggestion(name, taken)
        raise TypeError(f"{called}: there is no argument {name!r}; {advice}")


@functools.cache
def _taken(maker: Any) -> list[str] | None:
    """The names that it takes; None if it takes any."""
    parameters = inspect.signature(maker).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return None
    return [name for name in parameters if name != "self"]


def answering(function: Made) -> Made:
    """A function whose unknown arguments are answered with the nearest name that it takes."""

    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        names(function, function.__name__, named)
        return function(*given, **named)

    return called  # type: ignore[return-value]


def parts(model: Any) -> None:
    """Raise TypeError for a number or a word where a part is expected: ``Mixture(2)``."""
    name = type(model).__name__
    usual = {field.name: field.default for field in fields(model) if field.default is not MISSING}
    counted = next((field for field, value in usual.items() if type(value) is int), None)
    for field, value in usual.items():
        given = vars(model).get(field)
        if isinstance(given, int | float | str | tuple | list) and type(value).__module__.startswith("veil."):
            more = f"; numbers go by name: {name}({counted}={given})" if counted and type(given) is int else ""
            raise TypeError(f"{field}: expected a part such as {value!r}; got {given!r}{more}")
