"""What is asked of the writer, what is taken of it, and that a run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipes.nano.writer.__main__ import written
from recipes.nano.writer.filters import judge, loops, names
from recipes.nano.writer.kinds import BY_NAME, KINDS, item
from recipes.nano.writer.shards import Shards, read, totals
from recipes.nano.writer.topics import with_article


def order(number, prompt, shots, tokens, temperature):
    return SimpleNamespace(number=number, prompt=prompt, shots=shots, tokens=tokens)


class Writer:
    """Writes one sentence about whatever it is asked; stops after `most` orders."""

    def __init__(self, most: int = 10**9):
        self.most, self.asked = most, []

    def write(self, orders: Iterator) -> Iterator:
        for one in orders:
            if len(self.asked) == self.most:
                return
            self.asked.append(one.number)
            topic = item(one.number).topic
            text = f"Here is a sentence: I once saw {with_article(topic)} and thought number {one.number} of it."
            yield one, SimpleNamespace(text=text, likelihood=-1.0, tokens=12, ended=True)


def test_items_are_the_same_whenever_they_are_asked_for():
    assert [item(n) for n in range(50)] == [item(n) for n in range(50)]
    assert {item(n).kind for n in range(0, 4000, 4)} == {kind.name for kind in KINDS}
    assert all("{" not in item(n).request for n in range(500))


def test_a_run_goes_on_with_the_shards_that_are_missing(tmp_path: Path):
    stopped, again = Writer(most=25), Writer()
    assert list(written(stopped, order, Shards(tmp_path, 10), 40))[-1] == 25 * 12
    list(written(again, order, Shards(tmp_path, 10), 40))
    assert again.asked == list(range(20, 40))
    counts = totals(tmp_path)
    kept = list(read(tmp_path))
    assert counts["kept"] == len(kept) > 5
    assert counts["tokens True"] + counts["tokens False"] == 40 * 12
    assert [record["item"] for record in kept] == sorted(record["item"] for record in kept)
    assert {record["split"] for record in kept} <= {"train", "test"}
    assert all(record["text"].startswith("I once saw") for record in kept)


@pytest.mark.parametrize(
    "kind, topic, text, reason",
    [
        ("describe", "dog", "A dog is a friendly animal that likes to run.", ""),
        ("describe", "dog", '"A dog is a friendly animal that likes to run."', ""),
        ("describe", "dog", "A cat is a friendly animal that likes to run.", "off the topic"),
        ("describe", "dog", "A dog is a friendly animal that likes to", "sentences"),
        ("describe", "dog", "As an AI language model I like a dog very much.", "refused words"),
        ("describe", "dog", "Ein Hund ist größer als eine Maus, the dog.", "characters"),
        ("describe", "dog", "Dog.", "length"),
        (
            "story",
            "key",
            "Anna lost her key. She looked in the garden and in the house. A bird had it in its nest.",
            "",
        ),
        ("story", "key", "Anna lost her key. Anna lost her key. Anna lost her key, the key of her house.", "loop"),
        (
            "poem",
            "rain",
            "Here is a poem about rain:\n\nThe rain falls down\non roof and town,\nit sings to me\nand to the sea.",
            "",
        ),
        ("poem", "rain", "The rain falls down on the roof and on the town and sings.", "lines"),
    ],
)
def test_judging(kind: str, topic: str, text: str, reason: str):
    assert judge(BY_NAME[kind], topic, text, True, -1.0).reason == reason


def test_a_text_cut_short_keeps_its_whole_sentences():
    text = "Anna lost her key in the garden. She looked for it in the house and in the shed. A bird had"
    verdict = judge(BY_NAME["story"], "key", text, False, -1.0)
    assert verdict.text.endswith("in the shed.")


def test_what_the_writer_finds_unlikely_is_refused():
    assert judge(BY_NAME["describe"], "dog", "A dog is an animal.", True, -5.0).reason == "unlikely"


def test_loops_and_topics():
    assert loops("the sea, the sea is big and the sea is big and the sea is big")
    assert not loops("The sea is big. A boat sails on it, far away from the land.")
    assert names("Two berries lay there.", "berry") and not names("A cat sat there.", "dog")


def test_articles():
    assert [with_article(t) for t in ("dog", "owl", "rain", "moon")] == ["a dog", "an owl", "rain", "the moon"]
