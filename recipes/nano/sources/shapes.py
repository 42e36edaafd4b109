"""What texts to extract from are about: sentences that state facts, and the names under which these are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks import vocabulary
from diffusiongemma.tasks.example import chance, choose
from diffusiongemma.tasks.vocabulary import MONTHS, NUMBER_WORDS, WEEKDAYS
from recipes.nano.sources.fact_tables import CAPITALS, words
from recipes.nano.writer.topics import THINGS

Rng = np.random.Generator


@dataclass(frozen=True)
class Value:
    """A fact: how a text states it, and the JSON value of it."""

    shown: str
    json: Any


def _text(options: Callable[[Rng], str]) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        text = options(rng)
        return Value(text, text)

    return draw


def _of(*options: str) -> Callable[[Rng], Value]:
    return _text(lambda rng: choose(rng, options))


def _number(least: int, most: int, spelled: float = 0.25) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        number = int(rng.integers(least, most + 1))
        shown = NUMBER_WORDS[number] if 2 <= number <= 10 and chance(rng, spelled) else str(number)
        return Value(shown, number)

    return draw


def _decimal(least: int, most: int) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        whole, part = int(rng.integers(least, most)), int(rng.integers(1, 10))
        return Value(f"{whole}.{part}", float(f"{whole}.{part}"))

    return draw


def _price(rng: Rng) -> Value:
    if chance(rng, 0.5):
        number = int(rng.integers(2, 900))
        return Value(str(number), number)
    cents = int(choose(rng, (50, 99, 95, 25, 75, 49)))
    text = f"{int(rng.integers(1, 200))}.{cents}"
    return Value(text, float(text))


def _date(rng: Rng) -> str:
    day, month, year = int(rng.integers(1, 29)), choose(rng, MONTHS), int(rng.integers(1990, 2031))
    return choose(
        rng,
        (
            f"{month} {day}",
            f"{month} {day}",
            f"{day} {month}",
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{year}-{MONTHS.index(month) + 1:02d}-{day:02d}",
            f"{day}.{MONTHS.index(month) + 1}.{year}",
        ),
    )


def _clock(rng: Rng) -> str:
    hour, minute = int(rng.integers(0, 24)), int(choose(rng, (0, 0, 15, 30, 45, 10, 20)))
    return choose(
        rng, (f"{hour}:{minute:02d}", f"{hour:02d}:{minute:02d}", f"{hour % 12 + 1} pm", f"{hour % 12 + 1} am")
    )


def _full_name(rng: Rng) -> str:
    last = vocabulary.surname(rng) if chance(rng, 0.5) else choose(rng, vocabulary.LAST_NAMES)
    return f"{choose(rng, vocabulary.WOMEN + vocabulary.MEN)} {last}"


def _email(rng: Rng) -> str:
    first, last = choose(rng, vocabulary.WOMEN + vocabulary.MEN).lower(), choose(rng, vocabulary.LAST_NAMES).lower()
    user = choose(rng, (first, f"{first}.{last}", f"{first[0]}{last}"))
    return f"{user}@{choose(rng, ('example.com', 'mail.org', 'post.net', 'home.org'))}"


def _code(rng: Rng) -> str:
    letters = "".join(choose(rng, "ABCDEFGHKLMNPRSTUVWXZ") for _ in range(int(rng.integers(1, 4))))
    return choose(
        rng,
        (
            f"{letters}-{int(rng.integers(10, 9999))}",
            f"{letters}{int(rng.integers(10, 999))}",
            f"{int(rng.integers(1000, 99999))}",
        ),
    )


def _phone(rng: Rng) -> str:
    return choose(
        rng,
        (f"555-{int(rng.integers(0, 10000)):04d}", f"0{int(rng.integers(20, 99))} {int(rng.integers(10000, 999999))}"),
    )


def _thing(rng: Rng) -> str:
    kind = choose(rng, ("clothes", "furniture", "tools", "household things", "musical instruments"))
    thing = choose(rng, THINGS[kind])
    return f"{choose(rng, _ADJECTIVES)} {thing}" if chance(rng, 0.6) else thing


_ADJECTIVES = words(
    """
    red, blue, green, black, white, yellow, brown, old, new, small, large, wooden, round, heavy, light, grey, long,
    short, soft, cheap
    """
)
_GOODS = tuple(thing for kind in ("fruits", "vegetables", "foods") for thing in THINGS[kind])
_TITLES = words(
    """
    The Long Winter, A House by the Sea, The Last Train, Night Over Rome, The Glass Key, Silent River, The Red Door,
    Letters from Home, The Blue Lamp, Under the Bridge, The Third Summer, A Cup of Tea, Stone and Water, The Lost Map,
    Seven Days, The Old Clock, Birds of Passage, The Empty Chair, White Sand, The Baker's Son
    """
)
_TEAMS = words(
    """
    the Lions, the Tigers, the Eagles, the Sharks, the Wolves, the Bears, the Hawks, the Falcons, the Rockets,
    the Foxes
    """
)
_EVENTS = words(
    """
    concert, meeting, wedding, exhibition, lecture, market, party, workshop, race, film festival, interview, class,
    reading, picnic, dinner
    """
)
_PLACES = tuple(place for place in THINGS["places"] if place not in ("mountain", "hill", "swamp", "cellar", "attic"))
_COMPLAINTS = words(
    "broken, late, too small, too loud, dirty, damaged, empty, torn, wet, scratched, missing, too expensive"
)

VALUES: dict[str, Callable[[Rng], Value]] = {
    "name": _text(_full_name),
    "first": _text(lambda rng: choose(rng, vocabulary.WOMEN + vocabulary.MEN)),
    "city": _text(vocabulary.city),
    "country": _text(lambda rng: choose(rng, tuple(CAPITALS)).removeprefix("the ")),
    "age": _number(2, 95, 0.1),
    "small": _number(2, 12),
    "number": _number(2, 200, 0.1),
    "many": _number(100, 9000, 0),
    "price": _price,
    "decimal": _decimal(1, 60),
    "date": _text(_date),
    "day": _of(*WEEKDAYS),
    "month": _of(*MONTHS),
    "time": _text(_clock),
    "year": _number(1900, 2030, 0),
    "job": _of(*vocabulary.PROFESSIONS),
    "hobby": _of(*vocabulary.HOBBIES),
    "company": _text(vocabulary.company),
    "thing": _text(_thing),
    "colour": _of(*vocabulary.COLOURS),
    "animal": _of(*THINGS["animals"]),
    "food": _of(*_GOODS),
    "email": _text(_email),
    "phone": _text(_phone),
    "code": _text(_code),
    "title": _of(*_TITLES),
    "team": _of(*_TEAMS),
    "event": _of(*_EVENTS),
    "place": _of(*_PLACES),
    "language": _of(
        *words(
            """
    English, French, German, Spanish, Italian, Greek, Polish, Arabic, Chinese, Turkish
    """
        )
    ),
    "street": _text(
        lambda rng: (
            f"{int(rng.integers(1, 200))} {choose(rng, vocabulary.STREETS)} {choose(rng, vocabulary.STREET_KINDS)}"
        )
    ),
    "complaint": _of(*_COMPLAINTS),
    "percent": _number(1, 100, 0),
    "score": _number(1, 10, 0.2),
    "weather": _of("sunny", "rainy", "cloudy", "windy", "foggy", "snowy"),
    "plant": _of(*THINGS["plants"]),
    "instrument": _of(*THINGS["musical instruments"]),
    "vehicle": _of(*THINGS["vehicles"]),
    "subject": _of(*THINGS["school subjects"]),
}


@dataclass(frozen=True)
class Fact:
    """`kind` of value; `keys` it may be asked under, the first where no shape is shown; the `unit` of a number."""

    kind: str
    keys: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Subject:
    """`opening` sentences state the first facts; each of the others states what stands in its braces."""

    name: str
    facts: dict[str, Fact]
    opening: tuple[str, ...]
    others: tuple[str, ...]


def _subject(name: str, facts: str, opening: str, others: str) -> Subject:
    found = {}
    for line in facts.strip().split("\n"):
        key, kind, *rest = (part.strip() for part in line.split("|"))
        unit = rest[1] if len(rest) > 1 else ""
        found[key] = Fact(kind, (key, *(rest[0].split() if rest else ())), unit)
    return Subject(name, found, _lines(opening), _lines(others))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().split("\n"))


SUBJECTS: tuple[Subject, ...] = (
    _subject(
        "person",
        """name | name | full_name person
        age | age | years
        city | city | home residence town
        job | job | profession occupation
        hobby | hobby | interest pastime
        children | small | number_of_children kids
        email | email | mail email_address
        phone | phone | telephone phone_number
        country | country | nationality_country home_country
        language | language | mother_tongue""",
        """{name} is {age} years old.
        {name}, {age}, is a friend of mine.
        This is {name}, who is {age}.
        {name} is {age}.
        My neighbour {name} has just turned {age}.""",
        """Home is {city}.
        The address is in {city}.
        The job is {job}.
        The hobby is {hobby}.
        There are {children} children.
        Mail goes to {email}.
        The phone number is {phone}.
        You can call {phone}.
        The country of birth is {country}.
        The mother tongue is {language}.""",
    ),
    _subject(
        "person who lives",
        """name | name | full_name person who
        city | city | home place lives_in
        job | job | profession works_as
        age | age | years
        hobby | hobby | likes interest""",
        """{name} lives in {city}.
        {name} comes from {city}.
        {name} moved to {city} last year.
        {name} works as a {job} in {city}.
        {name} from {city} is a {job}.
        {name} is a {job} who lives in {city}.""",
        """Age: {age}.
        At {age}, there is still much to do.
        On Sundays it is time for {hobby}.""",
    ),
    _subject(
        "product",
        """product | thing | item name article thing
        price | price | cost amount
        weight | small | weight_kg kilos | kilos
        colour | colour | color
        size | number | length size_cm | centimetres
        stock | number | in_stock quantity available
        code | code | article_number sku id""",
        """The {product} costs {price} euros.
        The {product} costs {price} dollars and weighs {weight} kilos.
        For sale: {product}, {price} euros.
        We sell a {product} for {price} euros.
        A {product} for only {price} dollars!
        The price of the {product} is {price} pounds.""",
        """It weighs {weight} kilos.
        The weight is {weight} kg.
        It comes in {colour}.
        It is {size} centimetres long.
        We have {stock} of them in stock.
        The article number is {code}.""",
    ),
    _subject(
        "appointment",
        """date | date | day when on
        place | place | where location
        time | time | hour at
        person | first | with who name
        topic | event | occasion event""",
        """Meet me on {date} at the {place}.
        Let us meet at the {place} on {date}.
        See you on {date} in the {place}.
        We meet on {date}, at the {place}.
        The {topic} is on {date} at the {place}.
        On {date} there is a {topic} in the {place}.""",
        """Come at {time}.
        It begins at {time}.
        {person} will be there too.
        Bring {person} along.""",
    ),
    _subject(
        "event",
        """event | event | name what
        city | city | place where
        date | date | day when
        price | price | entry ticket
        visitors | many | guests people
        organiser | name | organizer host
        start | time | begins starting_time""",
        """The {event} takes place in {city} on {date}.
        On {date} there will be a {event} in {city}.
        {city} hosts a {event} on {date}.
        A {event} is planned in {city} for {date}.""",
        """A ticket costs {price} euros.
        {visitors} people are expected.
        It is organised by {organiser}.
        The beginning is at {start}.""",
    ),
    _subject(
        "journey",
        """from | city | start origin departure_city
        to | city | destination goal arrival_city
        vehicle | vehicle | by means transport
        departure | time | leaves start_time
        hours | small | duration duration_hours
        price | price | fare cost
        platform | small | track
        passenger | name | traveller name""",
        """The {vehicle} from {from} to {to} leaves at {departure}.
        {passenger} travels from {from} to {to}.
        We go from {from} to {to} by {vehicle}.
        The trip from {from} to {to} takes {hours} hours.""",
        """The fare is {price} euros.
        It leaves from platform {platform}.
        It takes {hours} hours.
        Departure is at {departure}.""",
    ),
    _subject(
        "book",
        """title | title | book name
        author | name | writer written_by
        year | year | published publication_year
        pages | many | length page_count
        price | price | cost
        language | language | written_in
        rating | score | stars score""",
        """"{title}" is a book by {author}.
        {author} wrote "{title}".
        The novel "{title}" by {author} came out in {year}.
        {author} published "{title}" in {year}.""",
        """It has {pages} pages.
        The book costs {price} dollars.
        It is written in {language}.
        Readers give it {rating} of 10 points.
        It appeared in {year}.""",
    ),
    _subject(
        "game",
        """home | team | first_team team_a
        away | team | second_team team_b
        home_goals | small | score_a goals_home
        away_goals | small | score_b goals_away
        city | city | place where
        spectators | many | visitors crowd
        day | day | weekday when""",
        """{home} played against {away} in {city}.
        On {day} {home} met {away}.
        {home} beat {away} in {city} on {day}.""",
        """{spectators} people watched the game.
        The hosts scored {home_goals} times.
        The guests scored {away_goals} times.""",
    ),
    _subject(
        "weather report",
        """city | city | place town
        weather | weather | conditions sky
        temperature | number | degrees temp
        wind | number | wind_speed wind_kmh
        day | day | weekday
        rain | percent | chance_of_rain rain_percent""",
        """In {city} it is {weather} and {temperature} degrees.
        It will be {weather} in {city} on {day}.
        {day} in {city}: {weather}, {temperature} degrees.
        The weather in {city} is {weather}.""",
        """The wind blows at {wind} kilometres an hour.
        The chance of rain is {rain} percent.
        The temperature is {temperature} degrees.""",
    ),
    _subject(
        "pet",
        """pet | first | name pet_name
        animal | animal | kind species
        age | small | years age_years
        owner | name | belongs_to
        colour | colour | color fur
        food | food | likes favourite_food
        weight | number | weight_kg | kilos""",
        """{pet} is a {colour} {animal}.
        The {animal} is called {pet}.
        {owner} has a {animal} named {pet}.
        My {animal} {pet} is {age} years old.""",
        """It belongs to {owner}.
        It likes to eat {food}.
        It weighs {weight} kilos.
        The fur is {colour}.""",
    ),
    _subject(
        "recipe",
        """dish | food | name meal
        minutes | number | time cooking_time
        people | small | servings persons
        eggs | small | number_of_eggs
        main_ingredient | food | ingredient
        oven | many | temperature oven_temperature
        cook | first | chef by""",
        """The {dish} takes {minutes} minutes.
        For the {dish} you need {eggs} eggs and {main_ingredient}.
        {cook} makes {dish} for {people} people.
        This {dish} is for {people} people and takes {minutes} minutes.""",
        """Bake it at {oven} degrees.
        Use {eggs} eggs.
        It serves {people}.
        The main ingredient is {main_ingredient}.""",
    ),
    _subject(
        "complaint",
        """customer | name | name client
        product | thing | item article
        problem | complaint | issue fault
        order | code | order_number order_id
        date | date | bought_on order_date
        wish | thing | wants replacement
        phone | phone | telephone""",
        """{customer} writes that the {product} is {problem}.
        The {product} that {customer} bought is {problem}.
        My name is {customer} and my {product} is {problem}.
        Complaint of {customer}: the {product} arrived {problem}.""",
        """The order number is {order}.
        It was bought on {date}.
        The customer wants a {wish} instead.
        Please call {phone}.""",
    ),
    _subject(
        "flat",
        """street | street | address
        city | city | town location
        rooms | small | number_of_rooms
        rent | many | price monthly_rent
        size | number | area square_metres
        floor | small | storey
        available | date | free_from from
        owner | name | landlord contact""",
        """The flat at {street} in {city} has {rooms} rooms.
        For rent: {rooms} rooms in {city}, {rent} euros.
        A flat with {rooms} rooms at {street} costs {rent} euros a month.""",
        """It is {size} square metres large.
        It is on floor {floor}.
        It is free from {available}.
        The owner is {owner}.
        The rent is {rent} euros.""",
    ),
    _subject(
        "company",
        """company | company | name firm
        city | city | headquarters seat
        employees | many | staff workers
        founded | year | founding_year since
        boss | name | ceo director
        product | thing | makes sells
        profit | number | profit_millions""",
        """{company} from {city} has {employees} employees.
        {company} was founded in {founded}.
        {boss} runs {company} in {city}.
        {company} makes things like a {product}.""",
        """The seat is in {city}.
        It was founded in {founded}.
        The boss is {boss}.
        The profit was {profit} million euros.
        {employees} people work there.""",
    ),
    _subject(
        "pupil",
        """pupil | name | student name
        school_city | city | city town
        subject | subject | best_subject favourite_subject
        grade | small | class year
        points | percent | score result
        teacher | name | taught_by
        absent | small | days_absent""",
        """{pupil} is in class {grade} and likes {subject} best.
        {pupil} got {points} points in {subject}.
        {teacher} teaches {pupil} {subject}.
        In {subject}, {pupil} reached {points} points.""",
        """The school is in {school_city}.
        The teacher is {teacher}.
        There were {absent} days of absence.
        The class is {grade}.""",
    ),
    _subject(
        "musician",
        """musician | name | artist name
        instrument | instrument | plays
        concert_city | city | city where
        date | date | when day
        songs | small | number_of_songs
        price | price | ticket_price ticket""",
        """{musician} plays the {instrument}.
        {musician} plays the {instrument} in {concert_city} on {date}.
        On {date} {musician} gives a concert in {concert_city}.""",
        """There will be {songs} songs.
        A ticket costs {price} euros.
        The instrument is a {instrument}.""",
    ),
    _subject(
        "car",
        """vehicle | vehicle | kind type
        colour | colour | color
        year | year | built model_year
        kilometres | many | km mileage
        price | price | cost asking_price
        seller | name | owner contact
        seats | small | number_of_seats""",
        """For sale: {colour} {vehicle} of {year}.
        {seller} sells a {colour} {vehicle} for {price} euros.
        The {vehicle} was built in {year} and is {colour}.""",
        """It has run {kilometres} kilometres.
        It has {seats} seats.
        The price is {price} euros.
        Ask for {seller}.""",
    ),
    _subject(
        "garden",
        """plant | plant | name kind
        height | number | height_cm size | centimetres
        planted | month | planting_month when
        colour | colour | color flower_colour
        water | small | litres water_litres
        place | place | where location
        gardener | first | who planted_by""",
        """The {plant} is {height} centimetres high.
        {gardener} planted a {plant} in {planted}.
        The {plant} near the {place} is {colour}.""",
        """It needs {water} litres of water.
        It was planted in {planted}.
        It is {colour}.
        It grows near the {place}.""",
    ),
    _subject(
        "message",
        """sender | first | from writer
        receiver | first | to addressee
        day | day | date when
        time | time | hour at
        place | place | where location
        thing | food | bring item""",
        """Hi {receiver}, can you come on {day}? {sender}
        Dear {receiver}, please bring {thing} on {day}. Yours, {sender}
        {receiver}, I will be at the {place} at {time}. {sender}
        Hello {receiver}, we meet at {time}. Greetings, {sender}""",
        """P.S. Do not forget the {thing}.
        I wait at the {place}.
        It starts at {time}.""",
    ),
    _subject(
        "receipt",
        """shop | company | store seller
        item | food | product article
        quantity | small | number pieces
        total | price | sum amount
        date | date | day
        cashier | first | served_by
        number | code | receipt_number id""",
        """{shop}: {quantity} x {item}, total {total}.
        At {shop} {quantity} pieces of {item} cost {total} euros.
        Receipt of {shop}, {date}: {item}, {total} euros.""",
        """Receipt number {number}.
        You were served by {cashier}.
        Date: {date}.
        Total: {total}.""",
    ),
)
