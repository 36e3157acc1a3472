"""What a report says of the machine, the bundles and the run, in words."""

from __future__ import annotations

import shlex

from vla_edge.bench.options.flags import words_of
from vla_edge.bench.report.types import BundleReport, Machine, Options, Rates, Report, Summarised

from .format import NOTHING, TEXT_LIMIT, clipped, formatted, known, significant

UNFINISHED = "the command was ended before every backend had been measured"
PHASES = "memory by phase"


def summary_line(summarised: Summarised) -> str:
    """What a summary has of all samples, and what it has not."""
    left_out = ", ".join(clipped(name) for name in summarised.left_out)
    return (
        f"A summary: {summarised.samples_kept:,} of {summarised.of:,} samples are here, at most "
        f"{summarised.most_of_a_series:,} of a series; the figures are those of all of them, to "
        f"{summarised.digits} digits. Not here: {clipped(left_out, TEXT_LIMIT) or 'nothing else'}."
    )


def rates_line(rates: Rates) -> str:
    """What this device can do, measured."""
    rated = [("FP32", rates.matmul_fp32_tflops), ("TF32", rates.matmul_tf32_tflops)]
    rated.append(("FP16", rates.matmul_fp16_tflops))
    matmul = ", ".join(f"{name} {significant(value)}" for name, value in rated if value is not None)
    return (
        f"{rates.device}: copies {significant(rates.copy_gb_s)} GB/s; matmul, TFLOPS: {matmul}; "
        f"measured with {rates.library}"
    )


def bundle_line(bundle: BundleReport) -> str:
    """What a bundle is, in one line."""
    layout, source, origin = map(clipped, (bundle.layout, bundle.source_file, bundle.weights_origin))
    height, width = bundle.frame
    return (
        f"{layout}, {bundle.parameters:,} parameters, {clipped(bundle.precision)}, batch {bundle.batch}"
        + (f", prompt of {bundle.prompt_length} tokens" if bundle.prompt_length else "")
        + (f", frames of {height}x{width} {bundle.camera.upper()} as they are" if bundle.camera else "")
        + f"; weights of {source}: {origin}"
    )


def device_name(report: Report) -> str:
    """What the figures were made on, as a heading names it."""
    machine = report.machine
    if report.options.device == "cuda" and machine.gpus:
        return clipped(machine.gpus[0].name or "GPU without a name")
    return clipped(machine.board or machine.cpu)


def versions_line(report: Report) -> str:
    """Device, driver, threads, versions and time of a run."""
    versions = ", ".join(f"{name} {version}" for name, version in report.machine.versions.items())
    threads = f", {report.options.threads} threads" if report.options.device == "cpu" else ""
    drivers = "".join(f", driver {gpu.driver}" for gpu in report.machine.gpus[:1] if gpu.driver)
    where = f"{report.options.device}: {device_name(report)}{drivers}{threads}; {versions}"
    return f"{clipped(where, TEXT_LIMIT)}; {clipped(report.created_utc)}"


def machine_facts(machine: Machine, options: Options) -> tuple[tuple[str, str], ...]:
    """Name and value of everything known of the machine and of what was asked for."""

    def given(value: float | None, unit: str) -> str:
        return f"{value:,.0f} {unit}" if known(value) else "unknown"

    facts = [
        ("CPU", machine.cpu),
        ("board", machine.board or NOTHING),
        ("cores", f"{machine.cores_usable} usable, {machine.cores_physical or 'unknown'} physical"),
        (
            "CPU clock",
            f"{given(machine.cpu_clock_mhz, 'MHz')}, at most {given(machine.cpu_clock_max_mhz, 'MHz')}",
        ),
        ("memory", given(machine.memory_mib, "MiB")),
        ("load before the run", formatted(machine.load_average_1min, ",.2f")),
        ("system", f"{machine.os}, Python {machine.python}"),
    ]
    for gpu in machine.gpus:
        clock = f"{given(gpu.graphics_clock_mhz, 'MHz')} of {given(gpu.graphics_clock_max_mhz, 'MHz')}"
        facts.append(
            (
                f"GPU {gpu.index}",
                f"{gpu.name or 'name unknown'}, compute capability {gpu.compute_capability or 'unknown'}, "
                f"{given(gpu.memory_mib, 'MiB')}, driver {gpu.driver or 'unknown'}, {clock}, "
                f"power limit {given(gpu.power_limit_w, 'W')}, "
                f"{'unknown' if gpu.other_processes is None else gpu.other_processes} other processes",
            )
        )
    facts += [
        ("device", f"{options.device}, {options.threads} threads"),
        (
            "samples",
            f"{options.runs:,} a backend" if options.runs else f"{options.seconds:g} s a backend, 20 to 2000",
        ),
        ("warm-up", "until steady" if options.warmup is None else f"{options.warmup} calls"),
        ("time limit", f"{options.time_limit_s:g} s a backend"),
        ("workloads", ", ".join(options.workloads)),
        ("paced loop", f"{options.rate_hz:g} Hz" if options.rate_hz else "none"),
        ("own frames", f"{len(options.images)}" if options.images else "none"),
        ("quick", "yes: no compilers, profiles, paced loop or rates" if options.quick else "no"),
    ]
    return tuple((name, clipped(value, TEXT_LIMIT)) for name, value in facts)


def reproducing_command(report: Report) -> str:
    """The command that measures the same again, on one line."""
    options = report.options
    where = report.bundles[0].path if len(report.bundles) == 1 else "engines/"
    where = where if options.engines is None else options.engines
    frames = ("--images", "FRAMES") if options.images else ()
    return clipped(shlex.join(["vla-bench", where, *words_of(options), *frames]), TEXT_LIMIT)
