"""The session is as strict as conftest.py says: each guard is seen to fire."""

import importlib
import sys
import warnings

import jax
import jax.numpy as jnp
import pytest


def test_annotations_are_executed(tmp_path, monkeypatch):
    """The import hook covers every module below `veil`, here one made for the purpose."""
    import veil

    (tmp_path / "probe.py").write_text(
        "from jaxtyping import Array, Float\n\n\n"
        'def dot(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:\n    return a @ b\n'
    )
    monkeypatch.setattr(veil, "__path__", [*veil.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "veil.probe", raising=False)
    probe = importlib.import_module("veil.probe")
    sys.modules.pop("veil.probe")
    assert probe.dot(jnp.ones(3), jnp.ones(3)) == 3
    with pytest.raises(Exception, match=r"[Tt]ype-check"):
        probe.dot(jnp.ones(3), jnp.arange(3))


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)


def test_compilations_are_counted(compilations):
    @jax.jit
    def probe(x):
        return jnp.sin(x) + 1

    three, four = jnp.ones(3), jnp.ones(4)
    compilations.clear()
    probe(three)
    probe(three)
    assert compilations == ["jit(probe)"]
    probe(four)
    assert compilations.of("probe") == 2


@pytest.mark.usefixtures("x64")
def test_x64_is_float64():
    assert jnp.ones(1).dtype == jnp.float64


def test_float32_is_the_default():
    assert jnp.ones(1).dtype == jnp.float32
