"""Runs the steps of the Dockerfile without a container engine: each stage in a bare root file system made by mmdebstrap.

    python3 deploy/run_dockerfile.py [--arg VARIANT=cpu] [--arg TORCH_INDEX=URL] [--prepare COMMAND] [--keep FOLDER]

Knows the instructions that the Dockerfile uses and refuses others. Behind the last stage it asks the programs for their
help as the image's user, in the image's file system and with its environment, and prints its size. Needs root and
mmdebstrap. `--prepare` is run with the root folder as its argument ahead of a stage's first RUN, for example to let pip
know of an index of your own.
"""

import argparse
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITES = {"debian:bookworm-slim": "bookworm"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(text):
    """(NAME, rest) of every instruction, continued lines joined."""
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or (not line.strip() and not joined):
            continue
        joined += line.rstrip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        name, rest = joined.split(None, 1)
        yield name.upper(), rest.strip()
        joined = ""


class Stage:
    """One FROM: a root file system and what is in force in it."""

    def __init__(self, folder, image):
        if image not in SUITES:
            raise SystemExit(f"run_dockerfile: FROM {image} is not known; expected one of {', '.join(SUITES)}")
        self.root = folder
        self.environment = {"PATH": PATH, "HOME": "/root"}
        self.arguments = {}
        self.directory = "/"
        self.shell = ["/bin/sh", "-c"]
        self.user = None
        self.metadata = {}
        self.prepared = False
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", SUITES[image], str(folder)], check=True)
        for name in ("/etc/resolv.conf", "/etc/hosts"):
            if pathlib.Path(name).exists():
                shutil.copy(name, f"{folder}{name}")

    def run(self, command):
        """In the stage's file system, with /proc and /dev of this machine for as long as it takes."""
        mounts = [("proc", "proc"), ("/dev", "dev")]
        for source, target in mounts:
            options = ["-t", "proc"] if source == "proc" else ["--bind"]
            subprocess.run(["mount", *options, source, f"{self.root}/{target}"], check=True)
        try:
            settings = [f"{name}={value}" for name, value in {**self.arguments, **self.environment}.items()]
            user = [f"--userspec={self.user}"] if self.user else []
            inner = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.directory, *command]
            subprocess.run(["chroot", *user, str(self.root), "/usr/bin/env", "-i", *settings, *inner], check=True)
        finally:
            for _, target in reversed(mounts):
                subprocess.run(["umount", f"{self.root}/{target}"], check=True)


def copy(stage, rest, stages):
    words = shlex.split(rest)
    source_root = ROOT
    if words[0].startswith("--from="):
        source_root = stages[words.pop(0).split("=", 1)[1]].root
    *sources, target = words
    target = pathlib.Path(stage.directory) / target
    for source in sources:
        if source_root is ROOT:
            # What .dockerignore leaves out stays behind.
            ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
            excludes = [f"--exclude={'./' if '**' not in line else ''}{line.replace('**/', '')}" for line in ignored]
            reader = subprocess.Popen(["tar", "-C", str(ROOT / source), *excludes, "-c", "."], stdout=subprocess.PIPE)
        else:
            reader = subprocess.Popen(["tar", "-C", f"{source_root}{source}", "-c", "."], stdout=subprocess.PIPE)
        destination = pathlib.Path(f"{stage.root}{target}")
        destination.mkdir(parents=True, exist_ok=True)
        # Folders that are links in Debian, such as /lib, stay links.
        subprocess.run(["tar", "-C", str(destination), "--no-same-owner", "--keep-directory-symlink", "-x"],
                       stdin=reader.stdout, check=True)
        if reader.wait() != 0:
            raise SystemExit(f"run_dockerfile: COPY {rest} failed")


def build(folder, overrides, prepare):
    stages, stage = {}, None
    for name, rest in instructions((ROOT / "Dockerfile").read_text()):
        print(f"-- {name} {rest[:150]}", flush=True)
        if name == "FROM":
            words = rest.split()
            alias = words[2] if len(words) == 3 else str(len(stages))
            stage = stages[alias] = Stage(folder / alias, words[0])
        elif name == "ARG":
            key, _, value = rest.partition("=")
            stage.arguments[key] = overrides.get(key, value)
        elif name == "ENV":
            key, _, value = rest.partition("=")
            stage.environment[key] = value
        elif name == "SHELL":
            stage.shell = json.loads(rest)
        elif name == "WORKDIR":
            stage.directory = rest
            pathlib.Path(f"{stage.root}{rest}").mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "RUN":
            if prepare and not stage.prepared:
                subprocess.run([prepare, str(stage.root)], check=True)
            stage.prepared = True
            stage.run([*stage.shell, rest])
        elif name == "COPY":
            copy(stage, rest, stages)
        elif name in ("ENTRYPOINT", "CMD", "HEALTHCHECK", "EXPOSE"):
            stage.metadata[name] = rest
        else:
            raise SystemExit(f"run_dockerfile: the instruction {name} is not known")
    return stage


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="a build argument")
    parser.add_argument("--prepare", help="command to run on each stage's root folder ahead of its first RUN")
    parser.add_argument("--keep", help="build in this folder and leave it there")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.keep or tempfile.mkdtemp(prefix="nabla-image-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        image = build(folder, dict(pair.split("=", 1) for pair in arguments.arg), arguments.prepare)
        size = subprocess.run(["du", "--summarize", "--block-size=1M", "--one-file-system", str(image.root)],
                              capture_output=True, text=True, check=True).stdout.split()[0]
        print(f"image: {size} MB, entry point {image.metadata['ENTRYPOINT']} {image.metadata['CMD']}")
        for program in ("nabla", "nabla-server", "nabla-reward-server"):
            image.run(["/bin/sh", "-c", f"{program} --help >/tmp/help; test -s /tmp/help && rm /tmp/help && "
                                        f"! ldd /opt/nabla/bin/{program} | grep 'not found'"])
            print(f"{program}: starts as user {image.user}, every library is there")
        image.run(["nabla-server", *json.loads(image.metadata["CMD"]), "--check_config"])
    except subprocess.CalledProcessError as error:
        print(f"run_dockerfile: {shlex.join(map(str, error.cmd))[:300]} failed with {error.returncode}", file=sys.stderr)
        return 1
    finally:
        if not arguments.keep:
            # Never through a mount that was left.
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
