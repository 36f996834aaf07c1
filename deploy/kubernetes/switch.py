"""Send callers to the other colour, once it can answer them: nothing else sets the selector of the Service pcc-serve.

    python deploy/kubernetes/switch.py              which colour is called, and which could be
    python deploy/kubernetes/switch.py green        wait until green is ready, then send callers there
    python deploy/kubernetes/switch.py back         the same with the colour that was called before

It runs kubectl with the rights of whoever calls it: to read pods, deployments, autoscalers and the Service, to forward
a port to a pod, and to change the Service and the autoscaler. It waits until the colour has as many pods as the one
that is called now (it raises the autoscaler's minimum for that, which the next `kubectl apply` of the colour sets
back), none of them of an earlier description, and until each says at /readyz that it has a version on duty. Then both
colours are called for --overlap seconds, since a load balancer sends nothing to a pod that it has not found healthy
yet, and then the new one alone. The old one goes on running.

Exit codes: 0 callers are where they should be; 1 the colour did not become ready in time, or Kubernetes refused
something; 2 there is no such option; 128 and its number for a signal. After 1 and after a signal callers are where they
were, or the last line that begins with `called` says where.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import selectors
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

COLOURS = ("blue", "green")
SERVICE = "pcc-serve"
LABEL = "pcc/colour"
BOTH = {"app.kubernetes.io/name": "pcc-serve"}
# On the Service: the colour that was called before.
BEFORE = "pcc/colour-before"
PORT = 8000
_LOOK_SECONDS = 3.0
_REQUEST_SECONDS = 20.0
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")


class SwitchError(Exception):
    """Callers are not sent to the colour, and why."""


class Ended(BaseException):
    """A signal came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """SIGINT, SIGTERM and SIGHUP as `Ended`, but not in the middle of a change."""

    def __init__(self) -> None:
        self._depth = 0
        self.came: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on)

    def _on(self, number: int, frame: FrameType | None) -> None:
        first = self.came is None
        self.came = self.came or number
        if first and self._depth == 0:
            raise Ended(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is begun in this block is ended; a signal that came meanwhile is raised behind the outermost one."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self.came is not None and self._depth == 0:
                raise Ended(self.came)

    def wait(self, seconds: float) -> None:
        """For so long, or until one comes; in a block that holds them."""
        end = time.monotonic() + seconds
        while self.came is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


class Kubectl:
    """kubectl, for one namespace. Its processes are not of our group, so that Ctrl-C reaches us alone.

    Args:
        options: what stands in each command, such as --namespace=pcc.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._options = list(options)

    def get(self, kind: str, *names: str) -> dict[str, Any]:
        """One thing, or a list of them, as Kubernetes has it."""
        document: dict[str, Any] = json.loads(self._run("get", kind, *names, "--output=json"))
        return document

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> None:
        """Change a thing; what is None in the change goes (a JSON merge patch)."""
        self._run("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}")

    def _run(self, *words: str) -> str:
        command = ["kubectl", *self._options, f"--request-timeout={_REQUEST_SECONDS:g}s", *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=3 * _REQUEST_SECONDS, start_new_session=True
            )
        except FileNotFoundError:
            raise SwitchError("there is no kubectl on the PATH") from None
        except subprocess.TimeoutExpired:
            raise SwitchError(f"kubectl {words[0]} {words[1]} does not end") from None
        if done.returncode != 0:
            raise SwitchError(f"kubectl {words[0]} {words[1]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return done.stdout

    @contextlib.contextmanager
    def forwarded(self, pod: str) -> Iterator[str]:
        """The address on this machine that leads to the server of a pod."""
        command = ["kubectl", *self._options, "port-forward", f"pod/{pod}", f":{PORT}", "--address=127.0.0.1"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True
        )
        try:
            line = _first_line(process)
            if (match := _FORWARDED.match(line)) is None:
                raise SwitchError(f"no port could be forwarded to {pod}")
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            process.kill()
            process.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(_REQUEST_SECONDS) else ""


@dataclass(frozen=True)
class Called:
    """What the Service selects.

    Attributes:
        selector: empty where it has none yet.
        before: the colour that was called before.
    """

    selector: dict[str, str]
    before: str | None
    resource_version: str

    @property
    def colour(self) -> str | None:
        """The one colour that is called; None for neither, or both."""
        return self.selector.get(LABEL)

    @property
    def in_words(self) -> str:
        """For people."""
        return self.colour or ("both colours" if self.selector else "neither colour")


class Switch:
    """The change from one colour to the other.

    Args:
        timeout: seconds that the colour may take to become ready.
        overlap: seconds in which both are called.
        say: prints a line.
    """

    def __init__(
        self, kubectl: Kubectl, signals: Signals, *, timeout: float, overlap: float, say: Callable[[str], None]
    ) -> None:
        self._kubectl, self._signals, self._say = kubectl, signals, say
        self._timeout, self._overlap = timeout, overlap

    def called(self) -> Called:
        """What the Service selects now."""
        service = self._kubectl.get("service", SERVICE)
        metadata = service["metadata"]
        before = (metadata.get("annotations") or {}).get(BEFORE)
        return Called(service["spec"].get("selector") or {}, before, metadata["resourceVersion"])

    def show(self) -> None:
        """Which colour is called, and what each has."""
        called = self.called()
        self._say(f"called     {called.in_words}; before: {called.before or 'none'}")
        for colour in COLOURS:
            deployments = self._kubectl.get("deployment", f"--selector={LABEL}={colour}")["items"]
            for deployment in deployments:
                ready = deployment.get("status", {}).get("readyReplicas", 0)
                image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
                self._say(f"{colour:<10} {ready} of {deployment['spec'].get('replicas', 1)} pods ready, {image}")
            if not deployments:
                self._say(f"{colour:<10} not there")

    def to(self, colour: str | None) -> None:
        """Send callers to a colour, or (None) to the one before.

        Raises:
            SwitchError: why they are not sent there.
        """
        called = self.called()
        colour = colour or called.before
        if colour is None:
            raise SwitchError("no colour was called before")
        if called.colour == colour:
            self._say(f"called     {colour}, as before: nothing is changed")
            return
        pods = self._demand(colour, self._pods_of(called.colour))
        if called.colour is not None and self._overlap > 0:
            self._by_both(called, colour, pods)
        else:
            with self._signals.held():
                # Of a switch that was killed while both were called, the annotation says from which colour it came.
                self._point(called.selector, {**BOTH, LABEL: colour}, called.colour or called.before)
                self._say(f"called     {colour}")

    def _by_both(self, called: Called, colour: str, pods: int) -> None:
        # All of it is held, so that no second signal comes between a signal and the way back.
        with self._signals.held():
            try:
                self._point(called.selector, BOTH, called.colour)
                self._say(f"called     both colours for {self._overlap:g} s, until load balancers know {colour}")
                self._signals.wait(self._overlap)
                if self._signals.came is None and (reason := self._not_ready(colour, pods)):
                    raise SwitchError(f"{colour} was ready, and is not any more: {reason}")
                if self._signals.came is None:
                    self._point(BOTH, {**BOTH, LABEL: colour}, called.colour)
                    self._say(f"called     {colour}")
                else:
                    self._restore(called)
            except SwitchError:
                self._restore(called)
                raise

    def _restore(self, called: Called) -> None:
        """What was called before is called again, unless the last change was made all the same."""
        try:
            now = self.called()
            if now.selector == BOTH:
                self._point(BOTH, called.selector, called.before)
                now = called
            self._say(f"called     {now.in_words}")
        except SwitchError as error:
            self._say(f"called     both colours, it may be, since {error}; mend it by: switch.py {called.colour}")

    def _point(self, expected: dict[str, str], selector: dict[str, str], before: str | None) -> None:
        """Give the Service a selector, if it has the one that is expected.

        Raises:
            SwitchError: it has another: somebody else is at it.
        """
        for tries_left in (3, 2, 1, 0):
            now = self.called()
            if now.selector != expected:
                raise SwitchError(f"somebody else changed the Service: it calls {now.in_words}")
            # With this number Kubernetes refuses the change if anything else came first: a controller, or somebody.
            metadata = {"resourceVersion": now.resource_version, "annotations": {BEFORE: before}}
            gone = dict.fromkeys(expected.keys() - selector.keys())
            try:
                with self._signals.held():
                    change = {"metadata": metadata, "spec": {"selector": {**selector, **gone}}}
                    self._kubectl.patch("service", SERVICE, change)
                return
            except SwitchError as error:
                if tries_left == 0 or "(Conflict)" not in str(error):
                    raise

    def _demand(self, colour: str, pods: int) -> int:
        """Wait until a colour can answer what the other one answers now; the pods that this takes."""
        name = f"{SERVICE}-{colour}"
        limits = self._kubectl.get("horizontalpodautoscaler", name)["spec"]
        pods = min(pods, limits["maxReplicas"])
        if limits.get("minReplicas", 1) < pods:
            self._kubectl.patch("horizontalpodautoscaler", name, {"spec": {"minReplicas": pods}})
            self._say(f"{colour:<10} gets {pods} pods, as many as are called now")
        end, last_reason = time.monotonic() + self._timeout, ""
        while reason := self._not_ready(colour, pods):
            if reason != last_reason:
                self._say(f"{colour:<10} waiting: {reason}")
                last_reason = reason
            if time.monotonic() + _LOOK_SECONDS > end:
                raise SwitchError(f"{colour} is not ready after {self._timeout:g} s: {reason}")
            time.sleep(_LOOK_SECONDS)
        return pods

    def _not_ready(self, colour: str, needed: int) -> str | None:
        """Why a colour cannot be called; None if it can."""
        deployment = self._kubectl.get("deployment", f"{SERVICE}-{colour}")
        status = deployment.get("status", {})
        if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
            return "its newest description is not taken up yet"
        old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
        if old > 0:
            return f"{old} pods are of an earlier description"
        pods = self._kubectl.get("pods", f"--selector={LABEL}={colour},app.kubernetes.io/name={SERVICE}")["items"]
        names = [pod["metadata"]["name"] for pod in pods if _is_ready(pod)]
        if len(names) < needed:
            return f"{len(names)} of {needed} pods are ready"
        versions = set()
        for name in names:
            try:
                with self._kubectl.forwarded(name) as address:
                    document = _readyz(address)
            except SwitchError as error:
                return str(error)
            if document.get("ready") is not True:
                return f"{name} is not ready: {document.get('reason', 'it does not answer')}"
            versions.add(str(document.get("champion")))
        self._say(f"{colour:<10} {len(names)} pods are ready, with {' and '.join(sorted(versions))}")
        return None

    def _pods_of(self, colour: str | None) -> int:
        if colour is None:
            return 1
        deployment = self._kubectl.get("deployment", f"{SERVICE}-{colour}")
        return max(1, int(deployment.get("status", {}).get("readyReplicas", 0)))


def _is_ready(pod: dict[str, Any]) -> bool:
    """As the kubelet sees it; a pod that is being ended is not."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _readyz(address: str) -> dict[str, Any]:
    """What a server says of itself; empty if it says nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/readyz", timeout=_REQUEST_SECONDS) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            text = refusal.read()
    except OSError:
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def parser_of_switch() -> argparse.ArgumentParser:
    """Its options."""
    summary, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="switch.py", description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("to", nargs="?", choices=(*COLOURS, "back"), help="without it, nothing is changed")
    parser.add_argument("--namespace", default="pcc", help="default: pcc")
    parser.add_argument("--context", help="of kubectl's configuration; default: its current one")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that the colour may take; default: 600")
    parser.add_argument(
        "--overlap", type=float, default=60, help="seconds in which both colours are called; default: 60"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    options = parser_of_switch().parse_args(arguments)
    named = [f"--namespace={options.namespace}"]
    if options.context:
        named.append(f"--context={options.context}")

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        switch = Switch(Kubectl(named), Signals(), timeout=options.timeout, overlap=options.overlap, say=say)
        if options.to is None:
            switch.show()
        else:
            switch.to(None if options.to == "back" else options.to)
    except SwitchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Ended as ended:
        print(f"ended by {signal.Signals(ended.number).name}", file=sys.stderr)
        return 128 + ended.number
    return 0


if __name__ == "__main__":
    sys.exit(main())
