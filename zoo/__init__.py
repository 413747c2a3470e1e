"""savedmodel-zoo: from raw data to a verified SavedModel that takes raw input and returns labels.

    >>> import zoo
    >>> result = zoo.run("cnn", "digits", run_directory="runs/digits-cnn")

`import zoo` is fast: TensorFlow and Keras are imported by the first call that needs them. The public names are declared
in `__init__.pyi`, which editors and type checkers read as well, and each is imported when it is first used.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

from zoo import keras_names, quiet

_declared, _names, __all__ = lazy_loader.attach_stub(__name__, __file__)
keras_names.install()
quiet.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _declared(name)
    if name.startswith("build_") and name.endswith("_model"):  # a model of a plugin
        from zoo.errors import UsageError
        from zoo.registry import get_spec

        try:
            return get_spec(name.removeprefix("build_").removesuffix("_model")).builder
        except UsageError as error:
            raise AttributeError(str(error)) from None
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    from zoo.registry import list_models

    return sorted({*_names(), *(f"build_{name}_model" for name in list_models())})
