"""Changes to a text that keep all else: names and words replaced, lines added, removed, sorted, numbered.

Line ends stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from diffusiongemma.tasks.repair import misspell
from diffusiongemma.tasks.vocabulary import CITIES, COLOURS, MEN, WOMEN
from recipes.nano.sources import mending
from recipes.nano.sources.fact_tables import OPPOSITES, PASTS, PLURALS
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS

Rng = np.random.Generator
Change = tuple[str, str, str]  # instruction, before, after

_NAMES = WOMEN + MEN
_VERBS = tuple((base, past) for base, past in PASTS.items() if base not in ("be", "have", "do", "read", "lie"))
_SENTENCES = (
    "{n} lives in {c}.",
    "{n} is a baker.",
    "{n} has a {x} dog.",
    "{n} came from {c} yesterday.",
    "The {x} house belongs to {n}.",
    "{n} and {m} are friends.",
    "{n} bought a {x} coat.",
    "Every morning {n} walks to the river.",
    "{n} likes the {t}.",
    "There is a {t} in the {x} room.",
    "{m} wrote a letter to {n}.",
    "The {t} of {n} is {x}.",
    "{n} met {m} in {c}.",
    "The train to {c} is late.",
    "We saw a {x} {t}.",
    "{n} waits at the station.",
    "{m} sold the {t} to {n}.",
)
_THINGS = tuple(
    thing
    for kind in ("household things", "clothes", "tools", "furniture")
    for thing in THINGS[kind]
    if " " not in thing and thing not in ("scissors", "pliers", "glasses", "pyjamas")
)


def draw_sentences(rng: Rng, count: int) -> tuple[list[str], dict[str, str]]:
    """Sentences about the same few people, places and things, and what these are: n, m, c, x, t."""
    n, m = choose_several(rng, _NAMES, 2)
    shown = {"n": n, "m": m, "c": choose(rng, CITIES), "x": choose(rng, COLOURS), "t": choose(rng, _THINGS)}
    return [template.format(**shown) for template in choose_several(rng, _SENTENCES, count)], shown


def _replace(rng: Rng, old: str, new: str, what: str = "") -> str:
    named = f"the {what} {old}" if what else f'"{old}"'
    forms = (
        f"Change {named} to {new}.",
        f"Replace {old} with {new}.",
        f"Replace {named} by {new}.",
        f"Use {new} instead of {old}.",
        f"Rename {old} to {new}.",
        f'Change "{old}" to "{new}".',
        f'Replace "{old}" with "{new}".',
        f"{old} should be {new}.",
        f"Turn {old} into {new}.",
        f"Write {new} where it says {old}.",
    )
    return choose(rng, forms)


def _joined(rng: Rng, sentences: list[str]) -> str:
    return ("\n" if chance(rng, 0.35) else " ").join(sentences)


def replacing(rng: Rng) -> Change:
    sentences, shown = draw_sentences(rng, int(rng.integers(1, 5)))
    before = _joined(rng, sentences)
    kind, options, what = choose(
        rng,
        (
            ("n", _NAMES, "name"),
            ("n", _NAMES, "name"),
            ("m", _NAMES, "name"),
            ("c", CITIES, "city"),
            ("x", COLOURS, "colour"),
            ("t", _THINGS, ""),
        ),
    )
    old = shown[kind]
    if old not in before:
        return replacing(rng)
    new = choose(rng, [option for option in options if option not in shown.values()])
    return (
        _replace(rng, old, new, what if chance(rng, 0.4) else ""),
        before,
        re.sub(rf"\b{re.escape(old)}\b", new, before),
    )


_TENSE_SUBJECTS = ("I", "We", "They", "You", "The children", "My parents", "The dogs", "Our friends")
_TENSE_TAILS = {
    "go": "to the market",
    "see": "the sea",
    "eat": "an apple",
    "run": "home",
    "write": "a letter",
    "take": "the bus",
    "give": "her a book",
    "come": "by train",
    "make": "soup",
    "find": "a coin",
    "bring": "some bread",
    "buy": "new shoes",
    "sleep": "in a tent",
    "leave": "the house",
    "meet": "at the bridge",
    "sing": "a song",
    "swim": "in the lake",
    "drink": "tea",
    "drive": "to the city",
    "build": "a boat",
    "send": "a card",
    "lose": "the game",
    "stand": "at the door",
    "win": "a prize",
    "play": "in the garden",
    "work": "on Sunday",
    "open": "the window",
    "help": "the old man",
    "live": "in a village",
    "cook": "dinner",
    "look": "at the stars",
    "talk": "to the teacher",
    "wait": "for the train",
    "dance": "all night",
    "carry": "the box",
    "sit": "under a tree",
    "wear": "warm coats",
    "ride": "a horse",
    "sell": "flowers",
    "hear": "a noise",
    "begin": "in the morning",
    "feel": "tired",
    "speak": "French",
    "catch": "a fish",
    "fly": "to Rome",
    "pay": "the bill",
    "draw": "a house",
    "choose": "a film",
    "hold": "the rope",
    "walk": "along the river",
}


def tenses(rng: Rng) -> Change:
    """Present, past and future of one to three sentences."""
    count = 1 if chance(rng, 0.6) else int(rng.integers(2, 4))
    verbs = choose_several(rng, [pair for pair in _VERBS if pair[0] in _TENSE_TAILS], count)
    subjects = [choose(rng, _TENSE_SUBJECTS) for _ in verbs]

    def told(tense: str) -> str:
        shown = {
            "present": lambda base, past: base,
            "past": lambda base, past: past,
            "future": lambda base, past: f"will {base}",
        }[tense]
        return " ".join(
            f"{subject} {shown(base, past)} {_TENSE_TAILS[base]}."
            for subject, (base, past) in zip(subjects, verbs, strict=True)
        )

    before, after = choose_several(rng, ("present", "past", "future"), 2)
    forms = (
        "Rewrite in the {t} tense.",
        "Put this in the {t} tense.",
        "Change the tense to {t}.",
        "Write this in the {t} tense.",
        "Use the {t} tense.",
        "Turn this into the {t}.",
        "Put the text into the {t} tense.",
        "{t} tense, please.",
    )
    instruction = choose(rng, forms).format(t=after)
    return instruction[0].upper() + instruction[1:], told(before), told(after)


_LIST_KINDS = ("fruits", "vegetables", "animals", "tools", "clothes", "household things", "foods", "birds", "vehicles")


def lists(rng: Rng) -> Change:
    """Something done with lines."""
    kind = choose(rng, _LIST_KINDS)
    lines = choose_several(rng, THINGS[kind], int(rng.integers(2, 7)))
    before = "\n".join(lines)
    do = choose(
        rng,
        (
            "sort",
            "reverse",
            "number",
            "bullets",
            "first",
            "last",
            "remove",
            "add",
            "upper",
            "commas",
            "capital",
            "lines",
        ),
    )
    if do == "sort":
        return (
            choose(
                rng,
                (
                    "Sort the lines.",
                    "Sort these lines alphabetically.",
                    "Put the lines in alphabetical order.",
                    "Sort this list.",
                    "Sort alphabetically.",
                ),
            ),
            before,
            "\n".join(sorted(lines)),
        )
    if do == "reverse":
        return (
            choose(
                rng,
                (
                    "Reverse the order of the lines.",
                    "Turn the list upside down.",
                    "Reverse this list.",
                    "Last line first.",
                ),
            ),
            before,
            "\n".join(reversed(lines)),
        )
    if do == "number":
        return (
            choose(
                rng,
                ("Number the lines.", "Put numbers before the lines.", "Make a numbered list.", "Number this list."),
            ),
            before,
            "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)),
        )
    if do == "bullets":
        return (
            choose(
                rng,
                (
                    "Make a list with dashes.",
                    "Put a dash before each line.",
                    "Make bullet points.",
                    "Turn this into a bullet list.",
                ),
            ),
            before,
            "\n".join(f"- {line}" for line in lines),
        )
    if do == "first":
        return (
            choose(rng, ("Remove the first line.", "Delete the first line.", "Drop the first line.")),
            before,
            "\n".join(lines[1:]),
        )
    if do == "last":
        return (
            choose(rng, ("Remove the last line.", "Delete the last line.", "Drop the last line.")),
            before,
            "\n".join(lines[:-1]),
        )
    if do == "remove":
        gone = choose(rng, lines)
        return (
            choose(
                rng, ("Remove {g}.", "Delete {g} from the list.", "Take {g} off the list.", "Remove the line with {g}.")
            ).format(g=gone),
            before,
            "\n".join(x for x in lines if x != gone),
        )
    if do == "add":
        new = choose(rng, [thing for thing in THINGS[kind] if thing not in lines])
        if chance(rng, 0.5):
            return (
                choose(rng, ("Add {g} at the end.", "Add {g} to the list.", "Append {g}.", "Add the line {g}.")).format(
                    g=new
                ),
                before,
                "\n".join([*lines, new]),
            )
        return (
            choose(
                rng,
                ("Add {g} at the top.", "Put {g} first.", "Add {g} at the beginning.", "Insert {g} as the first line."),
            ).format(g=new),
            before,
            "\n".join([new, *lines]),
        )
    if do == "upper":
        return (
            choose(
                rng,
                (
                    "Write everything in capital letters.",
                    "Make it upper case.",
                    "All capitals, please.",
                    "Convert to upper case.",
                ),
            ),
            before,
            before.upper(),
        )
    if do == "commas":
        return (
            choose(
                rng,
                (
                    "Write the lines as one line with commas.",
                    "Join the lines with commas.",
                    "Put this in one line, apart by commas.",
                ),
            ),
            before,
            ", ".join(lines),
        )
    if do == "capital":
        return (
            choose(
                rng,
                (
                    "Begin each line with a capital letter.",
                    "Capitalise each line.",
                    "Make the first letter of each line a capital.",
                ),
            ),
            before,
            "\n".join(line[0].upper() + line[1:] for line in lines),
        )
    return (
        choose(rng, ("Put each item on a line of its own.", "Split this into lines.", "One item per line.")),
        ", ".join(lines),
        before,
    )


def words(rng: Rng) -> Change:
    """Something done with the words of one or two sentences."""
    sentences, shown = draw_sentences(rng, int(rng.integers(1, 3)))
    before = _joined(rng, sentences)
    do = choose(rng, ("upper", "lower", "question", "opposite", "delete", "exclaim", "quotes", "plural", "twice"))
    if do == "upper":
        return (
            choose(
                rng,
                (
                    "Write this in capital letters.",
                    "Convert to upper case.",
                    "All capitals.",
                    "Make everything upper case.",
                ),
            ),
            before,
            before.upper(),
        )
    if do == "lower":
        return (
            choose(
                rng,
                (
                    "Write this in lower case.",
                    "Convert to lower case.",
                    "No capital letters.",
                    "Make everything lower case.",
                ),
            ),
            before,
            before.lower(),
        )
    if do == "delete" and shown["x"] in before:
        x = shown["x"]
        return (
            choose(rng, ("Delete the word {x}.", 'Remove the word "{x}".', "Leave out {x}.", "Remove {x}.")).format(
                x=x
            ),
            before,
            re.sub(rf"\b{x} ", "", re.sub(rf" {x}\.", ".", before)),
        )
    if do == "exclaim":
        return (
            choose(
                rng,
                (
                    "End each sentence with an exclamation mark.",
                    "Use exclamation marks instead of full stops.",
                    "Replace the full stops by exclamation marks.",
                ),
            ),
            before,
            before.replace(".", "!"),
        )
    if do == "quotes":
        return (
            choose(
                rng, ("Put quotes around it.", "Put this in quotation marks.", "Add quotation marks around the text.")
            ),
            before,
            f'"{before}"',
        )
    if do == "twice":
        return (
            choose(rng, ("Write this twice.", "Repeat the text once.", "Say it two times.")),
            before,
            f"{before}{chr(10) if chr(10) in before else ' '}{before}",
        )
    if do == "opposite":
        a = choose(rng, [word for word in OPPOSITES if len(word) > 2])
        subject = choose(
            rng, ("The tea", "This room", "My coat", "The road", "Her answer", "The day", "That story", "The box")
        )
        return (
            choose(rng, ("Say the opposite.", "Write the opposite.", "Turn it into the opposite.")),
            f"{subject} is {a}.",
            f"{subject} is {OPPOSITES[a]}.",
        )
    if do == "plural":
        one = choose(rng, [word for word in PLURALS if PLURALS[word] != word])
        verb = choose(rng, ("is here", "was old", "is small", "was gone", "is new", "was red"))
        many = (
            verb.replace("is", "are").replace("was", "were")
            if not verb.startswith("is")
            else verb.replace("is", "are", 1)
        )
        return (
            choose(rng, ("Put this in the plural.", "Write it in the plural.", "Change to the plural.")),
            f"The {one} {verb}.",
            f"The {PLURALS[one]} {many}.",
        )
    n = shown["n"]
    return (
        choose(rng, ("Turn this into a question.", "Make it a question.", "Ask it as a question.")),
        f"{n} is tired.",
        f"Is {n} tired?",
    )


def lines_to_mend(rng: Rng, sentences: Sequence[str]) -> Change:
    """Several lines, of which some have mistakes; the lines stay lines."""
    lines = [choose(rng, sentences) for _ in range(int(rng.integers(2, 5)))]
    wrong = [misspell(line, rng, 1) if chance(rng, 0.7) else line for line in lines]
    request = choose(
        rng,
        mending._REQUESTS["spelling"] + ("Correct the spelling and keep the lines.", "Fix the spelling in every line."),
    )
    return request, "\n".join(wrong), "\n".join(lines)


def generate(rng: np.random.Generator, split: Split, sentences: Sequence[str] = ()) -> Example:
    """One change; meta holds `source` and `edit`. With `sentences`, some of the texts are theirs."""
    changes: list[tuple[str, Callable[[Rng], Change], float]] = [
        ("replace", replacing, 3.0),
        ("tense", tenses, 2.0),
        ("lines", lists, 2.5),
        ("words", words, 1.5),
    ]
    if sentences:
        changes.append(("spelling of lines", lambda rng: lines_to_mend(rng, sentences), 2.0))
    shares = np.array([share for *_, share in changes])
    while True:
        name, change, _ = changes[int(rng.choice(len(changes), p=shares / shares.sum()))]
        instruction, before, after = change(rng)
        if not after or not in_split(before, split) or is_probe(before) or is_probe(after):
            continue
        before, after = _with_line_ends(rng, before, after)
        instruction = varied(rng, instruction, keep=0.7) + choose(
            rng, ("", "", "", "", " Change nothing else.", " Output only the text.")
        )
        form = rng.random()
        if form < 0.75 or "\n" in before:
            prompt = f"{instruction}\n\n{before}"
        else:
            prompt = f"{instruction.rstrip('.')}: {before}" if form < 0.9 else f"{before}\n\n{instruction}"
        return Example(prompt, after, {"source": before, "edit": name})


def _with_line_ends(rng: Rng, before: str, after: str) -> tuple[str, str]:
    """Sometimes Windows' line ends, sometimes an empty line between; in both alike."""
    if "\n" in before and "\n" in after:
        if chance(rng, 0.12):
            return before.replace("\n", "\r\n"), after.replace("\n", "\r\n")
        if chance(rng, 0.08):
            return before.replace("\n", "\n\n"), after.replace("\n", "\n\n")
    return before, after
