// The mesh as a client finds it: demo.json, an identity, and connections that know whom they talk to.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, buildConnector, fetch } from "undici";

const START_WITHIN = 60_000;

/** Starts a mesh with `fapictl demo --keep`. Ends it when `use` has ended. */
export async function withMesh(fapictl, use) {
  const folder = mkdtempSync(join(tmpdir(), "fapi-clients-"));
  const demo = spawn(fapictl, ["demo", "--keep", "--no-story", "--state", join(folder, "mesh")], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => demo.once("exit", resolve));
  try {
    await use(new Mesh(fapictl, join(folder, "mesh"), await described(join(folder, "mesh"), demo)));
  } finally {
    demo.kill("SIGINT");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What the mesh says of itself, once it serves. */
async function described(folder, demo) {
  const end = Date.now() + START_WITHIN;
  for (;;) {
    try {
      return JSON.parse(readFileSync(join(folder, "demo.json"), "utf8"));
    } catch (error) {
      if (demo.exitCode !== null || Date.now() > end) throw new Error(`no mesh came up: ${error.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

class Mesh {
  constructor(fapictl, folder, about) {
    Object.assign(this, { fapictl, folder, about, issuer: new URL(about.issuer) });
    this.ca = readFileSync(about.trust_bundle);
  }

  workload(account) {
    return this.about.workloads.find((one) => one.service_account === account);
  }

  /** The certificate and key of a workload, and the way to fetch with them. */
  identity(account) {
    const { namespace, name, spiffe_id: id } = this.workload(account);
    const out = join(this.folder, `client-${account}`);
    execFileSync(this.fapictl, ["identity", "--state", this.folder, "--workload", `${namespace}/${name}`, "--out", out]);
    const tls = { ca: this.ca, cert: readFileSync(join(out, "chain.pem")), key: readFileSync(join(out, "key.pem")) };
    return { id, tls, fetch: this.fetcher(tls) };
  }

  /** Adds a document to the folder that the operator reads. */
  declare(name, document) {
    writeFileSync(join(this.folder, "config", `${name}.yaml`), JSON.stringify(document));
  }

  /** A fetch that shows a certificate, if there is one, and goes on only if the server proves the SPIFFE ID that belongs to the host. */
  fetcher(tls) {
    const operator = `spiffe://${this.about.trust_domain}/ns/fapi-mesh/sa/fapi-operator`;
    const agent = new Agent({
      connect: (options, done) => {
        const served = this.about.workloads.find((one) => one.service === `https://${options.hostname}`);
        const expected = served ? served.spiffe_id : operator;
        const [hostname, port] = served ? served.inbound.split(":") : [options.hostname, options.port];
        const checkServerIdentity = (_, certificate) =>
          certificate.subjectaltname?.split(", ").includes(`URI:${expected}`)
            ? undefined
            : new Error(`${certificate.subjectaltname} is not ${expected}`);
        buildConnector({ ...tls, checkServerIdentity, minVersion: "TLSv1.3" })({ ...options, hostname, port, servername: "" }, done);
      },
    });
    return (url, options) => fetch(url, { ...options, dispatcher: agent });
  }
}
