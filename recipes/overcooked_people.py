"""People who cook together: what will they do next? Human pairs of Overcooked (Carroll et al. 2019), in nats an action.

Every 150 ms a player goes north, south, east or west, interacts or stays. A policy p(action | all so far) is learned by
imitation from 39 games and scored on 37 games of pairs that were held out in that kitchen, action by action, on all
steps and on those alone in which somebody does something. Beside it a table of counts, p(action | own place, facing,
held object and last action), smoothed by adding one to each and backed off.

The policy is a mixture. Its members p(a | o) = E_z softmax(net(o; z)) have a latent z that multiplies what every layer
reads; they are learned by the ELBO with q(z) = p(z), which is dropout with normal noise (Srivastava et al. 2014,
section 10), and each keeps what was best on two pairs from which it does not learn, the next on two others. All
kitchens share one net, which sees what is the same in all: how far it is to what can be done, and what both players
did lately (``veil.control.worlds.cooks``). Who is held out in one kitchen may be learned from in another. What a person
does unlike others is a latent of the episode, weights of the last actions and of what is in hand, inferred from step to
step (``veil.maths.adapting``).

    python recipes/overcooked_people.py --out overcooked_people   # about 15 minutes on two cores
    python recipes/overcooked_people.py --quick                   # few games, few steps
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control.worlds.cooks import known
from veil.control.worlds.overcooked import STAY
from veil.data.bundled.overcooked import ACTIONS, KITCHENS, NEVER, SECONDS, THINGS, trials
from veil.maths.adapting import adapted
from veil.parts.nets import Dense
from veil.report import style

FOLDS = ((3, 19), (2, 22), (4, 18), (11, 16), (12, 20), (13, 15), (14, 17), (1, 10))  # pairs of persons, two each
STRONG, WEAK = (0.5, 0.8, 0.8), (0.33, 0.65, 0.65)  # noise on what the three layers read
VARIANCE = 0.1  # of a person's weights: of .03, .1 and .3 the best on pairs to learn from, by members stopped by them
LONG = 1204  # steps of a game
KINDS = ((128, 20, STRONG),) * 6 + ((96, 15, WEAK),) * 4  # of members: width, epochs, noise


# -- games ------------------------------------------------------------------------------------------------------------


class Seat:
    """One player of a game: what was known before each action, ``seen`` [T, F], and the ``action`` [T]."""

    def __init__(self, game, player, number):
        self.kitchen, self.pair, self.game, self.held_out = game.kitchen, game.pair, number, game.held_out
        self.seen, self.action = known(game, player), game.action[:, player]
        last = np.concatenate([[NEVER], game.action[:-1, player]])
        parts = (last, game.facing[:-1, player], game.held[:-1, player], game.place[:-1, player])
        self.context = np.stack(parts, 1)

    def habits(self):
        """What habits may depend on [T, H]: the last two actions, how long ago the last one was, facing and hands."""
        last, facing, held, _ = self.context.T
        before = np.concatenate([[NEVER], last[:-1]])
        steps = np.arange(len(last))
        since = steps - np.maximum.accumulate(np.where(last != STAY, steps, -1))
        parts = ((last, 7), (before, 7), (np.minimum(since, 12), 13), (facing, 4), (held, len(THINGS)))
        hot = [part[:, None] == np.arange(count) for part, count in parts]
        return np.concatenate([np.ones((len(last), 1), bool), *hot], 1).astype(np.float32)


def seats(limit=None):
    """Every player of every game, or of the first few of each half of the split."""
    found = []
    for kitchen in KITCHENS:
        for held_out in (False, True):
            for game in [game for game in trials(kitchen) if game.held_out == held_out][:limit]:
                number = len(found) // 2
                found += [Seat(game, player, number) for player in range(2)]
    return found


def together(some, part):
    """A part of several seats, one behind the other."""
    return np.concatenate([vars(seat)[part] for seat in some])


# -- counts -----------------------------------------------------------------------------------------------------------


def counts(learned, scored):
    """log p(action) [T] of every seat: (n + 6 q) / (N + 6), as much added as one to each of six actions.

    q is that of the level before: all actions alike, those of all steps, of steps with the same last action, and at
    last of those with the same place, facing and held object as well.
    """
    levels = ((), (0,), (0, 1, 2, 3))
    context, action = together(learned, "context"), together(learned, "action")
    tables = []
    for level in levels:
        table = {}
        for key, act in zip(map(tuple, context[:, level]), action, strict=True):
            table.setdefault(key, np.zeros(len(ACTIONS)))[act] += 1
        tables.append(table)
    none, found = np.zeros(len(ACTIONS)), []
    for seat in scored:
        chances = np.full((len(seat.action), len(ACTIONS)), 1 / len(ACTIONS))
        for level, table in zip(levels, tables, strict=True):
            seen = np.array([table.get(key, none) for key in map(tuple, seat.context[:, level])])
            chances = (seen + len(ACTIONS) * chances) / (seen.sum(1, keepdims=True) + len(ACTIONS))
        found.append(np.log(chances[np.arange(len(chances)), seat.action]))
    return found


# -- policies ---------------------------------------------------------------------------------------------------------


class Noisy(veil.Model):
    """p(a | o) = E_z softmax(net(o; z)), z ~ N(0, I): what a layer reads is multiplied by 1 + spread z."""

    layers: tuple[Dense, ...]
    spreads: tuple[float, ...] = eqx.field(static=True)

    def prior(self, evidence):
        count = sum(layer.weight.shape[1] for layer in self.layers)
        return veil.distributions.normal(jnp.zeros(count), jnp.ones(count))

    def likelihood(self, latent, evidence):
        at, value = 0, evidence
        for i, (layer, spread) in enumerate(zip(self.layers, self.spreads, strict=True)):
            value = layer((jax.nn.silu(value) if i else value) * (1 + spread * latent[at : at + value.size]))
            at += layer.weight.shape[1]
        return veil.distributions.categoricals(value[None])


class Unread(veil.posterior.Posterior):
    """q(z) = p(z): nothing is inferred of it."""

    def __call__(self, model, datum):
        return model.prior(datum.evidence)


class Members(veil.Enumerable):
    """A mixture of networks, one as likely as another: p(a | o) = 1/K Σ_k softmax(net_k(o))."""

    networks: tuple[Noisy, ...]

    def prior(self, evidence):
        return veil.distributions.categorical(jnp.zeros(len(self.networks)))

    def likelihood(self, latent, evidence):
        still = jnp.zeros(self.networks[0].prior(evidence).event_shape)  # z at its mean
        logits = [network.likelihood(still, evidence).logits for network in self.networks]
        return veil.distributions.categoricals(jnp.stack(logits)[latent])

    def log_policy(self, evidence):
        """log p(a | o) of every action, the members summed out."""
        likelihoods = jax.vmap(lambda k: jax.nn.log_softmax(self.likelihood(k, evidence).logits[0]))
        return jax.nn.logsumexp(likelihoods(jnp.arange(len(self.networks))), 0) - jnp.log(len(self.networks))


class Scale:
    """Numbers as a network is to see them: about zero, of about one, and none beyond five."""

    def __init__(self, seen):
        deviation = seen.std(0)
        self.mean, self.deviation = seen.mean(0), np.where(deviation < 1e-3, 1e3, np.maximum(deviation, 0.05))

    def __call__(self, seen):
        return np.clip((seen - self.mean) / self.deviation, -5, 5).astype(np.float32)


def data(some, scale):
    """Steps as data."""
    return veil.Data(together(some, "action")[:, None].astype(np.float32), evidence=scale(together(some, "seen")))


def member(learned, fold, scale, key, epochs, folder, width, spreads, batch=256):
    """One network, from all pairs but those of the fold, which say when it was best."""
    rest = [seat for seat in learned if seat.pair not in fold]
    held_out = [seat for seat in learned if seat.pair in fold] or rest[:2]
    given = data(rest, scale)
    sizes = (given.evidence.shape[1], width, width, len(ACTIONS))
    keys = jax.random.split(key, len(sizes))
    layers = tuple(map(Dense.initialise, sizes[:-1], sizes[1:], keys[1:]))
    steps = epochs * len(given) // batch
    return veil.fit(
        Noisy(layers, spreads),
        given,
        key=keys[0],
        posterior=Unread(),
        objective=veil.ELBO(),
        optimiser=veil.Optimiser(
            optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2), average=0.998
        ),
        steps=steps,
        batch_size=batch,
        held_out=data(held_out, scale),
        patience=steps,  # the rate falls to zero: the end is rarely worse than what came before
        checkpoints=folder,
    )


def policy(learned, key, out, members=None, epochs=None):
    """(mixture, scale) of members that each keep what was best on other pairs; ``out`` keeps what has been learned."""
    scale, fits = Scale(together(learned, "seen")), []
    for i, (width, usual, spreads) in enumerate(KINDS[:members]):
        folder, each = out / f"member-{i}", jax.random.fold_in(key, i)
        fits.append(member(learned, FOLDS[i % len(FOLDS)], scale, each, epochs or usual, folder, width, spreads))
    return Members(tuple(fit.model for fit in fits)), scale


# -- scores -----------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def _log_policies(mixture, seen):
    return jax.lax.map(mixture.log_policy, seen, batch_size=256)


def log_policies(model, some):
    """log p(every action | so far) [T, A] of every seat, of a mixture and its scale."""
    mixture, scale = model
    return [np.asarray(_log_policies(mixture, scale(seat.seen))) for seat in some]


def personal(some, logs, variance=VARIANCE):
    """The same, with what is known so far of the person: a latent of the episode, inferred from step to step."""
    adapt, found = jax.jit(adapted, static_argnums=3), []
    for seat, each in zip(some, logs, strict=True):
        spare = -len(each) % LONG  # one length for all: behind the end nothing matters to what comes before
        parts = (jnp.pad(part, ((0, spare), (0, 0))) for part in (each, seat.habits()))
        found.append(np.asarray(adapt(*parts, jnp.pad(seat.action, (0, spare)), variance))[: len(each)])
    return found


def chosen(some, logs):
    """log p(action) [T] of every seat."""
    return [each[np.arange(len(each)), seat.action] for seat, each in zip(some, logs, strict=True)]


def nats(some, logs, active=False):
    """Nats an action over all steps, or over those alone in which the action is not to stay."""
    chosen = together(some, "action") != STAY if active else slice(None)
    return -float(np.mean(np.concatenate(logs)[chosen]))


def gain(some, ours, theirs, active=False, draws=2000):
    """(mean, low, high): how many nats an action less ours needs, and 95 % of it, games drawn again."""
    games = np.array([seat.game for seat in some])
    used = [seat.action != STAY if active else np.ones(len(seat.action), bool) for seat in some]
    more = np.array([np.sum((a - b)[rows]) for a, b, rows in zip(ours, theirs, used, strict=True)])
    steps = np.array([rows.sum() for rows in used])
    each = np.array([[more[games == game].sum(), steps[games == game].sum()] for game in np.unique(games)])
    rng = np.random.default_rng(0)
    again = each[rng.integers(len(each), size=(draws, len(each)))].sum(1)
    low, high = np.quantile(again[:, 0] / again[:, 1], (0.025, 0.975))
    return float(more.sum() / steps.sum()), float(low), float(high)


def main():
    """The table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("overcooked_people"), help="folder of the picture, and of what was learned"
    )
    parser.add_argument("--quick", action="store_true", help="few games, few steps")
    parser.add_argument(
        "--members", type=int, default=len(KINDS), help=f"networks of the mixture (default: {len(KINDS)})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    everybody = seats(1 if arguments.quick else None)
    learned = [seat for seat in everybody if not seat.held_out]
    members, epochs = (2, 1) if arguments.quick else (arguments.members, None)
    model = policy(learned, jax.random.key(arguments.seed), arguments.out, members, epochs)
    table = Table(
        title="The next action of held-out pairs (nats an action; gains over counts with 95 %, games drawn again)"
    )
    for column in ("kitchen", "games", "steps", "counts", "policy", "with the person", "gain"):
        table.add_column(column, justify="left" if column in ("kitchen", "steps") else "right")
    minutes, bars = [], []
    for kitchen in KITCHENS:
        here = [seat for seat in everybody if seat.held_out and seat.kitchen == kitchen]
        base = counts([seat for seat in learned if seat.kitchen == kitchen], here)
        logs = log_policies(model, here)
        plain, ours = chosen(here, logs), chosen(here, personal(here, logs))
        for active in (False, True):
            each = [f"{nats(here, some, active):.3f}" for some in (base, plain, ours)]
            more = "{:.3f} [{:.3f}, {:.3f}]".format(*gain(here, ours, base, active))
            table.add_row(kitchen, str(len(here) // 2), "not to stay" if active else "all", *each, more)
        bars.append([nats(here, some) for some in (base, plain, ours)])
        more = [b - a for a, b in zip(plain, ours, strict=True)]
        minutes.append([np.mean([each[t : t + 200].mean() for each in more]) for t in range(0, 1100, 200)])
    Console(width=140).print(table)
    with style.figure(2, panel=(4.2, 3.0)) as (picture, (left, right)):
        place = np.arange(len(KITCHENS))
        for i, name in enumerate(("counts", "policy", "with the person")):
            left.bar(place + 0.27 * (i - 1), [each[i] for each in bars], 0.27, label=name)
        left.set_xticks(place, [name.replace("-", "\n") for name in KITCHENS], fontsize=7)
        style.label(left, x=("kitchen", "name"), y=("held-out loss", "nats an action"))
        style.legend(left, room=0.2)
        for name, values in zip(KITCHENS, minutes, strict=True):
            right.plot(np.arange(len(values)) * 200 * SECONDS, values, marker=".", label=name)
        style.label(right, x=("time in the game", "s"), y=("gain by the person", "nats an action"))
        style.legend(right)
    picture.savefig(arguments.out / "people.png")
    print(arguments.out / "people.png")


if __name__ == "__main__":
    main()
