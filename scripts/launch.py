"""Start a training on this machine, or print the job file for a cluster: `zoo launch slurm --nodes 2 -- train ...`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import UsageError, did_you_mean
from zoo.scripts import launch_local
from zoo.scripts.clusters.manifests import job_set, train_job
from zoo.scripts.console import Parser, run_command

_HELP = """usage: zoo launch PLACE [options] -- train --model NAME --data NAME [options]

zoo launch local N -- train ...        starts N workers on this machine
zoo launch slurm -- train ...          prints a script for sbatch
zoo launch ray -- train ...            prints a Python program for a Ray cluster
zoo launch kubernetes -- train ...     prints manifests for kubectl

Every worker runs the same command. `zoo train` finds the other workers by itself, and all of them train one model.
zoo launch PLACE --help shows the options of a place.
"""
_FOLDER = Path(__file__).with_name("clusters")
_EXAMPLE = "Try `zoo launch slurm --nodes 2 -- train --model cnn --data digits`."
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


def command(argv: list[str]) -> int:
    """Starts the workers on this machine, or prints a job file; returns the exit status."""
    if argv[:1] in ([], ["-h"], ["--help"]):
        print(_HELP, end="")
        return 0 if argv else 2
    place, rest = argv[0], argv[1:]
    if place == "local":
        return launch_local.command(rest)
    if place not in _PLACES:
        raise UsageError(f"zoo launch {place} is unknown. {did_you_mean(place, ['local', *_PLACES])}")
    options, words = _parse(place, rest)
    print(_PLACES[place](options, words), end="")
    return 0


def _parse(place: str, argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the options before `--`, and the user's command after it."""
    parser = Parser(f"launch {place}", f"Print the job file of a training for {place}.")
    parser.add_argument("--nodes", type=int, default=2, help="Number of machines, each with one worker.")
    parser.add_argument("--name", default="zoo", help="Name of the job: small letters, digits and dashes.")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each worker.")
    parser.add_argument("--restarts", type=int, default=10, help="How often a failed job is started again.")
    if place != "ray":
        parser.add_argument("--cpus", type=int, default=4, help="CPU cores of each worker.")
    if place == "slurm":
        parser.add_argument("--tasks-per-node", type=int, default=1, help="Workers on each machine.")
        parser.add_argument("--time", help="Time limit of the job as Slurm writes it, such as 08:00:00.")
    if place == "kubernetes":
        parser.add_argument("--image", default="savedmodel-zoo", help="Container image that has this package.")
        parser.add_argument("--claim", default="work", help="PersistentVolumeClaim, mounted at /work in every pod.")
        parser.add_argument("--kind", choices=("jobset", "trainjob"), default="jobset", help="Kind of the manifest.")
    before, after = list(argv), list[str]()
    if "--" in before:
        before, after = before[: before.index("--")], before[before.index("--") + 1 :]
    options = parser.parse(before).as_dict()
    if not after or after[0] not in launch_local.TRAINING:
        came = f"`{after[0]}`" if after else "nothing"
        raise UsageError(f"{came} follows --; expected `train` and its options. {_EXAMPLE}")
    for word in after:
        if word.split("=", 1)[0] in launch_local.OWN:
            raise UsageError(f"{word} is not allowed after --, because workers find each other. Leave it out.")
    for name in ("nodes", "tasks_per_node", "cpus"):
        if options.get(name, 1) < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {options[name]}; expected at least 1. {_EXAMPLE}")
    for name in ("gpus", "restarts"):
        if options[name] < 0:
            raise UsageError(f"--{name} is {options[name]}; expected at least 0. {_EXAMPLE}")
    if not _NAME.fullmatch(options["name"]):
        raise UsageError(
            f"--name is {options['name']!r}; expected at most 40 small letters, digits and dashes. Pass --name my-run, say."
        )
    return options, after


def _slurm(options: dict[str, Any], words: Sequence[str]) -> str:
    gpus = f"\n#SBATCH --gpus-per-task={options['gpus']}" if options["gpus"] else ""
    time = f"\n#SBATCH --time={shlex.quote(options['time'])}" if options["time"] else ""
    command = shlex.join([sys.executable, "-P", "-m", "zoo.scripts.cli", *words])
    text = (_FOLDER / "slurm.sh").read_text(encoding="utf-8")
    return text.format(**{**options, "gpus": gpus, "time": time, "command": command})


def _ray(options: dict[str, Any], words: Sequence[str]) -> str:
    text = (_FOLDER / "ray.py.txt").read_text(encoding="utf-8")
    resources = {"CPU": 1, **({"GPU": options["gpus"]} if options["gpus"] else {})}  # one core is Ray's default
    settings = {"use_gpu": bool(options["gpus"]), "resources": resources, "folder": os.getcwd(), "words": list(words)}
    return text.format(**options, **settings)


def _kubernetes(options: dict[str, Any], words: Sequence[str]) -> str:
    make = {"jobset": job_set, "trainjob": train_job}[options["kind"]]
    given = {name: options[name] for name in ("nodes", "image", "cpus", "gpus", "claim", "restarts")}
    documents = make(options["name"], ["zoo", *words], **given)
    return yaml.dump_all(documents, sort_keys=False, width=120, Dumper=_Plain)


class _Plain(yaml.SafeDumper):
    """Writes equal lists twice instead of a reference to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether a value is written out; every one is."""
        return True


_PLACES: dict[str, Callable[[dict[str, Any], Sequence[str]], str]] = {
    "slurm": _slurm,
    "ray": _ray,
    "kubernetes": _kubernetes,
}


if __name__ == "__main__":
    sys.exit(run_command(command))
