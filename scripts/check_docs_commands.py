"""Run the command lines of README and docs as they are written, on the output of `make demo`, and look at what they
promise.

    python scripts/check_docs_commands.py                    # all of them, one after another: two hours
    python scripts/check_docs_commands.py --quick            # trainings and flights cut short
    python scripts/check_docs_commands.py --list             # what is run, and what is left out and why
    python scripts/check_docs_commands.py --only launch      # those that hold this word

RUN, DATASET and the like stand for the demo's. Without a `ros2` command, `ros2 launch` becomes `pose2rgbd up`, and
`ros2 run pose2rgbd` becomes `pose2rgbd`. Nodes that need a drone get a player of the demo's flight beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/*.md", "docs/nodes/*.md", "docs/consumers/*.md")
TUTORIALS = ("docs/tutorials/*.md",)  # scripts/run_tutorials.py runs these, each page from its first line to its last
STARTS = re.compile(r"(docker|pose2rgbd|ros2|make|python3?|source|cd|colcon|rosdep|sudo|pip|TORCH_PIP_ARGS=\S+) ")
BESIDE = re.compile(r"(?:without ros2|on a full ROS 2|also|or): ((?:pose2rgbd|ros2) [^;]+)")
INLINE = re.compile(
    r"`((?:pose2rgbd (?:up|sim live) [^`]*|ros2 (?:launch|run) pose2rgbd [^`]* [^`]*|"
    r"pose2rgbd (?:render|avoid|localize|record|play|monitor) --[^`]*))`"
)
LONG_S = 180.0  # for a node to show what it promises, on a busy machine


@dataclass(frozen=True)
class Line:
    """A command line, and where it stands."""

    text: str
    where: str


@dataclass(frozen=True)
class Rule:
    """What becomes of the lines that fit `pattern`.

    `left`: why they are not run. `quick`: what --quick appends. `makes`: what there is afterwards, else the command
    needs only end well. `shows`: topics of running nodes, each with the number of messages that are waited for;
    `beside`: with a player.
    """

    pattern: str
    left: str = ""
    quick: str = ""
    makes: tuple[str, ...] = ()
    shows: dict[str, int] = field(default_factory=dict)
    beside: bool = False


RENDER, AVOID = (
    {"render/status": 3, "render/rgb/image": 3, "render/depth/image": 3},
    {"avoid/status": 5, "avoid/points": 3},
)
SIM = {"camera/image": 3, "clock": 50}
TOLD = {"diagnostics": 3}  # all that a node shows whose inputs nobody sends
RECORD, LOCALIZE = {"record/status": 3}, {"localize/status": 3}
LAUNCH = r"(ros2 launch pose2rgbd |ros2 run pose2rgbd |pose2rgbd )"
# The first rule that fits a line counts.
RULES = (
    Rule(r"docker\b", left="needs Docker; scripts/check_container.py runs the recipe without"),
    Rule(r"(source|cd|colcon|rosdep|sudo|pip|python3 -m venv|TORCH_PIP_ARGS)\b", left="prepares a shell or a machine"),
    Rule(r"make demo$", left="made what all the others run on"),
    Rule(r"make ", left="sets up or tests; CI runs it"),
    Rule(r"ros2 run (?!pose2rgbd)", left="a consumer's own node"),
    Rule(r"ros2 (action|topic|service|bag)\b", left="needs the ros2 command"),
    Rule(r"ros2 launch .*--show-args", left="needs the ros2 command"),
    Rule(r"(python bench/|pose2rgbd bench )", left="a measurement; its page says how long"),
    Rule(r"python3? scripts/check_opengl"),
    Rule(r".*namespace:=", left="topics in a namespace; the launch tests have them"),
    Rule(r"pose2rgbd convert .*gimbal", left="needs a recording with a gimbal"),
    Rule(r"pose2rgbd (convert (?!BAG)|import ).*(PHOTOS|VIDEO|FLIGHT\.mp4|SOURCE)", left="needs a recording of yours"),
    Rule(r"pose2rgbd completion (bash|zsh|fish)$"),
    Rule(r"pose2rgbd status FOLDER$", left="the folder is yours"),
    Rule(r"pose2rgbd \w+$|pose2rgbd [\w ]+--help$", left="only a name"),
    Rule(r"pose2rgbd run PHOTOS", left="needs a recording of yours"),
    Rule(r"pose2rgbd run\b", quick="--train.max-minutes 0.3 --live-s 5",
         makes=("{out}/again/run/checkpoint/model.yaml",)),
    Rule(r"pose2rgbd experiments\b", left="tables of hours"),
    Rule(r"pose2rgbd sim dataset data/", left="a survey of hours"),
    Rule(r"pose2rgbd doctor .*\| jq", left="needs jq"),
    Rule(r"pose2rgbd doctor [BR]"),
    Rule(r"pose2rgbd convert BAG", makes=("{out}/dataset/meta.yaml",)),
    Rule(r"pose2rgbd inspect", makes=("{demo}/dataset/inspect/contact_sheet.png",)),
    Rule(r"pose2rgbd train pose(gan|net)", quick="--max-minutes 0.4", makes=("{out}/loc/checkpoint/model.yaml",)),
    Rule(r"pose2rgbd train", quick="--max-minutes 0.3", makes=("{out}/run/checkpoint/model.yaml",)),
    Rule(r"pose2rgbd evaluate .*--finders", left="structure takes long"),
    Rule(r"pose2rgbd evaluate"),
    Rule(r"pose2rgbd calibrate"),
    Rule(r"pose2rgbd locate", makes=()),
    Rule(r"pose2rgbd export"),
    Rule(r"pose2rgbd view .*--export", makes=("{out}/scene.html",)),
    Rule(r"pose2rgbd view", left="serves until it is ended; test/viewer runs it in a browser"),
    Rule(r"pose2rgbd align", left="takes minutes; test/sfm runs it"),
    Rule(r"pose2rgbd depth (train|infer|evaluate|odometry)", left="needs a video; the tests run it"),
    Rule(r"pose2rgbd depth", left="for a dataset of colour alone; test/sfm runs it"),
    Rule(r"pose2rgbd sync"),
    Rule(r"pose2rgbd synthesize", left="needs a model of each kind"),
    Rule(r"pose2rgbd play --clock$", left="needs a recording; the line below it has one"),
    Rule(r"pose2rgbd sim live FLAGS", left="the flags are yours"),
    Rule(r"pose2rgbd sim (photos|video)"),
    Rule(r"pose2rgbd sim gallery", makes=("{out}/sim",)),
    Rule(r"pose2rgbd sim dataset", quick="--frames 20", makes=("{out}/sim/meta.yaml",)),
    Rule(r"pose2rgbd sim bag", quick="--duration-s 5", makes=("{out}/sim.mcap",)),
    Rule(LAUNCH + r"bringup.*localize:=true", shows=SIM | LOCALIZE),
    # Presets that give the renderer's topics the names that the consumer has for them (config/presets/remap.yaml).
    Rule(LAUNCH + r"bringup.*preset:=nvblox", shows={"camera_0/color/image": 3} | TOLD, beside=True),
    Rule(LAUNCH + r"bringup.*preset:=depth_image_proc", shows={"depth/image_rect": 3} | TOLD, beside=True),
    Rule(LAUNCH + r"bringup.*sim:=false.*avoid:=true", shows=RENDER | TOLD, beside=True),
    Rule(LAUNCH + r"bringup.*avoid:=true", shows=SIM | RENDER | AVOID),
    Rule(LAUNCH + r"bringup.*record:=true", shows=SIM | RECORD),
    Rule(LAUNCH + r"bringup", shows=SIM | RENDER),
    Rule(r"pose2rgbd up sim render avoid", shows=SIM | RENDER | AVOID),
    Rule(r"pose2rgbd up sim render", shows=SIM | RENDER),
    Rule(r"pose2rgbd up sim record", shows=SIM | RECORD),
    Rule(r"pose2rgbd up sim localize", shows=SIM | LOCALIZE),
    Rule(r"pose2rgbd up render avoid", shows=RENDER | TOLD, beside=True),
    Rule(r"pose2rgbd up render play", shows=RENDER),
    Rule(LAUNCH + r"(sim\.launch\.py|sim live|sim)\b", shows=SIM),
    Rule(LAUNCH + r"(render\.launch\.py|render)\b", shows=RENDER, beside=True),
    Rule(LAUNCH + r"(avoid\.launch\.py|avoid)\b", shows=TOLD),
    Rule(LAUNCH + r"(localize\.launch\.py|localize)\b", shows=LOCALIZE, beside=True),
    Rule(LAUNCH + r"(record\.launch\.py|record)\b", shows=RECORD, beside=True),
    Rule(LAUNCH + r"play\b", shows={"play/rgb/image": 3}),
    Rule(LAUNCH + r"monitor\b", left="needs a renderer and a player, as `pose2rgbd up render play monitor` has"),
)  # fmt: skip
KINDS = {
    "render/status": ("pose2rgbd.msg", "RenderStatus"),
    "avoid/status": ("pose2rgbd.msg", "ObstacleStatus"),
    "localize/status": ("pose2rgbd.msg", "LocalizationStatus"),
    "record/status": ("pose2rgbd.msg", "SyncStatus"),
    "avoid/points": ("sensor_msgs.msg", "PointCloud2"),
    "clock": ("rosgraph_msgs.msg", "Clock"),
    "diagnostics": ("diagnostic_msgs.msg", "DiagnosticArray"),
}
# Of these only messages that say that all is well count: their state is 0 (of a recorder: recording).
WELL = {"render/status": 0, "avoid/status": 0, "record/status": 1}


# Reading -------------------------------------------------------------------------------------------------------------


def lines(root: Path = ROOT, pages: tuple[str, ...] = PAGES) -> list[Line]:
    """The command lines of all pages, each once: those of code blocks, what their comments offer instead, and those
    in text.
    """
    found: dict[str, Line] = {}
    for pattern in pages:
        for page in sorted(root.glob(pattern)):
            for text, number in of_page(page.read_text()):
                found.setdefault(text, Line(text, f"{page.relative_to(root)}:{number}"))
    return list(found.values())


def of_page(page: str) -> Iterator[tuple[str, int]]:
    """The command lines of a page's text, in order, and where each begins."""
    fenced, begun, number_begun = False, "", 0
    for number, raw in enumerate(page.splitlines(), 1):
        if raw.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if not (fenced or raw.startswith("    ")):
            yield from ((text.strip(), number) for text in INLINE.findall(raw))
            continue
        text = begun + raw.strip()
        if not STARTS.match(text):
            continue
        number_begun = number_begun if begun else number
        if text.endswith("\\"):
            begun = text[:-1].rstrip() + " "
            continue
        begun = ""
        command, _, comment = text.partition(" #")
        yield command.strip(), number_begun
        for other in BESIDE.findall(comment):
            yield other.strip(), number_begun


def rule_of(text: str) -> Rule | None:
    """What becomes of a line; None: nobody has said."""
    return next((rule for rule in RULES if re.match(rule.pattern, text)), None)


# Running -------------------------------------------------------------------------------------------------------------


def stands_for(demo: Path, out: Path) -> dict[str, str]:
    """Word of the docs -> what is meant on this machine."""
    return {
        "RUN2": f"{demo}/run", "RELIEF_RUN": f"{demo}/run", "CHECKPOINT": f"{demo}/run/checkpoint", "LOC": f"{out}/loc",
        "RUN": f"{demo}/run", "BAG DATASET": f"{demo}/flight.mcap {out}/dataset", "DATASET": f"{demo}/dataset",
        "RECORDING": f"{demo}/flight.mcap", "FOLDER": f"{out}/recorded", "OUT.mcap": f"{out}/sim.mcap",
        "OUT": f"{out}/sim",
        "--out flight": f"--out {out}/recorded",
        "out:=flight": f"out:={out}/recorded",
        "IMAGE": f"{demo}/dataset",
        "SCENE.html": f"{out}/scene.html",
        "--format NAME": "--format tum", "/path/to/checkpoint": f"{demo}/run/checkpoint", "out/demo": str(demo),
    }  # fmt: skip


def command_of(line: str, demo: Path, out: Path, with_ros2: bool) -> list[str]:
    """The line with the demo's paths in it, ready to run."""
    new = re.match(r"pose2rgbd train", line) is not None
    line = re.sub(r"\[[^]]*\]|\.\.\.| \| DATASET", "", line)  # what may be left out
    if new:
        line = re.sub(r"--out (RUN|LOC)", f"--out {out}/{'loc' if ' train pose' in line else 'run'}", line)
    if re.match(LAUNCH + "record", line):
        line = re.sub(r"(out:=|--out )DATASET", r"\1FOLDER", line)
    for word, meant in stands_for(demo, out).items():
        line = re.sub(rf"(?<![\w/]){re.escape(word)}(?![\w.])", meant, line)
    if re.match(r"(ros2 launch pose2rgbd localize|pose2rgbd (localize|locate)|ros2 .*localize_model)", line):
        line = (
            line.replace(f"model:={demo}/run ", f"model:={out}/loc ")
            .replace(f"--model {demo}/run ", f"--model {out}/loc ")
            .replace(f"locate {demo}/run ", f"locate {out}/loc ")
        )
    words = shlex.split(line)
    if words[0] == "ros2" and not with_ros2:
        words = _without_ros2(words)
    if words[0] == "pose2rgbd":
        words = [sys.executable, "-m", "pose2rgbd_ros.cli.main", *words[1:]]
    return words


def _without_ros2(words: list[str]) -> list[str]:
    """`pose2rgbd` in place of ros2 run and launch."""
    node = words[3].removesuffix(".launch.py")
    if words[1] == "run":
        return ["pose2rgbd", *(("sim", "live") if node == "sim" else (node,)), *words[4:]]
    given = dict(word.split(":=", 1) for word in words[4:])
    parts = {"sim": "true", "render": "true", "avoid": "false", "localize": "false", "record": "false"}
    nodes = [part for part in parts if given.pop(part, parts[part]) == "true"] if node == "bringup" else [node]
    up = ["pose2rgbd", "up", *nodes]
    model = given.pop("model", "")
    if model and node != "localize":
        up += ["--model", model]
    if "preset" in given:
        up += ["--preset", given.pop("preset")]
    up.append("--ros-args")
    if model and node == "localize":
        up += ["-p", f"localize:model:={model}"]
    for name, value in given.items():
        if name.endswith("params_file"):
            up += ["--params-file", value]
        elif name == "localize_model":
            up += ["-p", f"localize:model:={value}"]
        elif name in ("image", "camera_info", "depth", "odometry", "odom", "fix", "imu", "gimbal"):
            up += ["-r", f"{nodes[-1]}:{name}:={value}"]
        else:
            up += ["-p", f"{nodes[-1]}:{name}:={value}"]
    return up


def run(line: Line, rule: Rule, demo: Path, out: Path, quick: bool) -> str:
    """Why the line does not do what it promises; empty: it does."""
    words = command_of(line.text, demo, out, shutil.which("ros2") is not None)
    if quick and rule.quick:
        words += shlex.split(rule.quick)
    log = out / "log.txt"
    with log.open("w") as stream:
        if not rule.shows:
            status = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT).returncode
            missing = [name for name in rule.makes if not Path(name.format(out=out, demo=demo)).exists()]
            return last_line(log) if status else f"{missing[0]} was not made" if missing else ""
        with contextlib.ExitStack() as running:
            if rule.beside:
                player = ["play", "--recording", str(demo / "dataset"), "--loop"]
                running.enter_context(
                    process([sys.executable, "-m", "pose2rgbd_ros.cli.main", *player], subprocess.DEVNULL)
                )
            node = running.enter_context(process(words, stream))
            short = listen(rule.shows, lambda: node.poll() is not None)
        return (
            f"{short}; {last_line(log)}"
            if short
            else ""
            if node.returncode in (0, -2)
            else f"ended with {node.returncode}; {last_line(log)}"
        )


@contextlib.contextmanager
def process(words: list[str], stream: object, cwd: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends, then interrupted, as with ctrl-C."""
    started = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, cwd=cwd)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(LONG_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def listen(shows: dict[str, int], ended: Callable[[], bool]) -> str:
    """What did not come within LONG_S, or before the node ended; empty: everything came."""
    import importlib

    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("check_docs_commands", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    came = dict.fromkeys(shows, 0)

    def count(topic: str) -> Callable[[object], None]:
        def take(message: object) -> None:
            if topic not in WELL or getattr(message, "state", None) == WELL[topic]:
                came[topic] += 1

        return take

    for topic in shows:
        module, kind = KINDS.get(topic, ("sensor_msgs.msg", "Image"))
        node.create_subscription(getattr(importlib.import_module(module), kind), topic, count(topic), 10)
    end = time.monotonic() + LONG_S
    while time.monotonic() < end and not ended() and any(came[topic] < wanted for topic, wanted in shows.items()):
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    short = [f"{topic}: {came[topic]} of {wanted}" for topic, wanted in shows.items() if came[topic] < wanted]
    return ", ".join(short)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return said[-1] if said else "it said nothing"


def main() -> int:
    """Exit status 1 when a line does not do what it promises, 2 when nobody has said what becomes of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=ROOT / "out" / "demo", help="folder that make demo filled")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "docs", help="folder for what the lines make; emptied"
    )
    parser.add_argument("--quick", action="store_true", help="cut trainings and flights short")
    parser.add_argument("--list", action="store_true", help="only show what would be done")
    parser.add_argument("--only", default="", help="lines that hold this text")
    arguments = parser.parse_args()
    demo, out = arguments.demo.absolute(), arguments.out.absolute()
    failed = 0
    if not arguments.list:
        if not (demo / "run" / "checkpoint").exists():
            parser.error(f"{demo} holds no model; run `make demo` first")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        os.environ.setdefault("ROS_DOMAIN_ID", "77")
    for line in lines():
        rule = rule_of(line.text)
        if arguments.only not in line.text:
            continue
        if rule is None:
            print(f"UNKNOWN  {line.where}: {line.text}\n         add a rule for it to {Path(__file__).name}")
            return 2
        if rule.left:
            print(f"left     {line.where}: {line.text}\n         {rule.left}")
            continue
        if arguments.list:
            print(f"run      {line.where}: {line.text}\n         {shlex.join(command_of(line.text, demo, out, False))}")
            continue
        for name in ("sim", "sim.mcap", "sim.truth", "recorded", "dataset", "run"):
            made = out / name
            shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink(missing_ok=True)
        begun = time.monotonic()
        wrong = run(line, rule, demo, out, arguments.quick)
        failed += bool(wrong)
        verdict = "FAILED  " if wrong else "good    "
        print(
            f"{verdict} {line.where}: {line.text} ({time.monotonic() - begun:.0f} "
            f"s){wrong and f'{chr(10)}         {wrong}'}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
