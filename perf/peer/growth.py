"""A store that grows against one that has its size: Millrace's store file is written ahead where it grows, and recycled
afterwards. A new broker takes bulk (growing), everything is deleted, and it takes the same again (grown). Each round of
the comparison fills and deletes before it measures, so its figures are those of a store that has its size."""

from . import wire
from .session import PATIENCE_SECONDS, run_bench
from .systems import GENERATOR_CORE, Millrace
from .workloads import BULK

ARGS = ["--partitions", "16", *BULK]
# Longer than what is measured afterwards.
GROW_SECONDS = 4


def growth(seconds: int) -> dict:
    """Both runs."""
    found = {}
    try:
        with Millrace() as server:
            server.start()
            found["growing"] = load(server, "growing", max(seconds + 2, GROW_SECONDS))
            found["grown"] = load(server, "grown", seconds)
    except Exception as failure:  # noqa: BLE001 - recorded
        found["failed"] = str(failure)[-400:]
    return found


def load(server, topic: str, seconds: int) -> dict:
    wire.make_ready(server.port, topic, 16, PATIENCE_SECONDS)
    result = run_bench(server, "produce", topic, ARGS, seconds, 0, cores=GENERATOR_CORE)
    wire.delete_topic(server.port, topic)
    server.settle()
    return result
