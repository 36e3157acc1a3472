"""One file from a model hub: from its cache, or fetched where there is a network, with one attempt."""

from __future__ import annotations

import shlex
from pathlib import Path

from vla_edge.runtime.bundle.tokenizer.file import MAX_TOKENIZER_BYTES
from vla_edge.runtime.errors import InputError

FILE_NAME = "tokenizer.json"
_TIMEOUT_S = 10


def hub_tokenizer(source: str) -> Path:
    """The `tokenizer.json` of a repository on the Hugging Face hub.

    The hub is asked once, without the retries of its client, which take a minute where there is no network;
    a copy that is in its cache is used then.

    Raises:
        InputError: no such repository or file, or no network and no copy; says which.
    """
    import huggingface_hub as hub

    try:
        found = hub.get_hf_file_metadata(hub.hf_hub_url(source, FILE_NAME), timeout=_TIMEOUT_S)
    except Exception as error:  # of the client, its HTTP library, and the system
        return _cached(source, error)
    if (found.size or 0) > MAX_TOKENIZER_BYTES:
        raise InputError(
            f"the tokenizer of {source!r} has {found.size} bytes, at most {MAX_TOKENIZER_BYTES} are read.",
            "Give another one with --tokenizer.",
        )
    try:
        return Path(hub.hf_hub_download(source, FILE_NAME))
    except Exception as error:
        return _cached(source, error)


def _cached(source: str, reason: Exception) -> Path:
    import huggingface_hub as hub

    try:
        return Path(hub.hf_hub_download(source, FILE_NAME, local_files_only=True))
    except Exception as error:
        lines = str(reason).strip().splitlines()
        raise InputError(
            f"the tokenizer {source!r} cannot be fetched: {lines[0] if lines else type(reason).__name__}.",
            f"Without a network: fetch it elsewhere (hf download {shlex.quote(source)} {FILE_NAME} "
            "--local-dir kosmos-2), copy the folder here and give it with --tokenizer; "
            "or give explicit ids with --instruction-ids 'TEXT=0,64003,...'.",
        ) from error
