"""Which classes ``load`` may build: this library's own, by their bare names, and those that users register."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, overload

import equinox as eqx

from veil.data.recorded.views import Part, View
from veil.learning.result import Fit, History, Status
from veil.model import Model
from veil.units import models, posteriors

ROOMS = ("veil.model", "veil.parts", "veil.posterior", "veil.units", "veil.zoo")  # where classes that are saved live
OWN, REGISTERED, RESULT = "class", "registered", "result"  # how a structure names a class
RESULTS: dict[str, type] = {cls.__name__: cls for cls in (Fit, History, Status, View, Part)}

T = TypeVar("T", bound=type)
_REGISTERED: dict[str, type] = {}


@overload
def register(cls: T, *, name: str | None = None) -> T: ...
@overload
def register(*, name: str | None = None) -> Callable[[T], T]: ...
def register(cls: T | None = None, *, name: str | None = None) -> T | Callable[[T], T]:
    """Let ``save`` and ``load`` know a class of yours: a decorator of the class, or a function for others' classes.

    Files name the class by ``name``, or else by its module and name: with a name of its own it may move to another
    file. What its ``__init__`` does is not done again: loading sets the fields, and runs ``__check_init__``.

    Raises:
        TypeError: not an ``equinox.Module``.
        ValueError: the name is another class's.

    >>> import equinox as eqx, veil
    >>> @register(name="lab.Shifted")
    ... class Shifted(eqx.Module):
    ...     by: float
    """
    if cls is None:
        return functools.partial(register, name=name)
    if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
        raise TypeError(f"cls: expected a class, an equinox.Module; got {cls!r}")
    name = name or _default(cls)
    before = _REGISTERED.get(name, cls)
    if _default(before) != _default(cls):  # the same one defined anew, as in a notebook, takes its place
        raise ValueError(f"name: {name!r} is registered for another class, {_default(before)}; choose another name")
    _REGISTERED[name] = cls
    return cls


def _default(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def own_classes() -> Iterator[type]:
    """Every concrete module class that is defined in ``ROOMS``."""
    for room in map(importlib.import_module, ROOMS):
        inside = pkgutil.walk_packages(vars(room).get("__path__", ()), f"{room.__name__}.")
        for module in (room, *(importlib.import_module(found.name) for found in inside)):
            for value in vars(module).values():
                a_module = isinstance(value, type) and issubclass(value, eqx.Module)
                if a_module and value.__module__ == module.__name__ and not _abstract(value):
                    yield value


def _abstract(cls: type) -> bool:
    """Whether a class has methods or fields that only its subclasses have."""
    return inspect.isabstract(cls) or bool(vars(cls)["__abstractvars__"])


@functools.cache
def _own() -> dict[str, type]:
    """By bare names, which outlive moves of files."""
    return {cls.__qualname__: cls for cls in own_classes()}


def _own_class(name: str) -> type | None:
    """Of this name; also what is made of them for units."""
    composed = next((made for made in (models.COMPOSED, posteriors.COMPOSED) if name in made), None)
    return _own().get(name) if composed is None else composed[name]


def entry(value: Any) -> tuple[str, str] | None:
    """How a structure names the class of a module or of a result: kind and name. None for other values.

    Raises TypeError for a module whose class nobody registered.
    """
    cls = type(value)
    if cls in RESULTS.values():
        return RESULT, cls.__name__
    if not isinstance(value, eqx.Module):
        return None
    if _own_class(cls.__qualname__) is cls:
        return OWN, cls.__qualname__
    for name, registered in _REGISTERED.items():
        if registered is cls:
            return REGISTERED, name
    if _default(cls) in _REGISTERED:
        raise TypeError(f"{_default(cls)} was defined anew after this one was made; make it again")
    raise TypeError(
        f"{_default(cls)} is not registered; write @veil.register above class {cls.__name__}, or once "
        f"veil.register({cls.__name__})"
    )


def found(kind: str, name: str) -> type:
    """The class that a structure names. Raises ValueError if there is none."""
    classes = {REGISTERED: _REGISTERED, RESULT: RESULTS}
    cls = _own_class(name) if kind == OWN else classes[kind].get(name)
    if cls is None and kind == REGISTERED and name.startswith("veil.control."):
        importlib.import_module("veil.control")  # which registers what it learns, and is not needed for other models
        cls = _REGISTERED.get(name)
    if cls is None and kind == REGISTERED:
        line = f"@veil.register(name={name!r:.200})"
        raise ValueError(f"{name!r:.200} is not registered; import it first, with {line} above the class")
    if cls is None:
        raise ValueError(f"unknown class {name!r:.200}")
    return cls


def build(kind: str, cls: Any, fields: dict[str, Any]) -> Any:
    """An instance with these fields. Raises whatever the class does when they do not fit."""
    if kind == RESULT:
        _check_result(cls, fields)
    if kind != REGISTERED:
        return cls(**fields)
    made = object.__new__(cls)  # as equinox does; its own __init__ may take anything
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    for base in cls.__mro__:
        if "__check_init__" in vars(base):
            vars(base)["__check_init__"](made)
    return made


def _check_result(cls: type, fields: dict[str, Any]) -> None:
    """Raise TypeError where the fields of a ``Fit`` or its parts are not what their annotations say."""
    for name, hint in {**get_type_hints(cls), **({"model": Model} if cls is Fit else {})}.items():
        if name not in fields:  # newer than the file: its default, or refused by the class
            continue
        value, kind = fields[name], hint if isinstance(hint, UnionType) else get_origin(hint) or hint
        good = isinstance(value, kind) and (kind is not int or type(value) is int)
        inside = get_args(hint)[0] if kind is tuple else None
        if not good or (inside and not all(isinstance(part, get_origin(inside) or inside) for part in value)):
            raise TypeError(f"{name}: expected {hint!s:.80}; it holds {value!r:.80}")
