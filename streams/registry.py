"""Writers' schemas from a Confluent-compatible schema registry, for events framed with an id not in the settings.

Asked once per id (the decoder remembers failures too, and bounds how many ids it takes), with a short time limit:
the stream waits for the answer. A registry that is down makes events with new ids unknown_schema; they leave whole
on the rejected topic and can be sent again.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import structlog

from streams.config_sections import SchemaSettings

log = structlog.get_logger()

TIMEOUT_SECONDS = 2.0


def schema_fetcher(settings: SchemaSettings) -> Callable[[int], str | None] | None:
    """Function from schema id to schema text, or None where no registry is configured."""
    if settings.registry_url is None:
        return None
    base = settings.registry_url.get_secret_value().rstrip("/")

    def fetch(schema_id: int) -> str | None:
        try:
            with urllib.request.urlopen(f"{base}/schemas/ids/{schema_id}", timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)["schema"]
        except (urllib.error.URLError, TimeoutError, ValueError, KeyError) as error:
            log.warning("schema_not_fetched", schema_id=schema_id, error=str(error))
            return None

    return fetch
