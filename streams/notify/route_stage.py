"""Which receivers a finding goes to.

The first ``[[routes]]`` entry that matches names them (and, with ``go_on``, later ones too). What no route takes goes
to the receivers that no route names, or to all if every one is named: nothing is dropped for want of a route. A
receiver takes what reaches its ``min_severity``, and all further changes of what it was told of: a finding that is
toned down, resolved or routed elsewhere must still reach whoever it has woken.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from streams.notify.config import RouteSettings
from streams.notify.matchers import Matcher, all_match, labels, parse
from streams.notify.receiver import SEVERITIES, Receiver


@dataclass(frozen=True, slots=True)
class Route:
    matchers: tuple[Matcher, ...]
    receivers: frozenset[str]
    go_on: bool


class Router:
    def __init__(self, receivers: Sequence[Receiver], routes: Sequence[RouteSettings] = ()) -> None:
        self._receivers = {receiver.name: receiver for receiver in receivers}
        self._routes = tuple(Route(parse(route.match), frozenset(route.receivers), route.go_on) for route in routes)
        everyone = frozenset(receiver.name for receiver in receivers)
        self._rest = everyone.difference(*(route.receivers for route in self._routes)) or everyone

    def route(self, finding: Mapping, knowing: Collection[str] = ()) -> list[Receiver]:
        """``knowing``: names of receivers that know of the finding."""
        names = self._names(finding)
        rank = SEVERITIES.index(finding["severity"])
        return [
            self._receivers[name]
            for name in sorted({*names, *knowing} & self._receivers.keys())
            if name in knowing or rank >= SEVERITIES.index(self._receivers[name].min_severity)
        ]

    def _names(self, finding: Mapping) -> frozenset[str]:
        if not self._routes:
            return self._rest
        known, taken = labels(finding), None
        for route in self._routes:
            if all_match(route.matchers, known):
                taken = route.receivers | (taken or frozenset())
                if not route.go_on:
                    break
        return self._rest if taken is None else taken
