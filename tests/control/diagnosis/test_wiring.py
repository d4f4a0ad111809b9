"""Slips in what infers, imagines and acts, written as a user might, and each told by its name."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.agent.dreaming import Dreamt
from veil.control.diagnosis.acted import acting_check
from veil.control.diagnosis.diagnosing import _pieces
from veil.control.diagnosis.findings import (
    ACTION_KEPT,
    FAULT,
    FILTER_DIFFERS,
    FINE,
    LEAKED,
    NOISE_REPORTED,
    NOT_ADVANCED,
    RESET_MISSING,
)
from veil.control.diagnosis.wiring import inference_checks, rollout_checks
from veil.data import Recording
from veil.model import Datum, Stepwise
from veil.model.filter import Belief, Filter
from veil.posterior import Posterior


def faults(found: Any) -> set[str]:
    return {each.name for each in found if each.severity == FAULT}


class Wrapped(Filter):
    """A filter around another, which is right."""

    inner: Any

    def init(self) -> Belief:
        return self.inner.init()

    def update(self, belief: Belief, datum: Datum, key: Any) -> Belief:
        return self.changed(belief, datum, key)

    def changed(self, belief: Belief, datum: Datum, key: Any) -> Belief:
        raise NotImplementedError

    def draw(self, belief: Belief, key: Any) -> Any:
        return self.inner.draw(belief, key)

    def marginal(self, belief: Belief) -> Any:
        return self.inner.marginal(belief)


class Keeping(Wrapped):
    """It puts the state back at a start, and then lets the last action of the episode before lead out of it."""

    def changed(self, belief: Belief, datum: Datum, key: Any) -> Belief:
        start = eqx.tree_at(lambda b: (b.fresh, b.state.path.fresh), self.inner.init(), (jnp.array(False),) * 2)
        before = jax.tree.map(lambda a, b: jnp.where(datum.reset, a, b), start, belief)
        return self.inner.update(before, replace(datum, reset=None), key)


class Unreset(Wrapped):
    """It is never told that an episode begins."""

    def changed(self, belief: Belief, datum: Datum, key: Any) -> Belief:
        return self.inner.update(belief, replace(datum, reset=None), key)


class Peeking(Posterior):
    """q(z_t) sees the frame after its own."""

    inner: Any

    def __call__(self, model: Any, datum: Datum) -> Any:
        later = jax.tree.map(lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]]), datum.query)
        return self.inner(model, replace(datum, query=later))


class Endless(Posterior):
    """One long episode."""

    inner: Any

    def __call__(self, model: Any, datum: Datum) -> Any:
        return self.inner(model, replace(datum, reset=None))


SLIPS = {
    "none": (None, None, set()),
    "kept, peeking": (Keeping, Peeking, {ACTION_KEPT, FILTER_DIFFERS, LEAKED}),
    "resets": (Unreset, Endless, {RESET_MISSING, ACTION_KEPT, FILTER_DIFFERS}),
}


@pytest.mark.parametrize("slip", list(SLIPS))
def test_what_infers(skill: Any, recording: Recording, slip: str) -> None:
    filter, posterior, wanted = SLIPS[slip]
    right = skill.posterior.filter(skill.model)
    pieces = _pieces(recording.episodes, skill.view)
    assert pieces is not None
    found = inference_checks(
        skill.model,
        skill.posterior if posterior is None else posterior(skill.posterior),
        right if filter is None else filter(right),
        pieces,
        jax.random.key(0),
    )
    assert faults(found) == wanted


class Stuck(Stepwise):
    """A model that says where it is, and does not go on."""

    inner: Any

    @property
    def remembers(self) -> bool:
        return self.inner.remembers

    def carry(self, evidence: Any) -> Any:
        return self.inner.carry(evidence)

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return carry

    def step_prior(self, carry: Any, evidence: Any) -> Any:
        return self.inner.step_prior(carry, evidence)

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Any:
        return self.inner.step_likelihood(carry, latent, evidence)


def test_what_imagines(skill: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that does not go on; and a rollout that takes every step from the first state."""
    from veil.control import imagined

    state = jax.tree.map(jnp.asarray, skill.model.carry(None))
    actions = jnp.linspace(-2.0, 2.0, 5)[:, None]
    check = lambda problem, actions=actions: faults(  # noqa: E731
        rollout_checks(problem, state, actions, jax.random.key(0))
    )
    assert check(skill.problem) == set()
    assert check(replace(skill.problem, model=Stuck(skill.model))) == {NOT_ADVANCED}
    real = imagined.rollout

    def rooted(model: Any, state: Any, act: Any, horizon: int, key: Any) -> Any:
        keys = jax.random.split(key, horizon)
        each = jax.vmap(lambda one, key: jax.tree.map(lambda leaf: leaf[0], real(model, state, one[None], 1, key)))
        return each(act, keys)

    monkeypatch.setattr(imagined, "rollout", rooted)
    assert check(skill.problem, actions[:4]) == {NOT_ADVANCED}  # of another length, so that it is compiled anew


def test_what_is_judged(skill: Any, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """It explores as it is judged: because it was told to, or because it does so always."""
    episode, key = recording.episodes[0], jax.random.key(0)
    assert acting_check(skill, episode, key).severity == FINE
    told = acting_check(replace(skill, exploring=True), episode, key)
    assert (told.name, told.severity) == (NOISE_REPORTED, FAULT)
    real = Dreamt.actor
    monkeypatch.setattr(Dreamt, "actor", lambda self, problem, seer, exploring: real(self, problem, seer, True))
    always = acting_check(replace(skill, discount=0.9), episode, key)  # another skill, so that it is compiled anew
    assert (always.name, always.severity) == (NOISE_REPORTED, FAULT)
    assert np.all([word in always.evidence for word in ("it does the same", "as it explores")])
