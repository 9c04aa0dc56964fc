"""Settings: defaults mirror the engines', values are exact, and every problem reads well and leaks nothing."""

import re
import traceback
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from models.config import EngineConfig
from models.money import to_nano_usd
from streams.config import Settings
from streams.config_values import parse_duration_ms, parse_usd
from streams.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "tenfold.example.toml"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No settings but those of the test."""
    import os

    for name in list(os.environ):
        if name.startswith("TENFOLD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def load(tmp_path, text: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return Settings.load(file)


def problems(tmp_path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{len(raised.value.problems)} problem")
    assert str(tmp_path / "settings.toml") in str(raised.value)
    return list(raised.value.problems)


def test_defaults_are_the_engines():
    assert Settings.load().engine() == EngineConfig()
    assert Settings.load().broker.embedded


def test_example_file_holds_exactly_the_defaults(monkeypatch):
    assert Settings.load(EXAMPLE) == Settings.load()


def test_example_file_names_every_key(tmp_path, monkeypatch):
    """With its comments taken off it still loads, and no field is left unmentioned."""
    text = EXAMPLE.read_text()
    for name in set(re.findall(r"\$\{(\w+)\}", text)):
        monkeypatch.setenv(name, "https://receiver.example/x")
    for name in ("ca.pem", "usage_event_v1.avsc"):
        (tmp_path / name).write_text("{}")
    opened = re.sub(r"(?m)^# ((?:\[\[|[a-z_]+ = ).*)$", r"\1", text).replace('"PLAINTEXT"', '"SASL_SSL"')
    settings = load(tmp_path, opened)
    assert len(settings.receivers) == 4 and settings.budgets[0].team == "payments"

    def leaves(model: type[BaseModel]):
        from streams.config_problems import _models_in

        for name, field in model.model_fields.items():
            inner = list(_models_in(field.annotation))
            yield name
            for part in inner:
                yield from leaves(part)

    missing = {name for name in leaves(Settings) if not re.search(rf"\b{name}\b", text)}
    assert not missing


def test_human_keys_reach_the_engine_exactly(tmp_path):
    engine = load(
        tmp_path,
        """
        [windows]
        lateness = "90s"
        [sessions]
        idle = 60000
        [detectors.session_outlier]
        half_life = "7d"
        absolute_cap_usd = 0.1
        [[budgets]]
        team = "payments"
        monthly_usd = "25000.000000001"
        timezone = "Europe/Berlin"
        [[prices]]
        kind = "TOOL_CALL"
        unit = "call"
        usd = 0.0000004
        """,
    ).engine()
    assert engine.windows.lateness_ms == 90_000
    assert engine.sessions.idle_ms == 60_000
    assert engine.session_outlier.half_life_days == 7.0
    assert engine.session_outlier.absolute_cap_nano_usd == 100_000_000
    assert engine.budgets[0].limit == 25_000_000_000_001
    assert (engine.budgets[0].name, engine.budgets[0].timezone) == ("payments", "Europe/Berlin")
    assert engine.prices[0].unit_nano_usd == 400.0


def test_money_is_not_rounded_through_a_float(tmp_path):
    """The nearest double of this number is 0.000000127 dollars off."""
    written = "1234567890.123456789"
    settings = load(tmp_path, f'[[budgets]]\nteam = "a"\nmonthly_usd = {written}')
    assert settings.engine().budgets[0].limit == 1_234_567_890_123_456_789
    assert float(written) * 1e9 != 1_234_567_890_123_456_789


@given(st.decimals(min_value=0, max_value=9_000_000_000, places=9))
def test_usd_text_is_exact(usd):
    assert parse_usd(str(usd)) == usd
    assert to_nano_usd(parse_usd(f"{usd:f}")) == int(usd * 10**9)


@given(
    st.integers(0, 10**12),
    st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]),
)
def test_durations(number, unit):
    assert parse_duration_ms(f"{number}{unit[0]}") == number * unit[1]
    assert parse_duration_ms(number) == number


@pytest.mark.parametrize("text", ["", "m", "-5m", "5 parsecs", "1m30", "1e3s", "0.5ms", True, 1.5, None, "٣m"])
def test_not_durations(text):
    with pytest.raises(ValueError):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["", "abc", "$5", "nan", "inf", True, None, [], float("nan"), "9e12"])
def test_not_usd(text):
    with pytest.raises(ValueError):
        parse_usd(text)


def test_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TENFOLD_DETECTORS__SESSION_OUTLIER__RATIO", "12.5")
    monkeypatch.setenv("TENFOLD_BROKER__SERVERS", "kafka-1:9092, kafka-2")
    monkeypatch.setenv("TENFOLD_WINDOWS__LATENESS", "2m")
    monkeypatch.setenv("TENFOLD_RECEIVERS", '[{"type": "webhook", "url": "http://localhost:1/x"}]')
    settings = load(tmp_path, "[detectors.session_outlier]\nratio = 11\nmin_baseline = 7")
    assert settings.detectors.session_outlier.ratio == 12.5
    assert settings.detectors.session_outlier.min_baseline == 7
    assert settings.broker.servers == ("kafka-1:9092", "kafka-2:9092")
    assert settings.windows.lateness == 120_000
    assert settings.receivers[0].url.get_secret_value() == "http://localhost:1/x"


def test_file_is_found_by_argument_then_variable_then_folder(tmp_path, monkeypatch):
    for name, port in (("a.toml", 1), ("b.toml", 2), ("tenfold.toml", 3)):
        (tmp_path / name).write_text(f"[web]\nport = {port}")
    assert Settings.load().web.port == 3
    monkeypatch.setenv("TENFOLD_CONFIG", str(tmp_path / "b.toml"))
    assert Settings.load().web.port == 2
    assert Settings.load(tmp_path / "a.toml").web.port == 1


def test_kubernetes_service_variables_do_no_harm(monkeypatch):
    monkeypatch.setenv("TENFOLD_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("TENFOLD_SERVICE_HOST", "10.0.0.1")
    assert Settings.load() == Settings()


def test_settings_are_frozen():
    settings = Settings.load()
    with pytest.raises(ValueError):
        settings.web = None
    with pytest.raises(ValueError):
        settings.web.port = 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[detectors.session_outlier]\nratio = 0.5",
         "detectors.session_outlier.ratio = 0.5 is not accepted; give a number above 1, such as 10"),
        ("[detectors.session_outlier]\nratio = nan",
         "detectors.session_outlier.ratio = NaN is not accepted; give a number above 1, such as 10"),
        ("[detectors.session_outlier]\nrato = 12",
         "detectors.session_outlier.rato is not a known key; did you mean ratio? known here: absolute_cap_usd, "
         "half_life, min_baseline, min_excess_usd, page_margin, ratio, warn_margin"),
        ("[sessions]\nidle = 'soon'",
         'sessions.idle = \'soon\' is not accepted: it is not a duration; give a duration such as "30m" or whole '
         "milliseconds, at least 1s and at most 30d"),
        ("[web]\nport = 99999", "web.port = 99999 is not accepted; give a port from 0 to 65535; 0 takes any free one"),
        ("[transport]\ndelivery = 'raw'",
         'transport.delivery = \'raw\' is not accepted; give one of "raw_spans", "consumer_records"'),
        ("[[budgets]]\nteam = 'a'", "budgets[0]: it has no amount; give one of usd, monthly_usd, tokens"),
        ("[[budgets]]\nteam = 'a'\nmonthly_usd = 1\ntimezone = 'Mars/Olympus'",
         "budgets[0].timezone = 'Mars/Olympus' is not accepted: no such time zone; give an IANA time zone, such as "
         '"UTC" or "America/New_York"'),
        ("[[budgets]]\nteam = 'a'\nmonthly_usd = 1\nmilestones = [80, 50]",
         "budgets[0]: milestones [80, 50] must rise; give them as in [50, 80, 100]"),
        ("[[budgets]]\nteam = 'a'\nmonthly_usd = 1\n[[budgets]]\nteam = 'a'\nmonthly_usd = 2",
         "budgets: the name 'a' is used twice; give each a name of its own"),
        ("[[receivers]]\ntype = 'teams'",
         "receivers[0].type = 'teams' is not accepted; give one of 'pagerduty', 'slack', 'webhook'"),
        ("[[receivers]]\nname = 'x'", "receivers[0].type is missing; give one of 'pagerduty', 'slack', 'webhook'"),
        ("[[receivers]]\ntype = 'slack'",
         "receivers[0]: give url (an incoming webhook), or token and channel (a bot)"),
        ("[[routes]]\nreceivers = ['pager']", "routes: there is no receiver 'pager'; there are none"),
        ("[[routes]]\nmatch = ['team payments']\nreceivers = ['pager']",
         "routes[0].match[0] = 'team payments' is not accepted: a matcher is label=value, label!=value, label=~regex "
         'or label!~regex; give a list of matchers, such as ["team=payments", "severity=~warning|critical"]'),
        ("[[silences]]\nname = 'a'\nmatch = ['team=a']",
         "silences[0]: give starts and ends, or weekdays (with start_time and end_time)"),
        ("[windows]\nlateness = '30h'",
         "windows: lateness 30h must be below minute_retention 26h, and that at most hour_retention 62d"),
        ("web = 3", "web must be a table, [web]"),
        ("budgets = 3", "budgets = 3 is not accepted; give a list of [[budgets]] tables"),
        ("[schemas]\nfiles = { x = 'a.avsc' }",
         "schemas: files has the key 'x'; give a schema id, a whole number below 2**32"),
        ("[broker]\nservers = ['h:0']",
         "broker.servers = ['h:0'] is not accepted: a broker is host:port; give a list of brokers, such as "
         '["kafka-1:9092", "kafka-2:9092"]'),
        ("[broker]\nservers = ['h:1']\nsecurity_protocol = 'SASL_SSL'",
         "broker: security_protocol 'SASL_SSL' needs sasl_username and sasl_password; give both"),
        ("[[receivers]]\ntype = 'slack'\nurl = '${NOT_SET_ANYWHERE}'",
         "receivers[0].url = '${NOT_SET_ANYWHERE}': the environment variable NOT_SET_ANYWHERE is not set; set it"),
    ],
)  # fmt: skip
def test_problem_texts(tmp_path, text, expected):
    assert problems(tmp_path, text) == [expected]


def test_missing_schema_file_is_named(tmp_path):
    (found,) = problems(tmp_path, "[schemas]\nfiles = { '7' = 'gone.avsc' }")
    name = tmp_path / "gone.avsc"
    assert found == f"schemas.files.7 = '{name}' is not a file; give the path of one, counted from the settings file"


def test_writer_schemas_count_from_the_file(tmp_path, monkeypatch):
    (tmp_path / "v1.avsc").write_text('{"type": "string"}')
    settings = load(tmp_path, "[schemas]\nfiles = { '7' = 'v1.avsc' }")
    monkeypatch.chdir("/")
    assert settings.writer_schemas() == {7: '{"type": "string"}'}


def test_several_problems_at_once_and_the_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TENFOLD_FLUSH__USAGE_INTERVAL", "never")
    monkeypatch.setenv("TENFOLD_WEBB__PORT", "1")
    monkeypatch.setenv("TENFOLD_WEB__PROT", "1")
    (unknown,) = problems(tmp_path, "")
    assert unknown.startswith(
        "the environment variable TENFOLD_WEBB__PORT is not known; after TENFOLD_ give one of attribution, broker"
    )
    monkeypatch.delenv("TENFOLD_WEBB__PORT")
    found = problems(tmp_path, "[web]\nport = -1")
    assert len(found) == 3
    assert found[0].endswith("(from the environment variable TENFOLD_FLUSH__USAGE_INTERVAL)")
    assert any("web.prot is not a known key; did you mean port?" in line for line in found)
    assert "web.port = -1 is not accepted; give a port from 0 to 65535; 0 takes any free one" in found


def test_variable_that_is_not_json(monkeypatch):
    monkeypatch.setenv("TENFOLD_RECEIVERS", '[{"url": "hunter2secret"')
    with pytest.raises(ConfigError) as raised:
        Settings.load()
    assert str(raised.value) == (
        "1 problem with the settings in the environment:\n"
        "  the environment variable TENFOLD_RECEIVERS is not JSON; give a list or table as JSON"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no such file; give the path of one with --config or TENFOLD_CONFIG"),
        (b"[web", "it is not TOML: "),
        (b"[web]\nport = 1\nport = x", "it is not TOML: Invalid value (at line 3, column 8); strings need quotes"),
        (b"\xff\xfe", "it is not UTF-8 text (byte 0); save it as UTF-8"),
    ],
)
def test_unreadable_files(tmp_path, content, expected):
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        Settings.load(file)
    assert raised.value.problems[0].startswith(expected)


def test_directory_instead_of_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"it cannot be read \(Is a directory\)"):
        Settings.load(tmp_path)


SECRET = "hunter2-do-not-show"


@pytest.mark.parametrize(
    "text",
    [
        "[broker]\nservers = ['kafka://u:{}@h:9092']",
        "[broker]\nsasl_pasword = '{}'",
        "[broker]\nsasl_password = '{}'",
        "[broker]\nsasl_password = ['{}']",
        "[[receivers]]\ntype = 'slack'\nurl = '{}'",
        "[[receivers]]\ntype = 'slack'\nurl = 'ftp://h/{}'",
        "[[receivers]]\ntype = 'pagerduty'\nroutingkey = '{}'",
        "[[receivers]]\ntype = 'pagerduty'\nrouting_key = '{}'\nmin_severity = 'all'",
        '[[receivers]]\ntype = \'webhook\'\nurl = \'http://h\'\nauthorization = """Bearer\n{}"""',
        "[[receivers]]\nurl = 'https://hooks.slack.com/{}'",
        "[[receivers]]\nname = 'https://hooks.slack.com/{}'\ntype = 'slack'",
        "[notify]\nproxy = {{ user = '{}' }}",
        "password = '{}'",
        "[broker]\nsasl_password = '{}",
    ],
)
def test_no_secret_in_any_problem(tmp_path, text):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text.format(SECRET))
    error = raised.value
    assert SECRET not in str(error) and SECRET not in repr(error)
    assert error.__cause__ is None and error.__context__ is None
    own = [line for line in traceback.format_exception(error) if "site-packages" not in line]
    assert SECRET not in "".join(own)


def test_no_secret_in_the_repr(tmp_path):
    settings = load(
        tmp_path,
        f"""
        [broker]
        servers = ["h:1"]
        security_protocol = "SASL_SSL"
        sasl_username = "u"
        sasl_password = "{SECRET}"
        [[receivers]]
        type = "slack"
        url = "https://hooks.slack.com/{SECRET}"
        [[receivers]]
        type = "pagerduty"
        routing_key = "{SECRET}"
        """,
    )
    assert SECRET not in repr(settings) and SECRET not in str(settings.model_dump())
    assert SECRET in settings.secrets() and f"https://hooks.slack.com/{SECRET}" in settings.secrets()
    assert settings.receivers[1].url.get_secret_value() == "https://events.pagerduty.com/v2/enqueue"
    assert settings.budgets == () and isinstance(settings.detectors.unit_price.call_cap_usd, Decimal)


def test_other_servers():
    settings = Settings.load().with_servers("kafka-1, kafka-2:9093")
    assert settings.broker.servers == ("kafka-1:9092", "kafka-2:9093") and not settings.broker.embedded
    for wrong in ("", ",", "a b", "host:99999"):
        with pytest.raises(ConfigError, match="give brokers as host:port,host:port"):
            settings.with_servers(wrong)


def test_transport_gets_every_setting(tmp_path):
    """Each field of the section differs from its default, and none is lost on the way."""
    settings = load(
        tmp_path,
        """
        [broker]
        servers = ["h:1"]
        client_id = "c"
        security_protocol = "SASL_SSL"
        sasl_mechanism = "SCRAM-SHA-512"
        sasl_username = "u"
        sasl_password = "p"
        [transport]
        delivery = "consumer_records"
        group = "g"
        instance_id = "i"
        session_timeout = "50s"
        heartbeat_interval = "2s"
        rebalance_timeout = "70s"
        fetch_max_wait = "30ms"
        max_partition_fetch_bytes = 65536
        """,
    )
    transport = settings.transport_settings()
    section = type(settings.transport)
    for name in section.model_fields:
        given = getattr(settings.transport, name)
        assert given != section.model_fields[name].default
        assert getattr(transport, name, None) == given or getattr(transport, f"{name}_ms") == given
    connection = transport.connection
    assert (connection.servers, connection.client_id, connection.sasl_mechanism) == (("h:1",), "c", "SCRAM-SHA-512")
    assert (connection.sasl_username, connection.sasl_password) == ("u", "p")
    assert connection.security_protocol == "SASL_SSL"
