"""MATRIX.md: client x behaviour, with the answers of both brokers."""

VERSION = "version"
HEAD = """\
# Clients and what they do

Made by `make conformance`, not by hand: every client below is asked to do the same things, written once in
[behaviours.py](behaviours.py), on Millrace and on Apache Kafka 4.4.0.

| In a cell | is |
|---|---|
| yes | it does it, and all is as it should be, on both |
| - | the client has no such thing, or its driver cannot reach it |
| no | the client gets it wrong with both: why is said below the table |
| error 10 | the error that it gives, where an error is right: Kafka's code, the same on both |
| A / B | Millrace's answer and Kafka's, where they differ: explained below the table |
"""

# What a client gets wrong, whatever the broker: (client, behaviour) -> why. One that gets it right after all fails, too.
KNOWN = {
    ("kafka-go", "keys and values that are null or empty"): "what is empty comes back as null",
    ("kafka-go", "headers: twice the same, an empty one"): "what is empty comes back as null",
    ("kafka-go", "timestamps of the broker (LogAppendTime)"): "it gives the producer's, and leaves the batch's out of account",
    ("KafkaJS", "headers: twice the same, an empty one"): "it gives headers by name: their order among other names is lost",
    ("platformatic", "timestamps of the broker (LogAppendTime)"): "it gives the producer's, and leaves the batch's out of account",
}
# Why the two brokers differ: (client, behaviour) -> the cause.
DIFFERENCES: dict[tuple[str, str], str] = {}


def cell(ours: str, theirs: str) -> str:
    def short(answer: str) -> str:
        return "FAILED" if answer.startswith("FAILED") else answer
    return short(ours) if ours == theirs else f"**{short(ours)} / {short(theirs)}**"


def page(answers: dict[str, dict[str, dict[str, str]]], names: list[str]) -> str:
    ours, theirs = answers["millrace"], answers["kafka"]
    clients = list(ours)
    lines = [HEAD, "| | " + " | ".join(ours[c][VERSION] for c in clients) + " |", "|---" * (len(clients) + 1) + "|"]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(cell(ours[c][name], theirs[c][name]) for c in clients) + " |")
    notes = []
    for client, name in [(client, name) for client in clients for name in names]:
        answers_here = (ours[client][name], theirs[client][name])
        if "no" in answers_here:
            notes.append(f"- {client}, {name}: {KNOWN[client, name]}")
        elif answers_here[0] != answers_here[1] or answers_here[0].startswith("FAILED"):
            notes.append(f"- {client}, {name}: {DIFFERENCES.get((client, name), 'not explained yet')}")
    lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"
