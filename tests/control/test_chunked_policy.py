"""Acting in chunks: what is executed is what was chosen, to the step, whatever runs beside it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Coherent, Ensemble, Likeliest, LowNoise, Mean, Policy, Sample, distributions
from veil.control import policies
from veil.data import Episode, Recording
from veil.learning.result import Fit, History, Status
from veil.model import Enumerable, Model, Sized
from veil.model.abilities import Sizes
from veil.posterior import Exact

KEY = jax.random.key(0)
H, N = 4, 2


class Linear(Sized):
    """u_t..u_t+H-1 | o_t-n+1..o_t ~ N(W o, 1e-6²), [H, 1]."""

    weight: jax.Array

    @property
    def sizes(self):
        return Sizes(inputs=self.weight.shape[1])

    def prior(self, evidence):
        return distributions.Empty()

    def likelihood(self, latent, evidence):
        return distributions.normal((self.weight @ evidence.ravel())[:, None], jnp.full((H, 1), 1e-6))


def recording(count: int = 3) -> Recording:
    rng = np.random.default_rng(0)
    steps = range(3, 3 + count)
    each = [
        Episode({"observation": rng.normal(size=(t + 1, 2))}, {"action": rng.normal(size=(t, 1))}, np.zeros(t))
        for t in steps
    ]
    return Recording(each)


DATA = recording().data("action", "observation", observations=N, horizon=H)
WEIGHT = np.random.default_rng(1).normal(size=(H, 2 * N)) / 2
START = np.random.default_rng(2).normal(size=(3, 2))


def fitted(model, data=DATA) -> Fit:
    history = History(np.zeros(1), np.zeros(1), np.zeros((0, 2)), np.zeros(1))
    return Fit(model, Exact(), history, Status(True, "by hand", 1), data.view)


def linear(**options) -> Policy:
    return Policy(fitted(Linear(jnp.array(WEIGHT, jnp.float32))), Mean(), **options)


def episode(policy, start, key, steps=11):
    """A world of one matrix: the actions of one episode, and what was seen."""

    def step(now, key):
        memory, seen = now
        action, memory = policy.act(memory, seen, key)
        return (memory, 0.9 * seen + jnp.concatenate([action, -action])), (action, seen)

    return jax.lax.scan(step, (policy.init(key), start), jax.random.split(key, steps))[1]


played = eqx.filter_jit(episode)


def open_loop(start, execute, steps=11):
    """The same by numpy: a chunk, ``execute`` of its actions, the next chunk."""
    seen, actions, queue = [start], [], []
    for t in range(steps):
        if not queue:
            last = np.array([seen[max(t - back, 0)] for back in reversed(range(N))])
            queue = list((WEIGHT @ last.ravel())[:execute])
        action = queue.pop(0)
        actions.append(action)
        seen.append(0.9 * seen[-1] + np.array([action, -action]))
    return np.array(actions), np.array(seen[:-1])


def chunks_are_executed_to_the_step(execute) -> None:
    run = lambda start: episode(linear(execute=execute), start, KEY)  # noqa: E731  (traced anew at each call)
    found, seen = jax.jit(jax.vmap(run))(jnp.asarray(START, jnp.float32))
    for row, start in enumerate(START):
        actions, states = open_loop(start, execute)
        np.testing.assert_allclose(found[row, :, 0], actions, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(seen[row], states, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("execute", [1, 3, 4])
def test_a_chunked_policy_is_the_open_loop_replay_of_its_chunks(execute) -> None:
    chunks_are_executed_to_the_step(execute)


def late_by_one(patch) -> None:
    chunks = Policy._chunks

    def late(self, memory, *rest):
        return chunks(self, eqx.tree_at(lambda m: m.step, memory, jnp.maximum(memory.step - 1, 0)), *rest)

    patch.setattr(Policy, "_chunks", late)


def one_too_many(patch) -> None:
    executed = Policy._executed
    patch.setattr(Policy, "_executed", lambda self, *given: executed(self, *given) + 1)


def nothing_repeated(patch) -> None:
    init = Policy.init
    late = lambda memory: eqx.tree_at(lambda m: m.step, memory, memory.step + 3)  # noqa: E731
    patch.setattr(Policy, "init", lambda self, key: late(init(self, key)))


@pytest.mark.parametrize("fault", [late_by_one, one_too_many, nothing_repeated], ids=lambda each: each.__name__)
def test_a_planted_slip_of_the_queue_is_seen(fault, monkeypatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        chunks_are_executed_to_the_step(3)


def test_an_actor_sees_what_the_data_have() -> None:
    """Along a recorded episode the model gets the evidence that it learned from, row by row."""
    first = recording().episodes[0]
    policy = linear()

    def step(memory, observation):
        memory = policy.act(memory, observation, KEY)[1]
        return memory, memory.seen

    seen = jnp.asarray(first.observations["observation"], jnp.float32)
    found = jax.lax.scan(step, policy.init(KEY), seen)[1]
    np.testing.assert_allclose(found[:-1], DATA.evidence[: len(first)], rtol=1e-6)


def test_one_observation_and_actions_one_by_one() -> None:
    """n = 1 has no axis; without a horizon there is a history and no chunk."""
    data = recording().data("action", "observation", horizon=H)
    policy = Policy(fitted(Linear(jnp.array(WEIGHT[:, :2], jnp.float32)), data), Mean())
    assert policy.execute == 2
    actions, _ = played(policy, jnp.asarray(START[0], jnp.float32), KEY)
    np.testing.assert_allclose(actions[0, 0], WEIGHT[0, :2] @ START[0], rtol=1e-4)
    data = recording().data("action", "observation", observations=N)

    class Last(Model):
        def prior(self, evidence):
            return distributions.Empty()

        def likelihood(self, latent, evidence):
            return distributions.normal(evidence[1, :1] - evidence[0, :1], jnp.full(1, 1e-6))

    actions, seen = played(Policy(fitted(Last(), data), Mean()), jnp.asarray(START[0], jnp.float32), KEY)
    expected = np.diff(seen[:, 0], prepend=seen[0, 0])
    np.testing.assert_allclose(actions[:, 0], expected, atol=1e-5)


def test_temporal_ensembling_by_hand() -> None:
    """Zhao et al. 2023: all predictions of the present step, weighted exp(-m i), i = 0 the oldest."""
    actions, seen = (np.asarray(part, float) for part in played(linear(ensemble=Ensemble(0.3)), jnp.ones(2), KEY))
    chunks = [WEIGHT @ np.array([seen[max(t - 1, 0)], seen[t]]).ravel() for t in range(11)]
    for t in range(11):
        said = [chunks[s][t - s] for s in range(max(0, t - H + 1), t + 1)]  # the oldest first
        weight = np.exp(-0.3 * np.arange(len(said)))
        np.testing.assert_allclose(actions[t, 0], weight @ said / weight.sum(), rtol=1e-4, atol=1e-5)


class Sides(Enumerable):
    """A chunk goes left or right: u | z ~ N(±1, 0.1²) at every step."""

    def prior(self, evidence):
        return distributions.categorical(jnp.zeros(2))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.full((H, 1), 2.0 * latent - 1.0), jnp.full((H, 1), 0.1))


def test_a_coherent_policy_keeps_to_the_side_it_chose() -> None:
    keys = jax.random.split(KEY, 20)
    run = lambda choose, execute: np.sign(  # noqa: E731
        jax.vmap(lambda key: played(Policy(fitted(Sides()), choose, execute=execute), jnp.ones(2), key)[0])(keys)
    )[..., 0]
    coherent = run(Coherent(16), 2)
    assert np.all(coherent == coherent[:, :1])
    assert 0 < np.mean(coherent[:, 0] > 0) < 1  # both sides, over episodes
    assert np.any(run(Sample(), 2) != run(Sample(), 2)[:, :1])
    free = run(Coherent(16), H)  # nothing of the old chunk is left to go on with
    assert np.any(free != free[:, :1])


def test_the_most_coherent_chunk_by_hand() -> None:
    rest, planned = jnp.array([[-1.0], [-1.0], [np.nan], [5.0]]), jnp.array([True, True, False, False])
    choose = Coherent(8, 0.5)
    drawn = np.asarray(jax.vmap(lambda key: Sides().sample(key, None)[1])(jax.random.split(KEY, 8)))[..., 0]
    apart = (drawn[:, :2] + 1.0) ** 2 @ [1.0, 0.5]
    found = choose.follow(Sides(), None, KEY, rest, planned)
    np.testing.assert_allclose(found[:, 0], drawn[np.argmin(apart)], rtol=1e-6)
    # in standardised units it does not matter what the user's are
    units = veil.units.Units(veil.model.scales.Scale(np.full((H, 1), 3.0), np.full((H, 1), 10.0)))
    scaled = veil.units.standardised(Sides(), units)
    there = choose.follow(scaled, None, KEY, 3.0 + 10.0 * rest, planned)
    np.testing.assert_allclose(there, 3.0 + 10.0 * found, rtol=1e-5)


class Mixed(Enumerable):
    """{"gear": one of three, "horn": a coin, "turn": real} at every step, two ways."""

    def prior(self, evidence):
        return distributions.categorical(jnp.log(jnp.array([0.4, 0.6])))

    def likelihood(self, latent, evidence):
        logits = jnp.log(jnp.where(latent == 0, jnp.array([0.9, 0.05, 0.05]), jnp.array([0.0001, 0.5, 0.4999])))
        parts = {
            "gear": distributions.categoricals(jnp.broadcast_to(logits, (H, 1, 3))),
            "horn": distributions.bernoulli(jnp.full((H, 1), 0.4)),
            "turn": distributions.normal(jnp.full((H, 1), 2.0 * latent - 1.0), jnp.full((H, 1), 0.1)),
        }
        return distributions.Joint(parts)


def mixed_data():
    rng = np.random.default_rng(0)
    acted = {"gear": rng.integers(0, 3, (5, 1)).astype(float), "horn": np.ones((5, 1)), "turn": rng.normal(size=(5, 1))}
    return veil.data.chunks(veil.data.episodes([acted], [np.zeros((5, 2))]), 1, H)


@pytest.mark.parametrize("ensemble", [None, Ensemble()], ids=["queue", "ensemble"])
@pytest.mark.parametrize("choose", [Sample(), LowNoise(), Likeliest(8), Mean(), Coherent(4)], ids=str)
def test_mixed_actions_in_chunks(choose, ensemble) -> None:
    """Choices stay choices, whatever is averaged beside them. Real actions are clipped, choices are not."""
    policy = Policy(Mixed(), choose, low=-0.5, high=0.5, ensemble=ensemble, view=mixed_data().view)
    actions = jax.jit(
        lambda key: jax.lax.scan(
            lambda memory, key: policy.act(memory, jnp.zeros(2), key)[::-1], policy.init(key), jax.random.split(key, 9)
        )[1]
    )(KEY)
    assert {name: leaf.shape for name, leaf in actions.items()} == dict.fromkeys(("gear", "horn", "turn"), (9, 1))
    assert set(np.unique(actions["gear"])) <= {0.0, 0.5, 1.0, 2.0}
    assert np.all(np.abs(actions["turn"]) <= 0.5)
    if not isinstance(choose, Mean):
        assert set(np.unique(actions["horn"])) <= {0.0, 0.5, 1.0}


def test_the_mean_of_choices_is_the_most_probable() -> None:
    found = Mean()(Mixed(), jnp.zeros(2), KEY)
    chances = 0.4 * np.array([0.9, 0.05, 0.05]) + 0.6 * np.array([0.0001, 0.5, 0.4999])
    np.testing.assert_array_equal(found["gear"], np.full((H, 1), np.argmax(chances)))
    np.testing.assert_allclose(found["turn"], np.full((H, 1), 0.2), rtol=1e-5)
    np.testing.assert_allclose(found["horn"], np.full((H, 1), 1 / (1 + np.exp(-0.4))), rtol=1e-5)


def test_the_votes_of_an_ensemble() -> None:
    chunks = {"gear": jnp.array([[0.0, 7, 7], [2.0, 2, 7], [1.0, 1, 2]])[..., None]}  # made at steps 3, 4, 2
    found = Ensemble(0.0)(chunks, jnp.array(4), {"gear": True})
    np.testing.assert_array_equal(found["gear"], [2.0])  # 7 of step 3, 2 of step 4, 2 of step 2


def test_several_environments_and_what_is_not_finite(monkeypatch) -> None:
    policy = linear()
    keys = jax.random.split(KEY, 3)
    memory = jax.vmap(policy.init)(keys)
    seen = jnp.asarray(START, jnp.float32)
    act = jax.jit(jax.vmap(policy.act))
    together, memory = act(memory, seen, keys)
    np.testing.assert_allclose(together[:, 0], [open_loop(start, 2, 1)[0][0] for start in START], atol=1e-5)
    apart = eqx.tree_at(lambda m: m.step, memory, jnp.array([1, 2, 4]))
    chunks = act(apart, 2.0 * seen, keys)[1].chunks
    same = jnp.all(chunks == memory.chunks, axis=(1, 2, 3))
    assert same.tolist() == [True, False, False]
    bad, _ = act(memory, seen.at[1, 0].set(jnp.nan), keys)
    assert np.isfinite(bad[:, 0]).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="observation: expected that of one environment"):
        policy.act(policy.init(KEY), seen, KEY)
    with pytest.raises(ValueError, match="policy: it has a memory"):
        policy(seen[0], KEY)
    with pytest.raises(ValueError, match="observation: expected finite numbers"):
        policy.act(policy.init(KEY), jnp.array([jnp.nan, 0.0]), KEY)
    # no chunk is made at a step where no environment needs one, as vmap of a plain cond would
    said = lambda: str(jax.make_jaxpr(lambda *given: jax.vmap(policy.act)(*given))(memory, seen, keys))  # noqa: E731
    assert "cond[" in said()
    plain = lambda due, make, given, old: jax.lax.cond(due, lambda: make(given), lambda: old)  # noqa: E731
    monkeypatch.setattr(policies, "renewed", plain)
    assert "cond[" not in said()


class Offset(Model):
    """z ~ N(100 + o, 1), u_t..u_t+H-1 | z, o ~ N(z + o, 1e-6²)."""

    def prior(self, evidence):
        return distributions.normal(100.0 + evidence[:1], jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.broadcast_to(latent + evidence[:1], (H, 1)), jnp.full((H, 1), 1e-6))


@pytest.mark.parametrize("choose", [Sample(), LowNoise(), Likeliest(4), Mean(), Coherent(4)], ids=str)
def test_what_is_drawn_for_an_episode_is_kept(choose) -> None:
    """At the first observation, for the whole of it; another one in the next. A wrapper of other units is no matter."""
    scale = veil.model.scales.Scale(np.full((H, 1), 5.0), np.full((H, 1), 2.0))
    model = veil.units.standardised(veil.Episodic(Offset()), veil.units.Units(scale))
    sequences = veil.data.episodes([np.zeros((5, 1))], [np.zeros((5, 2))])
    data = veil.data.chunks(sequences, 1, H, sequences=True)
    policy = Policy(model, choose, execute=1, view=data.view)
    keys = jax.random.split(KEY, 3)

    def step(memory, now):
        observation, key = now
        return policy.act(memory, observation, key)[::-1]

    seen = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
    run = lambda key: jax.lax.scan(step, policy.init(key), (seen, jax.random.split(key, 6)))[1]  # noqa: E731
    drawn = (np.asarray(jax.jit(jax.vmap(run))(keys))[..., 0] - 5.0) / 2.0 - np.asarray(seen[:, 0])
    np.testing.assert_allclose(drawn, np.repeat(drawn[:, :1], 6, 1), rtol=1e-5)
    assert np.all(np.abs(drawn - 100.0 - float(seen[0, 0])) < 4)
    assert len(set(np.round(drawn[:, 0], 3).tolist())) == 3
    with pytest.raises(ValueError, match="policy: it keeps its latent for an episode"):
        policy.decide(jnp.zeros(2), KEY)
    with pytest.raises(ValueError, match=r"view: a .* draws its latent at the first observation"):
        Policy(model)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"execute": 5}, ValueError, "execute: expected a whole number of actions of a chunk, 1 to 4; got 5"),
        ({"execute": 0}, ValueError, "execute: expected a whole number"),
        ({"execute": 1, "ensemble": Ensemble()}, ValueError, "execute: an ensemble chooses a chunk at every step"),
        ({"ensemble": 3}, TypeError, "ensemble: expected veil.Ensemble"),
    ],
)
def test_what_does_not_go_together(options, kind, message) -> None:
    with pytest.raises(kind, match=message):
        linear(**options)
    plain = fitted(Linear(jnp.array(WEIGHT[:, :2])), recording().data("action", "observation"))
    for name, value in {"execute": 2, "ensemble": Ensemble(), "choose": Coherent()}.items():
        with pytest.raises(ValueError, match=f"^{name}: .* of chunks"):
            Policy(plain, **{name: value})
    assert policies.CHUNKS


def test_a_saved_fit_keeps_its_chunks(tmp_path) -> None:
    veil.register(Linear)
    fit = fitted(Linear(jnp.array(WEIGHT, jnp.float32)))
    veil.save(tmp_path / "fit", fit)
    again = Policy(veil.load(tmp_path / "fit"), Mean(), execute=3)
    assert (again.view, again.execute) == (fit.view, 3)
    np.testing.assert_array_equal(played(again, jnp.ones(2), KEY)[0], played(linear(execute=3), jnp.ones(2), KEY)[0])


def test_chunks_of_choices_by_pictures_in_an_environment(tmp_path) -> None:
    """From a recording to its own kind of actions: bytes and a dictionary in, a choice from 1 to 3 out."""
    gymnasium = pytest.importorskip("gymnasium")
    spaces = gymnasium.spaces

    class Pictures(gymnasium.Env):
        observation_space = spaces.Dict({"eye": spaces.Box(0, 255, (2, 2, 1), np.uint8), "x": spaces.Box(0, 9, ())})
        action_space = spaces.Discrete(3, start=1)

        def _seen(self):
            return {"eye": np.full((2, 2, 1), 51 * self.at, np.uint8), "x": np.float32(self.at)}

        def reset(self, *, seed=None, options=None):
            self.at = 0
            return self._seen(), {}

        def step(self, action):
            assert self.action_space.contains(action)
            self.at += 1
            return self._seen(), 0.0, False, False, {}

    class Times(Model):
        """Of the chunk chosen at t its action k is choice (t + 2 k) mod 3, by the picture before and what x is now."""

        def prior(self, evidence):
            return distributions.Empty()

        def likelihood(self, latent, evidence):
            before, now = 5.0 * evidence["eye"][0].mean(), evidence["x"][1, 0]
            mean = jax.nn.one_hot((now.astype(int) + 2 * jnp.arange(3)) % 3, 3)
            late = now - before > 1.5  # never, if the picture is that of the step before
            return distributions.normal(jnp.where(late, 1.0 - mean, mean), jnp.full((3, 3), 1e-6))

    made = veil.collect(Pictures, 1, out=tmp_path / "random", seed=0, max_steps=5)
    data = made.data("action", ["eye", "x"], observations=2, horizon=3)
    policy = Policy(fitted(Times(), data), LowNoise(0.0), execute=2)
    found = veil.collect(Pictures, 1, out=tmp_path / "own", seed=0, max_steps=5, policy=policy)
    expected = [1 + (t - t % 2 + 2 * (t % 2)) % 3 for t in range(5)]
    assert found.episodes[0].actions["action"].tolist() == expected


def test_an_exported_policy_decides_the_same(tmp_path) -> None:
    """A fit to standardised data: the whole decision, observations to chunk, in the environment's units."""
    pytest.importorskip("flatbuffers")
    rng = np.random.default_rng(0)
    seen = 50.0 + 20.0 * rng.normal(size=(61, 2))
    one = Episode(
        {"observation": seen}, {"action": seen[:-1, :1] / 10.0 + 0.1 * rng.normal(size=(60, 1))}, np.zeros(60)
    )
    data = Recording([one]).data("action", "observation", observations=N, horizon=H)
    fit = veil.fit(veil.density(veil.Linear(veil.heads.DiagonalGaussian())), data, key=KEY, steps=100)
    policy = Policy(fit, LowNoise(), low=0.0, high=6.0)
    found = veil.export(policy, tmp_path / "policy.stablehlo", what="policy", data=data)
    assert [port.shape for port in (*found.inputs, *found.outputs)] == [("N", N, 2), (), ("N", H, 1)]
    given = np.asarray(data.evidence[5:8], np.float32)
    answer = np.asarray(veil.load_export(tmp_path / "policy.stablehlo")(given, np.uint32(3))["action"])
    keys = [jax.random.fold_in(jax.random.key(np.uint32(3)), row) for row in range(3)]
    expected = np.stack([jax.jit(policy.decide)(row, key) for row, key in zip(given, keys, strict=True)])
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert answer.max() <= 6.0
    assert np.abs(answer[..., 0] - np.asarray(data.query[5:8, :, 0])).mean() < 2.0
    with pytest.raises(ValueError, match="model: a policy is exported with what='policy'"):
        veil.export(policy, tmp_path / "x", what="encoder", data=data)
