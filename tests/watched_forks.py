"""A callback of Hydra that tells of every process of a sweep whether it has jax, and how often it forked with it.

Only a fork that Python code would go on in counts: one that becomes another program at once runs no hook.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

FORKS = []
os.register_at_fork(before=lambda: FORKS.append("jax" in sys.modules))


class Watched(Callback):
    """Launchers carry it to the processes that run the points."""

    def on_job_end(self, config: DictConfig, **_: Any) -> None:
        tell()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        tell()


def tell() -> None:
    told = ["jax" in sys.modules, sum(FORKS)]
    (Path(os.environ["WATCHED_FORKS"]) / f"{os.getpid()}.json").write_text(json.dumps(told))


if __name__ == "__main__":  # that it would tell
    import jax  # noqa: F401

    if not os.fork():
        os._exit(0)
    tell()
