// @aws-sdk/client-s3, as its users write it: arguments BUCKET FILE.
import assert from "node:assert";
import fs from "node:fs";
import * as s3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const [bucket, large] = process.argv.slice(2);
const client = new s3.S3Client({ forcePathStyle: true, endpoint: process.env.AWS_ENDPOINT_URL });
const send = (command) => client.send(command);
await send(new s3.CreateBucketCommand({ Bucket: bucket }));

await new Upload({
  client, params: { Bucket: bucket, Key: "large", Body: fs.createReadStream(large) }, partSize: 5 << 20, queueSize: 4,
}).done();
const back = await send(new s3.GetObjectCommand({ Bucket: bucket, Key: "large" }));
assert.ok(Buffer.from(await back.Body.transformToByteArray()).equals(fs.readFileSync(large)));

for (const key of ["a b+c&d", "ü/é 日本"]) {
  await send(new s3.PutObjectCommand({ Bucket: bucket, Key: key, Body: key }));
  assert.equal(await (await send(new s3.GetObjectCommand({ Bucket: bucket, Key: key }))).Body.transformToString(), key);
}
await send(new s3.CopyObjectCommand({ Bucket: bucket, Key: "copied", CopySource: `${bucket}/large` }));
const put = await getSignedUrl(client, new s3.PutObjectCommand({ Bucket: bucket, Key: "signed" }), { expiresIn: 60 });
assert.equal((await fetch(put, { method: "PUT", body: "by a link" })).status, 200);
const get = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket: bucket, Key: "signed" }), { expiresIn: 60 });
assert.equal(await (await fetch(get)).text(), "by a link");

const keys = [];
for await (const page of s3.paginateListObjectsV2({ client, pageSize: 2 }, { Bucket: bucket })) {
  keys.push(...page.Contents.map((item) => item.Key));
}
assert.deepEqual(keys, ["a b+c&d", "copied", "large", "signed", "ü/é 日本"]);
const gone = await send(new s3.DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
assert.equal(gone.Deleted.length, keys.length);
await send(new s3.DeleteBucketCommand({ Bucket: bucket }));
