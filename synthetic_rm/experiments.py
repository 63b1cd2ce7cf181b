"""F9: every experiment by its name: what is checked of it before anything is compiled, and how it is run."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from synthetic_rm.analytic_experiment import CURVES, run_analytic
from synthetic_rm.capacity import check_memory
from synthetic_rm.checks import check_environment
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.experiment import check_output, check_run, ratings_sha256, run
from synthetic_rm.hosts import by_first
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import describe, digest
from synthetic_rm.settings import Settings, points_of
from synthetic_rm.settings_checks import validate
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Store
from synthetic_rm.study import check_study


def check_settings(settings: Settings) -> None:
    """Check every value, and those of every point of a study.

    Raises:
        InputError: one line with the key, the value, and what is allowed.
    """
    check_study(settings, validate)


def run_experiment(settings: Settings) -> Path:
    """Run the experiment that validated settings name; its output folder. One without training is run by the first of
    several processes."""
    if settings.experiment not in CURVES:
        return run(settings)
    by_first(lambda: str(run_analytic(settings)))
    return Path(settings.output)


def checker(here: bool = True) -> Callable[[Settings], None]:
    """A check of validated settings before anything is compiled, which opens every environment once.

    A tokenizer that an environment without a release needs is trained, and kept in the store.

    Args:
        here: they are run on this machine's devices; if not, the run itself sees whether it fits into its own.
    """
    opened: dict[str, Reviews] = {}

    def check(settings: Settings) -> None:
        if settings.experiment in CURVES:
            check_output(settings)
            return
        check_run(settings)
        for point in points_of(settings):
            key = digest([asdict(point.environment), point.store])
            if key not in opened:
                origin = {**describe("cpu"), "data_sha256": ratings_sha256(point.environment)}
                opened[key] = Simulation(point, Store(Path(point.store), origin), Reporter(False)).environment
            check_environment(point, opened[key])
        if here:
            check_memory(settings)

    return check
