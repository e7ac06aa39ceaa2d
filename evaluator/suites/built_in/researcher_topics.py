"""What the comparisons are about: kinds of things, their names, and what can be said of them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Unit:
    """A unit that a source may use.

    Attributes:
        symbol: as it stands behind a number.
        factor: the field's unit per one of this.
        note: the conversion as the prompt gives it; empty for the field's own unit.
    """

    symbol: str
    factor: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class Field:
    """Something that can be said of an item.

    Attributes:
        key: its name in the answer, unit included.
        meaning: what it is, for the task's list of fields.
        says: sentences with `{item}` and `{value}`.
        units: the first is the field's own.
        values: what it may be, in its own unit, or the words of a field without a winner.
        wins: "lowest" or "highest"; empty for a field of words.
    """

    key: str
    meaning: str
    says: tuple[str, ...]
    values: tuple[float | str, ...]
    wins: str = ""
    units: tuple[Unit, ...] = (Unit(""),)


@dataclass(frozen=True)
class Topic:
    """A kind of thing to compare.

    Attributes:
        key: of the family.
        thing: what one is called.
        asker: who wants to know, and what for.
        names: invented names of items.
        fields: what is asked about.
        rumour: a sentence with `{item}` about the future or hearsay, which decides nothing.
        domain: of the task.
    """

    key: str
    thing: str
    asker: str
    names: tuple[str, ...]
    fields: tuple[Field, ...]
    rumour: str
    domain: str = "general"


def _steps(low: float, high: float, step: float) -> tuple[float, ...]:
    count = round((high - low) / step) + 1
    return tuple(round(low + index * step, 6) for index in range(count))


_EUR: Final = (
    Unit("EUR"),
    Unit("USD", 0.92, "1 USD = 0.92 EUR"),
    Unit("GBP", 1.18, "1 GBP = 1.18 EUR"),
)
_KG: Final = (Unit("kg"), Unit("lb", 0.4536, "1 lb = 0.4536 kg"), Unit("g", 0.001, "1 kg = 1000 g"))
_HOURS: Final = (Unit("hours"), Unit("minutes", 1 / 60, "1 hour = 60 minutes"))
_MONTHS: Final = (Unit("months"), Unit("years", 12, "1 year = 12 months"))
_GB: Final = (Unit("GB"), Unit("TB", 1000, "1 TB = 1000 GB"), Unit("MB", 0.001, "1 GB = 1000 MB"))
_MS: Final = (Unit("ms"), Unit("s", 1000, "1 s = 1000 ms"))
_KM: Final = (Unit("km"), Unit("miles", 1.609, "1 mile = 1.609 km"))
_CM: Final = (Unit("cm"), Unit("inches", 2.54, "1 inch = 2.54 cm"), Unit("mm", 0.1, "1 cm = 10 mm"))
_LITRES: Final = (Unit("litres"), Unit("US gallons", 3.785, "1 US gallon = 3.785 litres"))
_PER_MONTH: Final = (
    Unit("EUR per month"),
    Unit("EUR per year", 1 / 12, "a yearly price is twelve monthly ones"),
    Unit("USD per month", 0.92, "1 USD = 0.92 EUR"),
)
_WATT: Final = (Unit("W"), Unit("kW", 1000, "1 kW = 1000 W"))
_DAYS: Final = (Unit("days"), Unit("weeks", 7, "1 week = 7 days"))


def _price(low: float, high: float, step: float) -> Field:
    says = (
        "{item} costs {value}",
        "the price of {item} is {value}",
        "{item} sells for {value}",
        "we were quoted {value} for {item}",
    )
    return Field("price_eur", "price in euros", says, _steps(low, high, step), "lowest", _EUR)


def _monthly(low: float, high: float, step: float) -> Field:
    says = (
        "{item} charges {value}",
        "a seat at {item} comes to {value}",
        "{item} is billed at {value}",
        "what you pay for {item} is {value}",
    )
    values = _steps(low, high, step)
    return Field("fee_eur_month", "fee in euros per month", says, values, "lowest", _PER_MONTH)


def _weight(low: float, high: float, step: float) -> Field:
    says = (
        "{item} weighs {value}",
        "on our scale {item} came to {value}",
        "the weight of {item} is {value}",
    )
    return Field("weight_kg", "weight in kilograms", says, _steps(low, high, step), "lowest", _KG)


def _warranty() -> Field:
    says = (
        "the warranty of {item} runs for {value}",
        "{item} is covered for {value}",
        "the maker repairs {item} free of charge for {value}",
    )
    values = (12.0, 18.0, 24.0, 36.0, 48.0, 60.0, 84.0)
    return Field("warranty_months", "warranty in months", says, values, "highest", _MONTHS)


def _words(key: str, meaning: str, says: tuple[str, ...], values: tuple[str, ...]) -> Field:
    return Field(key, meaning, says, values)


def _number(
    key: str,
    meaning: str,
    wins: str,
    values: tuple[float, ...],
    says: tuple[str, ...],
    units: tuple[Unit, ...],
) -> Field:
    return Field(key, meaning, says, values, wins, units)


def _latency(low: float, high: float, step: float, what: str) -> Field:
    return _number(
        "latency_ms", f"{what} in milliseconds", "lowest", _steps(low, high, step),
        ("{item} answers after {value}", "we measured {value} at {item}",
         "{item} needs {value} for one request"), _MS,
    )  # fmt: skip


def _storage(low: float, high: float, step: float) -> Field:
    return _number(
        "storage_gb", "storage included, in gigabytes", "highest", _steps(low, high, step),
        ("{item} includes {value}", "with {item} you get {value} of storage",
         "storage at {item} ends at {value}"), _GB,
    )  # fmt: skip


def _downtime() -> Field:
    return _number(
        "downtime_hours_year", "hours down per year", "lowest", _steps(2, 44, 3),
        ("{item} was down for {value} last year", "in twelve months {item} failed for {value}",
         "outages of {item} add up to {value} a year"), _HOURS,
    )  # fmt: skip


def _battery(low: float, high: float, step: float) -> Field:
    return _number(
        "battery_hours", "running time on one charge, in hours", "highest", _steps(low, high, step),
        ("{item} runs for {value} on a charge", "after {value} the battery of {item} was empty",
         "one charge keeps {item} going for {value}"), _HOURS,
    )  # fmt: skip


def _delivery(low: float, high: float) -> Field:
    return _number(
        "delivery_days", "delivery time in days", "lowest", _steps(low, high, 7.0),
        ("{item} is delivered within {value}", "expect to wait {value} for {item}",
         "{item} takes {value} to arrive"), _DAYS,
    )  # fmt: skip


def _width(low: float, high: float) -> Field:
    return _number(
        "width_cm", "width in centimetres", "lowest", _steps(low, high, 4.0),
        ("{item} is {value} wide", "{item} takes up {value} across",
         "from side to side {item} measures {value}"), _CM,
    )  # fmt: skip


def _power(low: float, high: float, step: float, wins: str = "lowest") -> Field:
    return _number(
        "power_w", "power in watts", wins, _steps(low, high, step),
        ("{item} draws {value}", "the plate on {item} reads {value}",
         "the rated power of {item} is {value}"), _WATT,
    )  # fmt: skip


def _licence() -> Field:
    return _words(
        "licence", "licence",
        ("{item} is published under {value}", "the licence file of {item} says {value}",
         "{item} comes under the terms of {value}"),
        ("MIT", "Apache-2.0", "BSD-3-Clause", "MPL-2.0", "GPL-3.0"),
    )  # fmt: skip


def _region() -> Field:
    return _words(
        "region", "where the data is kept",
        ("{item} keeps its data in {value}", "the servers of {item} stand in {value}",
         "data given to {item} rests in {value}"),
        ("Ireland", "Finland", "Frankfurt", "Warsaw", "Lisbon", "Oslo"),
    )  # fmt: skip


def _colour() -> Field:
    return _words(
        "colour", "colour",
        ("{item} comes in {value}", "we saw {item} in {value} only", "{item} is made in {value}"),
        ("black", "graphite", "olive", "white", "navy", "sand"),
    )  # fmt: skip


def _connector() -> Field:
    return _words(
        "connector", "connector",
        ("{item} has a {value} port", "{item} is plugged in by {value}",
         "the socket on {item} is {value}"),
        ("USB-C", "DisplayPort", "HDMI", "Ethernet"),
    )  # fmt: skip


def _range(low: float, high: float, step: float) -> Field:
    return _number(
        "range_km", "range in kilometres", "highest", _steps(low, high, step),
        ("{item} gets {value} far", "our test ride on {item} ended after {value}",
         "the range of {item} is given as {value}"), _KM,
    )  # fmt: skip


def _users(low: float, high: float, step: float) -> Field:
    return _number(
        "max_users", "most users", "highest", _steps(low, high, step),
        ("{item} allows {value}", "no more than {value} fit into one account of {item}",
         "{item} can be shared by {value}"), (Unit("users"),),
    )  # fmt: skip


def _volume(low: float, high: float, step: float, what: str) -> Field:
    return _number(
        "volume_litres", f"{what} in litres", "highest", _steps(low, high, step),
        ("{item} holds {value}", "we filled {value} into {item}",
         "the capacity of {item} is {value}"), _LITRES,
    )  # fmt: skip


def _throughput(low: float, high: float, step: float) -> Field:
    units = (Unit("requests/s"), Unit("requests/min", 1 / 60, "1 minute = 60 seconds"))
    return _number(
        "requests_per_s", "throughput in requests per second", "highest", _steps(low, high, step),
        ("{item} served {value}", "at {value} {item} was saturated",
         "{item} sustains {value} on one machine"), units,
    )  # fmt: skip


def _memory(low: float, high: float, step: float) -> Field:
    units = (Unit("MB"), Unit("GB", 1000, "1 GB = 1000 MB"))
    return _number(
        "memory_mb", "memory in use, in megabytes", "lowest", _steps(low, high, step),
        ("{item} takes {value} of memory", "under load {item} settled at {value}",
         "{item} wants {value} of RAM"), units,
    )  # fmt: skip


def _retention(low: float, high: float) -> Field:
    return _number(
        "retention_days", "how long data is kept, in days", "highest", _steps(low, high, 7.0),
        ("{item} keeps everything for {value}", "after {value} {item} deletes old data",
         "the archive of {item} goes back {value}"), _DAYS,
    )  # fmt: skip


TOPICS: Final = (
    Topic("e-bikes", "e-bike", "The city library wants e-bikes for its book couriers.",
          ("Corvo", "Lindra", "Maro 3", "Pellworm", "Quist", "Tarn"),
          (_price(1400, 3600, 150), _weight(16, 30, 1.5), _range(40, 140, 10), _warranty(),
           _colour()),
          "A dealer hinted that {item} may get a bigger battery next spring."),
    Topic("queues", "message queue", "Our backend team has to settle on a message queue.",
          ("Hermod", "Postrider", "Quill MQ", "Runnel", "Sluice", "Tapline"),
          (_throughput(1200, 9600, 600), _latency(2, 60, 4, "delivery time"),
           _memory(150, 1800, 150), _licence(), _retention(7, 91)),
          "Rumour has it that the next release of {item} will be twice as fast.", "backend"),
    Topic("laptops", "laptop", "A law firm is replacing the laptops of its travelling staff.",
          ("Aster 14", "Brisk 13", "Calder X", "Denholm", "Elmet Pro", "Fjell 15"),
          (_price(800, 2200, 100), _weight(1.0, 2.6, 0.2), _battery(6, 22, 2), _warranty(),
           _connector()),
          "Somebody in the shop believed {item} would become cheaper after the summer."),
    Topic("hosting", "hosting plan", "A choir is moving its website to another host.",
          ("Ambra", "Birkhost", "Cloudfell", "Dunlin", "Eyrie", "Fathom"),
          (_monthly(3, 36, 3), _storage(20, 400, 20), _downtime(), _region(), _users(5, 60, 5)),
          "The sales desk of {item} speaks of a new data centre, without saying when.", "web"),
    Topic("coffee", "coffee machine", "The kitchen on our third floor needs a coffee machine.",
          ("Barro", "Crema 2", "Doppio", "Espera", "Fuoco", "Grano"),
          (_price(180, 960, 60), _power(900, 2400, 150), _volume(1.0, 4.5, 0.5, "water tank"),
           _width(20, 60), _warranty()),
          "My aunt heard that {item} will soon be made in a smaller size."),
    Topic("monitoring", "monitoring service", "Operations asked for one monitoring service.",
          ("Argus One", "Beholder", "Cairn", "Dial", "Ember", "Foresight"),
          (_monthly(12, 132, 12), _retention(7, 119), _users(10, 150, 10),
           _latency(40, 900, 60, "alert delay"), _region()),
          "On a conference slide {item} announced longer retention for next year.", "devops"),
    Topic("phones", "field phone", "The mountain rescue is choosing phones for its crews.",
          ("Gavia", "Harrier", "Ibex S", "Jackdaw", "Kestrel", "Lanner"),
          (_price(240, 900, 60), _weight(0.15, 0.45, 0.03), _battery(10, 70, 6),
           _storage(32, 512, 32), _colour()),
          "It is said that {item} will get a brighter screen.", "mobile"),
    Topic("desks", "standing desk", "An architect's office is buying desks that go up and down.",
          ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir"),
          (_price(320, 1200, 80), _weight(28, 70, 4), _width(100, 200), _delivery(7, 77),
           _warranty()),
          "The maker of {item} plans a lighter frame, perhaps."),
    Topic("databases", "managed database", "We want somebody else to run our database.",
          ("Basalt", "Chert", "Dolomite", "Eclogite", "Flint", "Gneiss"),
          (_monthly(24, 300, 24), _storage(50, 900, 50), _latency(1, 40, 3, "time of a read"),
           _downtime(), _region()),
          "A blog expects {item} to double its storage at some point.", "backend"),
    Topic("printers", "3D printer", "A school workshop is looking for a 3D printer.",
          ("Ferrule", "Grommet", "Hinge", "Inlay", "Jig", "Knurl"),
          (_price(220, 1400, 80), _weight(7, 31, 2), _power(120, 720, 60), _width(32, 80),
           _connector()),
          "Fans expect that {item} will print metal one day."),
    Topic("backup", "backup service", "The parish office lost its files once and wants a backup.",
          ("Attic", "Bunker", "Cellar", "Depot", "Entresol", "Granary"),
          (_monthly(2, 30, 2), _storage(100, 2000, 100), _retention(14, 140), _region(),
           _users(2, 24, 2)),
          "The support chat of {item} was not sure whether prices will rise.", "devops"),
    Topic("frameworks", "web framework", "Two of us should recommend a web framework by Friday.",
          ("Arbor", "Bracken", "Clover", "Dandelion", "Erica", "Fescue"),
          (_throughput(600, 7800, 600), _latency(5, 95, 10, "time of a page"),
           _memory(40, 480, 40), _licence(), _number(
               "open_issues", "open issues", "lowest", _steps(20, 620, 40),
               ("{item} has {value}", "the tracker of {item} lists {value}",
                "people have filed {value} against {item}"), (Unit("open issues"),))),
          "One of its authors would like to make {item} smaller.", "web"),
    Topic("tents", "tent", "Our scout group camps in Norway and needs tents.",
          ("Abisko", "Bivouac", "Cairnhut", "Dovre", "Etna", "Fells"),
          (_price(160, 880, 60), _weight(1.4, 6.2, 0.4), _width(120, 280), _delivery(7, 56),
           _colour()),
          "Next season's {item} might be waterproof to a higher standard."),
    Topic("freezers", "freezer", "The food bank must replace its freezer before the summer.",
          ("Boreas", "Calving", "Drift", "Esker", "Firn", "Glacier 9"),
          (_price(280, 1240, 80), _volume(90, 450, 30, "usable space"), _power(60, 260, 20),
           _width(48, 100), _warranty()),
          "A newspaper guessed that {item} will be discontinued."),
    Topic("translation", "translation API", "The museum wants its labels translated by machine.",
          ("Babelfish Co", "Calque", "Dragoman", "Exegete", "Gloss", "Hermeneut"),
          (_monthly(9, 117, 9), _latency(80, 1400, 120, "answering time"),
           _throughput(12, 240, 12), _downtime(), _region()),
          "Investors were told that {item} will speak forty more languages.", "data-science"),
    Topic("sensors", "air sensor", "The council measures the air at twelve crossings.",
          ("Aeolus", "Breeze", "Chinook", "Doldrum", "Etesian", "Foehn"),
          (_price(45, 420, 25), _battery(24, 240, 24), _weight(0.1, 1.3, 0.1), _power(1, 13, 1),
           _connector()),
          "An engineer hopes that {item} can be solar powered some day."),
    Topic("gpus", "rented GPU", "For a summer course we rent GPUs by the month.",
          ("Anvil", "Bellows", "Crucible", "Forge", "Hearth", "Kiln"),
          (_monthly(120, 1320, 120), _number(
              "gpu_memory_gb", "GPU memory in gigabytes", "highest", (8.0, 12.0, 16.0, 24.0, 40.0,
                                                                      48.0, 80.0),
              ("{item} comes with {value} on the card", "a model of {value} still fits on {item}",
               "{item} has {value} of GPU memory"), _GB),
           _storage(100, 1500, 100), _downtime(), _region()),
          "A tweet claims that {item} is about to lower its prices.", "data-science"),
    Topic("scooters", "cargo scooter", "A bakery delivers by scooter and compares three dealers.",
          ("Alto", "Brio", "Canto", "Dolce", "Forte", "Largo"),
          (_price(1900, 6400, 300), _range(50, 170, 10), _volume(60, 300, 20, "cargo box"),
           _weight(70, 150, 8), _delivery(7, 84)),
          "By next year {item} could have a second battery, the dealer thought."),
    Topic("ci", "CI service", "The build takes too long, so we look at other CI services.",
          ("Assay", "Bobbin", "Conveyor", "Derrick", "Ferryman", "Gantry"),
          (_monthly(15, 195, 15), _number(
              "build_minutes", "time of our build in minutes", "lowest", _steps(3, 33, 2),
              ("our build took {value} on {item}", "{item} finished after {value}",
               "it was {value} before {item} turned green"),
              (Unit("minutes"), Unit("seconds", 1 / 60, "1 minute = 60 seconds"))),
           _storage(5, 95, 5), _users(4, 64, 4), _region()),
          "The road map of {item} lists faster machines as an idea.", "devops"),
    Topic("pumps", "garden pump", "The allotment society has to buy one pump for its well.",
          ("Arroyo", "Beck", "Creek", "Dyke", "Freshet", "Gill"),
          (_price(90, 660, 30), _power(250, 1450, 100), _weight(4, 22, 1.5), _number(
              "flow_litres_min", "flow in litres per minute", "highest", _steps(20, 170, 10),
              ("{item} moves {value}", "at the well {item} brought {value}",
               "the flow of {item} is {value}"),
              (Unit("litres/min"), Unit("litres/hour", 1 / 60, "1 hour = 60 minutes"))),
           _warranty()),
          "Neighbours say that {item} is going to be copied by a cheaper brand."),
)  # fmt: skip
"""Families of the suite; all names are invented."""
