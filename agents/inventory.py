"""Inventory: sets aside what was paid for, whole orders or none, and gives it back."""

from agents.loop import on
from app import stock
from app.order_rows import Reads
from app.topics import OrderCancelled, OrderPaid

reserve = on(OrderPaid, stock.reserve, reads=Reads.STOCK)
release = on(OrderCancelled, stock.release)
