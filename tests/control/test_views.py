"""From a recording to a policy and back into the environment: which action goes with which observation, as what."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import FilteringActor, LowNoise, Policy, RandomActor, ScriptedActor, collect, distributions
from veil.data import Episode, Recording, trajectories, write_minari
from veil.learning.result import Fit, History, Status
from veil.model import Sized
from veil.model.abilities import Sizes
from veil.posterior import Exact

KEY = jax.random.key(0)


def play(steps: int, rng) -> Episode:
    """The expert: u_t = -0.5 o_t + noise."""
    seen, done = [rng.normal()], []
    for _ in range(steps):
        done.append(-0.5 * seen[-1] + 0.05 * rng.normal())
        seen.append(seen[-1] + done[-1] + 0.3 * rng.normal())
    wide = np.array(seen)
    frames = np.clip(128 + 60 * wide[:, None, None], 0, 255).astype(np.uint8) * np.ones((1, 2, 3), np.uint8)
    observations = {"place": wide[:, None], "frame": frames, "room": (wide > 0).astype(int)}
    return Episode(
        observations, {"action": np.array(done)[:, None], "gear": np.arange(steps) % 3}, rng.normal(size=steps)
    )


def recorded(*lengths: int) -> Recording:
    rng = np.random.default_rng(0)
    return Recording([play(steps, rng) for steps in lengths], {"gear": range(3), "room": range(2)})


@pytest.mark.parametrize("lengths", [(12,) * 6, (1, 5, 3, 9)], ids=["equal", "unequal"])
@pytest.mark.parametrize("evidence", ["place", ["place", "room"], "frame", ["place", "action", "reward"]])
def test_an_action_goes_with_the_observation_at_which_it_was_taken(lengths, evidence) -> None:
    made = recorded(*lengths)
    data = made.data(query="action", evidence=evidence)
    each = list(made.episodes)
    led = lambda array: np.concatenate([np.zeros_like(array[:1]), array])  # noqa: E731
    columns = {
        "place": lambda e: e.observations["place"],
        "room": lambda e: np.eye(2)[e.observations["room"]],
        "frame": lambda e: np.float32(e.observations["frame"]) / 255,
        "action": lambda e: led(e.actions["action"]),
        "reward": lambda e: led(e.rewards)[:, None],
    }
    wanted = [evidence] if isinstance(evidence, str) else evidence
    expected = np.concatenate([np.concatenate([columns[name](e) for name in wanted], -1)[:-1] for e in each])
    np.testing.assert_allclose(data.query, np.concatenate([e.actions["action"] for e in each]))
    np.testing.assert_allclose(data.evidence, expected, rtol=1e-6)
    assert (len(data), data.name, data.view.taken) == (sum(lengths), "recording, actions taken", True)
    assert veil.data.steps(data) is data
    rows = veil.data.steps(made.data("action", evidence, sequences=True))
    np.testing.assert_array_equal(rows.query, data.query)
    np.testing.assert_array_equal(rows.evidence, data.evidence)


def test_which_pairing_was_made_is_said() -> None:
    made = recorded(4, 4)
    taken, led = made.data("action", ["place", "action", "reward"]), made.data("place", "action")
    assert taken.evidence_names == ("place", "last action", "last reward")
    assert repr(taken.view) == "View(action taken at place and action and reward)"
    assert (led.evidence_names, led.name) == (("action",), "recording")
    assert repr(led.view) == "View(place led to by action)"
    assert len(made.data("place", "action", sequences=False)) == 10
    assert made.data("gear").query.tolist() == np.eye(3)[[0, 1, 2, 0] * 2].tolist()


def test_a_cloned_expert_has_the_experts_slope() -> None:
    for lengths in ((12,) * 30, (12, 13, 14) * 10):
        data = recorded(*lengths).data("action", "place")
        slope, *_ = np.linalg.lstsq(np.hstack([data.evidence, np.ones_like(data.evidence)]), data.query)
        assert abs(slope[0, 0] + 0.5) < 0.02


# -- trajectories of other libraries -----------------------------------------------------------------------------------

SEEN, DONE = np.arange(8.0).reshape(4, 2), np.array([0, 2, 1])


@pytest.mark.parametrize(
    "given",
    [
        {"observations": SEEN, "actions": DONE, "rewards": np.ones(3), "terminated": True},
        {"obs": SEEN, "acts": DONE, "rews": np.ones(3), "terminal": np.array([False, False, True]), "infos": None},
        {"observations": SEEN[:-1], "next_observations": SEEN[1:], "actions": DONE, "dones": [0, 0, 1], "seed": 5},
    ],
    ids=["gymnasium", "imitation", "transitions"],
)
def test_trajectories_become_a_recording(given) -> None:
    one = type("Trajectory", (), {})()
    vars(one).update(given)
    for found in (given, one):
        made = trajectories([found, found], {"action": range(3)})
        np.testing.assert_array_equal(made.episodes[0].observations["observation"], SEEN)
        assert made.episodes[0].terminated
        data = made.data("action", "observation")
        np.testing.assert_array_equal(data.query[3:], np.eye(3)[DONE])
        np.testing.assert_array_equal(data.evidence[3:], SEEN[:-1])


def test_observations_of_trajectories_may_be_dictionaries_and_ends_have_reasons() -> None:
    given = {"obs": {"arm": {"angle": SEEN}, "eye": SEEN[:, 0]}, "acts": (DONE, DONE), "truncated": 1, "dones": 1}
    made = trajectories([given])
    assert made.parts == ("arm/angle", "eye", "_index_0", "_index_1", "reward", "terminated")
    assert (made.episodes[0].terminated, made.episodes[0].truncated) == (False, True)
    assert np.isnan(made.episodes[0].rewards).all()


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"obs": SEEN}, TypeError, "found: expected a list of dictionaries"),
        ([3], TypeError, r"trajectory 0 \(from 0\): expected a dictionary"),
        ([{"obs": SEEN}], ValueError, "actions are missing; it has obs"),
        ([{"obs": SEEN[:-1], "acts": DONE}], ValueError, "has 3 entries, and there are 3 actions; expected 4"),
        ([{"obs": SEEN, "acts": DONE, "reward_": 1}], ValueError, "'reward_' is not known"),
        ([{"obs": SEEN, "acts": DONE, "rews": np.ones(2)}], ValueError, "must have 3 entries|actions: "),
    ],
)
def test_what_is_no_trajectory(given, kind, message) -> None:
    with pytest.raises(kind, match=message):
        trajectories(given)


# -- acting in the recording's own numbers -----------------------------------------------------------------------------


class Linear(Sized):
    """a | o ~ N(W o, 1e-6²) of observations that are trees, too."""

    weight: jax.Array

    @property
    def sizes(self):
        return Sizes(inputs=self.weight.shape[1])

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(evidence)])
        return distributions.normal(self.weight @ flat, jnp.full(len(self.weight), 1e-6))


def fitted(weight, data) -> Fit:
    history = History(np.zeros(1), np.zeros(1), np.zeros((0, 2)), np.zeros(1))
    return Fit(Linear(jnp.array(weight, float)), Exact(), history, Status(True, "by hand", 1), data.view)


def rooms(gymnasium, dirty=False):
    """It sees a room and a picture in bytes, and acts by two choices side by side: MultiDiscrete([2, 3], start 1)."""
    spaces = gymnasium.spaces

    class Rooms(gymnasium.Env):
        observation_space = spaces.Dict(
            {
                "room": spaces.Discrete(3, start=4),
                "eye": spaces.Box(0, 255, (2, 2, 1), np.uint8),
                "x": spaces.Box(0, 1, ()),
            }
        )
        action_space = spaces.MultiDiscrete([2, 3], start=[0, 1])

        def _seen(self):
            x = np.float32(np.nan if dirty and self.at == 2 else 0.5)
            return {"room": 4 + self.at % 3, "eye": np.full((2, 2, 1), 51 * (self.at % 4), np.uint8), "x": x}

        def reset(self, *, seed=None, options=None):
            self.at = 0
            return self._seen(), {}

        def step(self, action):
            assert self.action_space.contains(action)
            self.at += 1
            return self._seen(), 0.0, False, False, {}

    return Rooms


def test_a_policy_sees_and_acts_as_the_recording_was_read(tmp_path) -> None:
    """Choices are ones and zeros in the data, bytes are in [0, 1]; the environment gives and takes its own."""
    gymnasium = pytest.importorskip("gymnasium")
    made = collect(rooms(gymnasium), 2, out=tmp_path / "random", seed=0, max_steps=8)
    assert made.categories == {"room": range(4, 7), "action": (range(2), range(1, 4))}
    data = made.data("action", {"eye": "eye", "rest": ["room", "x"]})
    actions = np.concatenate([each.actions["action"] for each in made.episodes])
    np.testing.assert_array_equal(data.query, np.hstack([np.eye(2)[actions[:, 0]], np.eye(3)[actions[:, 1] - 1]]))
    # first choice: whether the picture is bright (over 0.5); second: the room
    weight = np.zeros((5, 8))
    weight[0, 7], weight[1, :4] = 1.0, 0.25
    weight[[2, 3, 4], [4, 5, 6]] = 1.0
    fit = fitted(weight, data)
    veil.register(Linear)
    veil.save(tmp_path / "fit", fit)
    for policy in (Policy(fit, LowNoise(0.0)), Policy(veil.load(tmp_path / "fit"), LowNoise(0.0))):
        found = collect(rooms(gymnasium), 1, out=tmp_path / "own", seed=0, max_steps=8, policy=policy, force=True)
        step = np.arange(8)
        wanted = np.stack([51 * (step % 4) / 255 > 0.5, 1 + step % 3], 1)
        np.testing.assert_array_equal(found.episodes[0].actions["action"], wanted)
    seen = {"room": np.array([4, 6]), "eye": np.stack([np.zeros((2, 2, 1), np.uint8)] * 2), "x": np.full(2, 0.5)}
    assert policy(seen, KEY).tolist() == [[0, 1], [0, 3]]
    with pytest.raises(ValueError, match=r"observation: expected 'room' of shape \(\)"):
        policy({"eye": np.zeros((2, 2, 1), np.uint8), "x": np.zeros(())}, KEY)
    with pytest.raises(ValueError, match="env: the observation 'x' holds NaN at step 2 of episode 0"):
        collect(lambda: rooms(gymnasium, True)(), 1, out=tmp_path / "nan", seed=0, max_steps=8, policy=policy)
    with pytest.raises(ValueError, match="needs a policy's data"):
        Policy(fitted(weight, made.data("x", "action")))
    with pytest.raises(ValueError, match="'reward' in its evidence is not known"):
        Policy(fitted(weight, made.data("action", ["x", "reward"])))


def test_a_world_model_filters_in_the_recording_s_own_numbers() -> None:
    """Its query has a reward, which nobody knows who acts; its evidence is a choice."""
    rng = np.random.default_rng(0)
    one = Episode({"observation": rng.normal(size=(6, 2))}, {"action": rng.integers(5, 8, 5)}, rng.normal(size=5))
    data = Recording([one, one], {"action": range(5, 8)}).data([["observation", "reward"]], "action")
    one = jnp.ones((1, 1))
    noise = veil.Diagonal(scale=jnp.full((1, 3), 0.5))
    parameters = {
        "mean": jnp.zeros(1),
        "factor": one,
        "transition": 0.9 * one,
        "drift": jnp.ones((1, 4)),
        "process": one,
    }
    model = veil.LDS(1, noise, **parameters, emission=jnp.ones((3, 1)), offset=jnp.zeros(3))
    fit = replace(fitted([[0.0]], data), model=model)
    actor = FilteringActor.of(fit, lambda state, key: jnp.array([0.0, 0.0, 1.0]), None)
    act = jax.jit(actor.act)
    action, memory = act(actor.init(KEY), jnp.array([0.3, -0.2]), KEY)
    assert (int(action), memory.action.tolist()) == (7, [0.0, 0.0, 1.0])
    # a chain of one step: prior variance 1, two entries of noise 0.25 around it
    np.testing.assert_allclose(actor.filter.marginal(memory.belief).mean, [4 * (0.3 - 0.2) / (1 + 8)], rtol=1e-5)
    with pytest.raises(ValueError, match="observation: expected 'observation' of shape"):
        actor.act(memory, jnp.zeros(3), KEY)


def test_minari_s_several_choices_are_ones_and_zeros(tmp_path) -> None:
    pytest.importorskip("h5py")
    done = np.array([[0, 2], [1, 1], [0, 3]])
    one = Episode({"observation": SEEN}, {"action": done}, np.ones(3))
    made = Recording([one], {"action": (range(2), range(1, 4))})
    write_minari(made, tmp_path / "several-v0")
    found = veil.data.recording(tmp_path / "several-v0")
    assert found.categories == made.categories
    expected = [[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert found.data("action").query.tolist() == expected
    assert found.data(evidence="action").evidence[0, 1:].tolist() == expected


# -- slips -------------------------------------------------------------------------------------------------------------


def test_observations_of_several_environments_just_work() -> None:
    seen = np.random.default_rng(0).normal(size=(30, 2))
    model = Linear(jnp.array([[1.0, 2.0]]))
    policy = Policy(model, LowNoise(0.0))
    for count in (1, 3):
        found = policy(jnp.array(seen[:count]), KEY)
        np.testing.assert_allclose(found, seen[:count] @ [[1.0], [2.0]], atol=1e-3)
    assert policy(jnp.array(seen[0]), KEY).shape == (1,)
    for wrong in (jnp.zeros(3), jnp.zeros((2, 3)), jnp.zeros(4)):
        with pytest.raises(ValueError, match=r"observation: expected 2 numbers, or those of several"):
            policy(wrong, KEY)
    with pytest.raises(ValueError, match="got an image of bytes"):
        policy(np.zeros((2, 1), np.uint8), KEY)
    limited = Policy(model, LowNoise(0.0), low=-1.0, high=1.0)
    for bad in (jnp.array([jnp.nan, 0.0]), jnp.array([[0.0, 1.0], [jnp.inf, 0.0]])):
        with pytest.raises(ValueError, match="observation: expected finite numbers"):
            limited(bad, KEY)
    act = jax.jit(limited.act)  # nothing can be refused in there, and nothing is made up
    assert np.isnan(act((), jnp.array([jnp.nan, 0.0]), KEY)[0]).all()
    assert np.isfinite(act((), jnp.zeros(2), KEY)[0]).all()


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        (ScriptedActor(lambda seen, key: jnp.full(1, jnp.nan)), "policy: its action at step 0 of episode 0 is NaN"),
        (ScriptedActor(lambda seen, key: jnp.full(2, 1)), "policy: expected actions of shape"),
    ],
)
def test_what_a_policy_does_is_checked(tmp_path, actor, message) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    with pytest.raises(ValueError, match=message):
        collect(lambda: gymnasium.make("Pendulum-v1"), 1, out=tmp_path / "x", seed=0, max_steps=2, policy=actor)
    with pytest.raises(ValueError, match=r"policy: its action at step 0 of episode 0, 7, is not in Discrete\(2\)"):
        collect("CartPole-v1", 1, out=tmp_path / "y", seed=0, policy=ScriptedActor(lambda seen, key: jnp.array(7)))
    with pytest.raises(TypeError, match="env: expected a name, a Gymnasium environment or a function"):
        collect(lambda: 3, 1, out=tmp_path / "z", seed=0)


def test_actors_with_arrays_can_be_jitted_as_they_are() -> None:
    actor = RandomActor(jnp.zeros(2), jnp.ones(2))
    act = jax.jit(actor.act)
    first, _ = act((), jnp.zeros(3), KEY)
    np.testing.assert_allclose(first, actor.act((), jnp.zeros(3), KEY)[0])
    other = jax.jit(RandomActor(jnp.full(2, 5.0), jnp.full(2, 6.0)).act)
    assert other((), jnp.zeros(3), KEY)[0].min() >= 5
