"""Run the lines of docker/Dockerfile, as they are written, in folders instead of images: for machines without Docker.

    python scripts/check_container.py --base DEBIAN_FOLDER --out FOLDER -- pose2rgbd sim dataset /data/d --frames 4

DEBIAN_FOLDER stands for the image that FROM names, as `debootstrap --variant=minbase bookworm DEBIAN_FOLDER` makes it
(it is copied, not changed). Each stage becomes a folder of FOLDER, each RUN a chroot into it, COPY a copy that heeds
.dockerignore. The size of the last stage is printed, then the command behind `--` runs in it by the image's entrypoint
and user. Needs root. What a machine needs beside, such as its own registry, goes in by --bind, --env and --build-arg.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A folder that is to become an image, and what lines of the recipe have set for later ones."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions(recipe: str) -> Iterator[tuple[str, str]]:
    """(RUN, its text) and so on; lines that end with a backslash go on, comments are left out."""
    lines = [line for line in recipe.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, text = line.strip().partition(" ")
            yield word.upper(), text.strip()


def filled(text: str, values: dict[str, str]) -> str:
    """${NAME} of arguments and environment, as FROM, COPY, WORKDIR and ENV have it."""
    return re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], ""), text)


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore leaves a path (relative to the context) out."""
    parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
    return any(fnmatch.fnmatch(each, pattern.replace("**/", "*")) or fnmatch.fnmatch(each, pattern.removeprefix("**/"))
               for each in parents for pattern in patterns)  # fmt: skip


class Builder:
    """Carries out a recipe in `out`; `base` stands for every image that is not a stage."""

    def __init__(self, base: Path, out: Path, given: dict[str, str], binds: list[str], extra: dict[str, str]) -> None:
        self.base, self.out, self.given, self.binds, self.extra = base, out, given, binds, extra
        self.arguments: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}

    def build(self, recipe: str) -> Stage:
        """All stages; the last one."""
        stage = None
        for word, text in instructions(recipe):
            if word == "ARG":
                name, _, value = text.partition("=")
                self.arguments[name] = self.given.get(name, value.strip('"'))
                continue
            print(f"{word} {text}", flush=True)
            if word == "FROM":
                stage = self._begin(text)
                continue
            assert stage is not None, "the recipe begins with FROM"
            if word == "RUN":
                self.run(stage, ["/bin/sh", "-c", text])
            elif word == "COPY":
                self._copy(stage, shlex.split(text))
            elif word == "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(filled(text, self.arguments)))
            elif word == "WORKDIR":
                stage.workdir = text
                Path(f"{stage.folder}{text}").mkdir(parents=True, exist_ok=True)
            elif word == "USER":
                stage.user = text
            elif word in ("ENTRYPOINT", "CMD"):
                setattr(stage, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[word], json.loads(text))
            else:
                raise SystemExit(f"check_container.py does not know {word}; teach it")
        assert stage is not None
        return stage

    def _begin(self, text: str) -> Stage:
        image, _, name = filled(text, self.arguments).partition(" AS ")
        source = self.stages[image].folder if image in self.stages else self.base
        stage = Stage(self.out / f"{len(self.stages)}-{name or 'image'}")
        self.stages[name or image] = stage
        shutil.rmtree(stage.folder, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(source), str(stage.folder)], check=True)
        return stage

    def _copy(self, stage: Stage, words: list[str]) -> None:
        origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), "")
        *sources, target = [word for word in words if not word.startswith("--")]
        place = Path(
            f"{stage.folder}/{target}" if target.startswith("/") else f"{stage.folder}{stage.workdir}/{target}"
        )
        for source in sources:
            if origin:
                subprocess.run(["cp", "-aT", f"{self.stages[origin].folder}{source}", str(place)], check=True)
            else:
                self._copy_context(ROOT / source, place)

    def _copy_context(self, source: Path, place: Path) -> None:
        if source.is_file():
            shutil.copy2(source, place)
            return
        patterns = (ROOT / ".dockerignore").read_text().split()
        shutil.copytree(
            source, place, dirs_exist_ok=True, symlinks=True,
            ignore=lambda folder, names: [
                name for name in names if is_ignored(Path(folder, name).relative_to(ROOT).as_posix(), patterns)
            ],
        )  # fmt: skip

    def run(self, stage: Stage, words: list[str], user: str = "") -> None:
        """A command in the folder of a stage; SystemExit where it fails."""
        # Of this machine, so read-only: packages that are installed inside would write to it.
        own = ["/etc/resolv.conf", *self.binds]
        mounts = ["/proc", "/dev", "/sys", *own]
        for path in mounts:
            inside = Path(f"{stage.folder}{path}")
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.mkdir(exist_ok=True) if Path(path).is_dir() else inside.touch()
        mounting = " && ".join(
            [f"mount --rbind {path} {stage.folder}{path}" for path in mounts]
            + [f"mount -o remount,bind,ro {stage.folder}{path}" for path in own]
        )
        user_option = f"--userspec={user}" if user else ""
        inside = f"cd {stage.workdir} && exec {shlex.join(words)}"
        line = f"{mounting} && exec chroot {user_option} {stage.folder} /bin/sh -c {shlex.quote(inside)}"
        environment = {"PATH": PATH, "HOME": f"/home/{user}" if user else "/root", "LANG": "C.UTF-8"}
        environment |= self.arguments | stage.environment | self.extra
        # A mount namespace of its own: what is mounted in it is gone when it ends.
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", line], env=environment
        )
        if done.returncode:
            raise SystemExit(f"exit status {done.returncode}: {shlex.join(words)}")


def main() -> None:
    """Build, measure, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of a bare Debian")
    parser.add_argument("--out", type=Path, required=True, help="folder for the stages")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--bind", action="append", default=[], metavar="PATH", help="of this machine, read-only inside")
    parser.add_argument("--env", action="append", default=[], metavar="NAME", help="of this shell, seen inside")
    parser.add_argument("command", nargs="*", help="run in the image")
    arguments = parser.parse_args()
    if os.geteuid():
        raise SystemExit("chroot needs root")
    given = dict(pair.split("=", 1) for pair in arguments.build_arg)
    extra = {name: os.environ[name] for name in arguments.env if name in os.environ}
    builder = Builder(arguments.base.resolve(), arguments.out.resolve(), given, arguments.bind, extra)
    image = builder.build((ROOT / "docker" / "Dockerfile").read_text())
    measured = subprocess.run(["du", "-xsm", str(image.folder)], capture_output=True, text=True, check=True)
    print(f"size of the image: {measured.stdout.split()[0]} MiB")
    builder.run(image, [*image.entrypoint, *(arguments.command or image.command)], image.user)


if __name__ == "__main__":
    sys.exit(main())
