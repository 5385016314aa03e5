"""Read what `flow.artefacts.save` wrote, without believing any of it: sums, machines, versions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flow.artefacts.manifest import (
    MANIFEST_FILE,
    MOST_MANIFEST_BYTES,
    PROGRAM_SUFFIX,
    Manifest,
    StoredFile,
)
from flow.artefacts.reading import Reading
from flow.artefacts.versions import host_platform, versions
from flow.program.program import Program
from flow.system.limits import DEFAULT, FILE_SHARE
from flow.system.quiet import quiet_stderr
from relay_passes.integers.plan import QuantPlan
from vta_config.errors import ArtifactError
from vta_config.files import read_bounded

if TYPE_CHECKING:
    from flow.system.limits import Limits

#: A library has the programs in it, and the host's weights.
MOST_LIBRARY_BYTES: Final = 1 << 31
_AGAIN: Final = "deploy again, or copy the whole folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A folder that can be deployed, or a program file alone.

    Parameters
    ----------
    path : Path
        The folder or the file.
    programs : tuple of Program
        In the order in which they run.
    manifest : Manifest, optional
        None of a program file alone.
    plan : QuantPlan, optional
    limits : Limits
        What the programs may cost.
    """

    path: Path
    programs: tuple[Program, ...]
    manifest: Manifest | None
    plan: QuantPlan | None
    limits: Limits

    @property
    def needs_library(self) -> bool:
        """Whether the programs alone are not the network."""
        if self.manifest is None:
            return False
        return self.manifest.needs_library([[t.name for t in p.inputs] for p in self.programs])

    def library(self) -> Any:
        """Load the TVM library: a tvm.runtime.Module with the programs as modules in it.

        It is native code of the folder, which runs in this process.

        Raises
        ------
        ArtifactError
            When there is none, or it is for another host or another TVM.
        """
        assert self.manifest is not None, "a program file alone has none"
        stored = self.manifest.library
        if stored is None:
            raise ArtifactError(
                str(self.path),
                "must have a library, which runs the host's operators",
                got="none",
                hint="deploy again where there is a C++ compiler",
            )
        where = str(self.path / stored.stored.file)
        if stored.platform != host_platform():
            raise ArtifactError(
                where,
                f"must be for this host, {host_platform()}",
                got=stored.platform,
                hint="deploy again on this host",
            )
        own, other = (
            ".".join(found.get("apache-tvm", "").split(".")[:2])
            for found in (versions(), self.manifest.versions)
        )
        if own != other:
            raise ArtifactError(
                where,
                f"must be built by TVM {own}, which is installed",
                got=f"TVM {other}",
                hint=f"deploy again, or install apache-tvm {other}",
            )
        from tvm import runtime  # takes seconds to import

        from flow.sim.core_library import load_library

        load_library()  # which reads the programs in it
        try:
            with quiet_stderr():
                return runtime.load_module(where)
        except (RuntimeError, OSError) as error:
            raise ArtifactError(
                where, "must be a library that TVM can load", got=error, hint=_AGAIN
            ) from None


def open_artefact(path: Path, *, limits: Limits = DEFAULT) -> Artefact:
    """Read a folder, or a program file alone.

    Raises
    ------
    ArtifactError
        When a file is missing, damaged, of a newer version, or does not fit the others.
    CapacityError
        When a program costs more than `limits` allow.
    """
    if path.is_dir():
        return load_artefact(path, limits=limits)
    program = Program.load(path, limits=limits)
    return Artefact(path=path, programs=(program,), manifest=None, plan=program.plan, limits=limits)


def is_artefact(path: Path) -> bool:
    """Tell whether a path looks like one of ours, and not like an image."""
    return path.suffix == PROGRAM_SUFFIX or path.is_dir()


def load_artefact(folder: Path, *, limits: Limits = DEFAULT) -> Artefact:
    """Read a folder and check every file in it against the manifest.

    Raises
    ------
    ArtifactError
        When a file is missing or another one than the manifest says, a program is for another
        machine, or the manifest is damaged or of a newer version.
    CapacityError
        When a program costs more than `limits` allow.
    """
    where = str(folder / MANIFEST_FILE)
    try:
        data = read_bounded(folder / MANIFEST_FILE, MOST_MANIFEST_BYTES)
    except OSError as error:
        raise ArtifactError(
            where,
            "must be a readable manifest",
            got=error.strerror or error,
            hint="give a folder that deploy wrote, as out/deploy/artefact, or a .vta file",
        ) from None
    manifest = Manifest.from_bytes(data, where)
    most = MOST_LIBRARY_BYTES if limits.max_bytes < 0 else limits.max_bytes // FILE_SHARE
    programs = []
    for stored in manifest.programs:
        file = stored.stored
        program = Program.from_bytes(
            _checked(folder, file, most), str(folder / file.file), limits=limits
        )
        if program.config != manifest.machine:
            raise ArtifactError(
                str(folder / file.file),
                f"must be for the machine of the manifest, {manifest.machine.name}",
                got=f"{program.config.name} of other numbers"
                if program.config.name == manifest.machine.name
                else program.config.name,
                hint=_AGAIN,
            )
        if program.symbol != stored.symbol:
            raise ArtifactError(
                str(folder / file.file), f"must be {stored.symbol}", got=program.symbol, hint=_AGAIN
            )
        programs.append(program)
    plan = None
    if manifest.plan is not None:
        plan_data = _checked(folder, manifest.plan, MOST_MANIFEST_BYTES)
        plan = _plan(plan_data, str(folder / manifest.plan.file))
    if manifest.scales is not None:
        _checked(folder, manifest.scales, MOST_MANIFEST_BYTES)
    if manifest.library is not None:
        _checked(folder, manifest.library.stored, MOST_LIBRARY_BYTES)
    _check_tensors(manifest, programs, where)
    return Artefact(
        path=folder, programs=tuple(programs), manifest=manifest, plan=plan, limits=limits
    )


def _checked(folder: Path, file: StoredFile, most: int) -> bytes:
    """Read a file whose sum is the manifest's."""
    where = str(folder / file.file)
    try:
        data = read_bounded(folder / file.file, most)
    except OSError as error:
        raise ArtifactError(
            where,
            f"must be a readable file of at most {most:,} bytes, as {MANIFEST_FILE} names it",
            got=error.strerror or error,
            hint=_AGAIN,
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ArtifactError(
            where,
            f"must have the SHA-256 {file.sha256[:12]}… of {MANIFEST_FILE}",
            got=f"{found[:12]}…",
            hint=_AGAIN,
        )
    return data


def _plan(data: bytes, where: str) -> QuantPlan:
    return QuantPlan.from_json(Reading.of_bytes(data, where).values, where)


def _check_tensors(manifest: Manifest, programs: list[Program], where: str) -> None:
    """Check that the tensors that the manifest names are those of the programs."""
    by_symbol = {program.symbol: program for program in programs}

    def check(tensor: Any, key: str) -> None:
        program = by_symbol.get(tensor.program)
        ports = () if program is None else getattr(program, key)
        port = ports[tensor.position] if tensor.position < len(ports) else None
        if port is None or (port.name, port.shape) != (tensor.name, tensor.shape):
            got = "nothing" if port is None else f"{port.name} {list(port.shape)}"
            raise ArtifactError(
                where,
                f"must name {key} of its programs: {tensor.name} {list(tensor.shape)} of "
                f"{tensor.program}",
                got=got,
                hint=_AGAIN,
            )

    for tensor in manifest.tensors:
        check(tensor, "inputs")
    for output in manifest.outputs:
        if output.tensor is not None:
            check(output.tensor, "outputs")
    for stored in manifest.programs:
        for known in stored.outputs:
            check(known, "outputs")
