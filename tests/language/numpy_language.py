"""A second implementation of the language model and its coder: numpy int64 and Python integers.

It is written from docs/ecdc.md, a code at a time, and shares nothing with the package.
"""

import numpy as np


def norm(x, thresholds, factors):
    squares = int((x * x).sum())
    index = int((thresholds <= squares).sum())
    return np.clip((x * factors[index] + 2**15) >> 16, -127, 127)


def shifted(x, values):
    return (x @ values["w"] + values["b"]) >> values["shift"]


def frequencies(logits):
    distance = np.minimum(logits.max() - logits, 544)
    rest = distance % 32
    weights = (65536 - 1375 * rest + 11 * rest * rest) >> (distance // 32)
    below = np.concatenate([[0], np.cumsum(weights)])
    starts = np.arange(len(below)) + below * (65536 - len(logits)) // below[-1]
    return np.diff(starts)


class Oracle:
    """A model: `params` as files hold them, `dilations` of the layers."""

    def __init__(self, params, dilations):
        self.params = {
            module: {name: np.asarray(value, np.int64) for name, value in values.items()}
            for module, values in params.items()
        }
        self.dilations = dilations

    def walk(self, num_codebooks, num_frames, choose):
        """Visit the codes of a block in order; `choose(frame, k, frequencies)` returns each."""
        own = self.params["language"]
        table = own["norm_thresholds"], own["norm_factors"]
        width = own["tables"].shape[2]
        past = [[] for _ in self.dilations]
        codes = np.zeros((num_codebooks, num_frames), np.int64)
        for frame in range(num_frames):
            x = np.zeros(width, np.int64)
            if frame:
                seen = zip(own["tables"], codes[:, frame - 1], strict=False)
                x = sum(table[code] for table, code in seen)
                x = np.clip(x, -2047, 2047)
            for index, dilation in enumerate(self.dilations):
                y = norm(x, *table)
                zeros = np.zeros(width, np.int64)
                earlier = past[index][frame - dilation] if frame >= dilation else zeros
                past[index].append(y)
                both = np.concatenate([earlier, y])
                a = np.clip(shifted(both, self.params[f"layer_{index}_first"]), 0, 127)
                x = np.clip(x + shifted(a, self.params[f"layer_{index}_second"]), -2047, 2047)
            y = norm(x, *table)
            inner = np.zeros(own["inner_tables"].shape[2], np.int64)
            for k in range(num_codebooks):
                both = np.concatenate([y, np.clip(inner, -127, 127)])
                z = np.clip(shifted(both, self.params[f"head_{k}_hidden"]), 0, 127)
                found = frequencies(shifted(z, self.params[f"head_{k}_logits"]))
                codes[k, frame] = code = choose(frame, k, found)
                if k + 1 < num_codebooks:
                    inner = inner + own["inner_tables"][k, code]
        return codes

    def all_frequencies(self, codes):
        """Return the frequencies [K, F, V] of codes [K, F]."""
        found = {}

        def choose(frame, k, frequencies):
            found[k, frame] = frequencies
            return codes[k, frame]

        self.walk(*codes.shape, choose)
        rows = [[found[k, frame] for frame in range(codes.shape[1])] for k in range(len(codes))]
        return np.array(rows)

    def encode(self, codes):
        found = self.all_frequencies(codes)
        state, words = 65536, []
        for frame in reversed(range(codes.shape[1])):
            for k in reversed(range(len(codes))):
                frequency = int(found[k, frame, codes[k, frame]])
                start = int(found[k, frame, : codes[k, frame]].sum())
                if state >= frequency << 16:
                    words.append(state & 65535)
                    state >>= 16
                state = (state // frequency << 16) + state % frequency + start
        tail = b"".join(word.to_bytes(2, "big") for word in reversed(words))
        return state.to_bytes(4, "big") + tail

    def decode(self, data, num_codebooks, num_frames):
        self._state, self._place = int.from_bytes(data[:4], "big"), 4

        def choose(frame, k, found):
            slot = self._state & 65535
            ends = np.cumsum(found)
            code = int((ends <= slot).sum())
            start = int(ends[code] - found[code])
            self._state = int(found[code]) * (self._state >> 16) + slot - start
            if self._state < 65536:
                word = data[self._place : self._place + 2]
                self._state = self._state << 16 | int.from_bytes(word, "big")
                self._place += 2
            return code

        codes = self.walk(num_codebooks, num_frames, choose)
        assert self._state == 65536
        assert self._place == len(data)
        return codes
