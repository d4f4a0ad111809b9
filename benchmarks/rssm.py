"""Deep state-space models beside PyTorch and Pyro.

* ``rssm-32``: one training step of a recurrent state-space model (deterministic 200, stochastic 30) of 16 sequences of
  32 frames [32, 32, 3] with actions of one number: the loop that ``veil.fit`` runs beside the same model in PyTorch,
  eager and compiled. Both have the same image networks (patch-merging pyramid of widths 32, 64, 128), the same widths,
  the same start (PyTorch's weights are copies of ours), the same ELBO, Adam and clipping.
  ``quality`` is the held-out ELBO, nats a step, after as many updates on the same data, ours minus theirs.
* ``dmm-chorales``: seconds an epoch of a deep Markov model of the sizes of Pyro's example (latent 100, emission 100,
  transition 200, recurrent 600, batches of 20 of 229 sequences, at most 129 steps of 88 keys): ``veil.dmm`` with
  ``posterior.Future(600)`` beside Pyro's SVI, whose recurrent network is the example's plain one, or gated as ours is.
  Padded to the longest sequence of all in ours, of the minibatch in Pyro's. Bach's chorales where ``veil.data.load``
  finds them, else random rolls of the same shape (which one is in the details). ``quality`` is the held-out ELBO, nats
  a step, after as many epochs.

PyTorch's peers get the faster of one thread and all. ``--quick`` does not compile PyTorch's model.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import common
import numpy as np
from vae import Timed, torch_threads

BATCH, STEPS, SIDE, RATE, CLIP = 16, 32, 32, 1e-3, 10.0
MEMORY, LATENT, WIDTHS, FEATURES = 200, 30, (32, 64, 128), 256
SPREAD = 0.1  # the smallest scale of a step of the latent, which the library adds
KEYS, LONGEST, TRAIN, TEST, ROLLS = 88, 129, 229, 76, 20
DMM = {"latent": 100, "emission": 100, "transition": 200, "recurrent": 600}

Run = Callable[[int], float]  # so many steps, or epochs -> seconds of each


# -- frames ------------------------------------------------------------------------------------------------------------


def blobs(count: int, seed: int, steps: int = STEPS, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Frames [N, T, side, side, 3], standardised, of a blob that an action [N, T, 1] pushes sideways, and the actions.

    The blob falls, bounces off the borders and has a colour of its own; x_t leads into the frame at t.
    """
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(-0.06, 0.06, (count, 2))
    colour, action = rng.uniform(0.3, 1.0, (count, 3)), rng.choice([-1.0, 1.0], (count, steps, 1))
    grid = (np.arange(side) + 0.5) / side
    frames = np.empty((count, steps, side, side, 3), np.float32)
    for t in range(steps):
        speed = speed + np.concatenate([np.full((count, 1), 0.004), 0.015 * action[:, t]], 1)
        place = place + speed
        bounced = (place < 0.1) | (place > 0.9)
        speed, place = np.where(bounced, -0.9 * speed, speed), np.clip(place, 0.1, 0.9)
        away = (grid[None, :, None] - place[:, :1, None]) ** 2 + (grid[None, None] - place[:, 1:, None]) ** 2
        frames[:, t] = np.exp(-away / (2 * 0.09**2))[..., None] * colour[:, None, None]
    frames += rng.normal(0, 0.05, frames.shape).astype(np.float32)
    return (frames - 0.04) / 0.15, action.astype(np.float32)


# -- ours --------------------------------------------------------------------------------------------------------------


def start(data: Any) -> Any:
    """Our model and posterior with random parameters."""
    import jax

    import veil
    from veil.posterior.choice import usual

    key_model, key_posterior = jax.random.split(jax.random.key(0))
    decoder = veil.images.PyramidDecoder((SIDE, SIDE, 3), WIDTHS, FEATURES)
    model = veil.rssm(LATENT, veil.heads.HomoscedasticGaussian(), decoder, MEMORY)
    few = veil.Datum(jax.numpy.asarray(data.query[:64]), jax.numpy.asarray(data.evidence[:64]))
    model = model.initialise(few, None, key_model)
    posterior = usual(model).initialise(model, jax.tree.map(lambda leaf: leaf[0], few), 1, key_posterior)
    return model, posterior


@cache
def _learner() -> Any:
    """One object, so that what is compiled for it is found again."""
    import veil
    from veil.learning.choices import clipped_adam
    from veil.learning.gradient import Gradient

    return Gradient(veil.ELBO(), clipped_adam(RATE))  # as veil.fit has it


def ours(pair: Any, data: Any, batch: int, steps: int, watch: Callable[[Any, Any], bool] | None = None) -> Any:
    """(model, posterior) after ``steps`` of the loop that ``veil.fit`` runs on ``Data``."""
    import jax

    import veil
    from veil.learning.loop import InMemory, train

    datum = veil.Datum(data.query, data.evidence, weight=np.ones(len(data), np.float32), mask=data.mask)
    pair = jax.tree.map(lambda leaf: leaf[None], pair)
    source = InMemory(datum, batch, batch, np.array([1, 0], np.uint32))
    state = train(_learner(), pair, source, steps, np.array([0, 0], np.uint32), watch or (lambda *_: False))
    return jax.tree.map(lambda leaf: leaf[0], (state.model, state.posterior))


def timed(pair: Any, data: Any, batch: int, steps: int) -> float:
    """Seconds a step."""
    marks = Timed()
    ours(pair, data, batch, steps, marks)
    return marks.per_step


def our_bound(pair: Any, data: Any) -> float:
    """The ELBO, nats a step."""
    import jax

    import veil
    from veil.evaluation.objective import values

    found = values(veil.ELBO(), *pair, data, key=jax.random.key(9))
    steps = data.mask.sum() if data.mask is not None else np.prod(data.query.shape[:2])
    return float(found.sum() / steps)


def numbers(tree: Any) -> int:
    """How many numbers are trained."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def torch_rssm(pair: Any) -> Any:
    """The same model in PyTorch, from the same start."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    model, posterior = pair

    def linear(weight: Any, bias: Any = None) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(weight)))
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(np.array(bias)))
        return layer

    def same(layer: Any) -> nn.Linear:
        return linear(layer.weight, layer.bias)

    class RSSM(nn.Module):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            dynamics = model.dynamics
            self.down = nn.ModuleList(map(same, posterior.net.layers))
            self.read = same(posterior.net.dense)
            self.joined, self.prior_net, self.prior_out = map(
                same, (dynamics.joined, dynamics.net.layers[0], dynamics.output)
            )
            self.cell = nn.GRUCell(MEMORY, MEMORY)
            with torch.no_grad():
                for name, layer in (("ih", dynamics.cell.outer), ("hh", dynamics.cell.inner)):
                    getattr(self.cell, f"weight_{name}").copy_(torch.from_numpy(np.array(layer.weight)))
                    getattr(self.cell, f"bias_{name}").copy_(torch.from_numpy(np.array(layer.bias)))
            self.post_net, self.post_out = same(posterior.combiner.layers[0]), same(posterior.output)
            self.direct = linear(model.decoder.linear, model.output.weight[0, :, 0])
            self.dense = nn.ModuleList(map(same, model.decoder.dense))
            self.up = nn.ModuleList(map(same, model.decoder.layers))
            self.log_scale = nn.Parameter(torch.from_numpy(np.array(model.head.log_scale)))

        def encoded(self, x: Any, actions: Any) -> Any:
            for layer in self.down:  # space to depth, with the channels last as a matrix product wants them
                n, h, w, c = x.shape
                x = x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)
                x = F.relu(layer(x))
            return F.relu(self.read(torch.cat([x.flatten(1), actions], 1)))

        def decoded(self, shown: Any) -> Any:
            x = shown
            for layer in self.dense:
                x = F.relu(layer(x))
            side = SIDE >> len(self.up)
            x = x.view(len(x), side, side, -1)
            for i, layer in enumerate(self.up):
                x = layer(x) if i == 0 else layer(F.relu(x))
                n, h, w, c = x.shape
                x = x.view(n, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
            return self.direct(shown).view(x.shape) + x

        def advance(self, h: Any, z: Any, action: Any, feature: Any, e: Any) -> tuple[Any, ...]:
            """One step: memory, latent, and the posterior's mean and scale."""
            h = self.cell(F.elu(self.joined(torch.cat([z, action], 1))), h)
            mean, log_scale = self.post_out(F.elu(self.post_net(torch.cat([h, feature], 1)))).chunk(2, 1)
            scale = log_scale.exp() + SPREAD
            return h, mean + scale * e, mean, scale

        def along(self, features: Any, actions: Any, noise: Any) -> Any:
            """Memories, latents and the posterior's normals [T, B, ...]; what needs no recursion stays outside."""
            h = features.new_zeros(features.shape[1], MEMORY)
            z = features.new_zeros(features.shape[1], LATENT)
            found = []
            for feature, action, e in zip(features, actions, noise, strict=True):
                found.append(self.advance(h, z, action, feature, e))
                h, z, *_ = found[-1]
            return tuple(torch.stack(each) for each in zip(*found, strict=True))

        def forward(self, frames: Any, actions: Any, noise: Any) -> Any:
            """The ELBO of each sequence, nats: frames [B, T, H, W, C], actions [B, T, 1], noise [T, B, L]."""
            count, steps = frames.shape[:2]
            frames, actions = frames.transpose(0, 1), actions.transpose(0, 1)
            features = self.encoded(frames.flatten(0, 1), actions.flatten(0, 1)).view(steps, count, -1)
            h, z, mean, scale = self.along(features, actions, noise)
            prior_mean, prior_log = self.prior_out(F.elu(self.prior_net(h))).chunk(2, 2)
            prior_scale = prior_log.exp() + SPREAD
            kl = 0.5 * ((scale**2 + (mean - prior_mean) ** 2) / prior_scale**2 - 1) + torch.log(prior_scale / scale)
            away = frames.flatten(0, 1) - self.decoded(torch.cat([h, z], 2).flatten(0, 1))
            away = away * torch.exp(-self.log_scale)
            constant = self.log_scale.sum() + 0.5 * np.log(2 * np.pi) * self.log_scale.numel()
            fit = -0.5 * (away**2).flatten(1).sum(1).view(steps, count) - constant
            return (fit - kl.sum(2)).sum(0)

    torch.manual_seed(0)
    return RSSM()


def torch_run(pair: Any, data: Any, compiled: bool) -> tuple[Run, Callable[[Any], float], Any]:
    """(steps -> seconds of each, data -> ELBO a step, the module with ``threads``)."""
    import torch

    frames, actions = torch.from_numpy(data.query), torch.from_numpy(data.evidence)
    model = torch_rssm(pair)
    optimiser = torch.optim.Adam(model.parameters(), RATE, fused=True)
    if compiled:  # by parts: the whole, its loop unrolled, is not compiled within five minutes
        for part in ("encoded", "decoded", "advance"):
            setattr(model, part, torch.compile(getattr(model, part), dynamic=False))
    parameters = list(model.parameters())

    def loss(rows: Any) -> Any:
        return -model(frames[rows], actions[rows], torch.randn(STEPS, len(rows), LATENT)).mean()

    def step(rows: Any) -> None:
        optimiser.zero_grad()
        value = loss(rows)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        value.item()

    # no update while the threads are chosen: the number of updates must be equal
    model.threads = torch_threads(lambda: loss(torch.arange(BATCH)).backward())

    def run(steps: int) -> float:
        torch.set_num_threads(model.threads)
        order = torch.cat([torch.randperm(len(frames)) for _ in range(-(-steps * BATCH // len(frames)))])
        begin = time.perf_counter()
        for i in range(steps):
            step(order[i * BATCH : (i + 1) * BATCH])
        return (time.perf_counter() - begin) / steps

    def bound(data: Any) -> float:
        count, steps = data.query.shape[:2]
        with torch.no_grad():
            values = model(
                torch.from_numpy(data.query), torch.from_numpy(data.evidence), torch.randn(steps, count, LATENT)
            )
        return float(values.mean()) / steps

    return run, bound, model


def rssm(options: common.Options) -> common.Case:
    """Training steps beside PyTorch."""
    import veil

    steps, repeats, updates = (5, 2, 12) if options.quick else (20, options.repeats or 5, 400)
    data, test = (veil.Data(*blobs(count, seed)) for count, seed in ((256, 0), (64, 1)))
    pair = start(data)
    begin = time.perf_counter()
    ours(pair, data, BATCH, 2)
    compiling = time.perf_counter() - begin
    peers, details = {}, {}
    variants = {"pytorch": False} | ({} if options.quick else {"pytorch (compiled)": True})
    for name, compiled in variants.items():
        begin = time.perf_counter()
        try:
            peers[name] = torch_run(pair, data, compiled)
        except Exception as error:  # a compiler is missing, or refuses
            details[f"{name} does not run"] = f"{type(error).__name__}: {error}"[:200]
        else:
            details[f"{name}: seconds before its first step"] = round(time.perf_counter() - begin, 1)
    at_start = {"ours": our_bound(pair, test)} | {name: bound(test) for name, (_, bound, _) in peers.items()}
    measures = {"ours": lambda: timed(pair, data, BATCH, steps)}
    measures |= {name: lambda run=run: run(steps) for name, (run, _, _) in peers.items()}
    found = common.in_turn(measures, repeats)
    taken = steps * repeats
    rest = max(0, updates - taken)
    for run, _, _ in peers.values():
        if rest:
            run(rest)
    after = {"ours": our_bound(ours(pair, data, BATCH, taken + rest), test)}
    after |= {name: bound(test) for name, (_, bound, _) in peers.items()}
    mean = statistics.median(found["ours"])
    compared = {
        name: common.Peer(
            common.version("torch"),
            1e3 * statistics.median(found[name]),
            common.ratio(found["ours"], found[name]),
            after["ours"] - after[name],
        )
        for name in peers
    }
    module = peers["pytorch"][2]
    details |= {
        "milliseconds a step": {name: [round(1e3 * value, 1) for value in values] for name, values in found.items()},
        "threads of PyTorch, the faster of 1 and all": {name: module.threads for name, (_, _, module) in peers.items()},
        "trained numbers, ours and PyTorch's": [numbers(pair), sum(each.numel() for each in module.parameters())],
        "held-out ELBO a step before any update": {name: round(value, 2) for name, value in at_start.items()},
        f"held-out ELBO a step after {taken + rest} updates": {name: round(v, 2) for name, v in after.items()},
    }
    return common.Case("rssm-32", "one training step", "ms", 1e3 * mean, compiling, compared, details)


# -- deep Markov models ------------------------------------------------------------------------------------------------


def rolls(quick: bool) -> tuple[Any, Any, str]:
    """Piano rolls to train on and held-out ones (``Data`` with a mask), and what they are."""
    import veil

    train, held, longest = (40, 10, 40) if quick else (TRAIN, TEST, LONGEST)
    rng = np.random.default_rng(0)
    if any(example.name == "chorales" and example.present for example in veil.data.available()):
        pieces = veil.data.load("chorales")
        order = rng.permutation(len(pieces))[: train + held]
        query, mask = (np.asarray(each)[order, :longest] for each in (pieces.query, pieces.mask))
        what = f"Bach's chorales, quarter notes, {train} pieces of {len(pieces)}, the first {longest} steps of each"
    else:
        lengths = rng.integers(20, longest + 1, train + held)
        lengths[:2] = longest
        mask = np.arange(longest) < lengths[:, None]
        tonic, time = rng.integers(0, 12, (train + held, 1, 1)), np.arange(longest)[None, :, None]
        chord = (np.array([0, 4, 7, 12])[None, None] + tonic + 5 * (time // 4 % 3)) % 36 + 30
        query = (chord[..., None] == np.arange(KEYS)).any(2)
        query = (query ^ (rng.random(query.shape) < 0.01)) & mask[..., None]
        what = f"random rolls of {longest} steps at most: the chorales are not here"
    query = query.astype(np.float32)
    return *(veil.Data(query[part], mask=mask[part]) for part in (slice(train), slice(train, None))), what


def our_dmm(data: Any) -> Any:
    """Our model and posterior with random parameters."""
    import jax

    import veil
    from veil.parts.nets import Identity
    from veil.posterior import Future, Sequential

    key_model, key_posterior = jax.random.split(jax.random.key(0))
    decoder = veil.MLP((DMM["emission"],) * 2, "relu")
    model = veil.dmm(DMM["latent"], veil.heads.Bernoulli(), decoder, DMM["transition"])
    few = veil.Datum(jax.numpy.asarray(data.query), mask=jax.numpy.asarray(data.mask))
    model = model.initialise(few, None, key_model)
    posterior = Sequential(Identity(), Future(DMM["recurrent"]))
    return model, posterior.initialise(model, jax.tree.map(lambda leaf: leaf[0], few), 1, key_posterior)


def pyro_dmm(data: Any, gated: bool) -> tuple[Run, Callable[[Any], float], Any]:
    """(epochs -> seconds of each, data -> ELBO a step, the module with ``threads``): a deep Markov model in Pyro."""
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    pyro.clear_param_store()
    pyro.enable_validation(False)
    latent, width, size = DMM["latent"], DMM["transition"], DMM["recurrent"]
    few = torch.from_numpy(data.query[data.mask].mean(0)).clamp(1e-3, 1 - 1e-3)

    def deep(*sizes: int) -> nn.Sequential:
        layers: list[Any] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    class Deep(nn.Module):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.emission = deep(latent, DMM["emission"], DMM["emission"], KEYS)
            self.gate, self.move = deep(latent, width, latent), deep(latent, width, latent)
            self.line, self.spread = nn.Linear(latent, latent), nn.Linear(latent, latent)
            self.first, self.guess = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))
            self.backward_net = nn.GRU(KEYS, size) if gated else nn.RNN(KEYS, size, nonlinearity="relu")
            self.combiner, self.to_mean, self.to_scale = (
                nn.Linear(latent, size),
                nn.Linear(size, latent),
                nn.Linear(size, latent),
            )
            with torch.no_grad():  # as ours: the linear part begins as the identity, the keys at their averages
                self.line.weight.copy_(torch.eye(latent))
                self.line.bias.zero_()
                self.emission[-1].bias.copy_(torch.log(few / (1 - few)))

        def transition(self, z: Any) -> tuple[Any, Any]:
            gate, moved = torch.sigmoid(self.gate(z)), self.move(z)
            return (1 - gate) * self.line(z) + gate * moved, F.softplus(self.spread(F.relu(moved))) + 1e-4

        def model(self, rolls: Any, lengths: Any, mask: Any) -> None:
            pyro.module("dmm", self)
            z = self.first.expand(len(rolls), latent)
            with pyro.plate("pieces", len(rolls)):
                for t in pyro.markov(range(rolls.shape[1])):
                    mean, scale = self.transition(z)
                    z = pyro.sample(f"z{t}", dist.Normal(mean, scale).to_event(1).mask(mask[:, t]))
                    keys = dist.Bernoulli(logits=self.emission(z)).to_event(1).mask(mask[:, t])
                    pyro.sample(f"y{t}", keys, obs=rolls[:, t])

        def guide(self, rolls: Any, lengths: Any, mask: Any) -> None:
            pyro.module("dmm", self)
            ahead = self.summary(rolls, lengths)
            z = self.guess.expand(len(rolls), latent)
            with pyro.plate("pieces", len(rolls)):
                for t in pyro.markov(range(rolls.shape[1])):
                    joined = 0.5 * (torch.tanh(self.combiner(z)) + ahead[:, t])
                    normal = dist.Normal(self.to_mean(joined), F.softplus(self.to_scale(joined)) + 1e-4)
                    z = pyro.sample(f"z{t}", normal.to_event(1).mask(mask[:, t]))

        def summary(self, rolls: Any, lengths: Any) -> Any:
            """What the network that reads each sequence from its end says at every step [B, T, R]."""
            steps = torch.arange(rolls.shape[1])
            turned = (lengths[:, None] - 1 - steps[None]).clamp(min=0)  # its own inverse where there is a step
            packed = nn.utils.rnn.pack_padded_sequence(
                rolls.gather(1, turned[..., None].expand(rolls.shape)), lengths, batch_first=True, enforce_sorted=False
            )
            out, _ = nn.utils.rnn.pad_packed_sequence(
                self.backward_net(packed)[0], batch_first=True, total_length=rolls.shape[1]
            )
            return out.gather(1, turned[..., None].expand(out.shape))

    module = Deep()
    optimiser = pyro.optim.ClippedAdam({"lr": RATE, "clip_norm": CLIP})
    svi = pyro.infer.SVI(module.model, module.guide, optimiser, pyro.infer.Trace_ELBO())

    def batch(data: Any, rows: Any) -> tuple[Any, ...]:
        mask = torch.from_numpy(np.asarray(data.mask))[rows]
        lengths = mask.sum(1)
        longest = int(lengths.max())
        return torch.from_numpy(data.query)[rows, :longest], lengths, mask[:, :longest]

    def look() -> None:  # no update while the threads are chosen
        svi.loss_and_grads(module.model, module.guide, *batch(data, torch.arange(min(ROLLS, len(data)))))
        for parameter in module.parameters():
            parameter.grad = None

    module.threads = torch_threads(look)

    def run(epochs: int) -> float:
        torch.set_num_threads(module.threads)
        begin = time.perf_counter()
        for _ in range(epochs):
            for rows in torch.randperm(len(data)).split(ROLLS):
                svi.step(*batch(data, rows))
        return (time.perf_counter() - begin) / epochs

    def bound(data: Any) -> float:
        with torch.no_grad():
            return -svi.evaluate_loss(*batch(data, torch.arange(len(data)))) / float(data.mask.sum())

    return run, bound, module


def dmm(options: common.Options) -> common.Case:
    """Seconds an epoch beside Pyro."""
    repeats, epochs = (1, 2) if options.quick else (options.repeats or 3, 12)
    data, test, what = rolls(options.quick)
    pair = our_dmm(data)
    begin = time.perf_counter()
    ours(pair, data, ROLLS, 2)
    compiling = time.perf_counter() - begin
    peers = {"pyro": pyro_dmm(data, False)} | ({} if options.quick else {"pyro (gated)": pyro_dmm(data, True)})
    each = len(data) / ROLLS
    steps = max(12, round(2 * each))  # of which the first few only begin the loop
    measures = {"ours": lambda: each * timed(pair, data, ROLLS, steps)}
    measures |= {name: lambda run=run: run(1) for name, (run, _, _) in peers.items()}
    found = common.in_turn(measures, repeats)
    for run, _, _ in peers.values():
        if epochs > repeats:
            run(epochs - repeats)
    total = max(epochs, repeats)
    after = {"ours": our_bound(ours(pair, data, ROLLS, round(total * each)), test)}
    after |= {name: bound(test) for name, (_, bound, _) in peers.items()}
    compared = {
        name: common.Peer(
            common.version("pyro-ppl"),
            statistics.median(found[name]),
            common.ratio(found["ours"], found[name]),
            after["ours"] - after[name],
        )
        for name in peers
    }
    details = {
        "rolls": what,
        "seconds an epoch": {name: [round(value, 2) for value in values] for name, values in found.items()},
        "threads of PyTorch, the faster of 1 and all": {name: module.threads for name, (_, _, module) in peers.items()},
        "trained numbers": {"ours": numbers(pair)}
        | {name: sum(each.numel() for each in module.parameters()) for name, (_, _, module) in peers.items()},
        f"held-out ELBO a step after {total} epochs": {name: round(value, 3) for name, value in after.items()},
    }
    ours_ = statistics.median(found["ours"])
    return common.Case("dmm-chorales", "one epoch", "s", ours_, compiling, compared, details)


CASES: dict[str, common.Function] = {"rssm-32": rssm, "dmm-chorales": dmm}

if __name__ == "__main__":
    common.main("rssm", __doc__, CASES, ("rssm-32", "dmm-chorales"))
