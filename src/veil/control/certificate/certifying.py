"""``certify``: whether a policy is multimodal where the demonstrations are, and what its latent has to do with it."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil import distributions
from veil.control.actors import Actor
from veil.control.certificate.driven import Driven, driven
from veil.control.certificate.measuring import Measure
from veil.control.certificate.result import Acts, Certificate
from veil.control.certificate.rows import Centre, Drawn, Other, Own, Prior, Rows, at_centre
from veil.control.certificate.verdicts import said
from veil.control.choices import Sample
from veil.control.policies import Policy
from veil.control.worlds.frame import World
from veil.control.worlds.frame import drives as drive
from veil.data import Data
from veil.evaluation.approximate import Approximation
from veil.evaluation.likelihood import Evaluation, evaluate
from veil.host.keys import generator
from veil.learning.result import Fit
from veil.model import Model, OfSequences, PerEpisode, checks
from veil.model.abilities import name_of
from veil.model.blocks import as_data
from veil.posterior import Posterior
from veil.posterior.choice import chosen
from veil.verbs.prediction import Known

NAN = float("nan")


def certify(
    policy: Any,
    data: Data | None,
    *,
    key: PRNGKeyArray,
    world: World | None = None,
    posterior: Posterior | None = None,
    drives: int = 200,
    rows: int = 2048,
    draws: int = 32,
    neighbours: int = 32,
    samples: int = 200,
    name: str = "",
) -> Certificate:
    """What a policy does where demonstrations have several modes: a ``Certificate``, with verdicts in words.

    Held-out likelihood; draws of actions beside the demonstrated ones, whether they are off them or between their
    modes, and which modes they visit; the same with the latent from the prior, held at the prior's centre, from the
    posterior and from that of another datum; and in a ``world`` success, the entropy of outcomes and changes of mind.

    Args:
        policy: a ``Fit``, a model, or a ``veil.Policy`` of one, which says how actions are chosen. Of any other actor
            only what it does in a ``world`` is measured.
        data: demonstrations that it has not seen, query the actions (or chunks), evidence the observations; of a model
            of episodes (``PerEpisode``) sequences. None of an actor.
        world: where it is driven, such as ``veil.control.worlds.Tree()``.
        posterior: of a model without an exact one, unless ``policy`` is a ``Fit``.
        drives: how many.
        rows: of the data, at most, as demonstrations; drawn at random.
        draws: of actions, at each.
        neighbours: demonstrations that stand for p(action | observation).
        samples: draws of a bound on the likelihood.
        name: what the policy is called.

    Raises:
        TypeError: no policy.
        ValueError: data that are no demonstrations or too few, or numbers out of range.

    >>> import jax, veil
    >>> from veil.control.certificate import certify
    >>> data = veil.data.load("tree")
    >>> fit = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0))
    >>> found = certify(fit, data, key=jax.random.key(1), rows=1000)
    >>> found.multimodal_policy, "acts between modes" in found.faults
    (False, True)
    """
    for number, called in ((drives, "drives"), (rows, "rows"), (draws, "draws"), (neighbours, "neighbours")):
        checks.whole(called, number)
    checks.random_key(key)
    if not isinstance(policy, Fit | Actor | Model):
        raise TypeError(f"policy: expected a Fit, a model, a veil.Policy or another actor; got {policy!r:.80}")
    keys = jax.random.split(key, 8)
    if isinstance(policy, Actor) and not isinstance(policy, Policy):
        if world is None:
            raise ValueError(
                "world: of an actor without a density only drives can be measured; give one, such as Tree()"
            )
        alone = _certificate(name or type(policy).__name__, "", driven(world, policy, drives, keys[0]))
        return replace(alone, notes=("an actor without a density: only its drives are measured",))
    if data is None or data.evidence is None:
        raise ValueError("data: expected demonstrations, query the actions and evidence the observations; got none")
    if draws < 4 or neighbours < 16:
        raise ValueError("draws, neighbours: expected at least 4 and 16, to tell modes apart")
    acting, model, posterior = _parts(policy, data, posterior)
    used = acting.model
    if isinstance(used, OfSequences) and not isinstance(used, PerEpisode):
        raise ValueError(f"policy: {name_of(used)} is a model of sequences; one of steps, or of episodes, is measured")
    found = as_data(model, data)
    if not isinstance(found, Data):
        raise ValueError("data: expected data in memory; got a stream")
    data = found
    rng = generator(keys[1])
    some = Rows(used, data, rows, rng)
    if len(some) < 2 * neighbours:
        raise ValueError(
            f"data: expected {2 * neighbours} complete actions or more, for {neighbours} neighbours; got {len(some)}"
        )
    measure, notes = Measure.of(some, neighbours, rng), list[str]()
    chosen_ = some.chosen(acting.choose, draws, keys[2])
    if not np.all(np.isfinite(chosen_)):
        raise ValueError("policy: some of the actions that it chose are not finite")
    evaluation, posterior = _evaluation(model, data, posterior, samples, keys[3], notes)
    drawn = _drawn(some, posterior, draws, keys[4], notes)
    ablation = {name: measure.acts(np.asarray(each.actions, np.float64), _nats(each)) for name, each in drawn.items()}
    explained = centre = NAN
    if "prior" in drawn:
        explained = measure.explained(drawn["prior"])
    if "centre" in drawn:
        centre = measure.centre(chosen_, drawn["prior"].actions, drawn["centre"].actions)
    acts = measure.acts(chosen_)
    went: Driven | None = None
    if world is not None:
        went = driven(world, acting, drives, keys[0])
        acts = replace(acts, success=went.success[0])
        ablation = _driven(world, acting, went, ablation, drives, keys[5])
    approximate = None if evaluation is None else evaluation.approximation
    latents = approximate.latents if isinstance(approximate, Approximation) else None
    shown = measure.shown(some, {"policy": chosen_, **{name: each.actions for name, each in drawn.items()}})
    return Certificate(
        name or name_of(model), data.name, len(some), evaluation, float(np.mean(measure.known.counts)),
        measure.multimodal, acts, ablation, explained, centre, latents, _codes(some, drawn.get("own")), went,
        said(measure.multimodal, acts, explained, centre, went), shown, tuple(notes),
    )  # fmt: skip


def _parts(policy: Any, data: Data, posterior: Posterior | None) -> tuple[Policy, Any, Posterior | None]:
    """How it acts, its model as it is evaluated, and the posterior."""
    if isinstance(policy, Fit):
        return Policy(policy, view=data.view), policy.model, posterior or policy.posterior
    if isinstance(policy, Policy):
        inside = policy.model
        if isinstance(inside, Known):
            return policy, inside.model, inside.posterior
        return policy, inside, posterior
    return Policy(policy, view=data.view), policy, posterior


def _certificate(name: str, data: str, went: Driven) -> Certificate:
    """Of drives alone."""
    verdicts = said(NAN, None, NAN, NAN, went)
    return Certificate(name, data, 0, None, NAN, NAN, None, {}, NAN, NAN, None, (), went, verdicts, None, ())


def _evaluation(
    model: Any, data: Data, posterior: Posterior | None, samples: int, key: PRNGKeyArray, notes: list[str]
) -> tuple[Evaluation | None, Posterior | None]:
    try:
        used = chosen(model, posterior)
    except ValueError as error:
        notes.append(f"no likelihood, and no latents of the posterior: {error}")
        return None, None
    return evaluate(model, data, posterior=used, key=key, samples=samples, progress=False), used


def _drawn(
    some: Rows, posterior: Posterior | None, count: int, key: PRNGKeyArray, notes: list[str]
) -> dict[str, Drawn]:
    """Draws with the latent from everywhere; of a model without one none."""
    if some.of_prior(lambda prior: isinstance(prior, distributions.Empty)):
        return {}
    sources: dict[str, Any] = {"prior": Prior(), "centre": Centre(), "own": Own(), "other": Other()}
    if posterior is None or isinstance(some.model, Known):
        del sources["own"], sources["other"]
    if without := some.centred():
        del sources["centre"]
        notes.append(f"the latent has no central value: {without:.200}")
    found = some.drawn(sources, posterior, count, key)
    return {name: found[name] for name in sources}


def _nats(drawn: Drawn) -> float:
    """-log 1/S Σ_s p(a | o, z_s), mean; NaN where actions have no density given z."""
    with np.errstate(all="ignore"):
        scores = np.asarray(drawn.scores, np.float64)
        value = -float(np.mean(np.logaddexp.reduce(scores, axis=1) - np.log(scores.shape[1])))
    return value if np.isfinite(value) else NAN


def _driven(
    world: World, acting: Policy, went: Driven, ablation: dict[str, Acts], count: int, key: PRNGKeyArray
) -> dict[str, Acts]:
    """With the success of driving by the prior, and by its centre."""
    found = dict(ablation)
    if "prior" in found:
        sampled = eqx.tree_at(lambda policy: policy.choose, acting, Sample())
        rate = went.success[0] if isinstance(acting.choose, Sample) else drive(world, sampled, count, key).rate()[0]
        found["prior"] = replace(found["prior"], success=rate)
        if "centre" in found:
            held = eqx.tree_at(lambda policy: policy.model, sampled, at_centre(acting.model))
            found["centre"] = replace(found["centre"], success=drive(world, held, count, key).rate()[0])
    return found


def _codes(some: Rows, own: Drawn | None) -> tuple[tuple[int, float, int], ...]:
    """Of a latent of categories, or of codes: how many values of each are used, their perplexity, how many it has."""
    if own is None:
        return ()
    shape, values = some.of_prior(_listed)
    if not values:
        return ()
    latents = np.asarray(own.latents)
    if shape == ():
        shares = [np.bincount(latents.astype(int).ravel(), minlength=values) / latents.size]
    else:
        shares = list(latents.reshape(-1, *shape).mean(0))
    return tuple(
        (int(np.sum(p > 0)), float(np.exp(-np.sum(p * np.log(np.where(p > 0, p, 1.0))))), len(p)) for p in shares
    )


def _listed(prior: Any) -> tuple[tuple[int, ...], int]:
    """The shape of a latent that is a category or codes [L, C], and how many values it has; 0 of any other."""
    shape = distributions.event_shape(prior)
    finite = distributions.has(prior, distributions.Finite) and (shape == () or isinstance(prior, distributions.Codes))
    return shape, prior.values if finite else 0
