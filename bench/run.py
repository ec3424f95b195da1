"""Measure the router beside nginx and the peers, on this machine, in one run: ``make bench``.

``python bench/run.py [--quick] [--no-peers] [--no-save] [scenario …]``. The server under test has
one core to itself, client and upstream share the others. Every figure is the median of several
rounds in which the servers take turns. ``--quick`` only shows that everything still works.
``--compare [BEFORE AFTER]`` compares two runs, the last two where none are named.
"""

import argparse
import sys
from pathlib import Path

from report import RESULTS, compare, machine, plot, read, save, table
from scenarios import SCENARIOS, Bench, Row

PLOTS = Path(__file__).parent / "plots"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(SCENARIOS))
    asked.add_argument("--quick", action="store_true", help="only show that everything works")
    asked.add_argument("--no-peers", action="store_true", help="without LiteLLM and Portkey")
    asked.add_argument("--no-save", action="store_true", help="keep neither results nor plots")
    asked.add_argument("--compare", nargs="*", metavar="FILE", help="compare two kept runs")
    given = asked.parse_args()
    if given.compare is not None:
        files = [Path(one) for one in given.compare] or sorted(RESULTS.glob("*.json"))[-2:]
        if len(files) != 2:
            sys.exit("Two runs are needed; bench/results/ has fewer.")
        print(f"{files[0].stem} → {files[1].stem}")
        print(compare(*map(read, files)))
        return
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        sys.exit(
            f"There is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}."
        )
    bench = Bench(quick=given.quick, peers=not given.no_peers)
    rows: list[Row] = []
    for name in given.scenarios or SCENARIOS:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += SCENARIOS[name](bench)
    print(machine() + "\n")
    print(table(rows))
    for name, value in bench.notes.items():
        print(f"{name}: {value}")
    if not given.quick and not given.no_save:
        print(f"kept as {save(rows, bench.notes)}")
        if not given.scenarios:
            draw(rows)


def draw(rows: list[Row]) -> None:
    """The plots that the README shows."""
    PLOTS.mkdir(exist_ok=True)
    for scenario, title in (("json", "CPU per JSON call"), ("streams", "CPU per streamed event")):
        chosen = [row for row in rows if row.scenario == scenario]
        (PLOTS / f"bench-{scenario}.svg").write_text(plot(chosen, title))


if __name__ == "__main__":
    main()
