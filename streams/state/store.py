"""Checkpoints of a partition's state in a compacted changelog topic: written in the background, restored by its owner.

Guarantee: when ``save`` returns, the broker has the checkpoint whole, and from then on ``load`` finds this one or a
later one, whatever crashes. How that is so is in streams.state.chain. Needs neither transactions nor an idempotent
producer. One state topic partition per input partition.

Cost of a checkpoint: the rows changed since the last and a sixteenth of all; encoding and compressing them runs in a
thread of low priority, so that on a busy core it takes what events leave over. The topic holds SLOTS checkpoints and
what compaction has not reached yet. Called by streams.agents and streams.state.admin.
"""

import asyncio
import os
import secrets
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from models.rolling import EVERYTHING, SLICES
from streams.follow import read
from streams.state import codec, faults
from streams.state.chain import (
    SLOTS,
    Marker,
    Run,
    Scan,
    block_key,
    blocks_in,
    claim_key,
    epoch_number,
    newest_run,
    records_of,
)

log = structlog.get_logger()

PROGRESS_SECONDS = 1.0
FETCH_BYTES = 16 << 20
LOW_PRIORITY = 19
"""As nice(1) counts: the lowest."""


@dataclass(slots=True)
class _Chain:
    """Where the checkpoints of one partition have got to."""

    epoch: str
    seq: int = 0
    """Of the next one."""
    previous: str | None = None
    """Epoch of ``seq - 1`` if the next one may build on it."""
    own: int = 0
    """Checkpoints of this epoch in a row."""
    blocks: dict[int, int] = field(default_factory=dict)
    """How many there are under each slot of this epoch."""
    stale: set[bytes] = field(default_factory=set)
    """Keys of older epochs."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One checkpoint in the making."""

    partition: int
    slice_number: int
    """For the engine's ``take_delta``."""
    epoch: str
    seq: int
    previous: str | None


class StateStore:
    """Reads and writes the checkpoints of one kind of state (``usage-state``, ``rollup-state``)."""

    def __init__(self, topic: str, producer, client_settings: dict, *, state_version: int):
        """``producer`` need not compress: blocks are compressed, and doing it again would hold the event loop up."""
        self.topic = topic
        self._producer = producer
        self._client_settings = client_settings
        self._state_version = state_version
        self._chains: dict[int, _Chain] = {}

    async def load(self, partition: int, on_bytes: Callable[[int], None] = lambda _: None) -> Run | None:
        """The newest whole state, or None; takes the next epoch for this owner.

        Calls ``on_bytes`` with how many more have been read. Raises StateError for another version's state.
        """
        started = time.monotonic()
        scan = await read_scan(self._client_settings, self.topic, partition, on_bytes)
        run, passed_over = await asyncio.to_thread(newest_run, scan)
        for marker in passed_over:
            log.warning("checkpoint_torn", topic=self.topic, partition=partition, epoch=marker.epoch, seq=marker.seq)
        if run is not None and run.newest.state_version != self._state_version:
            raise scan.refuse(f"version {run.newest.state_version}", self._state_version)
        chain = _Chain(f"{scan.top_epoch + 1}-{secrets.token_hex(4)}", stale=set(scan.values))
        # An owner without input saves nothing for hours; without a claim its successor would take as high an epoch.
        await self._send(partition, claim_key(partition, chain.epoch), b"{}")
        await self._producer.flush()
        self._chains[partition] = chain
        if run is None:
            return None
        newest = run.newest
        chain.seq, chain.previous = newest.seq + 1, newest.epoch
        log.info(
            "state_read",
            topic=self.topic,
            partition=partition,
            epoch=newest.epoch,
            seq=newest.seq,
            next_offset=newest.next_offset,
            rows=newest.rows,
            bytes=run.size_bytes,
            bytes_read=scan.read_bytes,
            seconds=round(time.monotonic() - started, 3),
        )
        return run

    def forget(self, partition: int) -> None:
        """The partition has gone: its next ``load`` takes a new epoch."""
        self._chains.pop(partition, None)

    def epoch(self, partition: int) -> int:
        """The number of this owner's epoch: higher than that of any owner before it."""
        return epoch_number(self._chains[partition].epoch)

    def begin(self, partition: int) -> Ticket:
        """Start a checkpoint: take the engine's delta of ``slice_number`` next. One at a time per partition.

        A checkpoint that was begun and not saved is lost, and the delta with it: the next one holds everything.
        """
        chain = self._chains[partition]
        slice_number = EVERYTHING if chain.previous is None else chain.seq % SLICES
        ticket = Ticket(partition, slice_number, chain.epoch, chain.seq, chain.previous)
        chain.seq, chain.previous = chain.seq + 1, None
        return ticket

    async def save(self, ticket: Ticket, next_offset: int, rows: int, delta: dict) -> int:
        """Write what was taken and wait until the broker has it all; returns its size in bytes.

        What the checkpoint covers must have been stored before. Raises what the producer raises: then the last whole
        checkpoint still stands.
        """
        faults.point("taken")
        raw, crc = await asyncio.get_running_loop().run_in_executor(_encoding, _encode, delta)
        marker = Marker(
            epoch=ticket.epoch,
            seq=ticket.seq,
            previous=ticket.previous,
            next_offset=next_offset,
            state_version=self._state_version,
            rows=rows,
            size_bytes=len(raw),
            blocks=blocks_in(len(raw)),
            crc=crc,
            written_ms=time.time_ns() // 1_000_000,
        )
        *blocks, last = records_of(ticket.partition, marker, raw)
        for key, value in blocks:
            await self._send(ticket.partition, key, value)
            faults.point("block")
        await self._producer.flush()
        faults.point("blocks")
        await self._send(ticket.partition, *last)
        faults.point("marker")
        await self._producer.flush()
        faults.point("done")
        await self._saved(ticket, marker)
        return len(raw)

    async def _saved(self, ticket: Ticket, marker: Marker) -> None:
        """The next one may build on this one; delete what nobody needs any more."""
        chain = self._chains.get(ticket.partition)
        if chain is None or chain.epoch != ticket.epoch:
            return
        if chain.seq == ticket.seq + 1:
            chain.previous = ticket.epoch
        for block in range(marker.blocks, chain.blocks.get(marker.slot, 0)):
            await self._send(ticket.partition, block_key(ticket.partition, marker.epoch, marker.slot, block), None)
        chain.blocks[marker.slot] = marker.blocks
        chain.own = 1 if ticket.previous != ticket.epoch else chain.own + 1
        # Not at SLICES already: a former owner would take away what its successor still builds on.
        if chain.own >= SLOTS:
            stale, chain.stale = chain.stale, set()
            for key in stale:
                await self._send(ticket.partition, key, None)

    async def _send(self, partition: int, key: bytes, value: bytes | None) -> None:
        await self._producer.send(self.topic, key, value, partition=partition)


def _lower_priority() -> None:
    """Of the calling thread alone: on Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


_encoding = ThreadPoolExecutor(1, "checkpoint", _lower_priority)


def _encode(delta: dict) -> tuple[bytes, int]:
    raw = codec.encode(delta)
    return raw, zlib.crc32(raw)


async def read_scan(
    client_settings: dict,
    topic: str,
    partition: int,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Scan:
    """Everything that is left of one partition of a state topic."""
    scan = Scan(topic, partition)
    reported, report_at = 0, time.monotonic() + PROGRESS_SECONDS
    records: AsyncIterator = read(client_settings, topic, [partition], fetch_bytes=FETCH_BYTES)
    async for record in records:
        try:
            scan.take(record.key, record.value)
        except ValueError as error:
            log.warning(
                "state_record_unreadable", topic=topic, partition=partition, offset=record.offset, error=str(error)
            )
        if time.monotonic() >= report_at:
            log.info("state_reading", topic=topic, partition=partition, bytes=scan.read_bytes)
            on_bytes(scan.read_bytes - reported)
            reported, report_at = scan.read_bytes, time.monotonic() + PROGRESS_SECONDS
    on_bytes(scan.read_bytes - reported)
    return scan
