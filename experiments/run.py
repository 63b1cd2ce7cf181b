"""Run one experiment: python experiments/run.py +experiment=figure1 scale=laptop output=DIR store=DIR

Exit code 0 when done, 2 for input that cannot be (one line on standard error says why), 1 for anything else. On
SIGTERM or Ctrl-C it checkpoints what is under way and ends with 143 or 130; the same command then goes on from there.
"""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from synthetic_rm.analytic_experiment import CURVES, run_analytic
from synthetic_rm.config import ERRORS, one_line, register, to_settings
from synthetic_rm.errors import InputError, RunError, Stopped
from synthetic_rm.experiment import run
from synthetic_rm.runtime import prepare, stoppable

CONF = Path(__file__).resolve().parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(config: DictConfig) -> None:
    """One configuration: checked whole, then run."""
    try:
        settings = to_settings(config)
        prepare(settings.runtime.threads)
        with stoppable():
            (run_analytic if settings.experiment in CURVES else run)(settings)
    except InputError as error:
        raise SystemExit(refuse(error)) from error
    except RunError as error:
        raise SystemExit(refuse(error, code=1)) from error


def refuse(error: Exception, code: int = 2) -> int:
    """Say on one line what cannot be, and give the exit code for it."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return code


def main() -> int:
    """The command, with its exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    try:
        job()
    except ERRORS as error:
        return refuse(error)
    except (Stopped, KeyboardInterrupt) as error:
        print("stopped: the same command goes on from what the store has", file=sys.stderr)
        return int(error.code or 1) if isinstance(error, Stopped) else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
