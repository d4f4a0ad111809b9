"""The words of ``veil explore`` as what they stand for: bonuses by their names, and who explores."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from veil.cli.program import Refusal, refusing

BONUSES = {
    "none": "no bonus",
    "count": "counts of states that are numbered",
    "hash": "counts of hashed observations",
    "pseudo-count": "from a density: a table, a grid, or a context tree of an image",
    "gain": "information gain of a Bayesian network of the dynamics",
    "linear": "information gain of linear dynamics",
    "disagreement": "an ensemble's",
    "rnd": "random network distillation",
    "icm": "the curiosity module",
}
HELP = ", ".join(BONUSES) + "."
CELLS = 24  # of each entry of a grid
FEW = 3  # entries of which a grid is made
ASKED = {"env": "ENV", "steps": "--steps", "bonus": "--bonus"}
PLANNED = {
    "frames": None, "grey": False, "repeat": 1, "planner": "cem", "horizon": 15, "candidates": 100, "noise": 0.3,
    "discount": 0.98, "latent": 16, "memory": 64, "width": 64, "updates": 1.0, "first": 100, "batch_size": 8,
    "window": 50, "learning_rate": 6e-4, "together": 1, "context": False,
}  # fmt: skip


def checked(agent: str, bonus: str | None, sea: bool) -> str:
    """The bonus for an agent in deep-sea or elsewhere, ``bonus`` or its default; Refusal for what does not go."""
    from veil.data.core.columns import suggestion

    known = tuple(dict.fromkeys((*SEARCHERS, *PLAYERS)))
    if agent not in known:
        raise Refusal(f"--agent: there is no {agent!r}; {suggestion(agent, known)}")
    if not sea and agent not in PLAYERS:
        others = ", ".join(PLAYERS)
        raise Refusal(f"--agent {agent}: its tables are of deep-sea; environments are learned by --agent {others}")
    if sea and agent == "plan":
        others = ", ".join((*SEARCHERS, "ppo"))
        raise Refusal(f"--agent plan: states that are numbered are no vectors; explore deep-sea by --agent {others}")
    if bonus is not None and bonus not in BONUSES:
        raise Refusal(f"--bonus: there is no {bonus!r}; {suggestion(bonus, tuple(BONUSES))}")
    if agent in BELIEVERS and bonus not in (None, "none"):
        raise Refusal(f"--bonus {bonus}: {agent} explores by what it believes, and knows no bonus; leave it out")
    if agent == "maxinfo" and bonus not in (None, "disagreement", "linear"):
        raise Refusal(f"--bonus {bonus}: maxinfo asks what an action may tell; --bonus disagreement, or linear")
    if sea and agent in SEARCHERS and bonus not in (None, "none", "count"):
        raise Refusal(f"--bonus {bonus}: in deep-sea {agent} knows counts; --bonus count, or none")
    if agent == "maxinfo":
        return bonus or "disagreement"
    return bonus or ("none" if agent in (*BELIEVERS, "bootstrapped") else "count")


def making(asked: dict[str, Any]) -> Callable[[], Any]:
    """What makes the environment; DeepSea as pictures. Raises Refusal for one that is not there."""
    from veil.control.collecting import environment
    from veil.control.worlds.walked import deep_sea

    if asked["env"] == "deep-sea":
        return lambda: deep_sea(asked["size"], asked["stochastic"], pictures=True)

    def make() -> Any:
        with refusing(env="ENV"):
            return environment(asked["env"])

    return make


def bonus_of(word: str, world: Any, rows: bool = False, before: bool = False) -> Any:
    """The bonus of a name for an environment; None for none. Raises Refusal for one that does not go with it.

    ``rows``: choices come as rows of a one and zeros, and not as numbers. ``before``: it is asked of what might be
    done, and not of where it led.
    """
    import gymnasium

    from veil.control import exploration as novel

    spaces, seen = gymnasium.spaces, world.observation_space
    choices = int(world.action_space.n) if isinstance(world.action_space, spaces.Discrete) and not rows else None
    numbered = isinstance(seen, spaces.Discrete)
    if word == "none":
        return None
    if before and choices is None:
        raise Refusal("--agent bootstrapped: it chooses among actions, and these are vectors; take ppo or sac")
    if before and word in ("pseudo-count", "icm"):
        raise Refusal(f"--bonus {word}: it is of where a step leads, which bootstrapped asks before; take hash or rnd")
    if word == "count":
        if not numbered:
            raise Refusal("--bonus count: it is of states that are numbered; take hash or pseudo-count for vectors")
        if before and choices is not None:
            return novel.Counted(novel.Tally((int(seen.n), choices)), about=novel.left)
        return novel.Counted(novel.Tally((int(seen.n),)))
    if word == "pseudo-count":
        density, about = _density(novel, spaces, seen)
        return novel.Counted(novel.PseudoCounts(density), about=about)
    if numbered and word != "hash":
        raise Refusal(f"--bonus {word}: states that are numbered are no vectors; take count")
    inputs = novel.left if choices is None else novel.Chosen(choices)
    about = inputs if before else novel.arrived
    makers: dict[str, Callable[[], Any]] = {
        "hash": lambda: novel.Counted(novel.Hashed(), about=about),
        "gain": lambda: novel.NetworkGain(inputs=inputs),
        "linear": lambda: novel.LinearGain(novel.Affine(inputs)),
        "disagreement": lambda: novel.Disagreement(action=novel.done if choices is None else novel.Chosen(choices).row),
        "rnd": lambda: novel.RandomNetworkDistillation(about=about),
        "icm": lambda: novel.Curiosity() if choices is None else novel.Curiosity(novel.Discrete(choices)),
    }
    return makers[word]()


def _density(novel: Any, spaces: Any, seen: Any) -> tuple[Any, Any]:
    """A density of what is seen, and what of a step it is of."""
    import numpy as np

    if isinstance(seen, spaces.Discrete):
        return novel.DirichletCategorical((int(seen.n),), 0.01), novel.arrived
    if not isinstance(seen, spaces.Box):
        raise Refusal("--bonus pseudo-count: it is of numbers, images or vectors; take rnd for other observations")
    low, high = np.asarray(seen.low, float), np.asarray(seen.high, float)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        raise Refusal("--bonus pseudo-count: it needs observations between finite bounds; take hash or gain")
    if len(seen.shape) > 1:
        return novel.ContextTree(novel.Bins(8, float(low.min()), float(high.max()) + 1e-6)), novel.arrived
    if low.size > FEW:
        return novel.Factored(novel.Bins(CELLS, low, high)), novel.arrived
    bins = novel.Bins(CELLS, low, high)
    return novel.DirichletCategorical((CELLS,) * low.size, 0.01), lambda step: bins(step.following)


def by_policy(
    make: Any, bonus: Any, weight: float, asked: dict[str, Any], key_bonus: Any, key: Any, watch: Any
) -> tuple[Any, Any, Any]:
    """Proximal policy optimisation: what it learned, returns, and when episodes were over."""
    from veil.control.proximal import ProximalPolicy, proximal

    with refusing(**ASKED):
        found = proximal(
            make,
            asked["steps"],
            key=key,
            agent=ProximalPolicy(new=weight),
            bonus=bonus,
            together=asked["together"],
            progress=False,
            watch=watch,
        )
    return found.actor, found.returns, found.steps


def by_critics(
    make: Any, bonus: Any, weight: float, asked: dict[str, Any], key_bonus: Any, key: Any, watch: Any
) -> tuple[Any, Any, Any]:
    """Soft actor-critic in a curious environment: its returns are of rewards and bonuses, which are taken apart.

    ``maxinfo`` has the bonus itself, as it is now, in an environment as it is.
    """
    import gymnasium
    import numpy as np

    from veil.control import FixedGainWeight, LearnedGainWeight, MaxInfoActorCritic, SoftActorCritic
    from veil.control.exploration import ReturnScale, curious

    inside = make()
    learner: Any = SoftActorCritic()
    if asked["agent"] == "maxinfo":
        kind = LearnedGainWeight() if asked["weight"] is None else FixedGainWeight(weight)
        learner = MaxInfoActorCritic(learner, bonus, kind)
    elif bonus is not None:
        inside = curious(inside, bonus, key_bonus, weight=weight, scaling=ReturnScale())

    class Earned(gymnasium.Wrapper):
        """It remembers what was earned, without what was new."""

        def __init__(self) -> None:
            gymnasium.Wrapper.__init__(self, inside)  # which is not abstract, and has an __init__ of its own
            self.returns: list[float] = []
            self.ends: list[int] = []
            self.total, self.count = 0.0, 0

        def step(self, action: Any) -> Any:
            seen, reward, terminated, truncated, info = self.env.step(action)
            self.total, self.count = self.total + info.get("extrinsic", reward), self.count + 1
            if terminated or truncated:
                self.returns.append(self.total)
                self.ends.append(self.count)
                self.total = 0.0
            return seen, reward, terminated, truncated, info

    with refusing(**ASKED), closing(Earned()) as world:
        skill = learner.learn(world, asked["steps"], key=key, progress=False, watch=watch)
    return skill, np.asarray(world.returns), np.asarray(world.ends)


def by_model(
    make: Any, bonus: Any, weight: float, asked: dict[str, Any], key_bonus: Any, key: Any, watch: Any
) -> tuple[Any, Any, Any]:
    """A world model of what is seen, of rewards and of what is new, in which it plans; or dreams, of choices."""
    from dataclasses import replace

    import gymnasium
    import numpy as np

    from veil.cli import agency

    world = make()
    choices = isinstance(world.action_space, gymnasium.spaces.Discrete)
    world.close()
    episodes, random = asked["episodes"], min(5, asked["episodes"] - 1)
    settings = PLANNED | {"env": asked["env"], "agent": "actor" if choices else "planner", "random": random}
    agent = agency.agent_of(settings)
    if bonus is not None:
        agent = replace(agent, bonus=bonus, weight=weight)

    def watched(progressed: Any) -> None:
        watch(progressed.done, episodes, f"return {np.mean(progressed.returns[-5:]):.1f}")

    where = {"out": asked["folder"], "seed": asked["seed"]}
    skill = agent.learn(lambda: agency.world_of(settings), episodes, **where, progress=False, watch=watched)
    return skill, skill.returns, skill.steps


def by_ensemble(
    make: Any, bonus: Any, weight: float, asked: dict[str, Any], key_bonus: Any, key: Any, watch: Any
) -> tuple[Any, Any, Any]:
    """Bootstrapped Q-networks: what they learned, returns, and when episodes were over."""
    from veil.control.bootstrapped import SLOW, BootstrappedQ, bootstrapped

    agent = BootstrappedQ(bonus=bonus, weight=weight, every=SLOW, **_ensemble(asked))
    with refusing(**ASKED):
        found = bootstrapped(make, asked["steps"], key=key, agent=agent, progress=False, watch=watch)
    return found, found.returns, found.steps


def _ensemble(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: asked[name] for name in ("members", "prior") if asked[name] is not None}


def _tables(sea: Any, asked: dict[str, Any]) -> Any:
    from veil.control.exploration import QLearning, counting

    return counting(sea, asked["weight"]) if asked["bonus"] == "count" else QLearning(random=0.1)


def _networks(sea: Any, asked: dict[str, Any]) -> Any:
    from veil.control.bootstrapped import BootstrappedQ, optimistic, pictured

    options = _ensemble(asked) | {"eyes": pictured(sea.pictures())}
    if asked["weight"] == 0:
        raise Refusal("--weight: expected a positive number with --agent bootstrapped; or say --bonus none")
    return optimistic(sea.land, asked["weight"], **options) if asked["bonus"] == "count" else BootstrappedQ(**options)


def _fond(sea: Any, asked: dict[str, Any]) -> Any:
    from veil.control.exploration import Beliefs, KLearning

    return KLearning(Beliefs(reach=sea.below))


def _drawing(sea: Any, asked: dict[str, Any]) -> Any:
    from veil.control.exploration import Beliefs, PosteriorSampling

    return PosteriorSampling(Beliefs(reach=sea.below))


BELIEVERS = {"k-learning": _fond, "posterior-sampling": _drawing}
SEARCHERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {"q": _tables, **BELIEVERS, "bootstrapped": _networks}
PLAYERS: dict[str, Callable[..., tuple[Any, Any, Any]]] = {
    "ppo": by_policy,
    "sac": by_critics,
    "maxinfo": by_critics,
    "bootstrapped": by_ensemble,
    "plan": by_model,
}
