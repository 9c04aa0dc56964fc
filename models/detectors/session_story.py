"""What findings about a session have in common: who it is, why it costs what it does, and its example events.

Called by models.detectors.session_outlier and .runaway_agent; pure, some 50 us a finding.
"""

from dataclasses import dataclass, field

import numpy as np

from models.baselines import GroupStats
from models.combos import NAMES
from models.counters import CACHE_READ, CACHE_WRITE, COST, EVENTS, INPUT, OUTPUT
from models.explain import by_factor, by_share
from models.findings import counted
from models.peer_group import token_weight
from models.session_kernels import ACCELERATED, FANNED_OUT, GREW, REPEATED
from models.watch import GROWING, agents, cells, examples
from schemas.columns import KINDS

TOKEN_COUNTERS = (INPUT, CACHE_READ, CACHE_WRITE, OUTPUT)
PARTS = ("model", "agent", "use_case")
"""Names of a combo that an excess is split by."""


@dataclass(slots=True)
class SessionView:
    """One run of a session at one moment.

    names: (team, agent, use_case, model, provider); sums: its counters; times: (start, first, last) ms; watch and
    watch_ids: its slot of models.watch, or None; combo_names: of every combo number.
    """

    session_id: str
    names: tuple[str, ...]
    stats: GroupStats | None
    sums: list[int]
    times: list[int]
    level: int
    signals: int
    revision: int
    status: str
    now_ms: int
    price_version: str
    combo_names: list[tuple[str, ...]]
    watch: np.ndarray | None = None
    watch_ids: np.ndarray | None = None
    event_ids: list[str] = field(default_factory=list)

    @property
    def cost(self) -> int:
        return self.sums[COST]

    @property
    def events(self) -> int:
        return self.sums[EVENTS]

    @property
    def expected_nano_usd(self) -> int:
        return 0 if self.stats is None else self.stats.expected_nano_usd

    @property
    def peers(self) -> str:
        team, agent, _, model, _ = self.names
        return " × ".join(name for name in (team, agent, model) if name) or "all teams"

    def cause(self) -> list[dict]:
        """Contributions by volume x size x mix x price, and by each name and kind that it spends on several of."""
        excess = self.cost - self.expected_nano_usd
        return [*self._factors(), *self._parts(excess)]

    def _factors(self) -> list[dict]:
        if self.stats is None:
            return []
        usual, expected = self.stats.usual, self.expected_nano_usd
        tokens = sum(self.sums[at] for at in TOKEN_COUNTERS)
        weight = token_weight(self.sums)
        usual_events = expected / usual.event_cost_nano_usd if usual.event_cost_nano_usd > 0 else 0.0
        factors = [("volume", "events per session", _growth(self.events, usual_events))]
        if tokens and usual.event_tokens > 0:
            factors += [
                ("size", "tokens per event", _growth(tokens / max(self.events, 1), usual.event_tokens)),
                ("mix", "cached, input and output share", _growth(weight / tokens, usual.token_weight)),
                ("price", "cost per token", 1.0),
            ]
        else:
            factors.append(("price", "cost per event", 1.0))
        return by_factor(self.cost, expected, factors)

    def _parts(self, excess: int) -> list[dict]:
        if self.watch is None:
            return []
        known = cells(self.watch)
        parts = []
        for dimension in (*PARTS, "kind"):
            costs: dict[str, int] = {}
            for combo, kind, cost, _ in known:
                if combo < 0:
                    name = "other"
                elif dimension == "kind":
                    name = KINDS[kind]
                else:
                    name = self.combo_names[combo][NAMES.index(dimension)] or "(none)"
                costs[name] = costs.get(name, 0) + cost
            early = self.cost - sum(costs.values())
            if len(costs) > 1:
                parts += by_share(dimension, excess, costs | ({"(before it was watched)": early} if early > 0 else {}))
        return parts

    def symptoms(self) -> list[str]:
        """What of a runaway agent it shows, in words."""
        found = []
        if self.signals & GREW:
            calls = 0 if self.watch is None else int(self.watch[GROWING])
            found.append(
                "its prompts grow while its answers are short" + (f" ({calls} calls in a row)" if calls > 1 else "")
            )
        if self.signals & REPEATED:
            found.append("it makes the same calls again and again")
        if self.signals & ACCELERATED:
            found.append("each call costs more than the ones before")
        if self.signals & FANNED_OUT:
            number = 0 if self.watch is None else agents(self.watch)
            found.append(f"about {number} sub-agents work under it")
        return found

    def examples(self) -> list[str]:
        """The event that crossed the limit, and the dearest ones since it is watched."""
        dearest = [] if self.watch is None or self.watch_ids is None else examples(self.watch, self.watch_ids)
        return list(dict.fromkeys([*self.event_ids, *dearest]))

    def common(self) -> dict:
        """Fields that both findings fill alike."""
        team, agent, use_case, model, _ = self.names
        details = {"events": str(self.events), "input_tokens": str(self.sums[INPUT])}
        details |= {"output_tokens": str(self.sums[OUTPUT]), "cache_read_tokens": str(self.sums[CACHE_READ])}
        details |= {"cache_write_tokens": str(self.sums[CACHE_WRITE])}
        if self.symptoms():
            details["runaway"] = ", ".join(name for bit, name in SIGNAL_NAMES.items() if self.signals & bit)
        return {
            "revision": self.revision,
            "status": self.status,
            "scope_kind": "session",
            "scope_name": self.session_id,
            "team": team,
            "agent": agent,
            "use_case": use_case,
            "model": model,
            "session_id": self.session_id,
            "window_start": self.times[0],
            "window_ms": max(self.times[2] - self.times[0], 0),
            "observed_nano_usd": self.cost,
            "expected_nano_usd": self.expected_nano_usd,
            "baseline_size": 0 if self.stats is None else int(self.stats.reliable),
            "first_event_time": self.times[1],
            "last_event_time": self.times[2],
            "detection_time": self.now_ms,
            "cause": self.cause(),
            "example_event_ids": self.examples(),
            "price_version": self.price_version,
            "details": details,
        }

    def runaway_words(self) -> str:
        """The symptoms as the end of a sentence, or nothing."""
        found = self.symptoms()
        return f"; it looks like a runaway agent: {', and '.join(found)}" if found else ""

    def counted_events(self) -> str:
        return counted(self.events, "event")


SIGNAL_NAMES = {
    GREW: "context_growth",
    REPEATED: "repeated_call",
    ACCELERATED: "cost_acceleration",
    FANNED_OUT: "sub_agent_fan_out",
}


def _growth(observed: float, usual: float) -> float:
    return observed / usual if usual > 0 else 0.0
