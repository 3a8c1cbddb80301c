"""Two broker cores against one. On two cores the generator has to share, so what counts is the work per CPU-second of
the broker: if two shards do as many bytes per CPU-second as one, two free cores would do twice the work. Two shards are
measured with clients that may have to be passed on to the other one, and with direct ports, where they are not."""

from .session import run_bench
from .systems import BROKER_CORE, GENERATOR_CORE, Millrace, MillraceDirect, MillraceTwoCores
from .workloads import BULK

ARGS = ["--partitions", "16", *BULK]


def scaling(seconds: int, warmup: int) -> dict:
    """All runs, and of each with two shards its ratio: 2 would be perfect."""
    both = f"{BROKER_CORE},{GENERATOR_CORE}"
    try:
        one, two, direct = (run(kind, seconds, warmup, both) for kind in (Millrace, MillraceTwoCores, MillraceDirect))
    except Exception as failure:  # noqa: BLE001 - recorded
        return {"failed": str(failure)[-400:]}
    ratio = lambda run: 2 * one["broker_cpu_s_per_gb"] / run["broker_cpu_s_per_gb"]
    return {"one": one, "two": two, "two_direct": direct, "ratio": ratio(two), "ratio_direct": ratio(direct)}


def run(kind, seconds: int, warmup: int, generator_cores: str) -> dict:
    with kind() as server:
        server.start()
        return run_bench(server, "produce", "scaling", ARGS, seconds, warmup, cores=generator_cores)
