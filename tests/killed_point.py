"""A callback of Hydra that kills the process of a sweep's first point once it runs."""

import os
import signal
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from synthetic_rm import sweep
from synthetic_rm.config import Sweep


class Killed(Callback):
    """Of points that run in processes of their own, and no other."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if Sweep.place == 0:
            sweep.traceback_kept = lambda folder: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
