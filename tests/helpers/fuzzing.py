"""Requests that people could type, right and wrong, drawn from a seed over the schema of the shipped configs.

A request is the words after `cnnexp train`, and the files of a --config-dir that it names. `case(n)` is a pure function
of n, so a number in a failed test's message is all that is needed to see it again.
"""

import random
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GROUPS = ("data", "model", "augmentation", "optimizer", "scheduler", "device")
PLUS = ("study", "preset", "pretrain")


@dataclass
class Case:
    """words: what is typed. files: of the folder {DIR}, by path. blame: an error names one of these; () if it may
    name any key. apart: it stands there as a key of its own, not as a part of another. valid: nothing is wrong."""

    words: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    blame: tuple[str, ...] = ()
    apart: bool = False
    valid: bool = False


def leaves(node: object, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield ("optimizer.lr", 0.001), ... of a config."""
    yield prefix, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


def read(file: Path) -> dict[str, object]:
    return {k: v for k, v in yaml.safe_load(file.read_text()).items() if k not in ("defaults", "hydra")}


CHOICES = {group: sorted(f.stem for f in (CONFIGS / group).glob("*.yaml")) for group in (*GROUPS, *PLUS)}
TOP = [pair for pair in leaves(read(CONFIGS / "train.yaml"), "") if pair[0]]
OF_CHOICE = {
    (group, choice): list(leaves(content.get(group, content), group))  # a data set's file may set more than the data
    for group in GROUPS
    for choice in CHOICES[group]
    if (content := read(CONFIGS / group / f"{choice}.yaml")) is not None
}

# Texts that suit no setting, or few: an error must name the setting that they were given to.
WRONG = [
    *("abc", "''", '""', "null", "true", "[]", "{}", "{a:1}", "[1,[2,{b:c}]]", "{1:2}", "{null:1}", "{true:[]}"),
    *("nan", "inf", "-inf", "-1", "-0.0", "0", "1e999", "1e-999", "9" * 30, "9" * 400, "9" * 5000, "-" + "9" * 400),
    *("0x1F", "1_000", ".5", "5.", "1e400", "-9223372036854775809", "18446744073709551616", "4294967296", "é", "日本"),
    *("🙂", "'\u202eabc'", "'a b'", "a b", "'a\tb'", "'a\nb'", "'\x1b[31mred'", "\x07", "'\udcff'", "\udcff", "???"),
    *("'???'", "12ep", "0st", "-3ep", "99999999999999ep", "1.5ep", "auto", "none", "'null'", "'1'", "1" + "0" * 18),
    *("[" * 60 + "]" * 60, "{a:" * 40 + "1" + "}" * 40, "x" * 3000, "[" + "1," * 300 + "1]", "cuda:99", "cuda:x"),
    *("cpu:0", "cuda:-1", "cpu:99999999999", "cuda:0*99999999999", "../../etc", "/dev/null", "~", "-", "int(3)"),
    *("float(abc)", "str(3)", "bool(maybe)", "json_str('{')", "int(1e400)", "cast(1)", "nofunction(1)"),
]
# Interpolations, syntax that Hydra cannot read, and sweeps where there is none: what is told names the word or its key.
BROKEN = [
    *("${seed}", "${nowhere}", "${nowhere.at.all}", "${oc.env:CNNEXP_NOT_SET}", "${", "${}", "${${seed}}", "${.}"),
    *("${..}", "${.x}", "${data}", "${optimizer.lr}", "${model}", "${hydra:runtime.cwd}", "${hydra:nowhere}"),
    *("${oc.decode:'['}", "${oc.select:nowhere}", "${oc.dict.keys:seed}", "${no.resolver:1}", "${oc.create:{a:1}}"),
    *("\\${seed}", "$", "${a", "'unclosed", '"unclosed', "(", ")", "[1,2", "1,2]", "{a:", "{a}", "a=b", "=", "\\"),
    *("\\'", "'\\'", ",", ",,", "1,", ",1", "1,2", "1,abc", "choice(1,2)", "range(0,3)", "range(0,1000000000)"),
    *("range(3,0)", "interval(0,1)", "glob(*)", "tag(a,1)", "sort(3,1,2)", "shuffle(1,2)", "shuffle(range(0,3))"),
    *("sort(a,1)", "range(1,2,0)", "range(1,nan)", "choice()", "  ", "@", "[" * 900, "[" * 250 + "]" * 250),
    *("{a:" * 200 + "1" + "}" * 200, "${" * 500, "a:b:c", "%", "#x", "a #b", "!!python/x", "|"),
]
BAD_KEYS = [
    *("{k}.x", "{k}x", "x{k}", "{k}..x", ".{k}", "{k}.", "{k}.0", "{k}[0]", "{k}@x", "{k}@", "{k}@a:b", "@{k}"),
    *("{k}.x.y.z", "{k}/x", "/{k}", "{k} ", " {k}", "{K}", "é{k}", "{k}🙂", "{k}\t", "{k}\n", "{k}\x1b[31m", "{k}-"),
    *("-{k}", "{k}'", "${k}", "{k}" + "y" * 3000, "{k}" + ".z" * 300, "\udcff{k}", "{k}:", "{k}:pkg", "{k}%"),
    *("{k}.-1", "{k}.99", "{k}._target_"),
]
WORDS = [
    *("foo", "", " ", "=", "=1", "+=1", "~", "~=", "+", "++", "++=", "+foo", "++foo=1", "+~foo=1", "~~foo", "~foo"),
    *("~seed", "~data", "~model", "~optimizer", "~device", "~nowhere", "~data=postcards", "~data=textures", "--", "-"),
    *("---", "-x", "--seed=1", "--multirun=1", "hydra.run.dir=/tmp/\0x", "hydra/launcher=basic"),
    *("hydra/launcher=nowhere", "hydra/sweeper=basic", "hydra=1", "hydra.nowhere=1", "hydra/job_logging=nowhere"),
    *("hydra.job.chdir=true", "hydra.mode=MULTIRUN", "hydra.searchpath=[nowhere]", "hydra.searchpath=1"),
    *("hydra.searchpath=[file:///nowhere]", "hydra.sweeper.params.seed='1,2'", "hydra.sweeper.params=1"),
    *("+hydra.sweeper.params.seed=x", "hydra.launcher.plan=maybe", "hydra.launcher.budget=-1"),
    *("hydra.launcher._target_=os.system", "hydra.verbose=true", "hydra.x.y=1", "--config-dir", "--config-dir="),
    *("--config-dir=/nowhere", "--config-name=nowhere", "--config-path=/nowhere", "--budget", "--budget="),
    *("--budget=0", "--budget=1e9", "--budget=-3", "--budget=99999999999999999999h", "--budget=٣", "--budget=nan"),
    *("--plan=1", "--cfg", "--cfg=nowhere", "--cfg=all", "--cfg=hydra", "-c", "--info", "--info=nowhere"),
    *("--package=nowhere", "--resolve", "-m", "-mm", "--run", "--hydra-help", "data=postcards=1", "data@x=postcards"),
    *("data@data=postcards", "data:x=postcards", "data@:x=postcards", "defaults=[]", "+defaults=[]", "_target_=x"),
    *("+x={_target_: os.system}", "+data={a:1}", "++data=1", "++model=null", "model={}"),
    *("model={_target_: builtins.exec}", "++optimizer={}", "data=null", "data=", "model=[custom]"),
    *("data=[postcards,textures]", "preset=x", "+preset=[small,x]", "+aug=full,flip", "+arm=[baseline,dropout]"),
    *("+arm=../arm/dropout", "+arm=/etc/passwd", "model=../data/postcards", "model=", "model='custom'"),
    *("model=custom.yaml", "model=CUSTOM", "model=${seed}", "+study=${nowhere}", "+study=", "+study"),
    *("study=ablation",),
]
TARGETS = [
    *("nowhere.Net", "nowhere", "", "os.system", "builtins.exec", "builtins.int", "os.path.sep", "..", ".a", "a."),
    *("a..b", "null", "3", "[]", "{}", "true", "torch.nn.Linear", "cnnexp.data.sources.postcards", "cnnexp.nowhere.x"),
    *("cnnexp.data.sources.nowhere", "os..path", "é.ü", "'a b.c'", "'a\nb.c'", "builtins.print", "torch.optim.SGD"),
    *("torchvision.models.resnet18", "cnnexp.errors.UserError", "x" * 500 + ".y", "builtins.dict"),
    *("collections.OrderedDict", "collections.abc.Callable", "typing.Any", "math.sqrt", "functools.partial"),
    *("builtins.type",),
]
FILES = {
    "not yaml": b"a: [1, 2\nb: }",
    "a tab": b"optimizer:\n\tlr: 1\n",
    "an anchor": b"# @package _global_\nx: &x {lr: 0.1}\noptimizer: *x\n",
    "an unknown alias": b"optimizer: *nowhere\n",
    "a cycle": b"# @package _global_\noptimizer: &x\n  lr: *x\n",
    "a merge": b"# @package _global_\nbase: &b {seed: 1}\nstudy:\n  <<: *b\n",
    "a merge of a list": b"study:\n  <<: [1, 2]\n",
    "a list": b"- 1\n- 2\n",
    "a text": b"hello\n",
    "a number": b"3\n",
    "nothing": b"",
    "a null": b"null\n",
    "two documents": b"seed: 1\n---\nseed: 2\n",
    "a huge number": b"# @package _global_\nseed: " + b"9" * 5000 + b"\n",
    "a huge exponent": b"# @package _global_\noptimizer: {lr: 1e99999}\n",
    "a duplicated key": b"# @package _global_\nseed: 1\nseed: 2\n",
    "bytes": b"\xff\xfe\x00seed: 1\n",
    "not utf-8": "# @package _global_\nstudy: {name: é}\n".encode("latin-1"),
    "control characters": b'# @package _global_\nstudy: {name: "a\\x1b[31m\\x07"}\n',
    "raw control characters": b"# @package _global_\nstudy: {name: a\x1b[31m}\n",
    "a nul": b"# @package _global_\nstudy: {name: a\x00b}\n",
    "an unknown key": b"# @package _global_\nnowhere: 1\n",
    "a deep unknown key": b"# @package _global_\noptimizer: {lrr: 1}\n",
    "a wrong type": b"# @package _global_\noptimizer: {lr: [1]}\n",
    "a list for a mapping": b"# @package _global_\noptimizer: [1]\n",
    "a number for a mapping": b"# @package _global_\nstudy: 3\n",
    "null for a mapping": b"# @package _global_\ndevice: null\n",
    "wrong defaults": b"# @package _global_\ndefaults: 3\n",
    "unknown defaults": b"# @package _global_\ndefaults: [nowhere]\n",
    "defaults of itself": b"# @package _global_\ndefaults: [mine]\n",
    "a wrong override in defaults": b"# @package _global_\ndefaults: [{override /nowhere: x}]\n",
    "an unknown choice in defaults": b"# @package _global_\ndefaults: [{override /model: custm}]\n",
    "nested defaults": b"# @package _global_\ndefaults: [[1, [2]]]\n",
    "defaults of mappings": b"# @package _global_\ndefaults: [{a: {b: c}}]\n",
    "a broken interpolation": b"# @package _global_\noptimizer: {lr: '${nowhere}'}\n",
    "an interpolation of itself": b"# @package _global_\noptimizer: {lr: '${optimizer.lr}'}\n",
    "unclosed interpolation": b"# @package _global_\noptimizer: {lr: '${'}\n",
    "a python object": b"# @package _global_\nseed: !!python/object/apply:os.system ['true']\n",
    "an unknown tag": b"# @package _global_\nseed: !nowhere 3\n",
    "a date": b"# @package _global_\nseed: 2020-01-01\n",
    "a set": b"# @package _global_\nseed: !!set {a, b}\n",
    "binary": b"# @package _global_\nseed: !!binary aGVsbG8=\n",
    "a number for a key": b"# @package _global_\noptimizer: {3: 4}\n",
    "a null key": b"# @package _global_\noptimizer: {null: 4}\n",
    "a list for a key": b"# @package _global_\noptimizer: {[1, 2]: 4}\n",
    "a bool for a key": b"# @package _global_\nyes: 4\n",
    "a dotted key": b"# @package _global_\noptimizer.lr: 4\n",
    "a missing value": b"# @package _global_\noptimizer: {lr: ???}\n",
    "a deep list": b"# @package _global_\noptimizer: {lr: " + b"[" * 700 + b"]" * 700 + b"}\n",
    "lists in lists": b"# @package _global_\noptimizer: {lr: " + b"[" * 150 + b"]" * 150 + b"}\n",
    "a deep mapping": b"# @package _global_\nstudy: " + b"{a: " * 150 + b"1" + b"}" * 150 + b"\n",
    "a bomb of aliases": b"# @package _global_\na: &a [x,x,x,x]\n"
    + b"".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)}]\n".encode() for i in range(4)
    ),
    "a wrong package": b"# @package nowhere.at.all\nseed: 1\n",
    "an odd package": b"# @package ..:x\nseed: 1\n",
    "a wrong hydra node": b"# @package _global_\nhydra: {nowhere: 1}\n",
    "wrong sweep": b"# @package _global_\nhydra: {sweeper: {params: {seed: [1, 2]}}}\n",
    "claims": b"# @package _global_\nstudy: {claims: ['a >', '> b', 'a > b > c', '', 'std(a']}\n",
    "claims of the wrong type": b"# @package _global_\nstudy: {claims: 3, reported: [1]}\n",
    "reported": b"# @package _global_\nstudy: {reported: {a: .nan, b: {x: 1}, 3: 4}}\n",
    "arms": b"# @package _global_\nstudy: {arms: {a: {}, b: [a, {model: custm}], c: {model: {nrm: batch}}}}\n",
    "arms of the wrong type": b"# @package _global_\nstudy: {arms: [a, b], seeds: 3}\n",
    "an arm of the wrong type": b"# @package _global_\nstudy: {arms: {a: 3, b: null, 'c d': {}}}\n",
    "arms in a circle": b"# @package _global_\nstudy: {arms: {a: [b], b: [a]}}\n",
    "an arm of an unknown arm": b"# @package _global_\nstudy: {arms: {base: {}, b: [bse]}}\n",
    "an arm of an unknown key": b"# @package _global_\nstudy: {arms: {a: {optimzer.lr: 1}}}\n",
    "an arm with defaults": b"# @package _global_\nstudy: {arms: {a: {defaults: [x]}}}\n",
    "arms and a grid": b"# @package _global_\nstudy: {arms: {a: {}}, grid: {seed: [1]}}\n",
    "a wrong grid": b"# @package _global_\nstudy: {grid: {seed: {a: 1}, '': [], nowhere: [1]}}\n",
    "arms without a package": b"study: {arms: {a: {}}}\n",
    "long lines": b"# @package _global_\nstudy: {question: " + b"x" * 100000 + b"}\n",
}


def a_key(draw: random.Random) -> tuple[list[str], str, object]:
    """Draw a setting: the words that choose its group, its key, and its shipped value."""
    if draw.random() < 0.3:
        return [], *draw.choice(TOP)
    (group, choice), pairs = draw.choice(sorted(OF_CHOICE.items()))
    key, value = draw.choice(pairs)
    return [f"{group}={choice}"], key, value


def near(draw: random.Random, value: object) -> str:
    """Draw a value of the same kind as a shipped one, mostly allowed."""
    if isinstance(value, bool):
        return draw.choice(["true", "false"])
    if isinstance(value, int):
        return str(max(0, value + draw.choice([-1, 0, 1, 2, value, 7 * value])))
    if isinstance(value, float):
        return repr(value * draw.choice([0, 0.1, 0.5, 1, 1.5, 10]))
    if isinstance(value, str):
        return draw.choice(["'" + value.replace("'", "") + "'", "auto", "none", "3ep", "7st", "relu", "batch", "x"])
    return "null" if value is None else draw.choice(["[]", "{}", "null"])


def case(number: int) -> Case:
    """Draw request `number`."""
    draw = random.Random(f"request {number}")
    kinds = [wrong_value, broken_value, plausible, bad_key, bad_word, bad_target, bad_group, several, bad_file, deleted]
    made = draw.choices(kinds, [4, 4, 3, 3, 4, 1, 1, 2, 4, 1])[0](draw)
    if draw.random() < 0.15 and not any(word.startswith("-") for word in made.words):
        made.words.insert(0, draw.choice(["-m", "--plan"]))
        made.valid = False
    return made


def wrong_value(draw: random.Random) -> Case:
    words, key, _ = a_key(draw)
    value = draw.choice(WRONG)
    prefix = draw.choice(["", "", "", "++"])
    return Case([*words, f"{prefix}{key}={value}"], blame=named(key), apart=True)


def named(key: str) -> tuple[str, ...]:
    """Return how an error may name a setting: whole, places in lists in brackets; or the list that it is a place of."""
    inner = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key)
    return (key, inner, inner.rpartition("[")[0]) if inner.endswith("]") else (key, inner)


def broken_value(draw: random.Random) -> Case:
    words, key, _ = a_key(draw)
    word = f"{draw.choice(['', '', '+', '++', '~'])}{key}={draw.choice(BROKEN)}"
    return Case([*words, word], blame=(key, key.split(".")[0]))


def plausible(draw: random.Random) -> Case:
    chosen = [f"{group}={draw.choice(CHOICES[group])}" for group in GROUPS if draw.random() < 0.3]
    chosen += [f"+{group}={draw.choice(CHOICES[group])}" for group in PLUS if draw.random() < 0.15]
    words = list(chosen)
    for _ in range(draw.randrange(3)):
        own, key, value = a_key(draw)
        if not any(word.partition("=")[0] == own[0].partition("=")[0] for word in chosen if own):
            words += [*own, f"{key}={near(draw, value)}"]
            chosen += own
    return Case(words, valid=not words)


def bad_key(draw: random.Random) -> Case:
    words, key, value = a_key(draw)
    odd = draw.choice(BAD_KEYS).replace("{k}", key).replace("{K}", key.upper())
    word = f"{draw.choice(['', '', '+', '++', '~'])}{odd}={near(draw, value)}"
    return Case([*words, word], blame=(key, key.upper(), key.split(".")[0], key.split(".")[0].upper()))


def bad_word(draw: random.Random) -> Case:
    return Case(draw.sample(WORDS, draw.choice([1, 1, 1, 2])))


def bad_target(draw: random.Random) -> Case:
    group = draw.choice(GROUPS[:-1])
    return Case([f"{group}._target_={draw.choice(TARGETS)}"], blame=(group,))


def bad_group(draw: random.Random) -> Case:
    group = draw.choice([*GROUPS, *PLUS])
    wrong = draw.choice([c for other in GROUPS if other != group for c in CHOICES[other] if c not in CHOICES[group]])
    return Case([f"{draw.choice(['', '+', '++', '~'])}{group}={wrong}"], blame=(group,))


def several(draw: random.Random) -> Case:
    parts = [draw.choice([wrong_value, broken_value, plausible, bad_key])(draw) for _ in range(draw.choice([2, 3]))]
    return Case([word for part in parts for word in part.words])


def bad_file(draw: random.Random) -> Case:
    content = FILES[draw.choice(sorted(FILES))]
    if draw.random() < 0.2:  # spoil a shipped one
        content = (CONFIGS / "model" / "custom.yaml").read_bytes()
        place = draw.randrange(len(content))
        content = content[:place] + bytes([draw.randrange(256)]) * draw.choice([1, 3]) + content[place + 1 :]
    group = draw.choice(["study", "study", "preset", "model", "optimizer", "data"])
    plus = "" if group in GROUPS else "+"
    return Case([f"{plus}{group}=mine", "--config-dir={DIR}"], {f"{group}/mine.yaml": content})


def deleted(draw: random.Random) -> Case:
    words, key, value = a_key(draw)
    return Case([*words, draw.choice([f"~{key}", f"~{key}={near(draw, value)}"])], blame=(key, key.split(".")[0]))


def shown(made: Case) -> str:
    """Say what a request is, to be seen again."""
    return textwrap.shorten(ascii(made.words), 300) + "".join(f" {n}: {c[:80]!r}" for n, c in made.files.items())
