"""Which classes are known: all of the library's by itself, a user's once they are registered."""

import subprocess
import sys
from collections import Counter
from textwrap import dedent

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from saved import fits
from saved.fits import same, same_fit
from veil import distributions
from veil.learning.result import Fit
from veil.saved import registry


def test_no_two_classes_of_the_library_have_one_name():
    """Files name them by bare names, which outlive moves of files."""
    names = Counter(cls.__qualname__ for cls in registry.own_classes())
    assert [name for name, count in names.items() if count > 1] == []
    assert not set(names) & set(registry.RESULTS)
    assert {"VAE", "MLP", "Amortized", "Units", "HMM", "FullGaussian"} <= set(names)
    assert all(cls.__module__.startswith("veil.") for cls in registry.own_classes())
    assert not any("test" in cls.__module__ for cls in registry.own_classes())


def test_the_registry_waits_until_it_is_asked():
    script = "import sys, veil; veil.register; assert not {m for m in sys.modules if m.startswith('veil.zoo.')}"
    subprocess.run([sys.executable, "-c", script], check=True)


# -- as a user would write them ----------------------------------------------------------------------------------------


@veil.register
class ZeroInflated(eqx.Module):
    """A head with an ``__init__`` of its own, a dictionary and settings of every kind."""

    weight: jax.Array
    parts: dict
    sizes: tuple = eqx.field(static=True)
    names: dict = eqx.field(static=True)

    def __init__(self, key):
        self.weight = jax.random.normal(key, (2, 3))
        self.parts = {"rate": jnp.ones(2), "zero": {"logit": jnp.zeros(2)}}
        self.sizes = ((1, 2), ("a", None))
        self.names = {"unit": "counts", "deeper": {"x": (1, 2.5)}}


@veil.register(name="lab.Counts")
class Counts(veil.Model):
    """y | z ~ N(W z, I), z ~ N(0, I)."""

    head: ZeroInflated
    scale: float = eqx.field(static=True, default=2.0)

    def __check_init__(self):
        if not self.scale > 0:
            raise ValueError(f"scale: expected a positive number; got {self.scale}")

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(3), jnp.ones(3))

    def likelihood(self, latent, evidence):
        return distributions.normal(self.head.weight @ latent, self.scale * jnp.ones(2))


class Linear(veil.posterior.Posterior):
    """Linear in the query."""

    gain: jax.Array

    def __call__(self, model, datum):
        return distributions.normal(self.gain @ datum.query, jnp.ones(3))


def users_fit(key):
    return Fit(Counts(ZeroInflated(key)), Linear(jnp.ones((3, 2))), *fits.history())


def test_a_user_s_own_classes(key, tmp_path):
    fit = users_fit(key)
    with pytest.raises(TypeError, match=r"^posterior: .*is not registered; write @veil\.register above class Linear"):
        veil.save(tmp_path / "run", fit)
    assert not (tmp_path / "run").exists()
    veil.register(Linear, name="lab.Linear")
    again = veil.load(veil.save(tmp_path / "run", fit))
    same_fit(again, fit)
    assert again.model.head.names == {"unit": "counts", "deeper": {"x": (1, 2.5)}}
    assert '"lab.Linear"' in (tmp_path / "run" / "model.json").read_text()
    datum = veil.Datum(jnp.ones(2))
    for ask in (lambda fit: fit.posterior(fit.model, datum).mean, lambda fit: fit.model.sample(key)[1]):
        np.testing.assert_array_equal(ask(again), ask(fit))


def test_a_class_s_own_check_runs(key, tmp_path):
    wrong = Counts(ZeroInflated(key))
    object.__setattr__(wrong, "scale", -1.0)
    with pytest.raises(ValueError, match=r"lab\.Counts: its fields do not fit: scale: expected a positive number"):
        veil.load(veil.save(tmp_path, wrong))


SCRIPT = """
    import jax.numpy as jnp, equinox as eqx, veil, sys
    {above}
    class Mine(eqx.Module):
        number: jnp.ndarray
    if sys.argv[1] == "save":
        veil.save(sys.argv[2], Mine(jnp.ones(2)))
    else:
        print(veil.load(sys.argv[2]).number.sum())
"""


def script(above, verb, folder):
    words = [sys.executable, "-c", dedent(SCRIPT.format(above=above)), verb, str(folder)]
    return subprocess.run(words, capture_output=True, text=True)


def test_in_another_process(tmp_path):
    """The error's line is the line to write."""
    refused = script("", "save", tmp_path)
    last = refused.stderr.splitlines()[-1]
    assert "__main__.Mine is not registered; write @veil.register above class Mine" in last
    assert list(tmp_path.iterdir()) == []
    assert script("@veil.register", "save", tmp_path).stderr == ""
    refused = script("", "load", tmp_path)
    last = refused.stderr.splitlines()[-1]
    assert "'__main__.Mine' is not registered" in last
    line = last.partition(" with ")[2]
    assert line == "@veil.register(name='__main__.Mine') above the class"
    assert script(line.removesuffix(" above the class"), "load", tmp_path).stdout == "2.0\n"


def test_a_class_of_somebody_else(tmp_path):
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"Linear is not registered; .*veil\.register\(Linear\)"):
        veil.save(tmp_path, layer)
    assert veil.register(eqx.nn.Linear) is eqx.nn.Linear
    try:
        same(veil.load(veil.save(tmp_path, layer)), layer)
    finally:
        registry._REGISTERED.pop(f"{eqx.nn.Linear.__module__}.Linear")


def test_names(tmp_path):
    def make():
        @veil.register
        class Mine(eqx.Module):
            number: jax.Array

        return Mine

    first, second = make(), make()  # as when a cell of a notebook runs again
    same(veil.load(veil.save(tmp_path, second(jnp.ones(2)))), second(jnp.ones(2)))
    with pytest.raises(TypeError, match="was defined anew after this one was made; make it again"):
        veil.save(tmp_path, first(jnp.ones(2)))

    class VAE(eqx.Module):
        """Not the library's."""

    veil.register(VAE, name="VAE")
    assert type(veil.load(veil.save(tmp_path, VAE()))) is VAE
    assert type(veil.load(veil.save(tmp_path, veil.VAE(2)))) is veil.VAE
    with pytest.raises(ValueError, match=r"name: 'lab\.Counts' is registered for another class"):
        veil.register(VAE, name="lab.Counts")
    for wrong in (int, veil.Data):
        with pytest.raises(TypeError, match=r"cls: expected a class, an equinox\.Module"):
            veil.register(wrong)
