"""Chunks of actions as data: what goes with what, and slips that must be seen when they are planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import distributions
from veil.data import Episode, Recording, chunks, episodes
from veil.data.recorded import action_chunks, recordings
from veil.data.recorded.views import Part
from veil.model import Enumerable

LENGTHS = (1, 5, 3, 9)
KEY = jax.random.key(0)


def play(steps: int, rng) -> Episode:
    seen = rng.normal(size=(steps + 1, 2))
    observations = {"place": seen, "frame": rng.integers(0, 256, (steps + 1, 2, 2, 3), np.uint8)}
    actions = {"action": rng.normal(size=(steps, 1)), "gear": rng.integers(0, 3, steps)}
    infos = {"advantage": rng.uniform(size=steps + 1)}
    return Episode(observations, actions, rng.normal(size=steps), infos=infos)


def recorded(*lengths: int) -> Recording:
    rng = np.random.default_rng(0)
    return Recording([play(steps, rng) for steps in lengths or LENGTHS], {"gear": range(3)})


def naive(arrays: list, count: int, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histories of ``count``, futures of ``horizon`` and which of these exist, step by step."""
    before, ahead, there = [], [], []
    for array in arrays:
        for t in range(len(array)):
            before.append([array[max(t - back, 0)] for back in reversed(range(count))])
            ahead.append([array[min(t + on, len(array) - 1)] for on in range(horizon)])
            there.append([t + on < len(array) for on in range(horizon)])
    return np.array(before), np.array(ahead), np.array(there)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_chunks_by_hand(sequences, repeat) -> None:
    made = recorded()
    options = {"repeat": repeat, "sequences": sequences, "observations": 3, "horizon": 4}
    data = made.data(["action", "gear"], ["place", "frame"], **options)
    each = list(made.episodes)
    _, gears, there = naive([np.eye(3)[e.actions["gear"]] for e in each], 1, 4)
    query = {"action": naive([e.actions["action"] for e in each], 1, 4)[1], "gear": gears}
    evidence = {
        "place": naive([e.observations["place"][:-1] for e in each], 3, 1)[0],
        "frame": naive([np.float32(e.observations["frame"][:-1]) / 255 for e in each], 3, 1)[0],
    }
    assert (data.view.observations, data.view.horizon) == (3, 4)
    assert repr(data.view) == "View(4 steps of action and gear taken at place and frame, the last 3)"
    found = data
    if sequences:
        steps = veil.data.steps(data)
        assert (len(data), data.mask.sum(1).tolist(), len(steps)) == (4, list(LENGTHS), sum(LENGTHS))
        assert data.query["action"].shape == (4, 9, 4, 1)
        found = steps
    else:
        assert veil.data.steps(data) is data
    for name in query:
        np.testing.assert_allclose(found.query[name], query[name], rtol=1e-6)
    for name in evidence:
        np.testing.assert_allclose(found.evidence[name], evidence[name], rtol=1e-6)
    if repeat:
        assert found.observed is None
    else:
        np.testing.assert_array_equal(found.observed["action"], there[..., None])
        np.testing.assert_array_equal(found.observed["gear"], np.repeat(there[..., None], 3, -1))


def test_one_observation_and_one_action_have_no_axes() -> None:
    made = recorded()
    plain = made.data("action", "place")
    one = made.data("action", "place", observations=1)
    np.testing.assert_array_equal(one.evidence, plain.evidence)
    assert (one.view, one.observed) == (plain.view, None)
    ahead = made.data("action", "place", horizon=1)  # an axis of one, of which nothing is missing
    np.testing.assert_array_equal(ahead.query[:, 0], plain.query)
    assert (ahead.observed, ahead.evidence.shape) == (None, plain.evidence.shape)
    last = made.data("action", "place", observations=2)
    assert (last.query.shape, last.evidence.shape) == (plain.query.shape, (18, 2, 2))


@pytest.mark.parametrize("marked", [False, True])
def test_plain_sequences_give_what_a_recording_gives(marked) -> None:
    made = recorded()
    expected = made.data("action", "place", observations=2, horizon=3)
    each = list(made.episodes)
    query, evidence = [e.actions["action"] for e in each], [e.observations["place"][:-1] for e in each]
    data = episodes(query, evidence)
    if marked:  # two episodes in one sequence
        long = [np.concatenate([part[1], part[2]]) for part in (query, evidence)]
        reset = np.zeros((1, 8), bool)
        reset[0, 5] = True
        data = veil.Data(long[0][None], evidence=long[1][None], reset=reset)
        expected = expected[1:9]
    found = chunks(data, 2, 3)
    for field in ("query", "evidence", "observed"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    parts = [(part.name, part.kind, part.shape) for part in found.view.parts]
    assert parts == [("action", "action", (1,)), ("observation", "observation", (2,))]


def test_weights_of_cloning() -> None:
    made = recorded()
    every = np.concatenate([e.infos["advantage"][:-1] for e in made.episodes])
    np.testing.assert_array_equal(made.data("action", "place", horizon=2, weight="advantage").weight, every)
    each = [np.sum(e.rewards) for e in made.episodes]
    rows = made.data("action", "place", weight=lambda episode: np.exp(np.sum(episode.rewards)))
    np.testing.assert_allclose(rows.weight, np.repeat(np.exp(each), LENGTHS))
    whole = made.data("action", "place", sequences=True, weight=lambda episode: np.exp(np.sum(episode.rewards)))
    np.testing.assert_allclose(whole.weight, np.exp(each))
    best = made.best(0.5)
    assert [len(e) for e in best.episodes] == [LENGTHS[i] for i in sorted(np.argsort(each)[2:])]
    assert len(made.best(1.0)) == 4
    with pytest.raises(ValueError, match="weight: there is no info 'advantages'"):
        made.data("action", "place", weight="advantages")
    with pytest.raises(ValueError, match="weight: expected one number, or 5 for an episode of as many data"):
        recorded(5).data("action", "place", weight=lambda episode: np.ones(4))
    with pytest.raises(ValueError, match="share: expected a share"):
        made.best(0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda made: made.data("place", "action", horizon=2), "observations, horizon: they are of a policy"),
        (lambda made: made.data("action", horizon=2), "observations, horizon: they are of a policy"),
        (lambda made: made.data("action", "place", horizon=0), "horizon must be a positive integer"),
        (lambda made: made.data("action", "place", observations=0), "observations must be a positive integer"),
        (lambda made: chunks(made.data("action", "place"), 2, 3), "data: expected sequences"),
        (lambda made: chunks(made.data("action", sequences=True), 2, 3), "data: expected evidence"),
    ],
)
def test_what_are_no_chunks(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(recorded())


# -- slips: each check must fail when the fault is planted -------------------------------------------------------------


class Constant(Enumerable):
    """u_t..u_t+2 ~ N(0, 1) each."""

    def prior(self, evidence):
        return distributions.Empty()

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.zeros((3, 1)), jnp.ones((3, 1)))


def padding_has_no_share() -> None:
    """Neither in the likelihood nor in what it is divided by: the mean of the actions that are there."""
    made = recorded()
    data = made.data("action", "place", horizon=3)
    _, ahead, there = naive([e.actions["action"] for e in made.episodes], 1, 3)
    each = np.where(there, -0.5 * ahead[..., 0] ** 2 - 0.5 * np.log(2 * np.pi), 0.0).sum(1)
    np.testing.assert_allclose(veil.log_prob(Constant(), data), each, rtol=1e-5)
    ends = veil.Data(data.query[..., 0], observed=data.observed[..., 0])
    fitted = veil.fit(veil.Mixture(veil.LinearGaussian(veil.Diagonal()), 1), ends, key=KEY, steps=20).model
    expected = [ahead[there[:, h], h, 0].mean() for h in range(3)]
    np.testing.assert_allclose(np.ravel(fitted.experts.mean), expected, rtol=1e-3, atol=1e-4)


def the_present_is_the_last_observation() -> None:
    """What comes later is in no evidence."""
    made, steps = recorded(), 4
    early = made.data("action", "place", observations=2, horizon=3)
    for episode in made.episodes:
        episode.observations["place"][steps:] += 100.0
    late = made.data("action", "place", observations=2, horizon=3)
    same = np.concatenate([np.arange(length) < steps for length in LENGTHS])
    assert same.sum() == 1 + 4 + 3 + 4
    np.testing.assert_array_equal(late.evidence[same], early.evidence[same])
    assert np.all(np.any(late.evidence[~same] != early.evidence[~same], axis=(1, 2)))


def no_chunk_goes_on_into_the_next_episode() -> None:
    made = recorded()
    together = made.data("action", "place", observations=3, horizon=4)
    alone = [Recording([e]).data("action", "place", observations=3, horizon=4) for e in made.episodes]
    for field in ("query", "evidence"):
        np.testing.assert_array_equal(getattr(together, field), np.concatenate([getattr(e, field) for e in alone]))


def nothing_is_changed_in_place() -> None:
    made = recorded()
    before = [{**e.observations, **e.actions} for e in made.episodes]
    before = [{name: array.copy() for name, array in each.items()} for each in before]
    data = made.data("action", "place", observations=2, horizon=3)
    kept = [array.copy() for array in (data.query, data.evidence, data.observed)]
    veil.log_prob(Constant(), data)
    for array, was in zip((data.query, data.evidence, data.observed), kept, strict=True):
        np.testing.assert_array_equal(array, was)
    for episode, was in zip(made.episodes, before, strict=True):
        for name, array in {**episode.observations, **episode.actions}.items():
            np.testing.assert_array_equal(array, was[name])


def padded_as_real(patch) -> None:
    chunked = action_chunks.chunked
    patch.setattr(recordings, "chunked", lambda *given, **options: chunked(*given, **{**options, "repeat": True}))


def shifted(patch) -> None:
    places = action_chunks.places

    def late(lengths, observations, horizon):
        before, ahead, there = places(lengths, observations, horizon)
        return np.minimum(before + 1, ahead[:, -1:]), ahead, there

    patch.setattr(action_chunks, "places", late)


def one_long_episode(patch) -> None:
    places = action_chunks.places
    patch.setattr(action_chunks, "places", lambda lengths, *rest: places([sum(lengths)], *rest))


def scaled_in_place(patch) -> None:
    numbers = Part.numbers

    def spoiled(self, values, flat, xp=np):
        values *= values.dtype.type(2)
        return numbers(self, values, flat, xp)

    patch.setattr(Part, "numbers", spoiled)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (padding_has_no_share, padded_as_real),
        (the_present_is_the_last_observation, shifted),
        (no_chunk_goes_on_into_the_next_episode, one_long_episode),
        (nothing_is_changed_in_place, scaled_in_place),
    ],
    ids=lambda each: each.__name__,
)
def test_a_planted_slip_is_seen(check, fault, monkeypatch) -> None:
    check()
    fault(monkeypatch)
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        check()
