"""Where arrays go: one device, or a mesh of them, of one process or of many (``jax.distributed``).

Data parallelism: parameters are the same everywhere, rows are shared out, and what is summed over rows is summed over
devices by the compiler.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def mesh(devices: int | None = None) -> Mesh:
    """A mesh of all devices of all processes, or of the first ``devices``, for ``veil.fit(..., mesh=...)``.

    Raises ValueError if there are not so many.

    >>> mesh(1).size
    1
    """
    found = jax.devices()
    count = len(found) if devices is None else devices
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(found):
        there = "there is one" if len(found) == 1 else f"there are {len(found)}"
        hint = "; to have several on one processor, for trying: XLA_FLAGS=--xla_force_host_platform_device_count=8"
        raise ValueError(f"devices: {there} ({found[0].platform}); got {devices!r}{hint if len(found) == 1 else ''}")
    return Mesh(np.array(found[:count]), (AXIS,), axis_types=(AxisType.Auto,))


@dataclass(frozen=True)
class Placement:
    """How a fit places arrays: without a mesh on the default device, with one ``everywhere`` or by rows."""

    mesh: Mesh | None = None

    @property
    def count(self) -> int:
        """How many devices share the rows."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def processes(self) -> int:
        """How many processes the mesh spans."""
        return 1 if self.mesh is None else len({device.process_index for device in self.mesh.devices.flat})

    def _sharding(self, axis: int | None) -> NamedSharding:
        assert self.mesh is not None
        names = () if axis is None else (*[None] * axis, self.mesh.axis_names)
        return NamedSharding(self.mesh, PartitionSpec(*names))

    def everywhere(self, tree: Any) -> Any:
        """Host arrays (the same in every process) as device arrays, a copy on each device."""
        return self._put(tree, None)

    def by_rows(self, tree: Any, axis: int) -> Any:
        """Host arrays (the same in every process) as device arrays whose ``axis`` is shared out."""
        return self._put(tree, axis)

    def _put(self, tree: Any, axis: int | None) -> Any:
        if self.mesh is None:
            return jax.tree.map(lambda leaf: jax.device_put(leaf) if eqx.is_array(leaf) else leaf, tree)
        sharding = self._sharding(axis)

        def put(leaf: Any) -> Any:
            if not eqx.is_array(leaf):
                return leaf
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree)

    def local_rows(self, tree: Any) -> Any:
        """Each process's own rows, together one array shared out along its first axis."""
        if self.mesh is None:
            return tree
        sharding = self._sharding(0)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)

    def same(self, tree: Any) -> Any:
        """Inside jit: say that these arrays are the same on every device."""
        return tree if self.mesh is None else jax.lax.with_sharding_constraint(tree, self._sharding(None))

    def shared(self, tree: Any) -> Any:
        """Inside jit: say that the first axis of these arrays is shared out."""
        return tree if self.mesh is None else jax.lax.with_sharding_constraint(tree, self._sharding(0))

    def agreed(self, *numbers: bool | int | float) -> np.ndarray:
        """The same numbers in every process, where clocks and signals differ: the largest of each."""
        mine = np.asarray(numbers, np.float32)
        if self.processes == 1:
            return mine
        from jax.experimental import multihost_utils

        return np.max(np.asarray(multihost_utils.process_allgather(mine)), axis=0)


def placement(given: Any) -> Placement:
    """The placement for an argument ``mesh``: None, a mesh, or a number of devices.

    Raises TypeError for what is none of these.
    """
    if given is None:
        return Placement()
    if isinstance(given, int) and not isinstance(given, bool):
        given = mesh(given)
    if not isinstance(given, Mesh):
        raise TypeError(f"mesh: expected veil.mesh(), a jax.sharding.Mesh or a number of devices; got {given!r}")
    return Placement(Mesh(given.devices, given.axis_names, axis_types=(AxisType.Auto,) * len(given.axis_names)))


def leads() -> bool:
    """Whether this process is the one that writes and shows: the first."""
    return jax.process_index() == 0
