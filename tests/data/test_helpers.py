"""Small functions inside `veil.data`, by example.

>>> from veil.data.core.arrays import shape_text
>>> shape_text(np.zeros((5, 2))), shape_text({"arm": {"left": np.zeros((5, 2))}})
('[2]', '{arm.left [2]}')
>>> from veil.data.core.arrays import concatenate
>>> len(concatenate([Data([1.0]), Data([2.0])]))
2
>>> from veil.data.core.arrays import block
>>> block({"query": np.zeros(2), "weight": np.zeros(2)}, ((), (), "zeros"), 0)
Data('zeros': N=2, query (y0), total weight 0)
>>> from veil.data.core.arrays import unchecked
>>> unchecked({"query": np.zeros((2, 1))}, (("y0",), (), "zeros"))
Data('zeros': N=2, query (y0))
>>> from veil.data.core.arrays import labels
>>> labels(Data([1.0]))
(('y0',), (), 'data')
>>> from veil.data.core.checks import check_rows
>>> check_rows(8)
8
>>> from veil.data.core.checks import every_mask
>>> every_mask({"a": np.zeros((1, 2))}, None)
{'a': array([[ True,  True]])}
>>> from veil.data.core.checks import flat_names
>>> flat_names({"a": np.zeros((5, 3, 2)), "b": np.zeros((5, 3, 1))}, "y", sequences=True)
('a0', 'a1', 'b')
>>> from veil.data.core.checks import default_names
>>> default_names({"a": np.zeros((5, 2)), "b": {"c": np.zeros((5, 8, 8))}}, "y", sequences=False)
{'a': ('a0', 'a1'), 'b': {'c': ('b.c',)}}
>>> from veil.data.core.checks import sequence_shape
>>> sequence_shape({"a": np.zeros((3, 4, 1)), "b": np.zeros((3, 4, 5, 5))}), sequence_shape(np.zeros((3, 4)))
((3, 4), None)
>>> from veil.data.core.chunks import ranges
>>> ranges(5, 2)
[(0, 2), (2, 4), (4, 5)]
>>> from veil.data.core.chunks import chunk_rows
>>> chunk_rows(2_000_000, 20), chunk_rows(100, 20), chunk_rows(10, 1 << 20)
(13107, 2, 1)
>>> from veil.data.core.columns import select
>>> select({"query": np.array([[1.0, 2.0]])}, (("a", "b"), (), "pair"), "b", "a")
({'query': array([[2.]]), 'evidence': array([[1.]])}, (('b',), ('a',), 'pair'))
>>> from veil.data.core.columns import check_columns
>>> check_columns({"query": np.zeros((3, 1))}, (("a",), (), "zeros"))
>>> from veil.data.core.columns import check_roles
>>> check_roles(("a", "b"), [0], [1])
>>> from veil.data.core.columns import suggestion
>>> suggestion("waitin", ["eruptions", "waiting"])
"did you mean 'waiting'? Available: eruptions, waiting"
>>> from veil.data.core.checks import flat
>>> flat({"pair": [1, 0], "one": [2]}), flat(None)
((1, 0, 2), ())
>>> from veil.data.core.columns import resolve_tree
>>> resolve_tree(("a", "b", "c"), {"pair": ["b", 0], "one": "c"}, "query")
{'pair': [1, 0], 'one': [2]}
>>> from veil.data.core.columns import resolve
>>> resolve(("a", "b"), ["b", 0], "query")
[1, 0]
>>> from veil.data.core.episodes import moments
>>> moments(np.array(["2026-01-02T00:30+02:00", "2026-01-01T23:00Z"])).tolist()[0].hour, moments(np.array(["10", "9"]))
(0, array([10,  9]))
>>> from veil.data.core.episodes import shape_of
>>> shape_of(episodes([[1.0, 2.0, 3.0], [4.0]]))
(2, 3)
>>> from veil.data.core.episodes import ragged
>>> ragged([2, 1], np.array([[1.0], [2.0], [3.0]]))
Data('episodes': N=2, query [2, 1], 3 steps)
>>> from veil.data.core.episodes import ordered
>>> ordered(["a", "b", "a"], [2, 1, 1], 3)
(array([2, 0, 1]), array([2, 1]))
>>> from veil.data.core.numbers import first_not_finite
>>> first_not_finite(np.array([[1.0, 2.0], [np.inf, 0.0]]))
(1, 0)
>>> from veil.data.core.numbers import float_type
>>> float_type(np.dtype(np.uint8), "query"), float_type(np.dtype(np.int32), "query")
(dtype('float32'), dtype('float64'))
>>> from veil.data.core.numbers import numbers
>>> numbers([1, 2], "query")
(array([[1.],
       [2.]]), ())
>>> from veil.data.core.numbers import unique
>>> unique(("a", "b"), "table.csv")
('a', 'b')
>>> from veil.data.core.numbers import row_index
>>> row_index(("", "a", "")), row_index(("Unnamed: 0.1", "Unnamed: 0", "a")), row_index(("a", "__index_level_0__"))
((0,), (0, 1), (1,))
>>> from veil.data.core.packages import needed
>>> needed("lines need json", "tables", "json").__name__
'json'
>>> from veil.data.core.records import Ledger
>>> ledger = Ledger()
>>> ledger.enter(0, 2, ["a.npy, row 3: infinite", "a.npy, row 7: infinite"])
>>> ledger.enter(0, 2, ["a.npy, row 3: infinite", "a.npy, row 7: infinite"])
>>> ledger.report().count
2
>>> from veil.data.core.trees import aligned
>>> aligned({"a": 1}, {"a": 2, "b": {"c": 3}}, "observed", "query")
{'a': 1, 'b': None}
>>> from veil.data.core.trees import check
>>> check({"frame": 1, "arm": {"left": 2}}, "query")
>>> from veil.data.core.trees import text
>>> text("query", ("arm", "left")), text("query", ())
("query['arm']['left']", 'query')
>>> from veil.data.core.trees import same
>>> same({"a": 1, "b": 2}, {"b": 3, "a": 4}), same({"a": 1}, 1)
(True, False)
>>> from veil.data.core.trees import nested
>>> nested({("a",): 1, ("b", "c"): 2})
{'a': 1, 'b': {'c': 2}}
>>> from veil.data.core.trees import paths
>>> paths({"a": 1, "b": {"c": 2}})
{'a': ('a',), 'b': {'c': ('b', 'c')}}
>>> from veil.data.core.trees import map
>>> map(lambda one, other: (one, other), {"a": 1, "b": {"c": 2}}, {"b": {"c": 3}, "a": 4})
{'a': (1, 4), 'b': {'c': (2, 3)}}
>>> map(lambda one, other: (one, other), {"a": 1}, None)
{'a': (1, None)}
>>> from veil.data.core.trees import first
>>> first({"frame": 1, "arm": {"left": 2}})
1
>>> from veil.data.core.trees import leaves
>>> leaves({"frame": 1, "arm": {"left": 2}}), leaves(3), leaves(None)
([(('frame',), 1), (('arm', 'left'), 2)], [((), 3)], [])
>>> from veil.data.formats.idx import find_images
>>> find_images([], "train") is None
True
>>> from veil.data.formats.paths import is_pattern
>>> is_pattern(Path("shards/*.npy"))
True
>>> from veil.data.formats.paths import find
>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     for name in ("b.npy", "a.npy", "notes.txt"):
...         _ = Path(folder, name).write_text("")
...     [file.name for file in find(folder).files]
['a.npy', 'b.npy']
>>> from veil.data.formats.paths import called
>>> called(Path("shards/a.b.csv.gz"))
'a.b'
>>> from veil.data.formats.paths import ending
>>> ending(Path("a.b.CSV.gz")), ending(Path("a.b.npy"))
('.csv.gz', '.npy')
>>> from veil.data.formats.shuffling import without_needless_mask
>>> without_needless_mask(Data([1.0, 2.0])).observed is None
True
"""

from pathlib import Path  # noqa: F401 (the examples use these)

import numpy as np  # noqa: F401

from veil.data import Data, DataWarning, episodes  # noqa: F401
