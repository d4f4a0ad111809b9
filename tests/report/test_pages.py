"""Pictures insist on labels; pages need nothing else."""

import numpy as np
import pytest

from report.pages import check_self_contained
from veil.report import plots, style
from veil.report.page import Picture, Section, Table, page


def drawn():
    with style.figure() as (picture, (panel,)):
        panel.plot([0, 1], [1, 0])
        style.label(panel, x=("time", "s"), y=("distance", "m"))
    return Picture(picture, "a < b & a line", "line")


def test_a_page_is_self_contained_and_escapes_text():
    part = Section(
        "One <thing>", "Why & how?", ["<em>text</em>"], "x", [drawn()], [Table(("a", "b"), [("<1", "2")])], "veil < x"
    )
    text = page("Title <&>", ["lead"], [part] * 5, "foot")
    reader = check_self_contained(text)
    assert len(reader.images) == 5
    assert "One &lt;thing&gt;" in text
    assert "veil &lt; x" in text
    assert "Why &amp; how?" in text
    assert text.count("<pre><code>") == 5
    assert 'name="viewport"' in text


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_figure_without_a_label_is_refused(missing):
    with (
        pytest.raises(ValueError, match=f"its {missing} axis needs a label with a unit"),
        style.figure() as (_, panels),
    ):
        getattr(panels[0], f"set_{'y' if missing == 'x' else 'x'}label")("time (s)")


def test_a_label_without_a_unit_is_refused():
    with pytest.raises(ValueError, match="needs a label with a unit"), style.figure() as (_, (panel,)):
        panel.set(xlabel="time", ylabel="distance (m)")
    with pytest.raises(ValueError, match="a quantity and its unit"), style.figure() as (_, (panel,)):
        style.label(panel, x=("time", ""), y=("distance", "m"))


def test_the_style_does_not_leak():
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawn()
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_says_what_to_do(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'veil\[plots\]'"):
        style.matplotlib()


def test_colours_are_told_apart():
    """Pairwise distances in a simulation of the common colour blindness (Viénot 1999, deuteranopia, linear RGB)."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in style.COLOURS]) ** 2.2
    seen = rgb @ np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]).T
    seen = np.clip(seen, 0, 1) ** (1 / 2.2)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
    assert distances.min() > 0.1


def test_contours_hold_the_probability_they_say(key):
    """Of a Gaussian: the density at the contour that holds 95 % is the peak's times 0.05."""
    import veil

    rng = np.random.default_rng(0)
    data = rng.standard_normal((2000, 2))
    model = veil.fit(veil.density(veil.LinearGaussian()), veil.Data(data), key=key).model
    with style.figure() as (_, (panel,)):
        plots.contours(panel, model, data, size=200)
        style.label(panel, x=("a", "m"), y=("b", "m"))
    levels = next(c for c in panel.collections if hasattr(c, "levels")).levels
    peak = float(np.exp(veil.log_prob(model, np.asarray(model.experts.mean)))[0])
    np.testing.assert_allclose(np.sort(levels) / peak, [0.05, 0.25, 0.5, 0.75], atol=0.01)
