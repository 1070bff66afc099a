"""What is derived of a thing once, and kept for as long as it lives: by those who need it, not in the thing."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

Thing = TypeVar("Thing")
Options = ParamSpec("Options")
Derived = TypeVar("Derived")


def kept_with_it(
    derive: Callable[Concatenate[Thing, Options], Derived],
) -> Callable[Concatenate[Thing, Options], Derived]:
    """Return the function, which now gives the same object for the same thing and options, and makes it once.

    Things are told apart by identity, so they define no equality of their own. What is derived must not hold its
    thing, or neither is ever let go.

    Examples
    --------
    >>> class Pool: ...
    >>> listed = kept_with_it(lambda pool, n: [n])
    >>> pool = Pool()
    >>> listed(pool, 1) is listed(pool, 1), listed(pool, 1) is listed(pool, 2), listed(pool, 1) is listed(Pool(), 1)
    (True, False, False)
    """
    kept: WeakKeyDictionary[Thing, dict[Any, Derived]] = WeakKeyDictionary()

    @wraps(derive)
    def derived(thing: Thing, /, *args: Options.args, **kwargs: Options.kwargs) -> Derived:
        of_thing, options = kept.setdefault(thing, {}), (args, tuple(kwargs.items()))
        if options not in of_thing:
            of_thing[options] = derive(thing, *args, **kwargs)
        return of_thing[options]

    return derived
