"""What the verbs ask of their arguments, in the user's words: which argument, what was expected, what came."""

from types import FunctionType
from typing import Any

import jax
import numpy as np

from veil.data import Data, Stream
from veil.data.core import trees
from veil.host.keys import is_key
from veil.model.abilities import OfSequences, Sized, Sizes, name_of, started
from veil.model.contract import Model
from veil.model.names import aligned_rows
from veil.model.per_episode import PerEpisode


def whole(name: str, value: Any) -> None:
    """Raise ValueError for what is not a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: expected a positive integer; got {value!r}")


def random_key(key: Any) -> None:
    """Raise TypeError for what is not one key of ``jax.random``."""
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.ndim == 1
    if not raw and not (is_key(key) and key.ndim == 0):
        raise TypeError(f"key: expected one random key, such as jax.random.key(0); got {_what(key)}")


def a_model(model: Any) -> None:
    """Raise TypeError for what is not a model."""
    if isinstance(model, type | FunctionType):
        raise TypeError(f"model: {model.__name__} makes one: call it, as in veil.{model.__name__}()")
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a veil.Model, such as veil.Mixture(components=3); got {_what(model)}")


def fitted(model: Any) -> None:
    """Raise TypeError for what is not a model, ValueError for one without parameters."""
    a_model(model)
    if not started(model):
        raise ValueError("model: expected a fitted model; this one has no parameters yet: call veil.fit first")


def sequences(model: Any, data: Data | Stream) -> None:
    """Raise ValueError for sequences where the model is not of such, or the other way round."""
    sample = data if isinstance(data, Data) else next(iter(data.blocks(1)))
    if not isinstance(model, OfSequences):
        marks = [name for name, array in (("mask", sample.mask), ("reset", sample.reset)) if array is not None]
        if marks:
            raise ValueError(
                f"data: these are sequences (they have a {' and a '.join(marks)}), and {name_of(model)} is a "
                "model of single rows: use a sequence model such as veil.HMM or veil.LDS, or the rows of "
                "veil.data.steps(data)"
            )
    elif any(len(shape) < 2 for _, shape in trees.leaves(data.query_shape) + trees.leaves(data.evidence_shape)):
        raise ValueError(
            f"data: {name_of(model)} takes sequences, query [N, T, D]; got [N, {_text(data.query_shape)}]. Make "
            "them of a list of arrays [T, D] with veil.data.episodes([array, ...])"
        )
    elif isinstance(model, PerEpisode) and sample.reset is not None:
        _one_episode(model, sample)


def _one_episode(model: Any, data: Data) -> None:
    """Raise ValueError for sequences inside which an episode starts."""
    reset = np.asarray(data.reset)
    there = np.ones(reset.shape, bool) if data.mask is None else np.asarray(data.mask)
    inside = reset & there
    inside[np.arange(len(inside)), np.argmax(there, 1)] = False
    if inside.any():
        row, step = np.argwhere(inside)[0]
        raise ValueError(
            f"data: sequence {row} starts another episode at step {step} (reset), and the latent of {name_of(model)} "
            "is drawn once an episode: make each episode a datum of its own, with veil.data.episodes([array, ...])"
        )


def shapes(model: Any, data: Data | Stream) -> None:
    """Raise ValueError for data of another shape than the fitted model's."""
    sequences(model, data)
    sizes, skip = _sizes(model), 1 if isinstance(model, OfSequences) else 0  # the axis of the steps
    seen = _cut(data.query_shape, skip)
    if sizes.query is not None and seen != sizes.query:
        wanted = f"[N, {'T, ' * skip}{_text(sizes.query)}]"
        raise ValueError(f"query: this model is of data with shape {wanted}; got [N, {_text(data.query_shape)}]")
    columns = None if data.evidence_shape is None else _count(_cut(data.evidence_shape, skip))
    if sizes.inputs == 0 and columns and not sizes.blind:
        raise ValueError("evidence: this model was fitted without evidence; leave it out, or fit a model of p(y | x)")
    if sizes.inputs and columns != sizes.inputs:
        came = "none" if columns is None else f"[N, {_text(data.evidence_shape)}]"
        raise ValueError(f"evidence: this model is p(y | x) with {sizes.inputs} evidence columns; got {came}")


def _cut(shape: Any, skip: int) -> Any:
    """A shape without its first axes; of a tree pairs of name and shape, by name, as models keep it."""
    if isinstance(shape, dict):
        return tuple((name, _cut(shape[name], skip)) for name in sorted(shape))
    return tuple(shape)[skip:]


def _count(shape: Any) -> int:
    """How many numbers have such a shape."""
    if shape and isinstance(shape[0], tuple):
        return sum(_count(each) for _, each in shape)
    return int(np.prod(shape))


def _sizes(model: Model) -> Sizes:
    return model.sizes if isinstance(model, Sized) else Sizes()


def rows(model: Any, evidence: Any) -> Any:
    """Evidence as a complete array [N, P] (or tree). ValueError where a model needs some and gets none, or others."""
    needed = _sizes(model).inputs
    evidence = aligned_rows(model, evidence)
    if evidence is None:
        if needed:
            raise ValueError(f"evidence: this model is p(y | x): give evidence of shape [N, {needed}]")
        return None
    if needed == 0 and not _sizes(model).blind:
        raise ValueError("evidence: this model was fitted without evidence; leave it out, or fit a model of p(y | x)")
    skip = 1 if isinstance(model, OfSequences) else 0  # the axis of the steps
    shapes = [np.shape(leaf) for _, leaf in trees.leaves(evidence)]
    given = sum(int(np.prod(shape[1 + skip :])) for shape in shapes)
    if any(len(shape) < 2 + skip for shape in shapes) or (needed and given != needed):
        came = shapes[0] if len(shapes) == 1 else shapes
        raise ValueError(f"evidence: expected shape [N, {'T, ' * skip}{needed or 'P'}]; got {came}")
    return Data(np.zeros(shapes[0][0]), evidence=evidence).evidence  # the same checks as for data


def _what(value: Any) -> str:
    shape = f" of shape {value.shape}" if isinstance(value, jax.Array | np.ndarray) else ""
    return f"{type(value).__name__}{shape}"


def _text(shape: Any) -> str:
    if isinstance(shape, dict) or (shape and isinstance(shape[0], tuple)):
        pairs = shape.items() if isinstance(shape, dict) else shape
        return ", ".join(f"{name}: [{_text(each)}]" for name, each in pairs)
    return ", ".join(map(str, shape or ()))
