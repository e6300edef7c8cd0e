"""Inventory agents: reserve the stock of paid orders, all lines or none, and release it."""

from agents.loop import on
from app import stock
from app.order_locks import Reads
from app.topics import OrderCancelled, OrderPaid

reserve = on(OrderPaid, stock.reserve, reads=Reads.STOCK, moves_stock=True)
release = on(OrderCancelled, stock.release, moves_stock=True)
