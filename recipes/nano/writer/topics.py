"""What is written about: everyday things by kind, things to explain, and how one feels.

A topic is in train or in test by its hash, whatever is written about it, so that held-out topics were never seen.
"""

from __future__ import annotations

import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in re.split(r"[,\n]", text) if word.strip())


# Singular, without an article; the name of each kind is its plural, as in "Name three fruits".
THINGS: dict[str, tuple[str, ...]] = {
    "animals": _words(
        """
    dog, cat, horse, cow, pig, sheep, goat, donkey, rabbit, mouse, rat, hamster, squirrel, fox, wolf, bear, lion,
    tiger, leopard, elephant, giraffe, zebra, monkey, gorilla, kangaroo, koala, panda, camel, deer, moose, hedgehog,
    beaver, otter, badger, mole, bat, whale, dolphin, seal, walrus, hippo, rhino, crocodile, lizard, snake, turtle,
    frog, toad, llama, buffalo, cheetah, raccoon, skunk, puppy, kitten, pony, lamb, calf, foal, piglet, reindeer
    """
    ),
    "birds": _words(
        """
    owl, eagle, hawk, sparrow, robin, crow, raven, pigeon, dove, duck, goose, swan, hen, rooster, turkey, parrot,
    peacock, penguin, ostrich, flamingo, seagull, stork, heron, swallow, woodpecker, hummingbird, magpie, canary,
    falcon, duckling
    """
    ),
    "insects": _words(
        """
    bee, ant, butterfly, moth, fly, mosquito, beetle, ladybird, grasshopper, cricket, dragonfly, wasp, caterpillar,
    firefly, bumblebee
    """
    ),
    "sea animals": _words(
        "shark, octopus, crab, lobster, jellyfish, starfish, seahorse, salmon, trout, tuna, squid, goldfish, eel"
    ),
    "fruits": _words(
        """
    apple, banana, orange, lemon, pear, peach, plum, cherry, strawberry, raspberry, blueberry, grape, melon,
    watermelon, pineapple, mango, kiwi, apricot, fig, coconut, lime, grapefruit, blackberry, pomegranate
    """
    ),
    "vegetables": _words(
        """
    carrot, potato, onion, tomato, cucumber, cabbage, lettuce, spinach, broccoli, cauliflower, pea, bean, pumpkin,
    pepper, garlic, leek, radish, beetroot, celery, mushroom, turnip, eggplant
    """
    ),
    "foods": _words(
        """
    bread, cheese, butter, egg, rice, soup, salad, pizza, pasta, sandwich, pancake, cake, pie, cookie, chocolate,
    honey, jam, sausage, omelette, porridge, yogurt, popcorn, ice cream, noodles, stew, waffle, muffin, toast,
    dumpling, pudding
    """
    ),
    "drinks": _words("water, milk, tea, coffee, juice, lemonade, cocoa, soda, cider, smoothie"),
    "tools": _words(
        """
    hammer, saw, screwdriver, nail, drill, shovel, rake, axe, ladder, wrench, pliers, paintbrush, broom, bucket, rope,
    spade, wheelbarrow, needle, scissors, knife
    """
    ),
    "clothes": _words(
        """
    coat, shirt, dress, skirt, scarf, hat, glove, sock, shoe, boot, sweater, jacket, belt, tie, apron, pyjamas, cap,
    sandal, raincoat, mitten
    """
    ),
    "vehicles": _words(
        """
    car, bus, train, bicycle, boat, ship, plane, truck, tractor, motorbike, tram, helicopter, rocket, submarine,
    ferry, taxi, ambulance, sailboat, scooter, sledge, canoe, van
    """
    ),
    "furniture": _words(
        "table, chair, bed, sofa, desk, shelf, cupboard, wardrobe, bench, stool, armchair, drawer, bookcase"
    ),
    "household things": _words(
        """
    lamp, clock, mirror, candle, pillow, blanket, carpet, curtain, towel, soap, cup, plate, bowl, spoon, fork, kettle,
    teapot, oven, fridge, vase, basket, key, lock, door, window, stove, bottle, jar, box, bag, umbrella, broomstick,
    toothbrush, comb, telephone, radio, television, camera, computer, letter, envelope, stamp, newspaper, book,
    notebook, pencil, pen, eraser, ruler, map, calendar, coin, wallet, suitcase, backpack, glasses, watch, ring,
    necklace, toy, doll, ball, kite, balloon, puzzle, drum, matchbox, lantern
    """
    ),
    "musical instruments": _words(
        "piano, violin, guitar, flute, trumpet, cello, harp, drum, clarinet, saxophone, accordion, banjo"
    ),
    "places": _words(
        """
    house, school, library, shop, market, bakery, hospital, museum, church, castle, farm, garden, park, forest,
    mountain, hill, river, lake, sea, beach, island, desert, village, city, street, bridge, station, airport, harbour,
    hotel, restaurant, kitchen, cellar, attic, bedroom, bathroom, classroom, office, factory, theatre, cinema, zoo,
    playground, lighthouse, windmill, barn, cave, valley, meadow, field, swamp, waterfall, volcano, tower, palace,
    post office, bank, pharmacy, greenhouse, orchard, campsite, harbour town, circus, stadium
    """
    ),
    "people": _words(
        """
    baker, teacher, doctor, nurse, farmer, sailor, soldier, king, queen, prince, princess, painter, poet, cook,
    gardener, carpenter, tailor, postman, policeman, fireman, pilot, driver, shepherd, fisherman, hunter, miner,
    clown, dancer, singer, actor, judge, scientist, astronaut, detective, pirate, wizard, knight, witch, giant, robot,
    ghost, grandmother, grandfather, mother, father, brother, sister, uncle, aunt, baby, child, neighbour, friend,
    twin, stranger, student, librarian, mechanic, dentist, plumber, clockmaker, beggar, merchant, inventor, explorer,
    musician
    """
    ),
    "plants": _words(
        """
    tree, flower, rose, tulip, daisy, sunflower, lily, grass, oak, pine, willow, apple tree, cactus, fern, moss, ivy,
    seed, leaf, root, bush, clover, lavender, bamboo, poppy, violet, dandelion
    """
    ),
    "weather": _words(
        "rain, snow, wind, storm, fog, thunder, lightning, rainbow, cloud, sunshine, frost, breeze, mist, ice, drought"
    ),
    "nature": _words(
        """
    sun, moon, star, sky, earth, planet, comet, ocean, wave, tide, sand, stone, rock, pebble, shell, fire, smoke,
    shadow, light, darkness, dawn, sunrise, sunset, night, morning, evening, spring, summer, autumn, winter, puddle,
    stream, pond, glacier, iceberg, earthquake, flood, horizon, echo, dew, mud, dust, feather, nest, egg shell,
    honeycomb, spider web
    """
    ),
    "body parts": _words(
        """
    hand, foot, head, eye, ear, nose, mouth, tooth, tongue, hair, arm, leg, knee, elbow, finger, thumb, toe, heart,
    lung, stomach, brain, bone, skin, shoulder, back, neck, muscle, blood
    """
    ),
    "sports and games": _words(
        """
    football, tennis, swimming, running, chess, basketball, skiing, cycling, skating, hide and seek, golf, rowing,
    sailing, climbing, volleyball, hockey, boxing, dancing, fishing, cards, marbles
    """
    ),
    "school subjects": _words(
        "history, geography, biology, chemistry, physics, music, art, mathematics, reading, writing, spelling"
    ),
    "feelings": _words(
        """
    joy, sadness, anger, fear, hope, love, pride, shame, envy, surprise, loneliness, boredom, curiosity, courage,
    patience, kindness, friendship, trust, gratitude, peace, silence, homesickness, happiness, jealousy, worry
    """
    ),
    "events": _words(
        """
    birthday, wedding, party, picnic, holiday, journey, race, concert, festival, dream, secret, promise, mistake,
    gift, surprise visit, first day at school, lost letter, broken window, long walk, snowball fight, power cut,
    treasure hunt, rainy Sunday, new neighbour, school play, boat trip, bus ride, night in a tent
    """
    ),
}

# Things to explain in a sentence, and questions that begin with why or how.
CONCEPTS = _words(
    """
    gravity, electricity, magnetism, evolution, photosynthesis, democracy, inflation, money, friction, energy, sound,
    light, heat, weather, climate, time, space, the moon, the sun, a rainbow, rain, snow, lightning, thunder,
    the wind, the tides, the seasons, an earthquake, a volcano, an eclipse, a shadow, an echo, a magnet, a battery,
    a computer, the internet, a computer program, a robot, a telescope, a microscope, a thermometer, a compass,
    a clock, a bicycle, an engine, a wheel, a lever, a bridge, a boat, an airplane, a rocket, a satellite, a planet,
    a star, a galaxy, a comet, the atmosphere, oxygen, carbon, an atom, a molecule, a cell, DNA, a virus, bacteria,
    a vaccine, medicine, sleep, dreams, hunger, digestion, breathing, the heart, the brain, blood, bones, memory,
    learning, language, music, art, poetry, a metaphor, a rhyme, grammar, a verb, a noun, an adjective, a sentence,
    history, geography, biology, chemistry, physics, mathematics, addition, multiplication, a fraction, a percentage,
    an average, a triangle, a circle, a map, a law, a court, a government, a vote, a tax, a bank, a loan, interest,
    trade, a market, a company, insurance, recycling, pollution, the greenhouse effect, a forest, a desert, an ocean,
    a river, a glacier, an island, a food chain, hibernation, migration, camouflage, pollination, a seed, a root,
    a fossil, a dinosaur, a mammal, a reptile, an insect, a fish, a bird, evaporation, condensation, freezing,
    melting, boiling, rust, fire, steam, ice, pressure, speed, acceleration, mass, weight, density, temperature,
    a vacuum, a mirror, a lens, colour, an experiment, a theory, logic, philosophy, religion, a tradition, a festival,
    friendship, honesty, kindness, courage, patience, justice, freedom, peace, a promise, a joke, irony, a proverb,
    a story, a novel, a poem, a play, a newspaper, a library, a museum, a school, a university, a hospital, a farm,
    a factory, agriculture, cooking, baking, yeast, cheese, bread, sugar, salt, a vitamin, a calorie, exercise,
    health, a fever, an allergy, a password, an algorithm, a database, artificial intelligence, a chess game,
    a sudoku, a crossword, a riddle, a calendar, a leap year, a time zone, a passport, a currency, a recipe, a budget
    """
)

WHY = _words(
    """
    the sky is blue, leaves fall in autumn, ice floats on water, we sleep, cats purr, dogs bark,
    birds fly south in winter, the sea is salty, it rains, the moon changes its shape, bread rises, iron rusts,
    people laugh, we dream, plants need light, fish can breathe under water, bees make honey, the sun is hot,
    there are seasons, we have bones, we need water, metal feels cold, onions make us cry, we sneeze, we yawn,
    the sunset is red, stars twinkle, bread goes mouldy, balloons float, boats float, planes can fly,
    camels have humps, giraffes have long necks, owls hunt at night, bears sleep in winter, snow is white,
    grass is green, hair turns grey, we get hungry, we brush our teeth, we wash our hands, children go to school,
    people read books, people keep pets, friends are important, sleep is important, exercise is healthy,
    salt melts ice, hot air rises, thunder follows lightning, popcorn pops, cheese has holes, wheels are round,
    roads are wet after rain, people wear hats, we wear coats in winter, trees are useful, we recycle, we pay taxes,
    clocks have hands, mirrors show us, shadows grow long in the evening, rivers flow to the sea, spiders spin webs,
    ants live together, flowers smell sweet, fruit is sweet, peppers are hot, milk turns sour, we cook food,
    babies cry, old people forget things, people are afraid of the dark, people sing, people tell stories,
    people travel, people wear glasses
    """
)

HOW_TO = _words(
    """
    make tea, boil an egg, bake bread, plant a tree, wash a car, clean a window, write a letter, learn a language,
    ride a bicycle, fall asleep, make a friend, save money, cook rice, make a sandwich, paint a wall, fix a flat tyre,
    read a map, tie a shoe, fly a kite, build a sandcastle, make a paper boat, take a good photo, remember names,
    stay healthy, keep plants alive, train a dog, feed a cat, pack a suitcase, find a lost key, get up early,
    study for a test, write a story, write a poem, tell a joke, make pancakes, make soup, peel an orange,
    cut an onion, wash clothes, iron a shirt, sharpen a pencil, light a fire, set up a tent, catch a fish, swim,
    play chess, sing in tune, draw a horse, wrap a gift, plan a party, calm down, be polite, say sorry, save water,
    save energy, cross a street, use a dictionary, grow tomatoes, make jam, keep warm
    """
)

# What people say of themselves, to be answered with a friendly sentence.
REMARKS = _words(
    """
    I am tired, I am bored, I am happy today, I feel sad, I am hungry, I am thirsty, I am cold, I am ill,
    I have a headache, I am late, I lost my key, I found a coin, I passed my exam, I failed my test, I got a new job,
    I bought a bicycle, I broke my leg, I have a new dog, my cat is ill, my friend moved away, it is my birthday,
    I am getting married, I am on holiday, I am at work, I cannot sleep, I had a bad dream, I baked a cake,
    I burnt the soup, I missed the bus, I like music, I like cats, I like chess, I love books, I hate rain,
    I hate mondays, I am learning to swim, I am learning English, I play the piano, I live in a small town,
    I live by the sea, I have two sisters, I am a teacher, I am a student, I am a farmer, I am new here, I am lonely,
    I am nervous, I am angry, I am in love, I am worried about a test, I am going home, I am going to the beach,
    we won the game, we lost the game, it is raining here, it is snowing here, it is very hot today,
    the sun is shining, I saw a rainbow, I saw a fox, I planted a tree, I painted my room, I cleaned the house,
    I finished my book, I wrote a poem, I have no time, I have nothing to do, I need a break,
    I want to learn something, I want to travel, I want to be a doctor, my tooth hurts, my back hurts,
    my phone is broken, my car does not start, my tea is cold, dinner is ready, the baby is asleep,
    tomorrow is monday, it is late, I am back, you are funny, you are clever, you are wrong, you are small,
    that was good, that was a bad answer, I do not understand, I do not know what to ask
    """
)

TOPICS: tuple[str, ...] = tuple(dict.fromkeys(name for names in THINGS.values() for name in names))

UNCOUNTABLE = frozenset(
    _words(
        """
    bread, cheese, butter, rice, soup, salad, pasta, chocolate, honey, jam, porridge, popcorn, ice cream, noodles,
    water, milk, tea, coffee, juice, lemonade, cocoa, soda, cider, soap, grass, moss, ivy, lavender, bamboo, rain,
    snow, wind, fog, thunder, lightning, sunshine, frost, hail, mist, ice, sand, fire, smoke, light, darkness, dew,
    mud, dust, hair, skin, blood, garlic, spinach, broccoli, cauliflower, celery, lettuce, scissors, pliers, pyjamas,
    glasses, furniture, money, toast, stew, yogurt, pudding, shrimp
    """
    )
    + THINGS["sports and games"]
    + THINGS["school subjects"]
    + THINGS["feelings"]
)
_DEFINITE = frozenset(_words("sun, moon, sky, earth, sea, ocean, horizon, dawn, night, morning, evening, tide"))
_SEASONS = frozenset(_words("spring, summer, autumn, winter, dawn, sunrise, sunset"))


def with_article(topic: str) -> str:
    """`a dog`, `an owl`, `rain`, `the moon`."""
    if topic in UNCOUNTABLE or topic in _SEASONS:
        return topic
    if topic in _DEFINITE:
        return f"the {topic}"
    return f"an {topic}" if topic[0] in "aeiou" and not topic.startswith("uni") else f"a {topic}"
