"""Run the code blocks of a page in order, in the current folder: ``run_page.py PAGE``.

Blocks of Python share one namespace; those of a console run every line that begins with ``$``: in this process what is
annvq alone, in a shell all else. A block whose title begins with "not run" is left out, one "in a clone" runs in the
repository. Ends with the number of blocks that ran.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


def blocks(text):
    """Yield language, title and code of every fenced block."""
    for found in _BLOCK.finditer(text):
        language = found["info"].split(maxsplit=1)[0] if found["info"].strip() else ""
        title = re.search(r'title="([^"]*)"', found["info"])
        code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield language, title[1] if title else "", code


def commands(code):
    """Return the commands of a console block, continued lines joined."""
    joined = code.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def _environment():
    """Return the environment of commands: this Python is the one that is found."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "COLUMNS": "120", "PATH": path}


def _alone(command):
    """Return the arguments of a command that is annvq alone, without anything that is left to a shell, or else None."""
    if not command.startswith("annvq ") or re.search(r"[|&;<>$`*?~#(){}]", re.sub(r"'[^']*'", "", command)):
        return None
    return shlex.split(command)[1:]


def _in_this_process(arguments):
    """Run annvq as a process of its own would, which takes two seconds to start."""
    from annvq.cli.__main__ import main

    sys.stdout.flush()
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"annvq {shlex.join(arguments)} ended with {ended.code}") from None
    sys.stdout.flush()


def run(page):
    """Run a page's blocks and return how many there were."""
    names, count = {"__name__": "__page__"}, 0
    for language, title, code in blocks(page.read_text(encoding="utf-8")):
        if title.startswith("not run"):
            continue
        if language == "python":
            exec(compile(code, f"{page.name}, block {count + 1}", "exec"), names)
        elif language == "console":
            for command in commands(code):
                alone = _alone(command) if title != "in a clone" else None
                if alone is not None:
                    _in_this_process(alone)
                    continue
                words = re.sub(r"(^|&& )annvq\b", rf'\1"{sys.executable}" -m annvq', command)
                where = ROOT if title == "in a clone" else None
                subprocess.run(words, shell=True, check=True, env=_environment(), cwd=where)
        else:
            continue
        count += 1
    return count


if __name__ == "__main__":
    os.environ["COLUMNS"] = "120"
    print("blocks:", run(Path(sys.argv[1])))
