"""Mistakes put into plain sentences by rule, to be mended: agreement, tense, articles, spelling, marks, capitals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from diffusiongemma.tasks.repair import flatten, misspell
from recipes.nano.sources.fact_tables import PASTS, table
from recipes.nano.sources.phrasing import is_probe, varied

Damage = Callable[[str, np.random.Generator], str]

# Wrong forms that learners write, by the right one.
AGREEMENT = table(
    """
    has/have, have/has, is/are, are/is, was/were, were/was, does/do, do/does, doesn't/don't, don't/doesn't,
    isn't/aren't, aren't/isn't, wasn't/weren't, weren't/wasn't, hasn't/haven't, haven't/hasn't, goes/go, wants/want,
    likes/like, lives/live, works/work, looks/look, makes/make, needs/need, says/say, takes/take, gives/give,
    comes/come, runs/run, plays/play, eats/eat, sees/see, knows/know, thinks/think, feels/feel, keeps/keep,
    helps/help, sits/sit, stands/stand, reads/read, writes/write, sings/sing, sleeps/sleep, grows/grow, shines/shine,
    brings/bring, loves/love, enjoys/enjoy, uses/use, am/is
    """
)
COMMON_MISSPELLINGS = table(
    """
    receive/recieve, believe/beleive, friend/freind, their/thier, piece/peice, field/feild, because/becuase,
    beautiful/beautifull, weather/wether, letter/leter, tomorrow/tommorow, until/untill, which/wich,
    necessary/neccessary, different/diffrent, really/realy, separate/seperate, definitely/definately,
    surprise/suprise, beginning/begining, writing/writting, coming/comming, running/runing, happened/happend,
    interesting/intresting, favourite/favorit, family/famly, school/scool, people/peaple, would/woud, could/coud,
    should/shoud, again/agian, every/evry, always/allways, almost/allmost, together/togehter, through/throught,
    enough/enought, thought/tought, brought/brougth, night/nigth, light/ligth, right/rigth, eight/eigth,
    straight/strait, knife/nife, know/kno, write/rite, answer/anser, island/iland, listen/lisen, castle/casel,
    autumn/autum, difficult/dificult, important/importent, address/adress, business/buisness, calendar/calender,
    cemetery/cemetary, committee/comittee, conscious/concious, embarrass/embarass, environment/enviroment,
    existence/existance, experience/experiance, foreign/foriegn, government/goverment, grammar/grammer,
    guarantee/garantee, height/heigth, immediately/immediatly, independent/independant, knowledge/knowlege,
    language/langauge, library/libary, lightning/lightening, minute/minit, neighbour/nieghbour, noticeable/noticable,
    occasion/ocasion, occurred/occured, opportunity/oportunity, parallel/paralel, particular/particuler,
    possible/posible, probably/probaly, question/qestion, quiet/queit, recommend/recomend, restaurant/restaraunt,
    science/sience, secretary/secratary, sincerely/sincerly, special/speshal, strength/strenght, success/succes,
    sudden/suden, temperature/temprature, usually/usualy, vegetable/vegtable, weird/wierd, yesterday/yesteday,
    station/staton, kitchen/kichen, garden/gardan, morning/mornig, evening/evning, window/windo, little/litle,
    bottle/botle, dinner/diner, summer/sumer, winter/wintter, water/watter, house/hous, mother/mohter,
    brother/borther, sister/sistre, children/childern, teacher/techer, doctor/docter, picture/pictur,
    chocolate/choclate, breakfast/brekfast, money/mony, market/maket, forest/forrest, mountain/mountin, river/rivver,
    flower/flowr, colour/coulor, second/secnd, first/frist, third/thrid, line/lin
    """
)
_PREPOSITIONS = ("in", "on", "at", "to", "for", "of", "with", "from", "by")
_SMALL = frozenset(
    [
        "a",
        "an",
        "the",
        "to",
        "of",
        "in",
        "on",
        "at",
        "is",
        "are",
        "was",
        "were",
        "and",
        "for",
        "with",
        "his",
        "her",
        "their",
        "its",
        "my",
        "our",
    ]
)
_PRESENT = {past: base for base, past in PASTS.items() if base not in ("be", "read", "lie", "have", "do")}
_ADJECTIVES = table(
    """
    better/gooder, best/goodest, worse/badder, bigger/more big, smaller/more small, faster/more fast,
    happier/more happy, older/more old, easier/more easy
    """
)
_PRONOUNS = table("he/him, she/her, they/them, I/me, we/us")


def swap(text: str, rng: np.random.Generator, wrong: dict[str, str], most: int = 1) -> str:
    """Up to `most` words of the text that `wrong` has, as it has them."""
    places = [match for match in re.finditer(r"[A-Za-z']+", text) if match[0].lower() in wrong]
    for match in sorted(choose_several(rng, places, most), key=lambda match: -match.start()):
        new = wrong[match[0].lower()]
        new = new[0].upper() + new[1:] if match[0][0].isupper() and match[0] != "I" else new
        text = text[: match.start()] + new + text[match.end() :]
    return text


def agreement(text: str, rng: np.random.Generator) -> str:
    return swap(text, rng, AGREEMENT)


def tense(text: str, rng: np.random.Generator) -> str:
    """A past form taken back to its base, or made regular where it is not: `goed`."""
    if chance(rng, 0.6):
        return swap(text, rng, _PRESENT)
    return swap(text, rng, {past: _regular(base) for past, base in _PRESENT.items() if past != _regular(base)})


def _regular(base: str) -> str:
    return base + ("d" if base.endswith("e") else "ed")


def articles(text: str, rng: np.random.Generator) -> str:
    """`a` for `an` or the other way round, or an article lost."""
    places = [match for match in re.finditer(r"\b(a|an|the|A|An|The)\b ", text)]
    if not places:
        return text
    match = choose(rng, places)
    word = match[1]
    if word.lower() != "the" and chance(rng, 0.6):
        new = {"a": "an", "an": "a", "A": "An", "An": "A"}[word] + " "
    elif word[0].isupper():
        return text
    else:
        new = ""
    return text[: match.start()] + new + text[match.end() :]


def prepositions(text: str, rng: np.random.Generator) -> str:
    places = [match for match in re.finditer(r" (in|on|at|to|for|of|with|from|by) ", text)]
    if not places:
        return text
    match = choose(rng, places)
    other = choose(rng, [word for word in _PREPOSITIONS if word != match[1]])
    return f"{text[: match.start()]} {other} {text[match.end() :]}"


def doubled(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    i = int(rng.integers(len(words)))
    return " ".join(words[: i + 1] + words[i:]) if words[i].isalpha() and i else text


def lost(text: str, rng: np.random.Generator) -> str:
    """A small word left out, one that a reader misses."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word in _SMALL and i]
    if not places:
        return text
    i = choose(rng, places)
    return " ".join(words[:i] + words[i + 1 :])


def order(text: str, rng: np.random.Generator) -> str:
    """Two neighbouring lower-case words exchanged."""
    words = text.split(" ")
    places = [
        i
        for i in range(1, len(words) - 2)
        if words[i].islower() and words[i + 1].islower() and words[i].isalpha() and words[i + 1].isalpha()
    ]
    if not places:
        return text
    i = choose(rng, places)
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def spelling(text: str, rng: np.random.Generator) -> str:
    """The mistakes that people make where a word has one, else slips of the finger; one to three."""
    if chance(rng, 0.5):
        text = swap(text, rng, COMMON_MISSPELLINGS, 2)
    return misspell(text, rng, int(rng.integers(1, 3)))


def capitals(text: str, rng: np.random.Generator) -> str:
    return text.lower() if chance(rng, 0.6) else text[:1].lower() + text[1:]


def marks(text: str, rng: np.random.Generator) -> str:
    """The last mark or a comma lost, or an apostrophe."""
    kind = choose(rng, ("end", "commas", "apostrophe"))
    if kind == "apostrophe" and "'" in text:
        return text.replace("'", "", 1)
    if kind == "commas" and "," in text:
        return text.replace(",", "")
    return re.sub(r"[.?!]$", "", text)


def forms(text: str, rng: np.random.Generator) -> str:
    return swap(text, rng, _ADJECTIVES if chance(rng, 0.5) else _PRONOUNS)


GRAMMAR: tuple[tuple[Damage, float], ...] = (
    (agreement, 4.0),
    (tense, 1.5),
    (articles, 2.0),
    (prepositions, 0.5),
    (doubled, 0.7),
    (lost, 0.8),
    (order, 0.5),
    (forms, 0.8),
)


def grammar(text: str, rng: np.random.Generator) -> str:
    """One or two mistakes of grammar."""
    shares = np.array([share for _, share in GRAMMAR])
    for _ in range(6):
        damage = GRAMMAR[int(rng.choice(len(GRAMMAR), p=shares / shares.sum()))][0]
        wrong = damage(text, rng)
        if wrong != text:
            return grammar(wrong, rng) if chance(rng, 0.2) else wrong
    return text


def everything(text: str, rng: np.random.Generator) -> str:
    """Several kinds of mistakes at once."""
    for damage in choose_several(rng, (grammar, spelling, capitals, marks), int(rng.integers(1, 4))):
        text = damage(text, rng)
    return text


REQUESTS: dict[str, tuple[str, ...]] = {
    "grammar": (
        "Correct the grammar.",
        "Correct the grammar.",
        "Fix the grammar.",
        "Fix the grammar mistakes.",
        "Correct the grammar of this sentence.",
        "Is this correct? Fix it.",
        "Put this into correct English.",
        "Mend the grammar.",
        "Correct my English.",
        "Make this grammatically correct.",
        "Correct this sentence.",
    ),
    "spelling": (
        "Correct the spelling.",
        "Correct the spelling.",
        "Fix the spelling.",
        "Fix the typos.",
        "Correct the typos.",
        "Fix the spelling mistakes.",
        "Spell this correctly.",
        "Correct the spelling mistakes in this text.",
        "Repair the misspelled words.",
    ),
    "capitals and marks": (
        "Add capital letters and punctuation.",
        "Add punctuation and capitals.",
        "Restore capitals and punctuation.",
        "Write this with capital letters and punctuation.",
        "Put in the missing punctuation and capitals.",
    ),
    "all": (
        "Correct the text.",
        "Correct this text.",
        "Correct this.",
        "Fix all mistakes.",
        "Fix this text.",
        "Proofread this text.",
        "Proofread this.",
        "Correct all mistakes.",
        "Fix the mistakes.",
        "Improve this text.",
        "Clean up this text.",
        "Correct this sentence.",
        "Check this text and fix it.",
        "Edit this for me.",
    ),
}
_DAMAGES: dict[str, Damage] = {
    "grammar": grammar,
    "spelling": spelling,
    "capitals and marks": lambda text, rng: flatten(text),
    "all": everything,
}
_ENDINGS = (
    "",
    "",
    "",
    " Output only the corrected text.",
    " Change nothing else.",
    " Keep the rest as it is.",
    " Answer with the corrected text only.",
)
_FLATTENED = re.compile(
    r"[A-Z][a-z]*(?: [a-z]+)+[.]"
)  # of a sentence in lower case without marks nothing else can be restored


def generate(rng: np.random.Generator, split: Split, sentences: Sequence[str]) -> Example:
    """One text of `sentences` to mend, in one case of ten without a mistake; meta holds `source` and `edit`."""
    while True:
        answer = _text(rng, split, sentences)
        edit = choose(rng, ("grammar", "grammar", "spelling", "spelling", "capitals and marks", "all"))
        if edit == "capitals and marks" and not all(
            _FLATTENED.fullmatch(part) for part in re.split(r"(?<=\.) ", answer)
        ):
            continue
        source = answer if chance(rng, 0.1) and edit != "capitals and marks" else _DAMAGES[edit](answer, rng)
        if is_probe(source) or is_probe(answer):
            continue
        request = varied(rng, choose(rng, REQUESTS[edit]), keep=0.7) + choose(rng, _ENDINGS)
        form = rng.random()
        if form < 0.62:
            prompt = f"{request}\n\n{source}"
        elif form < 0.8:
            prompt = f"{request.rstrip('.?')}: {source}"
        elif form < 0.9:
            prompt = f"{request}\n{source}"
        else:
            prompt = f"{source}\n\n{request}"
        return Example(prompt, answer, {"source": source, "edit": edit})


def _text(rng: np.random.Generator, split: Split, sentences: Sequence[str]) -> str:
    """A sentence, sometimes two or three."""
    count = 1 if chance(rng, 0.75) else int(rng.integers(2, 4))
    chosen: list[str] = []
    while len(chosen) < count:
        sentence = choose(rng, sentences)
        if in_split(sentence, split) and (count == 1 or len(sentence.split()) < 16):
            chosen.append(sentence)
    return " ".join(chosen)
