"""Budgets in plain Python: lists, dicts, datetime; no window kept, everything added up anew from all that is known.

Shares with the engine only BudgetConfig and the forecaster, which has tests of its own.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from models.budgets.forecast import forecast

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WEEK = 7 * DAY
RULES = (("fast", 720, 14.4), ("medium", 120, 6.0), ("slow", 10, 1.2))


def bounds(budget, time_ms):
    """(id, start, end) by walking local days."""
    zone = ZoneInfo(budget.timezone)
    day = datetime.fromtimestamp(time_ms / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    first, id = day, f"{day:%Y-%m-%d}"
    if budget.period == "day":
        after = day + timedelta(days=1)
    elif budget.period == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
        id = "{}-W{:02d}".format(*first.isocalendar())
    else:
        months = {"month": 1, "quarter": 3, "year": 12}[budget.period]
        first = day.replace(day=1)
        while (first.month - budget.first_month) % months:
            first = (first - timedelta(days=1)).replace(day=1)
        after = first
        for _ in range(months):
            after = (after + timedelta(days=32)).replace(day=1)
        id = f"{first:%Y-%m}" if months == 1 else f"{first:%Y}"
        if months > 1 and budget.first_month > 1:
            fiscal = first.year + (first.month >= budget.first_month)
            id = f"FY{fiscal}"
        if months == 3:
            id += f"-Q{(first.month - budget.first_month) % 12 // 3 + 1}"
    return id, *(int(edge.replace(tzinfo=zone).timestamp() * 1000) for edge in (first, after))


class Clock:
    """Elapsed time by the usual use of the hours of a week, or plainly."""

    def __init__(self):
        self.weeks, self.mean, self.weights = 0, [1.0] * 168, None

    def learn(self, amounts):
        if not sum(amounts):
            return
        self.weeks += 1
        gain = max(1 / self.weeks, 0.25)
        average = sum(amounts) / 168
        self.mean = [m + (a / average - m) * gain for m, a in zip(self.mean, amounts, strict=True)]
        floored = [max(m, 0.1) for m in self.mean]
        self.weights = [w / (sum(floored) / 168) for w in floored]
        self.before = [sum(self.weights[:hour]) * HOUR for hour in range(168)]

    def at(self, time_ms):
        if self.weeks < 3:
            return float(time_ms)
        week, rest = divmod(time_ms, WEEK)
        hour, part = divmod(rest, HOUR)
        return week * float(WEEK) + self.before[hour] + self.weights[hour] * part


class Budget:
    """What the oracle knows of one budget."""

    def __init__(self, config):
        self.config = config
        self.passed = defaultdict(dict)
        """period id -> level -> revision of its finding, of levels passed"""
        self.revisions = defaultdict(int)
        self.ended, self.exhausted, self.limits = set(), {}, {}
        self.firing = {name: [False, 0] for name, *_ in RULES}
        self.open = {}
        self.burn = []
        self.fast = 0.0
        self.projection, self.projected_hour = None, None
        self.last = None


class Oracle:
    """Feed ``use``; ``advance`` returns (milestones, burns) and leaves ``statuses`` and ``decisions``."""

    def __init__(self, budgets, start_ms):
        self.budgets = {config.name: Budget(config) for config in budgets}
        self.uses = []
        self.minutes = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        self.hours = defaultdict(lambda: defaultdict(int))
        self.clocks = defaultdict(Clock)
        self.watermark, self.evaluated = None, None
        self.next_week = start_ms // WEEK + 1
        self.statuses, self.decisions, self.added = {}, {}, {}
        self.spent, self.added_up = {}, 0
        """(budget, period id) -> [amount, start, end]"""

    def use(self, team, time_ms, nano_usd, tokens, events, with_minute):
        counted_ms = time_ms if with_minute else time_ms // HOUR * HOUR
        self.uses.append((team, counted_ms, nano_usd, tokens))
        for scope in (team, "*"):
            for unit, amount in (("nano_usd", nano_usd), ("tokens", tokens)):
                self.hours[scope, unit][time_ms // HOUR * HOUR] += amount
                if with_minute:
                    minute = self.minutes[scope, unit][time_ms // MINUTE * MINUTE]
                    minute[0] += amount
                    minute[1] += events

    def change(self, budgets):
        """Other budgets: those known keep their state, new ones know the past but do not speak of it."""
        known, self.budgets = self.budgets, {}
        for config in budgets:
            budget = self.budgets[config.name] = known.get(config.name) or Budget(config)
            budget.config = config
            if config.name not in known:
                self.added[config.name] = self.watermark
                self._spend(budget, self.uses[: self.added_up])
        self.statuses = {key: status for key, status in self.statuses.items() if key[0] in self.budgets}

    def key(self, config):
        return ("*" if config.scope.kind == "organisation" else config.scope.team), config.unit

    def clock(self, config):
        return Clock() if config.rolling_ms else self.clocks[self.key(config)]

    def window(self, config, at_ms):
        if config.rolling_ms:
            end = at_ms // HOUR * HOUR + HOUR
            return f"rolling-{config.rolling_ms // DAY}d", end - config.rolling_ms, end
        return bounds(config, at_ms)

    def advance(self, watermark):
        last = watermark // MINUTE * MINUTE
        burns = []
        sums = {self.key(b.config): self._sums(self.key(b.config), last) for b in self.budgets.values()}
        end = self.evaluated + MINUTE
        for budget in self.budgets.values():
            self._spend(budget, self.uses[self.added_up :])
        self.added_up, spent = len(self.uses), self.spent
        while end <= last:
            while (self.next_week + 1) * WEEK <= end:
                week = self.next_week * WEEK
                for key, hours in self.hours.items():
                    self.clocks[key].learn([hours.get(week + hour * HOUR, 0) for hour in range(168)])
                self.next_week += 1
            stop = min(last, (self.next_week + 1) * WEEK - MINUTE)
            for budget in self.budgets.values():
                burns += self._burns(budget, range(end, stop + 1, MINUTE), sums[self.key(budget.config)], spent)
            end = stop + MINUTE
        self.evaluated = last
        milestones = [m for budget in self.budgets.values() for m in self._milestones(budget, watermark, spent)]
        self.watermark = watermark
        for minutes in self.minutes.values():  # Only to be quick: they are not looked at any more.
            for start in [start for start in minutes if start < watermark - 2 * DAY]:
                del minutes[start]
        self._decide()
        return milestones, sorted(burns, key=lambda burn: burn["end"])

    def _spend(self, budget, uses):
        """Add each use to the period of its local date."""
        config = budget.config
        if config.rolling_ms:
            return
        for team, time_ms, nano_usd, tokens in uses:
            if self.key(config)[0] in (team, "*"):
                if budget.last is None or not budget.last[1] <= time_ms < budget.last[2]:
                    budget.last = bounds(config, time_ms)
                id, start, end = budget.last
                row = self.spent.setdefault((config.name, id), [0, start, end])
                row[0] += tokens if config.unit == "tokens" else nano_usd

    def _sums(self, key, last):
        """Cumulated minutes of the last eight hours and cumulated hours of forty days before the evaluation."""
        minute_from = (self.evaluated - 8 * HOUR) // HOUR * HOUR
        hour_from = minute_from - 40 * DAY
        minutes, counts, hours = [0], [0], [0]
        for start in range(minute_from, last, MINUTE):
            amount, events = self.minutes[key].get(start, (0, 0))
            minutes.append(minutes[-1] + amount)
            counts.append(counts[-1] + events)
        for start in range(hour_from, last, HOUR):
            hours.append(hours[-1] + self.hours[key].get(start, 0))
        return minute_from, minutes, counts, hour_from, hours

    def _burns(self, budget, ends, sums, spent):
        config, clock = budget.config, self.clock(budget.config)
        minute_from, minutes, counts, hour_from, hours = sums
        found, known = [], None

        def used(end, length):
            """(amount, true length, events or None where a long window is sure to have enough)"""
            if length <= 7 * HOUR:
                i, j = (end - length - minute_from) // MINUTE, (end - minute_from) // MINUTE
                return minutes[j] - minutes[i], length, counts[j] - counts[i]
            start, whole = (end - length) // HOUR * HOUR, end // HOUR * HOUR
            tail = minutes[(end - minute_from) // MINUTE] - minutes[(whole - minute_from) // MINUTE]
            amount = hours[(whole - hour_from) // HOUR] - hours[(start - hour_from) // HOUR] + tail
            return amount, end - start, None

        last_known = minute_from + (len(minutes) - 1) * MINUTE
        ahead = [(s, a) for s, (a, _) in self.minutes[self.key(config)].items() if s >= last_known]

        def after(end):
            """Amount that is known already of minutes that nobody looks at yet."""
            return sum(a for s, a in ahead if s < end)

        for end in ends:
            if known is None or config.rolling_ms or not known[1] <= end < known[2]:
                known = self.window(config, end)
                elapsed = clock.at(known[2]) - clock.at(known[1])
                length = known[2] - known[1]
                windows = [
                    (name, factor, *(max(round(length / part / short / MINUTE), 1) * MINUTE for short in (1, 12)))
                    for name, part, factor in RULES
                ]
                total = spent.get((config.name, known[0]), [0])[0]
            limit = config.limit_at(end)
            now = clock.at(end)
            budget.burn = []
            for name, factor, long_ms, short_ms in windows:
                amount, long_true, events = used(end, long_ms)
                short_amount, short_true, _ = used(end, short_ms)
                rate = amount / (now - clock.at(end - long_true))
                long_burn = rate / (limit / elapsed)
                short_burn = short_amount / (now - clock.at(end - short_true)) / (limit / elapsed)
                state = budget.firing[name]
                if name == "fast":
                    budget.fast = rate
                if state[0]:
                    state[1] = state[1] + 1 if short_burn < 0.8 * factor else 0
                    state[0] = state[1] < 2
                elif long_burn > factor and short_burn > factor:
                    later = sum(a for s, (a, _) in self.minutes[self.key(config)].items() if end <= s < known[2])
                    overrun = total - later + rate * (clock.at(known[2]) - now) > limit
                    enough = amount >= (10**9 if config.unit == "nano_usd" else 100_000)
                    if enough and (events is None or events >= 3) and (name != "slow" or overrun or config.rolling_ms):
                        state[0], state[1] = True, 0
                budget.burn.append((name, long_burn, short_burn, state[0]))
            slow, slow_short, seen = rate, short_amount / (now - clock.at(end - short_true)), used(end, short_ms)[2]
            has_enough = amount >= (10**9 if config.unit == "nano_usd" else 100_000)
            has_enough &= (events is None or events >= 3) and (seen is None or seen >= 3)
            for kind, names in (("page", ("fast", "medium")), ("ticket", ("slow",))):
                firing = any(budget.firing[name][0] for name in names)
                if firing != (kind in budget.open):
                    opened = budget.open.pop(kind) if not firing else budget.open.setdefault(kind, end)
                    said = {"budget": config.name, "kind": kind, "status": "open" if firing else "resolved"}
                    found.append({**said, "opened": opened, "end": end, "period": known[0]})
            if not config.rolling_ms:
                index = (min(last_known, known[2]) - minute_from) // MINUTE
                later = minutes[index] - minutes[(end - minute_from) // MINUTE] + after(known[2])
                left, rest = limit - (total - later), clock.at(known[2]) - now
                found += self._rest(
                    budget,
                    known[0],
                    end,
                    limit,
                    left,
                    slow * rest,
                    min(slow, slow_short, budget.fast) * rest,
                    has_enough,
                )
        return found

    def _rest(self, budget, period, end, limit, left, use, least_use, has_enough):
        """Whether what is left lasts: ``use`` over the rest of the period at the pace of a tenth of it.

        ``least_use`` at the slowest of that, of a hundred-and-twentieth and of a seven-hundred-and-twentieth.
        """
        said = {"budget": budget.config.name, "kind": "remaining", "end": end}
        told = "page" in budget.open or "ticket" in budget.open
        if "remaining" not in budget.open:
            if told or left <= 0 or not has_enough or least_use - left < 0.02 * limit:
                return []
            if least_use / left <= 1.5:
                return []
            budget.open["remaining"] = [period, 0]
            return [{**said, "status": "open", "period": period}]
        since = budget.open["remaining"]
        since[1] = since[1] + 1 if use <= 0 or (left > 0 and use / left < 1.2) else 0
        if since[0] == period and not told and since[1] < 2:
            return []
        del budget.open["remaining"]
        return [{**said, "status": "resolved", "period": since[0]}]

    def _milestones(self, budget, watermark, spent):
        config, found = budget.config, []
        present = self.window(config, watermark)
        periods = {
            id: (start, end, amount) for (name, id), (amount, start, end) in spent.items() if name == config.name
        }
        if config.rolling_ms:
            hours = self.hours[self.key(config)]
            rolled = sum(a for start, a in hours.items() if present[1] <= start < present[2] + HOUR)
            periods = {present[0]: (present[1], present[2], rolled)}
        periods.setdefault(present[0], (present[1], present[2], 0))
        for id in sorted(periods):
            start, end, amount = periods[id]
            if end <= max(watermark - 62 * DAY, self.added.get(config.name, 0)):
                self.statuses.pop((config.name, id), None)
                continue
            limit = config.limit_at(min(max(watermark, start), end - 1))
            passed = budget.passed[id]

            def say(level, status, why, id=id, amount=amount):
                budget.revisions[id, level] += 1
                found.append((config.name, id, level, status, why, budget.revisions[id, level], amount))

            if budget.limits.setdefault(id, limit) != limit:
                budget.limits[id] = limit
                for level in sorted(passed):
                    if amount * 100 < level * limit and passed.pop(level):
                        say(level, "resolved", "limit_changed")
                if amount < limit:
                    budget.exhausted.pop(id, None)
            for level in sorted(passed) if id not in budget.ended else ():
                if level not in config.milestones_percent and passed.pop(level):
                    say(level, "resolved", "level_removed")
            if config.rolling_ms:
                for level in sorted(passed):
                    if amount * 100 < 0.9 * level * limit and passed.pop(level):
                        say(level, "resolved", "fell_back")
                if amount < limit:
                    budget.exhausted.pop(id, None)
            crossed = [m for m in config.milestones_percent if m not in passed and amount * 100 >= m * limit]
            passed.update(dict.fromkeys(crossed, False))
            if amount >= limit:
                budget.exhausted.setdefault(id, min(watermark, end - 1))
            late = self.watermark is not None and self.watermark >= end
            if crossed:
                passed[crossed[-1]] = True
                say(crossed[-1], "open", "late_usage" if late else "reached")
                if late:
                    say(crossed[-1], "resolved", "period_over")
            for level in passed:
                passed[level] = passed[level] or budget.revisions[id, level] > 0
            if watermark >= end and id not in budget.ended:
                budget.ended.add(id)
                for level in sorted(passed):
                    if passed[level] and not late:
                        say(level, "resolved", "period_over")
            self.statuses[config.name, id] = self._status(budget, id, start, end, amount, limit, watermark)
        return found

    def _status(self, budget, id, start, end, amount, limit, watermark):
        config, clock = budget.config, self.clock(budget.config)
        current = start <= watermark < end
        exhaustion, projection = budget.exhausted.get(id), None
        if current and not config.rolling_ms:
            projection = self._project(budget, start, end, amount, watermark)
            if exhaustion is None and budget.fast > 0:
                exhaustion = self._exhaustion(clock, end, limit - amount, budget.fast)
        share = (clock.at(min(max(watermark, start), end)) - clock.at(start)) / (clock.at(end) - clock.at(start))
        return {
            "spent": amount,
            "limit": limit,
            "level": max(budget.passed[id], default=0),
            "expected": 1.0 if config.rolling_ms else share,
            "exhaustion": exhaustion,
            "projection": projection,
            "burn": budget.burn if current else [],
        }

    def _exhaustion(self, clock, end, rest, rate):
        """Walk on hour by hour from the last evaluated minute until the rest is used."""
        if rest <= 0:
            return self.evaluated
        at = self.evaluated
        while at < end:
            after = min(at // HOUR * HOUR + HOUR, end)
            step = clock.at(after) - clock.at(at)
            if rest < rate * step:
                return int(at + rest / rate / step * (after - at))
            rest -= rate * step
            at = after
        return None

    def _project(self, budget, start, end, amount, watermark):
        hour = watermark // HOUR
        if hour != budget.projected_hour:
            budget.projected_hour = hour
            hours = self.hours[self.key(budget.config)]
            first = max(min(hours), (hour - 22 * 24) * HOUR)
            series = np.array([hours.get(s, 0) for s in range(first, hour * HOUR, HOUR)], np.int64)
            ahead = sum(a for s, a in hours.items() if hour * HOUR <= s < end)
            budget.projection = forecast(series, first // HOUR, -(-end // HOUR), amount - ahead)
        return budget.projection

    def _decide(self):
        self.decisions = {}
        teams = {team for team, *_ in self.uses} | {b.config.scope.team for b in self.budgets.values()} - {""}
        for scope in [*(f"team:{team}" for team in teams), "organisation:"]:
            found = []
            for budget in self.budgets.values():
                config = budget.config
                counts = config.scope.key == scope or (config.scope.kind == "organisation" and scope != "organisation:")
                if config.enforcement is None or not counts:
                    continue
                id, start, end = self.window(config, self.watermark)
                status = self.statuses[config.name, id]
                action, level = "allow", 0
                for name in ("route", "throttle", "block"):
                    percent = getattr(config.enforcement, f"{name}_percent")
                    if percent and status["spent"] * 100 >= percent * status["limit"]:
                        action, level = name, percent
                expires, rate = end, None
                if config.rolling_ms and level:
                    hours, left, gone = self.hours[self.key(config)], status["spent"], 0
                    while left * 100 >= level * status["limit"] and start + gone * HOUR < end:
                        left -= hours.get(start + gone * HOUR, 0)
                        gone += 1
                    expires = end + (gone - 1) * HOUR
                if action == "throttle" and config.rolling_ms:
                    rate = status["limit"] // (config.rolling_ms // HOUR)
                elif action == "throttle":
                    left = max(100 - status["spent"] * 100 // status["limit"], 1)
                    rate = status["limit"] * left // 100 // max(-(-(end - self.watermark) // HOUR), 1)
                found.append((("allow", "route", "throttle", "block").index(action), expires, config.name, rate, id))
            if found:
                strictest = max(found, key=lambda one: one[:3])
                self.decisions[scope] = (("allow", "route", "throttle", "block")[strictest[0]], *strictest[1:])
