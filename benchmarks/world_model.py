"""World-model learning: gradient steps a second, the windows drawn from a replay included, beside three of PyTorch.

The sizes of ``size1m`` are those of DreamerV3's configuration of that name (Hafner et al. 2023): 512 deterministic
numbers, 32 codes of 4 categories, layers of 64, convolutions from depth 4, rewards in 255 bins, 16 windows of 64 steps,
pictures [64, 64, 3], kept as bytes. They are the same for all; what differs from that configuration is what not all
here can be: a full GRU instead of one in eight blocks, no norms of layers, 4x4 convolutions of stride 2 of 4, 8, 16 and
32 channels, one layer in the prior, no uniform mixed in, Adam at 1e-4 behind clipping. ``recipe`` has the pictures and
the batch of ``recipes/picture_agent.py``, 8 windows of 50 steps of [32, 32, 1], 128 deterministic numbers, layers of
128, 16 to 64 channels, and codes, too.

Ours is ``veil.StateSpace`` with ``dynamics.Recurrent``, ``Sequential`` and ``ELBO(StraightThrough())``, with KL balance
and one free nat a step, learned by ``Trainer.step`` on windows of ``Replay``. The layer before the GRU is narrowed from
512 to 64, and the decoder's linear map from the latent to all pixels, which the peers do not have and which would be
nine tenths of the weights, is cut down to one row: their arrays are replaced after ``initialise``. ``as it comes``, in
the details, is ``control.world_model`` of the same sizes: pyramids, that linear map, coins instead of squared errors.

* ``pytorch``: the same model written by hand, from copies of our weights; the pictures are bytes in one tensor. Before
  anything is timed, objective and norm of the gradient of the same weights, batch and noise must be the same.
  ``quality``: that objective, nats a step, ours minus theirs. ``pytorch (compiled)``: its parts compiled.
* ``sheeprl``: ``world_model_learning`` of its DreamerV3 on batches of its own buffer, a configuration of these sizes.
  It has layer norms, mixes in 1 % of uniform, and no layer between encoder and posterior, or before the decoder's.
* ``torchrl``: ``RSSMRolloutV3`` and ``DreamerV3ModelLoss`` on slices of its own buffer, its plain GRU chosen. It has
  5x5 kernels (of odd sizes only), root mean square norms of images and heads, no such layers either, and draws of the
  prior, too.

What the last two learn is not compared: models, losses and starts are their own. In the details: how many numbers each
trains, and the most memory that a process with it alone holds. PyTorch has the faster of one thread and all, and the
hand-written model the faster layout of images. A peer that is not installed is left out, and the details say so.
TorchRL and PyTorch come with ``make benchmark-environment``; sheeprl asks, for films, for a pillow older than veil's,
and is added without what it asks for:

    .venv-bench/bin/pip install --no-deps -r benchmarks/requirements-sheeprl.txt
    .venv-bench/bin/python benchmarks/world_model.py

``--quick`` leaves out what takes long to compile, and memory.
"""

import importlib.util
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import common
import numpy as np
from rssm import blobs
from vae import torch_threads

ACTIONS, BINS, RATE, CLIP = 6, 255, 1e-4, 1000.0
BALANCE, FREE, WARMTH = 0.8, 1.0, 0.5  # the prior's share of the KL's gradient, nats a step, Gumbel-softmax
EPISODES, LENGTH = 20, 200


@dataclass(frozen=True)
class Sizes:
    """What all models of a case have in common."""

    side: int
    channels: int
    batch: int
    steps: int
    memory: int
    hidden: int
    levels: tuple[int, ...]
    codes: int = 32
    categories: int = 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture."""
        return self.side, self.side, self.channels

    @property
    def latent(self) -> int:
        """Numbers of all codes."""
        return self.codes * self.categories

    @property
    def coarsest(self) -> int:
        """Height and width of what the convolutions leave."""
        return self.side >> len(self.levels)


SIZES = {
    "size1m": Sizes(64, 3, 16, 64, 512, 64, (4, 8, 16, 32)),
    "recipe": Sizes(32, 1, 8, 50, 128, 128, (16, 32, 64)),
}


@dataclass
class Contender:
    """``run(n)`` takes n gradient steps and returns the seconds of each; ``numbers``: how many are trained."""

    run: Callable[[int], float]
    numbers: int
    chosen: str = ""  # what was tried and found the fastest
    resting: Callable[[int], float] | None = None  # ``run`` on one batch that is there: what the replay does not cost


# -- what was seen -----------------------------------------------------------------------------------------------------


@cache
def episodes(sizes: Sizes) -> tuple[Any, ...]:
    """Episodes of a blob that the first number of an action pushes; every other ends by itself."""
    from veil.data import Episode

    found = []
    for seed in range(EPISODES):
        frames, pushes = blobs(1, seed, LENGTH + 1, sizes.side)
        seen = np.clip(255 * (0.15 * frames[0, ..., : sizes.channels] + 0.04), 0, 255).astype(np.uint8)
        action = np.random.default_rng(seed).uniform(-1, 1, (LENGTH, ACTIONS)).astype(np.float32)
        action[:, 0] = pushes[0, 1:, 0]
        reward = seen[1:].mean((1, 2, 3)).astype(np.float32) / 255
        found.append(Episode({"frame": seen}, {"action": action}, reward, terminated=seed % 2 == 0))
    return tuple(found)


@cache
def replay(sizes: Sizes) -> Any:
    """Ours, with all of them."""
    from veil.control.agent.models import query
    from veil.control.agent.replay import Replay
    from veil.data import Recording

    found = Replay(Recording(list(episodes(sizes))).seen_as(query({"frame": sizes.shape}), "action"))
    for each in episodes(sizes):
        found.add(each)
    return found


def windows(sizes: Sizes, seed: int, number: int = 0) -> Any:
    """A batch as the replay has it."""
    from veil.control.agent.replay import Uniform

    return replay(sizes).windows(np.random.default_rng([seed, number]), sizes.batch, sizes.steps, Uniform())


def to_start(sizes: Sizes) -> Any:
    """The first batch in which an episode ended: constants start at averages, and of none the logit would be -inf."""
    from veil.control.agent.replay import numbers

    batches = (windows(sizes, 1, number) for number in itertools.count())
    return numbers(next(each for each in batches if each.query["terminated"].any()))


# -- ours --------------------------------------------------------------------------------------------------------------


@cache
def same_sizes(sizes: Sizes) -> tuple[Any, Any]:
    """Model and posterior, started, of the sizes that all have."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import veil
    from veil.parts.heads import Bernoulli, HomoscedasticGaussian, TwoHot
    from veil.parts.joint import Branches, Joint
    from veil.parts.nets import GRU, Dense
    from veil.posterior import Now, Sequential

    images = veil.images.ConvolutionalDecoder(sizes.shape, sizes.levels, sizes.hidden, "silu")
    net = veil.MLP((sizes.hidden,), "silu")
    head = Joint({"frame": HomoscedasticGaussian(shared=True), "reward": TwoHot(bins=BINS), "terminated": Bernoulli()})
    decoder = Branches({"frame": images, "reward": net, "terminated": net})
    dynamics = veil.dynamics.Recurrent(veil.priors.Codes(sizes.codes, sizes.categories), sizes.memory, net)
    few, keys = to_start(sizes), jax.random.split(jax.random.key(0), 4)
    model = veil.StateSpace(dynamics, head, decoder).initialise(few, None, keys[0])
    model = eqx.tree_at(
        lambda model: (model.dynamics.joined, model.dynamics.cell, model.decoder.parts["frame"].linear),
        model,
        (
            Dense.initialise(sizes.latent + ACTIONS, sizes.hidden, keys[1]),
            GRU(sizes.memory).initialise(sizes.hidden, keys[2]),
            jnp.zeros((1, sizes.memory + sizes.latent)),  # all pixels are brighter, or darker
        ),
    )
    posterior = Sequential(Branches({"frame": images}).mirrored().only(), Now(), combiner=net)
    one = jax.tree.map(lambda leaf: leaf[0], few)
    return model, posterior.initialise(model, one, len(few), keys[3])


def as_it_comes(sizes: Sizes) -> tuple[Any, Any]:
    """What ``world_model`` makes of these sizes; a trainer starts it."""
    import veil
    from veil.control import world_model
    from veil.parts.heads import TwoHot

    codes = veil.priors.Codes(sizes.codes, sizes.categories)
    rest = {"memory": sizes.memory, "levels": sizes.levels, "width": sizes.hidden, "reward": TwoHot(bins=BINS)}
    return world_model({"frame": sizes.shape}, latent=codes, **rest)


def objective() -> Any:
    """What is maximised."""
    import veil
    from veil.objective import Balanced, FreeNats, StraightThrough

    return veil.ELBO(StraightThrough(WARMTH), kl=(Balanced(BALANCE), FreeNats(FREE)))


class Ours:
    """Training as an agent does it: windows of bytes from the replay, one compiled step."""

    def __init__(self, sizes: Sizes, pair: tuple[Any, Any]) -> None:
        import jax
        import optax

        import veil
        from veil.control.agent.replay import numbers

        trainer = veil.Trainer(*pair, objective(), veil.Optimiser(optax.adam(RATE), clip=CLIP, bounded=True))
        few = to_start(sizes)
        example = veil.Data(*jax.tree.map(np.asarray, (few.query, few.evidence)))
        self.sizes, self.number = sizes, 0
        self.state = trainer.start(example, jax.random.key(1))
        self.step = jax.jit(lambda state, raw: trainer.step(state, numbers(raw)))

    def run(self, steps: int) -> float:
        """Seconds a step."""
        return self._taken(steps, lambda number: windows(self.sizes, 0, number))

    def resting(self, steps: int) -> float:
        """Seconds a step on a batch that was drawn before."""
        import jax

        batch = jax.device_put(windows(self.sizes, 0))
        return self._taken(steps, lambda number: batch)

    def _taken(self, steps: int, batch: Callable[[int], Any]) -> float:
        import jax

        begin = time.perf_counter()
        for number in range(self.number, self.number + steps):
            self.state, info = self.step(self.state, batch(number))
        self.number += steps
        jax.block_until_ready((self.state, info))
        return (time.perf_counter() - begin) / steps

    @property
    def pair(self) -> tuple[Any, Any]:
        """Model and posterior as they are now."""
        return self.state.learned.model, self.state.learned.posterior

    @property
    def numbers(self) -> int:
        """How many are trained."""
        import jax

        from veil.learning.gradient import trainable

        return sum(leaf.size for leaf in jax.tree.leaves(trainable(self.pair)))


def judged(sizes: Sizes, pair: tuple[Any, Any]) -> tuple[float, float, np.ndarray]:
    """On one batch: the objective, nats a datum, the norm of its gradient, and the Gumbel noise [B, T, L, C] it met."""
    import equinox as eqx
    import jax
    import optax

    from veil.control.agent.replay import numbers

    batch, goal = numbers(windows(sizes, 2)), objective()
    keys = jax.random.split(jax.random.key(3), sizes.batch)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def value(pair: Any, batch: Any) -> Any:
        return jax.vmap(lambda datum, key: goal(*pair, datum, key).value)(batch, keys).mean()

    def drawn(key: Any) -> Any:  # as a chain draws: each step has its own key
        shape = sizes.codes, sizes.categories
        return jax.vmap(lambda t: jax.random.gumbel(jax.random.fold_in(key, t), shape))(jax.numpy.arange(sizes.steps))

    found, gradient = value(pair, batch)
    return float(found), float(optax.tree.norm(gradient)), np.asarray(jax.vmap(drawn)(keys))


# -- PyTorch, by hand --------------------------------------------------------------------------------------------------


def by_hand(sizes: Sizes, pair: tuple[Any, Any]) -> Any:
    """The same model as a module of PyTorch, with copies of our weights."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from veil.maths.symlog import symlog_grid

    model, posterior = pair
    deep, reader, decoder = model.dynamics, posterior.net.parts["frame"], model.decoder.parts["frame"]
    place = sizes.coarsest, sizes.coarsest, sizes.levels[-1]
    tensor = lambda leaf: torch.from_numpy(np.array(leaf))  # noqa: E731

    def dense(layer: Any, rows: Any = lambda w: w, columns: Any = lambda w: w) -> nn.Linear:
        made = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        with torch.no_grad():
            made.weight.copy_(tensor(columns(rows(np.array(layer.weight)))))
            made.bias.copy_(tensor(rows(np.array(layer.bias))))
        return made

    def convolution(layer: Any, kind: Any) -> Any:
        inputs, outputs = layer.weight.shape[2:]
        made = kind(inputs, outputs, 4, 2, 1)
        with torch.no_grad():
            order = (3, 2, 0, 1) if kind is nn.Conv2d else (2, 3, 0, 1)
            made.weight.copy_(tensor(np.array(layer.weight).transpose(order)))
            made.bias.copy_(tensor(layer.bias))
        return made

    # channels come last in ours and first here
    first = lambda w: w.reshape(*place, -1).transpose(2, 0, 1, 3).reshape(w.shape)  # noqa: E731
    constants = model.output.head.split(model.output.constant(), model.output.shape)
    frame = np.array(constants["frame"]).reshape(sizes.shape).transpose(2, 0, 1)

    class WorldModel(nn.Module):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.down = nn.Sequential(
                *(part for layer in reader.layers for part in (convolution(layer, nn.Conv2d), nn.SiLU()))
            )
            self.read = dense(reader.dense, columns=lambda w: first(w.T).T)
            self.joined, self.cell = dense(deep.joined), nn.GRUCell(sizes.hidden, sizes.memory)
            with torch.no_grad():
                for name, layer in (("ih", deep.cell.outer), ("hh", deep.cell.inner)):
                    getattr(self.cell, f"weight_{name}").copy_(tensor(layer.weight))
                    getattr(self.cell, f"bias_{name}").copy_(tensor(layer.bias))
            self.prior = nn.Sequential(dense(deep.net.layers[0]), nn.SiLU(), dense(deep.output))
            self.posterior = nn.Sequential(dense(posterior.combiner.layers[0]), nn.SiLU(), dense(posterior.output))
            self.unread = nn.Sequential(
                dense(decoder.dense[0]), nn.SiLU(), dense(decoder.dense[1], rows=first), nn.SiLU()
            )
            up = [part for layer in decoder.layers for part in (convolution(layer, nn.ConvTranspose2d), nn.SiLU())]
            self.up = nn.Sequential(*up[:-1])
            self.bright = nn.Parameter(tensor(decoder.linear))
            self.frame, self.log_scale = nn.Parameter(tensor(frame)), nn.Parameter(tensor(self._scale()))
            self.heads = nn.ModuleDict({name: self._head(name) for name in ("reward", "terminated")})
            self.constants = nn.ParameterDict({name: tensor(constants[name]) for name in self.heads})
            self.register_buffer("grid", torch.from_numpy(symlog_grid(-20.0, 20.0, BINS).astype(np.float32)))

        @staticmethod
        def _scale() -> Any:
            return model.output.head.parts["frame"].log_scale

        @staticmethod
        def _head(name: str) -> Any:
            return nn.Sequential(
                dense(model.decoder.parts[name].layers[0]), nn.SiLU(), dense(model.decoder.outputs[name])
            )

        def encoded(self, frames: Any) -> Any:
            return F.silu(self.read(self.down(frames).flatten(1)))

        def decoded(self, shown: Any) -> Any:
            made = self.up(self.unread(shown).view(len(shown), place[2], *place[:2]))
            return made + self.frame + F.linear(shown, self.bright)[:, :, None, None]

        def advance(self, h: Any, z: Any, action: Any, feature: Any, noise: Any, kept: Any) -> tuple[Any, Any, Any]:
            """One step: memory, codes, and the posterior's logits."""
            h = self.cell(F.elu(self.joined(torch.cat([z * kept, action * kept], 1))), h * kept)
            logits = self.posterior(torch.cat([h, feature], 1)).view(noise.shape)
            soft = ((logits + noise) / WARMTH).softmax(-1)
            hard = F.one_hot(soft.argmax(-1), sizes.categories).to(soft.dtype)
            return h, (soft + (hard - soft).detach()).flatten(1), logits

        def forward(self, batch: Any, noise: Any) -> Any:
            """Minus the objective, nats a datum: arrays [T, B, ...], pictures [T, B, C, H, W] from 0 to 1."""
            count = noise.shape[1]
            features = self.encoded(batch["frame"].flatten(0, 1)).view(sizes.steps, count, -1)
            h, z = features.new_zeros(count, sizes.memory), features.new_zeros(count, sizes.latent)
            found = []
            for now in zip(batch["action"], features, noise, 1 - batch["reset"], strict=True):
                found.append(self.advance(h, z, *now))
                h, z, _ = found[-1]
            h, z, logits = (torch.stack(each).flatten(0, 1) for each in zip(*found, strict=True))
            q, p = logits.log_softmax(-1), self.prior(h).view(logits.shape).log_softmax(-1)
            kl = lambda q, p: (q.exp() * (q - p)).sum((1, 2))  # noqa: E731
            price = (BALANCE * kl(q.detach(), p) + (1 - BALANCE) * kl(q, p.detach())).clamp_min(FREE)
            shown = torch.cat([h, z], 1)
            away = (batch["frame"].flatten(0, 1) - self.decoded(shown)) * torch.exp(-self.log_scale)
            entries = away[0].numel()
            fit = -0.5 * away.square().flatten(1).sum(1) - entries * (self.log_scale + 0.5 * np.log(2 * np.pi))
            made = {name: net(shown) + self.constants[name] for name, net in self.heads.items()}
            ended = batch["terminated"].flatten()
            fit = fit - F.binary_cross_entropy_with_logits(made["terminated"][:, 0], ended, reduction="none")
            fit = fit + self.two_hot(made["reward"], batch["reward"].flatten())
            return (price - fit).view(sizes.steps, count).sum(0).mean()

        def two_hot(self, logits: Any, reward: Any) -> Any:
            above = torch.searchsorted(self.grid, reward).clamp(1, BINS - 1)
            low, high = self.grid[above - 1], self.grid[above]
            share = ((reward - low) / (high - low)).clamp(0, 1)
            pair = logits.log_softmax(1).gather(1, torch.stack([above - 1, above], 1))
            return (1 - share) * pair[:, 0] + share * pair[:, 1]

    torch.manual_seed(0)
    return WorldModel()


class ByHand:
    """Its training: bytes in one tensor, windows by index, Adam behind clipping."""

    def __init__(self, sizes: Sizes, pair: tuple[Any, Any], compiled: bool = False) -> None:
        import torch

        self.sizes, self.model = sizes, by_hand(sizes, pair)
        self.optimiser = torch.optim.Adam(self.model.parameters(), RATE, fused=True)
        every = windows_of_all(sizes)
        self.kept = {name: torch.from_numpy(array) for name, array in every.items()}
        if compiled:  # by parts, as the whole has its loop unrolled
            for part in ("encoded", "decoded", "advance"):
                setattr(self.model, part, torch.compile(getattr(self.model, part), dynamic=False))
        first = lambda: self.loss(self.batch(torch.arange(sizes.batch))).backward()  # noqa: E731
        layouts, taken = (torch.contiguous_format, torch.channels_last), {}
        for self.layout in layouts:  # no update while threads and layout are chosen
            self.model.to(memory_format=self.layout)
            threads = torch_threads(first)
            taken[min(common.seconds(first) for _ in range(3))] = self.layout, threads
        self.layout, self.threads = taken[min(taken)]
        self.model.to(memory_format=self.layout)
        self.optimiser.zero_grad()

    def batch(self, begins: Any) -> dict[str, Any]:
        """Windows from these places on [T, B, ...], pictures as numbers from 0 to 1, the channels first."""
        import torch

        rows = begins[None] + torch.arange(self.sizes.steps)[:, None]
        return self.ready({name: array[rows] for name, array in self.kept.items()})

    def ready(self, found: dict[str, Any]) -> dict[str, Any]:
        """Arrays [T, B, ...] as the model takes them."""
        frame = found["frame"].float() / 255
        count = len(frame)
        frame = frame.flatten(0, 1).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        reset = found["reset"].float()
        reset[0] = 1
        return found | {"frame": frame.unflatten(0, (count, -1)), "reset": reset[..., None]}

    def loss(self, batch: dict[str, Any], noise: Any = None) -> Any:
        """Minus the objective."""
        import torch

        if noise is None:
            shape = self.sizes.steps, self.sizes.batch, self.sizes.codes, self.sizes.categories
            noise = -torch.empty(shape).exponential_().log()
        return self.model(batch, noise)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        import torch

        torch.set_num_threads(self.threads)
        parameters, places = list(self.model.parameters()), len(self.kept["reset"]) - self.sizes.steps + 1
        begin = time.perf_counter()
        for _ in range(steps):
            value = self.loss(self.batch(torch.randint(places, (self.sizes.batch,))))
            self.optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            self.optimiser.step()
        return (time.perf_counter() - begin) / steps

    def judged(self, noise: np.ndarray) -> tuple[float, float]:
        """Objective and norm of its gradient, of the batch and the noise of ``judged``."""
        import torch

        raw = windows(self.sizes, 2)
        told = {**raw.query, "action": raw.evidence, "reset": raw.reset}
        batch = self.ready({name: torch.from_numpy(np.array(array)).transpose(0, 1) for name, array in told.items()})
        self.optimiser.zero_grad()
        value = self.loss(batch, torch.from_numpy(np.array(noise)).transpose(0, 1))
        value.backward()
        slopes = [each.grad.norm() for each in self.model.parameters()]
        self.optimiser.zero_grad()
        return -float(value.detach()), float(torch.stack(slopes).norm())


def windows_of_all(sizes: Sizes) -> dict[str, np.ndarray]:
    """All steps in a row, as one window of the replay."""
    from veil.control.agent.replay import Uniform

    found = replay(sizes).windows(np.random.default_rng(0), 1, len(replay(sizes)), Uniform())
    return {name: each[0] for name, each in {**found.query, "action": found.evidence, "reset": found.reset}.items()}


def hand_written(sizes: Sizes, compiled: bool) -> Contender:
    """The hand-written model, from a start like ours."""
    made = ByHand(sizes, same_sizes(sizes), compiled)
    chosen = f"{made.threads} threads, {str(made.layout).removeprefix('torch.')}"
    return Contender(made.run, sum(each.numel() for each in made.model.parameters()), chosen)


# -- the libraries -----------------------------------------------------------------------------------------------------


def sheeprl(sizes: Sizes) -> Contender:
    """DreamerV3's world model of sheeprl: its configuration, buffer, modules and update."""
    import gymnasium
    import hydra
    import torch
    from lightning.fabric import Fabric
    from omegaconf import OmegaConf
    from sheeprl.algos.dreamer_v2.utils import sample_batches
    from sheeprl.algos.dreamer_v3.agent import build_agent
    from sheeprl.algos.dreamer_v3.dreamer_v3 import world_model_learning
    from sheeprl.data.buffers import EnvIndependentReplayBuffer, SequentialReplayBuffer
    from sheeprl.utils.metric import MetricAggregator
    from sheeprl.utils.utils import dotdict

    MetricAggregator.disabled = True  # entropies are for people
    inside, hidden = "algo.world_model", sizes.hidden
    asked = {
        "algo.dense_units": hidden,
        "algo.mlp_layers": 1,
        f"{inside}.encoder.cnn_channels_multiplier": sizes.levels[0],
        f"{inside}.recurrent_model.recurrent_state_size": sizes.memory,
        f"{inside}.transition_model.hidden_size": hidden,
        f"{inside}.representation_model.hidden_size": hidden,
        f"{inside}.stochastic_size": sizes.codes,
        f"{inside}.discrete_size": sizes.categories,
        f"{inside}.reward_model.bins": BINS,
        f"{inside}.clip_gradients": CLIP,
        f"{inside}.optimizer.lr": RATE,
        "algo.per_rank_batch_size": sizes.batch,
        "algo.per_rank_sequence_length": sizes.steps,
        "env.screen_size": sizes.side,
        "env.num_envs": 1,
    }
    chosen = ["exp=dreamer_v3", "env=dummy", "algo=dreamer_v3_XS", *(f"{name}={each}" for name, each in asked.items())]
    with hydra.initialize_config_module("sheeprl.configs", version_base="1.3"):
        composed = hydra.compose("config", chosen)
    parts = OmegaConf.masked_copy(composed, ["algo", "env", "buffer", "distribution", "seed", "dry_run"])
    settings = dotdict(OmegaConf.to_container(parts, resolve=True))  # the rest names folders of a run
    settings["fabric"] = dotdict({"precision": "32-true"})
    fabric = Fabric(accelerator="cpu", devices=1)
    picture = gymnasium.spaces.Box(0, 255, (sizes.channels, sizes.side, sizes.side), np.uint8)
    torch.manual_seed(0)
    model, *_ = build_agent(fabric, [ACTIONS], True, settings, gymnasium.spaces.Dict({"rgb": picture}))
    optimiser = hydra.utils.instantiate(settings.algo.world_model.optimizer, model.parameters(), _convert_="all")
    optimiser = fabric.setup_optimizers(optimiser)
    buffer = EnvIndependentReplayBuffer(
        EPISODES * (LENGTH + 1), 1, obs_keys=("rgb",), buffer_cls=SequentialReplayBuffer, seed=0
    )
    for each in episodes(sizes):
        last = np.arange(LENGTH + 1) == LENGTH
        numbers = {
            "rgb": each.observations["frame"].transpose(0, 3, 1, 2),
            "actions": np.concatenate([each.actions["action"], np.zeros((1, ACTIONS), np.float32)]),
            "rewards": np.concatenate([[0.0], each.rewards]).astype(np.float32)[:, None],
            "terminated": (last & each.terminated).astype(np.float32)[:, None],
            "truncated": (last & (not each.terminated)).astype(np.float32)[:, None],
            "is_first": (np.arange(LENGTH + 1) == 0).astype(np.float32)[:, None],
        }
        buffer.add({name: array[:, None] for name, array in numbers.items()})

    def steps(count: int) -> float:
        begin = time.perf_counter()
        for batch in sample_batches(fabric, settings, buffer, count):
            world_model_learning(fabric, settings, model, optimiser, batch)
        return (time.perf_counter() - begin) / count

    trained = sum(each.numel() for each in model.parameters())
    return with_threads(steps, trained)


def torchrl(sizes: Sizes) -> Contender:
    """DreamerV3's world model of TorchRL: its modules, loss and buffer, and the loop that its examples have."""
    import torch
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule, TensorDictSequential
    from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
    from torchrl.modules import DreamerV3ImageDecoder, DreamerV3ImageEncoder, DreamerV3MLP
    from torchrl.modules.models.model_based import RSSMPosteriorV3, RSSMPriorV3, RSSMRolloutV3
    from torchrl.modules.tensordict_module import WorldModelWrapper
    from torchrl.objectives import DreamerV3ModelLoss

    torch.manual_seed(0)
    hidden, channels, depth = sizes.hidden, sizes.channels, sizes.levels[0]
    times = tuple(level // depth for level in sizes.levels)
    picture = channels, sizes.side, sizes.side
    encoder = DreamerV3ImageEncoder(channels, depth, times)
    codes = {"num_categoricals": sizes.codes, "num_classes": sizes.categories}
    prior = RSSMPriorV3(
        action_shape=(ACTIONS,), action_dim=ACTIONS, hidden_dim=hidden, rnn_hidden_dim=sizes.memory, **codes
    )
    embedded = encoder.output_features(picture)
    posterior = RSSMPosteriorV3(hidden, rnn_hidden_dim=sizes.memory, obs_embed_dim=embedded, **codes)
    shown = [("next", "state"), ("next", "belief")]
    size, after = sizes.memory + sizes.latent, lambda name: [("next", name)]
    module = lambda net, *names: TensorDictModule(net, shown, after(*names))  # noqa: E731
    rollout = RSSMRolloutV3(
        TensorDictModule(
            prior, ["state", "belief", "action"], [("next", "prior_logits"), ("next", "state"), ("next", "belief")]
        ),
        TensorDictModule(
            posterior,
            [("next", "belief"), ("next", "encoded_latents")],
            [("next", "posterior_logits"), ("next", "state")],
        ),
    )
    world = WorldModelWrapper(
        TensorDictSequential(
            TensorDictModule(encoder, after("pixels"), after("encoded_latents")),
            rollout,
            module(DreamerV3ImageDecoder(size, picture, depth, times, num_blocks=1), "reco_pixels"),
        ),
        TensorDictSequential(
            module(DreamerV3MLP(size, BINS, 1, hidden), "reward_logits"),
            module(DreamerV3MLP(size, 1, 1, hidden), "continue_pred"),
        ),
    )
    loss = DreamerV3ModelLoss(
        world, lambda_continue=1.0, kl_mode="separate", reco_symlog=False, num_reward_bins=BINS, free_bits=FREE
    )
    optimiser = torch.optim.Adam(world.parameters(), RATE, fused=True)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(EPISODES * LENGTH),
        sampler=SliceSampler(slice_len=sizes.steps, traj_key="episode", cache_values=True),
        batch_size=sizes.batch * sizes.steps,
    )
    for number, each in enumerate(episodes(sizes)):
        last = (torch.arange(LENGTH) == LENGTH - 1) & bool(each.terminated)
        told = {
            "action": torch.from_numpy(each.actions["action"]),
            "episode": torch.full((LENGTH,), number),
            "is_init": (torch.arange(LENGTH) == 0)[:, None],
            "next": {
                "pixels": torch.from_numpy(each.observations["frame"][1:].transpose(0, 3, 1, 2).copy()),
                "reward": torch.from_numpy(np.asarray(each.rewards, np.float32))[:, None],
                "terminated": last[:, None],
            },
        }
        buffer.extend(TensorDict(told, [LENGTH]))
    start = {
        "state": torch.zeros(sizes.batch, sizes.steps, sizes.latent),
        "belief": torch.zeros(sizes.batch, sizes.steps, sizes.memory),
    }

    def steps(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            batch = buffer.sample().reshape(sizes.batch, sizes.steps).update(start)
            terms, _ = loss(batch)
            optimiser.zero_grad()
            sum(term.sum() for name, term in terms.items() if name.startswith("loss")).backward()
            torch.nn.utils.clip_grad_norm_(world.parameters(), CLIP)
            optimiser.step()
        return (time.perf_counter() - begin) / count

    return with_threads(steps, sum(each.numel() for each in world.parameters()))


def with_threads(steps: Callable[[int], float], trained: int) -> Contender:
    """Such a loop with the faster number of threads."""
    import torch

    threads = torch_threads(lambda: steps(1))

    def run(count: int) -> float:
        torch.set_num_threads(threads)
        return steps(count)

    return Contender(run, trained, f"{threads} threads")


def contender(name: str, sizes: Sizes) -> Contender:
    """One of those that are measured. Raises ModuleNotFoundError where its package is not installed."""
    package = {"pytorch": "torch", "pytorch (compiled)": "torch"}.get(name, name)
    if not name.startswith("ours") and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    if name.startswith("ours"):
        made = Ours(sizes, same_sizes(sizes) if name == "ours" else as_it_comes(sizes))
        return Contender(made.run, made.numbers, resting=made.resting)
    makers = {
        "pytorch": partial(hand_written, compiled=False),
        "pytorch (compiled)": partial(hand_written, compiled=True),
        "sheeprl": sheeprl,
        "torchrl": torchrl,
    }
    return makers[name](sizes)


# -- measuring ---------------------------------------------------------------------------------------------------------

ALONE = """
import json, sys
import common, world_model
case, name = sys.argv[1:3]
sizes = world_model.SIZES[case]
world_model.contender(name, sizes).run(2)
print(json.dumps({"peak": common.peak_memory()}))
"""


def memory(case: str, name: str) -> float:
    """The most memory of a process that trains this one alone, MB."""
    found = common.python(ALONE, case, name, "--threads", str(common.PINNED))[1]
    return round(float(found["peak"]))


def compared(sizes: Sizes) -> tuple[float, dict[str, Any]]:
    """Objective of the same weights, batch and noise, nats a step, ours minus PyTorch's: about nothing, or an error."""
    pair = same_sizes(sizes)
    value, norm, noise = judged(sizes, pair)
    their_value, their_norm = ByHand(sizes, pair).judged(noise)
    same = abs(value - their_value) < 1e-4 * abs(value) and abs(norm - their_norm) < 1e-2 * norm
    if not same:
        raise RuntimeError(f"PyTorch's model is not ours: {value}, {norm} against {their_value}, {their_norm}")
    told = {
        "objective of the same weights, batch and noise, nats a datum": {"ours": value, "pytorch": their_value},
        "norm of its gradient": {"ours": norm, "pytorch": their_norm},
    }
    return (value - their_value) / sizes.steps, told


def learning(case: str, options: common.Options) -> common.Case:
    """Gradient steps a second of one size."""
    sizes = SIZES[case]
    steps, repeats = (2, options.repeats or 2) if options.quick else (10, options.repeats or 7)
    replay(sizes)
    names = ["ours", "ours, as it comes", "pytorch", "pytorch (compiled)", "sheeprl", "torchrl"]
    if options.quick:  # what takes long to compile
        names = [name for name in names if name not in ("ours, as it comes", "pytorch (compiled)")]
    made: dict[str, Contender] = {}
    details: dict[str, Any] = {}
    compiling: dict[str, float] = {}
    for name in names:
        print(f"world_model: {case}: {name}", file=sys.stderr, flush=True)
        try:
            begin = time.perf_counter()
            found = contender(name, sizes)
            found.run(1)
        except ModuleNotFoundError as missing:
            details[f"{name} is left out"] = str(missing)
        except Exception as error:  # a compiler is missing, or a library refuses
            if name.startswith("ours"):
                raise
            details[f"{name} does not run"] = f"{type(error).__name__}: {error}"[:300]
        else:
            made[name], compiling[name] = found, time.perf_counter() - begin
    difference = None
    if "pytorch" in made:
        difference, told = compared(sizes)
        details |= told
    taken = common.in_turn({name: partial(each.run, steps) for name, each in made.items()}, repeats)
    alone = statistics.median(made["ours"].resting(steps) for _ in range(repeats))
    rates = {name: [round(1 / value, 3) for value in values] for name, values in taken.items()}
    peers = {
        name: common.Peer(
            common.version({"sheeprl": "sheeprl", "torchrl": "torchrl"}.get(name, "torch")),
            1 / statistics.median(taken[name]),
            common.ratio(taken["ours"], taken[name]),
            difference if name.startswith("pytorch") else None,
        )
        for name in made
        if not name.startswith("ours")
    }
    details |= {
        "gradient steps a second": rates,
        "ours without the replay, steps a second": round(1 / alone, 3),
        "numbers trained": {name: each.numbers for name, each in made.items()},
        "chosen as the fastest": {name: each.chosen for name, each in made.items() if each.chosen},
        "seconds until the first step is done": {name: round(value, 1) for name, value in compiling.items()},
    }
    if "ours, as it comes" in taken:
        details["as it comes, times as fast"] = common.ratio(taken["ours, as it comes"], taken["ours"])
    if not options.quick:
        details["most memory of a process with it alone, MB"] = {name: memory(case, name) for name in made}
    what = f"a gradient step, {sizes.batch} windows of {sizes.steps}, pictures {list(sizes.shape)}"
    ours = 1 / statistics.median(taken["ours"])
    return common.Case(case, what, "steps/s", ours, compiling["ours"], peers, details)


CASES: dict[str, common.Function] = {name: partial(learning, name) for name in SIZES}

if __name__ == "__main__":
    common.main("world_model", __doc__, CASES, ("recipe",))
