"""Prints passes and failures of a Ginkgo report by area, beside the specs that docs/conformance.md says fail."""

import collections
import json
import re
import sys


def specs(report):
    """Yields name, area and outcome of each spec that ran."""
    for suite in json.load(open(report)):
        for spec in suite["SpecReports"] or []:
            if spec["LeafNodeType"] != "It" or spec["State"] in ("skipped", "pending"):
                continue
            texts = [*(spec.get("ContainerHierarchyTexts") or []), spec["LeafNodeText"]]
            name = " ".join(texts)
            area = re.match(r"\[(sig-[a-z-]+)\]", name)
            yield name, area.group(1) if area else "other", spec["State"] == "passed"


def plain(name):
    """A name without its labels."""
    return re.sub(r"\s+", " ", re.sub(r"\[(?!sig-)[^]]*\]", "", name)).strip()


def main(report, document):
    known = {plain(line.split("`")[1]) for line in open(document) if line.startswith("- `[sig-")}
    passed, failed = collections.Counter(), collections.Counter()
    broken, mended = [], []
    for name, area, ok in specs(report):
        (passed if ok else failed)[area] += 1
        if not ok and plain(name) not in known:
            broken.append(name)
        if ok and plain(name) in known:
            mended.append(name)
    print(f"{'area':<22}{'passed':>8}{'failed':>8}")
    for area in sorted({*passed, *failed}):
        print(f"{area:<22}{passed[area]:>8}{failed[area]:>8}")
    print(f"{'all':<22}{sum(passed.values()):>8}{sum(failed.values()):>8}")
    for title, names in (("fails, and is not known to", broken), ("passes, and was known to fail", mended)):
        for name in sorted(names):
            print(f"{title}: {name}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
