"""Bad input is refused at the boundary, by the argument's name.

All calls of the table run in one process of their own, without the strict session: a user does not run annotations.
"""

import json
import subprocess
import sys

import pytest

SETUP = """
import warnings, json, jax, jax.numpy as jnp, numpy as np, veil
from veil import Data, Mixture, Linear
from veil.parts import heads
warnings.simplefilter("ignore")
key, rng = jax.random.key(0), np.random.default_rng(0)
y, x = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
M = Mixture(components=2)
plain = veil.fit(M, y, key=key, steps=2).model
given = veil.fit(M, Data(y, evidence=x), key=key, steps=2).model
stream = veil.Stream(lambda: Data(y).blocks(4))
def fit(model=M, data=y, **options): return veil.fit(model, data, **{"key": key, "steps": 2, **options})
found = {}
for name, call in json.loads(CALLS).items():
    try:
        eval(call)
        found[name] = ["nothing", ""]
    except Exception as error:
        found[name] = [type(error).__name__, str(error)]
print("found:" + json.dumps(found))
"""

# call: (error, the argument that the message begins with)
TABLE = {
    "fit(model=3)": ("TypeError", "model"),
    "fit(model=Mixture)": ("TypeError", "model"),
    "fit(data=[['a', 'b']])": ("TypeError", "query"),
    "fit(data=[[1.0, float('inf')]])": ("ValueError", "query"),
    "fit(data=np.zeros((3, 0)))": ("ValueError", "query"),
    "fit(data=Data(np.ones((4, 2, 2))))": ("ValueError", "query"),
    "fit(steps=0)": ("ValueError", "steps"),
    "fit(steps=2.5)": ("ValueError", "steps"),
    "fit(steps=True)": ("ValueError", "steps"),
    "fit(batch_size=-1)": ("ValueError", "batch_size"),
    "fit(restarts=0)": ("ValueError", "restarts"),
    "fit(patience=0)": ("ValueError", "patience"),
    "fit(tolerance=0)": ("ValueError", "tolerance"),
    "fit(tolerance=float('nan'))": ("ValueError", "tolerance"),
    "fit(tolerance='small')": ("ValueError", "tolerance"),
    "fit(held_out=1.5)": ("ValueError", "held_out"),
    "fit(held_out=3)": ("ValueError", "held_out"),
    "fit(held_out=y)": ("ValueError", "held_out"),
    "fit(data=stream, held_out=0.2)": ("ValueError", "held_out"),
    "fit(key=0)": ("TypeError", "key"),
    "fit(objective='elbo')": ("TypeError", "objective"),
    "fit(posterior='exact')": ("TypeError", "posterior"),
    "fit(optimiser='adam')": ("TypeError", "optimiser"),
    "fit(model=given)": ("ValueError", "evidence"),
    "fit(model=plain, data=y[:, :1])": ("ValueError", "query"),
    "fit(model=given, data=Data(y, evidence=np.ones((12, 3))))": ("ValueError", "evidence"),
    "fit(Mixture(Linear(heads.Beta()), 2))": ("ValueError", "query"),
    "veil.sample(M, 3, key=key)": ("ValueError", "model"),
    "veil.sample(3, 3, key=key)": ("TypeError", "model"),
    "veil.sample(plain, 0, key=key)": ("ValueError", "count"),
    "veil.sample(plain, 2.0, key=key)": ("ValueError", "count"),
    "veil.sample(plain, 3, key=0)": ("TypeError", "key"),
    "veil.sample(given, 3, key=key)": ("ValueError", "evidence"),
    "veil.sample(given, 3, key=key, evidence=np.ones((4, 2)))": ("ValueError", "evidence"),
    "veil.sample(given, 3, key=key, evidence=[0.5])": ("ValueError", "evidence"),
    "veil.sample(given, 3, key=key, evidence=[[float('nan')]])": ("ValueError", "evidence"),
    "veil.predict(given, [[float('nan')], [1.0]])": ("ValueError", "evidence"),
    "veil.infer(M, y)": ("ValueError", "model"),
    "veil.infer('model', y)": ("TypeError", "model"),
    "veil.infer(given, y)": ("ValueError", "evidence"),
    "veil.infer(plain, y[:, :1])": ("ValueError", "query"),
    "veil.log_prob('model', y)": ("TypeError", "model"),
    "veil.evaluate(M, y)": ("ValueError", "model"),
    "veil.predict(M, x)": ("ValueError", "model"),
    "veil.predict(given, np.ones((4, 2)))": ("ValueError", "evidence"),
    "veil.predict(given, None)": ("ValueError", "evidence"),
    "veil.predict(plain, None)": ("ValueError", "evidence"),
    "veil.condition(plain, query=[5])": ("ValueError", "query"),
    "veil.condition(plain, query=[0], evidence=[2])": ("ValueError", "evidence"),
    "veil.condition(given, query=[0])": ("ValueError", "model"),
    "veil.condition(plain, query=['a'])": ("ValueError", "query"),
    "veil.select({}, y, key=key)": ("ValueError", "models"),
    "veil.select({1: M}, y, key=key, criterion='best')": ("ValueError", "criterion"),
    "veil.select({1: M}, y, key=key, criterion='held_out', held_out=2)": ("ValueError", "held_out"),
    "veil.Policy(given, choose='worst')": ("TypeError", "choose"),
    "veil.Policy(given, veil.Likeliest(candidates=0))": ("ValueError", "candidates"),
    "veil.Policy(M)": ("ValueError", "model"),
    "veil.Policy('model')": ("TypeError", "model"),
    "veil.Policy(given)(jnp.ones(3), key)": ("ValueError", "observation"),
    "veil.MLP(())": ("ValueError", "widths"),
    "veil.MLP((4,), 'sine')": ("ValueError", "activation"),
    "Mixture(components=0)": ("ValueError", "components"),
    "Mixture(components=2.5)": ("ValueError", "components"),
    "Mixture(components='two')": ("ValueError", "components"),
    "veil.ExpectedLogLikelihood(samples=0)": ("ValueError", "samples"),
    "heads.Categorical(1)": ("ValueError", "categories"),
    "heads.DiscretisedLogistic(0, 1, 1)": ("ValueError", "levels"),
    "veil.load('nowhere')": ("FileNotFoundError", "path"),
}


@pytest.fixture(scope="module")
def found():
    calls = json.dumps({call: call for call in TABLE})
    script = f"CALLS = {calls!r}\n{SETUP}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.split("found:", 1)[1])


@pytest.mark.parametrize("call", TABLE)
def test_message_names_the_argument(found, call):
    error, argument = TABLE[call]
    kind, message = found[call]
    assert kind == error, f"{kind}: {message[:300]}"
    assert message.startswith(argument), message[:300]
    assert len(message.splitlines()) == 1, "one line, in the user's words"
