"""The versions of Faust, mode and aiokafka whose internals this package was tested with.

Their private names move without notice, so an untested version stops the start instead of losing records.
"""

from importlib.metadata import version

from streams.errors import ConfigError

TESTED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

_RAW_SPANS_NEEDS = "aiokafka"


def check_versions(delivery: str, *, allow_untested: bool = False) -> None:
    """Raise ConfigError, naming what to install or set, if a version is not the tested one.

    ``consumer_records`` needs only what aiokafka documents, so any aiokafka will do for it.
    """
    problems = []
    for name, tested in TESTED.items():
        found = version(name)
        if found == tested or allow_untested or (name == _RAW_SPANS_NEEDS and delivery != "raw_spans"):
            continue
        way_out = (
            'set transport.delivery = "consumer_records", which is slower and does not need its internals'
            if name == _RAW_SPANS_NEEDS
            else "run tests/streams/transport with the new version and extend streams.transport.versions.TESTED"
        )
        problems.append(
            f"{name} {found} is not tested with batch delivery: install {name}=={tested} "
            f"(tested: {', '.join(f'{n} {v}' for n, v in TESTED.items())}), or {way_out}"
        )
    if problems:
        raise ConfigError(problems)


def check_accelerator() -> None:
    """Raise ConfigError if Faust runs without its compiled stream iterator.

    The pure-Python one acknowledges stale messages that it skips (faust/streams.py), which would commit them.
    """
    from faust import streams

    if getattr(streams, "_CStreamIterator", None) is None:
        raise ConfigError(
            "Faust runs without its compiled stream iterator, which acknowledges records that were not processed; "
            "unset NO_CYTHON, and install faust-streaming from a wheel for this Python and machine"
        )
