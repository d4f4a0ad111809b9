"""What a tree may hold, and what is refused with advice."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from saved.fits import arrays_of, same
from veil.saved import trees


@veil.register
class Holder(eqx.Module):
    thing: object = eqx.field(static=True)
    leaves: object = None


THINGS = {
    "nothing": None,
    "numbers": (1, -2, 2**53, 0.1, -0.0, 1e300, True),
    "text": ("", "é\N{SNOWMAN}", "a.b", '"\\', "class", "0" * 64),
    "tuples of tuples": ((), ((1, "a"), (None, (2.5,))), ((),)),
    "dictionaries": {"a": {"b": (1, {"c": None})}, "": {}, "class": "VAE", "fields": {"array": 1, "shape": []}},
    "lists": [[1, 2], [], ({"a": [None]},)],
}


@pytest.mark.parametrize("name", THINGS)
def test_plain_fields_come_back(name, tmp_path):
    again = veil.load(veil.save(tmp_path, Holder(THINGS[name], THINGS[name])))
    assert again.thing == again.leaves == THINGS[name]
    assert repr(again.thing) == repr(THINGS[name])  # types, and signs of zeros


def test_trees_of_arrays_come_back(tmp_path):
    one = lambda *shape: jax.random.normal(jax.random.key(0), shape)  # noqa: E731
    leaves = {
        "frame": {"a.b": one(2, 3), "a": {"b": one(0, 3)}},
        "joints": [one(), (one(4), None)],
        "host": (np.arange(3, dtype=np.uint8), np.float64(1 / 3), np.ones((2, 2), np.float16).T, np.array([True])),
        "counts": (jnp.arange(3), jnp.array([True, False])),
        "not finite": jnp.array([jnp.nan, jnp.inf, -0.0]),
    }
    tree = Holder("static", leaves)
    same(veil.load(veil.save(tmp_path, tree)), tree)
    assert arrays_of(tmp_path).stat().st_size < 2000


def named(x):
    return x


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda x: x, "the function <lambda>; make it an equinox.Module"),
        (named, "the function named; make it an equinox.Module with a __call__, and write @veil.register above"),
        (jnp.tanh, "the function tanh; make it"),
        (Callable(), "the function Callable; make it"),
        (jax.tree_util.Partial(named), "make it an equinox.Module"),
        (object(), "cannot save a object; what is saved are registered modules, arrays, finite numbers"),
        (float("nan"), "cannot save nan"),
        (float("inf"), "cannot save inf"),
        (2**63, "cannot save 9223372036854775808"),
        (1j, "cannot save a complex"),
        ({1: 2}, "a dictionary is saved if its keys are text; got 1"),
        ({"a": {"b": {1, 2}}}, "model.leaves.a.b: cannot save a set"),
        (np.array(["a"]), "cannot save an array of <U1"),
        (jnp.ones(2, jnp.bfloat16), "cannot save an array of bfloat16"),
        (jax.random.key(0), "cannot save a random key"),
    ],
)
def test_what_cannot_be_saved(thing, words, tmp_path):
    with pytest.raises(TypeError, match=r"^model\.leaves") as error:
        veil.save(tmp_path / "new", Holder("static", thing))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_functions_inside_models_name_their_place(tmp_path):
    model = veil.NonlinearGaussian(
        named, lambda z, x: z, jnp.eye(2), veil.Diagonal(scale=jnp.ones((1, 2))), jnp.zeros(2), jnp.eye(2)
    )
    with pytest.raises(TypeError, match=r"^model\.transition\.call: cannot save the function named; make it"):
        veil.save(tmp_path, model)


def test_whole_numbers_beyond_the_precision_are_refused():
    with jax.enable_x64(True):
        array = jnp.array([2**40])
        arrays = {}
        structure = json.loads(json.dumps(trees.describe(array, "a", arrays)))
        assert trees.restore(structure, dict(arrays)) == array
    with pytest.raises(ValueError, match="array a: numbers too large for int32; load it in float64"):
        trees.restore(structure, arrays)


def test_sizes_inside_containers_are_seen():
    """A few bytes of structure do not make a model that asks for gigabytes."""
    for value in (10**9, {"tuple": [1, {"tuple": [10**9]}]}, {"dict": {"a": {"list": [10**9]}}}):
        with pytest.raises(ValueError, match="widths is 1000000000, and no array of the model is as large"):
            trees.restore({"class": "MLP", "fields": {"widths": value, "activation": "tanh", "layers": None}}, {})


@pytest.mark.parametrize(
    "node",
    [[], {}, {"tuple": 1}, {"dict": []}, {"array": 1}, {"array": "a"}, {"class": "VAE"}, {"class": 1, "fields": {}}],
)
def test_what_was_never_written(node):
    with pytest.raises(ValueError, match=r"unexpected|unknown"):
        trees.restore(node, {"a": np.ones(2)})
