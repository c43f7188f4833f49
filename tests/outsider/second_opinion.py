"""Asks two judges about the same requests: `second_opinion.py DECIDE [CASES] [SEED]`.

`DECIDE` is the example `decide` of `crates/fapi`. The verdicts must be equal, and the reason one that the oracle allows;
what differs is written out in full, and the exit code is 1.
"""

import collections
import json
import random
import re
import subprocess
import sys

import oracle
import oracle_cases as cases


def main(decide, count=20_000, seed=1):
    rng = random.Random(seed)
    keys = cases.Keys(rng)
    first, last = cases.NOW - 400, cases.NOW + 100
    listed = subprocess.run([decide, "nonces", cases.SECRET, str(first), str(last)], capture_output=True, text=True, check=True)
    nonces = dict(zip(range(first, last + 1), listed.stdout.split()))
    drafts = [cases.draw(rng, keys, nonces) for _ in range(count)]
    lines = [draft.line() for draft in drafts]
    told = subprocess.run([decide], input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True)
    if told.returncode:
        sys.exit(told.stderr)
    verdicts = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(verdicts) == count, f"{len(verdicts)} of {count} answered"
    minted = {nonce: second for second, nonce in nonces.items()}
    seen_reasons, differ = collections.Counter(), []
    for draft, line, answers in zip(drafts, lines, verdicts):
        problem = compare(line, answers, minted, seen_reasons)
        if problem:
            differ.append((draft, line, problem))
    for reason, times in sorted(seen_reasons.items()):
        print(f"{times:7}  {reason}")
    for draft, line, problem in differ[:20]:
        print(f"DIFFERENT  {problem}\n  bent: {draft.bent}")
        print("  " + json.dumps({"world": line["world"], "steps": [show(step) for step in line["steps"]]}))
    by_bend = collections.Counter((tuple(draft.bent), problem) for draft, _, problem in differ)
    for (bent, problem), times in by_bend.most_common(40):
        print(f"{times:5}  {problem}  {list(bent)}")
    missing = WANTED - set(seen_reasons)
    print(f"{count} cases of seed {seed}, {len(differ)} different" + (f"; never seen: {sorted(missing)}" if missing else ""))
    sys.exit(1 if differ or (missing and count >= 20_000) else 0)


# What a run must have seen to mean anything.
WANTED = {
    "admit", "need_keys", "request_malformed", "token_missing", "token_malformed", "issuer_not_allowed", "alg_not_allowed",
    "key_not_found", "signature_invalid", "token_type", "token_expired", "token_not_yet_valid", "token_too_old",
    "audience_mismatch", "binding_missing", "binding_unknown", "binding_cert_mismatch", "bound_token_sent_as_bearer",
    "proof_missing", "proof_malformed", "proof_htm", "proof_htu", "proof_ath", "proof_stale", "proof_key_mismatch",
    "proof_nonce_required", "proof_nonce_stale", "proof_replayed", "caller_mismatch", "rule_not_matched",
    "caller_not_allowed", "scope_insufficient",
}


def compare(line, answers, minted, seen_reasons):
    """What differs, or None."""
    seen = set()
    for step, told in zip(line["steps"], answers):
        allowed, judgement = oracle.judge(line["world"], minted, seen, step["clock"], step["request"])
        reason = {"admitted": oracle.ADMIT, "needKeys": oracle.NEED_KEYS}.get(told["verdict"]) or told["reason"]
        seen_reasons[reason] += 1
        if reason not in allowed:
            return f"fapi: {reason}, oracle: {sorted(allowed)}"
        if reason == oracle.ADMIT and judgement.scheme == "dpop":
            seen.add(judgement.proof_id)
        if told["verdict"] == "refused":
            status, code = oracle.answer(reason)
            challenge = told.get("wwwAuthenticate") or ""
            codes = set(re.findall(r'error="([^"]*)"', challenge))
            if told["status"] != status or codes != ({code} if code else set()):
                return f"{reason} answered with {told['status']} {challenge!r}, oracle: {status} {code}"
            if status == 401 and not challenge or told["nonce"] != (code == "use_dpop_nonce"):
                return f"{reason} without what belongs to it"
    return None


def show(step):
    """A step with its JWTs readable."""

    def part(text):
        try:
            return oracle.unb64(text).decode()
        except (oracle.Bad, UnicodeDecodeError):
            return text

    headers = [[name, " . ".join(map(part, value.split(" ")[-1].split("."))), value] for name, value in step["request"]["headers"]]
    return step | {"request": step["request"] | {"headers": headers}}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
