"""PLY clouds round-trip, agree with trimesh, and damaged ones say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from dyngs_plugins.priors.ply_files import read_ply, write_ply

XYZ = np.array([[0.5, -1.25, 3.0], [1e-3, 2.0, -7.5]])
RGB = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("rgb", [RGB, None])
def test_round_trip(tmp_path, ascii, rgb):
    path = tmp_path / "Wölke.ply"
    write_ply(path, XYZ, rgb, ascii)
    cloud = read_ply(path)
    np.testing.assert_array_equal(cloud.xyz, XYZ.astype(np.float32))
    if rgb is None:
        assert cloud.rgb is None
    else:
        np.testing.assert_array_equal(cloud.rgb, rgb)


def test_trimesh_reads_what_is_written(tmp_path):
    import trimesh

    write_ply(tmp_path / "a.ply", XYZ, RGB)
    cloud = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(cloud.vertices, XYZ, rtol=1e-6)
    np.testing.assert_array_equal(cloud.colors[:, :3], RGB)


def test_other_elements_and_properties_are_passed_over(tmp_path):
    path = tmp_path / "a.ply"
    header = (
        "ply\r\nformat binary_big_endian 1.0\ncomment element vertex 7\nelement camera 1\nproperty double f\n"
        "element vertex 2\nproperty float x\nproperty double nx\nproperty float y\nproperty float z\n"
        "property float red\nproperty float green\nproperty float blue\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    kinds = [("x", ">f4"), ("nx", ">f8"), *((n, ">f4") for n in ("y", "z", "red", "green", "blue"))]
    rows = np.zeros(2, kinds)
    for i, name in enumerate("xyz"):
        rows[name] = XYZ[:, i]
    rows["red"] = 0.5
    path.write_bytes(header.encode() + np.array([7.0], ">f8").tobytes() + rows.tobytes() + b"\3" + bytes(12))
    cloud = read_ply(path)
    np.testing.assert_array_equal(cloud.xyz, XYZ.astype(np.float32))
    np.testing.assert_array_equal(cloud.rgb, [[128, 0, 0], [128, 0, 0]])


ASCII = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no header from 'ply' to 'end_header'"),
        (b"not a cloud", "no header from 'ply' to 'end_header'"),
        (ASCII[:60].encode(), "no header from 'ply' to 'end_header'"),
        (f"{ASCII}0 0 0\n".encode(), "it ends after 1 of 2 rows of 'vertex'"),
        (f"{ASCII}0 0 0\n0 0\n".encode(), "row 1 of vertex is no 3 numbers"),
        (f"{ASCII}0 0 0\n0 0 x\n".encode(), "row 1 of vertex is no 3 numbers"),
        (ASCII.replace("ascii", "binary_little_endian").encode() + bytes(23), "it ends after 1 of 2 rows of 'vertex'"),
        (ASCII.replace("float z", "float w").encode() + b"0 0 0\n0 0 0\n", "without x, y and z"),
        (ASCII.replace("float z", "float y").encode() + b"0 0 0\n0 0 0\n", "has a property twice"),
        (ASCII.replace("float z", "half z").encode(), "its header has the line 'property half z'"),
        (ASCII.replace("vertex 2", "vertex -2").encode(), "its header has the line 'element vertex -2'"),
        (ASCII.replace("vertex", "point").encode() + b"0 0 0\n0 0 0\n", "it has no element 'vertex'"),
        (ASCII.replace("format ascii 1.0\n", "").encode(), "its header does not say its format"),
        (ASCII.replace("float z", "list uchar int z").encode(), "'vertex' has lists"),
    ],
)
def test_damaged_files(tmp_path, content, said):
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        read_ply(path)
    assert str(raised.value).startswith(f"{path}: cannot be read as a PLY file")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such PLY file"):
        read_ply(tmp_path / "a.ply")
