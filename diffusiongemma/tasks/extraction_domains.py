"""The kinds of texts that facts are extracted from: their fields, and the sentences that state each of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffusiongemma.tasks import vocabulary as words
from diffusiongemma.tasks.example import chance, choose, choose_several
from diffusiongemma.tasks.extraction_fields import Clause, Domain, Field


def _full_name(rng: np.random.Generator) -> str:
    return f"{choose(rng, words.WOMEN + words.MEN)} {words.surname(rng)}"


def _person(rng: np.random.Generator) -> dict[str, Any]:
    woman = chance(rng, 0.5)
    first = choose(rng, words.WOMEN if woman else words.MEN)
    return {
        "name": f"{first} {words.surname(rng)}",
        "age": int(rng.integers(18, 90)),
        "city": words.city(rng),
        "job": choose(rng, words.PROFESSIONS),
        "hobby": choose(rng, words.HOBBIES),
        "employer": words.company(rng),
        "children": int(rng.integers(2, 6)),
        "married": chance(rng, 0.5),
        "_They": "She" if woman else "He",
        "_Their": "Her" if woman else "His",
    }


PERSON = Domain(
    "person",
    "name",
    {
        "name": Field("string", ("name", "full_name", "person")),
        "age": Field("integer", ("age",)),
        "city": Field("string", ("city", "home", "residence")),
        "job": Field("string", ("job", "profession", "occupation")),
        "hobby": Field("string", ("hobby", "interest")),
        "employer": Field("string", ("employer", "company")),
        "children": Field("integer", ("children", "number_of_children")),
        "married": Field("boolean", ("married",)),
    },
    _person,
    Clause(
        ("name", "age"), ("{name} is {age} years old.", "Meet {name}, aged {age}.", "{name} turned {age} last week.")
    ),
    (
        Clause(("city",), ("{_They} lives in {city}.", "{_Their} home is in {city}.", "{_They} moved to {city}.")),
        Clause(("job",), ("{_They} works as a {job}.", "{_They} is a {job} by profession.")),
        Clause(("employer",), ("{_Their} employer is {employer}.", "{_They} is employed by {employer}.")),
        Clause(("hobby",), ("{_Their} hobby is {hobby}.", "On weekends {_They} enjoys {hobby}.")),
        Clause(("children",), ("{_They} has {children} children.", "The family counts {children} children.")),
        Clause(("married",), ("{_They} is married.",), ("{_They} is not married.", "{_They} is single.")),
    ),
)


def _order(rng: np.random.Generator) -> dict[str, Any]:
    goods = choose_several(rng, words.GOODS, int(rng.integers(1, 4)))
    return {
        "customer": _full_name(rng),
        "items": [{"item": pair.split("/")[1], "quantity": int(rng.integers(2, 13))} for pair in goods],
        "number": words.code(rng),
        "total": words.price(rng),
        "day": words.day(rng),
        "city": words.city(rng),
        "paid": chance(rng, 0.5),
    }


ORDER = Domain(
    "order",
    "customer",
    {
        "customer": Field("string", ("customer", "buyer", "name")),
        "items": Field("items", ("items",)),
        "number": Field("string", ("order_number", "reference", "order_id")),
        "total": Field("number", ("total", "amount", "price")),
        "day": Field("string", ("delivery_date", "date")),
        "city": Field("string", ("city", "destination")),
        "paid": Field("boolean", ("paid",)),
    },
    _order,
    Clause(
        ("customer", "items"),
        (
            "{customer} ordered {items}.",
            "We received an order for {items} from {customer}.",
            "{customer} buys {items}.",
        ),
    ),
    (
        Clause(("number",), ("The order number is {number}.", "It is filed under {number}.", "Reference: {number}.")),
        Clause(("total",), ("The total is {total} dollars.", "It costs ${total}.", "The bill comes to ${total}.")),
        Clause(("day",), ("Delivery is planned for {day}.", "It should arrive on {day}.")),
        Clause(("city",), ("Please send it to {city}.", "The parcel goes to {city}.")),
        Clause(
            ("paid",), ("It has been paid.", "The bill is settled."), ("It has not been paid yet.", "It is unpaid.")
        ),
    ),
)


def _meeting(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "attendees": choose_several(rng, words.WOMEN + words.MEN, int(rng.integers(2, 5))),
        "organizer": _full_name(rng),
        "topic": choose(rng, words.TOPICS),
        "day": choose(rng, words.WEEKDAYS) if chance(rng, 0.5) else words.day(rng),
        "time": words.clock_time(rng),
        "room": int(rng.integers(1, 400)),
        "minutes": int(choose(rng, (15, 20, 30, 45, 60, 90))),
        "online": chance(rng, 0.5),
    }


MEETING = Domain(
    "meeting",
    "organizer",
    {
        "organizer": Field("string", ("organizer", "host", "called_by")),
        "topic": Field("string", ("topic", "subject")),
        "day": Field("string", ("day", "date")),
        "time": Field("string", ("time", "start")),
        "room": Field("integer", ("room",)),
        "minutes": Field("integer", ("minutes", "duration_minutes")),
        "attendees": Field("strings", ("attendees", "participants")),
        "online": Field("boolean", ("online",)),
    },
    _meeting,
    Clause(
        ("organizer", "topic"),
        ("{organizer} called a meeting about {topic}.", "A meeting about {topic} is hosted by {organizer}."),
    ),
    (
        Clause(("day", "time"), ("It is on {day} at {time}.", "We start at {time} on {day}.")),
        Clause(("room",), ("It takes place in room {room}.", "The room is number {room}.")),
        Clause(("minutes",), ("It will last {minutes} minutes.", "Plan {minutes} minutes for it.")),
        Clause(("attendees",), ("{attendees} will attend.", "The participants are {attendees}.")),
        Clause(("online",), ("One can join online.",), ("One cannot join online.",)),
    ),
)


def _product(rng: np.random.Generator) -> dict[str, Any]:
    thing = choose(rng, words.GOODS).split("/")[0]
    return {
        "name": f"{words.made_up_name(rng)} {thing}",
        "maker": words.company(rng),
        "colour": choose(rng, words.COLOURS),
        "material": choose(rng, words.MATERIALS),
        "price": words.price(rng),
        "weight": int(rng.integers(50, 5000)),
        "warranty": int(rng.integers(2, 11)),
        "in_stock": chance(rng, 0.5),
    }


PRODUCT = Domain(
    "product",
    "name",
    {
        "name": Field("string", ("product", "name")),
        "maker": Field("string", ("maker", "brand", "manufacturer")),
        "colour": Field("string", ("color",)),
        "material": Field("string", ("material",)),
        "price": Field("number", ("price", "cost")),
        "weight": Field("integer", ("weight_grams", "weight")),
        "warranty": Field("integer", ("warranty_years", "warranty")),
        "in_stock": Field("boolean", ("in_stock", "available")),
    },
    _product,
    Clause(
        ("name", "maker"),
        ("The {name} is made by {maker}.", "{maker} presents the {name}.", "New from {maker}: the {name}."),
    ),
    (
        Clause(("colour",), ("It comes in {colour}.", "Its color is {colour}.")),
        Clause(("material",), ("It is made of {material}.", "The material is {material}.")),
        Clause(("price",), ("It costs ${price}.", "The price is {price} dollars.")),
        Clause(("weight",), ("It weighs {weight} grams.", "The weight is {weight} grams.")),
        Clause(("warranty",), ("The warranty lasts {warranty} years.", "It has {warranty} years of warranty.")),
        Clause(("in_stock",), ("It is in stock.", "It is available now."), ("It is sold out.", "It is not in stock.")),
    ),
)


def _contact(rng: np.random.Generator) -> dict[str, Any]:
    first, last = choose(rng, words.WOMEN + words.MEN), words.surname(rng)
    return {
        "name": f"{first} {last}",
        "street": f"{choose(rng, words.STREETS)} {choose(rng, words.STREET_KINDS)}",
        "number": int(rng.integers(11, 300)),
        "city": words.city(rng),
        "postcode": str(rng.integers(10000, 100000)),
        "phone": f"555-{rng.integers(0, 10000):04d}",
        "email": f"{first}.{last}@{words.made_up_name(rng)}.com".lower(),
        "_first": first,
    }


ADDRESS = Domain(
    "address",
    "name",
    {
        "name": Field("string", ("name", "recipient", "contact")),
        "street": Field("string", ("street",)),
        "number": Field("integer", ("house_number", "number")),
        "city": Field("string", ("city", "town")),
        "postcode": Field("string", ("postcode", "zip")),
        "phone": Field("string", ("phone", "telephone")),
        "email": Field("string", ("email",)),
    },
    _contact,
    Clause(
        ("name", "number", "street", "city"),
        (
            "{name} lives at {number} {street} in {city}.",
            "Send it to {name}, {number} {street}, {city}.",
            "The new address of {name} is {number} {street}, {city}.",
        ),
    ),
    (
        Clause(("postcode",), ("The postcode is {postcode}.", "Use postcode {postcode}.")),
        Clause(("phone",), ("You can call {phone}.", "The phone number is {phone}.")),
        Clause(("email",), ("Write to {email}.", "{_first} reads mail at {email}.")),
    ),
)


def _trip(rng: np.random.Generator) -> dict[str, Any]:
    start, end = choose_several(rng, words.CITIES, 2)
    return {
        "traveler": _full_name(rng),
        "from": words.made_up_name(rng) if chance(rng, 0.2) else start,
        "to": words.made_up_name(rng) if chance(rng, 0.2) else end,
        "day": words.day(rng),
        "time": words.clock_time(rng),
        "seat": f"{rng.integers(1, 40)}{choose(rng, 'ABCDEF')}",
        "price": words.price(rng),
        "vehicle": choose(rng, ("train", "bus", "plane", "ferry")),
    }


TRIP = Domain(
    "trip",
    "traveler",
    {
        "traveler": Field("string", ("traveler", "passenger", "name")),
        "from": Field("string", ("from", "origin")),
        "to": Field("string", ("to", "destination")),
        "day": Field("string", ("day", "date")),
        "time": Field("string", ("departure", "time")),
        "seat": Field("string", ("seat",)),
        "price": Field("number", ("price", "fare")),
        "vehicle": Field("string", ("vehicle", "means")),
    },
    _trip,
    Clause(
        ("traveler", "from", "to"),
        ("{traveler} travels from {from} to {to}.", "From {from}, {traveler} is going to {to}."),
    ),
    (
        Clause(("vehicle",), ("The journey is by {vehicle}.", "The {vehicle} is already booked.")),
        Clause(("day",), ("The trip is on {day}.", "The date is {day}.")),
        Clause(("time",), ("Departure is at {time}.", "It leaves at {time}.")),
        Clause(("seat",), ("The seat is {seat}.", "Seat {seat} is reserved.")),
        Clause(("price",), ("The ticket costs ${price}.", "The fare is {price} dollars.")),
    ),
)

DOMAINS = (PERSON, ORDER, MEETING, PRODUCT, ADDRESS, TRIP)
