"""/api/products: the catalogue."""

from functools import partial
from uuid import UUID

from aiohttp import web

from app import app, catalogue, redis_cache, request_pool, settings
from app.cache import PRODUCTS
from app.catalogue import SORTS
from app.errors import ForeignCurrency, ProductNameTaken, StockBelowReserved
from app.identity.tokens import Identity
from web.cursors import NEXT_PAGE, page_of
from web.http.endpoint import Answer, Link, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.answers import Product, ProductPage
from web.shapes.bodies import NewProduct, ProductChanges
from web.shapes.query_strings import ProductsQuery

WITH_PRODUCT = {"product_id": "$response.body#/id"}
ONE_PIECE = {"items": [{"productId": "$response.body#/id", "quantity": 1}]}


@app.page("/api/products")
class ProductsView(View):
    """All products."""

    @endpoint(
        "listProducts",
        Answer(
            200,
            "A page",
            ProductPage,
            links=(
                Link("listProducts", NEXT_PAGE),
                Link("getProduct", {"product_id": "$response.body#/data/0/id"}),
            ),
        ),
        who=Who.USER,
        query=ProductsQuery,
    )
    async def get(self, request: web.Request, user: Identity, query: ProductsQuery) -> web.Response:
        """List products, sorted as `sort` says."""
        filters = [query.sort, query.category]
        find = partial(catalogue.page, request_pool, SORTS[query.sort], query.category)
        return json_response(await page_of(query.cursor, query.limit, filters, find))

    @endpoint(
        "addProduct",
        Answer(
            201,
            "The product",
            Product,
            ("Location",),
            (
                *(Link(name, WITH_PRODUCT) for name in ("getProduct", "changeProduct")),
                Link("placeOrder", body=ONE_PIECE),
            ),
        ),
        who=Who.ADMIN,
        body=NewProduct,
        own_problems=(ProductNameTaken, ForeignCurrency),
    )
    async def post(self, request: web.Request, user: Identity, body: NewProduct) -> web.Response:
        """Add a product to the catalogue."""
        product = await catalogue.create_product(
            request_pool,
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

    @endpoint("getProduct", Answer(200, "The product", Product), who=Who.USER)
    async def get(self, request: web.Request, user: Identity, product_id: UUID) -> web.Response:
        """Return the product."""
        product = await redis_cache.get(
            PRODUCTS, product_id, lambda id: catalogue.get(request_pool, id)
        )
        return json_response(product)

    @endpoint(
        "changeProduct",
        Answer(200, "The product", Product),
        who=Who.ADMIN,
        body=ProductChanges,
        own_problems=(StockBelowReserved,),
    )
    async def patch(
        self, request: web.Request, user: Identity, product_id: UUID, body: ProductChanges
    ) -> web.Response:
        """Change price, description or category, or restock; omitted fields keep their values."""
        return json_response(
            await catalogue.update_product(request_pool, product_id, body.changes())
        )
