"""Policies of chunks: training steps and decisions a second of flow matching and diffusion, beside PyTorch.

A chunk of 16 actions of 2 numbers given 2 observations of 20 numbers (the sizes of Diffusion Policy's PushT with
keypoints, Chi et al. 2023), a residual network of width 512 and 3 blocks, AdamW, a moving average of the parameters.
PyTorch's is the same network, path and loss, written the straightforward way: eager, fused AdamW, the average by
``AveragedModel`` over a list of tensors at once.

* ``train-flow-matching``, ``train-diffusion``: milliseconds of a training step on 256 chunks: ours ``Trainer.step`` in
  a compiled scan. ``quality``: PyTorch's loss minus ours, each the mean of the last quarter of equally many steps; its
  standard error is in the details.
* ``act-flow-matching`` (10 steps of the flow), ``act-diffusion`` (16 steps of the chain): milliseconds of one decision
  for one observation, numbers in, numbers out: ours ``Policy.decide``, compiled; PyTorch's in inference mode.

PyTorch has the faster of one thread and all for each.
"""

import statistics
import time
from typing import Any

import common
import numpy as np

EPISODES, LENGTH, SEEN, ACTIONS, OBSERVATIONS, HORIZON = 100, 100, 20, 2, 2, 16
WIDTH, BLOCKS, BATCH, RATE, DECAY, AVERAGE = 512, 3, 256, 1e-3, 1e-4, 0.999
FLOW_STEPS, CHAIN_STEPS = 10, 16
LOW, HIGH = -12.0, 8.0  # of the diffusion's path, as veil.paths.LogLinear has them
SCAN = 20  # steps in a compiled call


def episodes() -> tuple[np.ndarray, np.ndarray]:
    """Actions [E, T, 2] and observations [E, T, 20]: what is seen turns slowly, and one sign an episode is not seen."""
    rng = np.random.default_rng(0)
    steps = np.cumsum(0.1 * rng.normal(size=(EPISODES, LENGTH, SEEN)), 1)
    seen = np.tanh(steps + rng.normal(size=(EPISODES, 1, SEEN))).astype(np.float32)
    mixing, side = rng.normal(size=(SEEN, ACTIONS)) / SEEN**0.5, rng.choice([-1.0, 1.0], (EPISODES, 1, 1))
    actions = np.sin(2 * seen @ mixing) + side + 0.05 * rng.normal(size=(EPISODES, LENGTH, ACTIONS))
    return actions.astype(np.float32), seen


def plan(rng: np.random.Generator, count: int, steps: int) -> np.ndarray:
    """Rows of batches [steps, BATCH]."""
    return rng.integers(count, size=(steps, BATCH)).astype(np.int32)


# -- ours --------------------------------------------------------------------------------------------------------------


def our_model(kind: str) -> Any:
    """The field and what goes along it."""
    import veil

    net = veil.nets.Residual(WIDTH, BLOCKS)
    if kind == "flow-matching":
        return veil.ContinuousFlow(net, steps=FLOW_STEPS)
    return veil.Diffusion(net, draws=CHAIN_STEPS)


class Ours:
    """``Trainer.step`` in a scan, then a policy."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        import jax
        import jax.numpy as jnp
        import optax

        import veil
        from veil.units import Deviation

        actions, seen = episodes()
        data = veil.data.chunks(
            veil.data.episodes(actions, evidence=seen), observations=OBSERVATIONS, horizon=HORIZON, repeat=True
        )
        self.view, self.count, self.losses = data.view, len(data), []
        self.query, self.evidence = np.asarray(data.query), np.asarray(data.evidence)
        model, tool = our_model(kind), veil.Optimiser(optax.adamw(RATE, weight_decay=DECAY), average=AVERAGE)
        self.trainer = veil.Trainer(model, optimiser=tool, units=veil.Units.of(data, model, by=Deviation()))
        self.state = self.trainer.start(data, jax.random.key(seed))
        whole, trainer = self.trainer.batch(data), self.trainer

        def step(state: Any, rows: Any) -> Any:
            state, info = trainer.step(state, jax.tree.map(lambda leaf: leaf[rows], whole))
            return state, info.value

        self.scan = jax.jit(lambda state, rows: jax.lax.scan(step, state, rows))
        self.rng, self.numbers = np.random.default_rng(seed), jnp.asarray

    def train(self, steps: int) -> None:
        """So many steps; the losses are kept."""
        rows = plan(self.rng, self.count, steps)
        for at in range(0, steps, SCAN):
            self.state, values = self.scan(self.state, rows[at : at + SCAN])
            self.losses += (-np.asarray(values)).tolist()

    def decider(self) -> Any:
        """A function of one pair of observations."""
        import equinox as eqx
        import jax

        import veil

        model, _ = self.trainer.result(self.state)
        arrays, rest = eqx.partition(veil.Policy(model, view=self.view), eqx.is_array)
        decide = jax.jit(lambda arrays, seen, key: eqx.combine(arrays, rest).decide(seen, key))
        keys = list(jax.random.split(jax.random.key(1), 64))
        calls = iter(range(10**9))
        return lambda seen: np.asarray(decide(arrays, seen, keys[next(calls) % 64]))


# -- PyTorch's ---------------------------------------------------------------------------------------------------------


def torch_network() -> Any:
    """The same network in PyTorch, starting as ours does."""
    import torch
    from torch import nn

    def linear(inputs: int, outputs: int, gain: float) -> Any:
        made = nn.Linear(inputs, outputs)
        nn.init.normal_(made.weight, std=(2 * gain / inputs) ** 0.5)
        nn.init.zeros_(made.bias)
        return made

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = HORIZON * ACTIONS
            given, narrow = OBSERVATIONS * SEEN, WIDTH // 2
            self.entry = linear(size + given, WIDTH, 0.5)
            embedding = [linear(13 + given, narrow, 0.5), nn.SiLU(), linear(narrow, narrow, 0.5), nn.SiLU()]
            self.embedding = nn.Sequential(*embedding)
            self.conditions = nn.ModuleList([linear(narrow, WIDTH, 0.5) for _ in range(BLOCKS)])
            self.first = nn.ModuleList([linear(WIDTH, WIDTH, 0.5) for _ in range(BLOCKS)])
            self.second = nn.ModuleList([linear(WIDTH, WIDTH, 0.05) for _ in range(BLOCKS)])
            self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(BLOCKS + 1)])
            self.output = linear(WIDTH, size, 0.01)
            frequencies = 2 * np.pi * torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
            self.register_buffer("frequencies", frequencies)

        def forward(self, value: Any, when: Any, given: Any) -> Any:
            phases = when[:, None] * self.frequencies
            given = given.flatten(1)
            times = torch.cat([when[:, None], phases.sin(), phases.cos()], 1).expand(len(given), -1)
            seen = self.embedding(torch.cat([times, given], 1))
            state = self.entry(torch.cat([value.flatten(1), given], 1))
            for first, second, each, norm in zip(self.first, self.second, self.conditions, self.norms, strict=False):
                state = state + second(nn.functional.silu(first(norm(state)) + each(seen)))
            return self.output(self.norms[-1](state)).view_as(value)

    return Network()


class Theirs:
    """Training and decisions in PyTorch."""

    def __init__(self, kind: str, ours: Ours, seed: int = 0) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        torch.manual_seed(seed)
        self.kind, self.losses = kind, []
        self.units = [(part.mean(0), part.std(0) + 1e-6) for part in (ours.query, ours.evidence)]
        parts = zip((ours.query, ours.evidence), self.units, strict=True)
        self.query, self.evidence = (torch.from_numpy((part - mean) / scale) for part, (mean, scale) in parts)
        self.network = torch_network()
        self.tool = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
        self.rng, self.threads = np.random.default_rng(seed), common.PINNED

    def path(self, when: Any) -> tuple[Any, Any, Any, Any]:
        """α, σ and the two factors of the direction."""
        import torch

        if self.kind == "flow-matching":
            half = torch.full_like(when, 0.5**0.5)
            return 1 - when, when, -half, half
        gamma = LOW + (HIGH - LOW) * when
        alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        return alpha, sigma, -sigma, alpha  # of a circle: its tangent

    def step(self, rows: Any) -> Any:
        """One step of training."""
        import torch

        clean, given = self.query[rows], self.evidence[rows]
        when, noise = torch.rand(len(rows)), torch.randn_like(clean)
        alpha, sigma, to_clean, to_noise = (each[:, None, None] for each in self.path(when))
        found = self.network(alpha * clean + sigma * noise, when, given)
        loss = torch.nn.functional.mse_loss(found, to_clean * clean + to_noise * noise)
        self.tool.zero_grad(set_to_none=True)
        loss.backward()
        self.tool.step()
        self.average.update_parameters(self.network)
        return loss

    def train(self, steps: int) -> None:
        """So many steps; the losses are kept."""
        import torch

        torch.set_num_threads(self.threads)
        rows = torch.from_numpy(plan(self.rng, len(self.query), steps)).long()
        losses = [self.step(each).detach() for each in rows]
        self.losses += [float(loss) for loss in losses]

    def decider(self) -> Any:
        """A function of one pair of observations."""
        import torch

        (mean, scale), (shift, spread) = self.units
        network = self.average.module.eval()
        when = torch.linspace(1, 0, FLOW_STEPS + 1)
        if self.kind != "flow-matching":
            low, high = np.arctan(np.exp(LOW / 2)), np.arctan(np.exp(HIGH / 2))
            gamma = 2 * np.log(np.tan(np.linspace(high, low, CHAIN_STEPS + 1)))
            when = torch.from_numpy(((gamma - LOW) / (HIGH - LOW)).astype(np.float32))
        alpha, sigma, _, _ = self.path(when)

        def flow(value: Any, given: Any) -> Any:
            for i in range(FLOW_STEPS):
                direction = network(value, when[i : i + 1], given)
                value = value + (when[i + 1] - when[i]) * 2**0.5 * direction
            return value

        def chain(value: Any, given: Any) -> Any:
            for i in range(CHAIN_STEPS):
                direction = network(value, when[i : i + 1], given)
                clean = alpha[i] * value - sigma[i] * direction
                ratio = alpha[i] / alpha[i + 1]
                between = sigma[i] ** 2 - (ratio * sigma[i + 1]) ** 2
                mean = (ratio * sigma[i + 1] ** 2 * value + alpha[i + 1] * between * clean) / sigma[i] ** 2
                value = mean + between.sqrt() * sigma[i + 1] / sigma[i] * torch.randn_like(value)
            return value / alpha[-1]

        walk = flow if self.kind == "flow-matching" else chain

        def decide(seen: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                given = torch.from_numpy((seen - shift) / spread)[None]
                return walk(torch.randn(1, HORIZON, ACTIONS), given)[0].numpy() * scale + mean

        return decide


class Clock:
    """Milliseconds of a repeated call by the wall, and by the processor, which other work disturbs less."""

    def __init__(self, function: Any, times: int) -> None:
        self.function, self.times, self.processor = function, times, []

    def __call__(self) -> float:
        wall, busy = time.perf_counter(), time.process_time()
        self.function()
        self.processor.append(1e3 * (time.process_time() - busy) / self.times)
        return 1e3 * (time.perf_counter() - wall) / self.times


def fewest_seconds(function: Any, calls: int) -> int:
    """The number of PyTorch's threads, one or all, with which it is faster."""
    import torch

    def taken(threads: int) -> float:
        torch.set_num_threads(threads)
        function()
        return min(common.seconds(function) for _ in range(calls))

    return min({1, common.PINNED}, key=taken)


# -- cases -------------------------------------------------------------------------------------------------------------


def training(kind: str, options: common.Options) -> common.Case:
    """Milliseconds a step, and the loss that equally many steps reach."""
    repeats, steps = options.repeats or (3 if options.quick else 9), 40 if options.quick else 100
    ours = Ours(kind)
    theirs = Theirs(kind, ours)
    compiling = common.seconds(lambda: ours.train(SCAN))
    trial = Theirs(kind, ours)  # another one: threads are chosen without a step of the one that is compared
    theirs.threads = fewest_seconds(lambda: trial.step(np.arange(BATCH)), 5)
    theirs.train(SCAN)
    clocks = {"ours": Clock(lambda: ours.train(steps), steps), "pytorch": Clock(lambda: theirs.train(steps), steps)}
    found = common.in_turn(clocks, repeats)
    last = {
        name: np.array(each.losses[-len(each.losses) // 4 :]) for name, each in (("ours", ours), ("pytorch", theirs))
    }
    means = {name: float(losses.mean()) for name, losses in last.items()}
    noise = sum(losses.var() / len(losses) for losses in last.values()) ** 0.5
    peer = common.Peer(
        common.version("torch"),
        statistics.median(found["pytorch"]),
        common.ratio(found["ours"], found["pytorch"]),
        means["pytorch"] - means["ours"],
    )
    details = {
        "milliseconds a step": {name: [round(value, 2) for value in values] for name, values in found.items()},
        "of all processors, median": {
            name: round(statistics.median(clock.processor), 2) for name, clock in clocks.items()
        },
        "threads of PyTorch, the faster of 1 and all": theirs.threads,
        f"mean squared error, steps {3 * len(ours.losses) // 4} to {len(ours.losses)}": means,
        "standard error of their difference": round(float(noise), 5),
    }
    value = statistics.median(found["ours"])
    return common.Case(f"train-{kind}", "a training step", "ms", value, compiling, {"pytorch": peer}, details)


def acting(kind: str, options: common.Options) -> common.Case:
    """Milliseconds of one decision."""
    repeats, calls = options.repeats or (5 if options.quick else 15), 20 if options.quick else 100
    ours = Ours(kind)
    theirs = Theirs(kind, ours)
    steps = 2 * SCAN if options.quick else 400
    ours.train(steps), theirs.train(steps)
    seen = ours.evidence[:: len(ours.evidence) // calls][:calls]
    decide, other = ours.decider(), theirs.decider()
    compiling = common.seconds(lambda: decide(seen[0]))
    threads = fewest_seconds(lambda: other(seen[0]), 10)
    deciders = {"ours": decide, "pytorch": other}
    clocks = {
        name: Clock(lambda function=function: [function(each) for each in seen], len(seen))
        for name, function in deciders.items()
    }
    found = common.in_turn(clocks, repeats)
    spread = {name: np.std([function(each) for each in seen], 0).mean() for name, function in deciders.items()}
    peer = common.Peer(
        common.version("torch"),
        statistics.median(found["pytorch"]),
        common.ratio(found["ours"], found["pytorch"]),
    )
    details = {
        "milliseconds a decision": {name: [round(value, 3) for value in values] for name, values in found.items()},
        "of all processors, median": {
            name: round(statistics.median(clock.processor), 3) for name, clock in clocks.items()
        },
        "threads of PyTorch, the faster of 1 and all": threads,
        "standard deviation of an action over decisions": {
            name: round(float(value), 3) for name, value in spread.items()
        },
        "that of the data": round(float(ours.query.std(0).mean()), 3),
    }
    value = statistics.median(found["ours"])
    return common.Case(f"act-{kind}", "one decision", "ms", value, compiling, {"pytorch": peer}, details)


CASES: dict[str, common.Function] = {
    "train-flow-matching": lambda options: training("flow-matching", options),
    "train-diffusion": lambda options: training("diffusion", options),
    "act-flow-matching": lambda options: acting("flow-matching", options),
    "act-diffusion": lambda options: acting("diffusion", options),
}

if __name__ == "__main__":
    common.main("policy", __doc__, CASES, tuple(CASES))
