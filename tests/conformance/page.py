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
| error 10 | the error that it gives, where an error is right: Kafka's code, the same on both |
| A / B | Millrace's answer and Kafka's, where they differ: explained below the table |
"""

# (client, behaviour) -> why the two brokers differ there, or why a cell is not what one expects.
NOTES: dict[tuple[str, str], str] = {}


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
    odd = [(c, name) for c in clients for name in names
           if ours[c][name] != theirs[c][name] or ours[c][name].startswith("FAILED")]
    noted = [(c, name) for c in clients for name in names if (c, name) in NOTES or (c, name) in odd]
    if noted:
        lines.append("")
        lines += [f"- {c}, {name}: {NOTES.get((c, name), 'not explained yet')}" for c, name in noted]
    return "\n".join(lines) + "\n"
