"""A shop of four services, one file each: orders over HTTP, RPC and durable events between them, a live page.

```sh
cliffracer run examples.shop
```

Then open http://127.0.0.1:8000/, and in another terminal place a few hundred orders, good and bad, and have the books checked:

```sh
$ python -m examples.shop.drive --orders 100
ok    no order is left open
...
ok    everybody was written to, once
...
```
"""

from examples.shop.inventory import app as inventory
from examples.shop.notifications import app as notifications
from examples.shop.orders import app as orders
from examples.shop.payments import app as payments

__all__ = ["inventory", "notifications", "orders", "payments"]
