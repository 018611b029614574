"""minio-py, as its users write it: arguments BUCKET FILE."""

import os
import sys
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject

bucket, large = sys.argv[1], Path(sys.argv[2])
place = urlsplit(os.environ["AWS_ENDPOINT_URL"])
http = urllib3.PoolManager(ca_certs=os.environ.get("AWS_CA_BUNDLE"))
client = Minio(
    endpoint=place.netloc,
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    secure=place.scheme == "https",
    region=os.environ["AWS_REGION"],
    http_client=http,
)
client.make_bucket(bucket_name=bucket)
assert client.bucket_exists(bucket_name=bucket)
client.fput_object(bucket_name=bucket, object_name="large", file_path=str(large), part_size=5 << 20)
client.fget_object(bucket_name=bucket, object_name="large", file_path=f"{large}.back")
assert Path(f"{large}.back").read_bytes() == large.read_bytes()
data = b"unknown length" * 600_000
client.put_object(bucket_name=bucket, object_name="stream", data=BytesIO(data), length=-1, part_size=5 << 20)
reply = client.get_object(bucket_name=bucket, object_name="stream", offset=7, length=100)
assert reply.read() == data[7:107]
reply.close()
for key in ("a b+c&d", "ü/é 日本"):
    client.put_object(bucket_name=bucket, object_name=key, data=BytesIO(b"x"), length=1)
    assert client.stat_object(bucket_name=bucket, object_name=key).size == 1
client.copy_object(
    bucket_name=bucket, object_name="copied", source=CopySource(bucket_name=bucket, object_name="stream")
)
url = client.presigned_get_object(bucket_name=bucket, object_name="copied", expires=timedelta(minutes=5))
assert http.request("GET", url).data == data
names = [item.object_name for item in client.list_objects(bucket_name=bucket, recursive=True)]
assert sorted(names) == sorted(["a b+c&d", "copied", "large", "stream", "ü/é 日本"]), names
assert not list(client.remove_objects(bucket_name=bucket, delete_object_list=[DeleteObject(name) for name in names]))
client.remove_bucket(bucket_name=bucket)
