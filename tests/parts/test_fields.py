"""What fields make ahead of a draw: the same draws, and ahead only where it is worth it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.parts.fields import Field, NeuralField, Separable
from veil.parts.paths import Cosine, Path, Straight


class Theirs(Field):
    """A field of a user's, that tells nothing apart: a neural one's numbers."""

    inner: NeuralField
    path: Path
    shape: tuple = eqx.field(static=True)
    inputs: int = eqx.field(static=True)

    def read(self, evidence):
        return self.inner.read(evidence)

    def __call__(self, value, time, given):
        return self.inner(value, time, given)


NETS = {"conditional": veil.nets.Residual(8, 2), "plain": veil.MLP((8,))}


def models(kind: str, net: str, inputs: int) -> tuple[Any, Any]:
    """A model of a neural field, and of the same field as a user's."""
    field = NeuralField(NETS[net], path=Cosine() if kind == "cosine" else Straight())
    evidence = jnp.zeros(inputs) if inputs else None
    field = field.initialise(jnp.zeros((3, 2)), evidence, jax.random.key(0))
    leaves = jax.tree.map(lambda leaf: leaf + 0.1, field)  # directions start near zero
    theirs = Theirs(leaves, leaves.path, leaves.shape, leaves.inputs)
    make = {
        "flow": lambda field: veil.ContinuousFlow(field, steps=5),
        "cosine": lambda field: veil.ContinuousFlow(field, steps=5),
        "one step": lambda field: veil.ContinuousFlow(field, steps=1),
        "chain": lambda field: veil.Diffusion(field, draws=5),
    }[kind]
    return make(leaves), make(theirs)


CASES = [
    ("flow", "conditional", 4),
    ("flow", "conditional", 0),
    ("cosine", "plain", 4),
    ("one step", "conditional", 4),
    ("chain", "conditional", 4),
    ("chain", "plain", 0),
]


@pytest.mark.parametrize(("kind", "net", "inputs"), CASES)
def test_draws_are_those_of_a_field_that_is_asked_at_every_step(kind: str, net: str, inputs: int, x64: None) -> None:
    ours, theirs = models(kind, net, inputs)
    keys = jax.random.split(jax.random.key(1), 6)
    evidence = jax.random.normal(jax.random.key(2), (6, inputs)) if inputs else None

    def one(model, key, x):
        return model.sample(key, x)[1]

    first = None if evidence is None else evidence[0]
    for draw in (
        lambda model: jax.jit(one)(model, keys[0], first),
        lambda model: jax.vmap(lambda key: one(model, key, first))(keys),
        lambda model: jax.vmap(lambda key, x: one(model, key, x))(keys, evidence),
        lambda model: jax.grad(lambda x: jnp.sum(one(model, keys[0], x) ** 2))(first) if inputs else first,
    ):
        left, right = draw(ours), draw(theirs)
        assert left is right is None or np.abs(np.asarray(right)).max() > 1e-3
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), left, right)


def test_steps_approach_what_a_loop_by_hand_finds(x64: None) -> None:
    """Euler's steps on a straight path, as in a textbook."""
    model, _ = models("flow", "conditional", 4)
    given, noise = jnp.arange(4.0), jax.random.normal(jax.random.key(3), (3, 2))
    value = noise
    for time in (1.0, 0.8, 0.6, 0.4, 0.2):
        value = value - 0.2 * np.sqrt(2.0) * model.field(value, time, given)
    np.testing.assert_allclose(model.forward(noise, given)[0], value, rtol=1e-10)


class Telling(Field, Separable):
    """A field that lets see how it was asked: it goes by 1 of what it made ahead, by 0 elsewhere."""

    path: Path = Straight()
    shape: tuple = eqx.field(static=True, default=(2,))
    inputs: int = eqx.field(static=True, default=1)

    def __call__(self, value, time, given):
        return jnp.zeros_like(value)

    def ahead(self, time, given):
        return 1.0 + 0.0 * time * given[0]

    def after(self, value, ahead):
        return jnp.full_like(value, ahead)


def test_of_one_datum_it_is_made_ahead_and_of_many_it_is_not() -> None:
    model = veil.ContinuousFlow(Telling(), steps=4)
    noise, evidence = jnp.zeros((5, 2)), jnp.ones((5, 1))

    def forward(noise, x):
        return model.forward(noise, x)[0]

    moved = -np.sqrt(2.0)
    np.testing.assert_allclose(forward(noise[0], evidence[0]), moved, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(forward)(noise[0], evidence[0]), moved, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(forward, (0, None))(noise, evidence[0]), moved, rtol=1e-5)  # draws share it
    np.testing.assert_array_equal(jax.vmap(forward)(noise, evidence), 0.0)
    np.testing.assert_array_equal(jax.jit(jax.vmap(forward, (None, 0)))(noise[0], evidence), 0.0)
