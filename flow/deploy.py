"""The main job: a model in, a report out. What the subcommands do, without a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from flow.findings import Findings
from flow.options import (
    OTHERS_EXACT_IMAGES,
    PREFERENCE,
    Options,
)
from flow.results.evaluate import measure
from flow.results.report import (
    Report,
    Skipped,
    write_report,
)
from flow.results.run_facts import RunFacts
from flow.session import (
    Backend,
    BackendFactory,
    Compiled,
    calibrate,
    chosen_variants,
    float_logits,
    open_backend,
    open_session,
)
from flow.stages import Stages
from flow.system.tracebacks import explain, reason_of, worst
from vta_config.errors import (
    ArtifactError,
    DriverError,
)


def deploy(
    options: Options,
    stages: Stages,
    *,
    factory: BackendFactory = open_backend,
    folder: Path | None = None,
    show: Callable[[Backend, str], object] | None = None,
    command: Sequence[str] = (),
) -> tuple[Report, Compiled]:
    """Run the whole flow; return what was found, and the variant that is deployed.

    A variant that fails is left out, with the reason, and the others go on; where the driver of
    engine ``driver`` fails, nothing more is tried.

    Parameters
    ----------
    options : Options
        What the user asks for.
    stages : Stages
        Measures and shows.
    factory : callable, optional
        Makes the backend.
    folder : Path, optional
        Where a report of the variants so far is written after each but the last, so that what
        was found is there if the run is stopped; and tracebacks of errors that nobody expected.
    show : callable (backend, variant), optional
        Called last, with the variant that is deployed.
    command : sequence of str, optional
        The command line, for the report.

    Raises
    ------
    FlowError
        When the input cannot be deployed; of a variant only when there is no other that can.
    InternalError
        The same, where an error that nobody expected is a reason.
    """
    run = RunFacts(
        command=tuple(command),
        options=options.to_json(),
        seeds=options.seeds,
        objective=options.objective,
    )
    session = open_session(options, stages, factory=factory)
    data = session.evaluation
    assert data is not None
    reference = float_logits(session, stages)
    variants = chosen_variants(options, session.model)
    calibrate(session, stages, variants)
    found = Findings(
        session=session,
        options=options,
        stages=stages,
        reference=reference,
        preference=tuple(sorted(variants, key=PREFERENCE.index)),
        few_images=OTHERS_EXACT_IMAGES,
        metrics=[measure("float32", reference, reference, data.targets, session.model.outputs)],
        run=run,
    )
    failures: list[Exception] = []
    for index, variant in enumerate(variants):
        try:
            found.add(variant)
        except DriverError as error:
            failures.append(error)
            found.stopped = str(error)
        except Exception as error:
            failures.append(explain(error, folder, where=variant))
        else:
            if folder is not None and index + 1 < len(variants):
                with contextlib.suppress(ArtifactError):  # the last one tells of a full disk
                    write_report(found.report(variants[index + 1 :]), folder)
            continue
        found.skipped.append(Skipped(variant=variant, reason=reason_of(failures[-1])))
        if found.stopped:
            later = variants[index + 1 :]
            found.skipped += [Skipped(variant=v, reason="the driver failed before") for v in later]
            break
    if found.deployed is None:
        raise worst(failures)
    found.compare_deployed(folder)
    found.collect_details(folder)
    report = found.report()
    if show is not None:
        if folder is not None:
            with contextlib.suppress(ArtifactError):
                write_report(report, folder)
        show(session.backend, report.deployed)
    return report, found.deployed.compiled
