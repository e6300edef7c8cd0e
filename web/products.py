"""/api/products: the catalogue."""

from typing import Any
from uuid import UUID

from aiohttp import web

from app import app, cache, database, settings, stock
from app.cache import PRODUCTS
from app.errors import ProductNotFound
from web.bodies import NewProduct, read
from web.problems import View
from web.requests import (
    authenticate,
    authenticate_admin,
    from_cursor,
    json_response,
    page,
    page_limit,
    path_id,
    to_cursor,
)


@app.page("/api/products")
class ProductsView(View):
    """All products."""

    async def get(self, request: web.Request) -> web.Response:
        """A page of products, by name."""
        authenticate(request)
        limit, category = page_limit(request), request.query.get("category")
        filters = [category]
        place = from_cursor(request, filters)
        after = (place[0], UUID(place[1])) if place else None
        entries = await stock.page(database, category, after, limit + 1)

        def cursor(last: dict[str, Any]) -> str:
            return to_cursor(filters, [last["productName"], last["id"]])

        return json_response(page(entries, limit, cursor))

    async def post(self, request: web.Request) -> web.Response:
        """Add a product."""
        authenticate_admin(request)
        body = await read(request, NewProduct)
        product = await stock.create_product(
            database,
            name=body.product_name,
            price_minor=body.price,
            currency=settings.currency,
            quantity=body.quantity,
            description=body.description,
            category=body.category,
        )
        location = {"Location": f"/api/products/{product['id']}"}
        return json_response(product, 201, location)


@app.page("/api/products/{product_id}")
class ProductView(View):
    """One product."""

    async def get(self, request: web.Request, product_id: str) -> web.Response:
        """The product, from the cache where it is there."""
        authenticate(request)
        id = path_id(product_id, ProductNotFound)
        return json_response(await cache.get(PRODUCTS, id, lambda id: stock.get(database, id)))
