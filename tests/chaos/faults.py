"""What is done to the product. Each fault returns a few words of what it hit, empty where there was nothing to hit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django_q.models import OrmQ

from chaos.product import SERVICES, Process, Product

STILL_SECONDS = (1.0, 5.0)
LEASE_SECONDS = 36.0  # longer than a lease: its owner wakes up and finds that it is somebody else's
LOCK_SECONDS = (1.0, 8.0)
FULL_SECONDS = (1.0, 4.0)
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    weight: int
    strike: Callable[[], str]


def all_of(product: Product, draw: random.Random) -> list[Fault]:
    hit = _Hit(product, draw)
    kills = [Fault(f"kill {name}", 4, lambda name=name: hit.kill(hit.service(name))) for name in SERVICES]
    found = [
        *kills,
        Fault("kill engine", 12, hit.kill_engine),
        Fault("kill fork server", 6, hit.kill_fork_server),
        Fault("kill in the pool of train", 12, lambda: hit.kill(hit.member("train"))),
        Fault("kill in the pool of fast", 4, lambda: hit.kill(hit.member("fast"))),
        Fault("kill up", 4, hit.kill_up),
        Fault("kill everything", 3, hit.kill_everything),
        Fault("stop engine", 6, lambda: hit.stop(hit.engine(), STILL_SECONDS)),
        Fault("stop in the pool of train", 4, lambda: hit.stop(hit.member("train"), STILL_SECONDS)),
        Fault("stop train until its leases end", 1, lambda: hit.stop(hit.member("train"), (LEASE_SECONDS,) * 2)),
        Fault("terminate train", 3, hit.terminate_train),
    ]
    if settings.BROKER_URL == "":
        found += [Fault("lose messages", 5, hit.lose_messages), Fault("double messages", 4, hit.double_messages)]
    if connection.vendor == "sqlite":
        found.append(Fault("lock the database", 5, hit.lock_database))
    else:
        found.append(Fault("cut the database's connections", 8, hit.cut_connections))
    if os.path.ismount(product.data_dir):
        found.append(Fault("fill the disk", 3, hit.fill_disk))
    return found


class _Hit:
    def __init__(self, product: Product, draw: random.Random) -> None:
        self._product, self._draw = product, draw

    def service(self, name: str) -> Process | None:
        return self._product.service(name)

    def member(self, slot: str) -> Process | None:
        pool = self._product.pool(slot)
        return self._draw.choice(pool) if pool else None

    def engine(self) -> Process | None:
        engines = self._product.engines()
        return self._draw.choice(engines) if engines else None

    def kill(self, process: Process | None) -> str:
        return str(process.pid) if process is not None and process.send(signal.SIGKILL) else ""

    def kill_engine(self) -> str:
        return self.kill(self.engine())

    def kill_fork_server(self) -> str:
        servers = self._product.fork_servers()
        return self.kill(self._draw.choice(servers) if servers else None)

    def kill_up(self) -> str:
        self._product.kill()
        self._product.start()
        return "started again"

    def kill_everything(self) -> str:
        """The machine's power, without the loss of what was not yet on the disk."""
        for process in self._product.processes():
            process.send(signal.SIGKILL)
        self._product.process.wait()
        self._product.start()
        return "started again"

    def terminate_train(self) -> str:
        head = self.service("train")
        return str(head.pid) if head is not None and head.send(signal.SIGTERM) else ""

    def stop(self, process: Process | None, seconds: tuple[float, float]) -> str:
        if process is None or not process.send(signal.SIGSTOP):
            return ""
        time.sleep(still := self._draw.uniform(*seconds))
        process.send(signal.SIGCONT)
        return f"{process.pid} for {still:.1f} s"

    def lose_messages(self) -> str:
        with contextlib.suppress(DatabaseError):
            return str(OrmQ.objects.all().delete()[0] or "")
        return ""

    def double_messages(self) -> str:
        with contextlib.suppress(DatabaseError), transaction.atomic():
            rows = list(OrmQ.objects.all())
            OrmQ.objects.bulk_create([OrmQ(key=row.key, payload=row.payload, lock=row.lock) for row in rows])
            return str(len(rows) or "")
        return ""

    def lock_database(self) -> str:
        other = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None, timeout=20)
        with contextlib.closing(other), contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(still := self._draw.uniform(*LOCK_SECONDS))
            other.execute("ROLLBACK")
            return f"for {still:.1f} s"
        return ""

    def cut_connections(self) -> str:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as own:
            return str(len(own.execute(_CUT).fetchall()) or "")

    def fill_disk(self) -> str:
        """Until nothing fits: a file of zeros, written by the mebibyte and then by the byte."""
        path = self._product.data_dir / "filler"
        with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            for size in (2**20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))
        time.sleep(still := self._draw.uniform(*FULL_SECONDS))
        path.unlink()
        return f"for {still:.1f} s"
