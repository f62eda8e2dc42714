"""What was measured, as a table, as JSON and as a chart, and whether the targets were met."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .rounds import Samples
from .targets import COALESCED_SECONDS, TARGETS

OURS, FLOOR = "imagecache", "floor"
_PACKAGES = (
    "aiohttp", "Pillow", "aiohttp-client-cache", "diskcache", "hishel", "httpx", "requests-cache", "img2dataset",
)  # fmt: skip
_HEAD = f"{'':<30}{'wall':>9}{'× floor':>9}{'× CPU':>8}{'memory':>9}{'late 99 %':>11}{'at most':>9}{'asked':>7}  target"


def by_workload(samples: list[Samples]) -> dict[str, dict[str, Samples]]:
    """The samples of each workload, by candidate."""
    found: dict[str, dict[str, Samples]] = {}
    for each in samples:
        found.setdefault(each.workload, {})[each.candidate] = each
    return found


def verdict(name: str, group: dict[str, Samples]) -> tuple[bool, str] | None:
    """Whether imagecache meets the target of a workload, and in words; None where there is none."""
    target, ours, floor = TARGETS.get(name), group.get(OURS), group.get(FLOOR)
    if target is None or ours is None or floor is None:
        return None
    ratio, asked = ours.ratio(floor, "wall"), ours.median("requests")
    assert ratio is not None
    missed = []
    if target.most is not None and ratio > target.most:
        missed.append(f"{ratio:.2f} instead of {target.most:.2f} of the floor")
    if target.requests is not None and asked != target.requests:
        missed.append(f"{asked:.0f} requests instead of {target.requests}")
    for other in target.below:
        beside = group[other].ratio(floor, "wall") if other in group else None
        if beside is not None and ratio >= beside:
            missed.append(f"not below {other} ({beside:.2f})")
    return not missed, "missed: " + ", ".join(missed) if missed else f"met ({target.most:.2f})"


def coalescing(groups: dict[str, dict[str, Samples]]) -> str | None:
    """What a hundred callers of one URL cost more than one."""
    one, hundred = (groups.get(f"one photo, {who}", {}).get(OURS) for who in ("one caller", "a hundred callers"))
    if one is None or hundred is None:
        return None
    more = (hundred.median("wall") or 0.0) - (one.median("wall") or 0.0)
    requests, decodes = hundred.median("requests") or 0.0, hundred.median("decodes")
    is_met = more <= COALESCED_SECONDS and requests == 2 and decodes == 1
    # One of the requests is the image before, which opened the connection.
    told = f"{more * 1e3:+.1f} ms, {requests - 1:.0f} request, {decodes:.0f} decode"
    return f"a hundred callers of one URL beside one: {told}; {'met' if is_met else 'missed'}"


def table(samples: list[Samples]) -> str:
    """For the terminal."""
    groups = by_workload(samples)
    lines = []
    for name, group in groups.items():
        lines += ["", name, _HEAD]
        floor, judged = group.get(FLOOR), verdict(name, group)
        for candidate, each in sorted(group.items(), key=lambda item: item[1].median("wall") or 0.0):
            target = judged[1] if judged is not None and candidate == OURS else ""
            lines.append(_row(each, floor) + f"  {target}".rstrip())
    told = coalescing(groups)
    return "\n".join([*lines, "", *([told] if told else [])])


def _row(each: Samples, floor: Samples | None) -> str:
    ratio, cpu = (each.ratio(floor, figure) if floor is not None else None for figure in ("wall", "cpu"))
    wall, memory, asked = (each.median(figure) for figure in ("wall", "memory", "requests"))
    late, latest = each.median("late_p99"), each.median("late_max")
    return (
        f"{('* ' if each.candidate == OURS else '  ') + each.candidate:<30}"
        f"{_shown(wall, '{:.3f} s'):>9}{_shown(ratio, '{:.2f}'):>9}{_shown(cpu, '{:.2f}'):>8}"
        f"{_shown(None if memory is None else memory / 2**20, '{:.0f} MiB'):>9}"
        f"{_shown(None if late is None else late * 1e3, '{:.1f} ms'):>11}"
        f"{_shown(None if latest is None else latest * 1e3, '{:.0f} ms'):>9}{_shown(asked, '{:.0f}'):>7}"
    )


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def write_json(path: Path, samples: list[Samples], *, server: str, rounds: int, counts: dict[str, int]) -> None:
    """All figures, with what they were measured on."""
    groups = by_workload(samples)
    content = {
        "measured": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": _versions(),
        "server": server,
        "rounds": rounds,
        "pictures": counts,
        "verdicts": {name: told[1] for name, group in groups.items() if (told := verdict(name, group))},
        "coalescing": coalescing(groups),
        "samples": {
            name: {candidate: [_rounded(told) for told in each.told] for candidate, each in group.items()}
            for name, group in groups.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _rounded(told: dict[str, float]) -> dict[str, float]:
    return {figure: round(value, 5) for figure, value in told.items()}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def draw(path: Path, samples: list[Samples]) -> bool:
    """Bars of the ratios to the floor, a panel a workload, the target as a line; False where nothing can draw."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    groups = {name: group for name, group in by_workload(samples).items() if FLOOR in group}
    if not groups:
        return False
    figure, axes = pyplot.subplots((len(groups) + 1) // 2, 2, figsize=(11, 1.9 * len(groups) / 2 + 2), squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, (name, group) in zip(axes.flat, groups.items(), strict=False):
        ratios = {each.candidate: each.ratio(group[FLOOR], "wall") or 0.0 for each in group.values()}
        ordered = sorted(ratios.items(), key=lambda item: -item[1])
        colours = ["#d1495b" if who == OURS else "#8d99ae" if who == FLOOR else "#c9d1dc" for who, _ in ordered]
        bars = axis.barh([who for who, _ in ordered], [ratio for _, ratio in ordered], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.set_title(name, fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        target = TARGETS.get(name)
        if target is not None and target.most is not None:
            axis.axvline(target.most, color="#2b2d42", linewidth=1, linestyle="--")
    figure.suptitle("Time as a multiple of bare aiohttp with one thread hop; dashed: what is aimed at", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return True
