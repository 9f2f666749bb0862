"""SkyRL 0.3 on Python 3.11: pydantic refuses the standard library's TypedDict there."""

import sys

if sys.version_info < (3, 12):
    import typing

    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict
