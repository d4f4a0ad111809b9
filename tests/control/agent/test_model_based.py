"""The agent's loop: what it keeps, that it goes on as if it had never stopped, and what acts in the end."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil.control import Dreaming, Guided, ImaginedActorCritic, OneOf, Quadratic, Shooting, Within
from veil.control.agent import model_based
from veil.control.agent.behaviour import Acting, Behaviour
from veil.control.agent.learning import going, inferred
from veil.control.agent.model_based import ModelBased, limits
from veil.control.agent.models import query, world_model
from veil.control.agent.planning import Planning
from veil.control.agent.playing import play
from veil.control.agent.replay import Sampling, Uniform, numbers
from veil.control.exploration import Counted, Episodic, NetworkGain, Remembered, Tally
from veil.control.planning import CrossEntropy
from veil.control.preparing import prepared
from veil.data import recording

pytest.importorskip("gymnasium")
pytest.importorskip("orbax.checkpoint")

SHOWS = {"observation": (3,)}


def env() -> Any:
    return prepared("Pendulum-v1", repeat=2, max_steps=20)


def small(behaviour: Any = None, **options: Any) -> ModelBased:
    model, posterior = world_model(SHOWS, latent=2, memory=8, width=8)
    behaviour = behaviour or Planning(CrossEntropy(3, candidates=8, elites=2, rounds=2))
    options = {"batch_size": 2, "window": 6, "updates": 0.3, "random": 2, "first": 2} | options
    return ModelBased(model, posterior, behaviour, query(SHOWS), optimiser=optax.adam(1e-3), **options)


def digest(folder: Path, skill: Any) -> str:
    found = hashlib.sha256()
    for file in sorted((folder / "episodes").glob("*.npz")):
        with np.load(file) as arrays:
            for name in sorted(arrays.files):
                found.update(np.ascontiguousarray(arrays[name]).data)
    for leaf in jax.tree.leaves(skill):
        found.update(np.ascontiguousarray(leaf).data if isinstance(leaf, jax.Array | np.ndarray) else b"")
    return found.hexdigest()


def gain() -> NetworkGain:
    return NetworkGain(network=veil.BayesianNetwork((3,)))


@pytest.mark.parametrize("everything", [False, True], ids=["plain", "context, a bonus, on disk"])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    """Stopped before a checkpoint, when an episode had been written that would be played again, and amid learning."""
    agent = small(**({"context": True, "bonus": gain()} if everything else {}))
    wanted = digest(tmp_path / "whole", agent.learn(env, 4, out=tmp_path / "whole", seed=1))

    class Stopped(Exception):
        pass

    def stopping(place: Any, name: str, after: int) -> None:
        real, calls = getattr(place, name), iter(range(10**9))

        def sometimes(*args: Any, **options: Any) -> Any:
            if next(calls) == after:
                raise Stopped
            return real(*args, **options)

        monkeypatch.setattr(place, name, sometimes)

    run = model_based._Run
    for place, name, after in ((run, "_keep", 1), (model_based.Replay, "windows", 4)):
        with monkeypatch.context() as patched:
            monkeypatch = patched
            stopping(place, name, after)
            with pytest.raises(Stopped):
                agent.learn(env, 4, out=tmp_path / "part", seed=1, on_disk=everything)
    found = agent.learn(env, 4, out=tmp_path / "part", seed=1, on_disk=everything)
    assert digest(tmp_path / "part", found) == wanted
    assert (tmp_path / "part" / "replay").exists() == everything
    assert digest(tmp_path / "part", agent.learn(env, 4, out=tmp_path / "part", seed=1)) == wanted  # nothing to do
    with pytest.raises(ValueError, match="seed 1 in place of 2"):
        agent.learn(env, 4, out=tmp_path / "part", seed=2)
    with pytest.raises(ValueError, match="checkpoints of another fit: it differs in agent"):
        replace(agent, updates=0.5).learn(env, 4, out=tmp_path / "part", seed=1)
    with pytest.raises(ValueError, match="it differs in what the environment shows"):
        agent.learn(lambda: prepared("Pendulum-v1", repeat=3, max_steps=20), 4, out=tmp_path / "part", seed=1)
    found = recording(tmp_path / "whole" / "episodes")
    assert [len(each) for each in found.episodes] == [10] * 4
    assert found.data("observation", "action").query.shape == (4, 11, 3)


def test_what_it_learned_acts_and_is_saved(tmp_path: Path) -> None:
    skill = small(together=2).learn(env, 4, out=tmp_path / "run", seed=0)
    assert skill.returns.shape == (4,)
    assert skill.steps.tolist() == [20, 40, 60, 80]
    again = veil.load(veil.save(tmp_path / "skill", skill))
    played = [play([env()], each, [7], 3)[0] for each in (skill, again)]
    np.testing.assert_array_equal(played[0].actions["action"], played[1].actions["action"])
    exploring = play([env()], replace(skill, exploring=True), [7], 3)[0]
    assert np.std(exploring.actions["action"] - played[0].actions["action"]) > 0.05
    assert np.all(np.abs(exploring.actions["action"]) <= 2)


def test_choices_are_learned_in_dreams_and_episodes_that_end(tmp_path: Path) -> None:
    """One of two actions, episodes of a dozen steps, shorter than a window; what acts does one thing for one key."""
    shows = {"observation": (4,)}
    model, posterior = world_model(shows, latent=2, memory=4, width=4)
    behaviour = Dreaming(ImaginedActorCritic(OneOf(2), trunk=veil.MLP((4,)), horizon=3), starts=8)
    agent = ModelBased(
        model, posterior, behaviour, query(shows), window=30, batch_size=2, random=4, first=2, updates=0.1
    )
    skill = agent.learn(lambda: prepared("CartPole-v1"), 5, out=tmp_path / "run", seed=0)
    found = recording(tmp_path / "run" / "episodes")
    assert all(each.terminated for each in found.episodes)
    assert set(np.concatenate([each.actions["action"] for each in found.episodes]).tolist()) == {0, 1}
    again = veil.load(veil.save(tmp_path / "skill", skill))
    for each in (skill, again):
        np.testing.assert_array_equal(
            play([prepared("CartPole-v1")], each, [3], 0)[0].actions["action"],
            play([prepared("CartPole-v1")], skill, [3], 0)[0].actions["action"],
        )


def test_a_short_plan_with_values_behind_it(tmp_path: Path) -> None:
    """What acts is a planner whose problem has the learned value, and whose candidates are the policy's, too."""
    learner = ImaginedActorCritic(Within([-2.0], [2.0]), trunk=veil.MLP((4,)), horizon=3)
    planning = Planning(CrossEntropy(2, candidates=20, elites=3, rounds=1))
    skill = small(Guided(Dreaming(learner, starts=4), planning)).learn(env, 3, out=tmp_path / "run", seed=0)
    acting = skill.actor
    assert acting.problem.value is not None
    assert acting.planner.policy is not None
    assert np.all(np.abs(play([env()], skill, [0], 0)[0].actions["action"]) <= 2)
    with pytest.raises(TypeError, match="planning: expected one by CrossEntropy"):
        Guided(Dreaming(learner), Planning(Shooting(2)))


def test_a_locally_linear_model_with_a_quadratic_planner(tmp_path: Path) -> None:
    """Embed to control: states are vectors, of which plans are made by linear models along the way."""
    model, posterior = world_model(SHOWS, dynamics=veil.dynamics.LocallyLinear(2), width=4)
    agent = replace(small(Planning(Quadratic(3, rounds=1))), model=model, posterior=posterior)
    skill = agent.learn(env, 3, out=tmp_path / "run", seed=0)
    assert np.all(np.isfinite(play([env()], skill, [0], 0)[0].actions["action"]))


class Rightwards(Acting):
    """How it acts."""

    count: Any

    def actor(self, problem: Any, seer: Any, exploring: bool) -> Any:
        return replace(seer, policy=lambda state, key: problem.high)


class Watching(Behaviour):
    """A behaviour as a user would write it: it counts, and always pushes to the right."""

    def start(self, problem: Any, state: Any, key: Any) -> Any:
        return jnp.zeros(())

    def step(self, learned: Any, problem: Any, states: Any, weight: Any, key: Any) -> Any:
        return learned + 1.0, {"spread": jnp.std(states.memory)}

    def acting(self, learned: Any) -> Any:
        return Rightwards(learned)


def test_a_behaviour_of_ones_own(tmp_path: Path) -> None:
    seen: list[Any] = []
    skill = small(Watching()).learn(env, 3, out=tmp_path / "run", seed=0, watch=seen.append)
    assert float(skill.acting.count) == 2 + 3  # the first steps, and .3 of ten decisions
    assert (seen[0].done, seen[0].episodes, len(seen[0].returns)) == (3, 3, 3)
    assert seen[0].info["spread"] > 0
    assert np.all(play([env()], seen[0].skill(), [0], 0)[0].actions["action"] == 2.0)


def test_states_are_those_of_the_filter() -> None:
    """What is imagined from is what the filter knows, step by step, at the ends of episodes too."""
    model, posterior = world_model(SHOWS, latent=2, memory=4, width=4)
    rng = np.random.default_rng(0)
    seen = {"observation": rng.normal(size=(1, 7, 3)), "reward": rng.normal(size=(1, 7, 1))}
    seen["terminated"] = np.zeros((1, 7, 1))
    data = veil.Data(seen, evidence=rng.normal(size=(1, 7, 1)), reset=np.arange(7)[None] % 4 == 0)
    trainer = veil.Trainer(model, posterior)
    state = trainer.start(data, jax.random.key(0))
    model, posterior = state.learned.model, state.learned.posterior
    datum = jax.tree.map(lambda leaf: leaf[0], trainer.batch(data))
    states = inferred(model, posterior, datum, jax.random.key(1))
    filter, belief = posterior.filter(model), posterior.filter(model).init()
    for t in range(7):
        one = jax.tree.map(lambda leaf, t=t: leaf[t], (datum.query, datum.evidence, datum.starts))
        belief = filter.update(belief, veil.Datum(*one[:2], reset=one[2]), jax.random.key(5))
        if t in (0, 4):  # nothing was drawn before them
            np.testing.assert_allclose(states.memory[t], belief.state.path.memory, atol=1e-6)
    found = jax.vmap(lambda state, x: model.advance(state, state.latent, None, x, None).memory)(
        jax.tree.map(lambda leaf: leaf[:-1], states), datum.evidence[1:]
    )
    np.testing.assert_allclose(found[:3], states.memory[1:4], atol=1e-6)
    np.testing.assert_allclose(found[4:], states.memory[5:], atol=1e-6)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run of one that remembers and has a bonus, before it has learned."""
    counts = Counted(Tally((2,)), about=lambda step: (step.following[0] > 0).astype(int), offset=1.0)
    agent = small(context=True, bonus=counts, weight=2.0, random=14, window=6)
    return model_based._Run(agent, [env()], tmp_path / "run", 3, False)


def test_a_window_goes_on_from_what_was_known_before_it(run: Any) -> None:
    """What a filter knows after the steps of a window is where a window behind it begins, and it is no start."""
    run._learn(1)
    rng = np.random.default_rng([3, 0])
    batch = run.replay.windows(rng, 2, 6, run.agent.sampling)
    known = run.replay.known
    assert known.fresh.sum() == len(run.replay) - np.unique(batch.index[:, None] + np.arange(6)).size
    here = next(int(begin) for begin, reset in zip(batch.index, batch.reset, strict=True) if not reset[3])
    learned = run.state.trained.learned
    windows = run.replay.windows(rng, 2, 3, Begins((here, here + 3)))
    one = numbers(jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), windows))
    assert not one.begin.fresh
    assert one.starts.tolist() == one.reset.tolist()
    datum = run.curriculum.trainer.units.standard(one)
    path = learned.posterior(learned.model, datum).sample(jax.random.key(0))
    before = jax.tree.map(lambda leaf: jnp.asarray(leaf[here + 2]), known).state.path
    np.testing.assert_array_equal(one.begin.state.path.memory, before.memory)
    wanted = learned.model.dynamics.recalled(before, datum.evidence[0])
    np.testing.assert_allclose(path.memory[0], wanted, atol=1e-6)
    alone = learned.posterior(learned.model, replace(datum, begin=None)).sample(jax.random.key(0))
    assert np.abs(alone.memory[0] - wanted).max() > 1e-4


class Begins(Sampling):
    """Windows that begin where one says."""

    places: tuple[int, ...]

    def begins(self, rng: Any, size: int, places: int) -> np.ndarray:
        return np.array(self.places)


def test_what_is_new_is_so_by_what_is_known_now(run: Any) -> None:
    """Rewards that are learned from are rewards and twice (n + 1)^-1/2 of the side of the pendulum, told so far."""
    told = 64 * ((len(run.replay) - 14) // 64)
    assert told == 128
    rows = np.flatnonzero(~np.asarray(run.replay.steps(np.arange(len(run.replay))).reset))[:told]
    side = (run.replay.steps(np.arange(len(run.replay))).query["observation"][:, 0] > 0).astype(int)
    counts = np.bincount(side[rows], minlength=2)
    batch = run.replay.windows(np.random.default_rng(0), 5, 6, Uniform())
    before = run.replay.steps(np.maximum(batch.index - 1, 0)).query
    for known in (np.zeros(2), counts):
        found = run.curriculum.novelty.added(run.state.new, numbers(batch), numbers(before)).query["reward"]
        each = side[batch.index[:, None] + np.arange(6)]
        wanted = batch.query["reward"][..., 0] + np.where(batch.reset, 0.0, 2 / np.sqrt(known[each] + 1.0))
        np.testing.assert_allclose(found[..., 0], wanted, rtol=1e-5)
        if not np.any(known):
            run._learn(1)  # and after it the bonus is told of what was played
    assert run.told == told
    run._learn(1)
    assert run.told == told  # each step once


def test_bonuses_and_contexts_that_cannot_be(run: Any) -> None:
    class Ever(Episodic):
        def init(self, example: Any, key: Any) -> Any:
            return Remembered(None, jnp.zeros(()))

        def begin(self, state: Any, observation: Any) -> Any:
            return state

        def __call__(self, state: Any, observation: Any, action: Any, following: Any) -> Any:
            return jnp.zeros(()), state

        def update(self, state: Any, batch: Any) -> Any:
            return state

    with pytest.raises(TypeError, match="bonus: a Ever remembers the episode"):
        small(bonus=Ever())
    with pytest.raises(TypeError, match="bonus: expected one"):
        small(bonus=3)
    with pytest.raises(ValueError, match="weight: expected a finite number"):
        small(bonus=gain(), weight=float("nan"))
    with pytest.raises(ValueError, match="bonus: it is added to the query's part 'reward'"):
        replace(small(bonus=gain()), query="observation")
    with pytest.raises(TypeError, match="context: a Undecided does not go on"):
        replace(small(context=True), posterior=veil.posterior.Undecided())


def test_nothing_is_dreamt_behind_an_end() -> None:
    batch = veil.Datum({"terminated": jnp.zeros((2, 3, 1)).at[1, 2].set(1.0), "x": jnp.zeros((2, 3, 4))})
    assert going(batch).tolist() == [1, 1, 1, 1, 1, 0]
    assert going(veil.Datum(jnp.zeros((2, 3, 4)))).tolist() == [1.0] * 6


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="episodes: expected more than the 2 random ones"):
        small().learn(env, 2, out=tmp_path / "run", seed=0)
    with pytest.raises(ValueError, match="updates: expected a positive number"):
        small(updates=0.0)
    gymnasium = pytest.importorskip("gymnasium")
    with pytest.raises(ValueError, match="real numbers between finite bounds, or one choice"):
        limits(gymnasium, gymnasium.spaces.MultiBinary(3))
