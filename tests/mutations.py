"""Ways to damage a directory of JSON and array files, at random: for tests of whatever reads one.

    mutate(folder, rng)      damages one file of the folder, and says how

Each mutation takes a file and a random generator and changes the file in place: those in ``ANY`` any file, ``in_json``
and ``in_arrays`` (safetensors) one that parses. ``seal`` makes the digest of a saved folder right again. ``limits``
bounds a reader's time and memory.
"""

import copy
import hashlib
import json
import resource
import shutil
import signal
import sys
from contextlib import contextmanager

import numpy as np

LONG = "x" * 5000
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**62, -(2**63), 10**30, 10**9, 0.5, -1e300, 1e308, "", "a", LONG),
    *("../../etc/passwd", "/dev/zero", "file:///etc/passwd", "__class__", "os.system", "builtins.eval", "\x00", "%s%n"),
    *("Fit", "MLP", "Exact", "VAE", "float64", "bfloat16"),
    *("<script>", "é\u2028", [], {}, [[]], [None], [1, 2, 3], [10**9, 10**9], [-1], [2**62], {"array": "model"}),
    *({"array": 3, "shape": [10**12], "dtype": "float32"}, {"class": "os.system", "fields": {}}, {"a": 1}),
]  # fmt: skip
RAW = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    "[" * 200_000,
    '{"a":1,"a":2}',
    "\ud800",
]
HOLE = "a hole for raw text"


# -- any file ----------------------------------------------------------------------------------------------------------


def flip_bytes(path, rng):
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, max(1, len(content)), rng.integers(1, 9)):
        if content:
            content[place] = rng.integers(0, 256)
    path.write_bytes(bytes(content))


def truncate(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(0, len(content) + 1)])


def splice(path, rng):
    """A piece of the file over another, or twice."""
    content = path.read_bytes()
    a, b, c = sorted(rng.integers(0, len(content) + 1, 3))
    path.write_bytes(content[:b] + content[a:c] + content[b:])


def remove(path, rng):
    path.unlink()


def become_directory(path, rng):
    path.unlink()
    path.mkdir()


def become_link(path, rng):
    """To a device that never ends, to nothing, to itself, or to another file of the folder."""
    others = [other for other in path.parent.rglob("*") if other.is_file() and other != path]
    target = rng.choice(["/dev/zero", "/dev/tty", path.name, "nowhere", *map(str, others)])
    path.unlink()
    path.symlink_to(target)


def become_other(path, rng):
    """Another file of the folder in its place."""
    others = [other for other in path.parent.rglob("*") if other.is_file() and other != path]
    if others:
        shutil.copyfile(others[rng.integers(len(others))], path)


# -- JSON --------------------------------------------------------------------------------------------------------------


def places(value, path=()):
    """Every place in a JSON value, as the keys that lead there."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def at(value, path):
    for name in path:
        value = value[name]
    return value


def put(value, path, new):
    if not path:
        return new
    at(value, path[:-1])[path[-1]] = new
    return value


def _pick(rng, values):
    return values[rng.integers(len(values))]


def swap_value(value, rng):
    return put(value, _pick(rng, list(places(value))), copy.deepcopy(_pick(rng, VALUES)))


def swap_parts(value, rng):
    """One part of the value in another's place."""
    found = list(places(value))
    return put(value, _pick(rng, found), copy.deepcopy(at(value, _pick(rng, found))))


def drop(value, rng):
    path = _pick(rng, list(places(value)))
    if path:
        del at(value, path[:-1])[path[-1]]
    return value


def add(value, rng):
    inside = [path for path in places(value) if isinstance(at(value, path), dict)]
    if inside:
        at(value, _pick(rng, inside))[_pick(rng, ["extra", "class", "array", "tuple", "shape", ""])] = _pick(
            rng, VALUES
        )
    return value


def change_number(value, rng):
    """A number to a near or far one: the sizes that almost fit."""
    numbers = [path for path in places(value) if type(at(value, path)) in (int, float)]
    if not numbers:
        return value
    path = _pick(rng, numbers)
    old = at(value, path)
    new = [old + 1, old - 1, -old, old * 2, 0, old * 10**6, old * 10**15, old + 0.5, str(old), [old], 65536, 60000]
    return put(value, path, _pick(rng, new))


def raw_value(value, rng):
    return put(value, _pick(rng, list(places(value))), HOLE)


IN_JSON = (swap_value, swap_value, swap_parts, drop, add, change_number, change_number, raw_value)


def in_json(path, rng):
    """One to three changes of what a JSON file says (of one line of JSON lines)."""
    lines = [path.read_text("utf-8")]
    if path.suffix == ".jsonl":
        lines = lines[0].splitlines()
    which = rng.integers(len(lines))
    value = json.loads(lines[which])
    for _ in range(rng.integers(1, 4)):
        value = _pick(rng, IN_JSON)(value, rng)
    text = json.dumps(value)
    if HOLE in text:
        text = text.replace(json.dumps(HOLE), _pick(rng, RAW))
    lines[which] = text
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


# -- safetensors -------------------------------------------------------------------------------------------------------


def in_arrays(path, rng):
    """Header and data that do not fit, or other arrays that do."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    kind = rng.integers(6)
    if kind == 0:  # an enormous header, announced
        path.write_bytes(
            int(_pick(rng, [2**63, 2**40, 2**64 - 1, 99_000_000, size + 1])).to_bytes(8, "little") + content[8:]
        )
        return
    if kind in (1, 2):
        text = json.dumps(_pick(rng, IN_JSON)(header, rng)).encode()
    elif kind == 3 and header:  # other numbers, of the right sizes
        data = bytes(rng.integers(0, 256, len(data), dtype=np.uint8))
        text = json.dumps(header).encode()
    elif kind == 4 and header:  # another type, of the right size
        name = _pick(rng, list(header))
        header[name]["dtype"] = _pick(rng, ["I32", "U32", "F16", "BF16", "F8_E4M3", "F64", "BOOL", "C64", "X"])
        text = json.dumps(header).encode()
    else:  # one array more, or one renamed
        name = _pick(rng, list(header))
        header["other"] = header.pop(name)
        text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


# -- all together ------------------------------------------------------------------------------------------------------

ANY = (flip_bytes, flip_bytes, truncate, splice, remove, become_directory, become_link, become_other)


def mutate(folder, rng):
    """Damage one file below the folder; returns what was done to which."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing left"
    path = _pick(rng, files)
    fitting = {".json": in_json, ".jsonl": in_json, ".safetensors": in_arrays}.get(path.suffix)
    kind = fitting if fitting is not None and rng.random() < 0.6 else _pick(rng, ANY)
    try:
        kind(path, rng)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        kind = truncate  # a file that an earlier mutation left unreadable
        kind(path, rng)
    return f"{kind.__name__} {path.relative_to(folder)}"


def seal(folder):
    """Give a folder that ``veil.save`` wrote the digest of its files as they are, as whoever alters them would."""
    structure, (arrays,) = folder / "model.json", folder.glob("parameters-*.safetensors")
    if not (structure.is_file() and arrays.is_file()):  # a mutation may have made a device of it
        raise FileNotFoundError(folder)
    text = structure.read_bytes()
    before = str(json.loads(text)["sha256"]).encode()
    blank = text.replace(before, b"0" * 64, 1)
    digest = hashlib.sha256(blank + arrays.read_bytes()).hexdigest()
    structure.write_bytes(blank.replace(b"0" * 64, digest.encode(), 1))
    arrays.rename(folder / f"parameters-{digest[:16]}.safetensors")


@contextmanager
def limits(seconds, growth):
    """Raise TimeoutError after so many seconds, MemoryError if the process came to need more by ``growth`` bytes."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    def most():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    old, before = signal.signal(signal.SIGALRM, stop), most()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    if most() - before > growth:
        raise MemoryError(f"{most() - before} bytes more")
