"""The recurrent network's own gradient against that of the plain recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.parts.nets import GRU, Residual


def plain(cell: GRU, begin, reads, starts, there, reverse: bool):
    """One step after the other in Python."""
    order = range(len(reads))[::-1] if reverse else range(len(reads))
    states, state = [None] * len(reads), begin
    for t in order:
        after = cell(jnp.zeros(cell.size) if starts[t] else state, reads[t])
        state = after if there[t] else state
        states[t] = state
    return jnp.stack(states)


@pytest.mark.parametrize("reverse", [False, True])
def test_states_and_gradients_along_a_sequence(reverse: bool, x64: None) -> None:
    rng = np.random.default_rng(0)
    cell = GRU(3).initialise(2, jax.random.key(0))
    inputs, slopes = jnp.array(rng.normal(size=(2, 6, 2))), jnp.array(rng.normal(size=(2, 6, 3)))
    begins = jnp.array(rng.normal(size=(2, 3)))
    starts = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]], bool)
    there = np.array([[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]], bool)

    def total(of, cell, begins, inputs):
        return sum(jnp.sum(slopes[i] * of(cell, begins[i], jax.vmap(cell.read)(inputs[i]), i)) for i in range(2))

    def together(cell, begins, inputs):
        reads = jax.vmap(jax.vmap(cell.read))(inputs)
        states = jax.vmap(lambda *one: cell.along(*one, reverse))(begins, reads, jnp.array(starts), jnp.array(there))
        return jnp.sum(slopes * states)

    apart = lambda cell, begins, inputs: total(  # noqa: E731
        lambda cell, begin, reads, i: plain(cell, begin, reads, starts[i], there[i], reverse), cell, begins, inputs
    )
    found = jax.value_and_grad(together, (0, 1, 2))(cell, begins, inputs)
    expected = jax.value_and_grad(apart, (0, 1, 2))(cell, begins, inputs)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)


def test_a_residual_network_is_that_of_its_equation(x64: None) -> None:
    net = Residual(5, 2, "relu").initialise(3, jax.random.key(0))
    x = np.random.default_rng(0).normal(size=3)

    def layer(dense, x):
        return np.asarray(dense.weight) @ x + np.asarray(dense.bias)

    def norm(x):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5)

    state = layer(net.entry, x)
    for first, second in net.layers:
        state = state + layer(second, np.maximum(layer(first, norm(state)), 0.0))
    assert np.allclose(net(jnp.asarray(x)), norm(state), atol=1e-12)
    net = Residual(5, 2, "relu").initialise(3, jax.random.key(0), condition=4)
    condition = np.arange(4.0)
    seen = np.maximum(layer(net.embedding[1], np.maximum(layer(net.embedding[0], condition), 0.0)), 0.0)
    state = layer(net.entry, x)
    for (first, second), each in zip(net.layers, net.conditions, strict=True):
        state = state + layer(second, np.maximum(layer(first, norm(state)) + layer(each, seen), 0.0))
    assert np.allclose(net(jnp.asarray(x), jnp.asarray(condition)), norm(state), atol=1e-12)
    with pytest.raises(ValueError, match="blocks: expected a positive whole number"):
        Residual(4, 0)
    with pytest.raises(ValueError, match="no parameters yet"):
        Residual(4, 1)(jnp.zeros(3))
