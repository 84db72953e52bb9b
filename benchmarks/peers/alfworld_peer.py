"""ALFWorld's own environment: reads a JSON request a line, answers with the median seconds."""

import json
import statistics
import sys
import time

import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs.pddl.pddl import PddlEnv


def median(times):
    return statistics.median(times)


def environment(path):
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    env = AlfredDemangler(PddlEnv(infos))
    env.load(path)
    return env


def work(request):
    """One unit: loading and resetting a game, or a step with its admissible commands."""
    times = []
    if request["work"] == "load":
        for path in request["games"]:
            start = time.perf_counter()
            environment(path).reset()
            times.append(time.perf_counter() - start)
        return median(times)
    env = environment(request["games"][0])
    state = env.reset()
    number = 1
    for _ in range(request["steps"]):
        commands = state["admissible_commands"]
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF
        command = commands[number % len(commands)]
        start = time.perf_counter()
        state, _, _ = env.step(command)
        times.append(time.perf_counter() - start)
    return statistics.fmean(times)


print(json.dumps({"peer": f"textworld {textworld.__version__}"}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": work(json.loads(line))}), flush=True)
