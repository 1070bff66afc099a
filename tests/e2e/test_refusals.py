"""What Label Studio prints when it refuses something, as our troubleshooting page quotes it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).parents[2]
TROUBLESHOOTING = (REPOSITORY / "docs" / "troubleshooting.md").read_text()

# Its own check of a backend's address, with both protections as they are by default; no server is needed.
CHECK = """
import sys
from pathlib import Path

import label_studio
from django.conf import settings

sys.path.insert(0, str(Path(label_studio.__file__).parent))
settings.configure(USE_DEFAULT_BANNED_SUBNETS=True, USER_ADDITIONAL_BANNED_SUBNETS=[])
from core.utils.io import validate_upload_url

try:
    validate_upload_url(sys.argv[1], block_local_urls=True)
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "printed", "quoted"),
    [
        (
            "http://localhost:9090",
            "URL resolves to a reserved network address (block: 127.0.0.0/8)",
            "URL resolves to a reserved network address (block: 127.0.0.0/8)",
        ),
        (
            "http://172.17.0.1:9090",
            "URL resolves to a reserved network address (block: 172.16.0.0/12)",
            "Docker's 172.16.0.0/12",
        ),
        (
            "localhost:9090",
            "The provided URL was not allowed. URLs must use http:// or https://, and must not resolve to local or "
            "private network addresses when SSRF protection applies.",
            "The provided URL was not allowed. URLs must use http:// or https://, ",
        ),
        ("http://exemplar.invalid:9090", "Can't resolve hostname exemplar.invalid", "Can't resolve hostname "),
    ],
)
@pytest.mark.usefixtures("studio")
def test_a_backends_address_is_refused_in_the_words_that_we_quote(url: str, printed: str, quoted: str) -> None:
    python = REPOSITORY / ".demo" / "venv" / "bin" / "python"
    said = subprocess.run([python, "-c", CHECK, url], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.strip() == printed
    assert quoted in TROUBLESHOOTING


def test_an_address_where_nothing_answers_is_refused_in_the_words_that_we_quote(
    api: httpx.Client, make_project: Callable[..., dict[str, Any]]
) -> None:
    values = {"project": make_project(0)["id"], "url": "http://127.0.0.1:1", "title": "Nobody"}
    answer = api.post("/api/ml", json=values)
    assert answer.status_code == 400
    sentence = answer.json()["validation_errors"]["non_field_errors"][0]
    assert sentence.startswith("Can't connect to ML backend http://127.0.0.1:1, health check failed.")
    assert '"Can\'t connect to ML backend …, health check failed."' in TROUBLESHOOTING


@pytest.mark.parametrize(("n_files", "is_taken"), [(100, True), (101, False)])
def test_an_upload_takes_a_hundred_files(
    api: httpx.Client, make_project: Callable[..., dict[str, Any]], n_files: int, is_taken: bool
) -> None:
    files = [(f"file{i}", (f"{i}.txt", b"a text", "text/plain")) for i in range(n_files)]
    answer = api.post(f"/api/projects/{make_project(0)['id']}/import", files=files)
    assert (answer.status_code == 201) == is_taken
    if not is_taken:
        assert answer.json()["detail"] == "The number of files exceeded settings.DATA_UPLOAD_MAX_NUMBER_FILES."
        assert answer.json()["detail"] in TROUBLESHOOTING
