"""Returns with a slip in them, and that they are told by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.diagnosis.findings import CONTINUATION, FAULT, NOT_ADVANCED, TWO_AHEAD, UNDEFINED_RETURNS
from veil.control.diagnosis.returned import dream_checks, return_checks
from veil.control.imagination.dreams import Dream
from veil.control.imagined import Imagined, Predicted, each_of
from veil.maths.returns import lambda_returns

PROBLEM = Imagined(veil.rssm(2), Predicted())


def faults(found: Any) -> set[str]:
    return {each.name for each in found if each.severity == FAULT}


def with_slip(slip: str) -> Any:
    """``Imagined.returns`` as it is written anew, with a slip or without."""

    def returns(self: Imagined, state: Any, actions: Any, key: Any) -> Any:
        first = jax.tree.map(lambda leaf: leaf[0], each_of(state))
        steps, outcome = self.future(first, actions, len(actions), key)
        total, reached = jnp.zeros(()), jnp.ones(())
        for h in range(len(actions)):
            if slip != "late" or h:
                total = total + reached * outcome.reward[h]
            reached = reached * self.discount * (1.0 if slip == "going" else outcome.going[h])
        last = jax.tree.map(lambda leaf: leaf[-1], steps.after)
        if slip == "ahead":
            last = self.model.advance(last, self.model.step_prior(last, None).sample(key), None, None, None)
        return total + reached * (self.discount if slip == "again" else 1.0) * self.value(last)

    return returns


SLIPS = {"": set(), "going": {CONTINUATION}, "ahead": {TWO_AHEAD}, "again": {TWO_AHEAD}, "late": {UNDEFINED_RETURNS}}


@pytest.mark.parametrize("slip", list(SLIPS))
def test_returns_of_plans(slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Imagined, "returns", with_slip(slip))
    assert faults(return_checks(PROBLEM)) == SLIPS[slip]


def ahead(self: Dream, values: Any, discount: Any, mixing: Any) -> Any:
    beyond = jnp.concatenate([values[:, 2:], values[:, -1:]], 1)
    each = jax.vmap(lambda reward, going, after: lambda_returns(reward, going, after, discount, mixing))
    return each(self.reward, self.going, beyond)


def endless(self: Dream, values: Any, discount: Any, mixing: Any) -> Any:
    each = jax.vmap(lambda reward, after: lambda_returns(reward, jnp.ones_like(reward), after, discount, mixing))
    return each(self.reward, values[:, 1:])


def mixed(self: Dream, values: Any, discount: Any, mixing: Any) -> Any:
    each = jax.vmap(lambda reward, going, after: lambda_returns(reward, going, after, discount, mixing**2))
    return each(self.reward, self.going, values[:, 1:])


@pytest.mark.parametrize(
    ("slip", "wanted"), [(None, None), (ahead, TWO_AHEAD), (endless, CONTINUATION), (mixed, UNDEFINED_RETURNS)]
)
def test_returns_of_dreams(slip: Any, wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if slip is not None:
        monkeypatch.setattr(Dream, "returns", slip)
    assert faults(dream_checks(PROBLEM)) == ({wanted} if wanted else set())


def test_dreams_that_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of a rollout begins at the first state."""
    real = Imagined.future

    def stuck(self: Imagined, state: Any, act: Any, horizon: int, key: Any) -> Any:
        steps, outcome = real(self, state, act, horizon, key)
        first = lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape)  # noqa: E731
        return jax.tree.map(first, steps), jax.tree.map(first, outcome)

    monkeypatch.setattr(Imagined, "future", stuck)
    found = dream_checks(PROBLEM)
    assert NOT_ADVANCED in faults(found)
    assert np.all([each.evidence for each in found])
