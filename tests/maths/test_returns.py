"""Returns against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths.returns import lambda_returns, reached

RNG = np.random.default_rng(0)
STEPS = 7


def steps_like(kind):
    going = {
        "never ends": np.ones(STEPS),
        "may end": RNG.uniform(0.2, 1.0, STEPS),
        "ends": np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]),
        "ends at once": np.array([0.0] + [1.0] * (STEPS - 1)),
    }[kind]
    return RNG.normal(size=STEPS), going, RNG.normal(size=STEPS)


def mean_of_guesses(reward, going, following, discount, mixing):
    """R_h as what it is a mean of: for each n rewards of n steps and a guess, written out."""
    found = np.zeros(STEPS)
    for h in range(STEPS):
        guesses = []
        for n in range(1, STEPS - h + 1):
            total, left = 0.0, 1.0
            for step in range(h, h + n):
                total += left * reward[step]
                left *= discount * going[step]
            guesses.append(total + left * following[h + n - 1])
        shares = [(1 - mixing) * mixing**n for n in range(len(guesses) - 1)] + [mixing ** (len(guesses) - 1)]
        found[h] = np.dot(shares, guesses)
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mixing", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["never ends", "may end", "ends", "ends at once"])
def test_lambda_returns_are_means_of_guesses(kind, mixing):
    given = steps_like(kind)
    found = lambda_returns(*map(jnp.array, given), 0.9, mixing)
    np.testing.assert_allclose(found, mean_of_guesses(*given, 0.9, mixing), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_nothing_behind_an_end_matters():
    reward, going, following = map(jnp.array, steps_like("ends"))
    slopes = jax.jacobian(lambda r, v: lambda_returns(r, going, v, 0.9, 0.7), (0, 1))(reward, following)
    assert np.all(np.asarray(slopes[0])[:3, 3:] == 0)
    assert np.all(np.asarray(slopes[1])[:3, 2:] == 0)
    assert np.all(np.asarray(slopes[0])[:3, :3][np.triu_indices(3)] != 0)


@pytest.mark.usefixtures("x64")
def test_what_a_step_counts_for():
    _, going, _ = steps_like("may end")
    found, wanted = reached(jnp.array(going), 0.9), []
    left = 1.0
    for chance in going:
        wanted.append(left)
        left *= 0.9 * chance
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
