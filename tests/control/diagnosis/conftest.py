"""A tiny run: random episodes of a pendulum, a world model that has hardly learned, a policy that has not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil.control.agent.dreaming import Dreamt
from veil.control.agent.models import query, world_model
from veil.control.agent.playing import play
from veil.control.agent.skill import ImaginingSkill
from veil.control.imagination.actions import Within
from veil.control.imagination.networks import Flattened, Net, StatePolicy
from veil.control.imagined import Predicted
from veil.control.preparing import prepared
from veil.data import Recording
from veil.parts.nets import MLP

SHOWS = {"observation": (3,)}
LIMIT, REPEAT = 60, 2


@pytest.fixture(scope="session")
def recording() -> Recording:
    pytest.importorskip("gymnasium")
    return Recording(play([prepared("Pendulum-v1", repeat=REPEAT, max_steps=LIMIT)], None, range(6), 0))


@pytest.fixture(scope="session")
def fresh() -> Recording:
    pytest.importorskip("gymnasium")
    return Recording(play([prepared("Pendulum-v1", repeat=REPEAT, max_steps=LIMIT)], None, range(3), 1))


@pytest.fixture(scope="session")
def skill(recording: Recording) -> Any:
    model, posterior = world_model(SHOWS, latent=2, memory=8, width=8)
    data = recording.data(query(SHOWS), "action")
    trainer = veil.Trainer(model, posterior, optimiser=optax.adam(1e-2), units=veil.Units.of(data, model))
    state, batch = trainer.start(data, jax.random.key(0)), trainer.batch(data)
    step = jax.jit(trainer.step)
    for _ in range(30):
        state, _ = step(state, batch)
    fitted = trainer.result(state)
    net = Net.initialise(MLP((4,)), 10, jnp.zeros(2), jax.random.key(1))
    acting = Dreamt(StatePolicy(net, Within([-2.0], [2.0]), Flattened()))
    returns = np.array([np.sum(each.rewards) for each in recording.episodes], np.float32)
    steps = np.cumsum([LIMIT] * len(recording)).astype(np.int64)
    inside = acting, Predicted(terminated="terminated"), 0.98, jnp.array([-2.0]), jnp.array([2.0])
    return ImaginingSkill(*fitted, *inside, recording.seen_as(query(SHOWS), "action"), returns, steps)
