"""Any model p(y | x) as a policy: evidence is the observation, query the action."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Datum, Model, checks
from veil.verbs.prediction import moments


class Policy(eqx.Module):
    """π(a | o) = p(y = a | x = o) of a fitted model.

    ``mode`` is how an action is chosen: "sample" draws from π; "best" takes the likeliest of ``candidates`` draws,
    which stays on one mode where there are several; "mean" averages, which may end between the modes. Actions are
    clipped to ``low`` and ``high`` if given. One observation [P] at a time; ``jax.vmap`` it for many.

    >>> import jax, jax.numpy as jnp, veil
    >>> x = jnp.linspace(-1, 1, 80)
    >>> data = veil.Data(jnp.sign(jnp.sin(40 * x)) + 0.1 * jnp.cos(90 * x), evidence=x)
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0)).model
    >>> abs(float(veil.Policy(model)(jnp.zeros(1), jax.random.key(1))[0])) > 0.5
    True
    """

    model: Model
    mode: Literal["sample", "best", "mean"] = eqx.field(static=True, default="sample")
    candidates: int = eqx.field(static=True, default=64)
    low: Float[Array, "*action"] | float | None = None
    high: Float[Array, "*action"] | float | None = None

    def __check_init__(self) -> None:
        if self.mode not in ("sample", "best", "mean"):
            raise ValueError(f"mode: expected sample, best or mean; got {self.mode!r}")
        checks.whole("candidates", self.candidates)
        checks.fitted(self.model)

    @eqx.filter_jit
    def __call__(self, observation: Float[Array, "*observation"], key: PRNGKeyArray) -> Float[Array, "*action"]:
        """The action for one observation."""
        needed = getattr(self.model, "inputs", None)
        if needed and jnp.size(observation) != needed:
            raise ValueError(f"observation: expected {needed} numbers; got shape {jnp.shape(observation)}")
        action = self._choose(jnp.asarray(observation, jnp.result_type(float)), key)
        return action if self.low is None and self.high is None else jnp.clip(action, self.low, self.high)

    def _choose(self, observation: Array, key: PRNGKeyArray) -> Array:
        if self.mode == "mean":
            return moments(self.model, observation)[0]
        if self.mode == "sample":
            return self.model.sample(key, observation)[1]
        _, actions = jax.vmap(lambda k: self.model.sample(k, observation))(jax.random.split(key, self.candidates))
        score = lambda action: jax.scipy.special.logsumexp(self.model.log_joints(Datum(action, observation)))  # noqa: E731
        return actions[jnp.argmax(jax.vmap(score)(actions))]
