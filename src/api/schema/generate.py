#!/usr/bin/env python3
"""Writes the schema tables in tables/ from facts that Kubernetes publishes.

usage: generate.py OPENAPI_DIR GO_DIR

OPENAPI_DIR holds the documents of /openapi/v3 as *.json; GO_DIR the folder with k8s.io/api, k8s.io/apimachinery, ...
whose struct tags say what OpenAPI does not: protobuf numbers, pointers, omitempty.

A table is one package. A definition is a line without indent:

    NAME [alias=KIND] [map=atomic] [required=NAME,...] [union=DISCRIMINATOR:NAME,...] [kind=GROUP/VERSION/KIND]...

and its fields are lines indented by one blank:

    NAME TYPE NUMBERS FLAGS [=DEFAULT] [list=atomic|set|map:KEY,...] [map=atomic|granular] [patch=STRATEGY,...:KEY] [enum=VALUES]

TYPE is string, bytes, int32, int64, int, bool, double, a definition of this package, a dotted definition of another one (without
`io.k8s.`), `[]TYPE` or `{}TYPE`. NUMBERS are protobuf field numbers, joined by `.` where Go inlines a struct, `-` if none.
FLAGS: `!` required, `*` pointer, `?` omitted when empty, `-` none of these. A definition names its required fields only where they
do not stand in the order of their numbers, which usually is the order of the fields in Go. VALUES is a list as JSON without blanks; servers
tell them where their feature OpenAPIEnums is on, as it is by default.
"""

import glob
import json
import os
import re
import sys

ALIASES = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "microtime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration": "duration",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}
# Lists of which an empty one is not defaulted, and refused: it is told from none as behind a pointer.
KEPT_EMPTY = {("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies")}
SCALARS = {
    ("string", None): "string",
    ("string", "byte"): "bytes",
    ("string", "date-time"): "string",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("integer", None): "int64",
    ("boolean", None): "bool",
    ("number", None): "double",
    ("number", "double"): "double",
}
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
ALIAS = re.compile(r"^type (\w+) = (v1\.\w+)$", re.M)
FIELD = re.compile(r"^\t(?:(\w+)[ \t]+)?([\w.*\[\]]+(?:\{\})?)[ \t]*`([^`]*)`", re.M)
TAG = re.compile(r'(\w+):"([^"]*)"')


class GoFacts:
    """What struct tags of one Go package tell: per struct, JSON name -> (pointer, omitted when empty, protobuf numbers)."""

    def __init__(self, root):
        self.root = root
        self.packages = {}

    def package(self, path):
        if path not in self.packages:
            structs = {}
            for file in sorted(glob.glob(os.path.join(self.root, path, "*.go"))):
                with open(file, encoding="utf-8") as handle:
                    source = handle.read()
                for name, body in STRUCT.findall(source):
                    structs[name] = FIELD.findall(body)
                for name, target in ALIAS.findall(source):
                    structs[name] = [("", target, 'json:",inline"')]
            self.packages[path] = structs
        return self.packages[path]

    def fields(self, path, struct):
        found = {}
        for name, go_type, tags in self.package(path).get(struct, []):
            tags = dict(TAG.findall(tags))
            json_name, _, options = tags.get("json", "").partition(",")
            parts = tags.get("protobuf", "").split(",")
            number = parts[1] if len(parts) > 1 else ""
            if not json_name and (not name or "inline" in options):
                inner_path, inner = self.locate(path, go_type.lstrip("*"))
                for key, (pointer, empty, numbers) in self.fields(inner_path, inner).items():
                    found[key] = (pointer, empty, [number] + numbers if number else numbers)
            elif json_name and json_name != "-":
                empty = "omitempty" in options or "omitzero" in options
                found[json_name] = (go_type.startswith("*"), empty, [number or "-"])
        return found

    def locate(self, path, go_type):
        if "." not in go_type:
            return path, go_type
        package, name = go_type.split(".")
        known = {"metav1": "k8s.io/apimachinery/pkg/apis/meta/v1", "v1": "k8s.io/api/core/v1"}
        if package == "v1" and path.endswith(("v1alpha1", "v1beta1")):
            return path.rsplit("/", 1)[0] + "/v1", name
        return known.get(package, ""), name


def go_path(package):
    """io.k8s.api.apps.v1 -> k8s.io/api/apps/v1"""
    return "k8s.io/" + package.removeprefix("io.k8s.").replace(".", "/")


def type_of(schema, package):
    """The TYPE column of a property."""
    if "allOf" in schema:
        schema = schema["allOf"][0]
    if "$ref" in schema:
        full = schema["$ref"].rsplit("/", 1)[1]
        owner, name = full.rsplit(".", 1)
        return name if owner == package else full.removeprefix("io.k8s.")
    if schema.get("type") == "array":
        return "[]" + type_of(schema["items"], package)
    if "additionalProperties" in schema:
        return "{}" + type_of(schema["additionalProperties"], package)
    return SCALARS[(schema["type"], schema.get("format"))]


def nested(schema):
    """A schema and those of its items or values."""
    while schema:
        yield schema
        schema = schema.get("items") or schema.get("additionalProperties")


def field_line(full, name, schema, required, facts):
    package = full.rsplit(".", 1)[0]
    pointer, empty, numbers = facts.get(name, (False, "default" not in schema, ["-"]))
    pointer = pointer or (full, name) in KEPT_EMPTY
    flags = ("!" if required else "") + ("*" if pointer else "") + ("?" if empty else "")
    columns = [name, type_of(schema, package), ".".join(numbers) if "-" not in numbers else "-", flags or "-"]
    if "default" in schema:
        columns.append("=" + json.dumps(schema["default"], separators=(",", ":")))
    if "x-kubernetes-list-type" in schema:
        keys = schema.get("x-kubernetes-list-map-keys")
        columns.append("list=" + schema["x-kubernetes-list-type"] + (":" + ",".join(keys) if keys else ""))
    if "x-kubernetes-map-type" in schema:
        columns.append("map=" + schema["x-kubernetes-map-type"])
    if "x-kubernetes-patch-strategy" in schema or "x-kubernetes-patch-merge-key" in schema:
        key = schema.get("x-kubernetes-patch-merge-key", "")
        columns.append("patch=" + schema.get("x-kubernetes-patch-strategy", "") + (":" + key if key else ""))
    values = next((inner["enum"] for inner in nested(schema) if "enum" in inner), None)
    if values is not None:
        columns.append("enum=" + json.dumps(values, separators=(",", ":")).replace(" ", "\\u0020"))
    return " " + " ".join(columns)


def order(facts, name):
    """Where a field stands by its numbers; those without any are the last."""
    numbers = facts.get(name, (False, False, ["-"]))[2]
    return [int(number) if number != "-" else 2**32 - 1 for number in numbers]


def union_word(union):
    """Fields of which one is set. Go's names of them are theirs with a capital."""
    fields = union["fields-to-discriminateBy"]
    assert all(go == name[0].upper() + name[1:] for name, go in fields.items()), fields
    return "union=" + union.get("discriminator", "") + ":" + ",".join(fields)


def definition(full, schema, go):
    package, name = full.rsplit(".", 1)
    head = [name]
    if full in ALIASES:
        head.append("alias=" + ALIASES[full])
    if "x-kubernetes-map-type" in schema:
        head.append("map=" + schema["x-kubernetes-map-type"])
    facts = go.fields(go_path(package), name)
    required = schema.get("required", [])
    if required != sorted(sorted(required), key=lambda field: order(facts, field)):
        head.append("required=" + ",".join(required))
    head += [union_word(union) for union in schema.get("x-kubernetes-unions", [])]
    kinds = schema.get("x-kubernetes-group-version-kind", [])
    if name not in ("DeleteOptions", "WatchEvent"):
        head += ["kind={group}/{version}/{kind}".format(**kind) for kind in kinds]
    lines = [" ".join(head)]
    for field, value in schema.get("properties", {}).items():
        lines.append(field_line(full, field, value, field in required, facts))
    return lines


def main(openapi, go_root):
    schemas = {}
    for file in sorted(glob.glob(os.path.join(openapi, "*.json"))):
        with open(file, encoding="utf-8") as handle:
            schemas.update(json.load(handle).get("components", {}).get("schemas", {}))
    go = GoFacts(go_root)
    packages = {}
    for full in sorted(schemas):
        packages.setdefault(full.rsplit(".", 1)[0], []).append(full)
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tables")
    os.makedirs(folder, exist_ok=True)
    for package, names in packages.items():
        lines = [line for full in names for line in definition(full, schemas[full], go)]
        with open(os.path.join(folder, package.removeprefix("io.k8s.") + ".txt"), "w", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")
    write_index(folder, [package.removeprefix("io.k8s.") for package in packages])


def write_index(folder, packages):
    """Writes the Rust list of all tables."""
    lines = ["//! The tables by package, as `generate.py` wrote them.", "", "/// Package and text of each table."]
    lines.append("pub const TABLES: &[(&str, &str)] = &[")
    lines += [f'    ("{package}", include_str!("{package}.txt")),' for package in packages]
    with open(os.path.join(folder, "mod.rs"), "w", encoding="utf-8") as handle:
        handle.write("\n".join(lines + ["];"]) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
