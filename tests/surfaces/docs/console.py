"""A Python of its own for one page: runs the blocks that it is given, one after the other, in one namespace.

Not a test: `reader.py` starts it as `python -u console.py`, says {"text", "where"} on a line, and is answered with
{"printed", "failure"}.
"""

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
    """Until there is nothing more to run."""
    asked, answers = sys.stdin, sys.stdout
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line in asked:
        block = json.loads(line)
        printed = io.StringIO()
        failure = None
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(block["text"], block["where"], "exec"), namespace)
            except Exception:
                failure = traceback.format_exc()
        answers.write(json.dumps({"printed": printed.getvalue(), "failure": failure}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
