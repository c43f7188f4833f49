// One line for each observation; the process fails if any is not the expected one.

import { isDeepStrictEqual } from "node:util";

let failed = 0;

export function check(name, observed, expected) {
  const good = isDeepStrictEqual(observed, expected);
  failed += good ? 0 : 1;
  console.log(`${good ? "ok    " : "FAILED"}  ${name}`);
  if (!good) console.log(`        ${JSON.stringify(expected)}\n    but ${JSON.stringify(observed)}`);
}

/** The OAuth error with which a request fails. */
export async function refusal(request) {
  try {
    await request;
    return "no refusal";
  } catch (error) {
    return error.error ?? error.cause?.error ?? `${error}: ${error.cause}`;
  }
}

export function finish() {
  console.log(failed ? `${failed} failed` : "all as expected");
  process.exitCode = failed ? 1 : 0;
}
