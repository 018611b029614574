"""What the head of an object says of the lifecycle rules that will let it go, by boto3."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from tests.s3.conftest import S3Client


def set_rule(s3: S3Client, bucket: str, chosen: dict[str, object], days: int = 1) -> None:
    rule = {"ID": "rule one", "Expiration": {"Days": days}, "Filter": chosen, "Status": "Enabled"}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


def test_the_date_and_the_rule_are_told(s3: S3Client, bucket: str) -> None:
    set_rule(s3, bucket, {"Prefix": "days/"}, 3)
    now = datetime.now(UTC)
    for answer in (
        s3.put_object(Bucket=bucket, Key="days/k", Body="x"),
        s3.head_object(Bucket=bucket, Key="days/k"),
        s3.get_object(Bucket=bucket, Key="days/k"),
    ):
        found = re.fullmatch('expiry-date="(.*)", rule-id="(.*)"', answer["Expiration"])
        assert found is not None
        assert found[2] == "rule one"
        date = parsedate_to_datetime(found[1])
        assert (date.hour, date.minute) == (0, 0)
        assert timedelta(days=3) <= date - now + timedelta(seconds=1) <= timedelta(days=4, seconds=2)
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="other", Body="x")


def test_rules_by_tags_see_the_tags_of_now(s3: S3Client, bucket: str) -> None:
    set_rule(s3, bucket, {"Tag": {"Key": "keep", "Value": "no"}})
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="k", Body="x")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "keep", "Value": "no"}]})
    assert "Expiration" in s3.head_object(Bucket=bucket, Key="k")


def test_old_versions_are_not_told_of(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    set_rule(s3, bucket, {"Prefix": ""})
    version = s3.put_object(Bucket=bucket, Key="k", Body="x")["VersionId"]
    assert "Expiration" in s3.put_object(Bucket=bucket, Key="k", Body="y")
    assert "Expiration" not in s3.head_object(Bucket=bucket, Key="k", VersionId=version)
