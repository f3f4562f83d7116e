"""Cases by id. A case is a class: `variants()` gives the ways torch offers, name -> callable."""

CASES = {}


def case(identifier):
    def register(cls):
        CASES[identifier] = cls
        return cls

    return register


class Unavailable(Exception):
    """This way does not exist in the installed torch."""


class Case:
    def __init__(self, device, options):
        self.device = device
        self.options = options

    def variants(self):
        """{name: callable without arguments}; or {name: Unavailable} when torch lacks it."""
        raise NotImplementedError

    def check(self, results):
        """Raises when two ways disagree: a peer that computes something else is no peer."""


def attempt(make):
    """The callable that `make` builds, after one trial call; or the reason why it cannot."""
    try:
        run = make()
        run()
        return run
    except Exception as error:  # any failure of an optional way is a reason, not a crash
        return Unavailable(f"{type(error).__name__}: {error}".splitlines()[0][:200])
