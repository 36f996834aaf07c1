"""kubectl, as deploy/kubernetes/switch.py calls it: a Service, deployments, autoscalers and pods in a file.

The first argument names the file, the others are kubectl's. It is locked for each call, and holds `calls`: all command
lines, in their order. A pod has a `port` on this machine, where its server is, and `kubelet`, whether it is shown as
Ready. `slow` holds the seconds that a verb takes, `refuses` a verb that is forbidden, `conflicts` how many changes come
too late.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO


def merged(target: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def fail(message: str) -> None:
    sys.stderr.write(f"Error from server {message}\n")
    raise SystemExit(1)


def listed(state: dict[str, Any], kind: str, selector: str) -> list[Any]:
    colour = dict(pair.split("=") for pair in selector.split(","))["pcc/colour"]
    if kind == "pods":
        return [
            {
                "metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True" if pod["kubelet"] else "False"}]},
            }
            for name, pod in state["pods"].items()
            if pod["colour"] == colour
        ]
    return [each for name, each in state[kind].items() if name.endswith(f"-{colour}")]


def answer(state: dict[str, Any], words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    verb, *names = [word for word in words if not word.startswith("--")]
    if state.get("refuses") == verb:
        fail(f"(Forbidden): you may not {verb}")
    if verb == "get" and "--selector" in options:
        print(json.dumps({"items": listed(state, names[0], options["--selector"])}))
        return
    kind, name = names
    if name not in state[kind]:
        fail(f"(NotFound): {kind} {name}")
    if verb == "patch":
        change = json.loads(options["--patch"])
        version = change.get("metadata", {}).get("resourceVersion")
        if state.get("conflicts", 0) and version is not None:
            # A controller was faster.
            state["conflicts"] -= 1
            state[kind][name]["metadata"]["resourceVersion"] += "0"
        if version not in (None, state[kind][name]["metadata"].get("resourceVersion")):
            fail("(Conflict): the object has been modified")
        state[kind][name] = merged(state[kind][name], change)
        state[kind][name]["metadata"]["resourceVersion"] = str(time.monotonic_ns())
        if kind == "horizontalpodautoscaler":
            state["deployment"][name]["spec"]["replicas"] = change["spec"]["minReplicas"]
    print(json.dumps(state[kind][name]))


def main() -> None:
    path, *words = sys.argv[1:]
    with Path(path).open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.load(file)
        state["calls"].append(words)
        keep(file, state)
        if "port-forward" not in words:
            time.sleep(state.get("slow", {}).get(next(word for word in words if not word.startswith("--")), 0))
            try:
                answer(state, words)
            finally:
                keep(file, state)
    if "port-forward" in words:
        pod = next(word for word in words if word.startswith("pod/")).removeprefix("pod/")
        print(f"Forwarding from 127.0.0.1:{state['pods'][pod]['port']} -> 8000", flush=True)
        time.sleep(60)


def keep(file: TextIO, state: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    json.dump(state, file)
    file.flush()


if __name__ == "__main__":
    main()
