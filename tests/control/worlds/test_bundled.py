"""The demonstrations that come with the library are those that the worlds make, and are read by name."""

import jax
import numpy as np
import pytest

import veil.data
from veil.control.worlds import Slalom, Tree, demonstrations
from veil.data.bundled import drives


@pytest.mark.parametrize(("world", "count"), [(Tree(), 200), (Slalom(), 96)], ids=["tree", "slalom"])
def test_they_are_what_the_worlds_make(world, count, tmp_path):
    """Where a world has changed: drives.write(demonstrations(world, count, jax.random.key(0)), the file)."""
    made = demonstrations(world, count, jax.random.key(0))
    found = veil.data.recording(made.name)
    assert (len(found), found.name, found.parts) == (count, made.name, made.parts)
    drives.write(made, tmp_path / f"{made.name}.npz")
    for again in (found, drives.read(tmp_path / f"{made.name}.npz")):
        for one, other in zip(again.episodes, made.episodes, strict=True):
            for name in ("observation", "action"):
                parts = (one.observations | one.actions)[name], (other.observations | other.actions)[name]
                np.testing.assert_allclose(*parts, atol=1e-4)
            np.testing.assert_array_equal(one.rewards, other.rewards)
            np.testing.assert_array_equal(one.infos["outcome"], other.infos["outcome"])
            assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
    example = next(each for each in veil.data.available() if each.name == made.name)
    data = veil.data.load(made.name)
    assert (len(data), example.present, example.columns) == (example.rows, True, found.parts)
    np.testing.assert_array_equal(data.query, found.data("action", "observation").query)
    assert data.view.taken
    assert not veil.data.load(made.name, "observation", "action").view.taken


def test_on_the_command_line(tmp_path, monkeypatch):
    """Without columns: a policy's data; a folder that only has the name is no recording."""
    from veil.cli.reading import column_names, is_file, is_many, is_table, open_data

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    assert (is_file("tree"), is_many("tree"), is_table("tree")) == (True, False, False)
    assert column_names("tree") == ["observation", "action", "reward", "terminated"]
    data = open_data("tree", None, None)
    assert (data.query_shape, data.evidence_shape, len(data)) == ((1,), (3,), 2528)
    assert open_data("tree", ["observation"], ["action"], steps=False).query_shape[-1] == 3
