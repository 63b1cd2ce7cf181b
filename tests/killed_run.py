"""A run of the tiny world in a process of its own, which may end itself: FOLDER STORE RECORDS SIGNAL STAGE MOMENT.

Moments are counted for every stage, over all threads: before and after a checkpoint is asked for, in the midst of
writing one, and before and after the stage is published. Every chunk is checkpointed, or none where the signal is
SIGTERM, which is answered with one. It tells the stage in which it ends itself, or how many moments each of them had.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiny_world import ORIGIN, RL_SIZES, changed, tiny_settings

from synthetic_rm import checkpoints, snapshots, store
from synthetic_rm.progress import Reporter
from synthetic_rm.results import overoptimization_tables
from synthetic_rm.runtime import stoppable
from synthetic_rm.simulation import Simulation
from synthetic_rm.training import loop

RL = RL_SIZES | {"rl.max_steps": 9, "rl.measure_every": 3, "rl.kl_coef": 0.02, "rl.kl_target": 0.5}


def main(folder: Path, root: Path, records: Path, ends: str, stage: str, moment: int) -> None:
    moments, under_way, lock = Counter[str](), ["none"], threading.Lock()

    def pass_by() -> None:
        with lock:
            here = under_way[-1]
            moments[here] += 1
            now = here == stage and moments[here] == moment
        if now:
            sys.stderr.write(f"{ends} in {here}\n")
            os.kill(os.getpid(), signal.Signals[ends])

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            pass_by()
            result = function(*args, **options)
            pass_by()
            return result

        return wrapped

    def made(self: store.Store, identity: Mapping[str, Any], *args: Any) -> None:
        under_way.append(identity["stage"])
        make(self, identity, *args)
        under_way.pop()

    make, store.Store._make = store.Store._make, made  # type: ignore[method-assign]
    checkpoints.Loop.save = around(checkpoints.Loop.save)  # type: ignore[method-assign]
    snapshots._save, store.publish = around(snapshots._save), around(store.publish)
    loop.train.__kwdefaults__["chunk"] = 2
    settings = changed(RL, tiny_settings(folder))
    reporter = Reporter()
    reporter._bars = False
    kept = store.Store(root, ORIGIN, reporter, 0.0 if ends == "SIGKILL" else None)
    with stoppable():
        tables = overoptimization_tables(Simulation(settings, kept, reporter))
    tables.records.to_csv(records, index=False)
    sys.stdout.write(json.dumps(moments))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:6], int(sys.argv[6]))
