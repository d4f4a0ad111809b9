"""Saving and loading: the same to the bit, nothing half-written, and files that are wrong or hostile are refused."""

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
from mutations import seal
from saved import fits
from saved.fits import arrays_of, same, same_fit
from veil.learning.result import Fit
from veil.model.scales import Scale
from veil.posterior import Posterior
from veil.saved import folders, registry
from veil.saved.folders import STRUCTURE
from veil.saved.trees import DEEPEST
from veil.units import Units, in_user_units, standardised

# -- what is saved comes back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fits.CASES)
def test_a_fit_comes_back_whole(name, tmp_path):
    fit = fits.fit(name)
    same_fit(veil.load(veil.save(tmp_path, fit)), fit)


def test_the_cases_are_all_families():
    """Every model and every posterior of the library is in one of them."""
    seen = set()
    for name in fits.CASES:
        found = fits.fit(name)
        seen |= {type(found.model), type(found.posterior)}
    expected = {cls for cls in registry.own_classes() if issubclass(cls, veil.Model | Posterior)}
    assert expected <= seen, expected - seen


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(name, tmp_path):
    model = random_model(name, make_data(MODELS[name][1]))
    same(veil.load(veil.save(tmp_path / "run", model)), model)


@pytest.mark.filterwarnings("ignore:collapse")
def test_what_learned_comes_back(key, tmp_path):
    data = veil.data.load("faithful")
    vae = veil.VAE(1, decoder=veil.MLP((3,)))
    fit = veil.fit(vae, data, key=key, steps=4, restarts=2, held_out=0.3)
    again = veil.load(veil.save(tmp_path / "vae", fit))
    same_fit(again, fit)
    assert again.history.restarts.shape == (2,)
    assert len(again.history.held_out) > 0
    assert repr(again) == repr(fit)
    same(veil.load(veil.save(tmp_path / "q", fit.posterior)), fit.posterior)
    trained = [veil.fit(each.model, data, key=key, steps=2).history.value for each in (fit, again)]
    np.testing.assert_array_equal(*trained)


@pytest.mark.parametrize("name", ["experts-tied-full", "trunk-diagonal", "constant-categorical"])
def test_log_prob_is_the_same_to_the_bit(name, tmp_path):
    data = make_data(MODELS[name][1])
    model = random_model(name, data)
    again = veil.load(veil.save(tmp_path, model))
    assert veil.log_prob(again, data).tobytes() == veil.log_prob(model, data).tobytes()


def test_standardised_conditioned_and_unfitted_models(tmp_path):
    data = make_data("diagonal | evidence")
    scale = Scale(np.array([1.0, 2.0]), np.array([3.0, 0.1]))
    units = Units(scale, Scale(np.zeros(2), np.ones(2)))
    models = [
        standardised(random_model("linear-diagonal", data), units),
        in_user_units(random_model("experts-full", make_data("real | evidence")), Units(None, scale)),
        veil.condition(random_model("mixture-full", make_data("real")), query=(0,), evidence=(1, 2)),
        veil.Mixture(components=7, start=veil.RandomRows()),
        veil.density(veil.Linear(veil.heads.DiscretisedLogistic(-1.0, 1.0, 3)), veil.MLP((4, 5), "relu")),
        units,
        Units({"frame": None, "reward": scale}),
        scale,
    ]
    for i, model in enumerate(models):
        same(veil.load(veil.save(tmp_path / str(i), model)), model)


def test_precision_follows_the_session(tmp_path):
    model = random_model("mixture-full", make_data("real"))
    veil.save(tmp_path, model)
    with jax.enable_x64(True):
        again = veil.load(tmp_path)
        assert again.experts.weight.dtype == jnp.float64
        np.testing.assert_array_equal(np.asarray(again.experts.weight), np.asarray(model.experts.weight))
        veil.save(tmp_path, eqx.tree_at(lambda m: m.experts.weight, again, 1e300 * again.experts.weight))
    with pytest.raises(ValueError, match=r"array model\.experts\.weight: numbers too large for float32"):
        veil.load(tmp_path)


def test_only_models_posteriors_and_fits(tmp_path):
    for wrong in (3, None, {"a": 1}, fits.history()[0], veil.VAE):
        with pytest.raises(TypeError, match="x: expected a model, a posterior or a Fit"):
            veil.save(tmp_path / "nothing", wrong)
    assert not (tmp_path / "nothing").exists()


# -- overwriting, and crashes ------------------------------------------------------------------------------------------


def test_a_second_save_replaces_the_first(tmp_path):
    fit = fits.fit("factor analysis")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "parameters-mine.safetensors").write_text("mine, too")
    veil.save(tmp_path, veil.Mixture(components=5))
    veil.save(tmp_path, fit)
    veil.save(tmp_path, fit)
    same_fit(veil.load(tmp_path), fit)
    (tmp_path / "parameters-mine.safetensors").unlink()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [STRUCTURE, "notes.txt", arrays_of(tmp_path).name]
    veil.save(tmp_path, fit.model)
    same(veil.load(tmp_path), fit.model)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_crash_leaves_the_old_or_the_new(writes, tmp_path, monkeypatch):
    """After so many of the two writes: until the last of them what was there is there, whole."""
    old, new, done = fits.fit("lds"), fits.fit("switching"), []

    def write(path, content, real=folders.write_atomically):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path.name)
        real(path, content)

    veil.save(tmp_path, old)
    monkeypatch.setattr(folders, "write_atomically", write)
    monkeypatch.setattr(folders.Path, "unlink", lambda *_, **__: 1 / 0)
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
        veil.save(tmp_path, new)
    monkeypatch.undo()
    same_fit(veil.load(tmp_path), new if writes == 2 else old)
    same_fit(veil.load(veil.save(tmp_path, new)), new)
    assert len(list(tmp_path.iterdir())) == 2  # what the crash left is gone


def test_what_cannot_be_saved_leaves_what_was_there(tmp_path):
    fit = fits.fit("lds")
    veil.save(tmp_path, fit)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError, match="model"):
        veil.save(tmp_path, Fit(object(), fit.posterior, fit.history, fit.status))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_two_saves_do_not_mix(tmp_path):
    one, two = (veil.save(tmp_path / str(n), fits.fit(name)) for n, name in enumerate(("lds", "switching")))
    arrays_of(one).write_bytes(arrays_of(two).read_bytes())
    with pytest.raises(ValueError, match="not as it was saved"):
        veil.load(one)
    (one / STRUCTURE).write_bytes((two / STRUCTURE).read_bytes())
    with pytest.raises(FileNotFoundError, match=f"{arrays_of(two).name} is missing"):
        veil.load(one)


# -- damaged and altered files -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    return veil.save(tmp_path / "run", random_model("mixture-full", make_data("real")))


@pytest.fixture
def saved_fit(tmp_path):
    return veil.save(tmp_path / "run", fits.fit("lds"))


def edit(folder, change):
    """A structure altered on purpose: its digest is right."""
    structure = json.loads((folder / STRUCTURE).read_text())
    change(structure)
    (folder / STRUCTURE).write_text(json.dumps(structure))
    seal(folder)


def nested(structure):
    node = None
    for _ in range(DEEPEST + 5):
        node = {"tuple": [node]}
    structure["saved"]["fields"]["components"] = node


DAMAGE = {
    "unknown class": (lambda s: s["saved"].update({"class": "os.system"}), "unknown class 'os.system'"),
    "class of the library that is no module": (
        lambda s: s["saved"].update({"class": "Fit"}),
        "unknown class",
    ),
    "class that nobody registered": (
        lambda s: s.update(saved={"registered": "os.system", "fields": {}}),
        r"'os\.system' is not registered; import it first, with @veil\.register\(name='os\.system'\)",
    ),
    "field too many": (lambda s: s["saved"]["fields"].update(extra=1), "fields .*extra"),
    "field too few": (lambda s: s["saved"]["fields"].pop("start"), "fields .*start"),
    "wrong shape": (
        lambda s: s["saved"]["fields"]["gate"]["fields"]["weight"].update(shape=[2, 1]),
        r"array model\.gate\.weight",
    ),
    "wrong type": (
        lambda s: s["saved"]["fields"]["gate"]["fields"]["weight"].update(dtype="int32"),
        r"array model\.gate\.weight",
    ),
    "another array's name": (
        lambda s: s["saved"]["fields"]["gate"]["fields"]["weight"].update(array="other"),
        "array other is missing",
    ),
    "not our format": (lambda s: s.update(format="something"), "not a veil model"),
    "another version": (lambda s: s.update(version=99), "version 99"),
    "the first version": (lambda s: s.update(version=1), "fit the model again, or load it with the veil that wrote it"),
    "no model": (lambda s: s.update(saved=3), "holds no model"),
    "impossible value": (lambda s: s["saved"]["fields"].update(components=-1), "components"),
    "nested too deeply": (nested, "nested too deeply"),
    "a list": (lambda s: s.update(saved=[1, 2]), "unexpected list"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_altered_structures_are_refused(saved, name):
    change, words = DAMAGE[name]
    edit(saved, change)
    with pytest.raises(ValueError, match=words):
        veil.load(saved)


def result(*path, **changed):
    def change(structure):
        node = structure["saved"]
        for name in path:
            node = node["fields"][name]
        node["fields"].update(changed)

    return change


WRONG_FITS = {
    "no model": (result(model={"class": "Exact", "fields": {}}), r"model: expected .*Model.*; it holds Exact\(\)"),
    "a model for a posterior": (result(posterior={"class": "Mixture", "fields": {}}), "fields .* do not match"),
    "words for a posterior": (
        result(posterior="exact"),
        r"Fit: .*: posterior: expected .*Posterior.*; it holds 'exact'",
    ),
    "no status": (result(status=None), r"status: expected .*Status.*; it holds None"),
    "converged": (
        result("status", converged="yes"),
        r"Status: .*: converged: expected .*bool.*; it holds 'yes'",
    ),
    "steps": (result("status", steps=True), r"steps: expected .*int.*; it holds True"),
    "notes": (result("status", notes={"tuple": [1]}), r"notes: expected tuple\[str, \.\.\.\]; it holds \(1,\)"),
    "values": (result("history", value=[1.0]), "unexpected list"),
    "a number for values": (result("history", penalty=1.0), r"penalty: expected .*ndarray.*; it holds 1\.0"),
}


@pytest.mark.parametrize("name", WRONG_FITS)
def test_altered_fits_are_refused(saved_fit, name):
    change, words = WRONG_FITS[name]
    edit(saved_fit, change)
    with pytest.raises(ValueError, match=words):
        veil.load(saved_fit)


def test_any_change_of_a_byte_is_noticed(saved):
    rng = np.random.default_rng(0)
    for file in (saved / STRUCTURE, arrays_of(saved)):
        content = file.read_bytes()
        for place in rng.integers(0, len(content), 40):
            changed = bytearray(content)
            changed[place] ^= 1 << rng.integers(8)
            file.write_bytes(bytes(changed))
            with pytest.raises((ValueError, FileNotFoundError)):
                veil.load(saved)
        file.write_bytes(content)
    veil.load(saved)


def test_altered_arrays_are_refused(saved):
    arrays = load_file(arrays_of(saved))
    name = next(iter(arrays))
    save_file({**arrays, name: np.zeros((9, 9), np.float32)}, arrays_of(saved))
    with pytest.raises(ValueError, match="not as it was saved"):
        veil.load(saved)
    seal(saved)
    with pytest.raises(ValueError, match=r"recorded as 'float32' .*found 'float32' \[9, 9\]"):
        veil.load(saved)
    save_file({k: v for k, v in arrays.items() if k != name}, arrays_of(saved))
    seal(saved)
    with pytest.raises(ValueError, match=f"array {name} is missing"):
        veil.load(saved)
    save_file({**arrays, "more": arrays[name]}, arrays_of(saved))
    seal(saved)
    with pytest.raises(ValueError, match="array more is in no part of it"):
        veil.load(saved)


GARBAGE = [b"", b"\x80\x04garbage", b"{", b"[" * 100_000, b"\xff" * 64]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_is_refused(saved, content, sealed):
    before = (saved / STRUCTURE).read_bytes()
    (saved / STRUCTURE).write_bytes(content)
    with pytest.raises(ValueError, match="damaged or not a saved model"):
        veil.load(saved)
    (saved / STRUCTURE).write_bytes(before)
    arrays_of(saved).write_bytes(content)
    if sealed:
        seal(saved)
    with pytest.raises(ValueError, match="damaged"):
        veil.load(saved)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("which", ["structure", "arrays"])
def test_pickles_are_not_executed(saved, which):
    Bomb.exploded = False
    (saved / STRUCTURE if which == "structure" else arrays_of(saved)).write_bytes(pickle.dumps(Bomb()))
    if which == "arrays":
        seal(saved)
    with pytest.raises(ValueError, match="damaged"):
        veil.load(saved)
    assert not Bomb.exploded
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.exploded  # it would have gone off


def test_missing_files(saved):
    arrays = arrays_of(saved)
    arrays.unlink()
    with pytest.raises(FileNotFoundError, match=f"{arrays.name} is missing"):
        veil.load(saved)
    (saved / STRUCTURE).unlink()
    with pytest.raises(FileNotFoundError, match=f"{STRUCTURE} is missing"):
        veil.load(saved)
