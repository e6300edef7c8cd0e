"""Payment agents: capture requested payments, and refund money that an order may not keep."""

from agents.loop import on
from app import payments
from app.order_locks import Reads
from app.topics import OrderCancelled, PaymentRequested, RefundRequested

capture = on(PaymentRequested, payments.capture, reads=Reads.MONEY)
request_refunds = on(OrderCancelled, payments.request_refunds, reads=Reads.MONEY)
refund = on(RefundRequested, payments.refund, reads=Reads.MONEY)
