"""The vocabulary of a language model over codes: which token is what."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from encodec_hk.system import rules


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens of codes, followed by special tokens.

        offset                      first special
        | codebook 0 | codebook 1 | ... | pad | bos | eos |      size

    Attributes:
      codebook_size: entries of a codebook.
      num_codebooks: codebooks with tokens of their own, as `patterns.flatten` gives them; 1 if all
        share the same tokens, as in the delay pattern.
      special: names of the special tokens, in the order of their numbers.
      offset: the token of code 0 of the first codebook: the size of the vocabulary of a text model
        that is extended.

    Raises:
      ValueError: if a value is not allowed.
    """

    codebook_size: int
    num_codebooks: int = 1
    special: tuple[str, ...] = ("pad", "bos", "eos")
    offset: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "special", tuple(self.special))
        fields: dict[str, rules.Rule] = {
            "codebook_size": rules.integer(1),
            "num_codebooks": rules.integer(1),
            "offset": rules.integer(0),
        }
        for name, (allowed, accepts) in fields.items():
            if not accepts(getattr(self, name)):
                raise rules.error(name, getattr(self, name), allowed)
        if len(set(self.special)) < len(self.special) or not all(self.special):
            raise rules.error("special", self.special, "names, each used once")

    @property
    def size(self) -> int:
        """One more than the largest token: rows of an embedding table."""
        return self._first_special + len(self.special)

    def token(self, name: str) -> int:
        """Return the number of a special token; raises ValueError if there is none of the name."""
        if name not in self.special:
            raise rules.error("special token", name, f"one of {', '.join(self.special) or 'none'}")
        return self._first_special + self.special.index(name)

    def tokens_of(self, codebook: int) -> range:
        """Return the tokens of a codebook; those of all are the same if they share them."""
        if not 0 <= codebook < self.num_codebooks:
            raise rules.error("codebook", codebook, f"0 to {self.num_codebooks - 1}")
        start = self.offset + codebook * self.codebook_size
        return range(start, start + self.codebook_size)

    def is_special(self, tokens: Any) -> np.ndarray:
        """Return where tokens, integers of any shape, are special ones."""
        tokens = np.asarray(tokens)
        return (tokens >= self._first_special) & (tokens < self.size)

    @property
    def _first_special(self) -> int:
        return self.offset + self.num_codebooks * self.codebook_size
