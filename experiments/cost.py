"""What will a run cost? python experiments/cost.py --devices 8 --tflops 100 scale=pod +experiment=figure1

Operations, memory and hours of every stage, from the configuration alone: nothing is compiled. Words that are no option
are those of run.py. Hours are of all devices at the rate that each sustains, which is for you to know.

Exit code 0 when done, 2 for input that cannot be (one line on standard error says why).
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from synthetic_rm.analytic_experiment import CURVES
from synthetic_rm.capacity import build_of, stages_of
from synthetic_rm.config import ERRORS, one_line, register, to_settings
from synthetic_rm.cost_stages import Machine, Stage
from synthetic_rm.costs import Costs
from synthetic_rm.entry import Parser, guarded
from synthetic_rm.environments.reviews.environment import split_texts
from synthetic_rm.errors import require
from synthetic_rm.settings import EnvironmentSettings, Settings, points_of

CONF = Path(__file__).resolve().parents[1] / "conf"


def snippets(environment: EnvironmentSettings) -> int:
    """Training snippets that the models of a world learn from."""
    return len(split_texts(Path(environment.data) if environment.data else None)["train"])


def composed(words: Sequence[str]) -> Settings:
    """Validated settings of run.py's words."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(compose("config", list(words)))


def stages(settings: Settings, devices: int, memory: float) -> list[Stage]:
    """The stages of a run on so many devices of `memory` GB each.

    Raises:
        InputError: `runtime.mesh` is of another number of devices.
    """
    batch, model = settings.runtime.mesh or (devices, 1)
    require(batch * model == devices, f"--devices {devices}: runtime.mesh={[batch, model]} has {batch * model}")
    require(settings.experiment not in CURVES, f"experiment={settings.experiment}: nothing of it is trained")
    machine, count = Machine(int(memory * 1e9), batch=batch, model=model), snippets(settings.environment)
    return stages_of(Costs(point, build_of(point), machine, count) for point in points_of(settings))


def table(found: Sequence[Stage], rate: float, devices: int, memory: float) -> Table:
    """One row for each stage, and their sum."""
    made = Table(title=f"{devices} x {memory:g} GB, {rate / 1e12:g} TFLOP/s together")
    for name in ("stage", "PFLOP", "hours", "GB of a device", "rows at once"):
        made.add_column(name, justify="left" if name == "stage" else "right")
    for stage in found:
        size = (stage.resident + stage.memory.total) / 1e9
        rows = str(stage.rows) if stage.rows else "–"
        made.add_row(stage.name, f"{stage.flops / 1e15:,.3g}", f"{stage.hours(rate):,.3g}", f"{size:,.3g}", rows)
    made.add_section()
    flops = sum(stage.flops for stage in found)
    made.add_row("all", f"{flops / 1e15:,.4g}", f"{flops / rate / 3600:,.3g}")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1, help="accelerators of the run; default: %(default)s")
    parser.add_argument("--tflops", type=float, required=True, help="10^12 operations a second that one sustains")
    parser.add_argument(
        "--memory-gb", type=float, default=80, help="of each, in GB of 10^9 bytes; default: %(default)s"
    )
    options, rest = parser.parse_known_args(words)
    return guarded(lambda: tell(options, rest), ERRORS, one_line)


def tell(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Print the table."""
    for name, value in vars(options).items():
        require(0 < value < math.inf, f"--{name.replace('_', '-')} {value}: allowed is above 0")
    found = stages(composed(words), options.devices, options.memory_gb)
    made = table(found, options.tflops * 1e12 * options.devices, options.devices, options.memory_gb)
    Console(width=None if sys.stdout.isatty() else 100).print(made)


if __name__ == "__main__":
    sys.exit(main())
