"""The page of a certificate: verdicts, draws beside demonstrations, ablations, drives."""

import html
import os
from pathlib import Path
from typing import Any

import numpy as np

from veil.control.certificate import Acts, Certificate, Driven
from veil.control.certificate.result import Shown
from veil.report import style
from veil.report.page import Picture, Section, Table, page

DRIVES = 60  # drawn
CALLED = {
    "policy": "the policy",
    "prior": "z of the prior",
    "centre": "z at the centre",
    "own": "z of the datum",
    "other": "z of another",
}
SHARES = {
    "off": "off the demonstrations",
    "between": "between modes",
    "coverage": "coverage of modes",
    "success": "success",
}


def write_certificate(file: str | os.PathLike[str], certificate: Certificate, *, command: str = "") -> Path:
    """Write the page of a certificate, which needs nothing else; returns its path.

    Raises ModuleNotFoundError if matplotlib is not installed.
    """
    style.matplotlib()
    path = Path(file)
    pictures = drawn(certificate)
    verdicts = [(each.name, "fault" if each.said and each.bad else "yes" if each.said else "no", each.words)
                for each in certificate.verdicts]  # fmt: skip
    sections = [
        Section("Verdicts", tables=[Table(("what", "verdict", "by what"), verdicts)], notes=certificate.notes),
        Section("Numbers", tables=[Table(("quantity", "value", "what it is"), certificate.table())]),
    ]
    if "draws" in pictures:
        sections.append(Section("Draws beside demonstrations", pictures=[pictures["draws"]]))
    if "ablation" in pictures:
        sections.append(
            Section("What the latent contributes", pictures=[pictures["ablation"]], tables=[_ablation(certificate)])
        )
    if "drives" in pictures:
        sections.append(Section("Drives", pictures=[pictures["drives"]]))
    if command:
        sections.append(Section("What was asked for", command=command))
    faults = ", ".join(certificate.faults)
    lead = f"Faults: {html.escape(faults)}." if faults else "No faults were found."
    title = f"Certificate of {certificate.policy}" + (f" on {certificate.data}" if certificate.data else "")
    path.write_text(page(title, [f"<strong>{lead}</strong>"], sections), encoding="utf-8")
    return path


def drawn(certificate: Certificate) -> dict[str, Picture]:
    """The pictures there are: "draws", "ablation", "drives"."""
    found = {}
    if certificate.shown is not None:
        found["draws"] = draws(certificate.shown)
    if certificate.acts is not None and certificate.ablation:
        found["ablation"] = ablation({"policy": certificate.acts, **certificate.ablation})
    if certificate.driven is not None:
        found["drives"] = drives(certificate.driven)
    return found


def _plane(shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """A place and two directions [D, 2] that show the demonstrated actions' modes; of one number only one."""
    middle = np.mean(shown.demonstrated, axis=0)
    centred = shown.demonstrated - middle[None]
    if centred.shape[1] <= 2:
        return np.zeros(centred.shape[1]), np.eye(centred.shape[1])
    return middle, np.linalg.svd(centred, full_matrices=False)[2][:2].T


def draws(shown: Shown) -> Picture:
    """Actions at an observation where demonstrations have several modes: theirs, and draws of each kind below."""
    origin, axes = _plane(shown)
    rows: dict[str, Any] = {"demonstrations": shown.demonstrated}
    rows |= {CALLED[name]: each for name, each in shown.drawn.items()}
    whole = shown.demonstrated.shape[1] <= 2
    rng = np.random.default_rng(0)
    with style.figure(panel=(6.6, 0.5 + 0.52 * len(rows))) as (picture, (panel,)):
        for number, actions in enumerate(rows.values()):
            along = (np.asarray(actions) - origin[None]) @ axes
            # of two numbers the second is drawn as height; of one, noise, so that points are seen
            height = (
                rng.uniform(-0.3, 0.3, len(along)) if axes.shape[1] == 1 else _within(along[:, 1], shown, origin, axes)
            )
            where = len(rows) - 1 - number
            colour = style.INK if number == 0 else style.BLUE if number == 1 else style.GREY
            panel.scatter(along[:, 0], where + height, s=14, color=colour, alpha=0.65, linewidths=0)
            panel.axhline(where - 0.5, color=style.PALE, linewidth=0.8)
        panel.set_yticks(range(len(rows)), list(rows)[::-1])
        panel.set_ylim(-0.5, len(rows) - 0.5)
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
        quantity = "action" if whole else "action, along the first principal direction"
        style.label(panel, x=(quantity, "its unit"), y=("drawn from", "each a row"))
    seen = ", ".join(f"{number:.3g}" for number in shown.observation[:6])
    more = ", ..." if len(shown.observation) > 6 else ""
    caption = (
        f"At the observation ({seen}{more}): the actions of the nearest demonstrations ({int(shown.modes.max()) + 1} "
        "modes), and draws of the policy and of its model with the latent from elsewhere."
    )
    return Picture(picture, caption, "draws")


def _within(values: np.ndarray, shown: Shown, origin: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The second coordinate as a height from -0.4 to 0.4, by the demonstrations' range."""
    known = (shown.demonstrated - origin[None]) @ axes[:, 1]
    low, high = np.min(known), np.max(known)
    heights: np.ndarray = np.clip(0.6 * (values - (low + high) / 2) / ((high - low) or 1.0), -0.4, 0.4)
    return heights


def ablation(acts: dict[str, Acts]) -> Picture:
    """Bars: shares of draws and drives, for the policy and for its latent from everywhere."""
    known = [name for name in SHARES if any(np.isfinite(vars(each)[name]) for each in acts.values())]
    width = 0.8 / len(acts)
    with style.figure(panel=(1.6 + 1.6 * len(known), 3.0)) as (picture, (panel,)):
        for number, (name, each) in enumerate(acts.items()):
            values = [vars(each)[share] for share in known]
            places = np.arange(len(known)) + (number - (len(acts) - 1) / 2) * width
            panel.bar(places, np.nan_to_num(values), width * 0.92, color=style.COLOURS[number], label=CALLED[name])
            for place, value in zip(places, values, strict=True):
                text = f"{value:.2f}" if np.isfinite(value) else "-"
                panel.text(place, np.nan_to_num(value) + 0.01, text, ha="center", va="bottom", fontsize=6.5)
        panel.set_xticks(range(len(known)), [SHARES[name] for name in known])
        panel.set_ylim(0, 1.08)
        panel.grid(visible=False, axis="x")
        style.legend(panel, loc="center left", bbox_to_anchor=(1, 0.5))
        style.label(panel, x=("measure", "the first two: less is better"), y=("share", "of one"))
    caption = (
        "The same measures with the latent from elsewhere: drawn from the prior; held at its central value (decode "
        "z = 0); from the posterior of the demonstrated action (a reconstruction); from that of another datum. "
        "A dash: not measured."
    )
    return Picture(picture, caption, "ablation")


def _ablation(certificate: Certificate) -> Table:
    rows = []
    assert certificate.acts is not None
    for name, each in {"policy": certificate.acts, **certificate.ablation}.items():
        cells = [f"{value:.4g}" if np.isfinite(value) else "-" for value in vars(each).values()]
        rows.append((CALLED[name], *cells))
    head = ("latent", "off", "between", "coverage", "several", "nats", "success")
    return Table(head, rows, "nats: -log 1/S Σ p(a | o, z_s) of the demonstrated action, with the draws' latents")


def drives(driven: Driven) -> Picture:
    """Paths from above, by how they ended, beside the demonstrators'."""
    sides = {"the policy": driven} | ({} if driven.demonstrators is None else {"demonstrators": driven.demonstrators})
    scene = driven.drives.world.scene()
    package = style.matplotlib()
    (x0, y0), (x1, y1) = scene.low, scene.high
    wide = x1 - x0 > y1 - y0
    shape = {"panel": (5.6, 2.6), "rows": len(sides)} if wide else {"panel": (3.6, 4.6), "columns": len(sides)}
    with style.figure(**shape) as (picture, panels):  # type: ignore[arg-type]
        for panel, (name, each) in zip(panels, sides.items(), strict=True):
            for x, y, radius in scene.discs:
                panel.add_patch(package.patches.Circle((x, y), radius, color=style.GREEN, alpha=0.4, linewidth=0))
            good = each.drives.success
            for path, fine in zip(each.drives.paths[:DRIVES], good[:DRIVES], strict=True):
                colour = style.BLUE if fine else style.ORANGE
                panel.plot(path[:, 0], path[:, 1], color=colour, linewidth=0.7, alpha=0.6)
            panel.plot(*np.array(scene.finish).T, color=style.INK, linestyle="--", linewidth=1)
            panel.set(xlim=(x0, x1 + 0.03 * (x1 - x0)), ylim=(y0, y1 + 0.03 * (y1 - y0)), aspect="equal")
            style.label(panel, x=("x", "length"), y=("y", "length"), title=f"{name}: {np.mean(good):.0%} succeed")
    caption = (
        f"The first {min(DRIVES, len(driven.drives))} drives from above: those that succeed in blue, others in orange."
    )
    return Picture(picture, caption, "drives")
