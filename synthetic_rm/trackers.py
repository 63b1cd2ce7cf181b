"""F0: TensorBoard, Weights & Biases and MLflow as trackers: optional extras, imported when a run begins."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synthetic_rm.tracking import FILE, Lines, Tracker, Tracking

PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1_000
"""what an MLflow server takes in one call"""
SECONDS = 5.0
"""after which waiting metrics are sent to MLflow"""


class TensorBoard:
    """Event files for TensorBoard in a folder, written by tensorboardX."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._writer: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / name), flush_secs=5)
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"{series}/{key}", value, step)

    def finish(self, status: str) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases; offline ones lie in a folder until `wandb sync` sends them."""

    def __init__(self, project: str, mode: str, folder: Path):
        self.project, self.mode, self.folder = project, mode, folder
        self._run: Any = None
        self._known: set[str] = set()

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self.project,
            name=name,
            mode=self.mode,
            dir=str(self.folder),
            config=dict(config),
            settings=wandb.Settings(silent=True),
        )

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        if series not in self._known:
            self._run.define_metric(f"{series}/*", step_metric=f"{series}/step")
            self._known.add(series)
        self._run.log({f"{series}/step": step, **{f"{series}/{key}": value for key, value in values.items()}})

    def finish(self, status: str) -> None:
        self._run.finish(exit_code=int(status != "ok"))


class MLflow:
    """A run of MLflow: "local" in an SQLite file in a folder, or on the server with that URI; sent in batches."""

    def __init__(self, project: str, uri: str, folder: Path):
        self.project, self.uri, self.folder = project, uri, folder
        self._client: Any = None
        self._run = ""
        self._waiting: list[Any] = []
        self._sent = 0.0

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        uri = self.uri
        if uri == "local":
            self.folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(self.project)
        found = experiment.experiment_id if experiment else self._client.create_experiment(self.project)
        self._run = self._client.create_run(found, run_name=name).info.run_id
        params = [Param(key, str(value)) for key, value in config.items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self._run, params=params[first : first + PARAMS_AT_ONCE])

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(f"{series}/{key}", value, now, step) for key, value in values.items()]
        if len(self._waiting) >= METRICS_AT_ONCE // 2 or time.monotonic() - self._sent > SECONDS:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        for first in range(0, len(waiting), METRICS_AT_ONCE):
            self._client.log_batch(self._run, metrics=waiting[first : first + METRICS_AT_ONCE])

    def finish(self, status: str) -> None:
        self._send()
        self._client.set_terminated(self._run, "FINISHED" if status == "ok" else "FAILED")


def open_tracking(
    output: Path,
    say: Callable[[str], None],
    *,
    tensorboard: bool,
    wandb: str | None,
    mlflow: str | None,
    folder: str,
    project: str,
) -> Tracking:
    """The trackers of the run that leaves its results in `output`; the others are those of `TrackingSettings`."""
    place = Path(folder)
    far: list[Tracker] = [TensorBoard(place / "tensorboard")] if tensorboard else []
    far += [WandB(project, wandb, place)] if wandb else []
    far += [MLflow(project, mlflow, place)] if mlflow else []
    return Tracking([Lines(output / FILE)], far, say)
