"""Every recipe runs in its quick version, ends with a picture, and is listed in docs/recipes.md.

One that needs a package of its own says so where that is not installed, and ends.
"""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.py") if path.stem != "common")
NEEDS = {"half_cheetah": ("mujoco", "pip install 'gymnasium[mujoco]'")}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipe(recipe, tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS") or "cpu"}
    command = [sys.executable, str(recipe), "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    package, advice = NEEDS.get(recipe.stem, ("", ""))
    if package and util.find_spec(package) is None:
        assert advice in done.stdout
        return
    pictures = list((tmp_path / "out").glob("*.png"))
    assert pictures
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert "━" in done.stdout, "a table"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipe_is_listed(recipe):
    assert f"recipes/{recipe.name}" in (ROOT / "docs" / "recipes.md").read_text("utf-8")
