"""Simulated applications that write to the sample legacy database in concurrent transactions."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from aurora_sync.embedded.legacy import BASKETS, CUSTOMERS, INVOICES, ORDER_ITEMS
from aurora_sync.errors import SourceError

Changes = Counter[str]


class Writers:
    """A context manager in which ``threads`` threads write to the tables of :func:`legacy.create`.

    The threads insert, update and delete, pause inside transactions, roll back to savepoints, and roll back whole
    transactions. At the end, every thread finishes its transaction and stops. Then SourceError is raised if a thread
    failed. ``seed`` determines the statements of each thread, but not how the threads interleave.
    """

    def __init__(self, dsn: str, seed: int, *, threads: int = 4, pause: float = 0.02) -> None:
        """``pause`` is the mean time between two statements of a thread, in seconds."""
        self._dsn = dsn
        self._pause = pause
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self._committed: Changes = Counter()
        self._failures: list[psycopg2.Error] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(f"{seed} {number}"),), name=f"writer {number}")
            for number in range(threads)
        ]

    @property
    def committed(self) -> Changes:
        """Numbers of rows committed so far: ``"<table> inserted"``, ``"... updated"``, ``"... deleted"``; and of
        committed ``"transactions"``."""
        with self._counting:
            return self._committed.copy()

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failures and error is None:
            raise SourceError(f"a writer failed: {self._failures[0]}") from self._failures[0]

    def _work(self, dice: random.Random) -> None:
        try:
            with contextlib.closing(psycopg2.connect(self._dsn)) as connection:
                while not self._stopping.is_set():
                    changes = self._transaction(connection, dice)
                    with self._counting:
                        self._committed += changes
        except psycopg2.Error as error:
            self._failures.append(error)

    def _transaction(self, connection: Connection, dice: random.Random) -> Changes:
        """Run one transaction. Return the changes that it committed."""
        try:
            with connection.cursor() as cursor:
                changes = self._statements(cursor, dice)
        except (psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation):
            # Conflicts with other transactions on the same rows. An application would retry.
            connection.rollback()
            return Counter()
        if dice.random() < 0.1:
            connection.rollback()
            return Counter()
        connection.commit()
        return changes + Counter(transactions=1)

    def _statements(self, cursor: Cursor, dice: random.Random) -> Changes:
        kept: Changes = Counter()
        for _ in range(dice.randint(1, 4)):
            action = dice.choices(_ACTIONS, _WEIGHTS)[0]
            cursor.execute("SAVEPOINT before")
            changes = action(cursor, dice)
            if dice.random() < 0.2:
                cursor.execute("ROLLBACK TO SAVEPOINT before")
            else:
                kept += changes
                if dice.random() < 0.5:
                    cursor.execute("RELEASE SAVEPOINT before")
            # Pauses inside transactions make ids and timestamps commit out of order.
            self._stopping.wait(dice.expovariate(1 / self._pause))
        return kept


def _order(cursor: Cursor, dice: random.Random) -> Changes:
    """Insert an order with its items and its invoice."""
    cursor.execute(
        "INSERT INTO legacy.orders (customer_id, channel, ordered_at, total, note)"
        " VALUES (%s, %s, clock_timestamp(), %s, %s) RETURNING order_id, total",
        (
            dice.randint(1, CUSTOMERS),
            dice.choice(("web", "phone", "shop")),
            dice.randint(500, 90000) / 100,
            dice.choice((None, 'two lines\nof "note", it\'s urgent', "ünïcödé ✓")),
        ),
    )
    order_id, total = cursor.fetchone() or (0, 0)
    items = dice.randint(1, 3)
    for _ in range(items):
        cursor.execute(
            "INSERT INTO legacy.order_items (order_id, sku, quantity, unit_price) VALUES (%s, %s, %s, %s)",
            (order_id, f"SKU-{dice.randint(0, 4000):04}", dice.randint(1, 9), dice.randint(1, 3000000) / 10000),
        )
    cursor.execute(
        "INSERT INTO legacy.invoices (invoice_no, order_id, amount, tax_rate, due_on, details)"
        ' VALUES (%s, %s, %s, 0.19, current_date + 30, \'{"terms": "30 days net"}\')',
        (f"S{order_id:08}", order_id, total),
    )
    return Counter({"orders inserted": 1, "order_items inserted": items, "invoices inserted": 1})


def _audit(cursor: Cursor, dice: random.Random) -> Changes:
    """Insert a line into the audit trail, sometimes twice."""
    lines = dice.randint(1, 2)
    cursor.execute(
        "INSERT INTO legacy.audit_trail SELECT now()::timestamp, 'writer', %s, '::1', NULL, NULL"
        " FROM generate_series(1, %s)",
        (dice.choice(("login", "refund")), lines),
    )
    return Counter({"audit_trail inserted": lines})


def _customers(cursor: Cursor, dice: random.Random) -> Changes:
    cursor.execute(
        "UPDATE legacy.customers SET balance = balance + %s, preferences = preferences || %s"
        " WHERE customer_id = ANY(%s)",
        (
            dice.randint(-5000, 5000) / 100,
            f'{{"visits": {dice.randint(1, 99)}}}',
            [dice.randint(1, CUSTOMERS) for _ in range(3)],
        ),
    )
    return Counter({"customers updated": cursor.rowcount})


def _pay(cursor: Cursor, dice: random.Random) -> Changes:
    cursor.execute(
        "UPDATE legacy.invoices SET paid = true, paid_within = %s * interval '1 hour' WHERE invoice_no = %s",
        (dice.randint(1, 700), f"R{dice.randint(1, INVOICES):08}"),
    )
    return Counter({"invoices updated": cursor.rowcount})


def _items(cursor: Cursor, dice: random.Random) -> Changes:
    first = dice.randint(1, ORDER_ITEMS - 20)
    cursor.execute(
        "UPDATE legacy.order_items SET quantity = 1 + quantity %% 9 WHERE item_id BETWEEN %s AND %s",
        (first, first + dice.randint(0, 20)),
    )
    return Counter({"order_items updated": cursor.rowcount})


def _country(cursor: Cursor, dice: random.Random) -> Changes:
    """Insert, update or delete one of the countries X0 to Z9, which the sample does not have."""
    code = dice.choice("XYZ") + dice.choice("0123456789")
    if dice.random() < 0.4:
        cursor.execute("DELETE FROM legacy.countries WHERE code = %s", (code,))
        return Counter({"countries deleted": cursor.rowcount})
    cursor.execute(
        "INSERT INTO legacy.countries VALUES (%s, %s, 'EUR', %s, current_date)"
        " ON CONFLICT (code) DO UPDATE SET vat_rate = excluded.vat_rate RETURNING xmax = 0",
        (code, f"Country '{code}'", dice.randint(0, 27)),
    )
    return Counter({"countries inserted" if cursor.fetchone() == (True,) else "countries updated": 1})


def _basket(cursor: Cursor, dice: random.Random) -> Changes:
    """Insert, update or delete a basket, or change its key."""
    basket = dice.randint(1, 2 * BASKETS)
    kind = dice.random()
    if kind < 0.2:
        cursor.execute("DELETE FROM legacy.baskets WHERE basket_id = %s", (basket,))
        return Counter({"baskets deleted": cursor.rowcount})
    if kind < 0.3:
        cursor.execute(
            "UPDATE legacy.baskets SET basket_id = %s WHERE basket_id = %s"
            " AND NOT EXISTS (SELECT FROM legacy.baskets WHERE basket_id = %s)",
            (3 * BASKETS + basket, basket, 3 * BASKETS + basket),
        )
        return Counter({"baskets updated": cursor.rowcount})
    cursor.execute(
        "INSERT INTO legacy.baskets VALUES (%s, %s, 1, %s) ON CONFLICT (basket_id)"
        " DO UPDATE SET items = 1 + baskets.items %% 90, total = baskets.total + excluded.total RETURNING xmax = 0",
        (basket, dice.randint(1, CUSTOMERS), dice.randint(100, 9900) / 100),
    )
    return Counter({"baskets inserted" if cursor.fetchone() == (True,) else "baskets updated": 1})


_ACTIONS: list[Callable[[Cursor, random.Random], Changes]] = [
    *(_order, _audit, _customers, _pay, _items, _country, _basket)
]
_WEIGHTS = [4, 2, 4, 2, 2, 1, 4]
