"""Small simulated worlds, written in JAX; those for imitation are known to Gymnasium by name once this is imported.

``gymnasium.make("veil.control.worlds:veil/Tree-v0")`` imports it; "veil/Slalom-v0" and "veil/PushT-v0" likewise.
"""

from contextlib import suppress

from veil.control.worlds import overcooked, slalom, tree
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
from veil.control.worlds.slalom import Slalom
from veil.control.worlds.tree import Tree

__all__ = [
    "Drives",
    "Ending",
    "Overcooked",
    "Scene",
    "Slalom",
    "Step",
    "Tree",
    "World",
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
        ("Tree", "environment:tree", None),  # these two end by themselves
        ("Slalom", "environment:slalom", None),
        ("PushT", "pusht:pusht", 300),
    ):
        if f"veil/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"veil/{name}-v0", f"veil.control.worlds.{place}", max_episode_steps=limit)


with suppress(ModuleNotFoundError):  # without gymnasium the worlds are there all the same
    _register()
