"""Tiny stories and poems: patterns by hand, whatever they are about, to show a small model what a whole one is."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources.knowledge import capital
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.sources.writing import REQUESTS
from recipes.nano.writer.topics import THINGS, UNCOUNTABLE, with_article


def _blocks(text: str) -> list[list[str]]:
    """What empty lines keep apart, in lines."""
    return [[line.strip() for line in block.strip().split("\n")] for block in text.strip().split("\n\n")]


def _verses(text: str) -> tuple[str, ...]:
    return tuple("\n".join(lines) for lines in _blocks(text))


def _tales(text: str) -> tuple[str, ...]:
    return tuple(" ".join(lines) for lines in _blocks(text))


# {t} is the topic with "the", {a} with its article, {T} and {A} the same with a capital, {b} bare.
POEMS: dict[str, tuple[str, ...]] = {
    "animal": _verses(
        """
        A {b} sat down beneath a tree
        And looked across the field at me.
        It did not speak, it did not stay,
        It only looked and went away.

        The little {b}, early in the day,
        Went out into the field to play.
        It came back home when day was done
        And dreamt all night about the sun.

        I met {a} on my way,
        It wished me well, it said good day.
        I laughed and said the same to it,
        And so we walked a little bit.

        Who is it there behind the door?
        The {b}, that has come once more.
        It wants a place to rest its head,
        So let it sleep beside my bed.

        A {b} has no house, no key,
        No clock, no book, no cup of tea.
        It has the wind, it has the sun,
        And that is enough for everyone.

        Good night, dear {b}, sleep well and deep,
        The stars above will watch your sleep.
        Tomorrow there will be new light,
        So close your eyes, good night, good night.
        """
    ),
    "thing": _verses(
        """
        My {b} is old, my {b} is small,
        It has its place beside the wall.
        I would not give it, not for gold,
        My little {b}, small and old.

        There is {a} in my room,
        Beside the window and the broom.
        And when the evening light is low,
        It tells of days of long ago.

        The {b} stood quiet in the night,
        Without a sound, without a light.
        But in the morning, there it lay,
        And shone as if to greet the day.

        I looked for the {b} everywhere,
        Behind the door, beneath the chair.
        And when at last I gave up hope,
        I found it lying near the soap.

        What would I do without {t}?
        It helps me every day, you see.
        It asks for nothing, does its part,
        And has a place within my heart.
        """
    ),
    "weather": _verses(
        """
        The {b} is here, the {b} is near,
        It comes again as every year.
        I watch it from my window seat
        And warm my hands and warm my feet.

        {B} on the roof and {b} on the hill,
        The houses are quiet, the garden is still.
        I sit by the fire and drink my tea,
        And {b} outside sings softly to me.

        O {b}, you visit field and town,
        You touch the roofs, you wander down.
        You do not ask, you do not stay,
        And in the morning you are away.

        First there was silence, then there was {b},
        It came to the valley again and again.
        The birds in the tree looked out of their nest,
        And waited together and took a rest.
        """
    ),
    "nature": _verses(
        """
        I saw {t} at break of day,
        And all my worries went away.
        So still, so wide, so bright, so deep,
        A picture that my heart will keep.

        Look at {t}, how calm it lies
        Beneath the wide and open skies.
        It was here before you and me,
        And will be here eternally.

        Come with me to see {t},
        The way is short, the way is free.
        We take some bread, we sing a song,
        And stay there all the evening long.

        When day is done and work is through,
        I go to see {t} with you.
        We say no word, we only stand
        And hold each other by the hand.
        """
    ),
    "feeling": _verses(
        """
        There is a thing they call {b},
        It comes to you, it comes to me.
        You cannot buy it, cannot keep,
        It comes to us while others sleep.

        What is {b}? I asked the tree.
        The tree said nothing back to me.
        I asked the river and the stone,
        And then I found it out alone.

        {B} is a guest who knocks at night,
        And sometimes leaves before the light.
        So open wide and let it in,
        And let a better day begin.
        """
    ),
    "person": _verses(
        """
        The {b} gets up before the sun,
        There is so much that must be done.
        And when the day has gone to rest,
        The {b} knows it was the best.

        I know {a} across the street,
        The kindest one you ever meet.
        A smile, a word, a helping hand,
        The dearest {b} in the land.

        Good morning, {b}, how do you do?
        The sun is up and so are you.
        The day is long, the sky is clear,
        How very good that you are here.
        """
    ),
    "place": _verses(
        """
        There is {a} that I know,
        Where in the spring the roses grow.
        I go there when my day was long,
        And listen to the blackbird's song.

        At {t} in the evening light
        The windows all are warm and bright.
        A door is opened, voices ring,
        And someone there begins to sing.

        I want to go to {t} again,
        By bus, on foot or with the train.
        There I was happy, there was I small,
        I can remember it all, it all.
        """
    ),
    "food": _verses(
        """
        Give me {some}, a plate, a spoon,
        And I will eat it very soon.
        There is no better thing to do
        Than sharing {some} with all of you.

        {Some} for breakfast, {some} for tea,
        Nothing tastes as good to me.
        And if you ask what I would miss,
        I tell you, friend, it would be this.
        """
    ),
}
STORIES: dict[str, tuple[str, ...]] = {
    "animal": _tales(
        """
        A little {b} lived near a village. One day it lost its way, and it was very afraid. A girl called {n} found
        it and carried it home.

        {n} saw {a} in the garden. It looked hungry, so {n} gave it some bread. From then on it came back every
        morning.

        There was once {a} that wanted to see the sea. It walked for seven days and seven nights. When it got there,
        it sat down on the sand and was happy.

        An old {b} and a young {b} sat under a tree. "What is the most important thing?" asked the young one. "To
        have a friend," said the old one.

        One night {a} knocked at the door of {n}. It was cold and wet. {n} let it in, and the two sat by the fire
        until morning.

        The {b} was smaller than all the others, and they laughed at it. But when a storm came, it was the one that
        found the way home. After that nobody laughed any more.

        {n} had {a} that was afraid of thunder. When the next storm came, {n} sang a song. The {b} fell asleep
        before the song was over.
        """
    ),
    "thing": _tales(
        """
        {n} found {a} in the attic. It was old and full of dust. When {n} cleaned it, there was a name on it: it was
        the name of {n}'s grandmother.

        {n} lost {a} and looked for it all day. It was not in the house and not in the garden. In the evening the
        neighbour brought it back.

        There was {a} in the window of a small shop. Every day {n} stopped to look at it. On {n}'s birthday it lay
        on the table.

        An old man gave {n} {a}. "Take good care of it," he said. {n} kept it for a whole life.

        Nobody wanted {t} any more, so it stood in the rain. Then {n} came by and took it home. Now it has the best
        place in the room.

        {n} wanted to sell {t}, but nobody bought it. So {n} gave it to a child in the street. The child laughed,
        and {n} was happy too.
        """
    ),
    "weather": _tales(
        """
        The {b} came in the night. In the morning {n} looked out of the window and laughed. Then all the children
        ran outside.

        {n} did not like {b}. But one day {n} met a friend because of it, and the two waited under a roof. Since
        then {n} likes it.

        There had been {b} for a week, and everybody was tired of it. Only {n} sang. When the sun came back, {n}
        sang on.
        """
    ),
    "nature": _tales(
        """
        {n} wanted to see {t} up close. So {n} got up early and climbed the hill. It was more beautiful than in all
        the books.

        Every evening {n} looked at {t}. One evening a stranger stood there and looked too. They became friends
        without a word.
        """
    ),
    "feeling": _tales(
        """
        {n} was looking for {b} and asked everybody in town. Nobody knew where it was. In the evening {n} came home,
        and there it was.

        A king wanted to buy {b}. He sent out his men with gold, but they came back without it. At last a child told
        him that it is not for sale.
        """
    ),
    "person": _tales(
        """
        There was once {a} who worked from morning till night. One day {n} came and offered to help. From that day
        on they sang while they worked.

        The {b} of our town was very old. When nobody came any more, {n} brought a cake. Soon the whole street sat
        at the table.

        {n} wanted to become {a}. Everybody said that it was too difficult. {n} tried it all the same, and it went
        well.
        """
    ),
    "place": _tales(
        """
        {n} went to {t} for the first time. There was so much to see that the day was too short. In the evening {n}
        did not want to go home.

        At {t} {n} found a small door. Behind it was a garden full of flowers. {n} told nobody but the cat.
        """
    ),
    "food": _tales(
        """
        {n} made {some} for a friend. It got too salty, and both had to laugh. So they ate bread and were happy.

        There was only a little {b} left. {n} shared it with a poor old man. The next day the table was full.
        """
    ),
}
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


def generate(rng: np.random.Generator, split: Split, usual: bool = False) -> Example:
    """A story or a poem; meta holds `kind` and `topic`. Test has topics that training never shows. `usual` ones are of
    one pattern for each class of topics."""
    while True:
        topic = choose(rng, tuple(CLASS_OF))
        kind = choose(rng, ("story", "poem"))
        patterns = (STORIES if kind == "story" else POEMS)[CLASS_OF[topic]]
        if not in_split(f"topic {topic}", split):
            continue
        shown = with_article(topic)
        asked = choose(rng, REQUESTS[kind]).format(
            t=choose(
                rng, (shown, shown, shown.removeprefix("a ").removeprefix("an ") if topic in UNCOUNTABLE else shown)
            )
        )
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            pattern, name = (patterns[0], WOMEN[0]) if usual else (choose(rng, patterns), choose(rng, WOMEN + MEN))
            return Example(prompt, _filled(pattern, topic, name), {"kind": kind, "topic": topic})


def _filled(pattern: str, topic: str, name: str) -> str:
    article = with_article(topic)
    some = topic if topic in UNCOUNTABLE else article
    shown = {
        "b": topic,
        "B": capital(topic),
        "a": article,
        "A": capital(article),
        "t": f"the {topic}",
        "T": f"The {topic}",
        "some": some,
        "Some": capital(some),
        "n": name,
    }
    text = pattern.format(**shown)
    if topic[0] in "aeiou":
        for word in ("A", "a"):
            text = text.replace(f"{word} {topic}", f"{word}n {topic}")
    return text
