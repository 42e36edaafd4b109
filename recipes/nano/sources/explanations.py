"""What things are, why they happen and what ideas mean, in a sentence: a table by hand, and WordNet's definitions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from recipes.nano.sources.knowledge import capital
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS, UNCOUNTABLE, with_article

_TABLE = re.compile(r"^\s*(?P<key>[^|\n]+?)\s*\|\s*(?P<text>[^\n]+?)\s*$", re.M)


def _entries(text: str) -> dict[str, str]:
    return {match["key"]: match["text"] for match in _TABLE.finditer(text)}


# Key as it stands in "What is …?" or "Explain …".
MEANINGS = _entries(
    """
    a spider | A spider is a small animal with eight legs that catches insects in its web.
    a mouse | A mouse is a small grey animal with a long tail.
    a rabbit | A rabbit is a small animal with long ears that lives in holes in the ground.
    a sheep | A sheep is a farm animal that gives us wool.
    a goat | A goat is a farm animal with horns that gives milk.
    a pig | A pig is a farm animal with a flat nose and a curly tail.
    a chicken | A chicken is a bird that lays eggs.
    a duck | A duck is a bird that swims on lakes and rivers.
    a bear | A bear is a large strong animal with thick fur.
    a wolf | A wolf is a wild animal like a dog that lives in packs.
    a fox | A fox is a clever wild animal with red fur and a bushy tail.
    a tiger | A tiger is a large wild cat with orange fur and black stripes.
    a monkey | A monkey is an animal with a long tail that climbs in trees.
    a crocodile | A crocodile is a large reptile with a long mouth full of teeth.
    a turtle | A turtle is a slow animal with a hard shell.
    a camel | A camel is a desert animal that stores fat in its hump.
    an eagle | An eagle is a large bird that hunts from high in the air.
    a dolphin | A dolphin is a clever animal that lives in the sea.
    a phone | A phone is a device for talking with people far away.
    a camera | A camera is a device that takes pictures.
    a television | A television is a device that shows moving pictures.
    a doctor | A doctor is a person who helps sick people to get well.
    a teacher | A teacher is a person who helps others to learn.
    a friend | A friend is a person whom you like and trust.
    a family | A family is a group of people who belong together, such as parents and children.
    a city | A city is a large place where many people live and work.
    a country | A country is a land with its own people and government.
    water | Water is a clear liquid that all living things need.
    air | Air is the mixture of gases around us that we breathe.
    love | Love is a strong feeling of caring for somebody.
    happiness | Happiness is the good feeling that we have when things are well.
    a language model | A language model is a program that has learnt from texts to write more text.
    text diffusion | Text diffusion begins with random words and corrects all of them together, step by step.
    machine learning | Machine learning means that a computer learns from examples instead of fixed rules.
    grammar | Grammar is the set of rules for putting words together.
    an email | An email is a letter that is sent from one computer to another.
    gravity | Gravity is the force that pulls things towards each other, so that everything falls to the ground.
    electricity | Electricity is the flow of tiny charged particles through a wire.
    magnetism | Magnetism is a force that pulls iron towards a magnet.
    evolution | Evolution is the slow change of living things over many generations.
    photosynthesis | Photosynthesis is how plants make sugar from light, water and air.
    democracy | Democracy is a form of government in which the people choose their leaders by voting.
    inflation | Inflation means that prices rise and money buys less.
    money | Money is what people use to pay for things.
    friction | Friction is the force that slows things down when they rub against each other.
    energy | Energy is what is needed to move, heat or change something.
    sound | Sound is a wave of pressure that travels through the air to our ears.
    light | Light is what we see with our eyes; it travels faster than anything else.
    heat | Heat is the energy of the small movements in things.
    weather | Weather is what the air does outside: sun, rain, wind and snow.
    climate | Climate is the usual weather of a place over many years.
    time | Time is what clocks measure: the order in which things happen.
    the moon | The moon is a ball of rock that goes round the earth once a month.
    the sun | The sun is a star that gives the earth light and warmth.
    a rainbow | A rainbow is a bow of colours that appears when the sun shines on rain.
    rain | Rain is water that falls in drops from the clouds.
    snow | Snow is frozen water that falls from the clouds in white flakes.
    lightning | Lightning is a great spark of electricity between clouds and the ground.
    thunder | Thunder is the loud sound that lightning makes.
    wind | Wind is moving air.
    a tide | A tide is the rise and fall of the sea, caused by the moon.
    an earthquake | An earthquake is a shaking of the ground.
    a volcano | A volcano is a mountain that can throw out hot melted rock.
    an eclipse | An eclipse is when the moon hides the sun or the earth's shadow hides the moon.
    a shadow | A shadow is the dark shape where something keeps the light away.
    an echo | An echo is a sound that comes back from a wall or a mountain.
    a magnet | A magnet is a piece of metal that attracts iron.
    a battery | A battery stores energy and gives it back as electricity.
    a computer | A computer is a machine that follows instructions to work with data.
    the internet | The internet is a network that connects computers all over the world.
    a computer program | A computer program is a list of instructions for a computer.
    a robot | A robot is a machine that can do work by itself.
    a telescope | A telescope is an instrument for looking at things far away, such as stars.
    a microscope | A microscope is an instrument for looking at very small things.
    a thermometer | A thermometer is an instrument that measures temperature.
    a compass | A compass is an instrument whose needle points north.
    a clock | A clock is a device that shows the time.
    an engine | An engine is a machine that turns fuel into movement.
    a wheel | A wheel is a round thing that turns and lets other things roll.
    a bridge | A bridge carries a road over a river or a valley.
    an airplane | An airplane is a vehicle with wings that flies through the air.
    a rocket | A rocket is a vehicle that flies into space by pushing hot gas out behind.
    a satellite | A satellite is an object that goes round a planet.
    a planet | A planet is a large round body that goes round a star.
    a star | A star is a huge ball of hot gas that gives off light.
    a galaxy | A galaxy is a very large group of stars.
    a comet | A comet is a ball of ice and dust with a long bright tail.
    the atmosphere | The atmosphere is the layer of air around the earth.
    oxygen | Oxygen is the gas in the air that we need to breathe.
    an atom | An atom is the smallest piece of a chemical element.
    a molecule | A molecule is a group of atoms that are joined together.
    a cell | A cell is the smallest part of a living thing.
    a virus | A virus is a tiny thing that can make living things ill.
    bacteria | Bacteria are tiny living things that consist of a single cell.
    a vaccine | A vaccine teaches the body to protect itself from an illness.
    sleep | Sleep is the rest that body and mind take at night.
    a dream | A dream is a story that we see while we sleep.
    digestion | Digestion is how the body turns food into energy.
    the heart | The heart is the muscle that pumps blood through the body.
    the brain | The brain is the organ that we think and feel with.
    blood | Blood is the red liquid that carries oxygen through the body.
    memory | Memory is the ability to keep and remember what one has learned.
    language | Language is the way in which people speak and write to each other.
    music | Music is sound that is arranged so that people enjoy it.
    art | Art is what people make to show feelings and ideas.
    a poem | A poem is a short text in lines that plays with sounds and pictures.
    a metaphor | A metaphor calls one thing by the name of another to show a likeness.
    a rhyme | A rhyme is when two words end with the same sound.
    a verb | A verb is a word that says what someone does.
    a noun | A noun is a word that names a person, a place or a thing.
    an adjective | An adjective is a word that describes a thing.
    a sentence | A sentence is a group of words that says something complete.
    history | History is the study of what happened in the past.
    geography | Geography is the study of places on the earth.
    biology | Biology is the study of living things.
    chemistry | Chemistry is the study of substances and how they change.
    physics | Physics is the study of matter, energy and forces.
    mathematics | Mathematics is the study of numbers, shapes and patterns.
    addition | Addition is putting two numbers together to get their sum.
    multiplication | Multiplication is adding the same number several times.
    a fraction | A fraction is a part of a whole, such as one half.
    a triangle | A triangle is a shape with three sides and three corners.
    a square | A square is a shape with four equal sides and four right angles.
    a circle | A circle is a round line on which every point is equally far from the middle.
    a map | A map is a drawing that shows where places are.
    a law | A law is a rule that everyone in a country has to follow.
    a government | A government is the group of people that runs a country.
    a tax | A tax is money that people pay to the state.
    a bank | A bank is a place that keeps and lends money.
    a loan | A loan is money that one borrows and has to pay back.
    trade | Trade is buying and selling things.
    recycling | Recycling is making new things from old material.
    pollution | Pollution is dirt that harms air, water or soil.
    a forest | A forest is a large area with many trees.
    a desert | A desert is a very dry place where little grows.
    an ocean | An ocean is a very large sea.
    a river | A river is a stream of water that flows to the sea.
    a lake | A lake is a large area of water with land all around.
    a mountain | A mountain is a very high hill.
    an island | An island is land with water all around.
    a glacier | A glacier is a river of ice that moves very slowly.
    a food chain | A food chain shows who eats whom in nature.
    hibernation | Hibernation is the long sleep of some animals in winter.
    migration | Migration is the long journey of animals to another place.
    camouflage | Camouflage is a colour or shape that makes an animal hard to see.
    a seed | A seed is the small part of a plant from which a new one grows.
    a fossil | A fossil is what is left in stone of a plant or animal of long ago.
    a dinosaur | A dinosaur is a reptile that lived millions of years ago.
    a mammal | A mammal is an animal that feeds its young with milk.
    a reptile | A reptile is a cold-blooded animal with scales, such as a snake.
    an insect | An insect is a small animal with six legs.
    a fish | A fish is an animal that lives in water and breathes with gills.
    a bird | A bird is an animal with feathers and wings that lays eggs.
    evaporation | Evaporation is when water turns into vapour and rises into the air.
    freezing | Freezing is when a liquid becomes solid because it is cold.
    melting | Melting is when something solid becomes liquid because it is warm.
    rust | Rust is the brown layer that forms on iron when it gets wet.
    fire | Fire is the heat and light of something that burns.
    ice | Ice is frozen water.
    steam | Steam is water that has become a hot gas.
    speed | Speed says how far something moves in a certain time.
    temperature | Temperature says how hot or cold something is.
    a mirror | A mirror is a piece of glass in which one can see oneself.
    an experiment | An experiment is a test to find out whether an idea is true.
    a theory | A theory is an idea that explains what one can observe.
    logic | Logic is the art of drawing right conclusions.
    friendship | Friendship is the bond between people who like and help each other.
    honesty | Honesty means telling the truth.
    courage | Courage means doing what is right although one is afraid.
    patience | Patience means being able to wait without getting angry.
    justice | Justice means that everyone is treated fairly.
    freedom | Freedom means that one can decide for oneself.
    peace | Peace is a time without war.
    a promise | A promise is when you say that you will surely do something.
    a joke | A joke is a short story that makes people laugh.
    a novel | A novel is a long story in a book.
    a library | A library is a place where one can read and borrow books.
    a museum | A museum is a place where old or beautiful things are shown.
    a school | A school is a place where children learn.
    a university | A university is a place where people study after school.
    a hospital | A hospital is a place where sick people are treated.
    a farm | A farm is a place where food is grown and animals are kept.
    a factory | A factory is a place where things are made with machines.
    yeast | Yeast is a tiny living thing that makes dough rise.
    a vitamin | A vitamin is something in food that the body needs to stay healthy.
    a fever | A fever is when the body is hotter than usual because of an illness.
    a password | A password is a secret word that lets you use something.
    an algorithm | An algorithm is a list of steps that solves a problem.
    artificial intelligence | Artificial intelligence means machines that do things for which people need to think.
    a sudoku | A sudoku is a puzzle in which every row, column and box holds the digits from 1 to 9.
    a leap year | A leap year is a year with 366 days.
    a passport | A passport is a small book that shows who you are when you travel.
    a recipe | A recipe tells how to cook something.
    a dictionary | A dictionary is a book that explains words.
    a calendar | A calendar shows the days and months of the year.
    a dog | A dog is an animal that lives with people and likes to run and bark.
    a cat | A cat is a small animal with soft fur that catches mice.
    a horse | A horse is a large animal that people can ride.
    a cow | A cow is a large animal that gives milk.
    an elephant | An elephant is a very large grey animal with a trunk.
    a lion | A lion is a large wild cat that lives in Africa.
    a whale | A whale is a very large animal that lives in the sea and breathes air.
    a bee | A bee is a small insect that makes honey.
    an owl | An owl is a bird that hunts at night.
    a snake | A snake is a long animal without legs.
    a frog | A frog is a small green animal that can jump and swim.
    a butterfly | A butterfly is an insect with large coloured wings.
    an ant | An ant is a tiny insect that lives with many others in a nest.
    a penguin | A penguin is a black and white bird that swims but cannot fly.
    a kangaroo | A kangaroo is a jumping animal from Australia with a pouch.
    a giraffe | A giraffe is a very tall animal with a long neck.
    an octopus | An octopus is a sea animal with eight arms.
    a shark | A shark is a large fish with sharp teeth.
    a tree | A tree is a tall plant with a trunk, branches and leaves.
    a flower | A flower is the colourful part of a plant.
    an apple | An apple is a round fruit that grows on trees.
    a banana | A banana is a long yellow fruit.
    a lemon | A lemon is a sour yellow fruit.
    a carrot | A carrot is a long orange vegetable that grows in the ground.
    a potato | A potato is a vegetable that grows under the ground.
    bread | Bread is a food made of flour and water that is baked in an oven.
    cheese | Cheese is a food made from milk.
    butter | Butter is a yellow fat made from cream.
    honey | Honey is a sweet food that bees make.
    tea | Tea is a hot drink made from dried leaves.
    coffee | Coffee is a dark drink made from roasted beans.
    a house | A house is a building in which people live.
    a castle | A castle is a large old building with thick walls and towers.
    a ship | A ship is a large boat that sails on the sea.
    a train | A train is a row of wagons that runs on rails.
    a bicycle | A bicycle is a vehicle with two wheels that you move with your feet.
    a car | A car is a vehicle with four wheels and an engine.
    a book | A book is a set of printed pages that one can read.
    a letter | A letter is a written message that is sent by post.
    an umbrella | An umbrella is a thing that keeps you dry in the rain.
    a piano | A piano is a large musical instrument with black and white keys.
    a violin | A violin is a musical instrument with four strings that is played with a bow.
    chess | Chess is a board game for two players with 32 pieces.
    football | Football is a game in which two teams try to kick a ball into a goal.
    """
)
# "Why" with the verb marked by a slash, as in "Why do leaves fall?" or "Why is the sky blue?".
REASONS = _entries(
    """
    the sky /is blue | The sky is blue because the air scatters blue light more than other colours.
    the sunset /is red | The sunset is red because the light goes a long way through the air and loses its blue.
    leaves /fall in autumn | Leaves fall in autumn because the trees save water and energy for the winter.
    ice /floats on water | Ice floats because it is lighter than the same amount of water.
    people /sleep | People sleep because body and mind need rest.
    cats /purr | Cats purr mostly because they feel well.
    dogs /bark | Dogs bark to warn, to greet or to call someone.
    birds /fly south in winter | Birds fly south in winter because they find more food where it is warm.
    birds /sing | Birds sing to find a partner and to defend their place.
    the sea /is salty | The sea is salty because rivers carry salt from the rocks into it.
    it /rains | It rains because water drops in the clouds become too heavy and fall.
    the moon /changes its shape | The moon seems to change because the sun lights another part of it each day.
    the moon /shines | The moon shines because it reflects the light of the sun.
    bread /rises | Bread rises because yeast makes small bubbles of gas in the dough.
    iron /rusts | Iron rusts because it combines with water and oxygen.
    plants /need light | Plants need light to make their food.
    plants /need water | Plants need water to grow and to carry food from the soil to the leaves.
    bees /make honey | Bees make honey to have food in winter.
    the sun /is hot | The sun is hot because atoms melt together inside it and set free energy.
    there /are seasons | There are seasons because the axis of the earth is tilted.
    it /is cold in winter | It is cold in winter because the sun stands low and the days are short.
    it /is dark at night | It is dark at night because our side of the earth is turned away from the sun.
    people /have bones | People have bones because the body needs something firm to hold it up.
    people /need water | People need water because the body loses it all day and cannot work without it.
    people /breathe | People breathe because the body needs oxygen.
    people /eat | People eat because the body needs energy.
    onions /make us cry | Onions make us cry because they set free a gas that stings the eyes.
    stars /twinkle | Stars twinkle because their light passes through moving air.
    balloons /rise | Balloons rise because the gas in them is lighter than air.
    ships /float | Ships float because they push aside water that weighs as much as they do.
    planes /can fly | Planes can fly because the air lifts their wings.
    camels /have humps | Camels have humps to store fat for times without food.
    giraffes /have long necks | Giraffes have long necks to reach the leaves of high trees.
    zebras /have stripes | Zebras have stripes that probably keep flies away.
    bears /sleep in winter | Bears sleep in winter because there is little to eat.
    owls /hunt at night | Owls hunt at night because they see and hear well in the dark.
    spiders /spin webs | Spiders spin webs to catch insects.
    fish /have gills | Fish have gills to breathe under water.
    grass /is green | Grass is green because it contains a green substance that catches light.
    snow /is white | Snow is white because its crystals reflect all colours of light.
    people /wear coats in winter | People wear coats in winter to keep warm.
    people /wear glasses | People wear glasses to see better.
    people /brush their teeth | People brush their teeth to keep them clean and healthy.
    people /wash their hands | People wash their hands to get rid of dirt and germs.
    children /go to school | Children go to school to learn.
    people /read books | People read books to learn something or to enjoy a story.
    people /laugh | People laugh because they find something funny or are happy.
    people /cry | People cry because they are sad, hurt or very happy.
    babies /cry | Babies cry because they cannot yet say what they need.
    exercise /is healthy | Exercise is healthy because it makes the heart and the muscles strong.
    sleep /is important | Sleep is important because body and mind rest and recover.
    hot air /rises | Hot air rises because it is lighter than cold air.
    thunder /comes after lightning | Thunder comes after lightning because sound travels more slowly than light.
    wheels /are round | Wheels are round so that they can roll.
    bicycles /have brakes | Bicycles have brakes so that one can stop.
    houses /have roofs | Houses have roofs to keep out rain and snow.
    clocks /tick | Clocks tick because a small wheel inside is stopped and let go again and again.
    salt /melts ice | Salt melts ice because salty water freezes only when it is much colder.
    milk /turns sour | Milk turns sour because bacteria change its sugar into acid.
    popcorn /pops | Popcorn pops because the water inside becomes steam and bursts the shell.
    trees /are important | Trees are important because they give us oxygen, wood and shade.
    people /recycle | People recycle to save material and to make less rubbish.
    people /pay taxes | People pay taxes so that the state can build roads and schools.
    flowers /smell sweet | Flowers smell sweet to attract insects.
    rivers /flow to the sea | Rivers flow to the sea because water always runs downhill.
    roosters /crow in the morning | Roosters crow in the morning to show that the place is theirs.
    rabbits /have long ears | Rabbits have long ears to hear their enemies and to cool down.
    polar bears /are white | Polar bears are white so that one hardly sees them in the snow.
    sunflowers /turn | Young sunflowers turn to follow the sun.
    metal /feels cold | Metal feels cold because it carries the warmth of the hand away.
    people /dream | Nobody knows for sure, but dreams may help us to sort what we have lived through.
    people /yawn | Nobody knows for sure, but we yawn when we are tired or bored.
    """
)
_WHAT = (
    "What is {k}?",
    "What is {k}?",
    "What's {k}?",
    "Explain {k} in one sentence.",
    "Explain {k} in a sentence.",
    "Explain {k}.",
    "Explain {k} to me.",
    "Explain {k} to a child.",
    "Explain briefly what {k} is.",
    "Can you explain {k}?",
    "Define {k}.",
    "Tell me what {k} is.",
    "What do you know about {k}?",
    "What does {b} mean?",
    "Describe {k} in one sentence.",
    "Tell me about {k}.",
    "In one sentence, what is {k}?",
    "Do you know what {k} is?",
    "{K}?",
    "What exactly is {k}?",
    "Give a short explanation of {k}.",
    "What is meant by {b}?",
    "Please explain {k} in simple words.",
)
_WHY = (
    "{q}?",
    "{q}?",
    "{q}?",
    "Explain why {s}.",
    "Explain in one sentence why {s}.",
    "Tell me why {s}.",
    "Do you know why {s}?",
    "What is the reason that {s}?",
    "How come {s}?",
    "Can you tell me why {s}?",
)
_BASE = {"are": "be", "is": "be"}
# What a thing is, where nothing more is said of it: by the kind that `THINGS` lists it under.
_KINDS = {
    "animals": "an animal", "birds": "a bird", "insects": "a small animal", "sea animals": "an animal of the sea",
    "fruits": "a fruit", "vegetables": "a vegetable", "foods": "something to eat", "drinks": "something to drink",
    "tools": "a tool", "clothes": "something to wear", "vehicles": "a vehicle", "furniture": "a piece of furniture",
    "musical instruments": "a musical instrument", "plants": "a plant", "body parts": "a part of the body",
    "sports and games": "a sport or a game", "feelings": "a feeling", "school subjects": "a subject at school",
}  # fmt: skip


def _of_a_kind() -> dict[str, str]:
    """Key and explanation as in MEANINGS, of things that are not among them."""
    found: dict[str, str] = {}
    for kind, said in _KINDS.items():
        for name in THINGS[kind]:
            plain = name in UNCOUNTABLE or kind in ("sports and games", "feelings", "school subjects", "drinks")
            key = name if plain else with_article(name)
            if name.endswith("s") and not name.endswith("ss"):  # of many, or not to be told
                continue
            found.setdefault(key, f"{capital(key)} is {said}.")
    return {key: text for key, text in found.items() if key not in MEANINGS}


SIMPLE = _of_a_kind()


def question_of(marked: str) -> str:
    """`leaves /fall` -> `Why do leaves fall`, `the sky /is blue` -> `Why is the sky blue`."""
    subject, rest = (part.strip() for part in marked.split("/"))
    verb, _, tail = rest.partition(" ")
    if verb in ("is", "are", "can"):
        return f"Why {verb} {subject} {tail}"
    if subject == "it" or (verb.endswith("s") and not subject.endswith("s")):
        base = verb[:-2] if verb.endswith(("shes", "ches", "sses")) else verb[:-1]
        return f"Why does {subject} {base} {tail}".strip()
    return f"Why do {subject} {verb} {tail}".strip()


def what_is(rng: np.random.Generator, key: str) -> str:
    """One of the ways to ask what `key`, "gravity" or "a shadow", is."""
    return choose(rng, _WHAT).format(k=key, K=capital(key), b=re.sub(r"^(?:a|an|the) ", "", key))


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One thing or reason to explain; meta holds its `kind` and `key`."""
    while True:
        drawn = rng.random()
        if drawn < 0.7:
            table, kind = (MEANINGS, "meaning") if drawn < 0.5 else (SIMPLE, "simple")
            key = choose(rng, tuple(table))
            asked, answer = what_is(rng, key), table[key]
        else:
            key = choose(rng, tuple(REASONS))
            said = key.replace("/", "")
            asked, answer, kind = choose(rng, _WHY).format(q=question_of(key), s=said), REASONS[key], "reason"
        if in_split(f"asked {asked}", split):
            prompt = varied(rng, asked)
            if not is_probe(prompt):
                return Example(prompt, answer, {"kind": kind, "key": key})


# --- definitions of WordNet -----------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[a-z][a-z ,'-]+")
FREQUENT = 3  # times that a word was counted in WordNet's texts, at least


def definitions(root: Path) -> list[tuple[str, str, str]]:
    """(word, kind, sentence) out of WordNet's files: the first sense of frequent words, where it is short and plain."""
    folder = next(root.rglob("data.noun")).parent
    counts = Counter[tuple[str, str]]()
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, _sense, count = line.split()
        word, _, rest = key.partition("%")
        counts[word, rest[0]] += int(count)
    found = []
    for kind, number, name in (("noun", "1", "noun"), ("verb", "2", "verb"), ("adj", "3", "adjective")):
        with (folder / f"data.{kind}").open("rb") as data:
            for line in (folder / f"index.{kind}").read_text().splitlines():
                word, *_, offset = (
                    line.split()[: 4 + int(line.split()[3]) + 3] if not line.startswith(" ") else ("", "")
                )
                if word.isalpha() and counts[word, number] >= FREQUENT:
                    data.seek(int(offset))
                    names, gloss = data.readline().decode().split(" | ", 1)
                    if word not in names.split():  # written with capitals
                        continue
                    meaning = re.sub(r"\([^)]*\) ?", "", re.split(r'[;"]', gloss)[0]).strip()
                    if _PLAIN.fullmatch(meaning) and 3 <= len(meaning.split()) <= 16 and word not in meaning.split():
                        found.append((word, name, _defined(word, name, meaning)))
    return found


def _defined(word: str, kind: str, meaning: str) -> str:
    if kind == "verb":
        return f"To {word} means to {meaning}."
    if kind == "adjective":
        return f"{capital(word)} means {meaning}."
    return f"{capital(word)}: {meaning}."


_MEANS = {
    "noun": (
        "What does {w} mean?",
        'What does the word "{w}" mean?',
        "Define {w}.",
        "What is the meaning of {w}?",
        "Definition of {w}?",
        'Explain the word "{w}".',
    ),
    "verb": (
        "What does to {w} mean?",
        "What does {w} mean?",
        'What does the verb "{w}" mean?',
        "Define to {w}.",
        'Explain the verb "{w}".',
    ),
    "adjective": ("What does {w} mean?", 'What does the word "{w}" mean?', 'Explain the word "{w}".', 'Define "{w}".'),
}


def generate_definition(rng: np.random.Generator, split: Split, defined: Sequence[tuple[str, str, str]]) -> Example:
    """The meaning of one of the `defined` words; meta holds the `word`."""
    while True:
        word, kind, sentence = choose(rng, defined)
        if in_split(f"topic {word}", split):
            prompt = varied(rng, choose(rng, _MEANS[kind]).format(w=word))
            return Example(prompt, sentence, {"word": word})
