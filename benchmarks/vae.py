"""Variational autoencoders beside NumPyro, Pyro, Pythae and PyTorch.

* ``mlp-784-400-20``: training steps a second of a binary VAE 784-400-400-20-400-400-784 (ReLU, batch 128, Adam), for
  ours those of the loop that ``veil.fit`` runs (minibatch, keys, clipping, checks and records included); peers do their
  own training step on shuffled batches. NumPyro's figure is the better of a Python loop over ``SVI.update`` and a whole
  epoch in one ``lax.scan``; PyTorch's peers get the faster of one thread and all.
  ``quality`` is the held-out ELBO after as many steps, ours minus theirs.
* ``patch-32``, ``conv-32``, ``patch-64``, ``conv-64``: the held-out ELBO against wall-clock training time (compilation
  apart, in ``compile s``), ``veil.images``' pyramid or its convolutions beside a VAE of 4x4 stride-2 convolutions in
  PyTorch (32-64-128 channels, as many features and latents, batch 64, Adam) on [32, 32, 3] and [64, 64, 3]. ``ours`` is
  the seconds to the bound that PyTorch reached at the end; curves are in the details.

Images: Fashion-MNIST or MNIST where ``veil.data.load`` finds them, enlarged bilinearly, thresholded and given one of 49
pairs of colours by their number; else blobs. Which one is in the details.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import common
import numpy as np

BATCH, LATENT, HIDDEN, RATE = 128, 20, 400, 1e-3
IMAGE_BATCH, IMAGE_LATENT, FEATURES, WIDTHS = 64, 32, 256, (32, 64, 128)


# -- images ------------------------------------------------------------------------------------------------------------


@cache
def grey(train: bool, count: int) -> tuple[np.ndarray, str]:
    """Images [N, 28, 28] from 0 to 1, and what they are."""
    import veil

    suffix = "" if train else "-test"
    present = {example.name for example in veil.data.available() if example.present}
    for name in ("mnist", "fashion-mnist"):
        if name + suffix in present:
            return np.asarray(veil.data.load(name + suffix).query[:count], np.float32).reshape(-1, 28, 28), name
    rng = np.random.default_rng(0 if train else 1)
    place = np.linspace(0, 1, 28)
    centre, size = rng.uniform(0.25, 0.75, (count, 2, 3)), rng.uniform(0.05, 0.2, (count, 3))
    away = (place[None, :, None, None] - centre[:, None, None, 0]) ** 2
    away = away + (place[None, None, :, None] - centre[:, None, None, 1]) ** 2
    return np.exp(-away / (2 * size[:, None, None] ** 2)).max(-1).astype(np.float32), "synthetic blobs"


def binary(train: bool, count: int) -> np.ndarray:
    """Thresholded images [N, 784]."""
    return (grey(train, count)[0] > 0.5).reshape(-1, 784).astype(np.float32)


def _enlarging(to: int) -> np.ndarray:
    """The matrix [to, 28] of bilinear interpolation along one axis."""
    place = np.clip((np.arange(to) + 0.5) * 28 / to - 0.5, 0, 27)
    low = np.minimum(place.astype(int), 26)
    matrix = np.zeros((to, 28), np.float32)
    matrix[np.arange(to), low] = 1 - (place - low)
    matrix[np.arange(to), low + 1] = place - low
    return matrix


def coloured(train: bool, count: int, side: int) -> np.ndarray:
    """Binary colour images [N, side, side, 3]: the thing in one of eight colours, the ground in another."""
    matrix = _enlarging(side)
    thing = (matrix @ grey(train, count)[0] @ matrix.T > 0.5)[..., None]
    number = np.arange(len(thing))
    front = 1 + number % 7
    back = (front + 1 + (number // 7) % 7) % 8
    bits = [((colour[:, None] >> np.arange(3)) & 1)[:, None, None] for colour in (front, back)]
    return np.where(thing, *bits).astype(np.float32)


# -- ours --------------------------------------------------------------------------------------------------------------


@cache
def _learner(rate: float) -> Any:
    """One object, so that what is compiled for it is found again."""
    import veil
    from veil.learning.choices import clipped_adam
    from veil.learning.gradient import Gradient

    return Gradient(veil.ELBO(), clipped_adam(rate))  # as veil.fit has it


def ours(
    model: Any,
    data: np.ndarray,
    batch: int,
    steps: int,
    watch: Callable[[Any, Any], bool] = lambda state, record: False,
    seed: int = 0,
) -> Any:
    """The learner's state after ``steps`` of the loop that ``veil.fit`` runs, from the start that it makes."""
    import jax

    import veil
    from veil.learning.loop import InMemory, train
    from veil.posterior.choice import usual

    key_model, key_posterior = jax.random.split(jax.random.key(seed))
    datum = veil.Datum(data, weight=np.ones(len(data), np.float32))
    model = model.initialise(veil.Datum(jax.numpy.asarray(data[:2000])), None, key_model)
    example = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[0]), datum)
    posterior = usual(model).initialise(model, example, 1, key_posterior)
    pair = jax.tree.map(lambda leaf: leaf[None], (model, posterior))
    source = InMemory(datum, batch, batch, np.array([1, seed], np.uint32))
    return train(_learner(RATE), pair, source, steps, np.array([0, seed], np.uint32), watch)


def our_bound(state: Any, data: np.ndarray) -> float:
    """The ELBO, nats an image, averaged over ``data``."""
    import jax

    import veil
    from veil.evaluation.objective import values

    model, posterior = jax.tree.map(lambda leaf: leaf[0], (state.model, state.posterior))
    return float(values(veil.ELBO(), model, posterior, data, key=jax.random.key(9)).mean())


def our_mlp() -> Any:
    """784-400-400-20 and back."""
    import veil

    return veil.VAE(LATENT, veil.heads.Bernoulli(), veil.MLP((HIDDEN, HIDDEN), "relu"))


class Timed:
    """Seconds a step of the loop: from the end of the first stretches, which are short, to the last one's."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float]] = []
        self.steps = 0

    def __call__(self, state: Any, record: Any) -> bool:
        self.steps += len(record["value"])
        self.marks.append((self.steps, time.perf_counter()))
        return False

    @property
    def per_step(self) -> float:
        (first, begin), (last, end) = self.marks[1 if len(self.marks) > 2 else 0], self.marks[-1]
        return (end - begin) / (last - first)


# -- peers of the multilayer perceptron --------------------------------------------------------------------------------


def numpyro_vae(data: np.ndarray, scanned: bool) -> tuple[Callable[[int], float], Callable[[np.ndarray], float]]:
    """(steps -> seconds a step, data -> ELBO) of NumPyro's SVI, by a Python loop or by one scan."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.example_libraries import stax
    from numpyro.infer import SVI, TraceMeanField_ELBO

    layers = [stax.Dense(HIDDEN), stax.Relu, stax.Dense(HIDDEN), stax.Relu]
    encoder = stax.serial(
        *layers, stax.FanOut(2), stax.parallel(stax.Dense(LATENT), stax.serial(stax.Dense(LATENT), stax.Exp))
    )
    decoder = stax.serial(*layers, stax.Dense(data.shape[1]))

    def model(batch: Any) -> None:
        decode = numpyro.module("decoder", decoder, (BATCH, LATENT))
        with numpyro.plate("batch", len(batch)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=batch)

    def guide(batch: Any) -> None:
        encode = numpyro.module("encoder", encoder, (BATCH, data.shape[1]))
        mean, scale = encode(batch)
        with numpyro.plate("batch", len(batch)):
            numpyro.sample("z", dist.Normal(mean, scale).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(RATE), TraceMeanField_ELBO())
    all_ = jnp.asarray(data)
    state = svi.init(jax.random.key(0), all_[:BATCH])
    update = jax.jit(svi.update)
    rng = np.random.default_rng(0)

    @jax.jit
    def epoch(state: Any, plan: Any) -> Any:
        return jax.lax.scan(lambda state, rows: svi.update(state, all_[rows]), state, plan)

    def run(steps: int) -> float:
        nonlocal state
        plan = np.concatenate([rng.permutation(len(data)) for _ in range(-(-steps * BATCH // len(data)))])
        plan = plan[: steps * BATCH].reshape(steps, BATCH)
        begin = time.perf_counter()
        if scanned:
            state, losses = epoch(state, jnp.asarray(plan))
            float(losses[-1])
        else:
            for rows in plan:
                state, loss = update(state, data[rows])
            float(loss)
        return (time.perf_counter() - begin) / steps

    def bound(test: np.ndarray) -> float:
        return -float(svi.evaluate(state, jnp.asarray(test))) / len(test)

    return run, bound


def torch_threads(step: Callable[[], Any]) -> int:
    """The faster number of threads for PyTorch, one or all, after trying both; it is left set.

    On a machine with other work, threads that wait for each other can make two many times slower than one.
    """
    import torch

    taken = {}
    for threads in {1, common.PINNED}:
        torch.set_num_threads(threads)
        step()
        taken[threads] = min(common.seconds(step) for _ in range(4))
    best = min(taken, key=lambda threads: taken[threads])
    torch.set_num_threads(best)
    return best


def _torch_layers(*sizes: int) -> Any:
    from itertools import pairwise

    from torch import nn

    return nn.Sequential(*[part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())])


def pyro_vae(data: np.ndarray) -> tuple[Callable[[int], float], Callable[[np.ndarray], float]]:
    """The same of Pyro's SVI."""
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import nn

    torch.manual_seed(0)
    pyro.clear_param_store()
    pyro.enable_validation(False)
    encoder = nn.Sequential(*_torch_layers(data.shape[1], HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(*_torch_layers(LATENT, HIDDEN, HIDDEN), nn.Linear(HIDDEN, data.shape[1]))

    def model(batch: Any) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("batch", len(batch)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=batch)

    def guide(batch: Any) -> None:
        pyro.module("encoder", encoder)
        mean, log_scale = encoder(batch).chunk(2, 1)
        with pyro.plate("batch", len(batch)):
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))

    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": RATE}), pyro.infer.TraceMeanField_ELBO())
    all_ = torch.from_numpy(data)

    threads = torch_threads(lambda: svi.step(all_[:BATCH]))

    def run(steps: int) -> float:
        torch.set_num_threads(threads)
        order = torch.randperm(len(data))
        begin = time.perf_counter()
        for i in range(steps):
            place = i * BATCH % (len(data) - BATCH)
            svi.step(all_[order[place : place + BATCH]])
        return (time.perf_counter() - begin) / steps

    def bound(test: np.ndarray) -> float:
        return -svi.evaluate_loss(torch.from_numpy(test)) / len(test)

    return run, bound


def pythae_vae(data: np.ndarray) -> tuple[Callable[[int], float], Callable[[np.ndarray], float]]:
    """The same of Pythae's ``VAE`` and its trainer's step, without its data loader."""
    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from torch import nn

    torch.manual_seed(0)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.body = _torch_layers(data.shape[1], HIDDEN, HIDDEN)
            self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

        def forward(self, x: Any) -> Any:
            features = self.body(x)
            return ModelOutput(embedding=self.mean(features), log_covariance=self.log_variance(features))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.body = nn.Sequential(
                *_torch_layers(LATENT, HIDDEN, HIDDEN), nn.Linear(HIDDEN, data.shape[1]), nn.Sigmoid()
            )

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.body(z))

    configuration = VAEConfig(input_dim=(data.shape[1],), latent_dim=LATENT, reconstruction_loss="bce")
    model = VAE(configuration, Encoder(), Decoder())
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    all_ = torch.from_numpy(data)

    def step(batch: Any) -> None:  # the trainer's train_step and _optimizers_step
        output = model({"data": batch}, epoch=1, dataset_size=len(data))
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        output.loss.item()

    threads = torch_threads(lambda: step(all_[:BATCH]))

    def run(steps: int) -> float:
        torch.set_num_threads(threads)
        order = torch.randperm(len(data))
        begin = time.perf_counter()
        for i in range(steps):
            place = i * BATCH % (len(data) - BATCH)
            step(all_[order[place : place + BATCH]])
        return (time.perf_counter() - begin) / steps

    def bound(test: np.ndarray) -> float:
        with torch.no_grad():
            return -float(model({"data": torch.from_numpy(test)}).loss)

    return run, bound


def peak(size: int = 2048) -> Callable[[], float]:
    """A call that gives FLOP a second of a square float32 matrix product."""
    import jax

    square = jax.numpy.ones((size, size), jax.numpy.float32)
    product = jax.jit(lambda a: a @ a)
    product(square).block_until_ready()
    return lambda: 2 * size**3 / common.seconds(lambda: product(square).block_until_ready())


def mlp(options: common.Options) -> common.Case:
    """Training steps a second, side by side."""
    steps, repeats = (40, 2) if options.quick else (400, options.repeats or 5)
    data, test = binary(True, 12_800), binary(False, 2000)
    model = our_mlp()
    begin = time.perf_counter()
    ours(model, data, BATCH, 50)
    compiling = time.perf_counter() - begin
    peers = {
        "numpyro": numpyro_vae(data, False),
        "numpyro (scan)": numpyro_vae(data, True),
        "pyro": pyro_vae(data),
        "pythae": pythae_vae(data),
    }
    for run, _ in peers.values():
        run(steps)  # compiles, and gives all the same number of steps in the end
    fastest = peak()
    last: Any = None

    def measure() -> float:
        nonlocal last
        timed = Timed()
        last = ours(model, data, BATCH, steps, timed)
        return timed.per_step

    def measured(run: Callable[[int], float]) -> Callable[[], float]:
        return lambda: run(steps)

    found = common.in_turn(
        {"ours": measure, "peak": fastest} | {name: measured(run) for name, (run, _) in peers.items()}, repeats
    )
    total = steps * (repeats + 1)  # as many as the peers have taken: the same quality is asked of all
    last = ours(model, data, BATCH, total)
    reached = our_bound(last, test)
    mean = statistics.median(found["ours"])
    versions = {"numpyro": "numpyro", "numpyro (scan)": "numpyro", "pyro": "pyro-ppl", "pythae": "pythae"}
    compared = {
        name: common.Peer(
            common.version(versions[name]),
            1 / statistics.median(found[name]),
            common.ratio(found["ours"], found[name]),
            reached - bound(test),
        )
        for name, (_, bound) in peers.items()
    }
    weights = 784 * HIDDEN + HIDDEN**2 + 2 * LATENT * HIDDEN + LATENT * HIDDEN + HIDDEN**2 + 784 * HIDDEN
    work = 2 * BATCH * (3 * weights - 784 * HIDDEN)  # forward, twice backward; no gradient for the images
    shares = [work / step / fast for step, fast in zip(found["ours"], found["peak"], strict=True)]
    details = {
        "images": grey(True, 12_800)[1],
        "matrix-product GFLOP a step": work / 1e9,
        "the machine's own GFLOP/s (2048 x 2048)": [round(fast / 1e9, 1) for fast in found["peak"]],
        "ours over that, median": round(statistics.median(shares), 3),
        "milliseconds a step": {
            name: [round(1e3 * value, 2) for value in values] for name, values in found.items() if name != "peak"
        },
        "held-out ELBO, ours": round(reached, 2),
        "training steps": total,
    }
    return common.Case("mlp-784-400-20", "training steps a second", "1/s", 1 / mean, compiling, compared, details)


# -- images against time -----------------------------------------------------------------------------------------------

Curve = list[tuple[float, float]]


def marks(limit: float) -> list[float]:
    """When the held-out bound is taken: more often at first."""
    return [limit * 1.6**-i for i in range(7)][::-1]


def our_curve(kind: str, side: int, data: np.ndarray, test: np.ndarray, limit: float) -> tuple[Curve, float, float]:
    """((seconds, bound) points, seconds of compilation, seconds a step)."""
    import veil

    net = {"patch": veil.images.PyramidDecoder, "conv": veil.images.ConvolutionalDecoder}[kind]
    model = veil.VAE(IMAGE_LATENT, veil.heads.Bernoulli(), net((side, side, 3), WIDTHS, FEATURES))
    begin = time.perf_counter()
    ours(model, data, IMAGE_BATCH, 2)
    points: Curve = [(0.0, our_bound(ours(model, data, IMAGE_BATCH, 0), test))]
    compiling = time.perf_counter() - begin
    waiting = marks(limit)
    spent, steps, resumed = 0.0, 0, time.perf_counter()

    def watch(state: Any, record: Any) -> bool:
        nonlocal spent, steps, resumed
        spent, steps = spent + time.perf_counter() - resumed, steps + len(record["value"])
        if spent >= waiting[0]:
            points.append((spent, our_bound(state, test)))
            while waiting and waiting[0] <= spent:
                waiting.pop(0)
        resumed = time.perf_counter()
        return not waiting

    ours(model, data, IMAGE_BATCH, 10**6, watch)
    return points, compiling, spent / steps


def torch_curve(side: int, data: np.ndarray, test: np.ndarray, limit: float) -> tuple[Curve, float, int]:
    """((seconds, bound) points, seconds a step, threads) of 4x4 stride-2 convolutions in PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    images, held = (torch.from_numpy(part).permute(0, 3, 1, 2).contiguous() for part in (data, test))
    end = side // 8
    down = [part for a, b in ((3, 32), (32, 64), (64, 128)) for part in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
    up = [part for a, b in ((128, 64), (64, 32)) for part in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())]
    encoder = nn.Sequential(
        *down, nn.Flatten(), *_torch_layers(128 * end * end, FEATURES), nn.Linear(FEATURES, 2 * IMAGE_LATENT)
    )
    decoder = nn.Sequential(
        *_torch_layers(IMAGE_LATENT, FEATURES, 128 * end * end),
        nn.Unflatten(1, (128, end, end)),
        *up,
        nn.ConvTranspose2d(32, 3, 4, 2, 1),
    )
    with torch.no_grad():  # the average of the colours, as ours starts from the average of each pixel
        average = images.mean((0, 2, 3))
        decoder[-1].bias.copy_(torch.log(average / (1 - average)))
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], RATE)

    def elbo(x: Any) -> Any:
        mean, log_scale = encoder(x).chunk(2, 1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        fit = -nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").flatten(1).sum(1)
        return fit - (0.5 * (mean**2 + (2 * log_scale).exp() - 1) - log_scale).sum(1)

    points: Curve = []
    waiting = marks(limit)
    spent, steps = 0.0, 0
    threads = torch_threads(lambda: elbo(images[:IMAGE_BATCH]).mean().backward())  # preparing once is not counted
    order, place = torch.randperm(len(images)), 0
    while waiting:
        begin = time.perf_counter()
        if place + IMAGE_BATCH > len(images):
            order, place = torch.randperm(len(images)), 0
        loss = -elbo(images[order[place : place + IMAGE_BATCH]]).mean()
        place += IMAGE_BATCH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        spent, steps = spent + time.perf_counter() - begin, steps + 1
        if spent >= waiting[0]:
            with torch.no_grad():
                points.append((spent, float(torch.cat([elbo(part) for part in held.split(250)]).mean())))
            while waiting and waiting[0] <= spent:
                waiting.pop(0)
    return points, spent / steps, threads


def reaching(curve: Curve, bound: float) -> float:
    """When a curve comes to a bound, between points by straight lines; infinite if it does not."""
    for (before, low), (after, high) in zip([(0.0, -np.inf), *curve[:-1]], curve, strict=True):
        if high >= bound:
            share = 1.0 if not np.isfinite(low) else (bound - low) / (high - low)
            return before + share * (after - before)
    return float("inf")


def _image(kind: str, side: int) -> common.Function:
    def case(options: common.Options) -> common.Case:
        limit = 3.0 if options.quick else (60.0 if side == 32 else 90.0)
        count = 2000 if options.quick else 12_800
        data, test = coloured(True, count, side), coloured(False, 200 if options.quick else 1000, side)
        mine, compiling, step = our_curve(kind, side, data, test, limit)
        theirs, their_step, threads = torch_curve(side, data, test, limit)
        bar = max(bound for _, bound in theirs)
        at = reaching(theirs, bar)
        our_time = reaching(mine, bar)
        ahead = [float(np.interp(seconds, *zip(*mine, strict=True))) >= bound for seconds, bound in theirs]
        peer = common.Peer(common.version("torch"), at, at / our_time, mine[-1][1] - theirs[-1][1])
        details = {
            "images": f"{grey(True, count)[1]}, {side} x {side} x 3, coloured by number",
            "(seconds, held-out ELBO), ours": [(round(a, 1), round(b, 1)) for a, b in mine],
            "(seconds, held-out ELBO), PyTorch": [(round(a, 1), round(b, 1)) for a, b in theirs],
            "milliseconds a step, ours and PyTorch's": [round(1e3 * step, 1), round(1e3 * their_step, 1)],
            "threads of PyTorch, the faster of 1 and all": threads,
            "ours at least as high at each of PyTorch's points": all(ahead),
        }
        what = f"training to PyTorch's best bound in {limit:g} s"
        return common.Case(f"{kind}-{side}", what, "s", our_time, compiling, {"pytorch": peer}, details)

    return case


CASES: dict[str, common.Function] = {
    "mlp-784-400-20": mlp,
    **{f"{kind}-{side}": _image(kind, side) for side in (32, 64) for kind in ("patch", "conv")},
}

if __name__ == "__main__":
    common.main("vae", __doc__, CASES, ("mlp-784-400-20",))
