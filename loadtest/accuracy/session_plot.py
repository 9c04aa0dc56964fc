"""The picture of ``accuracy_sessions.json``: precision against recall, by the number of peers known."""

from pathlib import Path

from loadtest.accuracy.session_rules import RULES

PANELS = ("5 to 20", "20 to 100", "100 or more")
MARKS = dict(zip(RULES, ("s", "^", "v", "D"), strict=True))


def draw(result: dict, path: Path) -> None:
    """One row of panels for each data set; needs matplotlib (the extra ``bench``)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "tenfold", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    rows = []
    if "swebench" in result:
        rows = [("swebench by model, test part", result["swebench"]["by_model"]["test"])]
        rows.append(("swebench by model x repository, test part", result["swebench"]["by_model_and_repo"]["test"]))
    rows += [(name, result[name]["shuffled"]) for name in ("aider", "mooncake")]
    figure, axes = pyplot.subplots(len(rows), len(PANELS), figsize=(10, 2.9 * len(rows)), squeeze=False)
    for line, (title, cells) in zip(axes, rows, strict=True):
        for axis, panel in zip(line, PANELS, strict=True):
            _panel(axis, f"{title}\n{panel} peers", cells[panel])
    axes[0][0].legend(loc="lower left", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axis, title: str, cell: dict) -> None:
    curve = [p for p in cell.get("margins", {}).values() if p["precision"] is not None and p["recall"] is not None]
    axis.plot([p["recall"] for p in curve], [p["precision"] for p in curve], "-", color="tab:blue", label="by margin")
    for name, color in (("warning", "tab:orange"), ("page", "tab:red")):
        _point(axis, cell.get(name, {}), "o", color, name)
    for rule, mark in MARKS.items():
        _point(axis, cell.get("rules", {}).get(rule, {}), mark, "tab:gray", rule)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axis.set_title(title, fontsize=8)
    axis.grid(alpha=0.3)


def _point(axis, found: dict, mark: str, color: str, label: str) -> None:
    if found.get("precision") is not None and found.get("recall") is not None:
        axis.plot([found["recall"]], [found["precision"]], mark, color=color, label=label, markersize=5)
