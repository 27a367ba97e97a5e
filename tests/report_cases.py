"""Rows, a summary and items for a report, small and with names that need escaping."""

import pathlib
import tempfile

import numpy as np

from encodec_hk.evaluation import report
from encodec_hk.evaluation import results

ODD = "Grüße \"quoted\" & 'so' <b>x</b></script><!--.wav"
MODEL = "model_24khz"
LONG = 8.0  # seconds, so that a slow machine does not reach the end


def sound(rate, length, channels, seed):
    """Return a tone and noise, float32 [T, C], partly beyond full scale."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * length)) / rate
    tone = 0.9 * np.sin(2 * np.pi * 440 * time)[:, None]
    return (tone + 0.1 * rng.standard_normal((len(time), channels))).astype(np.float32)


def item(file, group, rate, length, channels, codecs):
    original = sound(rate, length, channels, 0)
    renditions = tuple(
        results.Rendition(codec, kbps, sound(rate, length, channels, seed + 1))
        for seed, (codec, kbps) in enumerate(codecs)
    )
    return results.Item(file, group, rate, original, renditions)


def items():
    codecs = [(MODEL, 1.5), (MODEL, 6.0), ("opus", 6.0)]
    return [
        item("long.wav", "speech", 24000, LONG, 1, codecs),
        item(ODD, "music", 48000, 0.5, 2, codecs[1:]),
    ]


def rows():
    """Return rows of two files in three conditions; PESQ is NaN or missing."""
    found = []
    for file, group in (("long.wav", "speech"), (ODD, "music")):
        for codec, kbps in ((MODEL, 1.5), (MODEL, 6.0), ("opus", 6.0)):
            row = {"file": file, "group": group, "codec": codec, "is_speech": group == "speech"}
            row |= {"kbps": kbps, "seconds": 3.0, "payload_kbps": 1.01 * kbps, "si_snr": kbps}
            found.append(row)
    found[0]["pesq"] = float("nan")
    return found


def summary():
    def mean(value, spread):
        return {"mean": value, "low": value - spread, "high": value + spread, "count": 2}

    means = {}
    for group in ("all", "speech", "music"):
        lone = {"mean": 4.0, "low": float("nan"), "high": float("nan"), "count": 1}
        means[group] = {
            MODEL: {
                kbps: {
                    "si_snr": mean(float(kbps) + len(group), 0.5),
                    "payload_kbps": mean(1.01 * float(kbps), 0.01),
                    "pesq": mean(float("nan"), 0.0),
                }
                for kbps in ("1.5", "6")
            },
            "opus": {"6": {"si_snr": lone}},
        }
    book = {"entropy": 8.5, "perplexity": 362.0, "used": 900, "dead": 124}
    return {
        "means": means,
        "codecs": {
            MODEL: {"kind": "encodec", "sample_rate": 24000, "note": "<i>& so on"},
            "opus": {"kind": "opus"},
        },
        "codebooks": {MODEL: {"1.5": [book] * 2, "6": [book] * 8}},
        "missing": ["PESQ is not installed: pip install pesq", "<script>alert(1)</script>"],
        "failed": {"</title>broken.wav": 'cannot be read: "<x>"'},
        "parity": {MODEL: {"equal": 0.99998, "codes": 12000, "difference": 2e-6}},
        "machine": "a processor",
    }


def written(**changes):
    """Return the page of the cases as text."""
    given = {
        "title": "A <title> & more",
        "rows": rows(),
        "summary": summary(),
        "items": items(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "report.html"
        report.write(path, **(given | changes))
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]
        return path.read_text("utf-8")
