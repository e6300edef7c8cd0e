"""`python -m devstack.stripe PORT WEBHOOK_URL`, with the keys in the environment."""

import logging
import os
import sys

from aiohttp import web

from devstack.stripe.serve import application


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not arguments[0].isdecimal():
        print("usage: python -m devstack.stripe PORT WEBHOOK_URL", file=sys.stderr)
        return 2
    port, webhook_url = int(arguments[0]), arguments[1]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app = application(
        f"http://localhost:{port}",
        os.environ["STRIPE_SECRET_KEY"],
        [one.strip() for one in os.environ["STRIPE_WEBHOOK_SECRET"].split(",") if one.strip()],
        webhook_url,
    )
    web.run_app(app, host="127.0.0.1", port=port, print=None, shutdown_timeout=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
