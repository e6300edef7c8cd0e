"""Checkout agent: records that a Stripe session has to be created; a worker task makes the call."""

from agents.loop import on
from app import checkout
from app.order_locks import Reads
from app.topics import CheckoutRequested

note_call = on(CheckoutRequested, checkout.note_call, reads=Reads.MONEY)
