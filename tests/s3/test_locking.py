"""Object lock by boto3, after what ceph/s3-tests asks of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.s3.conftest import S3Client
from tests.s3.test_versioning import refused, status_of

DAY = timedelta(days=1)


def soon() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + DAY


def configuration(**default: Any) -> dict[str, Any]:
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}


@pytest.fixture
def locked(s3: S3Client, new_name: str) -> str:
    """A bucket whose versions can be locked."""
    s3.create_bucket(Bucket=new_name, ObjectLockEnabledForBucket=True)
    return new_name


def test_the_configuration_of_a_bucket(s3: S3Client, locked: str) -> None:
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert found == {"ObjectLockEnabled": "Enabled"}
    for default in ({"Mode": "GOVERNANCE", "Days": 1}, {"Mode": "COMPLIANCE", "Years": 2}):
        s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration(**default))
        found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
        assert found == configuration(**default)
    suspended = {"Status": "Suspended"}
    error = refused(s3.put_bucket_versioning, Bucket=locked, VersioningConfiguration=suspended)
    assert status_of(error) == (409, "InvalidBucketState")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (configuration(Mode="GOVERNANCE", Days=1, Years=1), "MalformedXML"),
        (configuration(Mode="GOVERNANCE"), "MalformedXML"),
        (configuration(Mode="governance", Days=1), "MalformedXML"),
        (configuration(Mode="GOVERNANCE", Days=0), "InvalidRetentionPeriod"),
        (configuration(Mode="GOVERNANCE", Years=-1), "InvalidRetentionPeriod"),
        ({"ObjectLockEnabled": "Disabled"}, "MalformedXML"),
    ],
)
def test_configurations_that_mean_nothing(s3: S3Client, locked: str, wrong: dict[str, Any], code: str) -> None:
    error = refused(s3.put_object_lock_configuration, Bucket=locked, ObjectLockConfiguration=wrong)
    assert status_of(error) == (400, code)


def test_a_bucket_without_a_lock(s3: S3Client, bucket: str) -> None:
    error = refused(s3.get_object_lock_configuration, Bucket=bucket)
    assert status_of(error) == (404, "ObjectLockConfigurationNotFoundError")
    chosen = configuration(Mode="GOVERNANCE", Days=1)
    error = refused(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=chosen)
    assert status_of(error) == (409, "InvalidBucketState")
    s3.put_object(Bucket=bucket, Key="k", Body="x")
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": soon()}
    for error in (
        refused(s3.put_object_retention, Bucket=bucket, Key="k", Retention=retention),
        refused(s3.get_object_retention, Bucket=bucket, Key="k"),
        refused(s3.put_object_legal_hold, Bucket=bucket, Key="k", LegalHold={"Status": "ON"}),
        refused(s3.get_object_legal_hold, Bucket=bucket, Key="k"),
        refused(s3.put_object, Bucket=bucket, Key="k", Body="y", ObjectLockLegalHoldStatus="ON"),
    ):
        assert status_of(error) == (400, "InvalidRequest")


def test_governance_can_be_bypassed(s3: S3Client, locked: str) -> None:
    until = soon()
    version = s3.put_object(Bucket=locked, Key="k", Body="x")["VersionId"]
    error = refused(s3.get_object_retention, Bucket=locked, Key="k")
    assert status_of(error) == (404, "NoSuchObjectLockConfiguration")
    s3.put_object_retention(
        Bucket=locked, Key="k", VersionId=version, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}
    )
    found = s3.get_object_retention(Bucket=locked, Key="k")["Retention"]
    assert found == {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    head = s3.head_object(Bucket=locked, Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    # Longer always, shorter only by those who may.
    longer, shorter = until + DAY, until - DAY / 2
    s3.put_object_retention(Bucket=locked, Key="k", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": longer})
    chosen = {"Mode": "GOVERNANCE", "RetainUntilDate": shorter}
    error = refused(s3.put_object_retention, Bucket=locked, Key="k", Retention=chosen)
    assert status_of(error) == (403, "AccessDenied")
    s3.put_object_retention(Bucket=locked, Key="k", Retention=chosen, BypassGovernanceRetention=True)
    error = refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version)
    assert status_of(error) == (403, "AccessDenied")
    answer = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert answer["Errors"][0]["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=locked, Key="k")["Body"].read() == b"x"
    s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket=locked)


def test_compliance_can_not(s3: S3Client, locked: str) -> None:
    until = soon()
    version = s3.put_object(
        Bucket=locked, Key="k", Body="x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    for error in (
        refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True),
        *(
            refused(
                s3.put_object_retention,
                Bucket=locked,
                Key="k",
                Retention=retention,
                BypassGovernanceRetention=True,
            )
            for retention in (
                {"Mode": "COMPLIANCE", "RetainUntilDate": until - DAY / 2},
                {"Mode": "GOVERNANCE", "RetainUntilDate": until + DAY},
            )
        ),
    ):
        assert status_of(error) == (403, "AccessDenied")
    s3.put_object_retention(Bucket=locked, Key="k", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until + DAY})
    # A delete without a version takes nothing away: it leaves a marker, which is not locked.
    marker = s3.delete_object(Bucket=locked, Key="k")["VersionId"]
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker)
    assert s3.get_object(Bucket=locked, Key="k")["Body"].read() == b"x"


def test_legal_hold(s3: S3Client, locked: str) -> None:
    version = s3.put_object(Bucket=locked, Key="k", Body="x", ObjectLockLegalHoldStatus="ON")["VersionId"]
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"]["Status"] == "ON"
    assert s3.head_object(Bucket=locked, Key="k")["ObjectLockLegalHoldStatus"] == "ON"
    error = refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    assert status_of(error) == (403, "AccessDenied")
    error = refused(s3.put_object_legal_hold, Bucket=locked, Key="k", LegalHold={"Status": "on"})
    assert status_of(error) == (400, "MalformedXML")
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"]["Status"] == "OFF"
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)


def test_the_default_is_for_every_put(s3: S3Client, locked: str) -> None:
    chosen = configuration(Mode="GOVERNANCE", Days=10)
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=chosen)
    s3.put_object(Bucket=locked, Key="k", Body="x")
    s3.copy_object(Bucket=locked, Key="copy", CopySource={"Bucket": locked, "Key": "k"})
    for key in ("k", "copy"):
        found = s3.get_object_retention(Bucket=locked, Key=key)["Retention"]
        assert found["Mode"] == "GOVERNANCE"
        assert timedelta(days=9.9) < found["RetainUntilDate"] - datetime.now(UTC) < timedelta(days=10.1)
    until = soon()
    s3.put_object(Bucket=locked, Key="k", Body="y", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    found = s3.get_object_retention(Bucket=locked, Key="k")["Retention"]
    assert found == {"Mode": "COMPLIANCE", "RetainUntilDate": until}


def test_locks_that_mean_nothing(s3: S3Client, locked: str) -> None:
    past = datetime.now(UTC) - DAY
    put = {"Bucket": locked, "Key": "k", "Body": "x"}
    for error in (
        refused(s3.put_object, **put, ObjectLockMode="GOVERNANCE"),
        refused(s3.put_object, **put, ObjectLockRetainUntilDate=soon()),
        refused(s3.put_object, **put, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=past),
        refused(s3.put_object, **put, ObjectLockMode="OTHER", ObjectLockRetainUntilDate=soon()),
    ):
        assert status_of(error) == (400, "InvalidArgument")
    s3.put_object(**put)
    for mode, code in (("governance", "MalformedXML"), ("", "MalformedXML")):
        chosen = {"Mode": mode, "RetainUntilDate": soon()}
        error = refused(s3.put_object_retention, Bucket=locked, Key="k", Retention=chosen)
        assert status_of(error) == (400, code)
