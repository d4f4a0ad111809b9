"""DeepSea: a treasure that nobody finds by chance, with the numbers and the rules of bsuite."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from veil.control.worlds.walks import Land
from veil.model.checks import whole
from veil.parts.decisions import MDP, SparseTransitions

COST = 0.01  # of going right all the way


class DeepSea(eqx.Module):
    """N rows of N places, down a row at each step, to the left or to the right; which action is which is drawn once.

    To the right costs .01 / N. Who goes right N times finds the treasure, 1: a return of .99, which actions by chance
    meet in 2^-N of episodes. ``stochastic``: to the right fails with the chance 1 / N, and leaves one in the column;
    in both corners of the last row a normal of deviation 1 is added to the reward. State N row + column; N² is the end.

    ``mapping``: the seed of the actions' meanings (None: action 1 is to the right everywhere). With the same number
    they are those of bsuite (Osband et al. 2020, "Behaviour suite for reinforcement learning"), which has 42.

    >>> sea = DeepSea(10)
    >>> sea.land.problem.states, sea.land.problem.actions, sea.land.problem.horizon
    (101, 2, 10)
    """

    size: int = eqx.field(static=True)
    stochastic: bool = eqx.field(static=True, default=False)
    mapping: int | None = eqx.field(static=True, default=42)

    def __check_init__(self) -> None:
        whole("size", self.size)

    @property
    def right(self) -> np.ndarray:
        """Which action is to the right [N²]."""
        if self.mapping is None:
            return np.ones(self.size**2, int)
        drawn = np.random.RandomState(self.mapping).binomial(1, 0.5, [self.size, self.size])  # as bsuite draws them
        return drawn.ravel()

    @property
    def land(self) -> Land:
        """The problem, and the deviation of the noise of its rewards."""
        size = self.size
        row, column = np.divmod(np.arange(size * size), size)
        place = lambda column: np.where(row < size - 1, (row + 1) * size + column, size * size)  # noqa: E731
        moved = place(np.minimum(column + 1, size - 1)), place(np.maximum(column - 1, 0))
        fails = 1.0 / size if self.stochastic else 0.0
        following, chances = np.full((size * size + 1, 2, 2), size * size), np.zeros((size * size + 1, 2, 2))
        reward = np.zeros((size * size + 1, 2))
        there, right = np.arange(size * size), self.right
        following[there, right] = np.stack([moved[0], place(column)], -1)
        following[there, 1 - right] = moved[1][:, None]
        chances[there, right] = 1.0 - fails, fails
        chances[there, 1 - right, 0] = chances[-1, :, 0] = 1.0
        reward[there, right] = (column == size - 1) * 1.0 - COST / size
        end = np.arange(size * size + 1) == size * size
        transitions = SparseTransitions(following, chances)
        problem = MDP(transitions, reward, start=np.eye(size * size + 1)[0], ends=end, horizon=size)
        if not self.stochastic:
            return Land(problem)
        noise = np.zeros((size * size + 1, 2))
        noise[:-1] = ((row == size - 1) & np.isin(column, (0, size - 1)))[:, None]
        return Land(problem, jnp.asarray(noise))

    @property
    def below(self) -> Int[Array, "S N"]:
        """The places of the row below, to any of which a state might lead for somebody who knows of rows only."""
        size = self.size
        row = np.minimum(np.arange(size * size + 1) // size + 1, size)
        return jnp.asarray(np.where(row[:, None] < size, row[:, None] * size + np.arange(size), size * size))

    @property
    def astray(self) -> Bool[Array, "S 2"]:
        """Whether an action leaves the way to the treasure: to the left where it was still to be found."""
        found = np.zeros((self.size**2 + 1, 2), bool)
        on_the_way = np.arange(self.size) * (self.size + 1)
        found[on_the_way, 1 - self.right[on_the_way]] = True
        return jnp.asarray(found)

    def pictures(self) -> Float[np.ndarray, "S N N"]:
        """What is seen of every state where one sees pictures: a pixel where one is; nothing at the end."""
        return np.eye(self.size**2 + 1, self.size**2, dtype=np.float32).reshape(-1, self.size, self.size)

    def solved(self, strayed: Bool[np.ndarray, " E"]) -> int | None:
        """The first number of episodes of which few enough went ``astray``, by bsuite's rule; None: there is none.

        Fewer than nine in ten; where it is ``stochastic`` eight in ten, of a hundred at least. That is the treasure
        found again and again, and not once.
        """
        share, least = (0.8, 100) if self.stochastic else (0.9, 1)
        numbers = np.arange(1, len(strayed) + 1)
        enough = np.flatnonzero((np.cumsum(strayed) < share * numbers) & (numbers >= least))
        return int(numbers[enough[0]]) if len(enough) else None

    def beats_chance(self, episode: int | None) -> bool:
        """Whether that is a point in bsuite: solved within 10,000 episodes, and before 2^N + 100."""
        return episode is not None and episode <= 10_000 and episode < 2.0**self.size + 100
