"""Order status agents: apply the results of payment and inventory, and store creation answers."""

from agents.loop import on
from app import orders
from app.order_locks import Reads
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    OrderCreated,
    PaymentFailed,
    PaymentSucceeded,
)
from tables import replays

mark_paid = on(PaymentSucceeded, orders.mark_paid, reads=Reads.MONEY)
cancel_unpaid = on(PaymentFailed, orders.cancel_unpaid, reads=Reads.MONEY)
complete = on(InventoryReserved, orders.complete)
cancel_unstocked = on(InventoryRejected, orders.cancel_unstocked)
remember_creation = on(OrderCreated, remember=replays.remember)
