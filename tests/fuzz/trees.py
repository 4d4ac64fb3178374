"""Folders of pictures with odd names, formats, links and damage, each from a description."""

import io
import os
import shutil
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from PIL import Image

FORMATS = {
    "PNG": (("png", "PNG", "apng", ""), ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    "JPEG": (("jpg", "JPEG", "jfif", "JPE", "", "wrong"), ("L", "RGB", "CMYK")),
    "BMP": (("bmp", "dib", ""), ("1", "L", "P", "RGB", "RGBA")),
    "GIF": (("gif", "GIF", ""), ("1", "L", "P", "RGB")),
    "WEBP": (("webp", ""), ("RGB", "RGBA")),
    "TIFF": (("tif", "TIFF", ""), ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F")),
    "PPM": (("ppm", "pnm", "pgm", ""), ("1", "L", "RGB", "I;16")),
    "TGA": (("tga",), ("L", "LA", "P", "RGB", "RGBA")),
    "ICO": (("ico", ""), ("RGBA",)),
    "MPO": (("mpo", "jpg", ""), ("RGB",)),
    "QOI": (("qoi", ""), ("RGB", "RGBA")),
    "PCX": (("pcx",), ("1", "L", "P", "RGB")),
    "JPEG2000": (("jp2", ""), ("L", "RGB")),
    "AVIF": (("avif", ""), ("RGB",)),
}
"""Endings and modes of pictures by Pillow's name of the format."""

LOSSLESS = ("PNG", "BMP", "PPM", "TGA", "QOI")


@dataclass(frozen=True)
class Picture:
    """A file with a picture in it, whole or not."""

    kind: str
    mode: str
    size: tuple[int, int]
    seed: int
    harm: str = "none"
    place: float = 0.0

    def content(self):
        """The bytes of the file."""
        return harmed(painted(self.kind, self.mode, self.size, self.seed), self.harm, self.place)


def painted(kind, mode, size, seed):
    """An image of random pixels as a file."""
    width, height = size
    random = np.random.default_rng(seed)
    if mode == "I;16":
        picture = Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    elif mode == "F":
        picture = Image.fromarray(random.random((height, width), dtype=np.float32))
    else:
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        picture = picture.convert("RGB").convert(mode) if mode not in ("LAB",) else Image.merge("LAB", picture.split())
        if mode in ("RGBA", "LA"):
            alpha = random.integers(0, 256, (height, width), dtype=np.uint8)
            picture.putalpha(Image.fromarray(alpha))
    file = io.BytesIO()
    more = {"sizes": [size]} if kind == "ICO" else {}
    if kind == "PNG" and mode == "P" and seed % 2:
        more["transparency"] = bytes(random.integers(0, 256, 5, dtype=np.uint8))
    if kind in ("MPO", "GIF") and seed % 2:
        more |= {"save_all": True, "append_images": [picture.copy()]}
    picture.save(file, kind, **more)
    return file.getvalue()


def harmed(content, harm, place):
    """The bytes after something happened to them, at a place in [0, 1) of the file."""
    at = int(place * len(content))
    if harm == "cut":
        return content[:at]
    if harm == "flipped":
        return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
    if harm == "zeros":
        return content[:at] + bytes(min(8, len(content) - at)) + content[at + 8 :]
    if harm == "page":
        return b"<!DOCTYPE html><html>404</html>"
    if harm == "empty":
        return b""
    return content


@dataclass(frozen=True)
class Node:
    """Something below the root: a picture, bytes, or a link to `target` seen from the root."""

    path: str
    picture: Picture | None = None
    content: bytes | None = None
    target: str | None = None


@dataclass(frozen=True)
class Tree:
    """A dataset's folder."""

    classes: tuple[str, ...]
    nodes: tuple[Node, ...]


STEMS = st.one_of(
    st.sampled_from(
        ["0", "a b", "ü", "日本", "a\nb", "\u2028", "x.y", "-", "~", "#", "'", '"', "\x1b[31m", "%s", "{}", "$x"]
    ),
    st.binary(min_size=1, max_size=6).map(os.fsdecode),
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=6),
)
FOLDERS = st.sampled_from(["", "", "", "more", "more/still more", "dir.png", "ä\n"])
HARMS = st.sampled_from(["none"] * 12 + ["cut", "flipped", "zeros", "page", "empty"])


def _legal(name):
    return "/" not in name and "\0" not in name and name not in (".", "..") and len(os.fsencode(name)) < 200


@st.composite
def pictures(draw, harms=HARMS):
    """A picture and an ending for its name."""
    kind = draw(st.sampled_from(sorted(FORMATS)))
    endings, modes = FORMATS[kind]
    size = draw(st.sampled_from([(16, 16), (16, 16), (18, 18), (1, 1), (40, 17), (3, 60), (16, 33)]))
    picture = Picture(kind, draw(st.sampled_from(modes)), size, draw(st.integers(0, 99)), draw(harms), draw(_SHARES))
    return picture, draw(st.sampled_from(endings))


_SHARES = st.floats(0, 1, exclude_max=True)


@st.composite
def trees(draw, harms=HARMS):
    """Two or three classes, each with a whole picture in train and test, and whatever else lies about."""
    count = draw(st.integers(2, 3))
    names = draw(
        st.lists(STEMS.filter(_legal).filter(lambda name: name[0] != "."), min_size=count, max_size=count, unique=True)
    )
    classes = tuple(sorted(names))
    nodes = {}
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            for copy in range(2 if split == "train" else 1):
                path = f"{split}/{name}/first{copy}.png"
                nodes[path] = Node(path, Picture("PNG", "RGB", (16, 16), 100 + 10 * number + copy))
    for _ in range(draw(st.integers(0, 6))):
        node = draw(_nodes(classes, sorted(nodes), harms))
        inside = [path for path in nodes if path.startswith(f"{node.path}/") or node.path.startswith(f"{path}/")]
        if node.path not in nodes and not inside:
            nodes[node.path] = node
    return Tree(classes, tuple(nodes.values()))


@st.composite
def _nodes(draw, classes, there, harms):
    place = f"{draw(st.sampled_from(['train', 'test']))}/{draw(st.sampled_from(classes))}"
    place = "/".join(part for part in (place, draw(FOLDERS)) if part)
    what = draw(st.sampled_from(["picture"] * 6 + ["bytes", "link"]))
    stem = draw(STEMS.filter(_legal))
    if what == "picture":
        picture, ending = draw(pictures(harms))
        return Node(f"{place}/{stem}.{ending}" if ending else f"{place}/{stem}", picture)
    if what == "bytes":
        ending = draw(
            st.sampled_from(["txt", "db", "", "é\xff", "png"] if harms is HARMS else ["txt", "db", "", "é\xff"])
        )
        return Node(
            f"{place}/{stem}.{ending}", content=draw(st.sampled_from([b"", b"text", b"P6 nothing", bytes(600)]))
        )
    targets = [*there, f"test/{classes[0]}", "train", "outside", f"{place}/{stem}.link", f"{place}/{stem}"]
    targets += ["nowhere"] if harms is HARMS else []
    ending = draw(st.sampled_from(["", ".link", ".png"]))
    return Node(f"{place}/{stem}{ending}", target=draw(st.sampled_from(targets)))


def build(tree, root, backwards=False):
    """Make the folder; the order in which files are made says nothing about them."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "outside").mkdir(parents=True)
    (root / "outside" / "far.png").write_bytes(painted("PNG", "RGB", (16, 16), 7))
    for node in tree.nodes[:: -1 if backwards else 1]:
        file = root / node.path
        file.parent.mkdir(parents=True, exist_ok=True)
        if node.target is not None:
            file.symlink_to(os.path.relpath(root / node.target, file.parent))
        else:
            file.write_bytes(node.picture.content() if node.picture else node.content)
    return root


def files_in(folder, above=()):
    """Every path of a file below a folder, as another walk finds them: hidden things left out, no circles."""
    above = above or (folder, *folder.parents)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not any(path.samefile(one) for one in above):
                yield from files_in(path, (*above, path))
        elif path.is_file() or path.is_symlink():
            yield path
