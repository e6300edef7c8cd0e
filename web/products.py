"""/api/products: the catalogue."""

from aiohttp import web

from app import app, cache, database, settings, stock
from app.cache import PRODUCTS
from app.errors import InvalidInput, ProductNotFound
from web.bodies import NewProduct, read
from web.problems import View
from web.requests import (
    authenticate,
    authenticate_admin,
    bad_cursor,
    from_cursor,
    json_response,
    page,
    page_limit,
    path_id,
    query_text,
)


@app.page("/api/products")
class ProductsView(View):
    """All products."""

    async def get(self, request: web.Request) -> web.Response:
        """A page of products, in the order that `sort` asks for."""
        authenticate(request)
        limit, category = page_limit(request), query_text(request, "category")
        sort = request.query.get("sort", "productName")
        if sort not in stock.SORTS:
            raise InvalidInput.of("#/sort", f"must be one of {', '.join(stock.SORTS)}")
        filters = [sort, category]
        place = from_cursor(request, filters)
        with bad_cursor():
            entries = await stock.page(database, stock.SORTS[sort], category, place, limit + 1)
        return json_response(page(entries, limit, filters))

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
