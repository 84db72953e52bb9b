/**
 * The few things a store asks of S3-compatible storage. The AWS client does the hard parts: signing,
 * checksums, multipart uploads, retries with backoff. Nothing is ever whole in memory.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { UserError } from "../errors.ts";
import type { FileDigest } from "./files.ts";
import { RetryableError } from "./stage.ts";

const PART_BYTES = 16 << 20;
const PARTS_AT_A_TIME = 4;
const READ_BYTES = 1 << 20;
const MAX_ATTEMPTS = 6;

export interface BucketEntry {
  readonly key: string;
  readonly size: number;
  readonly changed: number;
}

type Sdk = typeof import("@aws-sdk/client-s3");

/** One bucket, below a prefix. */
export class Bucket {
  readonly location: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #options: URLSearchParams;
  #opened: Promise<{ sdk: Sdk; client: InstanceType<Sdk["S3Client"]> }> | undefined;

  /**
   * @param location `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`; credentials, and what is left out,
   *   come from the environment and the files that AWS's tools read
   */
  constructor(location: string) {
    const url = URL.parse(location);
    if (url === null || url.hostname === "") {
      throw new UserError(`opening the store ${location}: expected s3://BUCKET/PREFIX`, {
        exitCode: 2,
      });
    }
    this.location = location;
    this.#bucket = url.hostname;
    const prefix = url.pathname.replace(/^\/+|\/+$/g, "");
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.#options = url.searchParams;
  }

  /** The text of an object; undefined where there is none. */
  async getText(key: string): Promise<string | undefined> {
    return (await this.getTagged(key))?.text;
  }

  /** The text of an object, with the tag of what was read; undefined where there is none. */
  async getTagged(key: string): Promise<{ text: string; tag: string } | undefined> {
    return await this.#ask(`reading ${key}`, async ({ sdk, client }) => {
      const got = await client.send(new sdk.GetObjectCommand(this.#at(key)));
      return { text: await got.Body!.transformToString(), tag: got.ETag ?? "" };
    }, () => undefined);
  }

  /** The size of an object in bytes; undefined where there is none. */
  async size(key: string): Promise<number | undefined> {
    return await this.#ask(`looking for ${key}`, async ({ sdk, client }) => {
      return (await client.send(new sdk.HeadObjectCommand(this.#at(key)))).ContentLength ?? 0;
    }, () => undefined);
  }

  /**
   * Puts a text; returns false and changes nothing where the object exists (`ifAbsent`), or is not
   * the one with the tag (`ifTag`) any more.
   */
  async putText(
    key: string,
    text: string,
    options: { ifAbsent?: boolean; ifTag?: string } = {},
  ): Promise<boolean> {
    const { ifAbsent = false, ifTag } = options;
    const absent = ifTag === undefined ? undefined : () => false;
    return await this.#ask(`writing ${key}`, async ({ sdk, client }) => {
      const condition = {
        ...(ifAbsent ? { IfNoneMatch: "*" } : {}),
        ...(ifTag === undefined ? {} : { IfMatch: ifTag }),
      };
      const put = new sdk.PutObjectCommand({ ...this.#at(key), Body: text, ...condition });
      try {
        await client.send(put);
        return true;
      } catch (error) {
        if (refusedCondition(error)) return false;
        throw error;
      }
    }, absent);
  }

  /** Uploads a file, in parts where it is large, unless the object has appeared meanwhile. */
  async upload(key: string, path: string): Promise<void> {
    const { Upload } = await import("@aws-sdk/lib-storage");
    await this.#ask(`uploading ${path}`, async ({ client }) => {
      const Body = createReadStream(path, { highWaterMark: READ_BYTES });
      const upload = new Upload({
        client,
        params: { ...this.#at(key), Body, IfNoneMatch: "*" },
        partSize: PART_BYTES,
        queueSize: PARTS_AT_A_TIME,
      });
      try {
        await upload.done();
      } catch (error) {
        if (!refusedCondition(error)) throw error;
      } finally {
        Body.destroy();
      }
    });
  }

  /** Downloads an object to a new file; undefined where there is none. */
  async download(key: string, path: string): Promise<FileDigest | undefined> {
    return await this.#ask(`downloading ${key}`, async ({ sdk, client }) => {
      const got = await client.send(new sdk.GetObjectCommand(this.#at(key)));
      using file = await Deno.open(path, { write: true, create: true, truncate: true });
      const hash = createHash("sha256");
      let size = 0;
      for await (const chunk of got.Body as unknown as AsyncIterable<Uint8Array>) {
        hash.update(chunk);
        size += chunk.length;
        for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
      }
      await file.sync();
      return { sha256: hash.digest("hex"), size };
    }, () => undefined);
  }

  async *list(prefix: string): AsyncIterable<BucketEntry> {
    let token: string | undefined;
    do {
      const page = await this.#ask(`listing ${prefix}`, ({ sdk, client }) => {
        const from = token === undefined ? {} : { ContinuationToken: token };
        const Prefix = this.#prefix + prefix;
        return client.send(
          new sdk.ListObjectsV2Command({ Bucket: this.#bucket, Prefix, ...from }),
        );
      });
      for (const { Key = "", Size = 0, LastModified } of page.Contents ?? []) {
        const key = Key.slice(this.#prefix.length);
        yield { key, size: Size, changed: LastModified?.getTime() ?? 0 };
      }
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  /** Removes an object; one that is gone already is no error. */
  async remove(key: string): Promise<void> {
    await this.#ask(`removing ${key}`, async ({ sdk, client }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#at(key)));
    }, () => {});
  }

  /** Moves an object; one that is gone already is no error. */
  async move(from: string, to: string): Promise<void> {
    await this.#ask(`setting ${from} aside`, async ({ sdk, client }) => {
      const CopySource = `${this.#bucket}/${encodeURI(this.#prefix + from)}`;
      await client.send(new sdk.CopyObjectCommand({ ...this.#at(to), CopySource }));
    }, () => {});
    await this.remove(from);
  }

  /** Gives up multipart uploads that began before a time and were never finished. */
  async abortUploads(before: number): Promise<void> {
    await this.#ask("looking for unfinished uploads", async ({ sdk, client }) => {
      const found = await client.send(
        new sdk.ListMultipartUploadsCommand({ Bucket: this.#bucket, Prefix: this.#prefix }),
      );
      for (const { Key, UploadId, Initiated } of found.Uploads ?? []) {
        if (Key === undefined || UploadId === undefined) continue;
        if ((Initiated?.getTime() ?? 0) >= before) continue;
        await client.send(
          new sdk.AbortMultipartUploadCommand({ Bucket: this.#bucket, Key, UploadId }),
        );
      }
    });
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  #open() {
    return this.#opened ??= import("@aws-sdk/client-s3").then((sdk) => {
      const endpoint = this.#options.get("endpoint");
      const region = this.#options.get("region") ??
        (endpoint === null ? undefined : Deno.env.get("AWS_REGION") ?? "us-east-1");
      const client = new sdk.S3Client({
        maxAttempts: MAX_ATTEMPTS,
        // The store checks every file by its SHA-256, and knows what to do about a damaged one.
        responseChecksumValidation: "WHEN_REQUIRED",
        ...(region === undefined ? {} : { region }),
        // Servers other than AWS's have no host name for each bucket.
        ...(endpoint === null ? {} : { endpoint, forcePathStyle: true }),
      });
      return { sdk, client };
    });
  }

  /** Does a request; `absent` answers for an object that does not exist. */
  async #ask<T>(
    doing: string,
    request: (opened: { sdk: Sdk; client: InstanceType<Sdk["S3Client"]> }) => Promise<T>,
    absent?: () => T,
  ): Promise<T> {
    try {
      return await request(await this.#open());
    } catch (error) {
      // What the disk says is not about the storage.
      if ((error as { code?: string }).code !== undefined && statusOf(error) === undefined) {
        if (!isNetwork(error)) throw error;
      }
      const { name, message } = error as Error;
      if (statusOf(error) === 404 && name !== "NoSuchBucket" && absent !== undefined) {
        return absent();
      }
      throw this.#explain(doing, name, message, error);
    }
  }

  #explain(doing: string, name: string, message: string, cause: unknown): unknown {
    const what = `${doing} in the store ${this.location}`;
    const status = statusOf(cause);
    if (name === "NoSuchBucket") {
      return new UserError(`${what}: there is no bucket '${this.#bucket}'; create it first`, {
        cause,
      });
    }
    if (status === 401 || status === 403 || /Credentials/.test(name)) {
      const wayOut = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this bucket";
      return new UserError(`${what}: ${message || name}; ${wayOut}`, { cause });
    }
    const text = `${what}: ${message || name}`;
    const passing = status === undefined || status >= 500 || status === 429;
    return passing ? new RetryableError(text, { cause }) : new UserError(text, { cause });
  }
}

/** Whether a conditional write came too late: 409 where another one is just under way. */
function refusedCondition(error: unknown): boolean {
  const status = statusOf(error);
  return status === 412 || status === 409;
}

function isNetwork(error: unknown): boolean {
  const { code = "" } = error as { code?: string };
  return /^(ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN)$/.test(code);
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}
