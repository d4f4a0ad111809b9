"""A corridor with a noisy television: what can be learned is at its end, and what cannot is one action away."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.model.checks import whole

LEFT, RIGHT, WATCH = range(3)


class Standing(eqx.Module):
    """Where one is, from 0, and what the screen shows [E]."""

    place: Int[Array, "*many"]
    screen: Float[Array, "*many E"]


class Television(eqx.Module):
    """``length`` places in a row, and a screen of ``entries`` numbers that can be switched on anywhere.

    Actions: 0 one place to the left, 1 to the right, 2 stay and watch, which shows another channel: N(0, 1) for each
    entry of the screen, drawn anew each time. Who walks sees a dark screen, zeros. Observed are the place, one number
    for each [length], and the screen [E]. The last place ends the episode with a reward of 1; there is none before.

    Burda et al. 2018, "Large-scale study of curiosity-driven learning", have one in a maze of pictures.

    >>> world = Television(length=3, entries=2)
    >>> state = world.step(world.start(), jnp.array(RIGHT), jax.random.key(0))
    >>> world.observe(state).tolist(), float(world.reward(state)), bool(world.over(state))
    ([0.0, 1.0, 0.0, 0.0, 0.0], 0.0, False)
    """

    length: int = eqx.field(static=True, default=5)
    entries: int = eqx.field(static=True, default=4)

    def __check_init__(self) -> None:
        whole("length", self.length)
        whole("entries", self.entries)

    def start(self) -> Standing:
        """At the first place, the screen dark."""
        return Standing(jnp.zeros((), int), jnp.zeros(self.entries))

    def step(self, state: Standing, action: Int[Array, ""], key: PRNGKeyArray) -> Standing:
        """The state after one action."""
        by = jnp.where(action == RIGHT, 1, jnp.where(action == LEFT, -1, 0))
        shown = jax.random.normal(key, (self.entries,))
        return Standing(
            jnp.clip(state.place + by, 0, self.length - 1), jnp.where(action == WATCH, shown, jnp.zeros_like(shown))
        )

    def observe(self, state: Standing) -> Float[Array, " O"]:
        """What is seen."""
        return jnp.concatenate([jax.nn.one_hot(state.place, self.length, dtype=float), state.screen])

    def reward(self, state: Standing) -> Float[Array, ""]:
        """Of the step that led here."""
        return self.over(state).astype(float)

    def over(self, state: Standing) -> Bool[Array, ""]:
        """Whether the episode has ended here."""
        return state.place == self.length - 1

    def visits(self, count: int, key: PRNGKeyArray, action: Any = None) -> tuple[Array, Array, Array]:
        """Steps o [N, O], u [N], o' [N, O] from anywhere but the end, the screen as any action left it; all actions

        alike, or ``action`` alone.
        """
        key_place, key_before, key_screen, key_action, key_step = jax.random.split(key, 5)
        place = jax.random.randint(key_place, (count,), 0, max(1, self.length - 1))
        lit = jax.random.randint(key_before, (count, 1), 0, 3) == WATCH
        screen = jnp.where(lit, jax.random.normal(key_screen, (count, self.entries)), 0.0)
        chosen = jax.random.randint(key_action, (count,), 0, 3) if action is None else jnp.full(count, action)
        before = Standing(place, screen)
        after = jax.vmap(self.step)(before, chosen, jax.random.split(key_step, count))
        return jax.vmap(self.observe)(before), chosen, jax.vmap(self.observe)(after)
