"""``GET /v1/decisions/{scope}``: what a gateway may do for a scope, from the topic of decisions.

Every worker reads the whole compacted topic, so any of them answers for any scope, without asking another: a look
into a dictionary. A scope is named as in the topic: ``team:payments``, ``model:gpt-5``, ``team_model:payments|gpt-5``,
``agent:planner``, ``use_case:loans``, ``organisation:``. A team never seen is answered for by the organisation.

200 with the decision; 503 while decisions are still being read: then the gateway does what its ``fail`` says.
"""

from collections.abc import Callable, Iterable

import structlog
from aiohttp import web

from schemas.codec import decode

log = structlog.get_logger()

ORGANISATION = "organisation:"
_NONE = {
    "action": "allow", "rate_per_hour": None, "unit": "nano_usd", "route_to": "", "budget": "", "period": "",
    "expires": None, "fail": "open", "version": 0,
}  # fmt: skip


class Decisions:
    """The newest decision about each scope."""

    def __init__(self, clock_ms: Callable[[], int]):
        self._clock_ms = clock_ms
        self._by_scope: dict[str, dict] = {}

    def take(self, records: Iterable) -> None:
        """Kafka records, in order; what is no decision is named and passed over."""
        for record in records:
            if record.value is None:
                self._by_scope.pop((record.key or b"").decode(errors="replace"), None)
                continue
            try:
                decision = decode("decision", record.value)
            except Exception as error:  # fastavro raises what its C code met. Something else writes to our topic.
                log.error("decision_unreadable", offset=record.offset, error=repr(error))
                continue
            if decision["version"] >= self._by_scope.get(decision["scope"], _NONE)["version"]:
                self._by_scope[decision["scope"]] = decision

    def answer(self, scope: str) -> dict:
        """The decision that holds now; one that has expired says nothing any more."""
        decision = self._by_scope.get(scope)
        if decision is None and scope.startswith("team:"):
            decision = self._by_scope.get(ORGANISATION)
        if decision is None:
            return {**_NONE, "scope": scope, "reason": "No budget is enforced here."}
        if self._clock_ms() >= decision["expires"]:
            reason = f"Nothing was used since {decision['period']} of budget {decision['budget']} ended."
            return {**_NONE, "scope": scope, "fail": decision["fail"], "version": decision["version"], "reason": reason}
        return {**decision, "scope": scope}


def decision_routes(decisions: Decisions, caught_up: Callable[[], bool]) -> list[web.RouteDef]:
    """The endpoint, for streams.web.server."""

    async def get(request: web.Request) -> web.Response:
        if not caught_up():
            return web.json_response(
                {"error": "decisions are still being read"}, status=503, headers={"Retry-After": "1"}
            )
        return web.json_response(decisions.answer(request.match_info["scope"]))

    return [web.get("/v1/decisions/{scope:.+}", get)]
