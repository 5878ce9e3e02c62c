"""The words that synthetic lives are made of: what people say about themselves, and the fact that it means.

A phrase is a line `said | fact`: the owner's words in the first person, and the same in the third, without a full stop.
`{n}` is the owner's name, `{v}` the value, `{old}` the value it replaces, `{d}` a detail. The last third of every list
is held out: lives that train never use it. So the order within a list matters, and a new phrase moves the border.

Attributes whose memories could make one another doubtful (a plan to move, and a move) share a `rivals` group, and are
never true at the same time. Within a `topic` they are alike but independent, which is what a student has to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

# How many values are true at a time: one; several side by side; a happening, which stays true for ever; or one again,
# of a relative of the owner.
Kind = Literal["single", "several", "event", "other person"]


@dataclass(frozen=True, slots=True)
class Phrase:
    """One way to say something, and the fact that it is."""

    said: str
    fact: str


@dataclass(frozen=True, slots=True)
class Chatter:
    """An exchange that holds no fact of the owner."""

    said: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One thing that can be true of a person, and how it is said; there is one object of each."""

    name: str
    topic: str
    kind: Kind
    values: tuple[str, ...]  # with their article, where the phrases have none
    state: tuple[Phrase, ...]  # it is so: any two with the same value repeat each other
    change: tuple[Phrase, ...] = ()  # this value instead of the old one
    withdraw: tuple[Phrase, ...] = ()  # it is so no more, and no new value is known
    refine: tuple[Phrase, ...] = ()  # what a state says, and a detail
    details: tuple[str, ...] = ()  # each goes with every value
    rivals: str | None = None


def part(phrases: Sequence[T], held_out: bool) -> Sequence[T]:
    """The phrases for training, or the last third (rounded up), which is held out."""
    border = len(phrases) - -(-len(phrases) // 3)
    return phrases[border:] if held_out else phrases[:border]


def _lines(block: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in block.strip().splitlines())


def _phrases(block: str) -> tuple[Phrase, ...]:
    return tuple(Phrase(*line.split(" | ")) for line in _lines(block)) if block else ()


def _chatter(block: str) -> tuple[Chatter, ...]:
    return tuple(Chatter(*line.split(" | ")) for line in _lines(block))


def _values(block: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in block.split(",")) if block else ()


def _attribute(
    kind: Kind,
    name: str,
    *,
    topic: str,
    values: str,
    state: str,
    change: str = "",
    withdraw: str = "",
    refine: str = "",
    details: str = "",
    rivals: str | None = None,
) -> Attribute:
    """An attribute from blocks of text: a phrase a line, values and details between commas."""
    return Attribute(
        name,
        topic,
        kind,
        _values(values),
        state=_phrases(state),
        change=_phrases(change),
        withdraw=_phrases(withdraw),
        refine=_phrases(refine),
        details=_values(details),
        rivals=rivals,
    )


def _relatives(relatives: str, name: str, **blocks: str) -> tuple[Attribute, ...]:
    """One attribute for each relative, who is `{r}` in the phrases."""
    return tuple(
        _attribute(
            "other person",
            f"{relative}'s {name}",
            **{key: block.replace("{r}", relative) for key, block in blocks.items()},
        )
        for relative in _values(relatives)
    )


# ------------------------------------------------------------------------------------------------ values of many

_CITIES = (
    "Porto, Lyon, Bergen, Ghent, Leeds, Toronto, Seville, Graz, Tallinn, Bristol, Denver, Osaka, Nairobi, Lima, "
    "Galway, Utrecht, Turin, Boston, Adelaide, Montreal, Cardiff, Riga, Ljubljana, Melbourne"
)
_JOBS = (
    "a nurse, an architect, a baker, a software developer, a bus driver, a history teacher, an electrician, "
    "a librarian, a gardener, a translator, a dental assistant, a carpenter, an accountant, a paramedic, "
    "a graphic designer, a chemist, a tour guide, a tailor, a firefighter, an optician, a journalist, a lab technician"
)
_CARS = (
    "a red Fiat, a Volvo estate, a Honda Civic, a Tesla, a blue Skoda, a Toyota hybrid, a green Mini, a Ford pickup, "
    "a Renault Clio, a Mazda roadster, a white Kia, a Dacia Duster, a VW Golf, a Peugeot van, an Opel Astra, "
    "a silver Audi, a Suzuki Swift, a Nissan Leaf, an old Saab, a yellow Citroen, a Subaru"
)
_DIETS = (
    "vegan, vegetarian, pescatarian, gluten-free, low-carb, keto, paleo, Mediterranean, dairy-free, sugar-free, "
    "raw-food, low-salt, high-protein, low-fat, Nordic, macrobiotic, high-fibre, kosher, halal, lactose-free"
)
_PHONES = (
    "an iPhone, a Pixel, a Fairphone, a Galaxy, a Motorola, a Nokia, a Xiaomi, a Sony Xperia, a Huawei, "
    "an old BlackBerry, a Zenfone, a Realme, a Jolla, a Doogee, a Cubot, a Blackview, a Moto G"
)
_INSTRUMENTS = (
    "the cello, the guitar, the drums, the harp, the clarinet, the violin, the trumpet, the accordion, the flute, "
    "the banjo, the saxophone, the oboe, the piano, the mandolin, the ukulele, the double bass, the trombone, "
    "the bagpipes, the viola, the harmonica"
)
_LANGUAGES = (
    "Portuguese, Danish, Korean, Italian, Finnish, Arabic, Japanese, Turkish, Czech, Swahili, Greek, Welsh, Polish, "
    "Hindi, Dutch, Icelandic, Mandarin, Spanish, Hungarian, Catalan, Basque, Vietnamese"
)
_TRIPS = (
    "Iceland, Lapland, the Dolomites, Sicily, Madeira, Kyoto, the Azores, Patagonia, Crete, Cornwall, Tasmania, "
    "Zanzibar, Corsica, Bali, the Faroe Islands, Provence, Cappadocia, Marrakesh, Hanoi, Havana, the Black Forest, "
    "Yosemite"
)
_TEAMS = (
    "Harbour United, the Riverside Rovers, Northfield City, the Millbrook Foxes, Eastgate Athletic, "
    "the Ashford Hawks, Lakeside Town, the Copper Bay Bears, Westmoor Rangers, the Elmwood Wolves, "
    "Stonebridge Albion, the Granite Giants, Highgrove Wanderers, the Bayview Sharks, Oldcastle County, "
    "the Pinehill Otters, Redcliff Dynamo, the Valley Comets, Southport Union, the Silver Lake Swans"
)

# ------------------------------------------------------------------------------------------------ one at a time

_SINGLE = (
    _attribute(
        "single",
        "home city",
        topic="home",
        rivals="dwelling",
        values=_CITIES,
        state="""
        I live in {v}. | {n} lives in {v}
        My home is in {v}. | {n}'s home is in {v}
        I'm based in {v}. | {n} is based in {v}
        {v} is where I live. | {v} is where {n} lives
        The city I live in is {v}. | The city {n} lives in is {v}
        I have made my home in {v}. | {n} has made a home in {v}
        The place I call home is {v}. | The place {n} calls home is {v}
        I'm living in {v} these days. | {n} is living in {v} these days
        I'm a resident of {v}. | {n} is a resident of {v}
        """,
        change="""
        I've just moved to {v}! | {n} has moved to {v}
        I left {old} and live in {v} now. | {n} left {old} and now lives in {v}
        I packed up everything and moved house to {v}. | {n} moved house to {v}
        I don't live in {old} any more, my home is {v} now. | {n} no longer lives in {old}, the new home is {v}
        I relocated from {old} to {v}. | {n} relocated from {old} to {v}
        My new home city is {v}. | {n}'s new home city is {v}
        """,
        withdraw="""
        I don't live in {v} any more. | {n} no longer lives in {v}
        I moved away from {v}. | {n} moved away from {v}
        I've given up my home in {v}. | {n} gave up the home in {v}
        I've left {v} for good. | {n} has left {v} for good
        I'm not living in {v} any longer. | {n} is not living in {v} any longer
        I've moved out of {v}. | {n} has moved out of {v}
        """,
        refine="""
        I live in {v}, {d}. | {n} lives in {v}, {d}
        My home in {v} is {d}. | {n}'s home in {v} is {d}
        To be exact, I live {d} in {v}. | {n} lives {d} in {v}
        """,
        details="above a small bakery, close to the river, on the edge of the old town, near the main station, "
        "next to the city park, on the fifth floor of a tower block, behind the university, on a very quiet street",
    ),
    _attribute(
        "single",
        "planned move",
        topic="home",
        rivals="dwelling",
        values="the countryside, a houseboat, a bigger flat, a cottage by the sea, the suburbs, a loft downtown, "
        "a village in the hills, an island, a farm, a studio flat, a house with a garden, the old town, a tiny house, "
        "a shared house, the harbour district, a flat with a balcony, a mountain village, the student quarter, "
        "a ground-floor flat, a converted mill",
        state="""
        I'm planning to move to {v}. | {n} is planning to move to {v}
        My plan is to move to {v}. | {n}'s plan is to move to {v}
        I have a move to {v} planned. | {n} has a move to {v} planned
        I intend to move to {v}. | {n} intends to move to {v}
        A move to {v} is what I have planned. | A move to {v} is what {n} has planned
        I plan to move house, to {v}. | {n} plans to move house, to {v}
        """,
        change="""
        I've changed my moving plans: it'll be {v} now. | {n} changed the moving plans and will now move to {v}
        I won't move to {old} after all, I'll move to {v}. | {n} will not move to {old} but to {v}
        Instead of {old}, I now plan to move to {v}. | {n} now plans to move to {v} instead of {old}
        My plan to move is a different one now: {v}. | {n}'s plan is now a different one: moving to {v}
        I've swapped the plan to move to {old} for a move to {v}. | {n} swapped the plan to move to {old} for {v}
        My new plan is to move to {v}. | {n}'s new plan is to move to {v}
        """,
        withdraw="""
        I'm not going to move to {v} after all. | {n} is not going to move to {v} after all
        I dropped my plan to move to {v}. | {n} dropped the plan to move to {v}
        I've called off my move. | {n} has called off the move
        The idea of moving to {v} is off the table. | {n}'s idea of moving to {v} is off the table
        I gave up on moving to {v}. | {n} gave up on moving to {v}
        I no longer plan to move. | {n} no longer plans to move
        """,
        refine="""
        I'm planning to move to {v} {d}. | {n} is planning to move to {v} {d}
        I intend to move to {v} {d}. | {n} intends to move to {v} {d}
        My plan is to move to {v} {d}. | {n}'s plan is to move to {v} {d}
        """,
        details="with two friends, to have more quiet, to spend less on rent, to be closer to the family, "
        "with the help of a cousin, to have room for a workshop",
    ),
    _attribute(
        "single",
        "flatmate",
        topic="home",
        rivals="dwelling",
        values="Anselm, Bronwyn, Cosima, Dmitri, Eluned, Fergus, Gudrun, Henrike, Ignacio, Jolanta, Kalliope, "
        "Leopold, Mireille, Nikos, Ottilie, Philippa, Ragnar, Saoirse, Tancredi, Ulrika",
        state="""
        I share a flat with {v}. | {n} shares a flat with {v}
        My flatmate is {v}. | {n}'s flatmate is {v}
        {v} is my flatmate. | {v} is {n}'s flatmate
        I live in a shared flat with {v}. | {n} lives in a shared flat with {v}
        {v} and I share a flat. | {v} and {n} share a flat
        The person I share my flat with is {v}. | The person {n} shares a flat with is {v}
        """,
        change="""
        {old} moved out and {v} is my flatmate now. | {old} moved out and {v} is now {n}'s flatmate
        I have a new flatmate, {v}. | {n} has a new flatmate, {v}
        I share my flat with {v} now instead of {old}. | {n} now shares a flat with {v} instead of {old}
        My old flatmate left and {v} took the room. | {n}'s old flatmate left and {v} took the room
        {v} has replaced {old} as my flatmate. | {v} has replaced {old} as {n}'s flatmate
        My flatmate is somebody new: {v} moved in. | {n}'s flatmate is somebody new, {v}
        """,
        withdraw="""
        {v} has moved out of our flat. | {v} has moved out of {n}'s flat
        I don't share a flat with {v} any more. | {n} no longer shares a flat with {v}
        I no longer have a flatmate. | {n} no longer has a flatmate
        {v} isn't my flatmate any more. | {v} is not {n}'s flatmate any more
        {v} and I have stopped sharing a flat. | {v} and {n} have stopped sharing a flat
        My flatmate has moved out. | {n}'s flatmate has moved out
        """,
        refine="""
        My flatmate {v} is {d}. | {n}'s flatmate {v} is {d}
        I share a flat with {v}, who is {d}. | {n} shares a flat with {v}, who is {d}
        {v}, my flatmate, is {d}. | {v}, {n}'s flatmate, is {d}
        """,
        details="a medical student, an early riser, a night owl, a wonderful cook, from the next village, very tidy, "
        "an old school friend, a quiet programmer",
    ),
    _attribute(
        "single",
        "job",
        topic="work",
        rivals="work",
        values=_JOBS,
        state="""
        I work as {v}. | {n} works as {v}
        I'm {v} by profession. | {n} is {v} by profession
        My job is being {v}. | {n}'s job is being {v}
        I earn my living as {v}. | {n} earns a living as {v}
        I have a job as {v}. | {n} has a job as {v}
        I'm employed as {v}. | {n} is employed as {v}
        Professionally, I'm {v}. | Professionally, {n} is {v}
        I'm {v} for a living. | {n} is {v} for a living
        I hold a position as {v}. | {n} holds a position as {v}
        """,
        change="""
        I changed jobs and work as {v} now. | {n} changed jobs and now works as {v}
        I'm no longer {old}, I'm {v} now. | {n} is no longer {old} and is now {v}
        I switched careers and became {v}. | {n} switched careers and became {v}
        I left my old job and started a new one as {v}. | {n} left the old job and started a new one as {v}
        I quit as {old} and was hired as {v}. | {n} quit as {old} and was hired as {v}
        I've gone from being {old} to being {v}. | {n} has gone from being {old} to being {v}
        """,
        withdraw="""
        I'm not {v} any more. | {n} is not {v} any more
        I quit my job as {v}. | {n} quit the job as {v}
        I've lost my job. | {n} has lost the job
        I no longer work as {v}. | {n} no longer works as {v}
        My time as {v} is over. | {n}'s time as {v} is over
        I've resigned from my job. | {n} has resigned from the job
        """,
        refine="""
        I work as {v} {d}. | {n} works as {v} {d}
        My job as {v} is {d}. | {n}'s job as {v} is {d}
        I'm employed as {v} {d}. | {n} is employed as {v} {d}
        """,
        details="on night shifts, three days a week, in a team of four, for a family business, mostly on weekends, "
        "on a two-year contract, near the central station, for a large company",
    ),
    _attribute(
        "single",
        "employer",
        topic="work",
        rivals="work",
        values="Solvik Bank, Brightleaf Books, Northgate Hospital, Tamarin Software, Alder Foods, Kestrel Airlines, "
        "Marlow Insurance, Quarry Street Studios, Bluefin Logistics, Hazel Pharma, Orchard Toys, Lindgren Furniture, "
        "Copperline Media, Vista Hotels, Harrow Engineering, Willow Energy, Pellworm Ferries, Castellan Security, "
        "Moonbeam Games, Dunmore Textiles",
        state="""
        I work for {v}. | {n} works for {v}
        My employer is {v}. | {n}'s employer is {v}
        I'm on the staff of {v}. | {n} is on the staff of {v}
        I'm employed by {v}. | {n} is employed by {v}
        I have a job at {v}. | {n} has a job at {v}
        {v} is the company I work for. | {v} is the company {n} works for
        I'm an employee of {v}. | {n} is an employee of {v}
        The company that pays my salary is {v}. | The company that pays {n}'s salary is {v}
        I'm working at {v}. | {n} is working at {v}
        """,
        change="""
        I left {old} and work for {v} now. | {n} left {old} and now works for {v}
        I switched employers and I'm with {v} now. | {n} switched employers and is with {v} now
        {v} is my new employer. | {v} is {n}'s new employer
        I moved from {old} to {v} for a new job. | {n} moved from {old} to {v} for a new job
        I gave up my job at {old} for one at {v}. | {n} gave up the job at {old} for one at {v}
        I have a new employer now: {v}. | {n} has a new employer now: {v}
        """,
        withdraw="""
        I don't work for {v} any more. | {n} no longer works for {v}
        I handed in my notice and left {v}. | {n} handed in notice and left {v}
        {v} let me go. | {v} has let {n} go
        I've left my employer. | {n} has left the employer
        My time at {v} is over. | {n}'s time at {v} is over
        I'm no longer with my company. | {n} is no longer with the company
        """,
        refine="""
        I work for {v} {d}. | {n} works for {v} {d}
        I have a job at {v} {d}. | {n} has a job at {v} {d}
        I'm employed by {v} {d}. | {n} is employed by {v} {d}
        """,
        details="in the accounting team, in the legal department, in the customer support team, at the front desk, "
        "in the research department, in the marketing team, in the training department, in the purchasing team",
    ),
    _attribute(
        "single",
        "commute",
        topic="transport",
        rivals="work",
        values="by bus, by tram, by train, by ferry, on foot, by subway, on a moped, on a skateboard, by cable car, "
        "by taxi, by kick scooter, on roller skates",
        state="""
        I commute to work {v}. | {n} commutes to work {v}
        I get to work {v}. | {n} gets to work {v}
        I travel to work {v} every day. | {n} travels to work {v} every day
        My daily commute is {v}. | {n}'s daily commute is {v}
        My way to work is {v}. | {n}'s way to work is {v}
        I go to work {v}. | {n} goes to work {v}
        On workdays I make my way to work {v}. | On workdays {n} gets to work {v}
        I do my commute {v}. | {n} does the commute {v}
        """,
        change="""
        I've changed my commute and go to work {v} now. | {n} changed the commute and now goes to work {v}
        I don't go to work {old} any more but {v}. | {n} no longer goes to work {old} but {v}
        My new way of commuting is {v}. | {n}'s new way of commuting is {v}
        These days I get to work {v} instead of {old}. | {n} now gets to work {v} instead of {old}
        I've switched to commuting {v}. | {n} has switched to commuting {v}
        I used to commute {old}, now it's {v}. | {n} used to commute {old} and now commutes {v}
        """,
        withdraw="""
        I don't commute {v} any more. | {n} no longer commutes {v}
        I've stopped going to work {v}. | {n} stopped going to work {v}
        I no longer have a commute. | {n} no longer has a commute
        I've given up getting to work {v}. | {n} gave up getting to work {v}
        I'm done with commuting {v}. | {n} is done with commuting {v}
        I don't commute any longer. | {n} does not commute any longer
        """,
        refine="""
        I commute to work {v}, {d}. | {n} commutes to work {v}, {d}
        I get to work {v}, {d}. | {n} gets to work {v}, {d}
        I go to work {v}, {d}. | {n} goes to work {v}, {d}
        """,
        details="which takes forty minutes, together with a colleague, which takes a quarter of an hour, "
        "always with an audiobook, along the canal, which takes almost an hour",
    ),
    _attribute(
        "single",
        "car",
        topic="transport",
        values=_CARS,
        state="""
        I drive {v}. | {n} drives {v}
        My car is {v}. | {n}'s car is {v}
        The car I own is {v}. | The car {n} owns is {v}
        I have {v} as my car. | {n} has {v} as a car
        I have a car, namely {v}. | {n} has a car, namely {v}
        I own a car, {v}. | {n} owns a car, {v}
        The car I get around in is {v}. | The car {n} gets around in is {v}
        My own car is {v}. | {n}'s own car is {v}
        """,
        change="""
        I sold {old} and drive {v} now. | {n} sold {old} and now drives {v}
        I've got a new car: {v}. | {n} has a new car: {v}
        I traded my car in for {v}. | {n} traded the old car in for {v}
        My car isn't {old} any more, it's {v}. | {n}'s car is no longer {old} but {v}
        I replaced my car with {v}. | {n} replaced the car with {v}
        I used to drive {old}, now it's {v}. | {n} used to drive {old} and now drives {v}
        """,
        withdraw="""
        I don't drive {v} any more. | {n} no longer drives {v}
        I've sold my car. | {n} has sold the car
        I don't have {v} as my car any more. | {n} no longer has {v} as a car
        My car was {v}, but I've scrapped it. | {n} scrapped the car, {v}
        I no longer own {v}. | {n} no longer owns {v}
        I gave my car away. | {n} gave the car away
        """,
        refine="""
        I drive {v} {d}. | {n} drives {v} {d}
        My car is {v} {d}. | {n}'s car is {v} {d}
        I own a car, {v} {d}. | {n} owns a car, {v} {d}
        """,
        details="with a roof box, with a sunroof, with over 200000 kilometres on the clock, with leather seats, "
        "with a dented door, with a tow bar, with winter tyres",
    ),
    _attribute(
        "single",
        "bike",
        topic="transport",
        values="a gravel bike, a folding bike, a cargo bike, an e-bike, a racing bike, a mountain bike, a tandem, "
        "a recumbent bike, a fixed-gear bike, a BMX bike, a vintage steel bike, a Dutch city bike, a touring bike, "
        "a three-wheeled bike",
        state="""
        I ride {v}. | {n} rides {v}
        My bike is {v}. | {n}'s bike is {v}
        The bike I own is {v}. | The bike {n} owns is {v}
        I cycle on {v}. | {n} cycles on {v}
        The bike I have is {v}. | The bike {n} has is {v}
        When I cycle, it's on {v}. | {n} goes cycling on {v}
        """,
        change="""
        I sold {old} and ride {v} now. | {n} sold {old} and now rides {v}
        I've got a new bike: {v}. | {n} has a new bike: {v}
        I swapped {old} for {v}. | {n} swapped {old} for {v}
        I replaced my old bike with {v}. | {n} replaced the old bike with {v}
        My bike isn't {old} any more, it's {v} now. | {n}'s bike is no longer {old} but {v}
        I traded in my bike for {v}. | {n} traded in the bike for {v}
        """,
        withdraw="""
        I don't have {v} any more. | {n} no longer has {v}
        My bike was stolen. | {n}'s bike was stolen
        I no longer ride {v}. | {n} no longer rides {v}
        I gave away my bike, {v}. | {n} gave away the bike, {v}
        I don't ride {v} any longer. | {n} does not ride {v} any longer
        I've sold my bike. | {n} has sold the bike
        """,
        refine="""
        I ride {v} {d}. | {n} rides {v} {d}
        My bike is {v} {d}. | {n}'s bike is {v} {d}
        I cycle on {v} {d}. | {n} cycles on {v} {d}
        """,
        details="with a leather saddle, with bright yellow tyres, with a wicker basket, with a child seat, "
        "with disc brakes, with a hand-painted frame",
    ),
    _attribute(
        "single",
        "diet",
        topic="food",
        rivals="diet",
        values=_DIETS,
        state="""
        I follow a {v} diet. | {n} follows a {v} diet
        I'm on a {v} diet. | {n} is on a {v} diet
        My diet is {v}. | {n}'s diet is {v}
        I eat a {v} diet. | {n} eats a {v} diet
        I stick to a {v} diet. | {n} sticks to a {v} diet
        The diet I follow is {v}. | The diet {n} follows is {v}
        I live on a {v} diet. | {n} lives on a {v} diet
        My way of eating is a {v} diet. | {n}'s way of eating is a {v} diet
        """,
        change="""
        I switched from a {old} diet to a {v} one. | {n} switched from a {old} diet to a {v} one
        I changed my diet and it's {v} now. | {n} changed the diet and it is now {v}
        My diet isn't {old} any more, it's {v}. | {n}'s diet is no longer {old} but {v}
        I have a new diet now, a {v} one. | {n} has a new diet now, a {v} one
        I used to eat a {old} diet, now it's a {v} one. | {n} used to eat a {old} diet and now eats a {v} one
        I replaced my old diet with a {v} one. | {n} replaced the old diet with a {v} one
        """,
        withdraw="""
        I stopped following a {v} diet. | {n} stopped following a {v} diet
        I'm no longer on a {v} diet. | {n} is no longer on a {v} diet
        I've given up my diet. | {n} has given up the diet
        I quit the {v} diet. | {n} quit the {v} diet
        I don't stick to a {v} diet any more. | {n} does not stick to a {v} diet any more
        I'm not on a special diet any longer. | {n} is not on a special diet any longer
        """,
        refine="""
        I follow a {v} diet {d}. | {n} follows a {v} diet {d}
        I'm on a {v} diet {d}. | {n} is on a {v} diet {d}
        I stick to a {v} diet {d}. | {n} sticks to a {v} diet {d}
        """,
        details="on a doctor's advice, to sleep better, to save money, because of stomach trouble, for more energy, "
        "together with a friend, out of habit",
    ),
    _attribute(
        "single",
        "coffee order",
        topic="food",
        values="a flat white, an espresso, a cappuccino, a latte, an iced coffee, a cortado, a macchiato, a mocha, "
        "a cold brew, a double espresso, an americano, a filter coffee, a ristretto, an oat latte, a Turkish coffee, "
        "a decaf cappuccino, a Vienna coffee, a lungo, an Irish coffee, a pumpkin latte",
        state="""
        My usual coffee is {v}. | {n}'s usual coffee is {v}
        I always order {v} at the cafe. | {n} always orders {v} at the cafe
        At the cafe I have my usual order, {v}. | {n}'s usual order at the cafe is {v}
        When I get a coffee, it's always {v}. | {n} always gets {v} when having coffee
        {v} is my regular coffee. | {v} is {n}'s regular coffee
        My standard coffee order is {v}. | {n}'s standard coffee order is {v}
        The coffee I always go for is {v}. | The coffee {n} always goes for is {v}
        My coffee of choice is {v}. | {n}'s coffee of choice is {v}
        """,
        change="""
        I switched my coffee order from {old} to {v}. | {n} switched the coffee order from {old} to {v}
        My new usual coffee is {v}. | {n}'s new usual coffee is {v}
        I don't order {old} any more, I have {v} now. | {n} no longer orders {old} and now has {v}
        My coffee order has changed, it's {v} now. | {n}'s coffee order has changed and is now {v}
        I've moved on from {old}, my usual coffee is {v} now. | {n}'s usual coffee is now {v} and no longer {old}
        I've replaced my usual coffee with {v}. | {n} has replaced the usual coffee with {v}
        """,
        withdraw="""
        I don't order {v} any more. | {n} no longer orders {v}
        {v} isn't my usual coffee any more. | {v} is not {n}'s usual coffee any more
        I've given up coffee. | {n} has given up coffee
        I stopped having {v} at the cafe. | {n} stopped having {v} at the cafe
        I no longer go for {v}. | {n} no longer goes for {v}
        I've quit drinking coffee. | {n} has quit drinking coffee
        """,
        refine="""
        My usual coffee is {v} {d}. | {n}'s usual coffee is {v} {d}
        I always order {v} {d}. | {n} always orders {v} {d}
        My standard coffee order is {v} {d}. | {n}'s standard coffee order is {v} {d}
        """,
        details="with two sugars, in a takeaway cup, at the kiosk by the station, with a dash of cinnamon, "
        "with a glass of water, with a spoonful of honey",
    ),
    _attribute(
        "single",
        "favourite restaurant",
        topic="food",
        values="the Blue Lantern, Casa Amara, the Golden Noodle, Trattoria Livia, the Salty Anchor, Le Petit Four, "
        "the Pepper Garden, Taverna Helios, the Smoky Barrel, Bistro Marguerite, the Lucky Carp, El Naranjo, "
        "the Old Mill, Curry Corner, the Hungry Heron, Osteria Gallo, the Green Pagoda, Cafe Mistral, the Copper Pot, "
        "Sushi Nami",
        state="""
        My favourite restaurant is {v}. | {n}'s favourite restaurant is {v}
        {v} is the restaurant I like best. | {v} is the restaurant {n} likes best
        Of all restaurants I like {v} best. | {n} likes {v} best of all restaurants
        The restaurant I love most is {v}. | The restaurant {n} loves most is {v}
        {v} is my number one restaurant. | {v} is {n}'s number one restaurant
        No restaurant beats {v} for me. | For {n}, no restaurant beats {v}
        """,
        change="""
        My new favourite restaurant is {v}. | {n}'s new favourite restaurant is {v}
        {v} has replaced {old} as my favourite restaurant. | {v} has replaced {old} as {n}'s favourite restaurant
        I now like {v} better than {old}, my old favourite. | {n} now likes {v} better than {old}, the old favourite
        My favourite restaurant isn't {old} any more but {v}. | {n}'s favourite restaurant is no longer {old} but {v}
        {v} is my favourite restaurant now, {old} used to be. | {v} is now {n}'s favourite restaurant, {old} used to be
        I have a new favourite place to eat, {v}. | {n} has a new favourite place to eat, {v}
        """,
        withdraw="""
        {v} isn't my favourite restaurant any more. | {v} is not {n}'s favourite restaurant any more
        I no longer like {v} best. | {n} no longer likes {v} best
        I've gone off {v}, my old favourite. | {n} has gone off {v}, the old favourite
        I don't have a favourite restaurant any more. | {n} no longer has a favourite restaurant
        {v} used to be my favourite restaurant, not any more. | {v} is no longer {n}'s favourite restaurant
        I've lost my love for {v}. | {n} has lost the love for {v}
        """,
        refine="""
        My favourite restaurant is {v}, {d}. | {n}'s favourite restaurant is {v}, {d}
        {v} is the restaurant I like best, {d}. | {v} is the restaurant {n} likes best, {d}
        The restaurant I love most is {v}, {d}. | The restaurant {n} loves most is {v}, {d}
        """,
        details="because of the desserts, above all for the terrace, because the cook is so kind, "
        "above all on quiet weekdays, because of the live music, above all for the soups",
    ),
    _attribute(
        "single",
        "relationship status",
        topic="people",
        values="single, engaged, married, divorced, separated, in an open relationship, "
        "in a long-distance relationship, in a civil partnership",
        state="""
        I'm currently {v}. | {n} is currently {v}
        When it comes to love, I'm {v}. | {n} is {v} when it comes to love
        My relationship status is: {v}. | {n}'s relationship status: {v}
        In my private life, I'm {v}. | In private life, {n} is {v}
        As for love, I'm {v}. | As for love, {n} is {v}
        I'm {v} at the moment. | {n} is {v} at the moment
        I'm {v}, in case you wondered. | {n} is {v} these days
        Privately, I'm {v}. | Privately, {n} is {v}
        """,
        change="""
        I'm not {old} any more, I'm {v} now. | {n} is no longer {old} and is now {v}
        My relationship status has changed to: {v}. | {n}'s relationship status changed to: {v}
        My love life has changed, I'm now {v}. | {n}'s love life has changed: {n} is now {v}
        I went from {old} to {v}. | {n} went from {old} to {v}
        I was {old} until recently, and now I'm {v}. | {n} was {old} until recently and is now {v}
        My new relationship status is: {v}. | {n}'s new relationship status: {v}
        """,
        withdraw="""
        I'm no longer {v}. | {n} is no longer {v}
        I'm not {v} any more. | {n} is not {v} any more
        It isn't true any longer that I'm {v}. | It is not true any longer that {n} is {v}
        I've stopped being {v}. | {n} has stopped being {v}
        My days of being {v} are over. | {n}'s days of being {v} are over
        """,
        refine="""
        I've been {v} {d}. | {n} has been {v} {d}
        When it comes to love, I've been {v} {d}. | {n} has been {v} {d} when it comes to love
        By now I've been {v} {d}. | By now {n} has been {v} {d}
        """,
        details="since last summer, since January, since the autumn, for two years, for about six months, "
        "since the new year, for a few weeks",
    ),
    _attribute(
        "single",
        "favourite colour",
        topic="colour",
        values="green, navy blue, purple, orange, turquoise, yellow, crimson, beige, black, silver, olive, lavender, "
        "white, teal, burgundy, gold, peach, mint, grey, magenta",
        state="""
        My favourite colour is {v}. | {n}'s favourite colour is {v}
        The colour I like best is {v}. | The colour {n} likes best is {v}
        {v} is my favourite colour. | {v} is {n}'s favourite colour
        Of all colours I love {v} most. | {n} loves {v} most of all colours
        No colour is nicer to me than {v}. | For {n}, no colour is nicer than {v}
        I like {v} more than any other colour. | {n} likes {v} more than any other colour
        """,
        change="""
        My new favourite colour is {v}. | {n}'s new favourite colour is {v}
        My favourite colour isn't {old} any more, it's {v}. | {n}'s favourite colour is no longer {old} but {v}
        My favourite colour is {v} now, not {old}. | {n}'s favourite colour is now {v}, not {old}
        {v} has replaced {old} as my favourite colour. | {v} has replaced {old} as {n}'s favourite colour
        I have a different favourite colour now: {v}. | {n} has a different favourite colour now: {v}
        I've changed my favourite colour from {old} to {v}. | {n} changed favourite colours from {old} to {v}
        """,
        withdraw="""
        {v} isn't my favourite colour any more. | {v} is not {n}'s favourite colour any more
        I'm over {v} as my favourite colour. | {n} is over {v} as a favourite colour
        I don't have a favourite colour any more. | {n} no longer has a favourite colour
        I no longer like {v} best of all colours. | {n} no longer likes {v} best of all colours
        {v} has stopped being my favourite colour. | {v} has stopped being {n}'s favourite colour
        I've given up having a favourite colour. | {n} gave up having a favourite colour
        """,
        refine="""
        My favourite colour is {v}, {d}. | {n}'s favourite colour is {v}, {d}
        {v} is my favourite colour, {d}. | {v} is {n}'s favourite colour, {d}
        The colour I like best is {v}, {d}. | The colour {n} likes best is {v}, {d}
        """,
        details="above all for clothes, above all for walls, above all on cars, because it is calming, "
        "because it brings back childhood, above all on furniture",
    ),
    _attribute(
        "single",
        "hair dye",
        topic="colour",
        values="pink, copper red, platinum blond, midnight blue, lilac, jet black, chestnut brown, emerald green, "
        "silver grey, cherry red, honey blond, violet, mahogany, apricot, ash blond, rose gold, bright orange, "
        "ice blue",
        state="""
        I dye my hair {v}. | {n} dyes the hair {v}
        My hair is dyed {v}. | {n}'s hair is dyed {v}
        I have dyed hair, in {v}. | {n} has dyed hair, in {v}
        I wear my hair dyed {v}. | {n} wears dyed hair in {v}
        The dye in my hair is {v}. | The dye in {n}'s hair is {v}
        My dyed hair is {v}. | {n}'s dyed hair is {v}
        """,
        change="""
        I dyed my hair again, from {old} to {v}. | {n} dyed the hair again, from {old} to {v}
        My new hair dye is {v}. | {n}'s new hair dye is {v}
        My hair is dyed {v} now instead of {old}. | {n}'s hair is now dyed {v} instead of {old}
        I've changed my hair dye to {v}. | {n} changed the hair dye to {v}
        My hair isn't {old} any more, I had it dyed {v}. | {n}'s hair is no longer {old} but dyed {v}
        I've just had my hair redone, the new dye is {v}. | {n} had the hair redone and the new dye is {v}
        """,
        withdraw="""
        I've stopped dyeing my hair {v}. | {n} stopped dyeing the hair {v}
        My hair isn't dyed any more. | {n}'s hair is not dyed any more
        I let the {v} dye grow out of my hair. | {n} let the {v} dye grow out
        I no longer have {v} hair. | {n} no longer has {v} hair
        The {v} dye in my hair is gone. | The {v} dye in {n}'s hair is gone
        I've given up dyeing my hair. | {n} gave up dyeing the hair
        """,
        refine="""
        My hair is dyed {v}, {d}. | {n}'s hair is dyed {v}, {d}
        I dye my hair {v}, {d}. | {n} dyes the hair {v}, {d}
        My dyed hair is {v}, {d}. | {n}'s dyed hair is {v}, {d}
        """,
        details="with darker tips, always with natural henna, with a white streak, always at the same salon, "
        "always with a kit from the drugstore, with lighter roots",
    ),
    _attribute(
        "single",
        "phone",
        topic="devices",
        values=_PHONES,
        state="""
        My phone is {v}. | {n}'s phone is {v}
        I use {v} as my phone. | {n} uses {v} as a phone
        The phone I use is {v}. | The phone {n} uses is {v}
        I have {v} for calls and messages. | {n} has {v} for calls and messages
        I make my calls with {v}. | {n} makes calls with {v}
        The phone in my pocket is {v}. | The phone in {n}'s pocket is {v}
        """,
        change="""
        I've switched phones from {old} to {v}. | {n} switched phones from {old} to {v}
        My new phone is {v}. | {n}'s new phone is {v}
        I replaced my phone with {v}. | {n} replaced the phone with {v}
        I don't use {old} any more, my phone is {v} now. | {n} no longer uses {old} and now has {v}
        My phone used to be {old}, now it's {v}. | {n}'s phone used to be {old} and is now {v}
        I've got a new phone, {v}. | {n} has got a new phone, {v}
        """,
        withdraw="""
        I don't use {v} any more. | {n} no longer uses {v}
        I've got rid of my phone. | {n} got rid of the phone
        I no longer have {v} as my phone. | {n} no longer has {v} as a phone
        My phone was {v}, but I lost it. | {n} lost the phone, {v}
        {v} isn't my phone any longer. | {v} is not {n}'s phone any longer
        My phone fell into the sea. | {n}'s phone fell into the sea
        """,
        refine="""
        My phone is {v} {d}. | {n}'s phone is {v} {d}
        The phone I use is {v} {d}. | The phone {n} uses is {v} {d}
        I use {v} {d} as my phone. | {n} uses {v} {d} as a phone
        """,
        details="with a cracked screen, with a red case, bought second-hand, with a prepaid card, with two SIM cards, "
        "with a new battery",
    ),
    _attribute(
        "single",
        "laptop",
        topic="devices",
        values="a ThinkPad, a MacBook Air, a Chromebook, a Framework laptop, a ZenBook, a Dell laptop, "
        "an Acer laptop, a gaming laptop, a MacBook Pro, a Surface laptop, a Tuxedo laptop, a Toshiba laptop, "
        "a Medion laptop, a Razer laptop",
        state="""
        My laptop is {v}. | {n}'s laptop is {v}
        The laptop I use is {v}. | The laptop {n} uses is {v}
        I have {v} as my computer. | {n} has {v} as a computer
        The computer I own is {v}. | The computer {n} owns is {v}
        The computer on my desk is {v}. | The computer on {n}'s desk is {v}
        My own computer is {v}. | {n}'s own computer is {v}
        """,
        change="""
        My new laptop is {v}. | {n}'s new laptop is {v}
        I replaced {old} with {v}. | {n} replaced {old} with {v}
        I've bought a new laptop, so it's {v} now. | {n} bought a new laptop and now has {v}
        I don't use {old} any more, my laptop is {v} now. | {n} no longer uses {old}, the laptop is now {v}
        I've changed computers: from {old} to {v}. | {n} changed computers from {old} to {v}
        I traded my old laptop for {v}. | {n} traded the old laptop for {v}
        """,
        withdraw="""
        I don't have {v} any more. | {n} no longer has {v}
        I sold my laptop. | {n} has sold the laptop
        My laptop was {v}, but it broke for good. | {n}'s laptop, {v}, broke for good
        I gave away my laptop, {v}. | {n} gave away the laptop, {v}
        I no longer use {v}. | {n} no longer uses {v}
        My laptop got stolen. | {n}'s laptop got stolen
        """,
        refine="""
        My laptop is {v} {d}. | {n}'s laptop is {v} {d}
        The laptop I use is {v} {d}. | The laptop {n} uses is {v} {d}
        My own computer is {v} {d}. | {n}'s own computer is {v} {d}
        """,
        details="with a big screen, with Linux on it, covered in stickers, with a broken key, bought second-hand, "
        "with a docking station",
    ),
    _attribute(
        "single",
        "gym schedule",
        topic="fitness",
        values="on Mondays, on Tuesdays and Fridays, every weekday morning, twice a week, "
        "on Saturday afternoons, three times a week, on Sunday evenings, every day at noon, on Wednesdays, "
        "on Thursday nights, four times a week, on Mondays and Thursdays, every other day, on weekends, once a week, "
        "every Friday evening, five times a week, on Tuesday mornings, on Saturdays and Sundays, every night after ten",
        state="""
        I go to the gym {v}. | {n} goes to the gym {v}
        I work out at the gym {v}. | {n} works out at the gym {v}
        My gym sessions are {v}. | {n}'s gym sessions are {v}
        I train at the gym {v}. | {n} trains at the gym {v}
        My gym schedule: I go {v}. | {n}'s gym schedule is to go {v}
        I'm at the gym {v}. | {n} is at the gym {v}
        My workouts at the gym are {v}. | {n}'s workouts at the gym are {v}
        I exercise at the gym {v}. | {n} exercises at the gym {v}
        I visit the gym {v}. | {n} visits the gym {v}
        """,
        change="""
        I changed my gym schedule and go {v} now. | {n} changed the gym schedule and now goes {v}
        I go to the gym {v} now and no longer {old}. | {n} now goes to the gym {v} and no longer {old}
        My new gym schedule: I go {v}. | {n}'s new gym schedule is to go {v}
        I used to go to the gym {old}, now I go {v}. | {n} used to go to the gym {old} and now goes {v}
        My gym sessions aren't {old} any more but {v}. | {n}'s gym sessions are no longer {old} but {v}
        I've set new times for the gym, I work out {v} now. | {n} has new gym times and now works out {v}
        """,
        withdraw="""
        I've quit the gym. | {n} has quit the gym
        I don't go to the gym {v} any more. | {n} no longer goes to the gym {v}
        I cancelled my gym membership. | {n} cancelled the gym membership
        I dropped my gym sessions {v}. | {n} dropped the gym sessions {v}
        I no longer go to the gym. | {n} no longer goes to the gym
        I stopped working out at the gym {v}. | {n} stopped working out at the gym {v}
        """,
        refine="""
        I go to the gym {v}, {d}. | {n} goes to the gym {v}, {d}
        My gym sessions are {v}, {d}. | {n}'s gym sessions are {v}, {d}
        I exercise at the gym {v}, {d}. | {n} exercises at the gym {v}, {d}
        """,
        details="with a friend, with a personal trainer, for an hour each time, mostly for weights, "
        "mostly for the sauna, always with loud music",
    ),
    _attribute(
        "single",
        "marathon target",
        topic="fitness",
        values="Valencia, Hamburg, Rotterdam, Chicago, Athens, Dublin, Berlin, Boston, London, Prague, Tokyo, "
        "New York, Vienna, Stockholm, Copenhagen, Amsterdam, Barcelona, Budapest, Edinburgh, Istanbul",
        state="""
        I'm training for the {v} marathon. | {n} is training for the {v} marathon
        I'm preparing for the {v} marathon. | {n} is preparing for the {v} marathon
        My running goal is the {v} marathon. | {n}'s running goal is the {v} marathon
        I'm in training to run the {v} marathon. | {n} is in training to run the {v} marathon
        The race I'm training for is the {v} marathon. | The race {n} is training for is the {v} marathon
        I'm getting ready for the {v} marathon. | {n} is getting ready for the {v} marathon
        I'm getting in shape for the {v} marathon. | {n} is getting in shape for the {v} marathon
        I do my running to prepare for the {v} marathon. | {n} goes running to prepare for the {v} marathon
        """,
        change="""
        I changed my marathon, I'm now training for {v}. | {n} changed marathons and is now training for {v}
        I'm running the {v} marathon instead of {old}. | {n} will run the {v} marathon instead of {old}
        My new running goal is the {v} marathon. | {n}'s new running goal is the {v} marathon
        I've switched from the {old} marathon to that in {v}. | {n} switched from the {old} marathon to that in {v}
        I train for the {v} marathon now, not for {old}. | {n} now trains for the {v} marathon, not for {old}
        I've set myself another marathon as my goal, {v}. | {n} has set another marathon as the goal, {v}
        """,
        withdraw="""
        I'm not training for the {v} marathon any more. | {n} is not training for the {v} marathon any more
        I gave up on the {v} marathon. | {n} gave up on the {v} marathon
        I've dropped my marathon plans. | {n} dropped the marathon plans
        I no longer want to run the {v} marathon. | {n} no longer wants to run the {v} marathon
        I've called off my start at the {v} marathon. | {n} called off the start at the {v} marathon
        I won't run a marathon after all. | {n} will not run a marathon after all
        """,
        refine="""
        I'm training for the {v} marathon {d}. | {n} is training for the {v} marathon {d}
        I'm preparing for the {v} marathon {d}. | {n} is preparing for the {v} marathon {d}
        I'm getting ready for the {v} marathon {d}. | {n} is getting ready for the {v} marathon {d}
        """,
        details="with a goal of under four hours, together with a colleague, with a professional coach, "
        "to raise money for a hospice, with a running club, with four runs a week",
    ),
    _attribute(
        "single",
        "instrument",
        topic="learning",
        values=_INSTRUMENTS,
        state="""
        I'm learning {v}. | {n} is learning {v}
        I'm busy learning to play {v}. | {n} is busy learning to play {v}
        I'm learning to play {v}. | {n} is learning to play {v}
        The instrument I'm learning is {v}. | The instrument {n} is learning is {v}
        {v} is the instrument I'm learning. | {v} is the instrument {n} is learning
        I'm trying to learn {v}. | {n} is trying to learn {v}
        I'm working on learning {v}. | {n} is working on learning {v}
        I'm a beginner on {v}. | {n} is a beginner on {v}
        The instrument I learn these days is {v}. | The instrument {n} learns these days is {v}
        """,
        change="""
        I dropped {old} and I'm learning {v} now. | {n} dropped {old} and is now learning {v}
        I switched from learning {old} to learning {v}. | {n} switched from learning {old} to learning {v}
        I'm learning a different instrument now, {v}. | {n} is learning a different instrument now, {v}
        My new instrument is {v}. | {n}'s new instrument is {v}
        Instead of {old}, I'm learning to play {v} now. | {n} is now learning to play {v} instead of {old}
        I changed instruments and learn {v} now. | {n} changed instruments and is now learning {v}
        """,
        withdraw="""
        I gave up learning {v}. | {n} gave up learning {v}
        I've dropped {v} and won't learn it. | {n} dropped {v} and will not learn it
        I've quit learning an instrument. | {n} has quit learning an instrument
        I'm not learning {v} any more. | {n} is not learning {v} any more
        I've stopped learning to play {v}. | {n} has stopped learning to play {v}
        I'm not learning an instrument any longer. | {n} is not learning an instrument any longer
        """,
        refine="""
        I'm learning {v} {d}. | {n} is learning {v} {d}
        I'm learning to play {v} {d}. | {n} is learning to play {v} {d}
        I'm trying to learn {v} {d}. | {n} is trying to learn {v} {d}
        """,
        details="with a retired teacher, at the music school, in a small group, on Tuesday evenings, "
        "to play in a folk band, with an online teacher, together with a neighbour",
    ),
    _attribute(
        "single",
        "language",
        topic="learning",
        values=_LANGUAGES,
        state="""
        I'm learning {v}. | {n} is learning {v}
        I'm learning to speak {v}. | {n} is learning to speak {v}
        The language I'm learning is {v}. | The language {n} is learning is {v}
        {v} is the language I'm learning. | {v} is the language {n} is learning
        I'm busy learning {v}. | {n} is busy learning {v}
        I'm working on learning {v}. | {n} is working on learning {v}
        I'm trying to learn {v}. | {n} is trying to learn {v}
        The language I learn these days is {v}. | The language {n} learns these days is {v}
        """,
        change="""
        I stopped {old} and I'm learning {v} now. | {n} stopped {old} and is now learning {v}
        I've switched from learning {old} to {v}. | {n} has switched from learning {old} to {v}
        The language I'm learning now is a new one, {v}. | {n} is learning a new language now, {v}
        I'm learning {v} now instead of {old}. | {n} is now learning {v} instead of {old}
        I've traded learning {old} for learning {v}. | {n} traded learning {old} for learning {v}
        I'm learning a different language now: {v}. | {n} is learning a different language now: {v}
        """,
        withdraw="""
        I gave up learning {v}. | {n} gave up learning {v}
        I quit learning {v}. | {n} quit learning {v}
        I've stopped learning a language. | {n} has stopped learning a language
        I'm not learning {v} any more. | {n} is not learning {v} any more
        I've dropped {v} and study no language now. | {n} has dropped {v} and studies no language now
        I've given up learning a foreign language. | {n} gave up learning a foreign language
        """,
        refine="""
        I'm learning {v} {d}. | {n} is learning {v} {d}
        I'm learning to speak {v} {d}. | {n} is learning to speak {v} {d}
        I'm trying to learn {v} {d}. | {n} is trying to learn {v} {d}
        """,
        details="with an app, at the evening school, with a tandem partner, to talk with the in-laws, "
        "with a private teacher, on Thursday evenings, out of curiosity",
    ),
    _attribute(
        "single",
        "studies",
        topic="learning",
        values="biology, law, physics, philosophy, medicine, economics, geography, music theory, chemistry, "
        "computer science, archaeology, psychology, linguistics, mathematics, art history, political science, "
        "civil engineering, veterinary medicine, theology, statistics",
        state="""
        I study {v} at university. | {n} studies {v} at university
        I'm a student of {v}. | {n} is a student of {v}
        My university subject is {v}. | {n}'s university subject is {v}
        I'm doing a degree in {v}. | {n} is doing a degree in {v}
        The subject I study is {v}. | The subject {n} studies is {v}
        My degree course is {v}. | {n}'s degree course is {v}
        I'm enrolled in {v} at the university. | {n} is enrolled in {v} at the university
        At university, I study {v}. | At university, {n} studies {v}
        """,
        change="""
        I changed my subject from {old} to {v}. | {n} changed subjects from {old} to {v}
        I dropped {old} and study {v} now. | {n} dropped {old} and now studies {v}
        My new subject at university is {v}. | {n}'s new subject at university is {v}
        I'm studying {v} now instead of {old}. | {n} is now studying {v} instead of {old}
        I've switched my degree to {v}. | {n} switched the degree to {v}
        I don't study {old} any more, I study {v} now. | {n} no longer studies {old} and now studies {v}
        """,
        withdraw="""
        I don't study {v} any more. | {n} no longer studies {v}
        I dropped out of my degree in {v}. | {n} dropped out of the degree in {v}
        I've left university. | {n} has left university
        I gave up studying {v}. | {n} gave up studying {v}
        I'm no longer a student of {v}. | {n} is no longer a student of {v}
        I've quit my studies. | {n} has quit university studies
        """,
        refine="""
        I study {v} at university {d}. | {n} studies {v} at university {d}
        I'm doing a degree in {v} {d}. | {n} is doing a degree in {v} {d}
        I'm enrolled in {v} at the university {d}. | {n} is enrolled in {v} at the university {d}
        """,
        details="in the third semester, part-time, with a scholarship, in the final year, by distance learning, "
        "in an evening programme",
    ),
    _attribute(
        "single",
        "book",
        topic="leisure",
        values="Dune, Jane Eyre, Moby-Dick, Emma, The Hobbit, Dracula, Middlemarch, Beloved, Frankenstein, "
        "Don Quixote, Little Women, The Trial, Ulysses, Rebecca, Persuasion, The Odyssey, Great Expectations, "
        "Anna Karenina, Walden, War and Peace, The Plague, Treasure Island",
        state="""
        I'm reading {v}. | {n} is reading {v}
        The book I'm reading is {v}. | The book {n} is reading is {v}
        My current book is {v}. | {n}'s current book is {v}
        I'm in the middle of {v}. | {n} is in the middle of reading {v}
        I'm busy reading {v}. | {n} is busy reading {v}
        These days my book is {v}. | {n}'s book these days is {v}
        I'm currently reading {v}. | {n} is currently reading {v}
        {v} is the book I'm reading. | {v} is the book {n} is reading
        """,
        change="""
        I finished {old} and I'm reading {v} now. | {n} finished {old} and is now reading {v}
        I put {old} aside and started {v}. | {n} put {old} aside and started {v}
        I've started a new book, {v}. | {n} has started a new book, {v}
        My new book is {v}. | {n}'s new book is {v}
        I'm done with {old}, my current book is {v} now. | {n} is done with {old}, the current book is now {v}
        I've moved on from {old} to {v}. | {n} moved on from reading {old} to {v}
        """,
        withdraw="""
        I stopped reading {v}. | {n} stopped reading {v}
        I gave up on {v} halfway. | {n} gave up on {v} halfway
        I'm not reading any book at the moment. | {n} is not reading any book at the moment
        I'm no longer reading {v}. | {n} is no longer reading {v}
        I've put {v} aside. | {n} has put {v} aside
        I've stopped reading my book. | {n} has stopped reading the current book
        """,
        refine="""
        I'm reading {v} {d}. | {n} is reading {v} {d}
        My current book is {v}, which I read {d}. | {n}'s current book is {v}, read {d}
        I'm currently reading {v} {d}. | {n} is currently reading {v} {d}
        """,
        details="for a book club, in an illustrated edition, on the train, for the second time, "
        "out loud to the children, on an e-reader",
    ),
    _attribute(
        "single",
        "series",
        topic="leisure",
        values="The Crown, Dark, Sherlock, Twin Peaks, Seinfeld, Fargo, Downton Abbey, The Wire, Borgen, Lost, "
        "Mad Men, Breaking Bad, Friends, The Office, Black Mirror, Succession, Severance, The Bear, Poirot, Star Trek",
        state="""
        I'm watching the series {v}. | {n} is watching the series {v}
        The series I'm watching is {v}. | The series {n} is watching is {v}
        My current series is {v}. | {n}'s current series is {v}
        The show I watch these days is {v}. | The show {n} watches these days is {v}
        The show I'm following is {v}. | The show {n} is following is {v}
        I'm in the middle of the series {v}. | {n} is in the middle of the series {v}
        I'm currently watching {v}. | {n} is currently watching {v}
        {v} is the series I'm watching. | {v} is the series {n} is watching
        """,
        change="""
        I finished {old} and I'm watching {v} now. | {n} finished {old} and is now watching {v}
        I've started a new series, {v}. | {n} has started a new series, {v}
        I got bored of {old} and watch {v} now. | {n} got bored of {old} and now watches {v}
        My new series is {v}. | {n}'s new series is {v}
        I've switched from watching {old} to {v}. | {n} switched from watching {old} to {v}
        I'm through with {old}, the show I watch now is {v}. | {n} is through with {old} and now watches {v}
        """,
        withdraw="""
        I stopped watching {v}. | {n} stopped watching {v}
        I gave up on the series {v}. | {n} gave up on the series {v}
        I don't watch any series at the moment. | {n} does not watch any series at the moment
        I no longer watch {v}. | {n} no longer watches {v}
        I'm not following {v} any more. | {n} is not following {v} any more
        I've stopped watching my series. | {n} has stopped watching the current series
        """,
        refine="""
        I'm watching the series {v} {d}. | {n} is watching the series {v} {d}
        I'm in the middle of the series {v}, {d}. | {n} is in the middle of the series {v}, {d}
        I'm currently watching {v} {d}. | {n} is currently watching {v} {d}
        """,
        details="with subtitles, together with a friend, for the third time, while ironing, on an old tablet, "
        "one episode a day",
    ),
    _attribute(
        "single",
        "music genre",
        topic="music",
        values="jazz, techno, folk music, hip hop, opera, reggae, heavy metal, bossa nova, punk rock, blues, "
        "country music, flamenco, baroque music, soul, ambient music, swing, fado, indie pop, salsa, gospel",
        state="""
        My favourite kind of music is {v}. | {n}'s favourite kind of music is {v}
        The music I like best is {v}. | The music {n} likes best is {v}
        Of all kinds of music I love {v} most. | {n} loves {v} most of all kinds of music
        {v} is my favourite music. | {v} is {n}'s favourite music
        No music is better to me than {v}. | For {n}, no music is better than {v}
        I prefer {v} to all other music. | {n} prefers {v} to all other music
        """,
        change="""
        My new favourite kind of music is {v}. | {n}'s new favourite kind of music is {v}
        I now like {v} better than {old}, my old favourite. | {n} now likes {v} better than {old}, the old favourite
        My favourite music isn't {old} any more, it's {v}. | {n}'s favourite music is no longer {old} but {v}
        My taste in music has changed from {old} to {v}. | {n}'s taste in music has changed from {old} to {v}
        {v} has replaced {old} as my favourite music. | {v} has replaced {old} as {n}'s favourite music
        I have a different favourite kind of music now, {v}. | {n} has a different favourite kind of music now, {v}
        """,
        withdraw="""
        {v} isn't my favourite music any more. | {v} is not {n}'s favourite music any more
        I no longer like {v} best. | {n} no longer likes {v} best
        I've had enough of {v}. | {n} has had enough of {v}
        I don't have a favourite kind of music any more. | {n} no longer has a favourite kind of music
        {v} has stopped being my favourite music. | {v} has stopped being {n}'s favourite music
        I've lost interest in {v}. | {n} has lost interest in {v}
        """,
        refine="""
        My favourite kind of music is {v}, {d}. | {n}'s favourite kind of music is {v}, {d}
        The music I like best is {v}, {d}. | The music {n} likes best is {v}, {d}
        I prefer {v} to all other music, {d}. | {n} prefers {v} to all other music, {d}
        """,
        details="above all for driving, above all live on stage, above all on vinyl, above all for cooking, "
        "above all on rainy days, above all for dancing",
    ),
    _attribute(
        "single",
        "wake-up time",
        topic="sleep",
        values="at 5:00, at 5:15, at 5:30, at 5:45, at 6:00, at 6:10, at 6:15, at 6:30, at 6:45, at 6:50, at 7:00, "
        "at 7:10, at 7:15, at 7:30, at 7:45, at 8:00, at 8:15, at 8:30, at 8:45, at 9:00",
        state="""
        I get up {v}. | {n} gets up {v}
        I get out of bed {v}. | {n} gets out of bed {v}
        I wake up {v}. | {n} wakes up {v}
        My wake-up time is {v}. | {n}'s wake-up time is {v}
        My day starts with getting up {v}. | {n}'s day starts with getting up {v}
        I'm out of bed {v} every morning. | {n} is out of bed {v} every morning
        I rise {v} in the morning. | {n} rises {v} in the morning
        My mornings begin {v}. | {n}'s mornings begin {v}
        """,
        change="""
        I've changed my mornings and get up {v} now. | {n} changed the morning routine and now gets up {v}
        I get up {v} now and no longer {old}. | {n} now gets up {v} and no longer {old}
        My new wake-up time is {v}. | {n}'s new wake-up time is {v}
        I used to get up {old}, now I get up {v}. | {n} used to get up {old} and now gets up {v}
        I've moved my wake-up time, I wake up {v} now. | {n} moved the wake-up time and now wakes up {v}
        Instead of {old}, I wake up {v} these days. | {n} now wakes up {v} instead of {old}
        """,
        withdraw="""
        I don't get up {v} any more. | {n} no longer gets up {v}
        I've stopped waking up {v}. | {n} has stopped waking up {v}
        I no longer have a fixed wake-up time. | {n} no longer has a fixed wake-up time
        My wake-up time isn't {v} any more. | {n}'s wake-up time is not {v} any more
        I gave up getting up {v}. | {n} gave up getting up {v}
        I don't get up at any set time now. | {n} no longer gets up at any set time
        """,
        refine="""
        I get up {v} {d}. | {n} gets up {v} {d}
        I'm out of bed {v} every morning {d}. | {n} is out of bed {v} every morning {d}
        I wake up {v} {d}. | {n} wakes up {v} {d}
        """,
        details="to go for a swim, to do some stretching, to catch the early train, to meditate, "
        "to have time for breakfast, to write a diary, to read the paper",
    ),
    _attribute(
        "single",
        "bedtime",
        topic="sleep",
        values="at 9:00 pm, at 9:15 pm, at 9:30 pm, at 9:45 pm, at 10:00 pm, at 10:15 pm, at 10:30 pm, at 10:45 pm, "
        "at 11:00 pm, at 11:15 pm, at 11:30 pm, at 11:45 pm, at midnight, at 12:30 am, at 1:00 am",
        state="""
        I go to bed {v}. | {n} goes to bed {v}
        My bedtime is {v}. | {n}'s bedtime is {v}
        I turn in for the night {v}. | {n} turns in for the night {v}
        I go to sleep {v}. | {n} goes to sleep {v}
        I'm in bed {v} every night. | {n} is in bed {v} every night
        My nights begin {v}. | {n}'s nights begin {v}
        """,
        change="""
        I've changed my bedtime and go to bed {v} now. | {n} changed the bedtime and now goes to bed {v}
        I go to bed {v} now and no longer {old}. | {n} now goes to bed {v} and no longer {old}
        My new bedtime is {v}. | {n}'s new bedtime is {v}
        I used to go to bed {old}, now I go {v}. | {n} used to go to bed {old} and now goes {v}
        I've moved my bedtime, it's {v} now. | {n} moved the bedtime and it is now {v}
        Instead of {old}, I turn in {v} these days. | {n} now turns in {v} instead of {old}
        """,
        withdraw="""
        I don't go to bed {v} any more. | {n} no longer goes to bed {v}
        I've given up my fixed bedtime. | {n} gave up having a fixed bedtime
        I've stopped turning in {v}. | {n} has stopped turning in {v}
        My bedtime isn't {v} any more. | {n}'s bedtime is not {v} any more
        I'm no longer in bed {v}. | {n} is no longer in bed {v}
        I don't have a regular bedtime any more. | {n} no longer has a regular bedtime
        """,
        refine="""
        I go to bed {v} {d}. | {n} goes to bed {v} {d}
        I'm in bed {v} every night {d}. | {n} is in bed {v} every night {d}
        I turn in for the night {v} {d}. | {n} turns in for the night {v} {d}
        """,
        details="with a book, after a cup of camomile tea, after a short walk, with earplugs, after a hot bath, "
        "with the radio on",
    ),
    _attribute(
        "single",
        "savings goal",
        topic="money",
        values="a camper van, a new kitchen, a sailing boat, a wood stove, a garden shed, a sabbatical, a greenhouse, "
        "a wedding, a hot tub, a driving licence, a pottery wheel, a solar roof, a master's degree, a new bathroom, "
        "a down payment, a film camera, a home cinema, a tree house, an art studio, a big party",
        state="""
        I'm saving up for {v}. | {n} is saving up for {v}
        I'm putting money aside for {v}. | {n} is putting money aside for {v}
        My savings goal is {v}. | {n}'s savings goal is {v}
        The money I save is meant for {v}. | The money {n} saves is meant for {v}
        I'm saving money to pay for {v}. | {n} is saving money to pay for {v}
        What I'm saving for is {v}. | What {n} is saving for is {v}
        My savings are for {v}. | {n}'s savings are for {v}
        I'm setting money aside to afford {v}. | {n} is setting money aside to afford {v}
        """,
        change="""
        I changed my savings goal to {v}. | {n} changed the savings goal to {v}
        I'm not saving for {old} any more but for {v}. | {n} is no longer saving for {old} but for {v}
        My new savings goal is {v}. | {n}'s new savings goal is {v}
        Instead of {old}, I'm now saving for {v}. | {n} is now saving for {v} instead of {old}
        The money for {old} will now go towards {v}. | {n}'s savings for {old} will now go towards {v}
        I have a different savings goal now: {v}. | {n} has a different savings goal now: {v}
        """,
        withdraw="""
        I'm not saving for {v} any more. | {n} is not saving for {v} any more
        I stopped putting money aside for {v}. | {n} stopped putting money aside for {v}
        I've dropped my savings goal. | {n} has dropped the savings goal
        I gave up saving for {v}. | {n} gave up saving for {v}
        I no longer save up for {v}. | {n} no longer saves up for {v}
        I'm not saving for anything any more. | {n} is not saving for anything any more
        """,
        refine="""
        I'm saving up for {v} {d}. | {n} is saving up for {v} {d}
        I'm putting money aside for {v} {d}. | {n} is putting money aside for {v} {d}
        I'm setting money aside to afford {v} {d}. | {n} is setting money aside to afford {v} {d}
        """,
        details="with a monthly standing order, in a separate account, with 200 euros a month, in a big jar, "
        "together with a cousin, by skipping takeaway food",
    ),
    _attribute(
        "single",
        "planned trip",
        topic="travel",
        values=_TRIPS,
        state="""
        I'm planning a trip to {v}. | {n} is planning a trip to {v}
        My next trip will be to {v}. | {n}'s next trip will be to {v}
        I'm going to travel to {v}. | {n} is going to travel to {v}
        I have a trip to {v} planned. | {n} has a trip to {v} planned
        I plan to travel to {v}. | {n} plans to travel to {v}
        The place I'm travelling to next is {v}. | The place {n} is travelling to next is {v}
        The trip I'm planning goes to {v}. | The trip {n} is planning goes to {v}
        My travel plan is a trip to {v}. | {n}'s travel plan is a trip to {v}
        I intend to travel to {v}. | {n} intends to travel to {v}
        """,
        change="""
        I changed my trip, I'm going to {v} now instead of {old}. | {n} changed the trip from {old} to {v}
        My next trip won't go to {old} but to {v}. | {n}'s next trip will not go to {old} but to {v}
        I've got new travel plans, the trip goes to {v} now. | {n} has new travel plans, the trip now goes to {v}
        I swapped my trip to {old} for one to {v}. | {n} swapped the trip to {old} for one to {v}
        I'll travel to {v} instead of {old}. | {n} will travel to {v} instead of {old}
        The destination of my trip has changed to {v}. | The destination of {n}'s trip has changed to {v}
        """,
        withdraw="""
        I cancelled my trip to {v}. | {n} cancelled the trip to {v}
        My planned trip is off. | {n} cancelled the planned trip
        I'm not going to {v} after all. | {n} is not going to {v} after all
        I gave up my plan to travel to {v}. | {n} gave up the plan to travel to {v}
        I've called off the trip to {v}. | {n} called off the trip to {v}
        I won't go on my trip after all. | {n} will not go on the planned trip after all
        """,
        refine="""
        I'm planning a trip to {v} {d}. | {n} is planning a trip to {v} {d}
        I plan to travel to {v} {d}. | {n} plans to travel to {v} {d}
        I have a trip to {v} planned, {d}. | {n} has a trip to {v} planned, {d}
        """,
        details="in May, with two friends, for ten days, in early autumn, with a tent, with a small tour group, "
        "to celebrate an anniversary",
    ),
    _attribute(
        "single",
        "Christmas plan",
        topic="travel",
        values="at home, with the grandparents, in a mountain hut, at the seaside, with old friends, "
        "in a thermal spa, on a cruise ship, with the in-laws, at a farm, in a monastery, at work, on the beach, "
        "in a ski resort, with an aunt, in a wooden cabin, with the neighbours, in a hotel, on a boat, with a cousin, "
        "in the desert",
        state="""
        I'm going to spend Christmas {v}. | {n} is going to spend Christmas {v}
        My plan for Christmas is to be {v}. | {n}'s plan for Christmas is to be {v}
        I plan to celebrate Christmas {v}. | {n} plans to celebrate Christmas {v}
        I'll be {v} for Christmas. | {n} will be {v} for Christmas
        My Christmas will be {v} this year. | {n}'s Christmas will be {v} this year
        At Christmas I'll be {v}. | At Christmas {n} will be {v}
        """,
        change="""
        I changed my Christmas plans and will be {v}. | {n} changed the Christmas plans and will be {v}
        I'll spend Christmas {v} instead of {old}. | {n} will spend Christmas {v} instead of {old}
        My new plan for Christmas is to be {v}. | {n}'s new plan for Christmas is to be {v}
        I won't be {old} for Christmas but {v}. | {n} will not be {old} for Christmas but {v}
        My Christmas won't be {old} after all, it'll be {v}. | {n}'s Christmas will not be {old} after all but {v}
        I have a different plan for Christmas now: I'll be {v}. | {n} has a different plan for Christmas now: being {v}
        """,
        withdraw="""
        I won't spend Christmas {v} after all. | {n} will not spend Christmas {v} after all
        My plans for Christmas fell through. | {n}'s plans for Christmas fell through
        I dropped the plan to be {v} at Christmas. | {n} dropped the plan to be {v} at Christmas
        I'm not going to be {v} at Christmas any more. | {n} is not going to be {v} at Christmas any more
        My Christmas {v} is off. | {n}'s Christmas {v} is off
        I have no plans for Christmas any more. | {n} has no plans for Christmas any more
        """,
        refine="""
        I'm going to spend Christmas {v}, {d}. | {n} is going to spend Christmas {v}, {d}
        I'll be {v} for Christmas, {d}. | {n} will be {v} for Christmas, {d}
        I plan to celebrate Christmas {v}, {d}. | {n} plans to celebrate Christmas {v}, {d}
        """,
        details="for three days, without any presents, with a vegetarian feast, for the whole week, without a phone, "
        "with lots of board games",
    ),
    _attribute(
        "single",
        "team",
        topic="sport",
        values=_TEAMS,
        state="""
        I support {v}. | {n} supports {v}
        My team is {v}. | {n}'s team is {v}
        The team I cheer for is {v}. | The team {n} cheers for is {v}
        I'm a supporter of {v}. | {n} is a supporter of {v}
        The club of my heart is {v}. | The club of {n}'s heart is {v}
        I root for {v} in every match. | {n} roots for {v} in every match
        I'm one of the fans of {v}. | {n} is one of the fans of {v}
        As for sports, I'm with {v}. | As for sports, {n} is with {v}
        """,
        change="""
        I don't support {old} any more, I support {v} now. | {n} no longer supports {old} and now supports {v}
        My new team is {v}. | {n}'s new team is {v}
        I switched teams and cheer for {v} now. | {n} switched teams and now cheers for {v}
        I've gone over from {old} to {v}. | {n} went over from {old} to {v}
        I changed my team, it's {v} now. | {n} changed teams and it is {v} now
        I cheer for {v} these days and no longer for {old}. | {n} now cheers for {v} and no longer for {old}
        """,
        withdraw="""
        I don't support {v} any more. | {n} no longer supports {v}
        I've stopped cheering for {v}. | {n} has stopped cheering for {v}
        I'm no longer a fan of any team. | {n} is no longer a fan of any team
        I gave up on {v} as my team. | {n} gave up on {v} as a team
        {v} isn't my team any more. | {v} is not {n}'s team any more
        I don't have a team any longer. | {n} does not have a team any longer
        """,
        refine="""
        I support {v}, {d}. | {n} supports {v}, {d}
        The team I cheer for is {v}, {d}. | The team {n} cheers for is {v}, {d}
        I'm a supporter of {v}, {d}. | {n} is a supporter of {v}, {d}
        """,
        details="with a season ticket, always from the north stand, always with a lucky scarf, mostly on the radio, "
        "like the whole family, like all the neighbours",
    ),
    _attribute(
        "single",
        "volunteering",
        topic="community",
        values="at a soup kitchen, at the animal shelter, at the public library, at a youth centre, "
        "at a retirement home, at the fire brigade, at a refugee cafe, at the food bank, at the botanical garden, "
        "at a repair cafe, at the sea rescue, at a museum railway, at the local radio, at a charity shop, "
        "at the bird sanctuary, at a children's hospital, at a homework club, at the community cinema",
        state="""
        I volunteer {v}. | {n} volunteers {v}
        I do volunteer work {v}. | {n} does volunteer work {v}
        I help out {v} as a volunteer. | {n} helps out {v} as a volunteer
        My volunteer work is {v}. | {n}'s volunteer work is {v}
        I work {v} without pay, as a volunteer. | {n} does unpaid work {v} as a volunteer
        I'm a volunteer {v}. | {n} is a volunteer {v}
        I lend a hand {v} as a volunteer. | {n} lends a hand {v} as a volunteer
        I give my time as a volunteer {v}. | {n} gives time as a volunteer {v}
        """,
        change="""
        I stopped volunteering {old} and do it {v} now. | {n} stopped volunteering {old} and now volunteers {v}
        My new volunteer work is {v}. | {n}'s new volunteer work is {v}
        I volunteer {v} now instead of {old}. | {n} now volunteers {v} instead of {old}
        I've changed my volunteer work and help out {v} now. | {n} changed volunteer work and now helps out {v}
        I no longer volunteer {old} but {v}. | {n} no longer volunteers {old} but {v}
        I have a new place to volunteer: I help {v} now. | {n} has a new place to volunteer and now helps {v}
        """,
        withdraw="""
        I don't volunteer {v} any more. | {n} no longer volunteers {v}
        I gave up my volunteer work. | {n} gave up the volunteer work
        I stopped helping out {v}. | {n} stopped helping out {v}
        I quit as a volunteer {v}. | {n} quit as a volunteer {v}
        I no longer help {v}. | {n} no longer helps {v}
        I've stopped volunteering. | {n} has stopped volunteering altogether
        """,
        refine="""
        I volunteer {v} {d}. | {n} volunteers {v} {d}
        I help out {v} as a volunteer {d}. | {n} helps out {v} as a volunteer {d}
        I'm a volunteer {v} {d}. | {n} is a volunteer {v} {d}
        """,
        details="every second Saturday, on Wednesday afternoons, four hours a week, together with a friend, "
        "during the winter months, on Friday evenings",
    ),
    _attribute(
        "single",
        "dentist appointment",
        topic="dates",
        values="on 4 May, on 12 June, on 3 March, on 21 July, on 9 October, on 17 January, on 28 February, "
        "on 15 April, on 6 August, on 30 September, on 11 November, on 2 December, on 19 May, on 25 June, on 8 July, "
        "on 14 October, on 23 March, on 27 August, on 5 January, on 16 November",
        state="""
        I have a dentist appointment {v}. | {n} has a dentist appointment {v}
        I'm going to the dentist {v}. | {n} is going to the dentist {v}
        My dentist appointment is {v}. | {n}'s dentist appointment is {v}
        The dentist is expecting me {v}. | The dentist is expecting {n} {v}
        I have to see the dentist {v}. | {n} has to see the dentist {v}
        I'm booked in at the dentist {v}. | {n} is booked in at the dentist {v}
        My visit to the dentist is {v}. | {n}'s visit to the dentist is {v}
        """,
        change="""
        My dentist appointment was moved, it's {v} now. | {n}'s dentist appointment was moved, it is now {v}
        My dentist appointment isn't {old} any more but {v}. | {n}'s dentist appointment is no longer {old} but {v}
        The dentist gave me a new date, I'm going {v}. | The dentist gave {n} a new date, {v}
        I'll see the dentist {v} instead of {old}. | {n} will see the dentist {v} instead of {old}
        I've rescheduled the dentist, I'm going {v} now. | {n} rescheduled the dentist and is now going {v}
        My new dentist appointment is {v}. | {n}'s new dentist appointment is {v}
        """,
        withdraw="""
        I cancelled my dentist appointment. | {n} cancelled the dentist appointment
        I'm not going to the dentist {v} after all. | {n} is not going to the dentist {v} after all
        My dentist appointment {v} is off. | {n}'s dentist appointment {v} is off
        I won't see the dentist {v} after all. | {n} will not see the dentist {v} after all
        I no longer have a dentist appointment. | {n} no longer has a dentist appointment
        I called off the dentist appointment {v}. | {n} called off the dentist appointment {v}
        """,
        refine="""
        I have a dentist appointment {v} {d}. | {n} has a dentist appointment {v} {d}
        I'm going to the dentist {v} {d}. | {n} is going to the dentist {v} {d}
        My dentist appointment is {v} {d}. | {n}'s dentist appointment is {v} {d}
        """,
        details="at half past nine, at 2 pm, at a quarter to four, at eight in the morning, right after lunch, "
        "for a new filling",
    ),
    _attribute(
        "single",
        "birthday party",
        topic="dates",
        values="at a bowling alley, in the garden, on a riverboat, at a karaoke bar, in the park, at a climbing hall, "
        "in a pizzeria, at a swimming pool, in the attic, at an ice rink, in a wine cellar, at a beach bar, "
        "at an escape room, on a roof terrace, in a barn, at a minigolf course, in a tea house, at a planetarium, "
        "in a forest lodge, at a zoo",
        state="""
        My birthday party will be {v}. | {n}'s birthday party will be {v}
        I'm going to celebrate my birthday {v}. | {n} is going to celebrate the birthday {v}
        I'm planning a birthday party {v}. | {n} is planning a birthday party {v}
        I'll have my birthday party {v}. | {n} will have the birthday party {v}
        I'm holding my birthday party {v}. | {n} is holding the birthday party {v}
        My birthday will be celebrated {v}. | {n}'s birthday will be celebrated {v}
        """,
        change="""
        I changed plans: my birthday party will be {v}. | {n} changed plans: the birthday party will be {v}
        My birthday party won't be {old} but {v}. | {n}'s birthday party will not be {old} but {v}
        I've moved my birthday party, it'll be {v} now. | {n} moved the birthday party and it will now be {v}
        I'll celebrate my birthday {v} instead of {old}. | {n} will celebrate the birthday {v} instead of {old}
        My new plan for my birthday is a party {v}. | {n}'s new plan for the birthday is a party {v}
        I won't celebrate my birthday {old} after all, it'll be {v}. | {n} will not celebrate the birthday {old} but {v}
        """,
        withdraw="""
        I cancelled my birthday party. | {n} cancelled the birthday party
        I won't celebrate my birthday {v} after all. | {n} will not celebrate the birthday {v} after all
        My birthday party {v} is off. | {n}'s birthday party {v} is off
        I've dropped the plan of a birthday party {v}. | {n} dropped the plan of a birthday party {v}
        I called off my party {v}. | {n} called off the birthday party {v}
        I'm not having a birthday party after all. | {n} is not having a birthday party after all
        """,
        refine="""
        My birthday party will be {v}, {d}. | {n}'s birthday party will be {v}, {d}
        I'm planning a birthday party {v}, {d}. | {n} is planning a birthday party {v}, {d}
        I'll have my birthday party {v}, {d}. | {n} will have the birthday party {v}, {d}
        """,
        details="with about twenty guests, with a live band, with a chocolate cake, in fancy dress, "
        "only with close friends, with a big barbecue",
    ),
)

# ------------------------------------------------------------------------------------------------ side by side

_SEVERAL = (
    _attribute(
        "several",
        "pets",
        topic="pets",
        values="cat, dog, parrot, rabbit, hamster, tortoise, goldfish, guinea pig, canary, gecko, ferret, chinchilla, "
        "cockatiel, donkey, hedgehog, pony, duck, goat, budgie, lizard",
        state="""
        I have a {v}. | {n} has a {v}
        I own a {v}. | {n} owns a {v}
        I keep a {v} as a pet. | {n} keeps a {v} as a pet
        I've got a pet {v}. | {n} has got a pet {v}
        I have a {v} at home. | {n} has a {v} at home
        There's a {v} among my pets. | There is a {v} among {n}'s pets
        I'm the owner of a {v}. | {n} is the owner of a {v}
        A {v} lives with me as a pet. | A {v} lives with {n} as a pet
        I look after a {v} of my own. | {n} looks after a {v} as a pet
        """,
        withdraw="""
        I don't have a {v} any more. | {n} no longer has a {v}
        I gave my {v} away. | {n} gave the {v} away
        I found a new home for my {v}. | {n} found a new home for the {v}
        Sadly, my {v} has died. | {n}'s {v} has died
        My {v} ran away and never came back. | {n}'s {v} ran away and never came back
        I no longer keep a {v}. | {n} no longer keeps a {v}
        """,
        refine="""
        My {v} is called {d}. | {n}'s {v} is called {d}
        I named my {v} {d}. | {n} has a {v} named {d}
        {d} is the name of my {v}. | {d} is the name of {n}'s {v}
        """,
        details="Biscuit, Pepper, Tango, Socks, Nugget, Comet, Ziggy, Truffle, Bandit, Sprout, Marble, Domino",
    ),
    _attribute(
        "several",
        "hobbies",
        topic="leisure",
        values="pottery, rock climbing, knitting, birdwatching, origami, archery, skateboarding, calligraphy, "
        "kayaking, juggling, woodworking, surfing, fencing, ballroom dancing, geocaching, embroidery, fly fishing, "
        "beekeeping, karate, model building, macrame, trail riding",
        state="""
        {v} is a hobby of mine. | {v} is a hobby of {n}'s
        I do {v} as a hobby. | {n} does {v} as a hobby
        One of my hobbies is {v}. | One of {n}'s hobbies is {v}
        I have {v} as a pastime. | {n} has {v} as a pastime
        Among my hobbies is {v}. | Among {n}'s hobbies is {v}
        {v} is one of the hobbies I have. | {v} is one of the hobbies {n} has
        {v} is something I do for fun. | {v} is something {n} does for fun
        A hobby I have is {v}. | A hobby {n} has is {v}
        {v} belongs to my hobbies. | {v} belongs to {n}'s hobbies
        """,
        withdraw="""
        I gave up {v}. | {n} gave up {v}
        I don't do {v} any more. | {n} no longer does {v}
        I've stopped doing {v}. | {n} has stopped doing {v}
        {v} isn't a hobby of mine any more. | {v} is not a hobby of {n}'s any more
        I've dropped {v} as a hobby. | {n} dropped {v} as a hobby
        I've quit {v}. | {n} has quit {v}
        """,
        refine="""
        I do {v} as a hobby {d}. | {n} does {v} as a hobby {d}
        One of my hobbies is {v}, {d}. | One of {n}'s hobbies is {v}, {d}
        {v} is something I do for fun {d}. | {v} is something {n} does for fun {d}
        """,
        details="on Sunday mornings, with two old friends, at a club in town, in the summer, once a month, "
        "with a group of beginners",
    ),
    _attribute(
        "several",
        "liked foods",
        topic="food",
        rivals="diet",
        values="ramen, mangoes, olives, lasagne, lentil soup, pancakes, sushi, goulash, dumplings, blueberries, "
        "falafel, risotto, tacos, apple strudel, roast chicken, hummus, paella, waffles, tomato soup, kimchi, "
        "cherries, gnocchi",
        state="""
        I love eating {v}. | {n} loves eating {v}
        {v} is one of the foods I love. | {v} is one of the foods {n} loves
        I like {v} a lot. | {n} likes {v} a lot
        I'm very fond of {v}. | {n} is very fond of {v}
        I really enjoy {v}. | {n} really enjoys {v}
        Food I love includes {v}. | Food {n} loves includes {v}
        I'm a big fan of {v}. | {n} is a big fan of {v}
        I'm always happy to eat {v}. | {n} is always happy to eat {v}
        """,
        withdraw="""
        I don't like {v} any more. | {n} no longer likes {v}
        I've gone off {v}. | {n} has gone off {v}
        I've lost my taste for {v}. | {n} has lost the taste for {v}
        I'm not fond of {v} any more. | {n} is not fond of {v} any more
        I no longer enjoy {v}. | {n} no longer enjoys {v}
        {v} isn't something I like eating any more. | {v} is not something {n} likes eating any more
        """,
    ),
    _attribute(
        "several",
        "disliked foods",
        topic="food",
        values="coriander, liver, Brussels sprouts, anchovies, beetroot, blue cheese, tofu, liquorice, oysters, "
        "cauliflower, grapefruit, rice pudding, capers, marzipan, aubergine, sauerkraut, radishes, fennel, "
        "mayonnaise, black pudding",
        state="""
        I can't stand {v}. | {n} cannot stand {v}
        I hate the taste of {v}. | {n} hates the taste of {v}
        I really dislike {v}. | {n} really dislikes {v}
        {v} is food I can't stand. | {v} is food {n} cannot stand
        I find {v} disgusting. | {n} finds {v} disgusting
        I don't like {v} at all. | {n} does not like {v} at all
        Food I hate includes {v}. | Food {n} hates includes {v}
        I have a strong dislike for {v}. | {n} has a strong dislike for {v}
        I think {v} tastes awful. | {n} thinks {v} tastes awful
        """,
        withdraw="""
        I don't mind {v} any more. | {n} does not mind {v} any more
        I've stopped disliking {v}. | {n} has stopped disliking {v}
        I no longer hate {v}. | {n} no longer hates {v}
        I've got over my dislike of {v}. | {n} got over the dislike of {v}
        I don't find {v} disgusting any more. | {n} no longer finds {v} disgusting
        I've made my peace with {v}. | {n} has made peace with eating {v}
        """,
    ),
    _attribute(
        "several",
        "allergies",
        topic="health",
        values="peanuts, mustard, birch pollen, shellfish, penicillin, wasp stings, dust mites, latex, strawberries, "
        "soy, sesame, nickel, horse hair, walnuts, ragweed, kiwis, celery, mould, eggs, feathers",
        state="""
        I'm allergic to {v}. | {n} is allergic to {v}
        I have an allergy to {v}. | {n} has an allergy to {v}
        I've got an allergy to {v}. | {n} has got an allergy to {v}
        I get allergic reactions from {v}. | {n} gets allergic reactions from {v}
        I suffer from an allergy to {v}. | {n} suffers from an allergy to {v}
        Among my allergies is one to {v}. | Among {n}'s allergies is one to {v}
        My body reacts to {v} with an allergy. | {n}'s body reacts to {v} with an allergy
        One thing I'm allergic to is {v}. | One thing {n} is allergic to is {v}
        """,
        withdraw="""
        I'm not allergic to {v} any more. | {n} is not allergic to {v} any more
        My allergy to {v} is gone. | {n}'s allergy to {v} is gone
        It turned out that I'm not allergic to {v}. | {n} turned out not to be allergic to {v}
        I've outgrown my allergy to {v}. | {n} has outgrown the allergy to {v}
        I no longer have an allergy to {v}. | {n} no longer has an allergy to {v}
        I got rid of my allergy to {v}. | {n} got rid of the allergy to {v}
        """,
    ),
    _attribute(
        "several",
        "friends",
        topic="people",
        values="Abelard, Birgitta, Casimir, Delphine, Evander, Fenella, Gideon, Hyacintha, Isidore, Jocasta, Kasper, "
        "Lysander, Morwenna, Nadezhda, Orsolya, Peregrine, Quentin, Rosamund, Sibylle, Thaddeus, Vasilis, Winifred, "
        "Xanthe, Yolanda",
        state="""
        I'm friends with {v}. | {n} is friends with {v}
        {v} is a friend of mine. | {v} is a friend of {n}'s
        I have a friend called {v}. | {n} has a friend called {v}
        One of my friends is {v}. | One of {n}'s friends is {v}
        {v} and I are friends. | {v} and {n} are friends
        {v} is one of my friends. | {v} is one of {n}'s friends
        I count {v} among my friends. | {n} counts {v} among friends
        I have a friend whose name is {v}. | {n} has a friend whose name is {v}
        """,
        withdraw="""
        I'm no longer friends with {v}. | {n} is no longer friends with {v}
        {v} and I aren't friends any more. | {v} and {n} are not friends any more
        I ended my friendship with {v}. | {n} ended the friendship with {v}
        {v} isn't my friend any more. | {v} is not {n}'s friend any more
        My friendship with {v} is over. | {n}'s friendship with {v} is over
        I broke off my friendship with {v}. | {n} broke off the friendship with {v}
        """,
        refine="""
        My friend {v} is {d}. | {n}'s friend {v} is {d}
        I'm friends with {v}, who is {d}. | {n} is friends with {v}, who is {d}
        {v}, a friend of mine, is {d}. | {v}, a friend of {n}'s, is {d}
        """,
        details="a neighbour from the third floor, in the same choir, an old classmate, a keen sailor, "
        "twenty years older, always up for a hike, a twin",
    ),
    _attribute(
        "several",
        "children",
        topic="people",
        values="Albie, Betsy, Cordelia, Digby, Effie, Finnian, Gwendolyn, Hattie, Ivo, Juniper, Kit, Lottie, Monty, "
        "Nell, Otis, Posy, Rafferty, Sukie, Tobin, Winnie",
        state="""
        I have a child called {v}. | {n} has a child called {v}
        {v} is a child of mine. | {v} is a child of {n}'s
        I'm the parent of {v}. | {n} is the parent of {v}
        {v} is my kid. | {v} is {n}'s kid
        I have a kid named {v}. | {n} has a kid named {v}
        One of my children is called {v}. | One of {n}'s children is called {v}
        I've got a child by the name of {v}. | {n} has got a child by the name of {v}
        """,
        refine="""
        My child {v} is {d}. | {n}'s child {v} is {d}
        I have a child called {v} who is {d}. | {n} has a child called {v} who is {d}
        {v} is my kid and is {d}. | {v} is {n}'s kid and is {d}
        """,
        details="five years old, in first grade, mad about dinosaurs, learning to swim, seven years old, "
        "crazy about trains, the smallest in class",
    ),
    _attribute(
        "several",
        "courses",
        topic="learning",
        values="first aid, bookkeeping, screenwriting, welding, public speaking, floristry, web design, "
        "improvised theatre, cheese making, sign language, jewellery making, creative writing, self-defence, "
        "video editing, upholstery, wine tasting, genealogy, life drawing, stone carving, mindfulness, data analysis, "
        "typing",
        state="""
        I'm taking a course in {v}. | {n} is taking a course in {v}
        I attend a course in {v}. | {n} attends a course in {v}
        I go to a class in {v}. | {n} goes to a class in {v}
        One of the courses I'm taking is in {v}. | One of the courses {n} is taking is in {v}
        I'm doing a course in {v}. | {n} is doing a course in {v}
        I'm enrolled in a course on {v}. | {n} is enrolled in a course on {v}
        I'm a participant in a course in {v}. | {n} is a participant in a course in {v}
        A course I'm taking is about {v}. | A course {n} is taking is about {v}
        """,
        withdraw="""
        I dropped my course in {v}. | {n} dropped the course in {v}
        I'm not taking the course in {v} any more. | {n} is not taking the course in {v} any more
        I quit the course in {v}. | {n} quit the course in {v}
        I've stopped going to my course in {v}. | {n} has stopped going to the course in {v}
        I left my course in {v}. | {n} left the course in {v}
        I no longer attend the course in {v}. | {n} no longer attends the course in {v}
        """,
        refine="""
        I'm taking a course in {v} {d}. | {n} is taking a course in {v} {d}
        My course in {v} is {d}. | {n}'s course in {v} is {d}
        I'm doing a course in {v} {d}. | {n} is doing a course in {v} {d}
        """,
        details="on Monday evenings, at the community college, over ten weeks, with only six people, "
        "on Saturday mornings, in the town hall",
    ),
    _attribute(
        "several",
        "plants",
        topic="home",
        values="basil, tomatoes, lavender, orchids, cacti, zucchini, roses, mint, sunflowers, rosemary, ferns, "
        "chillies, bonsai trees, tulips, lemon trees, ivy, parsley, hydrangeas, geraniums, fig trees",
        state="""
        I grow {v} at home. | {n} grows {v} at home
        I have {v} growing at home. | {n} has {v} growing at home
        At home I cultivate {v}. | {n} cultivates {v} at home
        Among my plants at home: {v}. | Among {n}'s plants at home: {v}
        One thing I grow at home is {v}. | One thing {n} grows at home is {v}
        My plants at home include {v}. | {n}'s plants at home include {v}
        The things I grow at home include {v}. | The things {n} grows at home include {v}
        I have {v} among the plants in my home. | {n} has {v} among the plants at home
        At home I tend {v}. | At home {n} tends {v}
        """,
        withdraw="""
        I don't grow {v} any more. | {n} no longer grows {v}
        I gave my {v} away. | {n} gave the {v} away
        My {v} dried up and died. | {n}'s {v} dried up and died
        I threw out my {v}. | {n} threw out the {v}
        I've stopped growing {v}. | {n} has stopped growing {v}
        I no longer have {v} at home. | {n} no longer has {v} at home
        """,
        refine="""
        I grow {v} at home {d}. | {n} grows {v} at home {d}
        I have {v} growing at home {d}. | {n} has {v} growing at home {d}
        At home I tend {v} {d}. | At home {n} tends {v} {d}
        """,
        details="on the balcony, on the kitchen windowsill, in the bathroom, in big clay pots, in old wine crates, "
        "next to the front door",
    ),
    _attribute(
        "several",
        "subscriptions",
        topic="money",
        values="a cycling magazine, a vegetable box, a daily newspaper, a film streaming service, a wine club, "
        "a puzzle box, a science magazine, a cloud storage service, a flower delivery, a cooking magazine, "
        "a cheese box, an audiobook service, a meal kit, a comics app, a weather app, a theatre season, "
        "a sports channel, a crime podcast, a tea box, a history magazine",
        state="""
        I subscribe to {v}. | {n} subscribes to {v}
        I have a subscription to {v}. | {n} has a subscription to {v}
        I'm a subscriber to {v}. | {n} is a subscriber to {v}
        One of my subscriptions is to {v}. | One of {n}'s subscriptions is to {v}
        I hold a subscription to {v}. | {n} holds a subscription to {v}
        Among my subscriptions is {v}. | Among {n}'s subscriptions is {v}
        {v} is among the things I subscribe to. | {v} is among the things {n} subscribes to
        I've got a running subscription to {v}. | {n} has got a running subscription to {v}
        """,
        withdraw="""
        I cancelled my subscription to {v}. | {n} cancelled the subscription to {v}
        I don't subscribe to {v} any more. | {n} no longer subscribes to {v}
        I let my subscription to {v} run out. | {n} let the subscription to {v} run out
        I ended my subscription to {v}. | {n} ended the subscription to {v}
        I've unsubscribed from {v}. | {n} has unsubscribed from {v}
        I'm not a subscriber to {v} any longer. | {n} is not a subscriber to {v} any longer
        """,
    ),
    _attribute(
        "several",
        "countries visited",
        topic="travel",
        values="Peru, Nepal, Kenya, Poland, Ecuador, Estonia, Slovenia, Oman, Laos, Croatia, Malta, Panama, Senegal, "
        "Mongolia, Uruguay, Scotland, Denmark, Hungary, Romania, Belgium, Thailand, Sri Lanka, Bolivia, Albania",
        state="""
        I've visited {v}. | {n} has visited {v}
        I've been to {v}. | {n} has been to {v}
        One country I've visited is {v}. | One country {n} has visited is {v}
        {v} is a country I've been to. | {v} is a country {n} has been to
        I've travelled to {v} before. | {n} has travelled to {v} before
        Among the countries I've seen is {v}. | Among the countries {n} has seen is {v}
        I've set foot in {v}. | {n} has set foot in {v}
        {v} is one of the countries I know from visiting. | {v} is one of the countries {n} knows from visiting
        """,
        withdraw="""
        I got that wrong, I've never been to {v}. | {n} has never been to {v}
        It's a mistake that I visited {v}, I never did. | {n} never visited {v}, that was a mistake
        Actually, I haven't been to {v} at all. | {n} has not been to {v} at all
        I have to correct myself, I never travelled to {v}. | {n} never travelled to {v}
        I mixed something up, I haven't visited {v}. | {n} has not visited {v}, that was mixed up
        It isn't true that I've been to {v}. | It is not true that {n} has been to {v}
        """,
    ),
    _attribute(
        "several",
        "collections",
        topic="things",
        values="stamps, vinyl records, old coins, snow globes, fridge magnets, fountain pens, seashells, teapots, "
        "postcards, comic books, toy cars, pocket watches, minerals, beer mats, antique maps, marbles, "
        "perfume bottles, playing cards, movie posters, thimbles",
        state="""
        I collect {v}. | {n} likes to collect {v}
        I have a collection of {v}. | {n} has a collection of {v}
        I'm a collector of {v}. | {n} is a collector of {v}
        One of my collections is of {v}. | One of {n}'s collections is of {v}
        I keep a collection of {v}. | {n} keeps a collection of {v}
        {v} are something I collect. | {v} are something {n} collects
        I own a collection of {v}. | {n} owns a collection of {v}
        Among the things I collect are {v}. | Among the things {n} collects are {v}
        """,
        withdraw="""
        I stopped collecting {v}. | {n} stopped collecting {v}
        I sold my collection of {v}. | {n} sold the collection of {v}
        I don't collect {v} any more. | {n} no longer collects {v}
        I gave away my collection of {v}. | {n} gave away the collection of {v}
        I've given up collecting {v}. | {n} has given up collecting {v}
        I parted with my collection of {v}. | {n} parted with the collection of {v}
        """,
    ),
    _attribute(
        "several",
        "fears",
        topic="health",
        values="heights, lifts, thunder, needles, deep water, clowns, flying, spiders, the dark, crowds, balloons, "
        "moths, ladders, tunnels, escalators, loud bangs, mice, bridges, wasps, sharks, lightning",
        state="""
        I'm afraid of {v}. | {n} is afraid of {v}
        I have a fear of {v}. | {n} has a fear of {v}
        I'm scared of {v}. | {n} is scared of {v}
        One of my fears is {v}. | One of {n}'s fears is {v}
        I'm frightened of {v}. | {n} is frightened of {v}
        One thing I fear is {v}. | One thing {n} fears is {v}
        I get scared by {v}. | {n} gets scared by {v}
        Among the things I fear: {v}. | Among the things {n} fears: {v}
        I suffer from a fear of {v}. | {n} suffers from a fear of {v}
        """,
        withdraw="""
        I'm not afraid of {v} any more. | {n} is not afraid of {v} any more
        I got over my fear of {v}. | {n} got over the fear of {v}
        I no longer have a fear of {v}. | {n} no longer has a fear of {v}
        I've lost my fear of {v}. | {n} has lost the fear of {v}
        I've overcome my fear of {v}. | {n} has overcome the fear of {v}
        I don't get scared by {v} any longer. | {n} does not get scared by {v} any longer
        """,
    ),
    _attribute(
        "several",
        "clubs",
        topic="community",
        values="the chess club, the rowing club, the parents' council, the local choir, the sailing club, "
        "the allotment society, the debating society, the film club, the photo club, the tenants' union, "
        "the bridge club, the history society, the scouts, the hiking club, the astronomy club, the amateur theatre, "
        "the poetry circle, the judo club, the quilting circle, the brass band",
        state="""
        I'm a member of {v}. | {n} is a member of {v}
        I belong to {v}. | {n} belongs to {v}
        I'm in {v}. | {n} is in {v}
        One of the groups I'm in is {v}. | One of the groups {n} is in is {v}
        My memberships include {v}. | {n}'s memberships include {v}
        I have a membership in {v}. | {n} has a membership in {v}
        I'm part of {v}. | {n} is part of {v}
        {v} counts me among its members. | {v} counts {n} among its members
        I'm one of the members of {v}. | {n} is one of the members of {v}
        """,
        withdraw="""
        I left {v}. | {n} has left {v}
        I'm no longer a member of {v}. | {n} is no longer a member of {v}
        I quit {v}. | {n} has quit {v}
        I gave up my membership in {v}. | {n} gave up the membership in {v}
        I don't belong to {v} any more. | {n} does not belong to {v} any more
        I've ended my membership in {v}. | {n} has ended the membership in {v}
        """,
        refine="""
        I'm a member of {v}, {d}. | {n} is a member of {v}, {d}
        I belong to {v}, {d}. | {n} belongs to {v}, {d}
        I'm part of {v}, {d}. | {n} is part of {v}, {d}
        """,
        details="as the treasurer, since last spring, as the youngest one, as the secretary, "
        "together with a neighbour, since the very first meeting",
    ),
    _attribute(
        "several",
        "supplements",
        topic="health",
        values="vitamin D, iron tablets, magnesium, fish oil, vitamin C, zinc, folic acid, vitamin B12, calcium, "
        "probiotics, ginseng, selenium, turmeric capsules, biotin, garlic capsules, collagen powder, iodine, "
        "melatonin, valerian, creatine",
        state="""
        I take {v} as a supplement. | {n} takes {v} as a supplement
        I'm taking {v} as a supplement. | {n} is taking {v} as a supplement
        A supplement I use is {v}. | A supplement {n} uses is {v}
        One supplement I take is {v}. | One supplement {n} takes is {v}
        Among my supplements is {v}. | Among {n}'s supplements is {v}
        I use {v} as a supplement. | {n} uses {v} as a supplement
        My supplements include {v}. | {n}'s supplements include {v}
        I'm on {v} as a supplement. | {n} is on {v} as a supplement
        """,
        withdraw="""
        I stopped taking {v}. | {n} stopped taking {v}
        I don't take {v} any more. | {n} no longer takes {v}
        I've quit {v} as a supplement. | {n} has quit {v} as a supplement
        I gave up taking {v}. | {n} gave up taking {v}
        I'm not taking {v} any longer. | {n} is not taking {v} any longer
        I've dropped {v} from my supplements. | {n} dropped {v} from the supplements
        """,
        refine="""
        I take {v} as a supplement {d}. | {n} takes {v} as a supplement {d}
        I'm taking {v} as a supplement {d}. | {n} is taking {v} as a supplement {d}
        I use {v} as a supplement {d}. | {n} uses {v} as a supplement {d}
        """,
        details="with breakfast, before going to bed, on a doctor's advice, every other day, during the winter, "
        "with a glass of juice",
    ),
    _attribute(
        "several",
        "belongings",
        topic="things",
        values="sewing machine, record player, lawnmower, leaf blower, telescope, bread maker, hammock, "
        "food processor, wine fridge, trampoline, pasta machine, cement mixer, drone, projector, weaving loom, "
        "rocking chair, juicer, pressure washer, chainsaw, toboggan",
        state="""
        I own a {v}. | {n} owns a {v}
        I have a {v}. | {n} has a {v}
        A {v} is among my belongings. | A {v} is among {n}'s belongings
        I've got a {v} of my own. | {n} has got a {v}
        I'm the owner of a {v}. | {n} is the owner of a {v}
        There's a {v} that belongs to me. | There is a {v} that belongs to {n}
        A {v} is one of the things I own. | A {v} is one of the things {n} owns
        I possess a {v}. | {n} possesses a {v}
        """,
        withdraw="""
        I sold my {v}. | {n} sold the {v}
        I don't own a {v} any more. | {n} no longer owns a {v}
        I gave my {v} away. | {n} gave the {v} away
        I threw my broken {v} out. | {n} threw the broken {v} out
        I got rid of my {v}. | {n} got rid of the {v}
        I no longer have a {v}. | {n} no longer has a {v}
        """,
    ),
    _attribute(
        "several",
        "bands liked",
        topic="music",
        values="Paper Lanterns, Velvet Harbour, Midnight Trams, Cold Marmalade, Tin Sparrows, Glass Orchard, "
        "Static Meadow, Lazy Comets, Neon Herons, Hollow Pines, Saint Juno, Wandering Bells, Paper Tigress, "
        "Salt Choir, Dusty Avenue, Northern Otters, Echo Laundry, Quiet Carpets, Amber Parade, Lost Umbrellas",
        state="""
        I'm a fan of the band {v}. | {n} is a fan of the band {v}
        One of the bands I love is {v}. | One of the bands {n} loves is {v}
        I love the band {v}. | {n} loves the band {v}
        I'm fond of the band {v}. | {n} is fond of the band {v}
        {v} is a band I like a lot. | {v} is a band {n} likes a lot
        Among the bands I love is {v}. | Among the bands {n} loves is {v}
        I really like the music of {v}. | {n} really likes the music of {v}
        I count myself among the fans of {v}. | {n} is among the fans of {v}
        A band I like very much is {v}. | A band {n} likes very much is {v}
        """,
        withdraw="""
        I'm not a fan of {v} any more. | {n} is not a fan of {v} any more
        I've lost interest in the band {v}. | {n} has lost interest in the band {v}
        I no longer like the band {v}. | {n} no longer likes the band {v}
        I don't listen to {v} any more, I've gone off the band. | {n} has gone off the band {v}
        I've stopped liking the band {v}. | {n} has stopped liking the band {v}
        My love for the band {v} is over. | {n}'s love for the band {v} is over
        """,
    ),
    _attribute(
        "several",
        "games",
        topic="leisure",
        values="Scrabble, backgammon, Tetris, poker, Minecraft, dominoes, Monopoly, Catan, solitaire, Stardew Valley, "
        "mahjong, Carcassonne, Mario Kart, sudoku, rummy, The Sims, checkers, Uno, Zelda",
        state="""
        I play {v}. | {n} plays the game {v}
        {v} is a game I play. | {v} is a game {n} plays
        One of the games I play is {v}. | One of the games {n} plays is {v}
        I'm a player of {v}. | {n} is a player of {v}
        Among the games I play is {v}. | Among the games {n} plays is {v}
        The games I play include {v}. | The games {n} plays include {v}
        A game I like to play is {v}. | A game {n} likes to play is {v}
        A game I'm into is {v}. | A game {n} is into is {v}
        """,
        withdraw="""
        I don't play {v} any more. | {n} no longer plays {v}
        I've stopped playing {v}. | {n} has stopped playing {v}
        I gave up {v}. | {n} gave up the game {v}
        I'm done with playing {v}. | {n} is done with playing {v}
        I no longer play {v}. | {n} does not play {v} any longer
        I've quit playing {v}. | {n} has quit playing {v}
        """,
    ),
)

# ------------------------------------------------------------------------------------------------ happenings

_EVENTS = (
    _attribute(
        "event",
        "concert",
        topic="music",
        values="the Brass Foxes, Ivory Season, the Sunday Drivers, Kitchen Radio, Maple Static, the Borrowed Suits, "
        "Luna Parks, the Rusty Violins, Tender Machines, the Polar Sisters, Oslo Weather, the Empty Trains, "
        "Giant Pocket, the Morning Tide, Bitter Honey, the Old Lighthouse Band, Ruby Signal, the Gravel Kings, "
        "Silent Postman, the Cloud Factory",
        state="""
        I went to a concert by {v}. | {n} went to a concert by {v}
        I saw {v} live in concert. | {n} saw {v} live in concert
        I was at a show of {v} last weekend. | {n} was at a show of {v} last weekend
        I attended a concert of {v} last night. | {n} attended a concert of {v} last night
        I heard {v} play live on Friday. | {n} heard {v} play live on Friday
        Last Saturday I was in the audience of {v}. | {n} was in the audience of {v} last Saturday
        """,
    ),
    _attribute(
        "event",
        "10k run",
        topic="fitness",
        values="Oxford, Malmo, Geneva, Leipzig, Brighton, Antwerp, Bologna, Nantes, Aarhus, Cork, Basel, Halifax, "
        "Salzburg, Innsbruck, Tampere, Brno, York, Bilbao, Ottawa, Perth",
        state="""
        I ran a 10k in {v}. | {n} ran a 10k in {v}
        I took part in a 10k race in {v}. | {n} took part in a 10k race in {v}
        I finished a 10k in {v} last Sunday. | {n} finished a 10k in {v} last Sunday
        Last month I ran ten kilometres at a race in {v}. | {n} ran ten kilometres at a race in {v} last month
        I completed a 10k in {v}. | {n} completed a 10k in {v}
        I crossed the finish line of a 10k in {v}. | {n} crossed the finish line of a 10k in {v}
        """,
    ),
    _attribute(
        "event",
        "museum visit",
        topic="leisure",
        values="Madrid, Florence, Munich, Cologne, Naples, Zurich, Warsaw, Rotterdam, Genoa, Dresden, Luxembourg, "
        "Oslo, Glasgow, Liverpool, Helsinki, Washington, Philadelphia, Cairo, Marseille, Bucharest",
        state="""
        I visited a museum in {v}. | {n} visited a museum in {v}
        I went to a museum in {v} on Saturday. | {n} went to a museum in {v} on Saturday
        I spent an afternoon in a museum in {v}. | {n} spent an afternoon in a museum in {v}
        Last week I saw an exhibition at a museum in {v}. | {n} saw an exhibition at a museum in {v} last week
        I took a guided tour of a museum in {v}. | {n} took a guided tour of a museum in {v}
        I was at a museum in {v} last month. | {n} was at a museum in {v} last month
        """,
    ),
    _attribute(
        "event",
        "painting",
        topic="art",
        values="a sunset, the harbour at night, a bowl of lemons, an old lighthouse, a smiling neighbour, "
        "a snowy forest, the market square, a sleeping fox, a field of poppies, a stormy sea, a vase of tulips, "
        "a mountain lake, a row of beach huts, a red tram, a foggy bridge, a flock of geese, an empty street, "
        "a cherry tree, a winding road, a moonlit garden",
        state="""
        I painted {v}. | {n} has painted {v}
        I finished a painting of {v}. | {n} finished a painting of {v}
        I painted a picture of {v} last week. | {n} painted a picture of {v} last week
        Yesterday I finished painting {v}. | {n} finished painting {v} yesterday
        I made a painting that shows {v}. | {n} made a painting that shows {v}
        I completed a watercolour of {v}. | {n} completed a watercolour of {v}
        """,
    ),
    _attribute(
        "event",
        "dinner hosted",
        topic="people",
        values="the neighbours, five old classmates, the whole book club, two visitors from Chile, the football team, "
        "a retired professor, the in-laws, three colleagues, the new tenants, a group of students, "
        "the wedding witnesses, eight cousins, the choir director, some former flatmates, the building's caretaker, "
        "a visiting musician, the dance group, an old teacher, twelve relatives, the running group",
        state="""
        I hosted a dinner for {v}. | {n} hosted a dinner for {v}
        I cooked a big dinner for {v}. | {n} cooked a big dinner for {v}
        I had {v} over for dinner on Saturday. | {n} had {v} over for dinner on Saturday
        Last night I made dinner at home for {v}. | {n} made dinner at home for {v} last night
        I invited {v} to dinner at my place last week. | {n} had {v} to dinner at home last week
        I gave a dinner for {v}. | {n} gave a dinner for {v}
        """,
    ),
    _attribute(
        "event",
        "baking",
        topic="food",
        values="a carrot cake, cinnamon rolls, a lemon tart, two loaves of rye bread, a black forest cake, "
        "ginger biscuits, a plum cake, macarons, a wedding cake, an apple pie, a cheesecake, banana bread, a quiche, "
        "croissants, a birthday cake with sprinkles, almond cookies, a rhubarb crumble, pretzels, a walnut cake, "
        "scones",
        state="""
        I baked {v} yesterday. | {n} baked {v} yesterday
        I made {v} for a bake sale. | {n} made {v} for a bake sale
        On Sunday I baked {v}. | {n} baked {v} on Sunday
        I baked {v} for the first time. | {n} baked {v} for the first time
        I tried a new recipe and baked {v}. | {n} tried a new recipe and baked {v}
        This morning I took {v} out of the oven. | {n} took {v} out of the oven this morning
        """,
    ),
    _attribute(
        "event",
        "hike",
        topic="sport",
        values="the Eagle Ridge, the coastal path, Mount Calder, the Seven Lakes trail, the old smugglers' path, "
        "the Fox Gorge, the volcano trail, the Pilgrims' Way, the canyon loop, Bear Mountain, the moorland trail, "
        "the glacier path, the vineyard trail, the Misty Valley, the cliff walk, the Three Bridges trail, "
        "Needle Peak, the waterfall loop, the border trail, the salt marsh path",
        state="""
        I hiked {v} at the weekend. | {n} hiked {v} at the weekend
        I went on a hike along {v}. | {n} went on a hike along {v}
        Last Sunday I walked {v} with a backpack. | {n} walked {v} with a backpack last Sunday
        I did a day hike on {v}. | {n} did a day hike on {v}
        I spent a whole day hiking {v}. | {n} spent a whole day hiking {v}
        I completed a long hike on {v} on Friday. | {n} completed a long hike on {v} on Friday
        """,
    ),
    _attribute(
        "event",
        "wedding attended",
        topic="people",
        values="a cousin, an old school friend, a colleague, a former flatmate, the upstairs neighbours, a nephew, "
        "a godmother, an uncle, a piano teacher, two university friends, a niece, the gym trainer, a former boss, "
        "a childhood friend, a great-aunt, the couple next door",
        state="""
        I went to the wedding of {v}. | {n} went to the wedding of {v}
        I was a guest at the wedding of {v}. | {n} was a guest at the wedding of {v}
        I attended the wedding of {v} on Saturday. | {n} attended the wedding of {v} on Saturday
        Last weekend I danced at the wedding of {v}. | {n} danced at the wedding of {v} last weekend
        I gave a toast at the wedding of {v}. | {n} gave a toast at the wedding of {v}
        I celebrated at the wedding of {v} last month. | {n} celebrated at the wedding of {v} last month
        """,
    ),
    _attribute(
        "event",
        "repair",
        topic="things",
        values="the washing machine, the garden gate, a leaking tap, the toaster, an old radio, the kitchen clock, "
        "a broken chair, the doorbell, the vacuum cleaner, the fence, a wobbly table, the roof gutter, "
        "the coffee grinder, a torn tent, the dishwasher, a cracked window, the garage door, a music box, "
        "the heating, a broken zip",
        state="""
        I repaired {v}. | {n} has repaired {v}
        I fixed {v} yesterday. | {n} fixed {v} yesterday
        At the weekend I mended {v}. | {n} mended {v} at the weekend
        I managed to fix {v} all alone. | {n} managed to fix {v} all alone
        I spent Saturday repairing {v}. | {n} spent Saturday repairing {v}
        I got {v} working again. | {n} got {v} working again
        """,
    ),
    _attribute(
        "event",
        "flea market find",
        topic="things",
        values="a brass lamp, an oak desk, a painted mirror, a leather suitcase, a copper kettle, a silk scarf, "
        "an old globe, a typewriter, a set of wine glasses, a wooden sledge, a Persian rug, a cuckoo clock, "
        "a tin box, a porcelain swan, an opera poster, a rocking horse, a silver spoon, a pair of binoculars, "
        "a picnic basket, a velvet armchair",
        state="""
        I found {v} at a flea market. | {n} found {v} at a flea market
        I bought {v} at a flea market last Sunday. | {n} bought {v} at a flea market last Sunday
        I got {v} from a flea market stall. | {n} got {v} from a flea market stall
        At the flea market on Saturday I picked up {v}. | {n} picked up {v} at the flea market on Saturday
        I haggled for {v} at a flea market. | {n} haggled for {v} at a flea market
        Last month I came home from a flea market with {v}. | {n} came home from a flea market with {v} last month
        """,
    ),
    _attribute(
        "event",
        "donation",
        topic="community",
        values="a hospice, a wildlife fund, flood victims, the lifeboat crew, a school in Ghana, cancer research, "
        "an orphanage, the village church, a women's shelter, the mountain rescue, a theatre for children, "
        "earthquake victims, a rainforest project, the blood bank fund, a toy library, the town museum",
        state="""
        I donated 50 euros to {v}. | {n} donated 50 euros to {v}
        I gave money to {v}. | {n} gave money to {v}
        I made a donation to {v} last week. | {n} made a donation to {v} last week
        Yesterday I sent a donation to {v}. | {n} sent a donation to {v} yesterday
        I supported {v} with a donation. | {n} supported {v} with a donation
        I transferred 20 euros to {v} as a gift. | {n} transferred 20 euros to {v} as a gift
        """,
    ),
    _attribute(
        "event",
        "prize won",
        topic="art",
        values="a photo contest, a pub quiz, a pie-baking contest, a poetry slam, a chess tournament, a spelling bee, "
        "a short story contest, a darts tournament, a ski race, a pumpkin contest, a karaoke contest, "
        "a sandcastle contest, a costume contest, a science fair, a crossword contest, a table football tournament",
        state="""
        I won a prize at {v}. | {n} won a prize at {v}
        I came second in {v}. | {n} came second in {v}
        I took first place in {v} last week. | {n} took first place in {v} last week
        Last Friday I won {v}. | {n} won {v} last Friday
        I came third in {v} on Sunday. | {n} came third in {v} on Sunday
        I was awarded a medal at {v}. | {n} was awarded a medal at {v}
        """,
    ),
)

# ------------------------------------------------------------------------------------------------ other people

_OTHERS = (
    *_relatives(
        "sister, brother, cousin",
        "home city",
        topic="home",
        values=_CITIES,
        state="""
        My {r} lives in {v}. | {n}'s {r} lives in {v}
        My {r} is based in {v}. | {n}'s {r} is based in {v}
        My {r} has a home in {v}. | {n}'s {r} has a home in {v}
        {v} is where my {r} lives. | {v} is where {n}'s {r} lives
        The city my {r} lives in is {v}. | The city {n}'s {r} lives in is {v}
        The home of my {r} is in {v}. | The home of {n}'s {r} is in {v}
        """,
        change="""
        My {r} has just moved to {v}. | {n}'s {r} has moved to {v}
        My {r} left {old} and lives in {v} now. | {n}'s {r} left {old} and now lives in {v}
        My {r} moved house from {old} to {v}. | {n}'s {r} moved house from {old} to {v}
        The new home of my {r} is in {v}. | The new home of {n}'s {r} is in {v}
        My {r} relocated to {v}. | {n}'s {r} relocated to {v}
        My {r} doesn't live in {old} any more but in {v}. | {n}'s {r} no longer lives in {old} but in {v}
        """,
        withdraw="""
        My {r} doesn't live in {v} any more. | {n}'s {r} no longer lives in {v}
        My {r} moved away from {v}. | {n}'s {r} moved away from {v}
        My {r} gave up the home in {v}. | {n}'s {r} gave up the home in {v}
        My {r} has left {v} for good. | {n}'s {r} has left {v} for good
        My {r} isn't living in {v} any longer. | {n}'s {r} is not living in {v} any longer
        """,
        refine="""
        My {r} lives in {v}, {d}. | {n}'s {r} lives in {v}, {d}
        The home of my {r} in {v} is {d}. | The home of {n}'s {r} in {v} is {d}
        {v} is where my {r} lives, {d}. | {v} is where {n}'s {r} lives, {d}
        """,
        details="above a bookshop, close to the harbour, next to a school, on the top floor, near the stadium, "
        "behind the cathedral, in a white house",
    ),
    *_relatives(
        "mother, father, sister",
        "job",
        topic="work",
        values=_JOBS,
        state="""
        My {r} works as {v}. | {n}'s {r} works as {v}
        My {r} is {v} by profession. | {n}'s {r} is {v} by profession
        My {r} earns a living as {v}. | {n}'s {r} earns a living as {v}
        My {r} has a job as {v}. | {n}'s {r} has a job as {v}
        Professionally, my {r} is {v}. | Professionally, {n}'s {r} is {v}
        My {r} is {v} for a living. | {n}'s {r} is {v} for a living
        """,
        change="""
        My {r} changed jobs and works as {v} now. | {n}'s {r} changed jobs and now works as {v}
        My {r} is no longer {old} and works as {v} now. | {n}'s {r} is no longer {old} and now works as {v}
        My {r} switched careers and became {v}. | {n}'s {r} switched careers and became {v}
        My {r} left the old job and started as {v}. | {n}'s {r} left the old job and started as {v}
        My {r} quit as {old} and was hired as {v}. | {n}'s {r} quit as {old} and was hired as {v}
        My {r} used to be {old} and is now {v}. | {n}'s {r} used to be {old} and is now {v}
        """,
        withdraw="""
        My {r} isn't {v} any more. | {n}'s {r} is not {v} any more
        My {r} quit the job as {v}. | {n}'s {r} quit the job as {v}
        My {r} has lost the job. | {n}'s {r} has lost the job
        My {r} no longer works as {v}. | {n}'s {r} no longer works as {v}
        My {r} has resigned from work. | {n}'s {r} has resigned from work
        """,
        refine="""
        My {r} works as {v} {d}. | {n}'s {r} works as {v} {d}
        My {r} has a job as {v} {d}. | {n}'s {r} has a job as {v} {d}
        My {r} earns a living as {v} {d}. | {n}'s {r} earns a living as {v} {d}
        """,
        details="on night shifts, four days a week, in a small town, for a big company, mostly on weekends, "
        "with two apprentices, near the airport",
    ),
    *_relatives(
        "uncle, father, brother",
        "car",
        topic="transport",
        values=_CARS,
        state="""
        My {r} drives {v}. | {n}'s {r} drives {v}
        The car of my {r} is {v}. | The car of {n}'s {r} is {v}
        My {r} owns a car, {v}. | {n}'s {r} owns a car, {v}
        My {r} has {v} as a car. | {n}'s {r} has {v} as a car
        The car my {r} drives is {v}. | The car {n}'s {r} drives is {v}
        My {r} gets around in {v}. | {n}'s {r} gets around in {v}
        """,
        change="""
        My {r} sold {old} and drives {v} now. | {n}'s {r} sold {old} and now drives {v}
        My {r} has a new car, {v}. | {n}'s {r} has a new car, {v}
        My {r} traded the car in for {v}. | {n}'s {r} traded the car in for {v}
        My {r} replaced {old} with {v}. | {n}'s {r} replaced {old} with {v}
        The new car of my {r} is {v}. | The new car of {n}'s {r} is {v}
        My {r} used to drive {old} and drives {v} now. | {n}'s {r} used to drive {old} and now drives {v}
        """,
        withdraw="""
        My {r} doesn't drive {v} any more. | {n}'s {r} no longer drives {v}
        My {r} has sold the car. | {n}'s {r} has sold the car
        My {r} no longer has {v}. | {n}'s {r} no longer has {v}
        My {r} scrapped the car, {v}. | {n}'s {r} scrapped the car, {v}
        My {r} gave the car away. | {n}'s {r} gave the car away
        """,
        refine="""
        My {r} drives {v} {d}. | {n}'s {r} drives {v} {d}
        The car of my {r} is {v} {d}. | The car of {n}'s {r} is {v} {d}
        The car my {r} drives is {v} {d}. | The car {n}'s {r} drives is {v} {d}
        """,
        details="with a trailer, with tinted windows, with a bike rack, with fur seats, with a broken mirror, "
        "with heated seats",
    ),
    *_relatives(
        "aunt, neighbour, grandmother",
        "pet",
        topic="pets",
        values="cat, dog, parrot, rabbit, hamster, tortoise, goldfish, guinea pig, canary, gecko, ferret, chinchilla, "
        "cockatiel, donkey, hedgehog, pony, duck, goat, budgie, lizard",
        state="""
        My {r} has a {v}. | {n}'s {r} has a {v}
        My {r} keeps a {v} as a pet. | {n}'s {r} keeps a {v} as a pet
        The pet of my {r} is a {v}. | The pet of {n}'s {r} is a {v}
        My {r} owns a {v}. | {n}'s {r} owns a {v}
        My {r} has got a pet {v}. | {n}'s {r} has got a pet {v}
        The pet my {r} keeps is a {v}. | The pet {n}'s {r} keeps is a {v}
        """,
        change="""
        My {r} gave the {old} away and has a {v} now. | {n}'s {r} gave the {old} away and now has a {v}
        My {r} has a {v} now instead of the {old}. | {n}'s {r} now has a {v} instead of the {old}
        The {old} of my {r} died and now there's a {v}. | The {old} of {n}'s {r} died and now there is a {v}
        My {r} has a {v} as a new pet, the {old} is gone. | {n}'s {r} has a {v} as a new pet, the {old} is gone
        My {r} doesn't have the {old} any more but a {v}. | {n}'s {r} no longer has the {old} but a {v}
        My {r} swapped the {old} for a {v}. | {n}'s {r} swapped the {old} for a {v}
        """,
        withdraw="""
        My {r} doesn't have a {v} any more. | {n}'s {r} no longer has a {v}
        My {r} gave the {v} away. | {n}'s {r} gave the {v} away
        The {v} of my {r} has died. | The {v} of {n}'s {r} has died
        My {r} no longer keeps any pet. | {n}'s {r} no longer keeps any pet
        The {v} of my {r} ran away for good. | The {v} of {n}'s {r} ran away for good
        """,
        refine="""
        My {r} has a {v} called {d}. | {n}'s {r} has a {v} called {d}
        The {v} of my {r} is called {d}. | The {v} of {n}'s {r} is called {d}
        My {r} named the {v} {d}. | {n}'s {r} has a {v} and named it {d}
        """,
        details="Coco, Rusty, Pebbles, Caramel, Gizmo, Panda, Toffee, Bubbles, Maple, Snowball, Cricket, Velcro",
    ),
    *_relatives(
        "brother, niece",
        "language",
        topic="learning",
        values=_LANGUAGES,
        state="""
        My {r} is learning {v}. | {n}'s {r} is learning {v}
        The language my {r} is learning is {v}. | The language {n}'s {r} is learning is {v}
        My {r} is learning to speak {v}. | {n}'s {r} is learning to speak {v}
        {v} is the language my {r} is learning. | {v} is the language {n}'s {r} is learning
        My {r} is trying to learn {v}. | {n}'s {r} is trying to learn {v}
        My {r} is busy learning {v}. | {n}'s {r} is busy learning {v}
        """,
        change="""
        My {r} stopped {old} and is learning {v} now. | {n}'s {r} stopped {old} and is now learning {v}
        My {r} switched from learning {old} to {v}. | {n}'s {r} switched from learning {old} to {v}
        My {r} is learning {v} now instead of {old}. | {n}'s {r} is now learning {v} instead of {old}
        My {r} is learning a new language now, {v}. | {n}'s {r} is learning a new language now, {v}
        My {r} has dropped {old} to learn {v}. | {n}'s {r} has dropped {old} to learn {v}
        My {r} changed languages and learns {v} now. | {n}'s {r} changed languages and now learns {v}
        """,
        withdraw="""
        My {r} gave up learning {v}. | {n}'s {r} gave up learning {v}
        My {r} quit learning {v}. | {n}'s {r} quit learning {v}
        My {r} isn't learning a language any more. | {n}'s {r} is not learning a language any more
        My {r} no longer learns {v}. | {n}'s {r} no longer learns {v}
        My {r} has stopped learning {v}. | {n}'s {r} has stopped learning {v}
        """,
        refine="""
        My {r} is learning {v} {d}. | {n}'s {r} is learning {v} {d}
        My {r} is learning to speak {v} {d}. | {n}'s {r} is learning to speak {v} {d}
        My {r} is trying to learn {v} {d}. | {n}'s {r} is trying to learn {v} {d}
        """,
        details="at school, with an app, from songs, with a private teacher, for work, at a summer camp",
    ),
    *_relatives(
        "sister, grandfather",
        "diet",
        topic="food",
        values=_DIETS,
        state="""
        My {r} follows a {v} diet. | {n}'s {r} follows a {v} diet
        My {r} is on a {v} diet. | {n}'s {r} is on a {v} diet
        My {r} eats a {v} diet. | {n}'s {r} eats a {v} diet
        The diet of my {r} is {v}. | The diet of {n}'s {r} is {v}
        My {r} sticks to a {v} diet. | {n}'s {r} sticks to a {v} diet
        The diet my {r} follows is {v}. | The diet {n}'s {r} follows is {v}
        """,
        change="""
        My {r} switched from a {old} diet to a {v} one. | {n}'s {r} switched from a {old} diet to a {v} one
        My {r} has a new diet, a {v} one. | {n}'s {r} has a new diet, a {v} one
        The diet of my {r} is {v} now and no longer {old}. | The diet of {n}'s {r} is now {v} and no longer {old}
        My {r} changed to a {v} diet. | {n}'s {r} changed to a {v} diet
        My {r} replaced the {old} diet with a {v} one. | {n}'s {r} replaced the {old} diet with a {v} one
        My {r} eats a {v} diet now instead of a {old} one. | {n}'s {r} now eats a {v} diet instead of a {old} one
        """,
        withdraw="""
        My {r} stopped following a {v} diet. | {n}'s {r} stopped following a {v} diet
        My {r} is no longer on a {v} diet. | {n}'s {r} is no longer on a {v} diet
        My {r} has given up dieting. | {n}'s {r} is not on any diet any more
        My {r} quit the {v} diet. | {n}'s {r} quit the {v} diet
        My {r} doesn't follow a {v} diet any more. | {n}'s {r} does not follow a {v} diet any more
        """,
        refine="""
        My {r} follows a {v} diet {d}. | {n}'s {r} follows a {v} diet {d}
        My {r} is on a {v} diet {d}. | {n}'s {r} is on a {v} diet {d}
        My {r} sticks to a {v} diet {d}. | {n}'s {r} sticks to a {v} diet {d}
        """,
        details="on a doctor's advice, because of headaches, to feel fitter, for the environment, "
        "on a nurse's advice, because of a bet",
    ),
    *_relatives(
        "nephew, daughter",
        "instrument",
        topic="learning",
        values=_INSTRUMENTS,
        state="""
        My {r} is learning {v}. | {n}'s {r} is learning {v}
        My {r} is learning to play {v}. | {n}'s {r} is learning to play {v}
        The instrument my {r} is learning is {v}. | The instrument {n}'s {r} is learning is {v}
        My {r} is trying to learn {v}. | {n}'s {r} is trying to learn {v}
        {v} is the instrument my {r} is learning. | {v} is the instrument {n}'s {r} is learning
        My {r} is busy learning to play {v}. | {n}'s {r} is busy learning to play {v}
        """,
        change="""
        My {r} dropped {old} and is learning {v} now. | {n}'s {r} dropped {old} and is now learning {v}
        My {r} switched from learning {old} to {v}. | {n}'s {r} switched from learning {old} to {v}
        My {r} is learning a different instrument now, {v}. | {n}'s {r} is learning a different instrument now, {v}
        My {r} is learning {v} now instead of {old}. | {n}'s {r} is now learning {v} instead of {old}
        The new instrument of my {r} is {v}. | The new instrument of {n}'s {r} is {v}
        My {r} has changed instruments, to {v}. | {n}'s {r} has changed instruments, to {v}
        """,
        withdraw="""
        My {r} gave up learning {v}. | {n}'s {r} gave up learning {v}
        My {r} isn't learning {v} any more. | {n}'s {r} is not learning {v} any more
        My {r} quit learning an instrument. | {n}'s {r} quit learning an instrument
        My {r} has stopped learning {v}. | {n}'s {r} has stopped learning {v}
        My {r} no longer learns {v}. | {n}'s {r} no longer learns {v}
        """,
        refine="""
        My {r} is learning {v} {d}. | {n}'s {r} is learning {v} {d}
        My {r} is learning to play {v} {d}. | {n}'s {r} is learning to play {v} {d}
        My {r} is trying to learn {v} {d}. | {n}'s {r} is trying to learn {v} {d}
        """,
        details="at the music school, with a strict teacher, for the school band, every afternoon, from videos, "
        "with a grandfather",
    ),
    *_relatives(
        "mother, aunt, brother",
        "planned trip",
        topic="travel",
        values=_TRIPS,
        state="""
        My {r} is planning a trip to {v}. | {n}'s {r} is planning a trip to {v}
        My {r} is going to travel to {v}. | {n}'s {r} is going to travel to {v}
        My {r} has a trip to {v} planned. | {n}'s {r} has a trip to {v} planned
        The next trip of my {r} is to {v}. | The next trip of {n}'s {r} is to {v}
        My {r} plans to travel to {v}. | {n}'s {r} plans to travel to {v}
        The trip my {r} is planning goes to {v}. | The trip {n}'s {r} is planning goes to {v}
        """,
        change="""
        My {r} changed the trip from {old} to {v}. | {n}'s {r} changed the trip from {old} to {v}
        My {r} is going to {v} now instead of {old}. | {n}'s {r} is now going to {v} instead of {old}
        My {r} has new travel plans, a trip to {v}. | {n}'s {r} has new travel plans, a trip to {v}
        My {r} swapped the trip to {old} for one to {v}. | {n}'s {r} swapped the trip to {old} for one to {v}
        My {r} won't travel to {old} but to {v}. | {n}'s {r} will not travel to {old} but to {v}
        The new destination of my {r} is {v}. | The new travel destination of {n}'s {r} is {v}
        """,
        withdraw="""
        My {r} cancelled the trip to {v}. | {n}'s {r} cancelled the trip to {v}
        My {r} isn't going to {v} after all. | {n}'s {r} is not going to {v} after all
        My {r} gave up the travel plans. | {n}'s {r} gave up the travel plans
        My {r} called off the trip to {v}. | {n}'s {r} called off the trip to {v}
        My {r} won't go on the planned trip. | {n}'s {r} will not go on the planned trip
        """,
        refine="""
        My {r} is planning a trip to {v} {d}. | {n}'s {r} is planning a trip to {v} {d}
        My {r} has a trip to {v} planned, {d}. | {n}'s {r} has a trip to {v} planned, {d}
        My {r} plans to travel to {v} {d}. | {n}'s {r} plans to travel to {v} {d}
        """,
        details="in June, with a walking group, for three weeks, in late spring, with a motorhome, on a tight budget",
    ),
    *_relatives(
        "father, uncle",
        "team",
        topic="sport",
        values=_TEAMS,
        state="""
        My {r} supports {v}. | {n}'s {r} supports {v}
        The team of my {r} is {v}. | The team of {n}'s {r} is {v}
        My {r} cheers for {v}. | {n}'s {r} cheers for {v}
        My {r} is a supporter of {v}. | {n}'s {r} is a supporter of {v}
        My {r} is one of the fans of {v}. | {n}'s {r} is one of the fans of {v}
        The team my {r} roots for is {v}. | The team {n}'s {r} roots for is {v}
        """,
        change="""
        My {r} supports {v} now and no longer {old}. | {n}'s {r} now supports {v} and no longer {old}
        The new team of my {r} is {v}. | The new team of {n}'s {r} is {v}
        My {r} switched teams and cheers for {v} now. | {n}'s {r} switched teams and now cheers for {v}
        My {r} went over from {old} to {v}. | {n}'s {r} went over from {old} to {v}
        My {r} has changed teams, it's {v} now. | {n}'s {r} has changed teams and it is {v} now
        My {r} has left {old} behind and is a fan of {v} now. | {n}'s {r} left {old} behind and is now a fan of {v}
        """,
        withdraw="""
        My {r} doesn't support {v} any more. | {n}'s {r} no longer supports {v}
        My {r} has stopped cheering for {v}. | {n}'s {r} has stopped cheering for {v}
        My {r} no longer has a team. | {n}'s {r} no longer has a team
        My {r} gave up on {v} as a team. | {n}'s {r} gave up on {v} as a team
        My {r} isn't a fan of {v} any more. | {n}'s {r} is not a fan of {v} any more
        """,
        refine="""
        My {r} supports {v}, {d}. | {n}'s {r} supports {v}, {d}
        My {r} is a supporter of {v}, {d}. | {n}'s {r} is a supporter of {v}, {d}
        The team my {r} roots for is {v}, {d}. | The team {n}'s {r} roots for is {v}, {d}
        """,
        details="with a season ticket, always in front of the television, always from the south stand, "
        "with great passion, mostly on the radio, like all the colleagues",
    ),
    *_relatives(
        "grandmother, aunt",
        "phone",
        topic="devices",
        values=_PHONES,
        state="""
        My {r} uses {v} as a phone. | {n}'s {r} uses {v} as a phone
        The phone of my {r} is {v}. | The phone of {n}'s {r} is {v}
        The phone my {r} uses is {v}. | The phone {n}'s {r} uses is {v}
        My {r} has {v} as a phone. | {n}'s {r} has {v} as a phone
        My {r} owns a phone, {v}. | {n}'s {r} owns a phone, {v}
        As a phone, my {r} has {v}. | As a phone, {n}'s {r} has {v}
        """,
        change="""
        My {r} switched phones from {old} to {v}. | {n}'s {r} switched phones from {old} to {v}
        The new phone of my {r} is {v}. | The new phone of {n}'s {r} is {v}
        My {r} replaced {old} with {v}. | {n}'s {r} replaced {old} with {v}
        My {r} has a new phone, {v}. | {n}'s {r} has a new phone, {v}
        My {r} uses {v} now and no longer {old}. | {n}'s {r} now uses {v} and no longer {old}
        My {r} traded the old phone in for {v}. | {n}'s {r} traded the old phone in for {v}
        """,
        withdraw="""
        My {r} doesn't use {v} any more. | {n}'s {r} no longer uses {v}
        My {r} got rid of the phone. | {n}'s {r} got rid of the phone
        My {r} no longer has {v}. | {n}'s {r} no longer has {v}
        My {r} lost the phone, {v}. | {n}'s {r} lost the phone, {v}
        My {r} gave up having a phone. | {n}'s {r} gave up having a phone
        """,
        refine="""
        My {r} uses {v} {d} as a phone. | {n}'s {r} uses {v} {d} as a phone
        The phone of my {r} is {v} {d}. | The phone of {n}'s {r} is {v} {d}
        The phone my {r} uses is {v} {d}. | The phone {n}'s {r} uses is {v} {d}
        """,
        details="with extra large buttons, with a cracked screen, in a leather case, with a loud ringtone, "
        "with a tiny camera, with a blue cover",
    ),
)

ATTRIBUTES: tuple[Attribute, ...] = (*_SINGLE, *_SEVERAL, *_EVENTS, *_OTHERS)


# ------------------------------------------------------------------------------------------------ the talk around it


FIRST_NAMES = _values(
    "Ana, Ben, Carla, David, Elena, Felix, Grace, Hugo, Irene, Jonas, Katja, Liam, Maria, Noah, Olga, Pablo, Rachel, "
    "Samuel, Tara, Victor, Wendy, Yusuf, Zoe, Amir, Bella, Carlos, Diana, Emil, Fatima, George, Hannah, Ivan, Julia, "
    "Kevin, Laura, Marco, Nina, Oscar, Priya, Rafael, Sofia, Thomas, Ursula, Vera, Walter, Ximena, Yara, Adam, "
    "Bianca, Caleb, Daria, Ethan, Farah, Gabriel, Helen, Isaac, Jana, Kenji, Leila, Mateo, Nadia, Owen, Paula, Ravi, "
    "Sara, Tim, Valerie, William, Aisha, Boris, Clara, Dylan, Esther, Frank, Gloria, Henry, Ines, Joel, Kim, Lucas, "
    "Melanie, Nathan, Petra, Robert, Simon, Tina, Caroline, Aaron, Mei, Omar, Stella, Andre, Naomi, Patrick, Chloe, "
    "Sven"
)

# Before a statement. One that does not end a sentence runs on into it.
OPENERS = _lines(
    """
    Guess what!
    By the way,
    Just so you know,
    Oh, and
    You know what?
    Before I forget:
    Let me tell you something.
    Here's a small update from me.
    I wanted to mention something.
    Not sure I told you, but
    Anyway,
    Well,
    Something from my life:
    Hey!
    Hi there!
    Good to talk to you again.
    So,
    Oh, one more thing:
    A bit of news from my side.
    Listen,
    Since we're talking,
    Let me see what else there is:
    Hello again!
    Just a quick note:
    """
)

# The owner asks for a memory to be forgotten: {s} is what it says in the owner's words, {f} in the third person.
REQUESTS = _phrases(
    """
    Please forget that {s}. | {n} wants it forgotten that {f}
    I want you to forget that {s}. | {n} asked to forget that {f}
    Delete from your memory that {s}. | {n} wants it deleted that {f}
    Don't remember that {s}, please. | {n} does not want it remembered that {f}
    Could you erase that {s}? | {n} asked for it to be erased that {f}
    It should not be kept that {s}. | {n} does not want it kept that {f}
    I'd rather you did not remember that {s}. | {n} would rather not have it remembered that {f}
    Take it out of your notes that {s}. | {n} wants it taken out of the notes that {f}
    Remove the bit where I said that {s}. | {n} wants it removed that {f}
    Forget I ever told you that {s}. | {n} wants it forgotten that {f}
    Strike it from the record that {s}. | {n} wants it struck that {f}
    Please drop it from your memory that {s}. | {n} asked for it to be dropped that {f}
    I wish I had not told you that {s}. Wipe it. | {n} wants it wiped that {f}
    Nobody should know that {s}, so delete it. | {n} asked to delete that {f}
    Do me a favour and unlearn that {s}. | {n} asked to unlearn that {f}
    """
)

# The same by what it is about: {a} is an attribute of which only one value is true.
REQUESTS_BY_NAME = _phrases(
    """
    Please forget what I told you about my {a}. | {n} wants everything about the {a} forgotten
    Delete what you know about my {a}. | {n} wants what is known about the {a} deleted
    I don't want you to remember my {a}. | {n} does not want the {a} remembered
    Take my {a} out of your memory, please. | {n} wants the {a} taken out of the memory
    Could you erase everything about my {a}? | {n} asked to erase everything about the {a}
    My {a} is none of your business any more, so remove it. | {n} wants the {a} removed
    Forget that we ever talked about my {a}. | {n} wants the talk about the {a} forgotten
    Strike my {a} from what you know. | {n} wants the {a} struck
    You should not keep anything about my {a}. | {n} does not want anything kept about the {a}
    Please wipe what I said about my {a}. | {n} asked to wipe what was said about the {a}
    """
)

# Between two statements.
JOINERS = _lines(
    """
    Also,
    And
    Oh, and
    Besides,
    Another thing:
    On top of that,
    What else?
    And then,
    Apart from that,
    """
)

CLOSERS = _lines(
    """
    How about you?
    What do you think?
    Anyway, that's it from me.
    What's new with you?
    Just thought I'd share.
    Isn't that something?
    And you?
    How are things over there?
    That's all for now.
    Can you believe it?
    So that's that.
    I wanted you to know.
    Life goes on!
    What would you say to that?
    Haha!
    Anyhow, tell me something now.
    That's how it is.
    I'd love to hear your thoughts.
    Funny how things go.
    Well, there you have it.
    Please keep that in mind.
    Good that we talked about it.
    How does that sound to you?
    Enough about me!
    """
)

# After a statement, whatever it was.
REPLIES = _lines(
    """
    Thanks for telling me!
    Oh, I see. How do you feel about it?
    Got it. Is there anything else on your mind?
    That's good to know.
    I'll keep that in mind.
    Interesting! Tell me more some time.
    Understood. How has the rest of the week been?
    I appreciate you sharing that.
    Noted! What else is going on?
    Okay, that makes sense.
    I didn't expect that, but it sounds like you.
    Right, thanks for the update.
    Always nice to hear from you.
    I hear you. Take your time with everything.
    That's quite something!
    Ah, okay. Many people say the same.
    Thanks, now I'm up to date.
    Life never gets boring, does it?
    Alright! I hope the week goes well otherwise.
    I understand. Let me know how it goes.
    Hm, I hadn't thought of that.
    Fair enough. It's good to talk about such things.
    Okay! Remember to get some rest, too.
    So that's how it is. Thank you for letting me know.
    """
)

REPLIES_OF_A_FRIEND = _lines(
    """
    I see! I had such a long day at the office myself.
    Good to know. My weekend was all about cleaning the flat.
    Oh! I'm still waiting for my new glasses, by the way.
    Thanks for the news. I burnt my dinner again last night.
    Okay! I've been sleeping badly since the storm.
    Right. My mum asked about you the other day.
    Got it. I finally signed up for swimming lessons.
    I see. I once thought about the same thing for months.
    Ha, I need a minute for that! I just came back from the market.
    Understood. I'm trying to drink less coffee, wish me luck.
    Thanks for telling me. I've got a cold, so I'm staying in.
    Oh, okay. My brother says the same about himself.
    Noted. I'm off to the cinema with my kids later.
    I'll remember that. I have to pick up my dad from the station now.
    Good that you say it. I sold my old sofa yesterday.
    Alright. My own plans change every week.
    I hear you. I've had my share of that too.
    Let's talk more on Sunday, I'm on the bus right now.
    """
)

REPLIES_OF_AN_ASSISTANT = _lines(
    """
    Got it, I'll remember that. How can I help you today?
    Thanks for sharing! Would you like some tips?
    Understood. A calm routine helps many people in such times.
    Noted. I can draw up a list if that's useful.
    Thank you for the information. What would you like to do next?
    Okay! As a rule, it's good to take one step at a time.
    I see. As an assistant I don't have such experiences myself, but I'm happy to listen.
    Good to know. Shall I look for ideas that fit?
    I understand. Drinking enough water is always a good idea, too.
    Alright. Writing things down often helps people to think.
    Thanks. I'm a computer program, but that sounds very human to me.
    I've made a note of it. Is there a question behind it?
    Sure. Most guides recommend planning such things early.
    Thank you! I'll take it into account from now on.
    """
)

# As in a script: the owner's turn, which holds no fact, and the answer.
CHATTER = _chatter(
    """
    Haha, that's so true! | Right? I knew you'd agree.
    Good morning! | Good morning! Nice to hear from you.
    Thanks, that was really helpful. | You're very welcome!
    What do you think about that? | I think there are good points on both sides.
    Okay, sounds good! | Great, let's leave it at that.
    Wow, really? | Really! It surprised me as well.
    Can you say that again? | Of course: slow and steady is the best way.
    Have a nice evening! | You too, see you soon!
    Sorry, what did you mean by that? | Only that it's worth a second look.
    You're so kind, thank you! | Any time, truly.
    Happy New Year! | Happy New Year to you, too!
    Hm, let me think about it. | Sure, there's no hurry.
    Do you know a good joke? | Why did the bicycle fall over? It was two-tired.
    What day is it today? | A good day to begin something new!
    That made me laugh! | Then it was worth it.
    Hello, are you there? | Yes, here and listening.
    How does a solar eclipse work? | The moon moves between the sun and the earth.
    Great, thanks a lot! | Glad to be of use.
    No way! | Yes way!
    What's the capital of Australia? | It's Canberra.
    """
)

CHATTER_WITH_A_FRIEND = _chatter(
    """
    How was your weekend? | Quiet, I mostly stayed at home and read.
    How's your mum doing? | Much better, she's back on her feet.
    Did you catch the bus in the end? | Just about, I had to run for it.
    What are you up to tonight? | I'm meeting my colleagues for pizza.
    How did your exam go? | I passed! I studied for weeks.
    You look great in that photo! | Thank you, my sister took it at the lake.
    Is your cold any better? | A little, I still sound like a frog.
    Congratulations on your new job! | Thanks! I start on Monday, as a receptionist.
    How was your trip? | Wonderful, I loved the food in Greece.
    Where did you get that recipe? | From my grandmother, she wrote it down for me.
    Shall we talk later? | Yes, I'm free after seven.
    Your dog is adorable! | She is, and she knows it.
    I can't believe you did that! | Neither can I, I'm usually so careful.
    Happy birthday, have a wonderful day! | Thank you! I'm forty now, can you imagine?
    Did your brother call you back? | He did, he's moving to Rome.
    What are you reading at the moment? | A thriller, I'm halfway through.
    Good luck with your interview tomorrow! | Thanks, I'm so nervous about it.
    """
)

CHATTER_WITH_AN_ASSISTANT = _chatter(
    """
    Can you help me with a short poem? | Sure: the rain taps softly, the lamp is warm.
    How do you boil an egg? | Eight minutes in boiling water, then rinse it cold.
    What's the difference between a crocodile and an alligator? | Mostly the shape of the snout.
    How many grams are in an ounce? | About 28 grams.
    Please translate "good night" into French. | It's "bonne nuit".
    Are you a real person? | No, I'm an assistant, a computer program.
    Who wrote Hamlet? | William Shakespeare did.
    Can you explain inflation in one sentence? | Prices rise, so money buys less.
    What rhymes with orange? | Hardly anything, it's a famous problem.
    Why is the sky blue? | The air scatters blue light more than red.
    Give me a word that starts with Q. | How about "quiver"?
    How far away is the moon? | About 384,000 kilometres.
    What's seven times eight? | It's 56.
    How do you remove a coffee stain? | Cold water and a little soap usually do it.
    Stop, that's enough for now. | Alright, I'll be here.
    """
)

# Where the other one goes on with a statement of their own: it is a fact, but not the owner's.
LEADS_OF_A_FRIEND = _lines(
    """
    Thanks for telling me! As for me:
    I see. Here's something from my side:
    Good to know. On my end:
    Okay! And about me:
    Oh, right. Now something about me:
    Got it. In my case:
    """
)
