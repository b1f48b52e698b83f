#!/usr/bin/env python3
"""Runs vhdtool info, check and hash on every image of one family in a manifest, and judges.

usage: hostile.py MANIFEST FAMILY VHDTOOL [IMAGE...]

The manifest is that of fixtures/gen/make_images.py. Prints one line for each image: "pass" or
"fail", its name, and what was wrong, with tabs between. Ends with status 0 when all are judged.

Each command gets 10 seconds and 512 MiB of address space; with HVKIT_ASAN=1, a minute and no limit.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SECONDS = 10
LIMITED = ["sh", "-c", 'ulimit -v 524288 && exec "$@"', "sh"]
ASAN = os.environ.get("HVKIT_ASAN") == "1"
SLOWER = 6 if ASAN else 1


class Wrong(Exception):
    pass


def run(tool, directory, *arguments):
    command = ([] if ASAN else LIMITED) + [tool, *arguments]
    try:
        done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL,
                              timeout=SECONDS * SLOWER, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    except subprocess.TimeoutExpired:
        raise Wrong(f"no end after {SECONDS * SLOWER} s") from None
    if done.returncode < 0 or done.returncode >= 126:
        raise Wrong(f"ended with {done.returncode}: {text(done.stderr)[:200]}")
    if done.returncode == 99:
        raise Wrong("a sanitizer found a fault")
    return done.returncode, text(done.stdout), text(done.stderr)


def text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Wrong(f"the output is not UTF-8: {data[:200]}") from None


def judge_exit(want, got, err):
    allowed = want["exit"] if isinstance(want["exit"], list) else [want["exit"]]
    if got not in allowed:
        raise Wrong(f"exit {got} instead of {' or '.join(map(str, allowed))}: {err.strip()[:200]}")


def judge_sentence(want, got, err):
    """A failure has said one sentence, and the right one."""
    if got != 1:
        return
    if not re.fullmatch(r"vhdtool: \S[^\n]*[^\n.!]\n", err):
        raise Wrong(f"standard error is not one sentence: {err[:300]!r}")
    if "sentence" in want and not re.search(want["sentence"], err[len("vhdtool: "):]):
        raise Wrong(f"says {err.strip()!r}, which does not match {want['sentence']}")


def parse(out):
    try:
        return json.loads(out)
    except ValueError as error:
        raise Wrong(f"the output is no JSON ({error}): {out[:200]!r}") from None


def judge_info(image, _want, got, out):
    if got == 0 and "size_bytes" in image:
        size = parse(out).get("size_bytes")
        if size != image["size_bytes"]:
            raise Wrong(f"{size} bytes instead of {image['size_bytes']}")


def judge_check(image, want, got, out):
    if got not in (0, 3, 4):
        return
    findings = parse(out)["findings"]
    codes = [f"{f['code']} ({f['severity']})" for f in findings]
    worst = {f["severity"] for f in findings}
    status = 3 if "error" in worst else 4 if "leak" in worst else 0
    if status != got:
        raise Wrong(f"exit {got} with these findings: {', '.join(codes)}")
    if "code" in want and not any(re.search(want["code"], f["code"]) for f in findings):
        raise Wrong(f"no finding {want['code']} among: {', '.join(codes) or 'none'}")


def judge_hash(image, _want, got, out):
    if got != 0 or "sha256" not in image:
        return
    if out != f"{image['sha256']}  {image['file']}\n":
        raise Wrong(f"printed {out!r} instead of {image['sha256']}")


JUDGES = {"info": (["--json"], judge_info), "check": (["--json"], judge_check),
          "hash": ([], judge_hash)}


def judge(tool, directory, image):
    """What is wrong with each command; nothing when all is well."""
    wrong = []
    for command, (options, judge_output) in JUDGES.items():
        want = image["expect"].get(command)
        if want is None:
            continue
        try:
            got, out, err = run(tool, directory, command, *options, image["file"])
            judge_exit(want, got, err)
            judge_sentence(want, got, err)
            judge_output(image, want, got, out)
        except Wrong as error:
            wrong.append(f"{command}: {error}")
    return wrong


def main(arguments):
    if len(arguments) < 4:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    manifest, family, tool = arguments[1:4]
    with open(manifest, encoding="utf-8") as file:
        images = [image for image in json.load(file)["images"] if image["family"] == family and
                  (not arguments[4:] or image["name"] in arguments[4:])]
    directory = os.path.dirname(os.path.abspath(manifest))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for image, wrong in zip(images, pool.map(
                lambda image: judge(os.path.abspath(tool), directory, image), images)):
            why = "; ".join(wrong).replace("\t", " ").replace("\n", " ")
            print("fail" if wrong else "pass", image["name"], f"{image['description']}: {why}"
                  if wrong else "", sep="\t", flush=True)
    return 0 if images else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
