"""Every recipe runs in its quick version, ends with a picture, and is listed in docs/recipes.md.

One that needs a package of its own says so where that is not installed, and ends. They run one after the other in a
process of their own, as plain as a user's: without the strict session, and what one compiled the next need not.
"""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.py") if path.stem != "common")
NEEDS = {
    "doors_and_keys": ("minigrid", "pip install 'veil[exploration]'"),
    "half_cheetah": ("mujoco", "pip install 'gymnasium[mujoco]'"),
    "montezuma": ("ale_py", "pip install 'veil[atari]'"),
    "pusht": ("gym_pusht", "pip install 'veil[pusht]'"),
}


WORKER = """
import contextlib, io, json, runpy, sys, traceback
answers = sys.stdout
for line in sys.stdin:
    recipe, out = json.loads(line)
    sys.argv, code, said = [recipe, "--quick", "--out", out], 0, io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(recipe, run_name="__main__")
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            code = traceback.format_exc()
    print(json.dumps([code, said.getvalue()]), file=answers, flush=True)
"""


@pytest.fixture(scope="module")
def run():
    """Run a recipe: what it ended with (0, or words), and what it printed."""
    places = os.pathsep.join([str(ROOT / "recipes"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS") or "cpu", "PYTHONPATH": places}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WORKER], env=environment, **pipes) as worker:

        def ask(recipe, out):
            worker.stdin.write(json.dumps([str(recipe), str(out)]) + "\n")
            worker.stdin.flush()
            return json.loads(worker.stdout.readline() or '["the process ended", ""]')

        yield ask
        worker.stdin.close()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipe(recipe, tmp_path, run):
    code, said = run(recipe, tmp_path / "out")
    assert code == 0, str(code)[-2000:]
    package, advice = NEEDS.get(recipe.stem, ("", ""))
    if package and util.find_spec(package) is None:
        assert advice in said
        return
    pictures = list((tmp_path / "out").glob("*.png"))
    assert pictures
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert "━" in said, "a table"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipe_is_listed(recipe):
    assert f"recipes/{recipe.name}" in (ROOT / "docs" / "recipes.md").read_text("utf-8")
