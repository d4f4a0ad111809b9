"""What a cook is about to do: the next place to interact with, inferred online from the steps towards it.

Between two interactions that changed what a player holds lies an errand to a cell, the sub-goal, about which one may
change one's mind. Of the other player and of waiting nothing is assumed: only what moved or turned somebody, and the
interaction at the end, counts. On the way
one acts soft-optimally on the floor, so that an errand is an episode of ``veil.SwitchingIntent`` with ``KnownReward``
sub-goals; how rational people are, how common each cell is and how often minds change is learned by ``veil.fit``, and
the posterior over cells is exact at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from veil.control.worlds import kitchens
from veil.control.worlds.floor import FACINGS, Floor
from veil.control.worlds.overcooked import INTERACT, logged
from veil.data import Data
from veil.data.bundled.overcooked import KITCHENS, THINGS, Kitchen, Trial
from veil.host.films import write_film
from veil.learning.fitting import fit
from veil.parts.decisions import MDP, SparseTransitions
from veil.parts.rewards import KnownReward
from veil.saved.registry import register
from veil.verbs.inference import infer
from veil.zoo.intent import Intent
from veil.zoo.switching_intent import SwitchingIntent

WORDS = {"O": "onion", "D": "dish", "P": "pot", "S": "serve", "X": "counter"}
WRONG = 10.0  # steps that it is worth to avoid an interaction with another cell
DISCOUNT = 0.95
ACTED = FACINGS  # an interaction, among the actions of the floor's problem


@dataclass(frozen=True)
class Errand:
    """One errand, the steps from ``begin`` up to ``end`` of a game.

    ``steps`` [n]: those that moved or turned the player, and the interaction that ended it; their ``states`` and
    ``actions`` [n] on the floor; the object in hand; ``goal``: the cell of that interaction (None: the game ended).
    """

    begin: int
    end: int
    steps: Int[np.ndarray, " n"]
    states: Int[np.ndarray, " n"]
    actions: Int[np.ndarray, " n"]
    held: int
    goal: int | None


def errands(trial: Trial, player: int) -> list[Errand]:
    """All errands of one player, which follow each other; one in which nothing moved is left out.

    >>> from veil.data.bundled.overcooked import trials
    >>> first = errands(trials("cramped-room")[0], 0)[0]
    >>> THINGS[first.held], str(KITCHENS["cramped-room"].tiles[first.goal])
    ('nothing', 'O')
    """
    floor = Floor(KITCHENS[trial.kitchen])
    held, action = trial.held[:, player], trial.action[:, player]
    states = floor.state(trial.place[:, player], trial.facing[:, player])
    used = held[1:] != held[:-1]
    ends, went = np.flatnonzero(used), used | (states[1:] != states[:-1])
    found, begin = [], 0
    for end in [*ends.tolist(), None]:
        stop = len(trial) if end is None else end + 1
        steps = begin + np.flatnonzero(went[begin:stop])
        if len(steps):
            acted = np.where(action[steps] == INTERACT, ACTED, action[steps])
            goal = None if end is None else int(floor.ahead[states[end]])
            found.append(Errand(begin, stop, steps, states[steps], acted, int(held[begin]), goal))
        begin = stop
    return found


def problem(kitchen: Kitchen) -> tuple[MDP, Int[np.ndarray, " K"], Float[np.ndarray, "K S A"]]:
    """An errand on the floor as an MDP, the cells that can be faced, and the reward of each as a sub-goal.

    States are the floor's and one in which the errand is over; actions are its moves, which cost a step each, and to
    interact, which ends it: for nothing at the sub-goal, for ten steps anywhere else.
    """
    floor = Floor(kitchen)
    over = floor.states
    following = np.concatenate([floor.following, np.full((over, 1), over)], 1)
    following = np.concatenate([following, np.full((1, FACINGS + 1), over)])
    cells = np.unique(floor.ahead)
    cells = cells[kitchen.tiles[cells] != " "]
    rewards = np.zeros((len(cells), over + 1, FACINGS + 1))
    rewards[:, :over, :FACINGS] = -1.0
    rewards[:, :over, ACTED] = np.where(floor.ahead == cells[:, None], 0.0, -WRONG)
    start = np.append(np.full(over, 1.0 / over), 0.0)
    ends = np.append(np.zeros(over, bool), True)
    return MDP(SparseTransitions(following), start=start, ends=ends, discount=DISCOUNT), cells, rewards


@register(name="veil.Subgoals")
class Subgoals(eqx.Module):
    """Models of errands in a kitchen, one for each object in hand (None: no errand with it was seen).

    ``name``: the kitchen's; its cells that can be faced are the sub-goals.
    """

    name: str = eqx.field(static=True)
    models: tuple[SwitchingIntent | None, ...]

    @property
    def kitchen(self) -> Kitchen:
        return KITCHENS[self.name]

    @property
    def cells(self) -> Int[np.ndarray, " K"]:
        """The sub-goals."""
        return problem(self.kitchen)[1]

    @property
    def kinds(self) -> np.ndarray:
        """[K] words for the cells: onion, dish, pot, serve, counter."""
        return np.array([WORDS[letter] for letter in self.kitchen.tiles[self.cells]])

    def base(self, held: int) -> Float[np.ndarray, " K"]:
        """How common each cell is with an object in hand, before a step is seen."""
        found = self.models[held]
        if found is None:
            return np.full(len(self.cells), 1.0 / len(self.cells))
        return np.asarray(jax.nn.softmax(found.intent.logits))

    def belief(self, trial: Trial, player: int) -> Float[np.ndarray, "T1 K"]:
        """p(sub-goal | all steps before) at every state of a game, exact and online: nothing is read of what follows.

        At the beginning of an errand it is how common each cell is with the object that is now in hand.
        """
        known = np.zeros((len(trial) + 1, len(self.cells)))
        every = errands(trial, player)
        held = trial.held[:, player]
        for kind in range(len(THINGS)):
            known[held == kind] = self.base(kind)
            some = [each for each in every if each.held == kind]
            model = self.models[kind]
            if model is None or not some:
                continue
            after = infer(model, observed(some), filtered=True).probabilities
            assert after is not None
            for each, probabilities in zip(some, after, strict=True):
                for i, step in enumerate(each.steps):
                    stop = each.steps[i + 1] + 1 if i + 1 < len(each.steps) else each.end + (each.goal is None)
                    known[step + 1 : stop] = probabilities[i]
        return known

    def beliefs(self, trial: Trial) -> Float[np.ndarray, "T1 2 cells"]:
        """``belief`` of both players, laid on all cells of the kitchen: for ``film`` and ``kitchens.picture``."""
        found = np.zeros((len(trial) + 1, 2, len(self.kitchen.tiles)))
        for player in range(2):
            found[:, player, self.cells] = self.belief(trial, player)
        return found


def observed(some: Sequence[Errand]) -> Data:
    """Errands as data for ``veil.SwitchingIntent``: an episode each, padded to a power of two, so that few compile."""
    longest = 2 ** int(np.ceil(np.log2(max(len(each.steps) for each in some))))
    table = np.zeros((2, len(some), longest, 1))
    there = np.arange(longest) < np.array([[len(each.steps)] for each in some])
    for row, each in enumerate(some):
        table[0, row, : len(each.steps), 0], table[1, row, : len(each.steps), 0] = each.actions, each.states
    return Data(table[0], evidence=table[1], mask=there)


def learn(games: Sequence[Trial], *, key: Any, steps: int = 150, progress: bool | None = None) -> Subgoals:
    """A ``SwitchingIntent`` for each object in hand, by maximum likelihood of the steps of all players of some games.

    ``games``: of one kitchen. ``steps``: of the fit for each object in hand; ``progress`` as in ``veil.fit``.

    Raises:
        ValueError: no games, or those of several kitchens.
    """
    import optax

    names = {game.kitchen for game in games}
    if len(names) != 1:
        raise ValueError(f"games: expected those of one kitchen; got games in {sorted(names) or 'none'}")
    name = names.pop()
    decisions, _, rewards = problem(KITCHENS[name])
    every = [each for game in games for player in range(2) for each in errands(game, player)]
    models: list[SwitchingIntent | None] = []
    for held in range(len(THINGS)):
        some = [each for each in every if each.held == held]
        model = SwitchingIntent(Intent(decisions, KnownReward(2.0 * rewards)))
        adam = optax.adam(optax.cosine_decay_schedule(1e-1, steps))
        learned = fit(model, observed(some), key=key, steps=steps, optimiser=adam, progress=progress) if some else None
        models.append(None if learned is None else learned.model)
    return Subgoals(name, tuple(models))


def film(
    trial: Trial,
    beliefs: Float[np.ndarray, "T1 2 cells"],
    path: Path,
    steps: Sequence[int] | None = None,
    *,
    rate: int = 7,
) -> None:
    """A game with what both are about to do drawn over it, as .gif or .mp4: rings around cells, the surer the larger.

    ``beliefs``: of every state and player a probability of every cell of the kitchen, such as ``Subgoals.beliefs``.
    ``steps``: which states to show (default: all, some 1,200); ``rate`` pictures a second: a game has 1 / 0.15 s.

    Raises:
        ValueError: beliefs of another shape, or a path that ends neither in .gif nor in .mp4.
    """
    kitchen = KITCHENS[trial.kitchen]
    shape = (len(trial) + 1, 2, len(kitchen.tiles))
    if beliefs.shape != shape:
        raise ValueError(f"beliefs: expected [states, players, cells] of this game, {shape}; got {beliefs.shape}")
    write_film(path, kitchens.film(kitchen, logged(trial), steps, aims=beliefs), rate)


__all__ = ["Errand", "Subgoals", "errands", "film", "learn", "observed", "problem"]
