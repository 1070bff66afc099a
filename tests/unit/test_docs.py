"""What the documents say holds: every setting and command is described, compose file and Dockerfile fit."""

import csv
import re
import shlex
from dataclasses import fields
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from exemplar import __version__
from exemplar.cli import app
from exemplar.demo.label_studio import VERSION
from exemplar.labelstudio.label_config import read_label_config
from exemplar.settings import PER_PROJECT, Settings

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
DOCS = "\n".join(page.read_text() for page in PAGES)
GUIDE = (REPOSITORY / "docs" / "guide.md").read_text()
MEASURED = (REPOSITORY / "docs" / "measured.md").read_text()
SECURITY = (REPOSITORY / "docs" / "security.md").read_text()
SETTINGS = (REPOSITORY / "docs" / "settings.md").read_text()
DOCKERFILE = (REPOSITORY / "backend" / "Dockerfile").read_text()


@pytest.fixture
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return parsed


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.metadata["env"])
def test_every_setting_stands_in_the_docs_as_it_is(setting: Any) -> None:
    row = next((line for line in SETTINGS.splitlines() if line.startswith(f"| `{setting.metadata['env']}`")), None)
    assert row is not None
    assert setting.metadata["about"] in row
    assert ("¹" in row) == (setting.name in PER_PROJECT)
    if setting.metadata["alias"]:
        assert setting.metadata["alias"] in row


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.metadata["env"])
def test_a_setting_given_as_its_documented_default_changes_nothing(setting: Any) -> None:
    """What stands in the column is a value that one may set, and means the default."""
    row = next(line for line in SETTINGS.splitlines() if line.startswith(f"| `{setting.metadata['env']}`"))
    default = row.split("|")[2].strip().strip("`")
    assert bool(default) == (setting.default not in ("", ()))
    if default:
        given = setting.metadata["parse"](setting.metadata["env"], default)
        assert given == (setting.default.absolute() if isinstance(setting.default, Path) else setting.default)


def test_the_docs_name_what_one_project_can_have_of_its_own() -> None:
    line = next(line for line in SETTINGS.splitlines() if line.startswith("¹ in the extra params"))
    assert set(re.findall(r"`(\w+)`", line)) == set(PER_PROJECT)


@pytest.mark.parametrize("command", [command.callback.__name__ for command in app.registered_commands])
def test_every_command_stands_in_the_docs_and_has_help(command: str) -> None:
    assert f"exemplar {command}" in GUIDE
    help_ = CliRunner().invoke(app, [command, "--help"])
    assert help_.exit_code == 0
    assert command in help_.output


def _options() -> list[tuple[str, str]]:
    group = typer.main.get_command(app)
    commands = {"": group, **getattr(group, "commands", {})}
    return [
        (name, spelling)
        for name, command in commands.items()
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "hidden", False)
        for spelling in (*option.opts, *option.secondary_opts)
    ]


@pytest.mark.parametrize(("command", "option"), _options())
def test_every_option_stands_in_the_guide(command: str, option: str) -> None:
    assert re.search(rf"{option}(?![\w-])", GUIDE), f"exemplar {command} {option}"


def test_options_are_found() -> None:
    assert {("serve", "--dry-run"), ("demo", "--no-hold"), ("accept", "--promise"), ("", "--version")} <= set(
        _options()
    )


def test_every_table_of_measurements_names_the_benchmark_that_makes_it() -> None:
    """And it is there; a table is a run of rows, or a block of what a command printed."""
    sections = re.split(r"^## ", MEASURED, flags=re.MULTILINE)
    for section in sections[1:]:
        before, table, _ = re.split(r"(^\||^```)", section, maxsplit=1, flags=re.MULTILINE)
        assert table
        assert re.search(r"`benchmarks/\w+\.py`", before), section.splitlines()[0]
    assert not re.search(r"^\||^```", sections[0], re.MULTILINE), "a table that stands in no section"
    for script in re.findall(r"`(benchmarks/[\w/]+\.\w+)`", DOCS):
        assert (REPOSITORY / script).exists(), script


def test_the_notebook_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    snippet = next(code for code in re.findall(r"```python\n(.+?)```", GUIDE, re.DOTALL) if "load_digits" in code)
    exec(compile(snippet, "guide.md", "exec"), {})
    said = re.fullmatch(r"([\d.]+)% of 1797 digits are right\n", capsys.readouterr().out)
    assert said
    assert float(said[1]) > 85


def test_every_threat_names_its_test_and_that_exists() -> None:
    """One test, or a whole file of them."""
    rows = [line for line in SECURITY.splitlines() if line.startswith("|")]
    column = [cell.strip() for cell in rows[0].split("|")].index("the test")
    for row in rows[2:]:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.split("|")[column])
        assert named, row
        for path, test in named:
            assert (REPOSITORY / path).exists(), path
            assert f"def {test}" in (REPOSITORY / path).read_text(), test


def test_the_table_of_the_readme_is_that_of_the_measurements() -> None:
    rows = [line for line in README.splitlines() if line.startswith("|")]
    assert len(rows) >= 4
    for row in rows:
        assert row in MEASURED


ACCURACY_SETS = {
    "digits, the book": "digits, book",
    "MNIST": "mnist",
    "Banking77": "banking",
    'digits, "is it': "rare",
}
ACCURACY_METHODS = (
    "ours",
    "textbook",
    "random + logistic",
    "random + LabelSpreading",
    "small-text BreakingTies",
    "scikit-activeml TypiClust",
)


def test_accuracies_are_the_means_of_the_sessions_that_were_kept() -> None:
    """Each figure of the table against accuracy.csv, to the digit that is shown."""
    sessions: dict[tuple[str, str, int], list[float]] = {}
    with (REPOSITORY / "benchmarks" / "results" / "accuracy.csv").open() as file:
        for session in csv.DictReader(file):
            key = session["set"], session["method"], int(session["labels"])
            sessions.setdefault(key, []).append(100 * float(session["test"]))
    n_compared = 0
    for title, name in ACCURACY_SETS.items():
        row = next(line for line in MEASURED.splitlines() if line.startswith(f"| {title}"))
        labels, *shown = [cell.strip() for cell in row.split("|")[2:-1]]
        for method, figures in zip(ACCURACY_METHODS, shown, strict=True):
            for n_labels, figure in zip(labels.split(" / "), figures.split(" / "), strict=False):
                if figure:
                    measured = mean(sessions[name, method, int(n_labels)])
                    assert float(figure) == pytest.approx(measured, abs=0.0501), (name, method, n_labels)
                    n_compared += 1
    assert n_compared == 48


def test_every_make_target_of_the_docs_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?:^ *|`)make ([a-z]+)", DOCS, re.MULTILINE))
    assert {"demo", "test", "install", "check", "lock"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path).resolve() if path else page
        assert led_to.exists(), target
        if anchor:
            assert anchor in _anchors(led_to.read_text()), target


def _anchors(markdown: str) -> set[str]:
    """Return the names that GitHub gives to headings; code blocks have none."""
    text = re.sub(r"^ *```.*?^ *```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme() -> None:
    for page in PAGES[1:]:
        assert f"](docs/{page.name}" in README, page.name


def test_the_label_config_can_be_classified() -> None:
    labeling = read_label_config((REPOSITORY / "label_config.xml").read_text())
    assert (labeling.kind, labeling.field, len(labeling.classes)) == ("image", "image", 10)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_hold_nothing_but_versions_and_the_hashes_of_their_files(name: str) -> None:
    pinned = (REPOSITORY / name).read_text().replace(" \\\n", "").splitlines()
    for line in pinned:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+?)?(    --hash=sha256:[0-9a-f]{64})+", line), line[:100]


def test_what_is_installed_is_checked_against_the_hashes() -> None:
    for text in ((REPOSITORY / "Makefile").read_text(), DOCKERFILE):
        (line,) = [line for line in text.splitlines() if "pip install" in line and "requirements.lock" in line]
        assert "--require-hashes" in line


def test_the_image_is_built_on_one_that_is_named_by_its_digest() -> None:
    (base,) = [line for line in DOCKERFILE.splitlines() if line.startswith("FROM")]
    assert re.fullmatch(r"FROM python:[\w.-]+@sha256:[0-9a-f]{64}", base)


def test_compose_starts_nothing_without_passwords(compose: dict[str, Any]) -> None:
    studio, exemplar = (compose["services"][name]["environment"] for name in ("label-studio", "exemplar"))
    secrets = (studio["LABEL_STUDIO_PASSWORD"], studio["LABEL_STUDIO_USER_TOKEN"], exemplar["BASIC_AUTH_PASS"])
    for value in secrets:
        assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), value


def test_compose_starts_the_label_studio_that_we_test_with_both_switches(compose: dict[str, Any]) -> None:
    studio = compose["services"]["label-studio"]
    assert studio["image"].endswith(f":{VERSION}")
    assert studio["environment"]["ML_BLOCK_LOCAL_IP"] == "false"
    assert studio["environment"]["SSRF_PROTECTION_ENABLED"] == "false"


def test_compose_services_find_each_other_by_name_and_tell_their_health(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["exemplar"]["environment"]["LABEL_STUDIO_URL"] == "http://label-studio:8080"
    assert services["exemplar"]["depends_on"]["label-studio"]["condition"] == "service_healthy"
    for service in services.values():
        assert service["healthcheck"]["test"]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]


def test_compose_gives_only_settings_that_exist(compose: dict[str, Any]) -> None:
    known = {setting.metadata["env"] for setting in fields(Settings)}
    assert set(compose["services"]["exemplar"]["environment"]) <= known


def test_what_the_dockerfile_copies_is_there(compose: dict[str, Any]) -> None:
    root = REPOSITORY / compose["services"]["exemplar"]["build"]["context"]
    copies = [shlex.split(line)[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY")]
    assert copies
    for source in (source for sources in copies for source in sources):
        assert (root / source).exists(), source


def test_the_dockerfile_sets_only_settings_that_exist() -> None:
    known = {setting.metadata["env"] for setting in fields(Settings)}
    line = next(line for line in DOCKERFILE.splitlines() if line.startswith("ENV"))
    assert {assignment.partition("=")[0] for assignment in shlex.split(line)[1:]} <= known
