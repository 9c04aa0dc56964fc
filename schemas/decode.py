"""Decodes a batch of usage events into columns, whatever schema each was written with.

Guarantees: one row per value, in order; a value that cannot be counted gets a reason and never stops the others;
no input reads outside its own span, loops for ever or raises. Costs some 0.12 us per event of 200 bytes and 8 us
per batch, without a Python object per event, and a millisecond per schema met for the first time. Called by the
usage agent and by replay, one thread at a time per Decoder.

A value is one of
- plain Avro binary of the default writer schema, whose first field must be event_id: since it may not be empty,
  such a value begins with neither of the marks below;
- Confluent-framed: byte 0, schema id (4 bytes, big-endian), Avro binary;
- Avro single-object encoding: bytes C3 01, fingerprint (8 bytes, little-endian CRC-64-AVRO), Avro binary; the
  schema must be the default one, one of ``schemas`` or one that was met under its id before.
"""

import io
from collections.abc import Callable, Mapping
from functools import cache

import fastavro
import numpy as np

from schemas.codec import schema_text
from schemas.columns import Columns
from schemas.hashing import secrets
from schemas.kernels import CONFLUENT_BYTES, FINGERPRINT_BIT, MAX_DEPTH, UNKNOWN_SCHEMA, decode_rows
from schemas.program import Program, SchemaError, compile_program

MAX_SCHEMAS = 256
"""Programs of one decoder, at most 64 MiB; further ids stay unknown. A topic sees a handful in its life."""
MAX_FETCHES_PER_BATCH = 4
"""``fetch_schema`` blocks: of the unknown ids in a batch, only the most frequent are asked for."""
MAX_FAILURES = 1024
"""Ids remembered as failed; the oldest is forgotten first."""
RETRY_AFTER_BATCHES = 1000
"""A failed id is asked for again after this many batches: its schema may have been registered by then."""


class Decoder:
    """Programs by schema, and the failures to get one.

    writer_schema   of values without a frame; the bundled usage_event if not given
    schemas         known schemas by Confluent id
    fetch_schema    asked once for an unknown id; None if there is no such schema. What it raises passes through
                    ``decode``, which changed nothing then and can be called again.

    Raises SchemaError if one of the schemas given cannot be read as usage events.
    """

    def __init__(
        self,
        hash_key: int,
        *,
        writer_schema: str | dict | None = None,
        schemas: Mapping[int, str | dict] | None = None,
        fetch_schema: Callable[[int], str | None] | None = None,
    ):
        self._secrets = secrets(hash_key)
        self._fetch_schema = fetch_schema
        self._batches = 0
        self._failures: dict[int, tuple[int, str]] = {}
        self._frames = np.zeros((MAX_DEPTH, 2), np.int64)
        self._entry_of: dict[int, int] = {}
        self._ids: set[int] = set()
        self._code = np.zeros(0, np.int32)
        self._plain = self._add(compile_program(schema_text("usage_event")))
        if writer_schema is not None:
            plain = compile_program(writer_schema)
            if not plain.unframed:
                raise SchemaError("event_id: must come first in values without a frame, as string or as [null, string]")
            self._plain = self._add(plain)
        for schema_id, schema in (schemas or {}).items():
            if not 0 <= schema_id < 1 << 32:
                raise SchemaError(f"schema id {schema_id} is not a 32-bit number")
            try:
                self._add(compile_program(schema), schema_id)
            except SchemaError as error:
                raise SchemaError(f"schema {schema_id}: {error}") from error

    @property
    def failures(self) -> dict[int, str]:
        """Why each remembered id has no program; for logs."""
        return {schema_id: message for schema_id, (_, message) in self._failures.items()}

    def decode(
        self, payload: np.ndarray, value_start: np.ndarray, value_end: np.ndarray, offset: np.ndarray
    ) -> Columns:
        """The columns of n values.

        payload uint8[bytes] contiguous, below 2 GiB, borrowed by the result; value_start, value_end int64[n] spans
        in it, end < start for a null value; offset int64[n]. Raises ValueError if these do not hold.
        """
        if payload.dtype != np.uint8 or payload.ndim != 1 or not payload.flags.c_contiguous:
            raise ValueError("payload must be a contiguous uint8 array")
        if len(payload) >= 1 << 31:
            raise ValueError(f"payload of {len(payload)} bytes; spans are 32-bit")
        value_start = np.ascontiguousarray(value_start, np.int64)
        value_end = np.ascontiguousarray(value_end, np.int64)
        if not value_start.shape == value_end.shape == offset.shape == (len(value_start),):
            raise ValueError("value_start, value_end and offset must be one-dimensional and of one length")
        columns = Columns.empty(len(value_start), payload)
        columns.offset[:] = offset
        self._batches += 1
        unknown = self._run(columns, value_start, value_end, 0)
        if unknown and self._learn(columns, value_start, value_end):
            self._run(columns, value_start, value_end, UNKNOWN_SCHEMA)
        return columns

    def _run(self, columns: Columns, value_start: np.ndarray, value_end: np.ndarray, selected: int) -> int:
        unknown = decode_rows(
            columns.payload.ctypes.data,
            len(columns.payload),
            value_start,
            value_end,
            selected,
            self._plain,
            self._keys,
            self._entries,
            self._code,
            *self._secrets,
            self._frames,
            columns.status,
            columns.event_time_ms,
            columns.kind,
            columns.tokens,
            columns.quantity,
            columns.reported_nano_usd,
            columns.hash,
            columns.start,
            columns.length,
            columns.tags_start,
            columns.tags_length,
        )
        if unknown < 0:
            raise ValueError(f"a value's span is not within the payload of {len(columns.payload)} bytes")
        return unknown

    def _learn(self, columns: Columns, value_start: np.ndarray, value_end: np.ndarray) -> bool:
        """Fetch schemas that rows of this batch lack; whether any is known now that was not."""
        if self._fetch_schema is None:
            return False
        rows = np.flatnonzero(columns.status == UNKNOWN_SCHEMA)
        at = value_start[rows]
        at = at[columns.payload[at] == 0]
        heads = columns.payload[at[:, None] + np.arange(1, CONFLUENT_BYTES)]
        ids, counts = np.unique(np.ascontiguousarray(heads).view(">u4").ravel(), return_counts=True)
        learnt = False
        fetches = 0
        for schema_id in ids[np.argsort(-counts, kind="stable")].tolist():
            if fetches == MAX_FETCHES_PER_BATCH or len(self._ids) >= MAX_SCHEMAS:
                break
            failed_at, _ = self._failures.get(schema_id, (None, ""))
            if failed_at is not None and self._batches - failed_at < RETRY_AFTER_BATCHES:
                continue
            fetches += 1
            learnt |= self._fetch(schema_id)
        return learnt

    def _fetch(self, schema_id: int) -> bool:
        schema = self._fetch_schema(schema_id)
        try:
            if schema is None:
                raise SchemaError("no such schema")
            self._add(compile_program(schema), schema_id)
        except SchemaError as error:
            self._failures.pop(schema_id, None)
            self._failures[schema_id] = (self._batches, str(error))
            if len(self._failures) > MAX_FAILURES:
                del self._failures[next(iter(self._failures))]
            return False
        self._failures.pop(schema_id, None)
        return True

    def _add(self, program: Program, schema_id: int | None = None) -> int:
        """Append a program and index it by fingerprint and id; returns its first word."""
        fingerprint = int.from_bytes(program.fingerprint, "little") | int(FINGERPRINT_BIT)
        entry = len(self._code)
        self._code = np.concatenate([self._code, program.code])
        self._entry_of[fingerprint] = entry
        if schema_id is not None:
            self._ids.add(schema_id)
            self._entry_of[schema_id] = entry
        self._keys = np.array(sorted(self._entry_of), np.uint64)
        self._entries = np.array([self._entry_of[key] for key in sorted(self._entry_of)], np.int64)
        return entry


def tags(columns: Columns, row: int) -> dict[str, str]:
    """The tags of one row whose status is OK; some microseconds."""
    start = int(columns.tags_start[row])
    length = int(columns.tags_length[row])
    if length == 0:
        return {}
    encoded = columns.payload[start : start + length].tobytes()
    return fastavro.schemaless_reader(io.BytesIO(encoded), _tags_schema(), None)


@cache
def _tags_schema() -> dict:
    return fastavro.parse_schema({"type": "map", "values": "string"})
