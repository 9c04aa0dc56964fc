"""Precision and recall of flags, with intervals, and what a rule would reach at another threshold."""

import numpy as np

CELLS = {
    "under 5": (1, 5),
    "5 to 20": (5, 20),
    "20 to 100": (20, 100),
    "100 or more": (100, 1e9),
    "20 or more": (20, 1e9),
}
"""Peers known when a session was judged."""
BOOTSTRAPS = 1_000


def measure(flagged: np.ndarray, truth: np.ndarray, cluster: np.ndarray, rng: np.random.Generator) -> dict:
    """Precision, recall and flags per 1,000 of judgements bool[n], with intervals over clusters int[n]."""
    names, number = np.unique(cluster, return_inverse=True)
    counts = [np.bincount(number, weights=which, minlength=len(names)) for which in (flagged & truth, flagged, truth)]
    hits, flags, positives = (float(count.sum()) for count in counts)
    draws = rng.integers(0, len(names), (BOOTSTRAPS, len(names)))
    drawn_hits, drawn_flags, drawn_positives = (count[draws].sum(axis=1) for count in counts)
    return {
        "precision": ratio(hits, flags),
        "precision_95": interval(drawn_hits, drawn_flags),
        "recall": ratio(hits, positives),
        "recall_95": interval(drawn_hits, drawn_positives),
        "flags_per_1000": round(1000 * flags / max(len(truth), 1), 2),
        "flags": int(flags),
        "positives": int(positives),
        "sessions": len(truth),
    }


def recall_at(score: np.ndarray, truth: np.ndarray, precision: float) -> float | None:
    """The best recall of any threshold on ``score`` float64[n] that has this precision; None if there is none."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    enough = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= precision)
    return ratio(float(hits[enough[-1]]), float(truth.sum())) if len(enough) and truth.any() else None


def point(score: np.ndarray, truth: np.ndarray) -> dict:
    hits, flags = float((truth & (score >= 0)).sum()), float((score >= 0).sum())
    return {"precision": ratio(hits, flags), "recall": ratio(hits, float(truth.sum()))}


def ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def interval(part: np.ndarray, whole: np.ndarray) -> list[float] | None:
    values = part[whole > 0] / whole[whole > 0]
    return [round(float(v), 4) for v in np.quantile(values, (0.025, 0.975))] if len(values) else None
