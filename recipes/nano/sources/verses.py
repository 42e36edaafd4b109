"""Tiny stories and poems by rule: patterns by hand, whatever they are about. They show a small model what a whole one looks like."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources.knowledge import capital
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.sources.writing import REQUESTS
from recipes.nano.writer.topics import THINGS, UNCOUNTABLE, with_article

# {t} is the topic with "the", {a} with its article, {T} and {A} the same with a capital, {b} bare.
POEMS: dict[str, tuple[str, ...]] = {
    "animal": (
        "A {b} sat down beneath a tree\nAnd looked across the field at me.\nIt did not speak, it did not stay,\nIt only looked and went away.",
        "The little {b}, early in the day,\nWent out into the field to play.\nIt came back home when day was done\nAnd dreamt all night about the sun.",
        "I met {a} on my way,\nIt wished me well, it said good day.\nI laughed and said the same to it,\nAnd so we walked a little bit.",
        "Who is it there behind the door?\nThe {b}, that has come once more.\nIt wants a place to rest its head,\nSo let it sleep beside my bed.",
        "A {b} has no house, no key,\nNo clock, no book, no cup of tea.\nIt has the wind, it has the sun,\nAnd that is enough for everyone.",
        "Good night, dear {b}, sleep well and deep,\nThe stars above will watch your sleep.\nTomorrow there will be new light,\nSo close your eyes, good night, good night.",
    ),
    "thing": (
        "My {b} is old, my {b} is small,\nIt has its place beside the wall.\nI would not give it, not for gold,\nMy little {b}, small and old.",
        "There is {a} in my room,\nBeside the window and the broom.\nAnd when the evening light is low,\nIt tells of days of long ago.",
        "The {b} stood quiet in the night,\nWithout a sound, without a light.\nBut in the morning, there it lay,\nAnd shone as if to greet the day.",
        "I looked for the {b} everywhere,\nBehind the door, beneath the chair.\nAnd when at last I gave up hope,\nI found it lying near the soap.",
        "What would I do without {t}?\nIt helps me every day, you see.\nIt asks for nothing, does its part,\nAnd has a place within my heart.",
    ),
    "weather": (
        "The {b} is here, the {b} is near,\nIt comes again as every year.\nI watch it from my window seat\nAnd warm my hands and warm my feet.",
        "{B} on the roof and {b} on the hill,\nThe houses are quiet, the garden is still.\nI sit by the fire and drink my tea,\nAnd {b} outside sings softly to me.",
        "O {b}, you visit field and town,\nYou touch the roofs, you wander down.\nYou do not ask, you do not stay,\nAnd in the morning you are away.",
        "First there was silence, then there was {b},\nIt came to the valley again and again.\nThe birds in the tree looked out of their nest,\nAnd waited together and took a rest.",
    ),
    "nature": (
        "I saw {t} at break of day,\nAnd all my worries went away.\nSo still, so wide, so bright, so deep,\nA picture that my heart will keep.",
        "Look at {t}, how calm it lies\nBeneath the wide and open skies.\nIt was here before you and me,\nAnd will be here eternally.",
        "Come with me to see {t},\nThe way is short, the way is free.\nWe take some bread, we sing a song,\nAnd stay there all the evening long.",
        "When day is done and work is through,\nI go to see {t} with you.\nWe say no word, we only stand\nAnd hold each other by the hand.",
    ),
    "feeling": (
        "There is a thing they call {b},\nIt comes to you, it comes to me.\nYou cannot buy it, cannot keep,\nIt comes to us while others sleep.",
        "What is {b}? I asked the tree.\nThe tree said nothing back to me.\nI asked the river and the stone,\nAnd then I found it out alone.",
        "{B} is a guest who knocks at night,\nAnd sometimes leaves before the light.\nSo open wide and let it in,\nAnd let a better day begin.",
    ),
    "person": (
        "The {b} gets up before the sun,\nThere is so much that must be done.\nAnd when the day has gone to rest,\nThe {b} knows it was the best.",
        "I know {a} across the street,\nThe kindest one you ever meet.\nA smile, a word, a helping hand,\nThe dearest {b} in the land.",
        "Good morning, {b}, how do you do?\nThe sun is up and so are you.\nThe day is long, the sky is clear,\nHow very good that you are here.",
    ),
    "place": (
        "There is {a} that I know,\nWhere in the spring the roses grow.\nI go there when my day was long,\nAnd listen to the blackbird's song.",
        "At {t} in the evening light\nThe windows all are warm and bright.\nA door is opened, voices ring,\nAnd someone there begins to sing.",
        "I want to go to {t} again,\nBy bus, on foot or with the train.\nThere I was happy, there was I small,\nI can remember it all, it all.",
    ),
    "food": (
        "Give me {some}, a plate, a spoon,\nAnd I will eat it very soon.\nThere is no better thing to do\nThan sharing {some} with all of you.",
        "{Some} for breakfast, {some} for tea,\nNothing tastes as good to me.\nAnd if you ask what I would miss,\nI tell you, friend, it would be this.",
    ),
}  # fmt: skip
STORIES: dict[str, tuple[str, ...]] = {
    "animal": (
        "A little {b} lived near a village. One day it lost its way, and it was very afraid. A girl called {n} found it and carried it home.",
        "{n} saw {a} in the garden. It looked hungry, so {n} gave it some bread. From then on it came back every morning.",
        "There was once {a} that wanted to see the sea. It walked for seven days and seven nights. When it got there, it sat down on the sand and was happy.",
        "An old {b} and a young {b} sat under a tree. \"What is the most important thing?\" asked the young one. \"To have a friend,\" said the old one.",
        "One night {a} knocked at the door of {n}. It was cold and wet. {n} let it in, and the two sat by the fire until morning.",
        "The {b} was smaller than all the others, and they laughed at it. But when a storm came, it was the one that found the way home. After that nobody laughed any more.",
        "{n} had {a} that was afraid of thunder. When the next storm came, {n} sang a song. The {b} fell asleep before the song was over.",
    ),
    "thing": (
        "{n} found {a} in the attic. It was old and full of dust. When {n} cleaned it, there was a name on it: it was the name of {n}'s grandmother.",
        "{n} lost {a} and looked for it all day. It was not in the house and not in the garden. In the evening the neighbour brought it back.",
        "There was {a} in the window of a small shop. Every day {n} stopped to look at it. On {n}'s birthday it lay on the table.",
        "An old man gave {n} {a}. \"Take good care of it,\" he said. {n} kept it for a whole life.",
        "Nobody wanted {t} any more, so it stood in the rain. Then {n} came by and took it home. Now it has the best place in the room.",
        "{n} wanted to sell {t}, but nobody bought it. So {n} gave it to a child in the street. The child laughed, and {n} was happy too.",
    ),
    "weather": (
        "The {b} came in the night. In the morning {n} looked out of the window and laughed. Then all the children ran outside.",
        "{n} did not like {b}. But one day {n} met a friend because of it, and the two waited under a roof. Since then {n} likes it.",
        "There had been {b} for a week, and everybody was tired of it. Only {n} sang. When the sun came back, {n} sang on.",
    ),
    "nature": (
        "{n} wanted to see {t} up close. So {n} got up early and climbed the hill. It was more beautiful than in all the books.",
        "Every evening {n} looked at {t}. One evening a stranger stood there and looked too. They became friends without a word.",
    ),
    "feeling": (
        "{n} was looking for {b} and asked everybody in town. Nobody knew where it was. In the evening {n} came home, and there it was.",
        "A king wanted to buy {b}. He sent out his men with gold, but they came back without it. At last a child told him that it is not for sale.",
    ),
    "person": (
        "There was once {a} who worked from morning till night. One day {n} came and offered to help. From that day on they sang while they worked.",
        "The {b} of our town was very old. When nobody came any more, {n} brought a cake. Soon the whole street sat at the table.",
        "{n} wanted to become {a}. Everybody said that it was too difficult. {n} tried it all the same, and it went well.",
    ),
    "place": (
        "{n} went to {t} for the first time. There was so much to see that the day was too short. In the evening {n} did not want to go home.",
        "At {t} {n} found a small door. Behind it was a garden full of flowers. {n} told nobody but the cat.",
    ),
    "food": (
        "{n} made {some} for a friend. It got too salty, and both had to laugh. So they ate bread and were happy.",
        "There was only a little {b} left. {n} shared it with a poor old man. The next day the table was full.",
    ),
}  # fmt: skip
_CLASSES = {
    "animal": ("animals", "birds", "insects", "sea animals"),
    "thing": ("tools", "clothes", "furniture", "household things", "musical instruments", "vehicles", "plants"),
    "weather": ("weather",),
    "nature": ("nature",),
    "feeling": ("feelings",),
    "person": ("people",),
    "place": ("places",),
    "food": ("fruits", "vegetables", "foods", "drinks"),
}
CLASS_OF = {topic: name for name, kinds in _CLASSES.items() for kind in kinds for topic in THINGS[kind]}


def generate(rng: np.random.Generator, split: Split) -> Example:
    """A story or a poem; meta holds `kind` and `topic`. Test has topics that training never shows."""
    while True:
        topic = choose(rng, tuple(CLASS_OF))
        kind = choose(rng, ("story", "poem"))
        patterns = (STORIES if kind == "story" else POEMS)[CLASS_OF[topic]]
        if not in_split(f"topic {topic}", split):
            continue
        shown = with_article(topic)
        asked = choose(rng, REQUESTS[kind]).format(t=choose(rng, (shown, shown, shown.removeprefix("a ").removeprefix("an ") if topic in UNCOUNTABLE else shown)))
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, _filled(choose(rng, patterns), topic, rng), {"kind": kind, "topic": topic})


def _filled(pattern: str, topic: str, rng: np.random.Generator) -> str:
    article = with_article(topic)
    some = topic if topic in UNCOUNTABLE else article
    shown = {
        "b": topic, "B": capital(topic), "a": article, "A": capital(article), "t": f"the {topic}", "T": f"The {topic}", "some": some, "Some": capital(some),
        "n": choose(rng, WOMEN + MEN),
    }  # fmt: skip
    text = pattern.format(**shown)
    if topic[0] in "aeiou":
        for word in ("A", "a"):
            text = text.replace(f"{word} {topic}", f"{word}n {topic}")
    return text
