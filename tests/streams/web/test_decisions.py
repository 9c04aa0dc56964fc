"""The decisions' endpoint, and a LiteLLM hook that follows it over HTTP."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import aiohttp
import pytest

from schemas.codec import encode
from streams.config_sections import WebSettings
from streams.web.decisions import Decisions, decision_routes
from streams.web.metrics import Metrics
from streams.web.server import WebServer

NOW_MS = 1_795_000_000_000
HOOK = Path(__file__).parents[3] / "examples" / "litellm_hook.py"


def record(scope, version=1, **changes):
    decision = {
        "scope": scope, "action": "block", "rate_per_hour": None, "unit": "nano_usd", "route_to": "",
        "reason": "Budget b has used 100 % or more.", "budget": "b", "period": "2026-11",
        "expires": NOW_MS + 60_000, "fail": "open", "version": version,
    }  # fmt: skip
    return SimpleNamespace(key=scope.encode(), value=encode("decision", decision | changes), offset=0)


class Service:
    """The web part with a clock of its own."""

    def __init__(self):
        self.now_ms, self.read = NOW_MS, True
        self.decisions = Decisions(lambda: self.now_ms)
        routes = decision_routes(self.decisions, lambda: self.read)
        self.web = WebServer(WebSettings(port=0), Metrics(), ready=list, routes=routes)

    async def get(self, path):
        async with aiohttp.ClientSession() as session, session.get(self.web.url + path) as response:
            return response.status, await response.json()


@pytest.fixture
async def service():
    one = Service()
    async with one.web:
        yield one


async def test_it_answers_with_the_newest_version(service):
    service.decisions.take([record("team:a", 2), record("team:a", 1, action="allow")])
    status, answer = await service.get("/v1/decisions/team:a")
    assert (status, answer["action"], answer["version"], answer["budget"]) == (200, "block", 2, "b")
    service.decisions.take([SimpleNamespace(key=b"team:a", value=None, offset=1), record("team:a", action="route")])
    assert (await service.get("/v1/decisions/team:a"))[1]["action"] == "route"


async def test_lesson_3_a_scope_never_seen_is_allowed_unless_the_organisation_is_stopped(service):
    assert (await service.get("/v1/decisions/team:new"))[1]["action"] == "allow"
    service.decisions.take([record("organisation:")])
    status, answer = await service.get("/v1/decisions/team:new")
    assert (status, answer["action"], answer["scope"]) == (200, "block", "team:new")
    assert (await service.get("/v1/decisions/model:new"))[1]["action"] == "allow"


async def test_lesson_39_a_block_ends_with_its_period_even_if_nothing_more_is_heard(service):
    service.decisions.take([record("team:a", fail="closed")])
    service.now_ms = NOW_MS + 60_000
    status, answer = await service.get("/v1/decisions/team:a")
    assert (status, answer["action"], answer["fail"]) == (200, "allow", "closed")
    assert "2026-11 of budget b ended" in answer["reason"]


async def test_names_with_any_character_reach_it(service):
    service.decisions.take([record("team_model:a\\|b|m/1 ü")])
    assert (await service.get("/v1/decisions/team_model%3Aa%5C%7Cb%7Cm%2F1%20%C3%BC"))[1]["action"] == "block"
    service.decisions.take([record("tag:cost_centre|b?/#%"), record("session:a\\|b")])
    assert (await service.get("/v1/decisions/tag:cost_centre%7Cb%3F%2F%23%25"))[1]["action"] == "block"
    assert (await service.get("/v1/decisions/session:a%5C%7Cb"))[1]["action"] == "block"


async def test_it_says_when_it_does_not_know_yet_and_passes_over_what_is_no_decision(service):
    service.read = False
    assert (await service.get("/v1/decisions/team:a"))[0] == 503
    service.read = True
    service.decisions.take([SimpleNamespace(key=b"x", value=b"\xff", offset=0), record("team:a")])
    assert (await service.get("/v1/decisions/team:a"))[1]["action"] == "block"


# ---------------------------------------------------------------- the example


class HTTPError(Exception):
    """As fastapi's HTTPException."""

    def __init__(self, status_code, detail, headers=None):
        self.status_code, self.detail, self.headers = status_code, detail, headers


@pytest.fixture
async def hook(service, monkeypatch):
    """The example as LiteLLM loads it; where LiteLLM is not installed, without its base class, which does nothing."""
    try:
        import fastapi
        import litellm.integrations.custom_logger  # noqa: F401
    except ImportError:
        logger = ModuleType("litellm.integrations.custom_logger")
        logger.CustomLogger = type("CustomLogger", (), {})
        fastapi = ModuleType("fastapi")
        fastapi.HTTPException = HTTPError
        for name in ("litellm", "litellm.integrations"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", logger)
        monkeypatch.setitem(sys.modules, "fastapi", fastapi)
    spec = importlib.util.spec_from_file_location("litellm_hook", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one = module.TenfoldHook(url=service.web.url, clock=lambda: service.now_ms / 1000)
    yield one
    if one.session is not None:
        await one.session.close()


async def call(hook, team="a", model="big"):
    """What LiteLLM would send on, or the status it would answer with."""
    try:
        key = SimpleNamespace(team_alias=team, team_id="id")
        return (await hook.async_pre_call_hook(key, None, {"model": model, "messages": []}, "completion"))["model"]
    except Exception as error:
        return error.status_code


async def used(hook, usd, team="a", model="big"):
    metadata = {"metadata": {"user_api_key_team_alias": team}}
    kwargs = {"litellm_params": metadata, "model": model, "response_cost": usd}
    await hook.async_log_success_event(kwargs, SimpleNamespace(usage=SimpleNamespace(total_tokens=7)), None, None)


async def test_the_hook_allows_routes_and_blocks(service, hook):
    assert await call(hook) == "big"
    service.now_ms += 3_000
    service.decisions.take([record("team:a", action="route", route_to="small")])
    assert await call(hook) == "small"
    assert await call(hook, team="b") == "big"
    service.now_ms += 3_000
    service.decisions.take([record("team:a", 2)])
    assert await call(hook) == 429
    service.now_ms += 60_000
    assert await call(hook) == "big", "the decision has expired"
    service.decisions.take([record("model:big", expires=NOW_MS + 10**9)])
    service.now_ms += 3_000
    assert (await call(hook), await call(hook, model="other")) == (429, "other")


async def test_the_hook_throttles_to_the_rate(service, hook):
    rate = 6 * 10**9  # $6 an hour
    service.decisions.take([record("team:a", action="throttle", rate_per_hour=rate, expires=NOW_MS + 10**9)])
    assert await call(hook) == "big"
    await used(hook, 1.10)
    assert await call(hook) == 429, "a minute's worth was there, $1.10 are used"
    service.now_ms += 9 * 60_000
    assert await call(hook) == 429
    service.now_ms += 2 * 60_000
    assert await call(hook) == "big"


@pytest.mark.parametrize(("fail", "status"), [("open", "big"), ("closed", 503)])
async def test_the_hook_fails_as_the_budget_says(service, hook, fail, status):
    service.decisions.take([record("team:a", action="route", route_to="small", fail=fail)])
    assert await call(hook) == "small"
    service.read = False  # 503 from now on
    service.now_ms += 30_000
    assert await call(hook) == "small", "the last answer counts until it expires"
    service.now_ms += 60_000
    assert await call(hook) == status


async def test_the_hook_fails_as_its_setting_says_for_a_scope_never_heard_of(service, hook):
    service.read = False
    assert await call(hook) == "big"
    hook.fail = "closed"
    assert await call(hook) == 503
