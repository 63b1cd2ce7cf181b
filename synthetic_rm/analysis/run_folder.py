"""Reading the output folder of a run back."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthetic_rm.analysis.curves import check_curves
from synthetic_rm.analysis.fit_table import HELD_OUT_KL
from synthetic_rm.errors import InputError, require
from synthetic_rm.reading import read_json, read_npz, read_yaml

Read = TypeVar("Read")

RECORD_COLUMNS = (
    *("run", "environment", "scale", "optimizer", "mitigation", "labels", "policy_params", "proxy_params"),
    *("num_comparisons", "label_noise", "kl_coef", "proxy_seed", "policy_seed", "pressure", "kl", "kl_se"),
    *("proxy", "proxy_se", "gold", "gold_se", "response_length", "num_prompts", "num_samples"),
)
RUN_COLUMNS = ("run", "stage", "status", "config_hash", "commit", "device", "seconds")
FIT_COLUMNS = (
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
)
SAMPLE_COLUMNS = ("prompt_id", "prompt", "n", "proxy_params", "proxy_seed", "proxy", "gold", "response")
HISTORY_COLUMNS = ("run", "optimizer", "status", "proxy_params", "proxy_seed", "policy_seed", "step", "kl", "proxy")
TEXTS = ("run", "config_hash", "commit", "prompt", "response")


@dataclass(frozen=True)
class RunFolder:
    """What a run leaves: its tables, curves, configuration and provenance."""

    path: Path
    records: pd.DataFrame
    """records.csv: one row per point of one optimization."""
    runs: pd.DataFrame
    """runs.csv: one row per stage run, the failed and the non-finite ones included."""
    fits: pd.DataFrame
    """fits.csv: one row per fitted setting."""
    samples: pd.DataFrame
    """samples.csv: best-of-n responses to a few prompts; empty where a run leaves none."""
    curves: dict[str, NDArray[np.generic]] = field(repr=False)
    """curves.npz: run [R], pressure [K], proxy and gold [R, K, prompts]."""
    rl_curves: dict[str, NDArray[np.generic]] | None = field(repr=False)
    """curves_rl.npz: run [R], pressure [R, K] with -1 beyond a run's points, proxy and gold [R, K, prompts]; None
    where there was no RL."""
    history: pd.DataFrame = field(repr=False)
    """history.csv: one row per iteration of RL; empty where there was none."""
    config: dict[str, Any] = field(repr=False)
    """config.yaml: the resolved configuration."""
    provenance: dict[str, Any] = field(repr=False)
    """provenance.json: commit, versions, device, command and data of the run."""

    @property
    def optimizer(self) -> str:
        """The optimizer of the records: the first one's, where there are several (see `parts`)."""
        return str(self.records["optimizer"].iloc[0])

    def parts(self) -> list["RunFolder"]:
        """The same folder for each optimizer alone: its records, fits, curves, samples and what was run for it.

        Raises:
            InputError: records of RL without curves_rl.npz.
        """
        return [self._of(str(name)) for name in self.records["optimizer"].unique()]

    def _of(self, optimizer: str) -> "RunFolder":
        curves = self.curves if optimizer == "best_of_n" else self.rl_curves
        if curves is None:
            raise InputError(f"{self.path / 'curves_rl.npz'} is missing: it holds the curves of {optimizer}")
        others = {*self.records["optimizer"], *self.history["optimizer"]} - {optimizer}
        samples = self.samples
        if "optimizer" in samples:
            samples = samples[samples["optimizer"] == optimizer]
        return replace(
            self,
            records=self.records[self.records["optimizer"] == optimizer],
            runs=self.runs[~self.runs["stage"].isin(others)],
            fits=self.fits[self.fits["optimizer"] == optimizer],
            samples=samples,
            history=self.history[self.history["optimizer"] == optimizer],
            curves=curves,
        )

    @property
    def held_out_kl(self) -> float:
        """Nats up to which the forms of fits.csv were fitted, to be scored beyond (`fit.[rl_]held_out_kl`).

        Raises:
            InputError: config.yaml gives something else than a positive number.
        """
        name = "held_out_kl" if self.optimizer == "best_of_n" else "rl_held_out_kl"
        return self._fit_setting(name, HELD_OUT_KL, below=float("inf"))

    @property
    def level(self) -> float:
        """Level of the intervals of fits.csv, e.g. 0.95 (`fit.level`).

        Raises:
            InputError: config.yaml gives something else than a number between 0 and 1.
        """
        return self._fit_setting("level", 0.95, below=1.0)

    def _fit_setting(self, name: str, default: float, *, below: float) -> float:
        fit = self.config.get("fit", {})
        told: Any = fit.get(name, default) if isinstance(fit, dict) else None
        good = isinstance(told, int | float) and not isinstance(told, bool) and 0 < told < below
        end = "" if below == float("inf") else f" and below {below:g}"
        require(good, f"{self.path / 'config.yaml'}: fit.{name}={told!r}, allowed is a number above 0{end}")
        return float(told)


def _read(path: Path, reader: Callable[[Path], Read]) -> Read:
    """`reader(path)`; what a missing or damaged file makes it raise becomes one line naming the file."""
    try:
        require(not path.exists() or path.is_file(), "is no regular file")
        return reader(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: not the output folder of a finished run") from error
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A CSV table with at least these columns. Texts stay as written: a response "nan", a commit "12e4567".

    Raises:
        InputError: the file is missing or damaged, or lacks a column.
    """

    def reader(file: Path) -> pd.DataFrame:
        header = pd.read_csv(file, nrows=0, encoding="utf-8").columns
        missing = [name for name in columns if name not in header]
        require(not missing, f"lacks the column {', '.join(missing)}")
        texts = [name for name in TEXTS if name in header]
        blank = {name: ["", "nan", "NaN"] for name in header if name not in texts}
        kinds = dict.fromkeys(texts, str)
        return pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=blank, encoding="utf-8")

    return _read(path, reader)


def _read_arrays(file: Path) -> dict[str, NDArray[np.generic]]:
    arrays = read_npz(file)
    check_curves(arrays)
    return arrays


def read_mapping(path: Path, reader: Callable[[Path], Any]) -> dict[str, Any]:
    """Named values from a file of JSON or YAML, as `reading.read_json` and `read_yaml` read it.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """

    def read(file: Path) -> dict[str, Any]:
        content = reader(file)
        require(isinstance(content, dict), f"must hold named values, got {type(content).__name__}")
        return dict(content)

    return _read(path, read)


def load_run_folder(path: str | Path) -> RunFolder:
    """Read the output folder of a run.

    Args:
        path: the folder; it must hold records.csv, runs.csv, fits.csv, curves.npz, config.yaml and
            provenance.json; samples.csv, curves_rl.npz and history.csv may be absent.
    Returns:
        Its content.
    Raises:
        InputError: the folder or a file is missing or damaged, or a table lacks a column; the line names the
            file.
    """
    folder = Path(path)
    require(folder.is_dir(), f"{folder} is no folder")
    samples, history, rl_curves = (folder / name for name in ("samples.csv", "history.csv", "curves_rl.npz"))
    return RunFolder(
        path=folder,
        records=read_table(folder / "records.csv", RECORD_COLUMNS),
        runs=read_table(folder / "runs.csv", RUN_COLUMNS),
        fits=read_table(folder / "fits.csv", FIT_COLUMNS),
        samples=read_table(samples, SAMPLE_COLUMNS) if samples.exists() else pd.DataFrame(columns=SAMPLE_COLUMNS),
        curves=_read(folder / "curves.npz", _read_arrays),
        rl_curves=_read(rl_curves, _read_arrays) if rl_curves.exists() else None,
        history=read_table(history, HISTORY_COLUMNS) if history.exists() else pd.DataFrame(columns=HISTORY_COLUMNS),
        config=read_mapping(folder / "config.yaml", read_yaml),
        provenance=read_mapping(folder / "provenance.json", read_json),
    )
