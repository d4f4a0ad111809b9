"""The trainer's step against a loop written by hand, and against fit; its state in files; what an optimiser does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil import Data, Datum, Optimiser, Trainer
from veil.evaluation.objective import values
from veil.posterior import Amortized
from veil.units import unwrapped, unwrapped_posterior

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
FAITHFUL = veil.data.load("faithful")
ROWS = Data(FAITHFUL.query[:32])
VAE = veil.VAE(1, decoder=veil.MLP((4,)))
MDN = veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), 2, trunk=veil.MLP((4,)))
GIVEN = Data(FAITHFUL.query[:32, 1:], evidence=FAITHFUL.query[:32, :1])


def taken(trainer, state, data, steps):
    """State and infos after steps on the same batch."""
    batch = trainer.batch(data)
    return jax.lax.scan(trainer.step, state, jax.tree.map(lambda leaf: jnp.stack([leaf] * steps), batch))


def close(one, other, **tolerance):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        if eqx.is_inexact_array(a):
            np.testing.assert_allclose(a, b, **tolerance)


def by_hand(trainer, state, data, steps, transform):
    """Ascent of the mean of an objective on standardised numbers: models, posteriors and values, step by step."""
    objective = trainer.objective
    pair = state.learned.model, state.learned.posterior
    parameters, rest = eqx.partition(pair, eqx.is_inexact_array)
    inner = transform.init(parameters)
    scale = trainer.units.query
    y = (data.query - np.asarray(scale.shift)) / np.asarray(scale.scale)
    x = None
    if data.evidence is not None:
        x = trainer.units.evidence
        x = jnp.array((data.evidence - np.asarray(x.shift)) / np.asarray(x.scale))
    batch = Datum(jnp.array(y), x)

    @eqx.filter_jit
    def step(parameters, inner, key):
        def loss(parameters):
            model, posterior = eqx.combine(parameters, rest)
            keys = jax.random.split(key, len(y))
            each = jax.vmap(lambda datum, key: objective(model, posterior, datum, key).value)(batch, keys)
            return -jnp.mean(each)

        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, inner = transform.update(gradient, inner, parameters)
        return optax.apply_updates(parameters, updates), inner, -value

    found = []
    for i in range(steps):
        parameters, inner, value = step(parameters, inner, jax.random.fold_in(state.key, i))
        found.append((parameters, float(value) - float(np.sum(np.log(np.asarray(scale.scale))))))
    return found


@pytest.mark.parametrize("bounded", [False, True])
def test_steps_are_those_of_a_loop_by_hand(bounded):
    """Schedule, clipping and Adam included; the value is that of the user's data."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.05, 2, 6)
    whole = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule))
    optimiser = Optimiser(optax.adam(schedule), clip=0.5, bounded=True) if bounded else Optimiser(whole)
    trainer = Trainer(VAE, optimiser=optimiser, units=veil.Units.of(ROWS, VAE))
    state = trainer.start(ROWS, KEY)
    after, info = taken(trainer, state, ROWS, 6)
    found = by_hand(trainer, state, ROWS, 6, whole)
    close((after.learned.model, after.learned.posterior), found[-1][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(info.value, [value for _, value in found], rtol=1e-9)
    np.testing.assert_array_equal(info.skipped, 0)
    assert {"elbo", "kl", "reconstruction"} <= set(info.metrics)
    assert info.metrics["kl"].shape == (6,)


@pytest.mark.parametrize("bounded", [False, True])
def test_steps_are_those_of_fit(bounded):
    """Of an objective without random numbers, on all data: a fit that goes on is the trainer that goes on."""
    begun = veil.fit(MDN, GIVEN, key=KEY, steps=2)
    optimiser = Optimiser(optax.adam(0.02), bounded=bounded)
    fit = veil.fit(begun.model, GIVEN, key=KEY, optimiser=optimiser, steps=5, batch_size=32)
    trainer = Trainer(begun.model, optimiser=optimiser)
    assert eqx.tree_equal(trainer.units, begun.model.units)  # frozen
    state, info = taken(trainer, trainer.start(GIVEN, KEY), GIVEN, 5)
    model, posterior = trainer.result(state)
    np.testing.assert_allclose(info.value, fit.history.value, rtol=1e-9)
    close(model, fit.model, rtol=1e-8, atol=1e-10)
    assert isinstance(posterior, veil.Exact)
    np.testing.assert_allclose(veil.log_prob(model, GIVEN), veil.log_prob(fit, GIVEN), rtol=1e-8)


def test_a_loop_of_calls_is_a_scan_and_compiles_once(compilations):
    trainer = Trainer(VAE, optimiser=optax.adam(0.01), units=veil.Units.of(ROWS, VAE))
    begin = trainer.start(ROWS, KEY)
    scanned, info = taken(trainer, begin, ROWS, 4)
    step, state, found = jax.jit(trainer.step), begin, []
    batches = [trainer.batch(ROWS) for _ in range(4)]
    for batch in batches:
        state, seen = step(state, batch)
        found.append(float(seen.value))
    assert compilations.of("step") == 1
    close(state, scanned, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found, info.value, rtol=1e-9)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(begin))  # an ordinary pytree


def test_states_are_mapped_over():
    """Three learners side by side."""
    trainer = Trainer(VAE, optimiser=optax.adam(0.01), units=veil.Units.of(ROWS, VAE))
    states = [trainer.start(ROWS, jax.random.key(i)) for i in range(3)]
    batch = trainer.batch(ROWS)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    after, info = jax.jit(jax.vmap(trainer.step, (0, None)))(together, batch)
    assert len(set(np.asarray(info.value).tolist())) == 3
    alone = jax.jit(trainer.step)
    for i, state in enumerate(states):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], after), alone(state, batch)[0], rtol=1e-9, atol=1e-12)


def test_the_average_is_its_recursion():
    """a_t+1 = d a_t + (1 - d) θ_t+1 with d = min(decay, (1 + t) / (10 + t))."""
    trainer = Trainer(VAE, optimiser=Optimiser(optax.adam(0.05), average=0.3), units=veil.Units.of(ROWS, VAE))
    state = trainer.start(ROWS, KEY)
    found = by_hand(trainer, state, ROWS, 6, optax.adam(0.05))
    average = eqx.filter((state.learned.model, state.learned.posterior), eqx.is_inexact_array)
    for t, (parameters, _) in enumerate(found):
        decay = min(0.3, (1 + t) / (10 + t))
        average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, parameters)
    after, _ = taken(trainer, state, ROWS, 6)
    close((after.learned.model, after.learned.posterior), found[-1][0], rtol=1e-9, atol=1e-12)
    model, posterior = trainer.result(after)
    close((model.model, posterior.posterior), average, rtol=1e-9, atol=1e-12)


def test_a_step_that_is_not_finite_changes_nothing_but_the_count():
    trainer = Trainer(VAE, optimiser=optax.adam(0.01), units=veil.Units.of(ROWS, VAE))
    state = trainer.start(ROWS, KEY)
    batch = trainer.batch(ROWS)
    spoilt = eqx.tree_at(lambda datum: datum.query, batch, batch.query.at[0, 0].set(jnp.inf))
    step = jax.jit(trainer.step)
    after, info = step(state, spoilt)
    assert int(info.skipped) == 1
    close(after.learned.model, state.learned.model, rtol=0)
    close(after.learned.optimiser, state.learned.optimiser, rtol=0)
    assert int(after.learned.skipped) == 1
    good, info = step(after, batch)
    assert int(info.skipped) == 0
    assert int(good.learned.skipped) == 0


def _arrays(state):
    """A state as arrays by number: keys as their data."""
    leaves, structure = jax.tree.flatten(state)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)]
    names = [f"{i:04d}" for i in range(len(plain))]

    def back(arrays):
        found = [jnp.array(arrays[name]) for name in names]
        found = [jax.random.wrap_key_data(leaf) if key else leaf for leaf, key in zip(found, is_key, strict=True)]
        return jax.tree.unflatten(structure, found)

    return {name: np.asarray(leaf) for name, leaf in zip(names, plain, strict=True)}, back


def resumed_from_safetensors(state, folder):
    from safetensors.numpy import load_file, save_file

    arrays, back = _arrays(state)
    save_file(arrays, folder / "state.safetensors")
    return back(load_file(folder / "state.safetensors"))


def resumed_from_orbax(state, folder):
    ocp = pytest.importorskip("orbax.checkpoint")
    arrays, back = _arrays(state)
    with ocp.StandardCheckpointer() as keeper:
        keeper.save(folder / "state", arrays)
        keeper.wait_until_finished()
        return back(keeper.restore(folder / "state", arrays))


@pytest.mark.parametrize("resumed", [resumed_from_safetensors, resumed_from_orbax])
def test_a_state_from_a_file_goes_on_to_the_same_bytes(resumed, tmp_path):
    optimiser = Optimiser(optax.adam(optax.linear_schedule(0.05, 0.0, 8)), average=0.9)
    objective = veil.ELBO(kl=veil.objective.Annealed(5))
    trainer = Trainer(VAE, objective=objective, optimiser=optimiser, units=veil.Units.of(ROWS, VAE))
    half, _ = taken(trainer, trainer.start(ROWS, KEY), ROWS, 4)
    straight, infos = taken(trainer, half, ROWS, 4)
    again, same = taken(trainer, resumed(half, tmp_path), ROWS, 4)
    for a, b in zip(jax.tree.leaves((straight, infos)), jax.tree.leaves((again, same)), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_units_stay_whatever_data_come():
    """Made once; a model and a posterior that were learned keep those that they were learned in."""
    units = veil.Units.of(ROWS, VAE)
    trainer = Trainer(VAE, optimiser=optax.adam(0.01), units=units)
    far = Data(1e3 * ROWS.query)
    state, _ = taken(trainer, trainer.start(ROWS, KEY), ROWS, 3)
    state, _ = taken(trainer, state, far, 2)
    model, posterior = trainer.result(state)
    assert eqx.tree_equal(unwrapped(model)[1], units)
    assert eqx.tree_equal(unwrapped_posterior(posterior)[1], units)
    more = Trainer(model, posterior, optimiser=optax.adam(0.01), units=veil.Units.of(far, VAE))
    assert eqx.tree_equal(more.units, units)
    close((more.model, more.posterior), (model.model, posterior.posterior), rtol=0)
    other = veil.fit(VAE, far, key=KEY, steps=1)
    with pytest.raises(ValueError, match=r"^posterior: it was learned in other units"):
        Trainer(model, other.posterior)


@pytest.mark.parametrize("name", ["gaussian mixture", "ppca with a network"])
def test_models_in_the_user_s_units_go_on_in_standardised_ones(name):
    """The first value is that of the fit that came before, to rounding; what comes out is of the user's again."""
    if name == "gaussian mixture":
        objective, begun = veil.Marginal(), veil.fit(veil.Mixture(components=2), ROWS, key=KEY, steps=5)
        trainer = Trainer(begun.model, units=veil.Units.of(ROWS, begun.model), optimiser=optax.adam(1e-3))
        expected = veil.log_prob(begun, ROWS).mean()
    else:
        net = Amortized(veil.MLP((4,)))
        objective = veil.ELBO(samples=4000)
        begun = veil.fit(veil.PPCA(1), ROWS, key=KEY, posterior=net, objective=veil.ELBO(), steps=5)
        trainer = Trainer(begun.model, begun.posterior, objective, optimiser=optax.adam(1e-3))
        expected = values(objective, begun.model, begun.posterior, ROWS, key=KEY).mean()
    state, info = taken(trainer, trainer.start(ROWS, KEY), ROWS, 1)
    tolerance = {"rtol": 1e-9} if name == "gaussian mixture" else {"rtol": 0.02}
    np.testing.assert_allclose(info.value[0], expected, **tolerance)
    model, posterior = trainer.result(state)
    assert type(model) is type(begun.model)
    after = values(objective, model, posterior, ROWS, key=KEY).mean()
    np.testing.assert_allclose(after, expected, rtol=0.05)


def test_a_plate_has_one_draw_a_step():
    """All data of a step see the same weights; each carries 1/N of the KL, N being those of the start."""
    model = veil.BayesianNetwork((3,))
    objective = veil.ELBO(veil.objective.Pathwise())
    trainer = Trainer(model, objective=objective, optimiser=optax.adam(0.01), units=veil.Units.of(GIVEN, model))
    state = trainer.start(GIVEN, KEY)
    inner, q = state.learned.model, state.learned.posterior
    assert inner.shared_by == 32
    batch = trainer.batch(GIVEN[:8])
    _, info = jax.jit(trainer.step)(state, batch)
    standard = jax.vmap(trainer.units.standard)(batch)

    @jax.jit
    def naive(key):
        one = lambda datum: objective(inner, q, datum, key).value  # noqa: E731
        return jnp.mean(jax.vmap(one)(standard))

    jacobian = -float(np.sum(np.log(np.asarray(trainer.units.query.scale))))
    np.testing.assert_allclose(info.value, naive(jax.random.fold_in(state.key, 0)) + jacobian, rtol=1e-9)


def test_sequences_with_padding_and_gaps():
    """The value is in the user's units, over the steps that are there."""
    rng = np.random.default_rng(0)
    parts = [100.0 + 30.0 * rng.normal(size=(length, 1)) for length in (4, 6)]
    parts[1][2] = np.nan
    data = veil.data.episodes(parts)
    model = veil.LDS(1)
    trainer = Trainer(model, optimiser=optax.adam(0.01), units=veil.Units.of(data, model))
    state = trainer.start(data, KEY)
    _, info = taken(trainer, state, data, 1)
    fitted, _ = trainer.result(state)
    np.testing.assert_allclose(info.value[0], veil.log_prob(fitted, data).mean(), rtol=1e-8)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"^optimiser: expected an optax optimiser"):
        Trainer(VAE, optimiser=0.1)
    with pytest.raises(ValueError, match=r"^average: expected a decay"):
        Optimiser(optax.adam(0.1), average=1.0)
    with pytest.raises(ValueError, match=r"^clip: expected a positive norm, such as 10.0, or None; got -1"):
        Optimiser(optax.adam(0.1), clip=-1.0)
    with pytest.raises(TypeError, match=r"^model: "):
        Trainer(3)
    with pytest.raises(TypeError, match=r"^key|parameter 'key'"):  # the annotation is executed in the tests
        Trainer(VAE).start(ROWS, 0)
