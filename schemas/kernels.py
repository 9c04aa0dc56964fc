"""The kernel that runs decoding programs (schemas.program) over the values of one batch.

Guarantees: every read lies within the value's own span; whatever the bytes are, a row ends with a status after
work linear in the value's length; a wrong form (truncated, bad_*, too_deep) is reported before a wrong value
(missing_identity, bad_event_time, out_of_range). Stricter than most readers where two readings would be possible:
varints must fit 64 bits, indexes and lengths must not be negative, a block's byte size must be right.

Cost: about 115 ns per event of 31 fields and 200 bytes (tests/schemas/bench_decode.py measures it), linear in the
bytes. Called by schemas.decode only, which owns the arrays.
"""

import numpy as np
from numba import njit

from schemas import program as p
from schemas.columns import MAX_COST_NANO_USD, MAX_QUANTITY, MAX_TOKENS, REJECT_REASONS, STRINGS
from schemas.hashing import hash_span, load_byte, load_double, load_float, load_u64, valid_utf8

MAX_DEPTH = 64
"""Arrays, maps and records of a skipped field may nest this deep; 1 KiB of stack for the whole batch."""

MIN_EVENT_TIME_MS = 946_684_800_000
MAX_EVENT_TIME_MS = 7_258_118_400_000
"""2000-01-01 and 2200-01-01 UTC; the latter is out."""

NULL_VALUE = REJECT_REASONS.index("null_value")
TRUNCATED = REJECT_REASONS.index("truncated")
TRAILING_BYTES = REJECT_REASONS.index("trailing_bytes")
BAD_VARINT = REJECT_REASONS.index("bad_varint")
BAD_LENGTH = REJECT_REASONS.index("bad_length")
BAD_UTF8 = REJECT_REASONS.index("bad_utf8")
BAD_UNION = REJECT_REASONS.index("bad_union")
BAD_ENUM = REJECT_REASONS.index("bad_enum")
TOO_DEEP = REJECT_REASONS.index("too_deep")
UNKNOWN_SCHEMA = REJECT_REASONS.index("unknown_schema")
MISSING_IDENTITY = REJECT_REASONS.index("missing_identity")
BAD_EVENT_TIME = REJECT_REASONS.index("bad_event_time")
OUT_OF_RANGE = REJECT_REASONS.index("out_of_range")

SOURCE = STRINGS.index("source")
"""event_id and source are the first two string columns: the identity."""

CONFLUENT_BYTES = 5
SINGLE_OBJECT_BYTES = 10
FINGERPRINT_BIT = np.uint64(1 << 63)
"""Set in the key of a fingerprint, never in that of a 32-bit schema id; costs one of its 64 bits."""

(END, STRING, TOKEN, TIME, KIND, COST) = (p.END, p.STRING, p.TOKEN, p.TIME, p.KIND, p.COST)
(QUANTITY_DOUBLE, QUANTITY_FLOAT, QUANTITY_LONG, TAGS) = (p.QUANTITY_DOUBLE, p.QUANTITY_FLOAT, p.QUANTITY_LONG, p.TAGS)
(NO_STRING, NO_TOKEN, NO_KIND, NO_QUANTITY) = (p.NO_STRING, p.NO_TOKEN, p.NO_KIND, p.NO_QUANTITY)
(SKIP_VARINT, SKIP_FIXED, SKIP_BYTES, UNION) = (p.SKIP_VARINT, p.SKIP_FIXED, p.SKIP_BYTES, p.UNION)
(JUMP, CALL, RETURN, LOOP, NEXT, WIDTH) = (p.JUMP, p.CALL, p.RETURN, p.LOOP, p.NEXT, p.WIDTH)


@njit(cache=True, nogil=True)
def read_long_slow(position, end):
    """(value, next position) of a zigzag varint of any size, or (0, -reason)."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while position < end:
        byte = load_byte(position)
        position += 1
        if shift == np.uint64(63) and byte > 1:
            return np.int64(0), np.int64(-BAD_VARINT)
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), position
        shift += np.uint64(7)
    return np.int64(0), np.int64(-TRUNCATED)


@njit(cache=True, nogil=True, forceinline=True)
def read_long(position, end):
    """(value, next position) of a zigzag varint, or (0, -reason)."""
    if position < end:
        byte = load_byte(position)
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), position + 1
    return read_long_slow(position, end)


@njit(cache=True, nogil=True, forceinline=True)
def read_length(position, end):
    """(length, next position) of a string or bytes that ends within the value, or (0, -reason)."""
    if position < end:
        byte = load_byte(position)
        if byte & 0x81 == 0:  # One byte and not negative: where the next field begins is known a little sooner.
            position += 1
            return byte >> 1, position if byte >> 1 <= end - position else np.int64(-TRUNCATED)
    length, position = read_long(position, end)
    if position >= 0:
        if length < 0:
            position = np.int64(-BAD_LENGTH)
        elif length > end - position:
            position = np.int64(-TRUNCATED)
    return length, position


@njit(cache=True, nogil=True)
def read_block(position, end):
    """(items, end of block or -1, next position) at a block's head in an array or map; position is -reason if bad."""
    count, position = read_long(position, end)
    block_end = np.int64(-1)
    if position >= 0 and count < 0:
        count = -count
        size, position = read_long(position, end)
        if position >= 0:
            block_end = position + size
            if size < 0 or count < 0:  # -(-2**63) is itself
                position = np.int64(-BAD_LENGTH)
            elif size > end - position:
                position = np.int64(-TRUNCATED)
    return count, block_end, position


@njit(cache=True, nogil=True)
def read_tags(position, end):
    """Next position behind a map of strings, or -reason; keys and values must be UTF-8."""
    while True:
        count, block_end, position = read_block(position, end)
        if position < 0 or count == 0:
            return position
        for _ in range(count):
            for _ in range(2):
                length, position = read_length(position, end)
                if position < 0:
                    return position
                if not valid_utf8(position, length):
                    return np.int64(-BAD_UTF8)
                position += length
        if block_end >= 0 and position != block_end:
            return np.int64(-BAD_LENGTH)


@njit(cache=True, nogil=True)
def find_schema(position, end, keys, entries):
    """(first word of the program, first byte of the event) of a framed value, or (-1, reason)."""
    if load_byte(position) == 0:
        if end - position < CONFLUENT_BYTES:
            return np.int64(-1), np.int64(TRUNCATED)
        key = np.uint64(0)
        for i in range(1, CONFLUENT_BYTES):
            key = (key << np.uint64(8)) | np.uint64(load_byte(position + i))
        position += CONFLUENT_BYTES
    else:
        if end - position < SINGLE_OBJECT_BYTES:
            return np.int64(-1), np.int64(TRUNCATED)
        key = load_u64(position + 2) | FINGERPRINT_BIT
        position += SINGLE_OBJECT_BYTES
    low = 0
    high = len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < len(keys) and keys[low] == key:
        return np.int64(entries[low]), position
    return np.int64(-1), np.int64(UNKNOWN_SCHEMA)


@njit(cache=True, nogil=True)
def decode_rows(
    address,
    size,
    value_start,
    value_end,
    selected,
    plain,
    keys,
    entries,
    code,
    k0,
    k1,
    k2,
    frames,
    status,
    event_time_ms,
    kind,
    tokens,
    quantity,
    reported_nano_usd,
    hash_,
    start,
    length_,
    tags_start,
    tags_length,
):
    """Decode the rows whose ``status`` is ``selected``; returns how many have an unknown schema, or -1.

    address, size int64: the payload; value_start, value_end int64[n] within it, end < start for a null value;
    -1 says that a span is not within it. plain int64: first word of the program for values without a frame;
    keys uint64[s] ascending and entries int64[s]: programs by schema; code int32[words]; k0, k1, k2: secrets;
    frames int64[MAX_DEPTH, 2]: scratch. The rest are the arrays of Columns, written in place.
    """
    unknown = 0
    for row in range(len(value_start)):
        if status[row] != selected:
            continue
        if value_end[row] < value_start[row]:
            status[row] = NULL_VALUE
            continue
        if value_start[row] < 0 or value_end[row] > size:
            return -1
        position = np.int64(address + value_start[row])
        end = np.int64(address + value_end[row])
        base = np.int64(plain)
        if position < end:
            first = load_byte(position)
            if first == 0 or (first == 0xC3 and end - position > 1 and load_byte(position + 1) == 1):
                base, position = find_schema(position, end, keys, entries)
                if base < 0:
                    status[row] = position
                    if position == UNKNOWN_SCHEMA:
                        unknown += 1
                    continue
        pc = base
        depth = 0
        problem = 0
        # Below, a negative position is the negated reason why the value's form is wrong.
        while True:
            op = code[pc]
            a = np.uint32(code[pc + 1])  # Unsigned: as an index it need not be checked for being negative.
            pc += WIDTH
            if op == STRING:
                length, position = read_length(position, end)
                if position < 0:
                    break
                start[row, a] = position - address
                length_[row, a] = length
                if length == 0:
                    hash_[row, a] = np.uint64(0)
                    if a <= SOURCE and problem == 0:
                        problem = MISSING_IDENTITY
                    continue
                value, high_bits = hash_span(position, length, k0, k1, k2)
                if high_bits != np.uint64(0) and not valid_utf8(position, length):
                    position = np.int64(-BAD_UTF8)
                    break
                hash_[row, a] = value
                position += length
            elif op == TOKEN:
                if position < end and load_byte(position) == 0:  # Most are.
                    tokens[row, a] = 0
                    position += 1
                    continue
                count, position = read_long(position, end)
                if position < 0:
                    break
                tokens[row, a] = count
                if (count < 0 or count > MAX_TOKENS) and problem == 0:
                    problem = OUT_OF_RANGE
            elif op == TIME:
                time, position = read_long(position, end)
                if position < 0:
                    break
                event_time_ms[row] = time
                if (time < MIN_EVENT_TIME_MS or time >= MAX_EVENT_TIME_MS) and problem == 0:
                    problem = BAD_EVENT_TIME
            elif op == KIND:
                symbol, position = read_long(position, end)
                if position < 0:
                    break
                if symbol < 0 or symbol >= a:
                    position = np.int64(-BAD_ENUM)
                    break
                kind[row] = code[pc + symbol]
                pc = base + code[pc - 1]
            elif op == COST:
                cost, position = read_long(position, end)
                if position < 0:
                    break
                reported_nano_usd[row] = cost
                if (cost < 0 or cost > MAX_COST_NANO_USD) and problem == 0:
                    problem = OUT_OF_RANGE
            elif QUANTITY_DOUBLE <= op <= QUANTITY_LONG:
                if op == QUANTITY_LONG:
                    count, position = read_long(position, end)
                    if position < 0:
                        break
                    amount = np.float64(count)
                else:
                    width = 8 if op == QUANTITY_DOUBLE else 4
                    if end - position < width:
                        position = np.int64(-TRUNCATED)
                        break
                    amount = load_double(position) if op == QUANTITY_DOUBLE else load_float(position)
                    position += width
                quantity[row] = amount
                if not 0.0 <= amount <= MAX_QUANTITY and problem == 0:
                    problem = OUT_OF_RANGE
            elif op == TAGS:
                before = position
                position = read_tags(position, end)
                if position < 0:
                    break
                tags_start[row] = before - address
                tags_length[row] = position - before
            elif op == END:
                if position != end:
                    position = np.int64(-TRAILING_BYTES)
                break
            elif op == UNION:
                branch, position = read_long(position, end)
                if position < 0:
                    break
                if branch < 0 or branch >= a or code[pc + branch] < 0:
                    position = np.int64(-BAD_UNION)
                    break
                pc = base + code[pc + branch]
            elif op == JUMP:
                pc = base + a
            elif op == SKIP_VARINT:
                _, position = read_long(position, end)
                if position < 0:
                    break
            elif op == SKIP_BYTES:
                length, position = read_length(position, end)
                if position < 0:
                    break
                position += length
            elif op == SKIP_FIXED:
                if end - position < a:
                    position = np.int64(-TRUNCATED)
                    break
                position += a
            elif op == NEXT:
                # frames: items left in the block, end of the block or -1.
                if frames[depth - 1, 0] > 0:
                    frames[depth - 1, 0] -= 1
                    continue
                if frames[depth - 1, 1] >= 0 and frames[depth - 1, 1] != position:
                    position = np.int64(-BAD_LENGTH)
                    break
                items, block_end, position = read_block(position, end)
                if position < 0:
                    break
                if items == 0:
                    depth -= 1
                    pc = base + a
                    continue
                # Items without bytes are not walked, however many a block claims: 2**60 nulls fit in 10 bytes.
                empty = code[pc - 1]
                frames[depth - 1, 0] = 0 if empty else items - 1
                frames[depth - 1, 1] = block_end
                if empty:
                    pc -= WIDTH
            elif op >= CALL:  # or LOOP
                if depth == MAX_DEPTH:
                    position = np.int64(-TOO_DEEP)
                    break
                frames[depth, 0] = pc if op == CALL else 0
                frames[depth, 1] = -1
                depth += 1
                if op == CALL:
                    pc = base + a
            elif op == RETURN:
                depth -= 1
                pc = frames[depth, 0]
            elif op == NO_STRING:
                hash_[row, a] = np.uint64(0)
                start[row, a] = 0
                length_[row, a] = 0
            elif op == NO_TOKEN:
                tokens[row, a] = code[pc - 1]
            elif op == NO_KIND:
                kind[row] = a
            else:  # NO_QUANTITY
                quantity[row] = 0.0
        status[row] = problem if position >= 0 else -position
    return unknown
