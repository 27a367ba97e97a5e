"""Headers, codes and files for the tests of `encodec_hk.bitstream`."""

import io

import numpy as np

from encodec_hk import bitstream

FINGERPRINT = "0123456789abcdef" * 4
PLAIN = {
    "version": 1,
    "name": "encodec_24khz_small",
    "sample_rate": 24000,
    "channels": 1,
    "hop_length": 320,
    "num_codebooks": 8,
    "bits": 10,
    "segment_length": None,
    "segment_stride": None,
    "normalize": False,
    "num_samples": None,
    "fingerprint": FINGERPRINT,
}
SEGMENTED = PLAIN | {
    "name": "encodec_48khz",
    "sample_rate": 48000,
    "channels": 2,
    "num_codebooks": 4,
    "segment_length": 48000,
    "segment_stride": 47520,
    "normalize": True,
}


def header(base=PLAIN, **fields):
    return bitstream.Header(**(base | fields))


def random_codes(like, num_frames, seed=0):
    """Return random codes int32 [K, F] for a header."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**like.bits, (like.num_codebooks, num_frames), dtype=np.int32)


def segment_frames(like, num_samples):
    """Return the frames of each segment of a signal."""
    starts = range(0, num_samples, like.segment_stride)
    return [-(-min(like.segment_length, num_samples - at) // like.hop_length) for at in starts]


def write(like, codes, num_samples=None, scales=None, cuts=(), flushes=()):
    """Return the bytes of a file with codes [K, F], written by segment or in pieces at `cuts`."""
    file = io.BytesIO()
    writer = bitstream.open_writer(file, like)
    if like.segment_length is not None:
        ends = np.cumsum(segment_frames(like, num_samples or like.num_samples))
        pieces = np.split(codes, ends[:-1], axis=1)
    else:
        pieces = np.split(codes, list(cuts), axis=1)
    for index, piece in enumerate(pieces):
        writer.write(piece, None if scales is None else scales[index : index + 1])
        if index in flushes:
            writer.flush()
    writer.finish(num_samples)
    return file.getvalue()


def segmented_file(num_samples=4 * 47520 + 100, base=SEGMENTED, seed=0, **fields):
    """Return a file of segments: its bytes, header, codes and scales."""
    like = header(base, **fields)
    counts = segment_frames(like, num_samples)
    codes = random_codes(like, sum(counts), seed)
    scales = None
    if like.normalize:
        scales = np.random.default_rng(seed + 1).uniform(0.01, 1, len(counts)).astype(np.float32)
    return write(like, codes, num_samples, scales), like, codes, scales


def meta_file(name, num_codebooks, num_samples, seed=0):
    """Return a file of version 0: its bytes, header, codes and scales."""
    like = bitstream.meta_header(name, num_codebooks, num_samples)
    if like.segment_length is not None:
        fields = {key: getattr(like, key) for key in PLAIN}
        return segmented_file(num_samples, fields, seed)
    codes = random_codes(like, -(-num_samples // like.hop_length), seed)
    return write(like, codes), like, codes, None


def read(data, start_frame=0, recover=False):
    """Return the blocks of a file's bytes, and its reader."""
    reader = bitstream.open_reader(data if hasattr(data, "read") else io.BytesIO(data))
    return list(reader.blocks(start_frame, recover)), reader


def joined(blocks):
    return np.concatenate([block.codes for block in blocks], axis=1)


class Pipe(io.RawIOBase):
    """A file that cannot seek and transfers at most `most` bytes per call."""

    def __init__(self, data=b"", most=7):
        super().__init__()
        self.written = bytearray()
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self):
        return True

    def writable(self):
        return True

    def seekable(self):
        return False

    def readinto(self, buffer):
        data = self._data.read(min(self._most, len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        taken = bytes(data[: self._most])
        self.written += taken
        return len(taken)
