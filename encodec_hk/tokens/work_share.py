"""Which shards a process works on: --shard=i/n, or what a cluster says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

# Variables of the index and of the number of tasks, in the order in which they are looked for.
_PAIRS = (
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("RANK", "WORLD_SIZE"),
)


class WorkShare(NamedTuple):
    """A process's share of the work: it takes every `step`-th shard, from `first` on."""

    first: int = 0
    step: int = 1

    def shards(self, total: int) -> range:
        """Return the numbers of its shards."""
        return range(self.first, total, self.step)


def parse(text: str | None, environment: Mapping[str, str] = os.environ) -> WorkShare:
    """Return the share that --shard names.

    Args:
      text: "i/n" with i from 0 to n - 1, "auto", or None for all shards.
      environment: of the process. "auto" reads SLURM_ARRAY_TASK_ID and _COUNT (times the tasks of
        each, if it has several), SLURM_PROCID and SLURM_NTASKS, JOB_COMPLETION_INDEX and
        JOB_COMPLETIONS, or RANK and WORLD_SIZE.

    Raises:
      ValueError: if it is none of these, or no cluster is found.
    """
    if text is None:
        return WorkShare()
    if text == "auto":
        return _of_cluster(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"--shard: got {text!r}, must be i/n with i from 0 to n - 1, or auto")
    return WorkShare(int(match[1]), int(match[2]))


def _of_cluster(environment: Mapping[str, str]) -> WorkShare:
    share = WorkShare()
    found = None
    for index, count in _PAIRS:
        if index in environment:
            found = _pair(environment, index, count)
            break
    if "SLURM_ARRAY_TASK_ID" in environment:
        share = _of_array(environment)
        # The tasks of one element of the array share its part.
        if found is not None and "SLURM_PROCID" in environment:
            share = WorkShare(share.first * found.step + found.first, share.step * found.step)
        return share
    if found is None:
        raise ValueError(
            "--shard: got auto, but no cluster: SLURM_ARRAY_TASK_ID, SLURM_PROCID, "
            "JOB_COMPLETION_INDEX and RANK are not set"
        )
    return found


def _of_array(environment: Mapping[str, str]) -> WorkShare:
    """Return the share of an element of an array, such as 1-31:2."""
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") if _has(environment, "MIN") else 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") if _has(environment, "STEP") else 1
    element, count = (
        _number(environment, "SLURM_ARRAY_TASK_ID"),
        _number(environment, "SLURM_ARRAY_TASK_COUNT"),
    )
    index, rest = divmod(element - first, max(step, 1))
    if rest or not 0 <= index < count:
        raise ValueError(
            f"--shard: got auto, but SLURM_ARRAY_TASK_ID={element} is not one of {count} elements "
            f"from {first} on; name --shard=i/n"
        )
    return WorkShare(index, count)


def _has(environment: Mapping[str, str], name: str) -> bool:
    return f"SLURM_ARRAY_TASK_{name}" in environment


def _pair(environment: Mapping[str, str], index: str, count: str) -> WorkShare:
    share = WorkShare(_number(environment, index), _number(environment, count))
    if not share.first < share.step:
        raise ValueError(f"--shard: got auto, but {index}={share.first} and {count}={share.step}")
    return share


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        got = f"{name}={text}" if text else f"no {name}"
        hint = "; set it to the number of completions" if name == "JOB_COMPLETIONS" else ""
        raise ValueError(f"--shard: got auto, but {got}{hint}")
    return int(text)
