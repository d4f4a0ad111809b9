"""Long tables as choices: whatever the order of their rows, and what is no choice."""

import numpy as np
import pytest

import veil
from veil.data import choices

TABLE = {
    "case": np.array(["b", "b", "a", "b", "a", "c", "c", "c"]),
    "alternative": np.array(["car", "bus", "walk", "walk", "bus", "walk", "car", "bus"]),
    "chosen": np.array([0, 1, 1, 0, 0, 0, 1, 0]),
    "attributes": np.arange(16.0).reshape(8, 2),
    "chooser": np.array([7.0, 7.0, 5.0, 7.0, 5.0, 7.0, 7.0, 7.0]),
    "person": np.array([1, 1, 2, 1, 2, 1, 1, 1]),
}


def test_rows_become_choices_in_any_order():
    given = {name: each for name, each in TABLE.items() if name != "person"}
    data = choices(**given)
    assert data.query[:, 0].tolist() == [0.0, 2.0, 1.0]  # b, a, c; bus, car, walk
    evidence = data.evidence
    np.testing.assert_array_equal(evidence["attributes"][0], [[2.0, 3.0], [0.0, 1.0], [6.0, 7.0]])
    np.testing.assert_array_equal(evidence["attributes"][1], [[8.0, 9.0], [0.0, 0.0], [4.0, 5.0]])
    np.testing.assert_array_equal(evidence["available"], [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(evidence["chooser"], [[7.0], [5.0], [7.0]])
    shuffled = np.array([1, 0, 3, 2, 4, 5, 7, 6])  # the cases in the same order
    again = choices(**{name: each[shuffled] for name, each in given.items()})
    np.testing.assert_array_equal(again.evidence["attributes"], evidence["attributes"])
    without = choices(TABLE["case"][[0, 1, 3]], TABLE["alternative"][[0, 1, 3]], TABLE["chosen"][[0, 1, 3]])
    assert without.evidence is None


def test_the_choices_of_a_person_are_a_sequence():
    data = choices(**TABLE)
    assert len(data) == 2
    np.testing.assert_array_equal(data.mask, [[True, True], [True, False]])
    assert data.query[0, :, 0].tolist() == [0.0, 1.0]
    model = veil.Episodic(veil.ConditionalLogit(attributes=2))
    assert veil.log_prob(model, data).tolist() == pytest.approx([-2 * np.log(3), -np.log(2)], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chosen": np.array([1, 1, 1, 0, 0, 0, 1, 0])}, "chosen: expected one 1 in each case.*'b'"),
        ({"chosen": np.array([0, 1, 0, 0, 0, 0, 1, 0])}, "chosen: expected one 1 in each case.*'a'"),
        ({"chosen": np.array([0, 1, 2, 0, -1, 0, 1, 0])}, "chosen: expected one 1"),
        ({"alternative": np.array(["car", "car", "walk", "walk", "bus", "walk", "car", "bus"])}, "'car'.* comes twice"),
        ({"chooser": np.arange(8.0)}, "chooser: expected the same"),
        ({"person": np.arange(8)}, "person: expected the same"),
        ({"attributes": np.zeros((7, 2))}, "attributes: expected a row for each of the 8"),
    ],
)
def test_what_is_no_choice_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        choices(**(TABLE | changes))
