"""kcat, a program of its own: a process for what is produced, and one for each member."""

import json
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

from lines import BOOTSTRAP, Refused, Unsupported, serve

SECONDS = 60
# Between keys and values, and between records: bytes that are in neither.
DELIMITERS = ["-K", "\x01", "-D", "\x02"]
REBALANCED = re.compile(r"rebalanced \(memberid [^)]*\): (assigned|revoked)(.*)")
# How librdkafka says it, and Kafka's code.
CODES = {"Unknown topic or partition": 3, "Message size too large": 10, "Offset out of range": 1}


def refused(said: str) -> Refused:
    return Refused(next((code for text, code in CODES.items() if text.lower() in said.lower()), None), said.strip()[-400:])


def kcat(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["kcat", "-b", BOOTSTRAP, *arguments], input=given, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise refused(done.stderr)
    return done.stdout


class Member:
    """A kcat that reads, and what it has printed."""

    def __init__(self, *arguments: str):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(["kcat", "-b", BOOTSTRAP, "-J", "-u", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def assigned(self) -> list[int]:
        told = REBALANCED.findall(self.said())
        return [int(of) for of in re.findall(r"\[(\d+)\]", told[-1][1])] if told and told[-1][0] == "assigned" else []

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.errors.close()


def record_of(line: str) -> dict:
    told = json.loads(line)
    headers = told.get("headers", [])
    return {"partition": told["partition"], "offset": told["offset"], "key": told["key"], "value": told["payload"],
            "headers": [[headers[at], headers[at + 1]] for at in range(0, len(headers), 2)], "timestamp": told["ts"]}


class Driver:
    def __init__(self):
        self.members: dict[str, Member] = {}

    def about(self):
        return {"client": "kcat " + re.search(r"Version (\S+)", kcat("-V"))[1]}

    def topics(self):
        return {"topics": [of["topic"] for of in json.loads(kcat("-L", "-J"))["topics"]]}

    def describe_topic(self, topic):
        told = json.loads(kcat("-L", "-J", "-t", topic))["topics"][0]
        if "error" in told:
            raise refused(told["error"])
        return {"partitions": len(told["partitions"])}

    def produce(self, topic, records, codec, acks):
        if any("timestamp" in r for r in records):
            raise Unsupported
        settings = ["-P", "-t", topic, "-z", codec, "-X", f"acks={acks}", "-X", "message.max.bytes=10000000",
                    "-X", "topic.metadata.propagation.max.ms=2000"]
        if all(r["key"] and r["value"] and not r.get("headers") for r in records):
            kcat(*settings, "-p", "0", *DELIMITERS, given="\x02".join(f"{r['key']}\x01{r['value']}" for r in records))
            return {"offsets": []}
        for r in records:
            if r["key"] == "":
                raise Unsupported
            key = [] if r["key"] is None else ["-k", r["key"]]
            headers = [argument for name, value in r.get("headers", []) for argument in ("-H", f"{name}={value}")]
            # What is empty is one record with one delimiter, and null with -Z.
            kcat(*settings, "-p", str(r.get("partition", 0)), *key, *headers, *(["-Z"] if r["value"] is None else []), "-D", "\x02",
                 given=r["value"] or "\x02")
        return {"offsets": []}

    def offset_at(self, topic, timestamp):
        return {"offset": int(re.search(r"offset (-?\d+)", kcat("-Q", "-t", f"{topic}:0:{timestamp}"))[1])}

    def open(self, member, topic, start, reset, committed):
        start = {"earliest": "beginning", "latest": "end"}.get(start, start)
        self.members[member] = Member("-C", "-t", topic, "-p", "0", "-o", str(start),
                                      "-X", f"isolation.level={'read_committed' if committed else 'read_uncommitted'}",
                                      "-X", f"auto.offset.reset={reset if reset in ('earliest', 'latest') else 'error'}")

    def join(self, member, group, topic, protocol, producer=None):
        if protocol != "classic":
            raise Unsupported
        self.members[member] = Member("-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000",
                                      "-X", "heartbeat.interval.ms=500", "-G", group, topic)

    def poll(self, member, count, seconds):
        of, records, deadline = self.members[member], [], time.monotonic() + seconds
        while len(records) < count and (time.monotonic() < deadline or not of.lines.empty()):
            try:
                records.append(record_of(of.lines.get(timeout=0.1)))
            except queue.Empty:
                if records:
                    break
                if of.process.poll() is not None:
                    raise refused(of.said()) from None
        return {"records": records, "assigned": of.assigned()}

    def leave(self, member):
        self.members.pop(member).leave()


serve(Driver())
