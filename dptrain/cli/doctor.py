"""``dptrain doctor``."""

from dptrain.cli.output import print_json
from dptrain.doctor import examine
from dptrain.errors import EXIT_CHECK_FAILED
from dptrain.report.tables import print_table


def doctor(*, json: bool = False) -> int:
    """Check what training needs of this machine: cores, BLAS, memory, ports, versions.

    Args:
        json: Print the result as one JSON object.
    """
    findings = examine()
    bad = [each for each in findings if not each.ok]
    if json:
        print_json(
            {
                "ok": not bad,
                "findings": [
                    {"what": f.what, "value": f.value, "ok": f.ok, "remedy": f.remedy}
                    for f in findings
                ],
            }
        )
    else:
        rows = [("ok" if f.ok else "BAD", f.what, f.value) for f in findings]
        print_table("", rows)
        for each in bad:
            print(f"{each.what}: {each.remedy}")  # noqa: T201 - the result
    return EXIT_CHECK_FAILED if bad else 0
