"""Which checkpoints of a partition stand, from the records that are left: no I/O, so that any crash can be played out.

A checkpoint is a rolling delta (models.rolling), encoded and cut into blocks, and then a marker. The marker says how
many blocks and which CRC make it whole, where the input goes on (``next_offset``), and which checkpoint it builds on:
number ``seq - 1`` of the epoch ``previous``, or none if it holds everything. A run of SLICES whole checkpoints, or
one that begins with a checkpoint of everything, is the state.

``newest_run`` takes the newest checkpoint that has such a run behind it. Whatever is torn (blocks without a marker, a
marker whose blocks are missing or replaced) has none, and neither has what was built on it.

Epochs. Each owner of a partition writes under an epoch of its own: one more than the highest it has seen, claimed
before anything else, and a random word, so that no two owners ever write the same key. Higher epochs win, so what a
former owner still writes is passed over. A new epoch at first builds on the older one, and a former owner overwrites
what that rests on only with its SLOTS - SLICES + 1st checkpoint after it was replaced. Even then no answer is wrong:
what is left is a true, older state, from which the input is read again.

Keys are ``PARTITION/EPOCH/claim``, ``PARTITION/EPOCH/SLOT/BLOCK`` and ``PARTITION/EPOCH/SLOT/marker``, where SLOT is
seq % SLOTS. So compaction keeps the newest SLOTS checkpoints of an owner and nothing else, and no checkpoint ever
overwrites one that its predecessor needs.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from models.rolling import SLICES
from streams.state import codec
from streams.state.codec import RESET, StateError

FORMAT = 2
"""Of keys and markers. Format 1 wrote the whole state each time, under PARTITION/EPOCH/marker."""
SLOTS = SLICES + 8
BLOCK_BYTES = 512 * 1024
"""Below every broker's default message limit of 1 MiB."""
CLAIM, MARKER = "claim", "marker"


@dataclass(frozen=True, slots=True)
class Marker:
    """The last record of a checkpoint."""

    epoch: str
    seq: int
    previous: str | None
    next_offset: int
    state_version: int
    """Of what is inside, as the engine numbers it."""
    rows: int
    """Of the whole state."""
    size_bytes: int
    blocks: int
    crc: int
    written_ms: int
    format: int = FORMAT

    @property
    def slot(self) -> int:
        return self.seq % SLOTS

    @property
    def number(self) -> tuple[int, int, str]:
        """Newer is greater."""
        return epoch_number(self.epoch), self.seq, self.epoch


def epoch_number(epoch: str) -> int:
    return int(epoch.partition("-")[0])


def block_key(partition: int, epoch: str, slot: int, block: int) -> bytes:
    return f"{partition}/{epoch}/{slot}/{block}".encode()


def marker_key(partition: int, epoch: str, slot: int) -> bytes:
    return f"{partition}/{epoch}/{slot}/{MARKER}".encode()


def claim_key(partition: int, epoch: str) -> bytes:
    return f"{partition}/{epoch}/{CLAIM}".encode()


def records_of(partition: int, marker: Marker, raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of every record of a checkpoint, in the order they must be stored."""
    for block in range(marker.blocks):
        at = block * BLOCK_BYTES
        yield block_key(partition, marker.epoch, marker.slot, block), raw[at : at + BLOCK_BYTES]
    yield marker_key(partition, marker.epoch, marker.slot), json.dumps(asdict(marker)).encode()


def blocks_in(size: int) -> int:
    return -(-size // BLOCK_BYTES)


@dataclass(slots=True)
class Scan:
    """The newest value of each key of one partition; ``take`` records in the order of their offsets."""

    topic: str
    partition: int
    values: dict[bytes, bytes] = field(default_factory=dict)
    markers: dict[tuple[str, int], Marker] = field(default_factory=dict)
    """By epoch and slot."""
    top_epoch: int = 0
    read_bytes: int = 0
    """Of all records taken."""
    other_formats: dict[tuple[str, int | None], int] = field(default_factory=dict)
    """Of markers that another version wrote, by epoch and slot."""

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Raises ValueError for what nothing of ours wrote."""
        self.read_bytes += len(value or b"")
        try:
            _, epoch, *rest = (key or b"").decode().split("/")
            number = epoch_number(epoch)
            at = int(rest[0]) if len(rest) == 2 else None
            if rest[-1] == MARKER:
                self._take_marker((epoch, at), None if value is None else json.loads(value))
            elif rest[-1] != CLAIM:
                int(rest[-1])
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a record of a checkpoint: {error!r}") from error
        self.top_epoch = max(self.top_epoch, number)
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    def _take_marker(self, place: tuple[str, int | None], found: dict | None) -> None:
        self.markers.pop(place, None)
        self.other_formats.pop(place, None)
        if found is None:
            return
        written = found.get("format", 1)
        if written != FORMAT:
            self.other_formats[place] = int(written)
            return
        marker = Marker(**found)
        if (marker.epoch, marker.slot) != place:
            raise ValueError("a marker under another key")
        self.markers[place] = marker

    def refuse(self, found: str, reads: int) -> StateError:
        """The error for state that another version wrote."""
        return StateError(
            f"the state in {self.topic}[{self.partition}] has {found}, this program reads {reads}: run the version "
            f"that wrote it, or {RESET} to forget it and count the input anew from its beginning"
        )

    def whole(self, marker: Marker) -> bytes | None:
        """The checkpoint's bytes, or None if they are not all there as they were written."""
        keys = [block_key(self.partition, marker.epoch, marker.slot, block) for block in range(marker.blocks)]
        blocks = [self.values.get(key) for key in keys]
        if None in blocks:
            return None
        raw = b"".join(blocks)
        return raw if len(raw) == marker.size_bytes and zlib.crc32(raw) == marker.crc else None


@dataclass(frozen=True, slots=True)
class Run:
    """Checkpoints that together are a state, oldest first."""

    markers: list[Marker]
    raw: list[bytes]

    @property
    def newest(self) -> Marker:
        return self.markers[-1]

    @property
    def size_bytes(self) -> int:
        return sum(marker.size_bytes for marker in self.markers)

    def deltas(self) -> Iterator[dict]:
        """What the engine's ``restore`` takes; decoded one by one, each once: the bytes are let go of."""
        while self.raw:
            yield codec.decode(self.raw.pop(0))


def newest_run(scan: Scan) -> tuple[Run | None, list[Marker]]:
    """The newest state, and the newer checkpoints that were passed over because they are torn.

    Raises StateError if there are checkpoints of another format: which of them are newer cannot be told.
    """
    if scan.other_formats:
        raise scan.refuse(f"format {min(scan.other_formats.values())}", FORMAT)
    known = {(marker.epoch, marker.seq): marker for marker in scan.markers.values()}
    whole: dict[Marker, bytes | None] = {}
    passed_over = []
    for head in sorted(known.values(), key=lambda marker: marker.number, reverse=True):
        run = _run_to(head, known, scan, whole)
        if run is not None:
            return run, passed_over
        passed_over.append(head)
    return None, passed_over


def _run_to(
    head: Marker, known: dict[tuple[str, int], Marker], scan: Scan, whole: dict[Marker, bytes | None]
) -> Run | None:
    markers: list[Marker] = []
    marker: Marker | None = head
    while marker is not None:
        if marker not in whole:
            whole[marker] = scan.whole(marker)
        if whole[marker] is None:
            return None
        markers.append(marker)
        if marker.previous is None or len(markers) == SLICES:
            markers.reverse()
            return Run(markers, [whole[marker] for marker in markers])
        marker = known.get((marker.previous, marker.seq - 1))
    return None
