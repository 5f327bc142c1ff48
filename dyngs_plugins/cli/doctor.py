"""``dyngs doctor``: what is installed, what can run, and what is in the way."""


def doctor(json: bool = False) -> None:
    """Look at this installation: versions, GPU, system libraries, plugins, providers; say what cannot run and the fix.

    Ends with exit code 1 when there is a problem. Nothing is changed and nothing is downloaded.

    Args:
        json: Print the findings for programs.
    """
    from dyngs_plugins.doctor import run

    raise SystemExit(run(json))
