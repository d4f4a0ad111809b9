"""How the agent acts when it is judged, beside how it acts to learn."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.agent.dreaming import GuidedPlanning
from veil.control.agent.planning import Planning
from veil.control.diagnosis.findings import FAULT, FINE, NOISE_REPORTED, Finding
from veil.data import Episode
from veil.data.recorded.views import ACTED, named

KEYS, STEPS = 6, 2


@eqx.filter_jit
def _acts(actor: Any, observations: Any, keys: Any) -> Any:
    """Actions at some observations in a row [K, T, ...], one row for each key."""

    def one(key: PRNGKeyArray) -> Any:
        memory, done = actor.init(jax.random.fold_in(key, 0)), []
        for step in range(STEPS):
            seen = jax.tree.map(lambda leaf, step=step: leaf[step], observations)
            action, memory = actor.act(memory, seen, jax.random.fold_in(key, step + 1))
            done.append(jnp.concatenate([jnp.ravel(each).astype(float) for _, each in named(action, ACTED)]))
        return jnp.stack(done)

    return jax.vmap(one)(keys)


def acting_check(skill: Any, episode: Episode, key: PRNGKeyArray) -> Finding:
    """Whether the skill, as it is given, explores: by draws or noise that its returns then have in them.

    With the same keys it must do other things when it explores than when it does not.
    """
    help = "judge it with exploring=False: replace(skill, exploring=False), veil play without --exploring"
    if skill.exploring:
        return Finding(NOISE_REPORTED, FAULT, "the skill explores as it was given", help)
    seen = {name: np.asarray(each)[:STEPS] for name, each in episode.observations.items()}
    keys = jax.random.split(key, KEYS)
    judged, exploring = (np.asarray(_acts(each, seen, keys)) for each in (skill, replace(skill, exploring=True)))
    planning = skill.acting.planning if isinstance(skill.acting, GuidedPlanning) else skill.acting
    if isinstance(planning, Planning) and planning.noise == 0:
        return Finding(NOISE_REPORTED, FINE, "it explores by nothing: its planner has no noise")
    spread = [float(np.mean(np.std(each, axis=0))) for each in (judged, exploring)]
    words = f"actions at one observation spread by {spread[0]:.3g}, and by {spread[1]:.3g} as it explores"
    if np.array_equal(judged, exploring) and spread[1] > 0:
        return Finding(NOISE_REPORTED, FAULT, f"it does the same, exploring or not: {words}", help)
    return Finding(NOISE_REPORTED, FINE, words)
