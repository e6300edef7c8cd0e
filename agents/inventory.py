"""Inventory: sets aside what was paid for, whole orders or nothing."""

from agents.loop import on
from app import stock
from app.topics import OrderPaid

reserve = on(OrderPaid, stock.reserve)
