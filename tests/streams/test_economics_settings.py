"""``[policy]``: what it becomes, and what is said of one that is wrong."""

import pytest
from pydantic import ValidationError

from models.config import AttributionConfig, CheaperRoute, PolicyConfig, Tier, UnitCostConfig
from streams.config import Settings

SMALL = {"name": "small", "share": 85, "models": ["*-mini"]}
LARGE = {"name": "large", "share": 15, "models": ["*"]}


def test_a_policy_reaches_the_engine_exactly():
    policy = {
        "timezone": "Europe/Berlin",
        "tiers": [SMALL, LARGE],
        "tolerance": 2.5,
        "min_day_usd": "0.000000001",
        "routes": [{"models": ["gpt-4o"], "to": "gpt-5-mini", "max_tokens_per_call": 9}],
        "self_host_tokens": 2_000_000,
        "days": 2,
    }
    assert Settings(policy=policy).engine().policy == PolicyConfig(
        timezone="Europe/Berlin",
        tiers=(Tier("small", 85, ("*-mini",)), Tier("large", 15, ("*",))),
        tolerance_points=2.5,
        min_day_nano_usd=1,
        routes=(CheaperRoute(("gpt-4o",), "gpt-5-mini", 9),),
        self_host_tokens=2_000_000,
        days=2,
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"tiers": [SMALL]}, "the shares add up to 85; let them add up to 100"),
        ({"tiers": [SMALL, {**LARGE, "name": "small"}]}, "the name 'small' is used twice"),
        ({"timezone": "Mars/Olympus"}, "no such time zone"),
        ({"routes": [{"models": ["gpt-4o"], "to": "gpt-unheard-of"}]}, "no list price is known for 'gpt-unheard-of'"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_is_accepted(policy, said):
    with pytest.raises(ValidationError) as refused:
        Settings(policy=policy)
    assert said in str(refused.value)


def test_attribution_and_extra_scopes_reach_the_engine_exactly():
    given = {"timezone": "Asia/Tokyo", "min_share": 97.5, "margin": 0, "min_day_usd": 3}
    engine = Settings(attribution=given, windows={"extra_scopes": ["user"]}).engine()
    assert engine.attribution == AttributionConfig("Asia/Tokyo", 97.5, 0, 3 * 10**9)
    assert engine.extra_scopes == ("user",)


def test_unit_costs_reach_the_engine_exactly_and_each_type_has_one():
    given = [{"transaction_type": "loan", "target_usd": "7.20", "tolerance": 0.1, "min_transactions": 5,
              "min_excess_usd": 1, "timezone": "America/New_York"}, {"transaction_type": "ticket"}]  # fmt: skip
    assert Settings(unit_costs=given).engine().unit_costs == (
        UnitCostConfig("loan", 7_200_000_000, 0.1, 5, 10**9, "America/New_York"),
        UnitCostConfig("ticket"),
    )
    with pytest.raises(ValidationError, match="'ticket' is used twice"):
        Settings(unit_costs=[{"transaction_type": "ticket"}] * 2)


def test_a_route_may_lead_to_a_model_with_a_price_of_our_own():
    policy = {"routes": [{"models": ["gpt-4o"], "to": "our-llama"}]}
    prices = [{"kind": "LLM", "model": "our-llama", "unit": "token", "usd": "0.0000005"}]
    assert Settings(policy=policy, prices=prices).engine().policy.routes[0].to == "our-llama"
