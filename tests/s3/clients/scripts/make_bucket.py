"""Make a bucket with what the environment says: argument BUCKET."""

import sys

import boto3

boto3.client("s3").create_bucket(Bucket=sys.argv[1])
