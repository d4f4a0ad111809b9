"""Importance-weighted bounds beside PyTorch: training steps of 50 draws, and 5,000 draws an image to evaluate by.

The network of the IWAE paper's one-layer models, 784-200-200-50-200-200-784 with tanh, binary images (Fashion-MNIST or
MNIST where ``veil.data.load`` finds them, thresholded; else blobs), batches of 20.

* ``iwae-50``, ``dreg-50``: milliseconds a training step of ``veil.fit``'s own loop, gradients through the path (Burda
  et al. 2016) or doubly reparameterised (Tucker et al. 2019), beside a straightforward step in PyTorch with the faster
  of one thread and all. Quality: the bound with 50 draws on other images after as many steps. Bar: 1.5.
* ``bound-5000``: seconds for 1,000 images (``--quick``: 100) with ``veil.evaluate``, which also says the ELBO, active
  units and more, beside PyTorch with the same weights, 100 draws of 20 images at a time, without a graph. Quality: the
  difference of the bounds, nats an image. ``details``: peak memory over libraries and data with 500 and with 5,000
  draws. Bar: 1.5, and flat memory.
"""

import math
import statistics
import time
from typing import Any

import common
import numpy as np
import vae

LATENT, HIDDEN, BATCH, DRAWS, RATE = 50, 200, 20, 50, 1e-3


def model() -> Any:
    import veil

    return veil.VAE(LATENT, veil.heads.Bernoulli(), veil.MLP((HIDDEN, HIDDEN), "tanh"))


def fitted(data: np.ndarray, objective: Any, steps: int, clock: list[float]) -> Any:
    """``veil.fit``, and when each of its steps was told."""
    import jax
    import optax

    import veil

    return veil.fit(
        model(),
        data,
        key=jax.random.key(0),
        objective=objective,
        optimiser=optax.adam(RATE),
        steps=steps,
        batch_size=BATCH,
        record=lambda _: clock.append(time.perf_counter()),
        progress=False,
    )


class Peer:
    """The same in PyTorch."""

    def __init__(self) -> None:
        from itertools import pairwise

        import torch
        from torch import nn

        torch.manual_seed(0)

        def tanh(*sizes: int) -> list[Any]:
            return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())]

        self.encoder = nn.Sequential(*tanh(784, HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT))
        self.decoder = nn.Sequential(*tanh(LATENT, HIDDEN, HIDDEN), nn.Linear(HIDDEN, 784))
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=RATE)

    def log_weights(self, images: Any, draws: int, double: bool = False) -> Any:
        """log p(y, z) - log q(z | y) [draws, N]; ``double``: q's own parameters have no gradient, z has."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as entropy

        mean, log_scale = self.encoder(images).chunk(2, -1)
        scale = log_scale.exp()
        noise = torch.randn(draws, *mean.shape)
        z = mean + scale * noise
        self.z = z
        if double:
            mean, scale = mean.detach(), scale.detach()
        log_q = (-0.5 * ((z - mean) / scale) ** 2 - scale.log()).sum(-1)
        log_prior = -0.5 * (z**2).sum(-1)
        return log_prior - log_q - entropy(self.decoder(z), images.expand(draws, -1, -1), reduction="none").sum(-1)

    def step(self, images: Any, double: bool) -> None:
        import torch

        self.optimiser.zero_grad(set_to_none=True)
        logs = self.log_weights(images, DRAWS, double)
        if double:
            weights = torch.softmax(logs.detach(), 0)
            self.z.register_hook(lambda slope: slope * weights[..., None])
            loss = -(weights * logs).sum(0).mean()
        else:
            loss = math.log(DRAWS) - torch.logsumexp(logs, 0).mean()
        loss.backward()
        self.optimiser.step()

    def bound(self, images: Any, draws: int, block: int) -> float:
        """Nats an image, with so many draws at a time."""
        import torch

        with torch.no_grad():
            found = []
            for some in images.split(BATCH):
                total = torch.full((len(some),), -math.inf)
                for _ in range(draws // block):
                    total = torch.logaddexp(total, torch.logsumexp(self.log_weights(some, block), 0))
                found.append(total - math.log(draws))
            return float(torch.cat(found).mean())

    def take(self, fit: Any) -> None:
        """The weights of a fit of ours."""
        import torch

        tensor = lambda array: torch.from_numpy(np.array(array))  # noqa: E731
        net, decoder = fit.posterior.net.layers, fit.model.decoder.layers
        weights = fit.model.output.weight[0]
        ours = [(each.weight, each.bias) for each in (*net, fit.posterior.output, *decoder)]
        ours.append((weights[:, 1:], weights[:, 0]))
        theirs = [part for part in (*self.encoder, *self.decoder) if hasattr(part, "weight")]
        with torch.no_grad():
            for part, (weight, bias) in zip(theirs, ours, strict=True):
                part.weight.copy_(tensor(weight))
                part.bias.copy_(tensor(bias))


def training(name: str, options: common.Options) -> common.Case:
    """A step of either gradient."""
    import torch

    import veil
    from veil import objective as objectives

    double = name == "dreg-50"
    gradient = objectives.DoublyReparameterised() if double else objectives.Pathwise()
    objective = veil.ImportanceWeighted(DRAWS, gradient)
    steps = 100 if options.quick else 400
    data, other = vae.binary(True, 5000), vae.binary(False, 200)
    images, peer = torch.from_numpy(data), Peer()
    rng = np.random.default_rng(0)
    batch = lambda: images[torch.from_numpy(rng.integers(len(images), size=BATCH))]  # noqa: E731
    threads = vae.torch_threads(lambda: peer.step(batch(), double))
    begin = time.perf_counter()
    fitted(data, objective, 20, [])
    compiled = time.perf_counter() - begin
    kept: dict[str, Any] = {}

    def ours() -> float:
        clock: list[float] = []
        kept["fit"] = fitted(data, objective, steps, clock)
        return 1e3 * (clock[-1] - clock[steps // 4]) / (len(clock) - steps // 4 - 1)

    def theirs() -> float:
        kept["peer"] = peer = Peer()
        for _ in range(steps // 4):
            peer.step(batch(), double)
        begin = time.perf_counter()
        for _ in range(steps - steps // 4):
            peer.step(batch(), double)
        return 1e3 * (time.perf_counter() - begin) / (steps - steps // 4)

    times = common.in_turn({"ours": ours, "theirs": theirs}, options.repeats or (1 if options.quick else 3))
    mine = Peer()
    mine.take(kept["fit"])
    values = [each.bound(torch.from_numpy(other), DRAWS, DRAWS) for each in (mine, kept["peer"])]
    peers = {
        "PyTorch": common.Peer(
            common.version("torch"),
            statistics.median(times["theirs"]),
            common.ratio(times["ours"], times["theirs"]),
            values[0] - values[1],
        )
    }
    details = {"images": vae.grey(True, 1)[1], "PyTorch's threads": threads, "bounds, ours and theirs": values}
    return common.Case(name, "a training step", "ms", statistics.median(times["ours"]), compiled, peers, details)


MEMORY = """
import json, sys
import common, importance
import numpy as np
import jax, vae, veil
draws, images = int(sys.argv[1]), int(sys.argv[2])
fit = importance.fitted(vae.binary(True, 5000), veil.ELBO(), 20, [])
data = vae.binary(False, images)
before = common.peak_memory()
veil.evaluate(fit, data, key=jax.random.key(1), samples=draws, progress=False)
print(json.dumps({"grown": common.peak_memory() - before}))
"""


def bound(options: common.Options) -> common.Case:
    """The same bound of the same network."""
    import jax
    import torch

    import veil

    count, draws = 100 if options.quick else 1000, 500 if options.quick else 5000
    fit = fitted(vae.binary(True, 5000), veil.ELBO(), 500, [])
    data, peer = vae.binary(False, count), Peer()
    peer.take(fit)
    images = torch.from_numpy(data)
    threads = vae.torch_threads(lambda: peer.bound(images[:BATCH], 100, 100))
    found: dict[str, float] = {}

    def ours() -> float:
        begin = time.perf_counter()
        result = veil.evaluate(fit, data, key=jax.random.key(1), samples=draws, progress=False)
        found["ours"] = result.log_likelihood_per_datum
        return time.perf_counter() - begin

    def theirs() -> float:
        begin = time.perf_counter()
        found["theirs"] = peer.bound(images, draws, 100)
        return time.perf_counter() - begin

    first = ours()
    times = common.in_turn({"ours": ours, "theirs": theirs}, options.repeats or 1)
    peers = {
        "PyTorch": common.Peer(
            common.version("torch"),
            statistics.median(times["theirs"]),
            common.ratio(times["ours"], times["theirs"]),
            found["ours"] - found["theirs"],
        )
    }
    grown = {each: round(common.python(MEMORY, str(each), str(count))[1]["grown"]) for each in (draws // 10, draws)}
    details = {
        "peak memory over libraries and data, MB, by draws": grown,
        "images": count,
        "PyTorch's threads": threads,
    }
    what, median = f"the bound with {draws} draws", statistics.median(times["ours"])
    return common.Case("bound-5000", what, "s", median, first - median, peers, details)


if __name__ == "__main__":
    cases = {name: lambda options, name=name: training(name, options) for name in ("iwae-50", "dreg-50")}
    common.main("importance", __doc__, cases | {"bound-5000": bound}, ("iwae-50", "dreg-50"))
