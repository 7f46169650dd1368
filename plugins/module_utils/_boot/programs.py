# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Installs programs such as mount.strata on a host, each with the code it needs."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._boot import mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._boot.files import replace_file
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import open_file

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

LIBRARY = "/usr/local/lib/strata"

_PACKAGE = "ansible_collections.strata.overlay.plugins.module_utils"
_MARK = "# Written by strata.overlay"
_EXECUTABLE = 0o755
_GUARD = """import os, sys


def refuse_open(start):
    # Rights may have changed since this was installed. In a user namespace root of the host has another number.
    path = os.path.realpath(start)
    while True:
        facts = os.stat(path)
        if facts.st_uid not in (0, os.geteuid()) or (facts.st_mode & 0o022 and not facts.st_mode & 0o1000):
            sys.exit(f"{sys.argv[0]}: {path} could be changed by others than root, so it is not run; see {start}")
        if path == "/":
            return
        path = os.path.dirname(path)


with open("/proc/self/uid_map") as ids:
    if ids.read().split() == ["0", "0", "4294967295"]:
        for needed in (sys.executable, os.__file__, DIRECTORY):
            refuse_open(needed)

"""
"""Before anything of the code is read."""

_LONGEST_INTERPRETER = 240
"""execve(2) reads 255 bytes of the first line; older kernels than 5.1 read 127."""


@dataclass(frozen=True)
class HelperFiles:
    """All files of a program, by absolute path.

    :ivar description: what messages call it.
    :ivar program: its first line names this host's Python.
    :ivar directory: the code; named after its digest, so that it is replaced by naming another one.
    """

    description: str
    program: str
    program_text: str
    directory: str
    code: dict[str, str]


def sources(start: str = "_boot.mount_strata") -> dict[str, str]:
    """The source of a file of ``module_utils`` and of all files that it needs, by dotted name below that package."""
    found: dict[str, str] = {}
    pending = [start]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = _source(name)
            pending += sorted(_needs(found[name]))
    return found


def _source(name: str) -> str:
    """Also from the archive in which Ansible sends a module to a host."""
    full = f"{_PACKAGE}.{name}"
    spec = importlib.util.find_spec(full)
    loader: Any = spec.loader if spec else None
    text = loader.get_source(full) if loader else None
    if text is None:
        raise StrataError(f"The source of {full} cannot be read, so no program can be installed from it.")
    return str(text)


def _needs(source: str) -> set[str]:
    """What a source imports, wherever it does; not what only a type checker reads."""
    needed: set[str] = set()
    for node in _statements(ast.parse(source)):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and module.startswith(f"{_PACKAGE}."):
            name = module[len(_PACKAGE) + 1 :]
            spec = importlib.util.find_spec(module)
            is_package = spec is not None and spec.submodule_search_locations is not None
            needed |= {f"{name}.{alias.name}" for alias in node.names} if is_package else {name}
    return needed


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _statements(child)


def helper_files(interpreter: str = sys.executable, sbin: str = "/sbin", library: str = LIBRARY) -> HelperFiles:
    """What of mount.strata is to be on this host.

    :param interpreter: the Python that runs this module runs the helper as well.
    """
    start = relative_name(mount_strata.__name__)
    does = "for mount(8): mount -t strata NAME PATH [-o root=STORE]"
    program = f"{os.path.realpath(sbin)}/mount.strata"
    return program_files("the mount helper", start, program, library, (does, "main(sys.argv[1:])"), interpreter)


def relative_name(name: str) -> str:
    """A module's name below ``module_utils``, as ``sources`` takes it."""
    return name[len(_PACKAGE) + 1 :]


def program_files(
    message: str, start: str, program: str, library: str, body: tuple[str, str], interpreter: str = sys.executable
) -> HelperFiles:
    """A program that calls ``main`` of a module, and needs nothing but Python's standard library.

    :param body: what it is for, and the call.
    """
    if any(letter.isspace() for letter in interpreter) or len(interpreter) > _LONGEST_INTERPRETER:
        raise StrataError(
            f"{message[0].upper()}{message[1:]} cannot be run by {interpreter!r}: the kernel takes no such path in the "
            "first line of a program. Set ansible_python_interpreter to another Python of this host."
        )
    modules = sources(start)
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sorted(modules.items())).encode()).hexdigest()
    directory = f"{library}/{digest[:16]}"
    below = f"{directory}/{_PACKAGE.replace('.', '/')}"
    text = (
        f"#!{interpreter} -IS\n"
        f"{_MARK} {body[0]}\n"
        f"{_GUARD.replace('DIRECTORY', repr(directory))}"
        f"sys.path.insert(0, {directory!r})\n"
        f"from {_PACKAGE}.{start} import main\n"
        "\n"
        f"sys.exit({body[1]})\n"
    )
    code = {f"{below}/{name.replace('.', '/')}.py": source for name, source in modules.items()}
    return HelperFiles(message, program, text, directory, code)


def refuse_open(files: HelperFiles) -> None:
    """Nothing, or StrataError where someone other than root could change what root is to run: Python or the code."""
    interpreter = files.program_text.split("\n", 1)[0][len("#!") :].split(" ")[0]
    for path in (interpreter, os.__file__, files.program, files.directory):
        found = open_file(path)
        if found:
            cure = (
                "give it to root alone (chown root, chmod go-w)"
                if path in (files.program, files.directory)
                else "set ansible_python_interpreter to a Python of root's, such as /usr/bin/python3"
            )
            raise StrataError(
                f"{files.description[0].upper()}{files.description[1:]} is run by root, and {found} could be "
                f"changed by others, who could run anything as root with it ({path}). Nothing was installed; {cure}."
            )


def is_installed(files: HelperFiles) -> bool:
    """Whether every file is there as it should be, and the program can be run."""
    return (
        _read(files.program) == files.program_text
        and os.access(files.program, os.X_OK)
        and all(_read(path) == text for path, text in files.code.items())
    )


def install(files: HelperFiles) -> None:
    """Write what is missing. At every moment the program that mount(8) finds has all its code."""
    _refuse_foreign(files.program)
    if not all(_read(path) == text for path, text in files.code.items()):
        staged = f"{os.path.dirname(files.directory)}/.{os.urandom(8).hex()}"
        for path, text in files.code.items():
            replace_file(staged + path[len(files.directory) :], text)
        if os.path.isdir(files.directory):
            remove_tree(files.directory)
        os.rename(staged, files.directory)
    replace_file(files.program, files.program_text, _EXECUTABLE)
    _remove_others(files.directory)


def remove(files: HelperFiles) -> None:
    """Remove program and code."""
    _refuse_foreign(files.program)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(files.program)
    if os.path.isdir(os.path.dirname(files.directory)):
        remove_tree(os.path.dirname(files.directory))


def present(files: HelperFiles) -> bool:
    """Whether anything of a helper is there."""
    return os.path.lexists(files.program) or os.path.isdir(os.path.dirname(files.directory))


def _remove_others(directory: str) -> None:
    """Code of earlier versions, and what runs that were killed have left."""
    library = os.path.dirname(directory)
    for name in os.listdir(library):
        if f"{library}/{name}" != directory:
            remove_tree(f"{library}/{name}")


def _refuse_foreign(program: str) -> None:
    text = _read(program)
    if text is not None and _MARK not in text:
        raise StrataError(f"{program} is there already and was not written by strata.overlay; remove it first.")


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def run_helper(module: AnsibleModule) -> NoReturn:
    """Bring the parameters of ``mount_helper`` about and end the module."""
    run_files(module, helper_files)


def run_files(module: AnsibleModule, make: Callable[[], HelperFiles]) -> NoReturn:
    """Install or remove a program, as the option ``state`` says, and end the module."""

    def work() -> dict[str, Any]:
        files = make()
        wanted = module.params["state"] == "present"
        if wanted:
            refuse_open(files)
        right = is_installed(files) if wanted else not present(files)
        shown = _difference(files, wanted)
        if not right and not module.check_mode:
            try:
                (install if wanted else remove)(files)
            except OSError as error:
                raise StrataError(
                    f"Cannot {'install' if wanted else 'remove'} {files.description}: {error.strerror} "
                    f"({error.filename or files.program})."
                ) from error
        return {"changed": not right, "program": files.program, "library": files.directory, "diff": shown}

    exit_module(module, guarded(module, work))


def _difference(files: HelperFiles, wanted: bool) -> dict[str, Any]:
    after = files.program_text if wanted else ""
    return {"before": _read(files.program) or "", "after": after, "before_header": files.program}
