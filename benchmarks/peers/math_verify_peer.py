"""Math-Verify on the pairs of each request: one JSON request a line, the seconds as answer."""
import json
import sys
import time
from importlib.metadata import version

from math_verify import parse, verify

print(json.dumps({"peer": "math-verify " + version("math-verify")}), flush=True)
for line in sys.stdin:
    pairs = json.loads(line)["pairs"]
    started = time.perf_counter()
    for gold, prediction in pairs:
        verify(parse("\\boxed{" + gold + "}"), parse("\\boxed{" + prediction + "}"))
    print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
