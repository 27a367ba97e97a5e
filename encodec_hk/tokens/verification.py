"""A random sample of a data set, encoded again and compared with what is there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import tokenize_job

_NEAR_TIES = 1e-3  # share of codes that another device may choose otherwise


class Verification(NamedTuple):
    """What a comparison found.

    Attributes:
      is_equal: whether all rows are there, and the codes are the same, near-ties apart.
      lines: what to tell.
    """

    is_equal: bool
    lines: list[str]


def verify(
    job: tokenize_job.TokenizeJob, count: int, generator: random.Random | None = None
) -> Verification:
    """Encode about `count` items of the shards that are done again, and compare their codes.

    Raises:
      ValueError: if no shard is done, or a file is damaged.
    """
    generator = generator or random.Random()
    done = [shard for shard, receipt in enumerate(job.receipts()) if receipt and receipt.rows]
    if not done:
        raise ValueError("--verify: no shard with rows is done yet")
    chosen = sorted(generator.sample(done, min(len(done), count)))
    codes = equal = items = 0
    lines = []
    tokenizer = job.tokenizer(shard_work.ErrorLimit("100%"))
    for shard in chosen:
        planned = job.plan.items(shard)
        stored = job.files.rows(shard, planned)
        with_rows = [index for index, rows in enumerate(stored) if rows]
        size = min(-(-count // len(chosen)), len(with_rows))
        sample = sorted(generator.sample(with_rows, size))
        made = tokenizer.encode([planned[index] for index in sample])
        for index, found in zip(sample, made, strict=True):
            items += 1
            problem, own_equal, own_codes = _compare(stored[index], found)
            equal, codes = equal + own_equal, codes + own_codes
            if problem:
                lines.append(f"{planned[index].id}: {problem}")
    is_equal = not lines and codes - equal <= _NEAR_TIES * codes
    lines.append(f"{items} items of {len(chosen)} shards: {codes - equal} of {codes} codes differ")
    return Verification(is_equal, lines)


def _compare(
    stored: Sequence[schema.TokenRow], found: Sequence[schema.TokenRow] | str
) -> tuple[str, int, int]:
    """Return what is wrong, and the numbers of equal codes and of codes."""
    if isinstance(found, str):
        return found, 0, 0
    if [row.id for row in stored] != [row.id for row in found]:
        return f"{len(stored)} rows are stored, {len(found)} were made", 0, 0
    equal = codes = 0
    for before, now in zip(stored, found, strict=True):
        if before.codes.shape != now.codes.shape:
            return f"{before.codes.shape} codes are stored, {now.codes.shape} were made", 0, 0
        equal += int(np.sum(before.codes == now.codes))
        codes += before.codes.size
    return "", equal, codes
