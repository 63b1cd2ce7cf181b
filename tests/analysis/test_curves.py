"""Curves by setting, their mean bands, and a fall that is not the luck of the highest point."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from analysis.simulated_curves import DISTANCE, KL, NS, crossed_gold, run_tables

from synthetic_rm.analysis.curves import cross_fitted_peak, mean_curves, overoptimization, setting_curves
from synthetic_rm.analysis.fit_table import fit_table
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.errors import InputError

MIXED = {"seed_effect": 0.1, "prompt_effect": 1.0, "noise": 0.5}
FITS = [
    *(
        "optimizer",
        "mitigation",
        "proxy_params",
        "alpha",
        "alpha_lo",
        "alpha_hi",
        "beta",
        "beta_lo",
        "beta_hi",
    ),
    *("peak_kl", "peak_gold", "r2", "identified", "held_out_rmse"),
]


def bon(alpha: float, beta: float) -> np.ndarray:
    return FORMS["bon"].curve(DISTANCE, alpha, beta)


def gold_of(rng: np.random.Generator, mean: np.ndarray, seeds: int = 4, prompts: int = 32) -> np.ndarray:
    return crossed_gold(rng, mean, seeds=seeds, prompts=prompts, **MIXED)


def test_runs_are_gathered_by_setting_whatever_their_order() -> None:
    rng = np.random.default_rng(0)
    gold = {9000: gold_of(rng, bon(0.6, 0.1), seeds=3), 2000: gold_of(rng, bon(0.4, 0.12), seeds=2)}
    curves, records = run_tables(gold)
    records = records.sample(frac=1, random_state=0)
    small, large = setting_curves(curves, records)
    assert (small.setting["proxy_params"], large.setting["proxy_params"]) == (2000, 9000)
    assert (small.counts, large.counts) == (
        {"num_seeds": 2, "num_prompts": 32},
        {"num_seeds": 3, "num_prompts": 32},
    )
    np.testing.assert_allclose(large.gold, gold[9000], atol=1e-5)
    np.testing.assert_allclose(large.kl, KL)
    survivors = records[records["run"] != "best_of_n-9000-s1"]
    np.testing.assert_array_equal(setting_curves(curves, survivors)[1].gold, large.gold[[0, 2]])
    records["label_noise"] = np.where(records["run"] == "best_of_n-9000-s1", 0.25, 0.0)
    assert [entry.gold.shape[0] for entry in setting_curves(curves, records)] == [2, 2, 1]


def test_gain_over_the_reference_is_free_of_the_level_of_prompts() -> None:
    rng = np.random.default_rng(1)
    gold = gold_of(rng, bon(0.5, 0.1)) + 3 * rng.normal(size=(1, 1, 32))
    curves, records = run_tables({1: gold}, level=5.0)
    tables = [mean_curves(curves, records, rng=np.random.default_rng(2), recentre=r) for r in (True, False)]
    assert (tables[0].loc[0, ["gold", "gold_lo", "gold_hi", "proxy"]] == 0).all()
    np.testing.assert_allclose(tables[1]["gold"] - tables[1]["gold"][0], tables[0]["gold"], atol=1e-5)
    np.testing.assert_allclose(tables[1]["gold"], 5 + gold.mean(axis=(0, 2)), atol=1e-5)
    widths = [(table["gold_hi"] - table["gold_lo"])[1] for table in tables]
    assert widths[0] < 0.2 * widths[1]


def test_mean_bands_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth, held = bon(0.5, 0.12), np.zeros(KL.size)
    for _ in range(200):
        curves, records = run_tables({1: gold_of(rng, truth)})
        table = mean_curves(curves, records, rng=rng, num_resamples=300)
        held += (table["gold_lo"] - 1e-5 <= truth) & (truth <= table["gold_hi"] + 1e-5)
    assert table[["pressure", "num_seeds", "num_prompts"]].values.tolist() == [[n, 4, 32] for n in NS]
    assert held[1:].min() / 200 > 0.89
    assert held[1:].mean() / 200 < 0.99


def test_the_peak_of_a_cell_ignores_its_seed_and_its_prompt() -> None:
    rng = np.random.default_rng(4)
    gold = rng.normal(size=(3, 6, 5))
    chosen = cross_fitted_peak(gold)
    for seed in range(3):
        for prompt in range(5):
            rest = np.delete(np.delete(gold, seed, axis=0), prompt, axis=2)
            assert chosen[seed, prompt] == rest.mean(axis=(0, 2)).argmax()
    one = cross_fitted_peak(gold[:1])
    assert one[0, 2] == np.delete(gold[0], 2, axis=1).mean(axis=1).argmax()


@pytest.mark.parametrize("shape", ["flat", "plateau"])
def test_luck_alone_is_no_fall(shape: str) -> None:
    rng = np.random.default_rng(5)
    truth = 0 * DISTANCE if shape == "flat" else 0.3 * np.minimum(DISTANCE, 1.2)
    tables = [overoptimization(*run_tables({1: gold_of(rng, truth)}), rng=rng, num_resamples=200) for _ in range(150)]
    table = pd.concat(tables)
    error = 4 * table["fall"].std() / np.sqrt(150)
    assert abs(table["fall"].mean()) < error
    assert table["fall_observed"].mean() > error  # what the same data would have claimed
    assert (table["verdict"] == "fell").mean() < 0.08
    assert table["seeds_fell"].mean() / 4 < 0.25


def test_a_fall_is_seen_and_a_rise_is_not_called_one() -> None:
    rng = np.random.default_rng(6)
    curves, records = run_tables(
        {1: gold_of(rng, bon(0.9, 0.3), prompts=64), 2: gold_of(rng, bon(0.6, 0.0), prompts=64)}
    )
    table = overoptimization(curves, records, rng=rng)
    assert table["verdict"].tolist() == ["fell", "not seen"]
    assert table["rose"].tolist() == [True, True]
    assert table["seeds_fell"].tolist() == [4, 0]
    true_fall = bon(0.9, 0.3).max() - bon(0.9, 0.3)[-1]
    assert table.loc[0, "fall_lo"] < true_fall < table.loc[0, "fall_hi"]
    assert table.loc[0, "fall"] <= table.loc[0, "fall_observed"]
    assert table.loc[1, "peak_pressure"] == table.loc[1, "last_pressure"] == 4096


def test_fit_table_has_the_contract_s_columns_and_the_truth() -> None:
    rng = np.random.default_rng(7)
    truths = {2000: (0.4, 0.12), 9000: (0.6, 0.11), 70000: (0.5, 0.0)}
    curves, records = run_tables(
        {size: gold_of(rng, bon(*truth), prompts=64) for size, truth in truths.items()}, level=2.0
    )
    table = fit_table(curves, records, rng=rng, num_resamples=500)
    assert table.columns[: len(FITS)].tolist() == FITS
    assert table["proxy_params"].tolist() == list(truths)
    for row, (alpha, beta) in zip(table.to_dict("records"), truths.values(), strict=True):
        assert row["alpha_lo"] < alpha < row["alpha_hi"]
        assert row["beta_lo"] < beta < row["beta_hi"]
    assert table["identified"].tolist() == [True, True, False]
    assert set(table["form"]) == {"bon"}
    rivals = [name for name in table if name.startswith("held_out_rmse_")]
    assert sorted(rivals) == sorted(f"held_out_rmse_{form}" for form in FORMS if form != "bon")
    assert table[["held_out_rmse", *rivals]].notna().all(axis=None)
    rl = fit_table(curves, records.assign(optimizer="ppo"), rng=rng, num_resamples=50)
    assert set(rl["form"]) == {"rl"}
    assert "held_out_rmse_bon" in rl


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, r: ({**c, "gold": c["gold"][:, :3]}, r), "got shapes"),
        (lambda c, r: ({**c, "pressure": c["pressure"][::-1]}, r), "must rise"),
        (lambda c, r: ({**c, "run": np.array(["a"] * 4)}, r), "twice"),
        (lambda c, r: ({k: v for k, v in c.items() if k != "gold"}, r), "lack gold"),
        (lambda c, r: ({**c, "gold": c["gold"] * np.nan}, r), "gold of run best_of_n-1-s0 is not finite"),
        (lambda c, r: (c, r.replace("best_of_n-1-s0", "other")), "run other of the records has no curve"),
        (lambda c, r: (c, r.iloc[1:]), "other pressures"),
        (lambda c, r: (c, r.drop(columns="kl")), "lack the column kl"),
    ],
)
def test_tables_that_do_not_fit_are_named(change: Callable[..., tuple], message: str) -> None:
    curves, records = change(*run_tables({1: np.zeros((4, KL.size, 5))}))
    with pytest.raises(InputError, match=message):
        setting_curves(curves, records)
