"""Which documents of the corpora no model of this package is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from diffusiongemma.evaluation.corpora import Corpus

HELD_OUT_SHARE = 20  # one document in twenty
# Apart from the splits of the tasks (`train.tasks.in_split`), so that neither decides the other.
_SALT = b"held-out text"


def held_out(document: str) -> bool:
    """Whether a document is kept for `eval text`: by the hash of its text, outer spaces aside.

    The same text is on the same side whichever corpus, version or order it comes in.
    """
    digest = hashlib.blake2b(document.strip().encode("utf-8", "surrogatepass"), digest_size=8, key=_SALT).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_SHARE == 0


def training_documents(corpus: Corpus) -> Iterator[str]:
    """The documents of a corpus that may be trained on, in its order."""
    return (document for document in corpus.documents() if not held_out(document))


def held_out_documents(corpus: Corpus) -> Iterator[str]:
    """The documents of a corpus that are kept for measuring, in its order."""
    return (document for document in corpus.documents() if held_out(document))
