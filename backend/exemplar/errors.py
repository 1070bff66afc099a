"""What can go wrong, as a tree.

Each kind maps to one HTTP status; each message has the name, the value and what was expected.

::

    ExemplarError                500
    ├── SettingError             422  a setting is wrong: the start stops
    │   └── UnknownSettingError  422  a name that no setting has
    ├── InputError               422  an array or a request that cannot be used
    │   └── LabelConfigError     422  nothing in the label config that we can classify
    ├── UnknownProjectError      404  no project of that name was ever set up here
    │   └── UnconfirmedError     404  somebody introduced a project, and Label Studio does not confirm it
    ├── NothingLearnedError      409  a project that is known, and of which nothing is learned yet
    ├── EmbedderError            503  what makes vectors of values cannot be had here
    ├── ClosedError              410  a project that is gone from Label Studio, or has disconnected us
    ├── CredentialsError         424  Label Studio refuses our API key, or there is none
    ├── LabelStudioError         502  Label Studio answered what we cannot use
    │   └── LabelStudioDownError 503  Label Studio does not answer now; trying again may help
    └── TaskDataError                 one task that cannot be read; it alone is left out
        └── NotNowError               … for now: its host does not answer, so it is tried again
"""

from collections.abc import Iterable


class ExemplarError(Exception):
    """The root of all errors that Exemplar raises on purpose."""

    status = 500


class SettingError(ExemplarError):
    """A setting's name, its value and what was expected."""

    status = 422

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name}={value!r}: expected {expected}")


class UnknownSettingError(SettingError):
    """A name that no setting has; its value, which may be a secret, is not shown."""

    def __init__(self, name: str, known: Iterable[str], meant: str | None) -> None:
        hint = f"did you mean {meant}?" if meant else f"expected one of {', '.join(known)}"
        ExemplarError.__init__(self, f"{name}: no setting is called so; {hint}")


class InputError(ExemplarError, ValueError):
    """An array, a parameter or a request that cannot be used."""

    status = 422


class LabelConfigError(InputError):
    """A label config in which there is nothing that we can classify."""


class UnknownProjectError(ExemplarError):
    """A project that was never set up here."""

    status = 404

    def __init__(self, key: str, why: str = "open Settings ▸ Model in Label Studio, which introduces it") -> None:
        super().__init__(f"Project {key!r} is not known here: {why}")


class NothingLearnedError(ExemplarError):
    """A project that is known here, and of which nothing is learned yet."""

    status = 409


class EmbedderError(ExemplarError):
    """An embedder that cannot be had here: its package or weights are missing, broken or others."""

    status = 503

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} cannot be had: {why}")


class ClosedError(ExemplarError):
    """A project that is gone from Label Studio or has disconnected us; left alone until it is connected again."""

    status = 410


class UnconfirmedError(UnknownProjectError):
    """A project that was introduced here, and whose Label Studio shows no connection to us."""

    def __init__(self, key: str, url: str, why: str) -> None:
        ExemplarError.__init__(
            self,
            f"Project {key!r} is not ours: Label Studio at {url} says that {why}. If it is, open Settings ▸ Model "
            "there once more, or set EXEMPLAR_URL to the address that its model connection has",
        )


class CredentialsError(ExemplarError):
    """Label Studio refuses our API key, or there is none."""

    status = 424  # not 401, which would speak of the caller's credentials


class LabelStudioError(ExemplarError):
    """Label Studio answered something that we cannot use; ``status_code`` is that of its answer, if any came."""

    status = 502

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


class LabelStudioDownError(LabelStudioError):
    """Label Studio does not answer at the moment; trying again may help."""

    status = 503


class TaskDataError(ExemplarError):
    """One task's data cannot be read; the task alone is left out."""


class NotNowError(TaskDataError):
    """One task's data cannot be read at the moment; ``again_at`` is the earliest time to try again, if told."""

    def __init__(self, message: str, *, again_at: float = 0.0) -> None:
        super().__init__(message)
        self.again_at = again_at
