"""Damaged and foreign files: whatever a file holds, reading it ends quickly.

A reader returns blocks that the bytes can hold, or raises `EcdcError`, within 50 ms and 50 MB.
"""

import io
import json
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from absl.testing import absltest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.bitstream import version1_reader
from tests import bitstream_files as files

SECONDS = 0.05  # of processor time
BYTES = 50e6

LIKE = files.header()
WHOLE = [
    files.write(LIKE, files.random_codes(LIKE, 750)),
    files.write(
        files.header(num_samples=320 * 200),
        files.random_codes(LIKE, 200),
        cuts=range(3, 200, 3),
        flushes=range(70),
    ),
    files.segmented_file()[0],
    files.write(files.header(num_codebooks=1, bits=1), files.random_codes(LIKE, 500)[:1] % 2),
    files.meta_file("encodec_24khz", 8, 100_000)[0],
    files.meta_file("encodec_48khz", 2, 200_000)[0],
]


def read_all(data):
    """Read a file in all ways; return the messages of its errors."""
    messages = []
    for recover in (False, True):
        for file in (io.BytesIO(data), files.Pipe(data, 1000)):
            try:
                reader = bitstream.open_reader(file)
                header = reader.header
                held = len(data) * 8 // (header.num_codebooks * header.bits)
                num_frames = 0
                for block in reader.blocks(recover=recover):
                    assert block.codes.dtype == np.int32
                    assert len(block.codes) == header.num_codebooks
                    num_frames += block.codes.shape[1]
                    if not block.is_damaged:
                        assert (block.codes >> header.bits == 0).all()
                        assert header.normalize == (block.scale is not None)
                        held -= block.codes.shape[1]
                assert held >= 0
                if not recover:
                    total = header.num_samples
                    assert total is None or num_frames <= max(header.framing.num_frames(total), 1)
                for warning in reader.warnings:
                    assert "\n" not in warning
                    assert len(warning) < 200
            except bitstream.EcdcError as error:
                messages.append(str(error))
    return messages


class Meter:
    """Reads files and keeps the largest time and memory."""

    def __init__(self):
        self.seconds = self.bytes = 0.0
        for data in WHOLE:  # fills caches
            read_all(data)

    def read(self, data):
        for _ in range(3):  # garbage collection may interfere
            start = time.process_time()
            messages = read_all(data)
            seconds = time.process_time() - start
            if seconds < SECONDS:
                break
        tracemalloc.start()
        read_all(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        for message in messages:
            assert message
            assert "\n" not in message
            assert len(message) < 400
        # The sum of all four ways.
        assert seconds < SECONDS, (seconds, messages)
        assert peak < BYTES, (peak, messages)
        self.seconds, self.bytes = max(self.seconds, seconds), max(self.bytes, peak)


METER = Meter()

JUNK = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(
        [version1_layout.MARKER, version1_layout.MARKER * 50, b"ECDC", b"\xff" * 8, bytes(1000)]
    ),
)
SHARE = st.floats(0, 1)
CHANGE = st.one_of(
    st.tuples(st.just("flip"), SHARE, st.integers(0, 7)),
    st.tuples(st.just("overwrite"), SHARE, JUNK),
    st.tuples(st.just("insert"), SHARE, JUNK),
    st.tuples(st.just("delete"), SHARE, st.integers(1, 2000)),
    st.tuples(st.just("repeat"), SHARE, st.integers(1, 2000)),
    st.tuples(st.just("cut"), SHARE, st.none()),
    st.tuples(st.just("head"), st.integers(0, 120), st.binary(min_size=1, max_size=8)),
)


def changed(data, changes):
    data = bytearray(data)
    for kind, where, what in changes:
        offset = where if kind == "head" else int(where * len(data)) + 9
        if kind == "flip" and offset < len(data):
            data[offset] ^= 1 << what
        elif kind in ("overwrite", "head"):
            data[offset : offset + len(what)] = what
        elif kind == "insert":
            data[offset:offset] = what
        elif kind == "delete":
            del data[offset : offset + what]
        elif kind == "repeat":
            data[offset:offset] = data[offset : offset + what]
        elif kind == "cut":
            del data[offset:]
    return bytes(data)


@st.composite
def damaged(draw):
    """Draw a file with changes."""
    return changed(draw(st.sampled_from(WHOLE)), draw(st.lists(CHANGE, min_size=1, max_size=5)))


@st.composite
def foreign(draw):
    """Draw random bytes, perhaps after the start of a file."""
    start = draw(st.sampled_from([b"", b"ECDC", b"ECDC\0", b"ECDC\1", b"RIFF", WHOLE[0][:100]]))
    size = struct.pack("!I", draw(st.integers(0, 2**32 - 1)))
    return start + draw(st.sampled_from([b"", size])) + draw(st.binary(max_size=300))


VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(0, 2**50),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["encodec_24khz", "encodec_48khz"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def forged_json(draw):
    """Draw a file of version 0 with any JSON, or almost JSON."""
    fields = {"m": "encodec_24khz", "al": 32000, "nc": 2, "lm": False}
    fields["m"] = draw(st.sampled_from(["encodec_24khz", "encodec_48khz"]))
    fields |= draw(
        st.dictionaries(st.sampled_from(["m", "al", "nc", "lm", "x"]), VALUE, max_size=3)
    )
    text = json.dumps(fields).encode("utf-8", "surrogatepass")
    text = changed(text, draw(st.lists(CHANGE, max_size=1)))
    if draw(st.booleans()):
        text = draw(st.sampled_from([b"[", b'{"a":', b"9", b'"', b" ", b"\\u"])) * 5000 + text
    size = draw(st.one_of(st.just(len(text)), st.integers(0, 2**32 - 1)))
    return b"ECDC" + struct.pack("!BI", 0, size) + text + draw(st.binary(max_size=500))


WORD = st.one_of(st.integers(0, 400), st.integers(0, 2**32 - 1))


@st.composite
def forged_blocks(draw):
    """Draw a file of version 1 with any header and blocks, and valid checksums."""
    name = draw(st.binary(max_size=5))
    fields = struct.pack(
        "!BBBHHIIIIIQ32sB",
        0,
        draw(st.integers(0, 1)),
        draw(st.integers(0, 25)),
        draw(st.integers(0, 2)),
        draw(st.one_of(st.integers(0, 40), st.integers(0, 2**16 - 1))),
        draw(WORD),
        draw(WORD),
        draw(WORD),
        draw(st.one_of(st.just(0), WORD)),
        draw(st.one_of(st.just(0), WORD)),
        draw(st.one_of(st.just(2**64 - 1), st.integers(0, 2**64 - 1))),
        bytes(32),
        len(name),
    )
    data = b"ECDC" + struct.pack("!BI", 1, len(fields) + len(name) + 4) + fields + name
    data += struct.pack("!I", zlib.crc32(data))
    if draw(st.booleans()):
        data = WHOLE[draw(st.integers(0, 3))][
            : len(version1_layout.header_bytes(version1_layout.layout_for(LIKE)))
        ]
    try:
        reader = bitstream.open_reader(io.BytesIO(data))
        assert isinstance(reader, version1_reader.Version1Reader)
        fits = reader._layout
    except bitstream.EcdcError:
        return data + draw(st.binary(max_size=100))
    first = 0
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.one_of(st.just(first), WORD))
        frames = draw(st.one_of(st.integers(0, 3), st.just(fits.block_frames), WORD))
        size = fits.header.payload_size(frames)
        if frames == 0 and draw(st.booleans()):
            points = draw(st.lists(st.tuples(WORD, st.integers(0, 2**64 - 1)), max_size=3))
            samples = draw(st.one_of(st.none(), st.integers(0, 2**64 - 1), WORD))
            data += version1_layout.end_bytes(
                first, samples, [version1_layout.Point(*point) for point in points]
            )
        else:
            payload = draw(st.binary(max_size=8)) * (min(size, 5000) // 8 + 1)
            data += version1_layout.block_bytes(first, frames, payload[: min(size, 5000)])
        first = min(first + frames, 2**32 - 1)
    return data + draw(st.binary(max_size=10))


ANY = st.one_of(damaged(), damaged(), foreign(), forged_json(), forged_blocks())
ALL_HEALTHY = list(HealthCheck)


class FuzzTest(absltest.TestCase):
    @settings(max_examples=500, suppress_health_check=ALL_HEALTHY)
    @given(ANY)
    def test_some(self, data):
        METER.read(data)

    @pytest.mark.slow
    @settings(max_examples=25_000, suppress_health_check=ALL_HEALTHY)
    @given(ANY)
    def test_many(self, data):
        METER.read(data)

    @pytest.mark.slow
    def test_every_bit(self):
        """Flips every bit of a short file of each version."""
        short = [
            files.write(LIKE, files.random_codes(LIKE, 10)),
            files.meta_file("encodec_48khz", 2, 600)[0],
        ]
        for data in short:
            for offset in range(8 * len(data)):
                flipped = bytearray(data)
                flipped[offset // 8] ^= 1 << offset % 8
                METER.read(bytes(flipped))

    @settings(max_examples=300, suppress_health_check=ALL_HEALTHY)
    @given(st.sampled_from([0, 1]), st.lists(CHANGE, min_size=1, max_size=5))
    def test_damage_never_shows_as_codes(self, index, changes):
        """Blocks of version 1 that are not damaged hold the codes that were written."""
        original = files.joined(files.read(WHOLE[index])[0])
        try:
            blocks, _ = files.read(changed(WHOLE[index], changes), recover=True)
        except bitstream.EcdcError:
            return
        position = 0
        for block in blocks:
            self.assertEqual(block.start_frame, position)
            position += block.codes.shape[1]
            if not block.is_damaged:
                np.testing.assert_array_equal(
                    block.codes, original[:, block.start_frame : position]
                )

    def test_the_largest_blocks(self):
        """Reads blocks of 2**21 codes, and headers that announce them."""
        for bits, codebooks in ((1, 1), (24, 1), (24, 2**15)):
            frames = 2**21 // codebooks
            like = files.header(num_codebooks=codebooks, bits=bits, sample_rate=320 * frames)
            header = version1_layout.header_bytes(version1_layout.layout_for(like))
            size = like.payload_size(frames)
            for length in (0, 1000, size):
                data = header + version1_layout.block_bytes(0, frames, bytes(size))[: 20 + length]
                tracemalloc.start()
                blocks, _ = files.read(io.BytesIO(data))
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertLen(blocks, length == size)
                self.assertLess(peak, BYTES if length == size else 2**18)

    def test_a_large_file_of_markers(self):
        """Time is proportional to the length of the file."""
        start = WHOLE[0][: WHOLE[0].index(version1_layout.MARKER)]
        seconds = []
        for count in (20_000, 80_000):
            data = start + version1_layout.MARKER * count
            begin = time.process_time()
            with self.assertRaisesRegex(bitstream.EcdcError, "damaged from 0.00 s to the end"):
                files.read(data)
            seconds.append(time.process_time() - begin)
        self.assertLess(seconds[1], 10 * seconds[0])


if __name__ == "__main__":
    absltest.main()
