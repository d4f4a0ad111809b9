"""``veil fit --resume``: what must be the same, and how a finished fit goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from veil.cli.program import Refusal

# what may be another when a fit goes on: how it runs, and how long
RUNS = ("steps", "out", "resume", "quiet", "force", "checkpoint_every", "log", "minutes")
NOT_OF_THE_FIT = (*RUNS, "devices", "coordinator", "processes", "process")


def check_same(out: Path, before: Any, asked: dict[str, Any]) -> None:
    """Raise Refusal, naming the options, if a run was begun with others than are asked for now.

    ``before``: those of its configuration; anything but a dictionary: nothing is known of them.
    """
    if not isinstance(before, dict):
        return
    words = lambda name, value: name.upper() if name in ("model", "data") else f"--{name.replace('_', '-')}"  # noqa: E731
    different = [
        f"{words(name, None)} (it was begun with {_told(before.get(name))}, not {_told(asked.get(name))})"
        for name in sorted(before.keys() | asked.keys())
        if before.get(name) != asked.get(name)
    ]
    if different:
        raise Refusal(
            f"--resume: {out} is another fit, by {', '.join(different)}. Only --steps may change; repeat the command "
            "that began it, begin anew with --force, or choose another --out"
        )


def _told(value: Any) -> str:
    return "none" if value is None or value is False else "it" if value is True else str(value)


def begun(out: Path, folder: Path, asked: dict[str, Any], taken: int) -> None:
    """Write what is asked for into the directory of an unfinished run, or raise Refusal if it holds other wishes.

    With ``taken`` steps behind it, of a finished run, the metrics go on, too.
    """
    from veil.host.files import plain
    from veil.saved.runs import CONFIG, METRICS

    file = folder / CONFIG
    if file.is_file():
        try:
            before = json.loads(file.read_bytes())["asked"]
        except (ValueError, KeyError, TypeError):  # half-written: the checkpoints say whether it is another fit
            before = None
        check_same(out, before, asked)
    file.write_text(json.dumps({"asked": plain(asked)}), "utf-8")
    if taken and not (folder / METRICS).exists():
        shutil.copyfile(out / METRICS, folder / METRICS)
        if (out / "tensorboard").is_dir():
            shutil.copytree(out / "tensorboard", folder / "tensorboard", dirs_exist_ok=True)


def going_on(done: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """What ``veil.fit`` is told for a finished fit to go on: its posterior, and a warm-up that is behind it.

    The learning rate falls along a curve of its own over the steps that are added.
    """
    import jax

    from veil.objective import Annealed

    warm = lambda node: isinstance(node, Annealed)  # noqa: E731
    late = lambda node: replace(node, taken=float(done.status.steps)) if warm(node) else node  # noqa: E731
    objective = jax.tree.map(late, arguments.get("objective"), is_leaf=warm)
    return {"posterior": done.posterior} | ({} if objective is None else {"objective": objective})
