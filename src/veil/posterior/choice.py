"""Which posterior? Decided here and nowhere else; every verb asks."""

from typing import Any

from veil.model import Guided, Model, PerEpisode, Stepwise, Tractable
from veil.model.abilities import name_of, started
from veil.model.stepwise import StepPosterior
from veil.posterior.amortized import Amortized
from veil.posterior.base import Posterior, Proposal
from veil.posterior.episodes import EpisodeEncoder
from veil.posterior.exact import Exact
from veil.posterior.proposals import Bootstrap, Optimal


def usual(model: Model) -> Posterior:
    """The posterior that suits a model, with or without parameters: what ``veil.fit`` trains unless told otherwise.

    What the model says itself (``Guided``); of a ``Tractable`` one the exact one; of any other that runs step by step a
    particle filter's proposals; else a network that reads the datum, of a latent an episode all of its steps.
    """
    if isinstance(model, Guided):
        return model.usual_posterior
    if isinstance(model, Tractable):
        return Exact()
    if isinstance(model, StepPosterior):
        return Optimal()
    if isinstance(model, PerEpisode):
        return EpisodeEncoder()
    return Bootstrap() if isinstance(model, Stepwise) else Amortized()


def chosen(model: Model, posterior: Posterior | None, *, filtering: bool = False) -> Posterior:
    """The posterior that a verb uses: the one that is given, else the exact one, else the usual one.

    With ``filtering`` (a likelihood, a future) a model that runs step by step and comes without its posterior is
    filtered by particles, unless its usual posterior is one that learns.

    Raises ValueError for one that has not learned its parameters.
    """
    if isinstance(model, Tractable) and (posterior is None or isinstance(posterior, Exact)):
        return Exact()
    if posterior is not None:
        return _learned(model, posterior)
    return proposal(model) if filtering and isinstance(model, Stepwise) else _learned(model, usual(model))


def _learned(model: Model, found: Posterior) -> Posterior:
    if not started(found):
        advice = " (or veil.posterior.Bootstrap(), which needs none)" if isinstance(model, Stepwise) else ""
        raise ValueError(
            f"posterior: that of {name_of(model)} has no closed form; give the Fit, or its .posterior{advice}"
        )
    return found


def proposal(model: Model) -> Posterior:
    """What proposes to a particle filter where nothing is given: the usual posterior if it can, the best, the prior.

    Raises ValueError where the usual posterior is one that learns, and is not given.
    """
    found = usual(model)
    if isinstance(found, Proposal) and not isinstance(found, Exact):
        return _learned(model, found)
    return Optimal() if isinstance(model, StepPosterior) else Bootstrap()


def by_particles(model: Model, posterior: Posterior | None) -> bool:
    """Whether a particle filter stands for the posterior: of a model that runs step by step and comes without one."""
    alone = posterior is None and not isinstance(model, Tractable)
    return isinstance(model, Stepwise) and (alone or isinstance(posterior, Bootstrap | Optimal))


def kind(posterior: Any) -> str:
    """What numbers it gives: "exact", or "approximate"."""
    return "exact" if isinstance(posterior, Exact) else "approximate"
