"""Data sets in LeRobot's layouts v2 (a Parquet file an episode) and v3 (many episodes in one): where each episode is.

LeRobot is not needed. `meta/info.json` names the features, their shapes and the files; `meta/episodes.jsonl` (v2) or
the Parquet files in `meta/episodes` (v3) the episodes. What stands in the rows is read in `lerobot_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from veil.data.recorded.lerobot_rows import Place, Rows, columns, table
from veil.data.recorded.recordings import OnDisk, Recording, json_object

INFO, EPISODES, TASKS = "meta/info.json", "meta/episodes", "meta/tasks"


def is_here(path: Path) -> bool:
    """Whether a folder is a data set of this layout."""
    return (path / INFO).is_file()


def read(folder: Path) -> Recording:
    """The episodes of a data set, in the order of their numbers.

    Observations are all cameras, and the features that begin with "observation" or "state", by what follows the first
    dot: `observation.state` is "state", `observation.images.top` "images/top" ("top" in a dictionary "images"). The
    action is "action", `next.reward` the reward, `next.done` whether an episode ended in a final state; other numbers
    stand in `infos`, `task_index` among them. There is one observation for each action, so that the last action is left
    out (`pairs`). `about` is `info.json` (with `fps`), with the number of each task in "tasks", the numbers of the
    episodes of each split in "splits", and in "left_out" the features that are not read: text, and maps of depth.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: another version, or a description in which something is missing.
    """
    file = folder / INFO
    info = json_object(file.read_bytes(), str(file))
    version = str(info.get("codebase_version"))
    if version.split(".")[0] not in ("v2", "v3"):
        raise ValueError(
            f"{file}: expected codebase_version v2.0, v2.1 or v3.0; got {version}. Convert it with lerobot"
        )
    if not isinstance(info.get("features"), dict):
        raise ValueError(f"{file}: expected features by name; got {info.get('features')!r}. Copy meta again")
    try:
        rows = Rows(folder, float(info["fps"]), info["features"])
        one_each = version.startswith("v2")
        places = list(_one_each(folder, info, rows.videos) if one_each else _many_in_one(folder, info, rows.videos))
        about = {**info, "tasks": _tasks(folder, one_each), "splits": _splits(info), "left_out": list(rows.left_out)}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{file}: {type(error).__name__} {error} of what is expected there; copy meta again"
        ) from error
    if len(places) != int(info.get("total_episodes", len(places))):
        raise ValueError(
            f"{file}: total_episodes is {info['total_episodes']}, and {EPISODES} has {len(places)}; copy meta again"
        )
    return Recording(OnDisk(places, rows.episode), name=folder.resolve().name, about=about)


def _one_each(folder: Path, info: dict[str, Any], videos: tuple[str, ...]) -> Iterator[Place]:
    """The episodes of version 2, from meta/episodes.jsonl."""
    for each in sorted(_lines(folder / f"{EPISODES}.jsonl"), key=lambda line: line["episode_index"]):
        number = int(each["episode_index"])
        names = {"episode_index": number, "episode_chunk": number // int(info["chunks_size"])}
        shown = {key: (_file(folder, info, "video_path", names | {"video_key": key}), 0.0) for key in videos}
        yield Place(number, int(each["length"]), _file(folder, info, "data_path", names), shown)


def _many_in_one(folder: Path, info: dict[str, Any], videos: tuple[str, ...]) -> Iterator[Place]:
    """The episodes of version 3, from the files in meta/episodes."""
    files = sorted((folder / EPISODES).rglob("*.parquet"))
    if not files:
        raise ValueError(
            f"{folder / EPISODES}: expected Parquet files of the episodes; there are none. Copy meta again"
        )
    wanted = [
        "episode_index",
        "length",
        "data/chunk_index",
        "data/file_index",
        "dataset_from_index",
        "dataset_to_index",
    ]
    wanted += [f"videos/{key}/{what}" for key in videos for what in ("chunk_index", "file_index", "from_timestamp")]
    each = [line for file in files for line in columns(file, wanted)]
    for line in sorted(each, key=lambda line: line["episode_index"]):
        number, length = int(line["episode_index"]), int(line["length"])
        if line["dataset_to_index"] - line["dataset_from_index"] != length:
            raise ValueError(
                f"{folder / EPISODES}: episode {number} has {length} steps, and its indices go from "
                f"{line['dataset_from_index']} to {line['dataset_to_index']}; copy meta again"
            )
        places = {}
        for template, key, what in (
            ("data_path", "", "data"),
            *(("video_path", key, f"videos/{key}") for key in videos),
        ):
            names = {end: int(line[f"{what}/{end}"]) for end in ("chunk_index", "file_index")}
            places[key] = _file(folder, info, template, names | {"video_key": key})
        shown = {key: (places[key], float(line[f"videos/{key}/from_timestamp"])) for key in videos}
        yield Place(number, length, places[""], shown)


def _file(folder: Path, info: dict[str, Any], template: str, names: dict[str, Any]) -> Path:
    """The file that a template of info.json names."""
    try:
        found = PurePosixPath(str(info[template]).format(**names))
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder / INFO}: {template} {info.get(template)!r} cannot be filled in: {error}") from None
    if found.is_absolute() or ".." in found.parts:
        raise ValueError(f"{folder / INFO}: {template} leads out of the folder, to {found}; put the files inside")
    return folder / found


def _tasks(folder: Path, one_each: bool) -> dict[str, int]:
    """The number of each task by its words."""
    if one_each:
        file = folder / f"{TASKS}.jsonl"
        return {str(each["task"]): int(each["task_index"]) for each in _lines(file)} if file.is_file() else {}
    file = folder / f"{TASKS}.parquet"
    if not file.is_file():
        return {}
    found = table(file)
    words = next(name for name in found.column_names if name != "task_index")  # the index of a frame, of any name
    return {
        str(task): int(number)
        for task, number in zip(found[words].to_pylist(), found["task_index"].to_pylist(), strict=True)
    }


def _splits(info: dict[str, Any]) -> dict[str, list[int]]:
    """The numbers of the episodes in each split, which info.json has as "0:50"."""
    ends = {name: str(text).split(":") for name, text in info.get("splits", {}).items()}
    return {
        name: list(range(int(pair[0]), int(pair[1])))
        for name, pair in ends.items()
        if len(pair) == 2 and all(end.isdecimal() for end in pair)
    }


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON, one a line."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}, which the layout has; copy meta again") from None
    return [json_object(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
