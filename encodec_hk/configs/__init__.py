"""The shipped configs, as `encodec_hk.configs.encodec_24khz_small` and so on.

A clone keeps them in its folder `configs/`, from which this module takes them. An installed package
has the files themselves in this place (see pyproject.toml), and not this module.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

from encodec_hk.system import file_paths

__path__ = [str(file_paths.shipped("configs"))]

if TYPE_CHECKING:

    def __getattr__(name: str) -> types.ModuleType:
        """Return the module of a config."""
