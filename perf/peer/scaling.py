"""Two broker cores against one. On two cores the generator has to share, so what counts is the work per CPU-second of
the broker: if two shards do as many bytes per CPU-second as one, two free cores would do twice the work."""

from .session import run_bench
from .systems import BROKER_CORE, GENERATOR_CORE, Millrace, MillraceTwoCores
from .workloads import BULK

ARGS = ["--partitions", "16", *BULK]


def scaling(seconds: int, warmup: int) -> dict:
    """Both runs, and `ratio`: 2 would be perfect."""
    both = f"{BROKER_CORE},{GENERATOR_CORE}"
    try:
        one, two = (run(kind, seconds, warmup, both) for kind in (Millrace, MillraceTwoCores))
    except Exception as failure:  # noqa: BLE001 - recorded
        return {"failed": str(failure)[-400:]}
    ratio = 2 * one["broker_cpu_s_per_gb"] / two["broker_cpu_s_per_gb"]
    return {"one": one, "two": two, "ratio": ratio}


def run(kind, seconds: int, warmup: int, generator_cores: str) -> dict:
    with kind() as server:
        server.start()
        return run_bench(server, "produce", "scaling", ARGS, seconds, warmup, cores=generator_cores)
