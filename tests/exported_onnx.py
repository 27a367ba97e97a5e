"""Exported ONNX folders for tests: their sessions, their streams, and near-ties of codes."""

import functools
import json

import numpy as np
import onnxruntime

from encodec_hk.blocks import segments
from encodec_hk.export import model_facts
from encodec_hk.export import onnx_files
from tests import near_ties

# In a near-tie the squared distances differ by less than this share of the residual's energy.
MARGIN = 2e-5


class Exported:
    """A codec in a folder. Audio is [B, C, T], codes are [B, K, F]."""

    def __init__(self, codec, folder, num_codebooks=None):
        onnx_files.write(codec, folder, model_facts.facts(codec, "MIT"), num_codebooks)
        self.folder = folder
        self.facts = json.loads((folder / "stream.json").read_text())
        self.session = functools.cache(self._session)

    def _session(self, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(self.folder / f"{name}.onnx", options)

    def run(self, name, **inputs):
        """The outputs of a graph, by name."""
        session = self.session(name)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def stream(self, network, pieces, **settings):
        """What a network returns for pieces, joined; without what comes before the first sample."""
        given, taken = ("audio", "codes") if network == "encoder" else ("codes", "audio")
        states, parts = {}, []
        for piece in pieces:
            kind = "step" if states else "start"
            outputs = self.run(f"{network}_{kind}", **{given: piece}, **states, **settings)
            states = {
                name.removeprefix("next_"): value
                for name, value in outputs.items()
                if name.startswith("next_")
            }
            parts.append(outputs[taken])
        ending = [outputs["rest"]] if "rest" in outputs else []
        lag = self.facts[network]["lag"]
        return np.concatenate(parts + ending, axis=-1)[..., lag:]

    def encode(self, item, num_codebooks):
        """Codes [K, F] and scales [S] (or None) of an item [T, C], segment by segment."""
        found, scales = [], []
        for piece in cut(self.facts, item):
            outputs = self.run("encoder", audio=piece.T[None], num_codebooks=num_codebooks)
            found.append(outputs["codes"][0])
            scales.append(outputs.get("scale"))
        return np.concatenate(found, axis=1), None if scales[0] is None else np.concatenate(scales)

    def decode(self, codes, scales, num_samples):
        """Audio [T, C] of codes [K, F] and scales [S, 1], segment by segment."""
        parts = []
        for index, piece in enumerate(cut(self.facts, np.zeros(num_samples))):
            count = -(-len(piece) // self.facts["hop"])
            inputs = {"codes": codes[None, :, :count].astype(np.int64)}
            codes = codes[:, count:]
            if scales is not None:
                inputs["scale"] = scales[index][None]
            parts.append(self.run("decoder", **inputs)["audio"][0].T)
        if self.facts["segments"]:
            return segments.overlap_add(parts, self.facts["segments"]["stride"])[:num_samples]
        return parts[0][:num_samples]


def cut(facts, item):
    """The segments of an item [T, C]; the item itself of a model without segments."""
    if not facts["segments"]:
        return [item]
    length, stride = facts["segments"]["length"], facts["segments"]["stride"]
    return [item[at : at + length] for at in range(0, len(item), stride)]


def margins(codec, facts, item, found, expected):
    """How near the first differing codes of each frame were to a tie, as shares of the energy."""
    different = found != expected
    if not different.any():
        return []
    latents = []
    for piece in cut(facts, item):
        if codec.model_config.normalize:
            piece, _ = segments.normalize(piece)
        frames = -(-len(piece) // codec.hop_length)
        padded = np.pad(piece, ((0, frames * codec.hop_length - len(piece)), (0, 0)))
        ends = np.array([len(piece)], np.int32), np.array([True])
        latents.append(codec.model.embed_block(codec.params, None, padded[None], *ends)[1][0])
    books = codec.params["quantizer"]["codebooks"]
    return near_ties.margins(np.concatenate(latents), books, found, expected)
