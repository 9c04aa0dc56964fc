"""The Kafka Streams contender: a small Java program, built by Maven once and kept in the user's cache."""

from importlib import resources

from schemas.codec import schema_text
from streams.broker.kafka import missing_tools
from streams.broker.maven import cache_folder, make_jars


def lacking() -> str:
    """What this machine lacks to run it, as a sentence; "" if nothing."""
    return missing_tools()


def command(bootstrap: str, topic: str, _partitions: int, events: int) -> list[str]:
    """The command that runs it; builds it first where that has not been done. Raises ConfigError."""
    here = resources.files(__package__)
    sources = [here / "pom.xml", here / "Sum.java"]
    folder = cache_folder("bench-kafka-streams", sources)
    if not folder.exists():
        make_jars("Kafka Streams", sources, folder, build=True)
    schema = folder / "usage_event.avsc"
    schema.write_text(schema_text("usage_event"))
    return ["java", "-Xmx1g", "-cp", f"{folder}/*", "Sum", bootstrap, topic, str(events), str(schema)]
