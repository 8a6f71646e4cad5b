"""The object store under the stage: S3 operations that raise this project's errors. It does not know the layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aurora_sync.errors import ConfigError, Kind, StageError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

# When a bucket or endpoint does not answer, the run should retry soon instead of waiting for minutes. 60 s are enough
# for a 16 MB part at 0.3 MB/s. Standard mode retries throttling, 5xx and lost connections with jitter.
_CLIENT = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "tcp_keepalive": True,
    "signature_version": "s3v4",  # else links are signed in a way that AWS refuses for objects encrypted by KMS
}

_HINTS = {
    "NoSuchBucket": "create the bucket {bucket}, or correct AURORA_SYNC_STAGE",
    "AccessDenied": "grant this identity s3:GetObject, s3:PutObject, s3:DeleteObject, "
    "s3:AbortMultipartUpload on {bucket}/* and s3:ListBucket on {bucket}; gc also needs "
    "s3:ListMultipartUploadParts on {bucket}/* and s3:ListBucketMultipartUploads on {bucket}",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID, or the profile or role that provides the key",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, AWS_REGION and the clock of this machine",
    "ExpiredToken": "the session token has expired: renew the credentials",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "PermanentRedirect": "the bucket {bucket} is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket {bucket} is in another region: set AWS_REGION",
    # Every attempt writes under its own load id, so a new attempt finds no existing object.
    "PreconditionFailed": "an object with other content exists there and was not overwritten; run again",
}
_RUN_AGAIN = "the S3 server is overloaded or failed, and no row is lost; run again"
# Codes of throttling, and codes of 5xx errors that come without a status: in the answer to DeleteObjects.
_TRANSIENT = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded"} | {
    "InternalError",
    "ServiceUnavailable",
    "BadDigest",  # the server received other bytes than were sent
    "IncompleteBody",
}


class Stored(NamedTuple):
    """An object in a listing."""

    key: str
    bytes: int
    etag: str
    modified: datetime  # by the server's clock, to the second


class Store:
    """One bucket and a key prefix in it. Arguments and results are whole object keys, prefix included.

    The constructor does no I/O; the first operation creates the client (boto3, which reads ``AWS_*`` itself).
    Thread-safe. Every failure raises :class:`StageError`: TRANSIENT for throttling, 5xx, time-outs and lost
    connections, REFUSED for all others.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        """``prefix`` is empty or ends with ``/``."""
        self.bucket = bucket
        self.prefix = prefix

    def __reduce__(self) -> tuple[object, ...]:
        return Store, (self.bucket, self.prefix)  # another process has a client of its own

    @classmethod
    def from_url(cls, url: str) -> Store:
        """Return the store of ``s3://bucket/some/prefix``; the prefix is optional. Raises ConfigError for any other
        form."""
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?", url)
        if match is None:
            raise ConfigError(f"the stage {url!r} is not of the form s3://bucket/prefix", where="AURORA_SYNC_STAGE")
        prefix = (match[2] or "").strip("/")
        return cls(match[1], f"{prefix}/" if prefix else "")

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    @property
    def client(self) -> S3Client:
        """The client of this store, for libraries that take one."""
        return self._client

    def connect(self) -> None:
        """Create the client, which takes a tenth of a second, before the first operation needs it."""
        self._client  # noqa: B018 - a cached property

    def put_new(self, key: str, body: bytes) -> None:
        """Create an object; it is durable when the method returns. An existing object is never changed. If it has the
        same bytes, the call succeeds: a request was repeated because its answer was lost. Otherwise StageError is
        raised."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) != "PreconditionFailed" or self.get(key) != body:
                    raise

    def put(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object for a browser, and replace an existing one. Idempotent; never for data of a run."""
        with self._translated(key):
            self._client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, CacheControl="no-cache"
            )

    def link(self, key: str, seconds: int) -> str:
        """Return a URL with which anyone can read the object for some time. Does no I/O besides that of credentials."""
        with self._translated(key):
            parameters = {"Bucket": self.bucket, "Key": key}
            return self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)

    def get(self, key: str) -> bytes | None:
        """Return the content of an object, or None when there is no such object."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if _code(error) != "NoSuchKey":
                    raise
                return None

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file, in constant memory. The file appears when it is complete."""
        with self._translated(key):
            self._client.download_file(self.bucket, key, str(path))

    def list(self, prefix: str, limit: int | None = None) -> list[str]:
        """Return the keys that start with ``prefix``, in byte order, at most ``limit`` of them."""
        return [stored.key for page in self.pages(prefix, limit) for stored in page]

    def pages(self, prefix: str, limit: int | None = None) -> Iterator[Sequence[Stored]]:
        """Yield the objects whose keys start with ``prefix``, in byte order, at most ``limit`` of them, in pages of up
        to 1000. The caller may delete listed objects between two pages."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix}
        while limit is None or limit > 0:
            with self._translated(prefix):
                page = self._client.list_objects_v2(**request, MaxKeys=min(limit or 1000, 1000))
            found = [_stored(entry) for entry in page.get("Contents", [])]
            yield found
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]
            limit = limit and limit - len(found)

    def head(self, key: str, size: int) -> bytes:
        """Return the first ``size`` bytes of an object, or the whole object when it is shorter."""
        with self._translated(key):
            return self._client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes=0-{size - 1}")["Body"].read()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects. Idempotent: an object that does not exist counts as deleted."""
        for start in range(0, len(keys), 1000):  # the limit of one request
            batch = keys[start : start + 1000]
            with self._translated(batch[0]):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            for failed in answer.get("Errors", []):
                raise self._error(failed["Key"], failed["Code"], failed.get("Message", ""))

    def start_upload(self, key: str) -> str:
        """Begin a multipart upload and return its id. The object does not exist before :meth:`finish_upload`."""
        with self._translated(key):
            return self._client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]

    def upload_part(self, key: str, upload: str, number: int, body: bytes) -> str:
        """Upload part ``number`` (from 1; all but the last have at least 5 MB) and return its ETag. Idempotent."""
        with self._translated(key):
            part = self._client.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
            return part["ETag"]

    def finish_upload(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Create the object from its parts; it is durable when the method returns. Never overwrites an object."""
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, 1)]
        with self._translated(key):
            self._client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                IfNoneMatch="*",
            )

    def abort_upload(self, key: str, upload: str) -> None:
        """Drop an upload and its parts. Idempotent: an upload that does not exist counts as dropped."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise

    def uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield key and id of each upload under ``prefix`` that was begun and neither finished nor dropped."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix}
        while True:
            with self._translated(prefix):
                page = self._client.list_multipart_uploads(**request)
            yield from ((upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", []))
            if not page.get("IsTruncated"):
                return
            request |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def upload_bytes(self, key: str, upload: str) -> int:
        """Return the bytes in the parts of an unfinished upload; 0 when the upload does not exist any more."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                pages = self._client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload)
                return sum(part["Size"] for page in pages for part in page.get("Parts", []))
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise
                return 0

    @cached_property
    def _client(self) -> S3Client:
        import boto3  # slow to import, and not needed to describe a store
        from botocore.config import Config

        options: dict[str, Any] = dict(_CLIENT)
        if {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} & os.environ.keys():
            # S3 servers other than AWS rarely have a DNS name for each bucket.
            options["s3"] = {"addressing_style": "path"}
        with self._translated(""):
            try:
                return boto3.session.Session().client("s3", config=Config(**options))
            except ValueError as error:  # the endpoint is not a URL
                hint = "set AWS_ENDPOINT_URL_S3 to a URL such as https://s3.example.com"
                raise StageError(_one_line(error), where=self.uri(""), hint=hint) from error

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
        )

        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise self._error(key, _code(error), error.response["Error"].get("Message", ""), status) from error
        except (
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
            Boto3Error,
        ) as error:  # no answer, or an incomplete one
            cause = getattr(error, "last_exception", error)  # of a RetriesExceededError
            raise StageError(
                _one_line(cause),
                where=self.uri(key),
                hint="check the network, and AWS_ENDPOINT_URL_S3 if it is set",
                kind=Kind.TRANSIENT,
            ) from error
        except BotoCoreError as error:  # raised before a request is sent: no credentials, bad profile, bad region
            raise StageError(_one_line(error), where=self.uri(key), hint="check the AWS_* settings") from error

    def _error(self, key: str, code: str, message: str, status: int = 0) -> StageError:
        # 501 means that the server does not support the request, such as a put that must not overwrite.
        transient = (status >= 500 and status != 501) or status in (409, 412, 429) or code in _TRANSIENT
        hint = _HINTS.get(code, _HINTS["AccessDenied"] if status == 403 else _RUN_AGAIN if transient else "")
        return StageError(
            f"S3 answered {code}: {message}" if message else f"S3 answered {code}",
            where=self.uri(key),
            hint=hint.format(bucket=self.bucket),
            kind=Kind.TRANSIENT if transient else Kind.REFUSED,
        )


def _code(error: ClientError) -> str:
    code: str = error.response["Error"].get("Code", "no code")
    return code


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _stored(entry: Any) -> Stored:
    return Stored(entry["Key"], entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])
