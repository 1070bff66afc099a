"""schemathesis reads what the API says of itself, and tries it: 500 cases, or 10 000 by `make fuzz`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exemplar.values import Secret
from flows.conftest import MakeFlow

REPOSITORY = Path(__file__).parents[2]
CASES = int(os.environ.get("EXEMPLAR_FUZZ_CASES", "500"))
# The cases are shared among the operations that take a body: of the others there are only so many.
N_WITH_BODY = 7
USER, PASSWORD = "label", "studio-secret"


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
def test_schemathesis_finds_nothing(make_flow: MakeFlow, guarded: bool) -> None:
    changes = {"basic_auth_user": USER, "basic_auth_pass": Secret(PASSWORD)} if guarded else {}
    flow = make_flow(**changes)
    # Of cases before the fuzzing each operation has some 30.
    n_examples = max(10, CASES // N_WITH_BODY // 2)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={REPOSITORY / 'schemathesis.toml'}",
        "run",
    ]
    command += [f"{flow.url}/openapi.json", "--checks=all", f"--max-examples={n_examples}", "--no-color"]
    if guarded:
        # A request "without credentials" gets them from --auth all the same, and is accepted: no finding.
        command += [f"--auth={USER}:{PASSWORD}", "--exclude-checks=negative_data_rejection"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=flow.settings.model_dir.parent)
    print(answer.stdout[-6000:], answer.stderr[-2000:])
    assert answer.returncode == 0
    cases = re.search(r"(\d+) generated", answer.stdout)
    assert cases is not None
    assert int(cases[1]) >= CASES // 2
