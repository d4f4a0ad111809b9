"""What a run that was killed may have left in its directory, and what it did not."""

import pytest

from veil.saved import unfinished

LEFT = ["config.json", "model.json", "parameters-0123456789abcdef.safetensors", ".model.json.x_1y2z3a", "lock"]
LEFT += [".parameters-0123456789abcdef.safetensors.abcdefgh", "metrics.jsonl", "selection.json"]


@pytest.mark.parametrize("name", LEFT)
def test_what_a_killed_run_left_is_cleared_away(name, tmp_path):
    part = unfinished.place_of(tmp_path / "run")
    part.mkdir()
    (part / name).write_text("half")
    with unfinished.creating(tmp_path / "run") as folder:
        assert [path.name for path in folder.iterdir()] == ["lock"]
        (folder / "config.json").write_text('{"format": "veil run"}')
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    assert unfinished.is_finished(tmp_path / "run")


@pytest.mark.parametrize("name", ["thesis.tex", "model.json.txt", "parameters.safetensors", "xmodel.json"])
def test_what_is_somebody_else_s_stays(name, tmp_path):
    part = unfinished.place_of(tmp_path / "run")
    part.mkdir()
    (part / name).write_text("mine")
    with (
        pytest.raises(FileExistsError, match="which no run left there"),
        unfinished.creating(tmp_path / "run", force=True),
    ):
        pass
    assert (part / name).read_text() == "mine"


def test_a_run_replaces_a_run_only_when_forced(tmp_path):
    for force in (False, True):
        with unfinished.creating(tmp_path / "run", force) as folder:
            (folder / "config.json").write_text('{"format": "veil run"}')
    with pytest.raises(FileExistsError, match="overwrite it with --force"):
        unfinished.check_free(tmp_path / "run", force=False)
    with pytest.raises(ZeroDivisionError), unfinished.creating(tmp_path / "run", force=True):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
