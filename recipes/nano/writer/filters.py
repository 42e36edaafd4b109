"""What is taken of what was written: a text without its wrapping, or the reason why it is refused."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from recipes.nano.writer.kinds import Kind

_WRAPPING = re.compile(
    r"^(?:sure|certainly|of course|okay|here(?:'s| is| are)|title|note|story|poem|answer|sentence|example)"
    r"\b[^\n]{0,80}?[:!]\s*",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?][\"']?(?=\s|$)")
_ALLOWED = re.compile(r"[A-Za-z0-9 \n.,;:!?'\"()/%$-]*")
_REFUSED = re.compile(
    r"\b(?:smollm|hugging ?face|language model|chatbot|as an ai|an ai|openai|assistant|i cannot|i can't|i'm sorry,? but"
    r"|sex\w*|naked|rape\w*|suicide|nazi\w*|fuck\w*|shit\w*|porn\w*|murder\w*|kill(?:s|ed|ing)?"
    r"|user|prompt|in (?:one|three|two) sentences?"
    r"|this sentence|the sentence|poem|four lines|word count|\[|\])",
    re.I,
)
_SOLEMN = re.compile(
    r"\b(?:testament|majestic|tapestry|bustling|whimsical|vibrant|iridescent|beacon|resilience|shimmer\w*|captivat\w+|embod\w+"
    r"|melody|essence|journey of|delicate dance|kaleidoscope|symphony|nestled|mesmeriz\w+|intricate|profound|plumage"
    r"|snail|past tense|commas?)\b",  # the snail is the writer's example
    re.I,
)
_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "})


@dataclass(frozen=True)
class Verdict:
    """The text to keep, or why there is none."""

    text: str = ""
    reason: str = ""


def judge(kind: Kind, topic: str, text: str, ended: bool, likelihood: float) -> Verdict:
    """`likelihood` is the mean log-likelihood of a token to the writer; `ended` whether it stopped of itself."""
    if likelihood < kind.likely:
        return Verdict(reason="unlikely")
    text = unwrapped(text.translate(_STRAIGHT))
    if kind.shape.lines == (1, 1):
        if "\n\n" in text and kind.shape.sentences[1] == 1:
            text = text.split("\n\n")[0]
        text = " ".join(text.split())
    else:
        text, ended = _first_stanza(text, kind.shape.lines[1], ended)
    if not ended or _sentences(text) > kind.shape.sentences[1]:
        text = _whole_sentences(text, kind.shape.sentences[1])
    return Verdict(text, _fault(kind, topic, text))


def unwrapped(text: str) -> str:
    """Without `Here is a poem:`, quotes around the whole and spaces at line ends."""
    text = "\n".join(line.strip() for line in text.strip().split("\n"))
    text = _WRAPPING.sub("", text, count=1).strip()
    if len(text) > 2 and text[0] == text[-1] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    return text


def _first_stanza(text: str, most: int, ended: bool) -> tuple[str, bool]:
    lines = [line for line in text.split("\n\n")[0].split("\n") if line]
    if len(lines) > most:
        return "\n".join(lines[:most]), True
    return "\n".join(lines), ended or "\n\n" in text


def _sentences(text: str) -> int:
    return len(_SENTENCE_END.findall(text))


def _whole_sentences(text: str, most: int) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)][:most]
    return text[: ends[-1]] if ends else ""


def _fault(kind: Kind, topic: str, text: str) -> str:
    words = text.split()
    shape = kind.shape
    if not text:
        return "unfinished"
    if not _ALLOWED.fullmatch(text):
        return "characters"
    if _REFUSED.search(text):
        return "refused words"
    if not shape.words[0] <= len(words) <= shape.words[1]:
        return "length"
    if not shape.lines[0] <= text.count("\n") + 1 <= shape.lines[1]:
        return "lines"
    if shape.lines[1] == 1 and not shape.sentences[0] <= _sentences(text) <= shape.sentences[1]:
        return "sentences"
    if text[-1] not in ".!?,\"'" or (shape.lines[1] == 1 and text[-1] == ","):
        return "end"
    if not text[0].isupper() and text[0] not in "\"'":
        return "beginning"
    if text.count('"') % 2:
        return "quotes"
    if kind.about and not names(text, topic):
        return "off the topic"
    if not plain(text):
        return "not plain"
    return "loop" if loops(text) else ""


def plain(text: str) -> bool:
    """Short words and sentences: where the writer grows solemn, it no longer knows what it says."""
    words = re.findall(r"[A-Za-z']+", text)
    longest = max(len(part.split()) for part in re.split(r"[.!?\n]", text))
    return longest <= 20 and sum(map(len, words)) <= 4.9 * len(words) and not _SOLEMN.search(text)


def names(text: str, topic: str) -> bool:
    """Whether a text holds the last word of its topic, or one that begins alike (`berry`, `berries`)."""
    stem = re.sub(r"(?:e?s|y|ing|e)$", "", topic.split()[-1].lower())
    return stem in text.lower()


def loops(text: str) -> bool:
    """Whether anything is said over and over: a line or sentence twice, three words thrice, half of the words alike."""
    parts = [part.strip().lower() for part in re.split(r"[\n.!?]", text) if part.strip()]
    if len(set(parts)) < len(parts):
        return True
    words = re.findall(r"[a-z']+", text.lower())
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    if triples and max(triples.values()) > 2:
        return True
    if any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return True
    starts = Counter(" ".join(part.split()[:2]) for part in parts)
    return max(starts.values(), default=0) > 3 or len(set(words)) < 0.5 * len(words)
