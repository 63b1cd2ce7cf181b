"""Fits, shapes, figures and the page of experiments without training, from small tables."""

import numpy as np
import pandas as pd
import pytest

from synthetic_rm.analysis.analytic_fits import analytic_fits, gold_shape
from synthetic_rm.analysis.analytic_report import headline
from synthetic_rm.analysis.figures.analytic import (
    figure_heavy_tails,
    figure_iterated,
    figure_price,
    figure_tabular,
    figure_tail_index,
)
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.analysis.page import Page, write_page
from synthetic_rm.analysis.run_folder import FIT_COLUMNS
from synthetic_rm.analysis.tables import Markup
from synthetic_rm.errors import InputError

KL = np.linspace(0, 9, 31)


def table(run: str, optimizer: str, gold: np.ndarray, **columns: object) -> pd.DataFrame:
    known = {"run": run, "optimizer": optimizer, "mitigation": "none", "proxy_params": 0, "source": "closed form"}
    known |= {"environment": "analytic: x", "series": run, "provenance": "analytic: x"}
    return pd.DataFrame({**known, "kl": KL, "gold": gold, **columns})


@pytest.mark.parametrize(
    ("gold", "shape"),
    [
        ([0, 1, 2], "rises"),
        ([0, -1, -1], "falls"),
        ([0, 1, 0.5], "rises, then falls"),
        ([0, -1, 0.5], "falls, then rises"),
        ([0, 1, 0.5, 2], "turns more than once"),
        ([0, 1, 1 - 1e-9, 2], "rises"),
        ([0, 0, 0], "rises"),
    ],
)
def test_the_shape_of_gold_in_words(gold: list[float], shape: str) -> None:
    assert gold_shape(np.array(gold)) == shape


def test_fits_find_the_coefficients_of_every_exact_curve_and_no_others() -> None:
    bon, rl = FORMS["bon"].curve(np.sqrt(KL), 0.5, 0.1), FORMS["rl"].curve(np.sqrt(KL), 0.4, 0.3)
    rising = FORMS["bon"].curve(np.sqrt(KL), 0.5, 0.01)
    drawn = table("d", "best_of_n", bon).assign(source="simulated draws")
    records = pd.concat([table("a", "best_of_n", bon), table("b", "ppo", rl), table("c", "best_of_n", rising), drawn])
    fits = analytic_fits(records.sample(frac=1, random_state=1), cut=4.0).set_index("run")
    assert set(FIT_COLUMNS) <= set(fits.columns) and set(fits.index) == {"a", "b", "c"}
    assert fits.loc["a", ["alpha", "beta", "peak_kl"]].tolist() == pytest.approx([0.5, 0.1, 6.25])
    assert fits.loc["b", ["alpha", "beta"]].tolist() == pytest.approx([0.4, 0.3]) and fits.loc["b", "form"] == "rl"
    assert fits["identified"].to_dict() == {"a": True, "b": True, "c": False}
    assert fits["shape"].to_dict() == {"a": "rises, then falls", "b": "rises, then falls", "c": "rises"}
    assert fits.loc["a", "held_out_rmse"] < 1e-9 < fits.loc["a", "held_out_rmse_rl"]
    assert fits[["alpha_lo", "beta_hi"]].isna().all().all()
    with pytest.raises(InputError, match="no record is exact"):
        analytic_fits(drawn)


def test_the_headline_names_every_curve_under_its_shape() -> None:
    rows = [("best_of_n", "t3", "falls"), ("ppo", "ppo", "rises"), ("best_of_n", "normal", "rises")]
    fits = pd.DataFrame(rows, columns=["optimizer", "series", "shape"]).assign(environment="analytic: x")
    told = "Nothing here was trained. Gold falls: t3 (best-of-n). Gold rises: ppo in x; normal (best-of-n)."
    assert headline(fits) == told


def test_drawn_responses_have_bars_and_prices_below_the_axis_are_told() -> None:
    world = pd.concat([table("a", "best_of_n", KL, group=group, gold_se=0.25).assign(source="simulated draws")
                       for group in ("tail of the error", "dependent error")])  # fmt: skip
    (bars,) = (found for found in figure_heavy_tails(world).axes[0].collections if len(found.get_segments()) == KL.size)
    spans = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(spans, np.stack([KL - 0.49, KL + 0.49], axis=1))
    prices = pd.DataFrame({"series": ["x", "x", "y"], "mass": [0.1, 0.01, 0.1], "kl": [1.0, 1e-9, 1.0]})
    told = [" ".join(figure_price(rows, "said").get_supxlabel().split()) for rows in (prices, prices[2:])]
    assert "x: falls on below the axis" in told[0] and "below the axis" not in told[1]


def test_the_moment_estimator_has_its_shade() -> None:
    tails = pd.DataFrame({"series": "x", "share": [0.01, 0.1], "hill": 1.0, "hill_deviation": 0.1, "moment": 0.5,
                          "moment_deviation": 0.3, "xi": 1.0})  # fmt: skip
    shades = [band.get_paths()[0].vertices[:, 1] for band in figure_tail_index(tails, "said").axes[0].collections]
    assert [(band.min(), band.max()) for band in shades] == [pytest.approx((0.9, 1.1)), pytest.approx((0.2, 0.8))]


def test_figures_say_what_is_missing_and_refuse_records_of_two_kinds() -> None:
    with pytest.raises(InputError, match="environment=analytic: tabular"):
        figure_tabular(table("a", "best_of_n", KL))
    with pytest.raises(InputError, match="group=tail of the error"):
        figure_heavy_tails(table("a", "best_of_n", KL, group="other"))
    rounds = [
        table("1 round", "iterated", KL, distance=KL).assign(source=s) for s in ("closed form", "simulated rounds")
    ]
    rounds[1]["provenance"] = "trained"
    with pytest.raises(InputError, match="one provenance"):
        figure_iterated(pd.concat(rounds))


def test_a_page_escapes_what_it_is_given_and_links_its_sections(tmp_path) -> None:  # type: ignore[no-untyped-def]
    sections = {"First part": Markup("<p>1</p>"), "B": Markup("<p>2</p>")}
    page = Page(
        tmp_path / "r.html", "a < b", subtitle="<s>", headlines=["<h>", "2"], sections=sections, runs=pd.DataFrame()
    )
    text = write_page(page).read_text()
    assert text.count('class="headline"') == 2
    assert "a &lt; b" in text and "&lt;s&gt;" in text and "&lt;h&gt;" in text and "<p>1</p>" in text
    assert '<a href="#first-part">First part</a>' in text and '<section id="first-part">' in text
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
