"""What was tried and did not help: the same run in other circumstances."""

from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Numbers, Result, compare
from bench.rows_training import COMPACT
from bench.runs import prepare, train_in
from bench.trees import read_by_cnnexp, subset

CIRCUMSTANCES: dict[str, tuple[dict[str, str], list[str]]] = {  # name: (environment, overrides)
    "as it is": ({}, []),
    "threads bound to cores": ({"OMP_PROC_BIND": "true"}, []),
    "threads that spin long": ({"GOMP_SPINCOUNT": "1000000000"}, []),
    "huge pages for the heap": ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, []),
    "freed memory given back": ({}, ["device.keep_memory=false"]),
    "channels first": ({}, ["device.channels_last=false"]),
    "compiled by torch": ({}, ["device.compile=true"]),
    "one slot of two threads, two runs": ({}, ["-m", "slots=cpu:1"]),
    "two slots of one thread, two runs": ({}, ["-m", "slots=cpu:2"]),
}


def tried(lab: Lab) -> Result:
    """Train the compact network in each circumstance, in fp32."""
    tree = subset(lab, "imagenette", lab.pick(2000, 300), lab.pick(500, 50))
    overrides = [*read_by_cnnexp(tree, 64), *COMPACT, f"epochs={lab.trained(2)}ep", "device.precision=fp32"]
    prepare(lab, overrides)
    cases = [case(lab, name, *words, overrides) for name, words in CIRCUMSTANCES.items()]
    return compare(cases, lab.repeated(3), [], tell)


def case(lab: Lab, name: str, more: dict[str, str], words: list[str], overrides: list[str]) -> Case:
    """Return a case: one run, or two of a sweep, with a changed environment."""
    everything = [*words, *overrides, "seed=0,1" if "-m" in words else "seed=0"]

    def run(repeat: int) -> Numbers:
        outputs = lab.fresh()
        cold = {"TORCHINDUCTOR_CACHE_DIR": str(outputs / "torch")}  # so that it compiles each time
        try:
            made = train_in(lab, everything, outputs, environment={**cold, **more})
        finally:
            lab.drop(outputs)
        rates = [info["result"]["images_per_second"] for info in made.records]
        numbers = {"wall_seconds": made.seconds, "images_per_second": sum(rates) / len(rates)}
        compiling = [info["seconds"]["compile"] for info in made.records if "compile" in info["seconds"]]
        return numbers | ({"compile_seconds": sum(compiling)} if compiling else {})

    settings = " ".join(f"{key}={value}" for key, value in more.items())
    return Case(name, f"{settings} {lab.readable([*CNNEXP, 'train', *everything])}".strip(), run)
