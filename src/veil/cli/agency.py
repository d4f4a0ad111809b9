"""The words of ``veil train-agent`` and ``veil play`` as what they stand for."""

from functools import partial
from pathlib import Path
from typing import Any

from veil.cli.program import Refusal, refusing

AGENTS, PLANNERS = ("actor", "planner", "guided"), ("cem", "icem", "mppi", "shooting", "gradient")
ABOUT, SKILL = "agent.json", "skill"
FORMAT, VERSION = "veil agent", 1
LEVELS = {8: (16,), 16: (16, 32), 32: (16, 32, 64), 64: (16, 32, 64, 128)}  # of frames of this side


def world_of(asked: dict[str, Any]) -> Any:
    """The environment that was asked for. Raises Refusal for one that is not there, or cannot be."""
    from veil.control import prepared

    frames, grey, repeat = asked["frames"], asked["grey"], asked["repeat"]
    with refusing(env="ENV"):
        return prepared(asked["env"], frames=frames, grey=grey, repeat=repeat)


def agent_of(asked: dict[str, Any]) -> Any:
    """The ``ModelBased`` agent of the options. Raises Refusal for an environment that it cannot learn in."""
    import optax

    from veil import ELBO, Optimiser
    from veil.control import ModelBased, world_model
    from veil.control.agent.models import query
    from veil.objective import Balanced

    world = world_of(asked)
    try:
        shows = shown_by(world, asked["frames"])
        sizes = {"latent": asked["latent"], "memory": asked["memory"], "width": asked["width"]}
        model, posterior = world_model(shows, levels=LEVELS.get(asked["frames"], ()), **sizes)
        behaviour = behaviour_of(asked, world)
    finally:
        world.close()
    names = ("discount", "batch_size", "window", "updates", "random", "first", "together", "context")
    return ModelBased(
        model,
        posterior,
        behaviour,
        query(shows),
        objective=ELBO(kl=(Balanced(0.8),)),
        optimiser=Optimiser(optax.adam(asked["learning_rate"]), clip=100.0, bounded=True),
        **{name: asked[name] for name in names},
    )


def shown_by(world: Any, frames: int | None) -> dict[str, tuple[int, ...]]:
    """The shapes of the parts of an observation that a model is made of: the frames, or all that is numbers."""
    import numpy as np

    from veil.control.collecting import shown
    from veil.data.recorded.views import named

    space = world.observation_space
    if frames is not None:
        return {"frame": space["frame"].shape}
    found = {name: np.asarray(each) for name, each in named(shown(space.sample()), "observation")}
    odd = [name for name, each in found.items() if each.dtype.kind != "f" or each.ndim != 1]
    if odd:
        raise Refusal(
            f"ENV: expected observations that are vectors of real numbers; {odd[0]!r} is {found[odd[0]].dtype} "
            f"{list(found[odd[0]].shape)}. See its frames with --frames 64"
        )
    return {name: each.shape for name, each in found.items()}


def behaviour_of(asked: dict[str, Any], world: Any) -> Any:
    """What acts: a planner, a policy that was learned in dreams, or both."""
    from veil.control import Dreaming, Guided, ImaginedActorCritic, OneOf, Planning, Within
    from veil.control.agent.model_based import limits
    from veil.data.core.packages import needed

    gymnasium = needed("learning in an environment needs gymnasium", "control", "gymnasium")
    space = world.action_space
    with refusing(env="ENV"):
        low, high = limits(gymnasium, space)
    discrete = isinstance(space, gymnasium.spaces.Discrete)
    if asked["agent"] == "planner":
        if discrete:
            raise Refusal("--agent planner: planners are for real actions; this environment has choices: --agent actor")
        return Planning(planner_of(asked, low, high), noise=asked["noise"])
    actions = OneOf(int(space.n)) if discrete else Within(low.tolist(), high.tolist())
    learner = ImaginedActorCritic(actions, horizon=asked["horizon"], rate=3e-4, critic_rate=1e-3)
    dreaming = Dreaming(learner, 128)
    if asked["agent"] == "actor":
        return dreaming
    if discrete:
        raise Refusal("--agent guided: planners are for real actions; this environment has choices: --agent actor")
    return Guided(dreaming, Planning(planner_of({**asked, "planner": "cem"}, low, high), noise=asked["noise"]))


def planner_of(asked: dict[str, Any], low: Any, high: Any) -> Any:
    """A planner by its name, as wide as half of what actions may be."""
    from veil.control import CrossEntropy, GradientPlanner, PathIntegral, Shooting

    horizon, count = asked["horizon"], asked["candidates"]
    spread = (high - low) / 2
    makers: dict[str, Any] = {
        "cem": partial(CrossEntropy, horizon, spread, candidates=count, elites=max(2, count // 10)),
        "icem": partial(CrossEntropy.improving, horizon, spread, candidates=count),
        "mppi": partial(PathIntegral, horizon, spread, candidates=count),
        "shooting": partial(Shooting, horizon, candidates=count),
        "gradient": partial(GradientPlanner, horizon, spread=spread),
    }
    return makers[asked["planner"]]()


def opened(run: Path) -> tuple[dict[str, Any], Any]:
    """What a run was asked for, and the skill that it has learned so far. Raises Refusal where there is none."""
    from veil.host.files import check_format, read_json
    from veil.saved.folders import load

    file = run / ABOUT
    if not file.is_file():
        raise Refusal(f"RUN: {run} is no agent's run; make one with veil train-agent ENV --out {run}")
    record = read_json(file, 2**20)
    check_format(record, file, FORMAT, VERSION, "an agent's run")
    if not (run / SKILL).is_dir():
        raise Refusal(f"RUN: {run} has learned nothing yet; let veil train-agent go on")
    return dict(record["asked"]), load(run / SKILL)
