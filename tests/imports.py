"""Checks that no modules of a folder import each other in a circle, and that lower layers never import higher ones.

A module stands for its folder too: `a.rs` and all below `a/` are one. Tests are left out, and so is what a parent and its own children have of each
other. Names that a parent exports anew count as imports of where they are defined.
"""

import pathlib
import re
import sys

CRATES = ["src/addresses", "src/api", "src/api/client", "src/api/server", "src/net", "src/cri", "src/actors"]

# The modules of a crate from low to high: each imports those of its own row and of rows above it here, and no others.
LAYERS = {
    "src/api": [
        "aside decoding memo memory node_pressure notices packed pattern projection shared turn_queue version",
        "meta metrics",
        "certificates formats status stored wire",
        "device_selectors document encodings expressions load_balancing local_path schema",
        "spans",
        "patch protobuf",
        "resources",
        "features quota service",
        "auth",
    ],
    "src/api/server": [
        "backends informational openapi otlp reloading render underway",
        "audit encryption flow store token_signer webhook_client",
        "authentication authorization",
        "admission aggregation conversion",
        "http",
    ],
    "src/actors": [
        "document_shape files pod_conditions pod_phase rules runtime serving zpages",
        "devices storage",
        "apiserver dns insight network_policy overlay proxy scheduler",
        "controllers kubelet load_balancer reachability",
        "hollow metrics simulation",
        "component_server",
    ],
}

# Who does not import whom although the layers would allow it.
STRANGERS = {
    "src/actors": [
        ("controllers", "apiserver", "units of the control plane know the API by its client alone"),
        ("scheduler", "apiserver", "units of the control plane know the API by its client alone"),
        ("controllers", "kubelet", "the control plane knows nodes by the API alone"),
        ("kubelet", "controllers", "nodes know the control plane by the API alone"),
        ("kubelet", "apiserver", "nodes know the control plane by the API alone"),
        ("proxy", "apiserver", "nodes know the control plane by the API alone"),
        ("network_policy", "apiserver", "nodes know the control plane by the API alone"),
    ],
}

# Cycles that are still there, by folder. This only becomes shorter: what is in no cycle any more must go from here.
KNOWN = {
    "src/actors/kubelet": "admission cgroups cluster context env eviction handle image_collection manifests metrics node pods probes resize "
    "rotation server stats status volumes worker",
    "src/actors/kubelet/resize": "allocation record",
    "src/actors/kubelet/worker": "ephemeral init plan resize stop",
    "src/actors/scheduler": "metrics queue",
    "src/api/resources/validation": "pod volume volume_claim",
    "src/api/resources/validation/pod": "container ephemeral projected volumes",
    "src/api/server/store/embedded": "waiting writer",
}

TEST = re.compile(r"^(tests?|testing|.*_tests?|tests_.*|benches)$")


# What is no code: comments, and what stands between quotes (raw, plain, a character).
NO_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\[^']+|[^'\\])'""", re.DOTALL)
INLINE_TESTS = re.compile(r"#\[cfg\((?:all\()?test[^\]]*\]\s*(?:pub(?:\([a-z]+\))? )?mod \w+ \{")
TEST_MODULE = re.compile(r"#\[cfg\((?:all\()?test[^\]]*\]\s*(?:pub(?:\([a-z]+\))? )?mod (\w+);")
FOR_TESTS = re.compile(r"#\[cfg\((?:all\()?test[^\]]*\]\s*(?:pub(?:\([a-z]+\))? )?(?:use|mod) [^;{]*(?:\{[^;]*\})?;")


def modules(root):
    """The code of every module of a crate that is no test, by its path as a tuple of names."""
    found, tests = {}, set()
    others = {manifest.parent for manifest in pathlib.Path(root).glob("*/**/Cargo.toml")}
    for file in sorted(pathlib.Path(root).rglob("*.rs")):
        if not others.isdisjoint(file.parents):
            continue
        parts = list(file.relative_to(root).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main", "build"):
            parts.pop()
        if any(TEST.match(part) for part in parts):
            continue
        text = NO_CODE.sub(" ", file.read_text())
        tests.update((*parts, name) for name in TEST_MODULE.findall(text))
        # Tests in the same file are its end.
        found[tuple(parts)] = FOR_TESTS.sub("", INLINE_TESTS.split(text)[0])
    return {path: text for path, text in found.items() if not any(path[:length] in tests for length in range(1, len(path) + 1))}


def leaves(tree):
    """The paths of a `use` tree, each with the name that it has here."""
    tree = tree.strip()
    if "{" not in tree:
        path, *alias = re.split(r"\s+as\s+", tree)
        return [(path.replace(" ", ""), alias[0] if alias else path.rsplit("::", 1)[-1])]
    head, rest = tree.split("{", 1)
    inner, depth, parts, start = rest.rsplit("}", 1)[0], 0, [], 0
    for at, letter in enumerate(inner):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    parts.append(inner[start:])
    return [(head.replace(" ", "").strip() + path, name) for part in parts if part.strip() for path, name in leaves(part)]


class Crate:
    def __init__(self, root):
        self.texts = modules(root)
        self.known = {path[:length] for path in self.texts for length in range(len(path) + 1)}
        self.exports = {}
        for path, text in self.texts.items():
            for tree in re.findall(r"\bpub(?:\([a-z ]+\))? use ([^;]+);", text):
                self.exports.setdefault(path, {}).update((name, leaf) for leaf, name in leaves(tree))

    def resolve(self, path, leaf, depth=0):
        """The module that a path written in `path` leads to; None where that is another crate or a local name."""
        names = [name for name in leaf.split("::") if name]
        if not names or depth > 8:
            return None
        if names[0] == "crate":
            at, names = (), names[1:]
        elif names[0] in ("self", "super"):
            at = path
            while names and names[0] in ("self", "super"):
                if names[0] == "super":
                    at = at[:-1]
                names = names[1:]
        elif path + (names[0],) in self.known:
            at = path
        else:
            return None
        for index, name in enumerate(names):
            if at + (name,) in self.known:
                at += (name,)
                continue
            again = self.exports.get(at, {}).get(name)
            if again:
                target = self.resolve(at, "::".join([again, *names[index + 1 :]]) if index + 1 < len(names) else again, depth + 1)
                return target if target is not None else at
            break
        return at

    def imports(self):
        """Pairs of modules: who imports, and from where."""
        for path, text in self.texts.items():
            found = [leaf for tree in re.findall(r"\buse ([^;]+);", text) for leaf, _ in leaves(tree)]
            body = re.sub(r"\buse [^;]+;", "", text)
            found += re.findall(r"\b((?:crate|super|self)(?:::\w+)+)", body)
            for leaf in found:
                target = self.resolve(path, leaf)
                if target is not None:
                    yield path, target, leaf


def circles(edges):
    """Groups of more than one node that all lead to each other (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for to in sorted(edges.get(node, ())):
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in on:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            group = []
            while True:
                last = stack.pop()
                on.discard(last)
                group.append(last)
                if last == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def check_cycles(place, edges, reasons):
    """Complaints about the cycles among the children of a folder."""
    known = set(KNOWN.get(place, "").split())
    found = circles(edges)
    for group in found:
        if not known.issuperset(group):
            pairs = [(here, there) for here in group for there in group if (here, there) in reasons]
            lines = [f"    {here} -> {there}: {reason}" for here, there in pairs for reason in sorted(set(reasons[here, there]))]
            yield f"import cycle in {place}: {', '.join(group)}\n" + "\n".join(lines)
    gone = sorted(known.difference(*found))
    if gone:
        yield f"no import cycle in {place} any more, take it from KNOWN: {', '.join(gone)}"


def check_layers(root, crate, reasons):
    """Complaints about imports at the top of a crate that its layers forbid."""
    height = {name: at for at, row in enumerate(LAYERS[root]) for name in row.split()}
    for name in sorted({path[0] for path in crate.texts if path} ^ height.keys()):
        yield f"layers of {root}: {name} has no place in LAYERS" if name not in height else f"layers of {root}: there is no {name}"
    strangers = {(lower, higher): why for lower, higher, why in STRANGERS.get(root, ())}
    for (here, there), found in sorted(reasons.items()):
        upward = height.get(here, 0) < height.get(there, 0)
        if upward or (here, there) in strangers:
            why = strangers.get((here, there), "it is a layer above")
            yield from (f"import in {root}: {here} -> {there} ({why}): {reason}" for reason in sorted(set(found)))


def main():
    complaints, folders = [], set()
    for root in CRATES:
        crate = Crate(root)
        reasons = {}
        for source, target, leaf in crate.imports():
            common = 0
            while common < min(len(source), len(target)) and source[common] == target[common]:
                common += 1
            if common < len(source) and common < len(target):
                pair = (source[common], target[common])
                reasons.setdefault(source[:common], {}).setdefault(pair, []).append(f"{'/'.join(source)}: {leaf}")
        for folder, pairs in sorted(reasons.items()):
            edges = {}
            for here, there in pairs:
                edges.setdefault(here, set()).add(there)
            place = "/".join((root, *folder))
            folders.add(place)
            complaints.extend(check_cycles(place, edges, pairs))
        if root in LAYERS:
            complaints.extend(check_layers(root, crate, reasons.get((), {})))
    complaints.extend(f"no import cycle in {place} any more, take it from KNOWN" for place in sorted(KNOWN.keys() - folders))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if not complaints:
        print(f"imports: no cycles but those known in {len(KNOWN)} folders, no upward imports" if KNOWN else "imports: no cycles, no upward imports")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
