"""Every setting, read once from the environment into one frozen object.

A wrong value stops the start with its name, its value and what was expected. Some may also be given per
project, in the extra params of the model connection in Label Studio (``PER_PROJECT``).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from exemplar import values
from exemplar.errors import SettingError, UnknownSettingError
from exemplar.misspelt import OURS, nearest, unknown_of_others, unknown_of_ours
from exemplar.values import Secret

# The methods that the engine has, which knows nothing of settings; a test holds them to be the same.
PROPAGATIONS = (
    "auto",
    "graph",
    "gaussian-process",
    "clusters",
    "label-spreading",
    "label-propagation",
    "self-training-forest",
    "self-training-logistic",
)
QUEUES = ("herding", "representatives", "max-herding", "typiclust", "random")
STATUS = ("local", "everyone")
CLASSIFIERS = ("neighbors", "logistic", "self-training")


# So that those that are ticked are right in seven cases of ten and more, from the first answer on: measured on six
# sets of texts, with names of their classes and without (docs/measured.md, benchmarks/shown.py).
SHOWN_FROM = 0.7


def _setting(
    env: str, default: Any, parse: Callable[[str, Any], Any], about: str, *, alias: str | None = None
) -> Any:
    return field(default=default, metadata={"env": env, "parse": parse, "about": about, "alias": alias})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be set; the names in the environment stand beside each."""

    label_studio_url: str = _setting(
        "LABEL_STUDIO_URL",
        "",
        values.address,
        "Address of Label Studio as this backend reaches it. Empty: the one that Label Studio sends on connecting.",
        alias="LABEL_STUDIO_HOST",
    )
    label_studio_api_key: Secret = _setting(
        "LABEL_STUDIO_API_KEY",
        Secret(""),
        values.secret,
        "Personal access token or legacy token. Empty: the legacy token that Label Studio sends on connecting.",
    )
    basic_auth_user: str = _setting(
        "BASIC_AUTH_USER", "", values.text, "User name that Label Studio must give; guards every route but /health."
    )
    basic_auth_pass: Secret = _setting("BASIC_AUTH_PASS", Secret(""), values.secret, "The password to it.")
    model_dir: Path = _setting(
        "MODEL_DIR",
        Path("exemplar-models"),
        values.path,
        "Folder of the snapshots and the audit log. Deleting it forgets audits, accepted sets and given vectors, "
        "nothing else.",
    )
    host: str = _setting("EXEMPLAR_HOST", "127.0.0.1", values.host, "Address to listen on; 0.0.0.0 in a container.")
    port: int = _setting("PORT", 9090, values.port, "Port to listen on.")
    allowed_hosts: tuple[str, ...] = _setting(
        "EXEMPLAR_ALLOWED_HOSTS",
        (),
        values.hosts,
        "Hosts that the files of tasks may lie on, besides Label Studio: names, `*.suffix`, addresses, networks, "
        "`public` (the internet), `*` (all but link-local), with commas between them. Empty: `*` while we listen "
        "on loopback, else `public`.",
    )
    own_urls: tuple[str, ...] = _setting(
        "EXEMPLAR_URL",
        (),
        values.addresses,
        "Addresses at which this backend is reached, with commas between them. Needed where its name is a public "
        "one (https://models.example.com). Empty: IP addresses, and names of this machine or a local network.",
    )
    status: str = _setting(
        "EXEMPLAR_STATUS",
        "local",
        values.one_of(STATUS),
        "Who sees more than /health without Basic auth: `local` (this machine and Label Studio's) or `everyone`.",
    )
    log_level: str = _setting("LOG_LEVEL", "INFO", values.level, "DEBUG, INFO, WARNING or ERROR.")
    manage: bool = _setting(
        "EXEMPLAR_MANAGE", True, values.switch, "off: change no setting of any project, only say what to set."
    )
    n_clusters: int | None = _setting(
        "EXEMPLAR_N_CLUSTERS",
        None,
        values.clusters,
        "Number of clusters; auto: 50 for 1 400 tasks, growing with √tasks.",
    )
    propagate_percent: float = _setting(
        "EXEMPLAR_PROPAGATE_PERCENT",
        100.0,
        values.percent,
        "With EXEMPLAR_PROPAGATION=clusters: how much of a cluster gets its label, the closest so many per cent.",
    )
    batch_size: int = _setting(
        "EXEMPLAR_BATCH_SIZE",
        50,
        values.batch,
        "Length of the queue: so many tasks at most have a place in it. At least 50 is wise.",
    )
    propagation: str = _setting(
        "EXEMPLAR_PROPAGATION",
        "auto",
        values.one_of(PROPAGATIONS),
        "How answers spread: `" + "`, `".join(PROPAGATIONS) + "`. `auto` is `graph`, and `gaussian-process` where "
        "there are two classes.",
    )
    queue: str = _setting(
        "EXEMPLAR_QUEUE",
        "herding",
        values.one_of(QUEUES),
        "Which tasks are asked next: `" + "`, `".join(QUEUES) + "`.",
    )
    classifier: str = _setting(
        "EXEMPLAR_CLASSIFIER",
        "neighbors",
        values.one_of(CLASSIFIERS),
        "What answers for tasks outside the pool: `" + "`, `".join(CLASSIFIERS) + "`.",
    )
    features: str = _setting(
        "EXEMPLAR_FEATURES",
        "auto",
        values.recipes,
        "What sees the tasks: embedders and their weights, as `use + 0.5*ngrams`; for each view, as "
        "`image: lite0 + 0.7*hog; text: use`; a model in a folder is `transformer:/models/minilm`. `auto` takes "
        "what `exemplar features` lists.",
    )
    embedding_field: str = _setting(
        "EXEMPLAR_EMBEDDING_FIELD",
        "auto",
        values.field,
        "Where tasks have vectors of your own, by which alone they are seen then: a field of their data or their "
        "meta, as `embedding` or `meta.embedding`. `auto`: in their meta, if most have one there; `off`: nowhere.",
    )
    vectors_gib: float = _setting(
        "EXEMPLAR_VECTORS_GIB",
        4.0,
        values.gib,
        "GiB of MODEL_DIR that vectors may take, so that no value is embedded twice. What was not used for longest "
        "goes where there is more.",
    )
    duplicates: bool = _setting(
        "EXEMPLAR_DUPLICATES",
        True,
        values.switch,
        "Near-duplicates (texts that differ in a number or in punctuation, one picture in several sizes) are asked "
        "once and labelled together. off: each for itself.",
    )
    audit_share: float = _setting(
        "EXEMPLAR_AUDIT_SHARE",
        4.0,
        values.share,
        "Per cent of the queue that are audits: drawn at random, shown without pre-annotation, and what the "
        "accuracy is estimated from. 0: none.",
    )
    names: bool = _setting(
        "EXEMPLAR_NAMES",
        True,
        values.switch,
        "on: before there are answers, texts are predicted by what the choices are called; answers decide how much "
        "of that stays.",
    )
    descriptions: dict[str, str] | None = _setting(
        "EXEMPLAR_DESCRIPTIONS",
        None,
        values.descriptions,
        'Words that describe a choice better than its name, as JSON: `{"choice": "words"}`. They take the place of '
        "what the label config says of it.",
    )
    priors: tuple[str, ...] = _setting(
        "EXEMPLAR_PRIORS",
        (),
        values.models,
        "Model versions of predictions in the project, other models', that are believed until answers tell better; "
        'with commas between them, in the extra params `{"model_version": "…"}`.',
    )
    shown_from: float = _setting(
        "EXEMPLAR_SHOWN_FROM",
        SHOWN_FROM,
        values.confidence,
        "From which confidence on a choice is ticked; below it the row is empty, and its score still says. 0: all.",
    )
    debounce: float = _setting(
        "EXEMPLAR_DEBOUNCE", 0.1, values.seconds, "Seconds without a further webhook before a refresh starts."
    )
    poll: float = _setting(
        "EXEMPLAR_POLL", 60.0, values.seconds, "Seconds between two looks at Label Studio when no webhook arrives."
    )


PER_PROJECT = (
    "propagation",
    "queue",
    "classifier",
    "n_clusters",
    "propagate_percent",
    "batch_size",
    "features",
    "embedding_field",
    "duplicates",
    "audit_share",
    "names",
    "descriptions",
    "priors",
    "shown_from",
)


def from_environment(environ: Mapping[str, str] = os.environ, **options: Any) -> Settings:
    """Read all settings; ``options`` of the command line win, and pass the same checks under their own names.

    Raises
    ------
    SettingError
        If a value is not what its setting expects, or two settings do not fit together.
    UnknownSettingError
        If a variable is called like a setting and is none.
    """
    _check_names(environ)
    given = {}
    for setting in fields(Settings):
        about = setting.metadata
        if options.get(setting.name) is not None:
            given[setting.name] = about["parse"](f"--{setting.name.replace('_', '-')}", options[setting.name])
            continue
        for env in _names(setting):
            if environ.get(env, "").strip():
                given[setting.name] = about["parse"](env, environ[env].strip())
                break
    settings = Settings(**given)
    _check_together(settings)
    return settings


def doubts(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a sentence for each variable of another name by which a setting was probably meant."""
    for name, meant in _unknown_of_others(environ):
        yield f"{name} is read by nobody here: did you mean {meant}?"


def _check_names(environ: Mapping[str, str]) -> None:
    unknown = list(unknown_of_ours(environ, _known()))
    # Passed over, a password that is called otherwise would leave all open.
    unknown += [found for found in _unknown_of_others(environ) if found[1].startswith("BASIC_AUTH")]
    if unknown:
        name, meant = unknown[0]
        raise UnknownSettingError(name, _known(), meant)


def _unknown_of_others(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    is_set = {setting.metadata["env"] for setting in fields(Settings) if any(map(environ.get, _names(setting)))}
    return ((name, meant) for name, meant in unknown_of_others(environ, _known()) if meant not in is_set)


def _known() -> list[str]:
    return [env for setting in fields(Settings) for env in _names(setting)]


def _names(setting: Field[Any]) -> list[str]:
    return [env for env in (setting.metadata["env"], setting.metadata["alias"]) if env]


def _check_together(settings: Settings) -> None:
    if settings.label_studio_api_key and not settings.label_studio_url:
        # Without it the key would be sent to whatever host the next /setup names.
        raise SettingError("LABEL_STUDIO_URL", "", "the address that LABEL_STUDIO_API_KEY belongs to")
    if bool(settings.basic_auth_user) != bool(settings.basic_auth_pass):
        raise SettingError("BASIC_AUTH_USER", settings.basic_auth_user, "to be set together with BASIC_AUTH_PASS")


def for_project(settings: Settings, extra_params: Mapping[str, Any] | None) -> Settings:
    """Return the settings as one project has them: its model connection's extra params win.

    Raises
    ------
    SettingError
        If an extra param is not among ``PER_PROJECT`` or its value is not what the setting expects.
    """
    parsers = {setting.name: setting.metadata["parse"] for setting in fields(Settings)}
    changes = {}
    for name, value in (extra_params or {}).items():
        if name not in PER_PROJECT:
            meant = nearest(name.removeprefix(OURS), PER_PROJECT)
            raise UnknownSettingError(f"extra param {name}", PER_PROJECT, meant)
        changes[name] = parsers[name](f"extra param {name}", value)
    return replace(settings, **changes)
