"""Names and words that the generated texts are made of, and a supply of names that nobody has seen."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import chance, choose


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words(
    """Anna Maria Emma Laura Julia Sarah Lisa Nina Clara Helen Alice Rosa Irene Vera Olga Diana Eva Grace Hannah Ida
    Jane Kate Leila Mia Nora Olivia Paula Rita Sofia Tara Uma Wendy Yara Zoe Amara Bella Carmen Daisy Elena Fatima
    Gloria Holly Ingrid Joan Karin Lucy Martha Naomi Petra Ruth Stella Tessa Ursula Violet Wilma Ada Bridget Chloe
    Dora Edith Flora Greta Hilda Isabel Jill Kira Lena Mona Nadia Pia Sonia Thea Veronica Yoko Aisha Beth"""
)
MEN = _words(
    """Peter Paul John Mark David Thomas Daniel Martin Simon Andrew Oscar Felix Hugo Ivan Jack Karl Leo Max Noah
    Otto Philip Ralph Samuel Tom Victor Walter Xavier Adam Boris Carlos Diego Erik Frank George Henry Ian Jonas Kevin
    Liam Marco Nathan Omar Pablo Quentin Robert Stefan Tariq Ulrich Vincent William Yusuf Alan Ben Colin Dean Edward
    Fred Gavin Harry Isaac James Kenji Lars Miguel Neil Owen Patrick Rahul Scott Theo Umar Viktor Wayne Ali Bruno
    Cyrus Dmitri"""
)
LAST_NAMES = _words(
    """Keller Moreau Santos Novak Larsen Weber Rossi Tanaka Okafor Silva Hansen Fischer Lopez Kim Patel Brown Clark
    Evans Foster Green Hughes Irwin Jones King Lewis Miller Nelson Owens Parker Quinn Reed Scott Turner Underwood
    Vance Walker Young Zimmer Adams Baker Carter Dixon Ellis Ford Grant Harris Ito Jensen Khan Lang Mason Nash Olsen
    Perez Ramos Stone Thorpe Ueda Vogel Wagner Yilmaz Zhang Abbott Becker Cohen Duarte Eriksen Ferrari Garcia Holm
    Ivanov Jung Kovacs Lindgren Marino Nguyen Orlov Popov Romero Sato Tran Urban Vega Wolf Yang Zeller Archer Bishop
    Chandler Dalton Emerson Fletcher Gardner Hayes Kent Lowe Morgan Norris Porter Russell Sawyer Taylor"""
)
CITIES = _words(
    """Paris London Berlin Madrid Rome Vienna Prague Oslo Lisbon Dublin Athens Warsaw Budapest Helsinki Zurich Geneva
    Milan Turin Lyon Porto Seville Munich Hamburg Bremen Leipzig Cologne Bristol Leeds York Oxford Boston Chicago
    Denver Dallas Houston Seattle Portland Austin Toronto Montreal Ottawa Sydney Perth Auckland Tokyo Osaka Kyoto
    Seoul Delhi Mumbai Cairo Nairobi Lagos Accra Lima Quito Bogota Santiago Havana Tunis"""
)
STREETS = _words(
    """Oak Maple Cedar Elm Park River Lake Hill Church Mill Station Garden Bridge Market Queen King Castle Forest
    Spring Harbor Meadow Orchard Willow Chestnut Valley"""
)
STREET_KINDS = ("Street", "Road", "Avenue", "Lane")
PROFESSIONS = _words(
    """teacher nurse baker carpenter lawyer doctor painter pilot farmer cook dentist plumber librarian journalist
    photographer gardener tailor translator architect musician mechanic chemist engineer waiter"""
)
HOBBIES = _words(
    """chess painting swimming cooking running singing dancing reading fishing cycling gardening skiing sailing
    knitting hiking climbing"""
)
GOODS = _words(  # one of them, two of them
    """lamp/lamps chair/chairs mug/mugs notebook/notebooks pen/pens table/tables blanket/blankets pillow/pillows
    basket/baskets candle/candles kettle/kettles clock/clocks mirror/mirrors backpack/backpacks umbrella/umbrellas
    towel/towels bowl/bowls plate/plates vase/vases bottle/bottles hammer/hammers rope/ropes bucket/buckets
    radio/radios camera/cameras jacket/jackets scarf/scarves hat/hats helmet/helmets tent/tents"""
)
COLOURS = _words("red blue green black white yellow grey brown orange purple silver pink")
MATERIALS = _words("wood steel glass cotton leather plastic wool bamboo ceramic copper")
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten")
TOPICS = (
    "the budget",
    "the new website",
    "hiring",
    "the summer festival",
    "safety",
    "the annual report",
    "marketing",
    "the office move",
    "customer complaints",
    "the product launch",
    "training",
    "travel costs",
    "the school trip",
    "the library opening",
)
COMPANY_ENDINGS = ("Foods", "Systems", "Works", "Labs", "Logistics", "Books", "Motors", "Textiles", "Energy", "Media")
COMMON_WORDS = _words(
    """apple bread chair dream earth flower garden house island jungle kitchen lemon mountain night ocean paper queen
    river stone table uncle village window yellow zebra animal bridge candle doctor engine forest guitar hammer
    insect jacket kettle ladder market needle orange pencil rabbit school ticket umbrella valley winter butter carpet
    dinner family finger ground hunter leader letter minute number office people person planet pocket potato prince
    record season second shadow silver simple sister spring square street summer system thread travel tunnel
    weather yard cloud dance eagle field glass heart juice knife light music north onion piano quiet radio sugar
    tiger voice water youth black clean drink every fresh great happy large money nurse plant ready seven smile
    storm sweet teach thing touch train under visit whale world young boat cake door farm gold hand king lamp moon
    nest park rain ship tree wind book bird coat desk fish goat hill milk road sand star wolf"""
)

_ONSETS = _words("b br c d dr f g gr h j k kl l m n p pr r s st t tr v w z th sh")
_VOWELS = _words("a e i o u ai ea ou")
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "nd", "rt", "ck", "x"]


def made_up_name(rng: np.random.Generator) -> str:
    """A capitalised name of two or three syllables that is no word: it can only be copied, not remembered."""
    syllables = [choose(rng, _ONSETS) + choose(rng, _VOWELS) + choose(rng, _CODAS) for _ in range(2 + chance(rng, 0.3))]
    return "".join(syllables).capitalize()


def surname(rng: np.random.Generator) -> str:
    """A family name; one in four is made up."""
    return made_up_name(rng) if chance(rng, 0.25) else choose(rng, LAST_NAMES)


def city(rng: np.random.Generator) -> str:
    """A town; one in five is made up."""
    return made_up_name(rng) if chance(rng, 0.2) else choose(rng, CITIES)


def company(rng: np.random.Generator) -> str:
    return f"{surname(rng)} {choose(rng, COMPANY_ENDINGS)}"


def day(rng: np.random.Generator) -> str:
    """A day of the year, written one of two ways."""
    number, month = int(rng.integers(1, 29)), choose(rng, MONTHS)
    return f"{number} {month}" if chance(rng, 0.5) else f"{month} {number}"


def clock_time(rng: np.random.Generator) -> str:
    return f"{rng.integers(7, 22)}:{choose(rng, ('00', '15', '30', '45'))}"


def price(rng: np.random.Generator) -> int | float:
    """An amount whose written form is also its JSON form: 12, 12.75, never 12.50."""
    whole = int(rng.integers(11, 400))  # from 11 on numbers are always written in digits
    return whole if chance(rng, 0.5) else round(whole + choose(rng, (0.25, 0.75, 0.95, 0.99, 0.45)), 2)


def code(rng: np.random.Generator) -> str:
    """A reference such as KX-4821."""
    letters = "".join(choose(rng, "ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(2))
    return f"{letters}-{rng.integers(100, 10000)}"
