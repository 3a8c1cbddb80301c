"""The results as Markdown."""

COLUMNS = ("max_ms", "p99_9_ms", "p99_ms", "p50_ms")


def ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def delays(found: dict) -> str:
    return " / ".join(ms(found[column]) for column in COLUMNS)


def brief(found: dict) -> str:
    """A case, for the screen."""
    if "failed" in found:
        return f"FAILED {' '.join(found['failed'].split())}"
    return (f"produce {delays(found['produce'])}, fetch {delays(found['consume'])} ms; longest turn {ms(found['longest_turn_ms'])} ms, {found['long_turns']} long, "
            f"{found['rss_peak_mib']:,.0f} MiB, {found['rounds']} rounds")


def page(report: dict) -> str:
    environment = report["environment"]
    lines = [
        f"- {environment['date']}: {environment['seconds']} s per case, {environment['rate']:,} requests per second of each honest client. "
        f"{environment['cpu']}, {environment['cores']} cores; Linux {environment['kernel']}; commit {environment['commit']}. "
        f"Load of the machine before: {environment['load_before']:.1f}.",
        "",
        "| while this happens | honest produce, ms: worst / p99.9 / p99 / p50 | honest fetch, ms: worst / p99.9 / p99 / p50 | "
        "longest turn of the core, ms | turns over 2 ms | peak memory, MiB | broker cores | rounds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in report["cases"].values():
        if "failed" in found:
            lines.append(f"| {found['title']} | failed | | | | | | |")
            continue
        cells = [found["title"], delays(found["produce"]), delays(found["consume"]), ms(found["longest_turn_ms"]),
                 f"{found['long_turns']:,}", f"{found['rss_peak_mib']:,.0f}",
                 f"{found['broker_cores']:.2f}", f"{found['rounds']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
