#!/usr/bin/env python3
"""Counts what `./dev test` ran and prints the summary; exit status 1 if anything failed.

    summary.py RESULTS SECONDS

RESULTS/status.tsv has one line per suite (name, exit status or "skipped", seconds, reason); RESULTS/<suite>/ holds the
machine-readable results of its tools. The counts come from those files only; an exit status that they do not explain (a
crash, a suite that could not start) is one failure more. A suite without result files is one check.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


class Count:
    """Passed, failed and skipped tests of one kind in one suite; failed and skipped ones by name."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def total(self):
        return self.passed + len(self.failed) + len(self.skipped)


def read_xml(path):
    """The testcase elements of a JUnit-like file (GoogleTest, ctest and lit write variants of it)."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}".lstrip(".")
        yield name, case


def count_xml(path, count):
    for name, case in read_xml(path):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            count.failed.append(name)
        elif skipped is not None or case.get("status") == "notrun":
            reason = "" if skipped is None else (skipped.get("message") or skipped.text or "").strip()
            count.skipped.append(f"{name}: {reason}" if reason else name)
        else:
            count.passed += 1


def count_cases(path, count):
    """The cases of a JSON file: name, status, and a reason of those that were skipped."""
    for case in json.loads(path.read_text())["cases"]:
        if case["status"] == "passed":
            count.passed += 1
        elif case["status"] == "skipped":
            count.skipped.append(f"{case['name']}: {case.get('reason', 'no reason given')}")
        else:
            count.failed.append(case["name"])


def count_suite(folder):
    """{kind: Count} of one suite's result files."""
    counts = {}
    for path in sorted(folder.glob("lit*.xml")):
        count_xml(path, counts.setdefault("lit", Count()))
    for path in sorted(folder.glob("unit/*.xml")):
        count_xml(path, counts.setdefault("unit", Count()))
    for kind in ("golden", "engines"):
        for path in sorted(folder.glob(f"{kind}*.json")):
            count_cases(path, counts.setdefault(kind, Count()))
    # A GoogleTest program that crashed, hung or never started shows in ctest's results only.
    if (folder / "ctest.xml").exists():
        unit = counts.setdefault("unit", Count())
        for name, case in read_xml(folder / "ctest.xml"):
            program = Count()
            xml = folder / "unit" / f"{case.get('name')}.xml"
            if xml.exists():
                count_xml(xml, program)
            if case.get("status") != "run" and not program.failed:
                unit.failed.append(f"{name} (crashed, timed out or did not start)")
    return counts


def main():
    results, seconds = Path(sys.argv[1]), int(sys.argv[2])
    kinds = {kind: Count() for kind in ("lit", "unit", "golden", "check")}
    print("\nSummary")
    for line in (results / "status.tsv").read_text().splitlines():
        suite, status, suite_seconds, reason = line.split("\t")
        counts = count_suite(results / suite)
        if status == "skipped":
            counts.setdefault("check", Count()).skipped.append(f"{suite}: {reason}")
        elif status != "0" and not any(count.failed for count in counts.values()):
            counts.setdefault("check", Count()).failed.append(f"{suite}: {reason}")
        elif status == "0" and not counts:
            counts.setdefault("check", Count()).passed += 1
        cells = []
        for kind, count in counts.items():
            total = kinds.setdefault(kind, Count())
            total.passed += count.passed
            total.failed += [f"{suite}: {kind}: {name}" for name in count.failed]
            total.skipped += [f"{suite}: {kind}: {name}" for name in count.skipped]
            cell = f"{kind} {count.passed} passed"
            cell += f", {len(count.failed)} failed" if count.failed else ""
            cell += f", {len(count.skipped)} skipped" if count.skipped else ""
            cells.append(cell)
        verdict = "ok  " if not any(count.failed for count in counts.values()) else "FAIL"
        print(f"  {verdict} {suite:<9} {int(suite_seconds):>5} s   {'; '.join(cells)}")

    skipped = [name for count in kinds.values() for name in count.skipped]
    failed = [name for count in kinds.values() for name in count.failed]
    for title, names in (("Skipped", skipped), ("Failed", failed)):
        if names:
            print(f"\n{title}")
            print("\n".join(f"  {name}" for name in names))
    ran = ", ".join(f"{count.total() - len(count.skipped)} {kind}" for kind, count in kinds.items())
    print(f"\nran {ran} tests in {seconds // 60} min {seconds % 60:02} s")
    tail = f", {len(skipped)} skipped" if skipped else ""
    print(f"{sum(count.passed for count in kinds.values())} passed, {len(failed)} failed{tail}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
