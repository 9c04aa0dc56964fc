"""Settings that decide an answer, as frozen values.

``streams.config`` reads and validates them from ``tenfold.toml``; the engines get them passed in, so that
worker, replay and tests compute the same from the same values. Times are milliseconds, money nano-USD.
"""

from dataclasses import dataclass, field

from models.scopes import Scope

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
USD = 10**9
"""One dollar in nano-USD."""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """Panes and the watermark."""

    lateness_ms: int = MINUTE_MS
    """The watermark stays this far behind the newest event time."""
    max_future_skew_ms: int = 5 * MINUTE_MS
    """Event times further ahead of the clock never advance the watermark (apache/metron PR#1197)."""
    minute_retention_ms: int = 26 * HOUR_MS
    """Minute panes are kept this long behind the watermark; later events count in hour panes only."""
    hour_retention_ms: int = 62 * DAY_MS
    """Hour panes are kept this long; events older than that are rejected as too_old."""
    idle_partition_ms: int = 5_000
    """A partition known to have no input for this long (processing time) does not hold the merged watermark back."""
    silent_partition_ms: int = 2 * MINUTE_MS
    """Nor does one of which nothing is known for this long: nobody owns it, or its owner cannot reach the brokers."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Live sessions."""

    idle_ms: int = 30 * MINUTE_MS
    """A session ends when the watermark is this far past its last event."""


@dataclass(frozen=True, slots=True)
class SessionOutlierConfig:
    """10x session cost against the peer group's median."""

    ratio: float = 10.0
    warn_margin: float = 0.25
    """Standard errors of the median above ``ratio`` for a warning."""
    page_margin: float = 0.5
    min_baseline: int = 20
    """Sessions that some ancestor group needs before the ratio can page."""
    min_excess_nano_usd: int = 1 * USD
    absolute_cap_nano_usd: int = 50 * USD
    """Cold start: without a baseline of ``min_baseline``, a session above this is flagged."""
    half_life_days: float = 14.0
    """Baseline days lose half their weight in this time."""


@dataclass(frozen=True, slots=True)
class RunawayConfig:
    """A session that calls ten times as often as its peers, or shows the signature of a loop while it costs three
    times what they do (5.5 of the detector notes)."""

    ratio: float = 10.0
    """Calls, against the median of the peers."""
    min_calls: int = 30
    calls_cap: int = 5_000
    """Without enough peers, a session with more calls is reported."""
    watch_ratio: float = 3.0
    """A session that costs or calls this many times the median of its peers is watched call by call."""
    watch_min_calls: int = 16
    min_cost_nano_usd: int = 1 * USD
    """A loop that has cost less is not worth a person's time."""
    repeats: int = 20
    """Of a counter that gains 2 with each repeated call and loses 1 with any other."""
    growing_calls: int = 10
    short_output_tokens: int = 50
    agents: int = 16
    """Distinct sub-agents under one root session."""
    acceleration: float = 6.0
    """Cost so far at call 2^k against that at call 2^(k-1): 2 if calls cost the same, 4 if each adds to the prompt."""


@dataclass(frozen=True, slots=True)
class UnitPriceConfig:
    """Reported cost of one event against the price table."""

    ratio: float = 10.0
    min_excess_nano_usd: int = 1 * USD
    call_cap_nano_usd: int = 100 * USD
    """One event above this is flagged whatever the price table says, if it has no price to compare with."""


@dataclass(frozen=True, slots=True)
class SpendRateConfig:
    """Spend per window of a team or model against its own past (5.2 of the detector notes)."""

    window_ms: int = MINUTE_MS
    margin: float = 1.0
    """Multiplies how far above its own records a key must be: more of it, fewer findings."""
    ratio: float = 2.0
    min_excess_nano_usd: int = 1 * USD
    """Excess per window below this is not worth a person's time."""
    windows: int = 2
    """Consecutive hot or mild windows before a finding opens; a hot one of five minutes or more opens it at once."""
    warm_up_windows: int = 30
    clear_windows: int = 6


@dataclass(frozen=True, slots=True)
class CacheShareConfig:
    """Share of a team's prompts to a model that is read from the cache, against its own past (5.4 of the detector
    notes)."""

    ratio: float = 0.5
    """Below this share of the usual one."""
    min_events: int = 20
    """A window with fewer tells nothing."""
    min_excess_nano_usd: int = 1 * USD
    """What it must have cost more since the share is low."""
    windows: int = 2
    """Low ones in a row."""
    warm_up_windows: int = 30
    clear_windows: int = 3


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """Half-space trees on each team's pane vector (river.anomaly.HalfSpaceTrees)."""

    n_trees: int = 10
    """0: none, and no scores."""
    height: int = 8
    window_size: int = 60
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Raise:
    """A limit that is higher for a while."""

    amount: int
    """What is added to the limit, in the budget's unit."""
    from_ms: int
    until_ms: int
    """Event time; the end excluded."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What gateways are told at which percent of a budget used; 0 is never."""

    throttle_percent: int = 0
    route_percent: int = 0
    route_to: str = ""
    """The cheaper model."""
    block_percent: int = 0
    fail: str = "open"
    """``open`` or ``closed``: what a gateway does that cannot learn the decision."""


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """A limit on what one scope uses in a period."""

    name: str
    scope: Scope
    """Of BUDGET_SCOPE_KINDS."""
    limit: int
    """In its unit."""
    timezone: str = "UTC"
    milestones_percent: tuple[int, ...] = (50, 80, 100)
    unit: str = "nano_usd"
    """``nano_usd`` or ``tokens``."""
    period: str = "month"
    """day, week, month, quarter, year or rolling."""
    first_month: int = 1
    """The month, 1 to 12, that fiscal quarters and years begin with."""
    rolling_ms: int = 0
    """Length of a rolling window, whole hours; 0 for calendar periods."""
    teams: tuple[str, ...] = ()
    """Of a business unit."""
    default: bool = False
    """Not for ``scope`` itself but for each scope of its kind that has no budget of its own."""
    raises: tuple[Raise, ...] = ()
    enforcement: Enforcement | None = None

    def limit_at(self, time_ms: int) -> int:
        """The limit with the raises that hold at this instant: of nothing but these two (maximhq/bifrost PR#5558)."""
        return self.limit + sum(r.amount for r in self.raises if r.from_ms <= time_ms < r.until_ms)


@dataclass(frozen=True, slots=True)
class Tier:
    """Models of one price class, and the share of model spend that they should have."""

    name: str
    share_percent: float
    models: tuple[str, ...]
    """Patterns as of fnmatch, compared without case; a model belongs to the first tier that names it."""


@dataclass(frozen=True, slots=True)
class CheaperRoute:
    """Use that another model could serve for less."""

    models: tuple[str, ...]
    """Patterns."""
    to: str
    max_tokens_per_call: int = 0
    """Only teams whose calls have fewer tokens on average; 0 for all."""


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Which models should be used how much, judged by the day."""

    timezone: str = "UTC"
    tiers: tuple[Tier, ...] = ()
    """Cheapest first."""
    tolerance_points: float = 5.0
    """Percentage points that a tier may be above its share."""
    min_day_nano_usd: int = 10 * USD
    """The mix of a day with less spend on models is not judged."""
    routes: tuple[CheaperRoute, ...] = ()
    min_saving_nano_usd: int = 10 * USD
    """A day."""
    self_host_tokens: int = 0
    """Tokens a day above which running a model oneself is worth a look; 0: never look."""
    self_host_models: tuple[str, ...] = ("*",)
    days: int = 3
    """In a row, before advice is given or taken back."""


@dataclass(frozen=True, slots=True)
class UnitCostConfig:
    """What one transaction of a type should cost."""

    transaction_type: str
    target_nano_usd: int | None = None
    """Per transaction; None: only its own past counts."""
    tolerance: float = 0.2
    """Share above the target, or above what is usual, from which on it is told."""
    min_transactions: int = 20
    """A day with fewer is not judged."""
    min_excess_nano_usd: int = 10 * USD
    """A day."""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class AttributionConfig:
    """How much of a day's spend should be known by team and use case."""

    timezone: str = "UTC"
    min_percent: float = 0.0
    """Of spend; 0: attribution is not looked at."""
    margin_points: float = 1.0
    """Percentage points below ``min_percent`` from which on it is told."""
    min_day_nano_usd: int = 10 * USD
    """A day with less spend is not judged."""


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price of our own: what the catalogue lacks (tools, GPUs, people) or a negotiated price."""

    kind: str
    unit_nano_usd: float
    """Price of one ``unit`` (call, second, minute), in nano-USD."""
    provider: str = ""
    model: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything the engines need to know."""

    windows: WindowConfig = field(default_factory=WindowConfig)
    sessions: SessionConfig = field(default_factory=SessionConfig)
    session_outlier: SessionOutlierConfig = field(default_factory=SessionOutlierConfig)
    runaway: RunawayConfig = field(default_factory=RunawayConfig)
    unit_price: UnitPriceConfig = field(default_factory=UnitPriceConfig)
    spend_rate: SpendRateConfig = field(default_factory=SpendRateConfig)
    cache_share: CacheShareConfig = field(default_factory=CacheShareConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    budgets: tuple[BudgetConfig, ...] = ()
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    unit_costs: tuple[UnitCostConfig, ...] = ()
    extra_scopes: tuple[str, ...] = ()
    """transaction_type, user, tag:NAME: windows of all of them are kept, for budgets that come later."""
    prices: tuple[PriceOverride, ...] = ()
    dedupe_events: int = 1_000_000
    """Each partition remembers at least this many of its latest event identities."""
    hash_key: int = 0x74656E666F6C6421
    """Key of the 64-bit string hash; all workers of one deployment must share it."""
