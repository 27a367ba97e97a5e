"""The section `config.language` of a configuration."""

from __future__ import annotations

import ml_collections

from encodec_hk.language import code_model
from encodec_hk.language import language_file
from encodec_hk.system import rules


def sizes(variant: ml_collections.ConfigDict) -> code_model.Sizes:
    """Return the sizes of a variant's language model.

    Raises:
      ValueError: if a field is wrong; one line names it, its value and what is allowed.
    """
    section, model = variant.language, variant.model
    rules.check("config.language", section, dict.fromkeys(_FIELDS, _ANY), others_allowed=True)
    fields = {name: section[name] for name in _FIELDS}
    found = code_model.Sizes(**fields, codebook_size=model.codebook_size)
    language_file.check_sizes("config.language", found)
    if section.num_codebooks > model.num_codebooks:
        allowed = f"at most the {model.num_codebooks} of config.model.num_codebooks"
        raise rules.error("config.language.num_codebooks", section.num_codebooks, allowed)
    return found


_FIELDS = ("width", "head_width", "dilations", "num_codebooks", "context_codebooks")
_ANY: rules.Rule = ("anything", lambda value: True)
