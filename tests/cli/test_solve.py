"""``veil solve``: a map, tables and worlds by name; as text, as one object, as a picture."""

import json

import numpy as np
import pytest

MAP = """
A.......B
..#####..
....@....
"""


@pytest.fixture
def world(tmp_path):
    place = tmp_path / "world.txt"
    place.write_text(MAP)
    return place


def test_a_map_says_where_one_would_go(veil, world):
    outcome = veil("solve", world, "--goal", "B", "--picture", world.with_name("values.png"))
    assert (outcome.code, outcome.err) == (0, "")
    assert "22 states, 4 actions" in outcome.out
    assert "A→→→→→→→B" in outcome.out
    assert world.with_name("values.png").stat().st_size > 5000


def test_tables_give_what_python_gives(veil, tmp_path):
    from veil.control import MDP, DenseTransitions, Hoped, solve

    rng = np.random.default_rng(0)
    chances, reward = rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2)) - 2.0
    np.savez(tmp_path / "tables.npz", probabilities=chances, reward=reward, horizon=4, ends=[False, False, True])
    outcome = veil("solve", tmp_path / "tables.npz", "--hoped", "--temperature", 0.5, "--discount", 0.9, "--json")
    found = json.loads(outcome.out)
    problem = MDP(DenseTransitions(chances), reward, horizon=4, ends=[False, False, True], discount=0.9)
    expected = solve(problem, 0.5, Hoped())
    np.testing.assert_allclose(found["values"], expected.values[0], rtol=1e-5)
    np.testing.assert_allclose(found["policy"], np.exp(expected.log_policy[0]), rtol=1e-5)
    np.testing.assert_allclose(found["expected_return"], expected.expected_return, rtol=1e-5)
    assert (found["luck"], found["horizon"], found["states"]) == ("hoped", 4, 3)


def test_worlds_by_name(veil):
    deep = json.loads(veil("solve", "deep-sea:6", "--temperature", 0, "--json").out)
    assert deep["expected_return"] == pytest.approx(0.99)
    assert "16 states, 4 actions" in veil("solve", "random").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "there is no file 'nowhere'"),
        (("deep-sea:x",), "expected a number of states or rows"),
        (("{world}", "--goal", "Z"), "this map has A, B; got 'Z'"),
        (("{world}", "--picture", "a.jpg"), "ends in .png"),
        (("deep-sea:3", "--picture", "a.png"), "only a map has one"),
        (("deep-sea:3", "--temperature", 0, "--hoped"), "all that is hoped for"),
        (("random", "--discount", 1.0), "have no limit"),
        (("{odd}",), "it has other"),
        (("{world}", "--goal", "A,B"), "several are for --walks"),
        (("{world}", "--walks", 3), "give both or none"),
    ],
)
def test_what_is_wrong_is_said(veil, world, words, said):
    np.savez(world.with_name("odd.npz"), other=np.zeros(2))
    places = {"world": world, "odd": world.with_name("odd.npz")}
    outcome = veil("solve", *(str(word).format(**places) for word in words))
    assert outcome.code == 2
    assert said in outcome.err
