"""The chart: for each workload a bar for each candidate, as multiple of the floor, and a line where the target is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Row
from benchmarks.targets import TARGETS
from benchmarks.workloads import FLOOR, OURS, WORKLOADS

COLUMNS, CUT = 2, 4.0
"""Bars that are longer are cut, and say how long they are."""
COLOURS = {OURS: "#1f6feb", FLOOR: "#57606a"}


def draw(path: Path, results: Mapping[str, Sequence[Row]], note: str) -> None:
    """Write the PNG. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = -(-len(results) // COLUMNS)
    figure, grid = plt.subplots(lines, COLUMNS, figsize=(11, 2.5 * lines + 0.7), squeeze=False, layout="constrained")
    panels = [panel for row in grid for panel in row]
    for panel in panels[len(results) :]:
        panel.axis("off")
    for panel, (workload, rows) in zip(panels, results.items(), strict=False):
        shown = sorted(((row.candidate, row.ratio) for row in rows if row.ratio is not None), key=lambda bar: bar[1])
        names, ratios = [name for name, _ in shown], [ratio for _, ratio in shown]
        longest = min(max([*ratios, 1.0]), CUT)
        colours = [COLOURS.get(name, "#b8c0c8") for name in names]
        panel.barh(names, [min(ratio, CUT) for ratio in ratios], color=colours, height=0.72)
        for place, ratio in enumerate(ratios):
            label = f"{ratio:.2f}" + (" (cut)" if ratio > CUT else "")
            panel.text(min(ratio, CUT) + longest * 0.012, place, label, va="center", fontsize=8)
        panel.axvline(1.0, color=COLOURS[FLOOR], linewidth=0.8, alpha=0.6)
        target = TARGETS[workload].ratio
        if target is not None:
            panel.axvline(target, color="#cf222e", linewidth=1.4, linestyle="--")
        aim = "" if target is None else f" (target {target:.2f})"
        panel.set_title(WORKLOADS[workload].title + aim, fontsize=9, loc="left")
        panel.set_xlim(0, longest * 1.16)
        panel.invert_yaxis()
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Time as a multiple of the floor; less is better, and the target dashed\n{note}", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
