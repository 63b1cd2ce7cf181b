"""What TensorBoard, MLflow and Weights & Biases are told lies in their files; for real, where they are installed."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthetic_rm.trackers import MLflow, TensorBoard, WandB, open_tracking
from synthetic_rm.tracking import FILE

CONFIG = {"proxy.seeds": 6, "environment.data": None, **{f"key.{i}": "x" * 400 for i in range(120)}}
SERIES = {"proxies_2103_x_6_s0/loss": [0.75, 0.5, 0.25], "best_of_n-2103-s0-0f0f0f0f/gold": [0.0, 0.5, 1.5]}


def track(folder: Path, said: Callable[[str], None], **asked: Any) -> None:
    output = folder / "run"
    output.mkdir()
    options = {"tensorboard": False, "wandb": None, "mlflow": None, "folder": str(folder / "t"), "project": "mine"}
    tracking = open_tracking(output, said, **options | asked)
    tracking.start("run-0123abcd", CONFIG)
    for name, values in SERIES.items():
        series, key = name.split("/")
        for step, value in enumerate(values):
            tracking.log(series, step, {key: value})
    tracking.log("lost", 0, {"kl": math.nan, "gold": math.inf})
    tracking.finish("ok")


def test_lines_alone_unless_more_is_asked_for(tmp_path: Path) -> None:
    said: list[str] = []
    track(tmp_path, said.append)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run", f"run/{FILE}"]
    assert len((tmp_path / "run" / FILE).read_text().splitlines()) == 9 and said == []


def test_tensorboard_files_hold_every_number_and_the_configuration(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    said: list[str] = []
    track(tmp_path, said.append, tensorboard=True)
    assert said == []
    (file,) = (tmp_path / "t" / "tensorboard" / "run-0123abcd").iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    texts = []
    for record in records(file.read_bytes()):
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            else:
                texts.append(value.tensor.string_val[0].decode())
    for name, values in SERIES.items():
        assert found[name] == list(enumerate(values))
    assert math.isnan(found["lost/kl"][0][1]) and math.isinf(found["lost/gold"][0][1])
    assert len(texts) == 1 and "proxy.seeds: 6" in texts[0]


def records(data: bytes) -> list[bytes]:
    """The records of a TFRecord file: length (8 bytes), checksum (4), data, checksum (4)."""
    found, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        found.append(data[place + 12 : place + 12 + length])
        place += length + 16
    return found


def test_an_mlflow_database_holds_every_number_and_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the library are not ours
        pytest.importorskip("mlflow")
        pytest.importorskip("sqlalchemy")
        from mlflow import MlflowClient

        monkeypatch.chdir(tmp_path)
        said: list[str] = []
        track(tmp_path, said.append, mlflow="local")
        assert said == []
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 't' / 'mlflow.db'}")
        (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
        assert run.info.run_name == "run-0123abcd" and run.info.status == "FINISHED"
        assert run.data.params == {key: str(value) for key, value in CONFIG.items()}
        for name, values in SERIES.items():
            history = client.get_metric_history(run.info.run_id, name)
            assert sorted((metric.step, metric.value) for metric in history) == list(enumerate(values))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "t"]


def test_weights_and_biases_keeps_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("wandb")
        monkeypatch.chdir(tmp_path)
        said: list[str] = []
        track(tmp_path, said.append, wandb="offline")
    assert said == []
    (log,) = (tmp_path / "t" / "wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"proxies_2103_x_6_s0" in content and b"run-0123abcd" in content


@pytest.mark.parametrize("tracker", [TensorBoard, WandB, MLflow])
def test_a_tracker_touches_nothing_before_its_run_begins(tmp_path: Path, tracker: type) -> None:
    TensorBoard(tmp_path / "t") if tracker is TensorBoard else tracker("mine", "offline", tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        said: list[str] = []
        track(tmp_path, said.append, mlflow="http://127.0.0.1:9")
    assert len(said) == 1 and said[0].startswith("tracking: MLflow failed and is left out (")
