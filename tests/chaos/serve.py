"""`exemplar serve` with processes that are started again at once, so that hundreds of deaths fit into a test.

They are forked from one that has imported everything, and the pauses between deaths do not grow.
"""

import multiprocessing

from exemplar.cli import main
from exemplar.server import supervisor

if __name__ == "__main__":
    supervisor.METHOD = "forkserver"
    supervisor.PAUSES = (0.0,)
    supervisor.TRIES = 1_000_000
    multiprocessing.set_forkserver_preload(["exemplar.jobs", "exemplar.server.app", "uvicorn", "uvloop"])
    main()
