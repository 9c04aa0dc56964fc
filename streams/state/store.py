"""Checkpoints of a partition's state in a compacted changelog topic.

A checkpoint is the whole state at one ``next_offset``, cut into blocks, then a marker that names the blocks, their
CRC and the epoch. Two slots alternate, so the blocks of the last whole checkpoint are never overwritten by the one
being written: whatever a crash leaves behind, the newest marker still points at whole blocks.

Each new owner of a partition takes the next epoch, claims it in the topic before anything else, and writes under
keys of its own. So a former owner that still writes can only add to its own epoch, which readers pass over once a
newer one has a marker. The newer owner deletes the older epochs' keys after its first checkpoint.

Keys: ``PARTITION/EPOCH/claim``, ``PARTITION/EPOCH/SLOT/BLOCK`` and ``PARTITION/EPOCH/marker``. One state topic
partition per input partition. What else lies in the topic is named in the log and passed over.
Cost: the whole state per checkpoint; restore reads what compaction has left of one topic partition.
Needs neither transactions nor an idempotent producer. Called by streams.agents.
"""

import json
import time
import zlib
from dataclasses import dataclass, field

import structlog

from streams.follow import read_all
from streams.state import codec, faults

log = structlog.get_logger()

CLAIM, MARKER = "claim", "marker"
BLOCK_BYTES = 512 * 1024
"""Below every broker's default message limit of 1 MiB."""


@dataclass(slots=True)
class _Scan:
    """What is left of one topic partition."""

    blocks: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    markers: dict[int, dict] = field(default_factory=dict)
    keys: set[bytes] = field(default_factory=set)
    top_epoch: int = 0


class StateStore:
    """Reads and writes the checkpoints of one kind of state (``usage-state``, ``rollup-state``)."""

    def __init__(self, topic: str, producer, client_settings: dict):
        self.topic = topic
        self._producer = producer
        self._client_settings = client_settings
        self._epochs: dict[int, int] = {}
        self._slots: dict[int, int] = {}
        self._stale: dict[int, set[bytes]] = {}

    async def load(self, partition: int) -> dict | None:
        """The newest whole checkpoint, or None; takes the next epoch for this owner.

        Raises StateError for a state written in another format.
        """
        started = time.monotonic()
        scan = await self._read(partition)
        epoch = scan.top_epoch + 1
        # An owner without input saves nothing for hours; without a claim its successor would take the same epoch.
        await self._producer.send(self.topic, f"{partition}/{epoch}/{CLAIM}".encode(), b"{}", partition=partition)
        await self._producer.flush()
        self._epochs[partition] = epoch
        self._slots[partition] = 0
        self._stale[partition] = scan.keys
        for epoch in sorted(scan.markers, reverse=True):
            raw = _assemble(scan, epoch)
            if raw is None:
                log.warning("checkpoint_torn", topic=self.topic, partition=partition, epoch=epoch)
                continue
            state = codec.decode(raw)
            log.info(
                "state_restored",
                topic=self.topic,
                partition=partition,
                epoch=epoch,
                next_offset=scan.markers[epoch]["next_offset"],
                bytes=len(raw),
                seconds=round(time.monotonic() - started, 3),
            )
            return state
        return None

    async def save(self, partition: int, next_offset: int, state: dict) -> int:
        """Write a checkpoint and wait until the broker has it all; returns its size in bytes.

        Raises what the producer raises: then the last whole checkpoint still stands.
        """
        epoch = self._epochs[partition]
        slot = self._slots[partition]
        faults.point("taken")
        raw = codec.encode(state)
        blocks = [raw[at : at + BLOCK_BYTES] for at in range(0, len(raw), BLOCK_BYTES)]
        for number, block in enumerate(blocks):
            await self._producer.send(
                self.topic, f"{partition}/{epoch}/{slot}/{number}".encode(), block, partition=partition
            )
            faults.point("block")
        await self._producer.flush()
        faults.point("blocks")
        marker = {"next_offset": next_offset, "slot": slot, "blocks": len(blocks), "crc": zlib.crc32(raw)}
        await self._producer.send(
            self.topic, f"{partition}/{epoch}/{MARKER}".encode(), json.dumps(marker).encode(), partition=partition
        )
        faults.point("marker")
        await self._producer.flush()
        faults.point("done")
        self._slots[partition] = 1 - slot
        for key in self._stale.pop(partition, ()):
            await self._producer.send(self.topic, key, None, partition=partition)
        return len(raw)

    async def _read(self, partition: int) -> _Scan:
        scan = _Scan()
        for record in await read_all(self._client_settings, self.topic, [partition]):
            try:
                _take(scan, record.key, record.value)
            except (ValueError, AttributeError, KeyError, TypeError) as error:
                log.warning(
                    "state_record_unreadable",
                    topic=self.topic,
                    partition=partition,
                    offset=record.offset,
                    error=repr(error),
                )
        return scan


def _take(scan: _Scan, key: bytes, value: bytes | None) -> None:
    """Add a record to what is known; raises if it is none that ``save`` wrote."""
    _, epoch_text, *rest = key.decode().split("/")
    epoch = int(epoch_text)
    if rest == [MARKER]:
        if value is None:
            scan.markers.pop(epoch, None)
        else:
            marker = json.loads(value)
            scan.markers[epoch] = {name: int(marker[name]) for name in ("next_offset", "slot", "blocks", "crc")}
    elif rest != [CLAIM]:
        slot, number = map(int, rest)
        if value is None:
            scan.blocks.pop((epoch, slot, number), None)
        else:
            scan.blocks[(epoch, slot, number)] = value
    scan.top_epoch = max(scan.top_epoch, epoch)
    (scan.keys.discard if value is None else scan.keys.add)(key)


def _assemble(scan: _Scan, epoch: int) -> bytes | None:
    """The bytes that the epoch's marker names, or None if they are not all there as they were written."""
    marker = scan.markers[epoch]
    blocks = [scan.blocks.get((epoch, marker["slot"], number)) for number in range(marker["blocks"])]
    if any(block is None for block in blocks):
        return None
    raw = b"".join(blocks)
    return raw if zlib.crc32(raw) == marker["crc"] else None
