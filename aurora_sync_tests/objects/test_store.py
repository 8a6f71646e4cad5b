from __future__ import annotations

import socket
from pathlib import Path

import pytest

from aurora_sync.errors import ConfigError, Kind, StageError
from aurora_sync.objects.store import Store


def test_url_names_bucket_and_prefix() -> None:
    store = Store.from_url("s3://some-bucket/a/b/")
    assert (store.bucket, store.prefix, store.uri("a/b/c")) == ("some-bucket", "a/b/", "s3://some-bucket/a/b/c")
    assert Store.from_url("s3://some-bucket").prefix == ""


@pytest.mark.parametrize("url", ["", "some-bucket", "s3:/some-bucket", "https://some-bucket/x", "s3://UPPER/x"])
def test_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        Store.from_url(url)


def test_object_that_exists_is_never_overwritten(store: Store) -> None:
    key = f"{store.prefix}once"
    store.put_new(key, b"first")
    with pytest.raises(StageError, match="PreconditionFailed"):
        store.put_new(key, b"second")
    assert store.get(key) == b"first"


def test_put_repeated_after_a_lost_answer_succeeds(store: Store) -> None:
    store.put_new(f"{store.prefix}once", b"same")
    store.put_new(f"{store.prefix}once", b"same")


def test_multipart_upload_never_overwrites(store: Store) -> None:
    key = f"{store.prefix}once"
    store.put_new(key, b"first")
    upload = store.start_upload(key)
    etag = store.upload_part(key, upload, 1, b"second")
    with pytest.raises(StageError, match="PreconditionFailed"):
        store.finish_upload(key, upload, [etag])
    assert store.get(key) == b"first"


def test_missing_object_is_none_and_cannot_be_downloaded(store: Store, tmp_path: Path) -> None:
    assert store.get(f"{store.prefix}nothing") is None
    with pytest.raises(StageError, match="404") as caught:
        store.download(f"{store.prefix}nothing", tmp_path / "file")
    assert caught.value.kind is Kind.REFUSED
    assert not (tmp_path / "file").exists()


def test_download_writes_the_whole_object(store: Store, tmp_path: Path) -> None:
    body = bytes(range(256)) * 40_000  # more than 8 MB, from which on boto3 downloads in ranges
    store.put_new(f"{store.prefix}big", body)
    store.download(f"{store.prefix}big", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == body


def test_list_is_in_byte_order_over_pages_and_cut_at_the_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{store.prefix}t/{name}" for name in ("1", "10", "2", "B", "a", "applied/x")]
    for key in reversed(keys):
        store.put_new(key, b"")
    assert store.list(f"{store.prefix}t/") == keys
    assert store.list(f"{store.prefix}t/", limit=2) == keys[:2]
    assert store.list(f"{store.prefix}nothing/") == []


def test_deleted_objects_are_gone_and_deleting_again_is_no_error(store: Store) -> None:
    keys = [f"{store.prefix}t/{number}" for number in range(3)]
    for key in keys:
        store.put_new(key, b"")
    store.delete(keys[:2])
    store.delete(keys[:2])
    assert store.list(f"{store.prefix}t/") == keys[2:]


def test_missing_bucket_is_named_with_what_to_do(store: Store) -> None:
    with pytest.raises(StageError, match="no-such-bucket-here") as caught:
        Store("no-such-bucket-here").list("")
    assert caught.value.kind is Kind.REFUSED
    assert "AURORA_SYNC_STAGE" in caught.value.hint


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused_and_not_repeated_in_the_message(
    store: Store, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "WRONGWRONGWRONGWRONG")
    with pytest.raises(StageError) as caught:
        store.get(f"{store.prefix}key")
    assert caught.value.kind is Kind.REFUSED
    assert variable in caught.value.hint
    assert "WRONGWRONG" not in str(caught.value)


def test_missing_credentials_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(StageError, match="credentials") as caught:
        store.get("key")
    assert caught.value.kind is Kind.REFUSED


@pytest.mark.parametrize("endpoint", ["s3.example.com", "http://", "http://a b"])
def test_endpoint_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StageError, match=f"Invalid endpoint: {endpoint} \\(set AWS_ENDPOINT_URL_S3 to a URL") as caught:
        Store("bucket").get("key")
    assert caught.value.kind is Kind.REFUSED


def test_server_that_does_not_answer_is_transient(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StageError, match="AWS_ENDPOINT_URL_S3") as caught:
        store.get("key")
    assert caught.value.kind is Kind.TRANSIENT
