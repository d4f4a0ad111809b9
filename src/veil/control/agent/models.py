"""The usual world models of what an environment shows, and the posteriors that filter."""

from typing import Any

from veil.parts.dynamics import Recurrent
from veil.parts.heads import Bernoulli, HomoscedasticGaussian
from veil.parts.heads import DiagonalGaussian as Gaussian
from veil.parts.images import PyramidDecoder
from veil.parts.joint import Branches, Joint
from veil.parts.nets import MLP
from veil.posterior import Now, Past, Sequential
from veil.zoo.state_space import StateSpace, rssm

REWARD, TERMINATED = "reward", "terminated"


def world_model(
    shows: Any,
    *,
    latent: Any = 16,
    memory: int = 128,
    levels: tuple[int, ...] = (16, 32, 64),
    width: int = 128,
    reward: Any = None,
    dynamics: Any = None,
) -> tuple[StateSpace, Sequential]:
    """p(o_1..T, r_1..T, ended_1..T | u_1..T), and q(z_t | past, o_t), without parameters, for ``ModelBased``.

    ``shows``: the shape of each part of the observation by its name, {"frame": (32, 32, 3)}; three axes are an image in
    [0, 1], whose pixels are coins (``Bernoulli(soft=True)``) behind a pyramid of these ``levels``; others are normal
    behind a network of ``width``. ``reward``: its head, by default a normal of one trained scale. ``dynamics``: how
    states go on, by default a recurrent state-space model's of ``memory`` numbers (Hafner et al. 2019) with a
    ``latent`` of so many; ``veil.dynamics.LocallyLinear(8)`` is embed to control's (Watter et al. 2015), in which
    ``Quadratic`` plans, and ``Gated(16)`` a deep Markov model's. The posterior reads the observation only, not the
    reward: nobody shows it to who acts.

    >>> model, posterior = world_model({"frame": (32, 32, 1)})
    >>> sorted(model.head.parts)
    ['frame', 'reward', 'terminated']
    """
    net = MLP((width, width), "elu")
    image = lambda shape: PyramidDecoder(shape, levels, width)  # noqa: E731
    decoders: dict[str, Any] = {name: image(shape) if len(shape) == 3 else net for name, shape in shows.items()}
    heads: dict[str, Any] = {
        name: Bernoulli(soft=True) if len(shape) == 3 else Gaussian() for name, shape in shows.items()
    }
    readers = Branches(decoders).mirrored().only()
    results = {REWARD: HomoscedasticGaussian() if reward is None else reward, TERMINATED: Bernoulli()}
    branches = Branches({**decoders, **dict.fromkeys(results, net)})
    head = Joint({**heads, **results})
    if dynamics is None:
        return rssm(latent, head, branches, memory=memory), Sequential(readers, Now())
    sees = Now() if isinstance(dynamics, Recurrent) else Past()
    return StateSpace(dynamics, head, branches), Sequential(readers, sees)


def query(shows: Any) -> dict[str, str]:
    """What ``Recording.data`` takes for such a model: parts of the observation, and what comes of actions."""
    return {name: name for name in (*shows, REWARD, TERMINATED)}
