"""``veil train-agent`` and ``veil play``: an agent that learns a world model of an environment, and acts by it."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import agency, options
from veil.cli.acting import FILMS, PICTURES, check_picture, write_picture
from veil.cli.imitation import said
from veil.cli.options import on
from veil.cli.program import Refusal

ACTING, MODEL, LEARNING = "Acting", "The world model", "Learning"
PROGRESS = "progress.jsonl"  # a line an iteration
JUDGED = 10  # episodes that are played after learning


def train_agent(
    env: Annotated[str, typer.Argument(metavar="ENV", help="A Gymnasium environment, such as Pendulum-v1.")],
    episodes: Annotated[int, typer.Option("--episodes", help="How many in all, the random ones among them.", min=2)],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run to make, or to go on with.")],
    frames: Annotated[
        int | None, typer.Option("--frames", help="See it as images of 8, 16, 32 or 64 pixels a side.")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Images without colours, which is faster.")] = False,
    repeat: Annotated[int, typer.Option("--repeat", help="Do each action so many times.", min=1)] = 1,
    agent: Annotated[
        str,
        on(ACTING, "--agent", "actor (learned in dreams), planner, or guided (plans by what was dreamt)."),
    ] = "actor",
    planner: Annotated[str, on(ACTING, "--planner", ", ".join(agency.PLANNERS) + ".")] = "cem",
    horizon: Annotated[int, on(ACTING, "--horizon", "Steps of a dream, or of a plan.", min=1)] = 15,
    candidates: Annotated[int, on(ACTING, "--candidates", "Of a planner, in each round.", min=4)] = 100,
    noise: Annotated[float, on(ACTING, "--noise", "What a planner adds to explore, share of the width.", min=0)] = 0.3,
    discount: Annotated[float, on(ACTING, "--discount", "Of a decision.")] = 0.98,
    latent: Annotated[int, on(MODEL, "--latent", "Random numbers of a state.", min=1)] = 16,
    memory: Annotated[int, on(MODEL, "--memory", "Remembered numbers of a state.", min=1)] = 128,
    width: Annotated[int, on(MODEL, "--width", "Of its networks.", min=1)] = 128,
    updates: Annotated[float, on(LEARNING, "--updates", "Learning steps a decision.")] = 1.0,
    first: Annotated[int, on(LEARNING, "--first", "Learning steps after the random episodes.", min=1)] = 500,
    random: Annotated[int, on(LEARNING, "--random", "Episodes of random actions at first.", min=1)] = 5,
    batch_size: Annotated[int, on(LEARNING, "--batch-size", "Windows in a batch.", min=1)] = 8,
    window: Annotated[int, on(LEARNING, "--window", "Steps of a window.", min=2)] = 50,
    learning_rate: Annotated[float, on(LEARNING, "--learning-rate", "Of the world model.")] = 6e-4,
    together: Annotated[int, on(LEARNING, "--together", "Episodes played side by side.", min=1)] = 1,
    context: Annotated[
        bool,
        on(LEARNING, "--context", "Windows go on from what was known before them, and not as if they began."),
    ] = False,
    on_disk: Annotated[
        bool,
        on(LEARNING, "--on-disk", "Keep in files what windows are taken from: for more than there is memory."),
    ] = False,
    judged: Annotated[int, typer.Option("--judged", help="Episodes played in the end, without exploring.", min=2)] = (
        JUDGED
    ),
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn to act in ENV through a world model, and write the run RUN; the same command goes on where it ended.

    For example:  veil train-agent Pendulum-v1 --frames 32 --grey --repeat 2 --episodes 25 --out runs/pendulum  and then
    veil play runs/pendulum --episodes 10 --film pendulum.gif

    It acts, keeps what it saw in RUN/episodes, learns a model of it, and learns in the model's dreams, or plans. In the
    end it plays some episodes without exploring, which are what return_mean is of. veil diagnose RUN looks for faults.
    """
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in locals().items()}
    _check(asked)
    from veil.control import prepared  # noqa: F401 -- says what is missing
    from veil.control.trials import trials
    from veil.host.files import json_line, plain, write_atomically
    from veil.host.progress import Progress
    from veil.saved.folders import save

    asked = {
        name: value for name, value in asked.items() if name not in ("out", "as_json", "quiet", "judged", "on_disk")
    }
    _begin(out, asked)
    begun, before = time.perf_counter(), _seconds(out)
    built, last = agency.agent_of(asked), [0.0]
    with Progress(False if quiet else None, "learning") as bar:

        def watch(progressed: Any) -> None:
            save(out / agency.SKILL, progressed.skill())
            done, steps, seconds = progressed.done, progressed.steps, progressed.seconds
            line = {"episode": done, "return": progressed.returns[-1], "steps": steps[-1], "seconds": before + seconds}
            lines = [each for each in _lines(out) if json.loads(each)["episode"] < done]
            write_atomically(out / PROGRESS, "".join([*lines, json_line({**line, **progressed.info})]).encode())
            pace = (seconds - last[-1]) / (steps[-1] - steps[-1 - together])
            last.append(seconds)
            bound = progressed.info.get("elbo", float("nan")) / window
            words = f"return {progressed.returns[-1]:.1f}, bound {bound:.2f} nats a step, {1e3 * pace:.0f} ms a step"
            bar.update(done, episodes, words)

        more = {"on_disk": on_disk, "progress": False, "watch": watch}
        skill = built.learn(lambda: agency.world_of(asked), episodes, out=out, seed=seed, **more)
    save(out / agency.SKILL, skill)
    seconds = before + time.perf_counter() - begun
    with Progress(False if quiet else None, "playing") as bar:
        found = trials(
            env, skill, judged, seed=seed + 1, frames=frames, grey=grey, repeat=repeat, watch=bar.update
        ).as_dict()
    told = {"run": str(out), **found, "environment_steps": int(skill.steps[-1]), "seconds": round(seconds, 1)}
    if as_json:
        typer.echo(json.dumps(plain(told), allow_nan=False))
    elif not quiet:
        steps, kept = told["environment_steps"], len(skill.returns)
        typer.echo(f"{agent} in {env}, after {kept} episodes of {steps} steps in all, {seconds:.0f} s: {said(found)}")
        typer.echo(f"written to {out}; see it with: veil play {out} --film FILE, and veil diagnose {out}")


def play(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run of veil train-agent.")],
    episodes: Annotated[int, typer.Option("--episodes", help="How many.", min=1)] = 10,
    film: Annotated[
        Path | None,
        typer.Option("--film", metavar="FILE", help="A .gif or .mp4 of the first four episodes, or a .png."),
    ] = None,
    exploring: Annotated[bool, typer.Option("--exploring", help="As it acts to learn, which is worse.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DATA", help="A folder to keep the episodes in.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Delete the episodes that are in DATA.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Let the agent of RUN act in its environment, without exploring, and print its returns.

    For example:  veil play runs/pendulum --episodes 100 --json
    """
    check_picture("--film", film, (*FILMS, *PICTURES))
    from dataclasses import replace

    from veil.control.trials import trials
    from veil.host.files import plain
    from veil.host.progress import Progress

    asked, skill = agency.opened(run)
    skill = replace(skill, exploring=exploring)
    seen = {name: asked[name] for name in ("frames", "grey", "repeat")}
    with Progress(False if quiet else None, "playing") as bar:
        found = trials(
            asked["env"],
            skill,
            episodes,
            seed=seed,
            out=out,
            force=force,
            film=film is not None,
            watch=bar.update,
            **seen,
        )
    if film is not None:
        write_picture(film, found)
    told = {"run": str(run), **found.as_dict(), "environment_steps": int(skill.steps[-1])}
    if as_json:
        typer.echo(json.dumps(plain(told), allow_nan=False))
    elif not quiet:
        typer.echo(f"{asked['agent']} in {asked['env']}: {said(told)}")
        for place in (film, out):
            if place is not None:
                typer.echo(f"written to {place}")


def _check(asked: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    from veil.data.core.columns import suggestion

    for name, known in (("agent", agency.AGENTS), ("planner", agency.PLANNERS)):
        if asked[name] not in known:
            raise Refusal(f"--{name}: there is no {asked[name]!r}; {suggestion(asked[name], known)}")
    if asked["planner"] != "cem" and asked["agent"] != "planner":
        raise Refusal(f"--planner: it is of --agent planner; leave it out for {asked['agent']}")
    if asked["frames"] is not None and asked["frames"] not in agency.LEVELS:
        raise Refusal(f"--frames: expected {', '.join(map(str, agency.LEVELS))} pixels a side; got {asked['frames']}")
    if asked["grey"] and asked["frames"] is None:
        raise Refusal("--grey: it is of images; say of how many pixels with --frames 32")
    if not 0 < asked["discount"] <= 1:
        raise Refusal(f"--discount: expected a number above 0 and up to 1; got {asked['discount']:g}")
    for name in ("updates", "learning_rate"):
        if not asked[name] > 0:
            raise Refusal(f"--{name.replace('_', '-')}: expected a positive number; got {asked[name]:g}")
    if asked["episodes"] <= asked["random"]:
        raise Refusal(f"--episodes: expected more than the {asked['random']} random ones (--random)")


def _begin(out: Path, asked: dict[str, Any]) -> None:
    """Write what a run is asked for; refuse a folder with other things, or the run of another request."""
    from veil.host.files import check_format, read_json, write_atomically

    file = out / agency.ABOUT
    if file.is_file():
        record = read_json(file, 2**20)
        check_format(record, file, agency.FORMAT, agency.VERSION, "an agent's run")
        before = {**record["asked"], "episodes": asked["episodes"]}
        differs = sorted(name for name in asked if before.get(name) != asked[name])
        if differs:
            text = ", ".join(f"{name} {before.get(name)!r} in place of {asked[name]!r}" for name in differs)
            raise Refusal(f"--out: {out} is a run with {text}; ask for the same to go on, or choose another place")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"--out: {out} exists and holds other things; choose another place")
    out.mkdir(parents=True, exist_ok=True)
    record = {"format": agency.FORMAT, "version": agency.VERSION, "asked": asked}
    write_atomically(file, (json.dumps(record, indent=1) + "\n").encode())


def _lines(out: Path) -> list[str]:
    file = out / PROGRESS
    return file.read_text().splitlines(keepends=True) if file.is_file() else []


def _seconds(out: Path) -> float:
    """How long earlier calls learned."""
    lines = _lines(out)
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0
