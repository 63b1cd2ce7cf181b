"""Run one experiment: python experiments/run.py +experiment=figure1 scale=laptop output=DIR store=DIR

A sweep: python experiments/run.py -m +experiment=figure1 proxy.seeds=2,4 comparisons.noise=0,0.1 output=DIR. Every
point has a folder of its own below the output; all are checked before the first is run, one that fails stops no other
(fail_fast=true: it does), and a table at the end tells how each of them ended.

Exit code 0 when done, 2 for input that cannot be (one line on standard error says why), 1 for anything else, such as a
sweep with points that failed or a mistake of ours, whose traceback is left as error.txt in the output folder. On
SIGTERM or Ctrl-C it checkpoints what is under way and ends with 143 or 130; the same command then goes on from there.
"""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from synthetic_rm.config import (
    ERRORS,
    Refused,
    Sweep,
    check_choices,
    one_line,
    prepare_runtime,
    register,
    typed,
)
from synthetic_rm.entry import guarded, traceback_kept
from synthetic_rm.hosts import by_all, parting
from synthetic_rm.runtime import stoppable
from synthetic_rm.settings import Settings
from synthetic_rm.sweep import finish, run_point, settings_of_point

CONF = Path(__file__).resolve().parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(config: DictConfig) -> None:
    """One configuration: checked whole, then run. A point of a sweep leaves how it ended in its folder."""
    if Sweep.running is not None:
        run_point(settings_of_point(typed(config), Sweep.running), Sweep.running, run_whole)
        return
    if code := guarded(lambda: run_alone(config), tell=one_line):
        raise SystemExit(code)  # of an exception Hydra would tell in words of its own


def run_alone(config: DictConfig) -> None:
    """Run one configuration; of what was not foreseen the traceback stays in its folder."""
    check_choices(HydraConfig.get())
    settings = typed(config)
    with traceback_kept(Path(settings.output)):
        run_whole(settings)


def run_whole(settings: Settings) -> None:
    """Run typed settings. jax is imported once processors and devices are set."""
    prepare_runtime(settings.runtime, Sweep.place)
    from synthetic_rm import experiments

    with stoppable(), parting():
        by_all(lambda: experiments.check_settings(settings))
        experiments.run_experiment(settings)


def tell_sweep() -> int:
    """Print how every point of the sweep ended; the exit code."""
    table, good = finish(Sweep.points)
    Console(file=sys.stderr, width=None if sys.stderr.isatty() else 160).print(table)
    return 0 if good else 1


def main() -> int:
    """The command, with its exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    Sweep.points = {}
    composing = (Refused, *ERRORS, ValueError, RecursionError, OSError)  # of Hydra, its folders included: ours are told
    code = guarded(job, refused=composing, tell=one_line)
    return max(code, guarded(tell_sweep)) if Sweep.points else code


if __name__ == "__main__":
    sys.exit(main())
