"""An agent that swings up a pendulum by what it looks like: it learns a world model, and acts by what it dreams."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

import veil
from veil.control import (
    Dreaming,
    FixedTemperature,
    ImaginedActorCritic,
    ModelBased,
    Within,
    play,
    prepared,
    world_model,
)
from veil.control.agent.models import query
from veil.control.diagnosis.film import film
from veil.objective import ELBO, Balanced
from veil.parts.nets import MLP
from veil.report import style
from veil.report.page import Film, Picture
from veil.report.station import Findings, Row, Say, Station

EPISODES, RANDOM = 12, 5


def environment() -> Any:
    """The pendulum as the agent sees it."""
    return prepared("Pendulum-v1", frames=32, grey=True, repeat=2)


def agent(quick: bool) -> ModelBased:
    """That of ``recipes/picture_agent.py``, for some minutes only; smaller ones need longer to get anywhere."""
    shows = {"frame": (32, 32, 1)}
    latent, memory, levels, width = (2, 8, (4, 4, 8), 8) if quick else (16, 128, (16, 32, 64), 128)
    model, posterior = world_model(shows, latent=latent, memory=memory, levels=levels, width=width)
    temperature, horizon, starts = FixedTemperature(1e-3), 3 if quick else 15, 4 if quick else 128
    learner = ImaginedActorCritic(
        Within((-2.0,), (2.0,)),
        MLP((width, width), "silu"),
        horizon,
        temperature=temperature,
        rate=3e-4,
        critic_rate=1e-3,
    )
    return ModelBased(
        model,
        posterior,
        Dreaming(learner, starts),
        query(shows),
        discount=0.98,
        objective=ELBO(kl=(Balanced(0.8),)),
        optimiser=veil.Optimiser(_adam(), clip=100.0, bounded=True),
        batch_size=2 if quick else 8,
        window=10 if quick else 50,
        updates=0.05 if quick else 1.0,
        random=2 if quick else RANDOM,
        first=5 if quick else 500,
    )


def _adam() -> Any:
    import optax

    return optax.adam(6e-4)


def run(quick: bool, say: Say) -> Findings:
    episodes, judged = (3, 2) if quick else (EPISODES, 10)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes on what so few steps leave undone
        place = Path(folder)
        say(f"{episodes} episodes, one after the other")
        skill = agent(quick).learn(environment, episodes, out=place / "run", seed=0, progress=False)
        say("judged")
        found = play([environment() for _ in range(judged)], skill, range(judged), seed=1)
        film(place / "dream.gif", skill, found[:3], key=jax.random.key(0), steps=20 if quick else 60)
        dreams = (place / "dream.gif").read_bytes()
    returns = np.array([each.rewards.sum() for each in found])
    chance = skill.returns[: 2 if quick else RANDOM]
    error = returns.std(ddof=1) / len(returns) ** 0.5
    say("pictures")
    with style.figure(2, panel=(4.6, 3.0)) as (picture, (left, right)):
        left.plot(skill.steps, skill.returns, marker="o", markersize=3)
        left.axhline(
            float(returns.mean()), color=style.COLOURS[1], linestyle="--", label="without exploring, at the end"
        )
        style.label(left, x=("environment's steps", "number"), y=("return of an episode", "reward"))
        left.set_title("While it learns, exploring")
        style.legend(left, loc="lower right")
        for each in found:
            seen = each.observations["observation"]
            right.plot(np.degrees(np.arctan2(seen[:, 1], seen[:, 0])), linewidth=0.8)
        style.label(right, x=("decision", "number"), y=("angle from upright", "degrees"))
        right.set_title(f"{judged} episodes afterwards; it sees pictures only")
    row = Row(
        f"return without exploring, {judged} episodes after {int(skill.steps[-1])} steps of the environment",
        f"{returns.mean():.0f} ± {error:.0f}",
        "reward",
        "about -150 is the best there is",
        f"random torques: {chance.mean():.0f}; at rest, hanging: about -1700",
    )
    return Findings(
        rows=[row],
        pictures=[
            Picture(
                picture,
                "Left, returns as it learns: the first five episodes are random torques. Right, what it does when it "
                "does not explore: zero is upright, and ±180 is the same place.",
                "agent",
            )
        ],
        films=[
            Film(
                dreams,
                "Three of these episodes. Above what was, below what the model dreams (blue) after five pictures, told "
                "only the torques.",
                "agent-dreams",
            )
        ],
        text=[
            "A recurrent state-space model of pictures, rewards and ends is learned from what was seen; in its dreams, "
            "futures that begin where it was, a policy and its values are learned; the policy plays on. It is told "
            "neither angle nor speed: what a picture does not show, the speed, is in the memory.",
            "A dozen episodes are some minutes of pictures, and it has just got the knack. "
            "<code>recipes/picture_agent.py</code> goes on, <code>veil train-agent</code> takes any environment, and "
            "<code>veil diagnose</code> looks for faults.",
        ],
    )


STATION = Station(
    name="agent",
    order=98,
    title="An agent that dreams: a pendulum swung up by what it looks like",
    question="Can one learn to act from a few minutes of pictures, by imagining what would come of it?",
    equation="<i>p</i>(<i>o</i><sub>1:T</sub>, <i>r</i><sub>1:T</sub> | <i>u</i><sub>1:T</sub>), then "
    "max<sub>π</sub> E[Σ γ<sup><i>t</i></sup> <i>r<sub>t</sub></i>] in futures that it draws. Query: pictures and "
    "rewards. Evidence: torques. Latent: the state.",
    run=run,
    packages=("gymnasium", "pygame", "PIL", "orbax"),
)
