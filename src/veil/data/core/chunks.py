"""Chunks: ranges of rows, any of which can be read on its own."""

CHUNK = 1 << 18  # numbers in a chunk, where the source can choose
FEW = 64  # chunks that data too small for many such are divided into, to be shuffled and shared


def chunk_rows(count: int, width: int) -> int:
    """How many of `count` rows of `width` numbers go into a chunk."""
    return max(1, min(CHUNK // max(1, width), -(-count // FEW)))


def ranges(count: int, rows: int) -> list[tuple[int, int]]:
    """Consecutive ranges of `rows` rows each, but the last."""
    return [(start, min(start + rows, count)) for start in range(0, count, rows)]
