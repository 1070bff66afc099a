"""Settings: read once, each wrong value named."""

import logging
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from exemplar.errors import SettingError, UnknownSettingError
from exemplar.settings import PER_PROJECT, Settings, doubts, for_project, from_environment
from exemplar.values import Secret

LABEL_STUDIO = {"LABEL_STUDIO_URL": "http://localhost:8080"}


def test_nothing_set_gives_the_defaults() -> None:
    assert from_environment({}) == Settings()


def test_blank_is_as_good_as_not_set() -> None:
    assert from_environment({"PORT": " ", "EXEMPLAR_N_CLUSTERS": "", "MODEL_DIR": ""}) == Settings()


def test_every_setting_has_its_own_name_and_a_sentence() -> None:
    names = [setting.metadata["env"] for setting in fields(Settings)]
    assert len(set(names)) == len(names)
    assert all(setting.metadata["about"].strip().endswith(".") for setting in fields(Settings))


@pytest.mark.parametrize(
    ("env", "text", "field", "value"),
    [
        ("LABEL_STUDIO_URL", "https://ls.example.org/ls/", "label_studio_url", "https://ls.example.org/ls"),
        ("LABEL_STUDIO_HOST", "http://localhost:8080", "label_studio_url", "http://localhost:8080"),
        ("MODEL_DIR", "/data/models", "model_dir", Path("/data/models")),
        ("EXEMPLAR_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("EXEMPLAR_HOST", "::1", "host", "::1"),
        ("EXEMPLAR_HOST", "localhost", "host", "localhost"),
        ("PORT", " 8001 ", "port", 8001),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("EXEMPLAR_MANAGE", "Off", "manage", False),
        ("EXEMPLAR_N_CLUSTERS", "auto", "n_clusters", None),
        ("EXEMPLAR_N_CLUSTERS", "12", "n_clusters", 12),
        ("EXEMPLAR_PROPAGATE_PERCENT", "99.5", "propagate_percent", 99.5),
        ("EXEMPLAR_BATCH_SIZE", "7", "batch_size", 7),
        ("EXEMPLAR_DEBOUNCE", "0.5", "debounce", 0.5),
        ("EXEMPLAR_POLL", "10", "poll", 10.0),
    ],
)
def test_a_right_value_is_taken(env: str, text: str, field: str, value: object) -> None:
    assert getattr(from_environment({env: text}), field) == value


@pytest.mark.parametrize(
    ("env", "value", "expected"),
    [
        ("LABEL_STUDIO_URL", "localhost:8080", "http://localhost:8080"),
        ("LABEL_STUDIO_URL", "http://", "http://localhost:8080"),
        ("LABEL_STUDIO_URL", "http://[::1", "http://localhost:8080"),
        ("LABEL_STUDIO_HOST", "ftp://ls", "http://localhost:8080"),
        ("LABEL_STUDIO_URL", "http://localhost:99999", "http://localhost:8080"),
        ("LABEL_STUDIO_URL", "http://localhost:0", "http://localhost:8080"),
        ("LABEL_STUDIO_URL", "http://localhost:port", "http://localhost:8080"),
        ("EXEMPLAR_HOST", "http://0.0.0.0", "127.0.0.1"),
        ("EXEMPLAR_HOST", "0.0.0.0:9090", "without http:// or a port"),
        ("EXEMPLAR_HOST", "[::1]", "127.0.0.1"),
        ("EXEMPLAR_HOST", "my host", "127.0.0.1"),
        ("MODEL_DIR", "~no-such-user-at-all/models", ""),
        ("PORT", "0", "1 to 65535"),
        ("PORT", "65536", "1 to 65535"),
        ("PORT", "http", "1 to 65535"),
        ("PORT", "80.5", "1 to 65535"),
        ("LOG_LEVEL", "loud", "DEBUG, INFO, WARNING, ERROR"),
        ("EXEMPLAR_MANAGE", "perhaps", "on or off"),
        ("EXEMPLAR_N_CLUSTERS", "1", "from 2"),
        ("EXEMPLAR_N_CLUSTERS", "many", "from 2"),
        ("EXEMPLAR_PROPAGATE_PERCENT", "0", "more than 0"),
        ("EXEMPLAR_PROPAGATE_PERCENT", "101", "to 100"),
        ("EXEMPLAR_PROPAGATE_PERCENT", "nan", "to 100"),
        ("EXEMPLAR_BATCH_SIZE", "0", "from 1"),
        ("EXEMPLAR_DEBOUNCE", "0", "0.01"),
        ("EXEMPLAR_POLL", "inf", "86400"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(env: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as refused:
        from_environment({env: value})
    assert str(refused.value).startswith(f"{env}={value!r}: expected ")
    assert expected in str(refused.value)


def test_the_name_wins_over_its_alias() -> None:
    settings = from_environment({"LABEL_STUDIO_HOST": "http://old", "LABEL_STUDIO_URL": "http://new"})
    assert settings.label_studio_url == "http://new"


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


# ── Names that are mistyped ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EXEMPLAR_QUEU", "EXEMPLAR_QUEUE"),
        ("EXEMPLAR_BATCHSIZE", "EXEMPLAR_BATCH_SIZE"),
        ("EXEMPLAR_BATCH", "EXEMPLAR_BATCH_SIZE"),
        ("EXEMPLAR_CLUSTERS", "EXEMPLAR_N_CLUSTERS"),
        ("exemplar_queue", "EXEMPLAR_QUEUE"),
        ("EXEMPLAR_MODEL_DIR", "MODEL_DIR"),
        ("EXEMPLAR_PORT", "PORT"),
        ("EXEMPLAR_LOGLEVEL", "LOG_LEVEL"),
        ("EXEMPLAR_STUDIO_URL", "LABEL_STUDIO_URL"),
        ("EXEMPLAR_API_KEY", "LABEL_STUDIO_API_KEY"),
        ("BASIC_AUTH_PASSWORD", "BASIC_AUTH_PASS"),
        ("BASIC_AUTH_USERNAME", "BASIC_AUTH_USER"),
    ],
)
def test_a_name_like_ours_stops_the_start_with_the_nearest_one(name: str, meant: str) -> None:
    with pytest.raises(UnknownSettingError, match=rf"{name}: .*did you mean {meant}\?") as refused:
        from_environment({name: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_name_like_none_is_named_with_all_there_are() -> None:
    with pytest.raises(UnknownSettingError, match=r"EXEMPLAR_XYZ: .*expected one of .*EXEMPLAR_QUEUE"):
        from_environment({"EXEMPLAR_XYZ": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXEMPLAR_QUEU", " "),  # as good as not set
        ("EXEMPLAR_TEST_REQUIRE", "all"),
        ("EXEMPLAR_BENCH_DATA", "/data"),
        # Kubernetes sets these in every pod beside a service called `exemplar`.
        ("EXEMPLAR_SERVICE_HOST", "10.0.0.7"),
        ("EXEMPLAR_SERVICE_PORT_HTTP", "9090"),
        ("EXEMPLAR_PORT", "tcp://10.0.0.7:9090"),
        ("EXEMPLAR_PORT_9090_TCP_ADDR", "10.0.0.7"),
    ],
)
def test_what_is_no_mistyped_setting_does_not_stop_the_start(name: str, value: str) -> None:
    assert from_environment({name: value}) == Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LABEL_STUDIO_TOKEN", "LABEL_STUDIO_API_KEY"),
        ("LABELSTUDIO_API_KEY", "LABEL_STUDIO_API_KEY"),
        ("LABELSTUDIO_URL", "LABEL_STUDIO_URL"),
        ("LABEL_STUDO_URL", "LABEL_STUDIO_URL"),
        ("LS_URL", "LABEL_STUDIO_URL"),
        ("MODELS_DIR", "MODEL_DIR"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ],
)
def test_a_name_that_may_be_another_programs_is_only_told(name: str, meant: str) -> None:
    environ = {name: "hunter2"}
    assert from_environment(environ) == Settings()
    (said,) = doubts(environ)
    assert name in said
    assert meant in said
    assert "hunter2" not in said


def test_nobody_is_asked_of_a_name_while_the_right_one_is_set() -> None:
    right = {"LABEL_STUDIO_HOST": "http://ls", "LABEL_STUDIO_API_KEY": "hunter2"}
    login = {"BASIC_AUTH_USER": "exemplar", "BASIC_AUTH_PASS": "swordfish"}
    others = {"LABEL_STUDIO_HOSTNAME": "ls", "LABEL_STUDIO_TOKEN": "hunter2", "BASIC_AUTH_PASSWORD": "swordfish"}
    from_environment(right | login | others)
    assert not list(doubts(right | login | others))


def test_label_studios_own_variables_are_its_own() -> None:
    own = (
        "USERNAME",
        "PASSWORD",
        "USER_TOKEN",
        "BASE_DATA_DIR",
        "PORT",
        "LOCAL_FILES_DOCUMENT_ROOT",
        "ENABLE_LEGACY_API_TOKEN",
    )
    assert not list(doubts({f"LABEL_STUDIO_{name}": "x" for name in own}))


# ── Options of the command line ──────────────────────────────────────────────────────────────────────────


def test_an_option_wins_over_the_environment() -> None:
    settings = from_environment({"PORT": "9191", "EXEMPLAR_HOST": "0.0.0.0"}, port="9292", host=None)
    assert (settings.port, settings.host) == (9292, "0.0.0.0")


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", "99999"), ("port", "0"), ("port", "-1"), ("port", "http"), ("port", ""), ("host", "")],
)
def test_an_option_passes_its_settings_check_under_its_own_name(option: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^--{option}={value!r}: expected "):
        from_environment({}, **{option: value})


# ── Together ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_without_its_label_studio_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingError, match=r"LABEL_STUDIO_URL=.*LABEL_STUDIO_API_KEY") as refused:
        from_environment({"LABEL_STUDIO_API_KEY": "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("given", ["BASIC_AUTH_USER", "BASIC_AUTH_PASS"])
def test_half_a_login_is_refused(given: str) -> None:
    with pytest.raises(SettingError, match=r"BASIC_AUTH_USER=.*BASIC_AUTH_PASS"):
        from_environment({given: "hunter2"})


def test_a_password_without_a_user_is_not_shown() -> None:
    with pytest.raises(SettingError) as refused:
        from_environment({"BASIC_AUTH_PASS": "hunter2"})
    assert "hunter2" not in str(refused.value)


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_the_repr() -> None:
    settings = from_environment(
        LABEL_STUDIO
        | {"LABEL_STUDIO_API_KEY": "hunter2", "BASIC_AUTH_USER": "exemplar", "BASIC_AUTH_PASS": "swordfish"}
    )
    assert (settings.label_studio_api_key, settings.basic_auth_pass) == ("hunter2", "swordfish")
    assert "hunter2" not in repr(settings)
    assert "swordfish" not in repr(settings)
    assert "exemplar" in repr(settings)


def test_no_secret_is_in_the_repr_of_a_projects_settings() -> None:
    settings = from_environment(LABEL_STUDIO | {"LABEL_STUDIO_API_KEY": "hunter2"})
    assert "hunter2" not in repr(for_project(settings, {"batch_size": 5}))


def test_a_secret_in_a_log_record_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%r", {"key": Secret("hunter2")})
    assert "hunter2" not in caplog.text


def test_an_empty_secret_shows_that_it_is_empty() -> None:
    assert repr(Secret("")) == "''"


# ── Per project ──────────────────────────────────────────────────────────────────────────────────────────


def test_extra_params_win_for_their_project_alone() -> None:
    settings = Settings(batch_size=50)
    mine = for_project(settings, {"batch_size": 5, "n_clusters": "auto", "propagate_percent": "75"})
    assert (mine.batch_size, mine.n_clusters, mine.propagate_percent) == (5, None, 75.0)
    assert settings == Settings(batch_size=50)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_extra_params_change_nothing(nothing: dict[str, object] | None) -> None:
    assert for_project(Settings(port=1234), nothing) == Settings(port=1234)


@pytest.mark.parametrize("name", ["label_studio_api_key", "model_dir", "nclusters", "EXEMPLAR_BATCH_SIZE"])
def test_what_is_no_projects_business_is_refused(name: str) -> None:
    with pytest.raises(UnknownSettingError, match=f"extra param {name}: no setting is called so") as refused:
        for_project(Settings(), {name: "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nclusters", "n_clusters"),
        ("EXEMPLAR_BATCH_SIZE", "batch_size"),
        ("Queue", "queue"),
        ("audit", "audit_share"),
    ],
)
def test_an_extra_param_that_is_mistyped_is_named_with_the_nearest_one(name: str, meant: str) -> None:
    with pytest.raises(UnknownSettingError, match=f"did you mean {meant}\\?"):
        for_project(Settings(), {name: "x"})


def test_an_extra_param_that_is_like_none_is_named_with_all_there_are() -> None:
    with pytest.raises(UnknownSettingError, match=f"expected one of {', '.join(PER_PROJECT)}"):
        for_project(Settings(), {"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", None),
        ("batch_size", [5]),
        ("n_clusters", 1),
        ("n_clusters", 2.5),
        ("propagate_percent", -1),
        ("propagate_percent", {"a": 1}),
    ],
)
def test_a_wrong_extra_param_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingError) as refused:
        for_project(Settings(), {name: value})
    assert str(refused.value).startswith(f"extra param {name}={value!r}: expected ")
