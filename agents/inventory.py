"""Inventory: sets aside what was paid for, whole orders or none, and gives it back."""

from agents.loop import on
from app import stock
from app.topics import OrderCancelled, OrderPaid

reserve = on(OrderPaid, stock.reserve)
release = on(OrderCancelled, stock.release)
