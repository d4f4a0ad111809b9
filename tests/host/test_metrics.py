"""Lines of JSON and TensorBoard's files, of fits that go on too."""

import json
import math
import struct

import jax
import numpy as np
import pytest

import veil
from veil.host.metrics import JsonLines, Several, TensorBoard


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_of_later_steps_come_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path)
    for step in range(5):
        first({"step": step, "value": -1.5 * step})
        if step == 2:
            first({"step": 3, "held_out": 7.0})  # after the third step
    path.write_text(path.read_text() + '{"step": 5, "val')  # killed while writing
    second = JsonLines(path)
    second.resumed(3)
    second({"step": 3, "value": math.inf})
    assert [line.get("value") for line in lines(path)] == [0.0, -1.5, -3.0, None, "inf"]
    assert lines(path)[3] == {"step": 3, "held_out": 7.0}
    third = JsonLines(path)
    third({"step": 0, "value": 1.0})
    assert lines(path) == [{"step": 0, "value": 1.0}]
    for each in (first, second, third):
        each.close()


def events(folder):
    """(tag, step, value) of every scalar in TensorBoard's record files, read by their definition."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (size,) = struct.unpack("<Q", content[place : place + 8])
            event = Event.FromString(content[place + 12 : place + 12 + size])
            found += [(each.tag, event.step, each.simple_value) for each in event.summary.value]
            place += 12 + size + 4
    return found


def test_tensorboard_has_every_number_of_a_fit(tmp_path):
    pytest.importorskip("tensorboardX")
    written = []
    board = TensorBoard(tmp_path / "board")
    both = Several([board, written.append])
    veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0), record=both)
    board.close()
    expected = [(name, line["step"], line[name]) for line in written for name in line if name != "step"]
    found = events(tmp_path / "board")
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    np.testing.assert_allclose([each[2] for each in found], [each[2] for each in expected], rtol=1e-6)
