"""Pictures as plain SVG: throughput as bars, latency percentiles as lines."""

import html
import math

from .results import Figure, Results, number
from .systems import MAIN, TITLES
from .tables import PICTURED

COLOURS = {"millrace": "#0b5fc1", "kafka": "#e08a1e", "kafka-fsync": "#8d5a3a", "nats": "#2f9e6e", "nats-sync": "#1d5f45",
           "nisshi-memory": "#b06fd0", "nisshi-sqlite": "#6b3f86"}
INK, PALE = "#1f2328", "#d8dee4"
FONT = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
PANEL_GAP, MARGIN = 36, 20

PANELS = [
    ("Produce, MB/s", "mb_per_s", [("produce-1", "1 partition"), ("produce-16", "16"), ("produce-100", "100"), ("produce-1000", "1,000")]),
    ("Produce with compression, MB/s of values", "value_mb_per_s", [("produce-lz4", "lz4"), ("produce-zstd", "zstd")]),
    ("100-byte requests per second", "requests_per_s", [("small-1", "1 connection"), ("small-64", "64"), ("small-512", "512")]),
    ("Read at the end of the log, MB/s", "fetch_mb_per_s", [("tail", "1 consumer"), ("fanout", "8 consumers")]),
    ("Replay, MB/s", "mb_per_s", [("replay-warm", "just written"), ("replay-cold", "cold")]),
    ("Broker CPU-seconds per GB produced (less is better)", "broker_cpu_s_per_gb", [("produce-1", "1 partition"), ("produce-16", "16"), ("produce-100", "100")]),
]
E2E, ACK = "e2e_latency", "latency"
LATENCIES = [("e2e-equal", E2E, "end-to-end, half of Kafka's limit"), ("e2e-equal", ACK, "acknowledgement, half of Kafka's limit"),
             ("e2e-10", E2E, "end-to-end, 10 % of its own limit"), ("e2e-50", E2E, "end-to-end, 50 % of its own limit"),
             ("e2e-80", E2E, "end-to-end, 80 % of its own limit"), ("busy-1", ACK, "acknowledgement, 1,000 requests/s, 1 partition"),
             ("busy-100", ACK, "the same over 100 partitions"), ("busy-1000", ACK, "the same over 1,000 partitions")]
PERCENTILES = [("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p99_9"), ("max", "max")]


class Drawing:
    """Shapes, and the text of the file."""

    def __init__(self):
        self.shapes: list[str] = []

    def rect(self, x, y, width, height, colour):
        self.shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self.shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def text(self, x, y, words, size=12, anchor="start", colour=INK, weight="normal"):
        self.shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
                           f'font-weight="{weight}">{html.escape(words)}</text>')

    def svg(self, width, height, title) -> str:
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" {FONT}>\n'
                f"<title>{html.escape(title)}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
                + "\n".join(self.shapes) + "\n</svg>\n")

    def legend(self, systems, y, right=880) -> float:
        """As many lines as it needs; says how much they take."""
        x, began = MARGIN, y
        for system in systems:
            wide = 36 + 7.2 * len(TITLES[system])
            if x + wide > right:
                x, y = MARGIN, y + 20
            self.rect(x, y - 10, 12, 12, COLOURS[system])
            self.text(x + 18, y, TITLES[system])
            x += wide
        return y - began


def summary(results: Results) -> str:
    """The README's: a row per figure, its bars to the scale of its longest."""
    systems, width, left = [system for system in results.systems() if system in MAIN], 900, 330
    drawing = Drawing()
    y = 60.0 + drawing.legend(systems, 28)
    for row in PICTURED:
        figures = [(system, row.figure(results, system)) for system in systems]
        figures = [(system, figure) for system, figure in figures if figure]
        if not figures:
            continue
        scale = (width - 90 - left) / max(figure.median for _, figure in figures)
        drawing.text(left - 12, y + 9 + 8.5 * len(figures), row.title, 13, "end")
        drawing.text(left - 12, y + 23 + 8.5 * len(figures), "more is better" if row.more else "less is better", 10, "end", "#6e7781")
        for system, figure in figures:
            drawing.rect(left, y, figure.median * scale, 14, COLOURS[system])
            drawing.text(left + figure.median * scale + 6, y + 12, number(figure.median), 12)
            y += 17
        y += 20
    return drawing.svg(width, int(y), "Millrace beside Apache Kafka: five figures")


def throughput(results: Results) -> str:
    """Horizontal bars, one panel per kind of figure, with the spread of the rounds as a thin line."""
    drawing, systems, width = Drawing(), results.systems(), 900
    drawing.text(MARGIN, 30, "Throughput and cost: medians, bulk at each system's own best connections", 17, weight="600")
    y = 84.0 + drawing.legend(systems, 54)
    for title, key, groups in PANELS:
        less = key == "broker_cpu_s_per_gb"
        # What NATS needs for a GB that it flushes message by message would leave the others no length.
        shown = [system for system in systems if system in MAIN] if less else systems
        bars = [(label, system, results.best(system, workload, key, not less)) for workload, label in groups for system in shown]
        if any(figure for _, _, figure in bars):
            y = bar_panel(drawing, title, [bar for bar in bars if bar[2]], y, width) + PANEL_GAP
    return drawing.svg(width, int(y), "Throughput by workload and system")


def bar_panel(drawing: Drawing, title: str, bars: list[tuple[str, str, Figure]], y: float, width: int) -> float:
    left, right = 130, width - 90
    drawing.text(MARGIN, y, title, 14, weight="600")
    y += 12
    scale = (right - left) / max(figure.high for _, _, figure in bars)
    last = None
    for label, system, figure in bars:
        if label != last:
            y += 8 if last else 0
            drawing.text(left - 10, y + 12, label, 12, "end")
            last = label
        drawing.rect(left, y, figure.median * scale, 14, COLOURS[system])
        if figure.count > 1:
            drawing.line([(left + figure.low * scale, y + 7), (left + figure.high * scale, y + 7)], INK, 1.2)
        end = max(figure.median, figure.high if figure.count > 1 else 0) * scale
        drawing.text(left + end + 6, y + 12, number(figure.median), 12)
        y += 17
    return y


def latency(results: Results) -> str:
    """A panel per load: percentiles from left to right, milliseconds on a logarithmic scale."""
    drawing, systems = Drawing(), results.systems()
    loads = [load for load in LATENCIES if any(results.figure(system, load[0], f"{load[1]}_p50_ms") for system in systems)]
    columns, panel_width, panel_height = 2, 430, 250
    rows = math.ceil(len(loads) / columns)
    drawing.text(MARGIN, 30, "Milliseconds from the intended send to the acknowledgement, or to the consumer", 17, weight="600")
    top = 80 + drawing.legend(systems, 54, columns * panel_width)
    for index, (workload, kind, title) in enumerate(loads):
        x, y = MARGIN + index % columns * panel_width, top + index // columns * panel_height
        latency_panel(drawing, results, systems, (workload, kind), title, x, y, panel_width - 30, panel_height - 40)
    return drawing.svg(MARGIN + columns * panel_width, top + rows * panel_height, "Latency percentiles by load and system")


def latency_panel(drawing: Drawing, results: Results, systems, load, title, x, y, width, height):
    workload, kind = load
    lines = {system: [results.figure(system, workload, f"{kind}_{key}_ms") for _, key in PERCENTILES] for system in systems}
    lines = {system: [figure.median for figure in line] for system, line in lines.items() if all(line)}
    values = [value for line in lines.values() for value in line if value > 0]
    if not values:
        return
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    left, top, bottom = x + 48, y + 16, y + height - 24
    step = (width - 70) / (len(PERCENTILES) - 1)
    at = lambda value: bottom - (math.log10(max(value, 10**low)) - low) / (high - low) * (bottom - top)
    drawing.text(x, y + 4, title, 13, weight="600")
    for power in range(low, high + 1):
        drawing.line([(left, at(10**power)), (left + step * (len(PERCENTILES) - 1), at(10**power))], PALE)
        drawing.text(left - 6, at(10**power) + 4, f"{10**power:g}", 11, "end")
    for index, (label, _) in enumerate(PERCENTILES):
        drawing.text(left + index * step, bottom + 18, label, 11, "middle")
    for system, line in lines.items():
        points = [(left + index * step, at(value)) for index, value in enumerate(line)]
        drawing.line(points, COLOURS[system], 2)
        for point in points:
            drawing.dot(*point, COLOURS[system])
