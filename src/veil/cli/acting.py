"""``veil act``: a policy's run plays episodes of an environment."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options, runs
from veil.cli.imitating import Choose
from veil.cli.imitation import choice, policy_of, said
from veil.cli.program import Refusal, refusing

FILMS, PICTURES = (".gif", ".mp4"), (".png",)


def act(
    run: options.RunToUse,
    env: Annotated[
        str | None,
        typer.Argument(
            metavar="ENV", help="tree, slalom, pusht, or a Gymnasium environment; default: that of --env of the run."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option("--episodes", help="How many.", min=1)] = 100,
    film: Annotated[
        Path | None,
        typer.Option(
            "--film", metavar="FILE", help="A .gif or .mp4 of the first four episodes, or a .png of how they went."
        ),
    ] = None,
    choose: Choose = None,
    execute: Annotated[
        int | None,
        typer.Option("--execute", help="Actions of a chunk that are executed; default: that of the run.", min=1),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="A chunk at every step, and what all say of the present one averaged.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DATA", help="A folder to keep the episodes in.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Delete the episodes that are in DATA.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Let the policy of RUN act in ENV, and print how often it succeeds, and its returns.

    For example:  veil act runs/tree tree --episodes 1000 --film tree.gif

    A return is the sum of an episode's rewards; of pusht the greatest, its score. Of tree and slalom the entropy of
    the ways that successful episodes took is told, too: 1 where all are taken equally often.
    """
    check_picture("--film", film, (*FILMS, *PICTURES))
    if ensemble and execute is not None:
        raise Refusal("--execute: an ensemble chooses a chunk at every step; leave one of the two out")
    if choose is not None:
        choice(choose)
    with runs.opened(run, quiet) as (opened, fit):
        how = dict(opened.config.get("act") or {})
        env = env or how.get("env")
        if env is None:
            raise Refusal("ENV: say where it acts: tree, slalom, pusht, or a Gymnasium environment")
        _check_run(opened, fit, execute, ensemble)
        given = {"choose": choose, "execute": execute, "ensemble": ensemble or None}
        how |= {name: value for name, value in given.items() if value is not None}
        if ensemble:
            how["execute"] = None
        from veil.control.trials import trials
        from veil.host.progress import Progress

        more: Any = {"seed": seed, "out": out, "force": force, "film": film is not None}
        with refusing(env="ENV"):
            policy = policy_of(fit, how)
            with Progress(False if quiet else None, "acting") as bar:
                found = trials(env, policy, episodes, watch=bar.update, **more)
        if film is not None:
            write_picture(film, found)
    told = found.as_dict()
    if as_json:
        from veil.host.files import plain

        typer.echo(json.dumps(plain({"run": str(run), "model": opened.model_name, **told}), allow_nan=False))
        return
    if quiet:
        return
    name = (opened.config.get("act") or {}).get("policy") or opened.model_name
    typer.echo(f"{name} in {env}: {said(told)}")
    if told["success"] is None:
        typer.echo(f"{env} does not say whether an episode succeeds")
    if "outcomes" in told:
        ways = " ".join(f"{count}" for count in told["outcomes"])
        typer.echo(f"ways that successful episodes took, how often: {ways}")
    for place in (film, out):
        if place is not None:
            typer.echo(f"written to {place}")


def _check_run(opened: Any, fit: Any, execute: int | None, ensemble: bool) -> None:
    """Refuse a run that is no policy, and options of chunks where there are none."""
    columns = opened.columns
    view = fit.view
    if not columns.evidence or (view is not None and not view.taken) or (view is None and columns.sequences):
        what = "without evidence" if not columns.evidence else "a model of sequences"
        what = (
            f"of {', '.join(columns.query[:4])} given {', '.join(columns.evidence[:4])}" if view is not None else what
        )
        raise Refusal(
            f"RUN: {opened.path} is no policy ({opened.model_name}, {what}); make one with veil imitate, or with "
            "veil fit --query action --evidence observation"
        )
    horizon = None if view is None else view.horizon
    if horizon is None and (execute is not None or ensemble):
        option = "--ensemble" if ensemble else "--execute"
        raise Refusal(f"{option}: this policy chooses one action after the other; learn one with --chunk")
    if horizon is not None and execute is not None and execute > horizon:
        raise Refusal(f"--execute: a chunk of this policy has {horizon} actions; got {execute}")


def check_picture(option: str, place: Path | None, endings: tuple[str, ...]) -> None:
    """Refuse a file with another ending, or in a folder that is not there."""
    if place is not None and place.suffix not in endings:
        words = ", ".join(endings) if len(endings) > 2 else " or ".join(endings)
        raise Refusal(f"{option}: expected a file that ends in {words}; got {place.name!r}")
    if place is not None and not place.parent.is_dir():
        raise Refusal(f"{option}: the folder {place.parent} does not exist; create it first")


def write_picture(place: Path, found: Any) -> None:
    """The film of some trials, or a picture of how they went, by the file's ending."""
    if place.suffix in PICTURES:
        from veil.data.core.packages import needed

        needed("pictures need Pillow", "control", "PIL.Image").Image.fromarray(found.picture).save(place)
        return
    from veil.host.films import write_film

    write_film(place, [frame for frames in found.frames for frame in frames], 10)
