"""How ``veil fit`` runs: its checkpoints, its metrics, on which devices, in how many processes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veil.cli.program import Refusal, Stopped

EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Running:
    """What was asked for about the running of a fit. Raises Refusal for what does not go together."""

    every: float | None
    resume: bool
    log: str | None
    devices: int | None
    coordinator: str | None
    processes: int | None
    process: int | None

    def check(self, select: str | None) -> None:
        """Refuse what does not go together."""
        from veil.host.checkpoints import available

        if self.log not in (None, "tensorboard"):
            raise Refusal(f"--log: expected tensorboard; got {self.log!r}")
        if (self.resume or self.every) and not available():
            raise Refusal("--resume and --checkpoint-every need orbax-checkpoint: pip install 'veil[scale]'")
        if self.resume and self.every == 0:
            raise Refusal("--resume: with --checkpoint-every 0 there are no checkpoints to go on from")
        alone = {"--resume": self.resume, "--devices": self.devices, "--coordinator": self.coordinator}
        for option, value in alone.items():
            if select is not None and value:
                raise Refusal(f"{option}: --select fits many models, each of them whole, here; leave one of them out")
        named = self.processes is not None and self.process is not None
        if self.coordinator == "auto" and (self.processes is not None or self.process is not None):
            raise Refusal("--coordinator auto: the cluster says how many processes there are; leave --process(es) out")
        if self.coordinator not in (None, "auto") and not named:
            raise Refusal("--coordinator: say --processes and --process too, or --coordinator auto on a cluster")
        if self.coordinator is None and (self.processes is not None or self.process is not None):
            raise Refusal("--processes and --process: say where they meet, as in --coordinator localhost:12345")
        if named and self.process >= self.processes:  # type: ignore[operator]
            raise Refusal(f"--process: {self.processes} processes are 0 to {self.processes - 1}; got {self.process}")  # type: ignore[operator]

    @property
    def together(self) -> bool:
        """Whether several processes fit one model."""
        return self.coordinator is not None

    def meet(self) -> None:
        """Wait for the other processes. Before anything else touches JAX's devices."""
        import jax

        if self.coordinator == "auto":
            jax.distributed.initialize()
        elif self.coordinator is not None:
            jax.distributed.initialize(self.coordinator, self.processes, self.process)

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks: the first of several."""
        from veil.host.devices import leads

        return not self.together or leads()

    @contextmanager
    def place(self, out: Path, force: bool) -> Iterator[Path]:
        """The directory to write the run into; the leader makes it, and makes it ``out`` at the end."""
        from veil.saved import unfinished

        with ExitStack() as stack:
            folder = unfinished.place_of(out)
            if self.leads:
                folder = stack.enter_context(unfinished.creating(out, force, self.resume))
            if self.together:
                from jax.experimental import multihost_utils

                multihost_utils.sync_global_devices("the run directory is there")
            yield folder

    def fit(self, model: Any, data: Any, folder: Path, options: dict[str, Any], taken: int = 0) -> Any:
        """``veil.fit`` as asked for; its steps are told as those behind ``taken`` others."""
        from veil.host import checkpoints, metrics
        from veil.host.devices import mesh
        from veil.learning.fitting import fit
        from veil.saved.runs import METRICS
        from veil.saved.unfinished import CHECKPOINTS

        if checkpoints.available() and self.every != 0:
            kept = checkpoints.Checkpoints(folder / CHECKPOINTS, every=self.every or EVERY)
            options = options | {"checkpoints": kept}
        if self.devices is not None or self.together:
            options = options | {"mesh": mesh(self.devices)}
        lines = metrics.JsonLines(folder / METRICS)
        records: list[Any] = [lines]
        if self.log is not None and self.leads:
            records.append(metrics.TensorBoard(folder / "tensorboard"))
        record: Any = metrics.Several(records)
        if taken:
            record = metrics.Behind(record, taken)
            record.resumed(0)
        try:
            return fit(model, data, record=record, **options)
        except checkpoints.Interrupted as error:  # a KeyboardInterrupt would lose its words on the way out
            words = str(error).replace("the same call goes on", "the same command with --resume goes on")
            raise Stopped(words, 128 + error.number) from error
        finally:
            for each in records:
                each.close()
