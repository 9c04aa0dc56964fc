"""The pictures of ``accuracy_rates.json`` and ``accuracy_forecast.json``: need matplotlib (the extra ``bench``)."""

from pathlib import Path

MARKS = {"tenfold": "o-", "ewma_z": "s--", "static": "^--", "trailing_7_days": "v:"}
KINDS = ("3x", "5x", "10x")


def draw_rates(result: dict, path: Path) -> None:
    """Recall of events of an hour against false findings a tenant and week, as each detector's limit moves."""
    pyplot = _pyplot()
    curves = result["curve_test_half"]
    figure, axes = pyplot.subplots(len(curves), len(KINDS), figsize=(10, 2.9 * len(curves)), sharex=True, sharey=True)
    for line, (group, ways) in zip(axes, curves.items(), strict=True):
        for axis, kind in zip(line, KINDS, strict=True):
            for name, points in ways.items():
                false = [point["false_per_tenant_week"] for point in points]
                axis.plot(false, [point[kind] for point in points], MARKS[name], label=name, markersize=4)
            axis.axvline(0.2, color="tab:gray", linewidth=0.6)
            axis.set_title(f"{group} tenants, {kind} for 1 h", fontsize=8)
            axis.grid(alpha=0.3)
            axis.set_xscale("symlog", linthresh=0.2)
    axes[0][0].legend(fontsize=7)
    axes[-1][1].set_xlabel("false findings a tenant and week")
    axes[1][0].set_ylabel("recall")
    _save(pyplot, figure, path)


def draw_forecast(result: dict, path: Path) -> None:
    """Coverage, width and error by the day that a total is forecast on."""
    pyplot = _pyplot()
    rows = result["test_half"]["days"]
    days = [row["day"] for row in rows]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10, 2.9))
    for level, color in ((80, "tab:blue"), (95, "tab:orange")):
        left.plot(days, [row[f"coverage_{level}"] for row in rows], "o-", color=color, label=f"{level} %")
        left.axhline(level / 100, color=color, linewidth=0.6)
        middle.plot(days, [row[f"width_{level}_median"] for row in rows], "o-", color=color, label=f"{level} %")
    for name in ("tenfold", "run_rate"):
        right.plot(days, [row[f"median_log_error_{name}"] for row in rows], "o-", label=name)
    for axis, title in ((left, "coverage"), (middle, "high / low, median"), (right, "|ln error| of the total, median")):
        axis.set_title(f"{title}, test half", fontsize=8)
        axis.set_xlabel("day of 14")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    left.set_ylim(0.5, 1.02)
    _save(pyplot, figure, path)


def _pyplot():
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "tenfold", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(pyplot, figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
