"""What was found: as a table, as JSON that a later run is compared with, and as plots."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from scenarios import Row

RESULTS = Path(__file__).parent / "results"
_COLOURS = {"nginx": "#6b7280", "router": "#2563eb", "portkey": "#b45309", "litellm": "#b91c1c"}


def machine() -> str:
    """Processor, system and versions, in a line."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    version = ""
    if nginx:
        told = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
        version = ", " + told.strip().rpartition(" ")[2]
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}{version}"
    )


def table(rows: list[Row]) -> str:
    """Medians, and how often nginx's the router's is."""
    names = [n for n in ("nginx", "portkey", "litellm") if any(n in row.rounds for row in rows)]
    head = ["what", "unit", *names, "router", "router ÷ nginx"]
    lines = [
        "| " + " | ".join(head) + " |",
        "| --- | --- |" + " --: |" * (len(head) - 2),
    ]
    for row in rows:
        found = row.medians()
        cells = [f"{found[name]:.3g}" if name in found else "" for name in (*names, "router")]
        cells = [cell if "e" not in cell else f"{float(cell):.0f}" for cell in cells]
        ratio = f"{found['router'] / found['nginx']:.2f}" if found.get("nginx") else ""
        lines.append(f"| {row.what} | {row.unit} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def save(rows: list[Row], notes: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep a run: every round of every figure, with machine and versions."""
    folder.mkdir(exist_ok=True)
    at = datetime.now(UTC)
    kept = {
        "at": at.isoformat(timespec="seconds"),
        "machine": machine(),
        "notes": notes,
        "rows": [
            {
                "scenario": row.scenario,
                "what": row.what,
                "unit": row.unit,
                "rounds": {n: [round(v, 4) for v in found] for n, found in row.rounds.items()},
            }
            for row in rows
        ],
    }
    path = folder / f"{at:%Y-%m-%dT%H%M%S}.json"
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return path


def read(path: Path) -> list[Row]:
    kept = json.loads(path.read_text())
    return [Row(**row) for row in kept["rows"]]


def compare(before: list[Row], after: list[Row]) -> str:
    """Better and worse beyond noise. A figure stands as its ratio to nginx's of the same run where
    there is one: two runs seldom meet the same machine. Noise is what the rounds differ by."""
    lines = []
    known = {row.what: row for row in before}
    for row in after:
        old = known.get(row.what)
        if old is None or "router" not in row.rounds or "router" not in old.rounds:
            continue
        was, is_now = _standing(old), _standing(row)
        change = is_now / was - 1
        noise = max(_spread(old.rounds["router"]), _spread(row.rounds["router"]), 0.05)
        word = "same" if abs(change) <= noise else "better" if change < 0 else "worse"
        lines.append(f"{word:6}  {change:+7.1%}  (noise {noise:.1%})  {row.what}")
    return "\n".join(lines)


def _standing(row: Row) -> float:
    found = row.medians()
    return found["router"] / (found.get("nginx") or 1.0)


def _spread(values: list[float]) -> float:
    """Half of the middle half's width over the median, of few rounds the whole width."""
    middle = statistics.median(values)
    if len(values) < 2 or not middle:
        return 0.1
    if len(values) < 4:
        return (max(values) - min(values)) / middle
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def plot(rows: list[Row], title: str) -> str:
    """Bars by figure and server, as an SVG that is read in light and in dark."""
    width, label, bar, gap = 920, 460, 14, 14
    parts, y = [], 48
    for row in rows:
        found = row.medians()
        most = max(found.values()) or 1
        parts.append(f'<text x="8" y="{y + 11}">{escape(row.what)} [{row.unit}]</text>')
        for name, value in found.items():
            length = max(1, (width - label - 150) * value / most)
            colour = _COLOURS.get(name, "#2563eb")
            parts.append(
                f'<rect x="{label + 60}" y="{y}" width="{length:.1f}" height="{bar}" rx="2" '
                f'fill="{colour}"/><text x="{label + 52}" y="{y + 11}" text-anchor="end">'
                f'{escape(name)}</text><text x="{label + 66 + length:.1f}" y="{y + 11}">'
                f"{f'{value:,.0f}' if value >= 100 else f'{value:.3g}'}</text>"
            )
            y += bar + 3
        y += gap
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" role="img" '
        f'aria-label="{escape(title)}"><style>text{{font:12px system-ui,sans-serif;fill:#374151}}'
        "@media(prefers-color-scheme:dark){text{fill:#d1d5db}}</style>"
        f'<text x="8" y="24" style="font-weight:600;font-size:14px">{escape(title)}</text>'
        f"{''.join(parts)}</svg>\n"
    )
