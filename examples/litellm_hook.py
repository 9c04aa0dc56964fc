"""A LiteLLM proxy that follows Tenfold's decisions.

Put this file beside LiteLLM's ``config.yaml`` and name it there::

    litellm_settings:
      callbacks: litellm_hook.tenfold

and say where a Tenfold worker answers: TENFOLD_URL, by default http://127.0.0.1:8010. Before each call it asks for the
decisions about the key's team and the model, and does the strictest:

    allow     nothing
    route     the call goes to the cheaper model
    throttle  429 once the rate of this hour is used up, in this process
    block     429 until the decision expires

Answers are kept for CACHE_SECONDS. When Tenfold cannot be asked, the last answer about the scope counts until it
expires; without one, or after that, its ``fail`` decides: open lets the call through, closed answers 503. A scope that
was never heard of fails as TENFOLD_FAIL says, by default open.
"""

import asyncio
import os
import time
from urllib.parse import quote

import aiohttp
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

CACHE_SECONDS = 2.0
TIMEOUT = aiohttp.ClientTimeout(total=1.0)
STRICTNESS = ("allow", "route", "throttle", "block")
NANO_PER_USD = 10**9


class Bucket:
    """What a throttled scope may still use: filled evenly up to an hour's rate, emptied by what calls cost."""

    def __init__(self, rate_per_hour: int, now: float):
        self.rate_per_hour, self.level, self.filled_at = rate_per_hour, rate_per_hour / 60, now

    def fill(self, now: float) -> None:
        gained = (now - self.filled_at) / 3600 * self.rate_per_hour
        self.level, self.filled_at = min(self.level + gained, self.rate_per_hour), now

    def wait_seconds(self) -> float:
        return 0.0 if self.level > 0 else max(1.0, -self.level / max(self.rate_per_hour, 1) * 3600)


class TenfoldHook(CustomLogger):
    """One per proxy process."""

    def __init__(self, url: str | None = None, fail: str | None = None, clock=time.time):
        super().__init__()
        self.url = (url or os.environ.get("TENFOLD_URL", "http://127.0.0.1:8010")).rstrip("/")
        self.fail = fail or os.environ.get("TENFOLD_FAIL", "open")
        self.clock = clock
        self.answers: dict[str, tuple[float, dict]] = {}
        self.buckets: dict[str, Bucket] = {}
        self.session: aiohttp.ClientSession | None = None

    async def async_pre_call_hook(self, user_api_key_dict, cache, data: dict, call_type: str):
        """LiteLLM calls this before each request; what it returns is sent on, what it raises is answered."""
        scopes = self.scopes(user_api_key_dict, data.get("model", ""))
        decisions = await asyncio.gather(*map(self.decision, scopes))
        strictest = max(decisions, key=lambda decision: STRICTNESS.index(decision["action"]))
        if strictest["action"] == "block":
            unavailable = strictest.get("unavailable", False)
            raise HTTPException(503 if unavailable else 429, {"error": strictest["reason"]})
        for scope, decision in zip(scopes, decisions, strict=True):
            self.throttle(scope, decision)
        route_to = next((decision["route_to"] for decision in decisions if decision["route_to"]), "")
        return {**data, "model": route_to} if route_to else data

    async def async_log_success_event(self, kwargs: dict, response_obj, start_time, end_time) -> None:
        """LiteLLM calls this after each request: what it cost leaves the buckets."""
        metadata = kwargs.get("litellm_params", {}).get("metadata") or {}
        team = metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id") or ""
        tokens = getattr(getattr(response_obj, "usage", None), "total_tokens", 0) or 0
        for scope in (f"team:{escaped(team)}", f"model:{escaped(kwargs.get('model', ''))}"):
            if scope in self.buckets:
                in_tokens = self.answers[scope][1]["unit"] == "tokens"
                cost = tokens if in_tokens else (kwargs.get("response_cost") or 0.0) * NANO_PER_USD
                self.buckets[scope].level -= cost

    def scopes(self, user_api_key_dict, model: str) -> list[str]:
        """The scopes of a call: add ``agent:`` or ``use_case:`` where your keys carry them."""
        team = getattr(user_api_key_dict, "team_alias", None) or getattr(user_api_key_dict, "team_id", None) or ""
        return [f"team:{escaped(team)}", f"model:{escaped(model)}"]

    def throttle(self, scope: str, decision: dict) -> None:
        if decision["action"] != "throttle":
            self.buckets.pop(scope, None)
            return
        now, rate = self.clock(), decision["rate_per_hour"]
        bucket = self.buckets.setdefault(scope, Bucket(rate, now))
        bucket.rate_per_hour = rate
        bucket.fill(now)
        if bucket.wait_seconds():
            headers = {"Retry-After": str(round(bucket.wait_seconds()))}
            raise HTTPException(429, {"error": decision["reason"]}, headers=headers)

    async def decision(self, scope: str) -> dict:
        """The decision that holds for a scope; never raises."""
        asked_at, known = self.answers.get(scope, (0.0, None))
        if known is None or self.clock() - asked_at >= CACHE_SECONDS:
            try:
                known = await self.ask(scope)
                self.answers[scope] = (self.clock(), known)
            except (aiohttp.ClientError, TimeoutError):
                return self.without_answer(known)
        return known

    async def ask(self, scope: str) -> dict:
        if self.session is None:
            self.session = aiohttp.ClientSession(timeout=TIMEOUT)
        async with self.session.get(f"{self.url}/v1/decisions/{quote(scope, safe='')}") as response:
            response.raise_for_status()
            return await response.json()

    def without_answer(self, known: dict | None) -> dict:
        if known is not None and known["expires"] is not None and self.clock() * 1000 < known["expires"]:
            return known
        if (known["fail"] if known is not None else self.fail) == "closed":
            reason = "Tenfold cannot be asked, and the budget says to stop then."
            return {"action": "block", "route_to": "", "reason": reason, "unavailable": True}
        return {"action": "allow", "route_to": "", "reason": "Tenfold cannot be asked."}


def escaped(name: str) -> str:
    """A name as Tenfold's scope keys have it."""
    return name.replace("\\", "\\\\").replace("|", "\\|")


tenfold = TenfoldHook()
