"""ALFWorld's own environment: reads a JSON request a line, answers with seconds or with what it said."""

import json
import statistics
import sys
import time

import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs.pddl.pddl import PddlEnv


def median(times):
    return statistics.median(times)


def environment(path, facts=False):
    infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=facts)
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


def told(state):
    """All that a player can learn of a state."""
    facts = {
        f"{fact.name}({', '.join(each.name for each in fact.arguments)})"
        for fact in state["facts"]
        if not fact.name.startswith("new-axiom@")
    }
    return {
        "observation": state["feedback"],
        "won": bool(state["won"]),
        "admissibleCommands": list(state["admissible_commands"]),
        "facts": sorted(facts),
    }


def play(request):
    """The states of a game in which commands are given, the start first."""
    env = environment(request["game"], facts=True)
    states = [told(env.reset())]
    for command in request["commands"]:
        state, reward, done = env.step(command)
        states.append({**told(state), "reward": reward, "done": bool(done)})
    return states


print(json.dumps({"peer": f"textworld {textworld.__version__}"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["work"] == "play":
        print(json.dumps({"states": play(request)}), flush=True)
    else:
        print(json.dumps({"seconds": work(request)}), flush=True)
