"""Saving and loading: bit by bit the same model, and files that are wrong or hostile are refused without being run."""

import json
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import veil
from cases import MODELS, make_data, random_model
from veil.saved.models import ARRAYS, DEEPEST, STRUCTURE
from veil.units import Units


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_is_exact(name, tmp_path):
    model = random_model(name, make_data(MODELS[name][1]))
    again = veil.load(veil.save(tmp_path / "run", model))
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", ["experts-tied-full", "trunk-diagonal", "constant-categorical"])
def test_log_prob_is_the_same_to_the_bit(name, tmp_path):
    data = make_data(MODELS[name][1])
    model = random_model(name, data)
    again = veil.load(veil.save(tmp_path, model))
    assert veil.log_prob(again, data).tobytes() == veil.log_prob(model, data).tobytes()


def test_rescaled_heads_conditioned_and_unfitted_models(tmp_path):
    data = make_data("real | evidence")
    units = Units(np.array([1.0, 2.0]), np.array([3.0, 0.1]))
    models = [
        random_model("linear-diagonal", data).rescaled(units, Units(np.zeros(2), np.ones(2))),
        veil.condition(random_model("mixture-full", make_data("real")), query=(0,), evidence=(1, 2)),
        veil.Mixture(components=7, start=veil.RandomRows()),
        veil.density(veil.Linear(veil.heads.DiscretisedLogistic(-1.0, 1.0, 3)), veil.MLP((4, 5), "relu")),
    ]
    for i, model in enumerate(models):
        again = veil.load(veil.save(tmp_path / str(i), model))
        assert eqx.tree_equal(again, jax.tree.map(jnp.asarray, model))


def test_a_fit_can_be_saved_and_a_second_save_replaces_the_first(tmp_path):
    result = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0), steps=3)
    (tmp_path / "notes.txt").write_text("mine")
    veil.save(tmp_path, veil.Mixture(components=5))
    veil.save(tmp_path, result)
    assert eqx.tree_equal(veil.load(tmp_path), result.model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [STRUCTURE, "notes.txt", ARRAYS]


def test_precision_follows_the_session(tmp_path):
    model = random_model("mixture-full", make_data("real"))
    veil.save(tmp_path, model)
    with jax.enable_x64(True):
        again = veil.load(tmp_path)
        assert again.experts.weight.dtype == jnp.float64
        np.testing.assert_array_equal(np.asarray(again.experts.weight), np.asarray(model.experts.weight))


@pytest.fixture
def saved(tmp_path):
    return veil.save(tmp_path / "run", random_model("mixture-full", make_data("real")))


def edit(folder, change):
    structure = json.loads((folder / STRUCTURE).read_text())
    change(structure)
    (folder / STRUCTURE).write_text(json.dumps(structure))


def nested(structure):
    node = None
    for _ in range(DEEPEST + 5):
        node = {"tuple": [node]}
    structure["model"]["fields"]["components"] = node


DAMAGE = {
    "unknown class": (lambda s: s["model"].update({"class": "os.system"}), "unknown class 'os.system'"),
    "class of the library that is no module": (
        lambda s: s["model"].update({"class": "Fit"}),
        "unknown class",
    ),
    "field too many": (lambda s: s["model"]["fields"].update(extra=1), "fields .*extra"),
    "field too few": (lambda s: s["model"]["fields"].pop("start"), "fields .*start"),
    "wrong shape": (
        lambda s: s["model"]["fields"]["gate"]["fields"]["weight"].update(shape=[2, 1]),
        r"array model\.gate\.weight",
    ),
    "wrong type": (
        lambda s: s["model"]["fields"]["gate"]["fields"]["weight"].update(dtype="int32"),
        r"array model\.gate\.weight",
    ),
    "another array's name": (
        lambda s: s["model"]["fields"]["gate"]["fields"]["weight"].update(array="other"),
        "array other is missing",
    ),
    "not our format": (lambda s: s.update(format="something"), "not a veil model"),
    "another version": (lambda s: s.update(version=99), "version 99"),
    "no model": (lambda s: s.update(model=3), "holds no model"),
    "impossible value": (lambda s: s["model"]["fields"].update(components=-1), "components"),
    "nested too deeply": (nested, "nested too deeply"),
    "a list": (lambda s: s.update(model=[1, 2]), "unexpected list"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_altered_structures_are_refused(saved, name):
    change, words = DAMAGE[name]
    edit(saved, change)
    with pytest.raises(ValueError, match=words):
        veil.load(saved)


def test_altered_arrays_are_refused(saved):
    arrays = load_file(saved / ARRAYS)
    name = next(iter(arrays))
    save_file({**arrays, name: np.zeros((9, 9), np.float32)}, saved / ARRAYS)
    with pytest.raises(ValueError, match=r"recorded as 'float32' .*found 'float32' \[9, 9\]"):
        veil.load(saved)
    save_file({k: v for k, v in arrays.items() if k != name}, saved / ARRAYS)
    with pytest.raises(ValueError, match=f"array {name} is missing"):
        veil.load(saved)


@pytest.mark.parametrize("file", [STRUCTURE, ARRAYS])
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"{", b"[" * 100_000, b"\xff" * 64])
def test_garbage_is_refused(saved, file, content):
    (saved / file).write_bytes(content)
    with pytest.raises(ValueError, match="damaged or not a saved model"):
        veil.load(saved)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("file", [STRUCTURE, ARRAYS])
def test_pickles_are_not_executed(saved, file):
    Bomb.exploded = False
    (saved / file).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="damaged"):
        veil.load(saved)
    assert not Bomb.exploded
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.exploded  # it would have gone off


@pytest.mark.parametrize("file", [STRUCTURE, ARRAYS])
def test_missing_files(saved, file):
    (saved / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        veil.load(saved)


def test_a_class_of_one_s_own_needs_registering(tmp_path):
    class Mine(eqx.Module):
        number: jax.Array

    with pytest.raises(TypeError, match=r"not registered; call veil\.register"):
        veil.save(tmp_path, Mine(jnp.ones(2)))
    assert veil.register(Mine) is Mine
    assert eqx.tree_equal(veil.load(veil.save(tmp_path, Mine(jnp.ones(2)))), Mine(jnp.ones(2)))
    with pytest.raises(TypeError, match="Module"):
        veil.register(int)
    with pytest.raises(ValueError, match="registered for another class"):
        veil.register(type("Other", (eqx.Module,), {}), f"{Mine.__module__}.{Mine.__qualname__}")


def test_what_cannot_be_described_is_not_saved(tmp_path):
    class Holder(eqx.Module):
        thing: object

    veil.register(Holder)
    for thing in (lambda x: x, object(), float("nan"), {1: 2}):
        with pytest.raises(TypeError, match=r"model\.thing: cannot save"):
            veil.save(tmp_path, Holder(thing))
