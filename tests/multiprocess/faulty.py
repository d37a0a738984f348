"""A run of several processes without a model, in which something goes wrong; started by the tests.

    python -m tests.multiprocess.faulty WHAT WHO

After 10 common steps, process WHO fails, crashes, hangs or is killed.
"""

import os
import signal
import sys
import threading
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_S, HANG_S, JOIN_S = 9, 4.0, 6


def work(what: str, who: int) -> int:
    from dicm_jax.config import MeshConfig, TrainConfig
    from dicm_jax.errors import DataError
    from dicm_jax.training import progress
    from dicm_jax.training.devices import join_processes
    from dicm_jax.training.watchdog import watching

    join_s = JOIN_S if what == "absent" else 300
    join_processes(MeshConfig(heartbeat_s=HEARTBEAT_S, join_s=join_s))
    config = TrainConfig(hang_after_s=HANG_S if what == "hangs" else 0)
    with watching(config):
        for step in range(1, 10_000):
            progress.at(f"step {step}", seldom=step < 3)
            multihost_utils.process_allgather(np.array([step]))
            if step == 10 and jax.process_index() == who:
                if what == "fails":
                    raise DataError("rows.npy: 7 rows asked for, found 5; write it anew")
                if what == "crashes":
                    raise ZeroDivisionError("a mistake of ours")
                if what == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "hangs":
                    progress.at("reading block 3")
                    threading.Event().wait()
            if what == "nothing" and step == 20:
                return 0
            time.sleep(0.01)
    return 0


def main(what: str, who: str) -> None:
    """The command line."""
    from dicm_jax.training.company import in_company

    sys.exit(in_company(lambda: work(what, int(who)), debug=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
