"""Bishop's inverse problem: a mixture density network beside PyTorch's, one Gaussian and least squares.

t ~ U(0, 1), x = t + 0.3 sin(2πt) + U(-0.1, 0.1); predict t from x (Bishop 1994, and 2006 section 5.6). The floor of the
negative log-likelihood of any conditional density is -1.28235 nats, the best single heteroscedastic Gaussian reaches
-0.6554, the best homoscedastic one -0.2122. Training sets have ROWS rows, the test set 100,000 others.

* ``training``: seconds of a whole fit, compilation included (a new process compiles; so does each here, as its caches
  are dropped), against the same network in PyTorch: widths, components, Glorot's start, Adam with the same schedule and
  clipping, batch size, steps, data. ``quality`` is our held-out log-likelihood minus PyTorch's.
* ``likelihood``: exp(negative log-likelihood) on the test set, the median over seeds, against models without a latent,
  trained the same way: ratio is how many times larger theirs is, ``quality`` the difference in nats.
"""

import statistics
import time
from functools import cache
from itertools import pairwise
from typing import Any

import common
import numpy as np

ROWS, TEST, BATCH, STEPS, RATE = 50_000, 100_000, 512, 4500, 1e-2
COMPONENTS, WIDTHS, FLOOR = 24, (64, 64, 64), 1e-3
BAR = -1.20


def sample(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs x and targets t."""
    rng = np.random.default_rng(seed)
    t = rng.random(rows)
    x = t + 0.3 * np.sin(2 * np.pi * t) + rng.uniform(-0.1, 0.1, rows)
    return x.astype(np.float32), t.astype(np.float32)


@cache
def test_set() -> tuple[np.ndarray, np.ndarray]:
    """100,000 rows that nothing is trained on."""
    return sample(TEST, 10_000)


def _optimiser(steps: int) -> Any:
    import optax

    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(RATE, steps)))


def ours(seed: int, steps: int, model: str = "mixture") -> tuple[float, float]:
    """(seconds of the fit with compilation, held-out negative log-likelihood)."""
    import jax

    import veil
    from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian

    trunk = veil.MLP(WIDTHS, "silu")
    made = {
        "mixture": lambda: veil.Mixture(veil.Linear(DiagonalGaussian(FLOOR)), COMPONENTS, trunk=trunk),
        "one Gaussian": lambda: veil.density(veil.Linear(DiagonalGaussian(FLOOR)), trunk=trunk),
        "least squares": lambda: veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk),
    }[model]()
    x, t = sample(ROWS, seed)
    jax.clear_caches()
    begin = time.perf_counter()
    fitted = veil.fit(
        made,
        veil.Data(t, evidence=x),
        key=jax.random.key(seed),
        batch_size=BATCH,
        steps=steps,
        optimiser=_optimiser(steps),
        progress=False,
    )
    jax.block_until_ready(fitted.model)
    taken = time.perf_counter() - begin
    x, t = test_set()
    return taken, -veil.evaluate(fitted.model, veil.Data(t, evidence=x)).log_likelihood_per_datum


def torch_network(seed: int, steps: int) -> tuple[float, float]:
    """The same network, data, start and training in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(common.PINNED)
    torch.manual_seed(seed)
    x, t = (torch.from_numpy(array) for array in sample(ROWS, seed))
    begin = time.perf_counter()
    units = [(column.mean(), column.std()) for column in (x, t)]

    def standard(column: Any, which: int) -> Any:
        return (column - units[which][0]) / units[which][1]

    sizes = (1, *WIDTHS)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    network = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 3 * COMPONENTS))
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    inputs, targets = standard(x, 0)[:, None], standard(t, 1)[:, None]
    with torch.no_grad():  # ours starts from k-means; this from means spread over the targets' quantiles
        levels = (torch.arange(COMPONENTS) + 0.5) / COMPONENTS
        network[-1].bias[COMPONENTS : 2 * COMPONENTS] = torch.quantile(targets[:10_000, 0], levels)
        network[-1].bias[2 * COMPONENTS :] = -1.0

    def log_density(inputs: Any, targets: Any) -> Any:
        logits, means, log_scales = network(inputs).split(COMPONENTS, 1)
        scales = log_scales.exp() + FLOOR
        parts = -0.5 * ((targets - means) / scales) ** 2 - scales.log() - 0.5 * float(np.log(2 * np.pi))
        return torch.logsumexp(torch.log_softmax(logits, 1) + parts, 1)

    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order, place = torch.randperm(ROWS), 0
    for _ in range(steps):
        if place + BATCH > ROWS:
            order, place = torch.randperm(ROWS), 0
        rows = order[place : place + BATCH]
        place += BATCH
        loss = -log_density(inputs[rows], targets[rows]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        schedule.step()
    taken = time.perf_counter() - begin
    with torch.no_grad():
        x, t = (torch.from_numpy(array) for array in test_set())
        value = log_density(standard(x, 0)[:, None], standard(t, 1)[:, None]).mean() - units[1][1].log()
    return taken, -float(value)


def training(options: common.Options) -> common.Case:
    """Time and quality against PyTorch."""
    steps = 600 if options.quick else STEPS
    repeats = options.repeats or (1 if options.quick else 3)
    mine, theirs = [], []
    for seed in range(repeats):
        mine.append(ours(seed, steps))
        theirs.append(torch_network(seed, steps))
    seconds = statistics.median(taken for taken, _ in mine)
    reached = [value for _, value in mine]
    peer = common.Peer(
        common.version("torch"),
        statistics.median(taken for taken, _ in theirs),
        common.ratio([taken for taken, _ in mine], [taken for taken, _ in theirs]),
        statistics.median(their - our for (_, our), (_, their) in zip(mine, theirs, strict=True)),
    )
    details = {
        "setting": f"{ROWS} training rows, {COMPONENTS} components, widths {WIDTHS}, batch {BATCH}, {steps} steps",
        "held-out NLL by seed, ours": [round(value, 4) for value in reached],
        "held-out NLL by seed, PyTorch": [round(value, 4) for _, value in theirs],
        "seconds by seed, ours": [round(taken, 1) for taken, _ in mine],
        f"at most {BAR}": all(value <= BAR for value in reached),
    }
    return common.Case("training", "a whole fit, compilation included", "s", seconds, None, {"pytorch": peer}, details)


def likelihood(options: common.Options) -> common.Case:
    """Quality against models without a latent."""
    steps = 600 if options.quick else STEPS
    repeats = options.repeats or (1 if options.quick else 3)
    values = {
        model: [ours(seed, steps, model)[1] for seed in range(repeats)]
        for model in ("mixture", "one Gaussian", "least squares")
    }
    best = statistics.median(values["mixture"])
    peers = {
        model: common.Peer(
            common.version("veil"),
            float(np.exp(statistics.median(values[model]))),
            float(np.exp(statistics.median(values[model]) - best)),
            statistics.median(values[model]) - best,
        )
        for model in ("one Gaussian", "least squares")
    }
    details = {f"held-out NLL by seed, {model}": [round(value, 4) for value in values[model]] for model in values}
    what = "exp(held-out negative log-likelihood)"
    return common.Case("likelihood", what, "exp(nats)", float(np.exp(best)), None, peers, details)


CASES: dict[str, common.Function] = {"training": training, "likelihood": likelihood}

if __name__ == "__main__":
    common.main("mdn", __doc__, CASES, ("training", "likelihood"))
