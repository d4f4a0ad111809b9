"""Bonuses a second, valued and learned from: random network distillation, curiosity and counts, beside rllte.

A step is what an agent does with each batch of B transitions, of an observation of 16 numbers and one of 4 actions: it
is valued, and then learned from by one step of Adam on the whole batch. In one process, on the same threads:

* ``rnd-B``: networks 16-256-128 with relu, of the random target and of what imitates it, like rllte's.
* ``icm-B``: features 16-256-128, inverse and forward networks behind a layer of 256, like rllte's.
* ``counts-B``: exact counts of the signs of eight numbers beside rllte's pseudo-counts, which are something else: the
  nearest neighbours of this episode among features of the inverse dynamics. No equal sizes: two ways to count.
* ``linear-B``, ``vime-B``, ``ensemble-B``: information gain, ours alone: linear in 21 features, a network of 32 units
  and the step of second order, five networks of 64, 64.

B is 1, 16 and 1024. ``ours`` is transitions a second, valued and learned from; those only valued are in the details.
rllte learns in batches of 256 by default, and here in one of B, which is faster. PyTorch has the faster of one thread
and all.

The peer (rllte-core 1.0.1) pins packages of 2022, so it has an environment of its own, in which its pins are passed
over (without it the cases say so and give ours alone):

    python3 -m venv .venv-exploration
    .venv-exploration/bin/pip install -e '.[control]' -c constraints.txt
    .venv-exploration/bin/pip install --no-deps rllte-core==1.0.1
    .venv-exploration/bin/pip install -r benchmarks/requirements-exploration.txt
    .venv-exploration/bin/python benchmarks/bonus.py
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import veil
from veil.control.exploration.bonus import Bonus, Transition
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.curiosity import Curiosity, Discrete
from veil.control.exploration.distillation import RandomNetworkDistillation
from veil.control.exploration.ensemble import Disagreement
from veil.control.exploration.linear import LinearGain
from veil.control.exploration.network import NetworkGain
from veil.zoo.bayesian import BayesianNetwork

SEEN, ACTIONS, WIDTH, LATENT, SIGNS = 16, 4, 256, 128, 8
BATCHES = (1, 16, 1024)
PEERS = {"rnd": "RND", "icm": "ICM", "counts": "PseudoCounts"}

Run = Callable[[], Any]  # a batch, valued (and learned from)


def inputs(step: Transition) -> Any:
    """What networks see of a step."""
    return step.observation, jax.nn.one_hot(step.action, ACTIONS, dtype=float)


def features(step: Transition) -> Any:
    """φ of the linear one."""
    return jnp.concatenate([jnp.ones(1), *inputs(step)])


def signs(step: Transition) -> Any:
    """What is counted."""
    return (step.following[:SIGNS] > 0).astype(jnp.int32)


def bonus(kind: str) -> Bonus:
    """Ours."""
    net, adam = veil.MLP((WIDTH,), "relu"), optax.adam(1e-3)
    if kind == "rnd":
        return RandomNetworkDistillation(net, net, LATENT, optimiser=adam)
    if kind == "icm":
        return Curiosity(Discrete(ACTIONS), LATENT, net, optimiser=adam)
    if kind == "counts":
        return Counted(Tally((2,) * SIGNS), signs)
    if kind == "linear":
        return LinearGain(features)
    if kind == "vime":
        return NetworkGain(BayesianNetwork((32,)), inputs=inputs)
    return Disagreement(action=lambda step: jax.nn.one_hot(step.action, ACTIONS, dtype=float))


@cache
def batch(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations [B, 16], actions [B] and what they led to [B, 16]."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(2, count, SEEN)).astype(np.float32)
    return seen[0], rng.integers(0, ACTIONS, count), seen[1]


def ours(kind: str, count: int) -> tuple[Run, Run]:
    """A batch valued and learned from, and valued only; compiled."""
    made, steps = bonus(kind), Transition(*map(jnp.asarray, batch(count)))
    state = made.init(jax.tree.map(lambda leaf: leaf[0], steps), jax.random.key(0))

    def values(state: Any, steps: Transition) -> Any:
        one = lambda each: made(state, each.observation, each.action, each.following)[0]  # noqa: E731
        return jax.vmap(one)(steps)

    @jax.jit
    def both(state: Any, steps: Transition) -> Any:
        return values(state, steps), made.update(state, steps)

    valued, now = jax.jit(values), [state]

    def learn() -> None:
        found, now[0] = both(now[0], steps)
        jax.block_until_ready((found, now[0]))

    return learn, lambda: valued(now[0], steps).block_until_ready()


def theirs(kind: str, count: int) -> tuple[Run, Run] | None:
    """The same of rllte; None, and words about it, where it is not installed or does not load."""
    if kind not in PEERS:
        return None
    try:
        import gymnasium
        import torch
        from rllte.xplore import reward
    except ImportError as error:
        print(f"bonus: rllte-core is left out ({error}); see the top of benchmarks/bonus.py", file=sys.stderr)
        return None

    class Still(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (SEEN,), np.float32)
        action_space = gymnasium.spaces.Discrete(ACTIONS)

        def reset(self, **_: Any) -> Any:
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.observation_space.sample(), 0.0, False, False, {}

    environments = gymnasium.vector.SyncVectorEnv([Still])
    module = getattr(reward, PEERS[kind])(environments, "cpu", batch_size=count)
    seen, action, after = (torch.from_numpy(part)[:, None] for part in batch(count))
    nothing = torch.zeros(count, 1)
    names = "observations", "actions", "rewards", "terminateds", "truncateds", "next_observations"
    samples = dict(zip(names, (seen, action[..., None], nothing, nothing, nothing, after), strict=True))

    def watched() -> None:
        if kind != "counts":  # the others remember nothing here
            return
        for t in range(count):
            module.watch(*(samples[name][t] for name in names))
        module.episodic_memory = [memory[-1000:] for memory in module.episodic_memory]

    def learn() -> None:
        watched()
        module.compute(samples)

    if kind == "counts":
        watched()  # of an empty memory it knows no distances
        return learn, learn  # values are made as it watches
    return learn, lambda: module.compute(samples, sync=False)


def faster_threads(run: Run) -> int:
    """The number of PyTorch's threads, one or all, with which it is faster."""
    import torch

    def taken(threads: int) -> float:
        torch.set_num_threads(threads)
        run()
        return min(common.seconds(run) for _ in range(3))

    return min({1, common.PINNED}, key=taken)


def pace(run: Run, count: int, calls: int) -> float:
    """Seconds of one transition."""
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / (calls * count)


def measured(kind: str, count: int, options: common.Options) -> common.Case:
    """Transitions a second."""
    repeats, calls = options.repeats or (3 if options.quick else 7), 5 if options.quick else max(20, 400 // count)
    (learn, value), peer = ours(kind, count), theirs(kind, count)
    compiling = common.seconds(learn) + common.seconds(value)
    runs = {"ours": learn, "ours, valued only": value}
    if peer is not None:
        import torch

        torch.set_num_threads(faster_threads(peer[0]))
        runs |= {"rllte": peer[0], "rllte, valued only": peer[1]}
    found = common.in_turn({name: partial(pace, run, count, calls) for name, run in runs.items()}, repeats)
    rates = {name: 1 / statistics.median(values) for name, values in found.items()}
    made = {}
    if peer is not None:
        ratio = common.ratio(found["ours"], found["rllte"])
        made["rllte-core"] = common.Peer(common.version("rllte-core"), rates["rllte"], ratio)
    details = {"transitions a second": {name: round(rate, 1) for name, rate in rates.items()}}
    what = f"batches of {count}, valued and learned from"
    return common.Case(f"{kind}-{count}", what, "1/s", rates["ours"], compiling, made, details)


CASES = {
    f"{kind}-{count}": partial(measured, kind, count)
    for kind in ("rnd", "icm", "counts", "linear", "vime", "ensemble")
    for count in BATCHES
}

if __name__ == "__main__":
    common.main("bonus", __doc__, CASES, quick=["rnd-16", "counts-16", "linear-16"])
