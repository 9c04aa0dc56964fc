"""Calendar months against plain datetime arithmetic, in the zones that go wrong."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.budgets.calendar import period_of
from models.config import HOUR_MS, MINUTE_MS

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Asuncion",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
)


def ms(*when, zone=UTC):
    return int(datetime(*when, tzinfo=zone).timestamp() * 1000)


@given(st.integers(0, ms(2060, 1, 1)), st.sampled_from(ZONES))
def test_every_instant_is_in_the_month_of_its_local_date(time_ms, zone):
    period = period_of(time_ms, zone)
    local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone))
    assert period.id == f"{local:%Y-%m}"
    assert period.start_ms <= time_ms < period.end_ms


@given(st.integers(0, ms(2060, 1, 1)), st.sampled_from(ZONES))
def test_months_follow_each_other_without_gap_or_overlap(time_ms, zone):
    period = period_of(time_ms, zone)
    after = period_of(period.end_ms, zone)
    assert (after.start_ms, period_of(period.end_ms - 1, zone)) == (period.end_ms, period)
    assert period_of(period.start_ms, zone) == period


@pytest.mark.parametrize(
    ("zone", "month", "hours"),
    [
        ("UTC", (2026, 2), 28 * 24),
        ("UTC", (2028, 2), 29 * 24),
        ("Europe/Berlin", (2026, 3), 31 * 24 - 1),
        ("Europe/Berlin", (2026, 10), 31 * 24 + 1),
        ("America/New_York", (2026, 11), 30 * 24 + 1),
        ("Australia/Lord_Howe", (2026, 4), 30 * 24 + 0.5),
        ("Pacific/Apia", (2011, 12), 30 * 24),
    ],
)
def test_lesson_39_months_have_their_true_length(zone, month, hours):
    """30 December 2011 did not exist in Samoa; Lord Howe moves its clocks by half an hour."""
    assert period_of(ms(*month, 15), zone).length_ms == hours * HOUR_MS


def test_lesson_39_a_month_begins_at_local_midnight():
    berlin = period_of(ms(2026, 11, 10), "Europe/Berlin")
    assert (berlin.start_ms, berlin.end_ms) == (ms(2026, 10, 31, 23), ms(2026, 11, 30, 23))
    kolkata = period_of(ms(2026, 11, 10), "Asia/Kolkata")
    assert kolkata.start_ms == ms(2026, 10, 31, 18, 30)


def test_midnight_of_the_first_that_does_not_exist_or_exists_twice():
    """Clocks went forward at 00:00 on 1 October 2023 in Paraguay, and back at 01:00 on 1 November 2020 in Cuba."""
    asuncion = period_of(ms(2023, 10, 15), "America/Asuncion")
    assert asuncion.start_ms == ms(2023, 10, 1, 4)
    assert period_of(asuncion.start_ms - 1, "America/Asuncion").id == "2023-09"
    havana = period_of(ms(2020, 11, 15), "America/Havana")
    assert havana.start_ms == ms(2020, 11, 1, 4)
    assert period_of(havana.start_ms + 90 * MINUTE_MS, "America/Havana") == havana


def test_gone_is_a_share_of_true_time():
    march = period_of(ms(2026, 3, 15), "Europe/Berlin")
    half = (march.start_ms + march.end_ms) // 2
    assert (march.gone(march.start_ms - 1), march.gone(half), march.gone(march.end_ms + 1)) == (0.0, 0.5, 1.0)
    day = ms(2026, 3, 29, zone=ZoneInfo("Europe/Berlin"))
    assert march.gone(day + 24 * HOUR_MS) - march.gone(day) == pytest.approx(24 / 743)


@pytest.mark.parametrize("time_ms", [-(2**62), -1, 2**62])
def test_hostile_times_have_a_month_too(time_ms):
    assert period_of(time_ms, "Asia/Tokyo").id in ("1970-01", "9990-01")


def test_an_unknown_zone_is_an_error():
    with pytest.raises(ZoneInfoNotFoundError):
        period_of(0, "Mars/Olympus")


def test_the_oracle_knows_about_daylight_saving():
    berlin = ZoneInfo("Europe/Berlin")
    assert datetime(2026, 7, 1, tzinfo=berlin).utcoffset() == timedelta(hours=2)
