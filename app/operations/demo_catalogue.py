"""The demo catalogue."""

from app import catalogue
from app.db.pools import Database
from app.errors import ProductNameTaken

DEMO = [
    ("DEFAULT_PRODUCT", 9999, 100, None),
    ("Espresso machine", 64900, 2_000, "kitchen"),
    ("Kettle", 12950, 5_000, "kitchen"),
    ("Cast-iron pan", 18900, 5_000, "kitchen"),
    ("Chef's knife", 24900, 5_000, "kitchen"),
    ("Chopping board", 7900, 8_000, "kitchen"),
    ("Desk lamp", 15900, 5_000, "home"),
    ("Wool blanket", 22900, 5_000, "home"),
    ("Wall clock", 8990, 5_000, "home"),
    ("Door mat", 4990, 8_000, "home"),
    ("Notebook", 1990, 50_000, "paper"),
    ("Fountain pen", 14900, 5_000, "paper"),
    ("Ink, blue", 2990, 20_000, "paper"),
    ("Envelope", 49, 100_000, "paper"),
    ("Postcard", 350, 100_000, "paper"),
    ("Bicycle bell", 3990, 8_000, "outdoor"),
    ("Rain jacket", 34900, 3_000, "outdoor"),
    ("Tent for two", 89900, 1_000, "outdoor"),
    ("Head torch", 11900, 5_000, "outdoor"),
    ("Water bottle", 5990, 10_000, "outdoor"),
    ("Last umbrella", 6990, 3, "outdoor"),
]
"""Name, price in minor units, pieces, category."""


async def fill_catalogue(database: Database, currency: str) -> int:
    """Add the demo products that do not exist yet, and return how many were added."""
    added = 0
    for name, price_minor, quantity, category in DEMO:
        try:
            await catalogue.create_product(
                database,
                name=name,
                price_minor=price_minor,
                currency=currency,
                quantity=quantity,
                description=None,
                category=category,
            )
            added += 1
        except ProductNameTaken:
            continue
    return added
