"""A shop of four services, one file each. Run them together: ``cliffracer run examples.shop``.

Then ``python -m examples.shop.drive`` places a few hundred orders and checks the books, and http://127.0.0.1:8000/ shows them.
"""

from examples.shop.inventory import app as inventory
from examples.shop.notifications import app as notifications
from examples.shop.orders import app as orders
from examples.shop.payments import app as payments

__all__ = ["inventory", "notifications", "orders", "payments"]
