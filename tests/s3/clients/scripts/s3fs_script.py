"""s3fs, pandas and pyarrow, as their users write it: arguments BUCKET FILE."""

import os
import sys
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import s3fs
from pyarrow import fs

bucket, large = sys.argv[1], Path(sys.argv[2])
url = os.environ["AWS_ENDPOINT_URL"]
files = s3fs.S3FileSystem(endpoint_url=url, client_kwargs={"verify": os.environ.get("AWS_CA_BUNDLE", True)})
files.mkdir(bucket)
files.put(str(large), f"{bucket}/large", chunksize=5 << 20)
files.get(f"{bucket}/large", f"{large}.back")
assert Path(f"{large}.back").read_bytes() == large.read_bytes()
with files.open(f"{bucket}/dir/ü b.txt", "wb", block_size=5 << 20) as out:
    for _ in range(12):
        out.write(b"z" * (1 << 20))
assert files.info(f"{bucket}/dir/ü b.txt")["size"] == 12 << 20
with files.open(f"{bucket}/dir/ü b.txt", "rb") as back:
    back.seek((12 << 20) - 3)
    assert back.read() == b"zzz"
files.copy(f"{bucket}/large", f"{bucket}/copied")
assert sorted(files.find(bucket)) == sorted([f"{bucket}/copied", f"{bucket}/dir/ü b.txt", f"{bucket}/large"])

frame = pandas.DataFrame({"n": range(100_000), "text": [f"row {n}" for n in range(100_000)]})
with files.open(f"{bucket}/frame.parquet", "wb") as out:
    frame.to_parquet(out)
arrow = fs.S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    endpoint_override=url.partition("://")[2], scheme=url.partition("://")[0], region=os.environ["AWS_REGION"],
    **({"tls_ca_file_path": os.environ["AWS_CA_BUNDLE"]} if "AWS_CA_BUNDLE" in os.environ else {}),
)  # fmt: skip
table = pyarrow.parquet.read_table(f"{bucket}/frame.parquet", filesystem=arrow, columns=["n"])
assert table.num_rows == 100_000
pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), f"{bucket}/arrow.parquet", filesystem=arrow)
with files.open(f"{bucket}/arrow.parquet", "rb") as back:
    assert pandas.read_parquet(back).equals(frame)
arrow.delete_dir_contents(bucket)
assert not files.find(bucket, refresh=True)
files.rmdir(bucket)
