"""An S3 that throttles, fails, refuses, disconnects, or returns other bytes than were written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aurora_sync.errors import AuroraSyncError, Kind, StageError, WarehouseError
from aurora_sync.objects import store
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.scenarios.faults.http_proxy import Answer, Behaviour, HttpProxy, Request, Upstream
from aurora_sync_tests.scenarios.faults.ordeal import Fault, Ordeal, environment


@pytest.fixture(autouse=True)
def impatient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the S3 client retry at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


def answering(status: int, code: str) -> Behaviour:
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    return lambda request, upstream: Answer(status, (("Content-Type", "application/xml"),), body)


def hanging_up(request: Request, upstream: Upstream) -> None:
    return None


def truncated(request: Request, upstream: Upstream) -> Answer:
    """Send half of the body, but announce all of it."""
    answer = upstream(request)
    return replace(answer, body=answer.body[: len(answer.body) // 2], length=len(answer.body))


def shortened(request: Request, upstream: Upstream) -> Answer:
    """Send half of the body and announce that length; no checksum shows it."""
    answer = upstream(request).without("x-amz-checksum")
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def corrupted(request: Request, upstream: Upstream) -> Answer:
    """Flip one bit in the middle; no checksum shows it."""
    answer = upstream(request).without("x-amz-checksum")
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 1
    return replace(answer, body=bytes(body))


def changed_on_the_way_up(request: Request, upstream: Upstream) -> Answer:
    """A server that checks the checksum in the request refuses the changed body."""
    body = bytearray(request.body)
    body[len(body) // 2] ^= 1
    return upstream(replace(request, body=bytes(body)))


def is_part(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith(".csv.zst")


def is_manifest(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("manifest.json")


def is_download(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith(".csv.zst")


Chosen = Callable[[Request], bool]


def through(
    proxy: HttpProxy, behaviour: Behaviour, chosen: Chosen = lambda _: True, times: float = float("inf")
) -> Fault:
    """Let runs reach S3 through the proxy, which does this to the chosen requests."""

    @contextmanager
    def fault() -> Iterator[None]:
        with environment(AWS_ENDPOINT_URL_S3=proxy.url), proxy.doing(behaviour, chosen, times):
            yield

    return fault


STEPS = [is_part, is_manifest, is_download]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (answering(503, "SlowDown"), Kind.TRANSIENT, ["SlowDown"]),
        (answering(500, "InternalError"), Kind.TRANSIENT, ["InternalError"]),
        (answering(403, "AccessDenied"), Kind.REFUSED, ["AccessDenied", "s3:PutObject", "s3:GetObject"]),
        (answering(400, "ExpiredToken"), Kind.REFUSED, ["ExpiredToken", "renew"]),
        (hanging_up, Kind.TRANSIENT, ["network"]),
    ],
    ids=["throttles", "fails", "refuses", "expired", "hangs_up"],
)
def test_s3_that_does_not_do_what_it_is_asked(
    ordeal: Ordeal, s3_proxy: HttpProxy, step: Chosen, behaviour: Behaviour, kind: Kind, words: list[str]
) -> None:
    ordeal.begin()
    ordeal.empty_stage = step is is_part
    ordeal.meet(through(s3_proxy, behaviour, step), StageError, kind, "s3://", *words)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize(
    "behaviour", [answering(503, "SlowDown"), answering(500, "InternalError"), hanging_up], ids=["503", "500", "none"]
)
def test_s3_that_fails_for_a_moment_is_asked_again(
    ordeal: Ordeal, s3_proxy: HttpProxy, step: Chosen, behaviour: Behaviour
) -> None:
    ordeal.begin()
    with through(s3_proxy, behaviour, step, times=2)():
        ordeal.run()
    ordeal.assert_equal()


def test_s3_that_refuses_everything_leaves_no_trace_of_itself(ordeal: Ordeal, s3_proxy: HttpProxy) -> None:
    ordeal.begin()
    ordeal.meet(through(s3_proxy, answering(403, "AccessDenied")), StageError, Kind.REFUSED, "s3:ListBucket")


def test_parts_that_cannot_be_removed_are_no_second_error(ordeal: Ordeal, s3_proxy: HttpProxy) -> None:
    """The first error is reported; gc finds what was left."""
    ordeal.begin()
    ordeal.empty_stage = False
    fault = through(
        s3_proxy,
        answering(403, "AccessDenied"),
        lambda r: is_download(r) or r.method == "DELETE" or "delete" in r.query,
    )
    ordeal.meet(fault, StageError, Kind.REFUSED, "part-00000.csv.zst")


def test_s3_that_does_not_answer_in_time(ordeal: Ordeal, s3_proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    ordeal.begin()
    given_up = threading.Event()

    def silent(request: Request, upstream: Upstream) -> None:
        given_up.wait()

    @contextmanager
    def fault() -> Iterator[None]:
        with through(s3_proxy, silent, is_part)(), monkeypatch.context() as patch:
            patch.setitem(store._CLIENT, "read_timeout", 0.5)
            patch.setitem(store._CLIENT, "retries", {"mode": "standard", "total_max_attempts": 2})
            try:
                yield
            finally:
                given_up.set()

    ordeal.meet(fault, StageError, Kind.TRANSIENT, "imeout", "network")


def test_download_that_breaks_off_is_worth_another_try(ordeal: Ordeal, s3_proxy: HttpProxy) -> None:
    ordeal.begin(2_000, 100)
    ordeal.empty_stage = False
    ordeal.meet(through(s3_proxy, truncated, is_download), StageError, Kind.TRANSIENT, "network")


@pytest.mark.parametrize("behaviour", [shortened, corrupted], ids=lambda b: b.__name__)
def test_bytes_that_are_not_those_that_were_staged_are_never_loaded(
    ordeal: Ordeal, s3_proxy: HttpProxy, behaviour: Behaviour
) -> None:
    ordeal.begin(2_000, 100)
    ordeal.empty_stage = False
    ordeal.meet(
        through(s3_proxy, behaviour, is_download),
        WarehouseError,
        Kind.TRANSIENT,
        "received other data than was exported",
    )


def test_bytes_that_change_on_their_way_up_are_worth_another_try(ordeal: Ordeal, s3_proxy: HttpProxy) -> None:
    ordeal.begin(2_000, 100)
    ordeal.meet(through(s3_proxy, changed_on_the_way_up, is_part), StageError, Kind.TRANSIENT, "s3://")


@pytest.mark.parametrize(
    ("variables", "error", "kind", "words"),
    [
        ({"AURORA_SYNC_STAGE": "s3://no-such-bucket-here/x"}, StageError, Kind.REFUSED, ["create the bucket"]),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-and-secret"}, StageError, Kind.REFUSED, ["AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, StageError, Kind.REFUSED, ["AWS_ACCESS_KEY_ID"]),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, StageError, Kind.TRANSIENT, ["AWS_ENDPOINT_URL_S3"]),
    ],
    ids=["bucket", "secret", "key", "endpoint"],
)
def test_s3_that_cannot_be_entered_says_what_to_check(
    ordeal: Ordeal,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    error: type[AuroraSyncError],
    kind: Kind,
    words: list[str],
) -> None:
    # A run that looks for a hint reads before it writes: the S3 server of the tests creates a bucket at the first
    # write.
    monkeypatch.setattr(DuckDBWarehouse, "metered", True)
    ordeal.begin()
    told = ordeal.meet(lambda: environment(**variables), error, kind, *words)
    assert "wrong-and-secret" not in str(told)
