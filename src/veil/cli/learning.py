"""What is maximised and how, in the words of the command line."""

from dataclasses import dataclass, field, replace
from typing import Any

from veil.cli.program import Refusal

OBJECTIVES = (
    "em",
    "monte-carlo-em",
    "marginal",
    "elbo",
    "importance-weighted",
    "wake-sleep",
    "fivo",
    "flow-matching",
    "denoising",
)
EXACT, FIELDS = OBJECTIVES[:3], OBJECTIVES[-2:]
GRADIENTS = {
    "pathwise": "Pathwise",
    "sticking-the-landing": "StickingTheLanding",
    "doubly-reparameterised": "DoublyReparameterised",
    "local-reparameterisation": "LocalReparameterisation",
    "score-function": "ScoreFunction",
    "enumerated": "Enumerated",
    "gumbel-softmax": "GumbelSoftmax",
    "straight-through": "StraightThrough",
}
POSTERIORS = ("exact", "amortized", "amortized-full", "amortized-flow", "table", "table-full", "refined", "shared")
PATHS = ("filtering", "smoothing")


@dataclass(frozen=True)
class Asked:
    """The options of ``veil fit`` that say how to learn, as given."""

    objective: str | None = None
    posterior: str | None = None
    gradient: str | None = None
    samples: int | None = None
    refine_steps: int | None = None
    beta: float | None = None
    warm_up: int | None = None
    free_nats: float | None = None
    kl_balance: float | None = None
    learning_rate: float | None = None
    steps: int | None = None
    tolerance: float | None = None
    mixed_precision: bool | None = None
    average: float | None = None

    def record(self) -> dict[str, Any]:
        """What was given, for the configuration of the run."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Learning:
    """The choice: the objective's name, whether it goes by gradients, and what ``veil.fit`` takes."""

    name: str
    by_gradients: bool
    arguments: dict[str, Any] = field(default_factory=dict)


def choose(model: Any, asked: Asked, evidence: bool = False) -> Learning:
    """What ``veil.fit`` is to be told. Raises Refusal for words that are unknown or do not go together.

    ``evidence``: whether the data have some, as a conditional VAE's do.
    """
    from veil.learning.choices import DRAWS, usual_gradient
    from veil.model import ClosedForm, Tractable
    from veil.objective import Pathwise
    from veil.parts.fields import Transporting
    from veil.zoo.episodic import Episodes
    from veil.zoo.vae import VAE

    _known("--objective", asked.objective, OBJECTIVES)
    _known("--posterior", asked.posterior, (*POSTERIORS, *PATHS))
    _known("--gradient", asked.gradient, tuple(GRADIENTS))
    for name, value in (("--learning-rate", asked.learning_rate), ("--tolerance", asked.tolerance)):
        if value is not None and not value > 0:
            unit = " of nats per datum" if name == "--tolerance" else ""
            raise Refusal(f"{name}: expected a positive number{unit}; got {value:g}")
    rate = asked.learning_rate
    tractable = isinstance(model, Tractable)
    closed = isinstance(model, ClosedForm) and model.closed_form
    exact = tractable and asked.posterior in (None, "exact")
    inner = model.model if isinstance(model, Episodes) else model
    ways = evidence and isinstance(inner, VAE) and inner.evidence and isinstance(usual_gradient(inner), Pathwise)
    changed = any(value is not None for value in (asked.beta, asked.warm_up, asked.free_nats, asked.kl_balance))
    bound = "importance-weighted" if ways and not changed else "elbo"
    usual = ("em" if closed and rate is None else "marginal") if exact else bound
    fields = isinstance(model, Transporting)
    if fields:
        usual = "flow-matching"
    name = asked.objective or usual
    if name in EXACT and not exact:
        what = "a model without an exact likelihood" if not tractable else f"--posterior {asked.posterior}"
        raise Refusal(f"--objective {name}: it needs the exact posterior, and this is {what}; use elbo")
    if name in FIELDS and not fields:
        raise Refusal(f"--objective {name}: it trains the field of the models flow-matching and diffusion")
    if name not in (*EXACT, *FIELDS) and tractable and asked.posterior is None:
        raise Refusal(f"--objective {name}: this model's likelihood is exact; use em or marginal, or give --posterior")
    if (name == "monte-carlo-em" and asked.samples is None) or (
        asked.samples is not None and name in ("em", "marginal", *FIELDS)
    ):
        raise Refusal("--samples N goes with --objective monte-carlo-em, elbo, importance-weighted, wake-sleep or fivo")
    by_gradients = rate is not None or name not in ("em", "monte-carlo-em") or not closed
    if by_gradients and asked.tolerance is not None:
        raise Refusal("--tolerance: it is when EM stops, and this fit learns by gradients; use --steps or --held-out")
    if name == "importance-weighted" and asked.objective is None:
        asked = replace(asked, samples=asked.samples or DRAWS)
    made: dict[str, Any] = {}
    objective = _objective(name, asked, model)
    if objective is not None:
        made["objective"] = objective
    posterior = _posterior(asked, model)
    if posterior is not None:
        made["posterior"] = posterior
    if asked.mixed_precision and not by_gradients:
        raise Refusal("--mixed-precision: it is of networks that learn by gradients, and this fit is EM; leave it out")
    if asked.average is not None and not by_gradients:
        raise Refusal("--average: it is of parameters that learn by gradients, and this fit is EM; leave it out")
    if asked.average is not None and not 0 <= asked.average < 1:
        raise Refusal(f"--average: expected a decay from 0 to below 1, such as 0.999; got {asked.average:g}")
    if rate is not None or asked.mixed_precision or asked.average is not None:
        from veil.learning.choices import default_optimiser, usual_objective, usual_optimiser
        from veil.posterior.choice import usual as usual_posterior

        steps = asked.steps or 2000
        aim = objective or usual_objective(model, posterior or usual_posterior(model), False)
        chosen = usual_optimiser(model, steps, aim) if rate is None else default_optimiser(steps, rate)
        made["optimiser"] = replace(chosen, mixed_precision=bool(asked.mixed_precision), average=asked.average)
    return Learning(name, by_gradients, made)


def _known(option: str, word: str | None, words: tuple[str, ...]) -> None:
    from veil.data.core.columns import suggestion

    if word is not None and word not in words:
        raise Refusal(f"{option}: there is no {word!r}; {suggestion(word, words)}")


def _objective(name: str, asked: Asked, model: Any) -> Any:
    from veil import objective as kinds
    from veil.learning.choices import usual_gradient
    from veil.objective import estimators
    from veil.posterior import Quantised, choice

    terms = _terms(asked, kinds, model)
    if name != "elbo" and terms:
        raise Refusal("--beta, --warm-up, --free-nats, --kl-balance: they change the KL term of --objective elbo")
    if name not in ("elbo", "importance-weighted") and asked.gradient is not None:
        raise Refusal(f"--gradient: it goes with --objective elbo or importance-weighted, not {name}")
    gradient = None if asked.gradient is None else vars(estimators)[GRADIENTS[asked.gradient]]()
    if name == "flow-matching":
        return kinds.FlowMatching()
    if name == "denoising":
        return kinds.Denoising()
    if name == "marginal":
        return kinds.Marginal()
    if name in ("em", "monte-carlo-em"):
        return kinds.ExpectedLogLikelihood(asked.samples)
    if name == "fivo":
        return kinds.FIVO(asked.samples or 16)
    if name == "wake-sleep":
        return kinds.WakeSleep(asked.samples or 10)
    if name == "importance-weighted":
        return kinds.ImportanceWeighted(asked.samples or 50, gradient or kinds.DoublyReparameterised())
    if gradient is None and not terms and asked.samples is None:
        return None  # the library's own choice for this latent
    if asked.posterior is None and isinstance(choice.usual(model), Quantised):
        if gradient is not None or asked.samples is not None:
            raise Refusal("--gradient, --samples: residual codes are chosen, not drawn; leave them out")
        return kinds.Quantising(kl=terms)
    return kinds.ELBO(gradient or usual_gradient(model), asked.samples or 1, terms)


def _terms(asked: Asked, kinds: Any, model: Any) -> tuple[Any, ...]:
    from veil.zoo.state_space import StateSpace

    terms: list[Any] = []
    try:
        if asked.kl_balance is not None:
            if not isinstance(model, StateSpace):
                raise Refusal("--kl-balance: it is for the KL between the steps of a deep sequence model (rssm, ...)")
            terms.append(kinds.Balanced(asked.kl_balance))
        if asked.free_nats is not None:
            terms.append(kinds.FreeNats(asked.free_nats))
        if asked.beta is not None:
            terms.append(kinds.Beta(asked.beta))
        if asked.warm_up is not None:
            terms.append(kinds.Annealed(asked.warm_up))
    except ValueError as error:
        raise Refusal(f"--free-nats, --kl-balance, --beta, --warm-up: {error}") from error
    return tuple(terms)


def _posterior(asked: Asked, model: Any) -> Any:
    from veil import posterior
    from veil.model import Tractable
    from veil.parts import heads
    from veil.parts.flows import Flow
    from veil.posterior import choice

    if asked.refine_steps is not None and asked.posterior != "refined":
        raise Refusal("--refine-steps goes with --posterior refined")
    if asked.posterior is None:
        return None
    usual = choice.usual(model)
    net = usual.net if isinstance(usual, posterior.Amortized | posterior.Ladder | posterior.Sequential) else None
    if asked.posterior in PATHS:
        if not isinstance(usual, posterior.Sequential):
            raise Refusal(f"--posterior {asked.posterior}: it is for deep sequence models (dmm, rssm, vrnn)")
        return _of_paths(asked.posterior, usual, model)
    if isinstance(usual, posterior.Sequential):
        if asked.posterior == "amortized":
            return usual
        words = ", ".join(("amortized", *PATHS))
        raise Refusal(f"--posterior {asked.posterior}: it is for single rows; for this model's paths: {words}")
    if asked.posterior.startswith(("amortized", "refined")) and net is None:
        raise Refusal(f"--posterior {asked.posterior}: this model has no network to read a datum; use exact or table")
    if asked.posterior == "exact":
        if not isinstance(model, Tractable):
            raise Refusal("--posterior exact: this model's posterior has no closed form; leave it out, or use table")
        return posterior.Exact()
    if asked.posterior == "shared":
        if not isinstance(usual, posterior.Shared):
            raise Refusal("--posterior shared: it is for a latent that all data share (bayesian-network)")
        return usual
    full = heads.FullGaussian() if asked.posterior.endswith("-full") else None
    if asked.posterior.startswith("table"):
        return posterior.Table(full)
    if asked.posterior == "refined":
        return posterior.Refined(usual, 5 if asked.refine_steps is None else asked.refine_steps)
    if asked.posterior == "amortized":
        return usual
    return posterior.Amortized(net, full, flow=Flow() if asked.posterior.endswith("-flow") else None)


def _of_paths(word: str, usual: Any, model: Any) -> Any:
    """The usual posterior of a path, told of the steps up to now, or of all."""
    from veil import posterior
    from veil.parts.dynamics import Recurrent

    remembers = isinstance(model.dynamics, Recurrent)
    if word == "filtering":
        return replace(usual, sees=posterior.Now() if remembers else posterior.Past())
    return replace(usual, sees=posterior.Both() if remembers else posterior.Future())
