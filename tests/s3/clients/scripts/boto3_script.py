"""boto3, as its users write it: arguments BUCKET FILE."""

import os
import sys
import tempfile
import urllib.request
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

bucket, large = sys.argv[1], Path(sys.argv[2])
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
s3.create_bucket(Bucket=bucket)

parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
s3.upload_file(str(large), bucket, "large", Config=parts, ExtraArgs={"Metadata": {"who": "boto3"}})
head = s3.head_object(Bucket=bucket, Key="large")
assert head["ContentLength"] == large.stat().st_size
assert head["Metadata"] == {"who": "boto3"}
assert head["ETag"].endswith('-4"'), head["ETag"]
with tempfile.NamedTemporaryFile() as back:
    s3.download_file(bucket, "large", back.name, Config=parts)
    assert Path(back.name).read_bytes() == large.read_bytes()

for key in ("a b+c&d", "ü/é 日本", "x//y", "./z"):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copied", Config=parts)
assert s3.head_object(Bucket=bucket, Key="copied")["ContentLength"] == large.stat().st_size

context = None
if os.environ.get("AWS_CA_BUNDLE"):
    import ssl

    context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "signed"})
urllib.request.urlopen(urllib.request.Request(url, b"by a link", method="PUT"), context=context).read()
url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "signed"})
assert urllib.request.urlopen(url, context=context).read() == b"by a link"

listed = [
    item["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for item in page["Contents"]
]
assert len(listed) == 7, listed
gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in listed]})
assert len(gone["Deleted"]) == 7
s3.delete_bucket(Bucket=bucket)
