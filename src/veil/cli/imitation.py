"""What ``veil imitate`` adds to a fit: chunks of a recording, how to act, and trials while it learns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import typer

from veil.cli.program import Refusal

# the name of a policy: the model of the catalogue, and its options that are not the catalogue's own
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("neural", {}),
    "mdn": ("mdn", {}),
    # one noise for all: what one Gaussian could cover its latent must say
    "cvae": ("cvae", {"covariance": "homoscedastic", "steps": 4000}),
    "codes": ("cvae", {"latent": "residual:2:8", "gate": "constant", "covariance": "homoscedastic", "steps": 4000}),
    "flow": ("flow", {"steps": 3000}),
    "flow-matching": ("flow-matching", {"average": 0.999}),
    "diffusion": ("diffusion", {"average": 0.999}),
}
# a draw lies between the ways now and then: the likeliest of several, or one with little noise, does not
CHOICES = {"mdn": "low-noise", "cvae": "likeliest:16", "codes": "likeliest:16", "flow": "likeliest:4"}
# whose density cannot leave out what is missing: the last action counts again behind an episode (Chi et al. 2023)
WHOLE = ("flow", "flow-matching", "diffusion")
MEASURED, COMPILED = 24, 4  # steps whose time is taken, and those of them that a fit takes while it compiles
TRIED = 50  # episodes of our own worlds; they are played at once
FEW = 5  # of others


@dataclass(frozen=True)
class Imitation:
    """A policy that is to be learned.

    ``asked``: the options as they were given. ``chunks``: what of a recording it learns from, ``held``: what is held
    out of it; None of rows of a table. ``per_episode``: whether its latent is drawn once an episode. ``act``: how it is
    to act, as the run's configuration has it.
    """

    asked: Mapping[str, Any]
    chunks: Any
    held: Any
    per_episode: bool
    minutes: float | None
    act: dict[str, Any]

    def made(self, model: Any, data: Any) -> Any:
        """The model, with an eye for images where the observation is one, and with a latent for each episode."""
        from veil.zoo.episodic import Episodic

        model = seeing(model, data, self.per_episode, self.chunks is not None and self.chunks.observations > 1)
        return Episodic(model) if self.per_episode else model

    def steps(self, model: Any, data: Any, arguments: dict[str, Any], seed: int) -> int:
        """How many steps go into the minutes, after a few that are taken to see how long they are."""
        import jax

        from veil.learning.fitting import fit

        at: dict[int, float] = {}
        key = jax.random.key(seed)
        note = lambda values: at.update({values["step"]: time.perf_counter()})  # noqa: E731
        arguments = {name: value for name, value in arguments.items() if value is not None}
        fit(model, data, key=key, steps=MEASURED, record=note, progress=False, **arguments)
        assert self.minutes is not None
        pace = (at[MEASURED - 1] - at[COMPILED - 1]) / (MEASURED - COMPILED)
        return max(MEASURED, int(60 * self.minutes / max(pace, 1e-6)))

    def looks(self, quiet: bool) -> dict[str, Any]:
        """What a fit is told so that the policy is tried while it learns."""
        env = self.act.get("env")
        if env is None:
            return {}
        from veil.control.trials import NAMES, trials

        count = TRIED if env in NAMES and env != "pusht" else FEW

        def look(fit: Any) -> dict[str, float]:
            found = trials(env, policy_of(fit, self.act), count, seed=0).as_dict()
            if not quiet:
                typer.echo(f"after {fit.status.steps} steps: {said(found)}")
            named = {"success": found["success"], "return": found["return_mean"]}
            return {name: value for name, value in named.items() if value is not None}

        return {"look": look}


def said(found: Mapping[str, Any]) -> str:
    """What came of trials, in a line."""
    words = []
    if found["success"] is not None:
        words.append(f"success {found['success']:.3f} ± {found['success_standard_error']:.3f}")
    error = found["return_standard_error"]
    words.append(f"return {found['return_mean']:.4g}" + (f" ± {error:.2g}" if error is not None else ""))
    if "entropy" in found:
        words.append(f"entropy of outcomes {found['entropy']:.3f} ± {found['entropy_standard_error']:.3f}")
    return f"{', '.join(words)}, {found['episodes']} episodes"


def policy_of(fit: Any, act: Mapping[str, Any]) -> Any:
    """The actor of a fit: ``act`` says which choice, how many actions of a chunk, and whether chunks vote."""
    from veil.control.chunking import Ensemble
    from veil.control.policies import Policy

    return Policy(
        fit,
        choice(act.get("choose") or CHOICES.get(act.get("policy", ""), "sample")),
        execute=act.get("execute"),
        ensemble=Ensemble() if act.get("ensemble") else None,
    )


def choice(word: str) -> Any:
    """A way to choose an action from a word: sample, low-noise[:SCALE], likeliest[:CANDIDATES], mean[:DRAWS], coherent.

    >>> choice("low-noise:0.3").scale
    0.3
    """
    from veil.control.choices import Coherent, Likeliest, LowNoise, Mean, Sample
    from veil.data.core.columns import suggestion

    kinds: dict[str, tuple[Any, Callable[[str], Any] | None]] = {
        "sample": (Sample, None),
        "low-noise": (LowNoise, float),
        "likeliest": (Likeliest, int),
        "mean": (Mean, int),
        "coherent": (Coherent, int),
    }
    name, _, number = word.partition(":")
    if name not in kinds:
        raise Refusal(f"--choose: there is no {name!r}; {suggestion(name, list(kinds))}")
    make, convert = kinds[name]
    try:
        if not number:
            return make()
        if convert is None:
            raise ValueError("it takes no number")
        return make(convert(number))
    except ValueError as error:
        raise Refusal(f"--choose {word}: {error}") from error


def seeing(model: Any, data: Any, per_episode: bool, several: bool) -> Any:
    """The model whose network reads images by a pyramid, where the evidence is one or has one as its first part."""
    from veil.cli.words import LEVELS, halvings
    from veil.data.core import trees
    from veil.parts.fields import Transporting
    from veil.parts.images import Pyramid
    from veil.zoo.flows import NormalisingFlow
    from veil.zoo.mixture import Mixture

    shapes = [shape for _, shape in trees.leaves(data.evidence_shape)] if data.evidence_shape else []
    shapes = [shape[1:] for shape in shapes] if per_episode else shapes
    images = [shape for shape in shapes if len(shape) == 3 + several]
    if not images:
        return model
    if several:
        raise Refusal("--observations: of images a policy sees the present one; leave it out")
    if len(images) > 1 or shapes[0] != images[0]:
        raise Refusal("--evidence: a policy reads one image, whose name is the first by the alphabet; choose others")
    shape = images[0]
    if not halvings(*shape[:2]):
        raise Refusal(f"--evidence: images of {shape[0]} x {shape[1]} pixels cannot be halved; pad or crop them")
    eye: Any = Pyramid(shape, LEVELS[: halvings(*shape[:2])], 128, "relu")
    if isinstance(model, Mixture | NormalisingFlow):
        return replace(model, trunk=eye)
    if isinstance(model, Transporting):
        field: Any = model.field
        return replace(model, field=replace(field, encoder=eye))
    raise Refusal("--policy: of images gaussian, mdn, flow, flow-matching and diffusion learn; this one reads numbers")
