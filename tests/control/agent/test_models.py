"""World models of what an environment shows: what of it the first data need not have."""

import jax
import numpy as np

import veil
from veil.control import world_model


def test_an_end_that_no_first_episode_had_is_learned_from_all_the_same() -> None:
    """Random actions may never end an episode; whoever acts better meets the first end later."""
    model, posterior = world_model({"observation": (2,)}, latent=2, memory=4, width=4)
    rng = np.random.default_rng(0)
    query = {
        "observation": rng.normal(size=(4, 6, 2)),
        "reward": rng.normal(size=(4, 6, 1)),
        "terminated": np.zeros((4, 6, 1)),
    }
    first = veil.Data(query, rng.normal(size=(4, 6, 1)))
    ended = np.zeros((4, 6, 1))
    ended[0, -1] = 1.0
    later = veil.Data({**query, "terminated": ended}, first.evidence)
    trainer = veil.Trainer(model, posterior, units=veil.Units.of(first, model))
    state = trainer.start(first, jax.random.key(0))
    _, info = trainer.step(state, trainer.batch(later))
    assert np.isfinite(float(info.value))
    assert int(info.skipped) == 0
