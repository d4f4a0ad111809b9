"""Small simulated worlds, written in JAX; those for imitation are known to Gymnasium by name once this is imported.

``gymnasium.make("veil.control.worlds:veil/Tree-v0")`` imports it; "veil/Slalom-v0", "veil/PushT-v0",
"veil/DeepSea-v0", "veil/NoisyTelevision-v0", "veil/CartPoleSwingUp-v0", "veil/CartPoleSwingUpSparse-v0",
"veil/CartPoleBalance-v0" and "veil/CartPolePETS-v0" likewise.
"""

from contextlib import suppress

from veil.control.worlds import cartpole, overcooked, slalom, tree
from veil.control.worlds.cartpole import CartPole
from veil.control.worlds.frame import (
    Drives,
    Ending,
    Scene,
    Step,
    World,
    demonstrate,
    demonstrations,
    drive,
    drives,
    entropy,
)
from veil.control.worlds.overcooked import Overcooked
from veil.control.worlds.physics import Physics
from veil.control.worlds.slalom import Slalom
from veil.control.worlds.television import Television
from veil.control.worlds.tree import Tree

__all__ = [
    "CartPole",
    "Drives",
    "Ending",
    "Overcooked",
    "Physics",
    "Scene",
    "Slalom",
    "Step",
    "Television",
    "Tree",
    "World",
    "cartpole",
    "demonstrate",
    "demonstrations",
    "drive",
    "drives",
    "entropy",
    "overcooked",
    "slalom",
    "tree",
]


def _register() -> None:
    import gymnasium

    for name, place, limit in (
        ("Tree", "environment:tree", None),  # these end by themselves, DeepSea, too
        ("Slalom", "environment:slalom", None),
        ("PushT", "pusht:pusht", 300),
        ("DeepSea", "walked:deep_sea", None),
        ("NoisyTelevision", "watched:television", 100),
    ):
        if f"veil/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"veil/{name}-v0", f"veil.control.worlds.{place}", max_episode_steps=limit)
    for name, place, limit in (
        ("SwingUp", "swing_up", 1000),
        ("SwingUpSparse", "swing_up_sparse", 1000),
        ("Balance", "balance", 1000),
        ("PETS", "pets", 200),
    ):
        if f"veil/CartPole{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"veil/CartPole{name}-v0",
                f"veil.control.worlds.moved:{place}",
                max_episode_steps=limit,
                kwargs={"render_size": 256},  # which says that it draws in any size
            )


with suppress(ModuleNotFoundError):  # without gymnasium the worlds are there all the same
    _register()
