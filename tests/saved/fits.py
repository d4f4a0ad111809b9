"""One small ``Fit`` of every ready model family and with every posterior family, made without learning."""

import functools
from dataclasses import fields, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import veil
from cases import make_data, random_model, started
from state_space import lds
from veil import posterior as q
from veil.control import KnownReward, LinearReward, NeuralReward, TableReward
from veil.learning.result import Fit, History, Status
from veil.model.scales import Scale
from veil.parts import dynamics, gates, heads, priors
from veil.units import standardised
from veil.units.models import StandardisedExactSteps, StandardisedPlate
from veil.units.posteriors import StandardisedOnline, StandardisedOnlineProposal, StandardisedProposal
from veil.zoo import episodic

EPISODES = (episodic.EpisodicMixture, episodic.EpisodicList, episodic.EpisodicChoice)
RNG = np.random.default_rng(0)
SMALL = veil.MLP((3,))
ROWS = veil.Data(RNG.normal(size=(6, 3)))
GIVEN = veil.Data(RNG.normal(size=(6, 2)), evidence=RNG.normal(size=(6, 1)))
OTHER = veil.Units(Scale(np.array([1.0, 2.0]), np.array([3.0, 0.1])))  # of pairs of numbers
WIDE = veil.Units(Scale(np.arange(3.0), np.array([3.0, 0.1, 1.0])))
PAIRED = veil.Units(OTHER.query, Scale(np.ones(1), np.full(1, 5.0)))
LED = veil.Data(RNG.normal(size=(2, 4, 2)), evidence=RNG.normal(size=(2, 4, 1)))  # sequences under actions
SEQUENCES = veil.data.episodes([RNG.normal(size=(4, 2)), RNG.normal(size=(3, 2))])


@veil.register
class Turn(eqx.Module):
    """A transition as a user writes one."""

    rate: jnp.ndarray

    def __call__(self, latent, evidence):
        return jnp.tanh(self.rate * latent)


def nonlinear():
    one = lds()
    return veil.NonlinearGaussian(Turn(jnp.ones(2)), Turn(jnp.ones(1)), one.process, one.noise, one.mean, one.factor)


def hmm():
    experts = random_model("mixture-full", make_data("real")).experts
    return veil.HMM(experts, 3, softmax(3, 3), softmax(3))


def switching():
    return veil.SwitchingLDS(2, 2, lds().noise, True, veil.KMeans(), softmax(2, 2), softmax(2), (lds(), lds(seed=1)))


def step_mixture():
    return random_model("mixture-full", make_data("real"))


def softmax(*states):
    return gates.Softmax(evidence=False, weight=jnp.zeros((*states, 1)))


def mixture(name, kind):
    return plain(lambda: random_model(name, make_data(kind)), q.Exact())


def deep(posterior=None, model=None, units=None):
    return lambda: started(model or veil.dmm(2, decoder=SMALL, width=3), SEQUENCES, posterior, units)


def vae(posterior=None, latent=2):
    return lambda: started(veil.VAE(latent, decoder=SMALL), ROWS, posterior)


def intent(reward, **more):
    """What somebody wants who goes round three places."""
    from veil.control import MDP, SparseTransitions

    return veil.Intent(MDP(SparseTransitions([[1, 0], [2, 1], [0, 2]]), **{"discount": 0.9, **more}), reward)


def plain(model, posterior):
    return lambda: Fit(model(), posterior, *history())


CASES = {
    "mixture": mixture("experts-tied-full", "real | evidence"),
    "mixture of experts": mixture("trunk-diagonal", "real | evidence"),
    "ppca": lambda: started(veil.PPCA(1), ROWS),
    "factor analysis": lambda: started(veil.FactorAnalysis(1), ROWS),
    "bayesian network": lambda: started(veil.BayesianNetwork((3,)), GIVEN),
    "hmm": plain(hmm, q.Exact()),
    "lds": plain(lambda: lds("full"), q.Exact()),
    "nonlinear": plain(nonlinear, q.Extended()),
    "unscented": plain(nonlinear, q.Unscented()),
    "bootstrap": plain(nonlinear, q.Bootstrap()),
    "optimal": plain(nonlinear, q.Optimal()),
    "switching": plain(switching, q.MeanField(3)),
    "dmm": deep(),
    "rssm": deep(model=veil.rssm(priors.Codes(2, 3), memory=4, decoder=SMALL)),
    "vrnn": deep(model=veil.vrnn(2, memory=4, decoder=SMALL)),
    "now": deep(q.Sequential(SMALL, q.Now())),
    "past": deep(q.Sequential(SMALL, q.Past(3))),
    "future": deep(q.Sequential(SMALL, q.Future(3))),
    "both": deep(q.Sequential(SMALL, q.Both(3))),
    "ensemble": lambda: started(veil.DynamicsEnsemble(2, SMALL), LED, q.Undecided()),
    "messages": deep(q.MessagePassing(), veil.StateSpace(dynamics.LinearDynamics(2), decoder=SMALL)),
    "vae": vae(),
    "table": vae(q.Table()),
    "refined": vae(q.Refined(q.Amortized(SMALL), 2)),
    "resampled": vae(q.Resampled(q.Amortized(SMALL), 3)),
    "full": vae(q.Amortized(SMALL, heads.FullGaussian())),
    "ladder": vae(q.Ladder(SMALL, 1), priors.TwoLevels(1, 2, SMALL)),
    "flow": vae(latent=priors.FlowPrior(2)),
    "vamp": vae(latent=priors.VampPrior(2, 3)),
    "residual codes": vae(latent=priors.ResidualCodes(2, 3, net=SMALL)),
    "normalising flow": lambda: started(veil.NormalisingFlow(veil.flows.Flow(2, 4, knots=4), SMALL), GIVEN),
    "continuous flow": lambda: started(veil.ContinuousFlow(veil.nets.Residual(4, 1)), GIVEN),
    "diffusion": lambda: started(veil.Diffusion(SMALL), ROWS),
    "intent": plain(lambda: intent(TableReward(3, kinds=2, key=jax.random.key(0))), q.Exact()),
    "intent of features": plain(lambda: intent(LinearReward(np.ones((3, 2, 4))), discount=1.0, horizon=5), q.Exact()),
    "intent of a network": plain(lambda: intent(NeuralReward(np.ones((3, 2)), (4,), key=jax.random.key(0))), q.Exact()),
    "intent of one": plain(lambda: veil.LatentIntent(intent(TableReward(3)).problem, np.eye(3)), q.Bootstrap()),
    "intent of all": plain(lambda: veil.BayesianIntent(intent(TableReward(3)).problem, np.eye(3)), q.Bootstrap()),
    "intent that switches": plain(
        lambda: veil.SwitchingIntent(intent(TableReward(3, kinds=2, key=jax.random.key(0)))), q.Exact()
    ),
    "goals": plain(lambda: intent(KnownReward(np.eye(3), (0.5, 2.0)), ends=[False, False, True]), q.Exact()),
    "choices": plain(
        lambda: veil.ConditionalLogit(attributes=2, alternatives=3, chooser=1, classes=2, key=jax.random.key(0)),
        q.Exact(),
    ),
    "episodes": lambda: started(veil.Episodic(veil.VAE(2, decoder=SMALL)), SEQUENCES),
    "episodes of a model": plain(lambda: episodic.EpisodicModel(CASES["vae"]().model), q.Bootstrap()),
    **{kind.__name__: plain(lambda kind=kind: kind(step_mixture()), q.Exact()) for kind in EPISODES},
    # in the user's units
    "vae in units": lambda: started(veil.VAE(2, decoder=SMALL), ROWS, None, WIDE),
    "network in units": lambda: started(veil.BayesianNetwork((3,)), GIVEN, None, PAIRED),
    "mdn in units": plain(
        lambda: standardised(random_model("trunk-diagonal", make_data("real | evidence")), WIDE), q.Exact()
    ),
    "dmm in units": deep(units=OTHER),
    "nonlinear in units": plain(lambda: standardised(nonlinear(), WIDE), q.Optimal()),
    "hmm in units": plain(lambda: standardised(hmm(), WIDE), q.Exact()),
    "exact steps in units": plain(lambda: StandardisedExactSteps(hmm(), WIDE), q.Exact()),
    "plate in units": lambda: plain(lambda: StandardisedPlate(CASES["bayesian network"]().model, PAIRED), q.Exact())(),
    "proposal in units": plain(nonlinear, StandardisedProposal(q.Bootstrap(), WIDE)),
    "filter in units": plain(nonlinear, StandardisedOnline(q.Extended(), WIDE)),
    "both in units": plain(nonlinear, StandardisedOnlineProposal(q.Optimal(), WIDE)),
    "noise": lambda: started(veil.VAE(1, decoder=SMALL, head=heads.Poisson()), replace(ROWS, query=ROWS.query**2 // 1)),
}


def history(seed=1):
    rng = np.random.default_rng(seed)
    numbers = History(rng.normal(size=7).astype(np.float32), np.zeros(7), rng.normal(size=(2, 2)), np.full(3, np.nan))
    return numbers, Status(False, "all steps taken", 7, 1, ("column x is constant", "é \N{SNOWMAN}"))


@functools.cache
def fit(name):
    """The ``Fit`` of a case."""
    found = CASES[name]()
    return Fit(found.model, found.posterior, *history())


# -- comparing -------------------------------------------------------------------------------------------------------


def same(a, b):
    """Trees alike leaf by leaf, static fields, types of arrays and NaN too."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(one) is type(other)
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def same_fit(a, b):
    assert (type(a), type(b)) == (Fit, Fit)
    assert a.status == b.status
    for name in ("model", "posterior"):
        same(getattr(a, name), getattr(b, name))
    for field in fields(a.history):
        same(getattr(a.history, field.name), getattr(b.history, field.name))


def arrays_of(folder):
    (file,) = folder.glob("parameters-*.safetensors")
    return file
