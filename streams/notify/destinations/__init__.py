"""Where alerts go: one module or folder for each kind of receiver, found by its name.

To add one, add a module here that defines ``RECEIVER``, a subclass of ``streams.notify.receiver.Receiver`` whose
``Config`` says what ``[[receivers]]`` takes. Nothing else names it: settings, routes and tests walk this folder.
"""

import importlib
import pkgutil
from functools import cache

from streams.notify.receiver import Receiver


@cache
def destinations() -> dict[str, type[Receiver]]:
    """Receiver classes by the ``type`` of their settings."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {module.RECEIVER.type_name(): module.RECEIVER for module in modules}
