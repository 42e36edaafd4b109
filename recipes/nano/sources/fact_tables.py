"""Plain facts: `key/value` items, apart by commas or line ends."""

from __future__ import annotations

import re


def table(text: str) -> dict[str, str]:
    items = [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]
    return {key.strip(): value.strip() for key, value in (item.split("/") for item in items)}


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in re.split(r"[,\n]", text) if word.strip())


CAPITALS = table(  # the best known first
    """
    France/Paris, Germany/Berlin, Italy/Rome, Spain/Madrid, the United Kingdom/London, Japan/Tokyo, China/Beijing,
    the United States/Washington, Russia/Moscow, England/London, India/New Delhi, Canada/Ottawa,
    Australia/Canberra, Brazil/Brasilia, Egypt/Cairo, Mexico/Mexico City, Greece/Athens, Portugal/Lisbon,
    Ireland/Dublin, the Netherlands/Amsterdam, Austria/Vienna, Switzerland/Bern, Sweden/Stockholm, Norway/Oslo,
    Denmark/Copenhagen, Poland/Warsaw, Belgium/Brussels, Turkey/Ankara, Argentina/Buenos Aires, Finland/Helsinki,
    South Korea/Seoul, Ukraine/Kyiv, Kenya/Nairobi, Thailand/Bangkok, Cuba/Havana, Peru/Lima, Chile/Santiago,
    Scotland/Edinburgh, Iceland/Reykjavik, Hungary/Budapest, New Zealand/Wellington, South Africa/Pretoria,
    Wales/Cardiff, Luxembourg/Luxembourg, Romania/Bucharest, Bulgaria/Sofia, Serbia/Belgrade, Croatia/Zagreb,
    Slovenia/Ljubljana, Slovakia/Bratislava, the Czech Republic/Prague, Albania/Tirana, Estonia/Tallinn,
    Latvia/Riga, Lithuania/Vilnius, Malta/Valletta, Cyprus/Nicosia, Morocco/Rabat, Algeria/Algiers, Tunisia/Tunis,
    Libya/Tripoli, Sudan/Khartoum, Ethiopia/Addis Ababa, Uganda/Kampala, Tanzania/Dodoma, Rwanda/Kigali,
    Ghana/Accra, Nigeria/Abuja, Senegal/Dakar, Zambia/Lusaka, Zimbabwe/Harare, Angola/Luanda, Mozambique/Maputo,
    Namibia/Windhoek, Madagascar/Antananarivo, Pakistan/Islamabad, Bangladesh/Dhaka, Nepal/Kathmandu,
    Sri Lanka/Colombo, North Korea/Pyongyang, Mongolia/Ulaanbaatar, Vietnam/Hanoi, Cambodia/Phnom Penh,
    Malaysia/Kuala Lumpur, Indonesia/Jakarta, the Philippines/Manila, Iran/Tehran, Iraq/Baghdad, Syria/Damascus,
    Lebanon/Beirut,
    Jordan/Amman, Saudi Arabia/Riyadh, Qatar/Doha, Afghanistan/Kabul, Georgia/Tbilisi, Armenia/Yerevan,
    Jamaica/Kingston, Haiti/Port-au-Prince, Guatemala/Guatemala City, Panama/Panama City, Costa Rica/San Jose,
    Colombia/Bogota, Venezuela/Caracas, Ecuador/Quito, Bolivia/La Paz, Paraguay/Asuncion, Uruguay/Montevideo
    """
)
LANGUAGES = table(
    """
    France/French, Germany/German, Austria/German, Italy/Italian, Spain/Spanish, Portugal/Portuguese,
    Brazil/Portuguese, Greece/Greek, Poland/Polish, Hungary/Hungarian, Finland/Finnish, Sweden/Swedish,
    Norway/Norwegian, Denmark/Danish, Iceland/Icelandic, England/English, Russia/Russian, Ukraine/Ukrainian,
    Turkey/Turkish, Romania/Romanian, Bulgaria/Bulgarian, Serbia/Serbian, Croatia/Croatian, the Netherlands/Dutch,
    Egypt/Arabic, Iraq/Arabic, Iran/Persian, China/Chinese, Japan/Japanese, Thailand/Thai, Vietnam/Vietnamese,
    Mexico/Spanish, Argentina/Spanish, Chile/Spanish, Peru/Spanish, Australia/English, the United States/English,
    Korea/Korean
    """
)
CONTINENTS = table(
    """
    France/Europe, Germany/Europe, Italy/Europe, Spain/Europe, Portugal/Europe, Austria/Europe, Greece/Europe,
    Poland/Europe, Hungary/Europe, Finland/Europe, Sweden/Europe, Norway/Europe, Denmark/Europe, Iceland/Europe,
    Ireland/Europe, Belgium/Europe, Romania/Europe, Bulgaria/Europe, Egypt/Africa, Morocco/Africa, Algeria/Africa,
    Ethiopia/Africa, Kenya/Africa, Ghana/Africa, Nigeria/Africa, Senegal/Africa, South Africa/Africa, India/Asia,
    Pakistan/Asia, Nepal/Asia, China/Asia, Japan/Asia, Mongolia/Asia, Thailand/Asia, Vietnam/Asia, Malaysia/Asia,
    Indonesia/Asia, Iran/Asia, Iraq/Asia, Canada/North America, Mexico/North America, the United States/North America,
    Cuba/North America, Brazil/South America, Argentina/South America, Chile/South America, Peru/South America,
    Colombia/South America, Ecuador/South America
    """
)
CURRENCIES = table(
    """
    France/the euro, Germany/the euro, Italy/the euro, Spain/the euro, Greece/the euro, Ireland/the euro,
    Finland/the euro, Japan/the yen, China/the yuan, India/the rupee, Russia/the rouble, England/the pound,
    Switzerland/the franc, Sweden/the krona, Norway/the krone, Denmark/the krone, Poland/the zloty,
    Hungary/the forint, Turkey/the lira, Mexico/the peso, Argentina/the peso, Brazil/the real,
    the United States/the dollar, Canada/the dollar, Australia/the dollar, South Africa/the rand, Thailand/the baht,
    South Korea/the won
    """
)
OPPOSITES = table(
    """
    hot/cold, big/small, fast/slow, high/low, open/closed, wet/dry, full/empty, hard/soft, happy/sad, light/dark,
    old/young, rich/poor, strong/weak, early/late, near/far, long/short, clean/dirty, loud/quiet, thick/thin,
    wide/narrow, deep/shallow, sweet/sour, true/false, right/wrong, brave/afraid, cheap/expensive, easy/difficult,
    first/last, up/down, left/right, inside/outside, before/after, always/never, day/night, war/peace, love/hate,
    buy/sell, push/pull, begin/end, win/lose, give/take, laugh/cry, remember/forget, cold/hot, small/big, slow/fast,
    low/high, closed/open, dry/wet, empty/full, soft/hard, sad/happy, dark/light, young/old, poor/rich, weak/strong,
    late/early, far/near, short/long, dirty/clean, quiet/loud, thin/thick, narrow/wide, shallow/deep, false/true,
    wrong/right, expensive/cheap, difficult/easy, last/first, down/up, outside/inside, after/before, never/always,
    night/day, peace/war, hate/love, sell/buy, pull/push, lose/win, take/give, cry/laugh, forget/remember,
    beautiful/ugly, good/bad, bad/good, warm/cool, friend/enemy, question/answer, summer/winter, winter/summer,
    morning/evening, north/south, south/north, east/west, west/east, black/white, white/black, yes/no, no/yes,
    more/less, many/few, heavy/light, smooth/rough, sharp/blunt, safe/dangerous, dangerous/safe, polite/rude,
    rude/polite, noisy/quiet, lazy/hard-working, awake/asleep, asleep/awake, alive/dead, dead/alive, new/old,
    tall/short, fat/thin, kind/cruel, success/failure, truth/lie, arrive/leave, come/go, sit/stand, start/stop,
    ask/answer, find/lose, love/hate, in/out, on/off, off/on, above/below, below/above, front/back, top/bottom,
    bottom/top, everything/nothing, everybody/nobody, possible/impossible, heaven/hell
    """
)
SYNONYMS = table(
    """
    big/large, small/little, fast/quick, begin/start, end/finish, happy/glad, sad/unhappy, angry/cross, smart/clever,
    beautiful/pretty, ill/sick, rich/wealthy, quiet/silent, easy/simple, hard/difficult, strange/odd, near/close,
    shut/close, speak/talk, shout/yell, jump/leap, gift/present, road/street, rock/stone, ship/boat, house/home,
    afraid/scared, brave/bold, correct/right, wrong/incorrect, buy/purchase, help/aid, answer/reply, look/gaze,
    tired/weary, hungry/starving, funny/amusing, huge/enormous, tiny/minute, evil/wicked
    """
)
PLURALS = table(
    """
    mouse/mice, child/children, foot/feet, tooth/teeth, man/men, woman/women, goose/geese, person/people, leaf/leaves,
    knife/knives, wolf/wolves, city/cities, baby/babies, box/boxes, bus/buses, potato/potatoes, tomato/tomatoes,
    sheep/sheep, fish/fish, deer/deer, house/houses, dog/dogs, cat/cats, book/books, story/stories, wife/wives,
    half/halves, watch/watches, berry/berries, cherry/cherries, life/lives, shelf/shelves, loaf/loaves, thief/thieves,
    hero/heroes, dish/dishes, glass/glasses, church/churches, fox/foxes, family/families, party/parties,
    country/countries, day/days, key/keys, toy/toys, monkey/monkeys, apple/apples, tree/trees, bird/birds,
    piano/pianos
    """
)
PASTS = table(
    """
    go/went, see/saw, eat/ate, run/ran, write/wrote, take/took, give/gave, come/came, make/made, find/found,
    think/thought, bring/brought, buy/bought, teach/taught, catch/caught, sleep/slept, keep/kept, leave/left,
    meet/met, sing/sang, swim/swam, drink/drank, fly/flew, grow/grew, know/knew, drive/drove, break/broke,
    speak/spoke, forget/forgot, build/built, send/sent, lose/lost, tell/told, say/said, stand/stood, win/won, be/was,
    have/had, do/did, get/got, begin/began, choose/chose, draw/drew, fall/fell, feel/felt, fight/fought, freeze/froze,
    hear/heard, hide/hid, hold/held, lead/led, lie/lay, pay/paid, read/read, ride/rode, ring/rang, rise/rose,
    sell/sold, shine/shone, sit/sat, steal/stole, throw/threw, understand/understood, wake/woke, wear/wore,
    walk/walked, play/played, work/worked, open/opened, help/helped, like/liked, live/lived, stop/stopped, try/tried,
    carry/carried, cook/cooked, look/looked, talk/talked, wait/waited, laugh/laughed, dance/danced
    """
)
COMPARATIVES = table(
    """
    big/bigger, small/smaller, good/better, bad/worse, fast/faster, happy/happier, easy/easier, hot/hotter, old/older,
    far/farther, cheap/cheaper, heavy/heavier, light/lighter, long/longer, short/shorter, nice/nicer, large/larger,
    early/earlier, late/later, thin/thinner, wet/wetter, dry/drier, funny/funnier, strong/stronger,
    beautiful/more beautiful, expensive/more expensive
    """
)
YOUNG = table(
    """
    dog/puppy, cat/kitten, cow/calf, horse/foal, sheep/lamb, pig/piglet, goat/kid, hen/chick, duck/duckling,
    goose/gosling, lion/cub, bear/cub, frog/tadpole, kangaroo/joey, swan/cygnet, deer/fawn, eagle/eaglet, owl/owlet,
    fox/cub, wolf/cub, elephant/calf, whale/calf, seal/pup, butterfly/caterpillar, rabbit/kit, tiger/cub
    """
)
SOUNDS = table(
    """
    dog/barks, cat/meows, cow/moos, horse/neighs, sheep/bleats, pig/oinks, duck/quacks, hen/clucks, rooster/crows,
    frog/croaks, bee/buzzes, lion/roars, wolf/howls, owl/hoots, snake/hisses, mouse/squeaks, bird/sings, crow/caws,
    donkey/brays, goose/honks, goat/bleats, bear/growls
    """
)
LEGS = table(
    """
    spider/eight, ant/six, bee/six, beetle/six, butterfly/six, fly/six, mosquito/six, dog/four, cat/four, cow/four,
    horse/four, elephant/four, frog/four, lizard/four, mouse/four, lion/four, table/four, chair/four, sheep/four,
    pig/four, bird/two, hen/two, duck/two, penguin/two, person/two, human/two, snake/no, fish/no, worm/no, crab/ten,
    octopus/no, wasp/six, ladybird/six, rabbit/four, stool/three, tripod/three
    """
)
HOMES = table(
    """
    bird/in a nest, bee/in a hive, rabbit/in a burrow, fish/in water, bear/in a den, horse/in a stable, pig/in a sty,
    dog/in a kennel, hen/in a henhouse, spider/in a web, lion/in the savanna, camel/in the desert,
    penguin/in the Antarctic, polar bear/in the Arctic, whale/in the ocean, mole/under the ground, cow/in a barn,
    ant/in an anthill, monkey/in the trees, frog/near a pond, owl/in the forest, beaver/in a lodge,
    kangaroo/in Australia, panda/in China
    """
)
GROUPS = table(
    """
    dog/a mammal, cat/a mammal, cow/a mammal, horse/a mammal, whale/a mammal, dolphin/a mammal, bat/a mammal,
    mouse/a mammal, elephant/a mammal, eagle/a bird, owl/a bird, penguin/a bird, duck/a bird, ostrich/a bird,
    sparrow/a bird, snake/a reptile, lizard/a reptile, crocodile/a reptile, turtle/a reptile, frog/an amphibian,
    toad/an amphibian, newt/an amphibian, shark/a fish, salmon/a fish, trout/a fish, tuna/a fish, bee/an insect,
    ant/an insect, fly/an insect, butterfly/an insect, beetle/an insect, spider/an arachnid, scorpion/an arachnid,
    crab/a crustacean, lobster/a crustacean, octopus/a mollusc, snail/a mollusc, apple/a fruit, banana/a fruit,
    pear/a fruit, cherry/a fruit, grape/a fruit, carrot/a vegetable, potato/a vegetable, onion/a vegetable,
    cabbage/a vegetable, spinach/a vegetable, rose/a flower, tulip/a flower, daisy/a flower, oak/a tree, pine/a tree,
    willow/a tree, gold/a metal, iron/a metal, silver/a metal, copper/a metal, violin/a musical instrument,
    piano/a musical instrument, flute/a musical instrument, hammer/a tool, saw/a tool, shirt/a piece of clothing,
    coat/a piece of clothing, chair/a piece of furniture, table/a piece of furniture, bus/a vehicle, car/a vehicle,
    bicycle/a vehicle, football/a sport, tennis/a sport, Paris/a city, Mars/a planet, Venus/a planet, the sun/a star,
    Spanish/a language, red/a colour, Monday/a day, April/a month, seven/a number
    """
)
COLOURS = table(
    """
    snow/white, grass/green, a ripe tomato/red, a lemon/yellow, coal/black, a carrot/orange, the clear sky/blue,
    milk/white, blood/red, a banana/yellow, an emerald/green, a ruby/red, cinnamon/brown, a sunflower/yellow,
    soot/black, the sky/blue, the sea/blue, a leaf/green, chocolate/brown, a strawberry/red, a cherry/red,
    an orange/orange, a pumpkin/orange, a crow/black, a polar bear/white, a flamingo/pink, a frog/green,
    a cucumber/green, the sun/yellow, butter/yellow, cheese/yellow, salt/white, sugar/white, rice/white, cotton/white,
    an elephant/grey, a mouse/grey, a zebra/black and white, a panda/black and white, a penguin/black and white,
    ink/black, the night/black, wood/brown, coffee/brown, a fire engine/red, a raven/black, a pea/green,
    spinach/green, gold/yellow, silver/grey, a swan/white, a fox/red, an aubergine/purple, lavender/purple,
    a plum/purple, a violet/purple, sand/yellow, a stop sign/red, a lime/green, honey/golden, a pig/pink, a rose/red,
    the grass in spring/green
    """
)
MADE_OF = table(
    """
    bread/flour, cheese/milk, wine/grapes, paper/wood, glass/sand, butter/cream, a candle/wax, a raisin/grapes,
    chocolate/cocoa, a brick/clay, cider/apples, an omelette/eggs, tofu/soybeans, ketchup/tomatoes, a book/paper,
    a window/glass, a shoe/leather, a nail/iron, a coin/metal, a tyre/rubber, a sweater/wool, a T-shirt/cotton,
    honey/nectar, yogurt/milk, jam/fruit and sugar, ice/water, a snowman/snow, a table/wood, olive oil/olives,
    porridge/oats, popcorn/corn, steel/iron, a pancake/flour, a sandcastle/sand, silk/the threads of silkworms,
    a pot/clay, lemonade/lemons, a cake/flour and eggs, pasta/flour, marmalade/oranges, a web/silk, an igloo/snow
    """
)
SYMBOLS = table(
    """
    hydrogen/H, helium/He, carbon/C, nitrogen/N, oxygen/O, sodium/Na, magnesium/Mg, aluminium/Al, silicon/Si,
    sulphur/S, chlorine/Cl, potassium/K, calcium/Ca, iron/Fe, nickel/Ni, copper/Cu, zinc/Zn, silver/Ag, tin/Sn,
    iodine/I, gold/Au, mercury/Hg, lead/Pb, uranium/U, neon/Ne, lithium/Li, phosphorus/P, water/H2O
    """
)
COUNTS = table(  # how many X: answer; "are in Y" is part of the key
    """
    days are in a week/seven, days are in a year/365, days are in a leap year/366, months are in a year/twelve,
    hours are in a day/24, minutes are in an hour/60, seconds are in a minute/60, weeks are in a year/52,
    seasons are in a year/four, days are in January/31, days are in April/30, days are in June/30,
    days are in July/31, days are in December/31, years are in a century/100, years are in a decade/ten,
    letters are in the English alphabet/26, vowels are in the English alphabet/five, fingers are on one hand/five,
    toes are on one foot/five, fingers do you have on two hands/ten, eyes does a person have/two,
    ears does a cat have/two, wheels does a car have/four, wheels does a bicycle have/two,
    wheels does a tricycle have/three, sides does a triangle have/three, sides does a square have/four,
    sides does a hexagon have/six, sides does a pentagon have/five, sides does an octagon have/eight,
    corners does a triangle have/three, corners does a square have/four, sides does a cube have/six,
    planets are in the solar system/eight, continents are there/seven, cents are in a dollar/100,
    cents are in a euro/100, centimetres are in a metre/100, metres are in a kilometre/1000,
    millimetres are in a centimetre/ten, grams are in a kilogram/1000, things are in a dozen/twelve,
    eggs are in a dozen/twelve, strings does a violin have/four, strings does a guitar have/six,
    keys does a piano have/88, players are in a football team/eleven, squares are on a chessboard/64,
    cells are in a sudoku/81, colours are in a rainbow/seven, moons does the earth have/one,
    degrees does a right angle have/90, degrees are in a circle/360, arms does an octopus have/eight,
    wings does a bird have/two, wings does a bee have/four, humps does a dromedary have/one,
    teeth does an adult have/32, bones does an adult have/206, hearts does a person have/one,
    noses does a person have/one, zeros are in a million/six, minutes are in half an hour/30,
    hours are in two days/48, months have 31 days/seven, days are in two weeks/14, months are in half a year/six
    """
)
AUTHORS = table(
    """
    Hamlet/William Shakespeare, Romeo and Juliet/William Shakespeare, Macbeth/William Shakespeare,
    Pride and Prejudice/Jane Austen, Emma/Jane Austen, Oliver Twist/Charles Dickens,
    A Christmas Carol/Charles Dickens, Faust/Goethe, Don Quixote/Miguel de Cervantes, War and Peace/Leo Tolstoy,
    Moby Dick/Herman Melville, Alice in Wonderland/Lewis Carroll, The Odyssey/Homer, The Iliad/Homer,
    Frankenstein/Mary Shelley, Dracula/Bram Stoker, Robinson Crusoe/Daniel Defoe, Gulliver's Travels/Jonathan Swift,
    Treasure Island/Robert Louis Stevenson, The Jungle Book/Rudyard Kipling,
    The Little Mermaid/Hans Christian Andersen, The Ugly Duckling/Hans Christian Andersen, The Hobbit/J. R. R. Tolkien
    """
)
GREETINGS = table(
    """
    French/bonjour, German/guten Tag, Spanish/hola, Italian/ciao, Portuguese/ola, Dutch/hallo, Swedish/hej,
    Danish/hej, Norwegian/hei, Finnish/hei, Polish/czesc, Turkish/merhaba, Japanese/konnichiwa, Chinese/ni hao,
    Hawaiian/aloha, Swahili/jambo, Latin/salve, Hebrew/shalom
    """
)
THANKS = table(
    """
    French/merci, German/danke, Spanish/gracias, Italian/grazie, Portuguese/obrigado, Dutch/dank je, Swedish/tack,
    Danish/tak, Polish/dziekuje, Japanese/arigato, Russian/spasibo, Finnish/kiitos
    """
)
GOODBYES = table(
    """
    French/au revoir, German/auf Wiedersehen, Spanish/adios, Italian/arrivederci, Portuguese/adeus, Dutch/tot ziens,
    Japanese/sayonara
    """
)
WORDS_ABROAD = table(  # "word in language"
    """
    yes in French/oui, yes in German/ja, yes in Spanish/si, yes in Italian/si, yes in Russian/da, no in French/non,
    no in German/nein, no in Spanish/no, please in French/s'il vous plait, please in German/bitte,
    please in Spanish/por favor, good morning in German/guten Morgen, good morning in Spanish/buenos dias,
    good morning in Italian/buongiorno, good night in German/gute Nacht, good night in French/bonne nuit,
    good night in Spanish/buenas noches, good evening in French/bonsoir, good evening in German/guten Abend,
    water in French/eau, water in German/Wasser, water in Spanish/agua, water in Italian/acqua, bread in French/pain,
    bread in German/Brot, bread in Spanish/pan, cat in French/chat, cat in German/Katze, cat in Spanish/gato,
    dog in French/chien, dog in German/Hund, dog in Spanish/perro, house in French/maison, house in German/Haus,
    house in Spanish/casa, friend in French/ami, friend in German/Freund, friend in Spanish/amigo,
    love in French/amour, love in German/Liebe, love in Spanish/amor, book in French/livre, book in German/Buch,
    book in Spanish/libro, sun in French/soleil, sun in German/Sonne, sun in Spanish/sol, one in French/un,
    one in German/eins, one in Spanish/uno, two in French/deux, two in German/zwei, two in Spanish/dos,
    three in French/trois, three in German/drei, three in Spanish/tres, tree in German/Baum, tree in French/arbre,
    milk in German/Milch, milk in French/lait
    """
)
USES = table(  # what one does with a thing
    """
    a hammer/to drive in nails, a saw/to cut wood, a knife/to cut things, a spoon/to eat soup, a fork/to eat,
    a cup/to drink, a kettle/to boil water, an oven/to bake, a fridge/to keep food cold, a broom/to sweep the floor,
    an umbrella/to stay dry in the rain, a key/to open a lock, a clock/to tell the time, a pen/to write,
    an eraser/to rub out pencil marks, a ruler/to measure lengths, a map/to find the way, a compass/to find north,
    a lamp/to give light, a bed/to sleep in, a chair/to sit on, a ladder/to climb up, a needle/to sew,
    scissors/to cut paper, soap/to wash, a towel/to dry oneself, a toothbrush/to clean teeth, a comb/to tidy hair,
    a mirror/to see oneself, a telescope/to look at the stars, a microscope/to look at tiny things,
    a thermometer/to measure temperature, a camera/to take photos, a telephone/to talk to people far away,
    a car/to drive, a bicycle/to ride, a boat/to cross water, a net/to catch fish, a shovel/to dig,
    a bucket/to carry water, glasses/to see better, a coat/to keep warm, a stove/to cook, a bag/to carry things,
    a pillow/to rest the head, a candle/to give light, a calendar/to know the date, a dictionary/to look up words,
    a stamp/to send a letter, a wallet/to keep money
    """
)
WORKS = table(  # what people do
    """
    baker/bakes bread, teacher/teaches children, doctor/treats sick people, nurse/looks after sick people,
    farmer/grows food, sailor/sails on ships, painter/paints pictures, poet/writes poems, cook/prepares meals,
    gardener/takes care of gardens, carpenter/makes things of wood, tailor/makes clothes, postman/delivers letters,
    policeman/keeps people safe, fireman/puts out fires, pilot/flies planes, driver/drives cars or buses,
    shepherd/looks after sheep, fisherman/catches fish, hunter/hunts animals, miner/digs for coal and metal,
    clown/makes people laugh, dancer/dances, singer/sings songs, actor/plays parts in plays and films,
    judge/decides in a court, scientist/studies how things work, astronaut/travels into space,
    detective/solves crimes, librarian/looks after books, mechanic/repairs cars, dentist/treats teeth,
    plumber/repairs pipes, butcher/sells meat, waiter/serves food, barber/cuts hair, architect/plans buildings,
    writer/writes books, musician/plays music, vet/treats sick animals, lawyer/gives advice about the law,
    programmer/writes programs, photographer/takes photos, jeweller/makes rings and necklaces, beekeeper/keeps bees,
    florist/sells flowers
    """
)
WHERE = table(  # where one buys, finds or does something
    """
    bread/in a bakery, medicine/in a pharmacy, books to borrow/in a library, stamps/in a post office,
    meat/at a butcher's, flowers/in a flower shop, old paintings/in a museum, wild animals in cages/in a zoo,
    planes/at an airport, trains/at a station, ships/in a harbour, doctors/in a hospital, pupils/in a school,
    money/in a bank, films/in a cinema, plays/in a theatre, clowns/in a circus, cows/on a farm, tents/on a campsite,
    fish/in the sea, stars/in the sky, sand/on a beach, snow/on high mountains, a bed/in a bedroom,
    a stove/in a kitchen, a bath/in a bathroom, fruit trees/in an orchard
    """
)
SUPERLATIVES = table(
    """
    the largest planet/Jupiter, the smallest planet/Mercury, the largest ocean/the Pacific Ocean,
    the highest mountain/Mount Everest, the longest river in Africa/the Nile, the largest country/Russia,
    the largest animal/the blue whale, the fastest land animal/the cheetah, the tallest animal/the giraffe,
    the largest land animal/the elephant, the largest bird/the ostrich, the closest star to the earth/the sun,
    the closest planet to the sun/Mercury, the largest continent/Asia, the smallest continent/Australia,
    the largest desert of sand/the Sahara, the red planet/Mars, the planet with the great rings/Saturn,
    the planet we live on/the earth, the shortest month/February, the first month/January, the last month/December,
    the first day of the working week/Monday, the first letter of the alphabet/A, the last letter of the alphabet/Z,
    the largest big cat/the tiger, the king of the animals in tales/the lion, the hardest natural material/diamond,
    the lightest gas/hydrogen, the hottest planet/Venus, the longest bone in the body/the thigh bone,
    the smallest bird/the bee hummingbird, the coldest continent/Antarctica, the number after 99/100,
    the gas that we need to breathe/oxygen, the centre of our solar system/the sun,
    the freezing point of water/0 degrees Celsius, the boiling point of water/100 degrees Celsius,
    the opposite direction of north/south, the season after winter/spring, the season after spring/summer,
    the season after summer/autumn, the season after autumn/winter, the meal in the morning/breakfast,
    the meal in the evening/dinner, the organ that pumps blood/the heart, the organ we think with/the brain,
    the sense of the eyes/sight, the sense of the ears/hearing, the colour of a mix of blue and yellow/green,
    the colour of a mix of red and yellow/orange, the colour of a mix of red and blue/purple,
    the colour of a mix of black and white/grey, the colour of a mix of red and white/pink,
    the month of Christmas/December, the month of Halloween/October
    """
)
INVENTORS = table(
    """
    the telephone/Alexander Graham Bell, the light bulb/Thomas Edison, the printing press/Johannes Gutenberg,
    the theory of relativity/Albert Einstein, the law of gravity/Isaac Newton, penicillin/Alexander Fleming,
    radium/Marie Curie, dynamite/Alfred Nobel, the Mona Lisa/Leonardo da Vinci,
    the Ninth Symphony/Ludwig van Beethoven, The Magic Flute/Wolfgang Amadeus Mozart,
    The Starry Night/Vincent van Gogh, The Four Seasons/Antonio Vivaldi, the theory of evolution/Charles Darwin,
    the World Wide Web/Tim Berners-Lee, the steam engine of 1769/James Watt
    """
)
# Yes-or-no questions with the sentence that answers them, by what is asked: `thing/quality` where it holds.
QUALITIES = table(
    """
    ice/cold, fire/hot, snow/cold, the sun/hot, water/wet, a stone/hard, a pillow/soft, sugar/sweet, honey/sweet,
    a lemon/sour, salt/salty, the sea/salty, a feather/light, lead/heavy, an elephant/big, an ant/small,
    a mouse/small, a whale/big, a snail/slow, a cheetah/fast, a turtle/slow, a plane/fast, gold/expensive,
    the night/dark, a desert/dry, glass/hard, a giraffe/tall, a needle/sharp, a knife/sharp, a ball/round,
    the earth/round, a wheel/round, thunder/loud, a library/quiet, chocolate/sweet, soup/wet, an iceberg/cold,
    a volcano/hot, a kitten/soft, a rock/heavy, steel/hard, cotton/soft, a lion/strong, coffee/bitter,
    a mountain/high, the ocean/deep, rain/wet, a cake/sweet, a bee/small, silk/smooth
    """
)
CONTRARY = table(
    """
    cold/hot, hot/cold, wet/dry, hard/soft, soft/hard, sweet/sour, sour/sweet, salty/sweet, light/heavy, heavy/light,
    big/small, small/big, slow/fast, fast/slow, expensive/cheap, dark/bright, dry/wet, tall/short, sharp/blunt,
    round/square, loud/quiet, quiet/loud, strong/weak, bitter/sweet, high/low, deep/shallow, smooth/rough
    """
)
ABLE = table(  # what can do what
    """
    a bird/fly, a fish/swim, a bee/fly, a bat/fly, a frog/jump, a kangaroo/jump, a duck/swim, a monkey/climb trees,
    a cat/climb trees, a plane/fly, a boat/float on water, a parrot/talk, an owl/see at night, a snake/crawl,
    a dolphin/swim, a horse/run, a butterfly/fly, a penguin/swim, a whale/swim, a spider/spin a web, a dog/bark,
    a helicopter/fly, a seal/swim, an eagle/fly, a hen/lay eggs, a cow/give milk, a squirrel/climb trees
    """
)
UNABLE = table(
    """
    a stone/swim, a pig/fly, a fish/walk, a table/talk, a snail/run fast, an elephant/fly, a tree/walk, a penguin/fly,
    a chair/sing, a cow/fly, a snake/walk, an ostrich/fly, a dog/fly, a car/swim, a book/read, a cat/talk,
    a stone/think, a horse/climb trees, a worm/jump, a lamp/eat, a whale/walk, a house/walk, a mouse/fly,
    a flower/run, a rock/float on water, a hammer/fly, a cloud/speak
    """
)
SIZES = words(  # from small to big
    """
    a grain of sand, an ant, a bee, a coin, a mouse, an apple, a cat, a chair, a sheep, a bicycle, a horse, a car,
    an elephant, a bus, a house, a whale, a church, a ship, a mountain, a country, the moon, the earth, the sun
    """
)
SPEEDS = words("a snail, a turtle, a person, a bicycle, a horse, a cheetah, a train, a plane, a rocket, light")
WEIGHTS = words("a feather, a coin, a book, a chair, a person, a horse, a car, an elephant, a whale, a ship")
HEIGHTS = words("a mouse, a dog, a child, a horse, a giraffe, a house, a church, a skyscraper, a mountain")
AGES = words("a baby, a child, a teenager, a father, a grandfather, a great-grandfather")
