"""What is read of glTF and GLB files: the geometry, checked before trimesh takes memory for it.

trimesh would also read textures, of any picture format, and a mesh again for each node that shows it.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.core.files import json_of
from crossmodal.features.lightfield.meshfiles import check_count

HEAD = struct.Struct("<4sII")  # of a GLB file: its magic, version and length
CHUNK = struct.Struct("<I4s")
KEPT = ("asset", "scene", "scenes", "nodes", "meshes", "accessors", "bufferViews", "buffers")
UNUSED = {"componentType": 5121, "count": 1, "type": "SCALAR"}
TRIANGLES, STRIPS = 4, (5, 6)  # modes of a primitive


def geometry(data: bytes, kind: str, where: str) -> bytes:
    """A `glb` or `gltf` file with its geometry alone.

    Raises
    ------
    UserError : it is compressed in a way that is not read.
    ValueError, KeyError, ... : it is damaged, shows a node twice, or exceeds `limits.faces`.
    """
    if kind == "gltf":
        return json.dumps(_geometry(_tree(data, where))).encode()
    magic, version, _ = HEAD.unpack_from(data)
    size, name = CHUNK.unpack_from(data, HEAD.size)
    start = HEAD.size + CHUNK.size
    if magic != b"glTF" or version != 2 or name != b"JSON":
        raise ValueError("it is no GLB file of version 2")
    if len(data) < start + size:
        raise ValueError("it ends within its header")
    text = json.dumps(_geometry(_tree(data[start : start + size], where))).encode()
    text += b" " * (-len(text) % 4)
    rest = data[start + size :]
    length = start + len(text) + len(rest)
    return HEAD.pack(magic, version, length) + CHUNK.pack(len(text), name) + text + rest


def _tree(text: bytes, where: str) -> dict[str, Any]:
    if len(text) > (most := limits.current().mesh_bytes):
        raise ValueError(f"it has more than {most:,} bytes of JSON")
    tree = json_of(text.decode(), f"{where}: its JSON")
    if not isinstance(tree, dict):
        raise ValueError("its JSON is no object")
    if needed := [name for name in tree.get("extensionsRequired", []) if "compression" in str(name)]:
        raise UserError(f"{where}: is compressed ({str(needed[0])[:80]}); save it without compression")
    return tree


def _geometry(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {key: tree[key] for key in KEPT if key in tree}
    meshes, used = [], set()
    for mesh in kept.get("meshes", []):
        primitives = []
        for part in mesh["primitives"]:
            bare = {key: part[key] for key in ("indices", "mode") if key in part}
            bare["attributes"] = {"POSITION": part["attributes"]["POSITION"]}
            used |= {bare["attributes"]["POSITION"], bare.get("indices", -1)}
            primitives.append(bare)
        meshes.append({"primitives": primitives, **({"name": str(mesh["name"])} if "name" in mesh else {})})
    accessors = [one if n in used else UNUSED for n, one in enumerate(kept.get("accessors", []))]
    check_count("vertex", sum(_count(one) for one in accessors if one.get("type") == "VEC3"))
    check_count("face", sum(_count(one) // 3 for one in accessors if one.get("type") == "SCALAR"))
    _check_shown(kept, [sum(_faces(part, accessors) for part in mesh["primitives"]) for mesh in meshes])
    return kept | {"meshes": meshes, "accessors": accessors}


def _count(accessor: dict[str, Any]) -> int:
    if accessor.get("type") not in ("SCALAR", "VEC3") or not isinstance(count := accessor["count"], int) or count < 0:
        raise ValueError(f"an accessor of {str(accessor)[:80]}; expected positions and indices")
    return count


def _faces(part: dict[str, Any], accessors: list[dict[str, Any]]) -> int:
    points = _count(accessors[part["attributes"]["POSITION"]])
    count = _count(accessors[part["indices"]]) if "indices" in part else points
    return count if part.get("mode", TRIANGLES) in STRIPS else count // 3


def _check_shown(tree: dict[str, Any], faces: list[int]) -> None:
    """Check the faces of all nodes, which are a tree: none is the child of two others."""
    nodes = tree.get("nodes", [])
    children = [child for node in nodes for child in node.get("children", [])]
    if len(set(children)) < len(children):
        raise ValueError("a node is the child of two others")
    check_count("face", sum(faces[node["mesh"]] for node in nodes if "mesh" in node))
