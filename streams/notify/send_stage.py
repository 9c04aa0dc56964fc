"""One POST and its verdict. Never raises but for cancellation."""

import aiohttp

from streams.log import redact
from streams.notify.clock import Clock
from streams.notify.receiver import Delivered, Failed, Outcome, Receiver, Request, Retry
from streams.notify.retry_stage import parse_retry_after

BODY_BYTES = 65_536
"""Slack answers with the whole message."""


async def send(
    session: aiohttp.ClientSession, receiver: Receiver, request: Request, clock: Clock, proxy: str | None = None
) -> Outcome:
    """POST ``request``; anything short of an answer is a Retry.

    A good status line counts even if the body then breaks off: the destination has the finding, and asking
    again would only repeat it. Redirects are not followed, since that would turn the POST into a GET.
    """
    try:
        async with session.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False, proxy=proxy
        ) as response:
            body = ""
            try:
                body = (await response.content.read(BODY_BYTES)).decode("utf-8", "replace")
            except (aiohttp.ClientError, TimeoutError, OSError):
                if 200 <= response.status < 300:
                    return Delivered()
            after = parse_retry_after(response.headers.get("Retry-After"), clock.now_ms())
            return receiver.classify(response.status, redact(body), after)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Retry(redact(f"{type(error).__name__}: {error}".rstrip(": ")))
    except ValueError as error:
        # Not a request at all: an address or a header that no HTTP client can send.
        return Failed(redact(f"{type(error).__name__}: {error}"))
