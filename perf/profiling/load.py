"""A Millrace under a named workload of the comparison, for a profiler to look at."""

from peer.session import Plan, Session
from peer.systems import SYSTEMS
from peer.workloads import BY_NAME, Workload

# The generator runs on when the profiler has seen enough: perf needs a moment to stop.
MARGIN_SECONDS = 3


def observed(name: str, seconds: int, observe, system: str = "millrace") -> dict:
    """Runs the workload, calls `observe(server)` for `seconds` of it, and returns the generator's figures."""
    workload = BY_NAME[name]
    plan = Plan(seconds=seconds + MARGIN_SECONDS, warmup=2, jvm_warmup=20, quick=False, cold_bytes=0, only=frozenset())
    session = Session(system, plan, save=lambda: None)
    with SYSTEMS[system]() as server:
        session.server = server
        session.start()
        session.warm_up()
        prepare(session, workload)
        session.observe = observe
        result = session.measure(workload)
    return result


def prepare(session: Session, workload: Workload) -> None:
    """What the workloads before this one would have left: a limit, or data to read."""
    if workload.share or workload.equal:
        session.results["limit"] = session.measure(BY_NAME["limit"])
        # Without a Kafka beside it, half of its own limit stands in.
        session.plan.equal_rate = session.share_of_limit(0.5)
    if workload.kind == "consume":
        session.measure(BY_NAME["produce-16"])


def workload_name(text: str) -> str:
    """For the command line."""
    if text not in BY_NAME:
        raise ValueError(text)
    return text
