"""A shop of four services, one file each: orders over HTTP, RPC and durable events between them, a live page. A fifth is the customers.

```sh
cliffracer run examples.shop
```

Then open http://127.0.0.1:8000/ and send some customers, by the buttons there or from another terminal:

```sh
$ curl -s http://127.0.0.1:8000/crowd --json '{"orders": 10, "per_second": 50}'
{"orders":10,"per_second":50}
```

Or place a few hundred orders, good and bad, and have the books checked:

```sh
$ python -m examples.shop.drive --orders 100
ok    no order is left open
...
ok    everybody was written to, once
...
```
"""

from examples.shop.crowd import app as crowd
from examples.shop.inventory import app as inventory
from examples.shop.notifications import app as notifications
from examples.shop.orders import app as orders
from examples.shop.payments import app as payments

__all__ = ["crowd", "inventory", "notifications", "orders", "payments"]
