"""Files of repositories on the Hugging Face hub, in the cache of huggingface_hub."""

from __future__ import annotations

import pathlib
import re

from encodec_hk.system import extras
from encodec_hk.system import file_errors

_FILE_SUFFIXES = (".th", ".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".json", ".py")


def is_name(text: str) -> bool:
    """Return whether a text has the form of a hub name, OWNER/MODEL, and not of a file's."""
    if text.endswith(_FILE_SUFFIXES) or "--" in text or ".." in text:
        return False
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text))


class Repository:
    """A repository on the hub, at one commit.

    A file that is in the local cache is taken from there, without asking the hub.

    Attributes:
      name: OWNER/MODEL.
      obstacle: why the hub could not be reached, "" if it could so far.
    """

    def __init__(self, name: str):
        """Fetch nothing yet; raise ValueError if huggingface_hub is not installed."""
        self.name = name
        self.obstacle = ""
        self._hub = extras.require("huggingface_hub", "hub")
        self._errors = extras.require("huggingface_hub.errors", "hub")
        self._commit: str | None = None  # of the first file, so that all are of one version

    def fetch(self, file: str) -> pathlib.Path | None:
        """Return the path of a file in the cache; None if it is not on the hub, or out of reach.

        Raises:
          ValueError: if there is no such repository, the hub refuses access to it, or the download
            fails.
        """
        found = self._cached(file)
        if found is None and self.has(file):
            try:
                found = self._hub.hf_hub_download(self.name, file, revision=self._commit)
            except Exception as error:  # of the network or the disk
                line = file_errors.first_line(error)
                raise ValueError(f"{self.name}: {file} cannot be downloaded ({line})") from error
        if found is None:
            return None
        path = pathlib.Path(found)
        self._commit = path.parent.name
        return path

    def has(self, file: str) -> bool:
        """Return whether the repository has a file, as far as the cache or the hub can tell.

        Raises:
          ValueError: as `fetch` does.
        """
        if self._cached(file) is not None:
            return True
        if self.obstacle:
            return False
        try:
            # Without the retries of a download, which take half a minute where there is no network.
            url = self._hub.hf_hub_url(self.name, file, revision=self._commit)
            self._hub.get_hf_file_metadata(url)
        except self._errors.EntryNotFoundError:
            return False
        except self._errors.GatedRepoError as error:
            raise ValueError(
                f"{self.name}: the hub gives this repository to those who accept its terms: do so "
                f"at https://huggingface.co/{self.name}, then log in with `hf auth login`"
            ) from error
        except self._errors.RepositoryNotFoundError as error:
            raise ValueError(
                f"{self.name}: no such file or folder, and no such repository on the hub (a "
                "private one needs `hf auth login`)"
            ) from error
        except (self._errors.HfHubHTTPError, ValueError) as error:
            line = file_errors.first_line(error)
            raise ValueError(f"{self.name}: the hub refuses access ({line})") from error
        except self._errors.OfflineModeIsEnabled:
            self.obstacle = "HF_HUB_OFFLINE is set"
            return False
        except Exception as error:  # of the network: the class depends on huggingface_hub's version
            self.obstacle = file_errors.first_line(error).rstrip(".")
            return False
        return True

    def missing(self, what: str) -> ValueError:
        """Return the error of a repository that holds none of what is wanted."""
        if not self.obstacle:
            return ValueError(f"{self.name}: this hub repository holds no {what}")
        return ValueError(
            f"{self.name}: no such file or folder; not in the hub's cache, and the hub cannot be "
            f"reached ({self.obstacle})"
        )

    def _cached(self, file: str) -> str | None:
        found = self._hub.try_to_load_from_cache(self.name, file, revision=self._commit)
        return found if isinstance(found, str) else None
