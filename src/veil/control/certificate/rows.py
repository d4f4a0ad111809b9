"""Rows of an observation and the action taken there, and draws of actions at them, with the latent from anywhere."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.control.choices import Choice
from veil.control.policies import Kept
from veil.data import Data
from veil.distributions import Distribution
from veil.model import Datum, Model, PerEpisode, Sized
from veil.model.abilities import Sizes, Wrapped, space_of
from veil.model.batching import as_datum
from veil.model.contract import as_floats

TOGETHER = 64  # rows at a time
PREFIXES = 256  # draws of an episode's latent, weighted by what was done so far


class Source(eqx.Module):
    """Where the latent of a draw comes from."""

    @abstractmethod
    def __call__(self, model: Model, posterior: Any, datum: Datum, other: Datum, key: PRNGKeyArray) -> Any:
        """A latent for ``datum``; ``other`` is another datum."""


class Prior(Source):
    """z ~ p(z | o)."""

    def __call__(self, model: Model, posterior: Any, datum: Datum, other: Datum, key: PRNGKeyArray) -> Any:
        return model.prior_for(datum).sample(key)


class Centre(Source):
    """The one value that stands for p(z | o): zero of a standard normal, the likeliest of a finite latent."""

    def __call__(self, model: Model, posterior: Any, datum: Datum, other: Datum, key: PRNGKeyArray) -> Any:
        return distributions.central(model.prior_for(datum))


class Own(Source):
    """z ~ q(z | a, o) of the action that was demonstrated there: a reconstruction."""

    def __call__(self, model: Model, posterior: Any, datum: Datum, other: Datum, key: PRNGKeyArray) -> Any:
        return posterior(model, datum).sample(key)


class Other(Source):
    """z ~ q(z | a', o') of another datum: shuffled."""

    def __call__(self, model: Model, posterior: Any, datum: Datum, other: Datum, key: PRNGKeyArray) -> Any:
        return posterior(model, other).sample(key)


class Drawn(eqx.Module):
    """Of R rows, S draws each: actions and what is expected given z, [R, S, D]; log p(a | o, z) of the action that was

    demonstrated, [R, S]; the latents.
    """

    actions: Any
    centres: Any
    scores: Any
    latents: Any


def flat(query: Any) -> Float[Array, " D"]:
    """All numbers of a tree, side by side."""
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(query)])


def _given(model: Any, latent: Any, step: Datum, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """An action, its centre, and the score of the demonstrated one, of one step given a latent."""
    each = model.likelihood_at if isinstance(model, PerEpisode) else model.likelihood
    seen = each(latent, step.evidence)
    # of an action that follows from z there is no density given z, and a flow's would be a solved ODE for each draw
    score = jnp.array(jnp.nan) if _certain(seen) else distributions.log_prob(seen, step.query, step.observed)
    action = as_floats(seen.sample(key))
    try:
        centre = as_floats(distributions.central(seen))
    except TypeError:  # none is known: the draw stands for it
        centre = action
    return flat(action), flat(centre), score


def _certain(distribution: Any) -> bool:
    """Whether it is one value, in whatever units."""
    if isinstance(distribution, distributions.Composed):
        return all(_certain(part) for part in distribution.made_of())
    return isinstance(distribution, distributions.Point)


@eqx.filter_jit
def _steps(
    model: Model, posterior: Any, sources: dict[str, Source], data: Datum, others: Datum, keys: Array, count: int
) -> dict[str, Drawn]:
    def one(given: tuple[Datum, Datum, Array]) -> dict[str, Drawn]:
        datum, other, key = given

        def draw(key: Array) -> dict[str, Drawn]:
            key_latent, key_action = jax.random.split(key)
            latents = {name: each(model, posterior, datum, other, key_latent) for name, each in sources.items()}
            return {name: Drawn(*_given(model, z, datum, key_action), z) for name, z in latents.items()}

        return jax.vmap(draw)(jax.random.split(key, count))

    return jax.lax.map(one, (data, others, keys), batch_size=min(TOGETHER, len(keys)))


@eqx.filter_jit
def _chosen(model: Model, choose: Choice, data: Datum, keys: Array, count: int) -> Array:
    def one(given: tuple[Datum, Array]) -> Array:
        datum, key = given
        return jax.vmap(lambda key: flat(choose(model, datum.evidence, key)))(jax.random.split(key, count))

    return jax.lax.map(one, (data, keys), batch_size=min(TOGETHER, len(keys)))


# -- episodes ----------------------------------------------------------------------------------------------------------


def _so_far(model: PerEpisode, episode: Datum, key: PRNGKeyArray, count: int) -> Any:
    """Draws [T, S, ...] of the latent given what was done before each step.

    Draws of p(z | o_1), each with the weight Π_{s < t} p(a_s | o_s, z).
    """
    key_latent, key_again = jax.random.split(key)
    prior = model.prior_for(episode)
    latents = jax.vmap(prior.sample)(jax.random.split(key_latent, PREFIXES))

    def score(step: Datum, there: Array) -> Array:
        def of(z: Any) -> Array:
            return distributions.log_prob(model.likelihood_at(z, step.evidence), step.query, step.observed)

        return jnp.where(there, jax.vmap(of)(latents), 0.0)

    scores = jax.vmap(score)(episode.each_step(), episode.there)
    before = jnp.cumsum(scores, 0) - scores
    some = jax.random.categorical(key_again, before[:, None], shape=(len(before), count))
    return jax.tree.map(lambda leaf: leaf[some], latents)


@eqx.filter_jit
def _episodes(
    model: PerEpisode, posterior: Any, sources: dict[str, Source], data: Datum, others: Datum, keys: Array, count: int
) -> dict[str, Drawn]:
    def one(given: tuple[Datum, Datum, Array]) -> dict[str, Drawn]:
        episode, other, key = given
        key_latent, key_action = jax.random.split(key)

        def latents(source: Source) -> Any:
            if isinstance(source, Prior):
                return _so_far(model, episode, key_latent, count)
            draw = lambda key: source(model, posterior, episode, other, key)  # noqa: E731
            some = jax.vmap(draw)(jax.random.split(key_latent, count))
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (len(episode), *leaf.shape)), some)

        def step(datum: Datum, latents: Any, keys: Array) -> Drawn:
            return jax.vmap(lambda z, key: Drawn(*_given(model, z, datum, key), z))(latents, keys)

        noise = jax.random.split(key_action, (len(episode), count))
        return {name: jax.vmap(step)(episode.each_step(), latents(each), noise) for name, each in sources.items()}

    return jax.lax.map(one, (data, others, keys), batch_size=min(8, len(keys)))


@eqx.filter_jit
def _kept(model: PerEpisode, choose: Choice, data: Datum, keys: Array, count: int) -> Array:
    def one(given: tuple[Datum, Array]) -> Array:
        episode, key = given
        key_latent, key_action = jax.random.split(key)
        latents = _so_far(model, episode, key_latent, count)

        def step(evidence: Any, latents: Any, keys: Array) -> Array:
            return jax.vmap(lambda z, key: flat(choose(Kept(model, z), evidence, key)))(latents, keys)

        return jax.vmap(step)(episode.evidence, latents, jax.random.split(key_action, (len(episode), count)))

    return jax.lax.map(one, (data, keys), batch_size=min(8, len(keys)))


# -- the rows ----------------------------------------------------------------------------------------------------------


class Rows:
    """R rows of data, at most ``most``: ``seen`` [R, P] and ``done`` [R, D], numbers side by side.

    Of episodes the rows are their steps. Rows with missing actions are left out.
    """

    def __init__(self, model: Model, data: Data, most: int, rng: np.random.Generator) -> None:
        self.model = model
        episodes = isinstance(model, PerEpisode)
        batch: Any = as_datum(data, space=space_of(model))
        chosen = _complete(batch, episodes)
        if episodes:
            steps = max(1, int(np.mean(chosen.sum(1))))
            batch = jax.tree.map(np.asarray, batch).rows(_some(len(batch), -(-most // steps), rng))
            chosen = _complete(batch, True)
            flatten = lambda leaf: np.asarray(leaf).reshape(chosen.size, -1)  # noqa: E731
        else:
            keep = np.flatnonzero(chosen)
            batch = jax.tree.map(np.asarray, batch).rows(keep[_some(len(keep), most, rng)])
            chosen = np.ones(len(batch), bool)
            flatten = lambda leaf: np.asarray(leaf).reshape(len(leaf), -1)  # noqa: E731
        self.batch, self.rows = batch, np.flatnonzero(chosen)
        self.others = batch.rows(_shifted(len(batch), rng))
        side = lambda tree: np.concatenate([flatten(leaf) for leaf in jax.tree.leaves(tree)], 1)[self.rows]  # noqa: E731
        self.seen, self.done = side(batch.evidence).astype(np.float64), side(batch.query).astype(np.float64)

    def __len__(self) -> int:
        return len(self.rows)

    def of_prior(self, ask: Callable[[Distribution], Any]) -> Any:
        """What is asked of p(z | o) of the first datum. Nothing is computed."""
        first, found = jax.tree.map(lambda leaf: leaf[0], self.batch), []
        eqx.filter_eval_shape(lambda datum: found.append(ask(self.model.prior_for(datum))), first)
        return found[0]

    def centred(self) -> str:
        """Why p(z | o) has no central value; "" if it has."""
        try:
            self.of_prior(distributions.central)
        except TypeError as error:
            return str(error)
        return ""

    def drawn(self, sources: dict[str, Source], posterior: Any, count: int, key: PRNGKeyArray) -> dict[str, Drawn]:
        """Actions with the latent of each of the ``sources``, and otherwise the same noise."""
        keys = jax.random.split(key, len(self.batch))
        every: Any = _episodes if isinstance(self.model, PerEpisode) else _steps
        found: dict[str, Drawn] = self._rows(
            every(self.model, posterior, sources, self.batch, self.others, keys, count)
        )
        return found

    def chosen(self, choose: Choice, count: int, key: PRNGKeyArray) -> Float[np.ndarray, "R S D"]:
        """Actions as a policy chooses them."""
        keys = jax.random.split(key, len(self.batch))
        every: Any = _kept if isinstance(self.model, PerEpisode) else _chosen
        found: np.ndarray = self._rows(every(self.model, choose, self.batch, keys, count)).astype(np.float64)
        return found

    def _rows(self, drawn: Any) -> Any:
        def one(leaf: Any) -> np.ndarray:
            array = np.asarray(leaf)
            array = array.reshape(-1, *array.shape[2:]) if isinstance(self.model, PerEpisode) else array
            return array[self.rows]

        return jax.tree.map(one, drawn)


def _complete(batch: Any, episodes: bool) -> Bool[np.ndarray, "..."]:
    """Which rows are there, with all of their action: [N], or of episodes [N, T]."""
    axes = 2 if episodes else 1
    shape = np.shape(jax.tree.leaves(batch.query)[0])[:axes]
    found = np.ones(shape, bool) if batch.mask is None else np.asarray(batch.mask).copy()
    for leaf in jax.tree.leaves(batch.observed):
        found &= np.all(np.asarray(leaf).reshape(*shape, -1), axis=-1)
    return found


def _some(count: int, most: int, rng: np.random.Generator) -> Int[np.ndarray, " M"]:
    return np.sort(rng.permutation(count)[:most])


def _shifted(count: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Another row for each: round one circle of all."""
    order = rng.permutation(count)
    found = np.empty(count, np.int64)
    found[order] = np.roll(order, 1)
    return found


# -- the latent held at its centre -------------------------------------------------------------------------------------


class AtCentre(Wrapped):
    """A ``model`` whose latent is always the prior's central value: what decodes z = 0."""

    model: Any

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    def prior(self, evidence: Any) -> Distribution:
        return Held(distributions.central(self.model.prior(evidence)))

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.likelihood(latent, evidence)


class EpisodesAtCentre(Wrapped, PerEpisode):
    """The same of a latent an episode."""

    model: Any

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    def prior_at(self, evidence: Any) -> Distribution:
        return Held(distributions.central(self.model.prior_at(evidence)))

    def likelihood_at(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.likelihood_at(latent, evidence)


class Held(Distribution):
    """One value of a latent of any kind."""

    value: Any

    def sample(self, key: PRNGKeyArray) -> Any:
        return self.value

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return jnp.zeros(())


def at_centre(model: Model) -> Model:
    """The model with its latent held at the prior's central value."""
    return EpisodesAtCentre(model) if isinstance(model, PerEpisode) else AtCentre(model)
