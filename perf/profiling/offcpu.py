"""Where the shards and the workers of their rings (io-wq) wait, and for how long: from the scheduler's tracepoints, which
need root and a kernel that has them. Without them `sampled` looks at the threads' states many times a second."""

import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import time

from .stacks import check

SHARDS, WORKERS = "shard-", "iou-wrk-"
EVENTS = pathlib.Path("/sys/kernel/tracing/events/sched")
HEADER = re.compile(r"^\s*(?P<comm>\S.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)\s+(?P<time>\d+\.\d+):\s+sched:(?P<event>\w+):\s+(?P<text>.*)$")
FRAME = re.compile(r"^\s+[0-9a-f]+ (\S+)")
SWITCH = re.compile(r"prev_comm=(.*) prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> next_comm=.* next_pid=(\d+) next_prio")
WAKING = re.compile(r"comm=.* pid=(\d+) prio")
# Where the story of a waker begins; what an interrupt came upon has nothing to do with it.
BEGINNINGS = re.compile(r"^(handle_softirqs|__do_softirq|asm_\w*interrupt|asm_sysvec_\w+|do_syscall_64)$")
INTERRUPT = re.compile(r"^asm_(\w*interrupt|sysvec_\w+)$")
# What a shard waited for is told by who ended it: the first of these that a function of the waker begins with.
CAUSES = [("another shard's bell", ("eventfd_",)), ("the network", ("tcp_", "sock_def_")),
          # A durable write is completed by a kworker.
          ("the disk", ("blk_", "bio_endio", "virtblk_", "nvme_", "process_one_work")), ("a timer", ("hrtimer_",))]
SAMPLES_PER_SECOND = 250
# What it takes at most from deciding to sleep until the core has something else.
LEAVING_SECONDS = 50e-6
CORE, PREEMPTED, IDLE = "for a core, after it was woken", "for its core, which something else took", "for work"


@dataclasses.dataclass
class Wait:
    """One time off the core."""

    thread: str
    what: str
    seconds: float
    # Kernel functions, outermost first: where the thread blocked, and after that how it was woken.
    stack: list[str]


def missing() -> str | None:
    """Why the tracepoints cannot be had, and how they can; None if they can."""
    if os.geteuid() != 0:
        return "tracing a machine takes root"
    if not EVENTS.exists():
        return f"there is no {EVENTS}: `mount -t tracefs none /sys/kernel/tracing`, in a kernel with CONFIG_FTRACE"
    if not all((EVENTS / name).exists() for name in ("sched_switch", "sched_waking")):
        return f"{EVENTS} lacks sched_switch or sched_waking: a kernel with CONFIG_ENABLE_DEFAULT_TRACERS or CONFIG_FTRACE has them"
    return None


def record(seconds: int, data: pathlib.Path) -> None:
    """Traces the threads in question. A switch to a thread happens in the name of the one before it, so all cores have
    to be looked at. Kernel stacks are enough: a shard has one place of its own where it waits."""
    def named(*fields: str) -> str:
        return " || ".join(f'{field} ~ "{name}*"' for field in fields for name in (SHARDS, WORKERS))

    check(subprocess.run(["perf", "record", "-q", "-a", "-m", "16M", "-g", "--kernel-callchains", "-o", str(data),
                          "-e", "sched:sched_switch", "--filter", named("prev_comm", "next_comm"),
                          "-e", "sched:sched_waking", "--filter", named("comm"), "--", "sleep", str(seconds)],
                         capture_output=True, text=True))


def events(data: pathlib.Path):
    """Header and kernel functions (outermost first) of each event, in the order of time."""
    command = ["perf", "script", "-i", str(data), "--ns", "-F", "comm,pid,tid,time,event,trace,ip,sym"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace") as script:
        header, frames = None, []
        for line in itertools.chain(script.stdout, [""]):
            if frame := FRAME.match(line):
                frames.append(frame[1])
            elif header and not line.strip():
                yield header, frames[::-1]
                header = None
            elif found := HEADER.match(line):
                header, frames = found, []
    if script.returncode != 0:
        raise SystemExit(f"perf script ended with status {script.returncode}")


@dataclasses.dataclass
class Off:
    """A thread off its core."""

    thread: str
    since: float
    runnable: bool
    stack: list[str]
    woken_at: float | None = None
    waker: str = ""
    waker_stack: list[str] = dataclasses.field(default_factory=list)

    def woken(self, at: float, waker: str, stack: list[str]) -> None:
        """The last one counts: one that came while the thread still ran may have been in vain."""
        if not self.runnable and (self.woken_at is None or self.woken_at <= self.since):
            self.woken_at, self.waker, self.waker_stack = max(at, self.since), waker, stack

    def waits(self, until: float) -> list[Wait]:
        """What the time was: first blocked, then waiting for a core, or only the latter."""
        if self.runnable:
            return [Wait(self.thread, PREEMPTED, until - self.since, self.stack)]
        woken_at = until if self.woken_at is None else self.woken_at
        what = self.blocked_for()
        stack = self.stack if what == IDLE else [*self.stack, f"-- woken by {self.waker or 'whom the trace does not show'}", *self.waker_stack]
        return [Wait(self.thread, what, woken_at - self.since, stack), Wait(self.thread, CORE, until - woken_at, ["between waking and running"])]

    def blocked_for(self) -> str:
        if self.thread == WORKERS:
            if "io_wq_submit_work" not in self.stack:
                return IDLE
            inside = self.stack[self.stack.index("io_wq_submit_work"):]
            call = next((frame for frame in inside if frame.endswith(("_fsync", "_sync_file", "_fallocate", "_write_iter", "_read_iter"))), "an operation")
            return f"in {call}"
        if "io_cqring_wait" not in self.stack:
            return "elsewhere in the kernel"
        if self.waker.startswith(WORKERS):
            return "in the ring, for a worker of it"
        cause = next((name for name, begins in CAUSES if any(frame.startswith(begins) for frame in self.waker_stack)), "something else")
        return f"in the ring, for {cause}"


def waits(data: pathlib.Path, pid: int) -> list[Wait]:
    """All waits that began and ended under the tracer's eyes, of the threads of process `pid`."""
    found: list[Wait] = []
    off: dict[int, Off] = {}
    # Those that were woken while they were about to leave their core.
    early: dict[int, tuple[float, str, list[str]]] = {}
    for header, frames in events(data):
        now = float(header["time"])
        if header["event"] == "sched_waking":
            woken = WAKING.search(header["text"])
            if woken and (state := off.get(int(woken[1]))):
                state.woken(now, waker(header["comm"], frames), waking(frames))
            elif woken:
                early[int(woken[1])] = (now, waker(header["comm"], frames), waking(frames))
        elif switch := SWITCH.search(header["text"]):
            comm, before, how, after = switch.groups()
            if state := off.pop(int(after), None):
                found += state.waits(now)
            # An event is in the name of the thread that leaves the core.
            if int(header["pid"]) == pid and (thread := kind(comm)):
                off[int(before)] = state = Off(thread, now, how.startswith("R"), frames)
                by = early.pop(int(before), None)
                if by and now - by[0] < LEAVING_SECONDS:
                    state.woken(*by)
    return found


def kind(comm: str) -> str | None:
    """A shard by its name, all workers by one; None for other threads."""
    if comm.startswith(WORKERS):
        return WORKERS
    return comm if comm.startswith(SHARDS) else None


def waker(comm: str, frames: list[str]) -> str:
    """Its name, without what tells one of a kind from the others. Whom an interrupt came upon has no part in it."""
    if comm.startswith(WORKERS):
        return WORKERS
    return "an interrupt" if any(INTERRUPT.match(frame) for frame in frames) else comm.split("/")[0]


def waking(frames: list[str]) -> list[str]:
    """A waker's functions from the interrupt or system call on up to the waking itself."""
    begin = max((at for at, frame in enumerate(frames) if BEGINNINGS.match(frame)), default=0)
    return [frame for frame in frames[begin:] if not frame.startswith(("try_to_wake_up", "ttwu_", "__wake_up", "wake_up_", "default_wake_function"))]


def sampled(pid: int, seconds: int) -> list[Wait]:
    """What can be had without the tracepoints: the state of each thread, looked at SAMPLES_PER_SECOND times, and where in
    the kernel it is (which takes root). Waits shorter than the distance are seen by chance, and nobody says who woke."""
    found: list[Wait] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            try:
                state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
                thread = kind((task / "comm").read_text().strip())
                if thread and state != "R":
                    found.append(seen(thread, task))
            except OSError:
                continue  # A worker that has just ended.
        time.sleep(1 / SAMPLES_PER_SECOND)
    return found


def seen(thread: str, task: pathlib.Path) -> Wait:
    """A thread that is off its core, as long as a sample stands for."""
    try:
        stack = [line.split("] ", 1)[1].split("+", 1)[0] for line in (task / "stack").read_text().splitlines()][::-1]
    except PermissionError:
        stack = [(task / "wchan").read_text()]
    off = Off(thread, 0.0, False, stack)
    return Wait(thread, off.blocked_for(), 1 / SAMPLES_PER_SECOND, stack)
