"""Soft actor-critic from states beside that of stable-baselines3: seconds for as many steps, and what comes of them.

Pendulum-v1, 10,000 steps (--quick: 1,500), each followed by a learning step on 256 transitions, as both have it; two
layers of 256; rates of 0.001, as RL Zoo has for this task. ``quality`` is the mean return of 100 episodes without
exploration, whose starts are those of ``recipes/picture_agent.py`` with the same seed, so that its numbers stand
beside: an agent that sees pictures, and one that sees states. A repeat is a seed.

    .venv-bench/bin/python -m pip install stable-baselines3 -c benchmarks/requirements.txt
    .venv-bench/bin/python benchmarks/soft_actor_critic.py --repeats 5
"""

import statistics
import time
from typing import Any

import common
import gymnasium
import jax
import numpy as np

import veil
from veil.control import SoftActorCritic, play

NAME = "Pendulum-v1"


def ours(seed: int, steps: int, judged: int) -> tuple[float, float]:
    """Seconds with compilation, and the mean return."""
    begin = time.perf_counter()
    agent = SoftActorCritic(trunk=veil.MLP((256, 256), "relu"))
    skill = agent.learn(NAME, steps, key=jax.random.key(seed), begin=200, every=10, progress=False)
    jax.block_until_ready(skill.temperature)
    took = time.perf_counter() - begin
    worlds = [gymnasium.make(NAME) for _ in range(min(10, judged))]
    found = play(worlds, skill, range(judged), seed=1_000_000 + seed)
    return took, float(np.mean([np.sum(each.rewards) for each in found]))


def theirs(sb3: Any, seed: int, steps: int, judged: int) -> tuple[float, float]:
    """The same of stable-baselines3."""
    begin = time.perf_counter()
    agent = sb3.SAC("MlpPolicy", NAME, learning_rate=1e-3, seed=seed, device="cpu").learn(steps)
    took = time.perf_counter() - begin
    world, returns = gymnasium.make(NAME), []
    for number in range(judged):
        start = np.random.SeedSequence([1_000_000 + seed, number]).generate_state(3)[0]
        seen, over, total = world.reset(seed=int(start))[0], False, 0.0
        while not over:
            seen, reward, terminated, truncated, _ = world.step(agent.predict(seen, deterministic=True)[0])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return took, float(np.mean(returns))


def pendulum(options: common.Options) -> common.Case:
    seeds, steps, judged = range(options.repeats or 5), *((1500, 5) if options.quick else (10_000, 100))
    mine = [ours(seed, steps, judged) for seed in seeds]
    peers, details = {}, {f"return, seed {seed}": value for seed, (_, value) in zip(seeds, mine, strict=True)}
    try:
        import stable_baselines3 as sb3
    except ImportError:
        details["note"] = "stable-baselines3 is not installed"
    else:
        other = [theirs(sb3, seed, steps, judged) for seed in seeds]
        times = [took for took, _ in mine], [took for took, _ in other]
        apart = statistics.median(value for _, value in mine) - statistics.median(value for _, value in other)
        version = common.version("stable-baselines3")
        peers["stable-baselines3"] = common.Peer(version, statistics.median(times[1]), common.ratio(*times), apart)
        details |= {f"theirs, seed {seed}": value for seed, (_, value) in zip(seeds, other, strict=True)}
    what = f"{steps} steps of {NAME} from states, with compilation"
    return common.Case("pendulum", what, "s", statistics.median(took for took, _ in mine), None, peers, details)


if __name__ == "__main__":
    common.main("soft_actor_critic", __doc__, {"pendulum": pendulum}, ("pendulum",))
