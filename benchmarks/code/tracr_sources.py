"""How long the public RASP sources of the tracr networks are, counted from the sources (never copied).

Of tracr (`tracr/compiler/lib.py`, commit 9ce2b8c, Apache-2.0) and InterpBench (`benchmark/cases`, MIT), by building the
programs and walking their graphs: every selection, aggregation, width and map counts one, each node once, `tokens` and
`indices` nothing; a map or a selection by a function counts the operators, comparisons, calls, branches and subscripts
of that function instead, at least one (those of helpers that it calls are not counted, so that the count is a low one).
"""

SOURCES = {
    "ib_case_002": 6, "ib_case_003": 3, "ib_case_004": 7, "ib_case_006": 7, "ib_case_007": 2, "ib_case_008": 1,
    "ib_case_009": 5, "ib_case_010": 8, "ib_case_011": 3, "ib_case_012": 9, "ib_case_013": 6, "ib_case_014": 2,
    "ib_case_015": 5, "ib_case_018": 10, "ib_case_019": 4, "ib_case_020": 1, "ib_case_021": 13, "ib_case_022": 6,
    "ib_case_023": 3, "ib_case_024": 2, "ib_case_025": 7, "ib_case_026": 2, "ib_case_028": 3, "ib_case_029": 4,
    "ib_case_030": 1, "ib_case_031": 1, "ib_case_032": 3, "ib_case_033": 3, "ib_case_034": 9, "ib_case_035": 7,
    "ib_case_036": 1, "ib_case_037": 1, "ib_case_038": 7, "ib_case_039": 3, "ib_case_040": 3, "ib_case_041": 3,
    "ib_case_042": 3, "ib_case_043": 1, "ib_case_044": 2, "ib_case_045": 7, "ib_case_046": 1, "ib_case_047": 2,
    "ib_case_048": 1, "ib_case_049": 2, "ib_case_050": 1, "ib_case_051": 1, "ib_case_052": 1, "ib_case_053": 2,
    "ib_case_054": 1, "ib_case_055": 1, "ib_case_056": 2, "ib_case_057": 3, "ib_case_058": 9, "ib_case_059": 6,
    "ib_case_060": 1, "ib_case_061": 3, "ib_case_062": 1, "ib_case_063": 2, "ib_case_064": 1, "ib_case_065": 8,
    "ib_case_066": 1, "ib_case_067": 3, "ib_case_068": 4, "ib_case_069": 4, "ib_case_070": 1, "ib_case_071": 5,
    "ib_case_072": 1, "ib_case_073": 1, "ib_case_074": 13, "ib_case_075": 1, "ib_case_076": 3, "ib_case_077": 1,
    "ib_case_078": 2, "ib_case_079": 1, "ib_case_080": 1, "ib_case_081": 16, "ib_case_082": 6, "ib_case_083": 1,
    "ib_case_084": 1, "ib_case_085": 1, "ib_case_086": 1, "ib_case_087": 1, "ib_case_088": 11, "ib_case_090": 1,
    "ib_case_091": 1, "ib_case_092": 9, "ib_case_093": 18, "ib_case_095": 19, "ib_case_096": 9, "ib_case_097": 11,
    "ib_case_098": 8, "ib_case_099": 12, "ib_case_100": 3, "ib_case_101": 5, "ib_case_102": 1, "ib_case_103": 15,
    "ib_case_104": 1, "ib_case_105": 3, "ib_case_106": 1, "ib_case_107": 1, "ib_case_110": 7, "ib_case_111": 7,
    "ib_case_112": 10, "ib_case_113": 23, "ib_case_114": 1, "ib_case_115": 10, "ib_case_116": 8, "ib_case_117": 9,
    "ib_case_118": 6, "ib_case_119": 18, "ib_case_120": 23, "ib_case_121": 1, "ib_case_122": 1, "ib_case_123": 1,
    "ib_case_126": 17, "ib_case_127": 15, "ib_case_128": 5, "ib_case_130": 4, "ib_case_131": 4, "lib_count_a": 2,
    "lib_detect_abc": 9, "lib_frac_prevs": 3, "lib_hist": 2, "lib_length": 2, "lib_pair_balance": 7, "lib_reverse": 6,
    "lib_shift_by1": 2, "lib_shuffle_dyck1": 18, "lib_shuffle_dyck2": 30, "lib_sort": 5, "lib_sort_freq": 8,
    "lib_sort_unique": 4,
}  # fmt: skip
"""Operations by the name of the network."""
