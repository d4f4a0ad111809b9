"""Planning in a recurrent state-space model: a decision by the cross-entropy method, beside planners of PyTorch.

The model is ``veil.rssm``, deterministic 200 and stochastic 30, with actions of 6 numbers and a head for the reward;
PyTorch's is the same network, its weights copies of ours (they are compared before anything is timed). A decision
plans 12 steps ahead from a given state, actions within [-1, 1], and every step of every candidate draws its latent.

* ``cem-16``, ``cem-64``, ``cem-1000``: so many candidates, 3, 5 and 10 rounds, a tenth of them (at least 4) elites:
  ours ``CrossEntropy`` beside TorchRL's ``CEMPlanner`` and mbrl-lib's ``CEMOptimizer`` (normals cut at the bounds, the
  mean of the elites); 1000 candidates and 10 rounds are PlaNet's (Hafner et al. 2019).
* ``icem-64``: 64 candidates, 6 elites, 3 rounds of coloured noise, the best returned: ours ``CrossEntropy.improving``
  beside mbrl-lib's ``ICEMOptimizer``.
* ``mppi-64``, ``mppi-1000``: one round of path integral control beside pytorch-mppi.
* ``growth``: decisions a second of the first three planners by the number of candidates, 10 rounds each; with ``--out``
  a picture of it.

``ours`` is milliseconds of one decision, state in, numbers out. ``quality``: what the plan earns in the model on
average over 64 futures, ours minus theirs (TorchRL returns one action, and no plan). All candidates of a round of ours
meet the same noise, each of theirs its own; what mbrl-lib's plans earn with the same for all is in the details. So are
floating-point operations of the networks, and as what share of those that a product of two matrices of 1024 x 1024 has
on the same threads they are done. PyTorch has the faster of one thread and all. mbrl-lib asks for packages of 2021: it
takes part where it was installed by ``pip install --no-deps mbrl==0.2.0``, with hydra-core and termcolor.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import common
import numpy as np

MEMORY, LATENT, ACTIONS, SEEN, HORIZON = 200, 30, 6, 10, 12
FLOOR = 0.1  # the smallest scale of a step of the latent, which the library adds
FUTURES, STATES = 64, 8
GROWTH = (16, 32, 64, 125, 250, 500, 1000)

Decide = Callable[[int], np.ndarray]  # from the state of that number: a plan [H, U], or its first action [1, U]


def elites(candidates: int) -> int:
    """A tenth, at least four."""
    return max(4, candidates // 10)


# -- ours --------------------------------------------------------------------------------------------------------------


@cache
def problem() -> Any:
    """The model with random weights, and what it is to earn."""
    import jax
    import jax.numpy as jnp

    import veil
    from veil.control import Imagined, Predicted

    rng = np.random.default_rng(0)
    normals = veil.heads.DiagonalGaussian()
    head = veil.joint.Joint({"observation": normals, "reward": normals})
    numbers = lambda size: jnp.asarray(rng.normal(size=(64, 8, size)), jnp.float32)  # noqa: E731
    few = veil.Datum({"observation": numbers(SEEN), "reward": numbers(1)}, numbers(ACTIONS))
    model = veil.rssm(LATENT, head, veil.MLP((MEMORY,), "elu"), MEMORY).initialise(few, None, jax.random.key(0))
    return Imagined(model, Predicted("reward"), low=jnp.full(ACTIONS, -1.0), high=jnp.ones(ACTIONS))


@cache
def states() -> tuple[np.ndarray, np.ndarray]:
    """Memories [N, 200] and latents [N, 30] to plan from."""
    rng = np.random.default_rng(1)
    shape = (STATES, MEMORY), (STATES, LATENT)
    memory, latent = (rng.normal(size=each).astype(np.float32) for each in shape)
    return np.tanh(memory), latent


def our_state(number: int) -> Any:
    """One of them, as a state of the model."""
    import jax.numpy as jnp

    from veil.model.chains import State

    memory, latent = states()
    return State(jnp.asarray(memory[number]), jnp.asarray(latent[number]), jnp.zeros(0))


def our_planner(kind: str, candidates: int, rounds: int) -> Any:
    """The planner that a case asks for."""
    from veil.control import CrossEntropy, PathIntegral

    if kind == "cem":
        return CrossEntropy(HORIZON, 1.0, candidates, elites(candidates), rounds)
    if kind == "icem":
        return CrossEntropy.improving(HORIZON, 0.5, candidates, elites(candidates), rounds, kept=2)
    return PathIntegral(HORIZON, 0.5, 1.0, candidates, rounds)


def ours(kind: str, candidates: int, rounds: int) -> Decide:
    """A decision, compiled."""
    import equinox as eqx
    import jax

    planner = our_planner(kind, candidates, rounds)
    arrays, rest = eqx.partition((planner, problem()), eqx.is_array)

    @jax.jit
    def decide(arrays: Any, state: Any, key: Any) -> Any:
        planner, given = eqx.combine(arrays, rest)
        return planner.plan(given, state, key).mean

    keys, each = list(jax.random.split(jax.random.key(1), 64)), [our_state(number) for number in range(STATES)]
    calls = iter(range(10**9))
    return lambda number: np.asarray(decide(arrays, each[number], keys[next(calls) % 64]))


@cache
def earns() -> Callable[[int, np.ndarray], float]:
    """What a plan earns from a state, on average over futures that are the same for all plans."""
    from dataclasses import replace

    import equinox as eqx
    import jax
    import jax.numpy as jnp

    judge = eqx.filter_jit(replace(problem(), draws=FUTURES).returns)
    return lambda number, plan: float(judge(our_state(number), jnp.asarray(plan), jax.random.key(7)))


# -- PyTorch's ---------------------------------------------------------------------------------------------------------


class Network:
    """The same model in PyTorch: (memory, latent, action) -> the next two and the reward, of many at once."""

    def __init__(self) -> None:
        import torch

        model = problem().model
        dynamics, tensor = model.dynamics, lambda leaf: torch.from_numpy(np.array(leaf))
        self.joined = [tensor(dynamics.joined.weight), tensor(dynamics.joined.bias)]
        self.cell = torch.nn.GRUCell(MEMORY, MEMORY)
        with torch.no_grad():
            for name, layer in (("ih", dynamics.cell.outer), ("hh", dynamics.cell.inner)):
                getattr(self.cell, f"weight_{name}").copy_(tensor(layer.weight))
                getattr(self.cell, f"bias_{name}").copy_(tensor(layer.bias))
        pairs = dynamics.net.layers[0], dynamics.output, model.decoder.layers[0]
        self.hidden, self.prior, self.decoder = ([tensor(each.weight), tensor(each.bias)] for each in pairs)
        row = model.output.weight[0, 2 * SEEN]  # of the reward's mean, behind the observation's numbers
        self.reward = [tensor(row[1:])[None], tensor(row[:1])]

    def moments(self, memory: Any, latent: Any, action: Any) -> tuple[Any, Any, Any]:
        """The next memory, and mean and scale of the next latent."""
        import torch
        from torch.nn import functional as F

        memory = self.cell(F.elu(F.linear(torch.cat([latent, action], 1), *self.joined)), memory)
        mean, scale = F.linear(F.elu(F.linear(memory, *self.hidden)), *self.prior).chunk(2, 1)
        return memory, mean, F.softplus(scale) + FLOOR

    def earned(self, memory: Any, latent: Any) -> Any:
        """The reward expected of a step [N]."""
        import torch
        from torch.nn import functional as F

        return F.linear(F.elu(F.linear(torch.cat([memory, latent], 1), *self.decoder)), *self.reward)[:, 0]

    def step(self, memory: Any, latent: Any, action: Any, shared: bool = False) -> tuple[Any, Any, Any]:
        """A draw of the next step, and its reward; ``shared``: all meet the same noise."""
        import torch

        memory, mean, scale = self.moments(memory, latent, action)
        latent = mean + scale * (torch.randn(1, LATENT) if shared else torch.randn_like(mean))
        return memory, latent, self.earned(memory, latent)

    def returns(self, memory: Any, latent: Any, actions: Any, shared: bool = False) -> Any:
        """What sequences [N, H, U] earn from one state."""
        memory, latent = memory.expand(len(actions), -1), latent.expand(len(actions), -1)
        total = 0.0
        for action in actions.unbind(1):
            memory, latent, reward = self.step(memory, latent, action, shared)
            total = total + reward
        return total


@cache
def network() -> Network:
    """PyTorch's model, compared with ours. Raises RuntimeError where they differ."""
    import jax.numpy as jnp
    import torch

    from veil import distributions

    made, model = Network(), problem().model
    memory, latent = states()
    action = np.random.default_rng(2).uniform(-1, 1, (STATES, ACTIONS)).astype(np.float32)
    with torch.no_grad():
        found = made.moments(*map(torch.from_numpy, (memory, latent, action)))
        reward = made.earned(found[0], found[1])
    for number in range(STATES):
        state, given = our_state(number), jnp.asarray(action[number])
        prior = model.step_prior(state, given)
        mean = distributions.moments(prior)[0]
        after = model.advance(state, mean, None, given, None)
        expected = distributions.moments(model.step_likelihood(state, mean, given))[0]["reward"][0]
        pairs = (after.memory, found[0]), (mean, found[1]), (distributions.moments(prior)[1] ** 0.5, found[2])
        far = [np.abs(np.asarray(one) - other[number].numpy()).max() for one, other in pairs]
        if max(*far, abs(float(expected) - float(reward[number]))) > 1e-4:
            raise RuntimeError("PyTorch's model is not the same as ours")
    return made


def torch_state(number: int) -> tuple[Any, Any]:
    """A state, each with an axis of one in front."""
    import torch

    return tuple(torch.from_numpy(part[number : number + 1]) for part in states())  # type: ignore[return-value]


def torchrl_decide(candidates: int, rounds: int) -> Decide:
    """TorchRL's planner in an environment that is the model; its first action."""
    import torch
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs.model_based import ModelBasedEnvBase
    from torchrl.modules import CEMPlanner

    def step(memory: Any, latent: Any, action: Any) -> tuple[Any, Any, Any]:
        lead = memory.shape[:-1]
        flat = (part.reshape(-1, part.shape[-1]) for part in (memory, latent, action))
        memory, latent, reward = network().step(*flat)
        return memory.view(*lead, -1), latent.view(*lead, -1), reward.view(*lead, 1)

    class World(ModelBasedEnvBase):
        def __init__(self) -> None:
            names = ["memory", "latent"]
            super().__init__(TensorDictModule(step, [*names, "action"], [*names, "reward"]))
            self.observation_spec = Composite(memory=Unbounded((MEMORY,)), latent=Unbounded((LATENT,)))
            self.state_spec = self.observation_spec.clone()
            self.action_spec = Bounded(-1.0, 1.0, (ACTIONS,))
            self.reward_spec = Unbounded((1,))

        def _reset(self, tensordict: Any) -> Any:
            raise NotImplementedError

    planner = CEMPlanner(World(), HORIZON, rounds, candidates, elites(candidates))

    def decide(number: int) -> np.ndarray:
        memory, latent = torch_state(number)
        given = TensorDict({"memory": memory, "latent": latent}, [1])
        with torch.no_grad():  # inference mode forbids what it does in place
            return planner.planning(given).numpy()

    return decide


def mbrl_decide(kind: str, candidates: int, rounds: int, shared: bool = False) -> Decide:
    """mbrl-lib's optimisers of sequences of actions; ``shared``: all candidates of a round meet the same noise."""
    import torch
    from mbrl.planning.trajectory_opt import CEMOptimizer, ICEMOptimizer

    low, high = np.full((HORIZON, ACTIONS), -1.0).tolist(), np.ones((HORIZON, ACTIONS)).tolist()
    share, device = elites(candidates) / candidates, torch.device("cpu")

    def decide(number: int) -> np.ndarray:
        memory, latent = torch_state(number)
        if kind == "cem":
            tool = CEMOptimizer(rounds, share, candidates, low, high, 0.0, device, True, True)
        else:
            tool = ICEMOptimizer(rounds, share, candidates, 1.25, 2.0, low, high, 0.3, 0.0, device)
        with torch.inference_mode():
            return tool.optimize(
                lambda actions: network().returns(memory, latent, actions, shared), torch.zeros(HORIZON, ACTIONS)
            ).numpy()

    return decide


def mppi_decide(candidates: int, rounds: int) -> Decide:
    """pytorch-mppi; its state is memory and latent in a row, and beside them the reward of the step that led there."""
    import torch
    from pytorch_mppi import MPPI

    def dynamics(state: Any, action: Any) -> Any:
        memory, latent, _ = state.split([MEMORY, LATENT, 1], 1)
        memory, latent, reward = network().step(memory, latent, action)
        return torch.cat([memory, latent, reward[:, None]], 1)

    def decide(number: int) -> np.ndarray:
        tool = MPPI(
            dynamics,
            lambda state, action: -state[:, -1],
            MEMORY + LATENT + 1,
            0.25 * torch.eye(ACTIONS),
            candidates,
            HORIZON,
            u_min=-torch.ones(ACTIONS),
            u_max=torch.ones(ACTIONS),
            U_init=torch.zeros(HORIZON, ACTIONS),
        )
        with torch.inference_mode():
            begin = torch.cat([*torch_state(number), torch.zeros(1, 1)], 1)[0]
            for _ in range(rounds):
                tool.command(begin, shift_nominal_trajectory=False)
            return tool.U.clamp(-1, 1).numpy()

    return decide


def peers(kind: str, candidates: int, rounds: int) -> dict[str, Decide]:
    """The peers of a case that are installed, by the names of their packages."""
    made: dict[str, Callable[[], Decide]] = {}
    if kind == "cem":
        made["torchrl"] = lambda: torchrl_decide(candidates, rounds)
    if kind in ("cem", "icem"):
        made["mbrl"] = lambda: mbrl_decide(kind, candidates, rounds)
    if kind == "mppi":
        made["pytorch-mppi"] = lambda: mppi_decide(candidates, rounds)
    there = lambda name: importlib.util.find_spec(name.replace("-", "_")) is not None  # noqa: E731
    return {name: make() for name, make in made.items() if there(name)}


# -- measuring ---------------------------------------------------------------------------------------------------------


def milliseconds(decide: Decide, calls: int) -> float:
    """Of one decision, from several states in turn."""
    begin = time.perf_counter()
    for call in range(calls):
        decide(call % STATES)
    return 1e3 * (time.perf_counter() - begin) / calls


def faster_threads(decide: Decide) -> int:
    """The number of PyTorch's threads, one or all, with which it is faster."""
    import torch

    def taken(threads: int) -> float:
        torch.set_num_threads(threads)
        first = common.seconds(lambda: decide(0))
        return min(milliseconds(decide, 1) for _ in range(3 if first < 1 else 1))

    return min({1, common.PINNED}, key=taken)


def with_threads(decide: Decide, threads: int) -> Decide:
    """A decision with so many threads of PyTorch."""
    import torch

    def decided(number: int) -> np.ndarray:
        torch.set_num_threads(threads)
        return decide(number)

    return decided


def operations(candidates: int, rounds: int) -> float:
    """Floating-point operations of the networks in a decision: two for each weight that a step of a candidate meets.

    Of the last layer only the reward's mean counts, though more may be computed.
    """
    joined, cell = (LATENT + ACTIONS) * MEMORY, 6 * MEMORY * MEMORY
    prior, decoder = MEMORY * MEMORY + 2 * MEMORY * LATENT, (MEMORY + LATENT) * MEMORY + MEMORY
    return 2.0 * candidates * rounds * HORIZON * (joined + cell + prior + decoder)


@cache
def peak() -> float:
    """Floating-point operations a second of a product of two matrices of 1024 x 1024 in 32 bits: the best of ten."""
    import jax
    import jax.numpy as jnp

    one = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), jnp.float32)
    multiply = jax.jit(lambda a, b: a @ b)
    multiply(one, one).block_until_ready()
    return 2.0 * 1024**3 / min(common.seconds(lambda: multiply(one, one).block_until_ready()) for _ in range(10))


def deciding(kind: str, candidates: int, rounds: int, options: common.Options) -> common.Case:
    """Milliseconds of a decision, and what plans earn."""
    repeats = options.repeats or (3 if options.quick else 7)
    network()
    decide, others = ours(kind, candidates, rounds), peers(kind, candidates, rounds)
    compiling = common.seconds(lambda: decide(0))
    threads = {name: faster_threads(other) for name, other in others.items()}
    deciders = {"ours": decide} | {name: with_threads(other, threads[name]) for name, other in others.items()}
    calls = max(1, min(STATES, 8000 // (candidates * rounds)))
    timed = {name: lambda each=each: milliseconds(each, calls) for name, each in deciders.items()}
    found = common.in_turn(timed, repeats)

    def quality(each: Decide) -> list[float] | None:
        if len(each(0)) != HORIZON:
            return None
        return [earns()(number, each(number)) for number in range(STATES)]

    earned = {name: quality(each) for name, each in deciders.items()}
    if "mbrl" in others:
        earned["mbrl, one noise for all"] = quality(mbrl_decide(kind, candidates, rounds, True))
    nothing = [earns()(number, np.zeros((HORIZON, ACTIONS), np.float32)) for number in range(STATES)]
    made = {}
    for name in others:
        difference = None if earned[name] is None else float(np.mean(earned["ours"]) - np.mean(earned[name]))
        value, ratio = statistics.median(found[name]), common.ratio(found["ours"], found[name])
        made[name] = common.Peer(common.version(name), value, ratio, difference)
    value = statistics.median(found["ours"])
    flops = operations(candidates, rounds)
    details = {
        "milliseconds a decision": {name: [round(value, 2) for value in values] for name, values in found.items()},
        "earned, mean over states": {
            "by doing nothing": round(float(np.mean(nothing)), 3),
            **{name: round(float(np.mean(each)), 3) for name, each in earned.items() if each is not None},
        },
        "GFLOP a decision": round(flops / 1e9, 3),
        "share of the peak of matrix products": {
            name: round(flops / (1e-3 * statistics.median(values)) / peak(), 3) for name, values in found.items()
        },
        "that peak, GFLOP a second": round(peak() / 1e9, 1),
        "threads of PyTorch, the faster of 1 and all": threads,
    }
    what = f"{candidates} candidates, {HORIZON} steps, {rounds} rounds"
    return common.Case(f"{kind}-{candidates}", what, "ms", value, compiling, made, details)


def growth(options: common.Options) -> common.Case:
    """Decisions a second by the number of candidates, one measure of each in turn."""
    sizes = GROWTH[:3] if options.quick else GROWTH
    rates: dict[str, list[float]] = {}
    compiling = 0.0
    for candidates in sizes:
        decide, others = ours("cem", candidates, 10), peers("cem", candidates, 10)
        compiling += common.seconds(lambda decide=decide: decide(0))
        deciders = {"veil": decide}
        for name, other in others.items():
            deciders[name] = with_threads(other, faster_threads(other))
        timed = {name: lambda each=each: milliseconds(each, 1) for name, each in deciders.items()}
        for name, values in common.in_turn(timed, options.repeats or 5).items():
            rates.setdefault(name, []).append(1e3 / statistics.median(values))
    if options.out is not None:
        drawn(sizes, rates, options.out / "planning-growth.png")
    made = {
        name: common.Peer(common.version(name), 1e3 / each[-1], rates["veil"][-1] / each[-1])
        for name, each in rates.items()
        if name != "veil"
    }
    details = {
        f"decisions a second of {', '.join(map(str, sizes))} candidates": {
            name: [round(value, 2) for value in values] for name, values in rates.items()
        }
    }
    what = f"{sizes[-1]} candidates, {HORIZON} steps, 10 rounds"
    return common.Case("growth", what, "ms", 1e3 / rates["veil"][-1], compiling, made, details)


def drawn(sizes: Any, rates: dict[str, list[float]], path: Any) -> None:
    """The picture of ``growth``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(5.0, 3.6), layout="constrained")
    for name, values in rates.items():
        axes.loglog(sizes, values, "o-", label=name)
    axes.set(xlabel="candidates", ylabel="decisions a second", title=f"{HORIZON} steps, 10 rounds")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


CASES: dict[str, common.Function] = {
    "cem-16": lambda options: deciding("cem", 16, 3, options),
    "cem-64": lambda options: deciding("cem", 64, 5, options),
    "cem-1000": lambda options: deciding("cem", 1000, 10, options),
    "icem-64": lambda options: deciding("icem", 64, 3, options),
    "mppi-64": lambda options: deciding("mppi", 64, 1, options),
    "mppi-1000": lambda options: deciding("mppi", 1000, 1, options),
    "growth": growth,
}

if __name__ == "__main__":
    common.main("planning", __doc__, CASES, ("cem-16", "icem-64", "mppi-64"))
