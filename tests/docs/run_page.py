"""Run the code blocks of a page in order, in the current folder: ``run_page.py PAGE``.

Blocks of Python share one namespace; those of a console run every line that begins with ``$``. A block whose title
begins with "not run" is left out, one "in a clone" runs in the repository. Ends with the number of blocks that ran.
"""

import os
import re
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
                words = re.sub(r"(^|&& )annvq\b", rf'\1"{sys.executable}" -m annvq', command)
                where = ROOT if title == "in a clone" else None
                subprocess.run(words, shell=True, check=True, env=_environment(), cwd=where)
        else:
            continue
        count += 1
    return count


if __name__ == "__main__":
    print("blocks:", run(Path(sys.argv[1])))
