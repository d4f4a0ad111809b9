"""A film: what was shown above, what is dreamt below."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.agent.dreaming import Dreamt
from veil.control.agent.models import query, world_model
from veil.control.agent.skill import ImaginingSkill
from veil.control.diagnosis.film import film
from veil.control.imagination.actions import Within
from veil.control.imagination.networks import Flattened, Net, StatePolicy
from veil.control.imagined import Predicted
from veil.data import Episode, Recording
from veil.parts.nets import MLP

Image = pytest.importorskip("PIL.Image")
SHOWS = {"frame": (8, 8, 1)}


def dots(seed: int, steps: int) -> Episode:
    """A row that is white, one lower at each step."""
    frame = np.zeros((steps + 1, 8, 8, 1), np.uint8)
    frame[np.arange(steps + 1), (seed + np.arange(steps + 1)) % 8] = 255
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 1))
    return Episode({"frame": frame}, {"action": actions}, np.zeros(steps), truncated=True)


def test_above_what_was_shown_and_below_what_is_dreamt(tmp_path: Path, skill: Any) -> None:
    recording = Recording([dots(0, 11), dots(3, 9)])
    model, posterior = world_model(SHOWS, latent=2, memory=4, levels=(4,), width=4)
    data = recording.data(query(SHOWS), "action")
    trainer = veil.Trainer(model, posterior, units=veil.Units.of(data, model))
    fitted = trainer.result(trainer.start(data, jax.random.key(0)))
    net = Net.initialise(MLP((4,)), 6, jnp.zeros(2), jax.random.key(1))
    inside = Dreamt(StatePolicy(net, Within([-1.0], [1.0]), Flattened())), Predicted(terminated="terminated"), 0.98
    history = np.zeros(2, np.float32), np.arange(2)
    seeing = ImaginingSkill(
        *fitted, *inside, jnp.array([-1.0]), jnp.array([1.0]), recording.seen_as(query(SHOWS), "action"), *history
    )
    place = tmp_path / "dreams.gif"
    film(place, seeing, recording.episodes, key=jax.random.key(0), draws=2)
    with Image.open(place) as found:
        assert found.n_frames == 10  # as many as the shorter episode has
        assert found.size == (200, 200)
        for t in (2, 8):
            found.seek(t)
            pixels = np.asarray(found.convert("RGB"))
            above, below = pixels[2:98, 2:98], pixels[102:198, 2:98]
            rows = above[::12, 0, 0] > 128
            assert rows.tolist() == [row == t % 8 for row in range(8)]
            assert np.array_equal(above, below) == (t < 5)
    with pytest.raises(ValueError, match="skill: a film needs frames, and it sees none"):
        film(place, skill, recording.episodes, key=jax.random.key(0))
